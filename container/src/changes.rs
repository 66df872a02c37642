//! What a program changed: its writable layer, looked at afterwards.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use keelbox_mounts::Root;

use crate::error::{Error, ErrorKind, Result};
use crate::spec::Spec;

/// The most of one file that [`Changes::read`] gives, in bytes.
const MOST: u64 = 1 << 30;

/// A directory made for one run, with the overlay's `upper` and `work` in it. Removed when dropped.
#[derive(Debug)]
pub(crate) struct Kept {
    directory: Option<tempfile::TempDir>,
}

impl Kept {
    pub(crate) fn new(spec: &Spec) -> Result<Self> {
        let place = spec.store.clone().map_or_else(crate::image::default_store, Ok)?.join("runs");
        let cannot = |error| Error::os(format!("cannot make a writable layer in {}", place.display()), error);
        fs::create_dir_all(&place).map_err(cannot)?;
        let directory = tempfile::Builder::new().prefix("run-").tempdir_in(&place).map_err(cannot)?;
        for name in ["upper", "work"] {
            fs::create_dir(directory.path().join(name)).map_err(cannot)?;
        }
        Ok(Self { directory: Some(directory) })
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
        use std::os::unix::fs::PermissionsExt;
        // The kernel leaves `work/work` with mode 0, which bars an ordinary user from removing it.
        let _opened = fs::set_permissions(self.path().join("work/work"), fs::Permissions::from_mode(0o700));
        let _removed = self.directory.take().map(tempfile::TempDir::close);
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
