//! Which namespaces a container gets: the OCI list, with what the caller cannot do without. Pure.

use keelbox_launch::Slot;
use keelbox_namespaces::{
    Caller, Helpers, IdMap, IdMaps, Kind, MapMethod, Offset, Range, Selection, Source, Target, TimeOffsets,
};
use oci_spec::runtime as oci;

use crate::error::{Error, ErrorKind, Result};
use crate::host::Host;
use crate::id_mapped::Maps;

/// The plan for the namespaces of `spec`, whose joins go into the slots from `first` on.
pub(crate) fn namespaces(spec: &oci::Spec, host: &Host, first: Slot) -> Result<keelbox_namespaces::Plan> {
    selection(spec, host)?.plan(first).map_err(refused)
}

pub(crate) fn refused(error: keelbox_namespaces::Error) -> Error {
    let kind = match error.kind() {
        keelbox_namespaces::ErrorKind::Unsupported => ErrorKind::Unsupported,
        keelbox_namespaces::ErrorKind::NotFound => ErrorKind::NotFound,
        keelbox_namespaces::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        _ => ErrorKind::Invalid,
    };
    Error::from_part(kind, "cannot set up the namespaces", error)
}

fn selection(spec: &oci::Spec, host: &Host) -> Result<Selection> {
    let linux = spec.linux().as_ref().unwrap_or(&crate::blank::LINUX);
    let mut selection = Selection::new(&host.caller);
    let mut new_user = false;
    for namespace in linux.namespaces().iter().flatten() {
        let kind = kind(namespace.typ());
        let source = match namespace.path() {
            Some(path) => Source::Join(Target::Path(path.clone())),
            None => Source::New,
        };
        new_user |= kind == Kind::User && source == Source::New;
        selection = selection.namespace(kind, source);
    }
    if new_user {
        let maps = id_maps(linux, host)?;
        let method = MapMethod::choose(&maps, &host.caller, Helpers::find()).map_err(refused)?;
        selection = selection.id_maps(maps, method);
    }
    if let Some(name) = spec.hostname() {
        selection = selection.hostname(name);
    }
    if let Some(name) = spec.domainname() {
        selection = selection.domainname(name);
    }
    match linux.time_offsets() {
        Some(offsets) => Ok(selection.time_offsets(time_offsets(offsets)?)),
        None => Ok(selection),
    }
}

fn time_offsets(named: &std::collections::HashMap<String, oci::LinuxTimeOffset>) -> Result<TimeOffsets> {
    let mut offsets = TimeOffsets::new();
    for (clock, offset) in named {
        let (seconds, nanoseconds) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
        let offset = Offset::new(seconds, nanoseconds).map_err(refused)?;
        offsets = match clock.as_str() {
            "monotonic" => offsets.monotonic(offset),
            "boottime" => offsets.boottime(offset),
            other => {
                return Err(Error::new(
                    ErrorKind::Invalid,
                    format!("there is no clock {other:?} to set in a time namespace"),
                ));
            }
        };
    }
    Ok(offsets)
}

/// What the ids of the container are outside of it, if it has a user namespace of its own.
pub(crate) fn ids(spec: &oci::Spec, host: &Host) -> Result<Option<IdMaps>> {
    let linux = spec.linux().as_ref().unwrap_or(&crate::blank::LINUX);
    let own = |namespace: &oci::LinuxNamespace| kind(namespace.typ()) == Kind::User && namespace.path().is_none();
    let user = linux.namespaces().iter().flatten().any(own);
    user.then(|| id_maps(linux, host)).transpose()
}

/// The maps of the specification; without any, the caller's own ids appear as those of the program.
fn id_maps(linux: &oci::Linux, host: &Host) -> Result<IdMaps> {
    match pair(linux.uid_mappings(), linux.gid_mappings())? {
        Some(maps) => Ok(maps),
        None => own_maps(&host.caller),
    }
}

type Mappings = Option<Vec<oci::LinuxIdMapping>>;

