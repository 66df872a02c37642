//! Changes of an image configuration.
//!
//! Job: check one setting and put it into the JSON document, of which everything else stays as it is; and say in a few words
//! what was done. Leaves out layers.

use crate::process::stop_signal;
use crate::{Error, Result, User};
use serde_json::{Map, Value, json};

/// One setting.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Env(String, Option<String>),
    Entrypoint(Vec<String>),
    Cmd(Vec<String>),
    User(String),
    WorkingDir(String),
    Label(String, Option<String>),
    Port(String),
    Volume(String),
    StopSignal(String),
    Author(String),
    Architecture(String),
}

impl Change {
    /// Puts the setting into the document.
    pub(crate) fn apply(&self, document: &mut Map<String, Value>) -> Result<()> {
        self.check()?;
        match self {
            Self::Author(author) => return put(document, "author", author),
            Self::Architecture(architecture) => {
                // The variant was one of the old processor.
                document.remove("variant");
                return put(document, "architecture", architecture);
            }
            _ => {}
        }
        let config = object(document, "config")?;
        match self {
            Self::Env(name, value) => env(config, name, value.as_deref()),
            Self::Entrypoint(arguments) => list(config, "Entrypoint", arguments),
            Self::Cmd(arguments) => list(config, "Cmd", arguments),
            Self::User(user) => put(config, "User", user),
            Self::WorkingDir(path) => put(config, "WorkingDir", path),
            Self::StopSignal(signal) => put(config, "StopSignal", signal),
            Self::Label(name, Some(value)) => put(object(config, "Labels")?, name, value),
            Self::Label(name, None) => {
                object(config, "Labels")?.remove(name);
                Ok(())
            }
            Self::Port(port) => {
                let port = if port.contains('/') { port.clone() } else { format!("{port}/tcp") };
                object(config, "ExposedPorts")?.insert(port, json!({}));
                Ok(())
            }
            Self::Volume(path) => {
                object(config, "Volumes")?.insert(path.clone(), json!({}));
                Ok(())
            }
            Self::Author(_) | Self::Architecture(_) => Ok(()),
        }
    }

    fn check(&self) -> Result<()> {
        let wrong = |what: &str, text: &str| Err(Error::format(format!("{what} {text:?} means nothing")));
        let nul = |texts: &[&str]| texts.iter().any(|text| text.contains('\0'));
        match self {
            Self::Env(name, value)
                if name.is_empty() || name.contains('=') || nul(&[name, value.as_deref().unwrap_or("")]) =>
            {
                wrong("the variable", name)
            }
            Self::Entrypoint(arguments) | Self::Cmd(arguments) => {
                match arguments.iter().find(|argument| argument.contains('\0')) {
                    Some(argument) => wrong("the argument", argument),
                    None => Ok(()),
                }
            }
            Self::User(user) if !user.is_empty() => user.parse::<User>().map(drop),
            Self::WorkingDir(path) | Self::Volume(path) if !path.starts_with('/') || nul(&[path]) => {
                wrong("the path", path)
            }
            Self::Label(name, _) if name.is_empty() => wrong("the label", name),
            Self::Port(port) if !is_port(port) => wrong("the port", port),
            Self::StopSignal(signal) => stop_signal(signal).map(drop),
            Self::Architecture(architecture) if architecture.is_empty() => wrong("the architecture", architecture),
            _ => Ok(()),
        }
    }

    /// What was done, in the words of a build file.
    pub(crate) fn remark(&self) -> String {
        match self {
            Self::Env(name, Some(value)) => format!("ENV {name}={value}"),
            Self::Env(name, None) => format!("ENV without {name}"),
            Self::Entrypoint(arguments) => format!("ENTRYPOINT {}", json!(arguments)),
            Self::Cmd(arguments) => format!("CMD {}", json!(arguments)),
            Self::User(user) => format!("USER {user}"),
            Self::WorkingDir(path) => format!("WORKDIR {path}"),
            Self::Label(name, Some(value)) => format!("LABEL {name}={value}"),
            Self::Label(name, None) => format!("LABEL without {name}"),
            Self::Port(port) => format!("EXPOSE {port}"),
            Self::Volume(path) => format!("VOLUME {path}"),
            Self::StopSignal(signal) => format!("STOPSIGNAL {signal}"),
            Self::Author(author) => format!("author {author}"),
            Self::Architecture(architecture) => format!("architecture {architecture}"),
        }
    }
}

/// `80`, `80/tcp`, `8000-8010/udp`.
fn is_port(text: &str) -> bool {
    let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0);
    let range = numbers.split_once('-').map_or_else(|| number(numbers), |(first, last)| number(first) && number(last));
    range && ["tcp", "udp", "sctp"].contains(&protocol)
}

fn put(object: &mut Map<String, Value>, name: &str, value: &str) -> Result<()> {
    object.insert(name.to_owned(), value.into());
    Ok(())
}

fn list(config: &mut Map<String, Value>, name: &str, values: &[String]) -> Result<()> {
    if values.is_empty() {
        config.remove(name);
    } else {
        config.insert(name.to_owned(), json!(values));
    }
    Ok(())
}

fn env(config: &mut Map<String, Value>, name: &str, value: Option<&str>) -> Result<()> {
    let variables = config.entry("Env").or_insert_with(|| json!([]));
    if variables.is_null() {
        *variables = json!([]);
    }
    let variables =
        variables.as_array_mut().ok_or_else(|| Error::format("image configuration: /config/Env is not an array"))?;
    let own = |variable: &Value| {
        variable.as_str().is_some_and(|text| text.split_once('=').is_some_and(|(key, _)| key == name))
    };
    let place = variables.iter().position(own);
    match (place, value) {
        (Some(place), Some(value)) => variables[place] = format!("{name}={value}").into(),
        (None, Some(value)) => variables.push(format!("{name}={value}").into()),
        (_, None) => variables.retain(|variable| !own(variable)),
    }
    Ok(())
}

/// The object of that name, made where it is missing.
pub(crate) fn object<'o>(parent: &'o mut Map<String, Value>, name: &str) -> Result<&'o mut Map<String, Value>> {
    let value = parent.entry(name).or_insert_with(|| json!({}));
    if value.is_null() {
        *value = json!({});
    }
    value.as_object_mut().ok_or_else(|| Error::format(format!("image configuration: {name} is not an object")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        for port in ["80", "80/tcp", "53/udp", "8000-8010", "1-2/sctp"] {
            assert!(is_port(port), "{port}");
        }
        for port in ["", "0", "65536", "80/", "/tcp", "80/icmp", "1-", "-1", "+1", "80/tcp/udp"] {
            assert!(!is_port(port), "{port}");
        }
    }

    #[test]
    fn a_variable_keeps_its_place() {
        let mut config = Map::new();
        for (name, value) in [("A", Some("1")), ("B", Some("2")), ("A", Some("3")), ("C", None), ("B", None)] {
            env(&mut config, name, value).expect("possible");
        }
        assert_eq!(config["Env"], json!(["A=3"]));
    }
}
