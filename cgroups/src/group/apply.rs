//! Writing a plan into a group, and reading every value back.
//!
//! Leaves out: what to write, which is the plan. Oldest kernel: 5.10.

use std::fmt;
use std::fs;

use nix::unistd::{SysconfVar, sysconf};

use super::wait::value;
use super::{Group, Node, enable};
use crate::controller::{Controller, Version};
use crate::directory::Directory;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::check::{Max, parse_list};
use crate::limits::{Limits, OomKiller};
use crate::plan::{Check, Moot, Plan, Present, Skipped, Write};

/// What became of the limits that were asked for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Applied {
    /// Written and read back.
    pub set: Vec<Write>,
    /// Not to be had here. Empty unless in best effort, but for limits that hold anyway, such as `swap(0)` on a host that neither counts
    /// nor has swap.
    pub skipped: Vec<Skipped>,
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.set.iter().try_for_each(|write| writeln!(f, "{write}"))?;
        self.skipped.iter().try_for_each(|skipped| writeln!(f, "{skipped}"))
    }
}

/// Performs the writes of `plan`. `troubles` are controllers already known to be missing.
pub(super) fn apply(
    group: &Group,
    plan: &Plan,
    best_effort: bool,
    troubles: &[(Controller, String)],
) -> Result<Applied> {
    let mut applied = Applied { set: Vec::new(), skipped: plan.skipped().to_vec() };
    for write in plan.writes() {
        let known = troubles.iter().find(|(controller, _)| *controller == write.controller());
        if let Some((_, why)) = known {
            applied.skipped.push(Skipped { what: write.to_string(), why: why.clone() });
            continue;
        }
        match perform(group, write) {
            Ok(done) => applied.set.push(done),
            Err(error) if moot(write, &error).is_some() => {
                let why = moot(write, &error).unwrap_or_default().to_owned();
                applied.skipped.push(Skipped { what: write.to_string(), why });
            }
            Err(error) if best_effort => {
                applied.skipped.push(Skipped { what: write.to_string(), why: error.line() });
            }
            Err(error) if error.kind() == ErrorKind::NotFound && exists(group, write) => {
                return Err(error.of_kind(ErrorKind::Unsupported));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(applied)
}

/// Why it does not matter that a file is not there.
fn moot(write: &Write, error: &Error) -> Option<&'static str> {
    match (write.moot(), error.kind()) {
        (Moot::WithoutSwap, ErrorKind::NotFound) if !host_has_swap() => {
            Some("the kernel counts no swap, and the host has none")
        }
        (Moot::WithoutFile(why) | Moot::Anyway(why), ErrorKind::NotFound | ErrorKind::Unsupported) => Some(why),
        (Moot::Anyway(why), ErrorKind::NotApplied) => Some(why),
        _ => None,
    }
}

/// What an update would write.
pub(crate) fn planned(group: &Group, limits: &Limits) -> Result<Plan> {
    limits.plan_from(&group.hierarchy, &present(group))
}

pub(crate) fn update(group: &Group, limits: &Limits) -> Result<Applied> {
    let best_effort = limits.is_best_effort();
    let plan = planned(group, limits)?;
    if let Some(bytes) = limits.least_usage() {
        refuse_below_usage(group, bytes)?;
    }
    let mut troubles = Vec::new();
    if let Some(node) = group.unified() {
        troubles = enable::enable(node, &plan.unified_names(), best_effort)?;
    }
    let mut joined = Vec::new();
    for controller in plan.controllers(Version::V1) {
        if group.legacy(controller).is_none() {
            match group.join(controller) {
                Ok(node) => joined.push(node),
                Err(error) if best_effort => troubles.push((controller, error.line())),
                Err(error) => return Err(error),
            }
        }
    }
    let applied = apply(group, &plan, best_effort, &troubles)?;
    // The limits are there before the processes are.
    joined.iter().try_for_each(|node| group.gather(node))?;
    Ok(applied)
}

/// The kernel would rather reclaim and kill than refuse.
fn refuse_below_usage(group: &Group, bytes: u64) -> Result<()> {
    match group.stats()?.memory.current {
        Some(used) if used > bytes => Err(Error::invalid(format!(
            "cannot limit memory to {bytes} bytes: {used} are in use, and that is to be checked"
        ))),
        _ => Ok(()),
    }
}

/// Whether the group is still there, so that it was the file that was not found: this kernel lacks what it stands for.
fn exists(group: &Group, write: &Write) -> bool {
    group.node(write.version(), write.controller()).is_some_and(|node| node.directory.has("cgroup.procs"))
}

fn perform(group: &Group, write: &Write) -> Result<Write> {
    let Some(node) = group.node(write.version(), write.controller()) else {
        let message = format!("cannot write {}: the group is in no hierarchy with that controller", write.file());
        return Err(Error::unsupported(message));
    };
    let other = write.swapped().filter(|other| !node.directory.has(write.file()) && node.directory.has(other.file()));
    let chosen = other.unwrap_or_else(|| Write::clone(write));
    node.directory.write(chosen.file(), chosen.value())?;
    verify(&node, &chosen)?;
    Ok(chosen)
}

/// Reads the value back: the kernel takes some values without a word and keeps others.
fn verify(node: &Node, write: &Write) -> Result<()> {
    let read = match node.directory.read(write.file()) {
        Ok(read) => read,
        // Some raw files can only be written.
        Err(error) if write.check() == Check::Raw && error.kind() != ErrorKind::NotFound => {
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    if matches(write.check(), write.value(), &read) {
        return Ok(());
    }
    let (file, place) = (write.file(), node.directory.path().display());
    let shown: String = read.trim().replace('\n', "; ").chars().take(100).collect();
    let message = format!("cannot set {file} of {place} to {}: it reads back as {shown}", write.value());
    Err(Error::new(ErrorKind::NotApplied, message))
}

fn matches(check: Check, written: &str, read: &str) -> bool {
    let mut lines = read.lines().map(str::trim);
    match check {
        Check::Text => written == read.trim(),
        Check::Rounded(granule) => match (number(written), number(read)) {
            (Some(written), Some(read)) => is_rounded(written, read, granule.max(page_size())),
            _ => false,
        },
        Check::List => parse_list(written).is_some() && parse_list(written) == parse_list(read.trim()),
        Check::Weight => {
            let wanted = written.trim_start_matches("default ");
            lines.any(|line| line == wanted || line.strip_prefix("default ") == Some(wanted))
        }
        Check::Pairs => has_pairs(written, read),
        Check::Map => lines.any(|line| line == written),
        Check::Field(key) => lines.any(|line| line.strip_prefix(key).is_some_and(|rest| rest.trim() == written)),
        Check::Line => match written.split_once(' ') {
            Some((key, "0")) => !lines.any(|line| line.split(' ').next() == Some(key)),
            _ => lines.any(|line| line == written),
        },
        Check::Raw => match (number(written), number(read)) {
            (Some(written), Some(read)) => is_rounded(written, read, page_size()),
            _ => true,
        },
    }
}

/// A limit as either version prints it. v1 prints the highest number of whole pages for "no limit".
fn number(text: &str) -> Option<Max> {
    match text.trim() {
        "max" | "-1" => Some(Max::Unlimited),
        text => text.parse().ok().map(|number| if is_endless(number) { Max::Unlimited } else { Max::Finite(number) }),
    }
}

fn is_endless(number: u64) -> bool {
    number > i64::MAX as u64 - (1 << 30)
}

fn is_rounded(written: Max, read: Max, granule: u64) -> bool {
    match (written, read) {
        (Max::Finite(written), Max::Finite(read)) => read <= written && written - read < granule,
        (written, read) => written == read,
    }
}

fn page_size() -> u64 {
    let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| u64::try_from(size).ok()).unwrap_or(4096)
}

fn has_pairs(written: &str, read: &str) -> bool {
    let mut wanted = written.split(' ');
    let key = wanted.next();
    let line = read.lines().find(|line| line.split(' ').next() == key).unwrap_or_default();
    let found: Vec<&str> = line.split(' ').skip(1).collect();
    wanted.all(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        let unset = !found.iter().any(|found| found.split('=').next() == Some(name));
        found.contains(&pair) || (pair.ends_with("=max") && unset)
    })
}

fn host_has_swap() -> bool {
    // The first line is the heading.
    fs::read_to_string("/proc/swaps").is_ok_and(|text| text.lines().count() > 1)
}

/// The limits a group has now, as far as they decide the order of writes. What cannot be read counts as not limited.
fn present(group: &Group) -> Present {
    let mut present = Present::default();
    let read = |directory: &Directory, file: &str| directory.text(file).as_deref().and_then(number);
    if let Some(node) = group.legacy(Controller::Memory) {
        present.memory = read(&node.directory, "memory.limit_in_bytes").unwrap_or(present.memory);
        let killer = node.directory.text("memory.oom_control").unwrap_or_default();
        if value(&killer, "oom_kill_disable") == Some(1) {
            present.oom_killer = OomKiller::Off;
        }
        present.memory_and_swap =
            read(&node.directory, "memory.memsw.limit_in_bytes").unwrap_or(present.memory_and_swap);
    } else if let Some(node) = group.unified() {
        present.memory = read(&node.directory, "memory.max").unwrap_or(present.memory);
    }
    let finite = |max: Option<Max>| {
        if let Some(Max::Finite(number)) = max { Some(number) } else { None }
    };
    if let Some(node) = group.legacy(Controller::Cpu) {
        present.quota = read(&node.directory, "cpu.cfs_quota_us").unwrap_or(present.quota);
        present.period = finite(read(&node.directory, "cpu.cfs_period_us")).unwrap_or(present.period);
        present.burst = finite(read(&node.directory, "cpu.cfs_burst_us")).unwrap_or(present.burst);
        present.realtime_runtime =
            finite(read(&node.directory, "cpu.rt_runtime_us")).unwrap_or(present.realtime_runtime);
    } else if let Some(node) = group.unified() {
        let text = node.directory.text("cpu.max").unwrap_or_default();
        let mut words = text.split_ascii_whitespace().map(number);
        present.quota = words.next().flatten().unwrap_or(present.quota);
        present.period = finite(words.next().flatten()).unwrap_or(present.period);
        present.burst = finite(read(&node.directory, "cpu.max.burst")).unwrap_or(present.burst);
    }
    present
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reads_back_is_compared_by_meaning() {
        let page = page_size();
        let rounded = (10 * page).to_string();
        let asked = (10 * page + page - 1).to_string();
        let cases = [
            (Check::Text, "50000 100000", "50000 100000\n", true),
            (Check::Text, "32", "33\n", false),
            (Check::Rounded(0), asked.as_str(), rounded.as_str(), true),
            (Check::Rounded(0), rounded.as_str(), asked.as_str(), false),
            (Check::Rounded(0), "1000000000", "max", false),
            (Check::Rounded(0), "max", "max\n", true),
            (Check::Rounded(0), "-1", "9223372036854771712\n", true),
            (Check::Rounded(0), "-1", "4096", false),
            (Check::Rounded(2 << 20), "5000000", "4194304\n", true),
            (Check::Rounded(2 << 20), "5000000", "2097152\n", false),
            (Check::List, "0-1", "0,1\n", true),
            (Check::List, "0-1", "0\n", false),
            (Check::List, "0", "\n", false),
            (Check::Weight, "default 500", "default 500\n8:0 100\n", true),
            (Check::Weight, "500", "500\n", true),
            (Check::Weight, "default 500", "default 100\n8:0 500\n", false),
            (Check::Pairs, "8:0 rbps=5 wbps=max", "8:0 rbps=5 wbps=max riops=max wiops=max\n", true),
            (Check::Pairs, "8:0 rbps=max", "", true),
            (Check::Pairs, "8:0 rbps=5", "", false),
            (Check::Pairs, "8:0 rbps=5", "8:16 rbps=5\n", false),
            (Check::Line, "8:0 5", "8:16 1\n8:0 5\n", true),
            (Check::Line, "8:0 0", "8:16 1\n", true),
            (Check::Line, "8:0 0", "8:0 1\n", false),
            (Check::Map, "eth0 5", "lo 0\neth0 5\n", true),
            (Check::Map, "eth0 0", "lo 0\neth0 5\n", false),
            (Check::Field("oom_kill_disable"), "1", "oom_kill_disable 1\nunder_oom 0\noom_kill 0\n", true),
            (Check::Field("oom_kill_disable"), "1", "oom_kill_disable 0\nunder_oom 1\noom_kill 1\n", false),
            (Check::Raw, "1000000", "999424\n", true),
            (Check::Raw, "1000000", "2\n", false),
            (Check::Raw, "50000", "50000 100000\n", true),
        ];
        for (check, written, read, expected) in cases {
            assert_eq!(matches(check, written, read), expected, "{check:?} {written:?} {read:?}");
        }
    }
}
