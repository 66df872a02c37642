//! Reading profiles, choosing their rules, and what is said about those that are wrong.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use keelbox::seccomp::{
    Action, Arch, Call, Condition, ErrorKind, NewerSyscalls, Operator, Profile, RepeatedArguments, Rule, SyscallTable,
    Target, Warning,
};
use oci_spec::runtime::{Capability, LinuxSeccomp};
use serde_json::{Value, json};

const EPERM: Action = Action::Errno(1);

fn read(value: &Value) -> Profile {
    Profile::from_json(value.to_string().as_bytes()).unwrap()
}

/// The answer of rules and filter, which must be one.
fn decide(profile: &Profile, target: &Target, arch: Arch, name: &str, arguments: [u64; 6]) -> Action {
    let rules = profile.resolve(target).unwrap();
    let number = SyscallTable::of(arch).number(name).unwrap_or_else(|| name.parse().unwrap());
    let mut call = Call::new(arch, number);
    call.arguments = arguments;
    let answer = rules.decide(&call);
    assert_eq!(rules.compile().unwrap().decide(arch, number, arguments), answer);
    answer
}

#[test]
fn wrong_profiles_name_the_field() {
    let allow = |key: &str, value: Value| {
        let mut profile = json!({"defaultAction": "SCMP_ACT_ALLOW"});
        profile[key] = value;
        profile
    };
    let errno = |key: &str, value: Value| {
        let mut profile = json!({"defaultAction": "SCMP_ACT_ERRNO"});
        profile[key] = value;
        profile
    };
    let both = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"],
        "archMap": [{"architecture": "SCMP_ARCH_X86"}]});
    let notify = "a filter that notifies of every call would stop its own process";
    let table = [
        (json!([]), "the top level", "it is not an object"),
        (json!({}), "defaultAction", "it is missing"),
        (json!({"defaultAction": null}), "defaultAction", "it is missing"),
        (json!({"defaultAction": "SCMP_ACT_NO"}), "defaultAction", "\"SCMP_ACT_NO\" is no action"),
        (json!({"defaultAction": "SCMP_ACT_NOTIFY"}), "defaultAction", notify),
        (allow("defaultErrnoRet", json!(1)), "defaultErrnoRet", "SCMP_ACT_ALLOW takes no error number"),
        (errno("defaultErrnoRet", json!(4096)), "defaultErrnoRet", "4096 is more than 4095"),
        (errno("defaultErrno", json!("EWHAT")), "defaultErrno", "\"EWHAT\" is no error number"),
        (allow("flags", json!("TSYNC")), "flags", "it is not an array"),
        (allow("flags", json!([7])), "flags/0", "it is not a string"),
        (allow("listenerMetadata", json!("x")), "listenerMetadata", "it needs listenerPath"),
        (both, "archMap", "architectures says the same"),
        (allow("archMap", json!([{}])), "archMap/0/architecture", "it is missing"),
        (allow("syscalls", json!([7])), "syscalls/0", "it is not an object"),
    ];
    for (profile, field, problem) in table {
        refuses(&profile, None, field, problem);
    }
    let error = Profile::from_json(b"{").unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ErrorKind::Json, "cannot read the seccomp profile as JSON")
    );
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn wrong_rules_name_the_rule_and_the_field() {
    let kill = |key: &str, value: Value| {
        let mut kill = json!({"names": ["kill"], "action": "SCMP_ACT_ALLOW"});
        kill[key] = value;
        kill
    };
    let argument = |key: &str, value: Value| {
        let mut argument = json!({"index": 0, "value": 1, "op": "SCMP_CMP_EQ"});
        argument[key] = value;
        kill("args", json!([{"index": 1, "value": 1, "op": "SCMP_CMP_EQ"}, argument]))
    };
    let number = "it is not an unsigned 64-bit number";
    let table = [
        (json!({"action": "SCMP_ACT_ALLOW"}), "names", "it must have at least one entry"),
        (kill("names", json!([])), "names", "it must have at least one entry"),
        (kill("name", json!("kill")), "name", "names says the same"),
        (kill("action", json!("allow")), "action", "\"allow\" is no action"),
        (kill("errnoRet", json!(0)), "errnoRet", "SCMP_ACT_ALLOW takes no error number"),
        (kill("errnoRet", json!(-1)), "errnoRet", number),
        (kill("args", json!([1])), "args/0", "it is not an object"),
        (argument("op", json!("==")), "args/1/op", "\"==\" is no operator"),
        (argument("index", json!(6)), "args/1/index", "there is no argument 6, the last is 5"),
        (argument("index", json!(null)), "args/1/index", "it is missing"),
        (argument("value", json!("1")), "args/1/value", number),
        (kill("includes", json!({"minKernel": "new"})), "includes/minKernel", "\"new\" is not like 4.8"),
        (kill("excludes", json!({"caps": [1]})), "excludes/caps/0", "it is not a string"),
    ];
    let right = json!({"names": ["read"], "action": "SCMP_ACT_ALLOW"});
    for (wrong, field, problem) in table {
        let profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [right, wrong]});
        refuses(&profile, Some(1), field, problem);
    }
}

