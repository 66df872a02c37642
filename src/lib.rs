//! The examples and benchmarks of keelbox; there is nothing to use here.
#![forbid(unsafe_code)]
