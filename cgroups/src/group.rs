//! A group: its directory in each hierarchy it takes part in.
//!
//! Leaves out: the launch of containers, which puts their processes here by itself. Oldest kernel: 5.10.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use nix::fcntl::OFlag;

use crate::controller::{Controller, Version};
use crate::directory::{Directory, Visit, unless_gone};
use crate::error::{Error, ErrorKind, Result};
use crate::hierarchy::Hierarchy;
use crate::limits::Limits;
use crate::name::Name;

pub(crate) mod apply;
pub(crate) mod base;
mod chown;
mod create;
mod delete;
mod enable;
mod freeze;
pub(crate) mod gc;
mod kill;
mod node;
mod open;
mod prospect;
pub(crate) mod wait;
pub(crate) mod watch;

pub use apply::Applied;
pub use base::{Parent, vacate};
pub use create::{Builder, Existing, Reach};
pub(crate) use node::Node;
pub use prospect::Prospect;

/// A cgroup, in as many hierarchies as it needs.
///
/// Dropping a group that [`create`](Self::create) made removes it if it is empty by then; processes in it are not touched.
/// [`keep`](Self::keep) opts out.
///
/// ```no_run
/// use keelbox_cgroups::{Group, Limits, GIB};
/// let group = Group::create("build/job-7", &Limits::new().memory(2 * GIB).cpus(1.5))?;
/// let mut child = std::process::Command::new("make").spawn().expect("make is installed");
/// group.add(child.id())?;
/// child.wait().expect("make was started above");
/// println!("{:?} of processor time", group.stats()?.cpu.usage);
/// group.kill()?;
/// group.delete()?;
/// # Ok::<(), keelbox_cgroups::Error>(())
/// ```
#[derive(Debug)]
pub struct Group {
    name: Name,
    parent: Parent,
    hierarchy: Hierarchy,
    /// v2 first. Grows when a hierarchy is joined later.
    nodes: RwLock<Vec<Arc<Node>>>,
    unified: Option<Arc<Node>>,
    applied: Applied,
    made: bool,
    gone: AtomicBool,
    locks: Vec<gc::Lock>,
}

impl Group {
    /// Makes a group below the caller's own (see [`Parent::Own`]) with these limits, which hold before any process is in it.
    ///
    /// On v1 only the hierarchies that the limits need are touched, on v2 only the needed controllers are enabled. Each
    /// limit is read back.
    ///
    /// # Errors
    /// Nothing remains of a group that could not be made. [`InvalidLimit`](ErrorKind::InvalidLimit) and [`InvalidPath`](ErrorKind::InvalidPath)
    /// before anything was touched; [`AlreadyExists`](ErrorKind::AlreadyExists); [`PermissionDenied`](ErrorKind::PermissionDenied) without root or
    /// a delegated subtree; [`InternalProcesses`](ErrorKind::InternalProcesses) (see [`vacate`]); [`Unsupported`](ErrorKind::Unsupported) and
    /// [`NotApplied`](ErrorKind::NotApplied) for a limit that cannot be had, unless [`Limits::best_effort`].
    pub fn create(path: impl AsRef<Path>, limits: &Limits) -> Result<Self> {
        Self::builder(path).limits(limits).create()
    }

    /// As [`create`](Self::create), with `-PID.STARTTIME` of the calling process added to the name, so that [`gc`](crate::gc) can tell when its owner is
    /// gone. The name that came of it is in [`path`](Self::path).
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_owned(path: impl AsRef<Path>, limits: &Limits) -> Result<Self> {
        Self::builder(path).limits(limits).owned().create()
    }

    /// Starts to make or open a group with more to say than a path and limits.
    pub fn builder(path: impl AsRef<Path>) -> Builder {
        Builder::new(path.as_ref())
    }

