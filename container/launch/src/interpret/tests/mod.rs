//! The interpreter on a kernel of the tests' own making.

mod descriptors;
mod failures;
mod fallbacks;
mod golden;
mod leaks;
mod resolve;
mod script;

use std::collections::BTreeSet;

use super::{Machine, Stop};
use crate::owned::OwnedStep;
use crate::sys::names::name;
use crate::sys::{Call, Errno, Kernel, Linux};

/// A call as it was made.
#[derive(Clone, Debug)]
pub(super) struct Made {
    /// Its name.
    pub(super) name: String,
    /// Its arguments; pointers as numbers.
    pub(super) arguments: [usize; 6],
    /// Its texts, if it is one that has some.
    pub(super) texts: Vec<String>,
}

/// Decides what a call is answered, by the number of calls before it; `None` for the usual.
type Plan<'p> = Box<dyn FnMut(usize, &Made, &Call<'_>) -> Option<Result<usize, Errno>> + 'p>;

/// Writes down every call, and answers as a kernel on which all goes well, but where the plan says otherwise.
pub(super) struct Recorder<'p> {
    pub(super) made: Vec<Made>,
    pub(super) open: BTreeSet<i32>,
    pub(super) wrongly_closed: Vec<i32>,
    next: i32,
    plan: Plan<'p>,
}

impl<'p> Recorder<'p> {
    pub(super) fn new(plan: impl FnMut(usize, &Made, &Call<'_>) -> Option<Result<usize, Errno>> + 'p) -> Self {
        let (made, open, wrongly_closed) = (Vec::new(), BTreeSet::new(), Vec::new());
        Self { made, open, wrongly_closed, next: 1000, plan: Box::new(plan) }
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.made.iter().map(|made| made.name.as_str()).collect()
    }

    fn usual(&mut self, made: &Made, call: &Call<'_>) -> Result<usize, Errno> {
        const TIOCGPTPEER: usize = 0x5441;
        const NEW_LISTENER: usize = 8;
        match (made.name.as_str(), made.arguments) {
            ("openat" | "openat2" | "open_tree" | "fsopen" | "fsmount" | "socket" | "accept4", _) => {
                Ok(self.descriptor())
            }
            ("fcntl", [_, 1030, ..]) | ("ioctl", [_, TIOCGPTPEER, ..]) => Ok(self.descriptor()),
            ("seccomp", [_, flags, ..]) if flags & NEW_LISTENER != 0 => Ok(self.descriptor()),
            ("close", [descriptor, ..]) => {
                if !self.open.remove(&(descriptor as i32)) {
                    self.wrongly_closed.push(descriptor as i32);
                }
                Ok(0)
            }
            ("socketpair", _) => {
                let ends = [self.descriptor() as i32, self.descriptor() as i32];
                call.fill(3, 0, &[ends[0].to_ne_bytes(), ends[1].to_ne_bytes()].concat());
                Ok(0)
            }
            ("write", [_, _, length, ..]) => Ok(length),
            ("statx", _) => {
                // What was opened last.
                let opened = self.made.iter().rev().find(|made| matches!(made.name.as_str(), "openat" | "openat2"));
                let name = opened.and_then(|made| made.texts.first()).and_then(|path| path.rsplit('/').next());
                let file = name.is_some_and(is_file);
                let mode: u16 = if file { 0o100_644 } else { 0o040_755 };
                call.fill(4, 28, &mode.to_ne_bytes());
                Ok(0)
            }
            // A directory does not cover a file, nor a file a directory.
            ("mount", _) if matches!(made.texts.as_slice(), [from, to] if is_file(from) != is_file(to)) => {
                Err(Errno::ENOTDIR)
            }
            // What is gone cannot be taken away again.
            ("umount2", _)
                if self
                    .made
                    .iter()
                    .rev()
                    .nth(1)
                    .is_some_and(|before| (&before.name, &before.texts) == (&made.name, &made.texts)) =>
            {
                Err(Errno::EINVAL)
            }
            // What is at these two paths is what it should be.
            ("fstatfs", _) => {
                let opened = self.made.iter().rev().find(|made| matches!(made.name.as_str(), "openat" | "openat2"));
                let magic = match opened.and_then(|made| made.texts.first()).map(String::as_str) {
                    Some("/proc") => 0x9fa0u64,
                    Some(path) if path.ends_with("pts") => 0x1cd1,
                    _ => 0,
                };
                call.fill(1, 0, &magic.to_ne_bytes());
                Ok(0)
            }
            ("getcwd", _) => Linux.perform(*call),
            ("readlinkat", _) => Err(Errno::EINVAL),
            ("recvmsg", _) => Err(Errno::EAGAIN),
            _ => Ok(0),
        }
    }

    fn descriptor(&mut self) -> usize {
        self.next += 1;
        self.open.insert(self.next);
        self.next as usize
    }
}

/// Some names are files, everything else is a directory.
fn is_file(name: &str) -> bool {
    matches!(name, "kcore" | "keys" | "timer_list" | "interrupts")
}

/// Which arguments of a call are texts.
fn texts(name: &str) -> &'static [usize] {
    match name {
        "openat" | "openat2" | "open_tree" | "mkdirat" | "mknodat" | "unlinkat" | "fchownat" | "mount_setattr" => &[1],
        "mount" => &[0, 1, 2, 4],
        "move_mount" => &[1, 3],
        "fsconfig" => &[2, 3],
        "symlinkat" => &[0, 2],
        "fsopen" | "umount2" | "sethostname" | "setdomainname" | "chroot" | "execve" => &[0],
        _ => &[],
    }
}

impl Kernel for Recorder<'_> {
    fn perform(&mut self, call: Call<'_>) -> Result<usize, Errno> {
        let name = name(call.number());
        let arguments = call.arguments();
        let given = texts(&name).iter().filter(|argument| arguments[**argument] != 0);
        let made = Made { texts: given.map(|argument| call.text(*argument)).collect(), name, arguments };
        self.made.push(made.clone());
        match (self.plan)(self.made.len() - 1, &made, &call) {
            Some(answer) => answer,
            None => self.usual(&made, &call),
        }
    }
}

/// The stage's line to the host in these tests.
pub(super) const CONTROL: i32 = 500;

/// Performs `steps` as the stage does; gives how it went, and the kernel with what it saw.
pub(super) fn perform<'p>(
    steps: &[OwnedStep],
    control: i32,
    plan: impl FnMut(usize, &Made, &Call<'_>) -> Option<Result<usize, Errno>> + 'p,
) -> (Result<(), Stop>, Recorder<'p>) {
    let script = crate::script::encode(steps, 0, 3, 0);
    let mut machine = Machine::new(Recorder::new(plan), control, &mut []);
    let outcome = machine.run(&script);
    if control < 0 {
        machine.close_all();
    }
    (outcome, machine.kernel)
}

/// The usual answer to every call.
pub(super) fn usual(_: usize, _: &Made, _: &Call<'_>) -> Option<Result<usize, Errno>> {
    None
}
