//! The command man: the manual page, in the language of man(7), made from the table of commands. Needs no kernel.

use std::fmt::Write as _;

use crate::context::Context;
use crate::failure::Outcome;
use crate::grammar::Opt;
use crate::help::STATUS;
use crate::print;
use crate::read::Given;
use crate::table::{self, GLOBAL};

pub(crate) fn manual(_: &Context<'_>, _: Given) -> Outcome {
    print(&page())
}

/// Text that stands for itself: a line that begins with a dot would be a request.
fn plain(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

fn options<'o>(page: &mut String, options: impl Iterator<Item = &'o Opt>) {
    for option in options {
        let letter = option.letter.map_or_else(String::new, |letter| format!("\\-{letter}, "));
        let value = option.value.map_or_else(String::new, |value| format!(" \\fI{}\\fR", plain(value)));
        let _written =
            write!(page, ".TP\n\\fB{letter}\\-\\-{}\\fR{value}\n{}\n", plain(option.name), plain(option.about));
    }
}

fn page() -> String {
    let mut page = format!(
        ".TH KEELBOX 8 \"\" \"keelbox {}\" \"System Administration\"\n.SH NAME\nkeelbox \\- run OCI bundles in containers\n\
         .SH SYNOPSIS\n\\fBkeelbox\\fR [\\fIOPTION\\fR…] \\fICOMMAND\\fR …\n.SH DESCRIPTION\n\
         Runs OCI bundles: directories with a config.json and a root file system. Engines such as podman, Docker and\n\
         containerd can use it as their runtime.\n.SH OPTIONS\nThese stand before the command.\n",
        env!("CARGO_PKG_VERSION")
    );
    options(&mut page, GLOBAL.iter());
    page.push_str(".SH COMMANDS\n");
    for command in table::every() {
        let about = plain(command.about);
        let _written = write!(page, ".SS \"{}\"\n{about}.\n", plain(&command.usage()));
        if !command.more.is_empty() {
            let _written = writeln!(page, ".br\n{}", plain(command.more));
        }
        options(&mut page, command.every_option());
    }
    let _written = write!(
        page,
        ".SH EXIT STATUS\n{}\n.SH SEE ALSO\n\\fBnamespaces\\fR(7), \\fBcgroups\\fR(7), \\fBcapabilities\\fR(7)\n",
        plain(STATUS)
    );
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_its_section() {
        let page = page();
        for command in table::every() {
            assert!(page.contains(&format!(".SS \"{}", plain(command.name))), "{}", command.name);
            for option in command.every_option() {
                assert!(page.contains(&format!("\\-\\-{}", plain(option.name))), "{}", option.name);
            }
        }
        // A line that begins with a dot is a request, of which this page has no others.
        let requests = page.lines().filter(|line| line.starts_with('.'));
        for request in requests {
            let name = request.split(' ').next().unwrap_or("");
            assert!([".TH", ".SH", ".SS", ".TP", ".br"].contains(&name), "{request}");
        }
    }
}
