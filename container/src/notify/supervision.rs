//! Which system calls are decided about, and by what. Pure data; oldest kernel: any.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::{Answer, Call};
use crate::error::{Error, ErrorKind, Result};
use crate::seccomp::{Arch, SyscallTable};

/// What decides about one system call.
pub(super) type Decide = Arc<dyn Fn(&Call<'_>) -> Answer + Send + Sync>;

const ARCHES: [Arch; 5] = [Arch::X86_64, Arch::X86, Arch::X32, Arch::Aarch64, Arch::Arm];

/// What the stage calls between the installation of the filter and the moment somebody holds the listener: to have it
/// decided would be to wait for ever.
const NEEDED_BY_THE_LAUNCH: &str = "sendmsg";

/// System calls by name, each with what decides about it.
#[derive(Clone, Default)]
pub(crate) struct Supervision {
    decisions: Vec<(String, Decide)>,
}

/// The same by what the kernel reports: `AUDIT_ARCH_*` and number.
pub(super) type Decisions = HashMap<(u32, u32), (String, Decide)>;

impl Supervision {
    /// Has `decide` asked about the system call `name`, and nothing else that was asked about it before.
    pub(crate) fn add(&mut self, name: String, decide: impl Fn(&Call<'_>) -> Answer + Send + Sync + 'static) {
        self.decisions.retain(|(known, _)| *known != name);
        self.decisions.push((name, Arc::new(decide)));
    }

    /// The names, in the order in which they came.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.decisions.iter().map(|(name, _)| name.as_str())
    }

    /// Refuses what cannot be decided about. To be asked before anything is launched.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] for a name that no architecture knows, and for `sendmsg`, which the launch needs before
    /// anybody can answer.
    pub(crate) fn check(&self) -> Result<()> {
        self.names().try_for_each(|name| {
            let invalid =
                |why| Error::new(ErrorKind::Invalid, format!("cannot decide about the system call {name}: {why}"));
            if name == NEEDED_BY_THE_LAUNCH {
                return Err(invalid("the launch needs it before anybody can answer"));
            }
            match numbers(name).next() {
                Some(_) => Ok(()),
                None => Err(invalid("there is none of this name")),
            }
        })
    }

    pub(super) fn decisions(&self) -> Decisions {
        let each = self.decisions.iter();
        each.flat_map(|(name, decide)| numbers(name).map(move |number| (number, (name.clone(), Arc::clone(decide)))))
            .collect()
    }
}

/// Architecture and number of the call `name`, wherever it exists. x86_64 and x32 share an `AUDIT_ARCH_*`, not numbers.
fn numbers(name: &str) -> impl Iterator<Item = (u32, u32)> {
    ARCHES.into_iter().filter_map(move |arch| Some((arch.audit(), SyscallTable::of(arch).number(name)?)))
}

impl fmt::Debug for Supervision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(names: &[&str]) -> Supervision {
        let mut supervision = Supervision::default();
        names.iter().for_each(|name| supervision.add((*name).into(), |_| Answer::Continue));
        supervision
    }

    #[test]
    fn names_keep_their_order_and_a_later_decision_replaces_an_earlier_one() {
        let supervision = about(&["mkdirat", "openat", "mkdirat"]);
        assert_eq!(supervision.names().collect::<Vec<_>>(), ["openat", "mkdirat"]);
        assert_eq!(format!("{supervision:?}"), r#"{"openat", "mkdirat"}"#);
    }

    #[test]
    fn what_cannot_be_decided_about_is_refused() {
        assert!(about(&[]).check().is_ok());
        assert!(about(&["mkdirat", "mkdir", "execve"]).check().is_ok());
        for (name, reason) in [
            ("mkdrat", "cannot decide about the system call mkdrat: there is none of this name"),
            ("sendmsg", "cannot decide about the system call sendmsg: the launch needs it before anybody can answer"),
        ] {
            let error = about(&["openat", name]).check().unwrap_err();
            assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Invalid, reason));
        }
    }

    #[test]
    fn a_call_is_found_by_every_number_that_it_has() {
        let decisions = about(&["mkdirat", "mkdir"]).decisions();
        let name = |arch: Arch, number| decisions.get(&(arch.audit(), number)).map(|(name, _)| name.as_str());
        assert_eq!(name(Arch::X86_64, 258), Some("mkdirat"));
        assert_eq!(name(Arch::X86_64, 83), Some("mkdir"));
        assert_eq!(name(Arch::X32, 0x4000_0000 | 258), Some("mkdirat"));
        assert_eq!(name(Arch::X86, 296), Some("mkdirat"));
        assert_eq!(name(Arch::X86, 258), None);
        assert_eq!(name(Arch::Aarch64, 34), Some("mkdirat"));
        assert_eq!(name(Arch::Aarch64, 83), None);
    }
}
