//! What it costs to unpack an image, beside the sum of its parts and other tools: `cargo bench --bench images --features registry
//! [-- SECTION… --rounds N --small]`.
//!
//! Sections: unpack, peers, layers, registry, calls; all if none is named. The image has three layers of the files of this
//! machine's Debian packages; `--small` takes a tenth of them. Everything lies in memory (`/dev/shm`). Each measurement is a
//! process of its own, contestants take turns, and printed are medians, and lines `ratio NAME VALUE`; at the end, which
//! ratios are above what the project promises itself.
//!
//! Needs root for the owners of files; dpkg, and umoci, podman, docker-registry and strace, which are left out aloud if missing.

#[path = "images/calibrate.rs"]
mod calibrate;
#[path = "images/data.rs"]
mod data;
#[allow(dead_code, reason = "shared with another benchmark")]
#[path = "launch/lane.rs"]
mod lane;
#[path = "images/peers.rs"]
mod peers;
#[allow(dead_code, reason = "shared with another benchmark")]
#[path = "launch/report.rs"]
mod report;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use data::Image;
use keelbox::crates::image_spec::UnpackOptions;
use keelbox::{Client, Puller, Pusher, Store};
use lane::Result;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use report::Report;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["serve-unpack", source, store] => {
            return measured(|| {
                keelbox::Image::open(source)?.unpack(&Store::open(store)?)?;
                Ok(())
            });
        }
        ["serve-pull", name, store] => {
            let store = Store::open(store)?;
            return measured(|| {
                Puller::new(&store).unpack(UnpackOptions::new()).pull(name)?.unpack(&store)?;
                Ok(())
            });
        }
        _ => {}
    }
    let after = |option: &str| words.iter().position(|word| *word == option).and_then(|at| words.get(at + 1));
    let rounds: usize = after("--rounds").map_or(Ok(5), |rounds| rounds.parse())?;
    let named: Vec<&&str> = words.iter().filter(|word| SECTIONS.iter().any(|known| known.0 == **word)).collect();
    let directory = tempfile::Builder::new().prefix("keelbox-images-").tempdir_in("/dev/shm")?;
    let share = if words.contains(&"--small") { 10 } else { 1 };
    let image = data::debian(&directory.path().join("image"), share)?;
    let mut report = Report::new();
    let compressed: u64 = image.layers.iter().map(|layer| layer.compressed).sum();
    println!("{} entries, {} MB, {} MB compressed", image.entries(), image.bytes() >> 20, compressed >> 20);
    for (name, section) in SECTIONS {
        if named.is_empty() || named.contains(&name) {
            println!("\n{name}   load {}", fs::read_to_string("/proc/loadavg")?.split(' ').next().unwrap_or_default());
            section(&Bench { image: &image, place: directory.path(), rounds }, &mut report)?;
        }
    }
    report.end();
    Ok(())
}

struct Bench<'a> {
    image: &'a Image,
    place: &'a Path,
    rounds: usize,
}

type Section = fn(&Bench<'_>, &mut Report) -> Result<()>;
const SECTIONS: &[(&str, Section)] =
    &[("unpack", unpack), ("peers", peers), ("layers", layers), ("registry", registry), ("calls", calls)];

/// User and system time of this process up to now.
fn processor_time() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    Ok(Duration::from_micros((usage.user_time() + usage.system_time()).num_microseconds().cast_unsigned()))
}

/// Does the work of a process that is measured, and prints what it took: wall and processor seconds, and MB of memory.
fn measured(work: impl FnOnce() -> Result<()>) -> Result<()> {
    let (begun, before) = (Instant::now(), processor_time()?);
    work()?;
    let (wall, processor) = (begun.elapsed(), processor_time()? - before);
    // `ru_maxrss` would count what the parent held when it forked.
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("a peak")?;
    let peak: f64 = peak.split_whitespace().next().ok_or("a peak")?.parse()?;
    println!("{} {} {}", wall.as_secs_f64(), processor.as_secs_f64(), peak / 1024.0);
    Ok(())
}

/// What one of our own processes took.
#[derive(Clone, Copy)]
struct Took {
    wall: f64,
    processor: f64,
    megabytes: f64,
}

