//! Opening a group that exists, by its path or by the directories it was once found in.
//!
//! Leaves out: making anything. Oldest kernel: 5.10.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use super::{Group, Node, Parent, base};
use crate::controller::Version;
use crate::directory::{Directory, unless_gone};
use crate::error::{Error, ErrorKind, Result};
use crate::hierarchy::{Hierarchy, Mount};
use crate::name::Name;

impl Group {
    /// Opens a group by the directories that [`directories`](Self::directories) told, wherever the caller is now. Those that are gone are
    /// passed over.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if none is left, [`InvalidPath`](ErrorKind::InvalidPath) if one lies outside of the mounted hierarchies
    /// or is the top of one.
    pub fn from_directories<P: AsRef<Path>>(directories: impl IntoIterator<Item = P>) -> Result<Self> {
        let hierarchy = Hierarchy::detect()?;
        let mounts: Vec<Mount> = hierarchy.unified().into_iter().chain(hierarchy.legacy()).cloned().collect();
        let mut group = Group::empty(Name::parse_absolute(Path::new(""))?, Parent::Root, hierarchy);
        let mut first = None;
        for directory in directories {
            let path = directory.as_ref();
            let found = mounts.iter().find_map(|mount| Some((mount, path.strip_prefix(&mount.mount_point).ok()?)));
            let Some((mount, rest)) = found else {
                let message = format!("cannot use {} as a group: no cgroup hierarchy is mounted there", path.display());
                return Err(Error::new(ErrorKind::InvalidPath, message));
            };
            let name = Name::parse(rest)?;
            let base = Directory::open(&mount.mount_point)?;
            if let Some(node) = unless_gone(Node::open(mount, base, name.parts()))? {
                group.insert(node);
                first.get_or_insert(name);
            }
        }
        match first {
            Some(name) => group.name = name,
            None => {
                return Err(Error::new(ErrorKind::NotFound, "cannot open group: none of its directories exists"));
            }
        }
        Ok(group)
    }

    /// Which directories were made for the group, as [`directories_made`](Self::directories_made) told it of the value that made them: these are
    /// removed with it, and no others. Default for an opened group: its own directories, and none above them.
    #[must_use]
    pub fn made<P: AsRef<Path>>(mut self, directories: impl IntoIterator<Item = P>) -> Self {
        let made: Vec<PathBuf> = directories.into_iter().map(|directory| directory.as_ref().to_owned()).collect();
        let nodes = std::mem::take(self.nodes.get_mut().unwrap_or_else(PoisonError::into_inner));
        self.unified = None;
        for node in nodes {
            // Nobody else has seen a value that was just opened.
            if let Some(mut node) = Arc::into_inner(node) {
                node.claim(&made);
                self.insert(node);
            }
        }
        self
    }
}

pub(super) fn open(name: &Name, parent: Parent, hierarchy: Hierarchy) -> Result<Group> {
    let mut nodes = Vec::new();
    for mount in hierarchy.unified().into_iter().chain(hierarchy.legacy()) {
        nodes.extend(find(mount, &parent, name)?);
    }
    if nodes.is_empty() {
        let path: PathBuf = name.to_path();
        let message = format!("cannot open group {}: no hierarchy has it", path.display());
        return Err(Error::new(ErrorKind::NotFound, message));
    }
    let mut group = Group::empty(name.clone(), parent, hierarchy);
    nodes.into_iter().for_each(|node| group.insert(node));
    Ok(group)
}

/// Looks in one hierarchy. Below [`Parent::Own`] on v2 the group may have been made by a process that sat elsewhere, so the ancestors are
/// tried too, the nearest first.
fn find(mount: &Mount, parent: &Parent, name: &Name) -> Result<Option<Node>> {
    let mut base = match base::find(mount, parent) {
        Ok(base) => base,
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::NotFound) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    if *parent == Parent::Own
        && let Some(own) = &mount.own
    {
        base = Directory::open(own)?;
    }
    loop {
        let again = base.again();
        if let Some(node) = unless_gone(Node::open(mount, again, name.parts()))? {
            return Ok(Some(node));
        }
        if *parent != Parent::Own || mount.version == Version::V1 || base.path() == mount.mount_point {
            return Ok(None);
        }
        base = base.parent()?;
    }
}
