//! What many runs of one container share: checked once, planned once, and as root the mounts that none of them can write to.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use keelbox_launch::{Errno, OwnedStep, Slot, Step, Wait};
use keelbox_mounts::{Held, SlotAllocator};
use keelbox_namespaces::Kind;
use oci_spec::runtime as oci;

use crate::builder::{IntoArguments, captured, inherited};
use crate::built::Built;
use crate::control_group::ControlGroup;
use crate::error::{Error, ErrorKind, Result};
use crate::exit::ExitStatus;
use crate::output::{Output, collect};
use crate::plan::{Plan, Streams, root_plan, run_with};
use crate::pool::{Pool, Waiting};
use crate::process::Process;
use crate::spec::Spec;
use crate::start::{Sockets, Start, finish};
use crate::stdio::{Stdio, stream_setters};
use crate::talk::{Cradle, Decider, Nobody, Received, Talk, Until, abandon, launch};

/// A container prepared once, to be run often and side by side.
///
/// Its `/dev` is read-only, as runs share it where the kernel can do that (Linux 6.15); `/dev/shm`, `/dev/mqueue` and the terminals
/// belong to each run, and can be written to.
///
/// ```no_run
/// use std::sync::LazyLock;
/// use keelbox::{Container, Image, Network, Template};
/// static BOX: LazyLock<Template> = LazyLock::new(|| {
///     let image = Image::open("oci:./debian:12").unwrap();
///     Container::from_image(&image).network(Network::None).template().unwrap()
/// });
/// assert!(BOX.args(["rm", "-rf", "/"]).status().is_ok());
/// ```
#[derive(Clone, Debug)]
pub struct Template(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    core: Arc<Core>,
    /// Made at the second run: whoever runs once pays for one container only.
    pool: Mutex<Pooling>,
}

#[derive(Debug)]
enum Pooling {
    /// Not yet, or not for this kind of container.
    Off {
        runs: u32,
    },
    On(Pool),
}

#[derive(Debug)]
struct Core {
    built: Built,
    /// Detached mount trees, in the order of the slots that `held` uses.
    trees: Vec<OwnedFd>,
    held: Held,
    plans: Mutex<HashMap<Streams, Arc<Plan>>>,
}

const NOTHING: Held = Held { dev: Slot::NONE, mask_file: Slot::NONE, mask_directory: Slot::NONE, root: Slot::NONE };

impl Template {
    pub(crate) fn new(mut built: Built) -> Result<Self> {
        built.nameless()?;
        crate::network::refuse_template(&built.spec)?;
        built.spec.shared_dev = true;
        let (trees, held) = prepare(&built)?.unwrap_or((Vec::new(), NOTHING));
        let core = Arc::new(Core { built, trees, held, plans: Mutex::default() });
        Ok(Self(Arc::new(Inner { core, pool: Mutex::new(Pooling::Off { runs: 0 }) })))
    }

    /// A run with another command line.
    pub fn args(&self, args: impl IntoArguments) -> Run<'_> {
        self.run().args(args)
    }

    /// A run of the container as it was built.
    pub fn run(&self) -> Run<'_> {
        Run { template: self, args: None, env: Vec::new(), stdio: self.0.core.built.spec.stdio.clone() }
    }

    /// What a run asks of the kernel.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] for settings that contradict each other.
    pub fn plan(&self) -> Result<Plan> {
        let stdio = inherited(&self.0.core.built.spec.stdio);
        self.0.core.plan_for(&Streams::of(&stdio, self.0.core.built.spec.descriptors.len())).map(|plan| (*plan).clone())
    }
}

impl Inner {
    /// A container that waits for its start; none in the first two runs, and none for what cannot wait.
    fn waiting(&self) -> Option<Waiting> {
        let spec = &self.core.built.spec;
        if self.core.built.by_itself()
            || !crate::network::devices(&spec.oci).is_empty()
            || spec.terminal.is_some()
            || spec.detached
        {
            return None;
        }
        let mut pooling = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *pooling {
            Pooling::On(pool) => pool.take(),
            Pooling::Off { runs } => {
                *runs += 1;
                if *runs == 2 {
                    let core = Arc::clone(&self.core);
                    if let Ok(pool) = Pool::start(move || core.wait()) {
                        *pooling = Pooling::On(pool);
                    }
                }
                None
            }
        }
    }
}

