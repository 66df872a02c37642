//! One mount of a container, and the steps it becomes. Needs no kernel; what the steps need is told with each option.
//!
//! Left out: overlays (the root's own is in `rootfs/`), and cgroup hierarchies, which [`RootPlan`](crate::RootPlan) lays out.

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use keelbox_launch::{Create, OwnedStep, Slot, text};

use crate::attribute::{AT_RECURSIVE, Attribute, Change, Propagation, Reach, attributes_of};
use crate::root::host_path;
use crate::{Error, ErrorKind, InnerPath, MountOptions, SlotAllocator};

/// One mount of a container: a bind of something of the host's, or a file system of its own.
///
/// ```
/// use keelbox_mounts::Mount;
/// let data = Mount::bind("/srv/data", "/data")?.read_only();
/// let scratch = Mount::tmpfs("/tmp", 64 << 20)?;
/// let proc = Mount::oci("/proc", Some("proc"), Some("proc".as_ref()), &["nosuid", "noexec", "nodev"])?;
/// # Ok::<(), keelbox_mounts::Error>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use]
pub struct Mount {
    target: InnerPath,
    what: What,
    options: MountOptions,
    create: Create,
    idmap: Slot,
    /// Where its tree is, if somebody has taken it beforehand.
    taken: Slot,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum What {
    FileSystem {
        kind: CString,
        source: CString,
    },
    Bind(CString),
    BindOf(Slot),
    /// Whatever cgroup hierarchies the machine has.
    Cgroup,
}

impl Mount {
    fn new(what: What, target: impl AsRef<Path>, options: MountOptions) -> Result<Self, Error> {
        let target = InnerPath::new(target)?;
        Ok(Self { target, what, options, create: Create::Directory, idmap: Slot::NONE, taken: Slot::NONE })
    }

    /// Binds the host's `source`, with all mounts below it, to `target`. Mount events do not travel.
    ///
    /// A relative source starts from the working directory of whoever performs the steps.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidPath`] for a target that is no [inner path](InnerPath), or an empty source.
    pub fn bind(source: impl AsRef<Path>, target: impl AsRef<Path>) -> Result<Self, Error> {
        let options = MountOptions::parse(&["rbind", "rprivate"])?;
        Self::new(What::Bind(host_path(source.as_ref())?), target, options)
    }

    /// Binds what the descriptor in `slot` names, with all mounts below it. Nothing can be swapped under an open descriptor.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidPath`] for a target that is no [inner path](InnerPath).
    pub fn bind_descriptor(slot: Slot, target: impl AsRef<Path>) -> Result<Self, Error> {
        Self::new(What::BindOf(slot), target, MountOptions::parse(&["rbind", "rprivate"])?)
    }

    /// A file system in memory, for at most `bytes` bytes, that anybody may write to (mode 1777); nosuid and nodev.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidPath`] for a target that is no [inner path](InnerPath).
    pub fn tmpfs(target: impl AsRef<Path>, bytes: u64) -> Result<Self, Error> {
        Self::file_system("tmpfs", target, &["nosuid", "nodev", "mode=1777", &format!("size={bytes}")])
    }

    /// A file system of `kind`, with options as [`MountOptions::parse`] takes them.
    ///
    /// # Errors
    ///
    /// As [`oci`](Self::oci).
    pub fn file_system(kind: &str, target: impl AsRef<Path>, options: &[&str]) -> Result<Self, Error> {
        Self::oci(target, Some(kind), Some(kind.as_ref()), options)
    }

