//! The state of a container (runtime.md#state), and what a seccomp agent is sent about a process.
//!
//! Left out on purpose: where state is kept and how it is locked. Needs no kernel.
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde_json::{Map, Value, json};

use crate::error::{Error, ErrorKind};
use crate::id::ContainerId;
use crate::node::Node;
use crate::problem::{Problem, Report, quote};
use crate::shape::Mode;
use crate::shape::Shape;
use crate::shape::config::{PROCESS_STATE, STATE};
use crate::{check, file, json, names, rules};

/// The words for [`Status`], in the order of its variants.
pub(crate) const STATUSES: &[&str] = &["creating", "created", "running", "paused", "stopped"];

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Status {
    /// The container is being made.
    Creating,
    /// The container is made, and its program has not been started.
    Created,
    /// The program runs.
    Running,
    /// The processes are frozen. Not in the specification, which allows further values, nor in its schema; all runtimes
    /// have it.
    Paused,
    /// The program has ended.
    Stopped,
}

impl Status {
    /// The word of the specification, such as `running`.
    pub fn as_str(self) -> &'static str {
        STATUSES[self as usize]
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Status {
    type Err = Error;

    /// Fails with [`ErrorKind::Value`] for a word that is none of the five.
    fn from_str(text: &str) -> Result<Self, Error> {
        let all = [Self::Creating, Self::Created, Self::Running, Self::Paused, Self::Stopped];
        all.into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| Error::new(ErrorKind::Value, "understand container status").detail(quote(text)))
    }
}

/// The state of a container, as `state` prints it and hooks read it from their standard input.
///
/// ```
/// use keelbox_runtime_spec::{State, Status};
///
/// let mut state = State::new("web-1".parse()?, Status::Running, "/srv/web");
/// state.pid = Some(4242);
/// assert!(state.check().is_empty());
/// assert_eq!(State::from_json(state.to_json()?.as_bytes())?, state);
/// # Ok::<(), keelbox_runtime_spec::Error>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct State {
    /// The version of the specification. Default: [`names::OCI_VERSION`].
    pub oci_version: String,
    /// The id, unique on the host.
    pub id: ContainerId,
    /// Where the container is in its life.
    pub status: Status,
    /// The container's first process, as the reader sees it. Default: `None`; must be given when created or running.
    pub pid: Option<i32>,
    /// The absolute path of the bundle.
    pub bundle: PathBuf,
    /// The annotations of the configuration. Default: empty, and then not written.
    pub annotations: BTreeMap<String, String>,
}

impl State {
    /// A state without pid and annotations.
    pub fn new(id: ContainerId, status: Status, bundle: impl Into<PathBuf>) -> Self {
        Self {
            oci_version: names::OCI_VERSION.to_owned(),
            id,
            status,
            pid: None,
            bundle: bundle.into(),
            annotations: BTreeMap::new(),
        }
    }

    /// Reads a state from JSON text. Unknown members are ignored.
    ///
    /// # Errors
    ///
    /// As [`crate::Config::from_json`], and [`ErrorKind::Id`].
    pub fn from_json(text: &[u8]) -> Result<Self, Error> {
        const PARSE: &str = "parse container state";
        Self::from_value(&parse(text, &STATE, PARSE)?, PARSE)
    }

