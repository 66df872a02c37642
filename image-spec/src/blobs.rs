//! Where an image's blobs lie: a layout directory, or a tar archive read in place.
//!
//! Job: give a reader for a named file of either, verified reads for small documents, and nothing that blocks: what is not
//! a regular file is refused without waiting on it. Archives are indexed in one pass over their headers and never
//! unpacked. Symbolic links in a layout directory are followed, since build systems link blobs into layouts and every
//! blob is checked against its digest. Leaves out writing.

use crate::document::{Descriptor, base64};
use crate::error::Attempt;
use crate::tar::{EntryKind, Source, TarReader};
use crate::{Digest, Error, ErrorKind, Limits, Result, digest};
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, SFlag, fstat};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A stretch of a file, read by position so that several readers can share it.
#[derive(Clone, Debug)]
pub(crate) struct Extent {
    file: Arc<File>,
    offset: u64,
    remaining: u64,
    /// The file is still being written.
    #[cfg(feature = "registry")]
    arrival: Option<crate::arrivals::Arrival>,
}

impl Extent {
    fn new(file: Arc<File>, offset: u64, remaining: u64) -> Self {
        Self {
            file,
            offset,
            remaining,
            #[cfg(feature = "registry")]
            arrival: None,
        }
    }

    /// A blob of `size` bytes that is on its way into `file`.
    #[cfg(feature = "registry")]
    pub(crate) fn arriving(file: Arc<File>, size: u64, arrival: crate::arrivals::Arrival) -> Self {
        Self { arrival: Some(arrival), ..Self::new(file, 0, size) }
    }

    /// Bytes not yet read.
    pub(crate) fn len(&self) -> u64 {
        self.remaining
    }

    /// The same without its first `count` bytes.
    #[cfg(feature = "registry")]
    pub(crate) fn after(mut self, count: u64) -> Self {
        let count = count.min(self.remaining);
        self.offset += count;
        self.remaining -= count;
        self
    }
}

impl Read for Extent {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(buffer.len());
        #[cfg(feature = "registry")]
        let most = match &self.arrival {
            Some(arrival) if most > 0 => {
                let there = arrival.wait(self.offset)? - self.offset;
                usize::try_from(there).unwrap_or(usize::MAX).min(most)
            }
            _ => most,
        };
        let count = self.file.read_at(&mut buffer[..most], self.offset)?;
        self.offset += count as u64;
        self.remaining -= count as u64;
        Ok(count)
    }
}

/// The files of a layout or an archive.
#[derive(Debug)]
pub(crate) enum Blobs {
    Directory { path: PathBuf, directory: OwnedFd },
    Archive { path: PathBuf, file: Arc<File>, index: HashMap<Vec<u8>, Member> },
}

/// What an archive has under a name.
#[derive(Debug)]
pub(crate) enum Member {
    File {
        offset: u64,
        size: u64,
    },
    /// Another name in the same archive.
    Link(Vec<u8>),
    /// Several entries of one name: readers differ about which counts.
    Repeated,
}

