//! Owners, modes, times and extended attributes, as far as the caller may set them.
//!
//! Job: one place that knows what root and an ordinary user can do, which attributes of a layer are never written, and in
//! which order things are set: content, owner, attributes, mode, times. A chown drops capabilities and set-id bits, so it
//! comes first. Leaves out deciding when: that is the extractor's.

use super::note::{NoteKind, Notes};
use super::policy::Ownership;
use super::tree::{Metadata, Xattr};
use crate::error::Attempt;
use crate::tar::Time;
use crate::{Error, Result};
use keelbox_launch::sys::xattr;
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FchmodatFlags, Mode, UtimensatFlags, fchmod, fchmodat, fstat, futimens, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat};
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

/// The names under which overlayfs keeps its marks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Dialect {
    /// `trusted.overlay.*`, which only root of the first user namespace may write.
    Trusted,
    /// `user.overlay.*`, which needs the mount option `userxattr` (Linux 5.11).
    User,
}

impl Dialect {
    pub(crate) fn opaque(self) -> &'static CStr {
        match self {
            Self::Trusted => c"trusted.overlay.opaque",
            Self::User => c"user.overlay.opaque",
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Trusted => "trusted",
            Self::User => "user",
        }
    }
}

/// Whose the files become.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Owners {
    /// The owner each entry names.
    Image,
    /// The caller's, who may not give files away.
    Caller,
    /// The caller's; an attribute says whose they are in the image.
    Attribute,
}

/// What this process may do in a directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    pub(crate) dialect: Dialect,
    owners: Owners,
    /// The owner that new files have by themselves.
    uid: u32,
    gid: u32,
}

impl Manner {
    /// Finds out by trying, on a directory of our own that is thrown away or kept out of sight.
    pub(super) fn probe(directory: BorrowedFd<'_>, wish: Ownership) -> Result<Self> {
        let stat = fstat(directory).attempt(|| "cannot stat the store")?;
        let dialect = match xattr::fsetxattr(directory, c"trusted.overlay.probe", b"y") {
            Err(errno) if errno.0 == Errno::EPERM as i32 => Dialect::User,
            // Where attributes are not known at all, only an opaque directory will be an error.
            _ => Dialect::Trusted,
        };
        let other = (Uid::from_raw(stat.st_uid ^ 1), Gid::from_raw(stat.st_gid ^ 1));
        let owners = match (wish, fchown(directory, Some(other.0), Some(other.1))) {
            (Ownership::Files, Err(_)) => Owners::Caller,
            (Ownership::Attribute, Err(_)) => Owners::Attribute,
            (_, Ok(())) => {
                let own = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
                fchown(directory, Some(own.0), Some(own.1)).attempt(|| "cannot own the store")?;
                if wish == Ownership::Files { Owners::Image } else { Owners::Attribute }
            }
        };
        Ok(Self { dialect, owners, uid: stat.st_uid, gid: stat.st_gid })
    }

    /// Whether files become what the image says, owner and all.
    pub(super) fn gives_files_away(&self) -> bool {
        self.owners == Owners::Image
    }

    /// Whether each file has an attribute with its owner and mode.
    pub(super) fn writes_owners(&self) -> bool {
        self.owners == Owners::Attribute
    }

    /// The owner to set, or `None` where it is right already or not ours to set.
    pub(super) fn owner(&self, uid: u32, gid: u32) -> Option<(Option<Uid>, Option<Gid>)> {
        let differs = (uid, gid) != (self.uid, self.gid);
        (self.gives_files_away() && differs).then(|| (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))))
    }

    /// The mode a directory gets: one that its owner can always list and delete, when the owner is an ordinary user.
    fn directory_mode(&self, mode: u32) -> u32 {
        if self.gives_files_away() { mode } else { mode | 0o700 }
    }
}

/// What is to be given to a file.
pub(super) struct Wanted<'a> {
    pub(super) path: &'a [u8],
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Time,
    pub(super) xattrs: &'a [Xattr],
}

/// Completes an open regular file. `mode_is_set`: it was created with the permission bits it should have.
pub(super) fn file(
    fd: BorrowedFd<'_>,
    wanted: &Wanted<'_>,
    mode_is_set: bool,
    manner: &Manner,
    notes: &mut Notes,
) -> Result<()> {
    let failed = |what: &'static str| move || format!("cannot set the {what} of {}", wanted.path.escape_ascii());
    if let Some((uid, gid)) = manner.owner(wanted.uid, wanted.gid) {
        fchown(fd, uid, gid).attempt(failed("owner"))?;
    }
    set_xattrs(Target::Open(fd), wanted.path, wanted.xattrs, notes)?;
    write_owner(fd, wanted, manner)?;
    let acl = wanted.xattrs.iter().any(|(name, _)| name.starts_with(b"system.posix_acl"));
    if !mode_is_set || wanted.mode & 0o7000 != 0 || acl {
        fchmod(fd, Mode::from_bits_truncate(wanted.mode)).attempt(failed("mode"))?;
    }
    let time = time(wanted.mtime);
    futimens(fd, &time, &time).attempt(failed("times"))?;
    note_owner(wanted, wanted.mode, manner.owners == Owners::Caller, notes);
    Ok(())
}

