//! What one copy carries.
//!
//! Job: gather a manifest, or an index and all below it, from where it lies: documents in memory, children first; and the
//! descriptors of the blobs, which are read when they are written. What nobody here understands is carried as it is. Leaves
//! out where it goes.

use super::{Form, Platforms, convert};
use crate::blobs::{Blobs, blob_name, give};
use crate::content::Content;
use crate::document::{Descriptor, Index, Kind, Manifest, kind};
use crate::names::Record;
use crate::{Digest, Error, Image, ImageConfig, Limits, Platform, Result, Store, layout};

/// An index or a manifest.
#[derive(Clone, Debug)]
pub(super) struct Document {
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) bytes: Vec<u8>,
}

/// Where blobs are read.
#[derive(Debug)]
enum Origin {
    Blobs(Blobs),
    Image(Image),
}

/// Documents and blobs.
#[derive(Debug)]
pub(super) struct Shipment {
    origin: Origin,
    /// The top one is the last.
    documents: Vec<Document>,
    blobs: Vec<Descriptor>,
    limits: Limits,
    /// What keeps it in its store.
    _content: Option<Content>,
}

impl Shipment {
    pub(super) fn of_layout(blobs: Blobs, name: Option<&str>, platforms: &Platforms, limits: &Limits) -> Result<Self> {
        let top = match platforms {
            Platforms::All => layout::top(&blobs, name, limits)?,
            Platforms::One(platform) => {
                let chosen = layout::choose(&blobs, name, platform, limits)?;
                Descriptor::new(&chosen.media_type, &chosen.digest, chosen.raw.len() as u64)
            }
        };
        Self::gather(blobs, &top, limits, None)
    }

    pub(super) fn of_record(
        store: &Store,
        record: &Record,
        platforms: &Platforms,
        limits: &Limits,
        content: Content,
    ) -> Result<Self> {
        let blobs = Blobs::open_directory(store.path())?;
        content.has(&record.digest, record.size)?;
        let mut top = Descriptor::new(&record.media_type, &record.digest, record.size);
        if let Platforms::One(platform) = platforms {
            let chosen = layout::resolve(&blobs, top, None, platform, limits)?;
            top = Descriptor::new(&chosen.media_type, &chosen.digest, chosen.raw.len() as u64);
        }
        Self::gather(blobs, &top, limits, Some(content))
    }

    /// A docker archive, or what came from a registry.
    pub(super) fn of_image(image: Image) -> Result<Self> {
        let bytes = image.raw_manifest().to_vec();
        let manifest = Manifest::parse(&bytes, image.media_type(), "manifest")?;
        let mut blobs = vec![manifest.config];
        for layer in manifest.layers {
            if blobs.iter().all(|blob| blob.digest != layer.digest) {
                blobs.push(layer);
            }
        }
        let (media_type, digest) = (image.media_type().to_owned(), image.manifest_digest().clone());
        let limits = *image.limits();
        let documents = vec![Document { media_type, digest, bytes }];
        Ok(Self { origin: Origin::Image(image), documents, blobs, limits, _content: None })
    }

    fn gather(blobs: Blobs, top: &Descriptor, limits: &Limits, content: Option<Content>) -> Result<Self> {
        let mut shipment = Self {
            origin: Origin::Blobs(blobs),
            documents: Vec::new(),
            blobs: Vec::new(),
            limits: *limits,
            _content: content,
        };
        shipment.follow(top, 0)?;
        Ok(shipment)
    }

    fn follow(&mut self, descriptor: &Descriptor, depth: usize) -> Result<()> {
        let Origin::Blobs(blobs) = &self.origin else { return Ok(()) };
        let place = blobs.path().display().to_string();
        if depth > self.limits.index_depth {
            return Err(Error::limit(format!(
                "{place}: indexes within indexes, more than {} deep",
                self.limits.index_depth
            )));
        }
        let digest = descriptor.digest()?;
        if self.documents.iter().any(|document| document.digest == digest) {
            return Ok(());
        }
        let kind = kind(&descriptor.media_type);
        if !matches!(kind, Kind::Index | Kind::Manifest) {
            self.keep(descriptor)?;
            return Ok(());
        }
        let bytes = blobs.verified(descriptor, self.limits.manifest_bytes, "manifest")?.to_vec();
        let what = format!("{digest} in {place}");
        let media_type = descriptor.media_type.clone();
        if kind == Kind::Index {
            for child in Index::parse(&bytes, &media_type, &what)?.manifests {
                self.follow(&child, depth + 1)?;
            }
        } else {
            let manifest = Manifest::parse(&bytes, &media_type, &what)?;
            if manifest.layers.len() > self.limits.layers {
                return Err(Error::limit(format!("{what}: more than {} layers", self.limits.layers)));
            }
            for blob in manifest.layers.iter().chain([&manifest.config]) {
                self.keep(blob)?;
            }
        }
        self.documents.push(Document { media_type, digest, bytes });
        Ok(())
    }

    fn keep(&mut self, blob: &Descriptor) -> Result<()> {
        if let Some(content) = &self._content {
            content.has(&blob.digest()?, blob.size)?;
        }
        match self.blobs.iter().find(|own| own.digest == blob.digest) {
            Some(own) if own.size != blob.size => Err(Error::format(format!("blob {} has two sizes", blob.digest))),
            Some(_) => Ok(()),
            None => {
                self.blobs.push(blob.clone());
                Ok(())
            }
        }
    }

    /// The same with manifests in this form.
    pub(super) fn converted(mut self, form: Form) -> Result<Self> {
        if matches!(form, Form::Oci | Form::Docker) {
            self.documents = convert::documents(std::mem::take(&mut self.documents), form)?;
        }
        Ok(self)
    }

    pub(super) fn documents(&self) -> &[Document] {
        &self.documents
    }

    pub(super) fn top(&self) -> &Document {
        // Every way of gathering ends with the top.
        self.documents.last().expect("a top document")
    }

    pub(super) fn blobs(&self) -> &[Descriptor] {
        &self.blobs
    }

    /// Hands the content of a blob over, of exactly the size that it should have. Its digest is for the writer to check.
    pub(super) fn read(&self, blob: &Descriptor, write: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let digest = blob.digest()?;
        let what = format!("blob {digest}");
        if let Some(content) = blob.embedded(&what)? {
            return write(&content);
        }
        let blobs = match &self.origin {
            Origin::Image(image) => return image.copy_blob(&digest, write),
            Origin::Blobs(blobs) => blobs,
        };
        let extent = blobs.extent(&blob_name(&digest))?;
        crate::blobs::check_size(extent.len(), blob.size, &format!("{what} in {}", blobs.path().display()))?;
        give(extent, &what, write)
    }

    /// The platform of a single image.
    pub(super) fn platform(&self) -> Result<Option<Platform>> {
        let top = self.top();
        if kind(&top.media_type) != Kind::Manifest {
            return Ok(None);
        }
        let config = Manifest::parse(&top.bytes, &top.media_type, "manifest")?.config;
        if kind(&config.media_type) != Kind::Config || config.size > self.limits.config_bytes {
            return Ok(None);
        }
        let mut raw = Vec::new();
        self.read(&config, &mut |bytes| {
            raw.extend_from_slice(bytes);
            Ok(())
        })?;
        crate::digest::verify(&raw, &config.digest()?, "image configuration")?;
        Ok(Some(ImageConfig::parse(&raw)?.platform().clone()))
    }
}
