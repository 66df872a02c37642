//! The options of one OCI mount, read into what they ask for. Needs no kernel.
//!
//! Rules where options contradict each other: of opposite words (`ro`, `rw`) the last counts, and so it does among the kinds of
//! access times. A word without `r` in front is for the mount itself, one with it for all mounts below too. `rw`, `suid`, `dev`
//! and the like take nothing away from a bind's source: they only cancel an earlier word; `rrw` and the like do clear.

use keelbox_launch::text;

use crate::attribute::{Change, Propagation, Reach, attributes_of};
use crate::words::{WORDS, Word, meaning};
use crate::{Error, ErrorKind};

/// What the `options` of one entry of OCI `mounts` ask for.
///
/// Words that nobody knows are for the file system and stay, in their order, its [`data`](Self::data).
///
/// ```
/// use keelbox_mounts::MountOptions;
/// let options = MountOptions::parse(&["nosuid", "noexec", "newinstance", "mode=0620"])?;
/// assert_eq!(options.data(), "newinstance,mode=0620");
/// assert!(!options.is_bind());
/// # Ok::<(), keelbox_mounts::Error>(())
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct MountOptions {
    pub(crate) bind: Option<Reach>,
    pub(crate) remount: bool,
    /// `MS_*`.
    pub(crate) flags: u64,
    /// `MS_*` that were asked not to be, and last so.
    pub(crate) cleared: u64,
    pub(crate) recursive: Change,
    pub(crate) propagation: Vec<(Propagation, Reach)>,
    pub(crate) idmap: Option<Reach>,
    pub(crate) copy_up: bool,
    data: String,
}

/// The kinds of access times, of which one counts.
const ATIME: u64 = libc::MS_NOATIME | libc::MS_RELATIME | libc::MS_STRICTATIME;

impl MountOptions {
    /// Reads `options`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] where they contradict each other: `idmap` without a bind, `tmpcopyup` with one, options of a file
    /// system with a bind. [`ErrorKind::InvalidValue`] for an option with a NUL.
    pub fn parse(options: &[impl AsRef<str>]) -> Result<Self, Error> {
        let mut parsed = Self::default();
        for option in options.iter().map(AsRef::as_ref) {
            match meaning(option) {
                Some(word) => parsed.take(word),
                None => parsed.take_data(option)?,
            }
        }
        parsed.check()?;
        Ok(parsed)
    }

