//! A seccomp profile: what someone wrote down, before it is known for which machine and container.
//!
//! Reading is in `json.rs`, the choice of rules for one container in `resolve.rs`.

use super::{Action, Arch, Error, Filter, Rule, Rules, Target, Warning};
use oci_spec::runtime::LinuxSeccomp;
use std::path::{Path, PathBuf};

/// What a rule means that compares the same argument more than once.
///
/// The OCI specification says all conditions must hold. runc, and with it Docker and Podman, makes each condition a
/// rule of its own, so that any may hold. One of the two would weaken the filter in silence, so the default is to
/// refuse such a rule.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum RepeatedArguments {
    /// The profile is an error.
    #[default]
    Refuse,
    /// All conditions must hold, as the specification says.
    All,
    /// Any condition must hold, as runc does it.
    Any,
}

/// What happens to calls that are newer than the profile, when its default action is an error number.
///
/// Newer is a number above the highest one the profile names, in any rule, for that architecture.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum NewerSyscalls {
    /// They fail with `ENOSYS`, as on a kernel without them, so that a C library falls back to older calls. runc does
    /// the same.
    #[default]
    Enosys,
    /// They get the default action, usually `EPERM`.
    DefaultAction,
}

/// A seccomp profile in the form of OCI (`linux.seccomp`), Docker or Podman.
///
/// The first rule that matches a call decides; if none does, the default action does. Rules that a program adds come
/// before those of the profile.
///
/// libseccomp differs in one point: there a rule without conditions overrides every rule with conditions for the same
/// call, wherever it stands. Where that would matter a [`Warning::Order`] says so.
///
/// ```
/// use keelbox::seccomp::{Action, Arch, Profile, Target};
///
/// let profile = Profile::from_json(br#"{
///     "defaultAction": "SCMP_ACT_ERRNO",
///     "syscalls": [
///         {"names": ["read", "write", "exit_group"], "action": "SCMP_ACT_ALLOW"},
///         {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}}
///     ]
/// }"#)?;
/// let filter = profile.notify(["mkdirat"]).compile(&Target::new(Arch::X86_64))?;
/// assert_eq!(filter.decide(Arch::X86_64, 165, [0; 6]), Action::Errno(1)); // mount
/// assert_eq!(filter.decide(Arch::X86_64, 258, [0; 6]), Action::Notify); // mkdirat
/// assert!(filter.needs_listener());
/// # Ok::<(), keelbox::seccomp::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Profile {
    pub(super) default: Action,
    pub(super) architectures: Architectures,
    pub(super) flags: u32,
    pub(super) listener_path: Option<PathBuf>,
    pub(super) listener_metadata: Option<String>,
    pub(super) rules: Vec<Gated>,
    pub(super) added: Vec<Rule>,
    pub(super) repeated: RepeatedArguments,
    pub(super) newer: NewerSyscalls,
    pub(super) warnings: Vec<Warning>,
    /// One of ours, which means the order of its rules as it stands.
    pub(super) built_in: bool,
}

/// How a profile says which architectures may make calls, by their OCI names.
#[derive(Clone, Debug)]
pub(super) enum Architectures {
    /// OCI: a list. The native architecture is always added, so an empty list means it alone.
    List(Vec<String>),
    /// Docker: for each native architecture the further ones.
    Map(Vec<(String, Vec<String>)>),
}

/// A rule and when it is part of the filter.
#[derive(Clone, Debug)]
pub(super) struct Gated {
    pub(super) rule: Rule,
    pub(super) includes: Gate,
    pub(super) excludes: Gate,
}

/// Docker's `includes` or `excludes`.
#[derive(Clone, Debug, Default)]
pub(super) struct Gate {
    /// Upper case, without `CAP_`.
    pub(super) capabilities: Vec<String>,
    /// By [`Arch::docker_name`](super::Arch::docker_name).
    pub(super) architectures: Vec<String>,
    pub(super) minimum_kernel: Option<(u32, u32)>,
}

impl Profile {
    /// A profile without rules, for the native architecture only: `default` decides about every call.
    pub fn new(default: Action) -> Self {
        Self {
            default,
            architectures: Architectures::List(Vec::new()),
            flags: 0,
            listener_path: None,
            listener_metadata: None,
            rules: Vec::new(),
            added: Vec::new(),
            repeated: RepeatedArguments::default(),
            newer: NewerSyscalls::default(),
            warnings: Vec::new(),
            built_in: false,
        }
    }

