//! What a program that runs containers may rely on: it stays as it is, whatever it calls, and its containers depend on it and
//! on none of its threads.

mod common;

use std::io::{BufRead, BufReader, Read};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use keelbox::{Container, Kind, Limits, MIB, Profile, Reason, Stdio, Terminal};
use keelbox_testkit::{self as testkit, LeakCheck, alone, require};

/// What does not change while a container is started, used and ended.
fn picture() -> String {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
    let status = read("status");
    let keys = [
        "Umask:",
        "Uid:",
        "Gid:",
        "Groups:",
        "SigIgn:",
        "SigCgt:",
        "CapInh:",
        "CapPrm:",
        "CapEff:",
        "CapBnd:",
        "CapAmb:",
        "NoNewPrivs:",
        "Seccomp:",
    ];
    let facts = keys.map(|key| format!("{key} {}", common::value(&status, key)));
    let links = ["cwd", "root", "ns/mnt", "ns/user", "ns/net", "ns/pid_for_children", "ns/time_for_children"];
    let links = links.map(|link| format!("{:?}", std::fs::read_link(format!("/proc/self/{link}")).ok()));
    let dumpable = nix::sys::prctl::get_dumpable();
    format!("{facts:?} {links:?} {dumpable:?} {} {} {}", read("oom_score_adj"), read("limits"), read("cgroup"))
}

/// What starts from a container that was built once.
fn built_and_again(container: Container, directory: &std::path::Path) -> testkit::Result {
    let built = container.build()?;
    built.write_bundle(directory)?;
    Container::from_bundle(directory)?.args(["/probe", "true"]).status()?;
    let template = built.template()?;
    template.run().status()?;
    template.args(["/probe", "exit", "2"]).output()?;
    Ok(())
}

/// A thread that looks all the time, while every public call is made.
#[test]
fn every_call_leaves_the_host_as_it_is() -> testkit::Result {
    require!(Root, Cgroup("memory"), Cgroup("pids"), Cgroup("freezer"));
    alone!();
    let root = testkit::probe_root()?;
    let run = || Container::from_rootfs(root.path()).stdout(Stdio::null()).args(["/probe", "true"]);
    run().pids(8).status()?;
    run().status()?;
    let (before, leaks, over) = (picture(), LeakCheck::begin(), AtomicBool::new(false));
    let all = || -> testkit::Result {
        run()
            .user("1000")
            .hostname("x")
            .umask(0o77)
            .rlimit(keelbox::Resource::Core, 0, 0)
            .oom_score_adj(500)
            .status()?;
        run().current_dir("/tmp").env("A", "b").profile(Profile::Hostile).output()?;
        let timed = std::path::Path::new("/proc/self/ns/time").exists().then_some(Kind::Time);
        timed.into_iter().fold(run().unshare(Kind::User), Container::unshare).status()?;
        run().args(["/missing"]).status().expect_err("no such program");
        run().args(["/probe", "sleep", "60000"]).time_limit(Duration::from_millis(10)).status()?;
        let mut process = run().args(["/probe", "sleep", "60000"]).memory(64 * MIB).stdin(Stdio::piped()).spawn()?;
        process.exec(["/probe", "true"]).user("1000").output()?;
        process.exec(["/probe", "tty"]).terminal(Terminal::size(1, 2)).spawn()?.wait()?;
        process.stats()?;
        process.update(&Limits::new().memory(128 * MIB))?;
        process.pause()?;
        process.resume()?;
        process.stop(Duration::from_millis(10))?;
        let directory = tempfile::tempdir()?;
        built_and_again(run(), directory.path())?;
        run()
            .on_syscall("mkdirat", |_| keelbox::Answer::Continue)
            .args(["/probe", "mkdir", "/tmp/x"])
            .keep_changes()
            .store(directory.path())
            .output()?;
        Ok(())
    };
    let (looks, outcome) = std::thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let mut looks = 0;
            while !over.load(Ordering::Relaxed) {
                assert_eq!(picture(), before, "it changed for a moment");
                looks += 1;
            }
            looks
        });
        let outcome = (0..3).try_for_each(|_| all()).map_err(|error| error.to_string());
        over.store(true, Ordering::Relaxed);
        (sampler.join().expect("the picture stays"), outcome)
    });
    outcome?;
    assert!(looks > 100, "only {looks} looks");
    leaks.check();
    Ok(())
}

