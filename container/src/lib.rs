//! Run Linux containers from inside your program: no daemon, no C library, nothing to install.
//!
//! ```no_run
//! use keelbox::{Container, Image, MIB};
//!
//! let image = Image::open("oci:./debian:12")?;
//! let out = Container::from_image(&image)
//!     .args(["sh", "-c", "cat /etc/os-release; id"])
//!     .memory(64 * MIB)
//!     .pids(32)
//!     .output()?;
//! print!("{}", out.text());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A [`Container`] says what is wanted, [`Container::build`] checks it, and the result runs as a [`Process`], which has the
//! words of [`std::process::Child`]. What the kernel will be asked for can be looked at first: see [`Plan`].
//!
//! Set-up failure is an [`Error`] that says what was attempted, on what, and why it failed; the program's own failure is an
//! [`ExitStatus`].
//!
//! Oldest kernel: 5.10. Works for root and, with one user id, for an ordinary user without any set-up.
#![forbid(unsafe_code)]

#[cfg(feature = "tokio")]
mod asynchronous;
mod attributes;
mod blank;
mod build;
mod builder;
mod built;
mod bundle;
mod capabilities;
mod changes;
mod check;
mod checkpoint;
mod control_group;
mod defaults;
mod device_rules;
mod entrance;
mod error;
mod exec;
mod exit;
mod feeder;
mod filter;
mod further;
mod handover;
mod hooks;
mod host;
mod id_mapped;
mod image;
mod labels;
mod limits;
mod mount_label;
mod named;
mod network;
mod notify;
mod output;
mod placement;
mod plan;
mod poll;
mod pool;
mod process;
mod profile;
mod rdt;
mod ready;
pub mod seccomp;
mod signal;
mod signaller;
mod spec;
mod start;
mod stdio;
mod talk;
mod template;
mod terminal;
mod unheld;
mod user;
mod volume;

pub use attributes::{IoPriority, MemoryPolicy, Personality, Scheduler};
pub use build::{Build, BuildStep};
pub use builder::{Container, IntoArguments, Resource};
pub use built::Built;
pub use changes::{Change, ChangeKind, Changes};
pub use checkpoint::{Checkpoint, Restore};
pub use error::{Error, ErrorKind, Result};
pub use exec::Exec;
pub use exit::{ExitStatus, Reason, Usage};
pub use hooks::{Hook, HookPoint};
pub use keelbox_cgroups::{GIB, KIB, Limits, MIB, Stats};
#[cfg(feature = "registry")]
pub use keelbox_image_spec::registry::{Client, Puller, Pusher};
pub use keelbox_image_spec::{Changeset, Compression, Edit, Image, Store};
pub use keelbox_namespaces::{IdMap, IdMaps, Kind};
pub use keelbox_network::{Bridge, Cni, Endpoint, Hardware, Macvlan, NewBridge, Pasta, Protocol, Publish, Subnet};
pub use keelbox_runtime_spec::{State, Status};
pub use named::{Handle, Runtime, Snapshot, list, open};
pub use network::Network;
pub use notify::{Answer, Call, OnExec};
pub use output::Output;
pub use plan::Plan;
pub use process::Process;
pub use profile::Profile;
pub use ready::{Ready, tcp};
pub use signal::Signal;
pub use signaller::Signaller;
pub use stdio::Stdio;
pub use template::{Run, Template};
pub use terminal::{Terminal, Tty};
pub use volume::Volumes;

/// The crates that keelbox is made of, for those who need only one.
pub mod crates {
    pub use keelbox_cgroups as cgroups;
    pub use keelbox_image_spec as image_spec;
    pub use keelbox_launch as launch;
    pub use keelbox_mounts as mounts;
    pub use keelbox_namespaces as namespaces;
    pub use keelbox_network as network;
    pub use keelbox_runtime_spec as runtime_spec;
}
