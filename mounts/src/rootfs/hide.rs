//! What a container must not see or change in `/proc` and `/sys`, and the empty things that hide it. Needs no kernel.
//!
//! A path that does not exist is passed over; every other error stops the container (the class of CVE-2025-31133, where what
//! could not be masked stayed open). The file that hides others is the host's own `/dev/null`, never the container's, on a mount
//! that is read-only: root inside, who would own it, could change its mode for the whole machine.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use keelbox_launch::{OwnedStep, Slot, list, text};

use super::device::node_of_host;
use crate::attribute::{MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY};
use crate::{Error, ErrorKind, InnerPath};

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

/// The steps that hide paths. Those of a new `/proc` come first: there, one step finds the place for all of them.
pub(super) fn hiding(
    read_only: &[InnerPath],
    masked: &[InnerPath],
    new_proc: bool,
    mask: impl Fn(CString) -> OwnedStep + Copy,
) -> Vec<OwnedStep> {
    let (near, far) = by_place(read_only, new_proc);
    let (near_masked, far_masked) = by_place(masked, new_proc);
    let read_only = |target| OwnedStep::ReadOnly { target };
    let mut steps = Vec::new();
    if !near.is_empty() || !near_masked.is_empty() {
        steps.push(OwnedStep::Enter { path: text("/proc") });
    }
    steps.extend(near.into_iter().map(read_only).chain(near_masked.into_iter().map(mask)));
    steps.extend(far.into_iter().map(read_only).chain(far_masked.into_iter().map(mask)));
    steps
}

/// Names in a new `/proc`, and paths for which that does not hold.
fn by_place(paths: &[InnerPath], new_proc: bool) -> (Vec<CString>, Vec<CString>) {
    let (near, far): (Vec<_>, Vec<_>) = paths.iter().partition(|path| new_proc && name_in_proc(path).is_some());
    (
        near.into_iter().filter_map(name_in_proc).collect(),
        far.into_iter().map(|path| path.as_c_str().to_owned()).collect(),
    )
}

/// The name of a path of the lists that lies directly in `/proc`: procfs has files and directories by these names, never links.
fn name_in_proc(path: &InnerPath) -> Option<CString> {
    let path = path.as_c_str().to_str().ok()?;
    let name = path.strip_prefix("/proc/").filter(|name| !name.contains('/'))?;
    MASKED_HOSTILE.iter().chain(&READ_ONLY).any(|known| *known == path).then(|| text(name))
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
    node_of_host(c"/dev/null", out)
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
