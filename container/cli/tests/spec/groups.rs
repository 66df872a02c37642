//! Control groups: where they are, whose they are, and what each limit comes to in them.
//!
//! Each container has its group in a directory that the test names, so that what is written there is read from outside.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use keelbox::crates::cgroups::{Controller, Existing, Group, Hierarchy, Layout, Parent, Reach, Version};
use keelbox_testkit::{self as testkit, require};
use serde_json::{Value, json};

use crate::common::{Bench, wait_for};

/// A bench, and the path of its container's group, which no other test has.
struct Grouped {
    bench: Bench,
    path: String,
}

impl Grouped {
    fn new(id: &str) -> testkit::Result<Self> {
        Ok(Self { bench: Bench::new(id)?, path: format!("/keelbox-{id}-{}", std::process::id()) })
    }

    /// A configuration with these resources, in the group of the test.
    fn config(&self, script: &str, resources: &Value) -> Value {
        let mut config = self.bench.config(script);
        config["linux"]["cgroupsPath"] = self.path.as_str().into();
        config["linux"]["resources"] = resources.clone();
        config
    }

    /// Creates a container with these resources, which is not started.
    fn create(&self, resources: &Value) -> testkit::Result {
        let bundle = self.bench.bundle("bundle", &self.config("true", resources))?;
        let ran = self.bench.keelbox(&["create", "--bundle", &bundle, &self.bench.id])?;
        assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{resources}");
        Ok(())
    }

    /// That a container with these resources cannot be created, and that nothing is left of it; what is said.
    fn refused(&self, resources: &Value) -> testkit::Result<String> {
        let bundle = self.bench.bundle("bundle", &self.config("true", resources))?;
        let ran = self.bench.keelbox(&["create", "--bundle", &bundle, &self.bench.id])?;
        assert!(ran.status.is_some_and(|status| status != 0) && !ran.stderr.is_empty(), "{resources}: {ran:?}");
        for directory in everywhere(&self.path) {
            assert!(!directory.exists(), "{resources} left {}", directory.display());
        }
        Ok(ran.stderr)
    }

    fn delete(&self) -> testkit::Result {
        self.bench.done(&["delete", "--force", &self.bench.id]).map(|_| ())
    }

    /// What a file of the group says: one name for v1, one for v2. Nothing if the hierarchy has no such file.
    fn read(&self, controller: Controller, names: [&str; 2]) -> Option<String> {
        let host = Hierarchy::detect().ok()?;
        let mount = host.find(controller)?;
        let name = if mount.version() == Version::V1 { names[0] } else { names[1] };
        let file = mount.mount_point().join(&self.path[1..]).join(name);
        fs::read_to_string(file).ok().map(|text| text.trim().to_owned())
    }

    /// That a container with these resources has these values in the files of its group, each as v1 and as v2 have it.
    fn has(&self, resources: &Value, files: &[(Controller, [&str; 2], [&str; 2])]) -> testkit::Result {
        self.create(resources)?;
        for (controller, names, values) in files {
            let version = Hierarchy::detect()?.find(*controller).map(keelbox::crates::cgroups::Mount::version);
            let value = if version == Some(Version::V1) { values[0] } else { values[1] };
            assert_eq!(self.read(*controller, *names).as_deref(), Some(value), "{names:?} of {resources}");
        }
        self.delete()
    }
}

/// The directories of `path` below each mount point.
fn everywhere(path: &str) -> Vec<PathBuf> {
    let host = Hierarchy::detect().unwrap_or_default();
    let mounts = host.unified().into_iter().chain(host.legacy());
    mounts.map(|mount| mount.mount_point().join(path.trim_start_matches('/'))).collect()
}

/// Whether `controller` lives in a hierarchy of v1.
fn is_old(controller: Controller) -> bool {
    let host = Hierarchy::detect().unwrap_or_default();
    host.find(controller).is_some_and(|mount| mount.version() == Version::V1)
}

/// A group that somebody else made at this path. It goes with its value.
fn somebody(path: &str) -> testkit::Result<Group> {
    let path = path.trim_start_matches('/');
    let builder = Group::builder(path).parent(Parent::Root).existing(Existing::Refused).reach(Reach::All);
    Ok(builder.create()?)
}

