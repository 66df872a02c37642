//! The life of groups with real processes in them. Needs root, or a delegated subtree; runs on v1, v2 and hybrid hosts.
//!
//! The binary does not depend on its working directory, so it can be started in a virtual machine as it is.

mod common;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use common::{Shell, assert_gone, cgroups_of, delete, group, has, name, skip, until};
use keelbox_cgroups::{Controller, ErrorKind, Event, Group, Hierarchy, Layout, Limits, MIB, Parent, gc};

#[test]
fn freezing_stops_a_counter() {
    let Some(group) = group("freeze", &Limits::new(), &[]) else {
        return;
    };
    let mut shell = Shell::new("while :; do echo x; done");
    group.add(shell.pid()).unwrap();
    let mut stdout = shell.0.stdout.take().unwrap();
    let count = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counter = std::sync::Arc::clone(&count);
    let reader = std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = std::io::Read::read(&mut stdout, &mut buffer) {
            counter.fetch_add(length as u64, std::sync::atomic::Ordering::SeqCst);
        }
    });
    let now = || count.load(std::sync::atomic::Ordering::SeqCst);
    shell.go();
    until("output", || now() > 0);
    for _ in 0..3 {
        assert!(!group.is_frozen().unwrap() && !Group::is_frozen_in(group.directories()).unwrap());
        group.freeze().unwrap();
        assert!(group.is_frozen().unwrap() && Group::is_frozen_in(group.directories()).unwrap());
        std::thread::sleep(Duration::from_millis(20));
        let still = now();
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(now(), still, "a frozen process wrote something");
        group.thaw().unwrap();
        assert!(!group.is_frozen().unwrap());
        until("more output", || now() > still);
    }
    group.freeze().unwrap();
    group.kill().unwrap();
    assert_eq!(shell.code(), 137, "killed while frozen");
    reader.join().unwrap();
    delete(group);
}

