//! Containers under cgroup v2 with real controllers: limits that hold before the process exists, being born inside, and what v2
//! tells and does. Elsewhere all of it is skipped; `.ci/v2` runs it in a virtual machine.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use keelbox::{Container, ErrorKind, Limits, MIB, Process, Profile, Reason, Runtime, Signal, Stdio};
use keelbox_testkit::{self as testkit, LeakCheck, alone, require};

/// Where the cgroup2 tree is mounted.
fn top() -> testkit::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    Ok(mounts.find(|words| words[2] == "cgroup2").ok_or("no cgroup2 tree")?[1].into())
}

/// The cgroup2 directory of a process of the host.
fn directory(pid: u32) -> testkit::Result<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/")).ok_or("in no cgroup2 group")?;
    Ok(top()?.join(path))
}

fn value(directory: &Path, file: &str) -> testkit::Result<String> {
    let path = directory.join(file);
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text.trim().to_owned())
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(10), "never came: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

const TRACED: &str = "KEELBOX_TEST_TRACED";

/// What the kernel was asked, in order: every limit is written before the clone, all that run are born inside, and nobody is moved.
#[test]
fn limits_come_first_and_nobody_is_moved() -> testkit::Result {
    require!(Root, CgroupV2("memory"), CgroupV2("pids"), CgroupV2("cpu"), Program("strace"));
    let root = testkit::probe_root()?;
    if let Some(root) = std::env::var_os(TRACED) {
        let container =
            Container::from_rootfs(root).args(["/probe", "sleep", "600000"]).memory(64 * MIB).pids(16).cpus(0.9);
        let process = container.spawn()?;
        assert!(process.exec(["/probe", "true"]).output()?.status.success());
        return Ok(());
    }
    let log = root.path().join("log");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-y", "-e", "trace=clone,clone3,vfork,fork,openat,openat2,write"]).arg("-o").arg(&log);
    strace.arg(std::env::current_exe()?).args(["--exact", "limits_come_first_and_nobody_is_moved"]);
    common::run(strace.env(TRACED, root.path()))?;
    let text = fs::read_to_string(&log)?;
    let lines: Vec<&str> = text.lines().collect();
    let at = |needles: &[&str]| lines.iter().position(|line| needles.iter().all(|needle| line.contains(needle)));
    let born: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].contains("CLONE_INTO_CGROUP")).collect();
    assert_eq!(born.len(), 2, "the container and its further program:\n{text}");
    for (file, limit) in [("memory.max", "\"67108864\""), ("pids.max", "\"16\""), ("cpu.max", "\"90000 100000\"")] {
        let written = at(&["write(", &format!("/{file}>"), limit]).ok_or_else(|| format!("no {file}:\n{text}"))?;
        assert!(written < born[0], "{file} is late:\n{text}");
    }
    let moved = at(&["write(", "/cgroup.procs>"]).or(at(&["write(", "/cgroup.threads>"]));
    assert_eq!(moved.map(|at| lines[at]), None);
    let opened = at(&["\"cgroup.procs\"", "O_WRONLY"]).or(at(&["\"cgroup.procs\"", "O_RDWR"]));
    assert_eq!(opened.map(|at| lines[at]), None);
    Ok(())
}

#[test]
fn what_is_asked_for_is_what_the_group_has() -> testkit::Result {
    require!(Root, CgroupV2("memory"), CgroupV2("pids"), CgroupV2("cpu"));
    alone!();
    let root = testkit::probe_root()?;
    Container::from_rootfs(root.path()).args(["/probe", "true"]).memory(64 * MIB).status()?;
    let leaks = LeakCheck::begin();
    let container = Container::from_rootfs(root.path()).args(["/probe", "sleep", "600000"]);
    let limits = Limits::new()
        .memory(64 * MIB)
        .swap(0)
        .memory_low(8 * MIB)
        .pids(16)
        .cpus(0.5)
        .cpu_weight(50)
        .unified("memory.oom.group", "1");
    let mut process = container.limits(limits).spawn()?;
    let group = directory(process.id())?;
    let files = [
        ("memory.max", "67108864"),
        ("memory.low", "8388608"),
        ("pids.max", "16"),
        ("pids.current", "1"),
        ("cpu.max", "50000 100000"),
        ("cpu.weight", "50"),
        ("memory.oom.group", "1"),
    ];
    for (file, expected) in files {
        assert_eq!(value(&group, file)?, expected, "{file}");
    }
    // The stage leaves nobody else behind.
    assert_eq!(value(&group, "cgroup.procs")?, process.id().to_string());
    process.kill()?;
    process.wait()?;
    assert!(!group.exists());
    drop(process);
    leaks.check();
    Ok(())
}

