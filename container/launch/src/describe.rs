//! Words for steps: what each one attempts, on what, and why it is there.
//!
//! A sentence fits behind "cannot": an error is made of it, and a printed plan is a list of them. What is not here: numbers
//! of steps and answers of the kernel, which whoever prints a plan or reports an error adds.

mod show;

use std::ffi::CStr;
use std::fmt::{self, Display, Formatter};

use show::*;

use crate::owned::{Owned, strings};
use crate::step::{MapFile, Step, Wait};

/// One line for each step: the pattern, its sentence, and why it is there.
macro_rules! describe {
    ($f:ident; $($pattern:pat => $sentence:expr, $why:literal;)*) => {
        impl Display for Step<Owned> {
            fn fmt(&self, $f: &mut Formatter<'_>) -> fmt::Result {
                match self { $($pattern => $sentence,)* }
            }
        }

        impl Step<Owned> {
            /// Why a container has this step: one sentence, with the manual page to read on.
            ///
            /// ```
            /// let step = keelbox_launch::OwnedStep::LeaveOldRoot {};
            /// assert!(step.explain().contains("umount2(2)"));
            /// ```
            #[allow(unused_variables, reason = "the patterns bind what the sentences show")]
            pub fn explain(&self) -> &'static str {
                match self { $($pattern => $why,)* }
            }
        }
    };
}

