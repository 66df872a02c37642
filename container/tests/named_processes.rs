//! Named containers and several programs: found again, raced for, waited for by a stranger, and left behind by a crash.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio as Std};
use std::time::{Duration, Instant};

use keelbox::{Container, ErrorKind, MIB, Runtime, Signal, Status, Stdio};
use keelbox_testkit::{self as testkit, LeakCheck, require};

const ROLE: &str = "KEELBOX_NAMED_ROLE";

/// This program once more, as one that plays a role: the words of it are in the environment.
fn actor(words: &[&str]) -> testkit::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--exact", "role", "--nocapture", "--test-threads=1"]).env(ROLE, words.join("\n"));
    Ok(command.stdin(Std::null()).stdout(Std::piped()).spawn()?)
}

/// What the actor says in the end, behind the harness's own words.
fn answer(child: Child) -> testkit::Result<String> {
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = text.lines().filter_map(|line| line.split("says: ").nth(1)).next_back();
    Ok(said.ok_or_else(|| format!("the actor said nothing: {text}"))?.to_owned())
}

/// Reads until the actor says something.
fn listen(child: &mut Child) -> testkit::Result<(String, BufReader<ChildStdout>)> {
    let mut reader = BufReader::new(child.stdout.take().ok_or("it is piped")?);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        if let Some(said) = line.split("says: ").nth(1) {
            return Ok((said.trim().to_owned(), reader));
        }
        line.clear();
    }
    Err("the actor said nothing".into())
}

/// No test by itself: what the other processes of the tests below do.
#[test]
fn role() -> testkit::Result {
    let Ok(words) = std::env::var(ROLE) else { return Ok(()) };
    let words: Vec<&str> = words.lines().collect();
    let (runtime, id) = (Runtime::at(words[1]), "a");
    let said = |result: keelbox::Result<String>| match result {
        Ok(text) => text,
        Err(error) => format!("{:?}", error.kind()),
    };
    let built = || {
        // Not the actor's own output, whose end others wait for; and something to be found by.
        let log = fs::File::options().append(true).create(true).open(format!("{}.log", words[1]));
        let log = log.expect("the bench's directory can be written to");
        let container = Container::from_rootfs(words[2]).stdin(Stdio::null()).stdout(log).stderr(Stdio::null());
        let container = container.args(["/probe", "sleep", "600000"]);
        if words.contains(&"limited") { container.memory(64 * MIB) } else { container }.build()
    };
    let answer = match words[0] {
        "create" => said(built()?.pipe(|built| runtime.create(&built, id)).map(|handle| handle.status().to_string())),
        "create, wait" => {
            let handle = runtime.create(&built()?, id)?;
            println!("says: created");
            said(handle.wait().map(|end| format!("{end:?}")))
        }
        "create, stay" => {
            let _handle = runtime.create(&built()?, id)?;
            println!("says: created");
            std::thread::sleep(Duration::from_secs(600));
            "woken".into()
        }
        "start" => said(runtime.open(id)?.start().map(|()| "started".into())),
        "delete" => said(runtime.open(id).and_then(|handle| handle.delete_force()).map(|()| "deleted".into())),
        "wait" => {
            let handle = runtime.open(id)?;
            println!("says: waiting");
            said(handle.wait().map(|end| end.map_or("unknown".into(), |end| end.to_string())))
        }
        "look" => {
            let handle = runtime.open(id)?;
            format!("{} {} {:?}", handle.id(), handle.status(), handle.pid())
        }
        other => panic!("there is no role {other:?}"),
    };
    println!("says: {answer}");
    Ok(())
}

trait Pipe: Sized {
    fn pipe<R>(self, function: impl FnOnce(Self) -> R) -> R {
        function(self)
    }
}

impl<T> Pipe for T {}

/// A root file system and a state directory, as words too.
struct Bench {
    root: tempfile::TempDir,
    states: tempfile::TempDir,
}

impl Bench {
    fn new() -> testkit::Result<Self> {
        Ok(Self { root: testkit::probe_root()?, states: tempfile::tempdir()? })
    }

    fn path(&self) -> PathBuf {
        self.states.path().join("states")
    }

    fn runtime(&self) -> Runtime {
        Runtime::at(self.path())
    }

    fn actor(&self, role: &str) -> testkit::Result<Child> {
        self.actor_with(role, "")
    }

    fn actor_with(&self, role: &str, more: &str) -> testkit::Result<Child> {
        let (states, root) = (self.path(), self.root.path());
        actor(&[role, states.to_str().ok_or("text")?, root.to_str().ok_or("text")?, more])
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for handle in self.runtime().list().into_iter().flatten() {
            let _deleted = handle.delete_force();
        }
    }
}

