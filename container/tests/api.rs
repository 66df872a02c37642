//! The programs that a user writes, about as the documentation has them: each runs and prints what it should.
//!
//! Left out: what needs other crates' features (named containers, networks, async). Registries: `--features registry`.

mod common;
#[cfg(feature = "registry")]
#[path = "../../image-spec/tests/common/distribution.rs"]
mod distribution;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use common::Small;
use keelbox::{
    Answer, ChangeKind, Container, ErrorKind, Limits, MIB, Network, Profile, Reason, Signal, Stdio, Template, Terminal,
};
use keelbox_testkit::{self as testkit, require};

const CONFIG: &str =
    r#""Env":["PATH=/bin","FROM=image"],"Cmd":["sh","-c","echo hi from $FROM"],"WorkingDir":"/made/here""#;

#[test]
fn program_1_a_command_in_a_root_file_system() -> testkit::Result {
    require!(Root, Program("busybox"));
    let root = common::root()?;
    let out = Container::from_rootfs(root.path()).args(["echo", "hi"]).output()?;
    assert!(out.status.success());
    assert_eq!((out.text().as_ref(), out.stderr.as_slice()), ("hi\n", &b""[..]));
    let out = Container::from_rootfs(root.path()).args(["sh", "-c", "echo no >&2; exit 3"]).output()?;
    assert_eq!((out.status.code(), out.status.signal(), out.stderr.as_slice()), (Some(3), None, &b"no\n"[..]));
    assert_eq!(out.status.to_string(), "exit code 3");
    Ok(())
}

#[test]
fn program_2_the_same_from_an_image() -> testkit::Result {
    require!(Root, Overlay, Program("busybox"));
    let small = Small::busybox(CONFIG)?;
    let out = small.container()?.output()?;
    assert_eq!(out.text(), "hi from image\n");
    let out = small.container()?.args(["cat", "/etc/passwd"]).output()?;
    assert!(out.text().starts_with("root:x:0:0"), "{out:?}");
    let out = small.container()?.env("FROM", "me").args(["sh", "-c", "echo $FROM; pwd; ls -A"]).output()?;
    assert_eq!(out.text(), "me\n/made/here\n");
    // What a program writes is gone with it, and another one of the same image does not see it.
    assert!(small.container()?.args(["sh", "-c", "rm -rf /etc; echo x > /new; ls /new"]).status()?.success());
    let out = small.container()?.args(["sh", "-c", "ls /etc/passwd /new"]).output()?;
    assert_eq!(out.text(), "/etc/passwd\n");
    Ok(())
}

#[test]
fn program_2_an_archive_is_an_image_too() -> testkit::Result {
    require!(Root, Overlay, Program("busybox"), Program("skopeo"));
    let small = Small::busybox(CONFIG)?;
    let directory = tempfile::tempdir()?;
    for kind in ["oci-archive", "docker-archive"] {
        let archive = directory.path().join(kind);
        let source = format!("oci:{}:small", small.layout().display());
        let target = format!("{kind}:{}:small:latest", archive.display());
        common::run(Command::new("skopeo").args(["--insecure-policy", "copy", "-q", &source, &target]))?;
        let image = keelbox::Image::open(&format!("{kind}:{}", archive.display()))?;
        let out = Container::from_image(&image).store(directory.path().join("store")).output()?;
        assert_eq!(out.text(), "hi from image\n", "{kind}");
    }
    Ok(())
}

/// `Image::pull` goes into the store that programs share, which here is a file system of the test's own.
#[cfg(feature = "registry")]
#[test]
fn program_2_an_image_comes_from_a_registry() -> testkit::Result {
    require!(Root, Overlay, MountNamespace, Program("busybox"), Program("docker-registry"));
    testkit::alone!();
    let registry = distribution::Distribution::plain().ok_or("docker-registry(1) is gone")?;
    let small = Small::busybox(CONFIG)?;
    let name = format!("{}/debian:12", registry.address);
    let digest = keelbox::Pusher::new().push(&small.image()?, &name)?;
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
    private_directory("/", nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE)?;
    std::fs::create_dir_all("/var/lib")?;
    private_directory("/var/lib", nix::mount::MsFlags::empty())?;

    let image = keelbox::Image::pull(&name)?;
    let out = Container::from_image(&image).args(["cat", "/etc/passwd"]).output()?;
    assert!(out.text().starts_with("root:x:0:0"), "{out:?}");
    assert_eq!(Container::from_image(&image).output()?.text(), "hi from image\n");

    assert_eq!(image.manifest_digest(), &digest);
    // The same without the network, by the name it has in the store.
    drop(registry);
    let store = keelbox::Store::open("/var/lib/keelbox")?;
    let again = store.get(&name)?;
    assert_eq!(Container::from_image(&again).output()?.text(), "hi from image\n");
    let puller = keelbox::Puller::new(&store).client(keelbox::Client::new().retries(0));
    assert!(puller.pull(&name).is_err(), "the registry is gone");
    assert!(store.get(&name).is_ok(), "and the image is not");
    Ok(())
}

