//! The stage: the program between the host and the user's program. It receives a script over the socket whose number is its
//! only argument, performs the steps, and is replaced by the user's program.
//!
//! Static, without any library: nothing that an image contains can influence it. Built by this crate's build script.
#![no_std]
#![no_main]
#![allow(dead_code, reason = "the library uses the rest of the shared files")]

mod entry;
#[path = "../src/interpret/mod.rs"]
mod interpret;
mod join;
#[path = "../src/step.rs"]
mod step;
#[path = "sys.rs"]
mod sys;
#[path = "../src/wire.rs"]
mod wire;

use interpret::{Machine, Stop};
use sys::{Call, Kernel, Linux};

/// What the host is told when the stage ends without a program: as `env(1)` and shells do.
const NO_PROGRAM: i32 = 127;

fn exit(code: i32) -> ! {
    loop {
        let _never = Linux.perform(Call::exit(code));
    }
}

/// The descriptor number in decimal; anything else means that this is not our host calling.
fn number(text: &[u8]) -> Option<i32> {
    let digits = (1..=9).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    digits.then(|| text.iter().fold(0, |number, digit| number * 10 + i32::from(digit - b'0')))
}

fn main(arguments: entry::Texts, environment: entry::Texts, room: &'static mut [u8]) -> ! {
    let argument = arguments.clone().nth(1);
    if argument.is_some_and(|argument| argument == c"join") {
        join::join(arguments.skip(2), environment);
    }
    let Some(control) = argument.and_then(|text| number(text.to_bytes())).filter(|control| *control > 2) else {
        exit(NO_PROGRAM)
    };
    let umask = Linux.perform(Call::umask(0));
    let mut machine = Machine::new(Linux, control, room).umask(umask.unwrap_or(0o022) as u32);
    match machine.tidy().and_then(|()| machine.serve()) {
        Err(Stop::Failed { step: _, errno }) => {
            machine.report(wire::Report::FAILED, errno.0);
            exit(NO_PROGRAM)
        }
        Err(Stop::HostGone) => exit(NO_PROGRAM),
        // A script without a program to execute ends well.
        Err(Stop::Forked) | Ok(()) => exit(0),
    }
}
