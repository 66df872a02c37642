//! What differs between processors: the entry point, the system call instruction and the system call numbers.

use core::arch::{asm, global_asm};

#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "mov rdi, rsp", "and rsp, -16", "call probe_main", "ud2",);

#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x29, #0", "mov x30, #0", "mov x0, sp", "bl probe_main", "brk #1",);

/// Makes the system call `number` and returns the kernel's raw answer, `-errno` for a failure.
///
/// # Safety
///
/// The arguments must be what that system call accepts: each that is an address must point to memory which the call
/// may read or write as its man page says.
#[cfg(target_arch = "x86_64")]
pub unsafe fn syscall(number: usize, args: [usize; 6]) -> isize {
    let result;
    // SAFETY: `syscall` clobbers rcx and r11 only, as declared; the caller vouches for the arguments.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2], in("r10") args[3], in("r8") args[4], in("r9") args[5],
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// Makes the system call `number` and returns the kernel's raw answer, `-errno` for a failure.
///
/// # Safety
///
/// The arguments must be what that system call accepts: each that is an address must point to memory which the call
/// may read or write as its man page says.
#[cfg(target_arch = "aarch64")]
pub unsafe fn syscall(number: usize, args: [usize; 6]) -> isize {
    let result;
    // SAFETY: `svc` keeps all registers but x0; the caller vouches for the arguments.
    unsafe {
        asm!("svc #0", in("x8") number, inlateout("x0") args[0] as isize => result,
            in("x1") args[1], in("x2") args[2], in("x3") args[3], in("x4") args[4], in("x5") args[5], options(nostack));
    }
    result
}

macro_rules! numbers {
    ($($name:ident $x86_64:literal $aarch64:literal)*) => {
        $(
            #[cfg(target_arch = "x86_64")]
            pub const $name: usize = $x86_64;
            #[cfg(target_arch = "aarch64")]
            pub const $name: usize = $aarch64;
        )*
    };
}

numbers! {
    READ 0 63
    WRITE 1 64
    CLOSE 3 57
    MMAP 9 222
    RT_SIGACTION 13 134
    RT_SIGPROCMASK 14 135
    IOCTL 16 29
    NANOSLEEP 35 101
    GETPID 39 172
    CLONE 56 220
    WAIT4 61 260
    KILL 62 129
    UNAME 63 160
    FCNTL 72 25
    GETCWD 79 17
    UMASK 95 166
    GETPPID 110 173
    GETGROUPS 115 158
    GETRESUID 118 148
    GETRESGID 120 150
    GETPGID 121 155
    GETSID 124 156
    GETDENTS64 217 61
    CLOCK_GETTIME 228 113
    EXIT_GROUP 231 94
    OPENAT 257 56
    MKDIRAT 258 34
    READLINKAT 267 78
    STATX 332 291
}
