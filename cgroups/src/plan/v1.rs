//! The writes for cgroup v1. Documentation: the "cgroup-v1" directory of the kernel's admin guide.
//!
//! Leaves out: controllers whose files are the same on both versions, which the parent module writes.
//! Needs no kernel; the files are older than Linux 5.10, but for `cpu.cfs_burst_us` (5.14) and `cpu.idle` (5.15).

use super::planner::Planner;
use super::v2::swap_alone;
use super::{Check, Moot, Write};
use crate::controller::{Controller, Version};
use crate::error::Result;
use crate::limits::check::Max;
use crate::limits::{Idle, IoDevice, OomKiller, UNLIMITED, Weight};
use crate::weight;

const V1: Version = Version::V1;

/// v1 limits memory, and memory plus swap. The second may at no time be lower than the first, so which is written first depends
/// on the limits there are.
pub(super) fn memory(planner: &mut Planner<'_>) -> Result<()> {
    let (limits, present) = (planner.limits, planner.present);
    let memory = limits.memory.unwrap_or(present.memory);
    limits.memory_and_swap.map(|both| swap_alone(both, memory)).transpose()?;
    let both = match (limits.swap, memory) {
        _ if limits.memory_and_swap.is_some() => limits.memory_and_swap,
        (Some(Max::Finite(swap)), Max::Finite(memory)) => Some(Max::Finite(memory + swap)),
        (Some(Max::Unlimited), _) => Some(Max::Unlimited),
        (Some(Max::Finite(_)), Max::Unlimited) => {
            planner
                .refuse("swap", "cgroup v1 can limit swap only together with memory, so a memory limit is needed")?;
            None
        }
        (None, _) if limits.memory.is_some() => keep_swap(memory, present.memory, present.memory_and_swap),
        (None, _) => None,
    };
    let write = |file: &str, most: Max| Write::new(V1, Controller::Memory, file, most.text(V1), Check::Rounded(0));
    let memory_write = limits.memory.map(|most| write("memory.limit_in_bytes", most));
    let both_write = both.map(|most| {
        let moot = match most {
            Max::Unlimited => Moot::WithoutFile("the kernel counts no swap, so it has no limit"),
            _ if limits.swap == Some(Max::Finite(0)) || Some(most) == limits.memory => Moot::WithoutSwap,
            _ => Moot::Never,
        };
        write("memory.memsw.limit_in_bytes", most).moot_if(moot)
    });
    // A limit of the sum alone goes to where it fits.
    let raising = memory > present.memory_and_swap;
    let (first, second) = if raising { (both_write, memory_write) } else { (memory_write, both_write) };
    let low = limits.memory_low.map(|most| write("memory.soft_limit_in_bytes", most));
    first.into_iter().chain(second).chain(low).for_each(|write| planner.push(write));
    kernel_memory(planner);
    Ok(())
}

/// What the memory controller of v1 has beside its two great limits.
fn kernel_memory(planner: &mut Planner<'_>) {
    let limits = planner.limits;
    let write = |file: &str, value: String, check| Write::new(V1, Controller::Memory, file, value, check);
    let within = Moot::Anyway("this kernel counts it within memory");
    let amounts = [
        ("memory.kmem.limit_in_bytes", limits.kernel_memory, within),
        ("memory.kmem.tcp.limit_in_bytes", limits.kernel_tcp_memory, Moot::Never),
    ];
    for (file, most, moot) in amounts {
        if let Some(most) = most {
            planner.push(write(file, most.text(V1), Check::Rounded(0)).moot_if(moot));
        }
    }
    if let Some(readiness) = limits.swappiness {
        planner.push(write("memory.swappiness", readiness.to_string(), Check::Text));
    }
    if let Some(killer) = limits.oom_killer.filter(|killer| *killer != planner.present.oom_killer) {
        let off = u8::from(killer == OomKiller::Off).to_string();
        planner.push(write("memory.oom_control", off, Check::Field("oom_kill_disable")));
    }
}

/// When only memory changes, the group keeps as much swap as it had; the sum has to move along.
fn keep_swap(memory: Max, old_memory: Max, old_both: Max) -> Option<Max> {
    match (memory, old_memory, old_both) {
        (Max::Finite(memory), Max::Finite(old), Max::Finite(both)) => {
            Some(Max::Finite(memory.saturating_add(both.saturating_sub(old)).min(i64::MAX as u64)))
        }
        (Max::Unlimited, _, Max::Finite(_)) => Some(Max::Unlimited),
        _ => None,
    }
}

