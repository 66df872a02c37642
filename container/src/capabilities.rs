//! Capability sets as the masks that the kernel wants.

use std::collections::HashSet;
use std::str::FromStr;

use oci_spec::runtime::{self as oci, Capability};

/// Every capability there is, up to `CAP_CHECKPOINT_RESTORE`.
pub(crate) const ALL: u64 = (1 << NUMBERED.len()) - 1;

/// In the order of `linux/capability.h`: the place of each is its number.
const NUMBERED: [Capability; 41] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::LinuxImmutable,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysPacct,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysNice,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Mknod,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::AuditControl,
    Capability::Setfcap,
    Capability::MacOverride,
    Capability::MacAdmin,
    Capability::Syslog,
    Capability::WakeAlarm,
    Capability::BlockSuspend,
    Capability::AuditRead,
    Capability::Perfmon,
    Capability::Bpf,
    Capability::CheckpointRestore,
];

/// The mask of a set; nothing for no set.
pub(crate) fn mask(set: &Option<HashSet<Capability>>) -> u64 {
    let named = |capability: &Capability| set.iter().any(|set| set.contains(capability));
    (0..).zip(&NUMBERED).filter(|(_, capability)| named(capability)).map(|(number, _)| 1u64 << number).sum()
}

/// The capability of this name, with or without `CAP_`, in any case.
pub(crate) fn named(name: &str) -> Option<Capability> {
    let upper = name.to_ascii_uppercase();
    Capability::from_str(upper.strip_prefix("CAP_").unwrap_or(&upper)).ok()
}

/// The capabilities in a mask.
pub(crate) fn set(mask: u64) -> HashSet<Capability> {
    (0..).zip(NUMBERED).filter(|(number, _)| mask >> number & 1 == 1).map(|(_, capability)| capability).collect()
}

/// Adds capabilities to what a program has and may have. Whoever is not root keeps them only as ambient ones.
pub(crate) fn add(process: &mut oci::Process, added: u64) {
    // Without sets of its own it has all that there are.
    let Some(mut sets) = process.capabilities().clone().filter(|_| added != 0) else { return };
    let with = |sets: &Option<HashSet<Capability>>| Some(set(mask(sets) | added));
    let (bounding, effective, permitted) = (with(sets.bounding()), with(sets.effective()), with(sets.permitted()));
    sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
    if process.user().uid() != 0 {
        let (inheritable, ambient) = (with(sets.inheritable()), with(sets.ambient()));
        sets.set_inheritable(inheritable).set_ambient(ambient);
    }
    process.set_capabilities(Some(sets));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the names of the kernel's header, as the numbers below are its.
    #[test]
    fn every_capability_has_its_number() {
        assert_eq!(mask(&Some(set(ALL))), ALL);
        assert_eq!(set(ALL).len(), 41);
        assert_eq!(mask(&None), 0);
        let numbers =
            [("chown", 0), ("setpcap", 8), ("sys_admin", 21), ("mknod", 27), ("setfcap", 31), ("mac_override", 32)];
        for (name, number) in numbers.into_iter().chain([("audit_read", 37), ("bpf", 39), ("checkpoint_restore", 40)]) {
            let capability = named(name).expect("it is a capability");
            assert_eq!(mask(&Some(HashSet::from([capability]))), 1 << number, "{name}");
            assert_eq!(set(1 << number), HashSet::from([capability]), "{name}");
        }
        assert_eq!(named("cap_net_raw"), Some(Capability::NetRaw));
        assert_eq!(named("everything"), None);
    }
}
