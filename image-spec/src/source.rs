//! Where an image comes from: the text a caller gives to `Image::open`.
//!
//! Job: split a transport, a path and a name, as skopeo and podman write them. Pure, but for asking whether a plain path
//! exists. Leaves out registries (`docker://`): pulling is an action of its own.

use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// A parsed source.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Source {
    /// A layout in a directory.
    Directory { path: PathBuf, name: Option<String> },
    /// A tar archive of a layout.
    OciArchive { path: PathBuf, name: Option<String> },
    /// What `docker save` writes.
    DockerArchive { path: PathBuf, name: Option<String> },
    /// A file without a transport: its content decides.
    Archive { path: PathBuf, name: Option<String> },
}

impl Source {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let split = |rest: &str| {
            let (path, name) = match rest.split_once(':') {
                Some((path, name)) => (path, Some(name.to_owned())),
                None => (rest, None),
            };
            if path.is_empty() || path.contains('\0') || name.as_deref() == Some("") {
                return Err(Error::format(format!("{text:?} is not a source of an image")));
            }
            Ok((PathBuf::from(path), name))
        };
        if let Some(rest) = text.strip_prefix("oci:") {
            let (path, name) = split(rest)?;
            return Ok(Self::Directory { path, name });
        }
        if let Some(rest) = text.strip_prefix("oci-archive:") {
            let (path, name) = split(rest)?;
            return Ok(Self::OciArchive { path, name });
        }
        if let Some(rest) = text.strip_prefix("docker-archive:") {
            let (path, name) = split(rest)?;
            return Ok(Self::DockerArchive { path, name });
        }
        if let Some(
            transport @ ("docker" | "docker-daemon" | "containers-storage" | "dir" | "oci-layout" | "registry"),
        ) = text.split(':').next().filter(|transport| transport.len() < text.len())
        {
            return Err(Error::unsupported(format!("images cannot be opened with the transport {transport}:")));
        }
        Self::plain(text, split)
    }

    /// A path as it is, if there is such a file; otherwise what stands before its last colon.
    fn plain(text: &str, split: impl Fn(&str) -> Result<(PathBuf, Option<String>)>) -> Result<Self> {
        let (path, name) = match text.rsplit_once(':') {
            Some((path, name)) if !Path::new(text).exists() && !name.contains('/') => {
                split(path)?;
                (PathBuf::from(path), Some(name.to_owned()))
            }
            _ => (PathBuf::from(text), None),
        };
        if text.is_empty() || text.contains('\0') || name.as_deref() == Some("") {
            return Err(Error::format(format!("{text:?} is not a source of an image")));
        }
        if path.is_file() { Ok(Self::Archive { path, name }) } else { Ok(Self::Directory { path, name }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings() {
        let name = |text: &str| Some(text.to_owned());
        for (text, source) in [
            ("oci:./dir:tag", Source::Directory { path: "./dir".into(), name: name("tag") }),
            ("oci:/a/dir", Source::Directory { path: "/a/dir".into(), name: None }),
            (
                "oci:d:docker.io/library/debian:12",
                Source::Directory { path: "d".into(), name: name("docker.io/library/debian:12") },
            ),
            ("oci-archive:x.tar", Source::OciArchive { path: "x.tar".into(), name: None }),
            ("oci-archive:x.tar:v1", Source::OciArchive { path: "x.tar".into(), name: name("v1") }),
            ("docker-archive:x.tar:app:1", Source::DockerArchive { path: "x.tar".into(), name: name("app:1") }),
            ("/nonexistent/dir", Source::Directory { path: "/nonexistent/dir".into(), name: None }),
            ("/nonexistent/dir:12", Source::Directory { path: "/nonexistent/dir".into(), name: name("12") }),
            ("/proc/self/status", Source::Archive { path: "/proc/self/status".into(), name: None }),
        ] {
            assert_eq!(Source::parse(text).expect(text), source);
        }
    }

    #[test]
    fn wrong_spellings() {
        for text in
            ["", "oci:", "oci::tag", "oci:dir:", "oci-archive:", "docker-archive:x.tar:", "a\0b", "oci:a\0b", ":", "x:"]
        {
            assert_eq!(Source::parse(text).expect_err(text).kind(), crate::ErrorKind::Format, "{text:?}");
        }
        for text in ["docker://debian", "docker-daemon:x:1", "containers-storage:x", "dir:/x"] {
            assert_eq!(Source::parse(text).expect_err(text).kind(), crate::ErrorKind::Unsupported, "{text:?}");
        }
    }
}
