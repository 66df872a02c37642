//! Code that wants to break out: what it tries, and what comes of it, as tables that are kept in the repository.
//!
//! Each row is one system call of the probe in a container of its own. Left out: what system call filters do with every number,
//! which other tests compare with the kernel and with libseccomp.

mod common;

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;

use keelbox::{Container, MIB, Profile, Resource};
use keelbox_testkit::{self as testkit, HostCanary, alone, golden, require};

/// What is tried: a name, the number on x86_64 and the arguments.
const ATTEMPTS: &[(&str, &str)] = &[
    ("mount", "165 @none @/tmp @tmpfs 0 0"),
    ("umount2", "166 @/proc 2"),
    ("pivot_root", "155 @/ @/tmp"),
    ("chroot", "161 @/tmp"),
    ("fsopen", "430 @tmpfs 0"),
    ("open_tree", "428 -100 @/ 1"),
    ("move_mount", "429 -100 @/tmp -100 @/ 0"),
    ("mount_setattr", "442 -100 @/ 0 buffer 32"),
    ("listmount", "458 buffer buffer 1 0"),
    ("unshare user", "272 0x10000000"),
    ("unshare mount", "272 0x20000"),
    ("unshare net", "272 0x40000000"),
    ("setns", "308 0 0"),
    ("clone user", "56 0x10000011 0 0 0 0"),
    ("clone3", "435 buffer 64"),
    ("socket unix", "41 1 1 0"),
    ("socket inet", "41 2 1 0"),
    ("socket inet6", "41 10 1 0"),
    ("socket netlink route", "41 16 3 0"),
    ("socket netlink audit", "41 16 3 9"),
    ("socket packet", "41 17 3 0"),
    ("socket raw", "41 2 3 1"),
    ("socket alg", "41 38 5 0"),
    ("socket vsock", "41 40 1 0"),
    ("socket tipc", "41 30 1 0"),
    ("socket xdp", "41 44 3 0"),
    ("keyctl", "250 0 -3 0 0 0"),
    ("add_key", "248 @user @x @y 1 -3"),
    ("request_key", "249 @user @x 0 -3"),
    ("bpf", "321 0 buffer 64"),
    ("io_uring_setup", "425 8 buffer"),
    ("userfaultfd", "323 0"),
    ("perf_event_open", "298 buffer 0 -1 -1 0"),
    ("ptrace the first process", "101 16 1 0 0"),
    ("process_vm_readv", "310 1 buffer 1 buffer 1 0"),
    ("pidfd_getfd", "438 0 0 0"),
    ("kcmp", "312 1 1 0 0 0"),
    ("process_madvise", "440 0 0 0 0 0"),
    ("open_by_handle_at", "304 -100 buffer 0"),
    ("name_to_handle_at", "303 -100 @/ buffer buffer 0"),
    ("fanotify_init", "300 0 0"),
    ("memfd_secret", "447 0"),
    ("mknod", "133 @/tmp/null 0x21b6 0x103"),
    ("init_module", "175 buffer 1 @x"),
    ("finit_module", "313 0 @x 0"),
    ("delete_module", "176 @x 0"),
    ("kexec_load", "246 0 0 0 0"),
    ("kexec_file_load", "320 0 0 0 @x 0"),
    ("reboot", "169 0 0 0 0"),
    ("swapon", "167 @/nothing 0"),
    ("acct", "163 @/nothing"),
    ("quotactl", "179 0 @/nothing 0 0"),
    ("syslog", "103 10 0 0"),
    ("sethostname", "170 @x 1"),
    ("settimeofday", "164 buffer 0"),
    ("clock_settime", "227 0 0"),
    ("adjtimex", "159 0"),
    ("iopl", "172 3"),
    ("ioperm", "173 0 1 1"),
    ("modify_ldt", "154 0 buffer 1"),
    ("vhangup", "153"),
    ("nice", "141 0 0 -5"),
    ("sched_setscheduler", "144 0 1 buffer"),
    ("setpriority of another", "141 1 1 0"),
    ("personality", "135 0x40000"),
    ("ioctl TIOCSTI", "16 0 0x5412 @x"),
    ("ioctl TIOCLINUX", "16 0 0x541c buffer"),
    ("ioctl TIOCSTI with high bits", "16 0 0x100005412 @x"),
    ("lsm_set_self_attr", "460 100 buffer 1 0"),
    ("a call that nobody knows", "999"),
];

