//! Addresses on the web, as far as registries use them.
//!
//! Job: parse what callers, redirects and challenges give, strictly: no user names inside, no fragments, no other
//! schemes; and say whether two have the same origin, which decides where credentials go. Leaves out everything else of
//! RFC 3986.

use crate::{Error, Result};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// Whether a connection is encrypted.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Scheme {
    /// Plain HTTP, which everybody on the way can read and change.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Scheme {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// A parsed address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Url {
    scheme: Scheme,
    /// Lower-case; an IPv6 address in its brackets.
    host: String,
    port: u16,
    /// Path and query.
    target: String,
}

impl Url {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| Error::format(format!("{:?} {why}", shown(text)));
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("is not a web address"))?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(wrong("is neither http nor https")),
        };
        // A space or control character would end the request line early; `#` is never sent.
        if !rest.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\#<>\"".contains(&byte)) {
            return Err(wrong("has characters that do not belong into an address"));
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if authority.contains('@') {
            return Err(wrong("has a user name in it"));
        }
        crate::reference::check_domain(authority).map_err(wrong)?;
        let bracket = authority.rfind(']').unwrap_or(0);
        let (host, port) = match authority[bracket..].split_once(':') {
            Some((host, port)) => {
                let port = port.parse().map_err(|_| wrong("has a port that is not a number"))?;
                (&authority[..bracket + host.len()], port)
            }
            None => (authority, scheme.port()),
        };
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Ok(Self { scheme, host: host.to_ascii_lowercase(), port, target })
    }

    /// Where `location`, an answer's header, leads from here.
    pub(crate) fn join(&self, location: &str) -> Result<Self> {
        if location.contains("://") && !location.starts_with('/') {
            return Self::parse(location);
        }
        let origin = format!("{}://{}", self.scheme.name(), self.authority());
        if let Some(rest) = location.strip_prefix("//") {
            return Self::parse(&format!("{}://{rest}", self.scheme.name()));
        }
        if location.starts_with('/') {
            return Self::parse(&format!("{origin}{location}"));
        }
        if location.split(['/', '?']).next().is_some_and(|first| first.contains(':')) {
            return Err(Error::format(format!("{:?} is neither http nor https", shown(location))));
        }
        let path = self.path();
        let directory = &path[..path.rfind('/').map_or(0, |slash| slash + 1)];
        if location.starts_with('?') {
            return Self::parse(&format!("{origin}{path}{location}"));
        }
        Self::parse(&format!("{origin}{directory}{location}"))
    }

    /// The same with one more pair in the query.
    pub(crate) fn query(&self, key: &str, value: &str) -> Self {
        let separator = if self.target.contains('?') { '&' } else { '?' };
        let target = format!("{}{separator}{key}={}", self.target, encode(value));
        Self { target, ..self.clone() }
    }

    /// The path alone.
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The origin, as an address.
    pub(crate) fn root(&self) -> Self {
        Self { target: "/".to_owned(), ..self.clone() }
    }

    /// The same with `path` after its own.
    pub(crate) fn below(&self, path: &str) -> Self {
        Self { target: format!("{}/{path}", self.target.trim_end_matches('/')), ..self.clone() }
    }

    pub(crate) fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host without a port.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The host, with its port unless that is the scheme's.
    pub(crate) fn authority(&self) -> String {
        if self.port == self.scheme.port() { self.host.clone() } else { format!("{}:{}", self.host, self.port) }
    }

    /// What may share credentials.
    pub(crate) fn origin(&self) -> (Scheme, &str, u16) {
        (self.scheme, &self.host, self.port)
    }

    /// The address without its query, in which signed redirects carry secrets.
    pub(crate) fn public(&self) -> String {
        format!("{}://{}{}", self.scheme.name(), self.authority(), self.path())
    }

    /// Whether this is the machine itself.
    pub(crate) fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.address().is_some_and(|address| address.is_loopback())
    }

    /// Whether this is an address that only means something on this machine's own wire, where clouds keep secrets.
    pub(crate) fn is_link_local(&self) -> bool {
        match self.address() {
            Some(IpAddr::V4(address)) => address.is_link_local() || address.is_unspecified(),
            Some(IpAddr::V6(address)) => {
                address.is_unicast_link_local() || address.is_unspecified() || address == EC2_METADATA
            }
            None => false,
        }
    }

    fn address(&self) -> Option<IpAddr> {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        match bare.parse().ok()? {
            IpAddr::V6(address) => Some(address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4)),
            address @ IpAddr::V4(_) => Some(address),
        }
    }
}

