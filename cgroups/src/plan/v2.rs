//! The writes for cgroup v2. Documentation: "Control Group v2" in the kernel's admin guide.
//!
//! Leaves out: controllers whose files are the same on both versions, which the parent module writes.
//! Needs no kernel; the files appeared between Linux 4.5 and 5.15.

use super::planner::Planner;
use super::{Check, Write};
use crate::controller::{Controller, Version};
use crate::limits::check::Max;
use crate::limits::{Idle, IoDevice, Weight};
use crate::weight;

const V2: Version = Version::V2;

pub(super) fn memory(planner: &mut Planner<'_>) {
    let limits = planner.limits;
    let files = [("memory.max", limits.memory), ("memory.low", limits.memory_low), ("memory.swap.max", limits.swap)];
    for (file, most) in files {
        if let Some(most) = most {
            let mut write = Write::new(V2, Controller::Memory, file, most.text(V2), Check::Rounded(0));
            write.moot_without_swap = file == "memory.swap.max" && most == Max::Finite(0);
            planner.push(write);
        }
    }
}

pub(super) fn cpu(planner: &mut Planner<'_>) {
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
    let burst = limits.burst.map(|burst| write("cpu.max.burst", burst.to_string(), Check::Text));
    // A burst may at no time exceed its quota.
    let first = limits.burst.is_some_and(|burst| burst < present.burst);
    let (before, after) = if first { (burst, max) } else { (max, burst) };
    before.into_iter().chain(after).for_each(|write| planner.push(write));
}

pub(super) fn io(planner: &mut Planner<'_>) {
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