/// Completes a symbolic link, FIFO or device by its directory and name, which is known not to be anything else.
pub(super) fn special(
    parent: BorrowedFd<'_>,
    name: &[u8],
    is_link: bool,
    wanted: &Wanted<'_>,
    manner: &Manner,
    notes: &mut Notes,
) -> Result<()> {
    let failed = |what: &'static str| move || format!("cannot set the {what} of {}", wanted.path.escape_ascii());
    if let Some((uid, gid)) = manner.owner(wanted.uid, wanted.gid) {
        fchownat(parent, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW).attempt(failed("owner"))?;
    }
    set_xattrs(Target::Named(parent, name), wanted.path, wanted.xattrs, notes)?;
    if !is_link {
        // Following is harmless: the name was made a moment ago in a directory nobody else can enter.
        let mode = Mode::from_bits_truncate(wanted.mode);
        fchmodat(parent, name, mode, FchmodatFlags::FollowSymlink).attempt(failed("mode"))?;
    }
    let time = time(wanted.mtime);
    utimensat(parent, name, &time, &time, UtimensatFlags::NoFollowSymlink).attempt(failed("times"))?;
    // Owners of links matter to nobody but `lchown(2)` and are not noted where nothing else keeps them.
    let noted = if is_link { manner.writes_owners() } else { !manner.gives_files_away() };
    note_owner(wanted, wanted.mode, noted, notes);
    Ok(())
}

/// Completes a directory, after everything in it.
pub(super) fn directory(
    fd: BorrowedFd<'_>,
    path: &[u8],
    metadata: &Metadata,
    opaque: bool,
    manner: &Manner,
    notes: &mut Notes,
) -> Result<()> {
    let failed = |what: &'static str| move || format!("cannot set the {what} of {}", path.escape_ascii());
    if let Some((uid, gid)) = manner.owner(metadata.uid, metadata.gid) {
        fchown(fd, uid, gid).attempt(failed("owner"))?;
    }
    let wanted =
        Wanted { path, mode: metadata.mode, uid: metadata.uid, gid: metadata.gid, mtime: metadata.mtime, xattrs: &[] };
    set_xattrs(Target::Open(fd), path, &metadata.xattrs, notes)?;
    write_owner(fd, &wanted, manner)?;
    if opaque {
        xattr::fsetxattr(fd, manner.dialect.opaque(), b"y").map_err(|errno| {
            let what = format!("this file system cannot mark the directory {} as opaque", path.escape_ascii());
            Error::unsupported(format!("{what}: {}", Errno::from_raw(errno.0).desc()))
        })?;
    }
    let mode = manner.directory_mode(metadata.mode);
    fchmod(fd, Mode::from_bits_truncate(mode)).attempt(failed("mode"))?;
    let time = time(metadata.mtime);
    futimens(fd, &time, &time).attempt(failed("times"))?;
    note_owner(&wanted, mode, manner.owners == Owners::Caller, notes);
    Ok(())
}

/// Remembers what a file could not be given, if that is to be noted. 0:0 is what the caller's files appear as in its own
/// user namespace.
fn note_owner(wanted: &Wanted<'_>, mode: u32, noted: bool, notes: &mut Notes) {
    if noted && ((wanted.uid, wanted.gid) != (0, 0) || mode != wanted.mode) {
        notes.add(wanted.path, &NoteKind::Owner { uid: wanted.uid, gid: wanted.gid, mode: wanted.mode });
    }
}

/// The attribute in which fuse-overlayfs and podman keep what a file is to appear as: `UID:GID:MODE`, the mode in octal.
const OWNER: &CStr = c"user.containers.override_stat";

fn write_owner(fd: BorrowedFd<'_>, wanted: &Wanted<'_>, manner: &Manner) -> Result<()> {
    if !manner.writes_owners() {
        return Ok(());
    }
    let value = format!("{}:{}:{:04o}", wanted.uid, wanted.gid, wanted.mode);
    xattr::fsetxattr(fd, OWNER, value.as_bytes()).map_err(|errno| {
        let path = wanted.path.escape_ascii();
        match Errno::from_raw(errno.0) {
            Errno::EOPNOTSUPP => {
                Error::unsupported(format!("this file system has no attributes, which {path} needs for its owner"))
            }
            errno => Error::os(format!("cannot write the owner of {path} to its attribute"), errno),
        }
    })
}

