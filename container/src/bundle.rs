//! Containers as OCI bundles: read from one, written to one.

use std::path::Path;

use keelbox_mounts::Defaults;
use keelbox_runtime_spec::{Bundle, Config};
use oci_spec::runtime as oci;

use crate::builder::Container;
use crate::built::Built;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::profile::Profile;
use crate::spec::{RootSource, Spec};
use crate::terminal::Terminal;

/// The annotation that names the layers of an image, one a line, bottom first.
pub(crate) const LAYERS: &str = "dev.keelbox.layers";

pub(crate) fn read(path: &Path) -> Result<Container> {
    let bundle = Bundle::open(path).map_err(|error| refused(path, error))?;
    let serious =
        bundle.check().into_iter().find(|problem| problem.severity() == keelbox_runtime_spec::Severity::Error);
    if let Some(problem) = serious {
        return Err(Error::new(ErrorKind::Invalid, format!("the bundle {} is not valid: {problem}", path.display())));
    }
    let place = bundle.path().to_owned();
    let root = bundle.root().ok_or_else(|| Error::new(ErrorKind::Invalid, "the bundle names no root file system"))?;
    let oci = crate::unheld::spec_of(bundle.into_config());
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

/// The terminal that a process asks for: of the usual size unless it names one.
pub(crate) fn terminal(process: &oci::Process) -> Option<Terminal> {
    let side = |size: u64, usual: u16| if size == 0 { usual } else { u16::try_from(size).unwrap_or(u16::MAX) };
    let size = process.console_size().map_or((0, 0), |size| (size.height(), size.width()));
    process.terminal().unwrap_or(false).then(|| Terminal::size(side(size.0, 24), side(size.1, 80)))
}

pub(crate) fn write(built: &Built, path: &Path) -> Result<()> {
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
    surroundings(&built.spec, &mut oci);
    if let Some(linux) = oci.linux_mut() {
        linux.set_resources(limits::to_oci(&built.spec.limits));
    }
    let mut config = Config::new();
    let edited = config.edit(|spec| *spec = oci);
    edited.map_err(|error| refused(path, error))?;
    std::fs::create_dir_all(path)
        .map_err(|error| Error::os(format!("cannot make the bundle {}", path.display()), error))?;
    Bundle::write(path, &config).map_err(|error| refused(path, error))
}

/// What the profile adds to the file system, in OCI's words: other runtimes know no profiles.
fn surroundings(spec: &Spec, oci: &mut oci::Spec) {
    let Some(defaults) = spec.profile.surroundings() else { return };
    let own = oci.mounts().clone().unwrap_or_default();
    let mut mounts: Vec<oci::Mount> = usual_mounts(defaults);
    mounts.retain(|usual| !own.iter().any(|mount| mount.destination() == usual.destination()));
    mounts.extend(own);
    oci.set_mounts(Some(mounts));
    if let Some(linux) = oci.linux_mut() {
        let with = |usual: &[&str], own: &[String]| {
            Some(usual.iter().map(|path| (*path).to_owned()).chain(own.iter().cloned()).collect())
        };
        linux.set_masked_paths(with(defaults.masked_paths(), &spec.masked));
        linux.set_readonly_paths(with(defaults.read_only_paths(), &[]));
    }
}

fn usual_mounts(defaults: Defaults) -> Vec<oci::Mount> {
    let hostile = defaults == Defaults::Hostile;
    let mount = |target: &str, kind: &str, options: &str| {
        let mut mount = oci::Mount::default();
        mount.set_destination(target.into()).set_typ(Some(kind.into())).set_source(Some(kind.into()));
        mount.set_options(Some(options.split(',').map(str::to_owned).collect()));
        mount
    };
    let proc = if hostile { "nosuid,nodev,noexec,hidepid=2,subset=pid" } else { "nosuid,nodev,noexec" };
    let mut mounts = vec![
        mount("/proc", "proc", proc),
        mount("/dev", "tmpfs", "nosuid,strictatime,mode=0755,size=65536k"),
        mount("/dev/pts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620"),
        mount("/dev/shm", "tmpfs", "nosuid,nodev,noexec,mode=1777,size=65536k"),
    ];
    if hostile {
        mounts.push(mount("/tmp", "tmpfs", "nosuid,nodev,noexec,mode=1777,size=65536k"));
        mounts.push(mount("/run", "tmpfs", "nosuid,nodev,noexec,mode=0755,size=65536k"));
    } else {
        mounts.push(mount("/dev/mqueue", "mqueue", "nosuid,nodev,noexec"));
        mounts.push(mount("/sys", "sysfs", "nosuid,nodev,noexec,ro"));
    }
    mounts
}

fn refused(path: &Path, error: keelbox_runtime_spec::Error) -> Error {
    let kind = match error.kind() {
        keelbox_runtime_spec::ErrorKind::NotFound => ErrorKind::NotFound,
        _ => ErrorKind::Invalid,
    };
    Error::from_part(kind, format!("cannot use the bundle {}", path.display()), error)
}
