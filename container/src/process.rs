//! A running container: waiting, signals, streams, and the end.

use std::borrow::Cow;
use std::io::{PipeReader, PipeWriter};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use keelbox_cgroups::{Limits, Stats, Watch};
use keelbox_launch::sys::{self, Exit};
use keelbox_network::{Attachment, Publish};
use oci_spec::runtime as oci;

use crate::changes::Kept;
use crate::control_group::{ControlGroup, cannot};
use crate::error::{Error, ErrorKind, Result};
use crate::exec::{Exec, Held, Inside, Site};
use crate::exit::{ExitStatus, Reason, Usage};
use crate::feeder::Feeder;
use crate::further::{self, Further};
use crate::signal::Signal;
use crate::signaller::Signaller;
use crate::terminal::Tty;

/// A running container, or a program that was executed in one: [`std::process::Child`] with more to say.
///
/// Dropping it kills the container, unless it was started [detached](crate::Container::detached). The container also ends when
/// the program that started it ends, however that happens.
#[derive(Debug)]
pub struct Process {
    /// The writing end of standard input, if it was piped.
    pub stdin: Option<PipeWriter>,
    /// The reading end of standard output, if it was piped.
    pub stdout: Option<PipeReader>,
    /// The reading end of standard error, if it was piped.
    pub stderr: Option<PipeReader>,
    pub(crate) life: Life,
}

/// What a process handle holds besides the streams.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) pidfd: OwnedFd,
    pub(crate) pid: u32,
    pub(crate) begun: Instant,
    pub(crate) time_limit: Option<Duration>,
    pub(crate) group: Option<ControlGroup>,
    /// A writable layer that goes with the container.
    pub(crate) layer: Option<Kept>,
    /// What connects it to its network.
    pub(crate) attachment: Option<Attachment>,
    pub(crate) terminal: Option<Tty>,
    pub(crate) inside: Inside,
    pub(crate) feeder: Option<Feeder>,
    pub(crate) detached: bool,
    pub(crate) status: Option<ExitStatus>,
    pub(crate) over_time: bool,
    pub(crate) supervisor: Option<crate::notify::Supervisor>,
    /// Set if this is a further program of a container.
    pub(crate) further: Option<Arc<Further>>,
}

