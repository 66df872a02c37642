//! Docker's schema 2 and OCI: the same documents under other names.
//!
//! Job: rewrite media types of indexes and manifests, and the digests that change with them. Configurations and layers are
//! the same in both and keep their bytes. Documents that are in the right form already keep theirs. Leaves out compressing
//! layers anew: what docker has no name for is refused.

use super::Form;
use super::shipment::Document;
use crate::document::NAMES;
use crate::{Digest, Error, Result, json};
use serde_json::Value;
use std::collections::HashMap;

/// Rewrites all, children first.
pub(super) fn documents(documents: Vec<Document>, form: Form) -> Result<Vec<Document>> {
    let mut renamed: HashMap<String, (Digest, usize)> = HashMap::new();
    let mut converted = Vec::new();
    for document in documents {
        let what = format!("manifest {}", document.digest);
        let mut value = json::parse(&document.bytes, &what)?;
        let media_type = name(&document.media_type, form).map_err(|error| error.within(&what))?;
        let mut changed = media_type != document.media_type;
        for key in ["config", "layers", "manifests"] {
            let descriptors = match value.get_mut(key) {
                Some(Value::Array(descriptors)) => descriptors.iter_mut().collect(),
                Some(single @ Value::Object(_)) => vec![single],
                _ => Vec::new(),
            };
            for descriptor in descriptors {
                changed |= describe(descriptor, &renamed, form).map_err(|error| error.within(&what))?;
            }
        }
        if !changed {
            converted.push(document);
            continue;
        }
        value["mediaType"] = media_type.as_str().into();
        if form == Form::Docker {
            plain(&mut value).map_err(|error| error.within(&what))?;
        }
        let bytes = value.to_string().into_bytes();
        let digest = Digest::of(&bytes);
        renamed.insert(document.digest.to_string(), (digest.clone(), bytes.len()));
        converted.push(Document { media_type, digest, bytes });
    }
    Ok(converted)
}

/// Rewrites one descriptor; whether anything changed.
fn describe(descriptor: &mut Value, renamed: &HashMap<String, (Digest, usize)>, form: Form) -> Result<bool> {
    let text = |key: &str| descriptor.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (own, digest) = (text("mediaType"), text("digest"));
    let wanted = name(&own, form)?;
    let mut changed = wanted != own;
    descriptor["mediaType"] = wanted.into();
    if let Some((digest, size)) = renamed.get(&digest) {
        descriptor["digest"] = digest.to_string().into();
        descriptor["size"] = (*size).into();
        // What it carried was the old one.
        descriptor.as_object_mut().map(|fields| fields.remove("data"));
        changed = true;
    }
    if let Some(fields) = descriptor.as_object_mut().filter(|_| form == Form::Docker) {
        changed |= fields.remove("annotations").is_some();
    }
    Ok(changed)
}

fn name(media_type: &str, form: Form) -> Result<String> {
    let pair = NAMES.iter().find(|(oci, docker)| *oci == media_type || *docker == media_type);
    match (pair, form) {
        (Some((oci, _)), Form::Oci) => Ok((*oci).to_owned()),
        (Some((oci, _)), _) if oci.ends_with("zstd") => {
            Err(Error::unsupported("docker's form has no name for layers compressed with zstd; compress them anew"))
        }
        (Some((_, docker)), _) => Ok((*docker).to_owned()),
        (None, Form::Oci) => Ok(media_type.to_owned()),
        (None, _) => Err(Error::unsupported(format!("docker's form has no name for {media_type:?}"))),
    }
}

/// Takes away what docker's form has no place for, if it may be lost.
fn plain(value: &mut Value) -> Result<()> {
    let Some(fields) = value.as_object_mut() else { return Ok(()) };
    if let Some(key) = ["subject", "artifactType"].into_iter().find(|key| fields.contains_key(*key)) {
        return Err(Error::unsupported(format!("docker's form has no {key}")));
    }
    fields.remove("annotations");
    Ok(())
}
