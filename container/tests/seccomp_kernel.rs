//! The filters in the kernel: a child installs one and makes calls, and what it gets must be what the simulator says.
//!
//! All calls are harmless: their arguments are such that, where they are let through, they change nothing but the child.
//! Needs a C compiler, and for the 32-bit part a kernel that runs 32-bit programs.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use keelbox::seccomp::{Action, Arch, Condition, Filter, NewerSyscalls, Operator, Profile, Rule, SyscallTable, Target};
use keelbox_testkit::require;
use oci_spec::runtime::Capability;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const ANY: u64 = u64::MAX; // no descriptor, no address, no valid flags
const TIOCSTI: u64 = 0x5412;
const TCGETS: u64 = 0x5401;
const NEWNS: u64 = 0x0002_0000;
const SIGSYS: i32 = 31;

/// Calls and arguments, and whether the standard profile lets a container without capabilities make them.
const CALLS: [(&str, [u64; 6], bool); 62] = [
    ("read", [ANY, 0, 0, 0, 0, 0], true),
    ("write", [ANY, 0, 0, 0, 0, 0], true),
    ("close", [ANY, 0, 0, 0, 0, 0], true),
    ("openat", [ANY, 0, 0, 0, 0, 0], true),
    ("openat2", [ANY, 0, 0, 0, 0, 0], true),
    ("fstat", [ANY, 0, 0, 0, 0, 0], true),
    ("statx", [ANY, 0, 0, 0, 0, 0], true),
    ("lseek", [ANY, 0, 0, 0, 0, 0], true),
    ("mmap", [0, 0, 0, 0, ANY, 0], true),
    ("mprotect", [1, 0, 0, 0, 0, 0], true),
    ("munmap", [1, 0, 0, 0, 0, 0], true),
    ("rt_sigaction", [ANY, 0, 0, 0, 0, 0], true),
    ("ioctl", [ANY, TCGETS, 0, 0, 0, 0], true),
    ("ioctl", [ANY, TIOCSTI, 0, 0, 0, 0], false),
    ("ioctl", [ANY, TIOCSTI | 7 << 32, 0, 0, 0, 0], false),
    ("ioctl", [ANY, 0x541c, 0, 0, 0, 0], false),
    ("dup3", [ANY, ANY, 0, 0, 0, 0], true),
    ("getcwd", [0, 0, 0, 0, 0, 0], true),
    ("getuid", [0, 0, 0, 0, 0, 0], true),
    ("getrandom", [0, 0, ANY, 0, 0, 0], true),
    ("futex", [1, ANY, 0, 0, 0, 0], true),
    ("epoll_create1", [ANY, 0, 0, 0, 0, 0], true),
    ("wait4", [ANY, 0, 0x4000_0000, 0, 0, 0], true),
    ("landlock_create_ruleset", [ANY, 0, ANY, 0, 0, 0], true),
    ("socket", [2, 0x7ff, 0, 0, 0, 0], true),
    ("socket", [16, 0x7ff, 0, 0, 0, 0], true),
    ("socket", [38, 0x7ff, 0, 0, 0, 0], false),
    ("socket", [40, 0x7ff, 0, 0, 0, 0], false),
    ("socket", [12, 0x7ff, 0, 0, 0, 0], false),
    ("socket", [2 | 1 << 32, 0x7ff, 0, 0, 0, 0], false),
    ("socketpair", [38, 0x7ff, 0, 0, 0, 0], false),
    ("personality", [0xffff_ffff, 0, 0, 0, 0, 0], true),
    ("personality", [0x0004_0000, 0, 0, 0, 0, 0], false),
    ("clone", [NEWNS | 0x200, 0, 0, 0, 0, 0], false),
    ("unshare", [0x100, 0, 0, 0, 0, 0], true),
    ("unshare", [NEWNS | 0x80 | 1, 0, 0, 0, 0, 0], false),
    ("unshare", [0x80 | 1, 0, 0, 0, 0, 0], false),
    ("setns", [ANY, 0, 0, 0, 0, 0], false),
    ("mount", [1, 1, 1, 0, 0, 0], false),
    ("umount2", [0, ANY, 0, 0, 0, 0], false),
    ("pivot_root", [1, 1, 0, 0, 0, 0], false),
    ("fsopen", [1, ANY, 0, 0, 0, 0], false),
    ("move_mount", [ANY, 1, ANY, 1, ANY, 0], false),
    ("bpf", [ANY, 0, 0, 0, 0, 0], false),
    ("perf_event_open", [1, 0, 0, 0, 0, 0], false),
    ("userfaultfd", [ANY, 0, 0, 0, 0, 0], false),
    ("io_uring_setup", [0, 1, 0, 0, 0, 0], false),
    ("keyctl", [ANY, 0, 0, 0, 0, 0], false),
    ("add_key", [1, 1, 0, 0, 0, 0], false),
    ("request_key", [1, 1, 0, 0, 0, 0], false),
    ("kexec_load", [0, ANY, 0, ANY, 0, 0], false),
    ("swapon", [1, 0, 0, 0, 0, 0], false),
    ("finit_module", [ANY, 0, ANY, 0, 0, 0], false),
    ("open_by_handle_at", [ANY, 1, 0, 0, 0, 0], false),
    ("chroot", [1, 0, 0, 0, 0, 0], false),
    ("sethostname", [0, ANY, 0, 0, 0, 0], false),
    ("clock_settime", [ANY, 0, 0, 0, 0, 0], false),
    ("mbind", [1, 0, ANY, 0, 0, ANY], false),
    ("kcmp", [ANY, ANY, ANY, 0, 0, 0], false),
    ("pidfd_getfd", [ANY, ANY, ANY, 0, 0, 0], false),
    ("fanotify_init", [ANY, 0, 0, 0, 0, 0], false),
    ("reboot", [0, 0, 0, 0, 0, 0], false),
];

