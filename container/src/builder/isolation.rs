//! Setters about isolation: profile, namespaces, network, capabilities, system call filter.

use std::collections::HashMap;

use keelbox_namespaces::Kind;
use oci_spec::runtime as oci;

use super::Container;
use crate::capabilities::named;
use crate::network::Network;
use crate::notify::{Answer, Call, Supervision};
use crate::profile::Profile;
use crate::ready::Ready;

impl Container {
    /// How much the container is trusted. Default: [`Profile::Ordinary`]. Settings of your own win over the profile's, whichever
    /// comes first.
    pub fn profile(mut self, profile: Profile) -> Self {
        self.spec.profile = profile;
        self
    }

    /// What network the container has. Default: [`Network::None`], nothing but a loopback interface.
    ///
    /// A container in a bridge's network ends with this program. Its `/etc/resolv.conf` and `/etc/hosts` are the network's, unless there
    /// are files or mounts of the caller's at these paths.
    ///
    /// ```no_run
    /// # let image = keelbox::Image::open("oci:./debian:12")?;
    /// use keelbox::{Container, Network};
    /// let net = Network::bridge("shop").create()?;
    /// let slow = net.endpoint().address([10, 83, 0, 9]).rate(1_000_000);
    /// let web = Container::from_image(&image).network(slow).spawn()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn network(mut self, network: impl Into<Network>) -> Self {
        self.spec.network = network.into();
        self
    }

    /// The name by which others in the same network find the container: letters, digits, `-` and `_`. It is the host name too, unless
    /// there is [another](Self::hostname). Default: none. Several containers may share one; who asks gets all their addresses.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.spec.name = Some(name.into());
        self
    }

    /// Leads a port of this machine to one inside: `127.0.0.1:8080:80`, `8080:80`, `80`, with `/udp` behind it for UDP; see
    /// [`Publish`](crate::Publish). Without an address it is `127.0.0.1`. Default: none.
    ///
    /// From loopback addresses a thread of this program carries the bytes: the program inside sees the connections come from this
    /// machine. From others the kernel's packet filter leads them, and the program inside sees who it is.
    pub fn publish(mut self, port: &str) -> Self {
        match port.parse() {
            Ok(port) => self.spec.published.push(port),
            Err(error) => self.spec.refuse(format!("{error}")),
        }
        self
    }

    /// Waits, when it is spawned, until the container is ready: `tcp(3306)`. One that ends before, or takes too long, is an error
    /// ([`ErrorKind::NotReady`](crate::ErrorKind::NotReady)) and is gone. Default: not.
    pub fn ready_when(mut self, ready: Ready) -> Self {
        self.spec.ready = Some(ready);
        self
    }

    /// Moves a network device of the host into the container, where it has another name; `%d` in that stands for the first free number.
    ///
    /// Its permanent addresses of global scope go with it, and it is up then; routes are forgotten. What becomes of it afterwards is the
    /// kernel's business: when the container ends, a physical device returns to the host, a virtual one is gone. It needs
    /// `CAP_NET_ADMIN`, and a network namespace of the container's own. Default: none.
    pub fn net_device(mut self, name: impl Into<String>, inside: impl Into<String>) -> Self {
        let mut devices = self.spec.linux().net_devices().clone().unwrap_or_default();
        let mut device = oci::LinuxNetDevice::default();
        device.set_name(Some(inside.into()));
        devices.insert(name.into(), device);
        self.spec.linux().set_net_devices(Some(devices));
        self
    }

    /// Shares the host's namespace of this kind instead of making a new one. Default: all kinds but time are new, and user
    /// if the caller is not root.
    pub fn share(mut self, kind: Kind) -> Self {
        self.spec.shared.push(kind);
        self
    }

    /// Makes a new namespace of this kind where the default would not: [`Kind::User`] as root, [`Kind::Time`].
    pub fn unshare(mut self, kind: Kind) -> Self {
        self.spec.unshared.push(kind);
        self
    }

    /// Joins the namespace behind a path, such as `/proc/42/ns/net`.
    pub fn join(mut self, kind: Kind, path: impl Into<std::path::PathBuf>) -> Self {
        self.spec.joined.push((kind, path.into()));
        self
    }

    /// Adds a capability, with or without `CAP_`, to those of the profile.
    pub fn capability(mut self, name: &str) -> Self {
        match named(name) {
            Some(capability) => self.spec.added_capabilities.push(capability),
            None => self.spec.refuse(format!("there is no capability {name:?}")),
        }
        self
    }

    /// Takes one capability of the profile away, with or without `CAP_`. What is added by [`capability`](Self::capability) stays.
    pub fn drop_capability(mut self, name: &str) -> Self {
        match named(name) {
            Some(capability) => self.spec.dropped_capabilities.push(capability),
            None => self.spec.refuse(format!("there is no capability {name:?}")),
        }
        self
    }

    /// Takes every capability away that is not added by [`capability`](Self::capability).
    pub fn drop_capabilities(mut self) -> Self {
        self.spec.drop_capabilities = true;
        self
    }

    /// Lets programs gain privileges by executing set-user-ID files. Default: not, except with [`Profile::Trusted`].
    pub fn new_privileges(mut self) -> Self {
        self.spec.process().set_no_new_privileges(Some(false));
        self
    }

    /// The system call filter, as JSON in the OCI form or the form of Docker's and Podman's profiles. Default: the profile's.
    pub fn seccomp(mut self, profile: impl Into<Vec<u8>>) -> Self {
        self.spec.seccomp = Some(Some(profile.into()));
        self
    }

    /// No system call filter at all.
    pub fn no_seccomp(mut self) -> Self {
        self.spec.seccomp = Some(None);
        self
    }

    /// Sets a kernel parameter of the container's own namespaces, such as `net.ipv4.ip_unprivileged_port_start`.
    pub fn sysctl(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let mut parameters: HashMap<_, _> = self.spec.linux().sysctl().clone().unwrap_or_default();
        parameters.insert(name.into(), value.into());
        self.spec.linux().set_sysctl(Some(parameters));
        self
    }

    /// Hides a path inside behind an empty file or directory, beside those that the profile hides.
    pub fn mask(mut self, path: impl Into<String>) -> Self {
        self.spec.masked.push(path.into());
        self
    }

    /// Asks `decide` in this program about every call of a system call, before it happens (seccomp user notification, Linux 5.5).
    ///
    /// A thread of this program answers. The call is made as the program asked for it unless the answer is an error.
    ///
    /// ```no_run
    /// # let image = keelbox::Image::open("oci:./debian:12")?;
    /// use keelbox::{Answer, Container};
    /// const EPERM: i32 = 1;
    /// let out = Container::from_image(&image)
    ///     .on_syscall("mkdirat", |call| match call.path(1) {
    ///         Ok(path) if path.starts_with("/tmp") => Answer::Continue,
    ///         _ => Answer::Errno(EPERM),
    ///     })
    ///     .args(["mkdir", "/srv/x"])
    ///     .output()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_syscall(
        mut self,
        name: impl Into<String>,
        decide: impl Fn(&Call<'_>) -> Answer + Send + Sync + 'static,
    ) -> Self {
        self.spec.supervision.get_or_insert_with(Supervision::default).add(name.into(), decide);
        self
    }

    /// Edits the OCI specification directly: for what has no setter of its own.
    pub fn oci(mut self, edit: impl FnOnce(&mut oci::Spec)) -> Self {
        edit(&mut self.spec.oci);
        self
    }
}
