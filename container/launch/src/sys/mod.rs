//! The system calls: as data ([`Call`]), performed in one place, and as safe functions for the rest of the family.

pub mod calls;
pub mod message;
pub mod namespace;
mod numbers;
pub mod raw;
pub mod xattr;

pub use calls::{FilterProgram, MountAttr, OpenHow};
pub use raw::{Call, Errno, Kernel, Linux};
