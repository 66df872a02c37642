//! The two id maps of a user namespace together, and the usual ways to come by them. Pure.
//!
//! Leaves out on purpose: reading `/etc/subuid` (the caller hands in its text) and writing the maps, see `mapping.rs`.
//! Oldest kernel: 3.8.

use crate::caller::Caller;
use crate::error::{Error, ErrorKind};
use crate::id_map::{IdMap, LINES, Range};
use crate::subordinate::subordinate_ranges;

/// The maps of user and group ids of a new user namespace.
///
/// ```
/// use keelbox_namespaces::{Caller, IdMaps};
///
/// let ann = Caller::new(1000, 1000).name("ann");
/// let maps = IdMaps::for_user(&ann, "ann:100000:65536", "ann:200000:65536")?;
/// assert_eq!(maps.users().to_string(), "0 1000 1, 1 100000 65536");
/// assert_eq!(maps.groups().outside(1), Some(200000));
/// # Ok::<(), keelbox_namespaces::Error>(())
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct IdMaps {
    users: IdMap,
    groups: IdMap,
}

impl IdMaps {
    /// These two maps.
    pub fn new(users: IdMap, groups: IdMap) -> Self {
        Self { users, groups }
    }

    /// These lines for users and those for groups.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Malformed`] as [`IdMap::new`] has it.
    pub fn ranges(
        users: impl IntoIterator<Item = Range>,
        groups: impl IntoIterator<Item = Range>,
    ) -> Result<Self, Error> {
        Ok(Self::new(IdMap::new(users)?, IdMap::new(groups)?))
    }

    /// The caller's own user and group as root (0) inside, and nobody else. Needs no privilege and no helper; groups
    /// cannot be changed inside.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Malformed`] if the caller's ids are none.
    pub fn own(caller: &Caller) -> Result<Self, Error> {
        Self::own_as(caller, 0, 0)
    }

    /// The caller's own user and group as `user` and `group` inside, and nobody else. With the same ids inside as
    /// outside, the program sees itself as who it is.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Malformed`] if an id is 4294967295, which is no id.
    pub fn own_as(caller: &Caller, user: u32, group: u32) -> Result<Self, Error> {
        Ok(Self::new(IdMap::single(user, caller.user_id())?, IdMap::single(group, caller.group_id())?))
    }

    /// The caller as root inside, and from 1 on the ids that `/etc/subuid` and `/etc/subgid` lend to it, whose texts
    /// are given. What [`subuid(5)`](https://man7.org/linux/man-pages/man5/subuid.5.html) calls malformed is passed
    /// over.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::MissingRanges`] if one of the texts lends nothing to the caller.
    pub fn for_user(caller: &Caller, subuid: &str, subgid: &str) -> Result<Self, Error> {
        let users = lent(caller, subuid, "/etc/subuid", Some(caller.user_id()))?;
        let groups = lent(caller, subgid, "/etc/subgid", Some(caller.group_id()))?;
        Ok(Self::new(users, groups))
    }

    /// Only ids that `/etc/subuid` and `/etc/subgid` lend to the caller, from 0 on, so that root inside is nobody of
    /// importance outside: the right choice for a caller that is root.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::MissingRanges`] if one of the texts lends nothing to the caller.
    pub fn subordinate(caller: &Caller, subuid: &str, subgid: &str) -> Result<Self, Error> {
        Ok(Self::new(lent(caller, subuid, "/etc/subuid", None)?, lent(caller, subgid, "/etc/subgid", None)?))
    }

    /// The map of user ids.
    pub fn users(&self) -> &IdMap {
        &self.users
    }

    /// The map of group ids.
    pub fn groups(&self) -> &IdMap {
        &self.groups
    }

    /// Whether these maps hold nothing but the caller's own user and group, so that the kernel lets the caller itself
    /// write them.
    pub fn only(&self, caller: &Caller) -> bool {
        let single = |map: &IdMap, id| map.count() == 1 && map.inside(id).is_some();
        single(&self.users, caller.user_id()) && single(&self.groups, caller.group_id())
    }
}

