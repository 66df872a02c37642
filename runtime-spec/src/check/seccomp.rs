//! Rules for `linux.seccomp`.
//!
//! Needs no kernel.
use super::Context;
use super::lists::check_absolute;
use crate::node::Node;
use crate::problem::quote;
use crate::rules;

const NOTIFY: &str = "SCMP_ACT_NOTIFY";

pub(super) fn check(context: &mut Context<'_>) {
    let Some(seccomp) = context.root.find(&["linux", "seccomp"]) else {
        return;
    };
    let default = seccomp.text_at("defaultAction").unwrap_or_default();
    errno(context, default, &seccomp.member("defaultErrnoRet"));
    if default == NOTIFY {
        let message = "must not be SCMP_ACT_NOTIFY: nobody could answer the system calls of the set-up";
        context.error(&seccomp.member("defaultAction"), rules::SECCOMP, message);
    }
    let syscalls = seccomp.list("syscalls");
    for syscall in &syscalls {
        rule(context, syscall);
    }
    let notifies = default == NOTIFY || syscalls.iter().any(|s| s.text_at("action") == Some(NOTIFY));
    listener(context, &seccomp, notifies);
    for flag in seccomp.list("flags") {
        // seccomp(2): EINVAL unless a listener is made.
        if flag.text() == Some("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV") && !notifies {
            let message = "has no effect without SCMP_ACT_NOTIFY";
            context.warning(&flag, rules::SECCOMP_FLAGS, message);
        }
    }
}

fn errno(context: &mut Context<'_>, action: &str, node: &Node<'_>) {
    let Some(value) = node.integer() else { return };
    // The kernel cuts an errno at MAX_ERRNO, and has 16 bits for a tracer.
    let most = match action {
        "SCMP_ACT_ERRNO" => 4095,
        "SCMP_ACT_TRACE" => 65_535,
        _ => {
            let message = format!("must not be given: {action} returns no errno");
            return context.error(node, rules::SECCOMP_ERRNO, message);
        }
    };
    if value > most {
        context.error(node, rules::SECCOMP_ERRNO, format!("must not be above {most}"));
    }
}

fn rule(context: &mut Context<'_>, syscall: &Node<'_>) {
    let action = syscall.text_at("action").unwrap_or_default();
    errno(context, action, &syscall.member("errnoRet"));
    let names = syscall.list("names");
    if names.is_empty() && syscall.member("names").value.is_array() {
        let message = "must have at least one entry";
        context.error(&syscall.member("names"), rules::SECCOMP_SYSCALL, message);
    }
    for name in &names {
        let Some(text) = name.text() else { continue };
        let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b.is_ascii_uppercase();
        if text.is_empty() || !text.bytes().all(valid) {
            let message = format!("{} cannot be the name of a system call", quote(text));
            context.error(name, rules::SECCOMP_SYSCALL, message);
        }
        if action == NOTIFY && text == "write" {
            let message = "asks about every write, also those of the runtime before it has handed over the listener";
            context.warning(name, rules::SECCOMP_NOTIFY, message);
        }
    }
    for argument in syscall.list("args") {
        if argument.integer_at("index").is_some_and(|index| index > 5) {
            let message = "must be from 0 to 5: a system call has six arguments";
            context.error(&argument.member("index"), rules::SECCOMP_SYSCALL, message);
        }
        let masked = argument.text_at("op") == Some("SCMP_CMP_MASKED_EQ");
        let second = argument.integer_at("valueTwo");
        if !masked && second.is_some_and(|value| value != 0) {
            let message = "has a meaning for SCMP_CMP_MASKED_EQ only";
            context.warning(&argument.member("valueTwo"), rules::SECCOMP_SYSCALL, message);
        }
        let mask = argument.integer_at("value").unwrap_or(-1);
        if masked && second.unwrap_or(0) & !mask != 0 {
            let message = "has a bit outside the mask in value, so the rule never matches";
            context.warning(&argument.member("valueTwo"), rules::SECCOMP_SYSCALL, message);
        }
    }
}

fn listener(context: &mut Context<'_>, seccomp: &Node<'_>, notifies: bool) {
    let path = seccomp.member("listenerPath");
    let given = path.text().is_some_and(|text| !text.is_empty());
    let rule = rules::SECCOMP_NOTIFY;
    if notifies && !given {
        context.error(&path, rule, "must be given, as SCMP_ACT_NOTIFY is used");
    }
    if given && !notifies {
        context.warning(&path, rule, "is ignored, as SCMP_ACT_NOTIFY is not used");
    }
    if given {
        check_absolute(context, &path, rule);
    }
    // unix(7): 108 bytes with the final NUL.
    if path.text().is_some_and(|text| text.len() > 107) {
        context.error(&path, rule, "must not be longer than 107 bytes");
    }
    if seccomp.get("listenerMetadata").is_some() && !given {
        let message = "must not be given without listenerPath";
        context.error(&seccomp.member("listenerMetadata"), rule, message);
    }
}
