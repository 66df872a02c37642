//! How the parts of a step are shown: strings, flags, sets and lists, by the words that manual pages have for them.
//!
//! What these words are told about is in `describe.rs`.

use std::ffi::CStr;
use std::fmt::{self, Display, Formatter, Write as _};

use crate::owned::strings;
use crate::step::Slot;

/// Strings longer than this are cut where a step is shown.
pub(super) const LONGEST: usize = 160;

pub(super) const MS_REC: u64 = 0x4000;

/// `MS_*` flags that say how mount events travel, by the words of `mount(8)`.
pub(super) fn propagation(flags: u64) -> &'static str {
    const WORDS: [(u64, &str, &str); 4] = [
        (1 << 17, "unbindable", "runbindable"),
        (1 << 18, "private", "rprivate"),
        (1 << 19, "slave", "rslave"),
        (1 << 20, "shared", "rshared"),
    ];
    let word = WORDS.into_iter().find(|(flag, ..)| flags & flag != 0);
    word.map_or("", |(_, one, all)| if flags & MS_REC == 0 { one } else { all })
}

/// `MS_*` flags of `mount(2)` with the words of `mount(8)`.
pub(super) const MOUNT_FLAGS: [(u64, &str); 16] = [
    (1, "ro"),
    (1 << 1, "nosuid"),
    (1 << 2, "nodev"),
    (1 << 3, "noexec"),
    (1 << 4, "sync"),
    (1 << 6, "mand"),
    (1 << 7, "dirsync"),
    (1 << 8, "nosymfollow"),
    (1 << 10, "noatime"),
    (1 << 11, "nodiratime"),
    (1 << 12, "bind"),
    (1 << 15, "silent"),
    (1 << 21, "relatime"),
    (1 << 23, "iversion"),
    (1 << 24, "strictatime"),
    (1 << 25, "lazytime"),
];

/// `MOUNT_ATTR_*` of `mount_setattr(2)`: the bit, the word where it is set, the word where it is cleared.
pub(super) const ATTRIBUTES: [(u64, &str, &str); 8] = [
    (0x01, "ro", "rw"),
    (0x02, "nosuid", "suid"),
    (0x04, "nodev", "dev"),
    (0x08, "noexec", "exec"),
    (0x10, "noatime", ""),
    (0x20, "strictatime", ""),
    (0x80, "nodiratime", "diratime"),
    (0x20_0000, "nosymfollow", "symfollow"),
];

pub(super) const LIMITS: &str =
    "CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME";
pub(super) const IO_CLASSES: &str = "none real-time best-effort idle";
pub(super) const POLICIES: &str = "other fifo round-robin batch iso idle deadline";
const POLICY_FLAGS: &str =
    "reset-on-fork reclaim overrun-signal keep-policy keep-parameters clamp-minimum clamp-maximum";
pub(super) const MEMORY_POLICIES: &str = "default preferred bind interleave local preferred-many weighted-interleave";
pub(super) const CAPABILITIES: &str = "chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable \
    net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot \
    sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease \
    audit_write audit_control setfcap mac_override mac_admin syslog wake_alarm block_suspend audit_read \
    perfmon bpf checkpoint_restore";
/// `CLONE_NEW*` with the names of `namespaces(7)`.
pub(super) const NAMESPACES: [(u64, &str); 8] = [
    (0x80, "time"),
    (0x2_0000, "mount"),
    (0x200_0000, "cgroup"),
    (0x400_0000, "uts"),
    (0x800_0000, "ipc"),
    (0x1000_0000, "user"),
    (0x2000_0000, "pid"),
    (0x4000_0000, "network"),
];

/// Writes the items with commas between them.
pub(super) fn commas<T: Display>(f: &mut Formatter<'_>, items: impl IntoIterator<Item = T>) -> fmt::Result {
    items.into_iter().enumerate().try_for_each(|(index, item)| {
        f.write_str(if index == 0 { "" } else { ", " })?;
        item.fmt(f)
    })
}

/// Bytes as text on one line: control characters are escaped, what is long is cut.
pub(super) struct Line<'a>(pub(super) &'a [u8]);

impl Display for Line<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let shown = self.0.get(..LONGEST).unwrap_or(self.0);
        for letter in String::from_utf8_lossy(shown).chars() {
            if letter.is_control() { write!(f, "{}", letter.escape_default())? } else { f.write_char(letter)? }
        }
        f.write_str(if shown.len() < self.0.len() { "…" } else { "" })
    }
}

/// A string of a step.
pub(super) struct Text<'a>(pub(super) &'a CStr);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Line(self.0.to_bytes()).fmt(f)
    }
}

/// Bytes between quotation marks.
pub(super) struct Quoted<'a>(pub(super) &'a [u8]);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", Line(self.0))
    }
}

/// The strings of a list.
pub(super) struct Strings<'a>(pub(super) &'a [u8]);

impl Display for Strings<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        commas(f, strings(self.0).map(Text))
    }
}

pub(super) struct Word(pub(super) &'static str);

impl Display for Word {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A descriptor of the script.
pub(super) struct Numbered(pub(super) Slot);

impl Display for Numbered {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0.is_none() { f.write_str("nothing") } else { write!(f, "descriptor {}", self.0.0) }
    }
}

/// Where a tree is copied from.
pub(super) struct Source<'a>(pub(super) Slot, pub(super) &'a CStr);

impl Display for Source<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match (self.0.is_none(), self.1.is_empty()) {
            (true, _) => write!(f, "at {}", Text(self.1)),
            (false, true) => write!(f, "of {}", Numbered(self.0)),
            (false, false) => write!(f, "at {} below {}", Text(self.1), Numbered(self.0)),
        }
    }
}

