//! A1, root file systems that were prepared: links in the place of mount points and devices, false devices, paths that lead out.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use keelbox::{Container, ErrorKind, Profile};
use keelbox_testkit::{self as testkit, alone, probe_root, require};
use serde_json::json;

use crate::common::{self, Small};
use crate::support::{Bundle, Watch, rounds};

/// What a link in the place of a mount point may say.
fn targets(outside: &Path, own: &str) -> Vec<String> {
    let outside = outside.join("directory").display().to_string();
    vec![
        outside.clone(),
        format!("../../../../../../../../..{outside}"),
        format!("/proc/self/root{outside}"),
        "/nowhere".into(),
        own.into(),
        "/tmp".into(),
        "/chain39".into(),
    ]
}

/// 39 links, one after the other: the last that the kernel follows leads out, if it leads anywhere.
fn chain(root: &Path, outside: &Path) -> std::io::Result<()> {
    symlink(outside, root.join("chain1"))?;
    (2..40).try_for_each(|number| symlink(format!("chain{}", number - 1), root.join(format!("chain{number}"))))
}

/// CVE-2019-19921, CVE-2023-27561, CVE-2023-28642, CVE-2025-54867: every standard mount, every kind of link in its place. The
/// kernel's own files are refused there; anything else happens inside or not at all.
#[test]
fn a1_03_a1_04_a1_11_standard_mounts_on_links() -> testkit::Result {
    require!(Root);
    alone!();
    let watch = Watch::begin()?;
    let (mut ran, mut refused) = (0, 0);
    for place in ["proc", "sys", "dev", "dev/pts", "dev/shm", "dev/mqueue", "sys/fs/cgroup"] {
        for target in targets(watch.outside(), place) {
            let root = probe_root()?;
            chain(root.path(), watch.outside())?;
            let at = root.path().join(place);
            fs::create_dir_all(&at)?;
            fs::remove_dir(&at)?;
            symlink(&target, &at)?;
            let bundle = Bundle::new(root.path(), &["/probe", "escape", &watch.secret()])?;
            let below = place.contains('/');
            // What lies below another mount has to be seen: then that one is not there.
            let mut bundle = if below { bundle.without("/dev").without("/dev/pts").without("/sys") } else { bundle };
            if below {
                bundle = bundle.mount(&format!("/{place}"), "tmpfs", "tmpfs", &["size=4096"]);
            }
            bundle.config["linux"]["maskedPaths"] = json!(["/proc/kcore", "/sys/firmware", "/proc/keys"]);
            bundle.config["linux"]["readonlyPaths"] = json!(["/proc/sys", "/proc/bus"]);
            let what = format!("{place} → {target}");
            if matches!(place, "proc" | "sys") {
                let error = watch.refused(&what, bundle.output(), &["step ", &format!("on /{place}")]);
                assert_ne!(error.kind(), ErrorKind::Invalid, "{what}");
                refused += 1;
            } else if watch.contained(&what, bundle.output()) {
                ran += 1;
            }
        }
    }
    assert!(ran >= 5 && refused == 14, "{ran} ran, {refused} were refused");
    watch.end();
    Ok(())
}

/// A hidden path whose way is a link: what is hidden is what the path means inside, and nothing outside is touched.
#[test]
fn a1_04_masks_through_links() -> testkit::Result {
    require!(Root, Program("busybox"));
    alone!();
    let watch = Watch::begin()?;
    let root = common::root()?;
    fs::write(root.path().join("etc/hidden"), "secret")?;
    symlink("etc", root.path().join("way"))?;
    symlink(watch.outside(), root.path().join("out"))?;
    let mut bundle = Bundle::new(root.path(), &["sh", "-c", "cat /etc/hidden | wc -c; echo x > /etc/passwd"])?;
    let outside = watch.outside().join("file").display().to_string();
    bundle.config["linux"]["maskedPaths"] = json!(["/way/hidden", "/out/secret", outside]);
    bundle.config["linux"]["readonlyPaths"] = json!(["/way/passwd", "/out/file"]);
    let out = bundle.output()?;
    assert_eq!(out.text(), "0\n", "{out:?}");
    assert!(String::from_utf8_lossy(&out.stderr).contains("Read-only file system"), "{out:?}");
    assert_eq!(fs::read(root.path().join("etc/hidden"))?, b"secret");
    watch.end();
    Ok(())
}

