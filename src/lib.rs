//! The examples and benchmarks of keelbox; there is nothing to use here.
#![forbid(unsafe_code)]

/// The programs in `README.md` compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadMe;
