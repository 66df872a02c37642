//! The directory in which unpacked layers live.
//!
//! Job: its shape on disk, its locks, and what makes a layer complete, as the table at [`Store`] says. Everything is done by
//! descriptor from the root, which only its owner can enter. Leaves out blobs (`content.rs`), names (`names.rs`), what is
//! in use (`lease.rs`) and the collection of garbage (`collect.rs`). Oldest kernel: any supported one.

use crate::content::Content;
use crate::done::Done;
use crate::error::Attempt;
use crate::json::{self, Field};
use crate::{Digest, Error, Result, files};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, open, openat, renameat};
use nix::sys::stat::{Mode, fchmod, fstat, mkdirat};
use nix::unistd::geteuid;
use std::fs::{DirBuilder, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A content store on disk. Cloning is cheap; any number of processes may use one at a time.
///
/// | path | is |
/// |---|---|
/// | `meta.json` | the version of the format |
/// | `layers/KEY/fs` | an unpacked layer, for `lowerdir` |
/// | `layers/KEY/layer.idx` | [notes](crate::Note) about it |
/// | `layers/KEY/done` | written last; without it the layer does not count |
/// | `locks/NN` | `flock` of the layers whose digest falls there, held while one is unpacked |
/// | `locks` | `flock`, shared while somebody begins to use something, exclusive while garbage is told from the rest |
/// | `leases/*` | what a running process uses, locked by it; `pin-ID`: what a container uses |
/// | `trash/` | what is being deleted |
/// | `blobs/ALGORITHM/HEX` | verified content: manifests, configurations, compressed layers |
/// | `ingest/*.part` | a download, locked by whoever works on it, kept for a week when it breaks off |
/// | `refs/NAME` | what a name stands for |
/// | `oci-layout`, `index.json` | made from `refs/`: other tools read the store as an OCI layout |
///
/// `KEY` is `diffid-HEX` for a layer that means the same whatever lies below it, else `chain-HEX`; what
/// [`UnpackOptions`](crate::UnpackOptions) changes about it follows after a dot.
///
/// ```
/// use keelbox_image_spec::Store;
/// let directory = tempfile::tempdir()?;
/// let store = Store::open(directory.path().join("store"))?;
/// assert!(store.layers()?.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    root: OwnedFd,
    layers: OwnedFd,
    locks: OwnedFd,
    leases: OwnedFd,
    trash: OwnedFd,
}

/// Locks are spread over this many files, so that unpacking an image holds few descriptors and locks are never deleted.
pub(crate) const SHARDS: u8 = 32;

