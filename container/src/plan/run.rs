//! The planner of a new container: namespaces, root file system, program. Pure.

use std::path::Path;

use keelbox_launch::{OwnedStep, Slot, Step, Wait, text};
use keelbox_mounts::{
    Device, DeviceKind, Entry, InnerPath, Mount, Pivot, Propagation, Reach, RootPlan, RootSource, SlotAllocator, Upper,
};
use keelbox_namespaces::Kind;
use keelbox_runtime_spec::sysctl;
use oci_spec::runtime as oci;

use super::{Common, Plan, Program, first_steps, last_steps, namespace_kind, terminal_steps};
use crate::built::Built;
use crate::changes::Kept;
use crate::error::{Error, ErrorKind, Result};
use crate::hooks;
use crate::id_mapped::IdMapped;
use crate::labels::Labels;
use crate::mount_label;
use crate::network::Wiring;
use crate::spec::{self, Spec};
use crate::stdio::Stdio;

/// Which standard streams are not inherited, and how many further descriptors the program gets.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Streams {
    redirected: [bool; 3],
    further: usize,
}

impl Streams {
    pub(crate) fn of(stdio: &[Stdio; 3], further: usize) -> Self {
        let [input, output, errors] = stdio;
        Self { redirected: [input.is_redirected(), output.is_redirected(), errors.is_redirected()], further }
    }

    /// Nothing redirected: of a container that waits for a run.
    pub(crate) fn none() -> Self {
        Self { redirected: [false; 3], further: 0 }
    }

    /// How many slots they take, from the first on.
    pub(crate) fn count(&self) -> usize {
        self.redirected.iter().filter(|redirected| **redirected).count() + self.further
    }

    /// Each slot with the number that it becomes.
    pub(crate) fn numbered(&self) -> Vec<(Slot, u32)> {
        let standard = (0u32..).zip(self.redirected).filter_map(|(number, redirected)| redirected.then_some(number));
        let numbers = standard.chain(3..3 + self.further as u32);
        super::slots(0).zip(numbers).collect()
    }

    /// The first number that the program does not see.
    pub(crate) fn reserve(&self) -> u32 {
        3 + self.further as u32
    }
}

/// Plans a run of `built`.
pub(crate) fn run(built: &Built, streams: &Streams, kept: Option<&Kept>) -> Result<Plan> {
    let mut allocator = SlotAllocator::default();
    run_with(built, streams, kept, &mut allocator, |root, slots| root.plan(slots))
}

/// Plans a run whose root is put together by `assemble`, which may take slots of its own first.
pub(crate) fn run_with(
    built: &Built,
    streams: &Streams,
    kept: Option<&Kept>,
    allocator: &mut SlotAllocator,
    assemble: impl FnOnce(&RootPlan, &mut SlotAllocator) -> Result<keelbox_mounts::PlannedRoot, keelbox_mounts::Error>,
) -> Result<Plan> {
    let (spec, host) = (&built.spec, &built.host);
    let process = spec.oci.process().as_ref();
    let process = process.ok_or_else(|| Error::new(ErrorKind::Invalid, "no program is named to run"))?;
    let first = Slot(streams.count() as u16);
    let namespaces = super::namespaces::namespaces(&spec.oci, host, first)?;
    let filled = streams.count() + namespaces.joins().len();
    *allocator = SlotAllocator::new(Slot(filled as u16));
    let (root, id_mapped) = root_plan(built, kept, allocator)?;
    let root = assemble(&root, allocator).map_err(refused)?;
    let labels =
        if built.labels.is_empty() { None } else { Some((&built.labels, allocator.allocate().map_err(refused)?)) };
    let common = Common::of(&spec.oci, spec.callers_keyring);
    let program = Program {
        process,
        terminal: spec.terminal,
        streams: streams.numbered(),
        filter: built.filter.clone(),
        dies: (!spec.detached).then_some(9),
        waits_for_parent: built.seated,
        user_namespace: spec.has(Kind::User),
        common: &common,
        labels,
        affinity: None,
    };
    let mut steps = first_steps(process);
    steps.extend(labels.map(|(_, proc)| Labels::open(proc)));
    steps.extend(namespaces.steps().iter().cloned());
    let wiring = Wiring::of(spec);
    if !wiring.is_empty() {
        // Kernel parameters may be theirs.
        steps.push(Step::Wait { what: Wait::Devices, listener: Slot::NONE });
    }
    steps.extend(kernel_parameters(spec, allocator)?);
    steps.extend(root.steps);
    steps.extend(terminal_steps(&program, 1));
    steps.extend(working_directory(spec, process));
    if hooks::any(&spec.oci, &hooks::CREATION) {
        // The root can still be written to, and the old root is there: the hooks' files are below it.
        steps.push(Step::Wait { what: Wait::Hooks, listener: Slot::NONE });
    }
    steps.extend(root.finish);
    steps.extend(last_steps(&program, host)?);
    let (limits, grouped, reserve) = (spec.limits.clone(), spec.grouped, streams.reserve());
    Ok(Plan { namespaces, id_mapped, limits, grouped, steps, wiring, reserve })
}

