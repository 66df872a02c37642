//! Further programs in a running container: who and where they are, what limits them, what they see, and what sees them.

mod common;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use keelbox::{Container, ErrorKind, Kind, MIB, Process, Profile, Reason, Signal, Stdio, Terminal};
use keelbox_testkit::{self as testkit, require};

fn sleeping(root: &std::path::Path) -> Container {
    Container::from_rootfs(root).args(["/probe", "sleep", "600000"]).env("FROM", "container").hostname("box")
}

#[test]
fn it_is_as_the_container_is_until_told_otherwise() -> testkit::Result {
    require!(Root, Program("busybox"));
    let root = common::root()?;
    let process = sleeping(root.path()).user("user").current_dir("/tmp").spawn()?;
    let run = |script: &str| process.exec(["sh", "-c", script]).output();
    assert_eq!(run("id -u; pwd; hostname; echo $FROM")?.text(), "1000\n/tmp\nbox\ncontainer\n");
    let out = process
        .exec(["sh", "-c", "id -u; pwd; echo $FROM"])
        .user("0:2000")
        .current_dir("/etc")
        .env("FROM", "me")
        .output()?;
    assert_eq!(out.text(), "0\n/etc\nme\n");
    assert_eq!(
        process.exec(["/probe", "id"]).user("user").output()?.text(),
        "uid 1000 1000 1000\ngid 1000 1000 1000\ngroups 1000 2000\n"
    );
    assert_eq!(run("exit 7")?.status.reason(), Reason::Exited(7));
    assert_eq!(run("kill -9 $$")?.status.reason(), Reason::Signaled(Signal::KILL), "it is not the first process");
    let out = process.exec(["cat"]).stdin("fed").output()?;
    assert_eq!(out.text(), "fed");
    // The same namespaces, all of them, and a process number of the container's own.
    for kind in ["mnt", "pid", "net", "ipc", "uts", "cgroup", "user"] {
        let link = format!("/proc/self/ns/{kind}");
        let own = process.exec(["readlink", &link]).output()?;
        let first = std::fs::read_link(format!("/proc/{}/ns/{kind}", process.id()))?;
        assert_eq!(own.text().trim(), first.to_string_lossy(), "{kind}");
    }
    let pid: u32 = process.exec(["/probe", "pid"]).output()?.text().trim().parse()?;
    assert!(pid > 1 && pid < 1000, "{pid}");
    Ok(())
}

/// What the container may not, its further programs may not either (CVE-2022-29162, CVE-2025-27612).
#[test]
fn it_has_no_more_privileges_than_the_container() -> testkit::Result {
    require!(Root, Seccomp);
    let root = testkit::probe_root()?;
    for profile in [Profile::Ordinary, Profile::Hostile, Profile::Trusted] {
        for user in ["0", "1000"] {
            let status = |text: &str| {
                let keys =
                    ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:", "Seccomp:", "Groups:"];
                keys.map(|key| format!("{key} {}", common::value(text, key))).join("\n")
            };
            let own = Container::from_rootfs(root.path())
                .profile(profile)
                .user(user)
                .args(["/probe", "cat", "/proc/self/status"])
                .output()?;
            let process = sleeping(root.path()).profile(profile).user(user).spawn()?;
            let further = process.exec(["/probe", "cat", "/proc/self/status"]).output()?;
            assert_eq!(status(&further.text()), status(&own.text()), "{profile:?} as {user}");
            assert_eq!(common::value(&own.text(), "CapInh:"), "0000000000000000");
            assert_eq!(common::value(&own.text(), "CapAmb:"), "0000000000000000");
            if user == "1000" {
                assert_eq!(common::value(&further.text(), "CapEff:"), "0000000000000000");
            }
        }
    }
    Ok(())
}

