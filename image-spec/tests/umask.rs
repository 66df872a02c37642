//! The one test that changes the umask of its process, and so needs a process of its own.

mod common;

use common::{Header, Tar, unpack_one};
use std::fs;
use std::os::unix::fs::MetadataExt;

#[test]
fn the_umask_of_the_process_neither_matters_nor_changes() {
    use nix::sys::stat::{Mode, umask};
    let before = umask(Mode::from_bits_truncate(0o077));
    let result = unpack_one(
        Tar::new()
            .entry(Header::new(b'0', "f").mode(0o666), b"")
            .entry(Header::new(b'5', "d").mode(0o777), b"")
            .entry(Header::new(b'6', "p").mode(0o622), b""),
    );
    let after = umask(before);
    assert_eq!(after, Mode::from_bits_truncate(0o077));
    let (_layout, fs_root) = result.expect("valid");
    for (name, mode) in [("f", 0o666), ("d", 0o777), ("p", 0o622)] {
        assert_eq!(fs::metadata(fs_root.join(name)).expect(name).mode() & 0o777, mode, "{name}");
    }
}

#[test]
fn everything_again_as_an_ordinary_user() {
    common::again_as_an_ordinary_user();
}
