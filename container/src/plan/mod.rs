//! A container as the list of what is asked of the kernel. Pure data: shown, compared, and made without any privilege.

mod attributes;
mod namespaces;
mod program;
mod run;

use std::fmt;
use std::os::fd::OwnedFd;

use keelbox_cgroups::Limits;
use keelbox_launch::{Failure, OwnedStep, Slot, Step};

use crate::error::{Error, ErrorKind, Result};
use crate::id_mapped::{self, IdMapped};
use crate::network::Wiring;

pub(crate) use attributes::{Common, affinity, attributes};
pub(crate) use namespaces::{ids, kind as namespace_kind, mapped, namespaces, oci_kind, refused as namespaces_refused};
pub(crate) use program::{Filter, Program, execution, first_steps, last_steps, set_variable, terminal_steps};
pub(crate) use run::{Streams, refused as mounts_refused, root_plan, run, run_with, source};

/// A container as the list of what is asked of the kernel, in order.
///
/// ```
/// use keelbox::Container;
/// let plan = Container::from_rootfs("/").args(["/bin/true"]).build()?.plan()?;
/// println!("{plan}");
/// println!("{}", plan.explain());
/// # Ok::<(), keelbox::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub(crate) namespaces: keelbox_namespaces::Plan,
    /// Binds whose trees this program takes, for the slots behind those of what is joined.
    pub(crate) id_mapped: Vec<IdMapped>,
    pub(crate) limits: Limits,
    pub(crate) grouped: bool,
    pub(crate) steps: Vec<OwnedStep>,
    /// How it is connected.
    pub(crate) wiring: Wiring,
    /// The first descriptor number that the program does not see.
    pub(crate) reserve: u32,
}

impl Plan {
    /// Steps that run no program.
    pub(crate) fn of_steps(namespaces: keelbox_namespaces::Plan, steps: Vec<OwnedStep>) -> Self {
        Self {
            namespaces,
            id_mapped: Vec::new(),
            limits: Limits::new(),
            grouped: false,
            steps,
            wiring: Wiring::default(),
            reserve: 3,
        }
    }

    /// The steps, each naming one thing the kernel is asked to do.
    #[must_use]
    pub fn steps(&self) -> &[OwnedStep] {
        &self.steps
    }

    /// The same as [`Display`](fmt::Display), with a sentence after each step that says why it is there.
    #[must_use]
    pub fn explain(&self) -> String {
        let mut text = self.heading();
        for (index, step) in self.steps.iter().enumerate() {
            text.push_str(&format!("{:3}. {step}\n     {}\n", index + 1, step.explain()));
        }
        text
    }

    fn heading(&self) -> String {
        let kinds = keelbox_namespaces::NamespaceSet::from_flags(self.namespaces.clone_flags() as u32);
        let kinds: Vec<String> = kinds.iter().map(|kind| kind.to_string()).collect();
        let mut text = match kinds.as_slice() {
            [] => "clone the stage into the caller's namespaces\n".to_owned(),
            kinds => format!("clone the stage into new namespaces: {}\n", kinds.join(", ")),
        };
        for bind in &self.id_mapped {
            text.push_str(&format!("{} for {}\n", bind.step, bind.target.display()));
        }
        if !self.limits.is_empty() || self.grouped {
            text.push_str("in a control group of its own\n");
        }
        text.push_str(&self.wiring.describe());
        text
    }

    /// The steps that prepare a container, and those of one run in it: its streams, its filter, its program.
    pub(crate) fn split(&self) -> (&[OwnedStep], &[OwnedStep]) {
        let of_a_run = |step: &OwnedStep| matches!(step, Step::Descriptor { .. } | Step::Signals {});
        let barrier = self.steps.iter().position(of_a_run).unwrap_or(self.steps.len());
        self.steps.split_at(barrier)
    }

    /// Opens what is joined and takes the trees whose ids are mapped, in the order of their slots.
    pub(crate) fn open(&self) -> Result<Vec<OwnedFd>> {
        let mut opened = self.namespaces.open().map_err(namespaces_refused)?;
        opened.extend(id_mapped::open(&self.id_mapped)?);
        Ok(opened)
    }

    /// How many descriptors [`open`](Self::open) gives.
    pub(crate) fn opened(&self) -> usize {
        self.namespaces.joins().len() + self.id_mapped.len()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.heading())?;
        for (index, step) in self.steps.iter().enumerate() {
            writeln!(f, "{:3}. {step}", index + 1)?;
        }
        Ok(())
    }
}

