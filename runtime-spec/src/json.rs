//! JSON in and out: a reader with limits that refuses duplicate names, and a writer whose output depends on the value
//! alone.
//!
//! Left out on purpose: streaming, comments, and numbers beyond 64 bits. Needs no kernel.
use std::cell::{Cell, RefCell};
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::error::{Error, ErrorKind};
use crate::node::escape;
use crate::shape::Shape;

/// The largest document that is read, in bytes. The largest known real configuration is below 1 MiB.
pub(crate) const LARGEST: usize = 16 << 20;
/// The deepest nesting. The specification needs seven levels; `serde_json` alone would stop at 128.
const DEEPEST: usize = 100;
/// The most values, names not counted: bounds the memory for a document of nothing but commas.
const MOST_VALUES: usize = 1_000_000;

/// Parses `bytes`; `action` is used for the error, such as `parse configuration`.
pub(crate) fn parse(bytes: &[u8], action: &'static str) -> Result<Value, Error> {
    if bytes.len() > LARGEST {
        let detail = format!("more than {LARGEST} bytes");
        return Err(Error::new(ErrorKind::TooLarge, action).detail(detail));
    }
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let detail = format!("not UTF-8 at byte {}", e.valid_up_to());
        Error::new(ErrorKind::Encoding, action).detail(detail).source(e)
    })?;
    let state = State::default();
    let mut reader = serde_json::Deserializer::from_str(text);
    let seed = Reader { state: &state, depth: 0 };
    let parsed = seed.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    parsed.map_err(|source| {
        // serde_json itself reports an exponent beyond f64, and has no public category for it.
        let overflow = source.to_string().starts_with("number out of range");
        let other = if overflow { ErrorKind::Number } else { ErrorKind::Syntax };
        let kind = state.fault.get().unwrap_or(other);
        let detail = format!("line {} column {}", source.line(), source.column());
        Error::new(kind, action).detail(detail).pointer_to(state.pointer()).source(source)
    })
}

#[derive(Default)]
struct State {
    place: RefCell<Vec<Step>>,
    fault: Cell<Option<ErrorKind>>,
    values: Cell<usize>,
}

enum Step {
    Name(String),
    Index(usize),
}

impl State {
    fn fault<E: serde::de::Error>(&self, kind: ErrorKind, message: impl fmt::Display) -> E {
        self.fault.set(Some(kind));
        E::custom(message)
    }

    // On failure the steps stay where they are, so this is the place of the failure.
    fn pointer(&self) -> String {
        let place = self.place.borrow();
        place.iter().fold(String::new(), |pointer, step| match step {
            Step::Name(name) => pointer + "/" + &escape(name),
            Step::Index(index) => format!("{pointer}/{index}"),
        })
    }
}

#[derive(Clone, Copy)]
struct Reader<'s> {
    state: &'s State,
    depth: usize,
}

impl<'s> Reader<'s> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth >= DEEPEST {
            return Err(self.state.fault(ErrorKind::TooDeep, format!("more than {DEEPEST} levels of nesting")));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let count = self.state.values.get() + 1;
        self.state.values.set(count);
        if count > MOST_VALUES {
            let message = format!("more than {MOST_VALUES} values");
            return Err(self.state.fault(ErrorKind::TooLarge, message));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
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

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        // serde_json turns an integer beyond 64 bits into a float; keeping that would change the document on writing.
        if value.abs() >= 9_223_372_036_854_775_808.0 {
            return Err(self.state.fault(ErrorKind::Number, "a number does not fit into 64 bits"));
        }
        serde_json::Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut items = Vec::new();
        loop {
            self.state.place.borrow_mut().push(Step::Index(items.len()));
            let item = list.next_element_seed(inner)?;
            self.state.place.borrow_mut().pop();
            match item {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            self.state.place.borrow_mut().push(Step::Name(name.clone()));
            if members.contains_key(&name) {
                let message = format!("the name {name:?} occurs twice in one object");
                return Err(self.state.fault(ErrorKind::DuplicateName, message));
            }
            members.insert(name, map.next_value_seed(inner)?);
            self.state.place.borrow_mut().pop();
        }
        Ok(Value::Object(members))
    }
}

/// Writes `value` with two spaces of indentation and a final newline: known members in the order of the
/// specification, all others after them in the order of their names.
pub(crate) fn write(value: &Value, shape: &Shape) -> String {
    let mut out = String::new();
    write_value(value, shape, 0, &mut out);
    out.push('\n');
    out
}

fn write_value(value: &Value, shape: &Shape, depth: usize, out: &mut String) {
    match value {
        Value::Array(items) if !items.is_empty() => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                line(i, depth + 1, out);
                write_value(item, shape.element(), depth + 1, out);
            }
            line(0, depth, out);
            out.push(']');
        }
        Value::Object(members) if !members.is_empty() => {
            out.push('{');
            let mut names: Vec<&String> = members.keys().collect();
            names.sort_by_key(|name| (shape.position(name), *name));
            for (i, name) in names.into_iter().enumerate() {
                line(i, depth + 1, out);
                out.push_str(&Value::String(name.clone()).to_string());
                out.push_str(": ");
                write_value(&members[name], shape.named(name), depth + 1, out);
            }
            line(0, depth, out);
            out.push('}');
        }
        scalar_or_empty => out.push_str(&scalar_or_empty.to_string()),
    }
}

