//! Limits on memory, processes and time, and how each end is told apart. Needs root, or a control group of one's own.

mod common;

use std::time::Duration;

use keelbox::{Container, ExitStatus, Limits, MIB, Reason, Stdio};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let work = tempfile::tempdir()?;
    let image = common::tiny_image(&work.path().join("image"))?;
    let container = Container::from_image(&image).store(work.path().join("store")).memory(64 * MIB).swap(0).pids(16);

    // It touches more memory than it may have.
    let end = container.clone().command(["alloc", "256"]).stderr(Stdio::null()).status()?;
    assert_eq!(end.reason(), Reason::OutOfMemory);
    tell("256 MiB of memory", &end);

    // It computes longer than it may run.
    let end = container.clone().command(["spin", "60000"]).time_limit(Duration::from_millis(300)).status()?;
    assert_eq!(end.reason(), Reason::TimeLimit);
    tell("a minute of computing", &end);

    // It forks until the kernel refuses.
    let out = container.clone().command(["forkbomb", "1000"]).output()?;
    println!("1000 processes: {}, {}", out.text().trim_end().replace('\n', ", "), out.status);

    // Limits can be changed, and use can be read, while it runs.
    let mut process = container.command(["alloc", "32", "60000"]).stdout(Stdio::piped()).spawn()?;
    std::io::Read::read(process.stdout.as_mut().ok_or("piped above")?, &mut [0; 64])?; // it says when it has its memory
    process.update(&Limits::new().memory(128 * MIB).swap(0))?;
    let stats = process.stats()?;
    println!("now: {} MiB of {} MiB", stats.memory.current.unwrap_or(0) / MIB, stats.memory.limit.unwrap_or(0) / MIB);
    process.pause()?;
    process.resume()?;
    tell("a stopped program", &process.stop(Duration::from_millis(100))?);
    Ok(())
}

fn tell(what: &str, end: &ExitStatus) {
    let usage = end.usage();
    println!(
        "{what}: {end}; {:?} of CPU, {:?} in all, {} KiB at most",
        usage.cpu,
        usage.wall,
        usage.peak_memory / 1024
    );
}
