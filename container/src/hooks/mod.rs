//! Programs that are run at points of a container's life (config.md#posix-platform-hooks): what they are, and when.
//!
//! Leaves out running them, see `perform.rs`, and what leads up to it, see `named/hooks.rs`. Needs no kernel.

mod perform;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_spec::runtime as oci;

use crate::builder::{Container, IntoArguments};

pub(crate) use perform::{Outside, arguments, attend, document, outside};

/// When a hook is run, and where.
///
/// Hooks of one point are run in the order in which they were given. Each reads the state of the container from its standard
/// input, as JSON (runtime.md#state).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum HookPoint {
    /// As [`CreateRuntime`](Self::CreateRuntime), and before that. The specification advises against it.
    Prestart,
    /// While the container is created: its namespaces and mounts are there, its root is not entered yet. In the namespaces of this
    /// program.
    CreateRuntime,
    /// After that. The file is that of this program's root, and is executed in the container's namespaces, in the directory that
    /// is about to become their root.
    CreateContainer,
    /// When it is started, before its program. The file is one of the container, executed there as the container's user.
    StartContainer,
    /// When the program runs, before `start` is done. In the namespaces of this program.
    Poststart,
    /// When the container is deleted, and all of it is gone. In the namespaces of this program. One that fails is a
    /// [warning](crate::Handle::warnings).
    Poststop,
}

impl HookPoint {
    /// The word of the specification: `createRuntime`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::StartContainer => "startContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }

    /// The hooks of this point.
    #[allow(deprecated, reason = "bundles still have prestart hooks")]
    pub(crate) fn of(self, hooks: &oci::Hooks) -> &[oci::Hook] {
        let list = match self {
            Self::Prestart => hooks.prestart(),
            Self::CreateRuntime => hooks.create_runtime(),
            Self::CreateContainer => hooks.create_container(),
            Self::StartContainer => hooks.start_container(),
            Self::Poststart => hooks.poststart(),
            Self::Poststop => hooks.poststop(),
        };
        list.as_deref().unwrap_or_default()
    }

    #[allow(deprecated, reason = "bundles still have prestart hooks")]
    fn of_mut(self, hooks: &mut oci::Hooks) -> &mut Vec<oci::Hook> {
        let list = match self {
            Self::Prestart => hooks.prestart_mut(),
            Self::CreateRuntime => hooks.create_runtime_mut(),
            Self::CreateContainer => hooks.create_container_mut(),
            Self::StartContainer => hooks.start_container_mut(),
            Self::Poststart => hooks.poststart_mut(),
            Self::Poststop => hooks.poststop_mut(),
        };
        list.get_or_insert_with(Vec::new)
    }
}

impl fmt::Display for HookPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Those that are run while the container is created.
pub(crate) const CREATION: [HookPoint; 3] = [HookPoint::Prestart, HookPoint::CreateRuntime, HookPoint::CreateContainer];

/// All hooks.
pub(crate) fn all(hooks: &oci::Hooks) -> impl Iterator<Item = &oci::Hook> {
    let rest = [HookPoint::StartContainer, HookPoint::Poststart, HookPoint::Poststop];
    CREATION.into_iter().chain(rest).flat_map(|point| point.of(hooks))
}

/// Whether there are no hooks at all.
pub(crate) fn is_empty(hooks: &oci::Hooks) -> bool {
    all(hooks).next().is_none()
}

/// Whether there are hooks of one of these points.
pub(crate) fn any(spec: &oci::Spec, points: &[HookPoint]) -> bool {
    spec.hooks().as_ref().is_some_and(|hooks| points.iter().any(|point| !point.of(hooks).is_empty()))
}

/// A program that is run at a point of a container's life.
///
/// ```
/// use std::time::Duration;
/// use keelbox::{Container, Hook, HookPoint};
/// let network = Hook::new("/usr/libexec/network").args(["network", "up"]).timeout(Duration::from_secs(5));
/// let container = Container::from_rootfs("/srv/web").args(["/bin/web"]).hook(HookPoint::CreateRuntime, network);
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use = "a hook does nothing until it is given to a container"]
pub struct Hook(oci::Hook);

