//! Steps about the process itself and its namespaces.

use core::ffi::CStr;

use super::flags::{
    CLONE_INTO_CGROUP, CLONE_PARENT, CLONE_PIDFD, O_CLOEXEC, O_NOFOLLOW, O_WRONLY, PR_SET_DUMPABLE, RESOLVE_BENEATH,
    RESOLVE_NO_MAGICLINKS, RESOLVE_NO_XDEV,
};
use super::{Machine, Stop};
use crate::step::{MapFile, Slot, Step, Wire};
use crate::sys::clone::CloneArgs;
use crate::sys::{Call, Errno, Kernel, OpenHow};
use crate::wire::Report;

type Done = Result<(), Errno>;

impl<K: Kernel> Machine<'_, K> {
    /// Performs `step` if it is one of this family.
    pub(super) fn process(&mut self, step: &Step<Wire<'_>>) -> Option<Done> {
        Some(match step {
            Step::Conceal {} => self.call(Call::prctl(PR_SET_DUMPABLE, 0, 0)).map(|_| ()),
            Step::Session {} => self.call(Call::setsid()).map(|_| ()),
            Step::Join { namespace, kinds } => self.join(*namespace, *kinds),
            Step::Unshare { kinds } => self.unshare(*kinds),
            Step::Map { file, text } => self.map(*file, text),
            Step::TimeOffsets { text } => {
                self.write_file(super::AT_FDCWD, c"/proc/self/timens_offsets", text.to_bytes())
            }
            Step::Hostname { name } => self.call(Call::sethostname(name)).map(|_| ()),
            Step::Domainname { name } => self.call(Call::setdomainname(name)).map(|_| ()),
            Step::Loopback {} => self.loopback(),
            Step::Write { directory, path, data } => self.write(*directory, path, data),
            Step::WriteTo { file, data } => self.write_to(*file, data),
            Step::Tell { what } => {
                self.report(Report::TOLD, *what as i32);
                Ok(())
            }
            _ => return None,
        })
    }

    fn join(&mut self, namespace: Slot, kinds: u32) -> Done {
        let namespace = self.slot(namespace)?;
        self.call(Call::setns(namespace, kinds))?;
        self.forget_root();
        Ok(())
    }

    fn unshare(&mut self, kinds: u32) -> Done {
        self.call(Call::unshare(kinds))?;
        self.forget_root();
        Ok(())
    }

    /// What `/` was before another mount namespace is not what it is now.
    fn forget_root(&mut self) {
        self.forget_directory();
        let root = core::mem::replace(&mut self.own_root, -1);
        self.done(root);
    }

    fn map(&mut self, file: MapFile, text: &CStr) -> Done {
        let path = match file {
            MapFile::Groups => c"/proc/self/setgroups",
            MapFile::Users => c"/proc/self/uid_map",
            MapFile::GroupIds => c"/proc/self/gid_map",
        };
        self.write_file(super::AT_FDCWD, path, text.to_bytes())
    }

    /// A kernel without network (or a namespace shared with the host) needs no loopback of ours; every other failure counts.
    fn loopback(&mut self) -> Done {
        const SIOCSIFFLAGS: u32 = 0x8914;
        const IFF_UP_RUNNING: u64 = 0x41;
        let socket = self.open(Call::socket(2, 2 | O_CLOEXEC, 0))?;
        // `ifreq`: 16 bytes of name, then the flags.
        let mut request = [0u64; 8];
        request[0] = u64::from_ne_bytes(*b"lo\0\0\0\0\0\0");
        request[2] = IFF_UP_RUNNING;
        let answer = self.call(Call::ioctl_buffer(socket, SIOCSIFFLAGS, &mut request));
        self.done(socket);
        answer.map(|_| ())
    }

    fn write(&mut self, directory: Slot, path: &CStr, data: &[u8]) -> Done {
        if directory == Slot::NONE {
            return self.write_file(super::AT_FDCWD, path, data);
        }
        let flags = (O_WRONLY | O_CLOEXEC | O_NOFOLLOW) as u64;
        let how = OpenHow { flags, mode: 0, resolve: RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV };
        let directory = self.slot(directory)?;
        let file = match self.open(Call::openat2(directory, path, &how)) {
            Err(Errno::ENOSYS | Errno::EPERM | Errno::EAGAIN) => {
                super::resolve::walk(&mut self.kernel, directory, path, O_WRONLY | O_NOFOLLOW, 0)?
            }
            opened => opened?,
        };
        let written = self.call(Call::write(file, data));
        self.done(file);
        if written? == data.len() { Ok(()) } else { Err(Errno::EIO) }
    }

    fn write_to(&mut self, file: Slot, data: &[u8]) -> Done {
        let file = self.slot(file)?;
        if self.call(Call::write(file, data))? == data.len() { Ok(()) } else { Err(Errno::EIO) }
    }

    /// Clones the process that goes on. It is a child of the host; this one tells the host of it and ends.
    pub(super) fn fork(&mut self, flags: u64, slot: Slot) -> Result<(), Stop> {
        let cgroup = if slot == Slot::NONE { Ok(None) } else { self.slot(slot).map(Some) };
        let cgroup = cgroup.map_err(|errno| self.failed(errno))?;
        let into = if cgroup.is_some() { CLONE_INTO_CGROUP } else { 0 };
        let mut pidfd = -1;
        let mut clone = CloneArgs::copy(flags | CLONE_PARENT | CLONE_PIDFD | into, cgroup.unwrap_or(0), &mut pidfd);
        let answer = match self.kernel.perform(Call::clone3(&mut clone)) {
            Err(Errno::ENOSYS | Errno::EPERM) if cgroup.is_none() => self.kernel.perform(Call::clone(&mut clone)),
            answer => answer,
        };
        match answer.map_err(|errno| self.failed(errno))? {
            // The directory that it was born into leads up to the whole host, and the execution of a program looks for its file
            // while everything is open: a path, or the first line of a script, may go through /proc/self/fd (CVE-2024-21626).
            0 => cgroup.map_or(Ok(()), |_| self.give_up(slot)).map_err(|errno| self.failed(errno)),
            pid => {
                if self.hand_over(Report::FORKED, pid as i32, pidfd).is_err() {
                    // Nobody would know of it.
                    const SIGKILL: i32 = 9;
                    let _killed = self.call(Call::pidfd_send_signal(pidfd, SIGKILL));
                    return Err(Stop::HostGone);
                }
                Err(Stop::Forked)
            }
        }
    }
}
