//! Who writes the id maps of a new user namespace, and writing them for another process.
//!
//! Leaves out on purpose: a process that writes its own; the stage does that by steps. Oldest kernel: 3.19 for
//! `/proc/PID/setgroups`.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::caller::Caller;
use crate::error::{Error, ErrorKind};
use crate::id_map::IdMap;
use crate::id_maps::IdMaps;
use crate::process::read;
use crate::refusal::{Attempt, Refusal};

/// Where the helper programs are looked for; never in `PATH`, since they gain privilege.
const DIRECTORIES: [&str; 3] = ["/usr/bin", "/bin", "/usr/local/bin"];

/// Who writes the maps.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum MapMethod {
    /// The process itself, once it is in its namespace: only its own user and group, and no `setgroups(2)` inside.
    Own,
    /// The parent, which has the capabilities for it.
    Parent,
    /// `newuidmap(1)` and `newgidmap(1)`, which know what is lent to the caller.
    Helper(Helpers),
}

impl MapMethod {
    /// Chooses the way that needs the least: the parent if it is privileged, the process itself if only the caller's
    /// own ids are mapped, else the helper programs.
    ///
    /// ```
    /// use keelbox_namespaces::{Caller, IdMaps, MapMethod};
    ///
    /// let ann = Caller::new(1000, 1000);
    /// assert_eq!(MapMethod::choose(&IdMaps::own(&ann)?, &ann, None)?, MapMethod::Own);
    /// # Ok::<(), keelbox_namespaces::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::HelperMissing`] if the helper programs are needed and `helpers` has none.
    pub fn choose(maps: &IdMaps, caller: &Caller, helpers: Option<Helpers>) -> Result<Self, Error> {
        if caller.may_map() {
            return Ok(Self::Parent);
        }
        if maps.only(caller) {
            return Ok(Self::Own);
        }
        let missing = || {
            let places = DIRECTORIES.join(", ");
            let what = format!(
                "cannot map more ids than those of {caller}: newuidmap and newgidmap are not in {places}; install \
                 the package uidmap or shadow-utils, or map the caller's own ids only"
            );
            Error::new(ErrorKind::HelperMissing, what)
        };
        helpers.map(Self::Helper).ok_or_else(missing)
    }
}

/// The helper programs of the package `shadow`, which are set-user-id root.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Helpers {
    users: PathBuf,
    groups: PathBuf,
}

impl Helpers {
    /// `newuidmap` and `newgidmap` at these absolute paths.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Malformed`] if a path is relative.
    pub fn new(newuidmap: impl Into<PathBuf>, newgidmap: impl Into<PathBuf>) -> Result<Self, Error> {
        let absolute = |path: PathBuf| {
            if path.is_absolute() {
                return Ok(path);
            }
            let what = format!("helper program {} has no absolute path", path.display());
            Err(Error::new(ErrorKind::Malformed, what))
        };
        Ok(Self { users: absolute(newuidmap.into())?, groups: absolute(newgidmap.into())? })
    }

    /// Looks for them in `/usr/bin`, `/bin` and `/usr/local/bin`.
    pub fn find() -> Option<Self> {
        let find = |name| DIRECTORIES.iter().map(|place| Path::new(place).join(name)).find(|path| path.is_file());
        Some(Self { users: find("newuidmap")?, groups: find("newgidmap")? })
    }

    /// The path of `newuidmap`.
    pub fn newuidmap(&self) -> &Path {
        &self.users
    }

    /// The path of `newgidmap`.
    pub fn newgidmap(&self) -> &Path {
        &self.groups
    }
}

/// Writes the maps of process `pid`, which waits for them in its new user namespace.
///
/// With [`MapMethod::Own`] the maps of a child are written from outside, which the kernel allows as well: `setgroups(2)`
/// is given up first. The process must not be reaped meanwhile, or `pid` might mean another.
///
/// # Errors
///
/// [`ErrorKind::PermissionDenied`] with a [`Refusal`] as its source, [`ErrorKind::HelperFailed`] with what the helper
/// program said, [`ErrorKind::NotFound`] if there is no such process.
pub fn write(pid: u32, maps: &IdMaps, method: &MapMethod) -> Result<(), Error> {
    match method {
        MapMethod::Own => {
            file(pid, "setgroups", "deny")?;
            files(pid, maps)
        }
        MapMethod::Parent => files(pid, maps),
        MapMethod::Helper(helpers) => {
            help(&helpers.users, pid, maps.users())?;
            help(&helpers.groups, pid, maps.groups())
        }
    }
}

fn files(pid: u32, maps: &IdMaps) -> Result<(), Error> {
    for (name, map) in [("uid_map", maps.users()), ("gid_map", maps.groups())] {
        file(pid, name, &map.text()).map_err(|error| explained(error, name, map))?;
    }
    Ok(())
}

