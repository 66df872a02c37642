//! What the host and the stage say to each other, and how much.

mod common;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use common::Probe;
use keelbox_launch::{Control, Errno, Event, Failure, Launch, OwnedStep, Slot, Step, Wait, list, sys, text};
use keelbox_testkit::{Result, require};

fn wait(what: Wait) -> OwnedStep {
    Step::Wait { what, listener: Slot::NONE }
}

fn fork() -> OwnedStep {
    Step::Fork { flags: 0, cgroup: Slot::NONE }
}

fn fails() -> OwnedStep {
    Step::Open { path: text("/nothing"), out: Slot(9) }
}

/// The forked process may be faster than the one that tells of it: the host hears of it first nevertheless.
#[test]
fn a_fork_is_told_before_what_the_forked_process_says() -> Result {
    let steps = [Step::Tell { what: 1 }, fork(), Step::Tell { what: 2 }, fork(), Step::Tell { what: 3 }, fails()];
    for _ in 0..200 {
        let mut started = Launch::new(&steps).start()?;
        assert!(matches!(started.control.event(None)?, Event::Told(1)));
        let Event::Forked { pidfd: first, pid } = started.control.event(None)? else { panic!("no fork") };
        assert!(pid > 1);
        assert!(matches!(started.control.event(None)?, Event::Told(2)));
        let Event::Forked { pidfd: second, .. } = started.control.event(None)? else { panic!("no fork") };
        assert!(matches!(started.control.event(None)?, Event::Told(3)));
        let Event::Failed(failure) = started.control.event(None)? else { panic!("no failure") };
        assert_eq!((failure.step, failure.errno), (5, Errno::ENOENT));
        assert!(matches!(started.control.event(None)?, Event::Running));
        assert!(matches!(started.control.event(None)?, Event::Running), "the line stays closed");
        // All three are children of the host, whoever cloned them.
        let codes = [started.pidfd, first, second].map(|pidfd| sys::wait(&pidfd).map(|exit| exit.code));
        assert_eq!(codes, [Ok(Some(0)), Ok(Some(0)), Ok(Some(127))]);
    }
    Ok(())
}

#[test]
fn a_forked_process_takes_more_steps() -> Result {
    let probe = Probe::new();
    let mut started = Launch::new(&[fork(), wait(Wait::Start)]).start()?;
    let Event::Forked { pidfd, .. } = started.control.event(None)? else { panic!("no fork") };
    assert!(matches!(started.control.event(None)?, Event::Waiting(Wait::Start)));
    started.control.proceed(&[probe.exec(&["exit", "5"])], &[], 3)?;
    started.control.running()?;
    assert_eq!(sys::wait(&pidfd)?.code, Some(5));
    assert_eq!(sys::wait(&started.pidfd)?.code, Some(0));
    Ok(())
}

#[test]
fn steps_and_descriptors_that_come_later_go_on_counting() -> Result {
    let probe = Probe::new();
    let files: Vec<File> = ["a", "b", "c"]
        .map(|name| File::create_new(probe.root().join(name)))
        .into_iter()
        .collect::<std::io::Result<_>>()?;
    let steps = [wait(Wait::Maps), wait(Wait::Start)];
    let mut started = Launch::new(&steps).descriptors([files[0].as_fd()]).start()?;
    assert!(matches!(started.control.event(None)?, Event::Waiting(Wait::Maps)));
    assert_eq!(started.control.proceed(&[], &[files[1].as_fd()], 3)?, 1);
    assert!(matches!(started.control.event(None)?, Event::Waiting(Wait::Start)));
    let write = |slot, text: &str| Step::WriteTo { file: Slot(slot), data: text.as_bytes().to_vec() };
    let more = [write(0, "first"), write(1, "second"), write(2, "third"), fails()];
    assert_eq!(started.control.proceed(&more, &[files[2].as_fd()], 3)?, 2);
    let failure = started.control.running().expect_err("the last one fails");
    assert_eq!((failure.step, failure.errno), (5, Errno::ENOENT));
    sys::wait(&started.pidfd)?;
    for (name, content) in [("a", "first"), ("b", "second"), ("c", "third")] {
        assert_eq!(std::fs::read_to_string(probe.root().join(name))?, content);
    }
    Ok(())
}

