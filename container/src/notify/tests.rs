//! Real programs under a real filter, launched by the real stage: what they see of each answer.

mod ends;

use std::fs;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use keelbox_launch::sys::notify::{Listener, Notification};
use keelbox_launch::sys::{self, Exit};
use keelbox_launch::{Errno, Event, Failure, Launch, Slot, Started, Step, list};
use keelbox_testkit::{self as testkit, require};

use super::supervisor::Work;
use super::{Answer, Call, OnExec, Supervision, Supervisor};
use crate::error::ErrorKind;
use crate::seccomp::SyscallTable;

const BUSYBOX: &str = "/bin/busybox";

fn number(name: &str) -> Option<u32> {
    SyscallTable::native().and_then(|table| table.number(name))
}

/// Classic BPF, written by hand: notify the calls of these names (where this architecture has them), allow the rest.
fn filter(names: &[&str]) -> Vec<u8> {
    const LOAD_NUMBER: [u8; 8] = [0x20, 0, 0, 0, 0, 0, 0, 0];
    let unless_equal_skip_one = |k: u32| [vec![0x15, 0, 0, 1], k.to_le_bytes().to_vec()].concat();
    let end = |k: u32| [vec![0x06, 0, 0, 0], k.to_le_bytes().to_vec()].concat();
    let numbers = names.iter().filter_map(|name| number(name));
    let each = numbers.flat_map(|number| [unless_equal_skip_one(number), end(0x7fc0_0000)].concat());
    LOAD_NUMBER.into_iter().chain(each).chain(end(0x7fff_0000)).collect()
}

/// A launched program whose listener nobody has taken yet.
struct Filtered {
    started: Started,
    listener: OwnedFd,
    input: PipeWriter,
    output: PipeReader,
}

impl Filtered {
    /// Launches `program` with `names` notified, up to the moment after the filter.
    fn launch(names: &[&str], program: &[&str], environment: &[String]) -> Self {
        let (stdin, input) = std::io::pipe().unwrap();
        let (output, stdout) = std::io::pipe().unwrap();
        let steps = [
            Step::NoNewPrivileges {},
            Step::Signals {},
            Step::Descriptor { slot: Slot(0), number: 0 },
            Step::Descriptor { slot: Slot(1), number: 1 },
            Step::Descriptor { slot: Slot(1), number: 2 },
            Step::Seccomp { flags: 8, filter: filter(names) },
            Step::Exec { paths: list(&program[..1]), arguments: list(program), environment: list(environment) },
        ];
        let launch = Launch::new(&steps).descriptors([stdin.as_fd(), stdout.as_fd()]);
        let mut started = launch.start().unwrap();
        let Event::Descriptor { step: 5, descriptor: listener } = started.control.event(None).unwrap() else {
            panic!("the filter's step gives a listener");
        };
        Self { started, listener, input, output }
    }

    fn supervised(self, supervision: &Supervision) -> Supervised {
        let supervisor = Supervisor::start(self.listener, supervision).unwrap();
        Supervised { started: self.started, supervisor, input: self.input, output: self.output }
    }
}

/// A launched program with somebody who answers.
struct Supervised {
    started: Started,
    supervisor: Supervisor,
    input: PipeWriter,
    output: PipeReader,
}

impl Supervised {
    fn running(mut self) -> Self {
        self.started.control.running().unwrap();
        self
    }

    /// Waits for the end; gives how it came and what was said.
    fn end(mut self) -> (Exit, String) {
        drop(self.input);
        let mut said = String::new();
        self.output.read_to_string(&mut said).unwrap();
        let exit = sys::wait(&self.started.pidfd).unwrap();
        soon(|| self.supervisor.is_finished());
        (exit, said)
    }
}

/// Launches `program`, answers to it, and gives what it said.
fn run(names: &[&str], supervision: &Supervision, program: &[&str]) -> String {
    Filtered::launch(names, program, &[]).supervised(supervision).running().end().1
}

