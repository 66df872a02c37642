//! A2, descriptors and the runtime's own file: what is open when the program is executed, and what can be reached through it.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use keelbox::{Container, ErrorKind, Kind, Profile, Runtime, Stdio};
use keelbox_testkit::{self as testkit, alone, probe_root, require};

use crate::common;
use crate::support::{Watch, rounds};

const UP: &str = "../../../../../../../../../../../../../..";

/// Writes a script whose interpreter is `interpreter`.
fn script(root: &Path, interpreter: &str) -> std::io::Result<()> {
    let path = root.join("bin/script");
    fs::write(&path, format!("#!{interpreter}\n"))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
}

/// What a program, or the interpreter of one, may be called to reach a file of the host through a descriptor of the stage. The
/// canary's program is no program: if it is reached, the kernel says ENOEXEC or that it may not be executed.
fn ways_out(outside: &Path) -> Vec<String> {
    let program = outside.join("program").display().to_string();
    let by = |process: &'static str| {
        let program = program.clone();
        (3..rounds(20, 1024)).map(move |number| format!("/proc/{process}/fd/{number}/{UP}{program}"))
    };
    let direct = (3..rounds(20, 1024)).map(|number| format!("/proc/self/fd/{number}"));
    by("self")
        .chain(by("1"))
        .chain(direct)
        .chain([format!("/proc/self/root/{UP}{program}"), format!("/proc/self/cwd/{UP}{program}")])
        .collect()
}

/// That `run` was refused because nothing of the kind is there: neither executed, nor found to be no program.
fn not_there<T: std::fmt::Debug>(watch: &Watch, what: &str, run: keelbox::Result<T>) {
    let error = watch.refused(what, run, &["cannot execute "]);
    let report = error.report();
    let reached = report.contains("exec format error");
    let kind = matches!(error.kind(), ErrorKind::ProgramNotFound | ErrorKind::NotExecutable);
    assert!(!reached && kind, "{what}: {report}");
}

/// CVE-2024-21626 and its kind: while `execve(2)` looks for the program, for its interpreter and for that one's, the stage's own
/// descriptors are open still. None of them leads out of the container: not when it starts, and not in a further program.
#[test]
fn a2_01_no_descriptor_leads_out_while_the_program_is_executed() -> testkit::Result {
    require!(Root, Program("busybox"));
    alone!();
    let watch = Watch::begin()?;
    let root = common::root()?;
    let run = || Container::from_rootfs(root.path()).profile(Profile::Trusted);
    let variants = [
        run().stdin(Stdio::null()),
        run().limits(keelbox::Limits::new().pids(64).best_effort()),
        run().unshare(Kind::User),
        run().control_group(),
    ];
    for container in variants {
        let container = container.stdin(Stdio::null()).stdout(Stdio::null());
        let started = container.clone().args(["/probe", "sleep", "600000"]).spawn();
        let process = match started {
            Ok(process) => process,
            // No control groups here.
            Err(error) if error.kind() == ErrorKind::Limit => continue,
            Err(error) => return Err(error.into()),
        };
        for way in ways_out(watch.outside()) {
            not_there(&watch, &format!("run {way}"), container.clone().args([way.as_str()]).output());
            not_there(&watch, &format!("exec {way}"), process.exec([way.as_str()]).output());
            script(root.path(), &way)?;
            not_there(&watch, &format!("run #!{way}"), container.clone().args(["/bin/script"]).output());
            not_there(&watch, &format!("exec #!{way}"), process.exec(["/bin/script"]).output());
        }
        drop(process);
    }
    watch.end();
    Ok(())
}

/// Descriptors of a careless host, one of whose threads opens more all the time, are not there: neither in the program nor in a
/// container that was created and waits, which others in its namespaces may look at.
#[test]
fn a2_01_a8_03_nothing_of_a_careless_host_is_open() -> testkit::Result {
    require!(Root);
    alone!();
    let (root, states, place) = (probe_root()?, tempfile::tempdir()?, tempfile::tempdir()?);
    let directory = File::open(place.path())?;
    // dup(2) takes close-on-exec away.
    let careless = || nix::unistd::dup(directory.as_fd());
    let open = (0..200).map(|_| careless()).collect::<nix::Result<Vec<_>>>()?;
    let runtime = Runtime::at(states.path().join("states"));
    let over = std::sync::atomic::AtomicBool::new(false);
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                drop((careless(), careless()));
            }
        });
        let outcome = (0..rounds(20, 300)).try_for_each(|_| {
            let out = Container::from_rootfs(root.path()).args(["/probe", "fds"]).output()?;
            let numbers: Vec<&str> =
                std::str::from_utf8(&out.stdout)?.lines().filter_map(|line| line.split(' ').next()).collect();
            assert_eq!(numbers, ["0", "1", "2"]);
            let built = Container::from_rootfs(root.path()).args(["/probe", "true"]).stdin(Stdio::null()).build()?;
            let handle = runtime.create(&built, "waits")?;
            let pid = handle.pid().ok_or("it waits")?;
            for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
                let link = fs::read_link(entry?.path())?;
                assert!(!link.starts_with(place.path()), "{}", link.display());
            }
            handle.delete_force()?;
            Ok(())
        });
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        outcome.map_err(|error: Box<dyn std::error::Error>| error.to_string())
    });
    drop(open);
    Ok(outcome?)
}

/// CVE-2016-9962: who is in the namespaces of a container that waits to be started can neither trace it nor use what it has open.
#[test]
fn a2_03_a_container_that_waits_cannot_be_traced() -> testkit::Result {
    require!(Root, Program("busybox"));
    alone!();
    let watch = Watch::begin()?;
    let (root, states) = (common::root()?, tempfile::tempdir()?);
    let runtime = Runtime::at(states.path().join("states"));
    let built = Container::from_rootfs(root.path()).args(["/probe", "true"]).stdin(Stdio::null()).build()?;
    let handle = runtime.create(&built, "waits")?;
    let namespace = format!("/proc/{}/ns/pid", handle.pid().ok_or("it waits")?);
    // PTRACE_SEIZE, PTRACE_ATTACH, process_vm_readv, and the links of procfs.
    let script = "probe() { /probe \"$@\"; }; probe syscall 101 0x4206 1 0 0; probe syscall 101 16 1 0 0; probe syscall 310 1 buffer 1 buffer 1 0; \
                  for link in exe cwd root fd/0 fd/3 fd/4; do readlink /proc/1/$link && echo seen; done; cat /proc/1/environ; \
                  (: > /proc/1/mem); echo over";
    for profile in [Profile::Ordinary, Profile::Hostile] {
        for user in ["0", "1000"] {
            let run = Container::from_rootfs(root.path())
                .profile(profile)
                .no_seccomp()
                .user(user)
                .join(Kind::Pid, &namespace);
            let out = run.args(["sh", "-c", script]).output()?;
            // EPERM for the first two, and of process_vm_readv(2) EPERM or nothing read: the buffer names no memory.
            let lines: Vec<_> = out.text().lines().map(str::to_owned).collect();
            assert_eq!((lines[0].as_str(), lines[1].as_str()), ("-1", "-1"), "{profile:?} as {user}: {out:?}");
            assert!(["-1", "0"].contains(&lines[2].as_str()), "{profile:?} as {user}: {out:?}");
            assert_eq!(lines[3..], ["over"], "{profile:?} as {user}: {out:?}");
        }
    }
    handle.delete_force()?;
    drop(handle);
    watch.end();
    Ok(())
}
