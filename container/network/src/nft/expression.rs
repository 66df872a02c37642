//! Rules of packet filters as the expressions that the kernel evaluates one after another. Pure.
//!
//! Values are put into registers of 4 bytes, numbered from 8 on; values side by side make a longer one.

use std::net::IpAddr;

use crate::netlink::Body;
use crate::netlink::route::bytes_of;
use crate::subnet::Subnet;

/// What is asked about a packet and done with it, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rule(Vec<(&'static str, Body)>);

/// The first register of 4 bytes (`NFT_REG32_00`).
pub(crate) const FIRST: u32 = 8;
const EQUAL: u32 = 0;
const DIFFERENT: u32 = 1;

/// What a comparison is to find.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Is {
    /// The value.
    This,
    /// Any other.
    Other,
}

/// A part of a packet: from which header on (`enum nft_payload_bases`), the offset, the length.
pub(crate) type Place = (u32, u32, u32);

pub(crate) const ETHER_SOURCE: Place = (0, 6, 6);
pub(crate) const IPV4_SOURCE: Place = (1, 12, 4);
pub(crate) const IPV4_DESTINATION: Place = (1, 16, 4);
pub(crate) const IPV6_SOURCE: Place = (1, 8, 16);
pub(crate) const IPV6_DESTINATION: Place = (1, 24, 16);
pub(crate) const ARP_HARDWARE: Place = (1, 8, 6);
pub(crate) const ARP_ADDRESS: Place = (1, 14, 4);
pub(crate) const FIRST_BYTE: Place = (2, 0, 1);
pub(crate) const DESTINATION_PORT: Place = (2, 2, 2);

/// `enum nft_meta_keys`.
const PROTOCOL: u32 = 1;
const IN_NAME: u32 = 6;
const OUT_NAME: u32 = 7;
const NETWORK_PROTOCOL: u32 = 15;
const TRANSPORT_PROTOCOL: u32 = 16;

const STATE: u32 = 0;
const STATUS: u32 = 2;

impl Rule {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The expressions as a list of attributes.
    pub(super) fn list(&self) -> Body {
        self.0.iter().fold(Body::default(), |list, (name, data)| {
            list.nest(1, Body::default().text(1, name).nest(2, data.clone()))
        })
    }

    fn with(mut self, name: &'static str, data: Body) -> Self {
        self.0.push((name, data));
        self
    }

    /// Loads a part of the packet.
    pub(crate) fn load(self, register: u32, place: Place) -> Self {
        let (base, offset, length) = place;
        self.with("payload", Body::default().big(1, register).big(2, base).big(3, offset).big(4, length))
    }

    /// Loads the name of the device that the packet came in by.
    pub(crate) fn load_in_name(self, register: u32) -> Self {
        self.meta(register, IN_NAME)
    }

    fn meta(self, register: u32, key: u32) -> Self {
        self.with("meta", Body::default().big(1, register).big(2, key))
    }

    fn compare(self, register: u32, operator: u32, value: &[u8]) -> Self {
        let data = Body::default().put(1, value);
        self.with("cmp", Body::default().big(1, register).big(2, operator).nest(3, data))
    }

    fn masked(self, register: u32, mask: &[u8]) -> Self {
        let data = |bytes: &[u8]| Body::default().put(1, bytes);
        let body = Body::default().big(1, register).big(2, register).big(3, mask.len() as u32);
        self.with("bitwise", body.nest(4, data(mask)).nest(5, data(&vec![0; mask.len()])))
    }

    /// Goes on if the value from the first register on is in a set, or is not.
    pub(crate) fn in_set(self, set: &str, found: Is) -> Self {
        let inverted = if found == Is::This { 0 } else { 1 };
        self.with("lookup", Body::default().text(1, set).big(2, FIRST).big(5, inverted))
    }

    /// Goes on if a part of the packet is this.
    pub(crate) fn part(self, place: Place, value: &[u8]) -> Self {
        self.load(FIRST, place).compare(FIRST, EQUAL, value)
    }

    /// Goes on if the packet came in by this device, or did not.
    pub(crate) fn comes_by(self, device: &str, is: Is) -> Self {
        self.meta(FIRST, IN_NAME).compare(FIRST, operator(is), &padded(device))
    }

    /// Goes on if the packet leaves by this device, or does not.
    pub(crate) fn leaves_by(self, device: &str, is: Is) -> Self {
        self.meta(FIRST, OUT_NAME).compare(FIRST, operator(is), &padded(device))
    }

    /// Goes on if the frame holds this (`ETH_P_*`).
    pub(crate) fn holds(self, protocol: u16) -> Self {
        self.meta(FIRST, PROTOCOL).compare(FIRST, EQUAL, &protocol.to_be_bytes())
    }

    /// Goes on if the packet is of the family of `address`.
    pub(crate) fn of_family(self, address: IpAddr) -> Self {
        const V4: u8 = 2;
        const V6: u8 = 10;
        self.meta(FIRST, NETWORK_PROTOCOL).compare(FIRST, EQUAL, &[if address.is_ipv4() { V4 } else { V6 }])
    }

