//! A configuration (`config.json`): the document as it was read, and `oci-spec`'s view of it.
//!
//! Left out on purpose: what a runtime does with it. Needs no kernel.
use std::path::Path;
use std::str::FromStr;

use oci_spec::runtime::Spec;
use serde_json::{Map, Value};

use crate::error::{Error, ErrorKind};
use crate::node::Node;
use crate::problem::{Problem, Report, Severity};
use crate::shape::Mode;
use crate::shape::config::CONFIG;
use crate::{check, file, json, merge, rules, view};

const PARSE: &str = "parse configuration";
const CHANGE: &str = "change configuration";

/// A container's configuration.
///
/// Reading is lenient: unknown members are kept and ignored, null counts as absent, and a capability, architecture or
/// flag that this version does not know is left out of [`Config::spec`] with a [warning](Config::warnings). Values that
/// cannot be understood (a wrong type, an unknown action, a NUL in a path) are an error, because guessing would be worse.
/// [`Config::check`] is strict. Writing is deterministic and keeps everything that was read.
///
/// ```
/// use keelbox_runtime_spec::Config;
///
/// let mut config = Config::from_json(br#"{"ociVersion": "1.3.0", "root": {"path": "rootfs"}, "x-vendor": 7}"#)?;
/// config.edit(|spec| {
///     spec.set_hostname(Some("web-1".into()));
/// })?;
/// assert_eq!(config.spec().hostname().as_deref(), Some("web-1"));
/// assert!(config.to_json().contains("\"x-vendor\": 7"));
/// # Ok::<(), keelbox_runtime_spec::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    raw: Value,
    spec: Spec,
    warnings: Vec<Problem>,
}

impl Config {
    /// Reads a configuration from JSON text.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Syntax`], [`ErrorKind::Encoding`], [`ErrorKind::DuplicateName`], [`ErrorKind::TooLarge`] (16 MiB or a
    /// million values), [`ErrorKind::TooDeep`] (100 levels), [`ErrorKind::Number`] (beyond 64 bits), and
    /// [`ErrorKind::Value`] for a value that cannot be understood; see [`Error::problems`].
    pub fn from_json(text: &[u8]) -> Result<Self, Error> {
        Self::from_value(json::parse(text, PARSE)?, PARSE)
    }

