//! Manifests and indexes from a registry.
//!
//! Job: get one by tag or digest, bounded, with its digest checked against what the caller and the registry say, and its
//! type decided. Leaves out what is in it.

use super::client::Endpoint;
use super::session::{Answer, Ask, Session};
use crate::document::{Kind, kind};
use crate::json::{self, Field};
use crate::{Digest, Error, Reference, Result, digest};

pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// A document with the digest and the type it goes by.
pub(crate) struct Document {
    pub(crate) bytes: Vec<u8>,
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
}

/// The digest that a registry has under a name; `None` if it does not say, or has nothing.
pub(crate) fn head(session: &Session, endpoint: &Endpoint, name: &Reference) -> Result<Option<Digest>> {
    let answer = session.send(endpoint, &ask("HEAD", endpoint, &name.wanted()))?;
    if answer.status() != 200 {
        return Ok(None);
    }
    stated(&answer)
}

/// What a registry has under a name.
pub(crate) fn get(session: &Session, endpoint: &Endpoint, name: &Reference, limit: u64) -> Result<Document> {
    fetch(session, endpoint, &name.wanted(), name.digest(), limit)
}

/// The document of that digest and size.
pub(crate) fn by_digest(
    session: &Session,
    endpoint: &Endpoint,
    digest: &Digest,
    size: u64,
    limit: u64,
) -> Result<Document> {
    if size > limit {
        return Err(Error::limit(format!("manifest {digest} of {endpoint} has more than {limit} bytes")));
    }
    let document = fetch(session, endpoint, &digest.to_string(), Some(digest), limit)?;
    crate::blobs::check_size(document.bytes.len() as u64, size, &format!("manifest {digest} of {endpoint}"))?;
    Ok(document)
}

fn ask(method: &'static str, endpoint: &Endpoint, wanted: &str) -> Ask<'static> {
    let url = endpoint.url(&format!("manifests/{wanted}"));
    Ask::new(method, url, endpoint.scope("pull"), format!("get manifest {wanted}")).header("Accept", ACCEPT)
}

fn fetch(
    session: &Session,
    endpoint: &Endpoint,
    wanted: &str,
    expected: Option<&Digest>,
    limit: u64,
) -> Result<Document> {
    let ask = ask("GET", endpoint, wanted);
    let mut answer = session.send(endpoint, &ask)?;
    if answer.status() != 200 {
        return Err(session.refused(endpoint, &ask, answer));
    }
    let what = format!("manifest {wanted} of {endpoint}");
    let bytes = answer.read(limit, &what)?;
    // A header that is no digest is no digest, and neither is one that does not fit.
    let stated = stated(&answer).map_err(|error| error.within(&what))?;
    for promised in expected.iter().copied().chain(&stated) {
        digest::verify(&bytes, promised, &what)?;
    }
    let digest = expected.cloned().or(stated).unwrap_or_else(|| Digest::of(&bytes));
    let media_type = media_type(&answer, &bytes, &what)?;
    Ok(Document { bytes, digest, media_type })
}

fn stated(answer: &Answer) -> Result<Option<Digest>> {
    answer.header("docker-content-digest").map(str::parse).transpose()
}

/// The type in the header; where that is a general one, the type in the document.
fn media_type(answer: &Answer, bytes: &[u8], what: &str) -> Result<String> {
    let header = answer.header("content-type").unwrap_or_default();
    let header = header.split(';').next().unwrap_or_default().trim();
    if matches!(kind(header), Kind::Index | Kind::Manifest) {
        return Ok(header.to_owned());
    }
    if matches!(header, "" | "application/json" | "text/plain" | "application/octet-stream") {
        let value = json::parse(bytes, what)?;
        let own = Field::root(&value, what)?.optional_text("mediaType")?.unwrap_or_default();
        if matches!(kind(&own), Kind::Index | Kind::Manifest) {
            return Ok(own);
        }
    }
    let shown: String = header.chars().take(100).collect();
    Err(Error::unsupported(format!("{what}: type {shown:?} is not an image's")))
}