impl Core {
    /// Makes a container up to the barrier.
    fn wait(&self) -> Result<Waiting> {
        let spec = &self.built.spec;
        let plan = self.plan_for(&Streams::none())?;
        let mut steps = plan.split().0.to_vec();
        steps.push(Step::Wait { what: Wait::Start, listener: Slot::NONE });
        let steps: Arc<[OwnedStep]> = steps.into();
        let mut group = self.built.group()?;
        let mut received = Received::default();
        let talk = Talk {
            plan: &plan,
            done: &[],
            steps: &steps,
            decider: decider(spec),
            console: None,
            until: Until::Waiting(Wait::Start),
        };
        let launched = launch(&talk, &[], &self.trees, Cradle::of(&mut group), &mut received, &mut Nobody);
        let started = match launched {
            Ok(started) => started,
            Err(error) => {
                let _ended = group.map(ControlGroup::end);
                return Err(error);
            }
        };
        Ok(Waiting { started: Some(started), group, received, steps })
    }

    /// Starts a program in a container that waits; `None` if it has ended meanwhile.
    fn go(&self, mut waiting: Waiting, process: &oci::Process, stdio: &[Stdio; 3]) -> Result<Option<Process>> {
        let begun = Instant::now();
        let spec = &self.built.spec;
        let plan = self.plan_for(&Streams::none())?;
        let named = Streams::of(stdio, spec.descriptors.len());
        let opened = crate::start::Streams::open(stdio, &spec.descriptors)?;
        let Some(mut started) = waiting.started.take() else { return Ok(None) };
        let (mut group, mut received) = (waiting.group.take(), std::mem::take(&mut waiting.received));
        let first = (plan.opened() + self.trees.len()) as u16;
        let mut steps: Vec<OwnedStep> = named
            .numbered()
            .into_iter()
            .map(|(slot, number)| Step::Descriptor { slot: Slot(first + slot.0), number })
            .collect();
        steps.extend(plan.split().1.iter().cloned());
        if let Some(last) = steps.last_mut() {
            *last = crate::plan::execution(process)?;
        }
        let theirs: Vec<_> = opened.theirs.iter().map(AsFd::as_fd).collect();
        if started.control.proceed(&steps, &theirs, named.reserve()).is_err() {
            abandon(&started, &received);
            let _ended = group.take().map(ControlGroup::end);
            return Ok(None);
        }
        drop(theirs);
        let (decider, console, until) = (decider(spec), None, Until::Running);
        let talk = Talk { plan: &plan, done: &waiting.steps, steps: &steps, decider, console, until };
        if let Err(error) = talk.listen(&mut started, &mut received, &mut Nobody) {
            abandon(&started, &received);
            let _ended = group.take().map(ControlGroup::end);
            return Err(error);
        }
        let start = Start {
            plan: &plan,
            stdio: stdio.clone(),
            descriptors: &[],
            trees: &[],
            group,
            time_limit: spec.time_limit,
            decider: Decider::Nobody,
            sockets: Sockets { console: None, pidfd: spec.pidfd_socket.as_deref() },
            detached: false,
            inside: self.built.inside(),
        };
        finish(started, start, opened, received, begun).map(Some)
    }

    fn plan_for(&self, streams: &Streams) -> Result<Arc<Plan>> {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = plans.get(streams) {
            return Ok(Arc::clone(plan));
        }
        let mut slots = SlotAllocator::default();
        let plan = run_with(&self.built, streams, None, &mut slots, |root, slots| {
            if self.trees.is_empty() {
                return root.plan(slots);
            }
            let held = self.held.renumbered(slots)?;
            root.rest(&held, slots)
        })?;
        let plan = Arc::new(plan);
        plans.insert(*streams, Arc::clone(&plan));
        Ok(plan)
    }
}

/// Who decides about the system calls of a container that this program runs.
fn decider(spec: &Spec) -> Decider<'_> {
    spec.supervision.as_ref().map_or(Decider::Nobody, Decider::Here)
}

/// Makes the trees that runs share. Nothing where the kernel or the caller's privilege does not allow it: runs are whole then.
fn prepare(built: &Built) -> Result<Option<(Vec<OwnedFd>, Held)>> {
    if !built.host.privileged || built.spec.has(Kind::User) || built.spec.keep_changes {
        return Ok(None);
    }
    let mut slots = SlotAllocator::default();
    let cannot = |error| Error::from_part(ErrorKind::Invalid, "cannot plan the template", error);
    let template = root_plan(built, None, &mut SlotAllocator::default())?.0.template(&mut slots).map_err(cannot)?;
    let keep: Vec<Slot> = template.held.used().collect();
    match keelbox_launch::prepare(&template.steps, &[], &keep) {
        Ok(trees) => Ok(can_be_copied(&trees).then_some((trees, template.held))),
        // Before Linux 6.15 nothing can be taken from a tree that has no place. If it is something else, each run meets it too.
        Err(failure) if matches!(failure.errno, Errno::EINVAL | Errno::ENOSYS | Errno::EPERM) => Ok(None),
        Err(failure) => Err(crate::plan::step_error(&template.steps, failure)),
    }
}