describe! { f;
    Self::Conceal {} => f.write_str("close the stage to ptrace"),
        "Until the program runs, no other process may look into this one, which still holds descriptors of the host (PR_SET_DUMPABLE in prctl(2)).";
    Self::Wait { what, .. } => f.write_str(awaited(*what)),
        "The parent has something to do before the next step, and says when it is done (user_namespaces(7) for the id maps).";
    Self::Dies { signal } => write!(f, "ask for signal {signal} when the host ends"),
        "A container must not outlive the program that owns it (PR_SET_PDEATHSIG in prctl(2)).";
    Self::Session {} => f.write_str("start a new session"),
        "Without a session of its own the program could reach the host's terminal (setsid(2), TIOCSTI in ioctl_tty(2)).";
    Self::Fork { flags, .. } => write!(f, "clone the container's process{}", BornIn(*flags)),
        "A process enters a pid namespace only by being born there (pid_namespaces(7)).";
    Self::Join { kinds, .. } => write!(f, "join {}", Namespaces(u64::from(*kinds), "")),
        "What runs in a namespace that exists already sees what its members see (setns(2)).";
    Self::Unshare { kinds } => write!(f, "make {}", Namespaces(u64::from(*kinds), "new ")),
        "From here on the process has these kinds of things for itself (unshare(2), namespaces(7)).";
    Self::Map { file, text } => write!(f, "write {} to {}", Quoted(text.to_bytes()), map_file(*file)),
        "The map says which ids of the host the ids in the user namespace stand for (user_namespaces(7)).";
    Self::TimeOffsets { text } => write!(f, "set the clock offsets to {}", Quoted(text.to_bytes())),
        "The container's monotonic and boot clocks start where it expects them (time_namespaces(7)).";
    Self::Hostname { name } => write!(f, "set the host name to {}", Quoted(name.to_bytes())),
        "The container has a host name of its own (sethostname(2), uts_namespaces(7)).";
    Self::Domainname { name } => write!(f, "set the domain name to {}", Quoted(name.to_bytes())),
        "The container has a NIS domain name of its own (setdomainname(2), uts_namespaces(7)).";
    Self::Loopback {} => f.write_str("bring the loopback interface up"),
        "A new network namespace has a loopback interface, but it is down (network_namespaces(7), netdevice(7)).";
    Self::Write { path, data, .. } => write!(f, "write {} to {}", Quoted(data), Text(path)),
        "Some of the kernel's settings are files (proc(5), sysfs(5), cgroups(7)).";
    Self::WriteTo { file, data } => write!(f, "write {} to {}", Quoted(data), Numbered(*file)),
        "The process joins the control group whose file the host has opened (cgroups(7)).";

    Self::Propagation { path, flags } => write!(f, "make {} {}", Text(path), propagation(*flags)),
        "What is mounted in the container must not appear on the host (mount_namespaces(7), shared subtrees).";
    Self::Tree { directory, source, recursive, set, clear, propagation: travel, idmap, .. } => {
        write!(f, "copy the {} {}", if *recursive == 0 { "mount" } else { "mount tree" }, Source(*directory, source))?;
        Notes(&[&Attributes(*set, *clear), &Word(propagation(*travel)), &Word(if idmap.is_none() { "" } else { "ids mapped" })]).fmt(f)
    },
        "A copy that is attached nowhere yet can be given its attributes before anybody sees it (open_tree(2)).";
    Self::FileSystem { kind, options, set, .. } => {
        write!(f, "make {} {} file system", article(kind), Text(kind))?;
        Notes(&[&Attributes(*set, 0), &Strings(options)]).fmt(f)
    },
        "A file system that is attached nowhere yet can be prepared before anybody sees it (fsopen(2), fsmount(2)).";
    Self::AttachOutside { tree, target } => write!(f, "attach {} at {} of the host", Numbered(*tree), Text(target)),
        "Some file systems can only be built from a mount that has a place (move_mount(2)).";
    Self::PivotRoot { tree, .. } => write!(f, "make {} the root", Numbered(*tree)),
        "After this, no path leads to a file of the host (pivot_root(2), mount_namespaces(7)).";
    Self::LeaveOldRoot {} => f.write_str("leave the old root"),
        "The host's mounts are taken out of the container's mount namespace (MNT_DETACH in umount2(2)).";
    Self::MoveRoot { tree } => write!(f, "move {} onto the root", Numbered(*tree)),
        "The first root of a machine cannot be pivoted, so the new one is moved over it (MS_MOVE in mount(2), chroot(2)).";
    Self::Mount { kind, target, flags, data, .. } => {
        match flags & MS_REMOUNT {
            0 => write!(f, "mount {} on {}", Text(kind), Text(target))?,
            _ => write!(f, "remount {}", Text(target))?,
        }
        Notes(&[&MountFlags(*flags), &Text(data)]).fmt(f)
    },
        "Programs expect this file system at this place (mount(2); proc(5), sysfs(5), tmpfs(5), mq_overview(7)).";
    Self::Attach { tree, target, .. } => write!(f, "attach {} on {}", Numbered(*tree), Text(target)),
        "A prepared mount gets its place in the container (move_mount(2)).";
    Self::Attributes { target, set, clear, propagation: travel, recursive } => {
        let what = Notes(&[&Attributes(*set, *clear), &Word(propagation(*travel))]).joined();
        write!(f, "make {} {what}{}", Text(target), if *recursive == 0 { "" } else { ", with all mounts below" })
    },
        "A mount can forbid more than its file system does (mount_setattr(2)).";
    Self::ReadOnly { target } => write!(f, "make {} read-only", Text(target)),
        "The program may look at these settings of the kernel but not change them (MS_BIND and MS_RDONLY in mount(2), proc(5)).";
    Self::Mask { target, .. } => write!(f, "mask {}", Text(target)),
        "What these files tell about the host is nobody's business in the container (proc(5), bind mounts in mount(8)).";
    Self::Enter { path } => write!(f, "enter {}", Text(path)),
        "The next steps name files in this directory by their last component (chdir(2), openat2(2)).";
    Self::Directory { path, mode } => write!(f, "make directory {} (mode {mode:04o})", Text(path)),
        "Something is to be mounted or stored there (mkdir(2)).";
    Self::File { path, mode, content } => write!(f, "write file {} (mode {mode:04o}, {} bytes)", Text(path), content.len()),
        "The program is to find this file (openat2(2), write(2)).";
    Self::Link { path, target } => write!(f, "make symbolic link {} to {}", Text(path), Text(target)),
        "Programs expect this name; what it stands for is elsewhere (symlink(2), null(4), pts(4)).";
    Self::Node { path, mode, device, .. } => node(f, path, *mode, *device),
        "Programs expect the harmless devices, and get no others (mknod(2), null(4), random(4), tty(4)).";
    Self::Open { path, .. } => write!(f, "open directory {}", Text(path)),
        "Later steps start from this directory, whatever becomes of its path (O_PATH in open(2)).";
    Self::CopyUp { target, .. } => write!(f, "copy what {} has held into it", Text(target)),
        "A file system in memory begins with what the image has at that place (mount(8), tmpfs(5)).";
    Self::Owner { path, user, group } => write!(f, "give {} to user {user} and group {group}", Text(path)),
        "It is to belong to whom the image says (chown(2), path_resolution(7)).";

    Self::Umask { mask } => match *mask {
        Self::CALLERS_UMASK => f.write_str("set the umask to the caller's"),
        mask => write!(f, "set the umask to {mask:04o}"),
    },
        "New files get no more mode bits than this leaves (umask(2)).";
    Self::ResourceLimit { resource, soft, hard } => {
        write!(f, "set {} to {} (hard {})", Named("RLIMIT_", LIMITS, *resource), Limit(*soft), Limit(*hard))
    },
        "A limit of the process itself, besides those of its cgroup (getrlimit(2)).";
    Self::Scheduler { attr } => write!(f, "set the scheduling policy to {}", Policy(attr)),
        "The program runs under this scheduling policy (sched_setattr(2), sched(7)).";
    Self::Nice { value } => write!(f, "set the nice value to {value}"),
        "The program gets more or less of the processor than others (setpriority(2), sched(7)).";
    Self::IoPriority { value } => {
        write!(f, "set the I/O priority to {} {}", Named("class ", IO_CLASSES, value >> 13), value & 0x1fff)
    },
        "The program's disk requests are served before or after those of others (ioprio_set(2)).";
    Self::Affinity { mask } => write!(f, "keep to processors {}", Bits(mask)),
        "The program runs on these processors only (sched_setaffinity(2)).";
    Self::MemoryPolicy { mode, nodes } => {
        write!(f, "set the memory policy to {} on nodes {}", Named("mode ", MEMORY_POLICIES, mode & 0xfff), Bits(nodes))
    },
        "The program's memory comes from these nodes (set_mempolicy(2), numa(7)).";
    Self::Personality { value } => write!(f, "set the execution domain to {value:#x}"),
        "The program runs as on another kind of machine, such as a 32-bit one (personality(2)).";
    Self::Keyring { name } => match name.to_bytes() {
        b"" => f.write_str("join a new session keyring"),
        name => write!(f, "join the session keyring {}", Quoted(name)),
    },
        "The program must not find the host's keys (session-keyring(7), keyctl(2)).";
    Self::Groups { list } => write!(f, "set the supplementary groups to {}", GroupList(list)),
        "The host's own groups are given up; the program has those of its user (setgroups(2)).";
    Self::Ids { user, group } => write!(f, "become user {user} and group {group}"),
        "The program runs as this user (setresuid(2), credentials(7)).";
    Self::Bounding { keep } => write!(f, "drop all capabilities but {} from the bounding set", Capabilities(*keep)),
        "What is not in the bounding set cannot be gained by executing a program (capabilities(7)).";
    Self::Capabilities { effective, permitted, inheritable, ambient } => {
        write!(f, "set the capabilities to {}", Capabilities(*effective))?;
        for (name, set) in [("permitted", permitted), ("inheritable", inheritable), ("ambient", ambient)] {
            if set != effective && (name == "permitted" || *set != 0) {
                write!(f, ", {name} {}", Capabilities(*set))?;
            }
        }
        Ok(())
    },
        "Root's power is made of parts, and the program gets only these (capabilities(7)).";
    Self::NoNewPrivileges {} => f.write_str("forbid gaining privileges"),
        "A set-user-id program gives nothing more than its caller has (PR_SET_NO_NEW_PRIVS in prctl(2)).";
    Self::Seccomp { filter, .. } => write!(f, "install a seccomp filter of {} instructions", filter.len() / 8),
        "System calls that the program does not need are refused (seccomp(2)).";
    Self::Descriptor { slot, number } => write!(f, "make {} descriptor {number}", Numbered(*slot)),
        "The program inherits this open file, and no other (dup2(2), close_range(2)).";
    Self::Terminal { rows, columns, .. } => write!(f, "open a terminal of {rows} rows and {columns} columns"),
        "The program talks to a terminal of the container's own (pty(7), pts(4)).";
    Self::Signals {} => f.write_str("reset the signals"),
        "What the host ignores or blocks is no matter of the program (signal(7), execve(2)).";
    Self::WorkingDirectory { path, .. } => write!(f, "change to directory {}", Text(path)),
        "The program starts here, and surely inside the container (chdir(2), getcwd(2)).";
    Self::Tell { what } => write!(f, "tell the host {what}"),
        "The host waits for the container to have come this far (send(2)).";
    Self::Exec { paths, .. } => write!(f, "execute {}", Text(strings(paths).next().unwrap_or(c"nothing"))),
        "The program takes the place of the stage, and the container runs (execve(2)).";
    Self::Find { name, .. } => write!(f, "look for the program {}", Text(name)),
        "That it is not there is told when the container is created, not only when it is started (access(2)).";
}

