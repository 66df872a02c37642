//! Classes of resctrl for containers, in a file system that makes and fills directories as resctrl does: a cgroup v1 hierarchy with a
//! name and no controllers, whose `tasks` tell who is in them. What needs a `schemata` file is tested in the control groups crate.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use keelbox::{Built, Container, ErrorKind, Handle, Runtime};
use keelbox_testkit::{self as testkit, apart, require};
use nix::mount::{MsFlags, mount, umount};
use serde_json::{Value, json};

/// A stand-in for resctrl, and a bundle.
struct Bench {
    resctrl: tempfile::TempDir,
    place: tempfile::TempDir,
    root: tempfile::TempDir,
}

impl Bench {
    fn new(name: &str) -> testkit::Result<Self> {
        let resctrl = tempfile::tempdir()?;
        let options = format!("none,name=keelbox-{name}");
        mount(Some("resctrl"), resctrl.path(), Some("cgroup"), MsFlags::empty(), Some(options.as_str()))?;
        Ok(Self { resctrl, place: tempfile::tempdir()?, root: testkit::busybox_root()? })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.resctrl.path().join(name)
    }

    fn built(&self, rdt: &Value) -> testkit::Result<Built> {
        let bundle = self.place.path().join("bundle");
        Container::from_rootfs(self.root.path()).args(["sleep", "1000"]).build()?.write_bundle(&bundle)?;
        let file = bundle.join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&file)?)?;
        config["linux"]["intelRdt"] = rdt.clone();
        fs::write(&file, config.to_string())?;
        Ok(Container::from_bundle(bundle)?.resctrl(self.resctrl.path()).build()?)
    }

    fn create(&self, id: &str, rdt: &Value) -> testkit::Result<Result<Handle, keelbox::Error>> {
        Ok(Runtime::at(self.place.path().join("states")).create(&self.built(rdt)?, id))
    }

    /// The kernel drops a hierarchy when it is unmounted, a moment later, but not if a group in it was removed only just before: then it has
    /// to be unmounted once more.
    fn end(self, name: &str) -> testkit::Result {
        let line = format!("name=keelbox-{name}:");
        let options = format!("none,name=keelbox-{name}");
        let there = || fs::read_to_string("/proc/self/cgroup").map(|text| text.contains(&line));
        umount(self.resctrl.path())?;
        for round in 0.. {
            for _ in 0..50 {
                if !there()? {
                    return Ok(());
                }
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            assert!(round < 20, "the hierarchy stays");
            mount(Some("resctrl"), self.resctrl.path(), Some("cgroup"), MsFlags::empty(), Some(options.as_str()))?;
            umount(self.resctrl.path())?;
        }
        Ok(())
    }

    /// The directories of the stand-in.
    fn classes(&self) -> testkit::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.resctrl.path())?.flatten() {
            if entry.path().is_dir() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }
}

fn tasks(directory: &Path) -> testkit::Result<Vec<u32>> {
    Ok(fs::read_to_string(directory.join("tasks"))?.lines().filter_map(|line| line.parse().ok()).collect())
}

#[test]
fn a_class_of_its_own_comes_and_goes_with_the_container() -> testkit::Result {
    require!(Root, MountNamespace, Cgroup("freezer"), Program("busybox"));
    apart!();
    let bench = Bench::new("rdt-own")?;
    let handle = bench.create("box", &json!({}))??;
    let pid = handle.pid().ok_or("it is created")?;
    assert_eq!(tasks(&bench.path("box"))?, [pid]);
    handle.start()?;
    assert_eq!(tasks(&bench.path("box"))?, [handle.pid().ok_or("it runs")?]);
    handle.delete_force()?;
    assert!(bench.classes()?.is_empty());
    bench.end("rdt-own")
}

#[test]
fn a_shared_class_stays_and_its_monitoring_group_goes() -> testkit::Result {
    require!(Root, MountNamespace, Cgroup("freezer"), Program("busybox"));
    apart!();
    let bench = Bench::new("rdt-shared")?;
    for directory in ["gold", "gold/mon_groups"] {
        fs::create_dir(bench.path(directory))?;
    }
    let handle = bench.create("box", &json!({ "closID": "gold" }))??;
    assert_eq!(tasks(&bench.path("gold"))?, [handle.pid().ok_or("it is created")?]);
    handle.delete_force()?;
    let handle = bench.create("box", &json!({ "closID": "gold", "enableMonitoring": true }))??;
    assert_eq!(tasks(&bench.path("gold/mon_groups/box"))?, [handle.pid().ok_or("it is created")?]);
    handle.delete_force()?;
    assert_eq!(bench.classes()?, ["gold"]);
    assert!(!bench.path("gold/mon_groups/box").exists());
    for directory in ["gold/mon_groups", "gold"] {
        fs::remove_dir(bench.path(directory))?;
    }
    bench.end("rdt-shared")
}

#[test]
fn what_cannot_be_had_leaves_nothing() -> testkit::Result {
    require!(Root, MountNamespace, Cgroup("freezer"), Program("busybox"));
    apart!();
    let bench = Bench::new("rdt-none")?;
    let cases = [
        (json!({ "closID": "silver" }), "silver"),
        // The stand-in has no schemata, and no monitoring groups.
        (json!({ "l3CacheSchema": "L3:0=f" }), "schemata"),
        (json!({ "closID": "silver", "schemata": ["L3:0=f"] }), "schemata"),
        (json!({ "enableMonitoring": true }), "mon_groups"),
    ];
    for (rdt, text) in cases {
        let error = bench.create("box", &rdt)?.expect_err("it cannot be had");
        let report = error.report();
        assert!(report.contains(text), "{report}");
        assert_eq!(error.kind(), ErrorKind::NotFound, "{report}");
        assert!(bench.classes()?.is_empty(), "{rdt}");
        assert!(Runtime::at(bench.place.path().join("states")).list()?.is_empty());
    }
    let nameless = bench.built(&json!({}))?.spawn().expect_err("nobody could put it into a class in time");
    assert_eq!(nameless.kind(), ErrorKind::Unsupported);
    bench.end("rdt-none")
}
