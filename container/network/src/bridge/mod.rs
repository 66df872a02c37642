//! Networks of containers on one machine: a bridge, its subnets, and what its members may do.
//!
//! Everything that says who has which address lies in the kernel, in the names of devices that go with a container, and the packet
//! filter's tables go with the program's socket. So a killed program leaves nothing but the bridge itself, which the next one
//! that makes a network takes away. Leaves out networks over several machines. Oldest kernel: 5.10.

pub(crate) mod endpoint;
mod lock;
mod make;
mod rules;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::names::Responder;
use crate::netlink::route::{Link, Route};
use crate::nft::Filter;
use crate::subnet::Subnet;
pub use endpoint::Endpoint;
use lock::{Locks, Use};

/// A network of containers to be made, or to be joined if another program of this user has made it.
#[derive(Clone, Debug)]
#[must_use = "a network is not there before it is created"]
pub struct NewBridge {
    name: String,
    subnets: Vec<Subnet>,
    ipv6: bool,
    internal: bool,
    forwarding: bool,
    names: bool,
    mtu: Option<u32>,
    state: PathBuf,
}

/// A network of containers. Clones are the same network; with the last one, and the last container in it, everything of it goes.
#[derive(Clone, Debug)]
pub struct Bridge {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) link: Link,
    pub(crate) subnets: Vec<Subnet>,
    pub(crate) internal: bool,
    pub(crate) names: Option<Responder>,
    pub(crate) mtu: Option<u32>,
    /// The name of the tables of this handle.
    pub(crate) table: String,
    pub(crate) kernel: Mutex<Kernel>,
    locks: Locks,
    using: Mutex<Use>,
}

/// Sockets about the namespace that the network was made in.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) route: Route,
    pub(crate) filter: Filter,
    /// The number at which the search for a free address begins.
    pub(crate) next: u32,
}

impl NewBridge {
    /// A network whose bridge has this name: 15 letters, digits, `_`, `-` or `.` at most.
    pub fn new(name: impl Into<String>) -> Self {
        let state = PathBuf::from("/run/keelbox-networks");
        let (subnets, name) = (Vec::new(), name.into());
        Self { name, subnets, ipv6: false, internal: false, forwarding: false, names: true, mtu: None, state }
    }

    /// The addresses of the network, one subnet of IPv4 and one of IPv6 at most. Default: one of IPv4 below `10.83.0.0/16` that this
    /// machine has no way to yet.
    pub fn subnet(mut self, subnet: Subnet) -> Self {
        self.subnets.push(subnet);
        self
    }

    /// Gives the members IPv6 addresses as well, of a subnet drawn by lot (RFC 4193) unless one is named. Default: IPv4 alone.
    pub fn ipv6(mut self) -> Self {
        self.ipv6 = true;
        self
    }

    /// A network without a way out: its members reach each other and this machine. Default: they reach whatever this machine does.
    pub fn internal(mut self) -> Self {
        self.internal = true;
        self
    }

    /// Turns the forwarding of packets on for this machine if it is off, where it stays on. Default: that it is off is an error.
    pub fn forwarding(mut self) -> Self {
        self.forwarding = true;
        self
    }

    /// Answers no questions about names. Default: members find each other by name, and everybody else by asking as this machine does.
    pub fn without_names(mut self) -> Self {
        self.names = false;
        self
    }

    /// The longest packet, in bytes. Default: the kernel's, 1500.
    pub fn mtu(mut self, bytes: u32) -> Self {
        self.mtu = Some(bytes);
        self
    }

    /// Where locks are kept. Default: `/run/keelbox-networks`. Programs that share a network must agree.
    pub fn state(mut self, directory: impl Into<PathBuf>) -> Self {
        self.state = directory.into();
        self
    }

    /// Makes the network in the calling thread's network namespace, or joins it if it is there. Needs `CAP_NET_ADMIN`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Taken`] if a device of this name is something else, or a subnet is in use; [`ErrorKind::Exhausted`] without a free
    /// subnet; [`ErrorKind::Unsupported`] if this machine forwards no packets, or cannot filter them; the kernel's answer. Nothing is
    /// left behind then.
    ///
    /// [`ErrorKind::Taken`]: crate::ErrorKind::Taken
    /// [`ErrorKind::Exhausted`]: crate::ErrorKind::Exhausted
    /// [`ErrorKind::Unsupported`]: crate::ErrorKind::Unsupported
    pub fn create(self) -> Result<Bridge> {
        make::create(self)
    }
}

impl Bridge {
    /// A network whose bridge has this name, to say more about it. See [`NewBridge::new`].
    pub fn builder(name: impl Into<String>) -> NewBridge {
        NewBridge::new(name)
    }

    /// The name of the network, and of its bridge.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.link.name
    }

    /// Its subnets.
    #[must_use]
    pub fn subnets(&self) -> &[Subnet] {
        &self.inner.subnets
    }

    /// This machine's own address in the network, of IPv4 if it has one.
    #[must_use]
    pub fn gateway(&self) -> IpAddr {
        self.inner.subnets.first().map_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), |subnet| subnet.address(1))
    }

    /// Whether it answers questions about names, at the [gateway](Self::gateway).
    #[must_use]
    pub fn answers_names(&self) -> bool {
        self.inner.names.is_some()
    }

    /// The way of one container into the network, to say more about it.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::new(self.clone())
    }

    /// Who is in the network now: names and addresses, whichever program runs them.
    ///
    /// # Errors
    ///
    /// The kernel's answer.
    pub fn members(&self) -> Result<Vec<(String, Vec<IpAddr>)>> {
        let found = self.inner.kernel().route.ports(self.inner.link.index);
        let ports = found.map_err(|errno| Error::os(format!("cannot list the members of {}", self.name()), errno))?;
        Ok(ports.iter().filter_map(|port| endpoint::told(&port.alias)).collect())
    }
}

impl PartialEq for Bridge {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl Eq for Bridge {}

impl Inner {
    pub(crate) fn kernel(&self) -> MutexGuard<'_, Kernel> {
        self.kernel.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    /// Whoever comes last takes the bridge away. What fails here is found by the next one that makes a network.
    fn drop(&mut self) {
        self.names = None;
        let Ok(_turn) = self.locks.turn() else { return };
        let using = self.using.get_mut().unwrap_or_else(PoisonError::into_inner);
        let kernel = self.kernel.get_mut().unwrap_or_else(PoisonError::into_inner);
        rules::end(&mut kernel.filter, &self.table);
        if using.end() && kernel.route.ports(self.link.index).is_ok_and(|ports| ports.is_empty()) {
            let _removed = kernel.route.remove(self.link.index);
        }
    }
}