    /// An entry of `mounts` of an OCI configuration. A relative destination starts at `/`; a relative source of a bind should
    /// have been joined to the bundle by the caller.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidPath`], what [`MountOptions::parse`] says, or [`ErrorKind::InvalidValue`] for a bind without source,
    /// a kind that is missing, or `tmpcopyup` for another kind than `tmpfs`.
    pub fn oci(
        destination: impl AsRef<Path>,
        kind: Option<&str>,
        source: Option<&Path>,
        options: &[impl AsRef<str>],
    ) -> Result<Self, Error> {
        let destination = destination.as_ref();
        let options = MountOptions::parse(options)?;
        let invalid = |why: &str| {
            Error::new(ErrorKind::InvalidValue, format!("cannot plan the mount on {}: {why}", destination.display()))
        };
        let what = match (kind, source) {
            _ if options.remount => What::FileSystem { kind: CString::default(), source: CString::default() },
            (_, Some(source)) if options.is_bind() => What::Bind(host_path(source)?),
            (_, None) if options.is_bind() => return Err(invalid("it is a bind without a source")),
            (Some("cgroup" | "cgroup2"), _) => What::Cgroup,
            (None | Some("" | "none" | "bind"), _) => return Err(invalid("it has no type and is no bind")),
            (Some(kind), _) if kind.contains('\0') => return Err(invalid("its type has a NUL")),
            (Some(kind), _) if options.copy_up && kind != "tmpfs" => return Err(invalid("tmpcopyup is for tmpfs")),
            (Some(kind), source) => {
                let source = source.map_or(OsStr::new(kind), Path::as_os_str);
                if source.as_bytes().contains(&0) {
                    return Err(invalid("its source has a NUL"));
                }
                What::FileSystem { kind: text(kind), source: text(source) }
            }
        };
        Self::new(what, Path::new("/").join(destination), options)
    }

    /// Forbids writing, here and in all mounts below (`rro`, Linux 5.12).
    pub fn read_only(self) -> Self {
        self.attribute(Attribute::ReadOnly, Reach::Tree)
    }

    /// Adds an attribute.
    pub fn attribute(mut self, attribute: Attribute, reach: Reach) -> Self {
        match reach {
            Reach::Tree if self.options.is_bind() => self.options.recursive.add(attribute),
            _ => {
                // A file system of its own has no mounts below, and mount(2) has a flag for each attribute.
                let flags = attribute_flag(attribute);
                self.options.flags |= flags;
                self.options.cleared &= !flags;
            }
        }
        self
    }

    /// Binds only the mount at the source, not those below it.
    pub fn alone(mut self) -> Self {
        self.options.bind = self.options.bind.map(|_| Reach::Mount);
        self
    }

    /// Says how mount events travel, instead of what was said before. Default: not at all for [`bind`](Self::bind), as at the
    /// source for [`oci`](Self::oci).
    pub fn propagation(mut self, kind: Propagation, reach: Reach) -> Self {
        self.options.propagation = vec![(kind, reach)];
        self
    }

    /// What is made at a target that does not exist. Default: a directory. A bind of a file needs a file.
    pub fn missing(mut self, entry: crate::Entry) -> Self {
        self.create = match entry {
            crate::Entry::Directory => Create::Directory,
            crate::Entry::File => Create::File,
        };
        self
    }

    /// Maps ids by the user namespace whose descriptor is in `slot` (Linux 5.12; `mount_setattr(2)`, "ID-mapped mounts").
    /// Needs `CAP_SYS_ADMIN` over the file system's own user namespace.
    pub fn idmap(mut self, slot: Slot, reach: Reach) -> Self {
        self.idmap = slot;
        self.options.idmap = Some(reach);
        self
    }

    /// The step that takes the tree of this bind with its ids mapped by the user namespace in `idmap`, and leaves it in `out`.
    ///
    /// For a process that has the privilege for it (`CAP_SYS_ADMIN` over the file system's user namespace) where the container's
    /// own has not, being in a user namespace: it performs the step and hands the tree over, to [`taken`](Self::taken). Mount
    /// events that nothing was said about come from the source and never go back.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] if it is no bind.
    pub fn take(&self, idmap: Slot, out: Slot) -> Result<OwnedStep, Error> {
        let mut mount = self.clone().idmap(idmap, self.options.idmap.unwrap_or_default());
        mount.taken = Slot::NONE;
        let mut step = mount.prepare(&mut SlotAllocator::new(out))?.map(|(step, _)| step).ok_or_else(|| {
            Error::new(
                ErrorKind::Conflict,
                format!("cannot map the ids of the mount on {}: it is no bind", self.target),
            )
        })?;
        if let OwnedStep::Tree { propagation, .. } = &mut step
            && self.options.propagation.is_empty()
        {
            *propagation = libc::MS_SLAVE;
        }
        Ok(step)
    }

