//! Reads build files.
//!
//! Job: lines that go on, remarks, the escape directive, here-documents, shell and exec form, flags; into stages of instructions. What
//! is not known is an error with the number of its line, never left out. Leaves out variables, which have their values only when a step
//! is done. Follows the Dockerfile reference.

use std::path::Path;

use super::instruction::{Base, Command, Copy, Instruction, Line, Stage};
use super::{patterns, words};
use crate::error::{Error, ErrorKind, Result};

pub(crate) struct Parsed {
    pub(crate) stages: Vec<Stage>,
    pub(crate) globals: Vec<(String, Option<String>)>,
    pub(crate) escape: char,
}

/// Why a line cannot be taken.
enum Refusal {
    Wrong(String),
    Unknown(String),
}

impl From<String> for Refusal {
    fn from(text: String) -> Self {
        Self::Wrong(text)
    }
}

impl From<&str> for Refusal {
    fn from(text: &str) -> Self {
        Self::Wrong(text.to_owned())
    }
}

type Answer<T> = std::result::Result<T, Refusal>;

/// One instruction as it stands in the file.
struct Logical {
    number: usize,
    word: String,
    rest: String,
    documents: Vec<Document>,
}

/// A here-document.
struct Document {
    name: String,
    content: String,
    /// Whether variables in it are left as they are.
    quoted: bool,
}

pub(crate) fn parse(text: &str, path: &Path) -> Result<Parsed> {
    let refused = |number: usize, refusal: Refusal| {
        let (kind, why) = match refusal {
            Refusal::Wrong(why) => (ErrorKind::Invalid, why),
            Refusal::Unknown(why) => (ErrorKind::Unsupported, why),
        };
        Error::new(kind, format!("cannot build {}: line {number}: {why}", path.display()))
    };
    let escape = escape(text).map_err(|(number, refusal)| refused(number, refusal))?;
    let mut parsed = Parsed { stages: Vec::new(), globals: Vec::new(), escape };
    for logical in logical(text, escape).map_err(|(number, refusal)| refused(number, refusal))? {
        parsed.take(&logical).map_err(|refusal| refused(logical.number, refusal))?;
    }
    if parsed.stages.is_empty() {
        return Err(Error::new(ErrorKind::Invalid, format!("cannot build {}: there is no FROM", path.display())));
    }
    Ok(parsed)
}

/// The character of the directive `# escape=`, which only counts before everything else.
fn escape(text: &str) -> std::result::Result<char, (usize, Refusal)> {
    for (index, line) in text.lines().enumerate() {
        let Some((name, value)) = line.trim_start().strip_prefix('#').and_then(|rest| rest.split_once('=')) else {
            break;
        };
        match (name.trim().to_ascii_lowercase().as_str(), value.trim()) {
            ("escape", "\\") => return Ok('\\'),
            ("escape", "`") => return Ok('`'),
            ("escape", other) => return Err((index + 1, format!("{other:?} is no escape character").into())),
            ("syntax" | "check", _) => {}
            _ => break,
        }
    }
    Ok('\\')
}

/// Puts lines that go on together, without remarks and empty lines.
fn logical(text: &str, escape: char) -> std::result::Result<Vec<Logical>, (usize, Refusal)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    let mut all = Vec::new();
    while let Some((number, first)) = lines.next() {
        if first.trim_start().starts_with('#') || first.trim().is_empty() {
            continue;
        }
        let mut joined = String::new();
        let mut line = first;
        while let Some(part) = line.trim_end().strip_suffix(escape) {
            joined.push_str(part);
            // Remarks and empty lines in between do not end it.
            let next = lines.by_ref().find(|(_, next)| !next.trim_start().starts_with('#') && !next.trim().is_empty());
            line = next.map_or("", |(_, next)| next);
        }
        joined.push_str(line);
        let joined = joined.trim();
        let (word, rest) = joined.split_once(char::is_whitespace).unwrap_or((joined, ""));
        let (word, rest) = (word.to_ascii_uppercase(), rest.trim().to_owned());
        let mut documents = Vec::new();
        if matches!(word.as_str(), "RUN" | "COPY" | "ADD") {
            for (name, strip, quoted) in markers(&rest) {
                let mut content = String::new();
                loop {
                    let Some((_, line)) = lines.next() else {
                        return Err((number, format!("the here-document {name} does not end").into()));
                    };
                    let line = if strip { line.trim_start_matches('\t') } else { line };
                    if line == name {
                        break;
                    }
                    content.push_str(line);
                    content.push('\n');
                }
                documents.push(Document { name, content, quoted });
            }
        }
        all.push(Logical { number, word, rest, documents });
    }
    Ok(all)
}

