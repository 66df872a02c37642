//! The blobs of a store.
//!
//! Job: `blobs/` with its verified content, and `ingest/` with what is on its way there: one locked file for each digest,
//! kept when a download breaks off and taken up by the next. A blob gets its name only when size and digest are right.
//! Leaves out where bytes come from, and the names of images.

use crate::blobs::Give;
use crate::digest::{Hasher, expect};
use crate::error::Attempt;
use crate::lease::Lease;
use crate::store::{Store, unique};
use crate::{Digest, Error, ErrorKind, Result, files};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, openat, renameat};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmod, fchmodat, fstat, mkdirat};
use nix::unistd::{ftruncate, syncfs};
use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// How long a partial download that nobody takes up is kept.
const KEEP_PARTIAL: Duration = Duration::from_secs(7 * 24 * 3600);

/// The two directories, open. What was asked for or written by way of it is not collected as long as it lives.
#[derive(Debug)]
pub(crate) struct Content {
    store: Store,
    kept: Mutex<Option<(Lease, HashSet<Digest>)>>,
    blobs: OwnedFd,
    ingest: OwnedFd,
}

impl Content {
    /// Opens the directories, making them if this store only had layers up to now.
    pub(crate) fn open(store: &Store) -> Result<Self> {
        let blobs = store.make_directory("blobs")?;
        for algorithm in ["sha256", "sha512"] {
            make(&blobs, algorithm).attempt(|| store.failed("write"))?;
        }
        Ok(Self { blobs, ingest: store.make_directory("ingest")?, store: store.clone(), kept: Mutex::default() })
    }