    /// Reads a configuration from a regular file.
    ///
    /// # Errors
    ///
    /// As [`Config::from_json`], and what the operating system says about the file.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        Self::from_json(&file::read(path)?).map_err(|e| e.path(path))
    }

    /// Writes the configuration to a file, atomically: a temporary file beside it is renamed over it.
    ///
    /// # Errors
    ///
    /// What the operating system says about the file or its directory.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        file::replace(path.as_ref(), &self.to_json())
    }

    pub(crate) fn from_value(mut raw: Value, action: &'static str) -> Result<Self, Error> {
        CONFIG.strip_nulls(&mut raw);
        let mut report = Report::default();
        CONFIG.walk(&Node::root(&raw), rules::VALUES, Mode::Read, &mut report);
        let (broken, warnings): (Vec<_>, Vec<_>) =
            report.finish().into_iter().partition(|p| p.severity() == Severity::Error);
        if !broken.is_empty() {
            return Err(Error::values(action, broken));
        }
        let spec = view::spec(&raw).map_err(|e| Error::new(ErrorKind::Value, action).source(e))?;
        Ok(Self { raw, spec, warnings })
    }

    /// What `oci-spec` can hold of the configuration.
    ///
    /// Differences from the document: `process.user` is there whenever `process` is; `linux.resources.pids` is absent when
    /// it has no `limit`; a huge page limit above [`i64::MAX`] is [`i64::MAX`]; members unknown to `oci-spec` are missing.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The view alone; members unknown to `oci-spec` are lost.
    pub fn into_spec(self) -> Spec {
        self.spec
    }

    /// Changes the configuration through `oci-spec`'s type, and returns what `change` returns.
    ///
    /// Members that `oci-spec` does not know stay where they are, also inside list elements that were not both moved and
    /// changed. A changed list of plain words loses the words that this version does not know.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Value`] if the result could not be read back, such as a path that is not UTF-8; the configuration is
    /// then unchanged.
    pub fn edit<R>(&mut self, change: impl FnOnce(&mut Spec) -> R) -> Result<R, Error> {
        let write = |spec: &Spec| view::value(spec).map_err(|e| Error::new(ErrorKind::Value, CHANGE).source(e));
        let mut spec = self.spec.clone();
        let result = change(&mut spec);
        let mut raw = self.raw.clone();
        merge::merge(&mut raw, &write(&self.spec)?, &write(&spec)?);
        *self = Self::from_value(raw, CHANGE)?;
        Ok(result)
    }

    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Value)) -> Result<(), Error> {
        let mut raw = self.raw.clone();
        change(&mut raw);
        *self = Self::from_value(raw, CHANGE)?;
        Ok(())
    }

    pub(crate) fn raw(&self) -> &Value {
        &self.raw
    }

    /// The configuration as JSON text: two spaces of indentation, known members in the order of the specification, all
    /// others and all map entries sorted by name. Equal configurations give equal text.
    pub fn to_json(&self) -> String {
        json::write(&self.raw, &CONFIG)
    }

    /// What was left out of [`Config::spec`] because this version does not know it.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// Checks everything that can be checked without a kernel: first each value for itself, then what belongs together. At
    /// most 1,000 problems.
    ///
    /// Rules for Linux apply if there is a `linux` member, or no member for another platform.
    pub fn check(&self) -> Vec<Problem> {
        check::config(&self.raw)
    }

    /// The JSON pointers of all members that neither the specification nor this crate knows. They are ignored, as the
    /// specification demands (RS-005); a tool may show them, as one of them may be a typing error.
    pub fn unknown(&self) -> Vec<String> {
        let mut found = Vec::new();
        CONFIG.unknown(&Node::root(&self.raw), &mut found);
        found
    }

    /// Any part of the document, as JSON text: also what `oci-spec` cannot hold.
    ///
    /// ```
    /// # use keelbox_runtime_spec::Config;
    /// let mut config = Config::new();
    /// config.insert("/freebsd/jail/host", "\"new\"")?;
    /// assert_eq!(config.property("/freebsd/jail").as_deref(), Some(r#"{"host":"new"}"#));
    /// # Ok::<(), keelbox_runtime_spec::Error>(())
    /// ```
    pub fn property(&self, pointer: &str) -> Option<String> {
        self.raw.pointer(pointer).map(Value::to_string)
    }

    /// Puts JSON text at a pointer, replacing what is there. Missing objects on the way are made; `-` appends to a list.
    ///
    /// # Errors
    ///
    /// As [`Config::from_json`] for the text and for the result; [`ErrorKind::Pointer`] if the pointer leads nowhere. The
    /// configuration is then unchanged.
    pub fn insert(&mut self, pointer: &str, text: &str) -> Result<(), Error> {
        let value = json::parse(text.as_bytes(), "parse value")?;
        let mut raw = self.raw.clone();
        *slot(&mut raw, pointer)? = value;
        *self = Self::from_value(raw, CHANGE)?;
        Ok(())
    }

    /// Removes what is at a pointer, and says whether anything was there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Value`] if the rest could not be read without it, such as `/process/cwd`.
    pub fn remove(&mut self, pointer: &str) -> Result<bool, Error> {
        let mut raw = self.raw.clone();
        let Some((parent, name)) = pointer.rsplit_once('/') else {
            return Ok(false);
        };
        let removed = match raw.pointer_mut(parent) {
            Some(Value::Object(members)) => members.remove(&unescape(name)).is_some(),
            Some(Value::Array(items)) => match name.parse::<usize>() {
                Ok(index) if index < items.len() => {
                    items.remove(index);
                    true
                }
                _ => false,
            },
            _ => false,
        };
        *self = Self::from_value(raw, CHANGE)?;
        Ok(removed)
    }

    /// `linux.resources.pids.limit`: the most processes, -1 for no limit, 0 for none at all, `None` if not given.
    pub fn pids_limit(&self) -> Option<i64> {
        self.raw.pointer("/linux/resources/pids/limit")?.as_i64()
    }

    /// `linux.resources.hugepageLimits`: page size (such as `2MB`) and limit in bytes, with the full 64 bits.
    pub fn huge_page_limits(&self) -> Vec<(String, u64)> {
        let limits = self.raw.pointer("/linux/resources/hugepageLimits");
        let limits = limits.and_then(Value::as_array).into_iter().flatten();
        let entry = |limit: &Value| Some((limit.get("pageSize")?.as_str()?.to_owned(), limit.get("limit")?.as_u64()?));
        limits.filter_map(entry).collect()
    }
}

