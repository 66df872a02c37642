//! The system calls: as data ([`Call`]), performed in one place, and as safe functions for the rest of the family.

pub(crate) mod birth;
pub mod bpf;
pub(crate) mod calls;
pub(crate) mod clone;
pub mod confine;
pub(crate) mod memory;
pub(crate) mod message;
#[cfg(test)]
pub(crate) mod names;
pub mod namespace;
pub mod notify;
mod numbers;
pub(crate) mod process;
pub(crate) mod raw;
pub mod rights;
pub mod terminal;
pub mod xattr;

pub use calls::{FilterProgram, MountAttr, OpenHow};
pub(crate) use process::is_root;
pub use process::{
    Exit, duplicate, open_inside, open_inside_by_walking, pidfd_open, remembered_status, send_signal, try_wait, wait,
};
pub use raw::{Call, Errno, Kernel, Linux};
