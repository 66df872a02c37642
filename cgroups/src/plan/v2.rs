//! The writes for cgroup v2. Documentation: "Control Group v2" in the kernel's admin guide.
//!
//! Leaves out: controllers whose files are the same on both versions, which the parent module writes.
//! Needs no kernel; the files appeared between Linux 4.5 and 5.15.

use super::planner::Planner;
use super::{Check, Moot, Write};
use crate::controller::{Controller, Version};
use crate::error::{Error, Result};
use crate::limits::check::Max;
use crate::limits::{Idle, IoDevice, OomKiller, Weight};
use crate::weight;

const V2: Version = Version::V2;

/// Said of what v2 has no file for.
const NOT_HERE: &str = "cgroup v2 has no such limit";

pub(super) fn memory(planner: &mut Planner<'_>) -> Result<()> {
    let limits = planner.limits;
    let swap = match limits.memory_and_swap {
        Some(both) => Some(swap_alone(both, limits.memory.unwrap_or(planner.present.memory))?),
        None => limits.swap,
    };
    for (file, most) in [("memory.max", limits.memory), ("memory.low", limits.memory_low), ("memory.swap.max", swap)] {
        if let Some(most) = most {
            let moot = match (file, most) {
                ("memory.swap.max", Max::Finite(0)) => Moot::WithoutSwap,
                ("memory.swap.max", Max::Unlimited) => Moot::WithoutFile("this kernel has no limit of swap"),
                _ => Moot::Never,
            };
            let write = Write::new(V2, Controller::Memory, file, most.text(V2), Check::Rounded(0));
            planner.push(write.moot_if(moot));
        }
    }
    if limits.kernel_memory.is_some() {
        planner.pass_over("kernel memory", "cgroup v2 counts it within memory");
    }
    if limits.kernel_tcp_memory.is_some() {
        planner.refuse("kernel TCP memory", NOT_HERE)?;
    }
    if limits.swappiness.is_some() {
        planner.refuse("swappiness", NOT_HERE)?;
    }
    if limits.oom_killer == Some(OomKiller::Off) {
        planner.refuse("the OOM killer off", "cgroup v2 cannot do without it")?;
    }
    Ok(())
}

/// What is left for swap of a limit of both.
pub(super) fn swap_alone(both: Max, memory: Max) -> Result<Max> {
    match (both, memory) {
        (Max::Unlimited, _) => Ok(Max::Unlimited),
        (Max::Finite(both), Max::Finite(memory)) if memory <= both => Ok(Max::Finite(both - memory)),
        (Max::Finite(_), Max::Finite(_)) => {
            Err(Error::invalid("cannot limit memory and swap together to less than memory alone"))
        }
        (Max::Finite(_), Max::Unlimited) => {
            Err(Error::invalid("cannot limit memory and swap together: that needs a limit of memory"))
        }
    }
}

pub(super) fn cpu(planner: &mut Planner<'_>) -> Result<()> {
    let (limits, present) = (planner.limits, planner.present);
    let write = |file: &str, value: String, check| Write::new(V2, Controller::Cpu, file, value, check);
    // An idle group refuses a weight, so it must stop being idle first.
    if let Some(idle) = limits.idle {
        planner.push(write("cpu.idle", u8::from(idle == Idle::Yes).to_string(), Check::Text));
    }
    if let Some(weight) = limits.cpu_weight {
        let number = match weight {
            Weight::V2(number) => number,
            Weight::V1(shares) => weight::shares_to_weight(shares),
        };
        planner.push(write("cpu.weight", number.to_string(), Check::Text));
    }
    let max = (limits.quota.is_some() || limits.period.is_some()).then(|| {
        let (quota, period) = (limits.quota.unwrap_or(present.quota), limits.period.unwrap_or(present.period));
        write("cpu.max", format!("{} {period}", quota.text(V2)), Check::Text)
    });
    // What was never saved up need not be forbidden, and Linux 5.14 is the first with this file.
    let burst = limits.burst.filter(|burst| *burst != 0 || present.burst != 0);
    let burst = burst.map(|burst| write("cpu.max.burst", burst.to_string(), Check::Text));
    // A burst may at no time exceed its quota.
    let first = limits.burst.is_some_and(|burst| burst < present.burst);
    let (before, after) = if first { (burst, max) } else { (max, burst) };
    before.into_iter().chain(after).for_each(|write| planner.push(write));
    match limits.realtime_runtime.or(limits.realtime_period) {
        Some(_) => planner.refuse("realtime scheduling", NOT_HERE),
        None => Ok(()),
    }
}

pub(super) fn io(planner: &mut Planner<'_>) -> Result<()> {
    if let Some(weight) = planner.limits.io_weight {
        planner.push(io_weight("default", weight));
    }
    for device in &planner.limits.io_devices {
        let numbers = format!("{}:{}", device.major, device.minor);
        if let Some(weight) = device.weight {
            planner.push(io_weight(&numbers, weight));
        }
        let pairs = rates(device);
        if !pairs.is_empty() {
            planner.push(Write::new(V2, Controller::Io, "io.max", format!("{numbers}{pairs}"), Check::Pairs));
        }
    }
    let limits = planner.limits;
    if limits.leaf_weight.is_some() || limits.io_devices.iter().any(|device| device.leaf_weight.is_some()) {
        planner.refuse("leaf weights of block devices", NOT_HERE)?;
    }
    Ok(())
}

fn io_weight(key: &str, weight: Weight) -> Write {
    let number = match weight {
        Weight::V2(number) => number,
        Weight::V1(number) => weight::blkio_to_io(number),
    };
    let check = if key == "default" { Check::Weight } else { Check::Line };
    let mut write = Write::new(V2, Controller::Io, "io.weight", format!("{key} {number}"), check);
    write.alternative = Some(("io.bfq.weight".to_owned(), format!("{key} {}", weight::io_to_bfq(number))));
    write
}

fn rates(device: &IoDevice) -> String {
    let rates = [
        ("rbps", device.read_bytes),
        ("wbps", device.write_bytes),
        ("riops", device.read_operations),
        ("wiops", device.write_operations),
    ];
    let pair = |(key, rate): (&str, Option<u64>)| rate.map(|rate| format!(" {key}={}", Max::new(rate).text(V2)));
    rates.into_iter().filter_map(pair).collect()
}
