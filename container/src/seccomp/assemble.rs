//! Builds a classic BPF program from its end to its beginning.
//!
//! All jumps of classic BPF go forward. Written backwards, every target of a jump is already in place, so its distance
//! is known; where it is beyond the 255 of a conditional jump, a copy of the target's `return` or a long `jump` is put
//! in between. No second pass, no fix-ups.

use super::filter::{JUMP, JUMP_EQ, JUMP_GE, RETURN};
use super::{Action, Instruction};
use std::collections::HashMap;

/// An instruction already in place, counted from the end of the program.
pub(super) type Label = usize;

/// Where a comparison may lead.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Goal {
    /// Returns this value.
    Return(u32),
    /// Goes on at this instruction.
    At(Label),
}

/// A program that grows at its beginning.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    /// The last instruction first.
    reversed: Vec<Instruction>,
    /// For each value the nearest instruction that returns it.
    returns: HashMap<u32, Label>,
}

const NEAR: usize = u8::MAX as usize;

impl Assembler {
    /// Puts an instruction in front that goes on to `next` when done.
    pub(super) fn before(&mut self, next: Goal, code: u16, k: u32) -> Goal {
        let label = self.place(next);
        if label + 1 != self.reversed.len() {
            self.jump(label);
        }
        Goal::At(self.push(Instruction { code, jt: 0, jf: 0, k }))
    }

    /// Puts a comparison in front that leads to `yes` or `no`. None is needed where both are the same.
    pub(super) fn branch(&mut self, code: u16, k: u32, yes: Goal, no: Goal) -> Goal {
        if yes == no {
            return yes;
        }
        let (mut yes, mut no) = (self.place(yes), self.place(no));
        loop {
            let here = self.reversed.len();
            if here - yes - 1 > NEAR {
                yes = self.bring_near(yes);
            } else if here - no - 1 > NEAR {
                no = self.bring_near(no);
            } else {
                let (jt, jf) = ((here - yes - 1) as u8, (here - no - 1) as u8);
                return Goal::At(self.push(Instruction { code, jt, jf, k }));
            }
        }
    }

    /// Puts a binary search in front: each goal is for the values from its own number up to the next one.
    ///
    /// `ranges` starts with 0 and ascends.
    pub(super) fn search(&mut self, ranges: &[(u32, Goal)]) -> Goal {
        match ranges {
            [] => Goal::Return(Action::KillProcess.to_return()), // nothing is found in nothing
            [(_, goal)] => *goal,
            // One value among others of one kind: a single comparison will do.
            [(_, before), (value, goal), (end, after)] if before == after && *end == value + 1 => {
                self.branch(JUMP_EQ, *value, *goal, *before)
            }
            _ => {
                let middle = ranges.len() / 2;
                let high = self.search(&ranges[middle..]);
                let low = self.search(&ranges[..middle]);
                self.branch(JUMP_GE, ranges[middle].0, high, low)
            }
        }
    }

    /// The program, first instruction first, beginning at `start`.
    pub(super) fn finish(mut self, start: Goal) -> Vec<Instruction> {
        let label = self.place(start);
        self.reversed.truncate(label + 1);
        self.reversed.reverse();
        self.reversed
    }

    fn push(&mut self, instruction: Instruction) -> Label {
        self.reversed.push(instruction);
        self.reversed.len() - 1
    }

    fn jump(&mut self, label: Label) -> Label {
        let k = (self.reversed.len() - label - 1) as u32;
        self.push(Instruction { code: JUMP, jt: 0, jf: 0, k })
    }

    fn ret(&mut self, value: u32) -> Label {
        let label = self.push(Instruction { code: RETURN, jt: 0, jf: 0, k: value });
        self.returns.insert(value, label);
        label
    }

    fn place(&mut self, goal: Goal) -> Label {
        match goal {
            Goal::At(label) => label,
            Goal::Return(value) => match self.returns.get(&value) {
                Some(label) if self.reversed.len() - label - 1 <= NEAR => *label,
                _ => self.ret(value),
            },
        }
    }

    fn bring_near(&mut self, label: Label) -> Label {
        match self.reversed[label] {
            Instruction { code: RETURN, k, .. } => self.ret(k),
            _ => self.jump(label),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::filter::LOAD;
    use super::super::simulate::{Call, check, run};
    use super::*;

    #[test]
    fn long_jumps_reach_their_target() {
        // A thousand different goals, so that nearly every comparison is far from one of its targets.
        let mut assembler = Assembler::default();
        let ranges: Vec<_> = (0..1000).map(|n| (n * 3, Goal::Return(n))).collect();
        let search = assembler.search(&ranges);
        let start = assembler.before(search, LOAD, 0);
        let program = assembler.finish(start);
        assert_eq!(check(&program), Ok(()));
        assert!(program.iter().any(|instruction| instruction.code == JUMP), "no long jump was needed");
        for number in 0..3100 {
            let call = Call { number, ..Call::default() };
            assert_eq!(run(&program, &call), Ok((number / 3).min(999)), "{number}");
        }
    }

    #[test]
    fn equal_goals_need_no_comparison() {
        let mut assembler = Assembler::default();
        let goal = assembler.search(&[(0, Goal::Return(7)), (5, Goal::Return(7))]);
        assert_eq!(assembler.finish(goal).len(), 1);
    }
}
