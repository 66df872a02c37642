//! What unpacking costs at the very least on this machine at this minute: the sum of its parts, each alone.
//!
//! Inflating and hashing every compressed byte, hashing every plain one, reading the headers, and making the files with
//! the fewest system calls there are: open, write, set the times, close. One thread, everything in memory beforehand.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{Mode, UtimensatFlags, futimens, mkdirat, umask, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{linkat, symlinkat, write};
use sha2::{Digest as _, Sha256};

use crate::data::Image;
use crate::lane::Result;
use crate::processor_time;

/// The parts, in seconds of processor time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Parts {
    pub inflate: f64,
    pub hash: f64,
    pub parse: f64,
    pub create: f64,
}

impl Parts {
    pub fn sum(self) -> f64 {
        self.inflate + self.hash + self.parse + self.create
    }
}

fn spent(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let before = processor_time()?;
    work()?;
    Ok((processor_time()? - before).max(Duration::ZERO).as_secs_f64())
}

/// Measures all parts; files are made below `target`.
pub fn measure(image: &Image, target: &Path) -> Result<Parts> {
    let mut parts = Parts::default();
    // Files are made as the image wants them; this process does nothing else.
    umask(Mode::empty());
    let mut buffer = vec![0; 256 << 10];
    for (number, layer) in image.layers.iter().enumerate() {
        let packed = std::fs::read(image.layout.join("blobs/sha256").join(layer.digest.hex()))?;
        parts.inflate += spent(|| {
            let mut decoder = flate2::bufread::MultiGzDecoder::new(&packed[..]);
            while decoder.read(&mut buffer)? > 0 {}
            Ok(())
        })?;
        parts.hash += spent(|| {
            let (mut blob, mut plain) = (Sha256::new(), Sha256::new());
            packed.chunks(buffer.len()).for_each(|chunk| blob.update(chunk));
            for _ in 0..layer.bytes / buffer.len() as u64 {
                plain.update(&buffer);
            }
            std::hint::black_box((blob.finalize(), plain.finalize()));
            Ok(())
        })?;
        let archive = image.layout.join(format!("{number}.tar"));
        let mut entries = Vec::new();
        parts.parse += spent(|| {
            for entry in tar::Archive::new(File::open(&archive)?).entries_with_seek()? {
                entries.push(Entry::of(entry?)?);
            }
            Ok(())
        })?;
        let place = target.join(number.to_string());
        std::fs::create_dir(&place)?;
        parts.create += spent(|| create(&entries, &place, &buffer))?;
    }
    Ok(parts)
}

struct Entry {
    kind: tar::EntryType,
    path: PathBuf,
    link: PathBuf,
    mode: u32,
    size: u64,
    time: i64,
}

impl Entry {
    fn of(entry: tar::Entry<'_, File>) -> Result<Self> {
        let header = entry.header();
        Ok(Self {
            kind: header.entry_type(),
            path: entry.path()?.into_owned(),
            link: entry.link_name()?.unwrap_or_default().into_owned(),
            mode: header.mode()?,
            size: entry.size(),
            time: header.mtime()?.cast_signed(),
        })
    }
}

/// Makes the files by the directory they are in, which stays open as long as it is the same.
fn create(entries: &[Entry], target: &Path, content: &[u8]) -> Result<()> {
    let directory = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open(target, directory, Mode::empty())?;
    let mut current: (PathBuf, OwnedFd) = (PathBuf::new(), open(target, directory, Mode::empty())?);
    for entry in entries {
        let parent = entry.path.parent().unwrap_or(Path::new(""));
        if current.0 != parent {
            let place = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            current = (parent.to_owned(), openat(&root, place, directory, Mode::empty())?);
        }
        let (at, name) = (&current.1, entry.path.file_name().unwrap_or(OsStr::new(".")));
        let time = TimeSpec::new(entry.time, 0);
        match entry.kind {
            tar::EntryType::Directory => mkdirat(at, name, Mode::S_IRWXU)?,
            tar::EntryType::Link => linkat(&root, &entry.link, at, name, AtFlags::empty())?,
            tar::EntryType::Symlink => {
                symlinkat(&entry.link, at, name)?;
                utimensat(at, name, &time, &time, UtimensatFlags::NoFollowSymlink)?;
            }
            _ => {
                let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let file = openat(at, name, flags, Mode::from_bits_truncate(entry.mode & 0o777))?;
                let mut left = entry.size as usize;
                while left > 0 {
                    left -= write(&file, &content[..left.min(content.len())])?;
                }
                futimens(&file, &time, &time)?;
            }
        }
    }
    Ok(())
}
