//! A1, races: another container shares a volume or the root file system, and exchanges what names mean all the time.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use keelbox::{Container, ErrorKind, Profile};
use keelbox_testkit::{self as testkit, Racer, alone, probe_root, require};
use serde_json::json;

use crate::common;
use crate::support::{Bundle, Watch, mounts_below, rounds};

/// Runs the same container over and over beside a racer. Both ends have to be seen, or the race did not take place.
fn race(
    racer: &Racer,
    few: usize,
    all: usize,
    mut run: impl FnMut() -> testkit::Result<bool>,
) -> testkit::Result<[usize; 2]> {
    let (mut ends, before) = ([0, 0], racer.turns());
    for _ in 0..rounds(few, all) {
        ends[usize::from(run()?)] += 1;
    }
    assert!(racer.turns() > before, "nobody raced");
    Ok(ends)
}

/// CVE-2021-30465: a tmpfs is mounted in a volume, whose mount point is a link to the host's directory every other moment.
#[test]
fn a1_01_a_mount_point_in_a_shared_volume() -> testkit::Result {
    require!(Root);
    alone!();
    let watch = Watch::begin()?;
    let (root, volume) = (probe_root()?, tempfile::tempdir()?);
    fs::create_dir(volume.path().join("mnt"))?;
    symlink(watch.outside(), volume.path().join("evil"))?;
    let racer = Racer::exchange(volume.path().join("mnt"), volume.path().join("evil"))?;
    let source = volume.path().display().to_string();
    let bundle = Bundle::new(root.path(), &["/probe", "mounts"])?;
    let bundle = bundle.mount("/vol", "bind", &source, &["rbind"]).mount("/vol/mnt", "tmpfs", "tmpfs", &["size=4096"]);
    let ends = race(&racer, 150, 5000, || match bundle.output() {
        Ok(out) => {
            let text = out.text();
            let below = mounts_below(&text, "/vol");
            assert!(matches!(below[..], [_, ("/vol/mnt" | "/vol/evil", _, "tmpfs")]), "{below:?}");
            Ok(true)
        }
        Err(error) => {
            watch.refused("the link", Err::<(), _>(error), &["step ", "mount tmpfs on /vol/mnt"]);
            Ok(false)
        }
    })?;
    assert!(ends[1] > 0, "it never ran");
    racer.stop()?;
    watch.end();
    Ok(())
}

/// CVE-2024-45310: mount points that are not there yet are made below a component that leads out every other moment.
#[test]
fn a1_06_mount_points_made_below_a_link() -> testkit::Result {
    require!(Root);
    alone!();
    let watch = Watch::begin()?;
    let root = probe_root()?;
    fs::create_dir(root.path().join("way"))?;
    symlink(watch.outside(), root.path().join("evil"))?;
    let source = root.path().join("etc/passwd");
    let racer = Racer::exchange(root.path().join("way"), root.path().join("evil"))?;
    let mut number = 0;
    let ends = race(&racer, 150, 5000, || {
        number += 1;
        let bundle = Bundle::new(root.path(), &["/probe", "true"])?;
        let directory = format!("/way/new{number}/deep");
        let bundle = bundle.mount(&directory, "tmpfs", "tmpfs", &["size=4096"]);
        let file = format!("/way/made{number}/file");
        let bundle = bundle.mount(&file, "bind", &source.display().to_string(), &["bind"]);
        let ran = bundle.output();
        watch.unchanged();
        Ok(match ran {
            Ok(_) => true,
            Err(error) => {
                assert!(error.report().contains("step ") && error.kind() != ErrorKind::Other, "{error:?}");
                false
            }
        })
    })?;
    assert!(ends[1] > 0, "it never ran");
    racer.stop()?;
    watch.end();
    Ok(())
}

