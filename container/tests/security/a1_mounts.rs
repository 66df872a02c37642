//! A1, what is mounted: the kernel's own files covered by others, terminals, control groups, propagation and locked attributes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use keelbox::{Container, Kind, Profile, Stdio, Terminal};
use keelbox_testkit::{self as testkit, alone, apart, probe_root, require};
use nix::mount::{MsFlags, mount, umount};
use serde_json::json;

use crate::common;
use crate::support::{Bundle, Watch, mounts_below, wait_for};

const NOTHING: Option<&str> = None;

fn bind(source: &Path, target: &Path) -> nix::Result<()> {
    mount(Some(source), target, NOTHING, MsFlags::MS_BIND, NOTHING)
}

/// The value of a parameter as a process in another network namespace reads it.
fn parameter(pid: u32, name: &str) -> std::io::Result<String> {
    let file = format!("/proc/sys/{name}");
    Ok(common::run(Command::new("nsenter").args(["-t", &pid.to_string(), "-n", "cat", &file]))?.trim().to_owned())
}

/// CVE-2019-16884: ordinary files in the place of `/proc` get nothing of what the kernel is told.
#[test]
fn a1_02_files_in_the_place_of_proc() -> testkit::Result {
    require!(Root, Program("nsenter"));
    alone!();
    let root = probe_root()?;
    let fake = root.path().join("fake");
    for name in ["self/attr/apparmor", "self/fd", "sys/net/ipv4", "sys/kernel", "thread-self/attr", "1"] {
        fs::create_dir_all(fake.join(name))?;
    }
    let files = ["self/attr/exec", "self/attr/apparmor/exec", "self/oom_score_adj", "thread-self/attr/exec", "kcore"];
    for name in files.into_iter().chain(["sys/net/ipv4/ip_unprivileged_port_start", "sys/kernel/core_pattern"]) {
        fs::write(fake.join(name), "fake")?;
    }
    let watch = Watch::over(&[&fake])?;
    let mut bundle = Bundle::new(root.path(), &["/probe", "sleep", "60000"])?.without("/proc");
    bundle = bundle.mount("/proc", "bind", &fake.display().to_string(), &["rbind"]);
    bundle.config["process"]["oomScoreAdj"] = 321.into();
    bundle.config["linux"]["sysctl"] = json!({ "net.ipv4.ip_unprivileged_port_start": "77" });
    let process = bundle.container()?.stdin(Stdio::null()).spawn()?;
    assert_eq!(parameter(process.id(), "net/ipv4/ip_unprivileged_port_start")?, "77");
    assert_eq!(fs::read_to_string(format!("/proc/{}/oom_score_adj", process.id()))?, "321\n");
    drop(process);
    watch.end();
    Ok(())
}