impl Bench<'_> {
    /// A fresh place that is gone after `work`, which pays nothing for the removal.
    fn fresh<T>(&self, work: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        let place = tempfile::tempdir_in(self.place)?;
        work(place.path())
    }

    fn own(&self, what: &str, source: &str) -> Result<Took> {
        self.fresh(|place| {
            let mut command = Command::new(std::env::current_exe()?);
            let output = command.args([what, source]).arg(place.join("store")).output()?;
            if !output.status.success() {
                return Err(format!("{what}: {}", String::from_utf8_lossy(&output.stderr)).into());
            }
            let text = String::from_utf8(output.stdout)?;
            let numbers = text.split_whitespace().map(str::parse).collect::<std::result::Result<Vec<f64>, _>>()?;
            let [wall, processor, megabytes] = numbers[..] else { return Err("three numbers".into()) };
            Ok(Took { wall, processor, megabytes })
        })
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Three layers, against the sum of the parts.
fn unpack(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    let (mut parts, mut took) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        parts.push(bench.fresh(|place| calibrate::measure(bench.image, place))?);
        took.push(bench.own("serve-unpack", &bench.image.source())?);
    }
    for (name, part) in [
        ("inflate", (|it| it.inflate) as fn(&calibrate::Parts) -> f64),
        ("hash", |it| it.hash),
        ("parse", |it| it.parse),
        ("create", |it| it.create),
    ] {
        println!("{name:<24}{:>9.3} s", median(parts.iter().map(part)));
    }
    println!("{:<24}{:>9.3} s", "unpack, processor", median(took.iter().map(|it| it.processor)));
    println!("{:<24}{:>9.3} s", "unpack, wall", median(took.iter().map(|it| it.wall)));
    // Ratios of what was measured one after the other, so that a busy minute is in both.
    let pairs = || parts.iter().zip(&took);
    report.value("processor/parts", median(pairs().map(|(it, took)| took.processor / it.sum())), Some(1.2));
    report.value("wall/half-processor", median(took.iter().map(|it| it.wall / (it.processor / 2.0))), Some(1.15));
    report.value("megabytes", took.iter().map(|it| it.megabytes).fold(0.0, f64::max), Some(48.0));
    Ok(())
}

/// Processor time against other tools.
fn peers(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    type Tool = fn(&Image, &Path) -> Result<Option<peers::Spent>>;
    let tools: [(&str, Tool, f64); 2] = [("umoci", peers::umoci, 0.29), ("podman", peers::podman, 0.25)];
    for (tool, run, most) in tools {
        let (mut processor, mut wall) = (Vec::new(), Vec::new());
        for _ in 0..bench.rounds.min(3) {
            let Some(theirs) = bench.fresh(|place| run(bench.image, place))? else { break };
            let ours = bench.own("serve-unpack", &bench.image.source())?;
            println!("{tool:<24}{:>9.3} s processor {:>9.3} s wall", theirs.processor, theirs.wall);
            processor.push(ours.processor / theirs.processor);
            wall.push(ours.wall / theirs.wall);
        }
        if !processor.is_empty() {
            report.value(&format!("processor/{tool}"), median(processor.into_iter()), Some(most));
            report.value(&format!("wall/{tool}"), median(wall.into_iter()), None);
        }
    }
    Ok(())
}

/// The same files in one layer and in forty.
fn layers(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    let (one, forty) = data::once_and_in_forty(bench.place, bench.image)?;
    let mut ratios = Vec::new();
    for _ in 0..bench.rounds {
        let (ours, theirs) = (bench.own("serve-unpack", &forty.source())?, bench.own("serve-unpack", &one.source())?);
        let (many, single) = (ours.wall / forty.bytes() as f64, theirs.wall / one.bytes() as f64);
        println!("{:<24}{:>9.3} ns/B {:>9.3} ns/B in one", "forty layers", many * 1e9, single * 1e9);
        ratios.push(many / single);
    }
    report.value("layers-40/layers-1", median(ratios.into_iter()), Some(1.2));
    Ok(())
}

/// From a registry on loopback, against the blobs on disk.
fn registry(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    let directory = tempfile::tempdir_in(bench.place)?;
    let Some(registry) = peers::Registry::start(directory.path())? else { return Ok(()) };
    let name = format!("{}/bench:1", registry.address);
    Pusher::new().client(Client::new()).push(&keelbox::Image::open(&bench.image.source())?, &name)?;
    let mut ratios = Vec::new();
    for _ in 0..bench.rounds {
        let pulled = bench.own("serve-pull", &name)?;
        let local = bench.own("serve-unpack", &bench.image.source())?;
        println!("{:<24}{:>9.3} s wall {:>9.3} s from disk", "pull", pulled.wall, local.wall);
        ratios.push(pulled.wall / local.wall);
    }
    report.value("pull/unpack", median(ratios.into_iter()), Some(1.1));
    Ok(())
}

/// System calls for each entry of the image, all threads together.
fn calls(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    let total = bench.fresh(|place| {
        let mut command = Command::new("strace");
        command.args(["-f", "-c", "-o"]).arg(place.join("calls")).arg(std::env::current_exe()?);
        let output = command.args(["serve-unpack", &bench.image.source()]).arg(place.join("store")).output();
        match output {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Ok(output) if !output.status.success() => Err(String::from_utf8_lossy(&output.stderr).into_owned())?,
            other => drop(other?),
        }
        let text = fs::read_to_string(place.join("calls"))?;
        println!("{}", text.lines().take(16).collect::<Vec<_>>().join("\n"));
        let line = text.lines().find(|line| line.ends_with("total")).ok_or("a total")?;
        Ok(line.split_whitespace().nth(3).and_then(|calls| calls.parse::<f64>().ok()))
    })?;
    match total {
        Some(total) => report.value("calls/entry", total / bench.image.entries() as f64, Some(6.0)),
        None => println!("SKIP: no strace"),
    }
    Ok(())
}