/// CVE-2026-41579, CVE-2026-47766: devices and links are made in `/dev` whatever that is, and never outside.
#[test]
fn a1_10_devices_in_a_dev_that_leads_out() -> testkit::Result {
    require!(Root);
    alone!();
    let outside = tempfile::tempdir()?;
    fs::write(outside.path().join("ptmx"), "marker")?;
    let watch = Watch::over(&[outside.path()])?;
    let out = outside.path().display().to_string();
    let links = [out.clone(), format!("../../../../../../..{out}"), format!("/proc/self/root{out}"), "/chain39".into()];
    for (place, mounted) in [("dev", false), ("dev", true), ("dev/pts", false), ("dev/fd", false), ("dev/shm", false)] {
        for link in &links {
            for read_only in [false, true] {
                let root = probe_root()?;
                chain(root.path(), outside.path())?;
                let at = root.path().join(place);
                let _absent = fs::remove_dir(&at);
                symlink(link, &at)?;
                let bundle = Bundle::new(root.path(), &["/probe", "escape", &watch.secret()])?;
                let bundle = bundle.without("/dev/pts");
                let mut bundle = if mounted { bundle } else { bundle.without("/dev") };
                bundle.config["root"]["readonly"] = read_only.into();
                watch.contained(&format!("{place} → {link}"), bundle.output());
            }
        }
    }
    watch.end();
    Ok(())
}

/// A device whose path climbs, or leads through a link.
#[test]
fn a1_10_devices_by_a_path_that_leads_out() -> testkit::Result {
    require!(Root);
    alone!();
    let watch = Watch::begin()?;
    let root = probe_root()?;
    symlink(watch.outside(), root.path().join("out"))?;
    let climbing = format!("/dev/x/../../../../../../..{}/made", watch.outside().display());
    for path in [climbing.as_str(), "/out/made", "/dev/../out/made", "relative"] {
        let mut bundle = Bundle::new(root.path(), &["/probe", "escape", &watch.secret()])?;
        bundle.config["linux"]["devices"] = json!([{ "path": path, "type": "c", "major": 1, "minor": 3 }]);
        match bundle.output() {
            Err(error) if error.kind() == ErrorKind::Invalid => {
                watch.refused(path, Err::<(), _>(error), &["/linux/devices/0/path"]);
            }
            outcome => assert!(!watch.contained(path, outcome), "{path} was made"),
        }
    }
    watch.end();
    Ok(())
}

/// Whether a device of the host, under a name that an image brings, can be opened by a program of this profile.
fn opens(root: &Path, profile: Profile, user: &str) -> testkit::Result<bool> {
    let run = Container::from_rootfs(root).profile(profile).user(user).args(["sh", "-c", "(: < /evil) && echo opened"]);
    let out = run.output()?;
    assert!(out.text() == "opened\n" || String::from_utf8_lossy(&out.stderr).contains("/evil"), "{out:?}");
    Ok(out.text() == "opened\n")
}

/// An image may hold nodes for any device of the host, which root inside, or with such a mode anybody, could open.
#[test]
fn a3_03_devices_that_an_image_brings() -> testkit::Result {
    require!(Root, Overlay, Program("busybox"), Program("mknod"), Exists("/dev/net/tun"));
    alone!();
    let watch = Watch::begin()?;
    let root = common::root()?;
    // Harmless to open; but it stands for the disk.
    let node = root.path().join("evil");
    common::run(Command::new("mknod").args(["-m", "666"]).arg(&node).args(["c", "10", "200"]))?;
    assert!(opens(root.path(), Profile::Trusted, "0")?, "the node is good, so the rest says something");
    for profile in [Profile::Ordinary, Profile::Hostile] {
        for user in ["0", "1000"] {
            assert!(!opens(root.path(), profile, user)?, "{profile:?}, user {user}");
        }
        let script = "(: < /evil) && echo opened; (: < /dev/null) && echo null";
        let small = Small::made(r#""Cmd":["sh"],"Env":["PATH=/bin"]"#, |root| {
            common::run(Command::new("mknod").args(["-m", "666"]).arg(root.join("evil")).args(["c", "10", "200"]))?;
            Ok(())
        })?;
        let run = || small.container().map(|container| container.profile(profile).args(["sh", "-c", script]));
        assert_eq!(run()?.output()?.text(), "null\n", "{profile:?}, an image");
        assert_eq!(run()?.keep_changes().output()?.text(), "null\n", "{profile:?}, an image whose changes are kept");
        assert_eq!(run()?.template()?.run().output()?.text(), "null\n", "{profile:?}, a template");
    }
    watch.end();
    Ok(())
}

