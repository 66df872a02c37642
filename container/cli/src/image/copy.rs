//! Images from one place to another: layouts, archives, the store, registries. Needs no kernel.

use keelbox::Store;
use keelbox::crates::image_spec::{Copier, Form, Platform, Platforms, Reference};

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::print;
use crate::read::{Given, text};

use super::transfer::client;
use super::{is_source, options, store};

pub(crate) fn copy(_: &Context<'_>, mut given: Given) -> Outcome {
    let (source, target) = (place(text(given.word())?), place(text(given.word())?));
    copied(&given, &store(&given)?, &source, &target)
}

/// Into an archive. Both names are kept, so that loading gives the image its name again.
pub(crate) fn save(_: &Context<'_>, mut given: Given) -> Outcome {
    let (name, file) = (text(given.word())?, text(given.word())?);
    if file.contains(':') {
        return Err(Failure::new(format!("cannot save to {file}: the name of the file has a colon")));
    }
    let kind = if given.has("docker") { "docker-archive" } else { "oci-archive" };
    let full = Reference::parse(&name)?.to_string();
    copied(&given, &store(&given)?, &place(name), &format!("{kind}:{file}:{full}"))
}

/// From an archive or layout into the store, by the name that it has there, or by another.
pub(crate) fn load(_: &Context<'_>, mut given: Given) -> Outcome {
    let source = text(given.word())?;
    let name = given.words.pop().map(text).transpose()?;
    let (store, image) = (store(&given)?, options(&given)?.open(&source)?);
    let name = match (name, image.name()) {
        (Some(name), _) => name,
        (None, Some(name)) => name.to_owned(),
        (None, None) => return Err(Failure::new(format!("{source} says no name for the image: give one"))),
    };
    store.add(&image, &name)?;
    print(&format!("{name} {}\n", image.manifest_digest()))
}

/// A plain name is one of the store.
fn place(text: String) -> String {
    let is_place = is_source(&text) || text.starts_with("docker://") || text.starts_with("store:");
    if is_place { text } else { format!("store:{text}") }
}

fn copied(given: &Given, store: &Store, source: &str, target: &str) -> Outcome {
    let form = match (given.has("docker"), given.has("keep-form")) {
        (true, true) => return Err(Failure::new("--docker and --keep-form exclude each other")),
        (true, false) => Form::Docker,
        (false, true) => Form::Keep,
        (false, false) => Form::AsNeeded,
    };
    let platforms = match (given.has("all-platforms"), given.text("platform")?) {
        (true, Some(_)) => return Err(Failure::new("--platform and --all-platforms exclude each other")),
        (true, None) => Platforms::All,
        (false, Some(platform)) => Platforms::One(Platform::parse(&platform)?),
        (false, None) => Platforms::One(Platform::host()),
    };
    let copier = Copier::new().store(store).form(form).platforms(platforms);
    let registry = [source, target].into_iter().find_map(|place| place.strip_prefix("docker://"));
    let copier = match registry {
        Some(name) => copier.client(client(given, name)?),
        None => copier,
    };
    let digest = copier.copy(source, target)?;
    print(&format!("{digest}\n"))
}
