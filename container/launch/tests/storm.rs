//! Many launches at once, signals all the time, kernels that refuse, cgroups that stand still.

mod common;

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{Probe, in_time, until};
use keelbox_launch::{Event, Launch, Seat, Slot, Step, Wait, sys};
use keelbox_testkit::{LeakCheck, Result, alone, require};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal};

#[test]
fn sixty_four_threads_launch_twenty_times_each() {
    alone!();
    let probe = Probe::new();
    probe.quick();
    let leaks = LeakCheck::begin();
    std::thread::scope(|scope| {
        for thread in 0..64 {
            let probe = &probe;
            scope.spawn(move || {
                for round in 0..20 {
                    let code = (thread * 20 + round) % 120;
                    let steps = [Step::Dies { signal: 9 }, probe.exec(&["exit", &code.to_string()])];
                    let mut started = Launch::new(&steps).start().expect("a stage");
                    started.control.running().expect("it runs");
                    assert_eq!(sys::wait(&started.pidfd).expect("an end").code, Some(code));
                }
            });
        }
    });
    leaks.check();
}

static SIGNALS: AtomicU64 = AtomicU64::new(0);

extern "C" fn count(_: i32) {
    SIGNALS.fetch_add(1, Ordering::Relaxed);
}

#[test]
fn signals_all_the_time_disturb_nothing() {
    alone!();
    let storm = [Signal::SIGALRM, Signal::SIGUSR1];
    for signal in storm {
        // Without SA_RESTART every call that waits is interrupted.
        let action = SigAction::new(SigHandler::Handler(count), SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler adds to a counter, and nothing else.
        unsafe { nix::sys::signal::sigaction(signal, &action) }.expect("a handler");
    }
    let (probe, stop) = (Probe::new(), AtomicBool::new(false));
    let target = nix::sys::pthread::pthread_self();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for signal in storm {
                    // The thread that launches, and any other one.
                    nix::sys::pthread::pthread_kill(target, signal).expect("sent");
                    nix::sys::signal::kill(nix::unistd::getpid(), signal).expect("sent");
                }
                std::thread::sleep(Duration::from_micros(50));
            }
        });
        let launches = std::panic::catch_unwind(|| {
            let begun = (Instant::now(), SIGNALS.load(Ordering::Relaxed));
            for _ in 0..100 {
                let wait = Step::Wait { what: Wait::Start, listener: Slot::NONE };
                let steps = [wait, Step::Signals {}, probe.exec(&["sleep", "2"])];
                let mut started = Launch::new(&steps).start().expect("a stage");
                let event = started.control.event(Some(Duration::from_secs(10))).expect("an event");
                assert!(matches!(event, Event::Waiting(Wait::Start)));
                started.control.proceed(&[], &[], 3).expect("it goes on");
                started.control.running().expect("it runs");
                assert_eq!(sys::wait(&started.pidfd).expect("an end").code, Some(0));
                let seat = Seat::take(vec![]).expect("a seat");
                let steps = [probe.exec(&["true"])];
                let mut started = Launch::new(&steps).seat(Some(seat)).start().expect("a stage");
                started.control.running().expect("it runs");
                assert_eq!(sys::wait(&started.pidfd).expect("an end").code, Some(0));
            }
            (SIGNALS.load(Ordering::Relaxed) - begun.1) as f64 / begun.0.elapsed().as_secs_f64()
        });
        stop.store(true, Ordering::Relaxed);
        let rate = launches.expect("nothing was disturbed");
        assert!(rate > 1_000.0, "only {rate} signals a second: no storm");
    });
}

/// `clone(2)` takes the place of `clone3(2)`, and everything is as before.
#[test]
fn without_clone3_the_program_is_the_same() {
    require!(Root, NetNamespace);
    const NAMESPACES: u64 = 0x2000_0000 | 0x0002_0000 | 0x0400_0000 | 0x0800_0000 | 0x4000_0000 | 0x0200_0000;
    let probe = Probe::new();
    let steps = [Step::Dies { signal: 9 }, Step::Hostname { name: keelbox_launch::text("box") }];
    for arguments in [&["pid"][..], &["hostname"], &["id"], &["fds"], &["caps"], &["signals"], &["session"]] {
        let normal = probe.run_by(|launch| launch.namespaces(NAMESPACES), &steps, &[], arguments);
        let without = probe.run_by(|launch| launch.namespaces(NAMESPACES).without_clone3(), &steps, &[], arguments);
        let general = |(code, output): (Option<i32>, String)| {
            // The number of a pipe is another one each time.
            (code, output.lines().map(|line| line.split("pipe:").next().map(str::to_owned)).collect::<Vec<_>>())
        };
        assert_eq!(general(without), general(normal), "{arguments:?}");
    }
    let (_, pid) = probe.run_by(|launch| launch.namespaces(NAMESPACES).without_clone3(), &steps, &[], &["pid"]);
    assert_eq!(pid, "1\n");
    // A cgroup and a time namespace need clone3.
    let quick = [probe.exec(&["true"])];
    let refused = Launch::new(&quick).namespaces(0x80).without_clone3().start().expect_err("clone has no such flag");
    assert_eq!(refused.raw_os_error(), Some(38));
}

/// A cgroup of version 2 that goes with the value.
struct Group(PathBuf);

