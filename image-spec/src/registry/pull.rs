//! From a registry into a store.
//!
//! Job: resolve a name at the mirrors and the registry, choose the manifest for the platform, bring configuration and
//! layers, several at a time and the largest first, unpack them meanwhile if that is wanted, and name the image when all
//! of it is there and on the disk. Leaves out the transfer of one blob, and unpacking itself.

use super::client::{Client, Endpoint};
use super::fetch::{Fetch, Present};
use super::manifest::{self, Document};
use super::progress::{Cancel, Event, Listener, Meter, Progress};
use super::session::Session;
use crate::arrivals::Arrivals;
use crate::content::Content;
use crate::document::{Descriptor, Index, Kind, Manifest, kind};
use crate::layout::{by_platform, is_image};
use crate::names::Record;
use crate::{
    Digest, Error, ErrorKind, Image, ImageConfig, Limits, OpenOptions, Platform, Reference, Result, Store,
    UnpackOptions,
};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Pulls images into a store.
///
/// ```no_run
/// use keelbox_image_spec::Store;
/// use keelbox_image_spec::registry::Puller;
/// let store = Store::open("/var/lib/keelbox")?;
/// let image = Puller::new(&store)
///     .mirror("docker.io", "http://127.0.0.1:5000")
///     .progress(|p| eprintln!("{} of {}", p.bytes, p.total))
///     .pull("debian:12")?;
/// assert_eq!(store.get("debian:12")?.manifest_digest(), image.manifest_digest());
/// # Ok::<(), keelbox_image_spec::Error>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct Puller {
    store: Store,
    client: Client,
    platform: Platform,
    limits: Limits,
    parallel: usize,
    cancel: Cancel,
    listener: Option<Listener>,
    unpack: Option<UnpackOptions>,
    present: Present,
}

impl Puller {
    /// Pulls into `store`, for this machine's platform, without credentials.
    pub fn new(store: &Store) -> Self {
        Self {
            store: store.clone(),
            client: Client::new(),
            platform: Platform::host(),
            limits: Limits::default(),
            parallel: 6,
            cancel: Cancel::new(),
            listener: None,
            unpack: None,
            present: Present::Trust,
        }
    }

    /// How to reach registries. Replaces what [`mirror`](Self::mirror) said before. Default: [`Client::new`].
    pub fn client(mut self, client: Client) -> Self {
        self.client = client;
        self
    }

    /// Asks `mirror` before `domain`, as [`Client::mirror`] does.
    pub fn mirror(mut self, domain: impl Into<String>, mirror: impl Into<String>) -> Self {
        self.client = self.client.mirror(domain, mirror);
        self
    }

    /// The machine the image should run on. Default: [`Platform::host`].
    pub fn platform(mut self, platform: Platform) -> Self {
        self.platform = platform;
        self
    }

    /// What the image may cost; `layer_bytes` also bounds what is downloaded for a layer. Default: [`Limits::default`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How many blobs to download at a time, at least 1. Default: 6.
    pub fn parallel(mut self, blobs: usize) -> Self {
        self.parallel = blobs.max(1);
        self
    }

    /// What to think of blobs that are in the store. Default: [`Present::Trust`].
    pub fn present(mut self, present: Present) -> Self {
        self.present = present;
        self
    }

    /// Unpacks the layers while they are downloaded. Default: not; an image is unpacked when it is first used.
    pub fn unpack(mut self, options: UnpackOptions) -> Self {
        self.unpack = Some(options);
        self
    }

    /// Stops when `cancel` says so. Default: nothing stops it.
    pub fn cancel(mut self, cancel: &Cancel) -> Self {
        self.cancel = cancel.clone();
        self
    }

