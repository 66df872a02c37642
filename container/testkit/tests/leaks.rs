//! The leak check must find each leak that is planted, and nothing where nothing is left.

use keelbox_testkit as testkit;
use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use testkit::{LeakCheck, LeakCheckBuilder, Result};

/// Asserts that exactly one difference is found, and that it says all of `words`.
fn assert_found(leaks: &LeakCheck, words: &[&str]) {
    let differences = leaks.differences();
    assert_eq!(differences.len(), 1, "{differences:#?}");
    assert!(words.iter().all(|word| differences[0].contains(word)), "{words:?} in {differences:?}");
}

/// A private mount namespace, in which nothing reaches the host.
fn go_private() -> Result {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    Ok(())
}

/// Waits less than usual, since the leak is there to stay, and looks at no cgroup of the tests beside this one.
fn watch() -> LeakCheckBuilder {
    let prefix = format!("keelbox-testkit-leak-{}", std::process::id());
    LeakCheck::builder().settle(Duration::from_millis(100)).cgroups(prefix)
}

fn begin() -> LeakCheck {
    watch().begin()
}

#[test]
fn where_nothing_is_left_nothing_is_found() -> Result {
    testkit::alone!();
    let directory = tempfile::tempdir()?;
    let leaks = watch().files(directory.path()).begin();
    fs::write(directory.path().join("file"), "x")?;
    fs::remove_file(directory.path().join("file"))?;
    drop(File::open("/dev/null")?);
    Command::new("true").status()?;
    std::thread::spawn(|| ()).join().map_err(|_| "the thread panicked")?;
    leaks.check();
    Ok(())
}

#[test]
#[should_panic(expected = "needs alone!()")]
fn it_refuses_to_work_beside_other_tests() {
    let _ = begin();
}

#[test]
fn it_panics_with_the_difference() -> Result {
    testkit::alone!();
    let leaks = begin();
    let _file = File::open("/dev/null")?;
    let panic = std::panic::catch_unwind(|| leaks.check()).expect_err("a descriptor is open");
    let message = panic.downcast_ref::<String>().ok_or("the message is a string")?;
    assert!(message.starts_with("left behind:\n+ descriptor: ") && message.contains("/dev/null"), "{message}");
    Ok(())
}

#[test]
fn it_finds_a_descriptor() -> Result {
    testkit::alone!();
    let leaks = begin();
    let file = File::open("/dev/null")?;
    assert_found(&leaks, &["+ descriptor:", "/dev/null"]);
    drop(file);
    leaks.check();
    Ok(())
}

#[test]
fn it_finds_a_changed_descriptor_flag() -> Result {
    testkit::alone!();
    let (reader, _writer) = std::io::pipe()?;
    let leaks = begin();
    let flags = nix::fcntl::OFlag::O_NONBLOCK;
    nix::fcntl::fcntl(&reader, nix::fcntl::FcntlArg::F_SETFL(flags))?;
    assert_found(&leaks, &["~ descriptor:", "pipe:"]);
    Ok(())
}

#[test]
fn it_finds_a_child_and_a_zombie() -> Result {
    testkit::alone!();
    let leaks = begin();
    let mut child = Command::new("sleep").arg("30").stdin(Stdio::null()).spawn()?;
    assert_found(&leaks, &["+ child:"]);
    child.kill()?;
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    while !leaks.differences().iter().any(|line| line.contains("zombie")) {
        assert!(std::time::Instant::now() < deadline, "{:?}", leaks.differences());
    }
    child.wait()?;
    leaks.check();
    Ok(())
}

#[test]
fn it_finds_a_thread() -> Result {
    testkit::alone!();
    let leaks = begin();
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let builder = std::thread::Builder::new().name("leaked".to_owned());
    let thread = builder.spawn(move || held.recv().is_err())?;
    let found = leaks.differences();
    assert!(found.iter().any(|line| line.starts_with("+ thread:")), "{found:?}");
    drop(hold);
    thread.join().map_err(|_| "the thread panicked")?;
    Ok(())
}

