//! Further programs in a running container: each may be somebody else, and each has an end of its own.

mod common;

use std::time::Duration;

use keelbox::{Container, Stdio};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let work = tempfile::tempdir()?;
    let image = common::tiny_image(&work.path().join("image"))?;
    let mut server = Container::from_image(&image)
        .store(work.path().join("store"))
        .command(["stubborn", "60000"]) // says "ready", then takes no notice of SIGTERM
        .hostname("server")
        .stdout(Stdio::piped())
        .spawn()?;
    std::io::Read::read(server.stdout.as_mut().ok_or("piped above")?, &mut [0; 64])?;
    println!("the server is process {} here", server.id());

    for question in [&["/probe", "hostname"][..], &["/probe", "pid"], &["/probe", "cat", "/proc/1/comm"]] {
        let out = server.exec(question.iter().copied()).env("LANG", "C.UTF-8").output()?;
        println!("$ {}\n{}", question.join(" "), out.text().trim_end());
    }
    let end = server.exec(["/probe", "exit", "7"]).status()?;
    println!("a further program: {end}");
    println!("it still runs: {}", server.try_wait()?.is_none());
    println!("the server: {}", server.stop(Duration::from_millis(100))?); // asks, waits, kills
    Ok(())
}