    /// Reads a profile in the form of OCI's `linux.seccomp`, of Docker or of Podman.
    ///
    /// Keys that are not known, `null` values and comments are passed over. Flags, architectures, capabilities and
    /// system calls that are not known become [`Warning`]s. Actions, operators and error names that are not known are
    /// errors, because a guess would change what the filter lets through.
    ///
    /// # Errors
    /// [`ErrorKind::Json`](super::ErrorKind::Json) if this is not a JSON text,
    /// [`ErrorKind::Field`](super::ErrorKind::Field) for a wrong value, with the rule and the field.
    pub fn from_json(bytes: &[u8]) -> Result<Self, Error> {
        super::json::read(bytes)
    }

    /// Takes the profile from an OCI configuration.
    ///
    /// # Errors
    /// [`ErrorKind::Field`](super::ErrorKind::Field) for a value without meaning, with the rule and the field.
    pub fn from_oci(seccomp: &LinuxSeccomp) -> Result<Self, Error> {
        super::oci::read(seccomp)
    }

    /// Writes the profile as OCI has it, for one container: the rules that apply to `target`, and no `includes`.
    ///
    /// # Errors
    /// The same as [`Profile::resolve`].
    pub fn to_oci(&self, target: &Target) -> Result<LinuxSeccomp, Error> {
        let rules = self.resolve(target)?;
        Ok(super::oci::write(self, &rules))
    }

    /// Allows the calls `names`, whatever the profile says of them. See [`Profile::rule`].
    pub fn allow<I>(self, names: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.rule(Rule::new(Action::Allow, names))
    }

    /// Hands the calls `names` to the holder of the notification descriptor, whatever the profile says of them.
    ///
    /// The filter then needs a listener: see [`Filter::needs_listener`] and `seccomp_unotify(2)`. Needs Linux 5.0, and
    /// 5.5 for an answer that lets the call continue.
    pub fn notify<I>(self, names: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.rule(Rule::new(Action::Notify, names))
    }

    /// Adds a rule before all others, also before those added earlier. Default: none.
    ///
    /// A name that no known architecture has is an error when the profile is resolved.
    pub fn rule(mut self, rule: Rule) -> Self {
        self.added.insert(0, rule);
        self
    }

    /// Says whose calls the rules decide about, besides the native ones. Default: what the profile says; for a profile
    /// made with [`Profile::new`] no others. The calls of architectures that are not listed kill the process.
    pub fn architectures(mut self, architectures: impl IntoIterator<Item = Arch>) -> Self {
        let names = architectures.into_iter().map(|arch| arch.oci_name().to_owned());
        self.architectures = Architectures::List(names.collect());
        self
    }

    /// Says what a rule means that compares an argument twice. Default: [`RepeatedArguments::Refuse`].
    pub fn repeated_arguments(mut self, meaning: RepeatedArguments) -> Self {
        self.repeated = meaning;
        self
    }

    /// Says what happens to calls newer than the profile. Default: [`NewerSyscalls::Enosys`].
    pub fn newer_syscalls(mut self, answer: NewerSyscalls) -> Self {
        self.newer = answer;
        self
    }

    /// The action for calls that no rule matches.
    pub fn default_action(&self) -> Action {
        self.default
    }

    /// OCI's `listenerPath`: the socket of an agent that wants the notification descriptor.
    pub fn listener_path(&self) -> Option<&Path> {
        self.listener_path.as_deref()
    }

    /// OCI's `listenerMetadata`, to be passed to that agent.
    pub fn listener_metadata(&self) -> Option<&str> {
        self.listener_metadata.as_deref()
    }

    /// Chooses the rules that apply to `target`. Pure: touches no file.
    ///
    /// # Errors
    /// [`ErrorKind::RepeatedArgument`](super::ErrorKind::RepeatedArgument),
    /// [`ErrorKind::UnknownSyscall`](super::ErrorKind::UnknownSyscall) for a name the program added, and
    /// [`ErrorKind::Field`](super::ErrorKind::Field) for conditions on an argument beyond the sixth or for
    /// [`Action::Notify`] as default action.
    pub fn resolve(&self, target: &Target) -> Result<Rules, Error> {
        super::resolve::resolve(self, target)
    }

    /// Resolves and compiles in one go. Pure: touches no file.
    ///
    /// # Errors
    /// The same as [`Profile::resolve`] and [`Rules::compile`].
    pub fn compile(&self, target: &Target) -> Result<Filter, Error> {
        self.resolve(target)?.compile()
    }
}
