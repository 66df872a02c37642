//! From a layout, an archive or a store to a registry.
//!
//! Job: bring what the registry lacks, several blobs at a time, and the manifest last, byte for byte as it is. A blob that
//! is there is not sent; one of another repository is taken from it; a large one goes in pieces, so that a broken
//! connection costs one piece. Leaves out making images, and indexes: one manifest is pushed.

use super::client::{Client, Endpoint};
use super::progress::{Cancel, Event, Listener, Meter, Progress};
use super::retry::is_passing;
use super::session::{Answer, Ask, Body, Failure, Session};
use super::url::Url;
use crate::{Digest, Error, ErrorKind, Image, Reference, Result};
use std::fmt;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Pushes images to registries.
///
/// ```no_run
/// use keelbox_image_spec::Image;
/// use keelbox_image_spec::registry::{Client, Pusher};
/// let image = Image::open("oci:./app:1")?;
/// let client = Client::new().login("registry.example", "robot", "secret");
/// let digest = Pusher::new().client(client).push(&image, "registry.example/team/app:1")?;
/// println!("registry.example/team/app@{digest}");
/// # Ok::<(), keelbox_image_spec::Error>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct Pusher {
    client: Client,
    from: Option<String>,
    piece: u64,
    parallel: usize,
    cancel: Cancel,
    listener: Option<Listener>,
}

impl Default for Pusher {
    fn default() -> Self {
        let (cancel, listener) = (Cancel::new(), None);
        Self { client: Client::new(), from: None, piece: 64 << 20, parallel: 4, cancel, listener }
    }
}

impl Pusher {
    /// Pushes without credentials.
    pub fn new() -> Self {
        Self::default()
    }

    /// How to reach registries. Mirrors are not pushed to. Default: [`Client::new`].
    pub fn client(mut self, client: Client) -> Self {
        self.client = client;
        self
    }

    /// A repository of the same registry that may have some of the layers, such as that of the base image. Credentials
    /// must allow to pull from it. Default: none.
    pub fn from_repository(mut self, path: impl Into<String>) -> Self {
        self.from = Some(path.into());
        self
    }

    /// Sends blobs of more than this in pieces of it, at least 64 KiB. Default: 64 MiB.
    pub fn piece(mut self, bytes: u64) -> Self {
        self.piece = bytes.max(64 << 10);
        self
    }

    /// How many blobs to send at a time, at least 1. Default: 4.
    pub fn parallel(mut self, blobs: usize) -> Self {
        self.parallel = blobs.max(1);
        self
    }

    /// Stops when `cancel` says so. Default: nothing stops it.
    pub fn cancel(mut self, cancel: &Cancel) -> Self {
        self.cancel = cancel.clone();
        self
    }

    /// Calls `listener` as it goes on, from several threads. Default: nobody is told.
    pub fn progress(mut self, listener: impl Fn(&Progress) + Send + Sync + 'static) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }

    /// Pushes `image` as `name`, written as `docker push` takes it, and returns the digest of its manifest. Layers that
    /// are not to be distributed stay here: the registry gets their description only.
    ///
    /// # Errors
    /// `Format` for what is not a name or names another digest, `Denied`, `NotFound`, `Unavailable` after the last try,
    /// `DigestMismatch` when the registry got something else, `Unsupported` for a registry that does not take pushes,
    /// `Cancelled`, and what the kernel says. The name then means what it did before.
    pub fn push(&self, image: &Image, name: &str) -> Result<Digest> {
        let name = Reference::parse(name)?;
        let digest = image.manifest_digest();
        if name.digest().is_some_and(|named| named != digest) {
            return Err(Error::format(format!("{name} names another image than the one with digest {digest}")));
        }
        if let Some(from) = &self.from {
            Reference::parse(&format!("{}/{from}", name.domain())).map_err(|error| error.within("from_repository"))?;
        }
        let endpoint = self.client.endpoint(&name)?;
        let session = Session::new(&self.client, &self.cancel, Meter::new(self.listener.clone()))?;
        let push = Push { pusher: self, session, endpoint, image };
        push.blobs()?;
        push.manifest(&name)?;
        Ok(digest.clone())
    }
}

impl fmt::Debug for Pusher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Pusher");
        shown
            .field("client", &self.client)
            .field("from", &self.from)
            .field("piece", &self.piece)
            .finish_non_exhaustive()
    }
}

/// One image to one place.
struct Push<'a> {
    pusher: &'a Pusher,
    session: Session,
    endpoint: Endpoint,
    image: &'a Image,
}

/// Where a blob is to be sent, if it has to be.
enum Begun {
    There,
    At(Url),
}

