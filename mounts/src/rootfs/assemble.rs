//! Puts the steps of a container's file system in order: what comes from the host, the change of root, what is inside.
//!
//! Order matters for what may share with the host: copies of shared mounts are taken before the mount namespace is cut off,
//! because afterwards they share with nobody. Needs no kernel.

use std::ffi::CString;

use keelbox_launch::{Create, OwnedStep, Slot, list, text};

use super::cgroup::layout;
use super::device::{DEV_LINKS, Device, single};
use super::hide::hiding;
use super::source::{UPPER, WORK};
use super::{
    Held, Pivot, PlannedRoot, RootPlan, RootSlots, RootSource, Upper, mask_directory, mask_file, overlay_options,
};
use crate::attribute::{AT_RECURSIVE, MOUNT_ATTR_RDONLY};
use crate::root::host_path;
use crate::{Error, ErrorKind, InnerPath, Mount, Propagation, SlotAllocator};

impl RootPlan {
    /// The steps of this file system. Descriptors that they make are kept in `slots`.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`](crate::ErrorKind::InvalidValue) for an overlay without layers,
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for a mount of type `cgroup` without [`cgroups`](Self::cgroups),
    /// [`Conflict`](crate::ErrorKind::Conflict) for an idmapped mount without a user namespace,
    /// [`TooMany`](crate::ErrorKind::TooMany) when there are more binds than descriptors.
    pub fn plan(&self, slots: &mut SlotAllocator) -> Result<PlannedRoot, Error> {
        self.assemble(slots, None)
    }

    /// The steps, with what `held` has taken from it instead of made anew.
    pub(super) fn assemble(&self, slots: &mut SlotAllocator, held: Option<&Held>) -> Result<PlannedRoot, Error> {
        let mut assembly = Assembly::new(self, slots, held)?;
        assembly.sources()?;
        assembly.change_root();
        assembly.inside()?;
        assembly.hide();
        Ok(assembly.end())
    }
}

/// Where a file system in memory is attached while the old root is still there: on a directory that every host has and from
/// which nothing more is taken then. Not on `/`, for what covers the old root would be left in its place (`umount2(2)` takes
/// the topmost mount), and not on all of `/proc`, by which descriptors are named on kernels without `mount_setattr(2)`.
const MEMORY_PLACE: &str = "/proc/fs";

/// A plan being put together.
pub(super) struct Assembly<'a> {
    plan: &'a RootPlan,
    slots: &'a mut SlotAllocator,
    held: Option<&'a Held>,
    steps: Vec<OwnedStep>,
    used: RootSlots,
    mounts: Vec<Mount>,
    /// Where each mount's tree is kept, if it is a bind.
    trees: Vec<Option<Slot>>,
    /// The inside steps of each mount of cgroup hierarchies.
    cgroups: Vec<Vec<OwnedStep>>,
    device_trees: Vec<(Device, Slot)>,
    file_trees: Vec<(InnerPath, Slot)>,
    read_only_dev: bool,
    /// Whether the `/dev` has a file for `console`, as that of a template has.
    console_file: bool,
}

impl<'a> Assembly<'a> {
    pub(super) fn new(plan: &'a RootPlan, slots: &'a mut SlotAllocator, held: Option<&'a Held>) -> Result<Self, Error> {
        let mounts = plan.all_mounts()?;
        if let Some(device) = plan.devices.iter().find(|device| !device.path().as_path().starts_with("/dev"))
            && plan.root_attributes() != 0
        {
            let why = format!("the device {} is outside of /dev, where no node can be opened", device.path());
            return Err(plan.refuse(ErrorKind::Conflict, &why));
        }
        let (trees, cgroups) = (vec![None; mounts.len()], vec![Vec::new(); mounts.len()]);
        let none = Slot::NONE;
        let mut used = RootSlots { root: none, memory: none, mask_file: none, mask_directory: none };
        if let Some(held) = held {
            (used.mask_file, used.mask_directory) = (held.mask_file, held.mask_directory);
        }
        let (device_trees, file_trees) = (Vec::new(), Vec::new());
        Ok(Self {
            plan,
            slots,
            held,
            steps: Vec::new(),
            used,
            mounts,
            trees,
            cgroups,
            device_trees,
            file_trees,
            read_only_dev: false,
            console_file: false,
        })
    }

