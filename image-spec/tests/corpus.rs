//! The cases on which container tools differ, as `corpus/README.md` tells.
//!
//! Each is unpacked with one thread and with many; both must give the tree of the case, to the last attribute.
#![allow(clippy::print_stderr, reason = "what tools have learned is news, not a failure")]

#[path = "corpus/case.rs"]
mod case;
mod common;
#[path = "corpus/peers.rs"]
mod peers;

use case::{Case, Outcome, Promise};
use common::{Layout, is_root, skip, tree};
use keelbox_image_spec::{Devices, Durability, LinkedParent, Ownership, Result, Store, UnpackOptions, Unpacked};
use std::fs;
use std::path::{Path, PathBuf};

fn cases() -> Vec<Case> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut files: Vec<PathBuf> =
        fs::read_dir(directory).expect("the corpus").map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "case"));
    files.sort();
    let cases = files.iter().map(|path| {
        let name = path.file_stem().expect("a name").to_string_lossy();
        Case::parse(&name, &fs::read_to_string(path).expect("text"))
    });
    cases.collect()
}

fn options(with: &[String]) -> UnpackOptions {
    let start = UnpackOptions::new().durability(Durability::None);
    with.iter().fold(start, |options, word| match &**word {
        "replace" => options.docker_compat(),
        "refuse-links" => options.linked_parents(LinkedParent::Refuse),
        "strict" => options.strict(),
        "skip-devices" => options.devices(Devices::Skip),
        "placeholders" => options.devices(Devices::Placeholder),
        "refuse-devices" => options.devices(Devices::Refuse),
        other => panic!("unknown choice {other}"),
    })
}

/// The tree that a container sees, the root directory included.
fn seen(unpacked: &Unpacked) -> tree::Tree {
    let layers: Vec<PathBuf> = unpacked.layers().iter().map(|layer| layer.path().to_owned()).collect();
    let mut places = common::merged(&layers);
    places.insert(PathBuf::new(), layers.last().expect("a layer").clone());
    let mut tree = tree::read(places);
    let root = tree.get_mut(Path::new("")).expect("the root");
    (root.mode, root.owner) = (unpacked.root().mode, (unpacked.root().uid, unpacked.root().gid));
    tree
}

/// Takes away what an ordinary user cannot give, and what the case leaves open.
fn comparable(mut tree: tree::Tree, promised: &tree::Tree) -> tree::Tree {
    if !promised.contains_key(Path::new("")) {
        tree.remove(Path::new(""));
    }
    if let Some(root) = tree.get_mut(Path::new("")) {
        (root.mtime, root.xattrs) = ((0, 0), Default::default());
    }
    if !is_root() {
        tree.retain(|_, node| !matches!(node.kind, 'b' | 'c'));
        for (path, node) in &mut tree {
            // The root's owner is told apart from the disk.
            if path.as_os_str().is_empty() {
                continue;
            }
            node.owner = (0, 0);
            node.xattrs.retain(|name, _| name.starts_with(b"user."));
            if node.kind == 'd' {
                node.mode |= 0o700;
            }
            if node.mode & 0o400 == 0 && node.kind == 'f' {
                node.content.clear();
            }
        }
    }
    tree
}

fn check_outcome(case: &Case, outcome: &Outcome, layout: &Layout) {
    let name = format!("{} with {:?}", case.name, outcome.with);
    let unpack = |threads: usize| -> (Result<Unpacked>, tempfile::TempDir) {
        let directory = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(directory.path().join("store")).expect("a store");
        (options(&outcome.with).parallel(threads).unpack(&layout.open(), &store), directory)
    };
    match &outcome.result {
        Promise::Nothing => panic!("{name}: no outcome"),
        Promise::Error(kind, text) => {
            for threads in [1, 8] {
                let (result, directory) = unpack(threads);
                let error = result.map(drop).expect_err(&name);
                assert_eq!(&format!("{:?}", error.kind()), kind, "{name}: {error}");
                let whole = format!("{error}");
                assert!(whole.contains(text.as_str()), "{name}: {whole:?} does not say {text:?}");
                let left = fs::read_dir(directory.path().join("store/layers")).expect("list").count();
                assert_eq!(left, 0, "{name}: something is left");
            }
        }
        Promise::Tree(promised) => {
            let (one, _first) = unpack(1);
            let one = one.unwrap_or_else(|error| panic!("{name}: {error}"));
            let tree = seen(&one);
            let (many, _second) = unpack(8);
            let many = seen(&many.expect("as with one thread"));
            assert_eq!(tree::digest(&tree), tree::digest(&many), "{name}: the number of threads decides");
            let mut promised = promised.clone();
            if let Some(root) = promised.get_mut(Path::new("")) {
                root.mtime = (0, 0);
            }
            let promised = comparable(promised.clone(), &promised);
            let tree = comparable(tree, &promised);
            let (ours, wanted) = (tree::text(&tree), tree::text(&promised));
            assert!(ours == wanted, "{name}\n{ours}instead of\n{wanted}");
            check_notes(&name, outcome, &one);
        }
    }
}

