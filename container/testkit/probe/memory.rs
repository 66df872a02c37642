//! The functions that compiled Rust code expects of a C library. Volatile accesses keep the compiler from
//! recognising the loops and replacing each by a call of itself.

#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    for at in 0..length {
        // SAFETY: the caller of `memcpy` promises `length` readable bytes at `from` and as many writable ones at `to`.
        unsafe { to.add(at).write_volatile(from.add(at).read_volatile()) };
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    if to.cast_const() <= from {
        // SAFETY: copying upwards is right when the target does not lie behind the source; same promise as `memcpy`.
        return unsafe { memcpy(to, from, length) };
    }
    for at in (0..length).rev() {
        // SAFETY: same promise as `memcpy`, and going downwards no byte is overwritten before it was read.
        unsafe { to.add(at).write_volatile(from.add(at).read_volatile()) };
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, length: usize) -> *mut u8 {
    for at in 0..length {
        // SAFETY: the caller of `memset` promises `length` writable bytes at `to`.
        unsafe { to.add(at).write_volatile(byte as u8) };
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, length: usize) -> i32 {
    for at in 0..length {
        // SAFETY: the caller of `memcmp` promises `length` readable bytes at both addresses.
        let (a, b) = unsafe { (left.add(at).read_volatile(), right.add(at).read_volatile()) };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, length: usize) -> i32 {
    // SAFETY: `bcmp` has the contract of `memcmp`.
    unsafe { memcmp(left, right, length) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut length = 0;
    // SAFETY: the caller of `strlen` promises a zero byte, and every byte up to it is readable.
    while unsafe { text.add(length).read_volatile() } != 0 {
        length += 1;
    }
    length
}
