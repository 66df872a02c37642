//! The compiled program against the rules it was compiled from: every architecture, every number, arguments around
//! every boundary, for the profiles of this crate and for random ones.

use super::arch::X32_BIT;
use super::filter::{LOAD, RETURN};
use super::*;
use oci_spec::runtime::Capability;
use std::collections::BTreeSet;

/// Numbers worth asking about: all that can exist, the borders between architectures, and the extremes.
fn numbers(arch: Arch) -> impl Iterator<Item = u32> {
    let base = if arch == Arch::X32 { X32_BIT } else { 0 };
    let far =
        [0xe_ffff, 0xf_0000, 0xf_0005, 0xf_0006, 0xf_0007, 0x3fff_ffff, X32_BIT, 0x8000_0000, u32::MAX - 1, u32::MAX];
    (0..=600).map(move |number| base + number).chain(far)
}

/// Argument lists around the values that the rules on this call compare with.
fn arguments(rules: &Rules, arch: Arch, number: u32, random: &mut Random) -> Vec<[u64; 6]> {
    let table = SyscallTable::of(arch);
    let mut lists = vec![[0; 6], [u64::MAX; 6]];
    let mut values: Vec<BTreeSet<u64>> = vec![BTreeSet::new(); 6];
    let rules = rules.rules.iter().map(|resolved| &resolved.rule);
    for rule in rules.filter(|rule| rule.names.iter().any(|name| table.number(name) == Some(number))) {
        for condition in &rule.conditions {
            let Condition { index, value, value_two, .. } = *condition;
            let high = 1 << 32;
            let base = [value, value_two, value & value_two, value_two | !value];
            values[index as usize].extend(base.into_iter().flat_map(|value| {
                let near = [value, value.wrapping_add(1), value.wrapping_sub(1), !value];
                near.into_iter()
                    .flat_map(move |value| [value, value ^ high, value & (high - 1), value.wrapping_sub(high)])
            }));
        }
    }
    for (index, values) in values.iter().enumerate() {
        for value in values {
            let mut list = [0; 6];
            list[index] = *value;
            lists.push(list);
        }
    }
    if values.iter().filter(|values| !values.is_empty()).count() > 1 {
        for _ in 0..60 {
            lists.push(std::array::from_fn(|index| random.choose(&values[index]).unwrap_or(0)));
        }
    }
    lists
}

/// Asks program and rules about everything; returns how many calls were compared.
fn assert_agreement(rules: &Rules, random: &mut Random) -> usize {
    let filter = rules.compile().expect("the filter is not too long");
    assert_eq!(simulate::check(filter.instructions()), Ok(()));
    let mut compared = 0;
    for arch in Arch::ALL {
        for number in numbers(arch) {
            for arguments in arguments(rules, arch, number, random) {
                let call = Call { arguments, ..Call::new(arch, number) };
                let (wanted, got) = (rules.decide(&call), filter.decide(arch, number, arguments));
                assert_eq!(got, wanted, "{arch:?} {number:#x} {arguments:x?}\n{rules:?}\n{filter}");
                compared += 1;
            }
        }
    }
    let foreign = Call { audit: 0x8000_0016, ..Call::default() }; // s390x
    assert_eq!(rules.decide(&foreign), Action::KillProcess);
    assert_eq!(simulate::run(filter.instructions(), &foreign), Ok(Action::KillProcess.to_return()));
    compared
}

fn targets() -> Vec<Target> {
    let all = "SYS_ADMIN DAC_READ_SEARCH SYS_CHROOT SYS_BOOT SYS_MODULE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_TIME \
        SYS_TTY_CONFIG SYS_NICE SYSLOG BPF PERFMON";
    let all: Vec<Capability> = all.split_whitespace().map(|name| name.parse().unwrap()).collect();
    let mut targets = Vec::new();
    for arch in Arch::ALL {
        targets.push(Target::new(arch));
        if !matches!(arch, Arch::X86_64 | Arch::Aarch64) {
            continue;
        }
        targets.push(Target::new(arch).capabilities(all.iter().copied()));
        targets.push(Target::new(arch).kernel(4, 4).capabilities([Capability::SysChroot]));
    }
    targets
}

#[test]
fn built_in_profiles_compile_to_what_they_say() {
    let mut random = Random(1);
    for profile in [Profile::standard(), Profile::hostile()] {
        for target in targets() {
            let rules = profile.resolve(&target).unwrap();
            assert_eq!(rules.warnings(), []);
            assert!(assert_agreement(&rules, &mut random) > 3000);
        }
    }
}