    /// Names `digest` in a lease. Ask only afterwards whether it is there.
    fn keep(&self, digest: &Digest) -> Result<()> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *kept {
            None => *kept = Some((self.store.lease([digest.to_string()])?, HashSet::from([digest.clone()]))),
            Some((lease, digests)) if !digests.contains(digest) => {
                lease.add([digest.to_string()])?;
                digests.insert(digest.clone());
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// Whether a blob of that size is there. What it contains is verified by whoever reads it.
    pub(crate) fn has(&self, digest: &Digest, size: u64) -> Result<bool> {
        self.keep(digest)?;
        self.is_there(digest, size)
    }

    /// As [`has`](Self::has), for what somebody else keeps or nobody has to.
    fn is_there(&self, digest: &Digest, size: u64) -> Result<bool> {
        let right =
            |stat: FileStat| files::file_type(&stat) == SFlag::S_IFREG && u64::try_from(stat.st_size) == Ok(size);
        Ok(self.stat(digest)?.is_some_and(right))
    }

    /// Whether blobs of those sizes are all there. Nothing is kept by asking.
    pub(crate) fn are_there(&self, blobs: &[(Digest, u64)]) -> Result<bool> {
        for (digest, size) in blobs {
            if !self.is_there(digest, *size)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads a small blob whose content is right; `None` if there is none, or it is damaged.
    pub(crate) fn read(&self, digest: &Digest, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.open_blob(digest)? else { return Ok(None) };
        let mut content = Vec::new();
        file.take(limit.saturating_add(1)).read_to_end(&mut content).attempt(|| self.store.failed("read"))?;
        let right = content.len() as u64 <= limit && crate::digest::verify(&content, digest, "blob").is_ok();
        Ok(right.then_some(content))
    }

    /// The digests of the blobs, sorted.
    pub(crate) fn list(&self) -> Result<Vec<Digest>> {
        let mut digests: Vec<Digest> = self.files()?.into_iter().filter_map(|(_, digest)| digest).collect();
        digests.sort_unstable();
        Ok(digests)
    }

    /// Everything in the directories of blobs, by its path below `blobs/`, and what that names.
    pub(crate) fn files(&self) -> Result<Vec<(String, Option<Digest>)>> {
        let mut found = Vec::new();
        for algorithm in ["sha256", "sha512"] {
            let directory = files::open_directory(&self.blobs, algorithm.as_bytes());
            let directory = directory.attempt(|| self.store.failed("list"))?;
            for name in files::names(directory.as_fd()).attempt(|| self.store.failed("list"))? {
                let name = name.to_string_lossy();
                found.push((format!("{algorithm}/{name}"), format!("{algorithm}:{name}").parse().ok()));
            }
        }
        Ok(found)
    }

    pub(crate) fn stat(&self, digest: &Digest) -> Result<Option<FileStat>> {
        files::stat(&self.blobs, path(digest).as_bytes()).attempt(|| self.store.failed("read"))
    }

    /// The directory that all blobs are below, and the path of one there.
    pub(crate) fn place(&self, digest: &Digest) -> (&OwnedFd, String) {
        (&self.blobs, path(digest))
    }

    /// Takes something out of `blobs/`.
    pub(crate) fn discard(&self, path: &str) -> Result<()> {
        match renameat(&self.blobs, path, self.store.trash(), unique("b").as_str()) {
            Err(Errno::ENOENT) => Ok(()),
            other => other.attempt(|| self.store.failed("write")),
        }
    }

    pub(crate) fn discard_blob(&self, digest: &Digest) -> Result<()> {
        self.discard(&path(digest))
    }

    pub(crate) fn first_byte(&self, digest: &Digest) -> Result<Option<u8>> {
        let mut byte = [0];
        let Some(mut file) = self.open_blob(digest)? else { return Ok(None) };
        let count = file.read(&mut byte).attempt(|| self.store.failed("read"))?;
        Ok((count > 0).then_some(byte[0]))
    }

    fn open_blob(&self, digest: &Digest) -> Result<Option<File>> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        match openat(&self.blobs, path(digest).as_str(), flags, Mode::empty()) {
            Err(Errno::ENOENT) => Ok(None),
            other => Ok(Some(File::from(other.attempt(|| self.store.failed("read"))?))),
        }
    }

    /// The digest that a blob's content has; `None` if there is no such blob.
    pub(crate) fn computed(&self, digest: &Digest) -> Result<Option<Digest>> {
        let what = || format!("cannot read blob {digest} in the store {}", self.store.path().display());
        let Some(mut file) = self.open_blob(digest)? else { return Ok(None) };
        let mut hasher = Hasher::new(digest.algorithm());
        let mut buffer = vec![0; 256 << 10];
        loop {
            match file.read(&mut buffer).attempt(what)? {
                0 => return Ok(Some(hasher.finish())),
                count => hasher.update(&buffer[..count]),
            }
        }
    }

    /// Whether a blob that is there is what it is called. One that is not goes away.
    #[cfg(feature = "registry")]
    pub(crate) fn is_right(&self, digest: &Digest) -> Result<bool> {
        let Some(computed) = self.computed(digest)? else { return Ok(false) };
        if computed != *digest {
            self.discard_blob(digest)?;
        }
        Ok(computed == *digest)
    }

    /// Adds a small document whose digest the caller has computed or checked.
    pub(crate) fn put(&self, digest: &Digest, content: &[u8]) -> Result<()> {
        self.keep(digest)?;
        if self.read(digest, content.len() as u64)?.is_some() {
            return Ok(());
        }
        let mut ingest = self.ingest(digest, &|| Ok(()))?;
        ingest.restart()?;
        ingest.write(content)?;
        ingest.commit(content.len() as u64)
    }

    /// Adds the blob that `give` hands over, unless it is there.
    pub(crate) fn add(&self, digest: &Digest, size: u64, give: &mut Give<'_>) -> Result<()> {
        if self.has(digest, size)? {
            return Ok(());
        }
        let mut ingest = self.ingest(digest, &|| Ok(()))?;
        // Whoever had the lock may have brought it.
        if self.has(digest, size)? {
            ingest.needless();
            return Ok(());
        }
        ingest.restart()?;
        give(&mut |bytes| ingest.write(bytes))?;
        ingest.commit(size)
    }

    /// Takes the lock of a blob that is on its way. While another thread or process has it, `waiting` is asked again and
    /// again and may give up. The caller then looks whether the blob has come.
    pub(crate) fn ingest(&self, digest: &Digest, waiting: &dyn Fn() -> Result<()>) -> Result<Ingest<'_>> {
        self.keep(digest)?;
        let name = format!("{}-{}.part", digest.algorithm().name(), digest.hex());
        let failed = || self.store.failed("write");
        loop {
            let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let file = openat(&self.ingest, name.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR).attempt(failed)?;
            let file = match Flock::lock(File::from(file), FlockArg::LockExclusiveNonblock) {
                Ok(file) => file,
                Err((_, Errno::EAGAIN | Errno::EINTR)) => {
                    waiting()?;
                    std::thread::sleep(Duration::from_millis(20));
                    continue;
                }
                Err((_, errno)) => return Err(Error::os(failed(), errno)),
            };
            // The one who had the lock may have moved the file to its place.
            let here = files::stat(&self.ingest, name.as_bytes()).attempt(failed)?;
            let own = fstat(&*file).attempt(failed)?;
            if here.is_some_and(|stat| stat.st_ino == own.st_ino) {
                let hasher = Hasher::new(digest.algorithm());
                return Ok(Ingest { content: self, digest: digest.clone(), name, file, hasher, written: 0 });
            }
        }
    }

    /// A blob whose digest is known at its end.
    pub(crate) fn stage(&self) -> Result<Staged<'_>> {
        let name = unique("new-");
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let failed = || self.store.failed("write");
        let file = openat(&self.ingest, name.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR).attempt(failed)?;
        // Held against sweepers.
        let file = Flock::lock(File::from(file), FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| Error::os(failed(), errno))?;
        Ok(Staged { content: self, name: Some(name), file, hasher: Hasher::new(crate::Algorithm::Sha256), written: 0 })
    }

    /// Writes everything to the disk.
    pub(crate) fn sync(&self) -> Result<()> {
        syncfs(&self.blobs).attempt(|| self.store.failed("sync"))
    }

    /// Deletes partial downloads that nobody has taken up for a week.
    pub(crate) fn sweep(&self) -> Result<()> {
        for name in files::names(self.ingest.as_fd()).attempt(|| self.store.failed("list"))? {
            let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
            let Ok(file) = openat(&self.ingest, name.as_c_str(), flags, Mode::empty()) else { continue };
            let Ok(file) = Flock::lock(File::from(file), FlockArg::LockExclusiveNonblock) else { continue };
            let age = file.metadata().and_then(|metadata| metadata.modified());
            let age = age.ok().and_then(|time| SystemTime::now().duration_since(time).ok()).unwrap_or_default();
            if age > KEEP_PARTIAL {
                let _ = files::unlink(&self.ingest, name.to_bytes());
            }
        }
        Ok(())
    }
}

/// A blob that is not complete. What was written stays when it is dropped, for whoever comes next.
#[derive(Debug)]
pub(crate) struct Ingest<'c> {
    content: &'c Content,
    digest: Digest,
    name: String,
    file: Flock<File>,
    hasher: Hasher,
    written: u64,
}

