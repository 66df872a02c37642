//! Names of images in registries, as docker writes them.
//!
//! Job: parse `[DOMAIN/]PATH[:TAG][@DIGEST]` strictly, fill in what docker fills in, and say exactly what is wrong with
//! everything else. Pure: knows of no network and no store. Leaves out short-name aliases: a name means one thing.

use crate::{Digest, Error, Result};
use std::fmt;
use std::str::FromStr;

const DEFAULT_DOMAIN: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";
/// Bytes of a repository's path, as registries limit it.
const PATH_BYTES: usize = 255;
const TAG_BYTES: usize = 128;

/// A name of an image: registry, repository, and a tag or a digest or both. With both, the digest decides.
///
/// ```
/// use keelbox_image_spec::Reference;
/// let debian: Reference = "debian".parse()?;
/// assert_eq!(debian.to_string(), "docker.io/library/debian:latest");
/// assert_eq!(debian.familiar(), "debian:latest");
/// let own: Reference = "localhost:5000/team/app:1".parse()?;
/// assert_eq!((own.domain(), own.path(), own.tag()), ("localhost:5000", "team/app", Some("1")));
/// assert_eq!("Debian".parse::<Reference>().unwrap_err().to_string(), "\"Debian\": a repository is lower-case");
/// # Ok::<(), keelbox_image_spec::Error>(())
/// ```
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Parses a name. Without a domain it is `docker.io`, there without a slash in `library/`; without tag and digest the
    /// tag is `latest`. What stands before the first slash is a domain if it has a dot or a colon, is `localhost`, or has
    /// capital letters.
    ///
    /// # Errors
    /// `Format`, or `Unsupported` for a digest of an algorithm that cannot be verified.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| Error::format(format!("{text:?}: {why}"));
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                (rest, Some(digest.parse::<Digest>().map_err(|error| error.within(format_args!("{text:?}")))?))
            }
            None => (text, None),
        };
        let (domain, rest) = split_domain(rest);
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (rest, None),
        };
        check_domain(domain).map_err(wrong)?;
        let domain = if domain == "index.docker.io" { DEFAULT_DOMAIN } else { domain };
        check_path(path).map_err(wrong)?;
        if let Some(tag) = tag {
            check_tag(tag).map_err(wrong)?;
        }
        // Otherwise it could not be told from the short form of a digest.
        if path == rest && rest.len() == 64 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()) && text.len() == 64 {
            return Err(wrong("64 hexadecimal digits are not a name"));
        }
        let official = domain == DEFAULT_DOMAIN && !path.contains('/');
        let path = if official { format!("library/{path}") } else { path.to_owned() };
        if path.len() > PATH_BYTES {
            return Err(wrong("a repository has at most 255 bytes"));
        }
        let tag = tag.map(str::to_owned).or_else(|| digest.is_none().then(|| DEFAULT_TAG.to_owned()));
        Ok(Self { domain: domain.to_owned(), path, tag, digest })
    }

    /// The registry: a host name or address, perhaps with a port.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository within the registry.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The short form that docker shows: without the default registry.
    #[must_use]
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let Some(rest) = full.strip_prefix("docker.io/") else { return full };
        match rest.strip_prefix("library/") {
            // `library/a.b` without its prefix stays; `library/a/b` would change its meaning.
            Some(short) if !short.contains('/') => short.to_owned(),
            _ => rest.to_owned(),
        }
    }

    /// What a registry is asked for: the digest if there is one, else the tag.
    #[must_use]
    pub fn wanted(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => DEFAULT_TAG.to_owned(),
        }
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

fn split_domain(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|byte| byte.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_DOMAIN, text),
    }
}

/// A host name, an IPv4 address or a bracketed IPv6 address, perhaps with a port.
pub(crate) fn check_domain(domain: &str) -> Result<(), &'static str> {
    let (host, port) = if let Some(rest) = domain.strip_prefix('[') {
        let (address, port) = rest.split_once(']').ok_or("the registry's address lacks its bracket")?;
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return Err("the registry's address is not IPv6");
        }
        if !port.is_empty() && !port.starts_with(':') {
            return Err("the registry is not a host");
        }
        ("", port.strip_prefix(':'))
    } else {
        match domain.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (domain, None),
        }
    };
    if let Some(port) = port
        && (port.is_empty()
            || !port.bytes().all(|byte| byte.is_ascii_digit())
            || !port.parse::<u16>().is_ok_and(|p| p > 0))
    {
        return Err("the registry's port is not a number from 1 to 65535");
    }
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if !domain.starts_with('[') && (host.len() > 253 || !host.split('.').all(label)) {
        return Err("the registry is not a host");
    }
    Ok(())
}

fn check_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        return Err("there is no repository");
    }
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err("a repository is lower-case");
    }
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    for component in path.split('/') {
        if component.is_empty() {
            return Err("a part of the repository is empty");
        }
        if !component.bytes().all(|byte| alphanumeric(byte) || b"._-".contains(&byte)) {
            return Err("a repository consists of a-z, 0-9, and . _ - between them");
        }
        // One dot, one or two underscores, or any number of dashes may stand between letters, and nothing at an end.
        let separators: Vec<&str> =
            component.split(|c: char| c.is_ascii_alphanumeric()).filter(|s| !s.is_empty()).collect();
        let ends = [component.bytes().next(), component.bytes().last()];
        let inside = ends.into_iter().flatten().all(alphanumeric);
        if !inside || !separators.iter().all(|s| matches!(*s, "." | "_" | "__") || s.bytes().all(|byte| byte == b'-')) {
            return Err("a repository has . _ __ or dashes between letters and digits only");
        }
    }
    Ok(())
}