    /// Everything that is taken from the host, by the host's paths; what covers one of them comes last.
    fn sources(&mut self) -> Result<(), Error> {
        let masks = !self.plan.all_masked().is_empty();
        self.steps.push(OwnedStep::Umask { mask: 0 });
        self.mount_trees(Mount::is_shared)?;
        let kind = if self.is_cut_off() { libc::MS_PRIVATE } else { libc::MS_SLAVE };
        self.steps.push(OwnedStep::Propagation { path: text("/"), flags: libc::MS_REC | kind });
        self.mount_trees(|mount| !mount.is_shared())?;
        if self.plan.user_namespace {
            let own_dev = self.has_own_dev();
            let made = |device: &&Device| !device.is_pipe() && (own_dev || !below_dev(device));
            for device in self.plan.devices.iter().filter(made) {
                let out = self.slots.allocate()?;
                self.steps.push(device.tree(out));
                self.device_trees.push((device.clone(), out));
            }
        }
        if self.used.mask_file == Slot::NONE && masks {
            self.used.mask_file = self.slots.allocate()?;
            self.steps.push(mask_file(self.used.mask_file));
        }
        self.root()?;
        if !self.plan.source.is_private() && !self.plan.files.is_empty() {
            self.file_trees()?;
        }
        if self.used.mask_directory == Slot::NONE && masks {
            self.mask_directory(Slot::NONE)?;
        }
        Ok(())
    }

    /// Whether nothing that comes from the host is to see what is mounted there later.
    fn is_cut_off(&self) -> bool {
        self.plan.propagation.0 == Propagation::Private && self.mounts.iter().all(Mount::is_new)
    }

    /// Takes the trees of the binds that `which` chooses.
    fn mount_trees(&mut self, which: impl Fn(&Mount) -> bool) -> Result<(), Error> {
        for (index, mount) in self.mounts.iter().enumerate().filter(|(_, mount)| which(mount)) {
            if mount.is_cgroup() {
                let layout = layout(mount, &self.plan.cgroups, self.slots)?;
                self.steps.extend(layout.before);
                self.cgroups[index] = layout.after;
            } else if let Some(tree) = mount.taken_tree() {
                self.trees[index] = Some(tree);
            } else if let Some((step, slot)) = mount.prepare(self.slots)? {
                self.steps.push(step);
                self.trees[index] = Some(slot);
            }
        }
        Ok(())
    }

    pub(super) fn mask_directory(&mut self, enter: Slot) -> Result<(), Error> {
        self.used.mask_directory = self.slots.allocate()?;
        self.steps.push(mask_directory(enter, self.used.mask_directory));
        Ok(())
    }

    /// Goes to the root of a file system that has no place yet: the next file system is made from there, and the steps after
    /// it name things by a single component.
    pub(super) fn enter(&mut self, directory: Slot) -> Result<(), Error> {
        if self.used.mask_directory == Slot::NONE {
            return self.mask_directory(directory);
        }
        let out = self.slots.allocate()?;
        self.steps.push(mask_directory(directory, out));
        Ok(())
    }

    /// A file system in memory to build from, which stays behind with the old root. It has a place there, because before
    /// Linux 6.15 the kernel builds nothing from a mount that has none.
    fn memory(&mut self, options: &[String]) -> Result<Slot, Error> {
        let out = self.slots.allocate()?;
        let (kind, options, directory) = (text("tmpfs"), list(options), Slot::NONE);
        self.steps.push(OwnedStep::FileSystem { kind, options, set: 0, directory, out });
        self.steps.push(OwnedStep::AttachOutside { tree: out, target: text(MEMORY_PLACE) });
        Ok(out)
    }

