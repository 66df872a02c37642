//! The names of the images in a store.
//!
//! Job: one small file for each name, so that two programs never rewrite a list of the other's; and, made from them, the
//! `index.json` with which other tools read the store as an OCI layout. Names come from callers only, never from what an
//! image says about itself. Leaves out getting the blobs.

use crate::content::{Content, replace};
use crate::document::{OCI_INDEX, OCI_MANIFEST};
use crate::error::Attempt;
use crate::json::{self, Field};
use crate::store::Store;
use crate::{Digest, Error, ErrorKind, Image, OpenOptions, Platform, Reference, Result, files};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::fsync;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;

/// The lock number of `index.json`, beyond those of layers.
const INDEX_LOCK: u8 = 90;

/// What a name stands for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Record {
    pub(crate) name: Reference,
    /// The image manifest.
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) media_type: String,
    pub(crate) platform: String,
    /// What the registry had under the name: an index, or the manifest itself.
    pub(crate) resolved: Digest,
}

impl Store {
    /// Opens the image `name` of this store, written as `docker pull` takes it: `app:1`, `registry.example/team/app`.
    ///
    /// ```
    /// use keelbox_image_spec::{ErrorKind, Store};
    /// let directory = tempfile::tempdir()?;
    /// let store = Store::open(directory.path())?;
    /// assert_eq!(store.get("app:1").unwrap_err().kind(), ErrorKind::NotFound);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` when no image has this name, `Format` for what is not a name, and as [`Image::open`].
    pub fn get(&self, name: &str) -> Result<Image> {
        OpenOptions::new().stored(self, name)
    }

