//! What several containers can share: everything that none of them can write to, made once and copied for each.
//!
//! A copy of a mount shares its file system, so only what is read-only is shared: `/dev` with its nodes, the empty things that
//! hide others, and an overlay that is not written to. What can be written (changes in memory, `/dev/shm`, terminals, message
//! queues) is made for each container.
//!
//! Copies of mounts that are attached nowhere need Linux 6.15; before, use [`RootPlan::plan`]. In another mount namespace than
//! it was taken in, the kernel copies only what was new, not what was itself a copy of something attached (`may_copy_tree` in
//! fs/namespace.c): so a directory of the host is taken by its path each time. Making nodes needs `CAP_MKNOD`, so there are
//! no templates in user namespaces.

use keelbox_launch::{OwnedStep, Slot, list, text};

use super::assemble::{console, dev_directory, held_by_template, in_dev, links};
use super::device::node_of_host;
use super::{PlannedRoot, RootPlan, RootSource, Upper, overlay_options};
use crate::attribute::MOUNT_ATTR_RDONLY;
use crate::{Error, ErrorKind, Mount, SlotAllocator};

/// What is prepared once: steps that leave detached trees in [`held`](Self::held) slots, and change nothing else.
///
/// They attach nothing anywhere, so the host can perform them in its own mount namespace ([`keelbox_launch::prepare`]).
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
    /// The null device of that `/dev`, which hides files.
    pub mask_file: Slot,
    /// The directory that hides directories.
    pub mask_directory: Slot,
    /// The root, where it is an overlay of several layers that is not written to.
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
        let mut held = Held { dev: Slot::NONE, mask_file: Slot::NONE, mask_directory: Slot::NONE, root: Slot::NONE };
        let mut steps = vec![OwnedStep::Umask { mask: 0 }];
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
            held.mask_file = slots.allocate()?;
            steps.push(own_null(held.dev, held.mask_file));
        }
        if let RootSource::Overlay { lowers, upper: Upper::ReadOnly } = &self.source
            && lowers.len() > 1
        {
            held.root = slots.allocate()?;
            let (kind, options) = (text("overlay"), overlay_options(lowers, &Upper::ReadOnly, &[])?);
            let (set, directory, out) = (MOUNT_ATTR_RDONLY | self.root_attributes(), Slot::NONE, held.root);
            steps.push(OwnedStep::FileSystem { kind, options, set, directory, out });
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
        let directories = later.iter().filter_map(dev_directory).map(directory);
        nodes.chain(links()).chain(directories).chain([console()]).collect()
    }
}

/// The step that takes the null device of the template's own `/dev` to hide files with: shared by all runs, so none may change it.
fn own_null(dev: Slot, out: Slot) -> OwnedStep {
    let mut tree = node_of_host(c"null", out);
    if let OwnedStep::Tree { directory, .. } = &mut tree {
        *directory = dev;
    }
    tree
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
