//! What a layer, or several merged into one, consists of.
//!
//! Job: an ordered map from paths to what is there, and the rules of image-spec `layer.md` for putting a further layer on
//! top: whiteouts and opaque markers act on what came before, a directory that takes something's place hides what lies
//! below it, hard links share a file. Nothing is on disk. Leaves out where entries come from and how they are written.

use super::content::Content;
use super::way::Way;
use crate::tar::{EntryKind, Time};
use crate::unpack::tree::{Name, Xattr};
use crate::{Error, Result};
use std::collections::BTreeMap;

/// A path as its components with a NUL byte after each but the last, so that everything in a directory follows it directly and
/// names are in the order of their bytes. The root is empty.
pub(crate) type Key = Vec<u8>;

/// The key of these components.
pub(crate) fn key<Part: AsRef<[u8]>>(components: &[Part]) -> Key {
    let parts: Vec<&[u8]> = components.iter().map(AsRef::as_ref).collect();
    parts.join(&0)
}

/// The path that a key stands for.
pub(crate) fn path(key: &[u8]) -> Vec<u8> {
    key.iter().map(|byte| if *byte == 0 { b'/' } else { *byte }).collect()
}

pub(super) fn join(parent: &[u8], name: &[u8]) -> Key {
    if parent.is_empty() { name.to_vec() } else { [parent, name].join(&0) }
}

/// Everything about a file but its content.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Attributes {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    pub(crate) xattrs: Vec<Xattr>,
}

impl Attributes {
    /// Those of a directory that nobody has described.
    pub(crate) fn plain_directory() -> Self {
        Self { mode: 0o755, ..Self::default() }
    }
}

/// What a file that is no directory is.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    File(Content),
    Symlink(Vec<u8>),
    /// A FIFO or a device.
    Node {
        kind: EntryKind,
        major: u32,
        minor: u32,
    },
}

/// A file that has one name or several.
#[derive(Clone, Debug)]
pub(crate) struct Inode {
    pub(crate) attributes: Attributes,
    pub(crate) body: Body,
}

/// What a path is.
#[derive(Clone, Debug)]
pub(crate) enum What {
    Directory {
        /// `None` for one that is only there because something lies in it.
        attributes: Option<Attributes>,
        /// Whether it hides what lies below it.
        opaque: bool,
    },
    /// The number of an inode.
    File(usize),
    /// Deleted from what lies below.
    Whiteout,
    /// A hard link to a file that only the layers below can have.
    Link(Key),
}

#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// The layer that said so.
    layer: u32,
    pub(crate) what: What,
}

/// The merged content of layers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    items: BTreeMap<Key, Item>,
    inodes: Vec<Inode>,
    layer: u32,
    /// Hard links of the current layer whose target has not come yet.
    pending: Vec<(Key, Vec<Name>)>,
}

impl Tree {
    /// Everything in order: each directory before what lies in it. The root is only there if somebody described it.
    pub(crate) fn items(&self) -> impl Iterator<Item = (&Key, &What)> {
        self.items.iter().map(|(key, item)| (key, &item.what))
    }

    pub(crate) fn inode(&self, number: usize) -> &Inode {
        &self.inodes[number]
    }

