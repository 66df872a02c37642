//! An opened image: manifest, configuration and layers of one platform.
//!
//! Job: the crate's front door, `Image::open`. Everything small is read and verified here; layers are only described, and
//! verified when they are unpacked. Leaves out pulling and pushing (`registry`) and changing images (`edit`).

use crate::blobs::{Blobs, Extent, blob_name, give};
use crate::changeset::Tree;
use crate::document::Descriptor;
use crate::layout::Chosen;
use crate::lease::Lease;
use crate::names::Record;
use crate::source::Source;
use crate::{Digest, Error, ImageConfig, Limits, Platform, ProcessSettings, Result, Store, docker, layout};
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// An image, opened and ready to unpack. Cloning is cheap.
///
/// ```no_run
/// use keelbox_image_spec::{Image, Store};
/// let image = Image::open("oci:./debian:12")?;
/// println!("{} for {}", image.manifest_digest(), image.config().platform());
/// let unpacked = image.unpack(&Store::open("/var/lib/keelbox")?)?;
/// for layer in unpacked.layers() {
///     println!("{}", layer.path().display());
/// }
/// # Ok::<(), keelbox_image_spec::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Image(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    blobs: Blobs,
    name: Option<String>,
    raw_manifest: Arc<[u8]>,
    manifest_digest: Digest,
    media_type: String,
    config: ImageConfig,
    /// Its digest, and where it lies among the blobs.
    config_blob: (Digest, String),
    layers: Vec<Layer>,
    limits: Limits,
    /// The store that it is from.
    home: Option<Store>,
    /// What keeps the blobs there.
    _lease: Option<Lease>,
    /// All layers as one tree without contents, once somebody has asked.
    merged: OnceLock<Arc<Tree>>,
    /// Layers that are still being downloaded.
    #[cfg(feature = "registry")]
    arrivals: Option<Arc<crate::arrivals::Arrivals>>,
}

/// One layer of an image, not yet unpacked.
#[derive(Clone, Debug)]
pub struct Layer {
    digest: Digest,
    diff_id: Digest,
    size: u64,
    media_type: String,
    /// Where its blob lies among the image's.
    pub(crate) path: String,
}

impl Layer {
    fn of(descriptor: &Descriptor, diff_id: &Digest, path: String) -> Result<Self> {
        Ok(Self {
            digest: descriptor.digest()?,
            diff_id: diff_id.clone(),
            size: descriptor.size,
            media_type: descriptor.media_type.clone(),
            path,
        })
    }

    /// A layer that a store has.
    pub(crate) fn made(digest: Digest, diff_id: Digest, size: u64, media_type: &str) -> Self {
        let path = blob_name(&digest);
        Self { digest, diff_id, size, media_type: media_type.to_owned(), path }
    }

    /// The digest of the blob, as the manifest has it.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The digest of the uncompressed layer, as the configuration has it.
    #[must_use]
    pub fn diff_id(&self) -> &Digest {
        &self.diff_id
    }

    /// Bytes of the blob.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The media type, as the manifest has it. The blob's own first bytes decide how it is read.
    #[must_use]
    pub fn media_type(&self) -> &str {
        &self.media_type
    }
}

/// How to open an image, when the defaults of [`Image::open`] do not fit.
///
/// ```no_run
/// use keelbox_image_spec::{OpenOptions, Platform};
/// let image = OpenOptions::new().platform(Platform::parse("linux/arm64")?).open("oci:./debian:12")?;
/// # Ok::<(), keelbox_image_spec::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct OpenOptions {
    platform: Platform,
    limits: Limits,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self { platform: Platform::host(), limits: Limits::default() }
    }
}

impl OpenOptions {
    /// The options [`Image::open`] uses.
    pub fn new() -> Self {
        Self::default()
    }

    /// The machine the image should run on. Default: [`Platform::host`].
    pub fn platform(mut self, platform: Platform) -> Self {
        self.platform = platform;
        self
    }

    /// What the image may cost, also when it is unpacked later. Default: [`Limits::default`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Opens the image `source`, written as [`Image::open`] takes it.
    ///
    /// # Errors
    /// As [`Image::open`].
    pub fn open(&self, source: &str) -> Result<Image> {
        match Source::parse(source)? {
            Source::Directory { path, name } => self.layout(Blobs::open_directory(&path)?, name.as_deref()),
            Source::OciArchive { path, name } => self.layout(self.archive(&path)?, name.as_deref()),
            Source::DockerArchive { path, name } => self.docker(self.archive(&path)?, name.as_deref()),
            Source::Archive { path, name } => {
                let blobs = self.archive(&path)?;
                if blobs.has("oci-layout") {
                    self.layout(blobs, name.as_deref())
                } else {
                    self.docker(blobs, name.as_deref())
                }
            }
        }
    }

    fn archive(&self, path: &Path) -> Result<Blobs> {
        Blobs::open_archive(path, &self.limits)
    }

