//! What a runtime can do, as the `features` command prints it (features.md, features-linux.md).
//!
//! Left out on purpose: finding anything out. The caller knows what it is compiled with; this crate only knows the words.
//! Needs no kernel.
mod linux;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
use crate::node::Node;
use crate::problem::{Problem, Report};
use crate::shape::config::FEATURES;
use crate::{check, json, names, rules, state, version};

pub use linux::{
    CgroupFeatures, Enabled, IntelRdtFeatures, LinuxFeatures, MemoryPolicyFeatures, MountExtensions, SeccompFeatures,
};

/// Whether something is built into a runtime. What the host has is another question.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Support {
    /// It is built in.
    Present,
    /// It is not.
    Absent,
}

impl Support {
    fn flag(self) -> Option<bool> {
        Some(self == Self::Present)
    }

    fn enabled(self) -> Enabled {
        Enabled { enabled: self.flag() }
    }
}

/// A features document. `None` means "unknown" everywhere, which is not the same as empty or `false` (RS-151).
///
/// ```
/// use keelbox_runtime_spec::{Features, LinuxFeatures, Support};
///
/// let linux = LinuxFeatures::recognised()
///     .cgroup_v1(Support::Present)
///     .cgroup_v2(Support::Present)
///     .seccomp(Support::Present)
///     .idmap_mounts(Support::Present);
/// let features = Features::recognised().linux(linux).annotation("org.example.version", "0.1.0");
/// assert!(features.check().is_empty());
/// assert!(features.to_json()?.contains("\"ociVersionMax\": \"1.3.0\""));
/// # Ok::<(), keelbox_runtime_spec::Error>(())
/// ```
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
#[must_use]
pub struct Features {
    /// The oldest version accepted as `ociVersion`. Default: [`names::OCI_VERSION_MIN`].
    pub oci_version_min: String,
    /// The newest version accepted as `ociVersion`. Default: [`names::OCI_VERSION`].
    pub oci_version_max: String,
    /// The hooks that are called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Vec<String>>,
    /// The mount options that are understood, without those a file system takes as data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount_options: Option<Vec<String>>,
    /// What is particular to Linux.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linux: Option<LinuxFeatures>,
    /// Anything the implementation wants to tell, such as its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Annotations in `config.json` that change what the runtime does; one that ends with a dot stands for all that begin so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub potentially_unsafe_config_annotations: Option<Vec<String>>,
}

impl Features {
    /// A document that says nothing but its versions.
    pub fn new() -> Self {
        Self {
            oci_version_min: names::OCI_VERSION_MIN.to_owned(),
            oci_version_max: names::OCI_VERSION.to_owned(),
            hooks: None,
            mount_options: None,
            linux: None,
            annotations: None,
            potentially_unsafe_config_annotations: None,
        }
    }

    /// A document with all hooks and mount options of the specification, for a runtime that has them all.
    pub fn recognised() -> Self {
        Self::new().hooks(names::HOOKS.iter().copied()).mount_options(names::MOUNT_OPTIONS.iter().copied())
    }

    /// The hooks that are called. Default: unknown.
    pub fn hooks<T: Into<String>>(mut self, list: impl IntoIterator<Item = T>) -> Self {
        self.hooks = strings(list);
        self
    }

    /// The mount options that are understood. Default: unknown.
    pub fn mount_options<T: Into<String>>(mut self, list: impl IntoIterator<Item = T>) -> Self {
        self.mount_options = strings(list);
        self
    }

    /// What is particular to Linux. Default: unknown.
    pub fn linux(mut self, linux: LinuxFeatures) -> Self {
        self.linux = Some(linux);
        self
    }

    /// Adds an annotation. Default: none.
    pub fn annotation(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let annotations = self.annotations.get_or_insert_default();
        annotations.insert(name.into(), value.into());
        self
    }

    /// The annotations in `config.json` that the runtime obeys. Default: unknown.
    pub fn unsafe_annotations<T: Into<String>>(mut self, list: impl IntoIterator<Item = T>) -> Self {
        self.potentially_unsafe_config_annotations = strings(list);
        self
    }

    /// Reads a document. Unknown members and words are ignored or kept as they are: a newer runtime may know more.
    ///
    /// # Errors
    ///
    /// As [`crate::Config::from_json`].
    pub fn from_json(text: &[u8]) -> Result<Self, Error> {
        const PARSE: &str = "parse features document";
        let value = state::parse(text, &FEATURES, PARSE)?;
        serde_json::from_value(value).map_err(|e| Error::new(ErrorKind::Value, PARSE).source(e))
    }