    /// Opens a group that exists below the caller's own, or below one of its ancestors, in every hierarchy that has it.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if no hierarchy has it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder(path).open()
    }

    /// The path asked for, relative to the parent; with the suffix of an owned group.
    pub fn path(&self) -> PathBuf {
        self.name.to_path()
    }

    /// The directory in each hierarchy, v2 first, as absolute paths; for state files. [`from_directories`](Self::from_directories) is
    /// the way back.
    pub fn directories(&self) -> Vec<PathBuf> {
        self.nodes().iter().map(|node| node.directory.path().to_owned()).collect()
    }

    /// The directories that were made for the group: its own, and those above it that were missing. Empty for an opened group.
    pub fn directories_made(&self) -> Vec<PathBuf> {
        self.nodes().iter().flat_map(|node| node.made()).collect()
    }

    /// The cgroup v2 directory, for `CLONE_INTO_CGROUP` (clone(2), Linux 5.7). `None` on a host with v1 only.
    pub fn directory(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(|node| node.directory.as_fd())
    }

    /// The `tasks` file of each v1 hierarchy, open for writing. A thread that writes `0` to each is in the group, and so are the processes it
    /// clones from then on; the rest of its process stays where it is. Empty on v2.
    ///
    /// # Errors
    /// If a file cannot be opened for writing.
    pub fn tasks_files(&self) -> Result<Vec<File>> {
        self.legacy_files("tasks")
    }

    /// The `cgroup.procs` file of each v1 hierarchy, open for writing. A process that writes `0` to each is in the group, with all its
    /// threads, for which the kernel may wait milliseconds; with one thread [`tasks_files`](Self::tasks_files) do the same at once.
    /// Empty on v2, where [`directory`](Self::directory) does it at birth.
    ///
    /// # Errors
    /// If a file cannot be opened for writing.
    pub fn procs_files(&self) -> Result<Vec<File>> {
        self.legacy_files("cgroup.procs")
    }

    /// A command of the standard library that is born in this group: its program's first instruction runs inside.
    ///
    /// See [`keelbox_launch::joined_command`] for how failures are told.
    ///
    /// ```no_run
    /// use keelbox_cgroups::{GIB, Group, Limits};
    /// let group = Group::create("build/job-7", &Limits::new().memory(2 * GIB).cpus(1.5))?;
    /// let mut child = group.command("make")?.arg("-j4").spawn()?;
    /// println!("{:?} {}", group.stats()?.cpu.usage, child.wait()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If the small program that joins the group cannot be put into memory.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        // To a lone thread that moves itself both files of version 1 mean the same, but `cgroup.procs` waits for a grace period.
        let file = |node: &Arc<Node>| match node.version {
            Version::V1 => node.directory.path().join("tasks"),
            Version::V2 => node.directory.path().join("cgroup.procs"),
        };
        let files: Vec<PathBuf> = self.nodes().iter().map(file).collect();
        let cannot = |source| Error::io(format!("cannot prepare a command in group {}", self.path().display()), source);
        keelbox_launch::joined_command(&files, program).map_err(cannot)
    }

    fn legacy_files(&self, name: &str) -> Result<Vec<File>> {
        let nodes = self.nodes();
        let legacy = nodes.iter().filter(|node| node.version == Version::V1);
        legacy.map(|node| node.directory.file(name, OFlag::O_WRONLY)).collect()
    }

    /// Moves a running process into the group, in every hierarchy.
    ///
    /// After some idleness this costs 6 to 9 ms (the kernel waits for an RCU grace period); a process that is born in the group
    /// through [`directory`](Self::directory) or [`tasks_files`](Self::tasks_files) pays nothing.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is no such process, [`PermissionDenied`](ErrorKind::PermissionDenied) if it may not be moved.
    pub fn add(&self, pid: u32) -> Result<()> {
        if pid == 0 {
            // To the kernel this would mean the calling thread.
            return Err(Error::new(ErrorKind::NotFound, "cannot add process 0 to a group: there is no such process"));
        }
        self.nodes().iter().try_for_each(|node| node.add(pid))
    }

    /// The processes in the group and in groups below it, sorted. A process of which only one thread is inside (v1) counts.
    ///
    /// # Errors
    /// If a list cannot be read.
    pub fn processes(&self) -> Result<Vec<u32>> {
        let mut all = Vec::new();
        for node in self.nodes() {
            all.extend(node.processes()?);
        }
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    /// Changes limits. What is not set in `limits` stays. A v1 hierarchy or a v2 controller that the group did without so far is
    /// joined, with all its processes.
    ///
    /// # Errors
    /// As [`create`](Self::create). Limits that were written before the one that failed stay as written.
    pub fn update(&self, limits: &Limits) -> Result<Applied> {
        apply::update(self, limits)
    }

    /// Which limits were set when the group was made, and which were skipped in best effort. Empty for an opened group.
    pub fn applied(&self) -> &Applied {
        &self.applied
    }

    /// Freezes all processes in the group, and returns when they are.
    ///
    /// v2 `cgroup.freeze` (Linux 5.2). v1: the freezer hierarchy is joined the first time, so processes born in the group later must be started
    /// through [`tasks_files`](Self::tasks_files) as it is from then on, or added.
    ///
    /// # Errors
    /// [`Busy`](ErrorKind::Busy) if the caller itself is inside; [`TimedOut`](ErrorKind::TimedOut) after 10 s, when the group is thawed again;
    /// [`Unsupported`](ErrorKind::Unsupported) without any freezer.
    pub fn freeze(&self) -> Result<()> {
        freeze::freeze(self)
    }

    /// Lets frozen processes go on.
    ///
    /// # Errors
    /// If the kernel refuses the write.
    pub fn thaw(&self) -> Result<()> {
        freeze::thaw(self)
    }

    /// Whether the processes in the group are frozen.
    ///
    /// # Errors
    /// If the state cannot be read.
    pub fn is_frozen(&self) -> Result<bool> {
        freeze::is_frozen(self)
    }

    /// As [`is_frozen`](Self::is_frozen), by the directories that [`directories`](Self::directories) told: for those who ask about hundreds of
    /// groups, as nothing is opened but the files that tell. A group that is gone is not frozen.
    ///
    /// # Errors
    /// If a state cannot be read.
    pub fn is_frozen_in<P: AsRef<Path>>(directories: impl IntoIterator<Item = P>) -> Result<bool> {
        let directories: Vec<P> = directories.into_iter().collect();
        freeze::is_frozen_in(&directories.iter().map(AsRef::as_ref).collect::<Vec<&Path>>())
    }

    /// Kills every process in the group and below, and returns when they are gone. The calling process is spared.
    ///
    /// `cgroup.kill` (v2, Linux 5.14) where there is one; or else they are frozen, killed and thawed until none is left.
    ///
    /// # Errors
    /// [`TimedOut`](ErrorKind::TimedOut) if some are still there after 10 s, [`PermissionDenied`](ErrorKind::PermissionDenied).
    pub fn kill(&self) -> Result<()> {
        kill::kill(self)
    }

    /// Waits until no process is in the group, or `timeout` has passed; says which. The calling process does not count.
    ///
    /// # Errors
    /// If the state cannot be read.
    pub fn wait_empty(&self, timeout: Duration) -> Result<bool> {
        wait::empty(self, timeout)
    }

    /// Removes the group in all hierarchies, with empty groups below, and the directories above it that were made for it and are empty now.
    /// Processes are not killed: they have 5 s to leave.
    ///
    /// # Errors
    /// [`Busy`](ErrorKind::Busy) if processes stay. All hierarchies are tried before the first error is returned.
    pub fn delete(&self) -> Result<()> {
        self.delete_within(Duration::from_secs(5))
    }

    /// As [`delete`](Self::delete), but processes have `patience` to leave instead of 5 s.
    ///
    /// # Errors
    /// As [`delete`](Self::delete).
    pub fn delete_within(&self, patience: Duration) -> Result<()> {
        delete::delete(self, patience)
    }

    /// Leaves the group where it is when this value is dropped. Default for a group that was opened.
    pub fn keep(mut self) -> Self {
        self.made = false;
        self
    }

    pub(crate) fn nodes(&self) -> Vec<Arc<Node>> {
        self.nodes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn unified(&self) -> Option<&Node> {
        self.unified.as_deref()
    }

    pub(crate) fn legacy(&self, controller: Controller) -> Option<Arc<Node>> {
        self.nodes().into_iter().find(|node| node.version == Version::V1 && node.controllers.contains(&controller))
    }

    /// Whether this machine has a v1 hierarchy of `controller`.
    pub(crate) fn has_legacy(&self, controller: Controller) -> bool {
        self.hierarchy.legacy_of(controller).is_some()
    }

    /// Where the files of `controller` are.
    pub(crate) fn node(&self, version: Version, controller: Controller) -> Option<Arc<Node>> {
        match version {
            Version::V1 => self.legacy(controller),
            Version::V2 => self.unified.clone(),
        }
    }

    /// Takes part in the v1 hierarchy of `controller` from now on. The processes are not moved yet.
    pub(crate) fn join(&self, controller: Controller) -> Result<Arc<Node>> {
        if let Some(node) = self.legacy(controller) {
            return Ok(node);
        }
        let Some(mount) = self.hierarchy.legacy_of(controller) else {
            return Err(Error::unsupported(format!("cannot use the {controller} controller: no v1 hierarchy has it")));
        };
        let base = base::find(mount, &self.parent)?;
        let node = Arc::new(Node::make_or_open(mount, base, self.name.parts())?);
        self.nodes.write().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&node));
        Ok(node)
    }

    /// Moves every process of the group into `target` too. New ones may be born while this goes on, so it ends only when a look
    /// finds nothing to move. The calling process never is: of it only a launcher thread is inside.
    pub(crate) fn gather(&self, target: &Node) -> Result<()> {
        for _ in 0..1000 {
            let inside = target.processes()?;
            let outside: Vec<u32> = self.others()?.into_iter().filter(|pid| !inside.contains(pid)).collect();
            if outside.is_empty() {
                return Ok(());
            }
            for pid in outside {
                match target.add(pid) {
                    // It ended.
                    Err(error) if error.kind() == ErrorKind::NotFound || error.errno() == Some(nix::libc::ESRCH) => {}
                    result => result?,
                }
            }
        }
        let path = target.directory.path().display();
        Err(Error::new(ErrorKind::TimedOut, format!("cannot gather all processes in {path}: new ones keep coming")))
    }

    /// The processes but the caller's.
    pub(crate) fn others(&self) -> Result<Vec<u32>> {
        let own = std::process::id();
        Ok(self.processes()?.into_iter().filter(|pid| *pid != own).collect())
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.made && !self.is_gone() {
            // Nobody is there to be told. A process that was just reaped may need a moment to leave.
            let _ = delete::delete(self, Duration::from_millis(100));
        }
    }
}

/// The processes listed in `directory` and below it. A process outside of our pid namespace is listed as 0 and cannot be named.
fn processes_below(directory: &Directory) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    directory.walk(&mut |visit| {
        if let Visit::Enter(here) = visit {
            match unless_gone(here.read("cgroup.procs")) {
                Ok(text) => found.extend(text.unwrap_or_default().lines().filter_map(pid)),
                // A threaded group shows its processes only in its domain, which is above it and so was read already.
                Err(error) if error.kind() == ErrorKind::Unsupported => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    })?;
    Ok(found)
}

fn pid(line: &str) -> Option<u32> {
    line.trim().parse().ok().filter(|pid| *pid != 0)
}
