//! A further program in a running container.

use std::borrow::Cow;
use std::fs::File;
use std::ops::Deref;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use keelbox_cgroups::Group;
use keelbox_launch::{Slot, Step, list};
use keelbox_namespaces::NamespaceSet;
use oci_spec::runtime as oci;

use crate::builder::{captured, inherited};
use crate::check;
use crate::control_group::cannot;
use crate::error::{Error, ErrorKind, Result};
use crate::exit::ExitStatus;
use crate::further::Further;
use crate::handover::Agent;
use crate::host::Host;
use crate::output::{Output, collect};
use crate::plan::{Filter, Plan, Program, Streams, first_steps, last_steps, terminal_steps};
use crate::process::Process;
use crate::start::{Sockets, Start, start};
use crate::stdio::{Stdio, stream_setters};
use crate::talk::Decider;
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

/// A running container as its further programs need it.
#[derive(Debug)]
pub(crate) struct Site<'p> {
    pub(crate) pidfd: BorrowedFd<'p>,
    pub(crate) pid: u32,
    pub(crate) group: Option<Held<'p>>,
    pub(crate) inside: Cow<'p, Inside>,
    /// Who decides about system calls, if another program does.
    pub(crate) agent: Option<Agent>,
}

/// A control group that somebody else holds, or that was opened for this.
#[derive(Debug)]
pub(crate) enum Held<'p> {
    Lent(&'p Group),
    Own(Box<Group>),
}

impl Deref for Held<'_> {
    type Target = Group;

    fn deref(&self) -> &Group {
        match self {
            Self::Lent(group) => group,
            Self::Own(group) => group,
        }
    }
}

/// A further program in a running container: the settings of the container's own program until told otherwise.
#[derive(Debug)]
#[must_use = "nothing is executed until it is spawned, or asked for its status or output"]
pub struct Exec<'p> {
    /// Why there is none is told when the program is to start.
    site: Result<Site<'p>>,
    process: oci::Process,
    user: Option<String>,
    stdio: [Option<Stdio>; 3],
    descriptors: Vec<Stdio>,
    terminal: Option<Terminal>,
    console_socket: Option<PathBuf>,
    pidfd_socket: Option<PathBuf>,
    /// The file that is executed, where the first argument does not name it.
    file: Option<PathBuf>,
    time_limit: Option<Duration>,
}

impl<'p> Exec<'p> {
    pub(crate) fn new(site: Result<Site<'p>>, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let mut process = site.as_ref().map_or_else(|_| oci::Process::default(), |site| site.inside.process.clone());
        process.set_args(Some(args.into_iter().map(Into::into).collect()));
        Self {
            site,
            process,
            user: None,
            stdio: [None, None, None],
            descriptors: Vec::new(),
            terminal: None,
            console_socket: None,
            pidfd_socket: None,
            file: None,
            time_limit: None,
        }
    }

