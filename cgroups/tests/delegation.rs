//! Delegated cgroup2 subtrees: an ordinary user in one, the rule about internal processes, and making room.
//!
//! The outer tests are root and start this same binary again, as somebody else and inside a group; the inner tests do nothing unless they are
//! started that way.

#![allow(clippy::unwrap_used, reason = "the helpers here are part of tests")]

mod common;

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Held, Shell, delete, has, name, skip};
use keelbox_cgroups::{Controller, ErrorKind, Group, Hierarchy, Layout, Limits, MIB, Parent, vacate};

const ROLE: &str = "KEELBOX_TEST_ROLE";
const NOBODY: u32 = 65_534;

/// A limit whose controller lives in the cgroup2 tree of this machine.
fn limit() -> Option<Limits> {
    let host = Hierarchy::detect().unwrap();
    let lives_here = |controller: &Controller| {
        has(*controller) && host.find(*controller).is_some_and(|mount| host.unified() == Some(mount))
    };
    let all = [Controller::Memory, Controller::Pids, Controller::Hugetlb];
    Some(match all.into_iter().find(lives_here)? {
        Controller::Memory => Limits::new().memory(64 * MIB),
        Controller::Pids => Limits::new().pids(9),
        _ => Limits::new().hugetlb("2MB", 4 * MIB),
    })
}

/// A cgroup2 group with this machine's controllers enabled for it, or nothing if this machine cannot have one.
fn subtree(test: &str) -> Option<(Held, PathBuf, PathBuf)> {
    let host = Hierarchy::detect().unwrap();
    let Some(limits) = limit() else {
        skip(test, "the cgroup2 tree has no controller", host.layout() != Layout::V2);
        return None;
    };
    match Group::create(name(test), &limits) {
        Ok(group) => {
            let top = host.unified().unwrap().mount_point().to_owned();
            let path = group.directories()[0].clone();
            let within = path.strip_prefix(&top).unwrap().to_owned();
            Some((group.into(), path, within))
        }
        Err(error) => {
            skip(test, &error.to_string(), !nix::unistd::geteuid().is_root());
            None
        }
    }
}

/// Runs one inner test in `group`, as `uid`, and passes on how it ended.
fn run_inside(group: &Path, test: &str, uid: u32) {
    let binary = std::env::current_exe().unwrap();
    let script = "read word; exec \"$0\" --exact \"$1\" --nocapture";
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).arg(binary).arg(test).env(ROLE, test).uid(uid).gid(uid).current_dir("/");
    let mut shell = Shell::spawn(&mut command);
    std::fs::write(group.join("cgroup.procs"), shell.pid().to_string()).unwrap();
    shell.go();
    let output = std::io::read_to_string(shell.0.stdout.take().unwrap()).unwrap();
    let errors = shell.errors();
    assert_eq!(shell.code(), 0, "{test}: {output}{errors}");
    assert!(output.contains("1 passed"), "{test} did not run: {output}");
}

fn is_inner(test: &str) -> bool {
    std::env::var(ROLE).is_ok_and(|role| role == test)
}

#[test]
fn an_ordinary_user_with_a_delegated_subtree() {
    let Some((group, path, _)) = subtree("user") else {
        return;
    };
    let leaf = path.join("session");
    std::fs::create_dir(&leaf).unwrap();
    // What a manager hands over when it delegates: the directory, and the three files that say who is where.
    for directory in [&path, &leaf] {
        chown(directory, Some(NOBODY), Some(NOBODY)).unwrap();
        for file in ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
            chown(directory.join(file), Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
    run_inside(&leaf, "inner_user", NOBODY);
    delete(group);
}

#[test]
fn inner_user() {
    if !is_inner("inner_user") {
        return;
    }
    let limits = limit().expect("the outer test has looked");
    let group = Group::create("job", &limits).unwrap();
    assert_eq!(group.applied().skipped, []);
    let path = group.directories().remove(0);
    let own = Hierarchy::detect().unwrap().unified().unwrap().own().unwrap().to_owned();
    assert_eq!(path.parent(), own.parent(), "beside the leaf we are in, in the delegated group");
    let mut child = Shell::new("exec sleep 1000");
    group.add(child.pid()).unwrap();
    child.go();
    assert_eq!(group.processes().unwrap(), [child.pid()]);
    group.freeze().unwrap();
    group.kill().unwrap();
    assert_eq!(child.code(), 137);
    assert_eq!(Group::open("job").unwrap().directories(), [path]);
    delete(group);
    // Above the delegated group nothing is ours.
    let error = Group::builder("escape").parent(Parent::Root).create().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(error.to_string().contains("delegated"), "{error}");
}

#[test]
fn an_ordinary_user_without_one() {
    let Some((group, path, _)) = subtree("nothing") else {
        return;
    };
    run_inside(&path, "inner_nothing", NOBODY);
    delete(group);
}

#[test]
fn inner_nothing() {
    if !is_inner("inner_nothing") {
        return;
    }
    for limits in [limit().expect("the outer test has looked"), Limits::new()] {
        let error = Group::create("job", &limits).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    }
}

#[test]
fn controllers_are_not_handed_out_of_a_group_with_processes() {
    let Some((group, _, within)) = subtree("internal") else {
        return;
    };
    let limits = limit().expect("subtree has looked");
    let shell = Shell::new("true");
    group.add(shell.pid()).unwrap();
    let parent = Parent::Path(within);
    let error = Group::builder("below").parent(parent.clone()).limits(&limits).create().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InternalProcesses, "{error}");
    // Without a controller the rule does not apply, and in best effort the limit is reported.
    delete(Group::builder("below").parent(parent.clone()).create().unwrap());
    let below = Group::builder("below").parent(parent).limits(&limits.best_effort()).create().unwrap();
    assert_eq!(below.applied().set, []);
    assert!(!below.applied().skipped.is_empty());
    delete(below);
    drop(shell);
    delete(group);
}

#[test]
fn room_is_made_only_when_asked() {
    let Some((group, path, _)) = subtree("room") else {
        return;
    };
    run_inside(&path, "inner_room", 0);
    delete(group);
}

#[test]
fn inner_room() {
    if !is_inner("inner_room") {
        return;
    }
    let own = || Hierarchy::detect().unwrap().unified().unwrap().own().unwrap().to_owned();
    let before = own();
    assert_eq!(vacate("a/b").unwrap_err().kind(), ErrorKind::InvalidPath);
    vacate("supervisor").unwrap();
    assert_eq!(own(), before.join("supervisor"));
    let group = Group::create("job", &limit().expect("the outer test has looked")).unwrap();
    assert_eq!(group.directories()[0], before.join("job"), "where the process was before");
    delete(group);
    // Twice is as good as once, even if nothing is left to move.
    vacate("supervisor").unwrap();
}
