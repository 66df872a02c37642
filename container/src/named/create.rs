//! Makes a container up to the barrier, so that a crash at any moment leaves nothing that could not be found and removed.
//!
//! The order is: its directory, what is about to be made (the intent), the control group, the process, the process written down,
//! the hooks, and only then the word that lets it wait for its start: a container that nobody has written down ends by itself.
//! Oldest kernel: 5.10.

use std::borrow::Cow;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use keelbox_cgroups::Group;
use keelbox_cgroups::resctrl::Class;
use keelbox_launch::{Seat, Slot, Wait};
use keelbox_mounts::SlotAllocator;
use keelbox_namespaces::Kind;
use keelbox_runtime_spec::{ContainerId, Status};
use oci_spec::runtime as oci;

use super::handle::Handle;
use super::hooks::{Outlook, Scene, is_special};
use super::identity::Identity;
use super::record::{Barrier, Phase, Record};
use super::root::{Place, Root};
use super::scope::Keeper;
use super::{barrier, group, remove};
use crate::built::Built;
use crate::bundle::Content;
use crate::error::{Error, ErrorKind, Result};
use crate::exec::{Exec, Held, Inside, Site};
use crate::handover;
use crate::hooks::{self, HookPoint};
use crate::host::{hierarchy, shown_cgroups};
use crate::network::{self, Wired};
use crate::plan::{Filter, Plan, run_with};
use crate::rdt;
use crate::spec::RootSource;
use crate::stdio::Stdio;
use crate::talk::{Cradle, Decider, Received, Talk, Until, Witness, launch};
use crate::terminal::Tty;

/// Creates the container `id` below `root`.
pub(crate) fn create(built: &Built, root: &Path, id: ContainerId) -> Result<Handle> {
    let stdio = streams(built, &id)?;
    let place = Place::make(Root::make(root)?, id)?;
    let attempt = format!("cannot create container {}", place.id());
    let _lock = place.lock(&attempt)?;
    let mut making = Making::new(built, &place, group::crowd(&built.spec));
    match making.make(&stdio) {
        Ok((process, terminal)) => Ok(Handle::new(place, Some(process), terminal)),
        Err(error) => Err(making.undo(error)),
    }
}

/// The streams, if they can be those of a container that outlives this program; and nothing else that needs it.
pub(super) fn streams(built: &Built, id: &ContainerId) -> Result<[Stdio; 3]> {
    let spec = &built.spec;
    let stdio = crate::builder::inherited(&spec.stdio);
    let listens = built.filter.as_ref().is_some_and(Filter::listens);
    let needs = [
        (
            stdio.iter().any(Stdio::needs_other_end),
            "streams through pipes need somebody at their other end: give files",
        ),
        (spec.descriptors.iter().any(Stdio::needs_other_end), "descriptors cannot be new pipes"),
        (spec.time_limit.is_some(), "nobody is there to enforce a time limit"),
        (spec.keep_changes, "nobody is there to collect its changes"),
        (
            spec.supervision.is_some() || (listens && built.agent_path().is_none()),
            "nobody is there to decide about its system calls",
        ),
    ];
    let needs = needs.into_iter().find(|(needed, _)| *needed).map(|(_, why)| why);
    match needs.or_else(|| network::needs_holder(spec)) {
        Some(why) => {
            let why = format!("cannot create container {id}, which outlives this program: {why}");
            Err(Error::new(ErrorKind::Unsupported, why))
        }
        None => Ok(stdio),
    }
}

/// What has been made so far.
pub(super) struct Making<'a> {
    built: &'a Built,
    place: &'a Place,
    /// How many processes there are beside the container's own before it is made.
    crowd: u64,
    record: Option<Record>,
    pub(super) group: Option<Group>,
    /// What holds the group until the container does.
    keeper: Option<Keeper>,
    class: Option<Class>,
    outlook: Option<Outlook>,
}

/// What a creation begins with.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) seat: Option<Seat>,
    class: Option<rdt::Prospect>,
}

impl<'a> Making<'a> {
    pub(super) fn new(built: &'a Built, place: &'a Place, crowd: u64) -> Self {
        Self { built, place, crowd, record: None, group: None, keeper: None, class: None, outlook: None }
    }
}