fn check_notes(name: &str, outcome: &Outcome, unpacked: &Unpacked) {
    let read = |layer: &keelbox_image_spec::UnpackedLayer| {
        fs::read_to_string(layer.path().with_file_name("layer.idx")).expect("an index")
    };
    let text: String = unpacked.layers().iter().map(read).collect();
    for (word, path) in &outcome.notes {
        let found = text.lines().any(|line| {
            let mut words = line.split(' ');
            words.next() == Some(word) && path.as_deref().is_none_or(|path| words.next() == Some(path))
        });
        assert!(found, "{name}: no note {word} {path:?} in\n{text}");
    }
}

#[test]
fn every_case_has_its_outcome() {
    let cases = cases();
    assert!(cases.len() >= 36, "only {} cases", cases.len());
    for case in cases {
        let layout = Layout::of(&case.blobs());
        for outcome in &case.outcomes {
            check_outcome(&case, outcome, &layout);
        }
    }
}

/// What two tools can be asked to agree on: not the times of directories, which both set as they go, not the root, and
/// not where holes are.
fn common_part(mut tree: tree::Tree) -> tree::Tree {
    tree.remove(Path::new(""));
    for node in tree.values_mut() {
        node.data.clear();
        if node.kind == 'd' {
            node.mtime = (0, 0);
        }
    }
    tree
}

type Unpack = fn(&Layout) -> peers::Answer;

/// What a tool makes of a case, and whether the case says that it is as it should be.
fn compare(case: &Case, tool: &str, unpack: Unpack) -> Option<String> {
    let listed = case.right.iter().any(|right| right == tool);
    if !listed && !case.wrong.contains_key(tool) {
        return None;
    }
    let layout = Layout::of(&case.blobs());
    let ours = tree::text(&common_part(seen(&layout.unpack().ok()?)));
    let theirs = unpack(&layout)?.map(|tree| tree::text(&common_part(tree)));
    let same = theirs.as_ref().is_ok_and(|theirs| *theirs == ours);
    if !listed && same {
        // A newer one than Debian's may have learned it.
        eprintln!("{}: {tool} agrees by now", case.name);
    }
    (listed && !same).then(|| format!("{}: {tool}\n{ours}and not\n{}", case.name, theirs.unwrap_or_else(|error| error)))
}

