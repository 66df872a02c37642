//! Decides about system calls of a container in this program: `seccomp_unotify(2)`.
//!
//! ```text
//! Supervision ──names──► filter ──listener──► Supervisor::start ──thread──► Call ──decide──► Answer
//! ```
//!
//! Installing the filter is left out on purpose: the profile compiler gives the filter, the stage installs it and
//! sends the listener. So is every policy: [`Answer`] says what is safe to build one on.
//!
//! Oldest kernel: 5.9, which says when the last process of a filter is gone. A filter should ask for
//! `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV` (Linux 5.19): without it a signal to the program interrupts a call that is
//! being decided, and the program may make it, and so have it decided, again.

mod answer;
mod call;
mod supervision;
mod supervisor;

pub use answer::{Answer, OnExec};
pub use call::Call;
pub(crate) use supervision::Supervision;
pub(crate) use supervisor::Supervisor;

#[cfg(test)]
mod tests;
