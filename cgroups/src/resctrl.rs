//! Classes of service and monitoring groups of resctrl: shares of the last-level cache and of memory bandwidth (Intel RDT, AMD QoS).
//!
//! Not a cgroup, but a file system of its own with directories that hold tasks. Documentation: "User Interface for Resource Control feature"
//! in the kernel's documentation of x86. Leaves out: mounting it, and what the schemata mean. Oldest kernel: 4.10; monitoring: 4.14.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::error::{Error, ErrorKind, Result};
use crate::hierarchy::mount_points;

mod files;
mod schema;

use files::{Files, Kernel};

/// The name that stands for the class that every task is in to begin with.
const DEFAULT: &str = "/";
/// What resctrl has itself in the directory of a class.
const RESERVED: [&str; 5] = ["info", "mon_data", "mon_groups", ".", ".."];

/// What is asked of resctrl for one container, in the words of `linux.intelRdt` of the OCI runtime specification.
///
/// ```
/// use keelbox_cgroups::resctrl::Request;
/// let request = Request::new().l3("L3:0=ff;1=ff").bandwidth("MB:0=50;1=50").monitoring();
/// let shared = Request::new().class("guaranteed");
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[must_use]
pub struct Request {
    class: Option<String>,
    l3: Option<String>,
    bandwidth: Option<String>,
    lines: Vec<String>,
    monitoring: bool,
}

impl Request {
    /// A class with the name of the container, with nothing written to its schemata.
    pub fn new() -> Self {
        Self::default()
    }

    /// The class of this name, which may be shared and stays when the container goes; `/` is the one that every task is in to begin
    /// with. Without a schema it must be there; with one it is made if it is missing, and must have that schema otherwise.
    pub fn class(mut self, name: impl Into<String>) -> Self {
        self.class = Some(name.into());
        self
    }

    /// The line for the last-level cache, such as `L3:0=7f0;1=1f`. Written first.
    pub fn l3(mut self, line: impl Into<String>) -> Self {
        self.l3 = Some(line.into());
        self
    }

    /// The line for memory bandwidth, which begins with `MB:`. Written after [`l3`](Self::l3).
    pub fn bandwidth(mut self, line: impl Into<String>) -> Self {
        self.bandwidth = Some(line.into());
        self
    }

    /// Any line of the schemata. Written after the other two; may be called for several.
    pub fn schema(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// A monitoring group of the container's own within its class.
    pub fn monitoring(mut self) -> Self {
        self.monitoring = true;
        self
    }

    /// The lines, in the order in which they are written.
    fn schemata(&self) -> Vec<&str> {
        self.l3.iter().chain(&self.bandwidth).chain(&self.lines).map(String::as_str).collect()
    }

    fn check(&self, container: &str) -> Result<()> {
        let names = [Some(container), self.class.as_deref().filter(|class| *class != DEFAULT)];
        for name in names.into_iter().flatten() {
            let odd =
                name.is_empty() || name.len() > 255 || name.contains(['/', '\0', '\n']) || RESERVED.contains(&name);
            if odd {
                let message = format!("cannot use {:?} as a class of resctrl: it is no name of a directory", name);
                return Err(Error::new(ErrorKind::InvalidPath, message));
            }
        }
        if let Some(line) =
            self.schemata().into_iter().find(|line| line.contains(['\n', '\0']) || line.trim().is_empty())
        {
            return Err(Error::invalid(format!("cannot set the schema {line:?}: it must be one line")));
        }
        match self.bandwidth.as_deref().filter(|line| !line.starts_with("MB:")) {
            Some(line) => {
                Err(Error::invalid(format!("cannot limit memory bandwidth to {line:?}: it must begin with MB:")))
            }
            None => Ok(()),
        }
    }
}

/// A resctrl file system.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Resctrl {
    root: PathBuf,
}

