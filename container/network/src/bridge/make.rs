//! Makes a bridge or joins one: which subnet it gets, whether this machine forwards packets, what a crash has left.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use nix::errno::Errno;

use super::lock::Locks;
use super::{Bridge, Inner, Kernel, NewBridge, rules};
use crate::error::{Error, ErrorKind, Result};
use crate::names::Responder;
use crate::netlink::route::{Link, Route};
use crate::nft::{Family, Filter};
use crate::subnet::Subnet;

/// What a bridge of ours says of itself.
const OURS: &str = "keelbox network";
const OURS_INTERNAL: &str = "keelbox internal network";
/// What our tables' names begin with.
const TABLE: &str = "keelbox";

pub(super) fn create(new: NewBridge) -> Result<Bridge> {
    check(&new)?;
    let cannot = |errno: Errno| Error::os(attempt(&new.name), errno);
    let mut route = Route::here().map_err(cannot)?;
    let mut filter = Filter::here().map_err(cannot)?;
    if !new.internal {
        forwards(&new)?;
    }
    let locks = Locks::open(&new.state)?;
    let _turn = locks.turn()?;
    let using = locks.use_of(&new.name)?;
    sweep(&locks, &mut route, &mut filter);
    let mut undo = Undo { made: None, using: Some(using), route: &mut route, joined: false };
    let (link, subnets) = undo.link(&new)?;
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let table = format!("{TABLE}-{}-{}-{number}", new.name, std::process::id());
    let filtered = rules::begin(&mut filter, &table, &new.name, &subnets, new.internal);
    filtered.map_err(|errno| unfiltered(&new.name, errno))?;
    let names = match (new.names, subnets.first()) {
        (true, Some(subnet)) => Responder::start(link.index, &new.name, subnet.address(1), new.internal).map(Some),
        _ => Ok(None),
    };
    let names = names.inspect_err(|_| rules::end(&mut filter, &table))?;
    let Some(using) = undo.using.take() else { return Err(cannot(Errno::EPROTO)) };
    undo.made = None;
    drop(undo);
    let kernel = Mutex::new(Kernel { route, filter, next: 0 });
    let (internal, mtu, using) = (new.internal, new.mtu, Mutex::new(using));
    Ok(Bridge { inner: Arc::new(Inner { link, subnets, internal, names, mtu, table, kernel, locks, using }) })
}

/// What has been made, and goes unless the network comes about.
struct Undo<'r> {
    made: Option<u32>,
    using: Option<super::lock::Use>,
    route: &'r mut Route,
    joined: bool,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        let using = self.using.take();
        if self.joined {
            // Its file stays: the next one that makes a network looks whether anybody uses this one.
            return;
        }
        if let Some(index) = self.made {
            let _removed = self.route.remove(index);
        }
        using.map(|mut using| using.end());
    }
}

