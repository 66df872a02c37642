//! Taking from the calling thread what its work does not need: capabilities, other files, the network.
//!
//! Job: `capset(2)` and Landlock for one thread, as safe functions, for threads that read what strangers wrote. Neither
//! can be taken back by the thread, and other threads keep what they have. Leaves out which capabilities a work needs.
//! Oldest kernel: any for capabilities; 5.19 for files (Landlock's second version, the first that lets hard links cross
//! directories), 6.7 for the network, 6.12 for signals.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::raw::{Call, Errno, Kernel, Linux};

/// The third version of `capget(2)`, with two words for each set.
const VERSION_3: u32 = 0x2008_0522;
/// Asks `landlock_create_ruleset(2)` for its version instead.
const ASK_VERSION: u32 = 1;
const PATH_BENEATH: u32 = 1;
/// All rights that the second version knows, `LANDLOCK_ACCESS_FS_EXECUTE` to `_REFER`.
const ACCESS_2: u64 = (1 << 14) - 1;
const EXECUTE: u64 = 1;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEVICE: u64 = 1 << 15;

fn check(answer: libc::c_long) -> Result<usize, Errno> {
    usize::try_from(answer).map_err(|_| Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)))
}

/// Leaves the calling thread at most the capabilities in `kept`, bit by number as in `capabilities(7)`. What it does not have
/// it does not get.
///
/// # Errors
/// `EPERM` under a system call filter that forbids it.
pub fn keep_capabilities(kept: u64) -> Result<(), Errno> {
    // Zero is the calling thread.
    let header = [VERSION_3, 0];
    let mut sets = [0u32; 6];
    // SAFETY: version 3 reads 8 bytes of `header` and writes 24 bytes, the size of `sets`.
    check(unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()) })?;
    for (word, kept) in [kept as u32, (kept >> 32) as u32].into_iter().enumerate() {
        // Effective and permitted; nothing is for a program that is executed.
        sets[word * 3] &= kept;
        sets[word * 3 + 1] &= kept;
        sets[word * 3 + 2] = 0;
    }
    Linux.perform(Call::capset(&header, &sets)).map(drop)
}

/// What is forbidden unless a rule allows it, by kind.
#[repr(C)]
struct Ruleset {
    files: u64,
    network: u64,
    scopes: u64,
}

#[repr(C, packed)]
struct Beneath {
    allowed: u64,
    directory: i32,
}

/// Takes all files but those below `directories` away from the calling thread, where nothing can be executed either; and
/// with them binding and connecting, abstract sockets and signals to others, as far as the kernel knows how. Files that
/// are open stay usable. False, and nothing is taken, where the kernel has no Landlock or too old a one.
///
/// # Errors
/// `EPERM` under a system call filter that forbids it, `EMFILE`, `ENOMEM`, `E2BIG` for a thread confined too often.
pub fn restrict_files(directories: &[BorrowedFd<'_>]) -> Result<bool, Errno> {
    let nothing = std::ptr::null::<Ruleset>();
    // SAFETY: with this flag the kernel reads no memory.
    let version = check(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0, ASK_VERSION) });
    let Ok(version @ 2..) = version else { return Ok(false) };
    let mut allowed = ACCESS_2 & !EXECUTE;
    let mut rules = Ruleset { files: ACCESS_2, network: 0, scopes: 0 };
    if version >= 3 {
        allowed |= TRUNCATE;
        rules.files |= TRUNCATE;
    }
    if version >= 5 {
        rules.files |= IOCTL_DEVICE;
    }
    // Binding and connecting by TCP; abstract sockets and signals.
    rules.network = if version >= 4 { 3 } else { 0 };
    rules.scopes = if version >= 6 { 3 } else { 0 };
    let size = match version {
        ..4 => 8,
        4 | 5 => 16,
        _ => size_of::<Ruleset>(),
    };
    // SAFETY: the kernel reads `size` bytes through the pointer, at most the size of `rules`.
    let number = check(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const rules, size, 0) })?;
    // SAFETY: the call has just made this descriptor, which nobody else knows.
    let ruleset = unsafe { OwnedFd::from_raw_fd(number as i32) };
    for directory in directories {
        let rule = Beneath { allowed, directory: directory.as_raw_fd() };
        let (set, kind) = (ruleset.as_raw_fd(), PATH_BENEATH);
        // SAFETY: the kernel reads one `Beneath`, 12 bytes, through the pointer.
        check(unsafe { libc::syscall(libc::SYS_landlock_add_rule, set, kind, &raw const rule, 0) })?;
    }
    Linux.perform(Call::prctl(libc::PR_SET_NO_NEW_PRIVS as u32, 1, 0))?;
    // SAFETY: the kernel reads no memory; it changes the calling thread only.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) })?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::fd::AsFd;

    fn status(field: &str) -> String {
        let text = fs::read_to_string("/proc/thread-self/status").expect("own status");
        text.lines().find_map(|line| line.strip_prefix(field)).expect("a field").trim().to_owned()
    }

    #[test]
    fn one_thread_loses_its_capabilities_and_the_others_keep_theirs() {
        let before = status("CapEff:");
        let confined = std::thread::spawn(|| {
            keep_capabilities(1 << 0).expect("less is always allowed");
            let first = status("CapEff:");
            keep_capabilities(u64::MAX).expect("no more comes of it");
            (first, status("CapPrm:"))
        });
        let kept = u64::from_str_radix(&before, 16).expect("hexadecimal") & 1;
        let (effective, permitted) = confined.join().expect("no panic");
        assert_eq!((effective, permitted), (format!("{kept:016x}"), format!("{kept:016x}")));
        assert_eq!(status("CapEff:"), before);
    }

    #[test]
    fn a_thread_reaches_what_it_may_and_nothing_else() {
        let directory = tempfile::tempdir().expect("a directory");
        let (inside, outside) = (directory.path().join("inside"), directory.path().join("outside"));
        fs::create_dir_all(inside.join("sub")).expect("mkdir");
        fs::write(&outside, "x").expect("write");
        let (place, there, beyond) = (File::open(&inside).expect("open"), inside.clone(), outside.clone());
        let confined = std::thread::spawn(move || {
            if !restrict_files(&[place.as_fd()]).expect("a kernel that knows Landlock lets everybody use it") {
                return false;
            }
            fs::write(there.join("sub/file"), "x").expect("inside");
            fs::hard_link(there.join("sub/file"), there.join("link")).expect("between directories inside");
            fs::remove_file(there.join("link")).expect("inside");
            for error in [
                fs::read(&beyond).unwrap_err(),
                fs::write(&beyond, "y").unwrap_err(),
                fs::hard_link(there.join("sub/file"), beyond.with_extension("new")).unwrap_err(),
                fs::create_dir(beyond.with_extension("new")).unwrap_err(),
                fs::remove_file(&beyond).unwrap_err(),
            ] {
                let number = error.raw_os_error();
                assert!(matches!(number, Some(libc::EACCES | libc::EXDEV)), "{error}");
            }
            true
        });
        if !confined.join().expect("no panic") {
            eprintln!("SKIP: no Landlock");
        }
        assert_eq!(fs::read(&outside).expect("this thread is as before"), b"x");
    }
}
