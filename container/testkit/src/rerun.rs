//! Running a test once more: in a process of its own, or as an ordinary user.
//!
//! The test binary is started again with `--exact NAME`, and the first process waits and judges.

use crate::need::find_program;
use nix::unistd::{Uid, geteuid};
use std::ffi::OsStr;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::{env, fs, io};
use tempfile::TempDir;

const ALONE: &str = "KEELBOX_TEST_ALONE";
const AS_USER: &str = "KEELBOX_TEST_AS_USER";

/// The name under which the test harness knows the test that says this.
#[macro_export]
macro_rules! test_name {
    () => {{
        fn here() {}
        $crate::name_of(&here)
    }};
}

/// Runs the test in a process of its own, in which no other test runs, and returns from the test in the first process.
///
/// Say it first in a test that changes or watches its own process: [`LeakCheck`](crate::LeakCheck), namespaces,
/// resource limits, the working directory.
///
/// ```
/// fn a_test() {
///     keelbox_testkit::alone!();
///     // here the process has two threads: the harness, which waits, and the test
/// }
/// ```
#[macro_export]
macro_rules! alone {
    () => {
        if !$crate::alone($crate::test_name!()) {
            return $crate::Outcome::finished();
        }
    };
}

/// Runs the test in a process of its own that has a mount namespace of its own, from which nothing comes back to the machine, and
/// returns from the test in the first process. Needs root and `unshare(1)`.
///
/// The files are the machine's all the same. Never bind what is not the test's own below a temporary directory: when the test fails,
/// the directory is cleared up, and that goes through the bind.
///
/// ```
/// fn a_test() {
///     keelbox_testkit::require!(Root, MountNamespace, Program("unshare"));
///     keelbox_testkit::apart!();
///     // here the test may mount what it likes
/// }
/// ```
#[macro_export]
macro_rules! apart {
    () => {
        if !$crate::apart($crate::test_name!()) {
            return $crate::Outcome::finished();
        }
    };
}

/// Runs the test in a process of its own as an ordinary user, and returns from the test in the first process.
///
/// The user is the one that `KEELBOX_TEST_USER` names, else user and group 65534 without a name. Where the tests run
/// as an ordinary user already, the test just goes on. Needs [`Need::OrdinaryUser`](crate::Need::OrdinaryUser).
///
/// ```
/// fn a_test() {
///     keelbox_testkit::require!(OrdinaryUser);
///     keelbox_testkit::as_user!();
///     // here the process has no privilege, and HOME, TMPDIR and XDG_RUNTIME_DIR are fresh directories of its own
/// }
/// ```
#[macro_export]
macro_rules! as_user {
    () => {
        if !$crate::as_user($crate::test_name!()) {
            return $crate::Outcome::finished();
        }
    };
}

/// The path of the function that encloses `here`, without its crate. What [`test_name!`](crate::test_name) calls.
pub fn name_of<T>(_here: &T) -> &'static str {
    let path = std::any::type_name::<T>();
    let mut path = path.strip_suffix("::here").unwrap_or(path);
    while let Some(shorter) = path.strip_suffix("::{{closure}}") {
        path = shorter;
    }
    path.split_once("::").map_or(path, |(_, name)| name)
}

/// Tells whether this process was started for `test` alone; if not, starts one that is, and judges it.
///
/// # Panics
///
/// When the test fails in its own process, or when no test of that name ran there.
#[must_use]
pub fn alone(test: &str) -> bool {
    if is_marked(ALONE, test) {
        return true;
    }
    let program = env::current_exe().expect("a running program has a path");
    judge(test, harness(&mut Command::new(program), test).env(ALONE, test));
    false
}

/// Tells whether this process was started for `test` with mounts of its own; if not, starts one that is, and judges it.
///
/// # Panics
///
/// As [`alone`](crate::alone()), and when there is no `unshare(1)`.
#[must_use]
pub fn apart(test: &str) -> bool {
    if is_marked(ALONE, test) {
        return true;
    }
    let program = env::current_exe().expect("a running program has a path");
    let mut command = Command::new(find_program("unshare").unwrap_or_else(|| "unshare".into()));
    command.args(["--mount", "--propagation", "private", "--"]).arg(program);
    judge(test, harness(&mut command, test).env(ALONE, test));
    false
}

