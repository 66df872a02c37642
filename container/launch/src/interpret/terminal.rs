//! The pseudo-terminal of the container, made in its own devpts.

use super::Machine;
use super::flags::{
    AT_EMPTY_PATH, O_CLOEXEC, O_DIRECTORY, O_NOCTTY, O_NOFOLLOW, O_PATH, O_RDWR, OPEN_TREE_CLOEXEC, OPEN_TREE_CLONE,
};
use crate::step::Create;
use crate::sys::{Call, Errno, Kernel};
use crate::wire::Report;

impl<K: Kernel> Machine<'_, K> {
    /// Opens a terminal, sends its master to the host, and makes the other side the terminal and streams 0, 1, 2.
    ///
    /// The other side is opened through its master (`TIOCGPTPEER`), not by a path that an image could have prepared
    /// (CVE-2025-52565), and the master only in a devpts: another device that an image has there must not even be opened.
    pub(super) fn terminal(&mut self, console: bool, size: (u32, u32), user: u32) -> Result<(), Errno> {
        const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;
        const TIOCSPTLCK: u32 = 0x4004_5431;
        const TIOCGPTPEER: u32 = 0x5441;
        const TIOCSWINSZ: u32 = 0x5414;
        const TIOCSCTTY: u32 = 0x540e;
        let flags = O_RDWR | O_NOCTTY;
        let pts = self.inside(c"/dev/pts", O_PATH | O_DIRECTORY)?;
        let mut buffer = [0u64; 15];
        self.call(Call::fstatfs(pts, &mut buffer))?;
        if buffer[0] != DEVPTS_SUPER_MAGIC {
            return Err(Errno::ENODEV);
        }
        let master = self.open(Call::openat(pts, c"ptmx", flags | O_NOFOLLOW | O_CLOEXEC, 0))?;
        self.done(pts);
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
            // A link there is covered like anything else, and not followed to what else it may name.
            let place = self.target(c"/dev/console", O_PATH | O_NOFOLLOW, Create::File)?;
            self.move_to(tree, place)?;
            self.done(place);
            self.done(tree);
        }
        for number in 0..3 {
            self.call(Call::dup3(peer, number, 0))?;
        }
        Ok(())
    }
}
