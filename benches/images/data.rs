//! The image that is unpacked: three layers of the files of Debian packages that this machine has installed.
//!
//! A base; compilers and interpreters with large files; and many small files. Whoever has the same packages gets the same
//! layers. No network is used.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use keelbox::crates::image_spec::Digest;

use crate::lane::Result;

/// One layer: a compressed blob, and how large it is inside.
pub struct Layer {
    pub digest: Digest,
    pub diff_id: Digest,
    pub compressed: u64,
    pub bytes: u64,
    pub entries: u64,
}

/// An image in a layout, beside its layers as plain archives (`LAYOUT/N.tar`).
pub struct Image {
    pub layout: PathBuf,
    pub layers: Vec<Layer>,
}

impl Image {
    pub fn entries(&self) -> u64 {
        self.layers.iter().map(|layer| layer.entries).sum()
    }

    pub fn bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.bytes).sum()
    }

    /// The name under which every tool finds it.
    pub fn source(&self) -> String {
        format!("oci:{}:bench", self.layout.display())
    }
}

/// Bytes and entries that a layer has at most.
const LAYERS: [(u64, u64); 3] = [(204 << 20, 7_000), (388 << 20, 10_000), (205 << 20, 30_000)];

/// The three layers, each a `share` of what it is in full.
pub fn debian(layout: &Path, share: u64) -> Result<Image> {
    let packages = packages()?;
    let mut used = BTreeSet::new();
    let mut lists = Vec::new();
    let base = |package: &&Package| matches!(&*package.priority, "required" | "important" | "standard");
    let first: Vec<&Package> = packages.iter().filter(base).collect();
    let mut large: Vec<&Package> = packages.iter().filter(|package| !base(package)).collect();
    // Compilers, interpreters and libraries by their names, whatever else a machine has.
    large.retain(|package| {
        ["gcc", "g++", "cpp", "lib", "python", "perl", "git"].iter().any(|it| package.name.starts_with(it))
    });
    large.sort_by_key(|package| std::cmp::Reverse(package.size));
    let mut small: Vec<&Package> = packages.iter().filter(|package| !base(package)).collect();
    small.sort_by_key(|package| (package.size / package.files.len().max(1) as u64, &package.name));
    for (group, (bytes, entries)) in [first, large, small].into_iter().zip(LAYERS) {
        lists.push(choose(&group, bytes / share, entries / share, &mut used));
    }
    image(layout, &lists)
}

struct Package {
    name: String,
    priority: String,
    size: u64,
    files: Vec<PathBuf>,
}

fn packages() -> Result<Vec<Package>> {
    let query = |arguments: &[&str]| -> Result<String> {
        let output = Command::new("dpkg-query").args(arguments).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let mut packages = Vec::new();
    for line in query(&["-W", "-f=${binary:Package} ${Priority} ${Installed-Size}\\n"])?.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [name, priority, size] = fields[..] else { continue };
        let base = name.split(':').next().unwrap_or(name);
        let list = [format!("/var/lib/dpkg/info/{name}.list"), format!("/var/lib/dpkg/info/{base}.list")];
        let Some(text) = list.iter().find_map(|path| fs::read_to_string(path).ok()) else { continue };
        packages.push(Package {
            name: name.into(),
            priority: priority.into(),
            size: size.parse::<u64>().unwrap_or(0) << 10,
            files: text.lines().filter(|path| path.len() > 2).map(PathBuf::from).collect(),
        });
    }
    packages.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(packages)
}

/// Paths of packages until there is enough; each path once in the whole image, but for directories.
fn choose(packages: &[&Package], bytes: u64, entries: u64, used: &mut BTreeSet<PathBuf>) -> Vec<PathBuf> {
    let mut chosen = BTreeSet::new();
    let mut total = 0;
    for path in packages.iter().flat_map(|package| &package.files) {
        let Ok(metadata) = fs::symlink_metadata(path) else { continue };
        if !metadata.is_dir() && (total + metadata.len() > bytes || !used.insert(path.clone())) {
            continue;
        }
        total += metadata.len();
        // Parents come first, and a name whose parent is a link is left to where the link leads.
        if path.ancestors().skip(1).any(|parent| fs::symlink_metadata(parent).is_ok_and(|it| it.is_symlink())) {
            continue;
        }
        chosen.extend(path.ancestors().filter(|path| path.parent().is_some()).map(Path::to_owned));
        if chosen.len() as u64 >= entries {
            break;
        }
    }
    chosen.into_iter().collect()
}

