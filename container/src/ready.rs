//! When a container is ready: what is waited for before the caller gets its handle.
//!
//! It is looked for from outside, in what the kernel tells about the container's namespace, so the program inside sees no connection that
//! means nothing. Leaves out looking at what the program says: its output is the caller's. Oldest kernel: any.

use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::process::Process;

/// What shows that a program is ready to be used.
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use = "it says when a container is ready, and is given to ready_when()"]
pub struct Ready {
    port: u16,
    patience: Duration,
}

/// Ready when somebody inside listens on this TCP port, within 60 s.
///
/// ```
/// use std::time::Duration;
/// let ready = keelbox::tcp(3306).within(Duration::from_secs(5));
/// # drop(ready);
/// ```
pub fn tcp(port: u16) -> Ready {
    Ready { port, patience: Duration::from_secs(60) }
}

/// How often it is looked for: seldom enough to cost nothing, often enough not to be waited for.
const PAUSE: Duration = Duration::from_millis(5);

impl Ready {
    /// How long to wait before the container is ended as one that never becomes ready. Default: 60 s.
    pub fn within(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Waits until the program is ready.
    pub(crate) fn wait(&self, process: &mut Process) -> Result<()> {
        let begun = Instant::now();
        let attempt = format!("cannot wait until the container listens on TCP port {}", self.port);
        loop {
            if listens(process.id(), self.port) {
                return Ok(());
            }
            let left = self.patience.saturating_sub(begun.elapsed());
            if let Some(status) = process.wait_timeout(left.min(PAUSE))? {
                let why = format!("{attempt}: it has ended ({status})");
                return Err(Error::new(ErrorKind::NotReady, why));
            }
            if left.is_zero() {
                let why = format!("{attempt}: it has not for {:?}", self.patience);
                return Err(Error::new(ErrorKind::NotReady, why).with_hint("within() says how long to wait"));
            }
        }
    }
}

/// Whether a socket listens on a TCP port in the network of a process, as `/proc/PID/net/tcp` and `tcp6` say (proc(5)).
fn listens(pid: u32, port: u16) -> bool {
    ["tcp", "tcp6"].iter().any(|table| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        text.lines().skip(1).any(|line| is_listening(line, port))
    })
}

/// `sl local_address rem_address st …`, in hexadecimal digits.
fn is_listening(line: &str, port: u16) -> bool {
    const LISTEN: &str = "0A";
    let mut words = line.split_whitespace();
    let local = words.nth(1).and_then(|address| address.rsplit_once(':'));
    local.is_some_and(|(_, digits)| u16::from_str_radix(digits, 16) == Ok(port)) && words.nth(1) == Some(LISTEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let line = "   0: 0100007F:0CEA 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1";
        assert!(is_listening(line, 3306));
        assert!(!is_listening(line, 3307));
        assert!(!is_listening(&line.replace(" 0A ", " 01 "), 3306), "a connection");
        assert!(!is_listening("", 3306));
    }
}
