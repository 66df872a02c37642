//! The command update: limits changed, by a document of the specification's or by options. Needs no kernel.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use keelbox::crates::runtime_spec::{Config, Severity};
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::read::Given;

/// The most of a document that is read, in bytes.
const MOST: u64 = 1 << 20;

/// Where the value of an option goes, and what it is.
const OPTIONS: &[(&str, &str, Kind)] = &[
    ("memory", "/memory/limit", Kind::Bytes),
    ("memory-reservation", "/memory/reservation", Kind::Bytes),
    ("memory-swap", "/memory/swap", Kind::Bytes),
    ("cpu-quota", "/cpu/quota", Kind::Number),
    ("cpu-period", "/cpu/period", Kind::Number),
    ("cpu-burst", "/cpu/burst", Kind::Number),
    ("cpu-share", "/cpu/shares", Kind::Number),
    ("cpu-rt-period", "/cpu/realtimePeriod", Kind::Number),
    ("cpu-rt-runtime", "/cpu/realtimeRuntime", Kind::Number),
    ("cpu-idle", "/cpu/idle", Kind::Number),
    ("cpuset-cpus", "/cpu/cpus", Kind::Text),
    ("cpuset-mems", "/cpu/mems", Kind::Text),
    ("pids-limit", "/pids/limit", Kind::Number),
    ("blkio-weight", "/blockIO/weight", Kind::Number),
];

#[derive(Clone, Copy, Debug)]
enum Kind {
    Number,
    /// A number with a unit, or -1.
    Bytes,
    Text,
}

pub(crate) fn update(context: &Context<'_>, mut given: Given) -> Outcome {
    let by_options = resources(&given)?;
    let config = match (given.path("resources"), by_options.as_object().is_some_and(|members| !members.is_empty())) {
        (Some(_), true) => return Err(Failure::new("limits come from --resources or from options, not from both")),
        (None, false) => return Err(Failure::new("update needs a limit, or --resources")),
        (Some(file), false) => checked(&document(&file)?)?,
        (None, true) => checked(by_options.to_string().as_bytes())?,
    };
    let handle = context.open(&given.id()?)?;
    let resources = config.spec().linux().as_ref().and_then(|linux| linux.resources().clone());
    if let Some(resources) = resources {
        handle.update_resources(&resources)?;
    }
    Ok(0)
}

fn document(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    let read = match file.as_os_str() == "-" {
        true => io::stdin().lock().take(MOST).read_to_end(&mut text),
        false => File::open(file).and_then(|file| file.take(MOST).read_to_end(&mut text)),
    };
    read.map_err(|error| Failure::io(&format!("cannot read limits from {}", file.display()), &error))?;
    Ok(text)
}

/// The limits as a part of a configuration, which knows the rules for them.
fn checked(resources: &[u8]) -> Result<Config, Failure> {
    let refused = |why: String| Failure::new(format!("the limits are not valid: {why}"));
    let text = std::str::from_utf8(resources).map_err(|error| refused(error.to_string()))?;
    let whole = format!(r#"{{"ociVersion": "1.2.0", "root": {{"path": "/"}}, "linux": {{"resources": {text}}}}}"#);
    let config = Config::from_json(whole.as_bytes()).map_err(|error| refused(Failure::told(&error)))?;
    let problems = config.check();
    let serious = problems
        .iter()
        .find(|problem| problem.severity() == Severity::Error && problem.pointer().starts_with("/linux/resources"));
    match serious {
        Some(problem) => Err(refused(problem.to_string())),
        None => Ok(config),
    }
}

fn resources(given: &Given) -> Result<Value, Failure> {
    let mut resources = json!({});
    for (option, pointer, kind) in OPTIONS {
        let Some(text) = given.text(option)? else { continue };
        let value = match kind {
            Kind::Text => text.into(),
            Kind::Number => given.number::<i64>(option)?.into(),
            Kind::Bytes => bytes(&text)
                .ok_or_else(|| Failure::new(format!("--{option} takes bytes such as 64m, not {text:?}")))?
                .into(),
        };
        if let Some((group, member)) = pointer.trim_start_matches('/').split_once('/') {
            resources[group][member] = value;
        }
    }
    Ok(resources)
}

/// A number of bytes with a unit of 1024, or -1 for no limit.
pub(crate) fn bytes(text: &str) -> Option<i64> {
    let lower = text.trim().to_ascii_lowercase();
    let lower = lower.strip_suffix("ib").or_else(|| lower.strip_suffix('b')).unwrap_or(&lower);
    let (digits, shift) = match lower.chars().last()? {
        'k' => (&lower[..lower.len() - 1], 10),
        'm' => (&lower[..lower.len() - 1], 20),
        'g' => (&lower[..lower.len() - 1], 30),
        't' => (&lower[..lower.len() - 1], 40),
        _ => (lower, 0),
    };
    let number: i64 = digits.parse().ok()?;
    if number < 0 && (number != -1 || shift != 0) {
        return None;
    }
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units() {
        for (text, number) in [("0", 0), ("-1", -1), ("64m", 64 << 20), ("1G", 1 << 30), ("2KiB", 2048), ("5b", 5)] {
            assert_eq!(bytes(text), Some(number), "{text}");
        }
        for text in ["", "m", "-2", "-1m", "1x", "9999999999t"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }

    #[test]
    fn every_option_is_one_of_the_table_and_a_limit_of_the_specification() {
        let table = crate::table::find("update").expect("it is there");
        for option in table
            .every_option()
            .filter(|option| option.standing == crate::grammar::Standing::Taken && option.name != "resources")
        {
            assert!(OPTIONS.iter().any(|(name, ..)| *name == option.name), "{}", option.name);
        }
        for (name, pointer, kind) in OPTIONS {
            let value = match (*name, kind) {
                (_, Kind::Text) => json!("0"),
                ("cpu-idle", _) => json!(1),
                ("blkio-weight", _) => json!(10),
                _ => json!(5000),
            };
            let (group, member) = pointer[1..].split_once('/').expect("two names");
            let config = checked(json!({ group: { member: value } }).to_string().as_bytes());
            let config = config.unwrap_or_else(|failure| panic!("{name}: {failure}"));
            assert!(config.unknown().is_empty(), "{name}: {:?}", config.unknown());
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_rule() {
        for text in ["", "[]", "{\"memory\": {\"limit\": \"x\"}}", "{\"cpu\": {\"idle\": 7}}", "{}}, {\"a\": {}"] {
            assert!(checked(text.as_bytes()).is_err(), "{text}");
        }
    }
}
