//! Where each statistic is found on which version.
//!
//! Leaves out: formats, which are in `parse`. Oldest kernel: 4.5.

use std::ffi::OsString;
use std::time::Duration;

use super::{
    CpuStats, CpusetStats, HugetlbStats, IoStats, MemoryStats, PidsStats, PressureStats, Stats, Used, number, parse,
};
use crate::controller::{Controller, Version};
use crate::directory::Directory;
use crate::group::{Group, wait::value};
use crate::limits::UNLIMITED;

pub(super) fn all(group: &Group) -> Stats {
    Stats {
        memory: memory(group),
        cpu: cpu(group),
        cpuset: cpuset(group),
        pids: pids(group),
        io: io(group),
        hugetlb: hugetlb(group),
        pressure: pressure(group),
    }
}

/// What a group has used so far, in as few files as possible.
pub(super) fn used(group: &Group) -> Used {
    let peak_memory = match (group.legacy(Controller::Memory), group.unified()) {
        (Some(node), _) => number(&node.directory, "memory.max_usage_in_bytes"),
        (None, Some(node)) => number(&node.directory, "memory.peak"),
        (None, None) => None,
    };
    let cpu = match (group.legacy(Controller::Cpuacct), group.unified()) {
        (Some(node), _) => number(&node.directory, "cpuacct.usage").map(Duration::from_nanos),
        (None, Some(node)) => {
            let text = node.directory.text("cpu.stat").unwrap_or_default();
            value(&text, "usage_usec").map(Duration::from_micros)
        }
        (None, None) => None,
    };
    Used { cpu, peak_memory }
}

fn memory(group: &Group) -> MemoryStats {
    let oom_kills = group.oom_kills().ok().flatten();
    if let Some(node) = group.legacy(Controller::Memory) {
        return MemoryStats { oom_kills, ..memory_v1(&node.directory) };
    }
    let Some(node) = group.unified() else {
        return MemoryStats::default();
    };
    let here = &node.directory;
    let stat = here.text("memory.stat").unwrap_or_default();
    MemoryStats {
        current: number(here, "memory.current"),
        peak: number(here, "memory.peak"),
        limit: number(here, "memory.max"),
        swap: number(here, "memory.swap.current"),
        swap_limit: number(here, "memory.swap.max"),
        cache: value(&stat, "file"),
        anon: value(&stat, "anon"),
        kernel: value(&stat, "kernel"),
        kernel_tcp: None,
        failures: here.text("memory.events").and_then(|text| value(&text, "max")),
        oom_kills,
        counters: parse::counters(&stat),
    }
}

fn memory_v1(here: &Directory) -> MemoryStats {
    // The `total_` counters include the groups below, as on v2.
    let stat = here.text("memory.stat").unwrap_or_default();
    let limit = number(here, "memory.limit_in_bytes");
    let both = number(here, "memory.memsw.limit_in_bytes");
    let swap_limit = match (both, limit) {
        (Some(UNLIMITED), _) => Some(UNLIMITED),
        (Some(both), Some(memory)) => Some(both.saturating_sub(memory)),
        _ => None,
    };
    MemoryStats {
        current: number(here, "memory.usage_in_bytes"),
        peak: number(here, "memory.max_usage_in_bytes"),
        limit,
        swap: value(&stat, "total_swap"),
        swap_limit,
        cache: value(&stat, "total_cache"),
        anon: value(&stat, "total_rss"),
        kernel: number(here, "memory.kmem.usage_in_bytes"),
        kernel_tcp: number(here, "memory.kmem.tcp.usage_in_bytes"),
        failures: number(here, "memory.failcnt"),
        oom_kills: None,
        counters: parse::counters(&stat),
    }
}

