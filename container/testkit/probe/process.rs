//! Commands that start, stop, wait, use resources, or make any system call by its number.

use crate::Args;
use crate::arch;
use crate::sys::{self, Errno, Result};
use crate::text::{self, Out};

fn milliseconds(value: i64) -> Result<u64> {
    u64::try_from(value).map_err(|_| Errno::USAGE)
}

/// `pid P`, `session S`, `group G`.
pub fn session(out: &mut Out) -> Result<()> {
    out.text("pid ").number(sys::getpid()).text("\nsession ").number(sys::getsid()? as i64);
    out.text("\ngroup ").number(sys::getpgid()? as i64).text("\n");
    Ok(())
}

pub fn sleep(time: i64) -> Result<()> {
    sys::sleep(milliseconds(time)?)
}

/// Ignores HUP, INT, QUIT and TERM, says `ready`, and sleeps.
pub fn stubborn(time: i64, out: &mut Out) -> Result<()> {
    for signal in [1, 2, 3, 15] {
        sys::ignore_signal(signal)?;
    }
    out.text("ready\n").flush()?;
    sleep(time)
}

/// Keeps a processor busy.
pub fn spin(time: i64) -> Result<()> {
    let end = sys::now()? + milliseconds(time)? * 1_000_000;
    while sys::now()? < end {
        core::hint::spin_loop();
    }
    Ok(())
}

/// Forks until the kernel refuses or `limit` children sleep; prints `forked N`, and `errno N` after a refusal.
pub fn forkbomb(limit: i64, out: &mut Out) -> Result<()> {
    let mut children = [0; 4096];
    let mut count = 0;
    let mut refusal = None;
    for place in children.iter_mut().take(usize::try_from(limit).map_err(|_| Errno::USAGE)?) {
        match sys::fork() {
            Ok(Some(pid)) => *place = pid,
            Ok(None) => {
                let _ = sys::sleep(60_000);
                sys::exit(0)
            }
            Err(errno) => {
                refusal = Some(errno);
                break;
            }
        }
        count += 1;
    }
    out.text("forked ").number(count as i64).text("\n");
    if let Some(errno) = refusal {
        out.text("errno ").number(errno.0.into()).text("\n");
    }
    children.iter().take(count).for_each(|&pid| sys::destroy(pid));
    Ok(())
}

/// Leaves a child behind that holds the open descriptors for that long, and ends at once.
pub fn orphan(time: i64) -> Result<()> {
    if sys::fork()?.is_none() {
        sleep(time)?;
    }
    Ok(())
}

/// Touches memory in steps of 1 MiB, says `allocated N MiB`, and holds it for `hold` milliseconds.
pub fn allocate(mebibytes: i64, hold: i64, out: &mut Out) -> Result<()> {
    for _ in 0..mebibytes {
        sys::touch_memory(1 << 20)?;
    }
    out.text("allocated ").number(mebibytes).text(" MiB\n").flush()?;
    sleep(hold)
}

/// Sends a signal; `self` is the probe itself.
pub fn kill(pid: &[u8], signal: i64) -> Result<()> {
    let pid = if pid == b"self" { sys::getpid() } else { text::number(pid).ok_or(Errno::USAGE)? };
    sys::kill(pid as i32, signal as i32)
}

/// Makes one system call, given by number, and prints the kernel's answer (`-errno` for a failure).
/// An argument is a number, `@TEXT` for the address of that text, or `buffer` for that of 4096 zero bytes.
pub fn raw(args: Args, out: &mut Out) -> Result<()> {
    let mut buffer = [0u8; 4096];
    let mut values = [0usize; 6];
    for (place, arg) in values.iter_mut().zip(args.after(3)) {
        *place = match arg.to_bytes_with_nul() {
            [b'@', text @ ..] => text.as_ptr() as usize,
            b"buffer\0" => buffer.as_mut_ptr() as usize,
            _ => text::number(arg.to_bytes()).ok_or(Errno::USAGE)? as usize,
        };
    }
    let number = args.number(2)? as usize;
    // SAFETY: none can be given for a call of the tester's choice. The probe is a process of its own, and a wrong
    // address can only end it.
    let answer = unsafe { arch::syscall(number, values) };
    out.number(answer as i64).text("\n");
    Ok(())
}
