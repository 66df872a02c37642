//! What a bundle may ask for that is not there yet. The library takes such a configuration; here it is refused, since a runtime
//! that leaves out what its caller relies on would be worse than none.
//!
//! Leaves out what the library refuses by itself. Needs no kernel.

use std::path::Path;

use keelbox::crates::runtime_spec::Bundle;
use keelbox::{Built, Container};

use crate::failure::Failure;

/// Members of a configuration, by JSON pointer, that have no effect yet. Those with an empty value ask for nothing.
const LATER: &[&str] = &[
    "/hooks/prestart",
    "/hooks/createRuntime",
    "/hooks/createContainer",
    "/hooks/startContainer",
    "/hooks/poststart",
    "/hooks/poststop",
    "/process/terminal",
    "/process/apparmorProfile",
    "/process/selinuxLabel",
    "/process/scheduler",
    "/process/execCPUAffinity",
    "/linux/cgroupsPath",
    "/linux/intelRdt",
    "/linux/memoryPolicy",
    "/linux/mountLabel",
    "/linux/netDevices",
    "/linux/personality",
    "/linux/resources/devices",
    "/linux/resources/cpu/idle",
    "/linux/resources/blockIO/leafWeight",
];

/// Values that ask for nothing.
const NOTHING: &[&str] = &["null", "false", "0", "\"\"", "[]", "{}"];

/// Reads and checks a bundle, all of which can be done.
pub(crate) fn open(path: &Path) -> Result<Built, Failure> {
    let container = Container::from_bundle(path)?;
    // Read a second time, for what the library does not look at.
    let bundle = Bundle::open(path).map_err(|error| Failure::new(error.to_string()))?;
    if let Some(pointer) = asked(|pointer| bundle.config().property(pointer)) {
        let path = path.display();
        return Err(Failure::new(format!("cannot use the bundle {path}: {pointer} is not supported yet")));
    }
    Ok(container.build()?)
}

fn asked(property: impl Fn(&str) -> Option<String>) -> Option<&'static str> {
    LATER.iter().copied().find(|pointer| property(pointer).is_some_and(|value| !NOTHING.contains(&value.as_str())))
}
