//! A2, the process: capabilities, users and groups, environment, terminals of the host, files that are put in.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use keelbox::{Container, ErrorKind, Profile, Stdio};
use keelbox_testkit::{self as testkit, alone, probe_root, require};

use crate::common::{self, Small, value};
use crate::support::{Bundle, Watch};

/// Puts something at a path.
type Make<'a> = &'a dyn Fn(&Path) -> std::io::Result<()>;

const NONE: &str = "0000000000000000";

/// CVE-2022-24769, CVE-2022-29162, CVE-2025-27612: a program with capabilities of its own file, in an image, gains none that were
/// not asked for, whichever way it is started.
#[test]
fn a2_04_a2_05_file_capabilities_gain_nothing() -> testkit::Result {
    require!(Root, Program("setcap"));
    let root = probe_root()?;
    let capped = root.path().join("bin/capped");
    common::run(Command::new("cp").arg(root.path().join("probe")).arg(&capped))?;
    common::run(Command::new("setcap").args(["cap_net_raw,cap_sys_admin,cap_chown+ei"]).arg(&capped))?;
    let run = |profile| Container::from_rootfs(root.path()).profile(profile).user("1000:1000");
    for container in [run(Profile::Ordinary), run(Profile::Ordinary).new_privileges(), run(Profile::Trusted)] {
        let process = container.clone().args(["/probe", "sleep", "60000"]).stdin(Stdio::null()).spawn()?;
        let outputs =
            [container.args(["/bin/capped", "caps"]).output()?, process.exec(["/bin/capped", "caps"]).output()?];
        for out in outputs {
            for key in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
                assert_eq!(value(&out.text(), key), NONE, "{key} {out:?}");
            }
        }
    }
    // What is added is gained, so that a file that asks for it is executed at all; and nothing beside it.
    let added = run(Profile::Ordinary).capability("net_raw").args(["/bin/capped", "caps"]).output();
    if let Ok(out) = added {
        assert_eq!(value(&out.text(), "CapEff:"), "0000000000002000", "{out:?}");
    }
    Ok(())
}

/// CVE-2026-30892, CVE-2024-40635, CVE-2026-46680: what is a number is that number, and what is none is refused. Never root.
#[test]
fn a2_06_a2_07_users_as_they_are_written() -> testkit::Result {
    require!(Root);
    alone!();
    let watch = Watch::begin()?;
    let root = probe_root()?;
    let passwd = root.path().join("etc/passwd");
    let own = fs::read_to_string(&passwd)?;
    fs::write(&passwd, own + "4294967296:x:0:0::/:/probe\n1x:x:0:0::/:/probe\n007:x:0:0::/:/probe\n")?;
    let process =
        Container::from_rootfs(root.path()).args(["/probe", "sleep", "60000"]).stdin(Stdio::null()).spawn()?;
    let run = |user: &str| Container::from_rootfs(root.path()).user(user).args(["/probe", "id"]).output();
    let exec = |user: &str| process.exec(["/probe", "id"]).user(user).output();
    for (user, uid, gid) in [
        ("0", 0, 0),
        ("1", 1, 0),
        ("65534", 65534, 65534),
        ("2147483647", 2_147_483_647, 0),
        ("2147483648", 2_147_483_648_u32, 0),
        ("4294967294", 4_294_967_294, 0),
        ("1000:2000", 1000, 2000),
        ("user", 1000, 1000),
        ("user:extra", 1000, 2000),
        ("7:user", 7, 1000),
    ] {
        for out in [run(user)?, exec(user)?] {
            assert!(
                out.text().starts_with(&format!("uid {uid} {uid} {uid}\ngid {gid} {gid} {gid}\n")),
                "{user}: {out:?}"
            );
        }
    }
    let long = "9".repeat(100);
    let refused = [
        "-1",
        "",
        " 1",
        "0x1",
        "1:",
        ":1",
        "\u{ff0b}1",
        "+0",
        "4294967295",
        "4294967296",
        "1:4294967295",
        "1:-1",
        "1\n",
        "nemo",
        &long,
    ];
    for user in refused {
        for outcome in [run(user), exec(user)] {
            let error = watch.refused(user, outcome, &["user"]);
            assert_eq!(error.kind(), ErrorKind::UnknownUser, "{user:?}: {error:?}");
        }
    }
    drop(process);
    watch.end();
    Ok(())
}

