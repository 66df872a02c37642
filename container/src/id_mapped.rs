//! Binds whose ids are mapped (`mount_setattr(2)`, Linux 5.12): their trees are taken by this program, before the launch.
//!
//! Only who has `CAP_SYS_ADMIN` over a file system may map its ids. A container in a user namespace of its own has it over none of
//! the host's, so the tree is taken here and attached there. Each is attached once, so each run takes its own.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use keelbox_launch::{Errno, OwnedStep, Slot, prepare};
use keelbox_namespaces::{IdMaps, MapMethod, Namespace};

use crate::error::{Error, ErrorKind, Result};
use crate::plan::{namespaces_refused, step_error};

/// A bind whose ids are mapped.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct IdMapped {
    /// Takes the tree: the user namespace is in slot 0, the tree comes into slot 1.
    pub(crate) step: OwnedStep,
    pub(crate) target: PathBuf,
    pub(crate) maps: Maps,
}

/// Where the user namespace comes from that a mount's ids are mapped by.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Maps {
    /// One that is made with these maps, and nobody enters.
    New(IdMaps, MapMethod),
    /// The one behind this path.
    Of(PathBuf),
}

/// The trees of all `binds`, in order.
pub(crate) fn open(binds: &[IdMapped]) -> Result<Vec<OwnedFd>> {
    let mut made: Vec<(&Maps, Namespace)> = Vec::new();
    let mut trees = Vec::with_capacity(binds.len());
    for bind in binds {
        if !made.iter().any(|(maps, _)| *maps == &bind.maps) {
            made.push((&bind.maps, bind.namespace()?));
        }
        if let Some((_, namespace)) = made.iter().find(|(maps, _)| *maps == &bind.maps) {
            trees.extend(bind.take(namespace)?);
        }
    }
    Ok(trees)
}

impl IdMapped {
    fn namespace(&self) -> Result<Namespace> {
        match &self.maps {
            Maps::New(maps, method) => Namespace::mapped(maps, method),
            Maps::Of(path) => Namespace::open(path),
        }
        .map_err(namespaces_refused)
    }

    fn take(&self, namespace: &Namespace) -> Result<Vec<OwnedFd>> {
        let steps = std::slice::from_ref(&self.step);
        prepare(steps, &[namespace.as_fd()], &[Slot(1)]).map_err(|failure| {
            let attempt = format!("cannot {} for {}", self.step, self.target.display());
            let error = Error::os(attempt, failure.errno);
            match failure.errno {
                Errno::ENOENT | Errno::ENOTDIR => step_error(steps, failure),
                Errno::EPERM => {
                    error.with_hint("only who has CAP_SYS_ADMIN where the file system was mounted may map its ids")
                }
                Errno::EINVAL => error
                    .with_kind(ErrorKind::Unsupported)
                    .with_hint("this file system cannot map ids, or its ids are mapped already"),
                Errno::ENOSYS => error.with_hint("mapped ids need Linux 5.12"),
                _ => error,
            }
        })
    }
}
