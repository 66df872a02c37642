//! Rules for all platforms: version, root, annotations, and hooks (which all POSIX platforms share).
//!
//! Needs no kernel.
use super::Context;
use super::lists::check_absolute;
use crate::names::HOOKS;
use crate::problem::quote;
use crate::rules;

pub(super) fn check(context: &mut Context<'_>) {
    let root = context.root.clone();
    super::oci_version(&root.member("ociVersion"), rules::VERSION, &mut context.report);
    match root.get("root") {
        None if root.get("windows").is_some() => {}
        None => context.error(&root.member("root"), rules::ROOT, "must be given"),
        Some(node) if node.text_at("path") == Some("") => {
            context.error(&node.member("path"), rules::ROOT, "must not be empty");
        }
        Some(_) => {}
    }
    annotations(context);
    hooks(context);
}

fn annotations(context: &mut Context<'_>) {
    let entries = context.root.get("annotations").map(|map| map.entries());
    for (name, entry) in entries.into_iter().flatten() {
        if name.is_empty() {
            context.error(&entry, rules::ANNOTATIONS, "must not have an empty name");
        }
        let reserved = name.starts_with("org.opencontainers.");
        if reserved && !name.starts_with("org.opencontainers.image.") {
            let message = "has a name in the space that is reserved for the specifications";
            context.warning(&entry, rules::ANNOTATIONS, message);
        }
    }
}

fn hooks(context: &mut Context<'_>) {
    let Some(hooks) = context.root.get("hooks") else {
        return;
    };
    if let Some(prestart) = hooks.get("prestart") {
        let message = "is deprecated: use createRuntime, createContainer or startContainer";
        context.warning(&prestart, rules::PRESTART, message);
    }
    for hook in HOOKS.iter().flat_map(|name| hooks.list(name)) {
        check_absolute(context, &hook.member("path"), rules::HOOKS);
        if let Some(timeout) = hook.integer_at("timeout").filter(|seconds| *seconds <= 0) {
            let message = format!("must be above 0 seconds, is {timeout}");
            context.error(&hook.member("timeout"), rules::HOOKS, message);
        }
        if hook.get("args").is_some_and(|args| args.items().next().is_none()) {
            let message = "is an empty list, so the program gets not even its own name";
            context.warning(&hook.member("args"), rules::HOOKS, message);
        }
        for variable in hook.list("env") {
            let text = variable.text().unwrap_or("a=");
            if text.find('=').is_none_or(|at| at == 0) {
                let message = format!("should be NAME=value, is {}", quote(text));
                context.warning(&variable, rules::HOOKS, message);
            }
        }
    }
}
