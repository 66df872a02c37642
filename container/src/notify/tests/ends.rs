//! Who ends first: callers, decisions, programs, the one that answers; and many of them at once.

use super::*;

#[test]
fn without_anybody_who_answers_calls_fail_at_once() {
    require!(Seccomp, Exists(BUSYBOX));
    let place = Place::new();
    let script = format!("cd {}/tmp; mkdir one; read go; mkdir two", place.root.path().display());
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let supervision = about_directories(move |_, path| {
        tell.lock().unwrap().send(path).unwrap();
        Answer::Continue
    });
    let process =
        Filtered::launch(&DIRECTORIES, &[BUSYBOX, "sh", "-c", &script], &[]).supervised(&supervision).running();
    let Supervised { started, supervisor, mut input, mut output } = process;
    assert_eq!(told.recv().unwrap(), Path::new("one"));
    drop(supervisor);
    input.write_all(b"\n").unwrap();
    let mut said = String::new();
    output.read_to_string(&mut said).unwrap();
    assert_eq!(said, "mkdir: can't create directory 'two': Function not implemented\n");
    sys::wait(&started.pidfd).unwrap();
    assert!(place.root.path().join("tmp/one").exists());
}

#[test]
fn a_decision_that_is_being_made_is_waited_for() {
    require!(Seccomp);
    let place = Place::new();
    let (begun, begin) = channel();
    let (go_on, wait) = channel::<()>();
    let (begun, wait) = (Mutex::new(begun), Mutex::new(wait));
    let supervision = about("mkdirat", move |_| {
        begun.lock().unwrap().send(()).unwrap();
        wait.lock().unwrap().recv().unwrap();
        Answer::Value(5)
    });
    let new = format!("@{}", place.new.display());
    let number = number("mkdirat").unwrap().to_string();
    let program = [place.probe.as_str(), "syscall", &number, "-100", &new, "448"];
    let process = Filtered::launch(&["mkdirat"], &program, &[]).supervised(&supervision).running();
    begin.recv().unwrap();
    let Supervised { started, supervisor, input: _, mut output } = process;
    let dropping = std::thread::spawn(move || drop(supervisor));
    std::thread::sleep(Duration::from_millis(20));
    assert!(!dropping.is_finished(), "dropped in the middle of a decision");
    go_on.send(()).unwrap();
    dropping.join().unwrap();
    let mut said = String::new();
    output.read_to_string(&mut said).unwrap();
    assert_eq!(said, "5\n");
    sys::wait(&started.pidfd).unwrap();
}

#[test]
fn a_decision_may_drop_its_own_supervisor() {
    require!(Seccomp);
    let place = Place::new();
    let own: Arc<Mutex<Option<Supervisor>>> = Arc::default();
    let (ready, wait) = channel();
    let (inner, wait) = (Arc::clone(&own), Mutex::new(wait));
    let supervision = about("mkdirat", move |_| {
        wait.lock().unwrap().recv().unwrap();
        drop(inner.lock().unwrap().take().expect("one call"));
        Answer::Value(6)
    });
    let new = format!("@{}", place.new.display());
    let number = number("mkdirat").unwrap().to_string();
    let program = [place.probe.as_str(), "syscall", &number, "-100", &new, "448"];
    let process = Filtered::launch(&["mkdirat"], &program, &[]).supervised(&supervision).running();
    let Supervised { started, supervisor, input: _, mut output } = process;
    *own.lock().unwrap() = Some(supervisor);
    ready.send(()).unwrap();
    let mut said = String::new();
    output.read_to_string(&mut said).unwrap();
    assert_eq!(said, "6\n");
    sys::wait(&started.pidfd).unwrap();
}

/// Kills the caller by its number, which is its own as long as it waits, and waits until that has happened.
fn kill(call: &Call<'_>) {
    assert!(call.is_waiting());
    let pidfd = sys::pidfd_open(call.pid()).unwrap();
    sys::send_signal(pidfd.as_fd(), 9).unwrap();
    soon(|| !call.is_waiting());
}

#[test]
fn an_answer_to_a_caller_that_was_killed_reaches_nobody() {
    require!(Seccomp, Exists(BUSYBOX));
    let place = Place::new();
    let (tell, told): (_, Receiver<_>) = channel();
    let tell = Mutex::new(tell);
    let supervision = about_directories(move |call, path| {
        if path.ends_with("two") {
            return Answer::Continue;
        }
        kill(call);
        let index = usize::from(call.name() == "mkdirat");
        let errors = [call.path(index).map(drop), call.bytes(index, 4).map(drop)];
        tell.lock().unwrap().send(errors.map(|error| error.map_err(|error| error.kind()))).unwrap();
        match path.file_name().and_then(|name| name.to_str()) {
            Some("value") => Answer::Value(0),
            Some("descriptor") => Answer::from(OwnedFd::from(std::io::pipe().unwrap().0)),
            _ => Answer::Continue,
        }
    });
    // Each caller is a child of the shell, which says how it ended, and tries again with another one.
    let make = |name: &str| format!("mkdir {name} & wait $!; echo {name} $?;");
    let script = ["continue", "value", "descriptor", "two"].map(make).concat();
    let script = format!("cd {}/tmp; {script} ls", place.root.path().display());
    let said = run(&DIRECTORIES, &supervision, &[BUSYBOX, "sh", "-c", &script]);
    let lines: Vec<&str> = said.lines().filter(|line| !line.contains("Killed")).collect();
    assert_eq!(lines, ["continue 137", "value 137", "descriptor 137", "two 0", "two"]);
    for _ in 0..3 {
        assert_eq!(told.recv().unwrap(), [Err(ErrorKind::State), Err(ErrorKind::State)]);
    }
}