    /// Makes or takes the mount of the root.
    fn root(&mut self) -> Result<(), Error> {
        if let Some(root) = self.held.map(|held| held.root).filter(|root| *root != Slot::NONE) {
            return self.root_tree(root, CString::default());
        }
        match &self.plan.source {
            RootSource::Directory(path) => self.root_tree(Slot::NONE, host_path(path)?),
            RootSource::Descriptor(slot) => self.root_tree(*slot, CString::default()),
            RootSource::Overlay { lowers, upper: Upper::ReadOnly } if lowers.len() == 1 => {
                // The kernel wants two layers where nothing is written; one is as good as a read-only bind.
                let lower = lowers.first().map(|lower| host_path(lower)).transpose()?.unwrap_or_default();
                self.root_tree(Slot::NONE, lower)?;
                if let Some(OwnedStep::Tree { set, attributes_recursive, .. }) = self.steps.last_mut() {
                    (*set, *attributes_recursive) = (MOUNT_ATTR_RDONLY | self.plan.root_attributes(), AT_RECURSIVE);
                }
                Ok(())
            }
            RootSource::Overlay { lowers, upper } => self.overlay(lowers, upper),
        }
    }

    fn root_tree(&mut self, directory: Slot, source: CString) -> Result<(), Error> {
        self.used.root = self.slots.allocate()?;
        let mut tree = single(&source, self.used.root);
        // What is taken from private mounts is private.
        let private = self.plan.propagation.0 == Propagation::Private && !self.is_cut_off();
        if let OwnedStep::Tree { directory: start, recursive, propagation, attributes_recursive, .. } = &mut tree {
            (*start, *recursive) = (directory, AT_RECURSIVE);
            if private {
                (*propagation, *attributes_recursive) = (libc::MS_PRIVATE, AT_RECURSIVE);
            }
        }
        self.steps.push(tree);
        Ok(())
    }

    fn overlay(&mut self, lowers: &[std::path::PathBuf], upper: &Upper) -> Result<(), Error> {
        let more: &[&str] = if self.plan.user_namespace { &["userxattr"] } else { &[] };
        let options = overlay_options(lowers, upper, more)?;
        if let Upper::Memory { bytes } = upper {
            let size = bytes.map(|bytes| format!("size={bytes}"));
            self.used.memory = self.memory(&size.into_iter().chain(["mode=0755".to_owned()]).collect::<Vec<_>>())?;
            self.enter(self.used.memory)?;
            self.upper_directories();
        }
        self.used.root = self.slots.allocate()?;
        let (kind, directory, out) = (text("overlay"), self.used.memory, self.used.root);
        let set = self.plan.root_attributes();
        self.steps.push(OwnedStep::FileSystem { kind, options, set, directory, out });
        Ok(())
    }

    /// The two directories of an overlay whose changes are kept in memory. What the program sees as `/` is the upper one.
    fn upper_directories(&mut self) {
        let (mode, user, group) = self.plan.top;
        self.steps.push(OwnedStep::Directory { path: text(UPPER), mode });
        if (user, group) != (0, 0) {
            self.steps.push(OwnedStep::Owner { path: text(UPPER), user, group });
        }
        self.steps.push(OwnedStep::Directory { path: text(WORK), mode: 0o755 });
    }

    /// Writes the files that are put in to memory, and takes a tree of each.
    fn file_trees(&mut self) -> Result<(), Error> {
        let memory = self.memory(&["mode=0755".to_owned()])?;
        self.enter(memory)?;
        for (index, (_, content, mode)) in self.plan.files.iter().enumerate() {
            let path = text(index.to_string());
            self.steps.push(OwnedStep::File { path, mode: *mode, content: content.clone() });
        }
        for (index, (path, ..)) in self.plan.files.iter().enumerate() {
            let out = self.slots.allocate()?;
            let mut tree = single(&text(index.to_string()), out);
            if let OwnedStep::Tree { directory, .. } = &mut tree {
                *directory = memory;
            }
            self.steps.push(tree);
            self.file_trees.push((path.clone(), out));
        }
        Ok(())
    }

    fn change_root(&mut self) {
        let tree = self.used.root;
        self.steps.push(match self.plan.pivot {
            Pivot::Pivot => OwnedStep::PivotRoot { tree, detached: 1 },
            Pivot::Move => OwnedStep::MoveRoot { tree },
        });
    }

    /// The index of the mount on which `/dev` is built: the last one there.
    fn dev_mount(&self) -> Option<usize> {
        self.mounts.iter().rposition(|mount| mount.target().as_c_str() == c"/dev")
    }

