//! A pseudo-terminal for the program: its size, and the side that the host reads, writes and resizes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use keelbox_launch::sys;

/// The size of a terminal.
///
/// ```no_run
/// # let image = keelbox::Image::open("oci:./debian:12")?;
/// use std::io::Write;
/// use keelbox::{Container, Terminal};
/// let mut shell = Container::from_image(&image).args(["bash"]).terminal(Terminal::size(24, 80)).spawn()?;
/// let mut tty = shell.terminal().unwrap();
/// tty.write_all(b"stty size; exit\n")?;
/// tty.resize(40, 120)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Terminal {
    pub(crate) rows: u16,
    pub(crate) columns: u16,
}

impl Terminal {
    /// A terminal with this many rows and columns.
    #[must_use]
    pub fn size(rows: u16, columns: u16) -> Self {
        Self { rows, columns }
    }

    /// The size of a terminal that there is, such as the caller's own.
    ///
    /// # Errors
    ///
    /// `ENOTTY` if the descriptor is none of a terminal.
    pub fn of(terminal: impl AsFd) -> io::Result<Self> {
        let (rows, columns) = sys::terminal::size(terminal.as_fd())?;
        Ok(Self { rows, columns })
    }

    /// How many rows it has.
    #[must_use]
    pub fn rows(self) -> u16 {
        self.rows
    }

    /// How many columns it has.
    #[must_use]
    pub fn columns(self) -> u16 {
        self.columns
    }
}

/// The host's side of a container's terminal.
#[derive(Clone, Debug)]
pub struct Tty(Arc<File>);

impl Tty {
    pub(crate) fn new(master: OwnedFd) -> Self {
        Self(Arc::new(master.into()))
    }

    /// Tells the program that the terminal has this many rows and columns (`TIOCSWINSZ`); it gets `SIGWINCH`.
    ///
    /// # Errors
    ///
    /// `EIO` once the container has ended.
    pub fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        Ok(sys::terminal::resize(self.0.as_fd(), rows, columns)?)
    }
}

impl Read for Tty {
    /// Reads what the program has written; 0 once nothing has the other side open any more.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        const EIO: i32 = 5;
        match (&*self.0).read(buffer) {
            // The kernel's way to say that the other side is closed (pty(7)).
            Err(error) if error.raw_os_error() == Some(EIO) => Ok(0),
            read => read,
        }
    }
}

impl Write for Tty {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        (&*self.0).write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Tty {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
