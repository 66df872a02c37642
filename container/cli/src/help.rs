//! The help, made from the table of commands, and the version. Needs no kernel.

use std::fmt::Write as _;

use crate::context::Context;
use crate::failure::Outcome;
use crate::grammar::{Command, Opt};
use crate::print;
use crate::read::Given;
use crate::table::{self, COMMANDS, GLOBAL};

/// Where the text about an option begins, and where lines end.
const COLUMN: usize = 32;
const WIDTH: usize = 110;

pub(crate) const STATUS: &str = "That of the program for run and exec, and 128 more than the signal that killed it. If the program \
could not be run: 126 if it cannot be executed, 127 if it is not there; 255 for everything else that fails in exec, and 1 in \
other commands.";

/// The options that every command has.
const ALWAYS: &[Opt] = &[Opt::flag("help", "this text, or that about one command").letter('h')];
const FIRST: &[Opt] = &[Opt::flag("version", "the version").letter('v')];

pub(crate) fn help(_: &Context<'_>, mut given: Given) -> Outcome {
    let command = match given.words.is_empty() {
        true => None,
        false => Some(table::find(&given.id()?)?),
    };
    print(&text(command))
}

pub(crate) fn version(_: &Context<'_>, _: Given) -> Outcome {
    print(&version_text())
}

/// As engines read it: a name and a version, then the version of the specification.
pub(crate) fn version_text() -> String {
    let features = keelbox::crates::runtime_spec::Features::new();
    format!("keelbox version {}\nspec: {}\n", env!("CARGO_PKG_VERSION"), features.oci_version_max)
}

/// About one command, or about all.
pub(crate) fn text(command: Option<&Command>) -> String {
    match command {
        Some(command) => about_one(command),
        None => about_all(),
    }
}

fn about_all() -> String {
    let mut text = "Usage: keelbox [OPTION…] COMMAND …\n\nRuns OCI bundles: directories with a config.json and a root file system.\n\n".to_owned();
    for command in COMMANDS {
        row(&mut text, &format!("  {}", command.usage()), command.about);
    }
    text.push_str("\nOptions before the command:\n");
    options(&mut text, GLOBAL.iter().chain(ALWAYS).chain(FIRST));
    text.push_str("\nkeelbox help COMMAND tells the options of a command.\n\nExit status:\n");
    paragraph(&mut text, STATUS);
    text
}

fn about_one(command: &Command) -> String {
    let mut text = format!("Usage: keelbox {}\n\n", command.usage());
    paragraph(&mut text, &sentence(command.about));
    if !command.more.is_empty() {
        paragraph(&mut text, command.more);
    }
    text.push_str("\nOptions:\n");
    options(&mut text, command.every_option().chain(ALWAYS));
    text
}

fn sentence(about: &str) -> String {
    let mut characters = about.chars();
    let first: String = characters.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{first}{}.", characters.as_str())
}

fn options<'o>(text: &mut String, options: impl Iterator<Item = &'o Opt>) {
    for option in options {
        row(text, &format!("  {}", option.heading()), option.about);
    }
}

/// A heading, and text beside it or, if the heading is long, below it.
fn row(text: &mut String, heading: &str, about: &str) {
    let length = heading.chars().count();
    let _written = match length < COLUMN - 1 {
        true => write!(text, "{heading}{}", " ".repeat(COLUMN - length)),
        false => write!(text, "{heading}\n{}", " ".repeat(COLUMN)),
    };
    wrapped(text, about, COLUMN);
}

fn paragraph(text: &mut String, words: &str) {
    wrapped(text, words, 0);
}

fn wrapped(text: &mut String, words: &str, indent: usize) {
    let mut column = indent;
    for (index, word) in words.split(' ').enumerate() {
        let length = word.chars().count();
        if index > 0 && column + 1 + length > WIDTH {
            text.push('\n');
            text.push_str(&" ".repeat(indent));
            column = indent;
        } else if index > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += length;
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_and_option_is_told() {
        let all = text(None);
        for command in COMMANDS {
            assert!(all.contains(&format!("\n  {}", command.name)), "{}", command.name);
            let one = text(Some(command));
            for option in command.every_option() {
                assert!(one.contains(&format!("--{}", option.name)), "{}", option.name);
            }
        }
        assert!(all.lines().all(|line| line.chars().count() <= WIDTH), "{all}");
    }
}
