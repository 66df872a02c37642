//! The mounts that programs expect. Needs no kernel; `subset=pid` of `proc` needs 5.8.

use super::{Defaults, RootPlan, Sysfs};
use crate::{Error, Mount};

impl RootPlan {
    /// All mounts in the order in which they are made: the usual ones, each replaced by the caller's at the same target, then
    /// the caller's others.
    pub(super) fn all_mounts(&self) -> Result<Vec<Mount>, Error> {
        let mut own = self.mounts.clone();
        let mut all = Vec::new();
        for usual in self.usual_mounts()? {
            match own.iter().position(|mount| mount.target() == usual.target()) {
                Some(index) => all.push(own.remove(index)),
                None => all.push(usual),
            }
        }
        all.append(&mut own);
        Ok(all)
    }

    fn usual_mounts(&self) -> Result<Vec<Mount>, Error> {
        self.usual().iter().map(UsualMount::mount).collect()
    }

    /// The usual mounts of this file system in the words of OCI's `mounts`, for whoever writes them down for other runtimes.
    /// Those at whose target there is a mount of the caller's are among them.
    #[must_use]
    pub fn usual(&self) -> Vec<UsualMount> {
        let Some(defaults) = self.defaults else { return Vec::new() };
        let hostile = defaults == Defaults::Hostile;
        let usual = |target, kind: &'static str, options: &str| {
            let options = options.split(' ').map(str::to_owned).collect();
            UsualMount { target, kind, source: kind, options }
        };
        let group = self.terminal_group.map(|group| format!(" gid={group}")).unwrap_or_default();
        let proc = if hostile { " hidepid=2 subset=pid" } else { "" };
        let mut all = vec![
            usual("/proc", "proc", &format!("{NOTHING_RUNS}{proc}")),
            usual("/dev", "tmpfs", "nosuid strictatime mode=0755 size=65536k"),
            usual("/dev/pts", "devpts", &format!("nosuid noexec newinstance ptmxmode=0666 mode=0620{group}")),
            usual("/dev/shm", "tmpfs", &format!("{NOTHING_RUNS} mode=1777 size={}", self.shared_memory)),
        ];
        if hostile {
            let room = "size=65536k nr_inodes=65536";
            all.push(usual("/tmp", "tmpfs", &format!("{NOTHING_RUNS} mode=1777 {room}")));
            all.push(usual("/run", "tmpfs", &format!("{NOTHING_RUNS} mode=0755 {room}")));
        } else {
            all.push(usual("/dev/mqueue", "mqueue", NOTHING_RUNS));
            all.push(match self.sysfs_source() {
                Sysfs::New => usual("/sys", "sysfs", &format!("{NOTHING_RUNS} ro")),
                Sysfs::Bind => UsualMount { source: "/sys", ..usual("/sys", "bind", BOUND_SYS) },
            });
        }
        if !self.cgroups.is_empty() && !self.mounts.iter().any(Mount::is_cgroup) {
            all.push(usual("/sys/fs/cgroup", "cgroup", &format!("{NOTHING_RUNS} relatime ro")));
        }
        all
    }

    fn sysfs_source(&self) -> Sysfs {
        let usual = if self.user_namespace && self.host_network { Sysfs::Bind } else { Sysfs::New };
        self.sysfs.unwrap_or(usual)
    }
}

const NOTHING_RUNS: &str = "nosuid nodev noexec";
const BOUND_SYS: &str = "rbind rprivate rro rnosuid rnodev rnoexec";

/// A mount that programs expect, as [`RootPlan::usual`] tells it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct UsualMount {
    /// Where it is mounted.
    pub target: &'static str,
    /// The type of the file system, or `bind`.
    pub kind: &'static str,
    /// The source, which most file systems only show.
    pub source: &'static str,
    /// OCI's options.
    pub options: Vec<String>,
}

impl UsualMount {
    fn mount(&self) -> Result<Mount, Error> {
        Mount::oci(self.target, Some(self.kind), Some(self.source.as_ref()), &self.options)
    }
}
