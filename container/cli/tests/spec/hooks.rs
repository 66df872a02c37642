//! Hooks: when they run, where, what they are told, and what becomes of a container when one fails.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use keelbox_testkit::{self as testkit, LeakCheck, alone, require};
use serde_json::{Value, json};

use crate::common::{Bench, Ran, is_keelbox};

const POINTS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A hook that runs a line of the shell. That of the host is where that of the container is too.
fn shell(script: &str) -> Value {
    json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"] })
}

/// A container whose hooks write a line each to a log; that of its start has no other file than one of the container.
fn logging(bench: &Bench, program: &str) -> Value {
    let mut config = bench.config(program);
    for point in POINTS {
        let log = if point == "startContainer" { "/log".into() } else { bench.path("log").display().to_string() };
        config["hooks"][point] =
            json!([shell(&format!("echo {point} 1 >> {log}")), shell(&format!("echo {point} 2 >> {log}"))]);
    }
    config
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Fails, with these words if they are ours to choose.
fn failed(ran: &Ran, words: &str) {
    match is_keelbox() {
        true => ran.failed_with(words),
        false => assert_ne!(ran.status, Some(0), "{ran:?}"),
    }
}

#[test]
fn rs_036_arguments_environment_and_time_are_exact() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-036")?;
    let seen = bench.path("seen");
    let script =
        format!("tr '\\0' '\\n' < /proc/$$/cmdline > {0}; tr '\\0' '\\n' < /proc/$$/environ >> {0}", seen.display());
    let mut config = bench.config("true");
    let mut hook = shell(&script);
    hook["args"] = json!(["own name", "-c", script, "a b", ""]);
    hook["env"] = json!(["PATH=/usr/bin:/bin", "A=b=c", "EMPTY="]);
    config["hooks"]["createRuntime"] = json!([hook]);
    bench.printed(&config)?;
    assert_eq!(text(&seen), format!("own name\n-c\n{script}\na b\n\nPATH=/usr/bin:/bin\nA=b=c\nEMPTY=\n"));

    // The limit holds for all that it started, and for what keeps its streams.
    for script in ["sleep 600", "sleep 600 & sleep 600", "sleep 600 | cat"] {
        let mut hook = shell(script);
        hook["timeout"] = json!(1);
        config["hooks"]["createRuntime"] = json!([hook]);
        let begun = Instant::now();
        failed(&bench.run(&config)?, "cannot run createRuntime hook 1 of 1, /bin/sh: it ran longer than 1 s");
        assert!(begun.elapsed() >= Duration::from_secs(1) && begun.elapsed() < Duration::from_secs(60));
    }
    // And nothing that is left running holds anything up.
    config["hooks"]["createRuntime"] = json!([shell("sleep 3 & exit 0")]);
    let begun = Instant::now();
    bench.printed(&config)?;
    assert!(begun.elapsed() < Duration::from_millis(2800) || !is_keelbox(), "{:?}", begun.elapsed());
    Ok(())
}

#[test]
fn rs_037_hooks_come_in_order_and_read_the_state() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-037")?;
    let log = bench.path("log");
    let (out, bundle) = (log.display().to_string(), bench.path("bundle"));
    bench.printed(&logging(&bench, "true"))?;
    let outside: Vec<String> = POINTS
        .iter()
        .filter(|point| **point != "startContainer")
        .flat_map(|point| [format!("{point} 1"), format!("{point} 2")])
        .collect();
    assert_eq!(text(&log).lines().collect::<Vec<_>>(), outside);
    assert_eq!(text(&bench.root().join("log")), "startContainer 1\nstartContainer 2\n");

    let mut config = bench.config("sleep 0.3");
    config["annotations"] = json!({ "org.example.key": "v" });
    for point in POINTS {
        let to = if point == "startContainer" { "/state".into() } else { format!("{out}.{point}") };
        config["hooks"][point] = json!([shell(&format!("cat > {to}"))]);
    }
    let bundle_path = bench.bundle("bundle", &config)?;
    bench.done(&["create", "-b", &bundle_path, "rs-037"])?;
    let pid = bench.state()?["pid"].clone();
    bench.done(&["start", "rs-037"])?;
    bench.until("stopped")?;
    bench.done(&["delete", "rs-037"])?;
    for (point, status) in POINTS.iter().zip(["creating", "creating", "creating", "created", "running", "stopped"]) {
        let file =
            if *point == "startContainer" { bench.root().join("state") } else { format!("{out}.{point}").into() };
        let state: Value = serde_json::from_str(&text(&file)).map_err(|error| format!("{point}: {error}"))?;
        assert_eq!(state["id"], "rs-037");
        assert_eq!(state["bundle"], json!(bundle));
        assert_eq!(state["annotations"]["org.example.key"], "v", "{point}");
        assert!(state["ociVersion"].is_string());
        if is_keelbox() {
            assert_eq!(state["status"], status, "{point}");
        }
        // As it is seen from where the hook runs.
        match *point {
            "createContainer" | "startContainer" => assert_eq!(state["pid"], 1, "{point}"),
            "poststop" => assert!(matches!(state["pid"].as_u64(), None | Some(0)), "{state}"),
            _ => assert_eq!(state["pid"], pid, "{point}"),
        }
    }
    Ok(())
}

