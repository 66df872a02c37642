//! The id of a container.
//!
//! Left out on purpose: making ids up. Needs no kernel.
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
use crate::problem::quote;

/// The id of a container: 1 to 1024 ASCII letters, digits and `_ + - .`, not beginning with a dot.
///
/// An id is always one component of a path, never `.` or `..`. A file system may still have a shorter limit for names (255
/// bytes on most), which the one who makes the directory reports.
///
/// ```
/// use keelbox_runtime_spec::ContainerId;
///
/// let id: ContainerId = "web-1".parse()?;
/// assert_eq!(id.as_str(), "web-1");
/// assert!("../etc".parse::<ContainerId>().is_err());
/// # Ok::<(), keelbox_runtime_spec::Error>(())
/// ```
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

impl ContainerId {
    /// Takes a text as an id.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Id`] if it does not follow the grammar.
    pub fn new(text: impl Into<String>) -> Result<Self, Error> {
        let text = text.into();
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'+' | b'-' | b'.');
        let valid = (1..=1024).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(allowed);
        if !valid {
            let detail =
                format!("{} is not 1 to 1024 letters, digits and _ + - . not beginning with a dot", quote(&text));
            return Err(Error::new(ErrorKind::Id, "accept container id").detail(detail));
        }
        Ok(Self(text))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ContainerId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::new(text)
    }
}

impl TryFrom<String> for ContainerId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        Self::new(text)
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> Self {
        id.0
    }
}

impl AsRef<str> for ContainerId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rs_124_id_grammar() {
        let longest = "a".repeat(1024);
        for good in ["a", "0", "_x", "+1", "-rf", "web-1.example", "A_b+c-d.e", &longest] {
            assert_eq!(ContainerId::new(good).unwrap().to_string(), good);
        }
        let long = "a".repeat(1025);
        for bad in ["", ".", "..", ".hidden", "a/b", "a b", "a\n", "a\0", "é", "a:b", "a%b", &long] {
            assert_eq!(ContainerId::new(bad).unwrap_err().kind(), ErrorKind::Id, "{bad:?}");
        }
        assert!(serde_json::from_str::<ContainerId>("\"a/b\"").is_err());
        assert_eq!(serde_json::to_string(&ContainerId::new("a").unwrap()).unwrap(), "\"a\"");
    }
}
