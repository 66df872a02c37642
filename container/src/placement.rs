//! Where the control group of a container comes to be, if that is not left to us: `linux.cgroupsPath`. Pure.
//!
//! Leaves out systemd, which is asked for a group of its own and has another form of path: see `named/scope.rs`. Needs no kernel.

use std::path::{Path, PathBuf};

use keelbox_cgroups::Parent;
use oci_spec::runtime as oci;

/// A place for a control group that the specification names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Placement {
    pub(crate) parent: Parent,
    /// Relative to the parent.
    pub(crate) path: PathBuf,
}

impl Placement {
    /// The place that `spec` names; nothing if it names none.
    ///
    /// An absolute path starts at the top of each hierarchy. A relative one starts at the highest group that the caller may write to,
    /// which for root is the top as well: the same value is the same place, whatever group the caller is in itself.
    pub(crate) fn of(spec: &oci::Spec) -> Option<Self> {
        let path = spec.linux().as_ref()?.cgroups_path().as_ref().filter(|path| !path.as_os_str().is_empty())?;
        let parent = if path.is_absolute() { Parent::Root } else { Parent::Top };
        // Slashes in a row count as one; what climbs is refused by the one who makes the group.
        let path: PathBuf = path.components().filter(|part| *part != std::path::Component::RootDir).collect();
        Some(Self { parent, path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placement(path: &str) -> Option<Placement> {
        let mut spec = oci::Spec::default();
        let mut linux = oci::Linux::default();
        linux.set_cgroups_path(Some(path.into()));
        spec.set_linux(Some(linux));
        Placement::of(&spec)
    }

    #[test]
    fn paths_start_at_the_top_or_at_what_is_delegated() {
        let cases = [
            ("/a/b", Parent::Root, "a/b"),
            ("//a///b/", Parent::Root, "a/b"),
            ("a/b", Parent::Top, "a/b"),
            ("/../a", Parent::Root, "../a"),
            ("system.slice:docker:1", Parent::Top, "system.slice:docker:1"),
            ("/", Parent::Root, ""),
        ];
        for (given, parent, path) in cases {
            assert_eq!(placement(given), Some(Placement { parent, path: path.into() }), "{given}");
        }
        assert_eq!(placement(""), None);
    }
}
