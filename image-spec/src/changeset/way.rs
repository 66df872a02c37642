//! A way through a tree, name by name.
//!
//! Job: what every walk has to know: which names are still to be gone, what `..` and a link do, and how many links are too many. Leaves
//! out what stands at a name, and what then becomes of the walk.

use super::tree::{Key, join};
use crate::unpack::tree::{MAX_LINKS, split};

/// Names still to be gone, and how far the walk has come.
#[derive(Debug)]
pub(super) struct Way {
    pending: Vec<Vec<u8>>,
    at: Key,
    links: usize,
}

impl Way {
    /// From the top along these names.
    pub(super) fn along<Part: AsRef<[u8]>>(components: &[Part]) -> Self {
        let pending = components.iter().rev().map(|part| part.as_ref().to_vec()).collect();
        Self { pending, at: Key::new(), links: 0 }
    }

    /// The path of the next name; nothing at the end of the way.
    pub(super) fn next(&mut self) -> Option<Key> {
        while let Some(name) = self.pending.pop() {
            if name != b".." {
                return Some(join(&self.at, &name));
            }
            self.at.truncate(self.at.iter().rposition(|byte| *byte == 0).unwrap_or(0));
        }
        None
    }

    /// Whether the name that came last is the last one.
    pub(super) fn is_over(&self) -> bool {
        self.pending.is_empty()
    }

    /// Goes on from there.
    pub(super) fn enter(&mut self, key: Key) {
        self.at = key;
    }

    /// Goes on along the target of a link; false if that is one link too many.
    pub(super) fn follow(&mut self, target: &[u8]) -> bool {
        self.links += 1;
        if target.starts_with(b"/") {
            self.at.clear();
        }
        self.pending.extend(split(target).into_iter().rev().map(|part| part.to_vec()));
        self.links <= MAX_LINKS
    }

    /// Where it has come to.
    pub(super) fn end(self) -> Key {
        self.at
    }
}
