//! What `COPY` and `ADD` copy.
//!
//! Job: from sources and a target to a changeset: files of the context by name or pattern, without what is ignored and never from
//! outside of it; files of other stages and images; here-documents. Leaves out putting it into the image.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use keelbox_image_spec::{Changeset, Store, User};

use super::instruction::Copy;
use super::patterns::{self, Ignored};
use super::perform::{Room, find_stage};
use crate::error::{Error, ErrorKind, Result};

/// What is copied, and what tells whether it is the same as the last time.
pub(super) struct Copied {
    pub(super) changes: Changeset,
    /// Of files of the context the content counts; of images their digests.
    content: bool,
    said: String,
}

impl Copied {
    pub(super) fn input(&self, store: &Store) -> keelbox_image_spec::Result<String> {
        let content = if self.content { self.changes.digest(store)?.to_string() } else { String::new() };
        Ok(format!("copy {} {content}", self.said))
    }
}

impl Room<'_> {
    pub(super) fn gather(&self, copy: &Copy, number: usize) -> Result<Copied> {
        let build = self.build;
        let raw = self.fill(&copy.target, number)?;
        let several = copy.sources.len() + copy.documents.len() > 1;
        let directory = raw.ends_with('/') || raw == "." || raw.ends_with("/.") || several;
        let target = self.absolute(&raw);
        let target = if directory { format!("{}/", target.trim_end_matches('/')) } else { target };
        let mut said = format!("{target} {:?} {:?}", copy.owner, copy.mode);
        let mut changes = Changeset::new();
        for (name, raw) in &copy.documents {
            let content = self.fill(raw, number)?;
            let place = if directory { format!("{target}{name}") } else { target.clone() };
            changes = changes.bytes(place, content, 0o644);
        }
        let sources = copy.sources.iter().map(|raw| self.fill(raw, number)).collect::<Result<Vec<_>>>()?;
        if let Some(from) = &copy.from {
            let from = self.fill(from, number)?;
            let stage = find_stage(self.earlier.iter().map(|stage| stage.name.as_deref()), &from);
            let image = match stage.and_then(|index| self.earlier[index].made.clone()).map(|(image, _)| image) {
                Some(image) => image,
                None => build.find_image(&from, self.store, number)?,
            };
            for source in sources {
                said = format!("{said} {source} of {}", image.manifest_digest());
                changes = changes.image(&image, source, &target);
            }
        } else {
            changes = self.files(changes, copy, &sources, Path::new(&target), directory, number)?;
        }
        if let Some(owner) = &copy.owner {
            let (user, group) = self.owner(&self.fill(owner, number)?, number)?;
            changes = changes.owner(user, group);
        }
        if let Some(mode) = copy.mode {
            changes = changes.mode(mode);
        }
        Ok(Copied { changes, content: copy.from.is_none(), said })
    }

    fn files(
        &self,
        mut changes: Changeset,
        copy: &Copy,
        sources: &[String],
        target: &Path,
        directory: bool,
        number: usize,
    ) -> Result<Changeset> {
        if sources.is_empty() {
            return Ok(changes);
        }
        let build = self.build;
        let cannot =
            |path: &Path, error| Error::os(format!("{}cannot read {}", build.place(number), path.display()), error);
        let context = fs::canonicalize(&build.context).map_err(|error| cannot(&build.context, error))?;
        let ignored = match fs::read_to_string(context.join(".dockerignore")) {
            Ok(text) => Ignored::parse(&text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ignored::default(),
            Err(error) => return Err(cannot(&context.join(".dockerignore"), error)),
        };
        for source in sources {
            let found = self.find(&context, source, &ignored, number)?;
            if found.len() > 1 && !directory {
                let why = format!("{source} means several files, so the target must end in a slash");
                return Err(build.refused(number, ErrorKind::Invalid, why));
            }
            for path in found {
                let full = context.join(&path);
                let metadata = fs::metadata(&full).map_err(|error| cannot(&full, error))?;
                if metadata.is_dir() {
                    let (prefix, ignored) = (path.clone(), ignored.clone());
                    changes = changes.pick(full, target, move |below| ignored.pick(&prefix.join(below)));
                    continue;
                }
                let name = path.file_name().unwrap_or_default();
                if copy.unpacks && is_archive(&full).map_err(|error| cannot(&full, error))? {
                    changes = changes.archive(full, target);
                    continue;
                }
                let place = if directory { target.join(name) } else { target.to_owned() };
                changes = changes.file_below(&context, &path, place);
            }
        }
        Ok(changes)
    }

    /// The paths of the context that a source means, in order.
    fn find(&self, context: &Path, source: &str, ignored: &Ignored, number: usize) -> Result<Vec<PathBuf>> {
        let build = self.build;
        let missing = |why: &str| build.refused(number, ErrorKind::NotFound, format!("{source} {why}"));
        let parts = patterns::components(source);
        let mut found = Vec::new();
        if parts.iter().any(|part| patterns::is_pattern(part)) {
            expand(context, Path::new(""), &parts, &mut found);
            found.sort();
            found.retain(|path| !ignored.has(path));
        } else {
            found.push(parts.iter().collect());
        }
        if found.is_empty() {
            return Err(missing("means no file of the context"));
        }
        // Links are followed as far as they stay in the context.
        let resolve = |path: &PathBuf| {
            if ignored.has(path) {
                return Err(missing("is left out by .dockerignore"));
            }
            let full = fs::canonicalize(context.join(path)).map_err(|_| missing("is no file of the context"))?;
            full.strip_prefix(context).map(Path::to_owned).map_err(|_| missing("leads out of the context"))
        };
        found.iter().map(resolve).collect()
    }

    /// The ids of `--chown`. A user without a group has the group of the same number.
    fn owner(&self, text: &str, number: usize) -> Result<(u32, u32)> {
        if let Some(ids) = numbers(text) {
            return Ok(ids);
        }
        let cannot = |error: keelbox_image_spec::Error| {
            let why = format!("{}cannot find the owner {text:?} in the image", self.build.place(number));
            Error::from_part(ErrorKind::UnknownUser, why, error)
        };
        let user: User = text.parse().map_err(cannot)?;
        let found = self.image.unpack(self.store).and_then(|image| image.resolve_user(&user)).map_err(cannot)?;
        Ok((found.uid, found.gid))
    }
}

