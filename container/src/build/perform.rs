//! Builds: one stage after another, one step after another.
//!
//! Job: which stages are needed, where each begins, what a step's input is, and doing it if it was not done before. Leaves out what
//! `COPY` copies (`copy.rs`).

use std::collections::BTreeMap;

use keelbox_image_spec::{Digest, Edit, Image, Platform, Store};

use super::cache::Cache;
use super::instruction::{Base, Command, Instruction, Line, Stage};
use super::{Build, BuildStep, words};
use crate::builder::Container;
use crate::error::{Error, ErrorKind, Result};
use crate::network::Network;
use crate::output::Output;
use crate::stdio::Stdio;

/// The most of a failed program's words that goes into the error, in bytes.
const MOST_SAID: usize = 4096;

/// What a stage is at the moment.
pub(super) struct Room<'b> {
    pub(super) build: &'b Build,
    pub(super) store: &'b Store,
    pub(super) image: Image,
    /// What went into it so far.
    key: Digest,
    /// Arguments that the stage has declared.
    arguments: BTreeMap<String, String>,
    shell: Vec<String>,
    /// Whether this stage has set a command.
    commanded: bool,
    /// The stages before it: name and image.
    pub(super) earlier: &'b [Done],
}

/// A stage that is done, or was not needed.
pub(super) struct Done {
    pub(super) name: Option<String>,
    /// The image, and what went into it.
    pub(super) made: Option<(Image, Digest)>,
}

impl Build {
    pub(super) fn perform(&self) -> Result<Image> {
        let store = self.open_store()?;
        let target = self.find_target()?;
        let needed = self.needed(target)?;
        let total =
            self.stages.iter().zip(&needed).filter(|(_, needed)| **needed).map(|(stage, _)| stage.lines.len()).sum();
        let (mut number, mut done) = (0, Vec::<Done>::new());
        for (stage, needed) in self.stages.iter().zip(&needed) {
            let mut made = None;
            if *needed {
                let mut room = self.begin(stage, &store, &done)?;
                for line in &stage.lines {
                    number += 1;
                    room.line(line, number, total)?;
                }
                made = Some((room.image, room.key));
            }
            done.push(Done { name: stage.name.clone(), made });
        }
        done.pop()
            .and_then(|last| last.made)
            .map(|(image, _)| image)
            .ok_or_else(|| Error::new(ErrorKind::Invalid, "there is nothing to build"))
    }

    /// The index after the last stage that counts.
    fn find_target(&self) -> Result<usize> {
        let Some(wanted) = &self.target else { return Ok(self.stages.len() - 1) };
        let named = |stage: &Stage| stage.name.as_deref() == Some(wanted.to_ascii_lowercase().as_str());
        let number = wanted.parse::<usize>().ok().filter(|number| *number < self.stages.len());
        self.stages
            .iter()
            .position(named)
            .or(number)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no stage {wanted:?}")))
    }

    /// Which of the stages up to `target` it is made of.
    fn needed(&self, target: usize) -> Result<Vec<bool>> {
        let mut needed = vec![false; target + 1];
        needed[target] = true;
        for index in (0..=target).rev() {
            if !needed[index] {
                continue;
            }
            let stage = &self.stages[index];
            let mut names = Vec::new();
            if let Base::Named { name, .. } = &stage.base {
                names.push(self.global(name).map_err(|why| self.refused(stage.number, ErrorKind::Invalid, why))?);
            }
            names.extend(stage.lines.iter().filter_map(|line| match &line.instruction {
                Instruction::Copy(copy) => copy.from.clone(),
                _ => None,
            }));
            for name in names {
                if let Some(other) = find_stage(self.stages[..index].iter().map(|stage| stage.name.as_deref()), &name) {
                    needed[other] = true;
                }
            }
        }
        Ok(needed)
    }

    /// Fills in what is declared before the first stage.
    fn global(&self, raw: &str) -> Result<String, String> {
        words::expand(raw, self.escape, &|name| self.global_value(name))
    }

