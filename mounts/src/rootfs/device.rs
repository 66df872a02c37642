//! The devices and links that every `/dev` has. Needs no kernel; making nodes needs `CAP_MKNOD` in the first user namespace.

use std::ffi::CStr;
use std::path::Path;

use keelbox_launch::{OwnedStep, Slot};

use crate::attribute::MOUNT_ATTR_RDONLY;
use crate::{Error, InnerPath};

/// A device node, or a named pipe, of a container.
///
/// ```
/// use keelbox_mounts::{Device, DeviceKind};
/// let fuse = Device::new("/dev/fuse", DeviceKind::Character, 10, 229)?.mode(0o666);
/// # Ok::<(), keelbox_mounts::Error>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use]
pub struct Device {
    path: InnerPath,
    kind: DeviceKind,
    major: u32,
    minor: u32,
    mode: u32,
    user: u32,
    group: u32,
}

/// The type of a device node.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum DeviceKind {
    /// A character device (`c`, `u`).
    Character,
    /// A block device (`b`).
    Block,
    /// A named pipe (`p`); its numbers mean nothing.
    Pipe,
}

impl Device {
    /// A device at `path`. Default mode: 0666; owner: root.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidPath`](crate::ErrorKind::InvalidPath) if `path` is no [inner path](InnerPath).
    pub fn new(path: impl AsRef<Path>, kind: DeviceKind, major: u32, minor: u32) -> Result<Self, Error> {
        Ok(Self { path: InnerPath::new(path)?, kind, major, minor, mode: 0o666, user: 0, group: 0 })
    }

    /// Its permission bits.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode & 0o7777;
        self
    }

    /// Its owner and group, by the ids of the container.
    pub fn owner(mut self, user: u32, group: u32) -> Self {
        (self.user, self.group) = (user, group);
        self
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &InnerPath {
        &self.path
    }

    /// The step that makes it, by `name`: a path, or its last component.
    pub(crate) fn node(&self, name: &CStr) -> OwnedStep {
        let kind = match self.kind {
            DeviceKind::Character => libc::S_IFCHR,
            DeviceKind::Block => libc::S_IFBLK,
            DeviceKind::Pipe => libc::S_IFIFO,
        };
        let device = libc::makedev(self.major, self.minor);
        OwnedStep::Node { path: name.into(), mode: kind | self.mode, device, user: self.user, group: self.group }
    }

    /// Whether it can be made by anybody, without the host's node.
    pub(crate) fn is_pipe(&self) -> bool {
        self.kind == DeviceKind::Pipe
    }

    /// The step that takes the host's node of the same path, where none can be made.
    pub(crate) fn tree(&self, out: Slot) -> OwnedStep {
        node_of_host(self.path.as_c_str(), out)
    }
}

/// A step that takes a node of the host. Nobody changes its mode or owner through a read-only mount, and devices can be written to.
pub(crate) fn node_of_host(source: &CStr, out: Slot) -> OwnedStep {
    let mut tree = single(source, out);
    if let OwnedStep::Tree { set, .. } = &mut tree {
        *set = MOUNT_ATTR_RDONLY;
    }
    tree
}

/// A step that takes one mount at a path of the host, as it is.
pub(crate) fn single(source: &CStr, out: Slot) -> OwnedStep {
    OwnedStep::Tree {
        directory: Slot::NONE,
        source: source.into(),
        recursive: 0,
        set: 0,
        clear: 0,
        propagation: 0,
        attributes_recursive: 0,
        idmap: Slot::NONE,
        out,
    }
}

/// The devices that every container has (OCI runtime specification, "Default Devices", without `console` and `ptmx`).
pub(crate) fn devices() -> Vec<Device> {
    const ALL: [(&str, u32, u32); 6] =
        [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
    let device =
        |(name, major, minor)| Device::new(Path::new("/dev").join(name), DeviceKind::Character, major, minor).ok();
    ALL.into_iter().filter_map(device).collect()
}

/// The links that every `/dev` has, by their names there.
pub(crate) const DEV_LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_devices_are_six() {
        let told: Vec<String> =
            devices().iter().map(|device| device.node(device.path().as_c_str()).to_string()).collect();
        assert_eq!(told.len(), 6);
        assert_eq!(told[0], "make device /dev/null (1:3)");
        assert_eq!(told[5], "make device /dev/tty (5:0)");
    }

    #[test]
    fn a_node_has_type_mode_and_owner() {
        let device = Device::new("/dev/sda", DeviceKind::Block, 8, 0).expect("it is a path").mode(0o660).owner(1, 6);
        let step = device.node(c"sda");
        let OwnedStep::Node { mode, device, user, group, .. } = step else { panic!("{step} is no node") };
        assert_eq!((mode, device, user, group), (0o060_660, libc::makedev(8, 0), 1, 6));
    }
}
