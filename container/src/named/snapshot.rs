//! What a list tells of a container: looked at once, in one go.
//!
//! Leaves out what a handle is for: doing anything to it. Oldest kernel: 5.10.

use std::path::PathBuf;
use std::time::SystemTime;

use keelbox_runtime_spec::Status;

/// A container as it was at one moment. See [`Runtime::snapshots`](crate::Runtime::snapshots).
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The name it was given.
    pub id: String,
    /// Where it was in its life, as [`Handle::status`](crate::Handle::status) tells it.
    pub status: Status,
    /// The number of its first process, if that had not ended.
    pub pid: Option<u32>,
    /// The bundle that it was read from, or else the directory of its state.
    pub bundle: PathBuf,
    /// When it was created, if that is known.
    pub created: Option<SystemTime>,
}
