//! What is wrong, or not there yet, is told in one line with status 1, and nothing is left of it.

mod common;

use std::fs;

use common::Bench;
use keelbox_testkit::{self as testkit, LeakCheck, alone, require};
use serde_json::{Value, json};

#[test]
fn command_lines() -> testkit::Result {
    require!(Program("busybox"));
    let bench = Bench::new("cli-lines")?;
    let table: &[(&[&str], &str)] = &[
        (&[], "no command is given"),
        (&["frobnicate"], "there is no command \"frobnicate\""),
        (&[""], "there is no command \"\""),
        (&["checkpoint", "a"], "the container does not exist"),
        (
            &["restore", "--console-socket", "x", "a"],
            "cannot honour --console-socket: a terminal is not read from disk",
        ),
        (&["restore", "--lazy-pages", "a"], "cannot honour --lazy-pages: pages are not fetched on demand"),
        (&["--frob", "list"], "there is no option \"--frob\" here"),
        (&["--log", "/absent/x", "list"], "cannot open the log /absent/x: no such file or directory"),
        (&["--log", "journald:x", "list"], "cannot log to journald"),
        (&["--log-format", "xml", "list"], "--log-format is text or json, not \"xml\""),
        (&["--rootless=maybe", "list"], "--rootless is auto or true or false, not \"maybe\""),
        (&["--cgroup-manager", "none", "list"], "--cgroup-manager is cgroupfs or systemd or disabled"),
        (&["--systemd-cgroup", "--cgroup-manager=disabled", "list"], "exclude each other"),
        (&["create", "--no-pivot", "a"], "cannot honour --no-pivot: without pivot_root(2)"),
        (&["update", "--l3-cache-schema", "x", "a"], "cannot honour --l3-cache-schema: a resctrl group is made"),
        (&["exec"], "exec needs the id of a container"),
        (&["exec", "--user"], "missing argument"),
        (&["start"], "start needs the id of a container"),
        (&["start", "a", "b"], "start has no use for \"b\""),
        (&["list", "a"], "list has no use for \"a\""),
        (&["list", "--format", "xml"], "--format is table or json, not \"xml\""),
        (&["list", "--quiet", "--format", "json"], "either --quiet or"),
        (&["list", "--quiet=yes"], "--quiet has no value but true or false"),
        (&["delete", "--quiet", "a"], "there is no option \"--quiet\" here"),
        (&["kill", "a", "FROB"], "there is no signal \"FROB\""),
        (&["kill", "a", "-1"], "there is no option \"-1\" here"),
        (&["kill", "a", "65"], "there is no signal \"65\""),
        (&["plan"], "plan needs a bundle"),
        (&["state", "a"], "cannot open container a: the container does not exist in "),
        (&["kill", "a"], "cannot open container a: the container does not exist in "),
        (&["state", "../a"], "cannot use the name of the container"),
        (&["state", "a\nb"], "cannot use the name of the container"),
        (&["delete", "--force", ".."], "cannot use the name of the container"),
    ];
    for (words, text) in table {
        bench.keelbox(words)?.failed_with(text);
    }
    let of_exec: &[(&[&str], &str)] = &[
        (&["exec", "a"], "exec needs a program"),
        (&["exec", "--env", "A", "a", "sh"], "the variable \"A\" has no value"),
        (&["exec", "a", "sh"], "cannot open container a: the container does not exist in "),
    ];
    for (words, text) in of_exec {
        bench.keelbox(words)?.ended_with(255, text);
    }
    assert!(!bench.path("states").exists(), "nothing is made");
    Ok(())
}

/// The form of the path is looked at first, then whether there is a systemd; either way nothing is made.
#[test]
fn without_systemd_there_is_no_scope() -> testkit::Result {
    require!(Root, Program("busybox"));
    alone!();
    let bench = Bench::new("cli-systemd")?;
    let mut config = bench.config("true");
    let bundle = bench.bundle("bundle", &config)?;
    let words = ["--systemd-cgroup", "create", "--bundle", &bundle, "a"];
    let leaks = LeakCheck::begin();
    if !std::path::Path::new("/run/dbus/system_bus_socket").exists() {
        let failed = bench.keelbox(&words)?;
        assert_eq!(failed.status, Some(1));
        assert!(failed.stderr.contains("cannot ask systemd for a control group: "), "{}", failed.stderr);
    }
    put(&mut config, "/linux/cgroupsPath", json!("/a/b"));
    bench.bundle("bundle", &config)?;
    let failed = bench.keelbox(&words)?;
    assert!(failed.stderr.contains("systemd wants the form slice:prefix:name"), "{}", failed.stderr);
    assert!(fs::read_dir(bench.path("states")).map_or(true, |mut entries| entries.next().is_none()), "nothing is left");
    leaks.check();
    Ok(())
}