impl Group {
    fn new(name: &str) -> Self {
        let mounts = std::fs::read_to_string("/proc/self/mounts").expect("procfs");
        let root = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|words| words[2] == "cgroup2");
        let path =
            PathBuf::from(root.expect("a hierarchy")[1]).join(format!("keelbox-launch-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).expect("a cgroup");
        Self(path)
    }

    fn freeze(&self, yes: bool) {
        std::fs::write(self.0.join("cgroup.freeze"), if yes { "1" } else { "0" }).expect("written");
    }

    fn processes(&self) -> String {
        std::fs::read_to_string(self.0.join("cgroup.procs")).expect("a list")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.freeze(false);
        until("the cgroup", || std::fs::remove_dir(&self.0).is_ok());
    }
}

#[test]
fn the_program_is_born_in_its_cgroup() -> Result {
    require!(Root, Unified);
    let (probe, group) = (Probe::new(), Group::new("born"));
    let directory = std::fs::File::open(&group.0)?;
    let steps = [probe.exec(&["sleep", "60000"])];
    let mut started = Launch::new(&steps).cgroup(Some(directory.as_fd())).start()?;
    started.control.running()?;
    assert_eq!(group.processes().trim(), started.pid.to_string());
    sys::send_signal(started.pidfd.as_fd(), 9)?;
    sys::wait(&started.pidfd)?;
    Ok(())
}

/// Since Linux 6.14 what is born in a cgroup that was killed more often than the caller's is killed with it: others have to move there.
#[test]
fn a_cgroup_that_was_killed_once_takes_programs() -> Result {
    require!(Root, Unified);
    alone!();
    let (probe, group) = (Probe::new(), Group::new("killed"));
    probe.quick();
    if std::fs::write(group.0.join("cgroup.kill"), "1").is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    {
        eprintln!("skipped: no cgroup.kill (Linux 5.14)");
        return Ok(());
    }
    let directory = std::fs::File::open(&group.0)?;
    let sleep = probe.exec(&["sleep", "60000"]);
    let leaks = LeakCheck::begin();
    let mut started = Launch::new(std::slice::from_ref(&sleep)).cgroup(Some(directory.as_fd())).start()?;
    started.control.running()?;
    assert_eq!(group.processes().trim(), started.pid.to_string());
    sys::send_signal(started.pidfd.as_fd(), 9)?;
    sys::wait(&started.pidfd)?;
    drop(started);

    let steps = [Step::Fork { flags: 0, cgroup: Slot(0) }, sleep];
    let mut started = Launch::new(&steps).descriptors(vec![directory.as_fd()]).start()?;
    let Event::Forked { pidfd, pid } = started.control.event(None)? else { panic!("no fork") };
    assert!(matches!(started.control.event(None)?, Event::Running));
    assert_eq!(group.processes().trim(), pid.to_string());
    sys::wait(&started.pidfd)?;
    sys::send_signal(pidfd.as_fd(), 9)?;
    sys::wait(&pidfd)?;
    drop((started, pidfd));
    // The children that were killed at their birth are reaped.
    leaks.check();
    Ok(())
}

/// What is born in a frozen cgroup does not come to life, and holds the thread that cloned it.
#[test]
fn a_frozen_cgroup_stops_no_host() -> Result {
    require!(Root, Unified);
    alone!();
    let (probe, group) = (Probe::new(), Group::new("frozen"));
    probe.quick();
    let leaks = LeakCheck::begin();
    group.freeze(true);
    let directory = std::fs::File::open(&group.0)?;
    let path = probe.root().join("probe");
    in_time("launches into a frozen cgroup", move || {
        let exec = Step::Exec {
            paths: keelbox_launch::list([path]),
            arguments: keelbox_launch::list(["probe", "true"]),
            environment: vec![],
        };
        let steps = [exec];
        for seated in [false, true, false] {
            let begun = Instant::now();
            let seat = seated.then(|| Seat::take(vec![]).expect("a seat"));
            let launch = Launch::new(&steps).cgroup(Some(directory.as_fd())).patience(Duration::from_millis(150));
            let late = launch.seat(seat).start().expect_err("it is frozen");
            assert_eq!(late.raw_os_error(), Some(110));
            assert!(begun.elapsed() < Duration::from_secs(5));
        }
        // A launch that waits behind such a one is served when that has been given up, or gives up before.
        std::thread::scope(|scope| {
            let stuck = scope.spawn(|| {
                let launch = Launch::new(&steps).cgroup(Some(directory.as_fd()));
                launch.patience(Duration::from_millis(600)).start().expect_err("it is frozen").raw_os_error()
            });
            std::thread::sleep(Duration::from_millis(100));
            let hasty = Launch::new(&steps).patience(Duration::from_millis(50)).start();
            assert_eq!(hasty.expect_err("it cannot wait").raw_os_error(), Some(110));
            let mut patient = Launch::new(&steps).start().expect("a stage");
            patient.control.running().expect("it runs");
            assert_eq!(sys::wait(&patient.pidfd).expect("an end").code, Some(0));
            assert_eq!(stuck.join().expect("an answer"), Some(110));
        });
    });
    assert_eq!(group.processes(), "");
    // Nothing that was given up is left as a zombie or a descriptor; the thread of `in_time` has ended too.
    drop(group);
    leaks.check();
    Ok(())
}
