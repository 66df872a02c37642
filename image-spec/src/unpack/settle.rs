//! What a layer leaves open, decided by the layers below.
//!
//! Job: three things a layer may take for granted about what lies under it: the metadata of a parent directory it does
//! not describe, that such a parent is a symbolic link there, and that the target of a hard link is there. The first is
//! copied from below; for the second what lies in it moves to where the link leads; for the third the file is copied up.
//! Layers without any of these are self-contained. Leaves out the order of layers, which `mod.rs` keeps.

use super::attributes;
use super::copy_up::mtime;
use super::disk;
use super::extract::Extractor;
use super::note::NoteKind;
use super::policy::LinkedParent;
use super::tree::{Hides, Id, Kind, MAX_LINKS, Metadata, Name, ROOT, split};
use crate::error::Attempt;
use crate::view::{Layers, Node};
use crate::{Error, Result};
use nix::sys::stat::fstat;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

impl Extractor<'_> {
    /// Whether the layers below have a say in this layer. The root does not count: its metadata is the image's top layer's
    /// that has any.
    pub(super) fn is_dependent(&self) -> bool {
        let unknown = |(id, visible): (Id, bool)| {
            id != ROOT && visible && self.tree.directory(id).is_some_and(|directory| directory.metadata.is_none())
        };
        self.tree.directories().into_iter().any(unknown) || !self.tree.pending_links().is_empty()
    }

    /// Decides everything that is open by looking at `lower`, the layers below as one tree.
    pub(super) fn settle(&mut self, lower: &Layers) -> Result<()> {
        self.settle_directories(lower)?;
        for id in self.tree.pending_links() {
            let (chain, end) = self.chain(id)?;
            let end = match end {
                Some(end) => end,
                None => self.copy_up(&chain, lower)?,
            };
            let rest: Vec<Id> = chain.into_iter().filter(|id| *id != end).collect();
            self.link_chain(&rest, end)?;
        }
        // Copying up may have made directories.
        self.settle_directories(lower)
    }

    fn settle_directories(&mut self, lower: &Layers) -> Result<()> {
        loop {
            let mut moved = false;
            // Directories come before what lies in them, so a moved one's content is passed over until the next round.
            let mut skipping: Option<Id> = None;
            for (id, visible) in self.tree.directories() {
                if let Some(top) = skipping {
                    if self.lies_in(id, top) {
                        continue;
                    }
                    skipping = None;
                }
                let open = self.tree.directory(id).is_some_and(|d| d.metadata.is_none() && !d.settled);
                if id == ROOT || !visible || !open || !self.tree.is_reached(id) {
                    continue;
                }
                match self.below(lower, id)? {
                    Node::Symlink(_) if self.policy.linked_parents == LinkedParent::Replace => self.stand_alone(id),
                    Node::Symlink(target) => {
                        self.follow(id, &target, lower)?;
                        moved = true;
                        skipping = Some(id);
                    }
                    Node::Directory(directory) => self.inherit(id, directory.as_fd())?,
                    Node::Missing | Node::Other { .. } => self.stand_alone(id),
                }
            }
            if !moved {
                return Ok(());
            }
        }
    }

    fn lies_in(&self, mut id: Id, top: Id) -> bool {
        while id != ROOT && id != top {
            id = self.tree.node(id).parent;
        }
        id == top
    }

    fn below(&self, lower: &Layers, id: Id) -> Result<Node> {
        let components = self.tree.components(id);
        let shown = || format!("cannot look up {} in the layers below", components.join(&b'/').escape_ascii());
        lower.node(&components).attempt(shown)
    }

    fn mark_settled(&mut self, id: Id, metadata: Option<Metadata>) {
        if let Some(directory) = self.tree.directory_mut(id) {
            directory.settled = true;
            directory.metadata = metadata;
        }
    }

    /// Nothing below merges with the directory. Deletions in it mean nothing then, and overlayfs would list their marks.
    fn stand_alone(&mut self, id: Id) {
        self.mark_settled(id, None);
        let deletes = |child: &Id| matches!(self.tree.node(*child).kind, Kind::Whiteout);
        if self.tree.directory(id).is_some_and(|directory| directory.children.values().any(deletes)) {
            self.raise(id, Hides::Children);
        }
    }

    /// Copies the metadata of the directory below, as overlayfs does when it copies one up.
    fn inherit(&mut self, id: Id, below: BorrowedFd<'_>) -> Result<()> {
        let shown = || format!("cannot read {} in the layers below", self.tree.path(id).escape_ascii());
        let stat = fstat(below).attempt(shown)?;
        let xattrs = attributes::read_xattrs(below).attempt(shown)?;
        let metadata =
            Metadata { mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid, mtime: mtime(&stat), xattrs };
        self.mark_settled(id, Some(self.as_own(below, metadata)));
        Ok(())
    }

    /// What the image says of a file below. Those of a caller who owns all of them stand for root's, if no attribute says
    /// more.
    pub(super) fn as_own(&self, below: BorrowedFd<'_>, metadata: Metadata) -> Metadata {
        if self.manner.gives_files_away() {
            return metadata;
        }
        match attributes::read_owner(below).filter(|_| self.manner.writes_owners()) {
            Some((uid, gid, mode)) => Metadata { uid, gid, mode, ..metadata },
            None => Metadata { uid: 0, gid: 0, ..metadata },
        }
    }

    /// `id` is a symbolic link below: puts what lies in it where the link leads.
    fn follow(&mut self, id: Id, target: &[u8], lower: &Layers) -> Result<()> {
        let parent = self.tree.components(self.tree.node(id).parent);
        let from = self.tree.path(id);
        let at = |error: Error| error.within(format_args!("directory {}", from.escape_ascii()));
        let bare = self.is_bare(id);
        let destination = self.resolve(&parent, target, lower, bare).map_err(at)?;
        // Deletions inside of what the layer deletes as a whole.
        let Some(destination) = destination else {
            self.remove(id)?;
            self.tree.detach(id);
            return Ok(());
        };
        if self.lies_in(destination, id) {
            return Err(at(Error::format("a symbolic link below leads into itself")));
        }
        self.merge(id, destination)?;
        self.remove(id)?;
        self.tree.detach(id);
        let to = PathBuf::from(std::ffi::OsString::from_vec(self.tree.path(destination)));
        self.notes.add(&from, &NoteKind::Followed(to));
        Ok(())
    }

    /// The directory a link target leads to in this layer over those below, made here where only those have it. Where this
    /// layer deletes it, it is made anew, or is `None` if nothing is to be put there.
    pub(super) fn resolve(
        &mut self,
        from: &[Name],
        target: &[u8],
        lower: &Layers,
        for_nothing: bool,
    ) -> Result<Option<Id>> {
        let mut pending: Vec<Name> = split(target).into_iter().rev().collect();
        if !target.starts_with(b"/") {
            pending.extend(from.iter().rev().cloned());
        }
        let (mut at, mut links) = (ROOT, 0);
        while let Some(name) = pending.pop() {
            if &*name == b".." {
                at = self.tree.node(at).parent;
                continue;
            }
            let deleted = |child| matches!(self.tree.node(child).kind, Kind::Whiteout);
            if for_nothing && self.tree.child(at, &name).is_some_and(deleted) {
                return Ok(None);
            }
            let link = match self.step(at, &name, lower)? {
                Step::Directory(next) => {
                    at = next;
                    continue;
                }
                Step::Link(link) => link,
            };
            links += 1;
            if links > MAX_LINKS {
                return Err(Error::format("a path through more than 40 symbolic links"));
            }
            if link.starts_with(b"/") {
                at = ROOT;
            }
            pending.extend(split(&link).into_iter().rev());
        }
        Ok(Some(at))
    }

    fn step(&mut self, at: Id, name: &[u8], lower: &Layers) -> Result<Step> {
        let child = self.tree.child(at, name);
        if let Some(child) = child {
            match &self.tree.node(child).kind {
                Kind::Symlink(target) => return Ok(Step::Link(target.to_vec())),
                Kind::Directory(directory)
                    if directory.metadata.is_some() || directory.settled || directory.hides == Hides::Itself =>
                {
                    return Ok(Step::Directory(child));
                }
                Kind::Directory(_) => {}
                Kind::Whiteout => return self.implicit_directory(at, name).map(Step::Directory),
                Kind::File | Kind::PendingLink(_) => {
                    return Err(Error::format(format!(
                        "{} is in the way and no directory",
                        self.tree.path(child).escape_ascii()
                    )));
                }
            }
        }
        if self.shows_below(at) {
            let mut components = self.tree.components(at);
            components.push(Name::from(name));
            let node = lower.node(&components).attempt(|| "cannot look up a link in the layers below")?;
            if let Node::Symlink(target) = node {
                return Ok(Step::Link(target));
            }
        }
        match child {
            Some(child) => Ok(Step::Directory(child)),
            None => self.implicit_directory(at, name).map(Step::Directory),
        }
    }

    /// Whether the children that the layers below have in a directory can be seen through it.
    pub(super) fn shows_below(&self, mut id: Id) -> bool {
        loop {
            if self.tree.directory(id).is_none_or(|directory| directory.hides != Hides::Nothing) {
                return false;
            }
            if id == ROOT {
                return true;
            }
            id = self.tree.node(id).parent;
        }
    }

    /// Moves everything from one directory of this layer into another. Of two with one name the later entry counts.
    fn merge(&mut self, from: Id, into: Id) -> Result<()> {
        let mut pending = vec![(from, into)];
        while let Some((from, into)) = pending.pop() {
            if self.tree.directory(from).is_some_and(|directory| directory.hides == Hides::Children) {
                self.raise(into, Hides::Children);
            }
            let children: Vec<Id> =
                self.tree.directory(from).map(|d| d.children.values().copied().collect()).unwrap_or_default();
            for child in children {
                self.merge_child(child, from, into, &mut pending)?;
            }
        }
        Ok(())
    }

    fn merge_child(&mut self, child: Id, from: Id, into: Id, pending: &mut Vec<(Id, Id)>) -> Result<()> {
        let name = Name::clone(&self.tree.node(child).name);
        if let Some(other) = self.tree.child(into, &name) {
            let is_directory = |id: Id| self.tree.directory(id).is_some();
            let is_whiteout = |id: Id| matches!(self.tree.node(id).kind, Kind::Whiteout);
            match (is_directory(child), is_directory(other)) {
                (true, true) => {
                    self.combine(child, other);
                    pending.push((child, other));
                    return Ok(());
                }
                (true, false) if is_whiteout(other) => self.raise(child, Hides::Itself),
                (false, true) if is_whiteout(child) => {
                    self.raise(other, Hides::Itself);
                    return Ok(());
                }
                _ if is_whiteout(child) => return Ok(()),
                _ if is_whiteout(other) => {}
                // The loser stays behind and goes with the old directory.
                _ if self.tree.node(child).order < self.tree.node(other).order => return Ok(()),
                _ if matches!(self.tree.node(other).kind, Kind::PendingLink(_)) => {}
                _ => self.remove(other)?,
            }
            self.tree.detach(other);
        }
        if !matches!(self.tree.node(child).kind, Kind::Whiteout | Kind::PendingLink(_)) {
            let (source, destination) =
                (self.disk.directory(&self.tree, from)?, self.disk.directory(&self.tree, into)?);
            disk::move_name(&*source, &*destination, &name, &self.tree.path(child))?;
        }
        self.tree.detach(child);
        self.tree.attach(child, into);
        Ok(())
    }

    fn raise(&mut self, id: Id, hides: Hides) {
        if let Some(directory) = self.tree.directory_mut(id)
            && directory.hides != Hides::Itself
        {
            directory.hides = hides;
        }
    }

    /// Two descriptions of one directory become one.
    fn combine(&mut self, child: Id, other: Id) {
        let later = self.tree.node(child).order > self.tree.node(other).order;
        let (metadata, hides) = match self.tree.directory(child) {
            Some(directory) => (directory.metadata.clone(), directory.hides),
            None => (None, Hides::Nothing),
        };
        if hides != Hides::Nothing {
            self.raise(other, hides);
        }
        if let Some(directory) = self.tree.directory_mut(other)
            && metadata.is_some()
            && (later || directory.metadata.is_none())
        {
            directory.metadata = metadata;
        }
    }
}

enum Step {
    Directory(Id),
    Link(Vec<u8>),
}
