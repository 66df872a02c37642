//! A private view of the file system, as a list of mounts that can be shown, performed elsewhere, or applied to this thread.
//!
//! Here are the words a plan is written with; `lower.rs` turns them into steps and `apply.rs` performs them. Oldest kernel: 5.10.

mod apply;
mod lower;

use std::ffi::{CString, OsStr};
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keelbox_launch::{OwnedStep, text};

use crate::attribute::{Attribute, Change, Propagation, Reach};
use crate::rootfs::{Upper, devices};
use crate::{Error, ErrorKind, InnerPath, Mount};
use lower::Entry;

/// A private view of the file system for the calling thread, or for whoever performs its [`steps`](Self::steps).
///
/// Mounts are made in the order in which they are written. Targets are absolute paths, resolved without ever following a magic
/// link, and must exist, unless they lie in a writable file system that an earlier line of the plan has mounted. A mistake in a
/// line, such as a relative target, is reported by [`steps`](Self::steps) and [`apply`](Self::apply).
///
/// ```
/// use keelbox_mounts::MountPlan;
///
/// let plan = MountPlan::new()
///     .overlay(&["/srv/base"], "/srv/upper", "/srv/work", "/mnt")
///     .tmpfs("/mnt/tmp", 64 << 20)
///     .read_only("/mnt/etc");
/// let text = plan.to_string();
/// assert!(text.starts_with(" 1 make an overlay file system (lowerdir+=/srv/base, "));
/// assert!(text.ends_with(" 5 make /mnt/etc read-only\n"));
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct MountPlan {
    entries: Vec<Entry>,
    targets: Vec<(InnerPath, Inside)>,
    mistake: Option<Arc<Error>>,
}

/// Whether missing targets may be made below a mount of the plan.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Inside {
    Private,
    Foreign,
}

impl MountPlan {
    /// A plan that changes nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Mounts an overlay: the directories `lowers`, the first one on top, below what is written to `upper`. `work` is an empty
    /// directory next to `upper`. Needs `CAP_SYS_ADMIN` in the mount namespace's user namespace (`mount(8)`, overlay).
    pub fn overlay(
        self,
        lowers: &[impl AsRef<Path>],
        upper: impl AsRef<Path>,
        work: impl AsRef<Path>,
        target: impl AsRef<Path>,
    ) -> Self {
        let (upper, work) = (upper.as_ref().to_owned(), work.as_ref().to_owned());
        self.any_overlay(lowers, Upper::Directories { upper, work }, target, Inside::Private)
    }

    /// Mounts an overlay that nothing can be written to.
    pub fn overlay_read_only(self, lowers: &[impl AsRef<Path>], target: impl AsRef<Path>) -> Self {
        self.any_overlay(lowers, Upper::ReadOnly, target, Inside::Foreign)
    }

    /// Mounts an overlay whose changes, of at most `bytes` bytes, are kept in memory and go with the mount namespace.
    pub fn overlay_tmpfs(self, lowers: &[impl AsRef<Path>], bytes: u64, target: impl AsRef<Path>) -> Self {
        self.any_overlay(lowers, Upper::Memory { bytes: Some(bytes) }, target, Inside::Private)
    }

    fn any_overlay(
        mut self,
        lowers: &[impl AsRef<Path>],
        upper: Upper,
        target: impl AsRef<Path>,
        inside: Inside,
    ) -> Self {
        let lowers: Vec<PathBuf> = lowers.iter().map(|lower| lower.as_ref().to_owned()).collect();
        if let Some(target) = self.target(target, inside) {
            self.entries.push(Entry::Overlay { lowers, upper, target });
        }
        self
    }

    /// Binds the mount at `source` to `target`, without the mounts below it.
    pub fn bind(self, source: impl AsRef<Path>, target: impl AsRef<Path>) -> Self {
        self.any_bind(source, target, Mount::alone)
    }

    /// Binds the mount at `source`, read-only here (Linux 5.12).
    pub fn bind_read_only(self, source: impl AsRef<Path>, target: impl AsRef<Path>) -> Self {
        self.any_bind(source, target, |mount| mount.alone().read_only())
    }

    /// Binds `source` with all mounts below it.
    pub fn bind_recursive(self, source: impl AsRef<Path>, target: impl AsRef<Path>) -> Self {
        self.any_bind(source, target, |mount| mount)
    }

    /// Binds `source` with all mounts below it, every one of them read-only here (Linux 5.12).
    pub fn bind_recursive_read_only(self, source: impl AsRef<Path>, target: impl AsRef<Path>) -> Self {
        self.any_bind(source, target, Mount::read_only)
    }

    fn any_bind(mut self, source: impl AsRef<Path>, target: impl AsRef<Path>, with: impl Fn(Mount) -> Mount) -> Self {
        if let Some(target) = self.target(target, Inside::Foreign) {
            match Mount::bind(source, &target) {
                Ok(mount) => self.entries.push(Entry::Bind(with(mount))),
                Err(error) => self.mistaken(error),
            }
        }
        self
    }

