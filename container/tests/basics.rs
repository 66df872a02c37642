//! The first programs a user writes, as root: they run, are limited, end as values, and leave nothing behind.

use std::io::{BufRead, BufReader, Read, Write};
use std::time::Duration;

use keelbox::{Container, ErrorKind, Limits, MIB, Reason, Signal, Stdio, Terminal};
use keelbox_testkit::{self as testkit, require};

#[test]
fn a_command_in_a_root_file_system() -> testkit::Result {
    require!(Root);
    let root = testkit::busybox_root()?;
    let out = Container::from_rootfs(root.path()).args(["echo", "hi"]).output()?;
    assert!(out.status.success());
    assert_eq!(out.stdout, b"hi\n");
    Ok(())
}

#[test]
fn limits_and_how_it_ended() -> testkit::Result {
    require!(Root, Cgroup("memory"), Cgroup("pids"));
    let root = testkit::probe_root()?;
    let run = || Container::from_rootfs(root.path()).memory(64 * MIB).pids(32);
    let end = run().args(["/probe", "exit", "7"]).status()?;
    assert_eq!(end.reason(), Reason::Exited(7));
    let end = run().swap(0).args(["/probe", "alloc", "256"]).status()?;
    assert_eq!(end.reason(), Reason::OutOfMemory, "{end:?}");
    assert!(end.usage().peak_memory > 60 * MIB);
    let end = run().time_limit(Duration::from_millis(200)).args(["/probe", "sleep", "100000"]).status()?;
    assert_eq!(end.reason(), Reason::TimeLimit);
    Ok(())
}

#[test]
fn a_running_process_is_streamed_and_looked_at() -> testkit::Result {
    require!(Root, Cgroup("memory"), Cgroup("freezer"));
    let root = testkit::busybox_root()?;
    let script = "echo one; echo two; read line; echo got $line; sleep 1000";
    let mut process = Container::from_rootfs(root.path())
        .args(["sh", "-c", script])
        .memory(64 * MIB)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
    assert_eq!(lines.next().expect("a line")?, "one");
    process.stdin.take().expect("piped").write_all(b"x\n")?;
    assert_eq!(lines.nth(1).expect("a line")?, "got x");
    let ls = process.exec(["sh", "-c", "hostname; ps | wc -l; cat /proc/self/cgroup; id -u"]).output()?;
    assert!(ls.status.success(), "{ls:?}");
    println!("{}", ls.text());
    assert!(process.stats()?.memory.current.is_some());
    process.update(&Limits::new().memory(512 * MIB))?;
    process.pause()?;
    process.resume()?;
    let end = process.stop(Duration::from_millis(100))?;
    assert_eq!(end.reason(), Reason::Signaled(Signal::KILL));
    Ok(())
}

#[test]
fn a_terminal() -> testkit::Result {
    require!(Root);
    let root = testkit::busybox_root()?;
    let mut shell = Container::from_rootfs(root.path())
        .args(["sh", "-c", "stty size; tty; read x; stty size"])
        .terminal(Terminal::size(24, 80))
        .spawn()?;
    let mut tty = shell.terminal().expect("a terminal");
    let mut seen = [0u8; 64];
    let length = tty.read(&mut seen)?;
    assert!(seen[..length].starts_with(b"24 80"), "{:?}", String::from_utf8_lossy(&seen));
    tty.resize(40, 120)?;
    tty.write_all(b"\n")?;
    let mut rest = String::new();
    tty.read_to_string(&mut rest)?;
    assert!(rest.contains("40 120"), "{rest:?}");
    assert!(shell.wait()?.success());
    Ok(())
}

#[test]
fn errors_say_step_object_cause() -> testkit::Result {
    require!(Root);
    let root = testkit::busybox_root()?;
    let error = Container::from_rootfs("/nowhere").args(["sh"]).output().expect_err("no such root");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.report(), "cannot open root file system /nowhere: No such file or directory");
    let error = Container::from_rootfs(root.path()).args(["nothing"]).output().expect_err("no such program");
    assert_eq!(error.kind(), ErrorKind::ProgramNotFound);
    assert_eq!(error.report(), "cannot execute nothing: executable file not found in $PATH");
    let error = Container::from_rootfs(root.path()).args(["/etc"]).output().expect_err("a directory");
    assert_eq!(error.kind(), ErrorKind::NotExecutable, "{error:?}");
    let error =
        Container::from_rootfs(root.path()).args(["sh"]).current_dir("/missing").output().expect_err("no directory");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    let error = Container::from_rootfs(root.path()).args(["sh"]).user("nobody-here").output().expect_err("no user");
    assert_eq!(error.kind(), ErrorKind::UnknownUser, "{error:?}");
    Ok(())
}
