//! Named volumes, file systems in memory that begin with content, mapped ids, and the mode of `/`: as the builder has them.

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use common::Small;
use keelbox::{Container, ErrorKind, IdMap, IdMaps, Kind, Volumes};
use keelbox_testkit::{self as testkit, LeakCheck, alone, require};

fn shell(root: &Path, store: &Path, script: &str) -> Container {
    Container::from_rootfs(root).store(store).args(["sh", "-c", script])
}

/// A root file system with something at `/data`.
fn root() -> testkit::Result<tempfile::TempDir> {
    let root = testkit::busybox_root()?;
    fs::create_dir_all(root.path().join("data/sub"))?;
    fs::write(root.path().join("data/sub/file"), "of the image\n")?;
    fs::set_permissions(root.path().join("data"), Permissions::from_mode(0o1777))?;
    Ok(root)
}

#[test]
fn a_volume_begins_with_what_the_image_has_and_keeps_what_is_written() -> testkit::Result {
    alone!();
    require!(Root, Program("busybox"));
    let (root, store) = (root()?, tempfile::tempdir()?);
    // The launcher's thread stays for good.
    shell(root.path(), store.path(), "true").status()?;
    let leaks = LeakCheck::begin();
    let run = |script: &str| shell(root.path(), store.path(), script).volume("box", "/data").output();
    assert_eq!(run("cat /data/sub/file; stat -c %a /data; echo new > /data/new")?.text(), "of the image\n1777\n");
    assert_eq!(run("cat /data/new; rm -r /data/sub")?.text(), "new\n");
    assert_eq!(run("ls -A /data")?.text(), "new\n", "it is filled once");
    assert!(root.path().join("data/sub/file").exists() && !root.path().join("data/new").exists());
    let volumes = Volumes::at(store.path());
    assert_eq!(volumes.list()?, ["box"]);
    assert_eq!(fs::read_to_string(volumes.path("box")?.join("new"))?, "new\n");
    volumes.remove("box")?;
    assert_eq!(
        (volumes.list()?.len(), fs::read_dir(store.path().join("volumes"))?.count()),
        (0, 1),
        "but for the lock"
    );
    assert_eq!(volumes.remove("box").expect_err("it is gone").kind(), ErrorKind::NotFound);
    // A place that the image has not got is empty.
    let empty = shell(root.path(), store.path(), "ls -A /fresh; touch /fresh/x").volume("other", "/fresh").output()?;
    assert!(empty.status.success() && empty.text().is_empty(), "{empty:?}");
    leaks.check();
    Ok(())
}

#[test]
fn whoever_comes_first_fills_a_volume_for_all() -> testkit::Result {
    require!(Root, Program("busybox"));
    let (root, store) = (root()?, tempfile::tempdir()?);
    for number in 0..300 {
        fs::write(root.path().join(format!("data/file{number}")), vec![b'x'; 4096])?;
    }
    std::thread::scope(|scope| {
        let run = || shell(root.path(), store.path(), "ls -A /data | wc -l").volume("one", "/data").output();
        let all: Vec<_> = (0..6).map(|_| scope.spawn(run)).collect();
        for thread in all {
            let out = thread.join().expect("no panic")?;
            assert_eq!(out.text().trim(), "301", "{out:?}");
        }
        Ok(())
    })
}

#[test]
fn what_was_left_half_filled_is_filled_anew() -> testkit::Result {
    require!(Root, Program("busybox"));
    let (root, store) = (root()?, tempfile::tempdir()?);
    fs::create_dir_all(store.path().join("volumes/box/new/left"))?;
    assert!(Volumes::at(store.path()).list()?.is_empty());
    let out = shell(root.path(), store.path(), "ls -A /data").volume("box", "/data").output()?;
    assert_eq!(out.text(), "sub\n");
    // What cannot be filled is no volume, and tells why.
    fs::write(root.path().join("plain"), "")?;
    let error = shell(root.path(), store.path(), "true").volume("bad", "/plain").build().expect_err("a file");
    assert!(error.report().contains("/plain"), "{error:?}");
    assert_eq!(Volumes::at(store.path()).list()?, ["box"]);
    Ok(())
}

#[test]
fn names_of_volumes_are_no_paths() -> testkit::Result {
    let root = tempfile::tempdir()?;
    for name in ["", "..", "a/b", "/etc", ".lock"] {
        let error = shell(root.path(), root.path(), "true").volume(name, "/data").build().expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Invalid, "{name}");
        assert_eq!(Volumes::at(root.path()).remove(name).expect_err(name).kind(), ErrorKind::Invalid);
    }
    assert_eq!(fs::read_dir(root.path())?.count(), 0);
    Ok(())
}

