//! The profiles that come with the crate, and a memory of their compiled filters.
//!
//! The JSON files are in `profiles/`. Reading and compiling one takes about as long as starting a process, so both are
//! done once.

use super::{Error, Filter, Profile, Target};
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// One of the profiles that come with the crate.
///
/// ```
/// use keelbox::seccomp::{Builtin, Target};
///
/// let filter = Builtin::Standard.filter(&Target::host()?)?; // compiled now
/// let again = Builtin::Standard.filter(&Target::host()?)?; // remembered
/// assert!(std::sync::Arc::ptr_eq(&filter, &again));
/// # Ok::<(), keelbox::seccomp::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Builtin {
    /// For ordinary programs: [`Profile::standard`].
    Standard,
    /// For hostile code: [`Profile::hostile`].
    Hostile,
}

static STANDARD: LazyLock<Profile> = LazyLock::new(|| own(include_str!("../../profiles/default.json")));
static HOSTILE: LazyLock<Profile> = LazyLock::new(|| own(include_str!("../../profiles/hostile.json")));

/// At most this many filters are kept; a program with more kinds of containers compiles again now and then.
const REMEMBERED: usize = 64;
type Filters = BTreeMap<(Builtin, Target), Arc<Filter>>;

static FILTERS: LazyLock<Mutex<Filters>> = LazyLock::new(Mutex::default);

impl Builtin {
    /// The profile itself, to be changed or written out.
    pub fn profile(self) -> &'static Profile {
        match self {
            Self::Standard => &STANDARD,
            Self::Hostile => &HOSTILE,
        }
    }

    /// The profile compiled for `target`. The first call for a target compiles, later ones return the same filter.
    ///
    /// # Errors
    /// The same as [`Profile::compile`]; none for the targets this crate knows.
    pub fn filter(self, target: &Target) -> Result<Arc<Filter>, Error> {
        let mut filters = FILTERS.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (self, target.clone());
        if let Some(filter) = filters.get(&key) {
            return Ok(Arc::clone(filter));
        }
        let filter = Arc::new(self.profile().compile(target)?);
        if filters.len() >= REMEMBERED {
            filters.clear();
        }
        filters.insert(key, Arc::clone(&filter));
        Ok(filter)
    }
}

impl Profile {
    /// The standard profile: it allows what Docker's does and forbids a little more.
    ///
    /// Calls that reach beyond the container (mounts, modules, clocks, tracing) are allowed to a container that has the
    /// capability for them. Forbidden to all are `io_uring`, `userfaultfd`, keyrings, `kexec` and swap files; sockets of
    /// the domains `AF_ALG` and `AF_VSOCK`; new namespaces without `CAP_SYS_ADMIN`; typing into a terminal with
    /// `TIOCSTI`; x32 calls. 32-bit programs run, but not those that open sockets with `socketcall`, as C libraries
    /// from before 2016 do: use [`Profile::allow`] for them, and lose the choice of domains.
    pub fn standard() -> &'static Self {
        Builtin::Standard.profile()
    }

    /// The profile for code that wants to get out. No capability adds anything to it.
    ///
    /// Beyond the standard profile it forbids tracing and reading other processes' memory, file handles, device nodes,
    /// `memfd_secret`, looking at mounts, asynchronous I/O, `sync`, 32-bit calls, and all sockets but `AF_UNIX`,
    /// `AF_INET`, `AF_INET6` and `NETLINK_ROUTE`.
    pub fn hostile() -> &'static Self {
        Builtin::Hostile.profile()
    }
}

fn own(json: &str) -> Profile {
    let profile = Profile::from_json(json.as_bytes()).expect("the embedded profiles are read by a unit test");
    Profile { built_in: true, ..profile }
}
