//! What a container must not see or change in `/proc` and `/sys`, and the empty things that hide it. Needs no kernel.
//!
//! A path that does not exist is passed over; every other error stops the container (the class of CVE-2025-31133, where what
//! could not be masked stayed open). The file that hides others is the host's own `/dev/null`, never the container's.

use std::fs::File;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use keelbox_launch::{OwnedStep, Slot, list};

use super::device::single;
use crate::attribute::{MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY};
use crate::{Error, ErrorKind};

/// How much of the usual surroundings a container gets.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Defaults {
    /// What ordinary programs expect: `/proc`, `/dev`, `/dev/pts`, `/dev/shm`, `/dev/mqueue` and a read-only `/sys`, with what
    /// tells about the host masked. Device nodes that the root itself holds cannot be opened.
    #[default]
    Container,
    /// The mounts of [`Container`](Self::Container), with nothing hidden and nothing made read-only but `/sys`.
    Trusted,
    /// What hostile code may see: a `/proc` of its own processes only, `/dev`, `/dev/pts` and `/dev/shm`; no `/sys`. Device nodes
    /// that the root itself holds cannot be opened.
    Hostile,
}

const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

const MASKED_HOSTILE: [&str; 21] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/bus",
    "/proc/config.gz",
    "/proc/interrupts",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/key-users",
    "/proc/keys",
    "/proc/kmsg",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/bpf",
    "/sys/kernel/debug",
    "/sys/kernel/security",
    "/sys/kernel/tracing",
];

const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

impl Defaults {
    /// The paths that are masked. For hostile code they are listed even where its own `/proc` does not have them, so that a
    /// mount of the caller's shows no more.
    #[must_use]
    pub fn masked_paths(self) -> &'static [&'static str] {
        match self {
            Self::Container => &MASKED,
            Self::Trusted => &[],
            Self::Hostile => &MASKED_HOSTILE,
        }
    }

    /// The paths that are made read-only.
    #[must_use]
    pub fn read_only_paths(self) -> &'static [&'static str] {
        match self {
            Self::Container => &READ_ONLY,
            Self::Trusted => &[],
            Self::Hostile => READ_ONLY.get(1..).unwrap_or_default(),
        }
    }
}

impl Defaults {
    /// The attributes of the root's own mount. An image may hold nodes for any device of the host, the disks among them, and root
    /// inside owns them: none of them can be opened, but those of `/dev`.
    pub(crate) fn root_attributes(self) -> u64 {
        if self == Self::Trusted { 0 } else { MOUNT_ATTR_NODEV }
    }
}

/// Checks that `descriptor` is the null device, 1:3, and nothing that somebody put in its place (CVE-2025-31133).
///
/// ```
/// use std::os::fd::AsFd;
/// keelbox_mounts::check_null(std::fs::File::open("/dev/null")?.as_fd())?;
/// assert!(keelbox_mounts::check_null(std::fs::File::open("/dev/zero")?.as_fd()).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`ErrorKind::WrongType`] if it is anything else.
pub fn check_null(descriptor: BorrowedFd<'_>) -> Result<(), Error> {
    let attempt = "cannot mask with /dev/null";
    let file = descriptor.try_clone_to_owned().map(File::from).map_err(|error| Error::io(attempt, error))?;
    let metadata = file.metadata().map_err(|error| Error::io(attempt, error))?;
    if metadata.file_type().is_char_device() && metadata.rdev() == libc::makedev(1, 3) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::WrongType, format!("{attempt}: it is not the device 1:3")))
}

/// The step that prepares the file that hides files.
pub(crate) fn mask_file(out: Slot) -> OwnedStep {
    single(c"/dev/null", out)
}

/// The step that prepares the directory that hides directories: one for all of them, empty and read-only. Relative paths of the
/// steps after it start in `directory`, if one is given.
pub(crate) fn mask_directory(directory: Slot, out: Slot) -> OwnedStep {
    OwnedStep::FileSystem {
        kind: c"tmpfs".to_owned(),
        options: list(["mode=0555", "nr_inodes=2"]),
        set: MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC,
        directory,
        out,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::InnerPath;

    #[test]
    fn the_lists_hold_inner_paths_once_each() {
        for defaults in [Defaults::Container, Defaults::Hostile] {
            for list in [defaults.masked_paths(), defaults.read_only_paths()] {
                let mut paths: Vec<String> =
                    list.iter().map(|path| InnerPath::new(path).expect("it is a path").to_string()).collect();
                assert_eq!(paths, list);
                paths.sort();
                paths.dedup();
                assert_eq!(paths.len(), list.len());
            }
        }
    }

    #[test]
    fn hostile_code_sees_no_more_than_others() {
        let hostile = Defaults::Hostile;
        let hidden = |path: &&str| hostile.masked_paths().contains(path) || hostile.read_only_paths().contains(path);
        assert!(MASKED.iter().chain(&READ_ONLY).all(hidden));
    }
}
