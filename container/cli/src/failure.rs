//! What went wrong, as one line, and the exit status that tells it. Needs no kernel.

use std::fmt;
use std::io;

use keelbox::ErrorKind;

/// What a command comes to: the exit status of the program.
pub(crate) type Outcome = Result<u8, Failure>;

/// Why a command could not be done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Failure {
    text: String,
    status: u8,
}

impl Failure {
    /// As other runtimes have it for everything that is not about the container's program.
    const STATUS: u8 = 1;
    /// As other runtimes have it for a further program that they could not start.
    const FURTHER: u8 = 255;
    /// As shells have it.
    const NOT_EXECUTABLE: u8 = 126;
    /// As shells have it.
    const NOT_FOUND: u8 = 127;

    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), status: Self::STATUS }
    }

    /// The answer of the operating system to an attempt.
    pub(crate) fn io(attempt: &str, error: &io::Error) -> Self {
        let cause = error.to_string();
        Self::new(format!("{attempt}: {}", lower(cause.split(" (os error").next().unwrap_or(&cause))))
    }

    /// An error with its causes.
    pub(crate) fn told(error: &(dyn std::error::Error + 'static)) -> String {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&lower(&cause.to_string()));
            source = cause.source();
        }
        text
    }

    /// The failure of a command whose status is otherwise that of a program of the caller's.
    pub(crate) fn of_exec(mut self) -> Self {
        if self.status == Self::STATUS {
            self.status = Self::FURTHER;
        }
        self
    }

    pub(crate) fn status(&self) -> u8 {
        self.status
    }
}

impl From<keelbox::Error> for Failure {
    fn from(error: keelbox::Error) -> Self {
        let mut text = Self::told(&error);
        if let Some(hint) = error.hint() {
            text.push_str(&format!(" ({hint})"));
        }
        Self { status: status(&error), text }
    }
}

#[cfg(feature = "images")]
impl From<keelbox::crates::image_spec::Error> for Failure {
    fn from(error: keelbox::crates::image_spec::Error) -> Self {
        Self::new(Self::told(&error))
    }
}

/// As Go programs write the answers of the kernel: engines look for `no such file or directory`, with a small letter.
fn lower(cause: &str) -> String {
    let mut characters = cause.chars();
    match (characters.next(), characters.next()) {
        (Some(first @ 'A'..='Z'), Some(second @ 'a'..='z')) => {
            [first.to_ascii_lowercase(), second].into_iter().chain(characters).collect()
        }
        _ => cause.to_owned(),
    }
}

/// A program that is not there, or cannot be executed, is told as shells do.
fn status(error: &keelbox::Error) -> u8 {
    match error.kind() {
        ErrorKind::ProgramNotFound => Failure::NOT_FOUND,
        ErrorKind::NotExecutable => Failure::NOT_EXECUTABLE,
        _ => Failure::STATUS,
    }
}

impl fmt::Display for Failure {
    /// One line whatever the names in it hold: a log has one line for each failure.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.text.chars() {
            match character.is_control() {
                true => write!(f, "{}", character.escape_default())?,
                false => fmt::Write::write_char(f, character)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line() {
        assert_eq!(Failure::new("no\nsuch\x1b[1m thing ü").to_string(), "no\\nsuch\\u{1b}[1m thing ü");
    }

    #[test]
    fn the_number_of_an_error_is_left_out() {
        let error = io::Error::from_raw_os_error(2);
        assert_eq!(Failure::io("cannot see", &error).to_string(), "cannot see: no such file or directory");
        assert_eq!(lower("RS-012 must be so"), "RS-012 must be so");
        assert_eq!(lower(""), "");
    }

    #[test]
    fn the_status_of_a_further_program_is_none_of_its_own() {
        assert_eq!(Failure::new("x").status(), 1);
        assert_eq!(Failure::new("x").of_exec().status(), 255);
    }
}
