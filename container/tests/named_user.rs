//! Named containers of an ordinary user, without any set-up.

use std::os::unix::fs::PermissionsExt;

use keelbox::{Container, ErrorKind, Reason, Runtime, Signal, Status};
use keelbox_testkit::{self as testkit, LeakCheck, require};

#[test]
fn an_ordinary_user_has_the_whole_life_cycle() -> testkit::Result {
    require!(OrdinaryUser, UserNamespace);
    testkit::as_user!();
    let home = std::env::var("XDG_RUNTIME_DIR")?;
    let runtime = Runtime::at(std::path::Path::new(&home).join("keelbox"));
    let root = testkit::probe_root()?;
    let built = Container::from_rootfs(root.path()).args(["/probe", "sleep", "600000"]).hostname("inner").build()?;
    runtime.create(&built, "warm-up")?.delete_force()?;
    let leaks = LeakCheck::builder().files(&home).begin();
    let handle = runtime.create(&built, "a")?;
    assert_eq!(handle.status(), Status::Created);
    assert_eq!(std::fs::metadata(runtime.root())?.permissions().mode() & 0o777, 0o700);
    let again = runtime.open("a")?;
    again.start()?;
    assert_eq!(handle.status(), Status::Running);
    assert_eq!(handle.exec(["/probe", "hostname"]).output()?.text(), "inner\n");
    assert_eq!(handle.start().expect_err("it runs").kind(), ErrorKind::State);
    // Without a delegated subtree there is no control group, and what needs one says so.
    if handle.stats().is_err() {
        assert_eq!(handle.pause().expect_err("no group").kind(), ErrorKind::Limit);
        assert_eq!(handle.kill_all(Signal::KILL).expect_err("no group").kind(), ErrorKind::Limit);
    }
    handle.kill(Signal::KILL)?;
    assert_eq!(again.wait()?.map(|end| end.reason()), Some(Reason::Signaled(Signal::KILL)));
    assert_eq!(runtime.list()?.iter().map(|handle| handle.status()).collect::<Vec<_>>(), [Status::Stopped]);
    handle.delete()?;
    drop((handle, again));
    leaks.check();
    Ok(())
}

#[test]
fn the_default_directory_is_the_users_own() -> testkit::Result {
    require!(OrdinaryUser);
    testkit::as_user!();
    let user = std::fs::metadata("/proc/self").map(|found| std::os::unix::fs::MetadataExt::uid(&found))?;
    let root = Runtime::new().root().display().to_string();
    assert!([format!("/run/user/{user}/keelbox"), format!("/tmp/keelbox-{user}")].contains(&root), "{root}");
    // What belongs to somebody else is not used, whatever is in it.
    assert_eq!(Runtime::at("/etc").list().expect_err("it is root's").kind(), ErrorKind::PermissionDenied);
    Ok(())
}
