//! Setters about streams, terminal, and what becomes of the container.

use std::path::PathBuf;

use super::Container;
use crate::stdio::{Stdio, stream_setters};
use crate::terminal::Terminal;

impl Container {
    stream_setters!(container => container.spec.stdio, "inherited; for [`output`](Self::output), `/dev/null` and captured.");

    /// Gives the program a terminal of this size, which is also its standard streams. Default: none.
    pub fn terminal(mut self, terminal: Terminal) -> Self {
        self.spec.terminal = Some(terminal);
        self
    }

    /// Gives the host's side of the [`terminal`](Self::terminal) to another program, which listens on this `AF_UNIX` stream socket:
    /// one message with the name of the other side, `/dev/pts/0`, and the descriptor (`SCM_RIGHTS`, unix(7)). Default: the handle
    /// has it.
    pub fn console_socket(mut self, socket: impl Into<PathBuf>) -> Self {
        self.spec.console_socket = Some(socket.into());
        self
    }

    /// Gives a pidfd of the container's first process to another program, which listens on this `AF_UNIX` stream socket: one message
    /// with the process id in decimal, and the descriptor (`SCM_RIGHTS`, unix(7)). Default: nobody gets one.
    pub fn pidfd_socket(mut self, socket: impl Into<PathBuf>) -> Self {
        self.spec.pidfd_socket = Some(socket.into());
        self
    }

    /// A descriptor that the program gets, after those given before: the first is number 3. Default: none but 0, 1 and 2.
    ///
    /// For socket activation, `env("LISTEN_PID", "")` becomes the process id that the program has (sd_listen_fds(3)).
    pub fn descriptor(mut self, descriptor: impl Into<Stdio>) -> Self {
        self.spec.descriptors.push(descriptor.into());
        self
    }

    /// Lets the container go on when its handle is dropped or this program ends. Default: it ends with either.
    pub fn detached(mut self) -> Self {
        self.spec.detached = true;
        self
    }

    /// Keeps what the program changes, for [`Output::changes`](crate::Output::changes). Default: gone with the container.
    ///
    /// The writable layer is then a directory of the image store instead of memory.
    pub fn keep_changes(mut self) -> Self {
        self.spec.keep_changes = true;
        self
    }
}
