//! Credentials: where they are kept, and who may have them.
//!
//! Job: find the login for a repository among those that were told, docker's and podman's files, and the helper programs
//! those name. Secrets are never printed, and errors never quote a file. Leaves out using them.

use super::helper;
use crate::document::base64;
use crate::error::Attempt;
use crate::json::{self, Field};
use crate::{Error, Result};
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// More than any list of credentials has.
const FILE_BYTES: u64 = 4 << 20;

/// A way to log in.
#[derive(Clone, Eq, PartialEq)]
pub(crate) enum Login {
    Password {
        user: String,
        password: String,
    },
    /// A refresh token, which a token server takes for an access token.
    Refresh(String),
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { user, .. } => write!(f, "Password({user:?}, …)"),
            Self::Refresh(_) => f.write_str("Refresh(…)"),
        }
    }
}

/// Where to look.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    pub(crate) told: Vec<(String, Login)>,
    pub(crate) files: Vec<PathBuf>,
    pub(crate) directories: Vec<PathBuf>,
}

impl Default for Credentials {
    fn default() -> Self {
        let directories = ["/usr/local/bin", "/usr/bin", "/bin"].map(PathBuf::from).to_vec();
        Self { told: Vec::new(), files: Vec::new(), directories }
    }
}

impl Credentials {
    /// The login for a repository of `domain`.
    pub(crate) fn find(&self, domain: &str, repository: &str) -> Result<Option<Login>> {
        if let Some((_, login)) = self.told.iter().rev().find(|(host, _)| normal(host) == domain) {
            return Ok(Some(login.clone()));
        }
        for file in &self.files {
            if let Some(login) = self.in_file(file, domain, repository)? {
                return Ok(Some(login));
            }
        }
        Ok(None)
    }

    fn in_file(&self, path: &Path, domain: &str, repository: &str) -> Result<Option<Login>> {
        let what = path.display().to_string();
        let Some(text) = read(path)? else { return Ok(None) };
        let value = json::parse(&text, &what)?;
        let root = Field::root(&value, &what)?;
        let helpers = root.optional_map("credHelpers")?;
        if let Some((_, name)) = helpers.iter().find(|(host, _)| normal(host) == domain) {
            return helper::ask(name, &self.directories, domain);
        }
        if let Some(auths) = root.get("auths")? {
            let keys: Vec<&str> = auths.keys()?.collect();
            // `host/team/app`, `host/team`, `host`: the most special one counts.
            let mut wanted = format!("{domain}/{repository}");
            loop {
                for key in keys.iter().filter(|key| normal(key) == wanted) {
                    if let Some(login) = auths.get(key)?.map(|entry| login(&entry)).transpose()?.flatten() {
                        return Ok(Some(login));
                    }
                }
                match wanted.rfind('/') {
                    Some(slash) => wanted.truncate(slash),
                    None => break,
                }
            }
        }
        match root.optional_text("credsStore")?.filter(|name| !name.is_empty()) {
            Some(name) => helper::ask(&name, &self.directories, domain),
            None => Ok(None),
        }
    }
}

/// One entry of `auths`; docker leaves an empty one where a helper has the secret.
fn login(entry: &Field<'_>) -> Result<Option<Login>> {
    let text = |key: &str| Ok::<_, Error>(entry.optional_text(key)?.filter(|text| !text.is_empty()));
    if let Some(token) = text("identitytoken")? {
        return Ok(Some(Login::Refresh(token)));
    }
    if let (Some(user), Some(password)) = (text("username")?, text("password")?) {
        return Ok(Some(Login::Password { user, password }));
    }
    let Some(auth) = text("auth")? else { return Ok(None) };
    let decoded = base64(auth.trim(), "credentials").ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = decoded.as_deref().map(|text| text.trim_end_matches('\0')).and_then(|text| text.split_once(':'));
    let (user, password) = pair.ok_or_else(|| entry.error("has an \"auth\" that is not user:password in base64"))?;
    Ok(Some(Login::Password { user: user.to_owned(), password: password.to_owned() }))
}

