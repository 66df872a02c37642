//! Descriptors, indexes and manifests, read from raw bytes that are kept.
//!
//! Job: the typed view of the three documents that lead from a name to a configuration and its layers, OCI and docker
//! spellings alike (image-spec `descriptor.md`, `image-index.md`, `manifest.md`). A document that could be taken for
//! another kind is refused (CVE-2021-41190). Leaves out the configuration (`config.rs`) and all input and output.

use crate::json::{self, Field};
use crate::{Digest, Error, Platform, Result};
use std::collections::BTreeMap;

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// OCI's name for a kind of document or layer, and docker's.
pub(crate) const NAMES: [(&str, &str); 8] = [
    (OCI_INDEX, "application/vnd.docker.distribution.manifest.list.v2+json"),
    (OCI_MANIFEST, "application/vnd.docker.distribution.manifest.v2+json"),
    (OCI_CONFIG, "application/vnd.docker.container.image.v1+json"),
    ("application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.docker.image.rootfs.diff.tar.gzip"),
    ("application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar"),
    ("application/vnd.oci.image.layer.v1.tar+zstd", "application/vnd.docker.image.rootfs.diff.tar.zstd"),
    (
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ),
    ("application/vnd.oci.image.layer.nondistributable.v1.tar", "application/vnd.docker.image.rootfs.foreign.diff.tar"),
];

/// A layer's type in OCI's words; what is no layer's stays.
pub(crate) fn oci_layer(media_type: &str) -> &str {
    let own = NAMES.iter().find(|(_, docker)| *docker == media_type && kind(docker) == Kind::Layer);
    own.map_or(media_type, |(oci, _)| oci)
}

/// What a media type means to this crate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Index,
    Manifest,
    Config,
    Layer,
    Other,
}

/// Sorts a media type, OCI and docker alike (image-spec `media-types.md`, compatibility matrix).
pub(crate) fn kind(media_type: &str) -> Kind {
    match media_type {
        OCI_INDEX | "application/vnd.docker.distribution.manifest.list.v2+json" => Kind::Index,
        OCI_MANIFEST | "application/vnd.docker.distribution.manifest.v2+json" => Kind::Manifest,
        OCI_CONFIG | "application/vnd.docker.container.image.v1+json" => Kind::Config,
        "application/vnd.docker.image.rootfs.diff.tar"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd"
        | "application/vnd.docker.image.rootfs.foreign.diff.tar"
        | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => Kind::Layer,
        other => match other.strip_prefix("application/vnd.oci.image.layer.") {
            Some(
                "v1.tar"
                | "v1.tar+gzip"
                | "v1.tar+zstd"
                | "nondistributable.v1.tar"
                | "nondistributable.v1.tar+gzip"
                | "nondistributable.v1.tar+zstd",
            ) => Kind::Layer,
            _ => Kind::Other,
        },
    }
}

/// A reference to content (image-spec `descriptor.md`). The digest is text until it is used, so that a document may
/// mention algorithms nobody here can verify.
#[derive(Clone, Debug)]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) size: u64,
    pub(crate) platform: Option<Platform>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) data: Option<String>,
}

impl Descriptor {
    pub(crate) fn new(media_type: &str, digest: &Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: digest.to_string(),
            size,
            platform: None,
            annotations: BTreeMap::new(),
            data: None,
        }
    }

    fn parse(field: &Field<'_>) -> Result<Self> {
        let digest = field.require("digest")?;
        let text = digest.text()?;
        // Known algorithms are checked at once; what only fits the grammar waits until somebody needs it.
        if let Err(error) = text.parse::<Digest>()
            && error.kind() == crate::ErrorKind::Format
        {
            return Err(digest.error("is not a digest"));
        }
        let size = field.require("size")?;
        let bytes = size.number()?;
        if i64::try_from(bytes).is_err() {
            return Err(size.error("does not fit an int64"));
        }
        Ok(Self {
            media_type: field.require("mediaType")?.text()?,
            digest: text,
            size: bytes,
            platform: field.get("platform")?.as_ref().map(platform).transpose()?,
            annotations: field.optional_map("annotations")?,
            data: field.optional_text("data")?,
        })
    }

    pub(crate) fn digest(&self) -> Result<Digest> {
        self.digest.parse()
    }

    /// The content, if the descriptor carries it: verified.
    pub(crate) fn embedded(&self, what: &str) -> Result<Option<Vec<u8>>> {
        let Some(data) = &self.data else { return Ok(None) };
        let content = base64(data, what)?;
        crate::blobs::check_size(content.len() as u64, self.size, what)?;
        crate::digest::verify(&content, &self.digest()?, what)?;
        Ok(Some(content))
    }

    /// Attestations and other things without a platform are listed in indexes but are never an image to run.
    pub(crate) fn is_candidate(&self) -> bool {
        let attestation =
            self.annotations.get("vnd.docker.reference.type").is_some_and(|kind| kind == "attestation-manifest");
        let unknown = self.platform.as_ref().is_some_and(|p| p.os() == "unknown" || p.architecture() == "unknown");
        !attestation && !unknown
    }
}

