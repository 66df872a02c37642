//! Messages of D-Bus as bytes: what is sent to systemd, and the little that is read of its answers. Pure.
//!
//! Written in the order of the D-Bus specification ("Message Protocol"), little-endian as every machine is that this runs on. Leaves out
//! types that systemd is not told, and descriptors. Needs no kernel.

/// The longest message that is read; systemd's answers are a few hundred bytes.
pub(super) const LONGEST: usize = 1 << 20;
/// The part of a message that has always the same length.
pub(super) const FIXED: usize = 16;

const CALL: u8 = 1;
const REPLY: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

/// A value in a variant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Value {
    Text(String),
    Flag(bool),
    Number(u64),
    Numbers(Vec<u32>),
    Bytes(Vec<u8>),
}

impl Value {
    fn signature(&self) -> &'static str {
        match self {
            Self::Text(_) => "s",
            Self::Flag(_) => "b",
            Self::Number(_) => "t",
            Self::Numbers(_) => "au",
            Self::Bytes(_) => "ay",
        }
    }
}

/// A property of a unit and its value.
pub(super) type Property = (String, Value);

/// Bytes of a message. Each value begins at a multiple of its own size.
#[derive(Debug, Default)]
pub(super) struct Body(Vec<u8>);

impl Body {
    #[cfg(test)]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    pub(super) fn number(&mut self, number: u32) -> &mut Self {
        self.align(4);
        self.0.extend(number.to_le_bytes());
        self
    }

    pub(super) fn flag(&mut self, flag: bool) -> &mut Self {
        self.number(u32::from(flag))
    }

    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.number(text.len() as u32);
        self.0.extend(text.bytes());
        self.0.push(0);
        self
    }

    fn signature(&mut self, signature: &str) -> &mut Self {
        self.0.push(signature.len() as u8);
        self.0.extend(signature.bytes());
        self.0.push(0);
        self
    }

    /// The length counts neither itself nor the padding before the first element.
    fn array(&mut self, align: usize, elements: impl FnOnce(&mut Self)) -> &mut Self {
        self.number(0);
        let place = self.0.len() - 4;
        self.align(align);
        let begin = self.0.len();
        elements(self);
        let length = (self.0.len() - begin) as u32;
        self.0[place..place + 4].copy_from_slice(&length.to_le_bytes());
        self
    }

    /// `a(sv)`
    pub(super) fn properties(&mut self, properties: &[Property]) -> &mut Self {
        self.array(8, |body| {
            for (name, value) in properties {
                body.align(8);
                body.text(name).variant(value);
            }
        })
    }

    /// An empty array of structures.
    pub(super) fn nothing(&mut self) -> &mut Self {
        self.array(8, |_| ())
    }

    fn variant(&mut self, value: &Value) -> &mut Self {
        self.signature(value.signature());
        match value {
            Value::Text(text) => self.text(text),
            Value::Flag(flag) => self.flag(*flag),
            Value::Number(number) => {
                self.align(8);
                self.0.extend(number.to_le_bytes());
                self
            }
            Value::Numbers(numbers) => self.array(4, |body| {
                for number in numbers {
                    body.number(*number);
                }
            }),
            Value::Bytes(bytes) => self.array(1, |body| body.0.extend(bytes)),
        }
    }
}

/// A call of a method.
#[derive(Clone, Copy, Debug)]
pub(super) struct Method<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
    /// The types of its arguments.
    pub(super) signature: &'a str,
}

impl Method<'_> {
    /// The whole message.
    pub(super) fn message(&self, serial: u32, body: &Body) -> Vec<u8> {
        let mut message = Body(vec![b'l', CALL, 0, 1]);
        message.number(body.0.len() as u32).number(serial);
        let texts = [(1, "o", self.path), (2, "s", self.interface), (3, "s", self.member), (6, "s", self.destination)];
        message.array(8, |fields| {
            for (code, signature, text) in texts {
                fields.align(8);
                fields.0.push(code);
                fields.signature(signature).text(text);
            }
            if !self.signature.is_empty() {
                fields.align(8);
                fields.0.push(8);
                fields.signature("g").signature(self.signature);
            }
        });
        message.align(8);
        message.0.extend(&body.0);
        message.0
    }
}

/// What a message is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// The answer to the call with this serial number.
    Reply(u32),
    /// The refusal of the call with this serial number, by its name.
    Error(u32, String),
    /// A signal, by its name.
    Signal(String),
    /// Anything else, which is none of our business.
    Other,
}

/// A message that was received.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) body: Vec<u8>,
}

/// How long the rest of a message is whose first [`FIXED`] bytes these are; nothing if that makes no sense.
pub(super) fn rest(fixed: &[u8; FIXED]) -> Option<usize> {
    if fixed[0] != b'l' || fixed[3] != 1 {
        return None;
    }
    let word = |at: usize| u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]) as usize;
    let length = word(12).next_multiple_of(8).checked_add(word(4))?;
    (length <= LONGEST).then_some(length)
}

