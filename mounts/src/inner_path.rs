//! A path inside a root: absolute, without `..`, written in one way only. Needs no kernel.

use std::ffi::{CStr, CString, OsStr};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::str::FromStr;

use crate::{Error, ErrorKind};

/// A path inside a root file system: it begins with `/`, has no `.`, `..`, empty component or NUL, and no `/` at its end.
///
/// Two that are equal name the same place as long as no symbolic link is on the way; [`Root`](crate::Root) resolves links.
///
/// ```
/// use keelbox_mounts::InnerPath;
/// assert_eq!(InnerPath::new("/etc//./hosts/")?.to_string(), "/etc/hosts");
/// assert!(InnerPath::new("/srv/../etc").is_err());
/// # Ok::<(), keelbox_mounts::Error>(())
/// ```
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct InnerPath(CString);

/// What the kernel takes, with the NUL at the end.
const PATH_MAX: usize = 4096;

impl InnerPath {
    /// The path `path`, written in the one way.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidPath`] if it is relative, has a `..` or a NUL, or is longer than 4095 bytes.
    pub fn new(path: impl AsRef<Path>) -> Result<Self, Error> {
        let bytes = path.as_ref().as_os_str().as_bytes();
        let refuse = |why: &str| {
            let attempt = format!("cannot use {} as a path inside: {why}", path.as_ref().display());
            Error::new(ErrorKind::InvalidPath, attempt)
        };
        if bytes.first() != Some(&b'/') {
            return Err(refuse("it is not absolute"));
        }
        let mut clean = Vec::with_capacity(bytes.len());
        for component in bytes.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => return Err(refuse("it has a `..`")),
                name if name.len() > 255 => return Err(refuse("a name in it is longer than 255 bytes")),
                name => {
                    clean.push(b'/');
                    clean.extend_from_slice(name);
                }
            }
        }
        if clean.is_empty() {
            clean.push(b'/');
        }
        if clean.len() >= PATH_MAX {
            return Err(refuse("it is too long"));
        }
        CString::new(clean).map(Self).map_err(|_| refuse("it has a NUL"))
    }

    /// The directory at the top.
    #[must_use]
    pub fn root() -> Self {
        Self(c"/".to_owned())
    }

    /// As a NUL-terminated string, as steps hold it.
    #[must_use]
    pub fn as_c_str(&self) -> &CStr {
        &self.0
    }

    /// As a path.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(self.0.to_bytes()))
    }

    /// Whether it is `/`.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.to_bytes() == b"/"
    }

    /// The directory that holds it and its name there; nothing for `/`.
    ///
    /// ```
    /// use keelbox_mounts::InnerPath;
    /// let (parent, name) = InnerPath::new("/etc/hosts")?.split().unwrap();
    /// assert_eq!((parent.to_string().as_str(), name.as_c_str()), ("/etc", c"hosts"));
    /// # Ok::<(), keelbox_mounts::Error>(())
    /// ```
    #[must_use]
    pub fn split(&self) -> Option<(Self, CString)> {
        let bytes = self.0.to_bytes();
        let slash = bytes.iter().rposition(|byte| *byte == b'/')?;
        let (parent, name) = (bytes.get(..slash)?, bytes.get(slash + 1..)?);
        if name.is_empty() {
            return None;
        }
        let parent = if parent.is_empty() { Self::root() } else { Self(CString::new(parent).ok()?) };
        Some((parent, CString::new(name).ok()?))
    }

    /// Whether it is `directory` or lies below it.
    #[must_use]
    pub fn starts_with(&self, directory: &Self) -> bool {
        self.as_path().starts_with(directory.as_path())
    }

    /// The paths from the first directory below `/` down to this one.
    pub(crate) fn prefixes(&self) -> impl Iterator<Item = Self> + '_ {
        let bytes = self.0.to_bytes();
        let ends = (1..=bytes.len()).filter(|end| *end > 1 && matches!(bytes.get(*end), None | Some(b'/')));
        ends.filter_map(|end| CString::new(bytes.get(..end)?).ok()).map(Self)
    }
}

impl fmt::Display for InnerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_path().display().fmt(f)
    }
}

impl fmt::Debug for InnerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_path(), f)
    }
}

impl AsRef<Path> for InnerPath {
    fn as_ref(&self) -> &Path {
        self.as_path()
    }
}

impl FromStr for InnerPath {
    type Err = Error;

    fn from_str(path: &str) -> Result<Self, Error> {
        Self::new(path)
    }
}

impl TryFrom<&Path> for InnerPath {
    type Error = Error;

    fn try_from(path: &Path) -> Result<Self, Error> {
        Self::new(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_way_to_write_a_path() {
        let table = [("/", "/"), ("//", "/"), ("/./", "/"), ("/a/", "/a"), ("/a//b/./c", "/a/b/c"), ("/...", "/...")];
        for (given, clean) in table {
            assert_eq!(InnerPath::new(given).expect("it is a path").to_string(), clean);
        }
    }

    #[test]
    fn what_is_no_inner_path_is_refused() {
        let (long, name) = ("/a".repeat(2048), format!("/{}", "n".repeat(256)));
        for path in ["", "a", "./a", "..", "/..", "/a/../b", "/a/..", "/a\0b", &long, &name] {
            let error = InnerPath::new(path).expect_err(path);
            assert_eq!(error.kind(), ErrorKind::InvalidPath, "{path}");
        }
    }

    #[test]
    fn paths_come_apart() {
        let path = InnerPath::new("/a/bc/d").expect("it is a path");
        let prefixes: Vec<String> = path.prefixes().map(|prefix| prefix.to_string()).collect();
        assert_eq!(prefixes, ["/a", "/a/bc", "/a/bc/d"]);
        assert_eq!(InnerPath::root().prefixes().count(), 0);
        assert_eq!(InnerPath::root().split(), None);
        let (parent, name) = InnerPath::new("/a").expect("it is a path").split().expect("it has a parent");
        assert!(parent.is_root() && name.as_c_str() == c"a");
    }

    #[test]
    fn a_longer_name_is_not_below() {
        let path = |text: &str| InnerPath::new(text).expect("it is a path");
        assert!(path("/dev/pts").starts_with(&path("/dev")) && path("/dev").starts_with(&path("/dev")));
        assert!(!path("/device").starts_with(&path("/dev")) && path("/x").starts_with(&InnerPath::root()));
    }
}
