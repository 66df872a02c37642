//! What unpacking returns: the layer directories and what a caller needs to stack them.
//!
//! Job: the order and selection that overlayfs needs, and questions about the stack that need no mount. Leaves out
//! mounting it.

use super::Present;
use super::attributes::Dialect;
use super::note::{self, Note};
use crate::lease::Lease;
use crate::view::Layers;
use crate::{Digest, Error, ErrorKind, ResolvedUser, Result, Store, User};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An unpacked image. As long as it, or a clone of it, lives, a [`Collector`](crate::Collector) in any process leaves its layers
/// alone; so keep it as long as something is mounted from them, or [`pin`](Self::pin) them.
#[derive(Clone, Debug)]
pub struct Unpacked {
    layers: Vec<UnpackedLayer>,
    dialect: Dialect,
    root: RootMetadata,
    store: Store,
    _lease: Arc<Lease>,
}

/// Owner and mode of the image's root directory. overlayfs shows those of the upper directory, which is the caller's to
/// make, so give it these.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct RootMetadata {
    /// Permission bits. Default `0o755`.
    pub mode: u32,
    /// User id. Default 0.
    pub uid: u32,
    /// Group id. Default 0.
    pub gid: u32,
}

/// One layer directory.
#[derive(Clone, Debug)]
pub struct UnpackedLayer {
    key: String,
    path: PathBuf,
    diff_id: Digest,
    store: Store,
}

impl UnpackedLayer {
    /// The directory for `lowerdir`, an absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The layer's name in the store, for [`Store::remove_layer`].
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The digest of the uncompressed layer.
    #[must_use]
    pub fn diff_id(&self) -> &Digest {
        &self.diff_id
    }

    /// What could not be put on disk as the image says it. Empty for almost every layer unpacked by root.
    ///
    /// # Errors
    /// What the kernel says, and `Format` for a damaged store.
    pub fn notes(&self) -> Result<Vec<Note>> {
        note::parse(&self.store.index(&self.key)?)
    }
}

impl Unpacked {
    pub(super) fn new(store: &Store, present: Vec<Present>, lease: Lease) -> Result<Self> {
        let dialect = present.first().map_or(Dialect::Trusted, |first| first.done.dialect);
        if present.iter().any(|layer| layer.done.dialect != dialect) {
            let what =
                "layers were unpacked by root and by an ordinary user, and overlayfs reads only one kind of mark";
            return Err(Error::unsupported(format!("the store {}: {what}", store.path().display())));
        }
        let (mut mode, mut uid, mut gid) = (0o755, 0, 0);
        if let Some(root) = present.iter().rev().find_map(|layer| layer.done.root) {
            (mode, uid, gid) = root;
        }
        // From the top: a directory may not be stacked twice, and a layer whose root is opaque ends the stack.
        let mut layers: Vec<UnpackedLayer> = Vec::new();
        for Present { key, done } in present.into_iter().rev() {
            if layers.iter().all(|layer| layer.key != key) {
                let path = store.layer_path(&key);
                layers.push(UnpackedLayer { key, path, diff_id: done.diff_id, store: store.clone() });
            }
            if done.root_opaque {
                break;
            }
        }
        layers.reverse();
        Ok(Self {
            layers,
            dialect,
            root: RootMetadata { mode, uid, gid },
            store: store.clone(),
            _lease: Arc::new(lease),
        })
    }

    /// The layer directories, bottom first. A layer that an image has twice is there once, where it is highest; an image
    /// without layers has none.
    #[must_use]
    pub fn layers(&self) -> &[UnpackedLayer] {
        &self.layers
    }

    /// Keeps the layers in the store for `id`, a container whose process is `pid`: until [`Store::unpin`], or until that
    /// process is gone, whichever is first. For what outlives the program that unpacked it.
    ///
    /// # Errors
    /// `Format` for what cannot be an id, `Os(ESRCH)` when there is no such process, and what the kernel says.
    pub fn pin(&self, id: &str, pid: u32) -> Result<()> {
        self.store.pin(id, pid, self.layers.iter().map(UnpackedLayer::key))
    }

    /// Whether overlayfs must be mounted with `userxattr` (Linux 5.11), because the layers were unpacked by an ordinary user.
    #[must_use]
    pub fn needs_userxattr(&self) -> bool {
        self.dialect == Dialect::User
    }

    /// Owner and mode of the root directory.
    #[must_use]
    pub fn root(&self) -> RootMetadata {
        self.root
    }

    /// The layers as one tree, to read files without mounting.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn view(&self) -> Result<Layers> {
        let open = |layer: &UnpackedLayer| self.store.layer_directory(&layer.key).map(Arc::new);
        Ok(Layers::new(self.layers.iter().rev().map(open).collect::<Result<_>>()?, self.dialect))
    }

    /// Looks a user up in the image's own `/etc/passwd` and `/etc/group`. A file that is missing counts as empty.
    ///
    /// # Errors
    /// As [`User::resolve`] and [`Layers::read`].
    pub fn resolve_user(&self, user: &User) -> Result<ResolvedUser> {
        let view = self.view()?;
        let read = |path: &str| match view.read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            other => other,
        };
        user.resolve(&read("etc/passwd")?, &read("etc/group")?)
    }
}
