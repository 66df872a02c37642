//! The compiler against libseccomp: the same rules, compiled by both, must decide the same about every call.
//!
//! Left out is where the two differ on purpose: conditional rules that a rule without conditions follows, x32 calls
//! without x32 in the list (libseccomp kills), `ENOSYS` for newer calls, and the upper halves of x32 arguments (libseccomp
//! takes x32 for a 32-bit architecture, though its registers have 64 bits).
//! Needs a C compiler and the development files of libseccomp, 2.5 or later.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use keelbox::seccomp::{Action, Arch, Call, Instruction, NewerSyscalls, Profile, SyscallTable, Target, simulate};
use keelbox_testkit::require;
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const ARCHITECTURES: [(Arch, u32); 5] = [
    (Arch::X86_64, 0xc000_003e),
    (Arch::X86, 0x4000_0003),
    (Arch::X32, 0x4000_003e),
    (Arch::Aarch64, 0xc000_00b7),
    (Arch::Arm, 0x4000_0028),
];

const OPERATORS: [&str; 7] = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];

/// The calls that libseccomp rewrites on x86, because they also exist as `socketcall` and `ipc`.
const MULTIPLEXED: &str = "accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg \
    recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socket socketpair msgctl msgget msgrcv msgsnd semctl semget \
    semop semtimedop shmat shmctl shmdt shmget";

#[test]
fn built_in_profiles_decide_as_with_libseccomp() {
    require!(Program("cc"), Exists("/usr/include/seccomp.h"));
    let directory = tempfile::tempdir().unwrap();
    let builder = compile(directory.path());
    for profile in [Profile::standard(), Profile::hostile()] {
        for (arch, _) in ARCHITECTURES {
            let admin = Target::new(arch).capabilities(["SYS_ADMIN", "SYS_TIME"].map(|name| name.parse().unwrap()));
            for target in [Target::new(arch), admin] {
                let mut seccomp = profile.to_oci(&target).unwrap();
                let mut rules = seccomp.syscalls().clone().unwrap_or_default();
                // These conditional rules come before one without conditions, which libseccomp cannot express.
                rules.retain(|rule| rule.args().is_none() || rule.names() != &["ioctl"]);
                if arch == Arch::X86 {
                    rules.iter_mut().for_each(without_multiplexed);
                    rules.retain(|rule| !rule.names().is_empty());
                }
                seccomp.set_syscalls(Some(rules)).set_architectures(None);
                compare(&builder, arch, &seccomp);
            }
        }
    }
}

#[test]
fn random_rules_decide_as_with_libseccomp() {
    require!(Program("cc"), Exists("/usr/include/seccomp.h"));
    let directory = tempfile::tempdir().unwrap();
    let builder = compile(directory.path());
    for seed in 1..=40 {
        for (arch, _) in ARCHITECTURES {
            let seccomp = Random(seed * 7919 + u64::from(arch.audit())).rules(arch);
            compare(&builder, arch, &seccomp);
        }
    }
}

#[test]
fn tables_are_those_of_libseccomp() {
    require!(Program("cc"), Exists("/usr/include/seccomp.h"));
    let directory = tempfile::tempdir().unwrap();
    let builder = compile(directory.path());
    // One errno for each call: a filter of libseccomp then spells out its own table.
    for (arch, token) in ARCHITECTURES {
        let names: Vec<&str> = SyscallTable::of(arch).iter().map(|(name, _)| name).collect();
        let names = names.into_iter().filter(|name| arch != Arch::X86 || !multiplexed(name));
        let mut text = format!("arch {token:x}\ndefault 7fff0000\n");
        let mut wanted = BTreeMap::new();
        for (index, name) in names.enumerate().filter(|(_, name)| *name != "sync_file_range2") {
            writeln!(text, "rule {:x} {name} 0", 0x0005_0000 + index).unwrap();
            wanted.insert(name, Action::Errno(index as u16));
        }
        let (program, unknown) = build(&builder, &text);
        // libseccomp 2.5 does not know the newest; what it knows must have the same number.
        assert!(unknown.len() < 40, "{arch:?}: {unknown:?}");
        for (name, action) in wanted.into_iter().filter(|(name, _)| !unknown.contains(*name)) {
            let number = SyscallTable::of(arch).number(name).unwrap();
            assert_eq!(decide(&program, &Call::new(arch, number)), action, "{arch:?} {name} {number}");
        }
    }
}

