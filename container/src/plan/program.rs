//! Plans the last part of every launch: what the program may do, who it is, its streams, and its execution. Pure.
//!
//! The order is the kernel's: what needs privilege comes before the ids change, the bounding set before the capabilities, the
//! filter last. `create`, `run` and `exec` share it. What it is given beside that is in `attributes.rs`.

use keelbox_launch::{OwnedStep, Slot, Step, list, text};
use oci_spec::runtime as oci;

use crate::capabilities::{ALL, mask};
use crate::check;
use crate::error::{Error, ErrorKind, Result};
use crate::host::Host;
use crate::labels::Labels;
use crate::terminal::Terminal;

use super::attributes::{Common, attributes, keyring, late_limits};

/// What the planner is told about the program, beside its OCI description.
#[derive(Clone, Debug)]
pub(crate) struct Program<'a> {
    pub(crate) process: &'a oci::Process,
    pub(crate) terminal: Option<Terminal>,
    /// Slots of standard streams that are not inherited, with the number each becomes.
    pub(crate) streams: Vec<(Slot, u32)>,
    pub(crate) filter: Option<Filter>,
    /// The signal that ends the program when the host program ends.
    pub(crate) dies: Option<u32>,
    /// A step that waits until the thread which cloned the stage has ended.
    pub(crate) waits_for_parent: bool,
    /// Whether it is in a user namespace that is not the caller's, where every capability is in the bounding set again
    /// (user_namespaces(7)).
    pub(crate) user_namespace: bool,
    pub(crate) common: &'a Common,
    /// Its labels, with the slot of the host's `/proc`.
    pub(crate) labels: Option<(&'a Labels, Slot)>,
    /// The processors of a further program, once it is in the control group.
    pub(crate) affinity: Option<OwnedStep>,
}

/// A system call filter, compiled.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Filter {
    pub(crate) flags: u32,
    pub(crate) bytes: Vec<u8>,
}

impl Filter {
    /// Whether somebody is asked about system calls (`SECCOMP_FILTER_FLAG_NEW_LISTENER`).
    pub(crate) fn listens(&self) -> bool {
        self.flags & 8 != 0
    }
}

/// The steps that must come before the stage closes itself and gives up the host's `/proc`.
pub(crate) fn first_steps(process: &oci::Process) -> Vec<OwnedStep> {
    let score = process.oom_score_adj().map(|score| Step::Write {
        directory: Slot::NONE,
        path: text("/proc/self/oom_score_adj"),
        data: score.to_string().into_bytes(),
    });
    score.into_iter().collect()
}

/// The steps from the finished root to the execution of the program.
pub(crate) fn last_steps(program: &Program<'_>, host: &Host) -> Result<Vec<OwnedStep>> {
    let process = program.process;
    let mut steps: Vec<OwnedStep> = program.affinity.iter().cloned().collect();
    steps.extend(attributes(process, program.common)?);
    if let Some(keyring) = keyring(program.common) {
        steps.extend(program.labels.and_then(|(labels, proc)| labels.of_keys(proc)));
        steps.push(keyring);
    }
    let no_new_privileges = process.no_new_privileges().unwrap_or(false);
    steps.push(Step::Umask { mask: process.user().umask().unwrap_or(OwnedStep::CALLERS_UMASK) });
    steps.push(Step::WorkingDirectory { path: text(process.cwd()), create: 0 });
    // What the caller has not got cannot be granted, and needs no dropping, for which it may lack the privilege.
    let absent = if program.user_namespace { 0 } else { !host.bounding };
    let sets = Sets::of(process, host).without(absent);
    steps.push(Step::Bounding { keep: sets.bounding | absent });
    let filter =
        program.filter.as_ref().map(|filter| Step::Seccomp { flags: filter.flags, filter: filter.bytes.clone() });
    let labels: Vec<OwnedStep> = program.labels.into_iter().flat_map(|(labels, proc)| labels.steps(proc)).collect();
    if !no_new_privileges {
        // The filter may forbid what labelling needs.
        steps.extend(labels.clone());
        steps.extend(filter.clone());
    }
    let sets_groups = (host.may_set_groups || program.common.maps_groups) && !program.common.callers_groups;
    steps.extend(identity(process, sets_groups));
    let Sets { effective, permitted, inheritable, ambient, .. } = sets;
    steps.push(Step::Capabilities { effective, permitted, inheritable, ambient });
    if no_new_privileges {
        steps.extend(labels);
        steps.push(Step::NoNewPrivileges {});
    }
    if program.waits_for_parent {
        steps.push(Step::Wait { what: keelbox_launch::Wait::Parent, listener: Slot::NONE });
    }
    steps.extend(program.dies.map(|signal| Step::Dies { signal }));
    // From here on everything belongs to one run: see `Plan::split`.
    steps.extend(program.streams.iter().map(|(slot, number)| Step::Descriptor { slot: *slot, number: *number }));
    steps.push(Step::Signals {});
    steps.extend(late_limits(process)?);
    if no_new_privileges {
        steps.extend(filter);
    }
    steps.push(execution(process)?);
    Ok(steps)
}

