//! The caller's terminal and the container's, made one: what is typed here goes there, and what is written there shows here.
//!
//! Leaves out containers whose terminal somebody else holds. Oldest kernel: 5.10.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use keelbox::{Terminal, Tty};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use crate::failure::Failure;

/// How long the last words are waited for, where a process that outlives the program still holds the terminal.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// The two terminals as long as they are one.
#[derive(Debug)]
pub(crate) struct Relay {
    /// How the caller's terminal was before, if there is one.
    before: Option<Termios>,
    /// Hears when nothing more is to be shown.
    silence: Receiver<()>,
}

impl Relay {
    /// Begins to copy both ways. The caller's terminal hands on every key from now on, also those that mean something to it.
    pub(crate) fn begin(tty: &Tty) -> Result<Self, Failure> {
        resize(tty);
        let before = raw()?;
        let (mut input, mut output) = (tty.clone(), tty.clone());
        let (quiet, silence) = channel();
        // It stays in its read when the program has ended; with this program it goes.
        let typed = thread::Builder::new().name("typed".into()).spawn(move || {
            let _ended = copy(&mut io::stdin().lock(), &mut input);
        });
        let shown = thread::Builder::new().name("shown".into()).spawn(move || {
            let _ended = copy(&mut output, &mut io::stdout().lock());
            let _heard = quiet.send(());
        });
        let relay = Self { before, silence };
        typed.and(shown).map_err(|error| Failure::io("cannot start a thread for the terminal", &error))?;
        Ok(relay)
    }

    /// Shows the last of it.
    pub(crate) fn end(self) {
        let _silent = self.silence.recv_timeout(LAST_WORDS);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _restored = tcsetattr(io::stdin(), SetArg::TCSADRAIN, before);
        }
    }
}

/// Gives the container's terminal the size of the caller's, if that is one.
pub(crate) fn resize(tty: &Tty) {
    if let Ok(size) = Terminal::of(io::stdin()) {
        // The container may have ended meanwhile.
        let _resized = tty.resize(size.rows(), size.columns());
    }
}

/// The size for a new terminal.
pub(crate) fn size() -> Terminal {
    Terminal::of(io::stdin()).unwrap_or_else(|_| Terminal::size(24, 80))
}

fn raw() -> Result<Option<Termios>, Failure> {
    let Ok(before) = tcgetattr(io::stdin()) else { return Ok(None) };
    let mut raw = before.clone();
    cfmakeraw(&mut raw);
    let set = tcsetattr(io::stdin(), SetArg::TCSANOW, &raw);
    set.map_err(|errno| Failure::io("cannot set up the terminal", &errno.into()))?;
    Ok(Some(before))
}

/// Each piece as soon as it is there.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = [0; 8192];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => {
                to.write_all(&buffer[..length])?;
                to.flush()?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
