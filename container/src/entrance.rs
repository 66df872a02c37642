//! The way of a further program into a container: its control group, its namespaces, one clone more.
//!
//! Leaves out what the program is given, which is as for the first one. Oldest kernel: 5.10.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use keelbox_cgroups::Group;
use keelbox_launch::{Slot, Step};
use keelbox_namespaces::Kind;
use oci_spec::runtime as oci;

use crate::control_group::cannot;
use crate::error::{Error, ErrorKind, Result};
use crate::exec::Site;
use crate::labels::Labels;
use crate::plan::{Plan, Program, Streams, first_steps, last_steps, terminal_steps};
use crate::terminal::Terminal;

/// What the third planner starts from.
pub(crate) struct Further<'a> {
    pub(crate) site: &'a Site<'a>,
    pub(crate) process: &'a oci::Process,
    pub(crate) terminal: Option<Terminal>,
    pub(crate) streams: Streams,
    pub(crate) detached: bool,
    pub(crate) labels: Labels,
}

impl Further<'_> {
    /// The third planner: into the control group, into the namespaces, one clone more, and the program.
    pub(crate) fn plan(&self, entrance: &Entrance) -> Result<Plan> {
        let (inside, process) = (&self.site.inside, self.process);
        let (legacy, unified) = (entrance.legacy.len(), entrance.unified.is_some());
        let container = Slot(self.streams.count() as u16);
        let behind = |count: usize| Slot(container.0 + 1 + count as u16);
        let affinity = process.exec_cpu_affinity().as_ref();
        let proc = behind(legacy + usize::from(unified) + usize::from(entrance.namespace.is_some()));
        let labels = (!self.labels.is_empty()).then_some((&self.labels, proc));
        let mut steps = first_steps(process);
        steps.extend(labels.map(|_| Labels::open(proc)));
        steps.extend(crate::plan::affinity(affinity.and_then(|affinity| affinity.initial().as_ref()))?);
        steps.extend((0..legacy).map(|file| Step::WriteTo { file: behind(file), data: b"0".to_vec() }));
        steps.push(Step::Conceal {});
        let late = entrance.namespace.as_ref().map(|_| Kind::Cgroup);
        let early = late.map_or(inside.kinds, |kind| inside.kinds.without(kind));
        steps.extend((!early.is_empty()).then(|| Step::Join { namespace: container, kinds: early.flags() }));
        steps.push(Step::Fork { flags: 0, cgroup: if unified { behind(legacy) } else { Slot::NONE } });
        steps.extend(late.map(|kind| Step::Join { namespace: behind(legacy + 1), kinds: kind.flag() }));
        let program = Program {
            process,
            terminal: self.terminal,
            streams: self.streams.numbered(),
            filter: inside.filter.clone(),
            dies: (!self.detached).then_some(9),
            waits_for_parent: false,
            user_namespace: inside.kinds.contains(Kind::User),
            common: &inside.common,
            labels,
            affinity: crate::plan::affinity(affinity.and_then(|affinity| affinity.cpu_affinity_final().as_ref()))?,
        };
        steps.extend(terminal_steps(&program, 0));
        steps.extend(last_steps(&program, &inside.host)?);
        let namespaces = keelbox_namespaces::Selection::new(&inside.host.caller).plan(container);
        let namespaces = namespaces.map_err(crate::plan::namespaces_refused)?;
        let reserve = self.streams.reserve();
        Ok(Plan { reserve, ..Plan::of_steps(namespaces, steps) })
    }
}

/// What a process needs to get into a container and its control group.
pub(crate) struct Entrance {
    container: OwnedFd,
    /// The `tasks` files of version 1: a process with one thread that moves itself needs no more, and a write to `cgroup.procs` waits
    /// for a grace period of the kernel, which takes milliseconds (`cgroup_attach_lock` in kernel/cgroup/cgroup.c).
    legacy: Vec<File>,
    /// The directory of version 2.
    unified: Option<OwnedFd>,
    /// The container's cgroup namespace, if that is to be joined after the birth in the group: where version 2 is mounted with
    /// `nsdelegate` (as systemd does) a process is only put into a group by one whose namespace shows both its old and its new group.
    namespace: Option<File>,
}

impl Entrance {
    pub(crate) fn of(site: &Site<'_>, below: Option<&Path>) -> Result<Self> {
        let named = below.map(|path| subgroup(site.group.as_deref(), path)).transpose()?;
        let group = named.as_ref().or(site.group.as_deref());
        let legacy = group.map_or(Ok(Vec::new()), Group::tasks_files).map_err(cannot)?;
        let container = site.pidfd.try_clone_to_owned();
        let container = container.map_err(|error| Error::os("cannot duplicate the container's descriptor", error))?;
        let unified = group.and_then(Group::directory).map(|directory| directory.try_clone_to_owned()).transpose();
        let unified = unified.map_err(|error| Error::os("cannot duplicate the control group's descriptor", error))?;
        let late = unified.is_some() && site.inside.kinds.contains(Kind::Cgroup);
        // That it is this container's is certain once the stage has joined by the pidfd: its number was not free before.
        let namespace = late.then(|| File::open(format!("/proc/{}/ns/cgroup", site.pid))).transpose();
        let namespace = namespace.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Error::new(ErrorKind::State, "cannot execute in the container: it has ended")
            }
            _ => Error::os("cannot open the container's cgroup namespace", error),
        })?;
        Ok(Self { container, legacy, unified, namespace })
    }

    /// In the order of the slots that the plan gives them.
    pub(crate) fn into_descriptors(self) -> Vec<OwnedFd> {
        let mut descriptors = vec![self.container];
        descriptors.extend(self.legacy.into_iter().map(OwnedFd::from));
        descriptors.extend(self.unified);
        descriptors.extend(self.namespace.map(OwnedFd::from));
        descriptors
    }
}

/// The group at `path` below the container's.
fn subgroup(group: Option<&Group>, path: &Path) -> Result<Group> {
    let attempt = format!("cannot execute in the control group {} of the container", path.display());
    let rest = path.strip_prefix("/").unwrap_or(path);
    if rest.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(Error::new(ErrorKind::Invalid, format!("{attempt}: that is no path below it")));
    }
    let none = || Error::new(ErrorKind::Limit, format!("{attempt}: the container has no control group"));
    let directories = group.ok_or_else(none)?.directories();
    Group::from_directories(directories.iter().map(|directory| directory.join(rest))).map_err(|error| {
        let kind = match error.kind() {
            keelbox_cgroups::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Limit,
        };
        Error::from_part(kind, attempt, error)
    })
}
