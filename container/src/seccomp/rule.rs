//! One rule of a profile: which calls, under which conditions, and what then.

use super::Action;

/// How a condition compares an argument with its value.
///
/// Arguments are compared as unsigned 64-bit numbers; on 32-bit architectures only the lower 32 bits are.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Operator {
    /// Not equal.
    Ne,
    /// Less.
    Lt,
    /// Less or equal.
    Le,
    /// Equal.
    Eq,
    /// Greater or equal.
    Ge,
    /// Greater.
    Gt,
    /// Equal after both sides were masked.
    MaskedEq,
}

/// What one argument of a call must be for a rule to match.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Condition {
    pub(super) index: u64,
    pub(super) operator: Operator,
    /// The value, or with [`Operator::MaskedEq`] the mask: OCI's `value`.
    pub(super) value: u64,
    /// With [`Operator::MaskedEq`] the value after masking: OCI's `valueTwo`.
    pub(super) value_two: u64,
}

impl Condition {
    /// Compares argument `index` (0 to 5) with `value`; with [`Operator::MaskedEq`] asks whether all bits of `value`
    /// are clear.
    ///
    /// The kernel takes many arguments (a socket's domain, an ioctl's request) as 32 bits and ignores the rest of the
    /// register, but a filter sees all 64. So forbid with [`Condition::masked`], allow with this.
    pub fn new(index: u8, operator: Operator, value: u64) -> Self {
        Self { index: u64::from(index), operator, value, value_two: 0 }
    }

    /// Asks whether the bits `mask` of argument `index` (0 to 5) equal those of `value`.
    pub fn masked(index: u8, mask: u64, value: u64) -> Self {
        Self { index: u64::from(index), operator: Operator::MaskedEq, value: mask, value_two: value }
    }

    /// Whether `argument` meets the condition: the definition that the compiled filter is tested against.
    pub(super) fn holds(&self, argument: u64) -> bool {
        match self.operator {
            Operator::Ne => argument != self.value,
            Operator::Lt => argument < self.value,
            Operator::Le => argument <= self.value,
            Operator::Eq => argument == self.value,
            Operator::Ge => argument >= self.value,
            Operator::Gt => argument > self.value,
            Operator::MaskedEq => argument & self.value == self.value_two & self.value,
        }
    }

    /// The condition as a 32-bit architecture has it, where libseccomp too keeps only the lower halves.
    pub(super) fn truncated(&self) -> Self {
        let low = u64::from(u32::MAX);
        Self { value: self.value & low, value_two: self.value_two & low, ..*self }
    }
}

/// A rule: an action for some system calls, if their arguments meet all conditions.
///
/// ```
/// use keelbox::seccomp::{Action, Condition, Operator, Profile, Rule};
///
/// // No set-user-ID bit by chmod(2): mode & 04000 must be 0 for the call to go on as the profile has it.
/// let rule = Rule::new(Action::Errno(1), ["fchmod", "chmod"]).when(Condition::masked(1, 0o4000, 0o4000));
/// let profile = Profile::standard().clone().rule(rule);
/// # let _ = profile;
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use]
pub struct Rule {
    pub(super) action: Action,
    pub(super) names: Vec<String>,
    pub(super) conditions: Vec<Condition>,
}

impl Rule {
    /// A rule for the calls `names`, by the kernel's names. Without conditions it matches always.
    pub fn new<I>(action: Action, names: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let names = names.into_iter().map(Into::into).collect();
        Self { action, names, conditions: Vec::new() }
    }

    /// Adds a condition; all of them must hold. Write a second rule for "or".
    pub fn when(mut self, condition: Condition) -> Self {
        self.conditions.push(condition);
        self
    }
}
