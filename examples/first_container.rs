//! The main job: a program opens an image and runs it in a container, like `Command::output`.
//!
//! No image is at hand, so the example makes a small real one. For yours, open `oci:PATH:TAG`, `oci-archive:FILE` or `docker-archive:FILE`.
//! Root or not is all the same; only limits need root or a control group of one's own, and are asked for here "as far as can be had".

mod common;

use keelbox::{Container, Limits, MIB};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let work = tempfile::tempdir()?;
    let image = common::tiny_image(&work.path().join("image"))?;
    println!("image {}, {} layer", image.manifest_digest(), image.layers().len());

    let container = Container::from_image(&image)
        .store(work.path().join("store")) // where layers are unpacked; without this, where all programs of this user share them
        .limits(Limits::new().memory(64 * MIB).pids(32).best_effort())
        .hostname("first");

    for question in [&["hostname"][..], &["pid"], &["id"], &["ls", "/"]] {
        let out = container.clone().command(question.iter().copied()).output()?;
        assert!(out.status.success(), "{}: {}", out.status, String::from_utf8_lossy(&out.stderr));
        println!("$ {}\n{}", question.join(" "), out.text().trim_end());
    }
    Ok(())
}
