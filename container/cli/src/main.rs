//! The `keelbox` program.
#![forbid(unsafe_code)]
fn main() {}