    /// The names in this store, sorted.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn names(&self) -> Result<Vec<Reference>> {
        Ok(self.records()?.into_iter().map(|record| record.name).collect())
    }

    /// Copies `image` with all its blobs into this store and names it. What is there already is not copied again; an
    /// image that had the name loses it. Of an index, the one manifest that was opened is taken.
    ///
    /// # Errors
    /// `Format` for what is not a name, `DigestMismatch` and `SizeMismatch` when the image is damaged, and what the kernel
    /// says. Nothing is named then.
    pub fn add(&self, image: &Image, name: &str) -> Result<Image> {
        let name = Reference::parse(name)?;
        let content = Content::open(self)?;
        for (digest, size) in image.blobs() {
            content.add(&digest, size, &mut |write| image.copy_blob(&digest, write))?;
        }
        content.put(image.manifest_digest(), image.raw_manifest())?;
        let record = Record::of(image, name, image.manifest_digest().clone());
        self.save(&content, &record)?;
        self.get(&record.name.to_string())
    }

    /// Opens the image whose manifest has this digest, whether it has a name or not.
    ///
    /// # Errors
    /// `NotFound` when there is no such manifest, and as [`Image::open`].
    pub fn get_unnamed(&self, digest: &Digest) -> Result<Image> {
        let missing = || Error::not_found(format!("there is no image {digest} in the store {}", self.path().display()));
        let limits = crate::Limits::default();
        let raw = Content::open(self)?.read(digest, limits.manifest_bytes)?.ok_or_else(missing)?;
        let value = json::parse(&raw, "manifest")?;
        let media_type = Field::root(&value, "manifest")?.optional_text("mediaType")?;
        let media_type = media_type.unwrap_or_else(|| OCI_MANIFEST.into());
        OpenOptions::new().manifest(self, &media_type, digest, raw.len() as u64, None)
    }

    /// Whether all blobs of `image` are in this store. What they contain is verified by whoever reads them.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn is_complete(&self, image: &Image) -> Result<bool> {
        Content::open(self)?.are_there(&image.blobs())
    }

    /// Names a manifest of this store.
    pub(crate) fn name_manifest(&self, digest: &Digest, name: Reference) -> Result<Image> {
        let image = self.get_unnamed(digest)?;
        let record = Record::of(&image, name, digest.clone());
        self.save(&Content::open(self)?, &record)?;
        self.get(&record.name.to_string())
    }

    /// Takes a name away. The blobs stay.
    ///
    /// # Errors
    /// `NotFound` when no image has this name, `Format` for what is not a name, and what the kernel says.
    pub fn remove_name(&self, name: &str) -> Result<()> {
        let name = Reference::parse(name)?;
        let references = self.make_directory("refs")?;
        match files::unlink(&references, file_name(&name).as_bytes()) {
            Err(Errno::ENOENT) => Err(self.unknown(&name)),
            other => other.attempt(|| self.failed("write")),
        }?;
        self.write_index()
    }

    /// Everything is on the disk before the name is.
    pub(crate) fn save(&self, content: &Content, record: &Record) -> Result<()> {
        content.sync()?;
        let references = self.make_directory("refs")?;
        let failed = || format!("cannot name {} in the store {}", record.name, self.path().display());
        replace(&references, &file_name(&record.name), record.render().as_bytes()).attempt(failed)?;
        fsync(&references).attempt(failed)?;
        self.write_index()
    }

    pub(crate) fn record(&self, name: &Reference) -> Result<Option<Record>> {
        let references = self.make_directory("refs")?;
        self.read_record(&references, &file_name(name)).map(|record| record.filter(|record| record.name == *name))
    }

    pub(crate) fn unknown(&self, name: &Reference) -> Error {
        Error::not_found(format!("there is no image {} in the store {}", name.familiar(), self.path().display()))
    }

    pub(crate) fn records(&self) -> Result<Vec<Record>> {
        let mut records: Vec<Record> =
            self.record_files()?.into_iter().map(|(_, record)| record).collect::<Result<_>>()?;
        records.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(records)
    }

    /// The files of names, with what they say.
    pub(crate) fn record_files(&self) -> Result<Vec<(String, Result<Record>)>> {
        let references = self.make_directory("refs")?;
        let mut records = Vec::new();
        for name in files::names(references.as_fd()).attempt(|| self.failed("list"))? {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with('.') {
                continue;
            }
            let record = self.read_record(&references, &name);
            // A name that went meanwhile is none, and a copy of one under another name is a damaged one.
            let Some(record) = record.transpose() else { continue };
            let own = record.and_then(|record| match file_name(&record.name) == name {
                true => Ok(record),
                false => Err(Error::format(format!("{} is called {name}", record.name))),
            });
            records.push((name, own));
        }
        Ok(records)
    }

    /// Takes the file of a name away, whatever is in it.
    pub(crate) fn remove_record(&self, file: &str) -> Result<()> {
        let references = self.make_directory("refs")?;
        match files::unlink(&references, file.as_bytes()) {
            Err(Errno::ENOENT) => Ok(()),
            other => other.attempt(|| self.failed("write")),
        }
    }

    fn read_record(&self, references: &std::os::fd::OwnedFd, name: &str) -> Result<Option<Record>> {
        let failed = || format!("cannot read refs/{name} in the store {}", self.path().display());
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = match openat(references, name, flags, Mode::empty()) {
            Err(Errno::ENOENT) => return Ok(None),
            other => other.attempt(failed)?,
        };
        let mut text = Vec::new();
        File::from(file).take(64 << 10).read_to_end(&mut text).attempt(failed)?;
        Record::parse(&text, &format!("refs/{name} in the store {}", self.path().display())).map(Some)
    }

    /// Makes the store readable for others. The names are the truth; this is a picture of them.
    pub(crate) fn write_index(&self) -> Result<()> {
        let _lock = self.lock(INDEX_LOCK)?;
        // A name that is damaged must not keep others from getting theirs.
        let mut records: Vec<Record> = self.record_files()?.into_iter().filter_map(|(_, record)| record.ok()).collect();
        records.sort_by(|one, other| one.name.cmp(&other.name));
        let manifests: Vec<String> = records.iter().map(Record::descriptor).collect();
        let index =
            format!("{{\"schemaVersion\":2,\"mediaType\":\"{OCI_INDEX}\",\"manifests\":[{}]}}\n", manifests.join(","));
        let root = self.root();
        replace(root, "index.json", index.as_bytes()).attempt(|| self.failed("write"))?;
        if files::stat(root, b"oci-layout").attempt(|| self.failed("read"))?.is_none() {
            let layout = b"{\"imageLayoutVersion\":\"1.0.0\"}\n";
            replace(root, "oci-layout", layout).attempt(|| self.failed("write"))?;
        }
        Ok(())
    }
}