impl Hook {
    /// The program in this file, by an absolute path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let mut hook = oci::Hook::default();
        hook.set_path(path.into());
        Self(hook)
    }

    /// The whole argument list, the program's own name first. Default: the path alone.
    pub fn args(mut self, args: impl IntoArguments) -> Self {
        self.0.set_args(Some(args.into_arguments()));
        self
    }

    /// One variable of the environment. Default: none, not even `PATH`.
    pub fn env(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        let variable = format!("{}={}", name.as_ref(), value.as_ref());
        self.0.env_mut().get_or_insert_with(Vec::new).push(variable);
        self
    }

    /// How long it may run; then it is killed, and has failed. In whole seconds, rounded up. Default: for ever.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        let seconds = timeout.as_secs().saturating_add(u64::from(timeout.subsec_nanos() > 0));
        self.0.set_timeout(Some(i64::try_from(seconds).unwrap_or(i64::MAX)));
        self
    }
}

impl Container {
    /// A program to be run at a point of the container's life, after those given before for that point. Default: none.
    ///
    /// A hook that fails while the container is created or started ends it, and all of it is taken back. Hooks need a container
    /// with a name: see [`create`](Self::create).
    pub fn hook(mut self, point: HookPoint, hook: Hook) -> Self {
        if let Err(why) = check(&hook.0) {
            self.spec.refuse(format!("cannot take the {point} hook {}: {why}", hook.0.path().display()));
        }
        let hooks = self.spec.oci.hooks_mut().get_or_insert_with(oci::Hooks::default);
        point.of_mut(hooks).push(hook.0);
        self
    }
}

/// What makes no sense in a hook.
pub(crate) fn check(hook: &oci::Hook) -> Result<(), &'static str> {
    let texts = hook.args().iter().chain(hook.env()).flatten();
    let path: &Path = hook.path();
    match () {
        () if !path.is_absolute() => Err("its path is not absolute"),
        () if hook.timeout().is_some_and(|seconds| seconds <= 0) => Err("its time limit is not above 0"),
        () if texts.into_iter().any(|text| text.contains('\0')) || path.as_os_str().as_encoded_bytes().contains(&0) => {
            Err("it holds a NUL byte")
        }
        () => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn hooks_are_written_as_the_specification_has_them() {
        let hook = Hook::new("/h").args(["h", "1"]).env("A", "b=c").timeout(Duration::from_millis(1500));
        let container = Container::from_rootfs("/").hook(HookPoint::Poststop, hook.clone());
        let container = container.hook(HookPoint::Prestart, Hook::new("/p")).hook(HookPoint::Poststop, Hook::new("/q"));
        let json = serde_json::to_value(container.spec.oci.hooks()).unwrap();
        let first = serde_json::json!({ "path": "/h", "args": ["h", "1"], "env": ["A=b=c"], "timeout": 2 });
        assert_eq!(json["poststop"], serde_json::json!([first, { "path": "/q" }]));
        assert_eq!(json["prestart"], serde_json::json!([{ "path": "/p" }]));
        assert!(any(&container.spec.oci, &CREATION) && !any(&container.spec.oci, &[HookPoint::Poststart]));
        assert!(is_empty(&oci::Hooks::default()));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_point_and_the_path() {
        let cases = [
            (Hook::new("bin/x"), "its path is not absolute"),
            (Hook::new("/x").timeout(Duration::ZERO), "its time limit is not above 0"),
            (Hook::new("/x").env("A", "\0"), "it holds a NUL byte"),
            (Hook::new("/x\0y"), "it holds a NUL byte"),
        ];
        for (hook, why) in cases {
            let path = hook.0.path().display().to_string();
            let container = Container::from_rootfs("/").args(["/x"]).hook(HookPoint::CreateRuntime, hook);
            let refused = container.build().unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Invalid);
            assert_eq!(refused.to_string(), format!("cannot take the createRuntime hook {path}: {why}"));
        }
    }
}
