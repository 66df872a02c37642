//! To and from the `oci-spec` types of `linux.seccomp`.

use super::filter::{FLAG_LOG, FLAG_SPEC_ALLOW, FLAG_TSYNC, FLAG_WAIT_KILLABLE_RECV};
use super::{Action, Condition, Error, ErrorKind, Operator, Profile, Rule, Rules};
use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompFilterFlag,
    LinuxSeccompOperator, LinuxSyscall,
};

/// Reads the OCI type. It goes through JSON, so that one reader checks and names every field.
pub(super) fn read(seccomp: &LinuxSeccomp) -> Result<Profile, Error> {
    let value = serde_json::to_value(seccomp).map_err(|cause| Error::new(ErrorKind::Json, "", "").caused_by(cause))?;
    super::json::profile(&value)
}

/// Writes `rules`, which were resolved from `profile`.
pub(super) fn write(profile: &Profile, rules: &Rules) -> LinuxSeccomp {
    let mut seccomp = LinuxSeccomp::default();
    let (action, errno) = action(rules.default);
    seccomp.set_default_action(action).set_default_errno_ret(errno);
    seccomp.set_architectures(Some(rules.architectures.iter().map(|arch| arch.to_oci()).collect()));
    let flags = flags(profile.flags);
    seccomp.set_flags(Some(flags).filter(|flags| !flags.is_empty()));
    seccomp.set_listener_path(profile.listener_path.clone());
    seccomp.set_listener_metadata(profile.listener_metadata.clone());
    seccomp.set_syscalls(Some(rules.rules.iter().map(|rule| syscall(&rule.rule)).collect()));
    seccomp
}

fn syscall(rule: &Rule) -> LinuxSyscall {
    let mut syscall = LinuxSyscall::default();
    let (action, errno) = action(rule.action);
    syscall.set_names(rule.names.clone()).set_action(action).set_errno_ret(errno);
    let arguments: Vec<_> = rule.conditions.iter().map(argument).collect();
    syscall.set_args(Some(arguments).filter(|arguments| !arguments.is_empty()));
    syscall
}

fn argument(condition: &Condition) -> LinuxSeccompArg {
    let operator = match condition.operator {
        Operator::Ne => LinuxSeccompOperator::ScmpCmpNe,
        Operator::Lt => LinuxSeccompOperator::ScmpCmpLt,
        Operator::Le => LinuxSeccompOperator::ScmpCmpLe,
        Operator::Eq => LinuxSeccompOperator::ScmpCmpEq,
        Operator::Ge => LinuxSeccompOperator::ScmpCmpGe,
        Operator::Gt => LinuxSeccompOperator::ScmpCmpGt,
        Operator::MaskedEq => LinuxSeccompOperator::ScmpCmpMaskedEq,
    };
    let mut argument =
        LinuxSeccompArgBuilder::default().index(condition.index as usize).value(condition.value).op(operator);
    if condition.operator == Operator::MaskedEq {
        argument = argument.value_two(condition.value_two);
    }
    argument.build().expect("every field of this builder has a default")
}

fn action(action: Action) -> (LinuxSeccompAction, Option<u32>) {
    match action {
        Action::Allow => (LinuxSeccompAction::ScmpActAllow, None),
        Action::Log => (LinuxSeccompAction::ScmpActLog, None),
        Action::Trace(message) => (LinuxSeccompAction::ScmpActTrace, Some(u32::from(message))),
        Action::Notify => (LinuxSeccompAction::ScmpActNotify, None),
        Action::Errno(errno) => (LinuxSeccompAction::ScmpActErrno, Some(u32::from(errno))),
        Action::Trap => (LinuxSeccompAction::ScmpActTrap, None),
        Action::KillThread => (LinuxSeccompAction::ScmpActKillThread, None),
        Action::KillProcess => (LinuxSeccompAction::ScmpActKillProcess, None),
    }
}

fn flags(bits: u32) -> Vec<LinuxSeccompFilterFlag> {
    let table = [
        (FLAG_TSYNC, LinuxSeccompFilterFlag::SeccompFilterFlagTsync),
        (FLAG_LOG, LinuxSeccompFilterFlag::SeccompFilterFlagLog),
        (FLAG_SPEC_ALLOW, LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow),
        (FLAG_WAIT_KILLABLE_RECV, LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv),
    ];
    table.into_iter().filter(|(bit, _)| bits & bit != 0).map(|(_, flag)| flag).collect()
}