    fn layout(&self, blobs: Blobs, name: Option<&str>) -> Result<Image> {
        let chosen = layout::choose(&blobs, name, &self.platform, &self.limits)?;
        self.chosen(blobs, chosen, None, None)
    }

    /// The image that a name of `store` stands for.
    pub(crate) fn recorded(&self, store: &Store, record: &Record) -> Result<Image> {
        self.manifest(store, &record.media_type, &record.digest, record.size, Some(record.name.to_string()))
    }

    /// The image of a manifest in `store`.
    pub(crate) fn manifest(
        &self,
        store: &Store,
        media_type: &str,
        digest: &Digest,
        size: u64,
        name: Option<String>,
    ) -> Result<Image> {
        let blobs = Blobs::open_directory(store.path())?;
        // The top first, then what it turns out to need. A part that was collected between the two is found missing later.
        let mut lease = match store.lease([digest.to_string()]) {
            Ok(lease) => Some(lease),
            // A full disk must not keep anybody from using what is there.
            Err(error) if is_full(&error) => None,
            Err(error) => return Err(error),
        };
        let descriptor = Descriptor::new(media_type, digest, size);
        let chosen = layout::resolve(&blobs, descriptor, name, &self.platform, &self.limits)?;
        if let Some(lease) = &mut lease {
            let below = chosen.manifest.layers.iter().chain([&chosen.manifest.config]);
            match lease.add(below.map(|below| below.digest.clone()).chain([chosen.digest.to_string()])) {
                Err(error) if !is_full(&error) => return Err(error),
                _ => {}
            }
        }
        self.chosen(blobs, chosen, Some(store), lease)
    }

    fn chosen(&self, blobs: Blobs, chosen: Chosen, home: Option<&Store>, lease: Option<Lease>) -> Result<Image> {
        let place = format!("manifest {} in {}", chosen.digest, blobs.path().display());
        let descriptor = &chosen.manifest.config;
        if crate::document::kind(&descriptor.media_type) != crate::document::Kind::Config {
            return Err(Error::unsupported(format!(
                "{place}: configuration of type {:?} is not an image's",
                descriptor.media_type
            )));
        }
        self.count_layers(chosen.manifest.layers.len(), &place)?;
        let raw = blobs.verified(descriptor, self.limits.config_bytes, "image configuration")?;
        let config = ImageConfig::parse_named(
            raw,
            &format!("image configuration {} in {}", descriptor.digest, blobs.path().display()),
        )?;
        if config.diff_ids().len() != chosen.manifest.layers.len() {
            let counts = format!("{} layers but {} diff_ids", chosen.manifest.layers.len(), config.diff_ids().len());
            return Err(Error::format(format!("{place}: {counts}")));
        }
        let layers = chosen
            .manifest
            .layers
            .iter()
            .zip(config.diff_ids())
            .map(|(descriptor, diff_id)| Layer::of(descriptor, diff_id, blob_name(&descriptor.digest()?)));
        Ok(Image(Arc::new(Inner {
            layers: layers.collect::<Result<_>>()?,
            blobs,
            name: chosen.name,
            raw_manifest: chosen.raw,
            manifest_digest: chosen.digest,
            media_type: chosen.media_type,
            config_blob: (descriptor.digest()?, blob_name(&descriptor.digest()?)),
            config,
            limits: self.limits,
            home: home.cloned(),
            _lease: lease,
            merged: OnceLock::new(),
            #[cfg(feature = "registry")]
            arrivals: None,
        })))
    }

    /// The image `name` of a docker archive.
    pub(crate) fn docker(&self, blobs: Blobs, name: Option<&str>) -> Result<Image> {
        let saved = docker::choose(&blobs, name, &self.limits)?;
        self.count_layers(saved.paths.len(), &blobs.path().display().to_string())?;
        let described = saved.manifest.layers.iter().zip(saved.paths).zip(saved.config.diff_ids());
        let layers = described.map(|((descriptor, path), diff_id)| Layer::of(descriptor, diff_id, path));
        Ok(Image(Arc::new(Inner {
            layers: layers.collect::<Result<_>>()?,
            blobs,
            name: saved.name,
            manifest_digest: Digest::of(&saved.raw),
            raw_manifest: saved.raw,
            media_type: saved.media_type.to_owned(),
            config_blob: (saved.manifest.config.digest()?, saved.config_path),
            config: saved.config,
            limits: self.limits,
            home: None,
            _lease: None,
            merged: OnceLock::new(),
            #[cfg(feature = "registry")]
            arrivals: None,
        })))
    }

    fn count_layers(&self, count: usize, place: &str) -> Result<()> {
        if count > self.limits.layers {
            return Err(Error::limit(format!("{place}: {count} layers, more than {}", self.limits.layers)));
        }
        Ok(())
    }
}

fn is_full(error: &Error) -> bool {
    use nix::errno::Errno::{EDQUOT, ENOSPC};
    [ENOSPC, EDQUOT].iter().any(|full| error.kind() == crate::ErrorKind::Os(*full as i32))
}

