//! The text of a case: reading it, the image it describes, and the tree it promises.
//!
//! The form is told in `README.md`.

use crate::common::tar::record;
use crate::common::tree::{self, Node, Tree};
use crate::common::{Blob, GZIP, Header, PLAIN, Tar, ZSTD, gzip};
use keelbox_image_spec::Digest;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

pub struct Case {
    pub name: String,
    pub layers: Vec<Layer>,
    pub outcomes: Vec<Outcome>,
    /// The tools whose outcome is the same.
    pub right: Vec<String>,
    pub wrong: BTreeMap<String, String>,
}

pub struct Layer {
    compression: String,
    media_type: String,
    entries: Vec<Vec<Vec<u8>>>,
}

#[derive(Default)]
pub struct Outcome {
    /// How the image is unpacked.
    pub with: Vec<String>,
    pub result: Promise,
    /// The word a note begins with in the layer's index, and the path of it if it says one.
    pub notes: Vec<(String, Option<String>)>,
}

#[derive(Default)]
pub enum Promise {
    #[default]
    Nothing,
    Tree(Tree),
    Error(String, String),
}

impl Case {
    pub fn parse(name: &str, text: &str) -> Self {
        let mut case =
            Self { name: name.to_owned(), layers: vec![], outcomes: vec![], right: vec![], wrong: BTreeMap::new() };
        let mut with: Vec<String> = Vec::new();
        let mut titled = false;
        for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
            let strings = || words[1..].iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
            match (words[0], line.starts_with(' ')) {
                ("title", false) => titled = words.len() > 1,
                ("layer", false) => case.layers.push(Layer::new(&words[1..])),
                ("with", false) => with = strings(),
                ("tree", false) => case.promise(&mut with, Promise::Tree(Tree::new())),
                ("error", false) => {
                    case.promise(&mut with, Promise::Error(words[1].to_owned(), words[2..].join(" ")));
                }
                ("note", false) => {
                    let outcome = case.outcomes.last_mut().expect("a note follows an outcome");
                    outcome.notes.push((words[1].to_owned(), words.get(2).map(|path| (*path).to_owned())));
                }
                ("right", false) => case.right = strings(),
                ("wrong", false) => drop(case.wrong.insert(words[1].to_owned(), words[2..].join(" "))),
                (_, true) => {
                    let words = words.iter().map(|word| unescape(word)).collect();
                    match case.outcomes.last_mut().map(|outcome| &mut outcome.result) {
                        Some(Promise::Tree(tree)) => expect_node(tree, words),
                        Some(_) => panic!("{name}: an entry below an error"),
                        None => case.layers.last_mut().expect("a layer").entries.push(words),
                    }
                }
                (other, false) => panic!("{name}: unknown word {other}"),
            }
        }
        for outcome in &mut case.outcomes {
            if let Promise::Tree(tree) = &mut outcome.result {
                first_names(tree);
            }
        }
        assert!(titled && !case.layers.is_empty() && !case.outcomes.is_empty(), "{name} is not complete");
        case
    }

    fn promise(&mut self, with: &mut Vec<String>, result: Promise) {
        self.outcomes.push(Outcome { with: std::mem::take(with), result, notes: vec![] });
    }

    pub fn blobs(&self) -> Vec<Blob> {
        self.layers.iter().map(Layer::blob).collect()
    }
}

impl Layer {
    fn new(words: &[&str]) -> Self {
        let compression = words.iter().find(|word| !word.contains('=')).map_or("plain", |word| *word).to_owned();
        let promised = words.iter().find_map(|word| word.strip_prefix("type="));
        let own = if compression == "members" { "gzip" } else { &compression };
        let media_type = promised.unwrap_or(own).to_owned();
        Self { compression, media_type, entries: vec![] }
    }

    fn blob(&self) -> Blob {
        let (mut tar, mut junk) = (Tar::new(), Vec::new());
        for words in &self.entries {
            if words[0] == b"junk" {
                junk = words[1].clone();
                continue;
            }
            tar = write(tar, words);
        }
        let bytes = tar.bytes();
        let content = match &*self.compression {
            "plain" => bytes.clone(),
            "gzip" => gzip(&bytes),
            "members" => bytes.chunks(700).flat_map(gzip).collect(),
            "zstd" => ruzstd::encoding::compress_to_vec(&bytes[..], ruzstd::encoding::CompressionLevel::Fastest),
            other => panic!("unknown compression {other}"),
        };
        let media_type = match &*self.media_type {
            "gzip" => GZIP,
            "zstd" => ZSTD,
            _ => PLAIN,
        };
        Blob { diff_id: Digest::of(&bytes), content: [content, junk].concat(), media_type }
    }
}

