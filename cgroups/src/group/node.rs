//! A group's directory in one hierarchy: making it, opening it, and removing it again.
//!
//! Leaves out: limits. Oldest kernel: 5.10.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::base;
use super::create::Existing;
use super::processes_below;
use super::wait::value;
use crate::controller::{Controller, Version};
use crate::directory::{Directory, Visit, unless_gone};
use crate::error::{Error, ErrorKind, Result};
use crate::hierarchy::Mount;

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) version: Version,
    pub(crate) controllers: Vec<Controller>,
    pub(crate) directory: Directory,
    /// Where `names` start.
    base: Directory,
    names: Vec<String>,
    /// How many of the last names did not exist before.
    made: usize,
    /// Whether the group itself was there before, and so stays.
    pub(super) adopted: bool,
}

impl Node {
    /// Makes the last of `names`, and those before it that are missing. Leaves nothing behind on failure.
    pub(crate) fn make(mount: &Mount, base: Directory, names: &[String], existing: Existing) -> Result<Self> {
        let mut chain = Chain { reached: 0, made: 0 };
        let made = chain.make(&base, names, existing).and_then(|directory| {
            if existing == Existing::Adopted {
                refuse_occupied(&directory)?;
            }
            Ok(directory)
        });
        match made {
            Ok(directory) => {
                let adopted = chain.made == 0;
                Ok(Self { adopted, ..Self::new(mount, directory, base, names, chain.made) })
            }
            Err(error) => {
                undo(&base, &names[..chain.reached], chain.made);
                Err(error)
            }
        }
    }

    pub(crate) fn open(mount: &Mount, base: Directory, names: &[String]) -> Result<Self> {
        let directory = base.descend(names)?;
        Ok(Self::new(mount, directory, base, names, 0))
    }

    /// For a hierarchy joined late: another value for the same group may have joined it before.
    pub(crate) fn make_or_open(mount: &Mount, base: Directory, names: &[String]) -> Result<Self> {
        let again = base.again();
        match Self::make(mount, base, names, Existing::Refused) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Self::open(mount, again, names),
            result => result,
        }
    }

    fn new(mount: &Mount, directory: Directory, base: Directory, names: &[String], made: usize) -> Self {
        let (version, controllers) = (mount.version, mount.controllers.clone());
        Self { version, controllers, directory, base, names: names.to_vec(), made, adopted: false }
    }

    /// The directories that were made for the group, the lowest first.
    pub(crate) fn made(&self) -> Vec<PathBuf> {
        self.directory.path().ancestors().take(self.made).map(Path::to_owned).collect()
    }

    /// Takes over what another value has made: this very directory, and those above it.
    pub(super) fn claim(&mut self, made: &[PathBuf]) {
        let ours = |directory: &&Path| made.iter().any(|made| made == directory);
        self.made = self.directory.path().ancestors().take(self.names.len()).take_while(ours).count();
        self.adopted = self.made == 0;
    }

    /// The directories from the base down to the parent of the group.
    pub(crate) fn levels(&self) -> Result<Vec<Directory>> {
        let mut levels = vec![self.base.again()];
        for name in &self.names[..self.names.len() - 1] {
            let next = levels.last().map(|level| level.child(name)).transpose()?;
            levels.extend(next);
        }
        Ok(levels)
    }

    pub(crate) fn add(&self, pid: u32) -> Result<()> {
        self.directory.write("cgroup.procs", &pid.to_string()).map_err(|error| match error.errno() {
            Some(nix::libc::ESRCH) => error.of_kind(ErrorKind::NotFound),
            _ => error,
        })
    }

    pub(crate) fn processes(&self) -> Result<Vec<u32>> {
        unless_gone(processes_below(&self.directory)).map(Option::unwrap_or_default)
    }

    /// Removes the group with all empty groups below, then the directories above that were made for it and are empty.
    pub(crate) fn remove(&self) -> Result<()> {
        let (last, above) =
            self.names.split_last().ok_or_else(|| Error::new(ErrorKind::InvalidPath, "cannot remove a root"))?;
        let Some(parent) = unless_gone(self.base.descend(above))? else {
            return Ok(());
        };
        match unless_gone(parent.child(last))? {
            Some(found) if found.is_same(&self.directory) && self.adopted => empty_tree(&found)?,
            Some(found) if found.is_same(&self.directory) => remove_tree(&parent, last, &found)?,
            // Gone already, or another group of the same name that is not ours to remove.
            _ => {}
        }
        undo(&self.base, above, self.made.saturating_sub(1));
        Ok(())
    }
}

pub(super) fn remove_tree(parent: &Directory, name: impl AsRef<OsStr>, group: &Directory) -> Result<()> {
    empty_tree(group)?;
    unless_gone(parent.remove(name)).map(drop)
}

/// Removes the groups below `group`.
fn empty_tree(group: &Directory) -> Result<()> {
    let walked = group.walk(&mut |visit| match visit {
        Visit::Leave { parent, name } => unless_gone(parent.remove(name)).map(drop),
        Visit::Enter(_) => Ok(()),
    });
    unless_gone(walked).map(drop)
}

/// A group that somebody else uses, or in which nothing would run, is not for a container. One below a frozen group is frozen too.
fn refuse_occupied(directory: &Directory) -> Result<()> {
    let refuse = |why: String| {
        let message = format!("cannot use group {}: {why}", directory.path().display());
        Err(Error::new(ErrorKind::Busy, message))
    };
    let processes = processes_below(directory)?;
    if let Some(first) = processes.first() {
        return refuse(format!("process {first} is in it, and {} more", processes.len() - 1));
    }
    let unified = directory.text("cgroup.events").is_some_and(|text| value(&text, "frozen") == Some(1));
    let legacy = directory.text("freezer.state").is_some_and(|state| state.trim() != "THAWED");
    if unified || legacy { refuse("it is frozen".to_owned()) } else { Ok(()) }
}

/// How far a path has been made.
struct Chain {
    /// So many of the names exist.
    reached: usize,
    /// So many of the last of those are ours.
    made: usize,
}

impl Chain {
    fn make(&mut self, base: &Directory, names: &[String], existing: Existing) -> Result<Directory> {
        let mut here = base.again();
        for (index, name) in names.iter().enumerate() {
            let is_last = index + 1 == names.len();
            let may_exist = !is_last || existing == Existing::Adopted;
            match here.make(name) {
                Ok(()) => self.made += 1,
                Err(error) if error.kind() == ErrorKind::AlreadyExists && may_exist => self.made = 0,
                Err(error) => return Err(error),
            }
            self.reached = index + 1;
            let next = here.child(name)?;
            base::prepare(&here, &next)?;
            here = next;
        }
        Ok(here)
    }
}

/// Removes the last `made` of `names`, best effort: others may have put groups into them.
fn undo(base: &Directory, names: &[String], made: usize) {
    for length in (names.len().saturating_sub(made)..names.len()).rev() {
        let removed = base.descend(&names[..length]).and_then(|parent| parent.remove(&names[length]));
        if removed.is_err() {
            return;
        }
    }
}