#[cfg(feature = "registry")]
fn private_directory(path: &str, flags: nix::mount::MsFlags) -> nix::Result<()> {
    let kind = flags.is_empty().then_some("tmpfs");
    nix::mount::mount(kind, path, kind, flags, None::<&str>)
}

/// What [`Distribution`](distribution::Distribution) says where its program is missing, which the test has looked for.
#[cfg(feature = "registry")]
fn skip(reason: &str) {
    unreachable!("{reason}");
}

#[test]
fn program_3_limits_a_time_limit_and_how_it_ended() -> testkit::Result {
    require!(Root, Overlay, Program("busybox"), Cgroup("memory"), Cgroup("pids"), Cgroup("cpu"));
    let small = Small::busybox(CONFIG)?;
    let solve = |args: &[&str], seconds: u64| -> testkit::Result<Reason> {
        let end = small
            .container()?
            .args(args.iter().copied())
            .memory(64 * MIB)
            .swap(0)
            .cpus(0.5)
            .pids(32)
            .stdout(Stdio::null())
            .time_limit(Duration::from_secs(seconds))
            .status()?;
        assert!(end.usage().wall < Duration::from_secs(seconds + 4));
        println!("{:?} CPU, {} bytes at most", end.usage().cpu, end.usage().peak_memory);
        Ok(end.reason())
    };
    assert_eq!(solve(&["/bin/probe", "exit", "5"], 20)?, Reason::Exited(5));
    assert_eq!(
        solve(&["/bin/probe", "kill", "self", "9"], 20)?,
        Reason::Exited(0),
        "the first process of a pid namespace cannot"
    );
    assert_eq!(solve(&["/bin/probe", "alloc", "128"], 20)?, Reason::OutOfMemory);
    assert_eq!(solve(&["/bin/probe", "sleep", "60000"], 1)?, Reason::TimeLimit);
    // Half a processor for one second is about half a second.
    let end = small
        .container()?
        .args(["/bin/probe", "spin", "60000"])
        .cpus(0.5)
        .time_limit(Duration::from_secs(1))
        .status()?;
    assert_eq!(end.reason(), Reason::TimeLimit);
    let cpu = end.usage().cpu;
    assert!((Duration::from_millis(200)..Duration::from_millis(800)).contains(&cpu), "{cpu:?}");
    Ok(())
}

#[test]
fn program_3_a_signal_by_name() -> testkit::Result {
    require!(Root);
    let root = testkit::probe_root()?;
    let mut process = Container::from_rootfs(root.path()).args(["/probe", "sleep", "60000"]).spawn()?;
    process.signal(Signal::KILL)?;
    let end = process.wait()?;
    assert_eq!(end.reason(), Reason::Signaled(Signal::KILL));
    assert_eq!((end.code(), end.signal(), end.to_string().as_str()), (None, Some(9), "killed by SIGKILL"));
    assert_eq!(process.try_wait()?, Some(end), "told again");
    assert_eq!(process.signal(Signal::TERM).map_err(|error| error.kind()), Err(ErrorKind::State));
    Ok(())
}