#[test]
fn rs_061_an_absolute_path_starts_at_the_top_of_every_hierarchy() -> testkit::Result {
    require!(Root, Cgroup("pids"), Program("busybox"));
    let mut test = Grouped::new("rs-061-absolute")?;
    let top = test.path.clone();
    test.path.push_str("/missing/leaf");
    let printed = test.bench.printed(&test.config("cat /proc/self/cgroup", &json!({})))?;
    // There may be hierarchies that are mounted elsewhere.
    let placed = printed.lines().filter(|line| line.ends_with(&format!(":{}", test.path))).count();
    assert_eq!(placed, everywhere(&test.path).len(), "{printed}");
    for directory in everywhere(&top) {
        assert!(!directory.exists(), "{} was made and is left", directory.display());
    }
    Ok(())
}

#[test]
fn rs_061_the_same_value_is_the_same_place_wherever_the_caller_is() -> testkit::Result {
    require!(Root, Cgroup("pids"), Program("busybox"));
    let mut test = Grouped::new("rs-061-relative")?;
    test.path.remove(0);
    let bundle = test.bench.bundle("bundle", &test.config("cat /proc/self/cgroup", &json!({})))?;
    let elsewhere = somebody("keelbox-rs-061-elsewhere")?;
    let mut places = Vec::new();
    for group in [None, Some(&elsewhere)] {
        let program = test.bench.command(&["run", "--bundle", &bundle, &test.bench.id]);
        let mut command = match group {
            Some(group) => group.command(program.get_program())?,
            None => Command::new(program.get_program()),
        };
        let output = command.args(program.get_args()).output()?;
        assert!(output.status.success(), "{output:?}");
        places.push(String::from_utf8(output.stdout)?);
    }
    assert!(places[0].contains(&test.path), "{places:?}");
    assert_eq!(places[0], places[1]);
    elsewhere.delete()?;
    Ok(())
}

#[test]
fn rs_061_a_group_that_is_there_is_used_and_stays() -> testkit::Result {
    require!(Root, Cgroup("pids"), Program("busybox"));
    let test = Grouped::new("rs-061-there")?;
    let group = somebody(&test.path)?;
    for _ in 0..2 {
        let printed = test.bench.printed(&test.config("cat /proc/self/cgroup", &json!({})))?;
        assert!(printed.contains(&test.path), "{printed}");
        assert!(everywhere(&test.path).iter().all(|directory| directory.exists()));
    }
    group.delete()?;
    Ok(())
}

#[test]
fn rs_061_a_path_that_climbs_is_an_error() -> testkit::Result {
    require!(Root, Program("busybox"));
    let mut test = Grouped::new("rs-061-climbs")?;
    for path in ["/../keelbox-climbs", "a/../../keelbox-climbs", "/.."] {
        test.path = path.to_owned();
        let bundle = test.bench.bundle("bundle", &test.config("true", &json!({})))?;
        let ran = test.bench.keelbox(&["create", "--bundle", &bundle, &test.bench.id])?;
        assert_ne!(ran.status, Some(0), "{path}: {ran:?}");
    }
    Ok(())
}

#[test]
fn rs_062_an_occupied_group_is_an_error() -> testkit::Result {
    require!(Root, Cgroup("pids"), Program("busybox"), Program("sleep"));
    let test = Grouped::new("rs-062-occupied")?;
    let group = somebody(&test.path)?;
    let mut sleeper = group.command("sleep")?.arg("1000").spawn()?;
    wait_for(|| Ok(group.processes()?.contains(&sleeper.id())))?;
    let bundle = test.bench.bundle("bundle", &test.config("true", &json!({})))?;
    let ran = test.bench.keelbox(&["create", "--bundle", &bundle, &test.bench.id])?;
    let alive = sleeper.try_wait()?.is_none();
    sleeper.kill()?;
    sleeper.wait()?;
    assert!(ran.status != Some(0) && ran.stderr.contains(&test.path), "{ran:?}");
    assert!(alive, "whoever was in it is not to be harmed");
    group.delete()?;
    Ok(())
}

#[test]
fn rs_062_a_frozen_group_is_an_error() -> testkit::Result {
    require!(Root, Cgroup("freezer"), Program("busybox"));
    let test = Grouped::new("rs-062-frozen")?;
    let group = somebody(&test.path)?;
    group.freeze()?;
    let bundle = test.bench.bundle("bundle", &test.config("true", &json!({})))?;
    let ran = test.bench.keelbox(&["create", "--bundle", &bundle, &test.bench.id])?;
    group.thaw()?;
    assert!(ran.status != Some(0) && ran.stderr.contains("frozen"), "{ran:?}");
    group.delete()?;
    Ok(())
}

