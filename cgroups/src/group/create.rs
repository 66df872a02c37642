//! Making a group: hierarchies, controllers, limits, in that order, and nothing left of it if one fails.
//!
//! Leaves out: how a limit is written and read back, which is `apply`. Oldest kernel: 5.10.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError, RwLock};

use super::apply::{self, Applied};
use super::{Group, Node, Parent, base, enable, gc, open};
use crate::controller::{Controller, Version};
use crate::error::{Error, ErrorKind, Result};
use crate::hierarchy::{Hierarchy, Mount};
use crate::limits::Limits;
use crate::name::Name;
use crate::plan::Plan;

/// What is done with a group of the same name that is there already.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Existing {
    /// It is an error: [`AlreadyExists`](ErrorKind::AlreadyExists). The default.
    #[default]
    Refused,
    /// It is used as it is if nothing runs in it, and left in its place when the rest is removed. With processes in it, or frozen,
    /// it is an error: [`Busy`](ErrorKind::Busy).
    Adopted,
}

/// How many hierarchies and controllers a group takes part in.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Reach {
    /// Those that its limits need, and the controllers that were named. The default.
    #[default]
    Needed,
    /// All: each v1 hierarchy, and each v2 controller that is on offer on the way to it, where that is allowed. For those who look for the
    /// group and its statistics by its path, as container engines do.
    All,
}

/// How a group is to be made or opened.
///
/// ```no_run
/// use keelbox_cgroups::{Controller, Group, Limits, Parent};
/// let group = Group::builder("web").parent(Parent::Root).limits(&Limits::new().pids(64))
///     .controllers([Controller::Cpuacct]).create()?;
/// # Ok::<(), keelbox_cgroups::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    pub(super) path: PathBuf,
    pub(super) limits: Limits,
    pub(super) parent: Parent,
    controllers: Vec<Controller>,
    pub(super) hierarchy: Option<Hierarchy>,
    owned: bool,
    existing: Existing,
    reach: Reach,
}

impl Builder {
    pub(super) fn new(path: &Path) -> Self {
        let (limits, parent) = (Limits::new(), Parent::Own);
        let (existing, reach) = (Existing::Refused, Reach::Needed);
        let path = path.to_owned();
        Self { path, limits, parent, controllers: Vec::new(), hierarchy: None, owned: false, existing, reach }
    }

    /// The limits that hold from the beginning. Default: none.
    pub fn limits(mut self, limits: &Limits) -> Self {
        self.limits = limits.clone();
        self
    }

    /// What the path is relative to. Default: [`Parent::Own`].
    pub fn parent(mut self, parent: Parent) -> Self {
        self.parent = parent;
        self
    }

    /// Controllers to have although no limit needs them, such as [`Memory`](Controller::Memory) for its statistics. Default: none.
    pub fn controllers(mut self, controllers: impl IntoIterator<Item = Controller>) -> Self {
        self.controllers.extend(controllers);
        self
    }

    /// The hierarchies of this host, if they were detected before. Default: they are detected now (about 0.1 ms).
    pub fn hierarchy(mut self, hierarchy: &Hierarchy) -> Self {
        self.hierarchy = Some(hierarchy.clone());
        self
    }

    /// Adds `-PID.STARTTIME` of the calling process to the name, so that [`gc`](crate::gc) can tell when its owner is gone. Default: it does not.
    pub fn owned(mut self) -> Self {
        self.owned = true;
        self
    }

    /// What is done with a group of this name that is there already. Default: [`Existing::Refused`].
    pub fn existing(mut self, existing: Existing) -> Self {
        self.existing = existing;
        self
    }

    /// How many hierarchies and controllers the group takes part in. Default: [`Reach::Needed`].
    pub fn reach(mut self, reach: Reach) -> Self {
        self.reach = reach;
        self
    }

    /// Makes the group.
    ///
    /// # Errors
    /// As [`Group::create`].
    pub fn create(self) -> Result<Group> {
        let mut name = Name::parse(&self.path)?;
        if self.owned {
            name = name.suffixed(&gc::suffix()?);
        }
        let hierarchy = self.hierarchy.clone().map_or_else(Hierarchy::detect, Ok)?;
        let plan = self.limits.plan(&hierarchy)?;
        let mut attempts = 0;
        loop {
            match self.make(&name, &hierarchy, &plan) {
                // Somebody removed an empty directory on the way just after we saw it.
                Err(error) if error.kind() == ErrorKind::NotFound && attempts < 16 => attempts += 1,
                result => return result,
            }
        }
    }

    /// Opens the group, which must exist in one hierarchy at least. Limits and controllers given here are not applied.
    ///
    /// # Errors
    /// As [`Group::open`].
    pub fn open(self) -> Result<Group> {
        let hierarchy = self.hierarchy.map_or_else(Hierarchy::detect, Ok)?;
        open::open(&Name::parse(&self.path)?, self.parent, hierarchy)
    }