    /// Calls `listener` after every piece, from several threads. Default: nobody is told.
    pub fn progress(mut self, listener: impl Fn(&Progress) + Send + Sync + 'static) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }

    /// Pulls the image `name`, written as `docker pull` takes it, and names it so in the store. An image that is there
    /// and unchanged costs one request. Any number of threads and processes may pull at once; each blob is downloaded by
    /// one of them. What breaks off is taken up the next time.
    ///
    /// # Errors
    /// `NotFound`, `Denied`, `Unavailable` after the last try, `DigestMismatch`, `SizeMismatch`, `Format` for what is not
    /// a name or not an answer a registry may give, `Unsupported` for what is not an image, `Limit`, `Cancelled`, and
    /// what the kernel says. Nothing is named then.
    pub fn pull(&self, name: &str) -> Result<Image> {
        let name = Reference::parse(name)?;
        let content = Content::open(&self.store)?;
        let endpoints = self.client.endpoints(&name)?;
        let mut last = None;
        for endpoint in &endpoints {
            let session = Session::new(&self.client, &self.cancel, Meter::new(self.listener.clone()))?;
            let pull = Pull { puller: self, session, endpoint, content: &content, name: &name };
            match pull.run() {
                // A disk that is full is no fault of a mirror.
                Err(error) if !matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::Os(_)) => last = Some(error),
                other => return other,
            }
        }
        Err(last.unwrap_or_else(|| Error::not_found(format!("there is no registry for {name}"))))
    }
}

impl fmt::Debug for Puller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Puller");
        shown.field("store", &self.store.path()).field("client", &self.client).field("platform", &self.platform);
        shown.field("parallel", &self.parallel).finish_non_exhaustive()
    }
}

/// One image from one place.
struct Pull<'a> {
    puller: &'a Puller,
    session: Session,
    endpoint: &'a Endpoint,
    content: &'a Content,
    name: &'a Reference,
}

