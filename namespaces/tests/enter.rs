//! Entering the namespaces of other processes, as root and as an ordinary user.

mod support;

use std::fs;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use keelbox_launch::Slot;
use keelbox_namespaces::{
    Cause, ErrorKind, Join, Kind, Namespace, NamespaceSet, Namespaces, Refusal, Target, list_all, ns_pids,
};
use keelbox_testkit::Result;
use support::Sleeper;

fn set(kinds: &[Kind]) -> NamespaceSet {
    kinds.iter().copied().collect()
}

fn interfaces() -> Vec<String> {
    // Two lines of heading, then one per interface.
    let table = fs::read_to_string("/proc/thread-self/net/dev").expect("/proc is there");
    let names = table.lines().skip(2).filter_map(|line| line.split(':').next());
    names.map(|name| name.trim().to_owned()).collect()
}

#[test]
fn a_closure_sees_the_network_of_another_process_and_nobody_else_does() -> Result {
    keelbox_testkit::require!(Root, NetNamespace, Program("unshare"));
    let sleeper = Sleeper::unshare(&["--net"]);
    let inside = Namespaces::of(sleeper.pid())?;
    let own = Namespaces::own()?;
    assert_eq!(inside.differing_from(&own), set(&[Kind::Net]));
    let net = inside.only([Kind::Net]);

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    let seen = net.run(|| {
        let reached = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| {
            socket.connect((Ipv4Addr::LOCALHOST, port))?;
            socket.send(b"x")
        });
        (interfaces(), reached.is_ok(), Namespaces::own().unwrap())
    })?;
    assert_eq!(seen.0, ["lo"]);
    assert!(!seen.1, "the loopback interface of the other network is down");
    assert_eq!(seen.2.get(Kind::Net), net.get(Kind::Net));
    // The calling thread has not moved.
    assert_eq!(Namespaces::own()?.get(Kind::Net), own.get(Kind::Net));
    Ok(())
}

#[test]
fn a_namespace_outlives_its_process() -> Result {
    keelbox_testkit::require!(Root, NetNamespace, Program("unshare"));
    let sleeper = Sleeper::unshare(&["--net", "--uts", "--ipc"]);
    let pid = sleeper.pid();
    let inside = Namespaces::of(pid)?;
    drop(sleeper);
    assert_eq!(Namespaces::of(pid).unwrap_err().kind(), ErrorKind::NotFound);
    // Three kinds: joined at once as long as the process lives, one by one now.
    let seen = inside.run(|| (interfaces(), Namespaces::own().unwrap()))?;
    assert_eq!(seen.0, ["lo"]);
    assert_eq!(seen.1.shared_with(&inside), inside.kinds());
    Ok(())
}

#[test]
fn mount_and_pid_namespaces_are_entered_by_a_thread() -> Result {
    keelbox_testkit::require!(Root, MountNamespace, Program("unshare"), Program("setpriv"));
    let options = ["--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"];
    let sleeper = Sleeper::unshare(&options);
    assert_eq!(ns_pids(sleeper.pid())?, [sleeper.pid(), 1]);
    let inside = Namespaces::of(sleeper.pid())?;
    let own = Namespaces::own()?;
    assert_eq!(inside.differing_from(&own), set(&[Kind::Mount, Kind::Pid]));

    let directory = std::env::current_dir()?;
    let (moved, child, cwd) = inside.run(|| {
        let moved = Namespaces::own().unwrap();
        let output = Command::new("sh").args(["-c", "echo $$"]).output();
        (moved, output, std::env::current_dir().unwrap())
    })?;
    // The thread itself keeps its pid namespace; its children are born in the other.
    assert_eq!(moved.differing_from(&own), set(&[Kind::Mount]));
    assert_eq!(cwd, Path::new("/"));
    let number: u32 = String::from_utf8(child?.stdout)?.trim().parse()?;
    assert!((2..1000).contains(&number), "a low pid in a young namespace, not {number}");
    assert_eq!(std::env::current_dir()?, directory);
    Ok(())
}