impl Store {
    /// Opens the store at `path`, making it (mode 0700, with parents) if there is none.
    ///
    /// # Errors
    /// `Unsupported` for a store of another user or of a newer format and for a directory that is used for something else,
    /// and what the kernel says.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let failed = || format!("cannot open the store {}", path.display());
        // Nobody else's from the first moment on, whatever the mask.
        DirBuilder::new().recursive(true).mode(0o700).create(path).attempt(failed)?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = open(path, flags, Mode::empty()).attempt(failed)?;
        let stat = fstat(&root).attempt(failed)?;
        if stat.st_uid != geteuid().as_raw() {
            return Err(Error::unsupported(format!("the store {} belongs to user {}", path.display(), stat.st_uid)));
        }
        refuse_foreign(&root, path)?;
        // Layers contain set-uid programs and devices, which are nobody else's to reach.
        if stat.st_mode & 0o777 != 0o700 {
            fchmod(&root, Mode::S_IRWXU).attempt(failed)?;
        }
        let directory = |name: &str| -> Result<OwnedFd> { crate::content::make(&root, name).attempt(failed) };
        let (layers, locks, trash) = (directory("layers")?, directory("locks")?, directory("trash")?);
        let leases = directory("leases")?;
        check_version(&root, path)?;
        let path = std::path::absolute(path).attempt(failed)?;
        Ok(Self(Arc::new(Inner { path, root, layers, locks, leases, trash })))
    }

    /// Opens the store that programs share by default: `/var/lib/keelbox` for root, `.local/share/keelbox` below `home`
    /// for everybody else.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn default_for_user(home: impl AsRef<Path>) -> Result<Self> {
        Self::open(Self::default_path(home))
    }

    /// The path that [`default_for_user`](Self::default_for_user) opens.
    #[must_use]
    pub fn default_path(home: impl AsRef<Path>) -> PathBuf {
        if geteuid().is_root() { "/var/lib/keelbox".into() } else { home.as_ref().join(".local/share/keelbox") }
    }

    /// Where the store is, as an absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The keys of the complete layers, sorted.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn layers(&self) -> Result<Vec<String>> {
        let mut keys = Vec::new();
        for key in self.keys()? {
            if self.done(&key)?.is_some() {
                keys.push(key);
            }
        }
        keys.sort_unstable();
        Ok(keys)
    }

    /// The keys in `layers/`, of complete layers and of others. A name that is no text is none of ours, and what begins with
    /// a dot is being made.
    pub(crate) fn keys(&self) -> Result<Vec<String>> {
        let names = files::names(self.0.layers.as_fd()).attempt(|| self.failed("list"))?;
        let keys = names.into_iter().filter_map(|name| name.into_string().ok());
        Ok(keys.filter(|key| !key.starts_with('.')).collect())
    }

    /// Removes the layer `key` and its files. Waits while a layer that shares its lock is being unpacked. Nothing protects
    /// a layer that a container uses; [`Collector`](crate::Collector) removes what nobody uses.
    ///
    /// # Errors
    /// `NotFound` when there is no such layer, and what the kernel says.
    pub fn remove_layer(&self, key: &str) -> Result<()> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
        if key.is_empty() || key.starts_with('.') || !key.bytes().all(plain) {
            return Err(Error::not_found(format!("there is no layer {key:?} in {}", self.path().display())));
        }
        let diff_id = self.done(key)?.map(|done| done.diff_id);
        let _lock = diff_id.as_ref().map(|diff_id| self.lock(shard(diff_id))).transpose()?;
        self.discard(key.as_bytes())?;
        self.empty_trash()
    }

    /// Deletes what crashed runs have left. Unpacking does so by itself when it has written something.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn sweep(&self) -> Result<()> {
        for name in files::names(self.0.layers.as_fd()).attempt(|| self.failed("list"))? {
            let name = name.to_bytes();
            if !name.starts_with(b".tmp-") {
                continue;
            }
            // Whoever works in a temporary directory holds its lock, and the kernel lets go when that process dies.
            let Ok(directory) = files::open_directory(&self.0.layers, name) else { continue };
            if let Ok(_lock) = Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
                match self.discard(name) {
                    // Its owner, or another sweeper, was faster.
                    Err(error) if error.kind() == crate::ErrorKind::NotFound => {}
                    other => other?,
                }
            }
        }
        if files::stat(&self.0.root, b"ingest").attempt(|| self.failed("read"))?.is_some() {
            Content::open(self)?.sweep()?;
        }
        self.empty_trash()
    }

    /// Opens a directory of the store, making it if there is none.
    pub(crate) fn make_directory(&self, name: &str) -> Result<OwnedFd> {
        crate::content::make(&self.0.root, name).attempt(|| self.failed("write"))
    }

    pub(crate) fn root(&self) -> &OwnedFd {
        &self.0.root
    }

    /// `locks` and what is below, each opened anew: locks of one opening do not exclude each other.
    pub(crate) fn locks(&self) -> &OwnedFd {
        &self.0.locks
    }

    pub(crate) fn leases(&self) -> &OwnedFd {
        &self.0.leases
    }

    pub(crate) fn trash(&self) -> &OwnedFd {
        &self.0.trash
    }

    /// Takes a name out of `layers/` at once; its files go later.
    pub(crate) fn discard(&self, name: &[u8]) -> Result<()> {
        let shown = name.escape_ascii();
        match renameat(&self.0.layers, name, &self.0.trash, unique("t").as_str()) {
            Err(Errno::ENOENT) => {
                Err(Error::not_found(format!("there is no layer {shown} in {}", self.path().display())))
            }
            answer => answer.attempt(|| format!("cannot remove the layer {shown} from {}", self.path().display())),
        }
    }

    pub(crate) fn empty_trash(&self) -> Result<()> {
        for name in files::names(self.0.trash.as_fd()).attempt(|| self.failed("clean"))? {
            self.delete_trash(name.to_bytes())?;
        }
        Ok(())
    }

    /// Deletes one name in `trash/`.
    pub(crate) fn delete_trash(&self, name: &[u8]) -> Result<()> {
        match files::remove_tree(&self.0.trash, name) {
            // Another process empties it at the same time.
            Ok(()) | Err(Errno::ENOENT | Errno::ESTALE | Errno::ENOTDIR | Errno::ENOTEMPTY) => Ok(()),
            Err(errno) => Err(Error::os(self.failed("clean"), errno)),
        }
    }

    pub(crate) fn failed(&self, verb: &str) -> String {
        format!("cannot {verb} the store {}", self.path().display())
    }

    /// Holds the lock `number` until it is dropped.
    pub(crate) fn lock(&self, number: u8) -> Result<Flock<OwnedFd>> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(&self.0.locks, format!("{number:02}").as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)
            .attempt(|| self.failed("lock"))?;
        files::lock(file, FlockArg::LockExclusive).attempt(|| self.failed("lock"))
    }

    /// Reads what is known of the layer `key`; `None` if it is not complete.
    pub(crate) fn done(&self, key: &str) -> Result<Option<Done>> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = match openat(&self.0.layers, format!("{key}/done").as_str(), flags, Mode::empty()) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
            other => other.attempt(|| format!("cannot open layer {key} in {}", self.path().display()))?,
        };
        let mut text = Vec::new();
        File::from(file)
            .take(64 << 10)
            .read_to_end(&mut text)
            .attempt(|| format!("cannot read layer {key} in {}", self.path().display()))?;
        // A mark that was cut short by a crash is no mark.
        let Ok(done) = Done::parse(&text) else { return Ok(None) };
        let index = format!("{key}/layer.idx");
        let index = files::stat(&self.0.layers, index.as_bytes()).attempt(|| self.failed("read"))?;
        let whole = index.is_some_and(|stat| u64::try_from(stat.st_size) == Ok(done.index_bytes));
        Ok(Some(done).filter(|_| whole))
    }

    pub(crate) fn layer_path(&self, key: &str) -> PathBuf {
        self.path().join("layers").join(key).join("fs")
    }

    /// The open directory of a complete layer's files.
    pub(crate) fn layer_directory(&self, key: &str) -> Result<OwnedFd> {
        let failed = || format!("cannot open layer {key} in {}", self.path().display());
        let layer = files::open_directory(&self.0.layers, key.as_bytes()).attempt(failed)?;
        files::open_directory(&layer, b"fs").attempt(failed)
    }

    pub(crate) fn index(&self, key: &str) -> Result<String> {
        let path = self.path().join("layers").join(key).join("layer.idx");
        std::fs::read_to_string(&path).attempt(|| format!("cannot read {}", path.display()))
    }

    /// A fresh directory to extract into, which vanishes unless it is committed.
    pub(crate) fn temporary(&self) -> Result<Temporary> {
        loop {
            let name = unique(".tmp-");
            mkdirat(&self.0.layers, name.as_str(), Mode::S_IRWXU).attempt(|| self.failed("write"))?;
            // A sweeper may have seen the directory before it was locked; then it is gone or going.
            let opened = match files::open_directory(&self.0.layers, name.as_bytes()) {
                Err(Errno::ENOENT) => continue,
                other => other.attempt(|| self.failed("write"))?,
            };
            let Ok(directory) = Flock::lock(opened, FlockArg::LockExclusiveNonblock) else { continue };
            let still = files::stat(&self.0.layers, name.as_bytes()).attempt(|| self.failed("write"))?;
            let own = fstat(&*directory).attempt(|| self.failed("write"))?;
            if still.is_some_and(|stat| stat.st_ino == own.st_ino) {
                mkdirat(&*directory, "fs", Mode::S_IRWXU).attempt(|| self.failed("write"))?;
                return Ok(Temporary { store: self.clone(), name, directory: Some(directory) });
            }
        }
    }

    pub(crate) fn directory(&self) -> &OwnedFd {
        &self.0.layers
    }
}

