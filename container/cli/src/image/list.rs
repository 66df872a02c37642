//! What images there are, and what is in one. Needs no kernel.

use keelbox::Image;
use keelbox::crates::image_spec::OpenOptions;
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::list::aligned;
use crate::print;
use crate::read::{Given, text};

use super::{named, store};

pub(crate) fn list(_: &Context<'_>, given: Given) -> Outcome {
    let store = store(&given)?;
    let names = store.names()?;
    if given.has("quiet") {
        return print(&names.iter().map(|name| format!("{}\n", name.familiar())).collect::<String>());
    }
    let mut images = Vec::new();
    for name in names {
        match OpenOptions::new().stored(&store, &name.to_string()) {
            Ok(image) => images.push((name.familiar(), image)),
            // It was removed meanwhile.
            Err(error) if error.kind() == keelbox::crates::image_spec::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    if given.has("json") {
        let told = images.iter().map(|(name, image)| summary(name, image));
        return print(&format!("{:#}\n", Value::from_iter(told)));
    }
    let row = |(name, image): &(String, Image)| {
        let created = image.config().created().unwrap_or("").to_owned();
        [name.clone(), short(image), image.config().platform().to_string(), bytes(size(image)), created]
    };
    print(&aligned(["NAME", "DIGEST", "PLATFORM", "SIZE", "CREATED"], images.iter().map(row)))
}

/// What is told of an image in a list, or when it has come or gone somewhere.
pub(super) fn summary(name: &str, image: &Image) -> Value {
    json!({
        "name": name,
        "digest": image.manifest_digest().to_string(),
        "platform": image.config().platform().to_string(),
        "size": size(image),
        "created": image.config().created(),
    })
}

/// Bytes of the layers, as they are sent.
fn size(image: &Image) -> u64 {
    image.layers().iter().map(keelbox::crates::image_spec::Layer::size).sum()
}

fn short(image: &Image) -> String {
    image.manifest_digest().hex().chars().take(12).collect()
}

/// A number of bytes with a unit of 1000, as image sizes are told everywhere.
pub(super) fn bytes(count: u64) -> String {
    let units = [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000)];
    match units.into_iter().find(|(_, unit)| count >= *unit) {
        Some((name, unit)) => format!("{}.{} {name}", count / unit, count % unit * 10 / unit),
        None => format!("{count} B"),
    }
}

pub(crate) fn inspect(_: &Context<'_>, mut given: Given) -> Outcome {
    let name = text(given.word())?;
    let image = named(&store(&given)?, &OpenOptions::new(), &name)?;
    let parsed = |bytes: &[u8], what: &str| -> Result<Value, Failure> {
        serde_json::from_slice(bytes).map_err(|error| Failure::new(format!("the {what} of {name} is no JSON: {error}")))
    };
    let layers = image.layers().iter().map(|layer| {
        json!({
            "digest": layer.digest().to_string(),
            "diffID": layer.diff_id().to_string(),
            "size": layer.size(),
            "mediaType": layer.media_type(),
        })
    });
    let told = json!({
        "name": name,
        "digest": image.manifest_digest().to_string(),
        "mediaType": image.media_type(),
        "platform": image.config().platform().to_string(),
        "size": size(&image),
        "layers": Value::from_iter(layers),
        "manifest": parsed(image.raw_manifest(), "manifest")?,
        "config": parsed(image.config().raw(), "configuration")?,
    });
    print(&format!("{told:#}\n"))
}

pub(crate) fn history(_: &Context<'_>, mut given: Given) -> Outcome {
    let name = text(given.word())?;
    let image = named(&store(&given)?, &OpenOptions::new(), &name)?;
    let mut layers = image.layers().iter();
    // Only steps that made a layer have a size; the order of both is the same.
    let mut steps: Vec<(String, u64, String)> = image
        .config()
        .history()
        .iter()
        .map(|step| {
            let size =
                if step.empty_layer { 0 } else { layers.next().map_or(0, keelbox::crates::image_spec::Layer::size) };
            let made = step.created_by.clone().or_else(|| step.comment.clone()).unwrap_or_default();
            (step.created.clone().unwrap_or_default(), size, made)
        })
        .collect();
    // Layers that the history does not know of.
    steps.extend(layers.map(|layer| (String::new(), layer.size(), format!("layer {}", layer.diff_id()))));
    steps.reverse();
    if given.has("json") {
        let told = steps.iter().map(|(created, size, by)| json!({ "created": created, "size": size, "createdBy": by }));
        return print(&format!("{:#}\n", Value::from_iter(told)));
    }
    let row = |(created, size, by): &(String, u64, String)| [created.clone(), bytes(*size), one_line(by)];
    print(&aligned(["CREATED", "SIZE", "CREATED BY"], steps.iter().map(row)))
}

/// An image says what it likes: nothing of it may steer a terminal.
fn one_line(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let told: Vec<String> = [0, 999, 1000, 1_550_000, 2_940_000_000].into_iter().map(bytes).collect();
        assert_eq!(told, ["0 B", "999 B", "1.0 kB", "1.5 MB", "2.9 GB"]);
        assert_eq!(one_line("RUN a\n\x1b[1mb"), "RUN a  [1mb");
    }
}
