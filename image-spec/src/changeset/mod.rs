//! What goes into one new layer: a changeset, in the words of image-spec `layer.md`.
//!
//! Job: say where entries come from, put them into one tree as the layers below want it, and write that as an archive that
//! is the same for the same content. Leaves out the image around it (`edit`), and sockets, which no archive can hold.
//! Oldest kernel: any supported one.

mod archive;
mod content;
mod difference;
mod graft;
mod header;
mod parts;
mod tree;
mod walk;
mod way;
mod write;

pub(crate) use archive::read as read_archive;
pub(crate) use tree::Tree;
pub(crate) use write::write;

use crate::Image;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a filter of [`Changeset::pick`] says about a path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Pick {
    /// It goes into the layer.
    Take,
    /// It is left out; of a directory everything in it as well.
    Leave,
    /// A directory that is left out, in which something may be that is taken.
    Look,
}

/// Whose the entries of a changeset are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Owner {
    /// As the sources have it.
    Kept,
    /// User and group.
    Fixed(u32, u32),
}

type Filter = Arc<dyn Fn(&Path) -> Pick + Send + Sync>;

/// One source of entries.
#[derive(Clone)]
enum Part {
    /// The content of a directory, to a path inside.
    Directory {
        source: PathBuf,
        target: PathBuf,
        pick: Option<Filter>,
    },
    /// A file, a link or a device, under a path inside.
    File {
        source: PathBuf,
        below: PathBuf,
        target: PathBuf,
    },
    Bytes {
        target: PathBuf,
        content: Arc<[u8]>,
        mode: u32,
    },
    /// An empty directory, unless there is one.
    Made {
        target: PathBuf,
    },
    Removed {
        target: PathBuf,
    },
    Archive {
        source: PathBuf,
        target: PathBuf,
    },
    /// A file of another image, or what is in a directory of it.
    Image {
        image: Image,
        source: PathBuf,
        target: PathBuf,
    },
    Upper {
        source: PathBuf,
    },
    Difference {
        old: PathBuf,
        new: PathBuf,
    },
}

/// The content of a new layer, for [`Edit::add_layer`](crate::Edit::add_layer).
///
/// Symbolic links in sources are never followed and go into the layer as they are; only the paths given here are. Paths
/// inside lead through the links that the image has. Entries are in the order of their names' bytes; each directory that something
/// is put into is in the layer with the attributes that it has below, or as mode 0755 of root; so the same sources make the same
/// archive on every machine.
///
/// ```
/// use keelbox_image_spec::{Changeset, Edit, Store};
/// let directory = tempfile::tempdir()?;
/// let store = Store::open(directory.path().join("store"))?;
/// let files = Changeset::new().bytes("/etc/motd", "hello\n", 0o644).remove("/etc/issue").owner(0, 0);
/// let image = Edit::scratch(&store).add_layer(files).epoch(0).commit("motd:1")?;
/// assert_eq!(image.layers().len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct Changeset {
    parts: Vec<Part>,
    owner: Option<Owner>,
    mode: Option<u32>,
    ids: Vec<IdRange>,
}

/// Ids of the sources that are others in the image.
#[derive(Clone, Copy, Debug)]
struct IdRange {
    outside: u32,
    inside: u32,
    count: u32,
    group: bool,
}

impl std::fmt::Debug for Changeset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Changeset")
            .field("parts", &self.parts.len())
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

impl Default for Changeset {
    fn default() -> Self {
        Self::new()
    }
}

