//! What `oci-spec` cannot hold of a `config.json`, or holds as something else: asked of the document itself. Pure.

use keelbox_runtime_spec::Config;
use oci_spec::runtime as oci;

/// The specification of `config`, with what it says and `oci-spec` does not hold in the words that it has.
pub(crate) fn spec_of(config: Config) -> oci::Spec {
    let says = |pointer: &str| config.property(pointer).as_deref() == Some("true");
    // It calls them `enableCmt` and `enableMbm`.
    let monitored = ["CMT", "MBM"].iter().any(|name| says(&format!("/linux/intelRdt/enable{name}")));
    let limited = config.pids_limit().is_some();
    let mut spec = config.into_spec();
    if let Some(linux) = spec.linux_mut() {
        if let Some(rdt) = linux.intel_rdt_mut().as_mut().filter(|_| monitored) {
            rdt.set_enable_monitoring(Some(true));
        }
        if let Some(resources) = linux.resources_mut().as_mut().filter(|_| !limited) {
            // To it no limit is a limit of 0.
            resources.set_pids(None);
        }
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(linux: &str) -> oci::Linux {
        let text = format!(r#"{{"ociVersion":"1.2.0","linux":{linux}}}"#);
        spec_of(text.parse().expect("a configuration")).linux().clone().expect("it has linux")
    }

    #[test]
    fn no_limit_of_processes_is_none() {
        let pids = |json: &str| spec(json).resources().as_ref().and_then(|all| all.pids().map(|pids| pids.limit()));
        assert_eq!(pids(r#"{"resources":{"pids":{}}}"#), None);
        assert_eq!(pids(r#"{"resources":{"pids":{"limit":0}}}"#), Some(0));
    }

    #[test]
    fn monitoring_has_three_names() {
        for (json, monitored) in [
            (r#"{"intelRdt":{"enableCMT":true}}"#, true),
            (r#"{"intelRdt":{"enableMBM":true}}"#, true),
            (r#"{"intelRdt":{"enableMonitoring":true}}"#, true),
            (r#"{"intelRdt":{"enableCMT":false}}"#, false),
        ] {
            let rdt = spec(json).intel_rdt().clone().expect("it is there");
            assert_eq!(rdt.enable_monitoring().unwrap_or(false), monitored, "{json}");
        }
    }
}
