//! Extension headers: PAX records and GNU long names.
//!
//! Job: collect what describes the next entry, refusing whatever two readers could understand differently: a repeated
//! record, two headers of a kind, a malformed length, names that contradict each other. Global headers may only carry
//! remarks. Leaves out `LIBARCHIVE.xattr`, which repeats `SCHILY.xattr` in another spelling.

use super::sparse::SparseRecords;
use super::{Time, field};
use crate::{Error, Limits, Result};
use tar::Header;

/// What the extension headers in front of an entry say.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    uid: Option<u32>,
    gid: Option<u32>,
    pub(super) size: Option<u64>,
    pub(super) mtime: Option<Time>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: SparseRecords,
    seen_pax: bool,
}

impl Extensions {
    pub(super) fn any(&self) -> bool {
        self.seen_pax || self.long_name.is_some() || self.long_link.is_some()
    }

    pub(super) fn long_name(&mut self, content: &[u8]) -> Result<()> {
        set(&mut self.long_name, without_nul(content)?, "long name")
    }

    pub(super) fn long_link(&mut self, content: &[u8]) -> Result<()> {
        set(&mut self.long_link, without_nul(content)?, "long link")
    }

    /// Takes in the records of an `x` header.
    pub(super) fn pax(&mut self, content: &[u8], limits: &Limits) -> Result<()> {
        if std::mem::replace(&mut self.seen_pax, true) {
            return Err(Error::format("two PAX headers for one entry"));
        }
        let mut names = std::collections::HashSet::new();
        for record in Records(content) {
            let (key, value) = record?;
            let repeats = matches!(key, b"GNU.sparse.offset" | b"GNU.sparse.numbytes");
            if !repeats && !names.insert(key) {
                return Err(Error::format(format!("PAX record {} twice", key.escape_ascii())));
            }
            // An empty value takes the record back, so the header's own field counts.
            let attribute = key.strip_prefix(b"SCHILY.xattr.");
            if value.is_empty() && attribute.is_none() {
                continue;
            }
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = Some(decimal(key, value)?),
                b"uid" => self.uid = Some(owner(key, value)?),
                b"gid" => self.gid = Some(owner(key, value)?),
                b"mtime" => self.mtime = Some(time(value)?),
                _ => match (attribute, key.strip_prefix(b"GNU.sparse.")) {
                    (Some(name), _) => self.attribute(name, value, limits)?,
                    (_, Some(name)) => self.sparse.record(name, value)?,
                    _ => {}
                },
            }
        }
        Ok(())
    }

    fn attribute(&mut self, name: &[u8], value: &[u8], limits: &Limits) -> Result<()> {
        let shown = name.escape_ascii();
        if name.is_empty() || name.len() > 255 || name.contains(&0) {
            return Err(Error::format(format!("extended attribute with the impossible name {shown}")));
        }
        if value.len() > limits.xattr_bytes {
            return Err(Error::limit(format!(
                "extended attribute {shown} of {} bytes, more than {}",
                value.len(),
                limits.xattr_bytes
            )));
        }
        self.xattrs.push((name.to_vec(), value.to_vec()));
        Ok(())
    }

    /// The entry's path: a record or long name, else the header's.
    pub(super) fn take_path(&mut self, header: &Header) -> Result<Vec<u8>> {
        let pax = self.sparse.name.take().or(self.path.take());
        agreed(pax, self.long_name.take(), || header.path_bytes().into_owned())
    }

    pub(super) fn take_link(&mut self, header: &Header) -> Result<Vec<u8>> {
        agreed(self.link.take(), self.long_link.take(), || header.link_name_bytes().unwrap_or_default().into_owned())
    }

    pub(super) fn owner(&self, header: &Header) -> Result<(u32, u32)> {
        let uid = self.uid.map_or_else(|| field::uid(header), Ok)?;
        let gid = self.gid.map_or_else(|| field::gid(header), Ok)?;
        Ok((uid, gid))
    }
}

/// GNU readers prefer one of the two, Go the other, so they must not differ.
fn agreed(pax: Option<Vec<u8>>, gnu: Option<Vec<u8>>, header: impl FnOnce() -> Vec<u8>) -> Result<Vec<u8>> {
    match (pax, gnu) {
        (Some(pax), Some(gnu)) if pax != gnu => Err(Error::format("a PAX record and a GNU long name differ")),
        (Some(name), _) | (None, Some(name)) => Ok(name),
        (None, None) => Ok(header()),
    }
}

/// Accepts a global header that only carries remarks, such as the commit id that git writes.
pub(super) fn global(content: &[u8], pending: &Extensions) -> Result<()> {
    if pending.any() {
        return Err(Error::format("a global PAX header between an extension header and its entry"));
    }
    for record in Records(content) {
        let (key, _) = record?;
        if !matches!(key, b"comment" | b"charset" | b"hdrcharset" | b"mtime" | b"atime" | b"ctime") {
            let key = key.escape_ascii();
            return Err(Error::unsupported(format!("global PAX record {key}, which readers disagree about")));
        }
    }
    Ok(())
}

fn set(slot: &mut Option<Vec<u8>>, value: Vec<u8>, what: &str) -> Result<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::format(format!("two headers with a {what} for one entry"))),
    }
}

