//! The life of containers by the command line: each command, in order and out of order, and what is left.

mod common;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use common::{Bench, wait_for};
use keelbox_testkit::{self as testkit, LeakCheck, alone, require};
use serde_json::{Value, json};

/// Says `up`, then waits for `SIGTERM` and says that it came.
const SERVER: &str = "trap 'echo term; exit 7' TERM; echo up; while :; do sleep 0.05; done";

#[test]
fn the_life_of_a_container() -> testkit::Result {
    alone!();
    require!(Root, Program("busybox"));
    let bench = Bench::new("cli-life")?;
    let mut config = bench.config(SERVER);
    config["annotations"] = json!({ "org.example.note": "x" });
    let bundle = bench.bundle("bundle", &config)?;
    let pid_file = bench.path("pid");
    let leaks = LeakCheck::builder().cgroups("keelbox-cli-life").files(bench.path("states")).begin();

    assert_eq!(bench.done(&["list", "--quiet"])?, "");
    let create = ["create", "-b", &bundle, "--pid-file", pid_file.to_str().ok_or("text")?, "cli-life"];
    let log = bench.path("log");
    let status = bench.command(&create).stdout(fs::File::create(&log)?).status()?;
    assert_eq!(status.code(), Some(0));
    let state = bench.state()?;
    let pid = state["pid"].as_u64().ok_or("it waits")?;
    assert_eq!(fs::read_to_string(&pid_file)?, pid.to_string());
    assert_eq!(
        state,
        json!({
            "ociVersion": state["ociVersion"], "id": "cli-life", "status": "created", "pid": pid, "bundle": bundle,
            "created": state["created"], "annotations": { "org.example.note": "x" },
        })
    );
    assert_eq!(fs::read(&log)?, b"", "nothing has run");
    bench.keelbox(&create)?.failed_with("cannot create container cli-life: there is one of this name");
    assert_eq!(bench.done(&["exec", "cli-life", "hostname"])?, "inner\n", "also before its program runs");
    bench.keelbox(&["delete", "cli-life"])?.failed_with("it is created");

    bench.done(&["start", "cli-life"])?;
    wait_for(|| Ok(fs::read_to_string(&log)? == "up\n"))?;
    bench.keelbox(&["start", "cli-life"])?.failed_with("it is running, not created");
    bench.keelbox(&["delete", "cli-life"])?.failed_with("it is running");
    assert_eq!(bench.done(&["exec", "cli-life", "hostname"])?, "inner\n");

    bench.done(&["kill", "cli-life", "0"])?;
    bench.done(&["kill", "cli-life"])?;
    bench.until("stopped")?;
    bench.keelbox(&["kill", "cli-life", "0"])?.failed_with("container not running: it is stopped");
    bench.done(&["kill", "--all", "cli-life", "0"])?;
    assert_eq!(fs::read_to_string(&log)?, "up\nterm\n");
    bench
        .keelbox(&["kill", "cli-life", "KILL"])?
        .failed_with("container not running: cannot send SIGKILL to container cli-life");
    bench.keelbox(&["exec", "cli-life", "true"])?.ended_with(255, "it is stopped, not created or running");
    bench.done(&["delete", "cli-life"])?;
    bench.keelbox(&["state", "cli-life"])?.failed_with("cannot open container cli-life: the container does not exist");
    bench.keelbox(&["delete", "cli-life"])?.failed_with("cannot open container cli-life: the container does not exist");
    bench.done(&["delete", "--force", "cli-life"])?;
    fs::remove_dir(bench.path("states"))?;
    leaks.check();
    Ok(())
}

#[test]
fn a_container_is_deleted_by_force_in_every_state() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("cli-force")?;
    let bundle = bench.bundle("bundle", &bench.config(SERVER))?;
    for started in [false, true] {
        bench.done(&["create", "cli-force", "--bundle", &bundle])?;
        if started {
            bench.done(&["start", "cli-force"])?;
        }
        bench.done(&["delete", "-f", "cli-force"])?;
        assert_eq!(bench.done(&["list", "-q"])?, "");
    }
    Ok(())
}

