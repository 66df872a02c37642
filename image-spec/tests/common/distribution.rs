//! Debian's `docker-registry` on loopback, with a directory of its own, for as long as a test runs.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running registry. Dropping it ends it.
pub struct Distribution {
    pub directory: tempfile::TempDir,
    /// `127.0.0.1:PORT`.
    pub address: String,
    child: Child,
}

impl Distribution {
    /// Starts one; `more` is added to the `http` section of its configuration and `last` to the end. `None`, after saying
    /// so, where the program is not installed.
    pub fn start(more: &str, last: &str) -> Option<Self> {
        let known = ["/usr/bin/docker-registry", "/usr/local/bin/docker-registry"]
            .into_iter()
            .find(|path| Path::new(path).exists());
        let Some(program) = known else {
            super::skip("no docker-registry(1)");
            return None;
        };
        let directory = tempfile::tempdir().expect("directory");
        // Another program may take the port between our asking and the registry's; then another is tried.
        for _ in 0..10 {
            let port =
                TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
            let address = format!("127.0.0.1:{port}");
            let file = directory.path().join("config.yml");
            let root = directory.path().join("data");
            let config = format!(
                "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\n\
                 http:\n  addr: {address}\n  secret: test\n{more}{last}",
                root.display()
            );
            fs::write(&file, config).expect("write");
            let log = fs::File::create(directory.path().join("log")).expect("log");
            let mut child = Command::new(program)
                .arg("serve")
                .arg(&file)
                .stdin(Stdio::null())
                .stdout(log.try_clone().expect("log"))
                .stderr(log)
                .spawn()
                .expect("docker-registry starts");
            let end = Instant::now() + Duration::from_secs(30);
            while Instant::now() < end && child.try_wait().expect("wait").is_none() {
                if TcpStream::connect(&address).is_ok() {
                    return Some(Self { directory, address, child });
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!(
            "docker-registry does not start: {}",
            fs::read_to_string(directory.path().join("log")).unwrap_or_default()
        );
    }

    pub fn plain() -> Option<Self> {
        Self::start("", "")
    }
}

impl Drop for Distribution {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
