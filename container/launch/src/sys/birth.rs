//! The one clone that shares memory with the host program: from `clone3(2)` to `execveat(2)` of the stage.
//!
//! The new process borrows this thread's memory while this thread stands still (`CLONE_VM | CLONE_VFORK`), so its price does
//! not depend on how much memory the host holds. It makes raw system calls only: `errno`, thread storage, allocator and locks
//! belong to the host. Needs Linux 5.2 (`CLONE_PIDFD`); `clone(2)` takes over where `clone3(2)` is missing or filtered.

use core::arch::asm;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use super::clone::{CLONE_INTO_CGROUP, CLONE_PIDFD, CLONE_VFORK, CLONE_VM, CloneArgs};
use super::numbers as nr;
use super::raw::{Call, Errno, Kernel, Linux, check, syscall};

const STACK: usize = 32 * 1024;
const SIGCHLD: u64 = 17;

/// The signals that the threads that clone have blocked while they wait: all but those by which C libraries make all threads
/// change their ids or be cancelled (32 and 33 in glibc, 34 in musl). A host that calls `setuid(3)` would wait for ever for a
/// thread that blocks them.
pub(crate) const IDLE: u64 = !(0b111 << 31);

/// What is born: the stage, with its end of the control socket.
#[derive(Debug)]
pub(crate) struct Birth<'a> {
    pub(crate) stage: BorrowedFd<'a>,
    pub(crate) control: BorrowedFd<'a>,
    /// `CLONE_NEW*` flags.
    pub(crate) namespaces: u64,
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
    /// Whether capabilities must survive the execution although the user is not root (or not mapped yet).
    pub(crate) ambient: bool,
    /// Pretend that `clone3(2)` is missing, for tests.
    pub(crate) without_clone3: bool,
    /// Where the kernel puts the number of the pidfd, before the child runs: -1 until then.
    pub(crate) pidfd: &'a AtomicI32,
    /// Whoever kills the child from outside says so here first.
    pub(crate) late: &'a AtomicBool,
}

/// Why there is no stage. Whoever watches the birth closes the pidfd of what has ended: it may be about to use its number.
#[derive(Debug)]
pub(crate) struct Stillborn {
    pub(crate) errno: Errno,
    pub(crate) pidfd: Option<OwnedFd>,
}

impl From<Errno> for Stillborn {
    fn from(errno: Errno) -> Self {
        Self { errno, pidfd: None }
    }
}

/// What the child needs, prepared by the parent; `errno` is where it leaves the reason if it fails.
struct Cradle {
    stage: i32,
    control: i32,
    /// A `cgroup.procs` to join, or -1.
    joins: i32,
    ambient: bool,
    arguments: [*const u8; 3],
    environment: [*const u8; 1],
    /// Whether the child has run at all.
    lives: AtomicBool,
    errno: AtomicI32,
}

/// Brings the stage to life. The calling thread stands still until the stage runs. No handler of the host may run in the child
/// on the shared memory, so every signal stays blocked from before the clone: in the child for good, here until the end.
///
/// Since Linux 6.14 `CLONE_INTO_CGROUP` compares how often the caller's cgroup and the new one were killed by `cgroup.kill`, and kills
/// the child before it runs if that differs (`kill_seq` in kernel/cgroup/cgroup.c). Then another one is born here and moves.
pub(crate) fn birth(birth: &Birth<'_>) -> Result<(OwnedFd, u32), Stillborn> {
    match attempt(birth, birth.cgroup, None)? {
        Some(born) => Ok(born),
        None => {
            birth.pidfd.store(-1, Ordering::Release);
            let procs = birth.cgroup.map(|directory| {
                const WRITE_ONLY_CLOEXEC: i32 = 0o2_000_001;
                Linux.perform(Call::openat(directory.as_raw_fd(), c"cgroup.procs", WRITE_ONLY_CLOEXEC, 0))
            });
            let procs = procs.transpose()?.map(super::process::owned).transpose()?;
            attempt(birth, None, procs.as_ref()).map(|born| born.ok_or(Errno::EIO))?.map_err(Stillborn::from)
        }
    }
}

