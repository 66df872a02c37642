//! Further programs as engines start them: described by a file, detached, with descriptors and with a terminal that is handed over.

mod common;

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Bench, Ran, shown, wait_for};
use keelbox_testkit::{self as testkit, require};
use serde_json::{Value, json};

/// A container that waits, by its id, with terminals to be had.
fn waiting(id: &str) -> testkit::Result<Bench> {
    let bench = Bench::new(id)?;
    let mut config = bench.config("while :; do sleep 0.05; done");
    let mounts = config["mounts"].as_array_mut().ok_or("a list")?;
    mounts.push(json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"] }));
    let options = json!(["newinstance", "ptmxmode=0666", "mode=0620"]);
    mounts.push(json!({ "destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": options }));
    let bundle = bench.bundle("bundle", &config)?;
    bench.done(&["run", "--detach", "--bundle", &bundle, id])?;
    Ok(bench)
}

/// A file with a program as `config.json` describes one.
fn process(bench: &Bench, process: &Value) -> testkit::Result<String> {
    let file = bench.path("process.json");
    fs::write(&file, process.to_string())?;
    Ok(file.to_str().ok_or("text")?.to_owned())
}

fn text(path: &Path) -> testkit::Result<&str> {
    Ok(path.to_str().ok_or("a path that is text")?)
}

#[test]
fn a_program_from_a_file_has_its_own_settings_alone() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = waiting("cli-exec-file")?;
    let script = "echo $(id -u) $(id -g) $(pwd) $OWN-$FROM; grep -E 'CapEff|NoNewPrivs' /proc/self/status; umask; ulimit -n; exit 3";
    let file = process(
        &bench,
        &json!({
            "args": ["sh", "-c", script], "cwd": "/bin", "env": ["PATH=/bin", "OWN=file"], "noNewPrivileges": true,
            "user": { "uid": 12, "gid": 34, "umask": 0o27 },
            "capabilities": { "bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"] },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 77, "hard": 88 }],
        }),
    )?;
    let ran = bench.keelbox(&["exec", "--process", &file, "cli-exec-file"])?;
    // Who is not root keeps across execve(2) only ambient capabilities, and the file names none.
    let said = "12 34 /bin file-\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\n0027\n77\n";
    assert_eq!((ran.status, ran.stdout.as_str(), ran.stderr.as_str()), (Some(3), said, ""));
    // What the command line says counts for more.
    let ran =
        bench.keelbox(&["exec", "-p", &file, "--cwd", "/", "--user", "5:6", "--env", "OWN=line", "cli-exec-file"])?;
    assert!(ran.stdout.starts_with("5 6 / line-\n"), "{ran:?}");
    Ok(())
}

#[test]
fn a_file_that_describes_no_program_is_refused() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = waiting("cli-exec-bad")?;
    let refused = |words: &[&str], text: &str| -> testkit::Result {
        bench.keelbox(&[&["exec"], words].concat())?.ended_with(255, text);
        Ok(())
    };
    let id = "cli-exec-bad";
    let good = process(&bench, &json!({ "args": ["true"], "cwd": "/" }))?;
    refused(&["--process", &good, id, "true"], "--process names a program already")?;
    refused(&[id], "exec needs a program behind the id of the container, or --process")?;
    refused(&["--process", "/absent", id], "cannot use the process of /absent: no such file or directory")?;
    for (wrong, problem) in [
        (json!([]), "cannot use the process of"),
        (json!({ "args": "true", "cwd": "/" }), "args"),
        (json!({ "args": [], "cwd": "/" }), "args"),
        (json!({ "args": ["true"], "cwd": "bin" }), "bin"),
        (
            json!({ "args": ["true"], "cwd": "/", "rlimits": [{ "type": "RLIMIT_NONE", "soft": 1, "hard": 1 }] }),
            "RLIMIT_NONE",
        ),
    ] {
        refused(&["--process", &process(&bench, &wrong)?, id], problem)?;
    }
    Ok(())
}

#[test]
fn a_detached_program_is_told_by_its_number_and_goes_on() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = waiting("cli-exec-detached")?;
    let (id, numbers) = ("cli-exec-detached", bench.path("numbers"));
    let file = process(&bench, &json!({ "args": ["sleep", "600"], "cwd": "/", "env": ["PATH=/bin"] }))?;
    let pid_file = text(&numbers)?;
    bench.done(&["exec", "--detach", "--pid-file", pid_file, "--process", &file, id])?;
    let pid: u32 = fs::read_to_string(&numbers)?.parse()?;
    let link = |pid: &Value, name: &str| fs::read_link(format!("/proc/{pid}/ns/{name}"));
    for name in ["pid", "mnt", "uts"] {
        assert_eq!(link(&json!(pid), name)?, link(&bench.state()?["pid"], name)?, "{name}");
    }
    assert_eq!(fs::read(format!("/proc/{pid}/cmdline"))?, b"sleep\x00600\x00");
    assert!(bench.done(&["ps", "--format", "json", id])?.contains(&pid.to_string()));

    // A number that cannot be told: the program does not stay.
    let ran = bench.keelbox(&["exec", "-d", "--pid-file", "/absent/file", id, "sleep", "601"])?;
    ran.ended_with(255, "cannot write the process id to /absent/file: no such file or directory");
    wait_for(|| Ok(!bench.done(&["exec", id, "ps"])?.contains("sleep 601")))?;
    assert!(Path::new(&format!("/proc/{pid}")).exists(), "the other one stays");
    // What cannot be started is told although nobody waits.
    bench
        .keelbox(&["exec", "-d", id, "absent"])?
        .ended_with(127, "cannot execute absent: executable file not found in $PATH");
    bench.done(&["delete", "--force", id])?;
    // Whose child it has become reaps it, sooner or later; a process that has ended has no memory.
    let memory = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    assert_eq!(String::from_utf8(memory)?, "");
    Ok(())
}

