//! Patterns of paths: which files of a context are left out, and which a source with wildcards means. Pure.
//!
//! `*` stands for anything within a name, `?` for one character, `[a-z]` for one of several, `**` for any number of directories. The last
//! pattern that fits a path or a directory above it decides; one after `!` takes paths in again.

use std::path::Path;

use keelbox_image_spec::Pick;

/// What a context leaves out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ignored {
    /// Components, and whether the pattern takes in again.
    patterns: Vec<(Vec<String>, bool)>,
}

impl Ignored {
    /// Reads the text of a `.dockerignore`.
    pub(crate) fn parse(text: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = text.lines().filter(|line| !line.starts_with('#')).map(str::trim).filter(|line| !line.is_empty());
        let patterns = lines.filter_map(|line| {
            let (pattern, again) = match line.strip_prefix('!') {
                Some(rest) => (rest.trim(), true),
                None => (line, false),
            };
            let components = components(pattern);
            (!components.is_empty()).then_some((components, again))
        });
        Self { patterns: patterns.collect() }
    }

    /// Whether a path of the context is left out.
    pub(crate) fn has(&self, path: &Path) -> bool {
        let parts: Vec<String> =
            path.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
        let mut ignored = false;
        for (pattern, again) in &self.patterns {
            let fits = (1..=parts.len()).any(|length| matches(pattern, &parts[..length]));
            if fits {
                ignored = !again;
            }
        }
        ignored
    }

    /// What becomes of a path.
    pub(crate) fn pick(&self, path: &Path) -> Pick {
        match self.has(path) {
            false => Pick::Take,
            // Something in it may be taken in again.
            true if self.patterns.iter().any(|(_, again)| *again) => Pick::Look,
            true => Pick::Leave,
        }
    }
}

/// The components of a path or pattern, without `.`, `..` as far as they lead, and slashes at its ends.
pub(crate) fn components(path: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part.to_owned()),
        }
    }
    parts
}

/// Whether a pattern has wildcards.
pub(crate) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// Whether all of a path fits all of a pattern.
pub(crate) fn matches(pattern: &[String], path: &[String]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == "**" => (0..=path.len()).any(|skipped| matches(rest, &path[skipped..])),
        (Some((first, rest)), Some((name, below))) => {
            let (first, name): (Vec<char>, Vec<char>) = (first.chars().collect(), name.chars().collect());
            fits(&first, &name) && matches(rest, below)
        }
        _ => false,
    }
}

fn fits(pattern: &[char], name: &[char]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some(('*', rest)), _) => (0..=name.len()).any(|skipped| fits(rest, &name[skipped..])),
        (Some(('?', rest)), Some((_, below))) => fits(rest, below),
        (Some(('[', rest)), Some((character, below))) => match rest.iter().skip(1).position(|c| *c == ']') {
            Some(end) => class(&rest[..=end], *character) && fits(&rest[end + 2..], below),
            None => false,
        },
        (Some(('\\', rest)), Some((character, below))) => {
            rest.split_first().is_some_and(|(first, rest)| first == character && fits(rest, below))
        }
        (Some((first, rest)), Some((character, below))) => first == character && fits(rest, below),
        _ => false,
    }
}

/// Whether a character is in a class such as `a-z_` or `^0-9`.
fn class(members: &[char], character: char) -> bool {
    let (members, negated) = match members.split_first() {
        Some(('^' | '!', rest)) => (rest, true),
        _ => (members, false),
    };
    let (mut index, mut found) = (0, false);
    while let Some(first) = members.get(index) {
        match (members.get(index + 1), members.get(index + 2)) {
            (Some('-'), Some(last)) => {
                found |= (*first..=*last).contains(&character);
                index += 3;
            }
            _ => {
                found |= *first == character;
                index += 1;
            }
        }
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_pattern_decides() {
        let ignored =
            Ignored::parse("# a remark\n*.o\n/target/\n**/cache\n!cache/keep\ndocs/*.md\n!docs/README.md\n[ab]?\n");
        for (path, left_out) in [
            ("a.o", true),
            ("sub/a.o", false),
            ("target", true),
            ("target/deep/er", true),
            ("sub/target", false),
            ("cache", true),
            ("x/y/cache/z", true),
            ("cache/keep", false),
            ("docs/x.md", true),
            ("docs/README.md", false),
            ("docs/sub/x.md", false),
            ("ax", true),
            ("cx", false),
        ] {
            assert_eq!(ignored.has(Path::new(path)), left_out, "{path}");
        }
        assert_eq!(ignored.pick(Path::new("cache")), Pick::Look);
        assert_eq!(Ignored::parse("x").pick(Path::new("x")), Pick::Leave);
    }
}
