//! Reads a profile from JSON: the OCI form and the Docker and Podman form, which is a superset but for `archMap`.
//!
//! Leaves out, on purpose, what only other operating systems have. What is unknown and harmless is passed over.

use super::action::MAX_ERRNO;
use super::filter::{FLAG_LOG, FLAG_SPEC_ALLOW, FLAG_TSYNC, FLAG_WAIT_KILLABLE_RECV};
use super::profile::{Architectures, Gate, Gated};
use super::{Action, Condition, Error, ErrorKind, Operator, Profile, Rule, Warning};
use serde_json::{Map, Value};

/// Reads a profile from the bytes of a JSON text.
pub(super) fn read(bytes: &[u8]) -> Result<Profile, Error> {
    let value = serde_json::from_slice(bytes).map_err(|cause| Error::new(ErrorKind::Json, "", "").caused_by(cause))?;
    profile(&value)
}

/// Reads a profile from a JSON value.
pub(super) fn profile(value: &Value) -> Result<Profile, Error> {
    let Some(map) = value.as_object() else {
        return Err(Error::new(ErrorKind::Field, "the top level", "it is not an object"));
    };
    let object = Object { map, rule: None, path: String::new() };
    let mut profile = Profile::new(object.action("defaultAction", "defaultErrno", "defaultErrnoRet")?);
    if profile.default == Action::Notify {
        return Err(object.wrong("defaultAction", "a filter that notifies of every call would stop its own process"));
    }
    profile.architectures = architectures(&object)?;
    for name in object.strings("flags")? {
        match flag(&name) {
            Some(flag) => profile.flags |= flag,
            None => profile.warnings.push(Warning::UnknownFlag(name)),
        }
    }
    profile.listener_path = object.string("listenerPath")?.map(Into::into);
    profile.listener_metadata = object.string("listenerMetadata")?.map(Into::into);
    if profile.listener_metadata.is_some() && profile.listener_path.is_none() {
        return Err(object.wrong("listenerMetadata", "it needs listenerPath"));
    }
    for (index, value) in object.list("syscalls")?.iter().enumerate() {
        let rule = Object::new(value, Some(index), String::new(), || {
            object.wrong(&format!("syscalls/{index}"), "it is not an object")
        })?;
        profile.rules.push(gated(&rule)?);
    }
    Ok(profile)
}

fn architectures(object: &Object<'_>) -> Result<Architectures, Error> {
    let list = object.strings("architectures")?;
    let map = object.objects("archMap")?;
    if !list.is_empty() && !map.is_empty() {
        return Err(object.wrong("archMap", "architectures says the same"));
    }
    if map.is_empty() {
        return Ok(Architectures::List(list));
    }
    let entry =
        |entry: &Object<'_>| Ok((entry.required("architecture")?.to_owned(), entry.strings("subArchitectures")?));
    Ok(Architectures::Map(map.iter().map(entry).collect::<Result<_, Error>>()?))
}

fn gated(object: &Object<'_>) -> Result<Gated, Error> {
    let mut names = object.strings("names")?;
    if let Some(name) = object.string("name")?.filter(|name| !name.is_empty()) {
        if !names.is_empty() {
            return Err(object.wrong("name", "names says the same"));
        }
        names.push(name.to_owned());
    }
    if names.is_empty() {
        return Err(object.wrong("names", "it must have at least one entry"));
    }
    let action = object.action("action", "errno", "errnoRet")?;
    let conditions = object.objects("args")?.iter().map(condition).collect::<Result<_, _>>()?;
    let rule = Rule { action, names, conditions };
    Ok(Gated { rule, includes: gate(object, "includes")?, excludes: gate(object, "excludes")? })
}

fn condition(object: &Object<'_>) -> Result<Condition, Error> {
    let operator = match object.required("op")? {
        "SCMP_CMP_NE" => Operator::Ne,
        "SCMP_CMP_LT" => Operator::Lt,
        "SCMP_CMP_LE" => Operator::Le,
        "SCMP_CMP_EQ" => Operator::Eq,
        "SCMP_CMP_GE" => Operator::Ge,
        "SCMP_CMP_GT" => Operator::Gt,
        "SCMP_CMP_MASKED_EQ" => Operator::MaskedEq,
        other => return Err(object.wrong("op", format!("{other:?} is no operator"))),
    };
    let index = object.number("index")?.ok_or_else(|| object.wrong("index", "it is missing"))?;
    if index > 5 {
        return Err(object.wrong("index", format!("there is no argument {index}, the last is 5")));
    }
    let value = object.number("value")?.ok_or_else(|| object.wrong("value", "it is missing"))?;
    let value_two = object.number("valueTwo")?.unwrap_or(0);
    Ok(Condition { index, operator, value, value_two })
}

