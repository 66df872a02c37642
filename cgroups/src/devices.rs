//! Which device nodes the processes of a group may use: rules, and their rendering for v1.
//!
//! v2 asks an eBPF program, see [`Rules::program`]. Leaves out: making device nodes. Oldest kernel: 2.6.26 for v1, 5.6 for v2.

use std::fmt;
use std::os::fd::BorrowedFd;

use crate::controller::{Controller, Version};
use crate::error::{Error, ErrorKind, Result};
use crate::group::Group;

mod program;

pub use program::Instruction;

/// The kinds of devices.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Kind {
    /// Block and character devices.
    All,
    /// Block devices.
    Block,
    /// Character devices.
    Char,
}

/// What may be done with a device.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Access(u8);

impl Access {
    /// Opening for reading.
    pub const READ: Self = Self(2);
    /// Opening for writing.
    pub const WRITE: Self = Self(4);
    /// Making the node, mknod(2).
    pub const MKNOD: Self = Self(1);
    /// All three.
    pub const ALL: Self = Self(7);

    /// Reads `rwm`, or some of these letters, as OCI and cgroup v1 write them.
    ///
    /// ```
    /// use keelbox_cgroups::devices::Access;
    /// assert_eq!(Access::parse("rwm"), Some(Access::ALL));
    /// assert_eq!(Access::parse("x"), None);
    /// ```
    pub fn parse(letters: &str) -> Option<Self> {
        let bits = letters.chars().try_fold(0, |bits, letter| match letter {
            'r' => Some(bits | Self::READ.0),
            'w' => Some(bits | Self::WRITE.0),
            'm' => Some(bits | Self::MKNOD.0),
            _ => None,
        })?;
        (bits != 0).then_some(Self(bits))
    }

    /// Either, or both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bit, letter) in [(Self::READ, "r"), (Self::WRITE, "w"), (Self::MKNOD, "m")] {
            if self.meets(bit) {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

/// Some devices: a kind, and numbers or any number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Devices {
    kind: Kind,
    major: Option<u32>,
    minor: Option<u32>,
}

impl Devices {
    const ALL: Self = Self { kind: Kind::All, major: None, minor: None };

    /// Whether some device is in both.
    fn meets(self, other: Self) -> bool {
        let kind = self.kind == other.kind || self.kind == Kind::All || other.kind == Kind::All;
        let number = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
        kind && number(self.major, other.major) && number(self.minor, other.minor)
    }

    /// Whether every device of `other` is in `self`.
    fn covers(self, other: Self) -> bool {
        let kind = self.kind == Kind::All || self.kind == other.kind;
        let number = |a: Option<u32>, b: Option<u32>| a.is_none() || a == b;
        kind && number(self.major, other.major) && number(self.minor, other.minor)
    }
}

impl fmt::Display for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::All => 'a',
            Kind::Block => 'b',
            Kind::Char => 'c',
        };
        let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
        write!(f, "{kind} {}:{}", number(self.major), number(self.minor))
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Rule {
    allow: bool,
    devices: Devices,
    access: Access,
}

/// Rules about device nodes, in order: of all rules about a device and an access, the last counts. To begin with nothing is allowed.
///
/// ```
/// use keelbox_cgroups::devices::{Access, Kind, Rules};
/// let rules = Rules::new().allow(Kind::Char, Some(1), Some(3), Access::ALL).allow(Kind::Char, Some(5), None, Access::READ);
/// let files: Vec<String> = rules.legacy()?.iter().map(|(file, value)| format!("{file}: {value}")).collect();
/// assert_eq!(files, ["devices.deny: a", "devices.allow: c 1:3 rwm", "devices.allow: c 5:* r"]);
/// assert_eq!(rules.program()?.last().map(|last| last[0]), Some(0x95)); // it ends in an exit
/// # Ok::<(), keelbox_cgroups::Error>(())
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[must_use]
pub struct Rules(Vec<Rule>);

impl Rules {
    /// Nothing is allowed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Allows `access` to these devices; `None` stands for any number.
    pub fn allow(self, kind: Kind, major: Option<u32>, minor: Option<u32>, access: Access) -> Self {
        self.rule(true, kind, major, minor, access)
    }

    /// Denies `access` to these devices; `None` stands for any number.
    pub fn deny(self, kind: Kind, major: Option<u32>, minor: Option<u32>, access: Access) -> Self {
        self.rule(false, kind, major, minor, access)
    }

    fn rule(mut self, allow: bool, kind: Kind, major: Option<u32>, minor: Option<u32>, access: Access) -> Self {
        self.0.push(Rule { allow, devices: Devices { kind, major, minor }, access });
        self
    }

    /// Whether the rules let a process do all of `access` with the device. `kind` is not [`Kind::All`] here.
    pub fn allows(&self, kind: Kind, major: u32, minor: u32, access: Access) -> bool {
        let device = Devices { kind, major: Some(major), minor: Some(minor) };
        let mut left = access;
        for rule in self.0.iter().rev().filter(|rule| rule.devices.covers(device)) {
            if rule.allow {
                left = left.without(rule.access);
            } else if left.meets(rule.access) {
                return false;
            }
        }
        left.is_empty()
    }

    /// The writes for cgroup v1, in order, as pairs of file and value. Each value goes in one write(2).
    ///
    /// A v1 group either denies everything but a list, or allows everything but a list; so rules are first brought into that form.
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for an exception to an exception (allow `c 1:*`, then deny `c 1:3`), which v1
    /// cannot express; the kernel would pass over it without a word. [`InvalidLimit`](crate::ErrorKind::InvalidLimit) for numbers no
    /// device can have.
    pub fn legacy(&self) -> Result<Vec<(&'static str, String)>> {
        self.check()?;
        let folded = self.fold()?;
        let (reset, file) =
            if folded.allow { ("devices.allow", "devices.deny") } else { ("devices.deny", "devices.allow") };
        let mut writes = vec![(reset, "a".to_owned())];
        writes.extend(folded.exceptions.iter().map(|(devices, access)| (file, format!("{devices} {access}"))));
        Ok(writes)
    }

