//! Rules for `linux.resources`, without devices.
//!
//! Needs no kernel.
use super::Context;
use super::lists::{check_number_list, check_unique, device_name};
use crate::node::Node;
use crate::problem::{Rule, quote};
use crate::rules;

pub(super) fn check(context: &mut Context<'_>) {
    let Some(resources) = context.root.find(&["linux", "resources"]) else {
        return;
    };
    memory(context, &resources);
    cpu(context, &resources);
    block_io(context, &resources);
    huge_pages(context, &resources);
    network(context, &resources);
    let pids = resources.member("pids");
    at_least_minus_one(context, &pids.member("limit"), rules::PIDS);
    rdma(context, &resources);
    unified(context, &resources);
}

fn at_least_minus_one(context: &mut Context<'_>, node: &Node<'_>, rule: Rule) {
    if node.integer().is_some_and(|limit| limit < -1) {
        context.error(node, rule, "must be 0 or more, or -1 for no limit");
    }
}

fn memory(context: &mut Context<'_>, resources: &Node<'_>) {
    let Some(memory) = resources.get("memory") else {
        return;
    };
    let rule = rules::MEMORY;
    for name in ["limit", "reservation", "swap", "kernel", "kernelTCP"] {
        at_least_minus_one(context, &memory.member(name), rule);
    }
    let limit = memory.integer_at("limit");
    let bytes = |name| memory.integer_at(name).filter(|bytes| *bytes > 0);
    match (limit, bytes("swap")) {
        (Some(-1), Some(_)) => {
            let message = "is a limit on memory and swap together, but memory has none";
            context.error(&memory.member("swap"), rule, message);
        }
        (Some(limit), Some(swap)) if limit > 0 && swap < limit => {
            let message = format!("{swap} is below limit {limit}: it counts memory and swap together");
            context.error(&memory.member("swap"), rule, message);
        }
        (None | Some(0), Some(_)) => {
            let message = "should come with limit: cgroup v2 cannot express it alone";
            context.warning(&memory.member("swap"), rule, message);
        }
        _ => {}
    }
    if let (Some(limit), Some(reservation)) = (bytes("limit"), bytes("reservation"))
        && reservation > limit
    {
        let message = "is above limit, so it has no effect";
        context.warning(&memory.member("reservation"), rule, message);
    }
    if memory.integer_at("swappiness").is_some_and(|n| n > 100) {
        context.error(&memory.member("swappiness"), rule, "must be from 0 to 100");
    }
    for name in ["kernel", "kernelTCP"] {
        if bytes(name).is_some() {
            let message = "is not recommended, and cgroup v2 does not have it";
            context.warning(&memory.member(name), rule, message);
        }
    }
}

fn cpu(context: &mut Context<'_>, resources: &Node<'_>) {
    let Some(cpu) = resources.get("cpu") else {
        return;
    };
    let rule = rules::CPU;
    let number = |name| cpu.integer_at(name);
    // The bounds of the kernel (kernel/sched/core.c): 1 ms of quota, 1 ms to 1 s of period. 0 counts as absent.
    if number("period").is_some_and(|n| n != 0 && !(1_000..=1_000_000).contains(&n)) {
        let message = "must be from 1000 to 1000000 microseconds";
        context.error(&cpu.member("period"), rule, message);
    }
    if number("quota").is_some_and(|n| (1..1_000).contains(&n)) {
        let message = "must be at least 1000 microseconds, or -1 for no limit";
        context.error(&cpu.member("quota"), rule, message);
    }
    at_least_minus_one(context, &cpu.member("quota"), rule);
    if let (Some(burst), Some(quota)) = (number("burst"), number("quota"))
        && quota > 0
        && burst > quota
    {
        context.error(&cpu.member("burst"), rule, format!("must not be above quota {quota}"));
    }
    if let (Some(runtime), Some(period)) = (number("realtimeRuntime"), number("realtimePeriod"))
        && runtime > period
    {
        let message = format!("must not be above realtimePeriod {period}");
        context.error(&cpu.member("realtimeRuntime"), rule, message);
    }
    if number("idle").is_some_and(|n| !(0..=1).contains(&n)) {
        context.error(&cpu.member("idle"), rule, "must be 0 or 1");
    }
    if number("shares").is_some_and(|n| n != 0 && !(2..=262_144).contains(&n)) {
        let message = "is outside 2 to 262144, and the nearest of them is used";
        context.warning(&cpu.member("shares"), rule, message);
    }
    for name in ["cpus", "mems"] {
        check_number_list(context, cpu.get(name), rule);
    }
}

