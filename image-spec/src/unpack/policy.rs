//! What the specification leaves to whoever unpacks, and tools decide differently.
//!
//! Job: the choices as enums with their defaults, the part of a layer's key that says how it was unpacked, and the
//! refusals. A choice that can change what is on disk is part of the key, so a store holds both ways side by side; one
//! that only refuses reads the notes of the layer, whoever unpacked it. Leaves out acting on the choices, which the
//! extractor does.

use super::note::{Note, NoteKind};
use crate::{Error, Result};

/// What becomes of a directory that a layer has something in but does not describe, where a layer below has a symbolic
/// link of that name: `lib/foo` over `lib -> usr/lib`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum LinkedParent {
    /// What lies in it goes to where the link leads, inside the image, and the link stays. So do tar and umoci, and so
    /// the author of a layer means it. The default; a [note](NoteKind::Followed) tells of it.
    #[default]
    Follow,
    /// A directory takes the place of the link, and what was reached through it is gone. So do Docker, podman and
    /// containerd, whose layers are extracted without a look at those below.
    Replace,
    /// An error of kind `Format`.
    Refuse,
}

/// What becomes of the devices of an image.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Devices {
    /// They are made. One that the caller may not make is left out with a [note](NoteKind::Device), so an ordinary user
    /// has none. The default.
    #[default]
    Create,
    /// They are left out with a note.
    Skip,
    /// An ordinary empty file with the device's owner and mode is put in their place, with a note.
    Placeholder,
    /// An error of kind `Unsupported`.
    Refuse,
}

/// Where the owner and mode of a file are kept when the caller cannot, or shall not, give it to anybody.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Ownership {
    /// Root gives files away. What an ordinary user cannot give is in the layer's [notes](NoteKind::Owner). The default.
    #[default]
    Files,
    /// Everything stays the caller's, root or not; the image's owner and mode are in the attribute
    /// `user.containers.override_stat` of each file and directory, which fuse-overlayfs and podman read. Symbolic links
    /// and FIFOs cannot have one and get a note. Needs a file system with user attributes.
    Attribute,
}

/// What to think of a layer that breaks the specification without being dangerous.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Breaches {
    #[default]
    Note,
    Refuse,
}

/// All choices for one unpacking.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Policy {
    pub(super) linked_parents: LinkedParent,
    pub(super) devices: Devices,
    pub(super) ownership: Ownership,
    pub(super) breaches: Breaches,
}

impl Policy {
    /// The end of the key of a layer that would be the same whatever lies below it. Empty for the defaults.
    pub(super) fn own_suffix(&self) -> String {
        let devices = match self.devices {
            Devices::Create => "",
            Devices::Skip => ".nodev",
            Devices::Placeholder => ".devfile",
            Devices::Refuse => ".devless",
        };
        let ownership = if self.ownership == Ownership::Attribute { ".stat" } else { "" };
        format!("{devices}{ownership}")
    }

    /// The end of the key of a layer that others below have a say in.
    pub(super) fn chain_suffix(&self) -> String {
        let replaced = if self.linked_parents == LinkedParent::Replace { ".replace" } else { "" };
        self.own_suffix() + replaced
    }

    /// Whether notes can be a reason to refuse a layer.
    pub(super) fn refuses(&self) -> bool {
        self.breaches == Breaches::Refuse || self.linked_parents == LinkedParent::Refuse
    }

    /// Refuses a layer by its notes.
    pub(super) fn check(&self, notes: &[Note]) -> Result<()> {
        for note in notes {
            let path = note.path.display();
            let strict = self.breaches == Breaches::Refuse;
            match &note.kind {
                NoteKind::Repeated if strict => return Err(Error::format(format!("{path} is there twice"))),
                NoteKind::Outside if strict => {
                    return Err(Error::format(format!("{path} has a name with \"..\" in the archive")));
                }
                NoteKind::Followed(_) if self.linked_parents == LinkedParent::Refuse => {
                    let what = format!("{path} is a symbolic link in a layer below, with files in it");
                    return Err(Error::format(what));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_the_disk_changes_the_key() {
        let plain = Policy::default();
        assert_eq!((plain.own_suffix(), plain.chain_suffix()), (String::new(), String::new()));
        let replace = Policy { linked_parents: LinkedParent::Replace, ..plain };
        assert_eq!((replace.own_suffix().as_str(), replace.chain_suffix().as_str()), ("", ".replace"));
        let all = Policy { devices: Devices::Placeholder, ownership: Ownership::Attribute, ..replace };
        assert_eq!(all.chain_suffix(), ".devfile.stat.replace");
        let refusing = Policy { breaches: Breaches::Refuse, linked_parents: LinkedParent::Refuse, ..plain };
        assert_eq!((refusing.chain_suffix(), refusing.refuses(), plain.refuses()), (String::new(), true, false));
    }
}
