//! A tree becomes a tar archive.
//!
//! Job: one byte stream for one tree: entries in the order of their names' bytes, each directory before what lies in it, a
//! file with several names under the first of them, times no later than the epoch, whiteouts without anything of their own.
//! Leaves out compression and where the bytes go.

use super::header::{self, BLOCK, Entry};
use super::tree::{Attributes, Body, Inode, Key, Tree, What, path};
use crate::tar::{EntryKind, Time};
use crate::{Error, Result};
use std::collections::HashMap;

/// Where the bytes of an archive go.
pub(crate) type Sink<'s> = &'s mut dyn FnMut(&[u8]) -> Result<()>;

/// Writes all of `tree`. `epoch`: the latest time of an entry, in seconds since 1970.
pub(crate) fn write(tree: &Tree, epoch: Option<i64>, sink: Sink<'_>) -> Result<()> {
    let mut writer = Writer { tree, epoch, sink, first: HashMap::new() };
    for (key, what) in tree.items() {
        let place = |error: Error| error.within(format_args!("entry {}", path(key).escape_ascii()));
        writer.item(key, what).map_err(place)?;
    }
    // The end of an archive is two blocks of zeros.
    (writer.sink)(&[0; 2 * BLOCK])
}

struct Writer<'t, 's> {
    tree: &'t Tree,
    epoch: Option<i64>,
    sink: Sink<'s>,
    /// The first name of each file that has been written.
    first: HashMap<usize, Vec<u8>>,
}

impl Writer<'_, '_> {
    fn item(&mut self, key: &Key, what: &What) -> Result<()> {
        let name = path(key);
        match what {
            What::Directory { attributes, opaque } => {
                if let Some(attributes) = attributes {
                    let name = if name.is_empty() { b"./".to_vec() } else { [&name[..], b"/"].concat() };
                    self.header(Entry::new(&name, b'5', attributes))?;
                }
                if *opaque {
                    let marker = if name.is_empty() { Vec::new() } else { [&name[..], b"/"].concat() };
                    self.empty(&[&marker[..], b".wh..wh..opq"].concat(), b'0', b"")?;
                }
                Ok(())
            }
            What::Whiteout => {
                let split = name.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
                self.empty(&[&name[..split], b".wh.", &name[split..]].concat(), b'0', b"")
            }
            What::Link(target) => self.empty(&name, b'1', &path(target)),
            What::File(number) => match self.first.get(number) {
                Some(first) => {
                    let (first, attributes) = (first.clone(), &self.tree.inode(*number).attributes);
                    let attributes = Attributes { xattrs: Vec::new(), ..attributes.clone() };
                    self.header(Entry { link: &first, ..Entry::new(&name, b'1', &attributes) })
                }
                None => {
                    self.first.insert(*number, name.clone());
                    self.inode(&name, self.tree.inode(*number))
                }
            },
        }
    }

    fn inode(&mut self, name: &[u8], inode: &Inode) -> Result<()> {
        // A name that begins so would be taken for a mark and never come out again.
        if name.rsplit(|byte| *byte == b'/').next().is_some_and(|leaf| leaf.starts_with(b".wh.")) {
            return Err(Error::unsupported("a file whose name begins with .wh. would mean a deletion"));
        }
        let attributes = &inode.attributes;
        match &inode.body {
            Body::Symlink(target) => {
                let attributes = Attributes { mode: 0o777, ..attributes.clone() };
                self.header(Entry { link: target, ..Entry::new(name, b'2', &attributes) })
            }
            Body::Node { kind, major, minor } => {
                let flag = match kind {
                    EntryKind::CharDevice => b'3',
                    EntryKind::BlockDevice => b'4',
                    _ => b'6',
                };
                self.header(Entry { device: (*major, *minor), ..Entry::new(name, flag, attributes) })
            }
            Body::File(content) => {
                let opened = content.open()?;
                let map = opened.regions.as_deref().map(header::sparse_map).unwrap_or_default();
                let stored = opened.stored() + map.len() as u64;
                let sparse = opened.regions.is_some().then_some(opened.size);
                self.header(Entry { stored, sparse, ..Entry::new(name, b'0', attributes) })?;
                (self.sink)(&map)?;
                opened.copy(&mut *self.sink)?;
                let padding = stored.next_multiple_of(BLOCK as u64) - stored;
                (self.sink)(&[0; BLOCK][..usize::try_from(padding).unwrap_or(0)])
            }
        }
    }

    /// An entry without anything of its own.
    fn empty(&mut self, name: &[u8], kind: u8, link: &[u8]) -> Result<()> {
        self.header(Entry { link, ..Entry::new(name, kind, &Attributes::default()) })
    }

    /// An entry's header, its time no later than the epoch.
    fn header(&mut self, entry: Entry<'_>) -> Result<()> {
        let clamped;
        let attributes = match self.epoch {
            Some(epoch) if after(entry.attributes.mtime, epoch) => {
                let mtime = Time { seconds: epoch, nanoseconds: 0 };
                clamped = Attributes { mtime, ..entry.attributes.clone() };
                &clamped
            }
            _ => entry.attributes,
        };
        (self.sink)(&header::render(&Entry { attributes, ..entry })?)
    }
}

fn after(time: Time, epoch: i64) -> bool {
    time.seconds > epoch || (time.seconds == epoch && time.nanoseconds > 0)
}
