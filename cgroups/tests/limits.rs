//! Limits on real processes: they hold, they read back, and they change. Needs root, or a delegated subtree; runs on v1, v2 and hybrid hosts.
//!
//! The binary does not depend on its working directory, so it can be started in a virtual machine as it is.

mod common;

use std::time::Duration;

use common::{Shell, delete, group, name, read, skip, until};
use keelbox_cgroups::{Controller, ErrorKind, Event, GIB, Group, Hierarchy, Idle, IoDevice, Limits, MIB, UNLIMITED};

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
    assert!(event.take(10).any(|event| matches!(event, Event::OutOfMemory | Event::OomKill(_))));
    delete(group);
}

#[test]
fn memory_within_the_limit_is_no_trouble() {
    let Some(group) = group("roomy", &Limits::new().memory(2 * GIB), &[Controller::Memory]) else {
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
    let Some(group) = group("update", &Limits::new().memory(64 * MIB), &[Controller::Memory]) else {
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
            let swap = if size == UNLIMITED { UNLIMITED } else { 8 * MIB };
            group.update(&Limits::new().memory(size).swap(swap)).unwrap();
            let memory = group.stats().unwrap().memory;
            assert_eq!((memory.limit, memory.swap_limit), (Some(size), Some(swap)));
        }
        group.update(&Limits::new().memory(16 * MIB)).unwrap();
        let memory = group.stats().unwrap().memory;
        assert_eq!((memory.limit, memory.swap_limit), (Some(16 * MIB), Some(8 * MIB)), "swap stays");
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
    assert!(shell.errors().to_lowercase().contains("fork"), "the shell says what failed");
    assert_ne!(shell.code(), 0);
    assert_eq!(shell.line(), "");
    group.update(&Limits::new().pids(0)).unwrap();
    assert_eq!(read(&group, "pids.max").as_deref(), Some("0"), "0 is a limit");
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
    let weight = read(&group, "cpu.weight").or_else(|| read(&group, "cpu.shares")).unwrap();
    assert!(weight == "59" || weight == "512", "{weight}");
    let mut shell = Shell::new("while :; do :; done");
    group.add(shell.pid()).unwrap();
    shell.go();
    until("a throttled period", || group.stats().unwrap().cpu.throttled_periods.is_some_and(|count| count > 0));
    let limits = Limits::new().cpu_period(Duration::from_millis(50));
    group.update(&limits).unwrap();
    let max = read(&group, "cpu.max");
    let legacy = (read(&group, "cpu.cfs_quota_us"), read(&group, "cpu.cfs_period_us"));
    let kept = legacy.0.as_deref() == Some("50000") && legacy.1.as_deref() == Some("50000");
    assert!(max.as_deref() == Some("50000 50000") || kept, "{max:?} {legacy:?}");
    group.kill().unwrap();
    assert_eq!(shell.code(), 137);
    if let Some(usage) = group.stats().unwrap().cpu.usage {
        assert!(usage > Duration::from_millis(10), "{usage:?}");
    }
    delete(group);
}

#[test]
fn processors_and_nodes() {
    let Some(group) = group("cpuset", &Limits::new().cpuset_cpus("0"), &[Controller::Cpuset]) else {
        return;
    };
    let mut shell = Shell::new("grep Cpus_allowed_list /proc/self/status");
    group.add(shell.pid()).unwrap();
    shell.go();
    assert_eq!(shell.line().split_whitespace().last(), Some("0"));
    shell.code();
    delete(group);
    let error = Group::create(name("cpuset-bad"), &Limits::new().cpuset_cpus("60000")).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Os(_) | ErrorKind::NotApplied), "{error}");
}

#[test]
fn best_effort_reports_what_is_missing() {
    let limits = Limits::new().pids(7).hugetlb("3MB", 0).best_effort();
    let Some(group) = group("effort", &limits, &[Controller::Pids]) else {
        return;
    };
    let set: Vec<_> = group.applied().set.iter().map(|write| write.file().to_owned()).collect();
    assert_eq!(set, ["pids.max"]);
    assert!(!group.applied().skipped.is_empty());
    assert!(group.applied().to_string().contains("skipped"));
    delete(group);
    let strict = Limits::new().pids(7).hugetlb("3MB", 0);
    let error = Group::create(name("effort"), &strict).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert_eq!(Group::open(name("effort")).unwrap_err().kind(), ErrorKind::NotFound, "nothing remains");
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
        assert!(stats.cpu.usage.is_some(), "cgroup2 counts time in every group");
    }
    delete(group);
}

