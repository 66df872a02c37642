//! A layer in memory: what is where, and what the tar archive did not say.
//!
//! Job: the trie that extraction consults instead of the disk, so that no path is ever walked on disk and every symbolic
//! link inside the layer is resolved as data. Leaves out contents and everything on disk.

use std::collections::HashMap;
use std::sync::Arc;

use crate::tar::Time;

pub(crate) type Id = u32;
pub(crate) const ROOT: Id = 0;
pub(crate) type Name = Arc<[u8]>;
/// Name and value of an extended attribute.
pub(crate) type Xattr = (Vec<u8>, Vec<u8>);

/// Ownership, mode, time and attributes of a directory, to be set when nothing is created in it any more.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metadata {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    pub(crate) xattrs: Vec<Xattr>,
}

/// What a directory hides of the layers below.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Hides {
    /// Nothing: it merges.
    #[default]
    Nothing,
    /// The children (an opaque marker); the directory below is still the same directory.
    Children,
    /// The directory itself (a whiteout of it, or something that was in its place).
    Itself,
}

#[derive(Debug, Default)]
pub(crate) struct Directory {
    pub(crate) children: HashMap<Name, Id>,
    /// `None` for a directory that is only there because something lies in it.
    pub(crate) metadata: Option<Metadata>,
    pub(crate) hides: Hides,
    /// Whether what the layer leaves unsaid about it has been looked up below.
    pub(crate) settled: bool,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Directory(Box<Directory>),
    /// A symbolic link with its target.
    Symlink(Box<[u8]>),
    /// Anything else that exists on disk.
    File,
    /// Deleted from the layers below. Not on disk before the end.
    Whiteout,
    /// A hard link whose target has not been seen yet. Not on disk.
    PendingLink(Box<[Name]>),
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) parent: Id,
    pub(crate) name: Name,
    pub(crate) kind: Kind,
    /// The number of the entry that made it, for deciding between two that turn out to be one.
    pub(crate) order: u64,
}

/// The trie. Nodes are never reused; one that was replaced is only unlinked from its parent.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
}

/// Where a path leads inside the layer.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Lookup {
    Found(Id),
    /// Not in this layer; perhaps below, perhaps later.
    Missing,
    /// More links than the kernel would follow.
    Loop,
}

/// How many symbolic links one path may lead through, as in the kernel.
pub(crate) const MAX_LINKS: usize = 40;

impl Tree {
    pub(crate) fn new() -> Self {
        let root = Kind::Directory(Box::default());
        Self { nodes: vec![Node { parent: ROOT, name: Name::from(&b""[..]), kind: root, order: 0 }] }
    }

    pub(crate) fn node(&self, id: Id) -> &Node {
        &self.nodes[id as usize]
    }

    pub(crate) fn node_mut(&mut self, id: Id) -> &mut Node {
        &mut self.nodes[id as usize]
    }

