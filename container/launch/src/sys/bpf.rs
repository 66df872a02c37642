//! Device programs of cgroup v2: the five commands of bpf(2) that load one, attach it, and find what is attached.
//!
//! The instructions come from `keelbox-cgroups`, which emits them as bytes. Leaves out: maps, other types of programs, pinning.
//! Oldest kernel: 4.15; replacing in place and reading back what is attached as used here: 5.6. Needs `CAP_BPF` and `CAP_NET_ADMIN`
//! (Linux 5.8) or `CAP_SYS_ADMIN`, in the first user namespace.

use crate::sys::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_DETACH: libc::c_int = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_PROG_QUERY: libc::c_int = 16;

/// The type of the program, and where it is attached.
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;

/// Programs attached so live together: the groups above and below may have theirs, and all must agree.
const BPF_F_ALLOW_MULTI: u32 = 1 << 1;
const BPF_F_REPLACE: u32 = 1 << 2;

/// More programs than anyone attaches to one group; the kernel allows no more than this either (`BPF_CGROUP_MAX_PROGS`).
const MOST: usize = 64;

/// The part of `union bpf_attr` for `BPF_PROG_LOAD`, up to the fields of Linux 4.15. The kernel takes what is missing as zero.
#[repr(C, align(8))]
struct Load {
    kind: u32,
    length: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// For `BPF_PROG_ATTACH` and `BPF_PROG_DETACH`.
#[repr(C, align(8))]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replaced: u32,
    padding: u32,
}

/// For `BPF_PROG_GET_FD_BY_ID`.
#[repr(C, align(8))]
struct Open {
    id: u32,
    next: u32,
    flags: u32,
    padding: u32,
}

/// For `BPF_PROG_QUERY`.
#[repr(C, align(8))]
struct Query {
    target: u32,
    kind: u32,
    flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

/// One command of bpf(2), whose attributes are `attributes`.
///
/// # Safety
///
/// `attributes` must be the part of `union bpf_attr` that `command` takes, and every address in it must be of as much memory as its
/// length says, readable, or writable where the kernel answers there.
unsafe fn bpf<T>(command: libc::c_int, attributes: &mut T) -> Result<RawFd, Errno> {
    // SAFETY: the kernel reads and writes `size_of::<T>()` bytes through an exclusive reference; the addresses within are the
    // caller's to vouch for.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) };
    if answer < 0 {
        return Err(Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)));
    }
    Ok(answer as RawFd)
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    // A borrowed descriptor is never negative.
    fd.as_raw_fd().unsigned_abs()
}