fn soon(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "this should have become true by now");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn about(name: &str, decide: impl Fn(&Call<'_>) -> Answer + Send + Sync + 'static) -> Supervision {
    let mut supervision = Supervision::default();
    supervision.add(name.into(), decide);
    supervision
}

/// Both calls that a C library may use to make a directory.
fn about_directories(decide: impl Fn(&Call<'_>, PathBuf) -> Answer + Send + Sync + 'static) -> Supervision {
    let decide = Arc::new(decide);
    let mut supervision = Supervision::default();
    for (name, index) in [("mkdir", 0), ("mkdirat", 1)] {
        let decide = Arc::clone(&decide);
        supervision.add(name.into(), move |call| match call.path(index) {
            Ok(path) => decide(call, path),
            Err(error) => error.into(),
        });
    }
    supervision
}

const DIRECTORIES: [&str; 2] = ["mkdir", "mkdirat"];

/// A directory with the probe, its path, and the arguments of a raw mkdirat of `new` in it.
struct Place {
    root: tempfile::TempDir,
    probe: String,
    new: PathBuf,
}

impl Place {
    fn new() -> Self {
        let root = testkit::probe_root().unwrap();
        let path = |name: &str| root.path().join(name);
        Self { probe: path("probe").display().to_string(), new: path("tmp/new"), root }
    }

    /// What the kernel answers to `mkdirat(-100, new, 0700)`.
    fn mkdirat(&self, supervision: &Supervision) -> String {
        self.raw(supervision, "mkdirat", &["-100", &format!("@{}", self.new.display()), "448"])
    }

    fn raw(&self, supervision: &Supervision, call: &str, arguments: &[&str]) -> String {
        let number = number(call).unwrap().to_string();
        let program = [&[self.probe.as_str(), "syscall", &number], arguments].concat();
        run(&[call], supervision, &program).trim_end().to_owned()
    }
}

#[test]
fn each_answer_does_what_it_says() {
    require!(Seccomp);
    let place = Place::new();
    type Make = fn() -> Answer;
    let table: [(Make, &str); 9] = [
        (|| Answer::Continue, "0"),
        (|| Answer::Errno(30), "-30"),
        (|| Answer::Errno(4095), "-4095"),
        (|| Answer::Errno(4096), "-1"),
        (|| Answer::Errno(0), "-1"),
        (|| Answer::Errno(-30), "-1"),
        (|| Answer::Value(77), "77"),
        (|| Answer::Value(-1 << 40), "-1099511627776"),
        (|| std::io::Error::from_raw_os_error(28).into(), "-28"),
    ];
    for (answer, said) in table {
        assert_eq!(place.mkdirat(&about("mkdirat", move |_| answer())), said);
        assert_eq!(place.new.exists(), said == "0", "only to continue makes the directory, not {:?}", answer());
        let _gone = fs::remove_dir(&place.new);
    }
}

#[test]
fn a_decision_learns_who_calls_what() {
    require!(Seccomp);
    let place = Place::new();
    let path = place.new.clone();
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let supervision = about("mkdirat", move |call| {
        let name = (call.name().to_owned(), call.number());
        let bytes = call.bytes(1, 5).unwrap();
        let facts = (name, call.args(), call.pid(), call.path(1).unwrap(), bytes, call.is_waiting());
        tell.lock().unwrap().send(facts).unwrap();
        Answer::Continue
    });
    let program = ["-100".to_owned(), format!("@{}", path.display()), "448".to_owned()];
    let nr = number("mkdirat").unwrap();
    let words = [&[place.probe.clone(), "syscall".into(), nr.to_string()], &program[..]].concat();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let process = Filtered::launch(&["mkdirat"], &words, &[]).supervised(&supervision).running();
    let pid = process.started.pid;
    assert_eq!(process.end().1, "0\n");
    let (name, arguments, caller, seen, bytes, waiting) = told.recv().unwrap();
    assert_eq!((name, caller, seen.as_path(), waiting), (("mkdirat".to_owned(), nr), pid, path.as_path(), true));
    assert_eq!((arguments[0] as i64, arguments[2]), (-100, 448));
    assert_eq!(bytes, &path.as_os_str().as_encoded_bytes()[..5]);
}

#[test]
fn what_cannot_be_read_is_an_error_of_its_own() {
    require!(Seccomp);
    let place = Place::new();
    let long = |length: usize| format!("@{}", "a".repeat(length));
    let path_is = |argument: &str| {
        let (tell, told) = channel();
        let tell = Mutex::new(tell);
        let supervision = about("mkdirat", move |call| {
            tell.lock()
                .unwrap()
                .send(call.path(1).map(|path| path.as_os_str().len()).map_err(|error| error.kind()))
                .unwrap();
            Answer::Errno(1)
        });
        place.raw(&supervision, "mkdirat", &["-100", argument, "448"]);
        told.recv().unwrap()
    };
    assert_eq!(path_is("0"), Err(ErrorKind::Os(14)));
    assert_eq!(path_is("-1"), Err(ErrorKind::Os(14)));
    assert_eq!(path_is("buffer"), Ok(0));
    assert_eq!(path_is(&long(4095)), Ok(4095));
    assert_eq!(path_is(&long(4096)), Err(ErrorKind::Os(36)));

    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let supervision = about("mkdirat", move |call| {
        let kind = |result: crate::Result<Vec<u8>>| result.map(|bytes| bytes.len()).map_err(|error| error.kind());
        let beyond = call.path(6).map_err(|error| error.to_string());
        let sizes = [0, 4096, 1 << 20, (1 << 20) + 1].map(|length| kind(call.bytes(1, length)));
        tell.lock().unwrap().send((beyond, sizes)).unwrap();
        Answer::Errno(1)
    });
    place.raw(&supervision, "mkdirat", &["-100", "buffer", "448"]);
    let (beyond, sizes) = told.recv().unwrap();
    assert_eq!(beyond, Err("cannot read argument 6 of mkdirat: there are six, from 0".to_owned()));
    // The buffer is on the probe's stack, which ends well before a mebibyte.
    assert_eq!(sizes, [Ok(0), Ok(4096), Err(ErrorKind::Os(14)), Err(ErrorKind::Invalid)]);
}

#[test]
fn an_error_can_be_handed_on_as_the_answer() {
    require!(Seccomp);
    let place = Place::new();
    let supervision = about_directories(|_, _| Answer::Value(0));
    assert_eq!(place.raw(&supervision, "mkdirat", &["-100", "0", "448"]), "-14");
}

#[test]
fn a_panic_refuses_one_call_and_no_other() {
    require!(Seccomp, Exists(BUSYBOX));
    let place = Place::new();
    let supervision = about_directories(|_, path| {
        assert!(!path.ends_with("bad"), "a decision that panics");
        Answer::Continue
    });
    let script = format!("cd {}/tmp; mkdir one; mkdir bad; mkdir two; ls", place.root.path().display());
    let said = run(&DIRECTORIES, &supervision, &[BUSYBOX, "sh", "-c", &script]);
    assert_eq!(said, "mkdir: can't create directory 'bad': Operation not permitted\none\ntwo\n");
}

#[test]
fn each_name_has_its_own_decision_and_the_rest_of_the_filter_has_none() {
    require!(Seccomp, Exists(BUSYBOX));
    let place = Place::new();
    let mut supervision = about_directories(|_, _| Answer::Value(0));
    for name in ["rmdir", "unlinkat"] {
        supervision.add(name.into(), |_| Answer::Errno(16));
    }
    let script = "mkdir /nowhere/at-all && echo made; rmdir /nowhere";
    let notified = [&DIRECTORIES[..], &["rmdir", "unlinkat"]].concat();
    let said = run(&notified, &supervision, &[BUSYBOX, "sh", "-c", script]);
    assert_eq!(said, "made\nrmdir: '/nowhere': Device or resource busy\n");
    // Nobody decides about this one, so it fails as it would without anybody who listens.
    let supervision = about_directories(|_, _| Answer::Continue);
    assert_eq!(run(&["mkdirat", "umask"], &supervision, &[&place.probe, "umask"]), "probe: umask: errno 38\n");
}

#[test]
fn the_caller_gets_a_descriptor_of_this_program() {
    require!(Seccomp);
    let place = Place::new();
    let secret = place.root.path().join("secret");
    fs::write(&secret, "from outside").unwrap();
    let supervision = about("openat", move |_| fs::File::open(&secret).map_or_else(Answer::from, Answer::from));
    assert_eq!(run(&["openat"], &supervision, &[&place.probe, "cat", "/nowhere/at-all"]), "from outside");
}

#[test]
fn a_given_descriptor_is_kept_or_closed_at_execution() {
    require!(Seccomp);
    let place = Place::new();
    for (on_exec, expected) in [(OnExec::Keep, 0), (OnExec::Close, 0o2_000_000)] {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let reader = Mutex::new(Some(reader));
        let supervision = about("openat", move |_| {
            let reader = reader.lock().unwrap().take().expect("one call");
            Answer::Descriptor(reader.into(), on_exec)
        });
        let process =
            Filtered::launch(&["openat"], &[&place.probe, "cat", "x"], &[]).supervised(&supervision).running();
        // The probe has it as its only descriptor beside the standard streams, and waits for what comes through.
        let path = format!("/proc/{}/fdinfo/3", process.started.pid);
        soon(|| Path::new(&path).exists());
        let information = fs::read_to_string(&path).unwrap();
        let flags = information.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        assert_eq!(u32::from_str_radix(flags, 8).unwrap() & 0o2_000_000, expected);
        writer.write_all(b"through the pipe").unwrap();
        drop(writer);
        assert_eq!(process.end().1, "through the pipe");
    }
}

/// Answers by hand what `launch` waits for, as a kernel that lacks a feature would have it answered.
fn by_hand(filtered: Filtered, answer: impl FnOnce(&Work, Notification)) -> String {
    let Filtered { mut started, listener, input, mut output } = filtered;
    let (woken, _wake) = std::io::pipe().unwrap();
    let (listener, decisions) = (Listener::new(listener).unwrap(), Supervision::default().decisions());
    let work = Work { listener, decisions, woken: Arc::new(woken) };
    let call = work.listener.receive().unwrap();
    answer(&work, call);
    drop(input);
    started.control.running().unwrap();
    let mut said = String::new();
    output.read_to_string(&mut said).unwrap();
    sys::wait(&started.pidfd).unwrap();
    said
}

#[test]
fn a_descriptor_is_given_in_two_steps_where_one_is_not_enough() {
    require!(Seccomp);
    let place = Place::new();
    let launch = || Filtered::launch(&["openat"], &[&place.probe, "cat", "/nowhere"], &[]);
    let passwd = fs::File::open(place.root.path().join("etc/passwd")).unwrap();
    // Linux 5.9 to 5.13 answer thus to SECCOMP_ADDFD_FLAG_SEND.
    let said = by_hand(launch(), |work, call| work.settle(call.id, passwd.as_fd(), 0, Err(Errno::EINVAL)));
    assert_eq!(said, fs::read_to_string(place.root.path().join("etc/passwd")).unwrap());
    // A caller that has no room learns it.
    let said = by_hand(launch(), |work, call| work.settle(call.id, passwd.as_fd(), 0, Err(Errno::EMFILE)));
    assert_eq!(said, "probe: cat: errno 24\n");
}

#[test]
fn the_execution_of_the_program_is_a_call_like_any_other() {
    require!(Seccomp);
    let place = Place::new();
    let probe = PathBuf::from(&place.probe);
    let supervision = about("execve", move |call| match call.path(0) {
        Ok(path) if path == probe => Answer::Continue,
        _ => Answer::Errno(13),
    });
    assert_eq!(run(&["execve"], &supervision, &[&place.probe, "hostname"]).trim_end(), testkit::host_name().unwrap());
    let mut refused = Filtered::launch(&["execve"], &["/bin/true"], &[]).supervised(&supervision);
    assert_eq!(refused.started.control.running(), Err(Failure { step: 6, errno: Errno::EACCES }));
    refused.end();
}