#[test]
fn further_programs() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("cli-exec")?;
    let bundle = bench.bundle("bundle", &bench.config(SERVER))?;
    bench.done(&["create", "--bundle", &bundle, "cli-exec"])?;
    bench.done(&["start", "cli-exec"])?;
    fs::write(bench.root().join("bin/text"), "no program")?;

    let tell = "echo $FROM $A $B; id -u; id -g; pwd";
    let said = bench.done(&["exec", "cli-exec", "sh", "-c", tell])?;
    assert_eq!(said, "bundle\n0\n0\n/\n");
    let line = ["exec", "-u", "12:34", "-e", "A=1=2", "--env=B=", "--cwd", "/bin", "cli-exec", "sh", "-c", tell];
    assert_eq!(bench.done(&line)?, "bundle 1=2\n12\n34\n/bin\n");
    let ran = bench.keelbox(&["exec", "cli-exec", "sh", "-c", "echo out; echo err >&2; exit 5"])?;
    assert_eq!((ran.status, ran.stdout.as_str(), ran.stderr.as_str()), (Some(5), "out\n", "err\n"));
    let ran = bench.keelbox(&["exec", "cli-exec", "sh", "-c", "kill -USR1 $$"])?;
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(128 + 10), ""));

    bench.keelbox(&["exec", "cli-exec", "absent"])?.ended_with(127, "cannot execute absent: executable file not found");
    bench
        .keelbox(&["exec", "cli-exec", "/absent"])?
        .ended_with(127, "cannot execute /absent: no such file or directory");
    bench.keelbox(&["exec", "cli-exec", "/bin/text"])?.ended_with(126, "cannot execute /bin/text: permission denied");
    bench
        .keelbox(&["exec", "-u", "nobody-here", "cli-exec", "id"])?
        .ended_with(255, "cannot find the user \"nobody-here\"");
    bench.keelbox(&["exec", "--cwd", "/absent", "cli-exec", "pwd"])?.ended_with(255, "/absent");
    bench.keelbox(&["exec", "--cwd", "bin", "cli-exec", "pwd"])?.ended_with(255, "bin is not absolute");

    // A signal to the program that waits is one to the program it waits for.
    let script = "trap 'exit 9' TERM; echo up; while :; do sleep 0.05; done";
    let mut child = bench.command(&["exec", "cli-exec", "sh", "-c", script]).stdout(Stdio::piped()).spawn()?;
    assert_eq!(terminated_when_up(&mut child)?, Some(9));
    assert_eq!(bench.state()?["status"], "running");
    bench.done(&["kill", "--all", "cli-exec", "9"])?;
    bench.until("stopped")
}

#[test]
fn run_ends_as_the_program_does() -> testkit::Result {
    alone!();
    require!(Root, Program("busybox"));
    let bench = Bench::new("cli-run")?;
    let leaks = LeakCheck::builder().cgroups("keelbox-cli-run").begin();
    for (script, status) in [("exit 0", 0), ("exit 7", 7), ("exit 255", 255)] {
        let bundle = bench.bundle("bundle", &bench.config(script))?;
        let ran = bench.keelbox(&["run", "--bundle", &bundle, "cli-run"])?;
        assert_eq!((ran.status, ran.stderr.as_str()), (Some(status), ""), "{script}");
    }
    // Only outside of a pid namespace of its own can a program kill itself.
    for (script, status) in [("kill -KILL $$", 137), ("kill -TERM $$", 143)] {
        let mut config = bench.config(script);
        config["linux"]["namespaces"] = json!([{ "type": "mount" }, { "type": "uts" }]);
        let bundle = bench.bundle("bundle", &config)?;
        let ran = bench.keelbox(&["run", "--bundle", &bundle, "cli-run"])?;
        assert_eq!((ran.status, ran.stderr.as_str()), (Some(status), ""), "{script}");
    }
    fs::write(bench.root().join("bin/text"), "no program")?;
    for (program, status, text) in [
        ("absent", 127, "cannot execute absent: executable file not found in $PATH"),
        ("/bin/text", 126, "cannot execute /bin/text: permission denied"),
    ] {
        let mut config = bench.config("");
        config["process"]["args"] = json!([program]);
        let bundle = bench.bundle("bundle", &config)?;
        bench.keelbox(&["run", "--bundle", &bundle, "cli-run"])?.ended_with(status, text);
    }
    assert_eq!(bench.done(&["list", "-q"])?, "");
    leaks.check();
    Ok(())
}

