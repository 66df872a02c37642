//! Finds out which cgroup hierarchies this process can see, and where it sits in each.
//!
//! Reads `/proc/self/mountinfo` and `/proc/self/cgroup` and nothing else; a hard-coded `/sys/fs/cgroup` is not known here.
//! Leaves out: which v2 controllers are enabled where, which is asked when a group is made. Oldest kernel: 2.6.24.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, statfs};

use crate::controller::{Controller, Version};
use crate::error::{Error, Result};

/// The kinds of hosts there are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Layout {
    /// One cgroup2 tree, and no v1 controller.
    V2,
    /// v1 trees only.
    V1,
    /// v1 trees with controllers, and a cgroup2 tree with the rest.
    Hybrid,
    /// No hierarchy with a controller is mounted.
    None,
}

/// One mounted hierarchy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mount {
    pub(crate) version: Version,
    pub(crate) controllers: Vec<Controller>,
    pub(crate) name: Option<String>,
    pub(crate) mount_point: PathBuf,
    pub(crate) own: Option<PathBuf>,
}

impl Mount {
    /// Which interface it speaks.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The controllers bound to it; always empty for v2, where they differ from group to group.
    pub fn controllers(&self) -> &[Controller] {
        &self.controllers
    }

    /// The name of a named v1 hierarchy (`systemd` of `name=systemd`).
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Where it is mounted.
    pub fn mount_point(&self) -> &Path {
        &self.mount_point
    }

    /// The directory of the calling process's own cgroup; `None` if it lies outside of what is mounted.
    pub fn own(&self) -> Option<&Path> {
        self.own.as_deref()
    }
}

/// The cgroup hierarchies a process can see.
///
/// ```
/// use keelbox_cgroups::{Hierarchy, Layout};
/// let host = Hierarchy::detect_from(
///     "30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n",
///     "0::/user.slice/session-1.scope\n",
/// );
/// assert_eq!(host.layout(), Layout::V2);
/// let own = host.unified().and_then(|mount| mount.own()).unwrap();
/// assert_eq!(own.to_str(), Some("/sys/fs/cgroup/user.slice/session-1.scope"));
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Hierarchy {
    unified: Option<Mount>,
    legacy: Vec<Mount>,
}

impl Hierarchy {
    /// Looks at the running system: the two files in `/proc/self`, and whether each mount point is still what it says
    /// (another mount may lie on top of it).
    ///
    /// A host without cgroups is not an error but [`Layout::None`].
    ///
    /// # Errors
    /// If `/proc/self/mountinfo` or `/proc/self/cgroup` cannot be read.
    pub fn detect() -> Result<Self> {
        let read = |path: &str| fs::read(path).map_err(|source| Error::io(format!("cannot read {path}"), source));
        let (mountinfo, cgroup) = (read("/proc/self/mountinfo")?, read("/proc/self/cgroup")?);
        Ok(parse(&mountinfo, &cgroup, |version, path| {
            let wanted = if version == Version::V2 { CGROUP2_SUPER_MAGIC } else { CGROUP_SUPER_MAGIC };
            statfs(path).is_ok_and(|found| found.filesystem_type() == wanted)
        }))
    }

    /// The same from the text of the two files, without touching the system. Lines that make no sense are passed over.
    /// Format: proc_pid_mountinfo(5) and cgroups(7), "/proc/pid/cgroup".
    pub fn detect_from(mountinfo: impl AsRef<[u8]>, cgroup: impl AsRef<[u8]>) -> Self {
        parse(mountinfo.as_ref(), cgroup.as_ref(), |_, _| true)
    }

    /// What kind of host this is.
    pub fn layout(&self) -> Layout {
        let v1 = self.legacy.iter().any(|mount| !mount.controllers.is_empty());
        match (&self.unified, v1) {
            (Some(_), false) => Layout::V2,
            (Some(_), true) => Layout::Hybrid,
            (None, true) => Layout::V1,
            (None, false) => Layout::None,
        }
    }

    /// The cgroup2 tree, where one is mounted.
    pub fn unified(&self) -> Option<&Mount> {
        self.unified.as_ref()
    }

    /// The v1 trees, the named ones included.
    pub fn legacy(&self) -> &[Mount] {
        &self.legacy
    }

    /// Where `controller` lives: in a v1 tree that has it, or else in the cgroup2 tree.
    ///
    /// Whether the cgroup2 tree offers it is known only when a group is made. `None` if it can live nowhere.
    pub fn find(&self, controller: Controller) -> Option<&Mount> {
        self.legacy_of(controller).or(self.unified.as_ref())
    }

    pub(crate) fn legacy_of(&self, controller: Controller) -> Option<&Mount> {
        self.legacy.iter().find(|mount| mount.controllers.contains(&controller))
    }
}

impl fmt::Display for Hierarchy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mount in self.unified.iter().chain(&self.legacy) {
            let names: Vec<_> = mount.controllers.iter().map(|controller| controller.name(mount.version)).collect();
            let label = match (mount.version, &mount.name) {
                (Version::V2, _) => "v2".to_owned(),
                (Version::V1, Some(name)) => format!("v1 name={name}"),
                (Version::V1, None) => format!("v1 {}", names.join(",")),
            };
            let own = mount.own.as_deref().map_or_else(|| "outside".to_owned(), |own| own.display().to_string());
            writeln!(f, "{label} at {}, own group {own}", mount.mount_point.display())?;
        }
        Ok(())
    }
}