impl Changeset {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { parts: Vec::new(), owner: None, mode: None, ids: Vec::new() }
    }

    /// What a program left in the upper directory of an overlay. See [`upper`](Self::upper).
    pub fn from_upper(directory: impl Into<PathBuf>) -> Self {
        Self::new().upper(directory)
    }

    /// What makes the tree `new` of the tree `old`. See [`difference`](Self::difference).
    pub fn between(old: impl Into<PathBuf>, new: impl Into<PathBuf>) -> Self {
        Self::new().difference(old, new)
    }

    /// The entries of a tar archive, at the root. See [`archive`](Self::archive).
    pub fn from_archive(file: impl Into<PathBuf>) -> Self {
        Self::new().archive(file, "/")
    }

    fn part(mut self, part: Part) -> Self {
        self.parts.push(part);
        self
    }

    /// Everything in the directory `source` of this machine goes into the directory `target` of the image. They are root's
    /// unless [`owner`](Self::owner) or [`keep_owners`](Self::keep_owners) says otherwise. A directory that the image has already
    /// keeps its attributes, and a link of the image to a directory stays one.
    pub fn directory(self, source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        self.part(Part::Directory { source: source.into(), target: target.into(), pick: None })
    }

    /// As [`directory`](Self::directory), but only what `pick` takes; it is asked about each path relative to `source`.
    pub fn pick(
        self,
        source: impl Into<PathBuf>,
        target: impl Into<PathBuf>,
        pick: impl Fn(&Path) -> Pick + Send + Sync + 'static,
    ) -> Self {
        let pick: Option<Filter> = Some(Arc::new(pick));
        self.part(Part::Directory { source: source.into(), target: target.into(), pick })
    }

    /// The file `source` of this machine, under the path `target` of the image, or under its own name in that if it is a directory
    /// of the image. A symbolic link stays one.
    pub fn file(self, source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        let source = source.into();
        let name = source.file_name().map(PathBuf::from).unwrap_or_default();
        let parent = source.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.map_or_else(|| PathBuf::from("."), Path::to_owned);
        self.part(Part::File { source: parent, below: name, target: target.into() })
    }

    /// The file `below` in the directory `source` of this machine, reached through no symbolic link, under the path `target` of
    /// the image.
    pub fn file_below(self, source: impl Into<PathBuf>, below: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        self.part(Part::File { source: source.into(), below: below.into(), target: target.into() })
    }

    /// A file with this content and mode, of the time 0.
    pub fn bytes(self, target: impl Into<PathBuf>, content: impl Into<Vec<u8>>, mode: u32) -> Self {
        let content: Vec<u8> = content.into();
        self.part(Part::Bytes { target: target.into(), content: content.into(), mode })
    }

    /// A directory, unless the image has it already.
    pub fn make_directory(self, target: impl Into<PathBuf>) -> Self {
        self.part(Part::Made { target: target.into() })
    }

    /// Takes a path of the image away, and everything in it.
    pub fn remove(self, target: impl Into<PathBuf>) -> Self {
        self.part(Part::Removed { target: target.into() })
    }

    /// The entries of the tar archive `file`, plain or compressed, as a layer would have them: whiteouts delete. Their owners are
    /// kept.
    pub fn archive(self, file: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        self.part(Part::Archive { source: file.into(), target: target.into() })
    }

    /// The file `source` of another image under the path `target`, or what is in the directory `source` in the directory `target`.
    /// Nothing is unpacked for it.
    pub fn image(self, image: &Image, source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        self.part(Part::Image { image: image.clone(), source: source.into(), target: target.into() })
    }

    /// What is in the upper directory of an overlay, with deletions and opaque directories, whether root or an ordinary user
    /// mounted it. Owners are kept. Files that only refer to a lower directory (metacopy, redirect) are `Unsupported`.
    pub fn upper(self, directory: impl Into<PathBuf>) -> Self {
        self.part(Part::Upper { source: directory.into() })
    }

    /// What makes the tree `new` of the tree `old`: everything that differs in type, owner, mode, time, attributes or content, and
    /// deletions. Owners are kept.
    pub fn difference(self, old: impl Into<PathBuf>, new: impl Into<PathBuf>) -> Self {
        self.part(Part::Difference { old: old.into(), new: new.into() })
    }

    /// Gives every entry this owner. Default: 0:0 for files that are copied; archives, uppers and differences keep theirs.
    pub fn owner(mut self, uid: u32, gid: u32) -> Self {
        self.owner = Some(Owner::Fixed(uid, gid));
        self
    }

    /// Lets copied files keep their owner.
    pub fn keep_owners(mut self) -> Self {
        self.owner = Some(Owner::Kept);
        self
    }

    /// Gives every file and directory of the sources this mode. Default: as they have it.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode);
        self
    }

    /// User ids from `outside` on, `count` of them, are those from `inside` on in the image, as in a user namespace. An id that no
    /// such range has is then an error. Default: ids are the image's.
    pub fn uids(mut self, inside: u32, outside: u32, count: u32) -> Self {
        self.ids.push(IdRange { outside, inside, count, group: false });
        self
    }

    /// As [`uids`](Self::uids), for groups.
    pub fn gids(mut self, inside: u32, outside: u32, count: u32) -> Self {
        self.ids.push(IdRange { outside, inside, count, group: true });
        self
    }
}