impl Undo<'_> {
    /// The bridge, made or found, and its subnets.
    fn link(&mut self, new: &NewBridge) -> Result<(Link, Vec<Subnet>)> {
        let cannot = |errno: Errno| Error::os(attempt(&new.name), errno);
        if let Some(link) = self.route.link(&new.name).map_err(cannot)? {
            self.joined = true;
            let subnets = self.join(new, &link)?;
            return Ok((link, subnets));
        }
        let subnets = self.subnets(new)?;
        self.route.bridge(&new.name, new.mtu).map_err(cannot)?;
        let link = self.route.link(&new.name).map_err(cannot)?.ok_or_else(|| cannot(Errno::ENODEV))?;
        self.made = Some(link.index);
        self.route.alias(link.index, if new.internal { OURS_INTERNAL } else { OURS }).map_err(cannot)?;
        self.route.quiet(link.index).map_err(cannot)?;
        for subnet in &subnets {
            let address = subnet.address(1);
            let given = self.route.address(link.index, address, subnet.prefix());
            given.map_err(|errno| {
                Error::os(format!("cannot give the network {} the address {address}", new.name), errno)
            })?;
        }
        self.route.switch(link.index, true).map_err(cannot)?;
        Ok((link, subnets))
    }

    /// The subnets of a network that is there, if it is what is wanted.
    fn join(&mut self, new: &NewBridge, link: &Link) -> Result<Vec<Subnet>> {
        let refuse = |why: String| Err(Error::new(ErrorKind::Taken, format!("{}: {why}", attempt(&new.name))));
        if link.kind != "bridge" || !link.alias.starts_with(TABLE) {
            return refuse("there is a network device of this name, which is something else".into());
        }
        if (link.alias == OURS_INTERNAL) != new.internal {
            let (is, other) = if new.internal { ("not ", "") } else { ("", "not ") };
            return refuse(format!("it is there, and {is}internal, while it is to be {other}internal"));
        }
        let found = self.route.addresses(link.index).map_err(|errno| Error::os(attempt(&new.name), errno))?;
        let mut subnets: Vec<Subnet> =
            found.iter().filter_map(|(address, prefix)| Subnet::around(*address, *prefix)).collect();
        subnets.sort_by_key(|subnet| subnet.base().is_ipv6());
        match new.subnets.iter().find(|wanted| !subnets.contains(wanted)) {
            Some(wanted) => refuse(format!("it is there, and has not the subnet {wanted}")),
            None if new.ipv6 && !subnets.iter().any(|subnet| subnet.base().is_ipv6()) => {
                refuse("it is there, and has no subnet of IPv6".into())
            }
            None => Ok(subnets),
        }
    }

    /// The subnets of a new network.
    fn subnets(&mut self, new: &NewBridge) -> Result<Vec<Subnet>> {
        let used = self.route.networks().map_err(|errno| Error::os(attempt(&new.name), errno))?;
        let mut subnets = new.subnets.clone();
        for subnet in &subnets {
            if let Some(other) = used.iter().find(|other| other.prefix() > 0 && other.overlaps(subnet)) {
                let why = format!("{}: {subnet} is in use here, by {other}", attempt(&new.name));
                return Err(Error::new(ErrorKind::Taken, why));
            }
        }
        if !subnets.iter().any(|subnet| subnet.base().is_ipv4()) {
            subnets.push(free(&used).ok_or_else(|| {
                let why = format!("{}: every subnet of 10.83.0.0/16 is in use here", attempt(&new.name));
                Error::new(ErrorKind::Exhausted, why).with_hint("name one with subnet()")
            })?);
        }
        if new.ipv6 && !subnets.iter().any(|subnet| subnet.base().is_ipv6()) {
            subnets.push(local()?);
        }
        subnets.sort_by_key(|subnet| subnet.base().is_ipv6());
        Ok(subnets)
    }
}

fn attempt(name: &str) -> String {
    format!("cannot make the network {name}")
}

/// The first subnet of the usual range that overlaps no other.
fn free(used: &[Subnet]) -> Option<Subnet> {
    let all = (0..=255).filter_map(|third| Subnet::new(Ipv4Addr::new(10, 83, third, 0).into(), 24).ok());
    all.into_iter().find(|subnet| !used.iter().any(|other| other.prefix() > 0 && other.overlaps(subnet)))
}

/// A subnet of IPv6 that is nobody else's, by lot (RFC 4193).
fn local() -> Result<Subnet> {
    let lot = u128::from(RandomState::new().hash_one(0) >> 24);
    let base = (0xfdu128 << 120) | (lot << 80);
    Subnet::new(IpAddr::V6(Ipv6Addr::from(base)), 64)
}

fn check(new: &NewBridge) -> Result<()> {
    let refuse = |why: &str| Err(Error::invalid(format!("cannot make the network {:?}: {why}", new.name)));
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    if new.name.is_empty() || new.name.len() > 15 || !new.name.bytes().all(letter) || new.name.starts_with('.') {
        return refuse("its name must be 1 to 15 letters, digits, '_', '-' or '.', and begin with none of '.'");
    }
    let count = |ipv4: bool| new.subnets.iter().filter(|subnet| subnet.base().is_ipv4() == ipv4).count();
    if count(true) > 1 || count(false) > 1 {
        return refuse("it can have one subnet of each kind");
    }
    match new.subnets.iter().find(|subnet| subnet.numbers().is_empty()) {
        Some(subnet) => refuse(&format!("{subnet} has no room for a member")),
        None if new.mtu.is_some_and(|mtu| !(1280..=65535).contains(&mtu)) => refuse("its MTU must be 1280 to 65535"),
        None => Ok(()),
    }
}

