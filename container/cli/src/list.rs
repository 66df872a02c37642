//! The list of containers: as a table, as ids alone, or as JSON.
//!
//! Leaves out containers that are deleted meanwhile. Oldest kernel: 5.10.

use std::time::{Duration, SystemTime};

use keelbox::{ErrorKind, Handle, Runtime, State};
use serde_json::Value;

use crate::arguments::Format;
use crate::failure::{Failure, Outcome};
use crate::print;

pub(crate) fn list(runtime: &Runtime, format: Format) -> Outcome {
    let handles = runtime.list()?;
    if format == Format::Ids {
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
        _ => print(&table(&rows)),
    }
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

/// A time as RFC 3339 has it, in UTC and whole seconds.
fn rfc3339(time: SystemTime) -> String {
    const DAY: u64 = 24 * 60 * 60;
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let (mut day, second) = (seconds / DAY, seconds % DAY);
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    loop {
        let days = if is_leap(year) { 366 } else { 365 };
        if day < days {
            break;
        }
        day -= days;
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < days {
            break;
        }
        day -= days;
        month += 1;
    }
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_date() {
        // The right side is what `date -u -d @N +%FT%TZ` prints.
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (68_169_599, "1972-02-28T23:59:59Z"),
            (68_169_600, "1972-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }
}
