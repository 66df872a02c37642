//! Scripts too long for one message: sent as a sealed memory file that the stage maps. And such files for others.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::sys::message::{Ancillary, Message};
use crate::sys::process::owned;
use crate::sys::{Call, Kernel, Linux};
use crate::wire::{Encode, Header};

/// A file in memory with this content, which nobody can change any more; it is read from its beginning.
///
/// # Errors
///
/// The kernel's answer.
///
/// ```
/// use std::io::Read;
/// let mut text = String::new();
/// std::fs::File::from(keelbox_launch::sealed_file(c"example", b"content")?).read_to_string(&mut text)?;
/// assert_eq!(text, "content");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn sealed_file(name: &CStr, content: &[u8]) -> io::Result<OwnedFd> {
    const MFD_CLOEXEC_SEALING: u32 = 3;
    const MFD_NOEXEC_SEAL: u32 = 8;
    const F_ADD_SEALS: i32 = 1033;
    const F_SEAL_SEAL_SHRINK_GROW_WRITE: i32 = 15;
    let made = Linux
        .perform(Call::memfd_create(name, MFD_CLOEXEC_SEALING | MFD_NOEXEC_SEAL))
        .or_else(|_| Linux.perform(Call::memfd_create(name, MFD_CLOEXEC_SEALING)));
    let mut file = File::from(owned(made?)?);
    file.write_all(content)?;
    file.rewind()?;
    Linux.perform(Call::fcntl(file.as_raw_fd(), F_ADD_SEALS, F_SEAL_SEAL_SHRINK_GROW_WRITE))?;
    Ok(file.into())
}

/// Sends `script` as a file: the message holds its length, the file comes before the other descriptors, of which there must be
/// one less than a message carries.
pub(crate) fn send(socket: &OwnedFd, script: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let file = sealed_file(c"keelbox-script", script)?;
    let mut bytes = Vec::new();
    Header::PARCEL.encode(&mut bytes);
    (script.len() as u32).encode(&mut bytes);
    let mut ancillary = Ancillary::new();
    let numbers = std::iter::once(file.as_fd()).chain(descriptors.iter().copied()).map(|fd| fd.as_raw_fd());
    let mut message = Message::outgoing(&bytes, numbers, &mut ancillary);
    Ok(crate::channel::post(socket, &mut message)?)
}
