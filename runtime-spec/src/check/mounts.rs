//! Rules for `mounts`.
//!
//! Needs no kernel.
use super::Context;
use super::lists::check_mappings;
use crate::names::MOUNT_OPTIONS;
use crate::node::Node;
use crate::problem::quote;
use crate::rules;

/// Options that undo each other; the last one counts.
const OPPOSITES: [(&str, &str); 18] = [
    ("async", "sync"),
    ("atime", "noatime"),
    ("dev", "nodev"),
    ("diratime", "nodiratime"),
    ("exec", "noexec"),
    ("iversion", "noiversion"),
    ("lazytime", "nolazytime"),
    ("loud", "silent"),
    ("mand", "nomand"),
    ("noatime", "strictatime"),
    ("nosymfollow", "symfollow"),
    ("norelatime", "relatime"),
    ("nostrictatime", "strictatime"),
    ("nosuid", "suid"),
    ("rexec", "rnoexec"),
    ("rnosuid", "rsuid"),
    ("ro", "rw"),
    ("rro", "rrw"),
];

const PROPAGATIONS: [&str; 8] =
    ["private", "rprivate", "rshared", "rslave", "runbindable", "shared", "slave", "unbindable"];

pub(super) fn check(context: &mut Context<'_>) {
    for mount in context.root.list("mounts") {
        destination(context, &mount);
        source(context, &mount);
        options(context, &mount);
        mappings(context, &mount);
    }
    default_filesystems(context);
}

fn has(mount: &Node<'_>, names: &[&str]) -> bool {
    mount.list("options").iter().any(|o| o.text().is_some_and(|text| names.contains(&text)))
}

fn destination(context: &mut Context<'_>, mount: &Node<'_>) {
    let node = mount.member("destination");
    match node.text() {
        Some("") => context.error(&node, rules::DESTINATION, "must not be empty"),
        Some(path) if !path.starts_with('/') => {
            let message = "is relative, which is deprecated: it is taken as relative to /";
            context.warning(&node, rules::DESTINATION, message);
        }
        Some(path) if path.split('/').any(|part| part == "..") => {
            let message = "has a .. in it, which ends at the root of the container";
            context.warning(&node, rules::DESTINATION, message);
        }
        _ => {}
    }
}

fn source(context: &mut Context<'_>, mount: &Node<'_>) {
    let bind = has(mount, &["bind", "rbind"]);
    let given = |name| mount.text_at(name).is_some_and(|text| !text.is_empty());
    if bind && !given("source") && !has(mount, &["remount"]) {
        context.error(&mount.member("source"), rules::BIND, "must be given for a bind mount");
    }
    if !bind && !given("type") && !has(mount, &["remount"]) && !has(mount, &PROPAGATIONS) {
        let message = "must be given unless the options have bind or rbind";
        context.error(&mount.member("type"), rules::BIND, message);
    }
    if !bind && mount.text_at("type") == Some("bind") {
        let message = "bind has no meaning: only the options bind and rbind make a bind mount";
        context.error(&mount.member("type"), rules::BIND, message);
    }
}

fn options(context: &mut Context<'_>, mount: &Node<'_>) {
    let bind = has(mount, &["bind", "rbind"]);
    let mut modes = 0;
    for option in mount.list("options") {
        let Some(text) = option.text() else { continue };
        if let Some((_, other)) = opposite(text).find(|(_, other)| has(mount, &[other])) {
            let message = format!("{text} and {other} are both given, the last one counts");
            context.warning(&option, rules::MOUNT_OPTIONS, message);
        }
        if matches!(text, "mand" | "nomand") {
            let message = "does nothing since Linux 5.15, which has no mandatory locks";
            context.warning(&option, rules::MANDATORY_LOCKS, message);
        }
        if text.is_empty() {
            context.warning(&option, rules::MOUNT_DATA, "is empty");
        } else if bind && !MOUNT_OPTIONS.contains(&text) {
            let message = format!("{} is data for a file system, and a bind mount has none", quote(text));
            context.warning(&option, rules::MOUNT_DATA, message);
        }
        modes += usize::from(PROPAGATIONS.contains(&text));
        if modes == 2 && PROPAGATIONS.contains(&text) {
            let message = "is a second propagation mode, the last one counts";
            context.warning(&option, rules::MOUNT_OPTIONS, message);
        }
    }
}

// Only from the first name of a pair, so that a pair is reported once.
fn opposite(text: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    OPPOSITES.into_iter().filter(move |(one, _)| *one == text)
}

fn mappings(context: &mut Context<'_>, mount: &Node<'_>) {
    let filled = |name| mount.get(name).is_some_and(|list| list.items().next().is_some());
    let (uids, gids) = (filled("uidMappings"), filled("gidMappings"));
    if uids != gids {
        let missing = if uids { "gidMappings" } else { "uidMappings" };
        let message = "must be given: uidMappings and gidMappings belong together";
        context.error(&mount.member(missing), rules::MOUNT_MAPPINGS, message);
    }
    let idmap = has(mount, &["idmap", "ridmap"]);
    if (uids || gids) && !idmap {
        let message = "should have idmap or ridmap when the mount has mappings";
        context.warning(&mount.member("options"), rules::MOUNT_MAPPINGS, message);
    }
    if idmap && !uids && !gids && !context.has("user") {
        let message = "asks for an id-mapped mount, but neither the mount nor a user namespace has mappings";
        context.error(&mount.member("options"), rules::IDMAP, message);
    }
    for name in ["uidMappings", "gidMappings"] {
        check_mappings(context, mount.get(name), rules::ID_MAPPINGS);
    }
}

fn default_filesystems(context: &mut Context<'_>) {
    let root = context.root.clone();
    if root.get("process").is_none() || !context.has("mount") {
        return;
    }
    let mounts = root.list("mounts");
    let at =
        |path: &str| mounts.iter().any(|m| m.text_at("destination").map(|d| d.trim_end_matches('/')) == Some(path));
    let missing: Vec<&str> = ["/proc", "/sys", "/dev/pts", "/dev/shm"].into_iter().filter(|path| !at(path)).collect();
    if !missing.is_empty() {
        let message = format!("should have {}", missing.join(", "));
        context.warning(&root.member("mounts"), rules::DEFAULT_FILESYSTEMS, message);
    }
}