/// One process may be all there is: unlike on v1, no thread of the host is counted.
#[test]
fn a_single_process() -> testkit::Result {
    require!(Root, CgroupV2("pids"));
    let root = testkit::probe_root()?;
    let run = |args: &[&str]| Container::from_rootfs(root.path()).args(args.iter().copied()).pids(1).output();
    assert!(run(&["/probe", "true"])?.status.success());
    let out = run(&["/probe", "forkbomb", "3"])?;
    assert!(out.text().contains("forked 0\nerrno 11"), "{out:?}");
    Ok(())
}

#[test]
fn want_of_memory_is_told_from_other_kills() -> testkit::Result {
    require!(Root, CgroupV2("memory"));
    let root = testkit::probe_root()?;
    let run = |args: &[&str]| {
        Container::from_rootfs(root.path()).args(args.iter().copied()).memory(32 * MIB).swap(0).stdout(Stdio::null())
    };
    let end = run(&["/probe", "alloc", "128"]).status()?;
    assert_eq!(end.reason(), Reason::OutOfMemory);
    assert!((28 * MIB..=32 * MIB).contains(&end.usage().peak_memory), "{end:?}");
    assert_eq!(run(&["/probe", "alloc", "16"]).status()?.reason(), Reason::Exited(0));
    let killed = |end: fn(&mut Process) -> keelbox::Result<()>| -> testkit::Result<Reason> {
        let mut process = run(&["/probe", "alloc", "24", "600000"]).spawn()?;
        until("memory", || process.stats().is_ok_and(|stats| stats.memory.anon.is_some_and(|bytes| bytes >= 24 * MIB)));
        end(&mut process)?;
        Ok(process.wait()?.reason())
    };
    assert_eq!(killed(|process| process.signal(Signal::KILL))?, Reason::Signaled(Signal::KILL));
    assert_eq!(killed(Process::kill)?, Reason::Signaled(Signal::KILL));
    let end = run(&["/probe", "sleep", "600000"]).time_limit(Duration::from_millis(50)).status()?;
    assert_eq!(end.reason(), Reason::TimeLimit);
    // A further program is over the limit; whether it is the one that dies is the kernel's choice, but somebody does.
    let mut process = run(&["/probe", "sleep", "600000"]).spawn()?;
    let further = process.exec(["/probe", "alloc", "128"]).output()?;
    assert_eq!(further.status.signal(), Some(9), "{further:?}");
    assert_eq!(process.stats()?.memory.oom_kills, Some(1));
    process.kill()?;
    Ok(())
}