/// What a line of the shell prints about the namespaces of a process.
const NAMESPACES: &str = "for kind in mnt pid ipc uts; do readlink /proc/PID/ns/$kind; done";

fn own_namespaces() -> testkit::Result<String> {
    let mut all = String::new();
    for kind in ["mnt", "pid", "ipc", "uts"] {
        all += &format!("{}\n", fs::read_link(format!("/proc/self/ns/{kind}"))?.display());
    }
    Ok(all)
}

#[test]
fn rs_038_hooks_of_the_creation_run_outside_when_all_is_there() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-038")?;
    let seen = bench.path("seen");
    let mut config = bench.config("true");
    config["mounts"] = json!([
        { "destination": "/proc", "type": "proc", "source": "proc" },
        { "destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": ["size=128k"] },
    ]);
    // The container has its namespaces and mounts, and still the root of the host.
    let look = format!(
        "pid=$(sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p'); {{ {}; grep -c size=128k /proc/$pid/mountinfo; \
         stat -Lc %d:%i /proc/$pid/root/bin/sh /bin/sh | uniq | wc -l; \
         test $(readlink /proc/$pid/ns/mnt) != $(readlink /proc/self/ns/mnt) && echo apart; }} >> {}",
        NAMESPACES.replace("PID", "$$"),
        seen.display()
    );
    config["hooks"] = json!({ "createRuntime": [shell(&look)], "prestart": [shell(&look)] });
    let bundle = bench.bundle("bundle", &config)?;
    bench.done(&["create", "-b", &bundle, "rs-038"])?;
    let one = format!("{}1\n1\napart\n", own_namespaces()?);
    assert_eq!(text(&seen), one.repeat(2));
    bench.done(&["start", "rs-038"])?;
    bench.until("stopped")?;
    assert_eq!(text(&seen), one.repeat(2), "not again");
    Ok(())
}

#[test]
fn rs_039_create_container_runs_the_hosts_file_in_the_containers_namespaces() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-039")?;
    let (seen, file) = (bench.path("seen"), bench.path("hook"));
    let mut config = bench.config("cat /mnt/made; cat /etc/link; test -e /bin/only-here && echo kept");
    config["mounts"] = json!([
        { "destination": "/proc", "type": "proc", "source": "proc" },
        { "destination": "/mnt", "type": "tmpfs", "source": "tmpfs" },
    ]);
    config["root"]["readonly"] = true.into();
    fs::create_dir_all(bench.root().join("etc"))?;
    let root = bench.root().display().to_string();
    let script = format!(
        "#!/bin/sh\n{{ {}; hostname; }} > {}\necho from the hook > {root}/mnt/made\necho linked > {root}/etc/link\n\
         touch bin/only-here\n",
        NAMESPACES.replace("PID", "self"),
        seen.display()
    );
    fs::write(&file, script)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    config["hooks"]["createContainer"] = json!([{ "path": file, "env": ["PATH=/usr/bin:/bin"] }]);
    let bundle = bench.bundle("bundle", &config)?;
    let log = bench.path("log");
    let create = bench.command(&["create", "-b", &bundle, "rs-039"]).stdout(fs::File::create(&log)?).status()?;
    assert!(create.success());
    let pid = bench.state()?["pid"].clone();
    let mut expected = String::new();
    for kind in ["mnt", "pid", "ipc", "uts"] {
        expected += &format!("{}\n", fs::read_link(format!("/proc/{pid}/ns/{kind}"))?.display());
    }
    assert_eq!(text(&seen), expected + "inner\n");
    bench.done(&["start", "rs-039"])?;
    bench.until("stopped")?;
    assert_eq!(text(&log), "from the hook\nlinked\nkept\n");
    Ok(())
}

