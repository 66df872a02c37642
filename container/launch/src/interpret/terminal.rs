//! The pseudo-terminal of the container, made in its own devpts.

use super::Machine;
use super::flags::{AT_EMPTY_PATH, O_CLOEXEC, O_NOCTTY, O_RDWR, OPEN_TREE_CLOEXEC, OPEN_TREE_CLONE};
use crate::step::{Create, Slot};
use crate::sys::{Call, Errno, Kernel};
use crate::wire::Report;

impl<K: Kernel> Machine<'_, K> {
    /// Opens a terminal, sends its master to the host, and makes the other side the terminal and streams 0, 1, 2.
    ///
    /// The other side is opened through its master (`TIOCGPTPEER`), not by a path that an image could have prepared
    /// (CVE-2025-52565).
    pub(super) fn terminal(&mut self, console: bool, size: (u32, u32), user: u32) -> Result<(), Errno> {
        const TIOCSPTLCK: u32 = 0x4004_5431;
        const TIOCGPTPEER: u32 = 0x5441;
        const TIOCSWINSZ: u32 = 0x5414;
        const TIOCSCTTY: u32 = 0x540e;
        let flags = O_RDWR | O_NOCTTY;
        let master = self.inside(c"/dev/pts/ptmx", flags)?;
        self.call(Call::ioctl_buffer(master, TIOCSPTLCK, &mut [0; 8]))?;
        let peer = self.open(Call::ioctl(master, TIOCGPTPEER, (flags | O_CLOEXEC) as usize))?;
        let mut window = [u64::from(size.0 & 0xffff) | u64::from(size.1 & 0xffff) << 16, 0, 0, 0, 0, 0, 0, 0];
        self.call(Call::ioctl_buffer(peer, TIOCSWINSZ, &mut window))?;
        if user != 0 {
            self.call(Call::fchown(peer, user, u32::MAX))?;
        }
        self.hand_over(Report::DESCRIPTOR, 0, master)?;
        self.call(Call::ioctl(peer, TIOCSCTTY, 0))?;
        if console {
            let tree = self.open(Call::open_tree(peer, c"", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH))?;
            self.keep(Slot(Slot::COUNT as u16 - 1), tree)?;
            self.attach(Slot(Slot::COUNT as u16 - 1), c"/dev/console", Create::File)?;
        }
        for number in 0..3 {
            self.call(Call::dup3(peer, number, 0))?;
        }
        Ok(())
    }
}
