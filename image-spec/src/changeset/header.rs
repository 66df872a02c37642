//! Headers of tar entries, always the same for the same entry.
//!
//! Job: the ustar header of POSIX.1-2001, and a PAX header in front of it for what that cannot hold and for nothing else:
//! long names, large numbers, fractions of seconds, attributes, the map of a sparse file in GNU's form 1.0, which readers in
//! Go know too. No user names, no access times. Leaves out what entries there are.

use super::tree::Attributes;
use crate::tar::Time;
use crate::{Error, Result};
use tar::Header;

/// The length of a tar block.
pub(crate) const BLOCK: usize = 512;

/// One entry, as far as its header tells of it.
pub(crate) struct Entry<'e> {
    pub(crate) path: &'e [u8],
    /// The type flag, such as `0` for a file.
    pub(crate) kind: u8,
    pub(crate) attributes: &'e Attributes,
    /// Target of a link.
    pub(crate) link: &'e [u8],
    pub(crate) device: (u32, u32),
    /// Bytes that follow.
    pub(crate) stored: u64,
    /// The length of a file whose holes are left out.
    pub(crate) sparse: Option<u64>,
}

impl<'e> Entry<'e> {
    /// One without a target, a device or data.
    pub(crate) fn new(path: &'e [u8], kind: u8, attributes: &'e Attributes) -> Self {
        Self { path, kind, attributes, link: b"", device: (0, 0), stored: 0, sparse: None }
    }
}

/// All blocks in front of an entry's data.
pub(crate) fn render(entry: &Entry<'_>) -> Result<Vec<u8>> {
    let mut records = Records::default();
    let mut header = Header::new_ustar();
    header.as_mut_bytes()[156] = entry.kind;
    let mut stand_in = Vec::new();
    let name = if let Some(size) = entry.sparse {
        // Readers that do not know sparse files shall not take the packed data for the file.
        records.add(b"GNU.sparse.major", b"1")?;
        records.add(b"GNU.sparse.minor", b"0")?;
        records.add(b"GNU.sparse.name", entry.path)?;
        records.add(b"GNU.sparse.realsize", size.to_string().as_bytes())?;
        stand_in.extend_from_slice(b"GNUSparseFile.0/");
        stand_in.extend_from_slice(leaf(entry.path));
        &stand_in
    } else {
        entry.path
    };
    if !put_name(&mut header, name) && entry.sparse.is_none() {
        records.add(b"path", entry.path)?;
    }
    if !put(&mut header, 157, 100, entry.link) {
        records.add(b"linkpath", entry.link)?;
    }
    let Attributes { mode, uid, gid, mtime, xattrs } = entry.attributes;
    put_number(&mut header, 100, 8, u64::from(mode & 0o7777));
    for (start, width, value, name) in
        [(108, 8, u64::from(*uid), &b"uid"[..]), (116, 8, u64::from(*gid), b"gid"), (124, 12, entry.stored, b"size")]
    {
        if !put_number(&mut header, start, width, value) {
            records.add(name, value.to_string().as_bytes())?;
        }
    }
    let whole = u64::try_from(mtime.seconds).ok().filter(|_| mtime.nanoseconds == 0);
    if !whole.is_some_and(|seconds| put_number(&mut header, 136, 12, seconds)) {
        let rounded = u64::try_from(mtime.seconds).unwrap_or(0);
        let _fits = put_number(&mut header, 136, 12, rounded);
        records.add(b"mtime", time(*mtime).as_bytes())?;
    }
    let _fit = put_number(&mut header, 329, 8, u64::from(entry.device.0))
        && put_number(&mut header, 337, 8, u64::from(entry.device.1));
    for (name, value) in xattrs {
        if name.contains(&b'=') {
            return Err(Error::unsupported(format!(
                "attribute {} has a name that tar cannot hold",
                name.escape_ascii()
            )));
        }
        records.add(&[b"SCHILY.xattr.", name.as_slice()].concat(), value)?;
    }
    header.set_cksum();
    let mut blocks = records.render(entry.path);
    blocks.extend_from_slice(header.as_bytes());
    Ok(blocks)
}

/// The map of a sparse file, in whole blocks in front of its data.
pub(crate) fn sparse_map(regions: &[(u64, u64)]) -> Vec<u8> {
    let mut text = format!("{}\n", regions.len());
    for (offset, length) in regions {
        text.push_str(&format!("{offset}\n{length}\n"));
    }
    let mut map = text.into_bytes();
    pad(&mut map);
    map
}

/// Fills the last block with zeros.
pub(crate) fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
}

fn leaf(path: &[u8]) -> &[u8] {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let leaf = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    &leaf[..leaf.len().min(80)]
}

/// Puts bytes into a field; if they do not fit, as many as do, and false.
fn put(header: &mut Header, start: usize, width: usize, bytes: &[u8]) -> bool {
    let count = bytes.len().min(width);
    header.as_mut_bytes()[start..start + count].copy_from_slice(&bytes[..count]);
    count == bytes.len()
}

