//! Hard links, whose targets may come later, or lie below.
//!
//! Job: link inside the layer only, by directory and name on both sides, never through a symbolic link; remember what
//! cannot be linked yet. Leaves out targets in lower layers, which `settle.rs` copies up.

use super::disk;
use super::extract::Extractor;
use super::tree::{Id, Kind, Lookup, clean};
use crate::tar::Entry;
use crate::{Error, Result};
use std::os::fd::AsFd;

impl Extractor<'_> {
    pub(super) fn hard_link(&mut self, parent: Id, name: &[u8], entry: &Entry) -> Result<()> {
        // Names in an archive are relative to its root, never to the working directory (CVE-2026-50163).
        let target = clean(&entry.link);
        let found = match self.tree.lookup(&target) {
            Lookup::Found(id) => Some(id),
            Lookup::Missing => None,
            Lookup::Loop => return Err(Error::format("a hard link through a loop of symbolic links")),
        };
        if found.is_some() && found == self.tree.child(parent, name) {
            return Ok(());
        }
        let kind = match found.map(|id| &self.tree.node(id).kind) {
            Some(Kind::Directory(_)) => return Err(Error::format("a hard link to a directory")),
            Some(Kind::Whiteout) => return Err(Error::not_found("a hard link to what this layer deletes")),
            Some(Kind::File) => Kind::File,
            Some(Kind::Symlink(link)) => Kind::Symlink(link.clone()),
            None | Some(Kind::PendingLink(_)) => Kind::PendingLink(target.into()),
        };
        self.clear(parent, name)?;
        let id = self.insert(parent, name, kind)?;
        match found {
            Some(found) if !matches!(self.tree.node(id).kind, Kind::PendingLink(_)) => self.link(found, id),
            _ => Ok(()),
        }
    }

    /// Makes `to` another name of `from` on disk.
    pub(super) fn link(&mut self, from: Id, to: Id) -> Result<()> {
        let (source, destination) = (self.tree.node(from).parent, self.tree.node(to).parent);
        let source = self.disk.directory(&self.tree, source)?;
        let destination = self.disk.directory(&self.tree, destination)?;
        let (from, to_name) = (&self.tree.node(from).name, &self.tree.node(to).name);
        disk::make_link((source.as_fd(), from), (destination.as_fd(), to_name), &self.tree.path(to))
    }

    /// Makes the hard links whose targets came after them. What is left can only be in a layer below.
    pub(super) fn link_pending(&mut self) -> Result<()> {
        for id in self.tree.pending_links() {
            let (chain, end) = self.chain(id)?;
            if let Some(end) = end {
                self.link_chain(&chain, end)?;
            }
        }
        Ok(())
    }

    /// Follows pending links to each other: the links, and the file at the end if this layer has it.
    pub(super) fn chain(&self, first: Id) -> Result<(Vec<Id>, Option<Id>)> {
        let mut chain = vec![first];
        let mut seen = std::collections::HashSet::from([first]);
        loop {
            let Some(Kind::PendingLink(target)) = chain.last().map(|last| &self.tree.node(*last).kind) else {
                return Ok((Vec::new(), None));
            };
            let shown = || self.tree.path(first).escape_ascii().to_string();
            let next = match self.tree.lookup(target) {
                Lookup::Found(next) => next,
                Lookup::Missing => return Ok((chain, None)),
                Lookup::Loop => {
                    return Err(Error::format(format!("hard link {} through a loop of symbolic links", shown())));
                }
            };
            match &self.tree.node(next).kind {
                Kind::PendingLink(_) if !seen.insert(next) => {
                    return Err(Error::format(format!("hard link {} is part of a circle", shown())));
                }
                Kind::PendingLink(_) => chain.push(next),
                Kind::Directory(_) => return Err(Error::format(format!("hard link {} to a directory", shown()))),
                Kind::Whiteout => return Ok((chain, None)),
                Kind::File | Kind::Symlink(_) => return Ok((chain, Some(next))),
            }
        }
    }

    pub(super) fn link_chain(&mut self, chain: &[Id], end: Id) -> Result<()> {
        for id in chain {
            self.link(end, *id)?;
            self.tree.node_mut(*id).kind = match &self.tree.node(end).kind {
                Kind::Symlink(target) => Kind::Symlink(target.clone()),
                _ => Kind::File,
            };
        }
        Ok(())
    }
}
