//! Words of a build file: split, unquoted, and with variables filled in. Pure.

/// Makes a value that stands for itself.
pub(crate) fn literal(value: &str, escape: char) -> String {
    let mut raw = String::with_capacity(value.len());
    for character in value.chars() {
        if character == escape || matches!(character, '$' | '"' | '\'') {
            raw.push(escape);
        }
        raw.push(character);
    }
    raw
}

/// Splits at blanks outside of quotes. Quotes and escapes stay.
pub(crate) fn split(text: &str, escape: char) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character.is_whitespace() && quote.is_none() {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_default();
        word.push(character);
        match (character, quote) {
            (_, Some('\'')) if character != '\'' => {}
            (character, _) if character == escape => word.extend(characters.next()),
            ('"' | '\'', None) => quote = Some(character),
            (character, Some(open)) if character == open => quote = None,
            _ => {}
        }
    }
    if quote.is_some() {
        return Err("a quote that does not end".into());
    }
    words.extend(word);
    Ok(words)
}

/// Takes quotes and escapes away and fills variables in: `$NAME`, `${NAME}`, `${NAME:-word}`, `${NAME-word}`, `${NAME:+word}`,
/// `${NAME+word}`. One that is not set is empty.
pub(crate) fn expand(raw: &str, escape: char, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let characters: Vec<char> = raw.chars().collect();
    let (mut result, mut index, mut double) = (String::new(), 0, false);
    while let Some(character) = characters.get(index).copied() {
        index += 1;
        match character {
            '\'' if !double => {
                let end = characters[index..].iter().position(|c| *c == '\'').ok_or("a quote that does not end")?;
                result.extend(&characters[index..index + end]);
                index += end + 1;
            }
            '"' => double = !double,
            character if character == escape => {
                let next = characters.get(index).copied();
                // In double quotes only what would mean something is escaped.
                if double && !next.is_some_and(|next| next == escape || matches!(next, '"' | '$')) {
                    result.push(escape);
                }
                result.extend(next);
                index += 1;
            }
            '$' => index = variable(&characters, index, escape, lookup, &mut result)?,
            other => result.push(other),
        }
    }
    if double { Err("a quote that does not end".into()) } else { Ok(result) }
}

/// Fills one variable in; where to go on.
fn variable(
    characters: &[char],
    mut index: usize,
    escape: char,
    lookup: &dyn Fn(&str) -> Option<String>,
    result: &mut String,
) -> Result<usize, String> {
    let braced = characters.get(index) == Some(&'{');
    index += usize::from(braced);
    let length = characters[index..].iter().take_while(|c| c.is_ascii_alphanumeric() || **c == '_').count();
    let name: String = characters[index..index + length].iter().collect();
    index += length;
    if !braced {
        match name.as_str() {
            "" => result.push('$'),
            name => result.push_str(&lookup(name).unwrap_or_default()),
        }
        return Ok(index);
    }
    let mut depth = 1;
    let end = characters[index..].iter().position(|character| {
        depth += i32::from(*character == '{') - i32::from(*character == '}');
        depth == 0
    });
    let end = index + end.ok_or("a variable that does not end")?;
    let rest: String = characters[index..end].iter().collect();
    let value = lookup(&name);
    let full = value.clone().filter(|value| !value.is_empty());
    if name.is_empty() {
        return Err("a variable without a name".into());
    }
    let word = |text: &str| expand(text, escape, lookup);
    if rest.is_empty() {
        result.push_str(&value.unwrap_or_default());
    } else if let Some(text) = rest.strip_prefix(":-") {
        result.push_str(&full.map_or_else(|| word(text), Ok)?);
    } else if let Some(text) = rest.strip_prefix(":+") {
        result.push_str(&full.map_or_else(|| Ok(String::new()), |_| word(text))?);
    } else if let Some(text) = rest.strip_prefix('-') {
        result.push_str(&value.map_or_else(|| word(text), Ok)?);
    } else if let Some(text) = rest.strip_prefix('+') {
        result.push_str(&value.map_or_else(|| Ok(String::new()), |_| word(text))?);
    } else {
        return Err(format!("${{{name}{rest}}} is no variable that is known here"));
    }
    Ok(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_and_quotes() {
        let lookup = |name: &str| match name {
            "A" => Some("a b".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        for (raw, value) in [
            ("$A", "a b"),
            ("x${A}y", "xa by"),
            ("'$A'", "$A"),
            ("\"$A\"", "a b"),
            ("\\$A", "$A"),
            ("$", "$"),
            ("$NONE", ""),
            ("${NONE:-d}", "d"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${A:+yes}", "yes"),
            ("${NONE:+yes}", ""),
            ("${NONE:-${A}}", "a b"),
            ("\"a\\nb\"", "a\\nb"),
            ("a\\ b", "a b"),
            ("\"it's\"", "it's"),
        ] {
            assert_eq!(expand(raw, '\\', &lookup).as_deref(), Ok(value), "{raw}");
        }
        for raw in ["'x", "\"x", "${A", "${}", "${A%x}"] {
            assert!(expand(raw, '\\', &lookup).is_err(), "{raw}");
        }
        for value in ["plain", "$A", "a\\b", "it's \"so\"", "${A}"] {
            assert_eq!(expand(&literal(value, '\\'), '\\', &lookup).as_deref(), Ok(value));
        }
    }

    #[test]
    fn words_are_split_outside_of_quotes() {
        assert_eq!(split(r#"a "b c"  d\ e 'f "g'"#, '\\').expect("words"), ["a", r#""b c""#, r"d\ e", r#"'f "g'"#]);
        assert!(split("a 'b", '\\').is_err());
    }
}