#[test]
fn memory_behind_a_number_that_may_be_reused_is_not_believed() {
    require!(Seccomp);
    let place = Place::new();
    let filtered = Filtered::launch(&["openat"], &[&place.probe, "cat", "/nowhere"], &[]);
    let said = by_hand(filtered, |work, mut notification| {
        // As if the caller's number had gone to this process, whose memory can be read all along.
        notification.pid = std::process::id();
        notification.arguments[1] = c"/of/another/process".as_ptr() as u64;
        let call = Call { name: "openat", notification: &notification, listener: &work.listener };
        assert_eq!(call.path(1).unwrap(), Path::new("/of/another/process"));
        work.settle(notification.id, fs::File::open("/dev/null").unwrap().as_fd(), 0, Err(Errno::EACCES));
        let error = call.path(1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::State);
        let sentence = format!("cannot read argument 1 of openat in process {}: No such process", std::process::id());
        assert_eq!(error.report(), sentence);
    });
    assert_eq!(said, "probe: cat: errno 13\n");
}

#[test]
fn many_callers_in_many_processes_get_each_their_own_answer() {
    require!(Seccomp, Exists(BUSYBOX));
    let place = Place::new();
    let asked = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&asked);
    // Directories that end in 3 are refused.
    let supervision = about_directories(move |_, path| {
        counter.fetch_add(1, Ordering::Relaxed);
        if path.to_string_lossy().ends_with('3') { Answer::Errno(1) } else { Answer::Continue }
    });
    let script = "cd $0; for p in 1 2 3 4 5 6 7 8; do (for n in 1 2 3 4 5; do mkdir $p-$n 2>&-; done) & done; wait";
    let directory = place.root.path().join("tmp");
    run(&DIRECTORIES, &supervision, &[BUSYBOX, "sh", "-c", script, directory.to_str().unwrap()]);
    let mut made: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    made.sort();
    let expected = (1..=8).flat_map(|p| [1, 2, 4, 5].map(|n| format!("{p}-{n}").into()));
    assert_eq!(made, expected.collect::<Vec<std::ffi::OsString>>());
    assert_eq!(asked.load(Ordering::Relaxed), 40);
}

const INSIDE: &str = "KEELBOX_NOTIFY_INSIDE";

/// What the next test launches: this test program, with a directory in its environment.
#[test]
fn many_threads() {
    // By itself there is nothing to do: the test below runs this program once more, inside.
    let Some(directory) = std::env::var_os(INSIDE).map(PathBuf::from) else { return };
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let directory = &directory;
            scope.spawn(move || {
                for round in 0..25 {
                    let made = fs::create_dir(directory.join(format!("{thread}-{round}")));
                    let errno = made.err().and_then(|error| error.raw_os_error());
                    // Each answer is a number of its own, so that a mix-up shows.
                    assert_eq!(errno, Some(1000 + thread * 25 + round));
                }
            });
        }
    });
}

#[test]
fn many_threads_of_one_process_get_each_their_own_answer() {
    require!(Seccomp);
    let place = Place::new();
    let supervision = about_directories(|_, path| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let (thread, round) = name.split_once('-').unwrap();
        Answer::Errno(1000 + thread.parse::<i32>().unwrap() * 25 + round.parse::<i32>().unwrap())
    });
    let program = std::env::current_exe().unwrap();
    let name = testkit::test_name!().rsplit_once("::").unwrap().0.to_owned() + "::many_threads";
    let program = [program.to_str().unwrap(), "--exact", &name, "--nocapture"];
    let environment = [format!("{INSIDE}={}", place.root.path().display())];
    let (exit, said) = Filtered::launch(&DIRECTORIES, &program, &environment).supervised(&supervision).running().end();
    assert!(exit.code == Some(0) && said.contains("1 passed"), "{exit:?}: {said}");
}

#[test]
fn an_ordinary_user_decides_about_programs_of_its_own() {
    require!(Seccomp, OrdinaryUser);
    testkit::as_user!();
    let place = Place::new();
    let allowed = place.new.clone();
    let decide = move |_: &Call<'_>, path| if path == allowed { Answer::Continue } else { Answer::Errno(1) };
    let supervision = about_directories(decide);
    assert_eq!(place.mkdirat(&supervision), "0");
    assert_eq!(place.raw(&supervision, "mkdirat", &["-100", "@/tmp/other", "448"]), "-1");
}

#[test]
fn what_is_no_listener_or_no_system_call_is_refused() {
    let null = || OwnedFd::from(fs::File::open("/dev/null").unwrap());
    let error = Supervisor::start(null(), &about("mkdrat", |_| Answer::Continue)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    // A file that is always readable and no listener: the thread ends instead of turning in circles.
    let supervisor = Supervisor::start(null(), &about("mkdirat", |_| Answer::Continue)).unwrap();
    soon(|| supervisor.is_finished());
}

#[test]
fn nothing_is_left_behind() {
    require!(Seccomp);
    testkit::alone!();
    let place = Place::new();
    let supervision = about("mkdirat", |_| Answer::Errno(1));
    // The first launch makes the stage and the thread that clones, for good.
    assert_eq!(place.mkdirat(&supervision), "-1");
    let leaks = testkit::LeakCheck::begin();
    for _ in 0..10 {
        assert_eq!(place.mkdirat(&supervision), "-1");
    }
    leaks.check();
}
