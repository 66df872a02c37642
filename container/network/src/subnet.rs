//! Subnets: which addresses belong together, and the number of one among them. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::error::{Error, Result};

/// Addresses with a common beginning, such as `10.83.4.0/24` or `fd00:1::/64`.
///
/// ```
/// use keelbox_network::Subnet;
/// let subnet: Subnet = "10.83.4.0/24".parse()?;
/// assert!(subnet.contains("10.83.4.9".parse()?));
/// assert!("10.83.4.1/24".parse::<Subnet>().is_err(), "that is an address in it");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Subnet {
    base: IpAddr,
    prefix: u8,
}

impl Subnet {
    /// The subnet that begins with `base`, whose first `prefix` bits are common.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if `base` is not its first address, or it has no such bits.
    pub fn new(base: IpAddr, prefix: u8) -> Result<Self> {
        let subnet = Self { base, prefix };
        if prefix > subnet.bits() {
            return Err(Error::invalid(format!("there is no subnet {base}/{prefix}: that is too long")));
        }
        if number(base) & subnet.rest() != 0 {
            let first = subnet.first();
            return Err(Error::invalid(format!("there is no subnet {base}/{prefix}: it begins with {first}")));
        }
        Ok(subnet)
    }

    /// The subnet that an address with such a prefix is in.
    pub(crate) fn around(address: IpAddr, prefix: u8) -> Option<Self> {
        let subnet = Self { base: address, prefix };
        if prefix > subnet.bits() { None } else { Self::new(subnet.first(), prefix).ok() }
    }

    /// The first address, which is nobody's.
    #[must_use]
    pub fn base(&self) -> IpAddr {
        self.base
    }

    /// How many bits are common.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether an address is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.base.is_ipv4() && number(address) & !self.rest() == number(self.base)
    }

    /// Whether there are addresses in both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.base) || other.contains(self.base)
    }

    /// The address with this number in it.
    pub(crate) fn address(&self, offset: u32) -> IpAddr {
        let value = number(self.base) | u128::from(offset);
        match self.base {
            IpAddr::V4(_) => Ipv4Addr::from(value as u32).into(),
            IpAddr::V6(_) => Ipv6Addr::from(value).into(),
        }
    }

    /// The number of an address in it.
    pub(crate) fn offset(&self, address: IpAddr) -> Option<u32> {
        self.contains(address).then(|| u32::try_from(number(address) & self.rest()).ok())?
    }

    /// The numbers that can be given away: not the first, which names the subnet, not the gateway's, not the last.
    pub(crate) fn numbers(&self) -> std::ops::Range<u32> {
        let last = self.rest().min(0xffff) as u32;
        2..last.max(2)
    }

    fn bits(&self) -> u8 {
        if self.base.is_ipv4() { 32 } else { 128 }
    }

    /// The bits that are not common.
    fn rest(&self) -> u128 {
        let own = u32::from(self.bits() - self.prefix);
        1u128.checked_shl(own).map_or(u128::MAX, |bit| bit - 1)
    }

    fn first(&self) -> IpAddr {
        let value = number(self.base) & !self.rest();
        match self.base {
            IpAddr::V4(_) => Ipv4Addr::from(value as u32).into(),
            IpAddr::V6(_) => Ipv6Addr::from(value).into(),
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

impl FromStr for Subnet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once('/').and_then(|(base, prefix)| Some((base.parse().ok()?, prefix.parse().ok()?)));
        let (base, prefix) = parts.ok_or_else(|| Error::invalid(format!("{text:?} is no subnet: ADDRESS/BITS")))?;
        Self::new(base, prefix)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_their_numbers() {
        for text in ["10.1.0.0/16", "10.83.4.0/24", "192.168.7.64/26", "fd00:1::/64", "0.0.0.0/0", "::/0"] {
            let subnet: Subnet = text.parse().expect(text);
            assert_eq!(subnet.to_string(), text);
            for offset in [1, 2, 9] {
                assert_eq!(subnet.offset(subnet.address(offset)), Some(offset), "{text}");
            }
        }
        let subnet: Subnet = "10.83.4.0/24".parse().expect("one");
        assert_eq!(subnet.numbers(), 2..255);
        assert_eq!(subnet.offset("10.83.5.2".parse().expect("one")), None);
        assert_eq!("10.0.0.0/30".parse::<Subnet>().expect("one").numbers(), 2..3);
    }

    #[test]
    fn what_is_none() {
        for text in ["10.1.0.1/16", "10.1.0.0", "10.1.0.0/33", "x/8", "fd00::1/64", "fd00::/129", "/", "10.1.0.0/-1"] {
            assert!(text.parse::<Subnet>().is_err(), "{text}");
        }
    }

    #[test]
    fn overlaps_go_both_ways() {
        let parse = |text: &str| text.parse::<Subnet>().expect("one");
        assert!(parse("10.0.0.0/8").overlaps(&parse("10.83.4.0/24")));
        assert!(parse("10.83.4.0/24").overlaps(&parse("10.0.0.0/8")));
        assert!(!parse("10.83.4.0/24").overlaps(&parse("10.83.5.0/24")));
        assert!(!parse("0.0.0.0/0").overlaps(&parse("fd00::/64")));
    }
}
