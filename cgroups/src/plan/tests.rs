//! Golden plans: every limit on every kind of host.

use std::time::Duration;

use super::*;
use crate::{ErrorKind, GIB, Idle, IoDevice, Limits, MIB, RdmaDevice, UNLIMITED};

fn v2() -> Hierarchy {
    Hierarchy::detect_from("30 24 0:26 / /cg rw - cgroup2 c rw\n", "0::/\n")
}

/// Every v1 controller, cpu and cpuacct together, and no cgroup2.
fn v1() -> Hierarchy {
    let names = ["cpuset", "cpu,cpuacct", "memory", "blkio", "pids", "hugetlb", "rdma", "devices", "freezer"];
    let mounts: String = names.iter().map(|name| format!("1 2 0:3 / /cg/{name} rw - cgroup c rw,{name}\n")).collect();
    let own: String = names.iter().map(|name| format!("4:{name}:/\n")).collect();
    Hierarchy::detect_from(mounts, own)
}

/// Memory is a v1 controller, the rest is v2.
fn hybrid() -> Hierarchy {
    let mounts = "1 2 0:3 / /cg/memory rw - cgroup c rw,memory\n1 2 0:4 / /cg/unified rw - cgroup2 c rw\n";
    Hierarchy::detect_from(mounts, "4:memory:/\n0::/\n")
}

fn everything() -> Limits {
    let disk =
        IoDevice::new(8, 16).weight(200).read_bytes(MIB).write_bytes(UNLIMITED).read_operations(5).write_operations(6);
    Limits::new()
        .memory(256 * MIB)
        .memory_low(64 * MIB)
        .swap(64 * MIB)
        .cpu_quota(Duration::from_millis(20))
        .cpu_period(Duration::from_millis(40))
        .cpu_burst(Duration::from_millis(10))
        .cpu_weight(50)
        .pids(32)
        .cpuset_cpus("1,0")
        .cpuset_mems("0")
        .io_weight(500)
        .io_device(disk)
        .hugetlb("2MB", 4 * MIB)
        .rdma(RdmaDevice::new("mlx5_0").handles(2).objects(9))
}

#[test]
fn all_limits_on_v2() {
    let limits = everything().unified("memory.high", "1000000").unified("cgroup.max.depth", "3");
    let plan = limits.plan(&v2()).unwrap();
    assert_eq!(
        plan.to_string(),
        "\
1 v2 memory.max = 268435456
2 v2 memory.low = 67108864
3 v2 memory.swap.max = 67108864
4 v2 cpu.weight = 50
5 v2 cpu.max = 20000 40000
6 v2 cpu.max.burst = 10000
7 v2 cpuset.cpus = 0-1
8 v2 cpuset.mems = 0
9 v2 pids.max = 32
10 v2 io.weight = default 500 (or io.bfq.weight = default 136)
11 v2 io.weight = 8:16 200 (or io.bfq.weight = 8:16 109)
12 v2 io.max = 8:16 rbps=1048576 wbps=max riops=5 wiops=6
13 v2 hugetlb.2MB.max = 4194304
14 v2 hugetlb.2MB.rsvd.max = 4194304
15 v2 rdma.max = mlx5_0 hca_handle=2 hca_object=9
16 v2 memory.high = 1000000
17 v2 cgroup.max.depth = 3
"
    );
    use Controller::*;
    assert_eq!(plan.controllers(Version::V2), [Cpu, Cpuset, Memory, Io, Pids, Hugetlb, Rdma]);
    assert!(plan.controllers(Version::V1).is_empty());
}

#[test]
fn all_limits_on_v1() {
    let plan = everything().legacy("memory.swappiness", "10").plan(&v1()).unwrap();
    assert_eq!(
        plan.to_string(),
        "\
1 v1 memory.limit_in_bytes = 268435456
2 v1 memory.memsw.limit_in_bytes = 335544320
3 v1 memory.soft_limit_in_bytes = 67108864
4 v1 cpu.shares = 421
5 v1 cpu.cfs_period_us = 40000
6 v1 cpu.cfs_quota_us = 20000
7 v1 cpu.cfs_burst_us = 10000
8 v1 cpuset.cpus = 0-1
9 v1 cpuset.mems = 0
10 v1 pids.max = 32
11 v1 blkio.weight = 59 (or blkio.bfq.weight = 136)
12 v1 blkio.weight_device = 8:16 30 (or blkio.bfq.weight_device = 8:16 109)
13 v1 blkio.throttle.read_bps_device = 8:16 1048576
14 v1 blkio.throttle.write_bps_device = 8:16 0
15 v1 blkio.throttle.read_iops_device = 8:16 5
16 v1 blkio.throttle.write_iops_device = 8:16 6
17 v1 hugetlb.2MB.limit_in_bytes = 4194304
18 v1 hugetlb.2MB.rsvd.limit_in_bytes = 4194304
19 v1 rdma.max = mlx5_0 hca_handle=2 hca_object=9
20 v1 memory.swappiness = 10
"
    );
}

