//! What goes to other programs over sockets of theirs: a terminal, a pidfd, the listener of a system call filter.
//!
//! Each goes with one connection of its own, which is closed afterwards. Leaves out what those programs do with it. Oldest kernel:
//! 5.10.

use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keelbox_launch::sys;
use keelbox_runtime_spec::{ProcessState, State};
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use nix::sys::stat::Mode;

use crate::error::{Error, ErrorKind, Result};

/// How long the other program may take to accept and to read.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest path that fits into an address (unix(7)).
const LONGEST: usize = 107;

/// Gives the master of a terminal away. What is said with it is the name of the other side, as it is inside.
pub(crate) fn terminal(path: &Path, master: &OwnedFd) -> Result<()> {
    let attempt = || format!("cannot hand the terminal to {}", path.display());
    let number = sys::terminal::number(master.as_fd()).map_err(|errno| Error::os(attempt(), errno))?;
    send(path, format!("/dev/pts/{number}").as_bytes(), master.as_fd(), attempt)
}

/// Gives a copy of a pidfd away. What is said with it is the process id.
pub(crate) fn pidfd(path: &Path, pidfd: BorrowedFd<'_>, pid: u32) -> Result<()> {
    send(path, pid.to_string().as_bytes(), pidfd, || format!("cannot hand the pidfd to {}", path.display()))
}

/// The program that decides about system calls, and what it is told with each listener.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    pub(crate) path: PathBuf,
    pub(crate) metadata: Option<String>,
    pub(crate) state: State,
}

impl Agent {
    /// Gives the listener for the process `pid` to the agent.
    pub(crate) fn tell(&self, listener: &OwnedFd, pid: u32) -> Result<()> {
        let attempt = || format!("cannot hand the listener of the system call filter to {}", self.path.display());
        let mut message = ProcessState::new(i32::try_from(pid).unwrap_or_default(), self.state.clone());
        message.metadata = self.metadata.clone();
        let text = message.to_json().map_err(|error| Error::from_part(ErrorKind::Invalid, attempt(), error))?;
        send(&self.path, text.as_bytes(), listener.as_fd(), attempt)
    }
}

fn send(path: &Path, bytes: &[u8], descriptor: BorrowedFd<'_>, attempt: impl Fn() -> String) -> Result<()> {
    let cannot = |error: io::Error| Error::os(attempt(), error);
    let mut stream = reach(path).map_err(cannot)?;
    let sent = sys::rights::send(stream.as_fd(), bytes, &[descriptor]).map_err(|errno| cannot(errno.into()))?;
    // The descriptor went with the first bytes; what the socket did not take at once follows.
    stream.write_all(bytes.get(sent..).unwrap_or_default()).map_err(cannot)
}

fn reach(path: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::from(socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?);
    // For the connection as well: a queue of calls may be full.
    stream.set_write_timeout(Some(PATIENCE))?;
    if path.as_os_str().len() <= LONGEST {
        connect(stream.as_raw_fd(), &UnixAddr::new(path)?)?;
        return Ok(stream);
    }
    let (directory, name) = path.parent().zip(path.file_name()).ok_or(nix::errno::Errno::ENAMETOOLONG)?;
    let directory = open(directory, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    connect(stream.as_raw_fd(), &UnixAddr::new(&short)?)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_listener_comes_with_the_state_over_a_long_path() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let here = directory.path().join("socket");
        let listener = UnixListener::bind(&here).unwrap();
        let path = deep.join("socket");
        std::fs::rename(&here, &path).unwrap();
        let mut state = State::new("a".parse().unwrap(), keelbox_runtime_spec::Status::Created, "/b");
        // More than the socket takes at once.
        state.annotations.insert("long".into(), "x".repeat(1 << 20));
        let agent = Agent { path, metadata: Some("m".into()), state: state.clone() };
        let file = OwnedFd::from(tempfile::tempfile().unwrap());
        let told = std::thread::spawn(move || agent.tell(&file, 7));
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = vec![0; 4096];
        let (length, received) = sys::rights::receive(stream.as_fd(), &mut bytes).unwrap();
        assert_eq!(received.len(), 1);
        bytes.truncate(length);
        io::Read::read_to_end(&mut stream, &mut bytes).unwrap();
        told.join().unwrap().unwrap();
        let message = ProcessState::from_json(&bytes).unwrap();
        assert_eq!((message.pid, message.metadata.as_deref(), message.state), (7, Some("m"), state));
    }

    #[test]
    fn nobody_there_is_an_error_that_names_the_path() {
        let refused = pidfd(Path::new("/nowhere/socket"), io::stdin().as_fd(), 1).unwrap_err();
        assert_eq!(refused.report(), "cannot hand the pidfd to /nowhere/socket: No such file or directory");
    }
}
