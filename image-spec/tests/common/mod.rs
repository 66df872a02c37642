//! What the tests share: a writer of archives byte by byte, layouts made of them, and pictures of trees.
//!
//! See `tar.rs` for the writer.
#![allow(dead_code, missing_docs, unreachable_pub, unused_imports)]
#![allow(clippy::print_stderr, reason = "a test that does not run says so")]

#[cfg(feature = "registry")]
pub mod distribution;
#[cfg(feature = "registry")]
pub mod scripted;
pub mod tar;
pub mod tree;

pub use tar::{Header, Tar};

use keelbox_image_spec::{Digest, Durability, Image, Limits, OpenOptions, Result, Store, UnpackOptions, Unpacked};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("in memory");
    encoder.finish().expect("in memory")
}

/// A layer as it goes into a layout.
pub struct Blob {
    pub content: Vec<u8>,
    pub media_type: &'static str,
    pub diff_id: Digest,
}

pub const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
pub const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

pub fn plain(tar: &Tar) -> Blob {
    Blob { diff_id: Digest::of(&tar.bytes()), content: tar.bytes(), media_type: PLAIN }
}

/// A layout in a directory of its own, with a store beside it.
pub struct Layout {
    pub directory: tempfile::TempDir,
}

pub fn descriptor(media_type: &str, content: &[u8], extra: &str) -> String {
    format!(r#"{{"mediaType":"{media_type}","size":{},"digest":"{}"{extra}}}"#, content.len(), Digest::of(content))
}

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

impl Layout {
    pub fn empty() -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let layout = Self { directory };
        fs::create_dir_all(layout.path().join("blobs/sha256")).expect("mkdir");
        layout.write("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        layout
    }

    /// A layout with one image of these layers.
    pub fn of(layers: &[Blob]) -> Self {
        let layout = Self::empty();
        let manifest = layout.add_image(layers, "{}");
        layout.index(&[descriptor(MANIFEST, &manifest, "")]);
        layout
    }

    pub fn tars(layers: &[Tar]) -> Self {
        Self::of(&layers.iter().map(plain).collect::<Vec<_>>())
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("layout")
    }

    pub fn write(&self, name: &str, content: &[u8]) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
        fs::write(path, content).expect("write");
    }

    pub fn blob_path(&self, content: &[u8]) -> PathBuf {
        self.path().join("blobs/sha256").join(Digest::of(content).hex())
    }

    pub fn blob_path_of(&self, digest: &Digest) -> PathBuf {
        self.path().join("blobs/sha256").join(digest.hex())
    }

    pub fn add_blob(&self, content: &[u8]) {
        fs::write(self.blob_path(content), content).expect("write");
    }

    /// Adds layers, configuration and manifest; returns the manifest.
    pub fn add_image(&self, layers: &[Blob], config: &str) -> Vec<u8> {
        self.add_image_for(layers, config, r#""os":"linux","architecture":"amd64""#)
    }

    pub fn add_image_for(&self, layers: &[Blob], config: &str, platform: &str) -> Vec<u8> {
        let ids: Vec<String> = layers.iter().map(|layer| format!("\"{}\"", layer.diff_id)).collect();
        let config =
            format!(r#"{{{platform},"config":{config},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#, ids.join(","));
        self.add_blob(config.as_bytes());
        let described: Vec<String> =
            layers.iter().map(|layer| descriptor(layer.media_type, &layer.content, "")).collect();
        layers.iter().for_each(|layer| self.add_blob(&layer.content));
        let config = descriptor(CONFIG, config.as_bytes(), "");
        let manifest = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{}]}}"#, described.join(","));
        self.add_blob(manifest.as_bytes());
        manifest.into_bytes()
    }

    pub fn index(&self, descriptors: &[String]) {
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, descriptors.join(","));
        self.write("index.json", index.as_bytes());
    }

    /// Gives the only image a name, for tools that want one.
    pub fn name(&self, name: &str) {
        let index = fs::read_to_string(self.path().join("index.json")).expect("an index");
        if !index.contains("annotations") {
            let named = format!(r#"}},"annotations":{{"org.opencontainers.image.ref.name":"{name}"}}}}]"#);
            let index = index.replace("}]", &named.replacen("},", ",", 1));
            self.write("index.json", index.as_bytes());
        }
    }

    pub fn source(&self) -> String {
        format!("oci:{}", self.path().display())
    }

    pub fn open(&self) -> Image {
        Image::open(&self.source()).expect("a valid image")
    }

    pub fn store(&self) -> Store {
        Store::open(self.directory.path().join("store")).expect("a store")
    }

    pub fn unpack(&self) -> Result<Unpacked> {
        self.unpack_within(Limits::default())
    }

    pub fn unpack_within(&self, limits: Limits) -> Result<Unpacked> {
        let image = OpenOptions::new().limits(limits).open(&self.source())?;
        UnpackOptions::new().durability(Durability::None).unpack(&image, &self.store())
    }
}

/// Unpacks one layer; the path of its files.
pub fn unpack_one(tar: Tar) -> Result<(Layout, PathBuf)> {
    let layout = Layout::tars(&[tar]);
    let unpacked = layout.unpack()?;
    let path = unpacked.layers()[0].path().to_owned();
    Ok((layout, path))
}

