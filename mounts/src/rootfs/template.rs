//! What several containers can share: everything that none of them can write to, made once and copied for each.
//!
//! A copy of a mount shares its file system, so only what is read-only is shared: `/dev` with its nodes, the empty things that
//! hide others, and a root that is a directory or is not written to. What can be written (changes in memory, `/dev/shm`, terminals,
//! message queues) is made for each container. Copies of trees that are attached nowhere need Linux 6.15; before, use
//! [`RootPlan::plan`]. Making nodes needs `CAP_MKNOD`, so there are no templates in user namespaces.

use keelbox_launch::{OwnedStep, Slot, list, text};

use super::assemble::{dev_directory, held_by_template, in_dev, links};
use super::device::single;
use super::{PlannedRoot, RootPlan, RootSource, Upper, mask_file, overlay_options};
use crate::attribute::{AT_RECURSIVE, MOUNT_ATTR_RDONLY};
use crate::root::host_path;
use crate::{Error, ErrorKind, Mount, SlotAllocator};

/// What is prepared once: steps that leave detached trees in [`held`](Self::held) slots, and change nothing else.
///
/// They are performed in a mount namespace of their own, which whoever keeps the descriptors need not stay in.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Template {
    /// The steps.
    pub steps: Vec<OwnedStep>,
    /// Where they leave what is to be kept.
    pub held: Held,
}

/// The descriptors of a template, by the slots in which a script finds them. [`Slot::NONE`]: made anew for each container.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Held {
    /// A `/dev` with its nodes, links and directories.
    pub dev: Slot,
    /// The file that hides files. Check it with [`check_null`](crate::check_null).
    pub mask_file: Slot,
    /// The directory that hides directories.
    pub mask_directory: Slot,
    /// The root, where it can be shared.
    pub root: Slot,
}

impl Held {
    /// The same with every slot that is used numbered anew, in the order `dev`, `mask_file`, `mask_directory`, `root`: for
    /// descriptors that travel with another script.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TooMany`] as [`SlotAllocator::allocate`].
    pub fn renumbered(self, slots: &mut SlotAllocator) -> Result<Self, Error> {
        let mut renumber = |slot: Slot| if slot == Slot::NONE { Ok(slot) } else { slots.allocate() };
        Ok(Self {
            dev: renumber(self.dev)?,
            mask_file: renumber(self.mask_file)?,
            mask_directory: renumber(self.mask_directory)?,
            root: renumber(self.root)?,
        })
    }

    /// The slots that are used, in the order of [`renumbered`](Self::renumbered).
    pub fn used(self) -> impl Iterator<Item = Slot> {
        [self.dev, self.mask_file, self.mask_directory, self.root].into_iter().filter(|slot| *slot != Slot::NONE)
    }
}

impl RootPlan {
    /// The part of this file system that several containers can share.
    ///
    /// ```
    /// use keelbox_launch::Slot;
    /// use keelbox_mounts::{Defaults, RootPlan, RootSource, SlotAllocator};
    /// let plan = RootPlan::new(RootSource::layers(&["/layer"], None)).defaults(Defaults::Container);
    /// let template = plan.template(&mut SlotAllocator::default())?;
    /// // performed once; the descriptors in `template.held` are kept, and go along with each container's script:
    /// let mut slots = SlotAllocator::new(Slot(0));
    /// let held = template.held.renumbered(&mut slots)?;
    /// let rest = plan.rest(&held, &mut slots)?;
    /// # Ok::<(), keelbox_mounts::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] for a plan that is performed in a user namespace; else as [`plan`](Self::plan).
    pub fn template(&self, slots: &mut SlotAllocator) -> Result<Template, Error> {
        if self.user_namespace {
            return Err(
                self.refuse(ErrorKind::Unsupported, "templates need device nodes, which a user namespace cannot make")
            );
        }
        let mut held =
            Held { dev: Slot::NONE, mask_file: slots.allocate()?, mask_directory: Slot::NONE, root: Slot::NONE };
        let mut steps = vec![
            OwnedStep::Umask { mask: 0 },
            OwnedStep::Propagation { path: text("/"), flags: libc::MS_REC | libc::MS_SLAVE },
            mask_file(held.mask_file),
        ];
        let mounts = self.all_mounts()?;
        let dev = mounts.iter().rposition(|mount| mount.target().as_c_str() == c"/dev");
        let own_dev = dev.filter(|index| mounts.get(*index).is_some_and(|mount| mount.kind() == b"tmpfs"));
        if own_dev.is_some() {
            held.dev = slots.allocate()?;
            steps.push(dev_file_system(held.dev));
        }
        held.mask_directory = slots.allocate()?;
        // Made from the root of the new /dev, so that what follows is made there.
        steps.push(super::mask_directory(held.dev, held.mask_directory));
        if let Some(index) = own_dev {
            steps.extend(self.dev_content(mounts.get(index + 1..).unwrap_or_default()));
        }
        if let Some(step) = self.shared_root(slots)? {
            if let OwnedStep::Tree { out, .. } | OwnedStep::FileSystem { out, .. } = &step {
                held.root = *out;
            }
            steps.push(step);
        }
        Ok(Template { steps, held })
    }

    /// The steps of one container, with what the template holds in the slots of `held`.
    ///
    /// Its `/dev` is the template's: read-only, with a file for `console`.
    ///
    /// # Errors
    ///
    /// As [`plan`](Self::plan).
    pub fn rest(&self, held: &Held, slots: &mut SlotAllocator) -> Result<PlannedRoot, Error> {
        self.assemble(slots, Some(held))
    }

    fn dev_content(&self, later: &[Mount]) -> Vec<OwnedStep> {
        let devices = self.devices.iter().filter(|device| held_by_template(device));
        let nodes = devices.filter_map(|device| in_dev(device.path()).map(|name| device.node(&name)));
        let directory = |path| OwnedStep::Directory { path, mode: 0o755 };
        let console = OwnedStep::File { path: text("console"), mode: 0o620, content: Vec::new() };
        let directories = later.iter().filter_map(dev_directory).map(directory);
        nodes.chain(links()).chain(directories).chain([console]).collect()
    }

    /// The step that makes the root, if it can be shared.
    fn shared_root(&self, slots: &mut SlotAllocator) -> Result<Option<OwnedStep>, Error> {
        let (path, set) = match &self.source {
            RootSource::Directory(path) => (path, 0),
            RootSource::Overlay { lowers, upper: Upper::ReadOnly } => match lowers.as_slice() {
                [only] => (only, MOUNT_ATTR_RDONLY),
                several => {
                    let (kind, options) = (text("overlay"), overlay_options(several, &Upper::ReadOnly, &[])?);
                    let (directory, out) = (Slot::NONE, slots.allocate()?);
                    return Ok(Some(OwnedStep::FileSystem { kind, options, set: MOUNT_ATTR_RDONLY, directory, out }));
                }
            },
            _ => return Ok(None),
        };
        let mut tree = single(&host_path(path)?, slots.allocate()?);
        if let OwnedStep::Tree { recursive, set: attributes, propagation, attributes_recursive, .. } = &mut tree {
            (*recursive, *attributes) = (AT_RECURSIVE, set);
            (*propagation, *attributes_recursive) = (libc::MS_PRIVATE, AT_RECURSIVE);
        }
        Ok(Some(tree))
    }
}

fn dev_file_system(out: Slot) -> OwnedStep {
    let options = list(["mode=0755", "size=65536k"]);
    OwnedStep::FileSystem {
        kind: text("tmpfs"),
        options,
        set: crate::attribute::MOUNT_ATTR_NOSUID,
        directory: Slot::NONE,
        out,
    }
}
