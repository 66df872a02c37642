//! A container is a list of steps, and can be looked at before anything runs: `print_plan [--explain]`.
//!
//! With `--explain` each step says why it is there.

use keelbox::{Container, MIB, Profile};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let container = Container::from_rootfs("/")
        .read_only_root()
        .tmpfs("/tmp", 64 * MIB)
        .file("/run/greeting", "hello\n")
        .hostname("plan")
        .profile(Profile::Ordinary)
        .args(["cat", "/run/greeting"])
        .build()?;
    let plan = container.plan()?;
    if std::env::args().any(|argument| argument == "--explain") {
        print!("{}", plan.explain());
    } else {
        print!("{plan}");
    }
    println!("{} steps, and none of them has been taken", plan.steps().len());
    Ok(())
}
