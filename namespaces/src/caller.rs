//! Who asks for namespaces: user, group and capabilities of the calling thread.
//!
//! The value is plain data, so that planners stay pure; [`Caller::current`] gathers it. Leaves out on purpose: whether a
//! security module or filter forbids what the capabilities allow; see `refusal.rs`. Oldest kernel: any.

use std::fmt;

use nix::unistd::{User, getegid, geteuid};

use crate::error::{Error, ErrorKind};
use crate::process::{field, status};

const CAP_SETGID: u32 = 6;
const CAP_SETUID: u32 = 7;
const CAP_SYS_ADMIN: u32 = 21;

/// Who asks.
///
/// ```
/// use keelbox_namespaces::Caller;
///
/// let caller = Caller::current()?;
/// println!("{caller}, {}", if caller.is_privileged() { "privileged" } else { "ordinary" });
/// # Ok::<(), keelbox_namespaces::Error>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Caller {
    user: u32,
    group: u32,
    name: Option<String>,
    capabilities: u64,
    bounding: u64,
}

impl Caller {
    /// A caller with these ids, without a name and without capabilities.
    pub fn new(user: u32, group: u32) -> Self {
        Self { user, group, name: None, capabilities: 0, bounding: u64::MAX }
    }

    /// The calling thread: effective ids and capabilities, and the name that the user database has for the user.
    ///
    /// # Errors
    ///
    /// Any of reading `/proc/thread-self/status`.
    pub fn current() -> Result<Self, Error> {
        let status = status("/proc/thread-self/status")?;
        let mask = field(&status, "CapEff").and_then(|mask| u64::from_str_radix(mask, 16).ok());
        let capabilities = mask
            .ok_or_else(|| Error::new(ErrorKind::Malformed, "no effective capabilities in /proc/thread-self/status"))?;
        let bounding = field(&status, "CapBnd").and_then(|mask| u64::from_str_radix(mask, 16).ok());
        // A user that the database does not know has no name, which is no reason to fail. Root needs none: it maps by itself.
        let user = geteuid();
        let ordinary = Some(user).filter(|user| !user.is_root());
        let name = ordinary.and_then(|user| User::from_uid(user).ok().flatten()).map(|user| user.name);
        Ok(Self {
            user: user.as_raw(),
            group: getegid().as_raw(),
            name,
            capabilities,
            bounding: bounding.unwrap_or(u64::MAX),
        })
    }

    /// The name that `/etc/subuid` may know the user by. Default: none.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The effective capabilities in its own user namespace, as a bit mask. Default: 0.
    #[must_use]
    pub fn capabilities(mut self, mask: u64) -> Self {
        self.capabilities = mask;
        self
    }

    /// The capabilities that its programs can have at all, as a mask (`CapBnd`). Default: every one.
    #[must_use]
    pub fn bounding_set(&self) -> u64 {
        self.bounding
    }

    /// The effective user id.
    pub fn user_id(&self) -> u32 {
        self.user
    }

    /// The effective group id.
    pub fn group_id(&self) -> u32 {
        self.group
    }

    /// Whether it may make and join namespaces without a user namespace (`CAP_SYS_ADMIN`).
    pub fn is_privileged(&self) -> bool {
        self.has(CAP_SYS_ADMIN)
    }

    /// Whether it may write id maps of any ids of its own user namespace (`CAP_SETUID`, `CAP_SETGID` and, over the
    /// child's namespace, `CAP_SYS_ADMIN`).
    pub fn may_map(&self) -> bool {
        self.has(CAP_SETUID) && self.has(CAP_SETGID) && self.has(CAP_SYS_ADMIN)
    }

    /// Whether the first field of a line of `/etc/subuid` means this user.
    pub(crate) fn is_called(&self, who: &str) -> bool {
        self.name.as_deref() == Some(who) || who.parse() == Ok(self.user)
    }

    fn has(&self, capability: u32) -> bool {
        self.capabilities & (1 << capability) != 0
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "user {name} ({})", self.user),
            None => write!(f, "user {}", self.user),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_decide_not_ids() {
        let root = Caller::new(0, 0);
        assert!(!root.is_privileged() && !root.may_map());
        let admin = root.clone().capabilities(1 << 21);
        assert!(admin.is_privileged() && !admin.may_map());
        assert!(root.capabilities(1 << 21 | 1 << 7 | 1 << 6).may_map());
    }

    #[test]
    fn the_current_caller_is_this_process() {
        let caller = Caller::current().unwrap();
        assert_eq!(caller.user_id(), geteuid().as_raw());
        assert!(caller.is_called(&caller.user_id().to_string()));
    }
}
