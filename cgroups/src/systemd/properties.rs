//! Limits as properties of a unit, which systemd writes again whenever it reloads: they must say what the files say. Pure.
//!
//! Leaves out what systemd has no property for, or would not undo: that is written into the files alone. Needs no kernel; the
//! properties are those of systemd.resource-control(5), version 244 or later.

use super::wire::{Property, Value};
use crate::error::{Error, Result};
use crate::limits::check::parse_list;
use crate::plan::Plan;

/// The properties for the writes of a plan for cgroup v2.
pub(super) fn of(plan: &Plan) -> Result<Vec<Property>> {
    let mut properties: Vec<Property> = Vec::new();
    for write in plan.writes() {
        for (name, value) in property(write.file(), write.value().trim())? {
            // Of two writes of one file the later one counts.
            properties.retain(|(other, _)| other != name);
            properties.push((name.to_owned(), value));
        }
    }
    Ok(properties)
}

fn property(file: &str, value: &str) -> Result<Vec<(&'static str, Value)>> {
    let amount =
        |name: &'static str| Ok(number(value).map(|number| (name, Value::Number(number))).into_iter().collect());
    match file {
        "memory.max" => amount("MemoryMax"),
        "memory.high" => amount("MemoryHigh"),
        "memory.low" => amount("MemoryLow"),
        "memory.min" => amount("MemoryMin"),
        "memory.swap.max" => amount("MemorySwapMax"),
        "pids.max" => amount("TasksMax"),
        "cpu.weight" => amount("CPUWeight"),
        "io.weight" => Ok(value
            .strip_prefix("default ")
            .and_then(number)
            .map(|weight| ("IOWeight", Value::Number(weight)))
            .into_iter()
            .collect()),
        "cpu.max" => Ok(quota(value)),
        "cpuset.cpus" => mask(value).map(|mask| vec![("AllowedCPUs", mask)]),
        "cpuset.mems" => mask(value).map(|mask| vec![("AllowedMemoryNodes", mask)]),
        _ => Ok(Vec::new()),
    }
}

/// systemd has the highest number for no limit.
fn number(text: &str) -> Option<u64> {
    if text == "max" { Some(u64::MAX) } else { text.parse().ok() }
}

/// `50000 100000` as microseconds in each second, and the period.
fn quota(value: &str) -> Vec<(&'static str, Value)> {
    let mut words = value.split_ascii_whitespace().map(number);
    let (Some(Some(quota)), Some(period)) = (words.next(), words.next().unwrap_or(Some(100_000))) else {
        return Vec::new();
    };
    let each = match quota {
        u64::MAX => u64::MAX,
        // Rounded up: less than was asked for is no share, and a quota of 0 would be none at all.
        quota => (u128::from(quota) * 1_000_000).div_ceil(u128::from(period.max(1))).try_into().unwrap_or(u64::MAX),
    };
    vec![("CPUQuotaPerSecUSec", Value::Number(each)), ("CPUQuotaPeriodUSec", Value::Number(period))]
}

/// A list such as `0-2,8` as bits, the lowest first.
fn mask(list: &str) -> Result<Value> {
    let numbers = parse_list(list).ok_or_else(|| Error::invalid(format!("cannot tell systemd the list {list:?}")))?;
    let mut bits = vec![0u8; numbers.last().map_or(0, |last| *last as usize / 8 + 1)];
    for number in numbers {
        bits[number as usize / 8] |= 1 << (number % 8);
    }
    Ok(Value::Bytes(bits))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Hierarchy, Limits, MIB, UNLIMITED};

    fn told(limits: &Limits) -> Vec<Property> {
        let host = Hierarchy::detect_from("30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/\n");
        of(&limits.plan(&host).unwrap()).unwrap()
    }

    #[test]
    fn limits_become_properties() {
        let number = |name: &str, number| (name.to_owned(), Value::Number(number));
        let limits = Limits::new().memory(64 * MIB).memory_low(MIB).swap(0).pids(7).cpu_shares(1024).io_weight(50);
        assert_eq!(
            told(&limits),
            [
                number("MemoryMax", 64 * MIB),
                number("MemoryLow", MIB),
                number("MemorySwapMax", 0),
                number("CPUWeight", 100),
                number("TasksMax", 7),
                number("IOWeight", 50),
            ]
        );
        let none = Limits::new().memory(UNLIMITED).pids(UNLIMITED);
        assert_eq!(told(&none), [number("MemoryMax", u64::MAX), number("TasksMax", u64::MAX)]);
        // The later of two counts, as in the file.
        assert_eq!(told(&Limits::new().pids(7).unified("pids.max", "9")), [number("TasksMax", 9)]);
        assert_eq!(told(&Limits::new().unified("memory.oom.group", "1")), []);
    }

    #[test]
    fn processor_time_is_told_for_a_second() {
        let number = |name: &str, number| (name.to_owned(), Value::Number(number));
        let cases = [
            (Limits::new().cpus(0.5), 500_000, 100_000),
            (Limits::new().cpus(2.0), 2_000_000, 100_000),
            (
                Limits::new().cpu_quota(Duration::from_micros(1000)).cpu_period(Duration::from_micros(30_000)),
                33_334,
                30_000,
            ),
            (Limits::new().cpu_quota(Duration::MAX), u64::MAX, 100_000),
        ];
        for (limits, each, period) in cases {
            let expected = [number("CPUQuotaPerSecUSec", each), number("CPUQuotaPeriodUSec", period)];
            assert_eq!(told(&limits), expected, "{limits:?}");
        }
    }

    #[test]
    fn lists_are_told_as_bits() {
        let bits = told(&Limits::new().cpuset_cpus("0-2,8").cpuset_mems("0"));
        let expected = [("AllowedCPUs", vec![0b111, 1]), ("AllowedMemoryNodes", vec![1])];
        assert_eq!(bits, expected.map(|(name, bits)| (name.to_owned(), Value::Bytes(bits))));
    }
}
