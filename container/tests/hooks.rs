//! Hooks, sockets and descriptors by the library: what it gives beyond what bundles ask for.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use keelbox::crates::launch::sys::{self, rights};
use keelbox::{Container, ErrorKind, Hook, HookPoint, Kind, Runtime, Signal, Status, Stdio, Terminal};
use keelbox_testkit::{self as testkit, LeakCheck, alone, require};

mod common;
use common::Small;

fn shell(script: &str) -> Hook {
    Hook::new("/bin/sh").args(["sh", "-c", script]).env("PATH", "/usr/bin:/bin").timeout(Duration::from_secs(30))
}

/// What the first container leaves open for the next ones.
fn warm() -> testkit::Result {
    let root = testkit::probe_root()?;
    assert!(Container::from_rootfs(root.path()).args(["/probe", "true"]).status()?.success());
    Ok(())
}

/// Waits until a file has some content.
fn content(path: &Path) -> testkit::Result<String> {
    for _ in 0..1000 {
        let text = fs::read_to_string(path).unwrap_or_default();
        if !text.is_empty() {
            return Ok(text);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(format!("nothing in {}", path.display()).into())
}

#[test]
fn hooks_need_a_name() -> testkit::Result {
    let container = || Container::from_rootfs("/").args(["/bin/true"]).hook(HookPoint::Poststop, shell("true"));
    let refused =
        [container().spawn().map(|_| ()), container().output().map(|_| ()), container().template().map(|_| ())];
    for error in refused {
        let error = error.expect_err("hooks without a name");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(error.report(), "cannot run the container: hooks need a container with a name (create() it)");
    }
    assert!(container().build()?.plan().is_ok());
    Ok(())
}

#[test]
fn the_plan_shows_where_hooks_come() -> testkit::Result {
    let container = Container::from_rootfs("/").args(["/bin/true"]);
    let steps = |container: &Container| Ok::<_, keelbox::Error>(container.clone().build()?.plan()?.to_string());
    assert!(!steps(&container)?.contains("hooks"));
    let text = steps(&container.hook(HookPoint::CreateRuntime, shell("true")))?;
    let place = |words: &str| text.find(words).ok_or(format!("no {words:?} in {text}"));
    assert!(place("enter the new root").or_else(|_| place("root"))? < place("wait for the hooks")?);
    Ok(())
}

#[test]
fn hooks_of_an_image_see_its_root_beside_the_state() -> testkit::Result {
    alone!();
    require!(Root, Program("busybox"));
    let small = Small::busybox("")?;
    let states = tempfile::tempdir()?;
    let runtime = Runtime::at(states.path().join("states"));
    // What unpacks it makes the store.
    small.container()?.args(["true"]).status()?;
    let leaks = LeakCheck::builder().cgroups("image-hooks").files(states.path().join("states")).begin();
    let log = states.path().join("log");
    let root = runtime.root().join("image-hooks/rootfs");
    let see = format!("ls -d {0}/bin/busybox proc/self > {1}; echo hook > {0}/made", root.display(), log.display());
    let out = states.path().join("out");
    let container = small.container()?.args(["cat", "/made"]).stdout(File::create(&out)?);
    let container = container.hook(HookPoint::CreateContainer, shell(&see)).build()?;
    let handle = runtime.create(&container, "image-hooks")?;
    assert_eq!(fs::read_to_string(&log)?.lines().next(), root.join("bin/busybox").to_str());
    assert_eq!(fs::read_dir(&root)?.count(), 0, "on the host there is nothing");
    handle.start()?;
    handle.wait()?;
    assert_eq!(fs::read_to_string(&out)?, "hook\n");
    handle.delete()?;
    fs::remove_dir(runtime.root())?;
    drop((handle, container));
    leaks.check();
    Ok(())
}

#[test]
fn hooks_come_into_a_user_namespace_too() -> testkit::Result {
    alone!();
    require!(Root, Program("busybox"));
    let (root, states) = (testkit::busybox_root()?, tempfile::tempdir()?);
    let runtime = Runtime::at(states.path().join("states"));
    warm()?;
    let leaks = LeakCheck::builder().cgroups("user-hooks").begin();
    let (log, inner) = (states.path().join("log"), root.path().join("tmp/inner"));
    let see = |file: &Path| format!("{{ readlink /proc/self/ns/user; id -u; }} > {}", file.display());
    let container = Container::from_rootfs(root.path()).args(["sleep", "600"]).unshare(Kind::User);
    let container = container.hook(HookPoint::CreateContainer, shell(&see(&log)));
    let container = container.hook(HookPoint::StartContainer, shell(&see(Path::new("/tmp/inner"))));
    let handle = runtime.create(&container.build()?, "user-hooks")?;
    let user = fs::read_link(format!("/proc/{}/ns/user", handle.pid().ok_or("it waits")?))?.display().to_string();
    assert_ne!(user, fs::read_link("/proc/self/ns/user")?.display().to_string());
    assert_eq!(fs::read_to_string(&log)?, format!("{user}\n0\n"));
    handle.start()?;
    assert_eq!(fs::read_to_string(&inner)?, format!("{user}\n0\n"));
    handle.delete_force()?;
    drop(handle);
    leaks.check();
    Ok(())
}

#[test]
fn warnings_of_the_end_are_kept_and_told_once() -> testkit::Result {
    require!(Root);
    let (root, states) = (testkit::probe_root()?, tempfile::tempdir()?);
    let runtime = Runtime::at(states.path().join("states"));
    let container = Container::from_rootfs(root.path()).args(["/probe", "true"]);
    let container = container.hook(HookPoint::Poststop, shell("echo why >&2; exit 2")).build()?;
    let handle = runtime.create(&container, "warned")?;
    handle.delete_force()?;
    let warnings = handle.warnings();
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].kind(), ErrorKind::Hook);
    assert_eq!(warnings[0].report(), "cannot run poststop hook 1 of 1, /bin/sh: it ended badly (exit code 2): why");
    assert!(handle.warnings().is_empty());
    // Where there is no handle, they come with the error.
    let container = Container::from_rootfs(root.path()).args(["/probe", "true"]);
    let container =
        container.hook(HookPoint::CreateRuntime, shell("exit 1")).hook(HookPoint::Poststop, shell("exit 2"));
    let error = runtime.create(&container.build()?, "warned").expect_err("a hook fails");
    assert_eq!(error.kind(), ErrorKind::Hook);
    assert!(error.hint().is_some_and(|hint| hint.contains("poststop hook 1 of 1")), "{}", error.report());
    Ok(())
}

