//! The network of a container: which one it is, and how the container is connected once it has its namespace.
//!
//! What networks are made of is the business of `keelbox-network`. Leaves out further networks of one container. Oldest kernel: 5.10.

use std::path::{Path, PathBuf};

use keelbox_namespaces::Kind;
use keelbox_network::{Attachment, Cni, Device, Endpoint, Macvlan, Moved, NewBridge, Pasta, Publish};
use oci_spec::runtime as oci;

use crate::error::{Error, ErrorKind, Result};
use crate::profile::Profile;
use crate::spec::{Injected, Spec};

/// What the network of a container is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Network {
    /// A network namespace of its own with nothing but a loopback interface.
    #[default]
    None,
    /// The host's.
    Host,
    /// The network namespace behind this path.
    Join(PathBuf),
    /// A network of containers on this machine.
    Bridge(Endpoint),
    /// A device on one of this machine's own.
    Macvlan(Macvlan),
    /// What an ordinary user reaches, by pasta(1).
    Pasta(Pasta),
    /// A network that plug-ins set up.
    Cni(Cni),
}

impl Network {
    /// A network of containers to be made, by the name of its bridge. Members reach each other, by name too, and what this machine
    /// reaches; nobody from outside reaches them but by [published](crate::Container::publish) ports.
    ///
    /// ```no_run
    /// # let (mariadb, wordpress) = (keelbox::Image::open("oci:./mariadb")?, keelbox::Image::open("oci:./wordpress")?);
    /// use keelbox::{Container, Network, tcp};
    /// let net = Network::bridge("shop").create()?;
    /// let db = Container::from_image(&mariadb).name("db").network(&net).ready_when(tcp(3306)).spawn()?;
    /// let web = Container::from_image(&wordpress).name("web").network(&net).publish("127.0.0.1:8080:80").spawn()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn bridge(name: impl Into<String>) -> NewBridge {
        NewBridge::new(name)
    }

    /// A device on one of this machine's own, which this name is of: the container is in the network that the machine is in.
    ///
    /// ```
    /// use keelbox::Network;
    /// let lan = Network::macvlan("eth0").address([192, 168, 1, 50], 24).gateway([192, 168, 1, 1]);
    /// # drop(lan);
    /// ```
    pub fn macvlan(device: impl Into<String>) -> Macvlan {
        Macvlan::on(device)
    }

    /// The network of an ordinary user's container: it reaches what the user reaches, where pasta(1) is installed. Published ports need
    /// no privilege either, above 1023.
    pub fn pasta() -> Pasta {
        Pasta::new()
    }

    /// A network that plug-ins of the Container Network Interface set up, as the list in this file says (`*.conflist`).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] without such a file, [`ErrorKind::Invalid`] for what is no such list.
    pub fn cni(list: impl AsRef<Path>) -> Result<Cni> {
        Cni::open(list).map_err(refused)
    }

    /// What has to be done for the container once it has its namespace; nothing of the kind for the first three.
    fn is_connected(&self) -> bool {
        !matches!(self, Self::None | Self::Host | Self::Join(_))
    }

    /// Whether a container that has it has a namespace of its own.
    pub(crate) fn is_own(&self) -> bool {
        !matches!(self, Self::Host | Self::Join(_))
    }
}

impl From<&keelbox_network::Bridge> for Network {
    fn from(bridge: &keelbox_network::Bridge) -> Self {
        Self::Bridge(bridge.endpoint())
    }
}

impl From<Endpoint> for Network {
    fn from(endpoint: Endpoint) -> Self {
        Self::Bridge(endpoint)
    }
}

impl From<Macvlan> for Network {
    fn from(macvlan: Macvlan) -> Self {
        Self::Macvlan(macvlan)
    }
}

impl From<Pasta> for Network {
    fn from(pasta: Pasta) -> Self {
        Self::Pasta(pasta)
    }
}

impl From<Cni> for Network {
    fn from(cni: Cni) -> Self {
        Self::Cni(cni)
    }
}

impl From<keelbox_network::Error> for Error {
    fn from(error: keelbox_network::Error) -> Self {
        refused(error)
    }
}