fn refuses(profile: &Value, rule: Option<usize>, field: &str, problem: &str) {
    let error = Profile::from_json(profile.to_string().as_bytes()).unwrap_err();
    let place = rule.map(|rule| format!(" of rule {rule}")).unwrap_or_default();
    assert_eq!((error.kind(), error.rule(), error.field()), (ErrorKind::Field, rule, field), "{profile}");
    assert_eq!(error.to_string(), format!("cannot use {field}{place} of the seccomp profile: {problem}"));
}

#[test]
fn docker_and_podman_forms() {
    let profile = read(&json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "ENOSYS", "defaultErrnoRet": 1,
        "archMap": [
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": null},
        ],
        "somethingNew": {"unknown": true}, "architectures": null,
        "syscalls": [
            {"name": "getpid", "action": "SCMP_ACT_ALLOW", "args": null, "comment": "x", "includes": {}, "excludes": null},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN", "cap_sys_chroot"]}},
            {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "5.11"}},
            {"names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "x32"]}},
            {"names": ["acct"], "action": "SCMP_ACT_ERRNO", "errno": "EAFNOSUPPORT", "errnoRet": 22, "excludes": {"caps": ["SYS_PACCT"]}},
            {"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "excludes": {"minKernel": "6.0", "arches": ["arm64"]}},
        ],
    }));
    let plain = Target::new(Arch::X86_64);
    let enosys = Action::Errno(38);
    let answer = |target: &Target, name| decide(&profile, target, target_arch(target), name, [0; 6]);
    assert_eq!(answer(&plain, "getpid"), Action::Allow);
    assert_eq!(answer(&plain, "read"), enosys);
    assert_eq!(answer(&plain, "mount"), enosys);
    let chroot = plain.clone().capabilities([Capability::SysChroot]);
    assert_eq!(answer(&chroot, "mount"), enosys);
    let both = plain.clone().capabilities([Capability::SysChroot, Capability::SysAdmin]);
    assert_eq!(answer(&both, "mount"), Action::Allow);
    assert_eq!(answer(&plain, "ptrace"), enosys);
    assert_eq!(answer(&plain.clone().kernel(5, 11), "ptrace"), Action::Allow);
    assert_eq!(answer(&plain.clone().kernel(6, 0), "ptrace"), Action::Allow);
    assert_eq!(answer(&plain, "acct"), Action::Errno(97));
    assert_eq!(answer(&plain.clone().capabilities([Capability::SysPacct]), "acct"), enosys);
    assert_eq!(answer(&plain, "bpf"), Action::Allow);
    assert_eq!(answer(&plain.clone().kernel(6, 1), "bpf"), enosys);
    assert_eq!(answer(&plain, "arch_prctl"), Action::Allow);
    // A rule for amd64 holds for the further architectures of an amd64 machine too.
    assert_eq!(decide(&profile, &plain, Arch::X86, "arch_prctl", [0; 6]), Action::Allow);
    assert_eq!(decide(&profile, &plain, Arch::X32, "getpid", [0; 6]), Action::Allow);
    let arm = Target::new(Arch::Aarch64);
    assert_eq!(decide(&profile, &arm, Arch::Aarch64, "bpf", [0; 6]), enosys);
    assert_eq!(decide(&profile, &arm, Arch::Arm, "getpid", [0; 6]), Action::KillProcess);
    assert_eq!(profile.resolve(&plain).unwrap().architectures(), [Arch::X86_64, Arch::X86, Arch::X32]);
    assert_eq!(profile.resolve(&plain).unwrap().warnings(), []);
}

