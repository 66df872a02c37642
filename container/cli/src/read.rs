//! Reads a command line by the table of commands: what is wrong or cannot be honoured is refused before anything is done.
//!
//! Options may stand before or behind the words of a command, unless the last word stands for a whole command line of somebody
//! else, as with `exec`. Leaves out what the values mean. Needs no kernel.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::str::FromStr;

use lexopt::{Arg, Parser};

use crate::failure::Failure;
use crate::grammar::{Command, Opt, Standing};
use crate::passed::Passed;
use crate::table;

/// What was given to a command, or to the program as a whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given {
    pub(crate) words: Vec<OsString>,
    flags: Vec<&'static str>,
    values: Vec<(&'static str, OsString)>,
    /// What the command hands on, once that is taken; why it could not be is told when it is wanted.
    passed: Option<Box<Result<Passed, Failure>>>,
}

/// A command line.
#[derive(Debug)]
pub(crate) enum Line {
    Command {
        global: Given,
        command: &'static Command,
        given: Given,
    },
    /// Help about one command, or about all.
    Help(Option<&'static Command>),
    Version,
}

/// Reads a command line without the name of this program.
pub(crate) fn line(arguments: impl IntoIterator<Item = OsString>) -> Result<Line, Failure> {
    let mut parser = Parser::from_args(arguments);
    let mut global = Given::default();
    let name = loop {
        match parser.next().map_err(misused)? {
            Some(Arg::Long("help") | Arg::Short('h')) => return Ok(Line::Help(None)),
            Some(Arg::Long("version") | Arg::Short('v' | 'V')) => return Ok(Line::Version),
            Some(Arg::Value(name)) => break text(name)?,
            Some(option) => {
                let option = found(table::GLOBAL.iter(), &option)?;
                global.take(option, &mut parser)?;
            }
            None => return Err(Failure::new("no command is given: see keelbox --help")),
        }
    };
    let command = table::find(&name)?;
    Ok(match behind(command, parser)? {
        Some(given) => Line::Command { global, command, given },
        None => Line::Help(Some(command)),
    })
}

/// Reads what stands behind the name of a command; nothing if that asks for help.
pub(crate) fn behind(command: &'static Command, mut parser: Parser) -> Result<Option<Given>, Failure> {
    let mut given = Given::default();
    while let Some(argument) = parser.next().map_err(misused)? {
        match argument {
            Arg::Long("help") | Arg::Short('h') => return Ok(None),
            Arg::Value(word) => {
                given.words.push(word);
                // Words that are all of one kind may have options between them.
                if command.ends_options() && command.words.len() > 1 {
                    given.words.extend(parser.raw_args().map_err(misused)?);
                    break;
                }
            }
            option => given.take(found(command.every_option(), &option)?, &mut parser)?,
        }
    }
    given.counted(command)?;
    Ok(Some(given))
}

fn found(mut options: impl Iterator<Item = &'static Opt>, argument: &Arg<'_>) -> Result<&'static Opt, Failure> {
    let found = options.find(|option| match argument {
        Arg::Long(name) => option.name == *name || option.also == Some(name),
        Arg::Short(letter) => option.letter == Some(*letter),
        Arg::Value(_) => false,
    });
    found.ok_or_else(|| {
        let name = match argument {
            Arg::Long(name) => format!("--{name}"),
            Arg::Short(letter) => format!("-{letter}"),
            Arg::Value(word) => word.to_string_lossy().into_owned(),
        };
        Failure::new(format!("there is no option {name:?} here: see keelbox --help"))
    })
}

impl Given {
    fn take(&mut self, option: &'static Opt, parser: &mut Parser) -> Result<(), Failure> {
        let name = option.name;
        let asked = match option.value {
            Some(_) => {
                self.values.push((name, parser.value().map_err(misused)?));
                true
            }
            None => {
                let asked = truth(name, parser.optional_value())?;
                self.flags.retain(|flag| *flag != name);
                self.flags.extend(asked.then_some(name));
                asked
            }
        };
        match option.standing {
            Standing::Refused(why) if asked => Err(Failure::new(format!("cannot honour --{name}: {why}"))),
            _ => Ok(()),
        }
    }

    /// Takes the descriptors that the command hands on.
    pub(crate) fn hold(&mut self, command: &Command) {
        let passes = command.every_option().any(|option| option.name == "preserve-fds");
        self.passed = passes.then(|| Box::new(Passed::hold(self)));
    }

    pub(crate) fn passed(&mut self) -> Result<Passed, Failure> {
        self.passed.take().map_or_else(|| Ok(Passed::default()), |passed| *passed)
    }

    fn counted(&self, command: &Command) -> Result<(), Failure> {
        let missing = command.words.get(self.words.len()).filter(|word| word.count.is_needed());
        if let Some(missing) = missing {
            return Err(Failure::new(format!("{} needs {}", command.name, missing.what)));
        }
        match self.words.get(command.words.len()) {
            Some(word) if !command.ends_options() => {
                Err(Failure::new(format!("{} has no use for {word:?}", command.name)))
            }
            _ => Ok(()),
        }
    }

    /// Takes the next word; the table has seen to it that there is one.
    pub(crate) fn word(&mut self) -> OsString {
        if self.words.is_empty() { OsString::new() } else { self.words.remove(0) }
    }

    /// Takes the id of a container.
    pub(crate) fn id(&mut self) -> Result<String, Failure> {
        text(self.word())
    }

    pub(crate) fn has(&self, flag: &str) -> bool {
        debug_assert!(table::is_known(flag), "the table has no option {flag}");
        self.flags.contains(&flag)
    }

