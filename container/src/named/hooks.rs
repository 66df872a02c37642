//! The hooks of a named container: which there are, what they are told, and where they run.
//!
//! They are read from the configuration that was written down when the container was created. Leaves out running a program and
//! waiting for it. Oldest kernel: 5.10.

use std::fs;
use std::path::{Path, PathBuf};

use keelbox_runtime_spec::{Config, State, Status};
use oci_spec::runtime as oci;

use super::record::Record;
use super::root::Place;
use crate::error::{Error, ErrorKind, Result};
use crate::exec::Exec;
use crate::handover::Agent;
use crate::hooks::{HookPoint, Outside, arguments, attend, document, outside};
use crate::host::Host;

/// What a container's configuration says beyond its program, and the state as others are told it.
#[derive(Debug)]
pub(crate) struct Scene {
    spec: oci::Spec,
    state: State,
}

impl Scene {
    /// The scene of the container in `place`; nothing if its record says that there is nothing to it.
    pub(crate) fn of(place: &Place, record: &Record) -> Result<Option<Self>> {
        if !record.special {
            return Ok(None);
        }
        let spec = config(place)?.into_spec();
        let bundle = record.bundle.clone().unwrap_or_else(|| place.path());
        let mut state = State::new(place.id().clone(), Status::Creating, bundle);
        state.annotations = spec.annotations().clone().unwrap_or_default().into_iter().collect();
        Ok(Some(Self { spec, state }))
    }

    /// Whether the container has a program.
    pub(crate) fn has_program(&self) -> bool {
        self.spec.process().is_some()
    }

    /// The program that decides about system calls, if there is one.
    pub(crate) fn agent(&self, status: Status, pid: u32) -> Option<Agent> {
        let seccomp = self.spec.linux().as_ref()?.seccomp().as_ref()?;
        let path = seccomp.listener_path().clone().filter(|path| !path.as_os_str().is_empty())?;
        Some(Agent { path, metadata: seccomp.listener_metadata().clone(), state: self.state(status, Some(pid)) })
    }

    /// Runs the hooks of a point in the namespaces of this program, until one fails.
    pub(crate) fn outside(&self, point: HookPoint, status: Status, pid: u32) -> Result<()> {
        self.each(point, self.state(status, Some(pid)), |hook, json| self.attended(hook, json))
    }

    /// Runs the hooks of a point in the container, each by a further program that `enter` makes of its arguments.
    pub(crate) fn inside<'e>(
        &self,
        point: HookPoint,
        (status, pid): (Status, u32),
        user: &oci::Process,
        enter: impl Fn(Vec<String>) -> Exec<'e>,
    ) -> Result<()> {
        let state = self.state(status, innermost(pid).or(Some(pid)));
        self.each(point, state, |hook, json| {
            let mut process = user.clone();
            process.set_args(Some(arguments(hook))).set_env(Some(hook.env().clone().unwrap_or_default()));
            process.set_terminal(None).set_console_size(None);
            let exec = enter(arguments(hook)).program(hook.path().clone(), process);
            let exec = exec.stdin(document(json)?).stdout(crate::Stdio::null()).stderr(crate::Stdio::piped());
            attend(exec.spawn()?, hook.timeout())
        })
    }

    /// Runs all hooks that come after the end; what went wrong is given back.
    pub(crate) fn afterwards(&self) -> Vec<Error> {
        let point = HookPoint::Poststop;
        let hooks = self.hooks(point);
        let state = self.state(Status::Stopped, None);
        let run = |(index, hook): (usize, &oci::Hook)| {
            let done = json(&state).and_then(|json| self.attended(hook, &json));
            done.err().map(|error| told(error, point, (index, hooks.len()), hook))
        };
        hooks.iter().enumerate().filter_map(run).collect()
    }

    fn attended(&self, hook: &oci::Hook, json: &str) -> Result<()> {
        let host = Host::current()?;
        // A bundle may be gone before its container is.
        let bundle: &Path = &self.state.bundle;
        let directory = if bundle.is_dir() { bundle } else { Path::new("/") };
        attend(outside(hook, &Outside { host: &host, directory }, json)?, hook.timeout())
    }

    fn each(&self, point: HookPoint, state: State, run: impl Fn(&oci::Hook, &str) -> Result<()>) -> Result<()> {
        let hooks = self.hooks(point);
        for (index, hook) in hooks.iter().enumerate() {
            let done = json(&state).and_then(|json| run(hook, &json));
            done.map_err(|error| told(error, point, (index, hooks.len()), hook))?;
        }
        Ok(())
    }

    fn hooks(&self, point: HookPoint) -> &[oci::Hook] {
        self.spec.hooks().as_ref().map_or(&[], |hooks| point.of(hooks))
    }

    fn state(&self, status: Status, pid: Option<u32>) -> State {
        let mut state = self.state.clone();
        (state.status, state.pid) = (status, pid.and_then(|pid| i32::try_from(pid).ok()));
        state
    }
}