    /// Whether devices are made: not in a `/dev` that is bound from the host.
    fn has_own_dev(&self) -> bool {
        self.dev_mount().and_then(|index| self.mounts.get(index)).is_none_or(|mount| !mount.options().is_bind())
    }

    /// Mounts, devices and files, in this order but for `/dev`, which is filled as soon as it is there.
    fn inside(&mut self) -> Result<(), Error> {
        let dev = self.dev_mount();
        // Whether the current directory is a new /dev, whose names nobody else has made.
        let mut in_new_dev = false;
        for index in 0..self.mounts.len() {
            let Some(mut mount) = self.mounts.get(index).cloned() else { continue };
            let name = dev_directory(&mount).filter(|_| in_new_dev && mount.is_new());
            in_new_dev = name.is_some();
            if let Some(steps) = self.cgroups.get_mut(index).filter(|steps| !steps.is_empty()) {
                self.steps.append(steps);
            } else if let Some(name) = name {
                mount.place_at(&name, None, &mut self.steps);
            } else if let Some(held) = self.held.filter(|held| held.dev != Slot::NONE && Some(index) == dev) {
                self.held_dev(held.dev)?;
                in_new_dev = true;
            } else {
                if Some(index) == dev && self.has_own_dev() {
                    // It is filled first; whoever asked for a read-only one gets it in the end.
                    let as_shared = self.plan.read_only_dev && mount.kind() == b"tmpfs";
                    self.read_only_dev = mount.make_writable() || as_shared;
                    self.console_file = as_shared;
                }
                mount.place(self.trees.get(index).copied().flatten(), &mut self.steps);
                if Some(index) == dev && self.has_own_dev() {
                    let below: Vec<CString> = self.mounts.iter().skip(index + 1).filter_map(dev_directory).collect();
                    self.fill_dev(&below);
                    in_new_dev = mount.kind() == b"tmpfs";
                }
            }
        }
        if dev.is_none() && !self.plan.devices.is_empty() {
            self.steps.push(OwnedStep::Directory { path: text("/dev"), mode: 0o755 });
            self.fill_dev(&[]);
        }
        if self.held.is_none_or(|held| held.dev == Slot::NONE) {
            self.nodes(|device| !below_dev(device));
        }
        self.files();
        Ok(())
    }

    /// Attaches a copy of a `/dev` that is filled already, which no container may change.
    fn held_dev(&mut self, dev: Slot) -> Result<(), Error> {
        let out = self.slots.allocate()?;
        let mut tree = single(c"", out);
        if let OwnedStep::Tree { directory, set, .. } = &mut tree {
            (*directory, *set) = (dev, MOUNT_ATTR_RDONLY);
        }
        self.steps.push(tree);
        self.steps.push(OwnedStep::Attach { tree: out, target: text("/dev"), create: Create::Directory });
        let out_of_dev = |device: &&Device| !held_by_template(device);
        for device in self.plan.devices.iter().filter(out_of_dev) {
            self.steps.push(device.node(device.path().as_c_str()));
        }
        self.steps.push(OwnedStep::Enter { path: text("/dev") });
        Ok(())
    }

    fn fill_dev(&mut self, directories: &[CString]) {
        self.steps.push(OwnedStep::Enter { path: text("/dev") });
        self.nodes(below_dev);
        self.steps.extend(links());
        let directory = |path: &CString| OwnedStep::Directory { path: path.clone(), mode: 0o755 };
        self.steps.extend(directories.iter().map(directory));
        self.steps.extend(self.console_file.then(console));
    }

    /// The devices that `which` chooses: those below `/dev` as soon as that is there, the others when all mounts are.
    fn nodes(&mut self, which: impl Fn(&Device) -> bool) {
        let new_dev = self.dev_mount().is_some();
        for device in self.plan.devices.iter().filter(|device| which(device)) {
            let name = in_dev(device.path());
            let path = device.path().as_c_str();
            let tree = self.device_trees.iter().find(|(other, _)| other.path() == device.path());
            match (tree, name) {
                (None, name) => self.steps.push(device.node(name.as_deref().unwrap_or(path))),
                (Some((_, tree)), Some(name)) if new_dev => {
                    // A file to bind to: by its name it is made with one call, and found again with another.
                    self.steps.push(OwnedStep::File { path: name.clone(), mode: 0o666, content: Vec::new() });
                    self.steps.push(OwnedStep::Attach { tree: *tree, target: name, create: Create::Nothing });
                }
                // What the image has there is covered, not replaced.
                (Some((_, tree)), _) => {
                    self.steps.push(OwnedStep::Attach { tree: *tree, target: path.into(), create: Create::File });
                }
            }
        }
    }

