//! Plans what a program is given beside who it is: limits, priorities, processors, memory, execution domain, keyring. Pure.
//!
//! Oldest kernel: 5.10; what newer ones only know, they refuse by themselves.

use keelbox_launch::{OwnedStep, Step, text};
use oci_spec::runtime as oci;

use crate::error::{Error, ErrorKind, Result};

/// By this annotation engines ask for the caller's groups; the specification has no word for it.
const KEEP_GROUPS: &str = "run.oci.keep_original_groups";

/// What all programs of a container have in common, beside its namespaces, root and filter.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Common {
    pub(crate) memory_policy: Option<oci::LinuxMemoryPolicy>,
    pub(crate) personality: Option<oci::LinuxPersonality>,
    /// Whether they stay in the caller's session keyring.
    pub(crate) callers_keyring: bool,
    /// Whether there are more groups than the one that an ordinary user has, in a user namespace.
    pub(crate) maps_groups: bool,
    /// Whether they stay in the caller's further groups: engines ask so for files that an ordinary user reaches by a group.
    pub(crate) callers_groups: bool,
}

impl Common {
    pub(crate) fn of(spec: &oci::Spec, callers_keyring: bool) -> Self {
        let linux = spec.linux().as_ref();
        Self {
            memory_policy: linux.and_then(|linux| linux.memory_policy().clone()),
            personality: linux.and_then(|linux| linux.personality().clone()),
            callers_keyring,
            callers_groups: spec
                .annotations()
                .as_ref()
                .is_some_and(|all| all.get(KEEP_GROUPS).is_some_and(|value| value == "1")),
            maps_groups: linux.is_some_and(|linux| {
                linux.gid_mappings().iter().flatten().map(|map| u64::from(map.size())).sum::<u64>() > 1
            }),
        }
    }
}

fn invalid(why: String) -> Error {
    Error::new(ErrorKind::Invalid, why)
}

/// Everything that needs the privileges of the stage, of which the program may have less.
pub(crate) fn attributes(process: &oci::Process, common: &Common) -> Result<Vec<OwnedStep>> {
    let mut steps = limits(process)?.into_iter().filter_map(|limit| limit.early()).collect::<Vec<_>>();
    steps.extend(process.io_priority().as_ref().map(io_priority).transpose()?);
    steps.extend(process.scheduler().as_ref().map(scheduler).transpose()?);
    steps.extend(common.memory_policy.as_ref().map(memory_policy).transpose()?);
    steps.extend(common.personality.as_ref().map(personality).transpose()?);
    Ok(steps)
}

/// A session keyring that nobody else has, made with the stage's quota of keys.
pub(crate) fn keyring(common: &Common) -> Option<OwnedStep> {
    (!common.callers_keyring).then(|| Step::Keyring { name: text("") })
}

/// What would have hindered the stage itself, and needs no privilege.
pub(crate) fn late_limits(process: &oci::Process) -> Result<Vec<OwnedStep>> {
    Ok(limits(process)?.into_iter().filter_map(|limit| limit.late()).collect())
}

/// A resource limit by its number.
#[derive(Clone, Copy, Debug)]
struct Limit {
    resource: u32,
    soft: u64,
    hard: u64,
}

/// `RLIMIT_NOFILE`
const DESCRIPTORS: u32 = 7;
/// So many descriptor numbers are always enough for the stage.
const ENOUGH: u64 = 512;

impl Limit {
    fn step(self) -> OwnedStep {
        Step::ResourceLimit { resource: self.resource, soft: self.soft, hard: self.hard }
    }

    fn hinders(self) -> bool {
        self.resource == DESCRIPTORS && self.soft < ENOUGH
    }

    /// Raising the hard limit needs a privilege, so that comes early.
    fn early(self) -> Option<OwnedStep> {
        match self.hinders() {
            false => Some(self.step()),
            true if self.hard < ENOUGH => None,
            true => Some(Self { soft: ENOUGH, ..self }.step()),
        }
    }

    fn late(self) -> Option<OwnedStep> {
        self.hinders().then(|| self.step())
    }
}

fn limits(process: &oci::Process) -> Result<Vec<Limit>> {
    let mut limits: Vec<Limit> = Vec::new();
    for limit in process.rlimits().iter().flatten() {
        let (kind, limit) =
            (limit.typ(), Limit { resource: limit.typ() as u32, soft: limit.soft(), hard: limit.hard() });
        if limit.soft > limit.hard {
            let (soft, hard) = (limit.soft, limit.hard);
            return Err(invalid(format!("the soft limit {soft} of {kind} is above the hard limit {hard}")));
        }
        if limits.iter().any(|other| other.resource == limit.resource) {
            return Err(invalid(format!("the limit {kind} is given twice")));
        }
        limits.push(limit);
    }
    Ok(limits)
}

