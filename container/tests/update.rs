//! Limits and device rules that change while a container runs, as engines send them.

mod common;

use keelbox::crates::cgroups::Event;
use keelbox::{Container, ErrorKind, Handle, MIB, Runtime, Signal};
use keelbox_testkit::{self as testkit, require};
use oci_spec::runtime::LinuxResources;
use std::time::Duration;

fn resources(json: &str) -> testkit::Result<LinuxResources> {
    Ok(serde_json::from_str(json)?)
}

/// A running container that does nothing, in a directory of states that goes with the test.
fn idle(states: &std::path::Path, root: &std::path::Path, name: &str) -> testkit::Result<Handle> {
    let built = Container::from_rootfs(root).args(["sleep", "1000"]).memory(64 * MIB).pids(20).build()?;
    let handle = Runtime::at(states).create(&built, name)?;
    handle.start()?;
    Ok(handle)
}

#[test]
fn what_is_not_named_stays() -> testkit::Result {
    require!(Root, Program("busybox"), Cgroup("memory"), Cgroup("pids"));
    let (root, states) = (testkit::busybox_root()?, tempfile::tempdir()?);
    let handle = idle(states.path(), root.path(), "update-stays")?;
    let limits = || handle.stats().map(|stats| (stats.memory.limit, stats.pids.limit));
    // What dockerd sends: zeros for everything else it knows.
    let docker = r#"{"memory":{"limit":134217728,"reservation":0,"kernel":67108864},"cpu":{"shares":0,"quota":0,"period":0},
        "blockIO":{"weight":0}}"#;
    handle.update_resources(&resources(docker)?)?;
    assert_eq!(limits()?, (Some(128 * MIB), Some(20)));
    handle.update_resources(&resources(r#"{"pids":{"limit":7}}"#)?)?;
    assert_eq!(limits()?, (Some(128 * MIB), Some(7)));
    handle.update_resources(&resources("{}")?)?;
    assert_eq!(limits()?, (Some(128 * MIB), Some(7)));
    // A controller that the group was without so far is joined with its processes.
    handle.update_resources(&resources(r#"{"cpu":{"shares":512}}"#)?)?;
    let pid = handle.pid().ok_or("it runs")?;
    assert!(handle.processes()?.contains(&pid));
    let nonsense =
        handle.update_resources(&resources(r#"{"memory":{"limit":2097152,"swap":1048576},"pids":{"limit":3}}"#)?);
    assert_eq!(nonsense.expect_err("less than memory alone").kind(), ErrorKind::Invalid);
    assert_eq!(limits()?, (Some(128 * MIB), Some(7)), "nothing was changed");
    handle.kill(Signal::KILL)?;
    handle.wait()?;
    let late = handle.update_resources(&resources(r#"{"pids":{"limit":3}}"#)?);
    assert_eq!(late.expect_err("it has ended").kind(), ErrorKind::State);
    handle.delete()?;
    Ok(())
}

#[test]
fn a_limit_below_what_is_used_is_refused_if_that_is_to_be_checked() -> testkit::Result {
    require!(Root, Program("busybox"), Cgroup("memory"));
    let (root, states) = (testkit::busybox_root()?, tempfile::tempdir()?);
    // Memory that cannot be reclaimed: files in a tmpfs.
    let script = "dd if=/dev/zero of=/dev/shm/full bs=1M count=24 2>/dev/null; echo full > /dev/shm/ready; sleep 1000";
    let built = Container::from_rootfs(root.path()).args(["sh", "-c", script]).memory(64 * MIB).build()?;
    let handle = Runtime::at(states.path()).create(&built, "update-below")?;
    handle.start()?;
    let begun = std::time::Instant::now();
    while handle.stats()?.memory.current < Some(24 * MIB) {
        assert!(begun.elapsed() < Duration::from_secs(20), "it never was full");
        std::thread::sleep(Duration::from_millis(5));
    }
    let checked = r#"{"memory":{"limit":8388608,"checkBeforeUpdate":true}}"#;
    let error = handle.update_resources(&resources(checked)?).expect_err("24 MiB are in use");
    assert!(error.report().contains("are in use"), "{}", error.report());
    assert_eq!(handle.stats()?.memory.limit, Some(64 * MIB));
    handle.update_resources(&resources(r#"{"memory":{"limit":50331648,"checkBeforeUpdate":true}}"#)?)?;
    assert_eq!(handle.stats()?.memory.limit, Some(48 * MIB));
    handle.delete_force()?;
    Ok(())
}

#[test]
fn device_rules_replace_those_before() -> testkit::Result {
    require!(Root, Program("busybox"), Exists("/dev/net/tun"), Cgroup("devices"));
    let (root, states) = (testkit::busybox_root()?, tempfile::tempdir()?);
    let built = Container::from_rootfs(root.path()).args(["sleep", "1000"]).bind("/dev/net/tun", "/tun");
    let handle = Runtime::at(states.path()).create(&built.control_group().build()?, "update-devices")?;
    handle.start()?;
    let opens = || -> testkit::Result<bool> { Ok(handle.exec(["sh", "-c", ": < /tun"]).output()?.status.success()) };
    assert!(opens()?);
    let deny = r#"{"devices":[{"allow":false,"access":"rwm"}]}"#;
    let tun =
        r#"{"devices":[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":10,"minor":200,"access":"r"}]}"#;
    for (rules, expected) in [(deny, false), (tun, true), (tun, true), (deny, false), ("{}", false), (tun, true)] {
        handle.update_resources(&resources(rules)?)?;
        assert_eq!(opens()?, expected, "{rules}");
    }
    handle.delete_force()?;
    Ok(())
}

#[test]
fn whoever_watches_is_told_of_memory_running_out() -> testkit::Result {
    require!(Root, Program("busybox"), Cgroup("memory"));
    let (root, states) = (testkit::busybox_root()?, tempfile::tempdir()?);
    let script = "sh -c 'tail /dev/zero'; sleep 1000";
    let built = Container::from_rootfs(root.path()).args(["sh", "-c", script]).memory(24 * MIB).swap(0).build()?;
    let handle = Runtime::at(states.path()).create(&built, "update-watch")?;
    let mut watch = handle.watch()?;
    handle.start()?;
    let told = std::iter::from_fn(|| watch.next(Some(Duration::from_secs(20))).transpose());
    let mut told = told.take(20).filter_map(Result::ok);
    assert!(told.any(|event| matches!(event, Event::OutOfMemory | Event::OomKill(_))));
    handle.delete_force()?;
    Ok(())
}