/// A list of users that is none: a link out, a device without an end, a pipe that nobody writes to, more than can be read.
#[test]
fn a2_06_lists_of_users_that_are_none() -> testkit::Result {
    require!(Root);
    alone!();
    let watch = Watch::begin()?;
    let root = probe_root()?;
    let passwd = root.path().join("etc/passwd");
    let endless = |path: &Path| File::create(path)?.set_len(10 << 30);
    let make: [(&str, Make<'_>); 6] = [
        ("a link out", &|path| symlink("/etc/shadow", path)),
        ("a link up", &|path| symlink("../../../../../etc/shadow", path)),
        ("an endless device", &|path| symlink("/dev/zero", path)),
        ("a pipe", &|path| Ok(nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU)?)),
        ("a directory", &|path| fs::create_dir(path)),
        ("ten gigabytes", &endless),
    ];
    for (what, make) in make {
        let _gone = fs::remove_file(&passwd).or_else(|_| fs::remove_dir(&passwd));
        make(&passwd)?;
        let begun = Instant::now();
        let error = Container::from_rootfs(root.path()).user("root").args(["/probe", "true"]).output();
        let error = watch.refused(what, error, &["passwd"]);
        assert_eq!(error.kind(), ErrorKind::UnknownUser, "{what}: {error:?}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{what}: {:?}", begun.elapsed());
    }
    watch.end();
    Ok(())
}

/// CVE-2022-2989, CVE-2022-2990, CVE-2022-2995, CVE-2023-25173: what a group may not, no member of it may, whether it is the first of
/// its groups or a further one, and also once a program has changed to another group.
#[test]
fn a2_08_a_group_that_may_less_than_others() -> testkit::Result {
    require!(Root);
    let root = probe_root()?;
    let file = root.path().join("barred");
    fs::write(&file, "for others")?;
    chown(&file, Some(0), Some(2000))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o604))?;
    // A program that changes to another group, as a set-group-ID file does.
    let changing = root.path().join("bin/changing");
    common::run(Command::new("cp").arg(root.path().join("probe")).arg(&changing))?;
    chown(&changing, Some(0), Some(3000))?;
    fs::set_permissions(&changing, fs::Permissions::from_mode(0o2755))?;
    let run = || Container::from_rootfs(root.path()).new_privileges();
    let process = run().args(["/probe", "sleep", "60000"]).stdin(Stdio::null()).spawn()?;
    for (user, barred) in [("1000:2000", true), ("1000:2001", false), ("user", true), ("0:2001", false)] {
        for program in ["/probe", "/bin/changing"] {
            let read = [program, "cat", "/barred"];
            for out in [run().user(user).args(read).output()?, process.exec(read).user(user).output()?] {
                assert_eq!(out.text() == "for others", !barred, "{user} by {program}: {out:?}");
            }
        }
    }
    Ok(())
}

/// CVE-2022-1227, CVE-2026-41567, CVE-2019-14271: no program and no library of the image is used by us.
#[test]
fn a2_09_programs_of_the_image_are_not_ours() -> testkit::Result {
    require!(Root, Overlay, Program("busybox"));
    alone!();
    let small = Small::made(r#""Cmd":["true"],"Env":["PATH=/bin"],"User":"user""#, |root| {
        for directory in ["usr/bin", "usr/sbin", "sbin", "usr/lib", "lib", "lib64", "etc/ld.so.conf.d"] {
            fs::create_dir_all(root.join(directory))?;
        }
        for name in [
            "tar",
            "xz",
            "unpigz",
            "gzip",
            "nsenter",
            "newuidmap",
            "newgidmap",
            "mount",
            "umount",
            "iptables",
            "ip",
            "criu",
            "getent",
        ] {
            for directory in ["usr/bin", "usr/sbin", "sbin"] {
                let path = root.join(directory).join(name);
                fs::write(&path, "#!/bin/sh\necho pwned > /pwned\n")?;
                fs::set_permissions(&path, fs::Permissions::from_mode(0o4755))?;
            }
        }
        for name in
            ["lib/libnss_files.so.2", "lib64/ld-linux-x86-64.so.2", "etc/ld.so.preload", "usr/lib/gconv-modules"]
        {
            fs::write(root.join(name), "/lib/evil.so\n")?;
        }
        fs::write(root.join("etc/nsswitch.conf"), "passwd: evil\ngroup: evil\n")
    })?;
    let watch = Watch::begin()?;
    let mut process = small.container()?.args(["sleep", "60000"]).keep_changes().stdin(Stdio::null()).spawn()?;
    assert!(process.exec(["true"]).user("user").output()?.status.success());
    assert!(
        process.exec(["test", "!", "-e", "/pwned"]).output()?.status.success(),
        "something of the image was executed"
    );
    process.kill()?;
    process.wait()?;
    drop(process);
    watch.end();
    Ok(())
}