fn platform(field: &Field<'_>) -> Result<Platform> {
    let text = |key: &str| field.require(key)?.text();
    let mut platform = Platform::new(text("os")?, text("architecture")?);
    if let Some(variant) = field.optional_text("variant")? {
        platform = platform.variant(variant);
    }
    Ok(platform.required_features(field.optional_texts("os.features")?))
}

/// An image index, or docker's manifest list.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    pub(crate) manifests: Vec<Descriptor>,
}

impl Index {
    pub(crate) fn parse(bytes: &[u8], media_type: &str, what: &str) -> Result<Self> {
        let value = json::parse(bytes, what)?;
        let root = Field::root(&value, what)?;
        check_kind(&root, Kind::Index, media_type)?;
        let manifests = root.require("manifests")?.items()?;
        Ok(Self { manifests: manifests.iter().map(Descriptor::parse).collect::<Result<_>>()? })
    }
}

/// An image manifest.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

impl Manifest {
    pub(crate) fn parse(bytes: &[u8], media_type: &str, what: &str) -> Result<Self> {
        let value = json::parse(bytes, what)?;
        let root = Field::root(&value, what)?;
        check_kind(&root, Kind::Manifest, media_type)?;
        let layers = root.require("layers")?.items()?;
        Ok(Self {
            config: Descriptor::parse(&root.require("config")?)?,
            layers: layers.iter().map(Descriptor::parse).collect::<Result<_>>()?,
        })
    }
}

/// Refuses a document that is, or could be read as, another kind than the one its descriptor promised.
fn check_kind(root: &Field<'_>, expected: Kind, media_type: &str) -> Result<()> {
    let version = root.require("schemaVersion")?;
    if version.number()? != 2 {
        return Err(version.error("is not 2"));
    }
    if let Some(own) = root.get("mediaType")? {
        let text = own.text()?;
        if kind(&text) != expected || (!media_type.is_empty() && text != media_type) {
            return Err(own.error(&format!("is {text:?}, which is not what led here")));
        }
    }
    let foreign: &[&str] = match expected {
        Kind::Index => &["config", "layers", "fslayers"],
        _ => &["manifests", "fslayers"],
    };
    for key in root.keys()? {
        let lower = key.to_ascii_lowercase();
        if foreign.contains(&lower.as_str()) {
            return Err(root.error(&format!("has {key:?}, so it could be read as another kind of document")));
        }
        // Go's decoder ignores case: `Layers` beside `layers` would mean one thing here and another there.
        let known =
            ["schemaversion", "mediatype", "config", "layers", "manifests", "subject", "artifacttype", "annotations"];
        if known.contains(&lower.as_str())
            && ![
                "schemaVersion",
                "mediaType",
                "config",
                "layers",
                "manifests",
                "subject",
                "artifactType",
                "annotations",
            ]
            .contains(&key)
        {
            return Err(root.error(&format!("has {key:?}, which other readers take for the field of another case")));
        }
    }
    Ok(())
}

/// Decodes base64 as RFC 4648 section 4 writes it, padding required.
pub(crate) fn base64(text: &str, what: &str) -> Result<Vec<u8>> {
    let wrong = || Error::format(format!("{what}: embedded data is not base64"));
    let bytes = text.as_bytes();
    if !bytes.len().is_multiple_of(4) {
        return Err(wrong());
    }
    let padding = bytes.iter().rev().take_while(|byte| **byte == b'=').count();
    if padding > 2 {
        return Err(wrong());
    }
    let digits = &bytes[..bytes.len() - padding];
    let mut out = Vec::with_capacity(bytes.len() / 4 * 3);
    for group in digits.chunks(4) {
        let mut word = 0u32;
        for byte in group {
            word = (word << 6) | u32::from(sextet(*byte).ok_or_else(wrong)?);
        }
        word <<= 6 * (4 - group.len());
        out.extend_from_slice(&word.to_be_bytes()[1..group.len()]);
    }
    Ok(out)
}

