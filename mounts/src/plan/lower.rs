//! The lines of a mount plan as steps. Needs no kernel.
//!
//! Only steps that leave the working directory alone are used, for the plan may be performed by a thread of the host.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keelbox_launch::{Create, OwnedStep, Slot, list};

use super::{Inside, MountPlan};
use crate::attribute::{Change, Reach};
use crate::root::host_path;
use crate::rootfs::{Device, Upper, mask_directory, mask_file, overlay_options};
use crate::{Error, InnerPath, Mount, SlotAllocator};

/// A line of a plan.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    Overlay { lowers: Vec<PathBuf>, upper: Upper, target: InnerPath },
    Bind(Mount),
    Idmapped { source: PathBuf, target: InnerPath, user_namespace: Arc<OwnedFd> },
    FileSystem { kind: CString, options: Vec<String>, set: u64, target: InnerPath },
    Attributes { target: InnerPath, change: Change, reach: Reach },
    Device(Device),
    Mask(InnerPath),
    ReadOnly(InnerPath),
    Propagation { path: InnerPath, flags: u64 },
    File { path: InnerPath, mode: u32, content: Vec<u8> },
    Directory { path: InnerPath, mode: u32 },
    Link { path: InnerPath, target: CString },
}

/// A plan as steps, with what must be done by hand.
pub(super) struct Lowered {
    pub(super) steps: Vec<OwnedStep>,
    /// The index of the first of the two steps of an idmapped bind, and the namespace to map by.
    pub(super) idmapped: Vec<(usize, Arc<OwnedFd>)>,
    pub(super) has_masks: bool,
}

impl MountPlan {
    /// The plan as steps; relative sources start at `base`.
    pub(super) fn lower(&self, base: Option<&Path>) -> Result<Lowered, Error> {
        if let Some(mistake) = &self.mistake {
            return Err(mistake.again());
        }
        let lowered = Lowered { steps: Vec::new(), idmapped: Vec::new(), has_masks: false };
        let mut lowering = Lowering { plan: self, base, slots: SlotAllocator::default(), masks: None, lowered };
        if self.entries.iter().any(Entry::makes_files) {
            lowering.lowered.steps.push(OwnedStep::Umask { mask: 0 });
        }
        self.entries.iter().try_for_each(|entry| lowering.entry(entry))?;
        Ok(lowering.lowered)
    }
}

impl Entry {
    fn makes_files(&self) -> bool {
        match self {
            Self::Device(_) | Self::File { .. } | Self::Directory { .. } => true,
            Self::Overlay { upper, .. } => matches!(upper, Upper::Memory { .. }),
            _ => false,
        }
    }
}

struct Lowering<'a> {
    plan: &'a MountPlan,
    base: Option<&'a Path>,
    slots: SlotAllocator,
    masks: Option<(Slot, Slot)>,
    lowered: Lowered,
}

