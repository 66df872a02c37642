//! What a test needs of the machine, and how a test that lacks it says so.
//!
//! Each need is tried for real (a namespace is made, a directory is asked whether it is writable), never guessed from a
//! version. Oldest kernel: any.

use crate::rerun::OrdinaryUser;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{AccessFlags, access, geteuid};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fmt, fs};

/// Something that a test needs and a machine may lack. Named in [`require!`](crate::require).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Need {
    /// The effective user is root.
    Root,
    /// The test can be run as a user without privilege: root with `setpriv(1)`, or already such a user.
    OrdinaryUser,
    /// The calling user may make a user namespace with a mapped root.
    UserNamespace,
    /// The calling user may make a mount namespace without a user namespace.
    MountNamespace,
    /// The calling user may make a network namespace without a user namespace.
    NetNamespace,
    /// In a network namespace of its own the calling user may make a network device of this kind, with `ip(8)`.
    LinkKind(&'static str),
    /// In a network namespace of its own the calling user may filter packets, of bridges too, with `nft(8)`.
    PacketFilter,
    /// A writable cgroup hierarchy of this controller, of whichever version. Every group of v2 has what v1 calls `freezer` and
    /// `devices`.
    Cgroup(&'static str),
    /// A writable cgroup v1 hierarchy of this controller.
    CgroupV1(&'static str),
    /// A writable cgroup v2 hierarchy that offers this controller.
    CgroupV2(&'static str),
    /// A writable cgroup v2 hierarchy, with or without controllers.
    Unified,
    /// The kernel has overlayfs.
    Overlay,
    /// The kernel has seccomp filters.
    Seccomp,
    /// A pseudo-terminal can be made.
    Tty,
    /// This program is in `PATH`.
    Program(&'static str),
    /// This path exists.
    Exists(&'static str),
    /// The slow tests were asked for, with `KEELBOX_SLOW=1` in the environment.
    Slow,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cgroup(name) => write!(f, "Cgroup({name})"),
            Self::CgroupV1(name) => write!(f, "CgroupV1({name})"),
            Self::CgroupV2(name) => write!(f, "CgroupV2({name})"),
            Self::Program(name) => write!(f, "Program({name})"),
            Self::Exists(path) => write!(f, "Exists({path})"),
            Self::LinkKind(kind) => write!(f, "LinkKind({kind})"),
            other => write!(f, "{other:?}"),
        }
    }
}

impl Need {
    /// Tells what is missing, or nothing when the need is met.
    #[must_use]
    pub fn missing(self) -> Option<String> {
        let (met, reason) = match self {
            Self::Root => (geteuid().is_root(), "not running as root".to_owned()),
            Self::OrdinaryUser => (has_ordinary_user(), "cannot become an ordinary user with setpriv".to_owned()),
            Self::UserNamespace => (has_user_namespace(), "may not make a user namespace".to_owned()),
            Self::MountNamespace => (may_unshare(CloneFlags::CLONE_NEWNS), "may not make a mount namespace".to_owned()),
            Self::NetNamespace => {
                (may_unshare(CloneFlags::CLONE_NEWNET), "may not make a network namespace".to_owned())
            }
            Self::LinkKind(kind) => (has_link_kind(kind), format!("may not make a network device of the kind {kind}")),
            Self::PacketFilter => (has_packet_filter(), "may not filter packets with nft".to_owned()),
            Self::Cgroup(name) => (has_either(name), format!("no writable cgroup hierarchy of {name}")),
            Self::CgroupV1(name) => (has_v1(name), format!("no writable cgroup v1 hierarchy of {name}")),
            Self::CgroupV2(name) => (has_v2(Some(name)), format!("no writable cgroup v2 hierarchy with {name}")),
            Self::Unified => (has_v2(None), "no writable cgroup v2 hierarchy".to_owned()),
            Self::Overlay => (file_mentions("/proc/filesystems", "overlay"), "the kernel has no overlayfs".to_owned()),
            Self::Seccomp => (
                Path::new("/proc/sys/kernel/seccomp/actions_avail").exists(),
                "the kernel has no seccomp filters".to_owned(),
            ),
            Self::Tty => (has_terminals(), "no pseudo-terminal to be had from /dev/ptmx".to_owned()),
            Self::Program(name) => (find_program(name).is_some(), format!("no program {name} in PATH")),
            Self::Exists(path) => (Path::new(path).exists(), format!("no {path}")),
            Self::Slow => (
                env::var_os("KEELBOX_SLOW").is_some_and(|value| value == "1"),
                "slow; KEELBOX_SLOW=1 runs it".to_owned(),
            ),
        };
        (!met).then_some(reason)
    }
}

/// Checks that the test may run, else says `SKIP test-name: reason` on standard error and returns from it.
///
/// Takes variants of [`Need`], without `Need::`. With `KEELBOX_CI=1` in the environment it panics instead when the
/// missing need is one that `KEELBOX_CI_HAS` lists (comma-separated, as [`Need`] displays them: `Root,CgroupV1(pids)`;
/// a name without its brackets stands for all of them), so that a machine which lost a feature cannot turn a test into
/// a silent pass.
///
/// ```
/// fn a_test() {
///     keelbox_testkit::require!(Root, CgroupV1("memory"), Program("crun"));
///     // here root, a memory hierarchy and crun are at hand
/// }
/// # a_test();
/// ```
#[macro_export]
macro_rules! require {
    ($($need:ident $(($argument:expr))?),+ $(,)?) => {
        $(
            if $crate::skip_reason($crate::test_name!(), $crate::Need::$need $(($argument))?).is_some() {
                return $crate::Outcome::finished();
            }
        )+
    };
}

/// What [`require!`](crate::require) calls: tells why `test` is to be skipped, after having said it on standard error.
///
/// # Panics
///
/// When the need is missing although `KEELBOX_CI=1` and `KEELBOX_CI_HAS` say that this machine has it.
pub fn skip_reason(test: &str, need: Need) -> Option<String> {
    let reason = need.missing()?;
    let promised = env::var("KEELBOX_CI_HAS").unwrap_or_default();
    let strict = env::var_os("KEELBOX_CI").is_some_and(|value| value == "1");
    assert!(!(strict && promises(&promised, need)), "{test}: {reason}, but this machine is to have {need}");
    crate::rerun::say(&format!("SKIP {test}: {reason}"));
    Some(reason)
}

fn promises(list: &str, need: Need) -> bool {
    let name = need.to_string();
    let family = name.split('(').next().unwrap_or_default();
    let mut entries = list.split(',').map(str::trim);
    match need {
        // A promise of either version is one.
        Need::Cgroup(controller) => ["Cgroup", "CgroupV1", "CgroupV2"].iter().any(|family| {
            let exact = format!("{family}({controller})");
            entries.clone().any(|entry| entry == *family || entry == exact)
        }),
        _ => entries.any(|entry| entry == name || entry == family),
    }
}

/// Finds an executable file by the search path of the environment.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let usual = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(usual)
        .map(|directory| directory.join(name))
        .find(|file| file.is_file() && access(file, AccessFlags::X_OK).is_ok())
}

fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

fn has_ordinary_user() -> bool {
    !geteuid().is_root() || OrdinaryUser::for_tests().is_ok_and(|user| succeeds(&mut user.command("true")))
}

fn has_user_namespace() -> bool {
    // A process of its own: `unshare(2)` refuses a user namespace to a process with threads.
    succeeds(Command::new("unshare").args(["--user", "--map-root-user", "true"]))
}

fn may_unshare(flags: CloneFlags) -> bool {
    // A thread of its own, so that the caller stays where it is.
    std::thread::spawn(move || unshare(flags).is_ok()).join().unwrap_or(false)
}

/// Whether a line of the shell succeeds in a network of its own.
fn in_own_network(line: &str) -> bool {
    succeeds(Command::new("unshare").args(["--net", "sh", "-c", line]))
}

fn has_link_kind(kind: &str) -> bool {
    // A device below is what some kinds need, and the others leave alone.
    let below = if kind == "macvlan" { "link kb0" } else { "" };
    let pair = "ip link add kb0 type veth peer name kb1";
    in_own_network(&format!("{pair} && {{ [ {kind} = veth ] || ip link add {below} name kb2 type {kind}; }}"))
}

fn has_packet_filter() -> bool {
    let nat = "nft add chain inet t n '{ type nat hook prerouting priority -100; }'";
    let rule = "nft add rule inet t n fib daddr type local ct state new counter";
    let bridge = "nft add table bridge t && nft add chain bridge t f '{ type filter hook prerouting priority -300; }'";
    let out =
        "nft add chain inet t m '{ type nat hook postrouting priority 100; }' && nft add rule inet t m masquerade";
    in_own_network(&format!("nft add table inet t && {nat} && {rule} && {out} && {bridge}"))
}

fn has_terminals() -> bool {
    fs::OpenOptions::new().read(true).write(true).open("/dev/ptmx").is_ok()
}

fn file_mentions(path: &str, word: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.split_whitespace().any(|each| each == word))
}

/// A mounted cgroup hierarchy.
pub(crate) struct Hierarchy {
    /// Where it is mounted.
    pub(crate) mount_point: PathBuf,
    /// `cgroup` or `cgroup2`.
    pub(crate) kind: String,
    /// The options of the superblock; for v1 they name the controllers.
    pub(crate) options: String,
}

/// All cgroup hierarchies in the mount table of the calling thread.
pub(crate) fn hierarchies() -> Vec<Hierarchy> {
    let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
    let parse = |line: &str| {
        let (mount, source) = line.split_once(" - ")?;
        let mut source = source.split(' ');
        let kind = source.next().filter(|kind| matches!(*kind, "cgroup" | "cgroup2"))?.to_owned();
        let mount_point = PathBuf::from(mount.split(' ').nth(4)?);
        let options = source.nth(1).unwrap_or_default().to_owned();
        Some(Hierarchy { mount_point, kind, options })
    };
    table.lines().filter_map(parse).collect()
}

fn writable(path: &Path) -> bool {
    access(path, AccessFlags::W_OK).is_ok()
}

fn has_v1(controller: &str) -> bool {
    let wanted = |each: &Hierarchy| each.kind == "cgroup" && each.options.split(',').any(|name| name == controller);
    hierarchies().iter().any(|each| wanted(each) && writable(&each.mount_point))
}

fn has_v2(controller: Option<&str>) -> bool {
    let offers = |each: &Hierarchy| {
        let file = each.mount_point.join("cgroup.controllers");
        let names = fs::read_to_string(file).unwrap_or_default();
        controller.is_none_or(|wanted| names.split_whitespace().any(|name| name == wanted))
    };
    hierarchies().iter().any(|each| each.kind == "cgroup2" && offers(each) && writable(&each.mount_point))
}

fn has_either(controller: &'static str) -> bool {
    let everywhere = matches!(controller, "freezer" | "devices");
    has_v1(controller) || has_v2((!everywhere).then_some(controller))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_missed_and_a_present_one_is_not() {
        assert_eq!(Need::Program("sh").missing(), None);
        let reason = Need::Program("no-such-program-here").missing();
        assert_eq!(reason.as_deref(), Some("no program no-such-program-here in PATH"));
    }

    #[test]
    fn a_made_up_controller_is_missed() {
        assert!(Need::Cgroup("bananas").missing().is_some());
        assert!(Need::CgroupV1("bananas").missing().is_some());
        assert!(Need::CgroupV2("bananas").missing().is_some());
    }

    #[test]
    fn promises_match_exactly_or_by_family() {
        let list = "Root, CgroupV1(pids),Program";
        assert!(promises(list, Need::Root));
        assert!(promises(list, Need::CgroupV1("pids")));
        assert!(!promises(list, Need::CgroupV1("memory")));
        assert!(promises(list, Need::Program("anything")));
        assert!(!promises(list, Need::Overlay));
        assert!(promises(list, Need::Cgroup("pids")));
        assert!(!promises(list, Need::Cgroup("memory")));
        assert!(promises("CgroupV2(memory)", Need::Cgroup("memory")));
    }

    #[test]
    fn require_returns_from_the_test() {
        fn skipping() {
            crate::require!(Program("no-such-program-here"));
            panic!("the test went on");
        }
        fn skipping_with_a_result() -> crate::Result {
            crate::require!(Root, Program("no-such-program-here"));
            Err("the test went on".into())
        }
        skipping_in_a_child(skipping);
        skipping_in_a_child(|| skipping_with_a_result().expect("it was skipped"));
    }

    /// The SKIP line of a skip that is made on purpose must not count as one of this run.
    fn skipping_in_a_child(test: fn()) {
        crate::rerun::silently(test);
    }
}
