//! Who outlives whom: the program, the thread that launched it, the host, and a host that has forked.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Probe, until};
use keelbox_launch::{Event, Launch, Seat, Slot, Started, Step, Wait, sys};
use keelbox_testkit::{Result, alone};

const DIES: keelbox_launch::OwnedStep = Step::Dies { signal: 9 };

fn kill(started: &Started) {
    sys::send_signal(started.pidfd.as_fd(), 9).expect("killed");
    assert_eq!(sys::wait(&started.pidfd).expect("an end").signal, Some(9));
}

#[test]
fn a_program_outlives_the_thread_that_launched_it() {
    let probe = Probe::new();
    let steps = [DIES, probe.exec(&["sleep", "60000"])];
    let launched: Vec<Started> = (0..20)
        .map(|_| {
            std::thread::scope(|scope| {
                let launch = || {
                    let mut started = Launch::new(&steps).start().expect("a stage");
                    started.control.running().expect("it runs");
                    started
                };
                scope.spawn(launch).join().expect("a launch")
            })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(200));
    for started in &launched {
        assert_eq!(sys::try_wait(&started.pidfd), Ok(None), "it still runs");
        kill(started);
    }
}

/// The thread of a seat ends at once. The kernel sends parent-death signals at its end, so that must be over by then.
#[test]
fn a_program_outlives_the_seat_that_it_was_launched_from() {
    let probe = Probe::new();
    let wait = Step::Wait { what: Wait::Parent, listener: Slot::NONE };
    let steps = [wait, DIES, probe.exec(&["sleep", "60000"])];
    for round in 0..200 {
        let seat = Seat::take(vec![]).expect("a seat");
        let mut started = Launch::new(&steps).seat(Some(seat)).start().expect("a stage");
        assert!(matches!(started.control.event(None).expect("an event"), Event::Waiting(Wait::Parent)));
        started.control.proceed(&[], &[], 3).expect("it goes on");
        started.control.running().expect("it runs");
        std::thread::sleep(Duration::from_millis(1));
        assert_eq!(sys::try_wait(&started.pidfd), Ok(None), "round {round}: it still runs");
        kill(&started);
    }
}

#[test]
fn a_seat_that_is_left_or_dropped_ends() {
    alone!();
    let threads = || std::fs::read_dir("/proc/self/task").expect("procfs").count();
    let before = threads();
    for _ in 0..300 {
        let seat = Seat::take(vec![]).expect("a seat");
        assert_eq!(threads(), before + 1);
        seat.leave();
        assert_eq!(threads(), before, "it has ended for good");
    }
    drop(Seat::take(vec![]).expect("a seat"));
    until("the end of a dropped seat", || threads() == before);
}

/// The launcher thread stays where it was started; a seat is where the thread is that takes it.
#[test]
fn a_seat_is_in_the_namespaces_of_the_thread_that_takes_it() -> Result {
    keelbox_testkit::require!(Root);
    const NEWUTS: u32 = 0x0400_0000;
    let probe = Probe::new();
    probe.quick();
    let elsewhere = || {
        let name = keelbox_launch::text("elsewhere");
        keelbox_launch::perform(&[Step::Unshare { kinds: NEWUTS }, Step::Hostname { name }])
            .expect("another namespace");
        let seat = Seat::take(vec![]).expect("a seat");
        let seated = probe.run_by(|launch| launch.seat(Some(seat)), &[], &[], &["hostname"]).1;
        (seated, probe.run(&[], &[], &["hostname"]).1)
    };
    let host = format!("{}\n", keelbox_testkit::host_name()?);
    let (seated, usual) = std::thread::scope(|scope| scope.spawn(elsewhere).join()).map_err(|_| "a panic")?;
    assert_eq!((seated.as_str(), usual), ("elsewhere\n", host));
    Ok(())
}

/// What it could not join is told when it is used.
#[test]
fn a_seat_without_its_cgroup_launches_nothing() {
    let nowhere = std::fs::File::open("/dev/null").expect("a file");
    let seat = Seat::take(vec![nowhere]).expect("a seat");
    let steps = [DIES];
    let refused = Launch::new(&steps).seat(Some(seat)).start().expect_err("nothing can be written there");
    assert_eq!(refused.raw_os_error(), Some(9));
}

/// Not a test by itself: the host that `the_end_of_the_host_is_the_end_of_the_program` kills.
#[test]
fn host_that_is_killed() {
    let Some(stage) = std::env::var_os("KEELBOX_TEST_HOST") else { return };
    let probe = Probe::new();
    let wait = Step::Wait { what: Wait::Start, listener: Slot::NONE };
    let steps = [DIES, wait, probe.exec(&["sleep", "60000"])];
    let mut started = Launch::new(&steps).start().expect("a stage");
    assert!(matches!(started.control.event(None).expect("an event"), Event::Waiting(Wait::Start)));
    if stage == "running" {
        started.control.proceed(&[], &[], 3).expect("it goes on");
        started.control.running().expect("it runs");
    }
    let mut output = std::io::stdout().lock();
    writeln!(output, "\npid {} root {}", started.pid, probe.root().display()).expect("told");
    output.flush().expect("told");
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn the_end_of_the_host_is_the_end_of_the_program() -> Result {
    for stage in ["waiting", "running"] {
        let mut host = Command::new(std::env::current_exe()?)
            .args(["--exact", "host_that_is_killed", "--nocapture"])
            .env("KEELBOX_TEST_HOST", stage)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let lines = BufReader::new(host.stdout.take().ok_or("no output")?).lines();
        let told =
            lines.map_while(std::result::Result::ok).find(|line| line.starts_with("pid ")).ok_or("nothing told")?;
        let words: Vec<&str> = told.split(' ').collect();
        let pidfd = sys::pidfd_open(words[1].parse()?)?;
        host.kill()?;
        host.wait()?;
        let state = || std::fs::read_to_string(format!("/proc/{}/stat", words[1])).unwrap_or_default();
        until("the end of the program", || {
            let zombie = state().rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'));
            zombie || sys::send_signal(pidfd.as_fd(), 0).is_err()
        });
        // The killed host could not tidy up.
        std::fs::remove_dir_all(words[3])?;
    }
    Ok(())
}

#[test]
fn a_forked_host_launches_again() {
    alone!();
    let probe = Probe::new();
    probe.quick();
    for _ in 0..5 {
        // SAFETY: this process runs this test alone; its other threads wait, and none of them holds a lock.
        let forked = unsafe { nix::unistd::fork() }.expect("forked");
        match forked {
            nix::unistd::ForkResult::Parent { child } => {
                let deadline = std::time::Instant::now() + Duration::from_secs(20);
                loop {
                    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
                    match waitpid(child, Some(WaitPidFlag::WNOHANG)).expect("a child") {
                        WaitStatus::StillAlive if std::time::Instant::now() < deadline => {
                            std::thread::sleep(Duration::from_millis(5));
                        }
                        WaitStatus::StillAlive => {
                            nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGKILL).expect("killed");
                            let _reaped = waitpid(child, None);
                            panic!("the forked host hangs");
                        }
                        status => {
                            assert_eq!(status, WaitStatus::Exited(child, 0));
                            break;
                        }
                    }
                }
            }
            nix::unistd::ForkResult::Child => {
                let launched = std::panic::catch_unwind(|| {
                    probe.quick();
                    probe.quick();
                });
                // SAFETY: ends this process without the exit handlers of the one it was forked from.
                unsafe { nix::libc::_exit(i32::from(launched.is_err())) }
            }
        }
        probe.quick();
    }
}