    /// Every word that [`parse`](Self::parse) knows, as the OCI `features` list them.
    pub fn known() -> impl Iterator<Item = &'static str> {
        WORDS.into_iter().map(|(name, _)| name)
    }

    /// What is for the file system: joined by commas, as `mount(2)` takes it.
    #[must_use]
    pub fn data(&self) -> &str {
        &self.data
    }

    /// Whether they ask for a bind.
    #[must_use]
    pub fn is_bind(&self) -> bool {
        self.bind.is_some()
    }

    /// Whether they ask for mapped ids: then the caller gives the mount a user namespace to map by.
    #[must_use]
    pub fn is_idmapped(&self) -> bool {
        self.idmap.is_some()
    }

    fn take(&mut self, word: Word) {
        match word {
            Word::Nothing => {}
            Word::CopyUp => self.copy_up = true,
            Word::Flag(flag) => {
                if flag & ATIME != 0 {
                    self.flags &= !ATIME;
                }
                self.flags |= flag;
                self.cleared &= !flag;
            }
            Word::NoFlag(flag) => {
                self.flags &= !flag;
                self.cleared |= flag;
            }
            Word::Recursive(attribute) => self.recursive.add(attribute),
            Word::NotRecursive(attribute) => self.recursive.remove(attribute),
            Word::Propagate(kind, reach) => self.propagation.push((kind, reach)),
            Word::Bind(_) if self.bind == Some(Reach::Tree) => {}
            Word::Bind(reach) => self.bind = Some(reach),
            Word::Remount => self.remount = true,
            Word::IdMap(reach) => self.idmap = Some(reach),
        }
    }

    fn take_data(&mut self, option: &str) -> Result<(), Error> {
        if option.contains('\0') {
            let attempt = format!("cannot use mount option {option:?}: it has a NUL");
            return Err(Error::new(ErrorKind::InvalidValue, attempt));
        }
        if !option.is_empty() {
            if !self.data.is_empty() {
                self.data.push(',');
            }
            self.data.push_str(option);
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Error> {
        let conflict = |what: &str| Err(Error::new(ErrorKind::Conflict, format!("cannot use mount options: {what}")));
        match self {
            Self { idmap: Some(_), bind: None, .. } => conflict("idmap is for a bind"),
            Self { copy_up: true, bind: Some(_), .. } => conflict("tmpcopyup is not for a bind"),
            Self { copy_up: true, remount: true, .. } => conflict("tmpcopyup is not for a remount"),
            Self { idmap: Some(_), remount: true, .. } => conflict("idmap is not for a remount"),
            Self { bind: Some(_), remount: false, data, .. } if !data.is_empty() => {
                conflict(&format!("a bind has no options of a file system ({data})"))
            }
            _ => Ok(()),
        }
    }

    /// The attributes of the mount itself.
    pub(crate) fn own(&self) -> Change {
        attributes_of(self.flags).collect()
    }

    pub(crate) fn data_text(&self) -> std::ffi::CString {
        text(&self.data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &str) -> MountOptions {
        let options: Vec<&str> = options.split(' ').collect();
        MountOptions::parse(&options).expect("they are options")
    }

    #[test]
    fn the_last_of_opposite_words_counts() {
        assert_eq!(parse("ro rw").flags, 0);
        assert_eq!(parse("rw ro").flags, libc::MS_RDONLY);
        assert_eq!(parse("noatime strictatime").flags, libc::MS_STRICTATIME);
        assert_eq!(parse("strictatime relatime noatime").flags, libc::MS_NOATIME);
        assert_eq!(parse("rro rrw").recursive, Change { set: 0, clear: 1 });
        assert_eq!(parse("rrw rro rnosuid").recursive, Change { set: 3, clear: 0 });
    }

    #[test]
    fn a_recursive_bind_stays_recursive() {
        for options in ["rbind", "bind rbind", "rbind bind"] {
            assert_eq!(parse(options).bind, Some(Reach::Tree), "{options}");
        }
        assert_eq!(parse("bind").bind, Some(Reach::Mount));
    }

    #[test]
    fn contradictions_are_refused() {
        let table: [(&[&str], ErrorKind); 7] = [
            (&["idmap"], ErrorKind::Conflict),
            (&["ridmap", "ro"], ErrorKind::Conflict),
            (&["bind", "idmap", "remount"], ErrorKind::Conflict),
            (&["bind", "size=1m"], ErrorKind::Conflict),
            (&["tmpcopyup", "rbind"], ErrorKind::Conflict),
            (&["tmpcopyup", "remount"], ErrorKind::Conflict),
            (&["a\0b"], ErrorKind::InvalidValue),
        ];
        for (options, kind) in table {
            assert_eq!(MountOptions::parse(options).expect_err("it is refused").kind(), kind, "{options:?}");
        }
    }

    #[test]
    fn every_word_alone_leaves_no_data() {
        for word in MountOptions::known().filter(|word| !word.ends_with("idmap")) {
            let options = MountOptions::parse(&[word]).expect("it is known");
            assert_eq!(options.data(), "", "{word}");
            assert!(word == "defaults" || options != MountOptions::default(), "{word} asks for something");
        }
    }

    /// A small generator of pseudo-random numbers (xorshift), so that the property below needs no further crate.
    fn numbers(mut seed: u64) -> impl FnMut(usize) -> usize {
        move |below| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed % below as u64) as usize
        }
    }

    #[test]
    fn data_keeps_its_order_and_words_never_become_data() {
        let data = ["mode=755", "size=64k", "newinstance", "gid=5", "x", "nr_inodes=2"];
        let words: Vec<&str> = MountOptions::known()
            .filter(|word| !["bind", "idmap", "copyup"].iter().any(|end| word.ends_with(end)))
            .collect();
        let mut number = numbers(0x1234_5678_9abc_def1);
        for _round in 0..2000 {
            let mut options = Vec::new();
            let mut expected = Vec::new();
            for _option in 0..number(12) {
                if number(2) == 0 {
                    options.push(words[number(words.len())]);
                } else {
                    options.push(data[number(data.len())]);
                    expected.push(*options.last().expect("one was pushed"));
                }
            }
            let parsed = MountOptions::parse(&options).expect("nothing contradicts");
            assert_eq!(parsed.data(), expected.join(","), "{options:?}");
            assert_eq!(parsed.flags & parsed.cleared, 0, "{options:?}");
            assert!((parsed.flags & ATIME).count_ones() <= 1, "{options:?}");
            assert_eq!(parsed.recursive.set & parsed.recursive.clear & !0x70, 0, "{options:?}");
        }
    }

    #[test]
    fn only_the_last_word_of_each_pair_matters() {
        let pairs = [("ro", "rw"), ("nosuid", "suid"), ("nodev", "dev"), ("noexec", "exec"), ("sync", "async")];
        let mut number = numbers(77);
        for _round in 0..500 {
            let options: Vec<&str> = (0..1 + number(10))
                .map(|_| {
                    let (no, yes) = pairs[number(pairs.len())];
                    if number(2) == 0 { no } else { yes }
                })
                .collect();
            let mut reduced: Vec<&str> = Vec::new();
            for (no, yes) in pairs {
                reduced.extend(options.iter().rev().find(|word| [no, yes].contains(*word)));
            }
            let (all, last) = (MountOptions::parse(&options), MountOptions::parse(&reduced));
            assert_eq!(all.expect("they parse"), last.expect("they parse"), "{options:?}");
        }
    }
}
