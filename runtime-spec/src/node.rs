//! A JSON value together with the way to it, so that every problem can name its JSON pointer.
//!
//! Left out on purpose: changing values. Needs no kernel.
use std::rc::Rc;

use serde_json::Value;

static ABSENT: Value = Value::Null;

#[derive(Clone, Copy, Debug)]
enum Key<'a> {
    Name(&'a str),
    Index(usize),
}

#[derive(Debug)]
struct Link<'a> {
    parent: Option<Rc<Link<'a>>>,
    key: Key<'a>,
}

/// A value and its place. Cheap to clone; the pointer is only written out for a problem.
#[derive(Clone, Debug)]
pub(crate) struct Node<'a> {
    pub(crate) value: &'a Value,
    place: Option<Rc<Link<'a>>>,
}

impl<'a> Node<'a> {
    pub(crate) fn root(value: &'a Value) -> Self {
        Self { value, place: None }
    }

    fn below(&self, value: &'a Value, key: Key<'a>) -> Self {
        let parent = self.place.clone();
        Self { value, place: Some(Rc::new(Link { parent, key })) }
    }

    /// The member called `name`, or a node for the absence of it.
    pub(crate) fn member(&self, name: &'a str) -> Self {
        self.below(self.value.get(name).unwrap_or(&ABSENT), Key::Name(name))
    }

    /// The member called `name` if it is there and not null.
    pub(crate) fn get(&self, name: &'a str) -> Option<Self> {
        let value = self.value.get(name).filter(|v| !v.is_null())?;
        Some(self.below(value, Key::Name(name)))
    }

    /// Follows several names.
    pub(crate) fn find(&self, names: &[&'a str]) -> Option<Self> {
        names.iter().try_fold(self.clone(), |node, name| node.get(name))
    }

    /// The elements of the list called `name`; none if it is absent or no list.
    pub(crate) fn list(&self, name: &'a str) -> Vec<Self> {
        self.get(name).map(|list| list.items().collect()).unwrap_or_default()
    }

    pub(crate) fn items(&self) -> impl Iterator<Item = Self> + '_ {
        let items = self.value.as_array().map(Vec::as_slice).unwrap_or_default();
        items.iter().enumerate().map(|(i, v)| self.below(v, Key::Index(i)))
    }

    /// The members of an object, with their names, in the order of the names.
    pub(crate) fn entries(&self) -> Vec<(&'a str, Self)> {
        let Some(map) = self.value.as_object() else {
            return Vec::new();
        };
        let mut entries: Vec<_> = map.iter().map(|(k, v)| (k.as_str(), self.below(v, Key::Name(k)))).collect();
        entries.sort_by_key(|(name, _)| *name);
        entries
    }

    pub(crate) fn text(&self) -> Option<&'a str> {
        self.value.as_str()
    }

    pub(crate) fn text_at(&self, name: &'a str) -> Option<&'a str> {
        self.get(name)?.text()
    }

    pub(crate) fn integer(&self) -> Option<i128> {
        let number = self.value.as_number()?;
        number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
    }

    pub(crate) fn integer_at(&self, name: &'a str) -> Option<i128> {
        self.get(name)?.integer()
    }

    pub(crate) fn pointer(&self) -> String {
        let mut keys = Vec::new();
        let mut link = self.place.as_ref();
        while let Some(here) = link {
            keys.push(here.key);
            link = here.parent.as_ref();
        }
        let mut pointer = String::new();
        for key in keys.iter().rev() {
            pointer.push('/');
            match key {
                Key::Name(name) => pointer.push_str(&escape(name)),
                Key::Index(index) => pointer.push_str(&index.to_string()),
            }
        }
        pointer
    }
}

/// Escapes a member name for use in a JSON pointer (RFC 6901).
pub(crate) fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointer_is_escaped_and_ordered() {
        let value = serde_json::json!({"a/b": [0, {"~": true}]});
        let inner = Node::root(&value).list("a/b").remove(1).member("~");
        assert_eq!(inner.pointer(), "/a~1b/1/~0");
        assert_eq!(value.pointer(&inner.pointer()), Some(inner.value));
        assert_eq!(Node::root(&value).pointer(), "");
    }
}
