//! The command up: a program of an image, from the registry to its end.
//!
//! Without an id the container is this program's own: it writes no state, and ends when this program does. With one, or
//! detached, it is a container as create makes them. Oldest kernel: 5.10; for ordinary users 5.11.

mod settings;
pub(crate) mod table;

use keelbox::{Container, Handle, Image, Stdio, Store};

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::forward::Forwarded;
use crate::image::{self, Ask};
use crate::read::{Given, text};
use crate::relay::{self, Relay};
use crate::{print, run};
use settings::Files;

pub(crate) fn up(context: &Context<'_>, mut given: Given) -> Outcome {
    context.can_group()?;
    let name = text(given.word())?;
    let words: Vec<String> = std::mem::take(&mut given.words).into_iter().map(text).collect::<Result<_, _>>()?;
    let ask = given.choice("pull", &[("missing", Ask::Missing), ("always", Ask::Always), ("never", Ask::Never)])?;
    // What is wrong with the options is told before anything is fetched; what they name is read once, since it may be a pipe.
    let files = Files::read(&given)?;
    let _unused = settings::applied(Container::from_rootfs("/"), &given, &files, &context.runtime)?;
    let place = image::place(&given)?;
    let store = Store::open(&place)?;
    let image = image::fetched(&store, &given, &name, ask)?;
    let container = Container::from_image(&image).store(&place);
    let container = command(settings::applied(container, &given, &files, &context.runtime)?, &given, &image, words)?;
    let container = streams(context.grouped(container), &given);
    let container = settings::connected(container, &given, &context.runtime)?;
    match (given.text("name")?, given.has("detach")) {
        (None, false) => attached(container),
        (id, detach) => named(context, container, &id.unwrap_or_else(own_id), detach),
    }
}

/// What runs: the entrypoint and the words behind the image, or what the image says in their place.
fn command(container: Container, given: &Given, image: &Image, words: Vec<String>) -> Result<Container, Failure> {
    match given.text("entrypoint")? {
        Some(program) => Ok(container.args(std::iter::once(program).chain(words))),
        None if words.is_empty() && image.config().cmd().is_empty() && image.config().entrypoint().is_empty() => {
            Err(Failure::new("the image says no program, and none is given"))
        }
        None if words.is_empty() => Ok(container),
        None => Ok(container.command(words)),
    }
}

fn streams(container: Container, given: &Given) -> Container {
    match (given.has("tty"), given.has("interactive") && !given.has("detach")) {
        (true, _) => container.terminal(relay::size()),
        (false, true) => container.stdin(Stdio::inherit()),
        (false, false) => container.stdin(Stdio::null()),
    }
}

/// A name that no other process has at this moment.
fn own_id() -> String {
    format!("up-{}", std::process::id())
}

/// Runs a container that nobody else knows of.
fn attached(container: Container) -> Outcome {
    let signals = Forwarded::hold()?;
    let mut process = container.spawn()?;
    let terminal = process.terminal();
    let relay = terminal.as_ref().map(Relay::begin).transpose()?;
    let signaller = process.signaller()?;
    signals.pass_on(terminal, move |signal| {
        // It may have ended meanwhile.
        let _sent = signaller.signal(signal);
    })?;
    let end = process.wait()?;
    if let Some(relay) = relay {
        relay.end();
    }
    Ok(run::status(&end))
}

fn named(context: &Context<'_>, container: Container, id: &str, detach: bool) -> Outcome {
    let make = || Ok(context.runtime.create(&container.build()?, id)?);
    if !detach {
        return run::attended(context, false, make, Handle::start);
    }
    run::begun(&make()?)?;
    print(&format!("{id}\n"))
}
