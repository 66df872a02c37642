//! The system call filter: actions, operators, flags and architectures as a program inside meets them, and the agent that decides.
//!
//! What only has to be refused is tested in `runtime-spec`, programs of other architectures in `seccomp_kernel.rs` of the library.

use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::JoinHandle;

use keelbox::crates::launch::sys::notify::{Listener, Response};
use keelbox::crates::launch::sys::rights;
use keelbox_testkit::{self as testkit, require};
use serde_json::{Value, json};

use crate::common::{Bench, Ran, is_keelbox};

/// System calls that change nothing: their names and numbers.
const GETPPID: (&str, u64) = ("getppid", if cfg!(target_arch = "x86_64") { 110 } else { 173 });
/// On a descriptor that is none; the second argument has 64 bits.
const LSEEK: (&str, u64) = ("lseek", if cfg!(target_arch = "x86_64") { 8 } else { 62 });
/// One that no shell makes.
const PERSONALITY: (&str, u64) = ("personality", if cfg!(target_arch = "x86_64") { 135 } else { 92 });
const NATIVE: &str = if cfg!(target_arch = "x86_64") { "SCMP_ARCH_X86_64" } else { "SCMP_ARCH_AARCH64" };

fn bench(id: &str) -> testkit::Result<Bench> {
    let bench = Bench::new(id)?;
    let made = testkit::probe_root()?;
    copy(&made.path().join("probe"), &bench.root().join("probe"))?;
    Ok(bench)
}

/// By another program: a file that is open for writing here could not be executed by what a thread beside this one starts.
fn copy(from: &Path, to: &Path) -> testkit::Result {
    let copied = std::process::Command::new("cp").arg(from).arg(to).status()?;
    if copied.success() { Ok(()) } else { Err("cannot copy the probe".into()) }
}

/// A container that makes one system call under this filter, and prints the answer of the kernel.
fn config(bench: &Bench, call: u64, arguments: &[u64], seccomp: Value) -> Value {
    let mut config = bench.config("");
    let words = ["/probe".into(), "syscall".into(), call.to_string()];
    let arguments = arguments.iter().map(ToString::to_string);
    config["process"]["args"] = words.into_iter().chain(arguments).collect::<Vec<String>>().into();
    config["linux"]["seccomp"] = seccomp;
    config
}

/// What the call is answered, if the program lives to tell.
fn answer(bench: &Bench, call: u64, arguments: &[u64], seccomp: Value) -> testkit::Result<(Option<i32>, Option<i64>)> {
    let ran: Ran = bench.run(&config(bench, call, arguments, seccomp))?;
    assert_eq!(ran.stderr, "", "{ran:?}");
    Ok((ran.status, ran.stdout.trim().parse().ok()))
}

fn rule(name: &str, more: Value) -> Value {
    let mut rule = json!({ "names": [name] });
    for (key, value) in more.as_object().into_iter().flatten() {
        rule[key] = value.clone();
    }
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": [NATIVE], "syscalls": [rule] })
}

#[test]
fn rs_090_the_default_holds_for_what_no_rule_names() -> testkit::Result {
    require!(Root, Program("busybox"), Seccomp);
    let bench = bench("rs-090")?;
    let allowed = ["execve", "exit", "exit_group", "write", "brk", "mmap", "arch_prctl", "set_tid_address"];
    // Everything that is done between the filter and the program of another runtime is allowed to that.
    let more =
        ["read", "close", "futex", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "fcntl", "openat"];
    let more = more.iter().filter(|_| !is_keelbox()).chain(&allowed).collect::<Vec<_>>();
    let filter = json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 99, "architectures": [NATIVE],
        "syscalls": [{ "names": more, "action": "SCMP_ACT_ALLOW" }],
    });
    let mut config = config(&bench, GETPPID.1, &[], filter);
    config["process"]["noNewPrivileges"] = true.into();
    let ran = bench.run(&config)?;
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(0), "-99\n"), "{ran:?}");
    Ok(())
}