#[test]
fn kill_reaches_everything_and_delete_leaves_nothing() {
    let needs = if has(Controller::Pids) { Limits::new().pids(100) } else { Limits::new() };
    let Some(group) = group("kill", &needs, &[]) else {
        return;
    };
    assert_eq!(group.processes().unwrap(), []);
    assert!(group.wait_empty(Duration::ZERO).unwrap());
    // Children, grandchildren that lost their parent, one that ignores signals, and one that keeps forking.
    let script = "for i in 1 2 3 4 5; do sleep 1000 & done; (sleep 1000 & sleep 1000 &) ; trap '' TERM INT HUP; \
        (while :; do (exit 0); done) & echo ready; wait";
    let mut shell = Shell::new(script);
    group.add(shell.pid()).unwrap();
    shell.go();
    assert_eq!(shell.line(), "ready");
    until("eight of them", || group.processes().unwrap().len() >= 8);
    // A group below, with a process of its own.
    let inner: Vec<_> = group.directories().iter().map(|path| path.join("below")).collect();
    for path in &inner {
        std::fs::create_dir(path).unwrap();
    }
    let nested = Group::from_directories(&inner).unwrap();
    let mut lower = Shell::new("exec sleep 1000");
    nested.add(lower.pid()).unwrap();
    lower.go();
    assert!(group.processes().unwrap().contains(&lower.pid()));
    let error = group.delete_within(Duration::from_millis(50)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(error.to_string().contains("are in it"), "{error}");
    group.kill().unwrap();
    assert_eq!(group.processes().unwrap(), []);
    assert_eq!((shell.code(), lower.code()), (137, 137));
    delete(group);
    assert_gone(&inner);
}

#[test]
fn delete_waits_for_the_last_process() {
    let Some(group) = group("wait", &Limits::new(), &[]) else {
        return;
    };
    let mut shell = Shell::new("sleep 0.3");
    group.add(shell.pid()).unwrap();
    assert!(!group.wait_empty(Duration::from_millis(20)).unwrap());
    shell.go();
    let paths = group.directories();
    let began = std::time::Instant::now();
    group.delete().unwrap();
    assert!(began.elapsed() >= Duration::from_millis(200), "it was there for 0.3 s");
    assert_gone(&paths);
    assert_eq!(shell.code(), 0, "it was not killed");
    group.delete().unwrap();
}

#[test]
fn dropping_removes_what_was_made_and_only_that() {
    let Some(first) = group("drop", &Limits::new(), &[]) else {
        return;
    };
    let paths = first.directories();
    drop(Group::open(name("drop")).unwrap());
    assert!(paths[0].exists(), "an opened group stays");
    let error = Group::create(name("drop"), &Limits::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(paths[0].exists(), "the group that was in the way stays");
    drop(first);
    assert_gone(&paths);
    let kept = Group::create(name("drop"), &Limits::new()).unwrap().keep();
    drop(kept);
    delete(Group::from_directories(&paths).unwrap());
    assert_eq!(Group::from_directories(&paths).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(Group::open(name("drop")).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_group_of_the_same_name_is_not_ours() {
    let Some(group) = group("twin", &Limits::new(), &[]) else {
        return;
    };
    let path = group.directories()[0].clone();
    std::fs::remove_dir(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    group.delete().unwrap();
    assert!(path.exists(), "somebody else made it");
    std::fs::remove_dir(&path).unwrap();
}

#[test]
fn levels_above_come_and_go_with_the_group() {
    let path = format!("{}/b/c", name("deep"));
    let limits = if has(Controller::Pids) { Limits::new().pids(5) } else { Limits::new() };
    let group = match Group::create(&path, &limits) {
        Ok(group) => group,
        Err(error) => {
            return skip("deep", &error.to_string(), Hierarchy::detect().unwrap().layout() == Layout::None);
        }
    };
    let mut paths = group.directories();
    let above: Vec<_> = paths.iter().flat_map(|path| path.ancestors().skip(1).take(2)).map(Into::into).collect();
    paths.extend::<Vec<std::path::PathBuf>>(above);
    assert!(paths.iter().all(|path| path.exists()));
    group.delete().unwrap();
    assert_gone(&paths);
    // A failed creation leaves nothing either, not even the levels above.
    let limits = Limits::new().unified("memory.nonsense", "1").legacy("memory.nonsense", "1").best_effort();
    let group = Group::create(&path, &limits);
    if let Ok(group) = group {
        assert_eq!(group.applied().set, []);
        assert_eq!(group.applied().skipped.len(), 2);
    }
    assert_gone(&paths);
    for limits in [Limits::new().unified("memory.nonsense", "1"), Limits::new().legacy("memory.nonsense", "1")] {
        let error = Group::create(&path, &limits).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert_gone(&paths);
    }
}

#[test]
fn only_the_needed_hierarchies_are_touched() {
    let host = Hierarchy::detect().unwrap();
    let Some(group) = group("few", &Limits::new().pids(3), &[Controller::Pids]) else {
        return;
    };
    let legacy = usize::from(host.legacy().iter().any(|mount| mount.controllers().contains(&Controller::Pids)));
    let expected = usize::from(host.unified().is_some()) + legacy;
    assert_eq!(group.directories().len(), expected);
    assert_eq!(group.tasks_files().unwrap().len(), legacy);
    assert_eq!(group.procs_files().unwrap().len(), legacy);
    assert_eq!(group.directory().is_some(), host.unified().is_some());
    if has(Controller::Memory) {
        // A limit for another controller joins it, with the processes.
        let shell = Shell::new("true");
        group.add(shell.pid()).unwrap();
        group.update(&Limits::new().memory(64 * MIB)).unwrap();
        assert_eq!(group.stats().unwrap().memory.limit, Some(64 * MIB));
        assert!(
            cgroups_of(shell.pid()).lines().filter(|line| line.contains(&name("few"))).count()
                >= group.directories().len()
        );
        drop(shell);
    }
    delete(group);
}

#[test]
fn a_launcher_thread_gives_birth_inside() {
    let limits = Limits::new().pids(50);
    let Some(group) = group("thread", &limits, &[Controller::Pids]) else {
        return;
    };
    let files = group.tasks_files().unwrap();
    if files.is_empty() {
        delete(group);
        return skip("thread", "the pids controller is v2 here, which moves whole processes", true);
    }
    let group = std::sync::Arc::new(group);
    let inside = std::sync::Arc::clone(&group);
    let launcher = std::thread::spawn(move || {
        for mut file in files {
            std::io::Write::write_all(&mut file, b"0").unwrap();
        }
        let mut command = std::process::Command::new("/bin/sleep");
        let child = Shell::spawn(command.arg("1000"));
        // The calling process is inside with one thread; it is neither killed nor frozen.
        inside.kill().unwrap();
        child
    });
    let mut child = launcher.join().unwrap();
    assert_eq!(child.code(), 137);
    assert!(!cgroups_of(std::process::id()).contains(&name("thread")), "the process stayed where it was");
    delete(std::sync::Arc::into_inner(group).unwrap());
}

#[test]
fn gc_sweeps_only_what_is_dead_and_empty() {
    let Some(parent) = group("gc", &Limits::new(), &[]) else {
        return;
    };
    let mut dead = Shell::new("true");
    let pid = dead.pid();
    dead.go();
    dead.code();
    let top = parent.directories()[0].clone();
    let host = Hierarchy::detect().unwrap();
    let mount =
        host.unified().into_iter().chain(host.legacy()).find(|mount| top.starts_with(mount.mount_point())).unwrap();
    let within = top.strip_prefix(mount.mount_point()).unwrap().to_owned();
    let stale = top.join(format!("job-{pid}.000000000001"));
    let full = top.join(format!("full-{pid}.000000000001"));
    let locked = top.join(format!("locked-{pid}.000000000001"));
    let plain = top.join("app-1.2");
    for path in [&stale, &full, &locked, &plain, &stale.join("below")] {
        std::fs::create_dir(path).unwrap();
    }
    let own = Group::builder("own").parent(Parent::Path(within.clone())).owned().create().unwrap();
    let shell = Shell::new("true");
    std::fs::write(full.join("cgroup.procs"), shell.pid().to_string()).unwrap();
    let holder = std::fs::File::open(&locked).unwrap();
    let lock = nix::fcntl::Flock::lock(holder, nix::fcntl::FlockArg::LockShared).unwrap();
    let removed = gc(&Parent::Path(within.clone())).unwrap();
    assert_eq!(removed, [stale], "the dead and empty one, with what was below");
    drop((shell, lock));
    assert!(own.directories()[0].exists() && plain.exists());
    until("the process to leave", || std::fs::read_to_string(full.join("cgroup.procs")).unwrap().is_empty());
    let mut removed = gc(&Parent::Path(within)).unwrap();
    removed.sort();
    assert_eq!(removed, [full, locked]);
    delete(own);
    delete(parent);
}

#[test]
fn misuse_is_refused_before_anything_is_touched() {
    for path in ["/../..", "a/../../b", "a//b", "..", "a\0b", "a\nb", &["x"; 300].join("/")] {
        assert_eq!(Group::create(path, &Limits::new()).unwrap_err().kind(), ErrorKind::InvalidPath, "{path:?}");
        assert_eq!(Group::open(path).unwrap_err().kind(), ErrorKind::InvalidPath);
    }
    let error = Group::create(name("misuse"), &Limits::new().memory(0)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidLimit);
    let error = Group::create(name("misuse"), &Limits::new().unified("../../cgroup.procs", "1")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidLimit);
    assert_eq!(Group::from_directories(["/tmp"]).unwrap_err().kind(), ErrorKind::InvalidPath);
    if let Some(group) = group("misuse", &Limits::new(), &[]) {
        assert_eq!(group.add(0).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(group.add(u32::MAX).unwrap_err().kind(), ErrorKind::Os(22));
        delete(group);
    }
}

/// Through the v1 controller or a program on v2, and again with other rules.
#[test]
fn device_rules_hold() {
    use keelbox_cgroups::devices::{Access, Kind, Rules};
    let Some(group) = group("devices", &Limits::new(), &[]) else {
        return;
    };
    // /dev/null may be used, /dev/zero may not; and then the other way round.
    for (allowed, minor) in [("null", 3), ("zero", 5)] {
        match group.devices(&Rules::new().allow(Kind::Char, Some(1), Some(minor), Access::ALL)) {
            Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::PermissionDenied) => {
                delete(group);
                return skip("devices", &format!("{error}: no v1 controller, and no programs"), true);
            }
            result => result.unwrap(),
        }
        let mut shell = Shell::new(
            "exec 2>&1; true < /dev/null && echo null; true < /dev/zero && echo zero; true < /dev/full && echo full; echo end",
        );
        group.add(shell.pid()).unwrap();
        shell.go();
        let output = std::io::read_to_string(shell.0.stdout.take().unwrap()).unwrap();
        let opened: Vec<&str> = output.lines().filter(|line| !line.contains(' ')).collect();
        assert_eq!(opened, [allowed, "end"], "{output}");
        assert!(output.contains("not permitted"), "{output}");
        assert_eq!(shell.code(), 0);
    }
    let impossible = group.devices(&Rules::new().allow(Kind::Char, Some(4096), None, Access::ALL));
    assert_eq!(impossible.map_err(|error| error.kind()), Err(ErrorKind::InvalidLimit));
    delete(group);
}

#[test]
fn what_a_container_nests_is_found_and_removed() {
    let Some(group) = group("nest", &Limits::new(), &[]) else {
        return;
    };
    let top = group.directories()[0].clone();
    let mut deepest = top.clone();
    for _ in 0..200 {
        deepest.push("d");
        std::fs::create_dir(&deepest).unwrap();
    }
    for wide in 0..50 {
        std::fs::create_dir(top.join(format!("w{wide}"))).unwrap();
    }
    let odd = deepest.join(OsStr::from_bytes(b"not \xff utf-8"));
    std::fs::create_dir(&odd).unwrap();
    let mut shell = Shell::new("exec sleep 1000");
    std::fs::write(odd.join("cgroup.procs"), shell.pid().to_string()).unwrap();
    assert_eq!(group.processes().unwrap(), [shell.pid()]);
    shell.go();
    group.freeze().unwrap();
    group.kill().unwrap();
    assert_eq!(shell.code(), 137);
    delete(group);
}

#[test]
fn coming_and_going_is_watched() {
    let Some(group) = group("watch", &Limits::new(), &[]) else {
        return;
    };
    if group.directory().is_none() {
        let error = group.watch().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        delete(group);
        return skip("watch", "cgroup v1 has no such events", true);
    }
    let mut watch = group.watch().unwrap();
    assert_eq!(watch.next(Some(Duration::from_millis(10))).unwrap(), None);
    let mut next = || watch.next(Some(Duration::from_secs(5))).unwrap();
    let mut shell = Shell::new("true");
    group.add(shell.pid()).unwrap();
    assert_eq!(next(), Some(Event::Populated));
    group.freeze().unwrap();
    assert_eq!(next(), Some(Event::Frozen));
    group.thaw().unwrap();
    assert_eq!(next(), Some(Event::Thawed));
    shell.go();
    assert_eq!(shell.code(), 0);
    assert_eq!(next(), Some(Event::Empty));
    delete(group);
}

#[test]
fn everything_crosses_threads() {
    fn crosses<T: Send + Sync + 'static>() {}
    crosses::<Group>();
    crosses::<keelbox_cgroups::Watch>();
    crosses::<keelbox_cgroups::Error>();
    crosses::<Limits>();
}
