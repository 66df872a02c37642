//! The command completions: a script for a shell, made from the table of commands.
//!
//! The ids of containers are asked of `keelbox list --quiet` when they are needed. Needs no kernel.

use std::fmt::Write as _;

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::grammar::{Command, Opt};
use crate::print;
use crate::read::Given;
use crate::table::{COMMANDS, GLOBAL};

pub(crate) fn completions(_: &Context<'_>, mut given: Given) -> Outcome {
    let shell = given.id()?;
    match shell.as_str() {
        "bash" => print(&bash()),
        "zsh" => print(&zsh()),
        "fish" => print(&fish()),
        _ => Err(Failure::new(format!("there are no completions for {shell:?}: the shell is bash, zsh or fish"))),
    }
}

/// How an option is written, the long way first.
fn spellings(option: &Opt) -> Vec<String> {
    let letter = option.letter.map(|letter| format!("-{letter}"));
    std::iter::once(format!("--{}", option.name)).chain(letter).collect()
}

/// Whether the value of an option is a file or a directory.
fn is_path(option: &Opt) -> bool {
    matches!(option.value, Some("FILE" | "DIRECTORY" | "SOCKET"))
}

fn takes_id(command: &Command) -> bool {
    command.words.first().is_some_and(|word| word.name == "ID") && !matches!(command.name, "run" | "create")
}

fn names() -> String {
    COMMANDS.iter().map(|command| command.name).collect::<Vec<_>>().join(" ")
}

fn of_images() -> String {
    let names = crate::table::of_images().iter().filter_map(|command| command.name.strip_prefix("image "));
    names.collect::<Vec<_>>().join(" ")
}

fn all_spellings<'o>(options: impl Iterator<Item = &'o Opt>) -> String {
    options.flat_map(spellings).chain(["--help".to_owned()]).collect::<Vec<_>>().join(" ")
}

fn bash() -> String {
    let mut script = "\
_keelbox() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command= root= index
  for ((index = 1; index < COMP_CWORD; index++)); do
    case ${COMP_WORDS[index]} in
      --root) root=${COMP_WORDS[index + 1]} ;;&
"
    .to_owned();
    let valued: Vec<String> = GLOBAL.iter().filter(|option| option.value.is_some()).flat_map(spellings).collect();
    let _written = write!(
        script,
        "      {}) ((index++)) ;;\n      -*) ;;\n      *) command=${{COMP_WORDS[index]}}; break ;;\n    esac\n  done\n  case $command:$before in\n",
        valued.join("|")
    );
    let globals = GLOBAL.iter().map(|option| (None, option));
    let of_commands =
        COMMANDS.iter().flat_map(|command| command.every_option().map(move |option| (Some(command.name), option)));
    for (command, option) in globals.chain(of_commands).filter(|(_, option)| option.value.is_some()) {
        let patterns: Vec<String> =
            spellings(option).iter().map(|spelling| format!("{}:{spelling}", command.unwrap_or(""))).collect();
        let offer = match (option.choices, is_path(option)) {
            ("", true) => "compgen -f -- \"$word\"".to_owned(),
            ("", false) => "true".to_owned(),
            (choices, _) => format!("compgen -W '{choices}' -- \"$word\""),
        };
        let _written = writeln!(script, "    {}) mapfile -t COMPREPLY < <({offer}); return ;;", patterns.join("|"));
    }
    script.push_str("  esac\n  case $command in\n");
    for command in COMMANDS {
        let options = all_spellings(command.every_option());
        let ids = if takes_id(command) { " $(keelbox ${root:+--root \"$root\"} list --quiet 2>/dev/null)" } else { "" };
        let words = match command.name {
            "completions" => "bash zsh fish".to_owned(),
            "help" => names(),
            "image" => of_images(),
            _ => options,
        };
        let offer = match command.name {
            "plan" => format!("compgen -d -W '{words}' -- \"$word\""),
            _ => format!("compgen -W \"{words}{ids}\" -- \"$word\""),
        };
        let _written = writeln!(script, "    {}) mapfile -t COMPREPLY < <({offer}) ;;", command.name);
    }
    let _written = write!(
        script,
        "    '') mapfile -t COMPREPLY < <(compgen -W '{} {}' -- \"$word\") ;;\n  esac\n}}\ncomplete -o filenames -F _keelbox keelbox\n",
        names(),
        all_spellings(GLOBAL.iter())
    );
    script
}

/// What a zsh specification may not hold as it is.
fn zsh_text(text: &str) -> String {
    text.replace('\'', "'\\''").replace('[', "\\[").replace(']', "\\]").replace(':', "\\:")
}

fn zsh_option(option: &Opt) -> String {
    let about = zsh_text(option.about);
    let value = match (option.value, option.choices) {
        (None, _) => String::new(),
        (Some(value), "") if is_path(option) => format!(":{value}:_files"),
        (Some(value), "") => format!(":{}: ", zsh_text(value)),
        (Some(value), choices) => format!(":{value}:({choices})"),
    };
    let one = |spelling: &str| format!("'*{spelling}[{about}]{value}'");
    spellings(option).iter().map(|spelling| one(spelling)).collect::<Vec<_>>().join(" ")
}

