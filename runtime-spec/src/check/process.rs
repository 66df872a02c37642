//! Rules for `process`, `hostname` and `domainname`.
//!
//! Needs no kernel.
use std::collections::HashSet;

use super::Context;
use super::lists::{check_absolute, check_number_list, check_unique};
use crate::node::Node;
use crate::problem::quote;
use crate::rules;

pub(super) fn check(context: &mut Context<'_>) {
    let root = context.root.clone();
    names(context, &root);
    let Some(process) = root.get("process") else {
        let message = "should be given: start is refused without it";
        context.warning(&root.member("process"), rules::PROCESS, message);
        return;
    };
    check_absolute(context, &process.member("cwd"), rules::CWD);
    console(context, &process);
    arguments(context, &process);
    environment(context, &process);
    user(context, &process);
    limits(context, &process);
    capabilities(context, &process);
    scheduler(context, &process);
    io_priority(context, &process);
    if let Some(score) = process.integer_at("oomScoreAdj")
        && !(-1000..=1000).contains(&score)
    {
        let message = format!("must be from -1000 to 1000, is {score}");
        context.error(&process.member("oomScoreAdj"), rules::OOM_SCORE, message);
    }
    for name in ["initial", "final"] {
        check_number_list(context, process.find(&["execCPUAffinity", name]), rules::EXEC_AFFINITY);
    }
}

fn names(context: &mut Context<'_>, root: &Node<'_>) {
    for (name, sysctl) in [("hostname", "kernel.hostname"), ("domainname", "kernel.domainname")] {
        let node = root.member(name);
        let Some(text) = node.text().filter(|text| !text.is_empty()) else {
            continue;
        };
        if !context.has("uts") {
            let message = "needs a uts namespace: without one it would change the host's";
            context.error(&node, rules::HOSTNAME, message);
        }
        // __NEW_UTS_LEN, sethostname(2).
        if text.len() > 64 {
            context.error(&node, rules::HOSTNAME, format!("has {} bytes, Linux takes 64", text.len()));
        }
        if root.find(&["linux", "sysctl", sysctl]).is_some() {
            context.error(&node, rules::HOSTNAME, format!("is also set by the sysctl {sysctl}"));
        }
    }
}

fn console(context: &mut Context<'_>, process: &Node<'_>) {
    let Some(size) = process.get("consoleSize") else {
        return;
    };
    if process.member("terminal").value.as_bool() != Some(true) {
        context.warning(&size, rules::TERMINAL, "is ignored without a terminal");
    }
    for name in ["height", "width"] {
        // struct winsize, ioctl_tty(2).
        if size.integer_at(name).is_some_and(|n| n > i128::from(u16::MAX)) {
            context.error(&size.member(name), rules::TERMINAL, "must not be above 65535");
        }
    }
}

fn arguments(context: &mut Context<'_>, process: &Node<'_>) {
    let node = process.member("args");
    let args = process.list("args");
    match args.first() {
        None if node.value.is_null() || node.value.is_array() => {
            context.error(&node, rules::ARGS, "must have at least one entry");
        }
        Some(program) if program.text() == Some("") => {
            context.error(program, rules::ARGS, "must name a program, is empty");
        }
        _ => {}
    }
}

fn environment(context: &mut Context<'_>, process: &Node<'_>) {
    let mut seen = HashSet::new();
    for variable in process.list("env") {
        let Some(text) = variable.text() else {
            continue;
        };
        match text.split_once('=') {
            None | Some(("", _)) => {
                let message = format!("should be NAME=value, is {}", quote(text));
                context.warning(&variable, rules::ARGS, message);
            }
            Some((name, _)) if !seen.insert(name) => {
                context.warning(&variable, rules::ARGS, format!("{} is set twice", quote(name)));
            }
            Some(_) => {}
        }
    }
}

fn user(context: &mut Context<'_>, process: &Node<'_>) {
    let Some(user) = process.get("user") else {
        let message = "should be given, counts as uid 0 and gid 0";
        context.warning(&process.member("user"), rules::USER, message);
        return;
    };
    let linux = context.root.member("linux");
    let makes_user = context.makes("user");
    let mut id = |node: &Node<'_>, mappings: &'static str| {
        let Some(id) = node.integer() else { return };
        // setresuid(2) takes the last id for "leave it as it is".
        if id == i128::from(u32::MAX) {
            context.error(node, rules::USER, "4294967295 is no id");
        } else if makes_user && !linux.list(mappings).iter().any(|m| maps(m, id)) {
            context.error(node, rules::USER, format!("{id} is not among the {mappings}"));
        }
    };
    id(&user.member("uid"), "uidMappings");
    id(&user.member("gid"), "gidMappings");
    let groups = user.list("additionalGids");
    groups.iter().take(NGROUPS_MAX + 1).for_each(|group| id(group, "gidMappings"));
    if groups.len() > NGROUPS_MAX {
        let message = format!("has {} entries, Linux takes {NGROUPS_MAX}", groups.len());
        context.error(&user.member("additionalGids"), rules::USER, message);
    }
    if user.integer_at("umask").is_some_and(|mask| mask > 0o777) {
        let message = "must not be above 511, which is 0777 (JSON numbers are decimal)";
        context.error(&user.member("umask"), rules::USER, message);
    }
}