/// Whether this machine forwards packets, which nothing else would tell.
fn forwards(new: &NewBridge) -> Result<()> {
    let wants6 = new.ipv6 || new.subnets.iter().any(|subnet| subnet.base().is_ipv6());
    let wanted = [("net.ipv4.ip_forward", true), ("net.ipv6.conf.all.forwarding", wants6)];
    for (parameter, _) in wanted.into_iter().filter(|(_, wanted)| *wanted) {
        let file = Path::new("/proc/sys").join(parameter.replace('.', "/"));
        let found = std::fs::read_to_string(&file)
            .map_err(|error| Error::os(format!("{}: cannot read {}", attempt(&new.name), file.display()), error))?;
        if found.trim() != "0" {
            continue;
        }
        if !new.forwarding {
            let why =
                format!("{} with a way out: this machine forwards no packets ({parameter} is 0)", attempt(&new.name));
            let hint = format!("set {parameter} to 1, or let forwarding() do it; internal() does without");
            return Err(Error::new(ErrorKind::Unsupported, why).with_hint(hint));
        }
        std::fs::write(&file, "1").map_err(|error| Error::os(format!("cannot set {parameter} to 1"), error))?;
    }
    Ok(())
}

fn unfiltered(name: &str, errno: Errno) -> Error {
    let error = Error::os(format!("cannot filter the packets of the network {name}"), errno);
    match errno {
        Errno::ENOENT | Errno::EOPNOTSUPP | Errno::EINVAL | Errno::EAFNOSUPPORT => error
            .with_kind(ErrorKind::Unsupported)
            .with_hint("the kernel needs nf_tables, for bridges as well, with nat, masq, fib and ct"),
        _ => error,
    }
}

/// Takes away what programs left that were killed: bridges that nobody uses, and on old kernels tables.
fn sweep(locks: &Locks, route: &mut Route, filter: &mut Filter) {
    for name in locks.unused() {
        let Ok(Some(link)) = route.link(&name) else { continue };
        let ours = link.kind == "bridge" && link.alias.starts_with(TABLE);
        if ours && route.ports(link.index).is_ok_and(|ports| ports.is_empty()) {
            let _removed = route.remove(link.index);
        }
    }
    let dead = |table: &str| {
        let mut parts = table.strip_prefix("keelbox-").unwrap_or_default().rsplitn(3, '-');
        let pid = parts.nth(1).and_then(|pid| pid.parse::<u32>().ok());
        pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
    };
    for family in [Family::Bridge, Family::Inet] {
        let _not_a_reason_to_fail = filter.sweep(family, dead);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_subnets_that_cannot_be() {
        for name in ["", "a-name-too-long-x", "a/b", "a b", ".", "..", "ä", "a\0"] {
            assert_eq!(check(&NewBridge::new(name)).expect_err(name).kind(), ErrorKind::Invalid);
        }
        let two =
            NewBridge::new("n").subnet("10.0.0.0/24".parse().expect("one")).subnet("10.0.1.0/24".parse().expect("one"));
        assert!(check(&two).is_err());
        assert!(check(&NewBridge::new("n").subnet("10.0.0.0/31".parse().expect("one"))).is_err());
        assert!(check(&NewBridge::new("n").mtu(100)).is_err());
        assert!(check(&NewBridge::new("shop").mtu(1400)).is_ok());
    }

    #[test]
    fn the_first_free_subnet() {
        let parse = |text: &str| text.parse::<Subnet>().expect("one");
        assert_eq!(free(&[parse("0.0.0.0/0")]), Some(parse("10.83.0.0/24")));
        assert_eq!(free(&[parse("10.83.0.0/23")]), Some(parse("10.83.2.0/24")));
        assert_eq!(free(&[parse("10.0.0.0/8")]), None);
        assert_eq!(local().expect("one").prefix(), 64);
    }
}
