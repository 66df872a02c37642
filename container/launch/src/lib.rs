//! The floor of keelbox: steps as data, the static stage that performs them, and every system call.
//!
//! A [`Step`] names one thing the kernel is asked to do. A script of steps is handed to the *stage*, a small static
//! program that lies sealed in memory; it performs them in a process of its own and then executes the user's program.
//! All `unsafe` code of the family is below `sys/`.

pub mod owned;
pub mod step;
pub mod sys;
pub mod wire;

pub use owned::{Owned, OwnedStep, list, text};
pub use step::{Create, MapFile, Slot, Step, Wait};
pub use sys::Errno;
