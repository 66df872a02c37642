//! Keeps the stage's own descriptors apart from those that the program will see, and closes what the host never meant to hand
//! over. Needs no `std`; Linux 5.9 (`close_range(2)`), or procfs where that call is filtered.

use super::flags::{AT_FDCWD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, FD_CLOEXEC, O_CLOEXEC, O_DIRECTORY, O_RDWR};
use super::{Machine, Stop};
use crate::sys::{Call, Errno, Kernel};

impl<K: Kernel> Machine<'_, K> {
    /// Closes every descriptor but the standard streams and the line to the host, and sees to it that the streams are open: what
    /// takes the place of a closed one later would be taken for it (as `execve(2)` of privileged programs guards against).
    ///
    /// Other threads of the host may have left anything open at the moment of the clone (CVE-2024-21626 shows what for).
    ///
    /// # Errors
    ///
    /// [`Stop::Failed`] if the kernel refuses both ways of closing.
    pub fn tidy(&mut self) -> Result<(), Stop> {
        self.close_strangers().and_then(|()| self.open_streams()).map_err(|errno| self.failed(errno))
    }

    fn close_strangers(&mut self) -> Result<(), Errno> {
        let control = self.control as u32;
        let below = if control > 3 { self.call(Call::close_range(3, control - 1, 0)) } else { Ok(0) };
        let closed = below.and_then(|_| self.call(Call::close_range(control + 1, u32::MAX, 0)));
        match closed {
            Err(Errno::ENOSYS | Errno::EPERM | Errno::EACCES) => self.close_listed()?,
            closed => drop(closed?),
        }
        self.call(Call::fcntl(self.control, F_SETFD, FD_CLOEXEC)).map(|_| ())
    }

    /// Closes what `/proc/self/fd` lists, until it lists nothing more to close.
    fn close_listed(&mut self) -> Result<(), Errno> {
        let flags = O_DIRECTORY | O_CLOEXEC;
        loop {
            let list = self.open(Call::openat(AT_FDCWD, c"/proc/self/fd", flags, 0))?;
            let closed = self.close_entries(list);
            self.call(Call::close(list))?;
            if closed? == 0 {
                return Ok(());
            }
        }
    }

    fn close_entries(&mut self, list: i32) -> Result<usize, Errno> {
        let mut closed = 0;
        loop {
            let mut entries = [0u8; 1024];
            let length = self.call(Call::getdents64(list, &mut entries))?;
            let mut rest = entries.get(..length).unwrap_or_default();
            if rest.is_empty() {
                return Ok(closed);
            }
            while let Some(number) = next_number(&mut rest) {
                if number.is_some_and(|number| number > 2 && number != self.control && number != list) {
                    self.call(Call::close(number.unwrap_or(-1)))?;
                    closed += 1;
                }
            }
        }
    }

    fn open_streams(&mut self) -> Result<(), Errno> {
        for number in 0..3 {
            if self.call(Call::fcntl(number, F_GETFD, 0)) == Err(Errno::EBADF) {
                // The lowest free number is this one.
                self.open(Call::openat(AT_FDCWD, c"/dev/null", O_RDWR, 0))?;
            }
        }
        Ok(())
    }

    /// Sees to it that nothing of the stage's own has a number below `reserve`, where `Step::Descriptor` would replace it.
    pub(super) fn keep_clear(&mut self, reserve: u32) -> Result<(), Errno> {
        if reserve <= self.reserve {
            return Ok(());
        }
        self.reserve = reserve;
        self.control = self.raise(self.control)?;
        self.own_root = self.raise(self.own_root)?;
        self.old_root = self.raise(self.old_root)?;
        for index in 0..self.slots.len() {
            let Some(descriptor) = self.slots.get(index).copied() else { continue };
            let raised = self.raise(descriptor)?;
            if self.root == descriptor {
                self.root = raised;
            }
            if let Some(place) = self.slots.get_mut(index) {
                *place = raised;
            }
        }
        Ok(())
    }

    /// Moves one of the stage's own descriptors out of the way of those that the program will see.
    pub(super) fn raise(&mut self, descriptor: i32) -> Result<i32, Errno> {
        if self.control < 0 || descriptor < 0 || descriptor as u32 >= self.reserve {
            return Ok(descriptor);
        }
        let raised = self.open(Call::fcntl(descriptor, F_DUPFD_CLOEXEC, self.reserve as i32))?;
        self.call(Call::close(descriptor))?;
        Ok(raised)
    }
}

/// Takes one `linux_dirent64` from the front of `entries`: 8 bytes each of inode and offset, 2 of length, 1 of type, the name.
/// Gives the number that the name is, if it is one.
fn next_number(entries: &mut &[u8]) -> Option<Option<i32>> {
    let length = usize::from(u16::from_ne_bytes([*entries.get(16)?, *entries.get(17)?]));
    let (entry, rest) = entries.split_at_checked(length.max(1))?;
    *entries = rest;
    let name = entry.get(19..)?.split(|byte| *byte == 0).next()?;
    let number = name.iter().try_fold(0i32, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| i32::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    });
    Some(number.filter(|_| !name.is_empty()))
}