fn io_priority(priority: &oci::LinuxIOPriority) -> Result<OwnedStep> {
    let class = match priority.class() {
        oci::IOPriorityClass::IoprioClassRt => 1,
        oci::IOPriorityClass::IoprioClassBe => 2,
        oci::IOPriorityClass::IoprioClassIdle => 3,
    };
    let level = priority.priority();
    let level = u32::try_from(level).ok().filter(|level| *level < 8);
    let level = level.ok_or_else(|| invalid(format!("the I/O priority {} is not from 0 to 7", priority.priority())))?;
    Ok(Step::IoPriority { value: class << 13 | level })
}

/// The structure of `sched_setattr(2)`, with the members of Linux 5.3 for utilization clamps, for which OCI has no values.
fn scheduler(scheduler: &oci::Scheduler) -> Result<OwnedStep> {
    use oci::LinuxSchedulerPolicy as Policy;
    let policy: u32 = match scheduler.policy() {
        Policy::SchedOther => 0,
        Policy::SchedFifo => 1,
        Policy::SchedRr => 2,
        Policy::SchedBatch => 3,
        Policy::SchedIso => {
            return Err(Error::new(ErrorKind::Unsupported, "cannot schedule by SCHED_ISO: no Linux has it"));
        }
        Policy::SchedIdle => 5,
        Policy::SchedDeadline => 6,
    };
    let (nice, priority) = (scheduler.nice().unwrap_or(0), scheduler.priority().unwrap_or(0));
    if !(-20..=19).contains(&nice) {
        return Err(invalid(format!("the nice value {nice} is not from -20 to 19")));
    }
    let allowed = if matches!(policy, 1 | 2) { 1..=99 } else { 0..=0 };
    if !allowed.contains(&priority) {
        return Err(invalid(format!("the scheduling priority {priority} means nothing for {}", scheduler.policy())));
    }
    let times = [scheduler.runtime(), scheduler.deadline(), scheduler.period()].map(|time| time.unwrap_or(0));
    if policy != 6 && times != [0; 3] {
        return Err(invalid(format!("a runtime, deadline or period means nothing for {}", scheduler.policy())));
    }
    let flags = scheduler.flags().iter().flatten().fold(0, |flags, flag| flags | policy_flag(*flag));
    let mut attr = Vec::with_capacity(56);
    attr.extend([56, policy].map(u32::to_ne_bytes).concat());
    attr.extend(flags.to_ne_bytes());
    attr.extend(nice.to_ne_bytes());
    attr.extend(priority.to_ne_bytes());
    attr.extend(times.map(u64::to_ne_bytes).concat());
    attr.resize(56, 0);
    Ok(Step::Scheduler { attr })
}

/// `SCHED_FLAG_*`
fn policy_flag(flag: oci::LinuxSchedulerFlag) -> u64 {
    use oci::LinuxSchedulerFlag as Flag;
    match flag {
        Flag::SchedResetOnFork => 0x01,
        Flag::SchedFlagReclaim => 0x02,
        Flag::SchedFlagDLOverrun => 0x04,
        Flag::SchedFlagKeepPolicy => 0x08,
        Flag::SchedFlagKeepParams => 0x10,
        Flag::SchedFlagUtilClampMin => 0x20,
        Flag::SchedFlagUtilClampMax => 0x40,
    }
}

