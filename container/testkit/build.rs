//! Compiles the probe program (`probe/main.rs`) into a static executable that the library embeds.
//!
//! Uses nothing but the compiler that builds the rest, and the linker that it would use anyway.
#![allow(clippy::print_stdout, reason = "a build script talks to cargo on standard output")]

use std::path::PathBuf;
use std::process::Command;
use std::{env, error::Error};

const FLAGS: &[&str] = &[
    "--edition=2024",
    "--crate-type=bin",
    "--crate-name=probe",
    "-Cpanic=abort",
    "-Copt-level=s",
    "-Clto=fat",
    "-Cstrip=symbols",
    "-Crelocation-model=static",
    "-Clink-arg=-nostartfiles",
    "-Clink-arg=-nostdlib",
    "-Clink-arg=-static",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=probe");
    println!("cargo::rerun-if-changed=build.rs");
    let output = PathBuf::from(env::var("OUT_DIR")?).join("probe");
    let mut rustc = Command::new(env::var_os("RUSTC").ok_or("cargo sets RUSTC")?);
    rustc.arg("--target").arg(env::var("TARGET")?).args(FLAGS);
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut flag = std::ffi::OsString::from("-Clinker=");
        flag.push(linker);
        rustc.arg(flag);
    }
    let status = rustc.arg("probe/main.rs").arg("-o").arg(&output).status()?;
    if status.success() { Ok(()) } else { Err(format!("cannot compile the probe: {status}").into()) }
}
