//! How long a container takes, beside other ways to start one: `cargo bench --bench launch [-- SECTION… --rounds N]`.
//!
//! Sections: run, exec, idle, memory, alive, calls; all if none is named. Every time is from the call to the end of the program,
//! cleaned up; the program is busybox's `true`, the root file system the same directory for all. Contestants take turns, so that
//! a busy minute of the machine hits all of them. Printed are percentiles in microseconds, and for each comparison a line
//! `ratio NAME VALUE` of the medians; at the end, which ratios are above what the project promises itself.
//!
//! Needs root, busybox-static and a C compiler (`floor.c`); crun, runc, bwrap and strace are left out aloud if missing.

#[path = "launch/calls.rs"]
mod calls;
#[path = "launch/lane.rs"]
mod lane;
#[path = "launch/peers.rs"]
mod peers;
#[path = "launch/report.rs"]
mod report;

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use keelbox::{Container, MIB, Process, Stdio};
use lane::{Lane, Result, Server, in_a_row, interleave, serve, timed};
use peers::{Exec, Peers};
use report::Report;

/// What a run is, for all contestants.
const PROGRAM: &str = "/bin/true";
/// The sleep before a run that counts as idle.
const IDLE: Duration = Duration::from_millis(100);
/// The pause before each measurement, where nothing else is said.
const SETTLE: Duration = Duration::from_millis(3);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.first().map(String::as_str) {
        Some("serve-command") => return serve(|| peers::run_once(&arguments[1..])),
        Some("serve-container") => return serve_container(arguments[1].parse()?, Path::new(&arguments[2])),
        Some("calls") if arguments.len() == 3 => {
            return calls::between_markers(Path::new(&arguments[2]), &arguments[1]);
        }
        _ => {}
    }
    let rounds = arguments.iter().position(|argument| argument == "--rounds").map(|at| arguments[at + 1].parse());
    let rounds: usize = rounds.transpose()?.unwrap_or(101);
    let named: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|name| SECTIONS.iter().any(|known| known.0 == *name)).collect();
    let root = keelbox_testkit::busybox_root()?;
    let peers = Peers::prepare(root.path())?;
    let mut report = Report::new();
    for (name, section) in SECTIONS {
        if named.is_empty() || named.contains(name) {
            report.begin(name);
            section(&Bench { root: root.path(), peers: &peers, rounds }, &mut report)?;
        }
    }
    report.end();
    Ok(())
}

struct Bench<'a> {
    root: &'a Path,
    peers: &'a Peers,
    rounds: usize,
}