fn sextet(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

    fn manifest(extra: &str) -> String {
        let config =
            format!(r#"{{"mediaType":"application/vnd.oci.image.config.v1+json","size":2,"digest":"{DIGEST}"}}"#);
        format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]{extra}}}"#)
    }

    #[test]
    fn a_document_of_two_kinds_is_refused() {
        assert!(Manifest::parse(manifest("").as_bytes(), OCI_MANIFEST, "m").is_ok());
        assert!(Manifest::parse(manifest(r#","unknown":{},"annotations":null"#).as_bytes(), OCI_MANIFEST, "m").is_ok());
        let docker = r#","mediaType":"application/vnd.docker.distribution.manifest.v2+json""#;
        assert!(
            Manifest::parse(manifest(docker).as_bytes(), "application/vnd.docker.distribution.manifest.v2+json", "m")
                .is_ok()
        );
        let index = format!(r#","mediaType":"{OCI_INDEX}""#);
        for extra in
            [r#","manifests":[]"#, r#","Layers":[]"#, r#","fsLayers":[]"#, index.as_str(), docker, r#","MANIFESTS":[]"#]
        {
            assert!(Manifest::parse(manifest(extra).as_bytes(), OCI_MANIFEST, "m").is_err(), "{extra}");
        }
        for (text, fine) in [
            (r#"{"schemaVersion":2,"manifests":[]}"#, true),
            (r#"{"schemaVersion":2}"#, false),
            (r#"{"schemaVersion":1,"manifests":[]}"#, false),
            (r#"{"manifests":[]}"#, false),
            (r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#, false),
            (r#"{"schemaVersion":2,"manifests":[],"config":{}}"#, false),
            (r#"{"schemaVersion":2,"manifests":{}}"#, false),
            (r#"[]"#, false),
        ] {
            assert_eq!(Index::parse(text.as_bytes(), OCI_INDEX, "i").is_ok(), fine, "{text}");
        }
    }

    #[test]
    fn a_descriptor_says_which_field_is_wrong() {
        let parse = |descriptor: &str| {
            let text = format!(r#"{{"schemaVersion":2,"manifests":[{descriptor}]}}"#);
            Index::parse(text.as_bytes(), "", "index.json").map(|index| index.manifests[0].clone())
        };
        let good = parse(&format!(r#"{{"mediaType":"x/y","size":7,"digest":"{DIGEST}"}}"#)).expect("valid");
        assert_eq!((good.size, good.digest.as_str()), (7, DIGEST));
        let unknown = parse(r#"{"mediaType":"x/y","size":7,"digest":"other:ab"}"#).expect("only mentioned");
        assert_eq!(unknown.digest().unwrap_err().kind(), crate::ErrorKind::Unsupported);
        for (field, text) in [
            ("/manifests/0/size", format!(r#"{{"mediaType":"x/y","size":-1,"digest":"{DIGEST}"}}"#)),
            ("/manifests/0/size", format!(r#"{{"mediaType":"x/y","size":9223372036854775808,"digest":"{DIGEST}"}}"#)),
            ("/manifests/0/size", format!(r#"{{"mediaType":"x/y","digest":"{DIGEST}"}}"#)),
            ("/manifests/0/digest", r#"{"mediaType":"x/y","size":1,"digest":"sha256:../x"}"#.into()),
            ("/manifests/0/mediaType", format!(r#"{{"size":1,"digest":"{DIGEST}"}}"#)),
            (
                "/manifests/0/platform/os",
                format!(r#"{{"mediaType":"x/y","size":1,"digest":"{DIGEST}","platform":{{"architecture":"a"}}}}"#),
            ),
            (
                "/manifests/0/annotations/a",
                format!(r#"{{"mediaType":"x/y","size":1,"digest":"{DIGEST}","annotations":{{"a":1}}}}"#),
            ),
        ] {
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
    }

    #[test]
    fn base64_is_exact() {
        for (text, bytes) in
            [("", &b""[..]), ("e30=", b"{}"), ("YQ==", b"a"), ("YWJj", b"abc"), ("+/8=", &[0xfb, 0xff])]
        {
            assert_eq!(base64(text, "x").expect(text), bytes);
        }
        for text in ["e30", "e3=0", "e===", "====", "e 0=", "e-0=", "é==="] {
            assert!(base64(text, "x").is_err(), "{text}");
        }
    }

    #[test]
    fn attestations_are_no_candidates() {
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[
                {{"mediaType":"{OCI_MANIFEST}","size":1,"digest":"{DIGEST}","platform":{{"os":"unknown","architecture":"unknown"}}}},
                {{"mediaType":"{OCI_MANIFEST}","size":1,"digest":"{DIGEST}","annotations":{{"vnd.docker.reference.type":"attestation-manifest"}}}},
                {{"mediaType":"{OCI_MANIFEST}","size":1,"digest":"{DIGEST}"}}]}}"#
        );
        let index = Index::parse(text.as_bytes(), "", "i").expect("valid");
        assert_eq!(index.manifests.iter().map(Descriptor::is_candidate).collect::<Vec<_>>(), [false, false, true]);
    }
}