impl Pull<'_> {
    fn run(&self) -> Result<Image> {
        if let Some(image) = self.unchanged()? {
            return Ok(image);
        }
        let top = manifest::get(&self.session, self.endpoint, self.name, self.puller.limits.manifest_bytes)?;
        let resolved = top.digest.clone();
        let (document, manifest) = self.choose(top)?;
        let config = self.configuration(&document, &manifest)?;
        let blobs = self.layers(&document, &manifest, &config)?;
        let total = blobs.iter().map(|(_, size)| size).sum::<u64>() + manifest.config.size;
        self.session.meter.expect(blobs.len() + 1, total);
        self.session.meter.tell(Event::Manifest(document.digest.clone()));
        // The configuration is here already, or came with the manifest.
        self.session.meter.add(manifest.config.size);
        self.session.meter.tell(Event::Done(manifest.config.digest()?));
        self.content.put(&document.digest, &document.bytes)?;
        let record = Record {
            name: self.name.clone(),
            digest: document.digest.clone(),
            size: document.bytes.len() as u64,
            media_type: document.media_type.clone(),
            platform: config.platform().to_string(),
            resolved,
        };
        // Opened before it is named: what does not fit together gets no name.
        let image = self.options().recorded(&self.puller.store, &record)?;
        match &self.puller.unpack {
            None => self.download(blobs, None)?,
            Some(options) => self.download_and_unpack(blobs, options, &image, &record)?,
        }
        self.puller.store.save(self.content, &record)?;
        // What others left long ago is nobody's fault here, so it is no error either.
        drop(self.content.sweep());
        Ok(image)
    }

    fn options(&self) -> OpenOptions {
        OpenOptions::new().platform(self.puller.platform.clone()).limits(self.puller.limits)
    }

    /// The image in the store, if the registry still means it and nothing of it is missing.
    fn unchanged(&self) -> Result<Option<Image>> {
        let record = self.puller.store.record(self.name)?;
        let Some(record) = record.filter(|_| self.puller.present == Present::Trust) else { return Ok(None) };
        let suits = record.platform.parse::<Platform>().is_ok_and(|own| self.puller.platform.rank(&own) == Some(0));
        let Some(image) = Some(record)
            .filter(|_| suits)
            .and_then(|record| Some((self.options().recorded(&self.puller.store, &record).ok()?, record.resolved)))
        else {
            return Ok(None);
        };
        let (image, resolved) = image;
        let blobs = image.blobs();
        // The image keeps them since it was opened.
        if !self.content.are_there(&blobs)? {
            return Ok(None);
        }
        let same = match self.name.digest() {
            Some(digest) => *digest == resolved,
            None => manifest::head(&self.session, self.endpoint, self.name)? == Some(resolved),
        };
        if !same {
            return Ok(None);
        }
        self.session.meter.expect(blobs.len(), blobs.iter().map(|(_, size)| size).sum());
        self.session.meter.tell(Event::Manifest(image.manifest_digest().clone()));
        for (digest, size) in blobs {
            self.session.meter.add(size);
            self.session.meter.tell(Event::Exists(digest));
        }
        if let Some(options) = &self.puller.unpack {
            options.unpack(&image, &self.puller.store)?;
        }
        Ok(Some(image))
    }

    /// Goes from an index, and indexes within it, to the manifest for the platform.
    fn choose(&self, top: Document) -> Result<(Document, Manifest)> {
        let mut document = top;
        for _ in 0..=self.puller.limits.index_depth {
            let what = format!("manifest {} of {}", document.digest, self.endpoint);
            match kind(&document.media_type) {
                Kind::Manifest => {
                    let manifest = Manifest::parse(&document.bytes, &document.media_type, &what)?;
                    return Ok((document, manifest));
                }
                Kind::Index => {
                    let index = Index::parse(&document.bytes, &document.media_type, &what)?;
                    let candidates: Vec<&Descriptor> = index.manifests.iter().filter(|d| is_image(d)).collect();
                    let place = |error: Error| error.within(&what);
                    let chosen = by_platform(candidates, &self.puller.platform).map_err(place)?;
                    document = self.described(chosen)?;
                }
                _ => return Err(Error::unsupported(format!("{what}: {:?} is not an image", document.media_type))),
            }
        }
        let depth = self.puller.limits.index_depth;
        Err(Error::limit(format!("{}: indexes within indexes, more than {depth} deep", self.name)))
    }

    /// The document behind a descriptor: embedded, in the store, or from the registry.
    fn described(&self, descriptor: &Descriptor) -> Result<Document> {
        let (digest, size) = promised(descriptor)?;
        let media_type = descriptor.media_type.clone();
        if let Some(bytes) = self.at_hand(descriptor)? {
            return Ok(Document { bytes, digest, media_type });
        }
        let limit = self.puller.limits.manifest_bytes;
        let document = manifest::by_digest(&self.session, self.endpoint, &digest, size, limit)?;
        // The descriptor led here, so its type counts (image-spec `media-types.md`, conflicts).
        Ok(Document { media_type, ..document })
    }

    fn at_hand(&self, descriptor: &Descriptor) -> Result<Option<Vec<u8>>> {
        let (digest, size) = promised(descriptor)?;
        let what = format!("{digest} of {}", self.endpoint);
        if let Some(bytes) = descriptor.embedded(&what)? {
            return Ok(Some(bytes));
        }
        if size > self.puller.limits.manifest_bytes.max(self.puller.limits.config_bytes) {
            return Ok(None);
        }
        Ok(self.content.read(&digest, size)?.filter(|bytes| bytes.len() as u64 == size))
    }

    fn configuration(&self, document: &Document, manifest: &Manifest) -> Result<ImageConfig> {
        let descriptor = &manifest.config;
        let what = format!("image configuration {} of {}", descriptor.digest, self.endpoint);
        if kind(&descriptor.media_type) != Kind::Config {
            let place = format!("manifest {} of {}", document.digest, self.endpoint);
            let text = format!("{place}: configuration of type {:?} is not an image's", descriptor.media_type);
            return Err(Error::unsupported(text));
        }
        let (digest, size) = promised(descriptor)?;
        if size > self.puller.limits.config_bytes {
            return Err(Error::limit(format!("{what} has more than {} bytes", self.puller.limits.config_bytes)));
        }
        let bytes = match self.at_hand(descriptor)? {
            Some(bytes) => bytes,
            None => {
                // Its counts begin when the total is known.
                let (session, endpoint, content) = (&self.session, self.endpoint, self.content);
                let (meter, stop, present) = (&Meter::default(), &AtomicBool::new(false), self.puller.present);
                let digest = &digest;
                Fetch { session, endpoint, content, digest, size, meter, stop, present, arrivals: None }.run()?;
                self.content.read(digest, size)?.ok_or_else(|| Error::not_found(format!("{what} is gone")))?
            }
        };
        self.content.put(&digest, &bytes)?;
        ImageConfig::parse_named(bytes.into(), &what)
    }

    /// What has to be there beside the configuration, each blob once, the largest first.
    fn layers(&self, document: &Document, manifest: &Manifest, config: &ImageConfig) -> Result<Vec<(Digest, u64)>> {
        let place = format!("manifest {} of {}", document.digest, self.endpoint);
        let limits = &self.puller.limits;
        let count = manifest.layers.len();
        if count > limits.layers {
            return Err(Error::limit(format!("{place}: {count} layers, more than {}", limits.layers)));
        }
        if config.diff_ids().len() != count {
            return Err(Error::format(format!("{place}: {count} layers but {} diff_ids", config.diff_ids().len())));
        }
        let mut blobs: Vec<(Digest, u64)> = Vec::new();
        for descriptor in &manifest.layers {
            let (digest, size) = promised(descriptor)?;
            if size > limits.layer_bytes {
                return Err(Error::limit(format!(
                    "{place}: layer {digest} has more than {} bytes",
                    limits.layer_bytes
                )));
            }
            match blobs.iter().find(|(own, _)| *own == digest) {
                Some((_, other)) if *other != size => {
                    return Err(Error::format(format!("{place}: layer {digest} has two sizes")));
                }
                Some(_) => {}
                None => blobs.push((digest, size)),
            }
        }
        blobs.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
        Ok(blobs)
    }

    fn download_and_unpack(
        &self,
        blobs: Vec<(Digest, u64)>,
        options: &UnpackOptions,
        image: &Image,
        record: &Record,
    ) -> Result<()> {
        let store = &self.puller.store;
        let arrivals = Arc::new(Arrivals::default());
        let arriving = self.options().recorded(store, record)?.arriving(&arrivals);
        let (downloaded, unpacked) = thread::scope(|scope| {
            let unpacking = scope.spawn(|| options.unpack(&arriving, store));
            // Whatever happens to the download, a panic of the listener among it, the unpacker must not wait for ever.
            let close = Close(&arrivals);
            let downloaded = self.download(blobs, Some(&arrivals));
            drop(close);
            (downloaded, unpacking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        downloaded?;
        match unpacked {
            // A registry that began anew may have sent the unpacker what was replaced later.
            Err(_) if arrivals.is_restarted() => options.unpack(image, store).map(drop),
            other => other.map(drop),
        }
    }

    fn download(&self, blobs: Vec<(Digest, u64)>, arrivals: Option<&Arrivals>) -> Result<()> {
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let failed = Mutex::new(None);
        thread::scope(|scope| {
            for _ in 0..self.puller.parallel.min(blobs.len()) {
                scope.spawn(|| {
                    while let Some((digest, size)) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let fetch = Fetch {
                            session: &self.session,
                            endpoint: self.endpoint,
                            content: self.content,
                            digest,
                            size: *size,
                            meter: &self.session.meter,
                            stop: &stop,
                            present: self.puller.present,
                            arrivals,
                        };
                        let Err(error) = fetch.run() else { continue };
                        // The first error is the cause of the others.
                        if !stop.swap(true, Ordering::Relaxed) {
                            *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                        }
                        break;
                    }
                });
            }
        });
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}

/// Ends waiting when it is dropped.
struct Close<'a>(&'a Arrivals);

impl Drop for Close<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// What a descriptor promises, if that can be verified here.
fn promised(descriptor: &Descriptor) -> Result<(Digest, u64)> {
    Ok((descriptor.digest()?, descriptor.size))
}