#[test]
fn rs_063_a_group_that_is_shown_writable_belongs_to_the_user() -> testkit::Result {
    require!(Root, Unified, UserNamespace, Program("busybox"));
    if Hierarchy::detect()?.layout() != Layout::V2 {
        return Ok(());
    }
    let test = Grouped::new("rs-063")?;
    // Root inside makes the mount points, so all of the root file system is his.
    let given = Command::new("chown").args(["-R", "300000:300000"]).arg(test.bench.root()).status()?;
    assert!(given.success());
    for (options, namespace, owner) in [("rw", true, 300_007), ("ro", true, 0), ("rw", false, 0)] {
        let mut config = test.config("true", &json!({}));
        let map = json!([{ "containerID": 0, "hostID": 300_000, "size": 1000 }]);
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
        config["process"]["user"] = json!({ "uid": 7, "gid": 7 });
        let namespaces = config["linux"]["namespaces"].as_array_mut().ok_or("a list")?;
        namespaces.push(json!({ "type": "user" }));
        if namespace {
            namespaces.push(json!({ "type": "cgroup" }));
        }
        let mount = json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", options] });
        let dev = json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"] });
        config["mounts"].as_array_mut().ok_or("a list")?.extend([dev, mount]);
        let bundle = test.bench.bundle("bundle", &config)?;
        let ran = test.bench.keelbox(&["create", "--bundle", &bundle, &test.bench.id])?;
        assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{options} {namespace}");
        let group = everywhere(&test.path).remove(0);
        let of = |file: &str| fs::metadata(group.join(file)).map(|metadata| metadata.uid());
        for file in [".", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
            assert_eq!(of(file)?, owner, "{file} {options} {namespace}");
        }
        assert_eq!(of("pids.max")?, 0, "limits are not his to change");
        test.delete()?;
    }
    Ok(())
}

/// Whether a program in a container with these rules can open a device.
fn opens(test: &Grouped, rules: &Value) -> testkit::Result<bool> {
    let mut config = test.config("(: < /tun) 2>/dev/null && echo opened || echo denied", &json!({ "devices": rules }));
    let mount = json!({ "destination": "/tun", "type": "bind", "source": "/dev/net/tun", "options": ["bind"] });
    config["mounts"].as_array_mut().ok_or("a list")?.push(mount);
    Ok(test.bench.printed(&config)? == "opened\n")
}

#[test]
fn rs_064_device_rules_count_in_their_order() -> testkit::Result {
    require!(Root, Cgroup("devices"), Exists("/dev/net/tun"), Program("busybox"));
    let test = Grouped::new("rs-064")?;
    let all = |allow: bool| json!({ "allow": allow, "type": "a", "access": "rwm" });
    let tun = |allow: bool| json!({ "allow": allow, "type": "c", "major": 10, "minor": 200, "access": "rw" });
    let wide = |allow: bool| json!({ "allow": allow, "type": "c", "major": 10, "access": "rwm" });
    assert!(!opens(&test, &json!([all(false)]))?);
    assert!(opens(&test, &json!([all(false), tun(true)]))?);
    assert!(!opens(&test, &json!([tun(true), all(false)]))?);
    assert!(opens(&test, &json!([all(true)]))?);
    assert!(!opens(&test, &json!([all(true), tun(false)]))?);
    assert!(opens(&test, &json!([all(false), wide(true)]))?);
    assert!(!opens(&test, &json!([all(false), wide(true), wide(false)]))?);
    assert!(opens(&test, &json!([all(false), wide(true), all(false), tun(true)]))?);
    Ok(())
}

const MEMORY: Controller = Controller::Memory;
const CPU: Controller = Controller::Cpu;

