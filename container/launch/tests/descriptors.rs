//! The program has the descriptors 0, 1, 2 and those it was given, and no others.

mod common;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Probe, rounds};
use keelbox_launch::{Errno, Launch, OwnedStep, Slot, Step, list, sys};
use keelbox_testkit::alone;

fn numbers(output: &str) -> Vec<&str> {
    output.lines().filter_map(|line| line.split(' ').next()).collect()
}

fn target(output: &str, number: i32) -> Option<&str> {
    output.lines().find_map(|line| line.strip_prefix(&format!("{number} ")))
}

/// `tag-0`, `tag-1`, … in a directory, open.
fn files(directory: &std::path::Path, count: usize) -> Vec<File> {
    (0..count).map(|number| File::create_new(directory.join(format!("tag-{number}"))).expect("a file")).collect()
}

fn descriptor(slot: usize, number: u32) -> OwnedStep {
    Step::Descriptor { slot: Slot(slot as u16), number }
}

#[test]
fn a_thread_that_opens_all_the_time_gives_nothing_away() {
    use nix::fcntl::{OFlag, open};
    let (probe, stop) = (Probe::new(), AtomicBool::new(false));
    let given = files(probe.root(), 2);
    let given: Vec<BorrowedFd<'_>> = given.iter().map(AsFd::as_fd).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Without O_CLOEXEC, as careless code and hostile hosts do (A2.01, CVE-2024-21626).
            let mut held: Vec<OwnedFd> = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                held.push(open("/", OFlag::O_DIRECTORY, nix::sys::stat::Mode::empty()).expect("opened"));
                if held.len() > 200 {
                    held.drain(..150);
                }
            }
        });
        let steps = [descriptor(1, 3), descriptor(2, 7)];
        let outcome = std::panic::catch_unwind(|| {
            for round in 0..rounds(200) {
                let (code, output) = probe.run(&steps, &given, &["fds"]);
                assert_eq!(code, Some(0));
                assert_eq!(numbers(&output), ["0", "1", "2", "3", "7"], "round {round}: {output}");
                assert!(target(&output, 3).is_some_and(|path| path.ends_with("tag-0")), "{output}");
                assert!(target(&output, 7).is_some_and(|path| path.ends_with("tag-1")), "{output}");
            }
        });
        stop.store(true, Ordering::Relaxed);
        outcome.expect("only what was given");
    });
}

#[test]
fn a_host_with_closed_streams_launches_like_any_other() {
    alone!();
    let probe = Probe::new();
    let given = files(probe.root(), 1);
    let kept = [0, 1, 2].map(|number| {
        // SAFETY: the streams are open, and closed only after this copy of each is made.
        let stream = unsafe { BorrowedFd::borrow_raw(number) };
        stream.try_clone_to_owned().expect("a copy")
    });
    for number in 0..3 {
        nix::unistd::close(number).expect("closed");
    }
    let outcome = std::panic::catch_unwind(|| {
        probe.quick();
        probe.run(&[descriptor(1, 3)], &[given[0].as_fd()], &["fds"])
    });
    nix::unistd::dup2_stdin(&kept[0]).expect("given back");
    nix::unistd::dup2_stdout(&kept[1]).expect("given back");
    nix::unistd::dup2_stderr(&kept[2]).expect("given back");
    let (code, output) = outcome.expect("it ran");
    assert_eq!(code, Some(0));
    assert_eq!(numbers(&output), ["0", "1", "2", "3"], "{output}");
    assert_eq!(target(&output, 0), Some("/dev/null"), "{output}");
    assert_eq!(target(&output, 2), Some("/dev/null"), "{output}");
    assert!(target(&output, 1).is_some_and(|target| target.starts_with("pipe:")), "{output}");
    assert!(target(&output, 3).is_some_and(|target| target.ends_with("tag-0")), "{output}");
}

