//! One system call, as data, and the one place that performs it. x86_64 and aarch64; needs no `std`.
//!
//! A [`Call`] can only be made by the constructors in `calls.rs`, which take references and keep their
//! lifetimes: a `Call` that exists is safe to perform. Tests perform calls on a kernel of their own making.

use core::arch::asm;
use core::ffi::CStr;
use core::fmt;
use core::marker::PhantomData;

/// An error number of the kernel, as `errno(3)` lists them.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Errno(pub i32);

macro_rules! errnos {
    ($($name:ident = $number:literal),* $(,)?) => {
        impl Errno {
            $(#[doc = concat!("`", stringify!($name), "`")] pub const $name: Self = Self($number);)*

            fn name(self) -> Option<&'static str> {
                match self.0 { $($number => Some(stringify!($name)),)* _ => None }
            }
        }
    };
}

errnos! {
    EPERM = 1, ENOENT = 2, ESRCH = 3, EINTR = 4, EIO = 5, E2BIG = 7, ENOEXEC = 8, EBADF = 9, ECHILD = 10,
    EAGAIN = 11, ENOMEM = 12, EACCES = 13, EFAULT = 14, EBUSY = 16, EEXIST = 17, EXDEV = 18, ENODEV = 19,
    ENOTDIR = 20, EISDIR = 21, EINVAL = 22, EMFILE = 24, ENOTTY = 25, ETXTBSY = 26, ENOSPC = 28, EROFS = 30,
    EPIPE = 32, ERANGE = 34, ENAMETOOLONG = 36, ENOSYS = 38, ENOTEMPTY = 39, ELOOP = 40, EPROTO = 71,
    EOVERFLOW = 75, EUSERS = 87, EOPNOTSUPP = 95, ECONNRESET = 104, ETIMEDOUT = 110, EDQUOT = 122, ECANCELED = 125,
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

/// One system call with its arguments, which live as long as the call.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    pub(super) number: usize,
    pub(super) arguments: [usize; 6],
    pub(super) lives: PhantomData<&'a mut [u8]>,
}

impl Call<'_> {
    /// The number of the system call on this architecture.
    pub fn number(&self) -> usize {
        self.number
    }

    /// The arguments as the kernel gets them; pointers as numbers.
    pub fn arguments(&self) -> [usize; 6] {
        self.arguments
    }
}

/// What a test's idea of the kernel needs: to read and write where the arguments point.
#[cfg(test)]
impl Call<'_> {
    /// The text behind `argument`, which the constructor made from a `&CStr`.
    pub(crate) fn text(&self, argument: usize) -> String {
        let pointer = self.arguments[argument] as *const core::ffi::c_char;
        // SAFETY: the constructor was given a `&CStr` for this argument, and the call keeps its lifetime.
        unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
    }

    /// Writes `bytes` at `offset` into the buffer behind `argument`, which the constructor made from a longer `&mut` one.
    pub(crate) fn fill(&self, argument: usize, offset: usize, bytes: &[u8]) {
        let pointer = (self.arguments[argument] as *mut u8).wrapping_add(offset);
        // SAFETY: the constructor was given a `&mut` buffer that reaches beyond these bytes, and the call keeps its lifetime.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), pointer, bytes.len()) };
    }
}

/// Something that performs system calls: the kernel, or a test's idea of it.
pub trait Kernel {
    /// Performs `call` and gives its result, or its error number.
    ///
    /// # Errors
    ///
    /// Whatever the kernel answers.
    fn perform(&mut self, call: Call<'_>) -> Result<usize, Errno>;
}

/// The kernel this program runs on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Linux;

impl Kernel for Linux {
    fn perform(&mut self, call: Call<'_>) -> Result<usize, Errno> {
        // SAFETY: only the constructors in `calls.rs` make a `Call`; each hands the kernel numbers and references
        // that outlive the call, with the sizes that this very system call reads and writes.
        check(unsafe { syscall(call.number, call.arguments) })
    }
}

/// Turns the kernel's answer into a result: -4095 to -1 are error numbers.
pub(crate) fn check(answer: isize) -> Result<usize, Errno> {
    if (-4095..0).contains(&answer) { Err(Errno(-answer as i32)) } else { Ok(answer as usize) }
}

/// The arguments that are given, and 0 for the rest.
pub(super) const fn six<const GIVEN: usize>(given: [usize; GIVEN]) -> [usize; 6] {
    let mut arguments = [0; 6];
    let mut index = 0;
    while index < GIVEN && index < arguments.len() {
        arguments[index] = given[index];
        index += 1;
    }
    arguments
}

/// A NUL-terminated string as an argument.
pub(super) fn text(text: &CStr) -> usize {
    text.as_ptr() as usize
}

/// Enters the kernel.
///
/// # Safety
///
/// The arguments must be what system call `number` may be given at this moment.
#[cfg(target_arch = "x86_64")]
pub(crate) unsafe fn syscall(number: usize, a: [usize; 6]) -> isize {
    let answer: isize;
    // SAFETY: the caller vouches for the arguments; the clobbers are those of the x86_64 system call convention.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => answer, in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
            in("r10") a[3], in("r8") a[4], in("r9") a[5], lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    answer
}

/// Enters the kernel.
///
/// # Safety
///
/// The arguments must be what system call `number` may be given at this moment.
#[cfg(target_arch = "aarch64")]
pub(crate) unsafe fn syscall(number: usize, a: [usize; 6]) -> isize {
    let answer: isize;
    // SAFETY: the caller vouches for the arguments; `svc 0` changes no register but x0.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a[0] as isize => answer, in("x1") a[1], in("x2") a[2],
            in("x3") a[3], in("x4") a[4], in("x5") a[5], options(nostack));
    }
    answer
}
