//! A container with a name, as any program of the same user may hold it: what it is, and what may be done with it.
//!
//! Whatever the kernel can tell is asked of the kernel each time, since others may act on the container too. Oldest kernel: 5.10;
//! from 6.15 on the kernel remembers how a process ended that its parent has reaped.

use std::borrow::Cow;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use keelbox_cgroups::{Group, Limits, Stats, Watch};
use keelbox_launch::Errno;
use keelbox_launch::sys;
use keelbox_namespaces::NamespaceSet;
use keelbox_runtime_spec::{Config, State, Status};
use oci_spec::runtime as oci;

use super::hooks::{self, Scene};
use super::identity::has_ended;
use super::record::{Phase, Record};
use super::remove::Living;
use super::root::Place;
use super::snapshot::Snapshot;
use super::{barrier, end, group, remove, start};
use crate::control_group::cannot;
use crate::error::{Error, ErrorKind, Result};
use crate::exec::{Exec, Held, Inside, Site};
use crate::exit::ExitStatus;
use crate::host::Host;
use crate::plan::Common;
use crate::signal::Signal;
use crate::terminal::Tty;

/// A container with a name. Many programs may hold the same one; dropping a handle does nothing to it.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # if !std::path::Path::new("/bin/busybox").exists() { return Ok(()) }
/// # let (root, states) = (tempfile::tempdir()?, tempfile::tempdir()?);
/// # for name in ["bin", "proc", "sys", "dev"] { std::fs::create_dir(root.path().join(name))?; }
/// # std::fs::copy("/bin/busybox", root.path().join("bin/sleep"))?;
/// # let (root, states) = (root.path(), states.path());
/// use keelbox::{Container, Runtime, Signal, Status};
///
/// let runtime = Runtime::at(states);
/// let web = runtime.create(&Container::from_rootfs(root).args(["sleep", "1000"]).build()?, "web-1")?;
/// assert_eq!(web.status(), Status::Created);          // all is set up, and nothing runs
/// web.start()?;
///
/// let web = runtime.open("web-1")?;                   // in another program, later
/// assert_eq!(web.status(), Status::Running);
/// web.kill(Signal::KILL)?;
/// web.wait()?;
/// web.delete()?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Handle {
    place: Place,
    /// The container's process, once it was seen.
    process: OnceLock<Arc<OwnedFd>>,
    terminal: Option<Tty>,
    warnings: Mutex<Vec<Error>>,
}

impl Handle {
    pub(crate) fn new(place: Place, process: Option<OwnedFd>, terminal: Option<Tty>) -> Self {
        let process = process.map(|process| Arc::new(process).into()).unwrap_or_default();
        Self { place, process, terminal, warnings: Mutex::default() }
    }

    /// Opens the container in `place`, and its process if there is one.
    pub(crate) fn open(place: Place) -> Result<Self> {
        let handle = Self::new(place, None, None);
        if let Some(record) = handle.place.read()? {
            // Held from now on, so that the end can be told even if the process is reaped meanwhile.
            let _held = handle.process(&record);
        }
        Ok(handle)
    }

    /// The name it was given.
    #[must_use]
    pub fn id(&self) -> &str {
        self.place.id().as_str()
    }

    /// Where it is in its life, as the kernel tells at this moment.
    ///
    /// [`Status::Stopped`] also for one that was deleted, and for one whose creation was cut off.
    #[must_use]
    pub fn status(&self) -> Status {
        self.place.read().map_or(Status::Stopped, |record| self.status_by(record.as_ref()))
    }

    fn status_by(&self, record: Option<&Record>) -> Status {
        match record {
            Some(record) if record.phase == Phase::Creating && self.place.is_busy() => Status::Creating,
            Some(record) => self.status_under_lock(record),
            None if self.place.is_busy() => Status::Creating,
            None => Status::Stopped,
        }
    }

    /// As [`status`](Self::status), for the one who holds the lock, so that nobody else is creating the container.
    pub(crate) fn status_under_lock(&self, record: &Record) -> Status {
        let alive = self.process(record).is_some_and(|process| !has_ended(process.as_fd()));
        if record.phase == Phase::Creating || !alive {
            return Status::Stopped;
        }
        let frozen = Group::is_frozen_in(&record.group).unwrap_or(false);
        match (frozen, barrier::is_held(&self.place)) {
            (true, _) => Status::Paused,
            (false, true) => Status::Created,
            (false, false) => Status::Running,
        }
    }