/// The here-documents that a line announces: `<<NAME`, `<<-NAME` without leading tabs, `<<"NAME"` as it stands.
fn markers(text: &str) -> Vec<(String, bool, bool)> {
    let words = text
        .split_whitespace()
        .filter_map(|word| word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<"));
    let named = words.filter_map(|word| {
        let (word, strip) = word.strip_prefix('-').map_or((word, false), |word| (word, true));
        let bare = word.trim_matches(|character| matches!(character, '"' | '\''));
        let plain = !bare.is_empty() && bare.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        plain.then(|| (bare.to_owned(), strip, bare.len() != word.len()))
    });
    named.collect()
}

impl Parsed {
    fn take(&mut self, logical: &Logical) -> Answer<()> {
        let text = format!("{} {}", logical.word, logical.rest).trim().to_owned();
        if logical.word == "FROM" {
            let stage = self.from(logical)?;
            self.stages.push(stage);
            return Ok(());
        }
        let instruction = instruction(logical, self.escape)?;
        match (self.stages.last_mut(), instruction) {
            (Some(stage), instruction) => stage.lines.push(Line { number: logical.number, text, instruction }),
            (None, Instruction::Arg(arguments)) => self.globals.extend(arguments),
            (None, _) => return Err(format!("{} before the first FROM", logical.word).into()),
        }
        Ok(())
    }

    fn from(&self, logical: &Logical) -> Answer<Stage> {
        let words = words::split(&logical.rest, self.escape)?;
        let (flags, words): (Vec<_>, Vec<_>) = words.into_iter().partition(|word| word.starts_with("--"));
        let mut platform = None;
        for flag in flags {
            match flag.strip_prefix("--platform=") {
                Some(value) => platform = Some(value.to_owned()),
                None => return Err(Refusal::Unknown(format!("FROM {flag} is not known here"))),
            }
        }
        let (name, alias) = match &words[..] {
            [name] => (name, None),
            [name, word, alias] if word.eq_ignore_ascii_case("as") => (name, Some(alias.to_ascii_lowercase())),
            _ => return Err("FROM takes an image, or an image AS a name".into()),
        };
        let base = match name.as_str() {
            "scratch" if platform.is_none() => Base::Scratch,
            name => Base::Named { name: name.to_owned(), platform },
        };
        Ok(Stage::new(base, alias, logical.number))
    }
}

fn instruction(logical: &Logical, escape: char) -> Answer<Instruction> {
    let (word, rest) = (logical.word.as_str(), logical.rest.as_str());
    if rest.is_empty() && word != "CMD" && word != "ENTRYPOINT" {
        return Err(format!("{word} without anything").into());
    }
    let texts = || match json(rest) {
        Some(list) => Ok(list.iter().map(|text| json_literal(text, escape)).collect()),
        None => words::split(rest, escape),
    };
    Ok(match word {
        "RUN" => Instruction::Run(run(logical)?),
        "COPY" | "ADD" => Instruction::Copy(copy(logical, escape)?),
        "ENV" | "LABEL" => {
            let pairs = pairs(word, rest, escape)?;
            if word == "ENV" { Instruction::Env(pairs) } else { Instruction::Label(pairs) }
        }
        "ARG" => {
            let declared = words::split(rest, escape)?;
            let pair = |word: &String| match word.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (word.clone(), None),
            };
            Instruction::Arg(declared.iter().map(pair).collect())
        }
        "WORKDIR" => Instruction::Workdir(rest.to_owned()),
        "USER" => Instruction::User(rest.to_owned()),
        "ENTRYPOINT" => Instruction::Entrypoint(command(rest)),
        "CMD" => Instruction::Cmd(command(rest)),
        "EXPOSE" => Instruction::Expose(words::split(rest, escape)?),
        "VOLUME" => Instruction::Volume(texts()?),
        "STOPSIGNAL" => Instruction::StopSignal(rest.to_owned()),
        "SHELL" => Instruction::Shell(json(rest).filter(|list| !list.is_empty()).ok_or("SHELL takes a list in JSON")?),
        "MAINTAINER" => Instruction::Author(rest.to_owned()),
        "HEALTHCHECK" | "ONBUILD" => return Err(Refusal::Unknown(format!("{word} is not known here"))),
        other => return Err(format!("there is no instruction {other}").into()),
    })
}

fn json(text: &str) -> Option<Vec<String>> {
    text.starts_with('[').then(|| serde_json::from_str(text).ok())?
}

