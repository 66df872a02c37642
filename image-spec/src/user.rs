//! Users: the text of an image or a caller, and what it means in an image's own `passwd` and `group` files.
//!
//! Job: pure functions over bytes that a hostile image wrote. What looks like a number is one and is never looked up as a
//! name (CVE-2026-46680); what is out of range is refused, never cut to 0 (CVE-2024-40635, CVE-2026-30892). Leaves out NSS
//! and opening the files: `Layers::read` does that for images.

use crate::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// The greatest id. One more is what the kernel takes for "leave unchanged".
const MAX_ID: u32 = u32::MAX - 1;

/// A user or group, by name or by number.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Name {
    Id(u32),
    Text(String),
}

/// A user as images and callers write one: `name`, `uid`, `name:group`, `uid:gid` and mixtures.
///
/// ```
/// use keelbox_image_spec::User;
/// let passwd = b"root:x:0:0::/root:/bin/sh\nwww:x:33:33::/srv:/bin/sh\n";
/// let group = b"www:x:33:\nlogs:x:44:www\n";
/// let www = "www".parse::<User>()?.resolve(passwd, group)?;
/// assert_eq!((www.uid, www.gid, www.additional_gids), (33, 33, vec![44]));
/// let number = "33".parse::<User>()?.resolve(passwd, group)?;
/// assert_eq!((number.uid, number.gid), (33, 33));
/// # Ok::<(), keelbox_image_spec::Error>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct User {
    user: Name,
    group: Option<Name>,
}

/// A user as the kernel needs it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct ResolvedUser {
    /// The user id.
    pub uid: u32,
    /// The primary group id.
    pub gid: u32,
    /// Supplementary groups, in the order of the group file, each once, without the primary one. Only for a user given by
    /// name and without a group, as image-spec `conversion.md` has it.
    pub additional_gids: Vec<u32>,
    /// The user's name, when the passwd file knows one.
    pub name: Option<String>,
    /// The home directory, when the passwd file gives an absolute one.
    pub home: Option<String>,
}

impl User {
    /// A user and a group by number.
    ///
    /// # Errors
    /// `Format` for 4294967295, which the kernel takes for "no change".
    pub fn from_ids(uid: u32, gid: u32) -> Result<Self> {
        if uid > MAX_ID || gid > MAX_ID {
            return Err(Error::format(format!("{uid}:{gid} is not a user: ids end at {MAX_ID}")));
        }
        Ok(Self { user: Name::Id(uid), group: Some(Name::Id(gid)) })
    }

    /// Whether resolving needs the image's files. A number for each needs none, though `home` may still come from them.
    #[must_use]
    pub fn is_numeric(&self) -> bool {
        matches!((&self.user, &self.group), (Name::Id(_), Some(Name::Id(_))))
    }

    /// Looks the user up in the bytes of a `passwd(5)` and a `group(5)` file. Lines that cannot be one are passed over.
    ///
    /// A number without a group gets the primary group of the first line with that number, else 0.
    ///
    /// # Errors
    /// `NotFound` for a name in neither file, `Format` when the line of that name has no valid number.
    pub fn resolve(&self, passwd: &[u8], group: &[u8]) -> Result<ResolvedUser> {
        let line = match &self.user {
            Name::Id(uid) => Lines::new(passwd).find(|line| line.number(2) == Some(*uid) && line.number(3).is_some()),
            Name::Text(name) => Lines::new(passwd).find(|line| line.field(0) == Some(name.as_bytes())),
        };
        let mut resolved = ResolvedUser::default();
        match (&self.user, &line) {
            (Name::Id(uid), _) => resolved.uid = *uid,
            (Name::Text(name), None) => {
                return Err(Error::not_found(format!("there is no user {name:?} in /etc/passwd")));
            }
            (Name::Text(name), Some(line)) => {
                let wrong = || Error::format(format!("/etc/passwd gives user {name:?} no valid number"));
                resolved.uid = line.number(2).ok_or_else(wrong)?;
                line.number(3).ok_or_else(wrong)?;
            }
        }
        if let Some(line) = &line {
            resolved.gid = line.number(3).unwrap_or(0);
            resolved.name = line.text(0).map(str::to_owned);
            resolved.home = line.text(5).filter(|home| home.starts_with('/')).map(str::to_owned);
        }
        match &self.group {
            Some(Name::Id(gid)) => resolved.gid = *gid,
            Some(Name::Text(name)) => resolved.gid = group_id(name, group)?,
            None => {
                if let Name::Text(name) = &self.user {
                    resolved.additional_gids = memberships(name, group, resolved.gid);
                }
            }
        }
        Ok(resolved)
    }
}

