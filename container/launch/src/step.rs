//! What the stage is asked to do, as data: one [`Step`] names one thing the kernel is asked for.
//!
//! The same definition serves planners (owned strings, [`Owned`]) and the stage (strings that lie in the message,
//! [`Wire`]). Needs no `std`. Steps of one script share a table of descriptors; a [`Slot`] is an index into it.

use core::ffi::CStr;
use core::fmt::Debug;

use crate::wire::{Decode, Encode, Malformed, Reader, Sink};

/// How strings and bytes of a step are held.
pub trait Form: Clone + Debug + Eq {
    /// A NUL-terminated string.
    type Text: AsRef<CStr> + Encode + Clone + Debug + Eq;
    /// Any bytes.
    type Bytes: AsRef<[u8]> + Encode + Clone + Debug + Eq;
}

/// Strings that lie in a received message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wire<'a>(core::marker::PhantomData<&'a [u8]>);

impl<'a> Form for Wire<'a> {
    type Text = &'a CStr;
    type Bytes = &'a [u8];
}

/// An index into the table of descriptors that a script's steps share.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Slot(pub u16);

impl Slot {
    /// No descriptor.
    pub const NONE: Self = Self(u16::MAX);
    /// How many descriptors a script can hold.
    pub const COUNT: usize = 320;
}

/// What a step waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum Wait {
    /// The parent has written the id maps.
    Maps = 1,
    /// The thread that cloned the stage has ended, so the parent-death signal now means the process.
    Parent = 2,
    /// The caller says that the program may start.
    Start = 3,
    /// Like `Start`, but the word comes over a connection to the listening socket in the named slot.
    Connection = 4,
    /// Others have done what they do with a container that is made but not closed yet.
    Hooks = 5,
    /// The parent has moved network devices into the stage's namespace.
    Devices = 6,
}

/// What is made at a mount target that does not exist.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum Create {
    /// Nothing: the target must exist.
    Nothing = 0,
    /// A directory, with the directories above it.
    Directory = 1,
    /// An empty file, with the directories above it.
    File = 2,
}

/// Which of the user namespace's three files a map goes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum MapFile {
    /// `/proc/self/setgroups`
    Groups = 0,
    /// `/proc/self/uid_map`
    Users = 1,
    /// `/proc/self/gid_map`
    GroupIds = 2,
}

macro_rules! codes {
    ($($kind:ident: $($variant:ident)*;)*) => {$(
        impl Encode for $kind {
            fn encode(&self, sink: &mut impl Sink) { (*self as u32).encode(sink); }
        }
        impl<'a> Decode<'a> for $kind {
            fn decode(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
                match u32::decode(reader)? { $(code if code == Self::$variant as u32 => Ok(Self::$variant),)* _ => Err(Malformed) }
            }
        }
    )*};
}
codes! { Wait: Maps Parent Start Connection Hooks Devices; Create: Nothing Directory File; MapFile: Groups Users GroupIds; }

impl Encode for Slot {
    fn encode(&self, sink: &mut impl Sink) {
        u32::from(self.0).encode(sink);
    }
}

impl<'a> Decode<'a> for Slot {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        u16::try_from(u32::decode(reader)?).map(Slot).map_err(|_| Malformed)
    }
}

