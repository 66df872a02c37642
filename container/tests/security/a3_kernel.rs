//! A3, what faces the kernel: control groups, devices, parameters, keys, sockets, and who may look at what is stored.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use keelbox::{Container, ErrorKind, Kind, Profile, Runtime, Stdio};
use keelbox_testkit::{self as testkit, alone, probe_root, require};
use serde_json::{Value, json};

use crate::common::{self, Small};
use crate::support::Watch;

/// The `release_agent` files of this machine.
fn release_agents() -> Vec<PathBuf> {
    let groups = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    groups.map(|entry| entry.path().join("release_agent")).filter(|file| file.exists()).collect()
}

/// CVE-2022-0492: no way to the program that the host's kernel starts when a control group is empty.
#[test]
fn a3_01_release_agents_are_out_of_reach() -> testkit::Result {
    require!(Root, Program("busybox"));
    alone!();
    let agents = release_agents();
    let watch = Watch::over(&agents.iter().map(PathBuf::as_path).collect::<Vec<_>>())?;
    let root = common::root()?;
    let script = "unshare -UrmC true 2>/dev/null && echo unshared; mkdir -p /tmp/x; for kind in memory rdma pids name=x; do \
                  mount -t cgroup -o $kind none /tmp/x 2>/dev/null && echo mounted; done; mount -t cgroup2 none /tmp/x 2>/dev/null && echo mounted; \
                  for file in /sys/fs/cgroup/release_agent /sys/fs/cgroup/*/release_agent /sys/fs/cgroup/*/notify_on_release; do \
                  test -e $file && (echo /x > $file) 2>/dev/null && echo wrote $file; done; echo over";
    for profile in [Profile::Ordinary, Profile::Hostile] {
        for shown in [false, true] {
            let run = Container::from_rootfs(root.path()).profile(profile).args(["sh", "-c", script]);
            let groups =
                json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"] });
            let run = if shown { run.mount_oci(serde_json::from_value(groups)?) } else { run };
            let out = run.output()?;
            assert_eq!(out.text(), "over\n", "{profile:?}, control groups shown: {shown}");
            watch.unchanged();
        }
    }
    watch.end();
    Ok(())
}

/// CVE-2022-0811: a parameter is one of the container's own, its value is one value, and it is what is read back.
#[test]
fn a3_02_parameters() -> testkit::Result {
    require!(Root);
    alone!();
    let watch = Watch::over(&["/proc/sys/kernel/core_pattern".as_ref(), "/proc/sys/kernel/hostname".as_ref()])?;
    let root = probe_root()?;
    let run = |name: &str, value: &str| Container::from_rootfs(root.path()).sysctl(name, value);
    for (name, value) in [
        ("kernel.core_pattern", "|/x"),
        ("kernel.modprobe", "/x"),
        ("kernel/core_pattern", "|/x"),
        ("net/../kernel/core_pattern", "|/x"),
        ("net.ipv4/../../kernel.core_pattern", "|/x"),
        ("net.ipv4.conf.../../../kernel/core_pattern", "|/x"),
        ("fs.mqueue../x", "1"),
        ("fs.mqueue./../../kernel/core_pattern", "|/x"),
        ("kernel.shm_rmid_forced+kernel.core_pattern", "1"),
        ("kernel.shm_rmid_forced", "1+kernel.core_pattern=|/x\n"),
        ("kernel.shm_rmid_forced", "1\nkernel.core_pattern=x"),
        ("", "1"),
        ("a\0b", "1"),
        ("net.ipv4.ip_forward.", "1"),
        (".net.ipv4.ip_forward", "1"),
        ("net", "1"),
        ("vm.overcommit_memory", "1"),
        ("fs.file-max", "1"),
        ("user.max_user_namespaces", "1"),
    ] {
        let error = watch.refused(name, run(name, value).args(["/probe", "true"]).output(), &["parameter"]);
        assert_eq!(error.kind(), ErrorKind::Invalid, "before anything is made: {name}={value}: {error:?}");
    }
    for (name, value) in [
        ("kernel.shm_rmid_forced", "1"),
        ("kernel.msgmax", "4242"),
        ("kernel.sem", "250\t32000\t33\t129"),
        ("fs.mqueue.msg_max", "7"),
        ("net.ipv4.ip_unprivileged_port_start", "79"),
        ("net/ipv4/ip_forward", "1"),
        ("kernel.domainname", "inner"),
    ] {
        let file = format!("/proc/sys/{}", name.replace('.', "/"));
        let out = run(name, value).args(["/probe", "cat", &file]).output()?;
        assert_eq!(out.text().trim_end(), value, "{name}: {out:?}");
    }
    for (name, kind) in
        [("kernel.msgmax", Kind::Ipc), ("net.ipv4.ip_forward", Kind::Net), ("kernel.domainname", Kind::Uts)]
    {
        let outcome = run(name, "1").share(kind).args(["/probe", "true"]).output();
        watch.refused(name, outcome, &[name, "none of its own"]);
    }
    watch.end();
    Ok(())
}

