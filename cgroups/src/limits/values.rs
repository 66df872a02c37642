//! Looking into limits: for those who write them in another form.

use std::time::Duration;

use super::Limits;

/// What [`Limits`] hold, as far as other forms have words for it.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Values {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of protected memory.
    pub memory_low: Option<u64>,
    /// Bytes of swap beside the memory.
    pub swap: Option<u64>,
    /// Processor time in each period.
    pub cpu_quota: Option<Duration>,
    /// The period of the quota.
    pub cpu_period: Option<Duration>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Processors, as a list such as `0-3`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes, as a list.
    pub cpuset_mems: Option<String>,
    /// Raw keys of cgroup v2.
    pub unified: Vec<(String, String)>,
}

impl Limits {
    /// What these limits hold. A number of processors is given as a quota in a period of 100 ms.
    ///
    /// ```
    /// use keelbox_cgroups::Limits;
    /// let values = Limits::new().memory(1 << 20).cpus(0.5).values();
    /// assert_eq!(values.memory, Some(1 << 20));
    /// assert_eq!(values.cpu_quota, Some(std::time::Duration::from_millis(50)));
    /// ```
    #[must_use]
    pub fn values(&self) -> Values {
        const PERIOD: Duration = Duration::from_millis(100);
        let share =
            self.cpus.filter(|cpus| cpus.is_finite() && *cpus > 0.0 && *cpus < 1e6).map(|cpus| PERIOD.mul_f64(cpus));
        Values {
            memory: self.memory,
            memory_low: self.memory_low,
            swap: self.swap,
            cpu_quota: self.cpu_quota.or(share),
            cpu_period: self.cpu_period.or(share.map(|_| PERIOD)),
            pids: self.pids,
            cpuset_cpus: self.cpuset_cpus.clone(),
            cpuset_mems: self.cpuset_mems.clone(),
            unified: self.unified.clone(),
        }
    }
}