#[test]
fn program_4_a_running_process() -> testkit::Result {
    require!(Root, Overlay, Program("busybox"), Cgroup("memory"), Cgroup("freezer"));
    let small = Small::busybox(CONFIG)?;
    let server = "trap 'echo bye; exit 4' TERM; for i in 1 2 3; do echo line $i; done; while true; do sleep 0.05; done";
    let mut web = small.container()?.args(["sh", "-c", server]).memory(256 * MIB).stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(web.stdout.take().expect("piped")).lines();
    let first: Vec<String> = lines.by_ref().take(3).collect::<Result<_, _>>()?;
    assert_eq!(first, ["line 1", "line 2", "line 3"]);
    let ls = web.exec(["sh", "-c", "id -un; id -u; ls -d /srv"]).user("user").output()?;
    assert_eq!(ls.text(), "user\n1000\n/srv\n", "{ls:?}");
    let before = web.stats()?.memory.current.expect("counted");
    assert!(before > 0);
    web.update(&Limits::new().memory(512 * MIB))?;
    assert_eq!(web.stats()?.memory.limit, Some(512 * MIB));
    web.pause()?;
    web.resume()?;
    let end = web.stop(Duration::from_secs(5))?;
    assert_eq!(end.reason(), Reason::Exited(4), "it ended by itself when it was asked to");
    assert_eq!(lines.next().expect("a line")?, "bye");
    // One that does not listen is killed.
    let mut deaf = small.container()?.args(["/bin/probe", "stubborn", "60000"]).stdout(Stdio::piped()).spawn()?;
    let mut ready = String::new();
    BufReader::new(deaf.stdout.take().expect("piped")).read_line(&mut ready)?;
    assert_eq!(deaf.wait_timeout(Duration::from_millis(10))?, None);
    assert_eq!(deaf.stop(Duration::from_millis(50))?.reason(), Reason::Signaled(Signal::KILL));
    Ok(())
}

#[test]
fn program_4_feeding() -> testkit::Result {
    require!(Root, Program("busybox"));
    let root = common::root()?;
    let mut cat =
        Container::from_rootfs(root.path()).args(["cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    cat.stdin.as_mut().expect("piped").write_all(b"fed\n")?;
    assert!(cat.try_wait()?.is_none());
    // Waiting closes standard input first, as std does.
    assert!(cat.wait()?.success());
    let mut text = String::new();
    cat.stdout.take().expect("piped").read_to_string(&mut text)?;
    assert_eq!(text, "fed\n");
    Ok(())
}

#[test]
fn program_5_a_terminal() -> testkit::Result {
    require!(Root, Overlay, Tty, Program("busybox"));
    let small = Small::busybox(CONFIG)?;
    let script = "test -t 0 && test -t 1 && test -t 2 && stty size; tty; ls -l /dev/console; read go; stty size";
    let mut shell = small.container()?.args(["sh", "-c", script]).terminal(Terminal::size(24, 80)).spawn()?;
    let mut tty = shell.terminal().expect("a terminal");
    tty.resize(40, 120)?;
    tty.write_all(b"go\n")?;
    let mut seen = String::new();
    tty.read_to_string(&mut seen)?;
    assert!(shell.wait()?.success(), "{seen:?}");
    assert!(seen.contains("/dev/pts/0\r\n") && seen.contains("/dev/console"), "{seen:?}");
    assert!(seen.ends_with("40 120\r\n"), "{seen:?}");
    Ok(())
}

#[test]
fn program_6_files_in_directories_shared_files_out() -> testkit::Result {
    require!(Root, Overlay, Program("busybox"));
    let small = Small::busybox(CONFIG)?;
    let host = tempfile::tempdir()?;
    for name in ["data", "src"] {
        std::fs::create_dir(host.path().join(name))?;
        std::fs::write(host.path().join(name).join("there"), name)?;
    }
    let script = "cat /work/in.json /data/there /src/there; echo -n out > /work/out.json; echo back > /data/back; \
                  touch /src/no 2>/dev/null && echo writable; df -m /tmp | tail -1 | awk '{print \":\" $2}'; rm /etc/group";
    let out = small
        .container()?
        .file("/work/in.json", b"{}")
        .bind(host.path().join("data"), "/data")
        .bind_read_only(host.path().join("src"), "/src")
        .tmpfs("/tmp", 64 * MIB)
        .args(["sh", "-c", script])
        .keep_changes()
        .output()?;
    assert_eq!(out.text(), "{}datasrc:64\n", "{out:?}");
    assert_eq!(std::fs::read_to_string(host.path().join("data/back"))?, "back\n");
    assert!(!host.path().join("src/no").exists());
    let changes = out.changes()?;
    assert_eq!(changes.read("/work/out.json")?, b"out");
    assert_eq!(changes.read("/work/none").map_err(|error| error.kind()), Err(ErrorKind::NotFound));
    let diff = changes.diff()?;
    let kind = |path: &str| diff.iter().find(|change| change.path == Path::new(path)).map(|change| change.kind);
    assert_eq!(kind("/work/out.json"), Some(ChangeKind::Written));
    assert_eq!(kind("/etc/group"), Some(ChangeKind::Removed));
    assert_eq!(kind("/etc/passwd"), None);
    let directory = changes.directory();
    drop(out);
    assert!(!directory.exists(), "the changes are gone with the output");
    let out = small.container()?.args(["true"]).output()?;
    assert_eq!(out.changes().err().map(|error| error.kind()), Some(ErrorKind::State));
    Ok(())
}

#[test]
fn program_7_hostile_code() -> testkit::Result {
    require!(Root, Overlay, Program("busybox"));
    let small = Small::busybox(CONFIG)?;
    let code =
        b"id -u; touch /etc/x 2>/dev/null || echo read-only; echo ok > /tmp/y; cat /tmp/y; ls /sys | wc -l".to_vec();
    let out = small.container()?.profile(Profile::Hostile).stdin(Stdio::from(code)).args(["sh"]).output()?;
    assert_eq!(out.text(), "0\nread-only\nok\n0\n", "{out:?}");
    Ok(())
}

#[test]
fn program_8_who_it_runs_as() -> testkit::Result {
    require!(Root, Overlay, Program("busybox"));
    let small = Small::busybox(CONFIG)?;
    let show = "id -u; id -g; hostname; echo $LANG; pwd; echo $HOME";
    let run = |user: &str| -> testkit::Result<String> {
        let container = small.container()?.user(user).hostname("box").env("LANG", "C.UTF-8").current_dir("/srv");
        Ok(container.args(["sh", "-c", show]).output()?.text().into_owned())
    };
    assert_eq!(run("1000:1000")?, "1000\n1000\nbox\nC.UTF-8\n/srv\n/home/user\n");
    assert_eq!(run("user")?, "1000\n1000\nbox\nC.UTF-8\n/srv\n/home/user\n");
    assert_eq!(run("user:2000")?, "1000\n2000\nbox\nC.UTF-8\n/srv\n/home/user\n");
    assert_eq!(run("4294967294")?, "4294967294\n0\nbox\nC.UTF-8\n/srv\n/\n");
    let out = small.container()?.user("user").args(["probe", "id"]).output()?;
    assert_eq!(out.text(), "uid 1000 1000 1000\ngid 1000 1000 1000\ngroups 1000 2000\n");
    Ok(())
}

static SMALL: LazyLock<Small> = LazyLock::new(|| Small::busybox(CONFIG).expect("an image can be made"));
static BOX: LazyLock<Template> = LazyLock::new(|| {
    let container = SMALL.container().expect("the image is sound");
    container.network(Network::None).template().expect("root can prepare it")
});

#[test]
fn program_9_a_template_and_many_throw_away_containers() -> testkit::Result {
    require!(Root, Overlay, Program("busybox"));
    let destroy = || -> testkit::Result {
        assert!(BOX.args(["rm", "-rf", "/"]).stderr(Stdio::null()).status().is_ok());
        Ok(())
    };
    destroy()?;
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8)
            .map(|worker| {
                scope.spawn(move || {
                    for turn in 0..10 {
                        let word = format!("{worker}.{turn}");
                        let script =
                            "ls /made-by-another 2>/dev/null; echo $WORD > /made-by-another; cat /made-by-another; cat";
                        let run = BOX.args(["sh", "-c", script]).env("WORD", &word).stdin(Stdio::from("fed"));
                        let out = run.output().expect("it runs");
                        assert_eq!(out.text(), format!("{word}\nfed"), "{out:?}");
                    }
                })
            })
            .collect();
        workers.into_iter().for_each(|worker| worker.join().expect("no worker panics"));
    });
    assert_eq!(BOX.run().output()?.text(), "hi from image\n");
    destroy()?;
    Ok(SMALL.remove()?)
}