/// A program makes no node of a device, and opens none but the harmless ones.
#[test]
fn a3_03_devices_of_an_ordinary_container() -> testkit::Result {
    require!(Root, Program("busybox"));
    alone!();
    let watch = Watch::begin()?;
    let root = common::root()?;
    let script = "cd $0; for node in 'mem c 1 1' 'disk b 8 0' 'loop b 7 0' 'kmsg c 1 11' 'tun c 10 200'; do mknod $node 2>/dev/null && echo made $node; done; \
                  for name in null zero full random urandom tty ptmx; do test -c /dev/$name || echo no $name; done; \
                  ls -l /dev | awk '/^b/ { print }'; ls /dev | grep -c .; (: < /dev/null > /dev/null) && (echo x > /dev/full) 2>/dev/null || echo full";
    for profile in [Profile::Ordinary, Profile::Hostile] {
        for place in ["/dev", "/tmp", "/dev/shm"] {
            let out =
                Container::from_rootfs(root.path()).profile(profile).args(["sh", "-c", script, place]).output()?;
            let text = out.text().into_owned();
            let lines: Vec<_> = text.lines().collect();
            assert!(
                lines.len() == 2 && lines[1] == "full" && lines[0].parse::<u32>()? < 18,
                "{profile:?} {place}: {out:?}"
            );
        }
    }
    // Who is given the capability makes nodes, but opens none in the root file system.
    let tmp = "mknod /tmp/tun c 10 200 && (: < /tmp/tun) 2>/dev/null && echo opened; echo over";
    let run = Container::from_rootfs(root.path()).capability("mknod").args(["sh", "-c", tmp]);
    assert_eq!(run.output()?.text(), "over\n");
    let _made = fs::remove_file(root.path().join("tmp/tun"));
    watch.end();
    Ok(())
}

/// The files that tell about other programs of the machine or measure its processor are hidden, each once (GHSA-jq35-7prp-9v3f,
/// GHSA-6fw5-f8r9-fgfm).
#[test]
fn a3_06_what_measures_the_machine_is_hidden() -> testkit::Result {
    require!(Root, Program("busybox"));
    alone!();
    let root = common::root()?;
    let script = "for place in /sys/devices/system/cpu/cpu*/thermal_throttle /sys/devices/virtual/powercap /sys/firmware /proc/scsi /proc/acpi; do \
                  test -d $place && ls -A $place; done; for file in /proc/interrupts /proc/keys /proc/kcore /proc/timer_list /proc/sched_debug; do \
                  test -e $file && head -c 1 $file; done; awk '/ - tmpfs / && / ro,/ { print $3 }' /proc/self/mountinfo > /tmp/masks; grep -c . /tmp/masks; sort -u /tmp/masks | grep -c .";
    let out = Container::from_rootfs(root.path()).args(["sh", "-c", script]).output()?;
    let text = out.text().into_owned();
    let lines: Vec<u32> =
        text.lines().map(str::parse).collect::<Result<_, _>>().map_err(|_| format!("seen: {text}"))?;
    let [mounts, file_systems] = lines[..] else { return Err(text.into()) };
    // Directories share one empty file system where mounts without a place can be copied (Linux 6.15).
    assert!(file_systems == 1 || file_systems == mounts, "{text}");
    Ok(())
}

/// No container's first instruction is outside of its control group: what it starts is counted from the beginning.
#[test]
fn a3_07_the_first_instruction_is_in_the_group() -> testkit::Result {
    require!(Root, Cgroup("pids"));
    alone!();
    let watch = Watch::begin()?;
    let root = probe_root()?;
    for limit in [4, 16] {
        for user in [false, true] {
            let run = Container::from_rootfs(root.path()).pids(limit).args(["/probe", "forkbomb", "500"]);
            let run = if user { run.unshare(Kind::User) } else { run };
            let out = run.output()?;
            assert_eq!(common::value(&out.text(), "forked"), (limit - 1).to_string(), "{out:?}");
        }
    }
    watch.end();
    Ok(())
}

