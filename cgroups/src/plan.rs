//! Limits as an ordered list of writes: plain data, printed and compared without root.
//!
//! Leaves out: opening files. Each controller goes to where it lives, so a hybrid host is no special case.
//! Needs no kernel.

use std::fmt;

use crate::controller::{Controller, Version};
use crate::error::Result;
use crate::hierarchy::Hierarchy;
use crate::limits::OomKiller;
use crate::limits::check::{Checked, Max};

mod planner;
mod v1;
mod v2;

/// How the value read back is compared with the value written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Check {
    /// The same text.
    Text,
    /// A number, which the kernel may round down by less than this many bytes (0: to a page).
    Rounded(u64),
    /// A list of numbers in any form.
    List,
    /// A weight, alone or after the word `default`.
    Weight,
    /// A line that starts with the same key and holds the same `name=value` pairs; a `max` may be left out.
    Pairs,
    /// A line `KEY VALUE`; with the value 0, no such line.
    Line,
    /// A line `KEY VALUE`.
    Map,
    /// A line `KEY VALUE` with this key and the value written.
    Field(&'static str),
    /// Written by hand: numbers may be rounded to pages, other text is not compared.
    Raw,
}

/// When it is no failure that a file is not there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Moot {
    Never,
    /// The limit holds by itself on a host without swap.
    WithoutSwap,
    /// A kernel without the file does not need the limit, for this reason.
    WithoutFile(&'static str),
    /// Nor does one that takes the value and keeps another, for this reason.
    Anyway(&'static str),
}

/// One thing to write into one file of a group.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Write {
    version: Version,
    controller: Controller,
    file: String,
    value: String,
    alternative: Option<(String, String)>,
    moot: Moot,
    check: Check,
    /// The controller of v2 that the file belongs to, if it is none that we know.
    stranger: Option<String>,
}

impl Write {
    fn new(
        version: Version,
        controller: Controller,
        file: impl Into<String>,
        value: impl Into<String>,
        check: Check,
    ) -> Self {
        let (file, value) = (file.into(), value.into());
        Self { version, controller, file, value, alternative: None, moot: Moot::Never, check, stranger: None }
    }

    /// The interface the file belongs to.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The controller the file belongs to, and so on v1 the hierarchy.
    pub fn controller(&self) -> Controller {
        self.controller
    }

    /// The name of the file in the group's directory.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// What is written, in one write(2).
    pub fn value(&self) -> &str {
        &self.value
    }

    /// File and value to use where the kernel lacks the first file (the BFQ scheduler has its own).
    pub fn alternative(&self) -> Option<(&str, &str)> {
        self.alternative.as_ref().map(|(file, value)| (file.as_str(), value.as_str()))
    }

    pub(crate) fn check(&self) -> Check {
        self.check
    }

    pub(crate) fn moot(&self) -> Moot {
        self.moot
    }

    fn moot_if(mut self, moot: Moot) -> Self {
        self.moot = moot;
        self
    }

    /// This write with its alternative in the place of the first choice.
    pub(crate) fn swapped(&self) -> Option<Self> {
        let (file, value) = self.alternative.clone()?;
        Some(Self { file, value, alternative: None, ..self.clone() })
    }
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = if self.version == Version::V2 { "v2" } else { "v1" };
        write!(f, "{version} {} = {}", self.file, self.value)?;
        match &self.alternative {
            Some((file, value)) => write!(f, " (or {file} = {value})"),
            None => Ok(()),
        }
    }
}

/// A limit that was asked for in best effort and cannot be had.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Skipped {
    /// What was asked, as a file and its value where it came to that.
    pub what: String,
    /// Why it cannot be had here.
    pub why: String,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} skipped: {}", self.what, self.why)
    }
}