pub(crate) fn refused(error: keelbox_mounts::Error) -> Error {
    Error::from_part(refused_kind(&error), "cannot plan the root file system", error)
}

fn refused_kind(error: &keelbox_mounts::Error) -> ErrorKind {
    use keelbox_mounts::ErrorKind as Kind;
    match error.kind() {
        Kind::NotFound => ErrorKind::NotFound,
        Kind::Unsupported => ErrorKind::Unsupported,
        _ => ErrorKind::Invalid,
    }
}

/// The working directory of an image or a bundle is made if it is missing, as every runtime does (containerd counts on it); one that the
/// caller named must be there.
fn working_directory(spec: &Spec, process: &oci::Process) -> Option<OwnedStep> {
    let made = !spec.directory_given && process.cwd() != Path::new("/");
    made.then(|| Step::Directory { path: text(process.cwd()), mode: 0o755 })
}

/// Kernel parameters are written through a procfs that nobody else sees: files below `/proc` could be covered by a mount.
fn kernel_parameters(spec: &Spec, allocator: &mut SlotAllocator) -> Result<Vec<OwnedStep>> {
    let Some(linux) = spec.oci.linux().as_ref() else { return Ok(Vec::new()) };
    let mut parameters: Vec<_> = linux.sysctl().iter().flatten().collect();
    if parameters.is_empty() {
        return Ok(Vec::new());
    }
    parameters.sort();
    let directory = allocator.allocate().map_err(refused)?;
    let options = Vec::new();
    let mut steps =
        vec![Step::FileSystem { kind: text("proc"), options, set: 14, directory: Slot::NONE, out: directory }];
    for (name, value) in parameters {
        let refused =
            |why| Error::new(ErrorKind::Invalid, format!("cannot set the kernel parameter {name:?}: it {why}"));
        let key = sysctl::Key::parse(name).map_err(refused)?;
        if !spec.has(namespace_kind(key.namespace())) {
            let why = format!(
                "belongs to a {} namespace, and the container has none of its own",
                namespace_kind(key.namespace())
            );
            return Err(refused(why));
        }
        // One value, one write: a second line would be a second value (the class of CVE-2022-0811).
        if value.contains(|c: char| c.is_control() && c != '\t') {
            return Err(refused("has a value that is not one line".into()));
        }
        let path = text(Path::new("sys").join(key.file()));
        steps.push(Step::Write { directory, path, data: value.clone().into_bytes() });
    }
    Ok(steps)
}

/// The root file system of `built`, and the binds of it that this program takes itself, for the next slots.
pub(crate) fn root_plan(
    built: &Built,
    kept: Option<&Kept>,
    slots: &mut SlotAllocator,
) -> Result<(RootPlan, Vec<IdMapped>)> {
    let spec = &built.spec;
    let mut id_mapped = Vec::new();
    let linux = spec.oci.linux().as_ref().unwrap_or(&crate::blank::LINUX);
    let mut root = RootPlan::new(source(spec, kept)?);
    if let Some(defaults) = spec.profile.surroundings() {
        root = root.defaults(defaults);
    }
    if spec.has(Kind::User) {
        root = root.user_namespace();
        root = root.terminal_group(maps_terminal_group(linux).then_some(5));
    }
    if spec.nested {
        root = root.user_namespace();
    }
    if !spec.has(Kind::Net) {
        root = root.host_network();
    }
    if spec.shared_dev {
        root = root.read_only_dev();
    }
    root = root.cgroups(spec.cgroups.iter().cloned());
    for mount in spec.oci.mounts().iter().flatten() {
        let (planned, taken) = container_mount(built, mount, slots)?;
        root = root.mount(planned);
        id_mapped.extend(taken);
    }
    for device in linux.devices().iter().flatten() {
        root = root.device(container_device(device)?);
    }
    for path in linux.masked_paths().iter().flatten().chain(&spec.masked) {
        root = root.masked(InnerPath::new(path).map_err(refused)?);
    }
    for path in linux.readonly_paths().iter().flatten() {
        root = root.read_only_path(InnerPath::new(path).map_err(refused)?);
    }
    for file in &spec.files {
        root = root.file(InnerPath::new(&file.path).map_err(refused)?, file.content.clone(), file.mode);
    }
    if spec.oci.root().as_ref().is_some_and(|root| root.readonly().unwrap_or(false)) {
        root = root.read_only();
    }
    if let Some(word) = linux.rootfs_propagation() {
        let (kind, reach) = propagation(word)?;
        root = root.propagation(kind, reach);
    }
    // In a user namespace the layers' owners are not the host's.
    let (mode, user, group) = if spec.has(Kind::User) { (spec.top.0, 0, 0) } else { spec.top };
    Ok((root.top(mode, user, group).pivot(Pivot::Pivot), id_mapped))
}

