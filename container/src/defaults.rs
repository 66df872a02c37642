//! Fills in what the caller left open, from the image and the profile. After this a specification is complete.

use std::collections::HashSet;
use std::path::PathBuf;

use keelbox_image_spec::ProcessSettings;
use keelbox_namespaces::Kind;
use oci_spec::runtime as oci;

use crate::capabilities::{ALL, mask, set};
use crate::error::{Error, ErrorKind, Result};
use crate::host::Host;
use crate::network::Network;
use crate::plan::oci_kind;
use crate::profile::{ORDINARY_CAPABILITIES, Profile};
use crate::spec::{Spec, UserChoice};

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Takes over what the image says about its program.
pub(crate) fn from_image(spec: &mut Spec, image: &ProcessSettings, entrypoint: &[String]) {
    let command = spec.command.take();
    let directory_given = spec.directory_given;
    if spec.process().args().is_none() {
        let args = match command {
            Some(command) => entrypoint.iter().cloned().chain(command).collect(),
            None => image.args.clone(),
        };
        spec.process().set_args(Some(args));
    }
    if !directory_given {
        spec.process().set_cwd(PathBuf::from(&image.cwd));
    }
    let own = spec.process().env().clone().unwrap_or_default();
    let name = |variable: &str| variable.split('=').next().map(str::to_owned);
    let named: HashSet<_> = own.iter().filter_map(|variable| name(variable)).collect();
    let inherited = image.env.iter().filter(|variable| name(variable).is_none_or(|name| !named.contains(&name)));
    let environment = inherited.cloned().chain(own).collect();
    spec.process().set_env(Some(environment));
    if let (UserChoice::Given, Some(user)) = (&spec.user, &image.user) {
        spec.user = UserChoice::Named(user.to_string());
    }
}

/// Fills in namespaces, capabilities and the rest by the profile.
pub(crate) fn complete(spec: &mut Spec, host: &Host) -> Result<()> {
    if spec.profile == Profile::Exact {
        return Ok(());
    }
    if let Some(command) = spec.command.take().filter(|_| spec.process().args().is_none()) {
        spec.process().set_args(Some(command));
    }
    namespaces(spec, host)?;
    capabilities(spec, host);
    let profile = spec.profile;
    let process = spec.process();
    if process.user().umask().is_none() {
        process.user_mut().set_umask(Some(0o022));
    }
    if profile.limits_descriptors() {
        limits(process, host);
    }
    if process.no_new_privileges().is_none() {
        process.set_no_new_privileges(Some(profile.no_new_privileges()));
    }
    let environment = process.env_mut().get_or_insert_with(Vec::new);
    if !environment.iter().any(|variable| variable.starts_with("PATH=")) {
        environment.push(PATH.into());
    }
    if matches!(profile, Profile::Ordinary | Profile::Hostile) {
        spec.masked.extend_from_slice(host.throttles);
    }
    if profile == Profile::Hostile {
        harden(spec);
    }
    Ok(())
}

/// No dumps of memory, and few descriptors unless a program asks for more: `select(2)` and loops over all numbers go wrong with many.
/// More than the caller may have cannot be given.
fn limits(process: &mut oci::Process, host: &Host) {
    const SOFT: u64 = 1024;
    const HARD: u64 = 524_288;
    let hard = HARD.min(host.descriptors);
    let usual = [(oci::PosixRlimitType::RlimitCore, 0, 0), (oci::PosixRlimitType::RlimitNofile, SOFT.min(hard), hard)];
    let mut limits = process.rlimits().clone().unwrap_or_default();
    for (kind, soft, hard) in usual {
        if !limits.iter().any(|own| own.typ() == kind) {
            let limit = oci::PosixRlimitBuilder::default().typ(kind).soft(soft).hard(hard).build();
            limits.push(limit.unwrap_or_default());
        }
    }
    process.set_rlimits(Some(limits));
}

