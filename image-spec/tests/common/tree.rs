//! Everything about a tree of files, as text that does not depend on when, where and in which order it was made.
//!
//! One line for each path, sorted: type, mode, owner, time, content, device, attributes, the first name of a file with
//! several, and where a file has data. The digest of a tree is that of the text.
#![allow(dead_code, missing_docs, unreachable_pub)]

use keelbox_launch::sys::xattr;
use nix::unistd::{Whence, lseek};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::ffi::CString;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// One path of a tree.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Node {
    /// As `find -type` writes it.
    pub kind: char,
    pub mode: u32,
    pub owner: (u32, u32),
    pub mtime: (i64, i64),
    /// Size and digest of a file, target of a link, numbers of a device.
    pub content: String,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first path of the same inode, if that has several.
    pub same: Option<PathBuf>,
    /// Where a file has data, if it has holes.
    pub data: Vec<(i64, i64)>,
}

pub type Tree = BTreeMap<PathBuf, Node>;

/// The tree below `top`, which itself is the empty path.
pub fn of(top: &Path) -> Tree {
    let mut places = vec![(PathBuf::new(), top.to_owned())];
    let mut pending = places.clone();
    while let Some((path, place)) = pending.pop() {
        for entry in fs::read_dir(&place).expect("a directory that can be listed") {
            let entry = entry.expect("an entry");
            let below = (path.join(entry.file_name()), entry.path());
            if entry.file_type().expect("a type").is_dir() {
                pending.push(below.clone());
            }
            places.push(below);
        }
    }
    read(places)
}

/// A tree whose paths lie at places of their own, such as the layers of an image.
pub fn read(places: impl IntoIterator<Item = (PathBuf, PathBuf)>) -> Tree {
    let places: BTreeMap<PathBuf, PathBuf> = places.into_iter().collect();
    let mut names: HashMap<(u64, u64), Vec<PathBuf>> = HashMap::new();
    let mut tree = Tree::new();
    for (path, place) in places {
        let metadata = fs::symlink_metadata(&place).expect("stat");
        if !metadata.is_dir() && metadata.nlink() > 1 {
            names.entry((metadata.dev(), metadata.ino())).or_default().push(path.clone());
        }
        tree.insert(path, node(&place, &metadata));
    }
    for group in names.into_values().filter(|group| group.len() > 1) {
        for path in &group {
            if let Some(node) = tree.get_mut(path) {
                node.same = Some(group[0].clone());
            }
        }
    }
    tree
}

fn node(place: &Path, metadata: &fs::Metadata) -> Node {
    let kind = metadata.file_type();
    let device = || format!("{},{}", nix::sys::stat::major(metadata.rdev()), nix::sys::stat::minor(metadata.rdev()));
    let (letter, content) = if kind.is_dir() {
        ('d', String::new())
    } else if kind.is_symlink() {
        let target = fs::read_link(place).expect("readlink");
        ('l', target.as_os_str().as_bytes().escape_ascii().to_string())
    } else if kind.is_char_device() {
        ('c', device())
    } else if kind.is_block_device() {
        ('b', device())
    } else if kind.is_fifo() {
        ('p', String::new())
    } else if kind.is_file() {
        ('f', File::open(place).map_or_else(|error| format!("{} bytes: {error}", metadata.len()), content))
    } else {
        ('s', String::new())
    };
    Node {
        kind: letter,
        mode: metadata.mode() & 0o7777,
        owner: (metadata.uid(), metadata.gid()),
        mtime: (metadata.mtime(), metadata.mtime_nsec()),
        content,
        xattrs: xattrs(place),
        same: None,
        data: if letter == 'f' { extents(place, metadata.len()) } else { Vec::new() },
    }
}

fn content(mut file: File) -> String {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = file.read(&mut buffer).expect("a readable file");
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
    }
    bytes_content(file.metadata().expect("stat").len(), &hasher.finalize())
}

fn bytes_content(size: u64, digest: &[u8]) -> String {
    let mut text = format!("{size}:");
    digest.iter().take(16).for_each(|byte| write!(text, "{byte:02x}").expect("to memory"));
    text
}

/// What [`Node::content`] is for a file of these bytes.
pub fn content_of(bytes: &[u8]) -> String {
    bytes_content(bytes.len() as u64, &Sha256::digest(bytes))
}

/// All attributes but those that overlayfs keeps for itself.
fn xattrs(place: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let path = CString::new(place.as_os_str().as_bytes()).expect("no NUL");
    let mut names = vec![0; 64 << 10];
    let length = xattr::llistxattr(&path, &mut names).unwrap_or(0);
    let mut all = BTreeMap::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 64 << 10];
        let own = name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
        if let (false, Ok(length)) =
            (own, xattr::lgetxattr(&path, &CString::new(name).expect("no NUL inside"), &mut value))
        {
            value.truncate(length);
            all.insert(name.to_vec(), value);
        }
    }
    all
}

/// Start and end of each piece of data; nothing for a file without holes.
fn extents(place: &Path, size: u64) -> Vec<(i64, i64)> {
    let Ok(file) = File::open(place) else { return Vec::new() };
    let (size, mut at, mut all) = (size as i64, 0, Vec::new());
    while let Ok(start) = lseek(&file, at, Whence::SeekData) {
        at = lseek(&file, start, Whence::SeekHole).expect("every file ends in a hole");
        all.push((start, at));
    }
    if all == [(0, size)] { Vec::new() } else { all }
}

impl Node {
    pub fn line(&self) -> String {
        let Node { kind, mode, owner: (uid, gid), mtime: (seconds, nanoseconds), content, .. } = self;
        let mut line = format!("{kind} {mode:04o} {uid}:{gid} {seconds}.{nanoseconds:09} {content}");
        for (name, value) in &self.xattrs {
            write!(line, " {}={}", name.escape_ascii(), value.escape_ascii()).expect("to memory");
        }
        if let Some(same) = &self.same {
            write!(line, " same={}", same.as_os_str().as_bytes().escape_ascii()).expect("to memory");
        }
        if !self.data.is_empty() {
            write!(line, " data={:?}", self.data).expect("to memory");
        }
        line
    }
}

/// The whole tree, a line for each path.
pub fn text(tree: &Tree) -> String {
    let shown = |path: &Path| match path.as_os_str().as_bytes() {
        b"" => ".".to_owned(),
        bytes => bytes.escape_ascii().to_string().replace(' ', "\\x20"),
    };
    tree.iter().fold(String::new(), |text, (path, node)| text + &shown(path) + " " + &node.line() + "\n")
}

/// One line for the whole tree.
pub fn digest(tree: &Tree) -> String {
    let mut all = String::new();
    Sha256::digest(text(tree)).iter().for_each(|byte| write!(all, "{byte:02x}").expect("to memory"));
    all
}