#[test]
fn steps_that_come_over_a_connection() -> Result {
    let probe = Probe::new();
    let path = probe.root().join("socket");
    let listener = seqpacket::listen(&path)?;
    let steps = [Step::Wait { what: Wait::Connection, listener: Slot(0) }, probe.exec(&["exit", "6"])];
    let mut started = Launch::new(&steps).descriptors([listener.as_fd()]).start()?;
    drop(listener);
    assert!(matches!(started.control.event(None)?, Event::Waiting(Wait::Connection)));
    let mut control = Control::over(seqpacket::connect(&path)?, steps.len() as u32, 1);
    // The first line is closed, and nothing more comes over it.
    control.proceed(&[Step::Umask { mask: 0o077 }], &[], 3)?;
    control.running()?;
    assert!(matches!(started.control.event(None)?, Event::Running));
    assert_eq!(sys::wait(&started.pidfd)?.code, Some(6));
    Ok(())
}

mod seqpacket {
    //! Sockets that keep messages whole, which std has not.

    use std::os::fd::{AsRawFd, OwnedFd};
    use std::path::Path;

    use nix::sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect as reach, listen as await_calls, socket,
    };

    fn open() -> nix::Result<OwnedFd> {
        socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)
    }

    pub fn listen(path: &Path) -> nix::Result<OwnedFd> {
        let socket = open()?;
        bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
        await_calls(&socket, Backlog::new(1)?)?;
        Ok(socket)
    }

    pub fn connect(path: &Path) -> nix::Result<OwnedFd> {
        let socket = open()?;
        reach(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
        Ok(socket)
    }
}

#[test]
fn a_stage_that_is_killed_or_stopped_is_noticed() -> Result {
    let mut started = Launch::new(&[wait(Wait::Start)]).start()?;
    assert!(matches!(started.control.event(None)?, Event::Waiting(Wait::Start)));
    let begun = Instant::now();
    let late = started.control.event(Some(Duration::from_millis(50))).expect_err("it says nothing");
    assert_eq!(late.raw_os_error(), Some(110));
    assert!(begun.elapsed() >= Duration::from_millis(50));
    sys::send_signal(started.pidfd.as_fd(), 19)?;
    started.control.proceed(&[Step::Tell { what: 4 }], &[], 3)?;
    let late = started.control.event(Some(Duration::from_millis(50))).expect_err("it is stopped");
    assert_eq!(late.raw_os_error(), Some(110));
    sys::send_signal(started.pidfd.as_fd(), 18)?;
    assert!(matches!(started.control.event(Some(Duration::from_secs(10)))?, Event::Told(4)));
    sys::wait(&started.pidfd)?;

    let mut started = Launch::new(&[wait(Wait::Start)]).start()?;
    sys::send_signal(started.pidfd.as_fd(), 9)?;
    assert_eq!(sys::wait(&started.pidfd)?.signal, Some(9));
    // It may have said that it waits, or not; then the line is closed.
    while !matches!(started.control.event(Some(Duration::from_secs(10)))?, Event::Running) {}
    let refused = started.control.proceed(&[], &[], 3).expect_err("nobody is there");
    assert_eq!(refused.raw_os_error(), Some(32));
    Ok(())
}

#[test]
fn a_script_that_waits_is_not_running() -> Result {
    let mut started = Launch::new(&[wait(Wait::Start)]).start()?;
    assert_eq!(started.control.running(), Err(Failure { step: 0, errno: Errno::EPROTO }));
    drop(started.control);
    // A stage whose host has gone ends.
    assert_eq!(sys::wait(&started.pidfd)?.code, Some(127));
    Ok(())
}

#[test]
fn a_script_of_any_length_arrives() -> Result {
    let probe = Probe::new();
    let path = probe.root().join("long");
    for length in [0, 1, 60_000, 65_000, 66_000, 200_000, 300_000, 3_000_000] {
        let content: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
        let steps = [Step::File { path: text(&path), mode: 0o600, content: content.clone() }, probe.exec(&["true"])];
        let mut started = Launch::new(&steps).start()?;
        started.control.running()?;
        assert_eq!(sys::wait(&started.pidfd)?.code, Some(0));
        assert!(std::fs::read(&path)? == content, "{length} bytes");
    }
    Ok(())
}