type Section = fn(&Bench<'_>, &mut Report) -> Result<()>;
const SECTIONS: &[(&str, Section)] =
    &[("run", run), ("exec", exec), ("idle", idle), ("memory", memory), ("alive", alive), ("calls", calls)];

fn container(root: &Path) -> Container {
    Container::from_rootfs(root).args([PROGRAM])
}

/// The container with the limits that make a control group necessary.
fn limited(root: &Path) -> Container {
    container(root).memory(64 * MIB).pids(32)
}

fn success(status: keelbox::ExitStatus) -> Result<()> {
    if status.success() { Ok(()) } else { Err(format!("the program ended with {status}").into()) }
}

fn once(container: Container) -> Result<Duration> {
    timed(|| success(container.status()?))
}

/// Runs without limits and so without control groups; then several in a row, and runs with limits.
fn run(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    let (root, peers) = (bench.root, bench.peers);
    let template = container(root).template()?;
    let mut bare = peers.floor(root, false, false)?;
    let mut floor = peers.floor(root, true, false)?;
    let mut lanes = vec![
        Lane::new("floor without filter", move || bare.measure()),
        Lane::new("floor", move || floor.measure()),
        Lane::new("run", || once(container(root))),
        Lane::new("again", || timed(|| success(template.run().status()?))),
        Lane::new("plain", || once(container(root).no_seccomp())),
    ];
    lanes.extend(peers.bwrap(root)?.map(|lane| lane.every(2)));
    lanes.extend(peers.crun(false)?.map(|lane| lane.every(3)));
    let samples = report.lanes(interleave(&mut lanes, bench.rounds, SETTLE)?);
    samples.ratio("run/floor", "run", "floor", Some(1.2));
    samples.ratio("again/floor", "again", "floor", Some(0.8));
    samples.ratio("run/crun", "run", "crun", Some(0.2));
    samples.ratio("run/bwrap", "run", "bwrap", Some(0.5));
    samples.ratio("plain/floor-plain", "plain", "floor without filter", None);
    drop(lanes);
    drop(template);
    row(bench, report)?;
    run_limited(bench, report)
}

/// Twenty at a time, where nothing can be got ready between two runs that is not paid for.
fn row(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    const ROW: u32 = 20;
    let template = container(bench.root).template()?;
    let mut floor = bench.peers.floor(bench.root, true, false)?;
    let mut lanes = [
        Lane::new("floor in a row", move || in_a_row(ROW, || floor.measure())),
        Lane::new("run in a row", || in_a_row(ROW, || once(container(bench.root)))),
        Lane::new("again in a row", || in_a_row(ROW, || timed(|| success(template.run().status()?)))),
    ];
    let samples = report.lanes(interleave(&mut lanes, bench.rounds.div_ceil(5), SETTLE)?);
    samples.ratio("run-in-a-row/floor", "run in a row", "floor in a row", None);
    samples.ratio("again-in-a-row/floor", "again in a row", "floor in a row", None);
    Ok(())
}

/// With limits, and so with a control group for each.
fn run_limited(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    let (root, peers) = (bench.root, bench.peers);
    let template = limited(root).template()?;
    let mut floor = peers.floor(root, true, true)?;
    let mut lanes = vec![
        Lane::new("limited floor", move || floor.measure()),
        Lane::new("limited run", || once(limited(root))),
        Lane::new("limited again", || timed(|| success(template.run().status()?))),
    ];
    lanes.extend(peers.crun(true)?.map(|lane| lane.every(3)));
    lanes.extend(peers.runc()?.map(|lane| lane.every(5)));
    let samples = report.lanes(interleave(&mut lanes, bench.rounds, SETTLE)?);
    samples.ratio("limited-run/floor", "limited run", "limited floor", None);
    samples.ratio("limited-run/crun", "limited run", "limited crun", None);
    samples.ratio("limited-run/runc", "limited run", "limited runc", None);
    Ok(())
}

fn sleeping(root: &Path) -> Result<Process> {
    Ok(Container::from_rootfs(root).args(["/bin/sleep", "100000"]).stdin(Stdio::null()).spawn()?)
}

/// A further program in a container that runs already.
fn exec(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    let container = sleeping(bench.root)?;
    let mut lanes = vec![Lane::new("exec", || timed(|| success(container.exec([PROGRAM]).status()?)))];
    for peer in [Exec::Crun, Exec::Runc] {
        lanes.extend(bench.peers.exec(peer)?.map(|lane| lane.every(3)));
    }
    let samples = report.lanes(interleave(&mut lanes, bench.rounds, SETTLE)?);
    samples.ratio("exec/crun-exec", "exec", "crun exec", Some(0.2));
    samples.ratio("exec/runc-exec", "exec", "runc exec", None);
    Ok(())
}

/// The same with limits after 100 ms of idleness, where the kernel lets a first move between control groups wait.
fn idle(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    let run = || once(limited(bench.root));
    let mut lanes = vec![
        Lane::new("idle", || {
            sleep(IDLE);
            run()
        }),
        Lane::new("busy", || run().and_then(|_| run())),
    ];
    let samples = report.lanes(interleave(&mut lanes, bench.rounds, Duration::ZERO)?);
    samples.ratio("idle/busy", "idle", "busy", Some(2.0));
    Ok(())
}

fn serve_container(megabytes: usize, root: &Path) -> Result<()> {
    let mut touched = vec![0u8; megabytes << 20];
    touched.chunks_mut(4096).for_each(|page| page[0] = 1);
    let served = serve(|| once(container(root)));
    std::hint::black_box(touched);
    served
}

/// The same from a program that holds much memory, and from one that holds none.
fn memory(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    let itself = std::env::current_exe()?;
    let start =
        |megabytes: &str| Server::start(peers::command(&itself).args(["serve-container", megabytes]).arg(bench.root));
    let (mut small, mut large) = (start("0")?, start("2048")?);
    let mut lanes = vec![Lane::new("host-0", move || small.measure()), Lane::new("host-2GB", move || large.measure())];
    let samples = report.lanes(interleave(&mut lanes, bench.rounds, SETTLE)?);
    samples.ratio("host-2GB/host-0", "host-2GB", "host-0", Some(1.1));
    Ok(())
}

/// The same beside a thousand containers. One is alive before they come and after they have gone; those times count together.
fn alive(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    let template = Container::from_rootfs(bench.root).args(["/bin/sleep", "100000"]).stdin(Stdio::null()).template()?;
    let mut running = vec![template.run().spawn()?];
    let measure = |name, rounds| interleave(&mut [Lane::new(name, || once(container(bench.root)))], rounds, SETTLE);
    let half = bench.rounds.div_ceil(2);
    let mut one = measure("1-alive", half)?;
    while running.len() < 1000 {
        running.push(template.run().spawn()?);
    }
    sleep(Duration::from_secs(1));
    let many = measure("1000-alive", bench.rounds)?;
    running.truncate(1);
    sleep(Duration::from_secs(3)); // a thousand network namespaces go in the background
    one.append(measure("1-alive", half)?);
    one.append(many);
    let samples = report.lanes(one);
    samples.ratio("1000-alive/1-alive", "1000-alive", "1-alive", Some(1.2));
    Ok(())
}

/// How many system calls the host and the stage make together; with `again` also those for the containers that are got ready.
fn calls(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    for (what, most) in [("run", Some(120.0)), ("again", None), ("limited", None), ("exec", None)] {
        let Some(count) = calls::count(bench.root, what)? else { return Ok(()) };
        report.value(&format!("calls/{what}"), f64::from(count), most);
    }
    Ok(())
}
