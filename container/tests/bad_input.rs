//! What a user gets wrong: each is one line that says what was attempted, on what and why, with a kind to act on.
//!
//! After every row the host is as it was: no file outside changed, nothing left behind.

mod common;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use common::Small;
use keelbox::{Container, Error, ErrorKind, Limits, MIB, Profile, Resource, Stdio};
use keelbox_testkit::{self as testkit, HostCanary, LeakCheck, alone, require};

/// What is wrong, the container, the kind of error, and what its report has to say.
type Row = (&'static str, Container, ErrorKind, &'static [&'static str]);

fn check(what: &str, error: &Error, kind: ErrorKind, words: &[&str]) {
    let report = error.report();
    assert_eq!(error.kind(), kind, "{what}: {report}");
    assert!(!report.contains('\n'), "{what}: more than a line: {report:?}");
    for word in words {
        assert!(report.contains(word), "{what}: {word:?} is not in {report:?}");
    }
}

fn refuse_all(rows: Vec<Row>, canary: &HostCanary) {
    // The launcher and what else stays are started before the first picture.
    let _started = Container::from_rootfs("/").args(["/bin/true"]).status();
    let leaks = LeakCheck::begin();
    for (what, container, kind, words) in rows {
        // `output` captures; `spawn` must refuse the same.
        let error = container.clone().output().expect_err(what);
        check(what, &error, kind, words);
        let error = container.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect_err(what);
        check(what, &error, kind, words);
        canary.assert_unchanged();
    }
    leaks.check();
}

#[test]
fn programs_directories_and_users() -> testkit::Result {
    require!(Root, Program("busybox"));
    alone!();
    let (root, canary) = (common::root()?, HostCanary::new()?.also("/etc/passwd")?);
    let inside = |path: &str| root.path().join(path);
    std::fs::write(inside("data"), "no program\n")?;
    std::fs::write(inside("bin/script"), "#!/no/interpreter\n")?;
    std::fs::write(inside("bin/binary"), b"\x7fELF rubbish")?;
    for program in ["bin/script", "bin/binary"] {
        std::fs::set_permissions(inside(program), std::fs::Permissions::from_mode(0o755))?;
    }
    symlink(canary.path().join("program"), inside("bin/outside"))?;
    symlink("loop", inside("loop"))?;
    let run = |program: &str| Container::from_rootfs(root.path()).args([program]);
    use ErrorKind::{Invalid, NotExecutable, NotFound, ProgramNotFound as NoProgram, UnknownUser};
    let rows: Vec<Row> = vec![
        (
            "no root",
            Container::from_rootfs("/nowhere").args(["sh"]),
            NotFound,
            &["cannot open root file system /nowhere: No such file"],
        ),
        (
            "a file as root",
            Container::from_rootfs("/etc/passwd").args(["sh"]),
            NotFound,
            &["root file system /etc/passwd: Not a directory"],
        ),
        ("no program named", Container::from_rootfs(root.path()), Invalid, &["no program is named to run", "args()"]),
        ("an empty name", run(""), Invalid, &["no program"]),
        ("not in PATH", run("nothing"), NoProgram, &["cannot execute nothing: executable file not found in $PATH"]),
        ("no such path", run("/bin/nothing"), NoProgram, &["cannot execute /bin/nothing: no such file or directory"]),
        ("a link out", run("/bin/outside"), NoProgram, &["cannot execute /bin/outside"]),
        ("not executable", run("/data"), NotExecutable, &["cannot execute /data: permission denied"]),
        ("a directory", run("/etc"), NotExecutable, &["cannot execute /etc: permission denied"]),
        ("no interpreter", run("/bin/script"), NoProgram, &["cannot execute /bin/script", "interpreter"]),
        ("no format", run("/bin/binary"), NotExecutable, &["cannot execute /bin/binary: exec format error"]),
        ("a file as directory", run("/data/sh"), NoProgram, &["cannot execute /data/sh"]),
        (
            "no directory",
            run("sh").current_dir("/missing"),
            NotFound,
            &["/missing", "step ", "No such file or directory"],
        ),
        ("a file to work in", run("sh").current_dir("/data"), NotFound, &["/data", "Not a directory"]),
        ("a loop to work in", run("sh").current_dir("/loop"), ErrorKind::Os(40), &["/loop", "step "]),
        ("relative directory", run("sh").current_dir("srv"), Invalid, &["working directory srv is not absolute"]),
        ("no such user", run("sh").user("nemo"), UnknownUser, &["cannot find the user \"nemo\""]),
        ("no such group", run("sh").user("user:nemo"), UnknownUser, &["\"user:nemo\""]),
        ("a user too large", run("sh").user("4294967295"), UnknownUser, &["4294967295"]),
        ("a user beyond", run("sh").user("4294967296"), UnknownUser, &["4294967296"]),
        ("a number with more", run("sh").user("1x"), UnknownUser, &["\"1x\""]),
        ("a negative user", run("sh").user("-1"), UnknownUser, &["\"-1\""]),
        ("no user at all", run("sh").user(""), UnknownUser, &["\"\""]),
        ("no group at all", run("sh").user("1:"), UnknownUser, &["\"1:\""]),
        ("a space", run("sh").user(" 1"), UnknownUser, &["\" 1\""]),
        ("hexadecimal", run("sh").user("0x1"), UnknownUser, &["\"0x1\""]),
    ];
    refuse_all(rows, &canary);
    Ok(())
}

#[test]
fn settings_that_mean_nothing() -> testkit::Result {
    require!(Root, Program("busybox"));
    alone!();
    let (root, canary) = (common::root()?, HostCanary::new()?);
    let run = || Container::from_rootfs(root.path()).args(["true"]);
    use ErrorKind::Invalid;
    let rows: Vec<Row> = vec![
        ("NUL in an argument", run().args(["echo", "a\0b"]), Invalid, &["an argument holds a NUL byte"]),
        ("NUL in a variable", run().env("A", "a\0b"), Invalid, &["a variable holds a NUL byte"]),
        ("NUL in a directory", run().current_dir("/srv\0/x"), Invalid, &["NUL"]),
        ("NUL in a host name", run().hostname("a\0b"), Invalid, &["host"]),
        ("NUL in a root", Container::from_rootfs("/srv\0x").args(["true"]), Invalid, &["root file system"]),
        ("NUL in a user", run().user("root\0"), ErrorKind::UnknownUser, &["user"]),
        ("NUL in a file's path", run().file("/a\0b", "x"), Invalid, &["NUL"]),
        ("NUL in a mount's target", run().tmpfs("/a\0b", MIB), Invalid, &["NUL"]),
        ("NUL in a mount's source", run().bind("/etc\0/x", "/mnt"), Invalid, &["NUL"]),
        ("NUL in a masked path", run().mask("/a\0b"), Invalid, &["NUL"]),
        ("NUL in a parameter's value", run().sysctl("net.ipv4.ip_forward", "1\0"), Invalid, &["net.ipv4.ip_forward"]),
        ("= in a variable", run().env("A=B", "C"), Invalid, &["\"A=B\"", "no name"]),
        ("a variable without a name", run().env("", "C"), Invalid, &["no name"]),
        ("a long host name", run().hostname("x".repeat(65)), Invalid, &["host name"]),
        ("no such capability", run().capability("CAP_FLY"), Invalid, &["there is no capability \"CAP_FLY\""]),
        ("a filter that is no JSON", run().seccomp("{"), Invalid, &["system call filter"]),
        ("a filter of unknown calls", run().seccomp(r#"{"defaultAction":"SCMP_ACT_FLY"}"#), Invalid, &["SCMP_ACT_FLY"]),
        (
            "no such system call",
            run().on_syscall("mkdri", |_| keelbox::Answer::Continue),
            Invalid,
            &["mkdri", "none of this name"],
        ),
        ("the host's parameter", run().sysctl("kernel.core_pattern", "x"), Invalid, &["kernel.core_pattern"]),
        ("a parameter by path", run().sysctl("net.ipv4/../../kernel/core_pattern", "x"), Invalid, &["core_pattern"]),
        ("a parameter with dots", run().sysctl("net...kernel.core_pattern", "x"), Invalid, &["net...kernel"]),
        ("an empty parameter", run().sysctl("", "x"), Invalid, &["\"\""]),
        (
            "a parameter of a shared namespace",
            run().share(keelbox::Kind::Net).sysctl("net.ipv4.ip_forward", "1"),
            Invalid,
            &["net.ipv4.ip_forward", "none of its own"],
        ),
        (
            "a value that the kernel refuses",
            run().sysctl("net.ipv4.ip_forward", "many"),
            ErrorKind::Os(22),
            &["net/ipv4/ip_forward", "step ", "Invalid argument"],
        ),
    ];
    refuse_all(rows, &canary);
    Ok(())
}

#[test]
fn settings_that_contradict_each_other() -> testkit::Result {
    require!(Root, Program("busybox"));
    alone!();
    let (root, canary) = (common::root()?, HostCanary::new()?);
    let run = || Container::from_rootfs(root.path()).args(["true"]);
    use ErrorKind::Invalid;
    let rows: Vec<Row> = vec![
        ("limits the wrong way round", run().rlimit(Resource::Core, 2, 1), Invalid, &["soft limit 2", "hard limit 1"]),
        (
            "shared and joined",
            run().share(keelbox::Kind::Net).join(keelbox::Kind::Net, "/proc/self/ns/net"),
            Invalid,
            &["net", "both shared"],
        ),
        ("a namespace that is none", run().join(keelbox::Kind::Net, "/etc/passwd"), Invalid, &["/etc/passwd"]),
        (
            "a namespace of another kind",
            run().join(keelbox::Kind::Net, "/proc/self/ns/uts"),
            Invalid,
            &["/proc/self/ns/uts"],
        ),
        (
            "no such namespace",
            run().join(keelbox::Kind::Net, "/proc/self/ns/nothing"),
            ErrorKind::NotFound,
            &["/proc/self/ns/nothing"],
        ),
    ];
    refuse_all(rows, &canary);
    Ok(())
}

#[test]
fn mounts_that_cannot_be() -> testkit::Result {
    require!(Root, Program("busybox"));
    alone!();
    let (root, canary) = (common::root()?, HostCanary::new()?);
    let inside = |path: &str| root.path().join(path);
    symlink(canary.path(), inside("out"))?;
    symlink("../../../../../../../../..".to_owned() + &canary.path().display().to_string(), inside("up"))?;
    symlink("/proc/self/root", inside("magic"))?;
    let run = || Container::from_rootfs(root.path()).args(["true"]);
    use ErrorKind::{Invalid, NotFound};
    let rows: Vec<Row> = vec![
        (
            "no source",
            run().bind("/nowhere/at/all", "/mnt"),
            NotFound,
            &["/nowhere/at/all", "step ", "No such file or directory"],
        ),
        ("a relative target", run().tmpfs("mnt", MIB), Invalid, &["mount target mnt is not absolute"]),
        ("a target with ..", run().tmpfs("/mnt/../../etc", MIB), Invalid, &["/mnt/../../etc"]),
        ("a target twice", run().tmpfs("/mnt", MIB).tmpfs("/mnt", MIB), Invalid, &["/mnt"]),
        ("a relative file", run().file("etc/x", "x"), Invalid, &["etc/x of a file is not absolute"]),
        ("a file over the root", run().file("/", "x"), Invalid, &["/"]),
        ("a relative mask", run().mask("etc"), Invalid, &["etc"]),
        (
            "a file bound to a directory",
            run().bind("/etc/passwd", "/etc"),
            Invalid,
            &["/etc", "step ", "a directory only on a directory"],
        ),
    ];
    refuse_all(rows, &canary);
    // Through links in the root file system nothing outside is reached: it happens inside or not at all.
    for link in ["/out", "/up", "/magic"] {
        let here = |leaf: &str| Path::new(link).join(leaf);
        let rows = [
            run().tmpfs(here("new"), MIB),
            run().tmpfs(here("directory"), MIB),
            run().bind("/etc/passwd", here("file")),
            run().file(here("file"), "changed"),
            run().file(here("new"), "made"),
            run().mask(here("file").display().to_string()),
            run().current_dir(here("directory")).read_only_root(),
        ];
        for container in rows {
            let said = container.output().map(|out| out.status.to_string()).unwrap_or_else(|error| error.report());
            println!("{link}: {said}");
            canary.assert_unchanged();
        }
    }
    Ok(())
}

#[test]
fn limits_that_cannot_be_had() -> testkit::Result {
    require!(Root, Program("busybox"), Cgroup("memory"), Cgroup("pids"), Cgroup("cpu"));
    alone!();
    let (root, canary) = (common::root()?, HostCanary::new()?);
    let run = || Container::from_rootfs(root.path()).args(["true"]);
    use ErrorKind::{Invalid, Limit};
    let mut rows: Vec<Row> = vec![
        ("no memory at all", run().memory(0), Invalid, &["memory"]),
        ("no processor", run().cpus(0.0), Invalid, &["cpu"]),
        ("less than none", run().cpus(-1.0), Invalid, &["cpu"]),
        ("not a number", run().cpus(f64::NAN), Invalid, &["cpu"]),
        ("endless processors", run().cpus(f64::INFINITY), Invalid, &["cpu"]),
        ("no process", run().pids(0), Invalid, &["pids"]),
        ("a weight beyond", run().cpu_weight(10_001), Invalid, &["weight"]),
        ("a file with a slash", run().limits(Limits::new().unified("../memory.max", "1")), Invalid, &["../memory.max"]),
        (
            "a file of version 2",
            run().limits(Limits::new().unified("io.prio.class", "idle")),
            Limit,
            &["io.prio.class"],
        ),
    ];
    let absent = run().limits(Limits::new().cpuset_cpus("1023"));
    let words: &[&str] =
        if testkit::Need::Cgroup("cpuset").missing().is_none() { &["cpuset.cpus", "1023"] } else { &["cpuset"] };
    rows.push(("a processor that is not there", absent, Limit, words));
    refuse_all(rows, &canary);
    let end = run().limits(Limits::new().cpuset_cpus("1023").best_effort()).status()?;
    assert!(end.success(), "{end:?}");
    Ok(())
}

/// Too little memory to execute the program is the container's end, told as such, and never a hang.
#[test]
fn a_limit_too_small_to_live() -> testkit::Result {
    require!(Root, Cgroup("memory"), Cgroup("pids"));
    alone!();
    let root = testkit::probe_root()?;
    let _started = Container::from_rootfs(root.path()).args(["/probe", "true"]).status()?;
    let leaks = LeakCheck::begin();
    for bytes in [4096, 64 * 1024] {
        let ended = Container::from_rootfs(root.path()).args(["/probe", "true"]).memory(bytes).swap(0).status();
        match ended {
            Ok(end) => assert_eq!(end.reason(), keelbox::Reason::OutOfMemory, "{bytes} bytes: {end}"),
            Err(error) => println!("{bytes} bytes: {error:?}"),
        }
    }
    let single = Container::from_rootfs(root.path()).args(["/probe", "true"]).pids(1).status();
    if testkit::Need::CgroupV1("pids").missing().is_none() {
        // The thread that clones is counted until the program runs.
        let error = single.expect_err("one too few");
        check("one process", &error, ErrorKind::Limit, &["pids to 1", "cgroup v1"]);
    } else {
        assert!(single?.success());
    }
    assert!(Container::from_rootfs(root.path()).args(["/probe", "true"]).pids(2).status()?.success());
    leaks.check();
    Ok(())
}

#[test]
fn images_that_are_not_sound() -> testkit::Result {
    require!(Root, Overlay, Program("busybox"));
    alone!();
    let canary = HostCanary::new()?;
    let refused = |source: &str| keelbox::Image::open(source).expect_err(source);
    use keelbox::crates::image_spec::ErrorKind as Kind;
    let small = Small::busybox(r#""Cmd":["true"],"Env":["PATH=/bin"]"#)?;
    let layout = small.layout();
    let name = |suffix: &str| format!("oci:{}{suffix}", layout.display());
    assert_eq!(refused("oci:/nowhere").kind(), Kind::NotFound);
    assert_eq!(refused(&name(":other")).kind(), Kind::NotFound);
    assert!(refused(&name(":other")).to_string().contains("other"));
    assert_ne!(refused("docker-archive:/etc/passwd").kind(), Kind::NotFound);
    assert!(keelbox::Image::open("no such way").is_err());
    // A layer that was changed is noticed when it is unpacked, and nothing of it stays.
    std::fs::create_dir_all(small.store())?;
    assert!(Small::probe("\"Cmd\":[\"/probe\",\"true\"]")?.container()?.store(small.store()).status()?.success());
    let leaks = LeakCheck::builder().files(small.store().join("layers")).begin();
    let layer = small.layer()?;
    let mut bytes = std::fs::read(&layer)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&layer, &bytes)?;
    let error = small.container()?.output().expect_err("a damaged layer");
    check("a damaged layer", &error, ErrorKind::Damaged, &["sha256"]);
    bytes[middle] ^= 1;
    std::fs::write(&layer, &bytes[..middle])?;
    let error = small.container()?.output().expect_err("half a layer");
    check("half a layer", &error, ErrorKind::Damaged, &["sha256"]);
    std::fs::remove_file(&layer)?;
    let error = small
        .container()
        .map_err(Into::into)
        .and_then(|container| container.output().map_err(Box::<dyn std::error::Error>::from));
    assert!(error.is_err());
    leaks.check();
    std::fs::write(&layer, &bytes)?;
    assert!(small.container()?.status()?.success(), "whole again");
    for (config, kind, word) in [
        (r#""Cmd":["true"],"User":"nemo""#, ErrorKind::UnknownUser, "nemo"),
        (r#""Cmd":["true"],"User":"4294967296""#, ErrorKind::Damaged, "4294967296"),
        (r#""Env":["PATH=/bin"]"#, ErrorKind::Invalid, "no program"),
    ] {
        let small = Small::probe(config)?;
        let error = small.container()?.output().expect_err(config);
        check(config, &error, kind, &[word]);
    }
    canary.assert_unchanged();
    Ok(())
}

/// An image's working directory leads out by a link (CVE-2024-21626, podman CVE-2026-55686): made inside, or refused.
#[test]
fn working_directories_that_lead_out() -> testkit::Result {
    require!(Root, Overlay, Program("busybox"));
    alone!();
    let canary = HostCanary::new()?.also("/etc/passwd")?;
    let root = common::root()?;
    symlink(canary.path(), root.path().join("out"))?;
    let mut places: Vec<String> = (3..40).map(|number| format!("/proc/self/fd/{number}")).collect();
    places.extend((3..10).map(|number| format!("/proc/1/fd/{number}")));
    places.extend(["/out/new".into(), "/out/directory".into(), "/proc/self/root/../..".into(), "/proc/1/root".into()]);
    let secret = canary.path().join("secret").display().to_string();
    for place in places {
        // Descriptors of the host's own directories are open all the while.
        let _open = std::fs::File::open("/")?;
        let container = Container::from_rootfs(root.path()).current_dir(&place).args(["/probe", "escape", &secret]);
        match container.output() {
            Ok(out) => assert_eq!(out.text(), "contained\n", "{place}"),
            Err(error) => assert!(error.report().contains("step "), "{place}: {error:?}"),
        }
        let container = Container::from_rootfs(root.path()).args([format!("{place}/usr/bin/id")]);
        let error = container.output().expect_err("no such program inside");
        assert!(matches!(error.kind(), ErrorKind::ProgramNotFound | ErrorKind::NotExecutable), "{error:?}");
        canary.assert_unchanged();
    }
    Ok(())
}

#[test]
fn bundles_that_are_not_valid() -> testkit::Result {
    require!(Root, Program("busybox"));
    alone!();
    let canary = HostCanary::new()?;
    let directory = tempfile::tempdir()?;
    let root = common::root()?;
    let open = |text: Option<&str>| -> testkit::Result<Error> {
        let config = directory.path().join("config.json");
        let _absent = std::fs::remove_file(&config);
        if let Some(text) = text {
            std::fs::write(&config, text.replace("ROOT", &root.path().display().to_string()))?;
        }
        let opened = Container::from_bundle(directory.path()).and_then(Container::output);
        Ok(opened.expect_err("not valid"))
    };
    let leaks = LeakCheck::builder().begin();
    let error = Container::from_bundle("/nowhere").expect_err("no bundle");
    check("no bundle", &error, ErrorKind::NotFound, &["/nowhere"]);
    check("no config", &open(None)?, ErrorKind::NotFound, &["config.json"]);
    for (what, text, words) in [
        ("no JSON", "{", &["config.json"][..]),
        ("no object", "[]", &["config.json"]),
        ("no version", r#"{"root":{"path":"ROOT"},"process":{"cwd":"/","args":["true"]}}"#, &["ociVersion"]),
        (
            "no root",
            r#"{"ociVersion":"1.0.2","process":{"cwd":"/","args":["true"],"user":{"uid":0,"gid":0}}}"#,
            &["root"],
        ),
        (
            "relative cwd",
            r#"{"ociVersion":"1.0.2","root":{"path":"ROOT"},"process":{"cwd":"x","args":["true"],"user":{"uid":0,"gid":0}}}"#,
            &["cwd"],
        ),
        (
            "no args",
            r#"{"ociVersion":"1.0.2","root":{"path":"ROOT"},"process":{"cwd":"/","user":{"uid":0,"gid":0}}}"#,
            &["args"],
        ),
        (
            "a namespace twice",
            r#"{"ociVersion":"1.0.2","root":{"path":"ROOT"},"process":{"cwd":"/","args":["true"],"user":{"uid":0,"gid":0}},
               "linux":{"namespaces":[{"type":"pid"},{"type":"pid"}]}}"#,
            &["pid"],
        ),
    ] {
        check(what, &open(Some(text))?, ErrorKind::Invalid, words);
    }
    let text = r#"{"ociVersion":"1.0.2","root":{"path":"missing"},"process":{"cwd":"/","args":["true"],"user":{"uid":0,"gid":0}}}"#;
    check("a root that is not there", &open(Some(text))?, ErrorKind::Invalid, &["missing", "No such file"]);
    leaks.check();
    canary.assert_unchanged();
    Ok(())
}

/// Standard mounts whose place in the root file system is a symbolic link (CVE-2019-19921, CVE-2023-28642, CVE-2025-54867).
#[test]
fn standard_mounts_on_links() -> testkit::Result {
    require!(Root);
    alone!();
    let canary = HostCanary::new()?;
    let absolute = canary.path().join("directory").display().to_string();
    for place in ["proc", "sys", "dev"] {
        for target in [absolute.as_str(), "../../../../../../..", "/nowhere", place, "tmp"] {
            let root = testkit::probe_root()?;
            std::fs::remove_dir(root.path().join(place))?;
            symlink(target, root.path().join(place))?;
            let secret = canary.path().join("secret").display().to_string();
            let ran = Container::from_rootfs(root.path()).args(["/probe", "escape", &secret]).output();
            match ran {
                Ok(out) => assert_eq!(out.text(), "contained\n", "{place} → {target}"),
                Err(error) => {
                    assert!(error.report().contains(&format!("/{place}")), "{place} → {target}: {error:?}");
                }
            }
            canary.assert_unchanged();
        }
    }
    Ok(())
}

#[test]
fn further_programs_are_checked_too() -> testkit::Result {
    require!(Root, Program("busybox"));
    alone!();
    let root = common::root()?;
    let mut process = Container::from_rootfs(root.path()).args(["/probe", "sleep", "60000"]).spawn()?;
    let leaks = LeakCheck::begin();
    let exec = |args: &[&str]| process.exec(args.iter().copied()).output();
    use ErrorKind::{Invalid, NotExecutable, NotFound, ProgramNotFound as NoProgram, UnknownUser};
    for (what, refused, kind, word) in [
        ("nothing", exec(&[]), Invalid, "no program"),
        ("not in PATH", exec(&["nothing"]), NoProgram, "cannot execute nothing: executable file not found in $PATH"),
        ("a directory", exec(&["/etc"]), NotExecutable, "permission denied"),
        ("a NUL byte", exec(&["echo", "a\0b"]), Invalid, "NUL"),
        ("a NUL byte in a variable", process.exec(["true"]).env("A", "\0").output(), Invalid, "NUL"),
        ("= in a variable", process.exec(["true"]).env("A=B", "C").output(), Invalid, "A=B"),
        ("no user", process.exec(["true"]).user("nemo").output(), UnknownUser, "nemo"),
        ("no directory", process.exec(["true"]).current_dir("/missing").output(), NotFound, "/missing"),
        ("a relative directory", process.exec(["true"]).current_dir("srv").output(), Invalid, "srv"),
        ("a NUL byte in a directory", process.exec(["true"]).current_dir("/srv\0/x").output(), Invalid, "NUL"),
    ] {
        check(what, &refused.expect_err(what), kind, &[word]);
    }
    for place in (3..20).map(|number| format!("/proc/self/fd/{number}")) {
        assert!(process.exec(["true"]).current_dir(&place).output().is_err(), "{place}");
    }
    leaks.check();
    process.kill()?;
    process.wait_timeout(Duration::from_secs(5))?.expect("it is dead");
    let error = process.exec(["true"]).output().expect_err("it has ended");
    check("ended", &error, ErrorKind::State, &["has ended"]);
    Ok(())
}

#[test]
fn runs_of_a_template_are_checked_too() -> testkit::Result {
    require!(Root, Program("busybox"));
    let root = common::root()?;
    let template = Container::from_rootfs(root.path()).args(["true"]).profile(Profile::Ordinary).template()?;
    for (what, refused, kind, word) in [
        ("no program", template.args([""]).status(), ErrorKind::Invalid, "no program"),
        ("not in PATH", template.args(["nothing"]).status(), ErrorKind::ProgramNotFound, "nothing"),
        ("a NUL byte", template.args(["echo", "a\0b"]).status(), ErrorKind::Invalid, "NUL"),
        ("= in a variable", template.args(["true"]).env("A=B", "C").status(), ErrorKind::Invalid, "A=B"),
    ] {
        check(what, &refused.expect_err(what), kind, &[word]);
    }
    Ok(())
}
