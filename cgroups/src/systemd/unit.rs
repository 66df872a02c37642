//! The names of scopes and slices, and the form `slice:prefix:name` in which `linux.cgroupsPath` tells them. Pure.
//!
//! Leaves out where in the tree a slice lies: the kernel tells that of the process in it. Needs no kernel.

use crate::error::{Error, ErrorKind, Result};

/// systemd's own limit of a unit's name (systemd.unit(5)).
const LONGEST: usize = 255;

/// A scope of systemd that holds the processes of one container: its name, and the slice that it lies in.
///
/// ```
/// use keelbox_cgroups::systemd::Unit;
/// let unit = Unit::parse("machine.slice:libpod:4f2e")?;
/// assert_eq!((unit.slice(), unit.name()), (Some("machine.slice"), "libpod-4f2e.scope"));
/// # Ok::<(), keelbox_cgroups::Error>(())
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Unit {
    slice: Option<String>,
    name: String,
}

impl Unit {
    /// Reads `slice:prefix:name`, as runtimes have `linux.cgroupsPath` where systemd makes the groups. The slice may be empty, for systemd's own
    /// choice, and so may be the prefix.
    ///
    /// # Errors
    /// [`InvalidPath`](ErrorKind::InvalidPath) for any other form, for what is no name of a slice, and for a name that is too long.
    pub fn parse(path: &str) -> Result<Self> {
        let mut parts = path.split(':');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(slice), Some(prefix), Some(name), None) if !path.contains('/') => Self::scope(slice, prefix, name),
            _ => Err(refused(path, "systemd wants the form slice:prefix:name")),
        }
    }

    /// The scope `prefix-name.scope` in `slice`; without a prefix `name.scope`, and with an empty slice where systemd puts it. What cannot be
    /// in the name of a unit is escaped as systemd does (`+` becomes `\x2b`).
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn scope(slice: &str, prefix: &str, name: &str) -> Result<Self> {
        if name.is_empty() {
            return Err(refused(name, "it is empty"));
        }
        let stem = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}-{name}") };
        let name = format!("{}.scope", escaped(&stem));
        if name.len() > LONGEST {
            return Err(refused(&name, "it is longer than 255 bytes"));
        }
        let slice = if slice.is_empty() { None } else { Some(checked_slice(slice)?) };
        Ok(Self { slice, name })
    }

    /// The name of the scope.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The slice it was asked into; the default of systemd if there is none: `system.slice`, or for a user's instance `app.slice`.
    #[must_use]
    pub fn slice(&self) -> Option<&str> {
        self.slice.as_deref()
    }
}

fn refused(name: &str, why: &str) -> Error {
    Error::new(ErrorKind::InvalidPath, format!("cannot use {name:?} as the name of a unit: {why}"))
}

/// `-.slice` is the top; in any other a dash goes one level down, and no level is without a name.
fn checked_slice(slice: &str) -> Result<String> {
    let stem = slice.strip_suffix(".slice").ok_or_else(|| refused(slice, "the name of a slice ends in .slice"))?;
    let known = stem.bytes().all(is_plain) && slice.len() <= LONGEST;
    if stem == "-" || (known && !stem.is_empty() && stem.split('-').all(|level| !level.is_empty())) {
        return Ok(slice.to_owned());
    }
    Err(refused(slice, "that is no name of a slice"))
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.\\:".contains(&byte)
}

fn escaped(name: &str) -> String {
    let mut out = String::new();
    for byte in name.bytes() {
        if is_plain(byte) || byte == b'@' { out.push(byte.into()) } else { out.push_str(&format!("\\x{byte:02x}")) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_scopes() {
        let cases = [
            ("system.slice:docker:1", Some("system.slice"), "docker-1.scope"),
            (":runc:a", None, "runc-a.scope"),
            ("user.slice::a.b", Some("user.slice"), "a.b.scope"),
            ("-.slice:x:y", Some("-.slice"), "x-y.scope"),
            ("a-b-c.slice:x:y+z", Some("a-b-c.slice"), "x-y\\x2bz.scope"),
        ];
        for (path, slice, name) in cases {
            let unit = Unit::parse(path).unwrap();
            assert_eq!((unit.slice(), unit.name()), (slice, name), "{path}");
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        let long = format!("::{}", "a".repeat(250));
        for path in [
            "",
            "/a/b",
            "a:b",
            "a:b:c:d",
            "system:a:b",
            "a.slice:b:",
            "a/b.slice:c:d",
            ".slice:a:b",
            "a--b.slice:c:d",
            "-a.slice:c:d",
            "a-.slice:c:d",
            "a.slice:../b:c",
            &long,
        ] {
            assert_eq!(Unit::parse(path).unwrap_err().kind(), ErrorKind::InvalidPath, "{path}");
        }
    }
}
