//! The names of the system calls, for tests, and the proof that the numbers are right. Compiled for tests only.

use super::numbers as nr;

macro_rules! names {
    ($($name:ident $libc:ident)*) => {
        /// Name, our number, and that of the `libc` crate.
        pub(crate) const NAMES: &[(&str, usize, i64)] = &[$((stringify!($name), nr::$name, libc::$libc)),*];
    };
}

names! {
    ACCEPT4 SYS_accept4
    BPF SYS_bpf
    CAPGET SYS_capget
    CAPSET SYS_capset
    CHDIR SYS_chdir
    CHROOT SYS_chroot
    CLONE SYS_clone
    CLONE3 SYS_clone3
    CLOSE SYS_close
    CLOSE_RANGE SYS_close_range
    DUP3 SYS_dup3
    EXECVE SYS_execve
    EXECVEAT SYS_execveat
    EXIT SYS_exit
    EXIT_GROUP SYS_exit_group
    FCHDIR SYS_fchdir
    FCHMOD SYS_fchmod
    FCHMODAT SYS_fchmodat
    FCHOWN SYS_fchown
    FCHOWNAT SYS_fchownat
    FCNTL SYS_fcntl
    FGETXATTR SYS_fgetxattr
    FLISTXATTR SYS_flistxattr
    FSCONFIG SYS_fsconfig
    FSMOUNT SYS_fsmount
    FSETXATTR SYS_fsetxattr
    FSOPEN SYS_fsopen
    FSTAT SYS_fstat
    FACCESSAT SYS_faccessat
    FSTATFS SYS_fstatfs
    FTRUNCATE SYS_ftruncate
    GETCWD SYS_getcwd
    GETDENTS64 SYS_getdents64
    GETPID SYS_getpid
    GETPPID SYS_getppid
    GETTID SYS_gettid
    IOCTL SYS_ioctl
    IOPRIO_SET SYS_ioprio_set
    KEYCTL SYS_keyctl
    KILL SYS_kill
    LANDLOCK_RESTRICT_SELF SYS_landlock_restrict_self
    LINKAT SYS_linkat
    MEMFD_CREATE SYS_memfd_create
    MKDIRAT SYS_mkdirat
    MKNODAT SYS_mknodat
    MMAP SYS_mmap
    MOUNT SYS_mount
    MOUNT_SETATTR SYS_mount_setattr
    MOVE_MOUNT SYS_move_mount
    OPEN_TREE SYS_open_tree
    OPENAT SYS_openat
    OPENAT2 SYS_openat2
    PERSONALITY SYS_personality
    PIDFD_GETFD SYS_pidfd_getfd
    PIDFD_OPEN SYS_pidfd_open
    PIDFD_SEND_SIGNAL SYS_pidfd_send_signal
    PIVOT_ROOT SYS_pivot_root
    PPOLL SYS_ppoll
    PRCTL SYS_prctl
    PRLIMIT64 SYS_prlimit64
    READ SYS_read
    READLINKAT SYS_readlinkat
    RECVMSG SYS_recvmsg
    RENAMEAT2 SYS_renameat2
    RT_SIGACTION SYS_rt_sigaction
    RT_SIGPROCMASK SYS_rt_sigprocmask
    SCHED_SETAFFINITY SYS_sched_setaffinity
    SCHED_SETATTR SYS_sched_setattr
    SECCOMP SYS_seccomp
    SENDMSG SYS_sendmsg
    SET_MEMPOLICY SYS_set_mempolicy
    SETDOMAINNAME SYS_setdomainname
    SETGROUPS SYS_setgroups
    SETHOSTNAME SYS_sethostname
    SETNS SYS_setns
    SETPRIORITY SYS_setpriority
    SETRESGID SYS_setresgid
    SETRESUID SYS_setresuid
    SETSID SYS_setsid
    SOCKET SYS_socket
    SOCKETPAIR SYS_socketpair
    STATX SYS_statx
    SYMLINKAT SYS_symlinkat
    TGKILL SYS_tgkill
    UMASK SYS_umask
    UMOUNT2 SYS_umount2
    UNLINKAT SYS_unlinkat
    UNSHARE SYS_unshare
    UTIMENSAT SYS_utimensat
    WAIT4 SYS_wait4
    WAITID SYS_waitid
    WRITE SYS_write
}

/// The name of system call `number`, in lower case.
pub(crate) fn name(number: usize) -> String {
    NAMES.iter().find(|entry| entry.1 == number).map_or_else(|| number.to_string(), |entry| entry.0.to_lowercase())
}

#[test]
fn the_numbers_are_those_of_the_libc_crate() {
    for (name, number, libc) in NAMES {
        assert_eq!(i64::try_from(*number), Ok(*libc), "{name}");
    }
}
