//! Builds the stage with the compiler that builds this crate: a static program without any library.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    for folder in ["stage", "src/interpret", "src/sys", "src/step.rs", "src/wire.rs", "build.rs"] {
        println!("cargo:rerun-if-changed={folder}");
    }
    let variable = |name: &str| env::var_os(name).unwrap_or_else(|| panic!("cargo sets {name}"));
    let out = PathBuf::from(variable("OUT_DIR")).join("stage");
    let mut command = Command::new(variable("RUSTC"));
    command.args(["--crate-name=stage", "--crate-type=bin", "--edition=2024", "--cap-lints=allow", "--target"]);
    command.arg(variable("TARGET")).args(["--cfg=keelbox_stage", "-Copt-level=s", "-Cpanic=abort", "-Cdebuginfo=0"]);
    command.args(["-Cstrip=symbols", "-Clto=fat", "-Ccodegen-units=1", "-Crelocation-model=static"]);
    let link = [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-Wl,--build-id=none",
        "-Wl,-z,noseparate-code",
        "-Wl,-z,max-page-size=4096",
    ];
    command.args(link.map(|argument| format!("-Clink-arg={argument}")));
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut argument = std::ffi::OsString::from("-Clinker=");
        argument.push(linker);
        command.arg(argument);
    }
    command.arg("-o").arg(&out).arg("stage/main.rs");
    let status = command.status().expect("the compiler that builds this crate can be started");
    assert!(status.success(), "the stage does not build: {command:?}");
}
