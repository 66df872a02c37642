//! The command plan: what the kernel will be asked for, as text or JSON; and reading bundles. Oldest kernel: 5.10.

use serde_json::{Value, json};

use keelbox::Container;

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::print;
use crate::read::Given;

pub(crate) fn plan(_: &Context<'_>, mut given: Given) -> Outcome {
    let (explain, json) = (given.has("explain"), given.has("json"));
    if explain && json {
        return Err(Failure::new("--explain and --json exclude each other: the JSON explains each step"));
    }
    let plan = Container::from_bundle(given.word())?.build()?.plan()?;
    match (json, explain) {
        (true, _) => {
            let steps: Vec<Value> =
                plan.steps().iter().map(|step| json!({ "step": step.to_string(), "why": step.explain() })).collect();
            print(&format!("{:#}\n", json!({ "steps": steps })))
        }
        (false, true) => print(&plan.explain()),
        (false, false) => print(&plan.to_string()),
    }
}
