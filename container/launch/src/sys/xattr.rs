//! Extended attributes, by descriptor and by path.
//!
//! Job: the six calls of `xattr(7)` that neither `std` nor `nix` offer as safe functions. Each function is one system
//! call. What a name or a value means is the caller's business. Oldest kernel: any supported one (the calls are from 2.4).

use crate::sys::Errno;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Makes the answer of a libc function that returns a length, or -1 with `errno`, a `Result`.
fn length(answer: libc::ssize_t) -> Result<usize, Errno> {
    usize::try_from(answer).map_err(|_| last())
}

/// The error number the last libc call of this thread left behind.
fn last() -> Errno {
    Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

/// Sets the attribute `name` of an open file: `fsetxattr(2)` with no flags, so it creates or replaces.
///
/// # Errors
/// `EBADF` for an `O_PATH` descriptor, `EPERM` for a name space the caller may not write, `ENOTSUP` where the file
/// system has no such attributes, `ERANGE`, `E2BIG`, `ENOSPC` and `EDQUOT` for values that do not fit.
pub fn fsetxattr(file: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> Result<(), Errno> {
    // SAFETY: `name` is NUL-terminated by its type, and the kernel only reads `value.len()` bytes from `value`, which
    // the borrow keeps alive for the call.
    let answer = unsafe { libc::fsetxattr(file.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    if answer == 0 { Ok(()) } else { Err(last()) }
}

/// Sets the attribute `name` of what `path` names, itself when that is a symbolic link: `lsetxattr(2)`.
///
/// Only the last component is not followed; give a path whose parent is trusted, such as `/proc/self/fd/N/name`.
///
/// # Errors
/// As [`fsetxattr`], and those of a path lookup.
pub fn lsetxattr(path: &CStr, name: &CStr, value: &[u8]) -> Result<(), Errno> {
    // SAFETY: both strings are NUL-terminated by their type, and the kernel only reads `value.len()` bytes from
    // `value`, which the borrow keeps alive for the call.
    let answer = unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    if answer == 0 { Ok(()) } else { Err(last()) }
}

/// Reads the attribute `name` of an open file into `value` and returns its length: `fgetxattr(2)`.
///
/// With an empty `value` the kernel only tells the length.
///
/// # Errors
/// `ENODATA` when there is no such attribute, `ERANGE` when `value` is too small, `EBADF` for an `O_PATH` descriptor.
pub fn fgetxattr(file: BorrowedFd<'_>, name: &CStr, value: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: `name` is NUL-terminated by its type, and the kernel writes at most `value.len()` bytes into `value`,
    // which is borrowed exclusively for the call.
    length(unsafe { libc::fgetxattr(file.as_raw_fd(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) })
}

/// Reads the attribute `name` of what `path` names, itself when that is a symbolic link: `lgetxattr(2)`.
///
/// # Errors
/// As [`fgetxattr`], and those of a path lookup.
pub fn lgetxattr(path: &CStr, name: &CStr, value: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: both strings are NUL-terminated by their type, and the kernel writes at most `value.len()` bytes into
    // `value`, which is borrowed exclusively for the call.
    length(unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) })
}

/// Lists the names of an open file's attributes, each ended by a NUL byte, and returns the length: `flistxattr(2)`.
///
/// With an empty `names` the kernel only tells the length.
///
/// # Errors
/// `ERANGE` when `names` is too small, `ENOTSUP` where the file system has no attributes.
pub fn flistxattr(file: BorrowedFd<'_>, names: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most `names.len()` bytes into `names`, which is borrowed exclusively for the call.
    length(unsafe { libc::flistxattr(file.as_raw_fd(), names.as_mut_ptr().cast(), names.len()) })
}

/// Lists the attribute names of what `path` names, itself when that is a symbolic link: `llistxattr(2)`.
///
/// # Errors
/// As [`flistxattr`], and those of a path lookup.
pub fn llistxattr(path: &CStr, names: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: `path` is NUL-terminated by its type, and the kernel writes at most `names.len()` bytes into `names`,
    // which is borrowed exclusively for the call.
    length(unsafe { libc::llistxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::os::fd::AsFd;

    /// A file on a file system that may not know user attributes, in which case the test says so and ends.
    fn file() -> Option<(std::path::PathBuf, std::fs::File)> {
        let path = std::env::temp_dir().join(format!(
            "keelbox-xattr-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        let file = std::fs::File::create_new(&path).expect("a fresh name in the temporary directory");
        match fsetxattr(file.as_fd(), c"user.keelbox", b"") {
            Err(Errno(libc::ENOTSUP)) => {
                eprintln!("SKIP: no user attributes in the temporary directory");
                std::fs::remove_file(&path).expect("own file");
                None
            }
            other => {
                assert_eq!(other, Ok(()));
                Some((path, file))
            }
        }
    }

    #[test]
    fn a_value_is_read_back_by_descriptor_and_by_path() {
        let Some((path, file)) = file() else { return };
        let c_path = CString::new(path.as_os_str().as_encoded_bytes()).expect("no NUL");
        assert_eq!(fsetxattr(file.as_fd(), c"user.keelbox", b"one\0two"), Ok(()));
        let mut value = [0; 16];
        assert_eq!(lgetxattr(&c_path, c"user.keelbox", &mut value), Ok(7));
        assert_eq!(&value[..7], b"one\0two");
        assert_eq!(lsetxattr(&c_path, c"user.keelbox", b"x"), Ok(()));
        assert_eq!(fgetxattr(file.as_fd(), c"user.keelbox", &mut value), Ok(1));
        assert_eq!(fgetxattr(file.as_fd(), c"user.keelbox", &mut []), Ok(1), "an empty buffer asks for the length");
        let mut names = [0; 256];
        let length = flistxattr(file.as_fd(), &mut names).expect("list");
        assert!(names[..length].windows(13).any(|name| name == b"user.keelbox\0"));
        assert_eq!(llistxattr(&c_path, &mut names), Ok(length));
        std::fs::remove_file(path).expect("own file");
    }

    #[test]
    fn what_is_missing_and_what_does_not_fit_are_told_apart() {
        let Some((path, file)) = file() else { return };
        assert_eq!(fgetxattr(file.as_fd(), c"user.absent", &mut [0; 4]), Err(Errno(libc::ENODATA)));
        assert_eq!(fsetxattr(file.as_fd(), c"user.keelbox", b"12345"), Ok(()));
        assert_eq!(fgetxattr(file.as_fd(), c"user.keelbox", &mut [0; 4]), Err(Errno(libc::ERANGE)));
        assert_eq!(llistxattr(c"/nonexistent/keelbox", &mut [0; 4]), Err(Errno(libc::ENOENT)));
        std::fs::remove_file(path).expect("own file");
    }
}