/// Lines from 0 on: first the caller's own id, if wanted, then what `text` lends.
fn lent(caller: &Caller, text: &str, file: &str, own: Option<u32>) -> Result<IdMap, Error> {
    let ranges = subordinate_ranges(text, caller, own);
    if ranges.is_empty() {
        return Err(Error::new(ErrorKind::MissingRanges, format!("{file} lends no ids to {caller}")));
    }
    let mut next = 0;
    let mut lines = Vec::new();
    for (outside, count) in own.map(|id| (id, 1)).into_iter().chain(ranges).take(LINES) {
        // More ids than there are numbers inside: the rest cannot be used.
        let count = count.min(u32::MAX - next);
        if count > 0 {
            lines.push(Range::new(next, outside, count)?);
            next += count;
        }
    }
    IdMap::new(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ann() -> Caller {
        Caller::new(1000, 1001).name("ann")
    }

    #[test]
    fn own_maps_one_id() {
        let maps = IdMaps::own(&ann()).unwrap();
        assert_eq!((maps.users().text(), maps.groups().text()), ("0 1000 1\n".into(), "0 1001 1\n".into()));
        assert!(maps.only(&ann()));
        let same = IdMaps::own_as(&ann(), 1000, 1001).unwrap();
        assert_eq!(same.users().text(), "1000 1000 1\n");
        assert!(same.only(&ann()) && !same.only(&Caller::new(1000, 7)));
    }

    #[test]
    fn lent_ids_follow_the_own_one() {
        let table: [(&str, Result<&str, &str>); 8] = [
            ("ann:100000:65536", Ok("0 1000 1, 1 100000 65536")),
            ("bob:1:2\nann:100000:10\nann:300000:5\n", Ok("0 1000 1, 1 100000 10, 11 300000 5")),
            ("1000:100000:10", Ok("0 1000 1, 1 100000 10")),
            // The own id lies within what is lent: it is mapped once.
            ("ann:999:3", Ok("0 1000 1, 1 999 1, 2 1001 1")),
            ("ann:0:4294967295", Ok("0 1000 1, 1 0 1000, 1001 1001 4294966294")),
            ("", Err("/etc/subuid lends no ids to user ann (1000)")),
            ("annabel:100000:10", Err("/etc/subuid lends no ids to user ann (1000)")),
            ("ann:1000:1", Err("/etc/subuid lends no ids to user ann (1000)")),
        ];
        for (text, wanted) in table {
            let got = IdMaps::for_user(&ann(), text, "ann:5000:5");
            let got = got.map(|maps| maps.users().to_string()).map_err(|error| {
                assert_eq!(error.kind(), ErrorKind::MissingRanges);
                error.to_string()
            });
            assert_eq!(got.as_deref().map_err(String::as_str), wanted, "{text:?}");
        }
        let error = IdMaps::for_user(&ann(), "ann:100000:10", "").unwrap_err();
        assert_eq!(error.to_string(), "/etc/subgid lends no ids to user ann (1000)");
    }

    #[test]
    fn roots_containers_get_lent_ids_only() {
        let root = Caller::new(0, 0).name("root");
        let maps = IdMaps::subordinate(&root, "root:100000:65536", "0:200000:65536").unwrap();
        assert_eq!(maps.users().to_string(), "0 100000 65536");
        assert_eq!(maps.groups().to_string(), "0 200000 65536");
    }

    #[test]
    fn no_more_lines_than_the_kernel_takes() {
        let text: String = (0..400).map(|n| format!("ann:{}:1\n", 100_000 + n * 2)).collect();
        let maps = IdMaps::for_user(&ann(), &text, &text).unwrap();
        assert_eq!(maps.users().ranges().len(), LINES);
    }
}
