//! Strangers are closed in every way that the kernel allows, and the stage's own descriptors keep clear of the program's.

use super::{CONTROL, Made, Recorder, perform, usual};
use crate::interpret::{Machine, Stop};
use crate::step::{Slot, Step};
use crate::sys::{Call, Errno};
use crate::text;

fn tidy<'p>(
    plan: impl FnMut(usize, &Made, &Call<'_>) -> Option<Result<usize, Errno>> + 'p,
) -> (Result<(), Stop>, Recorder<'p>) {
    let mut machine = Machine::new(Recorder::new(plan), CONTROL, &mut []);
    let outcome = machine.tidy();
    (outcome, machine.kernel)
}

#[test]
fn tidying_takes_six_calls() {
    let (outcome, kernel) = tidy(usual);
    assert_eq!(outcome, Ok(()));
    assert_eq!(kernel.names(), ["close_range", "close_range", "fcntl", "fcntl", "fcntl", "fcntl"]);
    assert_eq!(kernel.made[0].arguments[..2], [3, CONTROL as usize - 1]);
    assert_eq!(kernel.made[1].arguments[..2], [CONTROL as usize + 1, u32::MAX as usize]);
}

#[test]
fn a_closed_stream_is_opened() {
    let closed = |_: usize, made: &Made, _: &Call<'_>| {
        (made.name == "fcntl" && made.arguments[..2] == [1, 1]).then_some(Err(Errno::EBADF))
    };
    let (outcome, kernel) = tidy(closed);
    assert_eq!(outcome, Ok(()));
    let opened: Vec<_> = kernel.made.iter().filter(|made| made.name == "openat").collect();
    assert_eq!(opened.len(), 1);
    assert_eq!(opened[0].texts, ["/dev/null"]);
}

/// A directory of procfs as `getdents64(2)` gives it.
fn entries(names: &[&str]) -> Vec<u8> {
    names.iter().fold(Vec::new(), |mut bytes, name| {
        let length = (19 + name.len() + 1).next_multiple_of(8);
        let start = bytes.len();
        bytes.extend([0; 16]);
        bytes.extend((length as u16).to_ne_bytes());
        bytes.push(10);
        bytes.extend(name.as_bytes());
        bytes.resize(start + length, 0);
        bytes
    })
}

#[test]
fn without_close_range_procfs_tells_what_to_close() {
    for errno in [Errno::ENOSYS, Errno::EPERM] {
        let mut lists = vec![
            // The second list: what was opened meanwhile does not matter, nothing is left to close.
            vec![entries(&[".", "..", "0", "1", "2", "500", "1002"])],
            vec![entries(&["7", "65536"]), entries(&[".", "..", "0", "1", "2", "3", "500", "1001", "x9"])],
        ];
        let mut closed = Vec::new();
        let (outcome, _) = tidy(|_, made, call| match made.name.as_str() {
            "close_range" => Some(Err(errno)),
            "getdents64" => {
                let list = lists.last_mut().expect("no third list");
                let Some(part) = list.pop() else {
                    lists.pop();
                    return Some(Ok(0));
                };
                call.fill(1, 0, &part);
                Some(Ok(part.len()))
            }
            "close" => {
                closed.push(made.arguments[0]);
                Some(Ok(0))
            }
            _ => None,
        });
        assert_eq!(outcome, Ok(()));
        assert_eq!(closed, [3, 7, 65536, 1001, 1002]);
    }
}

#[test]
fn where_nothing_can_be_closed_nothing_starts() {
    let (outcome, _) = tidy(|_, made, _| match made.name.as_str() {
        "close_range" => Some(Err(Errno::EPERM)),
        "openat" => Some(Err(Errno::ENOENT)),
        _ => None,
    });
    assert_eq!(outcome, Err(Stop::Failed { step: 0, errno: Errno::ENOENT }));
}

#[test]
fn what_the_stage_opens_stays_above_the_numbers_of_the_program() {
    let steps = [
        Step::Open { path: text("/a"), out: Slot(0) },
        Step::Descriptor { slot: Slot(0), number: 1500 },
        Step::Descriptor { slot: Slot(0), number: 4 },
    ];
    let script = crate::script::encode(&steps, 0, 3, 0);
    // The recorder gives the numbers 1001, 1002, … also to fcntl(2), which here must not be taken at its word.
    let mut next = 1500;
    let plan = move |_: usize, made: &Made, _: &Call<'_>| {
        (made.name == "fcntl" && made.arguments[1] == 1030).then(|| {
            assert_eq!(made.arguments[2], 1501);
            next += 1;
            Ok(next)
        })
    };
    let mut machine = Machine::new(Recorder::new(plan), CONTROL, &mut []);
    machine.keep_clear(1501).unwrap();
    assert_eq!(machine.control, 1501, "the line to the host moves first");
    machine.run(&script).unwrap();
    let kernel = machine.kernel;
    let moved: Vec<_> = kernel.made.iter().filter(|made| made.name == "dup3").map(|made| made.arguments).collect();
    assert_eq!(moved[0][..2], [1502, 1500]);
    assert_eq!(moved[1][..2], [1502, 4]);
}

#[test]
fn a_descriptor_that_has_its_number_already_is_let_through() {
    let steps = [Step::Open { path: text("/a"), out: Slot(0) }, Step::Descriptor { slot: Slot(0), number: 1001 }];
    let (outcome, kernel) = perform(&steps, CONTROL, usual);
    assert_eq!(outcome, Ok(()));
    assert_eq!(kernel.names(), ["openat", "fcntl"]);
    assert_eq!(kernel.made[1].arguments[..3], [1001, 2, 0]);
}
