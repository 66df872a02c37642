//! What the profiles of this crate answer, call by call, compared with a text that a reviewer can read.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use keelbox::seccomp::{Action, Arch, Builtin, Filter, SyscallTable, Target};
use oci_spec::runtime::Capability;
use std::collections::BTreeMap;
use std::fmt::Write as _;

#[test]
fn standard() {
    keelbox_testkit::golden!("seccomp/standard.txt", table(Builtin::Standard));
}

#[test]
fn hostile() {
    keelbox_testkit::golden!("seccomp/hostile.txt", table(Builtin::Hostile));
}

fn table(profile: Builtin) -> String {
    let mut text = String::new();
    for (native, foreign) in [(Arch::X86_64, [Arch::X32, Arch::X86]), (Arch::Aarch64, [Arch::Arm, Arch::X86_64])] {
        let target = Target::new(native);
        let filter = profile.filter(&target).unwrap();
        for arch in [native].into_iter().chain(foreign) {
            writeln!(text, "calls of {arch:?} on {native:?}").unwrap();
            let answers = answers(&filter, arch);
            for (answer, calls) in &answers {
                let calls = if answers.len() == 1 { "all".to_owned() } else { calls.join(" ") };
                writeln!(text, "  {answer}: {calls}").unwrap();
            }
        }
    }
    let native = Arch::X86_64;
    let without = profile.filter(&Target::new(native)).unwrap();
    for capability in capabilities() {
        let with = profile.filter(&Target::new(native).capabilities([capability])).unwrap();
        let changed = SyscallTable::of(native).iter().filter_map(|(name, number)| {
            let (old, new) = (answer(&without, native, number), answer(&with, native, number));
            (old != new).then(|| format!("{name} {new}"))
        });
        let changed: Vec<String> = changed.collect();
        if !changed.is_empty() {
            writeln!(text, "with {capability}: {}", changed.join(", ")).unwrap();
        }
    }
    text
}

/// For each answer the calls that get it, by name, or by number where there is no name.
fn answers(filter: &Filter, arch: Arch) -> BTreeMap<String, Vec<String>> {
    let table = SyscallTable::of(arch);
    let base = if arch == Arch::X32 { 0x4000_0000 } else { 0 };
    let mut answers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut unnamed: Option<(String, u32)> = None;
    for number in 0..=600 {
        let answer = answer(filter, arch, base + number);
        let name = table.name(base + number);
        if unnamed.as_ref().is_some_and(|(old, _)| name.is_some() || *old != answer)
            && let Some((old, first)) = unnamed.take()
        {
            answers.entry(old).or_default().push(format!("#{first}-{}", number - 1));
        }
        match name {
            Some(name) => answers.entry(answer).or_default().push(name.to_owned()),
            None => unnamed = unnamed.or(Some((answer, number))),
        }
    }
    if let Some((answer, first)) = unnamed {
        answers.entry(answer).or_default().push(format!("#{first} and above"));
    }
    answers
}

/// The answer, or all answers if they depend on the arguments.
fn answer(filter: &Filter, arch: Arch, number: u32) -> String {
    let values = [0, 1, 2, 0x1000, 0x5412, 0x7e02_0000, u64::MAX];
    let mut answers: Vec<Action> = values.map(|value| filter.decide(arch, number, [value; 6])).to_vec();
    answers.sort_unstable();
    answers.dedup();
    answers.iter().map(Action::to_string).collect::<Vec<_>>().join(" or ")
}

fn capabilities() -> impl Iterator<Item = Capability> {
    let names = "AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE DAC_READ_SEARCH \
        FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN NET_BIND_SERVICE \
        NET_BROADCAST NET_RAW PERFMON SETGID SETFCAP SETPCAP SETUID SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE \
        SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG SYSLOG WAKE_ALARM";
    names.split_whitespace().map(|name| name.parse().unwrap())
}
