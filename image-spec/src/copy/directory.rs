//! Into a layout directory that others may write at the same time.
//!
//! Job: blobs by way of a temporary name, each checked before it gets its own; then, under a lock of the directory, `index.json`
//! read again, edited and replaced. Whoever dies in between leaves a temporary file, which the next writer removes. Leaves out
//! removing blobs. Oldest kernel: any supported one.

use super::shipment::Shipment;
use crate::blobs::{Blobs, Give, blob_name};
use crate::digest::checked;
use crate::document::{Descriptor, Index, OCI_INDEX};
use crate::error::Attempt;
use crate::store::unique;
use crate::{Digest, Error, ErrorKind, Result, files, json};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, open, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{fsync, syncfs};
use serde_json::{Value, json as value};
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

const TEMPORARY: &str = ".keelbox-";
/// Everybody may read a layout.
const MODE: Mode = Mode::from_bits_truncate(0o644);
pub(super) const LAYOUT: &str = "{\"imageLayoutVersion\":\"1.0.0\"}";
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Adds what `shipment` has to the layout at `path`, which is made if there is none, and gives it `name`.
pub(super) fn write(shipment: &Shipment, path: &Path, name: Option<&str>, limit: u64) -> Result<()> {
    let failed = || format!("cannot write the layout {}", path.display());
    let entry = entry(shipment, name)?;
    refuse_foreign(path)?;
    fs::create_dir_all(path.join("blobs/sha256")).attempt(failed)?;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let directory = open(path, flags, Mode::empty()).attempt(failed)?;
    for blob in shipment.blobs() {
        add(&directory, path, blob, &mut |write| shipment.read(blob, write))?;
    }
    for document in shipment.documents() {
        let blob = Descriptor::new(&document.media_type, &document.digest, document.bytes.len() as u64);
        add(&directory, path, &blob, &mut |write| write(&document.bytes))?;
    }
    syncfs(&directory).attempt(failed)?;
    let lock = lock(&directory).attempt(failed)?;
    sweep(&directory).attempt(failed)?;
    let index = edited(path, &directory, entry, name, limit)?;
    let replace = |name: &str, content: &[u8]| files::replace(&directory, name, content, TEMPORARY, MODE);
    if files::stat(&directory, b"oci-layout").attempt(failed)?.is_none() {
        replace("oci-layout", LAYOUT.as_bytes()).attempt(failed)?;
    }
    replace("index.json", index.to_string().as_bytes()).attempt(failed)?;
    fsync(&directory).attempt(failed)?;
    drop(lock);
    Ok(())
}

/// The entry of `index.json`.
pub(super) fn entry(shipment: &Shipment, name: Option<&str>) -> Result<Value> {
    let top = shipment.top();
    let mut entry = value!({ "mediaType": top.media_type, "digest": top.digest.to_string(), "size": top.bytes.len() });
    if let Some(platform) = shipment.platform()? {
        entry["platform"] = platform.described();
    }
    if let Some(name) = name {
        entry["annotations"] = value!({ REF_NAME: name });
    }
    Ok(entry)
}

/// A directory with something in it that is no layout is somebody's.
fn refuse_foreign(path: &Path) -> Result<()> {
    let names = match fs::read_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.attempt(|| format!("cannot open {}", path.display()))?,
    };
    let names: Vec<_> = names.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
    let own = |name: &std::ffi::OsStr| name == "blobs" || name.to_string_lossy().starts_with(TEMPORARY);
    let layout = names.iter().any(|name| name == "oci-layout");
    match names.iter().find(|name| !layout && !own(name)) {
        None => Ok(()),
        Some(other) => {
            let other = other.display();
            Err(Error::unsupported(format!("{} is not a layout: there is {other} in it", path.display())))
        }
    }
}

fn add(directory: &OwnedFd, path: &Path, blob: &Descriptor, give: &mut Give<'_>) -> Result<()> {
    let digest = blob.digest()?;
    let place = blob_name(&digest);
    let failed = || format!("cannot write blob {digest} in {}", path.display());
    let there = files::stat(directory, place.as_bytes()).attempt(failed)?;
    if there.is_some_and(|stat| u64::try_from(stat.st_size) == Ok(blob.size)) {
        return Ok(());
    }
    fs::create_dir_all(path.join("blobs").join(digest.algorithm().name())).attempt(failed)?;
    let temporary = unique(TEMPORARY);
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = File::from(openat(directory, temporary.as_str(), flags, MODE).attempt(failed)?);
    let answer = fill(file, &digest, blob.size, give)
        .and_then(|_lock| renameat(directory, temporary.as_str(), directory, place.as_str()).attempt(failed));
    if answer.is_err() {
        let _ = files::unlink(directory, temporary.as_bytes());
    }
    answer
}

/// Writes and checks. The lock tells others that somebody works on the file.
fn fill(file: File, digest: &Digest, size: u64, give: &mut Give<'_>) -> Result<Flock<File>> {
    let failed = || format!("cannot write blob {digest}");
    let mut file = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno).attempt(failed)?;
    checked(digest, size, give, &mut |bytes| file.write_all(bytes).attempt(failed))?;
    Ok(file)
}

fn lock(directory: &OwnedFd) -> Result<Flock<OwnedFd>, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    files::lock(openat(directory, ".", flags, Mode::empty())?, FlockArg::LockExclusive)
}

/// Removes what writers that were killed have left.
fn sweep(directory: &OwnedFd) -> Result<(), Errno> {
    for name in files::names(directory.as_fd())? {
        let bytes = name.to_bytes();
        if !bytes.starts_with(TEMPORARY.as_bytes()) {
            continue;
        }
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let Ok(file) = openat(directory, name.as_c_str(), flags, Mode::empty()) else { continue };
        let file = File::from(file);
        // One that was made a moment ago may not be locked yet.
        let age = file.metadata().ok().and_then(|found| found.modified().ok()?.elapsed().ok()).unwrap_or_default();
        if age.as_secs() > 60 && Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok() {
            let _ = files::unlink(directory, bytes);
        }
    }
    Ok(())
}

/// `index.json` as it is now, with `entry` in it. Fields and entries that are not ours stay as they are.
fn edited(path: &Path, directory: &OwnedFd, entry: Value, name: Option<&str>, limit: u64) -> Result<Value> {
    let what = format!("index.json in {}", path.display());
    let there = files::stat(directory, b"index.json").attempt(|| format!("cannot read {what}"))?;
    let mut index = match there {
        None => value!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [] }),
        Some(_) => {
            let bytes = Blobs::open_directory(path)?.document("index.json", limit)?;
            Index::parse(&bytes, "", &what)?;
            json::parse(&bytes, &what)?
        }
    };
    let Some(manifests) = index.get_mut("manifests").and_then(Value::as_array_mut) else {
        return Err(Error::new(ErrorKind::Format, format!("{what}: there are no manifests")));
    };
    let named = |other: &Value| other.get("annotations").and_then(|all| all.get(REF_NAME)?.as_str().map(str::to_owned));
    manifests.retain(|other| match (name, named(other)) {
        (Some(name), Some(own)) => own != name,
        (None, None) => other.get("digest") != entry.get("digest"),
        _ => true,
    });
    manifests.push(entry);
    Ok(index)
}
