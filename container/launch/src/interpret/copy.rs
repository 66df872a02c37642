//! Copies the content of a directory into a file system that was just mounted over it.
//!
//! Left out on purpose: hard links (each name gets a file of its own), attributes of links, and directories more than 64 deep.
//! Allocates nothing: what is copied passes through buffers on the stack. Oldest kernel: any.

use core::ffi::CStr;

use super::flags::{
    AT_EMPTY_PATH, O_CLOEXEC, O_CREAT, O_DIRECTORY, O_EXCL, O_NOCTTY, O_NOFOLLOW, O_NONBLOCK, O_PATH, O_WRONLY,
    S_IFDIR, S_IFLNK, S_IFMT, S_IFREG,
};
use super::{AT_FDCWD, Machine};
use crate::step::Create;
use crate::sys::{Call, Errno, Kernel};

type Done = Result<(), Errno>;

const AT_SYMLINK_NOFOLLOW: i32 = 0x100;
/// How many directories lie in one another at most. Two descriptors are open and a kilobyte of stack is used for each.
const DEEPEST: u32 = 64;
/// The bits of `Step::CopyUp::also`.
const MODE: u32 = 1;
const OWNER: u32 = 2;

/// What `statx(2)` tells of a file.
struct Facts([u64; 32]);

impl Facts {
    fn kind(&self) -> u32 {
        self.mode() & S_IFMT
    }

    /// The 16 bits at offset 28.
    fn mode(&self) -> u32 {
        (self.0[3] >> 32) as u32 & 0xffff
    }

    fn user(&self) -> u32 {
        (self.0[2] >> 32) as u32
    }

    fn group(&self) -> u32 {
        self.0[3] as u32
    }

    /// As `mknodat(2)` wants it; `statx` has two 32-bit words at offset 128.
    fn device(&self) -> u64 {
        let (major, minor) = (self.0[16] & 0xffff_ffff, self.0[16] >> 32);
        (minor & 0xff) | (major & 0xfff) << 8 | (minor & !0xff) << 12
    }

    /// Access and change, as seconds and nanoseconds each.
    fn times(&self) -> [u64; 4] {
        [self.0[8], self.0[9] & 0xffff_ffff, self.0[14], self.0[15] & 0xffff_ffff]
    }
}

