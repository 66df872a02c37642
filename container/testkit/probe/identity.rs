//! Commands about who and what the process is.

use crate::arch;
use crate::files::each_line;
use crate::sys::{self, Errno, Result};
use crate::text::Out;

pub fn hostname(out: &mut Out) -> Result<()> {
    let names = sys::uname()?;
    let name = names[1].split(|&byte| byte == 0).next().unwrap_or_default();
    out.line(name);
    Ok(())
}

/// `uid R E S`, `gid R E S`, `groups …`: real, effective and saved.
pub fn id(out: &mut Out) -> Result<()> {
    for (name, call) in [("uid", arch::GETRESUID), ("gid", arch::GETRESGID)] {
        out.text(name);
        for id in sys::ids(call)? {
            out.text(" ").number(id.into());
        }
        out.text("\n");
    }
    let mut groups = [0; 256];
    let count = sys::groups(&mut groups)?;
    out.text("groups");
    for &group in groups.iter().take(count) {
        out.text(" ").number(group.into());
    }
    out.text("\n");
    Ok(())
}

/// The `Cap…` lines of `/proc/self/status`.
pub fn caps(out: &mut Out) -> Result<()> {
    each_line(c"/proc/self/status", |line| {
        if line.starts_with(b"Cap") {
            out.line(line);
        }
    })
}

/// The value of one key of `/proc/self/status`.
pub fn status(key: &[u8], out: &mut Out) -> Result<()> {
    let mut found = false;
    each_line(c"/proc/self/status", |line| {
        if let Some(value) = line.strip_prefix(key).and_then(|rest| rest.strip_prefix(b":")) {
            found = true;
            out.line(value.trim_ascii());
        }
    })?;
    if found { Ok(()) } else { Err(Errno::EINVAL) }
}

/// `blocked MASK` and `ignored MASK`, hexadecimal, lowest bit signal 1. Needs no `/proc`.
pub fn signals(out: &mut Out) -> Result<()> {
    let mut ignored = 0;
    for signal in 1..=64 {
        if sys::signal_handler(signal)? == 1 {
            ignored |= 1u64 << (signal - 1);
        }
    }
    out.text("blocked ").digits(sys::blocked_signals()?, 16, 16).text("\n");
    out.text("ignored ").digits(ignored, 16, 16).text("\n");
    Ok(())
}

pub fn number(value: i64, out: &mut Out) {
    out.number(value).text("\n");
}

pub fn umask(out: &mut Out) -> Result<()> {
    let mask = sys::umask(0o77)?;
    out.digits(mask as u64, 8, 4).text("\n");
    Ok(())
}

/// `ROWS COLUMNS` of the terminal on standard input.
pub fn tty(out: &mut Out) -> Result<()> {
    let [rows, columns, ..] = sys::window_size(0)?;
    out.number(rows.into()).text(" ").number(columns.into()).text("\n");
    Ok(())
}
