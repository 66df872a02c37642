//! What the process shares with the rest of the machine, and its threads: what needs a moment to be as it was.

use super::{Facts, link, names, read};
use crate::need::hierarchies;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

/// Takes the picture of threads, mounts, network devices, cgroups, and the files below `directories`.
pub(super) fn facts<'a>(prefix: &str, directories: impl Iterator<Item = &'a Path>) -> Facts {
    let mut facts = Facts::new();
    for task in names("/proc/self/task") {
        let name = read(Path::new("/proc/self/task").join(&task).join("comm"));
        facts.insert(format!("thread: {task}"), name.trim().to_owned());
    }
    for line in read("/proc/thread-self/mountinfo").lines() {
        let (id, rest) = line.split_once(' ').unwrap_or((line, ""));
        facts.insert(format!("mount: {id}"), rest.to_owned());
    }
    for line in read("/proc/thread-self/net/dev").lines().skip(2) {
        let name = line.split(':').next().unwrap_or_default().trim();
        facts.insert(format!("network device: {name}"), String::new());
    }
    for line in read("/proc/thread-self/cgroup").lines() {
        let (hierarchy, path) = line.rsplit_once(':').unwrap_or((line, ""));
        facts.insert(format!("member of cgroup: {hierarchy}"), path.to_owned());
    }
    for hierarchy in hierarchies() {
        groups(&hierarchy.mount_point, prefix, &mut facts);
    }
    for directory in directories {
        files(directory, &mut facts);
    }
    facts
}

/// Each directory at or below `directory` whose name starts with `prefix`.
fn groups(directory: &Path, prefix: &str, facts: &mut Facts) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(prefix) && !is_of_another(&name) {
                facts.insert(format!("cgroup: {}", path.display()), String::new());
            }
            groups(&path, prefix, facts);
        }
    }
}

/// Whether a group is named after another process that lives, as `keelbox-7-4242.000001733899` is: that one takes it away itself.
fn is_of_another(name: &str) -> bool {
    let owner = name.rsplit_once('-').and_then(|(_, owner)| owner.split_once('.')?.0.parse::<u32>().ok());
    owner.is_some_and(|owner| owner != std::process::id() && Path::new("/proc").join(owner.to_string()).exists())
}

/// `directory` itself and each file below it, without following symbolic links.
fn files(directory: &Path, facts: &mut Facts) {
    let Ok(found) = fs::symlink_metadata(directory) else {
        return;
    };
    let kind = found.file_type();
    let value = match kind {
        _ if kind.is_symlink() => format!("link to {}", link(directory)),
        _ if kind.is_dir() => format!("directory {:o}", found.mode()),
        _ if kind.is_file() => format!("file {:o} of {} bytes", found.mode(), found.len()),
        _ if kind.is_fifo() => "pipe".to_owned(),
        _ if kind.is_socket() => "socket".to_owned(),
        _ => format!("device {:#x}", found.rdev()),
    };
    facts.insert(format!("file: {}", directory.display()), value);
    if kind.is_dir() {
        for name in names(directory) {
            files(&directory.join(name), facts);
        }
    }
}
