//! The cgroup hierarchies that a container sees. Needs no kernel.
//!
//! Which hierarchies the machine has is for the caller to find out; here they are only laid out. With a cgroup namespace
//! (`cgroup_namespaces(7)`) each is mounted anew and begins at the container's own group; without one, the group's directory
//! of the host is bound.

use std::path::{Path, PathBuf};

use keelbox_launch::{Create, OwnedStep, text};

use super::device::single;
use crate::attribute::{MOUNT_ATTR_RDONLY, attributes_of};
use crate::root::host_path;
use crate::{Error, ErrorKind, Mount, SlotAllocator};

/// One cgroup hierarchy, as a container is to see it.
///
/// ```
/// use keelbox_mounts::Hierarchy;
/// let unified = Hierarchy::unified();
/// let legacy = [Hierarchy::legacy("memory"), Hierarchy::legacy("cpu,cpuacct"), Hierarchy::named("systemd")];
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use]
pub struct Hierarchy {
    /// The name of its directory; empty if it is the only one.
    name: String,
    kind: &'static str,
    data: String,
    own: Option<PathBuf>,
}

impl Hierarchy {
    /// The cgroup v2 hierarchy, as the only one.
    pub fn unified() -> Self {
        Self { name: String::new(), kind: "cgroup2", data: String::new(), own: None }
    }

    /// The cgroup v2 hierarchy next to those of v1, in the directory `unified`.
    pub fn hybrid() -> Self {
        Self { name: "unified".to_owned(), ..Self::unified() }
    }

    /// A cgroup v1 hierarchy of these controllers, separated by commas.
    pub fn legacy(controllers: &str) -> Self {
        Self { name: controllers.to_owned(), kind: "cgroup", data: controllers.to_owned(), own: None }
    }

    /// A cgroup v1 hierarchy with a name instead of controllers.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), kind: "cgroup", data: format!("none,name={name}"), own: None }
    }

    /// Shows only this directory of the host, for a container without a cgroup namespace.
    pub fn own(mut self, directory: impl AsRef<Path>) -> Self {
        self.own = Some(directory.as_ref().to_owned());
        self
    }

    /// The names under which v1 controllers that share a hierarchy are found too.
    fn aliases(&self) -> impl Iterator<Item = &str> {
        self.name.split(',').filter(|alias| *alias != self.name)
    }
}

/// What is laid out: steps before the change of root, and after.
pub(super) struct Layout {
    pub(super) before: Vec<OwnedStep>,
    pub(super) after: Vec<OwnedStep>,
}

/// Lays out `hierarchies` at the target of `mount`, with its options.
pub(super) fn layout(mount: &Mount, hierarchies: &[Hierarchy], slots: &mut SlotAllocator) -> Result<Layout, Error> {
    let target = mount.target();
    let refuse = |kind, why| Err(Error::new(kind, format!("cannot plan the mount on {target}: {why}")));
    let mut layout = Layout { before: Vec::new(), after: Vec::new() };
    match hierarchies {
        [] => return refuse(ErrorKind::Unsupported, "nobody said which cgroup hierarchies there are"),
        [only] if only.name.is_empty() => place(only, mount, target.as_path(), slots, &mut layout)?,
        several if several.iter().any(|hierarchy| hierarchy.name.is_empty() || hierarchy.name.contains('/')) => {
            return refuse(ErrorKind::InvalidValue, "each of several hierarchies needs a name");
        }
        several => {
            layout.after.push(OwnedStep::Mount {
                kind: text("tmpfs"),
                source: text("tmpfs"),
                target: target.as_c_str().into(),
                flags: mount.options().flags & !libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC,
                data: text("mode=0755"),
                create: Create::Directory,
            });
            layout.after.push(OwnedStep::Enter { path: target.as_c_str().into() });
            for hierarchy in several {
                layout.after.push(OwnedStep::Directory { path: text(&hierarchy.name), mode: 0o755 });
                for alias in hierarchy.aliases() {
                    layout.after.push(OwnedStep::Link { path: text(alias), target: text(&hierarchy.name) });
                }
            }
            for hierarchy in several {
                place(hierarchy, mount, &target.as_path().join(&hierarchy.name), slots, &mut layout)?;
            }
            if mount.options().flags & libc::MS_RDONLY != 0 {
                layout.after.push(read_only(target.as_path())?);
            }
        }
    }
    Ok(layout)
}

