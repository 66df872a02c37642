//! A device on one of this machine's own: the container has an address of its own in the network that the machine is in.
//!
//! Nobody here gives such addresses away, so the caller names them, or the program inside asks for one. The machine itself does not reach
//! the container this way, nor the other way round: the kernel keeps the two apart. Oldest kernel: 5.10.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd;

use nix::errno::Errno;

use crate::attachment::{Attached, Attachment};
use crate::error::{Error, ErrorKind, Result};
use crate::hardware::Hardware;
use crate::netlink::namespace_of;
use crate::netlink::route::{self, Route};

/// A container's own device on a device of this machine.
///
/// ```
/// use keelbox_network::Macvlan;
/// let lan = Macvlan::on("eth0").address([192, 168, 1, 50], 24).gateway([192, 168, 1, 1]);
/// # drop(lan);
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use = "it says how a container is connected, and does nothing by itself"]
pub struct Macvlan {
    below: String,
    addresses: Vec<(IpAddr, u8)>,
    gateways: Vec<IpAddr>,
    hardware: Option<Hardware>,
    mtu: Option<u32>,
}

const INSIDE: &str = "eth0";
/// Devices on the same one reach each other (`MACVLAN_MODE_BRIDGE`).
const BRIDGE: u32 = 4;

impl Macvlan {
    /// A device on the one of this name. Needs `CAP_NET_ADMIN`.
    pub fn on(device: impl Into<String>) -> Self {
        Self { below: device.into(), addresses: Vec::new(), gateways: Vec::new(), hardware: None, mtu: None }
    }

    /// An address in a network whose addresses have `prefix` bits in common. Default: none.
    pub fn address(mut self, address: impl Into<IpAddr>, prefix: u8) -> Self {
        self.addresses.push((address.into(), prefix));
        self
    }

    /// The way to everybody else. Default: none.
    pub fn gateway(mut self, gateway: impl Into<IpAddr>) -> Self {
        self.gateways.push(gateway.into());
        self
    }

    /// The hardware address. Default: the kernel draws one.
    pub fn hardware_address(mut self, address: Hardware) -> Self {
        self.hardware = Some(address);
        self
    }

    /// The longest packet, in bytes. Default: that of the device below.
    pub fn mtu(mut self, bytes: u32) -> Self {
        self.mtu = Some(bytes);
        self
    }

    /// Connects the network namespace of the process `pid`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] without such a device, the kernel's answer. Nothing is left behind then.
    pub fn attach(&self, pid: u32) -> Result<Attachment> {
        let attempt = format!("cannot connect the container by a device on {}", self.below);
        let cannot = |errno: Errno| Error::os(attempt.clone(), errno);
        let namespace = namespace_of(pid).map_err(|error| Error::os(attempt.clone(), error))?;
        let mut here = Route::here().map_err(cannot)?;
        let below = here.link(&self.below).map_err(cannot)?;
        let below = below.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("{attempt}: there is no network device of this name"))
        })?;
        let wanted = route::Macvlan {
            name: INSIDE,
            below: below.index,
            mode: BRIDGE,
            namespace: namespace.as_fd(),
            hardware: self.hardware.map(|Hardware(bytes)| bytes),
            mtu: self.mtu,
        };
        here.macvlan(&wanted).map_err(cannot)?;
        let device = Device::find(&namespace).map_err(cannot)?;
        let device = self.settle(device).map_err(cannot)?;
        let addresses = self.addresses.iter().map(|(address, _)| *address).collect();
        Ok(Attachment { addresses, published: Vec::new(), forwarder: None, attached: Attached::Macvlan(device) })
    }

    fn settle(&self, mut device: Device) -> Result<Device, Errno> {
        for (address, prefix) in &self.addresses {
            device.route.address(device.index, *address, *prefix)?;
        }
        device.route.switch(device.index, true)?;
        for gateway in &self.gateways {
            device.route.default_route(device.index, *gateway)?;
        }
        Ok(device)
    }
}

/// The device in the container, until it is dropped.
#[derive(Debug)]
pub(crate) struct Device {
    route: Route,
    index: u32,
}

impl Device {
    fn find(namespace: &File) -> Result<Self, Errno> {
        let mut route = Route::inside(namespace.as_fd())?;
        let index = route.link(INSIDE)?.ok_or(Errno::ENODEV)?.index;
        Ok(Self { route, index })
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _gone_already = self.route.remove(self.index);
    }
}
