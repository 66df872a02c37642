//! Steps that take apart and put together the mount namespace: trees, file systems, the change of root.

use core::ffi::CStr;

use super::flags::{
    AT_EMPTY_PATH, AT_RECURSIVE, FSCONFIG_CMD_CREATE, FSCONFIG_SET_FLAG, FSCONFIG_SET_STRING, MNT_DETACH,
    MOUNT_ATTR_IDMAP, MOVE_MOUNT_F_EMPTY_PATH, O_CLOEXEC, O_DIRECTORY, O_PATH, OPEN_TREE_CLOEXEC, OPEN_TREE_CLONE,
};
use super::mounts::{DESCRIPTOR_PATH, descriptor_path};
use super::{AT_FDCWD, Machine};
use crate::step::Slot;
use crate::sys::{Call, Errno, Kernel, MountAttr};
use crate::wire::texts;

type Done = Result<(), Errno>;

/// What [`Machine::tree`] copies and how, as in `Step::Tree`.
pub(super) struct Tree<'a> {
    pub(super) directory: Slot,
    pub(super) source: &'a CStr,
    pub(super) recursive: u32,
    pub(super) attr: MountAttr,
    pub(super) attributes_recursive: u32,
    pub(super) idmap: Slot,
    pub(super) out: Slot,
}

