//! Grammars that several rules share: lists of numbers, paths, id maps, device names.
//!
//! Needs no kernel.
use super::Context;
use crate::node::Node;
use crate::problem::{Rule, quote};

/// A list of CPUs or memory nodes such as `0-3,7` (cpuset(7), "List format"), as ranges.
pub(crate) fn number_list(text: &str) -> Result<Vec<(u32, u32)>, String> {
    let number = |digits: &str| {
        let valid = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        valid.then(|| digits.parse::<u32>().ok()).flatten()
    };
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => Ok((first, last)),
            _ => Err(format!("has {} where a number or range must be", quote(part))),
        }
    };
    text.split(',').map(|part| range(part.trim())).collect()
}

/// Reports a list that does not follow the grammar. An empty text is an empty list.
pub(crate) fn check_number_list(context: &mut Context<'_>, at: Option<Node<'_>>, rule: Rule) {
    let Some(at) = at else { return };
    if let Some(Err(message)) = at.text().filter(|text| !text.is_empty()).map(number_list) {
        context.error(&at, rule, message);
    }
}

/// Reports a path that does not begin with a slash.
pub(crate) fn check_absolute(context: &mut Context<'_>, at: &Node<'_>, rule: Rule) {
    if let Some(path) = at.text().filter(|path| !path.starts_with('/')) {
        context.error(at, rule, format!("must be an absolute path, is {}", quote(path)));
    }
}

/// Reports two different elements of a list with the same key, at the later one.
pub(crate) fn check_unique(context: &mut Context<'_>, items: &[Node<'_>], key: &'static str, rule: Rule) {
    let mut seen = std::collections::HashSet::new();
    for item in items {
        if let Some(value) = item.text_at(key)
            && !seen.insert(value)
        {
            context.error(&item.member(key), rule, format!("{} is listed twice", quote(value)));
        }
    }
}

/// The most lines the kernel takes in `uid_map` (user_namespaces(7), since Linux 4.15).
const MOST_MAPPINGS: usize = 340;

/// Reports id mappings that the kernel refuses: empty, overflowing, overlapping, too many.
pub(crate) fn check_mappings(context: &mut Context<'_>, list: Option<Node<'_>>, rule: Rule) {
    let Some(list) = list else { return };
    let mut inside = Vec::new();
    let mut outside = Vec::new();
    for mapping in list.items() {
        let numbers = ["containerID", "hostID", "size"].map(|name| mapping.integer_at(name));
        let [Some(container), Some(host), Some(size)] = numbers else {
            continue;
        };
        if size == 0 {
            context.error(&mapping.member("size"), rule, "must not be 0");
        }
        // The last id, 2^32-1, means "no id" to system calls and cannot be mapped.
        if container.max(host) + size > i128::from(u32::MAX) {
            context.error(&mapping, rule, "must end below id 4294967295");
        }
        inside.push((container, size, mapping.clone()));
        outside.push((host, size, mapping));
    }
    if inside.len() > MOST_MAPPINGS {
        let message = format!("has {} entries, Linux takes {MOST_MAPPINGS}", inside.len());
        context.error(&list, rule, message);
    }
    for (mut ranges, name) in [(inside, "containerID"), (outside, "hostID")] {
        ranges.sort_by_key(|(first, ..)| *first);
        for pair in ranges.windows(2) {
            if pair[0].0 + pair[0].1 > pair[1].0 {
                let message = format!("overlaps {}", pair[0].2.pointer());
                context.error(&pair[1].2.member(name), rule, message);
            }
        }
    }
}

/// Whether the kernel takes `name` for a network device (`dev_valid_name`, `net/core/dev.c`).
pub(crate) fn device_name(name: &str) -> bool {
    let printable = |b: u8| b > b' ' && b != 0x7f && b != b'/' && b != b':';
    (1..16).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(printable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_lists() {
        assert_eq!(number_list("0-3,7"), Ok(vec![(0, 3), (7, 7)]));
        assert_eq!(number_list("1, 2"), Ok(vec![(1, 1), (2, 2)]));
        for bad in ["", ",", "1,", "3-1", "-1", "1-", "a", "1-2-3", "+1", "99999999999"] {
            assert!(number_list(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn device_names() {
        for good in ["eth0", "a", "veth1234567890x", "br-é"] {
            assert!(device_name(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "a:b", "0123456789abcdef", "a\n"] {
            assert!(!device_name(bad), "{bad}");
        }
    }
}
