//! How to reach registries: what a caller can say about it.
//!
//! Job: the builder that pulling, pushing and listing share. It holds settings only; connections and tokens live for one
//! transfer. Nothing is read from the environment: paths, proxies and credentials are told. Leaves out the transfers.

use super::credentials::{Credentials, Login};
use super::http::Tls;
use super::retry::Retry;
use super::transport::Transport;
use super::url::{Scheme, Url};
use crate::{Reference, Result};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How to reach registries. Cheap to clone; give the same to [`Puller`](super::Puller) and [`Pusher`](super::Pusher).
///
/// ```
/// use keelbox_image_spec::registry::Client;
/// let client = Client::new()
///     .home("/home/me")                                         // credentials that docker and podman keep there
///     .login("registry.example:5000", "robot", "password")
///     .mirror("docker.io", "https://mirror.example");
/// assert!(!format!("{client:?}").contains("password"));
/// ```
#[derive(Clone)]
#[must_use]
pub struct Client {
    pub(crate) credentials: Credentials,
    pub(crate) mirrors: Vec<(String, String)>,
    pub(crate) schemes: BTreeMap<String, Scheme>,
    pub(crate) realms: Vec<(String, String)>,
    pub(crate) roots: Option<Vec<u8>>,
    pub(crate) tls: BTreeMap<String, Tls>,
    pub(crate) proxy: Option<String>,
    pub(crate) no_proxy: Vec<String>,
    pub(crate) retry: Retry,
    pub(crate) idle: Duration,
    pub(crate) transport: Option<Arc<dyn Transport>>,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            credentials: Credentials::default(),
            mirrors: Vec::new(),
            schemes: BTreeMap::new(),
            realms: Vec::new(),
            roots: None,
            tls: BTreeMap::new(),
            proxy: None,
            no_proxy: Vec::new(),
            retry: Retry::default(),
            idle: Duration::from_secs(30),
            transport: None,
        }
    }
}

impl fmt::Debug for Client {
    /// Without proxies, addresses and keys: secrets are written into all of them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mirrored: Vec<&str> = self.mirrors.iter().map(|(domain, _)| domain.as_str()).collect();
        let mut shown = f.debug_struct("Client");
        shown.field("credentials", &self.credentials).field("mirrored", &mirrored).field("schemes", &self.schemes);
        shown.field("tls", &self.tls).field("retry", &self.retry).field("silence", &self.idle).finish_non_exhaustive()
    }
}

impl Client {
    /// A client without credentials, mirrors or proxy, that trusts the certificate authorities of the web.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks `mirror`, a web address perhaps with a path, before `domain`, for tags and for content. Several are asked in
    /// the order they were given. A mirror gets the credentials for its own host only. Default: none.
    pub fn mirror(mut self, domain: impl Into<String>, mirror: impl Into<String>) -> Self {
        self.mirrors.push((domain.into(), mirror.into()));
        self
    }

    /// Logs in to `domain` as `user`. These credentials come before those of files. Default: none.
    pub fn login(mut self, domain: impl Into<String>, user: impl Into<String>, password: impl Into<String>) -> Self {
        let login = Login::Password { user: user.into(), password: password.into() };
        self.credentials.told.push((domain.into(), login));
        self
    }

    /// Reads credentials from `file`, in the form of docker's `config.json` and podman's `auth.json`, when a registry asks
    /// for some. Several are read in the order they were given; one that does not exist is left out. Default: none.
    pub fn credentials(mut self, file: impl Into<PathBuf>) -> Self {
        self.credentials.files.push(file.into());
        self
    }

    /// Reads the credentials that docker and podman keep below `home`: `.docker/config.json` and
    /// `.config/containers/auth.json`. Default: none.
    pub fn home(self, home: impl AsRef<Path>) -> Self {
        let home = home.as_ref();
        self.credentials(home.join(".docker/config.json")).credentials(home.join(".config/containers/auth.json"))
    }

    /// Where to look for the programs `docker-credential-NAME` that a credential file names (`credsStore`, `credHelpers`).
    /// Default: `/usr/local/bin`, `/usr/bin` and `/bin`. An empty list forbids them.
    pub fn helper_directories<P: Into<PathBuf>>(mut self, directories: impl IntoIterator<Item = P>) -> Self {
        self.credentials.directories = directories.into_iter().map(Into::into).collect();
        self
    }

    /// Speaks HTTP or HTTPS with `domain`. Default: HTTPS, and HTTP with this machine itself (`localhost`, 127.0.0.0/8,
    /// `::1`).
    pub fn scheme(mut self, domain: impl Into<String>, scheme: Scheme) -> Self {
        self.schemes.insert(domain.into(), scheme);
        self
    }

    /// Lets `domain` have its tokens made by `host`, which then gets the credentials for it. Default: the registry's own
    /// host, and the known ones of `docker.io` and `registry.gitlab.com`. Elsewhere only tokens for everybody are asked
    /// for.
    pub fn token_host(mut self, domain: impl Into<String>, host: impl Into<String>) -> Self {
        self.realms.push((domain.into(), host.into()));
        self
    }

