//! What these tests share: a watch over the host, bundles whose configuration a test writes, and how long to loop.

use std::fmt::Debug;
use std::fs;
use std::path::Path;
use std::time::Duration;

use keelbox::{Container, Error, ErrorKind, Output, Result};
use keelbox_testkit::{self as testkit, HostCanary, LeakCheck};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The host before an attack: files that must not change, and everything that could be left behind.
pub struct Watch {
    canary: HostCanary,
    leaks: LeakCheck,
}

impl Watch {
    /// Looks at the host, once what the library starts and keeps is started. The test has said `alone!()` or its like.
    pub fn begin() -> testkit::Result<Self> {
        Self::over(&[])
    }

    /// As [`begin`](Self::begin), and watches these files and directories of the host as well.
    pub fn over(others: &[&Path]) -> testkit::Result<Self> {
        Ok(Self::warmed_by(testkit::probe_root()?.path(), others)?)
    }

    /// As [`over`](Self::over), where no other program may be started any more to make a root file system.
    pub fn warmed_by(root: &Path, others: &[&Path]) -> Result<Self> {
        let run = || Container::from_rootfs(root).args(["/probe", "true"]);
        run().limits(keelbox::Limits::new()).status()?;
        // Where there are no control groups to be had, nothing stays of them either.
        let _limited = run().limits(keelbox::Limits::new().pids(16).best_effort()).status();
        let canary = HostCanary::new().expect("a canary can be made");
        let canary =
            others.iter().try_fold(canary, |canary, path| canary.also(*path)).expect("what is watched is there");
        Ok(Self { canary, leaks: LeakCheck::builder().settle(Duration::from_secs(10)).begin() })
    }

    /// The directory outside of every root that must not change: see [`HostCanary`].
    pub fn outside(&self) -> &Path {
        self.canary.path()
    }

    /// The path of a file outside, as an argument.
    pub fn secret(&self) -> String {
        self.canary.path().join("secret").display().to_string()
    }

    /// That the host's files are as they were.
    pub fn unchanged(&self) {
        self.canary.assert_unchanged();
    }

    /// That it was refused: one line with each of `words`, and nothing changed outside.
    pub fn refused<T: Debug>(&self, what: &str, outcome: Result<T>, words: &[&str]) -> Error {
        let error = match outcome {
            Ok(value) => panic!("{what} was not refused: {value:?}"),
            Err(error) => error,
        };
        let report = error.report();
        assert!(!report.contains('\n') && error.kind() != ErrorKind::Other, "{what}: {error:?}");
        for word in words {
            assert!(report.contains(word), "{what}: {word:?} is not in {report:?}");
        }
        self.unchanged();
        error
    }

    /// That the `escape` command of the probe found no way out, or that the container was refused at a step. Tells whether it ran.
    pub fn contained(&self, what: &str, outcome: Result<Output>) -> bool {
        self.unchanged();
        match outcome {
            Ok(out) => {
                assert_eq!((out.text().as_ref(), out.stderr.as_slice()), ("contained\n", &b""[..]), "{what}: {out:?}");
                true
            }
            Err(error) => {
                assert!(error.report().contains("step ") && error.kind() != ErrorKind::Other, "{what}: {error:?}");
                false
            }
        }
    }

    /// That nothing changed and nothing is left behind.
    pub fn end(self) {
        self.unchanged();
        self.leaks.check();
    }
}

/// A bundle that a test edits before it is opened.
pub struct Bundle {
    directory: TempDir,
    pub config: Value,
}

impl Bundle {
    /// Runs `args` in `root` as an engine would have it, with the usual mounts.
    pub fn new(root: &Path, args: &[&str]) -> testkit::Result<Self> {
        let kinds = ["mount", "pid", "ipc", "uts", "network"];
        let namespaces: Vec<Value> = kinds.iter().map(|kind| json!({ "type": kind })).collect();
        let config = json!({
            "ociVersion": "1.0.2",
            "root": { "path": root },
            "process": { "user": { "uid": 0, "gid": 0 }, "cwd": "/", "env": ["PATH=/bin"], "args": args },
            "mounts": [
                mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
                mount("/dev", "tmpfs", "tmpfs", &["nosuid", "mode=755", "size=65536k"]),
                mount("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
                mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            ],
            "linux": { "namespaces": namespaces },
        });
        Ok(Self { directory: tempfile::tempdir()?, config })
    }

    /// One mount more, the last of all.
    pub fn mount(mut self, target: &str, kind: &str, source: &str, options: &[&str]) -> Self {
        if let Some(mounts) = self.config["mounts"].as_array_mut() {
            mounts.push(mount(target, kind, source, options));
        }
        self
    }

    /// Without the mount on `target`.
    pub fn without(mut self, target: &str) -> Self {
        if let Some(mounts) = self.config["mounts"].as_array_mut() {
            mounts.retain(|mount| mount["destination"] != target);
        }
        self
    }

    /// The container.
    pub fn container(&self) -> Result<Container> {
        let file = self.directory.path().join("config.json");
        fs::write(&file, self.config.to_string()).expect("the directory is ours");
        Container::from_bundle(self.directory.path())
    }

    /// Runs it.
    pub fn output(&self) -> Result<Output> {
        self.container()?.output()
    }
}

/// A mount as `config.json` has it.
pub fn mount(target: &str, kind: &str, source: &str, options: &[&str]) -> Value {
    json!({ "destination": target, "type": kind, "source": source, "options": options })
}

/// How often a race is run: `few`, or with `KEELBOX_SOAK=1` as often as the table says.
pub fn rounds(few: usize, all: usize) -> usize {
    if std::env::var_os("KEELBOX_SOAK").is_some_and(|slow| slow == "1") { all } else { few }
}

/// Waits until something is so, ten seconds at most.
pub fn wait_for(what: &str, mut so: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{what}: it never came to be so");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The mount points below `directory` in a text of the form of `/proc/self/mountinfo`: the point, its attributes, its type.
pub fn mounts_below<'t>(table: &'t str, directory: &str) -> Vec<(&'t str, &'t str, &'t str)> {
    let parse = |line: &'t str| {
        let words: Vec<&str> = line.split(' ').collect();
        let kind = words.iter().position(|word| *word == "-").and_then(|dash| words.get(dash + 1))?;
        Some((*words.get(4)?, *words.get(5)?, *kind))
    };
    table.lines().filter_map(parse).filter(|(point, ..)| Path::new(point).starts_with(directory)).collect()
}
