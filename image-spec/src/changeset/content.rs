//! The content of a file that goes into a layer, wherever it lies.
//!
//! Job: bytes in memory, a stretch of an archive, or a file on disk that is opened when it is written and must then be the
//! file that was found. Every file on disk is opened by walking from an open directory, one component at a time, through no
//! symbolic link. Leaves out the rest of the file. Oldest kernel: any supported one.

use crate::error::Attempt;
use crate::files::{self, file_type};
use crate::tar::Sparse;
use crate::{Error, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

/// Files of this many bytes are searched for long stretches of zeros.
const SPARSE_FROM: u64 = 1 << 20;
/// Zeros are looked for in pieces of this many bytes: what file systems have as blocks.
const BLOCK: usize = 4096;
/// So many bytes of zeros become a hole. By content and not by where the disk has holes, which copies of a file differ in.
const HOLE: u64 = 64 << 10;
/// A file of more pieces is written whole: readers bound the map of a sparse file.
const MOST_REGIONS: usize = 1 << 15;

/// A directory on disk that files are taken from.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) directory: OwnedFd,
    /// For messages.
    pub(crate) path: PathBuf,
}

impl Place {
    /// Opens a directory below, and through no symbolic link.
    pub(crate) fn enter(&self, components: &[Vec<u8>]) -> Result<OwnedFd, Errno> {
        let mut at = files::open_directory(&self.directory, b".")?;
        for name in components {
            at = files::open_directory(&at, name)?;
        }
        Ok(at)
    }

    /// A path below, for messages.
    pub(crate) fn shown(&self, components: &[Vec<u8>]) -> String {
        let below = components.join(&b'/');
        format!("{}/{}", self.path.display(), String::from_utf8_lossy(&below))
    }
}

/// What tells that a file is still the one that was found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
    pub(crate) size: u64,
    mtime: (i64, i64),
}

impl Identity {
    pub(crate) fn of(stat: &FileStat) -> Self {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        Self { device: stat.st_dev, inode: stat.st_ino, size, mtime: (stat.st_mtime, stat.st_mtime_nsec) }
    }

    pub(crate) fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

/// The content of a file.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Bytes(Arc<[u8]>),
    /// In an archive. Without a map, `size` bytes from `offset` on.
    Stretch {
        file: Arc<File>,
        offset: u64,
        size: u64,
        sparse: Option<Arc<Sparse>>,
    },
    Disk {
        place: Arc<Place>,
        components: Vec<Vec<u8>>,
        identity: Identity,
    },
    /// In an archive of which only the headers are of interest.
    Unread,
}

/// An opened content.
pub(crate) struct Opened {
    /// Bytes of the file, holes included.
    pub(crate) size: u64,
    /// Where there is data, if it is not everywhere.
    pub(crate) regions: Option<Vec<(u64, u64)>>,
    source: Source,
    shown: String,
}

enum Source {
    Bytes(Arc<[u8]>),
    /// Data in one piece, whatever the regions say.
    Packed(Arc<File>, u64),
    /// The file itself, by position.
    File(File),
}

impl Content {
    pub(crate) fn open(&self) -> Result<Opened> {
        match self {
            Self::Bytes(bytes) => Ok(Opened {
                size: bytes.len() as u64,
                regions: None,
                source: Source::Bytes(Arc::clone(bytes)),
                shown: "content from memory".into(),
            }),
            Self::Stretch { file, offset, size, sparse } => Ok(Opened {
                size: sparse.as_ref().map_or(*size, |sparse| sparse.size),
                regions: sparse.as_ref().map(|sparse| sparse.regions.clone()),
                source: Source::Packed(Arc::clone(file), *offset),
                shown: "archive".into(),
            }),
            Self::Disk { place, components, identity } => {
                let file = open_found(place, components, identity)?;
                let shown = place.shown(components);
                let regions = if identity.size >= SPARSE_FROM { regions(&file, identity.size, &shown)? } else { None };
                Ok(Opened { size: identity.size, regions, source: Source::File(file), shown })
            }
            Self::Unread => Err(Error::unsupported("the content of this file was not read")),
        }
    }
}

