//! The parts of a changeset become one tree.
//!
//! Job: put one part after another into a tree that knows what lies below, and give owners and modes. Leaves out finding the
//! files of a part (`walk.rs`, `archive.rs`, `difference.rs`).

use super::content::Content;
use super::tree::{Attributes, Body, Inode, Key, Tree, What, join};
use super::walk::{Manner, Walk, attributes, open_place, read_xattrs};
use super::{Changeset, IdRange, Owner, Part, Pick, archive, difference};
use crate::digest::Hasher;
use crate::error::Attempt;
use crate::files::{self, file_type};
use crate::spool::Spool;
use crate::unpack::tree::clean;
use crate::{Algorithm, Digest, Error, Image, Limits, Result, Store};
use nix::sys::stat::SFlag;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

impl Changeset {
    /// Whether where entries go depends on what lies below.
    pub(crate) fn needs_below(&self) -> bool {
        // An upper directory has everything that something of it lies in.
        self.parts.iter().any(|part| !matches!(part, Part::Upper { .. } | Part::Difference { .. }))
    }

    /// All parts in one tree, to lie on `below`.
    pub(crate) fn tree(&self, below: &Tree, store: &Store, limits: &Limits) -> Result<Tree> {
        let mut tree = Tree::default();
        let mut images = Images::default();
        for part in &self.parts {
            let mut own = Tree::default();
            put(part, &mut own, below, store, limits, &mut images)?;
            own.finish(false)?;
            self.own(part, &mut own)?;
            if self.parts.len() == 1 {
                tree = own;
            } else {
                tree.append(own)?;
            }
        }
        tree.describe_from(below);
        tree.check_links()?;
        Ok(tree)
    }

    /// The digest of the content, whatever times it has and whatever lies below: for telling whether anything changed.
    ///
    /// # Errors
    /// As [`Edit::commit`](crate::Edit::commit).
    pub fn digest(&self, store: &Store) -> Result<Digest> {
        let tree = self.tree(&Tree::default(), store, &Limits::default())?;
        let mut hasher = Hasher::new(Algorithm::Sha256);
        super::write(&tree, Some(0), &mut |bytes| {
            hasher.update(bytes);
            Ok(())
        })?;
        Ok(hasher.finish())
    }

    fn own(&self, part: &Part, tree: &mut Tree) -> Result<()> {
        let copied = match part {
            Part::Directory { .. }
            | Part::File { .. }
            | Part::Bytes { .. }
            | Part::Made { .. }
            | Part::Image { .. } => true,
            Part::Removed { .. } | Part::Archive { .. } | Part::Upper { .. } | Part::Difference { .. } => false,
        };
        let owner = self.owner.unwrap_or(if copied { Owner::Fixed(0, 0) } else { Owner::Kept });
        let mut lost = None;
        tree.each_attributes(|attributes| {
            match owner {
                Owner::Fixed(uid, gid) => (attributes.uid, attributes.gid) = (uid, gid),
                Owner::Kept => {
                    for (id, group) in [(&mut attributes.uid, false), (&mut attributes.gid, true)] {
                        match inside(&self.ids, *id, group) {
                            Some(inside) => *id = inside,
                            None => lost = Some((*id, group)),
                        }
                    }
                }
            }
            if let Some(mode) = self.mode.filter(|_| copied) {
                attributes.mode = mode & 0o7777;
            }
        });
        match lost {
            None => Ok(()),
            Some((id, group)) => {
                let what = if group { "group" } else { "user" };
                Err(Error::unsupported(format!("cannot say which {what} of the image {what} {id} is")))
            }
        }
    }
}

/// An id in the image; `None` if there are ranges and none has it.
fn inside(ranges: &[IdRange], id: u32, group: bool) -> Option<u32> {
    let mut own = ranges.iter().filter(|range| range.group == group).peekable();
    if own.peek().is_none() {
        return Some(id);
    }
    own.find_map(|range| {
        id.checked_sub(range.outside).filter(|offset| *offset < range.count)?.checked_add(range.inside)
    })
}

/// Other images as trees, each made when something of it is first asked for: sources of one changeset are often of one image.
#[derive(Default)]
struct Images(HashMap<Digest, Vec<(Limits, Tree)>>);

impl Images {
    /// All of an image, within its own limits.
    fn whole(&mut self, image: &Image, store: &Store) -> Result<&Tree> {
        let known = self.0.entry(image.manifest_digest().clone()).or_default();
        let index = match known.iter().position(|(limits, _)| limits == image.limits()) {
            Some(index) => index,
            None => {
                known.push((*image.limits(), read(image, store)?));
                known.len() - 1
            }
        };
        Ok(&known[index].1)
    }
}

/// Reads all layers of an image into one tree.
fn read(image: &Image, store: &Store) -> Result<Tree> {
    let (mut all, limits) = (Tree::default(), image.limits());
    for layer in image.layers() {
        let spool = Spool::of_layer(store, layer, image.blob(layer)?, limits)?;
        all.next_layer()?;
        spool.entries(limits, |tar, file| archive::read(&mut all, None, tar, Some(file), limits))?;
    }
    all.finish(true)?;
    Ok(all)
}