/// CVE-2025-52881, CVE-2025-62596: what covers a file below the host's `/proc` does not get what the kernel is told.
#[test]
fn a1_09_kernel_files_that_others_cover() -> testkit::Result {
    require!(Root, MountNamespace, Program("unshare"), Program("nsenter"));
    apart!();
    let (root, place) = (probe_root()?, tempfile::tempdir()?);
    let watch = Watch::over(&["/proc/sys/kernel/core_pattern".as_ref()])?;
    let fake = place.path().join("fake");
    let port = Path::new("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let kernels = ["/proc/self/sched", "/proc/sysrq-trigger", "/proc/self/comm"].map(Path::new);
    for source in std::iter::once(fake.as_path()).chain(kernels.into_iter().filter(|file| file.exists())) {
        fs::write(&fake, "fake")?;
        bind(source, port)?;
        let run = Container::from_rootfs(root.path()).sysctl("net.ipv4.ip_unprivileged_port_start", "78");
        let process = run.oom_score_adj(322).args(["/probe", "sleep", "60000"]).stdin(Stdio::null()).spawn();
        umount(port)?;
        let process = process?;
        assert_eq!(parameter(process.id(), "net/ipv4/ip_unprivileged_port_start")?, "78", "{}", source.display());
        assert_eq!(fs::read_to_string(format!("/proc/{}/oom_score_adj", process.id()))?, "322\n");
        assert_eq!(fs::read(&fake)?, b"fake", "{}", source.display());
        drop(process);
    }
    watch.end();
    Ok(())
}

/// A `/proc` of ordinary files under the whole launch: what has to be told to the kernel is an error, and not a line in a file.
#[test]
fn a1_02_a_host_whose_proc_is_none() -> testkit::Result {
    require!(Root, MountNamespace, Program("unshare"));
    apart!();
    let (root, place) = (probe_root()?, tempfile::tempdir()?);
    let run = || Container::from_rootfs(root.path()).args(["/probe", "true"]);
    assert!(run().oom_score_adj(323).status()?.success());
    let fake = place.path().join("proc");
    fs::create_dir_all(fake.join("self"))?;
    fs::write(fake.join("self/oom_score_adj"), "fake")?;
    bind(&fake, Path::new("/proc"))?;
    let outcome = run().oom_score_adj(323).status();
    umount("/proc")?;
    let error = outcome.expect_err("nobody was told");
    assert!(error.report().contains("/proc/"), "{error:?}");
    assert_eq!(fs::read(fake.join("self/oom_score_adj"))?, b"fake");
    Ok(())
}

/// CVE-2025-52565: what lies in `/dev/console` and `/dev/pts` does not become the terminal, and the terminal covers nothing else.
#[test]
fn a1_08_a_terminal_in_a_dev_that_was_prepared() -> testkit::Result {
    require!(Root, Tty, Program("busybox"));
    alone!();
    let watch = Watch::over(&["/proc/sys/kernel/core_pattern".as_ref()])?;
    let script = "readlink /proc/self/fd/0; cat /proc/self/mountinfo";
    let (mut ran, mut refused) = (0, 0);
    for console in ["nothing", "a directory", "a file", "/proc/sys/kernel/core_pattern", "/dev/pts/0", "/etc/passwd"] {
        for pts in ["devpts", "a link", "a file", "nothing"] {
            let (root, dev) = (common::root()?, tempfile::tempdir()?);
            let at = |name: &str| dev.path().join(name);
            fs::create_dir(at("pts"))?;
            match console {
                "nothing" => {}
                "a directory" => fs::create_dir(at("console"))?,
                "a file" => fs::write(at("console"), "")?,
                target => symlink(target, at("console"))?,
            }
            match pts {
                "a link" => symlink("/proc/sys/kernel/core_pattern", at("pts/ptmx"))?,
                "a file" => fs::write(at("pts/ptmx"), "")?,
                _ => {}
            }
            let bundle = Bundle::new(root.path(), &["sh", "-c", script])?.without("/dev").without("/dev/pts");
            let mut bundle = bundle.mount("/dev", "bind", &dev.path().display().to_string(), &["rbind"]);
            if pts == "devpts" {
                bundle = bundle.mount("/dev/pts", "devpts", "devpts", &["newinstance", "ptmxmode=0666"]);
            }
            bundle.config["process"]["terminal"] = true.into();
            bundle.config["linux"]["readonlyPaths"] = json!(["/proc/sys"]);
            let what = format!("console: {console}, pts: {pts}");
            match run_on_terminal(bundle.container()?) {
                Ok(text) => {
                    assert!(text.starts_with("/dev/pts/0\r\n"), "{what}: {text}");
                    let covers: Vec<_> =
                        mounts_below(&text, "/").into_iter().filter(|(.., kind)| *kind == "devpts").collect();
                    let points: Vec<_> = covers.iter().map(|(point, ..)| *point).collect();
                    assert_eq!(points, ["/dev/pts", "/dev/console"], "{what}: {text}");
                    ran += 1;
                }
                Err(error) => {
                    watch.refused(&what, Err::<(), _>(error), &["step ", "terminal"]);
                    refused += 1;
                }
            }
        }
    }
    assert!(ran >= 3 && refused >= 18, "{ran} ran, {refused} were refused");
    watch.end();
    Ok(())
}

fn run_on_terminal(container: Container) -> keelbox::Result<String> {
    use std::io::Read as _;
    let mut process = container.terminal(Terminal::size(24, 80)).spawn()?;
    let mut text = String::new();
    process.terminal().expect("a terminal").read_to_string(&mut text).expect("it ends when the program does");
    process.wait()?;
    Ok(text)
}

/// CVE-2023-25809: whatever of the control groups is shown, the last mount on each place is read-only.
#[test]
fn a1_05_control_groups_are_read_only() -> testkit::Result {
    require!(Root, Cgroup("pids"), Program("busybox"));
    alone!();
    let variants: [&dyn Fn(Container) -> Container; 3] =
        [&|container| container, &|container| container.share(Kind::Cgroup), &|container| {
            container.unshare(Kind::User)
        }];
    assert!(control_groups_are_read_only(&variants)? > 2);
    Ok(())
}

/// The same for an ordinary user, whose own group could be changed.
#[test]
fn a1_05_control_groups_of_an_ordinary_user_are_read_only() -> testkit::Result {
    require!(OrdinaryUser, UserNamespace, Program("busybox"));
    testkit::as_user!();
    let variants: [&dyn Fn(Container) -> Container; 2] =
        [&|container| container, &|container| container.share(Kind::Cgroup)];
    // There may be none to see: mounting them takes a privilege over the machine where the namespace is the host's.
    control_groups_are_read_only(&variants).map(drop)
}

/// Tells how many mounts were looked at.
fn control_groups_are_read_only(variants: &[&dyn Fn(Container) -> Container]) -> testkit::Result<usize> {
    let watch = Watch::begin()?;
    let root = common::root()?;
    let script = "grep ' /sys/fs/cgroup' /proc/self/mountinfo; for place in $(awk '{ print $5 }' /proc/self/mountinfo | grep ^/sys/fs/cgroup) \
                  /sys/fs/cgroup; do mkdir $place/keelbox-made 2>/dev/null && echo made $place; done; true";
    let mut shown = 0;
    for variant in variants {
        for profile in [Profile::Ordinary, Profile::Trusted] {
            for mounted in [false, true] {
                let run = Container::from_rootfs(root.path()).profile(profile).args(["sh", "-c", script]);
                let group = serde_json::from_value(json!({ "destination": "/sys/fs/cgroup", "type": "cgroup",
                    "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "ro"] }))?;
                let run = if mounted { run.mount_oci(group) } else { run };
                let out = match variant(run).output() {
                    Ok(out) => out,
                    // Without privilege over them they are not mounted, or not at all without a namespace.
                    Err(error) => {
                        watch.refused("control groups", Err::<(), _>(error), &["/sys/fs/cgroup"]);
                        continue;
                    }
                };
                let text = out.text().into_owned();
                assert!(!text.contains("made "), "{profile:?}: {text}");
                let table = mounts_below(&text, "/sys/fs/cgroup");
                for (point, ..) in &table {
                    let last = table.iter().rfind(|(other, ..)| other == point).map(|(_, attributes, _)| *attributes);
                    assert!(last.is_some_and(|last| last.split(',').any(|word| word == "ro")), "{point}: {text}");
                    shown += 1;
                }
            }
        }
    }
    watch.end();
    Ok(shown)
}

/// A container's mounts do not come back to a host whose mounts are shared, and the host's reach it where it was told so.
#[test]
fn a1_18_mounts_do_not_travel() -> testkit::Result {
    require!(Root, MountNamespace, Program("unshare"), Program("busybox"));
    apart!();
    let (host, data) = (tempfile::tempdir()?, tempfile::tempdir()?);
    for directory in [host.path(), data.path()] {
        mount(Some("tmpfs"), directory, Some("tmpfs"), MsFlags::empty(), NOTHING)?;
        mount(NOTHING, directory, NOTHING, MsFlags::MS_SHARED, NOTHING)?;
    }
    let made = common::root()?;
    let root = host.path().join("root");
    common::run(Command::new("cp").arg("-a").arg(made.path()).arg(&root))?;
    fs::create_dir(data.path().join("later"))?;
    let table = || fs::read_to_string("/proc/self/mountinfo");
    let watch = Watch::begin()?;
    let before = table()?;
    let script =
        "mkdir -p /x && mount -t tmpfs none /x && mount -t tmpfs none /data/later && grep -c ^none /proc/mounts";
    let run = || Container::from_rootfs(&root).profile(Profile::Trusted);
    for propagation in ["rslave", "rprivate"] {
        let bound = serde_json::from_value(json!({ "destination": "/data", "type": "bind",
            "source": data.path(), "options": ["rbind", propagation] }))?;
        let out = run().mount_oci(bound).args(["sh", "-c", script]).output()?;
        assert_eq!(out.text(), "2\n", "{out:?}");
        assert_eq!(table()?, before, "{propagation}");
    }
    for (propagation, arrives) in [("rslave", true), ("rprivate", false)] {
        let bound = serde_json::from_value(json!({ "destination": "/data", "type": "bind",
            "source": data.path(), "options": ["rbind", propagation] }))?;
        let process = run().mount_oci(bound).args(["/probe", "sleep", "60000"]).stdin(Stdio::null()).spawn()?;
        mount(Some("none"), &data.path().join("later"), Some("tmpfs"), MsFlags::empty(), NOTHING)?;
        let inside = process.exec(["/probe", "mounts"]).output()?;
        assert_eq!(mounts_below(&inside.text(), "/data/later").len(), usize::from(arrives), "{propagation}");
        drop(process);
        umount(&data.path().join("later"))?;
        assert_eq!(table()?, before, "{propagation}");
    }
    watch.end();
    umount(host.path())?;
    Ok(umount(data.path())?)
}

/// The attributes that a source has stay with it, in a user namespace as well, where the kernel does not let them go.
#[test]
fn a1_19_attributes_of_a_source_stay() -> testkit::Result {
    require!(Root, MountNamespace, Program("unshare"));
    apart!();
    let (root, place) = (probe_root()?, tempfile::tempdir()?);
    let all = [
        (MsFlags::MS_RDONLY, "ro"),
        (MsFlags::MS_NOSUID, "nosuid"),
        (MsFlags::MS_NODEV, "nodev"),
        (MsFlags::MS_NOEXEC, "noexec"),
    ];
    let below = place.path().join("below");
    for bits in 0..16 {
        let chosen = all.iter().enumerate().filter(|(index, _)| bits >> index & 1 == 1).map(|(_, each)| each);
        let flags = chosen.clone().fold(MsFlags::empty(), |flags, (flag, _)| flags | *flag);
        let names: Vec<&str> = chosen.map(|(_, name)| *name).collect();
        mount(Some("tmpfs"), place.path(), Some("tmpfs"), MsFlags::empty(), NOTHING)?;
        fs::create_dir(&below)?;
        mount(Some("tmpfs"), &below, Some("tmpfs"), flags, NOTHING)?;
        mount(NOTHING, place.path(), NOTHING, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | flags, NOTHING)?;
        for (options, sub_read_only) in [(&["rbind"][..], false), (&["rbind", "ro"], false), (&["rbind", "rro"], true)]
        {
            for user in [false, true] {
                let run = Container::from_rootfs(root.path()).args(["/probe", "mounts"]);
                let bound = serde_json::from_value(json!({ "destination": "/data", "type": "bind",
                    "source": place.path(), "options": options }))?;
                let run = run.mount_oci(bound);
                let run = if user { run.unshare(Kind::User) } else { run };
                let text = run.output()?.text().into_owned();
                let table = mounts_below(&text, "/data");
                assert_eq!(
                    table.iter().map(|(point, ..)| *point).collect::<Vec<_>>(),
                    ["/data", "/data/below"],
                    "{text}"
                );
                for (point, attributes, _) in table {
                    let has = |name: &str| attributes.split(',').any(|word| word == name);
                    assert!(
                        names.iter().all(|name| has(name)),
                        "{names:?} {options:?} {user}: {point} is {attributes}"
                    );
                    let read_only = if point == "/data" { options.len() > 1 } else { sub_read_only };
                    assert!(has("ro") || !read_only, "{options:?} {user}: {point} is {attributes}");
                }
            }
        }
        umount(&below)?;
        umount(place.path())?;
    }
    Ok(())
}

/// A mount namespace of somebody else: the root file system is put together there, as was asked for, and not on the host.
#[test]
fn a1_13_a_mount_namespace_of_others() -> testkit::Result {
    require!(Root, MountNamespace, Program("unshare"));
    alone!();
    let watch = Watch::begin()?;
    let root = probe_root()?;
    let mut other = Command::new("unshare").args(["--mount", "--propagation", "private", "sleep", "600"]).spawn()?;
    let namespace = format!("/proc/{}/ns/mnt", other.id());
    let own = fs::read_link("/proc/self/ns/mnt")?;
    wait_for("the other's namespace", || fs::read_link(&namespace).is_ok_and(|link| link != own));
    let mut bundle = Bundle::new(root.path(), &["/probe", "escape", &watch.secret()])?;
    bundle.config["linux"]["namespaces"][0]["path"] = namespace.as_str().into();
    bundle.config["linux"]["readonlyPaths"] = json!(["/proc/sys"]);
    let outcome = bundle.output();
    other.kill()?;
    other.wait()?;
    watch.contained("another mount namespace", outcome);
    watch.end();
    Ok(())
}
