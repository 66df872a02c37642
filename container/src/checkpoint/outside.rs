//! What a container has of the outside: mounts and streams that are not written to disk, but found anew when it is read from there.
//!
//! Told by the kernel when it is written (mountinfo, links to descriptors) and kept beside the images. Leaves out every other descriptor of
//! the outside, which is an error of criu. Oldest kernel: 5.10.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use keelbox_cgroups::Hierarchy;
use oci_spec::runtime as oci;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// The file beside the images.
const FILE: &str = "keelbox.json";
const SCHEMA: u32 = 1;

/// Where something of the outside is found now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Source {
    pub(crate) point: PathBuf,
    pub(crate) source: PathBuf,
    /// `MOUNT_ATTR_*`
    pub(crate) attributes: u64,
}

/// What is kept beside the images.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Outside {
    schema: u32,
    mounts: Vec<Mount>,
    /// What the first process may and may not do, as lines of its status.
    rights: Vec<String>,
    /// How the images name what the standard streams are, if that lies outside.
    pub(crate) streams: [Option<String>; 3],
}

/// A mount of the container.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Mount {
    point: PathBuf,
    /// The part of the file system that it shows.
    root: PathBuf,
    device: String,
    /// Of the mount itself: what protects.
    options: String,
    kind: String,
    /// Of the file system.
    features: String,
    outside: bool,
}

impl Outside {
    /// What the container with this first process has.
    pub(crate) fn of(pid: u32, spec: &oci::Spec, attempt: &str) -> Result<Self> {
        let file = format!("/proc/{pid}/mountinfo");
        let text =
            fs::read_to_string(&file).map_err(|error| Error::os(format!("{attempt}: cannot read {file}"), error))?;
        let streams = [0, 1, 2].map(|number| stream(pid, number, &text));
        Ok(Self { schema: SCHEMA, mounts: mounts(&text, spec), rights: rights(pid, attempt)?, streams })
    }

    pub(crate) fn write(&self, images: &Path, attempt: &str) -> Result<()> {
        let place = images.join(FILE);
        let text = serde_json::to_vec_pretty(self).unwrap_or_default();
        fs::write(&place, text)
            .map_err(|error| Error::os(format!("{attempt}: cannot write {}", place.display()), error))
    }

    pub(crate) fn read(images: &Path, attempt: &str) -> Result<Self> {
        let place = images.join(FILE);
        let text = fs::read(&place)
            .map_err(|error| Error::os(format!("{attempt}: cannot read {}", place.display()), error))?;
        let refused =
            |why: String| Error::new(ErrorKind::Invalid, format!("{attempt}: {} is not ours: {why}", place.display()));
        let read: Self = serde_json::from_slice(&text).map_err(|error| refused(error.to_string()))?;
        if read.schema == SCHEMA { Ok(read) } else { Err(refused(format!("its format is {}", read.schema))) }
    }

    /// The points of mounts that are not written.
    pub(crate) fn points(&self) -> impl Iterator<Item = &Path> {
        self.mounts.iter().filter(|mount| mount.outside).map(|mount| mount.point.as_path())
    }

    /// What each of them shows of the host, as the configuration has it now; `groups` are the container's.
    pub(crate) fn sources(&self, spec: &oci::Spec, groups: &[PathBuf], attempt: &str) -> Result<Vec<Source>> {
        let hierarchy = crate::host::hierarchy()?;
        let sought = self.mounts.iter().filter(|mount| mount.outside);
        sought
            .map(|mount| {
                let source = mount.source(spec, &hierarchy, groups).ok_or_else(|| {
                    let point = mount.point.display();
                    let why = format!("{attempt}: the configuration does not say what is mounted at {point}");
                    Error::new(ErrorKind::Invalid, why)
                })?;
                Ok(Source { point: mount.point.clone(), source, attributes: attributes(&mount.options) })
            })
            .collect()
    }

    /// Whether the first process could gain no privileges by executing others.
    pub(crate) fn gains_nothing(&self) -> bool {
        self.rights.iter().any(|line| line == "NoNewPrivs: 1")
    }

