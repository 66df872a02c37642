//! What the integration tests share: the specification's documents, and a checker for its JSON schemas.
#![allow(dead_code, reason = "every test program uses its own part of this file")]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;
use serde_json::Value;

/// A directory below `tests/spec/schema`.
pub(crate) fn spec(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/spec/schema").join(path)
}

/// The example documents in `test/KIND/VERDICT`, with their names; never none.
pub(crate) fn examples(kind: &str, verdict: &str) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(spec("test").join(kind).join(verdict)).unwrap();
    let mut examples: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.display().to_string(), fs::read(&path).unwrap()))
        .collect();
    examples.sort();
    assert!(!examples.is_empty(), "no {verdict} {kind} examples");
    examples
}

/// The schemas of the specification: the subset of draft 4 that they use, and a panic for anything else.
pub(crate) struct Schemas(HashMap<String, Value>);

impl Schemas {
    pub(crate) fn load() -> Self {
        let files = fs::read_dir(spec("")).unwrap();
        let json =
            files.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "json"));
        Self(
            json.map(|path| {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                (name, serde_json::from_slice(&fs::read(&path).unwrap()).unwrap())
            })
            .collect(),
        )
    }

    pub(crate) fn file(&self, file: &str) -> &Value {
        &self.0[file]
    }

    /// Everything in `text` that the schema in `file` does not allow.
    pub(crate) fn complaints(&self, file: &str, text: &str) -> Vec<String> {
        let value = serde_json::from_str(text).unwrap();
        let mut complaints = Vec::new();
        self.check(file, &self.0[file], &value, String::new(), &mut complaints);
        complaints
    }

    fn check(&self, file: &str, schema: &Value, value: &Value, place: String, out: &mut Vec<String>) {
        for (keyword, rule) in schema.as_object().unwrap() {
            let ok = match keyword.as_str() {
                "$ref" => {
                    let (other, pointer) = rule.as_str().unwrap().split_once('#').unwrap();
                    let other = if other.is_empty() { file } else { other };
                    let target = self.0[other].pointer(pointer).unwrap();
                    self.check(other, target, value, place.clone(), out);
                    true
                }
                "type" => has_type(value, rule.as_str().unwrap()),
                "enum" => rule.as_array().unwrap().contains(value),
                "pattern" => value.as_str().is_none_or(|text| matches(rule, text)),
                "minimum" => number(value).is_none_or(|n| n >= number(rule).unwrap()),
                "maximum" => number(value).is_none_or(|n| n <= number(rule).unwrap()),
                "minItems" => value.as_array().is_none_or(|a| a.len() as u64 >= rule.as_u64().unwrap()),
                "required" => value.as_object().is_none_or(|object| {
                    let mut names = rule.as_array().unwrap().iter();
                    names.all(|name| object.contains_key(name.as_str().unwrap()))
                }),
                "items" => {
                    for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.check(file, rule, item, format!("{place}/{i}"), out);
                    }
                    true
                }
                "properties" | "patternProperties" | "additionalProperties" => {
                    self.members(file, keyword, rule, value, &place, out);
                    true
                }
                "allOf" => {
                    for part in rule.as_array().unwrap() {
                        self.check(file, part, value, place.clone(), out);
                    }
                    true
                }
                "anyOf" => rule.as_array().unwrap().iter().any(|part| {
                    let mut inner = Vec::new();
                    self.check(file, part, value, place.clone(), &mut inner);
                    inner.is_empty()
                }),
                "description" | "$schema" => true,
                other => panic!("{file} has the keyword {other}, which this checker does not know"),
            };
            if !ok {
                out.push(format!("{place}: {value} is not {keyword} {rule}"));
            }
        }
    }

    fn members(&self, file: &str, keyword: &str, rule: &Value, value: &Value, place: &str, out: &mut Vec<String>) {
        for (name, member) in value.as_object().into_iter().flatten() {
            let schemas: Vec<&Value> = match keyword {
                "properties" => rule.get(name).into_iter().collect(),
                "additionalProperties" => vec![rule],
                _ => rule
                    .as_object()
                    .unwrap()
                    .iter()
                    .filter(|(pattern, _)| Regex::new(pattern).unwrap().is_match(name))
                    .map(|(_, schema)| schema)
                    .collect(),
            };
            for schema in schemas {
                self.check(file, schema, member, format!("{place}/{name}"), out);
            }
        }
    }
}

fn has_type(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        other => panic!("the type {other} is not known to this checker"),
    }
}

fn number(value: &Value) -> Option<i128> {
    value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from))
}

fn matches(pattern: &Value, text: &str) -> bool {
    Regex::new(pattern.as_str().unwrap()).unwrap().is_match(text)
}