    fn global_value(&self, name: &str) -> Option<String> {
        if let Some((_, value)) = self.globals.iter().rev().find(|(declared, _)| declared == name) {
            let default =
                || words::expand(value.as_deref()?, self.escape, &|name| self.arguments.get(name).cloned()).ok();
            return self.arguments.get(name).cloned().or_else(default);
        }
        // These need no declaration.
        let host = Platform::host();
        match name {
            "TARGETOS" | "BUILDOS" => Some(host.os().to_owned()),
            "TARGETARCH" | "BUILDARCH" => Some(host.architecture().to_owned()),
            "TARGETPLATFORM" | "BUILDPLATFORM" => Some(host.to_string()),
            _ => None,
        }
    }

    fn begin<'b>(&'b self, stage: &'b Stage, store: &'b Store, earlier: &'b [Done]) -> Result<Room<'b>> {
        let (image, key) = self.base(stage, store, earlier)?;
        Ok(Room {
            build: self,
            store,
            image,
            key,
            arguments: BTreeMap::new(),
            shell: vec!["/bin/sh".into(), "-c".into()],
            commanded: false,
            earlier,
        })
    }

    fn base(&self, stage: &Stage, store: &Store, earlier: &[Done]) -> Result<(Image, Digest)> {
        let by_content = |image: Image| {
            let key = Digest::of(format!("image {}", image.manifest_digest()).as_bytes());
            (image, key)
        };
        let (name, platform) = match &stage.base {
            Base::Image(image) => return Ok(by_content(image.clone())),
            Base::Scratch => {
                let image = self.dated(Edit::scratch(store)).commit_unnamed().map_err(crate::image::refused)?;
                return Ok((image, Digest::of(b"scratch")));
            }
            Base::Named { name, platform } => (name, platform),
        };
        let invalid = |why: String| self.refused(stage.number, ErrorKind::Invalid, why);
        let name = self.global(name).map_err(invalid)?;
        let found = find_stage(earlier.iter().map(|stage| stage.name.as_deref()), &name);
        if let Some(made) = found.and_then(|index| earlier.get(index)).and_then(|done| done.made.as_ref()) {
            return Ok(made.clone());
        }
        let image = self.find_image(&name, store, stage.number)?;
        if let Some(platform) = platform {
            let wanted = self.global(platform).map_err(invalid)?;
            let own = image.config().platform().to_string();
            if own != wanted {
                let why = format!("{name} is for {own}, not for {wanted}");
                return Err(self.refused(stage.number, ErrorKind::Unsupported, why));
            }
        }
        Ok(by_content(image))
    }

    /// The image of a name that is no stage.
    pub(super) fn find_image(&self, name: &str, store: &Store, number: usize) -> Result<Image> {
        if let Some(image) = self.images.get(name) {
            return Ok(image.clone());
        }
        let place = format!("{}cannot find the image {name}", self.place(number));
        let is_source = ["oci:", "oci-archive:", "docker-archive:"].iter().any(|scheme| name.starts_with(scheme));
        let found = if is_source { Image::open(name) } else { store.get(name) };
        match (found, &self.fetch) {
            (Ok(image), _) => Ok(image),
            (Err(error), Some(fetch)) if !is_source && error.kind() == keelbox_image_spec::ErrorKind::NotFound => {
                fetch(name).map_err(|error| Error::from_part(ErrorKind::NotFound, place, Foreign(error)))
            }
            (Err(error), _) => Err(Error::from_part(crate::image::kind(&error), place, error)),
        }
    }

    /// Where in the file something is.
    pub(super) fn place(&self, number: usize) -> String {
        match &self.file {
            Some(file) if number > 0 => format!("cannot build {}: line {number}: ", file.display()),
            _ => "cannot build: ".into(),
        }
    }

    pub(super) fn refused(&self, number: usize, kind: ErrorKind, why: impl std::fmt::Display) -> Error {
        Error::new(kind, format!("{}{why}", self.place(number)))
    }

    /// With the time that everything has.
    fn dated(&self, edit: Edit) -> Edit {
        let edit = edit.compression(self.compression);
        match self.epoch {
            Some(epoch) => edit.epoch(epoch),
            None => edit,
        }
    }
}

