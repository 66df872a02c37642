//! How long the program `keelbox` takes, beside other runtimes on the same bundles: `cargo bench --bench program -- PROGRAM [SECTION… --rounds N]`.
//!
//! Sections: start, run, exec, life, memory, list; all if none is named. Every time is from the start of the command to its end.
//! Contestants take turns, so that a busy minute of the machine hits all of them. All make control groups with limits on memory and
//! processes. It runs in a mount namespace of its own without the version 2 part of hybrid control groups, which crun refuses.
//!
//! Needs root and busybox-static; crun and runc are left out aloud if missing.

#[path = "launch/lane.rs"]
#[allow(dead_code, reason = "the other benchmark uses the rest")]
mod lane;
#[path = "launch/peers.rs"]
#[allow(dead_code, reason = "the other benchmark uses the rest")]
mod peers;
#[path = "launch/report.rs"]
mod report;

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use keelbox::crates::launch::sys;
use lane::{Lane, Result, interleave, timed};
use peers::{Peers, command};
use report::Report;

/// What a run is, for all contestants.
const PROGRAM: &str = "/bin/true";
/// The pause before each measurement.
const SETTLE: Duration = Duration::from_millis(3);
/// How many containers are alive while they are listed.
const ALIVE: usize = 500;
/// How long a list of so many may take.
const LISTED: Duration = Duration::from_millis(50);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    apart()?;
    let program = arguments.first().ok_or("say which program to measure: its path comes first")?;
    let rounds = arguments.iter().position(|argument| argument == "--rounds").map(|at| arguments[at + 1].parse());
    let rounds: usize = rounds.transpose()?.unwrap_or(51);
    let named: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|name| SECTIONS.iter().any(|known| known.0 == *name)).collect();
    let root = keelbox_testkit::busybox_root()?;
    let peers = Peers::prepare(root.path())?;
    let states = tempfile::tempdir()?;
    let contestants = [("keelbox", program.as_str()), ("crun", "crun"), ("runc", "runc")];
    let contestants = contestants
        .into_iter()
        .filter(|(_, path)| peers::is_there(path))
        .map(|(name, path)| Contestant { name, path: path.into(), states: states.path().join(name) });
    let bench = Bench { contestants: contestants.collect(), peers: &peers, rounds };
    let mut report = Report::new();
    for (name, section) in SECTIONS {
        if named.is_empty() || named.contains(name) {
            report.begin(name);
            section(&bench, &mut report)?;
        }
    }
    report.end();
    Ok(())
}

/// Starts this program once more in a mount namespace of its own.
fn apart() -> Result<()> {
    const APART: &str = "KEELBOX_BENCH_APART";
    if std::env::var_os(APART).is_some() {
        return Ok(());
    }
    let script = "! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified; exec \"$0\" \"$@\"";
    let mut again = Command::new("unshare");
    again.args(["--mount", "sh", "-c", script]).arg(std::env::current_exe()?).args(std::env::args_os().skip(1));
    Err(again.env(APART, "1").exec().into())
}

struct Contestant {
    name: &'static str,
    path: PathBuf,
    states: PathBuf,
}

impl Contestant {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = command(&self.path);
        command.arg("--root").arg(&self.states).args(words);
        command
    }

    /// Runs it to its end, which is to be a good one. What it creates may hold its streams for longer.
    fn done(&self, words: &[&str]) -> Result<()> {
        let mut command = self.command(words);
        let silent = || File::options().write(true).open("/dev/null");
        let status = command.stdout(silent()?).stderr(silent()?).status()?;
        if status.success() { Ok(()) } else { Err(format!("{} {}: {status}", self.name, words.join(" ")).into()) }
    }
}

struct Bench<'a> {
    contestants: Vec<Contestant>,
    peers: &'a Peers,
    rounds: usize,
}