#[test]
fn tools_that_are_right_agree() {
    if !is_root() {
        return skip("the tools need root to give files their owners");
    }
    let tools: [(&str, Unpack); 2] = [("umoci", peers::umoci), ("podman", peers::podman)];
    let installed = tools.into_iter().filter(|(tool, _)| peers::is_installed(tool));
    let cases = cases();
    let differences: Vec<String> =
        installed.flat_map(|(tool, unpack)| cases.iter().filter_map(move |case| compare(case, tool, unpack))).collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn refusals_do_not_depend_on_who_unpacked_first() {
    for (case, with) in [("15-one-path-twice", "strict"), ("01-parent-is-a-link-below", "refuse-links")] {
        let case = cases().into_iter().find(|known| known.name == case).expect("a case");
        let layout = Layout::of(&case.blobs());
        layout.unpack().expect("accepted");
        let error = options(&[with.to_owned()]).unpack(&layout.open(), &layout.store()).map(drop).unwrap_err();
        assert_eq!(error.kind(), keelbox_image_spec::ErrorKind::Format, "{error}");
        layout.unpack().expect("still accepted");
    }
}

#[test]
fn both_ways_to_unpack_lie_side_by_side() {
    let case = cases().into_iter().find(|case| case.name.starts_with("01")).expect("a case");
    let layout = Layout::of(&case.blobs());
    let keys = |with: &[&str]| {
        let with: Vec<String> = with.iter().map(|word| (*word).to_owned()).collect();
        let unpacked = options(&with).unpack(&layout.open(), &layout.store()).expect("valid");
        unpacked.layers().iter().map(|layer| layer.key().to_owned()).collect::<Vec<_>>()
    };
    let (follow, replace) = (keys(&[]), keys(&["replace"]));
    assert_eq!(follow[0], replace[0], "what depends on nothing is shared");
    assert_eq!(format!("{}.replace", follow[1]), replace[1]);
    layout.store().remove_layer(&replace[1]).expect("removed by its key");
    assert_eq!(layout.store().layers().expect("list").len(), 2);
}

#[test]
fn owners_in_an_attribute() {
    let case = Case::parse(
        "owners",
        "title owners\nlayer\n  dir d mode=0700 owner=5:6\n  file d/f text mode=4755 owner=7:8\n  link d/l f owner=1:1\n  \
         char null 1,3 mode=0666\nlayer\n  file d/g text\ntree\n  dir d\n",
    );
    let layout = Layout::of(&case.blobs());
    let options = UnpackOptions::new().durability(Durability::None).ownership(Ownership::Attribute);
    let unpacked = match options.devices(Devices::Placeholder).unpack(&layout.open(), &layout.store()) {
        Err(error) if error.kind() == keelbox_image_spec::ErrorKind::Unsupported => {
            return skip(&format!("no attributes in the temporary directory: {error}"));
        }
        other => other.expect("valid"),
    };
    let owner = |layer: usize, path: &str| {
        let value = common::xattr(&unpacked.layers()[layer].path().join(path), c"user.containers.override_stat");
        String::from_utf8(value.unwrap_or_default()).expect("text")
    };
    assert_eq!((owner(0, "d").as_str(), owner(0, "d/f").as_str()), ("5:6:0700", "7:8:4755"));
    assert_eq!(owner(0, "null"), "0:0:0666");
    assert_eq!((owner(1, "d").as_str(), owner(1, "d/g").as_str()), ("5:6:0700", "0:0:0644"), "as the layer below says");
    for (path, node) in seen(&unpacked).iter().filter(|(path, _)| !path.as_os_str().is_empty()) {
        let own = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        assert_eq!(node.owner, own, "{}", path.display());
    }
    let keys: Vec<&str> = unpacked.layers().iter().map(keelbox_image_spec::UnpackedLayer::key).collect();
    assert!(keys.iter().all(|key| key.ends_with(".devfile.stat")), "{keys:?}");
    let notes = unpacked.layers()[0].notes().expect("notes");
    assert!(notes.iter().any(|note| note.path == Path::new("d/l")), "a link cannot have the attribute: {notes:?}");
}

/// Runs itself again where `TMPDIR` is a file system that knows no attributes, in a mount namespace that ends with it.
#[test]
fn file_systems_that_cannot_hold_a_layer() {
    if std::env::var_os("KEELBOX_WITHOUT_ATTRIBUTES").is_none() {
        if !is_root() {
            return skip("only root may mount");
        }
        let directory = tempfile::tempdir().expect("temporary directory");
        let script = "mount -t ramfs none \"$TMPDIR\" && exec \"$0\" --exact file_systems_that_cannot_hold_a_layer";
        let status = std::process::Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", script])
            .arg(std::env::current_exe().expect("this program"))
            .env("TMPDIR", directory.path())
            .env("KEELBOX_WITHOUT_ATTRIBUTES", "1")
            .status();
        return match status {
            Ok(status) => assert!(status.success(), "without attributes: {status}"),
            Err(error) => skip(&format!("no unshare(1): {error}")),
        };
    }
    let parse = |text: &str| Layout::of(&Case::parse("ramfs", &format!("title x\nlayer\n{text}\ntree\n")).blobs());
    let opaque = parse("  dir d\n  file d/.wh..wh..opq");
    let error = opaque.unpack().map(drop).unwrap_err();
    assert_eq!(error.kind(), keelbox_image_spec::ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("directory d as opaque"), "{error}");
    let whiteout = parse("  file .wh.f");
    let unpacked = whiteout.unpack().expect("a deletion needs no attribute");
    assert!(common::is_whiteout(&unpacked.layers()[0].path().join("f")));
    let attribute = parse("  file f text xattr:user.a=b");
    let notes = attribute.unpack().expect("noted").layers()[0].notes().expect("notes");
    assert!(matches!(&notes[0].kind, keelbox_image_spec::NoteKind::Xattr(name) if name == "user.a"), "{notes:?}");
    let owners = UnpackOptions::new().durability(Durability::None).ownership(Ownership::Attribute);
    let error = owners.unpack(&whiteout.open(), &whiteout.store()).map(drop).unwrap_err();
    assert_eq!(error.kind(), keelbox_image_spec::ErrorKind::Unsupported, "{error}");
}

#[test]
fn everything_again_as_an_ordinary_user() {
    common::again_as_an_ordinary_user();
}