/// One clone; nothing if the child was killed by the kernel before it ran, because of the `cgroup` it was to be born in.
fn attempt(
    birth: &Birth<'_>,
    cgroup: Option<BorrowedFd<'_>>,
    joins: Option<&OwnedFd>,
) -> Result<Option<(OwnedFd, u32)>, Stillborn> {
    let mut stack = vec![0u128; STACK / 16];
    let number = std::ffi::CString::new(birth.control.as_raw_fd().to_string()).unwrap_or_default();
    let cradle = Cradle {
        stage: birth.stage.as_raw_fd(),
        control: birth.control.as_raw_fd(),
        joins: joins.map_or(-1, AsRawFd::as_raw_fd),
        ambient: birth.ambient,
        arguments: [c"keelbox".as_ptr().cast(), number.as_ptr().cast(), std::ptr::null()],
        environment: [std::ptr::null()],
        lives: AtomicBool::new(false),
        errno: AtomicI32::new(0),
    };
    let into = if cgroup.is_some() { CLONE_INTO_CGROUP } else { 0 };
    let mut unused = -1;
    let mut args = CloneArgs::copy(birth.namespaces | CLONE_PIDFD | into, 0, &mut unused);
    args.pidfd = birth.pidfd.as_ptr() as u64;
    args.flags |= CLONE_VM | CLONE_VFORK;
    args.exit_signal = SIGCHLD;
    args.cgroup = cgroup.map_or(0, |cgroup| cgroup.as_raw_fd() as u64);
    let _blocked = Linux.perform(Call::sigmask(&u64::MAX));
    let cloned = clone(&mut args, &mut stack, &cradle, birth.without_clone3);
    let _unblocked = Linux.perform(Call::sigmask(&IDLE));
    let pid = cloned.map_err(Stillborn::from)?;
    let pidfd = birth.pidfd.load(Ordering::Acquire);
    // SAFETY: CLONE_PIDFD made the kernel put a new descriptor there, which nothing else knows.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let lives = cradle.lives.load(Ordering::Acquire);
    match cradle.errno.load(Ordering::Acquire) {
        0 if !lives && cgroup.is_some() && !birth.late.load(Ordering::Acquire) => {
            let _reaped = super::process::wait(&pidfd);
            Ok(None)
        }
        0 => Ok(Some((pidfd, pid))),
        errno => {
            let _reaped = super::process::wait(&pidfd);
            Err(Stillborn { errno: Errno(errno), pidfd: Some(pidfd) })
        }
    }
}

fn clone(args: &mut CloneArgs<'_>, stack: &mut [u128], cradle: &Cradle, without_clone3: bool) -> Result<u32, Errno> {
    let bottom = stack.as_mut_ptr() as usize;
    let size = size_of_val(stack);
    (args.stack, args.stack_size) = (bottom as u64, size as u64);
    let answer = if without_clone3 {
        Err(Errno::ENOSYS)
    } else {
        let arguments = [std::ptr::from_mut(args) as usize, 88, 0, 0, 0, 0];
        // SAFETY: `args` describes a stack that belongs to this call and outlives it: CLONE_VFORK holds this thread until
        // the child has executed the stage or ended. `swaddle` keeps to raw system calls and its own stack.
        check(unsafe { vfork(nr::CLONE3, arguments, swaddle, cradle) })
    };
    match answer {
        // Other sandboxes' filters answer EPERM or ENOSYS to clone3; clone(2) has no cgroup and no time namespace.
        Err(Errno::ENOSYS | Errno::EPERM) if args.cgroup == 0 && args.flags & 0x80 == 0 => {
            let flags = (args.flags & 0xffff_ffff) as usize | SIGCHLD as usize;
            // The kernel takes the address of the pidfd as the third argument on both architectures; the rest stays 0.
            let arguments = [flags, bottom + size, args.pidfd as usize, 0, 0, 0];
            // SAFETY: as above; clone(2) wants the top of the stack.
            check(unsafe { vfork(nr::CLONE, arguments, swaddle, cradle) })
        }
        answer => answer,
    }
    .map(|pid| pid as u32)
}

/// All that the child does: keeps its capabilities if asked, lets the control socket through, and executes the stage.
extern "C" fn swaddle(cradle: *const Cradle) -> ! {
    // SAFETY: `clone` passes the address of a `Cradle` that lives until this thread's parent goes on, which is after us.
    let cradle = unsafe { &*cradle };
    cradle.lives.store(true, Ordering::Release);
    if cradle.joins >= 0 {
        // SAFETY: one byte of a constant; the descriptor is the parent's, which stands still.
        let joined = unsafe { syscall(nr::WRITE, [cradle.joins as usize, c"0".as_ptr() as usize, 1, 0, 0, 0]) };
        if joined < 0 {
            give_up(cradle, -joined as i32);
        }
    }
    if cradle.ambient {
        raise_ambient();
    }
    const F_SETFD: usize = 2;
    const AT_EMPTY_PATH: usize = 0x1000;
    // SAFETY: fcntl with F_SETFD changes a flag of this process's own copy of the descriptor table.
    unsafe { syscall(nr::FCNTL, [cradle.control as usize, F_SETFD, 0, 0, 0, 0]) };
    let empty = c"".as_ptr() as usize;
    let (arguments, environment) = (cradle.arguments.as_ptr() as usize, cradle.environment.as_ptr() as usize);
    // SAFETY: the two arrays end with a null pointer and hold NUL-terminated strings that live in the parent's frame.
    let answer =
        unsafe { syscall(nr::EXECVEAT, [cradle.stage as usize, empty, arguments, environment, AT_EMPTY_PATH, 0]) };
    give_up(cradle, -answer as i32)
}

