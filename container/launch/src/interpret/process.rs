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
    ///
    /// Since Linux 6.14 `CLONE_INTO_CGROUP` compares how often this process's cgroup and the new one were killed by `cgroup.kill`, and
    /// kills the child before it runs if that differs (`kill_seq` in kernel/cgroup/cgroup.c). So the child says that it lives; of one that
    /// does not the host is told, and another one is cloned here and moves.
    pub(super) fn fork(&mut self, flags: u64, slot: Slot) -> Result<(), Stop> {
        if slot == Slot::NONE {
            return self.split(flags, None)?.map_or(Ok(()), |child| self.leave_to(child));
        }
        const AF_UNIX: i32 = 1;
        const SOCK_SEQPACKET: i32 = 5;
        let cgroup = self.slot(slot).map_err(|errno| self.failed(errno))?;
        let mut ends = [-1; 2];
        let line = self.call(Call::socketpair(AF_UNIX, SOCK_SEQPACKET | O_CLOEXEC, &mut ends));
        line.map_err(|errno| self.failed(errno))?;
        let [here, there] = ends;
        let Some(child) = self.split(flags, Some(cgroup))? else {
            let _said = self.call(Call::write(there, b"1"));
            return self.settle([here, there], slot).map_err(|errno| self.failed(errno));
        };
        let _closed = self.call(Call::close(there));
        // Nothing comes, and the line is closed, if the child has ended without a word.
        if self.call(Call::read(here, &mut [0])) != Ok(0) {
            return self.leave_to(child);
        }
        self.hand_over(Report::STILLBORN, child.0, child.1).map_err(|_| Stop::HostGone)?;
        match self.split(flags, None)? {
            Some(child) => self.leave_to(child),
            None => {
                let joined = self.write_file(cgroup, c"cgroup.procs", b"0");
                joined.and_then(|()| self.settle([here, -1], slot)).map_err(|errno| self.failed(errno))
            }
        }
    }

    /// The child closes what it was born with. The directory of its cgroup leads up to the whole host, and the execution of a program
    /// looks for its file while everything is open: a path, or the first line of a script, may go through /proc/self/fd (CVE-2024-21626).
    fn settle(&mut self, line: [i32; 2], directory: Slot) -> Done {
        for end in line.into_iter().filter(|end| *end >= 0) {
            self.call(Call::close(end))?;
        }
        self.give_up(directory)
    }

    /// Clones this process; gives the pid and the pidfd of the child, to which it gives nothing.
    fn split(&mut self, flags: u64, cgroup: Option<i32>) -> Result<Option<(i32, i32)>, Stop> {
        let into = if cgroup.is_some() { CLONE_INTO_CGROUP } else { 0 };
        let mut pidfd = -1;
        let mut clone = CloneArgs::copy(flags | CLONE_PARENT | CLONE_PIDFD | into, cgroup.unwrap_or(0), &mut pidfd);
        let answer = match self.kernel.perform(Call::clone3(&mut clone)) {
            Err(Errno::ENOSYS | Errno::EPERM) if cgroup.is_none() => self.kernel.perform(Call::clone(&mut clone)),
            answer => answer,
        };
        match answer.map_err(|errno| self.failed(errno))? {
            0 => Ok(None),
            pid => Ok(Some((pid as i32, pidfd))),
        }
    }

    /// Tells the host of the child that goes on, and ends.
    fn leave_to(&mut self, (pid, pidfd): (i32, i32)) -> Result<(), Stop> {
        if self.hand_over(Report::FORKED, pid, pidfd).is_err() {
            // Nobody would know of it.
            const SIGKILL: i32 = 9;
            let _killed = self.call(Call::pidfd_send_signal(pidfd, SIGKILL));
            return Err(Stop::HostGone);
        }
        Err(Stop::Forked)
    }
}
