//! Entries of a layer become files.
//!
//! Job: image-spec `layer.md`, in one pass and without the layers below: whatever those decide is left open in the tree
//! for `settle.rs`. A later entry replaces an earlier one as a new inode; nothing is ever written through a link or into
//! an existing file. Leaves out metadata of directories and whiteouts, which `finish.rs` makes last.

use super::attributes::{self, Manner, Wanted};
use super::disk::{self, Disk};
use super::note::{NoteKind, Notes};
use super::policy::Policy;
use super::tree::{Directory, Hides, Id, Kind, MAX_LINKS, Metadata, Name, ROOT, Tree, clean, split};
use crate::error::Attempt;
use crate::tar::{Entry, EntryKind, Source, TarReader};
use crate::{Error, Limits, Result, files};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

/// A layer being extracted, or extracted but not finished.
pub(super) struct Extractor<'a> {
    pub(super) disk: Disk,
    pub(super) tree: Tree,
    pub(super) notes: Notes,
    pub(super) manner: Manner,
    pub(super) policy: Policy,
    limits: &'a Limits,
    /// Number of the current entry.
    pub(super) order: u64,
    /// Bytes of all files, holes included.
    pub(super) bytes: u64,
    /// Whether files get exactly the mode they are created with, because the thread has no umask.
    exact_modes: bool,
}

/// What had the name of a new entry.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Before {
    Nothing,
    Something,
}

impl<'a> Extractor<'a> {
    pub(super) fn new(root: OwnedFd, manner: Manner, policy: Policy, limits: &'a Limits, exact_modes: bool) -> Self {
        Self {
            disk: Disk::new(root),
            tree: Tree::new(),
            notes: Notes::default(),
            manner,
            policy,
            limits,
            order: 0,
            bytes: 0,
            exact_modes,
        }
    }

    /// Extracts the whole archive, to its very end.
    pub(super) fn run<R: Source>(&mut self, mut tar: TarReader<'_, R>) -> Result<()> {
        while let Some(entry) = tar.next()? {
            self.order += 1;
            let path = entry.path.clone();
            let place = |error: Error, order| error.within(format_args!("entry {order} ({})", path.escape_ascii()));
            self.entry(entry, &mut tar).map_err(|error| place(error, self.order))?;
        }
        self.link_pending()
    }

    fn entry<R: Source>(&mut self, entry: Entry, tar: &mut TarReader<'_, R>) -> Result<()> {
        let components = clean(&entry.path);
        if entry.path.split(|byte| *byte == b'/').any(|part| part == b"..") {
            self.notes.add(&components.join(&b'/'), &NoteKind::Outside);
        }
        if components.len() > self.limits.path_depth {
            return Err(Error::limit(format!("{} components, more than {}", components.len(), self.limits.path_depth)));
        }
        let Some((name, parents)) = components.split_last() else {
            return self.root_entry(entry);
        };
        if let Some(reserved) = parents.iter().find(|parent| parent.starts_with(b".wh.")) {
            // What AUFS kept for itself, such as `.wh..wh.plnk`, is no content.
            let aufs = reserved.starts_with(b".wh..wh.") && &**reserved != b".wh..wh..opq";
            return if aufs { Ok(()) } else { Err(Error::format("a whiteout with something in it")) };
        }
        if let Some(target) = name.strip_prefix(b".wh.") {
            return self.whiteout(parents, target);
        }
        let parent = self.parent(parents)?;
        match entry.kind {
            EntryKind::Directory => self.directory(parent, name, entry),
            EntryKind::File => self.file(parent, name, &entry, tar),
            EntryKind::Symlink => self.symlink(parent, name, &entry),
            EntryKind::HardLink => self.hard_link(parent, name, &entry),
            EntryKind::Fifo | EntryKind::CharDevice | EntryKind::BlockDevice => self.node(parent, name, &entry),
        }
    }

    /// An entry that names the root itself may only describe it (CVE-2021-29136).
    fn root_entry(&mut self, entry: Entry) -> Result<()> {
        if entry.kind != EntryKind::Directory {
            return Err(Error::format("the root of the layer as something other than a directory"));
        }
        self.describe(ROOT, metadata(entry));
        Ok(())
    }

    fn describe(&mut self, id: Id, metadata: Metadata) {
        if self.tree.directory(id).is_some_and(|directory| directory.metadata.is_some()) {
            self.notes.add(&self.tree.path(id), &NoteKind::Repeated);
        }
        if let Some(directory) = self.tree.directory_mut(id) {
            directory.metadata = Some(metadata);
        }
        self.tree.node_mut(id).order = self.order;
    }

