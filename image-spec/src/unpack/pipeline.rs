//! From a blob to a verified stream: read and hash, inflate, hash again, and the consumer, each in a thread of its own.
//!
//! Job: overlap the stages of one layer, keep the limits, and decide which of several errors is the cause. The consumer
//! works on data that is not verified yet; its result is only returned when both digests are right. Leaves out what the
//! consumer does, and running several layers at once.

use super::chunk::{Chunk, ChunkReader, Pool};
use super::confine;
use super::inflate::{Format, Inflate};
use crate::blobs::{Extent, check_size};
use crate::digest::{Hasher, expect};
use crate::{Digest, Error, Layer, Limits, Result};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// Buffers between two stages.
const DEPTH: usize = 8;
/// Output that may come out of any input before the ratio counts.
const RATIO_FREE: u64 = 64 << 20;

/// Runs `consumer` over the uncompressed layer in a thread of its own. `consumer` also learns what the blob turned out to be,
/// if that is not what its media type promises.
pub(crate) fn run<T: Send>(
    layer: &Layer,
    blob: Extent,
    limits: &Limits,
    consumer: impl FnOnce(ChunkReader, Option<&'static str>) -> Result<T> + Send,
) -> Result<T> {
    let what = format!("layer {}", layer.digest());
    check_size(blob.len(), layer.size(), &what)?;
    let pool = Pool::default();
    let mut blob = blob;
    let mut first = pool.take();
    first.fill(&mut blob).map_err(|error| Error::io(format!("cannot read {what}"), error))?;
    let format = Format::of(first.bytes());
    let promised = Format::promised(layer.media_type());
    let surprise = (format != promised).then(|| format.name());
    let first = Arc::new(first);
    thread::scope(|scope| {
        let (to_inflate, from_read) = sync_channel(DEPTH);
        let (to_hash, for_hash) = sync_channel(DEPTH);
        let (to_consumer, for_consumer) = sync_channel(DEPTH);
        let (pool, pool2) = (&pool, &pool);
        let reading = scope.spawn(move || read(first, blob, layer, pool, &to_inflate));
        let inflating = scope.spawn(move || inflate(format, from_read, limits, pool2, &to_hash, &to_consumer));
        let hashing = scope.spawn(move || hash(layer.diff_id(), &for_hash));
        let consuming = scope.spawn(move || consumer(ChunkReader::new(for_consumer), surprise));
        let joined = |stage: thread::Result<Result<T>>| stage.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // A wrong blob explains every later error, and wrong compression every error of the consumer.
        let consumed = joined(consuming.join());
        let digest = reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        expect(&digest, layer.digest(), &what)?;
        let inflated = inflating.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let diff_id = hashing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match (inflated, consumed) {
            (Err(error), _) | (Ok(true), Err(error)) => Err(error.within(&what)),
            // The inflater only stops early because the consumer did, whose error this is.
            (Ok(false), Err(error)) => Err(error.within(&what)),
            (Ok(false), Ok(_)) => Err(Error::format(format!("{what}: not read to its end"))),
            (Ok(true), Ok(result)) => {
                expect(&diff_id, layer.diff_id(), &format!("{what}, uncompressed,"))?;
                Ok(result)
            }
        }
    })
}

/// Reads and hashes the whole blob, even when nobody wants the data any more: a wrong digest is the better error.
fn read(first: Chunk, mut blob: Extent, layer: &Layer, pool: &Pool, next: &SyncSender<Chunk>) -> Result<Digest> {
    let mut hasher = Hasher::new(layer.digest().algorithm());
    let mut wanted = true;
    let mut chunk = first;
    let mut total = 0;
    while !chunk.bytes().is_empty() {
        total += chunk.bytes().len() as u64;
        wanted = wanted && next.send(Arc::clone(&chunk)).is_ok();
        hasher.update(chunk.bytes());
        let mut buffer = pool.take();
        buffer.fill(&mut blob).map_err(|error| Error::io(format!("cannot read layer {}", layer.digest()), error))?;
        chunk = Arc::new(buffer);
    }
    // A file that shrank while it was read.
    check_size(total, layer.size(), &format!("layer {}", layer.digest()))?;
    Ok(hasher.finish())
}

/// Decompresses to both receivers. False when the consumer left before the end.
fn inflate(
    format: Format,
    input: Receiver<Chunk>,
    limits: &Limits,
    pool: &Pool,
    to_hash: &SyncSender<Chunk>,
    to_consumer: &SyncSender<Chunk>,
) -> Result<bool> {
    confine::computing();
    let mut decoder = Inflate::new(format, ChunkReader::new(input))?;
    let mut total = 0u64;
    loop {
        let mut buffer = pool.take();
        let filled: io::Result<()> = buffer.fill(&mut decoder);
        filled.map_err(|error| Error::io("cannot decompress", error))?;
        if buffer.bytes().is_empty() {
            return Ok(true);
        }
        total += buffer.bytes().len() as u64;
        if total > limits.layer_bytes {
            return Err(Error::limit(format!("more than {} bytes uncompressed", limits.layer_bytes)));
        }
        if total > RATIO_FREE && total > decoder.consumed().saturating_mul(limits.ratio) {
            return Err(Error::limit(format!("more than {} bytes from each compressed one", limits.ratio)));
        }
        let chunk = Arc::new(buffer);
        let hashed = to_hash.send(Arc::clone(&chunk)).is_ok();
        if to_consumer.send(chunk).is_err() || !hashed {
            return Ok(false);
        }
    }
}

fn hash(expected: &Digest, input: &Receiver<Chunk>) -> Digest {
    confine::computing();
    let mut hasher = Hasher::new(expected.algorithm());
    while let Ok(chunk) = input.recv() {
        hasher.update(chunk.bytes());
    }
    hasher.finish()
}