/// CVE-2020-15257: no socket of ours is reachable by a name alone, from a container in the host's network namespace.
#[test]
fn a3_10_no_socket_has_an_abstract_name() -> testkit::Result {
    require!(Root, Cgroup("pids"));
    alone!();
    let (root, states) = (probe_root()?, tempfile::tempdir()?);
    let runtime = Runtime::at(states.path().join("states"));
    let container = || Container::from_rootfs(root.path()).share(Kind::Net).pids(8).stdin(Stdio::null());
    let handle = runtime.create(&container().args(["/probe", "sleep", "60000"]).build()?, "waits")?;
    let process = container().args(["/probe", "sleep", "60000"]).spawn()?;
    let asked =
        container().on_syscall("mkdirat", |_| keelbox::Answer::Continue).args(["/probe", "sleep", "60000"]).spawn()?;
    let inside = process.exec(["/probe", "cat", "/proc/net/unix"]).output()?;
    let mut ours = Vec::new();
    for pid in [std::process::id(), handle.pid().ok_or("it waits")?, process.id(), asked.id()] {
        for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
            let link = fs::read_link(entry.path()).unwrap_or_default();
            let inode =
                link.to_str().and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']')).map(str::to_owned);
            ours.extend(inode);
        }
    }
    assert!(!ours.is_empty(), "a container that waits is talked with");
    let abstract_ones = inside.text().lines().filter(|line| line.contains(" @")).map(str::to_owned).collect::<Vec<_>>();
    for line in abstract_ones {
        let inode = line.split_whitespace().nth(6).unwrap_or_default();
        assert!(!ours.iter().any(|own| own == inode), "{line}");
    }
    handle.delete_force()?;
    Ok(())
}

/// CVE-2021-41103, CVE-2024-25621, CVE-2021-41091: whoever is not the owner sees nothing of what is unpacked, kept or written down,
/// whatever the mask of the program that does so.
#[test]
fn a3_11_what_is_stored_is_the_owners() -> testkit::Result {
    require!(Root, OrdinaryUser, Overlay, Program("busybox"));
    alone!();
    let other = testkit::OrdinaryUser::for_tests()?;
    let place = tempfile::tempdir()?;
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755))?;
    for mask in [0, 0o077, 0o777] {
        let small = Small::busybox(r#""Cmd":["true"],"Env":["PATH=/bin"]"#)?;
        let (store, states) = (place.path().join(format!("store-{mask}")), place.path().join(format!("states-{mask}")));
        let before = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(mask));
        let container = || small.container().map(|container| container.store(&store).stdin(Stdio::null()));
        let kept =
            container()?.keep_changes().user("1000").args(["sh", "-c", "echo x > /tmp/x && ls -d /srv"]).output();
        let handle = Runtime::at(&states).create(&container()?.args(["sleep", "600"]).build()?, "a");
        nix::sys::stat::umask(before);
        let (kept, handle) = (kept?, handle?);
        assert_eq!(kept.text(), "/srv\n", "mask {mask:03o}: {kept:?}");
        for directory in [&store, &states] {
            assert_eq!(fs::metadata(directory)?.permissions().mode() & 0o077, 0, "{}", directory.display());
            for found in below(directory)? {
                let seen = other.command("stat").arg(&found).output()?;
                assert!(!seen.status.success(), "{}", found.display());
            }
        }
        handle.delete_force()?;
        drop(kept);
    }
    Ok(())
}

