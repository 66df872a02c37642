//! Scripts too long for one message: sent as a sealed memory file that the stage maps.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::sys::message::{Ancillary, Message};
use crate::sys::process::owned;
use crate::sys::{Call, Kernel, Linux};
use crate::wire::{Encode, Header};

/// Sends `script` as a file: the message holds its length, the file comes before the other descriptors, of which there must be
/// one less than a message carries.
pub(crate) fn send(socket: &OwnedFd, script: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    const MFD_CLOEXEC_SEALING: u32 = 3;
    const MFD_NOEXEC_SEAL: u32 = 8;
    const F_ADD_SEALS: i32 = 1033;
    const F_SEAL_SEAL_SHRINK_GROW_WRITE: i32 = 15;
    let made = Linux
        .perform(Call::memfd_create(c"keelbox-script", MFD_CLOEXEC_SEALING | MFD_NOEXEC_SEAL))
        .or_else(|_| Linux.perform(Call::memfd_create(c"keelbox-script", MFD_CLOEXEC_SEALING)));
    let mut file = File::from(owned(made?)?);
    file.write_all(script)?;
    Linux.perform(Call::fcntl(file.as_raw_fd(), F_ADD_SEALS, F_SEAL_SEAL_SHRINK_GROW_WRITE))?;
    let mut bytes = Vec::new();
    Header::PARCEL.encode(&mut bytes);
    (script.len() as u32).encode(&mut bytes);
    let mut ancillary = Ancillary::new();
    let numbers = std::iter::once(file.as_fd()).chain(descriptors.iter().copied()).map(|fd| fd.as_raw_fd());
    let mut message = Message::outgoing(&bytes, numbers, &mut ancillary);
    Ok(crate::channel::post(socket, &mut message)?)
}
