//! Named volumes: directories of a store that keep their content from one container to the next.
//!
//! A volume is `volumes/NAME/data` in the store. It is filled beside its place and moved there when it is whole, under a lock, so
//! that no container ever sees a part of it. Leaves out who uses a volume: what is removed is gone for running containers too.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};

use keelbox_launch::{OwnedStep, Slot, Step, sys};
use keelbox_mounts::{Mount, RootPlan, SlotAllocator};
use keelbox_namespaces::Kind;
use nix::fcntl::{Flock, FlockArg};
use oci_spec::runtime as oci;

use crate::built::Built;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{Plan, mounts_refused};
use crate::spec::Spec;
use crate::talk::{Cradle, Decider, Nobody, Received, Talk, Until, launch};

/// The named volumes of a store, which [`Container::volume`](crate::Container::volume) makes.
///
/// ```
/// # let directory = tempfile::tempdir()?;
/// use keelbox::Volumes;
/// let volumes = Volumes::at(directory.path());
/// assert!(volumes.list()?.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Volumes {
    place: PathBuf,
}

impl Volumes {
    /// The volumes in this store.
    #[must_use]
    pub fn at(store: impl AsRef<Path>) -> Self {
        Self { place: store.as_ref().join("volumes") }
    }

    fn of(spec: &Spec) -> Result<Self> {
        Ok(Self::at(spec.store.clone().map_or_else(crate::image::default_store, Ok)?))
    }

    /// The names of the volumes, in order.
    ///
    /// # Errors
    ///
    /// The kernel's answer.
    pub fn list(&self) -> Result<Vec<String>> {
        let cannot = |error| Error::os(format!("cannot list the volumes in {}", self.place.display()), error);
        let entries = match fs::read_dir(&self.place) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(cannot)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(cannot)?.file_name();
            names.extend(name.into_string().ok().filter(|name| self.data(name).is_dir()));
        }
        names.sort();
        Ok(names)
    }

    /// The directory with the content of a volume, on the host.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if there is none of that name.
    pub fn path(&self, name: &str) -> Result<PathBuf> {
        check(name).map_err(|why| Error::new(ErrorKind::Invalid, why))?;
        let data = self.data(name);
        match data.is_dir() {
            true => Ok(data),
            false => {
                Err(Error::new(ErrorKind::NotFound, format!("there is no volume {name} in {}", self.place.display())))
            }
        }
    }

    /// Removes a volume with its content. Who uses it at this moment loses it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if there is none of that name; the kernel's answer.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.path(name)?;
        let _lock = self.lock()?;
        let cannot = |error| Error::os(format!("cannot remove the volume {name}"), error);
        // First out of sight as a whole: what cannot be removed in one go is no volume any more.
        fs::rename(self.data(name), self.unfinished(name)).map_err(cannot)?;
        fs::remove_dir_all(self.place.join(name)).map_err(cannot)
    }

    fn data(&self, name: &str) -> PathBuf {
        self.place.join(name).join("data")
    }

    fn unfinished(&self, name: &str) -> PathBuf {
        self.place.join(name).join("new")
    }

    /// Held by whoever makes or removes a volume. It goes with the process that holds it.
    fn lock(&self) -> Result<Flock<File>> {
        let cannot = |error| Error::os(format!("cannot lock the volumes in {}", self.place.display()), error);
        let file = File::options().create(true).truncate(false).write(true).open(self.place.join(".lock"));
        Flock::lock(file.map_err(cannot)?, FlockArg::LockExclusive).map_err(|(_, errno)| cannot(errno.into()))
    }
}

/// Whether `name` can be that of a volume: nothing that could lead elsewhere as a path.
pub(crate) fn check(name: &str) -> Result<(), String> {
    let letter = |byte: &u8| byte.is_ascii_alphanumeric();
    let begins = name.as_bytes().first().is_some_and(letter);
    let rest = name.bytes().all(|byte| letter(&byte) || b"_.-".contains(&byte));
    match begins && rest && name.len() <= 128 {
        true => Ok(()),
        false => Err(format!(
            "cannot use {name:?} as the name of a volume: it must be of letters, digits, `_`, `.` and `-`, begin with a letter or \
             digit, and be no longer than 128"
        )),
    }
}

/// Turns the volumes of `spec` into binds.
pub(crate) fn bind(spec: &mut Spec) -> Result<()> {
    if spec.volumes.is_empty() {
        return Ok(());
    }
    let volumes = Volumes::of(spec)?;
    for (name, target) in spec.volumes.clone() {
        let source = std::path::absolute(volumes.data(&name));
        let source = source.map_err(|error| Error::os(format!("cannot find the volume {name}"), error))?;
        let mut mount = oci::Mount::default();
        mount.set_destination(target).set_typ(Some("bind".into())).set_source(Some(source));
        mount.set_options(Some(vec!["bind".into(), "rprivate".into()]));
        spec.mounts().push(mount);
    }
    Ok(())
}