fn line(before: usize, depth: usize, out: &mut String) {
    if before > 0 {
        out.push(',');
    }
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn kind(text: &[u8]) -> ErrorKind {
        parse(text, "parse text").unwrap_err().kind()
    }

    #[test]
    fn rs_003_duplicate_names_are_refused_with_their_place() {
        let error = parse(br#"{"a": [1, {"b/c": 1, "b/c": 2}]}"#, "parse text").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DuplicateName);
        assert_eq!(error.pointer(), Some("/a/1/b~1c"));
        assert_eq!(error.to_string(), "cannot parse text: line 1 column 26 at /a/1/b~1c");
        // The same name spelled with an escape is the same name.
        assert_eq!(kind(br#"{"a": 1, "\u0061": 2}"#), ErrorKind::DuplicateName);
        // The same name in different objects is fine.
        assert!(parse(br#"{"a": {"a": 1}}"#, "parse text").is_ok());
    }

    #[test]
    fn bad_text_is_refused_with_its_kind() {
        assert_eq!(kind(b"{]"), ErrorKind::Syntax);
        assert_eq!(kind(b""), ErrorKind::Syntax);
        assert_eq!(kind(b"{} {}"), ErrorKind::Syntax);
        assert_eq!(kind(b"[NaN]"), ErrorKind::Syntax);
        assert_eq!(kind(b"[\"\xff\"]"), ErrorKind::Encoding);
        assert_eq!(kind(b"[18446744073709551616]"), ErrorKind::Number);
        assert_eq!(kind(b"[-9223372036854775809]"), ErrorKind::Number);
        assert!(parse(b"[18446744073709551615, -9223372036854775808, 1.5]", "").is_ok());
        let error = parse(br#"{"a": {"b": [1, }}"#, "parse text").unwrap_err();
        assert_eq!(error.pointer(), Some("/a/b/1"));
    }

    #[test]
    fn hostile_documents_are_refused_quickly() {
        let digits = format!("[{}]", "9".repeat(8 << 20));
        let commas = format!("[{}1]", "1,".repeat(7 << 20));
        let cases: [(Vec<u8>, ErrorKind); 6] = [
            (vec![b'['; 100_000], ErrorKind::TooDeep),
            ("{\"a\":".repeat(100_000).into_bytes(), ErrorKind::TooDeep),
            (vec![b' '; 64 << 20], ErrorKind::TooLarge),
            (commas.into_bytes(), ErrorKind::TooLarge),
            (digits.into_bytes(), ErrorKind::Number),
            (b"[1e999999999]".to_vec(), ErrorKind::Number),
        ];
        for (text, expected) in cases {
            let start = Instant::now();
            let error = parse(&text, "parse text").unwrap_err();
            assert_eq!(error.kind(), expected, "{error}");
            // One second in a release build; debug builds on a shared machine get more.
            assert!(start.elapsed() < Duration::from_secs(5), "{expected:?} took {:?}", start.elapsed());
        }
    }

    #[test]
    fn depth_limit_is_exact() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(parse(nested(DEEPEST).as_bytes(), "").is_ok());
        assert_eq!(kind(nested(DEEPEST + 1).as_bytes()), ErrorKind::TooDeep);
    }

    #[test]
    fn writer_is_ordered_and_indented() {
        let value = serde_json::json!({"z": [], "a": {}, "m": [1, {"k": "\u{1}"}]});
        let text = write(&value, &Shape::Any);
        let expected =
            "{\n  \"a\": {},\n  \"m\": [\n    1,\n    {\n      \"k\": \"\\u0001\"\n    }\n  ],\n  \"z\": []\n}\n";
        assert_eq!(text, expected);
        assert_eq!(parse(text.as_bytes(), "").unwrap(), value);
    }
}