    /// The program for cgroup v2, as eBPF instructions of type `BPF_PROG_TYPE_CGROUP_DEVICE`. It decides exactly as [`allows`](Self::allows).
    ///
    /// [`Group::devices`] loads and attaches it.
    ///
    /// # Errors
    /// [`InvalidLimit`](crate::ErrorKind::InvalidLimit) for numbers no device can have.
    pub fn program(&self) -> Result<Vec<Instruction>> {
        self.check()?;
        Ok(program::emit(&self.0))
    }

    /// The kernel's device numbers have 12 and 20 bits.
    fn check(&self) -> Result<()> {
        for rule in &self.0 {
            let Devices { major, minor, .. } = rule.devices;
            if major.is_some_and(|major| major > 4095) || minor.is_some_and(|minor| minor > 0xf_ffff) {
                let devices = rule.devices;
                return Err(Error::invalid(format!(
                    "cannot have a rule for device {devices}: no such number can exist"
                )));
            }
        }
        Ok(())
    }

    fn fold(&self) -> Result<Folded> {
        let mut folded = Folded { allow: false, exceptions: Vec::new() };
        for rule in &self.0 {
            if rule.devices == Devices::ALL && rule.access == Access::ALL {
                folded = Folded { allow: rule.allow, exceptions: Vec::new() };
            } else if rule.allow == folded.allow {
                folded.take_back(*rule)?;
            } else {
                folded.except(*rule);
            }
        }
        Ok(folded)
    }
}

/// What v1 can say: a default, and exceptions from it.
struct Folded {
    allow: bool,
    exceptions: Vec<(Devices, Access)>,
}

impl Folded {
    fn except(&mut self, rule: Rule) {
        // "a" with numbers means nothing to v1: it takes any line that begins with it for "everything".
        let kinds: &[Kind] =
            if rule.devices.kind == Kind::All { &[Kind::Block, Kind::Char] } else { &[rule.devices.kind] };
        for kind in kinds {
            let devices = Devices { kind: *kind, ..rule.devices };
            match self.exceptions.iter_mut().find(|(known, _)| *known == devices) {
                Some((_, access)) => *access = access.and(rule.access),
                None => self.exceptions.push((devices, rule.access)),
            }
        }
    }

    fn take_back(&mut self, rule: Rule) -> Result<()> {
        for (devices, access) in &mut self.exceptions {
            if rule.devices.covers(*devices) {
                *access = access.without(rule.access);
            } else if rule.devices.meets(*devices) && access.meets(rule.access) {
                let (what, known) = (rule.devices, *devices);
                let message =
                    format!("cannot make {what} an exception to {known}: cgroup v1 has no exceptions to exceptions");
                return Err(Error::unsupported(message));
            }
        }
        self.exceptions.retain(|(_, access)| !access.is_empty());
        Ok(())
    }
}

impl Group {
    /// Sets which device nodes the processes in this group may use. Default: as the parent, which also has its say in any case.
    ///
    /// Through the v1 devices controller where there is one; it is joined if need be. Else by a program that is attached to the v2 group in
    /// place of the one before, without a moment in between that allows more; it ends with the group. That needs `CAP_BPF` and
    /// `CAP_NET_ADMIN` in the first user namespace, and Linux 5.6.
    ///
    /// # Errors
    /// [`PermissionDenied`](crate::ErrorKind::PermissionDenied) without these capabilities, and on v1 for devices the parent denies;
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for rules v1 cannot express, and on a kernel without either way;
    /// [`InvalidLimit`](crate::ErrorKind::InvalidLimit) for numbers no device can have.
    pub fn devices(&self, rules: &Rules) -> Result<()> {
        match self.directory() {
            Some(directory) if !self.has_legacy(Controller::Devices) => install(directory, rules),
            _ => self.legacy_devices(rules),
        }
    }

    fn legacy_devices(&self, rules: &Rules) -> Result<()> {
        let writes = rules.legacy()?;
        let is_new = self.node(Version::V1, Controller::Devices).is_none();
        let node = self.join(Controller::Devices)?;
        // The first write forbids or allows everything for a moment, which a running program would notice.
        if node.directory.text("devices.list").is_some_and(|list| says(&list, &writes)) {
            return Ok(());
        }
        for (file, value) in writes {
            node.directory.write(file, &value)?;
        }
        if is_new {
            self.gather(&node)?;
        }
        Ok(())
    }
}

/// Whether a v1 group that denies everything but a list has just the list that these writes lead to.
fn says(list: &str, writes: &[(&str, String)]) -> bool {
    let mut wanted: Vec<&str> = writes.iter().skip(1).map(|(_, value)| value.as_str()).collect();
    let mut found: Vec<&str> = list.lines().collect();
    wanted.sort_unstable();
    found.sort_unstable();
    writes.first().is_some_and(|(file, _)| *file == "devices.deny") && wanted == found
}

fn install(directory: BorrowedFd<'_>, rules: &Rules) -> Result<()> {
    use keelbox_launch::{Errno, sys::bpf};
    bpf::install(directory, &rules.program()?).map_err(|errno| {
        let error = Error::io("cannot set the device rules of the group by a program", errno.into());
        match errno {
            // What bpf(2) says where it lacks this type of program.
            Errno::EINVAL | Errno::ENOSYS => error.of_kind(ErrorKind::Unsupported),
            _ => error,
        }
    })
}

#[cfg(test)]
#[path = "devices/tests.rs"]
mod tests;