    /// One more variable of the environment. Default: the container's.
    pub fn env(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        match check::variable(name.as_ref()) {
            Ok(()) => crate::plan::set_variable(&mut self.process, name.as_ref(), value.as_ref()),
            // The first thing that is wrong is told.
            Err(error) => self.site = self.site.and(Err(error)),
        }
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

    stream_setters!(exec => exec.stdio, "inherited; for [`output`](Self::output), `/dev/null` and captured.");

    /// Gives the program a terminal of this size. Default: none.
    pub fn terminal(mut self, terminal: Terminal) -> Self {
        self.terminal = Some(terminal);
        self
    }

    /// A descriptor that the program gets, as in [`Container::descriptor`](crate::Container::descriptor). Default: none.
    pub fn descriptor(mut self, descriptor: impl Into<Stdio>) -> Self {
        self.descriptors.push(descriptor.into());
        self
    }

    /// Gives the terminal to another program, as in [`Container::console_socket`](crate::Container::console_socket).
    pub fn console_socket(mut self, socket: impl Into<PathBuf>) -> Self {
        self.console_socket = Some(socket.into());
        self
    }

    /// Gives a pidfd to another program, as in [`Container::pidfd_socket`](crate::Container::pidfd_socket).
    pub fn pidfd_socket(mut self, socket: impl Into<PathBuf>) -> Self {
        self.pidfd_socket = Some(socket.into());
        self
    }

    /// As hooks are executed: this very process, by the path of its file.
    pub(crate) fn program(mut self, file: PathBuf, process: oci::Process) -> Self {
        (self.file, self.process) = (Some(file), process);
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
    /// As [`Container::spawn`](crate::Container::spawn); [`ErrorKind::State`](crate::ErrorKind::State) if the container has ended.
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

    fn start(self, stdio: [Stdio; 3]) -> Result<Process> {
        let Self { site, mut process, user, descriptors, terminal, time_limit, .. } = self;
        let (console, pidfd) = (self.console_socket.as_deref(), self.pidfd_socket.as_deref());
        let site = site?;
        check::console(console, terminal)?;
        check::program(&process)?;
        awake(&site)?;
        if let Some(user) = &user {
            crate::user::resolve_in(site.pid, user, &mut process)?;
        }
        let entrance = Entrance::of(&site)?;
        let streams = Streams::of(&stdio, descriptors.len());
        let mut plan = plan(&site, &process, terminal, &streams, &entrance)?;
        if let (Some(file), Some(Step::Exec { paths, .. })) = (&self.file, plan.steps.last_mut()) {
            *paths = list([file]);
        }
        let opened = entrance.into_descriptors();
        let inside = site.inside.into_owned();
        let mut process = start(Start {
            plan: &plan,
            stdio,
            descriptors: &descriptors,
            trees: &opened,
            group: None,
            time_limit,
            decider: site.agent.as_ref().map_or(Decider::Nobody, Decider::Agent),
            sockets: Sockets { console, pidfd },
            detached: false,
            inside,
        })?;
        let further = Further::of(site.pid, &process.life.pidfd);
        process.life.further = Some(further.map_err(|error| Error::os("cannot duplicate a pidfd", error))?);
        Ok(process)
    }
}

/// What is put into a frozen group freezes before it can be told apart from a start that takes long.
fn awake(site: &Site<'_>) -> Result<()> {
    let frozen = site.group.as_ref().map_or(Ok(false), |group| group.is_frozen()).map_err(cannot)?;
    match frozen {
        true => Err(Error::new(ErrorKind::State, "cannot execute in the container: it is paused")
            .with_hint("resume() it first")),
        false => Ok(()),
    }
}

/// The third planner: into the control group, into the namespaces, one clone more, and the program.
fn plan(
    site: &Site<'_>,
    process: &oci::Process,
    terminal: Option<Terminal>,
    streams: &Streams,
    entrance: &Entrance,
) -> Result<Plan> {
    let inside = &site.inside;
    let container = Slot(streams.count() as u16);
    let legacy = entrance.legacy.len();
    let mut steps = first_steps(process);
    for file in 0..legacy {
        let slot = Slot(container.0 + 1 + file as u16);
        steps.push(Step::WriteTo { file: slot, data: b"0".to_vec() });
    }
    steps.push(Step::Conceal {});
    steps.push(Step::Join { namespace: container, kinds: inside.kinds.flags() });
    let cgroup = if entrance.unified.is_some() { Slot(container.0 + 1 + legacy as u16) } else { Slot::NONE };
    steps.push(Step::Fork { flags: 0, cgroup });
    let program = Program {
        process,
        terminal,
        streams: streams.numbered(),
        filter: inside.filter.clone(),
        dies: Some(9),
        waits_for_parent: false,
        user_namespace: inside.kinds.contains(keelbox_namespaces::Kind::User),
    };
    steps.extend(terminal_steps(&program, 0));
    steps.extend(last_steps(&program, &inside.host)?);
    let namespaces = keelbox_namespaces::Selection::new(&inside.host.caller).plan(container);
    let namespaces = namespaces.map_err(crate::plan::namespaces_refused)?;
    Ok(Plan { namespaces, limits: keelbox_cgroups::Limits::new(), grouped: false, steps, reserve: streams.reserve() })
}

/// What a process needs to get into a container and its control group.
struct Entrance {
    container: OwnedFd,
    /// The files of version 1.
    legacy: Vec<File>,
    /// The directory of version 2.
    unified: Option<OwnedFd>,
}

impl Entrance {
    fn of(site: &Site<'_>) -> Result<Self> {
        let group = site.group.as_deref();
        let legacy = group.map_or(Ok(Vec::new()), Group::procs_files).map_err(cannot)?;
        let container = site.pidfd.try_clone_to_owned();
        let container = container.map_err(|error| Error::os("cannot duplicate the container's descriptor", error))?;
        let unified = group.and_then(Group::directory).map(|directory| directory.try_clone_to_owned()).transpose();
        let unified = unified.map_err(|error| Error::os("cannot duplicate the control group's descriptor", error))?;
        Ok(Self { container, legacy, unified })
    }

    /// In the order of the slots that the plan gives them.
    fn into_descriptors(self) -> Vec<OwnedFd> {
        let mut descriptors = vec![self.container];
        descriptors.extend(self.legacy.into_iter().map(OwnedFd::from));
        descriptors.extend(self.unified);
        descriptors
    }
}