    /// What the process `pid` does not have as the container had it: what was hidden or forbidden must be so again.
    pub(crate) fn difference(&self, pid: u32, attempt: &str) -> Result<Option<String>> {
        let file = format!("/proc/{pid}/mountinfo");
        let text =
            fs::read_to_string(&file).map_err(|error| Error::os(format!("{attempt}: cannot read {file}"), error))?;
        let now = parse(&text);
        let same = |mount: &Mount| {
            now.iter().any(|other| {
                let options = |text: &str| text.split(',').map(str::to_owned).collect::<BTreeSet<_>>();
                other.point == mount.point
                    && other.kind == mount.kind
                    && options(&other.options) == options(&mount.options)
            })
        };
        let missing = self.mounts.iter().find(|mount| mount.point != Path::new("/") && !same(mount));
        if let Some(mount) = missing {
            return Ok(Some(format!("the mount {} ({}, {})", mount.point.display(), mount.kind, mount.options)));
        }
        let now = rights(pid, attempt)?;
        Ok(self.rights.iter().find(|line| !now.contains(line)).cloned())
    }
}

impl Mount {
    fn source(&self, spec: &oci::Spec, hierarchy: &Hierarchy, groups: &[PathBuf]) -> Option<PathBuf> {
        if let Some((destination, source)) = binds(spec).find(|(destination, _)| self.point.starts_with(destination)) {
            let rest = self.point.strip_prefix(destination).ok()?;
            return Some(if rest.as_os_str().is_empty() { source.clone() } else { source.join(rest) });
        }
        match self.kind.as_str() {
            // Nodes of the host, and what hides files.
            "devtmpfs" => Some(Path::new("/dev").join(self.root.strip_prefix("/").ok()?)),
            "cgroup2" => below(hierarchy.unified()?, groups),
            "cgroup" => {
                let is_it = |mount: &&keelbox_cgroups::Mount| {
                    let name = mount.mount_point().file_name().and_then(|name| name.to_str());
                    name.is_some_and(|name| {
                        name.split(',').all(|part| self.features.split(',').any(|word| word.ends_with(part)))
                    })
                };
                below(hierarchy.legacy().iter().find(is_it)?, groups)
            }
            _ if is_masked(spec, &self.point) => Some("/dev/null".into()),
            _ => None,
        }
    }
}

/// Of the options of a mount those that protect, as `mount_setattr(2)` has them.
fn attributes(options: &str) -> u64 {
    let known = [("ro", 1), ("nosuid", 2), ("nodev", 4), ("noexec", 8)];
    known.iter().filter(|(name, _)| options.split(',').any(|option| option == *name)).map(|(_, flag)| flag).sum()
}

/// proc_pid_status(5)
fn rights(pid: u32, attempt: &str) -> Result<Vec<String>> {
    const NAMES: [&str; 8] =
        ["Uid:", "Gid:", "CapPrm:", "CapBnd:", "CapAmb:", "NoNewPrivs:", "Seccomp:", "Seccomp_filters:"];
    let file = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&file).map_err(|error| Error::os(format!("{attempt}: cannot read {file}"), error))?;
    let lines = text.lines().filter(|line| NAMES.iter().any(|name| line.starts_with(name)));
    Ok(lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect())
}

fn below(mount: &keelbox_cgroups::Mount, groups: &[PathBuf]) -> Option<PathBuf> {
    let group = groups.iter().find(|group| group.starts_with(mount.mount_point()));
    group.cloned().or_else(|| mount.own().map(Path::to_owned))
}

fn is_masked(spec: &oci::Spec, point: &Path) -> bool {
    let masked = spec.linux().as_ref().and_then(|linux| linux.masked_paths().as_ref());
    masked.into_iter().flatten().any(|path| Path::new(path) == point)
}

/// What is bound, the innermost first.
fn binds(spec: &oci::Spec) -> impl Iterator<Item = (&PathBuf, &PathBuf)> {
    let is_bind = |mount: &&oci::Mount| {
        mount.typ().as_deref() == Some("bind")
            || mount.options().iter().flatten().any(|option| option == "bind" || option == "rbind")
    };
    let all = spec.mounts().iter().flatten().rev().filter(is_bind);
    all.filter_map(|mount| Some((mount.destination(), mount.source().as_ref()?)))
}

fn mounts(text: &str, spec: &oci::Spec) -> Vec<Mount> {
    let mut mounts = parse(text);
    let whole: BTreeSet<String> =
        mounts.iter().filter(|mount| mount.root == Path::new("/")).map(|mount| mount.device.clone()).collect();
    for mount in &mut mounts {
        let bound = binds(spec).any(|(destination, _)| mount.point.starts_with(destination));
        let group = mount.kind == "cgroup" || mount.kind == "cgroup2";
        let part = mount.root != Path::new("/") && !whole.contains(&mount.device);
        mount.outside = mount.point != Path::new("/") && (bound || group || part);
    }
    mounts
}

