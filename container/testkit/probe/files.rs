//! Commands about files, directories and descriptors.

use crate::sys::{self, AT_FDCWD, Errno, O_CREAT, O_DIRECTORY, O_TRUNC, O_WRONLY, Result};
use crate::text::Out;
use core::ffi::CStr;

/// Prints a file, or standard input for `-`.
pub fn cat(path: &CStr, out: &mut Out) -> Result<()> {
    let fd = if path == c"-" { 0 } else { sys::openat(AT_FDCWD, path, 0, 0)? };
    let mut buffer = [0; 2048];
    loop {
        match sys::read(fd, &mut buffer)? {
            0 => return Ok(()),
            length => out.bytes(&buffer[..length]).flush()?,
        }
    }
}

/// Calls `use_line` for each line of a file; of a line longer than 512 bytes it sees the beginning.
pub fn each_line(path: &CStr, mut use_line: impl FnMut(&[u8])) -> Result<()> {
    let fd = sys::openat(AT_FDCWD, path, 0, 0)?;
    let (mut line, mut used) = ([0; 512], 0);
    let mut buffer = [0; 2048];
    loop {
        let length = sys::read(fd, &mut buffer)?;
        if length == 0 {
            break;
        }
        for &byte in &buffer[..length] {
            if byte == b'\n' {
                use_line(&line[..used]);
                used = 0;
            } else if let Some(place) = line.get_mut(used) {
                *place = byte;
                used += 1;
            }
        }
    }
    sys::close(fd);
    if used > 0 {
        use_line(&line[..used]);
    }
    Ok(())
}

/// Each open descriptor below 4096 as `NUMBER TARGET`; the target is `?` where `/proc` is not mounted.
pub fn descriptors(out: &mut Out) -> Result<()> {
    for fd in 0..4096 {
        if sys::descriptor_flags(fd).is_err() {
            continue;
        }
        out.number(fd.into()).text(" ");
        let mut target = [0; 1024];
        out.line(descriptor_target(fd, &mut target));
    }
    Ok(())
}

/// What `/proc/self/fd/N` points to, or `?`.
pub fn descriptor_target(fd: i32, target: &mut [u8]) -> &[u8] {
    const PREFIX: &[u8] = b"/proc/self/fd/";
    let mut path = [0; 32];
    path[..PREFIX.len()].copy_from_slice(PREFIX);
    let (mut digits, mut rest, mut at) = ([0; 12], fd, 0);
    loop {
        digits[at] = b'0' + (rest % 10) as u8;
        (rest, at) = (rest / 10, at + 1);
        if rest == 0 {
            break;
        }
    }
    for (place, &digit) in path[PREFIX.len()..].iter_mut().zip(digits[..at].iter().rev()) {
        *place = digit;
    }
    match CStr::from_bytes_until_nul(&path) {
        Ok(path) => sys::readlink(path, target).unwrap_or(b"?"),
        Err(_) => b"?",
    }
}

pub fn cwd(out: &mut Out) -> Result<()> {
    let mut path = [0; 4096];
    let length = sys::getcwd(&mut path)?;
    out.line(&path[..length.saturating_sub(1)]);
    Ok(())
}

/// Makes or truncates a file (mode 0644) and writes the text, without a newline.
pub fn write(path: &CStr, text: &[u8]) -> Result<()> {
    let fd = sys::openat(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, 0o644)?;
    let mut file = Out::new(fd);
    file.bytes(text).flush()
}

pub fn readlink(path: &CStr, out: &mut Out) -> Result<()> {
    let mut target = [0; 4096];
    out.line(sys::readlink(path, &mut target)?);
    Ok(())
}

/// The names in a directory, one a line, in the order of the directory, without `.` and `..`.
pub fn list(path: &CStr, out: &mut Out) -> Result<()> {
    let fd = sys::openat(AT_FDCWD, path, O_DIRECTORY, 0)?;
    each_name(fd, |name| {
        out.line(name);
    })
}

pub fn each_name(fd: i32, mut use_name: impl FnMut(&[u8])) -> Result<()> {
    const NAME: usize = 19; // after d_ino (8), d_off (8), d_reclen (2) and d_type (1): see getdents64(2)
    let mut buffer = [0; 2048];
    loop {
        let length = sys::getdents64(fd, &mut buffer)?;
        let mut entries = &buffer[..length];
        if entries.is_empty() {
            return Ok(());
        }
        while let &[_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, low, high, ..] = entries {
            let (entry, rest) = entries.split_at(usize::from(u16::from_le_bytes([low, high])).min(entries.len()));
            let name = entry.get(NAME..).unwrap_or_default().split(|&byte| byte == 0).next().unwrap_or_default();
            if name != b"." && name != b".." {
                use_name(name);
            }
            entries = rest;
        }
    }
}

/// `MODE UID GID MAJOR:MINOR SIZE` of a file itself (not of a link's target), the mode in octal with the file type.
pub fn stat(path: &CStr, out: &mut Out) -> Result<()> {
    let stat = sys::lstat(AT_FDCWD, path)?;
    out.digits(stat.mode.into(), 8, 6).text(" ").number(stat.uid.into()).text(" ").number(stat.gid.into());
    out.text(" ").number(stat.rdev_major.into()).text(":").number(stat.rdev_minor.into());
    out.text(" ").number(stat.size as i64).text("\n");
    Ok(())
}

/// Writes that many bytes, lines of 63 `x`, as fast as they are taken.
pub fn flood(bytes: i64, out: &mut Out) -> Result<()> {
    let mut left = usize::try_from(bytes).map_err(|_| Errno::USAGE)?;
    let mut line = [b'x'; 64];
    line[63] = b'\n';
    while left > 0 {
        let now = left.min(line.len());
        out.bytes(&line[..now]);
        left -= now;
    }
    out.flush()
}
