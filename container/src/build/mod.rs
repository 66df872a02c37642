//! Images that are built: files copied in, programs run, settings made, one step after another.
//!
//! Job: the builder, filled in by calls or from a build file as Docker has it. Each step makes an image of its own without a
//! name, found again by what went into it, so a step whose input is the same is not done twice. Works for root and for an ordinary user,
//! whose files in an image are those of one user. Leaves out fetching bases, and building for other processors.

mod cache;
mod copy;
mod dockerfile;
mod instruction;
mod patterns;
mod perform;
mod words;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keelbox_image_spec::{Compression, Image, Store};

use self::instruction::{Base, Command, Copy, Instruction, Line, Stage};
use crate::builder::IntoArguments;
use crate::error::{Error, ErrorKind, Result};
use crate::network::Network;
use crate::stdio::Stdio;

type Watch = Arc<dyn Fn(&BuildStep) + Send + Sync>;
type Fetch = Arc<dyn Fn(&str) -> Result<Image, Box<dyn std::error::Error + Send + Sync>> + Send + Sync>;

/// A step of a build that is about to be done, or was found done.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct BuildStep {
    /// From 1.
    pub number: usize,
    /// How many there are.
    pub total: usize,
    /// The instruction.
    pub text: String,
    /// Whether it was done before with the same input.
    pub cached: bool,
}

/// An image to be built.
///
/// ```no_run
/// # let debian = keelbox::Image::open("oci:./debian:12")?;
/// use keelbox::Build;
/// let image = Build::from_image(&debian)
///     .copy("src", "/srv/")
///     .workdir("/srv")
///     .run("make install")
///     .env("LANG", "C.UTF-8")
///     .entrypoint(["/usr/local/bin/app"])
///     .commit("app:1")?;
/// let image = Build::from_dockerfile("./Dockerfile")?.argument("VERSION", "2").commit("app:2")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use = "nothing is built before commit()"]
pub struct Build {
    stages: Vec<Stage>,
    /// The build file, for messages.
    file: Option<PathBuf>,
    escape: char,
    /// Arguments that the file declares before its first stage.
    globals: Vec<(String, Option<String>)>,
    arguments: BTreeMap<String, String>,
    context: PathBuf,
    images: BTreeMap<String, Image>,
    fetch: Option<Fetch>,
    target: Option<String>,
    store: Option<PathBuf>,
    epoch: Option<i64>,
    compression: Compression,
    network: Network,
    streams: [Stdio; 2],
    cached: bool,
    watch: Option<Watch>,
}

impl fmt::Debug for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Build").field("file", &self.file).field("stages", &self.stages).finish_non_exhaustive()
    }
}

impl Build {
    fn new(base: Base, context: PathBuf) -> Self {
        Self {
            stages: vec![Stage::new(base, None, 0)],
            file: None,
            escape: '\\',
            globals: Vec::new(),
            arguments: BTreeMap::new(),
            context,
            images: BTreeMap::new(),
            fetch: None,
            target: None,
            store: None,
            epoch: None,
            compression: Compression::default(),
            network: Network::None,
            streams: [Stdio::piped(), Stdio::piped()],
            cached: true,
            watch: None,
        }
    }

    /// Begins with an image.
    pub fn from_image(image: &Image) -> Self {
        Self::new(Base::Image(image.clone()), PathBuf::from("."))
    }

    /// Begins with nothing.
    pub fn from_scratch() -> Self {
        Self::new(Base::Scratch, PathBuf::from("."))
    }

