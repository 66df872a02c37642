//! Networks of containers over netlink: bridges, addresses, published ports, names. No ip(8), no iptables(8), no daemon.
//!
//! ```no_run
//! use keelbox_network::Bridge;
//!
//! let shop = Bridge::builder("shop").create()?;
//! // A process that has a network namespace of its own, with nothing but a loopback device.
//! let pid = 4242;
//! let database = shop.endpoint().attach(pid, Some("db"), &["127.0.0.1:3306:3306".parse()?])?;
//! println!("{:?}, by {:?}", database.addresses(), database.published());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What a network consists of goes when the last program that uses it ends, however that happens: addresses are names of the
//! kernel's devices, which go with a container's namespace; packet filters belong to a socket, which goes with the program; the bridge
//! of a program that was killed is taken away by the next one that makes a network.
//!
//! Most programs want the crate `keelbox`, which connects the containers that it runs. Oldest kernel: 5.10.
#![forbid(unsafe_code)]

mod attachment;
mod bridge;
mod cni;
mod error;
mod forward;
mod hardware;
mod local;
mod macvlan;
mod moved;
mod names;
mod netlink;
mod nft;
mod pasta;
mod publish;
mod subnet;

pub use attachment::Attachment;
pub use bridge::{Bridge, Endpoint, NewBridge};
pub use cni::Cni;
pub use error::{Error, ErrorKind, Result};
pub use hardware::Hardware;
pub use local::publish;
pub use macvlan::Macvlan;
pub use moved::{Device, Moved};
pub use pasta::Pasta;
pub use publish::{Protocol, Publish};
pub use subnet::Subnet;
