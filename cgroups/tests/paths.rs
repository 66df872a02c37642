//! Groups at a path that somebody else names: in every hierarchy, beside what is there already, and gone again as far as they were made.
//!
//! Needs root; runs on v1, v2 and hybrid hosts.

#![allow(clippy::unwrap_used, reason = "the helpers here are part of tests")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Held, Shell, assert_gone, delete, name, read, skip};
use keelbox_cgroups::{ErrorKind, Existing, Group, Hierarchy, Layout, Limits, Parent, Reach};

/// A group as an engine wants it, or nothing if this user cannot have one.
fn placed(test: &str, path: &str) -> Option<Held> {
    if !nix::unistd::geteuid().is_root() || Hierarchy::detect().unwrap().layout() == Layout::None {
        skip(test, "not root, or no cgroups", true);
        return None;
    }
    Some(placed_with(path, Existing::Adopted).unwrap().into())
}

fn placed_with(path: &str, existing: Existing) -> Result<Group, keelbox_cgroups::Error> {
    Group::builder(path).parent(Parent::Root).reach(Reach::All).existing(existing).create()
}

/// The directories of `path` below each mount point.
fn everywhere(path: &str) -> Vec<PathBuf> {
    let host = Hierarchy::detect().unwrap();
    host.unified().into_iter().chain(host.legacy()).map(|mount| mount.mount_point().join(path)).collect()
}

#[test]
fn it_is_in_every_hierarchy_and_goes_with_what_was_made_for_it() {
    let (outer, path) = (name("everywhere"), format!("{}/mid/leaf", name("everywhere")));
    let Some(group) = placed("everywhere", &path) else { return };
    assert_eq!(group.directories(), everywhere(&path));
    let made = group.directories_made();
    assert_eq!(made.len(), 3 * everywhere(&path).len());
    for directory in everywhere(&outer) {
        assert!(made.contains(&directory));
    }
    // The offered controllers are at hand, so that whoever reads the statistics finds them.
    let host = Hierarchy::detect().unwrap();
    if let Some(mount) = host.unified() {
        let controllers = |path: &Path| fs::read_to_string(path.join("cgroup.controllers")).unwrap();
        assert_eq!(controllers(&mount.mount_point().join(&path)), controllers(mount.mount_point()));
    }
    delete(group);
    assert_gone(&everywhere(&outer));
}

#[test]
fn another_program_removes_as_much_as_was_made() {
    let (outer, path) = (name("remade"), format!("{}/mid/leaf", name("remade")));
    if placed("remade", &path).is_none() {
        return;
    }
    let outside: Held = placed_with(&outer, Existing::Refused).unwrap().into();
    let group = placed_with(&path, Existing::Adopted).unwrap().keep();
    let (directories, made) = (group.directories(), group.directories_made());
    assert_eq!(made.len(), 2 * directories.len(), "mid and leaf");
    drop(group);
    let again = Group::from_directories(&directories).unwrap().made(&made);
    assert_eq!(again.directories(), directories);
    assert_eq!(again.directories_made(), made);
    again.delete().unwrap();
    assert_gone(&everywhere(&format!("{outer}/mid")));
    assert!(everywhere(&outer).iter().all(|path| path.exists()));
    delete(outside);
}

#[test]
fn what_was_there_is_used_and_stays() {
    let path = name("adopted");
    let Some(owner) = placed("adopted", &path) else { return };
    assert_eq!(placed_with(&path, Existing::Refused).unwrap_err().kind(), ErrorKind::AlreadyExists);
    for again in [false, true] {
        let mut group = placed_with(&path, Existing::Adopted).unwrap();
        assert!(group.directories_made().is_empty());
        if again {
            group = Group::from_directories(group.directories()).unwrap().made(group.directories_made());
        }
        // What the processes have made in it is theirs, and goes.
        let inner = group.directories()[0].join("inner");
        fs::create_dir(&inner).unwrap();
        group.delete().unwrap();
        assert!(!inner.exists());
        assert!(everywhere(&path).iter().all(|path| path.exists()));
    }
    delete(owner);
}

#[test]
fn an_occupied_group_is_refused_by_name() {
    let path = name("occupied");
    let Some(owner) = placed("occupied", &path) else { return };
    let shell = Shell::new("true");
    owner.add(shell.pid()).unwrap();
    let error = placed_with(&path, Existing::Adopted).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    let text = error.to_string();
    assert!(text.contains(&path) && text.contains(&format!("process {} is in it", shell.pid())), "{text}");
    assert!(owner.directories().iter().all(|path| path.exists()), "it was not ours");
}

#[test]
fn a_frozen_group_and_one_below_it_are_refused_by_name() {
    let path = name("frozen");
    let Some(owner) = placed("frozen", &path) else { return };
    owner.freeze().unwrap();
    for path in [path.clone(), format!("{path}/below")] {
        let error = placed_with(&path, Existing::Adopted).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert!(error.to_string().contains(&format!("{path}: it is frozen")), "{error}");
    }
    assert!(everywhere(&format!("{path}/below")).iter().all(|path| !path.exists()));
    owner.thaw().unwrap();
    delete(owner);
}

#[test]
fn a_group_can_be_given_away() {
    let path = name("given");
    let Some(group) = placed("given", &path) else { return };
    if Hierarchy::detect().unwrap().unified().is_none() {
        skip("given", "no cgroup2 tree", true);
        return;
    }
    use std::os::unix::fs::MetadataExt;
    let directory = &group.directories()[0];
    let owner = |file: &str| fs::metadata(directory.join(file)).unwrap().uid();
    group.chown(12_345).unwrap();
    for file in [".", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
        assert_eq!(owner(file), 12_345, "{file}");
    }
    assert_eq!(owner("cgroup.max.depth"), 0, "limits stay the caller's");
    delete(group);
}

#[test]
fn a_controller_that_the_host_does_not_offer_is_an_error() {
    let path = name("stranger");
    let Some(group) = placed("stranger", &path) else { return };
    if Hierarchy::detect().unwrap().unified().is_none() {
        skip("stranger", "no cgroup2 tree", true);
        return;
    }
    let error = group.update(&Limits::new().unified("nothing.max", "1")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("cannot use the nothing controller"), "{error}");
    // A file that we do not know, of a group that has it, is written all the same.
    group.update(&Limits::new().unified("cgroup.max.depth", "7")).unwrap();
    assert_eq!(read(&group, "cgroup.max.depth").as_deref(), Some("7"));
    delete(group);
}