/// Makes the volumes that are not there yet, with what the root file system has at their targets.
pub(crate) fn fill(built: &Built) -> Result<()> {
    for (name, target) in &built.spec.volumes {
        let volumes = Volumes::of(&built.spec)?;
        if volumes.data(name).is_dir() {
            continue;
        }
        let cannot = |error| Error::os(format!("cannot make the volume {name} in {}", volumes.place.display()), error);
        // A container in a user namespace finds its way through them as somebody else.
        let mut directories = DirBuilder::new();
        directories.recursive(true).mode(0o711).create(&volumes.place).map_err(cannot)?;
        let _lock = volumes.lock()?;
        if volumes.data(name).is_dir() {
            continue;
        }
        let unfinished = volumes.unfinished(name);
        directories.create(volumes.place.join(name)).map_err(cannot)?;
        match fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            removed => removed.map_err(cannot)?,
        }
        fs::create_dir(&unfinished).map_err(cannot)?;
        let filled = give(built, &unfinished).map_err(cannot).and_then(|()| copy(built, &unfinished, target));
        let filled = filled.and_then(|()| fs::rename(&unfinished, volumes.data(name)).map_err(cannot));
        if let Err(error) = filled {
            let _removed = fs::remove_dir_all(volumes.place.join(name));
            return Err(error);
        }
    }
    Ok(())
}

/// Root of the container's user namespace is to be able to write there.
fn give(built: &Built, directory: &Path) -> std::io::Result<()> {
    let linux = built.spec.oci.linux().as_ref();
    let Some(linux) = linux.filter(|_| built.host.privileged && built.spec.has_new(Kind::User)) else { return Ok(()) };
    let outside = |mappings: &Option<Vec<oci::LinuxIdMapping>>| {
        mappings.iter().flatten().find(|mapping| mapping.container_id() == 0).map(oci::LinuxIdMapping::host_id)
    };
    chown(directory, outside(linux.uid_mappings()), outside(linux.gid_mappings()))
}

/// A root as that of the container, in which nothing is mounted but the volume, and nothing is run.
fn plan(built: &Built, volume: &Path, target: &Path) -> Result<Plan> {
    let mut spec = built.spec.clone();
    let mut namespaces = spec.linux().namespaces().clone().unwrap_or_default();
    namespaces.retain(|namespace| namespace.typ() == oci::LinuxNamespaceType::User);
    let mut mount = oci::LinuxNamespace::default();
    mount.set_typ(oci::LinuxNamespaceType::Mount).set_path(None);
    namespaces.push(mount);
    spec.linux().set_namespaces(Some(namespaces)).set_time_offsets(None);
    spec.oci.set_hostname(None).set_domainname(None);
    let namespaces = crate::plan::namespaces(&spec.oci, &built.host, Slot(0))?;
    let mut slots = SlotAllocator::new(Slot(namespaces.joins().len() as u16));
    let bind = Mount::bind(volume, target).map_err(mounts_refused)?.alone().copy_up();
    let mut root = RootPlan::new(crate::plan::source(&spec, None)?).without_devices().mount(bind);
    if spec.has(Kind::User) {
        root = root.user_namespace();
    }
    let root = root.plan(&mut slots).map_err(mounts_refused)?;
    let dies = Step::Dies { signal: nix::libc::SIGKILL as u32 };
    let steps: Vec<OwnedStep> = namespaces.steps().iter().cloned().chain([dies]).chain(root.steps).collect();
    Ok(Plan::of_steps(namespaces, steps))
}

/// Copies what the container has at `target` into `volume`, in a process that has the container's view.
fn copy(built: &Built, volume: &Path, target: &Path) -> Result<()> {
    let plan = plan(built, volume, target)?;
    let (steps, until) = (plan.steps(), Until::Running);
    let talk = Talk { plan: &plan, done: &[], steps, decider: Decider::Nobody, console: None, until };
    let mut received = Received::default();
    let started = launch(&talk, &[], &[], Cradle::default(), &mut received, &mut Nobody)?;
    let (pidfd, _) = received.survivor(started);
    let exit = sys::wait(&pidfd).map_err(|errno| Error::os("cannot wait for the copy to end", errno))?;
    match exit.code {
        Some(0) => Ok(()),
        _ => {
            Err(Error::new(ErrorKind::Other, format!("cannot fill the volume for {}: it was killed", target.display())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_nowhere_else() {
        for name in ["a", "data-1", "A.b_c", "0"] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        for name in ["", ".", "..", "a/b", "/a", "../a", ".lock", "-a", "a b", "a\0", "ä", &"a".repeat(129)] {
            assert!(check(name).is_err(), "{name}");
        }
    }
}
