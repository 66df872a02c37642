//! Docker archives: what `docker save` and `podman save` write.
//!
//! Job: read `manifest.json`, and make from it the manifest the archive does not have, with true digests. Layers that
//! were saved as links to one another are found. Leaves out the oldest form, which has only a `repositories` file.

use crate::blobs::Blobs;
use crate::digest::Hasher;
use crate::document::{Descriptor, Manifest};
use crate::json::{self, Field};
use crate::{Algorithm, Digest, Error, ErrorKind, ImageConfig, Limits, Result};
use std::io::Read;
use std::sync::Arc;

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// One image of an archive.
#[derive(Debug)]
pub(crate) struct Saved {
    pub(crate) raw: Arc<[u8]>,
    pub(crate) media_type: &'static str,
    pub(crate) manifest: Manifest,
    pub(crate) config: ImageConfig,
    /// Name of the configuration in the archive.
    pub(crate) config_path: String,
    /// Names of the layers in the archive, bottom first.
    pub(crate) paths: Vec<String>,
    pub(crate) name: Option<String>,
}

/// An element of `manifest.json`.
struct Item {
    config: String,
    tags: Vec<String>,
    layers: Vec<String>,
}

pub(crate) fn choose(blobs: &Blobs, name: Option<&str>, limits: &Limits) -> Result<Saved> {
    let place = blobs.path().display();
    let item = named(items(blobs, limits)?, name).map_err(|error| error.within(&place))?;
    let what = format!("image configuration {} in {place}", item.config);
    let raw: Arc<[u8]> = blobs.document(&item.config, limits.config_bytes)?.into();
    let digest = Digest::of(&raw);
    // The name of the file is the digest, with or without an ending.
    let base = item.config.rsplit('/').next().unwrap_or_default();
    let stem = base.strip_suffix(".json").unwrap_or(base);
    if let Ok(expected) = format!("sha256:{stem}").parse::<Digest>() {
        crate::digest::expect(&digest, &expected, &what)?;
    }
    let config = ImageConfig::parse_named(Arc::clone(&raw), &what)?;
    if config.diff_ids().len() != item.layers.len() {
        let counts = format!("{} layers but {} diff_ids", item.layers.len(), config.diff_ids().len());
        return Err(Error::format(format!("{what}: {counts}")));
    }
    let layers = item.layers.iter().zip(config.diff_ids());
    let layers = layers.map(|(path, diff_id)| layer(blobs, path, diff_id)).collect::<Result<Vec<_>>>()?;
    let manifest = Manifest { config: descriptor(CONFIG, &digest, raw.len() as u64), layers };
    Ok(Saved {
        raw: render(&manifest).into(),
        media_type: MANIFEST,
        manifest,
        config,
        config_path: item.config,
        paths: item.layers,
        name: item.tags.into_iter().next(),
    })
}

fn items(blobs: &Blobs, limits: &Limits) -> Result<Vec<Item>> {
    let what = format!("manifest.json in {}", blobs.path().display());
    let value = json::parse(&blobs.document("manifest.json", limits.manifest_bytes)?, &what)?;
    // The document is an array, which `Field` does not take for a root.
    let wrapped = serde_json::json!({ "images": value });
    let list = Field::root(&wrapped, &what)?.require("images")?.items()?;
    let parse = |item: &Field<'_>| {
        Ok(Item {
            config: item.require("Config")?.text()?,
            tags: item.optional_texts("RepoTags")?,
            layers: item.optional_texts("Layers")?,
        })
    };
    list.iter().map(parse).collect()
}

/// The image of that tag; without one, the only image.
fn named(items: Vec<Item>, name: Option<&str>) -> Result<Item> {
    let list = |items: &[Item]| {
        let tags: Vec<&str> = items.iter().flat_map(|item| item.tags.iter().map(String::as_str)).take(20).collect();
        if tags.is_empty() { "nothing with a name".to_owned() } else { tags.join(", ") }
    };
    let Some(name) = name else {
        return match items.len() {
            0 => Err(Error::not_found("there is no image")),
            1 => Ok(items.into_iter().next().ok_or_else(|| Error::not_found("there is no image"))?),
            _ => Err(Error::new(
                ErrorKind::Ambiguous,
                format!("several images and no name given; there is {}", list(&items)),
            )),
        };
    };
    let wanted = familiar(name);
    let position = items.iter().position(|item| item.tags.iter().any(|tag| familiar(tag) == wanted));
    match position {
        Some(position) => Ok(items.into_iter().nth(position).ok_or_else(|| Error::not_found("there is no image"))?),
        None => Err(Error::not_found(format!("there is no image {name:?}; there is {}", list(&items)))),
    }
}

/// The short form that docker shows: without the default registry, and with a tag.
fn familiar(name: &str) -> String {
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    let name = name.strip_prefix("library/").unwrap_or(name);
    let tagged = name.rsplit('/').next().is_some_and(|last| last.contains(':'));
    if tagged { name.to_owned() } else { format!("{name}:latest") }
}

/// Describes a layer. Most are plain, so their digest is the diff id, which unpacking verifies; another is hashed here.
fn layer(blobs: &Blobs, path: &str, diff_id: &Digest) -> Result<Descriptor> {
    let mut extent = blobs.extent(path)?;
    let size = extent.len();
    let mut buffer = vec![0; 64 << 10];
    let failed = |error| Error::io(format!("cannot read {path} in {}", blobs.path().display()), error);
    let count = extent.read(&mut buffer).map_err(failed)?;
    let media_type = match &buffer[..count] {
        [0x1f, 0x8b, ..] => "application/vnd.docker.image.rootfs.diff.tar.gzip",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "application/vnd.docker.image.rootfs.diff.tar.zstd",
        _ => return Ok(descriptor("application/vnd.docker.image.rootfs.diff.tar", diff_id, size)),
    };
    let mut hasher = Hasher::new(Algorithm::Sha256);
    hasher.update(&buffer[..count]);
    loop {
        match extent.read(&mut buffer).map_err(failed)? {
            0 => return Ok(descriptor(media_type, &hasher.finish(), size)),
            count => hasher.update(&buffer[..count]),
        }
    }
}

fn descriptor(media_type: &str, digest: &Digest, size: u64) -> Descriptor {
    Descriptor::new(media_type, digest, size)
}

/// Writes a manifest with its fields in a fixed order, so that its digest is the same every time.
fn render(manifest: &Manifest) -> Vec<u8> {
    let one =
        |d: &Descriptor| format!(r#"{{"mediaType":"{}","size":{},"digest":"{}"}}"#, d.media_type, d.size, d.digest);
    let layers: Vec<String> = manifest.layers.iter().map(one).collect();
    let config = one(&manifest.config);
    let layers = layers.join(",");
    format!(r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{config},"layers":[{layers}]}}"#).into_bytes()
}
