//! Archives are compressed into a store.
//!
//! Job: hash an uncompressed stream, compress it in pieces by several threads, and hash what comes out. Each piece is a gzip member
//! or zstd frame of its own, so the result does not depend on how many threads there are, and decompresses with everything that reads
//! concatenated members (RFC 1952 section 2.2) and frames (RFC 8878). Leaves out what is in the stream.

use crate::content::{Content, Staged};
use crate::digest::Hasher;
use crate::{Algorithm, Digest, Error, Result};
use std::collections::VecDeque;
use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// The level of gzip: what every other tool uses by default.
const GZIP_LEVEL: u32 = 6;
/// Bytes that are compressed at a time. Members of gzip know nothing of each other, which costs a tenth of a percent.
const PIECE: usize = 1 << 20;

/// How a layer is compressed.
///
/// ```
/// use keelbox_image_spec::Compression;
/// assert_eq!(Compression::default(), Compression::Gzip);
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Compression {
    /// gzip, level 6, which every tool reads. The default.
    #[default]
    Gzip,
    /// zstd, about level 1. Needs the feature `zstd`.
    Zstd,
    /// Not at all.
    None,
}

impl Compression {
    /// The media type of a layer.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
            Self::None => "application/vnd.oci.image.layer.v1.tar",
        }
    }

    fn check(self) -> Result<()> {
        if cfg!(not(feature = "zstd")) && self == Self::Zstd {
            return Err(Error::unsupported("this build has no zstd (feature `zstd`)"));
        }
        Ok(())
    }

    fn compress(self, piece: &[u8]) -> Vec<u8> {
        match self {
            Self::Gzip => {
                let level = flate2::Compression::new(GZIP_LEVEL);
                let output = Vec::with_capacity(piece.len() / 2);
                // No time, no name, and 255 for an unknown system.
                let mut encoder = flate2::GzBuilder::new().mtime(0).operating_system(255).write(output, level);
                encoder.write_all(piece).and_then(|()| encoder.finish()).expect("memory takes everything")
            }
            #[cfg(feature = "zstd")]
            Self::Zstd => ruzstd::encoding::compress_to_vec(piece, ruzstd::encoding::CompressionLevel::Fastest),
            #[cfg(not(feature = "zstd"))]
            Self::Zstd => piece.to_vec(),
            Self::None => piece.to_vec(),
        }
    }
}

/// A layer that has been written into a store.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    pub(crate) digest: Digest,
    pub(crate) diff_id: Digest,
    pub(crate) size: u64,
    pub(crate) media_type: &'static str,
}

type Job = (Vec<u8>, SyncSender<Vec<u8>>);

/// Takes an uncompressed stream.
pub(crate) struct Packer<'c> {
    compression: Compression,
    output: Staged<'c>,
    uncompressed: Hasher,
    piece: Vec<u8>,
    jobs: Option<SyncSender<Job>>,
    /// Results in the order of their pieces.
    results: VecDeque<Receiver<Vec<u8>>>,
    workers: Vec<JoinHandle<()>>,
}

impl<'c> Packer<'c> {
    pub(crate) fn new(content: &'c Content, compression: Compression) -> Result<Self> {
        compression.check()?;
        let output = content.stage()?;
        let count = thread::available_parallelism().map_or(1, std::num::NonZero::get).min(8);
        let (jobs, waiting) = sync_channel::<Job>(count);
        let waiting = Arc::new(Mutex::new(waiting));
        let mut workers = Vec::new();
        for _ in 0..if compression == Compression::None { 0 } else { count } {
            let waiting = Arc::clone(&waiting);
            workers.push(thread::spawn(move || {
                loop {
                    let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((piece, result)) = next else { return };
                    // Nobody waits for it after an error.
                    let _ = result.send(compression.compress(&piece));
                }
            }));
        }
        let uncompressed = Hasher::new(Algorithm::Sha256);
        let jobs = Some(jobs);
        Ok(Self { compression, output, uncompressed, piece: Vec::new(), jobs, results: VecDeque::new(), workers })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.uncompressed.update(bytes);
        let mut rest = bytes;
        while !rest.is_empty() {
            let count = rest.len().min(PIECE - self.piece.len());
            self.piece.extend_from_slice(&rest[..count]);
            rest = &rest[count..];
            if self.piece.len() == PIECE {
                self.send()?;
            }
        }
        Ok(())
    }

    fn send(&mut self) -> Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        if self.workers.is_empty() {
            return self.output.write(&piece);
        }
        while self.results.len() > 2 * self.workers.len() {
            self.receive()?;
        }
        let (result, receiver) = sync_channel(1);
        if let Some(jobs) = &self.jobs {
            jobs.send((piece, result)).map_err(|_| lost())?;
        }
        self.results.push_back(receiver);
        Ok(())
    }

    fn receive(&mut self) -> Result<()> {
        let Some(result) = self.results.pop_front() else { return Ok(()) };
        self.output.write(&result.recv().map_err(|_| lost())?)
    }

    /// Ends the stream and gives the blob its name.
    pub(crate) fn finish(mut self) -> Result<Packed> {
        if !self.piece.is_empty() {
            self.send()?;
        }
        while !self.results.is_empty() {
            self.receive()?;
        }
        self.jobs = None;
        for worker in std::mem::take(&mut self.workers) {
            worker.join().map_err(|_| lost())?;
        }
        let (digest, size) = self.output.commit()?;
        Ok(Packed { digest, diff_id: self.uncompressed.finish(), size, media_type: self.compression.media_type() })
    }
}

fn lost() -> Error {
    Error::new(crate::ErrorKind::Cancelled, "a thread that compresses has ended")
}
