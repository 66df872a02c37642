//! The same image unpacked by umoci and podman, and Debian's registry to pull it from.

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use crate::data::Image;
use crate::lane::Result;

/// Wall and processor time of a program and all its children.
#[derive(Clone, Copy)]
pub struct Spent {
    pub wall: f64,
    pub processor: f64,
}

/// Runs a program to its end; `None`, said aloud, where there is none.
fn spend(command: &mut Command) -> Result<Option<Spent>> {
    let children = || -> Result<f64> {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
        Ok((usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e6)
    };
    let (begun, before) = (Instant::now(), children()?);
    let output = match command.stdin(Stdio::null()).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("SKIP: no {}", command.get_program().display());
            return Ok(None);
        }
        other => other?,
    };
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(Some(Spent { wall: begun.elapsed().as_secs_f64(), processor: children()? - before }))
}

/// `umoci raw unpack`, all layers into one directory.
pub fn umoci(image: &Image, place: &Path) -> Result<Option<Spent>> {
    let name = format!("{}:bench", image.layout.display());
    spend(Command::new("umoci").args(["raw", "unpack", "--image", &name]).arg(place.join("root")))
}

/// `podman pull` into a store of its own, in a mount namespace that ends with it.
pub fn podman(image: &Image, place: &Path) -> Result<Option<Spent>> {
    let there = |path: &str| Path::new(path).exists();
    if !there("/usr/bin/podman") && !there("/usr/local/bin/podman") {
        println!("SKIP: no podman");
        return Ok(None);
    }
    let layout = image.layout.file_name().ok_or("a layout has a name")?;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "podman", "--root"]).arg(place.join("root"));
    command.arg("--runroot").arg(place.join("run")).args(["--storage-driver", "overlay", "pull", "--quiet"]);
    // It makes a name of the path, which therefore must be a short one.
    command.arg(format!("oci:{}:bench", layout.display())).current_dir(image.layout.parent().ok_or("a parent")?);
    spend(&mut command)
}

/// Debian's `docker-registry` on loopback. Dropping it ends it.
pub struct Registry {
    child: Child,
    pub address: String,
}

impl Registry {
    pub fn start(place: &Path) -> Result<Option<Self>> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        let file = place.join("config.yml");
        write!(
            fs::File::create(&file)?,
            "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n  secret: bench\n",
            place.join("data").display()
        )?;
        let mut command = Command::new("docker-registry");
        let child =
            command.arg("serve").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = match child {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                println!("SKIP: no docker-registry");
                return Ok(None);
            }
            other => other?,
        };
        let registry = Self { child, address };
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(&registry.address).is_err() {
            if Instant::now() > end {
                return Err("docker-registry does not listen".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Some(registry))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ended = self.child.kill().and_then(|()| self.child.wait());
    }
}
