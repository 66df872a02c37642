//! The command exec: a further program in a running container.
//!
//! Oldest kernel: 5.10.

use std::os::fd::AsFd;
use std::path::PathBuf;

use keelbox::crates::launch::sys;

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::forward::Forwarded;
use crate::read::{Given, text};
use crate::run::status;

/// A further program in a container.
#[derive(Debug)]
struct Further {
    id: String,
    arguments: Vec<String>,
    user: Option<String>,
    environment: Vec<(String, String)>,
    directory: Option<PathBuf>,
}

impl Further {
    fn read(mut given: Given) -> Result<Self, Failure> {
        let id = given.id()?;
        let arguments: Vec<String> =
            std::mem::take(&mut given.words).into_iter().map(text).collect::<Result<_, _>>()?;
        if arguments.is_empty() && given.value("process").is_none() {
            return Err(Failure::new("exec needs a program behind the id of the container, or --process"));
        }
        let valued = ["process", "additional-gids", "cap", "apparmor", "process-label", "pid-file", "console-socket"];
        let valued =
            valued.into_iter().chain(["pidfd-socket", "cgroup"]).map(|name| (given.value(name).is_some(), name));
        let flags = ["tty", "no-new-privs", "detach", "ignore-paused"].map(|name| (given.has(name), name));
        let preserved = given.number::<u32>("preserve-fds")?.is_some_and(|count| count > 0);
        not_yet(&valued.chain(flags).chain([(preserved, "preserve-fds")]).collect::<Vec<_>>())?;
        let environment = given.texts("env")?.into_iter().map(variable).collect::<Result<_, _>>()?;
        Ok(Self { id, arguments, user: given.text("user")?, environment, directory: given.path("cwd") })
    }
}

fn variable(given: String) -> Result<(String, String), Failure> {
    match given.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err(Failure::new(format!("the variable {given:?} has no value: give NAME=VALUE"))),
    }
}

pub(crate) fn exec(context: &Context<'_>, given: Given) -> Outcome {
    Further::read(given).and_then(|further| lived(context, further)).map_err(Failure::of_exec)
}

fn lived(context: &Context<'_>, further: Further) -> Outcome {
    let Further { id, arguments, user, environment, directory } = further;
    let handle = context.open(&id)?;
    let signals = Forwarded::hold()?;
    let mut exec = environment.iter().fold(handle.exec(arguments), |exec, (name, value)| exec.env(name, value));
    if let Some(user) = user {
        exec = exec.user(user);
    }
    if let Some(directory) = directory {
        exec = exec.current_dir(directory);
    }
    let mut process = exec.spawn()?;
    let target = process.as_fd().try_clone_to_owned();
    let target = target.map_err(|error| Failure::io("cannot duplicate a pidfd", &error))?;
    signals.pass_on(move |signal| {
        // It may have ended meanwhile.
        let _sent = sys::send_signal(target.as_fd(), signal.number());
    })?;
    Ok(status(&process.wait()?))
}

/// Refuses what is asked for and not there yet.
fn not_yet(asked: &[(bool, &str)]) -> Result<(), Failure> {
    match asked.iter().find(|(asked, _)| *asked) {
        Some((_, name)) => Err(Failure::new(format!("the option \"--{name}\" is not supported yet"))),
        None => Ok(()),
    }
}