#[test]
fn rs_065_memory() -> testkit::Result {
    require!(Root, Cgroup("memory"), Program("busybox"));
    let test = Grouped::new("rs-065")?;
    let limit = ["memory.limit_in_bytes", "memory.max"];
    let low = ["memory.soft_limit_in_bytes", "memory.low"];
    let resources = json!({ "memory": { "limit": 67_108_864, "reservation": 33_554_432 } });
    test.has(&resources, &[(MEMORY, limit, ["67108864"; 2]), (MEMORY, low, ["33554432"; 2])])?;
    // -1 is no limit, and 0 is what engines write for none that they name.
    let none = [("memory", json!({ "limit": -1 })), ("memory", json!({ "limit": 0, "swap": 0, "reservation": 0 }))];
    for (name, memory) in none {
        test.has(&json!({ name: memory }), &[(MEMORY, limit, ["9223372036854771712", "max"])])?;
    }
    // Whether swap is counted is a matter of how the kernel was started.
    let swap = ["memory.memsw.limit_in_bytes", "memory.swap.max"];
    test.create(&json!({ "memory": { "limit": 67_108_864 } }))?;
    let counted = test.read(MEMORY, swap).is_some();
    test.delete()?;
    if counted {
        let resources = json!({ "memory": { "limit": 67_108_864, "swap": 100_663_296 } });
        test.has(&resources, &[(MEMORY, swap, ["100663296", "33554432"])])?;
        let resources = json!({ "memory": { "limit": 67_108_864, "swap": 67_108_864 } });
        test.has(&resources, &[(MEMORY, swap, ["67108864", "0"])])?;
        let resources = json!({ "memory": { "limit": 67_108_864, "swap": -1 } });
        test.has(&resources, &[(MEMORY, swap, ["9223372036854771712", "max"])])?;
    }
    test.refused(&json!({ "memory": { "limit": 67_108_864, "swap": 1_048_576 } }))?;
    Ok(())
}

#[test]
fn rs_065_what_only_v1_has_is_set_there_and_refused_elsewhere() -> testkit::Result {
    require!(Root, Cgroup("memory"), Program("busybox"));
    let test = Grouped::new("rs-065-old")?;
    let (swappiness, killer) = (json!({ "swappiness": 13 }), json!({ "disableOOMKiller": true }));
    if is_old(MEMORY) {
        test.create(&json!({ "memory": { "limit": 67_108_864, "swappiness": 13, "disableOOMKiller": true } }))?;
        assert_eq!(test.read(MEMORY, ["memory.swappiness"; 2]).as_deref(), Some("13"));
        let control = test.read(MEMORY, ["memory.oom_control"; 2]).unwrap_or_default();
        assert!(control.starts_with("oom_kill_disable 1\n"), "{control}");
        test.delete()?;
    } else {
        for memory in [swappiness, killer, json!({ "kernelTCP": 1_048_576 })] {
            test.refused(&json!({ "memory": memory }))?;
        }
    }
    // Kernel memory is counted within memory by every kernel that still knows the limit of v1 at all, and on v2; engines send it.
    test.create(&json!({ "memory": { "limit": 67_108_864, "kernel": 33_554_432, "disableOOMKiller": false } }))?;
    test.delete()
}

#[test]
fn rs_066_processor_time() -> testkit::Result {
    require!(Root, Cgroup("cpu"), Program("busybox"));
    let test = Grouped::new("rs-066")?;
    let resources = json!({ "cpu": { "shares": 1024, "quota": 20_000, "period": 50_000, "burst": 5_000 } });
    test.create(&resources)?;
    if is_old(CPU) {
        assert_eq!(test.read(CPU, ["cpu.shares"; 2]).as_deref(), Some("1024"));
        assert_eq!(test.read(CPU, ["cpu.cfs_quota_us"; 2]).as_deref(), Some("20000"));
        assert_eq!(test.read(CPU, ["cpu.cfs_period_us"; 2]).as_deref(), Some("50000"));
    } else {
        assert_eq!(test.read(CPU, ["cpu.max"; 2]).as_deref(), Some("20000 50000"));
    }
    assert_eq!(test.read(CPU, ["cpu.cfs_burst_us", "cpu.max.burst"]).as_deref(), Some("5000"));
    test.delete()?;
    test.has(&json!({ "cpu": { "quota": -1 } }), &[(CPU, ["cpu.cfs_quota_us", "cpu.max"], ["-1", "max 100000"])])?;
    test.has(&json!({ "cpu": { "idle": 1 } }), &[(CPU, ["cpu.idle"; 2], ["1"; 2])])?;
    test.refused(&json!({ "cpu": { "quota": 20_000, "burst": 20_001 } }))?;
    // Realtime is v1's alone, and there for kernels that were built with it.
    if !is_old(CPU) {
        test.refused(&json!({ "cpu": { "realtimeRuntime": 1000, "realtimePeriod": 100_000 } }))?;
    }
    Ok(())
}

