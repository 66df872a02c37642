//! The first instructions, the room for scripts, and the functions that the compiler calls by name.

use core::ffi::CStr;

/// Room for the script and what comes after it. Untouched pages cost nothing.
const ROOM: usize = 512 * 1024;

static mut MEMORY: [u8; ROOM] = [0; ROOM];

#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(".globl _start", "_start:", "xor ebp, ebp", "mov rdi, rsp", "and rsp, -16", "call {start}", "ud2", start = sym start);
#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(".globl _start", "_start:", "mov x29, xzr", "mov x0, sp", "bl {start}", "brk 1", start = sym start);

/// `stack` is what the kernel puts there at the start of a program: the number of arguments, then pointers to them.
extern "C" fn start(stack: *const usize) -> ! {
    // SAFETY: the kernel put the number of arguments there.
    let count = unsafe { *stack };
    // The pointers to the arguments follow, then a null pointer, then those to the environment and another null pointer.
    let arguments = Texts(stack.wrapping_add(1));
    let environment = Texts(stack.wrapping_add(1 + count + 1));
    let room = &raw mut MEMORY;
    // SAFETY: this function runs once, before anything else, and is the only one to name `MEMORY`.
    super::main(arguments, environment, unsafe { &mut *room })
}

/// Strings that the kernel put on the stack of a new program, up to the null pointer that ends them.
#[derive(Clone)]
pub struct Texts(*const usize);

impl Iterator for Texts {
    type Item = &'static CStr;

    fn next(&mut self) -> Option<&'static CStr> {
        // SAFETY: only `start` makes this, at the beginning of an array that ends with a null pointer, where it stops.
        let pointer = unsafe { *self.0 };
        if pointer == 0 {
            return None;
        }
        self.0 = self.0.wrapping_add(1);
        // SAFETY: the strings are NUL-terminated and stay where they are for as long as the program runs.
        Some(unsafe { CStr::from_ptr(pointer as *const core::ffi::c_char) })
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    super::exit(125)
}

/// As `memcpy(3)`.
///
/// # Safety
///
/// As `memcpy(3)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    // SAFETY: the caller says that `count` bytes may be read there and written here, and that the two do not overlap.
    unsafe { copy_upwards(to, from, count) };
    to
}

/// As `memmove(3)`.
///
/// # Safety
///
/// As `memmove(3)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= count {
        // SAFETY: the caller says that `count` bytes may be read and written; none is written before it is read.
        unsafe { copy_upwards(to, from, count) };
        return to;
    }
    for index in (0..count).rev() {
        // SAFETY: the caller says that `count` bytes may be read there.
        let byte = unsafe { core::ptr::read_volatile(from.wrapping_add(index)) };
        // SAFETY: and that `count` bytes may be written here.
        unsafe { core::ptr::write_volatile(to.wrapping_add(index), byte) };
    }
    to
}

/// As `memset(3)`.
///
/// # Safety
///
/// As `memset(3)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, count: usize) -> *mut u8 {
    // SAFETY: the caller says that `count` bytes may be written here.
    unsafe { fill(to, byte as u8, count) };
    to
}

/// # Safety
///
/// `count` bytes may be read from `from` and written to `to`, which does not begin inside of what is read.
#[cfg(target_arch = "x86_64")]
unsafe fn copy_upwards(to: *mut u8, from: *const u8, count: usize) {
    // SAFETY: the caller vouches for the addresses; the direction flag is clear, as everywhere between functions.
    unsafe {
        core::arch::asm!("rep movsb", inout("rcx") count => _, inout("rdi") to => _, inout("rsi") from => _,
            options(nostack, preserves_flags));
    }
}

/// # Safety
///
/// `count` bytes may be written to `to`.
#[cfg(target_arch = "x86_64")]
unsafe fn fill(to: *mut u8, byte: u8, count: usize) {
    // SAFETY: as above.
    unsafe {
        core::arch::asm!("rep stosb", inout("rcx") count => _, inout("rdi") to => _, in("al") byte,
            options(nostack, preserves_flags));
    }
}

/// Eight bytes at a time, for as long as there are eight. Volatile, lest this become a call to itself.
///
/// # Safety
///
/// `count` bytes may be read from `from` and written to `to`, which does not begin inside of what is read.
#[cfg(target_arch = "aarch64")]
unsafe fn copy_upwards(to: *mut u8, from: *const u8, count: usize) {
    let mut index = 0;
    while count - index >= 8 {
        // SAFETY: the caller says that these eight bytes may be read there and written here, which need no alignment.
        unsafe {
            core::arch::asm!("ldr {word}, [{from}]", "str {word}, [{to}]", word = out(reg) _,
                from = in(reg) from.wrapping_add(index), to = in(reg) to.wrapping_add(index), options(nostack));
        }
        index += 8;
    }
    while index < count {
        // SAFETY: the caller says that `count` bytes may be read there.
        let byte = unsafe { core::ptr::read_volatile(from.wrapping_add(index)) };
        // SAFETY: and that `count` bytes may be written here.
        unsafe { core::ptr::write_volatile(to.wrapping_add(index), byte) };
        index += 1;
    }
}

/// # Safety
///
/// `count` bytes may be written to `to`.
#[cfg(target_arch = "aarch64")]
unsafe fn fill(to: *mut u8, byte: u8, count: usize) {
    let word = u64::from(byte) * 0x0101_0101_0101_0101;
    let mut index = 0;
    while count - index >= 8 {
        // SAFETY: the caller says that these eight bytes may be written here, which need no alignment.
        unsafe {
            core::arch::asm!("str {word}, [{to}]", word = in(reg) word, to = in(reg) to.wrapping_add(index),
                options(nostack));
        }
        index += 8;
    }
    while index < count {
        // SAFETY: the caller says that `count` bytes may be written here.
        unsafe { core::ptr::write_volatile(to.wrapping_add(index), byte) };
        index += 1;
    }
}

/// As `memcmp(3)`.
///
/// # Safety
///
/// As `memcmp(3)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    let mut index = 0;
    while index < count {
        // SAFETY: the caller says that `count` bytes may be read there.
        let first = unsafe { core::ptr::read_volatile(left.wrapping_add(index)) };
        // SAFETY: and here.
        let second = unsafe { core::ptr::read_volatile(right.wrapping_add(index)) };
        if first != second {
            return i32::from(first) - i32::from(second);
        }
        index += 1;
    }
    0
}

/// As `bcmp(3)`.
///
/// # Safety
///
/// As `bcmp(3)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    // SAFETY: the caller's promise is the one that memcmp needs.
    unsafe { memcmp(left, right, count) }
}

/// As `strlen(3)`.
///
/// # Safety
///
/// As `strlen(3)`.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const core::ffi::c_char) -> usize {
    let mut length = 0;
    // SAFETY: the caller says that the text ends with a NUL, and nothing after that is read.
    while unsafe { core::ptr::read_volatile(text.wrapping_add(length)) } != 0 {
        length += 1;
    }
    length
}