/// Mounts or binds one hierarchy at `path`.
fn place(
    hierarchy: &Hierarchy,
    mount: &Mount,
    path: &Path,
    slots: &mut SlotAllocator,
    layout: &mut Layout,
) -> Result<(), Error> {
    let flags = mount.options().flags;
    let target = host_path(path)?;
    let Some(own) = &hierarchy.own else {
        let (kind, source) = (text(hierarchy.kind), text(hierarchy.kind));
        let data = text(&hierarchy.data);
        layout.after.push(OwnedStep::Mount { kind, source, target, flags, data, create: Create::Directory });
        return Ok(());
    };
    let out = slots.allocate()?;
    let mut tree = single(&host_path(own)?, out);
    if let OwnedStep::Tree { set, clear, .. } = &mut tree {
        let change: crate::attribute::Change = attributes_of(flags).collect();
        (*set, *clear) = (change.set, change.clear);
    }
    layout.before.push(tree);
    layout.after.push(OwnedStep::Attach { tree: out, target, create: Create::Directory });
    Ok(())
}

fn read_only(path: &Path) -> Result<OwnedStep, Error> {
    let (set, clear, propagation, recursive) = (MOUNT_ATTR_RDONLY, 0, 0, 0);
    Ok(OwnedStep::Attributes { target: host_path(path)?, set, clear, propagation, recursive })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(hierarchies: &[Hierarchy], options: &[&str]) -> Result<Vec<String>, Error> {
        let mount = Mount::file_system("cgroup", "/sys/fs/cgroup", options)?;
        let layout = layout(&mount, hierarchies, &mut SlotAllocator::default())?;
        Ok(layout.before.iter().chain(&layout.after).map(ToString::to_string).collect())
    }

    #[test]
    fn the_only_hierarchy_is_mounted_where_it_is_expected() {
        let told = told(&[Hierarchy::unified()], &["nosuid", "ro"]).expect("it can be planned");
        assert_eq!(told, ["mount cgroup2 on /sys/fs/cgroup (ro, nosuid)"]);
    }

    #[test]
    fn several_hierarchies_have_directories_and_aliases() {
        let hierarchies =
            [Hierarchy::legacy("cpu,cpuacct"), Hierarchy::named("systemd").own("/sys/fs/cgroup/systemd/box")];
        let told = told(&hierarchies, &["nosuid", "ro"]).expect("it can be planned");
        let expected = [
            "copy the mount at /sys/fs/cgroup/systemd/box (ro, nosuid)",
            "mount tmpfs on /sys/fs/cgroup (nosuid, nodev, noexec, mode=0755)",
            "enter /sys/fs/cgroup",
            "make directory cpu,cpuacct (mode 0755)",
            "make symbolic link cpu to cpu,cpuacct",
            "make symbolic link cpuacct to cpu,cpuacct",
            "make directory systemd (mode 0755)",
            "mount cgroup on /sys/fs/cgroup/cpu,cpuacct (ro, nosuid, cpu,cpuacct)",
            "attach descriptor 0 on /sys/fs/cgroup/systemd",
            "make /sys/fs/cgroup ro",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn hierarchies_that_nobody_named_are_an_error() {
        assert_eq!(told(&[], &[]).expect_err("none").kind(), ErrorKind::Unsupported);
        let two = [Hierarchy::unified(), Hierarchy::legacy("pids")];
        assert_eq!(told(&two, &[]).expect_err("one has no name").kind(), ErrorKind::InvalidValue);
        assert_eq!(told(&[Hierarchy::named("../x")], &[]).expect_err("a path").kind(), ErrorKind::InvalidValue);
    }
}
