//! Hundreds of throw-away containers side by side, from one that was prepared once: `template [HOW MANY]`.
//!
//! Each has a file system of its own: all of them write the same file, and none sees another's.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use keelbox::{Container, Network};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count: usize = std::env::args().nth(1).map_or(Ok(300), |count| count.parse())?;
    let work = tempfile::tempdir()?;
    let image = common::tiny_image(&work.path().join("image"))?;
    let template = Container::from_image(&image).store(work.path().join("store")).network(Network::None).template()?;

    let (next, succeeded) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while next.fetch_add(1, Ordering::Relaxed) < count {
                    let end = template.args(["/probe", "write", "/only-here", "mine"]).status();
                    if end.is_ok_and(|end| end.success()) {
                        succeeded.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let (time, succeeded) = (begun.elapsed(), succeeded.into_inner());
    println!("{succeeded} of {count} containers in {time:.2?}: {:.0} a second", count as f64 / time.as_secs_f64());
    let left = template.args(["/probe", "ls", "/"]).output()?;
    assert!(succeeded == count && !left.text().contains("only-here"));
    Ok(())
}
