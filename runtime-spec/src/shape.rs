//! The shape of a document as one table: which members an object has, what type each is, and which rule asks for it.
//!
//! The table drives reading (what `oci-spec` gets to see), checking (missing and mistyped members) and writing (the
//! order of members). Left out on purpose: rules about more than one member, see `check`. Needs no kernel.
pub(crate) mod config;
pub(crate) mod linux;
pub(crate) mod other;
pub(crate) mod resources;

use serde_json::{Map, Value};

use crate::node::Node;
use crate::problem::{Report, Rule, Severity, quote};
use crate::rules;

/// What a value may be.
pub(crate) enum Shape {
    /// Anything at all.
    Any,
    /// `true` or `false`.
    Flag,
    /// A string without NUL, which no system call could take.
    Text,
    /// A string in which NUL is nobody's problem.
    Data,
    /// A whole number between the two, inclusive.
    Integer(i128, i128),
    /// One of these strings.
    Word(&'static [&'static str]),
    /// A list.
    List(&'static Shape),
    /// An object with free names.
    Map(&'static Shape),
    /// An object with the members of a table.
    Object(&'static Object),
}

pub(crate) const U16: Shape = Shape::Integer(0, u16::MAX as i128);
pub(crate) const U32: Shape = Shape::Integer(0, u32::MAX as i128);
pub(crate) const U64: Shape = Shape::Integer(0, u64::MAX as i128);
pub(crate) const I32: Shape = Shape::Integer(i32::MIN as i128, i32::MAX as i128);
pub(crate) const I64: Shape = Shape::Integer(i64::MIN as i128, i64::MAX as i128);
pub(crate) const TEXTS: Shape = Shape::List(&Shape::Text);
pub(crate) const STRINGS: Shape = Shape::Map(&Shape::Text);

/// The members of an object, in the order they are written, and the rule that a wrong one breaks.
pub(crate) struct Object {
    pub(crate) rule: Rule,
    pub(crate) fields: &'static [Field],
}

/// One member of an object.
pub(crate) struct Field {
    name: &'static str,
    shape: Shape,
    presence: Presence,
    rule: Option<Rule>,
}

/// What it means that a member is missing.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Presence {
    /// Nothing.
    Optional,
    /// The specification asks for it, but everybody reads its absence as zero: the check warns.
    Expected,
    /// The check reports an error.
    Required,
    /// Reading fails, because `oci-spec` cannot hold the absence or would take a dangerous default for it.
    Vital,
}

const fn field(name: &'static str, shape: Shape, presence: Presence) -> Field {
    Field { name, shape, presence, rule: None }
}

pub(crate) const fn optional(name: &'static str, shape: Shape) -> Field {
    field(name, shape, Presence::Optional)
}

pub(crate) const fn expected(name: &'static str, shape: Shape) -> Field {
    field(name, shape, Presence::Expected)
}

pub(crate) const fn required(name: &'static str, shape: Shape) -> Field {
    field(name, shape, Presence::Required)
}

pub(crate) const fn vital(name: &'static str, shape: Shape) -> Field {
    field(name, shape, Presence::Vital)
}

impl Field {
    /// The same member with a rule of its own.
    pub(crate) const fn by(mut self, rule: Rule) -> Self {
        self.rule = Some(rule);
        self
    }
}

/// Who is asking: reading forgives what it can, checking nothing.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Mode {
    /// Report only what keeps the document from being read; what is dropped becomes a warning.
    Read,
    /// Report everything.
    Check,
}

impl Shape {
    /// The shape of the elements of a list.
    pub(crate) fn element(&self) -> &Shape {
        match self {
            Self::List(shape) => shape,
            _ => &Shape::Any,
        }
    }

    /// The shape of the member called `name`.
    pub(crate) fn named(&self, name: &str) -> &Shape {
        match self {
            Self::Map(shape) => shape,
            Self::Object(object) => object.field(name).map_or(&Shape::Any, |f| &f.shape),
            _ => &Shape::Any,
        }
    }

    /// Where the member called `name` is written: known ones by table, all others behind them.
    pub(crate) fn position(&self, name: &str) -> usize {
        match self {
            Self::Object(object) => object.fields.iter().position(|f| f.name == name).unwrap_or(usize::MAX),
            _ => usize::MAX,
        }
    }

