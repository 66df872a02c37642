//! Small questions to `/proc`: a file's text, a field of a status file, the ids of a process in nested pid namespaces.
//!
//! Leaves out on purpose: everything that is not about namespaces. Oldest kernel: 4.1 for `NSpid`.

use std::fs::File;
use std::io::Read;

use crate::error::{Error, ErrorKind};

/// The process ids of process `pid`: first the one that this program sees, last the one it has in its own pid
/// namespace (1 for the first process there).
///
/// ```
/// assert_eq!(keelbox_namespaces::ns_pids(std::process::id())?.first(), Some(&std::process::id()));
/// # Ok::<(), keelbox_namespaces::Error>(())
/// ```
///
/// # Errors
///
/// [`ErrorKind::NotFound`] if there is no such process.
pub fn ns_pids(pid: u32) -> Result<Vec<u32>, Error> {
    let path = format!("/proc/{pid}/status");
    let status = status(&path)?;
    let malformed = || Error::new(ErrorKind::Malformed, format!("no NSpid in {path}"));
    let line = field(&status, "NSpid").ok_or_else(malformed)?;
    line.split_whitespace().map(|pid| pid.parse().map_err(|_| malformed())).collect()
}

/// The text of a file below `/proc`.
pub(crate) fn read(path: &str) -> Result<String, Error> {
    // The kernel writes the whole text for each read, and `read_to_string` would ask for it in eight pieces.
    let mut text = Vec::with_capacity(8192);
    let read = File::open(path).and_then(|mut file| file.read_to_end(&mut text));
    read.map_err(|error| Error::io(format!("cannot read {path}"), error))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The text of a status file of one process or thread, which the kernel writes whole if it finds the room for it.
pub(crate) fn status(path: &str) -> Result<String, Error> {
    let mut text = vec![0; 16 * 1024];
    let length = File::open(path).and_then(|mut file| {
        loop {
            match file.read(&mut text) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                length => return length,
            }
        }
    });
    text.truncate(length.map_err(|error| Error::io(format!("cannot read {path}"), error))?);
    Ok(String::from_utf8(text).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// The value of a line `NAME: value` in a status file.
pub(crate) fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let status = "Name:\tNSpid: 3\nNSpidX:\t4\nNSpid:\t13512\t11\t1\nSeccomp:\t0\nSeccomp_filters:\t2\n";
        assert_eq!(field(status, "NSpid"), Some("13512\t11\t1"));
        assert_eq!(field(status, "Seccomp"), Some("0"));
        assert_eq!(field(status, "CapEff"), None);
    }

    #[test]
    fn no_process_no_ids() {
        assert_eq!(ns_pids(u32::MAX).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