    /// `target` is what follows `.wh.`; the type of the entry does not matter.
    fn whiteout(&mut self, parents: &[Name], target: &[u8]) -> Result<()> {
        if target == b".wh..opq" {
            let parent = self.parent(parents)?;
            if let Some(directory) = self.tree.directory_mut(parent)
                && directory.hides == Hides::Nothing
            {
                directory.hides = Hides::Children;
            }
            return Ok(());
        }
        if target.starts_with(b".wh.") {
            return Ok(());
        }
        if matches!(target, b"" | b"." | b"..") {
            return Err(Error::format("a whiteout that names no file"));
        }
        let parent = self.parent(parents)?;
        match self.tree.child(parent, target) {
            None => self.insert(parent, target, Kind::Whiteout).map(drop),
            // Nothing is there but deletions inside, which the deletion of the whole contains.
            Some(existing) if self.is_bare(existing) => {
                self.remove(existing)?;
                self.tree.detach(existing);
                self.insert(parent, target, Kind::Whiteout).map(drop)
            }
            // A whiteout concerns the layers below only: what this layer has stays, but nothing below merges with it.
            Some(existing) => {
                if let Some(directory) = self.tree.directory_mut(existing) {
                    directory.hides = Hides::Itself;
                }
                Ok(())
            }
        }
    }

    /// Whether a directory is only there because of whiteouts: nobody describes it, and nothing but such lies in it. One
    /// that is known to hide what was there counts as something.
    pub(super) fn is_bare(&self, id: Id) -> bool {
        let mut pending = vec![id];
        while let Some(id) = pending.pop() {
            match &self.tree.node(id).kind {
                Kind::Whiteout => {}
                Kind::Directory(directory) if directory.metadata.is_none() && directory.hides != Hides::Itself => {
                    pending.extend(directory.children.values());
                }
                _ => return false,
            }
        }
        matches!(self.tree.node(id).kind, Kind::Directory(_))
    }

