//! Limits on real processes: they hold, they read back, and they change. Needs root, or a delegated subtree; runs on v1, v2 and hybrid hosts.
//!
//! The binary does not depend on its working directory, so it can be started in a virtual machine as it is.

mod common;

use std::time::Duration;

use common::{Shell, delete, group, name, read, skip, until};
use keelbox_cgroups::{
    Controller, ErrorKind, Event, GIB, Group, Hierarchy, Limits, MIB, UNLIMITED,
};

/// Eats up to 300 MB: tail keeps the whole of the endless line.
const HOG: &str = "head -c 300000000 /dev/zero | tail > /dev/null";

#[test]
fn memory_limit_kills_a_real_process() {
    let limits = Limits::new().memory(24 * MIB + 1).swap(0);
    let Some(group) = group("memory", &limits, &[Controller::Memory]) else {
        return;
    };
    let memory = group.stats().unwrap().memory;
    assert_eq!(memory.limit, Some(24 * MIB), "rounded down to pages");
    assert_eq!(group.oom_kills().unwrap(), Some(0));
    let mut watch = group.watch().unwrap();
    let mut hog = Shell::new(HOG);
    group.add(hog.pid()).unwrap();
    hog.go();
    assert_eq!(hog.code(), 137, "tail was killed");
    assert_eq!(group.oom_kills().unwrap(), Some(1));
    let memory = group.stats().unwrap().memory;
    assert_eq!(memory.oom_kills, Some(1));
    if let Some(peak) = memory.peak {
        assert!(peak > 20 * MIB && peak <= 24 * MIB, "{peak}");
    }
    let event = std::iter::from_fn(|| watch.next(Some(Duration::from_secs(5))).unwrap());
    assert!(
        event
            .take(10)
            .any(|event| matches!(event, Event::OutOfMemory | Event::OomKill(_)))
    );
    delete(group);
}

#[test]
fn memory_within_the_limit_is_no_trouble() {
    let Some(group) = group(
        "roomy",
        &Limits::new().memory(2 * GIB),
        &[Controller::Memory],
    ) else {
        return;
    };
    let mut shell = Shell::new("head -c 30000000 /dev/zero | tail > /dev/null");
    group.add(shell.pid()).unwrap();
    shell.go();
    assert_eq!(shell.code(), 0);
    assert_eq!(group.oom_kills().unwrap(), Some(0));
    delete(group);
}

#[test]
fn memory_can_be_raised_and_lowered() {
    let Some(group) = group(
        "update",
        &Limits::new().memory(64 * MIB),
        &[Controller::Memory],
    ) else {
        return;
    };
    let limit = |group: &Group| group.stats().unwrap().memory.limit;
    let sizes = [512 * MIB, 32 * MIB, UNLIMITED, 128 * MIB];
    for size in sizes {
        group.update(&Limits::new().memory(size)).unwrap();
        assert_eq!(limit(&group), Some(size));
    }
    // With swap limited too, where the kernel counts it: v1 then has two files that constrain each other.
    if group.stats().unwrap().memory.swap_limit.is_some() {
        for size in sizes {
            let swap = if size == UNLIMITED {
                UNLIMITED
            } else {
                8 * MIB
            };
            group
                .update(&Limits::new().memory(size).swap(swap))
                .unwrap();
            let memory = group.stats().unwrap().memory;
            assert_eq!((memory.limit, memory.swap_limit), (Some(size), Some(swap)));
        }
        group.update(&Limits::new().memory(16 * MIB)).unwrap();
        let memory = group.stats().unwrap().memory;
        assert_eq!(
            (memory.limit, memory.swap_limit),
            (Some(16 * MIB), Some(8 * MIB)),
            "swap stays"
        );
    } else {
        skip("update", "this kernel counts no swap", true);
    }
    delete(group);
}

