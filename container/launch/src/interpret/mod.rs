//! The interpreter of steps, which the stage is. Needs no `std`, allocates nothing, never panics.
//!
//! It runs on anything that performs system calls ([`Kernel`]), so tests run it on a kernel that fails where they want.
//! Oldest kernel: 5.10; newer calls fall back where the kernel answers `ENOSYS`.

mod channel;
mod copy;
mod cover;
mod credentials;
#[allow(dead_code, reason = "the library does not tidy up, the stage does")]
mod descriptors;
mod exec;
mod files;
mod flags;
mod mounts;
mod process;
pub mod resolve;
mod root;
mod terminal;
#[cfg(test)]
mod tests;

use core::ffi::CStr;

use crate::step::{Slot, Step, Wire};
use crate::sys::{Call, Errno, Kernel, MountAttr};
use crate::wire::{Decode, Header, Reader};

use cover::Covered;
pub use flags::AT_FDCWD;

/// Why the interpreter stopped before the end of its script.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stop {
    /// A step failed.
    Failed {
        /// Its number.
        step: u32,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The host has gone, or said nothing more.
    HostGone,
    /// Another process goes on with the script.
    Forked,
}

/// The state that steps share.
#[derive(Debug)]
pub struct Machine<'m, K> {
    kernel: K,
    /// The socket to the host; -1 in a program that performs steps itself.
    control: i32,
    /// Room for messages that bring further scripts.
    room: &'m mut [u8],
    slots: [i32; Slot::COUNT],
    /// Below this number are the descriptors that the program will see.
    reserve: u32,
    /// The new root; `AT_FDCWD` as long as there is none.
    root: i32,
    /// `/`, opened when an inside path is first asked for before there is a new root; -1 until then.
    own_root: i32,
    old_root: i32,
    step: u32,
    /// The file mode creation mask that the caller has.
    callers_umask: u32,
    /// Whether the mount namespace belongs to the script, so that it may cover `/` for a moment.
    private: bool,
    /// The slots of the masks (file, directory) that have been given a place themselves.
    spent: [u16; 2],
    /// One bit for each slot whose descriptor came from the host, which may lend it to others too.
    lent: [u64; Slot::COUNT.div_ceil(64)],
    /// Attributes that `mount_setattr(2)` could not set, by slot: set once the tree is attached (before Linux 5.12).
    late: [(u16, MountAttr); 24],
    /// What in the current directory is covered by a mask already (a file, a directory).
    covered: [Covered; 2],
    /// Whether the current directory is known to be the new root.
    at_root: bool,
    /// Whether the current directory is known to be that of a procfs, where only known names are links.
    on_procfs: bool,
    /// The file mode creation mask, if it is known.
    umask: Option<u32>,
}

impl<'m, K: Kernel> Machine<'m, K> {
    /// A machine that talks to its host over `control`, or performs steps in this very process if that is negative.
    pub fn new(kernel: K, control: i32, room: &'m mut [u8]) -> Self {
        let slots = [-1; Slot::COUNT];
        let (root, own_root, old_root) = (AT_FDCWD, -1, -1);
        let (reserve, step, private, late) = (3, 0, true, [(u16::MAX, MountAttr::default()); 24]);
        let (spent, lent) = ([u16::MAX; 2], [0; Slot::COUNT.div_ceil(64)]);
        let callers_umask = 0o022;
        let (covered, at_root, on_procfs, umask) = ([Covered::NONE; 2], false, false, None);
        Self {
            kernel,
            control,
            room,
            slots,
            reserve,
            root,
            own_root,
            old_root,
            step,
            callers_umask,
            private,
            spent,
            lent,
            late,
            covered,
            at_root,
            on_procfs,
            umask,
        }
    }

    /// Remembers the mask that was there before the machine, for [`Step::Umask`]. Now it is 0.
    #[allow(dead_code, reason = "only the stage has taken a mask away")]
    pub fn umask(mut self, mask: u32) -> Self {
        (self.callers_umask, self.umask) = (mask, Some(0));
        self
    }

    /// Sets the file mode creation mask.
    fn file_mask(&mut self, mask: u32) -> Result<(), Errno> {
        // In a program of many threads another one may have changed it since.
        if self.umask != Some(mask) || self.control < 0 {
            self.call(Call::umask(mask))?;
            self.umask = Some(mask);
        }
        Ok(())
    }

    /// Whatever was known of the current directory is not so of another one.
    fn forget_directory(&mut self) {
        (self.covered, self.at_root, self.on_procfs) = ([Covered::NONE; 2], false, false);
    }

    /// Changes to the directory that `descriptor` is open on.
    fn go(&mut self, descriptor: i32) -> Result<(), Errno> {
        self.forget_directory();
        self.call(Call::fchdir(descriptor)).map(|_| ())
    }

    /// Leaves every place of the mount namespace as it is, which others use too.
    pub fn shared(mut self) -> Self {
        self.private = false;
        self
    }

