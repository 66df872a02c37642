//! From a layout to one manifest: by name, then by platform.
//!
//! Job: the choices of image-spec `image-layout.md` and `image-index.md`: reference names, nested indexes to a bounded
//! depth, the first best platform. Leaves out reading files, which `Blobs` does.

use crate::blobs::Blobs;
use crate::document::{Descriptor, Index, Kind, Manifest, kind};
use crate::json::{self, Field};
use crate::{Digest, Error, ErrorKind, Limits, Platform, Result};
use std::sync::Arc;

/// A chosen manifest with the bytes it was read from.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) raw: Arc<[u8]>,
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) manifest: Manifest,
    pub(crate) name: Option<String>,
}

/// Finds the manifest `name` for `platform`. Without a name there must be only one candidate.
pub(crate) fn choose(blobs: &Blobs, name: Option<&str>, platform: &Platform, limits: &Limits) -> Result<Chosen> {
    let place = blobs.path().display();
    let index = top_index(blobs, limits)?;
    let candidates = named(&index.manifests, name).map_err(|error| error.within(&place))?;
    let descriptor = by_platform(candidates, platform).map_err(|error| error.within(&place))?.clone();
    let found_name = reference_names(&descriptor).next().map(str::to_owned);
    resolve(blobs, descriptor, found_name, platform, limits)
}

/// The entry `name` of `index.json` itself, whatever platforms it is for.
pub(crate) fn top(blobs: &Blobs, name: Option<&str>, limits: &Limits) -> Result<Descriptor> {
    let place = blobs.path().display();
    let index = top_index(blobs, limits)?;
    let candidates = named(&index.manifests, name).map_err(|error| error.within(&place))?;
    match &candidates[..] {
        [first, rest @ ..] if rest.iter().all(|other| other.digest == first.digest) => Ok((*first).clone()),
        _ => {
            let text = format!("{place}: several manifests of one name, and no index that lists them");
            Err(Error::new(ErrorKind::Ambiguous, text))
        }
    }
}

/// What a layout of a version known here lists.
fn top_index(blobs: &Blobs, limits: &Limits) -> Result<Index> {
    check_version(blobs)?;
    let what = format!("index.json in {}", blobs.path().display());
    Index::parse(&blobs.document("index.json", limits.manifest_bytes)?, "", &what)
}

/// Goes from an index, and indexes within it, to the manifest for `platform`.
pub(crate) fn resolve(
    blobs: &Blobs,
    descriptor: Descriptor,
    found_name: Option<String>,
    platform: &Platform,
    limits: &Limits,
) -> Result<Chosen> {
    let place = blobs.path().display();
    let mut descriptor = descriptor;
    for _ in 0..=limits.index_depth {
        match kind(&descriptor.media_type) {
            Kind::Index => {
                let raw = blobs.verified(&descriptor, limits.manifest_bytes, "index")?;
                let what = format!("index {} in {place}", descriptor.digest);
                let index = Index::parse(&raw, &descriptor.media_type, &what)?;
                let candidates: Vec<_> = index.manifests.iter().filter(|d| is_image(d)).collect();
                descriptor = by_platform(candidates, platform).map_err(|error| error.within(&what))?.clone();
            }
            Kind::Manifest => return manifest(blobs, descriptor, found_name, limits),
            _ => return Err(Error::unsupported(format!("{place}: {:?} is not an image", descriptor.media_type))),
        }
    }
    Err(Error::limit(format!("{place}: indexes within indexes, more than {} deep", limits.index_depth)))
}

/// Reads the manifest that `descriptor` refers to.
pub(crate) fn manifest(blobs: &Blobs, descriptor: Descriptor, name: Option<String>, limits: &Limits) -> Result<Chosen> {
    let raw = blobs.verified(&descriptor, limits.manifest_bytes, "manifest")?;
    let what = format!("manifest {} in {}", descriptor.digest, blobs.path().display());
    let manifest = Manifest::parse(&raw, &descriptor.media_type, &what)?;
    Ok(Chosen { raw, digest: descriptor.digest()?, media_type: descriptor.media_type, manifest, name })
}

