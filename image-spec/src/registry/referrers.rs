//! What refers to an image: signatures, bills of materials, and whatever else names it as its subject.
//!
//! Job: list them by the referrers API, or by the tag that stands in for it at older registries; and keep that tag when
//! something with a subject is pushed there (distribution-spec, Listing Referrers and Referrers Tag Schema). Leaves out
//! what the referrers contain.

use super::client::{Client, Endpoint};
use super::manifest::ACCEPT;
use super::progress::{Cancel, Meter};
use super::session::{Ask, Body, Session};
use super::url::Url;
use crate::document::{Descriptor, Index, Kind, OCI_INDEX, kind};
use crate::json::{self, Field};
use crate::{Digest, Error, Image, Limits, Reference, Result};
use std::collections::BTreeMap;

/// Pages of one list.
const PAGES: usize = 100;

/// Something that refers to an image.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Referrer {
    /// The digest of its manifest.
    pub digest: Digest,
    /// The size of its manifest.
    pub size: u64,
    /// The media type of its manifest.
    pub media_type: String,
    /// What it is, such as `application/spdx+json`.
    pub artifact_type: Option<String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

impl Client {
    /// Lists what refers to the image `name`, which must have a digest, at its registry; with `artifact_type` only what is
    /// of that type. An image nothing refers to has an empty list.
    ///
    /// # Errors
    /// `Format` for a name without a digest, otherwise as [`Puller::pull`](super::Puller::pull).
    pub fn referrers(&self, name: &str, artifact_type: Option<&str>) -> Result<Vec<Referrer>> {
        let name = Reference::parse(name)?;
        let digest = name.digest().ok_or_else(|| Error::format(format!("{name} has no digest to refer to")))?;
        let endpoint = self.endpoint(&name)?;
        let session = Session::new(self, &Cancel::new(), Meter::default())?;
        let url = endpoint.url(&format!("referrers/{digest}"));
        let filtered = artifact_type.map_or(url.clone(), |kind| url.query("artifactType", kind));
        let mut list = match pages(&session, &endpoint, filtered, digest)? {
            Some(list) => list,
            None => in_tag(&session, &endpoint, digest)?.0,
        };
        // A registry may leave the choice to us.
        list.retain(|referrer| artifact_type.is_none() || referrer.artifact_type.as_deref() == artifact_type);
        Ok(list)
    }
}

/// The answer of the API, page by page; `None` from a registry without it.
fn pages(session: &Session, endpoint: &Endpoint, first: Url, digest: &Digest) -> Result<Option<Vec<Referrer>>> {
    let mut url = first;
    let mut list = Vec::new();
    let limit = Limits::default().manifest_bytes;
    for page in 0..PAGES {
        let ask = Ask::new("GET", url.clone(), endpoint.scope("pull"), format!("list what refers to {digest}"));
        let ask = ask.header("Accept", OCI_INDEX);
        let mut answer = session.send(endpoint, &ask)?;
        match answer.status() {
            200 if is_index(answer.header("content-type")) => {}
            // A page of a web site, perhaps, but no list.
            200 | 400 | 404 | 405 if page == 0 => return Ok(None),
            _ => return Err(session.refused(endpoint, &ask, answer)),
        }
        let what = format!("referrers of {digest} at {endpoint}");
        let bytes = answer.read(limit, &what)?;
        list.extend(parse(&bytes, &what)?);
        let Some(next) = answer.header("link").and_then(next_page) else { return Ok(Some(list)) };
        url = answer.url.join(next)?;
        if url.origin() != endpoint.base.origin() {
            return Err(Error::format(format!("{what}: the next page is elsewhere")));
        }
    }
    Err(Error::limit(format!("referrers of {digest} at {endpoint}: more than {PAGES} pages")))
}

/// `</v2/…>; rel="next"`.
fn next_page(link: &str) -> Option<&str> {
    let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    let next = parameters.split(';').any(|part| matches!(part.trim(), "rel=next" | "rel=\"next\""));
    next.then_some(target)
}

fn is_index(content_type: Option<&str>) -> bool {
    content_type.and_then(|text| text.split(';').next()).is_some_and(|text| kind(text.trim()) == Kind::Index)
}

fn parse(bytes: &[u8], what: &str) -> Result<Vec<Referrer>> {
    let value = json::parse(bytes, what)?;
    let root = Field::root(&value, what)?;
    let types = root.require("manifests")?.items()?;
    let descriptors = Index::parse(bytes, "", what)?.manifests;
    let one = |(descriptor, field): (Descriptor, &Field<'_>)| {
        Ok(Referrer {
            digest: descriptor.digest()?,
            size: descriptor.size,
            media_type: descriptor.media_type,
            artifact_type: field.optional_text("artifactType")?,
            annotations: descriptor.annotations,
        })
    };
    descriptors.into_iter().zip(&types).map(one).collect()
}

