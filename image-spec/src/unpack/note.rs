//! What unpacking could not put on disk as the image says it, and what it decided for the image.
//!
//! Job: the notes of a layer and their file, `layer.idx`: one line each, so that packing a layer again can restore what an
//! ordinary user cannot create. Leaves out acting on them.

use crate::{Error, Result};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// One remark about one path of a layer.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Note {
    /// The path inside the image, without a leading slash.
    pub path: PathBuf,
    /// The remark.
    pub kind: NoteKind,
}

/// What a [`Note`] remarks.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum NoteKind {
    /// Owner or mode the caller could not give the file.
    Owner {
        /// User id in the image.
        uid: u32,
        /// Group id in the image.
        gid: u32,
        /// Mode in the image, permission bits only.
        mode: u32,
    },
    /// A device that is not there, because the caller may not make it or chose so. What is in its place, if anything, is as
    /// [`Devices`](crate::Devices) says.
    Device {
        /// `b` or `c`.
        kind: char,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
        /// User id in the image.
        uid: u32,
        /// Group id in the image.
        gid: u32,
        /// Mode in the image, permission bits only.
        mode: u32,
    },
    /// An extended attribute that was not written: overlayfs or the host would act on it, or the kernel refused it.
    Xattr(
        /// Its name.
        OsString,
    ),
    /// The path occurs more than once in the layer; the last entry counts.
    Repeated,
    /// The name in the archive has `..` in it; what it led to is inside of the layer, as if its root were `/`.
    Outside,
    /// The directory is a symbolic link in a lower layer; what lies in it went to the link's target.
    Followed(
        /// Where the content went.
        PathBuf,
    ),
    /// The blob is not compressed as its media type says.
    MediaType(
        /// What it is.
        String,
    ),
}

/// Collects notes as the text of `layer.idx`.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    text: String,
    pub(crate) count: u64,
}

impl Notes {
    pub(crate) fn add(&mut self, path: &[u8], kind: &NoteKind) {
        self.count += 1;
        let path = escape(path);
        // Writing to a string cannot fail.
        let _ = match kind {
            NoteKind::Owner { uid, gid, mode } => writeln!(self.text, "owner {path} {uid} {gid} {mode:o}"),
            NoteKind::Device { kind, major, minor, uid, gid, mode } => {
                writeln!(self.text, "device {path} {kind} {major} {minor} {uid} {gid} {mode:o}")
            }
            NoteKind::Xattr(name) => writeln!(self.text, "xattr {path} {}", escape(name.as_bytes())),
            NoteKind::Repeated => writeln!(self.text, "repeated {path}"),
            NoteKind::Outside => writeln!(self.text, "outside {path}"),
            NoteKind::Followed(to) => writeln!(self.text, "followed {path} {}", escape(to.as_os_str().as_bytes())),
            NoteKind::MediaType(found) => writeln!(self.text, "media-type {path} {}", escape(found.as_bytes())),
        };
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

/// Reads the text of a `layer.idx`.
pub(crate) fn parse(text: &str) -> Result<Vec<Note>> {
    let wrong = |line: &str| Error::format(format!("layer.idx: malformed line {line:?}"));
    text.lines().map(|line| parse_line(line).ok_or_else(|| wrong(line))).collect()
}

fn parse_line(line: &str) -> Option<Note> {
    let mut fields = line.split(' ');
    let (word, path) = (fields.next()?, unescape(fields.next()?)?);
    let number = |text: Option<&str>| text?.parse::<u32>().ok();
    let octal = |text: Option<&str>| u32::from_str_radix(text?, 8).ok();
    let kind = match word {
        "owner" => {
            NoteKind::Owner { uid: number(fields.next())?, gid: number(fields.next())?, mode: octal(fields.next())? }
        }
        "device" => NoteKind::Device {
            kind: fields.next()?.chars().next()?,
            major: number(fields.next())?,
            minor: number(fields.next())?,
            uid: number(fields.next())?,
            gid: number(fields.next())?,
            mode: octal(fields.next())?,
        },
        "xattr" => NoteKind::Xattr(OsString::from_vec(unescape(fields.next()?)?)),
        "repeated" => NoteKind::Repeated,
        "outside" => NoteKind::Outside,
        "followed" => NoteKind::Followed(PathBuf::from(OsString::from_vec(unescape(fields.next()?)?))),
        "media-type" => NoteKind::MediaType(String::from_utf8(unescape(fields.next()?)?).ok()?),
        _ => return None,
    };
    let path = Path::new(std::ffi::OsStr::from_bytes(&path)).to_owned();
    fields.next().is_none().then_some(Note { path, kind })
}

/// Percent-encodes what would break a line of space-separated fields. The empty path is the root, written `.`.
fn escape(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return ".".to_owned();
    }
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_graphic() && *byte != b'%' {
            text.push(char::from(*byte));
        } else {
            let _ = write!(text, "%{byte:02x}");
        }
    }
    text
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    if text == "." {
        return Some(Vec::new());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first == b'%' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &rest[2..];
        } else {
            bytes.push(*first);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_survive_their_file() {
        let kinds = [
            NoteKind::Owner { uid: 1, gid: u32::MAX - 1, mode: 0o4755 },
            NoteKind::Device { kind: 'b', major: 8, minor: 1, uid: 0, gid: 6, mode: 0o660 },
            NoteKind::Xattr(OsString::from_vec(b"security.sel\xff inux".to_vec())),
            NoteKind::Repeated,
            NoteKind::Outside,
            NoteKind::Followed("usr/lib".into()),
            NoteKind::MediaType("an uncompressed archive".into()),
        ];
        let path = b"a b/\n%\xfe";
        let mut notes = Notes::default();
        kinds.iter().for_each(|kind| notes.add(path, kind));
        notes.add(b"", &NoteKind::Repeated);
        let read = parse(notes.text()).expect("own text");
        assert_eq!(read.len() as u64, notes.count);
        for (note, kind) in read.iter().zip(&kinds) {
            assert_eq!((note.path.as_os_str().as_bytes(), &note.kind), (&path[..], kind));
        }
        assert_eq!(read[7].path, Path::new(""));
        for wrong in ["owner x 1", "owner x 1 2 9", "what x", "repeated x y", "repeated %4", "repeated"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