#[test]
fn statistics_pauses_updates_and_the_end() -> testkit::Result {
    require!(Root, CgroupV2("memory"), CgroupV2("pids"), CgroupV2("cpu"));
    let root = testkit::probe_root()?;
    let mut process =
        Container::from_rootfs(root.path()).args(["/probe", "spin", "600000"]).memory(64 * MIB).pids(16).spawn()?;
    let group = directory(process.id())?;
    let used = || -> testkit::Result<Duration> { Ok(process.stats()?.cpu.usage.ok_or("not counted")?) };
    until("processor time", || used().is_ok_and(|time| time > Duration::from_millis(50)));
    let stats = process.stats()?;
    assert_eq!((stats.memory.limit, stats.pids.limit, stats.pids.current), (Some(64 * MIB), Some(16), Some(1)));
    assert!(
        stats.memory.current.is_some_and(|bytes| bytes > 0) && stats.memory.peak >= stats.memory.current,
        "{stats:?}"
    );
    assert_eq!(stats.memory.oom_kills, Some(0));

    process.pause()?;
    assert!(value(&group, "cgroup.events")?.contains("frozen 1"));
    let still = used()?;
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(used()?, still, "it ran while it was paused");
    process.resume()?;
    until("it goes on", || used().is_ok_and(|time| time > still));

    process.update(&Limits::new().memory(128 * MIB).pids(1).cpus(0.5))?;
    assert_eq!(
        (value(&group, "memory.max")?.as_str(), value(&group, "cpu.max")?.as_str()),
        ("134217728", "50000 100000")
    );
    let error = process.exec(["/probe", "true"]).output().expect_err("there is no room for another process");
    println!("{error:?}");
    process.update(&Limits::new().pids(2))?;
    assert!(process.exec(["/probe", "true"]).output()?.status.success());
    assert_eq!(
        process.update(&Limits::new().unified("pids.nonsense", "1")).map_err(|error| error.kind()),
        Err(ErrorKind::Limit)
    );

    // Paused or not, killing is one write, and the group goes with its last process.
    process.pause()?;
    process.kill()?;
    assert_eq!(process.wait()?.reason(), Reason::Signaled(Signal::KILL));
    assert!(!group.exists());
    Ok(())
}

#[test]
fn further_programs_are_inside_too() -> testkit::Result {
    require!(Root, CgroupV2("memory"), CgroupV2("pids"));
    let root = testkit::probe_root()?;
    let process =
        Container::from_rootfs(root.path()).args(["/probe", "sleep", "600000"]).memory(64 * MIB).pids(4).spawn()?;
    let further = process.exec(["/probe", "sleep", "600000"]).spawn()?;
    assert_eq!(directory(further.id())?, directory(process.id())?);
    assert_eq!(process.stats()?.pids.current, Some(2));
    let out = process.exec(["/probe", "forkbomb", "10"]).output()?;
    assert!(out.text().contains("forked 1\nerrno 11"), "{out:?}");
    let inside = process.exec(["/probe", "cat", "/proc/self/cgroup"]).output()?;
    assert_eq!(inside.text(), "0::/\n", "the container's group is all it sees");
    Ok(())
}

#[test]
fn templates_with_limits_leave_no_group() -> testkit::Result {
    require!(Root, CgroupV2("memory"), CgroupV2("pids"));
    alone!();
    let root = testkit::probe_root()?;
    let container = || Container::from_rootfs(root.path()).args(["/probe", "true"]).memory(32 * MIB).swap(0).pids(8);
    container().status()?;
    let leaks = LeakCheck::begin();
    let template = container().template()?;
    for run in 0..6 {
        // From the third run on the containers wait in a pool, born in groups of their own.
        let out = template.args(["/probe", "forkbomb", "20"]).output()?;
        assert!(out.text().contains("forked 7\nerrno 11"), "run {run}: {out:?}");
        assert_eq!(
            template.args(["/probe", "alloc", "128"]).stdout(Stdio::null()).status()?.reason(),
            Reason::OutOfMemory,
            "run {run}"
        );
    }
    let processes =
        (0..5).map(|_| template.args(["/probe", "sleep", "600000"]).spawn()).collect::<Result<Vec<_>, _>>()?;
    let groups = processes
        .iter()
        .map(|process| directory(process.id()))
        .collect::<Result<std::collections::BTreeSet<_>, _>>()?;
    assert_eq!(groups.len(), 5, "one group for each: {groups:?}");
    for group in &groups {
        assert_eq!((value(group, "memory.max")?.as_str(), value(group, "pids.max")?.as_str()), ("33554432", "8"));
    }
    drop((processes, template));
    leaks.check();
    Ok(())
}

