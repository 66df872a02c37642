//! The program `criu`: where it is, what it is told, what it says when it fails.
//!
//! Its command line is used, not its protocol: all that is asked can be said so. Oldest version: 3.17.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Common;
use crate::error::{Error, ErrorKind, Result};

/// Where programs of the administrator are: libraries do not read the environment.
const DIRECTORIES: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// The name by which the images know a network namespace that is not the container's own.
pub(crate) const NETWORK: &str = "keelbox-network";

/// A run of the program.
#[derive(Debug)]
pub(crate) struct Criu {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    log: PathBuf,
}

impl Criu {
    /// The program with `action` and all that both actions are told. The directories exist then.
    pub(crate) fn new(action: &str, log: &str, common: &Common, attempt: &str) -> Result<Self> {
        let program = find(common, attempt)?;
        let images = absolute(&common.images, attempt)?;
        let work = common.work.as_deref().map_or(Ok(images.clone()), |work| absolute(work, attempt))?;
        let mut criu = Self { program, arguments: vec![action.to_owned()], log: work.join(log) };
        criu.pair("--images-dir", &text(&images, attempt)?);
        criu.pair("--work-dir", &text(&work, attempt)?);
        criu.pair("--log-file", log);
        // Groups are made anew, as the configuration says.
        criu.arguments.extend(["-v4".into(), "--manage-cgroups=ignore".into()]);
        criu.arguments.extend(common.options.iter().cloned());
        if common.empty_network {
            criu.pair("--empty-ns", "net");
        }
        Ok(criu)
    }

    pub(crate) fn pair(&mut self, option: &str, value: &str) {
        self.arguments.extend([option.to_owned(), value.to_owned()]);
    }

    /// Runs it where this program is.
    pub(crate) fn run(&self, attempt: &str) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.env_clear().env("PATH", DIRECTORIES.join(":"));
        let ended = command
            .status()
            .map_err(|error| Error::os(format!("{attempt}: cannot execute {}", self.program.display()), error))?;
        if ended.success() { Ok(()) } else { Err(self.failure(attempt)) }
    }

    /// What its log says about a failure: the last complaint but the one that it has failed.
    pub(crate) fn failure(&self, attempt: &str) -> Error {
        let log = self.log.display();
        let file = fs::File::open(&self.log).map(BufReader::new);
        let lines = file.map(|file| file.lines().map_while(Result::ok).collect::<Vec<_>>()).unwrap_or_default();
        let complaint = lines
            .iter()
            .rev()
            .filter_map(|line| line.split_once("Error (").and_then(|(_, rest)| rest.split_once("): ")))
            .map(|(_, complaint)| complaint.trim())
            .find(|complaint| !complaint.ends_with("FAILED."));
        let why = complaint.unwrap_or("it does not say why");
        Error::new(ErrorKind::Other, format!("{attempt}: criu failed: {why}")).with_hint(format!("its log is {log}"))
    }
}

pub(crate) fn environment() -> [String; 1] {
    [format!("PATH={}", DIRECTORIES.join(":"))]
}

fn find(common: &Common, attempt: &str) -> Result<PathBuf> {
    if let Some(program) = &common.program {
        return Ok(program.clone());
    }
    let places = DIRECTORIES.iter().map(|directory| Path::new(directory).join("criu"));
    places.into_iter().find(|place| place.is_file()).ok_or_else(|| {
        let why = format!("{attempt}: that needs the program criu, which is in none of {}", DIRECTORIES.join(", "));
        Error::new(ErrorKind::Unsupported, why)
    })
}

fn absolute(path: &Path, attempt: &str) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| Error::os(format!("{attempt}: cannot use {}", path.display()), error))
}

/// It is told paths in words with other things.
pub(crate) fn text(path: &Path, attempt: &str) -> Result<String> {
    let no_text = || Error::new(ErrorKind::Invalid, format!("{attempt}: {} is no text", path.display()));
    path.to_str().map(str::to_owned).ok_or_else(no_text)
}