pub(crate) fn source(spec: &Spec, kept: Option<&Kept>) -> Result<RootSource> {
    let layers = match &spec.root {
        spec::RootSource::Directory(directory) if kept.is_none() => {
            return Ok(RootSource::Directory(directory.clone()));
        }
        spec::RootSource::Directory(directory) => std::slice::from_ref(directory),
        spec::RootSource::Layers { layers, .. } => layers,
        spec::RootSource::Image(_) => return Err(Error::new(ErrorKind::State, "the image is not unpacked")),
    };
    let upper = match (kept, &spec.root) {
        (Some(kept), _) => Upper::Directories { upper: kept.upper(), work: kept.path().join("work") },
        (None, spec::RootSource::Layers { bytes, .. }) => Upper::Memory { bytes: *bytes },
        (None, _) => Upper::Memory { bytes: None },
    };
    // Images name their layers from the bottom, overlayfs from the top.
    Ok(RootSource::Overlay { lowers: layers.iter().rev().cloned().collect(), upper })
}

fn maps_terminal_group(linux: &oci::Linux) -> bool {
    let mut maps = linux.gid_mappings().iter().flatten().peekable();
    maps.peek().is_none()
        || maps.any(|map| (map.container_id()..map.container_id().saturating_add(map.size())).contains(&5))
}

fn container_mount(built: &Built, mount: &oci::Mount, slots: &mut SlotAllocator) -> Result<(Mount, Option<IdMapped>)> {
    let spec = &built.spec;
    let options: &[String] = mount.options().as_deref().unwrap_or_default();
    let (kind, source) = (mount.typ().as_deref(), mount.source().as_deref());
    let label = spec.oci.linux().as_ref().and_then(|linux| mount_label::option(linux, kind, options));
    let options: Vec<&str> = options.iter().chain(&label).map(String::as_str).collect();
    let mut planned = Mount::oci(mount.destination(), kind, source, &options).map_err(|error| {
        Error::from_part(refused_kind(&error), format!("cannot mount {}", mount.destination().display()), error)
    })?;
    if planned.options().is_bind() && source.is_some_and(|source| spec.file_sources.iter().any(|file| file == source)) {
        planned = planned.missing(Entry::File);
    }
    let asked = planned.options().is_idmapped();
    let Some(maps) = super::mapped(mount, asked, &spec.oci, &built.host)? else { return Ok((planned, None)) };
    if !asked {
        planned = planned.idmap(Slot(0), Reach::Mount);
    }
    let step = planned.take(Slot(0), Slot(1)).map_err(refused)?;
    let target = planned.target().as_path().to_owned();
    let planned = planned.taken(slots.allocate().map_err(refused)?);
    Ok((planned, Some(IdMapped { step, target, maps })))
}

fn container_device(device: &oci::LinuxDevice) -> Result<Device> {
    let kind = match device.typ() {
        oci::LinuxDeviceType::B => DeviceKind::Block,
        oci::LinuxDeviceType::P => DeviceKind::Pipe,
        _ => DeviceKind::Character,
    };
    let number = |value: i64| {
        u32::try_from(value).map_err(|_| Error::new(ErrorKind::Invalid, format!("{value} is no device number")))
    };
    let made = Device::new(device.path(), kind, number(device.major())?, number(device.minor())?).map_err(refused)?;
    let made = made.mode(device.file_mode().unwrap_or(0o666) & 0o777);
    Ok(made.owner(device.uid().unwrap_or(0), device.gid().unwrap_or(0)))
}

fn propagation(word: &str) -> Result<(Propagation, Reach)> {
    let (kind, reach) = match word.strip_prefix('r') {
        Some(kind) => (kind, Reach::Tree),
        None => (word, Reach::Mount),
    };
    let kind = match kind {
        "private" => Propagation::Private,
        "slave" => Propagation::Slave,
        "shared" => Propagation::Shared,
        "unbindable" => Propagation::Unbindable,
        _ => return Err(Error::new(ErrorKind::Invalid, format!("there is no mount propagation {word:?}"))),
    };
    Ok((kind, reach))
}
