//! Makes the smallest real image: an OCI layout with one layer that holds one static program, `/probe`.
//!
//! The program answers questions about the place it runs in: `/probe hostname`, `/probe pid`, `/probe id`, `/probe ls PATH` …

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::{Compression, write::GzEncoder};
use keelbox::Image;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Writes the layout into `directory`, and opens it as any other image.
pub fn tiny_image(directory: &Path) -> Result<Image> {
    fs::create_dir_all(directory.join("blobs/sha256"))?;
    let layer = layer()?;
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(&layer)?;
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = json!({
        "architecture": architecture, "os": "linux",
        "config": { "Entrypoint": ["/probe"], "Cmd": ["hostname"] },
        "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
    });
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(directory, "application/vnd.oci.image.config.v1+json", &serde_json::to_vec(&config)?)?,
        "layers": [blob(directory, "application/vnd.oci.image.layer.v1.tar+gzip", &packed.finish()?)?],
    });
    let mut entry = blob(directory, "application/vnd.oci.image.manifest.v1+json", &serde_json::to_vec(&manifest)?)?;
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": "tiny" });
    fs::write(directory.join("index.json"), json!({ "schemaVersion": 2, "manifests": [entry] }).to_string())?;
    fs::write(directory.join("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }).to_string())?;
    Ok(Image::open(&format!("oci:{}:tiny", directory.display()))?)
}

/// The layer, not yet packed: the program, and who may use it.
fn layer() -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let passwd: &[u8] = b"root:x:0:0:root:/:/probe\nuser:x:1000:1000:user:/:/probe\n";
    for (path, mode, content) in [("etc/passwd", 0o644, passwd), ("probe", 0o755, keelbox_testkit::PROBE)] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, path, content)?;
    }
    Ok(archive.into_inner()?)
}

/// Stores `content` under its digest, and describes it as OCI documents describe each other.
fn blob(directory: &Path, media_type: &str, content: &[u8]) -> Result<Value> {
    let digest = digest(content);
    fs::write(directory.join("blobs").join(digest.replace(':', "/")), content)?;
    Ok(json!({ "mediaType": media_type, "digest": digest, "size": content.len() }))
}

fn digest(content: &[u8]) -> String {
    let bytes = Sha256::digest(content);
    bytes.iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}
