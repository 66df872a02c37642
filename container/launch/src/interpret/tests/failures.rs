//! Every call of a whole script fails once in every way: the machine stops at that step, but where it says what else it does.

use super::{CONTROL, Made, perform, script, usual};
use crate::interpret::Stop;
use crate::owned::OwnedStep;
use crate::step::Step;
use crate::sys::Errno;

const ERRORS: [Errno; 8] =
    [Errno::EPERM, Errno::ENOSYS, Errno::ENOENT, Errno::EACCES, Errno::EIO, Errno::EINTR, Errno::EINVAL, Errno::ENOMEM];

/// What the machine does after an error that is not the end of the step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Meaning {
    /// The step has failed with this error.
    Fails,
    /// The step goes on in another way, or without what is not there.
    GoesOn,
}

/// The whole table of errors that do not stop the machine.
fn meaning(step: &OwnedStep, before: Option<&Made>, made: &Made, errno: Errno) -> Meaning {
    let absent = errno == Errno::ENOENT;
    let goes_on = match (made.name.as_str(), step) {
        // Without openat2(2), component by component.
        ("openat2", _) if matches!(errno, Errno::ENOSYS | Errno::EPERM) => true,
        // What is not there need not be hidden.
        ("openat2", Step::Mask { .. } | Step::ReadOnly { .. }) => absent,
        ("openat", Step::Mask { .. }) | ("mount", Step::ReadOnly { .. }) => absent,
        // A mask that cannot be bound again is copied.
        ("mount", Step::Mask { .. }) => true,
        // What is not there is made.
        ("openat2", Step::Attach { .. } | Step::Mount { .. } | Step::File { .. }) => absent,
        ("openat2", Step::Terminal { .. }) => absent && made.texts == ["/dev/console"],
        ("openat2", Step::WorkingDirectory { .. }) => absent,
        // Without mount_setattr(2), by a remount.
        ("mount_setattr", _) => errno == Errno::ENOSYS,
        // A mask that older kernels cannot copy is made anew.
        ("open_tree", Step::Mask { .. }) => errno == Errno::EINVAL,
        // An overlay that this kernel's fsconfig(2) cannot make is made by mount(2).
        ("fsconfig" | "fsmount", Step::FileSystem { kind, .. }) => {
            errno == Errno::EINVAL && kind.as_c_str() == c"overlay"
        }
        // What has been taken away cannot be taken away again: the second call asks for just that answer.
        ("umount2", Step::LeaveOldRoot {}) => {
            errno == Errno::EINVAL && before.is_some_and(|before| before.name == "umount2")
        }
        // Beyond the last capability that the kernel knows.
        ("prctl", Step::Bounding { .. }) => errno == Errno::EINVAL && made.arguments[1] > 40,
        // A kernel without keys has none to hide.
        ("keyctl", _) => errno == Errno::ENOSYS,
        ("clone3", _) => matches!(errno, Errno::ENOSYS | Errno::EPERM),
        // The next path.
        ("execve" | "faccessat", _) => absent || errno == Errno::EACCES,
        // Telling is not needed for going on. Handing over a descriptor is.
        ("sendmsg", step) => matches!(step, Step::Tell { .. }),
        _ => false,
    };
    if goes_on { Meaning::GoesOn } else { Meaning::Fails }
}

/// The step in which each call of the script is made.
fn owners(steps: &[OwnedStep]) -> Vec<usize> {
    let mut owners = Vec::new();
    for count in 1..=steps.len() {
        let (_, kernel) = perform(&steps[..count], CONTROL, usual);
        owners.resize(kernel.made.len(), count - 1);
    }
    owners
}

#[test]
fn every_error_of_every_call_stops_the_machine_or_has_a_fallback() {
    let steps = script::whole();
    let mut cases = 0;
    for (index, owner) in owners(&steps).into_iter().enumerate() {
        for errno in ERRORS {
            let step = &steps[owner];
            let (outcome, kernel) = perform(&steps, CONTROL, |call, _, _| (call == index).then_some(Err(errno)));
            let made = &kernel.made[index];
            let failed = Err(Stop::Failed { step: owner as u32, errno });
            cases += 1;
            let before = index.checked_sub(1).map(|before| &kernel.made[before]);
            match meaning(step, before, made, errno) {
                Meaning::Fails => {
                    assert_eq!(outcome, failed, "{step:?}: {made:?} {errno:?}");
                    let after = &kernel.names()[index + 1..];
                    assert!(after.iter().all(|name| *name == "close"), "{step:?}: {made:?} {errno:?}: {after:?}");
                }
                Meaning::GoesOn => assert_eq!(outcome, Ok(()), "{step:?}: {made:?} {errno:?}"),
            }
        }
    }
    assert!(cases > 1700, "{cases} cases");
}

/// A call that is refused each time it is tried stops the step too, after its fallback.
#[test]
fn no_step_that_secures_the_program_is_passed_over() {
    let steps = script::whole();
    let secures = |step: &OwnedStep| {
        matches!(
            step,
            Step::Conceal {}
                | Step::Groups { .. }
                | Step::Ids { .. }
                | Step::Bounding { .. }
                | Step::Capabilities { .. }
                | Step::NoNewPrivileges {}
                | Step::Seccomp { .. }
                | Step::Mask { .. }
                | Step::ReadOnly { .. }
                | Step::Attributes { .. }
                | Step::LeaveOldRoot {}
                | Step::PivotRoot { .. }
                | Step::WorkingDirectory { .. }
                | Step::ResourceLimit { .. }
                | Step::Keyring { .. }
                | Step::Dies { .. }
        )
    };
    let owners = owners(&steps);
    for (owner, step) in steps.iter().enumerate().filter(|(_, step)| secures(step)) {
        let first = owners.iter().position(|other| *other == owner).unwrap();
        for errno in ERRORS {
            // From the first call of this step on, nothing works.
            let (outcome, kernel) = perform(&steps, CONTROL, |call, _, _| (call >= first).then_some(Err(errno)));
            let passes = match step {
                // Absent: the only error that means that there is nothing to do.
                Step::Mask { .. } | Step::ReadOnly { .. } => errno == Errno::ENOENT,
                // No keys, nothing to hide.
                Step::Keyring { .. } => errno == Errno::ENOSYS,
                _ => false,
            };
            let Err(Stop::Failed { step: failed, .. }) = outcome else {
                panic!("{step:?} {errno:?}: {outcome:?} {:?}", kernel.names())
            };
            assert_eq!(failed as usize == owner, !passes, "{step:?} {errno:?} {outcome:?}");
        }
    }
}
