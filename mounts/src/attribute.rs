//! What a mount forbids or leaves out, whatever its file system allows, and how mount events travel. Needs no kernel.

/// A mount attribute (`mount_setattr(2)`, Linux 5.12; before, of single mounts, by a remount).
///
/// Attributes are only ever added: a bind keeps what its source has, and in a user namespace the kernel lets nobody take away
/// what the namespace found there.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Attribute {
    /// Nothing can be written.
    ReadOnly,
    /// Set-user-id bits and file capabilities mean nothing.
    NoSuid,
    /// Device nodes cannot be opened.
    NoDev,
    /// Nothing can be executed.
    NoExec,
    /// Symbolic links are not followed (Linux 5.14 for single binds and trees).
    NoSymFollow,
    /// Access times are not kept.
    NoAtime,
    /// Access times are always kept.
    StrictAtime,
    /// Access times are kept where they are older than the last change.
    RelAtime,
    /// Access times of directories are not kept.
    NoDirAtime,
}

/// How far something reaches.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Reach {
    /// This mount only.
    #[default]
    Mount,
    /// This mount and all mounts below it.
    Tree,
}

impl Reach {
    /// As `AT_RECURSIVE` or 0.
    pub(crate) fn at_flags(self) -> u32 {
        match self {
            Self::Mount => 0,
            Self::Tree => AT_RECURSIVE,
        }
    }

    /// As `MS_REC` or 0.
    pub(crate) fn mount_flags(self) -> u64 {
        match self {
            Self::Mount => 0,
            Self::Tree => libc::MS_REC,
        }
    }
}

/// How mount events travel between copies of a mount (`mount_namespaces(7)`, shared subtrees).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Propagation {
    /// Not at all.
    Private,
    /// From the original to this copy, never back.
    Slave,
    /// Both ways.
    Shared,
    /// Not at all, and it cannot be bound.
    Unbindable,
}

impl Propagation {
    /// As the `MS_*` flag.
    pub(crate) fn flag(self) -> u64 {
        match self {
            Self::Private => libc::MS_PRIVATE,
            Self::Slave => libc::MS_SLAVE,
            Self::Shared => libc::MS_SHARED,
            Self::Unbindable => libc::MS_UNBINDABLE,
        }
    }
}

pub(crate) const AT_RECURSIVE: u32 = 0x8000;
pub(crate) const MOUNT_ATTR_RDONLY: u64 = 0x01;
pub(crate) const MOUNT_ATTR_NOSUID: u64 = 0x02;
pub(crate) const MOUNT_ATTR_NODEV: u64 = 0x04;
pub(crate) const MOUNT_ATTR_NOEXEC: u64 = 0x08;
const MOUNT_ATTR_NOATIME: u64 = 0x10;
const MOUNT_ATTR_STRICTATIME: u64 = 0x20;
/// The field of the three kinds of access times; it must be cleared as a whole to be set.
const MOUNT_ATTR_ATIME: u64 = 0x70;
const MOUNT_ATTR_NODIRATIME: u64 = 0x80;
const MOUNT_ATTR_NOSYMFOLLOW: u64 = 0x20_0000;

/// What is set and cleared, as `MOUNT_ATTR_*`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Change {
    pub(crate) set: u64,
    pub(crate) clear: u64,
}

impl Change {
    pub(crate) fn is_empty(self) -> bool {
        self.set | self.clear == 0
    }