    /// Removes null members that the table knows, and null entries of maps: null means absent.
    pub(crate) fn strip_nulls(&self, value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(|v| self.element().strip_nulls(v)),
            Value::Object(members) if !matches!(self, Self::Any) => {
                members.retain(|name, v| !v.is_null() || matches!(self, Self::Object(o) if o.field(name).is_none()));
                members.iter_mut().for_each(|(name, v)| self.named(name).strip_nulls(v));
            }
            _ => {}
        }
    }

    /// Checks a value against the table. `rule` is the one of the object it belongs to.
    pub(crate) fn walk(&self, node: &Node<'_>, rule: Rule, mode: Mode, report: &mut Report) {
        if report.full() {
            return;
        }
        match (self, node.value) {
            (Self::Any, _) | (Self::Flag, Value::Bool(_)) | (Self::Data, Value::String(_)) => {}
            (Self::Text, Value::String(text)) if text.contains('\0') => {
                report.error(node, rule, "must not contain a NUL character");
            }
            (Self::Text, Value::String(_)) => {}
            (Self::Word(words), Value::String(word)) => {
                if !words.contains(&word.as_str()) {
                    report.error(node, rule, format!("has no meaning for {}", quote(word)));
                }
            }
            (Self::Integer(least, most), Value::Number(_)) => {
                if !node.integer().is_some_and(|n| (least..=most).contains(&&n)) {
                    let message = format!("must be a whole number from {least} to {most}, is {}", node.value);
                    report.error(node, rule, message);
                }
            }
            (Self::List(shape), Value::Array(_)) => walk_list(shape, node, rule, mode, report),
            (Self::Map(shape), Value::Object(_)) => {
                for (name, entry) in node.entries() {
                    if name.contains('\0') && !matches!(shape, Self::Data) {
                        report.error(&entry, rule, "must not have a NUL character in its name");
                    }
                    shape.walk(&entry, rule, mode, report);
                }
            }
            (Self::Object(object), Value::Object(_)) => object.walk(node, mode, report),
            (_, value) => {
                let message = format!("must be {}, is {}", self.article(), kind_of(value));
                report.error(node, rule, message);
            }
        }
    }

    fn article(&self) -> &'static str {
        match self {
            Self::Any => "anything",
            Self::Flag => "true or false",
            Self::Text | Self::Data | Self::Word(_) => "a string",
            Self::Integer(..) => "a whole number",
            Self::List(_) => "a list",
            Self::Map(_) | Self::Object(_) => "an object",
        }
    }

    /// The part of a value that the table knows, as `oci-spec` gets to see it. The value must have passed [`Self::walk`].
    pub(crate) fn known(&self, value: &Value) -> Value {
        match (self, value) {
            (Self::List(Self::Word(words)), Value::Array(items)) => {
                items.iter().filter(|item| item.as_str().is_some_and(|word| words.contains(&word))).cloned().collect()
            }
            (Self::List(shape), Value::Array(items)) => items.iter().map(|item| shape.known(item)).collect(),
            (Self::Map(shape), Value::Object(members)) => {
                let known = members.iter().map(|(n, v)| (n.clone(), shape.known(v)));
                Value::Object(known.collect())
            }
            (Self::Object(object), Value::Object(members)) => {
                let known = object.fields.iter().filter_map(|field| {
                    let value = members.get(field.name)?;
                    Some((field.name.to_owned(), field.shape.known(value)))
                });
                Value::Object(known.collect::<Map<_, _>>())
            }
            (_, value) => value.clone(),
        }
    }

    /// The pointers of all members that no table knows.
    pub(crate) fn unknown(&self, node: &Node<'_>, found: &mut Vec<String>) {
        match self {
            Self::List(shape) => node.items().for_each(|item| shape.unknown(&item, found)),
            Self::Map(shape) => {
                for (_, entry) in node.entries() {
                    shape.unknown(&entry, found);
                }
            }
            Self::Object(object) => {
                for (name, entry) in node.entries() {
                    match object.field(name) {
                        Some(field) => field.shape.unknown(&entry, found),
                        None => found.push(entry.pointer()),
                    }
                }
            }
            _ => {}
        }
    }
}

// A word that a newer kernel or specification may know is forgiven in a list: the rest of the list still has its meaning.
// Capabilities are forgiven by the check too, because the specification says so.
fn walk_list(shape: &Shape, node: &Node<'_>, rule: Rule, mode: Mode, report: &mut Report) {
    for item in node.items() {
        match (shape, item.text()) {
            (Shape::Word(words), Some(word)) if !words.contains(&word) => {
                let forgiven = mode == Mode::Read || rule == rules::CAPABILITIES;
                let severity = if forgiven { Severity::Warning } else { Severity::Error };
                report.add(severity, &item, rule, format!("is {}, which is unknown and ignored", quote(word)));
            }
            _ => shape.walk(&item, rule, mode, report),
        }
    }
}

impl Object {
    fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|f| f.name == name)
    }

    fn walk(&self, node: &Node<'_>, mode: Mode, report: &mut Report) {
        for field in self.fields {
            let rule = field.rule.unwrap_or(self.rule);
            match (node.get(field.name), field.presence, mode) {
                (Some(value), _, _) => field.shape.walk(&value, rule, mode, report),
                (None, Presence::Vital, _) | (None, Presence::Required, Mode::Check) => {
                    report.error(&node.member(field.name), rule, "must be given");
                }
                (None, Presence::Expected, Mode::Check) => {
                    report.warning(&node.member(field.name), rule, "should be given, counts as 0");
                }
                (None, _, _) => {}
            }
        }
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
