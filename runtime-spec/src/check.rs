//! The strict validator: every rule of the specification that can be checked without a kernel.
//!
//! Left out on purpose: whether files, devices, namespaces and cgroups exist; that is for the one who uses them.
//! Needs no kernel.
mod common;
mod devices;
mod environment;
pub(crate) mod lists;
mod mounts;
mod namespaces;
mod process;
mod resources;
mod seccomp;

use serde_json::Value;

use crate::node::Node;
use crate::problem::{Problem, Report};
use crate::shape::Mode;
use crate::shape::config::CONFIG;
use crate::{rules, version};

/// What the checks know about the whole document.
pub(crate) struct Context<'a> {
    root: Node<'a>,
    report: Report,
}

impl<'a> Context<'a> {
    /// The first entry for a namespace of type `kind`.
    fn namespace(&self, kind: &str) -> Option<Node<'a>> {
        let list = self.root.find(&["linux", "namespaces"])?;
        list.items().find(|n| n.text_at("type") == Some(kind))
    }

    /// Whether a namespace of type `kind` is listed, new or joined.
    fn has(&self, kind: &str) -> bool {
        self.namespace(kind).is_some()
    }

    /// Whether a namespace of type `kind` will be made.
    fn makes(&self, kind: &str) -> bool {
        self.namespace(kind).is_some_and(|n| n.get("path").is_none())
    }

    fn error(&mut self, at: &Node<'_>, rule: crate::problem::Rule, message: impl Into<String>) {
        self.report.error(at, rule, message);
    }

    fn warning(&mut self, at: &Node<'_>, rule: crate::problem::Rule, message: impl Into<String>) {
        self.report.warning(at, rule, message);
    }
}

/// Checks a configuration whose null members have been stripped.
pub(crate) fn config(raw: &Value) -> Vec<Problem> {
    let root = Node::root(raw);
    let mut context = Context { root: root.clone(), report: Report::default() };
    CONFIG.walk(&root, rules::VALUES, Mode::Check, &mut context.report);
    common::check(&mut context);
    let others = ["solaris", "windows", "vm", "zos", "freebsd"];
    let elsewhere = others.iter().any(|platform| root.get(platform).is_some());
    if root.get("linux").is_some() || !elsewhere {
        mounts::check(&mut context);
        process::check(&mut context);
        environment::check(&mut context);
        namespaces::check(&mut context);
        devices::check(&mut context);
        resources::check(&mut context);
        seccomp::check(&mut context);
    }
    context.report.finish()
}

/// The version rule of every document: Semantic Versioning, and not newer than this crate.
pub(crate) fn oci_version(at: &Node<'_>, rule: crate::problem::Rule, report: &mut Report) {
    let Some(text) = at.text() else { return };
    let known = version::parse(crate::names::OCI_VERSION);
    match (version::parse(text), known) {
        (None, _) => report.error(
            at,
            rule,
            format!("must be a version in SemVer 2.0.0 form, is {}", crate::problem::quote(text)),
        ),
        (Some((major, ..)), Some((newest, ..))) if major > newest => {
            report.error(at, rule, format!("is of a later major version than {newest}"));
        }
        (Some((0, ..)), _) => report.warning(at, rule, "is older than the first release 1.0.0"),
        (Some((major, minor, _)), Some((_, newest, _))) if minor > newest => {
            let message =
                format!("is {major}.{minor}, newer than {} that this program knows", crate::names::OCI_VERSION);
            report.warning(at, rule, message);
        }
        _ => {}
    }
}
