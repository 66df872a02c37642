//! Writable layers in directories: what a program changed, looked at afterwards. Leaves out those in memory.

use std::fs::{self, Permissions};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use keelbox_image_spec::{Changeset, Edit, Image, Store};
use keelbox_mounts::Root;
use keelbox_namespaces::IdMaps;

use crate::error::{Error, ErrorKind, Result};
use crate::spec::Spec;

/// The most of one file that [`Changes::read`] gives, in bytes.
const MOST: u64 = 1 << 30;

/// A directory made for one run, with the overlay's `upper` and `work` in it. Removed when dropped.
#[derive(Debug)]
pub(crate) struct Kept {
    directory: Option<tempfile::TempDir>,
    /// The ids of the container, if they are others than on disk.
    ids: Option<IdMaps>,
    store: PathBuf,
}

impl Kept {
    pub(crate) fn new(spec: &Spec, ids: Option<IdMaps>) -> Result<Self> {
        let store = spec.store.clone().map_or_else(crate::image::default_store, Ok)?;
        let place = store.join("runs");
        let cannot = |error| Error::os(format!("cannot make a writable layer in {}", place.display()), error);
        fs::create_dir_all(&place).map_err(cannot)?;
        let directory = tempfile::Builder::new().prefix("run-").tempdir_in(&place).map_err(cannot)?;
        for name in ["upper", "work"] {
            let made = directory.path().join(name);
            fs::create_dir(&made).map_err(cannot)?;
            // It is what the container's root looks like, and the caller's mask is nothing to it.
            fs::set_permissions(&made, fs::Permissions::from_mode(0o755)).map_err(cannot)?;
        }
        let (upper, (mode, user, group)) = (directory.path().join("upper"), spec.top);
        if nix::unistd::geteuid().is_root() && (user, group) != (0, 0) {
            std::os::unix::fs::chown(&upper, Some(user), Some(group)).map_err(cannot)?;
        }
        fs::set_permissions(&upper, Permissions::from_mode(mode)).map_err(cannot)?;
        Ok(Self { directory: Some(directory), ids, store })
    }

    /// A writable layer for one run that nobody looks at afterwards, where memory cannot mark directories as removed or
    /// replaced; nothing if the image store cannot either. Then memory has to do, and who removes or renames a directory of the
    /// image gets an I/O error.
    pub(crate) fn for_marks(spec: &Spec) -> Option<Self> {
        let made = Self::new(spec, None).ok()?;
        let directory = fs::File::open(made.path()).ok()?;
        takes_marks(directory.as_fd()).then_some(made)
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.as_ref().map_or(Path::new("/"), tempfile::TempDir::path)
    }

    pub(crate) fn upper(&self) -> PathBuf {
        self.path().join("upper")
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let Some(directory) = self.directory.take() else { return };
        if !nix::unistd::geteuid().is_root() {
            // The kernel leaves `work/work` with mode 0, which bars an ordinary user from removing it.
            open_up(directory.path());
        }
        let _removed = directory.close();
    }
}

/// Whether overlays of user namespaces can keep changes in memory. They mark directories with extended attributes of users, which
/// tmpfs has since Linux 6.6. Asked once, of a file in memory.
pub(crate) fn memory_takes_marks() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let file = nix::sys::memfd::memfd_create(c"keelbox-marks", nix::sys::memfd::MFdFlags::MFD_CLOEXEC);
        // Where such files are forbidden the kernel is a newer one.
        file.map_or(true, |file| takes_marks(file.as_fd()))
    })
}

fn takes_marks(file: BorrowedFd<'_>) -> bool {
    keelbox_launch::sys::xattr::fsetxattr(file, c"user.keelbox", b"y").is_ok()
}

/// Opens what a program has closed to its owner, so that it can be removed. Nobody else writes there any more.
fn open_up(directory: &Path) {
    let _opened = fs::set_permissions(directory, Permissions::from_mode(0o700));
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

/// How a path differs from what the image had.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ChangeKind {
    /// It is new, or its content or metadata changed.
    Written,
    /// It is gone.
    Removed,
    /// A directory that hides everything the image had in it.
    Replaced,
}

/// One path that differs from the image.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Change {
    /// The path inside.
    pub path: PathBuf,
    /// How it differs.
    pub kind: ChangeKind,
}

/// The files that a program left in its writable layer. They are removed when this is dropped.
///
/// ```no_run
/// # let image = keelbox::Image::open("oci:./debian:12")?;
/// use keelbox::Container;
/// let out = Container::from_image(&image).args(["sh", "-c", "echo hi > /result"]).keep_changes().output()?;
/// assert_eq!(out.changes()?.read("/result")?, b"hi\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Changes(Kept);