    /// Attaches the tree in this slot, which the step of [`take`](Self::take) took.
    pub fn taken(mut self, tree: Slot) -> Self {
        self.taken = tree;
        self
    }

    /// First copies what the target holds into what is mounted there: into a directory that is to begin with it.
    pub fn copy_up(mut self) -> Self {
        self.options.copy_up = true;
        self
    }

    /// Where its tree is, if that has been taken.
    pub(crate) fn taken_tree(&self) -> Option<Slot> {
        Some(self.taken).filter(|slot| *slot != Slot::NONE)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn target(&self) -> &InnerPath {
        &self.target
    }

    /// What it asks for.
    #[must_use]
    pub fn options(&self) -> &MountOptions {
        &self.options
    }

    /// The host's path that is bound, if that is what it is.
    #[must_use]
    pub fn source(&self) -> Option<&Path> {
        match &self.what {
            What::Bind(source) => Some(Path::new(OsStr::from_bytes(source.to_bytes()))),
            _ => None,
        }
    }

    pub(crate) fn is_cgroup(&self) -> bool {
        self.what == What::Cgroup
    }

    /// Whether its target must be a directory: that of a bind is whatever the source is, which the caller knows.
    pub(crate) fn needs_directory(&self) -> bool {
        self.create == Create::Directory
    }

    /// Takes `ro` away; says whether it was there.
    pub(crate) fn make_writable(&mut self) -> bool {
        let read_only = self.options.flags & libc::MS_RDONLY != 0;
        self.options.flags &= !libc::MS_RDONLY;
        read_only
    }

    pub(crate) fn kind(&self) -> &[u8] {
        match &self.what {
            What::FileSystem { kind, .. } => kind.to_bytes(),
            _ => b"",
        }
    }

    /// Whether its tree must be taken before mounts are cut off from the host's.
    pub(crate) fn is_shared(&self) -> bool {
        self.options.is_bind() && self.options.propagation.iter().any(|(kind, _)| *kind == Propagation::Shared)
    }

    /// What to do with the bind's tree: first while it is detached, then once it has its place.
    fn jobs(&self) -> (Job, Vec<Job>) {
        let own = Job { change: self.options.own(), propagation: 0, recursive: 0 };
        let mut all = Job { change: self.options.recursive, propagation: 0, recursive: AT_RECURSIVE };
        let mut jobs = vec![own];
        if self.options.bind == Some(Reach::Mount) {
            // There is nothing below, so one call does for both.
            jobs[0].change.set |= all.change.set;
            jobs[0].change.clear = jobs[0].change.clear & !all.change.set | all.change.clear;
            all.change = Change::default();
        }
        jobs.push(all);
        for (kind, reach) in &self.options.propagation {
            let recursive = if self.options.bind == Some(Reach::Mount) { 0 } else { reach.at_flags() };
            let free = jobs.iter_mut().find(|job| job.recursive == recursive && job.propagation == 0);
            match free {
                Some(job) => job.propagation = kind.flag(),
                None => jobs.push(Job { change: Change::default(), propagation: kind.flag(), recursive }),
            }
        }
        jobs.retain(|job| !job.is_empty());
        let now = match self.options.idmap {
            Some(reach) => jobs.iter().position(|job| job.recursive == reach.at_flags()),
            None => (!jobs.is_empty()).then_some(0),
        };
        let mapped = self.options.idmap.map_or(0, Reach::at_flags);
        let none = Job { change: Change::default(), propagation: 0, recursive: mapped };
        let first = now.map_or(none, |index| jobs.remove(index));
        (first, jobs)
    }

    /// The step that takes the tree to bind, and where it keeps it; nothing for a file system of its own.
    pub(crate) fn prepare(&self, slots: &mut SlotAllocator) -> Result<Option<(OwnedStep, Slot)>, Error> {
        let (directory, source) = match &self.what {
            What::Bind(source) => (Slot::NONE, source.clone()),
            What::BindOf(slot) => (*slot, CString::default()),
            What::FileSystem { .. } | What::Cgroup => return Ok(None),
        };
        if self.options.is_idmapped() && self.idmap == Slot::NONE {
            let attempt = format!("cannot plan the mount on {}: idmap has no user namespace to map by", self.target);
            return Err(Error::new(ErrorKind::Conflict, attempt));
        }
        let out = slots.allocate()?;
        let (job, _) = self.jobs();
        let step = OwnedStep::Tree {
            directory,
            source,
            recursive: self.options.bind.unwrap_or_default().at_flags(),
            set: job.change.set,
            clear: job.change.clear,
            propagation: job.propagation,
            attributes_recursive: job.recursive,
            idmap: self.idmap,
            out,
        };
        Ok(Some((step, out)))
    }

    /// Whether it is a new file system on a directory.
    pub(crate) fn is_new(&self) -> bool {
        let new = matches!(self.what, What::FileSystem { .. }) && !self.options.remount && !self.options.is_bind();
        // What is copied up needs the whole path, and goes elsewhere.
        new && !self.options.copy_up
    }

    /// Appends the steps that give it its place. `tree` is where [`prepare`](Self::prepare) keeps the tree.
    pub(crate) fn place(&self, tree: Option<Slot>, steps: &mut Vec<OwnedStep>) {
        if !self.options.copy_up {
            return self.place_at(self.target.as_c_str(), tree, steps);
        }
        let target = self.target.as_c_str();
        let mut writable = self.clone();
        let read_only = writable.make_writable();
        steps.push(OwnedStep::Directory { path: target.into(), mode: 0o755 });
        // What a mount covers can still be reached as the current directory.
        steps.push(OwnedStep::Enter { path: target.into() });
        writable.place_at(target, tree, steps);
        let given = |key: &str| self.options.data().split(',').any(|option| option.starts_with(key));
        let (mode, owner) = (!given("mode="), !given("uid=") && !given("gid="));
        steps.push(OwnedStep::CopyUp { target: target.into(), also: u32::from(mode) | u32::from(owner) << 1 });
        if read_only {
            let (set, clear, propagation, recursive) = (crate::attribute::MOUNT_ATTR_RDONLY, 0, 0, 0);
            steps.push(OwnedStep::Attributes { target: target.into(), set, clear, propagation, recursive });
        }
    }

    /// The same, with the target by the name that it has in the directory that a step before entered.
    pub(crate) fn place_at(&self, target: &CStr, tree: Option<Slot>, steps: &mut Vec<OwnedStep>) {
        let target = target.to_owned();
        let change = |job: Job| OwnedStep::Attributes {
            target: target.clone(),
            set: job.change.set,
            clear: job.change.clear,
            propagation: job.propagation,
            recursive: job.recursive,
        };
        if let Some(tree) = tree {
            steps.push(OwnedStep::Attach { tree, target: target.clone(), create: self.create });
            return steps.extend(self.jobs().1.into_iter().map(change));
        }
        if self.options.remount && self.options.is_bind() {
            let mut own = Change::default();
            attributes_of(self.options.cleared).for_each(|attribute| own.remove(attribute));
            attributes_of(self.options.flags).for_each(|attribute| own.add(attribute));
            steps.push(change(Job { change: own, propagation: 0, recursive: 0 }));
        } else {
            steps.push(self.mount(target.clone()));
        }
        if !self.options.recursive.is_empty() {
            let recursive = AT_RECURSIVE;
            steps.push(change(Job { change: self.options.recursive, propagation: 0, recursive }));
        }
        // A new mount is private already, for no mount of the container is shared while it is put together.
        let private = |kind: Propagation| kind == Propagation::Private && !self.options.remount;
        for (kind, reach) in self.options.propagation.iter().filter(|(kind, _)| !private(*kind)) {
            steps.push(change(Job {
                change: Change::default(),
                propagation: kind.flag(),
                recursive: reach.at_flags(),
            }));
        }
    }

    fn mount(&self, target: CString) -> OwnedStep {
        let (kind, source) = match &self.what {
            What::FileSystem { kind, source } => (kind.clone(), source.clone()),
            _ => Default::default(),
        };
        let remount = if self.options.remount { libc::MS_REMOUNT } else { 0 };
        let create = if self.options.remount { Create::Nothing } else { Create::Directory };
        OwnedStep::Mount {
            kind,
            source,
            target,
            flags: self.options.flags | remount,
            data: self.options.data_text(),
            create,
        }
    }
}

/// One `mount_setattr(2)`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Job {
    change: Change,
    propagation: u64,
    recursive: u32,
}

impl Job {
    fn is_empty(self) -> bool {
        self.change.is_empty() && self.propagation == 0
    }
}

fn attribute_flag(attribute: Attribute) -> u64 {
    match attribute {
        Attribute::ReadOnly => libc::MS_RDONLY,
        Attribute::NoSuid => libc::MS_NOSUID,
        Attribute::NoDev => libc::MS_NODEV,
        Attribute::NoExec => libc::MS_NOEXEC,
        Attribute::NoSymFollow => crate::attribute::MS_NOSYMFOLLOW,
        Attribute::NoAtime => libc::MS_NOATIME,
        Attribute::StrictAtime => libc::MS_STRICTATIME,
        Attribute::RelAtime => libc::MS_RELATIME,
        Attribute::NoDirAtime => libc::MS_NODIRATIME,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(mount: &Mount) -> Vec<String> {
        let mut slots = SlotAllocator::default();
        let prepared = mount.prepare(&mut slots).expect("it can be planned");
        let (mut steps, tree): (Vec<_>, _) = match prepared {
            Some((step, slot)) => (vec![step], Some(slot)),
            None => (vec![], None),
        };
        mount.place(tree, &mut steps);
        steps.iter().map(ToString::to_string).collect()
    }

    fn bind(options: &str) -> Vec<String> {
        let options: Vec<&str> = options.split(' ').collect();
        told(&Mount::oci("/x", Some("bind"), Some("/s".as_ref()), &options).expect("it is a mount"))
    }

    #[test]
    fn a_bind_needs_as_few_calls_as_its_options_allow() {
        let table: [(&str, &[&str]); 11] = [
            ("bind", &["copy the mount at /s", "attach descriptor 0 on /x"]),
            ("rbind rw", &["copy the mount tree at /s", "attach descriptor 0 on /x"]),
            (
                "bind ro rro nosuid private",
                &["copy the mount at /s (ro, nosuid, private)", "attach descriptor 0 on /x"],
            ),
            ("bind rprivate", &["copy the mount at /s (private)", "attach descriptor 0 on /x"]),
            ("rbind rro rprivate", &["copy the mount tree at /s (ro, private)", "attach descriptor 0 on /x"]),
            (
                "rbind ro rprivate",
                &[
                    "copy the mount tree at /s (ro)",
                    "attach descriptor 0 on /x",
                    "make /x private, with all mounts below",
                ],
            ),
            (
                "rbind nodev rro rslave",
                &[
                    "copy the mount tree at /s (nodev)",
                    "attach descriptor 0 on /x",
                    "make /x ro, slave, with all mounts below",
                ],
            ),
            (
                "rbind slave shared",
                &["copy the mount tree at /s (slave)", "attach descriptor 0 on /x", "make /x shared"],
            ),
            ("bind remount ro", &["make /x ro"]),
            ("bind remount nosuid rw atime", &["make /x nosuid, rw, relatime"]),
            ("remount ro size=1m", &["remount /x (ro, size=1m)"]),
        ];
        for (options, words) in table {
            assert_eq!(bind(options), words, "{options}");
        }
    }

    #[test]
    fn a_file_system_is_mounted_in_one_step() {
        let mount =
            |kind: &str, options: &[&str]| told(&Mount::file_system(kind, "/x", options).expect("it is a mount"));
        assert_eq!(mount("tmpfs", &["ro", "private", "mode=755"]), ["mount tmpfs on /x (ro, mode=755)"]);
        let words = ["mount proc on /x", "make /x noexec, with all mounts below", "make /x shared"];
        assert_eq!(mount("proc", &["rnoexec", "shared"]), words);
        assert_eq!(
            told(&Mount::tmpfs("/t", 4096).expect("it is a mount")),
            ["mount tmpfs on /t (nosuid, nodev, mode=1777,size=4096)"]
        );
    }

    #[test]
    fn ids_are_mapped_while_the_tree_is_detached() {
        let mount = Mount::bind("/s", "/x").expect("it is a mount").idmap(Slot(9), Reach::Tree);
        let mount = mount.attribute(Attribute::ReadOnly, Reach::Mount);
        let words = ["copy the mount tree at /s (private, ids mapped)", "attach descriptor 0 on /x", "make /x ro"];
        assert_eq!(told(&mount), words);
        let unmapped = Mount::oci("/x", None, Some("/s".as_ref()), &["bind", "idmap"]).expect("it can be read");
        let error = unmapped.prepare(&mut SlotAllocator::default()).expect_err("there is no user namespace");
        assert_eq!(error.kind(), ErrorKind::Conflict);
    }

    #[test]
    fn a_tree_with_mapped_ids_can_be_taken_by_somebody_else() {
        let options = ["rbind", "ridmap", "ro"];
        let mount = Mount::oci("/x", None, Some("/s".as_ref()), &options).expect("it is a mount");
        let step = mount.take(Slot(0), Slot(1)).expect("it is a bind");
        assert_eq!(step.to_string(), "copy the mount tree at /s (slave, ids mapped)");
        assert!(matches!(
            step,
            OwnedStep::Tree { idmap: Slot(0), out: Slot(1), attributes_recursive: AT_RECURSIVE, .. }
        ));
        let mount = mount.taken(Slot(7));
        let mut steps = Vec::new();
        mount.place(mount.taken_tree(), &mut steps);
        let words: Vec<String> = steps.iter().map(ToString::to_string).collect();
        assert_eq!(words, ["attach descriptor 7 on /x", "make /x ro"]);
        let tmpfs = Mount::tmpfs("/t", 4096).expect("it is a mount");
        assert_eq!(tmpfs.take(Slot(0), Slot(1)).expect_err("no bind").kind(), ErrorKind::Conflict);
    }

    #[test]
    fn what_is_covered_is_copied_before_it_is_made_read_only() {
        let mount = |options: &[&str]| told(&Mount::file_system("tmpfs", "/x", options).expect("it is a mount"));
        let copied = ["make directory /x (mode 0755)", "enter /x", "mount tmpfs on /x (mode=700)"];
        let copied = [&copied[..], &["copy what /x has held into it", "make /x ro"]].concat();
        assert_eq!(mount(&["tmpcopyup", "mode=700", "ro"]), copied);
        let also = |options: &[&str]| {
            let mut steps = Vec::new();
            Mount::file_system("tmpfs", "/x", options).expect("it is a mount").place(None, &mut steps);
            steps.iter().find_map(|step| if let OwnedStep::CopyUp { also, .. } = step { Some(*also) } else { None })
        };
        assert_eq!([also(&["tmpcopyup"]), also(&["tmpcopyup", "mode=1"])], [Some(3), Some(2)]);
        assert_eq!([also(&["tmpcopyup", "uid=5", "mode=1"]), also(&[])], [Some(0), None]);
        let other = Mount::file_system("proc", "/x", &["tmpcopyup"]).expect_err("no tmpfs");
        assert_eq!(other.kind(), ErrorKind::InvalidValue);
    }

    #[test]
    fn what_is_no_mount_is_refused() {
        let oci = |target: &str, kind, source: Option<&str>, options: &[&str]| {
            Mount::oci(target, kind, source.map(Path::new), options).expect_err("it is refused").kind()
        };
        assert_eq!(oci("/x", Some("bind"), None, &["bind"]), ErrorKind::InvalidValue);
        assert_eq!(oci("/x", Some("bind"), Some("/s"), &[]), ErrorKind::InvalidValue);
        assert_eq!(oci("/x", None, Some("/s"), &["ro"]), ErrorKind::InvalidValue);
        assert_eq!(oci("/x", Some("a\0b"), None, &[]), ErrorKind::InvalidValue);
        assert_eq!(oci("/x", Some("proc"), Some("a\0b"), &[]), ErrorKind::InvalidValue);
        assert_eq!(oci("/x/../y", Some("proc"), None, &[]), ErrorKind::InvalidPath);
        assert_eq!(oci("/x", None, Some(""), &["bind"]), ErrorKind::InvalidPath);
        let relative = Mount::oci("x/y", Some("proc"), None, &[] as &[&str]).expect("it starts at /");
        assert_eq!(relative.target().to_string(), "/x/y");
    }
}
