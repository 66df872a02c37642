//! What this build cannot give is refused, never left out: a caller may rely on it.

use oci_spec::runtime as oci;

use crate::error::{Error, ErrorKind, Result};

/// Refuses a specification that asks for what is not there yet.
pub(crate) fn honoured(spec: &oci::Spec) -> Result<()> {
    match linux(spec) {
        Some(what) => Err(Error::new(ErrorKind::Unsupported, format!("cannot honour {what}: it is not supported yet"))),
        None => Ok(()),
    }
}

fn named(text: Option<&String>) -> bool {
    text.is_some_and(|text| !text.is_empty())
}

fn linux(spec: &oci::Spec) -> Option<&'static str> {
    let linux = spec.linux().as_ref()?;
    named(linux.mount_label().as_ref()).then_some("linux.mountLabel")
}