impl Making<'_> {
    fn make(&mut self, stdio: &[Stdio; 3]) -> Result<(OwnedFd, Option<Tty>)> {
        let mut begun = self.begin()?;
        // Behind the group, which the container may be shown.
        let (plan, behind) = self.plan(stdio)?;
        self.classify(&mut begun)?;
        self.launch(&plan, behind, stdio, begun.seat)
    }

    /// Writes down what is about to be made, and makes the group.
    pub(super) fn begin(&mut self) -> Result<Begun> {
        let built = self.built;
        let prospect = group::Prospect::new(self.place.id(), built)?;
        let class = rdt::Prospect::new(self.place.id(), &built.spec)?;
        let kinds = built.kinds();
        let mut intent =
            Record::intent(prospect.directories.clone(), built.spec.bundle.clone(), kinds, built.filter.as_ref());
        intent.special = is_special(&built.spec.oci, built.agent_path().is_some());
        intent.made.clone_from(&prospect.made);
        intent.callers_keyring = built.spec.callers_keyring;
        intent.classes = class.as_ref().map(|class| class.directories.clone()).unwrap_or_default();
        self.place.write(&intent)?;
        self.record = Some(intent);
        self.write_config()?;
        if hooks::any(&built.spec.oci, &hooks::CREATION) {
            let root = match &built.spec.root {
                RootSource::Directory(root) => Some(root.as_path()),
                _ => None,
            };
            self.outlook = Some(Outlook::of(self.place, root)?);
        }
        let mut seat = None;
        if let Some(made) = prospect.make(built, self.crowd)? {
            (self.group, seat) = (Some(made.group), made.seat);
            if let (Some((scope, keeper)), Some(record)) = (made.scope, &mut self.record) {
                (record.scope, self.keeper) = (Some(scope), Some(keeper));
            }
        }
        Ok(Begun { seat, class })
    }

    pub(super) fn classify(&mut self, begun: &mut Begun) -> Result<()> {
        self.class = begun.class.take().map(|class| class.make(self.place.id())).transpose()?;
        Ok(())
    }

    /// The process is in the group.
    pub(super) fn release(&mut self) {
        self.keeper = None;
    }

    /// Writes down that the container is there, with the limits that come last.
    pub(super) fn complete(&mut self, pid: u32, group: Option<&Group>) -> Result<()> {
        self.class.as_ref().map_or(Ok(()), |class| class.add(pid)).map_err(rdt::cannot)?;
        let Some(record) = &mut self.record else { return Ok(()) };
        if let (Some(group), Some(limits)) = (group, group::late(&self.built.spec, self.crowd)) {
            group::update(record, group, &limits)?;
        }
        record.phase = Phase::Created;
        match group {
            Some(group) => group::note(record, group),
            None => record.group.clear(),
        }
        self.place.write(record)
    }

    /// The same of one that runs already.
    pub(super) fn complete_running(&mut self, process: Identity) -> Result<()> {
        let pid = process.pid;
        if let Some(record) = &mut self.record {
            record.process = Some(process);
            record.mark_started();
        }
        let group = self.group.take();
        let done = self.complete(pid, group.as_ref());
        self.group = group;
        done
    }

    /// The whole configuration, since later changes of the bundle must not matter.
    fn write_config(&self) -> Result<()> {
        let config = crate::bundle::config(self.built, &self.place.path(), Content::WithoutFilter)?;
        self.place.write_config(config.to_json().as_bytes())
    }

    /// The steps of a run that nobody ends, with the barrier in them; and the number of the first step behind it.
    fn plan(&self, stdio: &[Stdio; 3]) -> Result<(Plan, usize)> {
        let mut built = self.built.clone();
        (built.spec.detached, built.seated) = (true, false);
        if let Some(group) = self.group.as_ref().filter(|_| !built.spec.cgroups.is_empty()) {
            let directories = group.directories();
            built.spec.cgroups = shown_cgroups(&hierarchy()?, built.spec.has(Kind::Cgroup), &directories);
        }
        if built.spec.oci.process().is_none() {
            // It is never started, so this is never executed.
            let mut nothing = oci::Process::default();
            nothing.set_args(Some(vec!["nothing".into()])).set_cwd("/".into()).set_capabilities(None).set_rlimits(None);
            built.spec.oci.set_process(Some(nothing));
        }
        let streams = crate::plan::Streams::of(stdio, built.spec.descriptors.len());
        let mut listener = Slot::NONE;
        let mut plan = run_with(&built, &streams, None, &mut SlotAllocator::default(), |root, slots| {
            // The first free slot is the one behind the streams and the joined namespaces, where the launch puts it.
            listener = slots.allocate()?;
            root.plan(slots)
        })?;
        if let Some(outlook) = &self.outlook {
            outlook.take(&mut plan.steps);
        }
        if self.built.spec.oci.process().is_some() {
            barrier::find(&mut plan.steps);
        }
        let behind = barrier::insert(&mut plan.steps, listener);
        Ok((plan, behind))
    }

    fn launch(
        &mut self,
        plan: &Plan,
        behind: usize,
        stdio: &[Stdio; 3],
        seat: Option<Seat>,
    ) -> Result<(OwnedFd, Option<Tty>)> {
        let spec = &self.built.spec;
        let streams = crate::start::Streams::open(stdio, &spec.descriptors)?;
        let listener = barrier::make(self.place)?;
        let slots = streams.theirs.len() + plan.opened() + 1;
        if let Some(record) = &mut self.record {
            record.barrier = Some(Barrier::of(plan, behind, slots));
        }
        let talk = Talk {
            plan,
            done: &[],
            steps: &plan.steps,
            // The filter comes behind the barrier: whoever starts the program gets its listener.
            decider: Decider::Nobody,
            console: spec.console_socket.as_deref(),
            until: Until::Waiting(Wait::Connection),
        };
        let group = self.group.take();
        let cradle = Cradle { directory: group.as_ref().and_then(Group::directory), seat };
        let mut received = Received::default();
        let mut scribe = Scribe { making: self, group: group.as_ref() };
        let launched =
            launch(&talk, &streams.theirs, std::slice::from_ref(&listener), cradle, &mut received, &mut scribe);
        self.group = group;
        let (process, pid) = received.survivor(launched?);
        if let Some(socket) = &spec.pidfd_socket
            && let Err(error) = handover::pidfd(socket, process.as_fd(), pid)
        {
            remove::end(&process);
            return Err(error);
        }
        let _none_without_a_holder = received.wired.and_then(Wired::keep);
        Ok((process, received.terminal))
    }

    /// A stage that the kernel killed for want of memory says nothing: the group tells it.
    fn explained(&self, error: Error) -> Error {
        let kills = self.group.as_ref().and_then(|group| group.oom_kills().ok().flatten()).unwrap_or(0);
        if error.kind() != ErrorKind::State || kills == 0 {
            return error;
        }
        let attempt = format!("cannot create container {} within its limit of memory", self.place.id());
        Error::from_part(ErrorKind::Limit, attempt, error)
    }

    /// Takes everything back. What cannot be taken back stays written down, so that it can be deleted later.
    pub(super) fn undo(mut self, error: Error) -> Error {
        self.keeper = None;
        if let Some(class) = &self.class {
            class.undo();
        }
        let error = self.explained(error);
        let emptied = self.group.is_none_or(|group| remove::remove_group(&group).is_ok());
        if !emptied {
            return error;
        }
        let warnings = self.record.map(|record| {
            // It goes by itself, but whoever tries again soon may want the name.
            let _gone = group::forget(&record);
            remove::afterwards(self.place, &record)
        });
        let warnings = warnings.unwrap_or_default();
        let _left = self.place.remove();
        let told: Vec<String> = warnings.iter().map(Error::report).collect();
        if told.is_empty() { error } else { error.with_hint(told.join("; ")) }
    }
}