/// An ordinary user below a group that was given to it: everything works as for root.
#[test]
fn a_delegated_group_of_an_ordinary_user() -> testkit::Result {
    const NAME: &str = "keelbox-delegated";
    if fs::read_to_string("/proc/self/cgroup")?.contains(NAME) {
        return delegated();
    }
    require!(Root, CgroupV2("memory"), CgroupV2("pids"), CgroupV2("cpu"), OrdinaryUser, UserNamespace);
    alone!();
    let user = testkit::OrdinaryUser::for_tests()?;
    let (before, group) = (directory(std::process::id())?, top()?.join(format!("{NAME}-{}", std::process::id())));
    let leaf = group.join("session");
    fs::create_dir(&group)?;
    fs::write(top()?.join("cgroup.subtree_control"), "+memory +pids +cpu")?;
    fs::write(group.join("cgroup.subtree_control"), "+memory +pids +cpu")?;
    fs::create_dir(&leaf)?;
    for directory in [&group, &leaf] {
        for file in [".", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
            std::os::unix::fs::chown(directory.join(file), Some(user.uid()), Some(user.gid()))?;
        }
    }
    fs::write(leaf.join("cgroup.procs"), "0")?;
    let outcome = std::panic::catch_unwind(|| testkit::as_user(testkit::test_name!()));
    fs::write(before.join("cgroup.procs"), "0")?;
    let left: Vec<_> =
        fs::read_dir(&group)?.flatten().filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name()).collect();
    for directory in [&leaf, &group] {
        until("an empty group", || fs::remove_dir(directory).is_ok() || !left.is_empty());
    }
    outcome.map_err(|panic| panic.downcast_ref::<String>().cloned().unwrap_or_default())?;
    assert_eq!(left, ["session"]);
    Ok(())
}

/// What the ordinary user does.
fn delegated() -> testkit::Result {
    let (root, states) = (testkit::probe_root()?, tempfile::tempdir()?);
    let container =
        || Container::from_rootfs(root.path()).memory(32 * MIB).swap(0).pids(16).cpus(0.9).stdout(Stdio::null());
    assert!(container().args(["/probe", "true"]).status()?.success());
    assert_eq!(container().args(["/probe", "alloc", "128"]).status()?.reason(), Reason::OutOfMemory);
    let process = container().args(["/probe", "sleep", "600000"]).spawn()?;
    let group = directory(process.id())?;
    assert_eq!(group.parent(), directory(std::process::id())?.parent(), "beside the leaf that we are in");
    assert_eq!((value(&group, "memory.max")?.as_str(), value(&group, "pids.max")?.as_str()), ("33554432", "16"));
    let further = process.exec(["/probe", "sleep", "600000"]).spawn()?;
    assert_eq!(directory(further.id())?, group);
    assert_eq!(process.stats()?.pids.current, Some(2));
    process.pause()?;
    process.resume()?;
    process.update(&Limits::new().memory(64 * MIB))?;
    assert_eq!(process.stats()?.memory.limit, Some(64 * MIB));
    drop((further, process));
    assert!(!group.exists());
    let template = container().args(["/probe", "true"]).template()?;
    for _ in 0..4 {
        let out = template.args(["/probe", "forkbomb", "20"]).stdout(Stdio::piped()).output()?;
        assert!(out.text().contains("forked 15\nerrno 11"), "{out:?}");
    }
    drop(template);
    // Limits that the strictest profile has where they can be had.
    let hostile =
        Container::from_rootfs(root.path()).profile(Profile::Hostile).args(["/probe", "sleep", "600000"]).spawn()?;
    assert_eq!(value(&directory(hostile.id())?, "pids.max")?, "256");
    drop(hostile);
    let runtime = Runtime::at(states.path().join("states"));
    let handle = runtime.create(&container().args(["/probe", "sleep", "600000"]).build()?, "a")?;
    handle.start()?;
    handle.pause()?;
    handle.resume()?;
    assert_eq!(handle.stats()?.memory.limit, Some(32 * MIB));
    handle.delete_force()?;
    Ok(())
}
