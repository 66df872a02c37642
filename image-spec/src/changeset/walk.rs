//! A directory on disk is put into a tree.
//!
//! Job: find everything below a directory by descriptor, in the order of names, through no symbolic link; as files that are
//! copied into the image, or as the upper directory of an overlay, whose marks of either dialect become deletions. What a
//! metacopy or a redirect only refers to is refused. Contents are opened when they are written. Leaves out comparing.
//! Oldest kernel: any supported one.

use super::Pick;
use super::content::{Content, Identity, Place};
use super::tree::{Attributes, Body, Inode, Key, Tree, What, join, key};
use crate::error::Attempt;
use crate::files::{self, file_type, is_whiteout};
use crate::tar::{EntryKind, Time};
use crate::unpack::is_allowed;
use crate::unpack::tree::Xattr;
use crate::{Error, Result};
use keelbox_launch::sys::xattr;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, major, minor};
use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::Arc;

/// What a directory is taken for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Manner {
    /// Files to be copied. A directory that the image has stays as it is there.
    Files,
    /// What an overlay has on top of its lower directories.
    Upper,
    /// A whole tree, attributes of directories included.
    Whole,
}

/// Puts the content of a directory into a tree.
pub(crate) struct Walk<'w> {
    pub(crate) place: Arc<Place>,
    pub(crate) manner: Manner,
    /// Where in the tree: components that are resolved already.
    pub(crate) target: Key,
    pub(crate) below: Option<&'w Tree>,
    pub(crate) pick: Option<&'w dyn Fn(&Path) -> Pick>,
    /// Files with several names, by device and inode.
    pub(crate) links: HashMap<(u64, u64), usize>,
}

/// Opens a directory that a caller has named; links in that name are the caller's business.
pub(crate) fn open_place(path: &Path) -> Result<Arc<Place>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let directory = open(path, flags, Mode::empty()).attempt(|| format!("cannot open {}", path.display()))?;
    Ok(Arc::new(Place { directory, path: path.to_owned() }))
}

impl Walk<'_> {
    /// Walks all of it.
    pub(crate) fn run(&mut self, tree: &mut Tree) -> Result<()> {
        let mut pending: Vec<Vec<Vec<u8>>> = vec![Vec::new()];
        while let Some(components) = pending.pop() {
            let place = Arc::clone(&self.place);
            let failed = || format!("cannot read {}", place.shown(&components));
            let directory = place.enter(&components).attempt(failed)?;
            let mut names: Vec<Vec<u8>> =
                files::names(directory.as_fd()).attempt(failed)?.into_iter().map(CString::into_bytes).collect();
            names.sort_unstable();
            let mut directories = Vec::new();
            for name in names {
                let path = [&components[..], &[name]].concat();
                if self.entry(tree, &directory, &path)? {
                    directories.push(path);
                }
            }
            pending.extend(directories.into_iter().rev());
        }
        Ok(())
    }

    /// Puts one entry in; true for a directory to go into.
    pub(crate) fn entry(&mut self, tree: &mut Tree, directory: &OwnedFd, path: &[Vec<u8>]) -> Result<bool> {
        let place = Arc::clone(&self.place);
        let failed = || format!("cannot read {}", place.shown(path));
        let Some(name) = path.last() else { return Ok(false) };
        let Some(stat) = files::stat(directory, name).attempt(failed)? else {
            return Err(Error::format(format!("{} changed while it was read", place.shown(path))));
        };
        let pick = self.pick.map_or(Pick::Take, |pick| pick(Path::new(OsStr::from_bytes(&path.join(&b'/')))));
        let is_directory = file_type(&stat) == SFlag::S_IFDIR;
        match pick {
            Pick::Leave => return Ok(false),
            Pick::Look => return Ok(is_directory),
            Pick::Take => {}
        }
        let xattrs = read_xattrs(directory, name).attempt(failed)?;
        let marks = Marks::of(&xattrs, self.manner);
        if self.manner == Manner::Upper {
            if marks.metacopy || marks.redirect {
                let what = if marks.metacopy { "metacopy" } else { "redirect" };
                let shown = place.shown(path);
                return Err(Error::unsupported(format!("{shown} only refers to a lower directory ({what})")));
            }
            if is_whiteout(&stat) || (marks.whiteout && file_type(&stat) == SFlag::S_IFREG && stat.st_size == 0) {
                tree.whiteout(self.key(path));
                return Ok(false);
            }
        }
        let attributes = attributes(&stat, xattrs);
        if is_directory {
            self.directory(tree, path, attributes, marks.opaque)?;
            return Ok(true);
        }
        let place_in_tree = match self.manner {
            Manner::Files => self.resolved(tree, path)?,
            _ => self.key(path),
        };
        if let Some(inode) = self.file(tree, directory, path, &stat, attributes)? {
            tree.file(place_in_tree, inode);
        }
        Ok(false)
    }

    fn directory(&self, tree: &mut Tree, path: &[Vec<u8>], attributes: Attributes, opaque: bool) -> Result<()> {
        if self.manner != Manner::Files {
            let key = self.key(path);
            tree.describe(key.clone(), Some(attributes));
            if opaque {
                tree.opaque(&key);
            }
            return Ok(());
        }
        let components: Vec<&[u8]> = self.components(path);
        let key = tree.parent(&components, self.below)?;
        let there =
            self.below.is_some_and(|below| below.what(&key).is_some_and(|what| matches!(what, What::Directory { .. })));
        if !there && tree.directory(&key).is_none() {
            tree.describe(key, Some(attributes));
        }
        Ok(())
    }

    fn components<'c>(&'c self, path: &'c [Vec<u8>]) -> Vec<&'c [u8]> {
        let target = self.target.split(|byte| *byte == 0).filter(|part| !part.is_empty());
        target.chain(path.iter().map(Vec::as_slice)).collect()
    }

    fn key(&self, path: &[Vec<u8>]) -> Key {
        key(&self.components(path))
    }

    /// The key of a file whose directory may be reached through links of the image.
    pub(crate) fn resolved(&self, tree: &mut Tree, path: &[Vec<u8>]) -> Result<Key> {
        let components = self.components(path);
        let Some((name, parents)) = components.split_last() else { return Ok(Key::new()) };
        let parent = tree.parent(parents, self.below)?;
        Ok(join(&parent, name))
    }

    /// The inode of a file that is no directory; `None` for a socket, which nobody can restore.
    pub(crate) fn file(
        &mut self,
        tree: &mut Tree,
        directory: &OwnedFd,
        path: &[Vec<u8>],
        stat: &FileStat,
        attributes: Attributes,
    ) -> Result<Option<usize>> {
        let id = (stat.st_dev, stat.st_ino);
        if let Some(inode) = self.links.get(&id) {
            return Ok(Some(*inode));
        }
        let shown = || self.place.shown(path);
        let Some(name) = path.last() else { return Ok(None) };
        let body = match file_type(stat) {
            SFlag::S_IFREG => Body::File(Content::Disk {
                place: Arc::clone(&self.place),
                components: path.to_vec(),
                identity: Identity::of(stat),
            }),
            SFlag::S_IFLNK => {
                let target = readlinkat(directory, name.as_slice()).attempt(|| format!("cannot read {}", shown()))?;
                Body::Symlink(target.into_vec())
            }
            SFlag::S_IFSOCK => return Ok(None),
            SFlag::S_IFCHR if stat.st_rdev == 0 => {
                return Err(Error::unsupported(format!(
                    "{} is a device 0:0, which overlayfs takes for a deletion",
                    shown()
                )));
            }
            kind => {
                let kind = match kind {
                    SFlag::S_IFCHR => EntryKind::CharDevice,
                    SFlag::S_IFBLK => EntryKind::BlockDevice,
                    _ => EntryKind::Fifo,
                };
                let number = |number: u64| u32::try_from(number).unwrap_or(0);
                let device = if kind == EntryKind::Fifo { 0 } else { stat.st_rdev };
                Body::Node { kind, major: number(major(device)), minor: number(minor(device)) }
            }
        };
        let inode = tree.add_inode(Inode { attributes, body });
        if stat.st_nlink > 1 {
            self.links.insert(id, inode);
        }
        Ok(Some(inode))
    }
}

