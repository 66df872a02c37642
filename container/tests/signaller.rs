//! Signals from other threads while one waits: they arrive, end what they should, and never reach anything else.

use std::io::{BufRead, BufReader};
use std::thread;
use std::time::Duration;

use keelbox::{Container, ErrorKind, Kind, Process, Reason, Signal, Signaller, Stdio};
use keelbox_testkit::{self as testkit, LeakCheck, alone, require};

const SLEEP: [&str; 3] = ["/probe", "sleep", "60000"];

fn stubborn(container: Container) -> testkit::Result<Process> {
    let mut process = container.args(["/probe", "stubborn", "60000"]).stdout(Stdio::piped()).spawn()?;
    let mut ready = String::new();
    BufReader::new(process.stdout.take().ok_or("no output")?).read_line(&mut ready)?;
    assert_eq!(ready, "ready\n");
    Ok(process)
}

#[test]
fn it_can_go_to_any_thread() {
    fn check<T: Send + Sync + Clone + 'static>() {}
    check::<Signaller>();
}

#[test]
fn another_thread_ends_what_one_waits_for() -> testkit::Result {
    require!(Root);
    alone!();
    let root = testkit::probe_root()?;
    let container = || Container::from_rootfs(root.path()).stderr(Stdio::null());
    assert!(container().args(["/probe", "true"]).status()?.success());
    let leaks = LeakCheck::begin();
    for kill in [false, true] {
        let mut process = stubborn(container())?;
        let signaller = process.signaller()?;
        let others: Vec<_> = (0..4)
            .map(|_| {
                let signaller = signaller.clone();
                thread::spawn(move || {
                    // The program ignores this one, so it goes on.
                    signaller.signal(Signal::TERM).expect("it runs");
                    thread::sleep(Duration::from_millis(30));
                    if kill { signaller.kill() } else { signaller.signal(Signal::KILL) }
                })
            })
            .collect();
        assert_eq!(process.wait()?.reason(), Reason::Signaled(Signal::KILL));
        for other in others {
            // Whoever comes late is told so by `signal`; to kill what has ended is no error.
            match other.join().expect("it does not panic") {
                Err(error) if !kill && error.kind() == ErrorKind::State => {}
                done => done?,
            }
        }
        assert_eq!(signaller.signal(Signal::TERM).expect_err("it has ended").kind(), ErrorKind::State);
        signaller.kill()?;
        drop(process);
        assert_eq!(signaller.signal(Signal::TERM).expect_err("it is gone").kind(), ErrorKind::State);
    }
    leaks.check();
    Ok(())
}

/// Without a pid namespace the end of the first process is not that of the others: the group is killed.
#[test]
fn every_process_of_a_container_in_the_hosts_pid_namespace_is_killed() -> testkit::Result {
    require!(Root, Cgroup("pids"));
    alone!();
    let root = testkit::probe_root()?;
    let container = || Container::from_rootfs(root.path()).share(Kind::Pid).pids(16).stderr(Stdio::null());
    let mut process = stubborn(container())?;
    let mut further = process.exec(SLEEP).stdout(Stdio::null()).spawn()?;
    let signaller = process.signaller()?;
    let other = thread::spawn(move || signaller.kill());
    assert_eq!(process.wait()?.reason(), Reason::Signaled(Signal::KILL));
    other.join().expect("it does not panic")?;
    assert_eq!(further.wait()?.reason(), Reason::Signaled(Signal::KILL));
    Ok(())
}

/// A further program is killed alone.
#[test]
fn the_signaller_of_a_further_program_is_about_that_one() -> testkit::Result {
    require!(Root);
    let root = testkit::probe_root()?;
    let mut process = Container::from_rootfs(root.path()).args(SLEEP).stdout(Stdio::null()).spawn()?;
    let mut further = process.exec(SLEEP).stdout(Stdio::null()).spawn()?;
    let signaller = further.signaller()?;
    thread::spawn(move || signaller.kill()).join().expect("it does not panic")?;
    assert_eq!(further.wait()?.reason(), Reason::Signaled(Signal::KILL));
    assert!(process.try_wait()?.is_none(), "the container goes on");
    assert_eq!(process.stop(Duration::from_millis(10))?.reason(), Reason::Signaled(Signal::KILL));
    Ok(())
}