fn numbers(text: &str) -> Option<(u32, u32)> {
    let (user, group) = text.split_once(':').unwrap_or((text, text));
    let number = |text: &str| {
        text.parse::<u32>().ok().filter(|id| *id != u32::MAX && text.bytes().all(|byte| byte.is_ascii_digit()))
    };
    Some((number(user)?, number(group)?))
}

/// Looks for the paths that fit a pattern, directory by directory.
fn expand(context: &Path, at: &Path, pattern: &[String], found: &mut Vec<PathBuf>) {
    let Some((first, rest)) = pattern.split_first() else {
        found.push(at.to_owned());
        return;
    };
    if !patterns::is_pattern(first) {
        if context.join(at).join(first).symlink_metadata().is_ok() {
            expand(context, &at.join(first), rest, found);
        }
        return;
    }
    for entry in fs::read_dir(context.join(at)).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let text = name.to_string_lossy().into_owned();
        if patterns::matches(std::slice::from_ref(first), &[text]) {
            expand(context, &at.join(&name), rest, found);
        }
    }
}

/// Whether a file is a tar archive, plain or compressed in a way that is known here.
fn is_archive(path: &Path) -> std::io::Result<bool> {
    let mut start = Vec::new();
    fs::File::open(path)?.take(512).read_to_end(&mut start)?;
    let compressed = start.starts_with(&[0x1f, 0x8b]) || start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let named = [".tar.gz", ".tgz", ".tar.zst", ".tzst"].iter().any(|end| name.ends_with(end));
    // A compressed file may be anything; one that is called an archive is one.
    Ok(start.get(257..262) == Some(b"ustar") || (compressed && named))
}
