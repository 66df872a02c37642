//! The leak check: what a piece of code left behind in this process and on this machine.
//!
//! It compares facts that the kernel tells through `/proc`, before and after. What it leaves out on purpose: memory
//! (allocators keep it), and whatever other users of the machine do. Oldest kernel: 4.2 (`/proc/PID/task/TID/children`).

mod own;
mod system;

use crate::rerun::is_alone;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Facts by their names, `section: name` → value.
type Facts = BTreeMap<String, String>;

/// A picture of the process and the machine, to be compared with a later one.
///
/// It covers, of this process: open descriptors with their targets and flags (so memfds and pipes too), memfd mappings,
/// threads, children and zombies, namespaces, working and root directory, credentials, capabilities, signal
/// dispositions and masks, umask, limits, environment, `oom_score_adj`, dumpable and other `prctl(2)` settings; and of
/// the machine: the mount table and network devices as this thread sees them, the cgroup directories whose name starts
/// with a prefix in every hierarchy, the cgroup memberships, and all files below the directories that were named.
///
/// Of what other programs may change too (mounts, devices, cgroups, files), and of threads, whose end the kernel
/// completes after `join`, only a difference that lasts for two seconds counts; so other tests may run containers at the
/// same time, as long as each is shorter than that. What belongs to the process gets no time at all.
///
/// A test that uses it begins with [`alone!`](crate::alone!): other tests in the same process would be taken for leaks.
/// What a library starts once and keeps (a launcher thread, say) is to be started before `begin`.
///
/// ```
/// use keelbox_testkit::{LeakCheck, Result};
///
/// // with #[test] before it
/// fn nothing_stays_behind() -> Result {
///     keelbox_testkit::alone!();
///     let leaks = LeakCheck::begin();
///     // the code that is to leave nothing behind
///     leaks.check();
///     Ok(())
/// }
/// ```
#[derive(Debug)]
#[must_use = "a leak check that is not checked finds nothing"]
pub struct LeakCheck {
    options: LeakCheckBuilder,
    own: Facts,
    system: Facts,
}

/// What a [`LeakCheck`] is to watch besides the process.
#[derive(Clone, Debug)]
#[must_use]
pub struct LeakCheckBuilder {
    prefix: String,
    directories: Vec<PathBuf>,
    settle: Duration,
}

impl LeakCheckBuilder {
    /// Watches cgroup directories whose name starts with `prefix`. Default: `keelbox`.
    pub fn cgroups(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Watches all files below `directory`, which need not exist yet. Default: none.
    pub fn files(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directories.push(directory.into());
        self
    }

    /// How long a difference in what others may change must last. Default: two seconds.
    pub fn settle(mut self, time: Duration) -> Self {
        self.settle = time;
        self
    }

    /// Takes the first picture.
    ///
    /// # Panics
    ///
    /// In a test that did not say [`alone!`](crate::alone!), and when `/proc` is not mounted.
    pub fn begin(self) -> LeakCheck {
        assert!(is_alone(), "a LeakCheck needs alone!() at the beginning of its test: others would be taken for leaks");
        let system = self.system_facts();
        LeakCheck { own: own::facts(), system, options: self }
    }

    fn system_facts(&self) -> Facts {
        let directories = self.directories.iter().map(PathBuf::as_path);
        system::facts(&self.prefix, directories)
    }
}

impl LeakCheck {
    /// Takes the first picture, with the defaults of [`LeakCheck::builder`].
    ///
    /// # Panics
    ///
    /// As [`LeakCheckBuilder::begin`].
    pub fn begin() -> Self {
        Self::builder().begin()
    }

    /// Says what else to watch.
    pub fn builder() -> LeakCheckBuilder {
        let settle = Duration::from_secs(2);
        LeakCheckBuilder { prefix: "keelbox".to_owned(), directories: Vec::new(), settle }
    }

    /// Takes the second picture and compares.
    ///
    /// # Panics
    ///
    /// When anything differs, with one line for each difference: `+` what is new, `-` what is gone, `~` what changed.
    pub fn check(self) {
        let differences = self.differences();
        assert!(differences.is_empty(), "left behind:\n{}", differences.join("\n"));
    }

    /// Takes the second picture and tells the differences, without panicking.
    #[must_use]
    pub fn differences(&self) -> Vec<String> {
        let own = compare(&self.own, &own::facts());
        let deadline = Instant::now() + self.options.settle;
        let mut lasting = compare(&self.system, &self.options.system_facts());
        while !lasting.is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
            let mut now = compare(&self.system, &self.options.system_facts());
            now.retain(|name, _| lasting.contains_key(name));
            lasting = now;
        }
        own.into_values().chain(lasting.into_values()).collect()
    }
}

/// A line of text for each name under which the two pictures differ.
fn compare(before: &Facts, after: &Facts) -> BTreeMap<String, String> {
    let gone = before.iter().filter(|(name, _)| {
        // Others may take away what was theirs: a cgroup, a whole hierarchy or a thread that is gone is nothing left behind.
        let theirs = ["cgroup: ", "member of cgroup: ", "thread: "].iter().any(|kind| name.starts_with(kind));
        !theirs && !after.contains_key(*name)
    });
    let gone = gone.map(|(name, value)| (name.clone(), format!("- {name} {value}")));
    let rest = after.iter().filter_map(|(name, value)| {
        let line = match before.get(name) {
            None => format!("+ {name} {value}"),
            Some(old) if old != value => format!("~ {name} {old} → {value}"),
            Some(_) => return None,
        };
        Some((name.clone(), line))
    });
    gone.chain(rest).collect()
}

/// The contents of a file, or why it cannot be read, which is a fact as well.
fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| error.to_string())
}

/// Where a symbolic link points to, or why it cannot be read.
fn link(path: impl AsRef<Path>) -> String {
    std::fs::read_link(path).map_or_else(|error| error.to_string(), |target| target.to_string_lossy().into_owned())
}

/// The names in a directory; none where it cannot be read.
fn names(path: impl AsRef<Path>) -> Vec<String> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
