//! Id maps: which user (or group) id inside a user namespace is which one outside, as `user_namespaces(7)` has it. Pure.
//!
//! Leaves out on purpose: writing them, see `mapping.rs`. Oldest kernel: 4.15 for more than 5 lines (340 since then).

use std::fmt::{self, Write};
use std::str::FromStr;

use crate::error::{Error, ErrorKind};

/// The most lines that the kernel takes.
pub const LINES: usize = 340;

/// One line of an id map: `count` ids from `inside` are those from `outside`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Range {
    inside: u32,
    outside: u32,
    count: u32,
}

impl Range {
    /// Maps `count` ids, beginning with `inside` to `outside`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Malformed`] if `count` is 0 or an id would be 4294967295 or beyond, which is no id.
    pub fn new(inside: u32, outside: u32, count: u32) -> Result<Self, Error> {
        let range = Self { inside, outside, count };
        let refuse = |why| Err(Error::new(ErrorKind::Malformed, format!("id map line \"{range}\" {why}")));
        if count == 0 {
            return refuse("maps no id");
        }
        if inside.checked_add(count).is_none() || outside.checked_add(count).is_none() {
            return refuse("goes beyond the last id");
        }
        Ok(range)
    }

    /// The first id inside the namespace.
    pub fn inside(self) -> u32 {
        self.inside
    }

    /// The first id outside.
    pub fn outside(self) -> u32 {
        self.outside
    }

    /// How many ids.
    pub fn count(self) -> u32 {
        self.count
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.inside, self.outside, self.count)
    }
}

/// An id map: up to 340 lines, none of which overlaps another.
///
/// ```
/// use keelbox_namespaces::{IdMap, Range};
///
/// let map: IdMap = "0 1000 1\n1 100000 65536".parse()?;
/// assert_eq!(map.outside(33), Some(100032));
/// assert_eq!(map.inside(1000), Some(0));
/// assert!(IdMap::new([Range::new(0, 1000, 10)?, Range::new(5, 5000, 1)?]).is_err());
/// # Ok::<(), keelbox_namespaces::Error>(())
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct IdMap {
    ranges: Vec<Range>,
}

impl IdMap {
    /// A map of these lines.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Malformed`] if there is no line or more than [`LINES`], or two overlap inside or outside.
    pub fn new(ranges: impl IntoIterator<Item = Range>) -> Result<Self, Error> {
        let ranges: Vec<_> = ranges.into_iter().collect();
        let refuse = |why: String| Err(Error::new(ErrorKind::Malformed, why));
        if ranges.is_empty() || ranges.len() > LINES {
            return refuse(format!("an id map has 1 to {LINES} lines, not {}", ranges.len()));
        }
        for side in [Range::inside, Range::outside] {
            let mut sorted = ranges.clone();
            sorted.sort_by_key(|range| side(*range));
            for pair in sorted.windows(2) {
                if side(pair[0]) + pair[0].count > side(pair[1]) {
                    return refuse(format!("id map lines \"{}\" and \"{}\" overlap", pair[0], pair[1]));
                }
            }
        }
        Ok(Self { ranges })
    }

    /// A map of one id.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Malformed`] if an id is 4294967295, which is no id.
    pub fn single(inside: u32, outside: u32) -> Result<Self, Error> {
        Self::new([Range::new(inside, outside, 1)?])
    }

    /// The lines.
    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// The id outside of id `inside`, if it is mapped.
    pub fn outside(&self, inside: u32) -> Option<u32> {
        find(&self.ranges, inside, Range::inside, Range::outside)
    }

    /// The id inside of id `outside`, if it is mapped.
    pub fn inside(&self, outside: u32) -> Option<u32> {
        find(&self.ranges, outside, Range::outside, Range::inside)
    }

    /// How many ids are mapped.
    pub fn count(&self) -> u64 {
        self.ranges.iter().map(|range| u64::from(range.count)).sum()
    }

    /// The first line, if any, whose outside ids do not all exist in `own`, the map of the namespace outside
    /// (`/proc/self/uid_map`): the kernel would answer `EPERM`.
    pub fn missing_from(&self, own: &Self) -> Option<Range> {
        self.ranges.iter().copied().find(|range| !own.holds(range.outside, range.count))
    }

    /// Whether all `count` ids from `first` exist inside. Adjacent lines are walked through one by one.
    fn holds(&self, mut first: u32, mut count: u32) -> bool {
        while count > 0 {
            let line = |range: &&Range| first.checked_sub(range.inside).is_some_and(|offset| offset < range.count);
            let Some(range) = self.ranges.iter().find(line) else {
                return false;
            };
            let step = count.min(range.inside + range.count - first);
            (first, count) = (first + step, count - step);
        }
        true
    }

