//! One container's way into a network: its device, its addresses, its ports. The device's name on the host's side is the lease.
//!
//! It consists of the bridge's number and the address's number in the subnet, so the kernel itself lets nobody have an address twice, in
//! whichever program; and since the device goes with the container's namespace, no lease is left of a program that was killed.
//! Leaves out further devices of one container. Oldest kernel: 5.10.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::{Bridge, rules};
use crate::attachment::{Attached, Attachment};
use crate::error::{Error, ErrorKind, Result};
use crate::forward::Forwarder;
use crate::hardware::Hardware;
use crate::netlink::route::{Pair, Route};
use crate::netlink::{namespace_of, within};
use crate::publish::{self, Publish};
use crate::subnet::Subnet;

/// A container's way into a network.
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use = "it says how a container is connected, and does nothing by itself"]
pub struct Endpoint {
    bridge: Bridge,
    address: Option<IpAddr>,
    hardware: Option<Hardware>,
    rate: Option<u64>,
}

/// A container in a network, as the packet filter knows it.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) device: String,
    pub(crate) hardware: [u8; 6],
    pub(crate) addresses: Vec<IpAddr>,
}

/// The name of the device inside.
const INSIDE: &str = "eth0";
/// How long the kernel may take until a bridge passes packets to a new device of it.
const PATIENCE: Duration = Duration::from_secs(5);
/// What the alias of a member's device begins with.
const MEMBER: &str = "keelbox member";

impl Endpoint {
    pub(super) fn new(bridge: Bridge) -> Self {
        Self { bridge, address: None, hardware: None, rate: None }
    }

    /// The container's IPv4 address, or its IPv6 address in a network that has no other. Default: one that is free.
    pub fn address(mut self, address: impl Into<IpAddr>) -> Self {
        self.address = Some(address.into());
        self
    }

    /// The container's hardware address, six pairs of hexadecimal digits. Default: made from its IPv4 address.
    pub fn hardware_address(mut self, address: Hardware) -> Self {
        self.hardware = Some(address);
        self
    }

    /// The most that the container sends, and the most that it is sent, in bytes a second. Default: no limit. What it sends is limited by
    /// a discipline of its own device, so it is meant for containers without `CAP_NET_ADMIN`.
    pub fn rate(mut self, bytes: u64) -> Self {
        self.rate = Some(bytes);
        self
    }

    /// The network that it leads to.
    #[must_use]
    pub fn bridge(&self) -> &Bridge {
        &self.bridge
    }

