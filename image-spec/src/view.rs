//! The layers of an image as one tree, without mounting it.
//!
//! Job: look files up the way overlayfs would: top layer first, whiteouts and opaque directories honoured, directories
//! merged, symbolic links resolved inside the stack and never outside. All by descriptor, one component at a time. Leaves
//! out listing directories and writing. Oldest kernel: any supported one.

use crate::error::Attempt;
use crate::files::{self, file_type, is_whiteout};
use crate::unpack::Dialect;
use crate::unpack::tree::{MAX_LINKS, Name, split};
use crate::{Error, Result};
use keelbox_launch::sys::xattr;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::Arc;

/// The most [`Layers::read`] reads: 8 MiB.
const MAX_READ: u64 = 8 << 20;

/// Unpacked layers, seen as the one file system that overlayfs makes of them.
///
/// ```no_run
/// use keelbox_image_spec::{Image, Store};
/// let unpacked = Image::open("oci:./debian:12")?.unpack(&Store::open("/var/lib/keelbox")?)?;
/// let passwd = unpacked.view()?.read("etc/passwd")?;
/// # Ok::<(), keelbox_image_spec::Error>(())
/// ```
#[derive(Debug)]
pub struct Layers {
    /// Top first.
    stack: Vec<Arc<OwnedFd>>,
    dialect: Dialect,
}

/// One name in the stack, not followed.
#[derive(Debug)]
pub(crate) enum Node {
    Missing,
    /// The topmost of the directories that merge here.
    Directory(OwnedFd),
    Symlink(Vec<u8>),
    /// A file, FIFO, socket or device, by its directory and name.
    Other {
        parent: OwnedFd,
        stat: Box<FileStat>,
    },
}

/// The directories of several layers that merge into one, top first.
type Merged = Vec<OwnedFd>;

/// What a merged directory has under a name.
enum Child {
    Missing,
    Directories(Merged),
    Symlink(Vec<u8>),
    /// The index, in the merged directory, of the layer that has it.
    Other(usize, FileStat),
}

impl Layers {
    /// `stack` is top first.
    pub(crate) fn new(stack: Vec<Arc<OwnedFd>>, dialect: Dialect) -> Self {
        Self { stack, dialect }
    }