/// What is tried with paths.
const FILES: &[&str] = &[
    "write /proc/sys/kernel/core_pattern x",
    "write /proc/sys/kernel/hostname x",
    "write /proc/sys/vm/drop_caches 0",
    "write /proc/sysrq-trigger h",
    "write /proc/1/oom_score_adj -1000",
    "write /sys/kernel/uevent_helper x",
    "write /sys/fs/cgroup/release_agent x",
    "write /proc/self/uid_map x",
    "mkdir /sys/x",
    "mkdir /proc/x",
    "write /new x",
    "write /etc/passwd x",
    "write /tmp/x x",
    "write /dev/shm/x x",
    "write /dev/x x",
    "ls /proc/1/root/proc/1/task",
];

fn answer(out: &keelbox::Output) -> String {
    let (text, error) = (out.text().trim().to_owned(), String::from_utf8_lossy(&out.stderr).trim().to_owned());
    let errno = text.strip_prefix('-').or_else(|| error.rsplit_once("errno ").map(|(_, number)| number));
    match errno {
        Some("1") => "EPERM".into(),
        Some("13") => "EACCES".into(),
        Some("30") => "EROFS".into(),
        Some("2") => "ENOENT".into(),
        Some("38") => "ENOSYS".into(),
        Some(number) => format!("errno {number}"),
        None if out.status.success() => "done".into(),
        None => format!("{} {text} {error}", out.status),
    }
}

/// What is allowed is answered by the kernel, and kernels differ: one has the call, the family, the file, and another has not.
fn on_every_kernel(what: &str, answer: String) -> String {
    let alternatives = match what {
        "listmount" => ["errno 22", "ENOSYS"],
        "memfd_secret" => ["done", "ENOSYS"],
        "socket xdp" => ["EPERM", "errno 97"],
        "write /proc/sysrq-trigger h" => ["ENOENT", "EROFS"],
        _ => return answer,
    };
    if alternatives.contains(&answer.as_str()) { alternatives.join(" or ") } else { answer }
}

fn table(profile: Profile, user: &str) -> testkit::Result<String> {
    let root = testkit::probe_root()?;
    let mut text = format!("# {profile:?}, user {user}\n");
    let template =
        Container::from_rootfs(root.path()).profile(profile).user(user).args(["/probe", "true"]).template()?;
    for (name, call) in ATTEMPTS {
        let args = ["/probe", "syscall"].into_iter().chain(call.split(' '));
        let answer = answer(&template.args(args).output()?);
        writeln!(text, "{name}: {}", on_every_kernel(name, answer))?;
    }
    for line in FILES {
        let answer = answer(&template.args(["/probe"].into_iter().chain(line.split(' '))).output()?);
        writeln!(text, "{line}: {}", on_every_kernel(line, answer))?;
    }
    Ok(text)
}

#[cfg(target_arch = "x86_64")]
#[test]
fn what_hostile_code_may_do() -> testkit::Result {
    require!(Root, Seccomp);
    let canary = HostCanary::new()?.also("/proc/sys/kernel/core_pattern")?.also("/proc/sys/kernel/hostname")?;
    golden!("hostile-root.table", table(Profile::Hostile, "0")?);
    golden!("hostile-user.table", table(Profile::Hostile, "1000")?);
    canary.assert_unchanged();
    Ok(())
}

#[cfg(target_arch = "x86_64")]
#[test]
fn what_ordinary_code_may_do() -> testkit::Result {
    require!(Root, Seccomp);
    let canary = HostCanary::new()?.also("/proc/sys/kernel/core_pattern")?.also("/proc/sys/kernel/hostname")?;
    golden!("ordinary-root.table", table(Profile::Ordinary, "0")?);
    golden!("ordinary-user.table", table(Profile::Ordinary, "1000")?);
    canary.assert_unchanged();
    Ok(())
}