#[test]
fn many_long_scripts_fit_one_after_another() -> Result {
    let probe = Probe::new();
    let mut started = Launch::new(&[wait(Wait::Start)]).start()?;
    let content = vec![7; 65_000];
    for round in 0..20u32 {
        let waiting = started.control.event(Some(Duration::from_secs(10)))?;
        assert!(matches!(waiting, Event::Waiting(Wait::Start)), "round {round}: {waiting:?}");
        // The first seven as messages, for which the stage has room; the rest as files.
        let content = if round < 7 { content.clone() } else { vec![7; 70_000] };
        let path = text(probe.root().join(round.to_string()));
        started.control.proceed(&[Step::File { path, mode: 0o600, content }, wait(Wait::Start)], &[], 3)?;
    }
    assert!(matches!(started.control.event(Some(Duration::from_secs(10)))?, Event::Waiting(Wait::Start)));
    drop(started.control);
    assert_eq!(sys::wait(&started.pidfd)?.code, Some(127));
    assert_eq!(std::fs::read(probe.root().join("19"))?.len(), 70_000);
    Ok(())
}

/// Scripts for which the stage has no room left are refused as such.
#[test]
fn a_script_beyond_the_room_for_it_is_refused() -> Result {
    let mut started = Launch::new(&[wait(Wait::Start)]).start()?;
    let keyring = Step::Affinity { mask: vec![255; 60_000] };
    for _ in 0..20 {
        match started.control.event(Some(Duration::from_secs(10)))? {
            Event::Waiting(_) => started.control.proceed(&[keyring.clone(), wait(Wait::Start)], &[], 3).map(|_| ())?,
            Event::Failed(failure) => {
                assert_eq!(failure.errno, Errno::E2BIG);
                sys::wait(&started.pidfd)?;
                return Ok(());
            }
            other => panic!("{other:?}"),
        }
    }
    panic!("it has room for more than a million bytes")
}

fn nulls(count: usize) -> Vec<File> {
    (0..count).map(|_| File::open("/dev/null").expect("a file")).collect()
}

#[test]
fn as_many_descriptors_as_one_message_carries() -> Result {
    let probe = Probe::new();
    let files = nulls(254);
    let borrowed: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
    for count in [200, 253] {
        let last = Step::Descriptor { slot: Slot(count as u16 - 1), number: 600 };
        let mut started =
            Launch::new(&[last, probe.exec(&["true"])]).descriptors(borrowed[..count].iter().copied()).start()?;
        started.control.running()?;
        assert_eq!(sys::wait(&started.pidfd)?.code, Some(0), "{count}");
    }
    let steps = [wait(Wait::Start)];
    let refused = Launch::new(&steps).descriptors(borrowed.iter().copied()).start().expect_err("too many");
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
    let long = [Step::Affinity { mask: vec![255; 100_000] }];
    let refused = Launch::new(&long).descriptors(borrowed[..253].iter().copied()).start().expect_err("one too many");
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
    let mut started = Launch::new(&steps).start()?;
    let refused = started.control.proceed(&[], &borrowed, 3).expect_err("too many");
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
    sys::send_signal(started.pidfd.as_fd(), 9)?;
    sys::wait(&started.pidfd)?;
    Ok(())
}

#[test]
fn two_hundred_descriptors_become_two_hundred_numbers() {
    let probe = Probe::new();
    let files = nulls(200);
    let borrowed: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
    let steps: Vec<OwnedStep> =
        (0..200).map(|slot| Step::Descriptor { slot: Slot(slot + 1), number: 202 - u32::from(slot) }).collect();
    let (code, output) = probe.run(&steps, &borrowed, &["fds"]);
    assert_eq!((code, output.lines().count()), (Some(0), 203));
}

