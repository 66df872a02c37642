//! Threads that read what strangers wrote have no more rights than their work needs.
//!
//! Job: which capabilities and files the stages of a pipeline keep. That an image stays inside its directory does not rest
//! on this: names are only ever opened by descriptor and component. It is a second wall, for the bugs nobody knows yet
//! in decompressors, and in us. So a kernel without Landlock, or a filter that forbids the calls, is no error. Leaves out
//! the last pass over a layer, which only handles names that are known by then and needs `CAP_SYS_ADMIN` for overlayfs's
//! marks. Oldest kernel: any; files are fenced from 5.19 on.

use keelbox_launch::sys::confine::{keep_capabilities, restrict_files};
use std::os::fd::BorrowedFd;

/// `CAP_CHOWN`, `CAP_DAC_OVERRIDE`, `CAP_FOWNER`, `CAP_FSETID`, `CAP_MKNOD` and `CAP_SETFCAP`: giving files away, writing the
/// attributes of those that were, set-id bits, devices, and file capabilities.
const EXTRACTING: u64 = 1 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 27 | 1 << 31;

/// For a thread that only computes: no capabilities, no files but those that are open, no network.
pub(super) fn computing() {
    let _second_wall = (restrict_files(&[]), keep_capabilities(0));
}

/// For a thread that makes the files of a layer below `directory`.
pub(super) fn extracting(directory: BorrowedFd<'_>) {
    let _second_wall = (restrict_files(&[directory]), keep_capabilities(EXTRACTING));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::fd::AsFd;

    fn capabilities() -> u64 {
        let text = fs::read_to_string("/proc/thread-self/status").expect("own status");
        let line = text.lines().find_map(|line| line.strip_prefix("CapPrm:")).expect("a field");
        u64::from_str_radix(line.trim(), 16).expect("hexadecimal")
    }

    #[test]
    fn an_extracting_thread_makes_files_in_its_layer_and_reads_no_others() {
        let (directory, before) = (tempfile::tempdir().expect("a directory"), capabilities());
        let path = directory.path().to_owned();
        let confined = std::thread::spawn(move || {
            let status = File::open("/proc/thread-self/status").expect("own status");
            extracting(File::open(&path).expect("a directory").as_fd());
            fs::write(path.join("file"), "x").expect("inside");
            let mut text = String::new();
            std::io::Read::read_to_string(&mut &status, &mut text).expect("open files stay usable");
            let line = text.lines().find_map(|line| line.strip_prefix("CapPrm:")).expect("a field").trim().to_owned();
            (u64::from_str_radix(&line, 16).expect("hexadecimal"), fs::read("/etc/passwd").is_ok())
        });
        let (kept, reads) = confined.join().expect("no panic");
        assert_eq!((kept, capabilities()), (before & EXTRACTING, before));
        // A kernel without Landlock has only the first wall.
        assert!(!reads || keelbox_launch::sys::confine::restrict_files(&[]) == Ok(false));
    }
}
