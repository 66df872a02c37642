//! What hides files is a node of the host's, seen from inside: a container can use it, and change nothing about it.

use std::os::unix::fs::MetadataExt;

use keelbox::{Container, Kind, Profile};
use keelbox_testkit::{self as testkit, require};

/// The calls that change an inode, each made on a name that shows the host's null device: `chmod`, `chown` and `utimensat` with
/// what is there already or now, so that a container that can does no harm.
fn changes(path: &str) -> [String; 3] {
    let [chmod, chown, times] = if cfg!(target_arch = "aarch64") { [53, 54, 88] } else { [268, 260, 280] };
    [
        format!("/probe syscall {chmod} -100 @{path} 438"),
        format!("/probe syscall {chown} -100 @{path} 0 0 0"),
        format!("/probe syscall {times} -100 @{path} 0 0"),
    ]
}

fn changed() -> testkit::Result<(i64, i64)> {
    let metadata = std::fs::metadata("/dev/null")?;
    Ok((metadata.ctime(), metadata.ctime_nsec()))
}

fn check(container: impl Fn() -> Container, paths: &[&str]) -> testkit::Result {
    for path in paths {
        for call in changes(path) {
            let before = changed()?;
            let out = container().args(call.split(' ')).output()?;
            assert_eq!(changed()?, before, "{call} reached the host: {out:?}");
            assert!(out.text().trim().starts_with('-'), "{call}: {out:?}");
        }
    }
    Ok(())
}

#[test]
fn of_masks() -> testkit::Result {
    require!(Root);
    let root = testkit::probe_root()?;
    check(|| Container::from_rootfs(root.path()), &["/proc/interrupts", "/proc/keys"])?;
    check(|| Container::from_rootfs(root.path()).capability("fowner").capability("chown"), &["/proc/keys"])?;
    let out = Container::from_rootfs(root.path()).args(["/probe", "cat", "/proc/keys"]).output()?;
    assert!(out.status.success() && out.stdout.is_empty(), "{out:?}");
    Ok(())
}

/// What the runs of a template share, none changes for the others.
#[test]
fn of_masks_of_a_template() -> testkit::Result {
    require!(Root);
    let root = testkit::probe_root()?;
    let template = Container::from_rootfs(root.path()).args(["/probe", "true"]).template()?;
    let mode =
        || -> testkit::Result<String> { Ok(template.args(["/probe", "stat", "/dev/null"]).output()?.text().into()) };
    let before = mode()?;
    for path in ["/proc/keys", "/dev/null"] {
        for call in changes(path) {
            let out = template.args(call.split(' ')).output()?;
            assert!(out.text().trim().starts_with('-'), "{call}: {out:?}");
            assert_eq!(mode()?, before);
        }
    }
    Ok(())
}

/// The host's nodes are bound where none can be made; the host's root may be root inside.
#[test]
fn of_devices_in_user_namespaces() -> testkit::Result {
    require!(Root, UserNamespace);
    let root = testkit::probe_root()?;
    let container = || Container::from_rootfs(root.path()).unshare(Kind::User);
    check(container, &["/dev/null", "/proc/keys"])?;
    check(|| container().profile(Profile::Trusted), &["/dev/null"])?;
    let out = container().args(["/probe", "write", "/dev/null", "text"]).output()?;
    assert!(out.status.success(), "a node on a read-only mount can be written to: {out:?}");
    Ok(())
}