#[test]
fn calls_get_the_answer_of_the_simulator() {
    require!(Program("cc"), Seccomp);
    let directory = tempfile::tempdir().unwrap();
    let loader = compile(directory.path());
    let arch = Arch::native().expect("tests run on a known architecture");
    let table = SyscallTable::of(arch);
    let mut calls: Vec<(u32, [u64; 6])> = CALLS.map(|(name, list, _)| (table.number(name).unwrap(), list)).to_vec();
    // clone3, and numbers past all that exist.
    calls.extend([435, 480, 600, 5000].map(|number| (number, [0; 6])));
    let words: Vec<String> = calls.iter().map(|(number, list)| word('n', *number, *list)).collect();
    let unfiltered = run(&loader, "none", &[], &words).lines;
    let host = Target::host().unwrap();
    let capable = ["SYS_ADMIN", "SYS_CHROOT", "SYS_TIME", "SYS_PTRACE", "SYS_NICE", "SYS_BOOT", "DAC_READ_SEARCH"];
    let capable = host.clone().capabilities(capable.map(|name| name.parse::<Capability>().unwrap()));
    let strict = Profile::standard().clone().newer_syscalls(NewerSyscalls::DefaultAction);
    for (profile, target) in
        [(Profile::standard(), &host), (Profile::standard(), &capable), (Profile::hostile(), &host), (&strict, &host)]
    {
        let filter = profile.compile(target).unwrap();
        let filtered = run(&loader, &format!("{:x}", filter.flags()), &filter.bytes(), &words);
        assert_eq!(filtered.lines[0], "installed 0");
        for (index, (number, arguments)) in calls.iter().enumerate() {
            let wanted = match filter.decide(arch, *number, *arguments) {
                Action::Allow => unfiltered[index].clone(),
                Action::Errno(errno) => (-i64::from(errno)).to_string(),
                other => panic!("{other} is not to be tried"),
            };
            let name = table.name(*number);
            assert_eq!(filtered.lines[index + 1], wanted, "{name:?} {number} {arguments:x?} for {target:?}");
        }
    }
}

#[test]
fn the_standard_profile_allows_and_forbids_what_the_table_says() {
    let arch = Arch::X86_64;
    let filter = Profile::standard().compile(&Target::new(arch)).unwrap();
    for (name, arguments, allowed) in CALLS {
        let wanted = if allowed { Action::Allow } else { Action::Errno(1) };
        let number = SyscallTable::of(arch).number(name).unwrap();
        assert_eq!(filter.decide(arch, number, arguments), wanted, "{name} {arguments:x?}");
    }
}

