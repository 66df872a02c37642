//! What a container uses, in the JSON that other runtimes print and programs read. Needs no kernel.
//!
//! Leaves out network interfaces, which those leave empty, and what the kernel does not tell.

use std::time::Duration;

use keelbox::Stats;
use keelbox::crates::cgroups::{IoStats, UNLIMITED};
use serde_json::{Map, Value, json};

/// One line of events.
pub(crate) fn event(kind: &str, id: &str, data: Option<Value>) -> String {
    let mut line = json!({ "type": kind, "id": id });
    if let Some(data) = data {
        line["data"] = data;
    }
    format!("{line}\n")
}

pub(crate) fn document(stats: &Stats) -> Value {
    let huge: Map<String, Value> = stats
        .hugetlb
        .iter()
        .map(|pages| {
            let use_of = json!({
                "usage": pages.current.unwrap_or(0), "max": pages.peak.unwrap_or(0), "failcnt": pages.failures.unwrap_or(0),
            });
            (pages.page_size.clone(), use_of)
        })
        .collect();
    json!({
        "cpu": cpu(stats),
        "cpuset": { "cpus": list(stats.cpuset.cpus.as_deref()), "mems": list(stats.cpuset.mems.as_deref()) },
        "memory": memory(stats),
        "pids": {
            "current": stats.pids.current.unwrap_or(0),
            // A limit of 0 stands for none.
            "limit": stats.pids.limit.filter(|limit| *limit != UNLIMITED).unwrap_or(0),
        },
        "blkio": blocks(stats),
        "hugetlb": huge,
        "intel_rdt": {},
        "network_interfaces": null,
    })
}

fn nanoseconds(time: Option<Duration>) -> u64 {
    time.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

fn cpu(stats: &Stats) -> Value {
    let cpu = &stats.cpu;
    let each = |times: &[Duration]| -> Vec<u64> { times.iter().map(|time| nanoseconds(Some(*time))).collect() };
    json!({
        "usage": {
            "total": nanoseconds(cpu.usage), "user": nanoseconds(cpu.user), "kernel": nanoseconds(cpu.system),
            "percpu": each(&cpu.by_processor),
            "percpu_user": each(&cpu.user_by_processor),
            "percpu_kernel": each(&cpu.system_by_processor),
        },
        "throttling": {
            "periods": cpu.periods.unwrap_or(0),
            "throttledPeriods": cpu.throttled_periods.unwrap_or(0),
            "throttledTime": nanoseconds(cpu.throttled),
        },
    })
}

fn memory(stats: &Stats) -> Value {
    let memory = &stats.memory;
    let (current, limit) = (memory.current.unwrap_or(0), memory.limit.unwrap_or(UNLIMITED));
    // They count memory and swap together.
    let both = |one: u64, other: Option<u64>| one.saturating_add(other.unwrap_or(0));
    let counters: Map<String, Value> =
        memory.counters.iter().map(|(name, number)| (name.clone(), (*number).into())).collect();
    json!({
        "cache": memory.cache.unwrap_or(0),
        "usage": {
            "limit": limit, "usage": current, "max": memory.peak.unwrap_or(0), "failcnt": memory.failures.unwrap_or(0),
        },
        "swap": {
            "limit": both(limit, memory.swap_limit), "usage": both(current, memory.swap), "max": 0, "failcnt": 0,
        },
        "kernel": { "limit": UNLIMITED, "usage": memory.kernel.unwrap_or(0), "max": 0, "failcnt": 0 },
        "kernelTCP": { "limit": UNLIMITED, "usage": memory.kernel_tcp.unwrap_or(0), "max": 0, "failcnt": 0 },
        "raw": counters,
    })
}

fn blocks(stats: &Stats) -> Value {
    json!({
        "ioServiceBytesRecursive": operations(&stats.io, |io| [("Read", io.read_bytes), ("Write", io.write_bytes)]),
        "ioServicedRecursive": operations(&stats.io, |io| [("Read", io.read_operations), ("Write", io.write_operations)]),
    })
}

/// What is known of each device, an entry for each operation.
fn operations(all: &[IoStats], read: impl Fn(&IoStats) -> [(&'static str, Option<u64>); 2]) -> Vec<Value> {
    let of_one = |io: &IoStats| -> Vec<Value> {
        let (major, minor) = (io.major, io.minor);
        let entry = |(op, value): (&str, Option<u64>)| {
            value.map(|value| json!({ "major": major, "minor": minor, "op": op, "value": value }))
        };
        read(io).into_iter().filter_map(entry).collect()
    };
    all.iter().flat_map(of_one).collect()
}

/// `0-2,5` as numbers.
fn list(text: Option<&str>) -> Vec<u32> {
    let range = |part: &str| -> Option<std::ops::RangeInclusive<u32>> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    text.unwrap_or("").trim().split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_has_what_is_known_and_zeros() {
        let mut stats = Stats::default();
        stats.cpu.usage = Some(Duration::from_micros(5));
        stats.memory.current = Some(4096);
        stats.memory.counters = vec![("anon".into(), 7)];
        stats.pids.limit = Some(UNLIMITED);
        stats.cpuset.cpus = Some("0-2,5\n".into());
        let document = document(&stats);
        for (pointer, value) in [
            ("/cpu/usage/total", json!(5000)),
            ("/memory/usage/usage", json!(4096)),
            ("/memory/usage/limit", json!(UNLIMITED)),
            ("/memory/raw/anon", json!(7)),
            ("/pids", json!({ "current": 0, "limit": 0 })),
            ("/cpuset/cpus", json!([0, 1, 2, 5])),
            ("/blkio/ioServicedRecursive", json!([])),
        ] {
            assert_eq!(document.pointer(pointer), Some(&value), "{pointer}");
        }
        assert_eq!(event("oom", "a", None), "{\"id\":\"a\",\"type\":\"oom\"}\n");
    }
}