    /// Reads the regular file at `path`, relative or absolute, through symbolic links inside the stack.
    ///
    /// # Errors
    /// `NotFound`, `Format` for what is no regular file or behind a loop of links, `Limit` beyond 8 MiB.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Vec<u8>> {
        let path = path.as_ref();
        let shown = path.display();
        let (directory, name) = self.resolve(path)?;
        let Some(name) = name else { return Err(Error::format(format!("{shown} in the image is a directory"))) };
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let file =
            openat(&directory, &*name, flags, Mode::empty()).attempt(|| format!("cannot open {shown} in the image"))?;
        let stat = fstat(&file).attempt(|| format!("cannot stat {shown} in the image"))?;
        if file_type(&stat) != SFlag::S_IFREG {
            return Err(Error::format(format!("{shown} in the image is not a regular file")));
        }
        let mut content = Vec::new();
        let mut file = File::from(file).take(MAX_READ + 1);
        file.read_to_end(&mut content).attempt(|| format!("cannot read {shown} in the image"))?;
        if content.len() as u64 > MAX_READ {
            return Err(Error::limit(format!("{shown} in the image has more than {MAX_READ} bytes")));
        }
        Ok(content)
    }

    /// Whether `path` leads to something, through symbolic links inside the stack.
    ///
    /// # Errors
    /// `Format` for a loop of links, and what the kernel says.
    pub fn exists(&self, path: impl AsRef<Path>) -> Result<bool> {
        match self.resolve(path.as_ref()) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == crate::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Follows `path` to a file, as its directory and name, or to a directory.
    fn resolve(&self, path: &Path) -> Result<(OwnedFd, Option<Name>)> {
        let missing = || Error::not_found(format!("there is no {} in the image", path.display()));
        let failed = |errno| Error::os(format!("cannot look up {} in the image", path.display()), errno);
        let mut pending: Vec<Name> = split(path.as_os_str().as_bytes()).into_iter().rev().collect();
        let mut trail: Vec<Name> = Vec::new();
        let mut at = self.roots().map_err(failed)?;
        let mut links = 0;
        while let Some(name) = pending.pop() {
            if &*name == b".." {
                trail.pop();
                at = self.walk(&trail).map_err(failed)?.ok_or_else(missing)?;
                continue;
            }
            match self.child(&at, &name).map_err(failed)? {
                Child::Missing => return Err(missing()),
                Child::Directories(merged) => {
                    trail.push(name);
                    at = merged;
                }
                Child::Symlink(target) => {
                    links += 1;
                    if links > MAX_LINKS || pending.len() > 1 << 16 {
                        return Err(Error::format(format!("{} in the image is a loop of links", path.display())));
                    }
                    if target.starts_with(b"/") {
                        trail.clear();
                        at = self.roots().map_err(failed)?;
                    }
                    pending.extend(split(&target).into_iter().rev());
                }
                Child::Other(index, _) if pending.is_empty() => return Ok((at.swap_remove(index), Some(name))),
                Child::Other(..) => return Err(missing()),
            }
        }
        let top = at.into_iter().next().ok_or_else(missing)?;
        Ok((top, None))
    }

    /// What is at `path`, following nothing: a link on the way is a dead end.
    pub(crate) fn node(&self, path: &[Name]) -> Result<Node, Errno> {
        let Some((name, parents)) = path.split_last() else {
            return Ok(self.roots()?.into_iter().next().map_or(Node::Missing, Node::Directory));
        };
        let Some(mut parent) = self.walk(parents)? else { return Ok(Node::Missing) };
        Ok(match self.child(&parent, name)? {
            Child::Missing => Node::Missing,
            Child::Directories(merged) => merged.into_iter().next().map_or(Node::Missing, Node::Directory),
            Child::Symlink(target) => Node::Symlink(target),
            Child::Other(index, stat) => Node::Other { parent: parent.swap_remove(index), stat: Box::new(stat) },
        })
    }

    fn roots(&self) -> Result<Merged, Errno> {
        self.stack.iter().map(|layer| files::open_directory(layer, b".")).collect()
    }

    /// The merged directory at a path without links, if there is one.
    fn walk(&self, path: &[Name]) -> Result<Option<Merged>, Errno> {
        let mut at = self.roots()?;
        for name in path {
            match self.child(&at, name)? {
                Child::Directories(merged) => at = merged,
                _ => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    fn child(&self, merged: &Merged, name: &[u8]) -> Result<Child, Errno> {
        let mut directories = Merged::new();
        for (index, layer) in merged.iter().enumerate() {
            let stat = match files::stat(layer, name) {
                Ok(None) => continue,
                Err(Errno::ENAMETOOLONG | Errno::EINVAL) => return Ok(Child::Missing),
                other => match other? {
                    Some(stat) => stat,
                    None => continue,
                },
            };
            if file_type(&stat) == SFlag::S_IFDIR {
                let directory = files::open_directory(layer, name)?;
                let opaque = self.is_opaque(directory.as_fd())?;
                directories.push(directory);
                if opaque {
                    break;
                }
                continue;
            }
            // Anything that is no directory ends the search: it hides, or is hidden by, what was found above.
            if is_whiteout(&stat) || !directories.is_empty() {
                break;
            }
            if file_type(&stat) == SFlag::S_IFLNK {
                return Ok(Child::Symlink(readlinkat(layer, name)?.into_vec()));
            }
            return Ok(Child::Other(index, stat));
        }
        if directories.is_empty() { Ok(Child::Missing) } else { Ok(Child::Directories(directories)) }
    }

    fn is_opaque(&self, directory: BorrowedFd<'_>) -> Result<bool, Errno> {
        let mut value = [0];
        match xattr::fgetxattr(directory, self.dialect.opaque(), &mut value) {
            Ok(length) => Ok(value[..length] == *b"y"),
            Err(errno) => match Errno::from_raw(errno.0) {
                Errno::ENODATA | Errno::EOPNOTSUPP | Errno::ERANGE | Errno::EPERM => Ok(false),
                errno => Err(errno),
            },
        }
    }
}
