//! Steps performed by the calling thread itself, for those who want a mount namespace of their own and no container.

use crate::interpret::{Machine, Stop};
use crate::launch::Failure;
use crate::owned::OwnedStep;
use crate::script;
use crate::sys::{Errno, Linux};

/// Performs `steps` in this very thread. What they change is changed for this thread (namespaces, working directory after
/// `unshare(2)`, credentials) or for the process, as the kernel has it.
///
/// Steps that need a process of their own (`Wait`, `Fork`, `Dies`, `Exec`, `Terminal`, `Conceal`) are refused with `ENOSYS`.
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
    use crate::step::Step;
    let needs_a_process = |step: &OwnedStep| {
        matches!(
            step,
            Step::Wait { .. }
                | Step::Fork { .. }
                | Step::Dies { .. }
                | Step::Exec { .. }
                | Step::Terminal { .. }
                | Step::Conceal {}
                | Step::Tell { .. }
        )
    };
    if let Some(index) = steps.iter().position(needs_a_process) {
        return Err(Failure { step: index as u32, errno: Errno::ENOSYS });
    }
    let script = script::encode(steps, 0, 3, 0);
    let mut machine = Machine::new(Linux, -1, &mut []);
    let outcome = machine.run(&script);
    machine.close_all();
    outcome.map_err(|stop| match stop {
        Stop::Failed { step, errno } => Failure { step, errno },
        Stop::HostGone | Stop::Forked => Failure { step: 0, errno: Errno::EPROTO },
    })
}