#[test]
fn rs_066_processors_and_memory_nodes() -> testkit::Result {
    require!(Root, Cgroup("cpuset"), Program("busybox"));
    let test = Grouped::new("rs-066-cpuset")?;
    let cpuset = Controller::Cpuset;
    let files = [(cpuset, ["cpuset.cpus"; 2], ["0"; 2]), (cpuset, ["cpuset.mems"; 2], ["0"; 2])];
    test.has(&json!({ "cpu": { "cpus": "0", "mems": "0" } }), &files)?;
    test.refused(&json!({ "cpu": { "cpus": "4000" } })).map(|_| ())
}

/// A disk of this machine.
fn disk() -> Option<String> {
    let name = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("dev")).ok();
    let whole =
        |entry: &fs::DirEntry| fs::read_to_string(entry.path().join("size")).is_ok_and(|size| size.trim() != "0");
    let numbers = fs::read_dir("/sys/block").ok()?.flatten().filter(whole).find_map(name)?;
    Some(numbers.trim().to_owned())
}

#[test]
fn rs_067_block_devices() -> testkit::Result {
    require!(Root, Cgroup("blkio"), Program("busybox"));
    let Some(numbers) = disk() else { return Ok(()) };
    let test = Grouped::new("rs-067")?;
    let (major, minor) = numbers.split_once(':').ok_or("two numbers")?;
    let device = |rate: u64| json!([{ "major": major.parse::<u32>().unwrap_or(0), "minor": minor.parse::<u32>().unwrap_or(0), "rate": rate }]);
    let resources = json!({ "blockIO": {
        "throttleReadBpsDevice": device(1_048_576), "throttleWriteBpsDevice": device(2_097_152),
        "throttleReadIOPSDevice": device(300), "throttleWriteIOPSDevice": device(400),
    } });
    test.create(&resources)?;
    if is_old(Controller::Io) {
        let rates = [("read_bps", 1_048_576), ("write_bps", 2_097_152), ("read_iops", 300), ("write_iops", 400)];
        for (name, rate) in rates {
            let found = test.read(Controller::Io, [&format!("blkio.throttle.{name}_device"), ""]);
            assert_eq!(found, Some(format!("{numbers} {rate}")));
        }
    } else {
        let expected = format!("{numbers} rbps=1048576 wbps=2097152 riops=300 wiops=400");
        assert_eq!(test.read(Controller::Io, ["", "io.max"]), Some(expected));
    }
    test.delete()?;
    // No kernel since 5.0 has leaf weights.
    test.refused(&json!({ "blockIO": { "leafWeight": 500 } })).map(|_| ())
}

#[test]
fn rs_068_huge_pages_and_their_reservations() -> testkit::Result {
    require!(Root, Cgroup("hugetlb"), Exists("/sys/kernel/mm/hugepages/hugepages-2048kB"), Program("busybox"));
    let test = Grouped::new("rs-068")?;
    let resources = json!({ "hugepageLimits": [{ "pageSize": "2MB", "limit": 4_194_304 }] });
    let huge = Controller::Hugetlb;
    let reserved = ["hugetlb.2MB.rsvd.limit_in_bytes", "hugetlb.2MB.rsvd.max"];
    let used = ["hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max"];
    test.has(&resources, &[(huge, reserved, ["4194304"; 2]), (huge, used, ["4194304"; 2])])
}

#[test]
fn rs_069_network_marks_are_set_or_refused() -> testkit::Result {
    require!(Root, Cgroup("pids"), Program("busybox"));
    let test = Grouped::new("rs-069")?;
    let network = |network: Value| json!({ "network": network });
    let (class, priority) =
        (json!({ "classID": 1_048_577 }), json!({ "priorities": [{ "name": "lo", "priority": 5 }] }));
    match is_old(Controller::NetCls) {
        true => {
            let file = (Controller::NetCls, ["net_cls.classid"; 2], ["1048577"; 2]);
            test.has(&network(class), &[file])?;
        }
        false => assert!(test.refused(&network(class))?.contains("net_cls.classid")),
    }
    match is_old(Controller::NetPrio) {
        true => {
            test.create(&network(priority))?;
            let map = test.read(Controller::NetPrio, ["net_prio.ifpriomap"; 2]).unwrap_or_default();
            assert!(map.lines().any(|line| line == "lo 5"), "{map}");
            test.delete()?;
        }
        false => assert!(test.refused(&network(priority))?.contains("net_prio.ifpriomap")),
    }
    // Engines leave an empty object where nothing is asked.
    test.create(&network(json!({})))?;
    test.delete()
}

