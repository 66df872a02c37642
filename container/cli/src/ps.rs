//! The command ps: the processes of a container, as numbers or as the program ps(1) shows them.
//!
//! Leaves out finding out about processes itself: what a table has in its columns is the business of ps(1). Needs no kernel.

use std::ffi::OsString;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::print;
use crate::read::Given;

pub(crate) fn ps(context: &Context<'_>, mut given: Given) -> Outcome {
    let json = given.choice("format", &[("table", false), ("json", true)])?;
    let handle = context.open(&given.id()?)?;
    let processes = handle.processes()?;
    if json {
        return print(&format!("{}\n", Value::from(processes)));
    }
    let options = if given.words.is_empty() { vec![OsString::from("-ef")] } else { given.words };
    print(&filtered(&table(&options)?, &processes)?)
}

fn table(options: &[OsString]) -> Result<String, Failure> {
    let output = Command::new("ps").args(options).stdin(Stdio::null()).output();
    let output = output.map_err(|error| Failure::io("cannot execute ps (--format json needs none)", &error))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(Failure::new(format!("ps has failed: {}", text(&output.stderr).trim_end()))),
    }
}

/// The head of a table, and the lines of these processes.
fn filtered(table: &str, processes: &[u32]) -> Result<String, Failure> {
    let mut lines = table.lines();
    let head = lines.next().unwrap_or("");
    let column = head.split_whitespace().position(|name| name == "PID");
    let column = column.ok_or_else(|| Failure::new("the table of ps has no column PID"))?;
    let is_inside = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|word| word.parse().ok());
        pid.is_some_and(|pid: u32| processes.contains(&pid))
    };
    let kept = std::iter::once(head).chain(lines.filter(is_inside));
    Ok(kept.map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_filtered_by_its_column() {
        let table = "UID        PID  PPID CMD\nroot         1     0 init\nroot        12     1 sh -c 7\nroot         7    12 x\n";
        assert_eq!(
            filtered(table, &[12, 7]).expect("it has the column"),
            "UID        PID  PPID CMD\nroot        12     1 sh -c 7\nroot         7    12 x\n"
        );
        assert!(filtered("TTY CMD\n", &[1]).is_err());
    }
}