#[test]
fn the_pid_namespace_of_a_dead_first_process_says_so() -> Result {
    keelbox_testkit::require!(Root, MountNamespace, Program("unshare"));
    let sleeper = Sleeper::unshare(&["--pid", "--fork", "--kill-child"]);
    let inside = Namespaces::of(sleeper.pid())?.only([Kind::Pid]);
    drop(sleeper);
    let started = inside.run(|| Command::new("true").status())?;
    let errno = started.unwrap_err().raw_os_error().unwrap();
    let refusal = Refusal::explain(keelbox_namespaces::Attempt::Create(Kind::Pid.into()), errno);
    assert_eq!((errno, refusal.cause()), (12, Cause::DeadPidNamespace));
    Ok(())
}

#[test]
fn nested_pid_namespaces_give_a_process_several_ids() -> Result {
    keelbox_testkit::require!(Root, Program("unshare"));
    let nested = ["--pid", "--fork", "--kill-child", "unshare", "--pid", "--fork", "--kill-child"];
    let sleeper = Sleeper::unshare(&nested);
    let pids = ns_pids(sleeper.pid())?;
    assert_eq!((pids.len(), pids[0], pids[2]), (3, sleeper.pid(), 1), "{pids:?}");
    let pid = Namespace::of(sleeper.pid(), Kind::Pid)?;
    assert_eq!(pid.parent()?.parent()?, Namespace::of(std::process::id(), Kind::Pid)?);
    Ok(())
}

#[test]
fn a_thread_is_kept_out_of_a_user_namespace_and_is_not_moved() -> Result {
    keelbox_testkit::require!(Root, UserNamespace, Program("unshare"));
    let sleeper = Sleeper::unshare(&["--user", "--map-root-user", "--net"]);
    let inside = Namespaces::of(sleeper.pid())?;
    for error in [inside.run(|| ()).unwrap_err(), inside.enter().unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::MultiThreaded);
    }
    let own = Namespaces::own()?;
    assert_eq!(own.differing_from(&inside), set(&[Kind::User, Kind::Net]));
    // Root may enter the network that belongs to that user namespace without entering the latter.
    assert_eq!(inside.get(Kind::Net).unwrap().owner()?, *inside.get(Kind::User).unwrap());
    assert_eq!(inside.get(Kind::User).unwrap().owner_uid()?, 0);
    assert_eq!(inside.only([Kind::Net]).run(interfaces)?, ["lo"]);
    Ok(())
}

#[test]
fn a_thread_enters_and_comes_back() -> Result {
    keelbox_testkit::require!(Root, NetNamespace, Program("unshare"));
    let sleeper = Sleeper::unshare(&["--net", "--uts", "--pid", "--fork", "--kill-child"]);
    let inside = Namespaces::of(sleeper.pid())?;
    let born_in = || fs::metadata("/proc/thread-self/ns/pid_for_children").map(|file| file.ino()).unwrap();
    let there_and_back = move || -> Result<(), keelbox_namespaces::Error> {
        let home = Namespaces::own()?;
        let births = born_in();
        inside.enter()?;
        let moved = Namespaces::own()?.differing_from(&home);
        assert_eq!(moved, set(&[Kind::Net, Kind::Uts]));
        assert_ne!(born_in(), births);
        home.enter()?;
        assert!(Namespaces::own()?.differing_from(&home).is_empty());
        assert_eq!(born_in(), births, "children are born at home again");
        Ok(())
    };
    std::thread::spawn(there_and_back).join().unwrap()?;
    Ok(())
}

