//! Capability sets as the masks that the kernel wants.

use std::collections::HashSet;
use std::str::FromStr;

use oci_spec::runtime::{self as oci, Capability};

/// Every capability there is, up to `CAP_CHECKPOINT_RESTORE`.
pub(crate) const ALL: u64 = (1 << 41) - 1;

/// The mask of a set; nothing for no set.
pub(crate) fn mask(set: &Option<HashSet<Capability>>) -> u64 {
    set.iter().flatten().map(|capability| 1 << number(*capability)).sum()
}

/// Its number in `linux/capability.h`.
fn number(capability: Capability) -> u8 {
    let name = capability.to_string();
    let name = if name.starts_with("CAP_") { name } else { format!("CAP_{name}") };
    // `oci-spec` knows the capabilities of the specification, all of which `caps` knows too; see the test.
    caps::Capability::from_str(&name).map_or(63, |capability| capability.index())
}

/// The capability of this name, with or without `CAP_`, in any case.
pub(crate) fn named(name: &str) -> Option<Capability> {
    let upper = name.to_ascii_uppercase();
    Capability::from_str(upper.strip_prefix("CAP_").unwrap_or(&upper)).ok()
}

/// The capabilities in a mask.
pub(crate) fn set(mask: u64) -> HashSet<Capability> {
    let names = caps::all().into_iter().filter(|capability| mask >> capability.index() & 1 == 1);
    names.filter_map(|capability| named(&capability.to_string())).collect()
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

    #[test]
    fn every_capability_has_its_number() {
        assert_eq!(mask(&Some(set(ALL))), ALL);
        assert_eq!(mask(&Some(HashSet::from([Capability::Chown, Capability::CheckpointRestore]))), 1 | 1 << 40);
        assert_eq!(named("cap_net_raw"), Some(Capability::NetRaw));
        assert_eq!(named("everything"), None);
    }
}