#[test]
fn calls_of_other_architectures() {
    require!(Program("cc"), Seccomp);
    if Arch::native() != Some(Arch::X86_64) {
        return; // there is no int 0x80
    }
    let directory = tempfile::tempdir().unwrap();
    let loader = compile(directory.path());
    let (getpid, socketcall) = (word('i', 20, [0; 6]), word('i', 102, [1, 0, 0, 0, 0, 0]));
    let x32_getpid = word('n', 0x4000_0027, [0; 6]);
    let without = run(&loader, "none", &[], std::slice::from_ref(&getpid));
    let runs_32_bit = without.lines.first().is_some_and(|line| line.parse::<i64>().is_ok_and(|pid| pid > 1));

    let standard = Profile::standard().compile(&Target::host().unwrap()).unwrap();
    let answer = run(&loader, "0", &standard.bytes(), std::slice::from_ref(&x32_getpid));
    assert_eq!(answer.lines, ["installed 0", "-1"], "x32 is not listed");
    if !runs_32_bit {
        let promised = std::env::var("KEELBOX_CI_HAS").unwrap_or_default();
        assert!(!promised.split(',').any(|word| word == "Compat"), "this kernel runs no 32-bit programs");
        let _ = writeln!(std::io::stderr(), "SKIP the 32-bit part: this kernel runs no 32-bit programs");
        return;
    }
    let answer = run(&loader, "0", &standard.bytes(), &[getpid.clone(), socketcall.clone()]);
    assert!(answer.lines[1].parse::<i64>().unwrap() > 1, "{:?}", answer.lines);
    assert_eq!(answer.lines[2], "-1", "socketcall");
    let opened = Profile::standard().clone().allow(["socketcall"]).compile(&Target::host().unwrap()).unwrap();
    assert_eq!(run(&loader, "0", &opened.bytes(), &[socketcall]).lines[1], "-14"); // EFAULT: it was made

    let hostile = Profile::hostile().compile(&Target::host().unwrap()).unwrap();
    let answer = run(&loader, "0", &hostile.bytes(), &[getpid]);
    assert_eq!((answer.lines.len(), answer.signal), (1, Some(SIGSYS)), "an architecture that is not listed");
}

#[test]
fn the_kernel_takes_every_flag_the_filter_asks_for() {
    require!(Program("cc"), Seccomp);
    let directory = tempfile::tempdir().unwrap();
    let loader = compile(directory.path());
    let json =
        br#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG",
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}"#;
    let profile = Profile::from_json(json).unwrap();
    let target = Target::host().unwrap();
    let plain = profile.compile(&target).unwrap();
    assert_eq!((plain.flags(), plain.optional_flags(), plain.needs_listener()), (0b000111, 0, false));
    assert_eq!(installed(&loader, &plain, plain.flags()), "installed 0");
    let notifying = profile.notify(["mkdirat"]).compile(&target).unwrap();
    assert_eq!((notifying.flags(), notifying.optional_flags()), (0b111111, 0));
    assert_eq!(installed(&loader, &notifying, notifying.flags()), "installed 3"); // a descriptor
    let optional = Profile::hostile().clone().notify(["mkdirat"]).compile(&target).unwrap();
    assert_eq!((optional.flags(), optional.optional_flags()), (0b001000, 0b100000));
    assert_eq!(installed(&loader, &optional, optional.flags() | optional.optional_flags()), "installed 3");
}

#[test]
fn a_long_filter_is_taken_and_works() {
    require!(Program("cc"), Seccomp);
    let directory = tempfile::tempdir().unwrap();
    let loader = compile(directory.path());
    let arch = Arch::native().expect("tests run on a known architecture");
    let mut profile = Profile::new(Action::Allow);
    for value in 0..800_u64 {
        let condition = Condition::new(5, Operator::Eq, value << 33 | value);
        profile = profile.rule(Rule::new(Action::Errno(value as u16 + 1), ["getppid"]).when(condition));
    }
    let filter = profile.compile(&Target::new(arch)).unwrap();
    assert!(filter.instructions().len() > 3000, "{}", filter.instructions().len());
    let number = SyscallTable::of(arch).number("getppid").unwrap();
    let calls = [0, 1, 77, 500, 799].map(|value: u64| word('n', number, [0, 0, 0, 0, 0, value << 33 | value]));
    assert_eq!(run(&loader, "0", &filter.bytes(), &calls).lines, ["installed 0", "-1", "-2", "-78", "-501", "-800"]);
}

fn installed(loader: &Path, filter: &Filter, flags: u32) -> String {
    run(loader, &format!("{flags:x}"), &filter.bytes(), &[]).lines[0].clone()
}

struct Answer {
    lines: Vec<String>,
    signal: Option<i32>,
}

fn word(kind: char, number: u32, [a, b, c, d, e, f]: [u64; 6]) -> String {
    format!("{kind}:{number:x}:{a:x}:{b:x}:{c:x}:{d:x}:{e:x}:{f:x}")
}

fn compile(directory: &Path) -> PathBuf {
    let (source, program) = (directory.join("loader.c"), directory.join("loader"));
    std::fs::write(&source, include_str!("seccomp_kernel.c")).unwrap();
    assert!(Command::new("cc").arg("-o").args([&program, &source]).status().unwrap().success());
    program
}

fn run(loader: &Path, flags: &str, filter: &[u8], calls: &[String]) -> Answer {
    let mut command = Command::new(loader);
    command.arg(flags).args(calls).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(filter).unwrap();
    let output = child.wait_with_output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    Answer { lines, signal: output.status.signal() }
}
