//! What a transfer tells while it runs, and how it is stopped.
//!
//! Job: one plain struct for whoever draws a bar, and a token that ends a transfer from another thread. Leaves out
//! drawing.

use super::transport::Transport;
use crate::{Digest, Error, ErrorKind, Result};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Where a transfer stands. It is told from several threads, after every piece.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Progress {
    /// What just happened.
    pub event: Event,
    /// Bytes of configuration and layers that are where they should be, those that already were among them.
    pub bytes: u64,
    /// Bytes of configuration and layers altogether.
    pub total: u64,
    /// Blobs that are complete.
    pub blobs: usize,
    /// Blobs altogether.
    pub blobs_total: usize,
}

/// One thing that happened to a transfer.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The manifest is known, and with it how much there is to do.
    Manifest(Digest),
    /// This blob is there already, or was taken from another repository.
    Exists(Digest),
    /// A piece of this blob went over the wire.
    Moved(Digest),
    /// This blob breaks off after what went over the wire, and is begun again.
    Restarted(Digest),
    /// This blob is complete and verified.
    Done(Digest),
    /// A request failed and is sent again after this time. The text says why.
    Waiting(Duration, String),
    /// This layer is not to be distributed, so it was not pushed.
    Withheld(Digest),
}

pub(crate) type Listener = Arc<dyn Fn(&Progress) + Send + Sync>;

/// The counts behind [`Progress`].
#[derive(Default)]
pub(crate) struct Meter {
    listener: Option<Listener>,
    bytes: AtomicU64,
    total: AtomicU64,
    blobs: AtomicUsize,
    blobs_total: AtomicUsize,
}

impl Meter {
    pub(crate) fn new(listener: Option<Listener>) -> Self {
        Self { listener, ..Self::default() }
    }

    pub(crate) fn expect(&self, blobs: usize, bytes: u64) {
        self.blobs_total.store(blobs, Ordering::Relaxed);
        self.total.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes that have to be moved once more.
    pub(crate) fn take_back(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn tell(&self, event: Event) {
        if matches!(event, Event::Done(_) | Event::Exists(_) | Event::Withheld(_)) {
            self.blobs.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(listener) = &self.listener {
            listener(&Progress {
                event,
                bytes: self.bytes.load(Ordering::Relaxed),
                total: self.total.load(Ordering::Relaxed),
                blobs: self.blobs.load(Ordering::Relaxed),
                blobs_total: self.blobs_total.load(Ordering::Relaxed),
            });
        }
    }
}

/// Stops transfers from another thread. Clones are one and the same.
///
/// ```
/// use keelbox_image_spec::registry::Cancel;
/// let cancel = Cancel::new();
/// let button = cancel.clone();
/// button.cancel();
/// assert!(cancel.is_cancelled());
/// ```
#[derive(Clone, Default)]
pub struct Cancel(Arc<State>);

#[derive(Default)]
struct State {
    cancelled: AtomicBool,
    transports: Mutex<Vec<Weak<dyn Transport>>>,
    woken: Condvar,
}

impl Cancel {
    /// A token that is not cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends every transfer that was given this token, and refuses later ones: they fail with `Cancelled`. What was
    /// downloaded stays for the next time.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::SeqCst);
        let transports = self.0.transports.lock().unwrap_or_else(PoisonError::into_inner);
        transports.iter().filter_map(Weak::upgrade).for_each(|transport| transport.abort());
        drop(transports);
        self.0.woken.notify_all();
    }

    /// Whether it was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::SeqCst)
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::new(ErrorKind::Cancelled, "the transfer was cancelled")) } else { Ok(()) }
    }

    pub(crate) fn watch(&self, transport: &Arc<dyn Transport>) {
        let mut transports = self.0.transports.lock().unwrap_or_else(PoisonError::into_inner);
        transports.retain(|transport| transport.strong_count() > 0);
        transports.push(Arc::downgrade(transport));
    }

    /// Waits, unless it is cancelled meanwhile.
    pub(crate) fn sleep(&self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        let mut guard = self.0.transports.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            self.check()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            guard = self.0.woken.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cancel").field(&self.is_cancelled()).finish()
    }
}
