//! `msghdr` for one buffer and up to [`MOST`] descriptors: what the control socket carries. Needs no `std`.

use core::marker::PhantomData;

/// The most descriptors that one message carries (`SCM_MAX_FD` of the kernel).
pub const MOST: usize = 253;

const HEADER: usize = 16;
const SOL_SOCKET: u32 = 1;
const SCM_RIGHTS: u32 = 1;
const MSG_CTRUNC: u32 = 8;
const MSG_TRUNC: u32 = 0x20;

/// Room for the ancillary data of one message, aligned as `cmsghdr` wants it.
#[derive(Debug)]
#[repr(C, align(8))]
pub struct Ancillary([u8; HEADER + MOST * 4 + 4]);

impl Ancillary {
    /// Empty room.
    pub const fn new() -> Self {
        Self([0; HEADER + MOST * 4 + 4])
    }

    /// Writes `descriptors` as one `SCM_RIGHTS` message; gives the bytes used.
    fn fill(&mut self, descriptors: impl Iterator<Item = i32>) -> usize {
        let mut length = HEADER;
        for descriptor in descriptors.take(MOST) {
            self.0[length..length + 4].copy_from_slice(&descriptor.to_ne_bytes());
            length += 4;
        }
        if length == HEADER {
            return 0;
        }
        self.0[..8].copy_from_slice(&(length as u64).to_ne_bytes());
        self.0[8..12].copy_from_slice(&SOL_SOCKET.to_ne_bytes());
        self.0[12..16].copy_from_slice(&SCM_RIGHTS.to_ne_bytes());
        (length + 7) & !7
    }

    /// The descriptors in the first `used` bytes, as the kernel wrote them.
    pub fn descriptors(&self, used: usize) -> impl Iterator<Item = i32> + '_ {
        let word = |at: usize| u32::from_ne_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]]);
        let valid = used >= HEADER && word(8) == SOL_SOCKET && word(12) == SCM_RIGHTS;
        let length = if valid { (word(0) as usize).min(used).min(self.0.len()) } else { HEADER };
        (HEADER..length.saturating_sub(3)).step_by(4).map(move |at| word(at) as i32)
    }
}

/// `msghdr` with one `iovec`. It points into itself only while a call borrows it.
#[derive(Debug)]
#[repr(C)]
pub struct Message<'a> {
    name: usize,
    name_length: usize,
    vectors: usize,
    vector_count: usize,
    control: usize,
    control_length: usize,
    flags: u32,
    vector: [usize; 2],
    lives: PhantomData<&'a mut [u8]>,
}

impl<'a> Message<'a> {
    /// A message to send: `bytes` and `descriptors` (at most [`MOST`]).
    pub fn outgoing(bytes: &'a [u8], descriptors: impl Iterator<Item = i32>, room: &'a mut Ancillary) -> Self {
        let used = room.fill(descriptors);
        Self::new([bytes.as_ptr() as usize, bytes.len()], if used == 0 { 0 } else { room.0.as_ptr() as usize }, used)
    }

    /// Room for a message to receive.
    pub fn incoming(bytes: &'a mut [u8], room: &'a mut Ancillary) -> Self {
        Self::new([bytes.as_mut_ptr() as usize, bytes.len()], room.0.as_mut_ptr() as usize, room.0.len())
    }

    fn new(vector: [usize; 2], control: usize, control_length: usize) -> Self {
        let (name, name_length, vectors, vector_count, flags) = (0, 0, 0, 1, 0);
        Self { name, name_length, vectors, vector_count, control, control_length, flags, vector, lives: PhantomData }
    }

    /// The bytes of ancillary data that came with a received message.
    pub fn control_length(&self) -> usize {
        self.control_length
    }

    /// Whether the kernel had more descriptors than there was room for.
    pub fn truncated(&self) -> bool {
        self.flags & MSG_CTRUNC != 0
    }

    /// Whether the message was longer than the room for it.
    pub fn cut(&self) -> bool {
        self.flags & MSG_TRUNC != 0
    }

    /// The address of this `msghdr`, once it points at its own vector; good for as long as the message stays borrowed.
    pub(super) fn settle(&mut self) -> usize {
        self.vectors = core::ptr::from_ref(&self.vector) as usize;
        core::ptr::from_mut(self) as usize
    }
}
