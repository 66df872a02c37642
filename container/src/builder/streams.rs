//! Setters about streams, terminal, and what becomes of the container.

use super::Container;
use crate::stdio::Stdio;
use crate::terminal::Terminal;

impl Container {
    /// Standard input. Default: inherited; `/dev/null` for [`output`](Self::output). Bytes and strings can be given too.
    pub fn stdin(mut self, stream: impl Into<Stdio>) -> Self {
        self.spec.stdio[0] = Some(stream.into());
        self
    }

    /// Standard output. Default: inherited; captured by [`output`](Self::output).
    pub fn stdout(mut self, stream: impl Into<Stdio>) -> Self {
        self.spec.stdio[1] = Some(stream.into());
        self
    }

    /// Standard error. Default: inherited; captured by [`output`](Self::output).
    pub fn stderr(mut self, stream: impl Into<Stdio>) -> Self {
        self.spec.stdio[2] = Some(stream.into());
        self
    }

    /// Gives the program a terminal of this size, which is also its standard streams. Default: none.
    pub fn terminal(mut self, terminal: Terminal) -> Self {
        self.spec.terminal = Some(terminal);
        self
    }

    /// A descriptor that the program gets, after those given before: the first is number 3. Default: none but 0, 1 and 2.
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