/// What the stage could not do, in one sentence: `cannot mount proc on /proc (step 14 of 37): Operation not permitted`.
pub(crate) fn step_error(steps: &[OwnedStep], failure: Failure) -> Error {
    use keelbox_launch::Errno;
    let Some(step) = steps.get(failure.step as usize) else {
        return Error::os("cannot talk to the stage", failure.errno);
    };
    let (number, count) = (failure.step + 1, steps.len());
    if let Step::Exec { arguments, .. } = step {
        return execution_error(arguments, failure.errno);
    }
    if let Step::Find { name, .. } = step {
        return execution_error(name.as_bytes(), failure.errno);
    }
    let error = Error::os(format!("cannot {step} (step {number} of {count})"), failure.errno);
    match (step, failure.errno) {
        (Step::LeaveOldRoot {}, Errno::ELOOP) => error
            .with_kind(ErrorKind::Invalid)
            .with_hint("a mount point, such as /dev, is a symbolic link to / in the root file system"),
        (Step::ResourceLimit { resource, .. }, Errno::EPERM) => match hard_limit(*resource) {
            Some(hard) => error.with_hint(format!("the hard limit here is {hard}; raising it needs CAP_SYS_RESOURCE")),
            None => error.with_hint("raising a hard limit needs CAP_SYS_RESOURCE"),
        },
        (Step::Keyring { .. }, Errno::EDQUOT) => error
            .with_kind(ErrorKind::Limit)
            .with_hint("the user has as many keys as kernel.keys.maxkeys allows; no_new_keyring() needs none"),
        (Step::Write { path, .. }, Errno::EACCES) if path.as_c_str() == c"/proc/self/oom_score_adj" => {
            error.with_hint("lowering it needs CAP_SYS_RESOURCE")
        }
        (Step::Write { path, .. }, Errno::ENOENT | Errno::EINVAL) if path.to_bytes().starts_with(b"self/attr/") => {
            error.with_kind(ErrorKind::NotFound).with_hint("this machine knows no such profile or label")
        }
        (Step::MemoryPolicy { .. }, Errno::EINVAL) => error
            .with_kind(ErrorKind::Invalid)
            .with_hint("the program may not use these nodes, or this kernel lacks the mode"),
        (Step::Scheduler { .. }, Errno::EPERM) => error.with_hint(
            "this needs CAP_SYS_NICE; in a group of cgroup v1 also cpu.realtimeRuntime; for a deadline every processor",
        ),
        (Step::Attach { .. }, Errno::EINVAL | Errno::ENOTDIR) => error
            .with_kind(ErrorKind::Invalid)
            .with_hint("a file can be mounted only on a file, a directory only on a directory"),
        (Step::Tree { .. } | Step::Open { .. } | Step::WorkingDirectory { .. }, Errno::ENOENT | Errno::ENOTDIR) => {
            error.with_kind(ErrorKind::NotFound)
        }
        _ => error,
    }
}

/// The hard limit of this program, which the stage had too.
fn hard_limit(resource: u32) -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let column = |line: &str, at: usize| line.get(at..)?.split_whitespace().next()?.parse().ok();
    let hard = limits.lines().next()?.find("Hard Limit")?;
    // In the order of this file (fs/proc/base.c, lnames), which is that of the numbers.
    column(limits.lines().nth(resource as usize + 1)?, hard)
}

/// In the words that container engines look for.
pub(crate) fn execution_error(arguments: &[u8], errno: keelbox_launch::Errno) -> Error {
    use keelbox_launch::Errno;
    let name = arguments.split(|byte| *byte == 0).next().unwrap_or_default();
    let name = String::from_utf8_lossy(name).into_owned();
    let attempt = format!("cannot execute {name}");
    match errno {
        Errno::ENOENT if !name.contains('/') => {
            Error::from_part(ErrorKind::ProgramNotFound, attempt, Words("executable file not found in $PATH"))
        }
        Errno::ENOENT | Errno::ENOTDIR => {
            let error = Error::from_part(ErrorKind::ProgramNotFound, attempt, Words("no such file or directory"));
            error.with_hint("a script or a dynamic program is missing its interpreter, or the file itself is not there")
        }
        Errno::EACCES => Error::from_part(ErrorKind::NotExecutable, attempt, Words("permission denied")),
        Errno::ENOEXEC => Error::from_part(ErrorKind::NotExecutable, attempt, Words("exec format error")),
        errno => Error::os(attempt, errno),
    }
}

/// A cause in fixed words.
#[derive(Debug)]
struct Words(&'static str);

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Words {}

/// The slots that the host fills, in order.
pub(crate) fn slots(first: usize) -> impl Iterator<Item = Slot> {
    (first..).map(|index| Slot(u16::try_from(index).unwrap_or(u16::MAX)))
}
