//! What no setter can see is checked here, before anything is made: the whole specification. Leaves out what a planner or the
//! kernel refuses by itself. Oldest kernel: any.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use keelbox_namespaces::Kind;
use oci_spec::runtime as oci;

use crate::error::{Error, ErrorKind, Result};
use crate::host::Host;
use crate::plan::{Common, affinity as affinity_step, attributes};
use crate::profile::Profile;
use crate::spec::{RootSource, Spec};
use crate::terminal::Terminal;

fn invalid(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, why)
}

/// A specification that everything has been filled in.
pub(crate) fn complete(spec: &Spec, host: &Host) -> Result<()> {
    let process = spec.oci.process().as_ref().unwrap_or(&crate::blank::PROCESS);
    // A bundle may have no program: it can be created, and is not to be started.
    let idle = spec.profile == Profile::Exact && spec.oci.process().is_none();
    if !idle && process.args().as_ref().is_none_or(Vec::is_empty) {
        return Err(invalid("no program is named to run").with_hint("name one with args()"));
    }
    if !idle {
        let common = Common::of(&spec.oci, spec.callers_keyring);
        program(process, &common)?;
        let groups = process.user().additional_gids().as_ref().is_some_and(|groups| !groups.is_empty());
        if groups && spec.profile == Profile::Exact && !host.may_set_groups && !common.maps_groups {
            let why = "cannot give the program additionalGids: an ordinary user's container has one group";
            return Err(Error::new(ErrorKind::Unsupported, why).with_hint("map further groups with gidMappings"));
        }
    }
    if !crate::network::devices(&spec.oci).is_empty() && !spec.has(Kind::Net) {
        return Err(invalid("cannot move network devices into the container: it has the network of the host"));
    }
    console(spec.console_socket.as_deref(), spec.terminal)?;
    texts(spec)?;
    mounts(spec)
}

/// What is about a program alone, the first or a further one.
pub(crate) fn program(process: &oci::Process, common: &Common) -> Result<()> {
    // What the planner cannot plan is told now.
    attributes(process, common)?;
    if let Some(affinity) = process.exec_cpu_affinity() {
        affinity_step(affinity.initial().as_ref())?;
        affinity_step(affinity.cpu_affinity_final().as_ref())?;
    }
    if !process.cwd().is_absolute() {
        return Err(invalid(format!("the working directory {} is not absolute", process.cwd().display())));
    }
    path("the working directory", process.cwd())
}

/// A socket for a terminal that there is not would wait for ever.
pub(crate) fn console(socket: Option<&Path>, terminal: Option<Terminal>) -> Result<()> {
    match (socket, terminal) {
        (Some(_), None) => Err(invalid("there is a socket for a terminal, but no terminal")),
        _ => Ok(()),
    }
}

/// A variable's name. What comes after the first `=` would be taken for its value.
pub(crate) fn variable(name: &str) -> Result<()> {
    match name.is_empty() || name.contains('=') {
        true => Err(invalid(format!("cannot set the variable {name:?}: that is no name"))),
        false => Ok(()),
    }
}

/// The kernel takes texts up to their first NUL byte: what is after it would silently be left out.
pub(crate) fn text(what: &str, text: impl AsRef<[u8]>) -> Result<()> {
    let bytes = text.as_ref();
    match bytes.contains(&0) {
        true => Err(invalid(format!("{what} holds a NUL byte: {:?}", String::from_utf8_lossy(bytes)))),
        false => Ok(()),
    }
}

fn path(what: &str, path: &Path) -> Result<()> {
    text(what, path.as_os_str().as_bytes())
}

/// Every text of the specification that becomes part of a step, but for the program's own, see [`program`].
fn texts(spec: &Spec) -> Result<()> {
    for name in [spec.oci.hostname(), spec.oci.domainname()].into_iter().flatten() {
        text("the host name", name)?;
    }
    for mount in spec.oci.mounts().iter().flatten() {
        path("the target of a mount", mount.destination())?;
        mount.source().iter().try_for_each(|source| path("the source of a mount", source))?;
        mount.typ().iter().try_for_each(|kind| text("the type of a mount", kind))?;
        mount.options().iter().flatten().try_for_each(|option| text("the option of a mount", option))?;
    }
    spec.files.iter().try_for_each(|file| path("the path of a file", &file.path))?;
    spec.masked.iter().try_for_each(|masked| text("a masked path", masked))?;
    spec.joined.iter().try_for_each(|(_, joined)| path("the path of a namespace", joined))?;
    for hook in spec.oci.hooks().iter().flat_map(crate::hooks::all) {
        crate::hooks::check(hook).map_err(|why| invalid(format!("the hook {}: {why}", hook.path().display())))?;
    }
    let Some(linux) = spec.oci.linux() else { return Ok(()) };
    let paths = linux.masked_paths().iter().chain(linux.readonly_paths()).flatten();
    paths.into_iter().try_for_each(|each| text("a masked or read-only path", each))?;
    linux.devices().iter().flatten().try_for_each(|device| path("the path of a device", device.path()))?;
    let parameters = linux.sysctl().iter().flatten();
    parameters.into_iter().try_for_each(|(name, value)| text(&format!("the kernel parameter {name:?}"), value))
}

/// Of two mounts on one target the first would be hidden: nobody means that but an engine, which is taken at its word.
fn mounts(spec: &Spec) -> Result<()> {
    let targets = spec.oci.mounts().iter().flatten().map(oci::Mount::destination);
    let mut all = targets.map(|target| target.as_path()).chain(spec.files.iter().map(|file| file.path.as_path()));
    if all.any(|target| target.components().eq(Path::new("/").components())) {
        return Err(invalid("cannot put anything at /: that is the root file system itself"));
    }
    let mut targets = HashSet::new();
    let twice = spec.oci.mounts().iter().flatten().map(oci::Mount::destination).find(|target| !targets.insert(*target));
    match twice.filter(|_| spec.profile != Profile::Exact) {
        Some(target) => Err(invalid(format!("there are two mounts on {}", target.display()))),
        None => Ok(()),
    }
}

/// A root that is not there is told before anything is made.
pub(crate) fn root(spec: &Spec) -> Result<()> {
    let paths: Vec<&PathBuf> = match &spec.root {
        RootSource::Directory(directory) => vec![directory],
        RootSource::Layers { layers, .. } => layers.iter().collect(),
        RootSource::Image(_) => Vec::new(),
    };
    for directory in paths {
        path("the path of the root file system", directory)?;
        let attempt = || format!("cannot open root file system {}", directory.display());
        let metadata = std::fs::metadata(directory).map_err(|error| Error::os(attempt(), error))?;
        if !metadata.is_dir() {
            const ENOTDIR: i32 = 20;
            return Err(Error::os(attempt(), std::io::Error::from_raw_os_error(ENOTDIR)));
        }
    }
    Ok(())
}
