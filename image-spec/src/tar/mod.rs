//! A strict, streaming reader of tar archives.
//!
//! Job: one interpretation of an archive, the one POSIX gives; what other readers could take differently is an error and
//! never skipped (CVE-2025-62518, CVE-2026-33055). Every size is checked against [`Limits`] before memory is spent. The
//! `tar` crate supplies the layout of header blocks; its iterator is not used because it splits PAX records at newlines,
//! which binary attributes contain, and takes lengths from the archive unbounded. Leaves out writing, multi-volume
//! archives, and everything about files on disk.

mod extension;
mod field;
mod sparse;

use crate::{Error, Limits, Result};
use extension::Extensions;
use std::io::{BufRead, ErrorKind};

pub(crate) use sparse::Sparse;

const BLOCK: u64 = 512;

/// A source of archive bytes that may know a faster way forward than reading.
pub(crate) trait Source: BufRead {
    /// Moves `count` bytes ahead. The end of the input on the way is an `UnexpectedEof`.
    fn skip(&mut self, mut count: u64) -> std::io::Result<()> {
        while count > 0 {
            let available = self.fill_buf()?.len();
            if available == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let step = usize::try_from(count).unwrap_or(usize::MAX).min(available);
            self.consume(step);
            count -= step as u64;
        }
        Ok(())
    }
}

/// A point in time as file systems keep it; `nanoseconds` counts forward even before 1970.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

/// What an entry makes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum EntryKind {
    File,
    HardLink,
    Symlink,
    Directory,
    Fifo,
    CharDevice,
    BlockDevice,
}

/// One entry, extension headers already applied.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: EntryKind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    /// Target of a symbolic or hard link.
    pub(crate) link: Vec<u8>,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    /// Bytes of the file, holes included.
    pub(crate) size: u64,
    /// Where the archive's bytes belong, if they are not the whole file.
    pub(crate) sparse: Option<Sparse>,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the entry's data begins in the archive.
    pub(crate) offset: u64,
}

/// Reads entries one after another; the data of one must be read or is skipped before the next.
pub(crate) struct TarReader<'l, R> {
    source: R,
    limits: &'l Limits,
    /// Bytes consumed so far.
    position: u64,
    /// Data of the current entry still to come, and the padding after it.
    remaining: u64,
    padding: u64,
    entries: u64,
    finished: bool,
}

impl<'l, R: Source> TarReader<'l, R> {
    pub(crate) fn new(source: R, limits: &'l Limits) -> Self {
        Self { source, limits, position: 0, remaining: 0, padding: 0, entries: 0, finished: false }
    }

