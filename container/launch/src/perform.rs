//! Steps performed inside this program: by the calling thread itself, or by a short-lived one that leaves descriptors behind.
//!
//! Leaves out what needs a process of its own; that is what [`crate::Launch`] is for. Oldest kernel: 5.10.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::thread;

use crate::interpret::{Machine, Stop};
use crate::launch::Failure;
use crate::owned::OwnedStep;
use crate::script;
use crate::step::{Slot, Step};
use crate::sys::process::owned;
use crate::sys::{Call, Errno, Kernel, Linux};

/// Performs `steps` in this very thread. What they change is changed for this thread (namespaces, working directory after
/// `unshare(2)`, credentials) or for the process, as the kernel has it.
///
/// Steps that need a process of their own (`Wait`, `Fork`, `Dies`, `Exec`, `Terminal`, `Conceal`, `Tell`, `Session`, `Signals`,
/// `Descriptor`, `IoPriority`, and a `Seccomp` with a listener) are refused with `ENOSYS`.
///
/// # Errors
///
/// The step that failed and the kernel's answer. Steps before it stay done.
///
/// ```
/// use keelbox_launch::{Step, perform};
/// perform(&[Step::Umask { mask: 0o022 }])?;
/// # Ok::<(), keelbox_launch::Failure>(())
/// ```
pub fn perform(steps: &[OwnedStep]) -> Result<(), Failure> {
    run(Machine::new(Linux, -1, &mut []), steps, &[], &[]).map(|_kept| ())
}

