//! What the tests of the keelbox crates share. Not published, and no part of any library.
//!
//! | word | what it gives |
//! |---|---|
//! | [`require!`] | a test that cannot run here says `SKIP` aloud instead of passing silently |
//! | [`alone!`], [`as_user!`], [`apart!`] | the same test in a process of its own, as an ordinary user, or with mounts of its own |
//! | [`LeakCheck`] | what a piece of code left behind: mounts, descriptors, children, cgroups, files, … |
//! | [`HostCanary`] | files outside every root file system that no test may change |
//! | [`Racer`] | two names that change places all the time |
//! | [`PROBE`], [`probe_root`] | a static program that tells, from inside, what a container is like |
//! | [`busybox_root`], [`debian_layout`] | real user lands |
//! | [`network`] | a network of the test's own, and what is in it |
//! | [`golden!`] | compares text with a file in `tests/golden` |
//!
//! ```
//! use keelbox_testkit as testkit;
//!
//! fn the_probe_ends_as_told() -> testkit::Result {
//!     testkit::require!(Program("sh"));
//!     let root = testkit::probe_root()?;
//!     let status = std::process::Command::new(root.path().join("probe")).args(["exit", "7"]).status()?;
//!     assert_eq!(status.code(), Some(7));
//!     Ok(())
//! }
//! # the_probe_ends_as_told().unwrap();
//! ```
//!
//! # The probe
//!
//! `/probe COMMAND ARGUMENTS…` in the directory that [`probe_root`] makes. A command that fails prints
//! `probe: COMMAND: errno N` on standard error and ends with 1; a wrong command line ends with 2.
//!
//! | command | prints, or does |
//! |---|---|
//! | `true`, `exit N` | ends with 0, or with `N` |
//! | `args`, `env`, `cwd`, `hostname` | one item a line |
//! | `id` | `uid R E S`, `gid R E S`, `groups …` |
//! | `pid`, `ppid`, `umask` | a number (the umask with four octal digits) |
//! | `session` | `pid P`, `session S`, `group G` |
//! | `signals` | `blocked MASK`, `ignored MASK`: 16 hexadecimal digits, lowest bit signal 1 |
//! | `tty` | `ROWS COLUMNS` of the terminal on standard input |
//! | `caps`, `status KEY`, `mounts` | lines of `/proc/self/status`, the value of one key, `/proc/self/mountinfo` |
//! | `fds` | `N TARGET` for each open descriptor (`?` without `/proc`) |
//! | `cat PATH`, `ls PATH`, `readlink PATH` | contents (`-`: standard input), names, target |
//! | `stat PATH` | `MODE UID GID MAJOR:MINOR SIZE`, the mode octal with the file type, links not followed |
//! | `write PATH TEXT`, `mkdir PATH` | makes a file (0644, truncated) or a directory (0755) |
//! | `sleep MS`, `spin MS`, `stubborn MS` | sleeps; computes; says `ready`, then sleeps and ignores HUP, INT, QUIT, TERM |
//! | `alloc MIB [MS]` | touches memory, prints `allocated N MiB`, holds it for `MS` |
//! | `forkbomb N` | forks up to `N` children, prints `forked N` and, when refused, `errno N`; kills them |
//! | `orphan MS` | ends at once; a child of it holds the descriptors for `MS` |
//! | `flood BYTES` | writes lines of `x` |
//! | `kill PID SIGNAL` | sends a signal (`self`: to itself) |
//! | `syscall NR ARGS…` | makes any system call and prints the answer (`-errno`); `@TEXT` passes the address of a text, `buffer` that of 4096 zero bytes |
//! | `escape PATHS…` | tries to reach the host's `PATHS` and prints each way that worked, else `contained` |
#![forbid(unsafe_code)]

mod canary;
mod golden;
mod leak;
mod need;
pub mod network;
mod probe;
mod racer;
mod rerun;
mod roots;

pub use canary::HostCanary;
pub use golden::compare_golden;
pub use leak::{LeakCheck, LeakCheckBuilder};
pub use need::{Need, skip_reason};
pub use probe::{PROBE, probe_root};
pub use racer::Racer;
pub use rerun::{OrdinaryUser, alone, apart, as_user, name_of};
pub use roots::{busybox_root, debian_layout, debian_layout_in};

/// What a test returns: any error fails it.
pub type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// A return type that a test may have, so that [`require!`], [`alone!`] and [`as_user!`] can return from it.
pub trait Outcome {
    /// The value with which a test ends that has nothing more to do.
    fn finished() -> Self;
}

impl Outcome for () {
    fn finished() -> Self {}
}

impl<E> Outcome for Result<(), E> {
    fn finished() -> Self {
        Ok(())
    }
}

/// The host name of the calling process's UTS namespace.
///
/// # Errors
///
/// When `/proc` is not mounted.
pub fn host_name() -> std::io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/hostname")?.trim_end().to_owned())
}