/// A GNU long name ends at its first NUL byte; anything after that must be NUL too.
fn without_nul(content: &[u8]) -> Result<Vec<u8>> {
    let end = content.iter().position(|byte| *byte == 0).unwrap_or(content.len());
    if content[end..].iter().any(|byte| *byte != 0) {
        return Err(Error::format("long name with a NUL byte inside"));
    }
    Ok(content[..end].to_vec())
}

/// Records of the form `LENGTH KEY=VALUE\n`, where the length counts the whole record.
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Result<(&'a [u8], &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let record = split_record(self.0);
        self.0 = record.as_ref().map_or(&[][..], |(_, _, rest)| rest);
        Some(record.map(|(key, value, _)| (key, value)).ok_or_else(|| Error::format("malformed PAX record")))
    }
}

fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(plain_number(&bytes[..space])?).ok()?;
    let record = bytes.get(space + 1..length)?;
    let body = record.strip_suffix(b"\n")?;
    let equals = body.iter().position(|byte| *byte == b'=').filter(|equals| *equals > 0)?;
    let (key, value) = (&body[..equals], &body[equals + 1..]);
    // A NUL byte in a key or a path would end it early for readers in C.
    let text = !key.starts_with(b"SCHILY.xattr.");
    if key.contains(&0) || (text && value.contains(&0)) {
        return None;
    }
    Some((key, value, &bytes[length..]))
}

/// Decimal digits and nothing else.
pub(super) fn plain_number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

pub(super) fn decimal(key: &[u8], value: &[u8]) -> Result<u64> {
    plain_number(value)
        .filter(|number| i64::try_from(*number).is_ok())
        .ok_or_else(|| Error::format(format!("PAX record {} is not a number in range", key.escape_ascii())))
}

fn owner(key: &[u8], value: &[u8]) -> Result<u32> {
    field::id(decimal(key, value)? as i64, if key == b"uid" { "uid" } else { "gid" })
}

/// Seconds since 1970 with an optional sign and fraction; beyond nanoseconds it rounds down.
fn time(value: &[u8]) -> Result<Time> {
    let wrong = || Error::format("PAX record mtime is not a time");
    let (negative, digits) = match value.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, value),
    };
    let point = digits.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = point.map_or((digits, &b""[..]), |point| (&digits[..point], &digits[point + 1..]));
    if !fraction.iter().all(u8::is_ascii_digit) || (point.is_some() && fraction.is_empty()) {
        return Err(wrong());
    }
    let seconds = plain_number(whole).and_then(|seconds| i64::try_from(seconds).ok()).ok_or_else(wrong)?;
    let digit = |index: usize| fraction.get(index).map_or(0, |byte| u32::from(byte - b'0'));
    let nanoseconds = (0..9).fold(0, |value, index| value * 10 + digit(index));
    let below = fraction.iter().skip(9).any(|byte| *byte != b'0');
    if !negative {
        return Ok(Time { seconds, nanoseconds });
    }
    // -1.25 is 750 milliseconds after -2.
    let nanoseconds = nanoseconds + u32::from(below);
    if nanoseconds == 0 {
        return Ok(Time { seconds: -seconds, nanoseconds: 0 });
    }
    Ok(Time { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, seconds, nanoseconds) in [
            ("0", 0, 0),
            ("1.5", 1, 500_000_000),
            ("1.123456789999", 1, 123_456_789),
            ("-5", -5, 0),
            ("-1.25", -2, 750_000_000),
            ("-0.0000000001", -1, 999_999_999),
            ("16725225600", 16_725_225_600, 0),
        ] {
            assert_eq!(time(text.as_bytes()).expect(text), Time { seconds, nanoseconds }, "{text}");
        }
        for text in ["", "-", ".5", "1.", "1.x", "1e3", "0x1", "--1", "9223372036854775808", "1 ", "1.-1"] {
            assert!(time(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn records() {
        let all =
            |bytes: &'static [u8]| Records(bytes).map(|record| record.map_err(|_| ())).collect::<Result<Vec<_>, ()>>();
        assert_eq!(all(b"7 a=b\nc\n6 k=v\n"), Err(()), "the length leads, not the newline");
        assert_eq!(all(b"8 a=b\nc\n6 k=v\n"), Ok(vec![(&b"a"[..], &b"b\nc"[..]), (b"k", b"v")]));
        assert_eq!(all(b"5 a=\n"), Ok(vec![(&b"a"[..], &b""[..])]));
        for wrong in [
            &b"6 a=b"[..],
            b"7 a=b\n",
            b"5 a=b\n",
            b"6 a b\n",
            b"5 =b\n",
            b"x a=b\n",
            b"-6 a=b\n",
            b"06",
            b" ",
            b"99999999999999999999 a=b\n",
            b"0 a=b\n",
            b"1 a=b\n",
            b"8 path=\0\n",
            b"7 p=\0x\n",
        ] {
            assert!(all(wrong).is_err(), "{wrong:?}");
        }
        assert!(all(b"21 SCHILY.xattr.u=\0\n\0").is_err());
        assert_eq!(all(b"22 SCHILY.xattr.u=\0\n\0\n").expect("binary")[0].1, b"\0\n\0");
    }
}
