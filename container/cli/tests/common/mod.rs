//! What these tests share: a bundle of the busybox user land, a place for states, and the program run on them.
#![allow(dead_code, reason = "every test program uses a part")]

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use keelbox::Runtime;
use keelbox::crates::launch::sys::rights;
use keelbox_testkit as testkit;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A bundle and a place for states. Whatever is left of the containers goes when the value is dropped.
pub struct Bench {
    root: TempDir,
    place: TempDir,
    /// A name for containers that no other test has.
    pub id: String,
}

/// How the program ended, and what it said.
#[derive(Debug)]
pub struct Ran {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Bench {
    /// A bench whose containers are called `id`.
    pub fn new(id: &str) -> testkit::Result<Self> {
        let (root, place) = (testkit::busybox_root()?, tempfile::Builder::new().prefix("keelbox-cli-").tempdir()?);
        Ok(Self { root, place, id: id.to_owned() })
    }

    /// A file beside the states.
    pub fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// The root file system of all bundles.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// The configuration of a container that runs a line of the shell.
    pub fn config(&self, script: &str) -> Value {
        let namespaces: Vec<Value> =
            ["mount", "pid", "ipc", "uts"].iter().map(|kind| json!({ "type": kind })).collect();
        json!({
            "ociVersion": "1.0.2",
            "root": { "path": self.root.path() },
            "process": {
                "user": { "uid": 0, "gid": 0 }, "cwd": "/", "env": ["PATH=/bin", "FROM=bundle"],
                "args": ["sh", "-c", script],
            },
            "hostname": "inner",
            "mounts": [{ "destination": "/proc", "type": "proc", "source": "proc" }],
            "linux": { "namespaces": namespaces },
        })
    }

    /// Writes a bundle and tells where.
    pub fn bundle(&self, name: &str, config: &Value) -> testkit::Result<String> {
        let bundle = self.path(name);
        fs::create_dir_all(&bundle)?;
        fs::write(bundle.join("config.json"), config.to_string())?;
        Ok(bundle.to_str().ok_or("a path that is text")?.to_owned())
    }

    /// The program with the place for states, ready to be run. `KEELBOX_TEST_RUNTIME` names another runtime, for comparison.
    pub fn command(&self, words: &[&str]) -> Command {
        let program = std::env::var_os("KEELBOX_TEST_RUNTIME");
        let mut command = Command::new(program.unwrap_or_else(|| env!("CARGO_BIN_EXE_keelbox").into()));
        command.arg("--root").arg(self.path("states")).args(words).stdin(Stdio::null());
        command
    }

    /// Runs the program. Its output goes to files, as what it creates may hold that open for longer.
    pub fn keelbox(&self, words: &[&str]) -> testkit::Result<Ran> {
        let (out, err) = (self.path("stdout"), self.path("stderr"));
        let mut command = self.command(words);
        let status = command.stdout(File::create(&out)?).stderr(File::create(&err)?).status()?;
        Ok(Ran { status: status.code(), stdout: fs::read_to_string(out)?, stderr: fs::read_to_string(err)? })
    }

    /// Runs a container with this configuration, from its creation to its deletion.
    pub fn run(&self, config: &Value) -> testkit::Result<Ran> {
        let bundle = self.bundle("bundle", config)?;
        self.keelbox(&["run", "--bundle", &bundle, &self.id])
    }

    /// What a container with this configuration printed, which is to end well.
    pub fn printed(&self, config: &Value) -> testkit::Result<String> {
        let ran = self.run(config)?;
        assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{config}");
        Ok(ran.stdout)
    }

    /// Runs the program, which is to succeed, and returns what it printed.
    pub fn done(&self, words: &[&str]) -> testkit::Result<String> {
        let ran = self.keelbox(words)?;
        assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{words:?}");
        Ok(ran.stdout)
    }

    /// The state as JSON.
    pub fn state(&self) -> testkit::Result<Value> {
        Ok(serde_json::from_str(&self.done(&["state", &self.id])?)?)
    }

    /// Waits for a state that is to come by itself.
    pub fn until(&self, status: &str) -> testkit::Result {
        wait_for(|| Ok(self.state()?["status"] == status))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if !is_keelbox() {
            // What another runtime wrote down only that one can read.
            let listed = self.keelbox(&["list", "-q"]).map(|ran| ran.stdout).unwrap_or_default();
            for id in listed.lines() {
                let _deleted = self.keelbox(&["delete", "--force", id]);
            }
        }
        for handle in Runtime::at(self.path("states")).list().into_iter().flatten() {
            let _deleted = handle.delete_force();
        }
    }
}

impl Ran {
    /// That it failed as everything does that is not about the program inside: one line, status 1.
    pub fn failed_with(&self, text: &str) {
        self.ended_with(1, text);
    }

    /// That it said one line, with this in it, and ended with this status.
    pub fn ended_with(&self, status: i32, text: &str) {
        assert_eq!((self.status, self.stdout.as_str()), (Some(status), ""), "{self:?}");
        assert!(self.stderr.starts_with("keelbox: ") && self.stderr.contains(text), "no {text:?}: {self:?}");
        assert_eq!(self.stderr.find('\n'), Some(self.stderr.len() - 1), "not one line: {self:?}");
    }
}

/// Whether the tests are put to this program, and not to another runtime.
pub fn is_keelbox() -> bool {
    std::env::var_os("KEELBOX_TEST_RUNTIME").is_none()
}

/// Waits until something is so, ten seconds at most.
pub fn wait_for(mut so: impl FnMut() -> testkit::Result<bool>) -> testkit::Result {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !so()? {
        if Instant::now() > deadline {
            return Err("it never came to be so".into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// What comes out of the terminal that is handed over next, up to these words.
pub fn shown(socket: &UnixListener, last: &str) -> testkit::Result<String> {
    let (stream, _) = socket.accept()?;
    let mut bytes = [0; 4096];
    let (_, received) = rights::receive(stream.as_fd(), &mut bytes)?;
    let mut master = File::from(received.into_iter().next().ok_or("no terminal came")?);
    let mut text = String::new();
    while !text.contains(last) {
        let length = master.read(&mut bytes).map_err(|error| format!("{error} after {text:?}"))?;
        text += &String::from_utf8_lossy(bytes.get(..length).unwrap_or_default());
    }
    Ok(text)
}
