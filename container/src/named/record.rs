//! What is written down about a container: what the kernel cannot be asked for later. Pure.
//!
//! Leaves out what the kernel knows better: whether the program waits, runs, is frozen or has ended. Needs no kernel.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keelbox_launch::{Failure, Step};
use keelbox_namespaces::NamespaceSet;
use serde::{Deserialize, Serialize};

use super::identity::Identity;
use crate::error::{Error, ErrorKind, Result};
use crate::exit::{ExitStatus, Reason};
use crate::plan::{Filter, Plan};

/// The version of the format. A later version than this is refused, since it may mean what we would overlook.
const SCHEMA: u32 = 1;

/// How far the making of a container has come.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    /// What is about to be made is written down, so that it can be found and removed whatever happens.
    Creating,
    /// All is made; the rest of its life is the kernel's to tell.
    Created,
}

/// What is written down about a container.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Record {
    schema: u32,
    pub(crate) phase: Phase,
    /// Since the epoch, in nanoseconds.
    created: u64,
    started: Option<u64>,
    pub(crate) process: Option<Identity>,
    /// Directories of the control group that there are, or may come to be.
    pub(crate) group: Vec<PathBuf>,
    /// Which directories were made for the group, or may come to be; its own ones if this is not said.
    #[serde(default)]
    pub(crate) made: Option<Vec<PathBuf>>,
    /// What systemd calls the group, if it made that.
    #[serde(default)]
    pub(crate) scope: Option<Scope>,
    /// Directories of resctrl that go with the container, or may come to be, the innermost first.
    #[serde(default)]
    pub(crate) classes: Vec<PathBuf>,
    pub(crate) bundle: Option<PathBuf>,
    /// The kinds of namespaces that are not the host's, as `CLONE_NEW*` flags.
    pub(crate) kinds: u32,
    filter: Option<StoredFilter>,
    /// Whether the programs stay in the session keyring of whoever starts them.
    #[serde(default)]
    pub(crate) callers_keyring: bool,
    pub(crate) barrier: Option<Barrier>,
    end: Option<End>,
    /// Whether more than this must be known of it later: it has hooks, or an agent, or no program.
    #[serde(default)]
    pub(crate) special: bool,
    /// Whether its hooks have begun to run, so that those of its end must run as well.
    #[serde(default)]
    pub(crate) hooked: bool,
}

/// What the one who starts the program must know of the steps.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Barrier {
    pub(crate) steps: u32,
    pub(crate) slots: u32,
    pub(crate) reserve: u32,
    /// The number of the first step after it.
    first: u32,
    /// What each step from there on attempts.
    attempts: Vec<String>,
    /// The arguments of the program, which is the last step.
    arguments: Vec<u8>,
}

/// A group that systemd made.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Scope {
    /// The socket of the bus that it is on.
    pub(crate) bus: PathBuf,
    pub(crate) unit: String,
    /// The inode of the group's directory. It is gone with its last process, and another scope of the same name has another one.
    pub(crate) inode: u64,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct StoredFilter {
    flags: u32,
    program: String,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct End {
    status: i32,
    out_of_memory: bool,
}

impl Record {
    /// What is about to be made: a control group that may come to be in these directories.
    pub(crate) fn intent(
        group: Vec<PathBuf>,
        bundle: Option<PathBuf>,
        kinds: NamespaceSet,
        filter: Option<&Filter>,
    ) -> Self {
        let filter = filter.map(|filter| StoredFilter { flags: filter.flags, program: to_hex(&filter.bytes) });
        Self {
            schema: SCHEMA,
            phase: Phase::Creating,
            created: now(),
            started: None,
            process: None,
            group,
            made: None,
            scope: None,
            classes: Vec::new(),
            bundle,
            kinds: kinds.flags(),
            filter,
            callers_keyring: false,
            barrier: None,
            end: None,
            special: false,
            hooked: false,
        }
    }

    /// Reads what [`text`](Self::text) wrote. Nothing if that makes no sense: what a crash of the machine may leave, after
    /// which there is neither a process nor a control group.
    pub(crate) fn parse(text: &[u8], attempt: &str) -> Result<Option<Self>> {
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        let record: Option<Self> = serde_json::from_slice(text).ok();
        let known = record.as_ref().map(|record| record.schema);
        let schema = known.or_else(|| Some(serde_json::from_slice::<Version>(text).ok()?.schema));
        match schema.filter(|schema| *schema > SCHEMA) {
            Some(schema) => {
                let why = format!("{attempt}: a later version of keelbox wrote it (format {schema})");
                Err(Error::new(ErrorKind::Unsupported, why))
            }
            None => Ok(record),
        }
    }

    pub(crate) fn text(&self, id: &str) -> Result<Vec<u8>> {
        let cannot = |error| {
            Error::from_part(ErrorKind::Invalid, format!("cannot write down the state of container {id}"), error)
        };
        let mut text = serde_json::to_vec_pretty(self).map_err(cannot)?;
        text.push(b'\n');
        Ok(text)
    }

    pub(crate) fn created(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.created)
    }

    pub(crate) fn mark_started(&mut self) {
        self.started = Some(now());
    }

    /// How long ago the program was started.
    pub(crate) fn age(&self) -> Duration {
        self.started.map_or(Duration::ZERO, |started| Duration::from_nanos(now().saturating_sub(started)))
    }

    /// What is known of the end.
    pub(crate) fn end(&self) -> Option<ExitStatus> {
        let End { status, out_of_memory } = self.end?;
        let status = ExitStatus::from_raw(status);
        Some(if out_of_memory { status.because(Reason::OutOfMemory) } else { status })
    }

    pub(crate) fn mark_ended(&mut self, status: &ExitStatus) {
        self.end = Some(End { status: status.raw(), out_of_memory: status.reason() == Reason::OutOfMemory });
    }

    /// The filter of the program, for further programs.
    pub(crate) fn filter(&self) -> Option<Filter> {
        let StoredFilter { flags, program } = self.filter.as_ref()?;
        Some(Filter { flags: *flags, bytes: from_hex(program)? })
    }
}

