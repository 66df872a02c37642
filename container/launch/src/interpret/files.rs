//! Steps that make files, directories, links and nodes inside, and open what other steps start from.

use core::ffi::CStr;

use super::flags::{AT_REMOVEDIR, O_CLOEXEC, O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_PATH, O_WRONLY, S_IFMT};
use super::resolve::{PATH_MAX, open_inside};
use super::{AT_FDCWD, Machine};
use crate::step::{Create, Step, Wire};
use crate::sys::{Call, Errno, Kernel};

type Done = Result<(), Errno>;

/// A path in a buffer of its own, which can be cut at a slash.
pub(super) struct PathBuffer([u8; PATH_MAX]);

impl PathBuffer {
    pub(super) fn new(path: &CStr) -> Result<Self, Errno> {
        let bytes = path.to_bytes_with_nul();
        let mut buffer = [0; PATH_MAX];
        buffer.get_mut(..bytes.len()).ok_or(Errno::ENAMETOOLONG)?.copy_from_slice(bytes);
        Ok(Self(buffer))
    }

    /// The first `length` bytes; `/` if there are none.
    fn cut(&mut self, length: usize) -> &CStr {
        if let Some(end) = self.0.get_mut(length) {
            *end = 0;
        }
        match CStr::from_bytes_until_nul(&self.0) {
            Ok(path) if !path.is_empty() => path,
            _ => c"/",
        }
    }
}

/// `path` as the length of its directory part and its last component, without slashes at the end of either.
fn split(path: &CStr) -> Result<(usize, &CStr), Errno> {
    let bytes = path.to_bytes();
    let slash = bytes.iter().rposition(|byte| *byte == b'/').ok_or(Errno::EINVAL)?;
    let name = path.to_bytes_with_nul().get(slash + 1..).and_then(|name| CStr::from_bytes_with_nul(name).ok());
    let name = name.filter(|name| !matches!(name.to_bytes(), b"" | b"." | b"..")).ok_or(Errno::EINVAL)?;
    Ok((slash, name))
}