    /// Reads a build file. Its context, from which files are copied, is the directory that it lies in, without what the file
    /// `.dockerignore` there names.
    ///
    /// Known are `FROM` with stages, `RUN`, `COPY`, `ADD` of files and archives, `ENV`, `ARG`, `LABEL`, `WORKDIR`, `USER`, `ENTRYPOINT`,
    /// `CMD`, `EXPOSE`, `VOLUME`, `STOPSIGNAL`, `SHELL`, `MAINTAINER`, here-documents, and variables. Names of bases are those
    /// of the store, and `oci:`, `oci-archive:` and `docker-archive:` as [`Image::open`] takes them; [`image`](Self::image) and
    /// [`fetch`](Self::fetch) know more.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] for what no build file may hold, [`ErrorKind::Unsupported`] for instructions that are not known
    /// here, both with the number of the line, and the kernel's answer.
    pub fn from_dockerfile(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let cannot = |error| Error::os(format!("cannot read {}", path.display()), error);
        let text = std::fs::read(path).map_err(cannot)?;
        let text = String::from_utf8(text)
            .map_err(|_| Error::new(ErrorKind::Invalid, format!("cannot read {}: it is not UTF-8", path.display())))?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let context = parent.map_or_else(|| PathBuf::from("."), Path::to_owned);
        let parsed = dockerfile::parse(&text, path)?;
        let (file, escape) = (Some(path.to_owned()), parsed.escape);
        Ok(Self { stages: parsed.stages, globals: parsed.globals, file, escape, ..Self::new(Base::Scratch, context) })
    }

    /// The directory from which files are copied. Default: that of the build file, or the working directory.
    pub fn context(mut self, directory: impl Into<PathBuf>) -> Self {
        self.context = directory.into();
        self
    }

    /// The value of an argument that the build file declares. Default: as the file has it.
    pub fn argument(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.arguments.insert(name.into(), value.into());
        self
    }

    /// The image that `FROM name` means. Default: the store's.
    pub fn image(mut self, name: impl Into<String>, image: &Image) -> Self {
        self.images.insert(name.into(), image.clone());
        self
    }

    /// Asked for images that nobody knows. Default: such an image is an error.
    pub fn fetch(
        mut self,
        fetch: impl Fn(&str) -> Result<Image, Box<dyn std::error::Error + Send + Sync>> + Send + Sync + 'static,
    ) -> Self {
        self.fetch = Some(Arc::new(fetch));
        self
    }

    /// The stage that becomes the image, by name or number. Default: the last one.
    pub fn target(mut self, stage: impl Into<String>) -> Self {
        self.target = Some(stage.into());
        self
    }

    /// The store that everything is made in. Default: as [`Container::store`](crate::Container::store).
    pub fn store(mut self, directory: impl Into<PathBuf>) -> Self {
        self.store = Some(directory.into());
        self
    }

    /// When the image was made, in seconds since 1970 (`SOURCE_DATE_EPOCH`); no time in its layers is later, so the same input makes the same
    /// image. Default: now.
    pub fn epoch(mut self, seconds: i64) -> Self {
        self.epoch = Some(seconds);
        self
    }

    /// How layers are compressed. Default: gzip.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// The network of programs that are run. Default: none. With the host's they also see its `/etc/resolv.conf`.
    pub fn network(mut self, network: Network) -> Self {
        self.network = network;
        self
    }

    /// Where standard output of programs goes. Default: kept, for the error if one fails.
    pub fn stdout(mut self, output: impl Into<Stdio>) -> Self {
        self.streams[0] = output.into();
        self
    }

    /// Where standard error of programs goes. Default: kept, for the error if one fails.
    pub fn stderr(mut self, errors: impl Into<Stdio>) -> Self {
        self.streams[1] = errors.into();
        self
    }

    /// Does every step again. Default: what was done with the same input is not.
    pub fn no_cache(mut self) -> Self {
        self.cached = false;
        self
    }

    /// Told of every step before it is done. Default: nobody is.
    pub fn on_step(mut self, watch: impl Fn(&BuildStep) + Send + Sync + 'static) -> Self {
        self.watch = Some(Arc::new(watch));
        self
    }

    /// Builds the image and gives it this name.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Failed`] for a program that fails, with the end of what it wrote; [`ErrorKind::NotFound`] for images, stages and
    /// files that are not there; [`ErrorKind::Invalid`] for what means nothing; each with the line of the build file. What was done
    /// before stays for the next time.
    pub fn commit(&self, name: &str) -> Result<Image> {
        let image = self.perform()?;
        let cannot =
            |error| Error::from_part(crate::image::kind(&error), format!("cannot name the image {name:?}"), error);
        self.open_store()?.add(&image, name).map_err(cannot)
    }