/// The lock a layer falls under.
pub(crate) fn shard(diff_id: &Digest) -> u8 {
    u8::from_str_radix(&diff_id.hex()[..2], 16).unwrap_or(0) % SHARDS
}

/// A name nobody else in this or another process makes at the same time.
pub(crate) fn unique(prefix: &str) -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    format!("{prefix}{}-{time:x}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// Refuses a directory that is in use for something else: a store is closed to others, and its garbage is deleted.
fn refuse_foreign(root: &OwnedFd, path: &Path) -> Result<()> {
    let names = files::names(root.as_fd()).attempt(|| format!("cannot open the store {}", path.display()))?;
    // Another process may be making the store at this moment, and has not written `meta.json` yet.
    let own = |name: &[u8]| {
        matches!(name, b"layers" | b"locks" | b"leases" | b"trash" | b"meta.json") || name.starts_with(b".meta-")
    };
    let is_store = names.iter().any(|name| name.to_bytes() == b"meta.json");
    match names.iter().find(|name| !is_store && !own(name.to_bytes())) {
        Some(other) => {
            let other = other.to_bytes().escape_ascii();
            Err(Error::unsupported(format!("{} is not a store: there is {other} in it", path.display())))
        }
        None => Ok(()),
    }
}

fn check_version(root: &OwnedFd, path: &Path) -> Result<()> {
    let name = path.join("meta.json");
    let failed = || format!("cannot read {}", name.display());
    let text = match openat(root, "meta.json", OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty()) {
        Ok(file) => {
            let mut text = Vec::new();
            File::from(file).take(64 << 10).read_to_end(&mut text).attempt(failed)?;
            text
        }
        Err(Errno::ENOENT) => {
            // Several processes may do so at once; all write the same.
            let temporary = unique(".meta-");
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let file = openat(root, temporary.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR).attempt(failed)?;
            File::from(file).write_all(b"{\"version\":1,\"features\":{\"incompat\":[]}}\n").attempt(failed)?;
            return renameat(root, temporary.as_str(), root, "meta.json").attempt(failed);
        }
        Err(errno) => return Err(Error::os(failed(), errno)),
    };
    let what = name.display().to_string();
    let value = json::parse(&text, &what)?;
    let meta = Field::root(&value, &what)?;
    let needs =
        meta.get("features")?.map(|features| features.optional_texts("incompat")).transpose()?.unwrap_or_default();
    match (meta.require("version")?.number()?, needs.first()) {
        (1, None) => Ok(()),
        (version, _) => Err(Error::unsupported(format!(
            "the store {} has version {version} and features {needs:?}",
            path.display()
        ))),
    }
}

/// A layer that is not complete. Dropping it deletes it.
#[derive(Debug)]
pub(crate) struct Temporary {
    store: Store,
    name: String,
    directory: Option<Flock<OwnedFd>>,
}

impl Temporary {
    /// The directory with the lock, around `fs`.
    pub(crate) fn directory(&self) -> Result<&OwnedFd> {
        self.directory.as_deref().ok_or_else(|| Error::not_found("the temporary layer is gone"))
    }

    /// Writes the notes and the mark that the layer is complete.
    pub(crate) fn complete(&self, index: &str, done: &Done) -> Result<()> {
        let directory = self.directory()?;
        for (name, text) in [("layer.idx", index), ("done", &done.render())] {
            let failed = || format!("cannot write {name} of a layer in {}", self.store.path().display());
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let file = openat(directory, name, flags, Mode::S_IRUSR | Mode::S_IWUSR).attempt(failed)?;
            files::write_all(file.as_fd(), text.as_bytes()).attempt(failed)?;
        }
        Ok(())
    }

    /// Gives the layer its name. A complete one of that name stays; an incomplete one is replaced.
    pub(crate) fn commit(mut self, key: &str) -> Result<()> {
        let store = self.store.clone();
        let failed = || format!("cannot add layer {key} to {}", store.path().display());
        let layers = &store.0.layers;
        let mut answer = renameat(layers, self.name.as_str(), layers, key);
        if let Err(Errno::EEXIST | Errno::ENOTEMPTY) = answer {
            if store.done(key)?.is_some() {
                return Ok(());
            }
            store.discard(key.as_bytes())?;
            answer = renameat(layers, self.name.as_str(), layers, key);
        }
        answer.attempt(failed)?;
        self.directory = None;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // What cannot be removed now is swept later: its lock ends with this value.
        if self.directory.is_some() && self.store.discard(self.name.as_bytes()).is_ok() {
            drop(self.store.empty_trash());
        }
    }
}
