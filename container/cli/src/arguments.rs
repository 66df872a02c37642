//! The command line, read into values: what is wrong or not there yet is refused here, before anything is done.
//!
//! Options may stand before or after the words of a command; those of `exec` before its id, since all behind that belongs to the
//! program. Needs no kernel.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use keelbox::{Runtime, Signal};
use lexopt::{Arg, Parser};

use crate::failure::Failure;
use crate::form::{Form, Given, misused, refused, text};

/// What is to be done, and with which containers.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) runtime: Runtime,
    pub(crate) command: Command,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Command {
    Help,
    Version,
    Plan { bundle: PathBuf, explain: bool },
    Run(New),
    Create(New),
    Start { id: String },
    State { id: String },
    Kill { id: String, signal: Signal, all: bool },
    Delete { id: String, force: bool },
    List { format: Format },
    Exec(Further),
}

/// A container to be made.
#[derive(Debug)]
pub(crate) struct New {
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) pid_file: Option<PathBuf>,
}

/// A further program in a container.
#[derive(Debug, Default)]
pub(crate) struct Further {
    pub(crate) id: String,
    pub(crate) arguments: Vec<String>,
    pub(crate) user: Option<String>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) directory: Option<PathBuf>,
}

/// How containers are listed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Format {
    Table,
    Ids,
    Json,
}

/// Reads a command line without the name of this program.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, Failure> {
    let mut parser = Parser::from_args(arguments);
    let mut root = None;
    let command = loop {
        match parser.next().map_err(misused)? {
            Some(Arg::Long("root")) => root = Some(PathBuf::from(parser.value().map_err(misused)?)),
            Some(Arg::Long("help") | Arg::Short('h')) => break Command::Help,
            Some(Arg::Long("version") | Arg::Short('v')) => break Command::Version,
            Some(Arg::Value(name)) => break command(&text(name)?, &mut parser)?,
            Some(option) => return Err(refused(&option)),
            None => return Err(Failure::new("no command is given: see keelbox --help")),
        }
    };
    Ok(Invocation { runtime: runtime(root), command })
}

/// Where the states are: the library reads no environment, so that is done here.
fn runtime(root: Option<PathBuf>) -> Runtime {
    let usual = Runtime::new();
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|own| !own.is_empty());
    match (root, own) {
        (Some(root), _) => Runtime::at(root),
        (None, Some(own)) if usual.root() != Path::new("/run/keelbox") => Runtime::at(Path::new(&own).join("keelbox")),
        _ => usual,
    }
}

fn command(name: &str, parser: &mut Parser) -> Result<Command, Failure> {
    match name {
        "help" => return Ok(Command::Help),
        "exec" => return exec(parser),
        _ => {}
    }
    let form = Form::of(name)?;
    let Some(mut given) = form.read(parser)? else { return Ok(Command::Help) };
    Ok(match name {
        "plan" => Command::Plan { bundle: given.word().into(), explain: given.has("explain") },
        "run" => Command::Run(new(given)?),
        "create" => Command::Create(new(given)?),
        "start" => Command::Start { id: text(given.word())? },
        "state" => Command::State { id: text(given.word())? },
        "kill" => {
            let id = text(given.word())?;
            let signal = given.words.pop().map(text).transpose()?;
            let signal = signal.map_or(Ok(Signal::TERM), |signal| signal.parse())?;
            Command::Kill { id, signal, all: given.has("all") }
        }
        "delete" => Command::Delete { id: text(given.word())?, force: given.has("force") },
        _ => Command::List { format: format(&given)? },
    })
}

fn new(mut given: Given) -> Result<New, Failure> {
    let bundle = given.value("bundle").map_or_else(|| ".".into(), PathBuf::from);
    let pid_file = given.value("pid-file").map(PathBuf::from);
    Ok(New { id: text(given.word())?, bundle, pid_file })
}

fn format(given: &Given) -> Result<Format, Failure> {
    let named = given.value("format").map(|word| text(word.to_owned())).transpose()?;
    match (given.has("quiet"), named.as_deref()) {
        (true, None | Some("table")) => Ok(Format::Ids),
        (false, None | Some("table")) => Ok(Format::Table),
        (false, Some("json")) => Ok(Format::Json),
        (true, Some("json")) => Err(Failure::new("a list is either --quiet or in --format json")),
        (_, Some(other)) => Err(Failure::new(format!("there is no format {other:?}: it is table or json"))),
    }
}

