//! From what was asked to what makes sense: the only way to a plan leads through [`Checked`].
//!
//! Leaves out: what the host can do. Needs no kernel.

use std::time::Duration;

use super::{Idle, IoDevice, Limits, OomKiller, RdmaDevice, UNLIMITED, Weight};
use crate::controller::{Controller, Version};
use crate::error::{Error, Result};

/// A limit that is a number or none.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Max {
    Finite(u64),
    Unlimited,
}

impl Max {
    pub(crate) fn new(number: u64) -> Self {
        if number == UNLIMITED { Self::Unlimited } else { Self::Finite(number) }
    }

    /// As the kernel wants it: `max` on v2, -1 on v1.
    pub(crate) fn text(self, version: Version) -> String {
        match (self, version) {
            (Self::Finite(number), _) => number.to_string(),
            (Self::Unlimited, Version::V2) => "max".to_owned(),
            (Self::Unlimited, Version::V1) => "-1".to_owned(),
        }
    }
}

/// A file of one version, with what to write.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Raw {
    /// None for a controller that we do not know by name.
    pub(crate) controller: Option<Controller>,
    pub(crate) file: String,
    pub(crate) lines: Vec<String>,
}

/// Limits that make sense.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checked {
    pub(crate) memory: Option<Max>,
    pub(crate) memory_low: Option<Max>,
    pub(crate) swap: Option<Max>,
    pub(crate) memory_and_swap: Option<Max>,
    pub(crate) kernel_memory: Option<Max>,
    pub(crate) kernel_tcp_memory: Option<Max>,
    pub(crate) swappiness: Option<u64>,
    pub(crate) oom_killer: Option<OomKiller>,
    /// Microseconds.
    pub(crate) quota: Option<Max>,
    /// Microseconds.
    pub(crate) period: Option<u64>,
    /// Microseconds.
    pub(crate) burst: Option<u64>,
    pub(crate) cpu_weight: Option<Weight>,
    pub(crate) idle: Option<Idle>,
    /// Microseconds.
    pub(crate) realtime_runtime: Option<u64>,
    /// Microseconds.
    pub(crate) realtime_period: Option<u64>,
    pub(crate) pids: Option<Max>,
    pub(crate) cpus: Option<String>,
    pub(crate) mems: Option<String>,
    pub(crate) io_weight: Option<Weight>,
    pub(crate) leaf_weight: Option<u64>,
    pub(crate) io_devices: Vec<IoDevice>,
    pub(crate) hugetlb: Vec<(String, Max)>,
    pub(crate) rdma: Vec<RdmaDevice>,
    pub(crate) network_class: Option<u32>,
    pub(crate) network_priorities: Vec<(String, u32)>,
    pub(crate) unified: Vec<Raw>,
    pub(crate) legacy: Vec<Raw>,
    pub(crate) best_effort: bool,
}

