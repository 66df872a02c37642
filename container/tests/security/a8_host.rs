//! A8, hazards of a library that lives in somebody else's program.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keelbox::crates::cgroups;
use keelbox::{Container, ErrorKind, Reason, Runtime, Signal, Stdio};
use keelbox_testkit::{self as testkit, LeakCheck, alone, probe_root, require};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::support::{rounds, wait_for};

/// A8.8: a handle that is forgotten keeps its descriptors and its control group, which is swept up once the program is gone; nothing
/// else, and whoever comes back to it is told the truth.
#[test]
fn a8_08_a_handle_that_is_forgotten() -> testkit::Result {
    require!(Root, Cgroup("pids"));
    alone!();
    let root = probe_root()?;
    let container =
        || Container::from_rootfs(root.path()).pids(8).args(["/probe", "sleep", "600000"]).stdin(Stdio::null());
    drop(container().spawn()?);
    let leaks = LeakCheck::begin();
    let process = std::mem::ManuallyDrop::new(container().spawn()?);
    let pid = Pid::from_raw(process.id().try_into()?);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL)?;
    waitpid(pid, None)?;
    cgroups::gc(&cgroups::Parent::default())?;
    let left = leaks.differences();
    assert!(
        left.iter().all(|line| ["+ descriptor: ", "+ cgroup: "].iter().any(|kind| line.starts_with(kind))),
        "{left:?}"
    );
    let mut process = std::mem::ManuallyDrop::into_inner(process);
    match process.wait_timeout(Duration::from_secs(5)) {
        Ok(end) => assert_eq!(end.ok_or("it has ended")?.reason(), Reason::Signaled(Signal::KILL)),
        Err(error) => assert_eq!(error.kind(), ErrorKind::State),
    }
    drop(process);
    leaks.check();
    Ok(())
}

/// A8.6: a program that ignores the end of its children, and reaps whatever it finds, still learns how its containers ended, or is
/// told that nobody knows.
#[test]
fn a8_06_a_host_that_ignores_its_children() -> testkit::Result {
    require!(Root);
    alone!();
    let root = probe_root()?;
    let run = |code: &str| Container::from_rootfs(root.path()).args(["/probe", "exit", code]).stdin(Stdio::null());
    // A shell ignores the signal and executes this program again.
    if std::env::var_os("KEELBOX_TEST_IGNORES").is_none() {
        let script = "trap '' CHLD; exec \"$0\" \"$@\"";
        let out = std::process::Command::new("sh")
            .args(["-c", script])
            .arg(std::env::current_exe()?)
            .args(["--exact", "a8_host::a8_06_a_host_that_ignores_its_children", "--test-threads=1"])
            .env("KEELBOX_TEST_IGNORES", "1")
            .output()?;
        assert!(out.status.success() && String::from_utf8_lossy(&out.stdout).contains("1 passed"), "{out:?}");
        return Ok(());
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let _stolen = waitpid(None, Some(WaitPidFlag::WNOHANG));
                std::thread::yield_now();
            }
        });
        let outcome = (0..rounds(30, 1000)).try_for_each(|_| match run("42").status() {
            Ok(end) if end.reason() == Reason::Exited(42) => Ok(()),
            Ok(end) => Err(format!("it ended otherwise: {end:?}")),
            Err(error) if error.kind() == ErrorKind::State => Ok(()),
            Err(error) => Err(format!("{error:?}")),
        });
        over.store(true, Ordering::Relaxed);
        outcome
    })?;
    Ok(())
}

/// A8.5: a container changes nothing of the program that runs it even when it fails to start, in whichever step.
#[test]
fn a8_05_failures_change_nothing_of_the_host() -> testkit::Result {
    require!(Root);
    alone!();
    let root = probe_root()?;
    let run =
        || Container::from_rootfs(root.path()).args(["/probe", "true"]).stdin(Stdio::null()).stdout(Stdio::null());
    run().status()?;
    let leaks = LeakCheck::begin();
    let failing = [
        run().args(["/missing"]).oom_score_adj(500),
        run().current_dir("/missing").umask(0o77),
        run().bind("/nowhere", "/x").hostname("x"),
        run().rlimit(keelbox::Resource::Descriptors, u64::MAX, u64::MAX),
        run().sysctl("net.ipv4.ip_forward", "many"),
        run().user("nemo"),
    ];
    for container in failing {
        container.clone().status().expect_err("it cannot start");
        let Ok(built) = container.build() else { continue };
        built.template().and_then(|template| template.run().status()).expect_err("it cannot start");
    }
    leaks.check();
    Ok(())
}

