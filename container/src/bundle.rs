//! Containers as OCI bundles: read from one, written to one.

use std::path::Path;

use keelbox_mounts::{SlotAllocator, UsualMount};
use keelbox_runtime_spec::{Bundle, Config};
use oci_spec::runtime as oci;
use serde_json::Value;

use crate::builder::Container;
use crate::built::Built;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::profile::Profile;
use crate::spec::{RootSource, Spec};
use crate::terminal::Terminal;

/// The annotation that names the layers of an image, one a line, bottom first.
pub(crate) const LAYERS: &str = "dev.keelbox.layers";

/// The container of a bundle, or of another configuration than its own.
pub(crate) fn read(path: &Path, file: Option<&Path>) -> Result<Container> {
    let bundle = match file {
        None => Bundle::open(path),
        Some(file) => Config::read(path.join(file)).and_then(|config| Bundle::from_parts(path, config)),
    };
    let bundle = bundle.map_err(|error| refused(path, error))?;
    let serious =
        bundle.check().into_iter().find(|problem| problem.severity() == keelbox_runtime_spec::Severity::Error);
    if let Some(problem) = serious {
        return Err(Error::new(ErrorKind::Invalid, format!("the bundle {} is not valid: {problem}", path.display())));
    }
    let place = bundle.path().to_owned();
    let root = bundle.root().ok_or_else(|| Error::new(ErrorKind::Invalid, "the bundle names no root file system"))?;
    let mut oci = crate::unheld::spec_of(bundle.into_config());
    absolute_sources(&mut oci, &place);
    let resources = oci.linux().as_ref().and_then(|linux| linux.resources().clone());
    let terminal = oci.process().as_ref().and_then(terminal);
    let mut container = Container::exact(RootSource::Directory(root), oci);
    container.spec.terminal = terminal;
    container.spec.bundle = Some(place);
    if let Some(resources) = resources {
        container.spec.limits = limits::from_oci(&resources)?;
        container.spec.devices = crate::device_rules::from_oci(&resources)?;
    }
    Ok(container)
}

/// Relative sources of binds start from the bundle.
fn absolute_sources(oci: &mut oci::Spec, place: &Path) {
    let bind =
        |mount: &oci::Mount| mount.options().iter().flatten().any(|option| option == "bind" || option == "rbind");
    for mount in oci.mounts_mut().iter_mut().flatten().filter(|mount| bind(mount)) {
        if let Some(source) = mount.source().clone().filter(|source| source.is_relative()) {
            let source = place.join(source);
            mount.set_source(Some(std::path::absolute(&source).unwrap_or(source)));
        }
    }
}

/// The terminal that a process asks for: of the usual size unless it names one.
pub(crate) fn terminal(process: &oci::Process) -> Option<Terminal> {
    let side = |size: u64, usual: u16| if size == 0 { usual } else { u16::try_from(size).unwrap_or(u16::MAX) };
    let size = process.console_size().map_or((0, 0), |size| (size.height(), size.width()));
    process.terminal().unwrap_or(false).then(|| Terminal::size(side(size.0, 24), side(size.1, 80)))
}

/// How much of a container is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Content {
    /// All that another runtime needs.
    Whole,
    /// All but the profile's system call filter, which is a long list and remembered elsewhere.
    WithoutFilter,
}

/// Writes the whole configuration into a directory, which is made if missing.
pub(crate) fn write(built: &Built, path: &Path) -> Result<()> {
    let config = config(built, path, Content::Whole)?;
    std::fs::create_dir_all(path)
        .map_err(|error| Error::os(format!("cannot make the bundle {}", path.display()), error))?;
    Bundle::write(path, &config).map_err(|error| refused(path, error))
}

