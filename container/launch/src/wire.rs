//! The compact form in which steps cross to the stage: numbers in native order, strings with their length. Needs no `std`.
//!
//! A script is a [`Header`] and its steps, one after another. Reading never copies: strings stay where they lie.

use core::ffi::CStr;

/// The bytes are not what was agreed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Malformed;

/// Where encoded bytes go.
pub trait Sink {
    /// Appends `bytes`.
    fn put(&mut self, bytes: &[u8]);
}

/// Something that can be written to a script.
pub trait Encode {
    /// Appends itself to `sink`.
    fn encode(&self, sink: &mut impl Sink);
}

/// Something that can be read from a script.
pub trait Decode<'a>: Sized {
    /// Takes itself from the front of `reader`.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the bytes end early or mean nothing.
    fn decode(reader: &mut Reader<'a>) -> Result<Self, Malformed>;
}

/// What is left to read of a script.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }
}

macro_rules! numbers {
    ($($kind:ty)*) => {$(
        impl Encode for $kind {
            fn encode(&self, sink: &mut impl Sink) { sink.put(&self.to_ne_bytes()); }
        }
        impl<'a> Decode<'a> for $kind {
            fn decode(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
                let bytes = reader.take(size_of::<$kind>())?;
                bytes.try_into().map(<$kind>::from_ne_bytes).map_err(|_| Malformed)
            }
        }
    )*};
}
numbers! { u32 i32 u64 }

fn encode_bytes(bytes: &[u8], sink: &mut impl Sink) {
    (bytes.len() as u32).encode(sink);
    sink.put(bytes);
}

impl Encode for &[u8] {
    fn encode(&self, sink: &mut impl Sink) {
        encode_bytes(self, sink);
    }
}

impl<'a> Decode<'a> for &'a [u8] {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let length = u32::decode(reader)?;
        reader.take(length as usize)
    }
}

impl Encode for &CStr {
    fn encode(&self, sink: &mut impl Sink) {
        encode_bytes(self.to_bytes_with_nul(), sink);
    }
}

impl<'a> Decode<'a> for &'a CStr {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        CStr::from_bytes_with_nul(<&[u8]>::decode(reader)?).map_err(|_| Malformed)
    }
}

/// The strings of a list: each ends with NUL, the last one too.
pub fn texts(list: &[u8]) -> impl Iterator<Item = &CStr> + Clone {
    list.split_inclusive(|byte| *byte == 0).filter_map(|text| CStr::from_bytes_with_nul(text).ok())
}

/// What comes before the steps of a script.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// How many steps follow.
    pub count: u32,
    /// The number of the first one, for reports.
    pub first: u32,
    /// Descriptors of the script are kept at or above this number.
    pub reserve: u32,
    /// The slot of the first descriptor that came with the script.
    pub slots: u32,
}

impl Header {
    const MAGIC: u32 = u32::from_ne_bytes(*b"kbx1");
    /// What stands in the place of the magic number when the script is in a file; the script's length follows.
    pub const PARCEL: u32 = u32::from_ne_bytes(*b"kbxf");
}

impl Encode for Header {
    fn encode(&self, sink: &mut impl Sink) {
        for word in [Self::MAGIC, self.count, self.first, self.reserve, self.slots] {
            word.encode(sink);
        }
    }
}

impl<'a> Decode<'a> for Header {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        if u32::decode(reader)? != Self::MAGIC {
            return Err(Malformed);
        }
        let mut word = || u32::decode(reader);
        Ok(Self { count: word()?, first: word()?, reserve: word()?, slots: word()? })
    }
}

/// What the stage tells the host.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Report {
    /// One of the `Report::*` numbers.
    pub kind: u32,
    /// The step it is about.
    pub step: u32,
    /// A number: an error number, a [`crate::step::Wait`], a pid, or what [`crate::step::Step::Tell`] said.
    pub value: i32,
}

impl Report {
    /// The step failed with error number `value`.
    pub const FAILED: u32 = 1;
    /// The step waits for the host; `value` says for what.
    pub const WAITING: u32 = 2;
    /// The step made a descriptor, which comes with the report.
    pub const DESCRIPTOR: u32 = 3;
    /// The step cloned the process that goes on; its pidfd comes with the report, its pid is `value`.
    pub const FORKED: u32 = 4;
    /// The step said `value`.
    pub const TOLD: u32 = 5;
    /// The step cloned a process that the kernel ended before it ran; its pidfd comes with the report, and the step tries again.
    pub const STILLBORN: u32 = 6;
    /// The bytes of an encoded report.
    pub const LENGTH: usize = 12;

    /// As bytes.
    pub fn bytes(self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..4].copy_from_slice(&self.kind.to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.step.to_ne_bytes());
        bytes[8..].copy_from_slice(&self.value.to_ne_bytes());
        bytes
    }
}

impl<'a> Decode<'a> for Report {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(Self { kind: u32::decode(reader)?, step: u32::decode(reader)?, value: i32::decode(reader)? })
    }
}
