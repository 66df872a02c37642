//! A checked container: names looked up, image unpacked, everything planned. What remains is to run it, once or often.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use keelbox_cgroups::{Hierarchy, Limits};
use keelbox_image_spec::Unpacked;
use keelbox_namespaces::{Kind, NamespaceSet};
use oci_spec::runtime as oci;

use crate::builder::{captured, inherited};
use crate::changes::{Changes, Kept, memory_takes_marks};
use crate::check;
use crate::control_group::ControlGroup;
use crate::defaults;
use crate::error::{Error, ErrorKind, Result};
use crate::exec::Inside;
use crate::exit::ExitStatus;
use crate::filter::filter;
use crate::host::{Host, hierarchy};
use crate::labels::Labels;
use crate::output::{Output, collect};
use crate::placement::Placement;
use crate::plan::{Common, Filter, Plan, Streams, run};
use crate::process::Process;
use crate::profile::Profile;
use crate::spec::{RootSource, Spec, UserChoice};
use crate::start::{Sockets, Start, start};
use crate::stdio::Stdio;
use crate::talk::Decider;
use crate::template::Template;

/// A container that has been checked and can be run, as often as wanted.
///
/// ```
/// use keelbox::Container;
/// let container = Container::from_rootfs("/").args(["/bin/true"]).build()?;
/// println!("{}", container.plan()?);
/// # Ok::<(), keelbox::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Built {
    pub(crate) spec: Spec,
    pub(crate) host: Host,
    pub(crate) filter: Option<Filter>,
    pub(crate) labels: Labels,
    /// Whether the stage is cloned by a thread that sits in a cgroup of version 1.
    pub(crate) seated: bool,
    /// The control groups of this machine, if the container gets one.
    pub(crate) hierarchy: Option<Hierarchy>,
}

impl Built {
    pub(crate) fn new(mut spec: Spec) -> Result<Self> {
        if let Some(why) = spec.refused.take() {
            return Err(Error::new(ErrorKind::Invalid, why));
        }
        let host = Host::current()?;
        check::root(&spec)?;
        crate::mount_label::honoured(&spec.oci)?;
        crate::volume::bind(&mut spec)?;
        let image = unpack(&mut spec)?;
        spec.top = top(&spec, image.as_deref());
        if let UserChoice::Named(user) = std::mem::take(&mut spec.user) {
            let root = spec.root.clone();
            crate::user::resolve(&user, &root, image.as_deref(), spec.process())?;
        }
        if let (true, RootSource::Directory(directory), true) =
            (spec.finds_home, &spec.root, spec.oci.process().is_some())
        {
            let directory = directory.clone();
            crate::user::go_home(&directory, spec.process());
        }
        defaults::complete(&mut spec, &host)?;
        crate::network::complete(&mut spec)?;
        check::complete(&spec, &host)?;
        show_cgroups(&mut spec)?;
        find_files(&mut spec);
        let filter = filter(&spec)?;
        let labels = spec.oci.process().as_ref().map_or(Ok(Labels::default()), Labels::of)?;
        // Without a pid namespace of its own, only a control group knows all that belongs to the container when it is to end.
        spec.nested = Host::is_nested();
        spec.grouped |= host.privileged && !spec.nested && !spec.has_new(Kind::Pid);
        spec.placement = if spec.systemd.is_some() { None } else { Placement::of(&spec.oci) };
        crate::named::scope::check(&spec)?;
        spec.modest = (!host.privileged || spec.nested) && spec.profile == Profile::Exact;
        if !spec.grouped && spec.limits.is_best_effort() && !crate::control_group::possible(&spec.limits)? {
            spec.limits = Limits::new();
        }
        let grouped = crate::control_group::wanted(&spec);
        let hierarchy = if grouped { Some(hierarchy()?) } else { None };
        let seated = hierarchy.as_ref().is_some_and(|hierarchy| !hierarchy.legacy().is_empty());
        let built = Self { spec, host, filter, labels, seated, hierarchy };
        crate::volume::fill(&built)?;
        Ok(built)
    }

    /// What running it will ask of the kernel, in order. Standard streams as [`spawn`](Self::spawn) has them.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] for settings that contradict each other.
    pub fn plan(&self) -> Result<Plan> {
        run(self, &Streams::of(&inherited(&self.spec.stdio), self.spec.descriptors.len()), None)
    }

    /// The OCI runtime specification of the container.
    #[must_use]
    pub fn oci(&self) -> &oci::Spec {
        &self.spec.oci
    }

