//! What resources as engines send them come to, on v1 and on v2.

use keelbox_cgroups::{ErrorKind as GroupError, Hierarchy};

use super::*;

fn v1() -> Hierarchy {
    let names = ["cpu", "cpuset", "memory", "blkio", "pids", "hugetlb", "rdma", "net_cls,net_prio"];
    let mounts: String = names.iter().map(|name| format!("1 2 0:3 / /cg/{name} rw - cgroup c rw,{name}\n")).collect();
    let own: String = names.iter().map(|name| format!("4:{name}:/\n")).collect();
    Hierarchy::detect_from(mounts, own)
}

fn v2() -> Hierarchy {
    Hierarchy::detect_from("30 24 0:26 / /cg rw - cgroup2 c rw\n", "0::/\n")
}

fn limits(json: &str) -> Limits {
    from_oci(&serde_json::from_str(json).expect("resources")).expect("limits")
}

fn plan(json: &str, host: &Hierarchy) -> Vec<String> {
    let plan = limits(json).plan(host).expect("a plan");
    plan.writes().iter().map(|write| format!("{} = {}", write.file(), write.value())).collect()
}

fn refused(json: &str, host: &Hierarchy) -> GroupError {
    limits(json).plan(host).expect_err("it cannot be had").kind()
}

/// What dockerd 20.10 sends for `docker update --cpu-shares 512`: everything it knows, most of it 0.
const DOCKER: &str = r#"{"devices":null,"memory":{"limit":0,"reservation":0,"kernel":0},
    "cpu":{"shares":512,"quota":0,"period":0,"cpus":"","mems":""},"blockIO":{"weight":0}}"#;

#[test]
fn what_engines_leave_at_zero_is_not_asked_for() {
    assert_eq!(plan(DOCKER, &v1()), ["cpu.shares = 512"]);
    assert_eq!(plan(DOCKER, &v2()), ["cpu.weight = 59"]);
    let empty =
        r#"{"network":{},"memory":{"disableOOMKiller":false,"swap":0},"cpu":{"realtimeRuntime":0},"unified":{}}"#;
    assert!(limits(empty).is_empty());
    for host in [v1(), v2(), Hierarchy::default()] {
        assert!(plan(empty, &host).is_empty());
    }
}

#[test]
fn zero_is_a_number_where_it_means_something() {
    assert_eq!(plan(r#"{"pids":{"limit":0}}"#, &v2()), ["pids.max = 0"]);
    assert_eq!(plan(r#"{"pids":{"limit":-1}}"#, &v1()), ["pids.max = max"]);
    assert_eq!(plan(r#"{"cpu":{"idle":0}}"#, &v2()), ["cpu.idle = 0"]);
    assert_eq!(plan(r#"{"memory":{"swappiness":0}}"#, &v1()), ["memory.swappiness = 0"]);
}

#[test]
fn memory_and_swap_are_counted_together() {
    let both = r#"{"memory":{"limit":1048576,"swap":3145728}}"#;
    assert_eq!(plan(both, &v2()), ["memory.max = 1048576", "memory.swap.max = 2097152"]);
    assert_eq!(plan(both, &v1()), ["memory.limit_in_bytes = 1048576", "memory.memsw.limit_in_bytes = 3145728"]);
    let none = r#"{"memory":{"limit":-1}}"#;
    assert_eq!(plan(none, &v2()), ["memory.max = max", "memory.swap.max = max"]);
    for bad in [r#"{"memory":{"swap":1048576}}"#, r#"{"memory":{"limit":2097152,"swap":1048576}}"#] {
        assert_eq!(refused(bad, &v2()), GroupError::InvalidLimit);
    }
}

#[test]
fn a_quota_can_be_taken_away() {
    assert_eq!(plan(r#"{"cpu":{"quota":-1}}"#, &v2()), ["cpu.max = max 100000"]);
    assert_eq!(plan(r#"{"cpu":{"quota":-1}}"#, &v1()), ["cpu.cfs_quota_us = -1"]);
}

#[test]
fn shares_that_are_out_of_range_are_the_nearest() {
    assert_eq!(plan(r#"{"cpu":{"shares":1}}"#, &v1()), ["cpu.shares = 2"]);
    assert_eq!(plan(r#"{"cpu":{"shares":99999999}}"#, &v2()), ["cpu.weight = 10000"]);
}

#[test]
fn each_throttle_of_a_device_is_a_limit() {
    let device = r#"[{"major":8,"minor":0,"rate":7}]"#;
    let json = format!(r#"{{"blockIO":{{"throttleReadBpsDevice":{device},"throttleWriteIOPSDevice":{device}}}}}"#);
    assert_eq!(
        plan(&json, &v1()),
        ["blkio.throttle.read_bps_device = 8:0 7", "blkio.throttle.write_iops_device = 8:0 7"]
    );
    assert_eq!(plan(&json, &v2()), ["io.max = 8:0 rbps=7", "io.max = 8:0 wiops=7"]);
    let weights = r#"{"blockIO":{"weight":500,"weightDevice":[{"major":8,"minor":0,"weight":10}]}}"#;
    assert_eq!(plan(weights, &v2()), ["io.weight = default 4950", "io.weight = 8:0 1"]);
    let off = r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":0}]}}"#;
    assert_eq!(plan(off, &v2()), ["io.max = 8:0 rbps=max"]);
}

#[test]
fn what_v1_has_alone_is_refused_by_v2() {
    let cases = [
        (r#"{"cpu":{"realtimeRuntime":1000}}"#, "cpu.rt_runtime_us = 1000"),
        (r#"{"blockIO":{"leafWeight":20}}"#, "blkio.leaf_weight = 20"),
        (
            r#"{"blockIO":{"weightDevice":[{"major":8,"minor":0,"leafWeight":20}]}}"#,
            "blkio.leaf_weight_device = 8:0 20",
        ),
        (r#"{"network":{"classID":5}}"#, "net_cls.classid = 5"),
        (r#"{"network":{"priorities":[{"name":"lo","priority":2}]}}"#, "net_prio.ifpriomap = lo 2"),
        (r#"{"memory":{"disableOOMKiller":true}}"#, "memory.oom_control = 1"),
        (r#"{"memory":{"kernelTCP":4096}}"#, "memory.kmem.tcp.limit_in_bytes = 4096"),
    ];
    for (json, write) in cases {
        assert_eq!(plan(json, &v1()), [write]);
        assert_eq!(refused(json, &v2()), GroupError::Unsupported, "{json}");
    }
    // What engines send with every update is counted within memory there.
    assert!(plan(r#"{"memory":{"kernel":4096}}"#, &v2()).is_empty());
}

#[test]
fn unified_keys_are_written_in_one_order() {
    let json = r#"{"unified":{"pids.max":"3","memory.high":"1","future.max":"x"}}"#;
    assert_eq!(plan(json, &v2()), ["future.max = x", "memory.high = 1", "pids.max = 3"]);
    assert_eq!(refused(json, &v1()), GroupError::Unsupported);
}