fn compare(builder: &Path, arch: Arch, seccomp: &LinuxSeccomp) {
    let profile = Profile::from_oci(seccomp).unwrap().newer_syscalls(NewerSyscalls::DefaultAction);
    let ours = profile.compile(&Target::new(arch)).unwrap();
    let text = describe(arch, seccomp);
    let (theirs, unknown) = build(builder, &text);
    let base = if arch == Arch::X32 { 0x4000_0000 } else { 0 };
    let known = |number: &u32| !SyscallTable::of(arch).name(*number).is_some_and(|name| unknown.contains(name));
    for number in (0..=600).map(|number| base + number).filter(known) {
        for arguments in arguments(seccomp, arch, number) {
            let mut call = Call::new(arch, number);
            call.arguments = arguments;
            let (got, wanted) = (ours.decide(arch, number, arguments), decide(&theirs, &call));
            let name = SyscallTable::of(arch).name(number);
            assert_eq!(got, wanted, "{arch:?} {name:?} {number} {arguments:x?} under\n{text}");
        }
    }
    let foreign = if arch == Arch::X86 { Arch::Aarch64 } else { Arch::X86 };
    assert_eq!(decide(&theirs, &Call::new(foreign, 1)), ours.decide(foreign, 1, [0; 6]));
}

/// Arguments around the values that the rules compare this call with.
fn arguments(seccomp: &LinuxSeccomp, arch: Arch, number: u32) -> Vec<[u64; 6]> {
    let narrow = matches!(arch, Arch::X86 | Arch::Arm | Arch::X32);
    let mask = if narrow { u64::from(u32::MAX) } else { u64::MAX };
    let name = SyscallTable::of(arch).name(number).unwrap_or_default();
    let mut values: [BTreeSet<u64>; 6] = Default::default();
    let rules = seccomp.syscalls().iter().flatten().filter(|rule| rule.names().iter().any(|own| own == name));
    for argument in rules.flat_map(|rule| rule.args().iter().flatten()) {
        let (value, two) = (argument.value(), argument.value_two().unwrap_or(0));
        let near = [value, value.wrapping_add(1), value.wrapping_sub(1), !value, two, two & value, two | !value, 0];
        let near = near.into_iter().flat_map(|value| [value, value ^ (1 << 32), value & 0xffff_ffff]);
        values[argument.index()].extend(near.map(|value| value & mask));
    }
    let used: Vec<usize> = (0..6).filter(|index| !values[*index].is_empty()).collect();
    let mut lists = vec![[0; 6], [mask; 6]];
    for index in &used {
        let single = values[*index].iter().map(|value| std::array::from_fn(|at| if at == *index { *value } else { 0 }));
        lists.extend(single);
    }
    let mut random = Random(u64::from(number) + 1);
    for _ in 0..if used.len() > 1 { 50 } else { 0 } {
        lists.push(values.each_ref().map(|values| match values.len() {
            0 => 0,
            length => *values.iter().nth(random.below(length)).unwrap(),
        }));
    }
    lists
}

fn describe(arch: Arch, seccomp: &LinuxSeccomp) -> String {
    let token = ARCHITECTURES.iter().find(|(each, _)| *each == arch).unwrap().1;
    let default = value(seccomp.default_action(), seccomp.default_errno_ret());
    let mut text = format!("arch {token:x}\ndefault {default:x}\n");
    for rule in seccomp.syscalls().iter().flatten() {
        let conditions = rule.args().as_deref().unwrap_or_default();
        for name in rule.names() {
            let action = value(rule.action(), rule.errno_ret());
            write!(text, "rule {action:x} {name} {}", conditions.len()).unwrap();
            conditions.iter().for_each(|argument| text.push_str(&describe_argument(argument)));
            text.push('\n');
        }
    }
    text
}

fn describe_argument(argument: &LinuxSeccompArg) -> String {
    let operator = match argument.op() {
        LinuxSeccompOperator::ScmpCmpNe => 1,
        LinuxSeccompOperator::ScmpCmpLt => 2,
        LinuxSeccompOperator::ScmpCmpLe => 3,
        LinuxSeccompOperator::ScmpCmpEq => 4,
        LinuxSeccompOperator::ScmpCmpGe => 5,
        LinuxSeccompOperator::ScmpCmpGt => 6,
        LinuxSeccompOperator::ScmpCmpMaskedEq => 7,
    };
    let two = argument.value_two().unwrap_or(0);
    format!(" {} {operator} {:x} {two:x}", argument.index(), argument.value())
}

/// libseccomp's action values are those of the kernel.
fn value(action: LinuxSeccompAction, errno: Option<u32>) -> u32 {
    match action {
        LinuxSeccompAction::ScmpActAllow => 0x7fff_0000,
        LinuxSeccompAction::ScmpActErrno => 0x0005_0000 | errno.unwrap_or(1),
        LinuxSeccompAction::ScmpActTrap => 0x0003_0000,
        LinuxSeccompAction::ScmpActLog => 0x7ffc_0000,
        LinuxSeccompAction::ScmpActTrace => 0x7ff0_0000 | errno.unwrap_or(1),
        LinuxSeccompAction::ScmpActKillProcess => 0x8000_0000,
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => 0,
        LinuxSeccompAction::ScmpActNotify => 0x7fc0_0000,
    }
}