    /// Writes the container as an OCI bundle, for any other runtime: `config.json` in `directory`, which is made if missing.
    ///
    /// Layers of an image are named in the annotation `dev.keelbox.layers`, since OCI has no word for them; other runtimes need
    /// them mounted at `rootfs` first.
    ///
    /// # Errors
    ///
    /// The kernel's answer, with the path.
    pub fn write_bundle(&self, directory: impl AsRef<Path>) -> Result<()> {
        crate::bundle::write(self, directory.as_ref())
    }

    /// As [`Container::spawn`](crate::Container::spawn), for this run.
    ///
    /// # Errors
    ///
    /// As [`Container::spawn`](crate::Container::spawn), without what [`Container::build`](crate::Container::build) checks.
    pub fn spawn(&self) -> Result<Process> {
        self.start(inherited(&self.spec.stdio), None, &[]).map(|(process, _)| process)
    }

    /// As [`Container::status`](crate::Container::status), for this run.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn) and [`Process::wait`].
    pub fn status(&self) -> Result<ExitStatus> {
        self.spawn()?.wait()
    }

    /// As [`Container::output`](crate::Container::output), for this run.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn) and [`Process::wait`].
    pub fn output(&self) -> Result<Output> {
        self.output_with(captured(&self.spec.stdio), None, &[])
    }

    /// Prepares everything that runs can share, so that each run costs less.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn).
    pub fn template(self) -> Result<Template> {
        Template::new(self)
    }

    pub(crate) fn output_with(
        &self,
        stdio: [Stdio; 3],
        plan: Option<&Plan>,
        trees: &[std::os::fd::OwnedFd],
    ) -> Result<Output> {
        let (mut process, kept) = self.start(stdio, plan, trees)?;
        let (status, stdout, stderr) = collect(&mut process)?;
        let changes = kept.map(Changes::new);
        Ok(Output { status, stdout, stderr, changes })
    }

    /// Starts the program by `plan`, or by a plan of its own.
    pub(crate) fn start(
        &self,
        stdio: [Stdio; 3],
        plan: Option<&Plan>,
        trees: &[std::os::fd::OwnedFd],
    ) -> Result<(Process, Option<Kept>)> {
        self.nameless()?;
        let spec = &self.spec;
        let mut kept = self.kept()?;
        let own;
        let plan = match plan {
            Some(plan) => plan,
            None => {
                own = run(self, &Streams::of(&stdio, spec.descriptors.len()), kept.as_ref())?;
                &own
            }
        };
        let mut process = start(Start {
            plan,
            stdio,
            descriptors: &spec.descriptors,
            trees,
            group: self.group()?,
            time_limit: spec.time_limit,
            decider: spec.supervision.as_ref().map_or(Decider::Nobody, Decider::Here),
            sockets: Sockets { console: spec.console_socket.as_deref(), pidfd: spec.pidfd_socket.as_deref() },
            detached: spec.detached,
            inside: self.inside(),
        })?;
        if spec.detached {
            // Nobody here lives as long as it does.
            crate::image::pin(spec.image.as_deref(), "detached", process.life.pid)?;
        }
        if !spec.keep_changes {
            process.life.layer = kept.take();
        }
        if let Some(ready) = &spec.ready {
            ready.wait(&mut process)?;
        }
        Ok((process, kept))
    }

    /// Whether it can do without a name. Hooks and agents are told one; and if this program is killed, nobody else would know that
    /// there is a poststop hook to be run.
    pub(crate) fn nameless(&self) -> Result<()> {
        let hooked = self.spec.oci.hooks().as_ref().is_some_and(|hooks| !crate::hooks::is_empty(hooks));
        let needs = [(hooked, "hooks need"), (self.agent_path().is_some(), "linux.seccomp.listenerPath needs")];
        match needs.into_iter().find(|(needed, _)| *needed) {
            Some((_, what)) => {
                let why = format!("cannot run the container: {what} a container with a name");
                Err(Error::new(ErrorKind::Unsupported, why).with_hint("create() it"))
            }
            None => Ok(()),
        }
    }

    /// The socket of the program that decides about system calls, if any of them are to be decided about.
    pub(crate) fn agent_path(&self) -> Option<&Path> {
        let listens = self.filter.as_ref().is_some_and(Filter::listens);
        let seccomp = self.spec.oci.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
        let path = seccomp.and_then(|seccomp| seccomp.listener_path().as_deref());
        path.filter(|path| listens && !path.as_os_str().is_empty())
    }

    fn kept(&self) -> Result<Option<Kept>> {
        match self.spec.keep_changes {
            true => Kept::new(&self.spec, crate::plan::ids(&self.spec.oci, &self.host)?).map(Some),
            false if self.on_disk() => Ok(Kept::for_marks(&self.spec)),
            false => Ok(None),
        }
    }