#[test]
fn program_11_see_it_before_running_it() -> testkit::Result {
    require!(Root, Overlay, Program("busybox"));
    let small = Small::busybox(CONFIG)?;
    let container = small.container()?.args(["sh"]).build()?;
    let plan = container.plan()?;
    let text = plan.to_string();
    assert!(text.starts_with("clone the stage into new namespaces: "), "{text}");
    assert!(text.lines().last().expect("steps").contains("execute"), "{text}");
    assert_eq!(text.lines().count(), 1 + plan.steps().len());
    let explained = plan.explain();
    assert_eq!(explained.lines().count(), 1 + 2 * plan.steps().len(), "a sentence for every step");
    let directory = tempfile::tempdir()?;
    let bundle = directory.path().join("bundle");
    container.write_bundle(&bundle)?;
    assert!(bundle.join("config.json").is_file());
    let problems = keelbox::crates::runtime_spec::Bundle::open(&bundle)?.check();
    // Layers are for the other runtime's caller to put together.
    let problems: Vec<_> =
        problems.iter().map(ToString::to_string).filter(|problem| !problem.starts_with("/root/path")).collect();
    assert!(problems.is_empty(), "{problems:?}");
    Ok(())
}

/// Other runtimes run the bundle. They refuse hybrid control groups, so they get a mount namespace without the unified one.
#[test]
fn program_11_other_runtimes_run_the_bundle() -> testkit::Result {
    require!(Root, Program("busybox"), Program("crun"), Program("runc"), Program("unshare"));
    let root = common::root()?;
    let container =
        |profile| Container::from_rootfs(root.path()).profile(profile).hostname("box").user("user").pids(32);
    for (profile, runtime) in [
        (Profile::Ordinary, "crun"),
        (Profile::Ordinary, "runc"),
        (Profile::Hostile, "crun"),
        (Profile::Trusted, "crun"),
    ] {
        let directory = tempfile::tempdir()?;
        let container = container(profile).args([
            "sh",
            "-c",
            "echo $(hostname) $(id -u) $(pwd) $(grep NoNewPrivs /proc/self/status)",
        ]);
        let own = container.clone().output()?;
        container.build()?.write_bundle(directory.path())?;
        let id = format!("keelbox-test-{}-{runtime}-{profile:?}", std::process::id());
        let script = "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\"";
        let state = directory.path().join("state");
        let mut command = Command::new("unshare");
        command
            .args(["-m", "sh", "-c", script, "sh", runtime, "--root"])
            .arg(state)
            .args(["run", "--bundle"])
            .arg(directory.path())
            .arg(&id);
        let theirs = common::run(&mut command)?;
        assert_eq!(theirs, own.text(), "{runtime} and {profile:?}");
        assert!(theirs.starts_with("box 1000 / NoNewPrivs:"), "{theirs}");
    }
    Ok(())
}

