//! The probe program as bytes, and the smallest root file system around it.

use nix::unistd::geteuid;
use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// The probe: a static executable for the processor that the tests run on. The crate's own page lists its commands.
pub static PROBE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/probe"));

const PASSWD: &str = "root:x:0:0:root:/root:/probe\nuser:x:1000:1000:user:/home/user:/probe\n\
                      nobody:x:65534:65534:nobody:/:/probe\n";
const GROUP: &str = "root:x:0:\nuser:x:1000:\nextra:x:2000:user\nnogroup:x:65534:\n";

/// Makes a minimal root file system: `/probe`, `/etc/{passwd,group}` with the users `root`, `user` (1000, also in group
/// `extra`, 2000) and `nobody`, and empty `/bin`, `/dev`, `/home/user`, `/proc`, `/root`, `/sys` and `/tmp`.
///
/// The directory has mode 0755 and goes when the value is dropped.
///
/// # Errors
///
/// Any of making files, or of running `tee`.
pub fn probe_root() -> io::Result<TempDir> {
    let root = open_directory("keelbox-probe-")?;
    let path = root.path();
    skeleton(path)?;
    write_program(&path.join("probe"), PROBE)?;
    Ok(root)
}

/// A fresh directory that everybody may enter: a program in a container need not be root.
pub(crate) fn open_directory(prefix: &str) -> io::Result<TempDir> {
    let directory = tempfile::Builder::new().prefix(prefix).tempdir()?;
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755))?;
    Ok(directory)
}

/// Makes the directories and the two user lists of [`probe_root`].
pub(crate) fn skeleton(root: &Path) -> io::Result<()> {
    let directories =
        [("bin", 0o755), ("dev", 0o755), ("etc", 0o755), ("home", 0o755), ("home/user", 0o755), ("proc", 0o555)];
    for (name, mode) in directories.into_iter().chain([("root", 0o700), ("sys", 0o555), ("tmp", 0o1777)]) {
        let directory = root.join(name);
        fs::create_dir(&directory)?;
        fs::set_permissions(&directory, Permissions::from_mode(mode))?;
    }
    fs::write(root.join("etc/passwd"), PASSWD)?;
    fs::write(root.join("etc/group"), GROUP)?;
    if geteuid().is_root() {
        chown(root.join("home/user"), Some(1000), Some(1000))?;
    }
    Ok(())
}

/// Writes an executable file by way of another process. A descriptor of ours, open for writing, could be inherited by
/// what a thread beside this one forks at that moment, and then executing the file fails with `ETXTBSY`.
fn write_program(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut tee = Command::new("tee").arg(path).stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    let written = tee.stdin.take().map_or(Ok(()), |mut pipe| pipe.write_all(bytes));
    let status = tee.wait()?;
    written?;
    if !status.success() {
        return Err(io::Error::other(format!("cannot write {}: tee ended with {status}", path.display())));
    }
    fs::set_permissions(path, Permissions::from_mode(0o755))
}
