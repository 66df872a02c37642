//! Rules for `linux.namespaces` and what depends on one: id mappings, time offsets, network devices.
//!
//! Needs no kernel.
use super::Context;
use super::lists::{check_absolute, check_mappings, check_unique, device_name};
use crate::node::Node;
use crate::problem::quote;
use crate::rules;

pub(super) fn check(context: &mut Context<'_>) {
    let Some(linux) = context.root.get("linux") else {
        return;
    };
    let namespaces = linux.list("namespaces");
    check_unique(context, &namespaces, "type", rules::NAMESPACE_TWICE);
    for namespace in &namespaces {
        check_absolute(context, &namespace.member("path"), rules::NAMESPACE_PATH);
    }
    mappings(context, &linux);
    time_offsets(context, &linux);
    net_devices(context, &linux);
}

fn mappings(context: &mut Context<'_>, linux: &Node<'_>) {
    for name in ["uidMappings", "gidMappings"] {
        let filled = !linux.list(name).is_empty();
        let node = linux.member(name);
        if filled && !context.has("user") {
            let message = "needs a user namespace in linux.namespaces";
            context.error(&node, rules::ID_MAPPINGS, message);
        }
        if !filled && context.makes("user") {
            let message = "must have an entry: a new user namespace without mappings has no ids at all";
            context.error(&node, rules::ID_MAPPINGS, message);
        }
        if filled && context.has("user") && !context.makes("user") {
            let message = "has no effect on a user namespace that is joined by its path";
            context.warning(&node, rules::ID_MAPPINGS, message);
        }
        check_mappings(context, linux.get(name), rules::ID_MAPPINGS);
    }
}

fn time_offsets(context: &mut Context<'_>, linux: &Node<'_>) {
    let Some(offsets) = linux.get("timeOffsets") else {
        return;
    };
    let entries = offsets.entries();
    // The offsets are fixed once a process is in the namespace, time_namespaces(7).
    if !entries.is_empty() && !context.makes("time") {
        let message = "needs a new time namespace in linux.namespaces";
        context.error(&offsets, rules::TIME_OFFSETS, message);
    }
    for (clock, offset) in entries {
        if !matches!(clock, "monotonic" | "boottime") {
            let message = format!("{} is no clock that can be set", quote(clock));
            context.error(&offset, rules::TIME_OFFSETS, message);
        }
        if offset.integer_at("nanosecs").is_some_and(|n| n >= 1_000_000_000) {
            let message = "must be below 1000000000";
            context.error(&offset.member("nanosecs"), rules::TIME_OFFSETS, message);
        }
    }
}

fn net_devices(context: &mut Context<'_>, linux: &Node<'_>) {
    let Some(devices) = linux.get("netDevices") else {
        return;
    };
    let entries = devices.entries();
    if !entries.is_empty() && !context.has("network") {
        let message = "needs a network namespace in linux.namespaces";
        // The schema's own example has none: whoever moves a device into the host's namespace has nothing to move.
        context.warning(&devices, rules::NET_DEVICES, message);
    }
    let mut targets = std::collections::HashSet::new();
    for (host, device) in entries {
        if !device_name(host) {
            let message = format!("{} cannot be the name of a network device", quote(host));
            context.error(&device, rules::NET_DEVICES, message);
        }
        let target = device.text_at("name").filter(|name| !name.is_empty()).unwrap_or(host);
        let node = device.member("name");
        // The kernel numbers a name with one %d in it, and refuses any other %.
        let template = target.matches("%d").count();
        let percents = target.matches('%').count();
        if target != host && !device_name(target) || template != percents || template > 1 {
            let message = format!("{} cannot be the name of a network device", quote(target));
            context.error(&node, rules::NET_DEVICE_NAMES, message);
        } else if template == 0 && !targets.insert(target) {
            let message = format!("{} is the name of two devices", quote(target));
            context.error(&node, rules::NET_DEVICE_NAMES, message);
        }
    }
}
