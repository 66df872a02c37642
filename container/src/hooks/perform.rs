//! Runs one hook: gives it its input, listens to its complaints, and sees to it that it ends.
//!
//! What a hook leaves running is left alone, whatever streams that holds, unless the hook has to be killed: then its session goes
//! with it. Oldest kernel: 5.10.

use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use keelbox_launch::{OwnedStep, Slot, Step, list, text};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use oci_spec::runtime as oci;

use crate::error::{Error, ErrorKind, Result};
use crate::exec::Inside;
use crate::host::Host;
use crate::plan::{Common, Plan, Streams, namespaces_refused};
use crate::poll;
use crate::process::Process;
use crate::start::{Sockets, Start, start};
use crate::stdio::Stdio;
use crate::talk::Decider;

/// The most that is kept of what a hook complains about, in bytes.
const MOST: usize = 64 * 1024;
/// How many times its complaints are read after its end: others may go on writing.
const AFTERMATH: u32 = 16;
/// The most of a complaint that is told.
const LINE: usize = 500;

/// The steps of a hook that stays in the namespaces of this program.
#[derive(Debug)]
pub(crate) struct Outside<'a> {
    pub(crate) host: &'a Host,
    /// Where it starts.
    pub(crate) directory: &'a Path,
}

/// The arguments of a hook: at least its own name.
pub(crate) fn arguments(hook: &oci::Hook) -> Vec<String> {
    let given = hook.args().clone().filter(|args| !args.is_empty());
    given.unwrap_or_else(|| vec![hook.path().display().to_string()])
}

/// What a hook reads, as a file that it can read at any pace.
pub(crate) fn document(json: &str) -> Result<Stdio> {
    let file = keelbox_launch::sealed_file(c"keelbox-state", json.as_bytes());
    file.map(Stdio::from).map_err(|error| Error::os("cannot make a file in memory", error))
}

/// Starts a hook in the namespaces of this program.
pub(crate) fn outside(hook: &oci::Hook, outside: &Outside<'_>, json: &str) -> Result<Process> {
    let stdio = [document(json)?, Stdio::null(), Stdio::piped()];
    let streams = Streams::of(&stdio, 0);
    let environment = hook.env().as_deref().unwrap_or_default();
    let mut steps: Vec<OwnedStep> = vec![
        // Its own, so that what it starts can be ended with it.
        Step::Session {},
        Step::Umask { mask: 0o022 },
        Step::WorkingDirectory { path: text(outside.directory), create: 0 },
        Step::Dies { signal: 9 },
    ];
    steps.extend(streams.numbered().into_iter().map(|(slot, number)| Step::Descriptor { slot, number }));
    steps.push(Step::Signals {});
    let paths = list([hook.path()]);
    steps.push(Step::Exec { paths, arguments: list(arguments(hook)), environment: list(environment) });
    let namespaces = keelbox_namespaces::Selection::new(&outside.host.caller).plan(Slot(streams.count() as u16));
    let namespaces = namespaces.map_err(namespaces_refused)?;
    let plan = Plan::of_steps(namespaces, steps);
    let kinds = keelbox_namespaces::NamespaceSet::NONE;
    start(Start {
        plan: &plan,
        stdio,
        descriptors: &[],
        trees: &[],
        group: None,
        time_limit: None,
        decider: Decider::Nobody,
        sockets: Sockets::default(),
        detached: false,
        inside: Inside {
            kinds,
            process: oci::Process::default(),
            common: Common::default(),
            filter: None,
            host: outside.host.clone(),
            _image: None,
        },
    })
}

/// Waits for the end of a hook, which is to be a good one.
pub(crate) fn attend(mut process: Process, timeout: Option<i64>) -> Result<()> {
    let limit = timeout.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    let until = limit.and_then(|limit| process.life.begun.checked_add(limit));
    let (ended, said) = listen(&mut process, until).map_err(|error| Error::os("cannot wait for it", error))?;
    if !ended {
        // The number is its own until it is reaped, and so is that of its session.
        let _killed = killpg(Pid::from_raw(process.id().cast_signed()), Signal::SIGKILL);
        process.kill()?;
    }
    let status = process.wait()?;
    let why = match (ended, limit) {
        (true, _) if status.success() => return Ok(()),
        (false, Some(limit)) => format!("it ran longer than {} s", limit.as_secs()),
        _ => format!("it ended badly ({status})"),
    };
    Err(Error::new(ErrorKind::Hook, first_line(&said).map_or_else(|| why.clone(), |line| format!("{why}: {line}"))))
}