fn target_arch(target: &Target) -> Arch {
    Profile::new(Action::Allow).resolve(target).unwrap().architectures()[0]
}

#[test]
fn actions_and_their_numbers() {
    let actions = [
        (json!({"action": "SCMP_ACT_KILL"}), Action::KillThread),
        (json!({"action": "SCMP_ACT_KILL_THREAD"}), Action::KillThread),
        (json!({"action": "SCMP_ACT_KILL_PROCESS"}), Action::KillProcess),
        (json!({"action": "SCMP_ACT_TRAP"}), Action::Trap),
        (json!({"action": "SCMP_ACT_ERRNO"}), Action::Errno(1)),
        (json!({"action": "SCMP_ACT_ERRNO", "errnoRet": 0}), Action::Errno(0)),
        (json!({"action": "SCMP_ACT_ERRNO", "errno": "EACCES"}), Action::Errno(13)),
        (json!({"action": "SCMP_ACT_ERRNO", "errno": "", "errnoRet": 5}), Action::Errno(5)),
        (json!({"action": "SCMP_ACT_TRACE"}), Action::Trace(1)),
        (json!({"action": "SCMP_ACT_TRACE", "errnoRet": 65535}), Action::Trace(65535)),
        (json!({"action": "SCMP_ACT_LOG"}), Action::Log),
        (json!({"action": "SCMP_ACT_NOTIFY"}), Action::Notify),
    ];
    for (mut rule, action) in actions {
        rule["names"] = json!(["kill"]);
        let profile = read(&json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}));
        assert_eq!(decide(&profile, &Target::new(Arch::Aarch64), Arch::Aarch64, "kill", [0; 6]), action);
    }
}

#[test]
fn what_is_passed_over_is_a_warning() {
    let profile = read(&json!({
        "defaultAction": "SCMP_ACT_ERRNO", "flags": ["SECCOMP_FILTER_FLAG_FAST"],
        "architectures": ["SCMP_ARCH_MIPS", "SCMP_ARCH_NATIVE", "SCMP_ARCH_X86_64", "SCMP_ARCH_X86_64"],
        "syscalls": [
            {"names": ["read", "raed", "socketcall"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["ioctl"], "action": "SCMP_ACT_TRAP", "args": [{"index": 1, "value": 5, "op": "SCMP_CMP_EQ"}]},
            {"names": ["ioctl"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["read"], "action": "SCMP_ACT_TRAP"},
            {"names": ["write"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_FLY"]}},
        ],
    }));
    let rules = profile.resolve(&Target::new(Arch::X86_64)).unwrap();
    let wanted = [
        Warning::UnknownFlag("SECCOMP_FILTER_FLAG_FAST".into()),
        Warning::UnknownArchitecture("SCMP_ARCH_MIPS".into()),
        Warning::UnknownSyscall { rule: 0, name: "raed".into() },
        Warning::UnknownCapability { rule: 4, name: "FLY".into() },
        Warning::Order { rule: 2, syscall: "ioctl".into() },
        Warning::Unreachable { rule: 3, syscall: "read".into() },
    ];
    assert_eq!(rules.warnings(), wanted);
    assert_eq!(rules.compile().unwrap().warnings(), wanted);
    // The first rule that matches decides.
    let answer = |name, value| decide(&profile, &Target::new(Arch::X86_64), Arch::X86_64, name, [0, value, 0, 0, 0, 0]);
    assert_eq!(answer("ioctl", 5), Action::Trap);
    assert_eq!(answer("ioctl", 6), Action::Allow);
    assert_eq!(answer("read", 0), Action::Allow);
    assert_eq!(answer("write", 0), EPERM);
}

#[test]
fn an_argument_compared_twice_is_refused_unless_its_meaning_is_said() {
    let profile = read(
        &json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [
        {"index": 0, "value": 5, "op": "SCMP_CMP_GE"}, {"index": 0, "value": 9, "op": "SCMP_CMP_LE"}]}]}),
    );
    let target = Target::new(Arch::X86_64);
    let error = profile.resolve(&target).unwrap_err();
    assert_eq!((error.kind(), error.rule(), error.field()), (ErrorKind::RepeatedArgument, Some(0), "args/1/index"));
    let problem = "argument 0 is compared twice, which runtimes read as \"and\" or as \"or\"";
    assert_eq!(error.to_string(), format!("cannot use args/1/index of rule 0 of the seccomp profile: {problem}"));
    let answers = |meaning| {
        let profile = profile.clone().repeated_arguments(meaning);
        [4, 5, 9, 10]
            .map(|value| decide(&profile, &target, Arch::X86_64, "socket", [value, 0, 0, 0, 0, 0]) == Action::Allow)
    };
    assert_eq!(answers(RepeatedArguments::All), [false, true, true, false]);
    assert_eq!(answers(RepeatedArguments::Any), [true, true, true, true]);
}

