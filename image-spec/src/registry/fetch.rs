//! One blob from a registry into a store.
//!
//! Job: take up what an earlier try has left, ask for the rest by a closed range, believe no header that does not fit,
//! and give the blob its name only when it is right. What breaks off stays for the next time; what is wrong goes. Leaves
//! out choosing which blobs.

use super::client::Endpoint;
use super::progress::{Event, Meter};
use super::session::{Answer, Ask, Failure, Session};
use crate::arrivals::Arrivals;
use crate::content::{Content, Ingest};
use crate::{Digest, Error, ErrorKind, Result};
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const PIECE: usize = 128 << 10;

/// What a pull thinks of blobs that the store has already.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Present {
    /// They were verified when they came, and unpacking verifies them once more.
    #[default]
    Trust,
    /// Their digests are computed, and one that is damaged comes anew.
    Verify,
}

/// A blob to bring, from where and to where.
pub(crate) struct Fetch<'a> {
    pub(crate) session: &'a Session,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) content: &'a Content,
    pub(crate) digest: &'a Digest,
    pub(crate) size: u64,
    pub(crate) meter: &'a Meter,
    /// Another blob failed, and this one is not needed any more.
    pub(crate) stop: &'a AtomicBool,
    pub(crate) present: Present,
    /// Whoever reads the blob while it comes.
    pub(crate) arrivals: Option<&'a Arrivals>,
}