#[test]
fn it_is_in_the_control_group_and_under_its_limits() -> testkit::Result {
    require!(Root, Cgroup("memory"), Cgroup("pids"));
    let root = testkit::probe_root()?;
    let process = sleeping(root.path()).memory(64 * MIB).swap(0).pids(16).spawn()?;
    // Without a cgroup namespace around the reader, from outside: the same groups.
    let mut further = process.exec(["/probe", "sleep", "600000"]).stdout(Stdio::null()).spawn()?;
    let groups = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/cgroup"));
    let (first, second) = (groups(process.id())?, groups(further.id())?);
    // A controller that no v1 hierarchy has is in the one of v2, whose line begins with 0.
    let of = |text: &str, name: &str| {
        let legacy = text.lines().find(|line| line.contains(name));
        legacy.or_else(|| text.lines().find(|line| line.starts_with("0::"))).map(str::to_owned)
    };
    for controller in [":memory:", ":pids:"] {
        assert_eq!(of(&second, controller), of(&first, controller));
        assert!(of(&second, controller).expect("a line").contains("keelbox"), "{second}");
    }
    further.kill()?;
    assert_eq!(further.wait()?.reason(), Reason::Signaled(Signal::KILL));
    let out = process.exec(["/probe", "forkbomb", "100"]).output()?;
    let forked: u32 = common::value(&out.text(), "forked").parse()?;
    assert!(forked < 16 && out.text().contains("errno 11"), "{out:?}");
    let end = process.exec(["/probe", "alloc", "128"]).output()?;
    assert!(!end.status.success(), "{end:?}");
    Ok(())
}

#[test]
fn a_terminal_of_its_own() -> testkit::Result {
    require!(Root, Tty, Program("busybox"));
    let root = common::root()?;
    let process = sleeping(root.path()).spawn()?;
    let mut shell =
        process.exec(["sh", "-c", "stty size; tty; read x; stty size"]).terminal(Terminal::size(7, 9)).spawn()?;
    let mut tty = shell.terminal().expect("a terminal");
    let mut first = [0; 3];
    tty.read_exact(&mut first)?;
    assert_eq!(&first, b"7 9");
    tty.resize(8, 10)?;
    tty.write_all(b"\n")?;
    let mut rest = String::new();
    tty.read_to_string(&mut rest)?;
    assert!(shell.wait()?.success(), "{rest:?}");
    assert!(rest.contains("/dev/pts/0") && rest.ends_with("8 10\r\n"), "{rest:?}");
    Ok(())
}

#[test]
fn into_a_paused_container_is_an_error_and_no_hang() -> testkit::Result {
    require!(Root, Cgroup("freezer"));
    let root = testkit::probe_root()?;
    let process = sleeping(root.path()).control_group().spawn()?;
    process.pause()?;
    let begun = Instant::now();
    let error = process.exec(["/probe", "true"]).output().expect_err("it is paused");
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ErrorKind::State, "cannot execute in the container: it is paused")
    );
    assert!(begun.elapsed() < Duration::from_secs(2));
    process.resume()?;
    assert!(process.exec(["/probe", "true"]).output()?.status.success());
    Ok(())
}

#[test]
fn after_the_container_ended() -> testkit::Result {
    require!(Root);
    let root = testkit::probe_root()?;
    let mut process = Container::from_rootfs(root.path()).args(["/probe", "true"]).spawn()?;
    // Ended but not waited for, and then waited for.
    std::thread::sleep(Duration::from_millis(100));
    assert!(process.exec(["/probe", "true"]).output().is_err());
    process.wait()?;
    let error = process.exec(["/probe", "true"]).output().expect_err("it has ended");
    assert_eq!(error.kind(), ErrorKind::State);
    Ok(())
}

/// A container does not end before its further programs are reaped; whoever waits for it does that as well.
#[test]
fn handles_may_be_waited_for_in_any_order() -> testkit::Result {
    require!(Root);
    let root = testkit::probe_root()?;
    let start = || -> testkit::Result<(Process, Vec<Process>)> {
        let process = sleeping(root.path()).spawn()?;
        let further = (0..3).map(|_| process.exec(["/probe", "sleep", "600000"]).spawn()).collect::<Result<_, _>>()?;
        Ok((process, further))
    };
    let killed = Reason::Signaled(Signal::KILL);
    let (mut process, mut further) = start()?;
    process.kill()?;
    assert_eq!(process.wait_timeout(Duration::from_secs(10))?.expect("it ends").reason(), killed);
    for further in &mut further {
        assert_eq!(further.wait()?.reason(), killed);
    }
    let (process, mut further) = start()?;
    drop(process);
    assert_eq!(further.pop().expect("one of three").wait()?.reason(), killed);
    drop(further);
    let (mut process, further) = start()?;
    let waiting = std::thread::spawn(move || {
        further.into_iter().map(|mut further| further.wait()).collect::<Result<Vec<_>, _>>()
    });
    std::thread::sleep(Duration::from_millis(50));
    process.stop(Duration::ZERO)?;
    assert!(waiting.join().expect("no panic")?.iter().all(|end| end.reason() == killed));
    let (mut process, _further) = start()?;
    assert!(process.exec(["/no/such/program"]).output().is_err());
    process.kill()?;
    assert!(process.wait_timeout(Duration::from_secs(10))?.is_some());
    Ok(())
}