    /// Binds `source` with the ids of its files mapped by `user_namespace` (Linux 5.12, for overlays 6.5; `mount_setattr(2)`).
    /// Whoever performs the [`steps`](Self::steps) puts that namespace into the slot that its step names.
    pub fn bind_idmapped(
        mut self,
        source: impl AsRef<Path>,
        target: impl AsRef<Path>,
        user_namespace: OwnedFd,
    ) -> Self {
        if let Some(target) = self.target(target, Inside::Foreign) {
            match crate::root::host_path(source.as_ref()) {
                Ok(_) => {
                    let source = source.as_ref().to_owned();
                    self.entries.push(Entry::Idmapped { source, target, user_namespace: Arc::new(user_namespace) });
                }
                Err(error) => self.mistaken(error),
            }
        }
        self
    }

    /// Adds attributes to the mount at `target`, or to it and all mounts below (Linux 5.12).
    pub fn attributes(
        mut self,
        target: impl AsRef<Path>,
        attributes: impl IntoIterator<Item = Attribute>,
        reach: Reach,
    ) -> Self {
        let change: Change = attributes.into_iter().collect();
        if let Some(target) = self.path(target) {
            self.entries.push(Entry::Attributes { target, change, reach });
        }
        self
    }

    /// Mounts a file system in memory for at most `bytes` bytes: mode 1777, nosuid, nodev (`tmpfs(5)`).
    pub fn tmpfs(self, target: impl AsRef<Path>, bytes: u64) -> Self {
        self.tmpfs_with(target, bytes, 0o1777, None)
    }

    /// Mounts a file system in memory for at most `bytes` bytes and, if given, `inodes` files, with this mode; nosuid, nodev.
    pub fn tmpfs_with(self, target: impl AsRef<Path>, bytes: u64, mode: u32, inodes: Option<u64>) -> Self {
        let mut options = vec![format!("size={bytes}"), format!("mode={mode:o}")];
        options.extend(inodes.map(|inodes| format!("nr_inodes={inodes}")));
        self.file_system("tmpfs", target, options, &[Attribute::NoSuid, Attribute::NoDev])
    }

    /// Mounts the `proc` of this pid namespace, with options such as `hidepid=2` or `subset=pid` (`proc(5)`); nosuid, nodev, noexec.
    pub fn proc(self, target: impl AsRef<Path>, options: &[&str]) -> Self {
        self.file_system("proc", target, options.iter().map(|option| (*option).to_owned()).collect(), NOTHING_RUNS)
    }

    /// Mounts the `sysfs` of this network namespace, read-only (`sysfs(5)`).
    pub fn sysfs(self, target: impl AsRef<Path>) -> Self {
        let attributes = [NOTHING_RUNS, &[Attribute::ReadOnly]].concat();
        self.file_system("sysfs", target, vec![], &attributes)
    }

    /// Mounts new pseudo-terminals, whose owner group is `group` (5 by custom; none in a user namespace that does not map it).
    pub fn devpts(self, target: impl AsRef<Path>, group: Option<u32>) -> Self {
        let mut options = vec!["newinstance".to_owned(), "ptmxmode=0666".into(), "mode=0620".into()];
        options.extend(group.map(|group| format!("gid={group}")));
        self.file_system("devpts", target, options, &[Attribute::NoSuid, Attribute::NoExec])
    }

    /// Mounts the message queues of this IPC namespace (`mq_overview(7)`).
    pub fn mqueue(self, target: impl AsRef<Path>) -> Self {
        self.file_system("mqueue", target, vec![], NOTHING_RUNS)
    }

    /// Mounts POSIX shared memory of at most `bytes` bytes on `/dev/shm` (`shm_overview(7)`).
    pub fn shm(self, bytes: u64) -> Self {
        let options = vec!["mode=1777".to_owned(), format!("size={bytes}")];
        self.file_system("tmpfs", "/dev/shm", options, NOTHING_RUNS)
    }

    /// Mounts the cgroup v2 hierarchy, as this cgroup namespace sees it (`cgroups(7)`).
    pub fn cgroup(self, target: impl AsRef<Path>) -> Self {
        self.file_system("cgroup2", target, vec![], NOTHING_RUNS)
    }

    fn file_system(
        mut self,
        kind: &str,
        target: impl AsRef<Path>,
        options: Vec<String>,
        attributes: &[Attribute],
    ) -> Self {
        let inside = if kind == "tmpfs" { Inside::Private } else { Inside::Foreign };
        if options.iter().any(|option| option.contains('\0')) {
            let attempt = format!("cannot plan {kind} on {}: an option has a NUL", target.as_ref().display());
            self.mistaken(Error::new(ErrorKind::InvalidValue, attempt));
        }
        if let Some(target) = self.target(target, inside) {
            let set = attributes.iter().copied().collect::<Change>().set;
            self.entries.push(Entry::FileSystem { kind: text(kind), options, set, target });
        }
        self
    }

