//! The stage's other use: joins control groups and becomes a program, for `std::process::Command`.
//!
//! Arguments: how many `cgroup.procs` or `tasks` files, their paths, the program, its arguments. Whatever fails is told on standard error,
//! with the exit codes of `env(1)`: 126 for what cannot be done, 127 for a program that is not there.

use core::ffi::CStr;

use crate::entry::Texts;
use crate::exit;
use crate::sys::calls::Pointers;
use crate::sys::{Call, Errno, Kernel, Linux};

const O_WRONLY_CLOEXEC: i32 = 1 | 0o2_000_000;
const AT_FDCWD: i32 = -100;

pub fn join(mut arguments: impl Iterator<Item = &'static CStr> + Clone, environment: Texts) -> ! {
    let count = arguments.next().and_then(|text| crate::number(text.to_bytes())).unwrap_or(0);
    for file in arguments.by_ref().take(count as usize) {
        if let Err(errno) = enter(file) {
            fail(b"cannot join ", file, errno, 126);
        }
    }
    let Some(program) = arguments.clone().next() else { exit(127) };
    let errno = execute(program, arguments, environment);
    fail(b"cannot execute ", program, errno, if errno == Errno::ENOENT { 127 } else { 126 })
}

/// The group takes this process; a `0` means whoever writes it.
fn enter(file: &CStr) -> Result<(), Errno> {
    let descriptor = Linux.perform(Call::openat(AT_FDCWD, file, O_WRONLY_CLOEXEC, 0))?;
    Linux.perform(Call::write(descriptor as i32, b"0")).map(|_| ())
}

fn execute(program: &CStr, arguments: impl Iterator<Item = &'static CStr> + Clone, environment: Texts) -> Errno {
    let (first, second) = (arguments.clone().count() + 1, environment.clone().count() + 1);
    let room = match crate::sys::memory::words(first + second) {
        Ok(room) => room,
        Err(errno) => return errno,
    };
    let (first, second) = room.split_at_mut(first);
    let (Some(mut pointers), Some(mut variables)) = (Pointers::new(first), Pointers::new(second)) else {
        return Errno::E2BIG;
    };
    arguments.for_each(|text| _ = pointers.push(text));
    environment.clone().for_each(|text| _ = variables.push(text));
    if program.to_bytes().contains(&b'/') {
        return Linux.perform(Call::execve(program, &pointers, &variables)).err().unwrap_or(Errno::ENOENT);
    }
    let path = environment.map(CStr::to_bytes).find_map(|variable| variable.strip_prefix(b"PATH="));
    let mut worst = Errno::ENOENT;
    for directory in path.unwrap_or(b"/usr/local/bin:/usr/bin:/bin").split(|byte| *byte == b':') {
        let mut buffer = [0u8; 4096];
        let Some(candidate) = joined(directory, program, &mut buffer) else { continue };
        match Linux.perform(Call::execve(candidate, &pointers, &variables)) {
            Err(Errno::EACCES) => worst = Errno::EACCES,
            Err(Errno::ENOENT | Errno::ENOTDIR) | Ok(_) => {}
            Err(errno) => return errno,
        }
    }
    worst
}

fn joined<'b>(directory: &[u8], program: &CStr, buffer: &'b mut [u8; 4096]) -> Option<&'b CStr> {
    let directory = if directory.is_empty() { b"." } else { directory };
    let parts = [directory, b"/", program.to_bytes_with_nul()];
    let mut length = 0;
    for part in parts {
        buffer.get_mut(length..length + part.len())?.copy_from_slice(part);
        length += part.len();
    }
    CStr::from_bytes_until_nul(buffer).ok()
}

fn fail(attempt: &[u8], object: &CStr, errno: Errno, code: i32) -> ! {
    let number = [b'0' + (errno.0 / 100 % 10) as u8, b'0' + (errno.0 / 10 % 10) as u8, b'0' + (errno.0 % 10) as u8];
    for part in [b"keelbox: ", attempt, object.to_bytes(), b": errno ", &number, b"\n"] {
        let _told = Linux.perform(Call::write(2, part));
    }
    exit(code)
}