fn memory_policy(policy: &oci::LinuxMemoryPolicy) -> Result<OwnedStep> {
    use oci::MemoryPolicyFlagType as Flag;
    use oci::MemoryPolicyModeType as Mode;
    let mode = match policy.mode() {
        Mode::MpolDefault => 0,
        Mode::MpolPreferred => 1,
        Mode::MpolBind => 2,
        Mode::MpolInterleave => 3,
        Mode::MpolLocal => 4,
        Mode::MpolPreferredMany => 5,
        Mode::MpolWeightedInterleave => 6,
    };
    let nodes = mask("a memory node", policy.nodes().as_deref().unwrap_or_default(), NODES)?;
    let takes_nodes = !matches!(policy.mode(), Mode::MpolDefault | Mode::MpolLocal);
    if !takes_nodes && !nodes.is_empty() {
        return Err(invalid(format!("the memory policy {} takes no nodes", policy.mode())));
    }
    // An empty list is only for the node of the processor (set_mempolicy(2), MPOL_PREFERRED).
    if takes_nodes && nodes.is_empty() && policy.mode() != Mode::MpolPreferred {
        return Err(invalid(format!("the memory policy {} needs nodes", policy.mode())));
    }
    let mut flags = 0;
    for flag in policy.flags().iter().flatten() {
        flags |= match flag {
            Flag::MpolFNumaBalancing => 1 << 13,
            Flag::MpolFRelativeNodes => 1 << 14,
            Flag::MpolFStaticNodes => 1 << 15,
        };
    }
    const PLACED: u32 = 3 << 14;
    if flags & PLACED == PLACED {
        return Err(invalid("the nodes of a memory policy cannot be both static and relative".into()));
    }
    if flags & PLACED != 0 && nodes.is_empty() {
        return Err(invalid("a memory policy without nodes cannot have them static or relative".into()));
    }
    Ok(Step::MemoryPolicy { mode: mode | flags, nodes })
}

fn personality(personality: &oci::LinuxPersonality) -> Result<OwnedStep> {
    if personality.flags().as_ref().is_some_and(|flags| !flags.is_empty()) {
        return Err(invalid("an execution domain has no flags: none are defined".into()));
    }
    Ok(match personality.domain() {
        oci::LinuxPersonalityDomain::PerLinux => Step::Personality { value: 0 },
        oci::LinuxPersonalityDomain::PerLinux32 => Step::Personality { value: 8 },
    })
}

/// `MAX_NUMNODES` of the largest configuration.
const NODES: usize = 1024;
/// `NR_CPUS` of the largest configuration.
const PROCESSORS: usize = 8192;

/// Where a further program runs: until it is in the container's control group, or from then on. Nothing for an empty list.
pub(crate) fn affinity(list: Option<&String>) -> Result<Option<OwnedStep>> {
    let mask = mask("a processor", list.map(String::as_str).unwrap_or_default(), PROCESSORS)?;
    Ok((!mask.is_empty()).then_some(Step::Affinity { mask }))
}

