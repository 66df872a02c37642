//! The words that the table of commands is written in: a command, its words, its options, and what becomes of each.
//!
//! Everything else is made from that table: the reading of a command line, the help, the completions and the manual.
//! Needs no kernel.

use crate::context::Context;
use crate::failure::Outcome;
use crate::read::Given;

/// One command.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) name: &'static str,
    pub(crate) words: &'static [Word],
    pub(crate) options: &'static [&'static [Opt]],
    /// What it does, in one line.
    pub(crate) about: &'static str,
    /// What else there is to say, in whole sentences; may be empty.
    pub(crate) more: &'static str,
    pub(crate) perform: fn(&Context<'_>, Given) -> Outcome,
}

/// One word of a command that is no option.
#[derive(Debug)]
pub(crate) struct Word {
    /// As the help shows it.
    pub(crate) name: &'static str,
    /// As an error calls it.
    pub(crate) what: &'static str,
    pub(crate) count: Count,
}

/// How often a word may stand there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Count {
    One,
    /// It may be left out.
    Optional,
    /// All that is left, whatever it looks like: options end at the word before.
    Rest,
}

impl Count {
    pub(crate) fn is_rest(self) -> bool {
        self == Self::Rest
    }

    pub(crate) fn is_needed(self) -> bool {
        self == Self::One
    }
}

/// One option.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opt {
    pub(crate) name: &'static str,
    /// What other runtimes call it.
    pub(crate) also: Option<&'static str>,
    pub(crate) letter: Option<char>,
    /// What its value is called; nothing if it has none.
    pub(crate) value: Option<&'static str>,
    pub(crate) about: &'static str,
    pub(crate) standing: Standing,
    /// The values that a completion offers, separated by blanks.
    pub(crate) choices: &'static str,
}

/// What becomes of an option.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Standing {
    Taken,
    /// It asks for what is so anyway, or for what cannot matter here; the help says which.
    Ignored,
    /// It asks for what this runtime does not do, for this reason.
    Refused(&'static str),
}

impl Opt {
    /// An option without a value.
    pub(crate) const fn flag(name: &'static str, about: &'static str) -> Self {
        Self { name, also: None, letter: None, value: None, about, standing: Standing::Taken, choices: "" }
    }

    /// An option with a value.
    pub(crate) const fn value(name: &'static str, value: &'static str, about: &'static str) -> Self {
        let mut option = Self::flag(name, about);
        option.value = Some(value);
        option
    }

    pub(crate) const fn letter(mut self, letter: char) -> Self {
        self.letter = Some(letter);
        self
    }

    pub(crate) const fn also(mut self, name: &'static str) -> Self {
        self.also = Some(name);
        self
    }

    pub(crate) const fn choices(mut self, choices: &'static str) -> Self {
        self.choices = choices;
        self
    }

    pub(crate) const fn ignored(mut self) -> Self {
        self.standing = Standing::Ignored;
        self
    }

    pub(crate) const fn refused(mut self, why: &'static str) -> Self {
        self.standing = Standing::Refused(why);
        self
    }

    /// `-b, --bundle DIRECTORY`.
    pub(crate) fn heading(&self) -> String {
        let letter = self.letter.map_or_else(|| "    ".to_owned(), |letter| format!("-{letter}, "));
        let value = self.value.map_or_else(String::new, |value| format!(" {value}"));
        format!("{letter}--{}{value}", self.name)
    }
}

impl Command {
    pub(crate) fn every_option(&self) -> impl Iterator<Item = &'static Opt> {
        self.options.iter().flat_map(|options| options.iter())
    }

    /// Whether options end at the first word.
    pub(crate) fn ends_options(&self) -> bool {
        self.words.iter().any(|word| word.count.is_rest())
    }

    /// `exec [OPTION…] ID PROGRAM…`.
    pub(crate) fn usage(&self) -> String {
        let mut text = self.name.to_owned();
        if self.every_option().next().is_some() {
            text.push_str(" [OPTION…]");
        }
        for word in self.words {
            let name = word.name;
            text.push_str(&match word.count {
                Count::One => format!(" {name}"),
                Count::Optional => format!(" [{name}]"),
                Count::Rest => format!(" [{name}…]"),
            });
        }
        text
    }
}