impl Process {
    /// The process id as this program sees it. For showing: use [`signal`](Self::signal) and [`wait`](Self::wait), which cannot
    /// hit another process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.life.pid
    }

    /// The host's side of the terminal, if the program has one.
    #[must_use]
    pub fn terminal(&self) -> Option<Tty> {
        self.life.terminal.clone()
    }

    /// Waits for the program to end, however long that takes but no longer than its time limit. Closes standard input first.
    ///
    /// # Errors
    ///
    /// The kernel's answer; [`ErrorKind::State`] if somebody else has reaped the process and the kernel does not remember how
    /// it ended (before Linux 6.15).
    pub fn wait(&mut self) -> Result<ExitStatus> {
        drop(self.stdin.take());
        loop {
            if let Some(status) = self.wait_until(None)? {
                return Ok(status);
            }
        }
    }

    /// As [`wait`](Self::wait), but gives up after `patience`: then the program still runs.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_timeout(&mut self, patience: Duration) -> Result<Option<ExitStatus>> {
        self.wait_until(Some(Instant::now() + patience))
    }

    /// How the program ended, if it has.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        self.wait_until(Some(Instant::now()))
    }

    pub(crate) fn wait_until(&mut self, until: Option<Instant>) -> Result<Option<ExitStatus>> {
        if let Some(status) = self.life.status {
            return Ok(Some(status));
        }
        let limit = self.life.deadline();
        let first = [until, limit].into_iter().flatten().min();
        let ended = further::wait_for(self.life.pid, self.life.pidfd.as_fd(), first)
            .map_err(|error| Error::os("cannot wait for the container", error))?;
        if !ended && limit.is_some_and(|limit| limit <= Instant::now()) {
            self.life.over_time = true;
            self.life.kill()?;
            return self.life.reap().map(Some);
        }
        if ended { self.life.reap_ended().map(Some) } else { Ok(None) }
    }

    /// Kills the container: every process in it.
    ///
    /// # Errors
    ///
    /// The kernel's answer. A container that has ended already is no error.
    pub fn kill(&mut self) -> Result<()> {
        self.life.kill()
    }

    /// Sends a signal to the program.
    ///
    /// It is the first process of its pid namespace, so the kernel drops signals that it has not asked for, other than
    /// `SIGKILL` and `SIGSTOP` (pid_namespaces(7)).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::State`] if it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        if self.life.status.is_some() {
            return Err(Error::new(ErrorKind::State, format!("cannot send {signal}: the container has ended")));
        }
        crate::signaller::send(self.life.pidfd.as_fd(), signal)
    }

    /// A handle by which any thread sends signals to the program, also while another one waits for its end.
    ///
    /// # Errors
    ///
    /// The kernel's answer if there is no descriptor left for it.
    pub fn signaller(&self) -> Result<Signaller> {
        Signaller::new(self.life.pidfd.as_fd(), self.life.group.as_ref().map(ControlGroup::shared))
    }

    /// Asks the program to end (`SIGTERM`), and kills the container if it has not after `patience`.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn stop(&mut self, patience: Duration) -> Result<ExitStatus> {
        match self.signal(Signal::TERM) {
            Err(error) if error.kind() != ErrorKind::State => return Err(error),
            _ => {}
        }
        if let Some(status) = self.wait_timeout(patience)? {
            return Ok(status);
        }
        self.kill()?;
        self.wait()
    }

    /// A further program in the container, with the container's own settings until told otherwise.
    ///
    /// ```no_run
    /// # let image = keelbox::Image::open("oci:./debian:12")?;
    /// # let web = keelbox::Container::from_image(&image).spawn()?;
    /// let ls = web.exec(["ls", "-l", "/srv"]).user("www-data").output()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn exec(&self, args: impl IntoIterator<Item = impl Into<String>>) -> Exec<'_> {
        Exec::new(self.life.site(), args)
    }

    /// As [`exec`](Self::exec), for a program as the OCI runtime specification describes one (`process`). See
    /// [`Handle::exec_process`](crate::Handle::exec_process).
    pub fn exec_process(&self, process: oci::Process) -> Exec<'_> {
        Exec::oci(self.life.site(), process)
    }

    /// Stops every process of the container until [`resume`](Self::resume) (the cgroup freezer).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Limit`] if the container has no control group: give it a limit, or
    /// [`control_group`](crate::Container::control_group).
    pub fn pause(&self) -> Result<()> {
        self.group("pause the container")?.group().freeze().map_err(cannot)
    }

    /// Lets the container go on.
    ///
    /// # Errors
    ///
    /// As [`pause`](Self::pause).
    pub fn resume(&self) -> Result<()> {
        self.group("resume the container")?.group().thaw().map_err(cannot)
    }

    /// What the container uses now.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Limit`] if the container has no control group.
    pub fn stats(&self) -> Result<Stats> {
        self.group("read statistics")?.group().stats().map_err(cannot)
    }

    /// Changes limits while the container runs.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Limit`] if a limit cannot be had, or the container has no control group.
    pub fn update(&self, limits: &Limits) -> Result<()> {
        self.group("change limits")?.group().update(limits).map(|_| ()).map_err(cannot)
    }

    /// Changes limits and device rules to those of `linux.resources` of the OCI runtime specification; what is not there stays, as with
    /// [`Handle::update_resources`](crate::Handle::update_resources).
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update); [`ErrorKind::Invalid`] for values that make no sense, when nothing has been changed.
    pub fn update_resources(&self, resources: &oci::LinuxResources) -> Result<()> {
        let (limits, rules) = (crate::limits::from_oci(resources)?, crate::device_rules::from_oci(resources)?);
        let group = self.group("change limits")?.group();
        group.update(&limits).map_err(cannot)?;
        rules.map_or(Ok(()), |rules| group.devices(&rules).map_err(cannot))
    }

    /// The container's addresses in its network, those of IPv4 first; none without a network, or when it has ended.
    ///
    /// ```no_run
    /// # let image = keelbox::Image::open("oci:./debian:12")?;
    /// # use keelbox::{Container, Network};
    /// let net = Network::bridge("shop").create()?;
    /// let web = Container::from_image(&image).network(&net).publish("80").spawn()?;
    /// println!("{:?}, by port {}", web.addresses(), web.published()[0].1.port());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn addresses(&self) -> &[IpAddr] {
        self.life.attachment.as_ref().map_or(&[], Attachment::addresses)
    }

    /// The published ports, each with the address and port of this machine that it got.
    #[must_use]
    pub fn published(&self) -> &[(Publish, SocketAddr)] {
        self.life.attachment.as_ref().map_or(&[], Attachment::published)
    }

    /// The processes of the container, by their numbers as this program sees them, sorted.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Limit`] if the container has no control group.
    pub fn processes(&self) -> Result<Vec<u32>> {
        self.group("list the processes")?.group().processes().map_err(cannot)
    }

    /// Tells, from now on, when the container runs out of memory, and what else happens to its control group.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Limit`] if the container has no control group, or on cgroup v1 no limit of memory.
    pub fn watch(&self) -> Result<Watch> {
        self.group("watch the container")?.group().watch().map_err(cannot)
    }

    fn group(&self, attempt: &str) -> Result<&ControlGroup> {
        self.life.group.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::Limit, format!("cannot {attempt}: it has no control group"))
                .with_hint("set a limit, or ask for one with control_group()")
        })
    }
}

