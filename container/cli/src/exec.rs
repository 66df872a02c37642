//! The command exec: a further program in a running container.
//!
//! Oldest kernel: 5.10.

use std::fs;
use std::os::fd::AsFd;
use std::path::PathBuf;

use keelbox::crates::launch::sys;
use keelbox::crates::runtime_spec::process_from_json;
use keelbox::{Exec, Handle, Process, Terminal};

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::forward::Forwarded;
use crate::new::write_pid;
use crate::passed::Passed;
use crate::read::{Given, text};
use crate::relay::{self, Relay};
use crate::run::status;

/// A further program in a container.
#[derive(Debug)]
struct Further {
    id: String,
    given: Given,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    groups: Vec<u32>,
    passed: Passed,
    detach: bool,
    console_socket: Option<PathBuf>,
}

impl Further {
    fn read(mut given: Given) -> Result<Self, Failure> {
        let id = given.id()?;
        let arguments: Vec<String> =
            std::mem::take(&mut given.words).into_iter().map(text).collect::<Result<_, _>>()?;
        match (arguments.is_empty(), given.value("process").is_none()) {
            (true, true) => {
                return Err(Failure::new("exec needs a program behind the id of the container, or --process"));
            }
            (false, false) => {
                return Err(Failure::new("--process names a program already: nothing goes behind the id"));
            }
            _ => {}
        }
        let environment = given.texts("env")?.into_iter().map(variable).collect::<Result<_, _>>()?;
        let number = |group: String| {
            let number = group.parse();
            number.map_err(|_| Failure::new(format!("--additional-gids takes the number of a group, not {group:?}")))
        };
        let groups = given.texts("additional-gids")?.into_iter().map(number).collect::<Result<_, _>>()?;
        let (passed, console_socket) = (given.passed()?, given.path("console-socket"));
        Ok(Self { id, arguments, environment, groups, passed, detach: given.has("detach"), console_socket, given })
    }

    /// The program with all its settings; and whether it has a terminal.
    fn exec<'h>(&self, handle: &'h Handle) -> Result<(Exec<'h>, bool), Failure> {
        let given = &self.given;
        let (mut exec, mut terminal) = match given.path("process") {
            None => (handle.exec(&self.arguments), false),
            Some(file) => {
                let attempt = format!("cannot use the process of {}", file.display());
                let text = fs::read(&file).map_err(|error| Failure::io(&attempt, &error))?;
                let process = process_from_json(&text);
                let process = process.map_err(|error| Failure::new(format!("{attempt}: {}", Failure::told(&error))))?;
                let terminal = process.terminal().unwrap_or(false);
                (handle.exec_process(process), terminal)
            }
        };
        exec = self.environment.iter().fold(exec.home_from_passwd(), |exec, (name, value)| exec.env(name, value));
        exec = given.texts("cap")?.iter().fold(exec, |exec, name| exec.capability(name));
        if let Some(user) = given.text("user")? {
            exec = exec.user(user);
        }
        if !self.groups.is_empty() {
            exec = exec.additional_gids(self.groups.iter().copied());
        }
        if let Some(directory) = given.path("cwd") {
            exec = exec.current_dir(directory);
        }
        if let Some(profile) = given.text("apparmor")? {
            exec = exec.apparmor_profile(profile);
        }
        if let Some(label) = given.text("process-label")? {
            exec = exec.selinux_label(label);
        }
        if given.has("no-new-privs") {
            exec = exec.no_new_privileges();
        }
        if let Some(path) = given.path("cgroup") {
            exec = exec.cgroup(path);
        }
        if given.has("ignore-paused") {
            exec = exec.ignore_paused();
        }
        if given.has("tty") && !terminal {
            terminal = true;
            exec = exec.terminal(if self.console_socket.is_none() { relay::size() } else { Terminal::size(24, 80) });
        }
        for (name, value) in self.passed.variables() {
            exec = exec.env(name, value);
        }
        for descriptor in self.passed.descriptors() {
            exec = exec.descriptor(descriptor);
        }
        Ok((self.handed_over(exec, terminal)?, terminal))
    }

    /// Who gets the host's side of a terminal, and a descriptor of the process.
    fn handed_over<'h>(&self, mut exec: Exec<'h>, terminal: bool) -> Result<Exec<'h>, Failure> {
        match (&self.console_socket, terminal) {
            (Some(socket), true) => exec = exec.console_socket(socket),
            (Some(_), false) => {
                return Err(Failure::new("cannot honour --console-socket: the program has no terminal (--tty)"));
            }
            (None, true) if self.detach => {
                return Err(Failure::new("cannot honour --tty: nobody would hold the terminal; give --console-socket"));
            }
            (None, _) => {}
        }
        if let Some(socket) = self.given.path("pidfd-socket") {
            exec = exec.pidfd_socket(socket);
        }
        Ok(if self.detach { exec.detached() } else { exec })
    }
}

fn variable(given: String) -> Result<(String, String), Failure> {
    match given.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err(Failure::new(format!("the variable {given:?} has no value: give NAME=VALUE"))),
    }
}

pub(crate) fn exec(context: &Context<'_>, given: Given) -> Outcome {
    Further::read(given).and_then(|further| lived(context, &further)).map_err(Failure::of_exec)
}

fn lived(context: &Context<'_>, further: &Further) -> Outcome {
    let handle = context.open(&further.id)?;
    let (exec, _) = further.exec(&handle)?;
    context.log.debug(|| format!("executing in container {}", further.id));
    if further.detach {
        let mut process = exec.spawn()?;
        return told(further, &mut process).map(|()| 0);
    }
    let signals = Forwarded::hold()?;
    let mut process = exec.spawn()?;
    told(further, &mut process)?;
    let target = process.as_fd().try_clone_to_owned();
    let target = target.map_err(|error| Failure::io("cannot duplicate a pidfd", &error))?;
    let terminal = process.terminal();
    let relay = terminal.as_ref().map(Relay::begin).transpose()?;
    signals.pass_on(terminal, move |signal| {
        // It may have ended meanwhile.
        let _sent = sys::send_signal(target.as_fd(), signal.number());
    })?;
    let end = process.wait()?;
    if let Some(relay) = relay {
        relay.end();
    }
    Ok(status(&end))
}

/// The program goes on only if its number could be told.
fn told(further: &Further, process: &mut Process) -> Result<(), Failure> {
    let Some(file) = further.given.path("pid-file") else { return Ok(()) };
    write_pid(&file, process.id()).inspect_err(|_| {
        let _killed = process.kill();
    })
}
