//! A script with every kind of step that a container of an OCI configuration has.

use crate::owned::OwnedStep;
use crate::step::{Create, MapFile, Slot, Step};
use crate::{list, text};

fn mount(kind: &str, target: &str, flags: u64, data: &str) -> OwnedStep {
    let (kind, target, data) = (text(kind), text(target), text(data));
    Step::Mount { source: kind.clone(), kind, target, flags, data, create: Create::Directory }
}

pub(super) fn tree(source: &str, set: u64, out: u16) -> OwnedStep {
    let (directory, idmap, out) = (Slot::NONE, Slot::NONE, Slot(out));
    let (recursive, clear, propagation, attributes_recursive) = (0, 0, 1 << 18, 0);
    Step::Tree { directory, source: text(source), recursive, set, clear, propagation, attributes_recursive, idmap, out }
}

fn namespaces() -> Vec<OwnedStep> {
    vec![
        Step::Conceal {},
        Step::Map { file: MapFile::Groups, text: text("deny") },
        Step::Map { file: MapFile::Users, text: text("0 1000 1\n") },
        Step::Map { file: MapFile::GroupIds, text: text("0 1000 1\n") },
        Step::Open { path: text("/proc/self/ns/ipc"), out: Slot(9) },
        Step::Join { namespace: Slot(9), kinds: 0x0800_0000 },
        Step::Unshare { kinds: 0x80 },
        Step::TimeOffsets { text: text("monotonic 1 0\n") },
        Step::Fork { flags: 0, cgroup: Slot::NONE },
        Step::Hostname { name: text("box") },
        Step::Domainname { name: text("lane") },
        Step::Loopback {},
    ]
}

fn file_systems() -> Vec<OwnedStep> {
    let overlay = list(["lowerdir+=/lower", "upperdir=/upper", "workdir=/work"]);
    let mut steps = vec![
        Step::Propagation { path: text("/"), flags: 0x4000 | 1 << 19 },
        tree("/dev/null", 0, 1),
        Step::FileSystem {
            kind: text("tmpfs"),
            options: list(["ro", "size=4k"]),
            set: 15,
            directory: Slot::NONE,
            out: Slot(2),
        },
        Step::FileSystem { kind: text("overlay"), options: overlay, set: 0, directory: Slot(2), out: Slot(0) },
        Step::PivotRoot { tree: Slot(0), detached: 1 },
        tree("/srv/data", 1, 3),
        Step::Attach { tree: Slot(3), target: text("/data"), create: Create::Directory },
        mount("proc", "/proc", 14, ""),
        mount("tmpfs", "/dev", 2, "mode=755"),
        Step::Enter { path: text("/dev") },
        Step::Directory { path: text("pts"), mode: 0o755 },
        Step::Node { path: text("null"), mode: 0o20666, device: 0x103, user: 0, group: 0 },
        Step::Node { path: text("tty"), mode: 0o20666, device: 0x500, user: 0, group: 5 },
        Step::Link { path: text("ptmx"), target: text("pts/ptmx") },
        Step::File { path: text("/etc/hostname"), mode: 0o644, content: b"box\n".to_vec() },
        mount("devpts", "/dev/pts", 10, "newinstance,ptmxmode=0666"),
        Step::Attributes { target: text("/data"), set: 1, clear: 0, propagation: 0, recursive: 0 },
        Step::Write { directory: Slot::NONE, path: text("/proc/sys/net/ipv4/ip_forward"), data: b"1".to_vec() },
    ];
    for path in ["/proc/kcore", "/proc/keys", "/proc/acpi"] {
        steps.push(Step::Mask { target: text(path), file: Slot(1), directory: Slot(2) });
    }
    for path in ["/proc/bus", "/proc/sys"] {
        steps.push(Step::ReadOnly { target: text(path) });
    }
    steps.push(Step::Enter { path: text("/proc") });
    steps.push(Step::ReadOnly { target: text("irq") });
    for name in ["timer_list", "scsi", "interrupts"] {
        steps.push(Step::Mask { target: text(name), file: Slot(1), directory: Slot(2) });
    }
    steps.push(Step::LeaveOldRoot {});
    steps
}

fn program() -> Vec<OwnedStep> {
    let mut scheduler = vec![0; 56];
    scheduler[..4].copy_from_slice(&56u32.to_ne_bytes());
    vec![
        Step::Session {},
        Step::Terminal { console: 1, rows: 24, columns: 80, user: 1000 },
        Step::ResourceLimit { resource: 7, soft: 64, hard: 64 },
        Step::Scheduler { attr: scheduler },
        Step::Nice { value: 5 },
        Step::IoPriority { value: 2 << 13 },
        Step::Affinity { mask: vec![1] },
        Step::MemoryPolicy { mode: 0, nodes: vec![] },
        Step::Personality { value: 0 },
        Step::Keyring { name: text("box") },
        Step::WorkingDirectory { path: text("/srv"), create: 1 },
        Step::Groups { list: 5u32.to_ne_bytes().to_vec() },
        Step::Bounding { keep: 0x420 },
        Step::Ids { user: 1000, group: 1000 },
        Step::Capabilities { effective: 0x420, permitted: 0x420, inheritable: 0x400, ambient: 0x400 },
        Step::NoNewPrivileges {},
        Step::Umask { mask: 0o022 },
        Step::Signals {},
        Step::Dies { signal: 9 },
        Step::Tell { what: 1 },
        Step::Descriptor { slot: Slot(2), number: 3 },
        Step::Find { paths: list(["/bin/sh", "/usr/bin/sh"]), name: text("sh") },
        Step::Seccomp { flags: 8, filter: vec![0; 16] },
        Step::Exec {
            paths: list(["/bin/sh", "/usr/bin/sh"]),
            arguments: list(["sh"]),
            environment: list(["PATH=/bin"]),
        },
    ]
}

/// The whole script.
pub(super) fn whole() -> Vec<OwnedStep> {
    [namespaces(), file_systems(), program()].concat()
}

/// The part of it that can be performed without a process of its own.
pub(super) fn in_process() -> Vec<OwnedStep> {
    let mut steps = namespaces();
    steps.retain(|step| !matches!(step, Step::Conceal {} | Step::Fork { .. }));
    steps.extend(file_systems());
    steps
}