impl Blobs {
    pub(crate) fn open_directory(path: &Path) -> Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = open(path, flags, Mode::empty()).attempt(|| format!("cannot open {}", path.display()))?;
        Ok(Self::Directory { path: path.into(), directory })
    }

    pub(crate) fn open_archive(path: &Path, limits: &Limits) -> Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let opened = open(path, flags, Mode::empty()).attempt(|| format!("cannot open {}", path.display()))?;
        let file = regular(opened, &path.display().to_string())?;
        let in_archive = |error: Error| error.within(path.display());
        refuse_compressed(&file).map_err(in_archive)?;
        let index = index(&file, limits).map_err(in_archive)?;
        Ok(Self::Archive { path: path.into(), file: Arc::new(file), index })
    }

    /// The directory or archive, for messages.
    pub(crate) fn path(&self) -> &Path {
        let (Self::Directory { path, .. } | Self::Archive { path, .. }) = self;
        path
    }

    /// The file `name`, a path relative to the top.
    pub(crate) fn extent(&self, name: &str) -> Result<Extent> {
        let shown = || format!("{name} in {}", self.path().display());
        match self {
            Self::Directory { directory, .. } => {
                // O_NONBLOCK: opening a FIFO must not wait for its writer.
                let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
                let opened =
                    openat(directory, name, flags, Mode::empty()).attempt(|| format!("cannot open {}", shown()))?;
                let file = regular(opened, &shown())?;
                let size = file.metadata().attempt(|| format!("cannot stat {}", shown()))?.len();
                Ok(Extent::new(Arc::new(file), 0, size))
            }
            Self::Archive { file, index, .. } => {
                let mut key = name.as_bytes();
                for _ in 0..8 {
                    match index.get(key) {
                        None => return Err(Error::not_found(format!("there is no {}", shown()))),
                        Some(Member::Repeated) => {
                            return Err(Error::format(format!("{} is there more than once", shown())));
                        }
                        Some(Member::Link(target)) => key = target,
                        Some(Member::File { offset, size }) => {
                            return Ok(Extent::new(Arc::clone(file), *offset, *size));
                        }
                    }
                }
                Err(Error::format(format!("{} is a loop of links", shown())))
            }
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.extent(name).is_ok()
    }

    /// Reads a file that is known only by name, of at most `limit` bytes.
    pub(crate) fn document(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        read(self.extent(name)?, limit, &format!("{name} in {}", self.path().display()))
    }

    /// Reads what `descriptor` refers to, of at most `limit` bytes: size first, then digest. `role` names it in errors.
    pub(crate) fn verified(&self, descriptor: &Descriptor, limit: u64, role: &str) -> Result<Arc<[u8]>> {
        let expected = descriptor.digest()?;
        let what = format!("{role} {expected} in {}", self.path().display());
        if descriptor.size > limit {
            return Err(Error::limit(format!("{what} has {} bytes, more than {limit}", descriptor.size)));
        }
        let content = match &descriptor.data {
            Some(data) => base64(data, &what)?,
            None => {
                let extent = self.extent(&blob_name(&expected))?;
                check_size(extent.len(), descriptor.size, &what)?;
                read(extent, limit, &what)?
            }
        };
        check_size(content.len() as u64, descriptor.size, &what)?;
        digest::verify(&content, &expected, &what)?;
        Ok(content.into())
    }
}

/// Where a layout keeps a blob. A `Digest` cannot hold a slash or dots.
pub(crate) fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

/// Hands content over to a writer, piece by piece.
pub(crate) type Give<'g> = dyn FnMut(&mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> + 'g;

/// Hands everything that a reader has over. `what` names it in errors.
pub(crate) fn give(mut from: impl Read, what: &str, write: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match from.read(&mut buffer).map_err(|error| Error::io(format!("cannot read {what}"), error))? {
            0 => return Ok(()),
            count => write(&buffer[..count])?,
        }
    }
}

pub(crate) fn check_size(found: u64, expected: u64, what: &str) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::new(ErrorKind::SizeMismatch, format!("{what} should have {expected} bytes but has {found}")))
}

fn regular(opened: OwnedFd, what: &str) -> Result<File> {
    let stat = fstat(&opened).attempt(|| format!("cannot stat {what}"))?;
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err(Error::format(format!("{what} is not a regular file")));
    }
    Ok(File::from(opened))
}

fn read(extent: Extent, limit: u64, what: &str) -> Result<Vec<u8>> {
    if extent.len() > limit {
        return Err(Error::limit(format!("{what} has {} bytes, more than {limit}", extent.len())));
    }
    let mut content = Vec::new();
    let mut extent = extent.take(limit);
    extent.read_to_end(&mut content).attempt(|| format!("cannot read {what}"))?;
    Ok(content)
}

fn refuse_compressed(file: &File) -> Result<()> {
    let mut magic = [0; 4];
    let count = file.read_at(&mut magic, 0).attempt(|| "cannot read the archive")?;
    match &magic[..count] {
        [0x1f, 0x8b, ..] => {
            Err(Error::unsupported("a gzip-compressed archive cannot be read in place; decompress it first"))
        }
        [0x28, 0xb5, 0x2f, 0xfd] => {
            Err(Error::unsupported("a zstd-compressed archive cannot be read in place; decompress it first"))
        }
        _ => Ok(()),
    }
}

