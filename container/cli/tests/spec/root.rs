//! The root file system.

use std::fs;

use keelbox_testkit::{self as testkit, require};
use serde_json::{Value, json};

use crate::common::Bench;
use crate::mountinfo::Table;

#[test]
fn rs_011_the_root_is_absolute_or_relative_to_the_bundle_and_must_be_there() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-011")?;
    let mut config = bench.config("echo here");
    assert_eq!(bench.printed(&config)?, "here\n");
    bench.bundle("bundle", &config)?;
    fs::create_dir_all(bench.path("bundle/sub"))?;
    copy_tree(bench.root(), &bench.path("bundle/sub/rootfs"))?;
    config["root"]["path"] = "sub/rootfs".into();
    assert_eq!(bench.printed(&config)?, "here\n");
    fs::write(bench.path("bundle/file"), "")?;
    for (path, text) in [("absent", "absent"), ("file", "file")] {
        config["root"]["path"] = path.into();
        let ran = bench.run(&config)?;
        assert_ne!((ran.status, ran.stdout.as_str()), (Some(0), "here\n"), "{path}");
        assert!(ran.stderr.contains(text), "{ran:?}");
    }
    Ok(())
}

fn copy_tree(from: &std::path::Path, to: &std::path::Path) -> testkit::Result {
    let status = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    if status.success() { Ok(()) } else { Err("cp failed".into()) }
}

#[test]
fn rs_012_the_root_is_read_only_if_asked_for() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-012")?;
    let mut config = bench.config("touch /made 2>&1; test -e /made && echo made");
    config["root"]["readonly"] = true.into();
    let ran = bench.run(&config)?;
    assert_eq!(ran.stdout, "touch: /made: Read-only file system\n");
    config["root"]["readonly"] = false.into();
    assert_eq!(bench.printed(&config)?, "made\n");
    Ok(())
}

#[test]
fn rs_050_the_default_file_systems_are_there_if_they_are_named() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-050")?;
    let mut config = bench.config("cat /proc/self/mountinfo; test -e /proc/1/status && ls /sys/kernel /dev/pts/ptmx");
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": kind, "options": options });
    config["mounts"] = json!([
        mount("/proc", "proc", &[]),
        mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ]);
    let text = bench.printed(&config)?;
    let table = Table::of(&text);
    let kinds = ["/proc", "/sys", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"].map(|point| table.at(point).kind);
    assert_eq!(kinds, ["proc", "sysfs", "tmpfs", "devpts", "tmpfs", "mqueue"]);
    assert!(table.at("/sys").has("ro") && table.at("/dev/shm").has("noexec"));
    assert!(text.contains("/dev/pts/ptmx"), "{text}");
    Ok(())
}

#[test]
fn rs_082_mount_events_travel_at_the_root_as_asked_for() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-082")?;
    let mut config = bench.config("cat /proc/self/mountinfo");
    for (word, fields) in [
        (None, [false, false]),
        (Some("private"), [false, false]),
        (Some("rprivate"), [false, false]),
        (Some("shared"), [true, false]),
        (Some("rshared"), [true, false]),
        (Some("unbindable"), [false, true]),
        (Some("runbindable"), [false, true]),
    ] {
        config["linux"]["rootfsPropagation"] = word.map_or(Value::Null, Value::from);
        let text = bench.printed(&config)?;
        let root = Table::of(&text).at("/").clone();
        assert_eq!([root.field("shared:"), root.field("unbindable")], fields, "{word:?}: {root:?}");
    }
    Ok(())
}

#[test]
fn rs_082_a_slave_root_sees_what_is_mounted_outside_and_a_private_one_does_not() -> testkit::Result {
    require!(Root, MountNamespace, Program("busybox"), Program("unshare"));
    let bench = Bench::new("rs-082-slave")?;
    let place = bench.root().join("place");
    fs::create_dir_all(&place)?;
    let (ready, done) = (bench.root().join("ready"), bench.root().join("done"));
    let mut config =
        bench.config("touch /ready; for i in $(seq 100); do test -e /done && break; sleep 0.05; done; ls /place");
    for (word, seen) in [("rslave", "seen\n"), ("rprivate", "")] {
        config["linux"]["rootfsPropagation"] = word.into();
        let bundle = bench.bundle("bundle", &config)?;
        // In a mount namespace of its own, in which the root is a mount point that shares its events.
        let script = format!(
            r#"mount --bind "$1" "$1" && mount --make-shared "$1" || exit 9
            "$3" --root "$4" run --bundle "$5" {} & child=$!
            for i in $(seq 100); do test -e "$1/ready" && break; sleep 0.05; done
            mount -t tmpfs tmpfs "$1/place" && touch "$1/place/seen" "$1/done"; wait $child"#,
            bench.id
        );
        let command = bench.command(&[]);
        let mut wrapped = std::process::Command::new("unshare");
        wrapped.args(["-m", "--propagation", "private", "sh", "-c", &script, "sh"]);
        wrapped.arg(bench.root()).arg("-").arg(command.get_program()).arg(bench.path("states")).arg(&bundle);
        let output = wrapped.output()?;
        let (out, err) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
        assert_eq!((out.as_str(), output.status.code()), (seen, Some(0)), "{word}: {err}");
        fs::remove_file(&ready)?;
        fs::remove_file(&done)?;
    }
    Ok(())
}
