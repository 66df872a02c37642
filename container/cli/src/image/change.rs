//! New images of old ones. Needs no kernel.

use std::path::Path;

use keelbox::crates::image_spec::{Changeset, Compression, Edit, OpenOptions};
use serde_json::Value;

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::print;
use crate::read::{Given, text};

use super::{named, store};

pub(crate) fn tag(_: &Context<'_>, mut given: Given) -> Outcome {
    let (source, name) = (text(given.word())?, text(given.word())?);
    let store = store(&given)?;
    store.add(&named(&store, &OpenOptions::new(), &source)?, &name)?;
    Ok(0)
}

pub(crate) fn edit(_: &Context<'_>, mut given: Given) -> Outcome {
    let (source, name) = (text(given.word())?, text(given.word())?);
    let store = store(&given)?;
    let mut edit = match source.as_str() {
        "scratch" => Edit::scratch(&store),
        source => named(&store, &OpenOptions::new(), source)?.edit().store(&store),
    };
    if let Some(epoch) = epoch(&given)? {
        edit = edit.epoch(epoch);
    }
    let compression = compression(&given)?;
    edit = layered(edit.compression(compression), &given)?;
    if let Some(pair) = given.text("rebase")? {
        let (old, new) =
            pair.split_once(',').ok_or_else(|| Failure::new(format!("--rebase takes OLD,NEW, not {pair:?}")))?;
        let base = |name: &str| named(&store, &OpenOptions::new(), name);
        edit = edit.rebase(&base(old)?, &base(new)?);
    }
    if given.has("recompress") {
        edit = edit.recompress(compression);
    }
    let image = set(edit, &given)?.commit(&name)?;
    print(&format!("{name} {}\n", image.manifest_digest()))
}

pub(super) fn compression(given: &Given) -> Result<Compression, Failure> {
    given
        .choice("compression", &[("gzip", Compression::Gzip), ("zstd", Compression::Zstd), ("none", Compression::None)])
}

/// When the image was made, as the option or else the environment says.
pub(super) fn epoch(given: &Given) -> Result<Option<i64>, Failure> {
    match (given.number("epoch")?, std::env::var("SOURCE_DATE_EPOCH").ok().filter(|value| !value.is_empty())) {
        (None, Some(told)) => told
            .parse()
            .map(Some)
            .map_err(|_| Failure::new(format!("SOURCE_DATE_EPOCH is a number of seconds, not {told:?}"))),
        (given, _) => Ok(given),
    }
}

fn layered(mut edit: Edit, given: &Given) -> Result<Edit, Failure> {
    for pair in given.texts("add")? {
        let (source, target) = pair
            .split_once(':')
            .filter(|(source, target)| !source.is_empty() && target.starts_with('/'))
            .ok_or_else(|| Failure::new(format!("--add takes SOURCE:TARGET with an absolute TARGET, not {pair:?}")))?;
        edit = match Path::new(source).is_dir() {
            true => edit.add_dir(source, target),
            false => edit.add_layer(Changeset::new().file(source, target)),
        };
    }
    for file in given.texts("add-layer")? {
        edit = edit.add_layer(Changeset::from_archive(file));
    }
    Ok(match given.text("squash")?.as_deref() {
        None => edit,
        Some("all") => edit.squash(..),
        Some(count) => edit.squash_top(
            count
                .parse()
                .map_err(|_| Failure::new(format!("--squash takes all or a number of layers, not {count:?}")))?,
        ),
    })
}

type Setter = fn(Edit, String) -> Edit;

fn set(mut edit: Edit, given: &Given) -> Result<Edit, Failure> {
    for (name, value) in given.pairs("env")? {
        edit = edit.env(name, value);
    }
    for (name, value) in given.pairs("label")? {
        edit = edit.label(name, value);
    }
    for (name, value) in given.pairs("annotation")? {
        edit = edit.annotate(name, value);
    }
    edit = given.texts("expose")?.into_iter().fold(edit, Edit::expose);
    edit = given.texts("volume")?.into_iter().fold(edit, Edit::volume);
    if let Some(list) = words(given, "entrypoint")? {
        edit = edit.entrypoint(list);
    }
    if let Some(list) = words(given, "cmd")? {
        edit = edit.cmd(list);
    }
    let settings: [(&str, Setter); 4] = [
        ("user", Edit::user),
        ("workdir", Edit::working_dir),
        ("stop-signal", Edit::stop_signal),
        ("author", Edit::author),
    ];
    for (option, setter) in settings {
        if let Some(value) = given.text(option)? {
            edit = setter(edit, value);
        }
    }
    Ok(edit)
}

/// A command line: a JSON list, or words with blanks between them; no shell looks at them.
fn words(given: &Given, option: &str) -> Result<Option<Vec<String>>, Failure> {
    let Some(text) = given.text(option)? else { return Ok(None) };
    if !text.trim_start().starts_with('[') {
        return Ok(Some(text.split_whitespace().map(str::to_owned).collect()));
    }
    let list = serde_json::from_str::<Value>(&text).ok().and_then(|value| {
        value.as_array()?.iter().map(|word| word.as_str().map(str::to_owned)).collect::<Option<Vec<String>>>()
    });
    list.map(Some).ok_or_else(|| Failure::new(format!("--{option} is no JSON list of texts: {text:?}")))
}