fn cpu(group: &Group) -> CpuStats {
    let mut stats = CpuStats::default();
    // v2 counts time in every group, with the controller or without.
    if let Some(node) = group.unified() {
        let text = node.directory.text("cpu.stat").unwrap_or_default();
        let time = |key: &str| value(&text, key).map(Duration::from_micros);
        stats.usage = time("usage_usec");
        (stats.user, stats.system) = (time("user_usec"), time("system_usec"));
        (stats.periods, stats.throttled_periods) = (value(&text, "nr_periods"), value(&text, "nr_throttled"));
        stats.throttled = time("throttled_usec");
    }
    if let Some(node) = group.legacy(Controller::Cpuacct) {
        let time = |file: &str| number(&node.directory, file).map(Duration::from_nanos);
        stats.usage = time("cpuacct.usage");
        (stats.user, stats.system) = (time("cpuacct.usage_user"), time("cpuacct.usage_sys"));
        let times = |file: &str| node.directory.text(file).as_deref().map(parse::times).unwrap_or_default();
        stats.by_processor = times("cpuacct.usage_percpu");
        stats.user_by_processor = times("cpuacct.usage_percpu_user");
        stats.system_by_processor = times("cpuacct.usage_percpu_sys");
    }
    if let Some(node) = group.legacy(Controller::Cpu) {
        let text = node.directory.text("cpu.stat").unwrap_or_default();
        (stats.periods, stats.throttled_periods) = (value(&text, "nr_periods"), value(&text, "nr_throttled"));
        stats.throttled = value(&text, "throttled_time").map(Duration::from_nanos);
    }
    stats
}

fn cpuset(group: &Group) -> CpusetStats {
    let (node, files) = match group.legacy(Controller::Cpuset) {
        Some(node) => (Some(node), ["cpuset.effective_cpus", "cpuset.effective_mems"]),
        None => (group.node(Version::V2, Controller::Cpuset), ["cpuset.cpus.effective", "cpuset.mems.effective"]),
    };
    let read = |file| node.as_ref()?.directory.text(file).map(|list| list.trim().to_owned());
    let [cpus, mems] = files.map(read);
    CpusetStats { cpus, mems }
}

fn pids(group: &Group) -> PidsStats {
    let node = group.legacy(Controller::Pids).or_else(|| group.node(Version::V2, Controller::Pids));
    let mut stats = PidsStats::default();
    if let Some(node) = node {
        let here = &node.directory;
        stats.current = number(here, "pids.current");
        stats.peak = number(here, "pids.peak");
        stats.limit = number(here, "pids.max");
    }
    stats.current = stats.current.or_else(|| u64::try_from(group.processes().ok()?.len()).ok());
    stats
}

fn io(group: &Group) -> Vec<IoStats> {
    let Some(node) = group.legacy(Controller::Io) else {
        let text = group.unified().and_then(|node| node.directory.text("io.stat"));
        return text.as_deref().map(parse::io_v2).unwrap_or_default();
    };
    let read = |file: &str| {
        let below = node.directory.text(&format!("{file}_recursive"));
        below.or_else(|| node.directory.text(file)).unwrap_or_default()
    };
    parse::io_v1(&read("blkio.throttle.io_service_bytes"), &read("blkio.throttle.io_serviced"))
}

fn hugetlb(group: &Group) -> Vec<HugetlbStats> {
    let legacy = group.legacy(Controller::Hugetlb);
    let (current, limit) = if legacy.is_some() { ("usage_in_bytes", "limit_in_bytes") } else { ("current", "max") };
    let Some(node) = legacy.or_else(|| group.node(Version::V2, Controller::Hugetlb)) else {
        return Vec::new();
    };
    let here = &node.directory;
    let size = |file: &OsString| {
        let size = file.to_str()?.strip_prefix("hugetlb.")?.strip_suffix(current)?.strip_suffix('.')?;
        (!size.contains('.')).then(|| size.to_owned())
    };
    let mut sizes: Vec<String> = here.files().unwrap_or_default().iter().filter_map(size).collect();
    sizes.sort_unstable();
    let stats = sizes.into_iter().map(|page_size| {
        let events = here.text(&format!("hugetlb.{page_size}.events"));
        HugetlbStats {
            current: number(here, &format!("hugetlb.{page_size}.{current}")),
            peak: number(here, &format!("hugetlb.{page_size}.max_usage_in_bytes")),
            limit: number(here, &format!("hugetlb.{page_size}.{limit}")),
            failures: match events {
                Some(text) => value(&text, "max"),
                None => number(here, &format!("hugetlb.{page_size}.failcnt")),
            },
            page_size,
        }
    });
    stats.collect()
}

fn pressure(group: &Group) -> PressureStats {
    let Some(node) = group.unified() else {
        return PressureStats::default();
    };
    let read = |file: &str| parse::pressure(&node.directory.text(file)?);
    PressureStats { cpu: read("cpu.pressure"), memory: read("memory.pressure"), io: read("io.pressure") }
}