#[test]
fn run_hands_streams_and_signals_through() -> testkit::Result {
    alone!();
    require!(Root, Program("busybox"));
    let bench = Bench::new("cli-streams")?;
    let leaks = LeakCheck::builder().cgroups("keelbox-cli-streams").begin();
    let bundle = bench.bundle("bundle", &bench.config("cat; echo err >&2; grep SigBlk /proc/self/status"))?;
    fs::write(bench.path("input"), "input\n")?;
    let input = fs::File::open(bench.path("input"))?;
    // The bundle is the current directory unless said otherwise.
    let output = bench.command(&["run", "cli-streams"]).current_dir(&bundle).stdin(input).output()?;
    // The signals that are held back here are not held back there.
    assert_eq!(String::from_utf8(output.stdout)?, "input\nSigBlk:\t0000000000000000\n");
    assert_eq!(String::from_utf8(output.stderr)?, "err\n");

    let bundle = bench.bundle("bundle", &bench.config(SERVER))?;
    let mut child = bench.command(&["run", "-b", &bundle, "cli-streams"]).stdout(Stdio::piped()).spawn()?;
    assert_eq!(terminated_when_up(&mut child)?, Some(7));
    assert_eq!(bench.done(&["list", "-q"])?, "");
    leaks.check();
    Ok(())
}

/// Waits for the word `up`, sends `SIGTERM`, and tells the exit code.
fn terminated_when_up(child: &mut std::process::Child) -> testkit::Result<Option<i32>> {
    use std::io::{BufRead, BufReader};
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().ok_or("it is piped")?);
    output.read_line(&mut line)?;
    let pid = nix::unistd::Pid::from_raw(child.id().try_into()?);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
    let status = child.wait()?;
    assert_eq!((line.as_str(), status.signal()), ("up\n", None));
    Ok(status.code())
}

#[test]
fn lists() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("cli-list")?;
    let bundle = bench.bundle("bundle", &bench.config(SERVER))?;
    assert_eq!(bench.done(&["list"])?, "ID  PID  STATUS  BUNDLE  CREATED\n");
    assert_eq!(bench.done(&["list", "--format", "json"])?, "[]\n");
    for id in ["cli-list-b", "cli-list"] {
        bench.done(&["create", "--bundle", &bundle, id])?;
    }
    bench.done(&["start", "cli-list-b"])?;
    assert_eq!(bench.done(&["list", "--quiet"])?, "cli-list\ncli-list-b\n");
    let list: Vec<Value> = serde_json::from_str(&bench.done(&["list", "-f", "json"])?)?;
    assert_eq!(list.len(), 2);
    for (entry, (id, status)) in list.iter().zip([("cli-list", "created"), ("cli-list-b", "running")]) {
        let expected = json!({
            "ociVersion": entry["ociVersion"], "id": id, "status": status, "pid": entry["pid"], "bundle": bundle,
            "created": entry["created"],
        });
        assert_eq!(*entry, expected);
        assert!(entry["pid"].as_u64() > Some(1), "{entry}");
        let created = entry["created"].as_str().ok_or("text")?;
        assert!(created.len() == 20 && created.starts_with("20") && created.ends_with('Z'), "{created}");
    }
    let table = bench.done(&["list", "--format=table"])?;
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 3);
    for (row, entry) in rows[1..].iter().zip(&list) {
        let pid = entry["pid"].to_string();
        let text = |name: &str| entry[name].as_str().unwrap_or_default();
        assert_eq!(*row, [text("id"), &pid, text("status"), text("bundle"), text("created")]);
    }
    Ok(())
}

