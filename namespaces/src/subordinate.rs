//! Reading `/etc/subuid` and `/etc/subgid`, as `subuid(5)` describes them. Pure.
//!
//! Leaves out on purpose: ranges that a directory service lends (`/etc/nsswitch.conf`, `subid:`); `newuidmap` knows them,
//! this crate does not. Oldest kernel: none.

use crate::caller::Caller;

/// What `text` lends to `caller`, in the order of the file: first id and count. Never an id twice, and never `except`.
///
/// A line that is not `NAME-OR-UID:FIRST:COUNT` is passed over, as the helper programs do; so is one that overlaps an
/// earlier line, which no map could hold.
pub(crate) fn subordinate_ranges(text: &str, caller: &Caller, except: Option<u32>) -> Vec<(u32, u32)> {
    let mut taken: Vec<(u32, u32)> = Vec::new();
    for (first, count) in text.lines().filter_map(|line| parse(line, caller)) {
        for (first, count) in around((first, count), except) {
            let clear = |other: &(u32, u32)| first + count <= other.0 || other.0 + other.1 <= first;
            if taken.iter().all(clear) {
                taken.push((first, count));
            }
        }
    }
    taken
}

fn parse(line: &str, caller: &Caller) -> Option<(u32, u32)> {
    let mut fields = line.trim().split(':');
    let (who, first, count) = (fields.next()?, fields.next()?, fields.next()?);
    if fields.next().is_some() || !caller.is_called(who) {
        return None;
    }
    let (first, count): (u32, u32) = (first.trim().parse().ok()?, count.trim().parse().ok()?);
    (count > 0 && first.checked_add(count).is_some()).then_some((first, count))
}

/// The parts of a range before and after the id `except`.
fn around((first, count): (u32, u32), except: Option<u32>) -> impl Iterator<Item = (u32, u32)> {
    let inside = |id: &u32| (first..first + count).contains(id);
    let parts = match except.filter(inside) {
        Some(id) => [(first, id - first), (id + 1, first + count - id - 1)],
        None => [(first, count), (0, 0)],
    };
    parts.into_iter().filter(|part| part.1 > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_lines_of_the_caller_count() {
        let text = "# a comment\n\nann:100000:10\n ann:200000:10 \nann:x:1\nann:1\nann:1:2:3\nann:5:0\nann:4294967295:1\n\
                    ann:-1:4\nbob:300000:10\n1000:400000:10\r\nann:100005:10\nann:4294967290:5";
        let ann = Caller::new(1000, 1000).name("ann");
        let lent = [(100_000, 10), (200_000, 10), (400_000, 10), (4_294_967_290, 5)];
        assert_eq!(subordinate_ranges(text, &ann, None), lent);
        let nameless = Caller::new(1000, 1000);
        assert_eq!(subordinate_ranges(text, &nameless, None), [(400_000, 10)]);
        assert_eq!(subordinate_ranges(text, &Caller::new(7, 7), None), []);
    }

    #[test]
    fn an_id_is_cut_out() {
        let cut = |range, except| around(range, Some(except)).collect::<Vec<_>>();
        assert_eq!(cut((10, 5), 9), [(10, 5)]);
        assert_eq!(cut((10, 5), 10), [(11, 4)]);
        assert_eq!(cut((10, 5), 12), [(10, 2), (13, 2)]);
        assert_eq!(cut((10, 5), 14), [(10, 4)]);
        assert_eq!(cut((10, 1), 10), []);
    }
}
