//! The program killed at any moment of any operation: what is left can always be deleted, and then nothing is left.
//!
//! A few rounds by default; `KEELBOX_SOAK=1` makes a thousand.

mod common;

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use common::{Bench, wait_for};
use keelbox_testkit::{self as testkit, LeakCheck, alone, require};
use serde_json::{Value, json};

const ID: &str = "cli-killed";
/// A number of seconds that nobody else sleeps: by it everything is found that was left.
const MARK: &str = "86543.21";

/// Numbers that differ from run to run: a linear congruential generator, whose seed is told when a test fails.
struct Dice {
    seed: u64,
    state: u64,
}

impl Dice {
    fn new() -> testkit::Result<Self> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let seed = now.as_nanos() as u64;
        Ok(Self { seed, state: seed })
    }

    fn below(&mut self, limit: u128) -> u64 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (u128::from(self.state >> 16) % limit.max(1)) as u64
    }
}

/// A container that sleeps, with hooks that take a moment at all points.
fn config(bench: &Bench) -> Value {
    let mut config = bench.config(&format!("sleep {MARK}; true"));
    for point in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
        config["hooks"][point] =
            json!([{ "path": "/bin/sh", "args": ["sh", "-c", "sleep 0.01"], "env": ["PATH=/usr/bin:/bin"] }]);
    }
    config
}

/// What of the containers, hooks and further programs still runs.
fn survivors() -> Vec<String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = entries.filter_map(|entry| {
        let line = fs::read_to_string(entry.path().join("cmdline")).ok()?.replace('\0', " ");
        (line.contains(MARK) && line.contains("sleep")).then(|| format!("{:?} {line}", entry.file_name()))
    });
    lines.collect()
}

/// Runs an operation to its end, and tells how long that took.
fn whole(bench: &Bench, words: &[&str]) -> testkit::Result<Duration> {
    let begun = Instant::now();
    bench.done(words)?;
    Ok(begun.elapsed())
}

/// Runs an operation and kills the program after a while; whether it was killed.
fn killed(bench: &Bench, words: &[&str], after: Duration) -> testkit::Result<bool> {
    let mut child = bench.command(words).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    std::thread::sleep(after);
    let alive = child.try_wait()?.is_none();
    child.kill()?;
    child.wait()?;
    Ok(alive)
}

/// Deletes by force, as often as another program's newborn processes hold the lock, and looks for what is left.
fn cleared(bench: &Bench, what: &str) -> testkit::Result {
    let ran = bench.keelbox(&["delete", "--force", ID])?;
    assert_eq!(ran.status, Some(0), "{what}: {ran:?}");
    assert_eq!(bench.done(&["list", "-q"])?, "", "{what}");
    // What was killed may be about to end.
    let gone = wait_for(|| Ok(survivors().is_empty()));
    gone.map_err(|_| format!("{what} left {:?}", survivors()).into())
}

#[test]
fn whatever_it_was_about_to_do() -> testkit::Result {
    alone!();
    require!(Root, Program("busybox"));
    let bench = Bench::new(ID)?;
    let bundle = bench.bundle("bundle", &config(&bench))?;
    let create: &[&str] = &["create", "-b", &bundle, ID];
    let (start, delete): (&[&str], &[&str]) = (&["start", ID], &["delete", "--force", ID]);
    let exec: &[&str] = &["exec", ID, "sleep", MARK];
    let times =
        [whole(&bench, create)?, whole(&bench, start)?, whole(&bench, &["exec", ID, "true"])?, whole(&bench, delete)?];
    let leaks = LeakCheck::builder().cgroups(ID).files(bench.path("states")).begin();
    let (mut dice, mut hits) = (Dice::new()?, [0; 4]);
    let rounds = if std::env::var_os("KEELBOX_SOAK").is_some() { 1000 } else { 32 };
    for round in 0..rounds {
        let victim = round % 4;
        for words in [create, start].into_iter().take(victim) {
            bench.done(words)?;
        }
        let after = Duration::from_micros(dice.below(times[victim].as_micros() * 11 / 10));
        let words = [create, start, exec, delete][victim];
        hits[victim] += usize::from(killed(&bench, words, after)?);
        cleared(&bench, &format!("round {round} of seed {}, {} after {after:?}", dice.seed, words[0]))?;
    }
    leaks.check();
    assert!(hits.iter().all(|hits| *hits > 0), "an operation was always faster than its end: {hits:?}");
    Ok(())
}

#[test]
fn in_the_midst_of_each_hook() -> testkit::Result {
    alone!();
    require!(Root, Program("busybox"));
    let bench = Bench::new(ID)?;
    // The directory of states is made once and stays.
    bench.printed(&bench.config("true"))?;
    let leaks = LeakCheck::builder().cgroups(ID).files(bench.path("states")).begin();
    for point in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
        let mut config = bench.config(&format!("sleep {MARK}; true"));
        // Once only, lest the deletion wait for it too.
        let flag = if point == "startContainer" { "/begun".into() } else { bench.path("begun").display().to_string() };
        let script = format!("test -e {flag} && exit 0; touch {flag}; exec sleep {MARK}");
        config["hooks"][point] =
            json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] }]);
        let bundle = bench.bundle("bundle", &config)?;
        let create: &[&str] = &["create", "-b", &bundle, ID];
        let (start, delete): (&[&str], &[&str]) = (&["start", ID], &["delete", "--force", ID]);
        let both = [create, if point == "poststop" { delete } else { start }];
        let steps = if matches!(point, "startContainer" | "poststart" | "poststop") { &both[..] } else { &both[..1] };
        let (last, before) = steps.split_last().ok_or("a step")?;
        for words in before {
            bench.done(words)?;
        }
        let mut child = bench.command(last).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let begun = if point == "startContainer" { bench.root().join("begun") } else { bench.path("begun") };
        wait_for(|| Ok(begun.exists()))?;
        child.kill()?;
        child.wait()?;
        cleared(&bench, point)?;
        fs::remove_file(begun)?;
    }
    leaks.check();
    Ok(())
}