fn put(part: &Part, tree: &mut Tree, below: &Tree, store: &Store, limits: &Limits, images: &mut Images) -> Result<()> {
    match part {
        Part::Directory { source, target, pick } => {
            let target = directory(tree, below, target)?;
            let pick = pick.as_ref().map(|pick| &**pick as &dyn Fn(&Path) -> Pick);
            walk(source, Manner::Files, target, Some(below), pick)?.run(tree)
        }
        Part::Upper { source } => walk(source, Manner::Upper, Key::new(), None, None)?.run(tree),
        Part::File { source, below: file, target } => copy_file(source, file, target, tree, below),
        Part::Bytes { target, content, mode } => {
            let at = leaf(tree, below, target)?;
            let attributes = Attributes { mode: *mode & 0o7777, ..Attributes::default() };
            let inode = tree.add_inode(Inode { attributes, body: Body::File(Content::Bytes(Arc::clone(content))) });
            tree.file(at, inode);
            Ok(())
        }
        Part::Made { target } => {
            let at = directory(tree, below, target)?;
            if at.is_empty() || matches!(below.what(&at), Some(What::Directory { .. })) {
                *tree = Tree::default();
            } else {
                tree.describe(at, Some(Attributes::plain_directory()));
            }
            Ok(())
        }
        Part::Removed { target } => {
            let at = leaf(tree, below, target)?;
            tree.whiteout(at);
            Ok(())
        }
        Part::Archive { source, target } => {
            let within = |error: Error| error.within(source.display());
            let spool = Spool::of_archive(store, source, limits).map_err(within)?;
            let prefix = directory(tree, below, target)?;
            spool
                .entries(limits, |tar, file| archive::read_at(tree, &prefix, Some(below), tar, Some(file), limits))
                .map_err(within)
        }
        Part::Image { image, source, target } => from_image(images.whole(image, store)?, source, target, tree, below),
        Part::Difference { old, new } => difference::compare(tree, &open_place(old)?, &open_place(new)?),
    }
}

fn walk<'w>(
    source: &Path,
    manner: Manner,
    target: Key,
    below: Option<&'w Tree>,
    pick: Option<&'w dyn Fn(&Path) -> Pick>,
) -> Result<Walk<'w>> {
    Ok(Walk { place: open_place(source)?, manner, target, below, pick, links: HashMap::new() })
}

/// The directory that a path inside leads to.
fn directory(tree: &mut Tree, below: &Tree, target: &Path) -> Result<Key> {
    tree.parent(&clean(target.as_os_str().as_bytes()), Some(below))
}

/// The place of a file that is not followed itself.
fn leaf(tree: &mut Tree, below: &Tree, target: &Path) -> Result<Key> {
    let components = clean(target.as_os_str().as_bytes());
    let Some((name, parents)) = components.split_last() else {
        return Err(Error::format(format!("{} is no path of a file", target.display())));
    };
    let parent = tree.parent(parents, Some(below))?;
    Ok(join(&parent, name))
}

/// Whether a path inside leads to a directory that the layers below have.
fn is_directory(below: &Tree, target: &Path) -> bool {
    matches!(below.resolve(&clean(target.as_os_str().as_bytes())), Some((_, What::Directory { .. })))
}

fn copy_file(source: &Path, file: &Path, target: &Path, tree: &mut Tree, below: &Tree) -> Result<()> {
    let components: Vec<Vec<u8>> = clean(file.as_os_str().as_bytes()).iter().map(|part| part.to_vec()).collect();
    let mut walk = walk(source, Manner::Files, Key::new(), None, None)?;
    let place = Arc::clone(&walk.place);
    let failed = || format!("cannot read {}", place.shown(&components));
    let Some((name, parents)) = components.split_last() else { return Err(Error::format(failed())) };
    let parent = place.enter(parents).attempt(failed)?;
    let stat = files::stat(&parent, name).attempt(failed)?;
    let stat = stat.ok_or_else(|| Error::not_found(format!("there is no {}", place.shown(&components))))?;
    if file_type(&stat) == SFlag::S_IFDIR {
        return Err(Error::format(format!("{} is a directory", place.shown(&components))));
    }
    let attributes = attributes(&stat, read_xattrs(&parent, name).attempt(failed)?);
    let at = match is_directory(below, target) {
        true => leaf(tree, below, &target.join(OsStr::from_bytes(name)))?,
        false => leaf(tree, below, target)?,
    };
    match walk.file(tree, &parent, &components, &stat, attributes)? {
        Some(inode) => tree.file(at, inode),
        None => return Err(Error::unsupported(format!("{} is a socket", place.shown(&components)))),
    }
    Ok(())
}

/// A file of another image, or what is in a directory of it.
fn from_image(all: &Tree, source: &Path, target: &Path, tree: &mut Tree, below: &Tree) -> Result<()> {
    let missing = || Error::not_found(format!("there is no {} in the image", source.display()));
    let components = clean(source.as_os_str().as_bytes());
    let (key, what) = all.resolve(&components).ok_or_else(missing)?;
    let slash = target.as_os_str().as_bytes().ends_with(b"/");
    let at = match what {
        What::Directory { .. } => directory(tree, below, target)?,
        _ if slash || is_directory(below, target) => {
            let name = components.last().ok_or_else(missing)?;
            leaf(tree, below, &target.join(OsStr::from_bytes(name)))?
        }
        _ => leaf(tree, below, target)?,
    };
    tree.graft(all, &key, &at, Some(below))
}