/// A key of a file as `domain` or `domain/path`; docker wrote whole addresses once.
fn normal(key: &str) -> String {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let key = match bare {
        Some(rest) => rest.split('/').next().unwrap_or_default(),
        None => key.trim_end_matches('/'),
    };
    let (host, path) = key.split_once('/').map_or((key, None), |(host, path)| (host, Some(path)));
    let host = match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    };
    path.filter(|path| !matches!(*path, "v1" | "v2")).map_or(host.to_owned(), |path| format!("{host}/{path}"))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let failed = || format!("cannot read {}", path.display());
    // O_NONBLOCK: a FIFO in its place must not stop us.
    let flags = nix::fcntl::OFlag::O_NONBLOCK | nix::fcntl::OFlag::O_NOCTTY;
    let file = match OpenOptions::new().read(true).custom_flags(flags.bits()).open(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        other => other.attempt(failed)?,
    };
    if !file.metadata().attempt(failed)?.is_file() {
        return Err(Error::format(format!("{} is not a regular file", path.display())));
    }
    let mut text = Vec::new();
    file.take(FILE_BYTES + 1).read_to_end(&mut text).attempt(failed)?;
    if text.len() as u64 > FILE_BYTES {
        return Err(Error::limit(format!("{} has more than {FILE_BYTES} bytes", path.display())));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(user: &str, password: &str) -> Option<Login> {
        Some(Login::Password { user: user.into(), password: password.into() })
    }

    #[test]
    fn the_most_special_entry_counts() {
        let directory = tempfile::tempdir().expect("directory");
        let file = directory.path().join("config.json");
        // a:b, c:d, e:f
        std::fs::write(
            &file,
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"YTpi"},"r.example:5000":{"auth":"Yzpk"},
                "r.example:5000/team":{"auth":"ZTpm"},"empty.example":{},"token.example":{"identitytoken":"t","auth":"YTpi"},
                "plain.example":{"username":"u","password":"p:q"}},"HttpHeaders":{}}"#,
        )
        .expect("write");
        let files = vec![directory.path().join("none"), file];
        let mut credentials = Credentials { files, ..Credentials::default() };
        for (domain, repository, login) in [
            ("docker.io", "library/debian", password("a", "b")),
            ("r.example:5000", "other", password("c", "d")),
            ("r.example:5000", "team/app", password("e", "f")),
            ("r.example:5000", "teammate", password("c", "d")),
            ("r.example", "team", None),
            ("empty.example", "x", None),
            ("token.example", "x", Some(Login::Refresh("t".into()))),
            ("plain.example", "x", password("u", "p:q")),
        ] {
            assert_eq!(credentials.find(domain, repository).expect(domain), login, "{domain}/{repository}");
        }
        credentials.told.push(("docker.io".into(), Login::Refresh("told".into())));
        assert_eq!(credentials.find("docker.io", "x").expect("told"), Some(Login::Refresh("told".into())));
        assert!(!format!("{credentials:?}").contains("told\""));
    }

    #[test]
    fn a_damaged_file_is_an_error_that_quotes_nothing() {
        let directory = tempfile::tempdir().expect("directory");
        let file = directory.path().join("auth.json");
        let credentials = Credentials { files: vec![file.clone()], ..Credentials::default() };
        for text in [
            "{secret",
            "[]",
            r#"{"auths":{"a":{"auth":"c2VjcmV0"}}}"#,
            r#"{"auths":{"a":{"auth":"secret!"}}}"#,
            r#"{"auths":{"a":{"auth":7}}}"#,
            r#"{"auths":[]}"#,
            r#"{"credHelpers":{"a":"../secret"}}"#,
        ] {
            std::fs::write(&file, text).expect("write");
            let error = credentials.find("a", "b").expect_err(text);
            assert_eq!(error.kind(), crate::ErrorKind::Format, "{text}");
            assert!(
                !format!("{error:?}").contains("c2VjcmV0") && !format!("{error:?}").contains("{secret"),
                "{error:?}"
            );
        }
        std::fs::remove_file(&file).expect("remove");
        nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).expect("fifo");
        assert!(credentials.find("a", "b").is_err());
    }
}