/// The configuration of a container, for a bundle at `path`.
pub(crate) fn config(built: &Built, path: &Path, content: Content) -> Result<Config> {
    let mut oci = built.spec.oci.clone();
    let mut root = oci.root().clone().unwrap_or_default();
    if oci.root().is_none() {
        // `oci-spec` has a read-only root by default, the specification a writable one.
        root.set_readonly(Some(false));
    }
    match &built.spec.root {
        RootSource::Directory(directory) => {
            root.set_path(std::path::absolute(directory).unwrap_or_else(|_| directory.clone()));
        }
        RootSource::Layers { layers, .. } => {
            root.set_path("rootfs".into());
            let names: Vec<String> = layers.iter().map(|layer| layer.display().to_string()).collect();
            let mut annotations = oci.annotations().clone().unwrap_or_default();
            annotations.insert(LAYERS.into(), names.join("\n"));
            oci.set_annotations(Some(annotations));
        }
        RootSource::Image(_) => {}
    }
    oci.set_root(Some(root));
    if built.spec.profile != Profile::Exact {
        // What is written here needs no later version, and runtimes of 2022 refuse one.
        oci.set_version("1.0.2".into());
    }
    surroundings(built, &mut oci)?;
    let resources = resources(&built.spec, oci.linux().as_ref().and_then(|linux| linux.resources().as_ref()))?;
    if let Some(linux) = oci.linux_mut() {
        linux.set_resources(resources);
    }
    if content == Content::Whole
        && let Some(seccomp) = crate::filter::written(&built.spec)?
        && let Some(linux) = oci.linux_mut()
    {
        linux.set_seccomp(seccomp);
    }
    let mut config = Config::new();
    let edited = config.edit(|spec| *spec = oci);
    edited.map_err(|error| refused(path, error))?;
    Ok(config)
}

/// The resources as they were read, with the limits that have been changed since.
fn resources(spec: &Spec, read: Option<&oci::LinuxResources>) -> Result<Option<oci::LinuxResources>> {
    let limits = limits::to_oci(&spec.limits);
    let Some(read) = read else { return Ok(limits) };
    let (true, Some(limits)) = (limits::from_oci(read)? != spec.limits, limits) else { return Ok(Some(read.clone())) };
    let cannot = |error: serde_json::Error| Error::from_part(ErrorKind::Invalid, "cannot write the resources", error);
    let mut merged = serde_json::to_value(read).map_err(cannot)?;
    lay(&mut merged, serde_json::to_value(limits).map_err(cannot)?);
    serde_json::from_value(merged).map(Some).map_err(cannot)
}

/// Lays `over` on `value`, member by member.
fn lay(value: &mut Value, over: Value) {
    match (value, over) {
        (Value::Object(members), Value::Object(over)) => {
            over.into_iter().for_each(|(name, over)| lay(members.entry(name).or_insert(Value::Null), over));
        }
        (value, over) => *value = over,
    }
}

/// What the profile adds to the file system, in OCI's words: other runtimes know no profiles.
fn surroundings(built: &Built, oci: &mut oci::Spec) -> Result<()> {
    let spec = &built.spec;
    let Some(defaults) = spec.profile.surroundings() else { return Ok(()) };
    let (root, _) = crate::plan::root_plan(built, None, &mut SlotAllocator::default())?;
    let mut own = oci.mounts().clone().unwrap_or_default();
    let mut mounts: Vec<oci::Mount> = Vec::new();
    for usual in root.usual() {
        let same = own.iter().position(|mount| mount.destination() == Path::new(usual.target));
        mounts.push(same.map_or_else(|| usual_mount(&usual), |index| own.remove(index)));
    }
    mounts.append(&mut own);
    oci.set_mounts(Some(mounts));
    if let Some(linux) = oci.linux_mut() {
        let with = |usual: &[&str], own: [&[String]; 2]| {
            let mut paths: Vec<String> = usual.iter().map(|path| (*path).to_owned()).collect();
            own.concat().into_iter().for_each(|path| {
                if !paths.contains(&path) {
                    paths.push(path)
                }
            });
            Some(paths)
        };
        let masked = linux.masked_paths().clone().unwrap_or_default();
        let read_only = linux.readonly_paths().clone().unwrap_or_default();
        linux.set_masked_paths(with(defaults.masked_paths(), [&masked, &spec.masked]));
        linux.set_readonly_paths(with(defaults.read_only_paths(), [&read_only, &[]]));
    }
    Ok(())
}

fn usual_mount(usual: &UsualMount) -> oci::Mount {
    let mut mount = oci::Mount::default();
    mount.set_destination(usual.target.into()).set_typ(Some(usual.kind.into())).set_source(Some(usual.source.into()));
    mount.set_options(Some(usual.options.clone()));
    mount
}

fn refused(path: &Path, error: keelbox_runtime_spec::Error) -> Error {
    let kind = match error.kind() {
        keelbox_runtime_spec::ErrorKind::NotFound => ErrorKind::NotFound,
        _ => ErrorKind::Invalid,
    };
    Error::from_part(kind, format!("cannot use the bundle {}", path.display()), error)
}