impl FromStr for Config {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::from_json(text.as_bytes())
    }
}

impl TryFrom<Spec> for Config {
    type Error = Error;

    /// Fails with [`ErrorKind::Value`] if the specification's JSON could not hold it, such as a path that is not UTF-8.
    fn try_from(spec: Spec) -> Result<Self, Error> {
        const CONVERT: &str = "convert specification";
        let raw = view::value(&spec).map_err(|e| Error::new(ErrorKind::Value, CONVERT).source(e))?;
        Self::from_value(raw, CONVERT)
    }
}

/// Checks JSON text as [`Config::check`] does, also if [`Config::from_json`] would refuse it.
///
/// # Errors
///
/// As [`Config::from_json`], except [`ErrorKind::Value`]: values are what is reported.
///
/// ```
/// let problems = keelbox_runtime_spec::check_json(br#"{"ociVersion": "1.3.0", "root": {"path": 7}}"#)?;
/// assert_eq!(problems[0].to_string(), "/root/path: RS-011 must be a string, is a number");
/// # Ok::<(), keelbox_runtime_spec::Error>(())
/// ```
pub fn check_json(text: &[u8]) -> Result<Vec<Problem>, Error> {
    let mut raw = json::parse(text, PARSE)?;
    CONFIG.strip_nulls(&mut raw);
    Ok(check::config(&raw))
}

/// Reads what `process` is in a configuration from a text of its own, as runtimes take it for a further program in a container, and
/// checks it strictly.
///
/// # Errors
///
/// As [`Config::from_json`]; [`ErrorKind::Value`] also for what [`Config::check`] finds to be an error. Pointers begin with `/process`.
///
/// ```
/// let process = keelbox_runtime_spec::process_from_json(br#"{"cwd": "/", "args": ["ls"], "user": {"uid": 5, "gid": 5}}"#)?;
/// assert_eq!(process.user().uid(), 5);
/// assert!(keelbox_runtime_spec::process_from_json(br#"{"cwd": "srv", "args": ["ls"]}"#).is_err());
/// # Ok::<(), keelbox_runtime_spec::Error>(())
/// ```
pub fn process_from_json(text: &[u8]) -> Result<oci_spec::runtime::Process, Error> {
    const PROCESS: &str = "parse process";
    let process = json::parse(text, PROCESS)?;
    if !process.is_object() {
        return Err(Error::new(ErrorKind::Value, PROCESS).pointer_to("/process".to_owned()));
    }
    let mut raw = serde_json::json!({ "ociVersion": "1.3.0", "process": process });
    CONFIG.strip_nulls(&mut raw);
    let serious =
        |problem: &Problem| problem.severity() == Severity::Error && problem.pointer().starts_with("/process");
    let problems: Vec<Problem> = check::config(&raw).into_iter().filter(serious).collect();
    if !problems.is_empty() {
        return Err(Error::values(PROCESS, problems));
    }
    let spec = Config::from_value(raw, PROCESS)?.into_spec();
    spec.process().clone().ok_or_else(|| Error::new(ErrorKind::Value, PROCESS))
}

fn unescape(name: &str) -> String {
    name.replace("~1", "/").replace("~0", "~")
}

fn slot<'v>(raw: &'v mut Value, pointer: &str) -> Result<&'v mut Value, Error> {
    let nowhere = || Error::new(ErrorKind::Pointer, CHANGE).pointer_to(pointer.to_owned());
    if pointer.is_empty() {
        return Ok(raw);
    }
    let names = pointer.strip_prefix('/').ok_or_else(nowhere)?;
    // Bounds the depth of the document, whatever the pointer: dropping a value recurses.
    if names.matches('/').count() > 64 {
        return Err(nowhere());
    }
    names.split('/').map(unescape).try_fold(raw, |place, name| {
        if place.is_null() {
            *place = Value::Object(Map::new());
        }
        match place {
            Value::Object(members) => Ok(members.entry(name).or_insert(Value::Null)),
            Value::Array(items) => {
                let index = match name.as_str() {
                    "-" => items.len(),
                    digits => digits.parse().map_err(|_| nowhere())?,
                };
                if index == items.len() {
                    items.push(Value::Null);
                }
                items.get_mut(index).ok_or_else(nowhere)
            }
            _ => Err(nowhere()),
        }
    })
}
