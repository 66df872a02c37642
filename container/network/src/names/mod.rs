//! Answers the members of a network who ask for each other by name, and passes other questions on to whom this machine asks.
//!
//! Nothing is kept here: who is in the network, the kernel's devices say, so each program that uses a network answers for all of them,
//! and when one is killed the others go on (`SO_REUSEPORT`). Leaves out questions over TCP and names of addresses.
//! Oldest kernel: any.

mod message;

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt};

use crate::bridge::endpoint::told;
use crate::error::{Error, Result};
use crate::netlink::route::Route;
use message::{Code, Question};

/// The thread that answers, until it is dropped.
#[derive(Debug)]
pub(crate) struct Responder {
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

/// A question that was passed on.
struct Pending {
    socket: UdpSocket,
    asker: SocketAddr,
    question: Vec<u8>,
    /// Whom it is to be passed on to next.
    next: usize,
    until: Instant,
}

struct Work {
    socket: UdpSocket,
    stop: Arc<EventFd>,
    route: Route,
    bridge: u32,
    network: String,
    internal: bool,
    pending: Vec<Pending>,
}

/// How long one of those whom this machine asks has for its answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most questions that are passed on at one time; further ones are refused for now.
const MOST: usize = 256;
/// The longest message: more than any answer without TCP.
const LONGEST: usize = 65535;

impl Responder {
    /// Starts the thread, for the network whose bridge has the number `bridge`, at its address.
    pub(crate) fn start(bridge: u32, network: &str, gateway: IpAddr, internal: bool) -> Result<Self> {
        let address = SocketAddr::new(gateway, 53);
        let open = || -> std::io::Result<(UdpSocket, Arc<EventFd>, Route)> {
            let family = if gateway.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let opened = socket(family, SockType::Datagram, flags, None)?;
            setsockopt(&opened, sockopt::ReusePort, &true)?;
            bind(opened.as_raw_fd(), &SockaddrStorage::from(address))?;
            let stop = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
            Ok((opened.into(), Arc::new(stop), Route::here()?))
        };
        let cannot =
            |error| Error::os(format!("cannot answer for the names of the network {network} at {address}"), error);
        let (socket, stop, route) = open().map_err(|error| {
            cannot(error).with_hint("without_names() does without; a server of names may have the port")
        })?;
        let network = network.to_ascii_lowercase();
        let stopped = Arc::clone(&stop);
        let work = Work { socket, stop: stopped, route, bridge, network, internal, pending: Vec::new() };
        let thread = std::thread::Builder::new().name("keelbox-names".into()).stack_size(256 << 10);
        let thread = thread.spawn(move || work.run()).map_err(cannot_start)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

fn cannot_start(error: std::io::Error) -> Error {
    Error::os("cannot start a thread that answers for names", error)
}

impl Drop for Responder {
    fn drop(&mut self) {
        let _told = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

impl Work {
    fn run(mut self) {
        loop {
            let mut polled = vec![
                PollFd::new(self.stop.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
            ];
            polled.extend(self.pending.iter().map(|pending| PollFd::new(pending.socket.as_fd(), PollFlags::POLLIN)));
            let next = self.pending.iter().map(|pending| pending.until).min();
            let patience = next.map_or(PollTimeout::NONE, |until| {
                let left = until.saturating_duration_since(Instant::now()).as_millis().min(10_000) as u16;
                PollTimeout::from(left.saturating_add(1))
            });
            match poll(&mut polled, patience) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(_) => return,
            }
            let ready: Vec<bool> = polled.iter().map(|polled| polled.any().unwrap_or(false)).collect();
            if ready.first() == Some(&true) {
                return;
            }
            self.pass_back(ready.get(2..).unwrap_or_default());
            if ready.get(1) == Some(&true) {
                self.hear();
            }
            self.give_up();
        }
    }

    /// Answers the questions that have arrived.
    fn hear(&mut self) {
        let mut room = vec![0u8; LONGEST];
        for _ in 0..64 {
            let Ok((length, asker)) = self.socket.recv_from(&mut room) else { return };
            let bytes = room.get(..length).unwrap_or_default();
            let Some(question) = Question::parse(bytes) else { continue };
            let answer = match self.own_name(&question.name) {
                Some(name) => match self.addresses(&name) {
                    Some(addresses) => question.addresses(bytes, &addresses),
                    None => question.answer(bytes, Code::NoSuchName),
                },
                None if self.internal => question.answer(bytes, Code::Refused),
                None if self.pending.len() >= MOST => question.answer(bytes, Code::Failed),
                None => {
                    self.pass_on(bytes.to_vec(), asker, 0);
                    continue;
                }
            };
            let _lost = self.socket.send_to(&answer, asker);
        }
    }

    /// A name that only this network can know: one word, or one with the network's name behind it.
    fn own_name(&self, name: &str) -> Option<String> {
        let suffix = format!(".{}", self.network);
        let own = name.strip_suffix(&suffix).unwrap_or(name);
        (!own.contains('.')).then(|| own.to_owned())
    }

    /// Nothing if no member has this name.
    fn addresses(&mut self, name: &str) -> Option<Vec<IpAddr>> {
        let ports = self.route.ports(self.bridge).unwrap_or_default();
        let named = ports.iter().filter_map(|port| told(&port.alias));
        let named: Vec<_> = named.filter(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, list)| list).collect();
        (!named.is_empty()).then(|| named.concat())
    }

    fn pass_on(&mut self, question: Vec<u8>, asker: SocketAddr, from: usize) {
        let servers = servers(&fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
        for (index, server) in servers.iter().enumerate().skip(from) {
            let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
            let ask = || -> std::io::Result<UdpSocket> {
                // A port of its own for each question: an answer has to be to this one.
                let socket = UdpSocket::bind(any)?;
                socket.set_nonblocking(true)?;
                socket.connect(server)?;
                socket.send(&question)?;
                Ok(socket)
            };
            if let Ok(socket) = ask() {
                let until = Instant::now() + PATIENCE;
                self.pending.push(Pending { socket, asker, question, next: index + 1, until });
                return;
            }
        }
        if let Some(parsed) = Question::parse(&question) {
            let _lost = self.socket.send_to(&parsed.answer(&question, Code::Failed), asker);
        }
    }

    /// Passes answers back to who asked.
    fn pass_back(&mut self, ready: &[bool]) {
        let mut room = vec![0u8; LONGEST];
        let mut failed = Vec::new();
        let all = std::mem::take(&mut self.pending);
        for (index, pending) in all.into_iter().enumerate() {
            if ready.get(index) != Some(&true) {
                self.pending.push(pending);
                continue;
            }
            match pending.socket.recv(&mut room) {
                Ok(length) if room.get(..2) == pending.question.get(..2) => {
                    let _lost = self.socket.send_to(room.get(..length).unwrap_or_default(), pending.asker);
                }
                Ok(_) => self.pending.push(pending),
                Err(_) => failed.push(pending),
            }
        }
        for pending in failed {
            self.pass_on(pending.question, pending.asker, pending.next);
        }
    }

    /// Asks the next one where nobody has answered in time.
    fn give_up(&mut self) {
        let now = Instant::now();
        let (late, waiting): (Vec<Pending>, _) =
            std::mem::take(&mut self.pending).into_iter().partition(|pending| pending.until <= now);
        self.pending = waiting;
        for pending in late {
            self.pass_on(pending.question, pending.asker, pending.next);
        }
    }
}

/// The servers of a `resolv.conf`, three at most (resolv.conf(5)).
fn servers(text: &str) -> Vec<SocketAddr> {
    let named = text.lines().filter_map(|line| line.strip_prefix("nameserver")?.split_whitespace().next());
    named.filter_map(|address| address.parse().ok()).map(|address: IpAddr| (address, 53).into()).take(3).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read() {
        let text = "# x\nnameserver 10.0.0.1\nsearch a b\nnameserver  fd00::1 \nnameserver x\nnameserver 1.1.1.1\nnameserver 2.2.2.2\n";
        let found: Vec<String> = servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.0.0.1:53", "[fd00::1]:53", "1.1.1.1:53"]);
    }
}
