//! Limits as the OCI specification has them, and as the control groups crate has them.

use std::time::Duration;

use keelbox_cgroups::{IoDevice, Limits, RdmaDevice, UNLIMITED};
use oci_spec::runtime as oci;

use crate::error::{Error, ErrorKind, Result};

/// The limits of `linux.resources`. What this build cannot limit is refused, never dropped.
pub(crate) fn from_oci(resources: &oci::LinuxResources) -> Result<Limits> {
    let mut limits = Limits::new();
    if let Some(memory) = resources.memory() {
        limits = memory_limits(limits, memory)?;
    }
    if let Some(cpu) = resources.cpu() {
        limits = cpu_limits(limits, cpu)?;
    }
    if let Some(pids) = resources.pids() {
        limits = limits.pids(bytes(pids.limit()));
    }
    if let Some(block) = resources.block_io() {
        limits = block_limits(limits, block)?;
    }
    for page in resources.hugepage_limits().iter().flatten() {
        limits = limits.hugetlb(page.page_size(), bytes(page.limit()));
    }
    for (name, rdma) in resources.rdma().iter().flatten() {
        let mut device = RdmaDevice::new(name);
        device = rdma.hca_handles().map_or(device.clone(), |count| device.handles(count));
        device = rdma.hca_objects().map_or(device.clone(), |count| device.objects(count));
        limits = limits.rdma(device);
    }
    let unified = resources.unified().iter().flatten();
    limits = unified.fold(limits, |limits, (key, value)| limits.unified(key, value));
    match resources.network() {
        Some(_) => Err(unsupported("linux.resources.network")),
        None => Ok(limits),
    }
}

fn unsupported(what: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("cannot limit by {what}: this build does not know how"))
}

/// -1 stands for no limit.
fn bytes(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(UNLIMITED)
}

fn memory_limits(mut limits: Limits, memory: &oci::LinuxMemory) -> Result<Limits> {
    if let Some(limit) = memory.limit() {
        limits = limits.memory(bytes(limit));
    }
    if let Some(low) = memory.reservation() {
        limits = limits.memory_low(bytes(low));
    }
    // OCI counts memory and swap together; the family counts swap alone.
    limits = match (memory.swap(), memory.limit()) {
        (Some(swap), _) if swap < 0 => limits.swap(UNLIMITED),
        (Some(both), Some(limit)) if both >= limit => limits.swap(bytes(both - limit)),
        (Some(_), _) => {
            return Err(Error::new(ErrorKind::Invalid, "linux.resources.memory.swap is less than the memory limit"));
        }
        (None, _) => limits,
    };
    if let Some(swappiness) = memory.swappiness() {
        limits = limits.legacy("memory.swappiness", swappiness.to_string());
    }
    if memory.disable_oom_killer() == Some(true) {
        limits = limits.legacy("memory.oom_control", "1");
    }
    Ok(limits)
}

fn cpu_limits(mut limits: Limits, cpu: &oci::LinuxCpu) -> Result<Limits> {
    let microseconds = Duration::from_micros;
    if let Some(shares) = cpu.shares().filter(|shares| *shares > 0) {
        limits = limits.cpu_shares(shares);
    }
    if let Some(quota) = cpu.quota().and_then(|quota| u64::try_from(quota).ok()).filter(|quota| *quota > 0) {
        limits = limits.cpu_quota(microseconds(quota));
    }
    if let Some(period) = cpu.period().filter(|period| *period > 0) {
        limits = limits.cpu_period(microseconds(period));
    }
    if let Some(burst) = cpu.burst() {
        limits = limits.cpu_burst(microseconds(burst));
    }
    if let Some(cpus) = cpu.cpus() {
        limits = limits.cpuset_cpus(cpus);
    }
    if let Some(mems) = cpu.mems() {
        limits = limits.cpuset_mems(mems);
    }
    match (cpu.realtime_runtime(), cpu.realtime_period()) {
        (None | Some(0), None | Some(0)) => Ok(limits),
        _ => Err(unsupported("linux.resources.cpu.realtimeRuntime")),
    }
}

fn block_limits(mut limits: Limits, block: &oci::LinuxBlockIo) -> Result<Limits> {
    if let Some(weight) = block.weight().filter(|weight| *weight > 0) {
        limits = limits.blkio_weight(weight.into());
    }
    let number = |value: i64| {
        u32::try_from(value).map_err(|_| Error::new(ErrorKind::Invalid, format!("{value} is no device number")))
    };
    for device in block.weight_device().iter().flatten() {
        let place = IoDevice::new(number(device.major())?, number(device.minor())?);
        if let Some(weight) = device.weight() {
            limits = limits.io_device(place.blkio_weight(weight.into()));
        }
    }
    type Set = fn(IoDevice, u64) -> IoDevice;
    let kinds: [(&Option<Vec<oci::LinuxThrottleDevice>>, Set); 4] = [
        (block.throttle_read_bps_device(), IoDevice::read_bytes),
        (block.throttle_write_bps_device(), IoDevice::write_bytes),
        (block.throttle_read_iops_device(), IoDevice::read_operations),
        (block.throttle_write_iops_device(), IoDevice::write_operations),
    ];
    for (devices, set) in kinds {
        for device in devices.iter().flatten() {
            let place = IoDevice::new(number(device.major())?, number(device.minor())?);
            limits = limits.io_device(set(place, device.rate()));
        }
    }
    Ok(limits)
}

/// The limits as `linux.resources`; nothing if there are none.
pub(crate) fn to_oci(limits: &Limits) -> Option<oci::LinuxResources> {
    if limits.is_empty() {
        return None;
    }
    let mut resources = oci::LinuxResources::default();
    resources.set_devices(None);
    let values = limits.values();
    let signed = |bytes: u64| if bytes == UNLIMITED { -1 } else { i64::try_from(bytes).unwrap_or(i64::MAX) };
    let mut memory = oci::LinuxMemory::default();
    memory.set_limit(values.memory.map(signed)).set_reservation(values.memory_low.map(signed));
    let both = |swap: u64| values.memory.map_or(swap, |memory| memory.saturating_add(swap));
    memory.set_swap(values.swap.map(both).map(signed));
    resources.set_memory((memory != oci::LinuxMemory::default()).then_some(memory));
    let mut cpu = oci::LinuxCpu::default();
    cpu.set_quota(values.cpu_quota.and_then(|quota| i64::try_from(quota.as_micros()).ok()));
    cpu.set_period(values.cpu_period.and_then(|period| u64::try_from(period.as_micros()).ok()));
    cpu.set_cpus(values.cpuset_cpus).set_mems(values.cpuset_mems);
    resources.set_cpu((cpu != oci::LinuxCpu::default()).then_some(cpu));
    resources
        .set_pids(values.pids.and_then(|count| oci::LinuxPidsBuilder::default().limit(signed(count)).build().ok()));
    resources.set_unified((!values.unified.is_empty()).then(|| values.unified.into_iter().collect()));
    Some(resources)
}
