//! Nothing stays behind: after every kind of end, no process, zombie, control group, mount, descriptor, thread or file.

mod common;

use std::io::Read;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use common::Small;
use keelbox::{Container, MIB, Profile, Reason, Signal, Stdio, Terminal};
use keelbox_testkit::{self as testkit, LeakCheck, alone, require};

/// Starts what the library starts once and keeps, then watches.
fn watched(container: impl Fn() -> Container) -> LeakCheck {
    // A container with limits is cloned by a thread of its own, one without by a thread that stays.
    let _warm = container().args(["/probe", "true"]).pids(8).status().expect("the probe runs");
    let _warm = container().args(["/probe", "true"]).limits(keelbox::Limits::new()).status().expect("the probe runs");
    let temporary = std::env::temp_dir();
    // Only what our tests call so, since other programs use the directory too.
    let ours = temporary.join(format!("keelbox-{}", std::process::id()));
    LeakCheck::builder().files(ours).begin()
}

/// A container that is made anew, with these arguments.
type Make<'a> = &'a dyn Fn(&[&str]) -> Container;

/// A way to end.
type End = fn(Make<'_>) -> testkit::Result;

const SLEEP: [&str; 3] = ["/probe", "sleep", "60000"];

fn exit(run: Make<'_>) -> testkit::Result {
    assert_eq!(run(&["/probe", "exit", "3"]).status()?.code(), Some(3));
    assert!(run(&["/probe", "true"]).output()?.status.success());
    Ok(())
}

fn signal(run: Make<'_>) -> testkit::Result {
    let mut process = run(&SLEEP).spawn()?;
    process.signal(Signal::KILL)?;
    assert_eq!(process.wait()?.reason(), Reason::Signaled(Signal::KILL));
    Ok(())
}

fn time_limit(run: Make<'_>) -> testkit::Result {
    let end = run(&SLEEP).time_limit(Duration::from_millis(50)).status()?;
    assert_eq!(end.reason(), Reason::TimeLimit);
    Ok(())
}

fn drops(run: Make<'_>) -> testkit::Result {
    drop(run(&SLEEP).spawn()?);
    drop(run(&["/probe", "orphan", "60000"]).spawn()?);
    Ok(())
}

fn children_that_go_on(run: Make<'_>) -> testkit::Result {
    assert!(run(&["/probe", "orphan", "60000"]).status()?.success());
    Ok(())
}

fn panic(run: Make<'_>) -> testkit::Result {
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _process = run(&SLEEP).spawn().expect("it starts");
        std::panic::resume_unwind(Box::new("on purpose"));
    }));
    assert!(panicked.is_err());
    Ok(())
}

fn input_that_nobody_reads(run: Make<'_>) -> testkit::Result {
    assert!(run(&["/probe", "true"]).stdin(vec![b'x'; 1 << 20]).status()?.success());
    Ok(())
}

fn a_terminal(run: Make<'_>) -> testkit::Result {
    let mut shell = run(&["/probe", "cat", "/proc/self/stat"]).terminal(Terminal::size(5, 6)).spawn()?;
    let mut text = String::new();
    shell.terminal().expect("a terminal").read_to_string(&mut text)?;
    assert!(shell.wait()?.success());
    Ok(())
}

fn further_programs(run: Make<'_>) -> testkit::Result {
    let process = run(&SLEEP).spawn()?;
    assert!(process.exec(["/probe", "true"]).output()?.status.success());
    assert!(process.exec(["/no/such"]).output().is_err());
    drop(process.exec(SLEEP).spawn()?);
    let end = process.exec(SLEEP).time_limit(Duration::from_millis(20)).status()?;
    assert_eq!(end.reason(), Reason::TimeLimit);
    Ok(())
}

fn a_further_program_that_outlives_the_first(run: Make<'_>) -> testkit::Result {
    let mut process = run(&["/probe", "sleep", "50"]).spawn()?;
    let mut further = process.exec(SLEEP).stdout(Stdio::null()).spawn()?;
    assert!(process.wait()?.success());
    assert_eq!(further.wait()?.reason(), Reason::Signaled(Signal::KILL));
    Ok(())
}

fn only_built(run: Make<'_>) -> testkit::Result {
    let built = run(&["/probe", "true"]).build()?;
    assert!(!built.plan()?.explain().is_empty());
    Ok(())
}