    /// Mounts a `/dev` in memory with the devices that every program may have, and directories for `pts`, `shm` and `mqueue`.
    /// Needs `CAP_MKNOD` in the first user namespace.
    pub fn default_dev(self) -> Self {
        let options = vec!["mode=0755".to_owned(), "size=65536k".into()];
        let mut plan = self.file_system("tmpfs", "/dev", options, &[Attribute::NoSuid]);
        plan.entries.extend(devices().into_iter().map(Entry::Device));
        for (name, target) in crate::rootfs::DEV_LINKS {
            plan = plan.symlink(Path::new("/dev").join(name), target);
        }
        ["/dev/pts", "/dev/shm", "/dev/mqueue"].into_iter().fold(plan, |plan, path| plan.directory(path, 0o755))
    }

    /// Hides a path behind an empty file or directory. A path that does not exist is passed over; any other error is one.
    pub fn mask(mut self, path: impl AsRef<Path>) -> Self {
        if let Some(path) = self.path(path) {
            self.entries.push(Entry::Mask(path));
        }
        self
    }

    /// Makes a path, with all mounts below it, read-only. A path that does not exist is passed over; any other error is one.
    pub fn read_only(mut self, path: impl AsRef<Path>) -> Self {
        if let Some(path) = self.path(path) {
            self.entries.push(Entry::ReadOnly(path));
        }
        self
    }

    /// Changes how mount events travel at the mount point `path`. Default after [`apply`](Self::apply): nowhere.
    pub fn propagation(mut self, path: impl AsRef<Path>, kind: Propagation, reach: Reach) -> Self {
        if let Some(path) = self.path(path) {
            self.entries.push(Entry::Propagation { path, flags: kind.flag() | reach.mount_flags() });
        }
        self
    }

    /// Makes a file. What was there is replaced.
    pub fn file(mut self, path: impl AsRef<Path>, content: impl Into<Vec<u8>>, mode: u32) -> Self {
        if let Some(path) = self.path(path) {
            self.entries.push(Entry::File { path, mode, content: content.into() });
        }
        self
    }

    /// Makes a directory and those above it; one that exists is left as it is.
    pub fn directory(mut self, path: impl AsRef<Path>, mode: u32) -> Self {
        if let Some(path) = self.path(path) {
            self.entries.push(Entry::Directory { path, mode });
        }
        self
    }

    /// Makes a symbolic link at `path`; one that exists is left as it is.
    pub fn symlink(mut self, path: impl AsRef<Path>, target: impl AsRef<OsStr>) -> Self {
        let target: CString = text(target);
        if let Some(path) = self.path(path) {
            self.entries.push(Entry::Link { path, target });
        }
        self
    }

    /// The plan as steps, for the stage or for [`keelbox_launch::perform`].
    ///
    /// They neither make a mount namespace nor cut it off from the host's; whoever performs them has done that. Relative sources
    /// start from its working directory.
    ///
    /// # Errors
    ///
    /// The first mistake in the plan: [`ErrorKind::InvalidPath`] for a target that is relative or has a `..`,
    /// [`ErrorKind::Duplicate`] for a second mount on one target, [`ErrorKind::InvalidValue`] for an overlay without layers.
    pub fn steps(&self) -> Result<Vec<OwnedStep>, Error> {
        self.lower(None).map(|lowered| lowered.steps)
    }

    /// What each step is for, for people: lines as [`Display`](fmt::Display) shows them, each with its reason.
    #[must_use]
    pub fn explain(&self) -> String {
        self.show(|number, step| format!("{number:>2} {step}\n   {}\n", step.explain()))
    }

    fn show(&self, line: impl Fn(usize, &OwnedStep) -> String) -> String {
        match self.steps() {
            Ok(steps) => steps.iter().enumerate().map(|(index, step)| line(index + 1, step)).collect(),
            Err(error) => format!(" ! {error}\n"),
        }
    }

    /// Reads the target of a mount, and remembers it.
    fn target(&mut self, target: impl AsRef<Path>, inside: Inside) -> Option<InnerPath> {
        let target = self.path(target)?;
        if self.targets.iter().any(|(other, _)| *other == target) {
            let attempt = format!("cannot plan a second mount on {target}");
            self.mistaken(Error::new(ErrorKind::Duplicate, attempt));
            return None;
        }
        self.targets.push((target.clone(), inside));
        Some(target)
    }

    fn path(&mut self, path: impl AsRef<Path>) -> Option<InnerPath> {
        InnerPath::new(path).map_err(|error| self.mistaken(error)).ok()
    }

    fn mistaken(&mut self, error: Error) {
        self.mistake.get_or_insert(Arc::new(error));
    }
}

impl fmt::Display for MountPlan {
    /// One numbered line a step; of a plan with a mistake, the mistake.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.show(|number, step| format!("{number:>2} {step}\n")))
    }
}

/// Attributes of file systems in which there is nothing to run.
const NOTHING_RUNS: &[Attribute] = &[Attribute::NoSuid, Attribute::NoDev, Attribute::NoExec];
