//! Bundles as this program takes them: what the library does with them, less what only a front end can give.
//!
//! Leaves out what the library refuses by itself. Needs no kernel.

use std::path::Path;

use keelbox::{Built, Container};

use crate::failure::Failure;

/// Reads and checks a bundle, all of which can be done.
pub(crate) fn open(path: &Path) -> Result<Built, Failure> {
    let built = Container::from_bundle(path)?.build()?;
    let process = built.oci().process().as_ref();
    if process.is_some_and(|process| process.terminal().unwrap_or(false)) {
        return Err(Failure::new("cannot honour process.terminal: it is not supported yet"));
    }
    Ok(built)
}