#[test]
fn built_in_profiles_answer_most_calls_without_looking_at_arguments() {
    // Linux 5.11 emulates a filter for each number when it is installed, gives up at the first load of an argument,
    // and never runs the filter for the numbers that were allowed: kernel/seccomp.c, seccomp_is_const_allow().
    for (profile, least) in [(Profile::standard(), 300), (Profile::hostile(), 250)] {
        let filter = profile.compile(&Target::new(Arch::X86_64)).unwrap();
        let arguments = |instruction: &Instruction| instruction.code == LOAD && instruction.k >= 16;
        let cached = (0..600).filter(|number| {
            let mut program = filter.instructions().to_vec();
            for instruction in program.iter_mut().filter(|instruction| arguments(instruction)) {
                *instruction = Instruction { code: RETURN, jt: 0, jf: 0, k: 0 };
            }
            simulate::run(&program, &Call::new(Arch::X86_64, *number)) == Ok(Action::Allow.to_return())
        });
        assert!(cached.count() >= least);
    }
}

#[test]
fn random_profiles_compile_to_what_they_say() {
    for seed in 1..=25 {
        let mut random = Random(seed);
        let rules = random.profile().resolve(&Target::new(random.pick(&Arch::ALL))).unwrap();
        assert_agreement(&rules, &mut random);
    }
}

#[test]
fn many_conditional_rules_need_long_jumps_and_still_agree() {
    let mut random = Random(77);
    let mut profile = Profile::new(Action::Errno(1));
    for (number, (name, _)) in SyscallTable::of(Arch::X86_64).iter().enumerate().take(200) {
        let condition = Condition::new(number as u8 % 6, Operator::Gt, random.next() >> (number % 64));
        profile = profile.rule(Rule::new(Action::Errno(number as u16), [name]).when(condition));
    }
    let rules = profile.resolve(&Target::new(Arch::X86_64)).unwrap();
    let jumps = rules.compile().unwrap();
    assert!(jumps.instructions().len() > 1000);
    assert_agreement(&rules, &mut random);
}

#[test]
fn a_filter_longer_than_the_kernel_takes_is_an_error() {
    let mut profile = Profile::new(Action::Errno(1));
    for value in 0..2000 {
        profile = profile.rule(Rule::new(Action::Errno(value % 2), ["read"]).when(Condition::new(
            0,
            Operator::Eq,
            value.into(),
        )));
    }
    let error = profile.compile(&Target::new(Arch::X86_64)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLong);
    assert!(error.to_string().starts_with("cannot compile the seccomp profile: it needs 8"), "{error}");
}

#[test]
fn neighbouring_values_become_one_search() {
    let sockets = |values: &[u64]| {
        let rule = |value: &u64| Rule::new(Action::Allow, ["socket"]).when(Condition::new(0, Operator::Eq, *value));
        let profile = values.iter().map(rule).fold(Profile::new(Action::Errno(1)), Profile::rule);
        profile.compile(&Target::new(Arch::X86_64)).unwrap().instructions().len()
    };
    assert_eq!(sockets(&[1]), sockets(&[1, 2]) - 1);
    assert_eq!(sockets(&[1, 2]), sockets(&[2, 1, 3, 4, 5, 6, 7, 8]));
}

/// xorshift64*: small, and the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 32) as usize % limit
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn choose(&mut self, from: &BTreeSet<u64>) -> Option<u64> {
        if from.is_empty() { None } else { from.iter().nth(self.below(from.len())).copied() }
    }

    fn action(&mut self) -> Action {
        let errno = self.below(50) as u16;
        let trace = self.below(9) as u16;
        let others = [Action::Log, Action::Trap, Action::KillThread, Action::KillProcess, Action::Trace(trace)];
        let action = self.pick(&others);
        self.pick(&[Action::Allow, Action::Allow, Action::Errno(1), Action::Errno(errno), action])
    }

    fn value(&mut self) -> u64 {
        let wide = self.next();
        let shift = self.below(64);
        self.pick(&[0, 1, 5, 16, 0xffff_ffff, 0x1_0000_0000, u64::MAX, wide, wide >> shift])
    }

    fn condition(&mut self, index: u8) -> Condition {
        use Operator::{Eq, Ge, Gt, Le, Lt, Ne};
        let operator = self.pick(&[Ne, Lt, Le, Eq, Eq, Eq, Ge, Gt]);
        match self.below(4) {
            0 => Condition::masked(index, self.value(), self.value()),
            _ => Condition::new(index, operator, self.value()),
        }
    }

    fn profile(&mut self) -> Profile {
        let names: Vec<&str> = SyscallTable::of(self.pick(&Arch::ALL)).iter().map(|(name, _)| name).collect();
        let mut profile = Profile::new(self.action());
        let list = Arch::ALL.iter().filter(|_| self.below(2) == 0).map(|arch| arch.oci_name().to_owned()).collect();
        profile.architectures = profile::Architectures::List(list);
        for _ in 0..1 + self.below(25) {
            let few: Vec<&str> = (0..1 + self.below(15)).map(|_| self.pick(&names)).collect();
            let mut rule = Rule::new(self.action(), few);
            let first = self.below(6) as u8;
            for step in 0..self.pick(&[0, 1, 1, 1, 2, 3]) {
                rule = rule.when(self.condition((first + step) % 6));
            }
            // As if it came from a file, so that calls newer than the profile matter.
            let gate = profile::Gate::default;
            profile.rules.push(profile::Gated { rule, includes: gate(), excludes: gate() });
        }
        profile
    }
}