/// A stage by name, or by number.
pub(super) fn find_stage<'n>(
    mut names: impl ExactSizeIterator<Item = Option<&'n str>> + DoubleEndedIterator,
    wanted: &str,
) -> Option<usize> {
    let (lower, count) = (wanted.to_ascii_lowercase(), names.len());
    let named = names.rposition(|name| name == Some(lower.as_str()));
    named.or_else(|| wanted.parse().ok().filter(|number| *number < count))
}

impl Room<'_> {
    fn line(&mut self, line: &Line, number: usize, total: usize) -> Result<()> {
        let (build, cache) = (self.build, Cache::of(self.store));
        let failed = |error: keelbox_image_spec::Error| {
            Error::from_part(crate::image::kind(&error), format!("{}{}", build.place(line.number), line.text), error)
        };
        let tell = |cached: bool| {
            let step = BuildStep { number, total, text: line.text.clone(), cached };
            build.watch.iter().for_each(|watch| watch(&step));
        };
        if self.declare(line)? {
            tell(false);
            return Ok(());
        }
        let copied = match &line.instruction {
            Instruction::Copy(copy) => Some(self.gather(copy, line.number)?),
            _ => None,
        };
        let filled = self.filled(line)?;
        let input = match &copied {
            Some(copied) => copied.input(self.store).map_err(failed)?,
            None => format!("{filled:?} {:?}", self.shell),
        };
        let dated = format!("{:?} {:?}", build.epoch, build.compression);
        let context = format!("{} {input} {:?} {dated}", self.key, self.arguments);
        self.key = Digest::of(context.as_bytes());
        let found = build.cached.then(|| cache.find(&self.key)).flatten();
        tell(found.is_some());
        if let Instruction::Cmd(_) = line.instruction {
            self.commanded = true;
        }
        self.image = match found {
            Some(image) => image,
            None => {
                // The files that a program left are read when they are committed.
                let (edit, _left) = match (copied, filled) {
                    (Some(copied), _) => (self.edit().created_by(&line.text).add_layer(copied.changes), None),
                    (None, Instruction::Run(command)) => {
                        let out = self.run(&self.arguments_of(&command), line)?;
                        (out.changes()?.add_to(self.edit().created_by(&line.text)), Some(out))
                    }
                    (None, filled) => (self.change(filled, line), None),
                };
                let image = build.dated(edit).commit_unnamed().map_err(failed)?;
                cache.remember(&self.key, &image)?;
                image
            }
        };
        Ok(())
    }

    fn edit(&self) -> Edit {
        self.image.edit().store(self.store)
    }

    /// Takes what only concerns later steps; true if that was all.
    fn declare(&mut self, line: &Line) -> Result<bool> {
        match &line.instruction {
            Instruction::Arg(arguments) => {
                for (name, value) in arguments {
                    let default = value.as_ref().map(|value| self.fill(value, line.number)).transpose()?;
                    let given = self.build.arguments.get(name).cloned();
                    let value = given.or(default).or_else(|| self.build.global_value(name));
                    value.map(|value| self.arguments.insert(name.clone(), value));
                }
                Ok(true)
            }
            Instruction::Shell(shell) => {
                self.shell.clone_from(shell);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Fills variables in: the environment of the image, then arguments.
    pub(super) fn fill(&self, raw: &str, number: usize) -> Result<String> {
        let lookup = |name: &str| {
            let own = self.image.config().env().iter().filter_map(|entry| entry.split_once('='));
            let value = own.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).next_back();
            value.or_else(|| self.arguments.get(name).cloned())
        };
        words::expand(raw, self.build.escape, &lookup)
            .map_err(|why| self.build.refused(number, ErrorKind::Invalid, why))
    }

    /// The instruction with its variables filled in.
    fn filled(&self, line: &Line) -> Result<Instruction> {
        let one = |raw: &String| self.fill(raw, line.number);
        let all = |raw: &Vec<String>| raw.iter().map(one).collect::<Result<Vec<_>>>();
        let pairs = |raw: &Vec<(String, String)>| {
            raw.iter().map(|(name, value)| Ok((one(name)?, one(value)?))).collect::<Result<Vec<_>>>()
        };
        Ok(match &line.instruction {
            Instruction::Env(list) => Instruction::Env(pairs(list)?),
            Instruction::Label(list) => Instruction::Label(pairs(list)?),
            Instruction::Workdir(path) => Instruction::Workdir(self.absolute(&one(path)?)),
            Instruction::User(user) => Instruction::User(one(user)?),
            Instruction::Expose(ports) => Instruction::Expose(all(ports)?),
            Instruction::Volume(paths) => Instruction::Volume(all(paths)?),
            Instruction::StopSignal(signal) => Instruction::StopSignal(one(signal)?),
            other => other.clone(),
        })
    }

    /// A path inside, relative to the working directory so far.
    pub(super) fn absolute(&self, path: &str) -> String {
        if path.starts_with('/') {
            return path.to_owned();
        }
        format!("{}/{path}", self.image.config().working_dir().trim_end_matches('/'))
    }

    /// What a step makes of the image.
    fn change(&self, filled: Instruction, line: &Line) -> Edit {
        let edit = self.edit();
        match filled {
            Instruction::Env(pairs) => pairs.into_iter().fold(edit, |edit, (name, value)| edit.env(name, value)),
            Instruction::Label(pairs) => pairs.into_iter().fold(edit, |edit, (name, value)| edit.label(name, value)),
            Instruction::Workdir(path) => {
                let made = keelbox_image_spec::Changeset::new().make_directory(&path);
                edit.created_by(&line.text).add_layer(made).working_dir(path)
            }
            Instruction::User(user) => edit.user(user),
            Instruction::Expose(ports) => ports.into_iter().fold(edit, Edit::expose),
            Instruction::Volume(paths) => paths.into_iter().fold(edit, Edit::volume),
            Instruction::StopSignal(signal) => edit.stop_signal(signal),
            Instruction::Author(author) => edit.author(author),
            Instruction::Cmd(command) => edit.cmd(self.arguments_of(&command)),
            Instruction::Entrypoint(command) => {
                let edit = edit.entrypoint(self.arguments_of(&command));
                // The base's command was meant for the base's entrypoint.
                let lost = !self.commanded && !self.image.config().cmd().is_empty();
                if lost { edit.cmd(Vec::<String>::new()) } else { edit }
            }
            Instruction::Run(_) | Instruction::Copy(_) | Instruction::Arg(_) | Instruction::Shell(_) => edit,
        }
    }

    fn arguments_of(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(arguments) => arguments.clone(),
            Command::Shell(text) => self.shell.iter().cloned().chain([text.clone()]).collect(),
        }
    }

    /// Runs a program, which must succeed.
    fn run(&self, arguments: &[String], line: &Line) -> Result<Output> {
        let build = self.build;
        let [output, errors] = build.streams.clone();
        let own = |name: &str| {
            self.image.config().env().iter().any(|entry| entry.split_once('=').is_some_and(|(key, _)| key == name))
        };
        let declared = self.arguments.iter().filter(|(name, _)| !own(name));
        let mut container = Container::from_image(&self.image)
            .store(self.store.path())
            .args(arguments.to_vec())
            .envs(declared)
            .network(build.network.clone())
            .new_privileges()
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .keep_changes();
        if build.network == Network::Host && std::path::Path::new("/etc/resolv.conf").exists() {
            container = container.bind_read_only("/etc/resolv.conf", "/etc/resolv.conf");
        }
        let attempt = format!("{}{}", build.place(line.number), line.text);
        let out = container.output().map_err(|error| Error::from_part(error.kind(), attempt.clone(), error))?;
        if !out.status.success() {
            let mut said = [&out.stdout[..], &out.stderr].concat();
            said.drain(..said.len().saturating_sub(MOST_SAID));
            let said = String::from_utf8_lossy(&said).trim().to_owned();
            let why = format!("{attempt}: the program ended with {}", out.status);
            let error = Error::new(ErrorKind::Failed, why);
            return Err(if said.is_empty() { error } else { error.with_hint(said) });
        }
        Ok(out)
    }
}

/// The error of a caller's own function.
#[derive(Debug)]
struct Foreign(Box<dyn std::error::Error + Send + Sync>);

impl std::fmt::Display for Foreign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Foreign {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}
