//! Collecting garbage.
//!
//! Job: tell what is used from what is not, take the rest out of sight while nobody can begin to use it, and delete it
//! afterwards without any lock. Used is what a name or a lease leads to: through indexes and manifests to configurations
//! and layers, and from what is used to whatever has it as its subject. Leaves out what is damaged: while it is unknown
//! where a name leads, nothing is collected (`examine.rs` repairs). Oldest kernel: any supported one.

use crate::content::Content;
use crate::document::{Index, Kind, Manifest, kind};
use crate::error::Attempt;
use crate::lease::StoreLock;
use crate::names::Record;
use crate::store::{Store, unique};
use crate::unpack::Keys;
use crate::{Digest, Error, ImageConfig, Limits, Result, files, json};
use nix::errno::Errno;
use nix::fcntl::{FlockArg, renameat};
use nix::sys::stat::{FileStat, SFlag};
use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Removes what nobody uses from a store.
///
/// Kept is what a [name](Store::names) leads to, what refers to that (signatures, bills of materials), what a
/// [`Image`](crate::Image) from this store or an [`Unpacked`](crate::Unpacked) of any living process is made of, what a pull or an
/// unpacking works on, and what is [pinned](crate::Unpacked::pin). Any number of processes may work on the store meanwhile.
///
/// ```
/// use keelbox_image_spec::{Collector, Store};
/// use std::time::Duration;
/// let directory = tempfile::tempdir()?;
/// let store = Store::open(directory.path())?;
/// let collected = Collector::new(&store).grace(Duration::from_secs(3600)).collect()?;
/// assert_eq!((collected.blobs, collected.layers, collected.bytes), (0, 0, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Collector {
    store: Store,
    grace: Duration,
}

/// What a [`Collector`] removed, or would remove.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Collected {
    /// Manifests, configurations, compressed layers and whatever else was stored as a blob.
    pub blobs: usize,
    /// Unpacked layers.
    pub layers: usize,
    /// Bytes they took on the disk.
    pub bytes: u64,
}

impl Collector {
    /// Collects in `store`, however new the garbage is.
    pub fn new(store: &Store) -> Self {
        Self { store: store.clone(), grace: Duration::ZERO }
    }

    /// Leaves alone what came or changed less than this ago. Default: nothing.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Removes the garbage.
    ///
    /// # Errors
    /// `Format` when a name leads to something that is missing or damaged, which [`Store::repair`] mends, and what the
    /// kernel says. What was removed until then is gone.
    pub fn collect(&self) -> Result<Collected> {
        let mut collected = Collected::default();
        let (store, content) = (&self.store, Content::open(&self.store)?);
        let mut away = Vec::new();
        {
            let lock = store.hold(FlockArg::LockExclusive)?;
            let used = Used::find(store, &content, &lock, true)?;
            for garbage in self.garbage(&content, &used)? {
                let name = unique("g");
                let (from, old) = garbage.place(store, &content);
                match renameat(from, old.as_str(), store.trash(), name.as_str()) {
                    Err(Errno::ENOENT) => continue,
                    other => other.attempt(|| store.failed("clean"))?,
                }
                collected.count(&garbage);
                away.push(name);
            }
        }
        // Nobody finds these any more, so deleting them may take its time.
        for name in away {
            collected.bytes += size(store.trash(), name.as_bytes(), &mut HashSet::new())?;
            store.delete_trash(name.as_bytes())?;
        }
        store.sweep()?;
        Ok(collected)
    }

    /// What [`collect`](Self::collect) would remove at this moment. Changes nothing.
    ///
    /// # Errors
    /// As [`collect`](Self::collect).
    pub fn preview(&self) -> Result<Collected> {
        let mut collected = Collected::default();
        let (store, content) = (&self.store, Content::open(&self.store)?);
        let lock = store.hold(FlockArg::LockExclusive)?;
        let used = Used::find(store, &content, &lock, false)?;
        for garbage in self.garbage(&content, &used)? {
            collected.count(&garbage);
            let (from, name) = garbage.place(store, &content);
            collected.bytes += size(from, name.as_bytes(), &mut HashSet::new())?;
        }
        Ok(collected)
    }