impl Lowering<'_> {
    fn entry(&mut self, entry: &Entry) -> Result<(), Error> {
        match entry {
            Entry::Overlay { lowers, upper, target } => return self.overlay(lowers, upper, target),
            Entry::Bind(mount) => return self.bind(mount),
            Entry::Idmapped { source, target, user_namespace } => return self.idmapped(source, target, user_namespace),
            Entry::FileSystem { kind, options, set, target } => return self.file_system(kind, options, *set, target),
            Entry::Mask(path) => return self.mask(path),
            Entry::Attributes { target, change, reach } => self.push(OwnedStep::Attributes {
                target: target.as_c_str().into(),
                set: change.set,
                clear: change.clear,
                propagation: 0,
                recursive: reach.at_flags(),
            }),
            Entry::Device(device) => self.push(device.node(device.path().as_c_str())),
            Entry::ReadOnly(path) => self.push(OwnedStep::ReadOnly { target: path.as_c_str().into() }),
            Entry::Propagation { path, flags } => {
                self.push(OwnedStep::Propagation { path: path.as_c_str().into(), flags: *flags });
            }
            Entry::File { path, mode, content } => {
                self.push(OwnedStep::File { path: path.as_c_str().into(), mode: *mode, content: content.clone() });
            }
            Entry::Directory { path, mode } => {
                self.push(OwnedStep::Directory { path: path.as_c_str().into(), mode: *mode });
            }
            Entry::Link { path, target } => {
                self.push(OwnedStep::Link { path: path.as_c_str().into(), target: target.clone() });
            }
        }
        Ok(())
    }

    fn push(&mut self, step: OwnedStep) {
        self.lowered.steps.push(step);
    }

    /// What may be made for a missing target: nothing, unless it lies in a file system of the plan's own.
    fn create(&self, target: &InnerPath) -> Create {
        let above = self.plan.targets.iter().take_while(|(other, _)| other != target);
        let below = above
            .filter(|(other, _)| target.starts_with(other))
            .max_by_key(|(other, _)| other.as_path().as_os_str().len());
        match below {
            Some((_, Inside::Private)) => Create::Directory,
            _ => Create::Nothing,
        }
    }

    fn attach(&mut self, tree: Slot, target: &InnerPath) {
        let create = self.create(target);
        self.push(OwnedStep::Attach { tree, target: target.as_c_str().into(), create });
    }

    fn source(&self, path: &Path) -> PathBuf {
        self.base.map_or_else(|| path.to_owned(), |base| base.join(path))
    }

    fn overlay(&mut self, lowers: &[PathBuf], upper: &Upper, target: &InnerPath) -> Result<(), Error> {
        let lowers: Vec<PathBuf> = lowers.iter().map(|lower| self.source(lower)).collect();
        if let ([only], Upper::ReadOnly) = (lowers.as_slice(), upper) {
            // The kernel wants two layers where nothing is written; one is as good as a read-only bind.
            return self.bind(&Mount::bind(only, target)?.alone().read_only());
        }
        let upper = match upper {
            Upper::Directories { upper, work } => {
                Upper::Directories { upper: self.source(upper), work: self.source(work) }
            }
            Upper::ReadOnly => Upper::ReadOnly,
            Upper::Memory { bytes } => self.memory(*bytes, target)?,
        };
        let out = self.slots.allocate()?;
        let options = overlay_options(&lowers, &upper, &[])?;
        let kind = c"overlay".to_owned();
        self.push(OwnedStep::FileSystem { kind, options, set: 0, directory: Slot::NONE, out });
        self.attach(out, target);
        Ok(())
    }

    /// Mounts a tmpfs where the overlay will cover it, and makes the overlay's two directories there.
    fn memory(&mut self, bytes: Option<u64>, target: &InnerPath) -> Result<Upper, Error> {
        let tmpfs = self.slots.allocate()?;
        let options = list(bytes.map(|bytes| format!("size={bytes}")).into_iter().chain(["mode=0700".to_owned()]));
        let kind = c"tmpfs".to_owned();
        self.push(OwnedStep::FileSystem { kind, options, set: 0, directory: Slot::NONE, out: tmpfs });
        self.attach(tmpfs, target);
        let mut directory = |name: &str| {
            let path = target.as_path().join(name);
            host_path(&path).map(|text| {
                self.push(OwnedStep::Directory { path: text, mode: 0o755 });
                path
            })
        };
        Ok(Upper::Directories { upper: directory("upper")?, work: directory("work")? })
    }

    fn bind(&mut self, mount: &Mount) -> Result<(), Error> {
        let Some((mut tree, slot)) = mount.prepare(&mut self.slots)? else { return Ok(()) };
        if let (OwnedStep::Tree { source, .. }, Some(path)) = (&mut tree, mount.source()) {
            *source = host_path(&self.source(path))?;
        }
        self.push(tree);
        let first = self.lowered.steps.len();
        mount.place(Some(slot), &mut self.lowered.steps);
        let missing = self.create(mount.target());
        if let Some(OwnedStep::Attach { create, .. }) = self.lowered.steps.get_mut(first) {
            *create = missing;
        }
        Ok(())
    }

    fn idmapped(&mut self, source: &Path, target: &InnerPath, namespace: &Arc<OwnedFd>) -> Result<(), Error> {
        let idmap = self.slots.allocate()?;
        let mount = Mount::bind(self.source(source), target)?.alone().idmap(idmap, Reach::Mount);
        self.lowered.idmapped.push((self.lowered.steps.len(), Arc::clone(namespace)));
        self.bind(&mount)?;
        // The steps before and after it are performed separately, so what they keep in slots is not shared.
        self.masks = None;
        Ok(())
    }

    fn file_system(&mut self, kind: &CString, options: &[String], set: u64, target: &InnerPath) -> Result<(), Error> {
        let out = self.slots.allocate()?;
        let options = list(options);
        self.push(OwnedStep::FileSystem { kind: kind.clone(), options, set, directory: Slot::NONE, out });
        self.attach(out, target);
        Ok(())
    }

    fn mask(&mut self, path: &InnerPath) -> Result<(), Error> {
        let (file, directory) = match self.masks {
            Some(masks) => masks,
            None => {
                let masks = (self.slots.allocate()?, self.slots.allocate()?);
                self.push(mask_file(masks.0));
                self.push(mask_directory(Slot::NONE, masks.1));
                masks
            }
        };
        self.masks = Some((file, directory));
        self.lowered.has_masks = true;
        self.push(OwnedStep::Mask { target: path.as_c_str().into(), file, directory });
        Ok(())
    }
}