impl Push<'_> {
    fn ask<'b>(&self, method: &'static str, url: Url, purpose: impl Into<String>) -> Ask<'b> {
        Ask::new(method, url, self.endpoint.scope("pull,push"), purpose)
    }

    fn blobs(&self) -> Result<()> {
        let mut blobs = self.image.blobs();
        self.session.meter.expect(blobs.len(), blobs.iter().map(|(_, size)| size).sum());
        self.session.meter.tell(Event::Manifest(self.image.manifest_digest().clone()));
        blobs.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
        let (next, stop, failed) = (AtomicUsize::new(0), AtomicBool::new(false), Mutex::new(None));
        thread::scope(|scope| {
            for _ in 0..self.pusher.parallel.min(blobs.len()) {
                scope.spawn(|| {
                    while let Some((digest, size)) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        if let Err(error) = self.blob(digest, *size) {
                            if !stop.swap(true, Ordering::Relaxed) {
                                *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                            }
                            break;
                        }
                    }
                });
            }
        });
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    fn blob(&self, digest: &Digest, size: u64) -> Result<()> {
        let layer = self.image.layers().iter().find(|layer| layer.digest() == digest);
        // image-spec `layer.md`, Non-Distributable Layers: they should not be uploaded.
        if layer.is_some_and(|layer| {
            layer.media_type().contains(".nondistributable.") || layer.media_type().contains(".foreign.")
        }) {
            self.session.meter.add(size);
            self.session.meter.tell(Event::Withheld(digest.clone()));
            return Ok(());
        }
        let ask = self.ask("HEAD", self.endpoint.url(&format!("blobs/{digest}")), format!("look for blob {digest}"));
        let answer = self.session.send(&self.endpoint, &ask)?;
        match answer.status() {
            200 => {
                self.session.meter.add(size);
                self.session.meter.tell(Event::Exists(digest.clone()));
                return Ok(());
            }
            404 => {}
            _ => return Err(self.session.refused(&self.endpoint, &ask, answer)),
        }
        let mut failures = 0;
        loop {
            let Begun::At(place) = self.begin(digest, failures == 0)? else {
                self.session.meter.add(size);
                self.session.meter.tell(Event::Exists(digest.clone()));
                return Ok(());
            };
            match self.send(&place, digest, size) {
                Ok(()) => {
                    self.session.meter.tell(Event::Done(digest.clone()));
                    return Ok(());
                }
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(error)) => {
                    failures += 1;
                    let what = format!("cannot send blob {digest} to {}", self.endpoint);
                    self.session.pause(failures, None, error, &what)?;
                    self.session.meter.tell(Event::Restarted(digest.clone()));
                }
            }
        }
    }

    /// Opens an upload, or has the registry take the blob from the other repository.
    fn begin(&self, digest: &Digest, mount: bool) -> Result<Begun> {
        let mut url = self.endpoint.url("blobs/uploads/");
        let from = self.pusher.from.as_ref().filter(|_| mount);
        if let Some(from) = from {
            url = url.query("mount", &digest.to_string()).query("from", from);
        }
        let mut ask = self.ask("POST", url, format!("begin to send blob {digest}")).body(Body::Bytes(b""));
        ask.scopes.extend(from.map(|from| format!("repository:{from}:pull")));
        let answer = self.session.send(&self.endpoint, &ask)?;
        match answer.status() {
            201 if from.is_some() => Ok(Begun::There),
            202 => self.location(&answer).map(Begun::At),
            // Not allowed to read there; then it is sent.
            401 | 403 | 404 if from.is_some() => self.begin(digest, false),
            _ => Err(self.session.refused(&self.endpoint, &ask, answer)),
        }
    }

    fn location(&self, answer: &Answer) -> Result<Url> {
        let missing = || Error::format(format!("{} does not say where to send a blob", self.endpoint));
        let place = answer.url.join(answer.header("location").ok_or_else(missing)?)?;
        let (own, other) = (&self.endpoint.base, &place);
        let lower = own.scheme() == super::Scheme::Https && other.scheme() == super::Scheme::Http;
        let near = (other.is_loopback() && !own.is_loopback()) || (other.is_link_local() && !own.is_link_local());
        if lower || near {
            return Err(Error::new(
                ErrorKind::Denied,
                format!("{} wants blobs sent to {}", self.endpoint, place.public()),
            ));
        }
        Ok(place)
    }

    fn send(&self, place: &Url, digest: &Digest, size: u64) -> Result<(), Failure> {
        let is_config = !self.image.layers().iter().any(|layer| layer.digest() == digest);
        if is_config {
            let bytes = self.image.config().raw();
            return self.finish(place, digest, Body::Bytes(bytes), size);
        }
        if size <= self.pusher.piece {
            let open = || self.stream(digest, 0);
            return self.finish(place, digest, Body::Stream(&open, size), size);
        }
        self.pieces(place, digest, size)
    }

    fn stream(&self, digest: &Digest, start: u64) -> Result<Box<dyn Read>> {
        Ok(Box::new(self.image.open_blob(digest)?.after(start)))
    }

    /// The last request of an upload, with all of the blob or with nothing more.
    fn finish(&self, place: &Url, digest: &Digest, body: Body<'_>, bytes: u64) -> Result<(), Failure> {
        let url = place.query("digest", &digest.to_string());
        let ask = self.ask("PUT", url, format!("send blob {digest}"));
        let ask = ask.header("Content-Type", "application/octet-stream").body(body);
        let answer = self.once(&ask)?;
        if answer.status() != 201 && answer.status() != 204 {
            return Err(self.session.refused(&self.endpoint, &ask, answer).into());
        }
        self.session.meter.add(bytes);
        self.session.meter.tell(Event::Moved(digest.clone()));
        Ok(())
    }

    fn pieces(&self, place: &Url, digest: &Digest, size: u64) -> Result<(), Failure> {
        let (mut place, mut sent, mut failures) = (place.clone(), 0, 0);
        while sent < size {
            let length = self.pusher.piece.min(size - sent);
            let open = || self.stream(digest, sent);
            let ask = self.ask("PATCH", place.clone(), format!("send a piece of blob {digest}"));
            let ask = ask
                .header("Content-Type", "application/octet-stream")
                .header("Content-Range", format!("{sent}-{}", sent + length - 1))
                .body(Body::Stream(&open, length));
            match self.once(&ask) {
                Ok(answer) if answer.status() == 202 || answer.status() == 204 => {
                    place = self.location(&answer)?;
                    sent += length;
                    failures = 0;
                    self.session.meter.add(length);
                    self.session.meter.tell(Event::Moved(digest.clone()));
                }
                Ok(answer) => {
                    self.session.meter.take_back(sent);
                    return Err(self.session.refused(&self.endpoint, &ask, answer).into());
                }
                Err(Failure::Passing(error)) => {
                    failures += 1;
                    self.session.pause(
                        failures,
                        None,
                        error,
                        &format!("cannot send blob {digest} to {}", self.endpoint),
                    )?;
                    let Ok((next, there)) = self.status(&place, digest, size) else {
                        // The upload is gone: the whole blob again, by way of the caller.
                        self.session.meter.take_back(sent);
                        return Err(Failure::Passing(io::Error::other("the upload cannot be continued")));
                    };
                    self.session.meter.add(there);
                    self.session.meter.take_back(sent);
                    (place, sent) = (next, there);
                }
                Err(failure) => return Err(failure),
            }
        }
        self.finish(&place, digest, Body::Bytes(b""), 0)
    }

    /// How much of an upload has arrived, and where it goes on.
    fn status(&self, place: &Url, digest: &Digest, size: u64) -> Result<(Url, u64)> {
        let ask = self.ask("GET", place.clone(), format!("ask how much of blob {digest} arrived"));
        let answer = self.session.send(&self.endpoint, &ask)?;
        if answer.status() != 204 {
            return Err(self.session.refused(&self.endpoint, &ask, answer));
        }
        let range = answer.header("range").unwrap_or("0-0").trim_start_matches("bytes=");
        let end: u64 = range.strip_prefix("0-").and_then(|end| end.parse().ok()).unwrap_or(0);
        // `0-0` means one byte, or none: then the byte would be sent twice, so that is taken for none and refused later.
        let there = if end == 0 { 0 } else { end.saturating_add(1) };
        if there > size {
            return Err(Error::format(format!("{} has more of blob {digest} than there is", self.endpoint)));
        }
        Ok((self.location(&answer).unwrap_or_else(|_| place.clone()), there))
    }

    /// One try with an answer that counts; what may pass is for the caller to repeat.
    fn once(&self, ask: &Ask<'_>) -> Result<Answer, Failure> {
        let answer = self.session.authorized(&self.endpoint, ask)?;
        if is_passing(answer.status()) {
            let status = answer.status();
            return Err(Failure::Passing(io::Error::other(format!("the registry answers {status}"))));
        }
        Ok(answer)
    }

    fn manifest(&self, name: &Reference) -> Result<()> {
        let url = self.endpoint.url(&format!("manifests/{}", name.wanted()));
        let raw = self.image.raw_manifest();
        let ask = self.ask("PUT", url, format!("put manifest {}", name.wanted()));
        let ask = ask.header("Content-Type", self.image.media_type()).body(Body::Bytes(raw));
        let answer = self.session.send(&self.endpoint, &ask)?;
        if answer.status() != 201 {
            return Err(self.session.refused(&self.endpoint, &ask, answer));
        }
        let stated: Option<Digest> = answer.header("docker-content-digest").map(str::parse).transpose()?;
        let what = format!("manifest {} at {}", name.wanted(), self.endpoint);
        stated.map_or(Ok(()), |stated| crate::digest::verify(raw, &stated, &what))?;
        let subject = super::referrers::subject(raw)?.filter(|_| answer.header("oci-subject").is_none());
        match subject {
            Some(subject) => super::referrers::list_in_tag(&self.session, &self.endpoint, &subject, self.image),
            None => Ok(()),
        }
    }
}
