//! Uncompressed archives, read by position.
//!
//! Job: keep an archive in a file without a name for as long as its entries are wanted in another order than they come in,
//! layers only after both their digests are right. What is a plain archive on disk is used where it lies. Leaves out what entries
//! mean. Oldest kernel: any supported one; a file system without `O_TMPFILE` gets a name for a moment.

use crate::blobs::{Extent, FileSource};
use crate::error::Attempt;
use crate::store::{Store, unique};
use crate::tar::TarReader;
use crate::unpack::{Format, Inflate, pipeline};
use crate::{Error, Layer, Limits, Result, files};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, SFlag, fstat};
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// An archive that can be read again and again.
#[derive(Debug)]
pub(crate) struct Spool(Arc<File>);

impl Spool {
    /// A file in the store that nobody else can find.
    fn empty(store: &Store) -> Result<File> {
        let failed = || store.failed("write");
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC;
        match openat(store.root(), ".", flags | OFlag::O_TMPFILE, mode) {
            Err(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::EINVAL) => {
                let directory = store.make_directory("ingest")?;
                let name = unique("spool-");
                let file = openat(&directory, name.as_str(), flags | OFlag::O_CREAT | OFlag::O_EXCL, mode);
                let file = file.attempt(failed)?;
                files::unlink(&directory, name.as_bytes()).attempt(failed)?;
                Ok(File::from(file))
            }
            other => Ok(File::from(other.attempt(failed)?)),
        }
    }

    /// A verified layer.
    pub(crate) fn of_layer(store: &Store, layer: &Layer, blob: Extent, limits: &Limits) -> Result<Self> {
        refuse_unknown(layer)?;
        let mut file = Self::empty(store)?;
        let failed = || store.failed("write");
        let file = pipeline::run(layer, blob, limits, move |mut input, _| {
            io::copy(&mut input, &mut file).map_err(|error| Error::io("cannot copy it", error))?;
            Ok(file)
        })?;
        (&file).flush().attempt(failed)?;
        Ok(Self(Arc::new(file)))
    }

    /// An archive on disk, decompressed if it is compressed.
    pub(crate) fn of_archive(store: &Store, path: &Path, limits: &Limits) -> Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let file = open(path, flags, Mode::empty()).attempt(|| "cannot open the archive")?;
        let stat = fstat(&file).attempt(|| "cannot open the archive")?;
        if files::file_type(&stat) != SFlag::S_IFREG {
            return Err(Error::format("not a regular file"));
        }
        let file = File::from(file);
        let mut start = [0; 4];
        let count = file.read_at(&mut start, 0).attempt(|| "cannot read the archive")?;
        let format = Format::of(&start[..count]);
        if format == Format::Plain {
            return Ok(Self(Arc::new(file)));
        }
        let mut output = Self::empty(store)?;
        let mut input = Inflate::new(format, BufReader::with_capacity(256 << 10, file))?.take(limits.layer_bytes + 1);
        let copied = io::copy(&mut input, &mut output).map_err(|error| Error::io("cannot decompress", error))?;
        if copied > limits.layer_bytes {
            return Err(Error::limit(format!("more than {} bytes uncompressed", limits.layer_bytes)));
        }
        Ok(Self(Arc::new(output)))
    }

    /// Hands a reader of the entries over, with the file that offsets are of.
    pub(crate) fn entries<T>(
        &self,
        limits: &Limits,
        read: impl FnOnce(TarReader<'_, FileSource<'_>>, &Arc<File>) -> Result<T>,
    ) -> Result<T> {
        // Another reader may share the file's own position, but none is at work now.
        io::Seek::rewind(&mut &*self.0).attempt(|| "cannot read the archive")?;
        read(TarReader::new(FileSource::new(&self.0)?, limits), &self.0)
    }
}

/// Refuses a layer of which nobody here knows what it is.
pub(crate) fn refuse_unknown(layer: &Layer) -> Result<()> {
    if crate::document::kind(layer.media_type()) == crate::document::Kind::Layer {
        return Ok(());
    }
    Err(Error::unsupported(format!("layer {}: type {:?} cannot be read", layer.digest(), layer.media_type())))
}