#[test]
fn numbers_may_be_exchanged_in_every_way() {
    let probe = Probe::new();
    let given = files(probe.root(), 10);
    let given: Vec<BorrowedFd<'_>> = given.iter().map(AsFd::as_fd).collect();
    // Targets that are numbers which the stage itself gets for what it receives: 3, 4, 5, …
    let orders: [fn(usize) -> usize; 4] = [|n| n, |n| 9 - n, |n| (n + 1) % 10, |n| n * 7 % 10];
    for order in orders {
        let steps: Vec<_> = (0..10).map(|slot| descriptor(slot + 1, 3 + order(slot) as u32)).collect();
        let (code, output) = probe.run(&steps, &given, &["fds"]);
        assert_eq!((code, numbers(&output).len()), (Some(0), 13), "{output}");
        for slot in 0..10 {
            let path = target(&output, 3 + order(slot) as i32).expect("it is there");
            assert!(path.ends_with(&format!("tag-{slot}")), "{output}");
        }
    }
}

#[test]
fn one_descriptor_may_have_many_numbers() {
    let probe = Probe::new();
    let given = files(probe.root(), 1);
    let steps: Vec<_> = [0, 2, 3, 4, 100].map(|number| descriptor(1, number)).to_vec();
    let (_, output) = probe.run(&steps, &[given[0].as_fd()], &["fds"]);
    assert_eq!(numbers(&output), ["0", "1", "2", "3", "4", "100"]);
    for number in [0, 2, 3, 4, 100] {
        assert!(target(&output, number).is_some_and(|path| path.ends_with("tag-0")), "{output}");
    }
}

/// Whatever number the line to the host has, a descriptor of that number does not cut it.
#[test]
fn no_number_cuts_the_line_to_the_host() {
    let probe = Probe::new();
    let given = files(probe.root(), 1);
    for number in 3..80 {
        let nowhere = Step::Exec { paths: list(["/nothing"]), arguments: list(["x"]), environment: vec![] };
        let steps = [descriptor(0, number), nowhere];
        let mut started = Launch::new(&steps).descriptors([given[0].as_fd()]).start().expect("a stage");
        let failure = started.control.running().expect_err("there is no such program");
        assert_eq!((failure.step, failure.errno), (1, Errno::ENOENT), "number {number}");
        sys::wait(&started.pidfd).expect("an end");
    }
}

#[test]
fn a_number_beyond_the_limit_is_an_error_of_its_step() {
    let probe = Probe::new();
    let given = files(probe.root(), 1);
    let steps = [Step::ResourceLimit { resource: 7, soft: 64, hard: 64 }, descriptor(0, 64), probe.exec(&["true"])];
    let mut started = Launch::new(&steps).descriptors([given[0].as_fd()]).start().expect("a stage");
    let failure = started.control.running().expect_err("64 is one too many");
    assert_eq!((failure.step, failure.errno), (1, Errno::EBADF));
    sys::wait(&started.pidfd).expect("an end");
}

#[test]
fn the_hosts_program_file_cannot_be_reached() -> keelbox_testkit::Result {
    use keelbox_launch::{Event, Wait};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let identity = |path: &str| std::fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
    let own = identity("/proc/self/exe")?;
    let probe = Probe::new();
    let script = probe.root().join("script");
    std::fs::write(&script, "#!/proc/self/exe 9\n")?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    for path in ["/proc/self/exe", "/proc/thread-self/exe", script.to_str().ok_or("not text")?] {
        for arguments in [&["x"][..], &["x", "9"], &["x", "3"], &["keelbox", "1"], &["x", "-1"], &["x", "99999999999"]]
        {
            let exec = Step::Exec { paths: list([path]), arguments: list(arguments), environment: vec![] };
            let steps = [Step::Wait { what: Wait::Start, listener: Slot::NONE }, exec];
            let mut started = Launch::new(&steps).start()?;
            assert!(matches!(started.control.event(None)?, Event::Waiting(Wait::Start)));
            let exe = format!("/proc/{}/exe", started.pid);
            assert_ne!(identity(&exe)?, own, "the stage is not the host's program");
            assert!(std::fs::read_link(&exe)?.to_string_lossy().contains("keelbox-stage"));
            // Sealed, and in use: nobody writes to it (CVE-2019-5736).
            assert!(File::options().write(true).open(&exe).is_err());
            started.control.proceed(&[], &[], 3)?;
            started.control.running()?;
            // What is executed is the stage, which refuses to work for anybody but its host.
            assert_eq!(sys::wait(&started.pidfd)?.code, Some(127), "{path} {arguments:?}");
        }
    }
    assert_eq!(identity("/proc/self/exe")?, own);
    assert_eq!(std::fs::read(&script)?, b"#!/proc/self/exe 9\n");
    Ok(())
}