impl Bench<'_> {
    fn bundle(&self, name: &str) -> String {
        self.peers.path(name).display().to_string()
    }

    /// Measures the same work of each contestant, and prints how the first one does beside the others.
    fn compare(
        &self,
        report: &mut Report,
        what: &str,
        most: [Option<f64>; 2],
        work: impl Fn(&Contestant) -> Result<()>,
    ) -> Result<()> {
        let work = &work;
        let mut lanes = Vec::new();
        for contestant in &self.contestants {
            let every = if contestant.name == "keelbox" { 1 } else { 2 };
            let lane = Lane::new(&format!("{} {what}", contestant.name), move || timed(|| work(contestant)));
            lanes.push(lane.every(every));
        }
        let samples = report.lanes(interleave(&mut lanes, self.rounds, SETTLE)?);
        let own = format!("keelbox {what}");
        for (peer, most) in ["crun", "runc"].into_iter().zip(most) {
            samples.ratio(&format!("cli-{what}/{peer}-{what}"), &own, &format!("{peer} {what}"), most);
        }
        Ok(())
    }
}

type Section = fn(&Bench<'_>, &mut Report) -> Result<()>;
const SECTIONS: &[(&str, Section)] =
    &[("start", start), ("run", run), ("exec", exec), ("life", life), ("memory", memory), ("list", list)];

/// Nothing but the program itself.
fn start(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    bench.compare(report, "version", [None, None], |it| it.done(&["--version"]))
}

fn run(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    let bundle = bench.bundle("limited");
    bench.compare(report, "run", [Some(0.4), Some(0.2)], |it| it.done(&["run", "--bundle", &bundle, "keelbox-bench"]))
}

fn exec(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    let bundle = bench.bundle("sleeping");
    let id = |it: &Contestant| format!("keelbox-bench-{}", it.name);
    for it in &bench.contestants {
        it.done(&["create", "--bundle", &bundle, &id(it)])?;
        it.done(&["start", &id(it)])?;
    }
    let measured = bench.compare(report, "exec", [Some(0.4), None], |it| it.done(&["exec", &id(it), PROGRAM]));
    for it in &bench.contestants {
        it.done(&["delete", "--force", &id(it)])?;
    }
    measured
}

fn life(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    let bundle = bench.bundle("sleeping");
    bench.compare(report, "create+start+delete", [Some(0.5), None], |it| {
        it.done(&["create", "--bundle", &bundle, "keelbox-bench"])?;
        it.done(&["start", "keelbox-bench"])?;
        it.done(&["delete", "--force", "keelbox-bench"])
    })
}

/// The most memory that each takes for a run.
fn memory(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    let bundle = bench.bundle("limited");
    let mut peaks = Vec::new();
    for it in &bench.contestants {
        let mut runs = Vec::new();
        for _ in 0..5 {
            runs.push(peak(it.command(&["run", "--bundle", &bundle, "keelbox-bench"]).spawn()?)?);
        }
        runs.sort_unstable();
        println!("{:<24}{:>9} KiB", it.name, runs[2] / 1024);
        peaks.push((it.name, runs[2] as f64));
    }
    let of = |name: &str| peaks.iter().find(|(known, _)| *known == name).map(|(_, peak)| *peak);
    if let (Some(own), Some(crun)) = (of("keelbox"), of("crun")) {
        report.value("cli-peak/crun-peak", own / crun, Some(1.0));
    }
    Ok(())
}

fn peak(child: Child) -> Result<u64> {
    let pidfd = sys::pidfd_open(child.id()).map_err(|errno| format!("no pidfd: {errno:?}"))?;
    let exit = sys::wait(&pidfd).map_err(|errno| format!("cannot wait: {errno:?}"))?;
    Ok(exit.peak_memory)
}

/// The list of many containers that are alive.
fn list(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    let Some(own) = bench.contestants.iter().find(|it| it.name == "keelbox") else { return Ok(()) };
    let bundle = bench.bundle("plain");
    let id = |number: usize| format!("keelbox-bench-{number}");
    let made = (0..ALIVE).try_for_each(|number| own.done(&["create", "--bundle", &bundle, &id(number)]));
    let mut times = Vec::new();
    for _ in 0..11 {
        let begun = Instant::now();
        own.done(&["list"])?;
        times.push(begun.elapsed());
    }
    for number in 0..ALIVE {
        own.done(&["delete", "--force", &id(number)])?;
    }
    made?;
    times.sort_unstable();
    println!("{ALIVE} containers listed in {:.1} ms", times[5].as_secs_f64() * 1e3);
    report.value("list/50ms", times[5].as_secs_f64() / LISTED.as_secs_f64(), Some(1.0));
    Ok(())
}
