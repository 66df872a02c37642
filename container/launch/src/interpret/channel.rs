//! The stage's side of the control socket: reports to the host, and messages that bring further steps.

use core::mem;

use super::flags::{MSG_CMSG_CLOEXEC, MSG_DONTWAIT, MSG_NOSIGNAL, MSG_PEEK, O_CLOEXEC, PR_SET_PDEATHSIG};
use super::{Machine, Stop};
use crate::step::{Slot, Wait};
use crate::sys::message::{Ancillary, Message};
use crate::sys::{Call, Errno, Kernel};
use crate::wire::{Decode, Header, Reader, Report};

impl<'m, K: Kernel> Machine<'m, K> {
    /// Receives a script and performs it: what the stage does first.
    ///
    /// # Errors
    ///
    /// [`Stop`] at the first step that cannot be performed.
    pub fn serve(&mut self) -> Result<(), Stop> {
        let room = mem::take(&mut self.room);
        let mut ancillary = Ancillary::new();
        let mut message = Message::incoming(room, &mut ancillary);
        let length = self.kernel.perform(Call::recvmsg(self.control, &mut message, MSG_CMSG_CLOEXEC));
        let (used, truncated, cut) = (message.control_length(), message.truncated(), message.cut());
        let length = match length {
            // The host has ended, in the second case without reading what it was told.
            Ok(0) | Err(Errno::ECONNRESET) => return Err(Stop::HostGone),
            length => length.map_err(|errno| self.failed(errno))?,
        };
        let (bytes, rest) = room.split_at_mut_checked(length).ok_or(self.failed(Errno::EPROTO))?;
        self.room = rest;
        if truncated {
            return Err(self.failed(Errno::EMFILE));
        }
        if cut {
            return Err(self.failed(Errno::E2BIG));
        }
        let mut descriptors = ancillary.descriptors(used);
        let bytes = match parcel(bytes, &mut descriptors) {
            Some(file) => file.map_err(|errno| self.failed(errno))?,
            None => bytes,
        };
        let header = Header::decode(&mut Reader(bytes)).map_err(|_| self.failed(Errno::EPROTO))?;
        self.keep_clear(header.reserve).map_err(|errno| self.failed(errno))?;
        for (slot, descriptor) in (header.slots..).zip(descriptors) {
            self.receive(slot, descriptor).map_err(|errno| self.failed(errno))?;
        }
        self.run(bytes)
    }

    /// Tells the host something; a host that has gone is not an error here, the next wait finds out.
    pub fn report(&mut self, kind: u32, value: i32) {
        let _sent = self.send(kind, value, None);
    }

    /// Gives the host a descriptor. One that it cannot be given would leave the program waiting for nobody.
    pub(super) fn hand_over(&mut self, kind: u32, value: i32, descriptor: i32) -> Result<(), Errno> {
        self.send(kind, value, Some(descriptor))
    }

    fn send(&mut self, kind: u32, value: i32, descriptor: Option<i32>) -> Result<(), Errno> {
        let bytes = Report { kind, step: self.step, value }.bytes();
        let mut ancillary = Ancillary::new();
        let mut message = Message::outgoing(&bytes, descriptor.into_iter(), &mut ancillary);
        self.kernel.perform(Call::sendmsg(self.control, &mut message, MSG_NOSIGNAL)).map(|_| ())
    }

    pub(super) fn wait(&mut self, what: Wait, listener: Slot) -> Result<(), Stop> {
        self.report(Report::WAITING, what as i32);
        if what == Wait::Connection {
            self.connection(listener).map_err(|errno| self.failed(errno))?;
        }
        let step = self.step;
        self.serve()?;
        self.step = step;
        Ok(())
    }

    /// Takes a connection on the listening socket and goes on with it as its line to the host.
    fn connection(&mut self, listener: Slot) -> Result<(), Errno> {
        let listener = self.slot(listener)?;
        let connection = self.open(Call::accept4(listener, O_CLOEXEC))?;
        self.call(Call::dup3(connection, self.control, O_CLOEXEC))?;
        self.call(Call::close(connection))?;
        self.call(Call::close(listener)).map(|_| ())
    }

    pub(super) fn dies(&mut self, signal: u32) -> Result<(), Stop> {
        self.call(Call::prctl(PR_SET_PDEATHSIG, signal as usize, 0)).map_err(|errno| self.failed(errno))?;
        // The host may have ended before the signal was armed: then its end of the socket is closed.
        let (mut byte, mut ancillary) = ([0u8; 1], Ancillary::new());
        let mut message = Message::incoming(&mut byte, &mut ancillary);
        let answer = self.kernel.perform(Call::recvmsg(self.control, &mut message, MSG_PEEK | MSG_DONTWAIT));
        match answer {
            Ok(0) | Err(Errno::ECONNRESET) => Err(Stop::HostGone),
            Ok(_) | Err(Errno::EAGAIN) => Ok(()),
            Err(errno) => Err(self.failed(errno)),
        }
    }
}

/// The script in the file that came first, if the message only says how long it is.
fn parcel(bytes: &[u8], descriptors: &mut impl Iterator<Item = i32>) -> Option<Result<&'static [u8], Errno>> {
    let mut reader = Reader(bytes);
    if u32::decode(&mut reader) != Ok(Header::PARCEL) {
        return None;
    }
    let length = u32::decode(&mut reader).map_err(|_| Errno::EPROTO);
    let descriptor = descriptors.next().ok_or(Errno::EPROTO);
    Some(length.and_then(|length| crate::sys::memory::file(descriptor?, length as usize)))
}
