//! Named containers with the life cycle of the OCI runtime specification: created, started, ended and deleted in separate steps, by
//! any program of the same user. One directory for each id, and no daemon.
//!
//! Leaves out a registry of names over several state directories. Oldest kernel: 5.10.

mod barrier;
mod checkpoint;
mod create;
mod end;
mod group;
mod handle;
mod hooks;
mod identity;
mod record;
mod remove;
mod restore;
mod root;
#[cfg(feature = "systemd")]
pub(crate) mod scope;
#[cfg(not(feature = "systemd"))]
#[path = "no_scope.rs"]
pub(crate) mod scope;
mod snapshot;
mod start;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use keelbox_runtime_spec::ContainerId;

use crate::builder::Container;
use crate::built::Built;
use crate::error::{Error, ErrorKind, Result};
use root::{Place, Root};

pub use handle::Handle;
pub use snapshot::Snapshot;

/// Opens a container by its name, in the default state directory.
///
/// ```
/// use keelbox::ErrorKind;
/// assert_eq!(keelbox::open("no-such-container").unwrap_err().kind(), ErrorKind::NotFound);
/// ```
///
/// # Errors
///
/// As [`Runtime::open`].
pub fn open(id: impl AsRef<str>) -> Result<Handle> {
    Runtime::new().open(id)
}

/// All containers in the default state directory, sorted by name.
///
/// # Errors
///
/// As [`Runtime::list`].
pub fn list() -> Result<Vec<Handle>> {
    Runtime::new().list()
}

/// Where the states of named containers are kept.
///
/// ```
/// use keelbox::Runtime;
/// let directory = tempfile::tempdir()?;
/// let runtime = Runtime::at(directory.path().join("states"));
/// assert!(runtime.list()?.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Runtime {
    root: PathBuf,
}

impl Default for Runtime {
    fn default() -> Self {
        Self::new()
    }
}

impl Runtime {
    /// The default place: `/run/keelbox` for root. For another user with id `UID` it is `/run/user/UID/keelbox` if there is such
    /// a directory for the user, else `/tmp/keelbox-UID`.
    ///
    /// Libraries do not read the environment: a program that honours `XDG_RUNTIME_DIR` says [`Runtime::at`].
    #[must_use]
    pub fn new() -> Self {
        let user = nix::unistd::geteuid();
        if user.is_root() {
            return Self::at("/run/keelbox");
        }
        let own = PathBuf::from(format!("/run/user/{user}"));
        if own.is_dir() { Self::at(own.join("keelbox")) } else { Self::at(format!("/tmp/keelbox-{user}")) }
    }

    /// This directory. It is made when the first container is created, with mode 0700.
    ///
    /// It must belong to the caller, be no symbolic link, and be writable for nobody else; otherwise every operation is
    /// [`ErrorKind::PermissionDenied`].
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Creates a container: all is set up, and its program waits for [`Handle::start`].
    ///
    /// It outlives this program, so its streams are this program's own or files, never pipes with another end here. It has a
    /// control group where the caller may make one, with or without limits. Should this program be killed in the midst of it,
    /// [`Handle::delete_force`] removes what there is.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] for an id that is none: 1 to 255 letters, digits and `_ + - .`, not beginning with a dot.
    /// [`ErrorKind::Exists`] if there is one of this name. [`ErrorKind::Unsupported`] for what needs this program to stay:
    /// piped streams, a time limit, kept changes, decisions about system calls by this program. [`ErrorKind::Hook`] if a hook
    /// failed; then those of [`HookPoint::Poststop`](crate::HookPoint::Poststop) were run. As [`Container::spawn`] otherwise; nothing is left
    /// then.
    pub fn create(&self, container: &Built, id: impl AsRef<str>) -> Result<Handle> {
        create::create(container, &self.root, checked(id.as_ref())?)
    }

    /// Makes a container anew from images that [`Handle::checkpoint`] wrote, and lets it go on. The container is that of the images in all that
    /// they hold; its root file system, volumes, streams, control group and a network namespace that it joins are those of `container`.
    ///
    /// ```
    /// use keelbox::{Container, Restore, Runtime};
    /// let states = tempfile::tempdir()?;
    /// let container = Container::from_rootfs("/").args(["/bin/true"]).build()?;
    /// let images = states.path().join("nothing");
    /// assert!(Runtime::at(states.path()).restore(&container, "web", &Restore::new(images)).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] without the program criu, for another user than root, for a container with a terminal, with hooks of its creation or
    /// with an image for its root, and if a mount would not be again as it was; [`ErrorKind::Invalid`] for images that are not ours, or that do not go
    /// with `container`. As [`create`](Self::create) otherwise; nothing is left then.
    pub fn restore(&self, container: &Built, id: impl AsRef<str>, how: &crate::Restore) -> Result<Handle> {
        restore::restore(container, &self.root, checked(id.as_ref())?, how)
    }

    /// Opens a container by its name.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if there is none; [`ErrorKind::Unsupported`] if a later version of keelbox made it.
    pub fn open(&self, id: impl AsRef<str>) -> Result<Handle> {
        let id = checked(id.as_ref())?;
        match Root::open(&self.root)? {
            Some(root) => Handle::open(Place::open(root, id)?),
            None => {
                let why = format!("cannot open container {id}: there is none in {}", self.root.display());
                Err(Error::new(ErrorKind::NotFound, why))
            }
        }
    }

    /// All containers, sorted by name. Those that are deleted meanwhile and those of a later version of keelbox are passed over.
    ///
    /// # Errors
    ///
    /// If the directory may not be used or read. None is an empty list.
    pub fn list(&self) -> Result<Vec<Handle>> {
        self.each(Handle::open)
    }

    /// What there is to tell of all containers, sorted by name: each is looked at once and let go, so that hundreds need no more
    /// descriptors than one. Passes over the same as [`list`](Self::list).
    ///
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// let runtime = keelbox::Runtime::at(directory.path());
    /// for container in runtime.snapshots()? {
    ///     println!("{} is {}", container.id, container.status);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`list`](Self::list).
    pub fn snapshots(&self) -> Result<Vec<Snapshot>> {
        self.each(|place| Handle::new(place, None, None).snapshot())
    }

    /// Looks at all containers, sorted by name, but for those that are deleted meanwhile or of a later version.
    fn each<T>(&self, look: impl Fn(Place) -> Result<T>) -> Result<Vec<T>> {
        let Some(root) = Root::open(&self.root)?.map(Arc::new) else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for id in root.ids()? {
            match Place::open(Arc::clone(&root), id).and_then(&look) {
                Ok(one) => found.push(one),
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unsupported) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}

fn checked(id: &str) -> Result<ContainerId> {
    ContainerId::new(id)
        .map_err(|error| Error::from_part(ErrorKind::Invalid, "cannot use the name of the container", error))
}

impl Container {
    /// Creates a container with a name, in the default state directory: all is set up, and its program waits for
    /// [`Handle::start`].
    ///
    /// ```no_run
    /// # fn main() -> Result<(), keelbox::Error> {
    /// use keelbox::Container;
    /// let web = Container::from_bundle("./bundle")?.create("web-1")?;
    /// web.start()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Container::build`] and [`Runtime::create`].
    pub fn create(self, id: impl AsRef<str>) -> Result<Handle> {
        self.build()?.create(id)
    }
}

impl Built {
    /// As [`Container::create`].
    ///
    /// # Errors
    ///
    /// As [`Runtime::create`].
    pub fn create(&self, id: impl AsRef<str>) -> Result<Handle> {
        Runtime::new().create(self, id)
    }
}
