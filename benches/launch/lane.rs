//! Contestants, and how they take turns.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// Whatever goes wrong ends the benchmark.
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// One contestant.
pub struct Lane<'a> {
    name: String,
    measure: Box<dyn FnMut() -> Result<Duration> + 'a>,
    every: usize,
}

impl<'a> Lane<'a> {
    /// A contestant that is measured in every round.
    pub fn new(name: &str, measure: impl FnMut() -> Result<Duration> + 'a) -> Self {
        Self { name: name.into(), measure: Box::new(measure), every: 1 }
    }

    /// Measures only every n-th round: for slow ones.
    pub fn every(self, every: usize) -> Self {
        Self { every, ..self }
    }
}

/// The times of some contestants, in the order of their first.
#[derive(Default)]
pub struct Samples(pub Vec<(String, Vec<Duration>)>);

impl Samples {
    /// Adds times, to those of the same name if there are any.
    pub fn append(&mut self, other: Self) {
        for (name, times) in other.0 {
            match self.0.iter_mut().find(|known| known.0 == name) {
                Some(known) => known.1.extend(times),
                None => self.0.push((name, times)),
            }
        }
    }
}

/// Measures all lanes in turns; who begins changes from round to round. A tenth of the rounds before the first do not count.
///
/// Before each measurement there is a pause of `settle`, in which the kernel clears away the network namespace of the one before, and
/// a template gets its next containers ready: no contestant is to pay for another's work.
pub fn interleave(lanes: &mut [Lane<'_>], rounds: usize, settle: Duration) -> Result<Samples> {
    let warm_up = rounds.div_ceil(10);
    let mut times: BTreeMap<usize, Vec<Duration>> = BTreeMap::new();
    for round in 0..warm_up + rounds {
        for turn in 0..lanes.len() {
            let index = (turn + round) % lanes.len();
            let lane = &mut lanes[index];
            if round % lane.every != 0 {
                continue;
            }
            std::thread::sleep(settle);
            let time = (lane.measure)().map_err(|error| format!("{}: {error}", lane.name))?;
            if round >= warm_up {
                times.entry(index).or_default().push(time);
            }
        }
    }
    Ok(Samples(times.into_iter().map(|(index, times)| (lanes[index].name.clone(), times)).collect()))
}

/// How long one of `count` takes that come one after the other without a pause.
pub fn in_a_row(count: u32, mut measure: impl FnMut() -> Result<Duration>) -> Result<Duration> {
    let begun = Instant::now();
    (0..count).try_for_each(|_| measure().map(drop))?;
    Ok(begun.elapsed() / count)
}

/// How long `work` takes.
pub fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed())
}

/// A contestant in a process of its own: for every line it gets it measures once and answers with nanoseconds.
pub struct Server {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Server {
    /// Starts it.
    pub fn start(command: &mut Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().ok_or("a piped stream")?);
        Ok(Self { child, input, output })
    }

    /// One measurement.
    pub fn measure(&mut self) -> Result<Duration> {
        let input = self.input.as_mut().ok_or("a piped stream")?;
        input.write_all(b"\n")?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let nanoseconds = line.trim().parse().map_err(|_| format!("no number: {line:?}"))?;
        Ok(Duration::from_nanos(nanoseconds))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.input.take()); // the end of its input ends it
        let _ended = self.child.wait();
    }
}

/// The other side of a [`Server`].
pub fn serve(mut measure: impl FnMut() -> Result<Duration>) -> Result<()> {
    for line in std::io::stdin().lock().lines() {
        line?;
        println!("{}", measure()?.as_nanos());
    }
    Ok(())
}