fn gate(object: &Object<'_>, key: &str) -> Result<Gate, Error> {
    let Some(value) = object.value(key) else {
        return Ok(Gate::default());
    };
    let gate =
        Object::new(value, object.rule, format!("{}{key}/", object.path), || object.wrong(key, "it is not an object"))?;
    let capability = |name: String| {
        let name = name.to_ascii_uppercase();
        name.strip_prefix("CAP_").unwrap_or(&name).to_owned()
    };
    let kernel = |text: &str| kernel(text).ok_or_else(|| gate.wrong("minKernel", format!("{text:?} is not like 4.8")));
    Ok(Gate {
        capabilities: gate.strings("caps")?.into_iter().map(capability).collect(),
        architectures: gate.strings("arches")?,
        minimum_kernel: gate.string("minKernel")?.filter(|text| !text.is_empty()).map(kernel).transpose()?,
    })
}

/// The first two numbers of a kernel release like `6.18.44-generic`.
pub(super) fn kernel(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.trim().split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn flag(name: &str) -> Option<u32> {
    match name {
        "SECCOMP_FILTER_FLAG_TSYNC" => Some(FLAG_TSYNC),
        "SECCOMP_FILTER_FLAG_LOG" => Some(FLAG_LOG),
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => Some(FLAG_SPEC_ALLOW),
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => Some(FLAG_WAIT_KILLABLE_RECV),
        _ => None,
    }
}

/// A JSON object, and where it stands, so that each error can say so.
struct Object<'a> {
    map: &'a Map<String, Value>,
    rule: Option<usize>,
    /// Empty, or ends in a slash.
    path: String,
}

impl<'a> Object<'a> {
    fn new(value: &'a Value, rule: Option<usize>, path: String, wrong: impl FnOnce() -> Error) -> Result<Self, Error> {
        value.as_object().map(|map| Self { map, rule, path }).ok_or_else(wrong)
    }

    fn wrong(&self, key: &str, problem: impl Into<String>) -> Error {
        Error::new(ErrorKind::Field, format!("{}{key}", self.path), problem).in_rule(self.rule)
    }

    /// The value of `key`; `null` counts as absent.
    fn value(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    fn string(&self, key: &str) -> Result<Option<&'a str>, Error> {
        let string = |value: &'a Value| value.as_str().ok_or_else(|| self.wrong(key, "it is not a string"));
        self.value(key).map(string).transpose()
    }

    fn required(&self, key: &str) -> Result<&'a str, Error> {
        self.string(key)?.ok_or_else(|| self.wrong(key, "it is missing"))
    }

    fn number(&self, key: &str) -> Result<Option<u64>, Error> {
        let number =
            |value: &Value| value.as_u64().ok_or_else(|| self.wrong(key, "it is not an unsigned 64-bit number"));
        self.value(key).map(number).transpose()
    }

    fn list(&self, key: &str) -> Result<&'a [Value], Error> {
        match self.value(key) {
            None => Ok(&[]),
            Some(value) => value.as_array().map(Vec::as_slice).ok_or_else(|| self.wrong(key, "it is not an array")),
        }
    }

    fn strings(&self, key: &str) -> Result<Vec<String>, Error> {
        let string = |(index, value): (usize, &Value)| {
            let wrong = || self.wrong(&format!("{key}/{index}"), "it is not a string");
            value.as_str().map(str::to_owned).ok_or_else(wrong)
        };
        self.list(key)?.iter().enumerate().map(string).collect()
    }

    fn objects(&self, key: &str) -> Result<Vec<Object<'a>>, Error> {
        let object = |(index, value)| {
            let place = format!("{key}/{index}");
            Object::new(value, self.rule, format!("{}{place}/", self.path), || {
                self.wrong(&place, "it is not an object")
            })
        };
        self.list(key)?.iter().enumerate().map(object).collect()
    }

    /// An action and its error number, which may be given by name (Podman) or as a number.
    fn action(&self, action: &str, errno: &str, errno_ret: &str) -> Result<Action, Error> {
        let name = self.required(action)?;
        let (key, number) = match self.string(errno)?.filter(|name| !name.is_empty()) {
            None => (errno_ret, self.number(errno_ret)?),
            Some(name) => {
                let unknown = || self.wrong(errno, format!("{name:?} is no error number"));
                (errno, Some(super::errno::number(name).ok_or_else(unknown)?))
            }
        };
        let limit = if name == "SCMP_ACT_TRACE" { u64::from(u16::MAX) } else { MAX_ERRNO };
        if let Some(number) = number.filter(|number| *number > limit) {
            return Err(self.wrong(key, format!("{number} is more than {limit}")));
        }
        let data = number.map_or(super::action::EPERM, |number| number as u16);
        let plain = match name {
            "SCMP_ACT_ERRNO" => return Ok(Action::Errno(data)),
            "SCMP_ACT_TRACE" => return Ok(Action::Trace(data)),
            "SCMP_ACT_ALLOW" => Action::Allow,
            "SCMP_ACT_LOG" => Action::Log,
            "SCMP_ACT_NOTIFY" => Action::Notify,
            "SCMP_ACT_TRAP" => Action::Trap,
            "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
            "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
            other => return Err(self.wrong(action, format!("{other:?} is no action"))),
        };
        match number {
            None => Ok(plain),
            Some(_) => Err(self.wrong(key, format!("{name} takes no error number"))),
        }
    }
}