/// Leaves word of why, and ends.
fn give_up(cradle: &Cradle, errno: i32) -> ! {
    cradle.errno.store(errno, Ordering::Release);
    loop {
        // SAFETY: ends this process; it is not a thread of the host.
        unsafe { syscall(nr::EXIT_GROUP, [127, 0, 0, 0, 0, 0]) };
    }
}

/// Makes the permitted capabilities ambient, so that they survive the execution. A kernel or policy that refuses leaves the
/// stage without them, and its first step that needs one says so.
fn raise_ambient() {
    const PR_CAP_AMBIENT: usize = 47;
    const PR_CAP_AMBIENT_RAISE: usize = 2;
    let header: [u32; 2] = [0x2008_0522, 0];
    let mut data = [0u32; 6];
    let pointers = [header.as_ptr() as usize, data.as_mut_ptr() as usize, 0, 0, 0, 0];
    // SAFETY: version 3 of capget(2) writes 24 bytes, the size of `data`.
    unsafe { syscall(nr::CAPGET, pointers) };
    (data[2], data[5]) = (data[1], data[4]);
    // SAFETY: version 3 of capset(2) reads 24 bytes; it changes this process's own credentials only.
    unsafe { syscall(nr::CAPSET, pointers) };
    let permitted = u64::from(data[1]) | u64::from(data[4]) << 32;
    for capability in (0..64usize).filter(|capability| permitted >> capability & 1 == 1) {
        // SAFETY: numbers only; changes this process's own ambient set.
        unsafe { syscall(nr::PRCTL, [PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0, 0]) };
    }
}

/// Makes the clone call `number`; the child calls `child(cradle)` on its new stack and never returns from here.
///
/// # Safety
///
/// `arguments` must name a stack that nothing else uses, and flags that hold this thread until the child is done with it.
#[cfg(target_arch = "x86_64")]
unsafe fn vfork(number: usize, a: [usize; 6], child: extern "C" fn(*const Cradle) -> !, cradle: &Cradle) -> isize {
    let answer: isize;
    // SAFETY: the parent comes back at label 2 with its registers as the convention says; the child has rax = 0, its own rsp
    // (16-byte aligned, so that the call leaves the alignment a function expects), and never gets past `call`.
    unsafe {
        asm!("syscall", "test rax, rax", "jnz 2f", "xor ebp, ebp", "mov rdi, r13", "call r12", "ud2", "2:",
            inlateout("rax") number as isize => answer, in("rdi") a[0], in("rsi") a[1], in("rdx") a[2], in("r10") a[3],
            in("r8") a[4], in("r9") a[5], in("r12") child, in("r13") std::ptr::from_ref(cradle),
            lateout("rcx") _, lateout("r11") _);
    }
    answer
}

/// Makes the clone call `number`; the child calls `child(cradle)` on its new stack and never returns from here.
///
/// # Safety
///
/// `arguments` must name a stack that nothing else uses, and flags that hold this thread until the child is done with it.
#[cfg(target_arch = "aarch64")]
unsafe fn vfork(number: usize, a: [usize; 6], child: extern "C" fn(*const Cradle) -> !, cradle: &Cradle) -> isize {
    let answer: isize;
    // SAFETY: the parent comes back at label 2; the child has x0 = 0, its own 16-byte aligned stack, and never gets past `blr`.
    unsafe {
        asm!("svc 0", "cbnz x0, 2f", "mov x29, xzr", "mov x0, x10", "blr x9", "brk 1", "2:",
            in("x8") number, inlateout("x0") a[0] as isize => answer, in("x1") a[1], in("x2") a[2], in("x3") a[3],
            in("x4") a[4], in("x5") a[5], in("x9") child, in("x10") std::ptr::from_ref(cradle));
    }
    answer
}
