//! From rules to a program: architecture, then number, then arguments.
//!
//! The number is looked up by binary search over ranges of numbers with the same answer, so about nine comparisons
//! decide about most calls. Where the answer does not depend on arguments none is loaded, which lets Linux 5.11 and
//! later remember "allow" in a bitmap and skip the program altogether.

use super::action::ENOSYS;
use super::arch::X32_BIT;
use super::assemble::{Assembler, Goal};
use super::conditions::{self, Step};
use super::filter::{JUMP_EQ, LOAD};
use super::simulate::{self, MAX_INSTRUCTIONS};
use super::{Action, Arch, Error, ErrorKind, Filter, Rules, SyscallTable};
use std::collections::{BTreeMap, HashMap};

const NUMBER: u32 = 0;
const AUDIT: u32 = 4;

/// Compiles `rules`.
pub(super) fn compile(rules: &Rules) -> Result<Filter, Error> {
    let mut compiler = Compiler { rules, assembler: Assembler::default(), known: HashMap::new() };
    let mut start = Goal::Return(Action::KillProcess.to_return());
    let mut audits: Vec<u32> = Vec::new();
    for arch in &rules.architectures {
        if !audits.contains(&arch.audit()) {
            audits.push(arch.audit());
        }
    }
    let mut entries = Vec::new();
    for audit in audits.iter().rev() {
        let ranges = compiler.ranges(*audit);
        let search = compiler.assembler.search(&ranges);
        entries.push((*audit, compiler.assembler.before(search, LOAD, NUMBER)));
    }
    for (audit, entry) in entries {
        start = compiler.assembler.branch(JUMP_EQ, audit, entry, start);
    }
    start = compiler.assembler.before(start, LOAD, AUDIT);
    let instructions = compiler.assembler.finish(start);
    let length = instructions.len();
    if length > MAX_INSTRUCTIONS {
        let problem = format!("it needs {length} instructions, and the kernel accepts {MAX_INSTRUCTIONS}");
        return Err(Error::new(ErrorKind::TooLong, "", problem));
    }
    debug_assert_eq!(simulate::check(&instructions), Ok(()), "the assembler wrote a program the kernel refuses");
    Ok(Filter::new(instructions, rules.flags, rules.warnings.clone()))
}

struct Compiler<'a> {
    rules: &'a Rules,
    assembler: Assembler,
    /// The code of each list of steps that was already written. Architectures and calls share it.
    known: HashMap<(Vec<Step>, Action), Goal>,
}

impl Compiler<'_> {
    /// What to do with each number under one audit value: ascending, from 0, neighbours merged.
    fn ranges(&mut self, audit: u32) -> Vec<(u32, Goal)> {
        let mut ranges = vec![];
        match self.rules.architectures.iter().find(|arch| arch.audit() == audit) {
            Some(Arch::X86_64 | Arch::X32) => {
                for (arch, first) in [(Arch::X86_64, 0), (Arch::X32, X32_BIT)] {
                    if self.rules.architectures.contains(&arch) {
                        ranges.extend(self.ranges_of(arch, first));
                    } else {
                        ranges.push((first, Goal::Return(self.rules.half_listed(arch).to_return())));
                    }
                }
            }
            Some(arch) => ranges.extend(self.ranges_of(*arch, 0)),
            None => (),
        }
        // -1 is how a tracer skips a call.
        ranges.push((u32::MAX, Goal::Return(self.rules.default.to_return())));
        ranges.dedup_by(|next, previous| next.1 == previous.1);
        ranges
    }

    fn ranges_of(&mut self, arch: Arch, first: u32) -> Vec<(u32, Goal)> {
        let default = Goal::Return(self.rules.default.to_return());
        let enosys = Goal::Return(Action::Errno(ENOSYS).to_return());
        let newer = self.rules.newer.get(&arch).copied().unwrap_or(u32::MAX);
        let otherwise = |number| {
            if (newer..arch.number_limit()).contains(&number) { enosys } else { default }
        };
        let mut points = BTreeMap::from([(first, default)]);
        points.insert(newer.max(first), otherwise(newer));
        if arch.number_limit() < u32::MAX && arch != Arch::X86_64 {
            points.insert(arch.number_limit(), default);
        }
        let mut numbers: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        let table = SyscallTable::of(arch);
        for (index, resolved) in self.rules.rules.iter().enumerate() {
            for number in resolved.rule.names.iter().filter_map(|name| table.number(name)) {
                numbers.entry(number).or_default().push(index);
            }
        }
        for (number, indexes) in numbers {
            let goal = self.goal(arch, &indexes, otherwise(number));
            points.insert(number, goal);
            points.entry(number + 1).or_insert(otherwise(number + 1));
        }
        points.into_iter().filter(|(number, _)| *number != u32::MAX).collect()
    }

    /// What the rules at `indexes`, which all name one call, do with it.
    fn goal(&mut self, arch: Arch, indexes: &[usize], otherwise: Goal) -> Goal {
        let mut last = otherwise;
        let mut conditional = Vec::new();
        for index in indexes {
            let rule = &self.rules.rules[*index].rule;
            if rule.conditions.is_empty() {
                last = Goal::Return(rule.action.to_return());
                break;
            }
            conditional.push(rule);
        }
        let Goal::Return(value) = last else {
            return last;
        };
        let last = Action::from_return(value);
        while conditional.pop_if(|rule| rule.action == last).is_some() {}
        if conditional.is_empty() {
            return Goal::Return(value);
        }
        let steps = conditions::steps(&conditional, arch.is_32_bit());
        if let Some(goal) = self.known.get(&(steps.clone(), last)) {
            return *goal;
        }
        let goal = conditions::write(&mut self.assembler, &steps, Goal::Return(value));
        self.known.insert((steps, last), goal);
        goal
    }
}
