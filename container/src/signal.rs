//! Signals by name, as `signal(7)` lists them.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind};

/// A signal.
///
/// ```
/// use keelbox::Signal;
/// assert_eq!("SIGTERM".parse::<Signal>().unwrap(), Signal::TERM);
/// assert_eq!("term".parse::<Signal>().unwrap(), Signal::TERM);
/// assert_eq!("9".parse::<Signal>().unwrap(), Signal::KILL);
/// assert_eq!(Signal::KILL.to_string(), "SIGKILL");
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Signal(i32);

macro_rules! signals {
    ($($name:ident = $number:literal)*) => {
        impl Signal {
            $(#[doc = concat!("`SIG", stringify!($name), "`")] pub const $name: Self = Self($number);)*
            const NAMES: &[(&str, i32)] = &[$((stringify!($name), $number)),*];
        }
    };
}

signals! {
    HUP = 1 INT = 2 QUIT = 3 ILL = 4 TRAP = 5 ABRT = 6 BUS = 7 FPE = 8 KILL = 9 USR1 = 10 SEGV = 11 USR2 = 12 PIPE = 13
    ALRM = 14 TERM = 15 STKFLT = 16 CHLD = 17 CONT = 18 STOP = 19 TSTP = 20 TTIN = 21 TTOU = 22 URG = 23 XCPU = 24
    XFSZ = 25 VTALRM = 26 PROF = 27 WINCH = 28 IO = 29 PWR = 30 SYS = 31
}

/// The first and the last signal for a program's own use, as the kernel numbers them.
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

impl Signal {
    pub(crate) fn new(number: i32) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None if REAL_TIME.contains(&self.0) => write!(f, "SIGRTMIN+{}", self.0 - REAL_TIME.start()),
            None => write!(f, "signal {}", self.0),
        }
    }
}

impl FromStr for Signal {
    type Err = Error;

    /// Reads a number, or a name with or without `SIG` in any case; `RTMIN`, `RTMIN+1`, `RTMAX-1`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let unknown = || Error::new(ErrorKind::Invalid, format!("there is no signal {text:?}"));
        if let Ok(number) = text.parse::<i32>() {
            return if (1..=64).contains(&number) { Ok(Self(number)) } else { Err(unknown()) };
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some((_, number)) = Self::NAMES.iter().find(|(known, _)| *known == name) {
            return Ok(Self(*number));
        }
        let (base, rest) = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
            (Some(rest), _) => (*REAL_TIME.start(), rest),
            (_, Some(rest)) => (*REAL_TIME.end(), rest),
            _ => return Err(unknown()),
        };
        let offset = if rest.is_empty() { Ok(0) } else { rest.parse::<i32>() };
        let number = base + offset.map_err(|_| unknown())?;
        if REAL_TIME.contains(&number) { Ok(Self(number)) } else { Err(unknown()) }
    }
}
