//! Where groups are made: below the caller's own cgroup, or somewhere named.
//!
//! Leaves out: systemd, which wants to be asked for a subtree. Oldest kernel: 5.10.

use std::path::PathBuf;

use crate::controller::Version;
use crate::directory::Directory;
use crate::error::{Error, ErrorKind, Result};
use crate::hierarchy::{Hierarchy, Mount};
use crate::name::Name;

/// What the path of a group is relative to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Parent {
    /// The cgroup the calling process is in. The default.
    ///
    /// In a cgroup2 tree a group with processes cannot hand controllers to groups below it ("no internal processes"), so there it is the
    /// nearest ancestor that has none and may be written to: of a systemd user session the slice the session is in, of a delegated unit with
    /// its process in a leaf that unit. If there is no such ancestor it is the own group; see [`vacate`].
    #[default]
    Own,
    /// The top of what is mounted, as for an absolute `cgroupsPath` of OCI.
    Root,
    /// The topmost group that the caller may write to: the top of what is mounted for root, and otherwise the highest of the own group and
    /// those above it, as a subtree that was delegated. So it is the same place whatever part of that subtree the caller is in.
    Top,
    /// A group that exists, by its path from the top of what is mounted, the same in each hierarchy.
    Path(PathBuf),
}

/// Opens the directory that `parent` means in `mount`.
pub(crate) fn find(mount: &Mount, parent: &Parent) -> Result<Directory> {
    match parent {
        Parent::Root => Directory::open(&mount.mount_point),
        Parent::Path(path) => Directory::open(&mount.mount_point)?.descend(Name::parse_absolute(path)?.parts()),
        Parent::Top => topmost(mount),
        Parent::Own => {
            let Some(own) = &mount.own else {
                let place = mount.mount_point.display();
                let message = format!("cannot find this process's own cgroup below {place}; name a parent instead");
                return Err(Error::unsupported(message));
            };
            let own = Directory::open(own)?;
            if mount.version == Version::V1 { Ok(own) } else { roomy(own, mount) }
        }
    }
}

/// The highest directory that may be written to; if there is none, the one where that is told best.
fn topmost(mount: &Mount) -> Result<Directory> {
    let top = Directory::open(&mount.mount_point)?;
    let Some(own) = mount.own.as_ref().filter(|_| !top.is_writable()) else {
        return Ok(top);
    };
    let mut here = Directory::open(own)?;
    let mut highest = None;
    while here.path() != mount.mount_point {
        if here.is_writable() {
            highest = Some(here.again());
        }
        here = here.parent()?;
    }
    Ok(highest.unwrap_or(here))
}

/// The nearest of `own` and its ancestors that may hand out controllers.
fn roomy(own: Directory, mount: &Mount) -> Result<Directory> {
    let mut here = own.again();
    while here.is_writable() {
        if is_top(&here) || here.text("cgroup.procs").is_some_and(|text| text.trim().is_empty()) {
            return Ok(here);
        }
        if here.path() == mount.mount_point {
            break;
        }
        here = here.parent()?;
    }
    Ok(own)
}

/// The true root of the tree is free of the rule about internal processes, and the only group without a type.
fn is_top(directory: &Directory) -> bool {
    !directory.has("cgroup.type")
}

/// Gives a fresh v1 group what it needs to hold processes at all.
pub(super) fn prepare(parent: &Directory, group: &Directory) -> Result<()> {
    if group.has("cgroup.type") {
        return Ok(());
    }
    // A v1 cpuset begins empty, and nothing can join it as long as either list is.
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if group.text(file).is_some_and(|list| list.trim().is_empty()) {
            group.write(file, parent.read(file)?.trim())?;
        }
    }
    // Before Linux 5.11 a group below the root is limited alone, without the groups below it, unless told otherwise.
    if group.text("memory.use_hierarchy").is_some_and(|flag| flag.trim() == "0") {
        group.write("memory.use_hierarchy", "1")?;
    }
    Ok(())
}

/// Makes room in the caller's own cgroup v2 group: moves every process in it into the group `leaf` below it, which is made if need be.
/// Afterwards groups with controllers can be made beside that leaf, with [`Parent::Own`].
///
/// This moves processes that may not be the caller's, so nothing here does it unasked. It is what a program does that runs alone in a
/// container, or in a unit with `Delegate=yes`.
///
/// ```no_run
/// use keelbox_cgroups::{ErrorKind, Group, Limits, MIB, vacate};
/// let limits = Limits::new().memory(64 * MIB);
/// let group = match Group::create("job", &limits) {
///     Err(error) if error.kind() == ErrorKind::InternalProcesses => {
///         vacate("supervisor")?;
///         Group::create("job", &limits)?
///     }
///     other => other?,
/// };
/// # Ok::<(), keelbox_cgroups::Error>(())
/// ```
///
/// # Errors
/// [`Unsupported`](ErrorKind::Unsupported) without a cgroup2 tree, [`PermissionDenied`](ErrorKind::PermissionDenied) if the own group is not
/// delegated, [`TimedOut`](ErrorKind::TimedOut) if new processes keep appearing.
pub fn vacate(leaf: &str) -> Result<()> {
    let hierarchy = Hierarchy::detect()?;
    let Some(own) = hierarchy.unified().and_then(Mount::own) else {
        return Err(Error::unsupported("cannot make room in the own cgroup: it is in no visible cgroup2 tree"));
    };
    let name = Name::parse(leaf.as_ref())?;
    let [name] = name.parts() else {
        return Err(Error::new(ErrorKind::InvalidPath, format!("cannot use {leaf} as a leaf: it must be one name")));
    };
    let own = Directory::open(own)?;
    match own.make(name) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        result => result?,
    }
    let target = own.child(name)?;
    for _ in 0..1000 {
        let inside = own.read("cgroup.procs")?;
        if inside.trim().is_empty() {
            return Ok(());
        }
        for pid in inside.lines().filter_map(super::pid) {
            match target.write("cgroup.procs", &pid.to_string()) {
                Err(error) if error.errno() == Some(nix::libc::ESRCH) => {}
                result => result?,
            }
        }
    }
    let place = own.path().display();
    Err(Error::new(ErrorKind::TimedOut, format!("cannot empty {place}: new processes keep coming")))
}