    /// The number of its first process, as long as that has not ended. For showing: [`kill`](Self::kill) cannot hit another.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.pid_by(&self.place.read().ok().flatten()?)
    }

    fn pid_by(&self, record: &Record) -> Option<u32> {
        let alive = !has_ended(self.process(record)?.as_fd());
        record.process.as_ref().filter(|_| alive).map(|process| process.pid)
    }

    /// All that is to be told of it at this moment, in one look.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if it was deleted.
    pub fn snapshot(&self) -> Result<Snapshot> {
        self.place.still_there(&format!("cannot look at container {}", self.id()))?;
        let record = self.place.read()?;
        let status = self.status_by(record.as_ref());
        let pid = record.as_ref().and_then(|record| self.pid_by(record));
        let created = record.as_ref().map(Record::created);
        let bundle = record.and_then(|record| record.bundle).unwrap_or_else(|| self.place.path());
        Ok(Snapshot { id: self.id().to_owned(), status, pid, bundle, created })
    }

    /// When it was created, if that is known.
    #[must_use]
    pub fn created(&self) -> Option<SystemTime> {
        self.place.read().ok().flatten().map(|record| record.created())
    }

    /// The bundle that it was read from; without one, or if it was deleted, the directory of its state.
    #[must_use]
    pub fn bundle(&self) -> PathBuf {
        let record = self.place.read().ok().flatten();
        record.and_then(|record| record.bundle).unwrap_or_else(|| self.place.path())
    }

    /// The state as the OCI runtime specification has it (runtime.md#state), with the annotations of the configuration.
    ///
    /// The bundle is the one that the container was read from, or else the directory of its state, where its whole
    /// configuration is written down as `config.json`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if it was deleted.
    pub fn state(&self) -> Result<State> {
        self.place.still_there(&format!("cannot tell the state of container {}", self.id()))?;
        let record = self.place.read()?;
        let bundle = record.as_ref().and_then(|record| record.bundle.clone()).unwrap_or_else(|| self.place.path());
        let mut state = State::new(self.place.id().clone(), self.status_by(record.as_ref()), bundle);
        if state.status != Status::Stopped {
            let pid = record.as_ref().and_then(|record| self.pid_by(record));
            state.pid = pid.and_then(|pid| i32::try_from(pid).ok());
            // It may have ended between one look and the other.
            if state.pid.is_none() && state.status != Status::Creating {
                state.status = Status::Stopped;
            }
        }
        if let Ok(config) = self.config() {
            let annotations = config.spec().annotations().clone().unwrap_or_default();
            state.annotations = annotations.into_iter().collect();
        }
        Ok(state)
    }

    /// The host's side of its terminal, for the handle that [`create`](crate::Container::create) gave. The terminal hangs up
    /// when the last copy of this is gone, so whoever creates a container with a terminal stays, or passes it on.
    #[must_use]
    pub fn terminal(&self) -> Option<Tty> {
        self.terminal.clone()
    }

    /// What went wrong with operations on this handle without making them fail, such as a hook of
    /// [`HookPoint::Poststop`](crate::HookPoint::Poststop). Each is told once.
    #[must_use]
    pub fn warnings(&self) -> Vec<Error> {
        std::mem::take(&mut self.warnings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn warn(&self, warnings: impl IntoIterator<Item = Error>) {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).extend(warnings);
    }

    /// Lets the program run. It does when this returns.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::State`] if the container is not [`Status::Created`]: of several who start it, one succeeds;
    /// [`ErrorKind::Invalid`] if its bundle names no program. What the kernel refuses at the last steps, such as
    /// [`ErrorKind::ProgramNotFound`] for a program that is not there; the container has ended then. [`ErrorKind::Hook`] if a hook failed;
    /// the container is deleted then.
    pub fn start(&self) -> Result<()> {
        start::start(self)
    }

    /// Sends a signal to its first process.
    ///
    /// In a pid namespace of its own that process is the first one, and the kernel drops signals that it has not asked for, other
    /// than `SIGKILL` and `SIGSTOP` (pid_namespaces(7)); before its start it has asked for none. A container that is paused
    /// receives signals once it is resumed; `SIGKILL` at once.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::State`] if it has ended.
    pub fn kill(&self, signal: Signal) -> Result<()> {
        let attempt = format!("cannot send {signal} to container {}", self.id());
        let (record, status) = self.look(&attempt)?;
        let ended = || Error::new(ErrorKind::State, format!("{attempt}: it is {status}"));
        let process = self.process(&record).filter(|_| is_alive(status)).ok_or_else(ended)?;
        sys::send_signal(process.as_fd(), signal.number()).map_err(|errno| match errno {
            Errno::ESRCH => Error::new(ErrorKind::State, format!("{attempt}: it has ended")),
            errno => Error::os(attempt.clone(), errno),
        })?;
        match group::find(&record)? {
            // A frozen process of a cgroup of version 1 dies only when it is thawed.
            Some(group) if status == Status::Paused && signal == Signal::KILL => group.thaw().map_err(cannot),
            _ => Ok(()),
        }
    }

    /// Sends a signal to every process of the container, also to those that outlive its first process.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Limit`] if the container has no control group, which is what its processes are found by.
    pub fn kill_all(&self, signal: Signal) -> Result<()> {
        let attempt = format!("cannot send {signal} to all of container {}", self.id());
        let (record, _) = self.look(&attempt)?;
        end::kill_all(&self.group(&record, &attempt)?, signal, &attempt)
    }

    /// Waits until its first process has ended, whoever started it; tells how, if anybody still knows.
    ///
    /// Its parent is told by the kernel, and others are as long as it has not been reaped, and after that from Linux 6.15 on.
    /// The first to learn it writes it down.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if the container was deleted; [`ErrorKind::State`] if it is still being created.
    pub fn wait(&self) -> Result<Option<ExitStatus>> {
        end::wait(self)
    }

    /// Writes the container to disk, with the program criu: its processes with their memory, its namespaces, its open files. Unless it is to be
    /// left running it has ended then, and can be deleted; [`Runtime::restore`](crate::Runtime::restore) makes it anew.
    ///
    /// Its root file system and its volumes are not written. Nor is its control group, in which it is put when it is read again.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::State`] if it is not running; [`ErrorKind::Unsupported`] without that program, for another user than root, and for a container with
    /// a terminal; [`ErrorKind::Other`] with what the program says. The container goes on after an error.
    pub fn checkpoint(&self, how: &crate::Checkpoint) -> Result<()> {
        super::checkpoint::checkpoint(self, how)
    }

    /// Deletes a container that has ended: its directory, its control group with whatever is left in it. Hooks that fail are
    /// [`warnings`](Self::warnings).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::State`] if it has not ended; [`ErrorKind::NotFound`] if it was deleted already.
    pub fn delete(&self) -> Result<()> {
        remove::delete(self, Living::Refused)
    }

    /// Deletes the container in whatever state it is, also one whose creation was cut off by a crash. All of it is killed first.
    ///
    /// Without a control group and a pid namespace of its own, only its first process can be found.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if it was deleted already. It can be tried again after any other error.
    pub fn delete_force(&self) -> Result<()> {
        remove::delete(self, Living::Killed)
    }

    /// A further program in the container, with the container's own settings until told otherwise.
    ///
    /// It belongs to this program, and ends with it. The container is created or runs, which is found out when it is to start:
    /// [`ErrorKind::State`] if not.
    pub fn exec(&self, args: impl IntoIterator<Item = impl Into<String>>) -> Exec<'_> {
        Exec::new(self.site(), args)
    }

    /// As [`exec`](Self::exec), for a program as the OCI runtime specification describes one (`process`), for instance from a file
    /// that [`process_from_json`](keelbox_runtime_spec::process_from_json) reads.
    ///
    /// Capabilities, limits, labels, priorities, `noNewPrivileges` and `oomScoreAdj` that it leaves open are those of the container.
    pub fn exec_process(&self, process: oci::Process) -> Exec<'_> {
        Exec::oci(self.site(), process)
    }

    /// Stops every process of the container until [`resume`](Self::resume) (the cgroup freezer).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::State`] unless it is created or running; [`ErrorKind::Limit`] if it has no control group.
    pub fn pause(&self) -> Result<()> {
        let attempt = format!("cannot pause container {}", self.id());
        self.change(&attempt, &[Status::Created, Status::Running], |_, group| group.freeze().map_err(cannot))
    }

    /// Lets the container go on.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::State`] unless it is paused.
    pub fn resume(&self) -> Result<()> {
        let attempt = format!("cannot resume container {}", self.id());
        self.change(&attempt, &[Status::Paused], |_, group| group.thaw().map_err(cannot))
    }

    /// What the container uses now.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Limit`] if it has no control group.
    pub fn stats(&self) -> Result<Stats> {
        let attempt = format!("cannot read statistics of container {}", self.id());
        let (record, _) = self.look(&attempt)?;
        self.group(&record, &attempt)?.stats().map_err(cannot)
    }

    /// Changes limits. What is not set in `limits` stays.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::State`] if it has ended; [`ErrorKind::Limit`] if a limit cannot be had, or it has no control group.
    pub fn update(&self, limits: &Limits) -> Result<()> {
        let attempt = format!("cannot change limits of container {}", self.id());
        self.change(&attempt, &LIVING, |record, group| group::update(record, group, limits))
    }

    /// Changes limits and device rules to those of `linux.resources` of the OCI runtime specification, as engines send them. What is not
    /// there stays, and so does what is 0 but for limits that can be 0; a limit of kernel memory counts only where the kernel has one.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update); [`ErrorKind::Invalid`] for values that make no sense, when nothing has been changed.
    pub fn update_resources(&self, resources: &oci::LinuxResources) -> Result<()> {
        let attempt = format!("cannot change limits of container {}", self.id());
        let (limits, rules) = (crate::limits::from_oci(resources)?, crate::device_rules::from_oci(resources)?);
        self.change(&attempt, &LIVING, |record, group| {
            group::update(record, group, &limits)?;
            rules.as_ref().map_or(Ok(()), |rules| group.devices(rules)).map_err(cannot)
        })
    }

    /// The processes of the container, also those that outlive its first one, by their numbers as this program sees them, sorted.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Limit`] if it has no control group, which is what its processes are found by.
    pub fn processes(&self) -> Result<Vec<u32>> {
        let attempt = format!("cannot list the processes of container {}", self.id());
        let (record, _) = self.look(&attempt)?;
        self.group(&record, &attempt)?.processes().map_err(cannot)
    }

    /// Tells, from now on, when it runs out of memory, and what else happens to its control group.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Limit`] if it has no control group, or on cgroup v1 no limit of memory.
    pub fn watch(&self) -> Result<Watch> {
        let attempt = format!("cannot watch container {}", self.id());
        let (record, _) = self.look(&attempt)?;
        self.group(&record, &attempt)?.watch().map_err(cannot)
    }

    /// Does something to the control group, which may get further directories by it.
    fn change(&self, attempt: &str, when: &[Status], work: impl FnOnce(&Record, &Group) -> Result<()>) -> Result<()> {
        let _lock = self.place.lock(attempt)?;
        let (mut record, status) = self.look(attempt)?;
        if !when.contains(&status) {
            return Err(Error::new(ErrorKind::State, format!("{attempt}: it is {status}")));
        }
        let group = self.group(&record, attempt)?;
        let done = work(&record, &group);
        if group::remember(&mut record, &group) {
            self.place.write(&record)?;
        }
        done
    }

    fn group(&self, record: &Record, attempt: &str) -> Result<Group> {
        group::find(record)?.ok_or_else(|| Error::new(ErrorKind::Limit, format!("{attempt}: it has no control group")))
    }

    fn config(&self) -> Result<Config> {
        hooks::config(&self.place)
    }

    /// What a further program needs to know.
    pub(crate) fn site(&self) -> Result<Site<'_>> {
        let attempt = format!("cannot execute in container {}", self.id());
        let (record, status) = self.look(&attempt)?;
        let refused = || Error::new(ErrorKind::State, format!("{attempt}: it is {status}, not created or running"));
        // Whether a pause is in the way is for the further program to say.
        let process = self.process.get().filter(|_| LIVING.contains(&status)).ok_or_else(refused)?;
        let config = self.config()?.into_spec();
        let inside = Inside {
            kinds: NamespaceSet::from_flags(record.kinds),
            process: config.process().clone().unwrap_or_default(),
            common: Common::of(&config, record.callers_keyring),
            filter: record.filter(),
            host: Host::current()?,
            _image: None,
        };
        let group = group::find(&record)?.map(|group| Held::Own(Box::new(group)));
        let pid = record.process.as_ref().map_or(0, |process| process.pid);
        let agent = Scene::of(&self.place, &record)?.and_then(|scene| scene.agent(status, pid));
        Ok(Site { pidfd: process.as_fd(), pid, group, inside: Cow::Owned(inside), agent })
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// What is written down, and where the container is in its life. One whose creation was cut off has no more to it than that
    /// it can be deleted.
    pub(crate) fn look(&self, attempt: &str) -> Result<(Record, Status)> {
        self.place.still_there(attempt)?;
        match self.place.read()? {
            Some(record) if record.phase == Phase::Created => {
                let status = self.status_under_lock(&record);
                Ok((record, status))
            }
            _ => {
                Err(Error::new(ErrorKind::State, format!("{attempt}: it is not created yet, or never was to the end")))
            }
        }
    }

    /// The process that is written down, running or a zombie; nothing if it is gone.
    pub(crate) fn process(&self, record: &Record) -> Option<Arc<OwnedFd>> {
        if let Some(process) = self.process.get() {
            return Some(Arc::clone(process));
        }
        let process = Arc::new(record.process.as_ref()?.open()?);
        if record.phase == Phase::Created {
            return Some(Arc::clone(self.process.get_or_init(|| process)));
        }
        // Another process may take its place yet.
        Some(process)
    }
}

/// When there is something to change.
const LIVING: [Status; 3] = [Status::Created, Status::Running, Status::Paused];

fn is_alive(status: Status) -> bool {
    LIVING.contains(&status)
}
