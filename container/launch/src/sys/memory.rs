//! Memory from the kernel for the stage, which has no allocator. Needs no `std`.

use super::numbers::MMAP;
use super::raw::{Errno, check, syscall};

const PROT_READ: usize = 1;
const PROT_WRITE: usize = 2;
const MAP_PRIVATE: usize = 2;
const MAP_ANONYMOUS: usize = 0x20;

fn map(length: usize, protection: usize, flags: usize, descriptor: isize) -> Result<usize, Errno> {
    // SAFETY: without MAP_FIXED the kernel picks addresses that nothing uses yet; no existing memory changes.
    check(unsafe { syscall(MMAP, [0, length, protection, flags, descriptor as usize, 0]) })
}

/// Room for `count` words, all zero, for good.
///
/// # Errors
///
/// `ENOMEM`, `EOVERFLOW`.
pub fn words(count: usize) -> Result<&'static mut [usize], Errno> {
    let length = count.checked_mul(size_of::<usize>()).ok_or(Errno::EOVERFLOW)?;
    let address = map(length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1)?;
    // SAFETY: the fresh private mapping is page-aligned, zeroed, `length` bytes long, never unmapped, and known only here.
    Ok(unsafe { core::slice::from_raw_parts_mut(address as *mut usize, count) })
}

/// The first `length` bytes of a sealed or private file, read-only, for good.
///
/// # Errors
///
/// The kernel's answer.
pub fn file(descriptor: i32, length: usize) -> Result<&'static [u8], Errno> {
    let address = map(length, PROT_READ, MAP_PRIVATE, descriptor as isize)?;
    // SAFETY: the mapping is `length` bytes long and never unmapped. The host seals the file against writing and shrinking
    // before it sends it, so the bytes neither change nor vanish.
    Ok(unsafe { core::slice::from_raw_parts(address as *const u8, length) })
}
