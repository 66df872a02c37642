//! What each command takes: its options, and how many words. What other runtimes have and this one not yet is told apart from
//! what nobody knows.
//!
//! Leaves out `exec`, which reads no further than to the id. Needs no kernel.

use std::ffi::{OsStr, OsString};

use lexopt::{Arg, Parser};

use crate::failure::Failure;

/// The options and words of one command.
#[derive(Debug)]
pub(crate) struct Form {
    name: &'static str,
    /// What each word is; the last ones may be left out.
    words: &'static [&'static str],
    least: usize,
    flags: &'static [(&'static str, Option<char>)],
    values: &'static [(&'static str, Option<char>)],
}

const NEW: &[(&str, Option<char>)] = &[("bundle", Some('b')), ("pid-file", None)];
const ID: &[&str] = &["the id of a container"];

const FORMS: &[Form] = &[
    Form { name: "plan", words: &["a bundle"], least: 1, flags: &[("explain", None)], values: &[] },
    Form { name: "run", words: ID, least: 1, flags: &[], values: NEW },
    Form { name: "create", words: ID, least: 1, flags: &[], values: NEW },
    Form { name: "start", words: ID, least: 1, flags: &[], values: &[] },
    Form { name: "state", words: ID, least: 1, flags: &[], values: &[] },
    Form {
        name: "kill",
        words: &["the id of a container", "a signal"],
        least: 1,
        flags: &[("all", Some('a'))],
        values: &[],
    },
    Form { name: "delete", words: ID, least: 1, flags: &[("force", Some('f'))], values: &[] },
    Form { name: "list", words: &[], least: 0, flags: &[("quiet", Some('q'))], values: &[("format", Some('f'))] },
];

/// What other runtimes have, and this one not yet.
const LATER_COMMANDS: &[&str] =
    &["checkpoint", "events", "features", "pause", "ps", "restore", "resume", "spec", "update"];
const LATER_OPTIONS: &[(&str, Option<char>)] = &[
    ("additional-gids", Some('g')),
    ("apparmor", None),
    ("cap", Some('c')),
    ("cgroup", None),
    ("cgroup-manager", None),
    ("console-socket", None),
    ("debug", None),
    ("detach", Some('d')),
    ("ignore-paused", None),
    ("json", None),
    ("keep", None),
    ("log", None),
    ("log-format", None),
    ("no-new-keyring", None),
    ("no-new-privs", None),
    ("no-pivot", None),
    ("no-subreaper", None),
    ("pidfd-socket", None),
    ("preserve-fds", None),
    ("process", Some('p')),
    ("process-label", None),
    ("rootless", None),
    ("systemd-cgroup", None),
    ("tty", Some('t')),
];

/// What was given to a command.
#[derive(Debug, Default)]
pub(crate) struct Given {
    pub(crate) words: Vec<OsString>,
    flags: Vec<&'static str>,
    values: Vec<(&'static str, OsString)>,
}

impl Given {
    /// Takes the next word; a form has seen to it that there is one.
    pub(crate) fn word(&mut self) -> OsString {
        if self.words.is_empty() { OsString::new() } else { self.words.remove(0) }
    }

    pub(crate) fn has(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }

    /// The last value of an option.
    pub(crate) fn value(&self, name: &str) -> Option<&OsStr> {
        self.values.iter().rev().find(|(given, _)| *given == name).map(|(_, value)| value.as_os_str())
    }
}

impl Form {
    pub(crate) fn of(name: &str) -> Result<&'static Self, Failure> {
        if LATER_COMMANDS.contains(&name) {
            return Err(Failure::new(format!("the command {name:?} is not supported yet")));
        }
        let form = FORMS.iter().find(|form| form.name == name);
        form.ok_or_else(|| Failure::new(format!("there is no command {name:?}: see keelbox --help")))
    }

    /// Reads all that is left; nothing if help is asked for.
    pub(crate) fn read(&self, parser: &mut Parser) -> Result<Option<Given>, Failure> {
        let mut given = Given::default();
        while let Some(argument) = parser.next().map_err(misused)? {
            if matches!(argument, Arg::Long("help") | Arg::Short('h')) {
                return Ok(None);
            }
            if let Arg::Value(word) = argument {
                given.words.push(word);
            } else if let Some(flag) = find(self.flags, &argument) {
                given.flags.push(flag);
            } else if let Some(name) = find(self.values, &argument) {
                given.values.push((name, parser.value().map_err(misused)?));
            } else {
                return Err(refused(&argument));
            }
        }
        if given.words.len() < self.least {
            return Err(Failure::new(format!("{} needs {}", self.name, self.words[given.words.len()])));
        }
        match given.words.get(self.words.len()) {
            Some(word) => Err(Failure::new(format!("{} has no use for {word:?}", self.name))),
            None => Ok(Some(given)),
        }
    }
}

fn find(options: &[(&'static str, Option<char>)], argument: &Arg<'_>) -> Option<&'static str> {
    let found = options.iter().find(|(name, letter)| match argument {
        Arg::Long(given) => given == name,
        Arg::Short(given) => Some(*given) == *letter,
        Arg::Value(_) => false,
    });
    found.map(|(name, _)| *name)
}

/// An option that this command has not.
pub(crate) fn refused(option: &Arg<'_>) -> Failure {
    let name = match option {
        Arg::Long(name) => format!("--{name}"),
        Arg::Short(letter) => format!("-{letter}"),
        Arg::Value(word) => word.to_string_lossy().into_owned(),
    };
    match find(LATER_OPTIONS, option) {
        Some(_) => Failure::new(format!("the option {name:?} is not supported yet")),
        None => Failure::new(format!("there is no option {name:?} here: see keelbox --help")),
    }
}

/// An option without its value, or with one that it has no use for.
#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
pub(crate) fn misused(error: lexopt::Error) -> Failure {
    Failure::new(error.to_string())
}

/// Everything but paths is text.
pub(crate) fn text(word: OsString) -> Result<String, Failure> {
    word.into_string().map_err(|word| Failure::new(format!("the argument {word:?} is not valid UTF-8")))
}
