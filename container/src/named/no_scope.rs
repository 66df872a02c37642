//! What `scope.rs` does, in a build without the feature `systemd`: refused. Needs no kernel.

use std::convert::Infallible;
use std::path::Path;

use keelbox_cgroups::{Group, Limits};

use super::record::Scope;
use crate::error::{Error, ErrorKind, Result};
use crate::spec::Spec;

/// There is none.
pub(crate) type Keeper = Infallible;

/// Cannot be made.
#[derive(Debug)]
pub(crate) struct Asked(Infallible);

impl Asked {
    pub(crate) fn of(_: &Path, _: &str, _: &Spec) -> Result<Self> {
        Err(refused())
    }

    pub(crate) fn make(self, _: &Limits) -> Result<(Group, (Scope, Keeper))> {
        match self.0 {}
    }
}

pub(crate) fn check(spec: &Spec) -> Result<()> {
    spec.systemd.as_ref().map_or(Ok(()), |_| Err(refused()))
}

/// Of a container that another program has made.
pub(crate) fn update(_: &Scope, _: &Group, _: &Limits) -> Result<()> {
    Err(refused())
}

/// Of a container that another program has made; its scope ends by itself.
pub(crate) fn stop(_: &Scope) -> Result<()> {
    Ok(())
}

fn refused() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "cannot ask systemd for a control group: this program was built without the feature systemd",
    )
}
