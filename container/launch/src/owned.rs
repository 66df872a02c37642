//! Steps as planners hold them: with strings of their own.

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;

use crate::step::{Form, Step};
use crate::wire::{Encode, Sink};

/// Strings that belong to the step.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Owned {}

impl Form for Owned {
    type Text = CString;
    type Bytes = Vec<u8>;
}

/// A step with strings of its own, as plans hold it.
pub type OwnedStep = Step<Owned>;

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl Encode for CString {
    fn encode(&self, sink: &mut impl Sink) {
        self.as_c_str().encode(sink);
    }
}

impl Encode for Vec<u8> {
    fn encode(&self, sink: &mut impl Sink) {
        self.as_slice().encode(sink);
    }
}

/// A NUL-terminated copy of `value`, cut at its first NUL; callers refuse values with a NUL where they enter.
///
/// ```
/// assert_eq!(keelbox_launch::text("proc"), c"proc".to_owned());
/// ```
pub fn text(value: impl AsRef<OsStr>) -> CString {
    let bytes = value.as_ref().as_bytes();
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    CString::new(&bytes[..end]).unwrap_or_default()
}

/// A list of strings as steps hold it: each NUL-terminated.
///
/// ```
/// assert_eq!(keelbox_launch::list(["sh", "-c"]), b"sh\0-c\0");
/// ```
pub fn list(values: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Vec<u8> {
    values.into_iter().fold(Vec::new(), |mut list, value| {
        list.extend_from_slice(text(value).to_bytes_with_nul());
        list
    })
}

/// The strings of a list, for showing.
pub(crate) fn strings(list: &[u8]) -> impl Iterator<Item = &CStr> {
    crate::wire::texts(list)
}
