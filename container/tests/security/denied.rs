//! What happens where the kernel, or a sandbox around the host program, refuses calls: ways around that keep every property, or a
//! typed error. And the calls that secure a container, each of which must succeed.
//!
//! A filter stays with a process for ever, so each row is a process of its own: this program again, which installs the filter before
//! it starts anything.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;

use keelbox::crates::launch::{Step, perform};
use keelbox::seccomp::{Profile as Filters, Target};
use keelbox::{Container, Error, ErrorKind, Kind, MIB, Output, Profile, Runtime, Stdio, Terminal};
use keelbox_testkit::{self as testkit, probe_root, require};
use serde_json::{Value, json};

use crate::common::{Small, value};
use crate::support::Watch;

const DENIED: &str = "KEELBOX_TEST_DENIED";
const ENOSYS: i32 = 38;
const EPERM: i32 = 1;
const EINVAL: i32 = 22;

/// Starts this program again for the test `name`, with these calls answered by an error number; returns what it reported, a line each.
fn again(name: &str, calls: &Value, errno: i32) -> testkit::Result<Vec<String>> {
    let mut rules = calls.clone();
    for rule in rules.as_array_mut().ok_or("a list")? {
        rule["action"] = "SCMP_ACT_ERRNO".into();
        rule["errnoRet"] = errno.into();
    }
    let filter = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules });
    let report = tempfile::NamedTempFile::new()?;
    // Who is denied statx(2) cannot remove what it made: that goes with this directory.
    let place = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755)).tempdir()?;
    let out = Command::new(std::env::current_exe()?)
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(DENIED, filter.to_string())
        .env("KEELBOX_TEST_REPORT", report.path())
        .env("TMPDIR", place.path())
        .env("KEELBOX_TEST_ALONE", name)
        .output()?;
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success() && said.contains("1 passed"), "{calls} answered {errno}: {said}");
    Ok(std::fs::read_to_string(report.path())?.lines().map(str::to_owned).collect())
}

/// In the process that [`again`] started: installs the filter, which all that is started from here on inherits.
fn confine() -> testkit::Result<bool> {
    let Ok(text) = std::env::var(DENIED) else { return Ok(false) };
    let filter = Filters::from_json(text.as_bytes())?.compile(&Target::host()?)?.bytes();
    perform(&[Step::Seccomp { flags: 0, filter }]).map_err(|failure| format!("no filter: {:?}", failure.errno))?;
    Ok(true)
}

fn report(line: &str) -> testkit::Result {
    use std::io::Write as _;
    let file = std::env::var_os("KEELBOX_TEST_REPORT").ok_or("nobody wants to know")?;
    Ok(writeln!(File::options().append(true).open(file)?, "{line}")?)
}

/// A typed error that says what was attempted; anything else is no refusal.
fn refused(what: &str, error: &Error) {
    let report = error.report();
    assert!(error.kind() != ErrorKind::Other && !report.contains('\n') && report.len() > 10, "{what}: {error:?}");
}

/// What is made before anything is denied: the host's own programs may not be startable after that.
struct Made {
    root: tempfile::TempDir,
    small: Small,
}

