//! From an image to layer directories in a store.
//!
//! Job: decide what is there already, extract the rest several layers at a time, let layers that depend on lower ones look
//! at them, and commit all of them at once. Nothing gets its final name before its digests are verified. Leaves out
//! mounting. Oldest kernel: 5.8 for whiteouts by ordinary users.

mod attributes;
mod chunk;
mod confine;
mod copy_up;
mod devices;
mod disk;
mod extract;
mod finish;
pub(crate) mod inflate;
mod links;
pub(crate) mod note;
pub(crate) mod pipeline;
mod policy;
mod settle;
pub(crate) mod tree;

pub(crate) use attributes::{Dialect, is_allowed};
pub(crate) use inflate::{Format, Inflate};

use crate::done::Done;
use crate::error::Attempt;
use crate::store::{Store, Temporary, shard};
use crate::tar::TarReader;
use crate::view::Layers;
use crate::{Digest, Error, Image, Layer, Result, digest, files};
use attributes::Manner;
use extract::Extractor;
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{fsync, syncfs};
use policy::{Breaches, Policy};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use tree::{Hides, ROOT};

/// What must be on the disk, and not only in the page cache, when unpacking returns.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Durability {
    /// Nothing: a power failure may leave layers that look complete and are not. For stores in memory or thrown away.
    None,
    /// Every layer of the image, by one `syncfs(2)` before they get their names. The default.
    #[default]
    Commit,
}

/// How to unpack an image, when the defaults of [`Image::unpack`] do not fit.
///
/// ```no_run
/// use keelbox_image_spec::{Durability, Image, Store, UnpackOptions};
/// let image = Image::open("oci:./debian:12")?;
/// let unpacked = UnpackOptions::new().durability(Durability::None).unpack(&image, &Store::open("/tmp/store")?)?;
/// # Ok::<(), keelbox_image_spec::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct UnpackOptions {
    durability: Durability,
    parallel: Option<usize>,
    policy: Policy,
}

impl UnpackOptions {
    /// The options [`Image::unpack`] uses.
    pub fn new() -> Self {
        Self::default()
    }

    /// What must be on disk at the end. Default: [`Durability::Commit`].
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// How many layers to unpack at a time, at least 1. Default: as many as there are processors, at most 8.
    pub fn parallel(mut self, layers: usize) -> Self {
        self.parallel = Some(layers.max(1));
        self
    }

    /// What becomes of a directory that is a symbolic link in a layer below. Default: [`LinkedParent::Follow`].
    pub fn linked_parents(mut self, choice: LinkedParent) -> Self {
        self.policy.linked_parents = choice;
        self
    }

    /// What becomes of devices. Default: [`Devices::Create`], for which `CAP_MKNOD` is needed.
    pub fn devices(mut self, choice: Devices) -> Self {
        self.policy.devices = choice;
        self
    }

    /// Where owners are kept. Default: [`Ownership::Files`], for which root is needed.
    pub fn ownership(mut self, choice: Ownership) -> Self {
        self.policy.ownership = choice;
        self
    }

    /// Refuses, with an error of kind `Format`, layers that have a path twice, which the specification forbids, or a name
    /// with `..` in it. Default: the last of two counts, names stay inside, and the layer's notes tell of both.
    pub fn strict(mut self) -> Self {
        self.policy.breaches = Breaches::Refuse;
        self
    }

    /// Where tools differ, what Docker and podman make of an image: [`LinkedParent::Replace`]. Their loss of what layers
    /// below say about a directory, and the deleted files that come back, are not copied.
    pub fn docker_compat(self) -> Self {
        self.linked_parents(LinkedParent::Replace)
    }

    /// Unpacks `image` into `store`.
    ///
    /// # Errors
    /// As [`Image::unpack`], and what the choices refuse.
    pub fn unpack(&self, image: &Image, store: &Store) -> Result<Unpacked> {
        let keys = Keys::of(image.config().diff_ids(), &self.policy);
        // Named before it is looked for, so that no collector takes what is found.
        let lease = store.lease(keys.all())?;
        let mut found = keys.find(store)?;
        if found.iter().any(Option::is_none) {
            let _locks = lock(image, store, &found)?;
            // Somebody else may have finished while we waited.
            found = keys.find(store)?;
            if found.iter().any(Option::is_none) {
                self.unpack_missing(image, store, &keys, &mut found)?;
                // Garbage of crashed runs is nobody's fault here, so it is no error either.
                drop(store.sweep());
            }
        }
        if self.policy.refuses() {
            // What is there already may have been unpacked by somebody who accepts more.
            for present in found.iter().flatten() {
                let notes = note::parse(&store.index(&present.key)?)?;
                self.policy.check(&notes).map_err(|error| error.within(format_args!("layer {}", present.key)))?;
            }
        }
        Unpacked::new(store, found.into_iter().flatten().collect(), lease)
    }

