//! An image while it is changed, and the end of it.
//!
//! Job: do one step after another on layers, history and configuration, and write the result into a store: layers first, then
//! configuration and manifest. Leaves out names.

use super::config::Change;
use super::rebase::{history, is_empty, rebase};
use super::{Edit, Step, time};
use crate::blobs::{Blobs, Extent, give};
use crate::changeset::{Tree, read_archive, write};
use crate::compress::{Packed, Packer};
use crate::content::Content;
use crate::document::{OCI_CONFIG, OCI_MANIFEST, oci_layer};
use crate::spool::{Spool, refuse_unknown};
use crate::tar::TarReader;
use crate::unpack::{Format, pipeline};
use crate::{Changeset, Compression, Digest, Error, Image, Layer, Limits, Platform, Result, Store};
use serde_json::{Map, Value, json};
use std::io::Read;
use std::sync::Arc;

/// A layer, and where its blob is.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) layer: Layer,
    annotations: Option<Value>,
    /// `None`: in the store.
    home: Option<Image>,
}

impl Piece {
    /// The layers of an image.
    pub(super) fn all(image: &Image) -> Result<Vec<Self>> {
        let manifest = crate::json::parse(image.raw_manifest(), "manifest")?;
        let annotations = |index: usize| manifest.pointer(&format!("/layers/{index}/annotations")).cloned();
        let pieces = image.layers().iter().enumerate().map(|(index, layer)| Self {
            layer: layer.clone(),
            annotations: annotations(index).filter(Value::is_object),
            home: Some(image.clone()),
        });
        Ok(pieces.collect())
    }

    fn packed(packed: &Packed) -> Self {
        let layer = Layer::made(packed.digest.clone(), packed.diff_id.clone(), packed.size, packed.media_type);
        Self { layer, annotations: None, home: None }
    }
}

/// What an image is at the moment.
pub(super) struct State<'s> {
    store: &'s Store,
    content: Content,
    blobs: Blobs,
    limits: Limits,
    epoch: Option<i64>,
    created: String,
    compression: Compression,
    pub(super) document: Map<String, Value>,
    pub(super) pieces: Vec<Piece>,
    pub(super) history: Vec<Value>,
    pub(super) annotations: Map<String, Value>,
    /// All layers as one tree, once somebody has asked.
    merged: Option<Arc<Tree>>,
    remark: Option<String>,
}

/// Does everything that `edit` asks for; the digest of the manifest, what keeps it from being collected, and all layers as one tree if
/// that was asked for.
pub(super) fn run(edit: &Edit, store: &Store) -> Result<(Digest, Content, Option<Arc<Tree>>)> {
    let mut state = State::new(edit, store)?;
    for step in &edit.steps {
        state.step(step)?;
    }
    let merged = state.merged.take();
    let (digest, content) = state.finish()?;
    Ok((digest, content, merged))
}