    pub(crate) fn directory(&self, id: Id) -> Option<&Directory> {
        match &self.node(id).kind {
            Kind::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    pub(crate) fn directory_mut(&mut self, id: Id) -> Option<&mut Directory> {
        match &mut self.node_mut(id).kind {
            Kind::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    pub(crate) fn child(&self, parent: Id, name: &[u8]) -> Option<Id> {
        self.directory(parent)?.children.get(name).copied()
    }

    /// Puts a node under `parent`, in the place of what had that name. `None` when no more nodes can be numbered.
    pub(crate) fn insert(&mut self, parent: Id, name: &[u8], kind: Kind, order: u64) -> Option<Id> {
        let id = Id::try_from(self.nodes.len()).ok()?;
        let name = Name::from(name);
        self.nodes.push(Node { parent, name: Arc::clone(&name), kind, order });
        self.directory_mut(parent)?.children.insert(name, id);
        Some(id)
    }

    /// Takes a node out of its parent. The node keeps its number but is no longer reached.
    pub(crate) fn detach(&mut self, id: Id) {
        let (parent, name) = (self.node(id).parent, Arc::clone(&self.node(id).name));
        if let Some(directory) = self.directory_mut(parent)
            && directory.children.get(&name) == Some(&id)
        {
            directory.children.remove(&name);
        }
    }

    /// Gives a detached node a new parent under its old name.
    pub(crate) fn attach(&mut self, id: Id, parent: Id) {
        let name = Arc::clone(&self.node(id).name);
        self.node_mut(id).parent = parent;
        if let Some(directory) = self.directory_mut(parent) {
            directory.children.insert(name, id);
        }
    }

    /// The components that lead to a node.
    pub(crate) fn components(&self, mut id: Id) -> Vec<Name> {
        let mut names = Vec::new();
        while id != ROOT {
            names.push(Arc::clone(&self.node(id).name));
            id = self.node(id).parent;
        }
        names.reverse();
        names
    }

    /// The path of a node, for messages and notes.
    pub(crate) fn path(&self, id: Id) -> Vec<u8> {
        self.components(id).join(&b'/')
    }

    /// Follows `path` through the links of this layer, but not a link at its end.
    pub(crate) fn lookup(&self, path: &[Name]) -> Lookup {
        let mut pending: Vec<Name> = path.iter().rev().cloned().collect();
        let (mut at, mut links) = (ROOT, 0);
        while let Some(name) = pending.pop() {
            if &*name == b".." {
                at = self.node(at).parent;
                continue;
            }
            let Some(child) = self.child(at, &name) else { return Lookup::Missing };
            match &self.node(child).kind {
                Kind::Symlink(target) if !pending.is_empty() => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Lookup::Loop;
                    }
                    if target.starts_with(b"/") {
                        at = ROOT;
                    }
                    pending.extend(split(target).into_iter().rev());
                }
                Kind::Directory(_) => at = child,
                _ if pending.is_empty() => return Lookup::Found(child),
                _ => return Lookup::Missing,
            }
        }
        Lookup::Found(at)
    }

    /// All directories that are reached, each before what lies in it, with whether the layers below can be seen there.
    pub(crate) fn directories(&self) -> Vec<(Id, bool)> {
        let mut all = Vec::new();
        let mut pending = vec![(ROOT, true)];
        while let Some((id, visible)) = pending.pop() {
            let Some(directory) = self.directory(id) else { continue };
            let own = visible && directory.hides != Hides::Itself;
            all.push((id, own));
            let below = own && directory.hides == Hides::Nothing;
            pending.extend(directory.children.values().map(|child| (*child, below)));
        }
        all
    }

    /// The pending hard links that are still reached, in the order they came.
    pub(crate) fn pending_links(&self) -> Vec<Id> {
        let pending = self.nodes.iter().enumerate().filter(|(_, node)| matches!(node.kind, Kind::PendingLink(_)));
        let ids = pending.filter_map(|(index, _)| Id::try_from(index).ok());
        ids.filter(|id| self.is_reached(*id)).collect()
    }

    pub(crate) fn is_reached(&self, mut id: Id) -> bool {
        while id != ROOT {
            let node = self.node(id);
            if self.child(node.parent, &node.name) != Some(id) {
                return false;
            }
            id = node.parent;
        }
        true
    }
}

/// The components of a link target: without `.`, with `..`.
pub(crate) fn split(target: &[u8]) -> Vec<Name> {
    target.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).map(Name::from).collect()
}

/// The components of an entry's name, made absolute and cleaned as text: `..` never leads above the root.
pub(crate) fn clean(path: &[u8]) -> Vec<Name> {
    let mut parts = Vec::new();
    for part in split(path) {
        if &*part == b".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> Kind {
        Kind::Directory(Box::default())
    }

    #[test]
    fn names_are_cleaned_as_text() {
        for (path, clean_path) in [
            ("a/b", "a/b"),
            ("/a//b/", "a/b"),
            ("./a/./b", "a/b"),
            ("../../x", "x"),
            ("a/../../x", "x"),
            ("", ""),
            ("/.", ""),
            ("a/..", ""),
            ("..//x", "x"),
            ("a/./../../x", "x"),
            ("...", "..."),
            ("a\\..\\b", "a\\..\\b"),
        ] {
            assert_eq!(clean(path.as_bytes()).join(&b'/'), clean_path.as_bytes(), "{path}");
        }
    }

    #[test]
    fn lookups_stay_inside_and_end() {
        let mut tree = Tree::new();
        let a = tree.insert(ROOT, b"a", directory(), 1).expect("id");
        let file = tree.insert(a, b"f", Kind::File, 2).expect("id");
        tree.insert(ROOT, b"up", Kind::Symlink((*b"../../../a").into()), 3).expect("id");
        tree.insert(ROOT, b"abs", Kind::Symlink((*b"/up").into()), 4).expect("id");
        tree.insert(ROOT, b"loop", Kind::Symlink((*b"loop/x").into()), 5).expect("id");
        let lookup = |path: &str| tree.lookup(&clean(path.as_bytes()));
        assert_eq!(lookup("a/f"), Lookup::Found(file));
        assert_eq!(lookup("up/f"), Lookup::Found(file));
        assert_eq!(lookup("abs/f"), Lookup::Found(file));
        assert_eq!(lookup("loop/f"), Lookup::Loop);
        assert_eq!(lookup("a/f/x"), Lookup::Missing);
        assert_eq!(lookup("b"), Lookup::Missing);
        assert!(matches!(lookup("abs"), Lookup::Found(id) if matches!(tree.node(id).kind, Kind::Symlink(_))));
    }

    #[test]
    fn what_is_replaced_is_not_reached() {
        let mut tree = Tree::new();
        let a = tree.insert(ROOT, b"a", directory(), 1).expect("id");
        tree.insert(a, b"l", Kind::PendingLink(Box::default()), 2).expect("id");
        assert_eq!(tree.pending_links().len(), 1);
        tree.insert(ROOT, b"a", directory(), 3).expect("id");
        assert!(tree.pending_links().is_empty());
    }
}