/// What overlayfs has written about a file. Both dialects count, whoever unpacked the layers.
#[derive(Default)]
struct Marks {
    opaque: bool,
    whiteout: bool,
    metacopy: bool,
    redirect: bool,
}

impl Marks {
    fn of(xattrs: &[Xattr], manner: Manner) -> Self {
        let mut marks = Self::default();
        for (name, value) in xattrs.iter().filter(|_| manner == Manner::Upper) {
            let own = name.strip_prefix(b"trusted.overlay.").or_else(|| name.strip_prefix(b"user.overlay."));
            match own {
                Some(b"opaque") => marks.opaque |= value == b"y",
                Some(b"whiteout") => marks.whiteout = true,
                Some(b"metacopy") => marks.metacopy = true,
                Some(b"redirect") => marks.redirect = true,
                _ => {}
            }
        }
        marks
    }
}

/// The attributes of a file as an image has them: times in whole seconds, as other tools write them, and of the extended
/// attributes those that unpacking restores.
pub(crate) fn attributes(stat: &FileStat, mut xattrs: Vec<Xattr>) -> Attributes {
    xattrs.retain(|(name, _)| is_allowed(name));
    for (name, value) in &mut xattrs {
        if name == b"security.capability" {
            plain_capability(value);
        }
    }
    xattrs.sort();
    Attributes {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Time { seconds: stat.st_mtime, nanoseconds: 0 },
        xattrs,
    }
}

/// File capabilities that were given inside a user namespace carry its root's id (version 3, Linux 4.14), which means nothing
/// elsewhere: they become version 2.
fn plain_capability(value: &mut Vec<u8>) {
    if value.len() == 24 && value[3] == 3 {
        value[3] = 2;
        value.truncate(20);
    }
}

/// All extended attributes of what a directory has under a name, itself when that is a symbolic link.
pub(crate) fn read_xattrs(directory: &OwnedFd, name: &[u8]) -> Result<Vec<Xattr>, Errno> {
    let failed = |errno: keelbox_launch::sys::Errno| Errno::from_raw(errno.0);
    let path = [format!("/proc/self/fd/{}/", directory.as_raw_fd()).as_bytes(), name].concat();
    let path = CString::new(path).map_err(|_| Errno::EINVAL)?;
    let mut names = vec![0; 1024];
    let length = loop {
        match xattr::llistxattr(&path, &mut names).map_err(failed) {
            Err(Errno::ERANGE) => names.resize(64 << 10, 0),
            Err(Errno::EOPNOTSUPP) => return Ok(Vec::new()),
            other => break other?,
        }
    };
    let mut xattrs = Vec::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let key = CString::new(name).map_err(|_| Errno::EINVAL)?;
        let mut value = vec![0; 64 << 10];
        match xattr::lgetxattr(&path, &key, &mut value).map_err(failed) {
            Ok(length) => value.truncate(length),
            // Some are listed but not everybody's to read, and none of those goes into an image.
            Err(Errno::ENODATA | Errno::EOPNOTSUPP | Errno::EPERM | Errno::EACCES) => continue,
            Err(errno) => return Err(errno),
        }
        xattrs.push((name.to_vec(), value));
    }
    Ok(xattrs)
}