impl<K: Kernel> Machine<'_, K> {
    /// Performs `step` if it is one of this family.
    pub(super) fn files(&mut self, step: &Step<Wire<'_>>) -> Option<Done> {
        Some(match step {
            Step::Enter { path } => self.enter(path),
            Step::Directory { path, mode } => {
                self.in_parent(path, |machine, parent, name| forgive(machine.call(Call::mkdirat(parent, name, *mode))))
            }
            Step::File { path, mode, content } => {
                self.in_parent(path, |machine, parent, name| machine.file(parent, name, *mode, content))
            }
            Step::Link { path, target } => self
                .in_parent(path, |machine, parent, name| forgive(machine.call(Call::symlinkat(target, parent, name)))),
            Step::Node { path, mode, device, user, group } => self.in_parent(path, |machine, parent, name| {
                match machine.call(Call::mknodat(parent, name, *mode, *device)) {
                    Err(Errno::EEXIST) => machine.same_node(parent, name, *mode, *device)?,
                    made => made.map(|_| ())?,
                }
                if (*user, *group) == (0, 0) {
                    return Ok(());
                }
                machine.call(Call::fchownat(parent, name, *user, *group, 0x100)).map(|_| ())
            }),
            Step::CopyUp { target, also } => self.copy_up(target, *also),
            Step::Owner { path, user, group } => self.in_parent(path, |machine, parent, name| {
                machine.call(Call::fchownat(parent, name, *user, *group, 0x100)).map(|_| ())
            }),
            Step::Open { path, out } => self
                .open(Call::openat(AT_FDCWD, path, O_PATH | O_CLOEXEC, 0))
                .and_then(|descriptor| self.keep(*out, descriptor)),
            _ => return None,
        })
    }

    /// A node that the image brought is as good as one made, if it is the same device; anything else in its place is refused.
    fn same_node(&mut self, parent: i32, name: &CStr, mode: u32, device: u64) -> Done {
        const AT_SYMLINK_NOFOLLOW: i32 = 0x100;
        let mut stat = [0u64; 32];
        self.call(Call::statx(parent, name, AT_SYMLINK_NOFOLLOW, 1, &mut stat))?;
        // `statx`: the mode is the 16 bits at offset 28, the device number two 32-bit words at offset 128.
        let kind = (stat[3] >> 32) as u32 & S_IFMT;
        let (major, minor) = (stat[16] & 0xffff_ffff, stat[16] >> 32);
        let number = (minor & 0xff) | (major & 0xfff) << 8 | (minor & !0xff) << 12;
        if kind == mode & S_IFMT && number == device { Ok(()) } else { Err(Errno::EEXIST) }
    }

    fn enter(&mut self, path: &CStr) -> Done {
        let directory = self.target(path, O_PATH | O_DIRECTORY, Create::Nothing)?;
        let entered = self.go(directory).and_then(|()| {
            self.on_procfs = path == c"/proc" && self.is_procfs(directory)?;
            Ok(())
        });
        self.done(directory);
        entered
    }

    /// Opens an inside path, making it first if it is missing and `create` says so.
    pub(super) fn target(&mut self, path: &CStr, flags: i32, create: Create) -> Result<i32, Errno> {
        if !path.to_bytes().starts_with(b"/") {
            return self.open(Call::openat(AT_FDCWD, path, flags | O_NOFOLLOW | O_CLOEXEC, 0));
        }
        match self.inside(path, flags) {
            Err(Errno::ENOENT) if create != Create::Nothing => {
                match self.make(path, create) {
                    // Another container with the same root was faster; a link that leads nowhere is in the way all the same.
                    Err(Errno::EEXIST) => self.inside(path, flags).map_err(|errno| match errno {
                        Errno::ENOENT => Errno::EEXIST,
                        errno => errno,
                    }),
                    made => made.and_then(|()| self.inside(path, flags)),
                }
            }
            opened => opened,
        }
    }

    /// Opens an absolute path below the new root, or below `/` as long as there is no new one.
    pub(super) fn inside(&mut self, path: &CStr, flags: i32) -> Result<i32, Errno> {
        if self.root == AT_FDCWD && self.own_root < 0 {
            let root = self.open(Call::openat(AT_FDCWD, c"/", O_PATH | O_DIRECTORY | O_CLOEXEC, 0))?;
            self.own_root = self.raise(root)?;
        }
        let root = if self.root == AT_FDCWD { self.own_root } else { self.root };
        open_inside(&mut self.kernel, root, path, flags, 0)
    }

    fn make(&mut self, path: &CStr, create: Create) -> Done {
        self.in_parent(path, |machine, parent, name| match create {
            Create::Nothing => Ok(()),
            Create::Directory => forgive(machine.call(Call::mkdirat(parent, name, 0o755))),
            Create::File => {
                let flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
                let file = machine.open(Call::openat(parent, name, flags, 0o644))?;
                // Closed at once: a mount on which a file is open for writing cannot be made read-only.
                machine.call(Call::close(file)).map(|_| ())
            }
        })
    }

    /// Calls `work` with the directory that holds `path` (made if missing) and the last component of `path`.
    fn in_parent(&mut self, path: &CStr, work: impl FnOnce(&mut Self, i32, &CStr) -> Done) -> Done {
        if !path.to_bytes().contains(&b'/') {
            return work(self, AT_FDCWD, path);
        }
        let (length, name) = split(path)?;
        let parent = self.directory(path, length)?;
        let worked = work(self, parent, name);
        self.done(parent);
        worked
    }

    /// Opens the directory that the first `length` bytes of `path` name, making what is missing on the way.
    fn directory(&mut self, path: &CStr, length: usize) -> Result<i32, Errno> {
        let flags = O_PATH | O_DIRECTORY;
        match self.inside(PathBuffer::new(path)?.cut(length), flags) {
            Err(Errno::ENOENT) => {}
            opened => return opened,
        }
        let bytes = path.to_bytes();
        let mut above = self.inside(c"/", flags)?;
        for end in
            (1..=length).filter(|end| matches!(bytes.get(*end), Some(b'/') | None) && bytes.get(end - 1) != Some(&b'/'))
        {
            let here = match self.inside(PathBuffer::new(path)?.cut(end), flags) {
                Err(Errno::ENOENT) => self.make_below(above, path, end),
                opened => opened,
            };
            self.done(above);
            above = here?;
        }
        Ok(above)
    }

    /// Makes the directory that the component ending at `end` names, in `above`.
    fn make_below(&mut self, above: i32, path: &CStr, end: usize) -> Result<i32, Errno> {
        let mut buffer = PathBuffer::new(path)?;
        let (_, name) = split(buffer.cut(end))?;
        forgive(self.call(Call::mkdirat(above, name, 0o755)))?;
        self.open(Call::openat(above, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0))
    }

    fn file(&mut self, parent: i32, name: &CStr, mode: u32, content: &[u8]) -> Done {
        let flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
        let file = match self.open(Call::openat(parent, name, flags, mode)) {
            // What is there is replaced, never written into: it may be a link, a pipe or a file shared with others.
            Err(Errno::EEXIST) => {
                match self.call(Call::unlinkat(parent, name, 0)) {
                    Err(Errno::EISDIR) => self.call(Call::unlinkat(parent, name, AT_REMOVEDIR))?,
                    unlinked => unlinked?,
                };
                self.open(Call::openat(parent, name, flags, mode))?
            }
            opened => opened?,
        };
        let written = self.write_all(file, content);
        let closed = self.call(Call::close(file));
        written.and(closed.map(|_| ()))
    }

    pub(super) fn write_all(&mut self, file: i32, mut rest: &[u8]) -> Done {
        while !rest.is_empty() {
            // A file that takes nothing will not take more.
            let written = self.call(Call::write(file, rest)).and_then(|written| match written {
                0 => Err(Errno::EIO),
                written => Ok(written),
            })?;
            rest = rest.get(written..).unwrap_or_default();
        }
        Ok(())
    }
}

/// What exists already is as good as made.
fn forgive(answer: Result<usize, Errno>) -> Done {
    match answer {
        Ok(_) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}
