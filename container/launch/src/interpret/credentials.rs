//! Steps that set what the program may do: limits, priorities, ids, capabilities, filters.

use core::ffi::CStr;

use super::Machine;
use super::flags::{
    PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, PR_CAP_AMBIENT_RAISE, PR_CAPBSET_DROP, PR_SET_KEEPCAPS,
    PR_SET_NO_NEW_PRIVS, SECCOMP_FILTER_FLAG_NEW_LISTENER,
};
use crate::step::{Step, Wire};
use crate::sys::{Call, Errno, FilterProgram, Kernel};
use crate::wire::Report;

type Done = Result<(), Errno>;

/// `CAP_CHECKPOINT_RESTORE` (Linux 5.9): every supported kernel knows the capabilities up to this one.
const LAST_OF_OLDEST: usize = 40;

impl<K: Kernel> Machine<'_, K> {
    /// Performs `step` if it is one of this family.
    pub(super) fn credential(&mut self, step: &Step<Wire<'_>>) -> Option<Done> {
        Some(match step {
            Step::Umask { mask } => {
                let mask = if *mask == Step::<Wire<'_>>::CALLERS_UMASK { self.callers_umask } else { *mask };
                self.file_mask(mask)
            }
            Step::ResourceLimit { resource, soft, hard } => {
                self.call(Call::setrlimit(*resource, &[*soft, *hard])).map(|_| ())
            }
            Step::Scheduler { attr } => self.scheduler(attr),
            Step::Nice { value } => self.call(Call::nice(*value)).map(|_| ()),
            Step::IoPriority { value } => self.call(Call::ioprio_set(*value)).map(|_| ()),
            Step::Affinity { mask } => self.call(Call::sched_setaffinity(mask)).map(|_| ()),
            Step::MemoryPolicy { mode, nodes } => self.call(Call::set_mempolicy(*mode, nodes)).map(|_| ()),
            Step::Personality { value } => self.call(Call::personality(*value)).map(|_| ()),
            Step::Keyring { name } => self.keyring(name),
            Step::Groups { list } => self.call(Call::setgroups(list)).map(|_| ()),
            Step::Ids { user, group } => self.ids(*user, *group),
            Step::Bounding { keep } => self.bounding(*keep),
            Step::Capabilities { effective, permitted, inheritable, ambient } => {
                self.capabilities([*effective, *permitted, *inheritable], *ambient)
            }
            Step::NoNewPrivileges {} => self.call(Call::prctl(PR_SET_NO_NEW_PRIVS, 1, 0)).map(|_| ()),
            Step::Seccomp { flags, filter } => self.seccomp(*flags, filter),
            other => return self.last_things(other),
        })
    }

    fn scheduler(&mut self, attr: &[u8]) -> Done {
        let attr: &[u8; 56] = attr.try_into().map_err(|_| Errno::EINVAL)?;
        // The structure says its own size; the kernel would read beyond ours if it said more.
        if attr.first_chunk() != Some(&56u32.to_ne_bytes()) {
            return Err(Errno::EINVAL);
        }
        self.call(Call::sched_setattr(attr)).map(|_| ())
    }

    /// A kernel without keys has none to hide.
    fn keyring(&mut self, name: &CStr) -> Done {
        let name = (!name.is_empty()).then_some(name);
        match self.call(Call::join_session_keyring(name)) {
            Ok(_) | Err(Errno::ENOSYS) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    fn ids(&mut self, user: u32, group: u32) -> Done {
        self.call(Call::setresgid(group, group, group))?;
        if user != 0 {
            self.call(Call::prctl(PR_SET_KEEPCAPS, 1, 0))?;
        }
        self.call(Call::setresuid(user, user, user)).map(|_| ())
    }

    fn bounding(&mut self, keep: u64) -> Done {
        for capability in (0..64usize).filter(|capability| keep >> capability & 1 == 0) {
            match self.call(Call::prctl(PR_CAPBSET_DROP, capability, 0)) {
                Ok(_) => {}
                // Beyond the last capability that this kernel knows.
                Err(Errno::EINVAL) if capability > LAST_OF_OLDEST => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn capabilities(&mut self, sets: [u64; 3], ambient: u64) -> Done {
        const VERSION_3: u32 = 0x2008_0522;
        let [effective, permitted, inheritable] = sets;
        let low = [effective as u32, permitted as u32, inheritable as u32];
        let high = [(effective >> 32) as u32, (permitted >> 32) as u32, (inheritable >> 32) as u32];
        let data = [low[0], low[1], low[2], high[0], high[1], high[2]];
        self.call(Call::capset(&[VERSION_3, 0], &data))?;
        // What is not both permitted and inheritable is ambient no more either (cap_capset in security/commoncap.c).
        if permitted & inheritable != ambient {
            self.call(Call::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0))?;
        }
        for capability in (0..64usize).filter(|capability| ambient >> capability & 1 == 1) {
            self.call(Call::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability))?;
        }
        Ok(())
    }

    fn seccomp(&mut self, flags: u32, filter: &[u8]) -> Done {
        let program = FilterProgram::new(filter).ok_or(Errno::EINVAL)?;
        let answer = self.call(Call::seccomp(flags, &program))?;
        if flags & SECCOMP_FILTER_FLAG_NEW_LISTENER != 0 {
            self.hand_over(Report::DESCRIPTOR, 0, answer as i32)?;
        }
        Ok(())
    }
}