impl Ingest<'_> {
    /// Bytes that are there and hashed.
    #[cfg(feature = "registry")]
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// The file, for readers beside.
    #[cfg(feature = "registry")]
    pub(crate) fn reader(&self) -> Result<File> {
        self.file.try_clone().attempt(|| self.content.store.failed("read"))
    }

    /// Hashes what an earlier run has left, and goes on after it. More than `size` bytes cannot be right: they go.
    #[cfg(feature = "registry")]
    pub(crate) fn resume(&mut self, size: u64) -> Result<()> {
        let failed = || self.content.store.failed("read");
        if self.file.metadata().attempt(failed)?.len() > size {
            return self.restart();
        }
        let mut buffer = vec![0; 256 << 10];
        self.file.seek(SeekFrom::Start(0)).attempt(failed)?;
        (self.hasher, self.written) = (Hasher::new(self.digest.algorithm()), 0);
        loop {
            match self.file.read(&mut buffer).attempt(failed)? {
                0 => return Ok(()),
                count => {
                    self.hasher.update(&buffer[..count]);
                    self.written += count as u64;
                }
            }
        }
    }

    /// Throws away what is there.
    pub(crate) fn restart(&mut self) -> Result<()> {
        ftruncate(&*self.file, 0).attempt(|| self.content.store.failed("write"))?;
        self.file.seek(SeekFrom::Start(0)).attempt(|| self.content.store.failed("write"))?;
        (self.hasher, self.written) = (Hasher::new(self.digest.algorithm()), 0);
        Ok(())
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).attempt(|| self.content.store.failed("write"))?;
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Gives the blob its name, if its size and digest are right; otherwise what is there is thrown away.
    pub(crate) fn commit(mut self, size: u64) -> Result<()> {
        let what = format!("blob {}", self.digest);
        if self.written != size {
            let found = self.written;
            self.discard();
            return Err(Error::new(
                ErrorKind::SizeMismatch,
                format!("{what} should have {size} bytes but has {found}"),
            ));
        }
        let hasher = std::mem::replace(&mut self.hasher, Hasher::new(self.digest.algorithm()));
        if let Err(error) = expect(&hasher.finish(), &self.digest, &what) {
            self.discard();
            return Err(error);
        }
        let failed = || self.content.store.failed("write");
        renameat(&self.content.ingest, self.name.as_str(), &self.content.blobs, path(&self.digest).as_str())
            .attempt(failed)?;
        // Not before: who waits for the file opens it to write, and a crash in between would close it to its owner for good.
        fchmod(&*self.file, Mode::S_IRUSR | Mode::S_IRGRP | Mode::S_IROTH).attempt(failed)
    }

    /// Takes the file away again: the blob came from somebody else while this one waited for the lock.
    pub(crate) fn needless(mut self) {
        self.discard();
    }

    fn discard(&mut self) {
        // Should this fail, the next one to resume finds out by the digest.
        let _ = files::unlink(&self.content.ingest, self.name.as_bytes());
    }
}