/// Loads a device program: `BPF_PROG_LOAD`. Each instruction is eight bytes in the order of this machine.
///
/// # Errors
///
/// `EPERM` without the capabilities, and before Linux 5.11 also when `RLIMIT_MEMLOCK` is too low; `EINVAL` or `EACCES` for a
/// program that the verifier refuses, and where the kernel has no `CONFIG_CGROUP_BPF`; `E2BIG` for more than the kernel takes.
pub fn load(instructions: &[[u8; 8]]) -> Result<OwnedFd, Errno> {
    // The kernel copies the instructions with the alignment of bytes, so the slice may lie anywhere.
    let mut attributes = Load {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        length: u32::try_from(instructions.len()).map_err(|_| Errno::E2BIG)?,
        instructions: instructions.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: `Load` is what this command takes; `instructions` is `length` times eight readable bytes and the licence is
    // NUL-terminated, both for longer than the call; there is no log to write.
    let fd = unsafe { bpf(BPF_PROG_LOAD, &mut attributes) }?;
    // SAFETY: the kernel has just made this descriptor for us (close-on-exec, as always with bpf(2)); nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a device program to a cgroup2 directory: `BPF_PROG_ATTACH` with `BPF_F_ALLOW_MULTI`. With `replaced`, it takes the place of that
/// program in one step (Linux 5.6), so that at no moment the group is without one.
///
/// # Errors
///
/// `EPERM` without the capabilities or where a group above forbids it, `EINVAL` for a program of another type, `ENOENT` if
/// `replaced` is not attached, `E2BIG` for more than 64 programs.
pub fn attach(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>, replaced: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
    let flags = BPF_F_ALLOW_MULTI | if replaced.is_some() { BPF_F_REPLACE } else { 0 };
    let mut attributes = Attach {
        target: number(cgroup),
        program: number(program),
        kind: BPF_CGROUP_DEVICE,
        flags,
        replaced: replaced.map_or(0, number),
        padding: 0,
    };
    // SAFETY: `Attach` is what this command takes, and it holds no address.
    unsafe { bpf(BPF_PROG_ATTACH, &mut attributes) }.map(drop)
}

/// Detaches a device program: `BPF_PROG_DETACH`. Not needed before the group is removed, which detaches everything.
///
/// # Errors
///
/// `ENOENT` if it is not attached, `EPERM` without the capabilities.
pub fn detach(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Errno> {
    let (target, program) = (number(cgroup), number(program));
    let mut attributes = Attach { target, program, kind: BPF_CGROUP_DEVICE, flags: 0, replaced: 0, padding: 0 };
    // SAFETY: `Attach` is what this command takes, and it holds no address.
    unsafe { bpf(BPF_PROG_DETACH, &mut attributes) }.map(drop)
}

/// The ids of the device programs attached to this very cgroup2 directory, in the order they run: `BPF_PROG_QUERY`.
///
/// # Errors
///
/// `EPERM` without the capabilities, `EINVAL` where the kernel has no `CONFIG_CGROUP_BPF`.
pub fn attached(cgroup: BorrowedFd<'_>) -> Result<Vec<u32>, Errno> {
    let mut ids = [0u32; MOST];
    let mut attributes = Query {
        target: number(cgroup),
        kind: BPF_CGROUP_DEVICE,
        flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: MOST as u32,
        padding: 0,
    };
    // SAFETY: `Query` is what this command takes; the kernel writes at most `count` ids of four bytes to `ids`, which is that long and
    // not otherwise used during the call.
    unsafe { bpf(BPF_PROG_QUERY, &mut attributes) }?;
    let count = usize::try_from(attributes.count).unwrap_or(MOST).min(MOST);
    Ok(ids[..count].to_vec())
}

/// Opens a loaded program by its id: `BPF_PROG_GET_FD_BY_ID`. Needs `CAP_SYS_ADMIN`.
///
/// # Errors
///
/// `ENOENT` if there is none (any more), `EPERM` without the capability.
pub fn open(id: u32) -> Result<OwnedFd, Errno> {
    let mut attributes = Open { id, next: 0, flags: 0, padding: 0 };
    // SAFETY: `Open` is what this command takes, and it holds no address.
    let fd = unsafe { bpf(BPF_PROG_GET_FD_BY_ID, &mut attributes) }?;
    // SAFETY: the kernel has just made this descriptor for us (close-on-exec); nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Loads `instructions` and makes them the only device program of the group: the one there is is replaced in one step; of several, each is
/// detached after the new one is there. So rules can be changed any number of times without a gap and without a pile.
///
/// # Errors
///
/// Those of the commands above. The old programs stay if the new one cannot be attached.
pub fn install(cgroup: BorrowedFd<'_>, instructions: &[[u8; 8]]) -> Result<(), Errno> {
    let program = load(instructions)?;
    let old = attached(cgroup)?.into_iter().map(open).collect::<Result<Vec<_>, _>>()?;
    if let [only] = &old[..] {
        return attach(cgroup, program.as_fd(), Some(only.as_fd()));
    }
    attach(cgroup, program.as_fd(), None)?;
    old.iter().try_for_each(|old| detach(cgroup, old.as_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::path::PathBuf;

    /// `r0 = verdict; exit`.
    fn program(verdict: u8) -> [[u8; 8]; 2] {
        [[0xb7, 0, 0, 0, verdict, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]]
    }

    /// A group of our own at the top of the cgroup2 tree, removed when dropped.
    struct Group(PathBuf);

    impl Group {
        fn new() -> Option<Self> {
            let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
            let line = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
            let top = PathBuf::from(line.split(' ').nth(4)?);
            let path = top.join(format!("keelbox-bpf-{}", std::process::id()));
            std::fs::create_dir(&path).ok()?;
            Some(Self(path))
        }
    }

    impl Drop for Group {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir(&self.0);
        }
    }

    #[test]
    fn programs_come_and_go() {
        let Some(group) = Group::new() else {
            println!("SKIP programs_come_and_go: no cgroup2 tree to write to");
            return;
        };
        let cgroup = File::open(&group.0).unwrap();
        let first = match load(&program(1)) {
            Ok(first) => first,
            Err(errno @ (Errno::EPERM | Errno::EINVAL | Errno::ENOSYS)) => {
                println!("SKIP programs_come_and_go: no device programs here: {errno:?}");
                return;
            }
            Err(errno) => panic!("{errno:?}"),
        };
        let cgroup = cgroup.as_fd();
        assert_eq!(attached(cgroup), Ok(vec![]));
        assert_eq!(detach(cgroup, first.as_fd()), Err(Errno::ENOENT));
        attach(cgroup, first.as_fd(), None).unwrap();
        let ids = attached(cgroup).unwrap();
        assert_eq!(ids.len(), 1);
        for round in 0..200 {
            install(cgroup, &program(round % 2)).unwrap();
            assert_eq!(attached(cgroup).unwrap().len(), 1, "none piles up");
        }
        assert_ne!(attached(cgroup).unwrap(), ids);
        // Several, as somebody else may have left them, become one.
        let (second, third) = (load(&program(1)).unwrap(), load(&program(0)).unwrap());
        attach(cgroup, second.as_fd(), None).unwrap();
        attach(cgroup, third.as_fd(), None).unwrap();
        assert_eq!(attached(cgroup).unwrap().len(), 3);
        install(cgroup, &program(0)).unwrap();
        let ids = attached(cgroup).unwrap();
        assert_eq!(ids.len(), 1);
        detach(cgroup, open(ids[0]).unwrap().as_fd()).unwrap();
        assert_eq!(attached(cgroup), Ok(vec![]));
        assert_eq!(open(u32::MAX).unwrap_err(), Errno::ENOENT);
    }

    #[test]
    fn the_verifier_has_the_last_word() {
        // It ends without a verdict.
        match load(&[[0x95, 0, 0, 0, 0, 0, 0, 0]]) {
            Err(errno @ (Errno::EPERM | Errno::ENOSYS)) => {
                println!("SKIP the_verifier_has_the_last_word: no programs here: {errno:?}");
            }
            answer => assert!(matches!(answer, Err(Errno::EACCES | Errno::EINVAL)), "{answer:?}"),
        }
        assert!(load(&[]).is_err());
    }
}
