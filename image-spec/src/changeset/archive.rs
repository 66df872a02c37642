//! Entries of a tar archive are put into a tree.
//!
//! Job: read the headers of a layer or of any other archive, by the rules that unpacking has too, and note where contents
//! lie. Leaves out decompression and the contents themselves.

use super::content::Content;
use super::tree::{Attributes, Body, Inode, Key, Tree, What, join, key, path as path_of};
use crate::tar::{Entry, EntryKind, Source, TarReader};
use crate::unpack::is_allowed;
use crate::unpack::tree::clean;
use crate::{Error, Limits, Result};
use std::fs::File;
use std::sync::Arc;

/// Puts every entry of `tar` into the current layer of `tree`. `file` is where contents can be read again, by position.
pub(crate) fn read<R: Source>(
    tree: &mut Tree,
    below: Option<&Tree>,
    tar: TarReader<'_, R>,
    file: Option<&Arc<File>>,
    limits: &Limits,
) -> Result<()> {
    read_at(tree, &[], below, tar, file, limits)
}

/// As [`read`], into the directory `prefix`.
pub(crate) fn read_at<R: Source>(
    tree: &mut Tree,
    prefix: &[u8],
    below: Option<&Tree>,
    mut tar: TarReader<'_, R>,
    file: Option<&Arc<File>>,
    limits: &Limits,
) -> Result<()> {
    let mut order = 0u64;
    while let Some(mut entry) = tar.next()? {
        order += 1;
        let shown = entry.path.clone();
        if !prefix.is_empty() {
            let inside = |path: &[u8]| [&path_of(prefix)[..], &clean(path).join(&b'/')].join(&b'/');
            entry.path = inside(&entry.path);
            if entry.kind == EntryKind::HardLink {
                entry.link = inside(&entry.link);
            }
        }
        put(tree, below, entry, file, limits)
            .map_err(|error| error.within(format_args!("entry {order} ({})", shown.escape_ascii())))?;
    }
    Ok(())
}

fn put(tree: &mut Tree, below: Option<&Tree>, entry: Entry, file: Option<&Arc<File>>, limits: &Limits) -> Result<()> {
    let components = clean(&entry.path);
    if components.len() > limits.path_depth {
        return Err(Error::limit(format!("{} components, more than {}", components.len(), limits.path_depth)));
    }
    let Some((name, parents)) = components.split_last() else {
        if entry.kind != EntryKind::Directory {
            return Err(Error::format("the root of the layer as something other than a directory"));
        }
        tree.describe(Vec::new(), Some(attributes(entry)));
        return Ok(());
    };
    if let Some(reserved) = parents.iter().find(|parent| parent.starts_with(b".wh.")) {
        // What AUFS kept for itself is no content.
        let aufs = reserved.starts_with(b".wh..wh.") && &**reserved != b".wh..wh..opq";
        return if aufs { Ok(()) } else { Err(Error::format("a whiteout with something in it")) };
    }
    if name.starts_with(b".wh..wh.") && &**name != b".wh..wh..opq" {
        return Ok(());
    }
    let parent = tree.parent(parents, below)?;
    match name.strip_prefix(b".wh.") {
        Some(b".wh..opq") => tree.opaque(&parent),
        Some(b"" | b"." | b"..") => return Err(Error::format("a whiteout that names no file")),
        Some(target) => tree.whiteout(join(&parent, target)),
        None => return make(tree, join(&parent, name), entry, file),
    }
    Ok(())
}

/// Puts what is no mark in its place.
fn make(tree: &mut Tree, at: Key, entry: Entry, file: Option<&Arc<File>>) -> Result<()> {
    let body = match entry.kind {
        EntryKind::Directory => {
            tree.describe(at, Some(attributes(entry)));
            return Ok(());
        }
        EntryKind::HardLink => {
            let target = clean(&entry.link);
            // A link to itself says nothing.
            if tree.what(&at).is_none_or(|what| !matches!(what, What::File(_))) || key(&target) != at {
                tree.hard_link(at, target);
            }
            return Ok(());
        }
        EntryKind::Symlink if entry.link.is_empty() => {
            return Err(Error::format("a symbolic link without a target"));
        }
        EntryKind::Symlink => Body::Symlink(entry.link.clone()),
        EntryKind::CharDevice if (entry.major, entry.minor) == (0, 0) => {
            return Err(Error::unsupported("a character device 0:0, which overlayfs would take for a deletion"));
        }
        EntryKind::Fifo | EntryKind::CharDevice | EntryKind::BlockDevice => {
            Body::Node { kind: entry.kind, major: entry.major, minor: entry.minor }
        }
        EntryKind::File => Body::File(match file {
            Some(file) => Content::Stretch {
                file: Arc::clone(file),
                offset: entry.offset,
                size: entry.size,
                sparse: entry.sparse.as_ref().map(|sparse| Arc::new(sparse.clone())),
            },
            None => Content::Unread,
        }),
    };
    let inode = tree.add_inode(Inode { attributes: attributes(entry), body });
    tree.file(at, inode);
    Ok(())
}

/// What no unpacking would write is not passed on either.
fn attributes(entry: Entry) -> Attributes {
    let mut xattrs = entry.xattrs;
    xattrs.retain(|(name, _)| is_allowed(name));
    xattrs.sort();
    Attributes { mode: entry.mode, uid: entry.uid, gid: entry.gid, mtime: entry.mtime, xattrs }
}