/// The program with descriptors 3, 4 and 5, which are files that say `three`, `four` and `five`.
fn with_descriptors(bench: &Bench, variables: &[(&str, &str)], words: &[&str]) -> testkit::Result<Ran> {
    for name in ["three", "four", "five"] {
        fs::write(bench.path(name), format!("{name}\n"))?;
    }
    let (out, err) = (bench.path("out"), bench.path("err"));
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"exec 3<"$1/three" 4<"$1/four" 5<"$1/five" 6<&-; shift; exec "$@""#, "sh"]);
    shell.arg(bench.path("")).arg(bench.command(&[]).get_program()).arg("--root").arg(bench.path("states")).args(words);
    shell.stdin(Stdio::null()).stdout(fs::File::create(&out)?).stderr(fs::File::create(&err)?);
    let status = shell.envs(variables.iter().copied()).status()?;
    Ok(Ran { status: status.code(), stdout: fs::read_to_string(out)?, stderr: fs::read_to_string(err)? })
}

#[test]
fn descriptors_and_listen_fds_are_handed_on() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = waiting("cli-exec-fds")?;
    let script = "for n in 3 4 5; do [ -e /proc/$$/fd/$n ] && cat <&$n || echo none; done; \
        [ \"$LISTEN_PID\" = $$ ] && echo mine; echo $LISTEN_FDS-$LISTEN_FDNAMES";
    let bundle = bench.bundle("fds", &bench.config(script))?;
    let listening = [("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "web")];
    for (variables, options, said) in [
        (&[][..], &[][..], "none\nnone\nnone\n-\n"),
        (&[], &["--preserve-fds", "2"], "three\nfour\nnone\n-\n"),
        (&listening, &[], "three\nnone\nnone\nmine\n1-web\n"),
        // Those that are listened on are the first, and the others stand behind them.
        (&listening, &["--preserve-fds", "2"], "three\nfour\nfive\nmine\n1-web\n"),
    ] {
        let exec = [&["exec"], options, &["cli-exec-fds", "sh", "-c", script]].concat();
        let run = [&["run", "--bundle", &bundle], options, &["cli-run-fds"]].concat();
        for words in [exec, run] {
            let ran = with_descriptors(&bench, variables, &words)?;
            assert_eq!((ran.status, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), said, ""), "{words:?}");
        }
    }
    // Numbers that the caller left free are not taken for files that the program has opened itself meanwhile.
    let log = bench.path("log");
    let line = ["--log", text(&log)?, "exec", "--preserve-fds", "9", "cli-exec-fds", "ls", "/proc/self/fd"];
    with_descriptors(&bench, &[], &line)?.ended_with(255, "cannot pass on descriptor 6: bad file descriptor");
    let line = ["run", "--bundle", &bundle, "--preserve-fds", "4", "cli-run-fds"];
    with_descriptors(&bench, &[], &line)?.failed_with("cannot pass on descriptor 6: bad file descriptor");
    let wrong = with_descriptors(&bench, &[("LISTEN_FDS", "many")], &["exec", "cli-exec-fds", "true"])?;
    wrong.ended_with(255, "LISTEN_FDS is no number: \"many\"");
    Ok(())
}

#[test]
fn the_terminal_of_a_further_program_is_handed_over() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = waiting("cli-exec-tty")?;
    let (id, path) = ("cli-exec-tty", bench.path("console"));
    let socket = UnixListener::bind(&path)?;
    let console = text(&path)?;
    let script = "for n in 0 1 2; do readlink /proc/self/fd/$n; done; tty; stty size; echo at last; exec sleep 600";
    let size = json!({ "height": 43, "width": 121 });
    let program = json!({ "args": ["sh", "-c", script], "cwd": "/", "env": ["PATH=/bin"], "terminal": true, "consoleSize": size });
    let file = process(&bench, &program)?;
    let reader = std::thread::spawn(move || {
        let by_file = shown(&socket, "at last").map_err(|error| error.to_string())?;
        shown(&socket, "at last").map(|by_option| (by_file, by_option)).map_err(|error| error.to_string())
    });
    bench.done(&["exec", "--detach", "--console-socket", console, "--process", &file, id])?;
    bench.done(&["exec", "--detach", "--tty", "--console-socket", console, id, "sh", "-c", script])?;
    let (by_file, by_option) = reader.join().map_err(|_| "the reader failed")??;
    for (text, size) in [(by_file, "43 121"), (by_option, "24 80")] {
        // The number of a terminal that has been closed is used again.
        let name = text.lines().next().unwrap_or_default();
        assert!(name.starts_with("/dev/pts/"), "{text}");
        assert_eq!(text, format!("{}{size}\r\nat last\r\n", format!("{name}\r\n").repeat(4)));
    }

    bench
        .keelbox(&["exec", "--console-socket", console, id, "true"])?
        .ended_with(255, "the program has no terminal (--tty)");
    bench.keelbox(&["exec", "-d", "--tty", id, "true"])?.ended_with(255, "nobody would hold the terminal");
    bench.keelbox(&["exec", "-t", "-d", "--console-socket", "/absent", id, "true"])?.ended_with(255, "/absent");
    Ok(())
}