    /// Performs the steps of `script`, header first.
    ///
    /// # Errors
    ///
    /// [`Stop`] at the first step that cannot be performed.
    pub fn run(&mut self, script: &[u8]) -> Result<(), Stop> {
        let mut reader = Reader(script);
        let header = Header::decode(&mut reader).map_err(|_| self.failed(Errno::EPROTO))?;
        for index in 0..header.count {
            self.step = header.first.wrapping_add(index);
            let step = Step::<Wire<'_>>::decode(&mut reader).map_err(|_| self.failed(Errno::EPROTO))?;
            self.perform(&step)?;
        }
        Ok(())
    }

    fn failed(&self, errno: Errno) -> Stop {
        Stop::Failed { step: self.step, errno }
    }

    fn perform(&mut self, step: &Step<Wire<'_>>) -> Result<(), Stop> {
        match step {
            Step::Wait { what, listener } => self.wait(*what, *listener),
            Step::Fork { flags, cgroup } => self.fork(*flags, *cgroup),
            Step::Dies { signal } => self.dies(*signal),
            other => {
                let done = self.process(other).or_else(|| self.mounting(other)).or_else(|| self.credential(other));
                done.unwrap_or(Err(Errno::ENOSYS)).map_err(|errno| self.failed(errno))
            }
        }
    }

    fn call(&mut self, call: Call<'_>) -> Result<usize, Errno> {
        self.kernel.perform(call)
    }

    /// Performs a call that gives a descriptor.
    fn open(&mut self, call: Call<'_>) -> Result<i32, Errno> {
        self.kernel.perform(call).map(|descriptor| descriptor as i32)
    }

    /// The descriptor in `slot`; `AT_FDCWD` for no slot.
    fn slot(&self, slot: Slot) -> Result<i32, Errno> {
        if slot == Slot::NONE {
            return Ok(AT_FDCWD);
        }
        self.slots.get(usize::from(slot.0)).copied().filter(|descriptor| *descriptor >= 0).ok_or(Errno::EBADF)
    }

    /// Puts a descriptor into its slot, in the place of what was there before.
    fn keep(&mut self, slot: Slot, descriptor: i32) -> Result<(), Errno> {
        if let Some(word) = self.lent.get_mut(usize::from(slot.0 / 64)) {
            *word &= !(1 << (slot.0 % 64));
        }
        self.spent.iter_mut().filter(|spent| **spent == slot.0).for_each(|spent| *spent = u16::MAX);
        let descriptor = self.raise(descriptor)?;
        let Some(place) = self.slots.get_mut(usize::from(slot.0)) else {
            self.done(descriptor);
            return Err(Errno::EBADF);
        };
        let replaced = core::mem::replace(place, descriptor);
        if replaced != self.root {
            self.done(replaced);
        }
        Ok(())
    }

    /// Closes a descriptor that is no longer needed. The stage leaves that to the execution of the program.
    fn done(&mut self, descriptor: i32) {
        if self.control < 0 && descriptor >= 0 {
            let _closed = self.call(Call::close(descriptor));
        }
    }

    /// Closes what is in `slot` at once, also in the stage.
    fn give_up(&mut self, slot: Slot) -> Result<(), Errno> {
        self.take(slot).map_or(Ok(()), |descriptor| self.call(Call::close(descriptor)).map(|_| ()))
    }

    /// Writes `data` to the file at `path` in one call.
    fn write_file(&mut self, directory: i32, path: &CStr, data: &[u8]) -> Result<(), Errno> {
        let descriptor =
            self.open(Call::openat(directory, path, flags::O_WRONLY | flags::O_NOFOLLOW | flags::O_CLOEXEC, 0))?;
        let written = self.call(Call::write(descriptor, data));
        self.done(descriptor);
        if written? == data.len() { Ok(()) } else { Err(Errno::EIO) }
    }

    /// Puts a descriptor that came with a message into its slot.
    pub fn receive(&mut self, slot: u32, descriptor: i32) -> Result<(), Errno> {
        let slot = u16::try_from(slot).map_err(|_| Errno::EBADF)?;
        self.keep(Slot(slot), descriptor)?;
        if let Some(word) = self.lent.get_mut(usize::from(slot / 64)) {
            *word |= 1 << (slot % 64);
        }
        Ok(())
    }

    /// Whether the descriptor in `slot` came from the host.
    fn is_lent(&self, slot: Slot) -> bool {
        self.lent.get(usize::from(slot.0 / 64)).is_some_and(|word| word >> (slot.0 % 64) & 1 == 1)
    }

    /// Takes the descriptor out of `slot`: it is the caller's from now on.
    pub fn take(&mut self, slot: Slot) -> Option<i32> {
        let place = self.slots.get_mut(usize::from(slot.0)).filter(|descriptor| **descriptor >= 0)?;
        Some(core::mem::replace(place, -1))
    }

    /// Closes every descriptor that the steps left in slots.
    pub fn close_all(&mut self) {
        for index in 0..self.slots.len() {
            let descriptor = self.slots.get_mut(index).map_or(-1, |place| core::mem::replace(place, -1));
            self.done(descriptor);
        }
        let left = [self.own_root, self.old_root];
        left.into_iter().for_each(|descriptor| self.done(descriptor));
        (self.own_root, self.old_root) = (-1, -1);
    }
}
