//! One transfer's conversation with registries.
//!
//! Job: send a request until there is an answer that counts: log in when asked, follow redirects without taking
//! credentials along, wait and repeat what may pass, stop when cancelled. Leaves out what is asked for.

use super::auth::Tokens;
use super::challenge::best;
use super::client::{Client, Endpoint};
use super::http::Http;
use super::progress::{Cancel, Event, Meter};
use super::retry::{after, is_passing};
use super::transport::{Request, Response, Transport};
use super::url::{Scheme, Url};
use crate::{Error, ErrorKind, Result};
use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

const REDIRECTS: usize = 5;
/// Bytes a second below which a connection counts as silent.
const SLOWEST: f64 = 256.0;

/// What follows the headers of a request.
#[derive(Clone, Copy)]
pub(crate) enum Body<'a> {
    None,
    Bytes(&'a [u8]),
    /// Made anew for each try, of that many bytes.
    Stream(&'a dyn Fn() -> Result<Box<dyn Read + 'a>>, u64),
}

/// What to ask, and how to call it in errors.
pub(crate) struct Ask<'a> {
    pub(crate) method: &'static str,
    pub(crate) url: Url,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Body<'a>,
    /// What a token has to allow.
    pub(crate) scopes: Vec<String>,
    /// `get manifest 12`.
    pub(crate) purpose: String,
}

impl<'a> Ask<'a> {
    pub(crate) fn new(method: &'static str, url: Url, scope: String, purpose: impl Into<String>) -> Self {
        let purpose = purpose.into();
        Self { method, url, headers: Vec::new(), body: Body::None, scopes: vec![scope], purpose }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn body(mut self, body: Body<'a>) -> Self {
        self.body = body;
        self
    }
}

/// An answer and where it came from.
pub(crate) struct Answer {
    pub(crate) response: Response,
    pub(crate) url: Url,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.response.status()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.response.header(name)
    }

    /// Reads a body of at most `limit` bytes.
    pub(crate) fn read(&mut self, limit: u64, what: &str) -> Result<Vec<u8>> {
        if self.length()?.is_some_and(|length| length > limit) {
            return Err(Error::limit(format!("{what} has more than {limit} bytes")));
        }
        let failed = |error| Error::caused(ErrorKind::Unavailable, format!("cannot read {what}"), error);
        let mut content = Vec::new();
        self.response.body().take(limit.saturating_add(1)).read_to_end(&mut content).map_err(failed)?;
        if content.len() as u64 > limit {
            return Err(Error::limit(format!("{what} has more than {limit} bytes")));
        }
        Ok(content)
    }

    pub(crate) fn length(&self) -> Result<Option<u64>> {
        let parse =
            |text: &str| text.trim().parse().map_err(|_| Error::format("the length of an answer is not a number"));
        self.header("content-length").map(parse).transpose()
    }
}

/// Why there is no answer.
pub(crate) enum Failure {
    /// It may go better the next time.
    Passing(io::Error),
    Final(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) cancel: Cancel,
    pub(crate) meter: Meter,
    transport: Arc<dyn Transport>,
    tokens: Tokens,
}

impl Session {
    pub(crate) fn new(client: &Client, cancel: &Cancel, meter: Meter) -> Result<Self> {
        let transport = match &client.transport {
            Some(transport) => Arc::clone(transport),
            None => Arc::new(Http::new(client)?),
        };
        cancel.watch(&transport);
        cancel.check()?;
        Ok(Self { client: client.clone(), cancel: cancel.clone(), meter, transport, tokens: Tokens::default() })
    }

