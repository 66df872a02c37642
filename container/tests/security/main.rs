//! Attacks that worked on others, each by the id of the security table that names it: `a1_03_…` is row A1.03.
//!
//! Every test that expects a refusal asserts three things: a typed error that names step, path and cause (or that what was safe
//! happened), a host that is as it was, and nothing left behind. `README.md` beside this file says for each row of the table which
//! test covers it, here or in another crate, or why none does; `.ci/gates` holds it against the list of rows.
//! `KEELBOX_SOAK=1` makes every loop as long as the table asks for.

#[path = "../common/mod.rs"]
mod common;
mod support;

mod a1_mounts;
mod a1_races;
mod a1_root;
mod a2_descriptors;
mod a2_process;
mod a3_kernel;
mod a7_reliability;
mod a8_host;
mod denied;