/// A session of its own, and a terminal if one is wanted: made while the root can still be written to, for `/dev/console`.
pub(crate) fn terminal_steps(program: &Program<'_>, console: u32) -> Vec<OwnedStep> {
    let mut steps = vec![Step::Session {}];
    if let Some(Terminal { rows, columns }) = program.terminal {
        let user = program.process.user().uid();
        steps.push(Step::Terminal { console, rows: rows.into(), columns: columns.into(), user });
    }
    steps
}

fn identity(process: &oci::Process, may_set_groups: bool) -> Vec<OwnedStep> {
    let user = process.user();
    let groups = user.additional_gids().as_deref().unwrap_or_default();
    let mut steps = Vec::new();
    if may_set_groups {
        steps.push(Step::Groups { list: groups.iter().flat_map(|group| group.to_ne_bytes()).collect() });
    }
    steps.push(Step::Ids { user: user.uid(), group: user.gid() });
    steps
}

/// The five capability sets as masks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Sets {
    bounding: u64,
    effective: u64,
    permitted: u64,
    inheritable: u64,
    ambient: u64,
}

impl Sets {
    fn without(self, absent: u64) -> Self {
        let Self { bounding, effective, permitted, inheritable, ambient } = self;
        let [bounding, effective, permitted, inheritable, ambient] =
            [bounding, effective, permitted, inheritable, ambient].map(|set| set & !absent);
        Self { bounding, effective, permitted, inheritable, ambient }
    }

    /// Without any mention of capabilities the program keeps what the caller has.
    fn of(process: &oci::Process, host: &Host) -> Self {
        let Some(named) = process.capabilities() else {
            let all = ALL & host.bounding;
            let own = if process.user().uid() == 0 { all } else { 0 };
            return Self { bounding: all, effective: own, permitted: own, inheritable: 0, ambient: 0 };
        };
        let (bounding, permitted) = (mask(named.bounding()), mask(named.permitted()));
        // What the kernel cannot give beside the other sets (capabilities(7), capset(2)) is left out, as the specification wants it: the
        // program gets less than was asked for, never more. `runc spec` names ambient capabilities that are not inheritable.
        let inheritable = mask(named.inheritable()) & bounding;
        let (effective, ambient) =
            (mask(named.effective()) & permitted, mask(named.ambient()) & permitted & inheritable);
        Self { bounding, effective, permitted, inheritable, ambient }
    }
}

/// Where the program is looked for, as `execvp(3)` does: a name without a slash in every directory of the container's `PATH`.
pub(crate) fn execution(process: &oci::Process) -> Result<OwnedStep> {
    let arguments = process.args().as_deref().unwrap_or_default();
    let name = arguments.first().filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| Error::new(ErrorKind::Invalid, "no program is named to run"))?;
    let environment = process.env().as_deref().unwrap_or_default();
    arguments.iter().try_for_each(|argument| check::text("an argument", argument))?;
    environment.iter().try_for_each(|variable| check::text("a variable", variable))?;
    let paths = if name.contains('/') { vec![name.clone()] } else { candidates(name, environment) };
    Ok(Step::Exec { paths: list(paths), arguments: list(arguments), environment: list(environment) })
}

fn candidates(name: &str, environment: &[String]) -> Vec<String> {
    const DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let path = environment.iter().rev().find_map(|variable| variable.strip_prefix("PATH=")).unwrap_or(DEFAULT);
    let directories = path.split(':').map(|directory| if directory.is_empty() { "." } else { directory });
    directories.map(|directory| format!("{}/{name}", directory.trim_end_matches('/'))).collect()
}

/// Sets one variable of the environment, in the place of an earlier one of that name.
pub(crate) fn set_variable(process: &mut oci::Process, name: &str, value: &str) {
    let environment = process.env_mut().get_or_insert_with(Vec::new);
    environment.retain(|existing| existing.split('=').next() != Some(name));
    environment.push(format!("{name}={value}"));
}
