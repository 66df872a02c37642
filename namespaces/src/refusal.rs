//! Why the kernel refused a namespace, in a sentence with the remedy.
//!
//! The kernel says `EPERM` for a dozen reasons. [`Refusal::of`] weighs what is known of the machine, purely;
//! [`Refusal::explain`] gathers that first. Leaves out on purpose: reasons it cannot see (a security module's policy, the
//! content of a filter); it then says what it did see. Oldest kernel: any.

use std::fmt;

use keelbox_launch::Errno;

use crate::facts::Facts;
use crate::kind::{Kind, NamespaceSet};

/// What was tried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Attempt {
    /// Making new namespaces (`clone3(2)`, `unshare(2)`).
    Create(NamespaceSet),
    /// Joining namespaces (`setns(2)`).
    Join(NamespaceSet),
    /// Writing id maps.
    Map,
    /// Writing id maps by `newuidmap(1)` and `newgidmap(1)`.
    MapByHelper,
}

/// What was found to be the reason.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Cause {
    /// The user's limit of namespaces of this kind.
    Limit(Kind),
    /// `kernel.unprivileged_userns_clone` is 0.
    UnprivilegedClone,
    /// `kernel.apparmor_restrict_unprivileged_userns` is 1.
    AppArmor,
    /// The caller is in a `chroot(2)`.
    Chroot,
    /// The caller's user id means nothing in its own user namespace.
    Unmapped,
    /// A system call filter of the caller's.
    Filter,
    /// A capability is missing.
    Privilege,
    /// The process has several threads.
    Threads,
    /// The first process of the pid namespace has ended.
    DeadPidNamespace,
    /// The kernel was built without it, or is too old.
    Kernel,
    /// No ids are lent to the caller.
    Ranges,
    /// `newuidmap` or `newgidmap` is not installed.
    HelperMissing,
    /// `newuidmap` and `newgidmap` cannot gain the privilege they need.
    HelperPowerless,
    /// None that this crate knows of.
    Unknown,
}

/// Why the kernel refused.
///
/// ```
/// use keelbox_namespaces::{Attempt, Cause, Facts, Kind, Refusal};
///
/// let mut facts = Facts::default();
/// facts.limits.insert(Kind::User, 0);
/// let refusal = Refusal::of(Attempt::Create(Kind::User.into()), 28, &facts);
/// assert_eq!(refusal.cause(), Cause::Limit(Kind::User));
/// assert_eq!(
///     refusal.to_string(),
///     "new user namespaces are switched off on this machine; as root: sysctl user.max_user_namespaces=15000"
/// );
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    cause: Cause,
    errno: i32,
    text: String,
}

impl Refusal {
    /// Explains error number `errno` by what this machine's settings are now.
    pub fn explain(attempt: Attempt, errno: i32) -> Self {
        Self::of(attempt, errno, &Facts::gather())
    }

    /// Explains error number `errno` by these facts. Pure.
    pub fn of(attempt: Attempt, errno: i32, facts: &Facts) -> Self {
        let (cause, text) = match attempt {
            Attempt::Create(kinds) => create(kinds, Errno(errno), facts),
            Attempt::Join(kinds) => join(kinds, Errno(errno), facts),
            Attempt::Map => map(Errno(errno), facts),
            Attempt::MapByHelper => help(facts),
        }
        .unwrap_or_else(|| unknown(errno, facts));
        Self { cause, errno, text }
    }

