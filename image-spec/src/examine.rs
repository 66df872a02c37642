//! Looking for damage in a store, and taking it out.
//!
//! Job: hash every blob again, read the mark and the notes of every unpacked layer, follow every name; and on request remove
//! what is wrong, so that the next pull or unpacking brings it anew. Leaves out the files of unpacked layers: nothing says
//! what their digests were. Oldest kernel: any supported one.

use crate::collect::{Used, base};
use crate::content::Content;
use crate::error::Attempt;
use crate::lease::StoreLock;
use crate::store::{SHARDS, Store};
use crate::unpack::{Keys, note};
use crate::{Digest, Error, Reference, Result, files};
use nix::fcntl::FlockArg;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// What [`Store::verify`] looked at and found.
///
/// ```
/// let directory = tempfile::tempdir()?;
/// let store = keelbox_image_spec::Store::open(directory.path())?;
/// let found = store.verify()?;
/// assert!(found.problems.is_empty(), "{}", found.problems[0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Examination {
    /// Blobs that were hashed.
    pub blobs: usize,
    /// Unpacked layers whose mark was read.
    pub layers: usize,
    /// Names that were followed.
    pub names: usize,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong in a store. Its text says what and why.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Problem {
    /// The content of a blob has another digest.
    Blob {
        /// The digest that it is known by.
        digest: Digest,
        /// The digest that it has.
        found: Digest,
    },
    /// Something lies among the blobs that is none.
    Stray {
        /// Its path below `blobs/`.
        path: String,
    },
    /// An unpacked layer is not complete, or does not fit its key.
    Layer {
        /// Its name below `layers/`.
        key: String,
        /// Why.
        why: String,
    },
    /// A name cannot be opened.
    Name {
        /// The file below `refs/`.
        file: String,
        /// Why.
        why: String,
    },
    /// An image that can be opened lacks content, which a pull brings. A repair leaves it so.
    Incomplete {
        /// Its name.
        name: Reference,
        /// What is missing.
        missing: Vec<Digest>,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blob { digest, found } => write!(f, "blob {digest} has digest {found}"),
            Self::Stray { path } => write!(f, "blobs/{path} is not a blob"),
            Self::Layer { key, why } => write!(f, "layer {key}: {why}"),
            Self::Name { file, why } => write!(f, "refs/{file}: {why}"),
            Self::Incomplete { name, missing } => {
                write!(f, "{name} lacks")?;
                missing.iter().try_for_each(|digest| write!(f, " {digest}"))
            }
        }
    }
}

impl Store {
    /// Hashes every blob, reads what every unpacked layer says about itself, and follows every name. Nothing is changed, and
    /// nothing is collected meanwhile; other work goes on.
    ///
    /// # Errors
    /// What the kernel says. That something is wrong is no error.
    pub fn verify(&self) -> Result<Examination> {
        let lock = self.hold(FlockArg::LockShared)?;
        self.examine(&Content::open(self)?, &lock)
    }