/// Takes what a container hands over: what is said with it, and the descriptor.
fn taken(socket: &UnixListener) -> testkit::Result<(String, OwnedFd)> {
    let (mut stream, _) = socket.accept()?;
    let mut bytes = vec![0; 4096];
    let (length, received) = rights::receive(stream.as_fd(), &mut bytes)?;
    bytes.truncate(length);
    stream.read_to_end(&mut bytes)?;
    assert_eq!(received.len(), 1);
    Ok((String::from_utf8(bytes)?, received.into_iter().next().ok_or("one")?))
}

#[test]
fn terminals_and_pidfds_go_to_sockets() -> testkit::Result {
    alone!();
    require!(Root, Program("busybox"));
    let (root, states) = (testkit::busybox_root()?, tempfile::tempdir()?);
    let runtime = Runtime::at(states.path().join("states"));
    warm()?;
    let leaks = LeakCheck::builder().cgroups("sockets").begin();
    let (console, pidfds) = (states.path().join("console"), states.path().join("pidfd"));
    let (consoles, numbers) = (UnixListener::bind(&console)?, UnixListener::bind(&pidfds)?);
    let container = Container::from_rootfs(root.path()).args(["sh", "-c", "tty; stty size; exec sleep 600"]);
    let container =
        container.terminal(Terminal::size(33, 111)).console_socket(&console).pidfd_socket(&pidfds).build()?;
    let handle = runtime.create(&container, "sockets")?;
    let (name, master) = taken(&consoles)?;
    let (number, pidfd) = taken(&numbers)?;
    assert_eq!(name, "/dev/pts/0");
    assert_eq!(Some(number), handle.pid().map(|pid| pid.to_string()));
    assert!(handle.terminal().is_none());
    handle.start()?;
    let mut said = [0; 64];
    let mut master = File::from(master);
    let mut text = String::new();
    while !text.contains("111") {
        let length = master.read(&mut said)?;
        text += &String::from_utf8_lossy(&said[..length]);
    }
    assert_eq!(text, "/dev/pts/0\r\n33 111\r\n");
    let exec = handle.exec(["sh", "-c", "tty; exit 3"]).terminal(Terminal::size(1, 2));
    let mut further = exec.console_socket(&console).pidfd_socket(&pidfds).spawn()?;
    let ((name, mut other), (number, copy)) =
        (taken(&consoles).map(|(name, fd)| (name, File::from(fd)))?, taken(&numbers)?);
    assert_eq!((name.as_str(), number), ("/dev/pts/1", further.id().to_string()));
    assert!(further.terminal().is_none());
    let length = other.read(&mut said)?;
    assert!(said[..length].starts_with(b"/dev/pts/1"));
    assert_eq!(further.wait()?.code(), Some(3));
    sys::send_signal(pidfd.as_fd(), Signal::KILL.number())?;
    handle.wait()?;
    handle.delete()?;
    drop((pidfd, copy, master, other, further, handle));
    drop((consoles, numbers, container));
    // Nobody listens any more: nothing is made.
    let refused = |container: Container| -> testkit::Result<keelbox::Error> {
        Ok(runtime.create(&container.args(["sleep", "600"]).build()?, "sockets").expect_err("nobody listens"))
    };
    let base = || Container::from_rootfs(root.path());
    let error = refused(base().terminal(Terminal::size(1, 1)).console_socket(&console))?;
    assert!(error.to_string().starts_with("cannot hand the terminal to"), "{}", error.report());
    let error = refused(base().pidfd_socket(&pidfds))?;
    assert!(error.to_string().starts_with("cannot hand the pidfd to"), "{}", error.report());
    let error = base().args(["true"]).console_socket(&console).build().expect_err("no terminal");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let spawned = base().args(["sleep", "600"]).pidfd_socket(&pidfds).detached().spawn();
    assert!(spawned.is_err());
    assert!(runtime.list()?.is_empty());
    leaks.check();
    Ok(())
}

