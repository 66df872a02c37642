//! The same programs by an ordinary user, without any set-up of the machine: one user id, no helper, no delegated control group.

mod common;

use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

use common::Small;
use keelbox::{Container, ErrorKind, Limits, MIB, Profile, Reason, Signal, Stdio, Terminal};
use keelbox_testkit::{self as testkit, HostCanary, LeakCheck, as_user, require};

const CONFIG: &str =
    r#""Env":["PATH=/bin","FROM=image"],"Cmd":["sh","-c","echo hi from $FROM"],"WorkingDir":"/made/here""#;

#[test]
fn commands_in_a_root_file_system_and_in_an_image() -> testkit::Result {
    require!(OrdinaryUser, UserNamespace, Overlay, Program("busybox"));
    as_user!();
    let root = common::root()?;
    let out = Container::from_rootfs(root.path()).args(["echo", "hi"]).output()?;
    assert_eq!(out.text(), "hi\n");
    let small = Small::busybox(CONFIG)?;
    assert_eq!(small.container()?.output()?.text(), "hi from image\n");
    let out = small.container()?.args(["sh", "-c", "id -u; pwd; touch /x; rm -rf /etc; ls -d /x /etc"]).output()?;
    assert_eq!(out.text(), "0\n/made/here\n/x\n");
    assert!(small.container()?.args(["ls", "/etc/passwd"]).status()?.success());
    // Directories are replaced and closed, and wherever the layer was, nothing stays of it.
    let script = "rm -r /etc && mkdir /etc && touch /etc/new && ls /etc; mkdir -p /closed/x; chmod 0 /closed/x /closed";
    assert_eq!(small.container()?.args(["sh", "-c", script]).output()?.text(), "new\n");
    let left = std::fs::read_dir(small.store().join("runs")).map_or(0, |entries| entries.count());
    assert_eq!(left, 0);
    let end = small.container()?.args(["probe", "sleep", "60000"]).time_limit(Duration::from_millis(100)).status()?;
    assert_eq!(end.reason(), Reason::TimeLimit);
    Ok(())
}

#[test]
fn limits_are_errors_and_best_effort_goes_on() -> testkit::Result {
    require!(OrdinaryUser, UserNamespace);
    as_user!();
    let root = testkit::probe_root()?;
    let run = || Container::from_rootfs(root.path()).args(["/probe", "true"]);
    // Where a group was delegated to this user, limits just work.
    let delegated =
        keelbox::crates::cgroups::Group::create("keelbox-try", &Limits::new().pids(9)).map(|group| group.delete());
    for (name, container) in [
        ("memory", run().memory(64 * MIB)),
        ("pids", run().pids(32)),
        ("cpu", run().cpus(0.5)),
        ("group", run().control_group()),
    ] {
        match container.status() {
            Ok(end) => assert!(delegated.is_ok() && end.success(), "{name}: {end:?}"),
            Err(error) => {
                println!("{error:?}");
                assert_eq!(error.kind(), ErrorKind::Limit, "{name}: {error:?}");
            }
        }
    }
    let limits = Limits::new().memory(64 * MIB).pids(32).best_effort();
    assert!(run().limits(limits).status()?.success());
    // The strictest profile limits processes where it can, and runs everywhere.
    assert!(run().profile(Profile::Hostile).status()?.success());
    let process = run().args(["/probe", "sleep", "60000"]).spawn()?;
    assert_eq!(process.stats().map_err(|error| error.kind()).err(), Some(ErrorKind::Limit));
    assert_eq!(process.pause().map_err(|error| error.kind()), Err(ErrorKind::Limit));
    Ok(())
}

#[test]
fn a_running_process_its_streams_and_further_programs() -> testkit::Result {
    require!(OrdinaryUser, UserNamespace, Program("busybox"));
    as_user!();
    let root = common::root()?;
    let server = "trap 'exit 4' TERM; echo ready; while true; do sleep 0.05; done";
    let mut web = Container::from_rootfs(root.path())
        .args(["sh", "-c", server])
        .hostname("box")
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(web.stdout.take().expect("piped")).read_line(&mut line)?;
    assert_eq!(line, "ready\n");
    let out = web.exec(["sh", "-c", "id -u; hostname; ls -d /proc/1; ls -l /etc/passwd | wc -l"]).output()?;
    assert_eq!(out.text(), "0\nbox\n/proc/1\n1\n", "{out:?}");
    let own = std::fs::read_link(format!("/proc/{}/ns/user", web.id()))?;
    let out = web.exec(["readlink", "/proc/self/ns/user"]).output()?;
    assert_eq!(out.text().trim(), own.to_string_lossy());
    let out = web.exec(["/probe", "fds"]).output()?;
    assert_eq!(out.text().lines().count(), 3, "{out:?}");
    assert!(web.exec(["/no/such"]).output().is_err());
    let mut shell = web.exec(["sh", "-c", "stty size; tty"]).terminal(Terminal::size(3, 4)).spawn()?;
    let mut text = String::new();
    shell.terminal().expect("a terminal").read_to_string(&mut text)?;
    assert!(shell.wait()?.success(), "{text}");
    assert!(text.starts_with("3 4\r\n"), "{text:?}");
    assert_eq!(web.stop(Duration::from_secs(5))?.reason(), Reason::Exited(4));
    let mut deaf = Container::from_rootfs(root.path()).args(["/probe", "sleep", "60000"]).spawn()?;
    assert_eq!(deaf.stop(Duration::from_millis(10))?.reason(), Reason::Signaled(Signal::KILL));
    Ok(())
}

