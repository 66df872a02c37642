//! Parts of one tree in another.
//!
//! Job: find what a path leads to in a tree through all links, and copy it, with everything in it, to a place of another tree. Leaves
//! out where the trees come from.

use super::tree::{Key, Tree, What, join};
use super::way::Way;
use crate::Result;
use crate::unpack::tree::Name;
use std::collections::HashMap;

impl Tree {
    /// What a path leads to, through all links.
    pub(crate) fn resolve(&self, components: &[Name]) -> Option<(Key, &What)> {
        let mut way = Way::along(components);
        while let Some(child) = way.next() {
            if let Some(target) = self.link_at(&child, None) {
                if !way.follow(&target) {
                    return None;
                }
                continue;
            }
            match self.what(&child)? {
                What::Directory { .. } => way.enter(child),
                What::File(_) if way.is_over() => way.enter(child),
                _ => return None,
            }
        }
        let at = way.end();
        static ROOT: What = What::Directory { attributes: None, opaque: false };
        let what = if at.is_empty() { Some(&ROOT) } else { self.what(&at) };
        what.map(|what| (at, what))
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
