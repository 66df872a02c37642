//! The name of a group: a relative path whose every component is harmless.
//!
//! Leaves out: where the path starts, which is `Parent`. Needs no kernel.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

/// More levels than anyone nests on purpose, few enough for every kernel limit.
const DEPTH: usize = 64;

/// A checked relative path. It cannot climb, and it cannot name an interface file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Name(Vec<String>);

impl Name {
    /// Checks `path`. Names must be UTF-8, since `/proc/PID/cgroup` is read line by line as text.
    pub(crate) fn parse(path: &Path) -> Result<Self> {
        let refuse = |why: &str| {
            let shown = path.display().to_string().escape_debug().to_string();
            Error::new(ErrorKind::InvalidPath, format!("cannot use {shown:.200} as a cgroup path: {why}"))
        };
        let text = path.to_str().ok_or_else(|| refuse("it is not UTF-8"))?;
        if text.starts_with('/') {
            return Err(refuse("it must be relative; name the parent with Builder::parent"));
        }
        let mut parts = Vec::new();
        for part in text.split('/') {
            check(part).map_err(refuse)?;
            parts.push(part.to_owned());
        }
        if parts.len() > DEPTH {
            return Err(refuse("it has more than 64 components"));
        }
        Ok(Self(parts))
    }

    /// As [`parse`](Self::parse), but empty is allowed and a leading `/` means the top.
    pub(crate) fn parse_absolute(path: &Path) -> Result<Self> {
        let bytes = path.as_os_str().as_bytes();
        let stripped = bytes.strip_prefix(b"/").unwrap_or(bytes);
        if stripped.is_empty() {
            return Ok(Self(Vec::new()));
        }
        Self::parse(Path::new(OsStr::from_bytes(stripped)))
    }

    pub(crate) fn parts(&self) -> &[String] {
        &self.0
    }

    pub(crate) fn to_path(&self) -> PathBuf {
        self.0.iter().collect()
    }

    /// The same path with `suffix` added to its last component.
    pub(crate) fn suffixed(mut self, suffix: &str) -> Self {
        if let Some(last) = self.0.last_mut() {
            last.push_str(suffix);
        }
        self
    }
}

fn check(part: &str) -> Result<(), &'static str> {
    // The reserved names would make mkdir(2) fail with a misleading EEXIST, or could come to collide later.
    let reserved = ["tasks", "notify_on_release", "release_agent"];
    match part {
        "" => Err("a component is empty"),
        "." | ".." => Err("it may not contain . or .."),
        _ if part.contains(['\0', '\n']) => Err("it may not contain NUL or a newline"),
        _ if part.len() > 200 => Err("a component is longer than 200 bytes"),
        _ if part.starts_with("cgroup.") || reserved.contains(&part) => Err("a component is the name of a kernel file"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harmless_names_pass() {
        for path in ["a", "build/job-7", "docker:é", "a.slice/b.scope", "...", "..a"] {
            assert_eq!(Name::parse(Path::new(path)).unwrap().to_path(), Path::new(path));
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let deep = ["x"; 300].join("/");
        let long = "x".repeat(300);
        let bad = [
            "",
            ".",
            "..",
            "/a",
            "../a",
            "a/../../b",
            "a//b",
            "a/",
            "a\nb",
            "a\0b",
            "/",
            "/../..",
            "cgroup.procs",
            "tasks",
        ];
        for path in bad.into_iter().chain([deep.as_str(), &long]) {
            let error = Name::parse(Path::new(path)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidPath, "{path:?}");
            assert!(!error.to_string().contains('\n'));
        }
        let bytes = Path::new(OsStr::from_bytes(b"a\xff"));
        assert_eq!(Name::parse(bytes).unwrap_err().kind(), ErrorKind::InvalidPath);
    }

    #[test]
    fn absolute_paths_may_be_empty_but_not_climb() {
        assert!(Name::parse_absolute(Path::new("/")).unwrap().parts().is_empty());
        assert_eq!(Name::parse_absolute(Path::new("/a/b")).unwrap().to_path(), Path::new("a/b"));
        assert!(Name::parse_absolute(Path::new("//a")).is_err());
        assert!(Name::parse_absolute(Path::new("/../x")).is_err());
    }
}