    /// Reads a state from a file.
    ///
    /// # Errors
    ///
    /// As [`State::from_json`], and what the operating system says about the file.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        Self::from_json(&file::read(path)?).map_err(|e| e.path(path))
    }

    /// Writes the state to a file, atomically.
    ///
    /// # Errors
    ///
    /// As [`State::to_json`], and what the operating system says about the file or its directory.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        file::replace(path.as_ref(), &self.to_json()?)
    }

    /// The state as JSON text.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Encoding`] if the path of the bundle is not UTF-8, which JSON cannot hold.
    pub fn to_json(&self) -> Result<String, Error> {
        Ok(json::write(&self.to_value()?, &STATE))
    }

    /// Checks what [`State::from_json`] forgives: version, absolute bundle path, pid where one must be (RS-120).
    pub fn check(&self) -> Vec<Problem> {
        let value = json!({
            "ociVersion": self.oci_version, "pid": self.pid, "annotations": self.annotations,
            "bundle": self.bundle.to_string_lossy(),
        });
        let node = Node::root(&value);
        let mut report = Report::default();
        check::oci_version(&node.member("ociVersion"), rules::STATE, &mut report);
        if !self.bundle.is_absolute() {
            report.error(&node.member("bundle"), rules::STATE, "must be an absolute path");
        }
        let alive = matches!(self.status, Status::Created | Status::Running | Status::Paused);
        if alive && self.pid.is_none() {
            let message = format!("must be given for a container that is {}", self.status);
            report.error(&node.member("pid"), rules::STATE, message);
        }
        if let Some(pid) = self.pid.filter(|pid| *pid < 0 || (alive && *pid == 0)) {
            report.error(&node.member("pid"), rules::STATE, format!("{pid} is no process id"));
        }
        for (name, entry) in node.member("annotations").entries() {
            if name.is_empty() {
                report.error(&entry, rules::ANNOTATIONS, "must not have an empty name");
            }
        }
        report.finish()
    }

    fn to_value(&self) -> Result<Value, Error> {
        let bundle = self.bundle.to_str().ok_or_else(|| {
            Error::new(ErrorKind::Encoding, "write container state with bundle path").path(&self.bundle)
        })?;
        let mut value = json!({
            "ociVersion": self.oci_version, "id": self.id.as_str(), "status": self.status.as_str(), "bundle": bundle,
        });
        if let Some(pid) = self.pid {
            value["pid"] = pid.into();
        }
        if !self.annotations.is_empty() {
            let entries = self.annotations.iter().map(|(k, v)| (k.clone(), v.as_str().into()));
            value["annotations"] = Value::Object(entries.collect::<Map<_, _>>());
        }
        Ok(value)
    }

    // The walk has made sure of the types, so that a missing text can only be an optional one.
    fn from_value(value: &Value, action: &'static str) -> Result<Self, Error> {
        let node = Node::root(value);
        let text = |name| node.text_at(name).unwrap_or_default().to_owned();
        let pid = node.integer_at("pid").and_then(|pid| i32::try_from(pid).ok());
        let annotations = node.member("annotations").entries().into_iter();
        let id = ContainerId::new(text("id"))
            .map_err(|e| Error::new(ErrorKind::Id, action).pointer_to("/id".to_owned()).source(e))?;
        Ok(Self {
            oci_version: text("ociVersion"),
            id,
            status: text("status").parse()?,
            pid,
            bundle: text("bundle").into(),
            annotations: annotations
                .map(|(name, entry)| (name.to_owned(), entry.text().unwrap_or_default().to_owned()))
                .collect(),
        })
    }
}

pub(crate) fn parse(text: &[u8], shape: &'static Shape, action: &'static str) -> Result<Value, Error> {
    let mut value = json::parse(text, action)?;
    shape.strip_nulls(&mut value);
    let mut report = Report::default();
    shape.walk(&Node::root(&value), rules::VALUES, Mode::Read, &mut report);
    let problems = report.finish();
    match problems.is_empty() {
        true => Ok(value),
        false => Err(Error::values(action, problems)),
    }
}

/// What a runtime sends a seccomp agent together with a listener (config-linux.md#the-container-process-state).
///
/// ```
/// use keelbox_runtime_spec::{ProcessState, State, Status};
///
/// let state = State::new("web-1".parse()?, Status::Creating, "/srv/web");
/// let message = ProcessState::new(4242, state).to_json()?;
/// assert!(message.contains("\"seccompFd\""));
/// # Ok::<(), keelbox_runtime_spec::Error>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct ProcessState {
    /// The version of the specification. Default: [`names::OCI_VERSION`].
    pub oci_version: String,
    /// The names of the descriptors that travel along, in their order. Default: `seccompFd` alone.
    pub fds: Vec<String>,
    /// The process the listener is for, as the runtime sees it.
    pub pid: i32,
    /// `linux.seccomp.listenerMetadata`, opaque. Default: `None`, and then written as an empty string.
    pub metadata: Option<String>,
    /// The state of the container.
    pub state: State,
}

impl ProcessState {
    /// The name of the one descriptor the specification defines.
    pub const SECCOMP_FD: &'static str = "seccompFd";