/// The limits a group has before an update, as far as they decide the order of the writes. Default: a fresh group.
///
/// [`Group::update`](crate::Group::update) reads it from the group; to plan an update without one, name the values.
///
/// ```
/// use keelbox_cgroups::{Hierarchy, Limits, MIB, Present};
/// let host = Hierarchy::detect_from("3 2 0:3 / /cg/memory rw - cgroup cgroup rw,memory\n", "4:memory:/\n");
/// let now = Present::new().memory(64 * MIB).memory_and_swap(64 * MIB);
/// let raise = Limits::new().memory(128 * MIB).swap(0).plan_from(&host, &now)?;
/// assert_eq!(raise.to_string(), "\
/// 1 v1 memory.memsw.limit_in_bytes = 134217728
/// 2 v1 memory.limit_in_bytes = 134217728
/// ");
/// # Ok::<(), keelbox_cgroups::Error>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use]
pub struct Present {
    pub(crate) memory: Max,
    pub(crate) memory_and_swap: Max,
    pub(crate) quota: Max,
    pub(crate) period: u64,
    pub(crate) burst: u64,
    pub(crate) realtime_runtime: u64,
    pub(crate) oom_killer: OomKiller,
}

impl Default for Present {
    fn default() -> Self {
        Self {
            memory: Max::Unlimited,
            memory_and_swap: Max::Unlimited,
            quota: Max::Unlimited,
            period: 100_000,
            burst: 0,
            realtime_runtime: 0,
            oom_killer: OomKiller::On,
        }
    }
}

impl Present {
    /// A fresh group: no limits, a period of 100 ms.
    pub fn new() -> Self {
        Self::default()
    }

    /// The limit of memory in bytes.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Max::new(bytes);
        self
    }

    /// The v1 limit of memory and swap together in bytes.
    pub fn memory_and_swap(mut self, bytes: u64) -> Self {
        self.memory_and_swap = Max::new(bytes);
        self
    }

    /// The quota in microseconds.
    pub fn cpu_quota(mut self, microseconds: u64) -> Self {
        self.quota = Max::new(microseconds);
        self
    }

    /// The period in microseconds.
    pub fn cpu_period(mut self, microseconds: u64) -> Self {
        self.period = microseconds;
        self
    }

    /// The burst in microseconds.
    pub fn cpu_burst(mut self, microseconds: u64) -> Self {
        self.burst = microseconds;
        self
    }

    /// Whether processes are killed when memory is short.
    pub fn oom_killer(mut self, killer: OomKiller) -> Self {
        self.oom_killer = killer;
        self
    }

    /// The v1 realtime runtime in microseconds.
    pub fn realtime_runtime(mut self, microseconds: u64) -> Self {
        self.realtime_runtime = microseconds;
        self
    }
}

/// What setting some limits means on some host. Made by [`Limits::plan`](crate::Limits::plan); prints as numbered lines.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Plan {
    writes: Vec<Write>,
    skipped: Vec<Skipped>,
}

impl Plan {
    /// The writes, in order.
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// What the host cannot express: in best effort, or since it does not matter.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// The controllers that the writes need in hierarchies of `version`, each once.
    pub fn controllers(&self, version: Version) -> Vec<Controller> {
        let wanted = self.writes.iter().filter(|write| write.version == version);
        let mut found: Vec<_> =
            wanted.map(|write| write.controller).filter(|found| *found != Controller::Core).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The names of the v2 controllers that the writes need: those of [`controllers`](Self::controllers), and any that we do not know.
    pub(crate) fn unified_names(&self) -> Vec<String> {
        let known = self.controllers(Version::V2).into_iter().map(|controller| controller.name(Version::V2).to_owned());
        let strangers = self.writes.iter().filter_map(|write| write.stranger.clone());
        known.chain(strangers).collect()
    }

    pub(crate) fn of(limits: &Checked, hierarchy: &Hierarchy, present: &Present) -> Result<Self> {
        planner::plan(limits, hierarchy, present)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, write) in self.writes.iter().enumerate() {
            writeln!(f, "{} {write}", number + 1)?;
        }
        self.skipped.iter().try_for_each(|skipped| writeln!(f, "- {skipped}"))
    }
}

#[cfg(test)]
#[path = "plan/seldom_tests.rs"]
mod seldom_tests;
#[cfg(test)]
#[path = "plan/tests.rs"]
mod tests;
