//! What a store has, and the room that it takes.
//!
//! Job: the list of images with what a table of them shows, and bytes on the disk by image: alone, and shared with others. A
//! file of several names counts once. Leaves out making room, which is `collect.rs`. Oldest kernel: any supported one.

use crate::collect::{Used, base, size};
use crate::content::Content;
use crate::error::Attempt;
use crate::names::Record;
use crate::store::Store;
use crate::{Digest, Platform, Reference, Result, files};
use nix::fcntl::FlockArg;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::os::fd::AsFd;

/// A name in a store and what it stands for.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct StoredImage {
    /// The name.
    pub name: Reference,
    /// The digest of its manifest, or of an index when it was copied for several platforms.
    pub digest: Digest,
    /// The media type of that.
    pub media_type: String,
    /// The platform of the image; `None` for an index and for what is no image.
    pub platform: Option<Platform>,
}

/// The room that a store takes, in bytes on the disk.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Usage {
    /// All of it.
    pub bytes: u64,
    /// Manifests, configurations and compressed layers.
    pub blobs: u64,
    /// Unpacked layers.
    pub layers: u64,
    /// What no name and no running process leads to, which a [`Collector`](crate::Collector) removes.
    pub unused: u64,
    /// Downloads and unpackings that are not complete, and what is being deleted.
    pub passing: u64,
    /// By image; several names of one image are one.
    pub images: Vec<ImageUsage>,
}

/// The room that one image takes, in bytes on the disk, unpacked layers included.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ImageUsage {
    /// Its names, sorted.
    pub names: Vec<Reference>,
    /// The digest of its manifest or index.
    pub digest: Digest,
    /// What no other image of the store needs.
    pub unique: u64,
    /// What others need as well.
    pub shared: u64,
}

impl ImageUsage {
    /// Both together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.unique + self.shared
    }
}

/// A blob or an unpacked layer.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Item {
    Blob(Digest),
    Layer(String),
}

impl Used {
    fn items(self) -> impl Iterator<Item = Item> {
        self.blobs.into_iter().map(Item::Blob).chain(self.layers.into_iter().map(Item::Layer))
    }
}

impl Store {
    /// The images of this store, sorted by name. [`get`](Self::get) opens one.
    ///
    /// ```
    /// let directory = tempfile::tempdir()?;
    /// let store = keelbox_image_spec::Store::open(directory.path())?;
    /// for image in store.images()? {
    ///     println!("{} {}", image.name.familiar(), image.digest);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Format` for a damaged name, which [`repair`](Self::repair) removes, and what the kernel says.
    pub fn images(&self) -> Result<Vec<StoredImage>> {
        let one = |record: Record| StoredImage {
            platform: record.platform.parse().ok(),
            name: record.name,
            digest: record.digest,
            media_type: record.media_type,
        };
        Ok(self.records()?.into_iter().map(one).collect())
    }

    /// Measures the store, by image.
    ///
    /// ```
    /// let directory = tempfile::tempdir()?;
    /// let usage = keelbox_image_spec::Store::open(directory.path())?.usage()?;
    /// assert_eq!(usage.unused, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Collector::collect`](crate::Collector::collect).
    pub fn usage(&self) -> Result<Usage> {
        let content = Content::open(self)?;
        // Leases are only read while nobody writes them; what is measured may change meanwhile, as in every directory.
        let used = {
            let lock = self.hold(FlockArg::LockExclusive)?;
            Used::find(self, &content, &lock, false)?
        };
        let mut seen = HashSet::new();
        let mut usage = Usage::default();
        let mut sizes = HashMap::new();
        for digest in content.list()? {
            let (directory, name) = content.place(&digest);
            let bytes = size(directory, name.as_bytes(), &mut seen)?;
            usage.blobs += bytes;
            usage.unused += if used.blobs.contains(&digest) { 0 } else { bytes };
            sizes.insert(Item::Blob(digest), bytes);
        }
        for name in files::names(self.directory().as_fd()).attempt(|| self.failed("list"))? {
            let bytes = size(self.directory(), name.to_bytes(), &mut seen)?;
            let Some(key) = name.into_string().ok().filter(|key| !key.starts_with('.')) else {
                usage.passing += bytes;
                continue;
            };
            usage.layers += bytes;
            usage.unused += if used.has_layer(&key) { 0 } else { bytes };
            *sizes.entry(Item::Layer(base(&key).to_owned())).or_insert(0) += bytes;
        }
        for name in ["ingest", "trash"] {
            usage.passing += size(self.root(), name.as_bytes(), &mut seen)?;
        }
        usage.images = self.usage_of_images(&content, &sizes)?;
        usage.bytes = usage.blobs + usage.layers + usage.passing;
        Ok(usage)
    }

    fn usage_of_images(&self, content: &Content, sizes: &HashMap<Item, u64>) -> Result<Vec<ImageUsage>> {
        let mut images: Vec<(ImageUsage, HashSet<Item>)> = Vec::new();
        for record in self.records()? {
            match images.iter_mut().find(|(image, _)| image.digest == record.digest) {
                Some((image, _)) => image.names.push(record.name),
                None => {
                    let items = Used::of(content, &record)?.items().collect();
                    let names = vec![record.name];
                    images.push((ImageUsage { names, digest: record.digest, unique: 0, shared: 0 }, items));
                }
            }
        }
        let mut owners: HashMap<&Item, BTreeSet<usize>> = HashMap::new();
        for (index, (_, items)) in images.iter().enumerate() {
            for item in items {
                owners.entry(item).or_default().insert(index);
            }
        }
        let mut sums = vec![(0, 0); images.len()];
        for (item, owners) in owners {
            let bytes = sizes.get(item).copied().unwrap_or(0);
            for index in &owners {
                let (unique, shared) = &mut sums[*index];
                *(if owners.len() == 1 { unique } else { shared }) += bytes;
            }
        }
        let sum =
            |((image, _), (unique, shared)): ((ImageUsage, _), (u64, u64))| ImageUsage { unique, shared, ..image };
        Ok(images.into_iter().zip(sums).map(sum).collect())
    }
}