#[test]
fn a_bundle_of_another_hand_runs() -> testkit::Result {
    require!(Root, Program("busybox"), Program("runc"));
    let directory = tempfile::tempdir()?;
    common::run(Command::new("runc").arg("spec").current_dir(directory.path()))?;
    let config = directory.path().join("config.json");
    let mut value: serde_json::Value = serde_json::from_slice(&std::fs::read(&config)?)?;
    let root = common::root()?;
    value["root"]["path"] = root.path().to_str().expect("text").into();
    value["process"]["terminal"] = false.into();
    value["process"]["args"] =
        serde_json::json!(["sh", "-c", "hostname; id -u; touch /x 2>/dev/null || echo read-only"]);
    std::fs::write(&config, serde_json::to_vec(&value)?)?;
    let out = Container::from_bundle(directory.path())?.output()?;
    assert_eq!(out.text(), "runc\n0\nread-only\n", "{out:?}");
    Ok(())
}

#[test]
fn program_14_decide_about_a_system_call_in_the_host() -> testkit::Result {
    require!(Root, Overlay, Seccomp, Program("busybox"));
    const EPERM: i32 = 1;
    let small = Small::busybox(CONFIG)?;
    let asked = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = std::sync::Arc::clone(&asked);
    let decide = move |call: &keelbox::Call<'_>| {
        let Ok(path) = call.path(0) else { return Answer::Errno(EPERM) };
        let allowed = path.starts_with("/tmp");
        seen.lock().expect("nobody panics").push(path);
        if allowed { Answer::Continue } else { Answer::Errno(EPERM) }
    };
    let script = "mkdir /tmp/yes && echo made; mkdir /srv/no 2>&1";
    let out = small.container()?.on_syscall("mkdir", decide).args(["sh", "-c", script]).output()?;
    assert_eq!(out.text(), "made\nmkdir: can't create directory '/srv/no': Operation not permitted\n", "{out:?}");
    assert_eq!(*asked.lock().expect("nobody panics"), [Path::new("/tmp/yes"), Path::new("/srv/no")]);
    Ok(())
}

#[test]
fn program_15_errors_say_step_object_cause() {
    match Container::from_rootfs("/nowhere").args(["sh"]).output() {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            assert_eq!(e.to_string(), "cannot open root file system /nowhere");
            assert_eq!(format!("{e:#}"), "cannot open root file system /nowhere: No such file or directory");
            assert_eq!(std::io::Error::from(e).kind(), std::io::ErrorKind::NotFound);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_users_expect_to_send_is_send_and_sync() {
    fn both<T: Send + Sync>() {}
    both::<Container>();
    both::<keelbox::Built>();
    both::<Template>();
    both::<keelbox::Process>();
    both::<keelbox::Output>();
    both::<keelbox::Error>();
    both::<Stdio>();
    both::<keelbox::Plan>();
}
