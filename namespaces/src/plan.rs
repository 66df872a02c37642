//! What the kernel is asked for so that a container gets its namespaces, as steps for the stage. Pure.
//!
//! Leaves out on purpose: opening what is joined ([`Plan::open`] is the next arrow) and performing the steps.
//! Oldest kernel: 5.8 for joining by process, 5.6 for time namespaces.
//!
//! Why this order:
//!
//! * With privilege, namespaces are joined first and the user namespace last: joining it gives the privilege away that
//!   namespaces owned by others need. Without, the user namespace comes first, because only it gives the right to join
//!   the rest. Mount namespaces come last of the rest.
//! * What is new belongs to the user namespace in which it is made. So if that one is joined, or if something must be
//!   joined before it is made, nothing can be made by the clone; the stage makes it.
//! * A process never changes its own pid namespace, only that of its children: one clone more.
//! * Id maps and clock offsets are written through files in `/proc` that belong to root as soon as a process has closed
//!   itself (`PR_SET_DUMPABLE`), which bars an ordinary user, and `newuidmap` on its behalf. So the stage closes itself
//!   right after them, unless it joins a user namespace, whose processes could look into it.

use std::os::fd::OwnedFd;

use keelbox_launch::{MapFile, OwnedStep, Slot, Step, Wait, text};

use crate::error::Error;
use crate::id_maps::IdMaps;
use crate::kind::{Kind, NamespaceSet};
use crate::mapping::MapMethod;
use crate::selection::{Loopback, Selection, TimeSwitch};
use crate::source::Join;

/// What to clone the stage with, what it joins, and what it does then.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Plan {
    clone: NamespaceSet,
    joins: Vec<Join>,
    steps: Vec<OwnedStep>,
    maps: Option<(IdMaps, MapMethod)>,
}

impl Plan {
    pub(crate) fn new(selection: &Selection, first: Slot) -> Self {
        let joins = joins(selection);
        let stages = Stages::new(selection);
        let steps = steps(selection, &joins, &stages, first);
        Self { clone: stages.clone, joins, steps, maps: selection.maps.clone() }
    }

    /// The `CLONE_NEW*` flags for `clone3(2)` of the stage.
    pub fn clone_flags(&self) -> u64 {
        u64::from(self.clone.flags())
    }

    /// What the stage joins, one descriptor each, in the order of their slots.
    pub fn joins(&self) -> &[Join] {
        &self.joins
    }

    /// What the stage does: joins, new namespaces, maps, clocks, [`Step::Conceal`], one clone more where it is needed,
    /// names and loopback.
    pub fn steps(&self) -> &[OwnedStep] {
        &self.steps
    }

    /// Whether the steps clone once more ([`Step::Fork`]).
    pub fn forks(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Fork { .. }))
    }

    /// The maps to [`crate::write`] when the stage waits for [`Wait::Maps`]: none if it writes them itself.
    pub fn maps_to_write(&self) -> Option<(&IdMaps, &MapMethod)> {
        self.maps.as_ref().map(|(maps, method)| (maps, method)).filter(|(_, method)| **method != MapMethod::Own)
    }

    /// Opens what is joined, for the slots from the first on. Checks kinds and refuses what the kernel would.
    ///
    /// # Errors
    ///
    /// As [`Join::open`].
    pub fn open(&self) -> Result<Vec<OwnedFd>, Error> {
        self.joins.iter().map(Join::open).collect()
    }
}

/// When each new namespace is made.
struct Stages {
    clone: NamespaceSet,
    unshare: NamespaceSet,
    fork: Option<NamespaceSet>,
    time: bool,
}

impl Stages {
    fn new(selection: &Selection) -> Self {
        let (new, joined) = (selection.new_kinds(), selection.joined_kinds());
        let late = !joined.is_empty() && (joined.contains(Kind::User) || new.contains(Kind::User));
        let time = new.contains(Kind::Time);
        let forks = joined.contains(Kind::Pid)
            || late && new.contains(Kind::Pid)
            || time && selection.time_switch == TimeSwitch::Fork;
        // A cgroup namespace begins at the cgroup its first process is in, which is that of the last clone.
        let at_fork = |kind: Kind| forks && matches!(kind, Kind::Pid | Kind::Cgroup);
        let fork: NamespaceSet = new.iter().filter(|kind| at_fork(*kind)).collect();
        let rest: NamespaceSet = new.iter().filter(|kind| *kind != Kind::Time && !at_fork(*kind)).collect();
        let (clone, unshare) = if late { (NamespaceSet::NONE, rest) } else { (rest, NamespaceSet::NONE) };
        Self { clone, unshare, fork: forks.then_some(fork), time }
    }
}