#[test]
fn a_large_environment_and_long_arguments_arrive() -> Result {
    let probe = Probe::new();
    let variables: Vec<String> = (0..10_000).map(|number| format!("VARIABLE_{number}=value {number}")).collect();
    let long = "x".repeat(100_000);
    let run = |arguments: &[&str], environment: &[String]| {
        let exec = Step::Exec {
            paths: list([probe.root().join("probe")]),
            arguments: list(arguments),
            environment: list(environment),
        };
        output(&[Step::Descriptor { slot: Slot(0), number: 1 }, exec])
    };
    assert!(run(&["probe", "env"], &variables)? == variables.join("\n") + "\n");
    assert!(run(&["probe", "args", &long, "", "end"], &[])?.contains(&format!("{long}\n\nend\n")));
    let many: Vec<String> = (0..5_000).map(|number| number.to_string()).collect();
    let arguments: Vec<&str> = ["probe", "args"].into_iter().chain(many.iter().map(String::as_str)).collect();
    assert!(run(&arguments, &[])?.ends_with(&(many.join("\n") + "\n")));
    // Beyond what the kernel takes, it says so.
    let huge = "x".repeat(200_000);
    let steps = [Step::Exec { paths: list(["/bin/true"]), arguments: list(["true", &huge]), environment: vec![] }];
    let mut started = Launch::new(&steps).start()?;
    assert_eq!(started.control.running(), Err(Failure { step: 0, errno: Errno::E2BIG }));
    sys::wait(&started.pidfd)?;
    Ok(())
}

#[test]
fn an_argument_holds_every_byte_but_nul() -> Result {
    use std::os::unix::ffi::OsStrExt;
    let probe = Probe::new();
    let every: Vec<u8> = (1..=255).collect();
    let arguments = list([std::ffi::OsStr::new("probe"), "args".as_ref(), std::ffi::OsStr::from_bytes(&every)]);
    let exec = Step::Exec { paths: list([probe.root().join("probe")]), arguments, environment: vec![] };
    let (mut reader, writer) = std::io::pipe()?;
    let steps = [Step::Descriptor { slot: Slot(0), number: 1 }, exec];
    let mut started = Launch::new(&steps).descriptors([writer.as_fd()]).start()?;
    drop(writer);
    started.control.running()?;
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut reader, &mut bytes)?;
    assert!(bytes.windows(every.len()).any(|window| window == every));
    sys::wait(&started.pidfd)?;
    Ok(())
}

fn output(steps: &[OwnedStep]) -> Result<String> {
    let (mut reader, writer) = std::io::pipe()?;
    let mut started = Launch::new(steps).descriptors([writer.as_fd()]).start()?;
    drop(writer);
    started.control.running()?;
    let mut output = String::new();
    std::io::Read::read_to_string(&mut reader, &mut output)?;
    sys::wait(&started.pidfd)?;
    Ok(output)
}

/// A terminal of a devpts of its own, whose master comes to the host.
#[test]
fn a_terminal_comes_to_the_host() -> Result {
    require!(Root, MountNamespace);
    let probe = Probe::new();
    let steps = terminal_steps(&probe);
    let mut started = Launch::new(&steps).namespaces(0x2_0000).start()?;
    let master: OwnedFd = loop {
        match started.control.event(None)? {
            Event::Descriptor { descriptor, .. } => break descriptor,
            Event::Failed(failure) => panic!("cannot {}: {}", steps[failure.step as usize], failure.errno),
            _ => {}
        }
    };
    started.control.running()?;
    let mut master = File::from(master);
    let mut bytes = [0; 64];
    let length = std::io::Read::read(&mut master, &mut bytes)?;
    assert_eq!(String::from_utf8_lossy(&bytes[..length]).trim_end(), "30 90");
    assert_eq!(sys::wait(&started.pidfd)?.code, Some(0));
    Ok(())
}

fn terminal_steps(probe: &Probe) -> Vec<OwnedStep> {
    let mount = Step::Mount {
        kind: text("devpts"),
        source: text("devpts"),
        target: text("/dev/pts"),
        flags: 10,
        data: text("newinstance,ptmxmode=0666"),
        create: keelbox_launch::Create::Nothing,
    };
    vec![
        Step::Propagation { path: text("/"), flags: 0x4000 | 1 << 18 },
        mount,
        Step::Session {},
        Step::Terminal { console: 0, rows: 30, columns: 90, user: 0 },
        probe.exec(&["tty"]),
    ]
}

/// The types by which std keeps sockets are as good as pairs of the crate's own.
#[test]
fn a_stream_is_no_line() -> Result {
    let (left, right) = UnixStream::pair()?;
    drop(right);
    let mut control = Control::over(left.into(), 0, 0);
    assert!(matches!(control.event(None)?, Event::Running));
    let listener: OwnedFd = UnixListener::bind(tempfile::tempdir()?.path().join("socket"))?.into();
    assert!(Control::over(listener, 0, 0).event(None).is_err());
    Ok(())
}