impl Checked {
    pub(crate) fn of(limits: &Limits) -> Result<Self> {
        let mut checked = Self {
            memory: limits.memory.map(|bytes| at_least_a_page("memory", bytes)).transpose()?,
            memory_low: limits.memory_low.map(|bytes| amount("memory_low", bytes)).transpose()?,
            swap: limits.swap.map(|bytes| amount("swap", bytes)).transpose()?,
            memory_and_swap: limits.memory_and_swap.map(|bytes| amount("memory and swap", bytes)).transpose()?,
            kernel_memory: limits.kernel_memory.map(|bytes| amount("kernel memory", bytes)).transpose()?,
            kernel_tcp_memory: limits.kernel_tcp_memory.map(|bytes| amount("kernel TCP memory", bytes)).transpose()?,
            swappiness: limits.swappiness.map(|number| up_to("swappiness", number, 200)).transpose()?,
            oom_killer: limits.oom_killer,
            cpu_weight: limits.cpu_weight.map(|weight| in_range("cpu", weight, 1..=10_000, 2..=262_144)).transpose()?,
            idle: limits.cpu_idle,
            pids: limits.pids.map(pids).transpose()?,
            cpus: limits.cpuset_cpus.as_deref().map(|list| number_list("cpuset_cpus", list)).transpose()?,
            mems: limits.cpuset_mems.as_deref().map(|list| number_list("cpuset_mems", list)).transpose()?,
            io_weight: limits.io_weight.map(|weight| in_range("io", weight, 1..=10_000, 10..=1000)).transpose()?,
            leaf_weight: limits.leaf_weight.map(leaf_weight).transpose()?,
            io_devices: limits.io_devices.clone(),
            rdma: limits.rdma.clone(),
            network_class: limits.network_class,
            network_priorities: limits.network_priorities.clone(),
            best_effort: limits.best_effort,
            ..Self::default()
        };
        checked.cpu_time(limits)?;
        checked.realtime(limits)?;
        for (size, bytes) in &limits.hugetlb {
            page_size(size)?;
            checked.hugetlb.push((size.clone(), amount("hugetlb", *bytes)?));
        }
        for (key, value) in &limits.unified {
            checked.unified.push(raw(key, value, Version::V2)?);
        }
        for (key, value) in &limits.legacy {
            checked.legacy.push(raw(key, value, Version::V1)?);
        }
        limits.io_devices.iter().try_for_each(io_device)?;
        limits.rdma.iter().try_for_each(rdma)?;
        limits.network_priorities.iter().try_for_each(|(interface, _)| network_interface(interface))?;
        checked.agree()?;
        Ok(checked)
    }

    fn cpu_time(&mut self, limits: &Limits) -> Result<()> {
        if let Some(cpus) = limits.cpus {
            if limits.cpu_quota.is_some() || limits.cpu_period.is_some() {
                return Err(Error::invalid("cannot set both cpus and a quota or period"));
            }
            if !(0.001..=10_000.0).contains(&cpus) {
                return Err(Error::invalid(format!("cannot limit to {cpus} cpus: must be 0.001 to 10000")));
            }
            // The kernel takes no quota under 1 ms, so small shares need the long period.
            let period = if cpus < 0.01 { 1_000_000 } else { 100_000 };
            self.quota = Some(Max::Finite((cpus * period as f64).round() as u64));
            self.period = Some(period);
        }
        if let Some(quota) = limits.cpu_quota {
            self.quota = Some(match quota {
                Duration::MAX => Max::Unlimited,
                _ => Max::Finite(microseconds("cpu_quota", quota, 1000, 1 << 43)?),
            });
        }
        if let Some(period) = limits.cpu_period {
            self.period = Some(microseconds("cpu_period", period, 1000, 1_000_000)?);
        }
        if let Some(burst) = limits.cpu_burst {
            let most = if let Some(Max::Finite(quota)) = self.quota { quota } else { 1 << 43 };
            self.burst = Some(microseconds("cpu_burst", burst, 0, most)?);
        }
        Ok(())
    }

    fn realtime(&mut self, limits: &Limits) -> Result<()> {
        // A day is more than the kernel takes, and fits its numbers.
        const MOST: u64 = 86_400_000_000;
        if let Some(time) = limits.realtime_runtime {
            self.realtime_runtime = Some(microseconds("realtime_runtime", time, 0, MOST)?);
        }
        if let Some(period) = limits.realtime_period {
            self.realtime_period = Some(microseconds("realtime_period", period, 1, MOST)?);
        }
        match (self.realtime_runtime, self.realtime_period) {
            (Some(runtime), Some(period)) if runtime > period => {
                Err(Error::invalid("cannot give more realtime (realtime_runtime) than there is in a period"))
            }
            _ => Ok(()),
        }
    }