fn block_io(context: &mut Context<'_>, resources: &Node<'_>) {
    let Some(block_io) = resources.get("blockIO") else {
        return;
    };
    let rule = rules::BLOCK_IO;
    let devices = block_io.list("weightDevice");
    for holder in std::iter::once(&block_io).chain(&devices) {
        for name in ["weight", "leafWeight"] {
            if holder.integer_at(name).is_some_and(|n| n != 0 && !(10..=1000).contains(&n)) {
                context.error(&holder.member(name), rule, "must be from 10 to 1000");
            }
        }
    }
    for device in &devices {
        if device.get("weight").is_none() && device.get("leafWeight").is_none() {
            context.error(device, rule, "must have weight or leafWeight");
        }
    }
    let throttles =
        ["throttleReadBpsDevice", "throttleWriteBpsDevice", "throttleReadIOPSDevice", "throttleWriteIOPSDevice"];
    let entries = throttles.iter().flat_map(|name| block_io.list(name));
    for entry in entries.chain(devices.iter().cloned()) {
        for name in ["major", "minor"] {
            if entry.integer_at(name).is_some_and(|n| n < 0) {
                context.error(&entry.member(name), rule, "must not be negative");
            }
        }
    }
}

fn huge_pages(context: &mut Context<'_>, resources: &Node<'_>) {
    let limits = resources.list("hugepageLimits");
    check_unique(context, &limits, "pageSize", rules::HUGE_PAGES);
    for limit in &limits {
        let Some(size) = limit.text_at("pageSize") else {
            continue;
        };
        let number = ["KB", "MB", "GB"].iter().find_map(|unit| size.strip_suffix(unit));
        let valid = number.is_some_and(|n| {
            n.starts_with(|c: char| ('1'..='9').contains(&c)) && n.bytes().all(|b| b.is_ascii_digit())
        });
        if !valid {
            let message = format!("must be a number and KB, MB or GB, is {}", quote(size));
            context.error(&limit.member("pageSize"), rules::HUGE_PAGES, message);
        }
    }
}

fn network(context: &mut Context<'_>, resources: &Node<'_>) {
    let Some(network) = resources.get("network") else {
        return;
    };
    let priorities = network.list("priorities");
    check_unique(context, &priorities, "name", rules::NETWORK);
    for priority in &priorities {
        let name = priority.text_at("name").unwrap_or("lo");
        if !device_name(name) {
            let message = format!("{} cannot be the name of a network device", quote(name));
            context.error(&priority.member("name"), rules::NETWORK, message);
        }
    }
}

fn rdma(context: &mut Context<'_>, resources: &Node<'_>) {
    let entries = resources.get("rdma").map(|map| map.entries());
    for (name, entry) in entries.into_iter().flatten() {
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '=') {
            let message = format!("{} cannot be the name of an RDMA device", quote(name));
            context.error(&entry, rules::RDMA, message);
        }
        if entry.get("hcaHandles").is_none() && entry.get("hcaObjects").is_none() {
            context.error(&entry, rules::RDMA, "must have hcaHandles or hcaObjects");
        }
    }
}

/// Limits that can be given in both vocabularies.
const TWICE: [(&str, [&str; 2]); 8] = [
    ("memory.max", ["memory", "limit"]),
    ("memory.low", ["memory", "reservation"]),
    ("memory.swap.max", ["memory", "swap"]),
    ("cpu.max", ["cpu", "quota"]),
    ("cpu.weight", ["cpu", "shares"]),
    ("cpuset.cpus", ["cpu", "cpus"]),
    ("cpuset.mems", ["cpu", "mems"]),
    ("pids.max", ["pids", "limit"]),
];

fn unified(context: &mut Context<'_>, resources: &Node<'_>) {
    let entries = resources.get("unified").map(|map| map.entries());
    for (key, entry) in entries.into_iter().flatten() {
        let file = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let (controller, name) = key.split_once('.').unwrap_or((key, ""));
        if !key.chars().all(file) || key.len() > 255 || controller.is_empty() || name.is_empty() {
            let message = format!("{} is no file of a cgroup: it must be CONTROLLER.NAME", quote(key));
            context.error(&entry, rules::UNIFIED, message);
        } else if controller == "cgroup" {
            let message = format!("{key} is no limit: writing it would interfere with the runtime");
            context.warning(&entry, rules::UNIFIED, message);
        }
        if let Some((_, path)) = TWICE.iter().find(|(twin, _)| *twin == key)
            && resources.find(path).is_some()
        {
            let message = format!("is also given as {}, and this one counts", path.join("."));
            context.warning(&entry, rules::UNIFIED_CONFLICT, message);
        }
    }
}
