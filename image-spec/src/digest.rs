//! Content digests: parsing, computing, and reading with verification.
//!
//! Job: make a wrong digest impossible inside the crate. A [`Digest`] is one that can be verified here and whose text is
//! safe as a file name. Leaves out algorithms that cannot be verified: they are `Unsupported` where they are used, not
//! where a document merely mentions them.

use crate::blobs::{Give, check_size};
use crate::{Error, ErrorKind, Result};
use sha2::{Digest as _, Sha256, Sha512};
use std::fmt;
use std::str::FromStr;

/// A digest algorithm that this crate can verify.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Algorithm {
    /// SHA-256, the one every image uses.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// The name before the colon.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn hex_length(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// A verified spelling `algorithm:hex` (image-spec `descriptor.md`, Digests): lower-case hex of the right length.
///
/// ```
/// use keelbox_image_spec::Digest;
/// let empty = Digest::of(b"{}");
/// assert_eq!(empty.to_string(), "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
/// assert!("sha256:../../etc/passwd".parse::<Digest>().is_err());
/// ```
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Digest {
    algorithm: Algorithm,
    hex: Box<str>,
}

impl Digest {
    /// The SHA-256 digest of `content`.
    #[must_use]
    pub fn of(content: &[u8]) -> Self {
        Self { algorithm: Algorithm::Sha256, hex: hex(&Sha256::digest(content)) }
    }

    /// The algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The part after the colon.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.hex
    }
}

impl FromStr for Digest {
    type Err = Error;

    /// # Errors
    /// `Unsupported` for an algorithm that cannot be verified, `Format` for everything else that is not a digest.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::format(format!("{text:?} is not a digest"));
        let (name, encoded) = text.split_once(':').ok_or_else(wrong)?;
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            // Registered, and so bound to its form, though nothing here computes it (`descriptor.md`, BLAKE3).
            "blake3" if !is_lower_hex(encoded, 64) => return Err(wrong()),
            _ if follows_grammar(name, encoded) => {
                return Err(Error::unsupported(format!("digest algorithm {name} cannot be verified")));
            }
            _ => return Err(wrong()),
        };
        if !is_lower_hex(encoded, algorithm.hex_length()) {
            return Err(wrong());
        }
        Ok(Self { algorithm, hex: encoded.into() })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn is_lower_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// The grammar of `descriptor.md` for algorithms nobody here knows.
fn follows_grammar(name: &str, encoded: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let encoded_byte = |b: u8| b.is_ascii_alphanumeric() || b"=_-".contains(&b);
    name.split(['+', '.', '_', '-']).all(part) && !encoded.is_empty() && encoded.bytes().all(encoded_byte)
}

fn hex(bytes: &[u8]) -> Box<str> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 15));
    }
    text.into()
}

/// A running hash of one of the algorithms.
#[derive(Debug)]
pub(crate) enum Hasher {
    Sha256(Box<Sha256>),
    Sha512(Box<Sha512>),
}

impl Hasher {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Box::default()),
            Algorithm::Sha512 => Self::Sha512(Box::default()),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(state) => state.update(bytes),
            Self::Sha512(state) => state.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> Digest {
        match self {
            Self::Sha256(state) => Digest { algorithm: Algorithm::Sha256, hex: hex(&state.finalize()) },
            Self::Sha512(state) => Digest { algorithm: Algorithm::Sha512, hex: hex(&state.finalize()) },
        }
    }
}

/// Checks `content` against the digest it is known by. `what` names the content in the error.
pub(crate) fn verify(content: &[u8], expected: &Digest, what: &str) -> Result<()> {
    let mut hasher = Hasher::new(expected.algorithm);
    hasher.update(content);
    expect(&hasher.finish(), expected, what)
}

/// Compares a computed digest with the expected one.
pub(crate) fn expect(found: &Digest, expected: &Digest, what: &str) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::new(ErrorKind::DigestMismatch, format!("{what} should have digest {expected} but has {found}")))
}

/// Passes on to `write` the blob that `give` hands over, and checks its size and digest at the end.
pub(crate) fn checked(
    digest: &Digest,
    size: u64,
    give: &mut Give<'_>,
    write: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let (mut hasher, mut written) = (Hasher::new(digest.algorithm()), 0);
    give(&mut |bytes| {
        hasher.update(bytes);
        written += bytes.len() as u64;
        write(bytes)
    })?;
    let what = format!("blob {digest}");
    check_size(written, size, &what)?;
    expect(&hasher.finish(), digest, &what)
}

/// The chain id of a stack of layers (image-spec `config.md`, Layer ChainID), for every prefix of it.
pub(crate) fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let next = match chain.last() {
            None => diff_id.clone(),
            Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
        };
        chain.push(next);
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn digests_of_known_content() {
        assert_eq!(Digest::of(b"abc").to_string(), ABC);
        let mut hasher = Hasher::new(Algorithm::Sha512);
        hasher.update(b"a");
        hasher.update(b"bc");
        let sha512 = hasher.finish();
        assert!(sha512.to_string().starts_with("sha512:ddaf35a193617abacc417349ae204131"));
        assert_eq!(sha512.to_string().parse::<Digest>().expect("own spelling"), sha512);
        assert_eq!(verify(b"abd", &Digest::of(b"abc"), "x").unwrap_err().kind(), ErrorKind::DigestMismatch);
    }

    #[test]
    fn what_is_not_a_digest_is_refused() {
        let hex = &ABC[7..];
        let bad = [
            String::new(),
            ":".into(),
            hex.into(),
            "sha256:".into(),
            format!("sha256:{}", &hex[1..]),
            format!("{ABC}0"),
            ABC.to_uppercase(),
            format!("sha256:{}", hex.to_uppercase()),
            format!("SHA256:{hex}"),
            format!(" {ABC}"),
            format!("{ABC} "),
            format!("{ABC}\n"),
            "sha256:../../x".into(),
            format!("sha256/../{hex}"),
            format!("sha256:{}/{}", &hex[..31], &hex[32..]),
            format!("sha256:{}\0", &hex[1..]),
            format!("sha512:{hex}"),
            format!("md 5:{hex}"),
            "a..b:c".into(),
            "x:".into(),
            "x:..".into(),
            "x:a/b".into(),
            format!("sha256:{ABC}"),
            format!("sha256:{}é", &hex[2..]),
            format!("sha256::{}", &hex[1..]),
            "+:a".into(),
            "a+:b".into(),
            "blake3:abc".into(),
            format!("blake3:{}", hex.to_uppercase()),
        ];
        for text in bad {
            let kind = text.parse::<Digest>().expect_err(&text).kind();
            assert_eq!(kind, ErrorKind::Format, "{text:?}");
        }
        let unknown = format!("blake3:{hex}").parse::<Digest>().unwrap_err();
        assert_eq!(unknown.kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn chain_ids_follow_the_recursion() {
        let ids: Vec<Digest> = [b"a", b"b", b"c"].iter().map(|name| Digest::of(*name)).collect();
        let chain = chain_ids(&ids);
        assert_eq!(chain[0], ids[0]);
        assert_eq!(chain[1], Digest::of(format!("{} {}", ids[0], ids[1]).as_bytes()));
        assert_eq!(chain[2], Digest::of(format!("{} {}", chain[1], ids[2]).as_bytes()));
        assert!(chain_ids(&[]).is_empty());
    }
}
