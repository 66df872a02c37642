//! What a registry says it wants: the `WWW-Authenticate` header.
//!
//! Job: parse RFC 9110's challenges as far as `Bearer` and `Basic` need it. Pure. Leaves out acting on them.

/// One challenge.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

/// The best challenge of these headers: a bearer token if there is a choice.
pub(crate) fn best<'h>(headers: impl Iterator<Item = &'h str>) -> Option<Challenge> {
    let mut basic = None;
    for header in headers {
        for (scheme, parameters) in parse(header) {
            let find = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
            match scheme.as_str() {
                "bearer" => {
                    if let Some(realm) = find("realm") {
                        return Some(Challenge::Bearer { realm, service: find("service") });
                    }
                }
                "basic" => basic = Some(Challenge::Basic),
                _ => {}
            }
        }
    }
    basic
}

type Parameters = Vec<(String, String)>;

/// Splits `Scheme key=value, key="value", Scheme …`. Stops at what it does not understand.
fn parse(header: &str) -> Vec<(String, Parameters)> {
    let mut challenges: Vec<(String, Parameters)> = Vec::new();
    let mut rest = header.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() && challenges.len() < 16 {
        let end = rest.find(|c: char| !is_token(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            break;
        }
        let trimmed = after.trim_start_matches([' ', '\t']);
        // `key=` belongs to the challenge before it; a padded token68 does not occur in what we accept.
        rest = match (trimmed.strip_prefix('='), challenges.last_mut()) {
            (Some(value), Some((_, parameters))) if parameters.len() < 32 => {
                let Some((value, rest)) = value_of(value.trim_start_matches([' ', '\t'])) else { break };
                parameters.push((word.to_ascii_lowercase(), value));
                rest
            }
            (None, _) => {
                challenges.push((word.to_ascii_lowercase(), Vec::new()));
                trimmed
            }
            _ => break,
        };
        rest = rest.trim_start_matches([' ', '\t', ',']);
    }
    challenges
}

/// A token, or a quoted string with its escapes resolved; and what follows.
fn value_of(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| c == ',' || c.is_ascii_whitespace()).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((position, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[position + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_as_registries_write_them() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer { realm: realm.into(), service: service.map(Into::into) })
        };
        for (headers, expected) in [
            (
                &[r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="a:b:pull""#][..],
                bearer("https://auth.docker.io/token", Some("registry.docker.io")),
            ),
            (&["bearer realm=https://x/t , service=y"], bearer("https://x/t", Some("y"))),
            (&["Basic realm=\"x\"", "Bearer realm=\"r\""], bearer("r", None)),
            (&["Basic realm=\"a, Bearer realm=b\""], Some(Challenge::Basic)),
            (&["Basic realm=\"x\", Bearer realm=\"r\""], bearer("r", None)),
            (&[r#"Bearer error="a\"b",realm="r""#], bearer("r", None)),
            (&["Bearer service=\"x\""], None),
            (&["Negotiate", "Basic"], Some(Challenge::Basic)),
            (&["Bearer realm=\"unfinished"], None),
            (&["", ",,", "=", "é", "\"\""], None),
        ] {
            assert_eq!(best(headers.iter().copied()), expected, "{headers:?}");
        }
    }
}