impl Barrier {
    /// What is to be known of the steps of `plan` from the one with the number `first` on.
    pub(crate) fn of(plan: &Plan, first: usize, slots: usize) -> Self {
        let rest = plan.steps.get(first..).unwrap_or_default();
        let arguments = match rest.last() {
            Some(Step::Exec { arguments, .. }) => arguments.clone(),
            _ => Vec::new(),
        };
        Self {
            steps: plan.steps.len() as u32,
            slots: slots as u32,
            reserve: plan.reserve,
            first: first as u32,
            attempts: rest.iter().map(ToString::to_string).collect(),
            arguments,
        }
    }

    /// The sentence about a step that failed.
    pub(crate) fn sentence(&self, failure: Failure) -> Error {
        if failure.step + 1 == self.steps {
            return crate::plan::execution_error(&self.arguments, failure.errno);
        }
        let attempt = failure.step.checked_sub(self.first).and_then(|index| self.attempts.get(index as usize));
        match attempt {
            Some(attempt) => {
                let (number, count) = (failure.step + 1, self.steps);
                Error::os(format!("cannot {attempt} (step {number} of {count})"), failure.errno)
            }
            None => Error::os("cannot talk to the stage", failure.errno),
        }
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn to_hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::step_error;
    use keelbox_launch::{Errno, Slot, list};

    fn record() -> Record {
        let filter = Filter { flags: 2, bytes: vec![0, 0x7f, 0xff, 0x10] };
        Record::intent(
            vec!["/sys/fs/cgroup/keelbox-a".into()],
            None,
            NamespaceSet::from_flags(0x2000_0000),
            Some(&filter),
        )
    }

    #[test]
    fn a_record_survives_the_file() {
        let mut record = record();
        record.mark_started();
        record.mark_ended(&ExitStatus::from_raw(9).because(Reason::OutOfMemory));
        let text = record.text("a").unwrap();
        let read = Record::parse(&text, "cannot read").unwrap().unwrap();
        assert_eq!(read, record);
        assert_eq!(read.filter().unwrap().bytes, [0, 0x7f, 0xff, 0x10]);
        assert_eq!(read.end().unwrap().reason(), Reason::OutOfMemory);
        assert!(read.created() <= SystemTime::now());
    }

    #[test]
    fn torn_files_are_nothing_and_later_formats_are_refused() {
        let text = record().text("a").unwrap();
        // The last byte is a newline, without which the file is whole.
        for length in 0..text.len() - 2 {
            assert_eq!(Record::parse(&text[..length], "cannot read").unwrap(), None, "cut at {length}");
        }
        assert_eq!(Record::parse(b"{\"schema\": 1}", "cannot read").unwrap(), None);
        assert_eq!(Record::parse(&[0; 64], "cannot read").unwrap(), None);
        let later = Record::parse(b"{\"schema\": 2, \"new\": true}", "cannot read the state").unwrap_err();
        assert_eq!(later.kind(), ErrorKind::Unsupported);
        assert_eq!(later.to_string(), "cannot read the state: a later version of keelbox wrote it (format 2)");
    }

    #[test]
    fn a_failed_step_is_told_as_by_the_plan_itself() {
        let steps = vec![
            Step::Session {},
            Step::Conceal {},
            Step::Ids { user: 1, group: 2 },
            Step::Exec { paths: list(["/bin/x"]), arguments: list(["x", "y"]), environment: vec![] },
        ];
        let namespaces =
            keelbox_namespaces::Selection::new(&keelbox_namespaces::Caller::new(0, 0)).plan(Slot(0)).unwrap();
        let plan = Plan::of_steps(namespaces, steps);
        let barrier = Barrier::of(&plan, 2, 5);
        for (step, errno) in [(2, Errno::EPERM), (3, Errno::ENOENT), (3, Errno::EACCES), (3, Errno(12))] {
            let failure = Failure { step, errno };
            assert_eq!(barrier.sentence(failure).report(), step_error(&plan.steps, failure).report());
            assert_eq!(barrier.sentence(failure).kind(), step_error(&plan.steps, failure).kind());
        }
        assert_eq!((barrier.steps, barrier.slots), (4, 5));
        let odd = barrier.sentence(Failure { step: 99, errno: Errno::EPERM });
        assert_eq!(odd.to_string(), "cannot talk to the stage");
    }
}
