//! The command events: what a container uses, now and then, and that it ran out of memory.
//!
//! Oldest kernel: 5.10. On cgroup v1 only a container with a limit of memory is told of when it runs out of it.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use keelbox::crates::cgroups::Event;
use keelbox::{ErrorKind, Handle};

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::read::Given;
use crate::time::duration;
use crate::{print, stats};

/// What is waited for between two looks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum News {
    OutOfMemory,
    Ended,
}

pub(crate) fn events(context: &Context<'_>, mut given: Given) -> Outcome {
    let text = given.text("interval")?.unwrap_or_else(|| "5s".to_owned());
    let interval = duration(&text).filter(|interval| !interval.is_zero());
    let interval = interval
        .ok_or_else(|| Failure::new(format!("--interval takes a length of time such as 500ms, not {text:?}")))?;
    let id = given.id()?;
    let handle = context.open(&id)?;
    if given.has("stats") {
        return told(&handle);
    }
    let news = listen(context, &id)?;
    let mut next = Instant::now() + interval;
    loop {
        match news.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(News::OutOfMemory) => print(&stats::event("oom", &id, None))?,
            Ok(News::Ended) | Err(RecvTimeoutError::Disconnected) => return Ok(0),
            Err(RecvTimeoutError::Timeout) => {
                next += interval;
                told(&handle)?
            }
        };
    }
}

fn told(handle: &Handle) -> Outcome {
    match handle.stats() {
        Ok(used) => print(&stats::event("stats", handle.id(), Some(stats::document(&used)))),
        Err(error) => Err(error.into()),
    }
}

/// Hears from two threads, which end with this program.
fn listen(context: &Context<'_>, id: &str) -> Result<Receiver<News>, Failure> {
    let (teller, news) = channel();
    let (ending, hungry) = (context.open(id)?, context.open(id)?);
    let also = teller.clone();
    spawn("end", move || {
        // However that ends, there is nothing more to tell.
        let _ended = ending.wait();
        let _told = teller.send(News::Ended);
    })?;
    match hungry.watch() {
        Ok(watch) => spawn("memory", move || watched(watch, &also))?,
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            context.log.debug(|| format!("nothing tells when memory runs out: {error:#}"));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(news)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let started = thread::Builder::new().name(name.into()).spawn(work);
    started.map(|_thread| ()).map_err(|error| Failure::io("cannot start a thread for events", &error))
}

/// On version 2 a kill is told after its cause, on version 1 the cause alone.
fn watched(mut watch: keelbox::crates::cgroups::Watch, teller: &Sender<News>) {
    let mut told = false;
    while let Ok(Some(event)) = watch.next(None::<Duration>) {
        let is_news = match event {
            Event::OutOfMemory => true,
            Event::OomKill(_) => !told,
            _ => continue,
        };
        told = event == Event::OutOfMemory;
        if is_news && teller.send(News::OutOfMemory).is_err() {
            return;
        }
    }
}
