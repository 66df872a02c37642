//! Opens a path inside a root directory and nowhere else. Needs no `std`.
//!
//! One `openat2(2)` (Linux 5.6) does it, with `RESOLVE_IN_ROOT` and `RESOLVE_NO_MAGICLINKS`. Where that call is missing or
//! filtered, [`walk`] does the same one component at a time: every directory is opened without following links, and a link's
//! text is read and resolved from the root again. The kernel's own path walk never crosses a link in either way.

use core::ffi::CStr;

use super::flags::{
    AT_EMPTY_PATH, O_CLOEXEC, O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_PATH, O_TMPFILE, RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS, S_IFDIR, S_IFLNK, S_IFMT,
};
use crate::sys::{Call, Errno, Kernel, OpenHow};

/// The longest path, as the kernel's `PATH_MAX`.
pub const PATH_MAX: usize = 4096;
const MOST_LINKS: u32 = 40;
const DEPTH: usize = 128;

/// Opens `path` below `root`, as if `root` were `/`. `flags` and `mode` as in `openat2(2)`; `O_CLOEXEC` is added.
///
/// # Errors
///
/// The kernel's answer; `ELOOP` for a magic link.
pub fn open_inside(kernel: &mut impl Kernel, root: i32, path: &CStr, flags: i32, mode: u32) -> Result<i32, Errno> {
    let flags = flags | O_CLOEXEC;
    let resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
    // open(2) passes over a mode that nothing is made with, openat2(2) refuses it.
    let mode = if flags & (O_CREAT | O_TMPFILE) != 0 { mode } else { 0 };
    let how = OpenHow { flags: flags as u32 as u64, mode: u64::from(mode), resolve };
    let mut answer = Err(Errno::EAGAIN);
    // A rename or mount anywhere on the machine makes the kernel say EAGAIN where a ".." is on the way.
    for _attempt in 0..32 {
        answer = kernel.perform(Call::openat2(root, path, &how));
        if answer != Err(Errno::EAGAIN) {
            break;
        }
    }
    match answer {
        // Somebody who renames all the time does not keep the walk from its goal: it goes back by what it holds open.
        Err(Errno::ENOSYS | Errno::EPERM | Errno::EAGAIN) => walk(kernel, root, path, flags, mode),
        answer => answer.map(|descriptor| descriptor as i32),
    }
}

/// What is left of a path, with room for the targets of links.
struct Rest {
    bytes: [u8; PATH_MAX],
    start: usize,
}

impl Rest {
    fn new(path: &CStr) -> Result<Self, Errno> {
        let mut rest = Self { bytes: [0; PATH_MAX], start: PATH_MAX };
        rest.prepend(path.to_bytes_with_nul())?;
        Ok(rest)
    }

    fn prepend(&mut self, text: &[u8]) -> Result<(), Errno> {
        self.start = self.start.checked_sub(text.len()).ok_or(Errno::ENAMETOOLONG)?;
        self.bytes.get_mut(self.start..self.start + text.len()).ok_or(Errno::ENAMETOOLONG)?.copy_from_slice(text);
        Ok(())
    }

    fn skip_slashes(&mut self) -> bool {
        while self.bytes.get(self.start) == Some(&b'/') {
            self.start += 1;
        }
        self.bytes.get(self.start).is_none_or(|byte| *byte == 0)
    }

    /// Takes the next component, NUL-terminated in `name`; says whether a slash came after it.
    fn next(&mut self, name: &mut [u8; 257]) -> Result<bool, Errno> {
        let mut length = 0;
        loop {
            let byte = self.bytes.get(self.start).copied().unwrap_or(0);
            if byte == 0 || byte == b'/' {
                *name.get_mut(length).ok_or(Errno::ENAMETOOLONG)? = 0;
                return Ok(byte == b'/');
            }
            *name.get_mut(length).ok_or(Errno::ENAMETOOLONG)? = byte;
            length += 1;
            self.start += 1;
        }
    }
}

/// The directories passed on the way down, so that `..` goes back through them and never above the root.
struct Way<'k, K: Kernel> {
    kernel: &'k mut K,
    root: i32,
    passed: [i32; DEPTH],
    depth: usize,
}

