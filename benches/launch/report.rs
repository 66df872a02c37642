//! What is printed.

use std::time::Duration;

use crate::lane::Samples;

/// Collects what is above what was promised.
pub struct Report {
    missed: Vec<String>,
}

impl Report {
    /// Says where this is measured.
    pub fn new() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let processors = std::thread::available_parallelism().map_or(0, usize::from);
        let model = read("/proc/cpuinfo")
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map(|it| it.1.to_owned());
        println!(
            "Linux {}, {processors} processors, {}",
            read("/proc/sys/kernel/osrelease").trim(),
            model.unwrap_or_default()
        );
        Self { missed: Vec::new() }
    }

    /// A heading, with the load of the machine.
    pub fn begin(&self, section: &str) {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        println!(
            "\n{section:<24}{:>9}{:>9}{:>9}{:>6}   load {}",
            "p10 us",
            "p50 us",
            "p90 us",
            "n",
            load.split(' ').next().unwrap_or_default()
        );
    }

    /// Prints the percentiles, and takes the medians for ratios.
    pub fn lanes(&mut self, samples: Samples) -> Medians<'_> {
        let mut medians = Vec::new();
        for (name, mut times) in samples.0 {
            times.sort();
            let percentile = |percent: usize| micros(times[(times.len() - 1) * percent / 100]);
            println!(
                "{name:<24}{:>9.0}{:>9.0}{:>9.0}{:>6}",
                percentile(10),
                percentile(50),
                percentile(90),
                times.len()
            );
            medians.push((name, percentile(50)));
        }
        Medians { medians, report: std::cell::RefCell::new(self) }
    }

    /// One line for machines, and a remark if `most` is exceeded.
    pub fn value(&mut self, name: &str, value: f64, most: Option<f64>) {
        println!("ratio {name} {value:.2}");
        if let Some(most) = most.filter(|most| value > *most) {
            self.missed.push(format!("{name} is {value:.2}, promised is {most}"));
        }
    }

    /// What was not reached.
    pub fn end(&self) {
        println!();
        self.missed.iter().for_each(|missed| println!("missed: {missed}"));
        println!("{} of the promises are missed", self.missed.len());
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// The medians of some lanes.
pub struct Medians<'a> {
    medians: Vec<(String, f64)>,
    report: std::cell::RefCell<&'a mut Report>,
}

impl Medians<'_> {
    /// Prints the ratio of two lanes, if both were measured.
    pub fn ratio(&self, name: &str, above: &str, below: &str, most: Option<f64>) {
        let median = |lane: &str| self.medians.iter().find(|(name, _)| name == lane).map(|(_, median)| *median);
        if let (Some(above), Some(below)) = (median(above), median(below)) {
            self.report.borrow_mut().value(name, above / below, most);
        }
    }
}
