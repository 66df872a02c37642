//! The list of containers: as a table, as ids alone, or as JSON.
//!
//! Leaves out containers that are deleted meanwhile. Oldest kernel: 5.10.

use keelbox::{ErrorKind, Handle, Snapshot, State};
use serde_json::Value;

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::print;
use crate::read::Given;
use crate::time::rfc3339;

/// How containers are listed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Format {
    Table,
    Json,
}

pub(crate) fn list(context: &Context<'_>, given: Given) -> Outcome {
    let format = given.choice("format", &[("table", Format::Table), ("json", Format::Json)])?;
    let quiet = given.has("quiet");
    if quiet && format == Format::Json {
        return Err(Failure::new("a list is either --quiet or in --format json"));
    }
    let containers = context.runtime.snapshots()?;
    if quiet {
        return print(&containers.iter().map(|container| format!("{}\n", container.id)).collect::<String>());
    }
    if format == Format::Table {
        return print(&aligned(["ID", "PID", "STATUS", "BUNDLE", "CREATED"], containers.iter().map(cells)));
    }
    let mut values = Vec::new();
    for container in &containers {
        match context.runtime.open(&container.id).and_then(|handle| handle.state()) {
            Ok(state) => values.push(value(&state, container.created.map(rfc3339).unwrap_or_default())?),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unsupported) => {}
            Err(error) => return Err(error.into()),
        }
    }
    print(&format!("{}\n", Value::from(values)))
}

/// The state of one container, and when it was created.
pub(crate) fn json(handle: &Handle) -> Result<Value, Failure> {
    value(&handle.state()?, created(handle))
}

/// The state of the specification, and when it was created.
fn value(state: &State, created: String) -> Result<Value, Failure> {
    let cannot = |error: &dyn std::error::Error| {
        Failure::new(format!("cannot tell the state of container {}: {error}", state.id))
    };
    let text = state.to_json().map_err(|error| cannot(&error))?;
    let mut value: Value = serde_json::from_str(&text).map_err(|error| cannot(&error))?;
    value["created"] = created.into();
    Ok(value)
}

/// A row of the table, for which no configuration needs to be read.
fn cells(container: &Snapshot) -> [String; 5] {
    let (pid, status) = (container.pid.unwrap_or(0).to_string(), container.status.to_string());
    let created = container.created.map(rfc3339).unwrap_or_default();
    [container.id.clone(), pid, status, container.bundle.display().to_string(), created]
}

/// Rows below a head, in columns that are as wide as they must be.
pub(crate) fn aligned<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let lines: Vec<[String; N]> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<String> = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn created(handle: &Handle) -> String {
    handle.created().map(rfc3339).unwrap_or_default()
}
