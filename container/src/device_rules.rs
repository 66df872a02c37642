//! Which devices a bundle lets its container use: `linux.resources.devices` as the rules of the control groups crate. Pure.

use keelbox_cgroups::devices::{Access, Kind, Rules};
use oci_spec::runtime as oci;

use crate::error::{Error, ErrorKind, Result};

/// What every container may use whatever the rules say, as the specification has it: the default devices, terminals, and making
/// nodes, which alone opens nothing.
const ALWAYS: [(u32, Option<u32>); 8] =
    [(1, Some(3)), (1, Some(5)), (1, Some(7)), (1, Some(8)), (1, Some(9)), (5, Some(0)), (5, Some(2)), (136, None)];

/// The rules of `linux.resources.devices`; none if there are none there.
pub(crate) fn from_oci(resources: &oci::LinuxResources) -> Result<Option<Rules>> {
    let list = resources.devices().as_deref().unwrap_or_default();
    if list.is_empty() {
        return Ok(None);
    }
    let mut rules = Rules::new();
    for entry in list {
        let kind = match entry.typ() {
            None | Some(oci::LinuxDeviceType::A) => Kind::All,
            Some(oci::LinuxDeviceType::B) => Kind::Block,
            Some(oci::LinuxDeviceType::C | oci::LinuxDeviceType::U) => Kind::Char,
            Some(other) => return Err(invalid(format!("{other:?} is no kind of device that can be restricted"))),
        };
        let (major, minor) = (number(entry.major())?, number(entry.minor())?);
        let letters = entry.access().as_deref().unwrap_or("rwm");
        let access = Access::parse(letters).ok_or_else(|| invalid(format!("{letters:?} is no access to a device")))?;
        rules = match entry.allow() {
            true => rules.allow(kind, major, minor, access),
            false => rules.deny(kind, major, minor, access),
        };
    }
    let made = rules.allow(Kind::Char, None, None, Access::MKNOD).allow(Kind::Block, None, None, Access::MKNOD);
    let allow = |rules: Rules, (major, minor)| rules.allow(Kind::Char, Some(major), minor, Access::ALL);
    Ok(Some(ALWAYS.into_iter().fold(made, allow)))
}

/// A number, or any: OCI writes that as -1 or leaves it out.
fn number(value: Option<i64>) -> Result<Option<u32>> {
    match value {
        None | Some(-1) => Ok(None),
        Some(value) => u32::try_from(value).map(Some).map_err(|_| invalid(format!("{value} is no device number"))),
    }
}

fn invalid(why: String) -> Error {
    Error::new(ErrorKind::Invalid, format!("cannot use linux.resources.devices: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(json: &str) -> Option<Rules> {
        let resources = serde_json::from_str(json).expect("resources");
        from_oci(&resources).expect("rules")
    }

    #[test]
    fn what_engines_write_denies_all_but_the_default_devices() {
        let rules = rules(
            r#"{"devices":[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":10,"minor":229,"access":"rw"}]}"#,
        );
        let rules = rules.expect("there are rules");
        assert!(rules.allows(Kind::Char, 1, 3, Access::ALL), "null");
        assert!(rules.allows(Kind::Char, 10, 229, Access::READ), "fuse");
        assert!(!rules.allows(Kind::Char, 1, 1, Access::READ), "mem");
        assert!(
            rules.allows(Kind::Block, 8, 0, Access::MKNOD) && !rules.allows(Kind::Block, 8, 0, Access::READ),
            "sda"
        );
    }

    #[test]
    fn no_rules_are_no_restriction() {
        assert_eq!(rules("{}"), None);
        assert_eq!(rules(r#"{"devices":[]}"#), None);
    }
}
