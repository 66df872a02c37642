//! Credential helpers: the programs `docker-credential-NAME`.
//!
//! Job: ask one for the login of a registry, over its standard streams, with a limit on time and on output. The program
//! inherits the environment, which it needs to find its keys. Leaves out storing and erasing.

use super::credentials::Login;
use crate::error::Attempt;
use crate::json::{self, Field};
use crate::{Error, ErrorKind, Result};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);
const OUTPUT_BYTES: u64 = 1 << 20;

/// What the helper `name` knows of `domain`; `None` if it has nothing for it.
pub(crate) fn ask(name: &str, directories: &[PathBuf], domain: &str) -> Result<Option<Login>> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(Error::format(format!("{name:?} is not a name of a credential helper")));
    }
    let program = format!("docker-credential-{name}");
    let found = directories.iter().map(|directory| directory.join(&program)).find(|path| path.is_file());
    let path = found.ok_or_else(|| Error::not_found(format!("there is no program {program} for credentials")))?;
    let what = path.display().to_string();
    let mut child = Command::new(&path)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .attempt(|| format!("cannot run {what}"))?;
    // A helper that does not read is no error by itself.
    let server = if domain == "docker.io" { "https://index.docker.io/v1/" } else { domain };
    if let Some(mut stdin) = child.stdin.take() {
        drop(stdin.write_all(format!("{server}\n").as_bytes()));
    }
    let output = child.stdout.take().map(|stdout| {
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut text = Vec::new();
            let answer = stdout.take(OUTPUT_BYTES).read_to_end(&mut text);
            drop(sender.send(answer.map(|_| text)));
        });
        receiver
    });
    let output = output.and_then(|receiver| receiver.recv_timeout(PATIENCE).ok());
    if output.is_none() {
        drop(child.kill());
    }
    let status = child.wait().attempt(|| format!("cannot wait for {what}"))?;
    let late = || Error::new(ErrorKind::Unavailable, format!("{what} gave no answer within {} s", PATIENCE.as_secs()));
    let text = output.ok_or_else(late)?.attempt(|| format!("cannot read from {what}"))?;
    if !status.success() {
        // The protocol has only this sentence for it.
        if String::from_utf8_lossy(&text).contains("credentials not found") {
            return Ok(None);
        }
        return Err(Error::new(ErrorKind::Denied, format!("{what} failed: {status}")));
    }
    parse(&text, &format!("the answer of {what}"))
}

fn parse(text: &[u8], what: &str) -> Result<Option<Login>> {
    let value = json::parse(text, what)?;
    let root = Field::root(&value, what)?;
    let user = root.optional_text("Username")?.unwrap_or_default();
    let secret = root.optional_text("Secret")?.unwrap_or_default();
    Ok(match (user.as_str(), secret.as_str()) {
        ("", "") => None,
        ("<token>", _) => Some(Login::Refresh(secret)),
        _ => Some(Login::Password { user, password: secret }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_helper_is_asked_over_its_streams() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("docker-credential-test");
        let script = r#"#!/bin/sh
read -r server
case "$1 $server" in
"get https://index.docker.io/v1/") echo '{"ServerURL":"x","Username":"me","Secret":"p"}' ;;
"get token.example") echo '{"Username":"<token>","Secret":"t"}' ;;
"get none.example") echo 'credentials not found in native keychain'; exit 1 ;;
"get broken.example") echo 'hidden' ;;
*) exit 3 ;;
esac
"#;
        std::fs::write(&path, script).expect("write");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        let directories = [directory.path().join("none"), directory.path().to_owned()];
        let ask = |domain: &str| ask("test", &directories, domain);
        let login = Login::Password { user: "me".into(), password: "p".into() };
        assert_eq!(ask("docker.io").expect("known"), Some(login));
        assert_eq!(ask("token.example").expect("known"), Some(Login::Refresh("t".into())));
        assert_eq!(ask("none.example").expect("unknown"), None);
        assert_eq!(ask("other.example").unwrap_err().kind(), ErrorKind::Denied);
        let error = ask("broken.example").unwrap_err();
        assert!(error.kind() == ErrorKind::Format && !format!("{error:?}").contains("hidden"));
        assert_eq!(super::ask("absent", &directories, "a").unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(super::ask("../test", &directories, "a").unwrap_err().kind(), ErrorKind::Format);
    }
}
