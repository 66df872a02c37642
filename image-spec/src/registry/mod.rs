//! Registries: pulling, pushing and listing, over HTTP.
//!
//! Job: the front of the client. [`Image::pull`] is the short way; [`Puller`] and [`Pusher`] with a [`Client`] the long
//! one. Works on plain threads: no async runtime, no daemon, no other program, unless credentials are kept by one.
//!
//! A registry is not trusted. Content counts only with the right digest and size; credentials go to the host they are
//! for and nowhere else, not with redirects and not to a token server that was not named; answers are bounded, and silence
//! ends. `urls` in descriptors are not followed.
//!
//! Leaves out signatures, deleting, and images of schema 1. Needs the feature `registry`, which compiles C for TLS (ring).

mod auth;
mod challenge;
mod client;
mod credentials;
mod fetch;
mod helper;
mod http;
mod manifest;
mod progress;
mod pull;
mod push;
mod referrers;
mod retry;
mod session;
mod transport;
mod url;

pub use client::Client;
pub use fetch::Present;
pub use progress::{Cancel, Event, Progress};
pub use pull::Puller;
pub use push::Pusher;
pub use referrers::Referrer;
pub use transport::{Request, Response, Transport};
pub use url::Scheme;

use crate::{Error, Image, Result, Store, UnpackOptions};

impl Image {
    /// Pulls the image `name`, written as `docker pull` takes it, into the store that programs share by default, for this
    /// machine's platform, and unpacks it meanwhile. Credentials are those that docker and podman keep in the calling user's
    /// home directory.
    ///
    /// Speaks HTTPS, and HTTP with this machine itself. [`Puller`] is for other stores, mirrors, progress and limits.
    ///
    /// ```no_run
    /// let image = keelbox_image_spec::Image::pull("127.0.0.1:5000/debian:12")?;
    /// # Ok::<(), keelbox_image_spec::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Puller::pull`] and [`Store::default_for_user`]; `NotFound` when the user has no home directory.
    pub fn pull(name: &str) -> Result<Self> {
        let user = nix::unistd::geteuid();
        let home = nix::unistd::User::from_uid(user).ok().flatten().map(|entry| entry.dir);
        let home = match home {
            Some(home) => home,
            // Root's store is not in a home directory.
            None if user.is_root() => "/root".into(),
            None => return Err(Error::not_found(format!("user {user} has no home directory"))),
        };
        let store = Store::default_for_user(&home)?;
        Puller::new(&store).client(Client::new().home(&home)).unpack(UnpackOptions::new()).pull(name)
    }
}
