//! Versions in the form of Semantic Versioning 2.0.0.
//!
//! Left out on purpose: the order of pre-releases, which no rule needs. Needs no kernel.

/// Major, minor and patch number, if `text` is a version.
pub(crate) fn parse(text: &str) -> Option<(u64, u64, u64)> {
    let (text, build) = split(text, '+');
    let (core, pre_release) = split(text, '-');
    let identifiers = |list: Option<&str>, numbers_are_plain: bool| {
        list.is_none_or(|list| {
            list.split('.').all(|id| {
                let word = !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
                let digits = id.bytes().all(|b| b.is_ascii_digit());
                word && !(numbers_are_plain && digits && id.len() > 1 && id.starts_with('0'))
            })
        })
    };
    if !identifiers(build, false) || !identifiers(pre_release, true) {
        return None;
    }
    let mut numbers = core.split('.').map(number);
    let version = (numbers.next()??, numbers.next()??, numbers.next()??);
    numbers.next().is_none().then_some(version)
}

fn split(text: &str, at: char) -> (&str, Option<&str>) {
    text.split_once(at).map_or((text, None), |(before, after)| (before, Some(after)))
}

fn number(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn semver_grammar() {
        for good in ["1.3.0", "0.5.0-dev", "1.2.1+dev", "1.0.0-rc.1+a.01", "10.20.30", "1.0.0--", "1.0.0-0"] {
            assert!(parse(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "1",
            "1.3",
            "1.3.0.0",
            "v1.3.0",
            "01.3.0",
            "1.3.0-",
            "1.3.0-01",
            "1.3.0+",
            "1.3.x",
            " 1.3.0",
            "1.3.0 ",
            "+1.3.0",
            "1.-3.0",
            "1.3.0-a..b",
            "99999999999999999999.0.0",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(parse("1.2.3-rc.1"), Some((1, 2, 3)));
    }
}
