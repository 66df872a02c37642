//! From limits to writes: what both versions have in common, and which version each limit belongs to.
//!
//! Leaves out: the files of one version, see `v2` and `v1`. Needs no kernel.

use super::{Check, Moot, Plan, Present, Skipped, Write, v1, v2};
use crate::controller::{Controller, Version};
use crate::error::{Error, Result};
use crate::hierarchy::Hierarchy;
use crate::limits::check::{Checked, Raw};

pub(super) fn plan(limits: &Checked, hierarchy: &Hierarchy, present: &Present) -> Result<Plan> {
    let mut planner = Planner { limits, hierarchy, present, plan: Plan::default() };
    planner.memory()?;
    planner.cpu()?;
    planner.cpuset()?;
    planner.pids()?;
    planner.io()?;
    planner.hugetlb()?;
    planner.rdma()?;
    planner.network()?;
    planner.raw()?;
    Ok(planner.plan)
}

pub(super) struct Planner<'a> {
    pub(super) limits: &'a Checked,
    hierarchy: &'a Hierarchy,
    pub(super) present: &'a Present,
    plan: Plan,
}

impl Planner<'_> {
    /// Which interface `controller` has on this host; `None` if the limit is skipped.
    fn version(&mut self, controller: Controller) -> Result<Option<Version>> {
        match self.hierarchy.find(controller) {
            Some(mount) => Ok(Some(mount.version())),
            None => {
                self.refuse(&format!("{controller} limits"), "no hierarchy with this controller is mounted")?;
                Ok(None)
            }
        }
    }

    /// Something the host cannot express: an error, or in best effort a line in the report.
    pub(super) fn refuse(&mut self, what: &str, why: &str) -> Result<()> {
        if !self.limits.best_effort {
            return Err(Error::unsupported(format!("cannot set {what}: {why}")));
        }
        self.pass_over(what, why);
        Ok(())
    }

    /// Something the host cannot express, and need not.
    pub(super) fn pass_over(&mut self, what: &str, why: &str) {
        self.plan.skipped.push(Skipped { what: what.to_owned(), why: why.to_owned() });
    }

    pub(super) fn push(&mut self, write: Write) {
        self.plan.writes.push(write);
    }

    fn memory(&mut self) -> Result<()> {
        let limits = self.limits;
        let amounts = [
            limits.memory,
            limits.memory_low,
            limits.swap,
            limits.memory_and_swap,
            limits.kernel_memory,
            limits.kernel_tcp_memory,
        ];
        let killer = limits.oom_killer.filter(|killer| *killer != self.present.oom_killer);
        if amounts.iter().all(Option::is_none) && limits.swappiness.is_none() && killer.is_none() {
            return Ok(());
        }
        match self.version(Controller::Memory)? {
            Some(Version::V2) => v2::memory(self)?,
            Some(Version::V1) => v1::memory(self)?,
            None => {}
        }
        Ok(())
    }

    fn cpu(&mut self) -> Result<()> {
        let limits = self.limits;
        let time = limits.quota.is_some() || limits.period.is_some() || limits.burst.is_some();
        let realtime = limits.realtime_runtime.is_some() || limits.realtime_period.is_some();
        if !time && !realtime && limits.cpu_weight.is_none() && limits.idle.is_none() {
            return Ok(());
        }
        match self.version(Controller::Cpu)? {
            Some(Version::V2) => v2::cpu(self)?,
            Some(Version::V1) => v1::cpu(self),
            None => {}
        }
        Ok(())
    }

    /// The two versions have the same files.
    fn cpuset(&mut self) -> Result<()> {
        let lists = [("cpuset.cpus", &self.limits.cpus), ("cpuset.mems", &self.limits.mems)];
        if lists.iter().all(|(_, list)| list.is_none()) {
            return Ok(());
        }
        let Some(version) = self.version(Controller::Cpuset)? else {
            return Ok(());
        };
        for (file, list) in lists {
            if let Some(list) = list {
                self.push(Write::new(version, Controller::Cpuset, file, list, Check::List));
            }
        }
        Ok(())
    }

    fn pids(&mut self) -> Result<()> {
        let Some(most) = self.limits.pids else {
            return Ok(());
        };
        let Some(version) = self.version(Controller::Pids)? else {
            return Ok(());
        };
        // Here v1 says "max" too.
        self.push(Write::new(version, Controller::Pids, "pids.max", most.text(Version::V2), Check::Text));
        Ok(())
    }

    fn io(&mut self) -> Result<()> {
        if self.limits.io_weight.is_none() && self.limits.leaf_weight.is_none() && self.limits.io_devices.is_empty() {
            return Ok(());
        }
        match self.version(Controller::Io)? {
            Some(Version::V2) => v2::io(self)?,
            Some(Version::V1) => v1::io(self),
            None => {}
        }
        Ok(())
    }

    fn hugetlb(&mut self) -> Result<()> {
        if self.limits.hugetlb.is_empty() {
            return Ok(());
        }
        let Some(version) = self.version(Controller::Hugetlb)? else {
            return Ok(());
        };
        let end = if version == Version::V2 { "max" } else { "limit_in_bytes" };
        for (size, most) in &self.limits.hugetlb {
            let reserved = Moot::WithoutFile("this kernel limits no reservations of huge pages, only their use");
            for (middle, moot) in [("", Moot::Never), ("rsvd.", reserved)] {
                let file = format!("hugetlb.{size}.{middle}{end}");
                let check = Check::Rounded(page_bytes(size));
                let write = Write::new(version, Controller::Hugetlb, file, most.text(version), check);
                self.push(write.moot_if(moot));
            }
        }
        Ok(())
    }

    fn rdma(&mut self) -> Result<()> {
        if self.limits.rdma.is_empty() {
            return Ok(());
        }
        let Some(version) = self.version(Controller::Rdma)? else {
            return Ok(());
        };
        for device in &self.limits.rdma {
            let mut value = device.name.clone();
            for (key, most) in [("hca_handle", device.handles), ("hca_object", device.objects)] {
                if let Some(most) = most {
                    value.push_str(&format!(" {key}={most}"));
                }
            }
            self.push(Write::new(version, Controller::Rdma, "rdma.max", value, Check::Pairs));
        }
        Ok(())
    }

    /// Marks of packets, which v2 leaves to other parts of the kernel.
    fn network(&mut self) -> Result<()> {
        let limits = self.limits;
        let class = limits.network_class.map(|class| (Controller::NetCls, "net_cls.classid", class.to_string()));
        let priority =
            |(name, number): &(String, u32)| (Controller::NetPrio, "net_prio.ifpriomap", format!("{name} {number}"));
        for (controller, file, value) in class.into_iter().chain(limits.network_priorities.iter().map(priority)) {
            if self.hierarchy.legacy_of(controller).is_none() {
                self.refuse(file, "no v1 hierarchy with its controller is mounted, and v2 has none such")?;
                continue;
            }
            let check = if controller == Controller::NetCls { Check::Text } else { Check::Map };
            self.push(Write::new(Version::V1, controller, file, value, check));
        }
        Ok(())
    }

    fn raw(&mut self) -> Result<()> {
        let limits = self.limits;
        limits.unified.iter().try_for_each(|raw| self.raw_file(raw, Version::V2))?;
        limits.legacy.iter().try_for_each(|raw| self.raw_file(raw, Version::V1))
    }

    fn raw_file(&mut self, raw: &Raw, version: Version) -> Result<()> {
        let lives = match raw.controller {
            None | Some(Controller::Core) => self.hierarchy.unified().map(|mount| mount.version()),
            Some(controller) => self.hierarchy.find(controller).map(|mount| mount.version()),
        };
        if lives != Some(version) {
            let name = if version == Version::V2 { "v2" } else { "v1" };
            return self.refuse(&raw.file, &format!("its controller is not in a {name} hierarchy here"));
        }
        for line in &raw.lines {
            let mut write =
                Write::new(version, raw.controller.unwrap_or(Controller::Core), &raw.file, line, Check::Raw);
            if raw.controller.is_none() {
                write.stranger = raw.file.split('.').next().map(str::to_owned);
            }
            self.push(write);
        }
        Ok(())
    }
}

/// `2MB` in bytes.
fn page_bytes(size: &str) -> u64 {
    let digits = size.trim_end_matches(char::is_alphabetic);
    let unit = match &size[digits.len()..] {
        "KB" => 1 << 10,
        "MB" => 1 << 20,
        _ => 1 << 30,
    };
    digits.parse::<u64>().unwrap_or(0) * unit
}

#[cfg(test)]
mod tests {
    use super::page_bytes;
    use crate::{GIB, MIB};

    #[test]
    fn page_sizes() {
        for (size, bytes) in [("64KB", 65_536), ("2MB", 2 * MIB), ("1GB", GIB)] {
            assert_eq!(page_bytes(size), bytes);
        }
    }
}