/// setgroups(2), since Linux 2.6.4.
const NGROUPS_MAX: usize = 65_536;

fn maps(mapping: &Node<'_>, id: i128) -> bool {
    match (mapping.integer_at("containerID"), mapping.integer_at("size")) {
        (Some(first), Some(size)) => (first..first + size).contains(&id),
        _ => false,
    }
}

fn limits(context: &mut Context<'_>, process: &Node<'_>) {
    let limits = process.list("rlimits");
    check_unique(context, &limits, "type", rules::RLIMITS);
    for limit in &limits {
        if let (Some(soft), Some(hard)) = (limit.integer_at("soft"), limit.integer_at("hard"))
            && soft > hard
        {
            let message = format!("{soft} is above the hard limit {hard}");
            context.error(&limit.member("soft"), rules::RLIMITS, message);
        }
    }
}

// The specification wants a warning, not an error, for what cannot be granted.
fn capabilities(context: &mut Context<'_>, process: &Node<'_>) {
    let Some(sets) = process.get("capabilities") else {
        return;
    };
    let set = |name| -> HashSet<&str> { sets.list(name).iter().filter_map(Node::text).collect() };
    let (permitted, inheritable, bounding) = (set("permitted"), set("inheritable"), set("bounding"));
    for capability in sets.list("effective") {
        if capability.text().is_some_and(|c| !permitted.contains(c)) {
            let message = "cannot be effective, as it is not permitted";
            context.warning(&capability, rules::CAPABILITIES, message);
        }
    }
    for capability in sets.list("ambient") {
        let both = |c| permitted.contains(c) && inheritable.contains(c);
        if capability.text().is_some_and(|c| !both(c)) {
            let message = "cannot be ambient, as it is not both permitted and inheritable";
            context.warning(&capability, rules::CAPABILITIES, message);
        }
    }
    for capability in sets.list("permitted") {
        if capability.text().is_some_and(|c| !bounding.contains(c)) {
            let message = "is permitted but not in the bounding set, so executing a program may lose it";
            context.warning(&capability, rules::CAPABILITIES, message);
        }
    }
}

fn scheduler(context: &mut Context<'_>, process: &Node<'_>) {
    let Some(scheduler) = process.get("scheduler") else {
        return;
    };
    let rule = rules::SCHEDULER;
    let policy = scheduler.text_at("policy").unwrap_or_default();
    if policy == "SCHED_ISO" {
        let message = "SCHED_ISO is reserved, no Linux has it";
        context.error(&scheduler.member("policy"), rule, message);
    }
    if scheduler.integer_at("nice").is_some_and(|nice| !(-20..=19).contains(&nice)) {
        context.error(&scheduler.member("nice"), rule, "must be from -20 to 19");
    }
    let priority = scheduler.integer_at("priority").unwrap_or(0);
    match policy {
        "SCHED_FIFO" | "SCHED_RR" if !(1..=99).contains(&priority) => {
            context.error(&scheduler.member("priority"), rule, format!("must be from 1 to 99 for {policy}"));
        }
        "SCHED_FIFO" | "SCHED_RR" => {}
        _ if priority != 0 => {
            let message = "has a meaning for SCHED_FIFO and SCHED_RR only";
            context.error(&scheduler.member("priority"), rule, message);
        }
        _ => {}
    }
    let times = ["runtime", "deadline", "period"].map(|name| scheduler.integer_at(name).unwrap_or(0));
    let [runtime, deadline, period] = times;
    let period = if period == 0 { deadline } else { period };
    // sched(7), "SCHED_DEADLINE": 1024 ns <= runtime <= deadline <= period, and no period means the deadline.
    let ordered = 1024 <= runtime && runtime <= deadline && deadline <= period;
    if policy == "SCHED_DEADLINE" && !ordered {
        let message = "must have 1024 <= runtime <= deadline <= period for SCHED_DEADLINE";
        context.error(&scheduler, rule, message);
    } else if policy != "SCHED_DEADLINE" && times != [0; 3] {
        let message = "has runtime, deadline or period, which only SCHED_DEADLINE has";
        context.error(&scheduler, rule, message);
    }
}

fn io_priority(context: &mut Context<'_>, process: &Node<'_>) {
    if let Some(priority) =
        process.find(&["ioPriority", "priority"]).filter(|node| node.integer().is_some_and(|n| !(0..=7).contains(&n)))
    {
        context.error(&priority, rules::IO_PRIORITY, "must be from 0 to 7");
    }
}