    fn make(&self, name: &Name, hierarchy: &Hierarchy, plan: &Plan) -> Result<Group> {
        let best_effort = self.limits.is_best_effort();
        let mut group = Group::empty(name.clone(), self.parent.clone(), hierarchy.clone());
        // From here on dropping the value takes back what was made.
        group.made = true;
        let legacy = self.legacy_mounts(hierarchy, plan);
        let mut troubles = self.make_unified(&mut group, plan, !legacy.is_empty())?;
        for mount in legacy {
            match group.make_node(mount, self.existing) {
                Ok(()) => {}
                Err(error) if (best_effort || !self.needs(mount, plan)) && is_closed(&error) => {
                    let lost = mount.controllers().iter();
                    troubles.extend(lost.map(|controller| (*controller, error.line())));
                }
                Err(error) => return Err(error),
            }
        }
        if group.nodes().is_empty() {
            let first = troubles.first().map(|(_, why)| why.as_str());
            let why = first.unwrap_or("no cgroup hierarchy is mounted");
            let path = self.path.display();
            return Err(Error::unsupported(format!("cannot create group {path}: {why}")));
        }
        group.applied = apply::apply(&group, plan, best_effort, &troubles)?;
        if self.owned {
            let nodes = group.nodes();
            group.locks = nodes.iter().map(|node| gc::lock(&node.directory)).collect::<Result<_>>()?;
        }
        Ok(group)
    }

    /// Takes part in the cgroup2 tree, where there is one, and has the controllers enabled that live there.
    fn make_unified(&self, group: &mut Group, plan: &Plan, has_legacy: bool) -> Result<enable::Troubles> {
        let Some(mount) = group.hierarchy.unified().cloned() else {
            return Ok(Vec::new());
        };
        let best_effort = self.limits.is_best_effort();
        let mut wanted = plan.unified_names();
        let lives_here = |wanted: &&Controller| group.hierarchy.legacy_of(**wanted).is_none();
        wanted.extend(enable::named(self.controllers.iter().filter(lives_here)));
        match group.make_node(&mount, self.existing) {
            Ok(()) => {}
            // On a hybrid host nothing depends on the v2 tree as long as no limit lives there.
            Err(error) if has_legacy && (best_effort || wanted.is_empty()) && is_closed(&error) => {
                let known = wanted.iter().filter_map(|name| Controller::parse(name));
                return Ok(known.map(|controller| (controller, error.line())).collect());
            }
            Err(error) => return Err(error),
        }
        match group.unified() {
            Some(node) => {
                let troubles = enable::enable(node, &wanted, best_effort)?;
                if self.reach == Reach::All {
                    enable::enable_offered(node)?;
                }
                Ok(troubles)
            }
            None => Ok(Vec::new()),
        }
    }

    /// Whether something that was asked for lives in this v1 hierarchy; the others are taken part in where that is allowed.
    fn needs(&self, mount: &Mount, plan: &Plan) -> bool {
        let asked = plan.controllers(Version::V1).into_iter().chain(self.controllers.iter().copied());
        self.reach == Reach::Needed || asked.into_iter().any(|controller| mount.controllers().contains(&controller))
    }

    /// The v1 hierarchies to take part in: each once, though controllers may share one.
    pub(super) fn legacy_mounts<'a>(&self, hierarchy: &'a Hierarchy, plan: &Plan) -> Vec<&'a Mount> {
        let wanted = plan.controllers(Version::V1).into_iter().chain(self.controllers.iter().copied());
        if self.reach == Reach::All {
            return hierarchy.legacy().iter().collect();
        }
        let mut mounts: Vec<&Mount> = Vec::new();
        for mount in wanted.filter_map(|controller| hierarchy.legacy_of(controller)) {
            if !mounts.contains(&mount) {
                mounts.push(mount);
            }
        }
        if mounts.is_empty() && hierarchy.unified().is_none() {
            // A group without limits must still be somewhere to hold processes; the freezer costs them nothing.
            let any = hierarchy.legacy_of(Controller::Freezer).or(hierarchy.legacy().first());
            mounts.extend(any);
        }
        mounts
    }
}

impl Group {
    /// A group in no hierarchy yet.
    pub(super) fn empty(name: Name, parent: Parent, hierarchy: Hierarchy) -> Self {
        Self {
            name,
            parent,
            hierarchy,
            nodes: RwLock::default(),
            unified: None,
            applied: Applied::default(),
            made: false,
            gone: AtomicBool::new(false),
            locks: Vec::new(),
        }
    }

    fn make_node(&mut self, mount: &Mount, existing: Existing) -> Result<()> {
        let base = base::find(mount, &self.parent)?;
        let node = Node::make(mount, base, self.name.parts(), existing)?;
        self.insert(node);
        Ok(())
    }

    pub(super) fn insert(&mut self, node: Node) {
        let node = Arc::new(node);
        if node.version == Version::V2 {
            self.unified = Some(Arc::clone(&node));
        }
        self.nodes.get_mut().unwrap_or_else(PoisonError::into_inner).push(node);
    }
}

/// Whether a hierarchy is simply not for us, in contrast to a group that exists or a kernel that fails.
fn is_closed(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::Unsupported)
}
