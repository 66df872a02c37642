//! Giving a v2 group to somebody else: the directory, and the files that the kernel says go with it.
//!
//! Leaves out: v1, where no group can be handed over safely. Oldest kernel: 4.5; the list is there since 4.15.

use std::fs;
use std::io::ErrorKind as Io;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::unistd::{Uid, fchown, fchownat};

use super::Group;
use crate::directory::Directory;
use crate::error::{Error, Result};

const LIST: &str = "/sys/kernel/cgroup/delegate";

impl Group {
    /// Makes the user `owner` the owner of the v2 group: of its directory, and of the files in it that may be given away
    /// (`/sys/kernel/cgroup/delegate`; before Linux 4.15 `cgroup.procs`, `cgroup.subtree_control` and `cgroup.threads`). Limits stay the
    /// caller's. Does nothing on a host with v1 only.
    ///
    /// # Errors
    /// [`PermissionDenied`](crate::ErrorKind::PermissionDenied) without `CAP_CHOWN`. A listed file that this kernel does not have is passed over.
    pub fn chown(&self, owner: u32) -> Result<()> {
        match self.unified() {
            Some(node) => give(&node.directory, owner, &delegated()?),
            None => Ok(()),
        }
    }
}

fn give(directory: &Directory, owner: u32, files: &[String]) -> Result<()> {
    let owner = Some(Uid::from_raw(owner));
    let cannot = |what: &str, errno| {
        Error::os(format!("cannot change the owner of {what} of group {}", directory.path().display()), errno)
    };
    for file in files {
        match fchownat(directory, file.as_str(), owner, None, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(cannot(file, errno)),
        }
    }
    fchown(directory, owner, None).map_err(|errno| cannot("the directory", errno))
}

/// What goes with a group that is handed over.
fn delegated() -> Result<Vec<String>> {
    match fs::read_to_string(LIST) {
        Ok(text) => Ok(listed(&text)),
        Err(error) if error.kind() == Io::NotFound => Ok(listed("cgroup.procs cgroup.subtree_control cgroup.threads")),
        Err(error) => Err(Error::io(format!("cannot read {LIST}"), error)),
    }
}

fn listed(text: &str) -> Vec<String> {
    text.split_ascii_whitespace().filter(|file| !file.contains('/')).map(str::to_owned).collect()
}