/// All five sets, no new privileges, the filter in force (CVE-2022-24769, CVE-2022-29162).
#[test]
fn privileges_are_what_the_profile_says() -> testkit::Result {
    require!(Root, Seccomp);
    let root = testkit::probe_root()?;
    const ORDINARY: &str = "00000000000405fb";
    const NONE: &str = "0000000000000000";
    for (profile, user, bounding, effective) in [
        (Profile::Ordinary, "0", ORDINARY, ORDINARY),
        (Profile::Ordinary, "1000", ORDINARY, NONE),
        (Profile::Hostile, "0", NONE, NONE),
        (Profile::Hostile, "1000", NONE, NONE),
    ] {
        let out = Container::from_rootfs(root.path())
            .profile(profile)
            .user(user)
            .args(["/probe", "cat", "/proc/self/status"])
            .output()?;
        let text = out.text();
        let what = format!("{profile:?} as {user}");
        for (key, expected) in [
            ("CapInh:", NONE),
            ("CapPrm:", effective),
            ("CapEff:", effective),
            ("CapBnd:", bounding),
            ("CapAmb:", NONE),
            ("NoNewPrivs:", "1"),
            ("Seccomp:", "2"),
            ("Seccomp_filters:", "1"),
        ] {
            assert_eq!(common::value(&text, key), expected, "{what}: {key}");
        }
        assert_eq!(common::value(&text, "SigBlk:"), NONE, "{what}");
    }
    // What is added is there, and is not inheritable for root.
    let out = Container::from_rootfs(root.path())
        .profile(Profile::Hostile)
        .capability("net_bind_service")
        .args(["/probe", "caps"])
        .output()?;
    for (key, expected) in
        [("CapEff:", "0000000000000400"), ("CapBnd:", "0000000000000400"), ("CapInh:", NONE), ("CapAmb:", NONE)]
    {
        assert_eq!(common::value(&out.text(), key), expected, "{key}");
    }
    Ok(())
}

#[test]
fn a_set_user_id_program_gains_nothing() -> testkit::Result {
    require!(Root);
    let root = testkit::probe_root()?;
    common::run(std::process::Command::new("cp").arg(root.path().join("probe")).arg(root.path().join("bin/su")))?;
    std::fs::set_permissions(root.path().join("bin/su"), std::fs::Permissions::from_mode(0o6755))?;
    let run = |profile| Container::from_rootfs(root.path()).profile(profile).user("1000:1000").args(["/bin/su", "id"]);
    for profile in [Profile::Ordinary, Profile::Hostile] {
        assert_eq!(
            run(profile).output()?.text(),
            "uid 1000 1000 1000\ngid 1000 1000 1000\ngroups 1000\n",
            "{profile:?}"
        );
    }
    // Where it was asked for, it does gain; so the rows above say something.
    let out = run(Profile::Ordinary).new_privileges().output()?;
    assert!(out.text().starts_with("uid 1000 0 0\n"), "{out:?}");
    Ok(())
}

#[test]
fn nothing_of_the_host_is_within_reach() -> testkit::Result {
    require!(Root);
    alone!();
    let (root, canary) = (testkit::probe_root()?, HostCanary::new()?);
    let paths: Vec<String> = ["secret", "file"].map(|name| canary.path().join(name).display().to_string()).into();
    let _open: Vec<_> = (0..64).filter_map(|_| nix::unistd::dup(std::fs::File::open("/").ok()?).ok()).collect();
    for profile in [Profile::Ordinary, Profile::Hostile, Profile::Trusted] {
        let args = ["/probe", "escape"].into_iter().map(str::to_owned).chain(paths.iter().cloned());
        let out = Container::from_rootfs(root.path()).profile(profile).args(args).output()?;
        assert_eq!(out.text(), "contained\n", "{profile:?}");
        let process =
            Container::from_rootfs(root.path()).profile(profile).args(["/probe", "sleep", "60000"]).spawn()?;
        let args = ["/probe", "escape"].into_iter().map(str::to_owned).chain(paths.iter().cloned());
        assert_eq!(process.exec(args).output()?.text(), "contained\n", "{profile:?}");
    }
    canary.assert_unchanged();
    Ok(())
}

