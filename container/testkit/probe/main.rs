//! The probe: a static program without a C library that tells, from inside a container, what the container is like.
//!
//! `/probe COMMAND ARGUMENTS…` prints facts as plain lines on standard output. A command that fails prints
//! `probe: COMMAND: errno N` on standard error and ends with status 1; an unknown command or a bad argument ends with 2.
//! It needs nothing in the root file system; only the commands whose text says so need `/proc`. Oldest kernel: 4.11 (`statx`).
//!
//! This is test equipment, compiled by the build script of `keelbox-testkit`. It is a program of its own and no part of
//! any library, which is why it may hold assembler and `unsafe` code.
#![no_std]
#![no_main]

mod arch;
mod escape;
mod files;
mod identity;
mod memory;
mod process;
mod sys;
mod text;

use core::ffi::{CStr, c_char};
use sys::{Errno, Result};
use text::Out;

/// What the kernel put on the stack: arguments, then the environment, each list ended by a null pointer.
#[derive(Clone, Copy)]
struct Args {
    argv: *const *const c_char,
    count: usize,
}

impl Args {
    fn get(self, index: usize) -> Result<&'static CStr> {
        if index >= self.count {
            return Err(Errno::USAGE);
        }
        // SAFETY: `index` is below argc, so the kernel wrote a pointer to a NUL-terminated string there,
        // and those strings live as long as the process.
        Ok(unsafe { CStr::from_ptr(*self.argv.add(index)) })
    }

    fn number(self, index: usize) -> Result<i64> {
        text::number(self.get(index)?.to_bytes()).ok_or(Errno::USAGE)
    }

    fn optional_number(self, index: usize, default: i64) -> Result<i64> {
        if index < self.count { self.number(index) } else { Ok(default) }
    }

    fn after(self, index: usize) -> impl Iterator<Item = &'static CStr> {
        (index..self.count).filter_map(move |at| self.get(at).ok())
    }

    fn environment(self) -> impl Iterator<Item = &'static CStr> {
        let mut at = self.count + 1;
        core::iter::from_fn(move || {
            // SAFETY: the environment follows the null pointer behind argv, and the list ends at its own null pointer,
            // after which this closure does not advance.
            let pointer = unsafe { *self.argv.add(at) };
            if pointer.is_null() {
                return None;
            }
            at += 1;
            // SAFETY: a non-null entry of the environment is a NUL-terminated string that lives as long as the process.
            Some(unsafe { CStr::from_ptr(pointer) })
        })
    }
}

/// Where `_start` lands, with the first stack pointer: argc, argv, null, envp, null.
#[unsafe(no_mangle)]
extern "C" fn probe_main(stack: *const usize) -> ! {
    // SAFETY: the System V ABI puts argc at the first stack word and the argv pointers right after it.
    let args = unsafe { Args { count: *stack, argv: stack.add(1).cast() } };
    let mut out = Out::new(1);
    let result = dispatch(args, &mut out);
    let status = match result.and_then(|status| out.flush().map(|()| status)) {
        Ok(status) => status,
        Err(errno) => report(args, errno),
    };
    sys::exit(status)
}

fn report(args: Args, errno: Errno) -> i32 {
    let mut err = Out::new(2);
    err.text("probe: ");
    err.bytes(args.get(1).map_or(b"(no command)", CStr::to_bytes));
    if errno == Errno::USAGE {
        err.text(": bad command or argument\n");
    } else {
        err.text(": errno ").number(errno.0.into()).text("\n");
    }
    let _ = err.flush();
    if errno == Errno::USAGE { 2 } else { 1 }
}

fn dispatch(args: Args, out: &mut Out) -> Result<i32> {
    match args.get(1)?.to_bytes() {
        b"true" => return Ok(0),
        b"exit" => return args.number(2).map(|status| status as i32),
        b"args" => each_as_line(args.after(0), out),
        b"env" => each_as_line(args.environment(), out),
        b"hostname" => identity::hostname(out)?,
        b"id" => identity::id(out)?,
        b"caps" => identity::caps(out)?,
        b"status" => identity::status(args.get(2)?.to_bytes(), out)?,
        b"signals" => identity::signals(out)?,
        b"umask" => identity::umask(out)?,
        b"tty" => identity::tty(out)?,
        b"cat" => files::cat(args.get(2)?, out)?,
        b"mounts" => files::cat(c"/proc/self/mountinfo", out)?,
        b"fds" => files::descriptors(out)?,
        b"cwd" => files::cwd(out)?,
        b"write" => files::write(args.get(2)?, args.get(3)?.to_bytes())?,
        b"mkdir" => sys::mkdir(args.get(2)?)?,
        b"readlink" => files::readlink(args.get(2)?, out)?,
        b"ls" => files::list(args.get(2)?, out)?,
        b"stat" => files::stat(args.get(2)?, out)?,
        b"flood" => files::flood(args.number(2)?, out)?,
        b"pid" => identity::number(sys::getpid(), out),
        b"ppid" => identity::number(sys::getppid(), out),
        b"session" => process::session(out)?,
        b"sleep" => process::sleep(args.number(2)?)?,
        b"stubborn" => process::stubborn(args.number(2)?, out)?,
        b"spin" => process::spin(args.number(2)?)?,
        b"forkbomb" => process::forkbomb(args.number(2)?, out)?,
        b"orphan" => process::orphan(args.number(2)?)?,
        b"alloc" => process::allocate(args.number(2)?, args.optional_number(3, 0)?, out)?,
        b"kill" => process::kill(args.get(2)?.to_bytes(), args.number(3)?)?,
        b"syscall" => process::raw(args, out)?,
        b"escape" => escape::attempt(args, out),
        _ => return Err(Errno::USAGE),
    }
    Ok(0)
}

fn each_as_line(texts: impl Iterator<Item = &'static CStr>, out: &mut Out) {
    for text in texts {
        out.line(text.to_bytes());
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    let mut err = Out::new(2);
    err.text("probe: panic\n");
    let _ = err.flush();
    sys::exit(101)
}