/// What is joined, in order; kinds that are joined by the same process or file are joined at once.
fn joins(selection: &Selection) -> Vec<Join> {
    let mut joins: Vec<Join> = Vec::new();
    // Of the kinds after the user namespace, the mount namespace goes last.
    let order = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Mount).chain([Kind::Mount]);
    for kind in order {
        let Some(target) = selection.joined(kind) else {
            continue;
        };
        let same = |join: &&mut Join| matches!(target, crate::source::Target::Process(_)) && join.target == *target;
        match joins.iter_mut().find(same) {
            Some(join) => join.kinds = join.kinds.and(kind),
            None => joins.push(Join { target: target.clone(), kinds: kind.into() }),
        }
    }
    // A stable sort: the mount namespace stays last of those that do not come with the user namespace.
    joins.sort_by_key(|join| join.kinds.contains(Kind::User) == selection.privileged);
    joins
}

fn steps(selection: &Selection, joins: &[Join], stages: &Stages, first: Slot) -> Vec<OwnedStep> {
    let mut steps = Vec::new();
    let joins_user = joins.iter().any(|join| join.kinds.contains(Kind::User));
    if joins_user {
        steps.push(Step::Conceal {});
    }
    for (join, slot) in joins.iter().zip(first.0..) {
        steps.push(Step::Join { namespace: Slot(slot), kinds: join.kinds.flags() });
    }
    // The names of a joined uts namespace are not for a new user namespace to set.
    let names_early = selection.joined(Kind::Uts).is_some() && !joins_user;
    if names_early {
        names(selection, &mut steps);
    }
    if !stages.unshare.is_empty() {
        steps.push(Step::Unshare { kinds: stages.unshare.flags() });
    }
    if let Some((maps, method)) = &selection.maps {
        map(maps, method, &mut steps);
    }
    if stages.time {
        steps.push(Step::Unshare { kinds: Kind::Time.flag() });
        if let Some(offsets) = selection.offsets.filter(|offsets| !offsets.is_empty()) {
            steps.push(Step::TimeOffsets { text: text(offsets.text()) });
        }
    }
    if !joins_user {
        steps.push(Step::Conceal {});
    }
    if becomes_root(selection) {
        // What the unmapped user of outside makes would belong to nobody: the kernel refuses that (`EOVERFLOW`).
        steps.push(Step::Ids { user: 0, group: 0 });
    }
    if let Some(kinds) = stages.fork {
        steps.push(Step::Fork { flags: kinds.flags().into(), cgroup: Slot::NONE });
    }
    if !names_early {
        names(selection, &mut steps);
    }
    if selection.new_kinds().contains(Kind::Net) && selection.loopback == Loopback::Up {
        steps.push(Step::Loopback {});
    }
    steps
}

fn names(selection: &Selection, steps: &mut Vec<OwnedStep>) {
    if let Some(name) = &selection.hostname {
        steps.push(Step::Hostname { name: text(name) });
    }
    if let Some(name) = &selection.domainname {
        steps.push(Step::Domainname { name: text(name) });
    }
}

fn map(maps: &IdMaps, method: &MapMethod, steps: &mut Vec<OwnedStep>) {
    if *method != MapMethod::Own {
        return steps.push(Step::Wait { what: Wait::Maps, listener: Slot::NONE });
    }
    // Without privilege the kernel takes a group map only after `setgroups(2)` has been given up (CVE-2014-8989).
    steps.push(Step::Map { file: MapFile::Groups, text: c"deny".into() });
    steps.push(Step::Map { file: MapFile::Users, text: text(maps.users().text()) });
    steps.push(Step::Map { file: MapFile::GroupIds, text: text(maps.groups().text()) });
}

/// Whether the stage must change its ids to be root inside. With [`MapMethod::Own`] it is who it was.
fn becomes_root(selection: &Selection) -> bool {
    selection.maps.as_ref().is_some_and(|(maps, method)| {
        *method != MapMethod::Own && maps.users().outside(0).is_some() && maps.groups().outside(0).is_some()
    })
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
