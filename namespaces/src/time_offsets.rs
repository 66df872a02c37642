//! By how much the clocks of a new time namespace differ, as `time_namespaces(7)` has it. Pure.
//!
//! Leaves out on purpose: the clock of the time of day, which has no namespace. Oldest kernel: 5.6.

use crate::error::{Error, ErrorKind};

const NANOSECONDS: u32 = 1_000_000_000;

/// An amount of time, negative or not: seconds, and nanoseconds that are added to them.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Offset {
    seconds: i64,
    nanoseconds: u32,
}

impl Offset {
    /// `seconds` and `nanoseconds`; the latter are always added, so -0.5 s is -1 s and 500,000,000 ns.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Malformed`] if `nanoseconds` is 1,000,000,000 or more.
    pub fn new(seconds: i64, nanoseconds: u32) -> Result<Self, Error> {
        if nanoseconds >= NANOSECONDS {
            let what = format!("clock offset of {nanoseconds} nanoseconds: a second has {NANOSECONDS}");
            return Err(Error::new(ErrorKind::Malformed, what));
        }
        Ok(Self { seconds, nanoseconds })
    }

    /// Whole seconds.
    pub fn seconds(self) -> i64 {
        self.seconds
    }

    /// The rest, 0 to 999,999,999.
    pub fn nanoseconds(self) -> u32 {
        self.nanoseconds
    }
}

/// The offsets of both clocks; a clock that is not named stays as it is.
///
/// ```
/// use keelbox_namespaces::{Offset, TimeOffsets};
///
/// let week = TimeOffsets::new().boottime(Offset::new(7 * 24 * 60 * 60, 0)?);
/// assert_eq!(week.text(), "boottime 604800 0\n");
/// # Ok::<(), keelbox_namespaces::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct TimeOffsets {
    monotonic: Option<Offset>,
    boottime: Option<Offset>,
}

impl TimeOffsets {
    /// No offsets.
    pub fn new() -> Self {
        Self::default()
    }

    /// Of `CLOCK_MONOTONIC` and its coarse and raw forms. Default: as outside.
    #[must_use]
    pub fn monotonic(mut self, offset: Offset) -> Self {
        self.monotonic = Some(offset);
        self
    }

    /// Of `CLOCK_BOOTTIME`, which `/proc/uptime` shows. Default: as outside.
    #[must_use]
    pub fn boottime(mut self, offset: Offset) -> Self {
        self.boottime = Some(offset);
        self
    }

    /// Whether no clock is named.
    pub fn is_empty(&self) -> bool {
        self.monotonic.is_none() && self.boottime.is_none()
    }

    /// As `/proc/PID/timens_offsets` wants it written.
    pub fn text(&self) -> String {
        let line = |name: &str, offset: Option<Offset>| {
            offset.map(|offset| format!("{name} {} {}\n", offset.seconds, offset.nanoseconds)).unwrap_or_default()
        };
        line("monotonic", self.monotonic) + &line("boottime", self.boottime)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_a_billion_nanoseconds() {
        assert_eq!(Offset::new(0, 1_000_000_000).unwrap_err().kind(), ErrorKind::Malformed);
        let offset = Offset::new(-1, 999_999_999).unwrap();
        assert_eq!((offset.seconds(), offset.nanoseconds()), (-1, 999_999_999));
    }

    #[test]
    fn both_clocks_have_a_line_each() {
        let offset = |seconds| Offset::new(seconds, 5).unwrap();
        let both = TimeOffsets::new().boottime(offset(-3)).monotonic(offset(86400));
        assert_eq!(both.text(), "monotonic 86400 5\nboottime -3 5\n");
        assert!(TimeOffsets::new().is_empty() && !both.is_empty());
    }
}
