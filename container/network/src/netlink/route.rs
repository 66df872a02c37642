//! Network devices, addresses, routes and rates: rtnetlink(7).
//!
//! Leaves out policy routing, neighbours and everything of the kernel's that containers do not need. Oldest kernel: 5.10.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

use super::{ACKNOWLEDGE, Body, CREATE, DUMP, EXCLUSIVE, Part, Socket, attributes, number, text_of};
use crate::subnet::Subnet;

/// Requests and answers of `linux/rtnetlink.h`.
const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;
const NEW_DISCIPLINE: u16 = 36;

/// Attributes of `linux/if_link.h`.
const ADDRESS: u16 = 1;
const NAME: u16 = 3;
const MTU: u16 = 4;
const BELOW: u16 = 5;
const MASTER: u16 = 10;
const INFO: u16 = 18;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const ALIAS: u16 = 20;
const FAMILIES: u16 = 26;
const NAMESPACE: u16 = 28;
const PEER: u16 = 1;
const MACVLAN_MODE: u16 = 1;
const GENERATION: u16 = 8;
const INET6: u16 = 10;

const UP: u32 = 1;
const NO_DUPLICATES: u8 = 2;
const PERMANENT: u32 = 0x80;
const GLOBAL: u8 = 0;

/// Attributes of `linux/if_addr.h`.
const ADDRESS_PEER: u16 = 1;
const ADDRESS_LOCAL: u16 = 2;
const ADDRESS_LABEL: u16 = 3;
const ADDRESS_CACHE: u16 = 6;
const ADDRESS_FLAGS: u16 = 8;

/// A network device, by what identifies it in its namespace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) up: bool,
    pub(crate) name: String,
    /// `bridge`, `veth`, …; empty for a physical device.
    pub(crate) kind: String,
    pub(crate) alias: String,
    pub(crate) master: Option<u32>,
}

/// An address of a device, ready to be given to another.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Held {
    /// Family, length of the prefix, flags, scope: the beginning of `ifaddrmsg`.
    head: [u8; 4],
    attributes: Vec<u8>,
}

/// The end of a pair of devices that is born in another namespace, and the one that stays.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair<'a> {
    pub(crate) here: &'a str,
    pub(crate) there: &'a str,
    pub(crate) namespace: BorrowedFd<'a>,
    pub(crate) master: u32,
    pub(crate) hardware: [u8; 6],
    pub(crate) mtu: Option<u32>,
}

/// How devices on one physical device see each other (`enum macvlan_mode`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Macvlan<'a> {
    pub(crate) name: &'a str,
    pub(crate) below: u32,
    pub(crate) mode: u32,
    pub(crate) namespace: BorrowedFd<'a>,
    pub(crate) hardware: Option<[u8; 6]>,
    pub(crate) mtu: Option<u32>,
}

/// What a caller wants of the kernel's devices.
#[derive(Debug)]
pub(crate) struct Route(Socket);

impl Route {
    /// About the calling thread's namespace.
    pub(crate) fn here() -> Result<Self, Errno> {
        Socket::here(Part::Route).map(Self)
    }

    /// About the namespace behind a descriptor.
    pub(crate) fn inside(network: BorrowedFd<'_>) -> Result<Self, Errno> {
        Socket::inside(network, Part::Route).map(Self)
    }

