//! Between a document and `oci-spec`'s [`Spec`]: works around what `oci-spec` 0.10 cannot hold or spells differently, in
//! both directions.
//!
//! Left out on purpose: members `oci-spec` does not have (`freebsd`, `vm.hwConfig`, unknown ones); they live in the
//! document only, and [`crate::merge`] keeps them. Needs no kernel.
use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use crate::check::lists::number_list;
use crate::names;
use crate::shape::config::CONFIG;

/// Words that `oci-spec` derives from its own names and so spells differently from the specification and the kernel.
const MISSPELT: [(&str, &str); 2] =
    [("SCHED_FLAG_RESET_ON_FORK", "SCHED_RESET_ON_FORK"), ("SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_D_L_OVERRUN")];

/// What `oci-spec` gets to see of a document that passed the walk.
pub(crate) fn spec(raw: &Value) -> Result<Spec, serde_json::Error> {
    let mut view = CONFIG.known(raw);
    if let Some(process) = view.get_mut("process") {
        process_view(process);
    }
    if let Some(resources) = view.pointer_mut("/linux/resources") {
        resources_view(resources);
    }
    rename(&mut view, "utilityVMPath", "utilityVmPath");
    serde_json::from_value(view)
}

fn process_view(process: &mut Value) {
    // The schema lets `user` be absent, and everybody reads that as root; the check warns.
    if process.get("user").is_none() {
        process["user"] = json!({});
    }
    if let Some(flags) = process.pointer_mut("/scheduler/flags") {
        respell(flags, |(right, wrong)| (right, wrong));
    }
    let Some(affinity) = process.get_mut("execCPUAffinity").and_then(Value::as_object_mut) else {
        return;
    };
    // Here `oci-spec` fails on an empty list and on spaces, which the schema allows.
    affinity.retain(|_, list| {
        let tight: String = list.as_str().unwrap_or_default().split_whitespace().collect();
        let valid = !tight.is_empty() && number_list(&tight).is_ok();
        *list = Value::String(tight);
        valid
    });
}

fn resources_view(resources: &mut Value) {
    // `oci-spec` reads an absent limit as 0, which since version 1.3 means "no process at all".
    if resources.get("pids").is_some_and(|pids| pids.get("limit").is_none())
        && let Some(members) = resources.as_object_mut()
    {
        members.remove("pids");
    }
    let pages = resources.get_mut("hugepageLimits").and_then(Value::as_array_mut);
    for entry in pages.into_iter().flatten() {
        // Above i64::MAX, which is all `oci-spec` can hold, the kernel's own limit was passed long ago.
        if let Some(limit) = entry.get_mut("limit").filter(|limit| !limit.is_i64()) {
            *limit = i64::MAX.into();
        }
    }
}

/// The document for a [`Spec`], without anything `oci-spec` does not know.
pub(crate) fn value(spec: &Spec) -> Result<Value, serde_json::Error> {
    let mut value = serde_json::to_value(spec)?;
    CONFIG.strip_nulls(&mut value);
    if let Some(flags) = value.pointer_mut("/process/scheduler/flags") {
        respell(flags, |(right, wrong)| (wrong, right));
    }
    let sets = value.pointer_mut("/process/capabilities").and_then(Value::as_object_mut);
    for (_, set) in sets.into_iter().flatten() {
        // They come from a hash set, in an order that differs from run to run.
        if let Some(set) = set.as_array_mut() {
            set.sort_by_key(|word| {
                let word = word.as_str().unwrap_or_default();
                names::CAPABILITIES.iter().position(|known| *known == word)
            });
        }
    }
    rename(&mut value, "utilityVmPath", "utilityVMPath");
    Ok(value)
}

fn respell(flags: &mut Value, direction: impl Fn((&'static str, &'static str)) -> (&'static str, &'static str)) {
    for flag in flags.as_array_mut().into_iter().flatten() {
        for (from, to) in MISSPELT.map(&direction) {
            if flag.as_str() == Some(from) {
                *flag = to.into();
                break;
            }
        }
    }
}

fn rename(value: &mut Value, from: &str, to: &str) {
    let hyperv = value.pointer_mut("/windows/hyperv").and_then(Value::as_object_mut);
    if let Some(members) = hyperv
        && let Some(moved) = members.remove(from)
    {
        members.insert(to.to_owned(), moved);
    }
}
