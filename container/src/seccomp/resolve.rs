//! Chooses from a profile the rules for one container, and decides about calls straight from them.
//!
//! [`Rules::decide`] is the definition of what a filter must do; the compiled program is tested against it.

use super::action::{ENOSYS, EPERM};
use super::arch::X32_BIT;
use super::profile::{Architectures, Gate, Gated};
use super::{
    Action, Arch, Call, Condition, Error, ErrorKind, Filter, NewerSyscalls, Profile, RepeatedArguments, Rule,
    SyscallTable, Target, Warning,
};
use oci_spec::runtime::Capability;
use std::collections::HashMap;

/// The rules of a profile for one container: no capability, kernel or machine is left to ask for.
#[derive(Clone, Debug)]
pub struct Rules {
    pub(super) default: Action,
    /// The native one first; no duplicates.
    pub(super) architectures: Vec<Arch>,
    pub(super) rules: Vec<Resolved>,
    /// The first number of each listed architecture that is newer than the profile; empty where that is no matter.
    pub(super) newer: HashMap<Arch, u32>,
    pub(super) flags: u32,
    pub(super) warnings: Vec<Warning>,
}

/// A rule, and where in the profile it stands; `None` for one that the program added.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    pub(super) index: Option<usize>,
    pub(super) rule: Rule,
}

impl Rules {
    /// Compiles the rules to a program for the kernel. Pure: touches no file.
    ///
    /// # Errors
    /// [`ErrorKind::TooLong`] if the program has more than 4096 instructions.
    pub fn compile(&self) -> Result<Filter, Error> {
        super::compile::compile(self)
    }

    /// What was passed over or may be read differently elsewhere.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The architectures whose calls are decided about, the native one first. All others are killed.
    pub fn architectures(&self) -> &[Arch] {
        &self.architectures
    }

    /// Decides about one call by reading the rules in order. A filter does the same, faster.
    pub fn decide(&self, call: &Call) -> Action {
        let Some(arch) = self.architectures.iter().find(|arch| arch.audit() == call.audit) else {
            return Action::KillProcess;
        };
        if call.number == u32::MAX {
            return self.default; // a tracer's way to skip a call, on every architecture
        }
        let arch = match arch {
            Arch::X86_64 | Arch::X32 if call.number >= X32_BIT => Arch::X32,
            Arch::X86_64 | Arch::X32 => Arch::X86_64,
            other => *other,
        };
        if !self.architectures.contains(&arch) {
            return self.half_listed(arch);
        }
        let names = SyscallTable::of(arch).names(call.number);
        let matching = (self.rules.iter()).find(|resolved| matches(&resolved.rule, &names, arch, call));
        match (matching, self.newer.get(&arch)) {
            (Some(resolved), _) => resolved.rule.action,
            (None, Some(first)) if (*first..arch.number_limit()).contains(&call.number) => Action::Errno(ENOSYS),
            (None, _) => self.default,
        }
    }

    /// The answer where x86_64 is listed and x32 is not, or the other way round: they share their audit number.
    pub(super) fn half_listed(&self, arch: Arch) -> Action {
        match self.default {
            _ if arch == Arch::X86_64 => Action::KillProcess,
            Action::Errno(_) | Action::Trap | Action::KillThread | Action::KillProcess => self.default,
            _ => Action::Errno(EPERM),
        }
    }
}

fn matches(rule: &Rule, names: &[&str], arch: Arch, call: &Call) -> bool {
    let holds = |condition: &Condition| {
        let argument = call.arguments[condition.index as usize];
        match arch.is_32_bit() {
            true => condition.truncated().holds(argument & u64::from(u32::MAX)),
            false => condition.holds(argument),
        }
    };
    names.iter().any(|name| rule.names.iter().any(|own| own == name)) && rule.conditions.iter().all(holds)
}

/// Resolves `profile` for `target`.
pub(super) fn resolve(profile: &Profile, target: &Target) -> Result<Rules, Error> {
    let mut warnings = profile.warnings.clone();
    let architectures = architectures(profile, target.arch, &mut warnings);
    if profile.default == Action::Notify {
        let problem = "a filter that notifies of every call would stop its own process";
        return Err(Error::new(ErrorKind::Field, "defaultAction", problem));
    }
    let mut rules = Vec::new();
    for rule in &profile.added {
        if let Some(name) = rule.names.iter().find(|name| !super::tables::is_known(name)) {
            return Err(Error::new(ErrorKind::UnknownSyscall, name, "no architecture has a system call of that name"));
        }
        add(profile.repeated, None, rule, &mut rules)?;
    }
    let own = rules.len();
    for (index, gated) in profile.rules.iter().enumerate() {
        warn_capabilities(index, gated, &mut warnings);
        if applies(gated, target) {
            warn_names(index, &gated.rule, &mut warnings);
            add(profile.repeated, Some(index), &gated.rule, &mut rules)?;
        }
    }
    if !profile.built_in {
        warn_order(profile.default, &rules[own..], &mut warnings);
    }
    let newer = newer(profile, &architectures);
    Ok(Rules { default: profile.default, architectures, rules, newer, flags: profile.flags, warnings })
}