impl Resctrl {
    /// The one that is mounted, usually at `/sys/fs/resctrl`.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) if none is.
    pub fn find() -> Result<Self> {
        const FILE: &str = "/proc/self/mountinfo";
        let text = fs::read(FILE).map_err(|source| Error::io(format!("cannot read {FILE}"), source))?;
        match mount_points(&text, "resctrl").into_iter().next_back() {
            Some(root) => Ok(Self { root }),
            None => Err(Error::unsupported("cannot use Intel RDT: no resctrl file system is mounted")),
        }
    }

    /// The one that is mounted here.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directories that [`create`](Self::create) would make and that go with the container, the innermost first.
    ///
    /// # Errors
    /// As [`create`](Self::create), for names and lines.
    pub fn prospect(&self, request: &Request, container: &str) -> Result<Vec<PathBuf>> {
        request.check(container)?;
        let plan = Place::of(&self.root, request, container);
        Ok(plan.own().into_iter().filter(|directory| !Kernel.exists(directory)).collect())
    }

    /// Makes the class and the monitoring group that `request` asks for, for the container of this name, and writes the schemata.
    ///
    /// # Errors
    /// Nothing that was made remains. [`InvalidPath`](ErrorKind::InvalidPath) and [`InvalidLimit`](ErrorKind::InvalidLimit) before anything was
    /// touched; [`NotFound`](ErrorKind::NotFound) for a named class that is not there and has no schema to be made with;
    /// [`NotApplied`](ErrorKind::NotApplied) for one that is there with another schema; [`AlreadyExists`](ErrorKind::AlreadyExists) for a
    /// directory of the container's name; the kernel's answer otherwise, such as `ENOSPC` when there are no more classes.
    pub fn create(&self, request: &Request, container: &str) -> Result<Class> {
        create(&Kernel, &self.root, request, container)
    }
}

/// Where things are for one container.
struct Place {
    class: PathBuf,
    /// Whether the class is the container's own, and goes with it.
    own: bool,
    monitor: Option<PathBuf>,
}

impl Place {
    fn of(root: &Path, request: &Request, container: &str) -> Self {
        let class = match request.class.as_deref() {
            Some(DEFAULT) => root.to_owned(),
            Some(name) => root.join(name),
            None => root.join(container),
        };
        let monitor = request.monitoring.then(|| class.join("mon_groups").join(container));
        Self { class, own: request.class.is_none(), monitor }
    }

    /// What goes with the container.
    fn own(&self) -> Vec<PathBuf> {
        self.monitor.iter().chain(self.own.then_some(&self.class)).cloned().collect()
    }
}

/// A class that a container's tasks belong to, and its monitoring group.
#[derive(Debug)]
pub struct Class {
    class: PathBuf,
    monitor: Option<PathBuf>,
    own: Vec<PathBuf>,
    /// All that was made, also what is to stay.
    made: Vec<PathBuf>,
}

impl Class {
    /// Puts a process into the class and the monitoring group. What it clones from then on is born there.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is no such process; the kernel's answer.
    pub fn add(&self, pid: u32) -> Result<()> {
        add(&Kernel, self, pid)
    }

    /// The directories that go with the container, the innermost first: for [`remove`].
    #[must_use]
    pub fn directories(&self) -> &[PathBuf] {
        &self.own
    }

    /// Removes all that was made, also a shared class: for a container that came to nothing.
    pub fn undo(&self) {
        undo(&Kernel, &self.made);
    }
}

/// Removes directories that a container had; those that are gone are passed over. Tasks that are left fall back to the class above.
///
/// # Errors
/// The kernel's answer, for the first that could not be removed; all are tried.
pub fn remove(directories: &[PathBuf]) -> Result<()> {
    let mut first = Ok(());
    for directory in directories {
        let removed = unless_missing(Kernel.remove(directory));
        first = first.and(removed.map_err(|error| cannot(&Kernel, None, "remove", directory, error)));
    }
    first
}