/// Tells whether the calling process was started by [`alone!`], [`apart!`] or [`as_user!`].
pub(crate) fn is_alone() -> bool {
    env::var_os(ALONE).is_some()
}

/// Tells whether this process runs `test` as an ordinary user; if not, starts one that does, and judges it.
///
/// # Panics
///
/// When the test fails in its own process, when no test of that name ran there, or when there is no `setpriv(1)`.
#[must_use]
pub fn as_user(test: &str) -> bool {
    if is_marked(AS_USER, test) || !geteuid().is_root() {
        return true;
    }
    let user = OrdinaryUser::for_tests().expect("KEELBOX_TEST_USER names a user of this machine");
    let home = user.home().expect("root can make a directory and give it away");
    let program = user.reachable_copy(home.path()).expect("root can copy the test program");
    let mut command = user.command(&program);
    for variable in ["HOME", "TMPDIR", "XDG_RUNTIME_DIR"] {
        command.env(variable, home.path());
    }
    judge(test, harness(&mut command, test).current_dir(home.path()).env(ALONE, test).env(AS_USER, test));
    false
}

/// A user without privilege, for tests that run as root and want to know how it is for others.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OrdinaryUser {
    uid: u32,
    gid: u32,
    name: Option<String>,
}

impl OrdinaryUser {
    /// The user that `KEELBOX_TEST_USER` names (which may have ranges in `/etc/subuid`), else 65534 without a name.
    ///
    /// # Errors
    ///
    /// When the variable names a user that `/etc/passwd` does not have.
    pub fn for_tests() -> io::Result<Self> {
        let Ok(name) = env::var("KEELBOX_TEST_USER") else {
            return Ok(Self { uid: 65534, gid: 65534, name: None });
        };
        let unknown = || io::Error::new(io::ErrorKind::NotFound, format!("no user {name} in /etc/passwd"));
        let passwd = fs::read_to_string("/etc/passwd")?;
        let line = passwd.lines().find(|line| line.split(':').next() == Some(&name)).ok_or_else(unknown)?;
        let id = |at: usize| line.split(':').nth(at).and_then(|id| id.parse().ok()).ok_or_else(unknown);
        Ok(Self { uid: id(2)?, gid: id(3)?, name: Some(name.clone()) })
    }

    /// The user's number.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// The number of the user's group.
    #[must_use]
    pub fn gid(&self) -> u32 {
        self.gid
    }

    /// A command that runs as this user, through `setpriv(1)`: no supplementary groups, no capabilities.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(find_program("setpriv").unwrap_or_else(|| "setpriv".into()));
        command.args(["--reuid", &self.uid.to_string(), "--regid", &self.gid.to_string()]);
        command.args(["--clear-groups", "--inh-caps=-all"]);
        if let Some(name) = &self.name {
            command.env("USER", name).env("LOGNAME", name);
        }
        command.arg("--").arg(program);
        command
    }

    /// Makes a directory that this user owns, mode 0700. It goes when the value is dropped.
    ///
    /// # Errors
    ///
    /// Any of making or giving away a directory; needs root.
    pub fn home(&self) -> io::Result<TempDir> {
        let home = tempfile::Builder::new().prefix("keelbox-home-").tempdir_in("/var/tmp")?;
        std::os::unix::fs::chown(home.path(), Some(self.uid), Some(self.gid))?;
        Ok(home)
    }

    /// The running program under a path that this user can execute: its own, or that of a copy below `home`.
    fn reachable_copy(&self, home: &Path) -> io::Result<PathBuf> {
        let program = env::current_exe()?;
        let open = |path: &Path, bits: u32| fs::metadata(path).is_ok_and(|found| found.mode() & bits == bits);
        if open(&program, 0o5) && program.ancestors().skip(1).all(|directory| open(directory, 0o1)) {
            return Ok(program);
        }
        let copy = home.join("test-program");
        fs::copy(&program, &copy)?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
        Ok(copy)
    }
}

fn is_marked(variable: &str, test: &str) -> bool {
    env::var_os(variable).is_some_and(|marked| marked == test)
}

