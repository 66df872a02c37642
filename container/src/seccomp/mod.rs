//! Seccomp filters, from a profile to the bytes for the kernel, without a C library.
//!
//! ```text
//! JSON, OCI type ──Profile::from_json, from_oci──► Profile ──resolve──► Rules ──compile──► Filter ──bytes──► seccomp(2)
//! ```
//!
//! A [`Profile`] is what someone wrote down; [`Rules`] are what is left of it for one container (its capabilities, the
//! kernel, the machine); a [`Filter`] is the program. All three are data, and all steps are pure. Each can be asked what
//! it does with a call, before anything is installed.
//!
//! Installing is left out on purpose: it is the launch stage's last step before `execve`. So is receiving
//! notifications, for which a filter only says that it needs a listener.
//!
//! Oldest kernel: 4.14; user notification needs 5.0. x86_64 and aarch64, with their 32-bit companions.
//!
//! ```
//! use keelbox::seccomp::{Action, Builtin, Profile, SyscallTable, Target};
//!
//! let target = Target::host()?;
//! let filter = Builtin::Standard.filter(&target)?;
//! println!("{} instructions, flags {:#x}", filter.instructions().len(), filter.flags());
//!
//! // The same with one system call handed to this program:
//! let filter = Profile::standard().clone().notify(["mkdirat"]).compile(&target)?;
//! let number = SyscallTable::native().and_then(|table| table.number("mkdirat")).expect("every architecture has mkdirat");
//! let arch = keelbox::seccomp::Arch::native().expect("Target::host would have failed");
//! assert_eq!(filter.decide(arch, number, [0; 6]), Action::Notify);
//! # Ok::<(), keelbox::seccomp::Error>(())
//! ```

mod action;
mod arch;
mod assemble;
mod builtin;
mod compile;
mod conditions;
mod errno;
mod error;
mod filter;
mod json;
mod oci;
mod profile;
mod resolve;
mod rule;
pub mod simulate;
mod tables;
mod target;

pub use action::Action;
pub use arch::Arch;
pub use builtin::Builtin;
pub use error::{Error, ErrorKind, Warning};
pub use filter::{Filter, Instruction};
pub use profile::{NewerSyscalls, Profile, RepeatedArguments};
pub use resolve::Rules;
pub use rule::{Condition, Operator, Rule};
pub use simulate::Call;
pub use tables::SyscallTable;
pub use target::Target;

#[cfg(test)]
mod tests;