    fn unpack_missing(&self, image: &Image, store: &Store, keys: &Keys, found: &mut [Option<Present>]) -> Result<()> {
        let missing: Vec<usize> = (0..found.len()).filter(|index| found[*index].is_none()).collect();
        let mut extracted = self.extract_all(image, store, &missing)?;
        let mut below = Stack::default();
        let mut commits: Vec<(String, Temporary)> = Vec::new();
        for (index, layer) in image.layers().iter().enumerate() {
            if found[index].is_none() {
                let same = commits.iter().position(|(key, _)| *key == keys.own[index]);
                let (present, root) = match (extracted[index].take(), same) {
                    // The same layer again, which means the same wherever it lies.
                    (None, Some(same)) => {
                        (found.iter().flatten().find(|present| present.key == commits[same].0).cloned(), None)
                    }
                    (ready, _) => {
                        let ready = match ready {
                            Some(ready) => ready,
                            None => extract(image, layer, store, self.policy)?,
                        };
                        let (present, temporary, root) = ready.complete(layer, keys, index, &below)?;
                        commits.push((present.key.clone(), temporary));
                        (Some(present), Some(root))
                    }
                };
                found[index] = present;
                if let (Some(root), Some(present)) = (root, &found[index]) {
                    below.push(root, &present.done);
                }
            } else if let Some(present) = &found[index] {
                below.push(Arc::new(store.layer_directory(&present.key)?), &present.done);
            }
        }
        self.commit(store, commits)
    }

    fn commit(&self, store: &Store, commits: Vec<(String, Temporary)>) -> Result<()> {
        let failed = || format!("cannot write the store {} to disk", store.path().display());
        if self.durability == Durability::Commit {
            syncfs(store.directory()).attempt(failed)?;
        }
        for (key, temporary) in commits {
            temporary.commit(&key)?;
        }
        if self.durability == Durability::Commit {
            fsync(store.directory()).attempt(failed)?;
        }
        Ok(())
    }

    /// Extracts the layers at `missing`, the largest first, and repeated ones once.
    fn extract_all<'i>(
        &self,
        image: &'i Image,
        store: &Store,
        missing: &[usize],
    ) -> Result<Vec<Option<Extracted<'i>>>> {
        let mut seen = std::collections::HashSet::new();
        let mut jobs: Vec<usize> =
            missing.iter().copied().filter(|index| seen.insert(image.layers()[*index].diff_id())).collect();
        jobs.sort_by_key(|index| std::cmp::Reverse(image.layers()[*index].size()));
        let processors = || thread::available_parallelism().map_or(1, std::num::NonZero::get).min(8);
        let workers = self.parallel.unwrap_or_else(processors).min(jobs.len());
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let results = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    while let Some(index) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if failed.load(Ordering::Relaxed) {
                            break;
                        }
                        let result = extract(image, &image.layers()[*index], store, self.policy);
                        failed.fetch_or(result.is_err(), Ordering::Relaxed);
                        results.lock().unwrap_or_else(PoisonError::into_inner).push((*index, result));
                    }
                });
            }
        });
        let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.sort_by_key(|(index, _)| *index);
        let mut extracted: Vec<Option<Extracted<'i>>> = image.layers().iter().map(|_| None).collect();
        for (index, result) in results {
            extracted[index] = Some(result?);
        }
        Ok(extracted)
    }
}

impl Image {
    /// Unpacks the image into `store`: one directory per layer, ready for overlayfs. A layer that is there already costs
    /// a few system calls. Safe to call from several threads and processes at once; an interrupted call leaves nothing
    /// that counts.
    ///
    /// Root gives every file the owner and mode of the image and makes devices. An ordinary user owns all files, and what
    /// the user cannot make is in the layer's [notes](UnpackedLayer::notes). Neither the process's umask nor its working
    /// directory is touched or used.
    ///
    /// # Errors
    /// `DigestMismatch`, `SizeMismatch`, `Format` for archives that are malformed or could be read in two ways, `Limit`,
    /// `Unsupported` for layers of an unknown kind and for file systems that cannot hold a layer, and what the kernel
    /// says. The store is then as it was.
    pub fn unpack(&self, store: &Store) -> Result<Unpacked> {
        UnpackOptions::new().unpack(self, store)
    }
}

/// Holds the locks of the layers that are missing, always in the same order.
fn lock(image: &Image, store: &Store, found: &[Option<Present>]) -> Result<Vec<nix::fcntl::Flock<OwnedFd>>> {
    let missing = image.layers().iter().zip(found).filter(|(_, found)| found.is_none());
    let mut shards: Vec<u8> = missing.map(|(layer, _)| shard(layer.diff_id())).collect();
    shards.sort_unstable();
    shards.dedup();
    shards.into_iter().map(|number| store.lock(number)).collect()
}

/// The keys that the layers of an image may have.
pub(crate) struct Keys {
    own: Vec<String>,
    chain: Vec<String>,
}

impl Keys {
    /// The keys of layers that are unpacked as the defaults say. Others have these keys, a dot, and something.
    pub(crate) fn of_diff_ids(own: &[Digest]) -> Self {
        Self::of(own, &Policy::default())
    }