#[test]
fn help_and_version_are_no_failures() -> testkit::Result {
    require!(Program("busybox"));
    let bench = Bench::new("cli-help")?;
    let help = bench.done(&["--help"])?;
    for words in [["help"].as_slice(), &["-h"], &["--root", "/x", "-h"]] {
        assert_eq!(bench.done(words)?, help);
    }
    for command in
        ["plan", "run", "create", "start", "state", "kill", "delete", "list", "exec", "pause", "checkpoint", "restore"]
    {
        assert!(help.contains(&format!("\n  {command}")), "{command}");
        let about = bench.done(&["help", command])?;
        assert!(about.starts_with(&format!("Usage: keelbox {command}")), "{about}");
        assert_eq!(bench.done(&[command, "--help"])?, about);
    }
    let version = bench.done(&["--version"])?;
    assert!(version.starts_with(&format!("keelbox version {}\nspec: 1.", env!("CARGO_PKG_VERSION"))), "{version}");
    assert_eq!(bench.done(&["version"])?, version);
    Ok(())
}

fn put(config: &mut Value, pointer: &str, value: Value) {
    let mut place = config;
    for name in pointer.split('/').skip(1) {
        place = &mut place[name];
    }
    *place = value;
}

#[test]
fn what_cannot_be_given_is_refused_and_never_left_out() -> testkit::Result {
    require!(Program("busybox"));
    let bench = Bench::new("cli-later")?;
    if !fs::read_to_string("/proc/filesystems")?.contains("selinuxfs") {
        let mut config = bench.config("true");
        put(&mut config, "/linux/mountLabel", json!("some"));
        let bundle = bench.bundle("bundle", &config)?;
        for words in [["plan", &bundle].as_slice(), &["create", "-b", &bundle, "a"], &["run", "-b", &bundle, "a"]] {
            bench.keelbox(words)?.failed_with("cannot honour linux.mountLabel: this kernel has no SELinux");
        }
    }
    // Nobody would hold the other side.
    let mut config = bench.config("true");
    put(&mut config, "/process/terminal", true.into());
    let bundle = bench.bundle("bundle", &config)?;
    bench.keelbox(&["create", "-b", &bundle, "a"])?.failed_with("nobody would hold it; give --console-socket");
    // What asks for nothing is nothing to refuse.
    let mut config = bench.config("true");
    let nothing =
        [("/hooks/prestart", json!([])), ("/process/terminal", json!(false)), ("/linux/mountLabel", json!(""))];
    for (pointer, value) in nothing {
        put(&mut config, pointer, value);
    }
    bench.done(&["plan", &bench.bundle("bundle", &config)?])?;
    assert!(!bench.path("states").exists(), "nothing is made");
    Ok(())
}

#[test]
fn bundles() -> testkit::Result {
    alone!();
    require!(Root, Program("busybox"));
    let bench = Bench::new("cli-bundles")?;
    let leaks = LeakCheck::builder().cgroups("keelbox-cli-bundles").begin();
    let absent = bench.path("absent");
    let changes: Vec<(&str, Value, &str)> = vec![
        ("/root/path", json!("nowhere"), "/root/path"),
        ("/root/path", json!("/proc/version"), "/root/path"),
        ("/process/cwd", json!("relative"), "/process/cwd"),
        ("/process/args", json!([]), "/process/args"),
        ("/ociVersion", json!("99.0.0"), "/ociVersion"),
        ("/mounts", json!([{ "destination": "/mnt", "source": absent, "options": ["bind"] }]), "absent"),
        ("/process/cwd", json!("/bin/sh/there"), "/bin/sh/there"),
        (
            "/linux/namespaces",
            json!([{ "type": "mount" }, { "type": "uts" }, { "type": "network", "path": absent }]),
            "absent",
        ),
    ];
    for (pointer, value, text) in changes {
        let mut config = bench.config("true");
        put(&mut config, pointer, value);
        let bundle = bench.bundle("bundle", &config)?;
        bench.keelbox(&["run", "--bundle", &bundle, "cli-bundles"])?.failed_with(text);
        assert_eq!(bench.done(&["list", "-q"])?, "", "{pointer}");
    }
    for (content, text) in [("{", "config.json"), ("[]", "config.json"), ("{\"root\":1}", "config.json")] {
        let bundle = bench.bundle("bundle", &Value::Null)?;
        fs::write(bench.path("bundle/config.json"), content)?;
        bench.keelbox(&["create", "--bundle", &bundle, "cli-bundles"])?.failed_with(text);
    }
    let missing = absent.to_str().ok_or("text")?;
    bench.keelbox(&["create", "--bundle", missing, "cli-bundles"])?.failed_with("cannot use the bundle");

    // Without its number in the file nobody could use it.
    let bundle = bench.bundle("bundle", &bench.config("true"))?;
    let file = bench.path("absent/pid");
    let words = ["create", "--bundle", &bundle, "--pid-file", file.to_str().ok_or("text")?, "cli-bundles"];
    bench.keelbox(&words)?.failed_with("cannot write the process id to");
    assert_eq!(bench.done(&["list", "-q"])?, "");
    leaks.check();
    Ok(())
}