#[test]
fn a_hundred_at_once() -> testkit::Result {
    require!(Root, Cgroup("pids"));
    let root = testkit::probe_root()?;
    let process = sleeping(root.path()).pids(512).spawn()?;
    std::thread::scope(|scope| {
        for worker in 0..10 {
            let process = &process;
            scope.spawn(move || {
                for turn in 0..10 {
                    let word = format!("{worker}.{turn}");
                    let out = process.exec(["/probe", "args", &word]).output().expect("it runs");
                    assert!(out.text().ends_with(&format!("{word}\n")), "{out:?}");
                }
            });
        }
    });
    Ok(())
}

#[test]
fn time_limits_end_the_program_alone() -> testkit::Result {
    require!(Root);
    let root = testkit::probe_root()?;
    let mut process = sleeping(root.path()).spawn()?;
    let out = process.exec(["/probe", "sleep", "600000"]).time_limit(Duration::from_millis(50)).output()?;
    assert_eq!(out.status.reason(), Reason::TimeLimit);
    // A child that holds the pipe does not hold the call.
    let begun = Instant::now();
    process.exec(["/probe", "orphan", "600000"]).time_limit(Duration::from_millis(50)).output()?;
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(process.try_wait()?, None, "the container goes on");
    Ok(())
}

/// Nothing of the host can be reached through a further program that is just starting (CVE-2016-9962): the container looks at
/// every process that appears, all the time.
#[test]
fn nothing_is_seen_of_the_host_while_it_starts() -> testkit::Result {
    require!(Root, Program("busybox"), Cgroup("pids"));
    let root = common::root()?;
    let race = "while :; do for link in /proc/[0-9]*/fd/* /proc/[0-9]*/cwd /proc/[0-9]*/root /proc/[0-9]*/exe; do \
                echo $link $(readlink $link); done; done";
    for profile in [Profile::Ordinary, Profile::Hostile] {
        let mut process = Container::from_rootfs(root.path())
            .profile(profile)
            .no_seccomp()
            .pids(64)
            .args(["sh", "-c", race])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut pipe = process.stdout.take().expect("piped");
        let looks = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&looks);
        let reader = std::thread::spawn(move || {
            let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
            while let length @ 1.. = pipe.read(&mut buffer)? {
                let lines = buffer[..length].iter().filter(|byte| **byte == b'\n').count();
                counted.fetch_add(lines, Ordering::Relaxed);
                text.extend_from_slice(&buffer[..length]);
            }
            Ok::<_, std::io::Error>(String::from_utf8_lossy(&text).into_owned())
        });
        let begun = Instant::now();
        let enough = |looks: usize| looks > 100 && begun.elapsed() > Duration::from_secs(3);
        while !enough(looks.load(Ordering::Relaxed)) && begun.elapsed() < Duration::from_secs(30) {
            assert!(process.exec(["/probe", "true"]).output()?.status.success());
        }
        process.kill()?;
        process.wait()?;
        let text = reader.join().expect("no panic")?;
        let seen: BTreeSet<&str> =
            text.lines().filter_map(|line| line.split_once(' ')).map(|(_, target)| target.trim()).collect();
        assert!(text.lines().count() > 100, "{text}");
        let usual = |target: &&&str| {
            let kinds = ["pipe:[", "/proc", "/dev/null", "/probe", "/bin/busybox", "socket:["];
            **target == "/" || target.is_empty() || kinds.iter().any(|kind| target.starts_with(kind))
        };
        let strange: Vec<_> = seen.iter().filter(|target| !usual(target)).collect();
        assert!(strange.is_empty(), "{profile:?}: {strange:?}");
    }
    Ok(())
}

#[test]
fn into_a_container_with_a_user_namespace() -> testkit::Result {
    require!(Root, UserNamespace);
    let root = testkit::probe_root()?;
    let process = sleeping(root.path()).unshare(Kind::User).spawn()?;
    let out = process.exec(["/probe", "id"]).output()?;
    assert!(out.text().starts_with("uid 0 0 0\ngid 0 0 0\n"), "{out:?}");
    let own = std::fs::read_link(format!("/proc/{}/ns/user", process.id()))?;
    let out = process.exec(["/probe", "readlink", "/proc/self/ns/user"]).output()?;
    assert_eq!(out.text().trim(), own.to_string_lossy());
    Ok(())
}
