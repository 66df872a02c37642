//! Groups that systemd makes: where it manages the tree, a group that it does not know of is in its way.
//!
//! A [`Systemd`] is asked for a transient scope, which is delegated: systemd makes the group and says no more about what is in it. It wants
//! a process to begin with, and what it moves must exist already; so a process of our own that only waits is the first one, limits are written
//! with nothing else there, and what is to run is born in the group by [`Group::directory`] as everywhere else. See [`Systemd::scope`].
//!
//! ```no_run
//! use keelbox_cgroups::systemd::{Bus, Systemd, Unit};
//! use keelbox_cgroups::{Limits, MIB};
//! let mut systemd = Systemd::connect(&Bus::system())?;
//! let unit = Unit::scope("machine.slice", "job", "7")?;
//! let scope = systemd.scope(&unit, "job 7", &Limits::new().memory(64 * MIB))?;
//! let mut child = scope.group().command("make").and_then(|mut make| Ok(make.spawn().expect("it is installed")))?;
//! let group = scope.release();                 // what runs in it keeps it from now on
//! child.wait().expect("make was started above");
//! systemd.stop(unit.name())?;
//! # Ok::<(), keelbox_cgroups::Error>(())
//! ```
//!
//! Leaves out hosts with controllers of cgroup v1, services, and slices. Needs systemd 244 or later; Linux 5.10.

mod connection;
mod holder;
mod properties;
mod unit;
mod wire;

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::group::{Group, apply};
use crate::hierarchy::{Hierarchy, Layout};
use crate::limits::Limits;
use connection::Connection;
use wire::{Body, Kind, Message, Method, Property, Value};

pub use holder::Holder;
pub use unit::Unit;

/// How long systemd may take for a job.
const PATIENCE: Duration = Duration::from_secs(30);

const NAME: &str = "org.freedesktop.systemd1";
const FINISHED: &str = "type='signal',sender='org.freedesktop.systemd1',path='/org/freedesktop/systemd1',\
                        interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";

/// Where an instance of systemd is talked to.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Bus {
    socket: PathBuf,
}

impl Bus {
    /// The system's, at `/run/dbus/system_bus_socket`. It makes scopes for root.
    #[must_use]
    pub fn system() -> Self {
        Self::at("/run/dbus/system_bus_socket")
    }

    /// That of the calling user's own instance, at `/run/user/UID/bus`. A program that honours `XDG_RUNTIME_DIR` says [`Bus::at`].
    #[must_use]
    pub fn user() -> Self {
        Self::at(format!("/run/user/{}/bus", nix::unistd::geteuid()))
    }

