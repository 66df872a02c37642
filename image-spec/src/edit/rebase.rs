//! What an image has on top of one image goes on top of another.
//!
//! Job: split layers and history where the old base ends, and settle settings: what the image changed stays, what it had from the
//! old base becomes what the new one has. Leaves out whether the layers fit.

use super::state::{Piece, State};
use crate::{Error, Image, Result};
use serde_json::{Map, Value, json};

/// Replaces the layers of `old` at the bottom by those of `new`.
pub(super) fn rebase(state: &mut State<'_>, old: &Image, new: &Image) -> Result<()> {
    let count = old.layers().len();
    let is_base = state.pieces.len() >= count
        && old.layers().iter().zip(&state.pieces).all(|(base, piece)| base.diff_id() == piece.layer.diff_id());
    if !is_base {
        return Err(Error::format(format!("the image is not based on {}", name(old))));
    }
    let own = state.history_from(count);
    state.pieces.splice(..count, Piece::all(new)?);
    let base = parse(new.config().raw())?;
    state.history = history(base.get("history"), new.layers().len());
    state.history.extend(own);
    let before = parse(old.config().raw())?;
    let part = |document: &Value| document.get("config").cloned().unwrap_or_else(|| json!({}));
    let mine = state.document.get("config").cloned().unwrap_or_else(|| json!({}));
    state.document.insert("config".into(), settle(&mine, &part(&before), &part(&base)));
    state.annotations.insert("org.opencontainers.image.base.digest".into(), new.manifest_digest().to_string().into());
    match new.name() {
        Some(name) => state.annotations.insert("org.opencontainers.image.base.name".into(), name.into()),
        None => state.annotations.remove("org.opencontainers.image.base.name"),
    };
    state.forget_merged();
    Ok(())
}

/// The history of an image of so many layers. One that does not fit them says nothing about them.
pub(super) fn history(found: Option<&Value>, layers: usize) -> Vec<Value> {
    let history = found.and_then(Value::as_array).cloned().unwrap_or_default();
    match history.iter().filter(|entry| !is_empty(entry)).count() == layers {
        true => history,
        false => vec![json!({}); layers],
    }
}

pub(super) fn is_empty(entry: &Value) -> bool {
    entry.get("empty_layer").and_then(Value::as_bool).unwrap_or(false)
}

fn name(image: &Image) -> String {
    image.name().map_or_else(|| image.manifest_digest().to_string(), str::to_owned)
}

fn parse(raw: &[u8]) -> Result<Value> {
    crate::json::parse(raw, "image configuration")
}

/// Three versions of a value become one: what was changed since `before` stays, everything else is as `now`.
fn settle(mine: &Value, before: &Value, now: &Value) -> Value {
    if mine == before {
        return now.clone();
    }
    match (mine, now) {
        (Value::Object(mine), Value::Object(now)) => {
            let nothing = Map::new();
            let before = before.as_object().unwrap_or(&nothing);
            let names: std::collections::BTreeSet<&String> = mine.keys().chain(now.keys()).collect();
            let settled = names.into_iter().filter_map(|name| {
                let none = Value::Null;
                let of = |object: &Map<String, Value>| object.get(name).filter(|value| !value.is_null()).cloned();
                let (mine, before, now) = (of(mine), of(before), of(now));
                let value = if name == "Env" {
                    environment(mine.as_ref(), before.as_ref(), now.as_ref())
                } else {
                    settle(
                        mine.as_ref().unwrap_or(&none),
                        before.as_ref().unwrap_or(&none),
                        now.as_ref().unwrap_or(&none),
                    )
                };
                (!value.is_null()).then(|| (name.clone(), value))
            });
            Value::Object(settled.collect())
        }
        _ => mine.clone(),
    }
}

/// Variables one by one, in the order of the new base, then the image's own.
fn environment(mine: Option<&Value>, before: Option<&Value>, now: Option<&Value>) -> Value {
    let list = |value: Option<&Value>| -> Vec<(String, String)> {
        let entries = value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        entries
            .map(|entry| entry.split_once('=').unwrap_or((entry, "")))
            .map(|(name, value)| (name.into(), value.into()))
            .collect()
    };
    let (mine, before, now) = (list(mine), list(before), list(now));
    let find = |list: &[(String, String)], name: &str| {
        list.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    };
    let mut names: Vec<&String> = now.iter().chain(&mine).map(|(name, _)| name).collect();
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(*name));
    let settled = names.into_iter().filter_map(|name| {
        let own = find(&mine, name);
        let value = if own == find(&before, name) { find(&now, name) } else { own };
        value.map(|value| Value::from(format!("{name}={value}")))
    });
    let settled: Vec<Value> = settled.collect();
    if settled.is_empty() { Value::Null } else { Value::Array(settled) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_changed_stays_and_the_rest_follows_the_base() {
        let before =
            json!({"Env": ["PATH=/old", "V=1", "GONE=x"], "Cmd": ["sh"], "User": "a", "Labels": {"base": "1"}});
        let now = json!({"Env": ["PATH=/new", "V=2", "NEW=y"], "Cmd": ["bash"], "User": "b", "Labels": {"base": "2", "more": "3"}});
        let mine = json!({"Env": ["PATH=/old", "V=9", "OWN=z"], "Cmd": ["app"], "User": "a", "Labels": {"base": "1", "own": "4"}});
        assert_eq!(
            settle(&mine, &before, &now),
            json!({"Env": ["PATH=/new", "V=9", "NEW=y", "OWN=z"], "Cmd": ["app"], "User": "b",
                "Labels": {"base": "2", "more": "3", "own": "4"}})
        );
    }
}
