//! A program of a real image: `debian [IMAGE [COMMAND…]]`, as in `debian oci:./debian:12 cat /etc/os-release`.
//!
//! Without an image it takes the Debian that the tests use, which root makes at the first time (debootstrap and umoci, some minutes).

use std::time::Instant;

use keelbox::{Container, Image, Limits, MIB};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let reference = match arguments.next() {
        Some(reference) => reference,
        None => format!("oci:{}:bookworm", keelbox_testkit::debian_layout()?.display()),
    };
    let mut command: Vec<String> = arguments.collect();
    if command.is_empty() {
        command = ["sh", "-c", ". /etc/os-release; echo $PRETTY_NAME; id; ls /; dpkg-query --show | wc -l"]
            .map(str::to_owned)
            .to_vec();
    }
    let store = tempfile::tempdir()?;
    let image = Image::open(&reference)?;
    let container = Container::from_image(&image)
        .store(store.path())
        .args(command)
        .limits(Limits::new().memory(256 * MIB).pids(64).best_effort());

    let begun = Instant::now();
    let container = container.build()?; // unpacks; with a store that stays, only once
    println!("unpacked in {:.1?}", begun.elapsed());
    for run in ["the first run", "the second run"] {
        let begun = Instant::now();
        let out = container.output()?;
        println!(
            "{run}: {} after {:.1?}\n{}{}",
            out.status,
            begun.elapsed(),
            out.text(),
            String::from_utf8_lossy(&out.stderr)
        );
        assert!(out.status.success());
    }
    Ok(())
}