/// An item of a list in JSON: its quotes are gone already, but variables in it count.
fn json_literal(text: &str, escape: char) -> String {
    words::literal(text, escape).replace(&format!("{escape}$"), "$")
}

fn command(rest: &str) -> Command {
    match json(rest) {
        Some(list) => Command::Exec(list),
        None if rest.is_empty() => Command::Exec(Vec::new()),
        None => Command::Shell(rest.to_owned()),
    }
}

fn run(logical: &Logical) -> Answer<Command> {
    let rest = logical.rest.as_str();
    if rest.starts_with("--") {
        let flag = rest.split_whitespace().next().unwrap_or(rest);
        return Err(Refusal::Unknown(format!("RUN {flag} is not known here")));
    }
    let [document] = &logical.documents[..] else {
        return match &logical.documents[..] {
            [] => Ok(command(rest)),
            _ => Err(Refusal::Unknown("RUN with several here-documents is not known here".into())),
        };
    };
    if !rest.starts_with("<<") {
        // The shell reads it as its own here-document.
        return Ok(Command::Shell(format!("{rest}\n{}{}\n", document.content, document.name)));
    }
    if rest.split_whitespace().count() > 1 {
        return Err(Refusal::Unknown("RUN with a here-document and something after it is not known here".into()));
    }
    if document.content.starts_with("#!") {
        return Err(Refusal::Unknown("RUN with a here-document for another interpreter is not known here".into()));
    }
    Ok(Command::Shell(document.content.clone()))
}