    /// The directory the components lead to, through links of this layer, made where it is missing.
    fn parent(&mut self, components: &[Name]) -> Result<Id> {
        let mut at = ROOT;
        // The usual case: directories of this layer all the way.
        let mut done = 0;
        while let Some(child) = components.get(done).and_then(|name| self.tree.child(at, name))
            && matches!(self.tree.node(child).kind, Kind::Directory(_))
        {
            at = child;
            done += 1;
        }
        let mut pending: Vec<Name> = components[done..].iter().rev().cloned().collect();
        let mut links = 0;
        while let Some(name) = pending.pop() {
            if &*name == b".." {
                at = self.tree.node(at).parent;
                continue;
            }
            let child = self.tree.child(at, &name);
            match child.map(|child| &self.tree.node(child).kind) {
                Some(Kind::Directory(_)) => at = child.unwrap_or(ROOT),
                Some(Kind::Symlink(target)) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Error::format("a path through more than 40 symbolic links"));
                    }
                    if target.starts_with(b"/") {
                        at = ROOT;
                    }
                    pending.extend(split(target).into_iter().rev());
                    if pending.len() > self.limits.path_depth {
                        return Err(Error::limit(format!("a path of more than {} components", self.limits.path_depth)));
                    }
                }
                _ => at = self.implicit_directory(at, &name)?,
            }
        }
        Ok(at)
    }

    /// Makes a directory nobody described, in the place of whatever is no directory there.
    pub(super) fn implicit_directory(&mut self, parent: Id, name: &[u8]) -> Result<Id> {
        let before = self.clear(parent, name)?;
        self.new_directory(parent, name, before)
    }

    fn new_directory(&mut self, parent: Id, name: &[u8], before: Before) -> Result<Id> {
        let at = self.disk.directory(&self.tree, parent)?;
        let hides = if before == Before::Nothing { Hides::Nothing } else { Hides::Itself };
        let id = self.insert(parent, name, Kind::Directory(Box::new(Directory { hides, ..Directory::default() })))?;
        disk::make_directory(at.as_fd(), name, &self.tree.path(id))?;
        Ok(id)
    }

    pub(super) fn insert(&mut self, parent: Id, name: &[u8], kind: Kind) -> Result<Id> {
        let full = || Error::limit("more files than can be numbered");
        self.tree.insert(parent, name, kind, self.order).ok_or_else(full)
    }

    /// Removes what this layer has under a name.
    pub(super) fn clear(&mut self, parent: Id, name: &[u8]) -> Result<Before> {
        let Some(id) = self.tree.child(parent, name) else { return Ok(Before::Nothing) };
        let path = self.tree.path(id);
        match &self.tree.node(id).kind {
            Kind::Whiteout => {}
            Kind::PendingLink(_) => self.notes.add(&path, &NoteKind::Repeated),
            Kind::Directory(_) | Kind::Symlink(_) | Kind::File => {
                self.notes.add(&path, &NoteKind::Repeated);
                self.remove(id)?;
            }
        }
        self.tree.detach(id);
        Ok(Before::Something)
    }

    /// Removes a node from the disk.
    pub(super) fn remove(&mut self, id: Id) -> Result<()> {
        let at = self.disk.directory(&self.tree, self.tree.node(id).parent)?;
        let name = &self.tree.node(id).name;
        files::remove_tree(&*at, name).attempt(|| format!("cannot replace {}", self.tree.path(id).escape_ascii()))
    }

    fn directory(&mut self, parent: Id, name: &[u8], entry: Entry) -> Result<()> {
        let existing = self.tree.child(parent, name).filter(|id| self.tree.directory(*id).is_some());
        let id = match existing {
            Some(id) => id,
            None => {
                let before = self.clear(parent, name)?;
                self.new_directory(parent, name, before)?
            }
        };
        self.describe(id, metadata(entry));
        Ok(())
    }

    fn file<R: Source>(&mut self, parent: Id, name: &[u8], entry: &Entry, tar: &mut TarReader<'_, R>) -> Result<()> {
        self.bytes = self.bytes.saturating_add(entry.size);
        if self.bytes > self.limits.layer_bytes {
            return Err(Error::limit(format!("files of more than {} bytes", self.limits.layer_bytes)));
        }
        self.clear(parent, name)?;
        let at = self.disk.directory(&self.tree, parent)?;
        let id = self.insert(parent, name, Kind::File)?;
        let path = self.tree.path(id);
        // Attributes need a file that its owner may write, so the mode comes last when there are any.
        let plain = entry.xattrs.is_empty() && !self.manner.writes_owners();
        let file = File::from(disk::make_file(at.as_fd(), name, if plain { entry.mode } else { 0o600 }, &path)?);
        write_content(&file, entry, tar, &path)?;
        let mode_is_set = plain && self.exact_modes;
        attributes::file(file.as_fd(), &wanted(entry, &path), mode_is_set, &self.manner, &mut self.notes)
    }

    fn symlink(&mut self, parent: Id, name: &[u8], entry: &Entry) -> Result<()> {
        if entry.link.is_empty() {
            return Err(Error::format("a symbolic link without a target"));
        }
        self.clear(parent, name)?;
        let at = self.disk.directory(&self.tree, parent)?;
        let id = self.insert(parent, name, Kind::Symlink(entry.link.clone().into()))?;
        let path = self.tree.path(id);
        disk::make_symlink(at.as_fd(), name, &entry.link, &path)?;
        attributes::special(at.as_fd(), name, true, &wanted(entry, &path), &self.manner, &mut self.notes)
    }
}

fn metadata(entry: Entry) -> Metadata {
    Metadata { mode: entry.mode, uid: entry.uid, gid: entry.gid, mtime: entry.mtime, xattrs: entry.xattrs }
}

pub(super) fn wanted<'e>(entry: &'e Entry, path: &'e [u8]) -> Wanted<'e> {
    Wanted { path, mode: entry.mode, uid: entry.uid, gid: entry.gid, mtime: entry.mtime, xattrs: &entry.xattrs }
}

/// Writes an entry's data, leaving holes where a sparse file has them.
fn write_content<R: Source>(mut file: &File, entry: &Entry, tar: &mut TarReader<'_, R>, path: &[u8]) -> Result<()> {
    let failed = || format!("cannot write {}", path.escape_ascii());
    let Some(sparse) = &entry.sparse else {
        loop {
            let bytes = tar.data()?;
            if bytes.is_empty() {
                return Ok(());
            }
            file.write_all(bytes).attempt(failed)?;
            let count = bytes.len();
            tar.consume(count);
        }
    };
    for (offset, length) in &sparse.regions {
        let mut at = *offset;
        while at < offset + length {
            let bytes = tar.data()?;
            let most = usize::try_from(offset + length - at).unwrap_or(usize::MAX).min(bytes.len());
            file.write_all_at(&bytes[..most], at).attempt(failed)?;
            tar.consume(most);
            at += most as u64;
        }
    }
    file.set_len(sparse.size).attempt(failed)
}
