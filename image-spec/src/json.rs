//! Strict reading of JSON documents, and access to their fields with errors that name the field.
//!
//! Job: I-JSON as image-spec `considerations.md` asks: UTF-8, no duplicate names, nothing after the document; bounded
//! size and depth. Unknown fields are nobody's error. Leaves out writing: documents are kept as the bytes they came in.

use crate::{Error, Result};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::collections::BTreeMap;
use std::fmt;

/// Parses `bytes` as one document. `what` names it in errors.
pub(crate) fn parse(bytes: &[u8], what: &str) -> Result<Value> {
    // `serde_json` refuses more than 128 levels, so hostile nesting cannot exhaust the stack.
    let Unique(value) = serde_json::from_slice(bytes)
        .map_err(|error| Error::format(format!("{what} is not a valid JSON document: {}", position(&error))))?;
    Ok(value)
}

/// Where the parser stopped and, for the one rule that is ours, why. The parser's own text may quote the document.
fn position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let reason = if text.starts_with("duplicate name") { "duplicate name" } else { "syntax" };
    format!("{reason} at line {} column {}", error.line(), error.column())
}

/// A value none of whose objects repeats a name.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Unique)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Unique(value)) = sequence.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            if map.contains_key(&name) {
                return Err(de::Error::custom("duplicate name"));
            }
            let Unique(value) = access.next_value()?;
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

/// A value with the JSON pointer that leads to it. `null` counts as absent everywhere, as Go writes it.
#[derive(Clone)]
pub(crate) struct Field<'a> {
    what: &'a str,
    pointer: String,
    value: &'a Value,
}

impl<'a> Field<'a> {
    pub(crate) fn root(value: &'a Value, what: &'a str) -> Result<Self> {
        let root = Self { what, pointer: String::new(), value };
        if value.is_object() { Ok(root) } else { Err(root.wrong("an object")) }
    }

    /// An error that names the document and this field.
    pub(crate) fn error(&self, text: &str) -> Error {
        Error::format(format!("{}: {} {text}", self.what, self.name()))
    }

    fn name(&self) -> &str {
        if self.pointer.is_empty() { "the document" } else { &self.pointer }
    }

    fn wrong(&self, expected: &str) -> Error {
        self.error(&format!("is not {expected}"))
    }

    fn child(&self, key: &str, value: &'a Value) -> Self {
        let key = key.replace('~', "~0").replace('/', "~1");
        Self { what: self.what, pointer: format!("{}/{key}", self.pointer), value }
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Self>> {
        let object = self.value.as_object().ok_or_else(|| self.wrong("an object"))?;
        Ok(object.get(key).filter(|value| !value.is_null()).map(|value| self.child(key, value)))
    }

    pub(crate) fn require(&self, key: &str) -> Result<Self> {
        self.get(key)?.ok_or_else(|| self.child(key, self.value).error("is missing"))
    }

    /// The names of an object.
    pub(crate) fn keys(&self) -> Result<impl Iterator<Item = &'a str>> {
        Ok(self.value.as_object().ok_or_else(|| self.wrong("an object"))?.keys().map(String::as_str))
    }

    pub(crate) fn items(&self) -> Result<Vec<Self>> {
        let items = self.value.as_array().ok_or_else(|| self.wrong("an array"))?;
        Ok(items.iter().enumerate().map(|(index, value)| self.child(&index.to_string(), value)).collect())
    }

    pub(crate) fn text(&self) -> Result<String> {
        self.value.as_str().map(str::to_owned).ok_or_else(|| self.wrong("a string"))
    }

    pub(crate) fn number(&self) -> Result<u64> {
        self.value.as_u64().ok_or_else(|| self.wrong("a number of at least 0"))
    }

    pub(crate) fn boolean(&self) -> Result<bool> {
        self.value.as_bool().ok_or_else(|| self.wrong("true or false"))
    }

    pub(crate) fn texts(&self) -> Result<Vec<String>> {
        self.items()?.iter().map(Self::text).collect()
    }

    pub(crate) fn text_map(&self) -> Result<BTreeMap<String, String>> {
        let object = self.value.as_object().ok_or_else(|| self.wrong("an object"))?;
        object.iter().map(|(key, value)| Ok((key.clone(), self.child(key, value).text()?))).collect()
    }

    pub(crate) fn optional_text(&self, key: &str) -> Result<Option<String>> {
        self.get(key)?.as_ref().map(Self::text).transpose()
    }

    pub(crate) fn optional_texts(&self, key: &str) -> Result<Vec<String>> {
        Ok(self.get(key)?.as_ref().map(Self::texts).transpose()?.unwrap_or_default())
    }

    pub(crate) fn optional_map(&self, key: &str) -> Result<BTreeMap<String, String>> {
        Ok(self.get(key)?.as_ref().map(Self::text_map).transpose()?.unwrap_or_default())
    }

    pub(crate) fn value(&self) -> &'a Value {
        self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_i_json_forbids_is_refused() {
        let deep = "[".repeat(10_000);
        let nested_duplicate = r#"{"a":[{"b":1,"b":2}]}"#;
        let cases: [&[u8]; 8] = [
            br#"{"a":1,"a":1}"#,
            nested_duplicate.as_bytes(),
            b"\xef\xbb\xbf{}",
            b"{} x",
            b"",
            b"{",
            deep.as_bytes(),
            b"\"\xff\"",
        ];
        for case in cases {
            assert!(parse(case, "x").is_err(), "{:?}", String::from_utf8_lossy(&case[..case.len().min(40)]));
        }
        let error = parse(nested_duplicate.as_bytes(), "index.json of d").unwrap_err().to_string();
        assert!(error.starts_with("index.json of d is not a valid JSON document: duplicate name at line 1"), "{error}");
    }

    #[test]
    fn an_error_never_quotes_the_document() {
        let error = parse(b"{\"a\": secret}", "x").unwrap_err();
        assert!(!format!("{error:?}").contains("secret"));
    }

    #[test]
    fn fields_are_named_by_pointer() {
        let value = parse(br#"{"a/b":[{"c":-1}],"n":null}"#, "x").expect("valid");
        let root = Field::root(&value, "x").expect("object");
        let item = root.require("a/b").and_then(|field| field.items()).expect("array").remove(0);
        let error = item.require("c").and_then(|field| field.number()).unwrap_err().to_string();
        assert_eq!(error, "x: /a~1b/0/c is not a number of at least 0");
        assert_eq!(root.require("n").err().expect("null is absent").to_string(), "x: /n is missing");
        assert!(root.optional_texts("n").expect("null is absent").is_empty());
    }
}
