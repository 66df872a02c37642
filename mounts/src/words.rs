//! The option words of the OCI runtime specification and of `mount(8)`, and what each asks for. Needs no kernel.
//!
//! OCI runtime specification, `config.md`, "Linux mount options": all words it says a runtime must or should know.

use crate::attribute::{Attribute, MS_NOSYMFOLLOW, Propagation, Reach};

/// What an option word asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Word {
    /// Nothing: it names what is so anyway.
    Nothing,
    /// An `MS_*` flag.
    Flag(u64),
    /// No such flag.
    NoFlag(u64),
    /// An attribute of the whole tree.
    Recursive(Attribute),
    /// Not that attribute, in the whole tree.
    NotRecursive(Attribute),
    /// Mount events.
    Propagate(Propagation, Reach),
    /// A bind of one mount or a tree.
    Bind(Reach),
    /// A change of a mount that exists.
    Remount,
    /// Ids mapped.
    IdMap(Reach),
    /// The content of the target copied up into a tmpfs.
    CopyUp,
}

use Word::{Bind, CopyUp, Flag, IdMap, NoFlag, NotRecursive, Nothing, Propagate, Recursive, Remount};

/// Every word and its meaning, in alphabetical order.
pub(crate) const WORDS: [(&str, Word); 62] = [
    ("async", NoFlag(libc::MS_SYNCHRONOUS)),
    ("atime", NoFlag(libc::MS_NOATIME)),
    ("bind", Bind(Reach::Mount)),
    ("defaults", Nothing),
    ("dev", NoFlag(libc::MS_NODEV)),
    ("diratime", NoFlag(libc::MS_NODIRATIME)),
    ("dirsync", Flag(libc::MS_DIRSYNC)),
    ("exec", NoFlag(libc::MS_NOEXEC)),
    ("idmap", IdMap(Reach::Mount)),
    ("iversion", Flag(libc::MS_I_VERSION)),
    ("lazytime", Flag(MS_LAZYTIME)),
    ("loud", NoFlag(libc::MS_SILENT)),
    ("mand", Flag(libc::MS_MANDLOCK)),
    ("noatime", Flag(libc::MS_NOATIME)),
    ("nodev", Flag(libc::MS_NODEV)),
    ("nodiratime", Flag(libc::MS_NODIRATIME)),
    ("noexec", Flag(libc::MS_NOEXEC)),
    ("noiversion", NoFlag(libc::MS_I_VERSION)),
    ("nolazytime", NoFlag(MS_LAZYTIME)),
    ("nomand", NoFlag(libc::MS_MANDLOCK)),
    ("norelatime", NoFlag(libc::MS_RELATIME)),
    ("nostrictatime", NoFlag(libc::MS_STRICTATIME)),
    ("nosuid", Flag(libc::MS_NOSUID)),
    ("nosymfollow", Flag(MS_NOSYMFOLLOW)),
    ("private", Propagate(Propagation::Private, Reach::Mount)),
    ("ratime", NotRecursive(Attribute::NoAtime)),
    ("rbind", Bind(Reach::Tree)),
    ("rdev", NotRecursive(Attribute::NoDev)),
    ("rdiratime", NotRecursive(Attribute::NoDirAtime)),
    ("relatime", Flag(libc::MS_RELATIME)),
    ("remount", Remount),
    ("rexec", NotRecursive(Attribute::NoExec)),
    ("ridmap", IdMap(Reach::Tree)),
    ("rnoatime", Recursive(Attribute::NoAtime)),
    ("rnodev", Recursive(Attribute::NoDev)),
    ("rnodiratime", Recursive(Attribute::NoDirAtime)),
    ("rnoexec", Recursive(Attribute::NoExec)),
    ("rnorelatime", NotRecursive(Attribute::RelAtime)),
    ("rnostrictatime", NotRecursive(Attribute::StrictAtime)),
    ("rnosuid", Recursive(Attribute::NoSuid)),
    ("rnosymfollow", Recursive(Attribute::NoSymFollow)),
    ("ro", Flag(libc::MS_RDONLY)),
    ("rprivate", Propagate(Propagation::Private, Reach::Tree)),
    ("rrelatime", Recursive(Attribute::RelAtime)),
    ("rro", Recursive(Attribute::ReadOnly)),
    ("rrw", NotRecursive(Attribute::ReadOnly)),
    ("rshared", Propagate(Propagation::Shared, Reach::Tree)),
    ("rslave", Propagate(Propagation::Slave, Reach::Tree)),
    ("rstrictatime", Recursive(Attribute::StrictAtime)),
    ("rsuid", NotRecursive(Attribute::NoSuid)),
    ("rsymfollow", NotRecursive(Attribute::NoSymFollow)),
    ("runbindable", Propagate(Propagation::Unbindable, Reach::Tree)),
    ("rw", NoFlag(libc::MS_RDONLY)),
    ("shared", Propagate(Propagation::Shared, Reach::Mount)),
    ("silent", Flag(libc::MS_SILENT)),
    ("slave", Propagate(Propagation::Slave, Reach::Mount)),
    ("strictatime", Flag(libc::MS_STRICTATIME)),
    ("suid", NoFlag(libc::MS_NOSUID)),
    ("symfollow", NoFlag(MS_NOSYMFOLLOW)),
    ("sync", Flag(libc::MS_SYNCHRONOUS)),
    ("tmpcopyup", CopyUp),
    ("unbindable", Propagate(Propagation::Unbindable, Reach::Mount)),
];

/// `MS_LAZYTIME` of `mount(2)`, Linux 4.0.
const MS_LAZYTIME: u64 = 1 << 25;

/// The meaning of `word`; `None` if it is for the file system.
pub(crate) fn meaning(word: &str) -> Option<Word> {
    WORDS.binary_search_by_key(&word, |(name, _)| name).ok().and_then(|index| WORDS.get(index)).map(|(_, word)| *word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_in_order_and_found() {
        assert!(WORDS.is_sorted_by_key(|(name, _)| *name));
        for (name, word) in WORDS {
            assert_eq!(meaning(name), Some(word), "{name}");
        }
        for data in ["mode=755", "RO", "", "newinstance", "r", "user_xattr"] {
            assert_eq!(meaning(data), None, "{data}");
        }
    }

    #[test]
    fn all_words_of_the_specification_are_known() {
        let must = "async atime bind defaults dev diratime dirsync exec iversion lazytime loud noatime nodev nodiratime noexec \
            noiversion nolazytime norelatime nostrictatime nosuid private rbind relatime remount ro rprivate rshared rslave \
            runbindable rw shared silent slave strictatime suid sync unbindable";
        let should = "nosymfollow symfollow ratime rdev rdiratime rexec rnoatime rnodev rnodiratime rnoexec rnorelatime \
            rnostrictatime rnosuid rnosymfollow rrelatime rro rrw rstrictatime rsuid rsymfollow idmap ridmap mand nomand tmpcopyup";
        let listed: Vec<&str> = must.split_whitespace().chain(should.split_whitespace()).collect();
        for word in &listed {
            assert!(meaning(word).is_some(), "{word}");
        }
        assert_eq!(listed.len(), WORDS.len());
    }
}