    /// Whether each run has a writable layer in a directory of its own, and so a plan of its own.
    pub(crate) fn by_itself(&self) -> bool {
        self.spec.keep_changes || self.on_disk()
    }

    /// An ordinary user's layers before Linux 6.6; unless nobody is there to remove what was written.
    fn on_disk(&self) -> bool {
        let layers = matches!(self.spec.root, RootSource::Layers { .. });
        layers && !self.host.privileged && !self.spec.detached && !memory_takes_marks()
    }

    /// The control group of a run, if it is to have one.
    pub(crate) fn group(&self) -> Result<Option<ControlGroup>> {
        crate::rdt::refuse_nameless(&self.spec)?;
        let create = |hierarchy| ControlGroup::create(&self.spec, hierarchy);
        self.hierarchy.as_ref().map_or(Ok(None), create)
    }

    /// The namespaces that a further program joins.
    pub(crate) fn kinds(&self) -> NamespaceSet {
        // The time namespace cannot be joined by a process that shares memory, and offsets hardly matter to a further program.
        self.spec.namespaces().map(|(kind, _)| kind).filter(|kind| *kind != Kind::Time).collect()
    }

    /// What later programs in the container need to know.
    pub(crate) fn inside(&self) -> Inside {
        let kinds = self.kinds();
        let process = self.spec.oci.process().clone().unwrap_or_default();
        let common = Common::of(&self.spec.oci, self.spec.callers_keyring);
        Inside {
            kinds,
            process,
            common,
            filter: self.filter.clone(),
            host: self.host.clone(),
            _image: self.spec.image.clone(),
        }
    }
}

/// Unpacks an image into layers, and takes over what it says about its program.
fn unpack(spec: &mut Spec) -> Result<Option<Arc<Unpacked>>> {
    let RootSource::Image(image) = &spec.root else { return Ok(None) };
    let settings = image.process().map_err(crate::image::refused)?;
    let entrypoint = image.config().entrypoint().to_vec();
    let unpacked = crate::image::unpack(image, spec.store.as_deref())?;
    let layers = unpacked.layers().iter().map(|layer| layer.path().to_owned()).collect();
    spec.root = RootSource::Layers { layers, bytes: None };
    defaults::from_image(spec, &settings, &entrypoint);
    let unpacked = Arc::new(unpacked);
    spec.image = Some(Arc::clone(&unpacked));
    Ok(Some(unpacked))
}

/// Mode and owner of `/`, which in a layer of changes are that layer's own. The files of an ordinary user's image are all its own.
fn top(spec: &Spec, image: Option<&Unpacked>) -> (u32, u32, u32) {
    use std::os::unix::fs::MetadataExt;
    match (&spec.root, image) {
        (_, Some(image)) if image.needs_userxattr() => (image.root().mode, 0, 0),
        (_, Some(image)) => (image.root().mode, image.root().uid, image.root().gid),
        (RootSource::Directory(directory), None) => match std::fs::metadata(directory) {
            Ok(found) => (found.mode() & 0o7777, found.uid(), found.gid()),
            Err(_) => (0o755, 0, 0),
        },
        _ => (0o755, 0, 0),
    }
}

/// Notes which binds are of files. One whose source is not there is refused by the kernel, with its step.
fn find_files(spec: &mut Spec) {
    let sources = spec.oci.mounts().iter().flatten().filter_map(|mount| mount.source().clone());
    let is_file = |source: &PathBuf| std::fs::metadata(source).is_ok_and(|metadata| !metadata.is_dir());
    let files: Vec<PathBuf> = sources.filter(is_file).collect();
    spec.file_sources.extend(files);
}

/// A mount of type `cgroup` shows the machine's hierarchies. Without a namespace of its own, the container sees the group of
/// this program, which it must not change (CVE-2023-25809).
fn show_cgroups(spec: &mut Spec) -> Result<()> {
    let shown = |mount: &oci::Mount| matches!(mount.typ().as_deref(), Some("cgroup" | "cgroup2"));
    if !spec.oci.mounts().iter().flatten().any(shown) {
        return Ok(());
    }
    let own = spec.has(Kind::Cgroup);
    spec.cgroups = crate::host::shown_cgroups(&hierarchy()?, own, &[]);
    for mount in spec.mounts().iter_mut().filter(|mount| !own && shown(mount)) {
        mount.options_mut().get_or_insert_with(Vec::new).push("ro".into());
    }
    Ok(())
}