    fn garbage(&self, content: &Content, used: &Used) -> Result<Vec<Garbage>> {
        let mut garbage = Vec::new();
        for digest in content.list()? {
            if !used.blobs.contains(&digest) && self.is_old(content.stat(&digest)?.as_ref()) {
                garbage.push(Garbage::Blob(digest));
            }
        }
        let store = &self.store;
        for key in store.keys()? {
            if used.has_layer(&key) {
                continue;
            }
            if self.is_old(files::stat(store.directory(), key.as_bytes()).attempt(|| store.failed("read"))?.as_ref()) {
                garbage.push(Garbage::Layer(key));
            }
        }
        Ok(garbage)
    }

    fn is_old(&self, stat: Option<&FileStat>) -> bool {
        let Some(stat) = stat else { return false };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // The time of change is when it got its name, whatever the file's own times say.
        let changed = Duration::from_secs(u64::try_from(stat.st_ctime).unwrap_or(0));
        self.grace.is_zero() || now.saturating_sub(changed) >= self.grace
    }
}

impl Collected {
    fn count(&mut self, garbage: &Garbage) {
        match garbage {
            Garbage::Blob(_) => self.blobs += 1,
            Garbage::Layer(_) => self.layers += 1,
        }
    }
}

enum Garbage {
    Blob(Digest),
    Layer(String),
}

impl Garbage {
    fn place<'a>(&self, store: &'a Store, content: &'a Content) -> (&'a OwnedFd, String) {
        match self {
            Self::Blob(digest) => content.place(digest),
            Self::Layer(key) => (store.directory(), key.clone()),
        }
    }
}

/// The bytes on the disk of `name` and what is below. A file of several names counts for the first.
pub(crate) fn size(parent: &OwnedFd, name: &[u8], seen: &mut HashSet<(u64, u64)>) -> Result<u64> {
    let mut bytes = 0;
    let counted = files::walk(parent, name, &mut |stat| {
        let single = files::file_type(stat) == SFlag::S_IFDIR || stat.st_nlink < 2;
        if single || seen.insert((stat.st_dev, stat.st_ino)) {
            bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        }
    });
    match counted {
        // Somebody removes it at this moment.
        Ok(()) | Err(Errno::ENOENT | Errno::ESTALE) => Ok(bytes),
        Err(errno) => Err(Error::os(format!("cannot measure {}", name.escape_ascii()), errno)),
    }
}

/// What is used.
#[derive(Debug, Default)]
pub(crate) struct Used {
    pub(crate) blobs: HashSet<Digest>,
    pub(crate) layers: HashSet<String>,
}

impl Used {
    /// Leases are read before names: whoever works on an image names it first and ends the lease second.
    pub(crate) fn find(store: &Store, content: &Content, lock: &StoreLock, remove: bool) -> Result<Self> {
        let mut used = Self::default();
        for item in store.leased(lock, remove)? {
            match item.parse::<Digest>() {
                Ok(digest) => used.blobs.insert(digest),
                Err(_) => used.layers.insert(item),
            };
        }
        for record in store.records()? {
            used.extend(Self::of(content, &record).map_err(|error| {
                let what = format!("nothing is collected before {} is repaired or removed", record.name);
                error.within(what)
            })?);
        }
        used.referrers(content)?;
        Ok(used)
    }

    /// Whether a layer of this key is used, however it was unpacked.
    pub(crate) fn has_layer(&self, key: &str) -> bool {
        self.layers.contains(key) || self.layers.contains(base(key))
    }

    /// What a name leads to.
    pub(crate) fn of(content: &Content, record: &Record) -> Result<Self> {
        let mut used = Self::default();
        used.follow(content, &record.digest, &record.media_type, 0)?;
        Ok(used)
    }

    fn extend(&mut self, other: Self) {
        self.blobs.extend(other.blobs);
        self.layers.extend(other.layers);
    }