fn harness<'a>(command: &'a mut Command, test: &str) -> &'a mut Command {
    command.args(["--exact", test, "--nocapture", "--test-threads=1"])
}

/// Runs the command, hands on what it says about skipping, and panics with all it said when it failed.
fn judge(test: &str, command: &mut Command) {
    let (status, stdout, stderr) = match run_with_files(command) {
        Ok(ran) => ran,
        Err(error) => panic!("cannot run {test} in a process of its own ({command:?}): {error}"),
    };
    stderr.lines().filter_map(|line| line.find("SKIP ").map(|at| &line[at..])).for_each(say);
    let passed = status.success() && stdout.contains("1 passed");
    // Set in, so that nobody takes the inner harness's result line for one of the outer.
    let said = format!("{stdout}\n{stderr}").replace('\n', "\n  | ");
    let who = Uid::effective();
    assert!(passed, "{test} in a process of its own (started by user {who}): {status}\n  | {said}");
}

/// Files and not pipes: of a pipe one would have to wait until the last process that a bad test leaves behind lets go.
fn run_with_files(command: &mut Command) -> io::Result<(ExitStatus, String, String)> {
    let mut files = [tempfile::tempfile()?, tempfile::tempfile()?];
    command.stdin(Stdio::null()).stdout(files[0].try_clone()?).stderr(files[1].try_clone()?);
    let status = command.status()?;
    let mut texts = [Vec::new(), Vec::new()];
    for (file, text) in files.iter_mut().zip(&mut texts) {
        file.rewind()?;
        file.read_to_end(text)?;
    }
    let [stdout, stderr] = texts.map(|text| String::from_utf8_lossy(&text).into_owned());
    Ok((status, stdout, stderr))
}

/// Writes a line to standard error past the test harness, which keeps what `eprintln!` prints in a passing test.
pub(crate) fn say(line: &str) {
    if !SILENT.get() {
        // There is nobody to tell when standard error is closed.
        let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
    }
}

thread_local! {
    static SILENT: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Runs `test` without letting it say anything by [`say`].
#[cfg(test)]
pub(crate) fn silently(test: fn()) {
    SILENT.set(true);
    test();
    SILENT.set(false);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_what_the_harness_calls_the_test() {
        assert_eq!(crate::test_name!(), "rerun::tests::the_name_is_what_the_harness_calls_the_test");
        let in_closure = || crate::test_name!();
        assert_eq!(in_closure(), crate::test_name!());
    }

    #[test]
    fn a_test_alone_has_the_process_to_itself() {
        crate::alone!();
        assert!(is_alone());
        let tasks = fs::read_dir("/proc/self/task").expect("/proc is mounted").count();
        assert_eq!(tasks, 2, "the harness and this test");
    }

    #[test]
    #[should_panic(expected = "in a process of its own")]
    fn a_failure_alone_is_a_failure() {
        if alone("rerun::tests::a_failure_alone_is_a_failure") {
            // What fails is the inner run: this message is not the expected one.
            panic!("inner");
        }
    }

    #[test]
    #[should_panic(expected = "0 passed")]
    fn a_name_that_no_test_has_is_a_failure() {
        let _ = alone("no_such_test");
    }

    #[test]
    fn a_test_apart_has_mounts_of_its_own() -> crate::Result {
        crate::require!(Root, MountNamespace, Program("unshare"));
        crate::apart!();
        let first = nix::unistd::getppid();
        assert_ne!(fs::read_link("/proc/self/ns/mnt")?, fs::read_link(format!("/proc/{first}/ns/mnt"))?);
        let table = fs::read_to_string("/proc/self/mountinfo")?;
        assert!(!table.contains(" shared:"), "{table}");
        Ok(())
    }

    #[test]
    fn an_ordinary_user_has_no_capabilities() -> crate::Result {
        crate::require!(OrdinaryUser);
        crate::as_user!();
        assert!(!geteuid().is_root());
        let status = fs::read_to_string("/proc/self/status")?;
        assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
        let home = env::var("HOME")?;
        fs::write(Path::new(&home).join("mine"), "x")?;
        assert!(fs::write("/etc/not-mine", "x").is_err());
        Ok(())
    }
}
