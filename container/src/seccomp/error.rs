//! What can go wrong between a seccomp profile and a filter, and what is only worth a remark.
//!
//! Errors stop the work; a [`Warning`] is a value that the caller may show or drop. Nothing is printed here.

use std::fmt;

/// The part of an [`Error`] that a program may act on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The profile is not JSON at all.
    Json,
    /// A field is missing, has the wrong type, or holds a value that has no meaning there.
    Field,
    /// A rule compares the same argument twice, and the caller did not say what that means.
    ///
    /// See [`RepeatedArguments`](super::RepeatedArguments).
    RepeatedArgument,
    /// A system call named by the program (not by the profile) exists on no architecture known here.
    UnknownSyscall,
    /// Filters can be compiled for x86_64, x86, aarch64 and arm only.
    Unsupported,
    /// The compiled program is longer than the 4096 instructions the kernel accepts.
    TooLong,
    /// The kernel's release could not be read from `/proc/sys/kernel/osrelease`.
    Kernel,
}

/// Why a seccomp profile could not be read, resolved or compiled.
///
/// ```
/// use keelbox::seccomp::{ErrorKind, Profile};
///
/// let error = Profile::from_json(br#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["kill"]}]}"#).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Field);
/// assert_eq!((error.rule(), error.field()), (Some(0), "action"));
/// assert_eq!(error.to_string(), "cannot use action of rule 0 of the seccomp profile: it is missing");
/// ```
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    rule: Option<usize>,
    field: String,
    problem: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// The kind of problem, for programs.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The index of the rule at fault in the profile's `syscalls`, counted from 0; `None` where no one rule is.
    ///
    /// Rules that a program adds to a profile (with [`Profile::allow`](super::Profile::allow) and its siblings) have
    /// no index.
    pub fn rule(&self) -> Option<usize> {
        self.rule
    }

    /// The field at fault, written as a path (`args/0/op`) inside the rule or, without a rule, inside the profile.
    pub fn field(&self) -> &str {
        &self.field
    }

    pub(super) fn new(kind: ErrorKind, field: impl Into<String>, problem: impl Into<String>) -> Self {
        let (field, problem) = (field.into(), problem.into());
        Self { kind, rule: None, field, problem, source: None }
    }

    pub(super) fn in_rule(mut self, rule: Option<usize>) -> Self {
        self.rule = rule;
        self
    }

    pub(super) fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, rule, field, problem, .. } = self;
        match (kind, rule) {
            (ErrorKind::Json, _) => write!(f, "cannot read the seccomp profile as JSON"),
            (ErrorKind::Kernel, _) => write!(f, "cannot read the kernel release from {field}"),
            (ErrorKind::TooLong | ErrorKind::Unsupported, _) => {
                write!(f, "cannot compile the seccomp profile: {problem}")
            }
            (ErrorKind::UnknownSyscall, _) => {
                write!(f, "cannot add a seccomp rule for {field}: {problem}")
            }
            (_, Some(rule)) => write!(f, "cannot use {field} of rule {rule} of the seccomp profile: {problem}"),
            (_, None) => write!(f, "cannot use {field} of the seccomp profile: {problem}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Something in a profile that was passed over, or that other runtimes may read differently.
///
/// What is passed over gets the default action. So with a default of `SCMP_ACT_ALLOW` look at
/// [`Warning::UnknownSyscall`]: a call that the profile meant to forbid is not.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Warning {
    /// A rule names a system call that exists on no architecture known here; the name is passed over.
    UnknownSyscall {
        /// Index of the rule in the profile.
        rule: usize,
        /// The name as written.
        name: String,
    },
    /// The profile lists an architecture this crate has no table for. Its calls are killed, like those of any
    /// architecture that is not listed; the kernel this runs on has none of them.
    UnknownArchitecture(String),
    /// The profile asks for a filter flag that is not known; it is not set.
    UnknownFlag(String),
    /// A rule depends on a capability that is not known; the container never has it.
    UnknownCapability {
        /// Index of the rule in the profile.
        rule: usize,
        /// The name as written.
        name: String,
    },
    /// A rule can never decide about this call: an earlier rule without conditions, with another action, takes all.
    Unreachable {
        /// Index of the rule that has no effect.
        rule: usize,
        /// The system call.
        syscall: String,
    },
    /// A rule without conditions follows one with conditions and another action. Here the first match decides;
    /// libseccomp, and so runc and crun, would forget the conditional rule.
    Order {
        /// Index of the rule without conditions.
        rule: usize,
        /// The system call.
        syscall: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownSyscall { rule, name } => {
                write!(f, "rule {rule}: no system call is named {name:?}")
            }
            Self::UnknownArchitecture(name) => write!(f, "architecture {name:?} is not known here"),
            Self::UnknownFlag(name) => write!(f, "seccomp flag {name:?} is not known"),
            Self::UnknownCapability { rule, name } => {
                write!(f, "rule {rule}: no capability is named {name:?}")
            }
            Self::Unreachable { rule, syscall } => {
                write!(f, "rule {rule} has no effect on {syscall}: an earlier rule takes every call")
            }
            Self::Order { rule, syscall } => {
                write!(f, "rule {rule} on {syscall} would override earlier conditional rules in other runtimes")
            }
        }
    }
}
