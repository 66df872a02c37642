//! What is refused, and what is not.

use super::*;
use crate::ErrorKind;

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

#[test]
fn nonsense_is_refused() {
    let new = Limits::new;
    let disk = || IoDevice::new(8, 0);
    let bad = [
        new().memory(0),
        new().memory(4095),
        new().memory(u64::MAX - 1),
        new().swap(1 << 63),
        new().memory(i64::MAX as u64).swap(i64::MAX as u64),
        new().memory(4096).memory_low(8192),
        new().cpus(0.0),
        new().cpus(-1.0),
        new().cpus(f64::NAN),
        new().cpus(f64::INFINITY),
        new().cpus(0.0009),
        new().cpus(1.0).cpu_quota(ms(5)),
        new().cpus(1.0).cpu_period(ms(5)),
        new().cpu_quota(Duration::ZERO),
        new().cpu_quota(Duration::from_micros(999)),
        new().cpu_period(Duration::ZERO),
        new().cpu_period(ms(1001)),
        new().cpu_quota(ms(5)).cpu_burst(ms(6)),
        new().cpu_weight(0),
        new().cpu_weight(10_001),
        new().cpu_shares(1),
        new().cpu_shares(262_145),
        new().cpu_weight(100).cpu_idle(Idle::Yes),
        new().pids(4_194_305),
        new().cpuset_cpus(""),
        new().cpuset_cpus("a"),
        new().cpuset_cpus("3-1"),
        new().cpuset_cpus("0,"),
        new().cpuset_cpus("-1"),
        new().cpuset_mems("0\n1"),
        new().cpuset_cpus("0-99999999"),
        new().io_weight(0),
        new().io_weight(10_001),
        new().blkio_weight(9),
        new().blkio_weight(1001),
        new().io_device(disk()),
        new().io_device(disk().read_bytes(0)),
        new().io_device(disk().read_operations(1 << 32)),
        new().io_device(disk().weight(0)),
        new().io_device(IoDevice::new(4096, 0).weight(5)),
        new().hugetlb("2M", 0),
        new().hugetlb("MB", 0),
        new().hugetlb("../2MB", 0),
        new().hugetlb("", 0),
        new().hugetlb("2MB", 1 << 63),
        new().rdma(RdmaDevice::new("mlx5")),
        new().rdma(RdmaDevice::new("").handles(1)),
        new().rdma(RdmaDevice::new("a b").handles(1)),
    ];
    all_refused(bad);
}

fn all_refused(bad: impl IntoIterator<Item = Limits>) {
    for limits in bad {
        let error = Checked::of(&limits).expect_err(&format!("{limits:?}"));
        assert_eq!(error.kind(), ErrorKind::InvalidLimit, "{error}");
        let best_effort = Checked::of(&limits.best_effort());
        assert!(best_effort.is_err(), "nonsense stays nonsense");
    }
}

#[test]
fn nonsense_that_is_seldom_asked_for_is_refused() {
    let new = Limits::new;
    all_refused([
        new().swap(0).memory_and_swap(1 << 20),
        new().memory(2 << 20).memory_and_swap(1 << 20),
        new().memory(UNLIMITED).memory_and_swap(1 << 20),
        new().swappiness(201),
        new().leaf_weight(9),
        new().io_device(IoDevice::new(8, 0).leaf_weight(1001)),
        new().network_priority("a/b", 1),
        new().network_priority("", 1),
        new().realtime_runtime(Duration::from_millis(2)).realtime_period(Duration::from_millis(1)),
        new().realtime_period(Duration::ZERO),
    ]);
}

#[test]
fn raw_keys_are_checked() {
    let bad = [
        ("../../cgroup.procs", "1"),
        ("memory/../x", "1"),
        ("", "1"),
        ("memory", "1"),
        ("memory.", "1"),
        (".max", "1"),
        ("memory.high\n", "1"),
        ("memory.hi gh", "1"),
        ("cgroup.procs", "1"),
        ("cgroup.kill", "1"),
        ("cgroup.freeze", "1"),
        ("cgroup.subtree_control", "+io"),
        ("cgroup.type", "threaded"),
        ("memory.high", ""),
        ("memory.high", " \n"),
        ("memory.high", "1\0"),
    ];
    for (key, value) in bad {
        for limits in [Limits::new().unified(key, value), Limits::new().legacy(key, value)] {
            let error = Checked::of(&limits).expect_err(key);
            assert_eq!(error.kind(), ErrorKind::InvalidLimit, "{key:?}");
            assert!(!error.to_string().contains('\n'), "{key:?}");
        }
    }
    assert!(Checked::of(&Limits::new().unified("blkio.weight", "1")).is_err(), "a v1 name is no v2 file");
    assert!(Checked::of(&Limits::new().legacy("io.weight", "1")).is_err(), "a v2 name is no v1 file");
    // A controller that is new to us is for the kernel to know.
    assert_eq!(Checked::of(&Limits::new().unified("nothing.max", "1")).unwrap().unified[0].controller, None);
    assert!(Checked::of(&Limits::new().legacy("nothing.max", "1")).is_err());
    assert!(Checked::of(&Limits::new().legacy("freezer.state", "FROZEN")).is_err());
    let good = Checked::of(&Limits::new().unified("io.max", "8:0 rbps=1\n\n 8:16 rbps=2\n")).unwrap();
    assert_eq!(good.unified[0].lines, ["8:0 rbps=1", "8:16 rbps=2"]);
    assert!(Checked::of(&Limits::new().unified("cgroup.max.depth", "3")).is_ok());
    assert!(Checked::of(&Limits::new().legacy("memory.swappiness", "3")).is_ok());
}

#[test]
fn the_edges_are_allowed() {
    let limits = Limits::new()
        .memory(4096)
        .memory_low(0)
        .swap(0)
        .pids(0)
        .cpu_weight(1)
        .cpu_burst(Duration::ZERO)
        .hugetlb("2MB", 0);
    let checked = Checked::of(&limits).unwrap();
    assert_eq!((checked.pids, checked.swap), (Some(Max::Finite(0)), Some(Max::Finite(0))));
    let none =
        Limits::new().memory(UNLIMITED).memory_low(UNLIMITED).swap(UNLIMITED).pids(UNLIMITED).cpu_quota(Duration::MAX);
    let checked = Checked::of(&none).unwrap();
    for limit in [checked.memory, checked.memory_low, checked.swap, checked.pids, checked.quota] {
        assert_eq!(limit, Some(Max::Unlimited));
    }
}

#[test]
fn cpus_become_a_quota() {
    let cases = [(0.5, 50_000, 100_000), (2.0, 200_000, 100_000), (0.01, 1000, 100_000), (0.005, 5000, 1_000_000)];
    for (cpus, quota, period) in cases {
        let checked = Checked::of(&Limits::new().cpus(cpus)).unwrap();
        assert_eq!((checked.quota, checked.period), (Some(Max::Finite(quota)), Some(period)), "{cpus}");
    }
}

#[test]
fn lists_take_the_form_of_the_kernel() {
    for (list, normal) in [("0", "0"), (" 3, 0-1 ", "0-1,3"), ("2,1,0", "0-2"), ("4,0,2", "0,2,4"), ("1-1", "1")] {
        assert_eq!(number_list("x", list).unwrap(), normal, "{list}");
    }
}
