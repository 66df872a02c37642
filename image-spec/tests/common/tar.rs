//! A writer of archives byte by byte.
//!
//! It is not a library for tar: it writes what it is told, wrong or right. The crate's own unit tests include this file too.
#![allow(dead_code, missing_docs, unreachable_pub)]

/// One header block, with every field as bytes.
#[derive(Clone)]
pub struct Header(pub [u8; 512]);

impl Header {
    /// A POSIX header of the given type for root, mode 0644, time 1000000000.
    pub fn new(kind: u8, name: impl AsRef<[u8]>) -> Self {
        let mut header = Self([0; 512]);
        header.bytes(0, 100, name.as_ref());
        header.octal(100, 8, if kind == b'5' { 0o755 } else { 0o644 });
        header.octal(108, 8, 0).octal(116, 8, 0).octal(124, 12, 0).octal(136, 12, 1_000_000_000);
        header.0[156] = kind;
        header.bytes(257, 8, b"ustar\x0000");
        header.octal(329, 8, 0).octal(337, 8, 0);
        header
    }

    pub fn bytes(&mut self, start: usize, length: usize, bytes: &[u8]) -> &mut Self {
        assert!(bytes.len() <= length, "{} bytes do not fit a header field", bytes.len());
        self.0[start..start + length].fill(0);
        self.0[start..start + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub fn octal(&mut self, start: usize, length: usize, value: u64) -> &mut Self {
        let text = format!("{value:0width$o}\0", width = length - 1);
        self.bytes(start, length, text.as_bytes())
    }

    pub fn mode(mut self, mode: u64) -> Self {
        self.octal(100, 8, mode);
        self
    }

    pub fn owner(mut self, uid: u64, gid: u64) -> Self {
        self.octal(108, 8, uid).octal(116, 8, gid);
        self
    }

    pub fn size(mut self, size: u64) -> Self {
        self.octal(124, 12, size);
        self
    }

    pub fn mtime(mut self, mtime: u64) -> Self {
        self.octal(136, 12, mtime);
        self
    }

    pub fn link(mut self, target: impl AsRef<[u8]>) -> Self {
        self.bytes(157, 100, target.as_ref());
        self
    }

    pub fn device(mut self, major: u64, minor: u64) -> Self {
        self.octal(329, 8, major).octal(337, 8, minor);
        self
    }

    /// Makes it a GNU header, whose last part has other fields.
    pub fn gnu(mut self) -> Self {
        self.bytes(257, 8, b"ustar  \0");
        self.0[345..].fill(0);
        self
    }

    fn sealed(mut self) -> [u8; 512] {
        self.0[148..156].fill(b' ');
        let sum: u32 = self.0.iter().map(|byte| u32::from(*byte)).sum();
        self.0[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0
    }
}

/// An archive being written.
#[derive(Clone, Default)]
pub struct Tar(pub Vec<u8>);

impl Tar {
    pub fn new() -> Self {
        Self::default()
    }

    /// A header with a right checksum, then `data` padded to blocks. The size field is what the header says.
    pub fn raw(mut self, header: Header, data: &[u8]) -> Self {
        self.0.extend_from_slice(&header.sealed());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn entry(self, header: Header, data: &[u8]) -> Self {
        let header = header.size(data.len() as u64);
        self.raw(header, data)
    }

    pub fn file(self, name: impl AsRef<[u8]>, data: &str) -> Self {
        self.entry(Header::new(b'0', name), data.as_bytes())
    }

    pub fn directory(self, name: impl AsRef<[u8]>) -> Self {
        self.entry(Header::new(b'5', name), b"")
    }

    pub fn symlink(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.entry(Header::new(b'2', name).link(target), b"")
    }

    pub fn hard_link(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.entry(Header::new(b'1', name).link(target), b"")
    }

    /// An `x` header for the next entry.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let content: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        self.entry(Header::new(b'x', "pax"), &content)
    }

    pub fn long_name(self, name: &[u8]) -> Self {
        self.entry(Header::new(b'L', "././@LongLink").gnu(), &[name, b"\0"].concat())
    }

    pub fn long_link(self, name: &[u8]) -> Self {
        self.entry(Header::new(b'K', "././@LongLink").gnu(), &[name, b"\0"].concat())
    }

    pub fn bytes(&self) -> Vec<u8> {
        [&self.0[..], &[0; 1024]].concat()
    }
}

/// One PAX record with its true length.
pub fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}