    fn files(&mut self) {
        if self.plan.source.is_private() {
            for (path, content, mode) in &self.plan.files {
                let (path, content) = (path.as_c_str().to_owned(), content.clone());
                self.steps.push(OwnedStep::File { path, mode: *mode, content });
            }
        }
        for (path, tree) in &self.file_trees {
            let target = path.as_c_str().to_owned();
            self.steps.push(OwnedStep::Attach { tree: *tree, target, create: Create::File });
        }
    }

    fn hide(&mut self) {
        let (read_only, masked) = (self.plan.all_read_only(), self.plan.all_masked());
        // Whether what is at /proc is a new procfs, where the image has made nothing.
        let last = self.mounts.iter().rev().find(|mount| mount.target().as_c_str() == c"/proc");
        let new_proc = last.is_some_and(|mount| mount.is_new() && mount.kind() == b"proc");
        let (file, directory) = (self.used.mask_file, self.used.mask_directory);
        let mask = |target| OwnedStep::Mask { target, file, directory };
        self.steps.extend(hiding(&read_only, &masked, new_proc, mask));
    }

    fn end(self) -> PlannedRoot {
        let mut finish = Vec::new();
        let change = |target, set, propagation, recursive| OwnedStep::Attributes {
            target: text(target),
            set,
            clear: 0,
            propagation,
            recursive,
        };
        if self.read_only_dev {
            finish.push(change("/dev", MOUNT_ATTR_RDONLY, 0, 0));
        }
        // Of a directory of the host, the mount has what the host's has; what is mounted in it there is the host's own choice.
        let bound = !matches!(self.plan.source, RootSource::Overlay { .. });
        let own = if bound { self.plan.root_attributes() } else { 0 };
        let set = own | if self.plan.read_only { MOUNT_ATTR_RDONLY } else { 0 };
        if set != 0 {
            finish.push(change("/", set, 0, 0));
        }
        if self.plan.pivot == Pivot::Pivot {
            finish.push(OwnedStep::LeaveOldRoot {});
        }
        // Last, for `pivot_root(2)` takes no root that shares its events.
        let (kind, reach) = self.plan.propagation;
        if !matches!(kind, Propagation::Private | Propagation::Slave) {
            finish.push(change("/", 0, kind.flag(), reach.at_flags()));
        }
        PlannedRoot { steps: self.steps, finish, slots: self.used }
    }
}

/// A file that a terminal is attached to later.
pub(super) fn console() -> OwnedStep {
    OwnedStep::File { path: text("console"), mode: 0o620, content: Vec::new() }
}

/// The links of `/dev`, by name in the directory that was entered.
pub(super) fn links() -> impl Iterator<Item = OwnedStep> {
    DEV_LINKS.into_iter().map(|(name, target)| OwnedStep::Link { path: text(name), target: text(target) })
}

/// The name of a path that lies directly in `/dev`.
pub(super) fn in_dev(path: &InnerPath) -> Option<CString> {
    path.split().filter(|(parent, _)| parent.as_c_str() == c"/dev").map(|(_, name)| name)
}

/// Whether this device lies somewhere in `/dev`.
fn below_dev(device: &Device) -> bool {
    device.path().as_path().starts_with("/dev")
}

/// Whether a template's `/dev` has this device.
pub(super) fn held_by_template(device: &Device) -> bool {
    in_dev(device.path()).is_some()
}

/// The name of the directory in `/dev` that a mount needs there.
pub(super) fn dev_directory(mount: &Mount) -> Option<CString> {
    if mount.options().remount { None } else { in_dev(mount.target()).filter(|_| mount.needs_directory()) }
}
