//! Changing images: "the hard way" made easy.
//!
//! Job: the builder that collects what is to be done to an image. Nothing is read or written before
//! [`commit`](Edit::commit), which does it all in the order it was asked for and mends what follows from it: digests, history,
//! sizes, times. Leaves out running programs for a layer, and what else images can be made of.

mod config;
mod rebase;
mod state;
mod time;

pub(crate) use config::Change;

use crate::{Changeset, Compression, Image, Platform, Result, Store};
use std::ops::{Bound, RangeBounds};
use std::path::PathBuf;

/// One thing to be done.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Change(Change),
    Layer(Box<Changeset>),
    /// Layers from this index up to but without that, or to the top.
    Squash(usize, Option<usize>),
    SquashTop(usize),
    Rebase(Box<(Image, Image)>),
    Recompress(Compression),
    Annotate(String, String),
    /// What the history says about the next step.
    Remark(String),
}

/// An image being changed. Setters cannot fail; [`commit`](Self::commit) can.
///
/// ```
/// use keelbox_image_spec::{Changeset, Edit, Store};
/// let directory = tempfile::tempdir()?;
/// let store = Store::open(directory.path().join("store"))?;
/// Edit::scratch(&store).add_layer(Changeset::new().bytes("/app", "#!/bin/sh\n", 0o755)).commit("app:1")?;
///
/// let image = store.get("app:1")?.edit().entrypoint(["/app"]).env("A", "b").squash(..).commit("app:2")?;
/// assert_eq!(image.config().entrypoint(), ["/app"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Edit {
    pub(crate) image: Option<Image>,
    pub(crate) store: Option<Store>,
    pub(crate) platform: Option<Platform>,
    pub(crate) epoch: Option<i64>,
    pub(crate) compression: Compression,
    pub(crate) steps: Vec<Step>,
}

impl Image {
    /// Begins to change this image; the image itself stays as it is.
    pub fn edit(&self) -> Edit {
        Edit { image: Some(self.clone()), store: self.store().cloned(), ..Edit::empty() }
    }
}

