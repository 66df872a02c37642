//! Logging in: bearer tokens and basic authentication.
//!
//! Job: answer a challenge with what the credentials allow, keep tokens until they expire, and never show a secret to a
//! host that was not meant to have it. Tokens are for exactly the scope that is needed, whatever the challenge suggests.
//! Leaves out where credentials come from.

use super::challenge::Challenge;
use super::client::Endpoint;
use super::credentials::Login;
use super::session::{Answer, Ask, Body, Failure, Session};
use super::url::{Scheme, Url, encode};
use crate::json::{self, Field};
use crate::{Error, ErrorKind, Result};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const TOKEN_BYTES: u64 = 1 << 20;
/// What the token specification says for a token that does not say itself.
const LIFE: Duration = Duration::from_secs(60);
/// A token is not used in its last moments.
const MARGIN: Duration = Duration::from_secs(5);

/// Accepted answers to challenges, by origin and scope.
#[derive(Default)]
pub(crate) struct Tokens {
    known: Mutex<HashMap<(String, String), Known>>,
    /// Held while a token is asked for, so that parallel downloads ask once.
    asking: Mutex<()>,
}

#[derive(Clone)]
struct Known {
    header: String,
    until: Option<Instant>,
}

impl Tokens {
    /// The header to send, if one is known.
    pub(crate) fn authorization(&self, endpoint: &Endpoint, scopes: &[String]) -> Option<String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.get(&key(endpoint, scopes)).or_else(|| known.get(&key(endpoint, &[])))?;
        found.until.is_none_or(|until| until > Instant::now() + MARGIN).then(|| found.header.clone())
    }

    pub(crate) fn forget(&self, endpoint: &Endpoint, scopes: &[String]) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(&key(endpoint, scopes));
        known.remove(&key(endpoint, &[]));
    }

    /// Answers a challenge. False when there is nothing to answer it with.
    pub(crate) fn log_in(
        &self,
        session: &Session,
        endpoint: &Endpoint,
        scopes: &[String],
        challenge: &Challenge,
    ) -> Result<bool, Failure> {
        let _one = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        if self.authorization(endpoint, scopes).is_some() {
            return Ok(true);
        }
        let login = session.client.credentials.find(&endpoint.domain, &endpoint.repository)?;
        let (key, known) = match challenge {
            Challenge::Basic => {
                let Some(Login::Password { user, password }) = login else { return Ok(false) };
                (key(endpoint, &[]), Known { header: basic(&user, &password), until: None })
            }
            Challenge::Bearer { realm, service } => {
                let realm = check_realm(endpoint, realm)?;
                let allowed = session.client.is_token_host(&endpoint.domain, endpoint.base.host(), realm.host());
                // Without credentials a token for everybody is asked for, which pulling in public needs.
                let login = login.filter(|_| allowed);
                (key(endpoint, scopes), token(session, endpoint, &realm, service.as_deref(), scopes, login)?)
            }
        };
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(key, known);
        Ok(true)
    }
}

fn key(endpoint: &Endpoint, scopes: &[String]) -> (String, String) {
    (endpoint.base.to_string(), scopes.join(" "))
}

/// Tokens come over TLS, or from a registry's side that is itself plain.
fn check_realm(endpoint: &Endpoint, realm: &str) -> Result<Url> {
    let place = |error: Error| error.within(format_args!("the token server of {}", endpoint.base.authority()));
    let realm = Url::parse(realm).map_err(place)?;
    let plain = realm.scheme() == Scheme::Http && endpoint.base.scheme() == Scheme::Https;
    let near = (realm.is_link_local() && !endpoint.base.is_link_local())
        || (realm.is_loopback() && !endpoint.base.is_loopback());
    if plain || near {
        return Err(Error::new(
            ErrorKind::Denied,
            format!(
                "the registry {} wants its tokens from {}, which is not safe",
                endpoint.base.authority(),
                realm.public()
            ),
        ));
    }
    Ok(realm)
}

fn token(
    session: &Session,
    endpoint: &Endpoint,
    realm: &Url,
    service: Option<&str>,
    scopes: &[String],
    login: Option<Login>,
) -> Result<Known, Failure> {
    let purpose = format!("get a token for {endpoint}");
    let mut form = String::new();
    let (mut ask, authorization) = match &login {
        Some(Login::Refresh(refresh)) => {
            let pairs = [
                ("grant_type", "refresh_token"),
                ("service", service.unwrap_or_default()),
                ("client_id", "keelbox"),
                ("scope", &scopes.join(" ")),
                ("refresh_token", refresh),
            ];
            form = pairs.map(|(key, value)| format!("{key}={}", encode(value))).join("&");
            (Ask::new("POST", realm.clone(), String::new(), purpose), None)
        }
        login => {
            let mut url = realm.clone();
            if let Some(service) = service {
                url = url.query("service", service);
            }
            for scope in scopes {
                url = url.query("scope", scope);
            }
            let authorization = match login {
                Some(Login::Password { user, password }) => Some(basic(user, password)),
                _ => None,
            };
            (Ask::new("GET", url, String::new(), purpose), authorization)
        }
    };
    if !form.is_empty() {
        ask = ask.header("Content-Type", "application/x-www-form-urlencoded").body(Body::Bytes(form.as_bytes()));
    }
    let begun = Instant::now();
    // No redirects here: whoever is asked is the one who was checked.
    let mut answer = session.exchange(&ask.url, &ask, authorization.as_deref())?;
    if super::retry::is_passing(answer.status()) {
        let status = answer.status();
        return Err(Failure::Passing(std::io::Error::other(format!("the token server answers {status}"))));
    }
    if answer.status() != 200 {
        let kind = if matches!(answer.status(), 400..=403) { ErrorKind::Denied } else { ErrorKind::Format };
        let (status, place) = (answer.status(), realm.public());
        return Err(Error::new(kind, format!("cannot {}: {place} answers {status}", ask.purpose)).into());
    }
    Ok(parse(&mut answer, begun, &format!("the token for {endpoint}"))?)
}

fn parse(answer: &mut Answer, begun: Instant, what: &str) -> Result<Known> {
    let text = answer.read(TOKEN_BYTES, what)?;
    let value = json::parse(&text, what)?;
    let root = Field::root(&value, what)?;
    let token = match root.optional_text("token")?.filter(|token| !token.is_empty()) {
        Some(token) => token,
        None => root.require("access_token")?.text()?,
    };
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::format(format!("{what} is not one")));
    }
    let life = root.get("expires_in")?.map(|field| field.number()).transpose()?.map_or(LIFE, Duration::from_secs);
    // A token that would be too old at once is used once: the next answer of 401 asks for another.
    let life = life.clamp(MARGIN * 2, Duration::from_secs(24 * 3600));
    Ok(Known { header: format!("Bearer {token}"), until: Some(begun + life) })
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64(format!("{user}:{password}").as_bytes()))
}

/// RFC 4648 section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word = group.iter().enumerate().fold(0, |word, (at, byte)| word | u32::from(*byte) << (16 - 8 * at));
        for digit in 0..4 {
            let sextet = usize::try_from(word >> (18 - 6 * digit) & 63).unwrap_or(0);
            text.push(if digit <= group.len() { char::from(DIGITS[sextet]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_as_it_was_written() {
        for text in ["", "a", "ab", "abc", "user:päss\u{0}word"] {
            let encoded = base64(text.as_bytes());
            assert_eq!(crate::document::base64(&encoded, "x").expect("own text"), text.as_bytes(), "{encoded}");
        }
        assert_eq!(basic("Aladdin", "open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }
}
