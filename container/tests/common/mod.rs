//! What these tests share: small images made on the spot, and running commands of the host.
//!
//! An image is an OCI layout with one layer: a directory packed by `tar(1)`. Oldest kernel: that of the crate.
#![allow(dead_code, reason = "every test program uses a part")]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use keelbox::crates::image_spec::Digest;
use keelbox::{Container, Image};
use keelbox_testkit as testkit;
use tempfile::TempDir;

/// An image with a place of its own to be unpacked in. Both go when the value is dropped.
pub struct Small {
    directory: TempDir,
}

impl Small {
    /// An image of the busybox user land whose configuration has these words, as JSON members: `"Env": ["A=b"], "User": "user"`.
    pub fn busybox(config: &str) -> io::Result<Self> {
        let root = testkit::busybox_root()?;
        fs::create_dir_all(root.path().join("srv"))?;
        fs::create_dir_all(root.path().join("work"))?;
        fs::copy(probe(root.path())?, root.path().join("bin/probe"))?;
        Self::of(root.path(), config)
    }

    /// An image of the probe alone.
    pub fn probe(config: &str) -> io::Result<Self> {
        Self::of(testkit::probe_root()?.path(), config)
    }

    /// An image of the busybox user land in which `edit` has changed something.
    pub fn made(config: &str, edit: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<Self> {
        let root = testkit::busybox_root()?;
        fs::copy(probe(root.path())?, root.path().join("bin/probe"))?;
        edit(root.path())?;
        Self::of(root.path(), config)
    }

    /// Removes the image, where a static keeps it from going by itself.
    pub fn remove(&self) -> io::Result<()> {
        fs::remove_dir_all(self.directory.path())
    }

    /// An image of what is in `root`.
    pub fn of(root: &Path, config: &str) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("keelbox-image-").tempdir()?;
        let layout = directory.path().join("layout");
        fs::create_dir_all(layout.join("blobs/sha256"))?;
        let layer = directory.path().join("layer.tar");
        run(Command::new("tar").args(["--numeric-owner", "-C"]).arg(root).arg("-cf").arg(&layer).arg("."))?;
        let bytes = fs::read(&layer)?;
        fs::remove_file(&layer)?;
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let (layer, size) = (blob(&layout, &bytes)?, bytes.len());
        let text = format!(
            r#"{{"architecture":"{architecture}","os":"linux","config":{{{config}}},"rootfs":{{"type":"layers","diff_ids":["{layer}"]}}}}"#
        );
        let (config, length) = (blob(&layout, text.as_bytes())?, text.len());
        let kind = "application/vnd.oci.image";
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{kind}.manifest.v1+json","config":{{"mediaType":"{kind}.config.v1+json","digest":"{config}","size":{length}}},"layers":[{{"mediaType":"{kind}.layer.v1.tar","digest":"{layer}","size":{size}}}]}}"#
        );
        let (manifest, length) = (blob(&layout, text.as_bytes())?, text.len());
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{kind}.manifest.v1+json","digest":"{manifest}","size":{length},"annotations":{{"org.opencontainers.image.ref.name":"small"}}}}]}}"#
        );
        fs::write(layout.join("index.json"), text)?;
        fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        Ok(Self { directory })
    }

    /// The layout's directory.
    pub fn layout(&self) -> PathBuf {
        self.directory.path().join("layout")
    }

    /// Where it is unpacked.
    pub fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    /// The layout's largest blob: the layer.
    pub fn layer(&self) -> io::Result<PathBuf> {
        let blobs = fs::read_dir(self.layout().join("blobs/sha256"))?.collect::<io::Result<Vec<_>>>()?;
        let sized = blobs.into_iter().map(|entry| entry.metadata().map(|metadata| (metadata.len(), entry.path())));
        let largest = sized.collect::<io::Result<Vec<_>>>()?.into_iter().max();
        largest.map(|(_, path)| path).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// Opens the image.
    pub fn image(&self) -> keelbox::crates::image_spec::Result<Image> {
        Image::open(&format!("oci:{}:small", self.layout().display()))
    }

    /// A container of the image, unpacked in [`store`](Self::store).
    pub fn container(&self) -> keelbox::crates::image_spec::Result<Container> {
        Ok(Container::from_image(&self.image()?).store(self.store()))
    }
}

fn blob(layout: &Path, bytes: &[u8]) -> io::Result<String> {
    let digest = Digest::of(bytes);
    fs::write(layout.join("blobs/sha256").join(digest.hex()), bytes)?;
    Ok(format!("sha256:{}", digest.hex()))
}

/// A copy of the probe beside `root`'s programs: nothing of ours is ever open for writing while others fork.
fn probe(root: &Path) -> io::Result<PathBuf> {
    let made = testkit::probe_root()?;
    let to = root.join("probe");
    run(Command::new("cp").arg(made.path().join("probe")).arg(&to))?;
    Ok(to)
}

/// A root file system with busybox and the probe (`/probe`).
pub fn root() -> io::Result<TempDir> {
    let root = testkit::busybox_root()?;
    probe(root.path())?;
    Ok(root)
}

/// Runs a command of the host and returns what it printed.
pub fn run(command: &mut Command) -> io::Result<String> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(io::Error::other(format!("{command:?}: {}: {said}", output.status)))
}

/// The lines of a text that begin with `key`, without it.
pub fn value<'a>(text: &'a str, key: &str) -> &'a str {
    text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim()
}
