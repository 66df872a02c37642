//! The finished program, in the form seccomp(2) takes it.

use super::{Action, Arch, Call, Warning, simulate};
use std::fmt;

pub(super) const FLAG_TSYNC: u32 = 1;
pub(super) const FLAG_LOG: u32 = 1 << 1;
pub(super) const FLAG_SPEC_ALLOW: u32 = 1 << 2;
const FLAG_NEW_LISTENER: u32 = 1 << 3;
const FLAG_TSYNC_ESRCH: u32 = 1 << 4;
pub(super) const FLAG_WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// One instruction of classic BPF: the kernel's `struct sock_filter` of `linux/filter.h`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How many instructions to skip if a comparison holds.
    pub jt: u8,
    /// How many instructions to skip if it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

pub(super) const LOAD: u16 = 0x20;
pub(super) const AND: u16 = 0x54;
pub(super) const JUMP: u16 = 0x05;
pub(super) const JUMP_EQ: u16 = 0x15;
pub(super) const JUMP_GT: u16 = 0x25;
pub(super) const JUMP_GE: u16 = 0x35;
pub(super) const JUMP_SET: u16 = 0x45;
pub(super) const RETURN: u16 = 0x06;

impl Instruction {
    /// The eight bytes the kernel reads. All architectures known here are little-endian.
    pub fn to_bytes(self) -> [u8; 8] {
        let ([c0, c1], [k0, k1, k2, k3]) = (self.code.to_le_bytes(), self.k.to_le_bytes());
        [c0, c1, self.jt, self.jf, k0, k1, k2, k3]
    }

    /// The reverse of [`Instruction::to_bytes`].
    pub fn from_bytes([c0, c1, jt, jf, k0, k1, k2, k3]: [u8; 8]) -> Self {
        Self { code: u16::from_le_bytes([c0, c1]), jt, jf, k: u32::from_le_bytes([k0, k1, k2, k3]) }
    }
}

impl fmt::Display for Instruction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, jt, jf, k } = *self;
        let compare = match code {
            LOAD => return write!(f, "load   [{k}]"),
            AND => return write!(f, "and    {k:#x}"),
            JUMP => return write!(f, "jump   +{k}"),
            RETURN => return write!(f, "return {}", Action::from_return(k)),
            JUMP_EQ => "==",
            JUMP_GT => ">",
            JUMP_GE => ">=",
            JUMP_SET => "&",
            other => return write!(f, "{other:#06x} {k:#x} +{jt} +{jf}"),
        };
        write!(f, "if {compare} {k:#x} +{jt} else +{jf}")
    }
}

/// A compiled filter: what seccomp(2) needs, and nothing that belongs to this process.
///
/// Installing it is the launch stage's work: `no_new_privs` (or `CAP_SYS_ADMIN`), then
/// `seccomp(SECCOMP_SET_MODE_FILTER, flags, &{len, bytes})`. After that, `execve` must still be allowed.
#[derive(Clone, Debug)]
pub struct Filter {
    instructions: Vec<Instruction>,
    flags: u32,
    warnings: Vec<Warning>,
}

impl Filter {
    pub(super) fn new(instructions: Vec<Instruction>, flags: u32, warnings: Vec<Warning>) -> Self {
        Self { instructions, flags, warnings }
    }

    /// The program, at most 4096 instructions.
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// The program as the array of `struct sock_filter` that `struct sock_fprog` points to: 8 bytes each.
    pub fn bytes(&self) -> Vec<u8> {
        self.instructions.iter().flat_map(|instruction| instruction.to_bytes()).collect()
    }

    /// The flags to call seccomp(2) with: those the profile asks for, and what user notification needs.
    ///
    /// With a listener `TSYNC` brings `TSYNC_ESRCH` (Linux 5.7), since one return value cannot be both a descriptor and
    /// a thread. `WAIT_KILLABLE_RECV` is left out without a listener, where the kernel refuses it.
    pub fn flags(&self) -> u32 {
        let listener = match self.needs_listener() {
            true if self.flags & FLAG_TSYNC != 0 => FLAG_NEW_LISTENER | FLAG_TSYNC_ESRCH,
            true => FLAG_NEW_LISTENER,
            false => return self.flags & !FLAG_WAIT_KILLABLE_RECV,
        };
        self.flags | listener
    }

    /// Flags to add to [`Filter::flags`], and to drop if the kernel answers `EINVAL`.
    ///
    /// This is `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV` (Linux 5.19) for a filter with a listener: without it, any
    /// signal to the container interrupts a call that the listener has already begun to handle.
    pub fn optional_flags(&self) -> u32 {
        if self.needs_listener() { FLAG_WAIT_KILLABLE_RECV & !self.flags } else { 0 }
    }

    /// True if some call is answered with [`Action::Notify`], so that seccomp(2) returns a notification descriptor.
    pub fn needs_listener(&self) -> bool {
        let notify = Action::Notify.to_return();
        self.instructions.iter().any(|instruction| instruction.code == RETURN && instruction.k == notify)
    }

    /// What was passed over in the profile.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Runs the program on one call, as the kernel would. `number` is the number in the table of `arch`.
    pub fn decide(&self, arch: Arch, number: u32, arguments: [u64; 6]) -> Action {
        let call = Call { audit: arch.audit(), number, arguments };
        // A fault cannot happen, because `compile` checked the program; killing is what a fault would mean.
        simulate::run(&self.instructions, &call).map_or(Action::KillProcess, Action::from_return)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.instructions.iter().enumerate().try_for_each(|(line, instruction)| writeln!(f, "{line:>4} {instruction}"))
    }
}
