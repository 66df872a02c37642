//! The host's side of the control socket.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::launch::{Event, Failure};
use crate::step::Wait;
use crate::sys::message::{Ancillary, MOST, Message};
use crate::sys::process::owned;
use crate::sys::{Call, Errno, Kernel, Linux};
use crate::wire::{Decode, Reader, Report};

/// The longest script that is sent as it is: several fit into the room that the stage has for them.
const LONGEST: usize = 64 * 1024;

const MSG_NOSIGNAL: i32 = 0x4000;
const MSG_CMSG_CLOEXEC: i32 = 0x4000_0000;

/// Two ends of a line that keeps messages whole.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    const AF_UNIX: i32 = 1;
    const SOCK_SEQPACKET_CLOEXEC: i32 = 5 | 0o2_000_000;
    let mut ends = [-1i32; 2];
    Linux.perform(Call::socketpair(AF_UNIX, SOCK_SEQPACKET_CLOEXEC, &mut ends))?;
    Ok((above_streams(owned(ends[0] as usize)?)?, above_streams(owned(ends[1] as usize)?)?))
}

/// The same descriptor with a number above 2, in a program that has closed one of its standard streams: the stage has its own
/// there, and the program that it executes too.
pub(crate) fn above_streams(descriptor: OwnedFd) -> io::Result<OwnedFd> {
    if descriptor.as_raw_fd() > 2 { Ok(descriptor) } else { descriptor.try_clone() }
}

/// Sends a script and its descriptors. The kernel keeps them until the stage takes them.
pub(crate) fn send(socket: &OwnedFd, script: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    // The kernel would refuse more, and a script in a file takes the place of one.
    if descriptors.len() > MOST || (script.len() > LONGEST && descriptors.len() == MOST) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "more descriptors than one message carries"));
    }
    if script.len() > LONGEST {
        return crate::parcel::send(socket, script, descriptors);
    }
    let mut ancillary = Ancillary::new();
    let numbers = descriptors.iter().map(AsRawFd::as_raw_fd);
    let mut message = Message::outgoing(script, numbers, &mut ancillary);
    match post(socket, &mut message) {
        // Longer than the socket's buffer takes in one piece (net.core.wmem_default): it goes as a file.
        Err(Errno(libc::EMSGSIZE)) if descriptors.len() < MOST => crate::parcel::send(socket, script, descriptors),
        answer => Ok(answer?),
    }
}

/// Sends a message whole; a signal in between does not matter.
pub(crate) fn post(socket: &OwnedFd, message: &mut Message<'_>) -> Result<(), Errno> {
    loop {
        match Linux.perform(Call::sendmsg(socket.as_raw_fd(), message, MSG_NOSIGNAL)) {
            Err(Errno::EINTR) => {}
            answer => return answer.map(|_| ()),
        }
    }
}

/// Receives one report, with the number of the step that it is about. What was born dead is reaped on the way.
pub(crate) fn receive(socket: &OwnedFd, patience: Option<Duration>) -> io::Result<(u32, Event)> {
    loop {
        if let Some(report) = receive_any(socket, patience)? {
            return Ok(report);
        }
    }
}

fn receive_any(socket: &OwnedFd, patience: Option<Duration>) -> io::Result<Option<(u32, Event)>> {
    if let Some(patience) = patience {
        await_readable(socket, patience)?;
    }
    let (mut bytes, mut ancillary) = ([0u8; Report::LENGTH], Ancillary::new());
    let mut message = Message::incoming(&mut bytes, &mut ancillary);
    let length = loop {
        match Linux.perform(Call::recvmsg(socket.as_raw_fd(), &mut message, MSG_CMSG_CLOEXEC)) {
            Err(Errno::EINTR) => {}
            // The stage was killed with a message of ours unread.
            Err(Errno(libc::ECONNRESET)) => break 0,
            answer => break answer?,
        }
    };
    let used = message.control_length();
    let mut descriptors = ancillary.descriptors(used).map(|number| owned(number as usize));
    if length == 0 {
        return Ok(Some((u32::MAX, Event::Running)));
    }
    let malformed = || io::Error::from(Errno::EPROTO);
    let report = Report::decode(&mut Reader(&bytes[..length])).map_err(|_| malformed())?;
    let mut descriptor = || descriptors.next().ok_or_else(malformed)?.map_err(io::Error::from);
    let event = match report.kind {
        Report::FAILED => Event::Failed(Failure { step: report.step, errno: Errno(report.value) }),
        Report::WAITING => Event::Waiting(awaited(report.value).ok_or_else(malformed)?),
        Report::DESCRIPTOR => Event::Descriptor { step: report.step, descriptor: descriptor()? },
        Report::FORKED => Event::Forked { pidfd: descriptor()?, pid: report.value as u32 },
        Report::TOLD => Event::Told(report.value as u32),
        Report::STILLBORN => {
            crate::sys::wait(&descriptor()?)?;
            return Ok(None);
        }
        _ => return Err(malformed()),
    };
    Ok(Some((report.step, event)))
}

fn awaited(value: i32) -> Option<Wait> {
    [Wait::Maps, Wait::Parent, Wait::Start, Wait::Connection, Wait::Hooks, Wait::Devices]
        .into_iter()
        .find(|wait| *wait as i32 == value)
}

pub(crate) fn await_readable(socket: &OwnedFd, patience: Duration) -> io::Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let time = [left.as_secs() as i64, i64::from(left.subsec_nanos())];
        // `pollfd`: the descriptor, POLLIN in the low half, the kernel's answer in the high half.
        let mut poll = [socket.as_raw_fd(), 1];
        match Linux.perform(Call::ppoll(&mut poll, &time)) {
            Ok(0) => return Err(Errno::ETIMEDOUT.into()),
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
