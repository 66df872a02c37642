//! Child processes in namespaces of their own, for tests. Each is killed and reaped when its value is dropped.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// A process that sleeps in new namespaces.
pub struct Sleeper {
    child: Child,
    pid: u32,
}

impl Sleeper {
    /// Starts `unshare OPTIONS` and waits until the sleeping program is inside.
    pub fn unshare(options: &[&str]) -> Self {
        Self::start(Command::new("unshare"), options)
    }

    /// The same through a command that goes before, such as `setpriv ... unshare`.
    pub fn start(mut command: Command, options: &[&str]) -> Self {
        // The shell's pid as the host sees it: /proc is still the host's. It becomes the sleeper.
        let script = "read -r pid rest < /proc/self/stat; echo $pid; exec sleep 1000";
        command.args(options).args(["--", "sh", "-c", script]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("can start unshare");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("can read");
        let pid = line.trim().parse().unwrap_or_else(|_| panic!("unshare {options:?} said {line:?}"));
        let sleeper = Self { child, pid };
        while std::fs::read_to_string(format!("/proc/{pid}/comm")).expect("it lives") != "sleep\n" {
            std::thread::yield_now();
        }
        sleeper
    }

    /// The pid of the process inside.
    pub fn pid(&self) -> u32 {
        self.pid
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        // `unshare --kill-child` is given wherever there is a process below it, so this ends both.
        self.child.kill().expect("can kill the child");
        self.child.wait().expect("can reap the child");
        // The process below it dies a moment later, and somebody else reaps it.
        let stat = format!("/proc/{}/stat", self.pid);
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            std::thread::yield_now();
        }
    }
}