macro_rules! changes {
    ($($(#[$doc:meta])* $name:ident($($argument:ident: $kind:ty),*) => $change:expr;)*) => {
        impl Edit {$(
            $(#[$doc])*
            pub fn $name(self, $($argument: $kind),*) -> Self {
                self.step(Step::Change($change))
            }
        )*}
    };
}

changes! {
    /// One variable of the environment, in the place of an earlier one of that name.
    env(name: impl Into<String>, value: impl Into<String>) => Change::Env(name.into(), Some(value.into()));
    /// Takes a variable out of the environment.
    remove_env(name: impl Into<String>) => Change::Env(name.into(), None);
    /// What every command line begins with. Empty: nothing.
    entrypoint(arguments: impl IntoIterator<Item = impl Into<String>>) => Change::Entrypoint(texts(arguments));
    /// The default arguments. Empty: none.
    cmd(arguments: impl IntoIterator<Item = impl Into<String>>) => Change::Cmd(texts(arguments));
    /// Who programs run as: `name`, `uid`, `name:group` or `uid:gid`. Empty: root.
    user(user: impl Into<String>) => Change::User(user.into());
    /// The working directory, an absolute path.
    working_dir(path: impl Into<String>) => Change::WorkingDir(path.into());
    /// A label, in the place of an earlier one of that name.
    label(name: impl Into<String>, value: impl Into<String>) => Change::Label(name.into(), Some(value.into()));
    /// Takes a label away.
    remove_label(name: impl Into<String>) => Change::Label(name.into(), None);
    /// A port that programs listen on, such as `80` or `53/udp`.
    expose(port: impl Into<String>) => Change::Port(port.into());
    /// A path whose data should not be part of the container.
    volume(path: impl Into<String>) => Change::Volume(path.into());
    /// The signal that asks the program to stop, such as `SIGTERM`.
    stop_signal(signal: impl Into<String>) => Change::StopSignal(signal.into());
    /// Who made the image.
    author(author: impl Into<String>) => Change::Author(author.into());
    /// The processor that the image is for, such as `arm64`.
    architecture(architecture: impl Into<String>) => Change::Architecture(architecture.into());
}

fn texts(texts: impl IntoIterator<Item = impl Into<String>>) -> Vec<String> {
    texts.into_iter().map(Into::into).collect()
}

impl Edit {
    fn empty() -> Self {
        Self {
            image: None,
            store: None,
            platform: None,
            epoch: None,
            compression: Compression::default(),
            steps: Vec::new(),
        }
    }

    /// An image without layers for this machine's platform, to be committed into `store`.
    pub fn scratch(store: &Store) -> Self {
        Self { store: Some(store.clone()), ..Self::empty() }
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Where the image is committed to. Default: the store that it is from; an image that is from none needs one.
    pub fn store(mut self, store: &Store) -> Self {
        self.store = Some(store.clone());
        self
    }

    /// The platform of the image. Default: as it was; this machine's for one from nothing.
    pub fn platform(mut self, platform: Platform) -> Self {
        self.platform = Some(platform);
        self
    }

    /// When the image was made, in seconds since 1970, which no time in its new layers is later than: what builds call
    /// `SOURCE_DATE_EPOCH`. With it, the same input gives the same image. Default: now, and files keep their times.
    pub fn epoch(mut self, seconds: i64) -> Self {
        self.epoch = Some(seconds);
        self
    }

    /// How new layers are compressed. Default: [`Compression::Gzip`].
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// What the history says about the next thing that is done. Default: a few words about it.
    pub fn created_by(self, text: impl Into<String>) -> Self {
        self.step(Step::Remark(text.into()))
    }

    /// A layer on top. One without entries is only a line of the history.
    pub fn add_layer(self, changes: Changeset) -> Self {
        self.step(Step::Layer(Box::new(changes)))
    }

    /// A layer with everything in the directory `source` of this machine, below the directory `target` of the image. See
    /// [`Changeset::directory`].
    pub fn add_dir(self, source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        self.add_layer(Changeset::new().directory(source, target))
    }

    /// Makes one layer of several: `..` of all, `2..` of all but the lowest two. Nothing is unpacked; what upper layers delete or
    /// replace is left out.
    pub fn squash(self, layers: impl RangeBounds<usize>) -> Self {
        let first = match layers.start_bound() {
            Bound::Included(first) => *first,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match layers.end_bound() {
            Bound::Included(last) => Some(last.saturating_add(1)),
            Bound::Excluded(end) => Some(*end),
            Bound::Unbounded => None,
        };
        self.step(Step::Squash(first, end))
    }

    /// Makes one layer of the uppermost `count`.
    pub fn squash_top(self, count: usize) -> Self {
        self.step(Step::SquashTop(count))
    }

    /// Puts the layers that this image has on top of `old` on top of `new` instead. Settings that are still those of `old` become
    /// those of `new`, and the annotations `org.opencontainers.image.base.*` say what the image is based on now. Whether the
    /// layers fit their new ground, nobody checks.
    pub fn rebase(self, old: &Image, new: &Image) -> Self {
        self.step(Step::Rebase(Box::new((old.clone(), new.clone()))))
    }

    /// Compresses all layers that are compressed otherwise anew. What is in them stays the same.
    pub fn recompress(self, compression: Compression) -> Self {
        self.step(Step::Recompress(compression))
    }

    /// An annotation of the manifest, in the place of an earlier one of that name.
    pub fn annotate(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.step(Step::Annotate(name.into(), value.into()))
    }

    /// Does everything and gives the image this name, which another one then loses.
    ///
    /// # Errors
    /// `Format` for what is not a name or a value that means nothing, `Unsupported` for an image that is from no store when none is
    /// named and for entries that no layer can hold, `NotFound` for sources that are not there, and what the kernel says; each with
    /// the entry that it is about. Nothing is named then.
    pub fn commit(&self, name: &str) -> Result<Image> {
        let name = crate::Reference::parse(name)?;
        let store = self.destination()?;
        let (digest, _content, merged) = state::run(self, store)?;
        let image = store.name_manifest(&digest, name)?;
        merged.into_iter().for_each(|merged| image.remember(merged));
        Ok(image)
    }

    /// As [`commit`](Self::commit), but without a name: the image stays as long as what is returned, or until somebody collects the garbage of the store.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn commit_unnamed(&self) -> Result<Image> {
        let store = self.destination()?;
        let (digest, _content, merged) = state::run(self, store)?;
        let image = store.get_unnamed(&digest)?;
        merged.into_iter().for_each(|merged| image.remember(merged));
        Ok(image)
    }

    fn destination(&self) -> Result<&Store> {
        self.store
            .as_ref()
            .ok_or_else(|| crate::Error::unsupported("the image is from no store, and none was named to commit it to"))
    }
}