impl Fetch<'_> {
    /// Brings the blob, unless it is there.
    pub(crate) fn run(&self) -> Result<()> {
        let mut damaged = false;
        loop {
            if self.exists()? {
                return Ok(());
            }
            let mut ingest = self.content.ingest(self.digest, &|| self.check())?;
            // Whoever had the lock may have brought it.
            if self.exists()? {
                ingest.needless();
                return Ok(());
            }
            ingest.resume(self.size)?;
            self.meter.add(ingest.written());
            let file = self.arrivals.map(|_| ingest.reader().map(Arc::new)).transpose()?;
            self.tell(file.as_ref(), &ingest);
            let answer = self.complete(&mut ingest, file.as_ref());
            let counted = ingest.written();
            let error = match answer.and_then(|()| ingest.commit(self.size)) {
                Ok(()) => {
                    self.place();
                    self.meter.tell(Event::Done(self.digest.clone()));
                    return Ok(());
                }
                Err(error) => error,
            };
            self.meter.take_back(counted);
            // What an earlier run left may be what was damaged, so once more from the beginning.
            if error.kind() != ErrorKind::DigestMismatch || damaged {
                return Err(error);
            }
            damaged = true;
            self.meter.tell(Event::Restarted(self.digest.clone()));
        }
    }

    fn check(&self) -> Result<()> {
        self.session.cancel.check()?;
        let stopped = self.stop.load(Ordering::Relaxed);
        if stopped { Err(Error::new(ErrorKind::Cancelled, "another part failed")) } else { Ok(()) }
    }

    fn exists(&self) -> Result<bool> {
        let exists = self.content.has(self.digest, self.size)?
            && (self.present == Present::Trust || self.content.is_right(self.digest)?);
        if exists {
            self.place();
            self.meter.add(self.size);
            self.meter.tell(Event::Exists(self.digest.clone()));
        }
        Ok(exists)
    }

    /// The last byte is held back until the blob is complete, and with it whoever reads along.
    fn tell(&self, file: Option<&Arc<File>>, ingest: &Ingest<'_>) {
        if let (Some(arrivals), Some(file)) = (self.arrivals, file) {
            arrivals.tell(self.digest, Some(file), ingest.written().min(self.size.saturating_sub(1)));
        }
    }

    /// The blob is where it belongs.
    fn place(&self) {
        if let Some(arrivals) = self.arrivals {
            arrivals.tell(self.digest, None, self.size);
        }
    }

    /// Asks for what is missing until nothing is. Progress gives new patience.
    fn complete(&self, ingest: &mut Ingest<'_>, file: Option<&Arc<File>>) -> Result<()> {
        let (session, endpoint, digest, size) = (self.session, self.endpoint, self.digest, self.size);
        let mut failures = 0;
        while ingest.written() < size {
            self.check()?;
            let before = ingest.written();
            let url = endpoint.url(&format!("blobs/{digest}"));
            let ask = Ask::new("GET", url, endpoint.scope("pull"), format!("get blob {digest}"));
            // Closed, since some registries refuse an open range; and sent whether or not ranges were promised.
            let ask = if before == 0 { ask } else { ask.header("Range", format!("bytes={before}-{}", size - 1)) };
            let answer = session.send(endpoint, &ask)?;
            match answer.status() {
                206 if before > 0 => self.check_range(&answer, before)?,
                // The whole blob, or an answer to a range that does not suit: from the beginning.
                200 | 416 if before > 0 => {
                    self.restart(ingest)?;
                    self.tell(file, ingest);
                }
                200 => {}
                _ => return Err(session.refused(endpoint, &ask, answer)),
            }
            if answer.status() == 416 {
                continue;
            }
            if let Err(failure) = self.receive(answer, ingest, file) {
                let error = match failure {
                    Failure::Final(error) => return Err(error),
                    Failure::Passing(error) => error,
                };
                failures = if ingest.written() > before { 1 } else { failures + 1 };
                session.pause(failures, None, error, &format!("cannot get blob {digest} at {endpoint}"))?;
            }
        }
        Ok(())
    }

    fn restart(&self, ingest: &mut Ingest<'_>) -> Result<()> {
        self.meter.take_back(ingest.written());
        self.meter.tell(Event::Restarted(self.digest.clone()));
        ingest.restart()
    }

    /// `Content-Range` must say that this is what was asked for (RFC 9110 section 14.4).
    fn check_range(&self, answer: &Answer, start: u64) -> Result<()> {
        let range = answer.header("content-range").unwrap_or_default();
        let expected = format!("bytes {start}-{}/", self.size - 1);
        match range.trim().strip_prefix(&expected) {
            Some(total) if total == "*" || total.parse() == Ok(self.size) => Ok(()),
            _ => {
                let text =
                    format!("blob {}: the registry answers with another part than it was asked for", self.digest);
                Err(Error::format(text))
            }
        }
    }

    fn receive(&self, mut answer: Answer, ingest: &mut Ingest<'_>, file: Option<&Arc<File>>) -> Result<(), Failure> {
        let missing = self.size - ingest.written();
        if let Some(length) = answer.length()?.filter(|length| *length != missing) {
            return Err(self.wrong_size(ingest.written().saturating_add(length)).into());
        }
        let mut buffer = vec![0; PIECE];
        loop {
            self.check()?;
            let left = self.size - ingest.written();
            // At the end one byte more is asked for, which must not come.
            let most = usize::try_from(left).unwrap_or(PIECE).clamp(1, PIECE);
            let count = match answer.response.body().read(&mut buffer[..most]) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.session.failure(error, &format!("cannot get blob {}", self.digest))),
            };
            match (count, left) {
                (0, 0) => return Ok(()),
                (0, _) => {
                    let early = io::Error::new(io::ErrorKind::UnexpectedEof, "the answer ends too early");
                    return Err(Failure::Passing(early));
                }
                (_, 0) => return Err(self.wrong_size(self.size + 1).into()),
                _ => {
                    ingest.write(&buffer[..count])?;
                    self.tell(file, ingest);
                    self.meter.add(count as u64);
                    self.meter.tell(Event::Moved(self.digest.clone()));
                }
            }
        }
    }

    fn wrong_size(&self, found: u64) -> Error {
        let (digest, size) = (self.digest, self.size);
        let text = format!("blob {digest} should have {size} bytes but the registry sends {found} or more");
        Error::new(ErrorKind::SizeMismatch, text)
    }
}
