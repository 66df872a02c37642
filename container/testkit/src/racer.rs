//! The racer: exchanges two names of the host as fast as it can, while a test works with what they name.
//!
//! What a name means changes between any two system calls, as another container that shares the directory could have it.
//! Oldest kernel: 3.15 (`renameat2(2)` with `RENAME_EXCHANGE`).

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A thread that exchanges two names until it is stopped or dropped; then each means again what it meant before.
///
/// ```
/// # fn main() -> keelbox_testkit::Result {
/// let place = tempfile::tempdir()?;
/// std::fs::create_dir(place.path().join("directory"))?;
/// std::os::unix::fs::symlink("/etc", place.path().join("link"))?;
/// let racer = keelbox_testkit::Racer::exchange(place.path().join("directory"), place.path().join("link"))?;
/// // what must never follow the link
/// assert!(racer.stop()? > 0);
/// assert!(place.path().join("directory").symlink_metadata()?.is_dir());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a racer that is dropped races no more"]
pub struct Racer {
    over: Arc<AtomicBool>,
    turns: Arc<AtomicU64>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Racer {
    /// Starts to exchange the two names, which must exist in one file system.
    ///
    /// # Errors
    ///
    /// When they cannot be exchanged.
    pub fn exchange(left: impl Into<PathBuf>, right: impl Into<PathBuf>) -> io::Result<Self> {
        let (left, right) = (left.into(), right.into());
        let turn = move || renameat2(AT_FDCWD, &left, AT_FDCWD, &right, RenameFlags::RENAME_EXCHANGE);
        // Twice, so that it begins as it was. What cannot be done at all is told at once.
        turn().and_then(|()| turn())?;
        let (over, turns) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (told, counted) = (Arc::clone(&over), Arc::clone(&turns));
        let thread = thread::Builder::new().name("racer".into()).spawn(move || {
            while !told.load(Ordering::Relaxed) {
                turn().and_then(|()| turn())?;
                counted.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        })?;
        let racer = Self { over, turns, thread: Some(thread) };
        // A test that is over before the other thread ever ran would have raced with nobody.
        let begun = Instant::now();
        while racer.turns() == 0 && begun.elapsed() < Duration::from_secs(10) {
            thread::yield_now();
        }
        Ok(racer)
    }

    /// How often the names have been exchanged and exchanged back.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Ends the race, and tells how often the names were exchanged and exchanged back.
    ///
    /// # Errors
    ///
    /// When they could not be exchanged any more.
    pub fn stop(mut self) -> io::Result<u64> {
        self.end()?;
        Ok(self.turns())
    }

    fn end(&mut self) -> io::Result<()> {
        self.over.store(true, Ordering::Relaxed);
        self.thread
            .take()
            .map_or(Ok(()), |thread| thread.join().unwrap_or_else(|_| Err(io::Error::other("it panicked"))))
    }
}

impl Drop for Racer {
    fn drop(&mut self) {
        // A test that goes on without it has nobody to tell.
        let _ended = self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn both_meanings_are_seen_and_the_first_one_stays() -> crate::Result {
        let place = tempfile::tempdir()?;
        let (left, right) = (place.path().join("left"), place.path().join("right"));
        fs::write(&left, "left")?;
        fs::write(&right, "right")?;
        let racer = Racer::exchange(&left, &right)?;
        let (mut seen, begun) = ([0, 0], Instant::now());
        while seen.contains(&0) && begun.elapsed() < Duration::from_secs(10) {
            seen[usize::from(fs::read(&left)? == b"right")] += 1;
        }
        assert!(!seen.contains(&0), "{seen:?}");
        assert!(racer.stop()? > 0);
        assert_eq!((fs::read(&left)?, fs::read(&right)?), (b"left".to_vec(), b"right".to_vec()));
        Ok(())
    }

    #[test]
    fn names_that_are_not_there_are_an_error() -> crate::Result {
        let place = tempfile::tempdir()?;
        assert!(Racer::exchange(place.path().join("a"), place.path().join("b")).is_err());
        Ok(())
    }
}
