//! What every command works with: where the states are, the log, who makes control groups.
//!
//! Leaves out what belongs to one command. Needs no kernel.

use std::path::{Path, PathBuf};

use keelbox::crates::cgroups::systemd::Bus;
use keelbox::{Container, ErrorKind, Handle, Runtime};

use crate::failure::Failure;
use crate::log::{Form, Log};
use crate::read::Given;

/// What every command works with.
#[derive(Debug)]
pub(crate) struct Context<'l> {
    pub(crate) runtime: Runtime,
    pub(crate) log: &'l Log,
    pub(crate) manager: Manager,
}

/// Who makes control groups.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Manager {
    Cgroupfs,
    Systemd,
    Disabled,
}

impl<'l> Context<'l> {
    /// Of the options that stand before a command.
    pub(crate) fn of(global: &Given, log: &'l Log) -> Result<Self, Failure> {
        rootless(global)?;
        Ok(Self { runtime: runtime(global.path("root")), log, manager: manager(global)? })
    }

    /// Refuses a manager of control groups that there is not.
    pub(crate) fn can_group(&self) -> Result<(), Failure> {
        match self.manager {
            Manager::Disabled => Err(Failure::new("cannot honour --cgroup-manager=disabled: it is not supported yet")),
            Manager::Cgroupfs | Manager::Systemd => Ok(()),
        }
    }

    /// A container whose control group the right manager makes.
    pub(crate) fn grouped(&self, container: Container) -> Container {
        match self.manager {
            Manager::Systemd => container.systemd(&bus()),
            Manager::Cgroupfs | Manager::Disabled => container,
        }
    }

    /// Tells what went wrong with a container without making a command fail.
    pub(crate) fn warn(&self, handle: &Handle) {
        for warning in handle.warnings() {
            self.log.warn(&Failure::from(warning).to_string());
        }
    }

    /// Opens a container. The words are those by which engines know that there is none.
    pub(crate) fn open(&self, id: &str) -> Result<Handle, Failure> {
        self.runtime.open(id).map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                let root = self.runtime.root().display();
                Failure::new(format!("cannot open container {id}: the container does not exist in {root}"))
            }
            _ => error.into(),
        })
    }
}

/// The log that the options before a command ask for.
pub(crate) fn log(global: &Given) -> Result<Log, Failure> {
    let forms = [("text", Some(Form::Text)), ("json", Some(Form::Json))];
    let form = match global.value("log-format") {
        Some(_) => global.choice("log-format", &forms)?,
        None => None,
    };
    // An empty name is none: that is how engines say that they want no log.
    let path = global.path("log").filter(|path| !path.as_os_str().is_empty());
    Log::open(path.as_deref(), form, global.has("debug"))
}

/// Where the states are: the library reads no environment, so that is done here.
fn runtime(root: Option<PathBuf>) -> Runtime {
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|own| !own.is_empty());
    match (root, own) {
        (Some(root), _) => Runtime::at(root),
        (None, Some(own)) if is_ordinary() => Runtime::at(Path::new(&own).join("keelbox")),
        _ => Runtime::new(),
    }
}

/// Whether this is an ordinary user, who may be root in a user namespace of his own, as an engine makes one for him.
fn is_ordinary() -> bool {
    let map = || std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let is_whole = |map: &str| map.split_whitespace().eq(["0", "0", "4294967295"]);
    !nix::unistd::geteuid().is_root()
        || (!is_whole(&map()) && std::env::var_os("USER").is_none_or(|user| user != "root"))
}

/// What this asks for is so anyway, but for one thing: an ordinary user has no containers that are not rootless.
fn rootless(global: &Given) -> Result<(), Failure> {
    let asked = [("auto", true), ("true", true), ("false", false)];
    match global.choice("rootless", &asked)? {
        false if !nix::unistd::geteuid().is_root() => {
            Err(Failure::new("cannot honour --rootless=false: this program does not run as root"))
        }
        _ => Ok(()),
    }
}

/// The bus of the systemd that makes control groups for this user: root's is the system's, whoever else's his own. The library reads no
/// environment, so that is done here.
fn bus() -> Bus {
    if !is_ordinary() {
        return Bus::system();
    }
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let addresses = variable("DBUS_SESSION_BUS_ADDRESS").unwrap_or_default();
    // Several may be given, each with keys; of the kinds of them only this one is a socket with a path.
    let paths = addresses.split(';').filter_map(|address| address.strip_prefix("unix:"));
    let path = paths.flat_map(|keys| keys.split(',')).find_map(|key| key.strip_prefix("path="));
    match (path, variable("XDG_RUNTIME_DIR")) {
        (Some(path), _) => Bus::at(path),
        (None, Some(own)) => Bus::at(Path::new(&own).join("bus")),
        (None, None) => Bus::user(),
    }
}

fn manager(global: &Given) -> Result<Manager, Failure> {
    let managers = [("cgroupfs", Manager::Cgroupfs), ("systemd", Manager::Systemd), ("disabled", Manager::Disabled)];
    let named = global.choice("cgroup-manager", &managers)?;
    match (global.has("systemd-cgroup"), named) {
        (true, Manager::Disabled) => {
            Err(Failure::new("--systemd-cgroup and --cgroup-manager=disabled exclude each other"))
        }
        (true, _) => Ok(Manager::Systemd),
        (false, named) => Ok(named),
    }
}