/// The tag that lists referrers where there is no API: the digest with a dash.
fn tag(digest: &Digest) -> String {
    let text = format!("{}-{}", digest.algorithm().name(), digest.hex());
    text.chars().take(128).collect()
}

/// The list in the tag, and its bytes.
fn in_tag(session: &Session, endpoint: &Endpoint, digest: &Digest) -> Result<(Vec<Referrer>, Option<Vec<u8>>)> {
    let url = endpoint.url(&format!("manifests/{}", tag(digest)));
    let ask = Ask::new("GET", url, endpoint.scope("pull"), format!("list what refers to {digest}"));
    let ask = ask.header("Accept", ACCEPT);
    let mut answer = session.send(endpoint, &ask)?;
    match answer.status() {
        200 => {}
        404 => return Ok((Vec::new(), None)),
        _ => return Err(session.refused(endpoint, &ask, answer)),
    }
    let what = format!("referrers of {digest} at {endpoint}");
    let bytes = answer.read(Limits::default().manifest_bytes, &what)?;
    Ok((parse(&bytes, &what)?, Some(bytes)))
}

/// The subject of a manifest.
pub(crate) fn subject(manifest: &[u8]) -> Result<Option<Digest>> {
    let what = "manifest";
    let value = json::parse(manifest, what)?;
    let root = Field::root(&value, what)?;
    root.get("subject")?.map(|subject| subject.require("digest")?.text()?.parse()).transpose()
}

/// Adds `image`, which was pushed, to the tag of its subject, as the specification asks of clients. Two clients that do so
/// at the same moment may lose one entry; no registry without the API can prevent that.
pub(crate) fn list_in_tag(session: &Session, endpoint: &Endpoint, subject: &Digest, image: &Image) -> Result<()> {
    let (list, bytes) = in_tag(session, endpoint, subject)?;
    if list.iter().any(|referrer| referrer.digest == *image.manifest_digest()) {
        return Ok(());
    }
    // The other entries stay as they are, unknown fields among them.
    let mut value = match &bytes {
        Some(bytes) => json::parse(bytes, "referrers")?,
        None => serde_json::json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [] }),
    };
    let manifest = json::parse(image.raw_manifest(), "manifest")?;
    let fallback = || manifest.get("config").and_then(|config| config.get("mediaType")).cloned();
    let mut entry = serde_json::json!({
        "mediaType": image.media_type(),
        "digest": image.manifest_digest().to_string(),
        "size": image.raw_manifest().len(),
    });
    for (key, found) in [
        ("artifactType", manifest.get("artifactType").cloned().or_else(fallback)),
        ("annotations", manifest.get("annotations").cloned()),
    ] {
        if let Some(found) = found.filter(|found| !found.is_null()) {
            entry[key] = found;
        }
    }
    if let Some(manifests) = value.get_mut("manifests").and_then(serde_json::Value::as_array_mut) {
        manifests.push(entry);
    }
    let text = value.to_string();
    let url = endpoint.url(&format!("manifests/{}", tag(subject)));
    let ask = Ask::new("PUT", url, endpoint.scope("pull,push"), format!("list what refers to {subject}"));
    let ask = ask.header("Content-Type", OCI_INDEX).body(Body::Bytes(text.as_bytes()));
    let answer = session.send(endpoint, &ask)?;
    if answer.status() == 201 { Ok(()) } else { Err(session.refused(endpoint, &ask, answer)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_the_next_page() {
        assert_eq!(next_page(r#"</v2/a/referrers/x?n=2>; rel="next""#), Some("/v2/a/referrers/x?n=2"));
        assert_eq!(next_page("<x>;rel=next"), Some("x"));
        for link in ["", "<x>", "<x>; rel=prev", "x; rel=next", "<x; rel=next"] {
            assert_eq!(next_page(link), None, "{link}");
        }
    }

    #[test]
    fn the_tag_of_a_digest_is_one() {
        let digest = Digest::of(b"x");
        assert!(Reference::parse(&format!("localhost/a:{}", tag(&digest))).is_ok());
        let long = format!("sha512:{}", "0".repeat(128)).parse().expect("a digest");
        assert!(Reference::parse(&format!("localhost/a:{}", tag(&long))).is_ok());
    }
}