impl<'s> State<'s> {
    fn new(edit: &Edit, store: &'s Store) -> Result<Self> {
        let now = || {
            let passed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            passed.map_or(0, |passed| i64::try_from(passed.as_secs()).unwrap_or(0))
        };
        let document = match &edit.image {
            Some(image) => crate::json::parse(image.config().raw(), "image configuration")?,
            None => json!({}),
        };
        let Value::Object(mut document) = document else {
            return Err(Error::format("image configuration: not an object"));
        };
        let host = edit.image.is_none().then(Platform::host);
        if let Some(platform) = edit.platform.clone().or(host) {
            document.insert("os".into(), platform.os().into());
            document.insert("architecture".into(), platform.architecture().into());
            match platform.variant_text() {
                "" => document.remove("variant"),
                variant => document.insert("variant".into(), variant.into()),
            };
        }
        let manifest =
            edit.image.as_ref().map(|image| crate::json::parse(image.raw_manifest(), "manifest")).transpose()?;
        let annotations = manifest.as_ref().and_then(|manifest| manifest.get("annotations")?.as_object().cloned());
        let pieces = edit.image.as_ref().map(Piece::all).transpose()?.unwrap_or_default();
        Ok(Self {
            store,
            content: Content::open(store)?,
            blobs: Blobs::open_directory(store.path())?,
            limits: edit.image.as_ref().map_or_else(Limits::default, |image| *image.limits()),
            epoch: edit.epoch,
            created: time::text(edit.epoch.unwrap_or_else(now)),
            compression: edit.compression,
            history: history(document.get("history"), pieces.len()),
            pieces,
            document,
            annotations: annotations.unwrap_or_default(),
            merged: edit.image.as_ref().and_then(|image| image.merged().cloned()),
            remark: None,
        })
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Change(change) => self.change(change),
            Step::Layer(changes) => self.add(changes),
            Step::Squash(first, end) => self.squash(*first, end.unwrap_or(self.pieces.len())),
            Step::SquashTop(count) => self.squash(self.pieces.len().saturating_sub(*count), self.pieces.len()),
            Step::Rebase(bases) => rebase(self, &bases.0, &bases.1),
            Step::Recompress(compression) => self.recompress(*compression),
            Step::Annotate(name, _) if name.is_empty() => Err(Error::format("an annotation without a name")),
            Step::Annotate(name, value) => {
                self.annotations.insert(name.clone(), value.as_str().into());
                Ok(())
            }
            Step::Remark(text) => {
                self.remark = Some(text.clone());
                Ok(())
            }
        }
    }

    fn change(&mut self, change: &Change) -> Result<()> {
        change.apply(&mut self.document)?;
        let entry = self.entry(&change.remark(), true);
        self.history.push(entry);
        Ok(())
    }

    /// A line of the history.
    fn entry(&mut self, remark: &str, empty: bool) -> Value {
        let text = self.remark.take().unwrap_or_else(|| remark.to_owned());
        let mut entry = json!({ "created": self.created, "created_by": text });
        if empty {
            entry["empty_layer"] = true.into();
        }
        entry
    }

    fn add(&mut self, changes: &Changeset) -> Result<()> {
        if changes.needs_below() {
            self.merge()?;
        }
        let nothing = Tree::default();
        let tree = changes.tree(self.merged.as_deref().unwrap_or(&nothing), self.store, &self.limits)?;
        if tree.is_empty() {
            let entry = self.entry("a layer without entries", true);
            self.history.push(entry);
            return Ok(());
        }
        let packed = self.pack(&tree, self.compression)?;
        self.pieces.push(Piece::packed(&packed));
        let entry = self.entry("a layer of files", false);
        self.history.push(entry);
        if let Some(merged) = &mut self.merged {
            let merged = Arc::make_mut(merged);
            merged.append(tree.without_contents())?;
            merged.next_layer()?;
        }
        Ok(())
    }

    fn pack(&self, tree: &Tree, compression: Compression) -> Result<Packed> {
        let mut packer = Packer::new(&self.content, compression)?;
        write(tree, self.epoch, &mut |bytes| packer.write(bytes))?;
        packer.finish()
    }

    /// The blob of a layer.
    fn open(&self, piece: &Piece) -> Result<Extent> {
        match &piece.home {
            Some(image) => image.blob(&piece.layer),
            None => self.blobs.extent(&piece.layer.path),
        }
    }

    /// Makes one tree of all layers, of which only the headers are read.
    fn merge(&mut self) -> Result<()> {
        if self.merged.is_some() {
            return Ok(());
        }
        let mut tree = Tree::default();
        for piece in &self.pieces {
            refuse_unknown(&piece.layer)?;
            tree.next_layer()?;
            let (blob, limits) = (self.open(piece)?, &self.limits);
            let own = &mut tree;
            pipeline::run(&piece.layer, blob, limits, move |input, _| {
                read_archive(own, None, TarReader::new(input, limits), None, limits)
            })?;
        }
        tree.next_layer()?;
        self.merged = Some(Arc::new(tree));
        Ok(())
    }

    pub(super) fn forget_merged(&mut self) {
        self.merged = None;
    }

    fn squash(&mut self, first: usize, end: usize) -> Result<()> {
        if first > end || end > self.pieces.len() {
            let count = self.pieces.len();
            return Err(Error::format(format!("there are no layers from {first} to {end}: the image has {count}")));
        }
        if end - first < 2 {
            return Ok(());
        }
        let mut tree = Tree::default();
        for piece in &self.pieces[first..end] {
            let spool = Spool::of_layer(self.store, &piece.layer, self.open(piece)?, &self.limits)?;
            tree.next_layer()?;
            spool
                .entries(&self.limits, |tar, file| read_archive(&mut tree, None, tar, Some(file), &self.limits))
                .map_err(|error| error.within(format_args!("layer {}", piece.layer.digest())))?;
        }
        tree.finish(first == 0)?;
        tree.check_links()?;
        let packed = self.pack(&tree, self.compression)?;
        self.pieces.splice(first..end, [Piece::packed(&packed)]);
        let mut index = 0;
        let mut entry = Some(self.entry(&format!("{} layers squashed", end - first), false));
        let mut history = Vec::new();
        for old in std::mem::take(&mut self.history) {
            if is_empty(&old) {
                history.push(old);
                continue;
            }
            if !(first..end).contains(&index) {
                history.push(old);
            } else if index + 1 == end {
                history.extend(entry.take());
            }
            index += 1;
        }
        self.history = history;
        Ok(())
    }

    fn recompress(&mut self, compression: Compression) -> Result<()> {
        for index in 0..self.pieces.len() {
            let piece = &self.pieces[index];
            let mut start = Vec::new();
            let read = self.open(piece)?.take(4).read_to_end(&mut start);
            read.map_err(|error| Error::io("cannot read a layer", error))?;
            if Format::of(&start) == Format::promised(compression.media_type()) {
                continue;
            }
            refuse_unknown(&piece.layer)?;
            let mut packer = Packer::new(&self.content, compression)?;
            let own = &mut packer;
            pipeline::run(&piece.layer, self.open(piece)?, &self.limits, move |input, _| {
                give(input, "it", &mut |bytes| own.write(bytes))
            })?;
            // Not before both digests are right.
            let packed = packer.finish()?;
            let annotations = piece.annotations.clone();
            self.pieces[index] = Piece { annotations, ..Piece::packed(&packed) };
        }
        Ok(())
    }

    /// The history of what lies above the lowest `count` layers.
    pub(super) fn history_from(&self, count: usize) -> Vec<Value> {
        let mut seen = 0;
        let above = self.history.iter().skip_while(|entry| {
            // Lines without a layer right above the base are the image's own.
            let below = seen < count;
            seen += usize::from(!is_empty(entry));
            below
        });
        above.cloned().collect()
    }

    /// Writes everything; the digest of the manifest.
    fn finish(mut self) -> Result<(Digest, Content)> {
        for piece in &self.pieces {
            if let Some(image) = &piece.home {
                let digest = piece.layer.digest();
                self.content.add(digest, piece.layer.size(), &mut |write| image.copy_blob(digest, write))?;
            }
        }
        let ids: Vec<String> = self.pieces.iter().map(|piece| piece.layer.diff_id().to_string()).collect();
        self.document.insert("rootfs".into(), json!({ "type": "layers", "diff_ids": ids }));
        self.document.insert("created".into(), self.created.as_str().into());
        self.document.insert("history".into(), self.history.into());
        let config =
            serde_json::to_vec(&self.document).map_err(|_| Error::format("image configuration: cannot be written"))?;
        let described = self.pieces.iter().map(|piece| {
            let layer = &piece.layer;
            let media_type = oci_layer(layer.media_type());
            let mut value =
                json!({ "mediaType": media_type, "digest": layer.digest().to_string(), "size": layer.size() });
            if let Some(annotations) = &piece.annotations {
                value["annotations"] = annotations.clone();
            }
            value
        });
        let digest = Digest::of(&config);
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": { "mediaType": OCI_CONFIG, "digest": digest.to_string(), "size": config.len() },
            "layers": described.collect::<Vec<_>>(),
        });
        if !self.annotations.is_empty() {
            manifest["annotations"] = self.annotations.into();
        }
        self.content.put(&digest, &config)?;
        let manifest = manifest.to_string();
        let digest = Digest::of(manifest.as_bytes());
        self.content.put(&digest, manifest.as_bytes())?;
        Ok((digest, self.content))
    }
}