#[test]
fn an_image_fills_a_volume_and_a_user_namespace_owns_it() -> testkit::Result {
    require!(Root, UserNamespace, Overlay, Program("busybox"), Program("tar"));
    let small = Small::busybox("")?;
    let out = small.container()?.volume("bin", "/bin").args(["sh", "-c", "ls /bin/probe; touch /bin/new"]).output()?;
    assert_eq!(out.text(), "/bin/probe\n", "{out:?}");
    assert!(Volumes::at(small.store()).path("bin")?.join("new").exists());
    let store = tempfile::tempdir()?;
    let root = testkit::busybox_root()?;
    let script = "touch /data/mine && stat -c %u /data/mine";
    let out = shell(root.path(), store.path(), script).unshare(Kind::User).volume("box", "/data").output()?;
    assert_eq!(out.text(), "0\n", "{out:?}");
    Ok(())
}

#[test]
fn a_file_system_in_memory_begins_with_the_content() -> testkit::Result {
    require!(Root, Program("busybox"));
    let (root, store) = (root()?, tempfile::tempdir()?);
    let script = "cat /data/sub/file; echo x > /data/sub/file; stat -c %a /data";
    let out = shell(root.path(), store.path(), script).tmpfs_copy("/data", 1 << 20).output()?;
    assert_eq!(out.text(), "of the image\n1777\n", "{out:?}");
    assert_eq!(fs::read_to_string(root.path().join("data/sub/file"))?, "of the image\n");
    Ok(())
}

#[test]
fn ids_of_a_bind_are_mapped() -> testkit::Result {
    alone!();
    require!(Root, Program("busybox"));
    let (root, source) = (root()?, tempfile::tempdir()?);
    fs::write(source.path().join("file"), "x")?;
    chown(source.path().join("file"), Some(1000), Some(1001))?;
    let map = |outside: u32| -> testkit::Result<IdMap> { Ok(format!("1000 {outside} 2").parse()?) };
    let maps = IdMaps::new(map(5)?, map(7)?);
    // The launcher's thread stays for good.
    shell(root.path(), root.path(), "true").status()?;
    let leaks = LeakCheck::begin();
    let container = shell(root.path(), root.path(), "stat -c %u:%g /m/file").bind_mapped(source.path(), "/m", &maps);
    let built = container.build()?;
    assert!(built.plan()?.to_string().contains("(slave, ids mapped) for /m"), "{}", built.plan()?);
    for _ in 0..2 {
        assert_eq!(built.output()?.text(), "5:8\n");
    }
    let template = built.template()?;
    for _ in 0..4 {
        assert_eq!(template.run().output()?.text(), "5:8\n");
    }
    drop(template);
    leaks.check();
    Ok(())
}

#[test]
fn an_ordinary_user_is_told_why_ids_cannot_be_mapped() -> testkit::Result {
    require!(OrdinaryUser, UserNamespace, Program("busybox"));
    testkit::as_user!();
    let root = root()?;
    let map = IdMap::single(0, nix::unistd::geteuid().as_raw())?;
    let group = IdMap::single(0, nix::unistd::getegid().as_raw())?;
    let container = shell(root.path(), root.path(), "true").bind_mapped(root.path(), "/m", &IdMaps::new(map, group));
    let error = container.output().expect_err("the kernel refuses");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
    assert!(error.report().contains("/m") && error.report().contains("CAP_SYS_ADMIN"), "{error:?}");
    Ok(())
}

#[test]
fn the_root_directory_is_as_the_image_says() -> testkit::Result {
    require!(Root, Overlay, Program("busybox"), Program("tar"));
    let root = testkit::busybox_root()?;
    fs::set_permissions(root.path(), Permissions::from_mode(0o711))?;
    chown(root.path(), Some(12), Some(34))?;
    let small = Small::of(root.path(), "")?;
    let look = ["stat", "-c", "%a %u:%g", "/"];
    assert_eq!(small.container()?.args(look).output()?.text(), "711 12:34\n");
    assert_eq!(small.container()?.args(look).keep_changes().output()?.text(), "711 12:34\n");
    let kept = Container::from_rootfs(root.path()).store(small.store()).args(look).keep_changes().output()?;
    assert_eq!(kept.text(), "711 12:34\n");
    assert_eq!(fs::metadata(kept.changes()?.directory())?.uid(), 12);
    Ok(())
}
