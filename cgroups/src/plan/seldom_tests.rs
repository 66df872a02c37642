//! Golden plans of what is seldom asked for, and of limits that one version spells otherwise.

use std::time::Duration;

use super::*;
use crate::{ErrorKind, IoDevice, Limits, MIB, OomKiller, UNLIMITED};

fn v2() -> Hierarchy {
    Hierarchy::detect_from("30 24 0:26 / /cg rw - cgroup2 c rw\n", "0::/\n")
}

fn v1() -> Hierarchy {
    let names = ["cpu", "memory", "blkio", "net_cls,net_prio"];
    let mounts: String = names.iter().map(|name| format!("1 2 0:3 / /cg/{name} rw - cgroup c rw,{name}\n")).collect();
    let own: String = names.iter().map(|name| format!("4:{name}:/\n")).collect();
    Hierarchy::detect_from(mounts, own)
}

fn lines(limits: &Limits, host: &Hierarchy) -> Vec<String> {
    limits.plan(host).unwrap().to_string().lines().map(|line| line[2..].to_owned()).collect()
}

#[test]
fn v1_has_them_all() {
    let disk = IoDevice::new(8, 0).leaf_weight(20);
    let limits = Limits::new()
        .memory(4 * MIB)
        .memory_and_swap(6 * MIB)
        .kernel_memory(2 * MIB)
        .kernel_tcp_memory(MIB)
        .swappiness(10)
        .oom_killer(OomKiller::Off)
        .realtime_runtime(Duration::from_millis(1))
        .realtime_period(Duration::from_millis(5))
        .leaf_weight(300)
        .io_device(disk)
        .network_class(0x10_0001)
        .network_priority("lo", 3)
        .network_priority("eth0", 4);
    let expected = [
        "v1 memory.limit_in_bytes = 4194304",
        "v1 memory.memsw.limit_in_bytes = 6291456",
        "v1 memory.kmem.limit_in_bytes = 2097152",
        "v1 memory.kmem.tcp.limit_in_bytes = 1048576",
        "v1 memory.swappiness = 10",
        "v1 memory.oom_control = 1",
        "v1 cpu.rt_period_us = 5000",
        "v1 cpu.rt_runtime_us = 1000",
        "v1 blkio.leaf_weight = 300",
        "v1 blkio.leaf_weight_device = 8:0 20",
        "v1 net_cls.classid = 1048577",
        "v1 net_prio.ifpriomap = lo 3",
        "v1 net_prio.ifpriomap = eth0 4",
    ];
    let plan = limits.plan(&v1()).unwrap();
    let found: Vec<String> = plan.writes().iter().map(ToString::to_string).collect();
    assert_eq!(found, expected);
    assert!(plan.skipped().is_empty());
}

#[test]
fn v2_refuses_what_it_cannot_express() {
    let cannot = [
        Limits::new().kernel_tcp_memory(MIB),
        Limits::new().swappiness(0),
        Limits::new().oom_killer(OomKiller::Off),
        Limits::new().realtime_runtime(Duration::ZERO),
        Limits::new().realtime_period(Duration::from_secs(1)),
        Limits::new().leaf_weight(10),
        Limits::new().io_device(IoDevice::new(8, 0).leaf_weight(20)),
        Limits::new().network_class(1),
        Limits::new().network_priority("lo", 1),
    ];
    for limits in cannot {
        assert_eq!(limits.plan(&v2()).unwrap_err().kind(), ErrorKind::Unsupported, "{limits:?}");
        let plan = limits.best_effort().plan(&v2()).unwrap();
        assert_eq!((plan.writes().len(), plan.skipped().len()), (0, 1), "{plan}");
    }
    // Kernel memory has a limit there: that of all memory.
    let kernel = Limits::new().kernel_memory(MIB).plan(&v2()).unwrap();
    assert_eq!(kernel.to_string(), "- kernel memory skipped: cgroup v2 counts it within memory\n");
    // Nothing is changed where nothing was.
    for host in [v1(), v2(), Hierarchy::default()] {
        assert_eq!(Limits::new().oom_killer(OomKiller::On).plan(&host).unwrap(), Plan::default());
    }
    assert!(Limits::new().oom_killer(OomKiller::On).is_empty());
    let back = Limits::new().oom_killer(OomKiller::On).plan_from(&v1(), &Present::new().oom_killer(OomKiller::Off));
    assert_eq!(back.unwrap().to_string(), "1 v1 memory.oom_control = 0\n");
}

#[test]
fn v2_takes_memory_off_the_sum() {
    let both = |bytes| Limits::new().memory_and_swap(bytes);
    let alone = both(6 * MIB).plan(&v2()).unwrap_err();
    assert_eq!(alone.to_string(), "cannot limit memory and swap together: that needs a limit of memory");
    let present = Present::new().memory(4 * MIB);
    assert_eq!(both(6 * MIB).plan_from(&v2(), &present).unwrap().to_string(), "1 v2 memory.swap.max = 2097152\n");
    assert_eq!(both(3 * MIB).plan_from(&v2(), &present).unwrap_err().kind(), ErrorKind::InvalidLimit);
    let told = Limits::new().memory(MIB).memory_and_swap(MIB);
    assert_eq!(lines(&told, &v2()), ["v2 memory.max = 1048576", "v2 memory.swap.max = 0"]);
    assert_eq!(lines(&both(UNLIMITED), &v2()), ["v2 memory.swap.max = max"]);
    // v1 writes the sum as it is, but no more than v2 can it limit a sum of which one part is not.
    assert_eq!(both(6 * MIB).plan(&v1()).unwrap_err().kind(), ErrorKind::InvalidLimit);
    let plan = both(6 * MIB).plan_from(&v1(), &Present::new().memory(4 * MIB)).unwrap();
    assert_eq!(plan.to_string(), "1 v1 memory.memsw.limit_in_bytes = 6291456\n");
}

#[test]
fn a_realtime_period_shrinks_after_its_runtime() {
    let limits = Limits::new().realtime_runtime(Duration::from_millis(1)).realtime_period(Duration::from_millis(2));
    let first = |present: &Present| limits.plan_from(&v1(), present).unwrap().writes()[0].file().to_owned();
    assert_eq!(first(&Present::new()), "cpu.rt_period_us");
    assert_eq!(first(&Present::new().realtime_runtime(900_000)), "cpu.rt_runtime_us");
}

#[test]
fn no_burst_is_written_only_where_there_was_one() {
    let none = Limits::new().cpu_burst(Duration::ZERO);
    for (host, file) in [(v1(), "cpu.cfs_burst_us"), (v2(), "cpu.max.burst")] {
        assert!(none.plan(&host).unwrap().writes().is_empty());
        let after = none.plan_from(&host, &Present::new().cpu_burst(5000)).unwrap();
        assert_eq!((after.writes()[0].file(), after.writes()[0].value()), (file, "0"));
    }
}

#[test]
fn a_file_of_an_unknown_controller_is_written_and_the_controller_enabled() {
    let plan = Limits::new().unified("future.max", "a 1\nb 2").pids(3).plan(&v2()).unwrap();
    assert_eq!(plan.to_string(), "1 v2 pids.max = 3\n2 v2 future.max = a 1\n3 v2 future.max = b 2\n");
    assert_eq!(plan.unified_names(), ["pids", "future", "future"]);
    assert_eq!(plan.controllers(Version::V2), [Controller::Pids]);
    let nowhere = Limits::new().unified("future.max", "1").plan(&v1()).unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::Unsupported);
}
