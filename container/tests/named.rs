//! Named containers in one program: every operation in every state, names, state directories, and what is left.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use keelbox::{
    Container, Error, ErrorKind, Handle, Kind, Limits, MIB, Reason, Runtime, Signal, Status, Stdio, Terminal,
};
use keelbox_testkit::{self as testkit, LeakCheck, require};
use tempfile::TempDir;

/// A root file system and a state directory.
struct Bench {
    root: TempDir,
    states: TempDir,
    runtime: Runtime,
}

impl Bench {
    fn new() -> testkit::Result<Self> {
        let (root, states) = (testkit::probe_root()?, tempfile::tempdir()?);
        let runtime = Runtime::at(states.path().join("states"));
        Ok(Self { root, states, runtime })
    }

    fn container(&self, args: &[&str]) -> Container {
        Container::from_rootfs(self.root.path()).args(args.iter().copied())
    }

    fn create(&self, id: &str, args: &[&str]) -> keelbox::Result<Handle> {
        self.runtime.create(&self.container(args).build()?, id)
    }

    fn sleeper(&self, id: &str) -> keelbox::Result<Handle> {
        self.create(id, &["/probe", "sleep", "600000"])
    }

    /// A container in this state.
    fn at(&self, id: &str, status: Status) -> keelbox::Result<Handle> {
        let handle = self.sleeper(id)?;
        if status == Status::Created {
            return Ok(handle);
        }
        handle.start()?;
        match status {
            Status::Paused => handle.pause()?,
            Status::Stopped => {
                handle.kill(Signal::KILL)?;
                handle.wait()?;
            }
            _ => {}
        }
        Ok(handle)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for handle in self.runtime.list().into_iter().flatten() {
            let _deleted = handle.delete_force();
        }
    }
}

#[test]
fn the_life_of_a_container() -> testkit::Result {
    require!(Root);
    let bench = Bench::new()?;
    let log = bench.states.path().join("log");
    let container = bench.container(&["/probe", "args", "hi"]).stdout(Stdio::from(File::create(&log)?));
    let handle = bench.runtime.create(&container.build()?, "web-1")?;
    assert_eq!((handle.id(), handle.status()), ("web-1", Status::Created));
    let pid = handle.pid().expect("it waits");
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    assert_eq!(fs::read(&log)?, b"", "nothing has run");
    assert!(handle.created().expect("known").elapsed()? < Duration::from_secs(60));

    let state = handle.state()?;
    assert!(state.check().is_empty(), "{state:?}");
    assert_eq!((state.status, state.pid), (Status::Created, Some(pid as i32)));
    assert_eq!(state.bundle, bench.runtime.root().join("web-1"));
    assert!(state.bundle.join("config.json").is_file());

    handle.start()?;
    let end = handle.wait()?.expect("it is our child");
    assert!(end.success(), "{end:?}");
    assert!(end.usage().wall > Duration::ZERO);
    assert!(fs::read_to_string(&log)?.ends_with("hi\n"));
    assert_eq!((handle.status(), handle.pid()), (Status::Stopped, None));
    assert_eq!(handle.state()?.pid, None);
    assert_eq!(handle.wait()?.map(|end| end.code()), Some(Some(0)), "it is written down");

    handle.delete()?;
    assert!(!bench.runtime.root().join("web-1").exists());
    for error in [handle.delete(), handle.start(), handle.wait().map(|_| ()), handle.state().map(|_| ())] {
        assert_eq!(error.expect_err("deleted").kind(), ErrorKind::NotFound);
    }
    assert_eq!(bench.runtime.open("web-1").expect_err("deleted").kind(), ErrorKind::NotFound);
    Ok(())
}

