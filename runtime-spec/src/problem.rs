//! What the validator says: a problem, how bad it is, and the rule of the specification behind it.
//!
//! Left out on purpose: a way to switch rules off. A caller filters the list by rule and severity. Needs no kernel.
use std::fmt;

/// How bad a [`Problem`] is.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Severity {
    /// The specification says *should*, the value has no effect, or Linux is known to ignore it.
    Warning,
    /// The specification says *must*, or Linux is known to refuse the value.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// One rule: its short name and the section of the specification that states it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Rule {
    pub(crate) id: &'static str,
    pub(crate) section: &'static str,
}

/// One thing that is wrong, or doubtful, in a document.
///
/// `Display` gives pointer, rule and sentence; the alternate form `{:#}` puts the severity in front and the section of
/// the specification behind. Control characters are shown escaped, so a hostile document cannot write to the terminal.
///
/// ```
/// use keelbox_runtime_spec::{Config, Severity};
///
/// let config = Config::from_json(br#"{"ociVersion": "1.3.0", "root": {"path": "rootfs"},
///     "process": {"user": {"uid": 0, "gid": 0}, "cwd": "srv", "args": ["sh"]}}"#)?;
/// let problem = config.check().into_iter().find(|p| p.severity() == Severity::Error).expect("cwd is relative");
/// assert_eq!(problem.pointer(), "/process/cwd");
/// assert_eq!(problem.to_string(), "/process/cwd: RS-024 must be an absolute path, is \"srv\"");
/// # Ok::<(), keelbox_runtime_spec::Error>(())
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Problem {
    pointer: String,
    rule: Rule,
    severity: Severity,
    message: String,
}

impl Problem {
    pub(crate) fn new(severity: Severity, pointer: String, rule: Rule, message: impl Into<String>) -> Self {
        Self { pointer, rule, severity, message: message.into() }
    }

    /// The place in the document, as a JSON pointer (RFC 6901). Empty for the document itself.
    pub fn pointer(&self) -> &str {
        &self.pointer
    }

    /// The rule's name in the checklist of this crate, such as `RS-070`.
    pub fn rule(&self) -> &'static str {
        self.rule.id
    }

    /// How bad it is.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// The section of the specification, such as `config-linux.md#pids`.
    pub fn section(&self) -> &'static str {
        self.rule.section
    }

    /// What is wrong, as one sentence without its subject: the subject is the pointer.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            write!(f, "{}: ", self.severity)?;
        }
        let pointer = if self.pointer.is_empty() { "/" } else { &self.pointer };
        for c in pointer.chars() {
            match c.is_control() {
                true => write!(f, "{}", c.escape_default())?,
                false => write!(f, "{c}")?,
            }
        }
        write!(f, ": {} {}", self.rule.id, self.message)?;
        match f.alternate() {
            true => write!(f, " ({})", self.rule.section),
            false => Ok(()),
        }
    }
}

/// The most problems one check returns; a hostile document could otherwise make millions.
const MOST: usize = 1_000;

/// Collects problems, at most [`MOST`].
#[derive(Default)]
pub(crate) struct Report {
    problems: Vec<Problem>,
}

impl Report {
    pub(crate) fn error(&mut self, at: &crate::node::Node<'_>, rule: Rule, message: impl Into<String>) {
        self.add(Severity::Error, at, rule, message);
    }

    pub(crate) fn warning(&mut self, at: &crate::node::Node<'_>, rule: Rule, message: impl Into<String>) {
        self.add(Severity::Warning, at, rule, message);
    }

    pub(crate) fn add(
        &mut self,
        severity: Severity,
        at: &crate::node::Node<'_>,
        rule: Rule,
        message: impl Into<String>,
    ) {
        if self.problems.len() < MOST {
            self.problems.push(Problem::new(severity, at.pointer(), rule, message));
        }
    }

    pub(crate) fn full(&self) -> bool {
        self.problems.len() >= MOST
    }

    pub(crate) fn finish(self) -> Vec<Problem> {
        self.problems
    }
}

/// A value from a document for use inside a sentence: quoted, escaped, and cut after 64 characters.
pub(crate) fn quote(text: &str) -> String {
    match text.char_indices().nth(64) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_escapes_what_a_terminal_would_obey() {
        let rule = Rule { id: "RS-000", section: "spec.md" };
        let problem = Problem::new(Severity::Warning, "/a\u{1b}[2J".into(), rule, format!("is {}", quote("\u{7}x")));
        assert_eq!(problem.to_string(), "/a\\u{1b}[2J: RS-000 is \"\\u{7}x\"");
        assert_eq!(format!("{problem:#}"), "warning: /a\\u{1b}[2J: RS-000 is \"\\u{7}x\" (spec.md)");
    }

    #[test]
    fn quote_cuts_at_a_character() {
        assert_eq!(quote(&"é".repeat(70)).chars().filter(|c| *c == 'é').count(), 64);
        assert_eq!(quote("a"), "\"a\"");
    }
}