    fn follow(&mut self, content: &Content, digest: &Digest, media_type: &str, depth: usize) -> Result<()> {
        let limits = Limits::default();
        if !self.blobs.insert(digest.clone()) {
            return Ok(());
        }
        if depth > limits.index_depth {
            return Err(Error::limit(format!("indexes within indexes, more than {} deep", limits.index_depth)));
        }
        let what = format!("{digest}");
        match kind(media_type) {
            Kind::Index => {
                let bytes = needed(content, digest, limits.manifest_bytes)?;
                for child in Index::parse(&bytes, media_type, &what)?.manifests {
                    let digest = child.digest()?;
                    // An index may list what was never brought here.
                    if content.stat(&digest)?.is_some() {
                        self.follow(content, &digest, &child.media_type, depth + 1)?;
                    }
                }
            }
            Kind::Manifest => {
                let bytes = needed(content, digest, limits.manifest_bytes)?;
                let manifest = Manifest::parse(&bytes, media_type, &what)?;
                for descriptor in manifest.layers.iter().chain([&manifest.config]) {
                    self.blobs.insert(descriptor.digest()?);
                }
                if kind(&manifest.config.media_type) == Kind::Config {
                    let digest = manifest.config.digest()?;
                    let raw = match manifest.config.embedded(&what)? {
                        Some(raw) => raw,
                        None => needed(content, &digest, limits.config_bytes)?,
                    };
                    let config = ImageConfig::parse_named(raw.into(), &format!("image configuration {digest}"))?;
                    self.layers.extend(Keys::of_diff_ids(config.diff_ids()).all());
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Adds what has something used as its subject, and what has that, and so on.
    fn referrers(&mut self, content: &Content) -> Result<()> {
        let mut by_subject: HashMap<Digest, Vec<(Digest, String)>> = HashMap::new();
        for digest in content.list()? {
            if self.blobs.contains(&digest) {
                continue;
            }
            if let Some((subject, media_type)) = subject_of(content, &digest)? {
                by_subject.entry(subject).or_default().push((digest, media_type));
            }
        }
        let mut pending: Vec<Digest> =
            by_subject.keys().filter(|subject| self.blobs.contains(subject)).cloned().collect();
        while let Some(subject) = pending.pop() {
            for (digest, media_type) in by_subject.remove(&subject).unwrap_or_default() {
                // One that is damaged is nobody's to miss.
                let mut below = Self::default();
                if below.follow(content, &digest, &media_type, 0).is_ok() {
                    self.extend(below);
                    pending.push(digest);
                }
            }
        }
        Ok(())
    }
}

/// The key without what says how the layer was unpacked.
pub(crate) fn base(key: &str) -> &str {
    key.split('.').next().unwrap_or(key)
}

fn needed(content: &Content, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
    content.read(digest, limit)?.ok_or_else(|| Error::format(format!("blob {digest} is missing or damaged")))
}

/// The subject and the type of a blob that is a manifest or an index with a subject.
pub(crate) fn subject_of(content: &Content, digest: &Digest) -> Result<Option<(Digest, String)>> {
    let limit = Limits::default().manifest_bytes;
    let small = content.stat(digest)?.is_some_and(|stat| u64::try_from(stat.st_size).is_ok_and(|size| size <= limit));
    if !small || content.first_byte(digest)? != Some(b'{') {
        return Ok(None);
    }
    let Some(bytes) = content.read(digest, limit)? else { return Ok(None) };
    // A blob may be anything, so what is no such document is no error.
    let Ok(value) = json::parse(&bytes, "blob") else { return Ok(None) };
    let text = |value: Option<&serde_json::Value>| value.and_then(|value| value.as_str()).map(str::to_owned);
    let subject = text(value.get("subject").and_then(|subject| subject.get("digest")));
    let Some(subject) = subject.and_then(|subject| subject.parse().ok()) else { return Ok(None) };
    let media_type = text(value.get("mediaType")).unwrap_or_else(|| {
        let index = value.get("manifests").is_some();
        (if index { crate::document::OCI_INDEX } else { crate::document::OCI_MANIFEST }).to_owned()
    });
    Ok(Some((subject, media_type)))
}