#[test]
fn descriptors_and_the_process_id_for_socket_activation() -> testkit::Result {
    require!(Root, Program("busybox"));
    let (root, states) = (testkit::busybox_root()?, tempfile::tempdir()?);
    let runtime = Runtime::at(states.path().join("states"));
    let given = states.path().join("given");
    fs::write(&given, "through three\n")?;
    let script = "echo $LISTEN_FDS $LISTEN_PID $$; cat <&3; exec sleep 600";
    for (id, own) in [("pid-own", true), ("pid-shared", false)] {
        let out = states.path().join(id);
        let container = Container::from_rootfs(root.path()).args(["sh", "-c", script]).stdout(File::create(&out)?);
        let container = container.env("LISTEN_FDS", "1").env("LISTEN_PID", "");
        let container = container.descriptor(Stdio::from(File::open(&given)?));
        let container = if own { container } else { container.share(Kind::Pid) };
        let handle = runtime.create(&container.build()?, id)?;
        let pid = if own { 1 } else { handle.pid().ok_or("it waits")? };
        handle.start()?;
        let said = content(&out)?;
        assert_eq!(said.lines().next(), Some(format!("1 {pid} {pid}").as_str()), "{id}");
        let exec = handle.exec(["sh", "-c", "echo $LISTEN_PID $$; cat <&3"]).env("LISTEN_PID", "");
        let output = exec.descriptor(Stdio::from(File::open(&given)?)).output()?;
        let text = String::from_utf8(output.stdout)?;
        let (numbers, rest) = text.split_once('\n').ok_or("two lines")?;
        let (listen, own) = numbers.split_once(' ').ok_or("two numbers")?;
        assert_eq!((listen, rest), (own, "through three\n"));
        assert_eq!(handle.status(), Status::Running);
        handle.delete_force()?;
    }
    Ok(())
}