fn a_template(run: Make<'_>) -> testkit::Result {
    let template = run(&["/probe", "true"]).template()?;
    assert!(template.run().status()?.success());
    drop(template.args(SLEEP).spawn()?);
    Ok(())
}

fn decided_system_calls(run: Make<'_>) -> testkit::Result {
    let asked = run(&["/probe", "mkdir", "/tmp/x"]).on_syscall("mkdirat", |_| keelbox::Answer::Errno(1));
    assert_eq!(asked.status()?.code(), Some(1));
    Ok(())
}

const ENDS: [(&str, End); 13] = [
    ("exit", exit),
    ("signal", signal),
    ("time limit", time_limit),
    ("drop", drops),
    ("children that go on", children_that_go_on),
    ("panic", panic),
    ("input that nobody reads", input_that_nobody_reads),
    ("a terminal", a_terminal),
    ("further programs", further_programs),
    ("a further program that outlives the first", a_further_program_that_outlives_the_first),
    ("a build", only_built),
    ("a template", a_template),
    ("decided system calls", decided_system_calls),
];

/// Every way to end, each checked by itself.
#[test]
fn after_every_kind_of_end() -> testkit::Result {
    require!(Root, Cgroup("memory"), Cgroup("pids"));
    alone!();
    let root = testkit::probe_root()?;
    let plain = |args: &[&str]| {
        Container::from_rootfs(root.path()).stdout(Stdio::null()).stderr(Stdio::null()).args(args.iter().copied())
    };
    let limited = |args: &[&str]| plain(args).memory(32 * MIB).swap(0).pids(16);
    for (how, run) in [("without limits", &plain as Make<'_>), ("with limits", &limited)] {
        for (what, end) in ENDS {
            let leaks = watched(|| run(&["/probe", "true"]));
            end(run).map_err(|error| format!("{what}, {how}: {error:?}"))?;
            let left = leaks.differences();
            assert!(left.is_empty(), "left behind after {what}, {how}:\n{}", left.join("\n"));
        }
    }
    Ok(())
}

#[test]
fn after_paused_and_out_of_memory_ends() -> testkit::Result {
    require!(Root, Cgroup("memory"), Cgroup("freezer"));
    alone!();
    let root = testkit::probe_root()?;
    let run = |args: &[&str]| {
        Container::from_rootfs(root.path()).args(args.iter().copied()).memory(32 * MIB).swap(0).stdout(Stdio::null())
    };
    let leaks = watched(|| run(&["/probe", "true"]));
    assert_eq!(run(&["/probe", "alloc", "128"]).status()?.reason(), Reason::OutOfMemory);
    let paused = run(&["/probe", "sleep", "60000"]).spawn()?;
    paused.pause()?;
    drop(paused);
    let mut paused = run(&["/probe", "sleep", "60000"]).spawn()?;
    paused.pause()?;
    paused.kill()?;
    assert_eq!(
        paused.wait_timeout(Duration::from_secs(10))?.expect("it is dead").reason(),
        Reason::Signaled(Signal::KILL)
    );
    paused = run(&["/probe", "sleep", "60000"]).spawn()?;
    paused.pause()?;
    assert_eq!(paused.stop(Duration::from_millis(20))?.reason(), Reason::Signaled(Signal::KILL));
    paused = run(&["/probe", "sleep", "60000"]).time_limit(Duration::from_millis(50)).spawn()?;
    paused.pause()?;
    assert_eq!(paused.wait()?.reason(), Reason::TimeLimit);
    drop(paused);
    leaks.check();
    Ok(())
}

/// A failure at each step of the launch: the plan's own steps, one after the other, are made to fail by what they find.
#[test]
fn after_failures_along_the_way() -> testkit::Result {
    require!(Root, Cgroup("pids"));
    alone!();
    let root = testkit::probe_root()?;
    std::fs::write(root.path().join("file"), "x")?;
    let run = || Container::from_rootfs(root.path()).args(["/probe", "true"]);
    let failing = || -> Vec<(&str, Container)> {
        vec![
            ("a namespace", run().join(keelbox::Kind::Ipc, "/etc/passwd")),
            ("a parameter", run().sysctl("net.ipv4.ip_forward", "x")),
            ("a source", run().bind("/nowhere", "/mnt")),
            ("a target", run().bind("/etc/passwd", "/etc")),
            ("a target below a file", run().tmpfs("/file/x", MIB)),
            ("a file below a file", run().file("/file/x", "x")),
            ("a directory", run().current_dir("/missing")),
            ("a resource", run().rlimit(keelbox::Resource::Descriptors, u64::MAX, u64::MAX)),
            ("a capability of another", run().capability("sys_resource")),
            ("a program", run().args(["/missing"])),
            ("a program and a terminal", run().args(["/missing"]).terminal(Terminal::size(1, 1))),
            ("a program and its input", run().args(["/missing"]).stdin("input")),
            ("a program and a decision", run().args(["/missing"]).on_syscall("mkdir", |_| keelbox::Answer::Continue)),
        ]
    };
    let leaks = watched(run);
    let mut refused = 0;
    for (what, container) in
        failing().into_iter().chain(failing().into_iter().map(|(what, container)| (what, container.pids(8))))
    {
        match container.stdout(Stdio::null()).spawn() {
            Err(error) => {
                println!("{what}: {error:?}");
                refused += 1;
            }
            // Some machines allow it.
            Ok(mut process) => drop(process.wait()?),
        }
        let left = leaks.differences();
        assert!(left.is_empty(), "left behind after {what}:\n{}", left.join("\n"));
    }
    assert!(refused >= 22, "only {refused} were refused");
    leaks.check();
    Ok(())
}

#[test]
fn images_and_their_writable_layers() -> testkit::Result {
    require!(Root, Overlay);
    alone!();
    let small = Small::probe(r#""Cmd":["/probe","true"]"#)?;
    assert!(small.container()?.status()?.success());
    let leaks = LeakCheck::builder().files(small.store()).begin();
    assert!(small.container()?.args(["/probe", "write", "/tmp/x", "text"]).status()?.success());
    let out = small.container()?.keep_changes().args(["/probe", "write", "/tmp/x", "text"]).output()?;
    assert_eq!(out.changes()?.read("/tmp/x")?, b"text");
    drop(out);
    assert!(small.container()?.keep_changes().args(["/missing"]).output().is_err());
    let hostile = small.container()?.profile(Profile::Hostile);
    assert!(hostile.clone().status()?.success());
    assert!(hostile.template()?.run().status()?.success());
    let mut left = leaks.differences();
    // The directory for writable layers stays, empty.
    left.retain(|line| !(line.starts_with("+ file: ") && line.contains("/runs directory")));
    assert!(left.is_empty(), "{left:?}");
    Ok(())
}

/// Descriptors that the host opens without close-on-exec, and there are many, do not reach the container.
#[test]
fn the_program_sees_its_own_descriptors_only() -> testkit::Result {
    require!(Root, Program("busybox"));
    alone!();
    let root = common::root()?;
    let open: Vec<_> =
        (0..200).map(|_| nix::unistd::dup(std::fs::File::open("/").expect("a directory").as_fd())).collect();
    assert!(open.iter().all(Result::is_ok));
    let numbers =
        |text: &str| text.lines().filter_map(|line| line.split(' ').next().map(str::to_owned)).collect::<Vec<_>>();
    let out = Container::from_rootfs(root.path()).args(["/probe", "fds"]).output()?;
    assert_eq!(numbers(&out.text()), ["0", "1", "2"], "{}", out.text());
    let (reader, _writer) = std::io::pipe()?;
    let given =
        Container::from_rootfs(root.path()).descriptor(reader).descriptor(Stdio::null()).args(["/probe", "fds"]);
    let out = given.output()?;
    assert_eq!(numbers(&out.text()), ["0", "1", "2", "3", "4"], "{}", out.text());
    let template = Container::from_rootfs(root.path()).args(["/probe", "fds"]).template()?;
    assert_eq!(numbers(&template.run().output()?.text()), ["0", "1", "2"]);
    let process = Container::from_rootfs(root.path()).args(["/probe", "sleep", "60000"]).pids(16).spawn()?;
    let out = process.exec(["/probe", "fds"]).output()?;
    assert_eq!(numbers(&out.text()), ["0", "1", "2"], "{}", out.text());
    Ok(())
}
