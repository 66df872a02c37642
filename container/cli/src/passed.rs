//! Descriptors that this program was started with, and hands on: those that LISTEN_FDS tells, and some more.
//!
//! Leaves out the standard streams. Oldest kernel: any.

use std::env;

use keelbox::Stdio;

use crate::failure::Failure;
use crate::read::Given;

/// The first of them (sd_listen_fds(3)).
const FIRST: u32 = 3;
/// More than a process has on any machine: a number that would never end is none.
const MOST: u32 = 1 << 20;

/// How many descriptors are handed on.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Passed {
    /// Those that a supervisor listens on.
    listening: u32,
    names: Option<String>,
    /// Those behind them.
    more: u32,
}

impl Passed {
    pub(crate) fn read(given: &Given) -> Result<Self, Failure> {
        let more = given.number::<u32>("preserve-fds")?.unwrap_or(0);
        let told = env::var("LISTEN_FDS").ok();
        let listening = told.as_deref().map_or(Ok(0), |told| {
            told.parse::<u32>().map_err(|_| Failure::new(format!("LISTEN_FDS is no number: {told:?}")))
        })?;
        if listening.saturating_add(more) > MOST {
            return Err(Failure::new(format!("{listening} and {more} descriptors are more than a process can have")));
        }
        Ok(Self { listening, names: env::var("LISTEN_FDNAMES").ok(), more })
    }

    /// What the program is told of them. Its process id is filled in where that is known.
    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        if self.listening == 0 {
            return Vec::new();
        }
        let names = self.names.clone().map(|names| ("LISTEN_FDNAMES", names));
        let told = [("LISTEN_FDS", self.listening.to_string()), ("LISTEN_PID", String::new())];
        told.into_iter().chain(names).collect()
    }

    pub(crate) fn descriptors(&self) -> Result<Vec<Stdio>, Failure> {
        let numbers = FIRST..FIRST + self.listening + self.more;
        numbers.map(|number| Stdio::number(number).map_err(Failure::from)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_told_only_of_what_it_listens_on() {
        assert_eq!(Passed { listening: 0, names: Some("x".into()), more: 2 }.variables(), []);
        let passed = Passed { listening: 2, names: Some("a:b".into()), more: 1 };
        let told = [("LISTEN_FDS", "2"), ("LISTEN_PID", ""), ("LISTEN_FDNAMES", "a:b")];
        assert_eq!(passed.variables(), told.map(|(name, value)| (name, value.to_owned())));
    }
}
