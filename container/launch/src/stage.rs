//! The stage as a descriptor that can be executed: embedded bytes in a sealed memory file, made once per process.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::sync::{Arc, Mutex};

use crate::sys::process::owned;
use crate::sys::{Call, Errno, Kernel, Linux};

/// The program, as built by the build script.
pub(crate) const BYTES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/stage"));

/// The size of the stage in bytes.
#[must_use]
pub fn size() -> usize {
    BYTES.len()
}

struct Kept {
    file: Arc<File>,
    identity: (u64, u64),
}

static STAGE: Mutex<Option<Kept>> = Mutex::new(None);

/// The stage's descriptor. A program that closes descriptors it does not know
/// (as daemons do) may have closed ours, and the number may mean another file by now: then the stage is made anew.
pub(crate) fn descriptor() -> io::Result<Arc<File>> {
    let mut stage = STAGE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(kept) = stage.as_ref() {
        if identity(&kept.file).is_ok_and(|identity| identity == kept.identity) {
            return Ok(Arc::clone(&kept.file));
        }
        // Whatever has our number now is not ours to close.
        std::mem::forget(stage.take());
    }
    let file = Arc::new(File::from(crate::channel::above_streams(make()?)?));
    let identity = identity(&file)?;
    *stage = Some(Kept { file: Arc::clone(&file), identity });
    Ok(file)
}

fn identity(file: &File) -> io::Result<(u64, u64)> {
    file.metadata().map(|metadata| (metadata.dev(), metadata.ino()))
}

fn make() -> io::Result<OwnedFd> {
    in_memory(&mut Linux).or_else(|refused| in_a_file().map_err(|_| refused))
}

/// A sealed memory file. Where executable ones are forbidden (`vm.memfd_noexec=2`, Linux 6.3) the kernel answers `EACCES`.
fn in_memory(kernel: &mut impl Kernel) -> io::Result<OwnedFd> {
    const MFD_CLOEXEC_SEALING: u32 = 3;
    const MFD_EXEC: u32 = 0x10;
    const F_ADD_SEALS: i32 = 1033;
    const F_SEAL_SEAL_SHRINK_GROW_WRITE: i32 = 15;
    let made = match kernel.perform(Call::memfd_create(c"keelbox-stage", MFD_CLOEXEC_SEALING | MFD_EXEC)) {
        // Before Linux 6.3 the flag is unknown, and every memory file can be executed.
        Err(Errno::EINVAL) => kernel.perform(Call::memfd_create(c"keelbox-stage", MFD_CLOEXEC_SEALING)),
        made => made,
    };
    let mut file = File::from(owned(made?)?);
    file.write_all(BYTES)?;
    kernel.perform(Call::fcntl(file.as_raw_fd(), F_ADD_SEALS, F_SEAL_SEAL_SHRINK_GROW_WRITE))?;
    Ok(file.into())
}

/// A file without a name, opened again for reading, so that nobody can write to it any more.
fn in_a_file() -> io::Result<OwnedFd> {
    let mut refused = io::Error::from(io::ErrorKind::NotFound);
    for directory in ["/dev/shm", "/run", "/tmp", "/var/tmp"] {
        match in_directory(directory) {
            Ok(file) => return Ok(file.into()),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

fn in_directory(directory: &str) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).mode(0o500).custom_flags(libc::O_TMPFILE).open(directory)?;
    file.write_all(BYTES)?;
    let readable = File::open(path(&file))?;
    drop(file);
    if readable.metadata()?.nlink() == 0 { Ok(readable) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}

/// An open file as a path, good while it stays open.
pub(crate) fn path(stage: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", stage.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stage_is_small_and_static() {
        assert!(size() < 48 * 1024, "{} bytes", size());
        assert!(BYTES.starts_with(b"\x7fELF"));
        // e_phnum headers of 56 bytes at e_phoff: none may be PT_INTERP (3) or PT_DYNAMIC (2).
        let half = |at: usize| usize::from(u16::from_le_bytes([BYTES[at], BYTES[at + 1]]));
        for header in 0..half(56) {
            let kind = half(half(32) + header * half(54));
            assert!(kind != 2 && kind != 3, "program header {header} has type {kind}");
        }
    }

    #[test]
    fn the_memory_file_is_sealed() {
        let stage = in_memory(&mut Linux).expect("a memory file");
        assert!(File::from(stage).write_all(b"x").is_err());
    }

    /// `vm.memfd_noexec=2`, as a kernel that refuses.
    struct NoExec;
    impl Kernel for NoExec {
        fn perform(&mut self, _: Call<'_>) -> Result<usize, Errno> {
            Err(Errno::EACCES)
        }
    }

    #[test]
    fn a_nameless_file_takes_over_where_executable_memory_is_forbidden() {
        assert_eq!(in_memory(&mut NoExec).expect_err("refused").raw_os_error(), Some(13));
        let stage = in_a_file().expect("a nameless file");
        assert!(File::from(stage.try_clone().expect("a duplicate")).write_all(b"x").is_err());
        let status = std::process::Command::new(path(&stage)).status().expect("executed");
        assert_eq!(status.code(), Some(127), "the stage refuses to run without its host");
    }

    #[test]
    fn a_closed_descriptor_is_made_anew() {
        let first = descriptor().expect("a stage");
        let again = descriptor().expect("a stage");
        assert!(Arc::ptr_eq(&first, &again));
        // What a daemon does with descriptors it does not know, and another file that gets the number.
        let other = File::open("/dev/null").expect("a file");
        Linux.perform(Call::dup3(other.as_raw_fd(), first.as_raw_fd(), 0)).expect("a duplicate");
        let anew = descriptor().expect("a stage");
        assert_ne!(identity(&anew).expect("metadata"), identity(&other).expect("metadata"));
    }
}