impl Changes {
    pub(crate) fn new(kept: Kept) -> Self {
        Self(kept)
    }

    /// The content of a file that was written.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if the program did not write that path; symbolic links are resolved inside.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Vec<u8>> {
        let path = path.as_ref();
        let cannot = |error: keelbox_mounts::Error| {
            let missing = error.kind() == keelbox_mounts::ErrorKind::NotFound;
            let kind = if missing { ErrorKind::NotFound } else { ErrorKind::Other };
            Error::from_part(kind, format!("cannot read {} from the changes", path.display()), error)
        };
        let root = Root::at(self.0.upper()).map_err(cannot)?;
        root.read(path, MOST).map_err(cannot)
    }

    /// Every path that differs from the image, in order; directories come before what is in them.
    ///
    /// # Errors
    ///
    /// The kernel's answer.
    pub fn diff(&self) -> Result<Vec<Change>> {
        let upper = self.0.upper();
        let mut changes = Vec::new();
        let mut pending = vec![PathBuf::new()];
        while let Some(directory) = pending.pop() {
            let cannot = |error| Error::os(format!("cannot list the changes in /{}", directory.display()), error);
            let mut entries: Vec<_> =
                fs::read_dir(upper.join(&directory)).map_err(cannot)?.collect::<Result<_, _>>().map_err(cannot)?;
            entries.sort_by_key(fs::DirEntry::file_name);
            for entry in entries {
                let inside = directory.join(entry.file_name());
                let metadata = entry.metadata().map_err(cannot)?;
                changes.push(Change { path: Path::new("/").join(&inside), kind: kind(&entry.path(), &metadata) });
                if metadata.is_dir() {
                    pending.push(inside);
                }
            }
        }
        changes.sort_by(|left, right| left.path.cmp(&right.path));
        Ok(changes)
    }

    /// Makes a new image: `image`, which the container was made from, with these changes as a further layer. It lies in the store
    /// that `image` is from, or that the container used, and has no name; [`edit`](Self::edit) can give it one.
    ///
    /// ```no_run
    /// # let image = keelbox::Image::open("oci:./debian:12")?;
    /// use keelbox::Container;
    /// let out = Container::from_image(&image).args(["apt-get", "update"]).keep_changes().output()?;
    /// let updated = out.changes()?.commit(&image)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] for files that no layer can hold, and the kernel's answer.
    pub fn commit(&self, image: &Image) -> Result<Image> {
        self.edit(image)?.commit_unnamed().map_err(crate::image::refused)
    }

    /// As [`commit`](Self::commit), for more changes, a remark in the history, and a name. The files are read when that is committed,
    /// so these changes must not be dropped before.
    ///
    /// What an ordinary user's program left belongs to the one user and group that its container had.
    ///
    /// # Errors
    ///
    /// What opening the store meets.
    pub fn edit(&self, image: &Image) -> Result<Edit> {
        let edit = match image.store() {
            Some(_) => image.edit(),
            None => image.edit().store(&Store::open(&self.0.store).map_err(crate::image::refused)?),
        };
        Ok(self.add_to(edit))
    }

    /// Adds them as a layer to what is made of an image.
    pub(crate) fn add_to(&self, edit: Edit) -> Edit {
        let mut changes = Changeset::from_upper(self.0.upper());
        if let Some(ids) = &self.0.ids {
            for range in ids.users().ranges() {
                changes = changes.uids(range.inside(), range.outside(), range.count());
            }
            for range in ids.groups().ranges() {
                changes = changes.gids(range.inside(), range.outside(), range.count());
            }
        }
        edit.add_layer(changes)
    }

    /// The directory that holds the files, as overlayfs keeps them.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        self.0.upper()
    }
}

/// As overlayfs marks it: a character device 0:0 for what is gone, an extended attribute for a directory that hides the lower one.
fn kind(path: &Path, metadata: &fs::Metadata) -> ChangeKind {
    if metadata.file_type().is_char_device() && metadata.rdev() == 0 {
        return ChangeKind::Removed;
    }
    let opaque = |name: &std::ffi::CStr| {
        let (directory, mut value) = (fs::File::open(path).ok()?, [0u8; 4]);
        let length =
            keelbox_launch::sys::xattr::fgetxattr(std::os::fd::AsFd::as_fd(&directory), name, &mut value).ok()?;
        value.get(..length).map(<[u8]>::to_vec)
    };
    let replaced = metadata.is_dir()
        && [c"trusted.overlay.opaque", c"user.overlay.opaque"]
            .iter()
            .any(|name| opaque(name).is_some_and(|value| value == b"y"));
    if replaced { ChangeKind::Replaced } else { ChangeKind::Written }
}