impl Image {
    /// Opens an image on this machine's disk, for this machine's platform.
    ///
    /// | `source` | is |
    /// |---|---|
    /// | `oci:DIRECTORY[:NAME]` | an OCI layout |
    /// | `oci-archive:FILE[:NAME]` | a tar archive of an OCI layout |
    /// | `docker-archive:FILE[:NAME]` | what `docker save` writes |
    /// | a path, perhaps with `:NAME` | any of these |
    ///
    /// `NAME` is a reference name such as `12` or `debian:12`, or `@` and a digest. Without it there must be one image.
    /// In an index the best manifest for the platform is taken; a single image for another platform is opened as well.
    ///
    /// # Errors
    /// `NotFound`, `Ambiguous` (naming what there is), `Format`, `DigestMismatch`, `SizeMismatch`, `Limit`, or
    /// `Unsupported` for registries (the feature `registry` has `Image::pull`), artifacts and compressed archives.
    pub fn open(source: &str) -> Result<Self> {
        OpenOptions::new().open(source)
    }

    /// The image configuration.
    #[must_use]
    pub fn config(&self) -> &ImageConfig {
        &self.0.config
    }

    /// The layers, bottom first.
    #[must_use]
    pub fn layers(&self) -> &[Layer] {
        &self.0.layers
    }

    /// The digest of the manifest. A docker archive has no manifest; then of the one made from it, always the same.
    #[must_use]
    pub fn manifest_digest(&self) -> &Digest {
        &self.0.manifest_digest
    }

    /// The manifest, byte for byte.
    #[must_use]
    pub fn raw_manifest(&self) -> &[u8] {
        &self.0.raw_manifest
    }

    /// The media type of the manifest.
    #[must_use]
    pub fn media_type(&self) -> &str {
        &self.0.media_type
    }

    /// The name the archive or layout gives the image. The content decides it, so never use it as a key.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    /// The process the image describes.
    ///
    /// # Errors
    /// As [`ProcessSettings::from_config`].
    pub fn process(&self) -> Result<ProcessSettings> {
        ProcessSettings::from_config(&self.0.config)
    }

    /// The manifest as `oci-spec`'s type, for programs that already use it.
    ///
    /// # Errors
    /// `Format` where that type is stricter than this crate.
    pub fn to_oci_spec(&self) -> Result<oci_spec::image::ImageManifest> {
        oci_spec::image::ImageManifest::from_reader(self.raw_manifest())
            .map_err(|_| Error::format("image manifest does not fit the type of oci-spec"))
    }

    /// The store that it was opened from by name or digest; `None` for layouts and archives.
    #[must_use]
    pub fn store(&self) -> Option<&Store> {
        self.0.home.as_ref()
    }

    pub(crate) fn merged(&self) -> Option<&Arc<Tree>> {
        self.0.merged.get()
    }

    /// Keeps what somebody has found out about its layers.
    pub(crate) fn remember(&self, merged: Arc<Tree>) {
        // Whoever was first found out the same.
        let _ = self.0.merged.set(merged);
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// The blobs below the manifest, each once: the configuration, then the layers.
    pub(crate) fn blobs(&self) -> Vec<(Digest, u64)> {
        let config = (self.0.config_blob.0.clone(), self.config().raw().len() as u64);
        let mut blobs = vec![config];
        for layer in self.layers() {
            if !blobs.iter().any(|(digest, _)| digest == layer.digest()) {
                blobs.push((layer.digest().clone(), layer.size()));
            }
        }
        blobs
    }

    /// A reader for one of the [blobs](Self::blobs).
    pub(crate) fn open_blob(&self, digest: &Digest) -> Result<Extent> {
        match self.layers().iter().find(|layer| layer.digest() == digest) {
            Some(layer) => self.blob(layer),
            None => self.0.blobs.extent(&self.0.config_blob.1),
        }
    }

    /// Hands one of the [blobs](Self::blobs) over, piece by piece.
    pub(crate) fn copy_blob(&self, digest: &Digest, write: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        if *digest == self.0.config_blob.0 {
            return write(self.config().raw());
        }
        give(self.open_blob(digest)?, &format!("blob {digest}"), write)
    }

    /// The same image, whose layers may be still on their way.
    #[cfg(feature = "registry")]
    pub(crate) fn arriving(self, arrivals: &Arc<crate::arrivals::Arrivals>) -> Self {
        let inner = Arc::into_inner(self.0);
        // Only called on what was opened a moment ago.
        let inner = inner.expect("an image that nobody else has");
        Self(Arc::new(Inner { arrivals: Some(Arc::clone(arrivals)), ..inner }))
    }

    /// The bytes of a layer's blob.
    pub(crate) fn blob(&self, layer: &Layer) -> Result<Extent> {
        #[cfg(feature = "registry")]
        if let Some(arrivals) = &self.0.arrivals
            && let Some((file, arrival)) = arrivals.begin(layer.digest())?
        {
            return Ok(Extent::arriving(file, layer.size(), arrival));
        }
        self.0.blobs.extent(&layer.path)
    }
}
