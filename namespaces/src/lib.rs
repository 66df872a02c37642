//! Linux namespaces: which there are, where a container's come from, id maps, entering them, and why one is refused.
//!
//! Three jobs, each useful alone:
//!
//! * **Looking and entering.** [`Namespaces::of`] holds the namespaces of a process, compares them, and runs a closure
//!   inside on a fresh thread; [`list`], [`list_all`] and [`ns_pids`] tell what there is.
//! * **Planning.** A [`Selection`] says which namespaces a container gets; its [`Plan`] is what to clone with, what to
//!   join, and the steps that `keelbox-launch` performs. Planning is pure; wrong selections are refused before anything
//!   is touched.
//! * **Explaining.** A [`Refusal`] says which setting of the machine made the kernel refuse, and the remedy.
//!
//! ```
//! use keelbox_namespaces::{Kind, Namespaces};
//!
//! let own = Namespaces::own()?;
//! let parent = Namespaces::of(std::process::id())?;
//! assert!(own.shared_with(&parent).contains(Kind::Net));
//! # Ok::<(), keelbox_namespaces::Error>(())
//! ```
//!
//! Leaves out on purpose: setting up networks and mounts in new namespaces. Oldest kernel: 5.10; single parts say
//! where they need less or more.
#![forbid(unsafe_code)]

mod caller;
mod error;
mod facts;
mod id_map;
mod id_maps;
mod kind;
mod list;
mod mapped;
mod mapping;
mod namespace;
mod namespaces;
mod plan;
mod process;
mod refusal;
mod selection;
mod source;
mod subordinate;
mod time_offsets;

pub use caller::Caller;
pub use error::{Error, ErrorKind};
pub use facts::Facts;
pub use id_map::{IdMap, LINES, Range};
pub use id_maps::IdMaps;
pub use kind::{Kind, NamespaceSet};
pub use list::{Entry, Listed, list, list_all};
pub use mapping::{Helpers, MapMethod, subordinate_texts, write};
pub use namespace::{Identity, Namespace};
pub use namespaces::Namespaces;
pub use plan::Plan;
pub use process::ns_pids;
pub use refusal::{Attempt, Cause, Refusal};
pub use selection::{Loopback, Selection, TimeSwitch};
pub use source::{Join, Source, Target};
pub use time_offsets::{Offset, TimeOffsets};

/// Compiles and runs what the README shows.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
