//! Code that wants to get out: the strictest preset, and a program that tries the known ways.

mod common;

use std::time::Duration;

use keelbox::{Container, Limits, MIB, Profile, Stdio};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let work = tempfile::tempdir()?;
    let image = common::tiny_image(&work.path().join("image"))?;
    let cage = Container::from_image(&image)
        .store(work.path().join("store"))
        .profile(Profile::Hostile) // no capability, the strict filter, a read-only root, only processes in /proc
        .limits(Limits::new().memory(64 * MIB).pids(16).best_effort())
        .time_limit(Duration::from_secs(5))
        .stdin(Stdio::null());

    let treasure = work.path().join("treasure");
    std::fs::write(&treasure, "not for you")?;
    let treasure = treasure.display().to_string();
    let attempts = [
        ("reach a file of the host", vec!["escape", &treasure]),
        ("write to the root", vec!["write", "/planted", "x"]),
        ("look at the host's memory map", vec!["cat", "/proc/iomem"]),
        ("see the host's processes", vec!["ls", "/proc/2"]),
        ("make a namespace", vec!["syscall", if cfg!(target_arch = "aarch64") { "97" } else { "272" }, "268435456"]),
    ];
    for (what, command) in attempts {
        let out = cage.clone().command(command).output()?;
        let said = if out.stdout.is_empty() { String::from_utf8_lossy(&out.stderr) } else { out.text() };
        println!("{what}: {}", said.trim_end());
        assert!(!said.contains("not for you"));
    }
    Ok(())
}
