//! What the integration tests share: groups of their own, children of their own, and saying aloud what could not run.

#![allow(clippy::unwrap_used, reason = "tests may, and this file is part of tests")]
#![allow(dead_code, reason = "not every test binary uses everything")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use keelbox_cgroups::{Controller, ErrorKind, Group, Hierarchy, Layout, Limits};

/// Says why a test did not run. In CI only what the machine truly lacks may be skipped.
pub fn skip(test: &str, reason: &str, lacking: bool) {
    let strict = std::env::var_os("KEELBOX_CI").is_some_and(|value| value == "1");
    assert!(lacking || !strict, "{test} may not be skipped in CI: {reason}");
    // Straight to standard error: what the test harness captures of a passing test is never shown.
    let _ = writeln!(std::io::stderr(), "SKIP {test}: {reason}");
}

/// The name of this test's group. Flat, so that tests running side by side share no directory.
pub fn name(test: &str) -> String {
    format!("keelbox-test-{}-{test}", std::process::id())
}

pub fn has(controller: Controller) -> bool {
    let wanted = Hierarchy::detect().unwrap();
    if wanted.legacy().iter().any(|mount| mount.controllers().contains(&controller)) {
        return true;
    }
    let Some(mount) = wanted.unified() else {
        return false;
    };
    let text = std::fs::read_to_string(mount.mount_point().join("cgroup.controllers")).unwrap_or_default();
    text.split_whitespace().any(|name| Controller::parse(name) == Some(controller))
}

/// A group that a failing test does not leave behind, nor what runs in it.
pub struct Held(Option<Group>);

impl From<Group> for Held {
    fn from(group: Group) -> Self {
        Self(Some(group))
    }
}

impl std::ops::Deref for Held {
    type Target = Group;

    fn deref(&self) -> &Group {
        self.0.as_ref().expect("it is taken only to be deleted")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(group) = &self.0 {
            let _ = group.kill();
            let _ = group.delete();
        }
    }
}

/// A group for `test`, or nothing if this machine cannot have one.
pub fn group(test: &str, limits: &Limits, needs: &[Controller]) -> Option<Held> {
    for controller in needs {
        if !has(*controller) {
            skip(test, &format!("no {controller} controller"), true);
            return None;
        }
    }
    match Group::create(name(test), limits) {
        Ok(group) => Some(group.into()),
        Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::Unsupported) => {
            skip(test, &error.to_string(), Hierarchy::detect().unwrap().layout() == Layout::None);
            None
        }
        Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
    }
}

/// A shell that waits for a word before it does anything, so that it can be put where it belongs. Killed when dropped.
pub struct Shell(pub Child);

impl Shell {
    pub fn new(script: &str) -> Self {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("read word; {script}")]);
        Self::spawn(&mut command)
    }

    pub fn spawn(command: &mut Command) -> Self {
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(piped.spawn().expect("/bin/sh is everywhere"))
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Lets it begin.
    pub fn go(&mut self) {
        let mut stdin = self.0.stdin.take().expect("go is called once");
        stdin.write_all(b"go\n").expect("the shell waits for it");
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        let stdout = self.0.stdout.as_mut().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("the shell writes a line");
        line.trim().to_owned()
    }

    pub fn errors(&mut self) -> String {
        let stderr: ChildStderr = self.0.stderr.take().expect("errors is called once");
        std::io::read_to_string(stderr).expect("the shell ends")
    }

    /// Exit code, or 128 plus the signal, as a shell tells it.
    pub fn code(&mut self) -> i32 {
        let status = self.0.wait().expect("it is our child");
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < end, "never came: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The text of `file` in whichever of the group's directories has it.
pub fn read(group: &Group, file: &str) -> Option<String> {
    let paths = group.directories();
    paths.iter().find_map(|path| std::fs::read_to_string(path.join(file)).ok()).map(|text| text.trim().to_owned())
}

/// Deletes the group and makes sure of it.
pub fn delete(group: impl Into<Held>) {
    let group = group.into();
    let paths = group.directories();
    group.delete().unwrap();
    assert_gone(&paths);
}

pub fn assert_gone(paths: &[PathBuf]) {
    assert!(!paths.is_empty());
    for path in paths {
        assert!(!path.exists(), "{} was left behind", path.display());
    }
}

/// Where a process is, as `/proc/PID/cgroup` tells.
pub fn cgroups_of(pid: u32) -> String {
    std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("cgroup")).unwrap()
}