macro_rules! steps {
    ($($(#[$doc:meta])* $code:literal $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty,)* })*) => {
        /// One thing the kernel is asked to do.
        ///
        /// Paths that begin with `/` and are said to be *inside* are resolved below the new root, never through a
        /// magic link; an inside path without `/` is one name in the directory entered last by [`Step::Enter`].
        #[derive(Clone, Debug, Eq, PartialEq)]
        #[non_exhaustive]
        pub enum Step<F: Form> {
            $($(#[$doc])* $name { $($(#[$field_doc])* $field: $kind,)* },)*
        }

        impl<F: Form> Encode for Step<F> {
            fn encode(&self, sink: &mut impl Sink) {
                match self {$(
                    Self::$name { $($field),* } => { u32::encode(&$code, sink); $($field.encode(sink);)* }
                )*}
            }
        }

        impl<'a> Decode<'a> for Step<Wire<'a>> {
            fn decode(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
                match u32::decode(reader)? {
                    $($code => Ok(Self::$name { $($field: Decode::decode(reader)?,)* }),)*
                    _ => Err(Malformed),
                }
            }
        }
    };
}

steps! {
    /// Closes itself to `ptrace(2)` and `/proc/PID/mem` (`PR_SET_DUMPABLE` 0) until the program is executed.
    1 Conceal {}
    /// Waits for a message of the parent, which may bring further steps and descriptors.
    2 Wait {
        /// For what.
        what: Wait,
        /// The listening socket, with [`Wait::Connection`].
        listener: Slot,
    }
    /// Ends with `signal` when the host program ends (`PR_SET_PDEATHSIG`).
    3 Dies {
        /// The signal's number.
        signal: u32,
    }
    /// Becomes the leader of a new session (`setsid(2)`).
    4 Session {}
    /// Clones once more; the copy, a child of the host, performs the remaining steps. Adds `flags` to the clone.
    5 Fork {
        /// `CLONE_NEW*` flags.
        flags: u64,
        /// A cgroup v2 directory to be born in.
        cgroup: Slot,
    }
    /// Joins namespaces (`setns(2)`).
    6 Join {
        /// A namespace file, or a pidfd.
        namespace: Slot,
        /// `CLONE_NEW*` flags: the kind expected, or the set wanted of a pidfd.
        kinds: u32,
    }
    /// Makes new namespaces (`unshare(2)`).
    7 Unshare {
        /// `CLONE_NEW*` flags.
        kinds: u32,
    }
    /// Writes one of the stage's own id maps.
    8 Map {
        /// Which.
        file: MapFile,
        /// Its content.
        text: F::Text,
    }
    /// Sets the clocks of the time namespace made for children (`/proc/self/timens_offsets`).
    9 TimeOffsets {
        /// Lines as `time_namespaces(7)` describes them.
        text: F::Text,
    }
    /// Sets the host name.
    10 Hostname {
        /// The name.
        name: F::Text,
    }
    /// Sets the NIS domain name.
    11 Domainname {
        /// The name.
        name: F::Text,
    }
    /// Brings the loopback interface up.
    12 Loopback {}
    /// Writes `data` to a file below `directory` (or anywhere, without one), never through a symbolic link.
    13 Write {
        /// Where `path` starts.
        directory: Slot,
        /// The file.
        path: F::Text,
        /// What is written, in one `write(2)`.
        data: F::Bytes,
    }

    /// Writes to an open file.
    14 WriteTo {
        /// The file.
        file: Slot,
        /// What is written, in one `write(2)`.
        data: F::Bytes,
    }

    /// Changes how mount events travel at `path` (`mount(2)` with `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE`, `MS_REC`).
    20 Propagation {
        /// A path of the host.
        path: F::Text,
        /// `MS_*` flags.
        flags: u64,
    }
    /// Takes a detached copy of the mounts at `source` (`open_tree(2)`).
    21 Tree {
        /// A directory that `source` starts from.
        directory: Slot,
        /// A path of the host, or empty for the directory itself.
        source: F::Text,
        /// `AT_RECURSIVE` or 0.
        recursive: u32,
        /// `MOUNT_ATTR_*` to set.
        set: u64,
        /// `MOUNT_ATTR_*` to clear.
        clear: u64,
        /// `MS_PRIVATE` and the like, or 0.
        propagation: u64,
        /// `AT_RECURSIVE` if the attributes are for the whole tree, or 0.
        attributes_recursive: u32,
        /// A user namespace to map ids by, or none.
        idmap: Slot,
        /// Where the tree is kept.
        out: Slot,
    }
    /// Makes a detached file system (`fsopen(2)`, `fsmount(2)`).
    22 FileSystem {
        /// `tmpfs`, `proc`, `overlay`, …
        kind: F::Text,
        /// `key=value` or `flag`, NUL-terminated each.
        options: F::Bytes,
        /// `MOUNT_ATTR_*`.
        set: u64,
        /// The directory from which relative paths in the options start.
        directory: Slot,
        /// Where the mount is kept.
        out: Slot,
    }
    /// Attaches a detached tree at a path of the host (`move_mount(2)`).
    23 AttachOutside {
        /// The tree.
        tree: Slot,
        /// An existing path of the host.
        target: F::Text,
    }
    /// Makes `tree` the root that inside paths begin at. It becomes that of the process with [`Step::LeaveOldRoot`].
    24 PivotRoot {
        /// The new root's mount. A detached one is attached on top of `/` first.
        tree: Slot,
        /// 1 if the tree is still detached.
        detached: u32,
    }
    /// Changes to the new root (`pivot_root(2)`) and gives up the old one and everything below it (`umount2(2)` with
    /// `MNT_DETACH`). `ELOOP` if something else than the old root was on top of the new one.
    25 LeaveOldRoot {}
    /// Makes `tree` the root by moving it and `chroot(2)`, where the root cannot be pivoted (initramfs).
    26 MoveRoot {
        /// The new root's mount, detached.
        tree: Slot,
    }
    /// Mounts a file system at an inside path (`mount(2)`).
    27 Mount {
        /// `proc`, `tmpfs`, …
        kind: F::Text,
        /// The source, which most file systems only show.
        source: F::Text,
        /// The inside path of a directory.
        target: F::Text,
        /// `MS_*` flags.
        flags: u64,
        /// Options of the file system.
        data: F::Text,
        /// What to make if the target is missing.
        create: Create,
    }
    /// Attaches a detached tree at an inside path (`move_mount(2)`).
    28 Attach {
        /// The tree.
        tree: Slot,
        /// The inside path.
        target: F::Text,
        /// What to make if the target is missing.
        create: Create,
    }
    /// Changes attributes of the mount at an inside path (`mount_setattr(2)`).
    29 Attributes {
        /// The inside path of a mount.
        target: F::Text,
        /// `MOUNT_ATTR_*` to set.
        set: u64,
        /// `MOUNT_ATTR_*` to clear.
        clear: u64,
        /// `MS_PRIVATE` and the like, or 0.
        propagation: u64,
        /// `AT_RECURSIVE` or 0.
        recursive: u32,
    }
    /// Makes an inside path read-only, by binding it onto itself. A path that does not exist is passed over. One
    /// name in the root of a procfs, entered by the step before, must not be that of a link.
    30 ReadOnly {
        /// The inside path.
        target: F::Text,
    }
    /// Hides an inside path behind an empty file or directory. A path that does not exist is passed over. One name in the
    /// root of a procfs, entered by the step before, must not be that of a link.
    31 Mask {
        /// The inside path.
        target: F::Text,
        /// The mount of an empty file (`/dev/null`).
        file: Slot,
        /// The mount of an empty directory.
        directory: Slot,
    }
    /// Makes the inside directory `path` the current one.
    32 Enter {
        /// The inside path.
        path: F::Text,
    }
    /// Makes a directory; one that exists is left as it is.
    33 Directory {
        /// The inside path.
        path: F::Text,
        /// Its mode.
        mode: u32,
    }
    /// Makes a file with content; a file that exists is replaced.
    34 File {
        /// The inside path.
        path: F::Text,
        /// Its mode.
        mode: u32,
        /// Its content.
        content: F::Bytes,
    }
    /// Makes a symbolic link; a link that exists is left as it is.
    35 Link {
        /// The inside path.
        path: F::Text,
        /// Where it points.
        target: F::Text,
    }
    /// Makes a device node or a named pipe.
    36 Node {
        /// The inside path.
        path: F::Text,
        /// Its type (`S_IFCHR`, `S_IFBLK`, `S_IFIFO`) and mode.
        mode: u32,
        /// Its device number, as `mknod(2)` wants it.
        device: u64,
        /// Its owner.
        user: u32,
        /// Its group.
        group: u32,
    }
    /// Opens a directory of the host, for steps that start from it.
    37 Open {
        /// The path.
        path: F::Text,
        /// Where it is kept.
        out: Slot,
    }
    /// Copies what is in the current directory, which a mount has just covered, into that mount: files with owner, mode, times
    /// and extended attributes.
    38 CopyUp {
        /// The inside path of the mount.
        target: F::Text,
        /// What its root gets of the covered directory: 1 for the mode, 2 for the owner.
        also: u32,
    }
    /// Gives a file or directory to a user and a group.
    39 Owner {
        /// The inside path.
        path: F::Text,
        /// The user.
        user: u32,
        /// The group.
        group: u32,
    }

    /// Sets the file mode creation mask.
    50 Umask {
        /// The mask, or [`Step::CALLERS_UMASK`].
        mask: u32,
    }
    /// Sets a resource limit (`prlimit(2)`).
    51 ResourceLimit {
        /// `RLIMIT_*`.
        resource: u32,
        /// Soft limit.
        soft: u64,
        /// Hard limit.
        hard: u64,
    }
    /// Sets scheduling policy and attributes (`sched_setattr(2)`).
    52 Scheduler {
        /// The structure's 56 bytes.
        attr: F::Bytes,
    }
    /// Sets the nice value.
    53 Nice {
        /// -20 to 19.
        value: i32,
    }
    /// Sets class and level of I/O priority of the process group (`ioprio_set(2)`).
    54 IoPriority {
        /// Class and level as the kernel packs them.
        value: u32,
    }
    /// Sets the processors the program may run on (`sched_setaffinity(2)`).
    55 Affinity {
        /// A bit mask.
        mask: F::Bytes,
    }
    /// Sets the NUMA memory policy (`set_mempolicy(2)`).
    56 MemoryPolicy {
        /// `MPOL_*` with mode flags.
        mode: u32,
        /// A bit mask of nodes, in whole 8-byte words.
        nodes: F::Bytes,
    }
    /// Sets the execution domain (`personality(2)`).
    57 Personality {
        /// The persona.
        value: u64,
    }
    /// Joins a session keyring (`keyctl(2)`). A kernel without keys passes over it.
    58 Keyring {
        /// Its name; empty for a new one that nobody else can join.
        name: F::Text,
    }
    /// Sets supplementary groups (`setgroups(2)`).
    59 Groups {
        /// 4 bytes each, native order.
        list: F::Bytes,
    }
    /// Sets group and user ids (`setresgid(2)`, `setresuid(2)`), keeping permitted capabilities for the next step.
    60 Ids {
        /// User.
        user: u32,
        /// Group.
        group: u32,
    }
    /// Drops capabilities from the bounding set.
    61 Bounding {
        /// A bit mask of those to keep.
        keep: u64,
    }
    /// Sets the capability sets (`capset(2)`, `PR_CAP_AMBIENT`).
    62 Capabilities {
        /// Effective.
        effective: u64,
        /// Permitted.
        permitted: u64,
        /// Inheritable.
        inheritable: u64,
        /// Ambient.
        ambient: u64,
    }
    /// Forbids gaining privileges by executing (`PR_SET_NO_NEW_PRIVS`).
    63 NoNewPrivileges {}
    /// Installs a system call filter (`seccomp(2)`); a listener is sent to the host.
    64 Seccomp {
        /// `SECCOMP_FILTER_FLAG_*`.
        flags: u32,
        /// An array of `sock_filter`.
        filter: F::Bytes,
    }
    /// Makes the descriptor in `slot` number `number` of the program.
    66 Descriptor {
        /// Which.
        slot: Slot,
        /// Its number there.
        number: u32,
    }
    /// Opens a pseudo-terminal of the new devpts, sends its master to the host and makes it terminal and standard streams.
    67 Terminal {
        /// 1 if `/dev/console` shows it too.
        console: u32,
        /// Rows.
        rows: u32,
        /// Columns.
        columns: u32,
        /// The user who owns the terminal.
        user: u32,
    }
    /// Gives signals their default action and unblocks all.
    68 Signals {}
    /// Makes an inside directory the working directory, and checks that it lies inside.
    69 WorkingDirectory {
        /// The inside path.
        path: F::Text,
        /// 1 if a missing one is made.
        create: u32,
    }
    /// Tells the host what has been reached.
    70 Tell {
        /// A number that means something to the host.
        what: u32,
    }
    /// Executes the program (`execve(2)`); the first path that can be executed wins.
    71 Exec {
        /// Paths to try, in order, NUL-terminated each.
        paths: F::Bytes,
        /// The arguments, NUL-terminated each.
        arguments: F::Bytes,
        /// The environment, NUL-terminated each. An empty `LISTEN_PID` gets the process id (sd_listen_fds(3)), which nobody
        /// else knows beforehand.
        environment: F::Bytes,
    }
    /// Looks whether one of the paths can be executed, as [`Step::Exec`] would, and executes none.
    72 Find {
        /// Paths to try, in order, NUL-terminated each.
        paths: F::Bytes,
        /// What they were made of, for an error.
        name: F::Text,
    }
}

impl<F: Form> Step<F> {
    /// For [`Step::Umask`]: the mask that the program which starts the stage has.
    pub const CALLERS_UMASK: u32 = u32::MAX;
}
