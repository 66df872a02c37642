//! Networks by the plug-ins of the Container Network Interface: programs that are told by JSON what to do, one after another.
//!
//! What they make is theirs: of a program that is killed, their own clean-up (`GC`, or the next `DEL`) is all there is. Leaves out
//! `CHECK` and capabilities other than published ports. Specification: CNI 1.0. Oldest kernel: the plug-ins'.

use std::fs::File;
use std::io::Write;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::attachment::{Attached, Attachment};
use crate::error::{Error, ErrorKind, Result};
use crate::netlink::namespace_of;
use crate::publish::{Protocol, Publish};

/// A network as a list of plug-ins (`*.conflist`) describes it.
///
/// ```
/// use keelbox_network::{Cni, ErrorKind};
/// let list = r#"{"cniVersion": "1.0.0", "name": "lan", "plugins": [{"type": "no-such-plug-in"}]}"#;
/// let error = Cni::parse(list)?.check().unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::NotFound);
/// # Ok::<(), keelbox_network::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "it says how a container is connected, and does nothing by itself"]
pub struct Cni {
    name: String,
    version: String,
    plugins: Vec<(String, Value)>,
    directories: Vec<PathBuf>,
}

impl Eq for Cni {}

const INSIDE: &str = "eth0";

impl Cni {
    /// Reads a list from a file.
    ///
    /// # Errors
    ///
    /// The kernel's answer, [`ErrorKind::Invalid`] for what is no such list.
    pub fn open(file: impl AsRef<Path>) -> Result<Self> {
        let file = file.as_ref();
        let attempt = || format!("cannot read the network in {}", file.display());
        let text = std::fs::read_to_string(file).map_err(|error| Error::os(attempt(), error))?;
        Self::parse(&text).map_err(|error| Error::invalid(format!("{}: {error}", attempt())))
    }

    /// Reads a list from text.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] for what is no such list.
    pub fn parse(text: &str) -> Result<Self> {
        let list: Value =
            serde_json::from_str(text).map_err(|error| Error::invalid(format!("it is no JSON: {error}")))?;
        let member = |name: &str| {
            let text = list.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
            text.map(str::to_owned).ok_or_else(|| Error::invalid(format!("it has no text /{name}")))
        };
        let (name, version) = (member("name")?, member("cniVersion")?);
        let mut plugins = Vec::new();
        for (index, plugin) in list.get("plugins").and_then(Value::as_array).into_iter().flatten().enumerate() {
            let kind = plugin.get("type").and_then(Value::as_str).unwrap_or_default();
            // It is looked for in directories of the administrator, and nowhere else.
            if kind.is_empty() || kind.contains('/') || kind.starts_with('.') || !plugin.is_object() {
                return Err(Error::invalid(format!("/plugins/{index}/type names no plug-in")));
            }
            plugins.push((kind.to_owned(), plugin.clone()));
        }
        if plugins.is_empty() {
            return Err(Error::invalid("it has no /plugins"));
        }
        let directories = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"].map(PathBuf::from).to_vec();
        Ok(Self { name, version, plugins, directories })
    }

    /// Where the plug-ins are. Default: `/opt/cni/bin`, `/usr/lib/cni`, `/usr/libexec/cni`.
    pub fn directories(mut self, directories: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        self.directories = directories.into_iter().map(Into::into).collect();
        self
    }

    /// The name of the network.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether every plug-in is there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] with the one that is not.
    pub fn check(&self) -> Result<()> {
        self.plugins.iter().try_for_each(|(kind, _)| self.find(kind).map(drop))
    }

    fn find(&self, kind: &str) -> Result<PathBuf> {
        let mut files = self.directories.iter().map(|directory| directory.join(kind));
        files.find(|file| file.is_file()).ok_or_else(|| {
            let why = format!("cannot set up the network {}: there is no plug-in {kind}", self.name);
            let named: Vec<String> = self.directories.iter().map(|directory| directory.display().to_string()).collect();
            Error::new(ErrorKind::NotFound, why).with_hint(format!("looked for in {}", named.join(", ")))
        })
    }