/// Puts a path into the name, or into prefix and name.
fn put_name(header: &mut Header, path: &[u8]) -> bool {
    if path.len() <= 100 {
        return put(header, 0, 100, path);
    }
    // The slash between the two is not written, so the last one cannot be it: a name must follow.
    let slash = |at: &usize| path[*at] == b'/' && *at + 1 < path.len() && path.len() - at - 1 <= 100;
    match (1..=path.len().min(155 + 1).saturating_sub(1)).rev().find(slash) {
        Some(at) => put(header, 345, 155, &path[..at]) && put(header, 0, 100, &path[at + 1..]),
        None => {
            put(header, 0, 100, path);
            false
        }
    }
}

/// Puts an octal number that ends with a NUL byte into a field; 0 and false if it does not fit.
fn put_number(header: &mut Header, start: usize, width: usize, value: u64) -> bool {
    let digits = width - 1;
    let fits = value < 1 << (3 * digits);
    let text = format!("{:0digits$o}\0", if fits { value } else { 0 });
    put(header, start, width, text.as_bytes()) && fits
}

/// As PAX writes times: in decimal, with as many digits as needed.
fn time(time: Time) -> String {
    let (mut seconds, mut nanoseconds) = (time.seconds, time.nanoseconds);
    let negative = seconds < 0;
    if negative && nanoseconds > 0 {
        // 750 milliseconds after -2 is -1.25.
        (seconds, nanoseconds) = (seconds + 1, 1_000_000_000 - nanoseconds);
    }
    let text = format!("{}{}.{nanoseconds:09}", if negative { "-" } else { "" }, seconds.unsigned_abs());
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The records of a PAX header.
#[derive(Default)]
struct Records(Vec<u8>);

impl Records {
    /// Adds `LENGTH KEY=VALUE\n`, where the length counts itself.
    fn add(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if !key.starts_with(b"SCHILY.xattr.") && value.contains(&0) {
            return Err(Error::format("a name with a NUL byte"));
        }
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        self.0.extend_from_slice(format!("{length} ").as_bytes());
        self.0.extend_from_slice(key);
        self.0.push(b'=');
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
        Ok(())
    }

    /// The header and its data; nothing if there are no records.
    fn render(mut self, path: &[u8]) -> Vec<u8> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let mut header = Header::new_ustar();
        header.as_mut_bytes()[156] = b'x';
        put(&mut header, 0, 100, &[b"PaxHeaders.0/", leaf(path)].concat());
        put_number(&mut header, 100, 8, 0o644);
        for (start, width) in [(108, 8), (116, 8), (136, 12), (329, 8), (337, 8)] {
            put_number(&mut header, start, width, 0);
        }
        put_number(&mut header, 124, 12, self.0.len() as u64);
        header.set_cksum();
        pad(&mut self.0);
        [header.as_bytes(), self.0.as_slice()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (seconds, nanoseconds, text) in [
            (0, 0, "0"),
            (1, 500_000_000, "1.5"),
            (-5, 0, "-5"),
            (-2, 750_000_000, "-1.25"),
            (-1, 999_999_999, "-0.000000001"),
        ] {
            assert_eq!(time(Time { seconds, nanoseconds }), text);
        }
    }

    #[test]
    fn records_count_themselves() {
        for length in [1, 2, 90, 91, 92, 93, 94, 95, 990, 991, 992, 993, 994] {
            let mut records = Records::default();
            records.add(b"path", &vec![b'a'; length]).expect("fits");
            let text = String::from_utf8(records.0).expect("text");
            let stated: usize = text.split(' ').next().expect("length").parse().expect("number");
            assert_eq!(stated, text.len(), "{length}");
        }
    }

    #[test]
    fn only_what_does_not_fit_needs_a_further_header() {
        let attributes = Attributes { mode: 0o644, ..Attributes::default() };
        let length = |path: &[u8]| {
            let entry =
                Entry { path, kind: b'0', attributes: &attributes, link: b"", device: (0, 0), stored: 0, sparse: None };
            render(&entry).expect("possible").len()
        };
        assert_eq!(length(&[b'a'; 100]), BLOCK);
        assert_eq!(length(&[b'a'; 101]), 3 * BLOCK);
        let split = [vec![b'p'; 155], vec![b'/'], vec![b'n'; 100]].concat();
        assert_eq!(length(&split), BLOCK);
        assert_eq!(length(&[&split[..], b"n"].concat()), 3 * BLOCK);
        assert_eq!(length(&[vec![b'p'; 156], vec![b'/'], vec![b'n'; 100]].concat()), 3 * BLOCK);
        assert_eq!(length(&[vec![b'p'; 120], b"/".to_vec()].concat()), 3 * BLOCK);
    }
}