    /// The document as JSON text.
    ///
    /// # Errors
    ///
    /// None at present: all members can be written.
    pub fn to_json(&self) -> Result<String, Error> {
        let value = serde_json::to_value(self)
            .map_err(|e| Error::new(ErrorKind::Value, "write features document").source(e))?;
        Ok(json::write(&value, &FEATURES))
    }

    /// Checks the rules about more than one member: versions in order (RS-150), supported flags known (RS-155).
    pub fn check(&self) -> Vec<Problem> {
        let value = serde_json::json!({
            "ociVersionMin": self.oci_version_min, "ociVersionMax": self.oci_version_max,
            "linux": {"seccomp": {"supportedFlags": null}},
        });
        let node = Node::root(&value);
        let mut report = Report::default();
        let (min, max) = (node.member("ociVersionMin"), node.member("ociVersionMax"));
        check::oci_version(&min, rules::FEATURES_VERSION, &mut report);
        check::oci_version(&max, rules::FEATURES_VERSION, &mut report);
        let versions = (version::parse(&self.oci_version_min), version::parse(&self.oci_version_max));
        if let (Some(oldest), Some(newest)) = versions
            && oldest > newest
        {
            report.error(&max, rules::FEATURES_VERSION, "must not be older than ociVersionMin");
        }
        let seccomp = self.linux.as_ref().and_then(|linux| linux.seccomp.as_ref());
        let lists = seccomp.and_then(|s| Some((s.supported_flags.as_ref()?, s.known_flags.as_ref()?)));
        if let Some((supported, known)) = lists
            && let Some(flag) = supported.iter().find(|flag| !known.contains(flag))
        {
            let place = node.member("linux").member("seccomp").member("supportedFlags");
            let message = format!("has {}, which is not in knownFlags", crate::problem::quote(flag));
            report.error(&place, rules::FEATURES_SECCOMP, message);
        }
        report.finish()
    }
}

impl Default for Features {
    /// [`Features::new`].
    fn default() -> Self {
        Self::new()
    }
}

fn strings<T: Into<String>>(list: impl IntoIterator<Item = T>) -> Option<Vec<String>> {
    Some(list.into_iter().map(Into::into).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rs_150_versions_are_versions_and_in_order() {
        let mut features = Features::new();
        assert!(features.check().is_empty());
        features.oci_version_max = "0.9.0".into();
        assert!(features.check().iter().any(|p| p.pointer() == "/ociVersionMax" && p.rule() == "RS-150"));
        features.oci_version_max = "new".into();
        assert_eq!(features.check().len(), 1);
    }

    #[test]
    fn rs_151_unknown_empty_and_false_differ() {
        let unknown = Features::new();
        let empty = Features::new().hooks(Vec::<String>::new());
        assert!(!unknown.to_json().unwrap().contains("hooks"));
        assert!(empty.to_json().unwrap().contains("\"hooks\": []"));
        assert_eq!(Features::from_json(empty.to_json().unwrap().as_bytes()).unwrap(), empty);
        let null = Features::from_json(br#"{"ociVersionMin":"1.0.0","ociVersionMax":"1.3.0","hooks":null}"#);
        assert_eq!(null.unwrap(), unknown);
        let absent = LinuxFeatures::default().apparmor(Support::Absent);
        assert_eq!(absent.apparmor.unwrap().enabled, Some(false));
    }

    #[test]
    fn rs_153_155_157_words_are_listed() {
        let linux = LinuxFeatures::recognised();
        assert_eq!(linux.capabilities.unwrap().len(), 41);
        assert_eq!(linux.namespaces.unwrap().len(), 8);
        assert_eq!(linux.seccomp.unwrap().archs.unwrap().len(), 23);
        assert_eq!(linux.memory_policy.unwrap().modes.unwrap().len(), 7);
    }

    #[test]
    fn rs_155_supported_flags_are_known() {
        let linux = LinuxFeatures::recognised().seccomp_supported_flags(["SECCOMP_FILTER_FLAG_LOG"]);
        assert!(Features::new().linux(linux.clone()).check().is_empty());
        let linux = linux.seccomp_supported_flags(["SECCOMP_FILTER_FLAG_NEW"]);
        assert_eq!(Features::new().linux(linux).check()[0].pointer(), "/linux/seccomp/supportedFlags");
    }
}