/// The options of an entry, as keys and values.
type Options = BTreeMap<String, Vec<u8>>;

/// Splits an entry into what it is, its path, further words, and options.
fn split(words: &[Vec<u8>]) -> (String, Vec<u8>, Vec<Vec<u8>>, Options) {
    let known = ["mode", "owner", "mtime", "fill", "hole", "type", "size"];
    let (mut plain, mut options) = (Vec::new(), Options::new());
    for word in &words[1..] {
        let option = word.iter().position(|byte| *byte == b'=').map(|at| (&word[..at], &word[at + 1..]));
        match option {
            Some((key, value)) if key.starts_with(b"xattr:") || known.iter().any(|known| known.as_bytes() == key) => {
                options.insert(String::from_utf8(key.to_vec()).expect("text"), value.to_vec());
            }
            _ => plain.push(word.clone()),
        }
    }
    let kind = String::from_utf8(words[0].clone()).expect("text");
    let path = if plain.is_empty() { Vec::new() } else { plain.remove(0) };
    (kind, path, plain, options)
}

fn text<'o>(options: &'o Options, key: &str) -> Option<&'o str> {
    options.get(key).map(|value| std::str::from_utf8(value).expect("text"))
}

fn pair<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str, between: char) -> (T, T) {
    let (left, right) = text.split_once(between).expect("two numbers");
    (left.parse().expect("a number"), right.parse().expect("a number"))
}

fn mode(options: &Options, kind: &str) -> u32 {
    let default = match kind {
        "dir" | "root" => 0o755,
        "link" => 0o777,
        _ => 0o644,
    };
    text(options, "mode").map_or(default, |mode| u32::from_str_radix(mode, 8).expect("octal"))
}

/// What a file stores, and its size and where that lies if it has holes.
fn content(plain: &[Vec<u8>], options: &Options) -> (Vec<u8>, Option<(u64, u64)>) {
    let stored = match text(options, "fill") {
        Some(count) => vec![b'x'; count.parse().expect("a number")],
        None => plain.first().cloned().unwrap_or_default(),
    };
    (stored, text(options, "hole").map(|hole| pair(hole, '@')))
}

/// The records of an extended header, given as `KEY=VALUE`.
fn header_records(words: &[Vec<u8>]) -> Vec<u8> {
    let one = |word: &Vec<u8>| {
        let at = word.iter().position(|byte| *byte == b'=').expect("a value");
        record(std::str::from_utf8(&word[..at]).expect("text"), &word[at + 1..])
    };
    words.iter().flat_map(one).collect()
}

fn letter(kind: &str) -> u8 {
    match kind {
        "file" => b'0',
        "hard" => b'1',
        "link" => b'2',
        "char" => b'3',
        "block" => b'4',
        "dir" => b'5',
        "fifo" => b'6',
        other => panic!("unknown entry {other}"),
    }
}

/// Adds one entry to an archive.
fn write(tar: Tar, words: &[Vec<u8>]) -> Tar {
    let (kind, path, plain, options) = split(words);
    if matches!(&*kind, "pax" | "global") {
        return tar.entry(Header::new(if kind == "pax" { b'x' } else { b'g' }, "pax"), &header_records(&words[1..]));
    }
    let letter = letter(&kind);
    let mut records: Vec<(String, Vec<u8>)> = Vec::new();
    let short = if path.len() > 100 { b"long".to_vec() } else { path.clone() };
    if short != path {
        records.push(("path".into(), path));
    }
    let (mut data, hole) = if kind == "file" { content(&plain, &options) } else { (Vec::new(), None) };
    if let Some((size, offset)) = hole {
        let name = String::from_utf8(short.clone()).expect("text");
        for (key, value) in [("major", "1"), ("minor", "0"), ("name", &name), ("realsize", &size.to_string())] {
            records.push((format!("GNU.sparse.{key}"), value.as_bytes().to_vec()));
        }
        let mut map = format!("1\n{offset}\n{}\n", data.len()).into_bytes();
        map.resize(512, 0);
        data = [map, data].concat();
    }
    let mut header = Header::new(text(&options, "type").map_or(letter, |letter| letter.as_bytes()[0]), &short);
    header = header.mode(mode(&options, &kind).into());
    if let Some(time) = text(&options, "mtime") {
        // What eleven octal digits cannot say is a record.
        match time.parse::<u64>() {
            Ok(seconds) if seconds < 1 << 33 => header = header.mtime(seconds),
            _ => records.push(("mtime".into(), time.into())),
        }
    }
    if let Some(owner) = text(&options, "owner") {
        let (uid, gid) = pair(owner, ':');
        header = header.owner(uid, gid);
    }
    match &*kind {
        "hard" | "link" => header = header.link(&plain[0]),
        "char" | "block" => {
            let (major, minor) = pair(std::str::from_utf8(&plain[0]).expect("text"), ',');
            header = header.device(major, minor);
        }
        _ => {}
    }
    for (key, value) in &options {
        if let Some(name) = key.strip_prefix("xattr:") {
            records.push((format!("SCHILY.xattr.{name}"), value.clone()));
        }
    }
    let records: Vec<(&str, &[u8])> = records.iter().map(|(key, value)| (&**key, &**value)).collect();
    let tar = if records.is_empty() { tar } else { tar.pax(&records) };
    match text(&options, "size") {
        Some(size) => tar.raw(header.size(size.parse().expect("a number")), &data),
        None => tar.entry(header, &data),
    }
}

