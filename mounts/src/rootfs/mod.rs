//! The file system of a container, written down: where its root comes from, what is mounted in it, what is hidden.
//!
//! Here are the words; `assemble.rs` puts the steps in order, `template.rs` splits off what several containers share. Oldest
//! kernel: 5.10; recursive read-only binds need 5.12.

mod assemble;
mod cgroup;
mod defaults;
mod device;
mod hide;
mod source;
mod template;

use std::path::Path;

use keelbox_launch::{OwnedStep, Slot};

pub use cgroup::Hierarchy;
pub use defaults::UsualMount;
pub(crate) use device::{DEV_LINKS, devices};
pub use device::{Device, DeviceKind};
pub use hide::{Defaults, check_null};
pub(crate) use hide::{mask_directory, mask_file};
pub(crate) use source::overlay_options;
pub use source::{RootSource, Upper};
pub use template::{Held, Template};

use crate::{Error, InnerPath, Mount, Propagation, Reach};

/// What is made at a mount target that does not exist.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Entry {
    /// A directory, with those above it.
    Directory,
    /// An empty file, with the directories above it.
    File,
}

/// Where `/sys` comes from.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Sysfs {
    /// A new mount of sysfs, which shows the container's network namespace. In a user namespace the kernel allows it only with
    /// a network namespace of its own.
    New,
    /// The host's `/sys` with all mounts below it, every one read-only.
    Bind,
}

/// How the root becomes the root.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Pivot {
    /// By `pivot_root(2)`; nothing of the host stays in the mount namespace.
    #[default]
    Pivot,
    /// By moving it over `/` and `chroot(2)`, for a host whose root is the first one of the machine (initramfs). The host's
    /// root stays in the mount namespace, out of reach of whoever has no `CAP_SYS_ADMIN`.
    Move,
}

/// The file system of a container, as data.
///
/// [`plan`](Self::plan) makes steps of it. They are performed by a process in a mount namespace of its own: they first take
/// copies of what comes from the host, then change the root, then build what is inside, and nothing inside is ever resolved to
/// anything outside.
///
/// ```
/// use keelbox_mounts::{Defaults, Mount, RootPlan, RootSource, SlotAllocator};
///
/// let plan = RootPlan::new(RootSource::directory("/srv/debian"))
///     .defaults(Defaults::Container)
///     .mount(Mount::bind("/srv/data", "/data")?)
///     .read_only()
///     .plan(&mut SlotAllocator::default())?;
/// for step in plan.all() { println!("{step}"); }
/// # Ok::<(), keelbox_mounts::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct RootPlan {
    source: RootSource,
    user_namespace: bool,
    host_network: bool,
    defaults: Option<Defaults>,
    mounts: Vec<Mount>,
    devices: Vec<Device>,
    masked: Vec<InnerPath>,
    read_only_paths: Vec<InnerPath>,
    read_only: bool,
    files: Vec<(InnerPath, Vec<u8>, u32)>,
    propagation: (Propagation, Reach),
    cgroups: Vec<Hierarchy>,
    terminal_group: Option<u32>,
    read_only_dev: bool,
    shared_memory: u64,
    sysfs: Option<Sysfs>,
    pivot: Pivot,
    /// Mode, user and group of the top directory of changes in memory.
    top: (u32, u32, u32),
}

impl RootPlan {
    /// The bare root: the default devices, and nothing else that is not said. This is what an OCI configuration wants.
    pub fn new(source: RootSource) -> Self {
        Self {
            source,
            user_namespace: false,
            host_network: false,
            defaults: None,
            mounts: Vec::new(),
            devices: devices(),
            masked: Vec::new(),
            read_only_paths: Vec::new(),
            read_only: false,
            files: Vec::new(),
            propagation: (Propagation::Private, Reach::Tree),
            cgroups: Vec::new(),
            terminal_group: Some(5),
            read_only_dev: false,
            shared_memory: 64 << 20,
            sysfs: None,
            pivot: Pivot::Pivot,
            top: (0o755, 0, 0),
        }
    }

    /// Adds the usual mounts, and hides the usual paths. A mount of the caller's at the same target takes the place of one.
    pub fn defaults(mut self, defaults: Defaults) -> Self {
        self.defaults = Some(defaults);
        self
    }

    /// Says that the steps are performed in a new user namespace: device nodes are bound from the host, for none can be made,
    /// and overlays keep their notes in `user.` attributes (Linux 5.11).
    pub fn user_namespace(mut self) -> Self {
        self.user_namespace = true;
        self
    }

    /// Says that the container has the host's network namespace: in a user namespace it then gets the host's `/sys`.
    pub fn host_network(mut self) -> Self {
        self.host_network = true;
        self
    }

    /// Where the usual `/sys` comes from. Default: new, or bound where a new one is not allowed.
    pub fn sysfs(mut self, sysfs: Sysfs) -> Self {
        self.sysfs = Some(sysfs);
        self
    }

    /// Adds a mount. They are made in the order in which they are added, after the usual ones.
    pub fn mount(mut self, mount: Mount) -> Self {
        self.mounts.push(mount);
        self
    }