#[test]
fn pids_limit_makes_fork_fail() {
    let Some(group) = group("pids", &Limits::new().pids(1), &[Controller::Pids]) else {
        return;
    };
    let mut shell = Shell::new("(exit 0) && echo forked");
    group.add(shell.pid()).unwrap();
    assert_eq!(group.stats().unwrap().pids.current, Some(1));
    assert_eq!(group.stats().unwrap().pids.limit, Some(1));
    shell.go();
    assert!(
        shell.errors().to_lowercase().contains("fork"),
        "the shell says what failed"
    );
    assert_ne!(shell.code(), 0);
    assert_eq!(shell.line(), "");
    group.update(&Limits::new().pids(0)).unwrap();
    assert_eq!(
        read(&group, "pids.max").as_deref(),
        Some("0"),
        "0 is a limit"
    );
    group.update(&Limits::new().pids(UNLIMITED)).unwrap();
    assert_eq!(group.stats().unwrap().pids.limit, Some(UNLIMITED));
    delete(group);
}

#[test]
fn processor_limits_read_back() {
    let limits = Limits::new().cpus(0.5).cpu_shares(512);
    let Some(group) = group("cpu", &limits, &[Controller::Cpu]) else {
        return;
    };
    assert_eq!(group.applied().skipped, []);
    let max = read(&group, "cpu.max");
    let legacy = read(&group, "cpu.cfs_quota_us");
    assert!(max.as_deref() == Some("50000 100000") || legacy.as_deref() == Some("50000"));
    let weight = read(&group, "cpu.weight")
        .or_else(|| read(&group, "cpu.shares"))
        .unwrap();
    assert!(weight == "59" || weight == "512", "{weight}");
    let mut shell = Shell::new("while :; do :; done");
    group.add(shell.pid()).unwrap();
    shell.go();
    until("a throttled period", || {
        group
            .stats()
            .unwrap()
            .cpu
            .throttled_periods
            .is_some_and(|count| count > 0)
    });
    let limits = Limits::new().cpu_period(Duration::from_millis(50));
    group.update(&limits).unwrap();
    let max = read(&group, "cpu.max");
    let legacy = (
        read(&group, "cpu.cfs_quota_us"),
        read(&group, "cpu.cfs_period_us"),
    );
    let kept = legacy.0.as_deref() == Some("50000") && legacy.1.as_deref() == Some("50000");
    assert!(
        max.as_deref() == Some("50000 50000") || kept,
        "{max:?} {legacy:?}"
    );
    group.kill().unwrap();
    assert_eq!(shell.code(), 137);
    if let Some(usage) = group.stats().unwrap().cpu.usage {
        assert!(usage > Duration::from_millis(10), "{usage:?}");
    }
    delete(group);
}

#[test]
fn processors_and_nodes() {
    let Some(group) = group(
        "cpuset",
        &Limits::new().cpuset_cpus("0"),
        &[Controller::Cpuset],
    ) else {
        return;
    };
    let mut shell = Shell::new("grep Cpus_allowed_list /proc/self/status");
    group.add(shell.pid()).unwrap();
    shell.go();
    assert_eq!(shell.line().split_whitespace().last(), Some("0"));
    shell.code();
    delete(group);
    let error = Group::create(name("cpuset-bad"), &Limits::new().cpuset_cpus("60000")).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Os(_) | ErrorKind::NotApplied),
        "{error}"
    );
}

#[test]
fn best_effort_reports_what_is_missing() {
    let limits = Limits::new().pids(7).hugetlb("3MB", 0).best_effort();
    let Some(group) = group("effort", &limits, &[Controller::Pids]) else {
        return;
    };
    let set: Vec<_> = group
        .applied()
        .set
        .iter()
        .map(|write| write.file().to_owned())
        .collect();
    assert_eq!(set, ["pids.max"]);
    assert!(!group.applied().skipped.is_empty());
    assert!(group.applied().to_string().contains("skipped"));
    delete(group);
    let strict = Limits::new().pids(7).hugetlb("3MB", 0);
    let error = Group::create(name("effort"), &strict).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::NotFound),
        "{error}"
    );
    assert_eq!(
        Group::open(name("effort")).unwrap_err().kind(),
        ErrorKind::NotFound,
        "nothing remains"
    );
}

#[test]
fn statistics_survive_every_kind_of_host() {
    let Some(group) = group("stats", &Limits::new(), &[]) else {
        return;
    };
    let stats = group.stats().unwrap();
    assert_eq!(stats.pids.current, Some(0));
    assert_eq!(stats.io, []);
    let host = Hierarchy::detect().unwrap();
    if host.unified().is_some() {
        assert!(
            stats.cpu.usage.is_some(),
            "cgroup2 counts time in every group"
        );
    }
    delete(group);
}