#[test]
fn rs_091_each_action_does_what_it_says() -> testkit::Result {
    require!(Root, Program("busybox"), Seccomp);
    let bench = bench("rs-091")?;
    const KILLED: (Option<i32>, Option<i64>) = (Some(128 + 31), None);
    let cases = [
        ("SCMP_ACT_KILL", KILLED),
        ("SCMP_ACT_KILL_PROCESS", KILLED),
        ("SCMP_ACT_KILL_THREAD", KILLED),
        ("SCMP_ACT_TRAP", KILLED),
        ("SCMP_ACT_ERRNO", (Some(0), Some(-1))),
        // Without a tracer there is no such call.
        ("SCMP_ACT_TRACE", (Some(0), Some(-38))),
        ("SCMP_ACT_LOG", (Some(0), Some(0))),
        ("SCMP_ACT_ALLOW", (Some(0), Some(0))),
    ];
    for (action, expected) in cases {
        let found = answer(&bench, GETPPID.1, &[], rule(GETPPID.0, json!({ "action": action })))?;
        assert_eq!(found, expected, "{action}");
    }
    Ok(())
}

#[test]
fn rs_092_the_number_of_the_error() -> testkit::Result {
    require!(Root, Program("busybox"), Seccomp);
    let bench = bench("rs-092")?;
    for (number, expected) in [(None, -1), (Some(0), 0), (Some(2), -2), (Some(99), -99), (Some(4095), -4095)] {
        let mut more = json!({ "action": "SCMP_ACT_ERRNO" });
        if let Some(number) = number {
            more["errnoRet"] = json!(number);
        }
        assert_eq!(answer(&bench, GETPPID.1, &[], rule(GETPPID.0, more))?.1, Some(expected), "{number:?}");
    }
    let wrong = rule(GETPPID.0, json!({ "action": "SCMP_ACT_ALLOW", "errnoRet": 1 }));
    let ran = bench.run(&config(&bench, GETPPID.1, &[], wrong))?;
    assert!(ran.status != Some(0) && ran.stdout.is_empty(), "{ran:?}");
    Ok(())
}

#[test]
fn rs_093_architectures() -> testkit::Result {
    require!(Root, Program("busybox"), Seccomp);
    let bench = bench("rs-093")?;
    let all = [
        "X86",
        "X86_64",
        "X32",
        "ARM",
        "AARCH64",
        "MIPS",
        "MIPS64",
        "MIPS64N32",
        "MIPSEL",
        "MIPSEL64",
        "MIPSEL64N32",
        "PPC",
        "PPC64",
        "PPC64LE",
        "S390",
        "S390X",
        "PARISC",
        "PARISC64",
        "RISCV64",
        "LOONGARCH64",
        "M68K",
        "SH",
        "SHEB",
    ];
    let names: Vec<String> = all.iter().map(|name| format!("SCMP_ARCH_{name}")).collect();
    let mut filter = rule(GETPPID.0, json!({ "action": "SCMP_ACT_ERRNO", "errnoRet": 99 }));
    if is_keelbox() {
        filter["architectures"] = json!(names);
        assert_eq!(answer(&bench, GETPPID.1, &[], filter.clone())?, (Some(0), Some(-99)));
    }
    filter["architectures"] = json!(["SCMP_ARCH_Z80"]);
    assert_ne!(bench.run(&config(&bench, GETPPID.1, &[], filter.clone()))?.status, Some(0));
    // The same call by the numbers of another architecture is not a way around.
    filter["architectures"] = json!([NATIVE]);
    if cfg!(target_arch = "x86_64") {
        let (status, found) = answer(&bench, 0x4000_0000 + GETPPID.1, &[], filter)?;
        assert!(status != Some(0) || found.is_some_and(|found| found < 0), "{status:?} {found:?}");
    }
    Ok(())
}

#[test]
fn rs_094_flags() -> testkit::Result {
    require!(Root, Program("busybox"), Seccomp);
    let bench = bench("rs-094")?;
    for flags in [
        json!([]),
        json!(["SECCOMP_FILTER_FLAG_TSYNC"]),
        json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]),
    ] {
        let mut filter = rule(GETPPID.0, json!({ "action": "SCMP_ACT_ERRNO", "errnoRet": 99 }));
        filter["flags"] = flags.clone();
        assert_eq!(answer(&bench, GETPPID.1, &[], filter)?, (Some(0), Some(-99)), "{flags}");
    }
    let mut filter = rule(GETPPID.0, json!({ "action": "SCMP_ACT_ERRNO" }));
    filter["flags"] = json!(["SECCOMP_FILTER_FLAG_NO_SUCH"]);
    assert_ne!(bench.run(&config(&bench, GETPPID.1, &[], filter))?.status, Some(0));
    Ok(())
}

/// The value of a rule, its second one, the operator, and for each argument whether it matches.
type Comparison<'a> = (u64, u64, &'a str, &'a [(u64, bool)]);

