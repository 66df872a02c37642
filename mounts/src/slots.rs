//! Gives out the numbers of a script's descriptors. Needs no kernel.

use keelbox_launch::Slot;

use crate::{Error, ErrorKind};

/// Gives out slots one after another, from the first one that its owner leaves free.
///
/// Planners of several crates write steps of one script; they share one allocator, so that their slots do not collide.
///
/// ```
/// use keelbox_launch::Slot;
/// use keelbox_mounts::SlotAllocator;
/// let mut slots = SlotAllocator::new(Slot(3)); // 0, 1 and 2 are descriptors that come with the script
/// assert_eq!(slots.allocate()?, Slot(3));
/// assert_eq!(slots.allocate()?, Slot(4));
/// # Ok::<(), keelbox_mounts::Error>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SlotAllocator {
    next: u16,
}

impl SlotAllocator {
    /// An allocator whose first slot is `first`.
    #[must_use]
    pub fn new(first: Slot) -> Self {
        Self { next: first.0 }
    }

    /// The next slot.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TooMany`] when all [`Slot::COUNT`] but one are given out; the stage keeps the last one for itself.
    pub fn allocate(&mut self) -> Result<Slot, Error> {
        if usize::from(self.next) + 1 >= Slot::COUNT {
            let attempt = format!("cannot plan more than {} descriptors", Slot::COUNT - 1);
            return Err(Error::new(ErrorKind::TooMany, attempt));
        }
        self.next += 1;
        Ok(Slot(self.next - 1))
    }

    /// The slot that [`allocate`](Self::allocate) would give.
    #[must_use]
    pub fn peek(&self) -> Slot {
        Slot(self.next)
    }
}

impl Default for SlotAllocator {
    /// Starts at slot 0.
    fn default() -> Self {
        Self::new(Slot(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_end_before_the_stages_own() {
        let mut slots = SlotAllocator::default();
        let given = (0..1000).filter_map(|_| slots.allocate().ok()).count();
        assert_eq!(given, Slot::COUNT - 1);
        assert_eq!(slots.allocate().expect_err("they are gone").kind(), ErrorKind::TooMany);
    }
}
