//! A store kept in order: what nobody uses removed, damage looked for, its room measured. Needs no kernel.

use keelbox::crates::image_spec::{Collector, Reference};
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::list::aligned;
use crate::print;
use crate::read::Given;
use crate::time;

use super::list::bytes;
use super::store;

pub(crate) fn gc(_: &Context<'_>, given: Given) -> Outcome {
    let store = store(&given)?;
    let mut collector = Collector::new(&store);
    if let Some(grace) = given.text("grace")? {
        collector = collector.grace(
            time::duration(&grace)
                .ok_or_else(|| Failure::new(format!("--grace takes a time such as 1h, not {grace:?}")))?,
        );
    }
    let collected = if given.has("dry-run") { collector.preview()? } else { collector.collect()? };
    if given.has("json") {
        let (blobs, layers) = (collected.blobs, collected.layers);
        return print(&format!("{:#}\n", json!({ "blobs": blobs, "layers": layers, "bytes": collected.bytes })));
    }
    print(&format!("{} blobs, {} unpacked layers, {}\n", collected.blobs, collected.layers, bytes(collected.bytes)))
}

/// Fails if something is wrong; after a repair, only if that is still so.
pub(crate) fn verify(context: &Context<'_>, given: Given) -> Outcome {
    let store = store(&given)?;
    let repair = given.has("repair");
    let mut found = if repair { store.repair()? } else { store.verify()? };
    for problem in &found.problems {
        context.log.warn(&problem.to_string());
    }
    if repair {
        found = store.verify()?;
    }
    match found.problems.len() {
        0 => print(&format!("{} blobs, {} unpacked layers, {} names\n", found.blobs, found.layers, found.names)),
        count => Err(Failure::new(format!("the store {} has {count} problems", store.path().display()))),
    }
}

pub(crate) fn du(_: &Context<'_>, given: Given) -> Outcome {
    let usage = store(&given)?.usage()?;
    let familiar = |names: &[Reference]| names.iter().map(Reference::familiar).collect::<Vec<_>>();
    if given.has("json") {
        let images = usage.images.iter().map(|image| {
            let (names, digest) = (familiar(&image.names), image.digest.to_string());
            json!({ "names": names, "digest": digest, "unique": image.unique, "shared": image.shared })
        });
        let (images, unused, passing) = (Value::from_iter(images), usage.unused, usage.passing);
        let told = json!({
            "bytes": usage.bytes, "blobs": usage.blobs, "layers": usage.layers, "unused": unused, "passing": passing, "images": images,
        });
        return print(&format!("{told:#}\n"));
    }
    let rows = usage.images.iter().map(|image| {
        [familiar(&image.names).join(" "), bytes(image.unique), bytes(image.shared), bytes(image.bytes())]
    });
    let mut text = aligned(["IMAGE", "UNIQUE", "SHARED", "ALL"], rows);
    text.push_str(&format!("all of it {}, unused {}\n", bytes(usage.bytes), bytes(usage.unused)));
    print(&text)
}
