//! Real user lands: a busybox root file system, and a Debian image as an OCI layout.

use crate::need::find_program;
use crate::probe::{open_directory, skeleton};
use nix::fcntl::{Flock, FlockArg};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Makes a root file system of Debian's `busybox-static`: what [`probe_root`](crate::probe_root) has, without the probe,
/// and `/bin/busybox` with a link for each of its programs.
///
/// A test says `require!(Program("busybox"))` first.
///
/// # Errors
///
/// When there is no busybox, or one that needs a C library, and any of making files.
pub fn busybox_root() -> io::Result<TempDir> {
    let busybox = find_program("busybox").ok_or_else(|| missing("busybox"))?;
    let root = open_directory("keelbox-busybox-")?;
    skeleton(root.path())?;
    let bin = root.path().join("bin");
    // `cp`, as a descriptor of ours that is open for writing would make `execve` fail in other threads' children.
    run(Command::new("cp").arg("--dereference").arg(&busybox).arg(bin.join("busybox")))?;
    if fs::read(bin.join("busybox"))?.windows(14).any(|bytes| bytes == b"/lib64/ld-linu" || bytes == b"/lib/ld-linux-")
    {
        return Err(io::Error::new(io::ErrorKind::Unsupported, format!("{} is not static", busybox.display())));
    }
    for name in run(Command::new(&busybox).arg("--list"))?.lines().filter(|name| *name != "busybox") {
        symlink("busybox", bin.join(name))?;
    }
    Ok(root)
}

/// The OCI layout of a real Debian (`bookworm`, minimal variant), made once and kept below `/var/tmp/keelbox-testbed`.
///
/// The image has the tag `bookworm`, one layer, the command `bash` and a `PATH`. The first call takes a minute or two
/// and fetches packages from the mirror that this machine's `apt` uses. A test says
/// `require!(Root, Program("debootstrap"), Program("umoci"))` first.
///
/// # Errors
///
/// When a tool is missing or fails (with what it said), or when the directory belongs to somebody else.
pub fn debian_layout() -> io::Result<PathBuf> {
    debian_layout_in(Path::new("/var/tmp/keelbox-testbed"))
}

/// [`debian_layout`] in a directory of the caller's choice, which is made when it does not exist.
///
/// # Errors
///
/// As [`debian_layout`].
pub fn debian_layout_in(directory: &Path) -> io::Result<PathBuf> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    let owner = fs::symlink_metadata(directory)?;
    if !owner.is_dir() || owner.uid() != nix::unistd::geteuid().as_raw() {
        let text = format!("{} is not a directory of this user", directory.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    let lock = fs::File::create(directory.join("lock"))?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| io::Error::from(errno))?;
    let layout = directory.join("debian");
    if !layout.join("index.json").exists() {
        let work = tempfile::Builder::new().prefix("making-").tempdir_in(directory)?;
        fs::rename(make_debian(work.path())?, &layout)?;
    }
    Ok(layout)
}

fn make_debian(work: &Path) -> io::Result<PathBuf> {
    let (root, layout) = (work.join("root"), work.join("layout"));
    let tool = |name: &str| find_program(name).map(Command::new).ok_or_else(|| missing(name));
    let mut debootstrap = tool("debootstrap")?;
    debootstrap.args(["--variant=minbase", "bookworm"]).arg(&root);
    if let Some(mirror) = mirror() {
        debootstrap.arg(mirror);
    }
    run(&mut debootstrap)?;
    let cache = root.join("var/cache/apt/archives");
    for entry in fs::read_dir(cache)?.flatten().filter(|entry| entry.path().extension().is_some_and(|it| it == "deb")) {
        fs::remove_file(entry.path())?;
    }
    let image = format!("{}:bookworm", layout.display());
    run(tool("umoci")?.arg("init").arg("--layout").arg(&layout))?;
    run(tool("umoci")?.args(["new", "--image", &image]))?;
    run(tool("umoci")?.args(["insert", "--image", &image]).arg(&root).arg("/"))?;
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    run(tool("umoci")?.args(["config", "--image", &image, "--config.env", path, "--config.cmd", "bash"]))?;
    run(tool("umoci")?.args(["gc", "--layout"]).arg(&layout))?;
    Ok(layout)
}

/// The mirror from which this machine's own packages come.
fn mirror() -> Option<String> {
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", "$(SUITE) $(COMPONENT) $(REPO_URI)"]);
    let targets = run(&mut command).ok()?;
    targets.lines().find_map(|line| line.strip_prefix("bookworm main ")).map(str::to_owned)
}

fn missing(program: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no program {program} in PATH"))
}

/// Runs a command and returns what it printed.
pub(crate) fn run(command: &mut Command) -> io::Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{command:?}: {}\n{stdout}\n{stderr}", output.status)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busybox_runs_in_its_root() -> crate::Result {
        crate::require!(Root, Program("busybox"));
        let root = busybox_root()?;
        let output = Command::new("chroot").arg(root.path()).args(["/bin/sh", "-c", "echo hi; id -u"]).output()?;
        assert_eq!(String::from_utf8_lossy(&output.stdout), "hi\n0\n");
        Ok(())
    }

    #[test]
    fn a_debian_layout_is_made() -> crate::Result {
        crate::require!(Slow, Root, Program("debootstrap"), Program("umoci"));
        let directory = tempfile::tempdir_in("/var/tmp")?;
        let layout = debian_layout_in(directory.path())?;
        assert!(fs::read_to_string(layout.join("index.json"))?.contains("bookworm"));
        Ok(())
    }
}
