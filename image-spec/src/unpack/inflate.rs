//! Decompression: plain, gzip of several members, zstd of several frames.
//!
//! Job: one reader whose first bytes decide the format, which ends where the input ends and takes nothing after the last
//! member or frame for granted. Pure Rust: nothing is executed and no C library is used (CVE-2026-41567). Leaves out the
//! limits, which the pipeline keeps, but for zstd's window, which is memory: at most 128 MiB.

use super::chunk::ChunkReader;
use crate::{Error, Result};
use flate2::bufread::MultiGzDecoder;
use std::io::{self, BufRead, Read};

/// A compression format.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Format {
    Plain,
    Gzip,
    Zstd,
}

impl Format {
    /// What the first bytes of a blob show.
    pub(crate) fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // zstd:chunked and others may begin with a skippable frame.
            [first, 0x2a, 0x4d, 0x18, ..] if first & 0xf0 == 0x50 => Self::Zstd,
            _ => Self::Plain,
        }
    }

    /// What a media type promises, if it promises anything.
    pub(crate) fn promised(media_type: &str) -> Self {
        if media_type.ends_with("gzip") {
            Self::Gzip
        } else if media_type.ends_with("zstd") {
            Self::Zstd
        } else {
            Self::Plain
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain => "an uncompressed archive",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// A decompressing reader.
pub(crate) enum Inflate<R> {
    Plain(R),
    Gzip(Box<MultiGzDecoder<R>>),
    #[cfg(feature = "zstd")]
    Zstd(Box<Zstd<R>>),
}

impl<R: BufRead> Inflate<R> {
    pub(crate) fn new(format: Format, input: R) -> Result<Self> {
        match format {
            Format::Plain => Ok(Self::Plain(input)),
            Format::Gzip => Ok(Self::Gzip(Box::new(MultiGzDecoder::new(input)))),
            #[cfg(feature = "zstd")]
            Format::Zstd => Ok(Self::Zstd(Box::new(Zstd::new(input)))),
            #[cfg(not(feature = "zstd"))]
            Format::Zstd => Err(Error::unsupported("this build has no zstd (feature `zstd`)")),
        }
    }
}

impl Inflate<ChunkReader> {
    /// Compressed bytes used so far.
    pub(super) fn consumed(&self) -> u64 {
        match self {
            Self::Plain(input) => input.consumed(),
            Self::Gzip(decoder) => decoder.get_ref().consumed(),
            #[cfg(feature = "zstd")]
            Self::Zstd(decoder) => decoder.input.consumed(),
        }
    }
}

impl<R: BufRead> Read for Inflate<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(input) => input.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => Error::format("gzip: the data ends too early").into(),
                _ => io::Error::from(Error::io("gzip: the data is damaged", error)),
            }),
            #[cfg(feature = "zstd")]
            Self::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

/// Frames one after another, skippable ones in between (RFC 8878).
#[cfg(feature = "zstd")]
pub(crate) struct Zstd<R> {
    input: R,
    frame: ruzstd::decoding::FrameDecoder,
    inside: bool,
}

#[cfg(feature = "zstd")]
impl<R: BufRead> Zstd<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, frame: ruzstd::decoding::FrameDecoder::new(), inside: false }
    }

    /// Starts the next frame, past skippable ones; false at the end of the input.
    fn start(&mut self) -> io::Result<bool> {
        use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
        while !self.input.fill_buf()?.is_empty() {
            match self.frame.init(&mut self.input) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    let skipped = io::copy(&mut (&mut self.input).take(u64::from(length)), &mut io::sink())?;
                    if skipped != u64::from(length) {
                        return Err(Error::format("zstd: the data ends too early").into());
                    }
                }
                Err(FrameDecoderError::WindowSizeTooBig { requested, .. }) => {
                    return Err(Error::limit(format!("zstd: window of {requested} bytes")).into());
                }
                Err(error) => return Err(damaged(error)),
            }
        }
        Ok(false)
    }

    /// Checks the frame's own checksum, if it has one.
    fn end(&mut self) -> io::Result<()> {
        self.inside = false;
        match self.frame.get_checksum_from_data() {
            Some(stored) if Some(stored) != self.frame.get_calculated_checksum() => {
                Err(Error::format("zstd: wrong checksum").into())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(feature = "zstd")]
impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use ruzstd::decoding::BlockDecodingStrategy::UptoBlocks;
        while !buffer.is_empty() {
            if !self.inside {
                self.inside = self.start()?;
                if !self.inside {
                    return Ok(0);
                }
            }
            while self.frame.can_collect() == 0 && !self.frame.is_finished() {
                self.frame.decode_blocks(&mut self.input, UptoBlocks(1)).map_err(damaged)?;
            }
            let count = self.frame.read(buffer)?;
            if count > 0 {
                return Ok(count);
            }
            self.end()?;
        }
        Ok(0)
    }
}

#[cfg(feature = "zstd")]
fn damaged(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    Error::io("zstd: the data is damaged", io::Error::new(io::ErrorKind::InvalidData, error)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_decide() {
        for (start, format) in [
            (&[0x1f, 0x8b, 8][..], Format::Gzip),
            (&[0x28, 0xb5, 0x2f, 0xfd], Format::Zstd),
            (&[0x5e, 0x2a, 0x4d, 0x18, 0], Format::Zstd),
            (b"", Format::Plain),
            (b"\x1f", Format::Plain),
            (b"etc/passwd", Format::Plain),
        ] {
            assert_eq!(Format::of(start), format);
        }
    }

    #[cfg(feature = "zstd")]
    #[test]
    fn frames_and_skippable_frames_are_one_stream() {
        let frame = |text: &[u8]| ruzstd::encoding::compress_to_vec(text, ruzstd::encoding::CompressionLevel::Fastest);
        let skippable = b"\x51\x2a\x4d\x18\x03\0\0\0abc";
        let input = [&skippable[..], &frame(b"one"), &frame(b""), skippable, &frame(b"two")].concat();
        let mut output = Vec::new();
        Zstd::new(&input[..]).read_to_end(&mut output).expect("valid");
        assert_eq!(output, b"onetwo");
        for wrong in
            [&input[..input.len() - 1], &[&input[..], b"x"].concat(), &[&input[..], b"\0\0\0\0"].concat(), &input[..9]]
        {
            assert!(Zstd::new(wrong).read_to_end(&mut Vec::new()).is_err());
        }
        // A window of 2 GiB in twelve bytes.
        let error = Zstd::new(&b"\x28\xb5\x2f\xfd\x00\xa8\x01\0\0abc"[..]).read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(Error::io("x", error).kind(), crate::ErrorKind::Limit);
    }
}
