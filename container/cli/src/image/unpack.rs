//! Layers unpacked ahead of the first container. Oldest kernel: 5.10.

use keelbox::crates::image_spec::OpenOptions;
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::Outcome;
use crate::print;
use crate::read::{Given, text};

use super::{named, store};

pub(crate) fn unpack(_: &Context<'_>, mut given: Given) -> Outcome {
    let name = text(given.word())?;
    let store = store(&given)?;
    let unpacked = named(&store, &OpenOptions::new(), &name)?.unpack(&store)?;
    let paths: Vec<String> = unpacked.layers().iter().map(|layer| layer.path().display().to_string()).collect();
    if given.has("json") {
        return print(&format!("{:#}\n", Value::from_iter(paths.iter().map(|path| json!(path)))));
    }
    print(&paths.iter().map(|path| format!("{path}\n")).collect::<String>())
}
