//! Images built from a build file as Docker has it. Oldest kernel: 5.10; for ordinary users 5.11.

use keelbox::{Build, Network, Stdio};

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::print;
use crate::read::{Given, text};

use super::{Ask, change, fetched, place, store};

pub(crate) fn build(_: &Context<'_>, given: Given) -> Outcome {
    let context = given.words.first().cloned().map(text).transpose()?.unwrap_or_else(|| ".".to_owned());
    let file = given.path("file").unwrap_or_else(|| std::path::Path::new(&context).join("Dockerfile"));
    let store = store(&given)?;
    let mut build = Build::from_dockerfile(&file)?.context(&context).store(place(&given)?);
    for argument in given.texts("build-arg")? {
        // Without a value it is the caller's variable, as with docker.
        build = match argument.split_once('=') {
            Some((name, value)) => build.argument(name, value),
            None => std::env::var(&argument).into_iter().fold(build, |build, value| build.argument(&argument, value)),
        };
    }
    if let Some(stage) = given.text("target")? {
        build = build.target(stage);
    }
    if let Some(epoch) = change::epoch(&given)? {
        build = build.epoch(epoch);
    }
    if given.has("no-cache") {
        build = build.no_cache();
    }
    build = build.compression(change::compression(&given)?);
    if given.choice("network", &[("none", false), ("host", true)])? {
        build = build.network(Network::Host);
    }
    build = match given.has("quiet") {
        // What programs write is kept for the failure.
        true => build,
        false => build.stdout(Stdio::inherit()).stderr(Stdio::inherit()).on_step(|step| {
            let cached = if step.cached { " (as before)" } else { "" };
            // A progress line that cannot be written is no failure of the build.
            let _written = print(&format!("step {} of {}: {}{cached}\n", step.number, step.total, step.text));
        }),
    };
    let named = given.text("tag")?;
    let fetching = given.clone();
    let build = build.fetch(move |name| {
        fetched(&store, &fetching, name, Ask::Missing).map_err(|failure: Failure| failure.to_string().into())
    });
    let image = match &named {
        Some(name) => build.commit(name)?,
        None => build.commit_unnamed()?,
    };
    print(&format!("{} {}\n", named.as_deref().unwrap_or("built"), image.manifest_digest()))
}
