//! What the packet filter does for a network: no member can pretend to be another, nobody from outside gets in but by a published
//! port, and what goes out has the host's address.
//!
//! The tables of each program that uses a network are its own, and go with it. Oldest kernel: as [`Filter`].

use std::net::{IpAddr, Ipv6Addr};

use nix::errno::Errno;

use super::endpoint::Member;
use crate::netlink::route::bytes_of;
use crate::nft::expression::{
    ARP_ADDRESS, ARP_HARDWARE, DESTINATION_PORT, ETHER_SOURCE, FIRST, FIRST_BYTE, IPV4_SOURCE, IPV6_SOURCE, Is, Rule,
    padded,
};
use crate::nft::{Batch, FILTER_BRIDGE, FILTER_FORWARD, Family, Filter, NAT_IN, NAT_LOCAL, NAT_OUT};
use crate::publish::{Bound, Protocol};
use crate::subnet::Subnet;

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
const ICMPV6: u8 = 58;
const ROUTER_ADVERTISEMENT: u8 = 134;

/// Makes the tables of a network.
pub(crate) fn begin(
    filter: &mut Filter,
    table: &str,
    bridge: &str,
    subnets: &[Subnet],
    internal: bool,
) -> Result<(), Errno> {
    filter.commit(own_addresses_only(table))?;
    let made = filter.commit(inside_and_outside(table, bridge, subnets, internal));
    if made.is_err() {
        let _removed = filter.remove(Family::Bridge, table);
    }
    made
}

/// Removes them.
pub(crate) fn end(filter: &mut Filter, table: &str) {
    for family in [Family::Bridge, Family::Inet] {
        let _gone_or_going_with_the_socket = filter.remove(family, table);
    }
}

/// What comes in by the device of a member has its addresses, hardware and other, or is thrown away.
fn own_addresses_only(table: &str) -> Batch {
    // A device's name, its hardware address (rounded up to 8 bytes), an address.
    let (hardware, address) = (FIRST + 4, FIRST + 6);
    let named = || Rule::new().load_in_name(FIRST);
    let advertisement = Rule::new().holds(IPV6).of_protocol(ICMPV6).part(FIRST_BYTE, &[ROUTER_ADVERTISEMENT]);
    let rules = [
        named().in_set("members", Is::Other).accept(),
        advertisement.drop(),
        Rule::new().holds(IPV4).load_in_name(FIRST).load(hardware, ETHER_SOURCE).load(address, IPV4_SOURCE),
        Rule::new().holds(ARP).load_in_name(FIRST).load(hardware, ARP_HARDWARE).load(address, ARP_ADDRESS),
        Rule::new().holds(IPV6).load_in_name(FIRST).load(hardware, ETHER_SOURCE).load(address, IPV6_SOURCE),
    ];
    let [others, advertisement, ipv4, arp, ipv6] = rules;
    let rules = [
        others,
        advertisement,
        ipv4.in_set("ipv4", Is::This).accept(),
        arp.in_set("ipv4", Is::This).accept(),
        ipv6.in_set("ipv6", Is::This).accept(),
        Rule::new().drop(),
    ];
    let batch = Batch::new(Family::Bridge, table).set("members", 16).set("ipv4", 16 + 8 + 4).set("ipv6", 16 + 8 + 16);
    batch.chain("sources", FILTER_BRIDGE, &rules)
}

fn inside_and_outside(table: &str, bridge: &str, subnets: &[Subnet], internal: bool) -> Batch {
    let (coming, going) = (Rule::new().comes_by(bridge, Is::This), Rule::new().leaves_by(bridge, Is::This));
    let among = coming.clone().leaves_by(bridge, Is::This).accept();
    let forward = match internal {
        true => vec![among, coming.drop(), going.drop()],
        false => vec![
            among,
            going.clone().of_known_connection().accept(),
            going.clone().of_published_port().accept(),
            // A neighbour of this machine could send packets for the network here (as with engines before 2024).
            going.drop(),
        ],
    };
    let mut sources = Vec::new();
    for subnet in subnets.iter().filter(|_| !internal) {
        sources.push(Rule::new().out_of(subnet).leaves_by(bridge, Is::Other).masquerade());
        // A member that takes the way by a published port to another one: the answer has to come back here.
        sources.push(Rule::new().out_of(subnet).leaves_by(bridge, Is::This).of_published_port().masquerade());
    }
    Batch::new(Family::Inet, table).chain("forward", FILTER_FORWARD, &forward).chain("sources", NAT_OUT, &sources)
}

/// Lets a member send.
pub(crate) fn admit(filter: &mut Filter, table: &str, member: &Member) -> Result<(), Errno> {
    filter.commit(elements(table, member, Batch::add))
}

/// Forgets a member.
pub(crate) fn dismiss(filter: &mut Filter, table: &str, member: &Member) -> Result<(), Errno> {
    filter.commit(elements(table, member, Batch::delete))
}

fn elements(table: &str, member: &Member, change: impl Fn(Batch, &str, &[u8]) -> Batch) -> Batch {
    let name = padded(&member.device);
    let mut batch = change(Batch::of(Family::Bridge, table), "members", &name);
    for address in member.sources() {
        let set = if address.is_ipv4() { "ipv4" } else { "ipv6" };
        let value = [name.as_slice(), &member.hardware, &[0; 2], &bytes_of(address)].concat();
        batch = change(batch, set, &value);
    }
    batch
}

/// Leads what comes for published ports to a member. Loopback addresses are left out: packets with such an address never leave a machine
/// unless `route_localnet` is on, which would open the host's own services to its network; those ports are served by a [`Forwarder`].
///
/// [`Forwarder`]: crate::forward::Forwarder
pub(crate) fn publish(
    filter: &mut Filter,
    table: &str,
    ports: &[Bound],
    to: &dyn Fn(IpAddr) -> Option<IpAddr>,
) -> Result<bool, Errno> {
    let mut rules = Vec::new();
    for bound in ports.iter().filter(|bound| !bound.address.ip().is_loopback()) {
        let (here, publish) = (bound.address, &bound.publish);
        let Some(address) = to(here.ip()).filter(|address| address.is_ipv4() == here.is_ipv4()) else {
            continue;
        };
        let rule = match here.ip().is_unspecified() {
            true if here.is_ipv4() => Rule::new().of_family(here.ip()).for_this_machine().not_to_loopback(),
            true => Rule::new().of_family(here.ip()).for_this_machine().not_to(Ipv6Addr::LOCALHOST.into()),
            false => Rule::new().goes_to(here.ip()),
        };
        let protocol = if publish.protocol() == Protocol::Tcp { 6 } else { 17 };
        let rule = rule.of_protocol(protocol).part(DESTINATION_PORT, &here.port().to_be_bytes());
        rules.push(rule.redirect(address, publish.inside()));
    }
    if rules.is_empty() {
        return Ok(false);
    }
    filter.commit(Batch::new(Family::Inet, table).chain("in", NAT_IN, &rules).chain("local", NAT_LOCAL, &rules))?;
    Ok(true)
}