fn zsh() -> String {
    let mut script = "#compdef keelbox\n\n_keelbox_ids() {\n  local -a ids\n  ids=(${(f)\"$(keelbox list --quiet 2>/dev/null)\"})\n  compadd -a ids\n}\n\n_keelbox() {\n  local curcontext=$curcontext state line\n  local -a commands\n  commands=(\n".to_owned();
    for command in COMMANDS {
        let _written = writeln!(script, "    '{}:{}'", command.name, zsh_text(command.about));
    }
    script.push_str("  )\n  _arguments -C \\\n");
    for option in GLOBAL {
        let _written = writeln!(script, "    {} \\", zsh_option(option));
    }
    script.push_str("    '1:command:->command' '*::argument:->argument'\n  case $state in\n    command) _describe command commands ;;\n    argument)\n      case $words[1] in\n");
    for command in COMMANDS {
        let options: Vec<String> = command.every_option().map(zsh_option).collect();
        let words = match command.name {
            name if takes_id(command) && name == "exec" => " '1:ID:_keelbox_ids' '*:::PROGRAM:_normal'".to_owned(),
            _ if takes_id(command) => " '1:ID:_keelbox_ids'".to_owned(),
            "completions" => " '1:SHELL:(bash zsh fish)'".to_owned(),
            "image" => format!(" '1:COMMAND:({})'", of_images()),
            "plan" => " '1:BUNDLE:_files -/'".to_owned(),
            _ => String::new(),
        };
        let _written =
            writeln!(script, "        {}) _arguments '--help[its help]' {}{words} ;;", command.name, options.join(" "));
    }
    script.push_str("      esac ;;\n  esac\n}\n\n_keelbox \"$@\"\n");
    script
}

fn fish() -> String {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
    let mut script = "complete -c keelbox -f\n".to_owned();
    let mut option_line = |condition: &str, option: &Opt| {
        let letter = option.letter.map_or_else(String::new, |letter| format!(" -s {letter}"));
        let value = match (option.value, option.choices) {
            (None, _) => String::new(),
            (Some(_), "") if is_path(option) => " -r -F".to_owned(),
            (Some(_), "") => " -x".to_owned(),
            (Some(_), choices) => format!(" -x -a '{choices}'"),
        };
        let (name, about) = (option.name, quoted(option.about));
        let _written = writeln!(script, "complete -c keelbox -n '{condition}' -l {name}{letter}{value} -d '{about}'");
    };
    for option in GLOBAL {
        option_line("__fish_use_subcommand", option);
    }
    for command in COMMANDS {
        for option in command.every_option() {
            option_line(&format!("__fish_seen_subcommand_from {}", command.name), option);
        }
    }
    for command in COMMANDS {
        let (name, about) = (command.name, quoted(command.about));
        let _written = writeln!(script, "complete -c keelbox -n __fish_use_subcommand -a {name} -d '{about}'");
        let words = match name {
            _ if takes_id(command) => "(keelbox list --quiet 2>/dev/null)".to_owned(),
            "completions" => "bash zsh fish".to_owned(),
            "image" => of_images(),
            _ => continue,
        };
        let _written = writeln!(script, "complete -c keelbox -n '__fish_seen_subcommand_from {name}' -a '{words}'");
    }
    script
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    /// What a shell says about a script that it reads without running it.
    fn checked(shell: &[&str], script: &str) -> Option<String> {
        let child = Command::new(shell[0]).args(&shell[1..]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.ok()?;
        child.stdin.take()?.write_all(script.as_bytes()).ok()?;
        let output = child.wait_with_output().ok()?;
        Some(format!("{:?} {}", output.status.code(), String::from_utf8_lossy(&output.stderr)))
    }

    #[test]
    fn shells_can_read_them() {
        assert_eq!(checked(&["bash", "-n"], &bash()).as_deref(), Some("Some(0) "));
        for (shell, script) in [(["zsh", "-n"], zsh()), (["fish", "-n"], fish())] {
            // Where there is no such shell, nothing can be said.
            if let Some(said) = checked(&shell, &script) {
                assert_eq!(said, "Some(0) ", "{}", shell[0]);
            }
        }
        for command in COMMANDS {
            assert!([bash(), zsh(), fish()].iter().all(|script| script.contains(command.name)), "{}", command.name);
        }
    }

    #[test]
    fn bash_completes_by_its_script() {
        let complete = |line: &[&str]| {
            let words: Vec<String> = line.iter().map(|word| format!("'{word}'")).collect();
            let script = format!(
                "{}\nCOMP_WORDS=({}); COMP_CWORD={}; _keelbox; echo \"${{COMPREPLY[*]}}\"",
                bash(),
                words.join(" "),
                line.len() - 1
            );
            let output = Command::new("bash").args(["-c", &script]).output().expect("bash is there");
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        };
        assert_eq!(complete(&["keelbox", "pa"]), "pause");
        assert_eq!(complete(&["keelbox", "--log-format", ""]), "text json");
        assert_eq!(complete(&["keelbox", "--root", "/x", "list", "--q"]), "--quiet");
        assert_eq!(complete(&["keelbox", "list", "--format", "j"]), "json");
        assert_eq!(complete(&["keelbox", "completions", "f"]), "fish");
        #[cfg(feature = "images")]
        assert_eq!(complete(&["keelbox", "image", "pus"]), "push");
    }
}