/// Two lists of mappings as maps, unless both are empty.
fn pair(users: &Mappings, groups: &Mappings) -> Result<Option<IdMaps>> {
    let map = |mappings: &Mappings| -> Result<Vec<Range>> {
        let mappings = mappings.iter().flatten();
        mappings
            .map(|mapping| Range::new(mapping.container_id(), mapping.host_id(), mapping.size()).map_err(refused))
            .collect()
    };
    let (users, groups) = (map(users)?, map(groups)?);
    if users.is_empty() && groups.is_empty() {
        return Ok(None);
    }
    Ok(Some(IdMaps::new(IdMap::new(users).map_err(refused)?, IdMap::new(groups).map_err(refused)?)))
}

/// What the ids of `mount` are mapped by: maps of its own, or else those of the container's user namespace, if it asks for that.
pub(crate) fn mapped(mount: &oci::Mount, asked: bool, spec: &oci::Spec, host: &Host) -> Result<Option<Maps>> {
    let new = |maps: IdMaps| {
        let method = MapMethod::choose(&maps, &host.caller, Helpers::find()).map_err(refused)?;
        Ok(Some(Maps::New(maps, method)))
    };
    let invalid = |why: &str| {
        let target = mount.destination().display();
        Err(Error::new(ErrorKind::Invalid, format!("cannot map the ids of the mount on {target}: {why}")))
    };
    let empty = |mappings: &Mappings| mappings.as_ref().is_none_or(Vec::is_empty);
    if empty(mount.uid_mappings()) != empty(mount.gid_mappings()) {
        return invalid("uidMappings and gidMappings belong together");
    }
    if let Some(maps) = pair(mount.uid_mappings(), mount.gid_mappings())? {
        return new(maps);
    }
    if !asked {
        return Ok(None);
    }
    let empty = oci::Linux::default();
    let linux = spec.linux().as_ref().unwrap_or(&empty);
    let user = linux.namespaces().iter().flatten().find(|namespace| kind(namespace.typ()) == Kind::User);
    match user.map(oci::LinuxNamespace::path) {
        Some(Some(path)) => Ok(Some(Maps::Of(path.clone()))),
        Some(None) => new(id_maps(linux, host)?),
        None => invalid("neither the mount nor a user namespace has mappings"),
    }
}

/// All ids of a privileged caller as they are; the only one of an ordinary caller as root.
fn own_maps(caller: &Caller) -> Result<IdMaps> {
    if caller.may_map() {
        let all = Range::new(0, 0, u32::MAX).map_err(refused)?;
        return IdMaps::ranges([all], [all]).map_err(refused);
    }
    IdMaps::own(caller).map_err(refused)
}

/// The kind that an OCI namespace type means.
pub(crate) fn kind(kind: oci::LinuxNamespaceType) -> Kind {
    match kind {
        oci::LinuxNamespaceType::Mount => Kind::Mount,
        oci::LinuxNamespaceType::Cgroup => Kind::Cgroup,
        oci::LinuxNamespaceType::Uts => Kind::Uts,
        oci::LinuxNamespaceType::Ipc => Kind::Ipc,
        oci::LinuxNamespaceType::User => Kind::User,
        oci::LinuxNamespaceType::Pid => Kind::Pid,
        oci::LinuxNamespaceType::Network => Kind::Net,
        oci::LinuxNamespaceType::Time => Kind::Time,
    }
}

/// The OCI type of a kind.
pub(crate) fn oci_kind(kind: Kind) -> oci::LinuxNamespaceType {
    match kind {
        Kind::Cgroup => oci::LinuxNamespaceType::Cgroup,
        Kind::Uts => oci::LinuxNamespaceType::Uts,
        Kind::Ipc => oci::LinuxNamespaceType::Ipc,
        Kind::User => oci::LinuxNamespaceType::User,
        Kind::Pid => oci::LinuxNamespaceType::Pid,
        Kind::Net => oci::LinuxNamespaceType::Network,
        Kind::Time => oci::LinuxNamespaceType::Time,
        _ => oci::LinuxNamespaceType::Mount,
    }
}