/// CVE-2025-31133: the null device that hides files is the host's, whatever the container's is at that moment.
#[test]
fn a1_07_a1_12_a_null_device_that_changes() -> testkit::Result {
    require!(Root, Program("mknod"));
    alone!();
    let watch = Watch::over(&["/proc/sys/kernel/core_pattern".as_ref()])?;
    let (root, dev) = (probe_root()?, tempfile::tempdir()?);
    fs::write(root.path().join("etc/hidden"), "secret")?;
    fs::create_dir(dev.path().join("pts"))?;
    common::run(Command::new("mknod").args(["-m", "666"]).arg(dev.path().join("null")).args(["c", "1", "3"]))?;
    symlink("/proc/sys/kernel/core_pattern", dev.path().join("evil"))?;
    let racer = Racer::exchange(dev.path().join("null"), dev.path().join("evil"))?;
    let mut bundle = Bundle::new(root.path(), &["/probe", "cat", "/etc/hidden"])?
        .without("/dev")
        .without("/dev/pts")
        .mount("/dev", "bind", &dev.path().display().to_string(), &["rbind"]);
    bundle.config["linux"]["maskedPaths"] = json!(["/etc/hidden", "/proc/keys", "/proc/kcore", "/proc/timer_list"]);
    let ends = race(&racer, 100, 5000, || match bundle.output() {
        Ok(out) => {
            assert_eq!((out.text().as_ref(), out.stderr.as_slice()), ("", &b""[..]), "it is not hidden");
            Ok(true)
        }
        Err(error) => Err(error.into()),
    })?;
    assert!(ends[1] > 0);
    racer.stop()?;
    watch.end();
    Ok(())
}

/// Programs, directories to work in and injected files below a component that leads out every other moment.
#[test]
fn a1_16_a2_15_files_and_directories_below_a_link() -> testkit::Result {
    require!(Root);
    alone!();
    let watch = Watch::begin()?;
    let root = probe_root()?;
    fs::create_dir(root.path().join("way"))?;
    fs::create_dir(root.path().join("way/directory"))?;
    fs::write(root.path().join("way/file"), "inside")?;
    symlink(watch.outside(), root.path().join("evil"))?;
    let racer = Racer::exchange(root.path().join("way"), root.path().join("evil"))?;
    let secret = watch.secret();
    let ends = race(&racer, 100, 5000, || {
        let run = Container::from_rootfs(root.path()).args(["/probe", "escape", &secret]);
        let run = run.current_dir("/way/directory").file("/way/file", "injected").file("/way/new/file", "injected");
        Ok(watch.contained("beside a racer", run.mask("/way/secret").output()))
    })?;
    assert!(ends[1] > 0, "it never ran");
    racer.stop()?;
    watch.end();
    Ok(())
}

/// GHSA-3q8j-pf29-vwv8: what is made read-only or hidden is one thing, not a name that is looked up twice.
#[test]
fn a1_13_read_only_and_hidden_paths_that_change() -> testkit::Result {
    require!(Root, Program("busybox"));
    alone!();
    let watch = Watch::begin()?;
    let root = common::root()?;
    for name in ["ro", "ro2"] {
        fs::create_dir_all(root.path().join(name))?;
    }
    let racer = Racer::exchange(root.path().join("ro"), root.path().join("ro2"))?;
    let script = "grep -c ' /ro2\\? ro,' /proc/self/mountinfo; (touch /ro/x || touch /ro2/x) 2>&1 | grep -c Read-only";
    let mut bundle = Bundle::new(root.path(), &["sh", "-c", script])?;
    bundle.config["linux"]["readonlyPaths"] = json!(["/ro"]);
    race(&racer, 60, 5000, || {
        // One of the two is read-only, by whichever name it has now.
        let text = bundle.output()?.text().into_owned();
        assert!(text.starts_with("1\n"), "{text:?}");
        for name in ["ro", "ro2"] {
            let _absent = fs::remove_file(root.path().join(name).join("x"));
        }
        Ok(true)
    })?;
    racer.stop()?;
    watch.end();
    Ok(())
}

/// CVE-2020-5291's kind: a source that changes while it is bound is one or the other, and what it is stays the same.
#[test]
fn a2_13_a_source_that_changes() -> testkit::Result {
    require!(Root);
    alone!();
    let watch = Watch::begin()?;
    let (root, place) = (probe_root()?, tempfile::tempdir()?);
    for name in ["one", "two"] {
        fs::create_dir(place.path().join(name))?;
        fs::write(place.path().join(name).join("which"), name)?;
    }
    let racer = Racer::exchange(place.path().join("one"), place.path().join("two"))?;
    let run = Container::from_rootfs(root.path()).profile(Profile::Hostile);
    let run = run.bind_read_only(place.path().join("one"), "/data").args(["/probe", "cat", "/data/which"]);
    race(&racer, 60, 5000, || {
        let out = run.clone().output()?;
        assert!(matches!(out.text().as_ref(), "one" | "two"), "{out:?}");
        Ok(out.text() == "one")
    })?;
    racer.stop()?;
    watch.end();
    Ok(())
}
