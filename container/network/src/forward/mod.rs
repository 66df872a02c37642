//! Carries what comes by a published port to the container, where the packet filter cannot: from loopback addresses.
//!
//! One thread for the ports of a container; bytes go from socket to socket by `splice(2)`, without being copied here. Leaves out the
//! address of who connects: inside it is this machine's. Oldest kernel: 5.10.

mod packets;
mod stream;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::error::{Error, Result};
use crate::publish::{Bound, Door};
use packets::Packets;
use stream::{Connection, More};

/// The thread that carries, until it is dropped.
#[derive(Debug)]
pub(crate) struct Forwarder {
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

/// Numbers of what is waited for: 0 to stop, then the doors, then connections, two numbers each.
const STOP: u64 = 0;
const FIRST_CONNECTION: u64 = 1 << 32;
/// The most connections of a container that are carried at one time; further ones wait to be accepted.
const MOST: usize = 8192;

struct Work {
    epoll: Epoll,
    stop: Arc<EventFd>,
    doors: Vec<(Door, SocketAddr)>,
    connections: HashMap<u64, Connection>,
    packets: HashMap<u64, Packets>,
    next: u64,
    /// Connections that could go on at once.
    ready: VecDeque<u64>,
}

impl Forwarder {
    /// Starts the thread.
    pub(crate) fn start(bound: Vec<Bound>, to: &dyn Fn(IpAddr) -> Option<IpAddr>) -> Result<Self> {
        let cannot = |error: std::io::Error| Error::os("cannot carry what comes by published ports", error);
        let doors = bound.into_iter().filter_map(|bound| {
            let inside = SocketAddr::new(to(bound.address.ip())?, bound.publish.inside());
            Some((bound.socket, inside))
        });
        let stop = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
        let stop = Arc::new(stop.map_err(|errno| cannot(errno.into()))?);
        let work = Work {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(|errno| cannot(errno.into()))?,
            stop: Arc::clone(&stop),
            doors: doors.collect(),
            connections: HashMap::new(),
            packets: HashMap::new(),
            next: FIRST_CONNECTION,
            ready: VecDeque::new(),
        };
        work.listen().map_err(|errno| cannot(errno.into()))?;
        let thread = std::thread::Builder::new().name("keelbox-ports".into()).stack_size(256 << 10);
        let thread = thread.spawn(move || work.run()).map_err(cannot)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        let _told = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

impl Work {
    fn listen(&self) -> Result<(), Errno> {
        self.epoll.add(self.stop.as_ref(), EpollEvent::new(EpollFlags::EPOLLIN, STOP))?;
        for (number, (door, _)) in (1..).zip(&self.doors) {
            let socket = match door {
                Door::Tcp(listener) => listener.as_fd(),
                Door::Udp(socket) => socket.as_fd(),
            };
            self.epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, number))?;
        }
        Ok(())
    }

    fn run(mut self) {
        let mut events = [EpollEvent::empty(); 64];
        loop {
            let patience = match (self.ready.is_empty(), self.packets.is_empty()) {
                (false, _) => EpollTimeout::ZERO,
                (true, false) => EpollTimeout::from(10_000u16),
                (true, true) => EpollTimeout::NONE,
            };
            let count = match self.epoll.wait(&mut events, patience) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(_) => return,
            };
            for event in events.iter().take(count) {
                match event.data() {
                    STOP => return,
                    door if door < FIRST_CONNECTION => self.knock(door),
                    number => self.carry(number & !1),
                }
            }
            for _ in 0..self.ready.len() {
                if let Some(number) = self.ready.pop_front() {
                    self.carry(number);
                }
            }
            self.packets.retain(|_, packets| !packets.is_idle());
        }
    }

    fn knock(&mut self, number: u64) {
        let Some((door, inside)) = self.doors.get(number as usize - 1) else { return };
        let inside = *inside;
        match door {
            Door::Tcp(listener) => match self.connections.len() < MOST {
                true => {
                    let accepted = accept(listener, inside);
                    self.admit(accepted);
                }
                false => std::thread::sleep(Duration::from_millis(1)),
            },
            Door::Udp(socket) => {
                if let Some((number, packets)) = packets::arrive(socket, inside, number, &mut self.packets, self.next)
                    && self.epoll.add(packets.socket(), EpollEvent::new(EpollFlags::EPOLLIN, number)).is_ok()
                {
                    self.next += 2;
                    self.packets.insert(number, packets);
                }
            }
        }
    }

    fn admit(&mut self, accepted: std::io::Result<Option<Connection>>) {
        let connection = match accepted {
            Ok(Some(connection)) => connection,
            Ok(None) => return,
            Err(_) => {
                // No descriptors are left, say: the port stays readable, and this must not turn into a busy loop.
                std::thread::sleep(Duration::from_millis(10));
                return;
            }
        };
        let number = self.next;
        self.next += 2;
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        let (client, server) = connection.ends();
        let watched = self.epoll.add(client, EpollEvent::new(flags, number));
        if watched.and_then(|()| self.epoll.add(server, EpollEvent::new(flags, number + 1))).is_ok() {
            self.connections.insert(number, connection);
            self.carry(number);
        }
    }

    fn carry(&mut self, number: u64) {
        if let Some(packets) = self.packets.get_mut(&number) {
            let door = self.doors.get(packets.door() as usize - 1);
            if let Some((Door::Udp(socket), _)) = door {
                packets.answer(socket);
            }
            return;
        }
        let Some(connection) = self.connections.get_mut(&number) else { return };
        match connection.pump() {
            More::Later => {}
            More::Now if self.ready.contains(&number) => {}
            More::Now => self.ready.push_back(number),
            More::Never => drop(self.connections.remove(&number)),
        }
    }
}

fn accept(listener: &TcpListener, inside: SocketAddr) -> std::io::Result<Option<Connection>> {
    match listener.accept() {
        Ok((client, _)) => Connection::new(client, inside).map(Some),
        Err(error) if matches!(error.raw_os_error(), Some(libc_number) if is_passing(libc_number)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether accepting failed for a reason of that one connection (accept(2)).
fn is_passing(number: i32) -> bool {
    let passing = [Errno::EAGAIN, Errno::EINTR, Errno::ECONNABORTED, Errno::EPROTO, Errno::EPERM];
    passing.contains(&Errno::from_raw(number))
}