fn check_version(blobs: &Blobs) -> Result<()> {
    let what = format!("oci-layout in {}", blobs.path().display());
    let bytes = blobs.document("oci-layout", 64 << 10)?;
    let value = json::parse(&bytes, &what)?;
    let field = Field::root(&value, &what)?.require("imageLayoutVersion")?;
    match field.text()?.as_str() {
        "1.0.0" => Ok(()),
        other => Err(Error::unsupported(format!("{what}: layout version {other:?}"))),
    }
}

pub(crate) fn is_image(descriptor: &Descriptor) -> bool {
    matches!(kind(&descriptor.media_type), Kind::Index | Kind::Manifest) && descriptor.is_candidate()
}

/// The names an entry of `index.json` goes by.
fn reference_names(descriptor: &Descriptor) -> impl Iterator<Item = &str> {
    ["org.opencontainers.image.ref.name", "io.containerd.image.name"]
        .into_iter()
        .filter_map(|key| descriptor.annotations.get(key).map(String::as_str))
}

/// The entries of that name or digest; without a name, all of them if they do not differ in name.
fn named<'a>(manifests: &'a [Descriptor], name: Option<&str>) -> Result<Vec<&'a Descriptor>> {
    let images: Vec<&Descriptor> = manifests.iter().filter(|descriptor| is_image(descriptor)).collect();
    let list = || {
        let mut names: Vec<&str> =
            images.iter().flat_map(|d| reference_names(d).next().or(Some(d.digest.as_str()))).collect();
        names.dedup();
        names.truncate(20);
        if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
    };
    let Some(name) = name else {
        let mut names: Vec<Option<&str>> = images.iter().map(|d| reference_names(d).next()).collect();
        names.sort_unstable();
        names.dedup();
        return match names.len() {
            0 => Err(Error::not_found("there is no image")),
            1 => Ok(images),
            _ => {
                Err(Error::new(ErrorKind::Ambiguous, format!("several images and no name given; there is {}", list())))
            }
        };
    };
    let digest = name.strip_prefix('@').unwrap_or(name);
    let fits = |d: &&Descriptor| reference_names(d).any(|own| own == name) || d.digest == digest;
    let found: Vec<&Descriptor> = images.iter().copied().filter(fits).collect();
    if found.is_empty() {
        return Err(Error::not_found(format!("there is no image {name:?}; there is {}", list())));
    }
    Ok(found)
}

/// The candidate that suits the platform best, the first of equals. One that names no platform suits only if it is alone
/// among those that do not.
pub(crate) fn by_platform<'a>(candidates: Vec<&'a Descriptor>, platform: &Platform) -> Result<&'a Descriptor> {
    let ranked =
        candidates.iter().filter_map(|d| Some((d.platform.as_ref().and_then(|image| platform.rank(image))?, d)));
    if let Some((_, best)) = ranked.min_by_key(|(rank, _)| *rank) {
        return Ok(best);
    }
    let mut silent = candidates.iter().filter(|d| d.platform.is_none());
    match (silent.next(), silent.next(), &candidates[..]) {
        (Some(only), None, _) => Ok(only),
        (Some(first), Some(second), _) if first.digest == second.digest => Ok(first),
        (Some(_), Some(_), _) => {
            Err(Error::new(ErrorKind::Ambiguous, "several images of one name, and none says for which platform"))
        }
        // A layout made for another machine: the caller asked for this very image, and `platform()` tells.
        (None, _, [only]) => Ok(only),
        (None, _, _) => {
            let list: Vec<String> =
                candidates.iter().filter_map(|d| d.platform.as_ref()).take(20).map(ToString::to_string).collect();
            Err(Error::not_found(format!("there is no image for {platform}; there is {}", list.join(", "))))
        }
    }
}
