//! The part of the library's system calls that needs no `std`.

#[path = "../src/sys/calls.rs"]
pub mod calls;
#[path = "../src/sys/clone.rs"]
pub mod clone;
#[path = "../src/sys/memory.rs"]
pub mod memory;
#[path = "../src/sys/message.rs"]
pub mod message;
#[path = "../src/sys/numbers.rs"]
mod numbers;
#[path = "../src/sys/raw.rs"]
pub mod raw;

pub use calls::{FilterProgram, MountAttr, OpenHow};
pub use raw::{Call, Errno, Kernel, Linux};