/// The devices of a specification that move in, in an order that is always the same.
pub(crate) fn devices(spec: &oci::Spec) -> Vec<Device> {
    let named = spec.linux().as_ref().and_then(|linux| linux.net_devices().as_ref());
    let device = |(name, device): (&String, &oci::LinuxNetDevice)| {
        let inside = device.name().clone().filter(|inside| !inside.is_empty());
        Device { name: name.clone(), inside: inside.unwrap_or_else(|| name.clone()) }
    };
    let mut devices: Vec<Device> = named.into_iter().flatten().map(device).collect();
    devices.sort();
    devices
}

/// How a container is connected: part of its plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Wiring {
    /// Devices of the host that move in.
    pub(crate) devices: Vec<Device>,
    network: Network,
    name: Option<String>,
    ports: Vec<Publish>,
}

/// What a connected container holds. Devices go back unless they are [kept](Wired::keep).
#[derive(Debug, Default)]
pub(crate) struct Wired {
    moved: Option<Moved>,
    attachment: Option<Attachment>,
}

impl Wiring {
    pub(crate) fn of(spec: &Spec) -> Self {
        let (network, name, ports) = (spec.network.clone(), spec.name.clone(), spec.published.clone());
        Self { devices: devices(&spec.oci), network, name, ports }
    }

    /// Whether there is nothing to be done for the container's namespace.
    pub(crate) fn is_empty(&self) -> bool {
        self.devices.is_empty() && !self.network.is_connected() && self.ports.is_empty()
    }

    /// One line for each thing that is done.
    pub(crate) fn describe(&self) -> String {
        let mut text = String::new();
        for Device { name, inside } in &self.devices {
            text.push_str(&format!("with the network device {name} of the host as {inside}\n"));
        }
        match &self.network {
            Network::Bridge(endpoint) => {
                text.push_str(&format!("with the network device eth0 in the network {}\n", endpoint.bridge().name()));
            }
            Network::Macvlan(_) => text.push_str("with the network device eth0 on one of the host's\n"),
            Network::Pasta(_) => text.push_str("with a network device by pasta\n"),
            Network::Cni(cni) => text.push_str(&format!("with the network {} by plug-ins\n", cni.name())),
            Network::None | Network::Host | Network::Join(_) => {}
        }
        for port in &self.ports {
            text.push_str(&format!("with the published port {port}\n"));
        }
        text
    }

    /// Connects the container whose process is `pid`.
    pub(crate) fn connect(&self, pid: u32) -> Result<Wired> {
        let mut wired = Wired::default();
        if !self.devices.is_empty() {
            wired.moved = Some(Moved::into(pid, &self.devices).map_err(refused)?);
        }
        let attachment = match &self.network {
            Network::Bridge(endpoint) => endpoint.attach(pid, self.name.as_deref(), &self.ports),
            Network::Macvlan(macvlan) => macvlan.attach(pid),
            Network::Pasta(pasta) => pasta.attach(pid, &self.ports),
            Network::Cni(cni) => cni.attach(pid, &self.ports),
            Network::None if !self.ports.is_empty() => keelbox_network::publish(pid, &self.ports),
            Network::None | Network::Host | Network::Join(_) => return Ok(wired),
        };
        wired.attachment = Some(attachment.map_err(refused)?);
        Ok(wired)
    }
}

impl Wired {
    /// What has moved in stays; what the container is connected by is given to its handle.
    pub(crate) fn keep(self) -> Option<Attachment> {
        if let Some(moved) = self.moved {
            moved.keep();
        }
        self.attachment
    }
}

/// An error of networks in the words of this crate.
pub(crate) fn refused(error: keelbox_network::Error) -> Error {
    use keelbox_network::ErrorKind as Kind;
    use std::error::Error as _;
    let kind = match error.kind() {
        Kind::Invalid => ErrorKind::Invalid,
        Kind::Taken => ErrorKind::Taken,
        Kind::Exhausted => ErrorKind::Exhausted,
        Kind::NotFound => ErrorKind::NotFound,
        Kind::Unsupported => ErrorKind::Unsupported,
        Kind::PermissionDenied => ErrorKind::PermissionDenied,
        Kind::Os(number) if number != 0 => ErrorKind::Os(number),
        _ => ErrorKind::Other,
    };
    let hint = error.hint().map(str::to_owned);
    let cause = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
    let same = match cause.and_then(std::io::Error::raw_os_error) {
        Some(number) => Error::os(error.to_string(), std::io::Error::from_raw_os_error(number)).with_kind(kind),
        None => Error::new(kind, error.to_string()),
    };
    match hint {
        Some(hint) => same.with_hint(hint),
        None => same,
    }
}