/// proc_pid_mountinfo(5). Paths with spaces stay as the kernel escapes them, which criu does as well.
fn parse(text: &str) -> Vec<Mount> {
    let line = |line: &str| {
        let (own, other) = line.split_once(" - ")?;
        let own: Vec<&str> = own.split(' ').collect();
        let mut other = other.split(' ');
        let (kind, _, features) = (other.next()?, other.next()?, other.next()?);
        Some(Mount {
            device: (*own.get(2)?).to_owned(),
            root: own.get(3)?.into(),
            point: own.get(4)?.into(),
            options: (*own.get(5)?).to_owned(),
            kind: kind.to_owned(),
            features: features.to_owned(),
            outside: false,
        })
    };
    text.lines().filter_map(line).collect()
}

/// A pipe or a socket by its name; a file by its mount and inode, unless the container has that mount.
fn stream(pid: u32, number: u32, mountinfo: &str) -> Option<String> {
    let target = fs::read_link(format!("/proc/{pid}/fd/{number}")).ok()?;
    let target = target.to_str()?;
    if !target.starts_with('/') {
        return Some(target.to_owned());
    }
    let information = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).ok()?;
    let field = |name: &str| information.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    let (mount, inode) = (field("mnt_id:")?, field("ino:")?);
    let inside = mountinfo.lines().any(|line| line.split(' ').next() == Some(mount.to_string().as_str()));
    (!inside).then(|| format!("file[{mount:x}:{inode:x}]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &str = "\
67 44 0:30 /b/rootfs / rw,relatime - tmpfs t rw
69 67 0:40 / /proc rw,nosuid - proc proc rw
76 69 0:40 /bus /proc/bus ro,nosuid - proc proc rw
66 69 0:5 /null /proc/keys ro,relatime - devtmpfs dev rw
75 67 0:37 /keelbox-a /sys/fs/cgroup ro - cgroup2 cgroup2 rw
77 67 0:50 / /data rw - ext4 /dev/sdb rw
78 77 0:51 / /data/more rw - ext4 /dev/sdc rw
";

    fn spec() -> oci::Spec {
        let mut bind = oci::Mount::default();
        bind.set_destination("/data".into()).set_source(Some("/srv/data".into())).set_typ(Some("bind".into()));
        let mut spec = oci::Spec::default();
        spec.set_mounts(Some(vec![bind]));
        spec
    }

    #[test]
    fn what_is_of_the_outside_is_told_by_its_mount() {
        let outside = Outside {
            schema: SCHEMA,
            mounts: mounts(MOUNTINFO, &spec()),
            rights: Vec::new(),
            streams: [None, None, None],
        };
        let points: Vec<&str> = outside.points().filter_map(Path::to_str).collect();
        assert_eq!(points, ["/proc/keys", "/sys/fs/cgroup", "/data", "/data/more"]);
        let hierarchy = Hierarchy::detect_from("30 24 0:26 / /cg rw - cgroup2 cgroup2 rw\n", "0::/\n");
        let source = |index: usize| outside.mounts[index].source(&spec(), &hierarchy, &["/cg/a".into()]);
        let sources: Vec<PathBuf> = [3, 4, 5, 6].into_iter().filter_map(source).collect();
        assert_eq!(sources, ["/dev/null", "/cg/a", "/srv/data", "/srv/data/more"].map(PathBuf::from));
    }

    #[test]
    fn it_survives_the_file_and_nothing_else_is_taken_for_it() {
        let place = tempfile::tempdir().unwrap();
        let streams = [None, Some("pipe:[7]".into()), None];
        let outside = Outside { schema: SCHEMA, mounts: mounts(MOUNTINFO, &spec()), rights: Vec::new(), streams };
        outside.write(place.path(), "x").unwrap();
        assert_eq!(Outside::read(place.path(), "x").unwrap(), outside);
        fs::write(
            place.path().join(FILE),
            "{\"schema\": 2, \"mounts\": [], \"rights\": [], \"streams\": [null, null, null]}",
        )
        .unwrap();
        assert_eq!(Outside::read(place.path(), "x").unwrap_err().kind(), ErrorKind::Invalid);
        fs::remove_file(place.path().join(FILE)).unwrap();
        assert_eq!(Outside::read(place.path(), "x").unwrap_err().kind(), ErrorKind::NotFound);
    }
}