#[test]
fn it_finds_a_mount() -> Result {
    testkit::require!(Root, MountNamespace);
    testkit::alone!();
    go_private()?;
    let directory = tempfile::tempdir()?;
    let leaks = begin();
    mount(Some("leak"), directory.path(), Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    assert_found(&leaks, &["+ mount:", "tmpfs leak"]);
    umount(directory.path())?;
    leaks.check();
    Ok(())
}

#[test]
fn it_finds_a_changed_mount_flag() -> Result {
    testkit::require!(Root, MountNamespace);
    testkit::alone!();
    go_private()?;
    let directory = tempfile::tempdir()?;
    mount(Some("leak"), directory.path(), Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    let leaks = begin();
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_NOSUID;
    mount(None::<&str>, directory.path(), None::<&str>, flags, None::<&str>)?;
    assert_found(&leaks, &["~ mount:", "nosuid"]);
    umount(directory.path())?;
    Ok(())
}

#[test]
fn it_finds_a_namespace_that_was_entered() -> Result {
    testkit::require!(Root);
    testkit::alone!();
    let leaks = begin();
    unshare(CloneFlags::CLONE_NEWUTS)?;
    assert_found(&leaks, &["~ namespace: thread-self uts uts:["]);
    Ok(())
}

#[test]
fn it_finds_a_cgroup_directory() -> Result {
    testkit::require!(Root, CgroupV1("pids"));
    testkit::alone!();
    let group = PathBuf::from(format!("/sys/fs/cgroup/pids/keelbox-testkit-leak-{}", std::process::id()));
    let leaks = begin();
    fs::create_dir(&group)?;
    let found = leaks.differences();
    fs::remove_dir(&group)?;
    assert_eq!(found, [format!("+ cgroup: {} ", group.display())]);
    leaks.check();
    Ok(())
}

#[test]
fn it_finds_a_file() -> Result {
    testkit::alone!();
    let directory = tempfile::tempdir()?;
    fs::create_dir(directory.path().join("inner"))?;
    let leaks = LeakCheck::builder().files(directory.path()).begin();
    fs::write(directory.path().join("inner/left"), "x")?;
    assert_found(&leaks, &["+ file:", "inner/left", "of 1 bytes"]);
    Ok(())
}

#[test]
fn it_finds_changed_settings_of_the_process() -> Result {
    testkit::alone!();
    let leaks = begin();
    let found = |section: &str| leaks.differences().iter().any(|line| line.starts_with(section));
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o77));
    assert!(found("~ status: Umask"));
    std::env::set_current_dir("/")?;
    assert!(found("~ directory: cwd"));
    nix::sys::prctl::set_dumpable(false)?;
    assert!(found("~ prctl: dumpable"));
    nix::sys::prctl::set_dumpable(true)?;
    nix::sys::prctl::set_child_subreaper(true)?;
    assert!(found("~ prctl: child subreaper"));
    fs::write("/proc/self/oom_score_adj", "7")?;
    assert!(found("~ setting: oom_score_adj"));
    nix::sys::prctl::set_no_new_privs()?;
    assert!(found("~ status: NoNewPrivs"));
    Ok(())
}

#[test]
fn what_settles_in_time_is_no_leak() -> Result {
    testkit::alone!();
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("soon-gone");
    let mut remover = Command::new("true").spawn()?; // started and reaped before the picture, so it is no child of it
    remover.wait()?;
    let leaks = LeakCheck::builder().files(directory.path()).settle(Duration::from_secs(5)).begin();
    fs::write(&file, "x")?;
    remove_later(&file)?;
    leaks.check();
    Ok(())
}

/// Lets a process that is no child of ours remove the file in a while.
fn remove_later(file: &Path) -> Result {
    let script = "(sleep 0.2; rm \"$0\") >/dev/null 2>&1 &";
    Command::new("sh").args(["-c", script]).arg(file).status()?;
    Ok(())
}
