//! Bundles that are read and written again, and bundles of the builder run by another runtime.

use std::fs;
use std::path::Path;
use std::process::Command;

use keelbox::{Container, MIB, Profile};
use keelbox_testkit::{self as testkit, require};
use serde_json::{Value, json};

fn config(bundle: &Path) -> testkit::Result<Value> {
    Ok(serde_json::from_slice(&fs::read(bundle.join("config.json"))?)?)
}

/// A configuration with as much in it as one can have here.
fn rich(root: &Path) -> Value {
    json!({
        "ociVersion": "1.1.0",
        "root": { "path": root, "readonly": true },
        "hostname": "box",
        "process": {
            "user": { "uid": 1, "gid": 2, "additionalGids": [5, 6], "umask": 18 },
            "args": ["true"], "env": ["A=b"], "cwd": "/",
            "capabilities": { "bounding": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"] },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 64, "hard": 128 }],
            "noNewPrivileges": true, "oomScoreAdj": 100
        },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"] },
            { "destination": "/data", "type": "none", "source": "sub", "options": ["rbind", "ro"] },
            { "destination": "/m", "type": "none", "source": root, "options": ["bind", "idmap"],
              "uidMappings": [{ "containerID": 0, "hostID": 10, "size": 5 }],
              "gidMappings": [{ "containerID": 0, "hostID": 20, "size": 5 }] }
        ],
        "annotations": { "some": "thing" },
        "linux": {
            "namespaces": [{ "type": "mount" }, { "type": "pid" }, { "type": "uts" }],
            "devices": [{ "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438, "uid": 0, "gid": 3 }],
            "resources": {
                "devices": [
                    { "allow": false, "access": "rwm" },
                    { "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw" }
                ],
                "memory": { "limit": 67_108_864, "reservation": 33_554_432 },
                "cpu": { "shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0" },
                "pids": { "limit": 32 },
                "blockIO": { "weight": 100 },
                "hugepageLimits": [{ "pageSize": "2MB", "limit": 0 }]
            },
            "seccomp": {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{ "names": ["swapon"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 }]
            },
            "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"],
            "sysctl": { "kernel.domainname": "lane" },
            "rootfsPropagation": "rslave"
        }
    })
}

/// That everything in `wanted` is in `found` as well.
fn within(wanted: &Value, found: &Value, place: &str) {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(_)) => {
            wanted.iter().for_each(|(name, value)| within(value, &found[name], &format!("{place}/{name}")));
        }
        (Value::Array(wanted), Value::Array(list)) => {
            assert_eq!(wanted.len(), list.len(), "{place}: {list:?}");
            wanted
                .iter()
                .zip(list)
                .enumerate()
                .for_each(|(at, (one, other))| within(one, other, &format!("{place}/{at}")));
        }
        (wanted, found) => assert_eq!(wanted, found, "{place}"),
    }
}

#[test]
fn what_is_read_is_written_again() -> testkit::Result {
    let root = testkit::probe_root()?;
    let (from, to, again) = (tempfile::tempdir()?, tempfile::tempdir()?, tempfile::tempdir()?);
    fs::create_dir(from.path().join("sub"))?;
    let mut wanted = rich(root.path());
    fs::write(from.path().join("config.json"), wanted.to_string())?;
    Container::from_bundle(from.path())?.build()?.write_bundle(to.path())?;
    // The one thing that a bundle elsewhere must have otherwise.
    wanted["mounts"][1]["source"] = json!(from.path().join("sub"));
    within(&wanted, &config(to.path())?, "");
    Container::from_bundle(to.path())?.build()?.write_bundle(again.path())?;
    assert_eq!(config(to.path())?, config(again.path())?, "twice is once");
    // A limit that was changed since is changed, and the rest stays.
    Container::from_bundle(from.path())?.memory(128 * MIB).build()?.write_bundle(again.path())?;
    wanted["linux"]["resources"]["memory"]["limit"] = json!(128 * MIB);
    within(&wanted, &config(again.path())?, "");
    Ok(())
}