/// The kernel takes a map in one `write(2)` only.
fn file(pid: u32, name: &str, text: &str) -> Result<(), Error> {
    let path = format!("/proc/{pid}/{name}");
    let what = || format!("cannot write {:?} to {path}", text.trim_end());
    let mut file = File::options().write(true).open(&path).map_err(|error| Error::io(what(), error))?;
    let written = file.write(text.as_bytes()).map_err(|error| Error::io(what(), error))?;
    if written == text.len() { Ok(()) } else { Err(Error::new(ErrorKind::Os(nix::libc::EIO), what())) }
}

fn explained(error: Error, name: &str, map: &IdMap) -> Error {
    if error.kind() != ErrorKind::PermissionDenied {
        return error;
    }
    // The commonest cause inside another container: an id is handed on that this namespace does not have.
    let own = read(&format!("/proc/self/{name}")).ok().and_then(|text| text.parse::<IdMap>().ok());
    if let Some(range) = own.and_then(|own| map.missing_from(&own)) {
        return error.adding(format!("the ids of \"{range}\" do not all exist in the caller's user namespace"));
    }
    let errno = nix::libc::EPERM;
    Error::because(ErrorKind::PermissionDenied, error.to_string(), Refusal::explain(Attempt::Map, errno))
}

fn help(program: &Path, pid: u32, map: &IdMap) -> Result<(), Error> {
    let numbers = map.ranges().iter().flat_map(|range| [range.inside(), range.outside(), range.count()]);
    let arguments = std::iter::once(pid).chain(numbers).map(|number| number.to_string());
    let mut command = Command::new(program);
    command.args(arguments).env_clear().current_dir("/").stdin(Stdio::null());
    let what = || format!("cannot map ids \"{map}\" of process {pid} with {}", program.display());
    let output = command.output().map_err(|error| {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        let kind = if missing { ErrorKind::HelperMissing } else { ErrorKind::HelperFailed };
        Error::io(what(), error).recast(kind)
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    let what = format!("{}: {}: {said}", what(), output.status);
    Err(Error::because(ErrorKind::HelperFailed, what, Refusal::explain(Attempt::MapByHelper, nix::libc::EPERM)))
}

/// The texts of `/etc/subuid` and `/etc/subgid`; a file that is missing lends nothing.
///
/// # Errors
///
/// [`ErrorKind::PermissionDenied`] and the like, if a file is there and cannot be read.
pub fn subordinate_texts() -> Result<(String, String), Error> {
    let text = |path: &str| match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(Error::io(format!("cannot read {path}"), error)),
    };
    Ok((text("/etc/subuid")?, text("/etc/subgid")?))
}

/// Whether a file is set-user-id.
pub(crate) fn is_set_user_id(path: impl AsRef<OsStr>) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(Path::new(path.as_ref())).is_ok_and(|metadata| metadata.permissions().mode() & 0o4000 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_is_chosen() {
        let ann = Caller::new(1000, 1000);
        let root = Caller::new(0, 0).capabilities(u64::MAX);
        let text = "1000:100000:65536\n0:200000:65536";
        let own = IdMaps::own(&ann).unwrap();
        let lent = IdMaps::for_user(&ann, text, text).unwrap();
        let helpers = || Helpers::new("/a/newuidmap", "/a/newgidmap").unwrap();
        let table = [
            (&own, &root, None, Ok(MapMethod::Parent)),
            (&lent, &root, Some(helpers()), Ok(MapMethod::Parent)),
            (&own, &ann, Some(helpers()), Ok(MapMethod::Own)),
            (&lent, &ann, Some(helpers()), Ok(MapMethod::Helper(helpers()))),
            (&lent, &ann, None, Err(ErrorKind::HelperMissing)),
        ];
        for (maps, caller, helpers, wanted) in table {
            assert_eq!(MapMethod::choose(maps, caller, helpers).map_err(|error| error.kind()), wanted);
        }
        assert_eq!(Helpers::new("newuidmap", "/x").unwrap_err().kind(), ErrorKind::Malformed);
    }

    #[test]
    fn a_helpers_words_are_handed_on() {
        let own = IdMaps::own(&Caller::current().unwrap()).unwrap();
        let missing = Helpers::new("/no/newuidmap", "/no/newgidmap").unwrap();
        let error = write(1, &own, &MapMethod::Helper(missing)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::HelperMissing);
        // A program that fails and says why stands for the helper.
        let ls = Helpers::new("/bin/ls", "/bin/ls").unwrap();
        let error = write(4_000_000_000, &own, &MapMethod::Helper(ls)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::HelperFailed);
        assert!(error.to_string().contains("4000000000") && error.to_string().contains("No such file"), "{error}");
        let agreeing = Helpers::new("/bin/true", "/bin/true").unwrap();
        write(4_000_000_000, &own, &MapMethod::Helper(agreeing)).unwrap();
    }

    #[test]
    fn no_process_no_maps() {
        let own = IdMaps::own(&Caller::new(1, 1)).unwrap();
        for method in [MapMethod::Own, MapMethod::Parent] {
            assert_eq!(write(4_000_000_000, &own, &method).unwrap_err().kind(), ErrorKind::NotFound);
        }
    }
}