/// Whether more than its record has to be known of a container.
pub(crate) fn is_special(spec: &oci::Spec, agent: bool) -> bool {
    agent || spec.process().is_none() || spec.hooks().as_ref().is_some_and(|hooks| !crate::hooks::is_empty(hooks))
}

/// The configuration of the container in `place`, as it was when that was created.
pub(crate) fn config(place: &Place) -> Result<Config> {
    Config::read(place.file("config.json")).map_err(|error| {
        let attempt = format!("cannot read the configuration of container {}", place.id());
        Error::from_part(ErrorKind::State, attempt, error)
    })
}

fn json(state: &State) -> Result<String> {
    state.to_json().map_err(|error| Error::from_part(ErrorKind::Invalid, "cannot write down the state for it", error))
}

/// Which hook it was.
fn told(error: Error, point: HookPoint, (index, count): (usize, usize), hook: &oci::Hook) -> Error {
    let attempt = format!("cannot run {point} hook {} of {count}, {}", index + 1, hook.path().display());
    Error::from_part(ErrorKind::Hook, attempt, error)
}

/// The number that a process has in its own pid namespace (`NSpid` in proc_pid_status(5)).
fn innermost(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    numbers.split_ascii_whitespace().next_back()?.parse().ok()
}

/// A place in the old root for the root of a container, for as long as both are there: a hook that comes into the container's
/// namespaces then finds its own files where they are, and the container's below this.
#[derive(Debug)]
pub(crate) struct Outlook {
    pub(crate) root: PathBuf,
    memory: PathBuf,
}

impl Outlook {
    /// The directory that the root is made of, or else one beside the state.
    pub(crate) fn of(place: &Place, root: Option<&Path>) -> Result<Self> {
        let cannot = |error| Error::os(format!("cannot make a place for the root of container {}", place.id()), error);
        let own = root.map(fs::canonicalize).transpose().map_err(cannot)?;
        let (memory, beside) = (place.path().join("memory"), place.path().join("rootfs"));
        let root = own.filter(|own| own.as_path() != Path::new("/")).unwrap_or(beside);
        for directory in [&memory, &root] {
            fs::create_dir_all(directory).map_err(cannot)?;
        }
        Ok(Self { root, memory })
    }

    /// Has the root attached there, and what is built in memory too.
    pub(crate) fn take(&self, steps: &mut Vec<keelbox_launch::OwnedStep>) {
        use keelbox_launch::{Step, text};
        for step in steps.iter_mut() {
            if let Step::AttachOutside { target, .. } = step {
                *target = text(&self.memory);
            }
        }
        let pivot = steps.iter_mut().enumerate().find_map(|(at, step)| match step {
            Step::PivotRoot { tree, detached } => {
                *detached = 0;
                Some((at, *tree))
            }
            _ => None,
        });
        if let Some((at, tree)) = pivot {
            steps.insert(at, Step::AttachOutside { tree, target: text(&self.root) });
        }
    }
}

#[cfg(test)]
mod tests {
    use keelbox_launch::{Slot, Step, text};

    use super::*;

    #[test]
    fn the_root_gets_a_place_instead_of_covering_the_old_one() {
        let outlook = Outlook { root: "/srv/root".into(), memory: "/run/x/memory".into() };
        let (memory, root) = (Slot(1), Slot(2));
        let mut steps = vec![
            Step::AttachOutside { tree: memory, target: text("/proc") },
            Step::Umask { mask: 0 },
            Step::PivotRoot { tree: root, detached: 1 },
            Step::LeaveOldRoot {},
        ];
        outlook.take(&mut steps);
        let expected = [
            Step::AttachOutside { tree: memory, target: text("/run/x/memory") },
            Step::Umask { mask: 0 },
            Step::AttachOutside { tree: root, target: text("/srv/root") },
            Step::PivotRoot { tree: root, detached: 0 },
            Step::LeaveOldRoot {},
        ];
        assert_eq!(steps, expected);
    }

    #[test]
    fn the_own_number_of_a_process() {
        assert_eq!(innermost(std::process::id()), Some(std::process::id()));
        assert_eq!(innermost(u32::MAX), None);
    }
}
