//! What a container is to be: the OCI runtime specification, and what OCI has no word for.
//!
//! The builder edits a [`Spec`], a bundle's `config.json` is read into one, and every planner starts from one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keelbox_cgroups::Limits;
use keelbox_cgroups::devices::Rules;
use keelbox_image_spec::{Image, Unpacked};
use keelbox_namespaces::Kind;
use keelbox_network::Publish;
use oci_spec::runtime as oci;

use crate::network::Network;
use crate::notify::Supervision;
use crate::placement::Placement;
use crate::plan::namespace_kind;
use crate::profile::Profile;
use crate::ready::Ready;
use crate::stdio::Stdio;
use crate::terminal::Terminal;

/// Where the root file system comes from.
#[derive(Clone, Debug)]
pub(crate) enum RootSource {
    /// A directory, used as it is.
    Directory(PathBuf),
    /// Layers, bottom first, with a writable layer in memory on top, of at most this many bytes if any are named.
    Layers { layers: Vec<PathBuf>, bytes: Option<u64> },
    /// An image, to be unpacked into layers when the container is built.
    Image(Image),
}

/// A file put into the container from memory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Injected {
    pub(crate) path: PathBuf,
    pub(crate) mode: u32,
    pub(crate) content: Vec<u8>,
}

/// Who the program runs as, before names are looked up inside.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) enum UserChoice {
    /// What the specification says, or the image.
    #[default]
    Given,
    /// `name`, `uid`, `name:group`, `uid:gid`.
    Named(String),
}

/// What a container is to be.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) oci: oci::Spec,
    /// The bundle that it was read from.
    pub(crate) bundle: Option<PathBuf>,
    pub(crate) root: RootSource,
    pub(crate) user: UserChoice,
    /// Arguments after the image's entrypoint, in the place of its command.
    pub(crate) command: Option<Vec<String>>,
    pub(crate) limits: Limits,
    /// Where resctrl is, if not where it is mounted.
    pub(crate) resctrl: Option<PathBuf>,
    /// The bus of the systemd that is asked for the control group.
    pub(crate) systemd: Option<PathBuf>,
    /// Where the control group is wanted.
    pub(crate) placement: Option<Placement>,
    /// Whether device rules that the caller may not set are none that it needs: those of a bundle that an ordinary user runs.
    pub(crate) modest: bool,
    /// Whether the caller is in a user namespace that somebody made: device nodes are the host's then.
    pub(crate) nested: bool,
    /// The sources of binds that are no directories: a target of theirs that is missing is made as a file.
    pub(crate) file_sources: Vec<PathBuf>,
    /// Which devices may be used, if that is restricted by more than what is in `/dev`.
    pub(crate) devices: Option<Rules>,
    /// Whether `/dev` is as that of a template, which no run may change.
    pub(crate) shared_dev: bool,
    /// Whether there is a control group even without limits.
    pub(crate) grouped: bool,
    pub(crate) profile: Profile,
    pub(crate) network: Network,
    /// The name by which others in the same network find the container.
    pub(crate) name: Option<String>,
    pub(crate) published: Vec<Publish>,
    pub(crate) ready: Option<Ready>,
    pub(crate) files: Vec<Injected>,
    pub(crate) stdio: [Option<Stdio>; 3],
    pub(crate) terminal: Option<Terminal>,
    /// The socket of a program that gets the terminal.
    pub(crate) console_socket: Option<PathBuf>,
    /// The socket of a program that gets a pidfd.
    pub(crate) pidfd_socket: Option<PathBuf>,
    pub(crate) time_limit: Option<Duration>,
    pub(crate) supervision: Option<Supervision>,
    /// Whether the container outlives the program that started it.
    pub(crate) detached: bool,
    pub(crate) keep_changes: bool,
    /// Descriptors of the program from 3 on.
    pub(crate) descriptors: Vec<Stdio>,
    pub(crate) store: Option<PathBuf>,
    /// The unpacked image that the layers are of. As long as it lives, they stay in their store.
    pub(crate) image: Option<Arc<Unpacked>>,
    /// Named volumes, each with the path inside at which it is.
    pub(crate) volumes: Vec<(String, PathBuf)>,
    /// Whether the caller named the working directory, which must exist then.
    pub(crate) directory_given: bool,
    pub(crate) shared: Vec<Kind>,
    pub(crate) unshared: Vec<Kind>,
    pub(crate) joined: Vec<(Kind, PathBuf)>,
    pub(crate) added_capabilities: Vec<oci::Capability>,
    pub(crate) dropped_capabilities: Vec<oci::Capability>,
    pub(crate) drop_capabilities: bool,
    /// A filter of the caller's own, or none at all; the profile's if this is absent.
    pub(crate) seccomp: Option<Option<Vec<u8>>>,
    pub(crate) masked: Vec<String>,
    /// Mode, user and group of `/` in a container that has a layer of changes; found out by `build`.
    pub(crate) top: (u32, u32, u32),
    /// What a mount of type `cgroup` shows; found out by `build`.
    pub(crate) cgroups: Vec<keelbox_mounts::Hierarchy>,
    /// Whether the program's user has its home in `HOME`.
    pub(crate) finds_home: bool,
    /// Whether the programs stay in the caller's session keyring.
    pub(crate) callers_keyring: bool,
    /// What the setters refused; told by `build`.
    pub(crate) refused: Option<String>,
}

impl Spec {
    pub(crate) fn process(&mut self) -> &mut oci::Process {
        self.oci.process_mut().get_or_insert_with(|| crate::blank::PROCESS.clone())
    }

    pub(crate) fn linux(&mut self) -> &mut oci::Linux {
        self.oci.linux_mut().get_or_insert_with(|| crate::blank::LINUX.clone())
    }

    pub(crate) fn mounts(&mut self) -> &mut Vec<oci::Mount> {
        self.oci.mounts_mut().get_or_insert_with(Vec::new)
    }

    /// The kinds of namespaces that are not the host's, each with its path if it is to be joined.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = (Kind, Option<&Path>)> {
        let list = self.oci.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
        list.into_iter().flatten().map(|namespace| (namespace_kind(namespace.typ()), namespace.path().as_deref()))
    }

    /// Whether the container has a namespace of this kind that is not the host's.
    pub(crate) fn has(&self, kind: Kind) -> bool {
        self.namespaces().any(|(other, _)| other == kind)
    }

    /// Whether the container has a namespace of this kind that nobody else is in.
    pub(crate) fn has_new(&self, kind: Kind) -> bool {
        self.namespaces().any(|(other, path)| other == kind && path.is_none())
    }

    /// Remembers the first thing that a setter could not take.
    pub(crate) fn refuse(&mut self, why: impl Into<String>) {
        self.refused.get_or_insert_with(|| why.into());
    }
}
