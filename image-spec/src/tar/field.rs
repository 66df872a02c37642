//! The numbers of a tar header: octal text, or GNU's base-256 with a sign.
//!
//! Job: exact values or an error; never a value cut to fit. Leaves out names, which the `tar` crate's header type gives.

use super::Time;
use crate::{Error, Result};
use tar::Header;

/// The greatest user or group id; the next number means "leave unchanged" to the kernel.
const MAX_ID: i64 = u32::MAX as i64 - 1;

fn slice(header: &Header, start: usize, length: usize) -> &[u8] {
    &header.as_bytes()[start..start + length]
}

/// A number field. Absent (only blanks) counts as 0, as every reader has it.
fn number(field: &[u8], name: &str) -> Result<i64> {
    let wrong = || Error::format(format!("header field {name} is not a number"));
    if field[0] & 0x80 != 0 {
        return base256(field).ok_or_else(wrong);
    }
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    let text = field[..end].trim_ascii();
    let mut value = 0i64;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 7 {
            return Err(wrong());
        }
        value = value.checked_mul(8).and_then(|value| value.checked_add(i64::from(digit))).ok_or_else(wrong)?;
    }
    Ok(value)
}

/// Two's complement in the bytes of the field, the top bit only being the mark.
fn base256(field: &[u8]) -> Option<i64> {
    let negative = field[0] & 0x40 != 0;
    let mut value: i64 = if negative { -1 } else { 0 };
    for (index, byte) in field.iter().enumerate() {
        let byte = if index > 0 {
            *byte
        } else if negative {
            byte | 0x80
        } else {
            byte & 0x7f
        };
        value = value.checked_mul(256)?.checked_add(i64::from(byte))?;
    }
    Some(value)
}

/// Refuses a header with a number that cannot be read, whether it means anything or not: other readers take such a header
/// for the end of the archive.
pub(super) fn check(header: &Header) -> Result<()> {
    for (start, length, name) in [(100, 8, "mode"), (108, 8, "uid"), (116, 8, "gid"), (136, 12, "mtime")] {
        number(slice(header, start, length), name)?;
    }
    device(header).map(drop)
}

pub(super) fn size(header: &Header) -> Result<u64> {
    u64::try_from(number(slice(header, 124, 12), "size")?).map_err(|_| Error::format("size below 0"))
}

pub(super) fn mode(header: &Header) -> Result<u32> {
    // Some writers put the type into the high bits; the type flag is what counts.
    Ok((number(slice(header, 100, 8), "mode")? & 0o7777) as u32)
}

/// Checks a user or group id (a wrong one must never become "unchanged" or 0).
pub(super) fn id(value: i64, name: &str) -> Result<u32> {
    if (0..=MAX_ID).contains(&value) {
        Ok(value as u32)
    } else {
        Err(Error::format(format!("{name} {value} out of range")))
    }
}

pub(super) fn uid(header: &Header) -> Result<u32> {
    id(number(slice(header, 108, 8), "uid")?, "uid")
}

pub(super) fn gid(header: &Header) -> Result<u32> {
    id(number(slice(header, 116, 8), "gid")?, "gid")
}

pub(super) fn mtime(header: &Header) -> Result<Time> {
    Ok(Time { seconds: number(slice(header, 136, 12), "mtime")?, nanoseconds: 0 })
}

/// Major and minor number, which only headers with a magic have.
pub(super) fn device(header: &Header) -> Result<Option<(u32, u32)>> {
    if header.as_ustar().is_none() && header.as_gnu().is_none() {
        return Ok(None);
    }
    let part = |start: usize, name: &str| {
        u32::try_from(number(slice(header, start, 8), name)?).map_err(|_| Error::format(format!("{name} out of range")))
    };
    Ok(Some((part(329, "major")?, part(337, "minor")?)))
}

/// A number in the map of an old GNU sparse header.
pub(super) fn sparse(field: &[u8]) -> Result<u64> {
    u64::try_from(number(field, "sparse map")?).map_err(|_| Error::format("sparse map below 0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_and_binary_numbers() {
        for (field, value) in [
            (&b"0000644\0"[..], 0o644),
            (b"   644 \0", 0o644),
            (b"00000644", 0o644),
            (b"\0\0\0\0\0\0\0\0", 0),
            (b"        ", 0),
            (b"7\0garbag", 7),
            (b"\x80\0\0\0\0\x20\0\x01", 0x20_0001),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfb", -5),
            (b"\x80\0\0\0\0\0\0\0\0\0\x01\0", 256),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", -1),
        ] {
            assert_eq!(number(field, "x").expect("valid"), value, "{field:?}");
        }
        for field in [
            &b"0000008\0"[..],
            b"-000001\0",
            b"0x10\0\0\0\0",
            b"1e3\0\0\0\0\0",
            b"12 34\0\0\0",
            b"\xc0\0\0\0\0\0\0\0\0\0\0\0",
            b"\x80\0\0\0\xff\0\0\0\0\0\0\0",
            b"\x80\0\0\x01\0\0\0\0\0\0\0\0",
        ] {
            assert!(number(field, "x").is_err(), "{field:?}");
        }
        assert!(id(i64::from(u32::MAX), "uid").is_err() && id(-1, "uid").is_err());
        assert_eq!(id(MAX_ID, "uid").expect("the last"), u32::MAX - 1);
    }
}