    /// The device of this name; nothing if there is none.
    pub(crate) fn link(&mut self, name: &str) -> Result<Option<Link>, Errno> {
        match self.0.ask(GET_LINK, ACKNOWLEDGE, &link_body(0, 0, 0).text(NAME, name)) {
            Ok(answers) => Ok(answers.iter().find(|(kind, _)| *kind == NEW_LINK).and_then(|(_, body)| link(body))),
            Err(Errno::ENODEV) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// All devices whose master is `master`.
    pub(crate) fn ports(&mut self, master: u32) -> Result<Vec<Link>, Errno> {
        // The kernel leaves the others out, which makes this cheap on machines with many devices.
        let answers = self.0.ask(GET_LINK, DUMP, &link_body(0, 0, 0).word(MASTER, master))?;
        let links = answers.iter().filter_map(|(_, body)| link(body));
        Ok(links.filter(|link| link.master == Some(master)).collect())
    }

    /// Whether a bridge passes packets on to this device of it: not before the kernel has seen that both its ends are up.
    pub(crate) fn passes(&mut self, index: u32) -> Result<bool, Errno> {
        const PORT: u16 = 5;
        const STATE: u16 = 1;
        const FORWARDING: u8 = 3;
        let answers = self.0.ask(GET_LINK, ACKNOWLEDGE, &link_body(index, 0, 0))?;
        let inside = |bytes: &[u8], wanted: u16| {
            attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value.to_vec())
        };
        let state = |body: &[u8]| inside(&inside(&inside(body.get(16..)?, INFO)?, PORT)?, STATE)?.first().copied();
        Ok(answers.iter().any(|(_, body)| state(body) == Some(FORWARDING)))
    }

    /// Makes a bridge, which is down.
    pub(crate) fn bridge(&mut self, name: &str, mtu: Option<u32>) -> Result<(), Errno> {
        let body = link_body(0, 0, 0).text(NAME, name).nest(INFO, Body::new(&[]).text(INFO_KIND, "bridge"));
        let body = body.when(mtu.is_some(), |body| body.word(MTU, mtu.unwrap_or(1500)));
        self.0.ask(NEW_LINK, ACKNOWLEDGE | CREATE | EXCLUSIVE, &body).map(drop)
    }

    /// Makes two devices that are connected: one here, below a bridge and up, and one in another namespace, which is down.
    pub(crate) fn pair(&mut self, pair: &Pair<'_>) -> Result<(), Errno> {
        let mtu = |body: Body| body.when(pair.mtu.is_some(), |body| body.word(MTU, pair.mtu.unwrap_or(1500)));
        let peer = link_body(0, 0, 0).text(NAME, pair.there).put(ADDRESS, &pair.hardware);
        let peer = mtu(peer).put(NAMESPACE, &pair.namespace.as_raw_fd().to_ne_bytes());
        let data = Body::new(&[]).headed(PEER, peer);
        let info = Body::new(&[]).text(INFO_KIND, "veth").nest(INFO_DATA, data);
        let body = mtu(link_body(0, UP, UP).text(NAME, pair.here)).word(MASTER, pair.master);
        let body = body.nest(INFO, info);
        self.0.ask(NEW_LINK, ACKNOWLEDGE | CREATE | EXCLUSIVE, &body).map(drop)
    }

    /// Makes a device on another one, in another namespace.
    pub(crate) fn macvlan(&mut self, wanted: &Macvlan<'_>) -> Result<(), Errno> {
        let data = Body::new(&[]).word(MACVLAN_MODE, wanted.mode);
        let info = Body::new(&[]).text(INFO_KIND, "macvlan").nest(INFO_DATA, data);
        let body = link_body(0, 0, 0).text(NAME, wanted.name).word(BELOW, wanted.below);
        let body = body.put(NAMESPACE, &wanted.namespace.as_raw_fd().to_ne_bytes());
        let body = body.when(wanted.hardware.is_some(), |body| body.put(ADDRESS, &wanted.hardware.unwrap_or_default()));
        let body = body.when(wanted.mtu.is_some(), |body| body.word(MTU, wanted.mtu.unwrap_or(1500)));
        self.0.ask(NEW_LINK, ACKNOWLEDGE | CREATE | EXCLUSIVE, &body.nest(INFO, info)).map(drop)
    }

    /// Removes a device; one that is gone already is no error.
    pub(crate) fn remove(&mut self, index: u32) -> Result<(), Errno> {
        match self.0.ask(DELETE_LINK, ACKNOWLEDGE, &link_body(index, 0, 0)) {
            Err(Errno::ENODEV) | Ok(_) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Starts or stops a device.
    pub(crate) fn switch(&mut self, index: u32, up: bool) -> Result<(), Errno> {
        let body = link_body(index, if up { UP } else { 0 }, UP);
        self.0.ask(NEW_LINK, ACKNOWLEDGE, &body).map(drop)
    }

    /// Keeps a device that is down from giving itself a link-local IPv6 address once it is up.
    pub(crate) fn quiet(&mut self, index: u32) -> Result<(), Errno> {
        const NOT_AT_ALL: u8 = 1;
        let generation = Body::new(&[]).nest(INET6, Body::new(&[]).put(GENERATION, &[NOT_AT_ALL]));
        match self.0.ask(NEW_LINK, ACKNOWLEDGE, &link_body(index, 0, 0).nest(FAMILIES, generation)) {
            // A kernel without IPv6, or with IPv6 off.
            Ok(_) | Err(Errno::EAFNOSUPPORT | Errno::EINVAL) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Gives a device another name; the kernel finds a number for `%d`.
    pub(crate) fn rename(&mut self, index: u32, name: &str) -> Result<(), Errno> {
        self.0.ask(NEW_LINK, ACKNOWLEDGE, &link_body(index, 0, 0).text(NAME, name)).map(drop)
    }

    /// Writes down with a device what it is for, at most 255 bytes.
    pub(crate) fn alias(&mut self, index: u32, alias: &str) -> Result<(), Errno> {
        // Without the byte that ends a text: the kernel would count it.
        self.0.ask(NEW_LINK, ACKNOWLEDGE, &link_body(index, 0, 0).put(ALIAS, alias.as_bytes())).map(drop)
    }

    /// Moves a device into another namespace, under a name that nothing there has.
    pub(crate) fn give(&mut self, index: u32, to: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
        let body = link_body(index, 0, 0).text(NAME, name).put(NAMESPACE, &to.as_raw_fd().to_ne_bytes());
        self.0.ask(NEW_LINK, ACKNOWLEDGE, &body).map(drop)
    }

    /// The addresses of a device that are there to stay and mean the same everywhere.
    pub(crate) fn held(&mut self, index: u32) -> Result<Vec<Held>, Errno> {
        let answers = self.0.ask(GET_ADDRESS, DUMP, &Body::new(&[0; 8]))?;
        Ok(answers.iter().filter(|(kind, _)| *kind == NEW_ADDRESS).filter_map(|(_, body)| held(body, index)).collect())
    }

    /// Gives a device an address that another one held, unless it has it.
    pub(crate) fn hold(&mut self, index: u32, address: &Held) -> Result<(), Errno> {
        let body = Body::new(&[address.head.as_slice(), &index.to_ne_bytes(), &address.attributes].concat());
        match self.0.ask(NEW_ADDRESS, ACKNOWLEDGE | CREATE | EXCLUSIVE, &body) {
            Ok(_) | Err(Errno::EEXIST) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Gives a device an address. No other machine is asked whether it has it: the kernel's own names say so.
    pub(crate) fn address(&mut self, index: u32, address: IpAddr, prefix: u8) -> Result<(), Errno> {
        let flags = if address.is_ipv6() { NO_DUPLICATES } else { 0 };
        let head = [[family(address), prefix, flags, GLOBAL], index.to_ne_bytes()].concat();
        let bytes = bytes_of(address);
        let body = Body::new(&head).put(ADDRESS_LOCAL, &bytes).put(ADDRESS_PEER, &bytes);
        self.0.ask(NEW_ADDRESS, ACKNOWLEDGE | CREATE | EXCLUSIVE, &body).map(drop)
    }

    /// The addresses of a device, with the length of their prefixes.
    pub(crate) fn addresses(&mut self, index: u32) -> Result<Vec<(IpAddr, u8)>, Errno> {
        let answers = self.0.ask(GET_ADDRESS, DUMP, &Body::new(&[0; 8]))?;
        let one = |body: &[u8]| {
            let (head, rest) = body.split_at_checked(8)?;
            let [_, prefix, _, scope, owner @ ..] = head else { return None };
            let mine = number(owner)? == index && *scope == GLOBAL;
            let wanted = |wanted: u16| attributes(rest).find(|(kind, _)| *kind == wanted);
            let (_, value) = wanted(ADDRESS_LOCAL).or_else(|| wanted(ADDRESS_PEER))?;
            Some((address_of(value)?, *prefix)).filter(|_| mine)
        };
        Ok(answers.iter().filter_map(|(_, body)| one(body)).collect())
    }

    /// Sends what has no other way by `gateway`.
    pub(crate) fn default_route(&mut self, index: u32, gateway: IpAddr) -> Result<(), Errno> {
        const GATEWAY: u16 = 5;
        const OUT: u16 = 4;
        let body = route_body(family(gateway)).put(GATEWAY, &bytes_of(gateway)).word(OUT, index);
        self.0.ask(NEW_ROUTE, ACKNOWLEDGE | CREATE, &body).map(drop)
    }

    /// The networks that this machine has a way to, but for the default one.
    pub(crate) fn networks(&mut self) -> Result<Vec<Subnet>, Errno> {
        const DESTINATION: u16 = 1;
        let answers = self.0.ask(GET_ROUTE, DUMP, &Body::new(&[0; 12]))?;
        let one = |body: &[u8]| {
            let (head, rest) = body.split_at_checked(12)?;
            let (_, value) = attributes(rest).find(|(kind, _)| *kind == DESTINATION)?;
            Subnet::new(address_of(value)?, *head.get(1)?).ok()
        };
        Ok(answers.iter().filter_map(|(_, body)| one(body)).collect())
    }

    /// Limits what a device sends to `rate` bytes a second (tc-tbf(8)), in bursts of at most `burst` bytes.
    pub(crate) fn rate(&mut self, index: u32, rate: u64, burst: u32) -> Result<(), Errno> {
        const KIND: u16 = 1;
        const OPTIONS: u16 = 2;
        // struct tc_tbf_qopt: two struct tc_ratespec, limit, buffer, mtu. `buffer` is in units of 64 ns.
        let ticks = u128::from(burst) * 1_000_000_000 / 64 / u128::from(rate.max(1));
        let ticks = u32::try_from(ticks).unwrap_or(u32::MAX);
        let short = u32::try_from(rate).unwrap_or(u32::MAX);
        // cell_log, linklayer (Ethernet), overhead, cell_align, mpu, rate.
        let specification = [[0, 1, 0, 0, 0xff, 0xff, 0, 0], {
            let [a, b, c, d] = short.to_ne_bytes();
            [a, b, c, d, 0, 0, 0, 0]
        }];
        let specification = &specification.concat()[..12];
        let waiting = (rate / 20).clamp(u64::from(burst), 16 << 20) as u32;
        let numbers = [waiting.to_ne_bytes(), ticks.to_ne_bytes(), [0; 4]].concat();
        let parameters = [specification, &[0; 12], &numbers].concat();
        const PARAMETERS: u16 = 1;
        const RATE64: u16 = 4;
        const BURST: u16 = 6;
        let options = Body::new(&[]).put(PARAMETERS, &parameters).word(BURST, burst);
        let options = options.when(rate > u64::from(u32::MAX), |body| body.put(RATE64, &rate.to_ne_bytes()));
        const ROOT: u32 = 0xffff_ffff;
        let head = [[0; 4], index.to_ne_bytes(), 0x0001_0000u32.to_ne_bytes(), ROOT.to_ne_bytes(), [0; 4]].concat();
        let body = Body::new(&head).text(KIND, "tbf").nest(OPTIONS, options);
        self.0.ask(NEW_DISCIPLINE, ACKNOWLEDGE | CREATE | EXCLUSIVE, &body).map(drop)
    }
}

/// `ifinfomsg`: flags and which of them are to change.
fn link_body(index: u32, flags: u32, change: u32) -> Body {
    Body::new(&[[0; 4], index.to_ne_bytes(), flags.to_ne_bytes(), change.to_ne_bytes()].concat())
}

/// `rtmsg` of a default route in the main table, made by an administrator.
fn route_body(family: u8) -> Body {
    const MAIN: u8 = 254;
    const STATIC: u8 = 4;
    const UNICAST: u8 = 1;
    Body::new(&[family, 0, 0, 0, MAIN, STATIC, GLOBAL, UNICAST, 0, 0, 0, 0])
}

pub(crate) fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { 2 } else { 10 }
}

pub(crate) fn bytes_of(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn address_of(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => value.first_chunk::<4>().map(|bytes| Ipv4Addr::from(*bytes).into()),
        16 => value.first_chunk::<16>().map(|bytes| Ipv6Addr::from(*bytes).into()),
        _ => None,
    }
}

fn link(body: &[u8]) -> Option<Link> {
    let (head, rest) = body.split_at_checked(16)?;
    let word = |at: usize| head.get(at..).and_then(number);
    let mut link = Link {
        index: word(4)?,
        up: word(8)? & UP != 0,
        name: String::new(),
        kind: String::new(),
        alias: String::new(),
        master: None,
    };
    for (kind, value) in attributes(rest) {
        match kind {
            NAME => link.name = text_of(value),
            ALIAS => link.alias = text_of(value),
            MASTER => link.master = number(value),
            INFO => {
                let named = attributes(value).find(|(kind, _)| *kind == INFO_KIND);
                link.kind = named.map(|(_, value)| text_of(value)).unwrap_or_default();
            }
            _ => {}
        }
    }
    Some(link)
}

/// An address of the device `of`, if it is one to be kept. Its label is the device's name, which may become another.
fn held(body: &[u8], of: u32) -> Option<Held> {
    let (head, rest) = body.split_first_chunk::<4>()?;
    let (index, rest) = rest.split_first_chunk::<4>()?;
    let [_, _, flags, scope] = *head;
    let long = attributes(rest).find(|(kind, _)| *kind == ADDRESS_FLAGS).and_then(|(_, value)| number(value));
    let stays = long.unwrap_or(u32::from(flags)) & PERMANENT != 0;
    let kept = attributes(rest).filter(|(kind, _)| !matches!(*kind, ADDRESS_LABEL | ADDRESS_CACHE));
    let attributes = kept.fold(Body::default(), |body, (kind, value)| body.put(kind, value));
    let found = Held { head: *head, attributes: attributes.bytes().to_vec() };
    (u32::from_ne_bytes(*index) == of && scope == GLOBAL && stays).then_some(found)
}
