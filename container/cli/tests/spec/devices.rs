//! Devices: those that every container has, those that are named, and the links beside them.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use keelbox_testkit::{self as testkit, require};
use serde_json::{Value, json};

use crate::common::Bench;

const LOOK: &str = "stat -c '%n %F %t:%T %a %u:%g'";

fn dev() -> Value {
    json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755", "strictatime"] })
}

fn with_dev(bench: &Bench, script: &str) -> Value {
    let mut config = bench.config(script);
    if let Some(mounts) = config["mounts"].as_array_mut() {
        mounts.push(dev());
    }
    config
}

#[test]
fn rs_057_every_container_has_the_default_devices() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-057")?;
    let script = format!(
        "cd /dev; {LOOK} null zero full random urandom tty; test -e console || echo no console; readlink ptmx; \
         head -c 3 zero | wc -c; echo x > null && echo x 2>/dev/null > full || echo full"
    );
    let wanted = "null character special file 1:3 666 0:0\nzero character special file 1:5 666 0:0\n\
                  full character special file 1:7 666 0:0\nrandom character special file 1:8 666 0:0\n\
                  urandom character special file 1:9 666 0:0\ntty character special file 5:0 666 0:0\n\
                  no console\npts/ptmx\n3\nfull\n";
    assert_eq!(bench.printed(&with_dev(&bench, &script))?, wanted);
    Ok(())
}

#[test]
fn rs_087_the_links_of_dev_are_made() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-087")?;
    let script = "for name in fd stdin stdout stderr; do readlink /dev/$name; done; echo seen >> /dev/stdout";
    let wanted = "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\nseen\n";
    assert_eq!(bench.printed(&with_dev(&bench, script))?, wanted);
    Ok(())
}

#[test]
fn rs_056_named_devices_are_made_with_mode_and_owner() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-056")?;
    let paths = "/dev/fuse /dev/sub/disk /dev/pipe /dev/unbuffered /elsewhere/null /dev/plain";
    let mut config = with_dev(&bench, &format!("umask 077; {LOOK} {paths}"));
    config["linux"]["devices"] = json!([
        { "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 432, "uid": 5, "gid": 6 },
        { "path": "/dev/sub/disk", "type": "b", "major": 7, "minor": 300, "fileMode": 384 },
        { "path": "/dev/pipe", "type": "p", "fileMode": 420, "uid": 1 },
        { "path": "/dev/unbuffered", "type": "u", "major": 1, "minor": 3 },
        { "path": "/elsewhere/null", "type": "c", "major": 1, "minor": 3, "fileMode": 438 },
        { "path": "/dev/plain", "type": "c", "major": 1, "minor": 5 },
    ]);
    let wanted = "/dev/fuse character special file a:e5 660 5:6\n/dev/sub/disk block special file 7:12c 600 0:0\n\
                  /dev/pipe fifo 0:0 644 1:0\n/dev/unbuffered character special file 1:3 666 0:0\n\
                  /elsewhere/null character special file 1:3 666 0:0\n/dev/plain character special file 1:5 666 0:0\n";
    assert_eq!(bench.printed(&config)?, wanted);
    let made = fs::metadata(bench.root().join("elsewhere/null"))?;
    assert!(made.file_type().is_char_device() && made.rdev() == 0x103);
    Ok(())
}

#[test]
fn rs_056_a_device_outside_dev_is_made_after_all_mounts() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-056-late")?;
    let mut config = with_dev(&bench, &format!("{LOOK} /late/null"));
    if let Some(mounts) = config["mounts"].as_array_mut() {
        mounts.push(json!({ "destination": "/late", "type": "tmpfs", "source": "tmpfs" }));
    }
    config["linux"]["devices"] =
        json!([{ "path": "/late/null", "type": "c", "major": 1, "minor": 3, "fileMode": 438 }]);
    assert_eq!(bench.printed(&config)?, "/late/null character special file 1:3 666 0:0\n");
    Ok(())
}

#[test]
fn rs_056_what_is_there_must_be_that_device() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-056-there")?;
    fs::create_dir_all(bench.root().join("there"))?;
    let mut config = with_dev(&bench, "echo ran");
    config["linux"]["devices"] = json!([{ "path": "/there/null", "type": "c", "major": 1, "minor": 3 }]);
    assert_eq!(bench.printed(&config)?, "ran\n", "it is made");
    assert_eq!(bench.printed(&config)?, "ran\n", "it is there already, as it should be");
    for other in [json!(5), json!(7)] {
        config["linux"]["devices"][0]["minor"] = other;
        let ran = bench.run(&config)?;
        assert_eq!((ran.status == Some(0), ran.stdout.as_str()), (false, ""), "another device: {ran:?}");
        assert!(ran.stderr.contains("/there/null"), "{ran:?}");
    }
    fs::remove_file(bench.root().join("there/null"))?;
    fs::write(bench.root().join("there/null"), "a file")?;
    config["linux"]["devices"][0]["minor"] = json!(3);
    let ran = bench.run(&config)?;
    assert_eq!((ran.status == Some(0), ran.stdout.as_str()), (false, ""), "a file: {ran:?}");
    assert_eq!(fs::read_to_string(bench.root().join("there/null"))?, "a file");
    Ok(())
}

#[test]
fn rs_056_in_a_user_namespace_devices_are_bound() -> testkit::Result {
    require!(Root, UserNamespace, Program("busybox"), Exists("/dev/net/tun"));
    let bench = Bench::new("rs-056-user")?;
    let script = "stat -c '%n %F %t:%T' /dev/null /dev/net/tun; echo x > /dev/null && echo written; ls -l /proc/self/uid_map \
                  > /dev/null; grep -c /dev/net/tun /proc/self/mountinfo";
    let mut config = with_dev(&bench, script);
    if let Some(namespaces) = config["linux"]["namespaces"].as_array_mut() {
        namespaces.push(json!({ "type": "user" }));
    }
    config["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": 0, "size": 65_536 }]);
    config["linux"]["gidMappings"] = config["linux"]["uidMappings"].clone();
    config["linux"]["devices"] = json!([{ "path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200 }]);
    let wanted = "/dev/null character special file 1:3\n/dev/net/tun character special file a:c8\nwritten\n1\n";
    assert_eq!(bench.printed(&config)?, wanted);
    Ok(())
}
