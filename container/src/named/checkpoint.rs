//! Writes a running container to disk.
//!
//! Oldest kernel: 5.10.

use std::fs;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use keelbox_namespaces::Kind;
use keelbox_runtime_spec::Status;
use oci_spec::runtime as oci;

use super::handle::Handle;
use super::hooks::config;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::criu::{Criu, NETWORK, text};
use crate::checkpoint::outside::Outside;
use crate::error::{Error, ErrorKind, Result};
use crate::host::Host;
use crate::plan::namespace_kind;
use crate::poll;

/// How long the killed processes may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn checkpoint(handle: &Handle, how: &Checkpoint) -> Result<()> {
    let attempt = format!("cannot write container {} to disk", handle.id());
    let attempt = attempt.as_str();
    let _lock = handle.place().lock(attempt)?;
    let (record, status) = handle.look(attempt)?;
    let (Status::Running, Some(process)) = (status, &record.process) else {
        return Err(Error::new(ErrorKind::State, format!("{attempt}: it is {status}, not running")));
    };
    let spec = config(handle.place())?.into_spec();
    refuse(&spec, attempt)?;
    let common = &how.common;
    let (action, log) = if how.memory_alone { ("pre-dump", "pre-dump.log") } else { ("dump", "dump.log") };
    let mut criu = Criu::new(action, log, common, attempt)?;
    for directory in [Some(&common.images), common.work.as_ref()].into_iter().flatten() {
        let cannot = |error| Error::os(format!("{attempt}: cannot make {}", directory.display()), error);
        fs::create_dir_all(directory).map_err(cannot)?;
    }
    criu.pair("--tree", &process.pid.to_string());
    let outside = Outside::of(process.pid, &spec, attempt)?;
    for point in outside.points() {
        let point = text(point, attempt)?;
        criu.pair("--external", &format!("mnt[{point}]:{point}"));
    }
    for file in outside.streams.iter().flatten().filter(|stream| stream.starts_with("file[")) {
        criu.pair("--external", file);
    }
    if let Some(inode) = network(&spec, process.pid, attempt)? {
        criu.pair("--external", &format!("net[{inode}]:{NETWORK}"));
    }
    if let Some(parent) = &how.parent {
        criu.pair("--prev-images-dir", &text(parent, attempt)?);
    }
    criu.arguments.extend((how.memory_alone || how.parent.is_some()).then(|| "--track-mem".to_owned()));
    criu.arguments.extend(how.leave_running.then(|| "--leave-running".to_owned()));
    if !how.memory_alone {
        outside.write(&common.images, attempt)?;
    }
    criu.run(attempt)?;
    let pidfd = handle.process(&record);
    if let Some(pidfd) = pidfd.filter(|_| !how.memory_alone && !how.leave_running) {
        // criu does not wait for those that it kills.
        let gone = poll::readable(pidfd.as_fd(), Some(Instant::now() + PATIENCE));
        if !gone.map_err(|error| Error::os(attempt, error))? {
            return Err(Error::new(ErrorKind::State, format!("{attempt}: it is written, but does not end")));
        }
    }
    Ok(())
}

/// Refuses what could not be read again.
pub(crate) fn refuse(spec: &oci::Spec, attempt: &str) -> Result<()> {
    let unsupported = |why: &str| Err(Error::new(ErrorKind::Unsupported, format!("{attempt}: {why}")));
    if !Host::current()?.privileged || Host::is_nested() {
        return unsupported("that takes root of the machine");
    }
    if spec.process().as_ref().is_some_and(|process| process.terminal().unwrap_or(false)) {
        return unsupported("its terminal has an end outside of it");
    }
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    let joined = |kind: Kind| kind != Kind::Net && kind != Kind::Mount;
    let mut namespaces = namespaces.into_iter().flatten();
    if namespaces.any(|namespace| namespace.path().is_some() && joined(namespace_kind(namespace.typ()))) {
        return unsupported("it has joined namespaces other than that of a network");
    }
    Ok(())
}

/// The number of the network namespace, if that was there before the container.
fn network(spec: &oci::Spec, pid: u32, attempt: &str) -> Result<Option<u64>> {
    use std::os::unix::fs::MetadataExt;
    if joined_network(spec).is_none() {
        return Ok(None);
    }
    let file = format!("/proc/{pid}/ns/net");
    let found = fs::metadata(&file).map_err(|error| Error::os(format!("{attempt}: cannot look at {file}"), error))?;
    Ok(Some(found.ino()))
}

/// The path of the network namespace, if one is joined.
pub(crate) fn joined_network(spec: &oci::Spec) -> Option<&std::path::Path> {
    let namespaces = spec.linux().as_ref()?.namespaces().as_ref()?;
    let network = namespaces.iter().find(|namespace| namespace_kind(namespace.typ()) == Kind::Net)?;
    network.path().as_deref()
}
