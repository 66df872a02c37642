//! A real Debian image, as root and as an ordinary user. Slow the first time: it is made by debootstrap.

mod common;

use common::Small;
use keelbox::crates::image_spec::{Collector, Store};
use keelbox::{Container, Image, MIB, Reason, Runtime, Signal, Stdio};
use keelbox_testkit::{self as testkit, as_user, require};

fn debian() -> testkit::Result<Image> {
    let layout = testkit::debian_layout()?;
    Ok(Image::open(&format!("oci:{}", layout.display()))?)
}

#[test]
fn a_debian_program_runs_limited_as_root() -> testkit::Result {
    require!(Root, Slow, Cgroup("memory"), Cgroup("pids"));
    let store = tempfile::tempdir()?;
    let run = || -> testkit::Result<Container> { Ok(Container::from_image(&debian()?).store(store.path())) };
    let out = run()?.args(["sh", "-c", "cat /etc/os-release; id"]).memory(64 * MIB).pids(32).output()?;
    assert_eq!(out.status.reason(), Reason::Exited(0), "{out:?}");
    assert!(out.text().contains("Debian GNU/Linux"), "{}", out.text());
    assert!(out.text().contains("uid=0(root)"), "{}", out.text());
    let out = run()?
        .user("www-data")
        .args(["sh", "-c", "id; touch /x; rm -rf / 2>/dev/null; ls /usr/bin | wc -l"])
        .output()?;
    assert!(out.text().starts_with("uid=33(www-data) gid=33(www-data)"), "{}", out.text());
    assert!(!out.text().ends_with("\n0\n"), "an ordinary user inside removed what is not his: {}", out.text());
    let script = "echo hi > /result; rm /etc/motd; mkdir /srv/new";
    let out = run()?.keep_changes().args(["sh", "-c", script]).output()?;
    assert_eq!(out.changes()?.read("/result")?, b"hi\n");
    let paths: Vec<_> = out.changes()?.diff()?.into_iter().map(|change| change.path).collect();
    assert!(paths.iter().any(|path| path.ends_with("etc/motd")), "{paths:?}");
    Ok(())
}

#[test]
fn a_debian_program_runs_as_an_ordinary_user() -> testkit::Result {
    require!(OrdinaryUser, UserNamespace, Slow);
    let readable = std::path::PathBuf::from("/var/tmp/keelbox-debian-for-everybody");
    let _removed;
    if nix::unistd::geteuid().is_root() {
        // The cached layout is root's own; an ordinary user gets a copy.
        let copied =
            std::process::Command::new("cp").arg("-rT").arg(testkit::debian_layout()?).arg(&readable).status()?;
        let opened = std::process::Command::new("chmod").args(["-R", "a+rX"]).arg(&readable).status()?;
        assert!(copied.success() && opened.success());
        _removed = Remove(readable.clone());
    }
    as_user!();
    let store = tempfile::tempdir()?;
    let image = Image::open(&format!("oci:{}", readable.display()))?;
    let run = || Container::from_image(&image).store(store.path());
    let out = run()
        .args(["sh", "-c", "cat /etc/os-release; id -u; touch /x && ls -ld /x /root; cat /proc/self/uid_map"])
        .output()?;
    assert!(out.status.success(), "{out:?}");
    assert!(out.text().contains("Debian GNU/Linux"));
    println!("{}", out.text());
    let out = run()
        .user("1000:1000")
        .hostname("box")
        .env("LANG", "C.UTF-8")
        .current_dir("/srv")
        .args(["sh", "-c", "id -u; pwd; hostname; echo $LANG"])
        .output()?;
    assert_eq!(out.text(), "1000\n/srv\nbox\nC.UTF-8\n");
    Ok(())
}

/// Whoever collects the garbage of a store leaves alone what containers run from: one that this program holds, and one that
/// would outlive it.
#[test]
fn the_layers_of_a_running_container_are_not_collected() -> testkit::Result {
    require!(Root, Overlay, Program("busybox"));
    let small = Small::busybox(r#""Cmd": ["sleep", "600"]"#)?;
    let store = Store::open(small.store())?;
    let collected = || -> testkit::Result<usize> { Ok(Collector::new(&store).collect()?.layers) };
    let mut process = small.container()?.spawn()?;
    assert_eq!(collected()?, 0);
    assert!(process.exec(["ls", "/bin/busybox"]).output()?.status.success(), "its files are still there");
    process.kill()?;
    process.wait()?;
    drop(process);
    assert_eq!(collected()?, 1);

    let states = tempfile::tempdir()?;
    let runtime = Runtime::at(states.path().join("states"));
    let quiet = |container: Container| container.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let handle = runtime.create(&quiet(small.container()?).build()?, "web-1")?;
    assert_eq!(collected()?, 0, "created");
    handle.start()?;
    assert_eq!(collected()?, 0, "running");
    handle.kill(Signal::KILL)?;
    handle.wait()?;
    handle.delete()?;
    assert_eq!(collected()?, 1, "its end needs no word to the store");
    assert_eq!(std::fs::read_dir(small.store().join("leases"))?.count(), 0);
    Ok(())
}

/// A directory that goes with the test.
struct Remove(std::path::PathBuf);

impl Drop for Remove {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).expect("the copy can be removed");
    }
}
