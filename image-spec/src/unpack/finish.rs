//! The last pass over an extracted layer: deletions, and the metadata of directories.
//!
//! Job: walk the directories once, children before parents, make the whiteouts that mean something, and set each
//! directory's owner, attributes, mode and times when nothing is created in it any more, by descriptor. The walk holds a
//! bounded number of descriptors whatever the depth. Leaves out files, which are complete.

use super::attributes;
use super::disk;
use super::extract::Extractor;
use super::tree::{Hides, Id, Kind, Metadata, Name, ROOT};
use crate::error::Attempt;
use crate::{Error, Result, files};
use nix::errno::Errno;
use nix::sys::stat::SFlag;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How many levels are kept open at a time.
const OPEN_LEVELS: usize = 32;

struct Level {
    id: Id,
    open: Option<OwnedFd>,
    children: std::vec::IntoIter<Id>,
    /// Whether layers below show through here, so that a whiteout means something.
    shows: bool,
}

impl Extractor<'_> {
    /// Completes the layer. Nothing is created in it afterwards.
    pub(super) fn finish(&mut self) -> Result<()> {
        let root = files::open_directory(self.disk.root(), b".").attempt(|| "cannot open the layer")?;
        let mut levels = vec![self.enter(ROOT, root, true)?];
        while let Some(level) = levels.last_mut() {
            let Some(open) = &level.open else { return Err(Error::format("the layer changed while it was made")) };
            if let Some(child) = level.children.next() {
                let shows = level.shows;
                let name = &self.tree.node(child).name;
                let opened =
                    files::open_directory(open, name).attempt(|| format!("cannot open {}", self.shown(child)))?;
                let below = self.enter(child, opened, shows)?;
                levels.push(below);
                if let Some(far) = levels.len().checked_sub(OPEN_LEVELS + 1) {
                    levels[far].open = None;
                }
                continue;
            }
            let Some(Level { id, open: Some(open), .. }) = levels.pop() else { break };
            if let Some(above) = levels.last_mut()
                && above.open.is_none()
            {
                // `..` is the parent: nobody else can move directories of the store.
                let parent =
                    files::open_directory(&open, b"..").attempt(|| format!("cannot open {}", self.shown(above.id)))?;
                above.open = Some(parent);
            }
            self.leave(id, open.as_fd())?;
        }
        Ok(())
    }

    fn shown(&self, id: Id) -> String {
        self.tree.path(id).escape_ascii().to_string()
    }

    fn enter(&mut self, id: Id, open: OwnedFd, above_shows: bool) -> Result<Level> {
        let mut children = Vec::new();
        let mut whiteouts: Vec<Name> = Vec::new();
        let mut shows = above_shows;
        if let Some(directory) = self.tree.directory(id) {
            shows &= directory.hides == Hides::Nothing;
            for child in directory.children.values() {
                match &self.tree.node(*child).kind {
                    Kind::Directory(_) => children.push(*child),
                    Kind::Whiteout => whiteouts.push(Name::clone(&self.tree.node(*child).name)),
                    _ => {}
                }
            }
        }
        // Where nothing shows through, overlayfs would list a whiteout instead of hiding it.
        for name in whiteouts.iter().filter(|_| shows) {
            self.whiteout_node(id, open.as_fd(), name)?;
        }
        Ok(Level { id, open: Some(open), children: children.into_iter(), shows })
    }

    fn whiteout_node(&self, id: Id, parent: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
        let shown = || format!("{}/{}", self.shown(id), name.escape_ascii());
        match disk::make_node(parent, name, SFlag::S_IFCHR, (0, 0)) {
            Ok(()) => Ok(()),
            // Linux 5.8 lets everybody make a 0:0 device; some sandboxes do not.
            Err(Errno::EPERM) => {
                Err(Error::unsupported(format!("cannot mark {} as deleted: no device 0:0 may be made here", shown())))
            }
            Err(errno) => Err(Error::os(format!("cannot mark {} as deleted", shown()), errno)),
        }
    }

    fn leave(&mut self, id: Id, open: BorrowedFd<'_>) -> Result<()> {
        let path = self.tree.path(id);
        let Some(directory) = self.tree.directory(id) else { return Ok(()) };
        // What nobody describes is root's and older than everything, so that unpacking twice gives the same.
        let metadata = directory.metadata.clone().unwrap_or(Metadata { mode: 0o755, ..Metadata::default() });
        // overlayfs never looks for the mark on the root of a layer; `Unpacked` leaves out the layers below it instead.
        let opaque = id != ROOT && directory.hides != Hides::Nothing;
        attributes::directory(open, &path, &metadata, opaque, &self.manner, &mut self.notes)
    }
}
