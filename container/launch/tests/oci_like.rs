//! One OCI-like container from hand-written steps: the launch as a whole, as root.

use keelbox_launch::{Create, Launch, OwnedStep, Seat, Slot, Step, list, perform, sys, text};

const NAMESPACES: u64 = 0x2000_0000 | 0x4000_0000 | 0x0800_0000 | 0x0400_0000 | 0x0002_0000 | 0x0200_0000;

fn mount(kind: &str, target: &str, flags: u64, data: &str) -> OwnedStep {
    let (kind, target, data) = (text(kind), text(target), text(data));
    Step::Mount { source: kind.clone(), kind, target, flags, data, create: Create::Directory }
}

fn tree(source: &str, recursive: u32, out: u16) -> OwnedStep {
    let (directory, idmap, out) = (Slot::NONE, Slot::NONE, Slot(out));
    let source = text(source);
    Step::Tree {
        directory,
        source,
        recursive,
        set: 0,
        clear: 0,
        propagation: 1 << 18,
        attributes_recursive: 0x8000,
        idmap,
        out,
    }
}

fn steps(root: &str, program: &[&str]) -> Vec<OwnedStep> {
    let mut steps = vec![
        Step::Conceal {},
        Step::Propagation { path: text("/"), flags: 0x4000 | 1 << 19 },
        tree(root, 0x8000, 0),
        tree("/dev/null", 0, 1),
        Step::FileSystem {
            kind: text("tmpfs"),
            options: list(["size=4k", "ro"]),
            set: 1,
            directory: Slot::NONE,
            out: Slot(2),
        },
        Step::PivotRoot { tree: Slot(0), detached: 1 },
        mount("proc", "/proc", 14, ""),
        mount("tmpfs", "/dev", 2, "mode=755,size=64m"),
        Step::Enter { path: text("/dev") },
    ];
    for name in ["pts", "shm", "mqueue"] {
        steps.push(Step::Directory { path: text(name), mode: 0o755 });
    }
    for (name, device) in
        [("null", 0x103u64), ("zero", 0x105), ("full", 0x107), ("random", 0x108), ("urandom", 0x109), ("tty", 0x500)]
    {
        steps.push(Step::Node { path: text(name), mode: 0o20666, device, user: 0, group: 0 });
    }
    steps.push(Step::Link { path: text("ptmx"), target: text("pts/ptmx") });
    steps.push(mount("devpts", "/dev/pts", 10, "newinstance,ptmxmode=0666,mode=0620"));
    steps.push(mount("tmpfs", "/dev/shm", 14, "mode=1777,size=64m"));
    steps.push(mount("mqueue", "/dev/mqueue", 14, ""));
    steps.push(mount("sysfs", "/sys", 15, ""));
    for path in
        ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/acpi", "/proc/scsi", "/proc/nothing", "/sys/firmware"]
    {
        steps.push(Step::Mask { target: text(path), file: Slot(1), directory: Slot(2) });
    }
    for path in ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"] {
        steps.push(Step::ReadOnly { target: text(path) });
    }
    steps.extend([
        Step::LeaveOldRoot {},
        Step::Hostname { name: text("box") },
        Step::Session {},
        Step::NoNewPrivileges {},
        Step::Umask { mask: 0o022 },
        Step::Capabilities { effective: 0x420, permitted: 0x420, inheritable: 0, ambient: 0 },
        Step::Signals {},
        Step::Dies { signal: 9 },
        Step::Exec {
            paths: list([format!("/bin/{}", program[0])]),
            arguments: list(program),
            environment: list(["PATH=/bin"]),
        },
    ]);
    steps
}

fn run(root: &str, program: &[&str], seat: Option<Seat>) -> (Option<i32>, String) {
    use std::io::Read;
    use std::os::fd::AsFd;
    let steps = steps(root, program);
    let exec = steps.len() - 1;
    let mut steps = steps;
    // The thread of a seat ends with the launch.
    steps[exec - 1] = if seat.is_some() { Step::Umask { mask: 0o022 } } else { Step::Dies { signal: 9 } };
    steps.insert(exec, Step::Descriptor { slot: Slot(0), number: 1 });
    // Slot 0 holds the pipe until the tree takes its place; so the trees move up.
    for step in &mut steps {
        match step {
            Step::Tree { out, .. } | Step::FileSystem { out, .. } => out.0 += 1,
            Step::PivotRoot { tree, .. } => tree.0 += 1,
            Step::Mask { file, directory, .. } => (file.0, directory.0) = (file.0 + 1, directory.0 + 1),
            _ => {}
        }
    }
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let launch = Launch::new(&steps).namespaces(NAMESPACES).descriptors([writer.as_fd()]).seat(seat);
    let mut started = launch.start().expect("a stage");
    drop(writer);
    if let Err(failure) = started.control.running() {
        panic!("cannot {}: {}", steps[failure.step as usize], failure.errno);
    }
    let mut output = String::new();
    reader.read_to_string(&mut output).expect("output");
    (sys::wait(&started.pidfd).expect("an end").code, output)
}

