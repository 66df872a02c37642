//! The directory a layer is extracted into, reached by descriptor only.
//!
//! Job: from a node of the tree to an open directory, with a small cache, and creating things under one component. Nothing
//! here takes a path, and every open refuses symbolic links, so an entry cannot leave the directory whatever it is called
//! (CVE-2026-33056 and the many before it). The directory lies in the store, which only its owner can enter. Leaves out
//! metadata. Oldest kernel: any supported one.

use super::tree::{Id, ROOT, Tree};
use crate::error::Attempt;
use crate::{Error, Result, files};
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, SFlag, mkdirat, mknodat};
use nix::unistd::{linkat, symlinkat};
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Open directories kept per layer. Parents repeat, so a few suffice, and several layers are extracted at once.
const CACHED: usize = 48;

pub(super) struct Disk {
    root: Arc<OwnedFd>,
    open: HashMap<Id, (Arc<OwnedFd>, u64)>,
    clock: u64,
}

impl Disk {
    pub(super) fn new(root: OwnedFd) -> Self {
        Self { root: Arc::new(root), open: HashMap::new(), clock: 0 }
    }

    pub(super) fn root(&self) -> &Arc<OwnedFd> {
        &self.root
    }

    /// The open directory of a node that is one.
    pub(super) fn directory(&mut self, tree: &Tree, id: Id) -> Result<Arc<OwnedFd>> {
        let mut missing = Vec::new();
        let mut at = id;
        let mut directory = loop {
            if at == ROOT {
                break Arc::clone(&self.root);
            }
            self.clock += 1;
            if let Some((open, used)) = self.open.get_mut(&at) {
                *used = self.clock;
                break Arc::clone(open);
            }
            missing.push(at);
            at = tree.node(at).parent;
        };
        // From the nearest open directory down, one component at a time.
        while let Some(next) = missing.pop() {
            let opened = files::open_directory(&directory, &tree.node(next).name);
            directory = Arc::new(opened.attempt(|| format!("cannot open {}", tree.path(next).escape_ascii()))?);
            if missing.len() < CACHED {
                self.remember(next, &directory);
            }
        }
        Ok(directory)
    }

    fn remember(&mut self, id: Id, directory: &Arc<OwnedFd>) {
        if self.open.len() >= CACHED
            && let Some(oldest) = self.open.iter().min_by_key(|(_, (_, used))| *used).map(|(id, _)| *id)
        {
            self.open.remove(&oldest);
        }
        self.clock += 1;
        self.open.insert(id, (Arc::clone(directory), self.clock));
    }
}

/// A name that exists although the layer has nothing there: the file system takes two names for one.
fn explain(error: nix::errno::Errno, path: &[u8]) -> Error {
    let shown = path.escape_ascii();
    if error == nix::errno::Errno::EEXIST {
        return Error::unsupported(format!(
            "cannot create {shown}: this file system takes it for another name of the layer"
        ));
    }
    Error::os(format!("cannot create {shown}"), error)
}

pub(super) fn make_directory(parent: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<()> {
    mkdirat(parent, name, Mode::S_IRWXU).map_err(|errno| explain(errno, path))
}

pub(super) fn make_file(parent: BorrowedFd<'_>, name: &[u8], mode: u32, path: &[u8]) -> Result<OwnedFd> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::from_bits_truncate(mode & 0o777)).map_err(|errno| explain(errno, path))
}

pub(super) fn make_symlink(parent: BorrowedFd<'_>, name: &[u8], target: &[u8], path: &[u8]) -> Result<()> {
    symlinkat(target, parent, name).map_err(|errno| explain(errno, path))
}

pub(super) fn make_node(parent: BorrowedFd<'_>, name: &[u8], kind: SFlag, device: (u32, u32)) -> nix::Result<()> {
    let number = nix::libc::makedev(device.0, device.1);
    mknodat(parent, name, kind, Mode::S_IRUSR | Mode::S_IWUSR, number)
}

/// A hard link to what `from` itself is, a symbolic link included.
pub(super) fn make_link(from: (BorrowedFd<'_>, &[u8]), to: (BorrowedFd<'_>, &[u8]), path: &[u8]) -> Result<()> {
    linkat(from.0, from.1, to.0, to.1, AtFlags::empty()).map_err(|errno| explain(errno, path))
}

/// Moves a name from one directory of the layer to another where it does not exist.
pub(super) fn move_name(from: impl AsFd, to: impl AsFd, name: &[u8], path: &[u8]) -> Result<()> {
    renameat(from.as_fd(), name, to.as_fd(), name).attempt(|| format!("cannot move {}", path.escape_ascii()))
}
