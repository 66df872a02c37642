//! Files by descriptor and single component.
//!
//! Job: the few operations the extractor, the store and the view share, none of which follows a symbolic link, and the
//! removal of trees of any depth. Names are bytes without a slash. Leaves out path walks: there are none in this crate.
//! Oldest kernel: any supported one.

use crate::store::unique;
use nix::dir::{Dir, OwningIter};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, openat, renameat};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmodat, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

type Result<T, E = Errno> = std::result::Result<T, E>;

/// The part of a mode that says what kind of file it is.
pub(crate) fn file_type(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

/// Whether this is what overlayfs takes for "deleted here": a character device 0:0.
pub(crate) fn is_whiteout(stat: &FileStat) -> bool {
    file_type(stat) == SFlag::S_IFCHR && stat.st_rdev == 0
}

/// Opens the directory `name`; a symbolic link is `ELOOP` or `ENOTDIR`.
pub(crate) fn open_directory(parent: impl AsFd, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent.as_fd(), name, flags, Mode::empty())
}

/// What `name` is, itself when that is a symbolic link; `None` when there is nothing.
pub(crate) fn stat(parent: impl AsFd, name: &[u8]) -> Result<Option<FileStat>> {
    match fstatat(parent.as_fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

pub(crate) fn unlink(parent: impl AsFd, name: &[u8]) -> Result<()> {
    unlinkat(parent.as_fd(), name, UnlinkatFlags::NoRemoveDir)
}

/// The names in a directory, without `.` and `..`.
pub(crate) fn names(directory: BorrowedFd<'_>) -> Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in listing(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

fn listing(directory: BorrowedFd<'_>) -> Result<OwningIter> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(Dir::openat(directory, ".", flags, Mode::empty())?.into_iter())
}

/// Writes all of `bytes`.
pub(crate) fn write_all(file: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match nix::unistd::write(file, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Waits for the lock of an open file or directory.
pub(crate) fn lock(mut file: OwnedFd, how: FlockArg) -> Result<Flock<OwnedFd>> {
    loop {
        match Flock::lock(file, how) {
            Ok(lock) => return Ok(lock),
            Err((same, Errno::EINTR)) => file = same,
            Err((_, errno)) => return Err(errno),
        }
    }
}

/// Writes a small file by way of a temporary name in the same directory, so that readers see the old or the new one. The
/// temporary name begins with `prefix`.
pub(crate) fn replace(directory: &OwnedFd, name: &str, content: &[u8], prefix: &str, mode: Mode) -> io::Result<()> {
    let temporary = unique(prefix);
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = File::from(openat(directory, temporary.as_str(), flags, mode)?);
    let answer = write_all(file.as_fd(), content)
        .and_then(|()| file.sync_all())
        .and_then(|()| Ok(renameat(directory, temporary.as_str(), directory, name)?));
    if answer.is_err() {
        let _ = unlink(directory, temporary.as_bytes());
    }
    answer
}

/// What to look into next, in a directory that is being walked.
struct Branch {
    identity: (u64, u64),
    open: Option<OwnedFd>,
    /// Its directories that were not entered yet.
    rest: Vec<CString>,
}

/// Tells `visit` of `name` and everything below it, in no order. Uses a bounded number of descriptors and no recursion,
/// and does not follow links. What disappears meanwhile is left out.
pub(crate) fn walk(parent: impl AsFd, name: &[u8], visit: &mut dyn FnMut(&FileStat)) -> Result<()> {
    let Some(top) = stat(parent.as_fd(), name)? else { return Ok(()) };
    visit(&top);
    if file_type(&top) != SFlag::S_IFDIR {
        return Ok(());
    }
    let mut branches = vec![Branch::enter(parent.as_fd(), name, visit)?];
    while let Some(branch) = branches.last_mut() {
        let Some(next) = branch.rest.pop() else {
            let done = branches.pop().and_then(|branch| branch.open);
            let (Some(above), Some(done)) = (branches.last_mut(), done) else { continue };
            if above.open.is_none() {
                let directory = open_directory(&done, b"..")?;
                let stat = fstat(&directory)?;
                if (stat.st_dev, stat.st_ino) != above.identity {
                    return Err(Errno::ESTALE);
                }
                above.open = Some(directory);
            }
            continue;
        };
        let Some(directory) = &branch.open else { return Err(Errno::ESTALE) };
        match Branch::enter(directory.as_fd(), next.to_bytes(), visit) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            below => branches.push(below?),
        }
        if let Some(far) = branches.len().checked_sub(OPEN_LEVELS + 1) {
            branches[far].open = None;
        }
    }
    Ok(())
}

impl Branch {
    fn enter(parent: BorrowedFd<'_>, name: &[u8], visit: &mut dyn FnMut(&FileStat)) -> Result<Self> {
        let directory = open_directory(parent, name)?;
        let own = fstat(&directory)?;
        let mut rest = Vec::new();
        for name in names(directory.as_fd())? {
            let Some(found) = stat(&directory, name.to_bytes())? else { continue };
            visit(&found);
            if file_type(&found) == SFlag::S_IFDIR {
                rest.push(name);
            }
        }
        Ok(Self { identity: (own.st_dev, own.st_ino), open: Some(directory), rest })
    }
}

/// How many levels of a tree are kept open at a time.
const OPEN_LEVELS: usize = 24;

/// A directory being emptied.
struct Level {
    /// Its name in the level above.
    name: CString,
    identity: (u64, u64),
    open: Option<(OwnedFd, OwningIter)>,
}

impl Level {
    fn enter(parent: BorrowedFd<'_>, name: CString) -> Result<Self> {
        let directory = match open_directory(parent, name.to_bytes()) {
            // Somebody took our right to list it away; it is ours, so give it back.
            Err(Errno::EACCES) => {
                fchmodat(parent, name.as_c_str(), Mode::S_IRWXU, FchmodatFlags::FollowSymlink)?;
                open_directory(parent, name.to_bytes())?
            }
            other => other?,
        };
        let stat = fstat(&directory)?;
        let entries = listing(directory.as_fd())?;
        Ok(Self { name, identity: (stat.st_dev, stat.st_ino), open: Some((directory, entries)) })
    }

    /// Opens the level again as the parent of its emptied child.
    fn reopen(&mut self, child: BorrowedFd<'_>) -> Result<()> {
        let directory = open_directory(child, b"..")?;
        let stat = fstat(&directory)?;
        if (stat.st_dev, stat.st_ino) != self.identity {
            return Err(Errno::ESTALE);
        }
        let entries = listing(directory.as_fd())?;
        self.open = Some((directory, entries));
        Ok(())
    }
}

/// Removes `name` and everything below it. Uses a bounded number of descriptors and no recursion, so no tree is too deep.
/// Does not cross into what a symbolic link or a mount shows: a mount point is `EBUSY`.
pub(crate) fn remove_tree(parent: impl AsFd, name: &[u8]) -> Result<()> {
    let parent = parent.as_fd();
    match unlink(parent, name) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        Err(Errno::EISDIR | Errno::EPERM) => {}
        Err(errno) => return Err(errno),
    }
    let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
    let mut levels = vec![Level::enter(parent, name)?];
    while let Some(level) = levels.last_mut() {
        let Some((directory, entries)) = &mut level.open else { return Err(Errno::ESTALE) };
        match next_directory(directory.as_fd(), entries)? {
            Some(child) => {
                let below = Level::enter(directory.as_fd(), child)?;
                levels.push(below);
                if let Some(far) = levels.len().checked_sub(OPEN_LEVELS + 1) {
                    levels[far].open = None;
                }
            }
            None => {
                let Some(emptied) = levels.pop() else { break };
                let above = match levels.last_mut() {
                    None => parent,
                    Some(level) => {
                        if let (None, Some((child, _))) = (&level.open, &emptied.open) {
                            level.reopen(child.as_fd())?;
                        }
                        level.open.as_ref().ok_or(Errno::ESTALE)?.0.as_fd()
                    }
                };
                drop(emptied.open);
                unlinkat(above, emptied.name.as_c_str(), UnlinkatFlags::RemoveDir)?;
            }
        }
    }
    Ok(())
}

/// Removes entries until one is a directory that is not empty; returns that one's name.
fn next_directory(directory: BorrowedFd<'_>, entries: &mut OwningIter) -> Result<Option<CString>> {
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if entry.file_type() != Some(nix::dir::Type::Directory) {
            match unlinkat(directory, name, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => continue,
                // Not every file system tells the type in the listing.
                Err(Errno::EISDIR) => {}
                Err(Errno::EPERM)
                    if stat(directory, name.to_bytes())?.is_some_and(|s| file_type(&s) == SFlag::S_IFDIR) => {}
                Err(errno) => return Err(errno),
            }
        }
        match unlinkat(directory, name, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => return Ok(Some(name.to_owned())),
            Err(errno) => return Err(errno),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::mkdirat;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn open(path: &std::path::Path) -> OwnedFd {
        fs::File::open(path).expect("directory").into()
    }

    #[test]
    fn a_tree_ten_thousand_deep_goes_in_a_small_stack() {
        let top = tempfile::tempdir().expect("tempdir");
        let at = open(top.path());
        mkdirat(&at, "deep", Mode::S_IRWXU).expect("mkdir");
        let mut directory = open_directory(&at, b"deep").expect("open");
        for level in 0..10_000 {
            mkdirat(&directory, "d", Mode::S_IRWXU).expect("mkdir");
            if level % 1000 == 0 {
                let flags = OFlag::O_CREAT | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
                openat(&directory, "file", flags, Mode::S_IRWXU).expect("file");
            }
            directory = open_directory(&directory, b"d").expect("open");
        }
        drop(directory);
        let mut seen = 0;
        walk(&at, b"deep", &mut |_| seen += 1).expect("walked");
        assert_eq!(seen, 1 + 10_000 + 10);
        let small = std::thread::Builder::new().stack_size(256 << 10);
        small.spawn(move || remove_tree(&at, b"deep")).expect("thread").join().expect("no overflow").expect("removed");
        assert_eq!(fs::read_dir(top.path()).expect("list").count(), 0);
    }

    #[test]
    fn links_and_their_targets_outside_stay() {
        let top = tempfile::tempdir().expect("tempdir");
        fs::create_dir_all(top.path().join("tree/a/b")).expect("mkdir");
        fs::create_dir(top.path().join("canary")).expect("mkdir");
        fs::write(top.path().join("canary/file"), "x").expect("write");
        symlink(top.path().join("canary"), top.path().join("tree/a/link")).expect("link");
        fs::hard_link(top.path().join("canary/file"), top.path().join("tree/hard")).expect("link");
        remove_tree(open(top.path()), b"tree").expect("removed");
        assert_eq!(fs::read(top.path().join("canary/file")).expect("still there"), b"x");
        symlink("canary", top.path().join("tree")).expect("link");
        remove_tree(open(top.path()), b"tree").expect("only the link");
        assert!(top.path().join("canary/file").exists());
        remove_tree(open(top.path()), b"nothing").expect("nothing to do");
    }
}