#[test]
fn other_children_are_left_alone() -> testkit::Result {
    require!(Root);
    alone!();
    let root = testkit::probe_root()?;
    let mut own = Command::new("sh").args(["-c", "exit 5"]).spawn()?;
    std::thread::sleep(Duration::from_millis(50));
    for _ in 0..20 {
        assert!(Container::from_rootfs(root.path()).args(["/probe", "true"]).status()?.success());
    }
    assert_eq!(own.wait()?.code(), Some(5), "nobody else has reaped it");
    Ok(())
}

/// A part of the program that reaps every child that it finds must not make a container's end unknown (Linux 6.15).
#[test]
fn a_thread_that_reaps_everything_steals_no_end() -> testkit::Result {
    require!(Root);
    alone!();
    let root = testkit::probe_root()?;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let _stolen = nix::sys::wait::waitpid(None, Some(nix::sys::wait::WaitPidFlag::WNOHANG));
            }
        });
        for turn in 0..50 {
            match Container::from_rootfs(root.path()).args(["/probe", "exit", "42"]).status() {
                Ok(end) => assert_eq!(end.reason(), Reason::Exited(42), "run {turn}"),
                Err(error) => assert_eq!(error.kind(), keelbox::ErrorKind::State, "run {turn}: {error:?}"),
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    Ok(())
}

/// A parent-death signal is sent when the thread ends that cloned, not the process (security class A8.1).
#[test]
fn containers_survive_the_thread_that_started_them() -> testkit::Result {
    require!(Root, Cgroup("pids"));
    let root = testkit::probe_root()?;
    for limited in [false, true] {
        let container = Container::from_rootfs(root.path()).args(["/probe", "sleep", "400"]);
        let container = if limited { container.pids(8) } else { container };
        let mut process = std::thread::spawn(move || container.spawn()).join().expect("no panic")?;
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(process.try_wait()?, None, "limited: {limited}");
        assert_eq!(process.wait()?.reason(), Reason::Exited(0));
    }
    Ok(())
}

#[test]
fn two_hundred_from_sixteen_threads() -> testkit::Result {
    require!(Root, Cgroup("pids"));
    alone!();
    let root = testkit::probe_root()?;
    let run = |limited: bool| {
        let container = Container::from_rootfs(root.path());
        if limited { container.pids(16) } else { container }
    };
    run(true).args(["/probe", "true"]).status()?;
    run(false).args(["/probe", "true"]).status()?;
    let leaks = LeakCheck::begin();
    std::thread::scope(|scope| {
        for worker in 0..16 {
            scope.spawn(move || {
                for turn in 0..13 {
                    let word = format!("{worker}.{turn}");
                    let out = run(turn % 3 == 0).args(["/probe", "args", &word]).output().expect("it runs");
                    assert!(out.status.success() && out.text().ends_with(&format!("{word}\n")), "{out:?}");
                }
            });
        }
    });
    leaks.check();
    Ok(())
}

const VICTIM: &str = "KEELBOX_TEST_VICTIM";

/// The program that runs the container is killed without a chance to clear up: the container dies with it.
#[test]
fn a_container_dies_with_its_program() -> testkit::Result {
    require!(Root, Cgroup("pids"));
    if let Some(root) = std::env::var_os(VICTIM) {
        let container = Container::from_rootfs(root).args(["/probe", "orphan", "600000"]).pids(8).stdin(Stdio::null());
        let first = container.clone().args(["/probe", "sleep", "600000"]).stdout(Stdio::null()).spawn()?;
        let second =
            container.args(["/probe", "sleep", "600000"]).limits(Limits::new()).stdout(Stdio::null()).spawn()?;
        let further = first.exec(["/probe", "sleep", "600000"]).stdout(Stdio::null()).spawn()?;
        let group = std::fs::read_to_string(format!("/proc/{}/cgroup", first.id()))?;
        let legacy = group.lines().find(|line| line.contains(":pids:"));
        let group = legacy.or_else(|| group.lines().find(|line| line.starts_with("0::"))).unwrap_or_default();
        println!("\nvictim {} {} {} {group}", first.id(), second.id(), further.id());
        loop {
            std::thread::park();
        }
    }
    let root = testkit::probe_root()?;
    let mut victim = Command::new(std::env::current_exe()?)
        .args(["--exact", "a_container_dies_with_its_program", "--nocapture"])
        .env(VICTIM, root.path())
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(victim.stdout.take().expect("piped")).lines();
    let line = lines.find_map(|line| line.ok()?.strip_prefix("victim ").map(str::to_owned)).ok_or("it said nothing")?;
    let words: Vec<&str> = line.split(' ').collect();
    let pids: Vec<u32> = words[..3].iter().map(|word| word.parse()).collect::<Result<_, _>>()?;
    assert!(pids.iter().all(|pid| std::path::Path::new(&format!("/proc/{pid}")).exists()));
    victim.kill()?;
    victim.wait()?;
    let gone = |pid: &u32| !std::path::Path::new(&format!("/proc/{pid}")).exists();
    let begun = Instant::now();
    while !pids.iter().all(gone) && begun.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(pids.iter().all(gone), "still there: {pids:?}");
    // What remains is the control group, empty; it carries its owner's name, and whoever sweeps up takes it away.
    let group = words[3].rsplit(':').next().ok_or("no group")?.to_owned();
    let hierarchy = if words[3].starts_with("0::") { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/pids" };
    let directory = std::path::Path::new(hierarchy).join(group.trim_start_matches('/'));
    // Another program on this machine may have done so already, or look at it right now.
    assert_eq!(std::fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default(), "");
    let begun = Instant::now();
    while directory.exists() && begun.elapsed() < Duration::from_secs(5) {
        keelbox::crates::cgroups::gc(&keelbox::crates::cgroups::Parent::default())?;
    }
    assert!(!directory.exists(), "{} is not swept up", directory.display());
    Ok(())
}

/// A grandchild in the host's pid namespace holds the pipe: the time limit ends the call, and the container's processes are gone.
#[test]
fn a_time_limit_ends_the_call_whoever_holds_the_pipe() -> testkit::Result {
    require!(Root, Cgroup("pids"));
    alone!();
    let root = testkit::probe_root()?;
    let run = || Container::from_rootfs(root.path()).share(Kind::Pid);
    run().args(["/probe", "true"]).status()?;
    let marker = "612345";
    let begun = Instant::now();
    let out = run().args(["/probe", "orphan", marker]).time_limit(Duration::from_millis(300)).output()?;
    assert_eq!(out.status.reason(), Reason::Exited(0));
    assert!((Duration::from_millis(250)..Duration::from_secs(5)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    // A process leaves its group a moment before it is gone.
    let alive = || {
        let begun = Instant::now();
        loop {
            let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
            let line =
                |entry: &std::fs::DirEntry| std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            let count = all.filter(|entry| line(entry).contains(marker)).count();
            if count == 0 || begun.elapsed() > Duration::from_secs(2) {
                return count;
            }
        }
    };
    assert_eq!(alive(), 0, "its processes are gone with it");
    let process = run().args(["/probe", "orphan", marker]).stdout(Stdio::null()).spawn()?;
    drop(process);
    assert_eq!(alive(), 0, "and with its handle");
    // In a pid namespace of its own the kernel sees to it.
    let out = Container::from_rootfs(root.path()).args(["/probe", "orphan", marker]).output()?;
    assert_eq!((out.status.reason(), alive()), (Reason::Exited(0), 0));
    Ok(())
}

/// A mount of the container does not show up on the host, whatever the propagation there.
#[test]
fn mounts_do_not_travel_back() -> testkit::Result {
    require!(Root, Program("busybox"), Program("unshare"));
    let root = common::root()?;
    let before = std::fs::read_to_string("/proc/self/mountinfo")?;
    let out = Container::from_rootfs(root.path())
        .profile(Profile::Trusted)
        .args(["sh", "-c", "mount -t tmpfs none /tmp && mount | grep -c ' /tmp '"])
        .output()?;
    assert_eq!(out.text(), "1\n", "{out:?}");
    let count = |text: &str| text.lines().filter(|line| line.contains(&*root.path().to_string_lossy())).count();
    assert_eq!(count(&std::fs::read_to_string("/proc/self/mountinfo")?), count(&before));
    Ok(())
}

#[test]
fn a_program_of_many_threads_that_allocate_starts_containers() -> testkit::Result {
    require!(Root);
    let root = testkit::probe_root()?;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    std::hint::black_box((0..100).map(|length| vec![0u8; length * 16]).collect::<Vec<_>>());
                }
            });
        }
        for _ in 0..100 {
            assert!(Container::from_rootfs(root.path()).args(["/probe", "true"]).status().expect("it runs").success());
        }
        over.store(true, Ordering::Relaxed);
    });
    Ok(())
}

/// Standard streams that are inherited are the host's own, and stay open there.
#[test]
fn pipes_end_when_the_program_ends() -> testkit::Result {
    require!(Root);
    let root = testkit::probe_root()?;
    let (mut reader, writer) = std::io::pipe()?;
    let mut process = Container::from_rootfs(root.path()).args(["/probe", "flood", "100000"]).stdout(writer).spawn()?;
    let mut text = Vec::new();
    reader.read_to_end(&mut text)?;
    assert!(process.wait()?.success());
    assert_eq!(text.len(), 100_000);
    Ok(())
}
