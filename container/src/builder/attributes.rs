//! Setters about what a program may do and gets, the same for the first program of a container and for further ones.

use oci_spec::runtime as oci;

use super::Container;
use crate::attributes::{IoPriority, MemoryPolicy, Personality, Scheduler};
use crate::exec::Exec;

/// What has the settings of a program.
pub(crate) trait Settings {
    /// The program in OCI's words.
    fn described(&mut self) -> &mut oci::Process;

    /// Remembers that a setting means nothing.
    fn refuse(&mut self, why: String);
}

impl Settings for Container {
    fn described(&mut self) -> &mut oci::Process {
        self.spec.process()
    }

    fn refuse(&mut self, why: String) {
        self.spec.refuse(why);
    }
}

macro_rules! settings {
    ($builder:ty, $default:literal) => {
        impl $builder {
            /// The mask of mode bits that new files do not get. Default:
            #[doc = $default]
            pub fn umask(mut self, mask: u32) -> Self {
                self.described().user_mut().set_umask(Some(mask & 0o777));
                self
            }

            /// A resource limit of the program and its children, soft and hard. Raising a hard limit needs `CAP_SYS_RESOURCE`. Default:
            #[doc = $default]
            pub fn rlimit(mut self, resource: super::Resource, soft: u64, hard: u64) -> Self {
                let kind = resource.oci();
                if soft > hard {
                    self.refuse(format!("the soft limit {soft} of {resource:?} is above the hard limit {hard}"));
                }
                let limit = oci::PosixRlimitBuilder::default().typ(kind).soft(soft).hard(hard).build();
                let mut limits = self.described().rlimits().clone().unwrap_or_default();
                limits.retain(|existing| existing.typ() != kind);
                limits.push(limit.unwrap_or_default());
                self.described().set_rlimits(Some(limits));
                self
            }

            /// How likely the kernel picks the program when memory is short: -1,000 to 1,000. Lowering it needs `CAP_SYS_RESOURCE`.
            /// Default: the caller's, or the container's.
            pub fn oom_score_adj(mut self, score: i32) -> Self {
                self.described().set_oom_score_adj(Some(score));
                self
            }

            /// How the program is scheduled. Default: as the caller, or as the container's program.
            pub fn scheduler(mut self, scheduler: impl Into<Scheduler>) -> Self {
                self.described().set_scheduler(Some(scheduler.into().into()));
                self
            }

            /// Whose disk requests are served first, of the program's process group. Default: as the caller, or as the
            /// container's program.
            pub fn io_priority(mut self, priority: IoPriority) -> Self {
                self.described().set_io_priority(Some(priority.into()));
                self
            }

            /// The processors that a further program of the container runs on, as lists such as `0-3,7`: `initial` until it is in the
            /// container's control group, `after` from then on. An empty list leaves it to the kernel. Default: that.
            pub fn exec_cpu_affinity(mut self, initial: impl Into<String>, after: impl Into<String>) -> Self {
                let list = |text: String| Some(text).filter(|text| !text.is_empty());
                let mut affinity = oci::ExecCPUAffinity::default();
                affinity.set_initial(list(initial.into())).set_cpu_affinity_final(list(after.into()));
                self.described().set_exec_cpu_affinity(Some(affinity));
                self
            }

            /// The AppArmor profile that confines the program. It must be loaded; without AppArmor on the machine it is
            /// [`Unsupported`](crate::ErrorKind::Unsupported). Default: what the machine does with the program by itself.
            pub fn apparmor_profile(mut self, name: impl Into<String>) -> Self {
                self.described().set_apparmor_profile(Some(name.into()));
                self
            }

            /// The SELinux context that the program runs in. Without SELinux on the machine it is
            /// [`Unsupported`](crate::ErrorKind::Unsupported). Default: what the machine does with the program by itself.
            pub fn selinux_label(mut self, label: impl Into<String>) -> Self {
                self.described().set_selinux_label(Some(label.into()));
                self
            }
        }
    };
}

settings!(Container, "as the profile has it (`SECURITY.md`).");
settings!(Exec<'_>, "the container's.");

impl Container {
    /// Supplementary groups, beside those that the user has in the container's `/etc/group`. Default: only those.
    pub fn additional_gids(mut self, groups: impl IntoIterator<Item = u32>) -> Self {
        self.described().user_mut().set_additional_gids(Some(groups.into_iter().collect()));
        self
    }

    /// From which NUMA nodes memory comes. Default: as for the caller.
    pub fn memory_policy(mut self, policy: impl Into<MemoryPolicy>) -> Self {
        self.spec.linux().set_memory_policy(Some(policy.into().into()));
        self
    }

    /// The kind of machine that the programs believe to be on. Default: as the caller.
    pub fn personality(mut self, personality: Personality) -> Self {
        self.spec.linux().set_personality(Some(personality.into()));
        self
    }

    /// Sets `HOME`, unless it is set, to what the `/etc/passwd` of the root directory says of the program's user, or to `/`, as other
    /// runtimes do with every bundle. Default: only a user who is given by name, or an image's, has one.
    pub fn home_from_passwd(mut self) -> Self {
        self.spec.finds_home = true;
        self
    }

    /// Leaves the programs in the caller's session keyring, where they find its keys. Default: each has a new one of its own.
    ///
    /// A keyring counts as one key of the user; beyond `kernel.keys.maxkeys` of them, containers cannot be started.
    pub fn no_new_keyring(mut self) -> Self {
        self.spec.callers_keyring = true;
        self
    }
}