impl Made {
    fn new() -> testkit::Result<Self> {
        Ok(Self { root: probe_root()?, small: Small::probe(r#""Cmd":["/probe"]"#)? })
    }

    fn run(&self, args: &[&str]) -> Container {
        Container::from_rootfs(self.root.path()).args(args.iter().copied())
    }
}

type Case = (&'static str, fn(&Watch, &Made) -> keelbox::Result<()>);

fn confined(watch: &Watch, out: &Output) {
    watch.unchanged();
    assert_eq!(out.text(), "contained\n", "{out:?}");
}

fn privileges(out: &Output, effective: &str) {
    let text = out.text();
    for (key, expected) in [
        ("CapEff:", effective),
        ("CapInh:", "0000000000000000"),
        ("CapAmb:", "0000000000000000"),
        ("NoNewPrivs:", "1"),
        ("Seccomp_filters:", "2"),
    ] {
        assert_eq!(value(&text, key), expected, "{key} {text}");
    }
}

fn numbers(out: &Output) {
    let text = out.text();
    let numbers: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(numbers, ["0", "1", "2"], "{text}");
}

/// What a container is for, each with a look at a property that a way around could lose.
const CASES: [Case; 12] = [
    ("run", |watch, made| {
        let run = made.run(&["/probe", "escape", &watch.secret()]);
        run.output().map(|out| confined(watch, &out))
    }),
    ("privileges", |_, made| {
        let run = made.run(&["/probe", "cat", "/proc/self/status"]);
        run.output().map(|out| privileges(&out, "00000000000405fb"))
    }),
    ("descriptors", |_, made| {
        let directory = File::open("/").expect("a directory");
        let _open: Vec<_> = (0..20).map(|_| nix::unistd::dup(directory.as_fd())).collect();
        let run = made.run(&["/probe", "fds"]);
        run.output().map(|out| numbers(&out))
    }),
    ("hidden files", |_, made| {
        let run = made.run(&["/probe", "cat", "/proc/keys"]);
        run.clone()
            .output()
            .map(|out| assert_eq!((out.text().as_ref(), out.status.success()), ("", true), "{out:?}"))?;
        let out = run.args(["/probe", "write", "/proc/sys/kernel/hostname", "x"]).output()?;
        assert!(String::from_utf8_lossy(&out.stderr).contains("errno 30"), "{out:?}");
        Ok(())
    }),
    ("hostile", |watch, made| {
        let run = made.run(&["/probe", "cat", "/proc/self/status"]);
        let run = run.profile(Profile::Hostile);
        run.clone().output().map(|out| privileges(&out, "0000000000000000"))?;
        let out = run.clone().args(["/probe", "write", "/new", "x"]).output()?;
        assert!(String::from_utf8_lossy(&out.stderr).contains("errno 30"), "{out:?}");
        run.args(["/probe", "escape", &watch.secret()]).output().map(|out| confined(watch, &out))
    }),
    ("exec", |watch, made| {
        let run = made.run(&["/probe", "sleep", "60000"]);
        let process = run.stdin(Stdio::null()).spawn()?;
        process.exec(["/probe", "fds"]).output().map(|out| numbers(&out))?;
        process
            .exec(["/probe", "cat", "/proc/self/status"])
            .output()
            .map(|out| privileges(&out, "00000000000405fb"))?;
        process.exec(["/probe", "escape", &watch.secret()]).output().map(|out| confined(watch, &out))
    }),
    ("an image", |watch, made| {
        let container = made.small.container().expect("it can be opened").args(["/probe", "escape", &watch.secret()]);
        container.output().map(|out| confined(watch, &out))
    }),
    ("a template", |watch, made| {
        let run = made.run(&["/probe", "escape", &watch.secret()]);
        run.template()?.run().output().map(|out| confined(watch, &out))
    }),
    ("a terminal", |_, made| {
        let run = made.run(&["/probe", "tty"]);
        let mut process = run.terminal(Terminal::size(7, 9)).spawn()?;
        let mut text = String::new();
        std::io::Read::read_to_string(&mut process.terminal().expect("a terminal"), &mut text).expect("it ends");
        assert_eq!(text.trim(), "7 9");
        process.wait().map(drop)
    }),
    ("limits", |_, made| {
        let run = made.run(&["/probe", "forkbomb", "100"]);
        let out = run.pids(8).memory(64 * MIB).output()?;
        assert_eq!(value(&out.text(), "forked"), "7", "{out:?}");
        Ok(())
    }),
    ("a name", |watch, made| {
        let run = made.run(&["/probe", "sleep", "60000"]);
        let states = tempfile::tempdir().expect("a directory can be made");
        let runtime = Runtime::at(states.path().join("states"));
        let handle = runtime.create(&run.stdin(Stdio::null()).build()?, "a")?;
        let used = handle.start().and_then(|()| handle.exec(["/probe", "escape", &watch.secret()]).output());
        handle.delete_force()?;
        used.map(|out| confined(watch, &out))
    }),
    ("a user namespace, files and parameters", |_, made| {
        let run = made.run(&["/probe", "cat", "/etc/injected"]);
        let run = run.unshare(Kind::User).file("/etc/injected", "injected").sysctl("net.ipv4.ip_forward", "1");
        let out = run.output()?;
        assert_eq!(out.text(), "injected", "{out:?}");
        Ok(())
    }),
];

/// Rows of the matrix: what is denied, and whether there is another way with either answer (`ENOSYS`, `EPERM`).
fn masks() -> Vec<(&'static [&'static str], bool, bool)> {
    vec![
        (&["openat2"], true, true),
        (&["openat2", "statx"], false, false),
        (&["mount_setattr"], true, false),
        // Refused with EPERM, the C library of the host makes no thread either.
        (&["clone3"], true, false),
        (&["close_range"], true, true),
        (&["memfd_create"], true, true),
        (&["openat2", "close_range", "clone3", "memfd_create"], true, false),
        (&["fsopen", "fsconfig", "fsmount"], false, false),
        (&["open_tree", "move_mount"], false, false),
        (&["pidfd_open"], false, false),
        // Not pidfd_send_signal(2): who is denied it can end nothing, and every test of that waits for programs to end by themselves.
        (&["landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"], true, true),
    ]
}

/// Section B, practice 1: every case under every mask, with the answer of an old kernel and with that of an old filter.
#[test]
fn b_1_features_that_are_denied() -> testkit::Result {
    require!(Root, Seccomp, Overlay, Tty, Cgroup("pids"), Cgroup("memory"));
    const NAME: &str = "denied::b_1_features_that_are_denied";
    let made = Made::new()?;
    if confine()? {
        let watch = match Watch::warmed_by(made.root.path(), &[]) {
            Ok(watch) => watch,
            // Nothing at all can be started here.
            Err(error) => {
                refused("anything", &error);
                return report(&format!("nothing: {error:?}"));
            }
        };
        for (name, case) in CASES {
            match case(&watch, &made) {
                Ok(()) => report(&format!("works: {name}"))?,
                Err(error) => {
                    refused(name, &error);
                    watch.unchanged();
                    report(&format!("refused: {name}: {error:?}"))?;
                }
            }
        }
        watch.end();
        return Ok(());
    }
    for (calls, without, filtered) in masks() {
        for (errno, works) in [(ENOSYS, without), (EPERM, filtered)] {
            let lines = again(NAME, &json!([{ "names": calls }]), errno)?;
            // A group of version 2 is entered by the clone itself, which only clone3(2) can.
            let grouped = ["refused: limits: ", "refused: hostile: ", "refused: a name: "];
            let excused = |line: &str| calls.contains(&"clone3") && grouped.iter().any(|words| line.starts_with(words));
            let bad: Vec<_> = lines.iter().filter(|line| !line.starts_with("works: ") && !excused(line)).collect();
            assert!(!works || bad.is_empty(), "{calls:?} answered {errno}: {bad:#?}");
            if std::env::var_os("KEELBOX_SOAK").is_some() {
                use std::io::Write as _;
                writeln!(std::io::stderr(), "{calls:?} answered {errno}: {bad:#?}")?;
            }
        }
    }
    Ok(())
}

/// A1.21, the calls that secure a container: whichever of them is refused, in whichever way, nothing starts.
#[test]
fn a1_20_a1_21_security_calls_are_mandatory() -> testkit::Result {
    require!(Root, Seccomp);
    const NAME: &str = "denied::a1_20_a1_21_security_calls_are_mandatory";
    let root = probe_root()?;
    if confine()? {
        let run = Container::from_rootfs(root.path()).user("1000:1000").capability("chown").args(["/probe", "true"]);
        let variants = [
            ("ordinary", run.clone()),
            ("hostile", run.clone().profile(Profile::Hostile)),
            ("user namespace", run.unshare(Kind::User)),
        ];
        for (what, container) in variants {
            match container.output() {
                Ok(out) => report(&format!("started: {what}: {out:?}"))?,
                Err(error) => {
                    refused(what, &error);
                    assert!(error.report().contains("step "), "{error:?}");
                    report(&format!("refused: {what}"))?;
                }
            }
        }
        return Ok(());
    }
    let prctl =
        |option: u64| json!([{ "names": ["prctl"], "args": [{ "index": 0, "value": option, "op": "SCMP_CMP_EQ" }] }]);
    let plain = |name: &str| json!([{ "names": [name] }]);
    let rows = [
        ("PR_SET_NO_NEW_PRIVS", prctl(38)),
        ("PR_CAPBSET_DROP", prctl(24)),
        ("PR_CAP_AMBIENT", prctl(47)),
        ("PR_SET_KEEPCAPS", prctl(8)),
        ("PR_SET_DUMPABLE", prctl(4)),
        ("PR_SET_PDEATHSIG", prctl(1)),
        ("capset", plain("capset")),
        ("setgroups", plain("setgroups")),
        ("setresuid", plain("setresuid")),
        ("setresgid", plain("setresgid")),
        ("seccomp", plain("seccomp")),
        ("pivot_root", plain("pivot_root")),
        ("umount2", plain("umount2")),
        ("setsid", plain("setsid")),
        ("fchdir", plain("fchdir")),
        ("move_mount", plain("move_mount")),
    ];
    for (what, calls) in rows {
        for errno in [EPERM, EINVAL, ENOSYS] {
            let lines = again(NAME, &calls, errno)?;
            assert_eq!(
                lines,
                ["refused: ordinary", "refused: hostile", "refused: user namespace"],
                "{what} answered {errno}"
            );
        }
    }
    // Without a refusal all three start, so the rows above say something.
    let lines = again(NAME, &plain("acct"), EPERM)?;
    assert!(lines.len() == 3 && lines.iter().all(|line| line.starts_with("started: ")), "{lines:?}");
    Ok(())
}

/// A8.10: a host that may make no namespaces is told what it lacks, by name.
#[test]
fn a8_10_a_host_in_a_sandbox_learns_what_it_lacks() -> testkit::Result {
    require!(OrdinaryUser, Seccomp, UserNamespace);
    testkit::as_user!();
    const NAME: &str = "denied::a8_10_a_host_in_a_sandbox_learns_what_it_lacks";
    let root = probe_root()?;
    if std::env::var_os(DENIED).is_some() {
        let text = std::env::var(DENIED)?;
        let filter = Filters::from_json(text.as_bytes())?.compile(&Target::host()?)?.bytes();
        perform(&[Step::NoNewPrivileges {}, Step::Seccomp { flags: 0, filter }])
            .map_err(|failure| format!("no filter: {:?}", failure.errno))?;
        let error = Container::from_rootfs(root.path()).args(["/probe", "true"]).output().expect_err("no namespaces");
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
        return report(&error.report());
    }
    let flags = json!([{ "index": 0, "value": 0x1000_0000, "valueTwo": 0x1000_0000, "op": "SCMP_CMP_MASKED_EQ" }]);
    let calls = json!([{ "names": ["clone", "unshare"], "args": flags }, { "names": ["clone3"] }]);
    let lines = again(NAME, &calls, EPERM)?;
    assert!(lines.len() == 1 && lines[0].contains("namespace") && lines[0].contains('('), "a hint: {lines:?}");
    Ok(())
}

/// The helper of these tests does deny: what it denies is refused here as well.
#[test]
fn a_filter_of_these_tests_denies() -> testkit::Result {
    require!(Root, Seccomp);
    const NAME: &str = "denied::a_filter_of_these_tests_denies";
    if confine()? {
        let refused = nix::unistd::acct::disable().expect_err("it is denied");
        return report(&refused.to_string());
    }
    assert_eq!(again(NAME, &json!([{ "names": ["acct"] }]), EINVAL)?, ["EINVAL: Invalid argument"]);
    Ok(())
}