/// Performs `steps` on a thread of their own and gives back the descriptors that they left in the slots `keep`, in that order:
/// detached mount trees, for instance, which a host keeps as templates.
///
/// The thread has its own working directory and file mode creation mask (`unshare(CLONE_FS)`; the mask is 0, as in the stage)
/// and ends before this function returns, so nothing of that reaches the host. Namespaces are the caller's: a step that attaches
/// something attaches it there. An overlay that an old kernel can only make by `mount(2)` is refused, unless its step names a
/// directory to make it in. Duplicates of `descriptors` are in slots 0, 1, 2, …; those that are not kept are closed.
///
/// Refuses the steps that [`perform`] refuses. Needs the privileges that the steps need, commonly `CAP_SYS_ADMIN`.
///
/// # Errors
///
/// The step that failed and the kernel's answer; `EBADF` at the number after the last step if a slot of `keep` is empty. Nothing
/// is kept then.
///
/// ```
/// use keelbox_launch::{Slot, Step, prepare, text};
/// let kept = prepare(&[Step::Open { path: text("/proc"), out: Slot(0) }], &[], &[Slot(0)])?;
/// assert_eq!(kept.len(), 1);
/// # Ok::<(), keelbox_launch::Failure>(())
/// ```
pub fn prepare(steps: &[OwnedStep], descriptors: &[BorrowedFd<'_>], keep: &[Slot]) -> Result<Vec<OwnedFd>, Failure> {
    let failed = |errno| Failure { step: 0, errno };
    let work = || {
        Linux.perform(Call::unshare(libc::CLONE_FS as u32)).map_err(failed)?;
        Linux.perform(Call::umask(0)).map_err(failed)?;
        run(Machine::new(Linux, -1, &mut []).shared(), steps, descriptors, keep)
    };
    thread::scope(|scope| {
        let thread =
            thread::Builder::new().name("keelbox-prepare".into()).stack_size(256 * 1024).spawn_scoped(scope, work);
        let thread = thread.map_err(|error| failed(Errno(error.raw_os_error().unwrap_or(libc::EAGAIN))))?;
        thread.join().unwrap_or(Err(failed(Errno::EPROTO)))
    })
}

fn run(
    mut machine: Machine<'_, Linux>,
    steps: &[OwnedStep],
    descriptors: &[BorrowedFd<'_>],
    keep: &[Slot],
) -> Result<Vec<OwnedFd>, Failure> {
    if let Some(index) = steps.iter().position(needs_a_process) {
        return Err(Failure { step: index as u32, errno: Errno::ENOSYS });
    }
    let script = script::encode(steps, 0, 3, 0);
    let outcome = lend(&mut machine, descriptors).and_then(|()| {
        machine.run(&script).map_err(|stop| match stop {
            Stop::Failed { step, errno } => Failure { step, errno },
            Stop::HostGone | Stop::Forked => Failure { step: 0, errno: Errno::EPROTO },
        })
    });
    let empty = Failure { step: steps.len() as u32, errno: Errno::EBADF };
    let kept = outcome.and_then(|()| {
        let taken = keep.iter().map(|slot| machine.take(*slot).ok_or(Errno::EBADF));
        taken.map(|taken| owned(taken? as usize)).collect::<Result<Vec<_>, _>>().map_err(|_| empty)
    });
    machine.close_all();
    kept
}

/// Puts duplicates of `descriptors` into the first slots.
fn lend(machine: &mut Machine<'_, Linux>, descriptors: &[BorrowedFd<'_>]) -> Result<(), Failure> {
    for (slot, descriptor) in (0..).zip(descriptors) {
        let copy = Linux.perform(Call::fcntl(descriptor.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3));
        copy.and_then(|copy| machine.receive(slot, copy as i32)).map_err(|errno| Failure { step: 0, errno })?;
    }
    Ok(())
}

fn needs_a_process(step: &OwnedStep) -> bool {
    const SECCOMP_FILTER_FLAG_NEW_LISTENER: u32 = 8;
    match step {
        Step::Seccomp { flags, .. } => flags & SECCOMP_FILTER_FLAG_NEW_LISTENER != 0,
        Step::Wait { .. } | Step::Fork { .. } | Step::Dies { .. } | Step::Exec { .. } | Step::Terminal { .. } => true,
        // The process group is that of the caller's other processes too.
        Step::IoPriority { .. } => true,
        Step::Conceal {} | Step::Tell { .. } | Step::Descriptor { .. } | Step::Session {} | Step::Signals {} => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::text;

    #[test]
    fn kept_slots_come_back_in_order_and_the_rest_is_closed() {
        let file = std::fs::File::open("/proc/self/status").unwrap();
        let steps = [
            Step::Open { path: text("/proc"), out: Slot(1) },
            Step::Open { path: text("/dev"), out: Slot(2) },
            Step::Open { path: text("/"), out: Slot(2) },
        ];
        let kept = prepare(&steps, &[file.as_fd()], &[Slot(2), Slot(0)]).unwrap();
        let identity = |descriptor: &OwnedFd| {
            let metadata = std::fs::File::from(descriptor.try_clone().unwrap()).metadata().unwrap();
            (metadata.dev(), metadata.ino())
        };
        let expected = |path: &str| std::fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino())).unwrap();
        assert_eq!([identity(&kept[0]), identity(&kept[1])], [expected("/"), expected("/proc/self/status")]);
    }

    #[test]
    fn the_host_keeps_its_directory_and_mask() {
        let directory = tempfile::tempdir().unwrap();
        let before = std::env::current_dir().unwrap();
        let path = text(directory.path());
        let wide = text(directory.path().join("wide"));
        let again = text(directory.path().join("again"));
        let steps = [
            Step::Enter { path },
            Step::Directory { path: wide, mode: 0o777 },
            Step::Directory { path: again, mode: 0o700 },
            Step::Umask { mask: 0o777 },
        ];
        prepare(&steps, &[], &[]).unwrap();
        assert_eq!(std::env::current_dir().unwrap(), before);
        // With the mask of a usual host, 022, it would be 755; with what the last step set, nothing could be made any more.
        assert_eq!(std::fs::metadata(directory.path().join("wide")).unwrap().mode() & 0o777, 0o777);
        let file = std::fs::File::create(directory.path().join("mine")).unwrap();
        assert_ne!(file.metadata().unwrap().mode() & 0o777, 0);
        // An inside path starts at `/` also after a step that went elsewhere.
        assert!(directory.path().join("again").is_dir());
    }

    #[test]
    fn an_empty_slot_and_a_step_that_needs_a_process_are_refused() {
        let open = Step::Open { path: text("/proc"), out: Slot(1) };
        let refused = prepare(std::slice::from_ref(&open), &[], &[Slot(1), Slot(7)]).unwrap_err();
        assert_eq!(refused, Failure { step: 1, errno: Errno::EBADF });
        for step in [
            Step::Conceal {},
            Step::Dies { signal: 9 },
            Step::Tell { what: 1 },
            Step::Fork { flags: 0, cgroup: Slot::NONE },
        ] {
            let refused = perform(&[open.clone(), step]).unwrap_err();
            assert_eq!(refused, Failure { step: 1, errno: Errno::ENOSYS });
        }
    }
}
