//! Reading a bounded file and replacing a file atomically.
//!
//! Left out on purpose: locking; whoever shares a file locks it. Any kernel.
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind as IoErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, ErrorKind};
use crate::json::LARGEST;

/// Reads a regular file of at most [`LARGEST`] bytes (one more is returned of a larger one, for the parser to refuse).
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    // A FIFO would block on open, and a device might have effects: look before.
    let kind = fs::metadata(path).map_err(|e| Error::io("read", path, e))?;
    if !kind.is_file() {
        return Err(Error::new(ErrorKind::FileType, "read").path(path).detail("not a regular file"));
    }
    // Most configurations fit, so that two reads do.
    let mut bytes = Vec::with_capacity(32 << 10);
    File::open(path)
        .and_then(|file| file.take(LARGEST as u64 + 1).read_to_end(&mut bytes))
        .map_err(|e| Error::io("read", path, e))?;
    Ok(bytes)
}

/// Puts `text` at `path` in one step: readers see the old file or the new one, also after a power failure.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), Error> {
    let (mut file, temporary) = temporary(path)?;
    let written =
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&temporary, path));
    if let Err(e) = written {
        // The first error is the one to report; a leftover could not be helped.
        drop(fs::remove_file(&temporary));
        return Err(Error::io("write", path, e));
    }
    File::open(parent(path)).and_then(|directory| directory.sync_all()).map_err(|e| Error::io("write", path, e))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn temporary(path: &Path) -> Result<(File, PathBuf), Error> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    loop {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let temporary = parent(path).join(format!(".{name}.{}.{count}.tmp", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).open(&temporary) {
            Ok(file) => return Ok((file, temporary)),
            Err(e) if e.kind() == IoErrorKind::AlreadyExists => {}
            Err(e) => return Err(Error::io("write", path, e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replace_leaves_no_temporary_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        replace(&path, "one").unwrap();
        replace(&path, "two").unwrap();
        assert_eq!(read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        // A directory in the way: the rename fails, and nothing is left behind.
        let blocked = directory.path().join("blocked");
        fs::create_dir_all(blocked.join("inner")).unwrap();
        assert_eq!(replace(&blocked, "x").unwrap_err().file(), Some(blocked.as_path()));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn only_regular_files_are_read() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(read(directory.path()).unwrap_err().kind(), ErrorKind::FileType);
        assert_eq!(read(Path::new("/dev/zero")).unwrap_err().kind(), ErrorKind::FileType);
        let missing = directory.path().join("missing");
        assert_eq!(read(&missing).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
