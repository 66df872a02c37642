//! A further program in a running container.

use std::borrow::Cow;
use std::ops::Deref;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use keelbox_cgroups::Group;
use keelbox_image_spec::Unpacked;
use keelbox_launch::{Step, list};
use keelbox_namespaces::NamespaceSet;
use oci_spec::runtime as oci;

use crate::builder::{Settings, captured, inherited};
use crate::check;
use crate::control_group::cannot;
use crate::entrance::{Entrance, Further};
use crate::error::{Error, ErrorKind, Result};
use crate::exit::ExitStatus;
use crate::further::Further as Member;
use crate::handover::Agent;
use crate::host::Host;
use crate::labels::Labels;
use crate::output::{Output, collect};
use crate::plan::{Common, Filter, Streams};
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
    pub(crate) common: Common,
    pub(crate) filter: Option<Filter>,
    pub(crate) host: Host,
    /// The layers that it runs from, which stay in their store as long as this lives.
    pub(crate) _image: Option<Arc<Unpacked>>,
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
///
/// ```no_run
/// use keelbox::{Container, Stdio};
/// # let web = keelbox::open("web-1")?;
/// let log = std::fs::File::create("/var/log/backup")?;
/// let backup = web.exec(["backup", "--all"]).user("backup").umask(0o077).stdout(log).detached().spawn()?;
/// println!("process {}", backup.id());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "nothing is executed until it is spawned, or asked for its status or output"]
pub struct Exec<'p> {
    /// Why there is none is told when the program is to start.
    site: Result<Site<'p>>,
    process: oci::Process,
    user: Option<String>,
    groups: Option<Vec<u32>>,
    capabilities: u64,
    stdio: [Option<Stdio>; 3],
    descriptors: Vec<Stdio>,
    terminal: Option<Terminal>,
    console_socket: Option<PathBuf>,
    pidfd_socket: Option<PathBuf>,
    /// The file that is executed, where the first argument does not name it.
    file: Option<PathBuf>,
    time_limit: Option<Duration>,
    cgroup: Option<PathBuf>,
    detached: bool,
    ignores_pause: bool,
    finds_home: bool,
}

impl Settings for Exec<'_> {
    fn described(&mut self) -> &mut oci::Process {
        &mut self.process
    }

    fn refuse(&mut self, why: String) {
        self.fail(Error::new(ErrorKind::Invalid, why));
    }
}

impl<'p> Exec<'p> {
    pub(crate) fn new(site: Result<Site<'p>>, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let mut process = site.as_ref().map_or_else(|_| oci::Process::default(), |site| site.inside.process.clone());
        process.set_args(Some(args.into_iter().map(Into::into).collect()));
        Self::of(site, process)
    }

    /// A program as OCI describes one. What it leaves open is as in the container.
    pub(crate) fn oci(site: Result<Site<'p>>, process: oci::Process) -> Self {
        let terminal = crate::bundle::terminal(&process);
        let process = match &site {
            Ok(site) => completed(process, &site.inside.process),
            Err(_) => process,
        };
        Self { terminal, ..Self::of(site, process) }
    }

    fn of(site: Result<Site<'p>>, process: oci::Process) -> Self {
        Self {
            site,
            process,
            user: None,
            groups: None,
            capabilities: 0,
            stdio: [None, None, None],
            descriptors: Vec::new(),
            terminal: None,
            console_socket: None,
            pidfd_socket: None,
            file: None,
            time_limit: None,
            cgroup: None,
            detached: false,
            ignores_pause: false,
            finds_home: false,
        }
    }

    /// The first thing that is wrong is told when the program is to start.
    fn fail(&mut self, error: Error) {
        if self.site.is_ok() {
            self.site = Err(error);
        }
    }

    /// One more variable of the environment. Default: the container's.
    pub fn env(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        match check::variable(name.as_ref()) {
            Ok(()) => crate::plan::set_variable(&mut self.process, name.as_ref(), value.as_ref()),
            Err(error) => self.fail(error),
        }
        self
    }

