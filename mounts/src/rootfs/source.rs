//! What a root file system is made of: a directory, or layers with what is written kept somewhere. Needs no kernel.
//!
//! Overlays in a user namespace need 5.11, changes kept in memory there 6.6 (extended attributes of users on tmpfs).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use keelbox_launch::{Slot, list};

use crate::root::host_path;
use crate::{Error, ErrorKind};

/// Where a container's root file system comes from. Paths are the host's.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum RootSource {
    /// A directory, with all mounts below it. What the container writes is written there.
    Directory(PathBuf),
    /// The same, of a directory that is open in this slot, in the mount namespace of whoever performs the steps.
    Descriptor(Slot),
    /// Layers, the first one on top, and where changes go.
    Overlay {
        /// Directories.
        lowers: Vec<PathBuf>,
        /// Where changes go.
        upper: Upper,
    },
}

/// Where the changes to an overlay go.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Upper {
    /// Nowhere: there are none. Missing mount points cannot be made then; [`Upper::Memory`] with a read-only root makes them.
    ReadOnly,
    /// To memory. They go with the container.
    Memory {
        /// How many bytes at most; by default half of the machine's memory (`tmpfs(5)`).
        bytes: Option<u64>,
    },
    /// To directories of one file system.
    Directories {
        /// Where changes are kept.
        upper: PathBuf,
        /// An empty directory that the kernel works in.
        work: PathBuf,
    },
}

/// The names of the two directories in a file system that keeps changes in memory.
pub(crate) const UPPER: &str = "upper";
pub(crate) const WORK: &str = "work";

/// The options of an overlay, as `FileSystem` takes them.
pub(crate) fn overlay_options(lowers: &[PathBuf], upper: &Upper, more: &[&str]) -> Result<Vec<u8>, Error> {
    if lowers.is_empty() {
        return Err(Error::new(ErrorKind::InvalidValue, "cannot plan an overlay without layers"));
    }
    let mut options: Vec<OsString> = Vec::with_capacity(lowers.len() + 3);
    for lower in lowers {
        options.push(option("lowerdir+=", host_path(lower)?.to_bytes()));
    }
    let (upper, work) = match upper {
        Upper::ReadOnly => (None, None),
        Upper::Memory { .. } => (Some(Path::new(UPPER)), Some(Path::new(WORK))),
        Upper::Directories { upper, work } => (Some(upper.as_path()), Some(work.as_path())),
    };
    for (key, path) in [("upperdir=", upper), ("workdir=", work)] {
        if let Some(path) = path {
            options.push(option(key, &escaped(host_path(path)?.to_bytes())));
        }
    }
    options.extend(more.iter().map(OsString::from));
    Ok(list(options))
}

fn option(key: &str, value: &[u8]) -> OsString {
    OsString::from_vec([key.as_bytes(), value].concat())
}

/// `upperdir` and `workdir` are unescaped by the kernel, `lowerdir+` is not (fs/overlayfs/params.c).
fn escaped(path: &[u8]) -> Vec<u8> {
    path.iter().flat_map(|byte| if *byte == b'\\' { vec![b'\\', b'\\'] } else { vec![*byte] }).collect()
}

impl RootSource {
    /// A directory of the host.
    #[must_use]
    pub fn directory(path: impl AsRef<Path>) -> Self {
        Self::Directory(path.as_ref().to_owned())
    }

    /// Layers, the first one on top, with at most `bytes` bytes of changes kept in memory.
    #[must_use]
    pub fn layers(lowers: &[impl AsRef<Path>], bytes: Option<u64>) -> Self {
        let lowers = lowers.iter().map(|lower| lower.as_ref().to_owned()).collect();
        Self::Overlay { lowers, upper: Upper::Memory { bytes } }
    }

    /// Whether what is written to it is written for this container only.
    pub(crate) fn is_private(&self) -> bool {
        matches!(self, Self::Overlay { upper: Upper::Memory { .. } | Upper::Directories { .. }, .. })
    }

    /// How errors and people call it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Directory(path) => path.display().to_string(),
            Self::Descriptor(slot) => format!("in slot {}", slot.0),
            Self::Overlay { lowers, .. } => format!("of {} layers", lowers.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layer_has_an_option_of_its_own() {
        let lowers = [PathBuf::from("/a:b,c"), PathBuf::from("/d\\e")];
        let upper = Upper::Directories { upper: "/u\\p".into(), work: "/w".into() };
        let options = overlay_options(&lowers, &upper, &["userxattr"]).expect("there are layers");
        let expected = ["lowerdir+=/a:b,c", "lowerdir+=/d\\e", "upperdir=/u\\\\p", "workdir=/w", "userxattr"];
        assert_eq!(options, list(expected));
        let memory = overlay_options(&lowers[..1], &Upper::Memory { bytes: None }, &[]).expect("there is a layer");
        assert_eq!(memory, list(["lowerdir+=/a:b,c", "upperdir=upper", "workdir=work"]));
    }

    #[test]
    fn an_overlay_of_nothing_is_refused() {
        assert_eq!(overlay_options(&[], &Upper::ReadOnly, &[]).expect_err("no layer").kind(), ErrorKind::InvalidValue);
        let nameless = overlay_options(&[PathBuf::new()], &Upper::ReadOnly, &[]);
        assert_eq!(nameless.expect_err("no path").kind(), ErrorKind::InvalidPath);
    }
}
