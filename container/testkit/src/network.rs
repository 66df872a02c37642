//! A network of a test's own, which stands for a machine's, and what to look at it with. By ip(8), and nft(8) where filters are told.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};

/// Runs a program that is to succeed, and returns what it printed.
///
/// # Errors
///
/// The kernel's answer, or the program's words.
pub fn run(program: &str, args: &[&str]) -> io::Result<String> {
    crate::roots::run(Command::new(program).args(args))
}

/// Gives the calling thread a network namespace of its own, with nothing but its loopback device, which is up.
///
/// # Errors
///
/// The kernel's answer, or the program's words.
pub fn own_network() -> crate::Result {
    unshare(CloneFlags::CLONE_NEWNET)?;
    run("ip", &["link", "set", "lo", "up"])?;
    Ok(())
}

/// As [`own_network`], for a machine that forwards packets.
///
/// # Errors
///
/// The kernel's answer, or the program's words.
pub fn own_router() -> crate::Result {
    own_network()?;
    Ok(std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?)
}

/// The names of the devices. Their states go on for a moment, so those are left out.
///
/// # Errors
///
/// The kernel's answer, or the program's words.
pub fn devices() -> io::Result<Vec<String>> {
    let devices = run("ip", &["-o", "link"])?;
    Ok(devices.lines().filter_map(|line| line.split_whitespace().nth(1)).map(str::to_owned).collect())
}

/// What a network consists of: devices, and the packet filter's tables.
///
/// # Errors
///
/// The kernel's answer, or the program's words.
pub fn picture() -> io::Result<String> {
    Ok(devices()?.join("\n") + &run("nft", &["list", "tables"])?)
}

/// What a server says until it closes the connection.
///
/// # Errors
///
/// The kernel's answer, or the program's words.
pub fn ask(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(said)
}
