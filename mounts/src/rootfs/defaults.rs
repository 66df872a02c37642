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
        let Some(defaults) = self.defaults else { return Ok(Vec::new()) };
        let hostile = defaults == Defaults::Hostile;
        let nothing_runs = ["nosuid", "nodev", "noexec"];
        let with = |more: &[&'static str]| [&nothing_runs[..], more].concat();
        let size = format!("size={}", self.shared_memory);
        let group = self.terminal_group.map(|group| format!("gid={group}"));
        let mut pts = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
        pts.extend(group.as_deref());
        let mut shm = with(&["mode=1777"]);
        shm.push(&size);
        let proc = if hostile { with(&["hidepid=2", "subset=pid"]) } else { with(&[]) };

        let mut all = vec![
            Mount::file_system("proc", "/proc", &proc)?,
            Mount::file_system("tmpfs", "/dev", &["nosuid", "strictatime", "mode=0755", "size=65536k"])?,
            Mount::file_system("devpts", "/dev/pts", &pts)?,
            Mount::file_system("tmpfs", "/dev/shm", &shm)?,
        ];
        if hostile {
            let temporary = with(&["mode=1777", "size=65536k", "nr_inodes=65536"]);
            all.push(Mount::file_system("tmpfs", "/tmp", &temporary)?);
            all.push(Mount::file_system("tmpfs", "/run", &with(&["mode=0755", "size=65536k", "nr_inodes=65536"]))?);
        } else {
            all.push(Mount::file_system("mqueue", "/dev/mqueue", &with(&[]))?);
            all.push(match self.sysfs_source() {
                Sysfs::New => Mount::file_system("sysfs", "/sys", &with(&["ro"]))?,
                Sysfs::Bind => Mount::oci("/sys", None, Some("/sys".as_ref()), &BOUND_SYS)?,
            });
        }
        if !self.cgroups.is_empty() && !self.mounts.iter().any(Mount::is_cgroup) {
            all.push(Mount::file_system("cgroup", "/sys/fs/cgroup", &with(&["relatime", "ro"]))?);
        }
        Ok(all)
    }

    fn sysfs_source(&self) -> Sysfs {
        let usual = if self.user_namespace && self.host_network { Sysfs::Bind } else { Sysfs::New };
        self.sysfs.unwrap_or(usual)
    }
}

const BOUND_SYS: [&str; 6] = ["rbind", "rprivate", "rro", "rnosuid", "rnodev", "rnoexec"];
