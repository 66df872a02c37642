//! Steps that hide inside paths, or make them read-only: what a container must not see or change in `/proc` and `/sys`.
//!
//! Targets that are names in the root of a procfs take fewer calls: whoever plans the step knows that they are no links, and
//! nobody else can make one there. All others are found by a search that cannot be led astray.

use core::ffi::CStr;

use super::flags::{
    AT_EMPTY_PATH, AT_RECURSIVE, AT_SYMLINK_NOFOLLOW, MOUNT_ATTR_RDONLY, MS_BIND, MS_REC, O_PATH, OPEN_TREE_CLOEXEC,
    OPEN_TREE_CLONE, S_IFDIR, S_IFMT,
};
use super::mounts::{DESCRIPTOR_PATH, descriptor_path};
use super::{AT_FDCWD, Machine};
use crate::step::{Create, Slot};
use crate::sys::{Call, Errno, Kernel, MountAttr};

type Done = Result<(), Errno>;

/// Read-only, without set-user-id programs, devices and execution.
const MASK_ATTRIBUTES: u64 = 15;

/// A name of the current directory that a mask covers; none if it is empty.
#[derive(Clone, Copy, Debug)]
pub(super) struct Covered([u8; 32]);

impl Covered {
    pub(super) const NONE: Self = Self([0; 32]);

    /// A name that is too long for this is not remembered, and costs the next one a few calls more.
    fn of(name: &CStr) -> Self {
        let (bytes, mut covered) = (name.to_bytes(), Self::NONE);
        if let Some(place) = covered.0.get_mut(..31).and_then(|place| place.get_mut(..bytes.len())) {
            place.copy_from_slice(bytes);
        }
        covered
    }

    fn name(&self) -> Option<&CStr> {
        CStr::from_bytes_until_nul(&self.0).ok().filter(|name| !name.is_empty())
    }
}

