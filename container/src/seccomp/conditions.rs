//! Writes the comparisons of arguments. An argument has 64 bits, a load of classic BPF has 32: upper half, lower half.
//!
//! On 32-bit architectures only the lower half is compared, as libseccomp does it; the kernel has zeroes in the other.

use super::assemble::{Assembler, Goal};
use super::filter::{AND, JUMP_EQ, JUMP_GE, JUMP_GT, JUMP_SET, LOAD};
use super::{Action, Condition, Operator, Rule};

/// One question about the arguments, and the action if the answer is yes.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Step {
    action: Action,
    question: Question,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Question {
    /// All of these hold.
    All(Vec<Condition>, Width),
    /// The lower half of one argument is in one of these ranges, sorted and apart, and the upper half equals `high`.
    OneOf { index: u64, high: u32, ranges: Vec<(u32, u32)>, width: Width },
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Width {
    Bits32,
    Bits64,
}

/// Turns rules with conditions into steps, joining neighbours that compare one argument with several values.
pub(super) fn steps(rules: &[&Rule], is_32_bit: bool) -> Vec<Step> {
    let width = if is_32_bit { Width::Bits32 } else { Width::Bits64 };
    let mut steps: Vec<Step> = Vec::new();
    for rule in rules {
        let cut = |condition: &Condition| {
            if is_32_bit { condition.truncated() } else { *condition }
        };
        let conditions: Vec<Condition> = rule.conditions.iter().map(cut).collect();
        let question = one_of(&conditions, width).unwrap_or(Question::All(conditions, width));
        let step = Step { action: rule.action, question };
        let joined = steps.last_mut().is_some_and(|last| last.joins(&step));
        if !joined {
            steps.push(step);
        }
    }
    steps
}

/// Writes the steps in front of `otherwise`: the first that says yes decides.
pub(super) fn write(assembler: &mut Assembler, steps: &[Step], otherwise: Goal) -> Goal {
    let mut next = otherwise;
    for step in steps.iter().rev() {
        let yes = Goal::Return(step.action.to_return());
        next = match &step.question {
            Question::All(conditions, width) => {
                let all = |yes, condition| compare(assembler, condition, *width, yes, next);
                conditions.iter().rev().fold(yes, all)
            }
            Question::OneOf { index, high, ranges, width } => {
                let mut points = vec![(0, next)];
                for (first, last) in ranges {
                    points.retain(|(point, _)| point != first);
                    points.push((*first, yes));
                    points.extend(last.checked_add(1).map(|end| (end, next)));
                }
                let search = assembler.search(&points);
                let low = assembler.before(search, LOAD, low_word(*index));
                match width {
                    Width::Bits32 => low,
                    Width::Bits64 => {
                        let equal = assembler.branch(JUMP_EQ, *high, low, next);
                        assembler.before(equal, LOAD, low_word(*index) + 4)
                    }
                }
            }
        };
    }
    next
}

/// A rule whose only condition is a range of one argument that keeps to one upper half.
fn one_of(conditions: &[Condition], width: Width) -> Option<Question> {
    let [Condition { index, operator, value, .. }] = conditions else {
        return None;
    };
    let (high, low) = ((value >> 32) as u32, *value as u32);
    let range = match operator {
        Operator::Eq => (low, low),
        Operator::Lt if high == 0 => (0, low.checked_sub(1)?),
        Operator::Le if high == 0 => (0, low),
        _ => return None,
    };
    Some(Question::OneOf { index: *index, high, ranges: vec![range], width })
}

impl Step {
    /// Takes in `other` if one search can answer both.
    fn joins(&mut self, other: &Self) -> bool {
        let Question::OneOf { index, high, ranges: new, .. } = &other.question else {
            return false;
        };
        match &mut self.question {
            Question::OneOf { index: own, high: own_high, ranges, .. }
                if self.action == other.action && own == index && own_high == high =>
            {
                ranges.extend(new);
                ranges.sort_unstable();
                // Two ranges that touch or overlap are one.
                ranges.dedup_by(|next, previous| {
                    let touch = next.0 <= previous.1.saturating_add(1);
                    if touch {
                        previous.1 = previous.1.max(next.1);
                    }
                    touch
                });
                true
            }
            _ => false,
        }
    }
}

/// The offset of the lower half of argument `index` in `struct seccomp_data`; the upper half follows it.
fn low_word(index: u64) -> u32 {
    16 + 8 * index as u32
}

/// Writes one condition in front of its two outcomes.
fn compare(assembler: &mut Assembler, condition: &Condition, width: Width, yes: Goal, no: Goal) -> Goal {
    let (yes, no, code) = match condition.operator {
        Operator::Eq => (yes, no, JUMP_EQ),
        Operator::Ne => (no, yes, JUMP_EQ),
        Operator::Gt => (yes, no, JUMP_GT),
        Operator::Le => (no, yes, JUMP_GT),
        Operator::Ge => (yes, no, JUMP_GE),
        Operator::Lt => (no, yes, JUMP_GE),
        Operator::MaskedEq => return masked(assembler, condition, width, yes, no),
    };
    let (high, low) = ((condition.value >> 32) as u32, condition.value as u32);
    let offset = low_word(condition.index);
    let low = assembler.branch(code, low, yes, no);
    let mut goal = assembler.before(low, LOAD, offset);
    if width == Width::Bits64 {
        // Equal upper halves leave it to the lower ones; a greater one is greater for both `Gt` and `Ge`.
        let equal = assembler.branch(JUMP_EQ, high, goal, no);
        let greater = if code == JUMP_EQ { equal } else { assembler.branch(JUMP_GT, high, yes, equal) };
        goal = assembler.before(greater, LOAD, offset + 4);
    }
    goal
}

/// Writes `argument & mask == value & mask`, leaving out halves that the mask does not touch.
fn masked(assembler: &mut Assembler, condition: &Condition, width: Width, yes: Goal, no: Goal) -> Goal {
    let (mask, wanted) = (condition.value, condition.value_two & condition.value);
    let offset = low_word(condition.index);
    let halves = [(offset, mask as u32, wanted as u32), (offset + 4, (mask >> 32) as u32, (wanted >> 32) as u32)];
    let halves = if width == Width::Bits32 { &halves[..1] } else { &halves };
    halves.iter().fold(yes, |yes, (offset, mask, wanted)| {
        let test = match (*mask, *wanted) {
            (0, _) => return yes,
            (mask, 0) => assembler.branch(JUMP_SET, mask, no, yes),
            (u32::MAX, wanted) => assembler.branch(JUMP_EQ, wanted, yes, no),
            (mask, wanted) => {
                let equal = assembler.branch(JUMP_EQ, wanted, yes, no);
                assembler.before(equal, AND, mask)
            }
        };
        assembler.before(test, LOAD, *offset)
    })
}
