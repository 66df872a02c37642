//! A bundle: a directory with a `config.json` in it, and usually a root file system (bundle.md).
//!
//! Left out on purpose: filling the root file system, and archives of bundles. Any kernel.
use std::fs;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::error::{Error, ErrorKind};
use crate::node::Node;
use crate::problem::{Problem, Report};
use crate::rules;

/// The name of the configuration in every bundle (RS-001).
const CONFIG: &str = "config.json";

/// A bundle on disk.
///
/// ```
/// use keelbox_runtime_spec::{Bundle, Config, Severity};
///
/// let directory = tempfile::tempdir()?;
/// let mut config = Config::new();
/// config.insert("/process/args", r#"["sh"]"#)?;
/// Bundle::create(directory.path().join("bundle"), config)?;
///
/// let bundle = Bundle::open(directory.path().join("bundle"))?;
/// for problem in bundle.check() {
///     println!("{problem}");
/// }
/// # let problems = bundle.check();
/// # assert_eq!(problems.len(), 1);
/// # assert_eq!(problems[0].pointer(), "/root/path"); // there is no rootfs directory yet
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Bundle {
    path: PathBuf,
    config: Config,
}

impl Bundle {
    /// Reads the bundle in the directory `path`. A relative path is taken from the current directory, once.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if there is no `config.json`, and whatever [`Config::read`] says about it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = absolute(path.as_ref())?;
        let config = Config::read(path.join(CONFIG))?;
        Ok(Self { path, config })
    }

    /// The bundle in the directory `path` with a configuration at hand, whatever its `config.json` says; nothing is read or
    /// written. A relative path is taken from the current directory, once.
    ///
    /// # Errors
    ///
    /// What the operating system says of the current directory.
    pub fn from_parts(path: impl AsRef<Path>, config: Config) -> Result<Self, Error> {
        Ok(Self { path: absolute(path.as_ref())?, config })
    }

    /// Makes a bundle: the directory (and those above it) if need be, and `config.json` in it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::AlreadyExists`] if there is a `config.json`, and what the operating system says.
    pub fn create(path: impl AsRef<Path>, config: Config) -> Result<Self, Error> {
        let path = absolute(path.as_ref())?;
        fs::create_dir_all(&path).map_err(|e| Error::io("make bundle", &path, e))?;
        let file = path.join(CONFIG);
        if fs::symlink_metadata(&file).is_ok() {
            return Err(Error::new(ErrorKind::AlreadyExists, "make bundle").path(&file));
        }
        config.write(&file)?;
        Ok(Self { path, config })
    }

    /// Writes `config.json`, atomically, whether or not there was one.
    ///
    /// # Errors
    ///
    /// What the operating system says, such as [`ErrorKind::NotFound`] for a missing directory.
    pub fn write(path: impl AsRef<Path>, config: &Config) -> Result<(), Error> {
        config.write(path.as_ref().join(CONFIG))
    }

    /// Writes the configuration of this bundle back to its `config.json`, atomically.
    ///
    /// # Errors
    ///
    /// As [`Bundle::write`].
    pub fn save(&self) -> Result<(), Error> {
        Self::write(&self.path, &self.config)
    }

    /// The directory, as an absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The configuration, to be changed; [`Bundle::save`] writes it.
    pub fn config_mut(&mut self) -> &mut Config {
        &mut self.config
    }

    /// The bundle as its configuration alone.
    pub fn into_config(self) -> Config {
        self.config
    }

    /// The root file system's directory: `root.path`, taken from the bundle if it is relative (RS-011). `None` if the
    /// configuration has no `root`. The directory need not exist.
    pub fn root(&self) -> Option<PathBuf> {
        Some(self.resolve(self.config.spec().root().as_ref()?.path()))
    }

    /// A path of the host in the configuration, such as a mount's source, taken from the bundle if it is relative.
    pub fn resolve(&self, path: impl AsRef<Path>) -> PathBuf {
        self.path.join(path)
    }

    /// Checks the configuration as [`Config::check`] does, and that the root file system is a directory (RS-011).
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = self.config.check();
        let Some(root) = self.root() else {
            return problems;
        };
        let message = match fs::metadata(&root) {
            Ok(found) if found.is_dir() => return problems,
            Ok(_) => format!("must be a directory, {} is not", root.display()),
            Err(e) => format!("must be a directory, {} is not: {e}", root.display()),
        };
        let mut report = Report::default();
        let node = Node::root(self.config.raw()).member("root").member("path");
        report.error(&node, rules::ROOT, message);
        problems.extend(report.finish());
        problems
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(|e| Error::io("resolve bundle path", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rs_001_a_bundle_is_a_directory_with_config_json() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b");
        let bundle = Bundle::create(&path, Config::new()).unwrap();
        assert_eq!(bundle.path(), path);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
        let error = Bundle::create(&path, Config::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        let mut again = Bundle::open(&path).unwrap();
        assert_eq!(again.config(), bundle.config());
        again.config_mut().insert("/hostname", "\"other\"").unwrap();
        again.save().unwrap();
        let read = Bundle::open(&path).unwrap().into_config();
        assert_eq!(read.spec().hostname().as_deref(), Some("other"));
    }

    #[test]
    fn rs_011_root_is_relative_to_the_bundle_and_must_exist() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config::new();
        config.insert("/process/args", "[\"sh\"]").unwrap();
        let mut bundle = Bundle::create(directory.path(), config).unwrap();
        let root = directory.path().join("rootfs");
        assert_eq!(bundle.root().as_deref(), Some(root.as_path()));
        let broken = |bundle: &Bundle| bundle.check().iter().any(|p| p.rule() == "RS-011");
        assert!(broken(&bundle));
        fs::write(&root, "").unwrap();
        assert!(broken(&bundle));
        fs::remove_file(&root).unwrap();
        fs::create_dir(&root).unwrap();
        assert!(!broken(&bundle));
        bundle.config_mut().insert("/root/path", "\"/\"").unwrap();
        assert_eq!(bundle.root().as_deref(), Some(Path::new("/")));
        assert!(!broken(&bundle));
    }

    #[test]
    fn errors_name_file_place_and_rule() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(CONFIG);
        fs::write(&file, r#"{"ociVersion": "1.3.0", "process": {"cwd": 7}}"#).unwrap();
        let error = Bundle::open(directory.path()).unwrap_err();
        let expected = format!(
            "cannot parse configuration {}: /process/cwd: RS-024 must be a string, is a number",
            file.display()
        );
        assert_eq!(error.to_string(), expected);
        assert_eq!((error.kind(), error.file()), (ErrorKind::Value, Some(file.as_path())));
        fs::write(&file, "{\"a\": {\"b\": ]").unwrap();
        let error = Bundle::open(directory.path()).unwrap_err();
        let expected = format!("cannot parse configuration {}: line 1 column 13 at /a/b", file.display());
        assert_eq!(error.to_string(), expected);
        assert!(std::error::Error::source(&error).is_some());
    }
}
