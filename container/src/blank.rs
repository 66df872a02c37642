//! Parts of a specification with nothing in them, made once: the defaults of `oci-spec` are full of values, which cost more to make
//! than a container's whole plan.

use std::path::PathBuf;
use std::sync::LazyLock;

use oci_spec::runtime as oci;

/// A specification of nothing.
pub(crate) static SPEC: LazyLock<oci::Spec> = LazyLock::new(|| {
    let mut spec = oci::Spec::default();
    spec.set_version("1.2.0".into()).set_hostname(None).set_mounts(None).set_process(None).set_linux(None);
    spec.set_root(None).set_annotations(None);
    spec
});

/// A program of which nothing is known but that it starts at `/`.
pub(crate) static PROCESS: LazyLock<oci::Process> = LazyLock::new(|| {
    let mut process = oci::Process::default();
    process.set_args(None).set_env(None).set_capabilities(None).set_rlimits(None).set_cwd(PathBuf::from("/"));
    process.set_no_new_privileges(None).set_terminal(None);
    process
});

/// No namespace, no limit, no path to hide.
pub(crate) static LINUX: LazyLock<oci::Linux> = LazyLock::new(|| {
    let mut linux = oci::Linux::default();
    linux.set_namespaces(Some(Vec::new())).set_masked_paths(None).set_readonly_paths(None).set_resources(None);
    linux
});

/// Not even an empty set.
pub(crate) static CAPABILITIES: LazyLock<oci::LinuxCapabilities> = LazyLock::new(|| {
    let mut sets = oci::LinuxCapabilities::default();
    sets.set_bounding(None).set_effective(None).set_permitted(None).set_inheritable(None).set_ambient(None);
    sets
});