/// Copies of trees that are attached nowhere need Linux 6.15.
fn can_be_copied(trees: &[OwnedFd]) -> bool {
    let copy = [Step::Tree {
        directory: Slot(0),
        source: c"".into(),
        recursive: 0x8000,
        set: 0,
        clear: 0,
        propagation: 0,
        attributes_recursive: 0,
        idmap: Slot::NONE,
        out: Slot(1),
    }];
    trees.iter().all(|tree| keelbox_launch::prepare(&copy, &[tree.as_fd()], &[]).is_ok())
}

/// One run of a [`Template`].
#[derive(Debug)]
#[must_use = "nothing runs until it is spawned, or asked for its status or output"]
pub struct Run<'t> {
    template: &'t Template,
    args: Option<Vec<String>>,
    env: Vec<(String, String)>,
    stdio: [Option<Stdio>; 3],
}

impl Run<'_> {
    /// The whole command line of this run. Default: the template's.
    pub fn args(mut self, args: impl IntoArguments) -> Self {
        self.args = Some(args.into_arguments());
        self
    }

    /// One more variable of the environment of this run.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    stream_setters!(run => run.stdio, "the template's.");

    /// Starts the program.
    ///
    /// # Errors
    ///
    /// As [`Container::spawn`](crate::Container::spawn).
    pub fn spawn(self) -> Result<Process> {
        self.start(inherited(&self.stdio))
    }

    /// Runs the program and waits for its end.
    ///
    /// # Errors
    ///
    /// As [`Container::status`](crate::Container::status).
    pub fn status(self) -> Result<ExitStatus> {
        self.spawn()?.wait()
    }

    /// Runs the program, waits for its end and collects what it wrote.
    ///
    /// # Errors
    ///
    /// As [`Container::output`](crate::Container::output).
    pub fn output(self) -> Result<Output> {
        let stdio = captured(&self.stdio);
        let core = &self.template.0.core;
        if core.built.spec.keep_changes {
            return self.by_itself()?.output_with(stdio, None, &[]);
        }
        let mut process = self.start(stdio)?;
        let (status, stdout, stderr) = collect(&mut process)?;
        Ok(Output { status, stdout, stderr, changes: None })
    }

    fn start(&self, stdio: [Stdio; 3]) -> Result<Process> {
        let inner = &self.template.0;
        if let Some(waiting) = inner.waiting()
            && let Some(process) = inner.core.go(waiting, &self.process()?, &stdio)?
        {
            return Ok(process);
        }
        if inner.core.built.by_itself() {
            return self.by_itself()?.start(stdio, None, &[]).map(|(process, _)| process);
        }
        let plan = self.plan(&stdio)?;
        inner.core.built.start(stdio, Some(&plan), &inner.core.trees).map(|(process, _)| process)
    }

    /// This run as a container of its own.
    fn by_itself(&self) -> Result<Built> {
        let mut built = self.template.0.core.built.clone();
        built.spec.oci.set_process(Some(self.process()?));
        Ok(built)
    }

    /// The program of this run.
    fn process(&self) -> Result<oci::Process> {
        let mut process = self.template.0.core.built.spec.oci.process().clone().unwrap_or_default();
        if let Some(args) = &self.args {
            process.set_args(Some(args.clone()));
        }
        for (name, value) in &self.env {
            crate::check::variable(name)?;
            crate::plan::set_variable(&mut process, name, value);
        }
        Ok(process)
    }

    /// The template's plan, with this run's command line and environment in its last step.
    fn plan(&self, stdio: &[Stdio; 3]) -> Result<Arc<Plan>> {
        let core = &self.template.0.core;
        let streams = Streams::of(stdio, core.built.spec.descriptors.len());
        let plan = core.plan_for(&streams)?;
        if self.args.is_none() && self.env.is_empty() {
            return Ok(plan);
        }
        let mut plan = (*plan).clone();
        if let Some(last) = plan.steps.last_mut() {
            *last = crate::plan::execution(&self.process()?)?;
        }
        Ok(Arc::new(plan))
    }
}