#[test]
fn a_container_outlives_its_creator_and_is_found_again() -> testkit::Result {
    require!(Root);
    let bench = Bench::new()?;
    assert_eq!(answer(bench.actor("create")?)?, "created");
    let handle = bench.runtime().open("a")?;
    let pid = handle.pid().expect("it waits");
    assert_eq!(answer(bench.actor("look")?)?, format!("a created Some({pid})"));
    assert_eq!(answer(bench.actor("start")?)?, "started");
    assert_eq!(answer(bench.actor("look")?)?, format!("a running Some({pid})"));
    assert_eq!(answer(bench.actor("start")?)?, "State");
    handle.kill(Signal::KILL)?;
    // It is init's to reap; how it ended is known all the same where the kernel remembers, or as long as nobody has reaped it.
    handle.wait()?;
    assert_eq!(handle.status(), Status::Stopped);
    assert_eq!(answer(bench.actor("delete")?)?, "deleted");
    assert_eq!(handle.delete().expect_err("deleted").kind(), ErrorKind::NotFound);
    Ok(())
}

#[test]
fn of_two_who_start_it_one_wins() -> testkit::Result {
    require!(Root);
    let bench = Bench::new()?;
    for _ in 0..10 {
        assert_eq!(answer(bench.actor("create")?)?, "created");
        let starters: Vec<Child> = (0..3).map(|_| bench.actor("start")).collect::<testkit::Result<_>>()?;
        let mut answers: Vec<String> = starters.into_iter().map(answer).collect::<testkit::Result<_>>()?;
        answers.sort();
        assert_eq!(answers, ["State", "State", "started"]);
        let handle = bench.runtime().open("a")?;
        assert_eq!(handle.status(), Status::Running);
        handle.delete_force()?;
    }
    Ok(())
}

#[test]
fn of_two_threads_with_one_handle_one_wins() -> testkit::Result {
    require!(Root);
    let bench = Bench::new()?;
    let built = Container::from_rootfs(bench.root.path()).args(["/probe", "sleep", "600000"]).build()?;
    let handle = bench.runtime().create(&built, "a")?;
    let started = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| handle.start().is_ok())).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).filter(|started| *started).count()
    });
    assert_eq!(started, 1);
    assert_eq!(handle.status(), Status::Running);
    Ok(())
}

#[test]
fn of_two_who_create_or_delete_it_one_wins() -> testkit::Result {
    require!(Root);
    let bench = Bench::new()?;
    for _ in 0..10 {
        let creators: Vec<Child> = (0..3).map(|_| bench.actor("create")).collect::<testkit::Result<_>>()?;
        let mut answers: Vec<String> = creators.into_iter().map(answer).collect::<testkit::Result<_>>()?;
        answers.sort();
        assert_eq!(answers, ["Exists", "Exists", "created"]);
        assert_eq!(bench.runtime().list()?.len(), 1);
        let deleters: Vec<Child> = (0..3).map(|_| bench.actor("delete")).collect::<testkit::Result<_>>()?;
        let mut answers: Vec<String> = deleters.into_iter().map(answer).collect::<testkit::Result<_>>()?;
        answers.sort();
        assert_eq!(answers, ["NotFound", "NotFound", "deleted"]);
        assert!(bench.runtime().list()?.is_empty());
    }
    Ok(())
}

#[test]
fn a_stranger_waits_and_learns_how_it_ended() -> testkit::Result {
    require!(Root);
    let bench = Bench::new()?;
    let built = Container::from_rootfs(bench.root.path()).args(["/probe", "sleep", "700"]).build()?;
    let handle = bench.runtime().create(&built, "a")?;
    let mut stranger = bench.actor("wait")?;
    let (said, mut rest) = listen(&mut stranger)?;
    assert_eq!(said, "waiting");
    handle.start()?;
    // We, the parent, leave the zombie as it is until the stranger has his answer.
    let mut text = String::new();
    rest.read_to_string(&mut text)?;
    assert!(text.contains("says: exit code 0"), "{text}");
    stranger.wait()?;
    assert!(handle.wait()?.is_some_and(|end| end.success()), "it was written down");
    Ok(())
}

#[test]
fn a_stranger_learns_it_after_the_parent_has_reaped_it() -> testkit::Result {
    require!(Root);
    let bench = Bench::new()?;
    // This actor is the parent: he waits at the same time, so that one of the two reaps first.
    let mut parent = bench.actor("create, wait")?;
    let (_, mut rest) = listen(&mut parent)?;
    let handle = bench.runtime().open("a")?;
    handle.start()?;
    handle.kill(Signal::KILL)?;
    let end = handle.wait()?.expect("it is remembered, or written down");
    assert_eq!(end.to_string(), "killed by SIGKILL");
    let mut text = String::new();
    rest.read_to_string(&mut text)?;
    assert!(text.contains("SIGKILL") || text.contains("Signaled(Signal(9))"), "{text}");
    parent.wait()?;
    Ok(())
}

