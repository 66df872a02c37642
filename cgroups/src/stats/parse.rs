//! The formats of statistics files, as functions from text.
//!
//! Leaves out: opening files. Needs no kernel.

use std::time::Duration;

use super::{IoStats, Pressure, Stall};
use crate::limits::UNLIMITED;

/// One number; `max`, -1 and v1's highest number of whole pages are `UNLIMITED`.
pub(super) fn number(text: &str) -> Option<u64> {
    match text.trim() {
        "max" | "-1" => Some(UNLIMITED),
        text => {
            text.parse().ok().map(|number: u64| if number > i64::MAX as u64 - (1 << 30) { UNLIMITED } else { number })
        }
    }
}

/// Lines of a name and a number.
pub(super) fn counters(text: &str) -> Vec<(String, u64)> {
    let pair = |line: &str| line.split_once(' ').and_then(|(name, value)| Some((name.to_owned(), value.parse().ok()?)));
    text.lines().filter_map(pair).collect()
}

/// Nanoseconds, separated by spaces.
pub(super) fn times(text: &str) -> Vec<Duration> {
    text.split_ascii_whitespace().filter_map(|word| word.parse().ok()).map(Duration::from_nanos).collect()
}

/// v2 `io.stat`: `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`.
pub(super) fn io_v2(text: &str) -> Vec<IoStats> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some((major, minor)) = words.next().and_then(device) else {
            continue;
        };
        let mut stats = IoStats { major, minor, ..IoStats::default() };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let value = value.parse().ok();
            match key {
                "rbytes" => stats.read_bytes = value,
                "wbytes" => stats.write_bytes = value,
                "rios" => stats.read_operations = value,
                "wios" => stats.write_operations = value,
                _ => {}
            }
        }
        found.push(stats);
    }
    found.sort_by_key(|stats| (stats.major, stats.minor));
    found
}

/// v1 `blkio.throttle.io_service_bytes` and `io_serviced`: `8:0 Read 1`, and `Total 7` at the end.
pub(super) fn io_v1(bytes: &str, operations: &str) -> Vec<IoStats> {
    let mut found: Vec<IoStats> = Vec::new();
    for (text, is_bytes) in [(bytes, true), (operations, false)] {
        for line in text.lines() {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let [numbers, kind, value] = words[..] else {
                continue;
            };
            let Some((major, minor)) = device(numbers) else {
                continue;
            };
            let position = found.iter().position(|stats| (stats.major, stats.minor) == (major, minor));
            let index = position.unwrap_or_else(|| {
                found.push(IoStats { major, minor, ..IoStats::default() });
                found.len() - 1
            });
            let (stats, value) = (&mut found[index], value.parse().ok());
            match (kind, is_bytes) {
                ("Read", true) => stats.read_bytes = value,
                ("Write", true) => stats.write_bytes = value,
                ("Read", false) => stats.read_operations = value,
                ("Write", false) => stats.write_operations = value,
                _ => {}
            }
        }
    }
    found.sort_by_key(|stats| (stats.major, stats.minor));
    found
}

fn device(numbers: &str) -> Option<(u32, u32)> {
    let (major, minor) = numbers.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same for `full`.
pub(super) fn pressure(text: &str) -> Option<Pressure> {
    let line = |kind: &str| text.lines().find_map(|line| line.strip_prefix(kind)).and_then(stall);
    // Older kernels have no "full" for processors, where it would always be zero.
    Some(Pressure { some: line("some ")?, full: line("full ").unwrap_or_default() })
}

fn stall(line: &str) -> Option<Stall> {
    let find = |key: &str| line.split_ascii_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    let average = |key: &str| find(key)?.parse().ok();
    Some(Stall {
        average_10: average("avg10")?,
        average_60: average("avg60")?,
        average_300: average("avg300")?,
        total: Duration::from_micros(find("total")?.parse().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (text, expected) in [
            ("12\n", Some(12)),
            ("max\n", Some(UNLIMITED)),
            ("-1\n", Some(UNLIMITED)),
            ("9223372036854771712\n", Some(UNLIMITED)),
            ("", None),
            ("1 2", None),
        ] {
            assert_eq!(number(text), expected, "{text:?}");
        }
    }

    #[test]
    fn lists_of_numbers() {
        assert_eq!(counters("cache 4096\nhuge\nrss 5\n"), [("cache".to_owned(), 4096), ("rss".to_owned(), 5)]);
        assert_eq!(times("1 1000000000 \n"), [Duration::from_nanos(1), Duration::from_secs(1)]);
    }

    fn io(major: u32, minor: u32, numbers: [Option<u64>; 4]) -> IoStats {
        let [read_bytes, write_bytes, read_operations, write_operations] = numbers;
        IoStats { major, minor, read_bytes, write_bytes, read_operations, write_operations }
    }

    #[test]
    fn devices_of_v2() {
        let text = "253:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n8:16 \n8:0 rbytes=5 future=x\nrubbish\n";
        let none = [None; 4];
        let all = [Some(10), Some(20), Some(1), Some(2)];
        assert_eq!(io_v2(text), [io(8, 0, [Some(5), None, None, None]), io(8, 16, none), io(253, 0, all)]);
    }

    #[test]
    fn devices_of_v1() {
        let bytes = "8:0 Read 4096\n8:0 Write 8192\n8:0 Sync 1\n8:0 Total 12288\n7:1 Read 3\nTotal 12291\n";
        let operations = "8:0 Read 1\n8:0 Write 2\nTotal 3\n";
        let loopback = io(7, 1, [Some(3), None, None, None]);
        assert_eq!(io_v1(bytes, operations), [loopback, io(8, 0, [Some(4096), Some(8192), Some(1), Some(2)])]);
        assert!(io_v1("Total 0\n", "").is_empty());
    }

    #[test]
    fn pressures() {
        let text =
            "some avg10=1.50 avg60=0.25 avg300=0.00 total=1500\nfull avg10=0.10 avg60=0.00 avg300=0.00 total=7\n";
        let found = pressure(text).unwrap();
        assert_eq!((found.some.average_10, found.some.average_60), (1.5, 0.25));
        assert_eq!((found.some.total, found.full.total), (Duration::from_micros(1500), Duration::from_micros(7)));
        let old = pressure("some avg10=0.00 avg60=0.00 avg300=0.00 total=3\n").unwrap();
        assert_eq!(old.full, Stall::default());
        assert_eq!(pressure(""), None);
        assert_eq!(pressure("some avg10=x avg60=0 avg300=0 total=3\n"), None);
    }
}