    /// Sends `ask` and returns the first answer that will not change by asking again. Its status may still be an error.
    pub(crate) fn send(&self, endpoint: &Endpoint, ask: &Ask<'_>) -> Result<Answer> {
        let mut failures = 0;
        loop {
            self.cancel.check()?;
            let (error, header) = match self.authorized(endpoint, ask) {
                Ok(answer) if is_passing(answer.status()) => {
                    let header = answer.header("retry-after").and_then(|text| after(text, SystemTime::now()));
                    (io::Error::other(format!("the registry answers {}", answer.status())), header)
                }
                Ok(answer) => return Ok(answer),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(error)) => (error, None),
            };
            failures += 1;
            self.pause(failures, header, error, &format!("cannot {} at {endpoint}", ask.purpose))?;
        }
    }

    /// Waits before the next try, or says that there is none.
    pub(crate) fn pause(&self, failures: u32, after: Option<Duration>, error: io::Error, what: &str) -> Result<()> {
        self.cancel.check()?;
        let pause = self.client.retry.pause(failures, after).filter(|_| failures <= self.client.retry.times);
        let Some(pause) = pause else {
            return Err(Error::caused(ErrorKind::Unavailable, what, error));
        };
        self.meter.tell(Event::Waiting(pause, error.to_string()));
        self.cancel.sleep(pause)
    }

    /// One try, with logging in where that is asked for.
    pub(crate) fn authorized(&self, endpoint: &Endpoint, ask: &Ask<'_>) -> Result<Answer, Failure> {
        let mut fresh = false;
        loop {
            let authorization = self.tokens.authorization(endpoint, &ask.scopes);
            let had_one = authorization.is_some();
            let answer = self.follow(endpoint, ask, authorization)?;
            if answer.status() != 401 || fresh || answer.url.origin() != endpoint.base.origin() {
                return Ok(answer);
            }
            // What was accepted before may have expired; what is fresh is not asked for twice.
            if had_one {
                self.tokens.forget(endpoint, &ask.scopes);
            }
            let Some(challenge) = best(answer.response.all("www-authenticate")) else { return Ok(answer) };
            drop(answer);
            if !self.tokens.log_in(self, endpoint, &ask.scopes, &challenge)? {
                return Err(Error::new(
                    ErrorKind::Denied,
                    format!("cannot {} at {endpoint}: the registry wants credentials and there are none", ask.purpose),
                )
                .into());
            }
            fresh = true;
        }
    }

    /// Sends, and for what only reads goes where the answer leads. Credentials stay with the endpoint: after the first step
    /// to another origin there are none any more, not even on the way back.
    fn follow(&self, endpoint: &Endpoint, ask: &Ask<'_>, authorization: Option<String>) -> Result<Answer, Failure> {
        let mut url = ask.url.clone();
        let mut authorization = authorization;
        for _ in 0..=REDIRECTS {
            if url.origin() != endpoint.base.origin() {
                authorization = None;
            }
            let answer = self.exchange(&url, ask, authorization.as_deref())?;
            let reads = matches!(ask.method, "GET" | "HEAD");
            let Some(location) = answer.header("location").filter(|_| reads && is_redirect(answer.status())) else {
                return Ok(answer);
            };
            let place = |error: Error| error.within(format_args!("cannot {} at {endpoint}: redirect", ask.purpose));
            let next = url.join(location).map_err(place)?;
            check_redirect(&endpoint.base, &url, &next).map_err(place)?;
            url = next;
        }
        Err(Error::format(format!("cannot {} at {endpoint}: more than {REDIRECTS} redirects", ask.purpose)).into())
    }

    /// One request, one answer.
    pub(crate) fn exchange(&self, url: &Url, ask: &Ask<'_>, authorization: Option<&str>) -> Result<Answer, Failure> {
        self.cancel.check()?;
        let mut headers = ask.headers.clone();
        if let Some(authorization) = authorization {
            headers.push(("Authorization", authorization.to_owned()));
        }
        let body_bytes = match ask.body {
            Body::None => None,
            Body::Bytes(bytes) => Some(bytes.len() as u64),
            Body::Stream(_, length) => Some(length),
        };
        let request = Request { method: ask.method, url: url.to_string(), headers, body_bytes };
        let answer = match ask.body {
            Body::None => self.transport.send(&request, &mut io::empty()),
            Body::Bytes(bytes) => self.transport.send(&request, &mut &*bytes),
            Body::Stream(make, length) => self.transport.send(&request, &mut make()?.take(length)),
        };
        let response =
            answer.map_err(|error| self.failure(error, &format!("cannot {} at {}", ask.purpose, url.public())))?;
        let encoding = response.header("content-encoding").unwrap_or("identity");
        if !encoding.eq_ignore_ascii_case("identity") {
            return Err(
                Error::format(format!("cannot {}: the answer is encoded although nobody asked", ask.purpose)).into()
            );
        }
        let (status, headers) = (response.status(), response.into_parts());
        let body = Paced { inner: headers.1, idle: self.client.idle, spent: Duration::ZERO, bytes: 0 };
        Ok(Answer { response: Response::new(status, headers.0, Box::new(body)), url: url.clone() })
    }

    /// What the transport said: our own errors, a certificate nobody vouches for, or something that may pass.
    pub(crate) fn failure(&self, error: io::Error, what: &str) -> Failure {
        if let Err(cancelled) = self.cancel.check() {
            return cancelled.into();
        }
        match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                Error::caused(ErrorKind::Unavailable, what, error).into()
            }
            _ => match error.downcast::<Error>() {
                Ok(own) => own.into(),
                Err(error) => Failure::Passing(error),
            },
        }
    }

    /// An answer that is no success, as an error.
    pub(crate) fn refused(&self, endpoint: &Endpoint, ask: &Ask<'_>, mut answer: Answer) -> Error {
        let status = answer.status();
        let kind = match status {
            401 | 403 => ErrorKind::Denied,
            404 => ErrorKind::NotFound,
            405 | 501 => ErrorKind::Unsupported,
            _ if is_passing(status) => ErrorKind::Unavailable,
            _ => ErrorKind::Format,
        };
        let code = if ask.method == "HEAD" { None } else { error_code(&mut answer) };
        let code = code.map(|code| format!(" ({code})")).unwrap_or_default();
        Error::new(kind, format!("cannot {} at {endpoint}: the answer is {status}{code}", ask.purpose))
    }
}

fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

/// Refuses to be led from the open net to this machine or its wire, or from TLS to plain text.
fn check_redirect(endpoint: &Url, from: &Url, to: &Url) -> Result<()> {
    if from.scheme() == Scheme::Https && to.scheme() == Scheme::Http {
        return Err(Error::new(ErrorKind::Denied, format!("from https to {}", to.public())));
    }
    if (to.is_link_local() && !endpoint.is_link_local()) || (to.is_loopback() && !endpoint.is_loopback()) {
        return Err(Error::new(ErrorKind::Denied, format!("to {}, which is near and not on the net", to.public())));
    }
    Ok(())
}

/// The registry's own word for what is wrong, such as `MANIFEST_UNKNOWN`. It is a stranger's text: short and plain, or
/// nothing.
fn error_code(answer: &mut Answer) -> Option<String> {
    let text = answer.read(64 << 10, "answer").ok()?;
    let value = crate::json::parse(&text, "answer").ok()?;
    let code = value.get("errors")?.get(0)?.get("code")?.as_str()?;
    let plain = code.len() <= 60 && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    plain.then(|| code.to_owned())
}

/// A body that has to come at some pace. Only the time spent waiting for it counts.
struct Paced {
    inner: Box<dyn Read + Send>,
    idle: Duration,
    spent: Duration,
    bytes: u64,
}

impl Read for Paced {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let begun = Instant::now();
        let count = self.inner.read(buffer)?;
        self.spent += begun.elapsed();
        self.bytes += count as u64;
        if self.spent >= self.idle {
            if count > 0 && (self.bytes as f64) < SLOWEST * self.spent.as_secs_f64() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the answer comes too slowly"));
            }
            (self.spent, self.bytes) = (Duration::ZERO, 0);
        }
        Ok(count)
    }
}
