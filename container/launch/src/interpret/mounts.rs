//! Steps on inside paths that mount something there.

use core::ffi::CStr;

use super::Machine;
use super::flags::{
    AT_EMPTY_PATH, AT_RECURSIVE, MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH, MS_BIND, MS_REMOUNT, O_DIRECTORY,
    O_NOFOLLOW, O_PATH,
};
use super::root::Tree;
use crate::step::{Create, Slot, Step, Wire};
use crate::sys::{Call, Errno, Kernel, MountAttr};

type Done = Result<(), Errno>;

impl<K: Kernel> Machine<'_, K> {
    /// Performs `step` if it is one of this family.
    pub(super) fn mounting(&mut self, step: &Step<Wire<'_>>) -> Option<Done> {
        Some(match step {
            Step::Propagation { path, flags } => self.call(Call::mount(None, path, None, *flags, None)).map(|_| ()),
            Step::Tree { directory, source, recursive, set, clear, propagation, attributes_recursive, idmap, out } => {
                let attr = MountAttr { set: *set, clear: *clear, propagation: *propagation, user_namespace: 0 };
                let (directory, source, recursive) = (*directory, *source, *recursive);
                let (attributes_recursive, idmap, out) = (*attributes_recursive, *idmap, *out);
                self.tree(&Tree { directory, source, recursive, attr, attributes_recursive, idmap, out })
            }
            Step::FileSystem { kind, options, set, directory, out } => {
                self.file_system(kind, options, *set, *directory, *out)
            }
            Step::AttachOutside { tree, target } => self.attach_somewhere(*tree, target),
            Step::PivotRoot { tree, detached } => self.pivot_root(*tree, *detached != 0),
            Step::LeaveOldRoot {} => self.leave_old_root(),
            Step::MoveRoot { tree } => self.move_root(*tree),
            Step::Mount { kind, source, target, flags, data, create } => {
                self.mount(kind, source, target, *flags, data, *create)
            }
            Step::Attach { tree, target, create } => self.attach(*tree, target, *create),
            Step::Attributes { target, set, clear, propagation, recursive } => {
                let attr = MountAttr { set: *set, clear: *clear, propagation: *propagation, user_namespace: 0 };
                self.attributes(target, &attr, *recursive)
            }
            Step::ReadOnly { target } => self.read_only(target),
            Step::Mask { target, file, directory } => self.mask(target, *file, *directory),
            other => return self.files(other),
        })
    }

    fn mount(&mut self, kind: &CStr, source: &CStr, target: &CStr, flags: u64, data: &CStr, create: Create) -> Done {
        let data = (!data.is_empty()).then_some(data);
        if !target.to_bytes().contains(&b'/') {
            // A name in a directory that was just made and entered; what it names was made by the step before.
            return self.call(Call::mount(Some(source), target, Some(kind), flags, data)).map(|_| ());
        }
        // An image that makes /proc or /sys a link could have the kernel's files appear where the rest of the set-up does
        // not look for them (CVE-2019-19921).
        let kernel_files = matches!(kind.to_bytes(), b"proc" | b"sysfs");
        let flags_of_target = O_PATH | O_DIRECTORY | if kernel_files { O_NOFOLLOW } else { 0 };
        let directory = self.target(target, flags_of_target, create)?;
        let gone = self.go(directory);
        let mounted = gone.and_then(|()| self.call(Call::mount(Some(source), c".", Some(kind), flags, data)));
        self.done(directory);
        mounted.map(|_| ())
    }

    pub(super) fn attach(&mut self, tree: Slot, target: &CStr, create: Create) -> Done {
        let descriptor = self.slot(tree)?;
        let target = self.target(target, O_PATH, create)?;
        let attached = self.move_to(descriptor, target);
        self.done(target);
        attached?;
        let mut path = [0; DESCRIPTOR_PATH];
        self.catch_up(tree, descriptor, descriptor_path(descriptor, &mut path))?;
        if self.control >= 0 && descriptor != self.root {
            // Containers have more binds than a process may have descriptors.
            self.call(Call::close(target))?;
            self.give_up(tree)?;
        }
        Ok(())
    }

    pub(super) fn move_to(&mut self, tree: i32, target: i32) -> Done {
        self.call(Call::move_mount(tree, c"", target, c"", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH))
            .map(|_| ())
    }

    /// Sets attributes as it was done before `mount_setattr(2)`, on the mount whose root is `mount` and is named by `path`.
    ///
    /// A remount sets all attributes at once, so those that the mount has already are asked for and kept.
    pub(super) fn remount(&mut self, mount: i32, path: &CStr, attr: &MountAttr) -> Done {
        let mut buffer = [0u64; 15];
        self.call(Call::fstatfs(mount, &mut buffer))?;
        // The 11th word, f_flags, has the numbers of the MS_* flags but for relatime, the kernel's default.
        let kept = buffer[10] & mount_flags(u64::MAX) & !mount_flags(attr.clear);
        self.call(Call::mount(None, path, None, MS_REMOUNT | MS_BIND | kept | mount_flags(attr.set), None))?;
        if attr.propagation != 0 {
            self.call(Call::mount(None, path, None, attr.propagation, None))?;
        }
        Ok(())
    }

    fn attributes(&mut self, target: &CStr, attr: &MountAttr, recursive: u32) -> Done {
        let mount = self.target(target, O_PATH, Create::Nothing)?;
        let set = self.call(Call::mount_setattr(mount, c"", AT_EMPTY_PATH | (recursive & AT_RECURSIVE), attr));
        let set = match set {
            Err(Errno::ENOSYS) if recursive & AT_RECURSIVE == 0 => {
                let mut path = [0; DESCRIPTOR_PATH];
                self.remount(mount, descriptor_path(mount, &mut path), attr)
            }
            set => set.map(|_| ()),
        };
        self.done(mount);
        set
    }
}

/// The length of [`descriptor_path`] with its NUL.
pub(super) const DESCRIPTOR_PATH: usize = 25;

/// The path by which procfs, where it is mounted, names what `descriptor` is open on: a file cannot become the current directory.
pub(super) fn descriptor_path(descriptor: i32, path: &mut [u8; DESCRIPTOR_PATH]) -> &CStr {
    *path = *b"/proc/self/fd/0000000000\0";
    let mut number = descriptor;
    for place in path.iter_mut().rev().skip(1).take(10) {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
    }
    let zeroes = path.iter().skip(14).take_while(|byte| **byte == b'0').count().min(9);
    path.copy_within(14 + zeroes..25, 14);
    CStr::from_bytes_until_nul(path).unwrap_or(c"")
}

/// The `MS_*` flags that mean what the `MOUNT_ATTR_*` in `set` mean.
fn mount_flags(set: u64) -> u64 {
    const MOUNT_ATTR_NOATIME: u64 = 0x10;
    const MOUNT_ATTR_NODIRATIME: u64 = 0x80;
    const MS_NOATIME: u64 = 0x400;
    const MS_NODIRATIME: u64 = 0x800;
    let noatime = if set & MOUNT_ATTR_NOATIME != 0 { MS_NOATIME } else { 0 };
    let nodiratime = if set & MOUNT_ATTR_NODIRATIME != 0 { MS_NODIRATIME } else { 0 };
    (set & 15) | noatime | nodiratime
}