fn exec(parser: &mut Parser) -> Result<Command, Failure> {
    let mut further = Further::default();
    loop {
        match parser.next().map_err(misused)? {
            Some(Arg::Long("help") | Arg::Short('h')) => return Ok(Command::Help),
            Some(Arg::Long("user") | Arg::Short('u')) => further.user = Some(text(parser.value().map_err(misused)?)?),
            Some(Arg::Long("env") | Arg::Short('e')) => {
                let variable = text(parser.value().map_err(misused)?)?;
                let parts = variable
                    .split_once('=')
                    .ok_or_else(|| Failure::new(format!("the variable {variable:?} has no value: give NAME=VALUE")))?;
                further.environment.push((parts.0.to_owned(), parts.1.to_owned()));
            }
            Some(Arg::Long("cwd")) => further.directory = Some(parser.value().map_err(misused)?.into()),
            Some(Arg::Value(id)) => {
                further.id = text(id)?;
                // What looks like an option from here on is one of the program.
                let rest = parser.raw_args().map_err(misused)?;
                further.arguments = rest.map(text).collect::<Result<_, _>>()?;
                break;
            }
            Some(option) => return Err(refused(&option)),
            None => return Err(Failure::new("exec needs the id of a container and a program")),
        }
    }
    match further.arguments.is_empty() {
        true => Err(Failure::new("exec needs a program behind the id of the container")),
        false => Ok(Command::Exec(further)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &[&str]) -> Result<Command, String> {
        let words = line.iter().map(OsString::from);
        parse(words).map(|invocation| invocation.command).map_err(|failure| failure.to_string())
    }

    #[test]
    fn options_stand_before_or_behind_the_id() {
        for line in [["delete", "--force", "a"], ["delete", "a", "--force"], ["delete", "-f", "a"]] {
            assert!(matches!(read(&line), Ok(Command::Delete { id, force: true }) if id == "a"), "{line:?}");
        }
        for line in [["run", "--bundle=b", "a"].as_slice(), &["run", "a", "-b", "b"], &["run", "-bb", "--", "a"]] {
            let Ok(Command::Run(New { id, bundle, pid_file: None })) = read(line) else { panic!("{line:?}") };
            assert_eq!((id.as_str(), bundle.as_path()), ("a", Path::new("b")));
        }
    }

    #[test]
    fn what_is_behind_the_id_of_exec_is_the_program_s() {
        let line = ["exec", "-u", "1:2", "--env", "A=b=c", "--cwd", "/tmp", "a", "ls", "--help", "-u", "--"];
        let Ok(Command::Exec(further)) = read(&line) else { panic!("it is complete") };
        assert_eq!(further.arguments, ["ls", "--help", "-u", "--"]);
        assert_eq!((further.id.as_str(), further.user.as_deref()), ("a", Some("1:2")));
        assert_eq!(further.environment, [("A".to_owned(), "b=c".to_owned())]);
        assert_eq!(further.directory.as_deref(), Some(Path::new("/tmp")));
    }

    #[test]
    fn signals_have_names_and_numbers() {
        for (line, signal) in [
            (["kill", "a"].as_slice(), Signal::TERM),
            (&["kill", "a", "9"], Signal::KILL),
            (&["kill", "a", "SIGHUP"], Signal::HUP),
            (&["kill", "a", "usr1"], Signal::USR1),
        ] {
            assert!(
                matches!(read(line), Ok(Command::Kill { signal: read, all: false, .. }) if read == signal),
                "{line:?}"
            );
        }
    }

    #[test]
    fn a_root_is_taken_as_it_is() {
        let read = parse(["--root", "/x/y", "list"].map(OsString::from)).expect("it is complete");
        assert_eq!(read.runtime, Runtime::at("/x/y"));
        assert!(matches!(read.command, Command::List { format: Format::Table }));
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_where_text_is_needed() {
        use std::os::unix::ffi::OsStringExt;
        let bytes = OsString::from_vec(vec![b'a', 0xff]);
        let refused = parse([OsString::from("start"), bytes.clone()]).expect_err("no id");
        assert_eq!(refused.to_string(), "the argument \"a\\xFF\" is not valid UTF-8");
        let path = parse([OsString::from("plan"), bytes.clone()]).expect("paths are bytes");
        assert!(matches!(path.command, Command::Plan { bundle, .. } if bundle.as_os_str() == bytes));
    }
}