    /// Pairs that contradict each other.
    fn agree(&self) -> Result<()> {
        if self.idle == Some(Idle::Yes) && self.cpu_weight.is_some() {
            return Err(Error::invalid("cannot set a cpu weight for an idle group"));
        }
        if let (Some(low), Some(memory)) = (self.memory_low, self.memory)
            && low > memory
        {
            return Err(Error::invalid("cannot protect more memory (memory_low) than the limit (memory)"));
        }
        if self.swap.is_some() && self.memory_and_swap.is_some() {
            return Err(Error::invalid("cannot set both swap, and memory and swap together"));
        }
        if let (Some(memory), Some(Max::Finite(both))) = (self.memory, self.memory_and_swap)
            && memory > Max::Finite(both)
        {
            return Err(Error::invalid("cannot limit memory and swap together to less than memory alone"));
        }
        if let (Some(Max::Finite(memory)), Some(Max::Finite(swap))) = (self.memory, self.swap) {
            amount("memory plus swap", memory + swap)?;
        }
        Ok(())
    }
}

fn amount(what: &str, number: u64) -> Result<Max> {
    // The kernel's own counters are signed.
    if number != UNLIMITED && number > i64::MAX as u64 {
        return Err(Error::invalid(format!("cannot set {what} to {number}: too large; use UNLIMITED for no limit")));
    }
    Ok(Max::new(number))
}

fn up_to(what: &str, number: u64, most: u64) -> Result<u64> {
    match number <= most {
        true => Ok(number),
        false => Err(Error::invalid(format!("cannot set {what} to {number}: at most {most}"))),
    }
}

fn leaf_weight(weight: u64) -> Result<u64> {
    in_range("leaf", Weight::V1(weight), 0..=0, 10..=1000).map(|_| weight)
}

fn network_interface(name: &str) -> Result<()> {
    // IFNAMSIZ, and what dev_valid_name() of the kernel refuses.
    let valid = !matches!(name, "" | "." | "..") && name.len() < 16;
    if valid && !name.contains(|c: char| c == '/' || c == ':' || c == '\0' || c.is_whitespace()) {
        return Ok(());
    }
    let shown = name.escape_debug();
    Err(Error::invalid(format!("cannot set the priority of \"{shown:.100}\": not a name of a network interface")))
}

fn at_least_a_page(what: &str, bytes: u64) -> Result<Max> {
    if bytes < 4096 {
        return Err(Error::invalid(format!("cannot set {what} to {bytes} bytes: less than a page")));
    }
    amount(what, bytes)
}

fn pids(count: u64) -> Result<Max> {
    // PID_MAX_LIMIT of 64-bit kernels; above it the kernel answers EINVAL.
    if count != UNLIMITED && count > 4_194_304 {
        return Err(Error::invalid(format!("cannot set pids to {count}: at most 4194304, or UNLIMITED")));
    }
    Ok(Max::new(count))
}

type Range = std::ops::RangeInclusive<u64>;

fn in_range(what: &str, weight: Weight, v2: Range, v1: Range) -> Result<Weight> {
    let (number, range) = match weight {
        Weight::V2(number) => (number, v2),
        Weight::V1(number) => (number, v1),
    };
    if !range.contains(&number) {
        let (low, high) = (range.start(), range.end());
        return Err(Error::invalid(format!("cannot set {what} weight to {number}: must be {low} to {high}")));
    }
    Ok(weight)
}

fn microseconds(what: &str, time: Duration, least: u64, most: u64) -> Result<u64> {
    match u64::try_from(time.as_micros()) {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(Error::invalid(format!("cannot set {what} to {time:?}: must be {least} to {most} microseconds"))),
    }
}

fn page_size(size: &str) -> Result<()> {
    let digits = size.trim_end_matches(char::is_alphabetic);
    let known = matches!(&size[digits.len()..], "KB" | "MB" | "GB");
    if !known || digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) || digits.len() > 6 {
        let shown = size.escape_debug();
        return Err(Error::invalid(format!("cannot limit huge pages of size {shown}: must be like 64KB, 2MB or 1GB")));
    }
    Ok(())
}