#[test]
fn one_whose_creator_is_killed_waits_on() -> testkit::Result {
    require!(Root);
    let bench = Bench::new()?;
    let mut creator = bench.actor("create, stay")?;
    let (_, rest) = listen(&mut creator)?;
    creator.kill()?;
    creator.wait()?;
    drop(rest);
    std::thread::sleep(Duration::from_millis(50));
    let handle = bench.runtime().open("a")?;
    assert_eq!(handle.status(), Status::Created);
    handle.start()?;
    assert_eq!(handle.status(), Status::Running);
    Ok(())
}

/// Processes that hold the log of this bench, as every stage does from its first moment: containers that were not put away.
fn inhabitants(states: &Path) -> Vec<String> {
    let holders = fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| {
        let pid = entry.file_name().into_string().ok()?;
        let descriptors = fs::read_dir(entry.path().join("fd")).ok()?.flatten();
        let mut links = descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
        let name = || fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        links.any(|link| link.starts_with(states)).then(|| format!("{pid} {}", name()))
    });
    holders.collect()
}

#[test]
fn a_creator_killed_at_any_moment_leaves_nothing_that_cannot_be_deleted() -> testkit::Result {
    require!(Root, Cgroup("memory"));
    testkit::alone!();
    let bench = Bench::new()?;
    let runtime = bench.runtime();
    // How long a whole creation takes here, from the start of the actor on.
    let begun = Instant::now();
    assert_eq!(answer(bench.actor_with("create", "limited")?)?, "created");
    let whole = begun.elapsed();
    assert_eq!(inhabitants(bench.states.path()).len(), 1, "the container that waits is seen");
    runtime.open("a")?.delete_force()?;
    let leaks = LeakCheck::builder().files(bench.states.path()).begin();
    let mut seen = std::collections::BTreeMap::new();
    for round in 0..60u32 {
        let more = if round % 2 == 0 { "limited" } else { "" };
        let mut creator = bench.actor_with("create, stay", more)?;
        if round % 3 == 0 {
            // Right when its directory appears: then the rest is still to come.
            let deadline = Instant::now() + whole * 20;
            while !bench.path().join("a").exists() && Instant::now() < deadline {
                std::hint::spin_loop();
            }
            std::thread::sleep(Duration::from_micros(u64::from(round) * 60));
        } else {
            std::thread::sleep(whole * round / 60);
        }
        creator.kill()?;
        assert_eq!(creator.wait()?.signal(), Some(9));
        drop(creator);
        match runtime.open("a") {
            Ok(handle) => {
                let phase = fs::read_to_string(bench.path().join("a/state.json")).unwrap_or_default();
                let phase = if phase.contains("\"creating\"") { "half made" } else { "made or nothing" };
                *seen.entry(phase).or_insert(0) += 1;
                // The newborn process shares the creator's descriptors, and so its lock, until it executes the stage.
                let deadline = Instant::now() + Duration::from_secs(5);
                while handle.status() == Status::Creating && Instant::now() < deadline {
                    std::thread::sleep(Duration::from_millis(1));
                }
                assert!(matches!(handle.status(), Status::Created | Status::Stopped), "{}", handle.status());
                handle.delete_force()?;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
                *seen.entry("not begun").or_insert(0) += 1;
            }
        }
        assert!(runtime.list()?.is_empty());
        let left = inhabitants(bench.states.path());
        assert!(left.is_empty(), "round {round}: {left:?}");
    }
    leaks.check();
    assert!(seen.contains_key("half made"), "no creator was killed in the midst of it: {seen:?}");
    Ok(())
}

#[test]
fn a_deleter_killed_at_any_moment_leaves_the_rest_to_the_next() -> testkit::Result {
    require!(Root, Cgroup("memory"));
    testkit::alone!();
    let bench = Bench::new()?;
    let runtime = bench.runtime();
    assert_eq!(answer(bench.actor_with("create", "limited")?)?, "created");
    let begun = Instant::now();
    assert_eq!(answer(bench.actor("delete")?)?, "deleted");
    let whole = begun.elapsed();
    let leaks = LeakCheck::builder().files(bench.states.path()).begin();
    let mut finished = 0;
    for round in 0..30u32 {
        assert_eq!(answer(bench.actor_with("create", "limited")?)?, "created");
        let mut deleter = bench.actor("delete")?;
        std::thread::sleep(whole * round / 30);
        deleter.kill()?;
        deleter.wait()?;
        match runtime.open("a").and_then(|handle| handle.delete_force()) {
            Ok(()) => finished += 1,
            Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}"),
        }
        assert!(runtime.list()?.is_empty());
        let left = inhabitants(bench.states.path());
        assert!(left.is_empty(), "round {round}: {left:?}");
    }
    leaks.check();
    assert!(finished > 0, "every deleter was faster than its end");
    Ok(())
}
