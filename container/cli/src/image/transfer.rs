//! Images from and to registries. Oldest kernel: 5.10, if they are unpacked too.

use std::fs;
use std::path::PathBuf;

use keelbox::crates::image_spec::registry::Scheme;
use keelbox::crates::image_spec::{ErrorKind, Platform, Reference, UnpackOptions};
use keelbox::{Client, Image, Puller, Pusher, Store};

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::print;
use crate::read::{Given, text};

use super::progress::Bar;
use super::{home, is_source, list, named, options, store};

pub(crate) fn pull(_: &Context<'_>, mut given: Given) -> Outcome {
    let name = text(given.word())?;
    let image = pulled(&store(&given)?, &given, &name, given.has("unpack"))?;
    told(&given, &name, &image)
}

pub(crate) fn push(_: &Context<'_>, mut given: Given) -> Outcome {
    let source = text(given.word())?;
    let target = given.words.pop().map(text).transpose()?;
    if target.is_none() && is_source(&source) {
        return Err(Failure::new(format!("image push needs a NAME for {source}")));
    }
    let name = target.unwrap_or_else(|| source.clone());
    let image = named(&store(&given)?, &options(&given)?, &source)?;
    let bar = Bar::new(is_quiet(&given), &name);
    let shown = bar.clone();
    let pusher = Pusher::new().client(client(&given, &name)?).progress(move |progress| shown.show(progress));
    let pushed = pusher.push(&image, &name);
    bar.end();
    pushed?;
    told(&given, &name, &image)
}

fn told(given: &Given, name: &str, image: &Image) -> Outcome {
    match given.has("json") {
        true => print(&format!("{:#}\n", list::summary(name, image))),
        false => print(&format!("{name} {}\n", image.manifest_digest())),
    }
}

/// When an image is asked of a registry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ask {
    /// If it is not in the store.
    Missing,
    Always,
    Never,
}

/// The image that a word stands for: on disk, in the store, or else in a registry.
pub(crate) fn fetched(store: &Store, given: &Given, name: &str, ask: Ask) -> Result<Image, Failure> {
    let options = options(given)?;
    if is_source(name) {
        return Ok(options.open(name)?);
    }
    if ask == Ask::Always {
        return pulled(store, given, name, true);
    }
    match options.stored(store, name) {
        Err(error) if error.kind() == ErrorKind::NotFound && ask == Ask::Missing => pulled(store, given, name, true),
        other => Ok(other?),
    }
}

fn pulled(store: &Store, given: &Given, name: &str, unpack: bool) -> Result<Image, Failure> {
    let bar = Bar::new(is_quiet(given), name);
    let shown = bar.clone();
    let mut puller = Puller::new(store).client(client(given, name)?).progress(move |progress| shown.show(progress));
    if let Some(platform) = given.text("platform")? {
        puller = puller.platform(Platform::parse(&platform)?);
    }
    if unpack {
        puller = puller.unpack(UnpackOptions::new());
    }
    let image = puller.pull(name);
    bar.end();
    Ok(image?)
}

fn is_quiet(given: &Given) -> bool {
    given.has("quiet") || given.has("json")
}

/// How the registry of `name` is reached: as the options say, and the environment.
pub(super) fn client(given: &Given, name: &str) -> Result<Client, Failure> {
    let mut client = credentials(Client::new(), given);
    for mirror in given.texts("mirror")? {
        let (domain, address) = mirror
            .split_once('=')
            .ok_or_else(|| Failure::new(format!("--mirror takes REGISTRY=ADDRESS, not {mirror:?}")))?;
        client = client.mirror(domain, address);
    }
    if given.has("plain-http") {
        client = client.scheme(Reference::parse(name)?.domain(), Scheme::Http);
    }
    if let Some(file) = given.path("cert-authority") {
        let attempt = format!("cannot read certificate authorities from {}", file.display());
        client = client.authorities(fs::read(&file).map_err(|error| Failure::io(&attempt, &error))?);
    }
    Ok(proxied(client))
}

/// Where docker and podman keep credentials, podman's of this session first.
fn credentials(client: Client, given: &Given) -> Client {
    let told = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(file) = given.path("authfile").or_else(|| told("REGISTRY_AUTH_FILE")) {
        return client.credentials(file);
    }
    let session = told("XDG_RUNTIME_DIR").map(|own| own.join("containers/auth.json"));
    let docker = told("DOCKER_CONFIG").map(|directory| directory.join("config.json"));
    let client = [session, docker].into_iter().flatten().fold(client, Client::credentials);
    home().into_iter().fold(client, Client::home)
}

/// As the environment says; the capital form of `http_proxy` is not among them, since servers set it from what they are sent.
fn proxied(client: Client) -> Client {
    let told = |names: [&str; 2]| {
        names.into_iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    };
    let proxy = told(["HTTPS_PROXY", "https_proxy"]).or_else(|| told(["ALL_PROXY", "all_proxy"]));
    let Some(proxy) = proxy else { return client };
    let except = told(["NO_PROXY", "no_proxy"]).unwrap_or_default();
    client.proxy(proxy).no_proxy(except.split(',').map(str::trim).filter(|host| !host.is_empty()))
}