/// A few of the files below a directory, of every depth.
fn below(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut next = vec![directory.to_owned()];
    while let Some(directory) = next.pop() {
        for entry in fs::read_dir(directory)?.flatten().take(4) {
            if entry.file_type()?.is_dir() && found.len() < 40 {
                next.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    assert!(!found.is_empty());
    Ok(found)
}

/// The families of sockets that the profile for ordinary code lists: below 12, and by name. Those that led to holes are not among them.
fn listed_families() -> testkit::Result<Vec<u64>> {
    let profile: Value = serde_json::from_str(include_str!("../../profiles/default.json"))?;
    let rules = profile["syscalls"].as_array().ok_or("rules")?;
    let sockets = rules.iter().filter(|rule| rule["names"][0] == "socket" && rule["action"] == "SCMP_ACT_ALLOW");
    let mut listed: Vec<u64> = (0..12).collect();
    listed.extend(
        sockets
            .filter(|rule| rule["args"][0]["op"] == "SCMP_CMP_EQ")
            .filter_map(|rule| rule["args"][0]["value"].as_u64()),
    );
    let (alg, vsock) = (38, 40);
    assert!(listed.len() > 12 && !listed.contains(&alg) && !listed.contains(&vsock), "{listed:?}");
    Ok(listed)
}

/// CVE-2022-0185, CVE-2024-1086, CVE-2026-31431: what led to the kernel's weak places is not to be called.
#[test]
fn a3_04_a3_05_calls_that_reach_the_kernels_weak_places() -> testkit::Result {
    require!(Root, Seccomp);
    alone!();
    let watch = Watch::begin()?;
    let root = probe_root()?;
    // Every family of sockets beside the usual ones, and every kind of namespace.
    for profile in [Profile::Ordinary, Profile::Hostile] {
        let template = Container::from_rootfs(root.path()).profile(profile).args(["/probe", "true"]).template()?;
        let call = |words: &[&str]| -> testkit::Result<i64> {
            Ok(template.args(["/probe", "syscall"].iter().chain(words).copied()).output()?.text().trim().parse()?)
        };
        let listed = if profile == Profile::Ordinary { listed_families()? } else { vec![1, 2, 10, 16] };
        for family in (3..48).filter(|family| !listed.contains(family)).chain([100, 200]) {
            let answer = call(&["41", &family.to_string(), "3", "0"])?;
            assert_eq!(answer, -1, "{profile:?}: socket family {family}");
        }
        for kind in ["0x10000000", "0x20000", "0x2000000", "0x4000000", "0x8000000", "0x20000000", "0x40000000", "0x80"]
        {
            assert_eq!(call(&["272", kind])?, -1, "{profile:?}: unshare {kind}");
        }
    }
    watch.end();
    Ok(())
}

/// CVE-2025-47291: every process of a container is in its control group, its further programs and what has left its session too.
#[test]
fn a3_07_every_process_is_in_the_group() -> testkit::Result {
    require!(Root, Cgroup("pids"), Program("busybox"));
    alone!();
    let root = common::root()?;
    let run = Container::from_rootfs(root.path()).pids(32).stdin(Stdio::null());
    let script = "for n in 1 2 3; do (sleep 600 &) ; setsid sleep 600 & done; sleep 600";
    let process = run.args(["sh", "-c", script]).spawn()?;
    let further = process.exec(["sleep", "600"]).stdin(Stdio::null()).spawn()?;
    let group = |pid: &str| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let own = group(&process.id().to_string());
    let namespace = fs::read_link(format!("/proc/{}/ns/pid", process.id()))?;
    let mut seen = 0;
    crate::support::wait_for("its processes", || process.stats().is_ok_and(|stats| stats.pids.current >= Some(8)));
    for entry in fs::read_dir("/proc")?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let number = name.bytes().all(|byte| byte.is_ascii_digit());
        if number && fs::read_link(entry.path().join("ns/pid")).is_ok_and(|link| link == namespace) {
            assert_eq!(pids_group(&group(&name)), pids_group(&own), "{name}");
            seen += 1;
        }
    }
    assert!(seen >= 8, "{seen}");
    drop((further, process));
    Ok(())
}

/// The line that counts processes.
fn pids_group(text: &str) -> Option<String> {
    let legacy = text.lines().find(|line| line.contains(":pids:"));
    legacy.or_else(|| text.lines().find(|line| line.starts_with("0::"))).map(str::to_owned)
}
/// The keys of the session that the host's program runs in are not those of its containers.
#[test]
fn a3_09_keys_of_the_host_are_not_there() -> testkit::Result {
    require!(Root, Exists("/proc/keys"));
    alone!();
    let root = probe_root()?;
    // From here on this thread, and what it starts, has a session of its own with a key in it.
    let session = keelbox::crates::launch::Step::Keyring { name: c"keelbox-test".into() };
    keelbox::crates::launch::perform(&[session]).map_err(|failure| format!("keyctl(2): {:?}", failure.errno))?;
    let on_host = |words: &[&str]| -> testkit::Result<i64> {
        Ok(common::run(Command::new(root.path().join("probe")).arg("syscall").args(words))?.trim().parse()?)
    };
    let search = ["250", "10", "-3", "@user", "@keelbox-test-secret", "0"];
    assert!(on_host(&["248", "@user", "@keelbox-test-secret", "@hidden", "6", "-3"])? > 0, "add_key(2)");
    assert!(on_host(&search)? > 0, "the host finds it, so the rest says something");
    let watch = Watch::begin()?;
    for profile in [Profile::Trusted, Profile::Ordinary, Profile::Hostile] {
        let run = Container::from_rootfs(root.path()).profile(profile);
        let process = run.clone().args(["/probe", "sleep", "60000"]).stdin(Stdio::null()).spawn()?;
        let words: Vec<&str> = ["/probe", "syscall"].into_iter().chain(search).collect();
        for out in [run.args(words.clone()).output()?, process.exec(words).output()?] {
            assert!(out.text().starts_with('-'), "{profile:?}: a key of the host's session was found: {out:?}");
        }
    }
    assert!(on_host(&search)? > 0, "the host finds it still");
    watch.end();
    Ok(())
}