#[test]
fn rs_040_start_container_runs_inside_before_the_program() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-040")?;
    let mut config = bench.config("cat /seen; ls /");
    // Of all the files that it could be, this one is in the container only.
    fs::copy(bench.root().join("bin/busybox"), bench.root().join("bin/own-shell"))
        .or_else(|_| fs::copy(fs::canonicalize(bench.root().join("bin/sh"))?, bench.root().join("bin/own-shell")))?;
    let script = format!("{{ hostname; {}; pwd; }} > /seen", NAMESPACES.replace("PID", "self"));
    config["hooks"]["startContainer"] =
        json!([{ "path": "/bin/own-shell", "args": ["sh", "-c", script], "env": ["PATH=/bin"] }]);
    let bundle = bench.bundle("bundle", &config)?;
    let log = bench.path("log");
    assert!(bench.command(&["create", "-b", &bundle, "rs-040"]).stdout(fs::File::create(&log)?).status()?.success());
    assert!(!bench.root().join("seen").exists(), "not yet");
    let pid = bench.state()?["pid"].clone();
    let mut expected = "inner\n".to_owned();
    for kind in ["mnt", "pid", "ipc", "uts"] {
        expected += &format!("{}\n", fs::read_link(format!("/proc/{pid}/ns/{kind}"))?.display());
    }
    bench.done(&["start", "rs-040"])?;
    bench.until("stopped")?;
    assert!(text(&log).starts_with(&format!("{expected}/\n")), "{expected}: {}", text(&log));
    Ok(())
}

#[test]
fn rs_041_poststart_runs_outside_while_the_program_does() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-041")?;
    let seen = bench.path("seen");
    let mut config = bench.config("touch /begun; exec sleep 600");
    let look = format!(
        "pid=$(sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p'); while ! test -e {0}/begun; do sleep 0.01; done; \
         {{ test -e /proc/$pid && echo runs; {1}; }} > {2}",
        bench.root().display(),
        NAMESPACES.replace("PID", "$$"),
        seen.display()
    );
    config["hooks"]["poststart"] = json!([shell(&look)]);
    let bundle = bench.bundle("bundle", &config)?;
    bench.done(&["create", "-b", &bundle, "rs-041"])?;
    assert!(!seen.exists());
    bench.done(&["start", "rs-041"])?;
    assert_eq!(text(&seen), format!("runs\n{}", own_namespaces()?));
    Ok(())
}

#[test]
fn rs_042_poststop_runs_outside_when_all_is_gone() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-042")?;
    let seen = bench.path("seen");
    let mut config = bench.config("exec sleep 600");
    let pid_file = bench.path("pid");
    let look = format!(
        "{{ test -e /proc/$(cat {})/root/bin || echo gone; {}; }} >> {}",
        pid_file.display(),
        NAMESPACES.replace("PID", "$$"),
        seen.display()
    );
    config["hooks"]["poststop"] = json!([shell(&look)]);
    let bundle = bench.bundle("bundle", &config)?;
    bench.done(&["create", "-b", &bundle, "--pid-file", pid_file.to_str().ok_or("text")?, "rs-042"])?;
    bench.done(&["start", "rs-042"])?;
    bench.done(&["kill", "rs-042", "KILL"])?;
    bench.until("stopped")?;
    assert!(!seen.exists(), "not by its end alone");
    bench.done(&["delete", "rs-042"])?;
    assert_eq!(text(&seen), format!("gone\n{}", own_namespaces()?));
    assert_ne!(bench.keelbox(&["state", "rs-042"])?.status, Some(0));
    Ok(())
}

/// A container of which the second hook at `point` fails, with what its hooks wrote down before.
fn broken(bench: &Bench, point: &str) -> Value {
    let mut config = logging(bench, "touch /ran; sleep 600");
    config["hooks"][point][1] = shell("echo why >&2; echo more >&2; exit 3");
    config
}

fn lines_before(point: &str) -> String {
    let mut lines = String::new();
    for before in POINTS.iter().take_while(|before| **before != point).filter(|before| **before != "startContainer") {
        lines += &format!("{before} 1\n{before} 2\n");
    }
    if point != "startContainer" {
        lines += &format!("{point} 1\n");
    }
    lines
}

