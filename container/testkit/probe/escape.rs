//! The `escape` command: tries ways out of the root file system and prints each that worked.

use crate::Args;
use crate::files::{descriptor_target, each_name};
use crate::sys::{self, AT_FDCWD, O_DIRECTORY, O_NONBLOCK};
use crate::text::Out;
use core::ffi::CStr;

const UP: &CStr = c"../../../../../../../../../../../../../../..";

/// Prints one line for each attempt that succeeded, and `contained` where none did:
///
/// * `path P`: `P`, one of the arguments, is a path of the host which does not exist in the image, and opened;
/// * `up P`: the same, reached through `..` from the working directory;
/// * `descriptor N TARGET`: an inherited descriptor is a directory;
/// * `climb N P`: from that directory and `..`, `P` opened;
/// * `root PID P`: `P` opened through `/proc/PID/root`.
pub fn attempt(args: Args, out: &mut Out) {
    let mut found = false;
    for path in args.after(2) {
        found |= say(opens(AT_FDCWD, path), "path", None, path.to_bytes(), out);
        found |= say(climb(AT_FDCWD, path), "up", None, path.to_bytes(), out);
    }
    for fd in 0..256 {
        let Ok(directory) = sys::openat(fd, c".", O_DIRECTORY, 0) else {
            continue;
        };
        sys::close(directory);
        let mut target = [0; 1024];
        found |= say(true, "descriptor", Some(fd), descriptor_target(fd, &mut target), out);
        for path in args.after(2) {
            found |= say(climb(fd, path), "climb", Some(fd), path.to_bytes(), out);
        }
    }
    found |= through_proc(args, out);
    if !found {
        out.text("contained\n");
    }
}

fn say(worked: bool, how: &str, fd: Option<i32>, object: &[u8], out: &mut Out) -> bool {
    if worked {
        out.text(how).text(" ");
        if let Some(fd) = fd {
            out.number(fd.into()).text(" ");
        }
        out.line(object);
    }
    worked
}

fn opens(directory: i32, path: &CStr) -> bool {
    sys::openat(directory, path, O_NONBLOCK, 0).map(sys::close).is_ok()
}

/// Goes up from `directory` as far as it goes, then down the absolute `path`.
fn climb(directory: i32, path: &CStr) -> bool {
    let Ok(top) = sys::openat(directory, UP, O_DIRECTORY, 0) else {
        return false;
    };
    let bytes = path.to_bytes_with_nul();
    let start = bytes.iter().position(|&byte| byte != b'/').unwrap_or(0);
    let worked = CStr::from_bytes_with_nul(&bytes[start..]).is_ok_and(|relative| opens(top, relative));
    sys::close(top);
    worked
}

/// Tries `/proc/PID/root/PATH` for each process that `/proc` shows.
fn through_proc(args: Args, out: &mut Out) -> bool {
    let mut found = false;
    let Ok(proc) = sys::openat(AT_FDCWD, c"/proc", O_DIRECTORY, 0) else {
        return false;
    };
    let listed = each_name(proc, |name| {
        if !name.iter().all(u8::is_ascii_digit) {
            return;
        }
        for path in args.after(2) {
            let mut full = [0; 512];
            let parts: [&[u8]; 3] = [name, b"/root/", path.to_bytes_with_nul()];
            let mut places = full.iter_mut();
            for &byte in parts.into_iter().flatten() {
                if let Some(place) = places.next() {
                    *place = byte;
                }
            }
            let worked = CStr::from_bytes_until_nul(&full).is_ok_and(|link| opens(proc, link));
            if worked {
                out.text("root ").bytes(name).text(" ").line(path.to_bytes());
                found = true;
            }
        }
    });
    sys::close(proc);
    listed.is_ok() && found
}
