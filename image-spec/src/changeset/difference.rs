//! What changed from one tree on disk to another.
//!
//! Job: compare two directories name by name: type, owner, mode, time, attributes, and the content where all of that is the
//! same. What is gone becomes a deletion, and all names of a file are written when one of them is. Leaves out which layers
//! the trees came from. Oldest kernel: any supported one.

use super::content::{Identity, Place, open_found};
use super::tree::{Attributes, Tree, key};
use super::walk::{Manner, Walk, attributes, read_xattrs};
use crate::error::Attempt;
use crate::files::{self, file_type};
use crate::{Error, Result};
use nix::fcntl::readlinkat;
use nix::sys::stat::{FileStat, SFlag};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

type Components = Vec<Vec<u8>>;
type Names = BTreeMap<Vec<u8>, FileStat>;

/// Puts into `tree` what makes `new` of `old`.
pub(crate) fn compare(tree: &mut Tree, old: &Arc<Place>, new: &Arc<Place>) -> Result<()> {
    let mut comparison = Comparison { old, new, changed: Vec::new(), gone: Vec::new(), linked: HashMap::new() };
    comparison.run()?;
    comparison.put(tree)
}

struct Comparison<'c> {
    old: &'c Arc<Place>,
    new: &'c Arc<Place>,
    changed: Vec<Components>,
    gone: Vec<Components>,
    /// The names in `new` of files that have several.
    linked: HashMap<(u64, u64), Vec<Components>>,
}

impl Comparison<'_> {
    fn run(&mut self) -> Result<()> {
        // With whether `old` has the directory too.
        let mut pending: Vec<(Components, bool)> = vec![(Vec::new(), true)];
        while let Some((path, both)) = pending.pop() {
            let directory = self.new.enter(&path).attempt(|| format!("cannot read {}", self.new.shown(&path)))?;
            let now = list(self.new, &directory, &path)?;
            let (before_directory, before) = if both {
                let opened = self.old.enter(&path).attempt(|| format!("cannot read {}", self.old.shown(&path)))?;
                let names = list(self.old, &opened, &path)?;
                (Some(opened), names)
            } else {
                (None, Names::new())
            };
            for name in before.keys().filter(|name| !now.contains_key(*name)) {
                self.gone.push(child(&path, name));
            }
            for (name, stat) in now {
                let below = child(&path, &name);
                if stat.st_nlink > 1 && file_type(&stat) != SFlag::S_IFDIR {
                    self.linked.entry((stat.st_dev, stat.st_ino)).or_default().push(below.clone());
                }
                let is_same = match (before.get(&name), &before_directory) {
                    (Some(old), Some(old_directory)) => {
                        self.is_same(&below, (old_directory, old), (&directory, &stat))?
                    }
                    _ => false,
                };
                if file_type(&stat) == SFlag::S_IFDIR {
                    let old_too = before.get(&name).is_some_and(|old| file_type(old) == SFlag::S_IFDIR);
                    pending.push((below.clone(), old_too));
                }
                if !is_same {
                    self.changed.push(below);
                }
            }
        }
        Ok(())
    }

    fn is_same(&self, path: &[Vec<u8>], old: (&OwnedFd, &FileStat), new: (&OwnedFd, &FileStat)) -> Result<bool> {
        let ((old_directory, old_stat), (new_directory, new_stat)) = (old, new);
        let (before, now) = (Identity::of(old_stat), Identity::of(new_stat));
        if before.is_same_file(&now) {
            return Ok(true);
        }
        let Some(name) = path.last() else { return Ok(true) };
        let failed = || format!("cannot compare {}", self.new.shown(path));
        let of = |directory: &OwnedFd, stat: &FileStat| -> Result<Attributes> {
            Ok(attributes(stat, read_xattrs(directory, name).attempt(failed)?))
        };
        let kind = file_type(new_stat);
        let alike = file_type(old_stat) == kind
            && old_stat.st_rdev == new_stat.st_rdev
            && of(old_directory, old_stat)? == of(new_directory, new_stat)?;
        if !alike {
            return Ok(false);
        }
        match kind {
            SFlag::S_IFLNK => {
                let target = |directory: &OwnedFd| readlinkat(directory, name.as_slice()).attempt(failed);
                Ok(target(old_directory)? == target(new_directory)?)
            }
            SFlag::S_IFREG if before.size != now.size => Ok(false),
            SFlag::S_IFREG => self.same_content(path, &before, &now),
            _ => Ok(true),
        }
    }

    fn same_content(&self, path: &[Vec<u8>], before: &Identity, now: &Identity) -> Result<bool> {
        let (one, other) = (open_found(self.old, path, before)?, open_found(self.new, path, now)?);
        let failed = || format!("cannot compare {}", self.new.shown(path));
        let (mut left, mut right, mut offset) = (vec![0; 128 << 10], vec![0; 128 << 10], 0);
        loop {
            let count = one.read_at(&mut left, offset).attempt(failed)?;
            if count == 0 {
                return Ok(true);
            }
            match other.read_exact_at(&mut right[..count], offset) {
                Ok(()) if left[..count] == right[..count] => offset += count as u64,
                Ok(()) => return Ok(false),
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(false),
                Err(error) => return Err(Error::io(failed(), error)),
            }
        }
    }

    /// Puts what was found into the tree, each directory that something lies in with its attributes.
    fn put(mut self, tree: &mut Tree) -> Result<()> {
        let changed: HashSet<Components> = self.changed.iter().cloned().collect();
        for names in self.linked.values().filter(|names| names.iter().any(|name| changed.contains(name))) {
            self.changed.extend(names.iter().filter(|name| !changed.contains(*name)).cloned());
        }
        let mut parents: HashSet<Components> = HashSet::new();
        for path in self.changed.iter().chain(&self.gone) {
            parents.extend((1..path.len()).map(|length| path[..length].to_vec()));
        }
        self.changed.extend(parents.into_iter().filter(|parent| !changed.contains(parent)));
        self.changed.sort_unstable();
        let mut walk = Walk {
            place: Arc::clone(self.new),
            manner: Manner::Whole,
            target: Vec::new(),
            below: None,
            pick: None,
            links: HashMap::new(),
        };
        for path in &self.changed {
            let (_, parent) = path.split_last().unwrap_or((&path[0], &[]));
            let directory = self.new.enter(parent).attempt(|| format!("cannot read {}", self.new.shown(path)))?;
            walk.entry(tree, &directory, path)?;
        }
        self.gone.iter().for_each(|path| tree.whiteout(key(path)));
        Ok(())
    }
}

fn child(path: &[Vec<u8>], name: &[u8]) -> Components {
    [path, &[name.to_vec()]].concat()
}

fn list(place: &Place, directory: &OwnedFd, path: &[Vec<u8>]) -> Result<Names> {
    let failed = || format!("cannot read {}", place.shown(path));
    let mut names = Names::new();
    for name in files::names(directory.as_fd()).attempt(failed)?.into_iter().map(CString::into_bytes) {
        if let Some(stat) = files::stat(directory, &name).attempt(failed)?
            && file_type(&stat) != SFlag::S_IFSOCK
        {
            names.insert(name, stat);
        }
    }
    Ok(names)
}
