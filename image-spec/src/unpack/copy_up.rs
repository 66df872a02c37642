//! Files that a layer has a hard link to but only the layers below have.
//!
//! Job: copy such a file into this layer with everything it has, as overlayfs does when it is written to, so that both
//! names are one file. Leaves out deciding that there is no other way, which is `settle.rs`'s.

use super::attributes::{self, Wanted};
use super::disk;
use super::extract::Extractor;
use super::tree::{Id, Kind, Metadata, Name};
use crate::error::Attempt;
use crate::files::file_type;
use crate::tar::Time;
use crate::view::{Layers, Node};
use crate::{Error, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nix::unistd::{Whence, lseek};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};

impl Extractor<'_> {
    /// Copies the file that a chain of hard links ends at from the layers below; returns the node that now has it.
    pub(super) fn copy_up(&mut self, chain: &[Id], lower: &Layers) -> Result<Id> {
        let last = *chain.last().ok_or_else(|| Error::format("a hard link without a target"))?;
        let Kind::PendingLink(target) = &self.tree.node(last).kind else { return Ok(last) };
        let target = target.to_vec();
        let shown = || target.join(&b'/').escape_ascii().to_string();
        let missing = || Error::not_found(format!("hard link to {}, which does not exist", shown()));
        let Some((name, parents)) = target.split_last() else { return Err(missing()) };
        let directory = self.resolve(parents, b"", lower, false)?.ok_or_else(missing)?;
        let existing = self.tree.child(directory, name);
        let place = match existing.map(|existing| &self.tree.node(existing).kind) {
            None => None,
            // Where this layer deletes the old name, only the new one is there in the end.
            Some(Kind::Whiteout) => Some(last),
            Some(Kind::File | Kind::Symlink(_)) => return existing.ok_or_else(missing),
            Some(Kind::Directory(_)) => return Err(Error::format(format!("hard link to {}, a directory", shown()))),
            Some(Kind::PendingLink(_)) => {
                return Err(Error::format(format!("hard link to {}, by way of a link below", shown())));
            }
        };
        if !self.shows_below(directory) {
            return Err(missing());
        }
        let mut components = self.tree.components(directory);
        components.push(Name::clone(name));
        let found = lower.node(&components).attempt(|| "cannot look up a hard link in the layers below")?;
        let place = match place {
            Some(place) => place,
            None => self.insert(directory, name, Kind::File)?,
        };
        match found {
            Node::Missing => Err(missing()),
            Node::Directory(_) => Err(Error::format(format!("hard link to {}, a directory", shown()))),
            Node::Symlink(link) => {
                let stat = None;
                self.copy_special(place, SFlag::S_IFLNK, &link, stat)?;
                self.tree.node_mut(place).kind = Kind::Symlink(link.into());
                Ok(place)
            }
            Node::Other { parent, stat } => {
                match file_type(&stat) {
                    SFlag::S_IFREG => self.copy_file(place, parent.as_fd(), name)?,
                    other => self.copy_special(place, other, b"", Some(&stat))?,
                }
                self.tree.node_mut(place).kind = Kind::File;
                Ok(place)
            }
        }
    }

    fn copy_file(&mut self, place: Id, parent: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
        let path = self.tree.path(place);
        let failed = || format!("cannot copy {} from the layers below", path.escape_ascii());
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let source = openat(parent, name, flags, Mode::empty()).attempt(failed)?;
        let stat = fstat(&source).attempt(failed)?;
        let at = self.disk.directory(&self.tree, self.tree.node(place).parent)?;
        let mut copy = File::from(disk::make_file(at.as_fd(), &self.tree.node(place).name, 0o600, &path)?);
        let xattrs = attributes::read_xattrs(source.as_fd()).attempt(failed)?;
        let source = File::from(source);
        copy_data(&source, &mut copy, stat.st_size).attempt(failed)?;
        let mode = stat.st_mode & 0o7777;
        let own = Metadata { mode, uid: stat.st_uid, gid: stat.st_gid, ..Metadata::default() };
        let own = self.as_own(source.as_fd(), own);
        let wanted =
            Wanted { path: &path, mode: own.mode, uid: own.uid, gid: own.gid, mtime: mtime(&stat), xattrs: &xattrs };
        attributes::file(copy.as_fd(), &wanted, false, &self.manner, &mut self.notes)
    }

    /// Makes a symbolic link, FIFO or device like the one below; of a link only the target counts.
    fn copy_special(&mut self, place: Id, kind: SFlag, link: &[u8], stat: Option<&FileStat>) -> Result<()> {
        let path = self.tree.path(place);
        let name = Name::clone(&self.tree.node(place).name);
        let at = self.disk.directory(&self.tree, self.tree.node(place).parent)?;
        if kind == SFlag::S_IFLNK {
            disk::make_symlink(at.as_fd(), &name, link, &path)?;
        } else {
            let number = stat.map_or(0, |stat| stat.st_rdev);
            let device = (nix::libc::major(number), nix::libc::minor(number));
            disk::make_node(at.as_fd(), &name, kind, device)
                .attempt(|| format!("cannot create {}", path.escape_ascii()))?;
        }
        let (mode, uid, gid) = stat.map_or((0o777, 0, 0), |stat| (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid));
        let own = self.as_own(at.as_fd(), Metadata { uid, gid, ..Metadata::default() });
        let mtime = stat.map_or(Time::default(), mtime);
        let wanted = Wanted { path: &path, mode, uid: own.uid, gid: own.gid, mtime, xattrs: &[] };
        attributes::special(at.as_fd(), &name, kind == SFlag::S_IFLNK, &wanted, &self.manner, &mut self.notes)
    }
}

/// Copies what is no hole; where the file system cannot tell, all is data. The standard library lets the kernel copy, and
/// share the blocks, where it can.
fn copy_data(mut source: &File, copy: &mut File, size: i64) -> std::io::Result<()> {
    let mut at = 0;
    while at < size {
        let start = match lseek(source, at, Whence::SeekData) {
            Err(Errno::ENXIO) => break,
            Err(Errno::EINVAL) => at,
            other => other?,
        };
        let end = lseek(source, start, Whence::SeekHole).unwrap_or(size);
        source.seek(SeekFrom::Start(start as u64))?;
        copy.seek(SeekFrom::Start(start as u64))?;
        std::io::copy(&mut source.take((end - start) as u64), copy)?;
        at = end;
    }
    copy.set_len(size as u64)
}

pub(super) fn mtime(stat: &FileStat) -> Time {
    Time { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec as u32 }
}
