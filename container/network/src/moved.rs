//! Network devices of the host that move into a container (`linux.netDevices`).
//!
//! They move when the container has its network namespace and before anything else is done there, and come back if the start fails.
//! Afterwards they are the container's: what becomes of them with it is the kernel's business (network_namespaces(7)). Leaves out routes,
//! which the kernel forgets with the move. Oldest kernel: 5.10.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;

use crate::error::{Error, ErrorKind, Result};
use crate::netlink::namespace_of;
use crate::netlink::route::{Held, Route};

/// A device that is to move.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Device {
    /// Its name on the host.
    pub name: String,
    /// Its name inside, where the kernel finds a number for `%d`.
    pub inside: String,
}

/// Two network namespaces, and the devices that were moved from one to the other: they go back unless they are [kept](Self::keep).
#[derive(Debug, Default)]
pub struct Moved {
    ends: Option<Ends>,
    devices: Vec<Stay>,
}

#[derive(Debug)]
struct Ends {
    home: (File, Route),
    away: (File, Route),
}

/// A device in the container, and what it was before.
#[derive(Debug)]
struct Stay {
    name: String,
    was_up: bool,
    addresses: Vec<Held>,
    /// Its number there.
    index: u32,
}

impl Moved {
    /// Moves devices from the calling thread's network namespace into that of the process `pid`. Needs `CAP_NET_ADMIN` in both.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] without such a device, [`ErrorKind::Taken`] if there is one of its new name already,
    /// [`ErrorKind::Invalid`] if the process has the caller's network, the kernel's answer. Nothing has moved then.
    pub fn into(pid: u32, devices: &[Device]) -> Result<Self> {
        let mut moved = Self { ends: Some(Ends::of(pid)?), devices: Vec::new() };
        for device in devices {
            moved.one(device)?;
        }
        Ok(moved)
    }

    /// They stay where they are.
    pub fn keep(mut self) {
        self.devices.clear();
    }

    fn one(&mut self, device: &Device) -> Result<()> {
        let attempt = format!("cannot move the network device {} into the container", device.name);
        let cannot = |errno: Errno| Error::os(attempt.clone(), errno);
        let Some(ends) = &mut self.ends else { return Ok(()) };
        let (home, away) = (&mut ends.home, &mut ends.away);
        let link = home.1.link(&device.name).map_err(cannot)?;
        let link =
            link.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("{attempt}: there is none of this name")))?;
        if !device.inside.contains("%d") && away.1.link(&device.inside).map_err(cannot)?.is_some() {
            let why = format!("{attempt}: it has a network device {} already", device.inside);
            return Err(Error::new(ErrorKind::Taken, why));
        }
        let addresses = home.1.held(link.index).map_err(cannot)?;
        let passing = passing_name();
        home.1.switch(link.index, false).map_err(cannot)?;
        if let Err(errno) = home.1.give(link.index, away.0.as_fd(), &passing) {
            let _again = home.1.switch(link.index, link.up);
            return Err(cannot(errno));
        }
        let arrived = away.1.link(&passing).map_err(cannot)?.ok_or_else(|| cannot(Errno::ENODEV))?;
        let index = arrived.index;
        self.devices.push(Stay { name: device.name.clone(), was_up: link.up, addresses: addresses.clone(), index });
        away.1.rename(index, &device.inside).map_err(cannot)?;
        settle(&mut away.1, index, &addresses, true).map_err(cannot)
    }
}

impl Ends {
    fn of(pid: u32) -> Result<Self> {
        let attempt = "cannot move network devices into the container";
        let home = File::open("/proc/thread-self/ns/net").map_err(|error| Error::os(attempt, error))?;
        let away = namespace_of(pid).map_err(|error| Error::os(attempt, error))?;
        let number = |file: &File| file.metadata().map(|metadata| metadata.ino()).ok();
        if number(&home) == number(&away) {
            return Err(Error::new(ErrorKind::Invalid, format!("{attempt}: it has the network of the host")));
        }
        let outside = Route::here().map_err(|errno| Error::os(attempt, errno))?;
        let inside = Route::inside(away.as_fd()).map_err(|errno| Error::os(attempt, errno))?;
        Ok(Self { home: (home, outside), away: (away, inside) })
    }
}

impl Drop for Moved {
    /// What failed is told by somebody else; here the host gets back what it had.
    fn drop(&mut self) {
        let Some(Ends { home, away }) = &mut self.ends else { return };
        for Stay { name, was_up, addresses, index } in self.devices.drain(..).rev() {
            let passing = passing_name();
            let _stopped = away.1.switch(index, false);
            let returned = away.1.give(index, home.0.as_fd(), &passing).and_then(|()| home.1.link(&passing));
            if let Ok(Some(link)) = returned {
                let _named = home.1.rename(link.index, &name);
                let _settled = settle(&mut home.1, link.index, &addresses, was_up);
            }
        }
    }
}

/// Gives a device the addresses that it had, and starts it.
fn settle(socket: &mut Route, index: u32, addresses: &[Held], up: bool) -> Result<(), Errno> {
    addresses.iter().try_for_each(|address| socket.hold(index, address))?;
    if up { socket.switch(index, true) } else { Ok(()) }
}

/// A name of at most 15 letters that no device has, for the way: the number of a device may be another one after it.
fn passing_name() -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    format!("kb{:x}-{:x}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed) & 0xffff)
}