    fn of(own: &[Digest], policy: &Policy) -> Self {
        let key = |prefix: &str, digest: &Digest, suffix: &str| match digest.algorithm() {
            crate::Algorithm::Sha256 => format!("{prefix}-{}{suffix}", digest.hex()),
            other => format!("{prefix}-{}-{}{suffix}", other.name(), digest.hex()),
        };
        let (alone, dependent) = (policy.own_suffix(), policy.chain_suffix());
        let chain = digest::chain_ids(own);
        Self {
            own: own.iter().map(|id| key("diffid", id, &alone)).collect(),
            chain: chain.iter().map(|id| key("chain", id, &dependent)).collect(),
        }
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = String> + '_ {
        let chain = self.chain.iter().filter(|key| !self.own.contains(key));
        self.own.iter().chain(chain).cloned()
    }

    fn find(&self, store: &Store) -> Result<Vec<Option<Present>>> {
        let one = |key: &String| Ok::<_, Error>(store.done(key)?.map(|done| Present { key: key.clone(), done }));
        self.own.iter().zip(&self.chain).map(|(own, chain)| Ok(one(own)?.or(one(chain)?))).collect()
    }
}

/// A layer that is complete, or is about to be committed.
#[derive(Clone, Debug)]
struct Present {
    key: String,
    done: Done,
}

/// The layers below the current one, top first.
#[derive(Default)]
struct Stack(Vec<Arc<OwnedFd>>);

impl Stack {
    fn push(&mut self, root: Arc<OwnedFd>, done: &Done) {
        if done.root_opaque {
            self.0.clear();
        }
        self.0.insert(0, root);
    }
}

/// A layer whose content is verified and on disk under a temporary name.
struct Extracted<'i> {
    temporary: Temporary,
    extractor: Extractor<'i>,
    dependent: bool,
}

fn extract<'i>(image: &'i Image, layer: &Layer, store: &Store, policy: Policy) -> Result<Extracted<'i>> {
    if crate::document::kind(layer.media_type()) != crate::document::Kind::Layer {
        return Err(Error::unsupported(format!(
            "layer {}: type {:?} cannot be unpacked",
            layer.digest(),
            layer.media_type()
        )));
    }
    let temporary = store.temporary()?;
    let manner = Manner::probe(temporary.directory()?.as_fd(), policy.ownership)?;
    let root = files::open_directory(temporary.directory()?, b"fs").attempt(|| "cannot open the temporary layer")?;
    let limits = image.limits();
    let extracted = pipeline::run(layer, image.blob(layer)?, limits, move |input, surprise| {
        confine::extracting(root.as_fd());
        let mut extractor = Extractor::new(root, manner, policy, limits, leave_umask());
        if let Some(found) = surprise {
            extractor.notes.add(b"", &note::NoteKind::MediaType(found.to_owned()));
        }
        extractor.run(TarReader::new(input, limits))?;
        Ok(extractor)
    });
    let mut extractor = extracted?;
    let dependent = extractor.is_dependent();
    if !dependent {
        extractor.finish().map_err(|error| error.within(format_args!("layer {}", layer.digest())))?;
    }
    Ok(Extracted { temporary, extractor, dependent })
}

/// Gives this thread, which is one of ours, a umask of its own, and makes that 0. False where it may not: then modes are
/// set one by one. The umask of the process is never touched.
fn leave_umask() -> bool {
    let own = unshare(CloneFlags::CLONE_FS);
    if own.is_ok() {
        umask(Mode::empty());
    }
    own != Err(Errno::EPERM) && own.is_ok()
}

impl Extracted<'_> {
    /// Lets the layers below decide what is open, and writes the mark that the layer is complete.
    fn complete(
        mut self,
        layer: &Layer,
        keys: &Keys,
        index: usize,
        below: &Stack,
    ) -> Result<(Present, Temporary, Arc<OwnedFd>)> {
        let place = |error: Error| error.within(format_args!("layer {}", layer.digest()));
        if self.dependent {
            let lower = Layers::new(below.0.clone(), self.extractor.manner.dialect);
            self.extractor.settle(&lower).map_err(place)?;
            self.extractor.finish().map_err(place)?;
        }
        let root = self.extractor.tree.directory(ROOT);
        let done = Done {
            diff_id: layer.diff_id().clone(),
            dialect: self.extractor.manner.dialect,
            root: root
                .and_then(|root| root.metadata.as_ref())
                .map(|metadata| (metadata.mode, metadata.uid, metadata.gid)),
            root_opaque: root.is_some_and(|root| root.hides != Hides::Nothing),
            index_bytes: self.extractor.notes.text().len() as u64,
        };
        if self.extractor.policy.refuses() {
            self.extractor.policy.check(&note::parse(self.extractor.notes.text())?).map_err(place)?;
        }
        self.temporary.complete(self.extractor.notes.text(), &done).map_err(place)?;
        let key = if self.dependent { &keys.chain[index] } else { &keys.own[index] };
        Ok((Present { key: key.clone(), done }, self.temporary, Arc::clone(self.extractor.disk.root())))
    }
}

mod result;
pub use policy::{Devices, LinkedParent, Ownership};
pub use result::{RootMetadata, Unpacked, UnpackedLayer};