fn awaited(what: Wait) -> &'static str {
    match what {
        Wait::Maps => "wait for the id maps",
        Wait::Parent => "wait for the cloning thread to end",
        Wait::Start => "wait for the start",
        Wait::Connection => "wait for a connection that says start",
        Wait::Hooks => "wait for the hooks",
        Wait::Devices => "wait for the network devices",
    }
}

fn map_file(file: MapFile) -> &'static str {
    match file {
        MapFile::Groups => "/proc/self/setgroups",
        MapFile::Users => "/proc/self/uid_map",
        MapFile::GroupIds => "/proc/self/gid_map",
    }
}

fn article(kind: &CStr) -> &'static str {
    if kind.to_bytes().first().is_some_and(|letter| b"aeiou".contains(letter)) { "an" } else { "a" }
}

fn node(f: &mut Formatter<'_>, path: &CStr, mode: u32, device: u64) -> fmt::Result {
    let kind = match mode & 0o170_000 {
        0o010_000 => return write!(f, "make named pipe {}", Text(path)),
        0o060_000 => "block device",
        _ => "device",
    };
    let (major, minor) = (libc::major(device), libc::minor(device));
    write!(f, "make {kind} {} ({major}:{minor})", Text(path))
}

const MS_REMOUNT: u64 = 0x20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::owned::{OwnedStep, list, text};
    use crate::step::Slot;

    fn shown(step: &OwnedStep) -> String {
        step.to_string()
    }

    fn mount(kind: &str, target: &str, flags: u64, data: &str) -> OwnedStep {
        let (kind, target, data) = (text(kind), text(target), text(data));
        OwnedStep::Mount { source: kind.clone(), kind, target, flags, data, create: crate::step::Create::Nothing }
    }

    fn tree(directory: Slot, source: &str, set: u64, clear: u64, propagation: u64) -> OwnedStep {
        let (idmap, out) = (Slot::NONE, Slot(0));
        let (recursive, attributes_recursive, source) = (0x8000, 0, text(source));
        OwnedStep::Tree { directory, source, recursive, set, clear, propagation, attributes_recursive, idmap, out }
    }

    #[test]
    fn mounts_are_told_with_their_flags() {
        let table = [
            (mount("proc", "/proc", 0, ""), "mount proc on /proc"),
            (mount("proc", "/proc", 14, "hidepid=2"), "mount proc on /proc (nosuid, nodev, noexec, hidepid=2)"),
            (mount("", "/x", 0x21, ""), "remount /x (ro)"),
            (tree(Slot::NONE, "/srv", 1, 0, 0), "copy the mount tree at /srv (ro)"),
            (
                tree(Slot(3), "", 0x20_0001, 0, 0x44000),
                "copy the mount tree of descriptor 3 (ro, nosymfollow, rprivate)",
            ),
            (tree(Slot(3), "a", 0x10, 0x70, 0), "copy the mount tree at a below descriptor 3 (noatime)"),
            (tree(Slot::NONE, "/srv", 0, 0x71, 0), "copy the mount tree at /srv (rw, relatime)"),
            (OwnedStep::Propagation { path: text("/"), flags: 0x84000 }, "make / rslave"),
        ];
        for (step, words) in table {
            assert_eq!(shown(&step), words);
        }
    }

    #[test]
    fn file_systems_and_attributes_name_all_that_is_asked() {
        let options = list(["lowerdir+=/a", "userxattr"]);
        let overlay =
            OwnedStep::FileSystem { kind: text("overlay"), options, set: 0, directory: Slot::NONE, out: Slot(1) };
        assert_eq!(shown(&overlay), "make an overlay file system (lowerdir+=/a, userxattr)");
        let target = text("/x");
        let step = OwnedStep::Attributes { target, set: 9, clear: 2, propagation: 1 << 20, recursive: 0x8000 };
        assert_eq!(shown(&step), "make /x ro, noexec, suid, shared, with all mounts below");
    }

    #[test]
    fn files_are_told_with_mode_and_size() {
        let (user, group) = (0, 0);
        let node = |path: &str, mode, device| OwnedStep::Node { path: text(path), mode, device, user, group };
        assert_eq!(shown(&node("/dev/null", 0o020_666, libc::makedev(1, 3))), "make device /dev/null (1:3)");
        assert_eq!(shown(&node("disk", 0o060_600, libc::makedev(259, 300))), "make block device disk (259:300)");
        assert_eq!(shown(&node("p", 0o010_600, 0)), "make named pipe p");
        let file = OwnedStep::File { path: text("/etc/hosts"), mode: 0o644, content: b"x".to_vec() };
        assert_eq!(shown(&file), "write file /etc/hosts (mode 0644, 1 bytes)");
    }

    #[test]
    fn names_stand_for_bits_and_numbers() {
        let table = [
            (OwnedStep::Unshare { kinds: 0x6000_0000 }, "make new pid, network namespaces"),
            (OwnedStep::Unshare { kinds: 0x2_0000 }, "make a new mount namespace"),
            (OwnedStep::Join { namespace: Slot(1), kinds: 0x1000_0000 }, "join the user namespace"),
            (OwnedStep::Fork { flags: 0, cgroup: Slot::NONE }, "clone the container's process"),
            (
                OwnedStep::Fork { flags: 0x2000_0000, cgroup: Slot::NONE },
                "clone the container's process in a new pid namespace",
            ),
        ];
        for (step, words) in table {
            assert_eq!(shown(&step), words);
        }
    }

    #[test]
    fn limits_and_sets_have_names() {
        let table = [
            (OwnedStep::Bounding { keep: 0x21 }, "drop all capabilities but chown, kill from the bounding set"),
            (OwnedStep::Bounding { keep: u64::MAX }, "drop all capabilities but all from the bounding set"),
            (
                OwnedStep::ResourceLimit { resource: 7, soft: 9, hard: u64::MAX },
                "set RLIMIT_NOFILE to 9 (hard unlimited)",
            ),
            (OwnedStep::ResourceLimit { resource: 99, soft: 0, hard: 0 }, "set RLIMIT_99 to 0 (hard 0)"),
            (OwnedStep::IoPriority { value: 2 << 13 | 4 }, "set the I/O priority to best-effort 4"),
            (OwnedStep::Affinity { mask: vec![0b1011, 1] }, "keep to processors 0-1, 3, 8"),
            (
                OwnedStep::Groups { list: [4u32, 20].map(u32::to_ne_bytes).concat() },
                "set the supplementary groups to 4, 20",
            ),
            (OwnedStep::Groups { list: vec![] }, "set the supplementary groups to none"),
        ];
        for (step, words) in table {
            assert_eq!(shown(&step), words);
        }
    }

    #[test]
    fn capability_sets_are_told_apart_only_where_they_differ() {
        let same = OwnedStep::Capabilities { effective: 1, permitted: 1, inheritable: 0, ambient: 0 };
        assert_eq!(shown(&same), "set the capabilities to chown");
        let other = OwnedStep::Capabilities { effective: 0, permitted: 1, inheritable: 1, ambient: 0 };
        assert_eq!(shown(&other), "set the capabilities to none, permitted chown, inheritable chown");
    }

    #[test]
    fn strange_and_long_strings_stay_on_one_short_line() {
        assert_eq!(shown(&OwnedStep::Hostname { name: text("a\nb") }), "set the host name to \"a\\nb\"");
        let long = shown(&OwnedStep::Enter { path: text("/".repeat(4000)) });
        assert_eq!(long.chars().count(), "enter ".len() + LONGEST + 1);
    }

    #[test]
    fn every_explanation_is_one_sentence_with_a_manual_page() {
        let exec = OwnedStep::Exec { paths: list(["/bin/sh", "/usr/bin/sh"]), arguments: vec![], environment: vec![] };
        assert_eq!(shown(&exec), "execute /bin/sh");
        for step in [exec, OwnedStep::Conceal {}, OwnedStep::Loopback {}, OwnedStep::NoNewPrivileges {}] {
            let why = step.explain();
            assert!(why.ends_with(").") && (why.contains("(2)") || why.contains("(7)")), "{why}");
            assert_eq!(why.matches(". ").count(), 0, "{why}");
        }
    }
}