/// CVE-2020-14370, CVE-2026-57231: a variable that the image names and gives no value is not filled in from the host.
#[test]
fn a2_11_nothing_of_the_hosts_environment_comes_in() -> testkit::Result {
    require!(Root, Overlay);
    if std::env::var_os("SECRET").is_none() {
        let inner = Command::new(std::env::current_exe()?)
            .args(["--exact", "a2_process::a2_11_nothing_of_the_hosts_environment_comes_in", "--test-threads=1"])
            .envs([("SECRET", "the host's"), ("HOME", "/the-hosts"), ("LD_PRELOAD", "/the-hosts.so")])
            .output()?;
        assert!(inner.status.success() && String::from_utf8_lossy(&inner.stdout).contains("1 passed"), "{inner:?}");
        return Ok(());
    }
    let environment = |container: Container| -> testkit::Result<String> {
        let process = container.clone().args(["/probe", "sleep", "60000"]).stdin(Stdio::null()).spawn()?;
        let text = container.args(["/probe", "env"]).output()?.text().into_owned();
        assert_eq!(process.exec(["/probe", "env"]).output()?.text(), text);
        let first = fs::read_to_string(format!("/proc/{}/environ", process.id()))?;
        assert_eq!(first.replace('\0', "\n"), text);
        Ok(text)
    };
    let usual = environment(Container::from_rootfs(probe_root()?.path()))?;
    assert!(usual.lines().all(|line| line.starts_with("PATH=") || line == "HOME=/"), "{usual}");
    for env in [
        r#""SECRET""#,
        r#""SECRET*""#,
        r#""*""#,
        r#""=x""#,
        r#""""#,
        r#""A\n=b""#,
        r#""$SECRET=x","A=$SECRET""#,
        r#""A=${SECRET}""#,
    ] {
        let small = Small::probe(&format!(r#""Cmd":["/probe"],"Env":[{env}]"#))?;
        let text = environment(small.container()?)?;
        assert!(!text.contains("the host") && !text.contains("hosts"), "{env}: {text}");
    }
    // A NUL byte would cut it short.
    let small = Small::probe(r#""Cmd":["/probe"],"Env":["SECRET\u0000=x"]"#)?;
    match small.container() {
        Ok(container) => assert!(!environment(container)?.contains("SECRET")),
        Err(error) => assert!(error.to_string().contains("Env"), "{error}"),
    }
    Ok(())
}

/// CVE-2017-5226: a program that inherits the host's terminal cannot type into it, whatever it may call.
#[test]
fn a2_12_the_hosts_terminal_is_not_typed_into() -> testkit::Result {
    require!(Root, Tty);
    alone!();
    let watch = Watch::begin()?;
    let root = probe_root()?;
    let pty = nix::pty::openpty(None, None)?;
    // A container that may make any call, without privilege over terminals: what is left is that it is not its terminal.
    let without_filter = |user: &str| Container::from_rootfs(root.path()).no_seccomp().user(user);
    let runs =
        [without_filter("0"), without_filter("1000"), Container::from_rootfs(root.path()).profile(Profile::Hostile)];
    for run in runs {
        for call in [["16", "0", "0x5412", "@x"], ["16", "0", "0x541c", "buffer"]] {
            let args = ["/probe", "syscall"].into_iter().chain(call);
            let slave = pty.slave.as_fd().try_clone_to_owned()?;
            let out = run.clone().args(args).stdin(Stdio::from(File::from(slave))).output()?;
            assert!(out.text().starts_with('-'), "it was allowed: {out:?}");
        }
        let slave = pty.slave.as_fd().try_clone_to_owned()?;
        let out = run.args(["/probe", "session"]).stdin(Stdio::from(File::from(slave))).output()?;
        let number = |key: &str| value(&out.text(), key).to_owned();
        assert_eq!(number("session "), number("pid "), "a session of its own: {out:?}");
    }
    // Nothing was typed: the next line is the one that the host types.
    nix::unistd::write(&pty.master, b"host\n")?;
    let mut line = [0; 16];
    let length = nix::unistd::read(&pty.slave, &mut line)?;
    assert_eq!(&line[..length], b"host\n");
    drop(pty);
    watch.end();
    Ok(())
}

/// CVE-2025-24965: a file that is put in replaces what is there, inside, whatever that is, and nobody waits for a pipe.
#[test]
fn a2_15_files_that_are_put_in_where_something_is() -> testkit::Result {
    require!(Root, Overlay, Program("mknod"));
    alone!();
    let watch = Watch::begin()?;
    let outside = watch.outside().to_owned();
    let make: [(&str, Make<'_>); 7] = [
        ("a link out", &|path| symlink(outside.join("file"), path)),
        ("a link to nowhere", &|path| symlink(outside.join("made"), path)),
        ("a link up", &|path| symlink("../../../../../../../etc/passwd", path)),
        ("a pipe", &|path| Ok(nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU)?)),
        ("a directory", &|path| fs::create_dir(path)),
        ("a device", &|path| common::run(Command::new("mknod").arg(path).args(["c", "1", "5"])).map(drop)),
        ("a magic link", &|path| symlink("/proc/self/exe", path)),
    ];
    for (what, make) in make {
        let root = probe_root()?;
        make(&root.path().join("etc/injected"))?;
        let small = Small::made(r#""Cmd":["true"],"Env":["PATH=/bin"]"#, |root| make(&root.join("etc/injected")))?;
        let bare = Container::from_rootfs(root.path()).args(["/probe", "cat", "/etc/injected"]);
        for (how, container) in [("a directory", bare), ("an image", small.container()?.args(["cat", "/etc/injected"]))]
        {
            let begun = Instant::now();
            let outcome = container.file("/etc/injected", "injected").output();
            assert!(begun.elapsed() < Duration::from_secs(30), "{what} in {how}");
            watch.unchanged();
            match outcome {
                Ok(out) => assert_eq!(out.text(), "injected", "{what} in {how}: {out:?}"),
                Err(error) => {
                    watch.refused(what, Err::<(), _>(error), &["step ", "/etc/injected"]);
                }
            }
        }
        let kept = fs::symlink_metadata(root.path().join("etc/injected"))?;
        assert!(!kept.is_file() || what == "a link to nowhere", "{what} in the host's directory was replaced");
        assert_eq!(kept.nlink().min(1), 1);
    }
    watch.end();
    Ok(())
}

/// CVE-2021-43784: sizes at and beyond every limit either work exactly or are refused.
#[test]
fn a2_16_sizes_that_overflow() -> testkit::Result {
    require!(Root);
    alone!();
    let watch = Watch::begin()?;
    let root = probe_root()?;
    let mut bundle = Bundle::new(root.path(), &["/probe", "id"])?;
    let map = |count: u32| -> Vec<serde_json::Value> {
        let one = |index: u32| serde_json::json!({ "containerID": index, "hostID": 100_000 + index, "size": 1 });
        (0..count).map(one).collect()
    };
    bundle.config["linux"]["namespaces"].as_array_mut().ok_or("a list")?.push(serde_json::json!({ "type": "user" }));
    for (count, works) in [(1, true), (340, true), (341, false), (5000, false), (65_536, false)] {
        bundle.config["linux"]["uidMappings"] = map(count).into();
        bundle.config["linux"]["gidMappings"] = map(count).into();
        match bundle.output() {
            Ok(out) => {
                assert!(works, "{count} mappings");
                assert!(out.text().starts_with("uid 0 0 0\ngid 0 0 0\n"), "{out:?}");
            }
            Err(error) if works && error.report().contains("map") && error.kind() == ErrorKind::PermissionDenied => {}
            Err(error) => {
                assert!(!works, "{count} mappings: {error:?}");
                watch.refused("mappings", Err::<(), _>(error), &["appings"]);
            }
        }
    }
    for (length, works) in
        [(65_535, true), (65_536, true), (131_000, true), (131_072, false), (200_000, false), (16 << 20, false)]
    {
        let text = "x".repeat(length);
        let out = Container::from_rootfs(root.path()).args(["/probe", "args", &text]).output();
        match out {
            Ok(out) => {
                assert!(works && out.text().ends_with(&format!("{text}\n")), "{length} bytes");
            }
            Err(error) => {
                assert!(!works, "{length} bytes: {error:?}");
                let report = error.report();
                assert!(report.len() < 5000 && error.kind() != ErrorKind::Other, "{length}: {}", &report[..200]);
            }
        }
    }
    watch.end();
    Ok(())
}

/// A terminal's program cannot give anything to the one that started it but what it prints.
#[test]
fn a2_12_a_terminal_of_its_own_is_its_own() -> testkit::Result {
    require!(Root, Tty);
    let root = probe_root()?;
    let run = Container::from_rootfs(root.path()).terminal(keelbox::Terminal::size(24, 80));
    let mut process = run.args(["/probe", "session"]).spawn()?;
    let mut text = String::new();
    process.terminal().ok_or("a terminal")?.read_to_string(&mut text)?;
    assert!(process.wait()?.success());
    assert!(text.contains("session 1\r\n"), "{text:?}");
    Ok(())
}