/// That a step of the life fails with the hook, and the container is gone with all of it, its last hooks run.
fn ended_by(bench: &Bench, point: &str, ran: &Ran) -> testkit::Result {
    failed(ran, &format!("cannot run {point} hook 2 of 2, /bin/sh: it ended badly (exit code 3): why"));
    if is_keelbox() {
        assert_eq!(text(&bench.path("log")), lines_before(point) + "poststop 1\npoststop 2\n", "{point}");
        assert_eq!(bench.done(&["list", "-q"])?, "", "{point}");
    } else {
        bench.keelbox(&["delete", "--force", &bench.id])?;
    }
    fs::remove_file(bench.path("log"))?;
    Ok(())
}

#[test]
fn rs_127_a_hook_that_fails_ends_the_creation() -> testkit::Result {
    alone!();
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-127")?;
    let leaks = LeakCheck::builder().cgroups("rs-127").begin();
    for point in ["prestart", "createRuntime", "createContainer"] {
        let bundle = bench.bundle("bundle", &broken(&bench, point))?;
        ended_by(&bench, point, &bench.keelbox(&["create", "-b", &bundle, "rs-127"])?)?;
        // The name is free again.
        let whole = bench.bundle("whole", &logging(&bench, "true"))?;
        bench.done(&["create", "-b", &whole, "rs-127"])?;
        bench.done(&["delete", "--force", "rs-127"])?;
        fs::remove_file(bench.path("log"))?;
    }
    let mut config = bench.config("true");
    config["hooks"]["createRuntime"] = json!([{ "path": "/absent/hook" }]);
    failed(&bench.run(&config)?, "cannot run createRuntime hook 1 of 1, /absent/hook: cannot execute /absent/hook");
    leaks.check();
    Ok(())
}

#[test]
fn rs_129_a_hook_that_fails_in_the_container_ends_the_start() -> testkit::Result {
    alone!();
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-129")?;
    let leaks = LeakCheck::builder().cgroups("rs-129").begin();
    let bundle = bench.bundle("bundle", &broken(&bench, "startContainer"))?;
    bench.done(&["create", "-b", &bundle, "rs-129"])?;
    ended_by(&bench, "startContainer", &bench.keelbox(&["start", "rs-129"])?)?;
    assert!(!bench.root().join("ran").exists(), "the program never ran");
    leaks.check();
    Ok(())
}

#[test]
fn rs_130_a_hook_that_fails_after_the_start_ends_the_container() -> testkit::Result {
    alone!();
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-130")?;
    let leaks = LeakCheck::builder().cgroups("rs-130").begin();
    let bundle = bench.bundle("bundle", &broken(&bench, "poststart"))?;
    bench.done(&["create", "-b", &bundle, "rs-130"])?;
    ended_by(&bench, "poststart", &bench.keelbox(&["start", "rs-130"])?)?;
    leaks.check();
    Ok(())
}

#[test]
fn rs_133_a_hook_that_fails_at_the_end_is_a_warning() -> testkit::Result {
    alone!();
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-133")?;
    let leaks = LeakCheck::builder().cgroups("rs-133").begin();
    let mut config = logging(&bench, "exit 5");
    config["hooks"]["poststop"][0] = shell("echo why >&2; exit 3");
    let bundle = bench.bundle("bundle", &config)?;
    bench.done(&["create", "-b", &bundle, "rs-133"])?;
    bench.done(&["start", "rs-133"])?;
    bench.until("stopped")?;
    let ran = bench.keelbox(&["delete", "rs-133"])?;
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert!(text(&bench.path("log")).ends_with("poststart 2\npoststop 2\n"), "the other one runs");
    assert_ne!(bench.keelbox(&["state", "rs-133"])?.status, Some(0));
    if is_keelbox() {
        let warning = "cannot run poststop hook 1 of 2, /bin/sh: it ended badly (exit code 3): why";
        let warned = |ran: &Ran| ran.stderr.contains("level=warning") && ran.stderr.contains(warning);
        assert!(warned(&ran), "{ran:?}");
        let ran = bench.run(&config)?;
        assert!(ran.status == Some(5) && warned(&ran), "{ran:?}");
    }
    leaks.check();
    Ok(())
}
