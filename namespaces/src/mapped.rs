//! A user namespace that nobody is in, made for its id maps: a mount's ids are mapped by one.
//!
//! Leaves out on purpose: mapping the mount, which is for whoever holds it (`mount_setattr(2)`). Oldest kernel: 3.19.

use std::os::fd::AsFd;

use keelbox_launch::{Event, Launch, Slot, Started, Step, Wait, sys};

use crate::error::{Error, ErrorKind};
use crate::id_maps::IdMaps;
use crate::kind::Kind;
use crate::mapping::{MapMethod, write};
use crate::namespace::Namespace;
use crate::refusal::{Attempt, Refusal};

impl Namespace {
    /// Makes a user namespace with these maps. A process of its own is cloned for that and has ended when this returns; the
    /// namespace lives as long as the value does.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::PermissionDenied`] with a [`Refusal`] as its source where user namespaces are forbidden, or as [`write()`].
    ///
    /// ```no_run
    /// use keelbox_namespaces::{IdMaps, MapMethod, Namespace, Range};
    ///
    /// let shifted = IdMaps::ranges([Range::new(0, 100_000, 65_536)?], [Range::new(0, 100_000, 65_536)?])?;
    /// let namespace = Namespace::mapped(&shifted, &MapMethod::Parent)?;
    /// # Ok::<(), keelbox_namespaces::Error>(())
    /// ```
    pub fn mapped(maps: &IdMaps, method: &MapMethod) -> Result<Self, Error> {
        let steps = [Step::Wait { what: Wait::Maps, listener: Slot::NONE }];
        let flags = u64::from(Kind::User.flag());
        let mut started = Launch::new(&steps).namespaces(flags).start().map_err(refused)?;
        let made = Self::of_waiting(&mut started, maps, method);
        let _killed = sys::send_signal(started.pidfd.as_fd(), nix::libc::SIGKILL);
        let _reaped = sys::wait(&started.pidfd);
        made
    }

    fn of_waiting(started: &mut Started, maps: &IdMaps, method: &MapMethod) -> Result<Self, Error> {
        let what = || format!("cannot make a user namespace with the id map \"{}\"", maps.users());
        match started.control.event(None).map_err(|error| Error::io(what(), error))? {
            Event::Waiting(Wait::Maps) => {}
            _ => return Err(Error::new(ErrorKind::Changed, format!("{}: its process ended", what()))),
        }
        write(started.pid, maps, method)?;
        Self::of(started.pid, Kind::User)
    }
}

fn refused(error: std::io::Error) -> Error {
    let what = "cannot make a user namespace for id maps";
    match error.raw_os_error() {
        Some(number) => {
            let why = Refusal::explain(Attempt::Create(Kind::User.into()), number);
            Error::because(ErrorKind::of(number), what, why)
        }
        None => Error::io(what, error),
    }
}