fn group_id(name: &str, group: &[u8]) -> Result<u32> {
    let line = Lines::new(group)
        .find(|line| line.field(0) == Some(name.as_bytes()))
        .ok_or_else(|| Error::not_found(format!("there is no group {name:?} in /etc/group")))?;
    line.number(2).ok_or_else(|| Error::format(format!("/etc/group gives group {name:?} no valid number")))
}

/// The groups that list `name`, at most as many as the kernel takes (`NGROUPS_MAX`).
fn memberships(name: &str, group: &[u8], primary: u32) -> Vec<u32> {
    const NGROUPS_MAX: usize = 65_536;
    let mut seen = std::collections::HashSet::from([primary]);
    Lines::new(group)
        .filter(|line| {
            line.field(3).is_some_and(|members| members.split(|byte| *byte == b',').any(|m| m == name.as_bytes()))
        })
        .filter_map(|line| line.number(2))
        .filter(|gid| seen.insert(*gid))
        .take(NGROUPS_MAX)
        .collect()
}

/// The lines of a file of colon-separated fields, without those that hold a NUL byte.
struct Lines<'a>(std::slice::Split<'a, u8, fn(&u8) -> bool>);

impl<'a> Lines<'a> {
    fn new(file: &'a [u8]) -> Self {
        let is_newline: fn(&u8) -> bool = |byte| *byte == b'\n';
        Self(file.split(is_newline))
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        self.0.by_ref().map(Line).find(|line| !line.0.is_empty() && !line.0.contains(&0))
    }
}

#[derive(Clone, Copy)]
struct Line<'a>(&'a [u8]);

impl<'a> Line<'a> {
    fn field(&self, index: usize) -> Option<&'a [u8]> {
        self.0.split(|byte| *byte == b':').nth(index)
    }

    fn text(&self, index: usize) -> Option<&'a str> {
        self.field(index).and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    fn number(&self, index: usize) -> Option<u32> {
        self.text(index).and_then(decimal)
    }
}

/// A number of decimal digits and nothing else, in the range of ids.
fn decimal(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|id| digits && *id <= MAX_ID)
}

impl FromStr for Name {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let first = text.bytes().next().ok_or(())?;
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return decimal(text).map(Self::Id).ok_or(());
        }
        // What is neither a number nor a possible name: signs, white space, control characters.
        let possible =
            !b"+-".contains(&first) && !text.chars().any(|c| c.is_whitespace() || c.is_control() || "/,:".contains(c));
        if possible { Ok(Self::Text(text.to_owned())) } else { Err(()) }
    }
}

impl FromStr for User {
    type Err = Error;