    /// Whether what the container sends is limited.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.rate.is_some()
    }

    /// Whether it can be had, as far as that can be told before anything is made.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] for an address that is not one of the network's, or a rate of nothing.
    pub fn check(&self) -> Result<()> {
        self.wanted().map(drop)?;
        if self.rate.is_some_and(|rate| rate < 1000) {
            return Err(Error::invalid(format!("cannot limit {} to less than 1000 bytes a second", self.attempt())));
        }
        Ok(())
    }

    /// Connects the network namespace of the process `pid`, under a name that the other members find it by, with ports that it is
    /// reached by from outside.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Taken`] for an address or a port that is somebody else's, [`ErrorKind::Exhausted`] without a free address, the kernel's
    /// answer. Nothing is left behind then.
    pub fn attach(&self, pid: u32, name: Option<&str>, ports: &[Publish]) -> Result<Attachment> {
        let cannot = |errno: Errno| Error::os(format!("cannot connect the container to {}", self.attempt()), errno);
        let namespace =
            namespace_of(pid).map_err(|error| Error::os(format!("cannot open the network of process {pid}"), error))?;
        let bound = publish::bind(ports)?;
        let member = self.lease(&namespace)?;
        let mut joined = Joined { bridge: self.bridge.clone(), member, index: 0, admitted: false, table: None };
        joined.index = joined.settle(name, self.rate).map_err(cannot)?;
        joined.inside(&namespace, self.rate).map_err(cannot)?;
        joined.admit().map_err(|errno| {
            Error::os(format!("cannot filter the packets of a container in {}", self.attempt()), errno)
        })?;
        joined.wait().map_err(cannot)?;
        let addresses = joined.member.addresses.clone();
        let to = |bound: IpAddr| -> Option<IpAddr> {
            addresses
                .iter()
                .copied()
                .find(|address| address.is_ipv4() == bound.is_ipv4())
                .or(addresses.first().copied())
        };
        joined.publish(&bound, &to)?;
        let published = bound.iter().map(|bound| (bound.publish, bound.address)).collect();
        let forwarder = if bound.is_empty() { None } else { Some(Forwarder::start(bound, &to)?) };
        Ok(Attachment { addresses, published, forwarder, attached: Attached::Bridge(Box::new(joined)) })
    }

    fn attempt(&self) -> String {
        format!("the network {}", self.bridge.name())
    }

    /// The number of the address that is asked for.
    fn wanted(&self) -> Result<Option<u32>> {
        let Some(address) = self.address else { return Ok(None) };
        let subnets = &self.bridge.inner.subnets;
        let found = subnets.iter().find_map(|subnet| subnet.offset(address));
        found.filter(|offset| fits(subnets, *offset)).map(Some).ok_or_else(|| {
            Error::invalid(format!("{address} is no address that a member of {} can have", self.attempt()))
        })
    }

    /// Makes the pair of devices whose name is the lease.
    fn lease(&self, namespace: &File) -> Result<Member> {
        if let Some(offset) = self.wanted()? {
            return match self.pair(namespace, offset) {
                Ok(member) => Ok(member),
                Err(Errno::EEXIST) => {
                    let address = self.address.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
                    let why = format!("the address {address} in {} is another container's", self.attempt());
                    Err(Error::new(ErrorKind::Taken, why))
                }
                Err(errno) => Err(self.no_device(errno)),
            };
        }
        let inner = &self.bridge.inner;
        let numbers = inner.subnets.iter().map(Subnet::numbers).min_by_key(|numbers| numbers.end).unwrap_or(0..0);
        let first = inner.kernel().next.clamp(numbers.start, numbers.end);
        // A number is used again as late as possible: who still remembers it should not meet somebody else there.
        for offset in (first..numbers.end).chain(numbers.start..first) {
            match self.pair(namespace, offset) {
                Ok(member) => {
                    inner.kernel().next = offset + 1;
                    return Ok(member);
                }
                Err(Errno::EEXIST) => {}
                Err(errno) => return Err(self.no_device(errno)),
            }
        }
        let subnets: Vec<String> = inner.subnets.iter().map(ToString::to_string).collect();
        let why = format!("no address of {} is free ({})", self.attempt(), subnets.join(", "));
        Err(Error::new(ErrorKind::Exhausted, why))
    }

    fn no_device(&self, errno: Errno) -> Error {
        let error = Error::os(format!("cannot connect the container to {}", self.attempt()), errno);
        match errno {
            // BR_MAX_PORTS in the kernel.
            Errno::EXFULL => error.with_kind(ErrorKind::Exhausted).with_hint("a bridge has 1023 ports"),
            _ => error,
        }
    }

    fn pair(&self, namespace: &File, offset: u32) -> Result<Member, Errno> {
        let inner = &self.bridge.inner;
        let device = format!("kb{:x}-{offset:x}", inner.link.index);
        let addresses: Vec<IpAddr> = inner.subnets.iter().map(|subnet| subnet.address(offset)).collect();
        let hardware = match (self.hardware, addresses.first()) {
            (Some(Hardware(bytes)), _) => bytes,
            (None, Some(IpAddr::V4(address))) => {
                let [a, b, c, d] = address.octets();
                [0x02, 0x6b, a, b, c, d]
            }
            _ => [0x02, 0x6b, 0, 0, (offset >> 8) as u8, offset as u8],
        };
        let pair = Pair {
            here: &device,
            there: INSIDE,
            namespace: namespace.as_fd(),
            master: inner.link.index,
            hardware,
            mtu: inner.mtu,
        };
        inner.kernel().route.pair(&pair)?;
        Ok(Member { device, hardware, addresses })
    }
}

/// Whether a number is an address of a member in every subnet.
fn fits(subnets: &[Subnet], offset: u32) -> bool {
    subnets.iter().all(|subnet| subnet.numbers().contains(&offset))
}

impl From<&Bridge> for Endpoint {
    fn from(bridge: &Bridge) -> Self {
        bridge.endpoint()
    }
}

impl Member {
    /// What it may send from: its addresses, and those that IPv6 itself needs.
    pub(crate) fn sources(&self) -> Vec<IpAddr> {
        let mut sources = self.addresses.clone();
        if sources.iter().any(IpAddr::is_ipv6) {
            let [a, b, c, d, e, f] = self.hardware;
            let link_local = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f];
            sources.push(std::net::Ipv6Addr::from(link_local).into());
            // Asking whether an address is somebody else's.
            sources.push(std::net::Ipv6Addr::UNSPECIFIED.into());
        }
        sources
    }
}

/// What the alias of a member's device says: its name and addresses.
pub(crate) fn told(alias: &str) -> Option<(String, Vec<IpAddr>)> {
    let mut words = alias.strip_prefix(MEMBER)?.split_whitespace();
    let name = words.next()?.to_owned();
    Some((name, words.filter_map(|word| word.parse().ok()).collect()))
}

/// A container in a network, until it is dropped.
#[derive(Debug)]
pub(crate) struct Joined {
    bridge: Bridge,
    member: Member,
    /// The number of its device here; 0 before it is known.
    index: u32,
    admitted: bool,
    /// The table of its published ports.
    table: Option<String>,
}