#[test]
fn a_program_runs_in_its_own_namespaces() -> keelbox_testkit::Result {
    keelbox_testkit::require!(Root, NetNamespace, Program("busybox"));
    let root = keelbox_testkit::busybox_root()?;
    let root = root.path().to_str().expect("a path");
    let (code, output) = run(
        root,
        &["sh", "-c", "echo $$; cat /proc/sys/kernel/hostname; ls /proc/self/fd; ls /dev; cat /proc/mounts"],
        None,
    );
    assert_eq!(code, Some(0), "{output}");
    assert!(output.starts_with("1\nbox\n0\n1\n2\n3\n"), "{output}");
    assert!(output.contains("proc /proc/sys proc ro"), "{output}");
    Ok(())
}

/// A filter that answers the calls `numbers` with `errno` and allows all others.
fn refusing(numbers: &[i64], errno: u32) -> OwnedStep {
    const LOAD_NUMBER: (u16, u8, u8, u32) = (0x20, 0, 0, 0);
    const ALLOW: (u16, u8, u8, u32) = (0x06, 0, 0, 0x7fff_0000);
    let count = numbers.len() as u8;
    let compare = (0..).zip(numbers).map(|(index, number)| (0x15, count - index, 0, *number as u32));
    let end = [ALLOW, (0x06, 0, 0, 0x0005_0000 | errno)];
    let program = std::iter::once(LOAD_NUMBER).chain(compare).chain(end);
    let filter = program.fold(Vec::new(), |mut bytes, (code, yes, no, value)| {
        bytes.extend(code.to_ne_bytes());
        bytes.extend([yes, no]);
        bytes.extend(value.to_ne_bytes());
        bytes
    });
    Step::Seccomp { flags: 0, filter }
}

/// What older kernels and other sandboxes lack is made up for, with the same result. The filter is that of a thread, whose
/// seat the launches take.
#[test]
fn on_a_kernel_that_lacks_calls_the_program_sees_the_same() -> keelbox_testkit::Result {
    use nix::libc::{SYS_clone3, SYS_close_range, SYS_mount_setattr, SYS_openat2, SYS_pivot_root};
    keelbox_testkit::require!(Root, NetNamespace, Seccomp, Program("busybox"));
    let root = keelbox_testkit::busybox_root()?;
    let root = root.path().to_str().ok_or("not text")?;
    let script = "hostname; ls /proc/self/fd /dev /sys/firmware; cat /proc/mounts; cat /proc/keys | wc -c";
    let expected = run(root, &["sh", "-c", script], None);
    assert_eq!(expected.0, Some(0), "{}", expected.1);
    const ENOSYS: u32 = 38;
    const EPERM: u32 = 1;
    let all = [SYS_openat2, SYS_mount_setattr, SYS_close_range, SYS_clone3];
    let cases = all
        .iter()
        .map(|number| (vec![*number], ENOSYS))
        .chain([(all.to_vec(), ENOSYS), (vec![SYS_openat2, SYS_close_range], EPERM)]);
    let without = |numbers: &[i64], errno| {
        let work = || {
            perform(&[Step::NoNewPrivileges {}, refusing(numbers, errno)]).expect("a filter");
            run(root, &["sh", "-c", script], Some(Seat::take(vec![]).expect("a seat")))
        };
        std::thread::scope(|scope| scope.spawn(work).join())
    };
    for (numbers, errno) in cases {
        let outcome = without(&numbers, errno).map_err(|_| format!("{numbers:?}"))?;
        assert_eq!(outcome, expected, "without {numbers:?} ({errno})");
    }
    // The filter does reach the stage: what cannot be made up for fails.
    assert!(without(&[SYS_pivot_root], ENOSYS).is_err());
    Ok(())
}
