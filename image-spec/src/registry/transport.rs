//! The one thing a client asks of an HTTP library.
//!
//! Job: a trait of one request and one answer, so that programs can bring the library they have, and tests their own.
//! Everything that decides (credentials, redirects, retries, limits) is above it. Leaves out connections.

use std::fmt;
use std::io::{self, Read};

/// Sends requests. [`Client::transport`](crate::registry::Client::transport) takes one; without that, one over ureq and
/// rustls is used.
///
/// An implementation must not follow redirects, add credentials or cookies, retry, or decompress; it must check
/// certificates, and end a request that makes no progress.
pub trait Transport: Send + Sync + fmt::Debug {
    /// Sends `request` and `body` after it, of [`body_bytes`](Request::body_bytes) bytes, and returns whatever the server
    /// answers, of any status.
    ///
    /// # Errors
    /// When there is no answer.
    fn send(&self, request: &Request, body: &mut dyn Read) -> io::Result<Response>;

    /// Ends all requests that are under way, which then fail, as do later ones. Default: does nothing, so that cancelling
    /// waits for the next piece of an answer.
    fn abort(&self) {}
}

/// A request as it goes over the wire.
#[derive(Clone, Eq, PartialEq)]
pub struct Request {
    pub(crate) method: &'static str,
    pub(crate) url: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body_bytes: Option<u64>,
}

impl Request {
    /// `GET`, `HEAD`, `POST`, `PUT` or `PATCH`.
    #[must_use]
    pub fn method(&self) -> &str {
        self.method
    }

    /// The whole address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The headers, beside those for the connection and the length of the body.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// The length of the body; `None` for a request that has none.
    #[must_use]
    pub fn body_bytes(&self) -> Option<u64> {
        self.body_bytes
    }
}

impl fmt::Debug for Request {
    /// Without values: they hold credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.url.split('?').next().unwrap_or_default();
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| *name).collect();
        f.debug_struct("Request").field("method", &self.method).field("url", &address).field("headers", &names).finish()
    }
}

/// An answer.
pub struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: Box<dyn Read + Send>,
}

impl Response {
    /// An answer of these parts. `body` is read as far as it is needed, and may be dropped before its end.
    #[must_use]
    pub fn new(status: u16, headers: Vec<(String, String)>, body: Box<dyn Read + Send>) -> Self {
        Self { status, headers, body }
    }

    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The first header of that name, whatever its case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers.iter().filter(move |(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn into_parts(self) -> (Vec<(String, String)>, Box<dyn Read + Send>) {
        (self.headers, self.body)
    }

    pub(crate) fn body(&mut self) -> &mut dyn Read {
        &mut *self.body
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("status", &self.status).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_holds_no_secret() {
        let request = Request {
            method: "GET",
            url: "https://a/x?token=hidden".into(),
            headers: vec![("Authorization", "Basic hidden".into())],
            body_bytes: None,
        };
        let text = format!("{request:?}");
        assert!(text.contains("https://a/x") && text.contains("Authorization") && !text.contains("hidden"), "{text}");
    }
}
