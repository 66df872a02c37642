//! The transport over ureq and rustls.
//!
//! Job: agents that neither follow redirects nor read the environment, one for each set of certificates, with and without
//! the proxy; time limits on connecting and on silence. Leaves out every decision about what is sent.

use super::client::Client;
use super::transport::{Request, Response, Transport};
use super::url::Url;
use crate::{Error, Result};
use std::collections::HashMap;
use std::io::{self, Read};
use std::time::Duration;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Proxy, SendBody};

const CONNECT: Duration = Duration::from_secs(20);
/// A registry may verify a large upload before it answers.
const ANSWER: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub(crate) struct Http {
    /// By host and port; the empty name is everybody else.
    agents: HashMap<String, Agents>,
    direct: Vec<String>,
}

#[derive(Debug)]
struct Agents {
    direct: Agent,
    proxied: Option<Agent>,
}

impl Http {
    pub(crate) fn new(client: &Client) -> Result<Self> {
        let proxy = client.proxy.as_deref().map(proxy).transpose()?;
        let agents = |tls: &Tls| -> Result<Agents> {
            let tls = tls.config()?;
            let proxied = proxy.clone().map(|proxy| agent(client.idle, tls.clone(), Some(proxy)));
            Ok(Agents { direct: agent(client.idle, tls, None), proxied })
        };
        let mut all = HashMap::from([(String::new(), agents(&Tls { roots: client.roots.clone(), identity: None })?)]);
        for (host, tls) in &client.tls {
            let roots = tls.roots.clone().or_else(|| client.roots.clone());
            let tls = Tls { roots, identity: tls.identity.clone() };
            all.insert(host.clone(), agents(&tls).map_err(|error| error.within(format_args!("registry {host}")))?);
        }
        Ok(Self { agents: all, direct: client.no_proxy.clone() })
    }

    fn agent(&self, url: &Url) -> Option<&Agent> {
        let agents = self.agents.get(&url.authority()).or_else(|| self.agents.get(""))?;
        let own = |suffix: &String| {
            let suffix = suffix.trim_start_matches('.');
            suffix == "*"
                || url.host() == suffix
                || url.host().strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'))
        };
        let direct = url.is_loopback() || self.direct.iter().any(own);
        Some(agents.proxied.as_ref().filter(|_| !direct).unwrap_or(&agents.direct))
    }
}

fn agent(idle: Duration, tls: TlsConfig, proxy: Option<Proxy>) -> Agent {
    Agent::new_with_config(
        Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(proxy)
            .tls_config(tls)
            .user_agent(concat!("keelbox/", env!("CARGO_PKG_VERSION")))
            .accept(ureq::config::AutoHeaderValue::None)
            .accept_encoding("identity")
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(ANSWER.min(idle.saturating_mul(10))))
            .timeout_per_read(Some(idle))
            .timeout_per_write(Some(idle))
            .max_idle_connections_per_host(8)
            .build(),
    )
}

fn proxy(text: &str) -> Result<Proxy> {
    // The text may hold a password, so it is not repeated.
    Proxy::new(text).map_err(|_| Error::format("the proxy is not of the form http://host:port"))
}

/// Whom to trust, and whom to be.
#[derive(Clone, Default)]
pub(crate) struct Tls {
    /// PEM certificates; the web's own without them.
    pub(crate) roots: Option<Vec<u8>>,
    /// PEM certificates and key.
    pub(crate) identity: Option<Vec<u8>>,
}

impl Tls {
    fn config(&self) -> Result<TlsConfig> {
        let mut builder = TlsConfig::builder();
        if let Some(pem) = &self.roots {
            let (certificates, _) = parse(pem)?;
            if certificates.is_empty() {
                return Err(Error::format("there is no certificate among the certificate authorities"));
            }
            builder = builder.root_certs(RootCerts::new_with_certs(&certificates));
        }
        if let Some(pem) = &self.identity {
            let (certificates, key) = parse(pem)?;
            let key = key.filter(|_| !certificates.is_empty());
            let key = key.ok_or_else(|| Error::format("a client certificate needs a certificate and a key"))?;
            check_identity(pem)?;
            builder = builder.client_cert(Some(ClientCert::new_with_certs(&certificates, key)));
        }
        Ok(builder.build())
    }
}

impl std::fmt::Debug for Tls {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (roots, identity) = (self.roots.is_some(), self.identity.is_some());
        f.debug_struct("Tls").field("roots", &roots).field("identity", &identity).finish()
    }
}

/// ureq takes a certificate and a key for a pair; what is none would end the program at the first connection.
fn check_identity(pem: &[u8]) -> Result<()> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let wrong = || Error::format("the key of the client certificate cannot be used with it");
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(|_| wrong())?;
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| wrong())?;
    let provider = rustls::crypto::ring::default_provider();
    rustls::sign::CertifiedKey::from_der(chain, key, &provider).map(drop).map_err(|_| wrong())
}

fn parse(pem: &[u8]) -> Result<(Vec<Certificate<'static>>, Option<PrivateKey<'static>>)> {
    let (mut certificates, mut key) = (Vec::new(), None);
    for item in parse_pem(pem) {
        match item.map_err(|_| Error::format("a certificate or key is not PEM"))? {
            PemItem::Certificate(certificate) => certificates.push(certificate),
            PemItem::PrivateKey(private) => key = Some(private),
            _ => {}
        }
    }
    Ok((certificates, key))
}

impl Transport for Http {
    fn send(&self, request: &Request, body: &mut dyn Read) -> io::Result<Response> {
        let url = Url::parse(&request.url).map_err(io::Error::from)?;
        let agent = self.agent(&url).ok_or(io::ErrorKind::NotFound)?;
        let mut builder = ureq::http::Request::builder().method(request.method).uri(&request.url);
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        let wrong = |error: ureq::http::Error| io::Error::new(io::ErrorKind::InvalidInput, error);
        let answer = match request.body_bytes {
            None => agent.run(builder.body(()).map_err(wrong)?),
            Some(bytes) => {
                let builder = builder.header("Content-Length", bytes.to_string());
                agent.run(builder.body(SendBody::from_reader(body)).map_err(wrong)?)
            }
        };
        let answer = answer.map_err(ureq::Error::into_io)?;
        let text = |value: &ureq::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = answer.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        let status = answer.status().as_u16();
        Ok(Response::new(status, headers, Box::new(answer.into_body().into_reader())))
    }

    fn abort(&self) {
        for agents in self.agents.values() {
            agents.direct.clone().shutdown();
            if let Some(proxied) = &agents.proxied {
                proxied.clone().shutdown();
            }
        }
    }
}