    /// The working directory. Default: the container's.
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.process.set_cwd(directory.into());
        self
    }

    /// Who it runs as, as in [`Container::user`](crate::Container::user). Default: as the container's program.
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Supplementary groups, beside those that a named [`user`](Self::user) has. Default: with a user none, or else the container's.
    pub fn additional_gids(mut self, groups: impl IntoIterator<Item = u32>) -> Self {
        self.groups = Some(groups.into_iter().collect());
        self
    }

    /// A capability, with or without `CAP_`, beside those of the container's program. The program has it whoever it runs as.
    pub fn capability(mut self, name: &str) -> Self {
        match crate::capabilities::named(name) {
            Some(capability) => self.capabilities |= crate::capabilities::mask(&Some([capability].into())),
            None => self.refuse(format!("there is no capability {name:?}")),
        }
        self
    }

    /// Forbids the program to gain privileges by executing set-user-ID files. Default: as for the container's program.
    pub fn no_new_privileges(mut self) -> Self {
        self.process.set_no_new_privileges(Some(true));
        self
    }

    stream_setters!(exec => exec.stdio, "inherited; for [`output`](Self::output), `/dev/null` and captured.");

    /// A descriptor that the program gets, after those given before: the first is number 3. Default: none but 0, 1 and 2.
    pub fn descriptor(mut self, descriptor: impl Into<Stdio>) -> Self {
        self.descriptors.push(descriptor.into());
        self
    }

    /// Gives the program a terminal of this size. Default: none.
    pub fn terminal(mut self, terminal: Terminal) -> Self {
        self.terminal = Some(terminal);
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

    /// The control group that it runs in: one that exists below the container's, such as `/worker`. Default: the container's.
    pub fn cgroup(mut self, path: impl Into<PathBuf>) -> Self {
        self.cgroup = Some(path.into());
        self
    }

    /// Lets the program go on when its handle is dropped or this program ends. Default: it ends with either.
    ///
    /// [`Process::id`] tells its number. It is reaped by whoever waits for it or for the container.
    pub fn detached(mut self) -> Self {
        self.detached = true;
        self
    }

    /// Starts the program in a paused container too; that waits until the container is resumed. Default: an error.
    pub fn ignore_paused(mut self) -> Self {
        self.ignores_pause = true;
        self
    }

    /// Sets `HOME`, unless it is set, to what the container's `/etc/passwd` says of the user, or to `/`. Another
    /// [user](Self::user) than the container's does not have the home of that. Default: only a user who is given has one, unless
    /// the container has.
    pub fn home_from_passwd(mut self) -> Self {
        self.finds_home = true;
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
        let Self { site, mut process, user, groups, terminal, time_limit, .. } = self;
        let (console, pidfd) = (self.console_socket.as_deref(), self.pidfd_socket.as_deref());
        let site = site?;
        if user.is_some() || groups.is_some() {
            process.user_mut().set_additional_gids(groups);
        }
        check::console(console, terminal)?;
        check::program(&process, &site.inside.common)?;
        if !self.ignores_pause {
            awake(&site)?;
        }
        home(&site, self.finds_home, user.as_deref(), &mut process)?;
        crate::capabilities::add(&mut process, self.capabilities);
        let labels = Labels::of(&process)?;
        let entrance = Entrance::of(&site, self.cgroup.as_deref())?;
        let streams = Streams::of(&stdio, self.descriptors.len());
        let further = Further { site: &site, process: &process, terminal, streams, detached: self.detached, labels };
        let mut plan = further.plan(&entrance)?;
        if let (Some(file), Some(Step::Exec { paths, .. })) = (&self.file, plan.steps.last_mut()) {
            *paths = list([file]);
        }
        let opened = entrance.into_descriptors();
        let inside = site.inside.into_owned();
        let mut process = start(Start {
            plan: &plan,
            stdio,
            descriptors: &self.descriptors,
            trees: &opened,
            group: None,
            time_limit,
            decider: site.agent.as_ref().map_or(Decider::Nobody, Decider::Agent),
            sockets: Sockets { console, pidfd },
            detached: self.detached,
            inside,
        })?;
        let further = Member::of(site.pid, &process.life.pidfd, self.detached);
        process.life.further = Some(further.map_err(|error| Error::os("cannot duplicate a pidfd", error))?);
        Ok(process)
    }
}

/// What `given` leaves open is as in the container: no capability, privilege or freedom comes from saying nothing.
fn completed(mut given: oci::Process, own: &oci::Process) -> oci::Process {
    let named = |label: &Option<String>| label.as_ref().is_some_and(|label| !label.is_empty());
    if given.capabilities().is_none() {
        given.set_capabilities(own.capabilities().clone());
    }
    if given.rlimits().as_ref().is_none_or(Vec::is_empty) {
        given.set_rlimits(own.rlimits().clone());
    }
    given.set_no_new_privileges(given.no_new_privileges().or(own.no_new_privileges()));
    given.set_oom_score_adj(given.oom_score_adj().or(own.oom_score_adj()));
    if !named(given.apparmor_profile()) {
        given.set_apparmor_profile(own.apparmor_profile().clone());
    }
    if !named(given.selinux_label()) {
        given.set_selinux_label(own.selinux_label().clone());
    }
    if given.io_priority().is_none() {
        given.set_io_priority(*own.io_priority());
    }
    if given.scheduler().is_none() {
        given.set_scheduler(own.scheduler().clone());
    }
    if given.exec_cpu_affinity().is_none() {
        given.set_exec_cpu_affinity(own.exec_cpu_affinity().clone());
    }
    if given.user().umask().is_none() {
        given.user_mut().set_umask(own.user().umask());
    }
    given
}

/// Who runs the program, and what is home for him.
fn home(site: &Site<'_>, finds_home: bool, user: Option<&str>, process: &mut oci::Process) -> Result<()> {
    let root = PathBuf::from(format!("/proc/{}/root", site.pid));
    match user {
        Some(user) => crate::user::resolve_in(&root, user, finds_home, process)?,
        None if finds_home => crate::user::go_home(&root, process),
        None => {}
    }
    Ok(())
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
