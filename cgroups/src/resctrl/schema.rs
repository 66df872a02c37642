//! Lines of schemata, `NAME:DOMAIN=VALUE;DOMAIN=VALUE`, compared by meaning. Needs no kernel.

/// Whether the schemata of a class say what `line` says about each of its domains.
pub(super) fn holds(schemata: &str, line: &str) -> bool {
    let Some((name, wanted)) = parse(line) else { return false };
    let found: Vec<(&str, &str)> =
        schemata.lines().filter_map(parse).filter(|(other, _)| *other == name).flat_map(|(_, found)| found).collect();
    !wanted.is_empty() && wanted.iter().all(|(domain, value)| found.iter().any(|other| same(*other, (domain, value))))
}

/// The name of the resource, and pairs of a domain and its value.
fn parse(line: &str) -> Option<(&str, Vec<(&str, &str)>)> {
    let (name, rest) = line.trim().split_once(':')?;
    let pairs = rest.split(';').filter(|pair| !pair.trim().is_empty());
    let pairs: Option<Vec<_>> =
        pairs.map(|pair| pair.split_once('=').map(|(domain, value)| (domain.trim(), value.trim()))).collect();
    Some((name.trim(), pairs?))
}

/// The kernel pads numbers with spaces or zeros, as it has room.
fn same(one: (&str, &str), other: (&str, &str)) -> bool {
    let bare = |number: &str| {
        let bare = number.trim_start_matches("0x").trim_start_matches('0').to_ascii_lowercase();
        if bare.is_empty() { "0".to_owned() } else { bare }
    };
    bare(one.0) == bare(other.0) && bare(one.1) == bare(other.1)
}

#[cfg(test)]
mod tests {
    use super::holds;

    #[test]
    fn lines_are_compared_by_meaning() {
        let text = "    MB:0=100;1= 70\n    L3:0=00fff;1=0003f\nL2:0=ff\n";
        for line in ["L3:0=fff;1=3f", "L3:1=3F", "L3:1=0x3f;0=fff", "MB:1=70", "MB:0=100;1=70", " L2:0=ff "] {
            assert!(holds(text, line), "{line}");
        }
        for line in ["L3:0=ff", "L3:2=3f", "MB:0=10", "L3CODE:0=fff", "L3", "L3:", "L3:0", "", "L3:0=fff;1=3f;2=1"] {
            assert!(!holds(text, line), "{line}");
        }
    }
}
