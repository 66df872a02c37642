//! Linux cgroups: one vocabulary of limits for v2, v1 and hybrid hosts.
//!
//! * [`Hierarchy`] finds out what is mounted, and where this process sits.
//! * [`Limits`] says what a group may use; [`Limits::plan`] turns that into an ordered list of writes, without touching anything.
//! * [`Group`] is a cgroup: made with its limits set and read back before any process is in it, watched, measured, frozen, killed, removed.
//! * [`gc`] sweeps up what a killed program left.
//! * [`resctrl`] shares the last-level cache and memory bandwidth, which is not a matter of cgroups but of the same kind.
//!
//! ```
//! use keelbox_cgroups::{Hierarchy, Limits, MIB};
//! let limits = Limits::new().memory(256 * MIB).pids(32);
//! match limits.plan(&Hierarchy::detect()?) {
//!     Ok(plan) => println!("{plan}"),
//!     Err(error) => println!("not on this host: {error}"),
//! }
//! # Ok::<(), keelbox_cgroups::Error>(())
//! ```
//!
//! What is asked for is what is set: a limit that the host cannot give is an error, unless [`Limits::best_effort`] says otherwise, and then
//! [`Applied`] tells. Works with the rights it is given: root, or an ordinary user with a delegated subtree. With the feature `systemd`,
//! systemd can be asked for a group where it manages the tree.
//!
//! Leaves out: starting processes (that needs `clone3`, see `keelbox-launch`). Linux 5.10.
#![forbid(unsafe_code)]

mod controller;
pub mod devices;
mod directory;
mod error;
mod group;
mod hierarchy;
mod limits;
mod name;
mod plan;
pub mod resctrl;
mod stats;
#[cfg(feature = "systemd")]
pub mod systemd;
mod weight;

pub use controller::{Controller, Version};
pub use error::{Error, ErrorKind};
pub use group::gc::gc;
pub use group::watch::{Event, Watch};
pub use group::{Applied, Builder, Existing, Group, Parent, Prospect, Reach, vacate};
pub use hierarchy::{Hierarchy, Layout, Mount};
pub use limits::{GIB, Idle, IoDevice, KIB, Limits, MIB, OomKiller, RdmaDevice, UNLIMITED, Values};
pub use plan::{Plan, Present, Skipped, Write};
pub use stats::{
    CpuStats, CpusetStats, HugetlbStats, IoStats, MemoryStats, PidsStats, Pressure, PressureStats, Stall, Stats, Used,
};