    /// Adds `attribute`; of contradicting ones the last counts.
    pub(crate) fn add(&mut self, attribute: Attribute) {
        let atime = |value: u64, change: &mut Self| {
            change.set = change.set & !MOUNT_ATTR_ATIME | value;
            change.clear |= MOUNT_ATTR_ATIME;
        };
        match attribute {
            Attribute::ReadOnly => self.put(MOUNT_ATTR_RDONLY),
            Attribute::NoSuid => self.put(MOUNT_ATTR_NOSUID),
            Attribute::NoDev => self.put(MOUNT_ATTR_NODEV),
            Attribute::NoExec => self.put(MOUNT_ATTR_NOEXEC),
            Attribute::NoSymFollow => self.put(MOUNT_ATTR_NOSYMFOLLOW),
            Attribute::NoDirAtime => self.put(MOUNT_ATTR_NODIRATIME),
            Attribute::NoAtime => atime(MOUNT_ATTR_NOATIME, self),
            Attribute::StrictAtime => atime(MOUNT_ATTR_STRICTATIME, self),
            Attribute::RelAtime => atime(0, self),
        }
    }

    fn put(&mut self, bits: u64) {
        self.set |= bits;
        self.clear &= !bits;
    }

    /// Takes `attribute` away, from this change and (`MOUNT_ATTR_*` to clear) from the mount.
    pub(crate) fn remove(&mut self, attribute: Attribute) {
        let mut one = Self::default();
        one.add(attribute);
        match attribute {
            // What is left when one kind of access times is not wanted is the usual one.
            Attribute::NoAtime | Attribute::StrictAtime => self.add(Attribute::RelAtime),
            Attribute::RelAtime => self.add(Attribute::StrictAtime),
            _ => {
                self.set &= !one.set;
                self.clear |= one.set;
            }
        }
    }
}

impl FromIterator<Attribute> for Change {
    fn from_iter<T: IntoIterator<Item = Attribute>>(attributes: T) -> Self {
        let mut change = Self::default();
        attributes.into_iter().for_each(|attribute| change.add(attribute));
        change
    }
}

/// `MS_*` flags as the attributes that mean the same; the others mean nothing to a single mount.
pub(crate) fn attributes_of(flags: u64) -> impl Iterator<Item = Attribute> {
    const SAME: [(u64, Attribute); 9] = [
        (libc::MS_RDONLY, Attribute::ReadOnly),
        (libc::MS_NOSUID, Attribute::NoSuid),
        (libc::MS_NODEV, Attribute::NoDev),
        (libc::MS_NOEXEC, Attribute::NoExec),
        (MS_NOSYMFOLLOW, Attribute::NoSymFollow),
        (libc::MS_NOATIME, Attribute::NoAtime),
        (libc::MS_STRICTATIME, Attribute::StrictAtime),
        (libc::MS_RELATIME, Attribute::RelAtime),
        (libc::MS_NODIRATIME, Attribute::NoDirAtime),
    ];
    SAME.into_iter().filter(move |(flag, _)| flags & flag != 0).map(|(_, attribute)| attribute)
}

/// `MS_NOSYMFOLLOW` of `mount(2)`, Linux 5.10.
pub(crate) const MS_NOSYMFOLLOW: u64 = 0x100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_access_times_replace_each_other() {
        let change: Change = [Attribute::NoAtime, Attribute::StrictAtime].into_iter().collect();
        assert_eq!(change, Change { set: 0x20, clear: 0x70 });
        let change: Change = [Attribute::ReadOnly, Attribute::RelAtime].into_iter().collect();
        assert_eq!(change, Change { set: 1, clear: 0x70 });
    }

    #[test]
    fn what_is_removed_is_cleared() {
        let mut change: Change = [Attribute::ReadOnly, Attribute::NoSuid].into_iter().collect();
        change.remove(Attribute::ReadOnly);
        assert_eq!(change, Change { set: 2, clear: 1 });
        change.add(Attribute::ReadOnly);
        assert_eq!(change, Change { set: 3, clear: 0 });
    }

    #[test]
    fn flags_of_mount_have_their_attributes() {
        let change: Change = attributes_of(libc::MS_RDONLY | libc::MS_NOATIME | libc::MS_BIND).collect();
        assert_eq!(change, Change { set: 0x11, clear: 0x70 });
        assert_eq!(attributes_of(0).count(), 0);
    }
}
