//! Parts of one tree in another.
//!
//! Job: find what a path leads to in a tree through all links, and copy it, with everything in it, to a place of another tree. Leaves
//! out where the trees come from.

use super::tree::{Body, Key, Tree, What, join};
use super::way::Way;
use crate::Result;
use crate::unpack::tree::Name;
use std::collections::HashMap;

impl Tree {
    /// What a path leads to, through all links.
    pub(crate) fn resolve(&self, components: &[Name]) -> Option<(Key, &What)> {
        let at = self.walk(components, true)?;
        static ROOT: What = What::Directory { attributes: None, opaque: false };
        let what = if at.is_empty() { Some(&ROOT) } else { self.what(&at) };
        what.map(|what| (at, what))
    }

    /// Where these components lead to: a directory, or a file at their end. A link there is followed if `follow_last`, every other
    /// one in any case.
    pub(super) fn walk(&self, components: &[Name], follow_last: bool) -> Option<Key> {
        let mut way = Way::along(components);
        while let Some(child) = way.next() {
            match self.what(&child)? {
                What::Directory { .. } => way.enter(child),
                What::File(number) => match &self.inode(*number).body {
                    Body::Symlink(target) if follow_last || !way.is_over() => {
                        if !way.follow(target) {
                            return None;
                        }
                    }
                    _ if way.is_over() => way.enter(child),
                    _ => return None,
                },
                What::Whiteout | What::Link(_) => return None,
            }
        }
        Some(way.end())
    }

    /// Copies what `from` has at a path to a path of this tree: a file, or what is in a directory.
    pub(crate) fn graft(&mut self, from: &Self, source: &[u8], target: &[u8], below: Option<&Self>) -> Result<()> {
        let mut numbers = HashMap::new();
        let inside =
            if source.is_empty() { from.inside(&[]) } else { [vec![source.to_vec()], from.inside(source)].concat() };
        for key in inside {
            let rest = key[source.len()..].strip_prefix(b"\0").unwrap_or(&key[source.len()..]);
            let parts: Vec<&[u8]> = target.split(|byte| *byte == 0).chain(rest.split(|byte| *byte == 0)).collect();
            let parts: Vec<&[u8]> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            match from.what(&key) {
                Some(What::Directory { attributes, .. }) => {
                    let at = self.parent(&parts, below)?;
                    let there = below.is_some_and(|below| matches!(below.what(&at), Some(What::Directory { .. })));
                    if !there && !rest.is_empty() && self.directory(&at).is_none() {
                        self.describe(at, attributes.clone());
                    }
                }
                Some(What::File(number)) => {
                    let Some((name, parents)) = parts.split_last() else { continue };
                    let parent = self.parent(parents, below)?;
                    let inode = *numbers.entry(*number).or_insert_with(|| self.add_inode(from.inode(*number).clone()));
                    self.file(join(&parent, name), inode);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::{Attributes, Inode};
    use super::*;
    use crate::unpack::tree::{MAX_LINKS, split};

    /// `d/f`, `d/gone` deleted, `hard` to something below, links to several of them, and a row of as many as may be followed.
    fn tree() -> Tree {
        let mut tree = Tree::default();
        let link = |target: &str| Body::Symlink(target.as_bytes().to_vec());
        let put = |tree: &mut Tree, path: &str, body: Body| {
            let inode = tree.add_inode(Inode { attributes: Attributes::default(), body });
            tree.file(path.replace('/', "\0").into_bytes(), inode);
        };
        tree.describe(b"d".to_vec(), None);
        for (path, target) in [("dir", "/d"), ("up", "../../d/f"), ("nowhere", "x"), ("loop", "loop/x"), ("0", "d")] {
            put(&mut tree, path, link(target));
        }
        for number in 1..=MAX_LINKS {
            put(&mut tree, &number.to_string(), link(&(number - 1).to_string()));
        }
        let node = Body::Node { kind: crate::tar::EntryKind::Fifo, major: 0, minor: 0 };
        put(&mut tree, "d/f", node);
        tree.whiteout(b"d\0gone".to_vec());
        tree.hard_link(b"hard".to_vec(), split(b"below"));
        tree
    }

    #[test]
    fn a_walk_ends_at_a_directory_or_a_file() {
        let tree = tree();
        let last = (MAX_LINKS - 1).to_string();
        let far = [MAX_LINKS.to_string(), format!("{MAX_LINKS}/f"), format!("{last}/f")];
        for (path, followed, not_followed) in [
            ("", Some(""), Some("")),
            ("..", Some(""), Some("")),
            ("d/..", Some(""), Some("")),
            ("d/../../d/f", Some("d/f"), Some("d/f")),
            ("d", Some("d"), Some("d")),
            ("dir", Some("d"), Some("dir")),
            ("dir/f", Some("d/f"), Some("d/f")),
            ("dir/..", Some(""), Some("")),
            ("up", Some("d/f"), Some("up")),
            ("up/x", None, None),
            ("d/f/x", None, None),
            ("d/f/..", None, None),
            ("nowhere", None, Some("nowhere")),
            ("loop", None, Some("loop")),
            ("loop/x", None, None),
            ("d/gone", None, None),
            ("d/gone/x", None, None),
            ("hard", None, None),
            ("x", None, None),
            (&far[0], None, Some(&far[0])),
            (&far[1], None, None),
            (&far[2], Some("d/f"), Some("d/f")),
        ] {
            let walked = |follow: bool| tree.walk(&split(path.as_bytes()), follow);
            let key = |path: Option<&str>| path.map(|path| path.replace('/', "\0").into_bytes());
            assert_eq!((walked(true), walked(false)), (key(followed), key(not_followed)), "{path}");
        }
    }
}
