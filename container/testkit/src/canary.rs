//! The canary: files of the host that lie outside every root file system, and must stay as they are.
//!
//! It notices writes, changed modes and owners, new links, removals and replacements. It does not notice reads.

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A directory tree of one file of each kind, and perhaps other files of the host, remembered as they are.
///
/// The tree: `file`, `secret` (0600), `program` (0755), `shared-a` and `shared-b` (one file, two names), `link` (to
/// `file`), `nowhere` (a dangling link), `pipe`, `directory/inner`.
///
/// ```
/// # fn main() -> keelbox_testkit::Result {
/// let canary = keelbox_testkit::HostCanary::new()?.also("/etc/passwd")?.also("/dev/null")?;
/// // code that must not touch the host: hostile archives, links out of a root file system, …
/// canary.assert_unchanged();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct HostCanary {
    tree: TempDir,
    others: Vec<PathBuf>,
    before: BTreeMap<PathBuf, String>,
}

impl HostCanary {
    /// Makes the tree in the directory for temporary files and remembers it.
    ///
    /// # Errors
    ///
    /// Any of making files.
    pub fn new() -> io::Result<Self> {
        let tree = crate::probe::open_directory("keelbox-canary-")?;
        let at = |name: &str| tree.path().join(name);
        for (name, mode) in [("file", 0o644), ("secret", 0o600), ("program", 0o755), ("shared-a", 0o644)] {
            fs::write(at(name), format!("the canary's {name}\n"))?;
            fs::set_permissions(at(name), Permissions::from_mode(mode))?;
        }
        fs::create_dir(at("directory"))?;
        fs::write(at("directory/inner"), "the canary's inner file\n")?;
        fs::hard_link(at("shared-a"), at("shared-b"))?;
        symlink("file", at("link"))?;
        symlink("/nowhere/at/all", at("nowhere"))?;
        mkfifo(&at("pipe"), Mode::from_bits_truncate(0o644))?;
        let mut canary = Self { tree, others: Vec::new(), before: BTreeMap::new() };
        canary.before = canary.picture()?;
        Ok(canary)
    }

    /// Remembers another file of the host, or a directory with all that is below it. It must exist.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn also(mut self, path: impl Into<PathBuf>) -> io::Result<Self> {
        self.others.push(path.into());
        self.before = self.picture()?;
        Ok(self)
    }

    /// Where the tree is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.tree.path()
    }

    /// Compares all with what was remembered.
    ///
    /// # Panics
    ///
    /// When anything changed, with both descriptions of each file that did.
    pub fn assert_unchanged(&self) {
        let after = self.picture().unwrap_or_else(|error| panic!("the canary cannot be read any more: {error}"));
        let mut paths: Vec<_> = self.before.keys().chain(after.keys()).collect();
        paths.sort_unstable();
        paths.dedup();
        let show = |facts: Option<&String>| facts.map_or("not there".to_owned(), Clone::clone);
        let changes: Vec<_> = paths
            .into_iter()
            .filter(|path| self.before.get(*path) != after.get(*path))
            .map(|path| {
                let (was, is) = (show(self.before.get(path)), show(after.get(path)));
                format!("{}\n  was: {was}\n  is:  {is}", path.display())
            })
            .collect();
        assert!(changes.is_empty(), "the host was changed:\n{}", changes.join("\n"));
    }

    fn picture(&self) -> io::Result<BTreeMap<PathBuf, String>> {
        let mut facts = BTreeMap::new();
        describe(self.path(), &mut facts)?;
        self.others.iter().try_for_each(|path| describe(path, &mut facts))?;
        Ok(facts)
    }
}

fn describe(path: &Path, facts: &mut BTreeMap<PathBuf, String>) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    let kind = found.file_type();
    let (mode, uid, gid, links) = (found.mode(), found.uid(), found.gid(), found.nlink());
    let mut text = format!("inode {} mode {mode:o} owner {uid}:{gid} links {links}", found.ino());
    if kind.is_char_device() || kind.is_block_device() {
        text += &format!(" device {:#x}", found.rdev());
    } else {
        let times = [(found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec())];
        let [mtime, ctime] = times.map(|(seconds, nanoseconds)| format!("{seconds}.{nanoseconds:09}"));
        text += &format!(" size {} mtime {mtime} ctime {ctime}", found.size());
    }
    if kind.is_file() {
        text += &format!(" content {:016x}", hash(&mut File::open(path)?)?);
    } else if kind.is_symlink() {
        text += &format!(" target {}", fs::read_link(path)?.display());
    }
    facts.insert(path.to_owned(), text);
    if kind.is_dir() {
        for entry in fs::read_dir(path)? {
            describe(&entry?.path(), facts)?;
        }
    }
    Ok(())
}

/// FNV-1a: a change is to be noticed, nobody is to be resisted.
fn hash(file: &mut File) -> io::Result<u64> {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut buffer = [0; 8192];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash),
            length => {
                for &byte in &buffer[..length] {
                    hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::catch_unwind;

    /// Does something to a fresh canary and tells whether it was noticed.
    fn notices(act: impl Fn(&Path) -> io::Result<()> + std::panic::RefUnwindSafe) -> bool {
        let canary = HostCanary::new().expect("a canary can be made");
        // The kernel's clock of files has ticks, up to 10 ms long: what changes within one has the times that it had.
        std::thread::sleep(std::time::Duration::from_millis(20));
        act(canary.path()).expect("the change can be made");
        catch_unwind(std::panic::AssertUnwindSafe(|| canary.assert_unchanged())).is_err()
    }

    #[test]
    fn what_is_only_read_is_unchanged() {
        assert!(!notices(|tree| fs::read(tree.join("file")).map(drop)));
        assert!(!notices(|tree| fs::read_dir(tree).map(drop)));
    }

    #[test]
    fn each_kind_of_change_is_noticed() {
        assert!(notices(|tree| fs::write(tree.join("file"), "x")));
        assert!(notices(|tree| fs::write(tree.join("link"), "x")));
        assert!(notices(|tree| fs::write(tree.join("directory/new"), "x")));
        assert!(notices(|tree| fs::remove_file(tree.join("nowhere"))));
        assert!(notices(|tree| fs::hard_link(tree.join("file"), tree.join("more"))));
        assert!(notices(|tree| fs::set_permissions(tree.join("secret"), Permissions::from_mode(0o644))));
        assert!(notices(|tree| fs::rename(tree.join("shared-a"), tree.join("shared-b"))
            .and_then(|()| fs::remove_file(tree.join("shared-b")))));
        assert!(notices(|tree| {
            let (text, path) = (fs::read(tree.join("file"))?, tree.join("file"));
            fs::remove_file(&path)?;
            fs::write(&path, text)
        }));
    }

    #[test]
    fn another_file_is_watched_too() {
        let other = tempfile::tempdir().expect("there is room for a directory");
        let file = other.path().join("file");
        fs::write(&file, "before").expect("the directory is ours");
        let canary = HostCanary::new().and_then(|canary| canary.also(&file)).expect("the file exists");
        canary.assert_unchanged();
        fs::write(&file, "after!").expect("the directory is ours");
        assert!(catch_unwind(std::panic::AssertUnwindSafe(|| canary.assert_unchanged())).is_err());
    }
}
