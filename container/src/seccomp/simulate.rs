//! Classic BPF as seccomp(2) runs it: a checker and an interpreter.
//!
//! With these a filter can be asked before it is installed, and one filter be compared with another. Leaves out what
//! the kernel refuses in a filter (packet access, `BPF_LD | BPF_IND`, byte and half-word loads).

use super::Instruction;
use super::arch::Arch;
use std::fmt;

/// A system call as a filter sees it: `struct seccomp_data` of `linux/seccomp.h`, with an instruction pointer of 0.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub struct Call {
    /// The architecture, as `AUDIT_ARCH_*`.
    pub audit: u32,
    /// The number of the call.
    pub number: u32,
    /// The six argument registers.
    pub arguments: [u64; 6],
}

impl Call {
    /// A call of `arch` by its number (on x32 with bit 30 set), with all arguments 0.
    pub fn new(arch: Arch, number: u32) -> Self {
        Self { audit: arch.audit(), number, arguments: [0; 6] }
    }

    /// The 32-bit word at `offset` of `struct seccomp_data`.
    fn word(&self, offset: u32) -> Option<u32> {
        let argument = |offset: u32| self.arguments.get(offset as usize / 8).copied();
        match offset {
            _ if !offset.is_multiple_of(4) => None,
            0 => Some(self.number),
            4 => Some(self.audit),
            8 | 12 => Some(0), // the instruction pointer
            _ if offset.is_multiple_of(8) => argument(offset - 16).map(|value| value as u32),
            _ => argument(offset - 16).map(|value| (value >> 32) as u32),
        }
    }
}

/// Why the kernel would refuse a program, by the index of the instruction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Fault {
    /// The program is empty, or longer than 4096 instructions.
    Length(usize),
    /// The instruction is not one that a filter may have.
    Code(usize),
    /// The load is unaligned or outside `struct seccomp_data`, or the scratch slot does not exist.
    Load(usize),
    /// The jump leaves the program.
    Jump(usize),
    /// The last instruction does not return.
    End,
    /// The constant is not allowed: a division by zero or a shift by more than 31.
    Constant(usize),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(length) => write!(f, "a filter cannot have {length} instructions"),
            Self::Code(at) => write!(f, "instruction {at} is not allowed in a filter"),
            Self::Load(at) => write!(f, "instruction {at} loads from outside the call"),
            Self::Jump(at) => write!(f, "instruction {at} jumps out of the program"),
            Self::End => f.write_str("the program does not end with a return"),
            Self::Constant(at) => write!(f, "instruction {at} has a constant that is not allowed"),
        }
    }
}

impl std::error::Error for Fault {}

/// `BPF_MAXINSNS`: the longest program the kernel accepts.
pub(super) const MAX_INSTRUCTIONS: usize = 4096;
const SCRATCH: usize = 16;
const CALL_SIZE: u32 = 64;

/// Checks a program as the kernel does when it is installed (`bpf_check_classic` and `seccomp_check_filter`), but for
/// scratch slots that are read before they were written, which count as 0 here.
///
/// # Errors
/// The first [`Fault`].
pub fn check(program: &[Instruction]) -> Result<(), Fault> {
    if program.is_empty() || program.len() > MAX_INSTRUCTIONS {
        return Err(Fault::Length(program.len()));
    }
    for (at, instruction) in program.iter().enumerate() {
        let Instruction { code, jt, jf, k } = *instruction;
        let inside = |skip: u32| (skip as usize) < program.len() - at - 1;
        let both = inside(jt.into()) && inside(jf.into());
        match code {
            0x20 if k.is_multiple_of(4) && k < CALL_SIZE => (),
            0x60 | 0x61 | 0x02 | 0x03 if (k as usize) < SCRATCH => (),
            0x20 | 0x60 | 0x61 | 0x02 | 0x03 => return Err(Fault::Load(at)),
            0x05 if inside(k) => (),
            0x15 | 0x1d | 0x25 | 0x2d | 0x35 | 0x3d | 0x45 | 0x4d if both => (),
            0x05 | 0x15 | 0x1d | 0x25 | 0x2d | 0x35 | 0x3d | 0x45 | 0x4d => {
                return Err(Fault::Jump(at));
            }
            0x34 if k == 0 => return Err(Fault::Constant(at)),
            0x64 | 0x74 if k > 31 => return Err(Fault::Constant(at)),
            // Immediate and length loads, arithmetic, register moves, returns.
            0x00 | 0x01 | 0x80 | 0x81 | 0x07 | 0x87 | 0x06 | 0x16 | 0x84 => (),
            0x04 | 0x0c | 0x14 | 0x1c | 0x24 | 0x2c | 0x34 | 0x3c | 0x44 | 0x4c | 0x54 | 0x5c => (),
            0x64 | 0x6c | 0x74 | 0x7c | 0xa4 | 0xac => (),
            _ => return Err(Fault::Code(at)),
        }
    }
    match program.last() {
        Some(Instruction { code: 0x06 | 0x16, .. }) => Ok(()),
        _ => Err(Fault::End),
    }
}