fn copy(logical: &Logical, escape: char) -> Answer<Copy> {
    let mut copy = Copy { unpacks: logical.word == "ADD", ..Copy::default() };
    let mut rest = logical.rest.as_str();
    while rest.starts_with("--") {
        let (flag, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        rest = after.trim_start();
        match flag.split_once('=') {
            Some(("--from", from)) if !copy.unpacks => copy.from = Some(from.to_owned()),
            Some(("--chown", owner)) => copy.owner = Some(owner.to_owned()),
            Some(("--chmod", mode)) => {
                let octal = u32::from_str_radix(mode, 8).ok().filter(|mode| *mode <= 0o7777);
                copy.mode = Some(octal.ok_or_else(|| Refusal::Unknown(format!("--chmod={mode} is no octal mode")))?);
            }
            _ => return Err(Refusal::Unknown(format!("{} {flag} is not known here", logical.word))),
        }
    }
    let mut paths = match json(rest) {
        Some(list) => list.iter().map(|text| json_literal(text, escape)).collect(),
        None => words::split(rest, escape)?,
    };
    copy.target = paths
        .pop()
        .filter(|_| !paths.is_empty())
        .ok_or_else(|| format!("{} takes sources and a target", logical.word))?;
    for document in &logical.documents {
        let content = &document.content;
        // What is not quoted has variables; quotes in it are its own.
        let raw = if document.quoted {
            words::literal(content, escape)
        } else {
            content.replace('"', &format!("{escape}\"")).replace('\'', &format!("{escape}'"))
        };
        copy.documents.push((document.name.clone(), raw));
    }
    paths.retain(|path| !path.starts_with("<<"));
    if let Some(url) = paths.iter().find(|path| path.contains("://") || path.starts_with("git@")) {
        return Err(Refusal::Unknown(format!("{url} is no file of the context, and nothing is fetched here")));
    }
    if copy.from.is_some() && paths.iter().any(|path| patterns::is_pattern(path)) {
        return Err(Refusal::Unknown("--from with wildcards is not known here".into()));
    }
    copy.sources = paths;
    Ok(copy)
}

/// `NAME=VALUE …`, or the old form `NAME VALUE`.
fn pairs(word: &str, rest: &str, escape: char) -> Answer<Vec<(String, String)>> {
    let words = words::split(rest, escape)?;
    if words.first().is_some_and(|first| !first.contains('=')) {
        let (name, value) = rest.split_once(char::is_whitespace).ok_or_else(|| format!("{word} takes NAME=VALUE"))?;
        return Ok(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    let pair = |text: &String| {
        let (name, value) = text.split_once('=').ok_or_else(|| format!("{word}: {text:?} is not NAME=VALUE"))?;
        Ok((name.to_owned(), value.to_owned()))
    };
    words.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Parsed> {
        parse(text, Path::new("Dockerfile"))
    }

    fn only(text: &str) -> Instruction {
        let parsed = read(&format!("FROM scratch\n{text}\n")).expect(text);
        parsed.stages[0].lines[0].instruction.clone()
    }

    #[test]
    fn lines_go_on_and_remarks_do_not_count() {
        let text = "# syntax=docker/dockerfile:1\n# escape=`\n\nARG V=1\nFROM base:$V AS One\nRUN a && `\n# a remark\n\n  b `\n  c\nFROM one\n";
        let parsed = read(text).expect("valid");
        assert_eq!((parsed.escape, parsed.globals.len(), parsed.stages.len()), ('`', 1, 2));
        assert_eq!(parsed.stages[0].name.as_deref(), Some("one"));
        let line = &parsed.stages[0].lines[0];
        assert_eq!((line.number, &line.instruction), (6, &Instruction::Run(Command::Shell("a &&   b   c".into()))));
    }

    #[test]
    fn forms() {
        let shell = |text: &str| Command::Shell(text.into());
        let exec = |list: &[&str]| Command::Exec(list.iter().map(|text| (*text).to_owned()).collect());
        assert_eq!(only(r#"RUN ["a", "b c"]"#), Instruction::Run(exec(&["a", "b c"])));
        assert_eq!(only("RUN [ -f /x ]"), Instruction::Run(shell("[ -f /x ]")));
        assert_eq!(only("cmd echo hi"), Instruction::Cmd(shell("echo hi")));
        assert_eq!(only("CMD []"), Instruction::Cmd(exec(&[])));
        assert_eq!(only("ENV A b c"), Instruction::Env(vec![("A".into(), "b c".into())]));
        assert_eq!(
            only("ENV A=b C=\"d e\""),
            Instruction::Env(vec![("A".into(), "b".into()), ("C".into(), "\"d e\"".into())])
        );
        assert_eq!(only("RUN <<EOF\nset -e\necho 'x'\nEOF"), Instruction::Run(shell("set -e\necho 'x'\n")));
        assert_eq!(only("RUN cat <<-X > /f\n\ta\n\tX"), Instruction::Run(shell("cat <<-X > /f\na\nX\n")));
        let Instruction::Copy(copy) = only("COPY --from=one --chown=1:2 --chmod=755 a b /c/") else {
            panic!("no copy")
        };
        assert_eq!((copy.from.as_deref(), copy.owner.as_deref(), copy.mode), (Some("one"), Some("1:2"), Some(0o755)));
        assert_eq!((copy.sources, copy.target.as_str(), copy.unpacks), (vec!["a".into(), "b".into()], "/c/", false));
        let Instruction::Copy(copy) = only("COPY <<'EOF' /f\n$x \"y\"\nEOF") else { panic!("no copy") };
        assert_eq!(copy.documents, [("EOF".to_owned(), "\\$x \\\"y\\\"\n".to_owned())]);
        assert!(copy.sources.is_empty());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, kind, why) in [
            ("", ErrorKind::Invalid, "there is no FROM"),
            ("RUN x", ErrorKind::Invalid, "line 1: RUN before the first FROM"),
            ("FROM a b", ErrorKind::Invalid, "line 1: FROM takes"),
            ("FROM a\n\nFETCH x", ErrorKind::Invalid, "line 3: there is no instruction FETCH"),
            ("FROM a\nONBUILD RUN x", ErrorKind::Unsupported, "line 2: ONBUILD is not known here"),
            ("FROM a\nHEALTHCHECK NONE", ErrorKind::Unsupported, "line 2: HEALTHCHECK"),
            ("FROM a\nRUN --mount=type=cache x", ErrorKind::Unsupported, "line 2: RUN --mount=type=cache"),
            ("FROM a\nCOPY x", ErrorKind::Invalid, "line 2: COPY takes sources and a target"),
            ("FROM a\nCOPY --link x y", ErrorKind::Unsupported, "line 2: COPY --link"),
            ("FROM a\nADD https://example.org/x /", ErrorKind::Unsupported, "line 2: https://example.org/x"),
            ("FROM a\nENV A=b C", ErrorKind::Invalid, "line 2: ENV: \"C\" is not NAME=VALUE"),
            ("FROM a\nENV A='b", ErrorKind::Invalid, "line 2: a quote that does not end"),
            ("FROM a\nRUN <<EOF\nx", ErrorKind::Invalid, "line 2: the here-document EOF does not end"),
            ("FROM a\nSHELL sh", ErrorKind::Invalid, "line 2: SHELL takes a list"),
            ("FROM a\nUSER", ErrorKind::Invalid, "line 2: USER without anything"),
            ("# escape=x\nFROM a", ErrorKind::Invalid, "line 1: \"x\" is no escape"),
        ] {
            let error = read(text).err().unwrap_or_else(|| panic!("{text:?} was taken"));
            assert!(error.to_string().contains(why), "{text:?}: {error}");
            assert_eq!(error.kind(), kind, "{text:?}");
        }
    }
}