const EC2_METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.name(), self.authority(), self.target)
    }
}

/// What a stranger wrote: short, without a query, and without a user's name and password.
fn shown(text: &str) -> String {
    let text = text.split('?').next().unwrap_or_default();
    let start = text.find("//").map_or(0, |slashes| slashes + 2);
    let end = text[start..].find('/').map_or(text.len(), |slash| start + slash);
    let (head, rest) = match text[start..end].rfind('@') {
        Some(at) => (&text[..start], &text[start + at + 1..]),
        None => ("", text),
    };
    head.chars().chain(rest.chars()).take(100).collect()
}

/// Percent-encodes what is not unreserved.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect(text)
    }

    #[test]
    fn addresses_and_where_redirects_lead() {
        let from = url("https://Registry.Example:443/v2/a/blobs/x?y=1");
        assert_eq!(from.to_string(), "https://registry.example/v2/a/blobs/x?y=1");
        assert_eq!(from.public(), "https://registry.example/v2/a/blobs/x");
        for (location, to) in [
            ("https://cdn.example/x?sig=1", "https://cdn.example/x?sig=1"),
            ("//cdn.example:444/x", "https://cdn.example:444/x"),
            ("/other", "https://registry.example/other"),
            ("z", "https://registry.example/v2/a/blobs/z"),
            ("?q=2", "https://registry.example/v2/a/blobs/x?q=2"),
            ("http://[::1]:5000", "http://[::1]:5000/"),
        ] {
            assert_eq!(from.join(location).expect(location).to_string(), to);
        }
        for location in [
            "https://user:secret@cdn.example/x",
            "file:///etc/passwd",
            "unix:/run/docker.sock",
            "javascript:alert(1)",
            "ftp://x/y",
            "https://",
            "https://a b/",
            "https://a/\r\nX: y",
            "https://a/#fragment",
            "https://a\\b/",
            "https://host:0/",
            "https://host:99999/",
            "https://é.example/",
        ] {
            let error = from.join(location).expect_err(location).to_string();
            assert!(!error.contains("secret") && error.len() < 300, "{error}");
        }
    }

    #[test]
    fn only_the_same_scheme_host_and_port_are_one_origin() {
        let origin = url("https://a.example/x");
        assert_eq!(origin.origin(), url("https://A.example:443/y").origin());
        for other in ["http://a.example/x", "https://a.example:444/x", "https://b.a.example/x", "https://example/x"] {
            assert_ne!(origin.origin(), url(other).origin());
        }
        for text in ["http://localhost", "http://127.9.9.9:5000", "http://[::1]:1", "http://[::ffff:127.0.0.1]/"] {
            assert!(url(text).is_loopback(), "{text}");
        }
        for text in [
            "http://169.254.169.254/latest",
            "http://[fe80::1]/",
            "http://[fd00:ec2::254]/",
            "http://0.0.0.0/",
            "http://[::ffff:169.254.169.254]/",
        ] {
            assert!(url(text).is_link_local(), "{text}");
        }
        assert!(!url("http://10.0.0.1").is_loopback() && !url("http://10.0.0.1").is_link_local());
    }

    #[test]
    fn queries_are_encoded() {
        assert_eq!(
            url("http://a/x").query("scope", "repository:a/b:pull").query("n", "1").to_string(),
            "http://a/x?scope=repository%3Aa%2Fb%3Apull&n=1"
        );
        assert_eq!(url("http://a/prefix/").below("v2/x").to_string(), "http://a/prefix/v2/x");
    }
}
