//! Performs a mount plan in the calling thread. Oldest kernel: 5.10.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use keelbox_launch::sys::{self, Call, Kernel, Linux, MountAttr};
use keelbox_launch::{Errno, OwnedStep, perform};

use super::MountPlan;
use super::lower::Lowered;
use crate::attribute::AT_RECURSIVE;
use crate::rootfs::check_null;
use crate::{Error, Root};

const AT_FDCWD: i32 = -100;
const AT_EMPTY_PATH: u32 = 0x1000;
const OPEN_TREE_CLONE: u32 = 1;
const OPEN_TREE_CLOEXEC: u32 = libc::O_CLOEXEC as u32;
const MOUNT_ATTR_IDMAP: u64 = 0x10_0000;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 0x04;
const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;

impl MountPlan {
    /// Gives the calling thread a mount namespace of its own, cut off from the host's, and performs the plan there.
    ///
    /// What it changes is seen by this thread, and by the threads and processes that it starts later; the other threads of the
    /// program keep their view, and so do thread pools started before. A program that wants the view for all of it applies the
    /// plan first thing in `main`. Its working directory and umask are the thread's own afterwards, and unchanged.
    ///
    /// Needs `CAP_SYS_ADMIN` (in a user namespace, for instance). There is no way back: to undo it, let the thread end.
    ///
    /// # Errors
    ///
    /// A mistake in the plan (see [`steps`](Self::steps)), or the step that failed, with the kernel's answer as source. The
    /// thread then has a mount namespace of its own with the steps done before it.
    ///
    /// ```no_run
    /// use keelbox_mounts::MountPlan;
    /// MountPlan::new().tmpfs("/tmp", 64 << 20).apply()?;
    /// # Ok::<(), keelbox_mounts::Error>(())
    /// ```
    pub fn apply(&self) -> Result<(), Error> {
        let base = std::env::current_dir();
        let base = base.map_err(|error| Error::io("cannot find the working directory", error))?;
        let lowered = self.lower(Some(&base))?;
        if lowered.has_masks {
            let root = Root::at("/")?;
            check_null(root.open_with("/dev/null", crate::OpenOptions::new().path_only())?.as_fd())?;
        }
        let own = [
            OwnedStep::Unshare { kinds: libc::CLONE_NEWNS as u32 },
            OwnedStep::Propagation { path: c"/".to_owned(), flags: libc::MS_REC | libc::MS_PRIVATE },
        ];
        all(&own, 0, own.len())?;
        let surroundings = Surroundings::leave()?;
        let done = run(&lowered);
        surroundings.restore().and(done)
    }
}

/// Performs the steps, those of idmapped binds by hand: `perform` takes no descriptors along.
fn run(lowered: &Lowered) -> Result<(), Error> {
    let (steps, total) = (lowered.steps.as_slice(), lowered.steps.len());
    let mut next = 0;
    for (index, namespace) in &lowered.idmapped {
        all(steps.get(next..*index).unwrap_or_default(), next, total)?;
        let pair = steps.get(*index..index + 2).unwrap_or_default();
        idmapped(pair, namespace.as_fd()).map_err(|(at, errno)| failed(pair, at, *index, total, errno))?;
        next = index + 2;
    }
    all(steps.get(next..).unwrap_or_default(), next, total)
}

fn all(steps: &[OwnedStep], first: usize, total: usize) -> Result<(), Error> {
    perform(steps).map_err(|failure| failed(steps, failure.step as usize, first, total, failure.errno))
}

fn failed(steps: &[OwnedStep], at: usize, first: usize, total: usize, errno: Errno) -> Error {
    let what = steps.get(at).map_or_else(|| "perform the plan".to_owned(), ToString::to_string);
    Error::os(format!("cannot {what} (step {} of {total})", first + at + 1), errno)
}

/// Performs a `Tree` and the `Attach` that follows it, mapping ids by `namespace`.
fn idmapped(pair: &[OwnedStep], namespace: BorrowedFd<'_>) -> Result<(), (usize, Errno)> {
    let [OwnedStep::Tree { source, recursive, set, propagation, .. }, OwnedStep::Attach { target, .. }] = pair else {
        return Err((0, Errno::EINVAL));
    };
    let mut kernel = Linux;
    let recursive = recursive & AT_RECURSIVE;
    let flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | recursive;
    let tree = kernel.perform(Call::open_tree(AT_FDCWD, source, flags)).map_err(|errno| (0, errno))?;
    let tree = Number(tree as i32);
    let user_namespace = namespace.as_raw_fd() as u64;
    let attr = MountAttr { set: set | MOUNT_ATTR_IDMAP, clear: 0, propagation: *propagation, user_namespace };
    kernel.perform(Call::mount_setattr(tree.0, c"", AT_EMPTY_PATH | recursive, &attr)).map_err(|errno| (0, errno))?;
    let root = Root::at("/").map_err(|_| (1, Errno::ENOENT))?;
    let place = sys::open_inside(root.as_fd(), target, libc::O_PATH, 0).map_err(|errno| (1, errno))?;
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    let moved = kernel.perform(Call::move_mount(tree.0, c"", place.as_raw_fd(), c"", flags));
    moved.map(|_| ()).map_err(|errno| (1, errno))
}

/// A descriptor that a raw call gave, closed at the end.
struct Number(i32);

impl Drop for Number {
    fn drop(&mut self) {
        let _closed = Linux.perform(Call::close(self.0));
    }
}

/// The thread's working directory and umask, to come back to.
struct Surroundings {
    directory: std::fs::File,
    umask: u32,
}

impl Surroundings {
    /// Remembers them and goes to `/`, from where inside paths start. The thread has its own since `unshare(2)`.
    fn leave() -> Result<Self, Error> {
        let mut options = std::fs::OpenOptions::new();
        std::os::unix::fs::OpenOptionsExt::custom_flags(options.read(true), libc::O_PATH | libc::O_DIRECTORY);
        let attempt = "cannot remember the working directory";
        let directory = options.open(Path::new(".")).map_err(|error| Error::io(attempt, error))?;
        Linux.perform(Call::chdir(c"/")).map_err(|errno| Error::os("cannot change to directory /", errno))?;
        let umask = Linux.perform(Call::umask(0o022)).unwrap_or(0o022) as u32;
        Linux.perform(Call::umask(umask)).map_err(|errno| Error::os("cannot set the umask", errno))?;
        Ok(Self { directory, umask })
    }

    fn restore(self) -> Result<(), Error> {
        let back = Linux
            .perform(Call::umask(self.umask))
            .and_then(|_| Linux.perform(Call::fchdir(self.directory.as_raw_fd())));
        back.map(|_| ()).map_err(|errno| Error::os("cannot come back to the working directory", errno))
    }
}