#[test]
fn a_named_pipe_is_not_waited_for() -> Result {
    keelbox_testkit::require!(Program("mkfifo"));
    let pipe = std::env::temp_dir().join(format!("keelbox-namespaces-{}.pipe", std::process::id()));
    assert!(Command::new("mkfifo").arg(&pipe).status()?.success());
    let (sender, receiver) = std::sync::mpsc::channel();
    let path = pipe.clone();
    std::thread::spawn(move || sender.send(Namespace::open(path).map(drop)));
    let answer = receiver.recv_timeout(std::time::Duration::from_secs(10));
    fs::remove_file(&pipe)?;
    assert_eq!(answer?.unwrap_err().kind(), ErrorKind::NotANamespace);
    Ok(())
}

#[test]
fn a_process_that_moves_between_opening_and_entering_is_noticed() -> Result {
    keelbox_testkit::require!(Root, NetNamespace, Program("unshare"), Program("sh"));
    use std::io::{BufRead, BufReader, Write};
    let mut child = Command::new("unshare")
        .args(["--uts", "--net", "sh", "-c", "echo 1; read x; exec unshare --net sh -c 'echo 2; read x'"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let (mut input, mut output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    let mut line = String::new();
    output.read_line(&mut line)?;
    let inside = Namespaces::of(child.id())?;
    input.write_all(b"\n")?;
    output.read_line(&mut line)?;
    assert_eq!(line, "1\n2\n");
    let error = inside.run(|| ()).unwrap_err();
    let alone = inside.only([Kind::Net]).run(interfaces);
    drop(input);
    child.wait()?;
    assert_eq!(error.kind(), ErrorKind::Changed);
    assert_eq!(alone?, ["lo"], "one kind alone is entered by its file, which is the one that was opened");
    Ok(())
}

#[test]
fn the_machine_lists_a_new_namespace_with_its_process() -> Result {
    keelbox_testkit::require!(Root, NetNamespace, Program("unshare"));
    let sleeper = Sleeper::unshare(&["--net"]);
    let net = Namespace::of(sleeper.pid(), Kind::Net)?;
    let all = list_all()?;
    let found = all.iter().find(|listed| listed.kind == Kind::Net && listed.identity == net.identity());
    let found = found.expect("it is listed");
    assert_eq!((found.processes.as_slice(), found.command.as_str()), (&[sleeper.pid()][..], "sleep 1000"));
    Ok(())
}

#[test]
fn what_differs_is_what_an_exec_joins() -> Result {
    keelbox_testkit::require!(Root, NetNamespace, Program("unshare"));
    let sleeper = Sleeper::unshare(&["--net", "--uts"]);
    let plan = Namespaces::of(sleeper.pid())?.selection()?.plan(Slot(0))?;
    let [Join { target, kinds, .. }] = plan.joins() else { panic!("{plan:?}") };
    assert_eq!((target, *kinds), (&Target::Process(sleeper.pid()), set(&[Kind::Net, Kind::Uts])));
    assert_eq!(plan.open()?.len(), 1);
    // Held open by descriptor, a foreign namespace is one target each.
    let net = Arc::new(Namespace::of(sleeper.pid(), Kind::Net)?);
    assert!(net.identity() != Namespace::of(std::process::id(), Kind::Net)?.identity());
    Ok(())
}

#[test]
fn an_ordinary_user_is_told_what_is_missing() -> Result {
    keelbox_testkit::require!(OrdinaryUser, UserNamespace, Program("unshare"));
    keelbox_testkit::as_user!();
    // Its own namespaces it may open, and see that it cannot enter the network without the user namespace.
    let sleeper = Sleeper::unshare(&["--user", "--map-root-user", "--net"]);
    let inside = Namespaces::of(sleeper.pid())?;
    assert_eq!(inside.run(|| ()).unwrap_err().kind(), ErrorKind::MultiThreaded);
    let error = inside.only([Kind::Net]).run(|| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    let refusal = std::error::Error::source(&error).unwrap().downcast_ref::<Refusal>().unwrap();
    assert_eq!(refusal.cause(), Cause::Privilege, "{refusal}");
    // What belongs to root cannot even be looked at.
    assert_eq!(Namespaces::of(1).unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert!(list_all()?.iter().any(|listed| listed.processes.contains(&sleeper.pid())));
    Ok(())
}
