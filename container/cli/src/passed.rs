//! Descriptors that this program was started with, and hands on: those that LISTEN_FDS tells, and some more.
//!
//! They are taken before this program opens anything: a number that the caller left free could be a file of ours by then, and the
//! container would get that. Leaves out the standard streams. Oldest kernel: any.

use std::env;
use std::io;
use std::os::fd::AsRawFd;

use keelbox::Stdio;
use keelbox::crates::launch::sys;
use nix::errno::Errno;

use crate::failure::Failure;
use crate::read::Given;

/// The first of them (sd_listen_fds(3)).
const FIRST: u32 = 3;
/// More than a process has on any machine: a number that would never end is none.
const MOST: u32 = 1 << 20;

/// The descriptors that are handed on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Passed {
    /// How many of them a supervisor listens on; they are the first.
    listening: u32,
    names: Option<String>,
    held: Vec<Stdio>,
}

impl Passed {
    /// Takes duplicates of them. Nothing may have been opened before.
    pub(crate) fn hold(given: &Given) -> Result<Self, Failure> {
        let more = given.number::<u32>("preserve-fds")?.unwrap_or(0);
        let told = env::var("LISTEN_FDS").ok();
        let listening = told.as_deref().map_or(Ok(0), |told| {
            told.parse::<u32>().map_err(|_| Failure::new(format!("LISTEN_FDS is no number: {told:?}")))
        })?;
        if listening.saturating_add(more) > MOST {
            return Err(Failure::new(format!("{listening} and {more} descriptors are more than a process can have")));
        }
        Ok(Self { listening, names: env::var("LISTEN_FDNAMES").ok(), held: held(FIRST + listening + more)? })
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

    pub(crate) fn descriptors(&self) -> impl Iterator<Item = Stdio> {
        self.held.iter().cloned()
    }
}

/// Duplicates of all below this number. A duplicate gets the lowest number that is free: if that is one of theirs, it was not open.
fn held(end: u32) -> Result<Vec<Stdio>, Failure> {
    let closed = |number: u32, errno: i32| {
        Failure::io(&format!("cannot pass on descriptor {number}"), &io::Error::from_raw_os_error(errno))
    };
    let mut held = Vec::new();
    for number in FIRST..end {
        let duplicate = sys::duplicate(number).map_err(|errno| closed(number, errno.0))?;
        match u32::try_from(duplicate.as_raw_fd()) {
            Ok(free) if free < end => return Err(closed(free, Errno::EBADF as i32)),
            _ => held.push(Stdio::from(duplicate)),
        }
    }
    Ok(held)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_told_only_of_what_it_listens_on() {
        assert_eq!(Passed { listening: 0, names: Some("x".into()), held: Vec::new() }.variables(), []);
        let passed = Passed { listening: 2, names: Some("a:b".into()), held: Vec::new() };
        let told = [("LISTEN_FDS", "2"), ("LISTEN_PID", ""), ("LISTEN_FDNAMES", "a:b")];
        assert_eq!(passed.variables(), told.map(|(name, value)| (name, value.to_owned())));
    }
}