fn create(files: &impl Files, root: &Path, request: &Request, container: &str) -> Result<Class> {
    request.check(container)?;
    if !files.exists(root) {
        let message = format!("cannot use Intel RDT: there is no {}", root.display());
        return Err(Error::unsupported(message));
    }
    let place = Place::of(root, request, container);
    let mut class = Class { own: place.own(), made: Vec::new(), monitor: None, class: place.class };
    match make(files, root, request, &mut class, place.monitor) {
        Ok(()) => Ok(class),
        Err(error) => {
            undo(files, &class.made);
            Err(error)
        }
    }
}

fn make(files: &impl Files, root: &Path, request: &Request, class: &mut Class, monitor: Option<PathBuf>) -> Result<()> {
    let lines = request.schemata();
    let there = files.exists(&class.class);
    match (request.class.as_deref(), there, lines.is_empty()) {
        (None, ..) | (Some(_), false, false) => {
            make_directory(files, root, class, |class| class.class.clone())?;
            let schemata = class.class.join("schemata");
            for line in lines {
                // One by one: within one write the kernel takes no second line about the same resource.
                let written = files.append(&schemata, &format!("{line}\n"));
                written.map_err(|error| cannot(files, Some(root), &format!("write {line} to"), &schemata, error))?;
            }
        }
        (Some(_), true, _) => compare(files, &class.class, &lines)?,
        (Some(name), false, true) => {
            let message =
                format!("cannot use the class {name} of resctrl: it is not there, and no schema says what to make");
            return Err(Error::new(ErrorKind::NotFound, message));
        }
    }
    if let Some(monitor) = monitor {
        make_directory(files, root, class, |_| monitor.clone())?;
        class.monitor = Some(monitor);
    }
    Ok(())
}

fn make_directory(files: &impl Files, root: &Path, class: &mut Class, which: impl Fn(&Class) -> PathBuf) -> Result<()> {
    let directory = which(class);
    files.make(&directory).map_err(|error| cannot(files, Some(root), "make", &directory, error))?;
    class.made.insert(0, directory);
    Ok(())
}

/// A shared class is never changed for the sake of one more container.
fn compare(files: &impl Files, class: &Path, lines: &[&str]) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let file = class.join("schemata");
    let text = files.read(&file).map_err(|error| cannot(files, None, "read", &file, error))?;
    match lines.iter().find(|line| !schema::holds(&text, line)) {
        None => Ok(()),
        Some(line) => {
            let message =
                format!("cannot share the class {} of resctrl: its schemata do not have {line}", class.display());
            Err(Error::new(ErrorKind::NotApplied, message))
        }
    }
}

fn add(files: &impl Files, class: &Class, pid: u32) -> Result<()> {
    // A monitoring group takes only tasks of its class.
    for directory in std::iter::once(&class.class).chain(&class.monitor) {
        let file = directory.join("tasks");
        files.append(&file, &format!("{pid}\n")).map_err(|error| match error.raw_os_error() {
            Some(nix::libc::ESRCH) => {
                let attempt = format!("cannot add process {pid} to {}", directory.display());
                Error::io(attempt, error).of_kind(ErrorKind::NotFound)
            }
            _ => cannot(files, None, &format!("add process {pid} to"), directory, error),
        })?;
    }
    Ok(())
}

fn undo(files: &impl Files, made: &[PathBuf]) {
    for directory in made {
        // There is a better error to tell.
        let _removed = files.remove(directory);
    }
}

fn unless_missing(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// With the reason that resctrl has for the last thing it refused.
fn cannot(files: &impl Files, root: Option<&Path>, what: &str, path: &Path, error: io::Error) -> Error {
    let said = root.and_then(|root| files.read(&root.join("info/last_cmd_status")).ok()).unwrap_or_default();
    let said = match said.trim() {
        "" | "ok" => String::new(),
        reason => format!(" ({})", reason.replace('\n', "; ").escape_debug()),
    };
    let attempt = format!("cannot {what} {}{said}", path.display());
    match error.raw_os_error() {
        Some(number) => Error::os(attempt, Errno::from_raw(number)),
        None => Error::io(attempt, error),
    }
}

#[cfg(test)]
mod tests;