/// Opens a file on disk and refuses another one than was found.
pub(crate) fn open_found(place: &Place, components: &[Vec<u8>], identity: &Identity) -> Result<File> {
    let failed = || format!("cannot read {}", place.shown(components));
    let Some((name, parents)) = components.split_last() else { return Err(Error::format(failed())) };
    let parent = place.enter(parents).attempt(failed)?;
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = openat(&parent, name.as_slice(), flags, Mode::empty()).attempt(failed)?;
    let stat = fstat(&file).attempt(failed)?;
    if file_type(&stat) != SFlag::S_IFREG || Identity::of(&stat) != *identity {
        return Err(changed(&place.shown(components)));
    }
    Ok(File::from(file))
}

fn changed(shown: &str) -> Error {
    Error::format(format!("{shown} changed while it was read"))
}

impl Opened {
    /// Bytes of data, holes left out.
    pub(crate) fn stored(&self) -> u64 {
        self.regions.as_ref().map_or(self.size, |regions| regions.iter().map(|(_, length)| length).sum())
    }

    /// Hands the data over, holes left out.
    pub(crate) fn copy(&self, write: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let whole = [(0, self.size)];
        match &self.source {
            Source::Bytes(bytes) => write(bytes),
            Source::Packed(file, offset) => self.stretch(file, *offset, self.stored(), write),
            Source::File(file) => {
                for (offset, length) in self.regions.as_deref().unwrap_or(&whole) {
                    self.stretch(file, *offset, *length, write)?;
                }
                Ok(())
            }
        }
    }

    fn stretch(
        &self,
        file: &File,
        mut offset: u64,
        mut length: u64,
        write: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut buffer = vec![0; usize::try_from(length).unwrap_or(usize::MAX).clamp(1, 256 << 10)];
        while length > 0 {
            let most = usize::try_from(length).unwrap_or(usize::MAX).min(buffer.len());
            let count = file.read_at(&mut buffer[..most], offset).attempt(|| format!("cannot read {}", self.shown))?;
            if count == 0 {
                return Err(changed(&self.shown));
            }
            write(&buffer[..count])?;
            (offset, length) = (offset + count as u64, length - count as u64);
        }
        Ok(())
    }
}

/// Where a file has data, if it has long stretches of zeros.
fn regions(file: &File, size: u64, shown: &str) -> Result<Option<Vec<(u64, u64)>>> {
    let mut buffer = vec![0; 256 << 10];
    let (mut regions, mut offset, mut zeros): (Vec<(u64, u64)>, u64, u64) = (Vec::new(), 0, 0);
    while offset < size {
        let count = fill(file, &mut buffer, offset).attempt(|| format!("cannot read {shown}"))?;
        if count == 0 {
            return Err(changed(shown));
        }
        for block in buffer[..count].chunks(BLOCK) {
            let length = block.len() as u64;
            if block.iter().all(|byte| *byte == 0) {
                zeros += length;
            } else {
                match regions.last_mut() {
                    Some((start, extent)) if zeros < HOLE => *extent = offset + length - *start,
                    None if zeros < HOLE => regions.push((0, offset + length)),
                    _ => regions.push((offset, length)),
                }
                zeros = 0;
            }
            offset += length;
        }
    }
    if let Some((start, extent)) = regions.last_mut().filter(|_| zeros < HOLE) {
        *extent = size - *start;
    }
    let stored: u64 = regions.iter().map(|(_, length)| length).sum();
    Ok((stored < size && regions.len() <= MOST_REGIONS).then_some(regions))
}

/// Reads until the buffer is full or the file ends, so that blocks are always whole.
fn fill(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn holes_are_found_by_content_and_short_ones_are_none() {
        let directory = tempfile::tempdir().expect("directory");
        let at = directory.path().join("file");
        let with = |parts: &[(usize, u8)]| {
            let mut file = File::create(&at).expect("file");
            for (length, byte) in parts {
                file.write_all(&vec![*byte; *length]).expect("write");
            }
            let size = parts.iter().map(|(length, _)| *length as u64).sum();
            regions(&File::open(&at).expect("open"), size, "x").expect("read")
        };
        let (short, long) = (60 << 10, 128 << 10);
        assert_eq!(with(&[(4096, 1), (long, 0), (10, 1)]), Some(vec![(0, 4096), (4096 + long as u64, 10)]));
        assert_eq!(with(&[(4096, 1), (short, 0), (10, 1)]), None);
        assert_eq!(with(&[(long, 0), (1, 1)]), Some(vec![(long as u64, 1)]));
        assert_eq!(with(&[(1, 1), (long, 0)]), Some(vec![(0, 4096)]));
        assert_eq!(with(&[(long, 0)]), Some(vec![]));
        assert_eq!(with(&[(1, 1), (short, 0)]), None);
    }
}