#[test]
fn calls_newer_than_the_profile() {
    let profile = |default: &str| {
        read(&json!({"defaultAction": default, "syscalls": [{"names": ["read", "openat2"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["faccessat2"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["SYS_ADMIN"]}}]}))
    };
    let target = Target::new(Arch::X86_64);
    let errno = profile("SCMP_ACT_ERRNO");
    let answers = |profile: &Profile| {
        ["438", "439", "440", "600", "1073741823", "4294967295"]
            .map(|number| decide(profile, &target, Arch::X86_64, number, [0; 6]))
    };
    let enosys = Action::Errno(38);
    // 439 does not apply to this container, but the profile knows it. -1 is a tracer's way to skip a call.
    assert_eq!(answers(&errno), [EPERM, EPERM, enosys, enosys, enosys, EPERM]);
    assert_eq!(answers(&errno.clone().newer_syscalls(NewerSyscalls::DefaultAction)), [EPERM; 6]);
    assert_eq!(answers(&errno.clone().notify(["epoll_pwait2"]))[2..4], [enosys, enosys]);
    assert_eq!(decide(&errno.notify(["epoll_pwait2"]), &target, Arch::X86_64, "epoll_pwait2", [0; 6]), Action::Notify);
    for (default, action) in [("SCMP_ACT_ALLOW", Action::Allow), ("SCMP_ACT_KILL_PROCESS", Action::KillProcess)] {
        assert_eq!(answers(&profile(default))[2..], [action; 4]);
    }
    let arm = Target::new(Arch::Arm);
    let arm_answers = ["440", "983039", "983040", "983045"]
        .map(|number| decide(&profile("SCMP_ACT_ERRNO"), &arm, Arch::Arm, number, [0; 6]));
    assert_eq!(arm_answers, [enosys, enosys, EPERM, EPERM]);
}

#[test]
fn x32_calls_where_x32_is_not_listed() {
    let answer = |default| {
        let profile = Profile::new(default).allow(["getpid"]);
        decide(&profile, &Target::new(Arch::X86_64), Arch::X32, "getpid", [0; 6])
    };
    assert_eq!(answer(Action::Allow), EPERM);
    assert_eq!(answer(Action::Errno(5)), Action::Errno(5));
    assert_eq!(answer(Action::KillProcess), Action::KillProcess);
    let listed = Profile::new(EPERM).allow(["getpid"]).architectures([Arch::X32]);
    assert_eq!(decide(&listed, &Target::new(Arch::X86_64), Arch::X32, "getpid", [0; 6]), Action::Allow);
}

#[test]
fn rules_of_the_program_come_first() {
    let target = Target::new(Arch::X86_64);
    let profile = Profile::hostile().clone().allow(["mount"]).notify(["mount", "mkdirat"]);
    let answer = |profile: &Profile, name| decide(profile, &target, Arch::X86_64, name, [0; 6]);
    assert_eq!(answer(&profile, "mount"), Action::Notify); // the last one added
    assert_eq!(answer(&profile, "mkdirat"), Action::Notify);
    assert_eq!(answer(&profile, "mkdir"), Action::Allow);
    let error = profile.allow(["mkdri"]).compile(&target).unwrap_err();
    assert_eq!((error.kind(), error.rule(), error.field()), (ErrorKind::UnknownSyscall, None, "mkdri"));
    assert_eq!(
        error.to_string(),
        "cannot add a seccomp rule for mkdri: no architecture has a system call of that name"
    );
    let far = Rule::new(Action::Trap, ["read"]).when(Condition::new(6, Operator::Eq, 0));
    let error = Profile::new(Action::Allow).rule(far).compile(&target).unwrap_err();
    assert_eq!((error.kind(), error.field()), (ErrorKind::Field, "args/0/index"));
    assert_eq!(Profile::new(Action::Notify).compile(&target).unwrap_err().kind(), ErrorKind::Field);
}

#[test]
fn to_oci_and_back_is_the_same_filter() {
    let admin = Target::new(Arch::X86_64).capabilities([Capability::SysAdmin]);
    for target in [Target::new(Arch::X86_64), Target::new(Arch::Aarch64), admin] {
        for profile in [Profile::standard(), Profile::hostile()] {
            let oci = profile.to_oci(&target).unwrap();
            let text = serde_json::to_vec(&oci).unwrap();
            let (once, twice) = (Profile::from_oci(&oci).unwrap(), Profile::from_json(&text).unwrap());
            let wanted = profile.compile(&target).unwrap();
            for again in [once, twice] {
                let again = again.compile(&target).unwrap();
                assert_eq!((again.instructions(), again.flags()), (wanted.instructions(), wanted.flags()));
            }
        }
    }
    let text = json!({"defaultAction": "SCMP_ACT_TRACE", "defaultErrnoRet": 9, "listenerPath": "/run/agent", "listenerMetadata": "m",
        "flags": ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG"], "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["kill"], "action": "SCMP_ACT_NOTIFY", "args": [
            {"index": 1, "value": 9, "op": "SCMP_CMP_NE"}, {"index": 0, "value": 1, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}]}]});
    let oci: LinuxSeccomp = serde_json::from_value(text.clone()).unwrap();
    let profile = Profile::from_oci(&oci).unwrap();
    assert_eq!((profile.listener_path(), profile.listener_metadata()), (Some("/run/agent".as_ref()), Some("m")));
    let written = serde_json::to_value(profile.to_oci(&Target::new(Arch::X86_64)).unwrap()).unwrap();
    assert_eq!(normal(written), normal(text));
}

