//! Questions about names and answers to them (RFC 1035). Pure.

use std::net::IpAddr;

/// One question.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Question {
    /// In small letters, without a dot at its end.
    pub(super) name: String,
    kind: u16,
    class: u16,
    /// Where in the message it ends.
    end: usize,
}

/// How a question is answered without an address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(super) enum Code {
    Nothing = 0,
    Failed = 2,
    NoSuchName = 3,
    Refused = 5,
}

const HEAD: usize = 12;
const A: u16 = 1;
const AAAA: u16 = 28;
const ANY: u16 = 255;
const INTERNET: u16 = 1;
/// Seconds for which an answer holds: a container that is started anew has another address.
const HOLDS: u32 = 1;
/// The most that fits without further agreement.
const LONGEST: usize = 512;

impl Question {
    /// The question of a message, if it is one and asks one thing.
    pub(super) fn parse(message: &[u8]) -> Option<Self> {
        let head = message.get(..HEAD)?;
        let is_query = head.get(2)? & 0xf8 == 0;
        if !is_query || head.get(4..6)? != [0, 1] {
            return None;
        }
        let (mut name, mut at) = (String::new(), HEAD);
        loop {
            let length = usize::from(*message.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            // A question has no name before it that it could refer to.
            let label = message.get(at..at + length).filter(|_| length < 64)?;
            at += length;
            if !name.is_empty() {
                name.push('.');
            }
            name.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
            if name.len() > 512 {
                return None;
            }
        }
        let word = |at: usize| message.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes));
        Some(Self { name, kind: word(at)?, class: word(at + 2)?, end: at + 4 })
    }

    /// An answer without an address to the `message` that this question was read from.
    pub(super) fn answer(&self, message: &[u8], code: Code) -> Vec<u8> {
        self.build(message, code, &[])
    }

    /// An answer with those of the addresses that were asked for.
    pub(super) fn addresses(&self, message: &[u8], addresses: &[IpAddr]) -> Vec<u8> {
        let wanted = |address: &&IpAddr| match self.kind {
            A => address.is_ipv4(),
            AAAA => address.is_ipv6(),
            kind => kind == ANY,
        };
        let asked = self.class == INTERNET || self.class == ANY;
        let wanted: Vec<IpAddr> = addresses.iter().filter(wanted).filter(|_| asked).copied().collect();
        self.build(message, Code::Nothing, &wanted)
    }

    fn build(&self, message: &[u8], code: Code, addresses: &[IpAddr]) -> Vec<u8> {
        let byte = |at: usize| message.get(at).copied().unwrap_or_default();
        let asks_on = byte(2) & 1;
        let mut answer = vec![byte(0), byte(1), 0x84 | asks_on, 0x80 | code as u8, 0, 1, 0, 0, 0, 0, 0, 0];
        answer.extend(message.get(HEAD..self.end).unwrap_or_default());
        let mut count = 0u16;
        for address in addresses {
            let (kind, bytes) = match address {
                IpAddr::V4(address) => (A, address.octets().to_vec()),
                IpAddr::V6(address) => (AAAA, address.octets().to_vec()),
            };
            if answer.len() + HEAD + bytes.len() > LONGEST {
                break;
            }
            // The name is the one at the beginning of the question.
            answer.extend([0xc0, HEAD as u8]);
            answer.extend([kind.to_be_bytes(), INTERNET.to_be_bytes()].concat());
            answer.extend(HOLDS.to_be_bytes());
            answer.extend((bytes.len() as u16).to_be_bytes());
            answer.extend(bytes);
            count += 1;
        }
        if let Some(place) = answer.get_mut(6..8) {
            place.copy_from_slice(&count.to_be_bytes());
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(name: &str, kind: u16) -> Vec<u8> {
        let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.').filter(|label| !label.is_empty()) {
            bytes.push(label.len() as u8);
            bytes.extend(label.as_bytes());
        }
        bytes.push(0);
        bytes.extend([kind.to_be_bytes(), [0, 1]].concat());
        bytes
    }

    #[test]
    fn questions_are_read_and_answered() {
        let bytes = question("DB.shop", A);
        let parsed = Question::parse(&bytes).expect("a question");
        assert_eq!(parsed.name, "db.shop");
        let addresses = ["10.83.0.2".parse().expect("one"), "fd00::2".parse().expect("one")];
        let answer = parsed.addresses(&bytes, &addresses);
        assert_eq!(&answer[..8], [0x12, 0x34, 0x85, 0x80, 0, 1, 0, 1]);
        assert!(answer.ends_with(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 10, 83, 0, 2]));
        let long = question("db", AAAA);
        let answer = Question::parse(&long).expect("a question").addresses(&long, &addresses);
        assert_eq!(&answer[answer.len() - 18..answer.len() - 16], [0, 16]);
        let answer = parsed.answer(&bytes, Code::NoSuchName);
        assert_eq!((answer[3] & 15, &answer[6..8]), (3, [0, 0].as_slice()));
        assert_eq!(&answer[12..], &bytes[12..]);
    }

    #[test]
    fn many_addresses_stay_short() {
        let bytes = question("db", A);
        let addresses: Vec<IpAddr> = (0..200).map(|last| IpAddr::from([10, 83, 0, last])).collect();
        let answer = Question::parse(&bytes).expect("a question").addresses(&bytes, &addresses);
        assert!(answer.len() <= LONGEST);
        assert_eq!(usize::from(answer[7]), (answer.len() - bytes.len()) / 16);
    }

    #[test]
    fn what_is_no_question_is_none() {
        let whole = question("db", A);
        for length in 0..whole.len() {
            assert_eq!(Question::parse(&whole[..length]), None, "{length}");
        }
        let mut answer = whole.clone();
        answer[2] |= 0x80;
        assert_eq!(Question::parse(&answer), None);
        let mut pointer = whole.clone();
        pointer[12] = 0xc0;
        assert_eq!(Question::parse(&pointer), None);
        let mut two = whole;
        two[5] = 2;
        assert_eq!(Question::parse(&two), None);
    }
}
