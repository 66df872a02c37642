//! Copying images between places: layouts, archives, stores, registries.
//!
//! Job: what the caller says in words that skopeo's users know, and the way from one place to another. Content keeps its
//! bytes, unless the destination cannot hold it: then manifests are written anew in the other of the two dialects, the
//! configuration and the layers never. Leaves out several platforms and referrers from and to registries. Oldest kernel: any
//! supported one.

mod archive;
mod convert;
mod directory;
mod shipment;

use crate::blobs::Blobs;
use crate::content::Content;
use crate::error::Attempt;
use crate::names::Record;
use crate::source::Source;
use crate::{Digest, Error, Image, Limits, OpenOptions, Platform, Reference, Result, Store};
use shipment::Shipment;
use std::path::PathBuf;

/// Which of an image's platforms to copy.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Platforms {
    /// The best for this one.
    One(Platform),
    /// All, and the index that lists them.
    All,
}

/// In which of the two dialects manifests are written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Form {
    /// OCI for layouts and their archives, elsewhere as they are.
    #[default]
    AsNeeded,
    /// As they are, so that every digest stays.
    Keep,
    /// OCI.
    Oci,
    /// Docker's, schema 2.
    Docker,
}

/// Copies images from place to place.
///
/// | place | is |
/// |---|---|
/// | `oci:DIRECTORY[:NAME]` | an OCI layout |
/// | `oci-archive:FILE[:NAME]` | a tar archive of an OCI layout |
/// | `docker-archive:FILE[:NAME]` | what `docker load` and `podman load` take |
/// | `store:NAME` | a name in the [store](Self::store) |
/// | `docker://NAME` | a registry, with the feature `registry`; by way of the store |
///
/// A layout gets what it did not have, and its list of images is edited under a lock of the directory; an archive is replaced as
/// a whole when it is complete, and the same image makes the same archive, byte for byte.
///
/// ```no_run
/// use keelbox_image_spec::{Copier, Platforms, Store};
/// let store = Store::open("/var/lib/keelbox")?;
/// let copier = Copier::new().store(&store);
/// copier.copy("store:debian:12", "oci:./mirror:debian-12")?;
/// copier.platforms(Platforms::All).copy("oci:./mirror:debian-12", "oci-archive:debian.tar:12")?;
/// # Ok::<(), keelbox_image_spec::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Copier {
    store: Option<Store>,
    platforms: Platforms,
    form: Form,
    limits: Limits,
    #[cfg(feature = "registry")]
    client: crate::registry::Client,
}

impl Default for Copier {
    fn default() -> Self {
        Self {
            store: None,
            platforms: Platforms::One(Platform::host()),
            form: Form::AsNeeded,
            limits: Limits::default(),
            #[cfg(feature = "registry")]
            client: crate::registry::Client::new(),
        }
    }
}

/// A parsed place.
#[derive(Debug)]
enum Place {
    File(Source),
    Store(String),
    Registry(String),
}

impl Place {
    fn parse(text: &str) -> Result<Self> {
        if let Some(name) = text.strip_prefix("store:") {
            return Ok(Self::Store(name.to_owned()));
        }
        if let Some(name) = text.strip_prefix("docker://") {
            return Ok(Self::Registry(name.to_owned()));
        }
        Source::parse(text).map(Self::File)
    }

    /// As [`parse`](Self::parse), but what is to be written has to be said.
    fn destination(text: &str) -> Result<Self> {
        let place = Self::parse(text)?;
        let said = ["oci:", "oci-archive:", "docker-archive:"].iter().any(|transport| text.starts_with(transport));
        if matches!(place, Self::File(_)) && !said {
            let text = format!("cannot copy to {text}: say oci:, oci-archive: or docker-archive: before it");
            return Err(Error::unsupported(text));
        }
        Ok(place)
    }
}

impl Copier {
    /// Copies the image for this machine's platform.
    pub fn new() -> Self {
        Self::default()
    }