impl Life {
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.time_limit.and_then(|limit| self.begun.checked_add(limit))
    }

    /// What a further program needs to know.
    fn site(&self) -> Result<Site<'_>> {
        if self.status.is_some() {
            return Err(Error::new(ErrorKind::State, "cannot execute in the container: it has ended"));
        }
        let group = self.group.as_ref().map(|group| Held::Lent(group.group()));
        Ok(Site { pidfd: self.pidfd.as_fd(), pid: self.pid, group, inside: Cow::Borrowed(&self.inside), agent: None })
    }

    pub(crate) fn kill(&mut self) -> Result<()> {
        if self.status.is_some() {
            return Ok(());
        }
        match sys::send_signal(self.pidfd.as_fd(), Signal::KILL.number()) {
            Ok(()) | Err(keelbox_launch::Errno::ESRCH) => {}
            Err(errno) => return Err(Error::os("cannot kill the container", errno)),
        }
        match &self.group {
            Some(group) => group.group().kill().map_err(cannot),
            None => Ok(()),
        }
    }

    /// Reaps the process, which has ended or is about to, and clears away what belonged to it.
    pub(crate) fn reap(&mut self) -> Result<ExitStatus> {
        if self.further.is_none() {
            let waited = further::wait_for(self.pid, self.pidfd.as_fd(), None);
            waited.map_err(|error| Error::os("cannot wait for the container", error))?;
        }
        self.reap_ended()
    }

    /// The same, of a process that is known to have ended.
    fn reap_ended(&mut self) -> Result<ExitStatus> {
        let exit = match self.further.as_ref().map_or_else(|| sys::wait(&self.pidfd), |further| further.reap()) {
            Ok(exit) => exit,
            Err(keelbox_launch::Errno::ECHILD) => return self.reaped_elsewhere(),
            Err(errno) => return Err(Error::os("cannot wait for the container", errno)),
        };
        let status = ExitStatus::new(&exit, self.special_reason(&exit), self.usage(&exit));
        self.finish(status)
    }

    /// Another part of the host program waits for every child (`waitpid(-1)`, or `SIGCHLD` ignored).
    fn reaped_elsewhere(&mut self) -> Result<ExitStatus> {
        let raw = sys::remembered_status(self.pidfd.as_fd());
        let ended = |raw| self.finish(ExitStatus::from_raw(raw));
        raw.map_or_else(
            || {
                let attempt = "cannot tell how the container ended: this program has reaped it elsewhere";
                Err(Error::new(ErrorKind::State, attempt).with_hint("the kernel remembers it from Linux 6.15 on"))
            },
            ended,
        )
    }

    fn finish(&mut self, status: ExitStatus) -> Result<ExitStatus> {
        self.status = Some(status);
        self.feeder = None;
        self.supervisor = None;
        self.attachment = None;
        let ended = self.group.take().map_or(Ok(()), ControlGroup::end);
        self.layer = None;
        ended?;
        Ok(status)
    }

    fn special_reason(&self, exit: &Exit) -> Option<Reason> {
        if exit.signal != Some(Signal::KILL.number()) {
            return None;
        }
        if self.over_time {
            return Some(Reason::TimeLimit);
        }
        let kills = self.group.as_ref().and_then(|group| group.group().oom_kills().ok().flatten());
        kills.filter(|kills| *kills > 0).map(|_| Reason::OutOfMemory)
    }

    fn usage(&self, exit: &Exit) -> Usage {
        let (own, wall) = (exit.user_time + exit.system_time, self.begun.elapsed());
        let used = self.group.as_ref().map(|group| group.group().used()).unwrap_or_default();
        let (cpu, peak_memory) = (used.cpu.unwrap_or(own), used.peak_memory.unwrap_or(exit.peak_memory));
        Usage { cpu, peak_memory, wall }
    }
}

impl AsFd for Process {
    /// The pidfd: readable once the program has ended, for any event loop.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.life.pidfd.as_fd()
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        if self.status.is_none() && !self.detached {
            // Nobody is left to tell of an error.
            let _killed = self.kill();
            let _reaped = self.reap();
        }
    }
}
