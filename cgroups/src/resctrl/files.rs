//! What is done with the files of resctrl: by the kernel, or by a test that remembers it.
//!
//! Leaves out: what is written. Oldest kernel: 4.10.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

pub(super) trait Files {
    fn exists(&self, directory: &Path) -> bool;
    fn make(&self, directory: &Path) -> io::Result<()>;
    fn read(&self, file: &Path) -> io::Result<String>;
    /// In one write(2), which resctrl takes for a whole command.
    fn append(&self, file: &Path, text: &str) -> io::Result<()>;
    fn remove(&self, directory: &Path) -> io::Result<()>;
}

/// The file system itself.
pub(super) struct Kernel;

impl Files for Kernel {
    fn exists(&self, directory: &Path) -> bool {
        fs::symlink_metadata(directory).is_ok_and(|metadata| metadata.is_dir())
    }

    fn make(&self, directory: &Path) -> io::Result<()> {
        fs::create_dir(directory)
    }

    fn read(&self, file: &Path) -> io::Result<String> {
        fs::read_to_string(file)
    }

    fn append(&self, file: &Path, text: &str) -> io::Result<()> {
        let mut file = OpenOptions::new().append(true).open(file)?;
        match file.write(text.as_bytes())? {
            length if length == text.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    fn remove(&self, directory: &Path) -> io::Result<()> {
        fs::remove_dir(directory)
    }
}
