//! Makes a container anew from images on disk: as a creation, but what runs in it is put together by another program, and runs at once.
//!
//! That program is born in the container's control group, in a cgroup namespace of that group and a mount namespace where the root is a mount; what it
//! restores becomes a child of this one. Leaves out hooks of the creation, for which there is no moment. Oldest kernel: 5.10.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use keelbox_cgroups::Group;
use keelbox_launch::{Launch, OwnedStep, Seat, Slot, Step, list, sys, text as words};
use keelbox_runtime_spec::ContainerId;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::checkpoint::{joined_network, refuse};
use super::create::{Making, streams};
use super::handle::Handle;
use super::identity::Identity;
use super::remove;
use super::root::{Place, Root};
use crate::built::Built;
use crate::checkpoint::Restore;
use crate::checkpoint::criu::{self, Criu, NETWORK, text};
use crate::checkpoint::outside::{Outside, Source};
use crate::error::{Error, ErrorKind, Result};
use crate::hooks;
use crate::plan::Streams;
use crate::spec::RootSource;
use crate::stdio::Stdio;

const MS_REC_PRIVATE: u64 = (1 << 14) | (1 << 18);
const AT_RECURSIVE: u32 = 0x8000;
const CLONE_NEWNS: u32 = 0x0002_0000;
const CLONE_NEWCGROUP: u32 = 0x0200_0000;
/// Where the program finds the network namespace.
const NETWORK_AT: u32 = 3;

/// Restores the container `id` below `root`.
pub(crate) fn restore(built: &Built, root: &Path, id: ContainerId, how: &Restore) -> Result<Handle> {
    let attempt = format!("cannot read container {id} from disk");
    let attempt = attempt.as_str();
    refuse(&built.spec.oci, attempt)?;
    let RootSource::Directory(rootfs) = &built.spec.root else {
        let why = format!("{attempt}: that needs a root file system in a directory");
        return Err(Error::new(ErrorKind::Unsupported, why));
    };
    if hooks::any(&built.spec.oci, &hooks::CREATION) {
        let why = format!("{attempt}: its hooks of the creation would have no moment to run");
        return Err(Error::new(ErrorKind::Unsupported, why));
    }
    let outside = Outside::read(&how.common.images, attempt)?;
    let criu = Criu::new("restore", "restore.log", &how.common, attempt)?;
    let stdio = streams(built, &id)?;
    let place = Place::make(Root::make(root)?, id)?;
    let _lock = place.lock(attempt)?;
    // Beside the container's processes there are those of criu until it has done.
    let mut making = Making::new(built, &place, u64::MAX);
    let restored = making.begin().and_then(|mut begun| {
        making.classify(&mut begun)?;
        let work = Work { built, rootfs, outside: &outside, attempt, place: &place, group: making.group.as_ref() };
        let (process, pid) = work.restore(criu, begun.seat, &stdio)?;
        making.release();
        let written = Identity::of(pid, process.as_fd()).and_then(|identity| making.complete_running(identity));
        if written.is_err() {
            remove::end(&process);
        }
        written.map(|()| process)
    });
    match restored {
        Ok(process) => Ok(Handle::new(place, Some(process), None)),
        Err(error) => Err(making.undo(error)),
    }
}

struct Work<'a> {
    built: &'a Built,
    rootfs: &'a Path,
    outside: &'a Outside,
    attempt: &'a str,
    place: &'a Place,
    group: Option<&'a Group>,
}

