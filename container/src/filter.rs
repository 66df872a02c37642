//! From the profile of a container to the filter that the stage installs, and to the thread that answers for it.

use std::os::fd::OwnedFd;

use oci_spec::runtime::{Capability, LinuxSeccomp};

use crate::error::{Error, ErrorKind, Result};
use crate::notify::{Supervision, Supervisor};
use crate::plan::Filter;
use crate::profile::Profile as Trust;
use crate::seccomp::{Builtin, Profile, RepeatedArguments, Target};
use crate::spec::Spec;

/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`
const NEW_LISTENER: u32 = 8;

/// The filter that `spec` asks for, given the capabilities that the program will have.
pub(crate) fn filter(spec: &Spec) -> Result<Option<Filter>> {
    let target = Target::host().map_err(refused)?.capabilities(capabilities(spec));
    let (profile, standard) = chosen(spec)?;
    let Some(supervision) = &spec.supervision else {
        return match (profile, standard) {
            (Some(profile), _) => finish(&profile.compile(&target).map_err(refused)?).map(Some),
            (None, Some(standard)) => finish(&*standard.filter(&target).map_err(refused)?).map(Some),
            (None, None) => Ok(None),
        };
    };
    let base = profile.or_else(|| standard.map(|standard| standard.profile().clone()));
    let base = base.unwrap_or_else(|| Profile::new(crate::seccomp::Action::Allow));
    supervision.check()?;
    let names: Vec<&str> = supervision.names().collect();
    finish(&base.notify(names).compile(&target).map_err(refused)?).map(Some)
}

/// What the caller or the bundle has chosen, and else what comes with the profile of the container.
fn chosen(spec: &Spec) -> Result<(Option<Profile>, Option<Builtin>)> {
    let given = spec.oci.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let profile = match &spec.seccomp {
        Some(None) => None,
        Some(Some(json)) => Some(Profile::from_json(json).map_err(refused)?),
        None => given.map(from_oci).transpose()?,
    };
    let standard = match (&spec.seccomp, &profile, spec.profile) {
        (None, None, Trust::Ordinary) => Some(Builtin::Standard),
        (None, None, Trust::Hostile) => Some(Builtin::Hostile),
        _ => None,
    };
    Ok((profile, standard))
}

/// What is to stand in the place of the bundle's `linux.seccomp`, if anything is: system calls that are decided in this program
/// are left out, since another runtime cannot ask it.
pub(crate) fn written(spec: &Spec) -> Result<Option<Option<LinuxSeccomp>>> {
    let given = spec.oci.linux().as_ref().is_some_and(|linux| linux.seccomp().is_some());
    if spec.seccomp.is_none() && given {
        return Ok(None);
    }
    let target = Target::host().map_err(refused)?.capabilities(capabilities(spec));
    let (profile, standard) = chosen(spec)?;
    let profile = profile.or_else(|| standard.map(|standard| standard.profile().clone()));
    profile.map(|profile| profile.to_oci(&target).map_err(refused)).transpose().map(Some)
}

fn finish(filter: &crate::seccomp::Filter) -> Result<Filter> {
    let listener = if filter.needs_listener() { NEW_LISTENER } else { 0 };
    Ok(Filter { flags: filter.flags() | listener, bytes: filter.bytes() })
}

/// The specification does not say what it means that a rule compares an argument twice. Every runtime that engines drive makes
/// a rule of each condition, so that any of them suffices, and profiles are written for that.
fn from_oci(seccomp: &LinuxSeccomp) -> Result<Profile> {
    let profile = Profile::from_oci(seccomp).map_err(refused)?;
    Ok(profile.repeated_arguments(RepeatedArguments::Any))
}

fn capabilities(spec: &Spec) -> Vec<Capability> {
    let process = spec.oci.process().as_ref();
    let named = process.and_then(|process| process.capabilities().as_ref());
    named.and_then(|sets| sets.bounding().clone()).into_iter().flatten().collect()
}

fn refused(error: crate::seccomp::Error) -> Error {
    Error::from_part(ErrorKind::Invalid, "cannot make the system call filter", error)
}

/// Starts the thread that answers for the filter whose listener this is.
pub(crate) fn supervise(listener: OwnedFd, supervision: &Supervision) -> Result<Supervisor> {
    Supervisor::start(listener, supervision)
}