    /// Connects the network namespace of the process `pid`. Ports are published by a plug-in that says it can (`portMappings`).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Refused`] with the words of the plug-in that refused; [`ErrorKind::Unsupported`] for published ports without such a
    /// plug-in, or on a port of the kernel's choice. What had been set up is taken back then.
    pub fn attach(&self, pid: u32, ports: &[Publish]) -> Result<Attachment> {
        self.check()?;
        self.check_ports(ports)?;
        let namespace =
            namespace_of(pid).map_err(|error| Error::os(format!("cannot open the network of process {pid}"), error))?;
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let id = format!("keelbox-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        let ports_json: Vec<Value> = ports.iter().map(mapping).collect();
        let mut added = Added { cni: self.clone(), namespace, id, ports: ports_json, result: Value::Null, count: 0 };
        for (kind, plugin) in &self.plugins {
            // One that fails half-way is told to take it back as well.
            added.count += 1;
            let said = added.call("ADD", kind, plugin)?;
            if !said.is_null() {
                added.result = said;
            }
        }
        let addresses = addresses(&added.result);
        let published = ports.iter().map(|port| (*port, port.outside())).collect();
        Ok(Attachment { addresses, published, forwarder: None, attached: Attached::Cni(Box::new(added)) })
    }

    fn check_ports(&self, ports: &[Publish]) -> Result<()> {
        let Some(port) = ports.first() else { return Ok(()) };
        let refuse = |why: String| Err(Error::new(ErrorKind::Unsupported, format!("cannot publish {port}: {why}")));
        if !self.plugins.iter().any(|(_, plugin)| takes_ports(plugin)) {
            return refuse(format!("no plug-in of the network {} has the capability portMappings", self.name));
        }
        match ports.iter().any(|port| port.outside().port() == 0) {
            true => refuse("plug-ins find no free port by themselves".into()),
            false => Ok(()),
        }
    }
}

fn takes_ports(plugin: &Value) -> bool {
    plugin.pointer("/capabilities/portMappings").and_then(Value::as_bool).unwrap_or(false)
}

fn mapping(port: &Publish) -> Value {
    let protocol = if port.protocol() == Protocol::Tcp { "tcp" } else { "udp" };
    let outside = port.outside();
    json!({ "hostIP": outside.ip().to_string(), "hostPort": outside.port(), "containerPort": port.inside(), "protocol": protocol })
}

/// The addresses in a plug-in's result.
fn addresses(result: &Value) -> Vec<IpAddr> {
    let ips = result.get("ips").and_then(Value::as_array).into_iter().flatten();
    let one = |ip: &Value| ip.get("address")?.as_str()?.split('/').next()?.parse().ok();
    ips.filter_map(one).collect()
}

/// What plug-ins have set up, until it is dropped.
#[derive(Debug)]
pub(crate) struct Added {
    cni: Cni,
    /// Held open, so that it can be named as long as there is something to be taken back.
    namespace: File,
    id: String,
    ports: Vec<Value>,
    result: Value,
    count: usize,
}

impl Added {
    fn call(&self, verb: &str, kind: &str, plugin: &Value) -> Result<Value> {
        let attempt = format!("cannot set up the network {} by the plug-in {kind}", self.cni.name);
        let mut request = plugin.clone();
        request["name"] = json!(self.cni.name);
        request["cniVersion"] = json!(self.cni.version);
        if !self.result.is_null() {
            request["prevResult"] = self.result.clone();
        }
        if takes_ports(plugin) && !self.ports.is_empty() {
            request["runtimeConfig"] = json!({ "portMappings": self.ports });
        }
        let network = format!("/proc/{}/fd/{}", std::process::id(), self.namespace.as_raw_fd());
        let path: Vec<String> = self.cni.directories.iter().map(|directory| directory.display().to_string()).collect();
        let mut child = Command::new(self.cni.find(kind)?)
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", &self.id)
            .env("CNI_NETNS", network)
            .env("CNI_IFNAME", INSIDE)
            .env("CNI_PATH", path.join(":"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| Error::os(attempt.clone(), error))?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that does not read says why by its status.
            let _told = stdin.write_all(request.to_string().as_bytes());
        }
        let output = child.wait_with_output().map_err(|error| Error::os(attempt.clone(), error))?;
        let said: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        if output.status.success() {
            return Ok(said);
        }
        let words = |name: &str| said.get(name).and_then(Value::as_str).map(str::to_owned);
        let told = words("msg").or_else(|| {
            let errors = String::from_utf8_lossy(&output.stderr);
            errors.lines().rfind(|line| !line.trim().is_empty()).map(str::to_owned)
        });
        let why = format!("{attempt}: {}", told.unwrap_or_else(|| "it said nothing".into()));
        let error = Error::new(ErrorKind::Refused, why);
        Err(match words("details").filter(|details| !details.is_empty()) {
            Some(details) => error.with_hint(details),
            None => error,
        })
    }
}

impl Drop for Added {
    fn drop(&mut self) {
        for (kind, plugin) in self.cni.plugins.iter().take(self.count).rev() {
            let _whatever_it_says = self.call("DEL", kind, plugin);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_that_mean_nothing() {
        let cases = [
            ("", "no JSON"),
            ("{}", "/name"),
            (r#"{"name": "n"}"#, "/cniVersion"),
            (r#"{"name": "n", "cniVersion": "1.0.0"}"#, "/plugins"),
            (r#"{"name": "n", "cniVersion": "1.0.0", "plugins": [{"type": "../sh"}]}"#, "/plugins/0/type"),
            (r#"{"name": "n", "cniVersion": "1.0.0", "plugins": [7]}"#, "/plugins/0/type"),
        ];
        for (text, why) in cases {
            let error = Cni::parse(text).expect_err(text);
            assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn ports_need_a_plug_in_that_takes_them() {
        let list = |capabilities: &str| {
            let text = format!(r#"{{"name":"n","cniVersion":"1.0.0","plugins":[{{"type":"x"{capabilities}}}]}}"#);
            Cni::parse(&text).expect("a list")
        };
        let port = [Publish::new(8080, 80)];
        assert_eq!(list("").check_ports(&port).expect_err("none").kind(), ErrorKind::Unsupported);
        let able = list(r#","capabilities":{"portMappings":true}"#);
        assert!(able.check_ports(&port).is_ok());
        assert!(able.check_ports(&[Publish::new(0, 80)]).is_err());
        assert_eq!(mapping(&port[0])["hostIP"], "127.0.0.1");
    }
}
