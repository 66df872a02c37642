//! Rules for the rest of `linux`: paths to hide, sysctl, cgroups path, resctrl, memory policy, personality.
//!
//! Needs no kernel.
use super::Context;
use super::lists::{check_absolute, check_number_list};
use crate::node::Node;
use crate::problem::quote;
use crate::rules;
use crate::sysctl;

pub(super) fn check(context: &mut Context<'_>) {
    let Some(linux) = context.root.get("linux") else {
        return;
    };
    for (name, rule) in [("maskedPaths", rules::MASKED_PATHS), ("readonlyPaths", rules::READONLY_PATHS)] {
        let paths = linux.list(name);
        if !paths.is_empty() && !context.has("mount") {
            let message = "needs a mount namespace: without one it would change the host's";
            context.error(&linux.member(name), rule, message);
        }
        paths.iter().for_each(|path| check_absolute(context, path, rule));
    }
    if linux.get("rootfsPropagation").is_some() && !context.has("mount") {
        let message = "needs a mount namespace: without one it would change the host's";
        context.error(&linux.member("rootfsPropagation"), rules::PROPAGATION, message);
    }
    if linux.find(&["personality", "flags"]).is_some_and(|flags| flags.items().next().is_some()) {
        let message = "must be empty: no flag is defined";
        context.error(&linux.member("personality").member("flags"), rules::PERSONALITY, message);
    }
    cgroups_path(context, &linux);
    sysctls(context, &linux);
    intel_rdt(context, &linux);
    memory_policy(context, &linux);
}

fn cgroups_path(context: &mut Context<'_>, linux: &Node<'_>) {
    let node = linux.member("cgroupsPath");
    let Some(path) = node.text() else { return };
    let rule = rules::CGROUPS_PATH;
    // The walk has reported a NUL already.
    if path.contains(|c: char| c.is_control() && c != '\0') {
        context.error(&node, rule, format!("must not have a control character, is {}", quote(path)));
    }
    let parts = || path.split('/').filter(|part| !part.is_empty());
    if parts().any(|part| part == "." || part == "..") {
        context.error(&node, rule, format!("must not have . or .. in it, is {}", quote(path)));
    }
    // NAME_MAX and PATH_MAX, with room for the mount point.
    if path.len() > 3_800 || parts().any(|part| part.len() > 255) {
        context.error(&node, rule, "is too long for the kernel");
    }
    if path.contains("//") {
        context.warning(&node, rule, "has two slashes in a row, which count as one");
    }
    if path.is_empty() {
        context.warning(&node, rule, "is empty, which counts as absent");
    }
}

fn sysctls(context: &mut Context<'_>, linux: &Node<'_>) {
    let entries = linux.get("sysctl").map(|map| map.entries());
    for (name, entry) in entries.into_iter().flatten() {
        let needed = match sysctl::Key::parse(name) {
            Ok(key) => key.namespace_name(),
            Err(message) => {
                context.error(&entry, rules::SYSCTL, message);
                continue;
            }
        };
        if !context.has(needed) {
            let message = format!("needs a {needed} namespace: without one it would change the host's");
            context.error(&entry, rules::SYSCTL, message);
        }
        // One value, one write: a second line would be a second value (CVE-2022-0811 began with such a value).
        let control = |c: char| c.is_control() && c != '\t';
        if entry.text().is_some_and(|value| value.contains(control)) {
            context.error(&entry, rules::SYSCTL, "must be one line without control characters");
        }
    }
}

fn intel_rdt(context: &mut Context<'_>, linux: &Node<'_>) {
    let Some(rdt) = linux.get("intelRdt") else {
        return;
    };
    let class = rdt.member("closID");
    if let Some(id) = class.text()
        && id != "/"
        && (matches!(id, "" | "." | "..") || id.contains(['/', '\n']) || id.len() > 255)
    {
        let message = format!("must be / or the name of one directory, is {}", quote(id));
        context.error(&class, rules::INTEL_RDT_CLASS, message);
    }
    let mut lines = rdt.list("schemata");
    lines.extend(rdt.get("l3CacheSchema"));
    lines.extend(rdt.get("memBwSchema"));
    for line in lines {
        if line.text().is_some_and(|text| text.contains('\n')) {
            context.error(&line, rules::INTEL_RDT_SCHEMA, "must be one line");
        }
    }
    let bandwidth = rdt.member("memBwSchema");
    if bandwidth.text().is_some_and(|text| !text.starts_with("MB:")) {
        context.error(&bandwidth, rules::INTEL_RDT_SCHEMA, "must begin with MB:");
    }
}

fn memory_policy(context: &mut Context<'_>, linux: &Node<'_>) {
    let Some(policy) = linux.get("memoryPolicy") else {
        return;
    };
    let rule = rules::MEMORY_POLICY;
    let mode = policy.text_at("mode").unwrap_or_default();
    let nodes = policy.member("nodes");
    let named = nodes.text().is_some_and(|text| !text.is_empty());
    check_number_list(context, policy.get("nodes"), rule);
    // What mpol_new (mm/mempolicy.c) refuses, and set_mempolicy(2) documents.
    match mode {
        "MPOL_DEFAULT" | "MPOL_LOCAL" if named => {
            context.error(&nodes, rule, format!("must be empty for {mode}"));
        }
        "MPOL_BIND" | "MPOL_INTERLEAVE" | "MPOL_WEIGHTED_INTERLEAVE" | "MPOL_PREFERRED_MANY" if !named => {
            context.error(&nodes, rule, format!("must name a node for {mode}"));
        }
        _ => {}
    }
    let flags: Vec<&str> = policy.list("flags").iter().filter_map(Node::text).collect();
    let node = policy.member("flags");
    let placed = ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"].map(|flag| flags.contains(&flag));
    if placed == [true, true] {
        let message = "must not have both MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES";
        context.error(&node, rule, message);
    }
    if placed.contains(&true) && !named {
        context.error(&node, rule, "has a flag about nodes, but no node is named");
    }
    let balanced = matches!(mode, "MPOL_BIND" | "MPOL_PREFERRED_MANY");
    if flags.contains(&"MPOL_F_NUMA_BALANCING") && !balanced {
        let message = "must not have MPOL_F_NUMA_BALANCING unless the mode is MPOL_BIND or MPOL_PREFERRED_MANY";
        context.error(&node, rule, message);
    }
}