/// Reads what the hook complains about until it ends, or until its time is over.
fn listen(process: &mut Process, until: Option<Instant>) -> io::Result<(bool, Vec<u8>)> {
    let mut pipe = process.stderr.take();
    let (mut said, mut rounds) = (Vec::new(), 0);
    loop {
        let descriptors: Vec<BorrowedFd<'_>> =
            std::iter::once(process.as_fd()).chain(pipe.as_ref().map(AsFd::as_fd)).collect();
        let ready = poll::any_readable(&descriptors, until)?;
        let (ended, more) = (ready.first() == Some(&true), ready.get(1) == Some(&true));
        if more {
            read(&mut pipe, &mut said)?;
        }
        rounds += u32::from(ended);
        if ended && (!more || rounds > AFTERMATH) {
            return Ok((true, said));
        }
        if !ended && until.is_some_and(|until| Instant::now() >= until) {
            return Ok((false, said));
        }
    }
}

/// Reads what is there; forgets the pipe at its end.
fn read(pipe: &mut Option<PipeReader>, said: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = [0u8; 4096];
    let Some(reader) = pipe else { return Ok(()) };
    match reader.read(&mut buffer)? {
        0 => *pipe = None,
        length => said.extend(buffer.iter().take(length.min(MOST - said.len().min(MOST)))),
    }
    Ok(())
}

fn first_line(said: &[u8]) -> Option<String> {
    let line = said.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).find(|line| !line.is_empty())?;
    Some(String::from_utf8_lossy(line.get(..LINE).unwrap_or(line)).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str, timeout: Option<i64>) -> Result<()> {
        let mut hook = oci::Hook::default();
        let args = ["sh", "-c", script].map(str::to_owned).to_vec();
        hook.set_path("/bin/sh".into()).set_args(Some(args)).set_env(Some(vec!["PATH=/usr/bin:/bin".into()]));
        let host = Host::current()?;
        attend(outside(&hook, &Outside { host: &host, directory: Path::new("/") }, "{\"a\": 1}")?, timeout)
    }

    #[test]
    fn its_input_and_its_environment_are_exact() {
        run(r#"test "$(cat)" = '{"a": 1}'"#, None).unwrap();
        run(r#"test "$(tr '\0' '\n' < /proc/$$/environ)" = PATH=/usr/bin:/bin && test "$PWD" = /"#, None).unwrap();
        // Neither what is not read nor what is not closed holds it up.
        run("exec sleep 0.05", Some(60)).unwrap();
    }

    #[test]
    fn a_failure_is_told_with_the_first_line() {
        let refused = run("echo; echo what is wrong >&2; echo more >&2; exit 3", None).unwrap_err();
        assert_eq!(
            (refused.kind(), refused.to_string().as_str()),
            (ErrorKind::Hook, "it ended badly (exit code 3): what is wrong")
        );
        let killed = run("kill -9 $$", None).unwrap_err();
        assert_eq!(killed.to_string(), "it ended badly (killed by SIGKILL)");
        let long = run("head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 1", None).unwrap_err();
        assert_eq!(long.to_string().len(), "it ended badly (exit code 1): ".len() + LINE);
    }

    #[test]
    fn what_it_leaves_running_does_not_hold_it_up() {
        let begun = Instant::now();
        run("sleep 20 & exit 0", Some(30)).unwrap();
        run("sleep 20 & echo bad >&2; exit 1", None).unwrap_err();
        run("yes >&2 & exit 0", Some(30)).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(15));
    }

    #[test]
    fn its_time_is_limited_whatever_it_started() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pid");
        let begun = Instant::now();
        let script = format!("sleep 600 & echo $! > {}; yes >&2", file.display());
        let late = run(&script, Some(1)).unwrap_err();
        assert!(late.to_string().starts_with("it ran longer than 1 s: y"), "{late}");
        assert!(begun.elapsed() < Duration::from_secs(30));
        let child = std::fs::read_to_string(file).unwrap();
        let gone = || {
            !std::path::Path::new(&format!("/proc/{}", child.trim())).exists()
                || std::fs::read_to_string(format!("/proc/{}/stat", child.trim()))
                    .is_ok_and(|stat| stat.contains(") Z "))
        };
        let patience = Instant::now() + Duration::from_secs(5);
        while !gone() && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(gone(), "{child}");
    }

    #[test]
    fn a_file_that_is_not_there_is_told() {
        let mut hook = oci::Hook::default();
        hook.set_path("/absent/hook".into());
        let host = Host::current().unwrap();
        let refused = outside(&hook, &Outside { host: &host, directory: Path::new("/") }, "{}").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ProgramNotFound);
    }
}
