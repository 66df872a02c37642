//! The floor of keelbox: steps as data, the static stage that performs them, and every system call.
//!
//! A [`Step`] names one thing the kernel is asked to do. A script of steps is handed to the *stage*, a small static
//! program that lies sealed in memory; it performs them in a process of its own and then executes the user's program.
//! All `unsafe` code of the family is below `sys/`.
//!
//! ```
//! use keelbox_launch::{Launch, Step, list, sys};
//!
//! let steps = [
//!     Step::Umask { mask: 0o022 },
//!     Step::Exec { paths: list(["/bin/true"]), arguments: list(["true"]), environment: vec![] },
//! ];
//! let mut started = Launch::new(&steps).start()?;
//! started.control.running()?;
//! assert_eq!(sys::wait(&started.pidfd)?.code, Some(0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod channel;
mod describe;
mod interpret;
mod joined;
mod launch;
mod launcher;
mod owned;
mod parcel;
mod perform;
mod script;
mod stage;
mod step;
pub mod sys;
mod wire;
#[cfg(test)]
mod wire_tests;

pub use joined::joined_command;
pub use launch::{Control, Event, Failure, Launch, Started};
pub use launcher::Seat;
pub use owned::{Owned, OwnedStep, list, text};
pub use parcel::sealed_file;
pub use perform::{perform, prepare};
pub use stage::size as stage_size;
pub use step::{Create, Form, MapFile, Slot, Step, Wait};
pub use sys::Errno;
