//! Terminals: handed over by a socket, of the size that was asked for.

use std::os::unix::net::UnixListener;

use keelbox_testkit::{self as testkit, require};
use serde_json::json;

use crate::common::{Bench, shown};

#[test]
fn rs_023_a_terminal_is_all_three_streams_and_has_its_size() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-023")?;
    let path = bench.path("console");
    let (socket, path) = (UnixListener::bind(&path)?, path.to_str().ok_or("text")?.to_owned());
    let script = "for n in 0 1 2; do readlink /proc/self/fd/$n; done; tty; stty size; echo at last; exec sleep 600";
    let mut config = bench.config(script);
    config["process"]["terminal"] = true.into();
    config["process"]["consoleSize"] = json!({ "height": 43, "width": 121 });
    let mounts = config["mounts"].as_array_mut().ok_or("a list")?;
    mounts
        .push(json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] }));
    mounts.push(json!({
        "destination": "/dev/pts", "type": "devpts", "source": "devpts",
        "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
    }));
    let bundle = bench.bundle("bundle", &config)?;
    let reader = std::thread::spawn(move || shown(&socket, "at last").map_err(|error| error.to_string()));
    bench.done(&["create", "-b", &bundle, "--console-socket", &path, "rs-023"])?;
    bench.done(&["start", "rs-023"])?;
    let text = reader.join().map_err(|_| "the reader failed")??;
    let name = "/dev/pts/0\r\n";
    assert_eq!(text, format!("{}43 121\r\nat last\r\n", name.repeat(4)));
    Ok(())
}