/// What an operation gives: nothing, or the kind of its error.
type Answer = Option<ErrorKind>;
type Operation = (&'static str, fn(&Handle) -> keelbox::Result<()>, [Answer; 4]);

const BAD: Answer = Some(ErrorKind::State);
const OK: Answer = None;

/// In the states created, running, paused, stopped.
const TABLE: [Operation; 13] = [
    ("start", |handle| handle.start(), [OK, BAD, BAD, BAD]),
    ("kill", |handle| handle.kill(Signal::KILL), [OK, OK, OK, BAD]),
    ("harmless signal", |handle| handle.kill(Signal::WINCH), [OK, OK, OK, BAD]),
    ("kill all", |handle| handle.kill_all(Signal::KILL), [OK; 4]),
    ("kill all with another", |handle| handle.kill_all(Signal::WINCH), [OK; 4]),
    ("pause", |handle| handle.pause(), [OK, OK, BAD, BAD]),
    ("resume", |handle| handle.resume(), [BAD, BAD, OK, BAD]),
    ("stats", |handle| handle.stats().map(|_| ()), [OK; 4]),
    ("update", |handle| handle.update(&Limits::new().pids(99)), [OK, OK, OK, BAD]),
    ("exec", |handle| handle.exec(["/probe", "true"]).output().map(|_| ()), [OK, OK, BAD, BAD]),
    ("state", |handle| handle.state().map(|_| ()), [OK; 4]),
    ("delete", |handle| handle.delete(), [BAD, BAD, BAD, OK]),
    ("delete by force", |handle| handle.delete_force(), [OK; 4]),
];

#[test]
fn every_operation_in_every_state() -> testkit::Result {
    require!(Root, Cgroup("pids"));
    let bench = Bench::new()?;
    let states = [Status::Created, Status::Running, Status::Paused, Status::Stopped];
    for (name, operation, answers) in TABLE {
        for (status, answer) in states.into_iter().zip(answers) {
            let handle = bench.at("a", status)?;
            assert_eq!(handle.status(), status, "before {name}");
            let outcome = operation(&handle);
            assert_eq!(outcome.as_ref().err().map(Error::kind), answer, "{name} of one that is {status}: {outcome:?}");
            if answer == BAD {
                assert_eq!(handle.status(), status, "{name} had an effect on one that was {status}");
            }
            if bench.runtime.open("a").is_ok() {
                handle.delete_force()?;
            }
            assert_eq!(bench.runtime.list()?.len(), 0);
        }
    }
    Ok(())
}

#[test]
fn states_follow_the_operations() -> testkit::Result {
    require!(Root);
    let bench = Bench::new()?;
    let handle = bench.at("a", Status::Created)?;
    handle.pause()?;
    assert_eq!(handle.status(), Status::Paused);
    handle.resume()?;
    assert_eq!(handle.status(), Status::Created);
    handle.start()?;
    assert_eq!(handle.status(), Status::Running);
    handle.pause()?;
    assert_eq!(bench.runtime.open("a")?.status(), Status::Paused);
    handle.kill(Signal::KILL)?;
    let end = handle.wait()?.expect("it is our child");
    assert_eq!(end.reason(), Reason::Signaled(Signal::KILL));
    assert_eq!(handle.status(), Status::Stopped);
    Ok(())
}

#[test]
fn nothing_is_left() -> testkit::Result {
    require!(Root, Cgroup("memory"));
    testkit::alone!();
    let bench = Bench::new()?;
    // What is started once and kept: the launcher thread and the stage.
    bench.sleeper("warm-up")?.delete_force()?;
    for status in [Status::Created, Status::Running, Status::Paused, Status::Stopped] {
        let leaks = LeakCheck::builder().files(bench.states.path()).begin();
        let limited = bench.container(&["/probe", "sleep", "600000"]).memory(64 * MIB).build()?;
        let handle = bench.runtime.create(&limited, "limited")?;
        handle.delete_force()?;
        bench.at("plain", status)?.delete_force()?;
        drop(handle);
        leaks.check();
    }
    let leaks = LeakCheck::builder().files(bench.states.path()).begin();
    // The set-up fails, in the midst of it and at its beginning.
    let nowhere = bench.container(&["/probe"]).bind("/no/such/directory", "/x").build()?;
    assert_eq!(bench.runtime.create(&nowhere, "a").expect_err("no source").kind(), ErrorKind::NotFound);
    let nowhere = bench.container(&["/probe"]).current_dir("/missing").memory(64 * MIB).build()?;
    assert_eq!(bench.runtime.create(&nowhere, "a").expect_err("no directory").kind(), ErrorKind::NotFound);
    // What is not there is told before the start.
    let error = bench.create("a", &["/missing"]).expect_err("no such program");
    assert!(error.to_string().contains("cannot execute /missing"), "{error}");
    // The start fails.
    let handle = bench.create("a", &["/proc"])?;
    let error = handle.start().expect_err("a directory is no program");
    assert_eq!(error.kind(), ErrorKind::NotExecutable);
    assert_eq!(error.to_string(), "cannot execute /proc");
    assert!(!handle.wait()?.expect("it was our child").success());
    assert_eq!(handle.status(), Status::Stopped);
    handle.delete()?;
    drop(handle);
    leaks.check();
    Ok(())
}

#[test]
fn a_further_program_in_a_named_container() -> testkit::Result {
    require!(Root, Cgroup("pids"));
    let bench = Bench::new()?;
    let built = bench.container(&["/probe", "sleep", "600000"]).hostname("inner").pids(20).env("A", "b").build()?;
    let handle = bench.runtime.create(&built, "a")?;
    handle.start()?;
    let again = bench.runtime.open("a")?;
    for handle in [&handle, &again] {
        assert_eq!(handle.exec(["/probe", "hostname"]).output()?.text(), "inner\n");
        let env = handle.exec(["/probe", "env"]).env("C", "d").output()?;
        assert!(env.text().contains("A=b\n") && env.text().contains("C=d\n"), "{}", env.text());
        assert_eq!(handle.exec(["/probe", "status", "Seccomp"]).output()?.text().trim(), "2");
        let id = handle.exec(["/probe", "id"]).user("user").output()?;
        assert!(id.text().starts_with("uid 1000 1000 1000\n"), "{}", id.text());
    }
    let mut long = handle.exec(["/probe", "sleep", "600000"]).spawn()?;
    assert_eq!(handle.stats()?.pids.current, Some(2));
    // The further program goes down with the container, and does not keep it although it is ours to reap.
    let begun = Instant::now();
    handle.kill(Signal::KILL)?;
    assert_eq!(handle.wait()?.map(|end| end.reason()), Some(Reason::Signaled(Signal::KILL)));
    handle.delete()?;
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(long.wait()?.reason(), Reason::Signaled(Signal::KILL));
    Ok(())
}

#[test]
fn every_process_is_reached() -> testkit::Result {
    require!(Root);
    let bench = Bench::new()?;
    // Not in a pid namespace of its own: the first process ends, another one stays in the control group.
    let built = bench.container(&["/probe", "orphan", "600000"]).share(Kind::Pid).build()?;
    for by_force in [false, true] {
        let handle = bench.runtime.create(&built, "a")?;
        handle.start()?;
        assert!(handle.wait()?.expect("it is our child").success());
        let pids = handle.processes()?;
        assert!(!pids.is_empty(), "the other process is still there");
        if by_force {
            handle.delete_force()?;
        } else {
            handle.kill_all(Signal::KILL)?;
            handle.delete()?;
        }
        // A process leaves its group a moment before it is gone.
        let ended = |pid: &u32| {
            let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            !state.contains("(probe)") || state.contains(") Z")
        };
        let begun = Instant::now();
        while !pids.iter().all(ended) {
            assert!(begun.elapsed() < Duration::from_secs(5), "they live: {pids:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}

#[test]
fn names_are_one_component_and_unique() -> testkit::Result {
    require!(Root);
    let bench = Bench::new()?;
    let built = bench.container(&["/probe", "true"]).build()?;
    let (long, longest) = ("a".repeat(1025), "a".repeat(256));
    for id in ["", ".", "..", "../x", "a/b", ".hidden", "a b", "a\n", "ä", "a\0", "/abs", &long, &longest] {
        assert_eq!(bench.runtime.create(&built, id).expect_err(id).kind(), ErrorKind::Invalid, "{id:?}");
    }
    for id in ["", "..", "a/b", &long] {
        assert_eq!(bench.runtime.open(id).expect_err(id).kind(), ErrorKind::Invalid, "{id:?}");
    }
    assert_eq!(bench.runtime.open(&longest).expect_err("too long").kind(), ErrorKind::NotFound);
    let name = "a".repeat(255);
    for id in ["-rf", "A_b+c-d.e", &name] {
        bench.runtime.create(&built, id)?;
        let error = bench.runtime.create(&built, id).expect_err("it is taken");
        assert_eq!(error.kind(), ErrorKind::Exists, "{error:?}");
        assert_eq!(bench.runtime.open(id)?.status(), Status::Created, "the first one is as it was");
    }
    let listed: Vec<String> = bench.runtime.list()?.iter().map(|handle| handle.id().to_owned()).collect();
    assert_eq!(listed, ["-rf", "A_b+c-d.e", &name]);
    Ok(())
}

#[test]
fn a_name_can_be_used_again_but_not_by_an_old_handle() -> testkit::Result {
    require!(Root);
    let bench = Bench::new()?;
    let old = bench.sleeper("a")?;
    old.delete_force()?;
    let new = bench.sleeper("a")?;
    for answer in [old.start(), old.kill(Signal::KILL), old.delete_force(), old.pause(), old.kill_all(Signal::KILL)] {
        assert_eq!(answer.expect_err("it is another one").kind(), ErrorKind::NotFound);
    }
    assert_eq!((old.status(), new.status()), (Status::Stopped, Status::Created));
    Ok(())
}

#[test]
fn a_state_directory_of_others_is_refused() -> testkit::Result {
    require!(Root);
    let bench = Bench::new()?;
    let built = bench.container(&["/probe", "true"]).build()?;
    let base = tempfile::tempdir()?;
    let make = |name: &str, mode: u32, owner: u32| -> std::io::Result<Runtime> {
        let path = base.path().join(name);
        fs::create_dir(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
        std::os::unix::fs::chown(&path, Some(owner), None)?;
        Ok(Runtime::at(path))
    };
    let good = make("good", 0o711, 0)?;
    symlink(base.path().join("good"), base.path().join("link"))?;
    fs::write(base.path().join("file"), "")?;
    let mut refused = vec![make("world", 0o777, 0)?, make("group", 0o770, 0)?, make("owner", 0o700, 65534)?];
    refused.extend(["link", "file"].map(|name| Runtime::at(base.path().join(name))));
    for runtime in refused {
        let path = runtime.root().display();
        let errors = [runtime.create(&built, "a").err(), runtime.open("a").err(), runtime.list().err()];
        for error in errors {
            let error = error.unwrap_or_else(|| panic!("{path} was used"));
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{path}: {error:?}");
        }
    }
    good.create(&built, "a")?.delete_force()?;
    // What somebody put there beforehand is no container of ours.
    symlink("/etc", base.path().join("good/linked"))?;
    assert_eq!(good.open("linked").expect_err("a link").kind(), ErrorKind::NotFound);
    assert_eq!(good.create(&built, "linked").expect_err("a link").kind(), ErrorKind::Exists);
    let open = base.path().join("good/open");
    fs::create_dir(&open)?;
    fs::set_permissions(&open, Permissions::from_mode(0o755))?;
    assert_eq!(good.open("open").expect_err("others may look into it").kind(), ErrorKind::PermissionDenied);
    Ok(())
}

#[test]
fn what_is_written_is_the_owners_alone_whatever_the_mask() -> testkit::Result {
    require!(Root);
    testkit::alone!();
    let bench = Bench::new()?;
    for mask in [0, 0o777] {
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(mask));
        let handle = bench.sleeper("a")?;
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
        let place = bench.runtime.root().join("a");
        let mode = |path: &Path| fs::symlink_metadata(path).map(|found| found.permissions().mode() & 0o777);
        assert_eq!(mode(&place)?, 0o700);
        for entry in fs::read_dir(&place)? {
            let path = entry?.path();
            assert_eq!(mode(&path)?, 0o600, "{}", path.display());
        }
        assert_eq!(bench.runtime.open("a")?.status(), Status::Created);
        handle.delete_force()?;
    }
    Ok(())
}

#[test]
fn what_needs_its_creator_is_refused() -> testkit::Result {
    require!(Root);
    let bench = Bench::new()?;
    let base = || bench.container(&["/probe", "true"]);
    let refused = [
        base().stdout(Stdio::piped()),
        base().stdin("text"),
        base().time_limit(Duration::from_secs(1)),
        base().keep_changes(),
        base().on_syscall("mkdirat", |_| keelbox::Answer::Continue),
    ];
    for container in refused {
        let error = bench.runtime.create(&container.build()?, "a").expect_err("it needs us");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
        assert!(!bench.runtime.root().join("a").exists());
    }
    Ok(())
}

#[test]
fn a_terminal_is_the_creators() -> testkit::Result {
    require!(Root, Tty);
    use std::io::Read;
    let bench = Bench::new()?;
    let built = bench.container(&["/probe", "tty"]).terminal(Terminal::size(24, 80)).build()?;
    let handle = bench.runtime.create(&built, "a")?;
    let mut tty = handle.terminal().expect("a terminal");
    handle.start()?;
    let mut text = String::new();
    tty.read_to_string(&mut text)?;
    assert_eq!(text.trim(), "24 80");
    assert!(bench.runtime.open("a")?.terminal().is_none());
    assert!(handle.wait()?.expect("it is our child").success());
    Ok(())
}

#[test]
fn a_torn_or_foreign_state_can_be_deleted() -> testkit::Result {
    require!(Root);
    let bench = Bench::new()?;
    let place = |id: &str| bench.runtime.root().join(id);
    let handle = bench.sleeper("later")?;
    let good = fs::read_to_string(place("later").join("state.json"))?;
    // What a crash leaves: no state, half a state, an empty one.
    for (id, text) in [("none", None), ("half", Some(&good[..good.len() / 2])), ("empty", Some(""))] {
        fs::create_dir(place(id))?;
        fs::set_permissions(place(id), Permissions::from_mode(0o700))?;
        text.map_or(Ok(()), |text| fs::write(place(id).join("state.json"), text))?;
        let torn = bench.runtime.open(id)?;
        assert_eq!((torn.status(), torn.pid()), (Status::Stopped, None), "{id}");
        assert_eq!(torn.start().expect_err(id).kind(), ErrorKind::State);
        torn.delete()?;
        assert!(!place(id).exists());
    }
    fs::write(place("later").join("state.json"), good.replace("\"schema\": 1", "\"schema\": 2"))?;
    assert_eq!(bench.runtime.open("later").expect_err("a later version").kind(), ErrorKind::Unsupported);
    assert_eq!(handle.delete_force().expect_err("a later version").kind(), ErrorKind::Unsupported);
    assert!(bench.runtime.list()?.is_empty());
    fs::write(place("later").join("state.json"), good)?;
    handle.delete_force()?;
    Ok(())
}

#[test]
fn another_process_of_the_same_number_is_never_hit() -> testkit::Result {
    require!(Root);
    let bench = Bench::new()?;
    let handle = bench.at("a", Status::Stopped)?;
    drop(handle);
    // As if the number had come to a process of somebody else.
    let mut victim = std::process::Command::new("sleep").arg("600").spawn()?;
    let file = bench.runtime.root().join("a/state.json");
    let mut state: serde_json::Value = serde_json::from_slice(&fs::read(&file)?)?;
    state["process"]["pid"] = victim.id().into();
    fs::write(&file, serde_json::to_vec(&state)?)?;
    let handle = bench.runtime.open("a")?;
    assert_eq!((handle.status(), handle.pid()), (Status::Stopped, None));
    assert_eq!(handle.kill(Signal::KILL).expect_err("it has ended").kind(), ErrorKind::State);
    assert_eq!(handle.exec(["/probe"]).status().expect_err("it has ended").kind(), ErrorKind::State);
    handle.delete_force()?;
    assert!(victim.try_wait()?.is_none(), "the victim lives");
    victim.kill()?;
    victim.wait()?;
    Ok(())
}

#[test]
fn a_number_that_is_used_again_is_another_process() -> testkit::Result {
    require!(Root, Exists("/proc/sys/kernel/ns_last_pid"));
    let bench = Bench::new()?;
    for _ in 0..200 {
        let handle = bench.sleeper("a")?;
        let pid = handle.pid().expect("it waits");
        handle.kill(Signal::KILL)?;
        handle.wait()?;
        // The kernel gives the next number that is free, so the victim gets that of the container, if nobody else does.
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string())?;
        let mut victim = std::process::Command::new("sleep").arg("600").spawn()?;
        let hit = victim.id() == pid;
        if hit {
            // The handle that has seen the first process, and one that comes new.
            for handle in [&handle, &bench.runtime.open("a")?] {
                assert_eq!((handle.status(), handle.pid()), (Status::Stopped, None));
                assert_eq!(handle.kill(Signal::KILL).expect_err("it has ended").kind(), ErrorKind::State);
                assert_eq!(handle.exec(["/probe"]).status().expect_err("it has ended").kind(), ErrorKind::State);
                assert_eq!(handle.pause().expect_err("it has ended").kind(), ErrorKind::State);
                handle.kill_all(Signal::KILL)?;
            }
        }
        handle.delete_force()?;
        let lives = victim.try_wait()?.is_none();
        victim.kill()?;
        victim.wait()?;
        assert!(lives, "the victim was hit");
        if hit {
            return Ok(());
        }
    }
    Err("the number never came to the victim".into())
}

#[test]
fn a_bundle_and_its_annotations_are_told() -> testkit::Result {
    require!(Root);
    let bench = Bench::new()?;
    let bundle = bench.states.path().join("bundle");
    fs::create_dir(&bundle)?;
    let mut notes = std::collections::HashMap::new();
    notes.insert("org.example.note".to_owned(), "x".to_owned());
    let container = bench.container(&["/probe", "sleep", "600000"]).oci(|oci| {
        oci.set_annotations(Some(notes));
    });
    container.build()?.write_bundle(&bundle)?;
    let handle = bench.runtime.create(&Container::from_bundle(&bundle)?.build()?, "a")?;
    // Later changes of the bundle do not matter.
    fs::remove_file(bundle.join("config.json"))?;
    let state = bench.runtime.open("a")?.state()?;
    assert_eq!(state.bundle, bundle);
    assert_eq!(state.annotations.get("org.example.note").map(String::as_str), Some("x"));
    handle.start()?;
    assert!(handle.exec(["/probe", "true"]).status()?.success());
    Ok(())
}