fn check_tag(tag: &str) -> Result<(), &'static str> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    match tag.bytes().next() {
        None => Err("the tag is empty"),
        Some(_) if tag.len() > TAG_BYTES => Err("a tag has at most 128 bytes"),
        Some(first) if word(first) && tag.bytes().all(|byte| word(byte) || b".-".contains(&byte)) => Ok(()),
        Some(_) => Err("a tag consists of letters, digits, and _ . - after the first"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

    #[test]
    fn names_get_what_they_leave_out() {
        for (text, full, familiar) in [
            ("debian", "docker.io/library/debian:latest", "debian:latest"),
            ("debian:12", "docker.io/library/debian:12", "debian:12"),
            ("library/debian", "docker.io/library/debian:latest", "debian:latest"),
            ("docker.io/debian", "docker.io/library/debian:latest", "debian:latest"),
            ("index.docker.io/debian", "docker.io/library/debian:latest", "debian:latest"),
            ("team/app", "docker.io/team/app:latest", "team/app:latest"),
            ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
            ("localhost:5000/app:v1", "localhost:5000/app:v1", "localhost:5000/app:v1"),
            ("127.0.0.1:5000/debian:12", "127.0.0.1:5000/debian:12", "127.0.0.1:5000/debian:12"),
            ("[::1]:5000/a/b", "[::1]:5000/a/b:latest", "[::1]:5000/a/b:latest"),
            ("Uppercase/app", "Uppercase/app:latest", "Uppercase/app:latest"),
            (
                "example.org/a__b/c--d/e.f_g:A.b-c_1",
                "example.org/a__b/c--d/e.f_g:A.b-c_1",
                "example.org/a__b/c--d/e.f_g:A.b-c_1",
            ),
            ("docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
        ] {
            let reference = Reference::parse(text).expect(text);
            assert_eq!((reference.to_string().as_str(), reference.familiar().as_str()), (full, familiar));
        }
        let both = Reference::parse(&format!("debian:12@sha256:{HEX}")).expect("valid");
        assert_eq!((both.tag(), both.wanted()), (Some("12"), format!("sha256:{HEX}")));
        let digest = Reference::parse(&format!("debian@sha256:{HEX}")).expect("valid");
        assert_eq!((digest.tag(), digest.to_string()), (None, format!("docker.io/library/debian@sha256:{HEX}")));
    }

    #[test]
    fn what_is_no_name_is_refused_and_says_why() {
        let long = "a".repeat(256);
        let tag = format!("a:{}", "b".repeat(129));
        let upper = HEX.to_uppercase();
        for (text, why) in [
            ("", "no repository"),
            (":12", "no repository"),
            ("localhost:5000/", "no repository"),
            ("@sha256:0", "not a digest"),
            ("Debian", "lower-case"),
            ("team/App", "lower-case"),
            ("a//b", "empty"),
            ("/a", "empty"),
            ("a/", "empty"),
            ("a:", "tag is empty"),
            ("a:b:c", "repository consists"),
            ("a:-b", "a tag consists"),
            ("a:é", "a tag consists"),
            ("a:b c", "a tag consists"),
            ("a b", "repository consists"),
            ("a\n", "repository consists"),
            ("a\0b", "repository consists"),
            ("é", "repository consists"),
            ("..", "repository has"),
            ("../a", "not a host"),
            ("a/../b", "repository has"),
            ("a..b", "repository has"),
            ("a___b", "repository has"),
            ("a-_b", "repository has"),
            ("-a", "repository has"),
            ("a.", "repository has"),
            ("a_/b", "repository has"),
            (HEX, "hexadecimal"),
            (&long, "255"),
            (&tag, "128"),
            ("a@", "not a digest"),
            ("a@b@c", "not a digest"),
            ("a@sha256:1", "not a digest"),
            (&format!("a@sha256:{upper}"), "not a digest"),
            (&format!("a@blake3:{HEX}"), "cannot be verified"),
            ("localhost:0/a", "port"),
            ("localhost:65536/a", "port"),
            ("localhost:+1/a", "port"),
            ("localhost:/a", "port"),
            ("a..b.c/d", "not a host"),
            ("-a.b/c", "not a host"),
            ("u:p@host.example/a", "not a digest"),
            ("[::1/a", "bracket"),
            ("[::g]:1/a", "IPv6"),
            ("[::1]x:1/a", "not a host"),
            ("https://example.org/a", "port"),
        ] {
            let error = Reference::parse(text).expect_err(text).to_string();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }

    /// Words put together at random: each either is refused, or its full and its short form are read as itself.
    #[test]
    fn every_name_survives_being_written_and_read() {
        let parts = [
            "a",
            "B",
            "0",
            ".",
            "_",
            "__",
            "-",
            "/",
            ":",
            "@",
            "sha256:",
            HEX,
            "localhost",
            "docker.io",
            "library/",
            "é",
            " ",
            "5000",
            "[::1]",
        ];
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 33).unwrap_or(0) % below
        };
        let mut valid = 0;
        for _ in 0..200_000 {
            let text: String = (0..=random(8)).map(|_| parts[random(parts.len())]).collect();
            let Ok(reference) = Reference::parse(&text) else { continue };
            valid += 1;
            for form in [reference.to_string(), reference.familiar()] {
                assert_eq!(Reference::parse(&form).expect(&form), reference, "{text:?} {form:?}");
            }
            assert!(
                !reference.path().contains("..")
                    && !reference.path().starts_with('/')
                    && !reference.path().contains("//")
            );
            assert!(reference.to_string().is_ascii());
        }
        assert!(valid > 1000, "{valid}");
    }
}