#[test]
fn on_a_hybrid_host_each_controller_goes_where_it_lives() {
    let limits = Limits::new().memory(GIB).pids(0).unified("pids.max", "5").legacy("memory.swappiness", "0");
    let plan = limits.plan(&hybrid()).unwrap();
    assert_eq!(
        plan.to_string(),
        "\
1 v1 memory.limit_in_bytes = 1073741824
2 v2 pids.max = 0
3 v2 pids.max = 5
4 v1 memory.swappiness = 0
"
    );
    let misplaced = Limits::new().unified("memory.high", "1");
    assert_eq!(misplaced.plan(&hybrid()).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn no_limit_is_written_as_the_version_spells_it() {
    let limits = Limits::new().memory(UNLIMITED).swap(UNLIMITED).pids(UNLIMITED).cpu_quota(Duration::MAX);
    let v2 = limits.plan(&v2()).unwrap().to_string();
    assert_eq!(
        v2,
        "1 v2 memory.max = max\n2 v2 memory.swap.max = max\n3 v2 cpu.max = max 100000\n4 v2 pids.max = max\n"
    );
    let v1 = limits.plan(&v1()).unwrap().to_string();
    let memory = "1 v1 memory.limit_in_bytes = -1\n2 v1 memory.memsw.limit_in_bytes = -1\n";
    assert_eq!(v1, format!("{memory}3 v1 cpu.cfs_quota_us = -1\n4 v1 pids.max = max\n"));
}

/// The two writes of v1 memory, as `first, second`.
fn order(limits: &Limits, present: &Present) -> String {
    let plan = limits.plan_from(&v1(), present).unwrap();
    let short = |write: &Write| {
        let name = if write.file().contains("memsw") { "both" } else { "memory" };
        format!("{name} {}", write.value())
    };
    plan.writes().iter().map(short).collect::<Vec<_>>().join(", ")
}

#[test]
fn v1_memory_and_swap_keep_their_order_at_every_moment() {
    let fresh = Present::new();
    let small = Present::new().memory(10_000).memory_and_swap(20_000);
    let unlimited_swap = Present::new().memory(10_000);
    let memory = |bytes| Limits::new().memory(bytes);
    let cases = [
        (memory(10_000).swap(5000), &fresh, "memory 10000, both 15000"),
        (memory(10_000).swap(0), &fresh, "memory 10000, both 10000"),
        (memory(10_000), &fresh, "memory 10000"),
        // Raising beyond the old sum: the sum first.
        (memory(30_000).swap(0), &small, "both 30000, memory 30000"),
        (memory(UNLIMITED).swap(UNLIMITED), &small, "both -1, memory -1"),
        // Lowering, or raising within the old sum: memory first.
        (memory(5000).swap(0), &small, "memory 5000, both 5000"),
        (memory(15_000).swap(0), &small, "memory 15000, both 15000"),
        (memory(20_000).swap(0), &small, "memory 20000, both 20000"),
        // Memory alone: the swap allowance of 10000 stays.
        (memory(30_000), &small, "both 40000, memory 30000"),
        (memory(5000), &small, "memory 5000, both 15000"),
        (memory(UNLIMITED), &small, "both -1, memory -1"),
        (memory(5000), &unlimited_swap, "memory 5000"),
        // Swap alone: on top of the memory limit there is.
        (Limits::new().swap(1000), &small, "both 11000"),
        (Limits::new().swap(UNLIMITED), &small, "both -1"),
    ];
    for (limits, present, expected) in cases {
        assert_eq!(order(&limits, present), expected, "{limits:?} from {present:?}");
    }
}

#[test]
fn v1_swap_without_memory_is_refused_or_reported() {
    let limits = Limits::new().swap(0).pids(1);
    assert_eq!(limits.plan(&v1()).unwrap_err().kind(), ErrorKind::Unsupported);
    let plan = limits.best_effort().plan(&v1()).unwrap();
    assert_eq!(plan.writes().len(), 1);
    assert_eq!(plan.skipped()[0].what, "swap");
    assert!(plan.to_string().contains("- swap skipped: "));
    assert_eq!(Limits::new().swap(0).plan(&v2()).unwrap().to_string(), "1 v2 memory.swap.max = 0\n");
}

#[test]
fn v1_quota_and_period_never_exceed_the_higher_ratio_in_between() {
    let present = Present::new().cpu_quota(50_000).cpu_period(100_000);
    for quota in [10_000u64, 50_000, 90_000, 400_000] {
        for period in [10_000u64, 100_000, 500_000] {
            let limits =
                Limits::new().cpu_quota(Duration::from_micros(quota)).cpu_period(Duration::from_micros(period));
            let plan = limits.plan_from(&v1(), &present).unwrap();
            let between = match plan.writes()[0].file() {
                "cpu.cfs_period_us" => 50_000.0 / period as f64,
                _ => quota as f64 / 100_000.0,
            };
            let highest = 0.5f64.max(quota as f64 / period as f64);
            assert!(between <= highest, "{quota}/{period}: {plan}");
        }
    }
}

#[test]
fn a_burst_is_lowered_first_and_raised_last() {
    let present = Present::new().cpu_quota(50_000).cpu_burst(40_000);
    let ms = Duration::from_millis;
    let lower = Limits::new().cpu_quota(ms(20)).cpu_burst(ms(10));
    let raise = Limits::new().cpu_quota(ms(90)).cpu_burst(ms(80));
    let files = |limits: &Limits, host: &Hierarchy| {
        let plan = limits.plan_from(host, &present).unwrap();
        plan.writes().iter().map(|write| write.file().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(files(&lower, &v2()), ["cpu.max.burst", "cpu.max"]);
    assert_eq!(files(&raise, &v2()), ["cpu.max", "cpu.max.burst"]);
    assert_eq!(files(&lower, &v1()), ["cpu.cfs_burst_us", "cpu.cfs_quota_us"]);
    assert_eq!(files(&raise, &v1()), ["cpu.cfs_quota_us", "cpu.cfs_burst_us"]);
}

#[test]
fn a_period_or_quota_alone_keeps_the_other() {
    let present = Present::new().cpu_quota(50_000).cpu_period(200_000);
    let period = Limits::new().cpu_period(Duration::from_millis(100)).plan_from(&v2(), &present).unwrap();
    assert_eq!(period.writes()[0].value(), "50000 100000");
    let quota = Limits::new().cpu_quota(Duration::from_millis(10)).plan_from(&v2(), &present).unwrap();
    assert_eq!(quota.writes()[0].value(), "10000 200000");
}

#[test]
fn idle_comes_before_the_weight() {
    let limits = Limits::new().cpu_weight(100).cpu_idle(Idle::No);
    assert_eq!(limits.plan(&v2()).unwrap().to_string(), "1 v2 cpu.idle = 0\n2 v2 cpu.weight = 100\n");
    assert_eq!(limits.plan(&v1()).unwrap().to_string(), "1 v1 cpu.idle = 0\n2 v1 cpu.shares = 1024\n");
}

#[test]
fn scales_are_converted_only_where_they_must_be() {
    let limits = Limits::new().cpu_shares(512).blkio_weight(500);
    let on_v2 = limits.plan(&v2()).unwrap().to_string();
    assert_eq!(on_v2, "1 v2 cpu.weight = 59\n2 v2 io.weight = default 4950 (or io.bfq.weight = default 540)\n");
    let on_v1 = limits.plan(&v1()).unwrap().to_string();
    assert_eq!(on_v1, "1 v1 cpu.shares = 512\n2 v1 blkio.weight = 500 (or blkio.bfq.weight = 500)\n");
}

#[test]
fn a_host_without_the_controller_says_so() {
    let nothing = Hierarchy::default();
    for limits in [
        Limits::new().memory(MIB),
        Limits::new().cpus(1.0),
        Limits::new().pids(1),
        Limits::new().cpuset_cpus("0"),
        Limits::new().io_weight(1),
        Limits::new().hugetlb("2MB", 0),
        Limits::new().rdma(RdmaDevice::new("x").handles(1)),
        Limits::new().unified("cpu.max", "max"),
        Limits::new().legacy("cpu.shares", "2"),
    ] {
        assert_eq!(limits.plan(&nothing).unwrap_err().kind(), ErrorKind::Unsupported, "{limits:?}");
        let plan = limits.best_effort().plan(&nothing).unwrap();
        assert_eq!((plan.writes().len(), plan.skipped().len()), (0, 1));
    }
    assert_eq!(Limits::new().plan(&nothing).unwrap(), Plan::default());
}