/// What one file is, as text: type, mode, owner, size or target, time, device, links.
pub fn picture_of(path: &Path) -> String {
    let metadata = fs::symlink_metadata(path).expect("stat");
    let kind = metadata.file_type();
    let detail = if kind.is_symlink() {
        format!("-> {}", fs::read_link(path).expect("readlink").display())
    } else if kind.is_file() {
        format!("{} bytes {}", metadata.len(), Digest::of(&fs::read(path).unwrap_or_default()).hex())
    } else if kind.is_char_device() || kind.is_block_device() {
        format!("device {:x}", metadata.rdev())
    } else {
        String::new()
    };
    let (seconds, nanoseconds) = (metadata.mtime(), metadata.mtime_nsec());
    format!(
        "{:o} {}:{} {seconds}.{nanoseconds:09} links {} {detail}",
        metadata.mode(),
        metadata.uid(),
        metadata.gid(),
        metadata.nlink()
    )
}

/// A picture of a whole tree, by path.
pub fn picture(top: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut pending = vec![top.to_owned()];
    while let Some(path) = pending.pop() {
        if fs::symlink_metadata(&path).expect("stat").is_dir() {
            pending.extend(fs::read_dir(&path).expect("list").map(|entry| entry.expect("entry").path()));
        }
        all.insert(path.strip_prefix(top).expect("below").to_owned(), picture_of(&path));
    }
    all
}

/// What overlayfs shows of layers, bottom first, by its own rules: each path with the place that it comes from.
pub fn merged(layers: &[PathBuf]) -> BTreeMap<PathBuf, PathBuf> {
    let mut tree = BTreeMap::new();
    let mut pending = vec![(PathBuf::new(), layers.iter().rev().cloned().collect::<Vec<_>>())];
    while let Some((at, directories)) = pending.pop() {
        let listed = directories.iter().flat_map(|path| fs::read_dir(path).expect("list"));
        let mut names: Vec<_> = listed.map(|entry| entry.expect("entry").file_name()).collect();
        names.sort();
        names.dedup();
        for name in names {
            let path = at.join(&name);
            let mut below = Vec::new();
            for directory in &directories {
                let candidate = directory.join(&name);
                let Ok(metadata) = fs::symlink_metadata(&candidate) else { continue };
                if !metadata.is_dir() {
                    if below.is_empty() && !is_whiteout(&candidate) {
                        tree.insert(path.clone(), candidate);
                    }
                    break;
                }
                let opaque = is_opaque(&candidate);
                below.push(candidate);
                if opaque {
                    break;
                }
            }
            if let Some(top) = below.first() {
                tree.insert(path.clone(), top.clone());
                pending.push((path, below));
            }
        }
    }
    tree
}

/// A tree outside every layer that no unpacking may change in any way.
pub struct Canary {
    pub directory: tempfile::TempDir,
    before: BTreeMap<PathBuf, String>,
}

impl Canary {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        fs::create_dir(directory.path().join("sub")).expect("mkdir");
        fs::write(directory.path().join("file"), "canary").expect("write");
        fs::write(directory.path().join("sub/victim"), "canary").expect("write");
        let before = picture(directory.path());
        Self { directory, before }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn bytes(&self) -> &[u8] {
        self.path().as_os_str().as_bytes()
    }

    pub fn check(&self) {
        assert_eq!(picture(self.path()), self.before, "something outside the layer was changed");
    }
}

pub fn is_whiteout(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_char_device() && metadata.rdev() == 0)
}

/// An extended attribute, or `None`.
pub fn xattr(path: &Path, name: &std::ffi::CStr) -> Option<Vec<u8>> {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).expect("no NUL");
    let mut value = vec![0; 65536];
    let length = keelbox_launch::sys::xattr::lgetxattr(&path, name, &mut value).ok()?;
    value.truncate(length);
    Some(value)
}

pub fn is_opaque(path: &Path) -> bool {
    [c"trusted.overlay.opaque", c"user.overlay.opaque"].iter().any(|name| xattr(path, name).as_deref() == Some(b"y"))
}

/// Whether the tests run as a user who can give files away.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Runs all tests of this program again as the ordinary user 65534, from a copy that user can read.
pub fn again_as_an_ordinary_user() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().expect("temporary directory");
    let program = directory.path().join("tests");
    fs::copy(std::env::current_exe().expect("this program"), &program).expect("copy");
    let work = directory.path().join("work");
    fs::create_dir(&work).expect("mkdir");
    std::os::unix::fs::chown(&work, Some(65534), Some(65534)).expect("chown");
    for open in [directory.path(), &program] {
        fs::set_permissions(open, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
    }
    let status = std::process::Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .env("TMPDIR", &work)
        // What needs root has run as root already.
        .env_remove("KEELBOX_CI")
        .current_dir(&work)
        .status();
    match status {
        Ok(status) => assert!(status.success(), "as an ordinary user: {status}"),
        Err(error) => skip(&format!("no setpriv(1): {error}")),
    }
}

/// Says why a test does not run; where everything must be tested, that is a failure.
pub fn skip(reason: &str) {
    assert!(std::env::var_os("KEELBOX_CI").is_none(), "not skipped under CI: {reason}");
    eprintln!("SKIP: {reason}");
}

/// Says what is not tried, which is no failure anywhere.
pub fn aside(reason: &str) {
    eprintln!("SKIP: {reason}");
}
