//! Shares of the last-level cache and of memory bandwidth: `linux.intelRdt` as the resctrl module of the control groups crate has it.
//!
//! Leaves out containers without a name: their program runs before anybody could put it into a class. Oldest kernel: 4.10.

use std::path::PathBuf;

use keelbox_cgroups::resctrl::{Class, Request, Resctrl};
use keelbox_runtime_spec::ContainerId;
use oci_spec::runtime as oci;

use crate::control_group::kind_of;
use crate::error::{Error, ErrorKind, Result};
use crate::spec::Spec;

/// A class to be made, and the directories that would go with the container.
#[derive(Debug)]
pub(crate) struct Prospect {
    resctrl: Resctrl,
    request: Request,
    pub(crate) directories: Vec<PathBuf>,
}

impl Prospect {
    /// Nothing if the specification does not ask for any: then resctrl is not touched.
    pub(crate) fn new(id: &ContainerId, spec: &Spec) -> Result<Option<Self>> {
        let Some(request) = request(&spec.oci) else { return Ok(None) };
        let resctrl = spec.resctrl.clone().map_or_else(Resctrl::find, |root| Ok(Resctrl::at(root)));
        let resctrl = resctrl.map_err(cannot)?;
        let directories = resctrl.prospect(&request, id.as_str()).map_err(cannot)?;
        Ok(Some(Self { resctrl, request, directories }))
    }

    pub(crate) fn make(self, id: &ContainerId) -> Result<Class> {
        self.resctrl.create(&self.request, id.as_str()).map_err(cannot)
    }
}

/// What resctrl refused.
pub(crate) fn cannot(error: keelbox_cgroups::Error) -> Error {
    let kind = match kind_of(&error) {
        // The machine or its kernel has no resctrl, or not all of it.
        ErrorKind::Limit if error.kind() == keelbox_cgroups::ErrorKind::Unsupported => ErrorKind::Unsupported,
        kind => kind,
    };
    Error::from_part(kind, "cannot set up the class of resctrl", error)
}

/// A container without a name cannot be put into a class.
pub(crate) fn refuse_nameless(spec: &Spec) -> Result<()> {
    match request(&spec.oci) {
        None => Ok(()),
        Some(_) => {
            let why = "cannot honour linux.intelRdt for a container without a name";
            Err(Error::new(ErrorKind::Unsupported, why).with_hint("create() it and start it"))
        }
    }
}

fn request(spec: &oci::Spec) -> Option<Request> {
    let rdt = spec.linux().as_ref()?.intel_rdt().as_ref()?;
    let mut request = Request::new();
    if let Some(class) = rdt.clos_id() {
        request = request.class(class);
    }
    let given = |line: &Option<String>| line.clone().filter(|line| !line.is_empty());
    if let Some(line) = given(rdt.l3_cache_schema()) {
        request = request.l3(line);
    }
    if let Some(line) = given(rdt.mem_bw_schema()) {
        request = request.bandwidth(line);
    }
    request = rdt.schemata().iter().flatten().fold(request, Request::schema);
    Some(if rdt.enable_monitoring().unwrap_or(false) { request.monitoring() } else { request })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Option<Request> {
        request(&serde_json::from_str(json).expect("a configuration"))
    }

    #[test]
    fn what_is_not_there_is_not_asked() {
        assert_eq!(of(r#"{"ociVersion":"1.2.0","linux":{}}"#), None);
        assert_eq!(of(r#"{"ociVersion":"1.2.0","linux":{"intelRdt":{}}}"#), Some(Request::new()));
    }

    #[test]
    fn every_member_is_asked() {
        let json = r#"{"ociVersion":"1.3.0","linux":{"intelRdt":{"closID":"gold","l3CacheSchema":"L3:0=f","memBwSchema":"MB:0=10",
            "schemata":["L2:0=1","L2:1=3"],"enableMonitoring":true}}}"#;
        let request = Request::new().class("gold").l3("L3:0=f").bandwidth("MB:0=10").schema("L2:0=1").schema("L2:1=3");
        assert_eq!(of(json), Some(request.monitoring()));
    }
}