    /// Removes what [`verify`](Self::verify) finds wrong: damaged blobs, incomplete layers, names that cannot be opened and files
    /// that do not belong here. The next pull or unpacking brings them anew. Returns what was found.
    ///
    /// Layers that are in use are removed too, since they are not what they should be; what runs from them may fail.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn repair(&self) -> Result<Examination> {
        // Nobody unpacks, and nobody begins to use anything; or what is removed could be what was just brought.
        let _unpacking = (0..SHARDS).map(|number| self.lock(number)).collect::<Result<Vec<_>>>()?;
        let lock = self.hold(FlockArg::LockExclusive)?;
        let content = Content::open(self)?;
        let mut found = Examination::default();
        // Without a damaged manifest there may be a name that leads nowhere.
        for _ in 0..2 {
            let again = self.examine(&content, &lock)?;
            for problem in &again.problems {
                self.remove(&content, problem)?;
            }
            let removed = again.problems.iter().any(|problem| !matches!(problem, Problem::Incomplete { .. }));
            let new: Vec<Problem> =
                again.problems.into_iter().filter(|problem| !found.problems.contains(problem)).collect();
            found = Examination { problems: [found.problems, new].concat(), ..again };
            if !removed {
                break;
            }
        }
        self.write_index()?;
        drop(lock);
        self.sweep()?;
        Ok(found)
    }

    fn examine(&self, content: &Content, _lock: &StoreLock) -> Result<Examination> {
        let mut found = Examination::default();
        let mut digests = Vec::new();
        for (path, digest) in content.files()? {
            match digest {
                Some(digest) => digests.push(digest),
                None => found.problems.push(Problem::Stray { path }),
            }
        }
        found.blobs = digests.len();
        let damaged = damaged(content, &digests)?;
        let bad: BTreeSet<&Digest> = damaged.iter().map(|(digest, _)| digest).collect();
        self.examine_layers(&mut found)?;
        self.examine_names(content, &bad, &mut found)?;
        found.problems.extend(damaged.into_iter().map(|(digest, found)| Problem::Blob { digest, found }));
        Ok(found)
    }

    fn examine_layers(&self, found: &mut Examination) -> Result<()> {
        for key in self.keys()? {
            found.layers += 1;
            let why = match self.done(&key)? {
                None => Some("it is not complete".to_owned()),
                Some(done) => {
                    let id = done.diff_id;
                    let own = base(&key);
                    let other = own.starts_with("diffid-")
                        && Keys::of_diff_ids(std::slice::from_ref(&id)).all().all(|key| key != own);
                    let notes = self.index(&key).and_then(|text| note::parse(&text));
                    let checks = [
                        other.then(|| format!("its mark is for {id}")),
                        notes.err().map(|error| error.to_string()),
                        self.layer_directory(&key).err().map(|_| "its files are missing".to_owned()),
                    ];
                    checks.into_iter().flatten().next()
                }
            };
            // One that was removed while it was looked at is no problem.
            let there = files::stat(self.directory(), key.as_bytes()).attempt(|| self.failed("read"))?.is_some();
            found.problems.extend(why.filter(|_| there).map(|why| Problem::Layer { key, why }));
        }
        Ok(())
    }

    fn examine_names(&self, content: &Content, bad: &BTreeSet<&Digest>, found: &mut Examination) -> Result<()> {
        for (file, record) in self.record_files()? {
            found.names += 1;
            let record = match record {
                Ok(record) => record,
                Err(error) => {
                    found.problems.push(Problem::Name { file, why: error.to_string() });
                    continue;
                }
            };
            match Used::of(content, &record) {
                Err(error) => found.problems.push(Problem::Name { file, why: error.to_string() }),
                Ok(used) => {
                    let mut missing = Vec::new();
                    for digest in used.blobs {
                        if bad.contains(&digest) || content.stat(&digest)?.is_none() {
                            missing.push(digest);
                        }
                    }
                    missing.sort();
                    if !missing.is_empty() {
                        found.problems.push(Problem::Incomplete { name: record.name, missing });
                    }
                }
            }
        }
        Ok(())
    }

    fn remove(&self, content: &Content, problem: &Problem) -> Result<()> {
        match problem {
            Problem::Blob { digest, .. } => {
                // A pull may have replaced it since.
                let still = content.computed(digest)?.is_some_and(|computed| computed != *digest);
                if still { content.discard_blob(digest) } else { Ok(()) }
            }
            Problem::Stray { path } => content.discard(path),
            Problem::Layer { key, .. } => match self.discard(key.as_bytes()) {
                Err(error) if error.kind() == crate::ErrorKind::NotFound => Ok(()),
                other => other,
            },
            Problem::Name { file, .. } => self.remove_record(file),
            Problem::Incomplete { .. } => Ok(()),
        }
    }
}

/// The blobs that are not what they are called, with what they are.
fn damaged(content: &Content, digests: &[Digest]) -> Result<Vec<(Digest, Digest)>> {
    let next = AtomicUsize::new(0);
    let found: Mutex<Vec<Result<(Digest, Digest)>>> = Mutex::new(Vec::new());
    let workers = thread::available_parallelism().map_or(1, std::num::NonZero::get).min(8).min(digests.len());
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(digest) = digests.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let wrong = match content.computed(digest) {
                        Ok(Some(computed)) if computed != *digest => Ok((digest.clone(), computed)),
                        Ok(_) => continue,
                        Err(error) => Err(error),
                    };
                    found.lock().unwrap_or_else(PoisonError::into_inner).push(wrong);
                }
            });
        }
    });
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut found: Vec<(Digest, Digest)> = found.into_iter().collect::<Result<_, Error>>()?;
    found.sort();
    Ok(found)
}