    /// The next entry, or `None` after a proper end.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>> {
        if self.finished {
            return Ok(None);
        }
        let mut extensions = Extensions::default();
        loop {
            let at = self.position + self.remaining + self.padding;
            let Some(header) = self.header()? else {
                if extensions.any() {
                    return Err(Error::format(format!("tar: extension header without an entry before byte {at}")));
                }
                self.finished = true;
                return Ok(None);
            };
            let in_place = |error: Error| error.within(format_args!("tar: entry at byte {at}"));
            if !self.extension(&header, &mut extensions).map_err(in_place)? {
                self.entries += 1;
                if self.entries > self.limits.entries {
                    return Err(Error::limit(format!("tar: more than {} entries", self.limits.entries)));
                }
                return self.entry(&header, extensions).map(Some).map_err(in_place);
            }
        }
    }

    /// The next bytes of the current entry's data; empty at its end.
    pub(crate) fn data(&mut self) -> Result<&[u8]> {
        if self.remaining == 0 {
            return Ok(&[]);
        }
        let bytes = self.source.fill_buf().map_err(truncated)?;
        if bytes.is_empty() {
            return Err(Error::format("tar: the archive ends inside a file"));
        }
        let most = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(bytes.len());
        Ok(&bytes[..most])
    }

    /// Marks `count` bytes of what [`data`](Self::data) returned as used.
    pub(crate) fn consume(&mut self, count: usize) {
        self.source.consume(count);
        self.position += count as u64;
        self.remaining -= count as u64;
    }

    /// The whole data of the current entry, whose length was checked.
    fn read_all(&mut self) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        while self.remaining > 0 {
            let bytes = self.data()?;
            let count = bytes.len();
            all.extend_from_slice(bytes);
            self.consume(count);
        }
        Ok(all)
    }

    /// Reads one block, past what is left of the current entry. `None` at the end of the input.
    fn block(&mut self) -> Result<Option<[u8; 512]>> {
        self.source.skip(self.remaining).map_err(truncated)?;
        self.position += self.remaining;
        self.remaining = 0;
        // Some writers (umoci 0.4) leave out the padding of the last file; nothing can hide in what is not there.
        let padding = std::mem::take(&mut self.padding);
        match self.source.skip(padding) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof && error.get_ref().is_none() => return Ok(None),
            other => other.map_err(truncated)?,
        }
        self.position += padding;
        let mut block = [0; 512];
        let mut filled = 0;
        while filled < block.len() {
            let bytes = self.source.fill_buf().map_err(truncated)?;
            if bytes.is_empty() {
                break;
            }
            let count = bytes.len().min(block.len() - filled);
            block[filled..filled + count].copy_from_slice(&bytes[..count]);
            self.source.consume(count);
            filled += count;
        }
        self.position += filled as u64;
        match filled {
            0 => Ok(None),
            512 => Ok(Some(block)),
            _ => Err(Error::format("tar: the archive ends inside a block")),
        }
    }

    /// The next header with a right checksum, or `None` at the end of the archive.
    fn header(&mut self) -> Result<Option<tar::Header>> {
        let at = self.position + self.remaining + self.padding;
        let Some(block) = self.block()? else { return Ok(None) };
        if block == [0; 512] {
            self.only_zeros()?;
            return Ok(None);
        }
        let mut header = tar::Header::new_old();
        header.as_mut_bytes().copy_from_slice(&block);
        let sum: u32 =
            block.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { 32 } else { u32::from(*b) }).sum();
        if header.cksum().ok() != Some(sum) {
            return Err(Error::format(format!("tar: wrong checksum of the header at byte {at}")));
        }
        field::check(&header).map_err(|error| error.within(format_args!("tar: header at byte {at}")))?;
        Ok(Some(header))
    }

    /// After an end mark nothing but zeros may come: what a reader that ignores the mark would find there is smuggled in.
    fn only_zeros(&mut self) -> Result<()> {
        loop {
            let bytes = self.source.fill_buf().map_err(truncated)?;
            if bytes.is_empty() {
                return Ok(());
            }
            if bytes.iter().any(|byte| *byte != 0) {
                return Err(Error::format("tar: data after the end of the archive"));
            }
            let count = bytes.len();
            self.source.consume(count);
            self.position += count as u64;
        }
    }

    /// Sets what is left to read of an entry whose data takes `size` bytes of the archive.
    fn expect_data(&mut self, size: u64) -> Result<()> {
        if size > i64::MAX as u64 - BLOCK {
            return Err(Error::format("size out of range"));
        }
        self.remaining = size;
        self.padding = size.next_multiple_of(BLOCK) - size;
        Ok(())
    }

    /// Takes in an extension header; false if `header` is an entry itself.
    fn extension(&mut self, header: &tar::Header, extensions: &mut Extensions) -> Result<bool> {
        let kind = header.as_bytes()[156];
        if !b"xgLK".contains(&kind) {
            return Ok(false);
        }
        let size = field::size(header)?;
        self.expect_data(size)?;
        if size > self.limits.header_bytes {
            return Err(Error::limit(format!(
                "extension header of {size} bytes, more than {}",
                self.limits.header_bytes
            )));
        }
        // Some readers take the padding for part of the content.
        self.remaining += std::mem::take(&mut self.padding);
        let mut content = self.read_all()?;
        if content.drain(size as usize..).any(|byte| byte != 0) {
            return Err(Error::format("extension header with something in its padding"));
        }
        match kind {
            b'x' => extensions.pax(&content, self.limits)?,
            b'g' => extension::global(&content, extensions)?,
            b'L' => extensions.long_name(&content)?,
            _ => extensions.long_link(&content)?,
        }
        Ok(true)
    }

    /// Puts an entry together from its header and what came before it.
    fn entry(&mut self, header: &tar::Header, mut extensions: Extensions) -> Result<Entry> {
        let flag = header.as_bytes()[156];
        let path = extensions.take_path(header)?;
        let kind = match flag {
            // Before POSIX, a directory was a file whose name ends in a slash.
            0 if path.ends_with(b"/") => EntryKind::Directory,
            0 | b'0' | b'7' | b'S' => EntryKind::File,
            b'1' => EntryKind::HardLink,
            b'2' => EntryKind::Symlink,
            b'3' => EntryKind::CharDevice,
            b'4' => EntryKind::BlockDevice,
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            other => return Err(Error::unsupported(format!("entry of unknown type {:?}", char::from(other)))),
        };
        let link = extensions.take_link(header)?;
        for name in [&path, &link] {
            if name.len() > self.limits.path_bytes {
                return Err(Error::limit(format!(
                    "path of {} bytes, more than {}",
                    name.len(),
                    self.limits.path_bytes
                )));
            }
            if name.contains(&0) {
                return Err(Error::format("path with a NUL byte"));
            }
        }
        let stored = extensions.size.map_or_else(|| field::size(header), Ok)?;
        if kind != EntryKind::File && stored != 0 {
            return Err(Error::format("an entry that is no file has data"));
        }
        let device = matches!(kind, EntryKind::CharDevice | EntryKind::BlockDevice);
        let (major, minor) = match field::device(header)?.filter(|_| device) {
            Some(numbers) => numbers,
            None if device => return Err(Error::format("device entry in a header without device numbers")),
            None => (0, 0),
        };
        let (uid, gid) = extensions.owner(header)?;
        let mtime = extensions.mtime.map_or_else(|| field::mtime(header), Ok)?;
        self.expect_data(stored)?;
        let sparse = self.sparse(header, flag, &extensions)?;
        Ok(Entry {
            path,
            kind,
            link,
            uid,
            gid,
            mtime,
            major,
            minor,
            mode: field::mode(header)?,
            size: sparse.as_ref().map_or(stored, |sparse| sparse.size),
            sparse,
            xattrs: std::mem::take(&mut extensions.xattrs),
            offset: self.position,
        })
    }

    /// The map of a sparse file in any of the four forms GNU tar has used.
    fn sparse(&mut self, header: &tar::Header, flag: u8, extensions: &Extensions) -> Result<Option<Sparse>> {
        let most = self.limits.sparse_regions;
        let sparse = if flag == b'S' {
            let (data, padding) = (self.remaining, self.padding);
            (self.remaining, self.padding) = (0, 0);
            let sparse = sparse::old_gnu(header, most, || {
                self.block()?.ok_or_else(|| Error::format("the archive ends inside a sparse map"))
            })?;
            (self.remaining, self.padding) = (data, padding);
            sparse
        } else {
            match extensions.sparse.version(flag)? {
                sparse::Version::None => return Ok(None),
                sparse::Version::Header => extensions.sparse.header_map(most)?,
                sparse::Version::Data => {
                    let size = extensions.sparse.real_size()?;
                    let mut map = sparse::DataMap::new(most);
                    // The map lies in whole blocks in front of the data.
                    while !map.is_complete() {
                        if self.remaining < BLOCK {
                            return Err(Error::format("sparse map longer than the file"));
                        }
                        let data = self.remaining - BLOCK;
                        let padding = std::mem::take(&mut self.padding);
                        self.remaining = 0;
                        let block =
                            self.block()?.ok_or_else(|| Error::format("the archive ends inside a sparse map"))?;
                        (self.remaining, self.padding) = (data, padding);
                        map.block(&block)?;
                    }
                    Sparse { size, regions: map.regions }
                }
            }
        };
        sparse.check(self.remaining)?;
        Ok(Some(sparse))
    }
}

fn truncated(error: std::io::Error) -> Error {
    if error.kind() == ErrorKind::UnexpectedEof && error.get_ref().is_none() {
        return Error::format("tar: the archive ends too early");
    }
    Error::io("tar: cannot read the archive", error)
}

impl Source for &[u8] {}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
