//! The list of containers: as a table, as ids alone, or as JSON.
//!
//! Leaves out containers that are deleted meanwhile. Oldest kernel: 5.10.

use keelbox::{ErrorKind, Handle, State};
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
    let handles = context.runtime.list()?;
    if quiet {
        return print(&handles.iter().map(|handle| format!("{}\n", handle.id())).collect::<String>());
    }
    let mut rows = Vec::new();
    for handle in &handles {
        match handle.state() {
            Ok(state) => rows.push(Row { state, created: created(handle) }),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    match format {
        Format::Json => {
            let values = rows.iter().map(Row::json).collect::<Result<Vec<_>, _>>()?;
            print(&format!("{}\n", Value::from(values)))
        }
        Format::Table => print(&table(&rows)),
    }
}

/// The state of one container, and when it was created.
pub(crate) fn json(handle: &Handle) -> Result<Value, Failure> {
    Row { state: handle.state()?, created: created(handle) }.json()
}

#[derive(Debug)]
struct Row {
    state: State,
    created: String,
}

impl Row {
    /// The state of the specification, and when it was created.
    fn json(&self) -> Result<Value, Failure> {
        let cannot = |error: &dyn std::error::Error| {
            Failure::new(format!("cannot tell the state of container {}: {error}", self.state.id))
        };
        let text = self.state.to_json().map_err(|error| cannot(&error))?;
        let mut value: Value = serde_json::from_str(&text).map_err(|error| cannot(&error))?;
        value["created"] = self.created.clone().into();
        Ok(value)
    }

    fn cells(&self) -> [String; 5] {
        let state = &self.state;
        let pid = state.pid.unwrap_or(0).to_string();
        let bundle = state.bundle.display().to_string();
        [state.id.to_string(), pid, state.status.to_string(), bundle, self.created.clone()]
    }
}

fn table(rows: &[Row]) -> String {
    let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED"].map(str::to_owned);
    let lines: Vec<[String; 5]> = std::iter::once(head).chain(rows.iter().map(Row::cells)).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(width);
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
