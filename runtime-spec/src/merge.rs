//! Carries a change made to a view of a document over to the document, and leaves everything else as it was.
//!
//! Left out on purpose: finding moved members; a list element that was both moved and changed loses what the view does
//! not show of it. Needs no kernel.
use std::collections::HashMap;

use serde_json::{Map, Value};

/// Changes `raw` by the difference between `old` and `new`, which are views of it before and after.
pub(crate) fn merge(raw: &mut Value, old: &Value, new: &Value) {
    if old == new {
        return;
    }
    match (raw, old, new) {
        (Value::Object(raw), Value::Object(old), Value::Object(new)) => {
            merge_members(raw, old, new);
        }
        // Of equal length means that the view hides no element, so that the positions agree.
        (Value::Array(raw), Value::Array(old), Value::Array(new))
            if raw.len() == old.len() && raw.iter().any(Value::is_object) =>
        {
            merge_items(raw, old, new);
        }
        (raw, _, new) => *raw = new.clone(),
    }
}

fn merge_members(raw: &mut Map<String, Value>, old: &Map<String, Value>, new: &Map<String, Value>) {
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        raw.remove(name);
    }
    for (name, value) in new {
        match (raw.get_mut(name), old.get(name)) {
            (Some(slot), Some(before)) => merge(slot, before, value),
            // The view hid it: keep what is around the new members.
            (Some(slot @ Value::Object(_)), None) if value.is_object() => {
                merge(slot, &Value::Object(Map::new()), value);
            }
            // The view supplied it, and nobody changed it.
            (None, Some(before)) if before == value => {}
            _ => {
                raw.insert(name.clone(), value.clone());
            }
        }
    }
}

fn merge_items(raw: &mut Vec<Value>, old: &[Value], new: &[Value]) {
    let mut places: HashMap<String, Vec<usize>> = HashMap::new();
    for (i, item) in old.iter().enumerate().rev() {
        places.entry(item.to_string()).or_default().push(i);
    }
    let mut taken = vec![false; old.len()];
    let mut merged: Vec<Option<Value>> = Vec::with_capacity(new.len());
    for item in new {
        let place = places.get_mut(&item.to_string()).and_then(Vec::pop);
        if let Some(i) = place {
            taken[i] = true;
        }
        merged.push(place.map(|i| raw[i].clone()));
    }
    *raw = merged
        .into_iter()
        .enumerate()
        .map(|(i, kept)| match kept {
            Some(item) => item,
            None if taken.get(i) == Some(&false) => {
                let mut item = raw[i].clone();
                merge(&mut item, &old[i], &new[i]);
                item
            }
            None => new[i].clone(),
        })
        .collect();
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn merged(raw: Value, old: Value, new: Value) -> Value {
        let mut raw = raw;
        merge(&mut raw, &old, &new);
        raw
    }

    #[test]
    fn changes_arrive_and_the_rest_stays() {
        let cases = [
            // changed, removed and added members beside an unknown one
            (
                json!({"x": 9, "a": 1, "b": 2}),
                json!({"a": 1, "b": 2}),
                json!({"a": 3, "c": 4}),
                json!({"x": 9, "a": 3, "c": 4}),
            ),
            // a member only the view has, unchanged and changed
            (json!({}), json!({"user": {}}), json!({"user": {}, "a": 1}), json!({"a": 1})),
            (json!({}), json!({"user": {}}), json!({"user": {"uid": 1}}), json!({"user": {"uid": 1}})),
            // a member the view hides
            (
                json!({"pids": {"x": 1}}),
                json!({}),
                json!({"pids": {"limit": 0}}),
                json!({"pids": {"x": 1, "limit": 0}}),
            ),
            // an element added in front, one changed in place
            (
                json!([{"a": 1, "x": 1}]),
                json!([{"a": 1}]),
                json!([{"a": 0}, {"a": 1}]),
                json!([{"a": 0}, {"a": 1, "x": 1}]),
            ),
            (json!([{"a": 1, "x": 1}]), json!([{"a": 1}]), json!([{"a": 2}]), json!([{"a": 2, "x": 1}])),
            // an element removed
            (
                json!([{"a": 1, "x": 1}, {"a": 2, "x": 2}]),
                json!([{"a": 1}, {"a": 2}]),
                json!([{"a": 2}]),
                json!([{"a": 2, "x": 2}]),
            ),
            // plain lists are replaced, whatever the order they had
            (json!(["b", "a"]), json!(["a", "b"]), json!(["a", "c"]), json!(["a", "c"])),
            (json!(["b", "a", "?"]), json!(["a", "b"]), json!(["c"]), json!(["c"])),
        ];
        for (raw, old, new, expected) in cases {
            assert_eq!(merged(raw.clone(), old, new), expected, "{raw}");
        }
    }
}