/// Runs a program on a call and returns what it returns; [`Action::from_return`](super::Action::from_return) reads it.
///
/// # Errors
/// A [`Fault`], if the program does something that [`check`] would have found on the way.
pub fn run(program: &[Instruction], call: &Call) -> Result<u32, Fault> {
    let (mut a, mut x, mut scratch, mut at) = (0_u32, 0_u32, [0_u32; SCRATCH], 0_usize);
    loop {
        let Some(Instruction { code, jt, jf, k }) = program.get(at).copied() else {
            return Err(if at < program.len() { Fault::End } else { Fault::Jump(at) });
        };
        let slot = k as usize;
        let operand = if code & 0x08 != 0 { x } else { k };
        let mut skip = 0;
        match code {
            0x20 => a = call.word(k).ok_or(Fault::Load(at))?,
            0x00 => a = k,
            0x01 => x = k,
            0x80 => a = CALL_SIZE,
            0x81 => x = CALL_SIZE,
            0x60 => a = *scratch.get(slot).ok_or(Fault::Load(at))?,
            0x61 => x = *scratch.get(slot).ok_or(Fault::Load(at))?,
            0x02 => *scratch.get_mut(slot).ok_or(Fault::Load(at))? = a,
            0x03 => *scratch.get_mut(slot).ok_or(Fault::Load(at))? = x,
            0x07 => x = a,
            0x87 => a = x,
            0x05 => skip = slot,
            0x15 | 0x1d => skip = usize::from(if a == operand { jt } else { jf }),
            0x25 | 0x2d => skip = usize::from(if a > operand { jt } else { jf }),
            0x35 | 0x3d => skip = usize::from(if a >= operand { jt } else { jf }),
            0x45 | 0x4d => skip = usize::from(if a & operand != 0 { jt } else { jf }),
            0x06 => return Ok(k),
            0x16 => return Ok(a),
            _ => match arithmetic(code, a, operand) {
                Some(Some(result)) => a = result,
                Some(None) => return Ok(0), // a division by zero ends the program with 0
                None => return Err(Fault::Code(at)),
            },
        }
        at += skip + 1;
    }
}

/// The result of an arithmetic instruction: `None` if there is none of this code, `Some(None)` for a division by zero.
fn arithmetic(code: u16, a: u32, operand: u32) -> Option<Option<u32>> {
    if code & 0x07 != 0x04 {
        return None;
    }
    Some(match code & 0xf0 {
        0x00 => Some(a.wrapping_add(operand)),
        0x10 => Some(a.wrapping_sub(operand)),
        0x20 => Some(a.wrapping_mul(operand)),
        0x30 => a.checked_div(operand),
        0x40 => Some(a | operand),
        0x50 => Some(a & operand),
        0x60 => Some(a.wrapping_shl(operand)),
        0x70 => Some(a.wrapping_shr(operand)),
        0x80 => Some(a.wrapping_neg()),
        0xa0 => Some(a ^ operand),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
        Instruction { code, jt, jf, k }
    }

    #[test]
    fn check_finds_what_the_kernel_refuses() {
        let end = op(0x06, 0, 0, 0);
        let table = [
            (vec![], Fault::Length(0)),
            (vec![end; 4097], Fault::Length(4097)),
            (vec![op(0x28, 0, 0, 0), end], Fault::Code(0)), // half-word load
            (vec![op(0x40, 0, 0, 0), end], Fault::Code(0)), // indirect load
            (vec![op(0x94, 0, 0, 2), end], Fault::Code(0)), // modulo: fine in a socket filter, not here
            (vec![op(0x20, 0, 0, 2), end], Fault::Load(0)), // unaligned
            (vec![op(0x20, 0, 0, 64), end], Fault::Load(0)), // past the end
            (vec![op(0x05, 0, 0, 1), end], Fault::Jump(0)),
            (vec![op(0x05, 0, 0, u32::MAX), end], Fault::Jump(0)),
            (vec![op(0x15, 0, 1, 0), end], Fault::Jump(0)),
            (vec![op(0x34, 0, 0, 0), end], Fault::Constant(0)),
            (vec![end, op(0x00, 0, 0, 0)], Fault::End),
        ];
        for (program, fault) in table {
            assert_eq!(check(&program), Err(fault), "{program:?}");
        }
        assert_eq!(check(&[end]), Ok(()));
    }

    #[test]
    fn run_reads_every_word_of_the_call() {
        let call = Call { audit: 2, number: 1, arguments: [3 | 4 << 32, 5, 6, 7, 8, 9 | 10 << 32] };
        let words = [1, 2, 0, 0, 3, 4, 5, 0, 6, 0, 7, 0, 8, 0, 9, 10];
        for (index, word) in words.into_iter().enumerate() {
            let program = [op(0x20, 0, 0, index as u32 * 4), op(0x16, 0, 0, 0)];
            assert_eq!(run(&program, &call), Ok(word), "{index}");
        }
        assert_eq!(run(&[op(0x20, 0, 0, 64), op(0x16, 0, 0, 0)], &call), Err(Fault::Load(0)));
    }
}