/// A blob that is being made here. Dropping it deletes it.
#[derive(Debug)]
pub(crate) struct Staged<'c> {
    content: &'c Content,
    name: Option<String>,
    file: Flock<File>,
    hasher: Hasher,
    written: u64,
}

impl Staged<'_> {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).attempt(|| self.content.store.failed("write"))?;
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Gives the blob its name.
    pub(crate) fn commit(mut self) -> Result<(Digest, u64)> {
        let failed = || self.content.store.failed("write");
        let digest = std::mem::replace(&mut self.hasher, Hasher::new(crate::Algorithm::Sha256)).finish();
        fchmod(&*self.file, Mode::S_IRUSR | Mode::S_IRGRP | Mode::S_IROTH).attempt(failed)?;
        if let Some(name) = &self.name {
            renameat(&self.content.ingest, name.as_str(), &self.content.blobs, path(&digest).as_str())
                .attempt(failed)?;
        }
        self.name = None;
        Ok((digest, self.written))
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // What stays is swept after a week.
            let _ = files::unlink(&self.content.ingest, name.as_bytes());
        }
    }
}

/// Where a blob lies below `blobs/`.
fn path(digest: &Digest) -> String {
    format!("{}/{}", digest.algorithm().name(), digest.hex())
}

pub(crate) fn make(parent: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    match mkdirat(parent, name, Mode::S_IRWXU) {
        // The mask may have taken away what we need ourselves.
        Ok(()) => fchmodat(parent, name, Mode::S_IRWXU, FchmodatFlags::FollowSymlink)?,
        Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno),
    }
    files::open_directory(parent, name.as_bytes())
}

/// Writes a small file of the store, which readers see as it was or as it is now.
pub(crate) fn replace(directory: &OwnedFd, name: &str, content: &[u8]) -> std::io::Result<()> {
    files::replace(directory, name, content, ".tmp-", Mode::S_IRUSR | Mode::S_IWUSR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_old_partial_downloads_that_nobody_works_on_are_swept() {
        let directory = tempfile::tempdir().expect("directory");
        let store = Store::open(directory.path()).expect("store");
        let content = Content::open(&store).expect("content");
        let digests = [b"old", b"new", b"own"].map(|text| Digest::of(text));
        let mut held = None;
        for digest in &digests {
            held = Some(content.ingest(digest, &|| Ok(())).expect("ingest"));
        }
        let file = |digest: &Digest| directory.path().join(format!("ingest/sha256-{}.part", digest.hex()));
        for digest in [&digests[0], &digests[2]] {
            let old = SystemTime::now() - KEEP_PARTIAL - Duration::from_secs(60);
            fs::File::options().write(true).open(file(digest)).and_then(|file| file.set_modified(old)).expect("time");
        }
        store.sweep().expect("swept");
        assert_eq!(digests.each_ref().map(|digest| file(digest).exists()), [false, true, true]);
        drop(held);
        store.sweep().expect("swept");
        assert!(!file(&digests[2]).exists());
    }

    #[test]
    fn a_blob_gets_its_name_only_when_it_is_right() {
        let directory = tempfile::tempdir().expect("directory");
        let store = Store::open(directory.path()).expect("store");
        let content = Content::open(&store).expect("content");
        let digest = Digest::of(b"right");
        for (wrong, kind) in [(&b"wrong"[..], ErrorKind::DigestMismatch), (b"righ", ErrorKind::SizeMismatch)] {
            let mut ingest = content.ingest(&digest, &|| Ok(())).expect("ingest");
            ingest.write(wrong).expect("write");
            assert_eq!(ingest.commit(5).unwrap_err().kind(), kind);
            assert!(!content.has(&digest, 5).expect("stat"));
            assert!(content.read(&digest, 10).expect("read").is_none());
        }
        content.put(&digest, b"right").expect("put");
        content.put(&digest, b"right").expect("once more");
        assert_eq!(content.read(&digest, 5).expect("read").as_deref(), Some(&b"right"[..]));
        assert!(content.read(&digest, 4).expect("too large").is_none());
        assert!(content.has(&digest, 5).expect("stat") && !content.has(&digest, 4).expect("stat"));
        // Damaged where it lies: put again.
        let path = directory.path().join("blobs/sha256").join(digest.hex());
        fs::remove_file(&path).and_then(|()| fs::write(&path, "other")).expect("damage");
        assert!(content.read(&digest, 5).expect("read").is_none());
        content.put(&digest, b"right").expect("put");
        assert_eq!(fs::read(&path).expect("read"), b"right");
    }
}