#[test]
fn rs_095_operators_compare_all_64_bits() -> testkit::Result {
    require!(Root, Program("busybox"), Seccomp);
    let bench = bench("rs-095")?;
    const BASE: u64 = 0x1_0000_0005;
    let cases: [Comparison<'_>; 7] = [
        (BASE, 0, "NE", &[(BASE, false), (5, true), (BASE + 1, true)]),
        (BASE, 0, "LT", &[(BASE, false), (5, true), (0x2_0000_0000, false)]),
        (BASE, 0, "LE", &[(BASE, true), (BASE + 1, false), (0x2_0000_0000, false), (6, true)]),
        (BASE, 0, "EQ", &[(BASE, true), (5, false), (0x1_0000_0006, false)]),
        (BASE, 0, "GE", &[(BASE, true), (BASE - 1, false), (0x2_0000_0000, true), (9, false)]),
        (BASE, 0, "GT", &[(BASE, false), (BASE + 1, true), (0x2_0000_0000, true), (9, false)]),
        (0xf_0000_000f, BASE, "MASKED_EQ", &[(BASE, true), (BASE | 0xf0, true), (5, false), (BASE | 2, false)]),
    ];
    for (value, second, operator, arguments) in cases {
        let mut args = json!([{ "index": 1, "value": value, "op": format!("SCMP_CMP_{operator}") }]);
        if second != 0 {
            args[0]["valueTwo"] = json!(second);
        }
        let filter = rule(LSEEK.0, json!({ "action": "SCMP_ACT_ERRNO", "errnoRet": 99, "args": args }));
        for (argument, matches) in arguments {
            let expected = if *matches { -99 } else { -9 };
            let found = answer(&bench, LSEEK.1, &[999, *argument, 0], filter.clone())?.1;
            assert_eq!(found, Some(expected), "{argument:#x} {operator} {value:#x} {second:#x}");
        }
    }
    // Several conditions of one rule must all hold.
    let condition = |index: u32, value: u64| json!({ "index": index, "value": value, "op": "SCMP_CMP_EQ" });
    let args = json!([condition(1, 7), condition(2, 1)]);
    let filter = rule(LSEEK.0, json!({ "action": "SCMP_ACT_ERRNO", "errnoRet": 99, "args": args }));
    assert_eq!(answer(&bench, LSEEK.1, &[999, 7, 1], filter.clone())?.1, Some(-99));
    assert_eq!(answer(&bench, LSEEK.1, &[999, 7, 0], filter)?.1, Some(-9));
    Ok(())
}

/// What an agent was told over one connection, with the listener that came along.
struct Told {
    message: Value,
    descriptors: usize,
    answered: u64,
}

/// An agent that takes one connection, and answers one system call with a number.
fn agent(
    socket: &UnixListener,
    number: i64,
) -> testkit::Result<JoinHandle<Result<Told, Box<dyn std::error::Error + Send + Sync>>>> {
    let socket = socket.try_clone()?;
    Ok(std::thread::spawn(move || {
        let (mut stream, _) = socket.accept()?;
        let mut bytes = vec![0; 65536];
        let (length, descriptors) = rights::receive(stream.as_fd(), &mut bytes)?;
        bytes.truncate(length);
        // The connection is for this message alone, and is closed behind it.
        stream.read_to_end(&mut bytes)?;
        let count = descriptors.len();
        let listener = Listener::new(descriptors.into_iter().next().ok_or("no descriptor came")?)?;
        let asked = listener.receive()?;
        listener.respond(asked.id, Response::Value(number))?;
        Ok(Told { message: serde_json::from_slice(&bytes)?, descriptors: count, answered: u64::from(asked.pid) })
    }))
}

