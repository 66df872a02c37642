//! Buffers that travel between the stages of a pipeline and come back.
//!
//! Job: 256 KiB buffers, shared by reference count, handed back to a pool when the last stage drops them; and a reader
//! over a channel of them. Leaves out what the stages do.

use crate::tar::Source;
use std::io::{self, BufRead, Read};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};

const SIZE: usize = 256 << 10;

/// Where buffers wait to be used again.
#[derive(Clone, Debug, Default)]
pub(super) struct Pool(Arc<Mutex<Vec<Vec<u8>>>>);

impl Pool {
    /// A buffer of full size whose content is whatever was there last.
    pub(super) fn take(&self) -> Buffer {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Buffer { bytes: free.unwrap_or_else(|| vec![0; SIZE]), used: 0, pool: self.clone() }
    }
}

/// A buffer being filled.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    used: usize,
    pool: Pool,
}

pub(super) type Chunk = Arc<Buffer>;

impl Buffer {
    /// Reads until the buffer is full or the input ends.
    pub(super) fn fill(&mut self, input: &mut impl Read) -> io::Result<()> {
        while self.used < self.bytes.len() {
            match input.read(&mut self.bytes[self.used..]) {
                Ok(0) => break,
                Ok(count) => self.used += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.used]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.pool.0.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
    }
}

/// Reads what another thread sends. The end of the channel is the end of the input; whether it is the true end, the
/// sender's own result tells.
pub(crate) struct ChunkReader {
    chunks: Receiver<Chunk>,
    current: Option<Chunk>,
    position: usize,
    consumed: u64,
}

impl ChunkReader {
    pub(super) fn new(chunks: Receiver<Chunk>) -> Self {
        Self { chunks, current: None, position: 0, consumed: 0 }
    }

    /// Bytes used so far.
    pub(super) fn consumed(&self) -> u64 {
        self.consumed
    }
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for ChunkReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.as_ref().is_none_or(|chunk| self.position == chunk.bytes().len()) {
            self.position = 0;
            self.current = None;
            match self.chunks.recv() {
                Ok(chunk) => self.current = Some(chunk),
                Err(_) => return Ok(&[]),
            }
        }
        Ok(self.current.as_ref().map_or(&[][..], |chunk| &chunk.bytes()[self.position..]))
    }

    fn consume(&mut self, count: usize) {
        self.position += count;
        self.consumed += count as u64;
    }
}

impl Source for ChunkReader {}