/// `oci-spec` keeps flags in its own order.
fn normal(mut value: Value) -> Value {
    if let Some(flags) = value["flags"].as_array_mut() {
        flags.sort_by_key(Value::to_string);
    }
    value
}

#[test]
fn wide_arguments_do_not_slip_through() {
    // The kernel looks at 32 bits of a domain and of a request; the register has 64.
    for profile in [Profile::standard(), Profile::hostile()] {
        let target = Target::new(Arch::X86_64);
        let answer = |name, arguments| decide(profile, &target, Arch::X86_64, name, arguments);
        for high in [0, 1 << 32, 1 << 63, u64::MAX << 32] {
            assert_eq!(answer("ioctl", [0, high | 0x5412, 0, 0, 0, 0]), EPERM);
            assert_eq!(answer("socket", [high | 38, 0, 0, 0, 0, 0]), EPERM);
            assert_eq!(answer("clone", [high | 0x1000_0000, 0, 0, 0, 0, 0]), EPERM);
        }
        for domain in 46..1000 {
            assert_eq!(answer("socket", [domain, 0, 0, 0, 0, 0]), EPERM);
        }
    }
}

#[test]
fn the_hostile_profile_knows_four_kinds_of_sockets_and_no_device_nodes() {
    let target = Target::new(Arch::Aarch64).capabilities([Capability::SysAdmin, Capability::Mknod]);
    let answer = |name, arguments| decide(Profile::hostile(), &target, Arch::Aarch64, name, arguments) == Action::Allow;
    let sockets: Vec<u64> = (0..100).filter(|domain| answer("socket", [*domain, 0, 0, 0, 0, 0])).collect();
    assert_eq!(sockets, [1, 2, 10, 16]);
    assert!(!answer("socket", [16, 0, 4, 0, 0, 0])); // NETLINK_SOCK_DIAG
    let kinds = [0, 0o010000, 0o020000, 0o060000, 0o100000, 0o140000]
        .map(|kind| answer("mknodat", [0, 0, kind | 0o644, 0, 0, 0]));
    assert_eq!(kinds, [true, true, false, false, true, true]);
    for name in ["ptrace", "mount", "bpf", "unshare", "setns", "io_uring_setup", "name_to_handle_at", "statmount"] {
        assert!(!answer(name, [0; 6]), "{name}");
    }
}
