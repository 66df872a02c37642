//! Blobs that are read while they arrive.
//!
//! Job: let the unpacker read a download that is not complete, waiting where it is ahead of it. What it reads is not
//! verified yet; the unpacker itself commits nothing before its digests are right. Leaves out downloading.

use crate::{Digest, Error, ErrorKind, Result};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The downloads of one image.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    blobs: HashMap<Digest, Blob>,
    /// No more will come.
    closed: bool,
    /// Something that may have been read was replaced.
    restarted: bool,
}

#[derive(Clone, Debug)]
struct Blob {
    file: Option<Arc<File>>,
    available: u64,
}

/// One of the downloads.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    all: Arc<Arrivals>,
    digest: Digest,
}

impl Arrivals {
    /// This much of a blob is in `file`, or all of it is in its place, which `None` says.
    pub(crate) fn tell(&self, digest: &Digest, file: Option<&Arc<File>>, available: u64) {
        let mut state = self.lock();
        let blob = Blob { file: file.cloned(), available };
        let before = state.blobs.insert(digest.clone(), blob);
        state.restarted |= before.is_some_and(|before| before.available > available);
        drop(state);
        self.changed.notify_all();
    }

    /// Ends all waiting: what is not there now does not come.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Whether readers may have seen what was replaced later.
    pub(crate) fn is_restarted(&self) -> bool {
        self.lock().restarted
    }

    /// Waits until the blob has begun to arrive, and gives the file that it arrives in. `None`: it is in its place.
    pub(crate) fn begin(self: &Arc<Self>, digest: &Digest) -> Result<Option<(Arc<File>, Arrival)>> {
        let mut state = self.lock();
        loop {
            match state.blobs.get(digest) {
                Some(Blob { file: Some(file), .. }) => {
                    return Ok(Some((Arc::clone(file), Arrival { all: Arc::clone(self), digest: digest.clone() })));
                }
                Some(Blob { file: None, .. }) => return Ok(None),
                None if state.closed => return Err(gone(digest)),
                None => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Arrival {
    /// Waits until there is something at `offset`; how much of the blob is there then.
    pub(crate) fn wait(&self, offset: u64) -> io::Result<u64> {
        let mut state = self.all.lock();
        loop {
            match state.blobs.get(&self.digest) {
                Some(blob) if blob.available > offset => return Ok(blob.available),
                _ if state.closed => return Err(gone(&self.digest).into()),
                _ => state = self.all.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

fn gone(digest: &Digest) -> Error {
    Error::new(ErrorKind::Cancelled, format!("blob {digest} does not arrive"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_wait_for_what_comes_and_end_with_what_does_not() {
        let (all, digest) = (Arc::new(Arrivals::default()), Digest::of(b"x"));
        let file = Arc::new(File::open("/dev/null").expect("a file"));
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let (_, arrival) = all.begin(&digest).expect("begun").expect("arriving");
                (arrival.wait(0).expect("some"), arrival.wait(5).expect("more"), arrival.wait(9).is_err())
            });
            for available in [0, 5, 9] {
                std::thread::sleep(std::time::Duration::from_millis(20));
                all.tell(&digest, Some(&file), available);
            }
            all.close();
            let (first, second, end) = reader.join().expect("no panic");
            assert!(first >= 5 && second == 9 && end);
        });
        assert!(!all.is_restarted());
        all.tell(&digest, Some(&file), 0);
        assert!(all.is_restarted());
        all.tell(&digest, None, 9);
        assert!(all.begin(&digest).expect("there").is_none());
        assert!(all.begin(&Digest::of(b"y")).is_err());
    }
}
