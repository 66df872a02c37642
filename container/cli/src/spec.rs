//! The command spec: a configuration to start from.
//!
//! Leaves out choosing anything but root or an ordinary user. Needs no kernel.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use keelbox::crates::runtime_spec::Config;

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::read::Given;

/// What a container of other runtimes has to begin with, since programs may rely on it.
const CAPABILITIES: &str = r#"["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]"#;

pub(crate) fn spec(_: &Context<'_>, given: Given) -> Outcome {
    let file = given.path("bundle").unwrap_or_else(|| PathBuf::from(".")).join("config.json");
    let config = configuration(given.has("rootless"))
        .map_err(|error| Failure::new(format!("cannot make a configuration: {error}")))?;
    let attempt = format!("cannot write {}", file.display());
    let made = OpenOptions::new().write(true).create_new(true).open(&file);
    let mut made = made.map_err(|error| Failure::io(&attempt, &error))?;
    made.write_all(config.to_json().as_bytes()).map_err(|error| {
        let _removed = std::fs::remove_file(&file);
        Failure::io(&attempt, &error)
    })?;
    Ok(0)
}

/// A shell on the caller's terminal.
fn configuration(rootless: bool) -> Result<Config, keelbox::crates::runtime_spec::Error> {
    let (user, group) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let mut config = if rootless { Config::rootless(user, group) } else { Config::new() };
    config.insert("/process/args", r#"["sh"]"#)?;
    config.insert("/process/terminal", "true")?;
    config.insert("/process/env/-", r#""TERM=xterm""#)?;
    config.insert("/root/readonly", "true")?;
    config.insert("/hostname", r#""keelbox""#)?;
    for set in ["bounding", "effective", "permitted"] {
        config.insert(&format!("/process/capabilities/{set}"), CAPABILITIES)?;
    }
    Ok(config)
}