    /// The one at this socket.
    #[must_use]
    pub fn at(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// The socket of the bus.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

/// An instance of systemd, talked to over its bus.
#[derive(Debug)]
pub struct Systemd {
    connection: Connection,
}

impl Systemd {
    /// Connects to it.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) if there is no such bus, systemd is not on it, or this host has controllers of cgroup v1;
    /// [`PermissionDenied`](ErrorKind::PermissionDenied) if the bus does not let this user in.
    pub fn connect(bus: &Bus) -> Result<Self> {
        if Hierarchy::detect()?.layout() != Layout::V2 {
            let why = "cannot ask systemd for a control group: this host has controllers of cgroup v1, where it does not delegate";
            return Err(Error::unsupported(why));
        }
        Self::on(bus)
    }

    fn on(bus: &Bus) -> Result<Self> {
        let mut connection = Connection::open(&bus.socket)?;
        connection.listen(FINISHED)?;
        let mut systemd = Self { connection };
        // Whether it is there at all is known before anything is touched.
        let (method, mut body) = (properties_method("Get", "ss"), Body::default());
        body.text("org.freedesktop.systemd1.Manager").text("Version");
        systemd.connection.call(&method, &body)?;
        Ok(systemd)
    }

    /// Has a scope made whose limits hold before anything but our own waiting process is in it.
    ///
    /// systemd is told those of the limits that it has properties for, since it would undo them when it reloads; all are written into the
    /// group as well, and read back. The scope ends by itself when nothing is in it any more.
    ///
    /// # Errors
    /// [`AlreadyExists`](ErrorKind::AlreadyExists) if there is a unit of this name; [`PermissionDenied`](ErrorKind::PermissionDenied);
    /// [`NotApplied`](ErrorKind::NotApplied) if systemd knows a property too little; else as [`Group::create`]. Nothing remains then.
    pub fn scope(&mut self, unit: &Unit, description: &str, limits: &Limits) -> Result<Scope> {
        let plan = limits.plan(&Hierarchy::detect()?)?;
        let holder = Holder::start()?;
        let mut properties: Vec<Property> = vec![
            ("Description".into(), Value::Text(description.into())),
            ("PIDs".into(), Value::Numbers(vec![holder.pid()])),
            ("Delegate".into(), Value::Flag(true)),
            // Ordered after nothing, so that none is stopped before its time when the machine goes down in the midst of its start.
            ("DefaultDependencies".into(), Value::Flag(false)),
            // A scope that ended badly would be in the way of the next one of its name.
            ("CollectMode".into(), Value::Text("inactive-or-failed".into())),
        ];
        properties.extend(unit.slice().map(|slice| ("Slice".into(), Value::Text(slice.into()))));
        let accounting = ["CPUAccounting", "MemoryAccounting", "IOAccounting", "TasksAccounting"];
        properties.extend(accounting.map(|name| (name.to_owned(), Value::Flag(true))));
        properties.extend(properties::of(&plan)?);
        let mut body = Body::default();
        body.text(unit.name()).text("fail").properties(&properties).nothing();
        self.start(&body, unit.name())?;
        // From here on the end of the holder is the end of the scope, whose directory is systemd's to remove.
        let group = Group::from_directories([holder.directory(unit.name())?])?.made::<PathBuf>([]);
        apply::update(&group, limits)?;
        Ok(Scope { group, holder })
    }

    /// Tells systemd new limits of a unit; what is not set in `limits` stays. Writing them into the group is left to [`Group::update`].
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is no such unit; as [`scope`](Self::scope) otherwise.
    pub fn update(&mut self, name: &str, group: &Group, limits: &Limits) -> Result<()> {
        let properties = properties::of(&apply::planned(group, limits)?)?;
        if properties.is_empty() {
            return Ok(());
        }
        let mut body = Body::default();
        // At run time only: the unit is gone with the machine.
        body.text(name).flag(true).properties(&properties);
        self.connection.call(&manager("SetUnitProperties", "sba(sv)"), &body).map(drop)
    }

    /// Ends a unit with all that is in it, and returns when it is gone. That it is gone already is no failure.
    ///
    /// # Errors
    /// [`TimedOut`](ErrorKind::TimedOut) if that takes more than 30 s, [`PermissionDenied`](ErrorKind::PermissionDenied).
    pub fn stop(&mut self, name: &str) -> Result<()> {
        let mut body = Body::default();
        body.text(name).text("replace");
        unless_gone(self.job(&manager("StopUnit", "ss"), &body, name))?;
        // One that failed is kept by a systemd that does not collect it.
        let mut body = Body::default();
        body.text(name);
        unless_gone(self.connection.call(&manager("ResetFailedUnit", "s"), &body).map(drop))
    }

    /// One of this name whose last process has just ended may be there for a moment yet, and one that failed until it is told to go.
    fn start(&mut self, body: &Body, name: &str) -> Result<()> {
        let mut tries = 0;
        loop {
            match self.job(&manager("StartTransientUnit", "ssa(sv)a(sa(sv))"), body, name) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists && tries < 5 => {
                    let mut failed = Body::default();
                    failed.text(name);
                    let _none_failed = self.connection.call(&manager("ResetFailedUnit", "s"), &failed);
                    tries += 1;
                    thread::sleep(Duration::from_millis(100));
                }
                other => return other,
            }
        }
    }

    /// Calls a method that starts a job, and waits for its end.
    fn job(&mut self, method: &Method<'_>, body: &Body, unit: &str) -> Result<()> {
        let reply = self.connection.call(method, body)?;
        let attempt = format!("cannot have systemd do {} of {unit}", method.member);
        let job = reply.arguments().text().unwrap_or_default().to_owned();
        let deadline = Instant::now() + PATIENCE;
        while let Some(signal) = self.connection.signal(deadline)? {
            match result(&signal, &job) {
                Some("done" | "skipped") => return Ok(()),
                Some(other) => {
                    return Err(Error::new(
                        ErrorKind::NotApplied,
                        format!("{attempt}: the job came to its end as {other}"),
                    ));
                }
                None => {}
            }
        }
        Err(Error::new(ErrorKind::TimedOut, format!("{attempt}: the job does not end")))
    }
}

/// A scope whose first process is one of ours that waits. Dropped, it ends with that process unless something else is in it by then.
#[derive(Debug)]
pub struct Scope {
    group: Group,
    holder: Holder,
}

impl Scope {
    /// The group of the scope.
    #[must_use]
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// Ends the process that waits: what else is in the group keeps the scope from now on.
    #[must_use]
    pub fn release(self) -> Group {
        let Self { group, holder } = self;
        drop(holder);
        group
    }

    /// The group, and what keeps it until it is dropped.
    #[must_use]
    pub fn into_parts(self) -> (Group, Holder) {
        (self.group, self.holder)
    }
}

fn manager<'a>(member: &'a str, signature: &'a str) -> Method<'a> {
    let (path, interface) = ("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager");
    Method { destination: NAME, path, interface, member, signature }
}

fn properties_method<'a>(member: &'a str, signature: &'a str) -> Method<'a> {
    Method { interface: "org.freedesktop.DBus.Properties", ..manager(member, signature) }
}

/// How `job` ended, if the signal is about that.
fn result<'a>(signal: &'a Message, job: &str) -> Option<&'a str> {
    if signal.kind != Kind::Signal("JobRemoved".into()) {
        return None;
    }
    let mut arguments = signal.arguments();
    let (_, path, _, result) = (arguments.number()?, arguments.text()?, arguments.text()?, arguments.text()?);
    (path == job).then_some(result)
}

fn unless_gone(done: Result<()>) -> Result<()> {
    match done {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests;
