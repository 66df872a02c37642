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
        (&["pause", "a"], "the command \"pause\" is not supported yet"),
        (&["update", "--memory", "1", "a"], "the command \"update\" is not supported yet"),
        (&["--frob", "list"], "there is no option \"--frob\" here"),
        (&["--log", "/x", "list"], "the option \"--log\" is not supported yet"),
        (&["--systemd-cgroup", "list"], "the option \"--systemd-cgroup\" is not supported yet"),
        (&["run", "--detach", "a"], "the option \"--detach\" is not supported yet"),
        (&["run", "-d", "a"], "the option \"-d\" is not supported yet"),
        (&["create", "--console-socket", "/x", "a"], "the option \"--console-socket\" is not supported yet"),
        (&["exec", "--tty", "a", "sh"], "the option \"--tty\" is not supported yet"),
        (&["exec", "-t", "a", "sh"], "the option \"-t\" is not supported yet"),
        (&["exec"], "exec needs the id of a container and a program"),
        (&["exec", "a"], "exec needs a program"),
        (&["exec", "--env", "A", "a", "sh"], "the variable \"A\" has no value"),
        (&["exec", "--user"], "missing argument"),
        (&["start"], "start needs the id of a container"),
        (&["start", "a", "b"], "start has no use for \"b\""),
        (&["list", "a"], "list has no use for \"a\""),
        (&["list", "--format", "xml"], "there is no format \"xml\""),
        (&["list", "--quiet", "--format", "json"], "either --quiet or"),
        (&["list", "--quiet=yes"], "unexpected argument"),
        (&["delete", "--quiet", "a"], "there is no option \"--quiet\" here"),
        (&["kill", "a", "FROB"], "there is no signal \"FROB\""),
        (&["kill", "a", "0"], "there is no signal \"0\""),
        (&["kill", "a", "65"], "there is no signal \"65\""),
        (&["plan"], "plan needs a bundle"),
        (&["state", "a"], "cannot open container a: there is none in "),
        (&["kill", "a"], "cannot open container a: there is none in "),
        (&["exec", "a", "sh"], "cannot open container a: there is none in "),
        (&["state", "../a"], "cannot use the name of the container"),
        (&["state", "a\nb"], "cannot use the name of the container"),
        (&["delete", "--force", ".."], "cannot use the name of the container"),
    ];
    for (words, text) in table {
        bench.keelbox(words)?.failed_with(text);
    }
    assert!(!bench.path("states").exists(), "nothing is made");
    Ok(())
}

#[test]
fn help_and_version_are_no_failures() -> testkit::Result {
    require!(Program("busybox"));
    let bench = Bench::new("cli-help")?;
    let help = bench.done(&["--help"])?;
    for words in [["help"].as_slice(), &["-h"], &["run", "--help"], &["exec", "-h"]] {
        assert_eq!(bench.done(words)?, help);
    }
    for command in ["plan", "run", "create", "start", "state", "kill", "delete", "list", "exec"] {
        assert!(help.contains(&format!("\n  {command} ")), "{command}");
    }
    assert_eq!(bench.done(&["--version"])?, format!("keelbox {}\n", env!("CARGO_PKG_VERSION")));
    Ok(())
}

/// What a configuration may ask for and nobody does yet, with a value that is right.
fn not_there_yet() -> Vec<(&'static str, Value)> {
    let hook = || json!([{ "path": "/bin/true" }]);
    vec![
        ("/hooks/prestart", hook()),
        ("/hooks/createRuntime", hook()),
        ("/hooks/createContainer", hook()),
        ("/hooks/startContainer", hook()),
        ("/hooks/poststart", hook()),
        ("/hooks/poststop", hook()),
        ("/process/terminal", json!(true)),
        ("/process/apparmorProfile", json!("some")),
        ("/process/selinuxLabel", json!("some")),
        ("/process/scheduler", json!({ "policy": "SCHED_OTHER" })),
        ("/process/execCPUAffinity", json!({ "initial": "0" })),
        ("/linux/cgroupsPath", json!("/some")),
        ("/linux/intelRdt", json!({ "closID": "some" })),
        ("/linux/memoryPolicy", json!({ "mode": "MPOL_BIND", "nodes": "0" })),
        ("/linux/mountLabel", json!("some")),
        ("/linux/netDevices", json!({ "eth0": {} })),
        ("/linux/personality", json!({ "domain": "LINUX" })),
        ("/linux/resources/cpu/idle", json!(1)),
        ("/linux/resources/blockIO/leafWeight", json!(10)),
    ]
}

fn put(config: &mut Value, pointer: &str, value: Value) {
    let mut place = config;
    for name in pointer.split('/').skip(1) {
        place = &mut place[name];
    }
    *place = value;
}

#[test]
fn what_is_not_there_yet_is_refused_and_never_left_out() -> testkit::Result {
    require!(Program("busybox"));
    let bench = Bench::new("cli-later")?;
    for (pointer, value) in not_there_yet() {
        let mut config = bench.config("true");
        put(&mut config, pointer, value);
        let bundle = bench.bundle("bundle", &config)?;
        let property = if pointer.starts_with("/hooks") { "hooks".into() } else { pointer[1..].replace('/', ".") };
        let text = format!("cannot honour {property}: it is not supported yet");
        for words in [["plan", &bundle].as_slice(), &["create", "-b", &bundle, "a"], &["run", "-b", &bundle, "a"]] {
            bench.keelbox(words)?.failed_with(&text);
        }
    }
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
        ("/process/cwd", json!("/not/there"), "/not/there"),
        (
            "/linux/namespaces",
            json!([{ "type": "mount" }, { "type": "uts" }, { "type": "network", "path": absent }]),
            "absent",
        ),
        ("/linux/resources/pids/limit", json!(0), "limit pids to 0"),
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