    /// # Errors
    /// `Format` for text that can be neither a name nor a number up to 4294967294.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = |()| Error::format(format!("{text:?} is not a user"));
        match text.split_once(':') {
            None => Ok(Self { user: text.parse().map_err(wrong)?, group: None }),
            Some((user, group)) => {
                Ok(Self { user: user.parse().map_err(wrong)?, group: Some(group.parse().map_err(wrong)?) })
            }
        }
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |name: &Name| match name {
            Name::Id(id) => id.to_string(),
            Name::Text(text) => text.clone(),
        };
        f.write_str(&part(&self.user))?;
        self.group.as_ref().map_or(Ok(()), |group| write!(f, ":{}", part(group)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\nwww:x:33:34::/srv:/x\n1000:x:0:0::/root:/x\n4294967296:x:0:0:::\n\
        bad:x:4294967296:0:::\nneg:x:-1:0:::\nnogid:x:5:\nrel:x:7:7::home:\nnul\0:x:0:0:::\n1x:x:9:9:::\nwww:x:0:0:::\n";
    const GROUP: &[u8] = b"root:x:0:\nwww:x:33:\nlog:x:44:a,www,b\nlog2:x:44:www\nprim:x:34:www\nbad:x:-4:www\nbig:x:4294967296:www\nz:x:45:www";

    fn resolve(text: &str) -> Result<ResolvedUser> {
        text.parse::<User>()?.resolve(PASSWD, GROUP)
    }

    #[test]
    fn ids_are_never_anything_else() {
        for id in [0, 1, 65_534, i32::MAX as u32, i32::MAX as u32 + 1, MAX_ID] {
            for group in [None, Some(0), Some(MAX_ID)] {
                let text = group.map_or(id.to_string(), |group| format!("{id}:{group}"));
                let user = resolve(&text).expect(&text);
                assert_eq!((user.uid, user.gid), (id, group.unwrap_or(0)), "{text}");
                assert!(user.additional_gids.is_empty());
            }
        }
        // A line named 1000 exists with uid 0; the number is still the number.
        assert_eq!(resolve("1000").expect("number").uid, 1000);
        assert_eq!(resolve("00").expect("decimal digits").uid, 0);
    }

    #[test]
    fn garbage_is_refused_and_never_root() {
        for text in [
            "-1",
            "",
            " 1",
            "1 ",
            "+1",
            "1:",
            ":1",
            ":",
            "4294967295",
            "4294967296",
            "1:4294967295",
            "1:-1",
            "\u{ff0b}1 ",
            "a b",
            "a\0",
            "a\nb",
            "1000000000000000000000000000000",
            "a:b:c",
            "+0",
            "-a",
            "a/b",
            "1:\t2",
        ] {
            assert_eq!(resolve(text).expect_err(text).kind(), ErrorKind::Format, "{text:?}");
        }
        for text in ["0x1", "1e3", "nobody", "www:nobody", "0:nobody", "nul", "1.0", "\u{ff0b}1"] {
            assert_eq!(resolve(text).expect_err(text).kind(), ErrorKind::NotFound, "{text:?}");
        }
        for text in ["bad", "neg", "nogid", "www:bad", "0:big"] {
            assert_eq!(resolve(text).expect_err(text).kind(), ErrorKind::Format, "{text:?}");
        }
    }

    #[test]
    fn names_bring_their_groups_unless_a_group_is_given() {
        let www = resolve("www").expect("known");
        assert_eq!((www.uid, www.gid, &www.additional_gids[..]), (33, 34, &[44, 45][..]), "the first line counts");
        assert_eq!((www.name.as_deref(), www.home.as_deref()), (Some("www"), Some("/srv")));
        assert_eq!(
            resolve("www:log").expect("known"),
            ResolvedUser { gid: 44, additional_gids: vec![], ..www.clone() }
        );
        assert_eq!(resolve("www:7").expect("known").gid, 7);
        assert_eq!(resolve("5:log").expect("known").gid, 44);
        let number = resolve("33").expect("number");
        assert_eq!((number.gid, number.additional_gids.len(), number.home.as_deref()), (34, 0, Some("/srv")));
        assert_eq!(resolve("rel").expect("known").home, None);
        assert_eq!(resolve("1x").expect("a name").uid, 9);
    }

    #[test]
    fn hostile_files_are_only_bytes() {
        let mut huge = vec![b'x'; 8 << 20];
        huge.extend_from_slice(b"\nok:x:1:2::/h:/s\n");
        let user: User = "ok".parse().expect("name");
        assert_eq!(user.resolve(&huge, &[0xff; 4096]).expect("last line").uid, 1);
        for file in [&b""[..], b":", b"\n\n\n", b"ok", b"ok:", b"ok:x", b"ok:x:", b"\xffok:x:1:1", b"ok\0:x:1:1"] {
            assert!(user.resolve(file, file).is_err(), "{file:?}");
        }
        let many: String = (0..100_000).map(|gid| format!("g{gid}:x:{gid}:ok\n")).collect();
        assert_eq!(user.resolve(b"ok:x:1:1:::", many.as_bytes()).expect("capped").additional_gids.len(), 65_536);
    }

    #[test]
    fn display_is_what_was_parsed() {
        for text in ["www", "0", "www:log", "1:2", "1:log"] {
            assert_eq!(text.parse::<User>().expect(text).to_string(), text);
        }
        assert!("1:2".parse::<User>().expect("ids").is_numeric());
        assert!(!"1".parse::<User>().expect("id").is_numeric());
        assert!(User::from_ids(u32::MAX, 0).is_err());
    }
}
