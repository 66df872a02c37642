//! When a request is sent again, and how long to wait before.
//!
//! Job: which answers are worth another try, doubling pauses with chance in them, and `Retry-After` in both of its forms.
//! Pure but for the clock. Leaves out sending.

use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often and how patiently to try.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retry {
    /// Requests after the first.
    pub(crate) times: u32,
    /// The pause after the first failure, doubled after each.
    pub(crate) pause: Duration,
    /// The longest pause, also when the registry asks for more.
    pub(crate) longest: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { times: 5, pause: Duration::from_millis(500), longest: Duration::from_secs(60) }
    }
}

impl Retry {
    /// The pause after failure number `failures`, from 1. Between half and all of it, so that many clients that failed
    /// together do not come back together. `None`: the registry asks for more patience than there is.
    pub(crate) fn pause(&self, failures: u32, after: Option<Duration>) -> Option<Duration> {
        if let Some(after) = after {
            return (after <= self.longest).then_some(after);
        }
        let full = self.pause.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(self.longest);
        let half = full / 2;
        let range = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).saturating_add(1);
        Some(half + Duration::from_nanos(chance() % range))
    }
}

/// Whether this status may be another one the next time.
pub(crate) fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 499 | 500 | 502 | 503 | 504 | 520..=524)
}

/// Reads `Retry-After`: seconds, or the date on which it ends (RFC 9110 section 10.2.3).
pub(crate) fn after(header: &str, now: SystemTime) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let now = now.duration_since(UNIX_EPOCH).ok()?;
    Some(Duration::from_secs(date(header)?).saturating_sub(now))
}

/// The seconds since 1970 of `Sun, 06 Nov 1994 08:49:37 GMT`.
fn date(text: &str) -> Option<u64> {
    let parts: Vec<&str> = text.split_once(", ")?.1.split(' ').collect();
    let [day, month, year, time, "GMT"] = parts[..] else { return None };
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = months.iter().position(|name| *name == month)? as u64 + 1;
    let (day, year): (u64, u64) = (day.parse().ok()?, year.parse().ok()?);
    let mut clock = time.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    if !(1970..=9999).contains(&year) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days by the rule of the calendar whose year begins in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1;
    Some((days - 719_468) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// A number nobody can foresee well: the keys of a fresh hash map's state.
fn chance() -> u64 {
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_differ() {
        let retry = Retry::default();
        for (failures, least, most) in [(1, 250, 500), (2, 500, 1000), (3, 1000, 2000), (30, 30_000, 60_000)] {
            for _ in 0..50 {
                let pause = retry.pause(failures, None).expect("always").as_millis();
                assert!((least..=most).contains(&pause), "{failures}: {pause}");
            }
        }
        let pauses: std::collections::HashSet<_> = (0..50).map(|_| retry.pause(5, None)).collect();
        assert!(pauses.len() > 10);
        assert_eq!(retry.pause(1, Some(Duration::from_secs(7))), Some(Duration::from_secs(7)));
        assert_eq!(retry.pause(1, Some(Duration::from_secs(61))), None);
    }

    #[test]
    fn both_forms_of_retry_after() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (header, seconds) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Tue, 29 Feb 2000 00:00:00 GMT", Some(951_782_400 - 784_111_777)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("Sun, 06 Foo 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08:49 GMT", None),
            ("Sun, 6 Nov 99999 08:49:37 GMT", None),
        ] {
            assert_eq!(after(header, now), seconds.map(Duration::from_secs), "{header}");
        }
    }
}