#[test]
fn rs_070_the_number_of_processes() -> testkit::Result {
    require!(Root, Cgroup("pids"), Program("busybox"));
    let test = Grouped::new("rs-070")?;
    for (limit, value) in [(-1, "max"), (0, "0"), (1, "1"), (7, "7")] {
        let file = (Controller::Pids, ["pids.max"; 2], [value; 2]);
        test.has(&json!({ "pids": { "limit": limit } }), &[file])?;
    }
    // A program that may not have any other.
    let script = "(echo inner) 2>/dev/null || echo none; echo outer";
    let ran = test.bench.run(&test.config(script, &json!({ "pids": { "limit": 0 } })))?;
    assert!(!ran.stdout.contains("inner"), "{ran:?}");
    let ran = test.bench.run(&test.config("echo lives", &json!({ "pids": { "limit": 0 } })))?;
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(0), "lives\n"), "{ran:?}");
    Ok(())
}

#[test]
fn rs_071_rdma() -> testkit::Result {
    require!(Root, Cgroup("rdma"), Program("busybox"));
    let Some(device) = fs::read_dir("/sys/class/infiniband").ok().and_then(|mut list| list.next()).transpose()? else {
        return Ok(());
    };
    let test = Grouped::new("rs-071")?;
    let name = device.file_name().to_string_lossy().into_owned();
    let resources = json!({ "rdma": { name.clone(): { "hcaHandles": 3, "hcaObjects": 10_000 } } });
    test.create(&resources)?;
    let text = test.read(Controller::Rdma, ["rdma.max"; 2]).unwrap_or_default();
    assert!(text.contains(&format!("{name} hca_handle=3 hca_object=10000")), "{text}");
    test.delete()
}

#[test]
fn rs_072_unified_keys_are_written_with_their_controllers_enabled() -> testkit::Result {
    require!(Root, CgroupV2("memory"), CgroupV2("pids"), Program("busybox"));
    let test = Grouped::new("rs-072")?;
    let unified = json!({ "unified": { "memory.high": "33554432", "pids.max": "77" } });
    let files = [(MEMORY, ["memory.high"; 2], ["33554432"; 2]), (Controller::Pids, ["pids.max"; 2], ["77"; 2])];
    test.has(&unified, &files)
}

#[test]
fn rs_073_unified_keys_that_are_no_limits_we_know_are_written() -> testkit::Result {
    require!(Root, Unified, Program("busybox"));
    let test = Grouped::new("rs-073")?;
    test.create(&json!({ "unified": { "cgroup.max.descendants": "12" } }))?;
    let mount = Hierarchy::detect()?.unified().map(|mount| mount.mount_point().to_owned()).ok_or("v2")?;
    let file: &Path = &mount.join(&test.path[1..]).join("cgroup.max.descendants");
    assert_eq!(fs::read_to_string(file)?.trim(), "12");
    test.delete()
}

#[test]
fn rs_074_unified_keys_of_a_controller_that_is_not_there_are_an_error() -> testkit::Result {
    require!(Root, Unified, Program("busybox"));
    let test = Grouped::new("rs-074")?;
    for key in ["nothing.max", "rdma.nothing"] {
        test.refused(&json!({ "unified": { key: "1" } }))?;
    }
    Ok(())
}

#[test]
fn rs_075_what_v1_calls_otherwise_is_converted() -> testkit::Result {
    require!(Root, CgroupV2("cpu"), CgroupV2("memory"), Program("busybox"));
    let test = Grouped::new("rs-075")?;
    for (shares, weight) in [(2, "1"), (512, "59"), (1024, "100"), (2048, "174"), (262_144, "10000")] {
        test.has(&json!({ "cpu": { "shares": shares } }), &[(CPU, ["cpu.weight"; 2], [weight; 2])])?;
    }
    test.refused(&json!({ "memory": { "swap": 67_108_864 } }))?;
    test.refused(&json!({ "memory": { "limit": -1, "swap": 67_108_864 } })).map(|_| ())
}

#[test]
fn rs_075_the_weight_of_disks_is_converted() -> testkit::Result {
    require!(Root, CgroupV2("io"), Program("busybox"));
    let test = Grouped::new("rs-075-io")?;
    test.create(&json!({}))?;
    let weighted = test.read(Controller::Io, ["io.weight"; 2]).is_some();
    test.delete()?;
    if weighted {
        let file = (Controller::Io, ["io.weight"; 2], ["default 4950"; 2]);
        test.has(&json!({ "blockIO": { "weight": 500 } }), &[file])?;
    }
    Ok(())
}
