//! The size of a terminal.

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
