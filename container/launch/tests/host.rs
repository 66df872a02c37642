//! The host program is the same after a launch, and while it goes on.

mod common;

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Probe, in_time, rounds};
use keelbox_launch::{Errno, Launch, MapFile, OwnedStep, Seat, Step, sys, text};
use keelbox_testkit::{LeakCheck, Result, alone, require};

const NEWUSER: u64 = 0x1000_0000;
const NEWNS: u64 = 0x2_0000;

/// Steps that would change the host, were they performed in it.
fn intrusive() -> Vec<OwnedStep> {
    vec![
        Step::Conceal {},
        Step::Map { file: MapFile::Groups, text: text("deny") },
        Step::Map { file: MapFile::Users, text: text("0 0 1\n") },
        Step::Map { file: MapFile::GroupIds, text: text("0 0 1\n") },
        Step::Write {
            directory: keelbox_launch::Slot::NONE,
            path: text("/proc/self/oom_score_adj"),
            data: b"500".to_vec(),
        },
        Step::Enter { path: text("/proc") },
        Step::Umask { mask: 0o777 },
        Step::Session {},
        Step::ResourceLimit { resource: 7, soft: 64, hard: 64 },
        Step::Nice { value: 5 },
        Step::Ids { user: 0, group: 0 },
        Step::Capabilities { effective: 0, permitted: 0, inheritable: 0, ambient: 0 },
        Step::NoNewPrivileges {},
        Step::Umask { mask: 0o022 },
        Step::Dies { signal: 9 },
    ]
}

/// Allocates and frees in all sizes, makes text, and looks at the environment, until told to stop.
fn busy(stop: &AtomicBool) {
    let mut held: Vec<Vec<u8>> = Vec::new();
    let mut turn = 0usize;
    while !stop.load(Ordering::Relaxed) {
        turn = turn.wrapping_mul(31).wrapping_add(17);
        held.push(vec![turn as u8; turn % 100_000]);
        assert!(!format!("{turn}{:?}", std::env::var_os("PATH")).is_empty());
        if held.len() > 64 {
            held.drain(..48);
        }
    }
}

/// What of the host can be seen from it at any moment.
fn glimpse() -> (bool, String, std::path::PathBuf) {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let umask = status.lines().find(|line| line.starts_with("Umask:")).expect("a umask").to_owned();
    (nix::sys::prctl::get_dumpable().expect("a flag"), umask, std::env::current_dir().expect("a directory"))
}

#[test]
fn launches_beside_busy_threads_leave_the_host_as_it_was() -> Result {
    require!(Root, UserNamespace);
    alone!();
    let probe = Probe::new();
    probe.quick();
    let leaks = LeakCheck::begin();
    let before = glimpse();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| busy(&stop));
        }
        let sampler = scope.spawn(|| {
            let mut samples = 0;
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(glimpse(), before);
                samples += 1;
            }
            samples
        });
        for round in 0..rounds(500) {
            let (namespaces, steps) = if round % 2 == 0 { (0, vec![]) } else { (NEWUSER | NEWNS, intrusive()) };
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let outcome = probe.run_by(|launch| launch.namespaces(namespaces), &steps, &[], &["exit", "3"]);
                assert_eq!(outcome, (Some(3), String::new()));
            }));
            if outcome.is_err() {
                stop.store(true, Ordering::Relaxed);
            }
            outcome.expect("it ran");
        }
        stop.store(true, Ordering::Relaxed);
        assert!(sampler.join().expect("nothing changed in between") > 100);
    });
    assert_eq!(glimpse(), before);
    leaks.check();
    Ok(())
}

#[test]
fn the_steps_change_what_they_are_to_change_in_the_program() {
    require!(Root, UserNamespace);
    let probe = Probe::new();
    let run =
        |arguments: &[&str]| probe.run_by(|launch| launch.namespaces(NEWUSER | NEWNS), &intrusive(), &[], arguments).1;
    assert_eq!(run(&["cwd"]), "/proc\n");
    assert_eq!(run(&["umask"]), "0022\n");
    assert_eq!(run(&["cat", "/proc/self/oom_score_adj"]), "500\n");
    assert_eq!(run(&["status", "NoNewPrivs"]).trim(), "1");
    assert_eq!(run(&["status", "CapPrm"]).trim(), "0000000000000000");
}

#[test]
fn a_failed_launch_leaves_nothing_behind() {
    alone!();
    Probe::new().quick();
    let leaks = LeakCheck::begin();
    for _ in 0..20 {
        let steps = [Step::Open { path: text("/nothing/there"), out: keelbox_launch::Slot(0) }];
        let mut started = Launch::new(&steps).start().expect("a stage");
        let failure = started.control.running().expect_err("there is no such file");
        assert_eq!((failure.step, failure.errno), (0, Errno::ENOENT));
        assert_eq!(sys::wait(&started.pidfd).expect("an end").code, Some(127));
        // No kernel knows this flag.
        let refused = Launch::new(&steps).namespaces(1 << 60).start().expect_err("no such namespace");
        assert_eq!(refused.raw_os_error(), Some(22));
    }
    leaks.check();
}

#[test]
fn other_children_stay_the_hosts_own() -> Result {
    alone!();
    let probe = Probe::new();
    let mut other = Command::new(probe.root().join("probe")).args(["exit", "7"]).spawn()?;
    for _ in 0..20 {
        probe.quick();
    }
    assert_eq!(other.wait()?.code(), Some(7));
    Ok(())
}

/// A host that ignores SIGCHLD has no zombies; the program still has its own idea of the signal, and its end is still known.
#[test]
fn a_host_that_ignores_the_end_of_children_still_learns_of_it() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    alone!();
    let probe = Probe::new();
    for ignored in [Signal::SIGCHLD, Signal::SIGHUP, Signal::SIGPIPE, Signal::SIGINT] {
        // SAFETY: ignoring a signal runs no handler.
        unsafe { signal(ignored, SigHandler::SigIgn) }.expect("ignored");
    }
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let descriptor = Step::Descriptor { slot: keelbox_launch::Slot(0), number: 1 };
    let steps = [descriptor, Step::Signals {}, probe.exec(&["signals"])];
    let mut started = Launch::new(&steps).descriptors([std::os::fd::AsFd::as_fd(&writer)]).start().expect("a stage");
    drop(writer);
    started.control.running().expect("it runs");
    let mut output = String::new();
    std::io::Read::read_to_string(&mut reader, &mut output).expect("output");
    assert_eq!(output, "blocked 0000000000000000\nignored 0000000000000000\n");
    assert_eq!(sys::wait(&started.pidfd), Err(Errno::ECHILD));
    if let Some(status) = sys::remembered_status(std::os::fd::AsFd::as_fd(&started.pidfd)) {
        assert_eq!(status, 0);
    }
}

/// The C library makes every thread change its ids, by a signal that a thread must not block for ever.
#[test]
fn ids_of_the_host_can_be_set_while_the_launcher_waits() {
    require!(Root);
    alone!();
    Probe::new().quick();
    let seat = Seat::take(vec![]).expect("a seat");
    std::thread::sleep(Duration::from_millis(20));
    in_time("setgid", || nix::unistd::setgid(nix::unistd::getgid())).expect("set");
    seat.leave();
}