/// One line of mountinfo that is a cgroup mount.
struct Line {
    version: Version,
    root: PathBuf,
    mount_point: PathBuf,
    options: Vec<String>,
}

fn parse(mountinfo: &[u8], cgroup: &[u8], usable: impl Fn(Version, &Path) -> bool) -> Hierarchy {
    let mut lines: Vec<Line> = Vec::new();
    for line in mountinfo.split(|byte| *byte == b'\n').filter_map(mount_line) {
        // A later mount on the same place hides the earlier one.
        lines.retain(|earlier| earlier.mount_point != line.mount_point);
        lines.push(line);
    }
    lines.retain(|line| usable(line.version, &line.mount_point));
    let mut hierarchy = Hierarchy::default();
    for line in cgroup.split(|byte| *byte == b'\n') {
        let mut fields = line.splitn(3, |byte| *byte == b':');
        let (Some(id), Some(names), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let Ok(names) = std::str::from_utf8(names) else {
            continue;
        };
        let own = PathBuf::from(OsString::from_vec(path.to_vec()));
        if id == b"0" && names.is_empty() {
            hierarchy.unified = choose(&lines, &own, |line| line.version == Version::V2);
        } else if let Some(first) = names.split(',').next().filter(|first| !first.is_empty()) {
            let found =
                choose(&lines, &own, |line| line.version == Version::V1 && line.options.iter().any(|o| o == first));
            hierarchy.legacy.extend(found.map(|mount| describe(mount, names)));
        }
    }
    hierarchy
}

fn describe(mount: Mount, names: &str) -> Mount {
    let controllers =
        names.split(',').filter(|name| !name.starts_with("name=")).filter_map(Controller::parse).collect();
    let name = names.split(',').find_map(|name| name.strip_prefix("name=")).map(str::to_owned);
    Mount { controllers, name, ..mount }
}

/// Of several mounts of one hierarchy, the first that shows our own cgroup; or else the first.
fn choose(lines: &[Line], own: &Path, wanted: impl Fn(&Line) -> bool) -> Option<Mount> {
    let mut found: Option<Mount> = None;
    for line in lines.iter().filter(|line| wanted(line)) {
        let own = below(own, &line.root).map(|rest| join(&line.mount_point, &rest));
        if found.as_ref().is_none_or(|earlier| earlier.own.is_none() && own.is_some()) {
            let (version, mount_point) = (line.version, line.mount_point.clone());
            found = Some(Mount { version, controllers: Vec::new(), name: None, mount_point, own });
        }
    }
    found
}

/// `path` as seen from `root`. Both are relative to the cgroup namespace; `..` in one means it lies outside, and a cgroup that
/// was removed under us has " (deleted)" after its name.
fn below(path: &Path, root: &Path) -> Option<PathBuf> {
    let climbs = |path: &Path| path.components().any(|part| part == Component::ParentDir);
    let gone = path.as_os_str().as_encoded_bytes().ends_with(b" (deleted)");
    (!climbs(path) && !climbs(root) && !gone).then(|| path.strip_prefix(root).ok().map(Path::to_owned)).flatten()
}

fn join(mount_point: &Path, rest: &Path) -> PathBuf {
    // Joining an empty path would add a trailing slash.
    if rest.as_os_str().is_empty() { mount_point.to_owned() } else { mount_point.join(rest) }
}

/// `36 35 98:0 /root /mount/point rw shared:1 - type source options`; the number of optional fields before `-` varies.
fn mount_line(line: &[u8]) -> Option<Line> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let dash = fields.iter().skip(6).position(|field| *field == b"-")? + 6;
    let version = match *fields.get(dash + 1)? {
        b"cgroup2" => Version::V2,
        b"cgroup" => Version::V1,
        _ => return None,
    };
    let path = |field: &[u8]| PathBuf::from(OsString::from_vec(unescape(field)));
    let options = String::from_utf8_lossy(fields.get(dash + 3)?).split(',').map(str::to_owned).collect();
    Some(Line { version, root: path(fields[3]), mount_point: path(fields[4]), options })
}

/// Where file systems of this type are mounted, in the order of mounting.
pub(crate) fn mount_points(mountinfo: &[u8], kind: &str) -> Vec<PathBuf> {
    let point = |line: &[u8]| {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let dash = fields.iter().skip(6).position(|field| *field == b"-")? + 6;
        let found = *fields.get(dash + 1)? == kind.as_bytes();
        found.then(|| PathBuf::from(OsString::from_vec(unescape(fields[4]))))
    };
    mountinfo.split(|byte| *byte == b'\n').filter_map(point).collect()
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| first == b'\\').and_then(|digits| {
            let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
            u8::from_str_radix(text, 8).ok()
        });
        out.push(octal.unwrap_or(first));
        rest = if octal.is_some() { &tail[3..] } else { tail };
    }
    out
}

#[cfg(test)]
#[path = "hierarchy_tests.rs"]
mod tests;
