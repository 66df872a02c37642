//! What runc and crun do beyond the specification, and programs and engines have come to count on.

mod common;

use std::fs;

use common::Bench;
use keelbox_testkit::{self as testkit, require};
use serde_json::{Value, json};

#[test]
fn the_configuration_may_be_another_file() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("cli-config")?;
    let bundle = bench.bundle("bundle", &bench.config("echo usual"))?;
    bench.bundle("bundle/other", &bench.config("echo other"))?;
    let whole = format!("{bundle}/other/config.json");
    for (file, said) in [("config.json", "usual\n"), ("other/config.json", "other\n"), (whole.as_str(), "other\n")] {
        assert_eq!(bench.done(&["run", "--bundle", &bundle, "--config", file, "cli-config"])?, said, "{file}");
        assert_eq!(bench.done(&["run", "-b", &bundle, "-f", file, "cli-config"])?, said, "{file}");
    }
    // Relative paths in it start from the bundle all the same, and the state tells the bundle.
    let mut config = bench.config("exit 0");
    fs::create_dir(bench.path("bundle/rootfs"))?;
    config["root"]["path"] = "rootfs".into();
    config["process"]["args"] = json!(["absent"]);
    bench.bundle("bundle/other", &config)?;
    let ran = bench.keelbox(&["run", "-b", &bundle, "-f", "other/config.json", "cli-config"])?;
    ran.ended_with(127, "cannot execute absent");
    bench
        .keelbox(&["run", "-b", &bundle, "-f", "absent", "cli-config"])?
        .failed_with("absent: no such file or directory");
    Ok(())
}

#[test]
fn home_is_that_of_the_user() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("cli-home")?;
    fs::create_dir_all(bench.root().join("etc"))?;
    fs::write(bench.root().join("etc/passwd"), "root:x:0:0::/top:/bin/sh\nuser:x:7:7::/seven:/bin/sh\n")?;
    let home = |uid: u32, env: &Value| -> testkit::Result<String> {
        let mut config = bench.config("echo $HOME");
        config["process"]["user"]["uid"] = uid.into();
        config["process"]["env"] = env.clone();
        bench.printed(&config)
    };
    let path = json!(["PATH=/bin"]);
    assert_eq!((home(0, &path)?, home(7, &path)?, home(8, &path)?), ("/top\n".into(), "/seven\n".into(), "/\n".into()));
    assert_eq!(home(7, &json!(["PATH=/bin", "HOME=/own"]))?, "/own\n");
    assert_eq!(home(7, &json!(["PATH=/bin", "HOME="]))?, "\n", "an empty one is one");

    let bundle = bench.bundle("bundle", &bench.config("while :; do sleep 0.05; done"))?;
    bench.done(&["run", "--detach", "--bundle", &bundle, "cli-home"])?;
    let inside = |options: &[&str]| bench.done(&[&["exec"], options, &["cli-home", "sh", "-c", "echo $HOME"]].concat());
    assert_eq!(inside(&[])?, "/top\n");
    assert_eq!(inside(&["--user", "7"])?, "/seven\n");
    assert_eq!(inside(&["--user", "8:8"])?, "/\n");
    assert_eq!(inside(&["--user", "7", "--env", "HOME=/given"])?, "/given\n");
    let file = bench.path("process.json");
    let process =
        json!({ "args": ["sh", "-c", "echo $HOME"], "cwd": "/", "env": ["PATH=/bin"], "user": { "uid": 7, "gid": 7 } });
    fs::write(&file, process.to_string())?;
    assert_eq!(bench.done(&["exec", "--process", file.to_str().ok_or("text")?, "cli-home"])?, "/seven\n");
    Ok(())
}

#[test]
fn the_callers_groups_are_kept_for_who_asks() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("cli-groups")?;
    let groups = |config: &Value| -> testkit::Result<String> {
        let bundle = bench.bundle("bundle", config)?;
        let mut command = std::process::Command::new("setpriv");
        let program = bench.command(&[]);
        command.args(["--groups", "4711"]).arg(program.get_program()).args(program.get_args());
        let output = command.args(["run", "--bundle", &bundle, "cli-groups"]).output()?;
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        Ok(String::from_utf8(output.stdout)?)
    };
    require!(Program("setpriv"));
    let mut config = bench.config("grep Groups /proc/self/status");
    assert_eq!(groups(&config)?.trim_end(), "Groups:");
    config["annotations"] = json!({ "run.oci.keep_original_groups": "1" });
    assert_eq!(groups(&config)?.trim_end(), "Groups:\t4711");
    Ok(())
}

#[test]
fn any_comparison_of_one_argument_suffices() -> testkit::Result {
    require!(Root, Seccomp, Program("busybox"));
    let bench = Bench::new("cli-seccomp")?;
    let script = "kill -0 $$ && echo zero; kill -WINCH $$ && echo winch; kill -CONT $$ && echo continued";
    let mut config = bench.config(script);
    let is = |value: i32| json!({ "index": 1, "value": value, "op": "SCMP_CMP_EQ" });
    config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        { "names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": [is(0), is(18)] },
    ] });
    let ran = bench.run(&config)?;
    assert_eq!(ran.stdout, "winch\n", "{ran:?}");
    Ok(())
}

#[test]
fn a_configuration_to_start_from_is_read_only_and_knows_its_terminal() -> testkit::Result {
    let bench = Bench::new("cli-spec")?;
    let directory = bench.path("");
    bench.done(&["spec", "--bundle", directory.to_str().ok_or("text")?])?;
    let config: Value = serde_json::from_slice(&fs::read(bench.path("config.json"))?)?;
    assert_eq!(config["root"], json!({ "path": "rootfs", "readonly": true }));
    let environment = config["process"]["env"].as_array().ok_or("a list")?;
    assert!(environment.contains(&json!("TERM=xterm")), "{environment:?}");
    assert_eq!(config["process"]["terminal"], true);
    Ok(())
}
