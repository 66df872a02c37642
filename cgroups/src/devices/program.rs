//! Device rules as an eBPF program, as bytes.
//!
//! Leaves out: bpf(2). Format: "eBPF Instruction Set Specification" in the kernel's documentation. Oldest kernel: 4.15.

use super::{Access, Kind, Rule};

/// One instruction as the kernel takes it: operation, registers, offset, constant.
pub type Instruction = [u8; 8];

/// `r = *(u32 *)(r1 + offset)`.
const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP: u8 = 0x05;
const JUMP_IF_NOT_EQUAL: u8 = 0x55;
const JUMP_IF_SET: u8 = 0x45;
const EXIT: u8 = 0x95;

/// The registers. `RESULT` and `CONTEXT` are fixed by the kernel.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const LEFT: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

fn instruction(operation: u8, target: u8, source: u8, offset: i16, constant: i32) -> Instruction {
    let ([o0, o1], [c0, c1, c2, c3]) = (offset.to_ne_bytes(), constant.to_ne_bytes());
    // The two registers share a byte; which has the low half follows the byte order.
    let registers = if cfg!(target_endian = "little") { source << 4 | target } else { target << 4 | source };
    [operation, registers, o0, o1, c0, c1, c2, c3]
}

/// From the last rule to the first: what is allowed is crossed off in `LEFT`; a denial of something still there ends it.
pub(super) fn emit(rules: &[Rule]) -> Vec<Instruction> {
    // struct bpf_cgroup_dev_ctx { u32 access_type; u32 major; u32 minor; }, where access_type is access << 16 | kind.
    let mut program = vec![
        instruction(LOAD_WORD, KIND, CONTEXT, 0, 0),
        instruction(MOVE_REGISTER, LEFT, KIND, 0, 0),
        instruction(AND, KIND, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, LEFT, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules.iter().rev() {
        program.extend(block(rule));
    }
    program.extend([
        instruction(MOVE, RESULT, 0, 0, 0),
        instruction(JUMP_IF_NOT_EQUAL, LEFT, 0, 1, 0),
        instruction(MOVE, RESULT, 0, 0, 1),
        instruction(EXIT, 0, 0, 0, 0),
    ]);
    program
}

fn block(rule: &Rule) -> Vec<Instruction> {
    let bits = i32::from(rule.access.0);
    let verdict = if rule.allow {
        let rest = i32::from(Access::ALL.without(rule.access).0);
        vec![
            instruction(AND, LEFT, 0, 0, rest),
            instruction(JUMP_IF_NOT_EQUAL, LEFT, 0, 2, 0),
            instruction(MOVE, RESULT, 0, 0, 1),
            instruction(EXIT, 0, 0, 0, 0),
        ]
    } else {
        vec![
            instruction(JUMP_IF_SET, LEFT, 0, 1, bits),
            instruction(JUMP, 0, 0, 2, 0),
            instruction(MOVE, RESULT, 0, 0, 0),
            instruction(EXIT, 0, 0, 0, 0),
        ]
    };
    let kind = match rule.devices.kind {
        Kind::All => None,
        Kind::Block => Some(1),
        Kind::Char => Some(2),
    };
    let number = |number: Option<u32>| number.and_then(|number| i32::try_from(number).ok());
    let tests = [(KIND, kind), (MAJOR, number(rule.devices.major)), (MINOR, number(rule.devices.minor))];
    let tests: Vec<(u8, i32)> = tests.into_iter().filter_map(|(register, wanted)| Some((register, wanted?))).collect();
    // Whoever fails a test jumps over the tests that follow it, and over the verdict.
    let end = tests.len() + verdict.len();
    let jump = |(index, (register, wanted)): (usize, (u8, i32))| {
        let distance = i16::try_from(end - index - 1).unwrap_or(0);
        instruction(JUMP_IF_NOT_EQUAL, register, 0, distance, wanted)
    };
    tests.into_iter().enumerate().map(jump).chain(verdict).collect()
}