    pub(crate) fn what(&self, key: &[u8]) -> Option<&What> {
        self.items.get(key).map(|item| &item.what)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The attributes of a directory, if it is one that somebody described.
    pub(crate) fn directory(&self, key: &[u8]) -> Option<&Attributes> {
        match self.what(key) {
            Some(What::Directory { attributes, .. }) => attributes.as_ref(),
            _ => None,
        }
    }

    pub(crate) fn add_inode(&mut self, inode: Inode) -> usize {
        self.inodes.push(inode);
        self.inodes.len() - 1
    }

    /// What comes now belongs to the next layer.
    pub(crate) fn next_layer(&mut self) -> Result<()> {
        self.link_pending()?;
        self.layer += 1;
        Ok(())
    }

    fn set(&mut self, key: Key, what: What) {
        self.items.insert(key, Item { layer: self.layer, what });
    }

    /// The keys of everything in a directory.
    pub(super) fn inside(&self, key: &[u8]) -> Vec<Key> {
        if key.is_empty() {
            return self.items.keys().filter(|key| !key.is_empty()).cloned().collect();
        }
        let (first, end) = ([key, b"\0"].concat(), [key, b"\x01"].concat());
        self.items.range(first..end).map(|(key, _)| key.clone()).collect()
    }

    /// Takes everything out of a directory.
    fn clear(&mut self, key: &[u8]) {
        for inside in self.inside(key) {
            self.items.remove(&inside);
        }
    }

    /// Takes what earlier layers said out of a directory.
    fn clear_older(&mut self, key: &[u8]) {
        for inside in self.inside(key).into_iter().rev() {
            let older = self.items.get(&inside).is_some_and(|item| item.layer < self.layer);
            if !older {
                continue;
            }
            // What lies deeper has been looked at before.
            let next = self.items.range([&inside[..], b"\0"].concat()..[&inside[..], b"\x01"].concat()).next();
            if next.is_some() {
                self.set(inside, What::Directory { attributes: None, opaque: false });
            } else {
                self.items.remove(&inside);
            }
        }
    }

    /// Puts a file at a path, in the place of what was there.
    pub(crate) fn file(&mut self, key: Key, inode: usize) {
        self.clear(&key);
        self.set(key, What::File(inode));
    }

    /// Puts a directory at a path. One that is there merges with it; in the place of anything else it hides what lies below.
    pub(crate) fn describe(&mut self, key: Key, attributes: Option<Attributes>) {
        let what = match self.items.get(&key).map(|item| &item.what) {
            Some(What::Directory { attributes: old, opaque }) => {
                What::Directory { attributes: attributes.or_else(|| old.clone()), opaque: *opaque }
            }
            other => What::Directory { attributes, opaque: other.is_some() },
        };
        self.set(key, what);
    }

    /// Deletes a path of what lies below.
    pub(crate) fn whiteout(&mut self, key: Key) {
        match self.items.get(&key) {
            Some(Item { layer, what: What::File(_) | What::Link(_) }) if *layer == self.layer => return,
            Some(Item { what: What::Directory { attributes, .. }, layer }) => {
                let described = *layer == self.layer && attributes.is_some();
                let kept = attributes.clone().filter(|_| described);
                self.clear_older(&key);
                // Nothing but deletions inside is contained in the deletion of the whole.
                let bare = self.inside(&key).iter().all(|inside| matches!(self.items[inside].what, What::Whiteout))
                    && !described;
                if !bare {
                    return self.set(key, What::Directory { attributes: kept, opaque: true });
                }
                self.clear(&key);
            }
            _ => {}
        }
        self.set(key, What::Whiteout);
    }

    /// Makes a directory hide what lies below it.
    pub(crate) fn opaque(&mut self, key: &Key) {
        self.clear_older(key);
        match self.items.get_mut(key) {
            Some(Item { what: What::Directory { opaque, .. }, .. }) => *opaque = true,
            _ => self.set(key.clone(), What::Directory { attributes: None, opaque: true }),
        }
    }

    /// The directory that these components lead to, through links of this tree and of `below`, made where it is missing.
    pub(crate) fn parent<Part: AsRef<[u8]>>(&mut self, components: &[Part], below: Option<&Tree>) -> Result<Key> {
        let mut way = Way::along(components);
        while let Some(child) = way.next() {
            if let Some(target) = self.link_at(&child, below) {
                if !way.follow(&target) {
                    return Err(Error::format("a path through more than 40 symbolic links"));
                }
                continue;
            }
            if !matches!(self.what(&child), Some(What::Directory { .. })) {
                let hides = self.what(&child).is_some();
                self.set(child.clone(), What::Directory { attributes: None, opaque: hides });
            }
            way.enter(child);
        }
        Ok(way.end())
    }

    /// The target of the symbolic link at a path, if there is one.
    pub(super) fn link_at(&self, key: &[u8], below: Option<&Tree>) -> Option<Vec<u8>> {
        match (self.what(key), below) {
            (Some(What::File(inode)), _) => match &self.inodes[*inode].body {
                Body::Symlink(target) => Some(target.clone()),
                _ => None,
            },
            (None, Some(below)) => below.link_at(key, None),
            _ => None,
        }
    }

    /// A further name for a file, which may come later in this layer.
    pub(crate) fn hard_link(&mut self, key: Key, target: Vec<Name>) {
        match self.find(&target) {
            Some(inode) => self.file(key, inode),
            None => {
                self.pending.push((key.clone(), target.clone()));
                self.clear(&key);
                self.set(key, What::Link(self::key(&target)));
            }
        }
    }

    fn link_pending(&mut self) -> Result<()> {
        let mut pending = std::mem::take(&mut self.pending);
        loop {
            let before = pending.len();
            let mut left = Vec::new();
            for (key, target) in pending {
                match self.find(&target) {
                    Some(inode) if matches!(self.what(&key), Some(What::Link(_))) => self.set(key, What::File(inode)),
                    Some(_) => {}
                    None => left.push((key, target)),
                }
            }
            // A link to a link that waits as well is found in a further round.
            if left.is_empty() || left.len() == before {
                return Ok(());
            }
            pending = left;
        }
    }

    /// The file that these components lead to, through links in this tree but not through one at the end.
    fn find(&self, components: &[Name]) -> Option<usize> {
        match self.what(&self.walk(components, false)?) {
            Some(What::File(inode)) => Some(*inode),
            _ => None,
        }
    }

    /// Ends the last layer. `bottom`: nothing lies below, so there is nothing to delete or to hide, and no file to link to.
    pub(crate) fn finish(&mut self, bottom: bool) -> Result<()> {
        self.link_pending()?;
        if !bottom {
            return Ok(());
        }
        let lost = self.items().find_map(|(key, what)| match what {
            What::Link(target) => Some((key, target)),
            _ => None,
        });
        if let Some((key, target)) = lost {
            let (key, target) = (path(key), path(target));
            return Err(Error::format(format!(
                "entry {}: a hard link to {}, which is not there",
                key.escape_ascii(),
                target.escape_ascii()
            )));
        }
        self.items.retain(|_, item| !matches!(item.what, What::Whiteout));
        for item in self.items.values_mut() {
            if let What::Directory { attributes, opaque } = &mut item.what {
                *opaque = false;
                attributes.get_or_insert_with(Attributes::plain_directory);
            }
        }
        Ok(())
    }

    /// Refuses what cannot be said about layers below: a link to a file of theirs that this tree deletes as well.
    pub(crate) fn check_links(&self) -> Result<()> {
        for (key, what) in self.items() {
            let What::Link(target) = what else { continue };
            if self.hides(target) {
                let (key, target) = (path(key), path(target));
                return Err(Error::unsupported(format!(
                    "entry {}: a hard link to {}, which the layers below have and this one deletes",
                    key.escape_ascii(),
                    target.escape_ascii()
                )));
            }
        }
        Ok(())
    }

    /// Whether what the layers below have at a path is not seen any more.
    fn hides(&self, key: &[u8]) -> bool {
        let ends = key.iter().enumerate().filter(|(_, byte)| **byte == 0).map(|(index, _)| index);
        let parents = ends.map(|end| &key[..end]);
        parents.chain([key]).any(|part| match self.what(part) {
            None => false,
            Some(What::Directory { opaque, .. }) => *opaque,
            Some(_) => true,
        })
    }

    /// Gives directories that nobody has described the attributes that they have in `below`; ordinary ones where it has none.
    pub(crate) fn describe_from(&mut self, below: &Tree) {
        for (key, item) in &mut self.items {
            if let What::Directory { attributes: attributes @ None, opaque: false } = &mut item.what {
                *attributes = Some(below.directory(key).cloned().unwrap_or_else(Attributes::plain_directory));
            }
        }
    }

    /// Puts everything of another tree on top, as part of the same layer.
    pub(crate) fn append(&mut self, other: Self) -> Result<()> {
        let offset = self.inodes.len();
        self.inodes.extend(other.inodes);
        for (key, item) in other.items {
            match item.what {
                What::Directory { attributes, opaque } => {
                    self.describe(key.clone(), attributes);
                    if opaque {
                        self.opaque(&key);
                    }
                }
                What::File(inode) => self.file(key, inode + offset),
                What::Whiteout => self.whiteout(key),
                What::Link(target) => {
                    let target = target.split(|byte| *byte == 0).map(Name::from).collect();
                    self.hard_link(key, target);
                }
            }
        }
        self.link_pending()
    }

    /// The same as far as it is of interest to layers above.
    pub(crate) fn without_contents(mut self) -> Self {
        for inode in &mut self.inodes {
            if let Body::File(content) = &mut inode.body {
                *content = Content::Unread;
            }
        }
        self
    }

    /// Changes the attributes of everything.
    pub(crate) fn each_attributes(&mut self, mut change: impl FnMut(&mut Attributes)) {
        self.inodes.iter_mut().for_each(|inode| change(&mut inode.attributes));
        for item in self.items.values_mut() {
            if let What::Directory { attributes: Some(attributes), .. } = &mut item.what {
                change(attributes);
            }
        }
    }
}
