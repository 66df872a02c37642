//! Writing id maps from outside, and what is said when the kernel refuses one.

mod support;

use std::error::Error as _;
use std::fs;
use std::process::Command;

use keelbox_namespaces::{Caller, Cause, ErrorKind, Helpers, IdMaps, Kind, MapMethod, Namespace, Refusal, write};
use keelbox_testkit::Result;
use support::Sleeper;

fn map(pid: u32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/{name}")).expect("it lives");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn maps(text: &str) -> IdMaps {
    let map = || text.parse().expect("a map");
    IdMaps::new(map(), map())
}

#[test]
fn a_map_is_written_once() -> Result {
    keelbox_testkit::require!(Root, UserNamespace, Program("unshare"));
    let sleeper = Sleeper::unshare(&["--user"]);
    assert_eq!(map(sleeper.pid(), "uid_map"), "");
    let ranges = maps("0 100000 1000\n1000 0 1");
    write(sleeper.pid(), &ranges, &MapMethod::Parent)?;
    assert_eq!(map(sleeper.pid(), "uid_map"), "0 100000 1000 1000 0 1");
    assert_eq!(map(sleeper.pid(), "gid_map"), "0 100000 1000 1000 0 1");
    let error = write(sleeper.pid(), &ranges, &MapMethod::Parent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    let refusal = error.source().unwrap().downcast_ref::<Refusal>().unwrap();
    assert!(refusal.to_string().contains("once"), "{refusal}");
    Ok(())
}

#[test]
fn an_ordinary_user_may_write_the_map_of_its_child() -> Result {
    keelbox_testkit::require!(OrdinaryUser, UserNamespace, Program("unshare"));
    keelbox_testkit::as_user!();
    let caller = Caller::current()?;
    let sleeper = Sleeper::unshare(&["--user"]);
    let error = write(sleeper.pid(), &maps("0 100000 1000"), &MapMethod::Parent).unwrap_err();
    let refusal = error.source().unwrap().downcast_ref::<Refusal>().unwrap();
    assert_eq!((error.kind(), refusal.cause()), (ErrorKind::PermissionDenied, Cause::Privilege));
    write(sleeper.pid(), &IdMaps::own_as(&caller, 5, 6)?, &MapMethod::Own)?;
    assert_eq!(map(sleeper.pid(), "uid_map"), format!("5 {} 1", caller.user_id()));
    assert_eq!(map(sleeper.pid(), "gid_map"), format!("6 {} 1", caller.group_id()));
    assert_eq!(map(sleeper.pid(), "setgroups"), "deny");
    Ok(())
}

#[test]
fn the_helper_program_says_why() -> Result {
    keelbox_testkit::require!(OrdinaryUser, UserNamespace, Program("unshare"), Exists("/usr/bin/newuidmap"));
    keelbox_testkit::as_user!();
    let sleeper = Sleeper::unshare(&["--user"]);
    let helpers = Helpers::find().expect("they are there");
    // Nobody lends the ids of the host's first users.
    let error = write(sleeper.pid(), &maps("0 0 10"), &MapMethod::Helper(helpers)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HelperFailed);
    assert!(error.to_string().contains("newuidmap: "), "{error}");
    assert!(error.source().unwrap().downcast_ref::<Refusal>().is_some());
    assert_eq!(map(sleeper.pid(), "uid_map"), "");
    Ok(())
}

#[test]
fn the_helper_program_maps_what_needs_no_lending() -> Result {
    keelbox_testkit::require!(OrdinaryUser, UserNamespace, Program("unshare"));
    keelbox_testkit::require!(Exists("/usr/bin/newuidmap"), Exists("/usr/bin/newgidmap"));
    keelbox_testkit::as_user!();
    let caller = Caller::current()?;
    let sleeper = Sleeper::unshare(&["--user"]);
    let helpers = Helpers::find().expect("they are there");
    write(sleeper.pid(), &IdMaps::own(&caller)?, &MapMethod::Helper(helpers))?;
    assert_eq!(map(sleeper.pid(), "uid_map"), format!("0 {} 1", caller.user_id()));
    assert_eq!(map(sleeper.pid(), "gid_map"), format!("0 {} 1", caller.group_id()));
    Ok(())
}

const NESTED: &str = "KEELBOX_TEST_NESTED";

#[test]
fn an_id_that_the_own_namespace_lacks_is_named() -> Result {
    keelbox_testkit::require!(UserNamespace, Program("unshare"));
    if std::env::var_os(NESTED).is_none() {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--"]).arg(std::env::current_exe()?);
        command.args(["--exact", keelbox_testkit::test_name!(), "--nocapture"]).env(NESTED, "1");
        let output = command.output()?;
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
        return Ok(());
    }
    let sleeper = Sleeper::unshare(&["--user"]);
    let error = write(sleeper.pid(), &maps("0 0 1\n1 5 3"), &MapMethod::Parent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(error.to_string().contains("the ids of \"1 5 3\" do not all exist"), "{error}");
    Ok(())
}

#[test]
fn a_namespace_for_maps_has_them_and_no_process() -> Result {
    keelbox_testkit::require!(Root, UserNamespace, Program("nsenter"));
    keelbox_testkit::alone!();
    // The launcher and the stage's file stay as long as the program.
    drop(Namespace::mapped(&maps("0 100000 1"), &MapMethod::Parent)?);
    let leaks = keelbox_testkit::LeakCheck::begin();
    let namespace = Namespace::mapped(&maps("0 100000 1000"), &MapMethod::Parent)?;
    assert_eq!(namespace.kind(), Kind::User);
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(&namespace));
    let file = format!("/proc/{}/fd/{descriptor}", std::process::id());
    let output = Command::new("nsenter").arg(format!("--user={file}")).args(["cat", "/proc/self/uid_map"]).output()?;
    let text = String::from_utf8(output.stdout)?;
    assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["0", "100000", "1000"], "{:?}", output.stderr);
    drop(namespace);
    leaks.check();
    Ok(())
}
