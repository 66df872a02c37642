//! Who a container is, inside and outside. Started by an ordinary user it needs no set-up, no helper and no privilege: the user's
//! one id appears inside as root, or as whoever is asked for.

mod common;

use keelbox::Container;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let outside = std::fs::read_to_string("/proc/self/status")?;
    let line = |key: &str| outside.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned();
    println!("outside: {}, {}", line("Uid:"), line("CapEff:"));

    let work = tempfile::tempdir()?;
    let image = common::tiny_image(&work.path().join("image"))?;
    let container = Container::from_image(&image).store(work.path().join("store"));
    for user in ["0:0", "1000:1000"] {
        println!("inside, as {user}:");
        for question in [&["id"][..], &["status", "CapEff"], &["cat", "/proc/self/uid_map"]] {
            let out = container.clone().user(user).command(question.iter().copied()).output()?;
            assert!(out.status.success(), "{}: {}", out.status, String::from_utf8_lossy(&out.stderr));
            println!("  {}", out.text().trim_end().replace('\n', "\n  "));
        }
    }
    let plan = container.command(["id"]).build()?.plan()?.to_string();
    println!("{}", plan.lines().next().unwrap_or_default()); // root needs no user namespace
    Ok(())
}