/// Writes down what happens on the way, and runs the hooks.
struct Scribe<'m, 'a> {
    making: &'m mut Making<'a>,
    group: Option<&'m Group>,
}

impl Witness for Scribe<'_, '_> {
    /// With the phase that the record has.
    fn process(&mut self, pidfd: &OwnedFd, pid: u32) -> Result<()> {
        self.making.release();
        let identity = Identity::of(pid, pidfd.as_fd())?;
        crate::image::pin(self.making.built.spec.image.as_deref(), self.making.place.id().as_str(), pid)?;
        self.record(|record| record.process = Some(identity))
    }

    fn waiting(&mut self, what: Wait, pidfd: &OwnedFd, pid: u32) -> Result<()> {
        match what {
            Wait::Hooks => self.hooks(pidfd, pid),
            // All is set up: from now on the container lives without us.
            Wait::Start => self.making.complete(pid, self.group),
            _ => Ok(()),
        }
    }
}

impl Scribe<'_, '_> {
    fn record(&mut self, change: impl FnOnce(&mut Record)) -> Result<()> {
        let Some(record) = &mut self.making.record else { return Ok(()) };
        change(record);
        self.making.place.write(record)
    }

    fn hooks(&mut self, pidfd: &OwnedFd, pid: u32) -> Result<()> {
        self.record(|record| record.hooked = true)?;
        let Some(record) = &self.making.record else { return Ok(()) };
        let Some(scene) = Scene::of(self.making.place, record)? else { return Ok(()) };
        scene.outside(HookPoint::Prestart, Status::Creating, pid)?;
        scene.outside(HookPoint::CreateRuntime, Status::Creating, pid)?;
        let (user, root) = (powerful(), self.making.outlook.as_ref().map(|outlook| outlook.root.clone()));
        let inside = Inside { process: user.clone(), filter: None, ..self.making.built.inside() };
        let enter = |arguments: Vec<String>| {
            let group = self.group.map(Held::Lent);
            let inside = Cow::Borrowed(&inside);
            Exec::new(Ok(Site { pidfd: pidfd.as_fd(), pid, group, inside, agent: None }), arguments)
        };
        let user = at(user, root);
        scene.inside(HookPoint::CreateContainer, (Status::Creating, pid), &user, enter)
    }
}

/// Root, with all that the caller may give: it is the caller's own program.
fn powerful() -> oci::Process {
    let mut process = oci::Process::default();
    process.set_capabilities(None).set_rlimits(None).set_no_new_privileges(None).set_args(None).set_env(None);
    process
}

fn at(mut process: oci::Process, directory: Option<PathBuf>) -> oci::Process {
    process.set_cwd(directory.unwrap_or_else(|| "/".into()));
    process
}
