//! The command features: what this runtime can do, as the specification's document.
//!
//! It tells what is built in; what the machine lacks is told when it is asked for. Needs no kernel.

use keelbox::crates::runtime_spec::{Features, LinuxFeatures, Support};
use keelbox::seccomp::Arch;

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::print;
use crate::read::Given;

pub(crate) fn features(_: &Context<'_>, _: Given) -> Outcome {
    let text = document().to_json();
    let text = text.map_err(|error| Failure::new(format!("cannot tell the features: {error}")))?;
    print(&format!("{}\n", text.trim_end()))
}

fn document() -> Features {
    use Support::Present;
    let architectures = [Arch::X86_64, Arch::X86, Arch::X32, Arch::Aarch64, Arch::Arm].map(Arch::oci_name);
    let linux = LinuxFeatures::recognised()
        .cgroup_v1(Present)
        .cgroup_v2(Present)
        .cgroup_systemd(Present, Present)
        .cgroup_rdma(Present)
        .seccomp(Present)
        .seccomp_architectures(architectures)
        .apparmor(Present)
        .selinux(Present)
        .intel_rdt(Present, Present, Present)
        .idmap_mounts(Present)
        .net_devices(Present);
    Features::recognised()
        .linux(linux)
        .annotation("dev.keelbox.version", env!("CARGO_PKG_VERSION"))
        .unsafe_annotations(Vec::<String>::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_valid() {
        let document = document();
        assert_eq!(document.check(), []);
        let text = document.to_json().expect("it can be written");
        assert_eq!(Features::from_json(text.as_bytes()).expect("it can be read"), document);
    }
}