    /// The last value of an option.
    pub(crate) fn value(&self, name: &str) -> Option<&OsStr> {
        debug_assert!(table::is_known(name), "the table has no option {name}");
        self.values.iter().rev().find(|(given, _)| *given == name).map(|(_, value)| value.as_os_str())
    }

    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        self.value(name).map(PathBuf::from)
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, Failure> {
        self.value(name).map(|value| text(value.to_owned())).transpose()
    }

    /// All values of an option, in order.
    pub(crate) fn texts(&self, name: &str) -> Result<Vec<String>, Failure> {
        let values = self.values.iter().filter(|(given, _)| *given == name);
        values.map(|(_, value)| text(value.clone())).collect()
    }

    /// The values of an option that are all of the form `NAME=VALUE`.
    #[cfg(feature = "images")]
    pub(crate) fn pairs(&self, option: &str) -> Result<Vec<(String, String)>, Failure> {
        let pair = |text: String| match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            _ => Err(Failure::new(format!("--{option} takes NAME=VALUE, not {text:?}"))),
        };
        self.texts(option)?.into_iter().map(pair).collect()
    }

    /// The value of an option that is a number, or whatever else can be read from text.
    pub(crate) fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, Failure> {
        let Some(given) = self.text(name)? else { return Ok(None) };
        let number =
            given.trim().parse().map_err(|_| Failure::new(format!("--{name} takes a number, not {given:?}")))?;
        Ok(Some(number))
    }

    /// The value of an option as one of these words; the first if it was not given.
    pub(crate) fn choice<T: Copy>(&self, name: &str, choices: &[(&str, T)]) -> Result<T, Failure> {
        let Some(given) = self.text(name)? else { return Ok(choices[0].1) };
        let chosen = choices.iter().find(|(word, _)| *word == given).map(|(_, choice)| *choice);
        chosen.ok_or_else(|| {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            Failure::new(format!("--{name} is {}, not {given:?}", words.join(" or ")))
        })
    }
}

/// A flag may have a value, as those of Go programs.
fn truth(name: &str, value: Option<OsString>) -> Result<bool, Failure> {
    match value.as_ref().map(|value| value.to_str()) {
        None | Some(Some("true" | "1")) => Ok(true),
        Some(Some("false" | "0")) => Ok(false),
        _ => Err(Failure::new(format!("--{name} has no value but true or false"))),
    }
}

/// An option without its value, or with one that it has no use for.
#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn misused(error: lexopt::Error) -> Failure {
    Failure::new(error.to_string())
}

/// Everything but paths is text.
pub(crate) fn text(word: OsString) -> Result<String, Failure> {
    word.into_string().map_err(|word| Failure::new(format!("the argument {word:?} is not valid UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<(String, Given), String> {
        match line(words.iter().map(OsString::from)) {
            Ok(Line::Command { command, given, .. }) => Ok((command.name.to_owned(), given)),
            Ok(other) => Err(format!("{other:?}")),
            Err(failure) => Err(failure.to_string()),
        }
    }

    #[test]
    fn options_stand_before_or_behind_the_id() {
        for words in [
            ["delete", "--force", "a"],
            ["delete", "a", "--force"],
            ["delete", "-f", "a"],
            ["delete", "--force=true", "a"],
        ] {
            let (_, mut given) = read(&words).expect("it is complete");
            assert_eq!((given.has("force"), given.id().expect("text").as_str()), (true, "a"), "{words:?}");
        }
        let (_, given) = read(&["delete", "--force", "--force=false", "a"]).expect("it is complete");
        assert!(!given.has("force"), "the last one counts");
        for words in [["run", "--bundle=b", "a"].as_slice(), &["run", "a", "-b", "b"], &["run", "-bb", "--", "a"]] {
            let (_, mut given) = read(words).expect("it is complete");
            assert_eq!(
                (given.path("bundle"), given.id().expect("text").as_str()),
                (Some("b".into()), "a"),
                "{words:?}"
            );
        }
    }

    #[test]
    fn what_is_behind_the_id_of_exec_is_the_program_s() {
        let words = ["exec", "-u", "1:2", "--env", "A=b=c", "-e", "D=", "a", "ls", "--help", "-u", "--"];
        let (_, given) = read(&words).expect("it is complete");
        assert_eq!(given.words, ["a", "ls", "--help", "-u", "--"]);
        assert_eq!(given.text("user"), Ok(Some("1:2".to_owned())));
        assert_eq!(given.texts("env"), Ok(vec!["A=b=c".to_owned(), "D=".to_owned()]));
    }

    #[test]
    fn other_names_of_an_option_are_as_good() {
        let (_, given) = read(&["update", "--cpu-shares", "5", "a"]).expect("it is complete");
        assert_eq!(given.number("cpu-share"), Ok(Some(5_u64)));
    }

    #[test]
    fn help_is_about_the_command_that_it_stands_behind() {
        let about = |words: &[&str]| match line(words.iter().map(OsString::from)) {
            Ok(Line::Help(command)) => command.map(|command| command.name),
            other => panic!("{other:?}"),
        };
        assert_eq!(about(&["--help"]), None);
        assert_eq!(about(&["run", "-h"]), Some("run"));
        assert_eq!(about(&["exec", "--help", "a"]), Some("exec"));
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_where_text_is_needed() {
        use std::os::unix::ffi::OsStringExt;
        let bytes = OsString::from_vec(vec![b'a', 0xff]);
        assert_eq!(text(bytes).expect_err("no text").to_string(), "the argument \"a\\xFF\" is not valid UTF-8");
    }
}