    /// As [`commit`](Self::commit), but without a name.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit).
    pub fn commit_unnamed(&self) -> Result<Image> {
        self.perform()
    }

    fn open_store(&self) -> Result<Store> {
        let path = self.store.clone().map_or_else(crate::image::default_store, Ok)?;
        Store::open(path).map_err(crate::image::refused)
    }
}

/// Steps, as a build file has them; values are taken as they are.
impl Build {
    fn step(mut self, text: String, instruction: Instruction) -> Self {
        if let Some(stage) = self.stages.last_mut() {
            stage.lines.push(Line { number: 0, text, instruction });
        }
        self
    }

    fn literal(&self, value: &str) -> String {
        words::literal(value, self.escape)
    }

    /// A step with one value.
    fn one(self, word: &str, value: impl Into<String>, make: impl FnOnce(String) -> Instruction) -> Self {
        let value = value.into();
        let instruction = make(self.literal(&value));
        self.step(format!("{word} {value}"), instruction)
    }

    /// A step with a name and its value.
    fn pair(
        self,
        word: &str,
        (name, value): (String, String),
        make: impl FnOnce(Vec<(String, String)>) -> Instruction,
    ) -> Self {
        let instruction = make(vec![(self.literal(&name), self.literal(&value))]);
        self.step(format!("{word} {name}={value}"), instruction)
    }

    /// `COPY`: files or the content of directories of the context, where `*` and `?` stand for parts of names. A target that
    /// ends in a slash is a directory.
    pub fn copy(self, source: impl Into<String>, target: impl Into<String>) -> Self {
        let (source, target) = (source.into(), target.into());
        let copy = Copy::new(vec![self.literal(&source)], self.literal(&target));
        self.step(format!("COPY {source} {target}"), Instruction::Copy(copy))
    }

    /// `RUN`: a command for `/bin/sh`, which must succeed.
    pub fn run(self, command: impl Into<String>) -> Self {
        let command = command.into();
        self.step(format!("RUN {command}"), Instruction::Run(Command::Shell(command)))
    }

    /// `RUN`: a program with arguments, which must succeed.
    pub fn run_args(self, arguments: impl IntoArguments) -> Self {
        let arguments = arguments.into_arguments();
        self.step(format!("RUN {}", serde_json::json!(arguments)), Instruction::Run(Command::Exec(arguments)))
    }

    /// `ENV`: a variable of the environment.
    pub fn env(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.pair("ENV", (name.into(), value.into()), Instruction::Env)
    }

    /// `LABEL`.
    pub fn label(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.pair("LABEL", (name.into(), value.into()), Instruction::Label)
    }

    /// `WORKDIR`: the directory of later steps and of the image, made if it is missing.
    pub fn workdir(self, path: impl Into<String>) -> Self {
        self.one("WORKDIR", path, Instruction::Workdir)
    }

    /// `USER`: who later steps and programs of the image run as.
    pub fn user(self, user: impl Into<String>) -> Self {
        self.one("USER", user, Instruction::User)
    }

    /// `ENTRYPOINT`. The command of the base goes, unless this build sets one.
    pub fn entrypoint(self, arguments: impl IntoArguments) -> Self {
        let arguments = arguments.into_arguments();
        let text = format!("ENTRYPOINT {}", serde_json::json!(arguments));
        self.step(text, Instruction::Entrypoint(Command::Exec(arguments)))
    }

    /// `CMD`.
    pub fn cmd(self, arguments: impl IntoArguments) -> Self {
        let arguments = arguments.into_arguments();
        self.step(format!("CMD {}", serde_json::json!(arguments)), Instruction::Cmd(Command::Exec(arguments)))
    }

    /// `EXPOSE`.
    pub fn expose(self, port: impl Into<String>) -> Self {
        self.one("EXPOSE", port, |port| Instruction::Expose(vec![port]))
    }

    /// `VOLUME`.
    pub fn volume(self, path: impl Into<String>) -> Self {
        self.one("VOLUME", path, |path| Instruction::Volume(vec![path]))
    }
}
