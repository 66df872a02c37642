//! One connection that is carried: two sockets, and a pipe for each direction. Oldest kernel: any.

use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, setsockopt, socket, sockopt};
use nix::unistd::pipe2;

/// How a connection goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum More {
    /// There is more to carry, but others come first.
    Now,
    /// When one of its sockets has something to say.
    Later,
    /// It has ended.
    Never,
}

/// A connection from outside, and the one to the container.
#[derive(Debug)]
pub(super) struct Connection {
    client: TcpStream,
    server: TcpStream,
    inward: Way,
    outward: Way,
}

/// One direction.
#[derive(Debug)]
struct Way {
    reader: OwnedFd,
    writer: OwnedFd,
    /// Bytes in the pipe.
    held: usize,
    /// Nothing more comes.
    ended: bool,
    /// The other side knows.
    told: bool,
}

/// Bytes that a pipe is to hold: more at a time is less work for each.
const ROOM: usize = 256 << 10;
/// How often one connection goes on before others have their turn.
const TURNS: u32 = 16;

impl Connection {
    pub(super) fn new(client: TcpStream, inside: SocketAddr) -> std::io::Result<Self> {
        client.set_nonblocking(true)?;
        let _a_little_slower = client.set_nodelay(true);
        let family = if inside.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let server = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
        let _a_little_slower = setsockopt(&server, sockopt::TcpNoDelay, &true);
        match connect(server.as_raw_fd(), &SockaddrStorage::from(inside)) {
            Ok(()) | Err(Errno::EINPROGRESS) => {}
            Err(errno) => {
                refuse(&client);
                return Err(errno.into());
            }
        }
        Ok(Self { client, server: server.into(), inward: Way::new()?, outward: Way::new()? })
    }

    /// The sockets from outside and to the container.
    pub(super) fn ends(&self) -> (BorrowedFd<'_>, BorrowedFd<'_>) {
        (self.client.as_fd(), self.server.as_fd())
    }

    /// Carries what there is, in both directions.
    pub(super) fn pump(&mut self) -> More {
        let inward = self.inward.pump(&self.client, &self.server);
        let outward = self.outward.pump(&self.server, &self.client);
        match (inward, outward) {
            (Err(_), _) | (_, Err(_)) => {
                // What broke off on one side breaks off on the other, instead of looking like a proper end.
                refuse(&self.client);
                refuse(&self.server);
                More::Never
            }
            _ if self.inward.told && self.outward.told => More::Never,
            (Ok(true), _) | (_, Ok(true)) => More::Now,
            _ => More::Later,
        }
    }
}

impl Way {
    fn new() -> std::io::Result<Self> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        // A user may have only so much of it; then it stays at 64 KiB.
        let _smaller = fcntl(&writer, FcntlArg::F_SETPIPE_SZ(ROOM as i32));
        Ok(Self { reader, writer, held: 0, ended: false, told: false })
    }

    /// Whether there is more to carry at once.
    fn pump(&mut self, from: &TcpStream, to: &TcpStream) -> Result<bool, Errno> {
        let flags = SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE;
        for _ in 0..TURNS {
            let mut moved = false;
            if !self.ended && self.held < ROOM {
                match splice(from, None, &self.writer, None, ROOM - self.held, flags) {
                    Ok(0) => self.ended = true,
                    Ok(count) => (self.held, moved) = (self.held + count, true),
                    Err(Errno::EAGAIN | Errno::EINTR) => {}
                    Err(errno) => return Err(errno),
                }
            }
            if self.held > 0 {
                match splice(&self.reader, None, to, None, self.held, flags) {
                    Ok(count) => (self.held, moved) = (self.held - count.min(self.held), moved || count > 0),
                    Err(Errno::EAGAIN | Errno::EINTR) => {}
                    Err(errno) => return Err(errno),
                }
            }
            if self.ended && self.held == 0 && !self.told {
                self.told = true;
                let _known_already = to.shutdown(Shutdown::Write);
            }
            if !moved {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Makes the end of a socket look like a refusal (`RST`), as the end of a connection that was never accepted.
fn refuse(socket: &TcpStream) {
    let at_once = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    let _an_ordinary_end = setsockopt(socket, sockopt::Linger, &at_once);
}
