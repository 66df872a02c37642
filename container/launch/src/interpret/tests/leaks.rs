//! In a program that performs steps itself, every descriptor is closed again, whichever call fails.

use super::{perform, script, usual};
use crate::sys::Errno;

#[test]
fn nothing_stays_open_and_nothing_is_closed_twice() {
    let steps = script::in_process();
    let (outcome, kernel) = perform(&steps, -1, usual);
    assert_eq!(outcome, Ok(()));
    assert!(
        kernel.open.is_empty() && kernel.wrongly_closed.is_empty(),
        "{:?} {:?}",
        kernel.open,
        kernel.wrongly_closed
    );
    let calls = kernel.made.len();
    for index in 0..calls {
        for errno in [Errno::EIO, Errno::ENOSYS, Errno::EINVAL, Errno::ENOENT] {
            let (_, kernel) =
                perform(&steps, -1, |call, made, _| (call == index && made.name != "close").then_some(Err(errno)));
            let made = &kernel.made[index];
            assert!(kernel.open.is_empty(), "{made:?} {errno:?} leaves {:?} open", kernel.open);
            assert!(kernel.wrongly_closed.is_empty(), "{made:?} {errno:?} closes {:?} twice", kernel.wrongly_closed);
        }
    }
}