#[test]
fn rs_091_096_097_an_agent_decides() -> testkit::Result {
    require!(Root, Program("busybox"), Seccomp);
    let bench = bench("rs-096")?;
    let path = bench.path("agent");
    let socket = UnixListener::bind(&path)?;
    let mut filter = rule(PERSONALITY.0, json!({ "action": "SCMP_ACT_NOTIFY" }));
    (filter["listenerPath"], filter["listenerMetadata"]) = (json!(path), json!("opaque {}"));
    let mut config = config(&bench, PERSONALITY.1, &[], filter);
    config["annotations"] = json!({ "org.example.key": "v" });
    config["process"]["args"] = json!(["sh", "-c", format!("/probe syscall {}; exec sleep 600", PERSONALITY.1)]);
    let bundle = bench.bundle("bundle", &config)?;
    let log = bench.path("log");
    let first = agent(&socket, 77)?;
    let create = bench.command(&["create", "-b", &bundle, "rs-096"]).stdout(fs::File::create(&log)?).status()?;
    assert!(create.success());
    let pid = bench.state()?["pid"].clone();
    bench.done(&["start", "rs-096"])?;
    let told = first.join().map_err(|_| "the agent failed")?.map_err(|error| error.to_string())?;
    crate::common::wait_for(|| Ok(fs::read_to_string(&log)? == "77\n"))?;
    assert_eq!((told.descriptors, &told.message["fds"]), (1, &json!(["seccompFd"])));
    assert_eq!((&told.message["pid"], &told.message["metadata"]), (&pid, &json!("opaque {}")));
    assert!(told.message["ociVersion"].is_string() && told.answered > 0);
    let state = &told.message["state"];
    assert_eq!((&state["id"], &state["bundle"]), (&json!("rs-096"), &json!(bundle)));
    assert_eq!(state["annotations"]["org.example.key"], "v");

    // A further program has a listener of its own, over a connection of its own.
    let second = agent(&socket, 78)?;
    assert_eq!(bench.done(&["exec", "rs-096", "/probe", "syscall", &PERSONALITY.1.to_string()])?, "78\n");
    let told = second.join().map_err(|_| "the agent failed")?.map_err(|error| error.to_string())?;
    assert_ne!(told.message["pid"], pid);
    assert_eq!(told.message["state"]["id"], "rs-096");
    if is_keelbox() {
        assert_eq!(told.message["state"]["status"], "running");
    }
    Ok(())
}

#[test]
fn rs_096_without_its_agent_nothing_runs_and_without_need_none_is_asked() -> testkit::Result {
    require!(Root, Program("busybox"), Seccomp);
    let bench = bench("rs-096-none")?;
    let mut filter = rule(GETPPID.0, json!({ "action": "SCMP_ACT_NOTIFY" }));
    filter["listenerPath"] = json!(bench.path("nobody"));
    let mut asked = config(&bench, GETPPID.1, &[], filter);
    asked["process"]["args"] = json!(["/probe", "syscall", GETPPID.1.to_string()]);
    let ran = bench.run(&asked)?;
    assert!(ran.status != Some(0) && ran.stdout.is_empty(), "{ran:?}");
    if is_keelbox() {
        ran.failed_with("cannot hand the listener of the system call filter to");
        assert_eq!(bench.done(&["list", "-q"])?, "");
    }
    let mut filter = rule(GETPPID.0, json!({ "action": "SCMP_ACT_ERRNO", "errnoRet": 99 }));
    filter["listenerPath"] = json!(bench.path("nobody"));
    assert_eq!(answer(&bench, GETPPID.1, &[], filter.clone())?.1, Some(-99));
    let mut filter = rule(GETPPID.0, json!({ "action": "SCMP_ACT_ERRNO" }));
    filter["listenerMetadata"] = json!("m");
    if is_keelbox() {
        assert_ne!(bench.run(&config(&bench, GETPPID.1, &[], filter))?.status, Some(0));
    }
    Ok(())
}

#[test]
fn rs_098_the_filter_comes_last() -> testkit::Result {
    require!(Root, Program("busybox"), Seccomp);
    let bench = bench("rs-098")?;
    // What the set-up needs is forbidden to the program. Without noNewPrivileges a filter needs CAP_SYS_ADMIN, so that it comes
    // before the ids and capabilities of the program.
    let names = ["mount", "pivot_root", "sethostname", "umount2", "unshare", GETPPID.0];
    let late = ["setresuid", "setresgid", "setgroups", "capset"];
    for no_new_privileges in [false, true] {
        let names: Vec<_> = names.iter().chain(late.iter().filter(|_| no_new_privileges)).collect();
        let mut filter = rule(GETPPID.0, json!({ "action": "SCMP_ACT_ERRNO", "errnoRet": 99 }));
        filter["syscalls"][0]["names"] = json!(names);
        let mut config = config(&bench, GETPPID.1, &[], filter);
        config["process"]["user"] = json!({ "uid": 1000, "gid": 1000, "additionalGids": [5] });
        config["process"]["noNewPrivileges"] = no_new_privileges.into();
        config["process"]["capabilities"] = json!({ "bounding": [], "effective": [], "permitted": [] });
        let ran = bench.run(&config)?;
        assert_eq!((ran.status, ran.stdout.as_str()), (Some(0), "-99\n"), "{no_new_privileges}: {ran:?}");
    }
    Ok(())
}
