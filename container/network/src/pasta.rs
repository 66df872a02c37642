//! The network of an ordinary user's container by pasta(1), where that is installed: it carries what the container sends and is sent as
//! the user's own connections.
//!
//! Leaves out what pasta would open by default: the host's loopback services to the container, and every port of the container to the
//! host; and an end for the pasta of a program that is killed, which does not see that its container has gone. Oldest kernel: pasta's.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::attachment::{Attached, Attachment};
use crate::error::{Error, ErrorKind, Result};
use crate::publish::{Protocol, Publish};

/// A network of an ordinary user.
///
/// ```
/// let network = keelbox_network::Pasta::new();
/// # drop(network);
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[must_use = "it says how a container is connected, and does nothing by itself"]
pub struct Pasta {
    program: Option<PathBuf>,
}

/// How long pasta may take to set the network up.
const PATIENCE: Duration = Duration::from_secs(10);

impl Pasta {
    /// The network by the program `pasta` in `/usr/bin`, `/usr/local/bin` or `/bin`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another program than the usual one.
    pub fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = Some(program.into());
        self
    }

    /// Whether it can be had, as far as that can be told before anything is made.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] without the program; [`ErrorKind::Unsupported`] for a port of the kernel's choice, which pasta does not tell.
    pub fn check(&self, ports: &[Publish]) -> Result<()> {
        if let Some(port) = ports.iter().find(|port| port.outside().port() == 0) {
            let why = format!("cannot publish {port}: pasta finds no free port by itself");
            return Err(Error::new(ErrorKind::Unsupported, why).with_hint("name the port"));
        }
        self.found().map(drop)
    }

    fn found(&self) -> Result<PathBuf> {
        let usual = ["/usr/bin/pasta", "/usr/local/bin/pasta", "/bin/pasta"].map(PathBuf::from);
        let named = self.program.as_ref().map_or(usual.as_slice(), std::slice::from_ref);
        named.iter().find(|program| program.exists()).cloned().ok_or_else(|| {
            let named: Vec<String> = named.iter().map(|program| program.display().to_string()).collect();
            let why = format!("cannot connect the container: there is no {}", named.join(", "));
            Error::new(ErrorKind::NotFound, why).with_hint("install pasta (package passt)")
        })
    }

    /// Connects the network namespace of the process `pid`, and waits until it is connected.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check); [`ErrorKind::Refused`] with pasta's own words. Nothing is left behind then.
    pub fn attach(&self, pid: u32, ports: &[Publish]) -> Result<Attachment> {
        self.check(ports)?;
        let program = self.found()?;
        let attempt = format!("cannot connect the container by {}", program.display());
        let mut command = Command::new(&program);
        command.args(["--foreground", "--quiet", "--config-net", "--no-map-gw"]);
        // Without these, connections to the container's own loopback address would come out at the host's.
        command.args(["--tcp-ns", "none", "--udp-ns", "none"]);
        for (option, protocol) in [("--tcp-ports", Protocol::Tcp), ("--udp-ports", Protocol::Udp)] {
            let wanted: Vec<&Publish> = ports.iter().filter(|port| port.protocol() == protocol).collect();
            if wanted.is_empty() {
                command.args([option, "none"]);
            }
            for port in wanted {
                let outside = port.outside();
                command.args([option, &format!("{}/{}:{}", outside.ip(), outside.port(), port.inside())]);
            }
        }
        command.arg(pid.to_string()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn().map_err(|error| Error::os(attempt.clone(), error))?;
        let mut running = Running(child);
        running.wait_connected(pid, &attempt)?;
        let published = ports.iter().map(|port| (*port, port.outside())).collect();
        Ok(Attachment { addresses: Vec::new(), published, forwarder: None, attached: Attached::Pasta(running) })
    }
}

/// A pasta that runs, until it is dropped.
#[derive(Debug)]
pub(crate) struct Running(Child);

impl Running {
    fn wait_connected(&mut self, pid: u32, attempt: &str) -> Result<()> {
        let begun = Instant::now();
        loop {
            if has_way(pid) {
                return Ok(());
            }
            let ended = self.0.try_wait().map_err(|error| Error::os(attempt, error))?;
            if ended.is_some() {
                let mut said = String::new();
                if let Some(errors) = &mut self.0.stderr {
                    let _as_far_as_it_can_be_read = std::io::Read::read_to_string(errors, &mut said);
                }
                let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").trim();
                return Err(Error::new(ErrorKind::Refused, format!("{attempt}: {last}")));
            }
            if begun.elapsed() > PATIENCE {
                let why = format!("{attempt}: no way out has come about for {} s", PATIENCE.as_secs());
                return Err(Error::new(ErrorKind::Refused, why));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Whether the network of a process has a default route, as `/proc/PID/net/route` and `ipv6_route` say.
fn has_way(pid: u32) -> bool {
    let read = |table: &str| std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("net").join(table));
    let legacy = read("route").unwrap_or_default();
    let is_default = |line: &str| line.split_whitespace().nth(1) == Some("00000000");
    let modern = read("ipv6_route").unwrap_or_default();
    let is_default6 = |line: &str| line.starts_with(&format!("{:032} 00 ", 0)) && !line.ends_with(" lo");
    legacy.lines().skip(1).any(is_default) || modern.lines().any(is_default6)
}