impl Message {
    /// Reads a whole message; nothing if it makes no sense.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let fixed: &[u8; FIXED] = bytes.get(..FIXED)?.try_into().ok()?;
        if FIXED + rest(fixed)? != bytes.len() {
            return None;
        }
        let mut reader = Reader { bytes, at: 12 };
        let end = reader.number()? as usize + FIXED;
        let (mut serial, mut member, mut error) = (None, None, None);
        while reader.at < end {
            reader.align(8);
            match (reader.byte()?, reader.signature()?) {
                (5, "u") => serial = Some(reader.number()?),
                (3, "s") => member = Some(reader.text()?.to_owned()),
                (4, "s") => error = Some(reader.text()?.to_owned()),
                (_, "s" | "o") => drop(reader.text()?),
                (_, "g") => drop(reader.signature()?),
                (_, "u") => drop(reader.number()?),
                _ => return None,
            }
        }
        let kind = match (fixed[1], serial, member, error) {
            (REPLY, Some(serial), ..) => Kind::Reply(serial),
            (ERROR, Some(serial), _, Some(name)) => Kind::Error(serial, name),
            (SIGNAL, _, Some(member), _) => Kind::Signal(member),
            _ => Kind::Other,
        };
        Some(Self { kind, body: bytes.get(end.next_multiple_of(8)..)?.to_vec() })
    }

    /// Its arguments.
    pub(super) fn arguments(&self) -> Reader<'_> {
        Reader { bytes: &self.body, at: 0 }
    }
}

/// Arguments one after the other; nothing where they end or make no sense.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|byte| byte[0])
    }

    pub(super) fn number(&mut self) -> Option<u32> {
        self.align(4);
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    /// A string, or the path of an object.
    pub(super) fn text(&mut self) -> Option<&'a str> {
        let length = self.number()? as usize;
        self.terminated(length)
    }

    fn signature(&mut self) -> Option<&'a str> {
        let length = self.byte()?.into();
        self.terminated(length)
    }

    fn terminated(&mut self, length: usize) -> Option<&'a str> {
        let text = std::str::from_utf8(self.take(length)?).ok()?;
        (self.byte()? == 0).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METHOD: Method<'_> =
        Method { destination: "a.B", path: "/a", interface: "a.B", member: "Do", signature: "sa(sv)" };

    fn message() -> Vec<u8> {
        let mut body = Body::default();
        let properties = [("A".to_owned(), Value::Numbers(vec![7])), ("Bc".to_owned(), Value::Number(1 << 40))];
        body.text("x").properties(&properties);
        METHOD.message(5, &body)
    }

    #[test]
    fn a_call_is_what_the_specification_says() {
        let bytes = message();
        // By hand, from the specification: order, kind, flags, version, body's length, serial, fields' length.
        assert_eq!(bytes[..16], [b'l', 1, 0, 1, 0x40, 0, 0, 0, 5, 0, 0, 0, 0x4c, 0, 0, 0]);
        assert_eq!(bytes[16..27], [1, 1, b'o', 0, 2, 0, 0, 0, b'/', b'a', 0]);
        let body = &bytes[FIXED + 0x4cusize.next_multiple_of(8)..];
        let mut expected = vec![1, 0, 0, 0, b'x', 0, 0, 0, 0x30, 0, 0, 0, 0, 0, 0, 0];
        expected.extend([1, 0, 0, 0, b'A', 0, 2, b'a', b'u', 0, 0, 0, 4, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([2, 0, 0, 0, b'B', b'c', 0, 1, b't', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(body, expected);
    }

    #[test]
    fn what_is_cut_off_or_foreign_is_nothing() {
        let bytes = message();
        assert_eq!(Message::parse(&bytes).map(|message| message.kind), Some(Kind::Other));
        for length in 0..bytes.len() {
            assert_eq!(Message::parse(&bytes[..length]), None, "{length}");
        }
        for (at, value) in [(0, b'B'), (3, 2), (7, 0xff), (15, 0xff)] {
            let mut other = bytes.clone();
            other[at] = value;
            assert_eq!(Message::parse(&other), None, "{at}");
        }
    }

    #[test]
    fn no_bytes_at_all_upset_the_reader() {
        let mut bytes = message();
        for at in 0..bytes.len() {
            for value in [0, 1, 7, 0x7f, 0xff] {
                let before = std::mem::replace(&mut bytes[at], value);
                if let Some(message) = Message::parse(&bytes) {
                    let mut arguments = message.arguments();
                    while arguments.text().is_some() {}
                }
                bytes[at] = before;
            }
        }
    }

    #[test]
    fn answers_are_told_apart() {
        let answer = |kind: u8, fields: &[u8], body: &[u8]| {
            let mut message = Body(vec![b'l', kind, 1, 1]);
            message.number(body.len() as u32).number(9).number(fields.len() as u32);
            message.0.extend(fields);
            message.align(8);
            message.0.extend(body);
            Message::parse(&message.0)
        };
        let reply = answer(REPLY, &[5, 1, b'u', 0, 3, 0, 0, 0], &[2, 0, 0, 0, b'/', b'j', 0]).unwrap();
        assert_eq!((reply.kind.clone(), reply.arguments().text()), (Kind::Reply(3), Some("/j")));
        let fields = [4, 1, b's', 0, 1, 0, 0, 0, b'E', 0, 0, 0, 0, 0, 0, 0, 5, 1, b'u', 0, 3, 0, 0, 0];
        assert_eq!(answer(ERROR, &fields, &[]).unwrap().kind, Kind::Error(3, "E".into()));
        let signal = answer(SIGNAL, &[3, 1, b's', 0, 1, 0, 0, 0, b'J', 0], &[4, 0, 0, 0]).unwrap();
        assert_eq!((signal.kind.clone(), signal.arguments().number()), (Kind::Signal("J".into()), Some(4)));
    }
}