    /// Goes on if the packet is of this protocol (`IPPROTO_*`).
    pub(crate) fn of_protocol(self, protocol: u8) -> Self {
        self.meta(FIRST, TRANSPORT_PROTOCOL).compare(FIRST, EQUAL, &[protocol])
    }

    /// Goes on if the packet comes from the subnet.
    pub(crate) fn out_of(self, subnet: &Subnet) -> Self {
        let place = if subnet.base().is_ipv4() { IPV4_SOURCE } else { IPV6_SOURCE };
        self.of_family(subnet.base()).within(place, subnet, Is::This)
    }

    /// Goes on if the packet goes to this address.
    pub(crate) fn goes_to(self, address: IpAddr) -> Self {
        let place = if address.is_ipv4() { IPV4_DESTINATION } else { IPV6_DESTINATION };
        self.of_family(address).part(place, &bytes_of(address))
    }

    /// Goes on if the packet goes to any other address than this.
    pub(crate) fn not_to(self, address: IpAddr) -> Self {
        let place = if address.is_ipv4() { IPV4_DESTINATION } else { IPV6_DESTINATION };
        self.load(FIRST, place).compare(FIRST, DIFFERENT, &bytes_of(address))
    }

    /// Goes on if the packet does not go to the loopback addresses of IPv4.
    pub(crate) fn not_to_loopback(self) -> Self {
        self.load(FIRST, IPV4_DESTINATION).masked(FIRST, &[255, 0, 0, 0]).compare(FIRST, DIFFERENT, &[127, 0, 0, 0])
    }

    fn within(self, place: Place, subnet: &Subnet, is: Is) -> Self {
        let base = bytes_of(subnet.base());
        let bits = |at: usize| (usize::from(subnet.prefix())).saturating_sub(at * 8).min(8);
        let mask: Vec<u8> = (0..base.len()).map(|at| (0xff00u32 >> bits(at)) as u8).collect();
        self.load(FIRST, place).masked(FIRST, &mask).compare(FIRST, operator(is), &base)
    }

    /// Goes on if the packet goes to an address of this machine.
    pub(crate) fn for_this_machine(self) -> Self {
        const TYPE: u32 = 3;
        const BY_DESTINATION: u32 = 2;
        const LOCAL: u32 = 2;
        let fib = Body::default().big(1, FIRST).big(2, TYPE).big(3, BY_DESTINATION);
        self.with("fib", fib).compare(FIRST, EQUAL, &LOCAL.to_ne_bytes())
    }

    /// Goes on if the packet belongs to a connection that is known, or is about one.
    pub(crate) fn of_known_connection(self) -> Self {
        const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
        self.connection(STATE, ESTABLISHED_OR_RELATED)
    }

    /// Goes on if the packet's destination was replaced: it came by a published port.
    pub(crate) fn of_published_port(self) -> Self {
        const DESTINATION_REPLACED: u32 = 1 << 5;
        self.connection(STATUS, DESTINATION_REPLACED)
    }

    fn connection(self, key: u32, bits: u32) -> Self {
        let loaded = self.with("ct", Body::default().big(1, FIRST).big(2, key));
        loaded.masked(FIRST, &bits.to_ne_bytes()).compare(FIRST, DIFFERENT, &[0; 4])
    }

    /// Lets the packet pass this chain.
    pub(crate) fn accept(self) -> Self {
        self.verdict(1)
    }

    /// Throws the packet away.
    pub(crate) fn drop(self) -> Self {
        self.verdict(0)
    }

    fn verdict(self, code: u32) -> Self {
        let verdict = Body::default().nest(2, Body::default().big(1, code));
        self.with("immediate", Body::default().big(1, 0).nest(2, verdict))
    }

    /// Replaces the source by the address of the device that the packet leaves by.
    pub(crate) fn masquerade(self) -> Self {
        self.with("masq", Body::default())
    }

    /// Replaces the destination.
    pub(crate) fn redirect(self, address: IpAddr, port: u16) -> Self {
        const DESTINATION: u32 = 1;
        let family: u32 = if address.is_ipv4() { 2 } else { 10 };
        let (at, behind) = (FIRST, FIRST + 4);
        let value = |bytes: &[u8]| Body::default().put(1, bytes);
        let immediate = |register: u32, bytes: &[u8]| Body::default().big(1, register).nest(2, value(bytes));
        let nat = Body::default().big(1, DESTINATION).big(2, family).big(3, at).big(5, behind);
        self.with("immediate", immediate(at, &bytes_of(address)))
            .with("immediate", immediate(behind, &port.to_be_bytes()))
            .with("nat", nat)
    }
}

fn operator(is: Is) -> u32 {
    if is == Is::This { EQUAL } else { DIFFERENT }
}

/// The name of a device as it lies in registers: 16 bytes.
pub(crate) fn padded(device: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(device.bytes().take(15)) {
        *to = from;
    }
    bytes
}