/// A layout of layers with these files, in this order.
pub fn image(layout: &Path, lists: &[Vec<PathBuf>]) -> Result<Image> {
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let mut layers = Vec::new();
    for (number, paths) in lists.iter().enumerate() {
        let plain = layout.join(format!("{number}.tar"));
        let entries = archive(&plain, paths)?;
        let packed = layout.join("packed");
        let mut encoder = GzEncoder::new(BufWriter::new(File::create(&packed)?), Compression::new(6));
        io::copy(&mut File::open(&plain)?, &mut encoder)?;
        encoder.finish()?.flush()?;
        let (digest, compressed) = digest(&packed)?;
        let (diff_id, bytes) = self::digest(&plain)?;
        fs::rename(&packed, blobs.join(digest.hex()))?;
        layers.push(Layer { digest, diff_id, compressed, bytes, entries });
    }
    let ids: Vec<String> = layers.iter().map(|layer| format!("\"{}\"", layer.diff_id)).collect();
    let config = format!(
        r#"{{"os":"linux","architecture":"{}","config":{{}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        ids.join(",")
    );
    let add = |text: &str| -> Result<String> {
        let digest = Digest::of(text.as_bytes());
        fs::write(blobs.join(digest.hex()), text)?;
        Ok(format!(r#""digest":"{digest}","size":{}"#, text.len()))
    };
    let kind = "application/vnd.oci.image";
    let described: Vec<String> = layers
        .iter()
        .map(|it| {
            format!(r#"{{"mediaType":"{kind}.layer.v1.tar+gzip","digest":"{}","size":{}}}"#, it.digest, it.compressed)
        })
        .collect();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{kind}.manifest.v1+json","config":{{"mediaType":"{kind}.config.v1+json",{}}},"layers":[{}]}}"#,
        add(&config)?,
        described.join(",")
    );
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{kind}.manifest.v1+json",{},"annotations":{{"org.opencontainers.image.ref.name":"bench"}}}}]}}"#,
        add(&manifest)?
    );
    fs::write(layout.join("index.json"), index)?;
    Ok(Image { layout: layout.to_owned(), layers })
}

fn digest(path: &Path) -> Result<(Digest, u64)> {
    let bytes = fs::read(path)?;
    Ok((Digest::of(&bytes), bytes.len() as u64))
}

/// Writes the files at `paths` with what they are here; returns how many there are.
fn archive(file: &Path, paths: &[PathBuf]) -> Result<u64> {
    let mut builder = tar::Builder::new(BufWriter::new(File::create(file)?));
    builder.follow_symlinks(false);
    let mut first: HashMap<(u64, u64), PathBuf> = HashMap::new();
    let mut entries = 0;
    for path in paths {
        let metadata = fs::symlink_metadata(path)?;
        let kind = metadata.file_type();
        let name = path.strip_prefix("/")?;
        if kind.is_socket() || kind.is_fifo() || kind.is_char_device() || kind.is_block_device() {
            continue;
        }
        entries += 1;
        if kind.is_file() && metadata.nlink() > 1 {
            let identity = (metadata.dev(), metadata.ino());
            if let Some(other) = first.get(&identity) {
                let mut header = tar::Header::new_gnu();
                header.set_metadata(&metadata);
                header.set_entry_type(tar::EntryType::Link);
                header.set_size(0);
                builder.append_link(&mut header, name, other)?;
                continue;
            }
            first.insert(identity, name.to_owned());
        }
        builder.append_path_with_name(path, name)?;
    }
    builder.into_inner()?.flush()?;
    Ok(entries)
}

/// The small files of the image's last layer as an image of one layer and as one of forty.
pub fn once_and_in_forty(place: &Path, image: &Image) -> Result<(Image, Image)> {
    let plain = image.layout.join(format!("{}.tar", image.layers.len() - 1));
    let mut paths = Vec::new();
    for entry in tar::Archive::new(File::open(plain)?).entries_with_seek()? {
        paths.push(Path::new("/").join(entry?.path()?));
    }
    let size = paths.len().div_ceil(40);
    let with_parents = |part: &[PathBuf]| -> Vec<PathBuf> {
        let all: BTreeSet<&Path> =
            part.iter().flat_map(|path| path.ancestors()).filter(|path| path.parent().is_some()).collect();
        all.into_iter().map(Path::to_owned).collect()
    };
    let forty: Vec<Vec<PathBuf>> = paths.chunks(size).map(with_parents).collect();
    Ok((self::image(&place.join("one"), &[paths])?, self::image(&place.join("forty"), &forty)?))
}