#[test]
fn idle_and_burst_read_back() {
    let limits = Limits::new().cpus(0.5).cpu_burst(Duration::from_millis(20)).cpu_idle(Idle::Yes);
    let Some(group) = group("idle", &limits, &[Controller::Cpu]) else {
        return;
    };
    assert_eq!(read(&group, "cpu.idle").as_deref(), Some("1"));
    let burst = |group: &Group| read(group, "cpu.max.burst").or_else(|| read(group, "cpu.cfs_burst_us"));
    assert_eq!(burst(&group).as_deref(), Some("20000"));
    // Lower, and back to a weight: each order but one is refused by the kernel.
    let ms = Duration::from_millis;
    group.update(&Limits::new().cpu_quota(ms(10)).cpu_burst(ms(5)).cpu_idle(Idle::No).cpu_weight(200)).unwrap();
    assert_eq!(burst(&group).as_deref(), Some("5000"));
    group.update(&Limits::new().cpu_quota(ms(90)).cpu_burst(ms(80))).unwrap();
    assert_eq!(burst(&group).as_deref(), Some("80000"));
    delete(group);
}

#[test]
fn device_rates_read_back_and_go_away() {
    // Any block device will do: the limits hold for our own, idle group.
    let text = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let Some(numbers) = text.filter_map(|entry| std::fs::read_to_string(entry.path().join("dev")).ok()).next() else {
        return skip("rates", "no block device", true);
    };
    let (major, minor) = numbers.trim().split_once(':').unwrap();
    let device = IoDevice::new(major.parse().unwrap(), minor.parse().unwrap());
    let limits = Limits::new().io_device(device.clone().read_bytes(MIB).write_operations(50));
    let Some(group) = group("rates", &limits, &[Controller::Io]) else {
        return;
    };
    let max = read(&group, "io.max").or_else(|| read(&group, "blkio.throttle.read_bps_device")).unwrap();
    assert!(max.contains("1048576"), "{max}");
    group.update(&Limits::new().io_device(device.read_bytes(UNLIMITED).write_operations(UNLIMITED))).unwrap();
    let max = read(&group, "io.max").or_else(|| read(&group, "blkio.throttle.read_bps_device")).unwrap();
    assert_eq!(max, "");
    delete(group);
}

#[test]
fn raw_files_of_either_version() {
    let host = Hierarchy::detect().unwrap();
    let is_legacy = host.legacy().iter().any(|mount| mount.controllers().contains(&Controller::Memory));
    let (limits, file, value) = if is_legacy {
        (Limits::new().legacy("memory.swappiness", "7"), "memory.swappiness", "7")
    } else {
        (Limits::new().unified("memory.high", "1000000"), "memory.high", "999424")
    };
    let Some(group) = group("raw", &limits, &[Controller::Memory]) else {
        return;
    };
    assert_eq!(read(&group, file).as_deref(), Some(value));
    delete(group);
    // A value that the kernel takes and does not keep is an error, and nothing remains.
    let name = name("raw");
    let bad = if is_legacy {
        Limits::new().legacy("memory.swappiness", "-5")
    } else {
        Limits::new().unified("memory.high", "-5")
    };
    let error = Group::create(&name, &bad).unwrap_err();
    assert!(error.to_string().contains(file), "{error}");
    assert_eq!(Group::open(&name).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn huge_pages_read_back() {
    let limits = Limits::new().hugetlb("2MB", 5 * MIB);
    if !std::path::Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB").exists() {
        return skip("huge", "no huge pages of 2 MB", true);
    }
    let Some(group) = group("huge", &limits, &[Controller::Hugetlb]) else {
        return;
    };
    let stats = group.stats().unwrap().hugetlb;
    let two = stats.iter().find(|stats| stats.page_size == "2MB").unwrap();
    assert_eq!((two.current, two.limit), (Some(0), Some(4 * MIB)), "rounded down to whole pages");
    assert_eq!(two.failures, Some(0));
    delete(group);
}

#[test]
fn a_command_is_born_in_the_group() {
    let Some(group) = group("command", &Limits::new().pids(16), &[Controller::Pids]) else {
        return;
    };
    let mut command = group.command("cat").expect("the stage can be made");
    let output = command.arg("/proc/self/cgroup").output().expect("cat is installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let name = group.path().display().to_string();
    assert!(text.lines().any(|line| line.ends_with(&name)), "{text}");
    delete(group);
}