#[test]
fn what_the_builder_adds_is_written() -> testkit::Result {
    let root = testkit::probe_root()?;
    let to = tempfile::tempdir()?;
    let run = || Container::from_rootfs(root.path()).args(["/probe", "true"]);
    run().mask("/secret").build()?.write_bundle(to.path())?;
    let ordinary = config(to.path())?;
    assert_eq!(ordinary["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_ERRNO");
    let masked = ordinary["linux"]["maskedPaths"].as_array().map(Vec::len);
    assert!(masked.is_some_and(|count| count > 12), "{masked:?}");
    let pts =
        ordinary["mounts"].as_array().and_then(|list| list.iter().find(|mount| mount["destination"] == "/dev/pts"));
    if nix::unistd::geteuid().is_root() {
        assert!(pts.is_some_and(|pts| pts["options"].as_array().is_some_and(|list| list.contains(&json!("gid=5")))));
    }
    run().profile(Profile::Hostile).build()?.write_bundle(to.path())?;
    assert!(config(to.path())?.to_string().contains("nr_inodes=65536"));
    run().profile(Profile::Trusted).build()?.write_bundle(to.path())?;
    assert_eq!(config(to.path())?["linux"]["seccomp"], Value::Null);
    run().no_seccomp().build()?.write_bundle(to.path())?;
    assert_eq!(config(to.path())?["linux"]["seccomp"], Value::Null);
    run().tmpfs("/dev", 4096).build()?.write_bundle(to.path())?;
    let places: Vec<String> = config(to.path())?["mounts"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|mount| mount["destination"].to_string())
        .collect();
    assert_eq!(places[..3], ["\"/proc\"", "\"/dev\"", "\"/dev/pts\""], "its own /dev comes before what is in it");
    Ok(())
}

/// What differs by runtime is left out of a mount: numbers, the way the root came to be, what hides others, and the order.
fn comparable(text: &str, masked: &Value) -> Vec<String> {
    let one = |line: &str| {
        let (mount, system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(4);
        let (point, options) = (mount.next()?, mount.next()?);
        if masked.as_array().is_some_and(|list| list.iter().any(|path| path == point)) {
            return Some(format!("{point} is masked"));
        }
        let (kind, rest) = system.split_once(' ')?;
        let mut own: Vec<&str> = rest.split_once(' ')?.1.split(',').filter(|word| !word.starts_with("inode")).collect();
        own.sort_unstable();
        let mut options: Vec<&str> = options.split(',').collect();
        options.sort_unstable();
        (point != "/").then(|| format!("{point} {} {kind} {}", options.join(","), own.join(",")))
    };
    let mut all: Vec<String> = text.lines().filter_map(one).collect();
    all.sort();
    all.dedup();
    all
}

#[test]
fn another_runtime_gives_the_same_container() -> testkit::Result {
    require!(Root, MountNamespace, Program("busybox"), Program("runc"), Program("unshare"));
    let root = testkit::busybox_root()?;
    let script =
        "cat /proc/self/mountinfo; echo ---; grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status; umask; id";
    for profile in [Profile::Ordinary, Profile::Hostile, Profile::Trusted] {
        let (bundle, states) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let container = Container::from_rootfs(root.path()).profile(profile).args(["sh", "-c", script]);
        let built = container.build()?;
        built.write_bundle(bundle.path())?;
        let masked = config(bundle.path())?["linux"]["maskedPaths"].clone();
        let own = built.output()?;
        let read = Container::from_bundle(bundle.path())?.output()?;
        // Where version 2 is mounted beside version 1, old versions of it take the machine for one of version 2.
        let unmount = "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\"";
        let mut runc = Command::new("unshare");
        runc.args(["-m", "sh", "-c", unmount, "sh", "runc", "--root"]).arg(states.path());
        let id = format!("keelbox-bundle-{}-{profile:?}", std::process::id());
        let other = runc.args(["run", "--bundle"]).arg(bundle.path()).arg(id).output()?;
        let other = String::from_utf8(other.stdout)? + &String::from_utf8(other.stderr)?;
        let halves = |text: &str| {
            let (mounts, facts) = text.split_once("---\n").unwrap_or((text, ""));
            (comparable(mounts, &masked), facts.to_owned())
        };
        let (ours, theirs, exact) = (halves(&own.text()), halves(&other), halves(&read.text()));
        assert_eq!(ours.1, exact.1, "{profile:?}");
        assert_eq!(ours.0, exact.0, "{profile:?}");
        assert_eq!(ours.1, theirs.1, "{profile:?}: {other}");
        assert_eq!(ours.0, theirs.0, "{profile:?}");
    }
    Ok(())
}