impl<K: Kernel> Machine<'_, K> {
    /// Copies what is in the current directory to the inside directory `target`, which has been mounted over it.
    pub(super) fn copy_up(&mut self, target: &CStr, also: u32) -> Done {
        let flags = O_DIRECTORY | O_CLOEXEC;
        let from = self.open(Call::openat(AT_FDCWD, c".", flags, 0))?;
        let copied = self.target(target, O_PATH | O_DIRECTORY, Create::Nothing).and_then(|place| {
            // The topmost mount there: a name is looked up in it, and so is ".".
            let to = self.open(Call::openat(place, c".", flags, 0));
            self.close(place)?;
            let to = to?;
            let copied = self.copy_directory(from, to, 0).and_then(|()| self.copy_attributes(from, to, also));
            self.close(to)?;
            copied
        });
        self.close(from)?;
        copied
    }

    fn facts(&mut self, directory: i32, name: &CStr, flags: i32) -> Result<Facts, Errno> {
        const STATX_BASIC_STATS: u32 = 0x7ff;
        let mut facts = Facts([0; 32]);
        self.call(Call::statx(directory, name, flags, STATX_BASIC_STATS, &mut facts.0))?;
        Ok(facts)
    }

    fn close(&mut self, descriptor: i32) -> Done {
        self.call(Call::close(descriptor)).map(|_| ())
    }

    fn copy_directory(&mut self, from: i32, to: i32, depth: u32) -> Done {
        if depth == DEEPEST {
            return Err(Errno::ENAMETOOLONG);
        }
        // No entry is larger than 280 bytes.
        let mut entries = [0u8; 512];
        loop {
            let length = self.call(Call::getdents64(from, &mut entries))?;
            let mut rest = entries.get(..length).unwrap_or_default();
            if rest.is_empty() {
                return Ok(());
            }
            while let Some(name) = next_name(&mut rest) {
                if !matches!(name.to_bytes(), b"." | b"..") {
                    self.copy_entry(from, to, name, depth)?;
                }
            }
        }
    }

    fn copy_entry(&mut self, from: i32, to: i32, name: &CStr, depth: u32) -> Done {
        let facts = self.facts(from, name, AT_SYMLINK_NOFOLLOW)?;
        match facts.kind() {
            S_IFDIR => {
                self.call(Call::mkdirat(to, name, 0o700))?;
                self.copy_opened(from, to, name, O_DIRECTORY, O_DIRECTORY, Some(depth + 1))?;
            }
            S_IFREG => {
                let reading = O_NONBLOCK | O_NOCTTY;
                let writing = O_WRONLY | O_CREAT | O_EXCL;
                self.copy_opened(from, to, name, reading, writing, None)?;
            }
            S_IFLNK => {
                self.copy_link(from, to, name)?;
                self.call(Call::fchownat(to, name, facts.user(), facts.group(), AT_SYMLINK_NOFOLLOW))?;
            }
            _ => {
                self.call(Call::mknodat(to, name, facts.mode(), facts.device()))?;
                self.call(Call::fchownat(to, name, facts.user(), facts.group(), AT_SYMLINK_NOFOLLOW))?;
                self.call(Call::fchmodat(to, name, facts.mode() & 0o7777))?;
            }
        }
        let times = facts.times();
        self.call(Call::utimensat(to, name, &times, AT_SYMLINK_NOFOLLOW)).map(|_| ())
    }

    /// Opens `name` on both sides and copies what is in it (of a directory, if that is at some `depth`), and then what it is like.
    fn copy_opened(&mut self, from: i32, to: i32, name: &CStr, reading: i32, writing: i32, depth: Option<u32>) -> Done {
        let source = self.open(Call::openat(from, name, reading | O_NOFOLLOW | O_CLOEXEC, 0))?;
        let copied = self.open(Call::openat(to, name, writing | O_NOFOLLOW | O_CLOEXEC, 0o600)).and_then(|target| {
            let copied = match depth {
                Some(depth) => self.copy_directory(source, target, depth),
                None => self.copy_content(source, target),
            };
            let copied = copied.and_then(|()| self.copy_attributes(source, target, MODE | OWNER));
            self.close(target)?;
            copied
        });
        self.close(source)?;
        copied
    }

    fn copy_content(&mut self, from: i32, to: i32) -> Done {
        let mut buffer = [0u8; 8192];
        loop {
            let length = self.call(Call::read(from, &mut buffer))?;
            if length == 0 {
                return Ok(());
            }
            self.write_all(to, buffer.get(..length).unwrap_or_default())?;
        }
    }

    fn copy_link(&mut self, from: i32, to: i32, name: &CStr) -> Done {
        let mut target = [0u8; 4097];
        let length = self.call(Call::readlinkat(from, name, &mut target))?;
        *target.get_mut(length).ok_or(Errno::ENAMETOOLONG)? = 0;
        let target = CStr::from_bytes_until_nul(&target).map_err(|_| Errno::ENAMETOOLONG)?;
        self.call(Call::symlinkat(target, to, name)).map(|_| ())
    }

    /// Owner first: changing it takes set-user-id bits and capabilities of a file away.
    fn copy_attributes(&mut self, from: i32, to: i32, what: u32) -> Done {
        let facts = self.facts(from, c"", AT_EMPTY_PATH as i32)?;
        if what & OWNER != 0 {
            self.call(Call::fchown(to, facts.user(), facts.group()))?;
        }
        if what & MODE != 0 {
            self.call(Call::fchmod(to, facts.mode() & 0o7777))?;
        }
        self.copy_extended(from, to)
    }

    /// Extended attributes, as far as the file system takes them (tmpfs takes those of users since Linux 6.6).
    fn copy_extended(&mut self, from: i32, to: i32) -> Done {
        let (mut names, mut value) = ([0u8; 4096], [0u8; 4096]);
        let length = match self.call(Call::flistxattr(from, &mut names)) {
            Err(Errno::EOPNOTSUPP) => return Ok(()),
            length => length?,
        };
        for name in crate::wire::texts(names.get(..length).unwrap_or_default()) {
            let length = self.call(Call::fgetxattr(from, name, &mut value))?;
            let value = value.get(..length).unwrap_or_default();
            match self.call(Call::fsetxattr(to, name, value)) {
                Ok(_) | Err(Errno::EOPNOTSUPP) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }
}

/// Takes one `linux_dirent64` from the front of `entries`: 16 bytes of numbers, 2 of length, 1 of type, the name with its NUL.
fn next_name<'e>(entries: &mut &'e [u8]) -> Option<&'e CStr> {
    let length = usize::from(u16::from_ne_bytes([*entries.get(16)?, *entries.get(17)?]));
    let (entry, rest) = entries.split_at_checked(length.max(1))?;
    *entries = rest;
    CStr::from_bytes_until_nul(entry.get(19..)?).ok()
}