    /// The store that `store:` means, and that copies from registries go by way of. Default: none.
    pub fn store(mut self, store: &Store) -> Self {
        self.store = Some(store.clone());
        self
    }

    /// Which platforms to copy. Default: the one of this machine.
    pub fn platforms(mut self, platforms: Platforms) -> Self {
        self.platforms = platforms;
        self
    }

    /// In which dialect manifests are written. Default: [`Form::AsNeeded`].
    pub fn form(mut self, form: Form) -> Self {
        self.form = form;
        self
    }

    /// What the image may cost. Default: [`Limits::default`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How to reach registries. Default: without credentials.
    #[cfg(feature = "registry")]
    pub fn client(mut self, client: crate::registry::Client) -> Self {
        self.client = client;
        self
    }

    /// Copies `source` to `destination`; the digest of the manifest or index that it has there. What a docker archive has, it
    /// has without a manifest: then that of the source.
    ///
    /// # Errors
    /// `Format` for what is no place, `NotFound`, `DigestMismatch`, `SizeMismatch` and `Limit` for the source, `Unsupported` for
    /// what the destination cannot hold and for a directory in use for something else, and what the kernel says. The
    /// destination then names what it named before.
    pub fn copy(&self, source: &str, destination: &str) -> Result<Digest> {
        let (from, to) = (Place::parse(source)?, Place::destination(destination)?);
        match to {
            Place::File(Source::DockerArchive { path, name }) => {
                let image = self.image(from, source)?;
                let name = name.map(|name| Reference::parse(&name)).transpose()?;
                archive::docker(&image, &path, name.as_ref())?;
                Ok(image.manifest_digest().clone())
            }
            Place::File(Source::OciArchive { path, name }) => {
                let shipment = self.shipment(from, source)?.converted(self.form_for(Form::Oci))?;
                archive::oci(&shipment, &path, name.as_deref())?;
                Ok(shipment.top().digest.clone())
            }
            // A file without a transport is no destination.
            Place::File(Source::Directory { path, name } | Source::Archive { path, name }) => {
                let shipment = self.shipment(from, source)?.converted(self.form_for(Form::Oci))?;
                directory::write(&shipment, &path, name.as_deref(), self.limits.manifest_bytes)?;
                Ok(shipment.top().digest.clone())
            }
            Place::Store(name) => {
                let shipment = self.shipment(from, source)?.converted(self.form_for(Form::Keep))?;
                self.deliver(&shipment, &name)
            }
            Place::Registry(name) => self.push(from, source, &name),
        }
    }

    fn form_for(&self, needed: Form) -> Form {
        if self.form == Form::AsNeeded { needed } else { self.form }
    }

    fn own_store(&self) -> Result<&Store> {
        self.store.as_ref().ok_or_else(|| Error::unsupported("no store was named to copy from, to or by way of"))
    }

    fn options(&self) -> OpenOptions {
        let options = OpenOptions::new().limits(self.limits);
        match &self.platforms {
            Platforms::One(platform) => options.platform(platform.clone()),
            Platforms::All => options,
        }
    }

    /// The image of one platform.
    fn image(&self, place: Place, text: &str) -> Result<Image> {
        if self.platforms == Platforms::All && !matches!(place, Place::File(Source::DockerArchive { .. })) {
            return Err(Error::unsupported("this destination holds one platform of an image only"));
        }
        match place {
            Place::File(_) => self.options().open(text),
            Place::Store(name) => self.options().stored(self.own_store()?, &name),
            Place::Registry(name) => self.pull(&name),
        }
    }