/// A volume or a destination that names a descriptor of the stage or of the host.
#[test]
fn a1_14_magic_links_are_no_place() -> testkit::Result {
    require!(Root);
    alone!();
    let watch = Watch::begin()?;
    let root = probe_root()?;
    let open: Vec<_> = (0..20).map(|_| fs::File::open(watch.outside())).collect::<Result<_, _>>()?;
    let mut places: Vec<String> = (3..rounds(24, 128)).map(|number| format!("/proc/self/fd/{number}")).collect();
    places.extend(["/proc/self/root".into(), "/proc/1/cwd".into(), "/proc/thread-self/root".into()]);
    for place in &places {
        let bundle = Bundle::new(root.path(), &["/probe", "true"])?;
        let bundle = bundle.mount(place, "tmpfs", "tmpfs", &["size=4096"]);
        watch.refused(place, bundle.output(), &["step ", place]);
        let mut bundle = Bundle::new(root.path(), &["/probe", "true"])?;
        bundle.config["process"]["cwd"] = place.as_str().into();
        watch.refused(place, bundle.output(), &["step ", place]);
    }
    for place in ["/proc/self/root/..", "/proc/self/fd/../../../.."] {
        let mut bundle = Bundle::new(root.path(), &["/probe", "escape", &watch.secret()])?;
        bundle.config["process"]["cwd"] = place.into();
        watch.contained(place, bundle.output());
    }
    drop(open);
    watch.end();
    Ok(())
}

/// CVE-2024-5154, CVE-2022-23648, CVE-2015-3629: volumes that an image names are not the host's to fill. They mean nothing here.
#[test]
fn a1_15_volumes_of_an_image() -> testkit::Result {
    require!(Root, Overlay, Program("busybox"));
    alone!();
    let watch = Watch::begin()?;
    let outside = watch.outside().display().to_string();
    let volumes =
        format!(r#""Volumes":{{"/../../..{outside}":{{}},"/link/x":{{}},"/":{{}},"/proc":{{}}}},"Env":["PATH=/bin"]"#);
    let small = Small::made(&volumes, |root| symlink("/", root.join("link")))?;
    let out = small.container()?.args(["probe", "escape", &watch.secret()]).output();
    assert!(watch.contained("volumes", out));
    let out = small.container()?.args(["sh", "-c", "test -e /x || awk '{ print $2 }' /proc/mounts"]).output()?;
    assert!(!out.text().lines().any(|point| point.contains("link") || point.contains(&outside)), "{out:?}");
    watch.end();
    Ok(())
}

/// CVE-2026-55686: a working directory that leads out by a link of the image is made inside, or refused.
#[test]
fn a1_16_a_working_directory_of_an_image() -> testkit::Result {
    require!(Root, Overlay, Program("busybox"));
    alone!();
    let watch = Watch::begin()?;
    let outside = watch.outside().to_owned();
    for target in
        [outside.clone(), Path::new("../../../..").join(outside.strip_prefix("/")?), "/proc/self/root/tmp".into()]
    {
        let small = Small::made(r#""WorkingDir":"/a/b/c","User":"1000","Env":["PATH=/bin"]"#, |root| {
            fs::create_dir_all(root.join("made").join(outside.strip_prefix("/").unwrap_or(&outside)))?;
            symlink(&target, root.join("a"))
        })?;
        let what = target.display().to_string();
        watch.contained(&what, small.container()?.args(["probe", "escape", &watch.secret()]).output());
    }
    watch.end();
    Ok(())
}
