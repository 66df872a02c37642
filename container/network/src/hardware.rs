//! Hardware addresses of network devices. Pure.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// A hardware address, such as `02:6b:0a:53:00:02`. Addresses of groups are refused.
///
/// ```
/// use keelbox_network::Hardware;
/// let address: Hardware = "02:00:5e:10:00:01".parse()?;
/// assert_eq!(address.to_string(), "02:00:5e:10:00:01");
/// assert!("01:00:5e:00:00:01".parse::<Hardware>().is_err(), "a group's");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Hardware(pub(crate) [u8; 6]);

impl FromStr for Hardware {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = || Error::invalid(format!("{text:?} is no hardware address of one device: 02:6b:0a:53:00:02"));
        let mut bytes = [0u8; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(refuse)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| refuse())?;
        }
        if parts.next().is_some() || bytes[0] & 1 != 0 || bytes == [0; 6] {
            return Err(refuse());
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Hardware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}
