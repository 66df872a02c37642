//! Limits as the OCI specification has them, and as the control groups crate has them.

use std::collections::BTreeMap;
use std::time::Duration;

use keelbox_cgroups::{Idle, IoDevice, Limits, OomKiller, RdmaDevice, UNLIMITED};
use oci_spec::runtime as oci;

use crate::error::{Error, ErrorKind, Result};

/// The limits of `linux.resources`, for a container to be made or for one that runs. What cannot be limited is refused by whoever plans
/// the limits for the control groups of the machine, never dropped.
///
/// Engines write 0 where they mean that nothing is asked for, so 0 is that for everything but what it limits: pids, swappiness, idle, a burst.
pub(crate) fn from_oci(resources: &oci::LinuxResources) -> Result<Limits> {
    let mut limits = Limits::new();
    if let Some(memory) = resources.memory() {
        limits = memory_limits(limits, memory);
    }
    if let Some(cpu) = resources.cpu() {
        limits = cpu_limits(limits, cpu);
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
    if let Some(network) = resources.network() {
        limits = apply(limits, network.class_id().filter(|class| *class != 0), Limits::network_class);
        for priority in network.priorities().iter().flatten() {
            limits = limits.network_priority(priority.name(), priority.priority());
        }
    }
    // In a map of the reader's own the order is by chance; one order is as good as another, but the same each time.
    let unified: BTreeMap<&String, &String> = resources.unified().iter().flatten().collect();
    Ok(unified.into_iter().fold(limits, |limits, (key, value)| limits.unified(key, value)))
}

/// -1 stands for no limit.
fn bytes(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(UNLIMITED)
}

/// An amount that was asked for.
fn asked(value: Option<i64>) -> Option<u64> {
    value.filter(|value| *value != 0).map(bytes)
}

/// Sets what was asked for.
fn apply<T>(limits: Limits, value: Option<T>, setter: impl FnOnce(Limits, T) -> Limits) -> Limits {
    match value {
        Some(value) => setter(limits, value),
        None => limits,
    }
}

#[allow(deprecated, reason = "engines still send a limit of kernel memory")]
fn memory_limits(limits: Limits, memory: &oci::LinuxMemory) -> Limits {
    let (limit, swap) = (asked(memory.limit()), asked(memory.swap()));
    let limits = apply(limits, limit, Limits::memory);
    let limits = apply(limits, asked(memory.reservation()), Limits::memory_low);
    let limits = match swap {
        Some(both) => limits.memory_and_swap(both),
        // Whoever takes the limit of memory away means that of swap too.
        None if limit == Some(UNLIMITED) => limits.memory_and_swap(UNLIMITED),
        None => limits,
    };
    let limits = apply(limits, asked(memory.kernel()), Limits::kernel_memory);
    let limits = apply(limits, asked(memory.kernel_tcp()), Limits::kernel_tcp_memory);
    let limits = apply(limits, memory.swappiness(), Limits::swappiness);
    let killer = memory.disable_oom_killer().map(|off| if off { OomKiller::Off } else { OomKiller::On });
    let limits = apply(limits, killer, Limits::oom_killer);
    if memory.check_before_update() == Some(true) { limits.usage_check() } else { limits }
}

fn cpu_limits(limits: Limits, cpu: &oci::LinuxCpu) -> Limits {
    let microseconds = Duration::from_micros;
    // The kernel of v1 takes any number of shares for the nearest it can have.
    let shares = cpu.shares().filter(|shares| *shares > 0).map(|shares| shares.clamp(2, 262_144));
    let limits = apply(limits, shares, Limits::cpu_shares);
    let quota = asked(cpu.quota()).map(|quota| if quota == UNLIMITED { Duration::MAX } else { microseconds(quota) });
    let limits = apply(limits, quota, Limits::cpu_quota);
    let limits = apply(limits, cpu.period().filter(|period| *period > 0).map(microseconds), Limits::cpu_period);
    let limits = apply(limits, cpu.burst().map(microseconds), Limits::cpu_burst);
    let named = |list: &Option<String>| list.clone().filter(|list| !list.trim().is_empty());
    let limits = apply(limits, named(cpu.cpus()), Limits::cpuset_cpus);
    let limits = apply(limits, named(cpu.mems()), Limits::cpuset_mems);
    let idle = cpu.idle().map(|idle| if idle == 0 { Idle::No } else { Idle::Yes });
    let limits = apply(limits, idle, Limits::cpu_idle);
    let limits = apply(limits, asked(cpu.realtime_runtime()).map(microseconds), Limits::realtime_runtime);
    let period = cpu.realtime_period().filter(|period| *period > 0).map(microseconds);
    apply(limits, period, Limits::realtime_period)
}

fn block_limits(limits: Limits, block: &oci::LinuxBlockIo) -> Result<Limits> {
    let weight = |weight: Option<u16>| weight.filter(|weight| *weight > 0).map(u64::from);
    let limits = apply(limits, weight(block.weight()), Limits::blkio_weight);
    let mut limits = apply(limits, weight(block.leaf_weight()), Limits::leaf_weight);
    let number = |value: i64| {
        u32::try_from(value).map_err(|_| Error::new(ErrorKind::Invalid, format!("{value} is no device number")))
    };
    for device in block.weight_device().iter().flatten() {
        let mut place = IoDevice::new(number(device.major())?, number(device.minor())?);
        place = weight(device.weight()).map_or(place.clone(), |weight| place.blkio_weight(weight));
        place = weight(device.leaf_weight()).map_or(place.clone(), |weight| place.leaf_weight(weight));
        limits = limits.io_device(place);
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
            // As v1 spells that there is no limit.
            let rate = if device.rate() == 0 { UNLIMITED } else { device.rate() };
            limits = limits.io_device(set(place, rate));
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

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