impl<K: Kernel> Way<'_, K> {
    fn here(&self) -> i32 {
        self.depth.checked_sub(1).and_then(|last| self.passed.get(last)).copied().unwrap_or(self.root)
    }

    fn down(&mut self, directory: i32) -> Result<(), Errno> {
        let Some(place) = self.passed.get_mut(self.depth) else {
            self.close(directory);
            return Err(Errno::ENAMETOOLONG);
        };
        *place = directory;
        self.depth += 1;
        Ok(())
    }

    fn up(&mut self) {
        if self.depth > 0 {
            let directory = self.here();
            self.close(directory);
            self.depth -= 1;
        }
    }

    fn close(&mut self, descriptor: i32) {
        let _closed = self.kernel.perform(Call::close(descriptor));
    }

    fn open(&mut self, name: &CStr, flags: i32, mode: u32) -> Result<i32, Errno> {
        let here = self.here();
        self.kernel.perform(Call::openat(here, name, flags | O_CLOEXEC, mode)).map(|descriptor| descriptor as i32)
    }

    fn kind(&mut self, descriptor: i32) -> Result<u32, Errno> {
        let mut buffer = [0u64; 32];
        self.kernel.perform(Call::statx(descriptor, c"", AT_EMPTY_PATH as i32, 1, &mut buffer))?;
        // stx_mode is the 16 bits at offset 28: the upper half of word 3, its lower 16 bits.
        Ok((buffer[3] >> 32) as u32 & S_IFMT)
    }
}

/// Does what [`open_inside`] does without `openat2(2)`.
///
/// # Errors
///
/// As the kernel would answer.
pub fn walk(kernel: &mut impl Kernel, root: i32, path: &CStr, flags: i32, mode: u32) -> Result<i32, Errno> {
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    let mut rest = Rest::new(path)?;
    let mut way = Way { kernel, root, passed: [-1; DEPTH], depth: 0 };
    let answer = descend(&mut way, &mut rest, flags, mode);
    while way.depth > 0 {
        way.up();
    }
    answer
}

fn descend<K: Kernel>(way: &mut Way<'_, K>, rest: &mut Rest, flags: i32, mode: u32) -> Result<i32, Errno> {
    let mut name = [0u8; 257];
    let mut links = 0;
    loop {
        if rest.skip_slashes() {
            return match (flags & O_CREAT != 0, flags & O_EXCL != 0) {
                (true, true) => Err(Errno::EEXIST),
                (true, false) => Err(Errno::EISDIR),
                _ => way.open(c".", flags, mode),
            };
        }
        let slash = rest.next(&mut name)?;
        let last = rest.skip_slashes();
        let name = CStr::from_bytes_until_nul(&name).map_err(|_| Errno::ENAMETOOLONG)?;
        match name.to_bytes() {
            b"." => continue,
            b".." => {
                way.up();
                continue;
            }
            _ => {}
        }
        if last && slash && flags & O_CREAT != 0 {
            return Err(Errno::EISDIR);
        }
        let directory = if slash { O_DIRECTORY } else { 0 };
        if last && !slash && flags & (O_NOFOLLOW | O_EXCL) != 0 {
            return way.open(name, flags | O_NOFOLLOW, mode);
        }
        let found = match way.open(name, O_PATH | O_NOFOLLOW, 0) {
            Err(Errno::ENOENT) if last && !slash && flags & O_CREAT != 0 => {
                return way.open(name, flags | O_NOFOLLOW, mode);
            }
            found => found?,
        };
        let kind = way.kind(found)?;
        if kind == S_IFLNK {
            links += 1;
            let followed = if links > MOST_LINKS { Err(Errno::ELOOP) } else { follow(way, rest, found, slash) };
            way.close(found);
            followed?;
        } else if last {
            way.close(found);
            return way.open(name, flags | directory | O_NOFOLLOW, mode);
        } else if kind == S_IFDIR {
            way.down(found)?;
        } else {
            way.close(found);
            return Err(Errno::ENOTDIR);
        }
    }
}

/// Puts the text of the link `found` in front of what is left, and starts at the root again if it is absolute.
fn follow<K: Kernel>(way: &mut Way<'_, K>, rest: &mut Rest, found: i32, slash: bool) -> Result<(), Errno> {
    let mut target = [0u8; PATH_MAX];
    let length = way.kernel.perform(Call::readlinkat(found, c"", &mut target))?;
    let target = target.get(..length).ok_or(Errno::ENAMETOOLONG)?;
    if is_magic(way, found, target)? {
        return Err(Errno::ELOOP);
    }
    if slash || !rest.skip_slashes() {
        rest.prepend(b"/")?;
    }
    rest.prepend(target)?;
    if target.first() == Some(&b'/') {
        while way.depth > 0 {
            way.up();
        }
    }
    Ok(())
}

/// Links of procfs that jump instead of naming a path (`proc(5)`: `fd/`, `exe`, `cwd`, `root`, `ns/`, `map_files/`) read as
/// an absolute path or as `kind:[number]`; its ordinary links (`self`, `mounts`, `net`) do neither.
fn is_magic<K: Kernel>(way: &mut Way<'_, K>, link: i32, target: &[u8]) -> Result<bool, Errno> {
    const PROC_SUPER_MAGIC: u64 = 0x9fa0;
    let mut buffer = [0u64; 15];
    way.kernel.perform(Call::fstatfs(link, &mut buffer))?;
    Ok(buffer[0] == PROC_SUPER_MAGIC && (target.first() == Some(&b'/') || target.contains(&b':')))
}
