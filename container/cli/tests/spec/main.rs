//! The OCI runtime specification, row by row: each test is called after the requirement that it checks, as `RS-012` is `rs_012_…`.
//!
//! They see a runtime from outside, by its command line and by what a program inside finds, so that the same tests can be put
//! to another runtime: `KEELBOX_TEST_RUNTIME=/usr/bin/crun cargo test -p keelbox-cli --test spec`. What only reads or checks a
//! configuration is tested in `runtime-spec`.

#[path = "../common/mod.rs"]
mod common;

mod devices;
mod groups;
mod hooks;
mod life;
mod mountinfo;
mod mounts;
mod network;
mod process;
mod rdt;
mod root;
mod seccomp;
mod terminal;