    /// Trusts these certificate authorities (PEM) in the place of the web's. Default: Mozilla's list, built in.
    pub fn authorities(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.roots = Some(pem.into());
        self
    }

    /// Trusts these certificate authorities (PEM) for `domain`, and no others for it. Implies HTTPS.
    pub fn authorities_of(mut self, domain: impl Into<String>, pem: impl Into<Vec<u8>>) -> Self {
        let domain = domain.into();
        self.schemes.insert(domain.clone(), Scheme::Https);
        self.tls.entry(domain).or_default().roots = Some(pem.into());
        self
    }

    /// Shows `domain` a client certificate: certificates and private key, PEM, in one text. Implies HTTPS. Default: none.
    pub fn identity(mut self, domain: impl Into<String>, pem: impl Into<Vec<u8>>) -> Self {
        let domain = domain.into();
        self.schemes.insert(domain.clone(), Scheme::Https);
        self.tls.entry(domain).or_default().identity = Some(pem.into());
        self
    }

    /// Goes through `proxy`, of the form `http://[user:password@]host:port`, but not to this machine itself. Default: none,
    /// whatever the environment says.
    pub fn proxy(mut self, proxy: impl Into<String>) -> Self {
        self.proxy = Some(proxy.into());
        self
    }

    /// Goes to these hosts, and those below them, without the proxy; `*` is all. Default: none.
    pub fn no_proxy<T: Into<String>>(mut self, hosts: impl IntoIterator<Item = T>) -> Self {
        self.no_proxy = hosts.into_iter().map(Into::into).collect();
        self
    }

    /// How often a request is sent again that failed in a way which may pass. Default: 5.
    pub fn retries(mut self, times: u32) -> Self {
        self.retry.times = times;
        self
    }

    /// The pause before the first repetition, doubled with each, and the longest one. A registry that asks for a longer
    /// pause (`Retry-After`) has failed. Default: half a second, and a minute.
    pub fn pause(mut self, first: Duration, longest: Duration) -> Self {
        self.retry.pause = first;
        self.retry.longest = longest.max(first);
        self
    }

    /// How long a connection may be silent, at least 10 ms. One that sends less than 256 bytes a second over this time
    /// counts as silent. Default: 30 seconds.
    pub fn silence(mut self, time: Duration) -> Self {
        self.idle = time.max(Duration::from_millis(10));
        self
    }

    /// Sends requests by way of `transport`. Default: ureq and rustls. Certificates, proxies and time limits are then
    /// `transport`'s.
    pub fn transport(mut self, transport: impl Transport + 'static) -> Self {
        self.transport = Some(Arc::new(transport));
        self
    }

    /// The places that may have `name`, in order: mirrors, then its registry.
    pub(crate) fn endpoints(&self, name: &Reference) -> Result<Vec<Endpoint>> {
        let mirrors = self.mirrors.iter().filter(|(domain, _)| domain == name.domain());
        let mut endpoints = Vec::new();
        for (_, mirror) in mirrors {
            let base = Url::parse(mirror).map_err(|error| error.within("mirror"))?;
            let prefix = base.path().trim_matches('/').to_owned();
            let repository =
                if prefix.is_empty() { name.path().to_owned() } else { format!("{prefix}/{}", name.path()) };
            endpoints.push(Endpoint { domain: base.authority(), base: base.root(), repository });
        }
        endpoints.push(self.endpoint(name)?);
        Ok(endpoints)
    }

    /// The registry of `name` itself.
    pub(crate) fn endpoint(&self, name: &Reference) -> Result<Endpoint> {
        let host = if name.domain() == "docker.io" { "registry-1.docker.io" } else { name.domain() };
        let url = |scheme: Scheme| Url::parse(&format!("{}://{host}", scheme.name()));
        let base = match self.schemes.get(name.domain()) {
            Some(scheme) => url(*scheme)?,
            None => Some(url(Scheme::Http)?).filter(Url::is_loopback).map_or_else(|| url(Scheme::Https), Ok)?,
        };
        Ok(Endpoint { domain: name.domain().to_owned(), base, repository: name.path().to_owned() })
    }

    /// Whether `host` may have the credentials for `domain`.
    pub(crate) fn is_token_host(&self, domain: &str, own: &str, host: &str) -> bool {
        const KNOWN: [(&str, &str); 2] = [("docker.io", "auth.docker.io"), ("registry.gitlab.com", "gitlab.com")];
        host == own
            || KNOWN.contains(&(domain, host))
            || self.realms.iter().any(|(of, allowed)| of == domain && allowed == host)
    }
}

/// A repository at one registry or mirror.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// The name that credentials are kept under.
    pub(crate) domain: String,
    /// The address without a path.
    pub(crate) base: Url,
    pub(crate) repository: String,
}

impl Endpoint {
    /// The address of something in the repository.
    pub(crate) fn url(&self, path: &str) -> Url {
        self.base.below(&format!("v2/{}/{path}", self.repository))
    }

    pub(crate) fn scope(&self, actions: &str) -> String {
        format!("repository:{}:{actions}", self.repository)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base.authority(), self.repository)
    }
}