/// Masked files read as empty, masked directories are empty and cannot be written to (CVE-2025-31133).
#[test]
fn kernel_files_are_hidden() -> testkit::Result {
    require!(Root, Program("busybox"));
    let root = common::root()?;
    let script = "for path in acpi asound interrupts kcore keys latency_stats sched_debug scsi timer_list timer_stats; do \
                  if test -d /proc/$path; then echo $path: $(ls -A /proc/$path | wc -l); touch /proc/$path/x 2>/dev/null && echo writable; \
                  elif test -e /proc/$path; then echo $path: $(head -c 10 /proc/$path | wc -c); fi; done; \
                  for path in bus fs irq sys; do touch /proc/$path/x 2>/dev/null; test -d /proc/$path && mount | grep -c \" /proc/$path .*ro,\"; done; \
                  ls -A /sys/firmware | wc -l";
    let out = Container::from_rootfs(root.path()).args(["sh", "-c", script]).output()?;
    let text = out.text().into_owned();
    assert!(text.lines().filter(|line| line.contains(": ")).count() >= 3, "{text}");
    for line in text.lines() {
        assert!(line.ends_with(": 0") || line == "1" || line == "0", "{text}");
    }
    assert!(text.lines().filter(|line| *line == "1").count() >= 3, "{text}");
    let hidden = "ls /proc | grep -v '^[0-9]' | grep -v -e self; ls /sys | wc -l; mount | grep -c cgroup";
    let out = Container::from_rootfs(root.path()).profile(Profile::Hostile).args(["sh", "-c", hidden]).output()?;
    assert_eq!(out.text(), "0\n0\n", "only processes, no /sys: {out:?}");
    Ok(())
}

#[test]
fn a_fork_bomb_stays_small() -> testkit::Result {
    require!(Root, Cgroup("pids"));
    let root = testkit::probe_root()?;
    let bomb = |container: Container| -> testkit::Result<u32> {
        let out = container.args(["/probe", "forkbomb", "5000"]).output()?;
        assert!(out.text().contains("errno 11"), "{out:?}");
        Ok(common::value(&out.text(), "forked").parse()?)
    };
    let forked = bomb(Container::from_rootfs(root.path()).pids(32))?;
    assert_eq!(forked, 31);
    let forked = bomb(Container::from_rootfs(root.path()).profile(Profile::Hostile))?;
    assert_eq!(forked, 255);
    let forked = bomb(Container::from_rootfs(root.path()).profile(Profile::Hostile).memory(64 * MIB))?;
    assert!(forked <= 255, "limits of the caller's own take nothing away from the profile's: {forked}");
    Ok(())
}

#[test]
fn the_program_that_runs_it_is_out_of_reach() -> testkit::Result {
    require!(Root, Program("busybox"));
    let root = common::root()?;
    let own = std::env::current_exe()?;
    let before = keelbox::crates::image_spec::Digest::of(&std::fs::read(&own)?);
    std::fs::write(root.path().join("bin/script"), "#!/proc/self/exe\n")?;
    std::fs::set_permissions(root.path().join("bin/script"), std::fs::Permissions::from_mode(0o755))?;
    for program in ["/proc/self/exe", "/bin/script", "/proc/1/exe"] {
        for profile in [Profile::Ordinary, Profile::Trusted] {
            // The stage itself is what these name: it ends at once without a host to talk with, or cannot be executed.
            let ran = Container::from_rootfs(root.path()).profile(profile).args([program]).output();
            assert!(!ran.is_ok_and(|out| out.status.success()), "{program} {profile:?}");
        }
    }
    let writes = "for exe in /proc/[0-9]*/exe; do : 2>/dev/null > $exe && echo wrote $exe; done; true";
    let process =
        Container::from_rootfs(root.path()).profile(Profile::Trusted).args(["/probe", "sleep", "60000"]).spawn()?;
    for _ in 0..20 {
        let out = process.exec(["sh", "-c", writes]).output()?;
        assert_eq!(out.text(), "");
    }
    assert_eq!(keelbox::crates::image_spec::Digest::of(&std::fs::read(&own)?), before);
    Ok(())
}