#[test]
fn plans() -> testkit::Result {
    require!(Program("busybox"));
    let bench = Bench::new("cli-plan")?;
    let bundle = bench.bundle("bundle", &bench.config("true"))?;
    let plan = bench.done(&["plan", &bundle])?;
    assert!(plan.starts_with("clone the stage into new namespaces:"), "{plan}");
    let explained = bench.done(&["plan", "--explain", &bundle])?;
    let steps = |text: &str| text.lines().filter(|line| line.get(3..5) == Some(". ")).count();
    assert!(steps(&plan) > 10, "{plan}");
    assert_eq!(steps(&plan), steps(&explained));
    assert!(explained.lines().count() >= plan.lines().count() + steps(&plan), "each step is explained");
    assert!(!bench.path("states").exists(), "nothing is made");
    Ok(())
}

#[test]
fn an_ordinary_user_has_a_place_of_his_own() -> testkit::Result {
    require!(Root, OrdinaryUser, UserNamespace, Program("busybox"));
    let bench = Bench::new("cli-user")?;
    let user = testkit::OrdinaryUser::for_tests()?;
    let home = user.home()?;
    let program = home.path().join("program");
    fs::copy(env!("CARGO_BIN_EXE_keelbox"), &program)?;
    let mut config = bench.config("id -u; exit 3");
    let map = |id: u32| json!([{ "containerID": 0, "hostID": id, "size": 1 }]);
    config["linux"]["uidMappings"] = map(user.uid());
    config["linux"]["gidMappings"] = map(user.gid());
    config["linux"]["namespaces"].as_array_mut().ok_or("a list")?.push(json!({ "type": "user" }));
    // The devices need a place where this user may make files.
    let dev = json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"] });
    config["mounts"].as_array_mut().ok_or("a list")?.push(dev);
    fs::create_dir(home.path().join("bundle"))?;
    fs::write(home.path().join("bundle/config.json"), config.to_string())?;
    let run = |words: &[&str]| {
        let mut command = user.command(&program);
        command.env("XDG_RUNTIME_DIR", home.path()).current_dir(home.path()).args(words).output()
    };
    let output = run(&["run", "--bundle", "bundle", "cli-user"])?;
    let said = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    assert_eq!((output.status.code(), said), (Some(3), ("0\n".to_owned(), String::new())));
    // It was made, and nothing is left in it.
    assert_eq!(fs::read_dir(home.path().join("keelbox"))?.count(), 0);
    Ok(())
}

#[test]
fn run_lends_its_terminal() -> testkit::Result {
    alone!();
    require!(Root, Program("busybox"), Program("script"));
    let bench = Bench::new("cli-terminal")?;
    let leaks = LeakCheck::builder().cgroups("keelbox-cli-terminal").begin();
    let mut config = bench.config("test -t 0 && test -t 1 && stty size; read line; echo \"got $line\"; exit 3");
    config["process"]["terminal"] = true.into();
    let mounts = config["mounts"].as_array_mut().ok_or("mounts")?;
    mounts.push(json!({ "destination": "/dev/pts", "type": "devpts", "source": "devpts",
        "options": ["newinstance", "ptmxmode=0666"] }));
    let bundle = bench.bundle("bundle", &config)?;
    let command = bench.command(&["run", "--bundle", &bundle, "cli-terminal"]);
    let words: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| format!("'{}'", word.to_string_lossy()))
        .collect();
    // Between two sizes of the outer terminal: the second one comes while the program runs.
    let line = format!("stty rows 33 cols 77; {}; echo status $?; stty -a", words.join(" "));
    let mut outer = std::process::Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut typed = outer.stdin.take().ok_or("a pipe")?;
    std::io::Write::write_all(&mut typed, b"hello\n")?;
    let output = outer.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    for word in ["33 77\n", "got hello\n", "status 3\n", " icanon"] {
        assert!(said.contains(word), "no {word:?} in {said:?}");
    }
    drop(typed);
    leaks.check();
    Ok(())
}