/// Checks what is said about the network, and adds the files by which names are looked up inside.
pub(crate) fn complete(spec: &mut Spec) -> Result<()> {
    let invalid = |why: &str| Err(Error::new(ErrorKind::Invalid, why));
    if let Some(name) = &spec.name {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if name.is_empty() || name.len() > 63 || !name.bytes().all(letter) || name.starts_with('-') {
            return invalid(&format!("cannot name the container {name:?}: 1 to 63 letters, digits, '-' or '_'"));
        }
        if spec.oci.hostname().is_none() && spec.has_new(Kind::Uts) && spec.profile != Profile::Exact {
            let name = name.clone();
            spec.oci.set_hostname(Some(name));
        }
    }
    if let Some(why) = needs_holder(spec).filter(|_| spec.detached) {
        return Err(Error::new(ErrorKind::Unsupported, format!("cannot detach the container: {why}")));
    }
    let connected = spec.network.is_connected() || !spec.published.is_empty();
    if connected && !spec.has_new(Kind::Net) {
        return invalid("cannot connect the container: it has no network namespace of its own");
    }
    let endpoint = match spec.network.clone() {
        Network::Bridge(endpoint) => endpoint,
        Network::Pasta(pasta) => return pasta.check(&spec.published).map_err(refused),
        Network::Cni(cni) => return cni.check().map_err(refused),
        Network::Macvlan(_) if !spec.published.is_empty() => {
            return invalid(
                "cannot publish ports of the container: it has an address of its own in the machine's network",
            );
        }
        _ => return Ok(()),
    };
    endpoint.check().map_err(refused)?;
    if endpoint.is_limited() && holds_network_administration(spec) {
        let why = "cannot limit what the container sends: with CAP_NET_ADMIN it could lift the limit";
        return Err(Error::new(ErrorKind::Unsupported, why));
    }
    if endpoint.bridge().answers_names() && spec.profile != Profile::Exact {
        let gateway = endpoint.bridge().gateway();
        let files = [
            ("/etc/resolv.conf", format!("nameserver {gateway}\nsearch {}\n", endpoint.bridge().name())),
            ("/etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n".to_owned()),
        ];
        for (path, content) in files {
            let path = PathBuf::from(path);
            let mounted = spec.oci.mounts().iter().flatten().any(|mount| *mount.destination() == path);
            if !mounted && !spec.files.iter().any(|file| file.path == path) {
                spec.files.push(Injected { path, mode: 0o644, content: content.into_bytes() });
            }
        }
    }
    Ok(())
}

fn holds_network_administration(spec: &Spec) -> bool {
    let process = spec.oci.process().as_ref();
    let sets = process.and_then(|process| process.capabilities().as_ref());
    sets.and_then(|sets| sets.bounding().as_ref()).is_some_and(|set| set.contains(&oci::Capability::NetAdmin))
}

/// What runs of one template cannot have, since some of them are prepared before anybody asks for them.
pub(crate) fn refuse_template(spec: &Spec) -> Result<()> {
    let needs = [(!spec.published.is_empty(), "publish ports"), (spec.ready.is_some(), "be waited for")];
    match needs.into_iter().find(|(needed, _)| *needed) {
        Some((_, what)) => {
            let why = format!("cannot prepare a template: its containers cannot {what}");
            Err(Error::new(ErrorKind::Unsupported, why).with_hint("spawn() each by itself"))
        }
        None => Ok(()),
    }
}

/// What cannot be had by a container that nobody holds: the one that disconnects it would be gone.
pub(crate) fn needs_holder(spec: &Spec) -> Option<&'static str> {
    match &spec.network {
        network if network.is_connected() => Some("its network is this program's, and goes with it"),
        _ if !spec.published.is_empty() => Some("its ports are this program's, and go with it"),
        _ if spec.ready.is_some() => Some("nobody is there to wait until it is ready"),
        _ => None,
    }
}
