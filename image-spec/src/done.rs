//! The mark that makes a layer count.
//!
//! Job: the small document `done` that lies beside an unpacked layer and says what a caller must know to use it. Leaves
//! out reading and writing the file.

use crate::json::{self, Field};
use crate::unpack::Dialect;
use crate::{Digest, Result};

/// What `done` says about a complete layer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Done {
    pub(crate) diff_id: Digest,
    pub(crate) dialect: Dialect,
    /// Mode, user and group of the root, if the layer describes it.
    pub(crate) root: Option<(u32, u32, u32)>,
    /// The layer hides everything below it.
    pub(crate) root_opaque: bool,
    pub(crate) index_bytes: u64,
}

impl Done {
    pub(crate) fn parse(text: &[u8]) -> Result<Self> {
        let value = json::parse(text, "done")?;
        let root = Field::root(&value, "done")?;
        let version = root.require("version")?;
        if version.number()? != 1 {
            return Err(version.error("is not 1"));
        }
        let dialect = root.require("dialect")?;
        let owner = root.get("root")?.map(|field| -> Result<(u32, u32, u32)> {
            let number =
                |key: &str| u32::try_from(field.require(key)?.number()?).map_err(|_| field.error("is out of range"));
            Ok((number("mode")?, number("uid")?, number("gid")?))
        });
        Ok(Self {
            diff_id: root.require("diffId")?.text()?.parse()?,
            dialect: match dialect.text()?.as_str() {
                "trusted" => Dialect::Trusted,
                "user" => Dialect::User,
                _ => return Err(dialect.error("is unknown")),
            },
            root: owner.transpose()?,
            root_opaque: root.require("rootOpaque")?.boolean()?,
            index_bytes: root.require("indexBytes")?.number()?,
        })
    }

    pub(crate) fn render(&self) -> String {
        let root = self
            .root
            .map_or("null".to_owned(), |(mode, uid, gid)| format!(r#"{{"mode":{mode},"uid":{uid},"gid":{gid}}}"#));
        format!(
            "{{\"version\":1,\"diffId\":\"{}\",\"dialect\":\"{}\",\"root\":{root},\"rootOpaque\":{},\"indexBytes\":{}}}\n",
            self.diff_id,
            self.dialect.name(),
            self.root_opaque,
            self.index_bytes
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written_and_not_when_cut_short() {
        for root in [None, Some((0o1777, 5, 6))] {
            let done =
                Done { diff_id: Digest::of(b"x"), dialect: Dialect::User, root, root_opaque: true, index_bytes: 7 };
            let text = done.render();
            assert_eq!(Done::parse(text.as_bytes()).expect("own text"), done);
            for end in 0..text.len() - 1 {
                assert!(Done::parse(&text.as_bytes()[..end]).is_err(), "{end}");
            }
        }
    }
}