    /// As the kernel wants it written, a line each.
    pub fn text(&self) -> String {
        self.ranges.iter().fold(String::new(), |mut text, range| {
            // Writing to a `String` cannot fail.
            let _ = writeln!(text, "{range}");
            text
        })
    }
}

impl fmt::Display for IdMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text().trim_end().replace('\n', ", "))
    }
}

impl FromStr for IdMap {
    type Err = Error;

    /// Reads lines as `/proc/PID/uid_map` has them: three numbers each, however much space between them.
    fn from_str(text: &str) -> Result<Self, Error> {
        let ranges: Result<Vec<_>, _> = text.lines().filter(|line| !line.trim().is_empty()).map(parse_line).collect();
        Self::new(ranges?)
    }
}

fn parse_line(line: &str) -> Result<Range, Error> {
    let numbers: Vec<u32> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
    match (numbers.as_slice(), line.split_whitespace().count()) {
        ([inside, outside, count], 3) => Range::new(*inside, *outside, *count),
        _ => Err(Error::new(ErrorKind::Malformed, format!("id map line {line:?} is not three numbers"))),
    }
}

fn find(ranges: &[Range], id: u32, from: fn(Range) -> u32, to: fn(Range) -> u32) -> Option<u32> {
    ranges.iter().find_map(|range| {
        let offset = id.checked_sub(from(*range))?;
        (offset < range.count).then(|| to(*range) + offset)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_maps_are_refused_where_they_enter() {
        let table = [
            ("", "an id map has 1 to 340 lines, not 0"),
            ("0 1000 0", "id map line \"0 1000 0\" maps no id"),
            ("0 1000", "id map line \"0 1000\" is not three numbers"),
            ("0 1000 1 2", "id map line \"0 1000 1 2\" is not three numbers"),
            ("0 -1 1", "id map line \"0 -1 1\" is not three numbers"),
            ("0 4294967296 1", "id map line \"0 4294967296 1\" is not three numbers"),
            ("0 4294967295 1", "id map line \"0 4294967295 1\" goes beyond the last id"),
            ("4294967290 0 10", "id map line \"4294967290 0 10\" goes beyond the last id"),
            ("0 0 10\n9 100 1", "id map lines \"0 0 10\" and \"9 100 1\" overlap"),
            ("0 100 10\n10 109 1", "id map lines \"0 100 10\" and \"10 109 1\" overlap"),
            ("20 5 1\n10 5 1", "id map lines \"20 5 1\" and \"10 5 1\" overlap"),
        ];
        for (text, message) in table {
            let error = text.parse::<IdMap>().unwrap_err();
            assert_eq!((error.kind(), error.to_string()), (ErrorKind::Malformed, message.to_owned()));
        }
        let lines = |count: u32| IdMap::new((0..count).map(|n| Range::new(n, n * 2, 1).unwrap()));
        assert_eq!(lines(340).unwrap().ranges().len(), 340);
        assert_eq!(lines(341).unwrap_err().to_string(), "an id map has 1 to 340 lines, not 341");
    }

    #[test]
    fn right_maps_come_back_as_text() {
        let own: IdMap = "         0          0 4294967295\n".parse().unwrap();
        assert_eq!((own.count(), own.text()), (4_294_967_295, "0 0 4294967295\n".into()));
        let map: IdMap = "  0 1000\t1 \n\n1 100000 65536\n".parse().unwrap();
        assert_eq!(map.text(), "0 1000 1\n1 100000 65536\n");
        assert_eq!(map.to_string(), "0 1000 1, 1 100000 65536");
        assert_eq!(map.count(), 65537);
    }

    #[test]
    fn ids_are_found_both_ways() {
        let map: IdMap = "0 1000 1\n1 100000 65536".parse().unwrap();
        for (inside, outside) in [(0, 1000), (1, 100_000), (65536, 165_535)] {
            assert_eq!(map.outside(inside), Some(outside));
            assert_eq!(map.inside(outside), Some(inside));
        }
        assert_eq!((map.outside(65537), map.inside(0), map.inside(165_536)), (None, None, None));
    }

    #[test]
    fn a_map_can_only_hand_on_what_the_namespace_has() {
        let own: IdMap = "0 1000 1\n1 100000 10\n11 200000 10".parse().unwrap();
        for (text, missing) in [
            ("0 0 21", None),
            ("0 5 10", None),
            ("0 0 22", Some("0 0 22")),
            ("0 0 1\n1 1000 1", Some("1 1000 1")),
            ("0 21 1", Some("0 21 1")),
        ] {
            let map: IdMap = text.parse().unwrap();
            assert_eq!(map.missing_from(&own).map(|range| range.to_string()), missing.map(str::to_owned));
        }
        let first: IdMap = "0 0 4294967295".parse().unwrap();
        assert_eq!("0 4294967290 5".parse::<IdMap>().unwrap().missing_from(&first), None);
    }
}
