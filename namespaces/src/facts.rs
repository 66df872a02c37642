//! What a machine's settings say about namespaces: gathered here, judged in `refusal.rs`.
//!
//! Leaves out on purpose: settings that have no effect on namespaces. What cannot be read is unknown, never an error: an
//! explanation must not fail. Oldest kernel: 4.9 for the limits.

use std::collections::BTreeMap;
use std::fs;

use crate::caller::Caller;
use crate::kind::Kind;
use crate::mapping::{Helpers, is_set_user_id, subordinate_texts};
use crate::namespace::Identity;
use crate::process::field;
use crate::subordinate::subordinate_ranges;

/// What bears on whether the kernel makes, joins or maps namespaces for the calling thread.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Facts {
    /// How many namespaces of a kind a user may have: `/proc/sys/user/max_*_namespaces`.
    pub limits: BTreeMap<Kind, u64>,
    /// `/proc/sys/kernel/unprivileged_userns_clone`, which Debian and its kin have.
    pub unprivileged_clone: Option<bool>,
    /// `/proc/sys/kernel/apparmor_restrict_unprivileged_userns`, which Ubuntu has.
    pub apparmor_restricts: Option<bool>,
    /// Whether the caller's root directory is not the root of its mount namespace.
    pub chrooted: Option<bool>,
    /// Whether a system call filter is at work (`Seccomp:` in `/proc/self/status`).
    pub filtered: bool,
    /// Whether executing a program cannot give privilege (`NoNewPrivs:` in `/proc/self/status`).
    pub no_new_privileges: bool,
    /// Whether the caller has `CAP_SYS_ADMIN` in its user namespace.
    pub privileged: bool,
    /// Whether the caller is in a user namespace that does not map all ids, as in a container.
    pub nested: bool,
    /// Whether the caller's own user id has a meaning in its user namespace.
    pub mapped: Option<bool>,
    /// How many threads the calling process has, if known.
    pub threads: Option<usize>,
    /// Whether `newuidmap` and `newgidmap` are installed, and are both set-user-id (file capabilities, which some
    /// distributions use in its place, count as not).
    pub helpers: Option<bool>,
    /// Whether `/etc/subuid` and `/etc/subgid` both lend ids to the caller.
    pub lent: Option<bool>,
}

impl Facts {
    /// Reads the settings of this machine, for the calling thread.
    pub fn gather() -> Self {
        let status = text("/proc/thread-self/status").unwrap_or_default();
        let number = |name| field(&status, name).and_then(|value| value.parse::<u32>().ok());
        let caller = Caller::current().ok();
        let own_map = text("/proc/self/uid_map");
        let lines = own_map.as_deref().map(|map| map.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        Self {
            limits: Kind::ALL.into_iter().filter_map(|kind| Some((kind, limit(kind)?))).collect(),
            unprivileged_clone: switch("/proc/sys/kernel/unprivileged_userns_clone"),
            apparmor_restricts: switch("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
            chrooted: chrooted(),
            filtered: number("Seccomp").is_some_and(|mode| mode != 0),
            no_new_privileges: number("NoNewPrivs") == Some(1),
            privileged: caller.as_ref().is_some_and(Caller::is_privileged),
            nested: lines.as_deref().is_some_and(|words| words != ["0", "0", "4294967295"]),
            mapped: own_map.map(|map| !map.trim().is_empty()),
            threads: threads(),
            helpers: Helpers::find()
                .map(|found| is_set_user_id(found.newuidmap()) && is_set_user_id(found.newgidmap())),
            lent: caller.as_ref().and_then(lent),
        }
    }
}

/// How many threads this process has.
pub(crate) fn threads() -> Option<usize> {
    fs::read_dir("/proc/self/task").ok().map(Iterator::count)
}

fn text(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn switch(path: &str) -> Option<bool> {
    text(path).map(|value| value.trim() != "0")
}

fn limit(kind: Kind) -> Option<u64> {
    text(&format!("/proc/sys/user/{}", kind.limit_name()))?.trim().parse().ok()
}

fn lent(caller: &Caller) -> Option<bool> {
    let (users, groups) = subordinate_texts().ok()?;
    Some([users, groups].iter().all(|text| !subordinate_ranges(text, caller, None).is_empty()))
}

/// Compares the root directory with that of process 1, where it may be looked at and is in the same mount namespace;
/// else a process without any mount at `/` is known to be in a `chroot(2)`.
fn chrooted() -> Option<bool> {
    let mounts = text("/proc/thread-self/mountinfo")?;
    if !mounts.lines().any(|line| line.split(' ').nth(4) == Some("/")) {
        return Some(true);
    }
    let own = Identity::at("/proc/thread-self/ns/mnt").ok()?;
    let first = Identity::at("/proc/1/ns/mnt").ok()?;
    if own != first {
        return None;
    }
    Some(Identity::at("/").ok()? != Identity::at("/proc/1/root/").ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_facts_of_this_process() {
        let facts = Facts::gather();
        assert!(facts.threads.is_some_and(|count| count >= 2), "the test harness has a thread of its own");
        assert!(facts.limits.contains_key(&Kind::Net));
        assert_eq!(facts.privileged, Caller::current().unwrap().is_privileged());
    }
}