fn io_device(device: &IoDevice) -> Result<()> {
    let refuse =
        |why: &str| Err(Error::invalid(format!("cannot limit device {}:{}: {why}", device.major, device.minor)));
    if device.major > 4095 || device.minor > 0xf_ffff {
        return refuse("no such device number can exist");
    }
    let rates = [device.read_bytes, device.write_bytes, device.read_operations, device.write_operations];
    if device.weight.is_none() && device.leaf_weight.is_none() && rates.iter().all(Option::is_none) {
        return refuse("no limit is given");
    }
    if let Some(weight) = device.weight {
        in_range("device", weight, 1..=10_000, 10..=1000)?;
    }
    device.leaf_weight.map(leaf_weight).transpose()?;
    if rates.contains(&Some(0)) {
        return refuse("a rate of zero; use UNLIMITED to take a limit away");
    }
    // Operations are 32 bits wide in the kernel, which cuts silently.
    let too_many = |rate: Option<u64>| rate.is_some_and(|rate| rate != UNLIMITED && rate >= u64::from(u32::MAX));
    if too_many(device.read_operations) || too_many(device.write_operations) {
        return refuse("too many operations");
    }
    Ok(())
}

fn rdma(device: &RdmaDevice) -> Result<()> {
    let shown = device.name.escape_debug();
    if device.name.is_empty() || device.name.contains(|c: char| c.is_whitespace() || c == '\0') {
        return Err(Error::invalid(format!("cannot limit RDMA device \"{shown}\": not a name")));
    }
    if device.handles.is_none() && device.objects.is_none() {
        return Err(Error::invalid(format!("cannot limit RDMA device {shown}: no limit is given")));
    }
    Ok(())
}

/// Brings a list like ` 3,0-1` into the form the kernel prints: `0-1,3`.
fn number_list(what: &str, list: &str) -> Result<String> {
    let parsed = parse_list(list).filter(|numbers| !numbers.is_empty());
    let shown = list.escape_debug();
    parsed.map(|numbers| format_list(&numbers)).ok_or_else(|| {
        Error::invalid(format!("cannot set {what} to \"{shown}\": must be a list of numbers and ranges like 0-2,4"))
    })
}

/// The numbers in a list, sorted, each once. Empty for an empty list, `None` for anything malformed.
pub(crate) fn parse_list(list: &str) -> Option<Vec<u32>> {
    let mut numbers = Vec::new();
    if list.trim().is_empty() {
        return Some(numbers);
    }
    let number = |text: &str| text.trim().parse::<u32>().ok().filter(|number| *number < 65_536);
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return None;
        }
        numbers.extend(first..=last);
    }
    numbers.sort_unstable();
    numbers.dedup();
    Some(numbers)
}

fn format_list(numbers: &[u32]) -> String {
    let runs = numbers.chunk_by(|a, b| a + 1 == *b);
    let text: Vec<String> = runs
        .map(|run| match run {
            [first, .., last] => format!("{first}-{last}"),
            _ => run.first().map(u32::to_string).unwrap_or_default(),
        })
        .collect();
    text.join(",")
}

/// The only `cgroup.*` files that limit anything.
const CORE: [&str; 3] = ["cgroup.max.depth", "cgroup.max.descendants", "cgroup.pressure"];

fn raw(key: &str, value: &str, version: Version) -> Result<Raw> {
    let shown = key.escape_debug();
    let refuse = |why: &str| Err(Error::invalid(format!("cannot set {shown:.100}: {why}")));
    if !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
        return refuse("the name of a cgroup file has only letters, digits, dot, underscore and dash");
    }
    let Some((prefix, rest)) = key.split_once('.').filter(|(_, rest)| !rest.is_empty()) else {
        return refuse("a cgroup file is called CONTROLLER.NAME");
    };
    let controller = Controller::parse(prefix);
    // v2 may have controllers that came after us, and is asked; those of v1 are known.
    let unknown = controller.is_none() && (version == Version::V1 || prefix.is_empty());
    if unknown || controller.is_some_and(|found| found.name(version) != prefix) {
        return refuse("no controller of that name");
    }
    let is_core = controller == Some(Controller::Core);
    if is_core && !(version == Version::V2 && CORE.contains(&key)) || rest == "state" {
        return refuse("it is not a limit");
    }
    let lines: Vec<String> = value.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if lines.is_empty() || value.contains('\0') {
        return refuse("the value is empty or has a NUL");
    }
    Ok(Raw { controller, file: key.to_owned(), lines })
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
