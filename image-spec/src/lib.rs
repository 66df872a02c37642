//! OCI images: open on disk, pull from registries, verify, unpack for overlayfs, and turn into the process to run.
//!
//! ```no_run
//! use keelbox_image_spec::{Image, Store};
//!
//! let image = Image::open("oci:./debian:12")?;               // also oci-archive: and docker-archive:
//! let unpacked = image.unpack(&Store::default_for_user("/home/me")?)?;
//! let process = image.process()?;
//! println!("run {:?} in {}", process.args, process.cwd);
//! for layer in unpacked.layers() {
//!     println!("on {}", layer.path().display());              // bottom first, for `lowerdir`
//! }
//! # Ok::<(), keelbox_image_spec::Error>(())
//! ```
//!
//! The way through the crate is [`Image`] → [`Unpacked`] and [`ProcessSettings`]. An image is untrusted: every size is
//! bounded ([`Limits`]), every digest verified, every name resolved inside the layer, and nothing of it is executed.
//!
//! The feature `registry` adds registries: `Image::pull` and the module `registry`. It is off by default, since its TLS
//! compiles C.
//!
//! [`Image::edit`] changes an image: settings, layers of files ([`Changeset`]), squashing, another base, another compression.
//!
//! What it leaves out: running programs for a layer, and mounting.

#![forbid(unsafe_code)]

#[cfg(feature = "registry")]
mod arrivals;
mod blobs;
mod changeset;
mod collect;
mod compress;
mod config;
mod content;
mod copy;
mod digest;
mod docker;
mod document;
mod done;
mod edit;
mod error;
mod examine;
mod files;
mod image;
mod json;
mod layout;
mod lease;
mod limits;
mod names;
mod platform;
mod process;
mod reference;
#[cfg(feature = "registry")]
pub mod registry;
mod source;
mod spool;
mod store;
mod tar;
mod unpack;
mod usage;
mod user;
mod view;

pub use changeset::{Changeset, Pick};
pub use collect::{Collected, Collector};
pub use compress::Compression;
pub use config::{History, ImageConfig};
pub use copy::{Copier, Form, Platforms};
pub use digest::{Algorithm, Digest};
pub use edit::Edit;
pub use error::{Error, ErrorKind, Result};
pub use examine::{Examination, Problem};
pub use image::{Image, Layer, OpenOptions};
pub use limits::Limits;
pub use oci_spec;
pub use platform::Platform;
pub use process::{DEFAULT_PATH, ProcessSettings};
pub use reference::Reference;
pub use store::Store;
pub use unpack::note::{Note, NoteKind};
pub use unpack::{Devices, Durability, LinkedParent, Ownership, RootMetadata, UnpackOptions, Unpacked, UnpackedLayer};
pub use usage::{ImageUsage, StoredImage, Usage};
pub use user::{ResolvedUser, User};
pub use view::Layers;
