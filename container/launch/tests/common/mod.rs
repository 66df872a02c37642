//! What the proofs share: a program that tells what it sees, and ways to launch it.
#![allow(dead_code, reason = "each test program uses a part")]

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use keelbox_launch::{Launch, OwnedStep, Slot, Step, list, sys};

/// The probe of the test kit, on the host's file system.
pub struct Probe {
    root: tempfile::TempDir,
}

impl Probe {
    pub fn new() -> Self {
        Self { root: keelbox_testkit::probe_root().expect("a probe") }
    }

    /// The root file system around it.
    pub fn root(&self) -> &std::path::Path {
        self.root.path()
    }

    /// The step that executes it.
    pub fn exec(&self, arguments: &[&str]) -> OwnedStep {
        let arguments = list(std::iter::once("probe").chain(arguments.iter().copied()));
        Step::Exec { paths: list([self.root().join("probe")]), arguments, environment: vec![] }
    }

    /// Runs it after `steps`, with `descriptors` in slots 1, 2, …; gives its exit code and what it printed.
    pub fn run(
        &self,
        steps: &[OwnedStep],
        descriptors: &[BorrowedFd<'_>],
        arguments: &[&str],
    ) -> (Option<i32>, String) {
        self.run_by(|launch| launch, steps, descriptors, arguments)
    }

    /// As [`run`](Self::run), with a launch that is not the usual one.
    pub fn run_by<'a>(
        &self,
        adjust: impl FnOnce(Launch<'_>) -> Launch<'_>,
        steps: &[OwnedStep],
        descriptors: &[BorrowedFd<'a>],
        arguments: &[&str],
    ) -> (Option<i32>, String) {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let mut steps = steps.to_vec();
        steps.push(Step::Descriptor { slot: Slot(0), number: 1 });
        steps.push(Step::Signals {});
        steps.push(self.exec(arguments));
        let descriptors = std::iter::once(writer.as_fd()).chain(descriptors.iter().copied());
        let mut started = adjust(Launch::new(&steps).descriptors(descriptors)).start().expect("a stage");
        drop(writer);
        if let Err(failure) = started.control.running() {
            panic!("cannot {}: {}", steps[failure.step as usize], failure.errno);
        }
        let mut output = String::new();
        reader.read_to_string(&mut output).expect("output");
        (sys::wait(&started.pidfd).expect("an end").code, output)
    }

    /// Runs `true` and waits for its end.
    pub fn quick(&self) {
        let steps = [self.exec(&["true"])];
        let mut started = Launch::new(&steps).start().expect("a stage");
        started.control.running().expect("it runs");
        assert_eq!(sys::wait(&started.pidfd).expect("an end").code, Some(0));
    }
}

/// How often to try what is to be interrupted by other threads: less where there is one processor, on which they take turns in
/// long time slices.
pub fn rounds(many: usize) -> usize {
    let single = std::thread::available_parallelism().is_ok_and(|processors| processors.get() == 1);
    if single { many / 10 } else { many }
}

/// Calls `work` on a thread, and aborts if it takes longer than half a minute: what hangs may hold a lock that a panic needs.
pub fn in_time<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(work()));
    wait.recv_timeout(Duration::from_secs(30)).unwrap_or_else(|error| {
        std::io::Write::write_all(&mut std::io::stderr(), format!("{what}: {error}\n").as_bytes()).expect("told");
        std::process::abort()
    })
}

/// Waits until `condition` holds, for at most ten seconds.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{what} takes too long");
        std::thread::sleep(Duration::from_millis(1));
    }
}