#[test]
fn resource_limits_hold() -> testkit::Result {
    require!(Root, Program("busybox"));
    let root = common::root()?;
    let out = Container::from_rootfs(root.path())
        .rlimit(Resource::Descriptors, 16, 16)
        .rlimit(Resource::Core, 0, 0)
        .rlimit(Resource::FileSize, 1024, 1024)
        .args(["sh", "-c", "ulimit -n; ulimit -c; head -c 5000 /dev/zero > /tmp/x; stat -c %s /tmp/x"])
        .output()?;
    assert_eq!(out.text(), "16\n0\n1024\n", "{out:?}");
    Ok(())
}

/// `/dev/null` that is not the null device must not come to hide kernel files (CVE-2025-31133).
#[test]
fn a_false_null_device_hides_nothing_wrongly() -> testkit::Result {
    require!(Root, Program("busybox"));
    alone!();
    let root = common::root()?;
    let canary = HostCanary::new()?.also("/proc/sys/kernel/core_pattern")?;
    for what in ["link", "file", "absent", "other"] {
        let null = root.path().join("dev/null");
        let _absent = std::fs::remove_file(&null);
        match what {
            "link" => std::os::unix::fs::symlink("/proc/sys/kernel/core_pattern", &null)?,
            "file" => std::fs::write(&null, "not null")?,
            "other" => drop(common::run(std::process::Command::new("mknod").arg(&null).args(["c", "1", "5"]))?),
            _ => {}
        }
        // The container's own /dev covers it, or it is shared with the host's directory.
        let plain = Container::from_rootfs(root.path());
        for container in [plain.clone(), plain.bind(root.path().join("dev"), "/dev")] {
            let out = container.args(["sh", "-c", "head -c 10 /proc/keys | wc -c; head -c 10 /proc/timer_list | wc -c; echo x > /proc/sys/kernel/core_pattern"]).output();
            match out {
                Ok(out) => assert_eq!(out.text(), "0\n0\n", "{what}: {out:?}"),
                Err(error) => assert!(error.report().contains("step "), "{what}: {error:?}"),
            }
        }
    }
    canary.assert_unchanged();
    Ok(())
}

/// A link of the image leads a mount to `/proc`, and what is mounted there has links by the names that are hidden: nothing of
/// the host is shown in their place, nor hidden on it.
#[test]
fn links_by_the_names_of_procfs_lead_nowhere() -> testkit::Result {
    require!(Root);
    let root = testkit::probe_root()?;
    std::os::unix::fs::symlink("/proc", root.path().join("data"))?;
    let evil = tempfile::tempdir()?;
    let secret = evil.path().join("secret");
    std::fs::write(&secret, "of the host")?;
    for name in ["acpi", "bus", "fs", "interrupts", "kcore", "sys"] {
        std::os::unix::fs::symlink(&secret, evil.path().join(name))?;
    }
    for name in ["keys", "timer_list"] {
        std::fs::write(evil.path().join(name), "to be hidden")?;
    }
    let container = || Container::from_rootfs(root.path()).bind(evil.path(), "/data");
    for name in ["acpi", "interrupts", "kcore", "keys", "timer_list"] {
        match container().args(["/probe", "cat", &format!("/proc/{name}")]).output() {
            Ok(out) => assert_eq!(out.text().trim(), "", "{name} shows something"),
            // A link that cannot be followed inside cannot be hidden either; then nothing runs.
            Err(error) => println!("{name}: {error}"),
        }
    }
    assert_eq!(std::fs::read_to_string(&secret)?, "of the host");
    Ok(())
}
