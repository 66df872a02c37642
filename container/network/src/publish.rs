//! Published ports: what of this machine leads to which port inside. Bound at once, so that a port that is taken is told before
//! anything else is made. Oldest kernel: any.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::str::FromStr;

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind as bind_socket, listen, setsockopt, socket,
    sockopt,
};

use crate::error::{Error, ErrorKind, Result};

/// What is carried over a port.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Single packets.
    Udp,
}

/// A port of a container that is reached by an address and a port of this machine.
///
/// Written `ADDRESS:PORT:INSIDE`, `PORT:INSIDE` or `INSIDE`, with `/udp` behind it for UDP. Without an address it is `127.0.0.1`, so that
/// nobody else's machine reaches it; without a port, or with port 0, the kernel finds a free one. An IPv6 address stands in brackets.
///
/// ```
/// use keelbox_network::Publish;
/// let web: Publish = "8080:80".parse()?;
/// assert_eq!(web.to_string(), "127.0.0.1:8080:80/tcp");
/// let names: Publish = "[::]:53:5353/udp".parse()?;
/// assert_eq!(names.inside(), 5353);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Publish {
    address: IpAddr,
    port: u16,
    inside: u16,
    protocol: Protocol,
}

impl Publish {
    /// A TCP port of `127.0.0.1` that leads to the port `inside`; 0: one that is free.
    #[must_use]
    pub fn new(port: u16, inside: u16) -> Self {
        Self { address: Ipv4Addr::LOCALHOST.into(), port, inside, protocol: Protocol::Tcp }
    }

    /// The address of this machine; `0.0.0.0` or `[::]` is every one of its kind. Default: `127.0.0.1`.
    #[must_use]
    pub fn address(mut self, address: impl Into<IpAddr>) -> Self {
        self.address = address.into();
        self
    }

    /// UDP instead of TCP.
    #[must_use]
    pub fn udp(mut self) -> Self {
        self.protocol = Protocol::Udp;
        self
    }

    /// The port inside.
    #[must_use]
    pub fn inside(&self) -> u16 {
        self.inside
    }

    /// The address and port of this machine, before a free port was found.
    #[must_use]
    pub fn outside(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    /// What is carried.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }
}

impl FromStr for Publish {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parse(text).ok_or_else(|| {
            let why = format!("{text:?} publishes nothing: it is to be [ADDRESS:[PORT]:]INSIDE[/udp] or PORT:INSIDE");
            Error::invalid(why)
        })
    }
}

fn parse(text: &str) -> Option<Publish> {
    let (ports, protocol) = match text.rsplit_once('/') {
        None | Some((_, "tcp")) => (text.strip_suffix("/tcp").unwrap_or(text), Protocol::Tcp),
        Some((ports, "udp")) => (ports, Protocol::Udp),
        Some(_) => return None,
    };
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u16>().ok())?;
    let (rest, inside) = match ports.rsplit_once(':') {
        Some((rest, inside)) => (Some(rest), number(inside)?),
        None => (None, number(ports)?),
    };
    let (address, port) = match rest {
        None => (None, 0),
        Some(rest) => match rest.rsplit_once(':') {
            None => (None, number(rest)?),
            Some((address, "")) => (Some(address), 0),
            Some((address, port)) => (Some(address), number(port)?),
        },
    };
    let address = match address {
        None => Ipv4Addr::LOCALHOST.into(),
        Some(address) => match address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(address) => IpAddr::V6(address.parse().ok()?),
            None => IpAddr::V4(address.parse().ok()?),
        },
    };
    (inside != 0).then_some(Publish { address, port, inside, protocol })
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = if self.protocol == Protocol::Tcp { "tcp" } else { "udp" };
        write!(f, "{}:{}/{protocol}", self.outside(), self.inside)
    }
}

/// A published port that is this program's.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) publish: Publish,
    /// With the port that was found.
    pub(crate) address: SocketAddr,
    pub(crate) socket: Door,
}

#[derive(Debug)]
pub(crate) enum Door {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

/// Takes all ports, or none.
pub(crate) fn bind(ports: &[Publish]) -> Result<Vec<Bound>> {
    ports.iter().map(one).collect()
}

fn one(publish: &Publish) -> Result<Bound> {
    let outside = publish.outside();
    let cannot = |error: std::io::Error| {
        let taken = error.kind() == std::io::ErrorKind::AddrInUse;
        let missing = error.kind() == std::io::ErrorKind::AddrNotAvailable;
        let error = Error::os(format!("cannot publish {publish}"), error);
        match (taken, missing) {
            (true, _) => error.with_hint("another program or container has this port"),
            (_, true) => error.with_kind(ErrorKind::NotFound).with_hint("this machine has no such address"),
            _ => error,
        }
    };
    let open = || -> std::io::Result<(Door, SocketAddr)> {
        let family = if outside.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let kind = if publish.protocol == Protocol::Tcp { SockType::Stream } else { SockType::Datagram };
        let opened = socket(family, kind, flags, None)?;
        if publish.protocol == Protocol::Tcp {
            setsockopt(&opened, sockopt::ReuseAddr, &true)?;
        }
        if outside.is_ipv6() {
            // `[::]` is every address of IPv6 and no other.
            setsockopt(&opened, sockopt::Ipv6V6Only, &true)?;
        }
        bind_socket(opened.as_raw_fd(), &SockaddrStorage::from(outside))?;
        if publish.protocol == Protocol::Udp {
            let opened = UdpSocket::from(opened);
            let address = opened.local_addr()?;
            return Ok((Door::Udp(opened), address));
        }
        listen(&opened, Backlog::new(1024)?)?;
        let opened = TcpListener::from(opened);
        let address = opened.local_addr()?;
        Ok((Door::Tcp(opened), address))
    };
    let (socket, address) = open().map_err(cannot)?;
    Ok(Bound { publish: *publish, address, socket })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_meant() {
        let cases = [
            ("80", "127.0.0.1:0:80/tcp"),
            ("8080:80", "127.0.0.1:8080:80/tcp"),
            ("8080:80/udp", "127.0.0.1:8080:80/udp"),
            ("0.0.0.0:8080:80/tcp", "0.0.0.0:8080:80/tcp"),
            ("127.0.0.2::80", "127.0.0.2:0:80/tcp"),
            ("[::1]:8080:80", "[::1]:8080:80/tcp"),
        ];
        for (text, meant) in cases {
            assert_eq!(text.parse::<Publish>().expect(text).to_string(), meant);
        }
        let wrong = [
            "",
            ":",
            "80:",
            ":80",
            "a:80",
            "0",
            "8080:0",
            "1:2:3",
            "::1:80:80",
            "70000:80",
            "80/sctp",
            "+80",
            "x:1:2",
            "1.2.3.4:80",
        ];
        for text in wrong {
            assert!(text.parse::<Publish>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_port_that_is_taken_is_named() {
        let holder = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = holder.local_addr().expect("its address").port();
        let error = bind(&[Publish::new(0, 80), Publish::new(port, 80)]).expect_err("taken");
        assert_eq!(error.kind(), ErrorKind::Taken);
        assert_eq!(error.to_string(), format!("cannot publish 127.0.0.1:{port}:80/tcp"));
    }
}
