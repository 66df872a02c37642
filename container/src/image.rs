//! Images as root file systems: where they are unpacked, and what can go wrong with them.

use std::path::{Path, PathBuf};

use keelbox_image_spec::{Image, Store, Unpacked};

use crate::error::{Error, ErrorKind, Result};

/// `image` unpacked in `store` or the calling user's default store.
pub(crate) fn unpack(image: &Image, store: Option<&Path>) -> Result<Unpacked> {
    let path = store.map_or_else(default_store, |path| Ok(path.to_owned()))?;
    let store = Store::open(&path).map_err(refused)?;
    image.unpack(&store).map_err(refused)
}

/// Keeps the layers of the container `id` in their store as long as its process lives, whoever collects garbage there and whether
/// this program still runs.
pub(crate) fn pin(image: Option<&Unpacked>, id: &str, pid: u32) -> Result<()> {
    image.map_or(Ok(()), |image| image.pin(&format!("{id}.{pid}"), pid)).map_err(refused)
}

/// Root's store is the machine's; everybody else's is below their home directory.
pub(crate) fn default_store() -> Result<PathBuf> {
    let user = nix::unistd::geteuid();
    if user.is_root() {
        return Ok(PathBuf::from("/var/lib/keelbox"));
    }
    let entry = nix::unistd::User::from_uid(user).ok().flatten();
    let home = entry.map(|entry| entry.dir).filter(|home| home.is_dir());
    home.map(|home| home.join(".local/share/keelbox")).ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("cannot find a place for images: user {user} has no home directory"))
            .with_hint("name one with store()")
    })
}

/// An image's error by our kinds.
pub(crate) fn refused(error: keelbox_image_spec::Error) -> Error {
    Error::from_part(kind(&error), "cannot use the image", error)
}

/// The kind of an image's error among ours.
pub(crate) fn kind(error: &keelbox_image_spec::Error) -> ErrorKind {
    use keelbox_image_spec::ErrorKind as Kind;
    match error.kind() {
        Kind::NotFound | Kind::Ambiguous => ErrorKind::NotFound,
        Kind::Unsupported => ErrorKind::Unsupported,
        Kind::DigestMismatch | Kind::SizeMismatch | Kind::Format => ErrorKind::Damaged,
        Kind::Limit => ErrorKind::Limit,
        Kind::Os(1 | 13) => ErrorKind::PermissionDenied,
        Kind::Os(number) => ErrorKind::Os(number),
        _ => ErrorKind::Other,
    }
}
