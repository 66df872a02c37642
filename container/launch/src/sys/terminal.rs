//! The size of a terminal, set and asked, and its name.

use std::os::fd::{AsRawFd, BorrowedFd};

use super::raw::{Call, Errno, Kernel, Linux};

/// Sets the window size of a terminal (`TIOCSWINSZ`, `ioctl_tty(2)`).
///
/// # Errors
///
/// `ENOTTY` if it is none.
pub fn resize(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> Result<(), Errno> {
    const TIOCSWINSZ: u32 = 0x5414;
    let mut window = [u64::from(rows) | u64::from(columns) << 16, 0, 0, 0, 0, 0, 0, 0];
    Linux.perform(Call::ioctl_buffer(terminal.as_raw_fd(), TIOCSWINSZ, &mut window)).map(|_| ())
}

/// The number of the terminal behind its master: the other side is `/dev/pts/NUMBER` in its own devpts (`TIOCGPTN`).
///
/// # Errors
///
/// `ENOTTY` if it is no master.
pub fn number(master: BorrowedFd<'_>) -> Result<u32, Errno> {
    const TIOCGPTN: u32 = 0x8004_5430;
    let mut answer = [0u64; 8];
    Linux.perform(Call::ioctl_buffer(master.as_raw_fd(), TIOCGPTN, &mut answer))?;
    let [a, b, c, d, ..] = answer[0].to_ne_bytes();
    Ok(u32::from_ne_bytes([a, b, c, d]))
}

/// The window size of a terminal as rows and columns (`TIOCGWINSZ`).
///
/// # Errors
///
/// `ENOTTY` if it is none.
pub fn size(terminal: BorrowedFd<'_>) -> Result<(u16, u16), Errno> {
    const TIOCGWINSZ: u32 = 0x5413;
    let mut answer = [0u64; 8];
    Linux.perform(Call::ioctl_buffer(terminal.as_raw_fd(), TIOCGWINSZ, &mut answer))?;
    Ok((answer[0] as u16, (answer[0] >> 16) as u16))
}