/// Adds one entry to a promised tree.
fn expect_node(tree: &mut Tree, words: Vec<Vec<u8>>) {
    let (kind, path, plain, options) = split(&words);
    let path = PathBuf::from(OsString::from_vec(path));
    if kind == "hard" {
        let first = PathBuf::from(OsString::from_vec(plain[0].clone()));
        let target = tree.get_mut(&first).expect("the first name of a file comes first");
        target.same = Some(first.clone());
        let again = target.clone();
        tree.insert(path, again);
        return;
    }
    let (stored, hole) = content(&plain, &options);
    let numbers = || String::from_utf8(plain[0].clone()).expect("text");
    let (letter, content) = match &*kind {
        "dir" | "root" => ('d', String::new()),
        "file" => {
            let mut all = vec![0; hole.map_or(stored.len(), |(size, _)| size as usize)];
            let start = hole.map_or(0, |(_, offset)| offset as usize);
            all[start..start + stored.len()].copy_from_slice(&stored);
            ('f', tree::content_of(&all))
        }
        "link" => ('l', plain[0].escape_ascii().to_string()),
        "char" => ('c', numbers()),
        "block" => ('b', numbers()),
        "fifo" => ('p', String::new()),
        other => panic!("unknown entry {other}"),
    };
    let xattrs = options.iter().filter_map(|(key, value)| Some((key.strip_prefix("xattr:")?.into(), value.clone())));
    let data = hole.map(|(_, offset)| (offset as i64, offset as i64 + stored.len() as i64));
    let node = Node {
        kind: letter,
        mode: mode(&options, &kind),
        owner: text(&options, "owner").map_or((0, 0), |owner| pair(owner, ':')),
        mtime: time(text(&options, "mtime").unwrap_or("1000000000")),
        content,
        xattrs: xattrs.collect(),
        same: None,
        data: data.into_iter().collect(),
    };
    tree.insert(path, node);
}

/// Of the names of a file the first counts in sorted order, whichever the case says first.
fn first_names(tree: &mut Tree) {
    let mut first: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    for (path, node) in &*tree {
        if let Some(same) = &node.same {
            first.entry(same.clone()).or_insert_with(|| path.clone());
        }
    }
    for node in tree.values_mut() {
        node.same = node.same.take().map(|same| first[&same].clone());
    }
}

/// Seconds and nanoseconds, which count forward also before 1970.
fn time(text: &str) -> (i64, i64) {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let seconds: i64 = seconds.parse().expect("a number");
    let fraction: i64 = format!("{fraction:0<9}").parse().expect("a number");
    if text.starts_with('-') && fraction > 0 { (seconds - 1, 1_000_000_000 - fraction) } else { (seconds, fraction) }
}

fn unescape(word: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), word.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (first, after.first()) {
            (b'\\', Some(b'n')) => (bytes.push(b'\n'), rest = &after[1..]).0,
            (b'\\', Some(b's')) => (bytes.push(b' '), rest = &after[1..]).0,
            (b'\\', Some(b'x')) => {
                let digits = std::str::from_utf8(&after[1..3]).expect("two digits");
                bytes.push(u8::from_str_radix(digits, 16).expect("hexadecimal"));
                rest = &after[3..];
            }
            (other, _) => bytes.push(*other),
        }
    }
    bytes
}
