//! The rules of the image specification, a test for each row (`IS-…`) of the list that was made of them.
//!
//! A test bears the number of its row. Rows without a test are in README.md, with the reason. Rows about registries have theirs
//! in the tests of those.

#[path = "../common/mod.rs"]
mod common;
mod configs;
mod conversion;
mod documents;
mod layers;
mod layouts;
mod manifests;

use common::{CONFIG, Layout, MANIFEST, Tar, descriptor, plain};
use keelbox_image_spec::{Digest, ErrorKind, Image, Result, Store};
use serde_json::Value;
use std::fs;

/// What became of it: nothing, or the kind of the error.
type Outcome = std::result::Result<(), ErrorKind>;

fn outcome<T>(result: Result<T>) -> Outcome {
    result.map(drop).map_err(|error| error.kind())
}

/// A configuration without layers.
const SMALL: &str = r#"{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}"#;

/// An image without layers and with this command in its own layout.
fn command(layout: &Layout, text: &str) -> Vec<u8> {
    layout.add_image(&[], &format!(r#"{{"Cmd":["{text}"]}}"#))
}

/// What an image runs, which tells the images of one layout apart.
fn runs(image: &Image) -> String {
    image.config().cmd().join(" ")
}

/// Opens the layout with an index of these descriptors.
fn opened(layout: &Layout, descriptors: &[String]) -> Outcome {
    layout.index(descriptors);
    outcome(Image::open(&layout.source()))
}

/// Opens the layout with this manifest as its only one.
fn with_manifest(layout: &Layout, manifest: &str) -> Outcome {
    layout.add_blob(manifest.as_bytes());
    opened(layout, &[descriptor(MANIFEST, manifest.as_bytes(), "")])
}

/// A manifest of a small image with more fields, and what is needed for it.
fn small(layout: &Layout, extra: &str) -> String {
    layout.add_blob(SMALL.as_bytes());
    let config = descriptor(CONFIG, SMALL.as_bytes(), "");
    format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]{extra}}}"#)
}

/// A store in a directory of its own.
fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().expect("temporary directory");
    let store = Store::open(directory.path().join("store")).expect("a store");
    (directory, store)
}

/// A blob of a store.
fn stored(store: &Store, digest: &Digest) -> Vec<u8> {
    fs::read(store.path().join("blobs/sha256").join(digest.hex())).expect("a blob")
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("a document")
}

/// Unpacks an archive over others; whether each of these paths is to be seen then.
fn seen<const N: usize>(layers: &[Tar], paths: [&str; N]) -> [bool; N] {
    let layout = Layout::of(&layers.iter().map(plain).collect::<Vec<_>>());
    let view = layout.unpack().expect("unpacked").view().expect("a view");
    paths.map(|path| view.exists(path).expect("looked"))
}

#[test]
fn everything_again_as_an_ordinary_user() {
    common::again_as_an_ordinary_user();
}
