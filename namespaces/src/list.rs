//! Which namespaces there are: of one process, and on the machine, grouped as `lsns(8)` groups them.
//!
//! Leaves out on purpose: namespaces that only a descriptor or a bind mount keeps alive, which no file in `/proc` lists.
//! Oldest kernel: any.

use std::collections::BTreeMap;
use std::fs;

use crate::error::{Error, ErrorKind};
use crate::kind::Kind;
use crate::namespace::Identity;

/// One file in `/proc/PID/ns`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Entry {
    /// Its name: that of a kind, or `pid_for_children`, `time_for_children`.
    pub name: &'static str,
    /// The kind of namespace.
    pub kind: Kind,
    /// Which namespace.
    pub identity: Identity,
}

/// A namespace of the machine, with the processes in it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Listed {
    /// Its kind.
    pub kind: Kind,
    /// Which it is.
    pub identity: Identity,
    /// The processes in it that the caller may look at, the lowest id first; never empty.
    pub processes: Vec<u32>,
    /// The command line of the first of them, or its name in brackets if it has none.
    pub command: String,
}

/// The files in `/proc/PID/ns`: ten on a kernel with all kinds.
///
/// ```
/// for entry in keelbox_namespaces::list(std::process::id())? {
///     println!("{} {}", entry.name, entry.identity.inode());
/// }
/// # Ok::<(), keelbox_namespaces::Error>(())
/// ```
///
/// # Errors
///
/// [`ErrorKind::NotFound`] if there is no such process, [`ErrorKind::PermissionDenied`] if it may not be looked at.
pub fn list(pid: u32) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::new();
    for kind in Kind::ALL {
        for name in [kind.name(), kind.name_for_children()] {
            if entries.last().is_some_and(|last: &Entry| last.name == name) {
                continue;
            }
            let path = format!("/proc/{pid}/ns/{name}");
            match Identity::at(&path) {
                Ok(identity) => entries.push(Entry { name, kind, identity }),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && kind != Kind::User => {}
                Err(error) => return Err(Error::io(format!("cannot look at {path}"), error)),
            }
        }
    }
    Ok(entries)
}

/// All namespaces in which there is a process that the caller may look at, by kind and number.
///
/// Processes that end meanwhile or may not be looked at are passed over, so without privilege the list is that of the
/// caller's own processes.
///
/// # Errors
///
/// Any of reading `/proc`.
pub fn list_all() -> Result<Vec<Listed>, Error> {
    let mut groups: BTreeMap<(Kind, Identity), Vec<u32>> = BTreeMap::new();
    for pid in processes()? {
        for kind in Kind::ALL {
            if let Ok(identity) = Identity::at(&format!("/proc/{pid}/ns/{kind}")) {
                groups.entry((kind, identity)).or_default().push(pid);
            }
        }
    }
    let listed = |((kind, identity), mut processes): ((Kind, Identity), Vec<u32>)| {
        processes.sort_unstable();
        let command = processes.first().map(|pid| command(*pid)).unwrap_or_default();
        Listed { kind, identity, processes, command }
    };
    Ok(groups.into_iter().map(listed).collect())
}

fn processes() -> Result<Vec<u32>, Error> {
    let entries = fs::read_dir("/proc").map_err(|error| Error::io("cannot read /proc", error))?;
    let mut pids = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| Error::io("cannot read /proc", error))?;
        pids.extend(entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    if pids.is_empty() {
        return Err(Error::new(ErrorKind::NotFound, "no process in /proc: it is no proc file system"));
    }
    Ok(pids)
}

fn command(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> =
        line.split(|byte| *byte == 0).filter(|word| !word.is_empty()).map(String::from_utf8_lossy).collect();
    if !words.is_empty() {
        return words.join(" ");
    }
    // A kernel thread or a zombie.
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("[{}]", name.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_a_file_per_kind_and_two_for_its_children() {
        let names: Vec<_> = list(std::process::id()).unwrap().iter().map(|entry| entry.name).collect();
        let mut files: Vec<_> = fs::read_dir("/proc/self/ns")
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        files.sort_unstable();
        assert_eq!(sorted, files);
        assert_eq!(names.first(), Some(&"user"));
        assert_eq!(list(4_000_000).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn this_process_is_among_all() {
        let own = std::process::id();
        let all = list_all().unwrap();
        for entry in list(own).unwrap().iter().filter(|entry| entry.name == entry.kind.name()) {
            let found = all.iter().find(|listed| (listed.kind, listed.identity) == (entry.kind, entry.identity));
            let found = found.unwrap_or_else(|| panic!("no {entry:?}"));
            assert!(found.processes.contains(&own) && found.processes.is_sorted() && !found.command.is_empty());
        }
    }
}
