//! A further program in a running container.

use std::os::fd::OwnedFd;
use std::time::Duration;

use keelbox_cgroups::Group;
use keelbox_launch::{Slot, Step};
use keelbox_namespaces::NamespaceSet;
use oci_spec::runtime as oci;

use crate::builder::{captured, inherited};
use crate::control_group::{ControlGroup, cannot};
use crate::error::{Error, ErrorKind, Result};
use crate::exit::ExitStatus;
use crate::host::Host;
use crate::output::{Output, collect};
use crate::plan::{Filter, Plan, Program, Streams, first_steps, last_steps, terminal_steps};
use crate::process::Process;
use crate::start::{Start, start};
use crate::stdio::Stdio;
use crate::terminal::Terminal;

/// What a further program in a container needs to know of it.
#[derive(Clone, Debug)]
pub(crate) struct Inside {
    /// The kinds of namespaces that are not the host's.
    pub(crate) kinds: NamespaceSet,
    pub(crate) process: oci::Process,
    pub(crate) filter: Option<Filter>,
    pub(crate) host: Host,
}

/// A further program in a running container: the settings of the container's own program until told otherwise.
#[derive(Debug)]
#[must_use = "nothing is executed until it is spawned, or asked for its status or output"]
pub struct Exec<'p> {
    container: &'p Process,
    process: oci::Process,
    user: Option<String>,
    stdio: [Option<Stdio>; 3],
    terminal: Option<Terminal>,
    time_limit: Option<Duration>,
}

impl<'p> Exec<'p> {
    pub(crate) fn new(container: &'p Process, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let mut process = container.life.inside.process.clone();
        process.set_args(Some(args.into_iter().map(Into::into).collect()));
        Self { container, process, user: None, stdio: [None, None, None], terminal: None, time_limit: None }
    }

    /// One more variable of the environment. Default: the container's.
    pub fn env(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        crate::plan::set_variable(&mut self.process, name.as_ref(), value.as_ref());
        self
    }

    /// The working directory. Default: the container's.
    pub fn current_dir(mut self, directory: impl Into<std::path::PathBuf>) -> Self {
        self.process.set_cwd(directory.into());
        self
    }

    /// Who it runs as, as in [`Container::user`](crate::Container::user). Default: as the container's program.
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Standard input. Default: inherited; `/dev/null` for [`output`](Self::output).
    pub fn stdin(mut self, stream: impl Into<Stdio>) -> Self {
        self.stdio[0] = Some(stream.into());
        self
    }

    /// Standard output. Default: inherited; captured by [`output`](Self::output).
    pub fn stdout(mut self, stream: impl Into<Stdio>) -> Self {
        self.stdio[1] = Some(stream.into());
        self
    }

    /// Standard error. Default: inherited; captured by [`output`](Self::output).
    pub fn stderr(mut self, stream: impl Into<Stdio>) -> Self {
        self.stdio[2] = Some(stream.into());
        self
    }

    /// Gives the program a terminal of this size. Default: none.
    pub fn terminal(mut self, terminal: Terminal) -> Self {
        self.terminal = Some(terminal);
        self
    }

    /// How long it may run, as in [`Container::time_limit`](crate::Container::time_limit). Only this program is killed then.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = Some(limit);
        self
    }

    /// Starts the program.
    ///
    /// # Errors
    ///
    /// As [`Container::spawn`](crate::Container::spawn); [`ErrorKind::State`] if the container has ended.
    pub fn spawn(self) -> Result<Process> {
        let stdio = inherited(&self.stdio);
        self.start(stdio)
    }

    /// Runs the program and waits for its end.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn).
    pub fn status(self) -> Result<ExitStatus> {
        self.spawn()?.wait()
    }

    /// Runs the program, waits for its end and collects what it wrote.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn).
    pub fn output(self) -> Result<Output> {
        let stdio = captured(&self.stdio);
        let mut process = self.start(stdio)?;
        let (status, stdout, stderr) = collect(&mut process)?;
        Ok(Output { status, stdout, stderr, changes: None })
    }

    fn start(mut self, stdio: [Stdio; 3]) -> Result<Process> {
        let life = &self.container.life;
        if life.status.is_some() {
            return Err(Error::new(ErrorKind::State, "cannot execute in the container: it has ended"));
        }
        if let Some(user) = &self.user {
            crate::user::resolve_in(life.pid, user, &mut self.process)?;
        }
        let plan = self.plan(&Streams::of(&stdio, 0))?;
        let group = life.group.as_ref().map(ControlGroup::group);
        let mut opened = vec![pidfd(life)?];
        if let Some(group) = group {
            opened.extend(group_descriptors(group)?);
        }
        let (time_limit, inside) = (self.time_limit, life.inside.clone());
        start(Start {
            plan: &plan,
            stdio,
            descriptors: &[],
            trees: &opened,
            group: None,
            time_limit,
            supervision: None,
            detached: false,
            inside,
        })
    }

    /// The third planner: into the control group, into the namespaces, one clone more, and the program.
    fn plan(&self, streams: &Streams) -> Result<Plan> {
        let inside = &self.container.life.inside;
        let container = Slot(streams.count() as u16);
        let group = self.container.life.group.as_ref().map(ControlGroup::group);
        let legacy = group.map_or(Ok(0), |group| group.procs_files().map(|files| files.len())).map_err(cannot)?;
        let mut steps = first_steps(&self.process);
        for file in 0..legacy {
            let slot = Slot(container.0 + 1 + file as u16);
            steps.push(Step::WriteTo { file: slot, data: b"0".to_vec() });
        }
        steps.push(Step::Conceal {});
        steps.push(Step::Join { namespace: container, kinds: inside.kinds.flags() });
        let unified = group.is_some_and(|group| group.directory().is_some());
        let cgroup = if unified { Slot(container.0 + 1 + legacy as u16) } else { Slot::NONE };
        steps.push(Step::Fork { flags: 0, cgroup });
        let program = Program {
            process: &self.process,
            terminal: self.terminal,
            streams: streams.numbered(),
            filter: inside.filter.clone(),
            dies: Some(9),
            waits_for_parent: false,
        };
        steps.extend(terminal_steps(&program, 0));
        steps.extend(last_steps(&program, &inside.host)?);
        let namespaces = keelbox_namespaces::Selection::new(&inside.host.caller).plan(container);
        let namespaces = namespaces.map_err(crate::plan::namespaces_refused)?;
        Ok(Plan { namespaces, limits: keelbox_cgroups::Limits::new(), grouped: false, steps, reserve: 3 })
    }
}

fn pidfd(life: &crate::process::Life) -> Result<OwnedFd> {
    life.pidfd.try_clone().map_err(|error| Error::os("cannot duplicate the container's descriptor", error))
}

/// What a process needs to get into the group: the files of version 1, then the directory of version 2.
fn group_descriptors(group: &Group) -> Result<Vec<OwnedFd>> {
    let mut opened: Vec<OwnedFd> = group.procs_files().map_err(cannot)?.into_iter().map(Into::into).collect();
    let directory = group.directory().map(|directory| directory.try_clone_to_owned()).transpose();
    opened.extend(directory.map_err(|error| Error::os("cannot duplicate the control group's descriptor", error))?);
    Ok(opened)
}