pub(super) fn cpu(planner: &mut Planner<'_>) {
    let (limits, present) = (planner.limits, planner.present);
    let write = |file: &str, value: String| Write::new(V1, Controller::Cpu, file, value, Check::Text);
    // An idle group refuses a weight, so it must stop being idle first.
    if let Some(idle) = limits.idle {
        planner.push(write("cpu.idle", u8::from(idle == Idle::Yes).to_string()));
    }
    if let Some(weight) = limits.cpu_weight {
        let shares = match weight {
            Weight::V1(shares) => shares,
            Weight::V2(number) => weight::weight_to_shares(number),
        };
        planner.push(write("cpu.shares", shares.to_string()));
    }
    // What was never saved up need not be forbidden, and Linux 5.14 is the first with this file.
    let burst = limits.burst.filter(|burst| *burst != 0 || present.burst != 0);
    let burst = burst.map(|burst| write("cpu.cfs_burst_us", burst.to_string()));
    // A burst may at no time exceed its quota.
    let burst_first = limits.burst.is_some_and(|burst| burst < present.burst);
    let (before, after) = if burst_first { (burst, None) } else { (None, burst) };
    before.into_iter().for_each(|write| planner.push(write));
    let period = limits.period.map(|period| write("cpu.cfs_period_us", period.to_string()));
    let quota = limits.quota.map(|quota| write("cpu.cfs_quota_us", quota.text(V1)));
    // The ratio of the two may at no time exceed the parent's. Between the two writes it stays below the higher of the old and new
    // one if the period goes first exactly when both rise, or when nothing was limited before.
    let rises =
        limits.quota.is_none_or(|quota| quota > present.quota) && limits.period.is_some_and(|p| p >= present.period);
    let period_first = rises || present.quota == Max::Unlimited;
    let (first, second) = if period_first { (period, quota) } else { (quota, period) };
    first.into_iter().chain(second).chain(after).for_each(|write| planner.push(write));
    let period = limits.realtime_period.map(|period| write("cpu.rt_period_us", period.to_string()));
    let runtime = limits.realtime_runtime.map(|runtime| write("cpu.rt_runtime_us", runtime.to_string()));
    // The runtime may at no time exceed its period.
    let shrinks = limits.realtime_period.is_some_and(|period| period < present.realtime_runtime);
    let (first, second) = if shrinks { (runtime, period) } else { (period, runtime) };
    first.into_iter().chain(second).for_each(|write| planner.push(write));
}

pub(super) fn io(planner: &mut Planner<'_>) {
    if let Some(weight) = planner.limits.io_weight {
        let (number, bfq) = io_weight(weight);
        let mut write = Write::new(V1, Controller::Io, "blkio.weight", number.to_string(), Check::Weight);
        write.alternative = Some(("blkio.bfq.weight".to_owned(), bfq.to_string()));
        planner.push(write);
    }
    if let Some(weight) = planner.limits.leaf_weight {
        planner.push(Write::new(V1, Controller::Io, "blkio.leaf_weight", weight.to_string(), Check::Text));
    }
    for device in &planner.limits.io_devices {
        let numbers = format!("{}:{}", device.major, device.minor);
        if let Some(weight) = device.weight {
            let (number, bfq) = io_weight(weight);
            let value = format!("{numbers} {number}");
            let mut write = Write::new(V1, Controller::Io, "blkio.weight_device", value, Check::Line);
            write.alternative = Some(("blkio.bfq.weight_device".to_owned(), format!("{numbers} {bfq}")));
            planner.push(write);
        }
        if let Some(weight) = device.leaf_weight {
            let value = format!("{numbers} {weight}");
            planner.push(Write::new(V1, Controller::Io, "blkio.leaf_weight_device", value, Check::Line));
        }
        for (file, rate) in rates(device) {
            // Here 0 is how v1 spells "no limit".
            let rate = if rate == UNLIMITED { 0 } else { rate };
            planner.push(Write::new(V1, Controller::Io, file, format!("{numbers} {rate}"), Check::Line));
        }
    }
}

/// The weight for the old scheduler's files (10 to 1000) and for BFQ's (1 to 1000).
fn io_weight(weight: Weight) -> (u64, u64) {
    match weight {
        Weight::V1(number) => (number, number),
        Weight::V2(number) => (weight::io_to_blkio(number), weight::io_to_bfq(number)),
    }
}

fn rates(device: &IoDevice) -> Vec<(&'static str, u64)> {
    let rates = [
        ("blkio.throttle.read_bps_device", device.read_bytes),
        ("blkio.throttle.write_bps_device", device.write_bytes),
        ("blkio.throttle.read_iops_device", device.read_operations),
        ("blkio.throttle.write_iops_device", device.write_operations),
    ];
    rates.into_iter().filter_map(|(file, rate)| Some((file, rate?))).collect()
}