fn decide(program: &[Instruction], call: &Call) -> Action {
    Action::from_return(simulate::run(program, call).expect("a program of libseccomp has no faults"))
}

fn compile(directory: &Path) -> PathBuf {
    let (source, program) = (directory.join("builder.c"), directory.join("builder"));
    std::fs::write(&source, include_str!("seccomp_libseccomp.c")).unwrap();
    let built = Command::new("cc").arg("-o").args([&program, &source]).arg("-lseccomp").status().unwrap();
    assert!(built.success());
    program
}

/// The program, and the names that libseccomp does not know.
fn build(builder: &Path, text: &str) -> (Vec<Instruction>, BTreeSet<String>) {
    let mut command = Command::new(builder);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let unknown = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "libseccomp refused {unknown} of\n{text}");
    let (instructions, rest) = output.stdout.as_chunks::<8>();
    assert!(rest.is_empty());
    let program: Vec<Instruction> = instructions.iter().copied().map(Instruction::from_bytes).collect();
    assert_eq!(simulate::check(&program), Ok(()));
    (program, unknown.lines().map(str::to_owned).collect())
}

fn multiplexed(name: &str) -> bool {
    MULTIPLEXED.split_whitespace().any(|each| each == name)
}

fn without_multiplexed(rule: &mut LinuxSyscall) {
    let names = rule.names().iter().filter(|name| !multiplexed(name)).cloned().collect();
    rule.set_names(names);
}

/// xorshift64*: small, and the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 32) as usize % limit
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Rules for which the order does not matter, and which libseccomp gets right: each call has one action, and either
    /// one rule of any kind or several that compare one argument for equality. Where libseccomp 2.5 merges several rules
    /// of more kinds into one tree, it loses some.
    fn rules(&mut self, arch: Arch) -> LinuxSeccomp {
        let names: Vec<&str> = SyscallTable::of(arch).iter().map(|(name, _)| name).collect();
        let mut rules = Vec::new();
        let mut used = BTreeSet::new();
        for _ in 0..80 {
            let name = self.pick(&names);
            // Under one number there may be two names; libseccomp knows one of them.
            if (arch == Arch::X86 && multiplexed(name)) || name.contains("sync_file_range") || !used.insert(name) {
                continue;
            }
            let actions = [r#""SCMP_ACT_ALLOW""#, r#""SCMP_ACT_TRAP""#, r#""SCMP_ACT_ERRNO", "errnoRet": 99"#];
            let action = self.pick(&actions);
            let conditions = match self.below(3) {
                0 => vec![self.conditions(arch, &OPERATORS)],
                1 => (0..5).map(|_| self.conditions(arch, &["EQ"])).filter(|list| list.len() == 1).collect(),
                _ => vec![Vec::new()],
            };
            for conditions in conditions {
                let conditions = conditions.join(",");
                rules.push(format!(r#"{{"names": ["{name}"], "action": {action}, "args": [{conditions}]}}"#));
            }
        }
        let default = self.pick(&[r#""SCMP_ACT_ERRNO", "defaultErrnoRet": 7"#, r#""SCMP_ACT_KILL_PROCESS""#]);
        let text = format!(r#"{{"defaultAction": {default}, "syscalls": [{}]}}"#, rules.join(","));
        serde_json::from_str(&text).unwrap()
    }

    fn conditions(&mut self, arch: Arch, operators: &[&str]) -> Vec<String> {
        let first = self.below(6);
        let count = self.pick(&[0, 1, 1, 1, 2, 3]);
        let condition = |step| {
            let operator = self.pick(operators);
            let (value, two) = (self.value(arch), if operator == "MASKED_EQ" { self.value(arch) } else { 0 });
            let index = (first + step) % 6;
            format!(r#"{{"index": {index}, "op": "SCMP_CMP_{operator}", "value": {value}, "valueTwo": {two}}}"#)
        };
        (0..count).map(condition).collect()
    }

    fn value(&mut self, arch: Arch) -> u64 {
        let wide = self.next();
        let shift = self.below(64);
        let value = self.pick(&[0, 1, 5, 16, 0xffff_ffff, 0x1_0000_0000, u64::MAX, wide, wide >> shift]);
        if arch == Arch::X32 { value & 0xffff_ffff } else { value }
    }
}