/// A8.1, A8.7: threads that come and go start containers and named ones; each outlives its thread, and no thread is elsewhere after.
#[test]
fn a8_01_a8_07_threads_that_come_and_go() -> testkit::Result {
    require!(Root);
    alone!();
    let (root, states) = (probe_root()?, tempfile::tempdir()?);
    let runtime = Runtime::at(states.path().join("states"));
    let place = || {
        ["mnt", "net", "pid", "uts", "ipc", "user"]
            .map(|kind| std::fs::read_link(format!("/proc/thread-self/ns/{kind}")).ok())
    };
    let before = place();
    let mut running = Vec::new();
    for number in 0..8 {
        let container = Container::from_rootfs(root.path()).args(["/probe", "sleep", "60000"]).stdin(Stdio::null());
        let (runtime, before) = (runtime.clone(), before.clone());
        let work = move || -> keelbox::Result<_> {
            let process = container.clone().spawn()?;
            process.exec(["/probe", "true"]).status()?;
            let handle = runtime.create(&container.build()?, format!("thread-{number}"))?;
            handle.start()?;
            handle.exec(["/probe", "true"]).status()?;
            let moved = ["mnt", "net", "pid", "uts", "ipc", "user"]
                .map(|kind| std::fs::read_link(format!("/proc/thread-self/ns/{kind}")).ok());
            assert_eq!(moved, before, "the thread is elsewhere");
            Ok((process, handle))
        };
        running.push(std::thread::spawn(work).join().expect("no panic")?);
    }
    std::thread::sleep(Duration::from_millis(100));
    for (mut process, handle) in running {
        assert_eq!(process.try_wait()?, None, "it went with its thread");
        assert_eq!(handle.status(), keelbox::Status::Running);
        handle.delete_force()?;
    }
    assert_eq!(place(), before);
    Ok(())
}

/// A8.3: threads that open descriptors all the time, which stay open on execution, and a program that closes what it does not know.
#[test]
fn a8_03_descriptors_that_come_and_go() -> testkit::Result {
    require!(Root);
    alone!();
    let root = probe_root()?;
    let over = AtomicBool::new(false);
    let directory = std::fs::File::open("/")?;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let many: Vec<_> = (0..8).map(|_| nix::unistd::dup(directory.as_fd())).collect();
                    drop(many);
                }
            });
        }
        let outcome = (0..rounds(40, 2000)).try_for_each(|_| {
            let out = Container::from_rootfs(root.path())
                .args(["/probe", "fds"])
                .output()
                .map_err(|error| format!("{error:?}"))?;
            let count = out.text().lines().count();
            if count == 3 { Ok(()) } else { Err(format!("{}", out.text())) }
        });
        over.store(true, Ordering::Relaxed);
        outcome
    })?;
    Ok(())
}

/// A8.1: the death signal of a container is its program's death, not that of the thread that waits for it.
#[test]
fn a8_01_who_waits_may_end() -> testkit::Result {
    require!(Root);
    let root = probe_root()?;
    let process = Container::from_rootfs(root.path()).args(["/probe", "sleep", "300"]).stdin(Stdio::null()).spawn()?;
    let mut process = std::thread::spawn(move || {
        let mut process = process;
        let none = process.wait_timeout(Duration::from_millis(20));
        none.map(|end| (process, end))
    })
    .join()
    .expect("no panic")?
    .0;
    let mut end = None;
    wait_for("the end", || {
        end = process.try_wait().expect("it can be asked");
        end.is_some()
    });
    assert_eq!(end.map(|end| end.reason()), Some(Reason::Exited(0)));
    Ok(())
}