impl<K: Kernel> Machine<'_, K> {
    /// Whether a target is a name in the root of a procfs that is the current directory.
    fn is_name(&self, target: &CStr) -> bool {
        self.on_procfs && !target.to_bytes().contains(&b'/')
    }

    /// Whether `descriptor` is open on a procfs.
    pub(super) fn is_procfs(&mut self, descriptor: i32) -> Result<bool, Errno> {
        const PROC_SUPER_MAGIC: u64 = 0x9fa0;
        let mut buffer = [0u64; 15];
        self.call(Call::fstatfs(descriptor, &mut buffer))?;
        Ok(buffer[0] == PROC_SUPER_MAGIC)
    }

    /// Binds an inside path onto itself, read-only. A path that does not exist is passed over.
    pub(super) fn read_only(&mut self, target: &CStr) -> Done {
        if self.is_name(target) {
            return self.read_only_name(target);
        }
        let Some(place) = self.existing(target)? else { return Ok(()) };
        let flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE;
        let made = self.open(Call::open_tree(place, c"", flags)).and_then(|copy| {
            let made = self.read_only_copy(copy, place);
            self.done(copy);
            made
        });
        self.done(place);
        made
    }

    fn read_only_copy(&mut self, copy: i32, place: i32) -> Done {
        let attr = MountAttr { set: MOUNT_ATTR_RDONLY, ..MountAttr::default() };
        match self.call(Call::mount_setattr(copy, c"", AT_EMPTY_PATH | AT_RECURSIVE, &attr)) {
            // Before Linux 5.12: once it has a place, and without what is mounted below, as other runtimes do it.
            Err(Errno::ENOSYS) => {
                self.move_to(copy, place)?;
                let mut path = [0; DESCRIPTOR_PATH];
                self.remount(copy, descriptor_path(copy, &mut path), &attr)
            }
            set => set.and_then(|_| self.move_to(copy, place).map(|()| 0)).map(|_| ()),
        }
    }

    /// An existing inside path, or `None`. Only "there is no such thing" counts as absent: any other error must not
    /// leave a path open that was to be hidden.
    fn existing(&mut self, target: &CStr) -> Result<Option<i32>, Errno> {
        match self.target(target, O_PATH, Create::Nothing) {
            Ok(place) => Ok(Some(place)),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Hides an inside path behind its like. A path that does not exist is passed over.
    pub(super) fn mask(&mut self, target: &CStr, file: Slot, directory: Slot) -> Done {
        let Some(place) = self.existing(target)? else { return Ok(()) };
        let masked = self.mask_place(target, place, [file, directory]);
        self.done(place);
        masked
    }

    fn mask_place(&mut self, target: &CStr, place: i32, slots: [Slot; 2]) -> Done {
        let kind = usize::from(self.is_directory(place)?);
        let names = self.is_name(target);
        if names && self.mask_again(target, kind) {
            return Ok(());
        }
        let [file, directory] = slots;
        self.cover(kind, if kind == 1 { directory } else { file }, place)?;
        if let Some(covered) = self.covered.get_mut(kind).filter(|_| names) {
            *covered = Covered::of(target);
        }
        Ok(())
    }

    /// Hides a name of the current directory behind what hides another one of its kind there; `false` if that is not to be had.
    ///
    /// A file and a directory do not go together. The kernel would say so, but only once it has made a mount, and to take away one
    /// that never had a place costs a grace period: milliseconds on a busy machine.
    fn mask_again(&mut self, target: &CStr, kind: usize) -> bool {
        let covered = self.covered.get(kind).copied().unwrap_or(Covered::NONE);
        let Some(source) = covered.name() else { return false };
        self.call(Call::mount(Some(source), target, None, MS_BIND, None)).is_ok()
    }

    /// As [`read_only`](Self::read_only), for a name of the current directory: nothing has to be found twice.
    fn read_only_name(&mut self, name: &CStr) -> Done {
        match self.call(Call::mount(Some(name), name, None, MS_BIND | MS_REC, None)) {
            Err(Errno::ENOENT) => return Ok(()),
            bound => bound?,
        };
        let attr = MountAttr { set: MOUNT_ATTR_RDONLY, ..MountAttr::default() };
        match self.call(Call::mount_setattr(AT_FDCWD, name, AT_RECURSIVE | AT_SYMLINK_NOFOLLOW, &attr)) {
            // Before Linux 5.12, without what is mounted below.
            Err(Errno::ENOSYS) => {
                let mount = self.target(name, O_PATH, Create::Nothing)?;
                let set = self.remount(mount, name, &attr);
                self.done(mount);
                set
            }
            set => set.map(|_| ()),
        }
    }

    /// Whether `place` is a directory: only its like can cover it.
    fn is_directory(&mut self, place: i32) -> Result<bool, Errno> {
        let mut stat = [0u64; 32];
        self.call(Call::statx(place, c"", AT_EMPTY_PATH as i32, 1, &mut stat))?;
        // `statx`: the mode is the 16 bits at offset 28.
        Ok((stat[3] >> 32) as u32 & S_IFMT == S_IFDIR)
    }

    /// A copy of a mask. Before Linux 6.15 a mount without a place cannot be copied, and later not one that was made in another
    /// mount namespace: then another one is made.
    fn mask_copy(&mut self, kind: usize, mask: i32) -> Result<i32, Errno> {
        let flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
        match self.open(Call::open_tree(mask, c"", flags | AT_EMPTY_PATH)) {
            Err(Errno::EINVAL) if kind == 1 => self.empty_directory(MASK_ATTRIBUTES),
            Err(Errno::EINVAL) if self.old_root >= 0 => self.null_of_host(self.old_root, c"dev/null"),
            // Once the host's root is gone, a /dev/null is one that an image may have made (CVE-2025-31133).
            Err(Errno::EINVAL) if self.root == AT_FDCWD => self.null_of_host(AT_FDCWD, c"/dev/null"),
            copy => copy,
        }
    }

    /// The host's node to hide files with, read-only: its mode is the host's business.
    fn null_of_host(&mut self, directory: i32, path: &CStr) -> Result<i32, Errno> {
        let copy = self.open(Call::open_tree(directory, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC))?;
        let attr = MountAttr { set: MOUNT_ATTR_RDONLY, ..MountAttr::default() };
        match self.call(Call::mount_setattr(copy, c"", AT_EMPTY_PATH, &attr)) {
            Ok(_) => Ok(copy),
            Err(errno) => {
                self.done(copy);
                Err(errno)
            }
        }
    }

    /// Covers `place`: first with the mask that a step made, and then with copies of it. A mount that is never given a place
    /// costs a grace period of the kernel when it goes; one that was lent must not be given away.
    fn cover(&mut self, kind: usize, slot: Slot, place: i32) -> Done {
        let mask = self.slot(slot)?;
        let spent = self.spent.get(kind).is_some_and(|spent| *spent == slot.0);
        if !spent && !self.is_lent(slot) {
            self.move_to(mask, place)?;
            let mut path = [0; DESCRIPTOR_PATH];
            self.catch_up(slot, mask, descriptor_path(mask, &mut path))?;
            if let Some(spent) = self.spent.get_mut(kind) {
                *spent = slot.0;
            }
            return Ok(());
        }
        let copy = self.mask_copy(kind, mask)?;
        let covered = self.move_to(copy, place);
        self.done(copy);
        covered
    }
}
