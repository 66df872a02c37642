//! The command image: everything about images that needs no container.
//!
//! Leaves out running their programs (`up`). Needs no kernel beyond what unpacking needs.

mod build;
mod change;
mod copy;
mod list;
mod progress;
mod remove;
pub(crate) mod table;
mod transfer;
mod unpack;
mod upkeep;

use std::path::PathBuf;

use keelbox::crates::image_spec::{OpenOptions, Platform};
use keelbox::{Image, Store};
use lexopt::Parser;

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::read::{self, Given, text};
use crate::{help, print};

pub(crate) use transfer::{Ask, fetched};

/// Does what the word behind `image` says.
pub(crate) fn image(context: &Context<'_>, mut given: Given) -> Outcome {
    let name = text(given.word())?;
    let full = format!("image {name}");
    let command = table::COMMANDS.iter().find(|command| command.name == full);
    let command = command.ok_or_else(|| {
        let names: Vec<&str> =
            table::COMMANDS.iter().filter_map(|command| command.name.strip_prefix("image ")).collect();
        Failure::new(format!("there is no command \"image {name}\": there are {}", names.join(", ")))
    })?;
    match read::behind(command, Parser::from_args(given.words))? {
        Some(given) => (command.perform)(context, given),
        None => print(&help::text(Some(command))),
    }
}

/// The calling user's home directory; the library reads no environment, so that is done here.
fn home() -> Option<PathBuf> {
    let told = std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    told.or_else(|| nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.dir))
}

/// Where images are kept.
pub(crate) fn place(given: &Given) -> Result<PathBuf, Failure> {
    match (given.path("store"), home()) {
        (Some(store), _) => Ok(store),
        (None, Some(home)) => Ok(Store::default_path(home)),
        (None, None) if nix::unistd::geteuid().is_root() => Ok(Store::default_path("/root")),
        (None, None) => Err(Failure::new("cannot find a place for images: there is no home directory; give --store")),
    }
}

fn store(given: &Given) -> Result<Store, Failure> {
    Ok(Store::open(place(given)?)?)
}

/// How images are chosen from many.
fn options(given: &Given) -> Result<OpenOptions, Failure> {
    let platform = given.text("platform")?.map(|platform| Platform::parse(&platform)).transpose()?;
    Ok(platform.into_iter().fold(OpenOptions::new(), OpenOptions::platform))
}

/// Whether this is a place on disk and no name.
pub(crate) fn is_source(name: &str) -> bool {
    ["oci:", "oci-archive:", "docker-archive:", "./", "../", "/"].iter().any(|start| name.starts_with(start))
}

/// The image that a word stands for: one of the store, or one on disk.
fn named(store: &Store, options: &OpenOptions, name: &str) -> Result<Image, Failure> {
    Ok(if is_source(name) { options.open(name)? } else { options.stored(store, name)? })
}