impl<K: Kernel> Machine<'_, K> {
    pub(super) fn tree(&mut self, tree: &Tree<'_>) -> Done {
        let empty = if tree.source.is_empty() { AT_EMPTY_PATH } else { 0 };
        let flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | empty | (tree.recursive & AT_RECURSIVE);
        let directory = self.slot(tree.directory)?;
        let copy = self.open(Call::open_tree(directory, tree.source, flags))?;
        self.keep(tree.out, copy)?;
        let copy = self.slot(tree.out)?;
        let mut attr = tree.attr;
        if tree.idmap != Slot::NONE {
            attr.set |= MOUNT_ATTR_IDMAP;
            attr.user_namespace = self.slot(tree.idmap)? as u64;
        }
        if attr.set | attr.clear | attr.propagation == 0 {
            return Ok(());
        }
        let flags = AT_EMPTY_PATH | (tree.attributes_recursive & AT_RECURSIVE);
        match self.call(Call::mount_setattr(copy, c"", flags, &attr)) {
            // Before Linux 5.12: remembered, and done by a remount once the tree has a place. That reaches one mount only.
            Err(Errno::ENOSYS) if attr.set & MOUNT_ATTR_IDMAP == 0 => {
                let whole = flags & AT_RECURSIVE != 0 && tree.recursive & AT_RECURSIVE != 0;
                if whole && attr.set | attr.clear != 0 {
                    return Err(Errno::ENOSYS);
                }
                self.later(tree.out, attr)
            }
            answer => answer.map(|_| ()),
        }
    }

    fn later(&mut self, slot: Slot, attr: MountAttr) -> Done {
        let place = self.late.iter_mut().find(|late| late.0 == slot.0 || late.0 == u16::MAX).ok_or(Errno::ENOSYS)?;
        *place = (slot.0, attr);
        Ok(())
    }

    /// Sets the attributes that wait until the tree in `slot` has a place; `path` names it there.
    pub(super) fn catch_up(&mut self, slot: Slot, mount: i32, path: &CStr) -> Done {
        let Some(late) = self.late.iter_mut().find(|late| late.0 == slot.0) else { return Ok(()) };
        let (_, attr) = core::mem::replace(late, (u16::MAX, MountAttr::default()));
        self.remount(mount, path, &attr)
    }

    pub(super) fn file_system(&mut self, kind: &CStr, options: &[u8], set: u64, directory: Slot, out: Slot) -> Done {
        if directory != Slot::NONE {
            let directory = self.slot(directory)?;
            self.go(directory)?;
        }
        let context = self.open(Call::fsopen(kind, 1))?;
        let configured = self.configure(context, options);
        let mount = configured.and_then(|()| {
            self.call(Call::fsconfig(context, FSCONFIG_CMD_CREATE, None, None))?;
            self.open(Call::fsmount(context, 1, set))
        });
        self.done(context);
        match mount {
            Err(Errno::EINVAL) if kind == c"overlay" => self.overlay_by_mount(options, set, directory, out),
            mount => {
                let mount = mount?;
                self.keep(out, mount)
            }
        }
    }

    fn configure(&mut self, context: i32, options: &[u8]) -> Done {
        for option in texts(options) {
            let bytes = option.to_bytes_with_nul();
            let Some(equals) = bytes.iter().position(|byte| *byte == b'=') else {
                self.call(Call::fsconfig(context, FSCONFIG_SET_FLAG, Some(option), None))?;
                continue;
            };
            let mut key = [0u8; 64];
            let name = bytes.get(..equals).ok_or(Errno::EINVAL)?;
            key.get_mut(..equals).ok_or(Errno::EINVAL)?.copy_from_slice(name);
            let key = CStr::from_bytes_until_nul(&key).map_err(|_| Errno::EINVAL)?;
            let value = bytes.get(equals + 1..).and_then(|value| CStr::from_bytes_with_nul(value).ok());
            self.call(Call::fsconfig(context, FSCONFIG_SET_STRING, Some(key), value))?;
        }
        Ok(())
    }

    /// Overlays before Linux 6.5 know no `lowerdir+`, and `fsconfig(2)` takes at most 255 bytes: `mount(2)` takes a page.
    fn overlay_by_mount(&mut self, options: &[u8], set: u64, directory: Slot, out: Slot) -> Done {
        let mut data = [0u8; 4096];
        let data = overlay_data(options, &mut data)?;
        if directory == Slot::NONE {
            self.scratch()?;
        }
        match self.call(Call::mkdirat(AT_FDCWD, c"merged", 0o755)) {
            Ok(_) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
        // The attributes that overlays are given (ro, nosuid, nodev, noexec) are the four lowest flags of mount(2) as well.
        self.call(Call::mount(Some(c"overlay"), c"merged", Some(c"overlay"), set & 15, Some(data)))?;
        let mount = self.open(Call::open_tree(AT_FDCWD, c"merged", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
        // The copy has no place; what has one goes.
        let left = self.call(Call::umount2(c"merged", MNT_DETACH));
        let mount = mount?;
        if let Err(errno) = left {
            self.done(mount);
            return Err(errno);
        }
        self.keep(out, mount)?;
        if directory == Slot::NONE {
            self.call(Call::umount2(c".", MNT_DETACH))?;
        }
        Ok(())
    }

    /// An empty tmpfs on top of `/`, as the current directory: a place to mount where nothing of the host is covered.
    fn scratch(&mut self) -> Done {
        if !self.private {
            return Err(Errno::EINVAL);
        }
        let mount = self.empty_directory(0)?;
        let moved = self.call(Call::move_mount(mount, c"", AT_FDCWD, c"/", MOVE_MOUNT_F_EMPTY_PATH));
        let gone = moved.and_then(|_| self.go(mount));
        self.done(mount);
        gone
    }

    /// An empty tmpfs without a place.
    pub(super) fn empty_directory(&mut self, attributes: u64) -> Result<i32, Errno> {
        let context = self.open(Call::fsopen(c"tmpfs", 1))?;
        let created = self.call(Call::fsconfig(context, FSCONFIG_CMD_CREATE, None, None));
        let mount = created.and_then(|_| self.open(Call::fsmount(context, 1, attributes)));
        self.done(context);
        mount
    }

    /// Attaches `tree` anywhere but on `/`: what is stacked there would be left in the place of the old root.
    pub(super) fn attach_somewhere(&mut self, tree: Slot, target: &CStr) -> Done {
        if target.to_bytes().iter().all(|byte| matches!(byte, b'/' | b'.')) {
            return Err(Errno::EINVAL);
        }
        self.attach_outside(tree, target)
    }

    fn attach_outside(&mut self, tree: Slot, target: &CStr) -> Done {
        let descriptor = self.slot(tree)?;
        self.call(Call::move_mount(descriptor, c"", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH))?;
        if !self.late.iter().any(|late| late.0 == tree.0) {
            return Ok(());
        }
        let mut path = [0; DESCRIPTOR_PATH];
        self.catch_up(tree, descriptor, descriptor_path(descriptor, &mut path))
    }

    /// Enters the new root; the pivot itself waits for [`Machine::leave_old_root`]. It puts the old root on top of the new one,
    /// and a `..` at a root leads to what is on top of it, also with `RESOLVE_IN_ROOT`: a link in an image would reach the host.
    pub(super) fn pivot_root(&mut self, tree: Slot, detached: bool) -> Done {
        let old_root = self.open(Call::openat(AT_FDCWD, c"/", O_PATH | O_DIRECTORY | O_CLOEXEC, 0))?;
        self.old_root = self.raise(old_root)?;
        if detached {
            self.attach_outside(tree, c"/")?;
        }
        let root = self.slot(tree)?;
        self.go(root)?;
        self.root = root;
        Ok(())
    }

    /// `umount2(2)` takes the topmost mount that is stacked on the old root. Something else than the old root is on top if the
    /// image made a mount point a link to `/`; then the host would be left in reach of `..`. Of a root that is gone there is
    /// nothing left to take away, so a second try must fail.
    pub(super) fn leave_old_root(&mut self) -> Done {
        self.go(self.root)?;
        self.call(Call::pivot_root(c".", c"."))?;
        self.go(self.old_root)?;
        self.call(Call::umount2(c".", MNT_DETACH))?;
        match self.call(Call::umount2(c".", MNT_DETACH)) {
            Err(Errno::EINVAL) => {}
            Err(errno) => return Err(errno),
            Ok(_) => return Err(Errno::ELOOP),
        }
        self.call(Call::close(self.old_root))?;
        self.old_root = -1;
        self.go(self.root)?;
        self.at_root = true;
        Ok(())
    }

    pub(super) fn move_root(&mut self, tree: Slot) -> Done {
        self.attach_outside(tree, c"/")?;
        let root = self.slot(tree)?;
        self.go(root)?;
        self.call(Call::chroot(c"."))?;
        self.root = root;
        Ok(())
    }
}

/// The options of `FileSystem` as `mount(2)` wants them: joined by commas, layers by colons.
fn overlay_data<'d>(options: &[u8], data: &'d mut [u8; 4096]) -> Result<&'d CStr, Errno> {
    let mut length = 0;
    let mut put = |bytes: &[u8]| {
        let place = data.get_mut(length..length + bytes.len()).ok_or(Errno::E2BIG)?;
        place.copy_from_slice(bytes);
        length += bytes.len();
        Ok::<(), Errno>(())
    };
    let mut layers = 0;
    for layer in texts(options).filter_map(|option| option.to_bytes().strip_prefix(b"lowerdir+=")) {
        put(if layers == 0 { b"lowerdir=" } else { b":" })?;
        for byte in layer {
            if matches!(byte, b':' | b',' | b'\\') {
                put(b"\\")?;
            }
            put(core::slice::from_ref(byte))?;
        }
        layers += 1;
    }
    for option in texts(options).filter(|option| !option.to_bytes().starts_with(b"lowerdir+=")) {
        if layers > 0 {
            put(b",")?;
        }
        // Paths come with their backslashes doubled, as fsconfig(2) wants them; a comma ends an option here.
        for byte in option.to_bytes() {
            if *byte == b',' {
                put(b"\\")?;
            }
            put(core::slice::from_ref(byte))?;
        }
        layers += 1;
    }
    put(b"\0")?;
    CStr::from_bytes_until_nul(data).map_err(|_| Errno::E2BIG)
}
