//! Bodies of netlink messages: a head of fixed size and attributes, written and read. Pure.

/// A head and attributes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Body(Vec<u8>);

/// Says that an attribute consists of attributes (`NLA_F_NESTED`).
const NESTED: u16 = 0x8000;

impl Body {
    pub(crate) fn new(head: &[u8]) -> Self {
        Self(head.to_vec())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn put(mut self, kind: u16, value: &[u8]) -> Self {
        self.0.extend((4 + value.len() as u16).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub(crate) fn text(self, kind: u16, text: &str) -> Self {
        self.put(kind, &[text.as_bytes(), &[0]].concat())
    }

    /// A number as this machine has it: rtnetlink.
    pub(crate) fn word(self, kind: u16, number: u32) -> Self {
        self.put(kind, &number.to_ne_bytes())
    }

    /// A number in the order of networks: nf_tables.
    pub(crate) fn big(self, kind: u16, number: u32) -> Self {
        self.put(kind, &number.to_be_bytes())
    }

    pub(crate) fn nest(self, kind: u16, inner: Self) -> Self {
        self.put(kind | NESTED, &inner.0)
    }

    /// As [`nest`](Self::nest), behind a head of fixed size, and without the mark that it consists of attributes.
    pub(crate) fn headed(self, kind: u16, inner: Self) -> Self {
        self.put(kind, &inner.0)
    }

    pub(crate) fn when(self, condition: bool, more: impl FnOnce(Self) -> Self) -> Self {
        if condition { more(self) } else { self }
    }
}

/// Type and value of each attribute; nothing from the first one on that is cut off.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & 0x3fff, value))
    })
}

/// The number in an attribute, as this machine has it.
pub(crate) fn number(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// The text of an attribute, without the byte that ends it.
pub(crate) fn text_of(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(value.get(..end).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let body = Body::new(&[]).text(3, "lo").word(4, 1500).nest(18, Body::new(&[]).text(1, "veth"));
        let found: Vec<_> = attributes(body.bytes()).collect();
        assert_eq!(found.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [3, 4, 18]);
        assert_eq!((text_of(found[0].1), number(found[1].1)), ("lo".into(), Some(1500)));
        assert_eq!(attributes(found[2].1).map(|(_, value)| text_of(value)).collect::<Vec<_>>(), ["veth"]);
        for length in 0..body.bytes().len() {
            assert!(attributes(&body.bytes()[..length]).count() <= 3);
        }
    }
}