    /// Adds a device to the default ones; one at the same path is replaced.
    pub fn device(mut self, device: Device) -> Self {
        self.devices.retain(|other| other.path() != device.path());
        self.devices.push(device);
        self
    }

    /// Hides a path behind an empty file or directory. One that does not exist is passed over.
    pub fn masked(mut self, path: InnerPath) -> Self {
        self.masked.push(path);
        self
    }

    /// Makes a path read-only, with all mounts below it. One that does not exist is passed over.
    pub fn read_only_path(mut self, path: InnerPath) -> Self {
        self.read_only_paths.push(path);
        self
    }

    /// Makes the root itself read-only; mounts in it keep what they allow. Default: it can be written to, if its source can.
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Puts a file into the container: into its own layer of changes, or, where it has none, as a bind of a file in memory, so
    /// that a directory of the host's is not written to. It replaces what is there.
    pub fn file(mut self, path: InnerPath, content: impl Into<Vec<u8>>, mode: u32) -> Self {
        self.files.push((path, content.into(), mode));
        self
    }

    /// How mount events travel at the root (OCI `rootfsPropagation`). Default: not at all.
    pub fn propagation(mut self, kind: Propagation, reach: Reach) -> Self {
        self.propagation = (kind, reach);
        self
    }

    /// The cgroup hierarchies to show: at a mount of type `cgroup`, or, with [`defaults`](Self::defaults) and without such a
    /// mount, read-only on `/sys/fs/cgroup`. Default: none.
    pub fn cgroups(mut self, hierarchies: impl IntoIterator<Item = Hierarchy>) -> Self {
        self.cgroups = hierarchies.into_iter().collect();
        self
    }

    /// The group that owns terminals of the usual `/dev/pts`; none where the user namespace does not map it. Default: 5.
    pub fn terminal_group(mut self, group: Option<u32>) -> Self {
        self.terminal_group = group;
        self
    }

    /// The size of the usual `/dev/shm` in bytes. Default: 64 MiB.
    pub fn shared_memory(mut self, bytes: u64) -> Self {
        self.shared_memory = bytes;
        self
    }

    /// Makes the `/dev` read-only once it is filled, with a file for `console`: as it is where containers share it. What is mounted
    /// in it stays as it is. Not for one that is not a new `tmpfs`.
    pub fn read_only_dev(mut self) -> Self {
        self.read_only_dev = true;
        self
    }

    /// Mode and owner of `/` where changes are kept in memory: overlayfs shows those of the upper directory, not those of the
    /// layers. Default: 0755, root.
    pub fn top(mut self, mode: u32, user: u32, group: u32) -> Self {
        self.top = (mode & 0o7777, user, group);
        self
    }

    /// Without the default devices: for a root in which no program is to run.
    pub fn without_devices(mut self) -> Self {
        self.devices.clear();
        self
    }

    /// How the root becomes the root. Default: by `pivot_root(2)`.
    pub fn pivot(mut self, pivot: Pivot) -> Self {
        self.pivot = pivot;
        self
    }

    /// The attributes of the root's own mount, whatever it is taken from.
    fn root_attributes(&self) -> u64 {
        self.defaults.map_or(0, Defaults::root_attributes)
    }

    /// The paths that are hidden, once each.
    fn all_masked(&self) -> Vec<InnerPath> {
        unique(self.defaults.map_or(&[][..], Defaults::masked_paths), &self.masked)
    }

    fn all_read_only(&self) -> Vec<InnerPath> {
        unique(self.defaults.map_or(&[][..], Defaults::read_only_paths), &self.read_only_paths)
    }
}

fn unique(defaults: &[&str], more: &[InnerPath]) -> Vec<InnerPath> {
    let mut paths: Vec<InnerPath> = Vec::with_capacity(defaults.len() + more.len());
    let defaults = defaults.iter().filter_map(|path| InnerPath::new(Path::new(path)).ok());
    for path in defaults.chain(more.iter().cloned()) {
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths
}

/// The steps of a container's file system, in the order in which they must be performed.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct PlannedRoot {
    /// Up to a complete root: it is still writable, and the old root is still there for the kernel's own checks.
    pub steps: Vec<OwnedStep>,
    /// What closes it: the root becomes read-only, and the old root is left. Steps that still make something inside (a working
    /// directory, `/dev/console`) go before them.
    pub finish: Vec<OwnedStep>,
    /// The descriptors that are used.
    pub slots: RootSlots,
}

/// The descriptors that a planned root uses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct RootSlots {
    /// The mount of the root.
    pub root: Slot,
    /// The file system that holds changes in memory, or [`Slot::NONE`].
    pub memory: Slot,
    /// The mount of the file that hides files, or [`Slot::NONE`].
    pub mask_file: Slot,
    /// The mount of the directory that hides directories, or [`Slot::NONE`].
    pub mask_directory: Slot,
}

impl PlannedRoot {
    /// All steps in order.
    pub fn all(&self) -> impl Iterator<Item = &OwnedStep> {
        self.steps.iter().chain(&self.finish)
    }
}

impl RootPlan {
    fn refuse(&self, kind: crate::ErrorKind, why: &str) -> Error {
        Error::new(kind, format!("cannot plan the root file system {}: {why}", self.source.name()))
    }
}