    /// What was found to be the reason.
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// The kernel's error number.
    pub fn errno(&self) -> i32 {
        self.errno
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refusal {}

type Verdict = Option<(Cause, String)>;

fn verdict(cause: Cause, text: impl Into<String>) -> Verdict {
    Some((cause, text.into()))
}

fn create(kinds: NamespaceSet, errno: Errno, facts: &Facts) -> Verdict {
    match errno {
        Errno::ENOSPC | Errno::EUSERS => exhausted(kinds, facts),
        Errno::EPERM | Errno::EACCES if kinds.contains(Kind::User) => user_refused(facts),
        Errno::EPERM if !facts.privileged => verdict(
            Cause::Privilege,
            format!("new namespaces ({kinds}) need CAP_SYS_ADMIN; make a user namespace with them, or run as root"),
        ),
        Errno::EINVAL if kinds.contains(Kind::User) && facts.threads.is_some_and(|count| count > 1) => threads(facts),
        Errno::EINVAL | Errno::ENOSYS => unknown_to_kernel(kinds),
        Errno::ENOMEM if kinds.contains(Kind::Pid) => dead(),
        _ => None,
    }
}

/// `user_namespaces(7)`, "Limits": none left of one kind, or nested more than 32 deep.
fn exhausted(kinds: NamespaceSet, facts: &Facts) -> Verdict {
    let limit = |kind: Kind| facts.limits.get(&kind).map(|limit| (kind, *limit));
    let lowest = kinds.iter().filter_map(limit).min_by_key(|(_, limit)| *limit);
    let Some((kind, limit)) = lowest else {
        let kind = kinds.iter().next().unwrap_or(Kind::User);
        return verdict(
            Cause::Limit(kind),
            format!(
                "too many namespaces ({kinds}), or nested more than 32 deep; end some, or raise the limits in /proc/sys/user"
            ),
        );
    };
    let (words, sysctl) = (kind.words(), kind.limit_name());
    if limit == 0 {
        let text = format!("new {words}s are switched off on this machine; as root: sysctl user.{sysctl}=15000");
        return verdict(Cause::Limit(kind), text);
    }
    let text = format!(
        "too many namespaces ({kinds}): a user may have {limit} {words}s, nested 32 deep at most; end some, or as \
         root: sysctl user.{sysctl}={}",
        limit.saturating_mul(2)
    );
    verdict(Cause::Limit(kind), text)
}

fn user_refused(facts: &Facts) -> Verdict {
    if facts.unprivileged_clone == Some(false) && !facts.privileged {
        let text = "only root may make user namespaces on this machine; as root: sysctl \
                    kernel.unprivileged_userns_clone=1";
        return verdict(Cause::UnprivilegedClone, text);
    }
    if facts.chrooted == Some(true) {
        let text = "the kernel makes no user namespace for a process in a chroot; enter the directory by a mount \
                    namespace and pivot_root instead";
        return verdict(Cause::Chroot, text);
    }
    if facts.mapped == Some(false) {
        let text = "the caller's ids have no meaning in its own user namespace; write its id maps first";
        return verdict(Cause::Unmapped, text);
    }
    apparmor(facts).or_else(|| filter(facts))
}

fn apparmor(facts: &Facts) -> Verdict {
    if facts.apparmor_restricts != Some(true) || facts.privileged {
        return None;
    }
    let text = "AppArmor takes the capabilities of user namespaces from programs without a profile that allows \
                them; give this program a profile with \"userns,\", or as root: sysctl \
                kernel.apparmor_restrict_unprivileged_userns=0";
    verdict(Cause::AppArmor, text)
}

fn filter(facts: &Facts) -> Verdict {
    if !facts.filtered {
        return None;
    }
    let text = "a system call filter is at work on this process and may forbid it, as container engines do by \
                default; run it with seccomp=unconfined or a profile that allows clone3, unshare, setns and mount";
    verdict(Cause::Filter, text)
}

fn join(kinds: NamespaceSet, errno: Errno, facts: &Facts) -> Verdict {
    match errno {
        Errno::EPERM | Errno::EACCES if !facts.privileged => {
            let text = if kinds.contains(Kind::User) {
                "joining a user namespace needs CAP_SYS_ADMIN in it: its maker has that, and root of the namespaces \
                 above it"
                    .to_owned()
            } else {
                format!(
                    "joining namespaces ({kinds}) needs CAP_SYS_ADMIN in the caller's user namespace and in the one \
                     that owns them; join that one first, or run as root"
                )
            };
            verdict(Cause::Privilege, text)
        }
        Errno::EPERM | Errno::EACCES => filter(facts).or_else(|| {
            let text = format!(
                "the namespaces ({kinds}) belong to a user namespace in which the caller has no CAP_SYS_ADMIN{}",
                if facts.nested { ", since it is in a user namespace beside or below it" } else { "" }
            );
            verdict(Cause::Privilege, text)
        }),
        Errno::EUSERS | Errno::EINVAL
            if (kinds.contains(Kind::User) || kinds.contains(Kind::Time) || kinds.contains(Kind::Mount))
                && facts.threads.is_some_and(|count| count > 1) =>
        {
            threads(facts)
        }
        Errno::EINVAL | Errno::ENOSYS => unknown_to_kernel(kinds),
        Errno::ENOMEM if kinds.contains(Kind::Pid) => dead(),
        _ => None,
    }
}

fn map(errno: Errno, facts: &Facts) -> Verdict {
    match errno {
        Errno::EPERM | Errno::EACCES => apparmor(facts).or_else(|| {
            (!facts.privileged).then(|| {
                let text = "without CAP_SETUID and CAP_SETGID only the caller's own user and group can be mapped, \
                            once, and after setgroups has been denied; use newuidmap and newgidmap for more";
                (Cause::Privilege, text.to_owned())
            })
        })
        .or_else(|| {
            let text = "a map can be written once; and mapping user 0 needs CAP_SETFCAP (Linux 5.12) in the caller's \
                        user namespace";
            verdict(Cause::Privilege, text)
        }),
        _ => None,
    }
}

fn help(facts: &Facts) -> Verdict {
    match facts.helpers {
        None => verdict(
            Cause::HelperMissing,
            "newuidmap and newgidmap are not installed; install the package uidmap or shadow-utils",
        ),
        Some(_) if facts.no_new_privileges => verdict(
            Cause::HelperPowerless,
            "newuidmap gains no privilege, since this process forbids that (no_new_privs); map the caller's own ids only",
        ),
        Some(_) if facts.lent == Some(false) => verdict(
            Cause::Ranges,
            "no ids are lent to the caller in both /etc/subuid and /etc/subgid; as root: usermod --add-subuids \
             100000-165535 --add-subgids 100000-165535 NAME",
        ),
        Some(false) => verdict(
            Cause::HelperPowerless,
            "newuidmap and newgidmap are not both set-user-id; unless they have file capabilities, as root: chmod \
             u+s on both",
        ),
        Some(true) => apparmor(facts),
    }
}

fn threads(facts: &Facts) -> Verdict {
    let count = facts.threads.unwrap_or_default();
    let text = format!(
        "the kernel moves only single-threaded processes into user and time namespaces, and this one has {count} \
         threads; start a process for it"
    );
    verdict(Cause::Threads, text)
}

fn unknown_to_kernel(kinds: NamespaceSet) -> Verdict {
    let list: Vec<_> = kinds
        .iter()
        .map(|kind| {
            let (major, minor) = kind.oldest_kernel();
            format!("{kind} since {major}.{minor}")
        })
        .collect();
    let text = format!("the kernel was built without such namespaces or is too old ({})", list.join(", "));
    verdict(Cause::Kernel, text)
}

fn dead() -> Verdict {
    let text = "the first process of the pid namespace has ended, and with it the namespace; make a new one";
    verdict(Cause::DeadPidNamespace, text)
}

fn unknown(errno: i32, facts: &Facts) -> (Cause, String) {
    let system = std::io::Error::from_raw_os_error(errno);
    let mut seen = Vec::new();
    if facts.privileged {
        seen.push("the caller has CAP_SYS_ADMIN");
    } else {
        seen.push("the caller has no CAP_SYS_ADMIN");
    }
    if facts.nested {
        seen.push("it is in a user namespace itself");
    }
    if facts.filtered {
        seen.push("a system call filter is at work");
    }
    let text = format!("{system}; {}, and no setting of the machine is known to forbid it", seen.join(", "));
    (Cause::Unknown, text)
}

#[cfg(test)]
#[path = "refusal_tests.rs"]
mod tests;