#[test]
fn a_terminal_and_files_in_and_out() -> testkit::Result {
    require!(OrdinaryUser, UserNamespace, Overlay, Tty, Program("busybox"));
    as_user!();
    let small = Small::busybox(CONFIG)?;
    let mut shell = small.container()?.args(["sh", "-c", "stty size; tty"]).terminal(Terminal::size(24, 80)).spawn()?;
    let mut text = String::new();
    shell.terminal().expect("a terminal").read_to_string(&mut text)?;
    assert!(shell.wait()?.success());
    assert_eq!(text, "24 80\r\n/dev/pts/0\r\n");
    let host = tempfile::tempdir()?;
    std::fs::write(host.path().join("there"), "shared\n")?;
    let script =
        "cat /work/in /data/there; echo out > /work/out; touch /data/no 2>/dev/null || echo read-only; rm /etc/group";
    let out = small
        .container()?
        .file("/work/in", "in\n")
        .bind_read_only(host.path(), "/data")
        .tmpfs("/tmp", MIB)
        .args(["sh", "-c", script])
        .keep_changes()
        .output()?;
    assert_eq!(out.text(), "in\nshared\nread-only\n", "{out:?}");
    assert_eq!(out.changes()?.read("/work/out")?, b"out\n");
    let removed = out.changes()?.diff()?.into_iter().find(|change| change.path.ends_with("etc/group"));
    assert_eq!(removed.map(|change| change.kind), Some(keelbox::ChangeKind::Removed));
    let directory = out.changes()?.directory();
    drop(out);
    assert!(!directory.exists());
    Ok(())
}

#[test]
fn who_it_runs_as() -> testkit::Result {
    require!(OrdinaryUser, UserNamespace, Overlay, Program("busybox"));
    as_user!();
    let small = Small::busybox(CONFIG)?;
    let run = |user: &str| -> testkit::Result<String> {
        let container = small.container()?.user(user).hostname("box").env("LANG", "C.UTF-8").current_dir("/srv");
        Ok(container.args(["sh", "-c", "id -u; id -g; hostname; echo $LANG; pwd"]).output()?.text().into_owned())
    };
    assert_eq!(run("1000:1000")?, "1000\n1000\nbox\nC.UTF-8\n/srv\n");
    assert_eq!(run("user")?, "1000\n1000\nbox\nC.UTF-8\n/srv\n");
    assert_eq!(run("0")?, "0\n0\nbox\nC.UTF-8\n/srv\n");
    // A further program can be nobody else: there is one id.
    let process = small.container()?.args(["probe", "sleep", "60000"]).spawn()?;
    let error = process.exec(["true"]).user("1000").output().expect_err("an id that is not mapped");
    assert!(error.report().contains("1000"), "{error:?}");
    Ok(())
}

#[test]
fn hostile_code_templates_and_nothing_left_behind() -> testkit::Result {
    require!(OrdinaryUser, UserNamespace, Overlay, Program("busybox"));
    as_user!();
    let (small, canary) = (Small::busybox(CONFIG)?, HostCanary::new()?);
    let secret = canary.path().join("secret").display().to_string();
    let hostile = small.container()?.profile(Profile::Hostile);
    assert_eq!(hostile.clone().args(["probe", "escape", &secret]).output()?.text(), "contained\n");
    let out = hostile.args(["probe", "cat", "/proc/self/status"]).output()?;
    for (key, value) in
        [("CapEff:", "0000000000000000"), ("CapBnd:", "0000000000000000"), ("NoNewPrivs:", "1"), ("Seccomp:", "2")]
    {
        assert_eq!(common::value(&out.text(), key), value, "{key}");
    }
    small.container()?.template()?.run().output()?;
    let leaks = LeakCheck::builder().files(small.store()).begin();
    let template = small.container()?.template()?;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    let out = template
                        .args([
                            "sh",
                            "-c",
                            "ls /made-by-another 2>&1 | wc -l; touch /made-by-another; ls /made-by-another",
                        ])
                        .output();
                    assert_eq!(out.expect("it runs").text(), "1\n/made-by-another\n");
                }
            });
        }
    });
    drop(template);
    drop(small.container()?.args(["probe", "sleep", "60000"]).spawn()?);
    assert!(small.container()?.args(["/missing"]).output().is_err());
    leaks.check();
    canary.assert_unchanged();
    Ok(())
}

#[test]
fn a_bundle_for_other_runtimes() -> testkit::Result {
    require!(OrdinaryUser, UserNamespace, Program("busybox"));
    as_user!();
    let root = common::root()?;
    let directory = tempfile::tempdir()?;
    let container =
        Container::from_rootfs(root.path()).hostname("box").args(["sh", "-c", "hostname; id -u"]).build()?;
    container.write_bundle(directory.path())?;
    let out = Container::from_bundle(directory.path())?.output()?;
    assert_eq!(out.text(), "box\n0\n");
    Ok(())
}

/// Why a namespace is refused is said in words (peers' most common complaint).
#[test]
fn what_root_alone_may_do_is_refused_with_a_reason() -> testkit::Result {
    require!(OrdinaryUser, UserNamespace);
    as_user!();
    let root = testkit::probe_root()?;
    let run = || Container::from_rootfs(root.path()).args(["/probe", "true"]);
    let error = run().share(keelbox::Kind::User).status().expect_err("no privilege");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
    assert!(
        error.report().len() > "cannot clone into new namespaces: Operation not permitted".len(),
        "no hint: {error:?}"
    );
    let error = run().oom_score_adj(-1000).status().expect_err("no privilege");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
    Ok(())
}