    fn shipment(&self, place: Place, text: &str) -> Result<Shipment> {
        let (platforms, limits) = (&self.platforms, &self.limits);
        match place {
            Place::File(Source::Directory { path, name }) => {
                Shipment::of_layout(Blobs::open_directory(&path)?, name.as_deref(), platforms, limits)
            }
            Place::File(Source::OciArchive { path, name } | Source::Archive { path, name }) => {
                let blobs = Blobs::open_archive(&path, limits)?;
                if !text.starts_with("oci-archive:") && !blobs.has("oci-layout") {
                    return Shipment::of_image(self.options().docker(blobs, name.as_deref())?);
                }
                Shipment::of_layout(blobs, name.as_deref(), platforms, limits)
            }
            Place::File(_) => Shipment::of_image(self.options().open(text)?),
            Place::Store(name) => self.stored(&name),
            Place::Registry(name) => {
                if *platforms == Platforms::All {
                    return Err(Error::unsupported(format!("cannot copy all platforms of {name} from a registry")));
                }
                Shipment::of_image(self.pull(&name)?)
            }
        }
    }

    fn stored(&self, name: &str) -> Result<Shipment> {
        let store = self.own_store()?;
        let name = Reference::parse(name)?;
        let record = store.record(&name)?.ok_or_else(|| store.unknown(&name))?;
        let content = Content::open(store)?;
        Shipment::of_record(store, &record, &self.platforms, &self.limits, content)
    }

    fn deliver(&self, shipment: &Shipment, name: &str) -> Result<Digest> {
        let store = self.own_store()?;
        let name = Reference::parse(name)?;
        let content = Content::open(store)?;
        for blob in shipment.blobs() {
            content.add(&blob.digest()?, blob.size, &mut |write| shipment.read(blob, write))?;
        }
        for document in shipment.documents() {
            content.put(&document.digest, &document.bytes)?;
        }
        let top = shipment.top();
        let record = Record {
            name,
            digest: top.digest.clone(),
            size: top.bytes.len() as u64,
            media_type: top.media_type.clone(),
            platform: shipment.platform()?.map(|platform| platform.to_string()).unwrap_or_default(),
            resolved: top.digest.clone(),
        };
        store.save(&content, &record)?;
        Ok(record.digest)
    }

    #[cfg(feature = "registry")]
    fn pull(&self, name: &str) -> Result<Image> {
        let puller = crate::registry::Puller::new(self.own_store()?).client(self.client.clone()).limits(self.limits);
        match &self.platforms {
            Platforms::One(platform) => puller.platform(platform.clone()).pull(name),
            Platforms::All => puller.pull(name),
        }
    }

    #[cfg(not(feature = "registry"))]
    fn pull(&self, name: &str) -> Result<Image> {
        Err(Error::unsupported(format!("cannot copy from the registry of {name}: built without the feature registry")))
    }

    #[cfg(feature = "registry")]
    fn push(&self, from: Place, text: &str, name: &str) -> Result<Digest> {
        let image = self.image(from, text)?;
        if !matches!(self.form, Form::AsNeeded | Form::Keep) {
            return Err(Error::unsupported("images are pushed as they are; convert them to a layout first"));
        }
        crate::registry::Pusher::new().client(self.client.clone()).push(&image, name)
    }

    #[cfg(not(feature = "registry"))]
    fn push(&self, _: Place, _: &str, name: &str) -> Result<Digest> {
        Err(Error::unsupported(format!("cannot copy to the registry of {name}: built without the feature registry")))
    }
}

/// A file that gets its name when it is complete.
struct Fresh {
    path: PathBuf,
    temporary: PathBuf,
    file: std::fs::File,
    done: bool,
}

impl Fresh {
    fn new(path: &std::path::Path) -> Result<Self> {
        let name = crate::store::unique(".tmp-");
        let temporary = path.parent().map_or_else(|| PathBuf::from(&name), |parent| parent.join(&name));
        let file = std::fs::File::options().read(true).write(true).create_new(true).open(&temporary);
        let file = file.attempt(|| format!("cannot write {}", path.display()))?;
        Ok(Self { path: path.to_owned(), temporary, file, done: false })
    }

    fn commit(mut self) -> Result<()> {
        let failed = || format!("cannot write {}", self.path.display());
        self.file.sync_all().attempt(failed)?;
        std::fs::rename(&self.temporary, &self.path).attempt(failed)?;
        self.done = true;
        Ok(())
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if !self.done {
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}
