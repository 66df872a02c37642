//! A program with a terminal: the host reads what it would show, types, and changes the window's size.
//!
//! The root file system is this machine's own, read-only, and the shell is its `/bin/sh`.

use std::io::{Read, Write};

use keelbox::{Container, MIB, Terminal};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut shell = Container::from_rootfs("/")
        .read_only_root()
        .tmpfs("/tmp", 16 * MIB)
        .args(["/bin/sh"])
        .env("PS1", "inside> ")
        .hostname("terminal")
        .terminal(Terminal::size(24, 80))
        .spawn()?;
    let mut terminal = shell.terminal().ok_or("it was given one")?;
    terminal.resize(40, 120)?;
    terminal.write_all(b"tty; stty size; echo $$; exit 3\n")?;
    let mut screen = String::new();
    terminal.read_to_string(&mut screen)?; // until the shell closes it
    for line in screen.lines() {
        println!("| {line}");
    }
    assert!(screen.contains("40 120"), "the new size was not seen");
    println!("the shell: {}", shell.wait()?);
    Ok(())
}