/// What is worth saying in brackets: the things that have something to say, with commas between them.
pub(super) struct Notes<'a>(pub(super) &'a [&'a dyn Display]);

impl Notes<'_> {
    pub(super) fn joined(&self) -> String {
        let words: Vec<String> = self.0.iter().map(ToString::to_string).filter(|word| !word.is_empty()).collect();
        words.join(", ")
    }
}

impl Display for Notes<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let words = self.joined();
        if words.is_empty() { Ok(()) } else { write!(f, " ({words})") }
    }
}

pub(super) struct MountFlags(pub(super) u64);

impl Display for MountFlags {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        commas(f, MOUNT_FLAGS.into_iter().filter(|(flag, _)| self.0 & flag != 0).map(|(_, word)| word))
    }
}

/// Attributes to set and to clear. The three kinds of access times are one field, cleared before it is set.
pub(super) struct Attributes(pub(super) u64, pub(super) u64);

impl Display for Attributes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let set = ATTRIBUTES.into_iter().filter(|(bit, ..)| self.0 & bit != 0).map(|(_, word, _)| word);
        let cleared = ATTRIBUTES.into_iter().filter(|(bit, ..)| self.1 & bit != 0).map(|(_, _, word)| word);
        let relatime = (self.1 & 0x70 == 0x70 && self.0 & 0x70 == 0).then_some("relatime");
        commas(f, set.chain(cleared).chain(relatime).filter(|word| !word.is_empty()))
    }
}

/// Namespaces by name, each with a word in front of the list.
pub(super) struct Namespaces(pub(super) u64, pub(super) &'static str);

impl Display for Namespaces {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> =
            NAMESPACES.into_iter().filter(|(flag, _)| self.0 & flag != 0).map(|(_, name)| name).collect();
        match names.as_slice() {
            [] => f.write_str("a namespace"),
            [one] => write!(f, "{}{one} namespace", if self.1.is_empty() { "the " } else { "a new " }),
            several => {
                f.write_str(if self.1.is_empty() { "the " } else { self.1 })?;
                commas(f, several)?;
                f.write_str(" namespaces")
            }
        }
    }
}

/// The namespaces that a process is born in.
pub(super) struct BornIn(pub(super) u64);

impl Display for BornIn {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let any = NAMESPACES.into_iter().any(|(flag, _)| self.0 & flag != 0);
        if any { write!(f, " in {}", Namespaces(self.0, "new ")) } else { Ok(()) }
    }
}

/// One of a list of names, or what kind of thing it is with its number.
pub(super) struct Named(pub(super) &'static str, pub(super) &'static str, pub(super) u32);

impl Display for Named {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(kind, names, index) = self;
        match names.split(' ').nth(*index as usize) {
            Some(name) if kind.ends_with('_') => write!(f, "{kind}{name}"),
            Some(name) => f.write_str(name),
            None => write!(f, "{kind}{index}"),
        }
    }
}

/// The structure of `sched_setattr(2)`: the policy, and the values that it goes by.
pub(super) struct Policy<'a>(pub(super) &'a [u8]);

impl Policy<'_> {
    fn half(&self, at: usize) -> u32 {
        self.0.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_ne_bytes(*bytes))
    }

    fn whole(&self, at: usize) -> u64 {
        self.0.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_ne_bytes(*bytes))
    }
}

impl Display for Policy<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (policy, nice, priority) = (self.half(4), self.half(16).cast_signed(), self.half(20));
        Named("policy ", POLICIES, policy).fmt(f)?;
        match policy {
            1 | 2 => write!(f, " with priority {priority}")?,
            6 => write!(f, " with {} of {} ns every {} ns", self.whole(24), self.whole(32), self.whole(40))?,
            _ => write!(f, " with nice value {nice}")?,
        }
        let flags: Vec<&str> = POLICY_FLAGS
            .split(' ')
            .enumerate()
            .filter(|(bit, _)| self.whole(8) >> bit & 1 == 1)
            .map(|(_, name)| name)
            .collect();
        Notes(&[&Word(""), &flags.join(", ")]).fmt(f)
    }
}

pub(super) struct Limit(pub(super) u64);

impl Display for Limit {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0 == u64::MAX { f.write_str("unlimited") } else { self.0.fmt(f) }
    }
}

/// The numbers of the bits set in a mask, ranges as `first-last`.
pub(super) struct Bits<'a>(pub(super) &'a [u8]);

impl Display for Bits<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let set = |bit: usize| self.0.get(bit / 8).is_some_and(|byte| byte >> (bit % 8) & 1 == 1);
        let firsts = (0..self.0.len() * 8).filter(|bit| set(*bit) && (*bit == 0 || !set(bit - 1)));
        let ranges = firsts.map(|first| {
            let last = (first..).take_while(|bit| set(*bit)).last().unwrap_or(first);
            if first == last { first.to_string() } else { format!("{first}-{last}") }
        });
        commas(f, ranges)
    }
}

pub(super) struct GroupList<'a>(pub(super) &'a [u8]);

impl Display for GroupList<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        commas(f, self.0.chunks_exact(4).filter_map(|id| id.try_into().ok()).map(u32::from_ne_bytes))
    }
}

pub(super) struct Capabilities(pub(super) u64);

impl Display for Capabilities {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let all = (1 << CAPABILITIES.split(' ').count()) - 1;
        match self.0 {
            0 => f.write_str("none"),
            every if every & all == all => f.write_str("all"),
            _ => commas(
                f,
                (0..64).filter(|bit| self.0 >> bit & 1 == 1).map(|bit| Named("capability ", CAPABILITIES, bit)),
            ),
        }
    }
}

impl Slot {
    pub(super) fn is_none(self) -> bool {
        self == Self::NONE
    }
}
