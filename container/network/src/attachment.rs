//! A container that is connected: its addresses and published ports, until it is dropped.

use std::net::{IpAddr, SocketAddr};

use crate::bridge::endpoint::Joined;
use crate::cni::Added;
use crate::forward::Forwarder;
use crate::macvlan::Device;
use crate::pasta::Running;
use crate::publish::Publish;

/// A container that is connected to a network. Dropping it disconnects the container and takes back its address and ports.
#[derive(Debug)]
pub struct Attachment {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) published: Vec<(Publish, SocketAddr)>,
    // Ports are closed before the container is disconnected.
    #[expect(dead_code, reason = "held, never looked at")]
    pub(crate) forwarder: Option<Forwarder>,
    #[expect(dead_code, reason = "held, never looked at")]
    pub(crate) attached: Attached,
}

/// What there is to be taken back.
#[derive(Debug)]
#[expect(dead_code, reason = "held, never looked at")]
pub(crate) enum Attached {
    Bridge(Box<Joined>),
    Macvlan(Device),
    Pasta(Running),
    Cni(Box<Added>),
    Nothing,
}

impl Attachment {
    /// The container's addresses, those of IPv4 first.
    #[must_use]
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// The published ports, each with the address and port of this machine that it got.
    #[must_use]
    pub fn published(&self) -> &[(Publish, SocketAddr)] {
        &self.published
    }
}
