//! Published ports of a container that has no network at all: a thread inside its namespace carries what this machine accepts.
//!
//! There is no device, no address and no packet filter, so nothing leads out of the container. The connections come from `127.0.0.1`
//! inside. Needs the right to enter the namespace: root's, or that of a container which has the caller's user namespace.
//! Oldest kernel: 5.10.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;

use crate::attachment::{Attached, Attachment};
use crate::error::{Error, Result};
use crate::forward::Forwarder;
use crate::netlink::{namespace_of, within};
use crate::publish::{self, Publish};

/// Publishes ports of the process `pid`, which has a network namespace with a loopback device of its own.
///
/// ```no_run
/// // A process that has a network namespace of its own.
/// let pid = 4242;
/// let ports = keelbox_network::publish(pid, &["127.0.0.1:8080:80".parse()?])?;
/// println!("{:?}", ports.published());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`ErrorKind::Taken`](crate::ErrorKind::Taken) for a port that is somebody else's; the kernel's answer.
pub fn publish(pid: u32, ports: &[Publish]) -> Result<Attachment> {
    let attempt = || format!("cannot enter the network of process {pid}");
    let namespace = namespace_of(pid).map_err(|error| Error::os(attempt(), error))?;
    let bound = publish::bind(ports)?;
    let published = bound.iter().map(|bound| (bound.publish, bound.address)).collect();
    let to = |bound: IpAddr| match bound {
        IpAddr::V4(_) => Some(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(_) => Some(Ipv6Addr::LOCALHOST.into()),
    };
    // A thread is born where its parent is.
    let started = within(namespace.as_fd(), move || Forwarder::start(bound, &to));
    let forwarder = started.map_err(|errno| Error::os(attempt(), errno))??;
    Ok(Attachment { addresses: Vec::new(), published, forwarder: Some(forwarder), attached: Attached::Nothing })
}