/// A read-only root (the mounts crate adds a little room to write), and a limit on processes where it can be had.
fn harden(spec: &mut Spec) {
    let mut root = spec.oci.root().clone().unwrap_or_default();
    root.set_readonly(Some(true));
    spec.oci.set_root(Some(root));
    if spec.limits.is_empty() {
        spec.limits = spec.limits.clone().pids(256).best_effort();
    } else if spec.limits.values().pids.is_none() {
        spec.limits = spec.limits.clone().pids(256);
    }
}

fn namespaces(spec: &mut Spec, host: &Host) -> Result<()> {
    let mut wanted = vec![Kind::Mount, Kind::Pid, Kind::Ipc, Kind::Uts, Kind::Cgroup];
    if spec.network.is_own() {
        wanted.push(Kind::Net);
    }
    if !host.privileged {
        wanted.push(Kind::User);
    }
    wanted.extend(spec.unshared.iter().copied());
    let joined: Vec<(Kind, PathBuf)> = match &spec.network {
        Network::Join(path) => spec.joined.iter().cloned().chain([(Kind::Net, path.clone())]).collect(),
        _ => spec.joined.clone(),
    };
    if let Some((kind, _)) = joined.iter().find(|(kind, _)| spec.shared.contains(kind)) {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("the {kind} namespace is both shared with the host and joined"),
        ));
    }
    wanted.retain(|kind| !spec.shared.contains(kind) && !joined.iter().any(|(other, _)| other == kind));
    wanted.dedup();
    let entry = |kind: Kind, path: Option<PathBuf>| {
        let mut namespace = oci::LinuxNamespace::default();
        namespace.set_typ(oci_kind(kind)).set_path(path);
        namespace
    };
    let mut list: Vec<oci::LinuxNamespace> = spec.linux().namespaces().clone().unwrap_or_default();
    let known: Vec<Kind> = spec.namespaces().map(|(kind, _)| kind).collect();
    list.extend(joined.into_iter().map(|(kind, path)| entry(kind, Some(path))));
    list.extend(wanted.into_iter().filter(|kind| !known.contains(kind)).map(|kind| entry(kind, None)));
    spec.linux().set_namespaces(Some(list));
    identity(spec, host)
}

/// An ordinary user's only id appears inside as the user that the program runs as.
fn identity(spec: &mut Spec, host: &Host) -> Result<()> {
    if !spec.has_new(Kind::User) || host.caller.may_map() || spec.linux().uid_mappings().is_some() {
        return Ok(());
    }
    let (user, group) = (spec.process().user().uid(), spec.process().user().gid());
    let single = |inside: u32, outside: u32| {
        let mapping = oci::LinuxIdMappingBuilder::default().container_id(inside).host_id(outside).size(1u32);
        Some(vec![mapping.build().unwrap_or_default()])
    };
    let maps = (single(user, host.caller.user_id()), single(group, host.caller.group_id()));
    spec.linux().set_uid_mappings(maps.0).set_gid_mappings(maps.1);
    Ok(())
}

fn capabilities(spec: &mut Spec, host: &Host) {
    if spec.process().capabilities().is_some() {
        return;
    }
    let available = if spec.has(Kind::User) { ALL } else { host.bounding };
    let base = match spec.profile {
        _ if spec.drop_capabilities => 0,
        Profile::Trusted => ALL,
        Profile::Ordinary => mask(&Some(HashSet::from(ORDINARY_CAPABILITIES))),
        Profile::Hostile | Profile::Exact => 0,
    };
    let added = mask(&Some(spec.added_capabilities.iter().copied().collect()));
    let dropped = mask(&Some(spec.dropped_capabilities.iter().copied().collect()));
    let bounding = base & available & !dropped | added;
    // A program that is not root inside has none unless it gains them by executing, which the bounding set limits.
    let own = if spec.process().user().uid() == 0 { bounding } else { added };
    let ambient = if spec.process().user().uid() == 0 { 0 } else { added };
    let mut sets = crate::blank::CAPABILITIES.clone();
    let (own, ambient) = (set(own), set(ambient));
    sets.set_bounding(Some(set(bounding))).set_effective(Some(own.clone())).set_permitted(Some(own));
    sets.set_inheritable(Some(ambient.clone())).set_ambient(Some(ambient));
    spec.process().set_capabilities(Some(sets));
}
