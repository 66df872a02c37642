//! What umoci and podman make of the image of a case.
//!
//! podman gets a store of its own and a mount namespace that ends with it; its layers are read where they lie.

use crate::common::{Layout, is_opaque, merged, skip, tree};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The tree, the error, or `None` where the tool is missing.
pub type Answer = Option<Result<tree::Tree, String>>;

fn run(tool: &str, mut command: Command) -> Option<Result<(), String>> {
    match command.output() {
        Ok(output) if output.status.success() => Some(Ok(())),
        Ok(output) => Some(Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
        Err(error) => {
            skip(&format!("no {tool}: {error}"));
            None
        }
    }
}

pub fn is_installed(tool: &str) -> bool {
    let there = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|at| at.join(tool).is_file());
    if !there {
        skip(&format!("no {tool}, so nothing is compared with it"));
    }
    there
}

pub fn umoci(layout: &Layout) -> Answer {
    layout.name("x");
    let target = layout.directory.path().join("umoci");
    let mut command = Command::new("umoci");
    command.args(["raw", "unpack", "--image"]).arg(format!("{}:x", layout.path().display())).arg(&target);
    Some(run("umoci", command)?.map(|()| tree::of(&target)))
}

pub fn podman(layout: &Layout) -> Answer {
    layout.name("x");
    let at = layout.directory.path();
    let (root, state) = (at.join("podman"), at.join("podman-run"));
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "podman", "--root"]).arg(&root).arg("--runroot").arg(&state);
    command.args(["--storage-driver", "overlay", "pull", "--quiet"]);
    // It makes a name of the path, which therefore must be a short one.
    command.arg("oci:layout:x").current_dir(at);
    Some(run("podman", command)?.map(|()| tree::read(merged(&layers(&root)))))
}

/// The layer directories of podman's store that has one image, bottom first.
fn layers(root: &Path) -> Vec<PathBuf> {
    let text = fs::read(root.join("overlay-layers/layers.json")).expect("podman's list of layers");
    let list: serde_json::Value = serde_json::from_slice(&text).expect("a list");
    let list = list.as_array().expect("a list");
    let (mut stack, mut above) = (Vec::new(), None);
    while let Some(layer) = list.iter().find(|layer| layer["parent"].as_str() == above) {
        above = layer["id"].as_str();
        stack.push(root.join("overlay").join(above.expect("an id")).join("diff"));
    }
    assert_eq!(stack.len(), list.len(), "one chain of layers");
    let hidden = stack.iter().rposition(|layer| is_opaque(layer)).unwrap_or(0);
    stack.split_off(hidden)
}
