//! Into archives: of a layout, and of the form that `docker save` writes.
//!
//! Job: the same image, the same bytes: entries in the order of their names, of nobody and no time. An archive takes its
//! name when it is complete, and replaces what had it. A docker archive has its layers uncompressed, as docker writes them;
//! they are named by what they are, so that a layer is there once. Leaves out several images in one archive.

use super::Fresh;
use super::directory::{LAYOUT, entry};
use super::shipment::Shipment;
use crate::blobs::blob_name;
use crate::digest::checked;
use crate::document::{Descriptor, OCI_INDEX};
use crate::error::Attempt;
use crate::unpack::pipeline;
use crate::{Error, Image, Reference, Result};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

const BLOCK: u64 = 512;

/// A tar archive being written.
struct Tar {
    file: BufWriter<File>,
}

impl Tar {
    fn new(file: &File) -> io::Result<Self> {
        Ok(Self { file: BufWriter::with_capacity(256 << 10, file.try_clone()?) })
    }

    fn header(name: &str, size: u64, kind: tar::EntryType) -> io::Result<tar::Header> {
        let mut header = tar::Header::new_ustar();
        header.set_path(name)?;
        header.set_entry_type(kind);
        header.set_mode(if kind == tar::EntryType::Directory { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header.set_cksum();
        Ok(header)
    }

    fn directory(&mut self, name: &str) -> io::Result<()> {
        self.file.write_all(Self::header(name, 0, tar::EntryType::Directory)?.as_bytes())
    }

    fn begin(&mut self, name: &str, size: u64) -> io::Result<()> {
        self.file.write_all(Self::header(name, size, tar::EntryType::Regular)?.as_bytes())
    }

    fn end(&mut self, size: u64) -> io::Result<()> {
        let rest = usize::try_from(size.next_multiple_of(BLOCK) - size).unwrap_or(0);
        self.file.write_all(&[0; BLOCK as usize][..rest])
    }

    fn small(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        self.begin(name, content.len() as u64)?;
        self.file.write_all(content)?;
        self.end(content.len() as u64)
    }

    /// A file whose size is known when it is there.
    fn stream(&mut self, name: &str, mut content: impl Read) -> io::Result<()> {
        self.file.flush()?;
        let start = self.file.get_mut().stream_position()?;
        self.begin(name, 0)?;
        let size = io::copy(&mut content, &mut self.file)?;
        self.end(size)?;
        self.file.flush()?;
        let file = self.file.get_mut();
        file.seek(SeekFrom::Start(start))?;
        file.write_all(Self::header(name, size, tar::EntryType::Regular)?.as_bytes())?;
        file.seek(SeekFrom::End(0))?;
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        self.file.write_all(&[0; 2 * BLOCK as usize])?;
        self.file.flush()
    }
}

/// What an archive has under a name.
enum Member<'s> {
    Blob(&'s Descriptor),
    Bytes(Vec<u8>),
}

/// Writes an OCI layout as an archive.
pub(super) fn oci(shipment: &Shipment, path: &Path, name: Option<&str>) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry(shipment, name)?] });
    let mut members: BTreeMap<String, Member<'_>> = BTreeMap::new();
    members.insert("index.json".into(), Member::Bytes(index.to_string().into_bytes()));
    members.insert("oci-layout".into(), Member::Bytes(LAYOUT.into()));
    for blob in shipment.blobs() {
        members.insert(blob_name(&blob.digest()?), Member::Blob(blob));
    }
    for document in shipment.documents() {
        members.insert(blob_name(&document.digest), Member::Bytes(document.bytes.clone()));
    }
    let fresh = Fresh::new(path)?;
    let mut tar = Tar::new(&fresh.file).attempt(failed)?;
    let mut directories = vec!["blobs/".to_owned()];
    directories.extend(members.keys().filter_map(|name| Some(format!("{}/", name.rsplit_once('/')?.0))));
    directories.dedup();
    for name in directories {
        tar.directory(&name).attempt(failed)?;
    }
    for (name, member) in &members {
        match member {
            Member::Bytes(content) => tar.small(name, content).attempt(failed)?,
            Member::Blob(blob) => {
                let digest = blob.digest()?;
                tar.begin(name, blob.size).attempt(failed)?;
                checked(&digest, blob.size, &mut |write| shipment.read(blob, write), &mut |bytes| {
                    tar.file.write_all(bytes).attempt(failed)
                })?;
                tar.end(blob.size).attempt(failed)?;
            }
        }
    }
    tar.finish().attempt(failed)?;
    fresh.commit()
}

/// Writes what `docker load` and `podman load` read.
pub(super) fn docker(image: &Image, path: &Path, name: Option<&Reference>) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let layer_name = |layer: &crate::Layer| format!("{}.tar", layer.diff_id().hex());
    let config = format!("{}.json", image.config().id().hex());
    let layers: Vec<String> = image.layers().iter().map(layer_name).collect();
    let tags: Vec<String> = name.map(Reference::familiar).into_iter().collect();
    let manifest = json!([{ "Config": config, "RepoTags": tags, "Layers": layers }]);
    let fresh = Fresh::new(path)?;
    let mut tar = Tar::new(&fresh.file).attempt(failed)?;
    let mut sorted: Vec<&crate::Layer> = image.layers().iter().collect();
    sorted.sort_by_key(|layer| layer.diff_id().hex());
    sorted.dedup_by_key(|layer| layer.diff_id());
    for layer in sorted {
        if crate::document::kind(layer.media_type()) != crate::document::Kind::Layer {
            let text = format!("layer {}: docker knows no {:?}", layer.digest(), layer.media_type());
            return Err(Error::unsupported(text));
        }
        let (name, own) = (layer_name(layer), &mut tar);
        pipeline::run(layer, image.blob(layer)?, image.limits(), move |input, _| {
            own.stream(&name, input).map_err(|error| Error::io("cannot write it", error))
        })?;
    }
    tar.small(&config, image.config().raw()).attempt(failed)?;
    tar.small("manifest.json", manifest.to_string().as_bytes()).attempt(failed)?;
    tar.finish().attempt(failed)?;
    fresh.commit()
}
