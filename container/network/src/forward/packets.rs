//! Packets that are carried: for each sender a socket to the container, by which the answers come back. Oldest kernel: any.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// What one sender has to do with the container.
#[derive(Debug)]
pub(super) struct Packets {
    door: u64,
    sender: SocketAddr,
    socket: UdpSocket,
    used: Instant,
}

/// How long a sender is remembered that says nothing and is told nothing.
const IDLE: Duration = Duration::from_secs(60);
/// How many senders a container can have. Packets of further ones are thrown away, as networks do.
const MOST: usize = 1024;
const LONGEST: usize = 65535;

impl Packets {
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn door(&self) -> u64 {
        self.door
    }

    pub(super) fn is_idle(&self) -> bool {
        self.used.elapsed() > IDLE
    }

    /// Carries answers back.
    pub(super) fn answer(&mut self, door: &UdpSocket) {
        let mut room = [0u8; LONGEST];
        for _ in 0..64 {
            let Ok(length) = self.socket.recv(&mut room) else { return };
            let _lost = door.send_to(room.get(..length).unwrap_or_default(), self.sender);
            self.used = Instant::now();
        }
    }
}

/// Carries the packet that has arrived; what a new sender needs, under the number `next`.
pub(super) fn arrive(
    socket: &UdpSocket,
    inside: SocketAddr,
    door: u64,
    all: &mut HashMap<u64, Packets>,
    next: u64,
) -> Option<(u64, Packets)> {
    let mut room = [0u8; LONGEST];
    let (length, sender) = socket.recv_from(&mut room).ok()?;
    let packet = room.get(..length)?;
    if let Some(known) = all.values_mut().find(|packets| packets.sender == sender && packets.door == door) {
        let _lost = known.socket.send(packet);
        known.used = Instant::now();
        return None;
    }
    if all.len() >= MOST {
        return None;
    }
    let any: SocketAddr = if inside.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let own = UdpSocket::bind(any).ok()?;
    own.set_nonblocking(true).ok()?;
    own.connect(inside).ok()?;
    let _lost = own.send(packet);
    Some((next, Packets { door, sender, socket: own, used: Instant::now() }))
}