impl Record {
    pub(crate) fn of(image: &Image, name: Reference, resolved: Digest) -> Self {
        Self {
            name,
            digest: image.manifest_digest().clone(),
            size: image.raw_manifest().len() as u64,
            media_type: image.media_type().to_owned(),
            platform: image.config().platform().to_string(),
            resolved,
        }
    }

    fn parse(text: &[u8], what: &str) -> Result<Self> {
        let value = json::parse(text, what)?;
        let root = Field::root(&value, what)?;
        let text = |key: &str| root.require(key)?.text();
        Ok(Self {
            name: text("name")?.parse()?,
            digest: text("digest")?.parse()?,
            size: root.require("size")?.number()?,
            media_type: text("mediaType")?,
            platform: text("platform")?,
            resolved: text("resolved")?.parse()?,
        })
    }

    fn render(&self) -> String {
        let value = serde_json::json!({
            "name": self.name.to_string(),
            "digest": self.digest.to_string(),
            "size": self.size,
            "mediaType": self.media_type,
            "platform": self.platform,
            "resolved": self.resolved.to_string(),
        });
        format!("{value}\n")
    }

    fn descriptor(&self) -> String {
        let mut value = serde_json::json!({
            "mediaType": self.media_type,
            "digest": self.digest.to_string(),
            "size": self.size,
            "annotations": { "org.opencontainers.image.ref.name": self.name.to_string() },
        });
        if let Ok(platform) = self.platform.parse::<Platform>() {
            value["platform"] = platform.described();
        }
        value.to_string()
    }
}

/// The file of a name: itself with `%` for what a file's name cannot hold, or its digest when it is too long for one.
fn file_name(name: &Reference) -> String {
    let text = name.to_string();
    let mut encoded = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"._-".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    if encoded.len() <= 250 { encoded } else { format!("%{}", Digest::of(text.as_bytes()).hex()) }
}

impl OpenOptions {
    /// Opens the image `name` of `store`, as [`Store::get`] does. The platform is the one that was pulled.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub fn stored(&self, store: &Store, name: &str) -> Result<Image> {
        let name = Reference::parse(name)?;
        let record = store.record(&name)?.ok_or_else(|| store.unknown(&name))?;
        self.recorded(store, &record).map_err(|error| match error.kind() {
            // The name is there, so this is a store somebody deleted from.
            ErrorKind::NotFound => Error::format(format!("{name} in the store {} lacks parts", store.path().display())),
            _ => error,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_has_a_file_of_its_own() {
        let long = format!("example.org/{}:{}", "a/".repeat(120) + "b", "c".repeat(128));
        let mut files = std::collections::HashSet::new();
        for name in ["debian", "debian:12", "docker.io/library/debian-12", "localhost:5000/a:1", "[::1]:1/a", &long] {
            let name = Reference::parse(name).expect(name);
            let record = Record {
                name: name.clone(),
                digest: Digest::of(b"x"),
                size: 1,
                media_type: "x/y".into(),
                platform: "linux/arm64/v9".into(),
                resolved: Digest::of(b"y"),
            };
            assert_eq!(Record::parse(record.render().as_bytes(), "x").expect("own text"), record);
            let file = file_name(&name);
            assert!(file.len() <= 255 && !file.contains('/') && !file.starts_with('.'), "{file}");
            assert!(files.insert(file));
        }
    }
}
