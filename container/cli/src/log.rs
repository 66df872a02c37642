//! The log: lines of text or JSON as the engines that start this program read them, in a file or on standard error.
//!
//! Leaves out rotating, and logs of the container's program. An engine takes the whole file for one error message, so that nothing
//! but failures is written unless it is asked for. Needs no kernel.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::json;

use crate::failure::Failure;
use crate::time::rfc3339;

/// How lines look.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Form {
    Text,
    Json,
}

/// How grave a line is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Level {
    Debug,
    Warning,
    Error,
}

/// Where lines go.
#[derive(Debug, Default)]
pub(crate) struct Log {
    file: Option<File>,
    /// The form of lines, if one was asked for or there is a file.
    form: Option<Form>,
    debug: bool,
}

impl Log {
    /// Opens the log. Without a file, lines go to standard error.
    pub(crate) fn open(path: Option<&Path>, form: Option<Form>, debug: bool) -> Result<Self, Failure> {
        let file = path.map(append).transpose()?;
        let form = form.or(file.as_ref().map(|_| Form::Text));
        Ok(Self { file, form, debug })
    }

    /// What helps to understand a failure that comes later; only if asked for.
    pub(crate) fn debug(&self, text: impl FnOnce() -> String) {
        if self.debug {
            self.write(Level::Debug, &text());
        }
    }

    /// What went wrong without changing anything.
    pub(crate) fn warn(&self, text: &str) {
        self.write(Level::Warning, text);
    }

    /// Why a command failed: to the log, and for people to standard error.
    pub(crate) fn fail(&self, text: &str) {
        if self.form.is_some() {
            self.write(Level::Error, text);
        }
        if self.file.is_some() || self.form.is_none() {
            say(&format!("keelbox: {text}\n"));
        }
    }

    fn write(&self, level: Level, text: &str) {
        let line = line(self.form.unwrap_or(Form::Text), level, text, SystemTime::now());
        match &self.file {
            // In one piece, so that lines of several programs do not mix.
            Some(file) => match { file }.write_all(line.as_bytes()) {
                Ok(()) => {}
                Err(error) => say(&format!("keelbox: cannot write to the log: {error}\n")),
            },
            None => say(&line),
        }
    }
}

/// There is nowhere to say that this cannot be said.
fn say(text: &str) {
    let _said = io::stderr().lock().write_all(text.as_bytes());
}

fn append(path: &Path) -> Result<File, Failure> {
    let opened = OpenOptions::new().append(true).create(true).mode(0o644).open(place(path)?);
    opened.map_err(|error| Failure::io(&format!("cannot open the log {}", path.display()), &error))
}

/// A log is a file, which may be told as `file:PATH`; other kinds of logs cannot be had.
fn place(path: &Path) -> Result<PathBuf, Failure> {
    let text = path.to_string_lossy();
    match text.split_once(':') {
        Some(("file", _)) => Ok(path.to_string_lossy().split_at("file:".len()).1.into()),
        Some((kind @ ("journald" | "syslog"), _)) => {
            Err(Failure::new(format!("cannot log to {kind}: give a file as --log")))
        }
        _ => Ok(path.to_owned()),
    }
}

fn line(form: Form, level: Level, text: &str, now: SystemTime) -> String {
    let (level, time) = (level.word(), rfc3339(now));
    match form {
        Form::Text => format!("time={time:?} level={level} msg={}\n", quoted(text)),
        Form::Json => format!("{}\n", json!({ "level": level, "msg": text, "time": time })),
    }
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// In quotation marks, with every mark and backslash inside marked by a backslash. A failure has no control characters any more.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_look_as_engines_read_them() {
        let text = "cannot execute \"a\\b\": no such file or directory";
        assert_eq!(
            line(Form::Text, Level::Error, text, SystemTime::UNIX_EPOCH),
            "time=\"1970-01-01T00:00:00Z\" level=error msg=\"cannot execute \\\"a\\\\b\\\": no such file or directory\"\n"
        );
        let json: serde_json::Value =
            serde_json::from_str(&line(Form::Json, Level::Warning, text, SystemTime::UNIX_EPOCH)).expect("it is JSON");
        assert_eq!(json, json!({ "level": "warning", "msg": text, "time": "1970-01-01T00:00:00Z" }));
    }

    #[test]
    fn a_log_is_a_file() {
        for (given, path) in [("/a/b", "/a/b"), ("file:/a:b", "/a:b"), ("x:y", "x:y")] {
            assert_eq!(place(Path::new(given)).expect("a file"), Path::new(path));
        }
        for given in ["journald:x", "syslog:x"] {
            assert!(place(Path::new(given)).is_err(), "{given}");
        }
    }
}
