//! Limits that belong to one device.
//!
//! Leaves out: finding a device's numbers from its path. Needs no kernel.

use super::Weight;

/// Limits for one block device, called by its numbers. What is not set is not touched.
///
/// ```
/// use keelbox_cgroups::{IoDevice, Limits, MIB};
/// let disk = IoDevice::new(8, 0).read_bytes(10 * MIB).write_operations(200);
/// let limits = Limits::new().io_device(disk);
/// assert!(!limits.is_empty());
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use]
pub struct IoDevice {
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) weight: Option<Weight>,
    pub(crate) leaf_weight: Option<u64>,
    pub(crate) read_bytes: Option<u64>,
    pub(crate) write_bytes: Option<u64>,
    pub(crate) read_operations: Option<u64>,
    pub(crate) write_operations: Option<u64>,
}

impl IoDevice {
    /// The whole disk (not a partition) with these numbers.
    pub fn new(major: u32, minor: u32) -> Self {
        Self {
            major,
            minor,
            weight: None,
            leaf_weight: None,
            read_bytes: None,
            write_bytes: None,
            read_operations: None,
            write_operations: None,
        }
    }

    /// Share of this device's time under contention, 1 to 10000. Default: the group's [`io_weight`](crate::Limits::io_weight).
    pub fn weight(mut self, weight: u64) -> Self {
        self.weight = Some(Weight::V2(weight));
        self
    }

    /// The same in the scale of v1, 10 to 1000.
    pub fn blkio_weight(mut self, weight: u64) -> Self {
        self.weight = Some(Weight::V1(weight));
        self
    }

    /// Share against groups below this one, 10 to 1000. v1 `blkio.leaf_weight_device`, which Linux 5.0 has dropped; not on v2.
    pub fn leaf_weight(mut self, weight: u64) -> Self {
        self.leaf_weight = Some(weight);
        self
    }

    /// Bytes read per second. Default: no limit.
    pub fn read_bytes(mut self, per_second: u64) -> Self {
        self.read_bytes = Some(per_second);
        self
    }

    /// Bytes written per second. Default: no limit.
    pub fn write_bytes(mut self, per_second: u64) -> Self {
        self.write_bytes = Some(per_second);
        self
    }

    /// Read operations per second. Default: no limit.
    pub fn read_operations(mut self, per_second: u64) -> Self {
        self.read_operations = Some(per_second);
        self
    }

    /// Write operations per second. Default: no limit.
    pub fn write_operations(mut self, per_second: u64) -> Self {
        self.write_operations = Some(per_second);
        self
    }
}

/// Limits for one RDMA device, called by its name. At least one must be set.
///
/// ```
/// use keelbox_cgroups::{Limits, RdmaDevice};
/// let limits = Limits::new().rdma(RdmaDevice::new("mlx5_1").handles(3).objects(10_000));
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use]
pub struct RdmaDevice {
    pub(crate) name: String,
    pub(crate) handles: Option<u32>,
    pub(crate) objects: Option<u32>,
}

impl RdmaDevice {
    /// The device called `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), handles: None, objects: None }
    }

    /// How many handles may be open (`hca_handle`). Default: not touched.
    pub fn handles(mut self, count: u32) -> Self {
        self.handles = Some(count);
        self
    }

    /// How many objects may be made (`hca_object`). Default: not touched.
    pub fn objects(mut self, count: u32) -> Self {
        self.objects = Some(count);
        self
    }
}