    /// A message about process `pid` with one listener.
    pub fn new(pid: i32, state: State) -> Self {
        Self {
            oci_version: names::OCI_VERSION.to_owned(),
            fds: vec![Self::SECCOMP_FD.to_owned()],
            pid,
            metadata: None,
            state,
        }
    }

    /// The message as JSON text.
    ///
    /// # Errors
    ///
    /// As [`State::to_json`].
    pub fn to_json(&self) -> Result<String, Error> {
        let value = json!({
            "ociVersion": self.oci_version, "fds": self.fds, "pid": self.pid,
            "metadata": self.metadata.as_deref().unwrap_or_default(), "state": self.state.to_value()?,
        });
        Ok(json::write(&value, &PROCESS_STATE))
    }

    /// Reads a message, as an agent does.
    ///
    /// # Errors
    ///
    /// As [`State::from_json`].
    pub fn from_json(text: &[u8]) -> Result<Self, Error> {
        const PARSE: &str = "parse container process state";
        let value = parse(text, &PROCESS_STATE, PARSE)?;
        let node = Node::root(&value);
        let text = |node: &Node<'_>| node.text().unwrap_or_default().to_owned();
        let pid = node.integer_at("pid").and_then(|pid| i32::try_from(pid).ok());
        Ok(Self {
            oci_version: text(&node.member("ociVersion")),
            fds: node.list("fds").iter().map(text).collect(),
            pid: pid.unwrap_or_default(),
            metadata: node.text_at("metadata").filter(|text| !text.is_empty()).map(str::to_owned),
            state: State::from_value(node.member("state").value, PARSE)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(status: Status) -> State {
        State::new(ContainerId::new("a").unwrap(), status, "/b")
    }

    #[test]
    fn rs_120_pid_and_bundle() {
        for (status, alive) in
            [(Status::Creating, false), (Status::Created, true), (Status::Running, true), (Status::Stopped, false)]
        {
            let problems = state(status).check();
            assert_eq!(problems.len(), usize::from(alive), "{status}");
            let mut with_pid = state(status);
            with_pid.pid = Some(7);
            assert!(with_pid.check().is_empty());
        }
        for (status, pid, wrong) in
            [(Status::Stopped, -1, true), (Status::Stopped, 0, false), (Status::Running, 0, true)]
        {
            let mut odd = state(status);
            odd.pid = Some(pid);
            assert_eq!(!odd.check().is_empty(), wrong, "{status} {pid}");
        }
        let mut relative = state(Status::Stopped);
        relative.bundle = "b".into();
        assert_eq!(relative.check()[0].pointer(), "/bundle");
        relative.oci_version = "1".into();
        relative.annotations.insert(String::new(), String::new());
        assert_eq!(relative.check().len(), 3);
    }

    #[test]
    fn rs_121_status_words() {
        for word in STATUSES {
            assert_eq!(word.parse::<Status>().unwrap().to_string(), *word);
        }
        let error = "gone".parse::<Status>().unwrap_err();
        assert_eq!(error.to_string(), "cannot understand container status: \"gone\"");
    }

    #[test]
    fn state_that_is_no_state_is_refused() {
        let cases = [
            (r#"{"ociVersion":"1.3.0","id":"a","status":"running"}"#, "/bundle"),
            (r#"{"ociVersion":"1.3.0","id":"a","status":"gone","bundle":"/b"}"#, "/status"),
            (r#"{"ociVersion":"1.3.0","id":"a/b","status":"stopped","bundle":"/b"}"#, "/id"),
            (r#"{"ociVersion":"1.3.0","id":"a","status":"stopped","bundle":"/b","pid":-1}"#, "/pid"),
            (r#"{"ociVersion":"1.3.0","id":"a","status":"stopped","bundle":"/b\u0000"}"#, "/bundle"),
        ];
        for (text, pointer) in cases {
            let error = State::from_json(text.as_bytes()).unwrap_err();
            assert_eq!(error.pointer(), Some(pointer), "{error}");
        }
    }

    #[test]
    fn rs_097_process_state_round_trip() {
        let mut message = ProcessState::new(9, state(Status::Creating));
        message.metadata = Some("m".into());
        let text = message.to_json().unwrap();
        assert_eq!(ProcessState::from_json(text.as_bytes()).unwrap(), message);
    }
}
