//! Root file systems: overlays, binds, pseudo file systems, masks, and paths that cannot escape.
//!
//! | word | what it is |
//! |---|---|
//! | [`Root`] | a directory that stands for `/`: the only way from a path inside to a file |
//! | [`MountPlan`] | a private view of the file system for this thread, or for whoever performs its steps |
//! | [`RootPlan`] | the file system of a container, from bare directories to masked paths, as steps |
//! | [`Mount`], [`MountOptions`] | one mount of a container, built here or read from an OCI configuration |
//!
//! Plans are data: making one opens no file and needs no privilege. Only [`MountPlan::apply`] and [`Root`] touch the system.
//!
//! ```
//! use keelbox_mounts::MountPlan;
//!
//! let plan = MountPlan::new().bind_read_only("/usr", "/mnt").tmpfs("/tmp", 64 << 20);
//! println!("{plan}"); // numbered steps
//! # Ok::<(), keelbox_mounts::Error>(())
//! ```
//!
//! Oldest kernel: 5.10. Read-only and other attributes of whole trees need 5.12, idmapped mounts 5.12 (overlays 6.5).
#![forbid(unsafe_code)]

mod attribute;
mod error;
mod inner_path;
mod mount;
mod options;
mod plan;
mod root;
mod rootfs;
mod slots;
mod words;

pub use attribute::{Attribute, Propagation, Reach};
pub use error::{Error, ErrorKind};
pub use inner_path::InnerPath;
pub use mount::Mount;
pub use options::MountOptions;
pub use plan::MountPlan;
pub use root::{OpenOptions, Root};
pub use rootfs::{
    Defaults, Device, DeviceKind, Entry, Held, Hierarchy, Pivot, PlannedRoot, RootPlan, RootSlots, RootSource, Sysfs,
    Template, Upper, UsualMount, check_null,
};
pub use slots::SlotAllocator;