/// User, group and mode that the attribute of a file or directory of a layer says, if it has one.
pub(super) fn read_owner(fd: BorrowedFd<'_>) -> Option<(u32, u32, u32)> {
    let mut value = [0; 64];
    let length = xattr::fgetxattr(fd, OWNER, &mut value).ok()?;
    let mut fields = std::str::from_utf8(&value[..length]).ok()?.split(':');
    let mut number = |radix| u32::from_str_radix(fields.next()?, radix).ok();
    Some((number(10)?, number(10)?, number(8)? & 0o7777))
}

fn time(time: Time) -> TimeSpec {
    TimeSpec::new(time.seconds, i64::from(time.nanoseconds))
}

/// Whether an attribute of a layer may be written. What overlayfs, a security module or another container tool would act
/// on is not the image's to say.
pub(crate) fn is_allowed(name: &[u8]) -> bool {
    let claimed = [&b"user.overlay."[..], b"user.fuseoverlayfs.", b"user.containers.", b"user.rootlesscontainers"];
    match name {
        b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default" => true,
        _ => name.starts_with(b"user.") && !claimed.iter().any(|prefix| name.starts_with(prefix)),
    }
}

enum Target<'a> {
    Open(BorrowedFd<'a>),
    Named(BorrowedFd<'a>, &'a [u8]),
}

fn set_xattrs(target: Target<'_>, path: &[u8], xattrs: &[Xattr], notes: &mut Notes) -> Result<()> {
    for (name, value) in xattrs {
        let written = is_allowed(name) && set_xattr(&target, path, name, value)?;
        if !written {
            notes.add(path, &NoteKind::Xattr(OsStr::from_bytes(name).to_owned()));
        }
    }
    Ok(())
}

/// Sets one attribute; false where the caller or the file system may not have it.
fn set_xattr(target: &Target<'_>, path: &[u8], name: &[u8], value: &[u8]) -> Result<bool> {
    let shown = || format!("cannot set the attribute {} of {}", name.escape_ascii(), path.escape_ascii());
    let key = CString::new(name).map_err(|_| Error::format(shown()))?;
    let answer = match target {
        Target::Open(fd) => xattr::fsetxattr(*fd, &key, value),
        Target::Named(parent, leaf) => {
            let place = [format!("/proc/self/fd/{}/", parent.as_raw_fd()).as_bytes(), leaf].concat();
            let place = CString::new(place).map_err(|_| Error::format(shown()))?;
            xattr::lsetxattr(&place, &key, value)
        }
    };
    match answer {
        Ok(()) => Ok(true),
        Err(errno) => match Errno::from_raw(errno.0) {
            Errno::EPERM | Errno::EOPNOTSUPP | Errno::EINVAL | Errno::EACCES => Ok(false),
            errno => Err(Error::os(shown(), errno)),
        },
    }
}

/// Reads the attributes of an open file or directory that a copy of it should have.
pub(super) fn read_xattrs(fd: BorrowedFd<'_>) -> Result<Vec<Xattr>, Errno> {
    let failed = |errno: keelbox_launch::sys::Errno| Errno::from_raw(errno.0);
    let mut names = vec![0; 64 << 10];
    let length = match xattr::flistxattr(fd, &mut names).map_err(failed) {
        Err(Errno::EOPNOTSUPP) => return Ok(Vec::new()),
        other => other?,
    };
    let mut xattrs = Vec::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| is_allowed(name)) {
        let key = CString::new(name).map_err(|_| Errno::EINVAL)?;
        let mut value = vec![0; 64 << 10];
        match xattr::fgetxattr(fd, &key, &mut value).map_err(failed) {
            Ok(length) => value.truncate(length),
            Err(Errno::ENODATA | Errno::EOPNOTSUPP) => continue,
            Err(errno) => return Err(errno),
        }
        xattrs.push((name.to_vec(), value));
    }
    Ok(xattrs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_harmless_attributes_are_written() {
        for name in [
            "security.capability",
            "system.posix_acl_access",
            "system.posix_acl_default",
            "user.mime_type",
            "user.overlayish",
        ] {
            assert!(is_allowed(name.as_bytes()), "{name}");
        }
        for name in [
            "trusted.overlay.opaque",
            "trusted.overlay.redirect",
            "trusted.x",
            "user.overlay.opaque",
            "user.overlay.whiteout",
            "security.selinux",
            "security.ima",
            "security.evm",
            "security.apparmor",
            "system.nfs4_acl",
            "user.fuseoverlayfs.opaque",
            "user.containers.override_stat",
            "user.rootlesscontainers",
            "",
            "user",
            "security.capability2",
        ] {
            assert!(!is_allowed(name.as_bytes()), "{name}");
        }
    }
}