impl Joined {
    /// The host's side: who it is, and how much it is sent.
    fn settle(&self, name: Option<&str>, rate: Option<u64>) -> Result<u32, Errno> {
        let inner = &self.bridge.inner;
        let mut kernel = inner.kernel();
        let link = kernel.route.link(&self.member.device)?.ok_or(Errno::ENODEV)?;
        let addresses: Vec<String> = self.member.addresses.iter().map(ToString::to_string).collect();
        kernel.route.alias(link.index, &format!("{MEMBER} {} {}", name.unwrap_or("-"), addresses.join(" ")))?;
        if let Some(rate) = rate {
            kernel.route.rate(link.index, rate, burst(rate))?;
        }
        Ok(link.index)
    }

    /// The container's side: addresses and ways.
    fn inside(&self, namespace: &File, rate: Option<u64>) -> Result<(), Errno> {
        let inner = &self.bridge.inner;
        let ipv6 = self.member.addresses.iter().any(IpAddr::is_ipv6);
        let open = || {
            if ipv6 {
                // The address is known to be free, and no member tells another one about ways.
                for parameter in ["accept_dad", "accept_ra"] {
                    let _not_there = std::fs::write(format!("/proc/sys/net/ipv6/conf/{INSIDE}/{parameter}"), "0");
                }
            }
            Route::here()
        };
        let mut route = within(namespace.as_fd(), open)??;
        let link = route.link(INSIDE)?.ok_or(Errno::ENODEV)?;
        if !ipv6 {
            route.quiet(link.index)?;
        }
        for (subnet, address) in inner.subnets.iter().zip(&self.member.addresses) {
            route.address(link.index, *address, subnet.prefix())?;
        }
        if let Some(rate) = rate {
            route.rate(link.index, rate, burst(rate))?;
        }
        route.switch(link.index, true)?;
        for subnet in inner.subnets.iter().filter(|_| !inner.internal) {
            route.default_route(link.index, subnet.address(1))?;
        }
        Ok(())
    }

    /// Waits until the bridge passes packets: the kernel looks for devices that have come up a moment later, and what is sent before is
    /// lost, which costs the sender a second.
    fn wait(&self) -> Result<(), Errno> {
        let begun = Instant::now();
        while !self.bridge.inner.kernel().route.passes(self.index)? {
            if begun.elapsed() > PATIENCE {
                return Err(Errno::ETIMEDOUT);
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    fn admit(&mut self) -> Result<(), Errno> {
        let inner = &self.bridge.inner;
        rules::admit(&mut inner.kernel().filter, &inner.table, &self.member)?;
        self.admitted = true;
        Ok(())
    }

    fn publish(&mut self, bound: &[publish::Bound], to: &dyn Fn(IpAddr) -> Option<IpAddr>) -> Result<()> {
        let inner = &self.bridge.inner;
        let table = format!("{}-{}", inner.table, self.member.device);
        let done = rules::publish(&mut inner.kernel().filter, &table, bound, to);
        if done.map_err(|errno| Error::os("cannot lead published ports to the container", errno))? {
            self.table = Some(table);
        }
        Ok(())
    }
}

impl Drop for Joined {
    /// What is gone already, with the container or with the tables, is no error.
    fn drop(&mut self) {
        let inner = &self.bridge.inner;
        let mut kernel = inner.kernel();
        if let Some(table) = self.table.take() {
            let _removed = kernel.filter.remove(crate::nft::Family::Inet, &table);
        }
        let index = match self.index {
            0 => kernel.route.link(&self.member.device).ok().flatten().map_or(0, |link| link.index),
            index => index,
        };
        if index != 0 {
            let _removed = kernel.route.remove(index);
        }
        if self.admitted {
            let _dismissed = rules::dismiss(&mut kernel.filter, &inner.table, &self.member);
        }
    }
}

/// How much may be sent at once: what is due in 1/20 s, and a few packets at least.
fn burst(rate: u64) -> u32 {
    (rate / 20).clamp(16 << 10, 4 << 20) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_tells_name_and_addresses() {
        let told = told("keelbox member db 10.83.0.2 fd00::2").expect("one");
        assert_eq!(told, ("db".into(), vec!["10.83.0.2".parse().expect("one"), "fd00::2".parse().expect("one")]));
        assert_eq!(super::told("keelbox network"), None);
        assert_eq!(super::told("keelbox member"), None);
    }

    #[test]
    fn ipv6_has_addresses_of_its_own() {
        let member = |addresses: &[&str]| Member {
            device: "d".into(),
            hardware: [2, 0x6b, 10, 83, 0, 2],
            addresses: addresses.iter().map(|address| address.parse().expect("one")).collect(),
        };
        assert_eq!(member(&["10.83.0.2"]).sources().len(), 1);
        let sources = member(&["10.83.0.2", "fd00::2"]).sources();
        assert!(sources.contains(&"fe80::6b:aff:fe53:2".parse().expect("one")), "{sources:?}");
    }
}