fn architectures(profile: &Profile, native: Arch, warnings: &mut Vec<Warning>) -> Vec<Arch> {
    let names: &[String] = match &profile.architectures {
        Architectures::List(names) => names,
        Architectures::Map(entries) => {
            entries.iter().find(|(name, _)| name == native.oci_name()).map_or(&[], |(_, further)| further)
        }
    };
    let mut architectures = vec![native];
    for name in names {
        match Arch::from_oci_name(name) {
            Some(arch) if !architectures.contains(&arch) => architectures.push(arch),
            Some(_) => (),
            None if name == "SCMP_ARCH_NATIVE" => (),
            None => warnings.push(Warning::UnknownArchitecture(name.clone())),
        }
    }
    architectures
}

fn applies(gated: &Gated, target: &Target) -> bool {
    let Gated { includes, excludes, .. } = gated;
    let arch = |gate: &Gate| gate.architectures.iter().any(|name| name == target.arch.docker_name());
    let has = |name: &String| target.capabilities.contains(name);
    let new_enough = |minimum| target.kernel >= minimum;
    let included = (includes.architectures.is_empty() || arch(includes))
        && includes.capabilities.iter().all(has)
        && includes.minimum_kernel.is_none_or(new_enough);
    let excluded =
        arch(excludes) || excludes.capabilities.iter().any(has) || excludes.minimum_kernel.is_some_and(new_enough);
    included && !excluded
}

/// Adds `rule`, or with [`RepeatedArguments::Any`] one rule for each of its conditions.
fn add(repeated: RepeatedArguments, index: Option<usize>, rule: &Rule, rules: &mut Vec<Resolved>) -> Result<(), Error> {
    let mut seen = [false; 6];
    let mut twice = false;
    for (place, condition) in rule.conditions.iter().enumerate() {
        let field = || format!("args/{place}/index");
        let Some(seen) = seen.get_mut(condition.index as usize) else {
            let problem = format!("there is no argument {}, the last is 5", condition.index);
            return Err(Error::new(ErrorKind::Field, field(), problem).in_rule(index));
        };
        twice |= *seen;
        if *seen && repeated == RepeatedArguments::Refuse {
            let problem =
                format!("argument {} is compared twice, which runtimes read as \"and\" or as \"or\"", condition.index);
            return Err(Error::new(ErrorKind::RepeatedArgument, field(), problem).in_rule(index));
        }
        *seen = true;
    }
    if twice && repeated == RepeatedArguments::Any {
        let single = |condition| Resolved { index, rule: Rule { conditions: vec![condition], ..rule.clone() } };
        rules.extend(rule.conditions.iter().copied().map(single));
    } else {
        rules.push(Resolved { index, rule: rule.clone() });
    }
    Ok(())
}

fn warn_names(index: usize, rule: &Rule, warnings: &mut Vec<Warning>) {
    for name in rule.names.iter().filter(|name| !super::tables::is_known(name)) {
        warnings.push(Warning::UnknownSyscall { rule: index, name: name.clone() });
    }
}

fn warn_capabilities(index: usize, gated: &Gated, warnings: &mut Vec<Warning>) {
    let names = gated.includes.capabilities.iter().chain(&gated.excludes.capabilities);
    for name in names.filter(|name| name.parse::<Capability>().is_err()) {
        warnings.push(Warning::UnknownCapability { rule: index, name: name.clone() });
    }
}

fn warn_order(default: Action, rules: &[Resolved], warnings: &mut Vec<Warning>) {
    let mut seen: HashMap<&str, Vec<(bool, Action)>> = HashMap::new();
    for Resolved { index, rule } in rules {
        let Some(index) = *index else { continue };
        for name in &rule.names {
            let earlier = seen.entry(name).or_default();
            let unconditional = rule.conditions.is_empty();
            if earlier.iter().any(|(all, action)| *all && *action != rule.action) {
                warnings.push(Warning::Unreachable { rule: index, syscall: name.clone() });
            } else if unconditional
                && rule.action != default
                && earlier.iter().any(|(_, action)| *action != rule.action)
            {
                warnings.push(Warning::Order { rule: index, syscall: name.clone() });
            }
            earlier.push((unconditional, rule.action));
        }
    }
}

/// One above the highest number the profile names for each architecture, counting also rules that do not apply.
fn newer(profile: &Profile, architectures: &[Arch]) -> HashMap<Arch, u32> {
    let wanted = profile.newer == NewerSyscalls::Enosys && matches!(profile.default, Action::Errno(_));
    let names = || profile.rules.iter().flat_map(|gated| &gated.rule.names);
    let highest = |arch: &Arch| {
        let table = SyscallTable::of(*arch);
        names().filter_map(|name| table.number(name)).filter(|number| *number < arch.number_limit()).max()
    };
    let known = architectures.iter().filter(|_| wanted).filter_map(|arch| Some((*arch, highest(arch)? + 1)));
    known.collect()
}
