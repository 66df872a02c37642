//! Copying what a mount covers: here without the mount, from one directory to another.

use std::ffi::CString;
use std::fs::{self, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use keelbox_launch::sys::xattr::{fsetxattr, lgetxattr};
use keelbox_launch::{Errno, Failure, Step, prepare, text};
use keelbox_testkit::{Result, alone, require};

fn copy(from: &Path, to: &Path, also: u32) -> std::result::Result<(), Failure> {
    prepare(&[Step::Enter { path: text(from) }, Step::CopyUp { target: text(to), also }], &[], &[]).map(|_| ())
}

fn fill(from: &Path) -> Result<SystemTime> {
    let then = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 5000);
    fs::create_dir_all(from.join("some/deep"))?;
    fs::write(from.join("some/deep/file"), vec![b'x'; 20_000])?;
    fs::write(from.join("empty"), "")?;
    fs::set_permissions(from.join("empty"), Permissions::from_mode(0o4711))?;
    symlink("/nowhere/at/all", from.join("some/link"))?;
    nix::unistd::mkfifo(&from.join("pipe"), nix::sys::stat::Mode::from_bits_truncate(0o640))?;
    fs::set_permissions(from.join("some"), Permissions::from_mode(0o1770))?;
    fs::File::open(from.join("some/deep/file"))?.set_modified(then)?;
    fs::File::open(from.join("some/deep"))?.set_modified(then)?;
    Ok(then)
}

#[test]
fn files_keep_what_they_are() -> Result {
    let (from, to) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let then = fill(from.path())?;
    let marked = fsetxattr(fs::File::open(from.path().join("empty"))?.as_fd(), c"user.mark", b"m").is_ok();
    fs::set_permissions(from.path(), Permissions::from_mode(0o751))?;
    copy(from.path(), to.path(), 3)?;
    let mode = |name: &str| fs::symlink_metadata(to.path().join(name)).map(|metadata| metadata.mode() & 0o7777);
    assert_eq!(fs::read(to.path().join("some/deep/file"))?, vec![b'x'; 20_000]);
    assert_eq!((mode("empty")?, mode("some")?, mode("pipe")?), (0o4711, 0o1770, 0o640));
    assert_eq!(fs::metadata(to.path())?.mode() & 0o7777, 0o751);
    assert!(fs::metadata(to.path().join("pipe"))?.file_type().is_fifo());
    assert_eq!(fs::read_link(to.path().join("some/link"))?, Path::new("/nowhere/at/all"));
    for name in ["some/deep/file", "some/deep"] {
        assert_eq!(fs::metadata(to.path().join(name))?.modified()?, then, "{name}");
    }
    if marked {
        let (path, mut value) = (CString::new(to.path().join("empty").as_os_str().as_encoded_bytes())?, [0; 4]);
        assert_eq!(lgetxattr(&path, c"user.mark", &mut value), Ok(1));
    }
    assert_eq!(fs::read_dir(from.path())?.count(), 3, "nothing is moved");
    // Only what is asked for of the directory itself.
    let again = tempfile::tempdir()?;
    fs::set_permissions(again.path(), Permissions::from_mode(0o700))?;
    copy(from.path(), again.path(), 0)?;
    assert_eq!(fs::metadata(again.path())?.mode() & 0o7777, 0o700);
    Ok(())
}

#[test]
fn owners_and_devices_are_kept_by_root() -> Result {
    require!(Root);
    let (from, to) = (tempfile::tempdir()?, tempfile::tempdir()?);
    fs::write(from.path().join("file"), "x")?;
    std::os::unix::fs::chown(from.path().join("file"), Some(12), Some(34))?;
    fs::set_permissions(from.path().join("file"), Permissions::from_mode(0o6755))?;
    std::os::unix::fs::chown(from.path(), Some(5), Some(6))?;
    let null = nix::sys::stat::mknod(
        &from.path().join("null"),
        nix::sys::stat::SFlag::S_IFCHR,
        nix::sys::stat::Mode::from_bits_truncate(0o622),
        nix::libc::makedev(1, 3),
    );
    if null.is_ok() {
        fs::set_permissions(from.path().join("null"), Permissions::from_mode(0o622))?;
    }
    copy(from.path(), to.path(), 2)?;
    let file = fs::metadata(to.path().join("file"))?;
    assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777), (12, 34, 0o6755));
    assert_eq!((fs::metadata(to.path())?.uid(), fs::metadata(to.path())?.gid()), (5, 6));
    if null.is_ok() {
        let null = fs::metadata(to.path().join("null"))?;
        assert_eq!((null.rdev(), null.mode() & 0o7777), (nix::libc::makedev(1, 3), 0o622));
    }
    Ok(())
}

#[test]
fn what_cannot_be_copied_is_told() -> Result {
    alone!();
    let (from, to) = (tempfile::tempdir()?, tempfile::tempdir()?);
    fs::write(from.path().join("file"), "new")?;
    fs::write(to.path().join("file"), "old")?;
    assert_eq!(copy(from.path(), to.path(), 0), Err(Failure { step: 1, errno: Errno::EEXIST }));
    assert_eq!(fs::read_to_string(to.path().join("file"))?, "old");
    let deep = tempfile::tempdir()?;
    fs::create_dir_all((0..70).fold(deep.path().to_owned(), |path, _| path.join("d")))?;
    let room = tempfile::tempdir()?;
    assert_eq!(copy(deep.path(), room.path(), 0), Err(Failure { step: 1, errno: Errno::ENAMETOOLONG }));
    let open = fs::read_dir("/proc/self/fd")?.count();
    for _ in 0..3 {
        let _refused = copy(deep.path(), tempfile::tempdir()?.path(), 0);
    }
    assert_eq!(fs::read_dir("/proc/self/fd")?.count(), open, "a descriptor leaked");
    Ok(())
}