/// A list such as `0-3,7` as a bit mask of whole 8-byte words.
fn mask(what: &str, list: &str, most: usize) -> Result<Vec<u8>> {
    let mut mask = Vec::new();
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.then(|| text.parse::<usize>().ok()).flatten().filter(|number| *number < most);
        number.ok_or_else(|| invalid(format!("{text:?} is no number of {what}, in the list {list:?}")))
    };
    for part in list.split(',').map(str::trim).filter(|_| !list.trim().is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(invalid(format!("{part:?} is no range, in the list {list:?}")));
        }
        let length = mask.len().max((last / 64 + 1) * 8);
        mask.resize(length, 0u8);
        (first..=last).for_each(|bit| mask[bit / 8] |= 1 << (bit % 8));
    }
    // The kernel reads words.
    if cfg!(target_endian = "big") {
        mask.chunks_exact_mut(8).for_each(<[u8]>::reverse);
    }
    Ok(mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_masks() {
        let bits = |list| mask("a processor", list, PROCESSORS).map_err(|error| error.to_string());
        assert_eq!(bits(""), Ok(vec![]));
        assert_eq!(bits(" 0-3, 7"), Ok(vec![0x8f, 0, 0, 0, 0, 0, 0, 0]));
        assert_eq!(bits("64").map(|mask| (mask.len(), mask[8])), Ok((16, 1)));
        for bad in [",", "1,", "3-1", "-1", "1-", "a", "1-2-3", "+1", "8192", "99999999999999999999"] {
            assert!(bits(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_schedule_is_the_kernel_s_structure() {
        let mut asked = oci::Scheduler::default();
        asked.set_policy(oci::LinuxSchedulerPolicy::SchedDeadline);
        asked.set_runtime(Some(10_000)).set_deadline(Some(30_000)).set_period(Some(100_000));
        let all = [
            oci::LinuxSchedulerFlag::SchedResetOnFork,
            oci::LinuxSchedulerFlag::SchedFlagReclaim,
            oci::LinuxSchedulerFlag::SchedFlagDLOverrun,
            oci::LinuxSchedulerFlag::SchedFlagKeepPolicy,
            oci::LinuxSchedulerFlag::SchedFlagKeepParams,
            oci::LinuxSchedulerFlag::SchedFlagUtilClampMin,
            oci::LinuxSchedulerFlag::SchedFlagUtilClampMax,
        ];
        asked.set_flags(Some(all.to_vec()));
        let step = scheduler(&asked).unwrap();
        let Step::Scheduler { attr } = &step else { panic!("{step:?}") };
        let words: Vec<u64> = attr.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap())).collect();
        assert_eq!(words, [6 << 32 | 56, 0x7f, 0, 10_000, 30_000, 100_000, 0]);
        assert_eq!(
            step.to_string(),
            "set the scheduling policy to deadline with 10000 of 30000 ns every 100000 ns (reset-on-fork, reclaim, \
             overrun-signal, keep-policy, keep-parameters, clamp-minimum, clamp-maximum)"
        );
    }

    #[test]
    fn a_schedule_that_means_nothing_is_refused() {
        use oci::LinuxSchedulerPolicy::{SchedFifo, SchedIdle, SchedIso, SchedOther, SchedRr};
        let cases: [(_, i32, i32, u64, ErrorKind); 6] = [
            (SchedOther, 20, 0, 0, ErrorKind::Invalid),
            (SchedOther, 0, 1, 0, ErrorKind::Invalid),
            (SchedFifo, 0, 0, 0, ErrorKind::Invalid),
            (SchedRr, 0, 100, 0, ErrorKind::Invalid),
            (SchedIdle, 0, 0, 1, ErrorKind::Invalid),
            (SchedIso, 0, 0, 0, ErrorKind::Unsupported),
        ];
        for (policy, nice, priority, runtime, kind) in cases {
            let mut asked = oci::Scheduler::default();
            asked.set_policy(policy).set_nice(Some(nice)).set_priority(Some(priority)).set_runtime(Some(runtime));
            assert_eq!(scheduler(&asked).unwrap_err().kind(), kind, "{asked:?}");
        }
    }

    #[test]
    fn memory_policies_and_nodes_fit_together() {
        use oci::MemoryPolicyFlagType::{MpolFNumaBalancing, MpolFRelativeNodes, MpolFStaticNodes};
        use oci::MemoryPolicyModeType as Mode;
        let planned = |mode, nodes: &str, flags: &[_]| {
            let mut asked = oci::LinuxMemoryPolicy::default();
            asked.set_mode(mode).set_nodes(Some(nodes.into())).set_flags(Some(flags.to_vec()));
            memory_policy(&asked).map(|step| match step {
                Step::MemoryPolicy { mode, nodes } => (mode, nodes.first().copied().unwrap_or(0)),
                other => panic!("{other:?}"),
            })
        };
        for (mode, number) in [
            (Mode::MpolPreferred, 1),
            (Mode::MpolBind, 2),
            (Mode::MpolInterleave, 3),
            (Mode::MpolPreferredMany, 5),
            (Mode::MpolWeightedInterleave, 6),
        ] {
            assert_eq!(planned(mode, "0,2", &[]).unwrap(), (number, 5));
        }
        assert_eq!(planned(Mode::MpolDefault, "", &[]).unwrap(), (0, 0));
        assert_eq!(planned(Mode::MpolLocal, "", &[]).unwrap(), (4, 0));
        assert_eq!(planned(Mode::MpolBind, "0", &[MpolFNumaBalancing, MpolFStaticNodes]).unwrap(), (0xa002, 1));
        assert_eq!(planned(Mode::MpolBind, "0", &[MpolFRelativeNodes]).unwrap(), (0x4002, 1));
        for (mode, nodes, flags) in [
            (Mode::MpolDefault, "0", [].as_slice()),
            (Mode::MpolLocal, "0", &[]),
            (Mode::MpolBind, "", &[]),
            (Mode::MpolInterleave, "1024", &[]),
            (Mode::MpolBind, "0", &[MpolFStaticNodes, MpolFRelativeNodes]),
            (Mode::MpolPreferred, "", &[MpolFStaticNodes]),
        ] {
            assert_eq!(planned(mode, nodes, flags).unwrap_err().kind(), ErrorKind::Invalid, "{mode} {nodes:?}");
        }
    }

    #[test]
    fn few_descriptors_come_late_and_raised_limits_early() {
        let shown = |soft, hard| {
            let limit = Limit { resource: DESCRIPTORS, soft, hard };
            [limit.early(), limit.late()].map(|step| step.map(|step| step.to_string()))
        };
        let set = |soft: u64, hard: u64| Some(format!("set RLIMIT_NOFILE to {soft} (hard {hard})"));
        assert_eq!(shown(1024, 4096), [set(1024, 4096), None]);
        assert_eq!(shown(5, 5), [None, set(5, 5)]);
        assert_eq!(shown(5, 4096), [set(512, 4096), set(5, 4096)]);
    }
}