impl Work<'_> {
    fn restore(&self, mut criu: Criu, seat: Option<Seat>, stdio: &[Stdio; 3]) -> Result<(OwnedFd, u32)> {
        let attempt = self.attempt;
        let streams = crate::start::Streams::open(stdio, &[])?;
        let pid_file = self.place.path().join("criu.pid");
        let network = joined_network(&self.built.spec.oci).map(|path| {
            let opened = open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
            opened.map_err(|errno| Error::os(format!("{attempt}: cannot open {}", path.display()), errno))
        });
        let network = network.transpose()?;
        let groups = self.group.map(Group::directories).unwrap_or_default();
        let sources = self.outside.sources(&self.built.spec.oci, &groups, attempt)?;
        let places = self.places(&sources)?;
        self.tell(&mut criu, &pid_file, network.is_some())?;
        for (source, place) in sources.iter().zip(&places) {
            criu.pair("--external", &format!("mnt[{}]:{}", text(&source.point, attempt)?, text(place, attempt)?));
        }
        let mut steps = self.steps(&Streams::of(stdio, 0), network.is_some(), &sources, &places);
        steps.push(execution(&criu));
        let descriptors = streams.theirs.iter().map(AsFd::as_fd).chain(network.iter().map(AsFd::as_fd));
        let descriptors: Vec<BorrowedFd<'_>> = descriptors.collect();
        let launch = Launch::new(&steps).descriptors(descriptors).reserve(NETWORK_AT + 1);
        let launch = launch.cgroup(self.group.and_then(Group::directory)).seat(seat);
        let mut started = launch.start().map_err(|error| Error::os(attempt, error))?;
        let begun = started.control.running();
        let ended = sys::wait(&started.pidfd).map_err(|errno| Error::os(attempt, errno))?;
        begun.map_err(|failure| crate::plan::step_error(&steps, failure))?;
        let pid = fs::read_to_string(&pid_file).ok().and_then(|text| text.trim().parse::<u32>().ok());
        // What is half restored is ended by criu itself.
        if ended.code != Some(0) {
            return Err(criu.failure(attempt));
        }
        let pid = pid.ok_or_else(|| Error::new(ErrorKind::Other, format!("{attempt}: criu tells no process")))?;
        // A child of ours, so the number is its own until it is reaped.
        let process = sys::pidfd_open(pid).map_err(|errno| Error::os(attempt, errno))?;
        match self.outside.difference(pid, attempt) {
            Ok(None) => Ok((process, pid)),
            Ok(Some(mount)) => {
                remove::end(&process);
                let why = format!("{attempt}: it would not have {mount} again");
                Err(Error::new(ErrorKind::Unsupported, why))
            }
            Err(error) => {
                remove::end(&process);
                Err(error)
            }
        }
    }

    fn tell(&self, criu: &mut Criu, pid_file: &Path, network: bool) -> Result<()> {
        let attempt = self.attempt;
        criu.arguments.extend(["--restore-detached".into(), "--restore-sibling".into()]);
        criu.pair("--root", &text(self.rootfs, attempt)?);
        criu.pair("--pidfile", &text(pid_file, attempt)?);
        let mut told: Vec<&String> = Vec::new();
        for (number, name) in self.outside.streams.iter().enumerate() {
            // Two streams may be one file.
            if let Some(name) = name.as_ref().filter(|name| !told.contains(name)) {
                criu.pair("--inherit-fd", &format!("fd[{number}]:{name}"));
                told.push(name);
            }
        }
        if network {
            criu.pair("--inherit-fd", &format!("fd[{NETWORK_AT}]:{NETWORK}"));
        }
        Ok(())
    }

    /// Something to bind each source on, before it is a mount of the container.
    fn places(&self, sources: &[Source]) -> Result<Vec<PathBuf>> {
        let make = |(number, source): (usize, &Source)| {
            let place = self.place.path().join(format!("outside-{number}"));
            let directory = source.source.metadata().map(|found| found.is_dir());
            let made = directory.and_then(|directory| match directory {
                true => fs::create_dir(&place),
                false => fs::write(&place, []),
            });
            let cannot = |error| Error::os(format!("{}: cannot use {}", self.attempt, source.source.display()), error);
            made.map(|()| place).map_err(cannot)
        };
        sources.iter().enumerate().map(make).collect()
    }

    /// All but the program. criu gives only the first of the mounts of one file its attributes, so each has them before it is asked.
    fn steps(&self, streams: &Streams, network: bool, sources: &[Source], places: &[PathBuf]) -> Vec<OwnedStep> {
        let opened = streams.count() + usize::from(network);
        let mut steps: Vec<OwnedStep> = vec![
            Step::Umask { mask: 0o022 },
            // In the group by now, of which the namespace begins.
            Step::Unshare { kinds: CLONE_NEWNS | CLONE_NEWCGROUP },
            Step::Propagation { path: words("/"), flags: MS_REC_PRIVATE },
        ];
        // As for every container: the session keyring of the caller is none of its business.
        steps.extend((!self.built.spec.callers_keyring).then(|| Step::Keyring { name: words("") }));
        let root = (self.rootfs, 0, self.rootfs, AT_RECURSIVE);
        let outside = sources.iter().zip(places);
        let outside = outside.map(|(source, place)| (source.source.as_path(), source.attributes, place.as_path(), 0));
        for (number, (source, set, target, recursive)) in std::iter::once(root).chain(outside).enumerate() {
            let out = Slot((opened + number) as u16);
            steps.push(Step::Tree {
                directory: Slot::NONE,
                source: words(source),
                recursive,
                set,
                clear: 0,
                propagation: 0,
                attributes_recursive: 0,
                idmap: Slot::NONE,
                out,
            });
            steps.push(Step::AttachOutside { tree: out, target: words(target) });
        }
        steps.extend(streams.numbered().into_iter().map(|(slot, number)| Step::Descriptor { slot, number }));
        steps.extend(network.then(|| Step::Descriptor { slot: Slot(opened as u16 - 1), number: NETWORK_AT }));
        steps.push(Step::Signals {});
        // criu 3.17 does not write this down; what it restores inherits it.
        steps.extend(self.outside.gains_nothing().then_some(Step::NoNewPrivileges {}));
        steps
    }
}

fn execution(criu: &Criu) -> OwnedStep {
    let mut arguments = vec!["criu".to_owned()];
    arguments.extend(criu.arguments.iter().cloned());
    let paths = list([&criu.program]);
    Step::Exec { paths, arguments: list(arguments), environment: list(criu::environment()) }
}
