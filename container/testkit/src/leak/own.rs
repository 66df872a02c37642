//! What belongs to the calling process.

use super::{Facts, link, names, read};
use nix::sys::prctl;
use std::path::Path;

/// The keys of `/proc/self/status` that nothing but the process itself changes.
const STATUS: &[&str] = &[
    "Umask",
    "Uid",
    "Gid",
    "Groups",
    "SigBlk",
    "SigIgn",
    "SigCgt",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
    "Seccomp_filters",
    "TracerPid",
    "Cpus_allowed_list",
    "Mems_allowed_list",
];

/// Takes the picture of the process.
pub(super) fn facts() -> Facts {
    let mut facts = Facts::new();
    descriptors(&mut facts);
    status(&mut facts);
    children(&mut facts);
    namespaces(&mut facts);
    settings(&mut facts);
    for (name, value) in std::env::vars_os() {
        facts.insert(format!("environment: {}", name.display()), value.to_string_lossy().into_owned());
    }
    facts
}

fn descriptors(facts: &mut Facts) {
    let this = format!("/proc/{}/fd", std::process::id());
    for number in names("/proc/self/fd") {
        let target = link(Path::new("/proc/self/fd").join(&number));
        // The descriptor of the listing itself: either closed by now, or the directory.
        if target == this || !Path::new("/proc/self/fdinfo").join(&number).exists() {
            continue;
        }
        let info = read(Path::new("/proc/self/fdinfo").join(&number));
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or_default().trim();
        facts.insert(format!("descriptor: {number}"), format!("{target} flags {flags}"));
    }
    for line in read("/proc/self/maps").lines().filter(|line| line.contains("/memfd:")) {
        let (range, rest) = line.split_once(' ').unwrap_or((line, ""));
        facts.insert(format!("mapping: {range}"), rest.to_owned());
    }
}

fn status(facts: &mut Facts) {
    // Credentials, masks and filters belong to a thread in Linux, and what is called works on the thread that calls.
    for line in read("/proc/thread-self/status").lines() {
        if let Some((key, value)) = line.split_once(':').filter(|(key, _)| STATUS.contains(key)) {
            facts.insert(format!("status: {key}"), value.trim().to_owned());
        }
    }
}

fn children(facts: &mut Facts) {
    for task in names("/proc/self/task") {
        let children = Path::new("/proc/self/task").join(&task).join("children");
        // A thread that has ended meanwhile has none: what is read then is why, and no number.
        for child in read(children).split_whitespace().filter(|child| child.parse::<u32>().is_ok()) {
            let status = read(Path::new("/proc").join(child).join("status"));
            let of = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim();
            // Whether it runs or sleeps at this moment means nothing; that it has ended and is not reaped does.
            let state = if of("State:").starts_with('Z') { "zombie" } else { "alive" };
            facts.insert(format!("child: {child}"), format!("{} {state}", of("Name:")));
        }
    }
}

fn namespaces(facts: &mut Facts) {
    for process in ["self", "thread-self"] {
        let directory = Path::new("/proc").join(process).join("ns");
        for kind in names(&directory) {
            facts.insert(format!("namespace: {process} {kind}"), link(directory.join(&kind)));
        }
    }
}

fn settings(facts: &mut Facts) {
    for name in ["cwd", "root", "exe"] {
        facts.insert(format!("directory: {name}"), link(Path::new("/proc/thread-self").join(name)));
    }
    for name in ["oom_score_adj", "coredump_filter", "loginuid", "sessionid", "personality", "timerslack_ns"] {
        facts.insert(format!("setting: {name}"), read(Path::new("/proc/self").join(name)).trim().to_owned());
    }
    for line in read("/proc/self/limits").lines().skip(1) {
        let (name, values) = line.split_at_checked(26).unwrap_or((line, ""));
        facts.insert(format!("limit: {}", name.trim()), values.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    let controls = [
        ("dumpable", format!("{:?}", prctl::get_dumpable())),
        ("child subreaper", format!("{:?}", prctl::get_child_subreaper())),
        ("keep capabilities", format!("{:?}", prctl::get_keepcaps())),
        ("parent-death signal", format!("{:?}", prctl::get_pdeathsig())),
        ("thread name", format!("{:?}", prctl::get_name())),
    ];
    facts.extend(controls.map(|(name, value)| (format!("prctl: {name}"), value)));
}