/// Reads the headers of an archive and notes where each file lies.
fn index(file: &File, limits: &Limits) -> Result<HashMap<Vec<u8>, Member>> {
    let mut tar = TarReader::new(FileSource::new(file)?, limits);
    let mut index: HashMap<Vec<u8>, Member> = HashMap::new();
    while let Some(entry) = tar.next()? {
        let Some(name) = normal(b"", &entry.path) else { continue };
        let member = match entry.kind {
            EntryKind::File if entry.sparse.is_none() => Member::File { offset: entry.offset, size: entry.size },
            // `docker save` once wrote a repeated layer as a symbolic link relative to its directory.
            EntryKind::Symlink => {
                let directory = name.iter().rposition(|byte| *byte == b'/').map_or(&b""[..], |slash| &name[..slash]);
                let Some(target) = normal(directory, &entry.link) else { continue };
                Member::Link(target)
            }
            EntryKind::HardLink => {
                let Some(target) = normal(b"", &entry.link) else { continue };
                Member::Link(target)
            }
            _ => continue,
        };
        index.entry(name).and_modify(|old| *old = Member::Repeated).or_insert(member);
    }
    Ok(index)
}

/// A name inside an archive without `.` and `..`; `None` if it would lead out.
fn normal(directory: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    let directory = if name.starts_with(b"/") { &b""[..] } else { directory };
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in directory.split(|byte| *byte == b'/').chain(name.split(|byte| *byte == b'/')) {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join(&b'/'))
}

/// An archive file in which data is jumped over.
pub(crate) struct FileSource<'f> {
    reader: BufReader<&'f File>,
    position: u64,
    length: u64,
}

impl<'f> FileSource<'f> {
    /// Of a file that is at its beginning.
    pub(crate) fn new(file: &'f File) -> Result<Self> {
        let length = file.metadata().attempt(|| "cannot stat the archive")?.len();
        Ok(Self { reader: BufReader::with_capacity(16 << 10, file), position: 0, length })
    }
}

impl Read for FileSource<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl BufRead for FileSource<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.reader.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.reader.consume(count);
        self.position += count as u64;
    }
}

impl Source for FileSource<'_> {
    fn skip(&mut self, count: u64) -> io::Result<()> {
        // Seeking beyond the end would succeed and look like an archive that ends well.
        let target = self.position.checked_add(count).filter(|target| *target <= self.length);
        let target = target.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.reader.seek_relative(i64::try_from(count).map_err(|_| io::ErrorKind::UnexpectedEof)?)?;
        self.position = target;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_resolved_inside_the_archive() {
        for (directory, name, result) in [
            ("", "./a/b", Some("a/b")),
            ("", "/a//b/", Some("a/b")),
            ("x", "../y/layer.tar", Some("y/layer.tar")),
            ("x", "../../y", None),
            ("", "..", None),
            ("x", "/y", Some("y")),
            ("a/b", "./c", Some("a/b/c")),
        ] {
            assert_eq!(
                normal(directory.as_bytes(), name.as_bytes()).as_deref(),
                result.map(str::as_bytes),
                "{directory} {name}"
            );
        }
    }

    #[test]
    fn what_is_no_regular_file_is_refused_without_waiting() {
        let directory = tempfile::tempdir().expect("tempdir");
        nix::unistd::mkfifo(&directory.path().join("index.json"), Mode::S_IRWXU).expect("fifo");
        std::os::unix::fs::symlink("/dev/zero", directory.path().join("zero")).expect("link");
        let blobs = Blobs::open_directory(directory.path()).expect("directory");
        for name in ["index.json", "zero", "."] {
            assert_eq!(blobs.document(name, 10).unwrap_err().kind(), ErrorKind::Format, "{name}");
        }
        assert!(Blobs::open_archive(&directory.path().join("index.json"), &Limits::default()).is_err());
    }
}
