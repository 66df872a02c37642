//! The builder: what a container is to be, one word at a time, and the ways to run it.
//!
//! Setters cannot fail and touch nothing; [`Container::build`] checks, resolves names and unpacks the image. The setters are in
//! the files beside this one, by subject.

mod attributes;
mod files;
mod isolation;
mod program;
mod resources;
mod streams;

use std::path::PathBuf;

use keelbox_cgroups::Limits;
use keelbox_image_spec::Image;
use oci_spec::runtime as oci;

use crate::built::Built;
use crate::error::Result;
use crate::exit::ExitStatus;
use crate::network::Network;
use crate::output::Output;
use crate::process::Process;
use crate::profile::Profile;
use crate::spec::{RootSource, Spec, UserChoice};
use crate::stdio::Stdio;

pub(crate) use attributes::Settings;
pub use program::IntoArguments;
pub use resources::Resource;

/// A container to be: where its root file system comes from, and how it differs from the default.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # if !std::path::Path::new("/bin/busybox").exists() { return Ok(()) }
/// # let root = tempfile::tempdir()?;
/// # for name in ["bin", "proc", "sys", "dev"] { std::fs::create_dir(root.path().join(name))?; }
/// # std::fs::copy("/bin/busybox", root.path().join("bin/echo"))?;
/// # let directory = root.path();
/// use keelbox::Container;
/// let out = Container::from_rootfs(directory).args(["echo", "hi"]).output()?;
/// assert!(out.status.success());
/// assert_eq!(out.stdout, b"hi\n");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a container does nothing until it is spawned, or asked for its status or output"]
pub struct Container {
    pub(crate) spec: Spec,
}

impl Container {
    fn new(root: RootSource, profile: Profile) -> Self {
        let spec = Spec {
            oci: crate::blank::SPEC.clone(),
            bundle: None,
            root,
            user: UserChoice::default(),
            command: None,
            limits: Limits::new(),
            systemd: None,
            placement: None,
            resctrl: None,
            modest: false,
            nested: false,
            file_sources: Vec::new(),
            devices: None,
            shared_dev: false,
            grouped: false,
            profile,
            network: Network::default(),
            name: None,
            published: Vec::new(),
            ready: None,
            files: Vec::new(),
            stdio: [None, None, None],
            terminal: None,
            console_socket: None,
            pidfd_socket: None,
            time_limit: None,
            supervision: None,
            detached: false,
            keep_changes: false,
            descriptors: Vec::new(),
            store: None,
            image: None,
            volumes: Vec::new(),
            directory_given: false,
            shared: Vec::new(),
            unshared: Vec::new(),
            joined: Vec::new(),
            added_capabilities: Vec::new(),
            dropped_capabilities: Vec::new(),
            drop_capabilities: false,
            seccomp: None,
            masked: Vec::new(),
            top: (0o755, 0, 0),
            cgroups: Vec::new(),
            finds_home: false,
            callers_keyring: false,
            refused: None,
        };
        Self { spec }
    }

    /// A container whose root file system is this directory, used as it is: what the program writes there stays.
    pub fn from_rootfs(directory: impl Into<PathBuf>) -> Self {
        Self::new(RootSource::Directory(directory.into()), Profile::default())
    }

    /// A container whose root file system is an image, with a writable layer in memory that is gone with the container.
    ///
    /// The program, its environment, working directory and user are the image's until told otherwise.
    ///
    /// Before Linux 6.6 memory cannot hold how an overlay of an ordinary user marks directories that were removed or replaced. There
    /// the layer is a directory of the [store](Self::store), if its file system has extended attributes; what is
    /// [detached](Self::detached) or named stays in memory, and removing a directory of the image fails inside (`EIO`).
    pub fn from_image(image: &Image) -> Self {
        Self::new(RootSource::Image(image.clone()), Profile::default())
    }

    /// A container as the `config.json` of an OCI bundle describes it, and exactly so: nothing is added.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) without such a bundle, [`ErrorKind::Invalid`](crate::ErrorKind::Invalid)
    /// with the JSON pointer and the rule for a wrong one.
    pub fn from_bundle(bundle: impl Into<PathBuf>) -> Result<Self> {
        crate::bundle::read(&bundle.into(), None)
    }

    /// As [`from_bundle`](Self::from_bundle), with the configuration of another file, which a relative path names from the bundle.
    ///
    /// # Errors
    ///
    /// Those of [`from_bundle`](Self::from_bundle), of the other file.
    pub fn from_bundle_file(bundle: impl Into<PathBuf>, file: impl AsRef<std::path::Path>) -> Result<Self> {
        crate::bundle::read(&bundle.into(), Some(file.as_ref()))
    }

    pub(crate) fn exact(root: RootSource, oci: oci::Spec) -> Self {
        let mut container = Self::new(root, Profile::Exact);
        container.spec.oci = oci;
        container
    }

    /// Checks everything, looks up the user, unpacks the image if it is not unpacked yet, and plans the container.
    ///
    /// # Errors
    ///
    /// [`ErrorKind`](crate::ErrorKind) tells: a setting that means nothing, an image that is damaged, a user that is unknown.
    pub fn build(self) -> Result<Built> {
        Built::new(self.spec)
    }

    /// Checks everything once and prepares what runs can share: for many throw-away containers of one kind.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build) and [`Built::template`].
    pub fn template(self) -> Result<crate::Template> {
        self.build()?.template()
    }

    /// Starts the program. Streams are inherited unless set.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build), and whatever the kernel refuses, with the step that it refused. Nothing is left behind then.
    pub fn spawn(self) -> Result<Process> {
        self.build()?.spawn()
    }

    /// Runs the program and waits for its end. Streams are inherited unless set.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn) and [`Process::wait`]. That the program failed is no error but a status.
    pub fn status(self) -> Result<ExitStatus> {
        self.build()?.status()
    }

    /// Runs the program, waits for its end and collects what it wrote. Standard input is `/dev/null` unless set.
    ///
    /// # Errors
    ///
    /// As [`status`](Self::status).
    pub fn output(self) -> Result<Output> {
        self.build()?.output()
    }
}

/// The stream defaults of [`Container::output`]: no input, outputs captured.
pub(crate) fn captured(stdio: &[Option<Stdio>; 3]) -> [Stdio; 3] {
    let [input, output, errors] = stdio.clone();
    [input.unwrap_or_else(Stdio::null), output.unwrap_or_else(Stdio::piped), errors.unwrap_or_else(Stdio::piped)]
}

/// The stream defaults of [`Container::spawn`] and [`Container::status`].
pub(crate) fn inherited(stdio: &[Option<Stdio>; 3]) -> [Stdio; 3] {
    stdio.clone().map(|stream| stream.unwrap_or_else(Stdio::inherit))
}
