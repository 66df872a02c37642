//! The OCI runtime specification 1.3 for Linux: read, check, change and write bundles, `config.json`, container states
//! and features documents.
//!
//! The types of a configuration are those of [`oci_spec`]; around them this crate has a reader that forgives what the
//! specification forgives and nothing else, a validator that knows the rules, and a writer that loses nothing.
//!
//! * [`Config`] reads, edits and writes `config.json`; [`Config::check`] lists every [`Problem`] with its JSON pointer and
//!   rule.
//! * [`Bundle`] is a directory with a configuration in it.
//! * [`State`] and [`ContainerId`] are what the `state` operation and hooks see.
//! * [`Features`] tells what a runtime can do.
//! * [`ImageConfig`] turns what an image says into a configuration.
//! * [`names`] has the words of the specification, [`sysctl`] the kernel parameters a container may set.
//!
//! ```
//! use keelbox_runtime_spec::{Bundle, Config};
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path();
//! let mut config = Config::new();
//! config.edit(|spec| {
//!     if let Some(process) = spec.process_mut() {
//!         process.set_args(Some(vec!["sleep".into(), "1".into()]));
//!     }
//! })?;
//! let bundle = Bundle::create(path, config)?;
//! for problem in bundle.check() {
//!     println!("{problem}"); // /root/path: RS-011 must be a directory, …
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Left out on purpose: everything that needs a kernel. Nothing here makes a system call but to read and write the files
//! it is told to. Oldest kernel: any.
#![forbid(unsafe_code)]

mod bundle;
mod check;
mod config;
mod error;
mod features;
mod file;
mod id;
mod image;
mod json;
mod merge;
pub mod names;
mod node;
mod preset;
mod problem;
mod rules;
mod shape;
mod state;
pub mod sysctl;
mod version;
mod view;

pub use bundle::Bundle;
pub use config::{Config, check_json, process_from_json};
pub use error::{Error, ErrorKind};
pub use features::{
    CgroupFeatures, Enabled, Features, IntelRdtFeatures, LinuxFeatures, MemoryPolicyFeatures, MountExtensions,
    SeccompFeatures, Support,
};
pub use id::ContainerId;
pub use image::{ImageConfig, ImageUser};
pub use oci_spec;
pub use problem::{Problem, Severity};
pub use state::{ProcessState, State, Status};
