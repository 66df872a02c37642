//! Every short layer over one base, against a model in memory that applies entries one after another.
//!
//! The model knows nothing of tries, layers or overlayfs: it has one map of paths, in which each node is from below or from
//! the layer. Where the order of entries decides and a layer cannot know that alone, the sequence is left out, see
//! `order_matters`.

mod common;

use common::{Layout, Tar};
use keelbox_image_spec::{Durability, Image, UnpackOptions};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One entry of the layer.
#[derive(Clone, Copy, Debug)]
enum Entry {
    File(&'static str),
    Directory(&'static str),
    Symlink(&'static str, &'static str),
    HardLink(&'static str, &'static str),
    Whiteout(&'static str),
    Opaque(&'static str),
}
use Entry::{Directory, File, HardLink, Opaque, Symlink, Whiteout};

const ENTRIES: [Entry; 19] = [
    File("a"),
    File("a/b"),
    File("d"),
    File("d/x"),
    File("d/new"),
    File("l/x"),
    File("l/s/z"),
    Directory("d"),
    Directory("d/s"),
    Directory("a"),
    Symlink("d", "e"),
    Symlink("a", "d"),
    HardLink("h", "a"),
    HardLink("h", "l/x"),
    Whiteout("a"),
    Whiteout("d"),
    Whiteout("l/y"),
    Whiteout("d/s"),
    Opaque("l"),
];

#[derive(Clone, Debug, Eq, PartialEq)]
enum Node {
    Directory,
    File(String),
    Symlink(String),
}

/// Paths with their nodes; true for those of the layer.
type State = BTreeMap<String, (Node, bool)>;

fn base() -> (Tar, State) {
    let directory = |path: &str| (path.to_owned(), (Node::Directory, false));
    let file = |path: &str| (path.to_owned(), (Node::File(format!("base {path}")), false));
    let state = State::from([
        file("a"),
        directory("d"),
        directory("d/s"),
        file("d/s/z"),
        file("d/x"),
        file("d/y"),
        directory("e"),
        file("e/y"),
        ("l".to_owned(), (Node::Symlink("d".to_owned()), false)),
    ]);
    let tar = state.iter().fold(Tar::new(), |tar, (path, (node, _))| match node {
        Node::Directory => tar.directory(path),
        Node::File(content) => tar.file(path, content),
        Node::Symlink(target) => tar.symlink(path, target),
    });
    (tar, state)
}

fn remove(state: &mut State, path: &str) {
    state.retain(|other, _| other != path && !other.starts_with(&format!("{path}/")));
}

/// The directory a path leads to, through links, made where it is missing. `Err` where a file is behind a link.
fn resolve(state: &mut State, path: &str) -> Result<String, ()> {
    let mut at = String::new();
    let mut pending: Vec<String> = path.split('/').rev().filter(|part| !part.is_empty()).map(str::to_owned).collect();
    let mut through_link = false;
    while let Some(name) = pending.pop() {
        let next = if at.is_empty() { name } else { format!("{at}/{name}") };
        match state.get(&next).map(|(node, _)| node.clone()) {
            Some(Node::Directory) => at = next,
            Some(Node::Symlink(target)) => {
                // All links here are at the top and lead to a name at the top.
                through_link |= !state[&next].1;
                pending.push(target);
            }
            Some(Node::File(_)) if through_link && state[&next].1 => return Err(()),
            found => {
                if found.is_some() {
                    remove(state, &next);
                }
                state.insert(next.clone(), (Node::Directory, true));
                at = next;
            }
        }
    }
    Ok(at)
}

fn place(state: &mut State, path: &str) -> Result<String, ()> {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let parent = resolve(state, parent)?;
    Ok(if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") })
}

/// Removes what is from below at and under `path`, but not a directory in which something of the layer lies.
fn hide(state: &mut State, path: &str, itself: bool) {
    let under = format!("{path}/");
    let kept: Vec<String> = state
        .iter()
        .filter(|(other, (_, upper))| *upper && other.starts_with(&under))
        .map(|(other, _)| other.clone())
        .collect();
    state.retain(|other, (_, upper)| {
        let inside = other.starts_with(&under) || (itself && other == path);
        !inside || *upper || kept.iter().any(|kept| kept.starts_with(&format!("{other}/")))
    });
}

fn apply(state: &mut State, entry: Entry, number: usize) -> Result<(), ()> {
    match entry {
        File(path) => {
            let path = place(state, path)?;
            remove(state, &path);
            state.insert(path, (Node::File(format!("entry {number}")), true));
        }
        Directory(path) => {
            let path = place(state, path)?;
            if !matches!(state.get(&path), Some((Node::Directory, _))) {
                remove(state, &path);
            }
            state.insert(path, (Node::Directory, true));
        }
        Symlink(path, target) => {
            let path = place(state, path)?;
            remove(state, &path);
            state.insert(path, (Node::Symlink(target.to_owned()), true));
        }
        HardLink(path, target) => {
            let mut scratch = state.clone();
            let target = place(&mut scratch, target)?;
            let node =
                state.get(&target).map(|(node, _)| node.clone()).filter(|node| *node != Node::Directory).ok_or(())?;
            let path = place(state, path)?;
            remove(state, &path);
            state.insert(path, (node, true));
        }
        Whiteout(path) => {
            let path = place(state, path)?;
            hide(state, &path, true);
        }
        Opaque(path) => {
            let path = resolve(state, path)?;
            hide(state, &path, false);
        }
    }
    Ok(())
}

/// Sequences in which an entry goes through something below, or links to it, that a later entry of the layer replaces.
/// Read one by one the earlier entry means the old thing; read as a layer it means the new one. No tool writes such layers.
fn order_matters(entries: &[Entry]) -> bool {
    let through_link =
        |entry: &Entry| matches!(entry, File("l/x" | "l/s/z") | Whiteout("l/y") | Opaque("l") | HardLink(_, "l/x"));
    let replaces_directory = |entry: &Entry| matches!(entry, File("d") | Symlink("d", _));
    let changes_link_target = |entry: &Entry| {
        matches!(
            entry,
            File("a" | "a/b" | "d/x" | "l/x") | Directory("a") | Symlink("a", _) | Whiteout("d") | Opaque("l")
        )
    };
    let later = |index: usize, test: &dyn Fn(&Entry) -> bool| entries[index + 1..].iter().any(test);
    let in_directory = |entry: &Entry| matches!(entry, Directory(_) | Whiteout("d/s") | File("d/x" | "d/new"));
    // One file under two names of which one leads through a link below.
    let alias = |path| entries.iter().any(|entry| matches!(entry, File(own) if *own == path));
    let linked = |entry: &Entry| matches!(entry, HardLink(_, "l/x"));
    if alias("l/x") && alias("d/x") && entries.iter().any(linked) {
        return true;
    }
    // Deletions in what is deleted, by way of a link: one by one they leave an empty directory, in a layer nothing.
    let nothing = |entry: &Entry| matches!(entry, Whiteout("l/y") | Opaque("l"));
    let replaced = |index: usize| entries[..index].iter().any(replaces_directory);
    entries.iter().enumerate().any(|(index, entry)| {
        (through_link(entry) && later(index, &replaces_directory))
            || (through_link(entry) && replaced(index) && later(index, &in_directory))
            || (matches!(entry, HardLink(..))
                && (later(index, &changes_link_target) || later(index, &replaces_directory)))
            || (matches!(entry, Whiteout("d")) && later(index, &nothing))
            || (matches!(entry, HardLink(..)) && later(index, &|entry: &Entry| matches!(entry, HardLink(..))))
    })
}

fn write(entries: &[Entry]) -> Tar {
    entries.iter().enumerate().fold(Tar::new(), |tar, (number, entry)| match *entry {
        File(path) => tar.file(path, &format!("entry {number}")),
        Directory(path) => tar.directory(path),
        Symlink(path, target) => tar.symlink(path, target),
        HardLink(path, target) => tar.hard_link(path, target),
        Whiteout(path) => {
            let (parent, name) =
                path.rsplit_once('/').map_or((String::new(), path), |(parent, name)| (format!("{parent}/"), name));
            tar.file(format!("{parent}.wh.{name}"), "")
        }
        Opaque(path) => tar.file(format!("{path}/.wh..wh..opq"), ""),
    })
}

/// What overlayfs shows of the layers, bottom first.
fn merged(layers: &[PathBuf]) -> BTreeMap<String, Node> {
    let tree = common::merged(layers).into_iter();
    tree.map(|(path, place)| (path.to_str().expect("text").to_owned(), read(&place))).collect()
}

fn read(path: &Path) -> Node {
    match fs::symlink_metadata(path).expect("stat") {
        metadata if metadata.is_dir() => Node::Directory,
        metadata if metadata.is_symlink() => {
            Node::Symlink(fs::read_link(path).expect("a link").to_str().expect("text").to_owned())
        }
        _ => Node::File(fs::read_to_string(path).expect("a file")),
    }
}

/// Unpacks the layer and compares; what differs goes to `wrong`. False if the sequence is left out.
fn check(layout: &Layout, base_tar: &Tar, base: &State, entries: &[Entry], wrong: &mut Vec<String>) -> bool {
    if order_matters(entries) {
        return false;
    }
    let mut state = base.clone();
    let expected = entries.iter().enumerate().try_for_each(|(number, entry)| apply(&mut state, *entry, number));
    let manifest = layout.add_image(&[common::plain(base_tar), common::plain(&write(entries))], "{}");
    layout.index(&[common::descriptor(common::MANIFEST, &manifest, "")]);
    let image = Image::open(&layout.source()).expect("valid");
    let unpacked = UnpackOptions::new().durability(Durability::None).parallel(1).unpack(&image, &layout.store());
    match (expected, unpacked) {
        (Err(()), Err(_)) => {}
        (Ok(()), Ok(unpacked)) => {
            let layers: Vec<PathBuf> = unpacked.layers().iter().map(|layer| layer.path().to_owned()).collect();
            let expected: BTreeMap<String, Node> = state.into_iter().map(|(path, (node, _))| (path, node)).collect();
            let found = merged(&layers);
            if found != expected {
                wrong.push(format!("{entries:?}:\n  expected {expected:?}\n  found    {found:?}"));
            }
            layout.store().remove_layer(unpacked.layers()[1].key()).expect("removed");
        }
        (expected, unpacked) => {
            wrong.push(format!("{entries:?}: the model says {expected:?}, but {:?}", unpacked.map(drop)));
        }
    }
    true
}

#[test]
fn all_layers_of_up_to_three_entries() {
    let (tar, state) = base();
    std::thread::scope(|scope| {
        for part in 0..2 {
            let (tar, state) = (&tar, &state);
            scope.spawn(move || {
                let layout = Layout::empty();
                let (mut checked, mut wrong) = (0, Vec::new());
                for (index, first) in ENTRIES.into_iter().enumerate() {
                    if index % 2 != part {
                        continue;
                    }
                    checked += u32::from(check(&layout, tar, state, &[first], &mut wrong));
                    for second in ENTRIES {
                        checked += u32::from(check(&layout, tar, state, &[first, second], &mut wrong));
                        for third in ENTRIES.iter().skip(index % 4).step_by(4) {
                            checked += u32::from(check(&layout, tar, state, &[first, second, *third], &mut wrong));
                        }
                    }
                }
                assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
                assert!(checked > 500, "only {checked} sequences were checked");
            });
        }
    });
}

/// The rules of `merged` are the kernel's: mounts a stack in a mount namespace of its own and compares.
#[test]
fn the_kernel_merges_layers_as_the_model_does() {
    let (tar, _) = base();
    let second = write(&[File("l/x"), Whiteout("a"), Directory("d/s"), Opaque("e"), File("e/new")]);
    let third = write(&[Whiteout("d"), File("d/only"), HardLink("h", "e/new"), Symlink("a", "d")]);
    let layout = Layout::tars(&[tar, second, third]);
    let unpacked = layout.unpack().expect("valid");
    let layers: Vec<PathBuf> = unpacked.layers().iter().map(|layer| layer.path().to_owned()).collect();
    let lower: Vec<String> = layers.iter().rev().map(|path| path.display().to_string()).collect();
    let target = layout.directory.path().join("mounted");
    fs::create_dir(&target).expect("mkdir");
    let options = format!("lowerdir={}{}", lower.join(":"), if unpacked.needs_userxattr() { ",userxattr" } else { "" });
    let script = "mount -t overlay overlay -o \"$1\" \"$2\" && cp -a \"$2\" \"$3\"";
    let copy = layout.directory.path().join("copy");
    let mut command = Command::new("unshare");
    if !common::is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let output = command.args(["--mount", "sh", "-c", script, "sh", &options]).arg(&target).arg(&copy).output();
    match output {
        Ok(output) if output.status.success() => {}
        Ok(output) => return common::skip(&format!("no overlay here: {}", String::from_utf8_lossy(&output.stderr))),
        Err(error) => return common::skip(&format!("no unshare(1): {error}")),
    }
    assert_eq!(merged(&[copy]), merged(&layers));
    assert_eq!(merged(&layers)["d/only"], Node::File("entry 1".to_owned()));
}

#[test]
fn everything_again_as_an_ordinary_user() {
    common::again_as_an_ordinary_user();
}
