//! Images that are changed: what is in new layers, what follows from a change, and what cannot be said is refused.

mod common;

use common::{Blob, GZIP, Layout, Tar, merged, picture, skip, xattr};
use keelbox_image_spec::{Changeset, Compression, Digest, Edit, ErrorKind, Image, Pick, Store};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

const EPOCH: i64 = 1_700_000_000;

struct Bench {
    directory: tempfile::TempDir,
    store: Store,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(directory.path().join("store")).expect("a store");
        Self { directory, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A directory with these files; what ends in a slash is a directory.
    fn tree(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let top = self.path(name);
        fs::create_dir_all(&top).expect("mkdir");
        for (path, content) in files {
            let path = top.join(path);
            if content.is_empty() && path.as_os_str().as_bytes().ends_with(b"/") {
                fs::create_dir_all(&path).expect("mkdir");
                continue;
            }
            fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
            fs::write(&path, content).expect("write");
        }
        top
    }

    fn files(&self, image: &Image) -> BTreeMap<PathBuf, String> {
        pictures(&self.unpacked(image))
    }

    fn unpacked(&self, image: &Image) -> BTreeMap<PathBuf, PathBuf> {
        let unpacked = image.unpack(&self.store).expect("unpacked");
        let layers: Vec<PathBuf> = unpacked.layers().iter().map(|layer| layer.path().to_owned()).collect();
        merged(&layers)
    }
}

/// Type, mode, owner, time, content of each path.
fn pictures(tree: &BTreeMap<PathBuf, PathBuf>) -> BTreeMap<PathBuf, String> {
    let one = |place: &PathBuf| {
        let text = common::picture_of(place);
        // Names in other layers count too, and are not what this is about.
        let (before, after) = text.split_once(" links ").expect("a picture");
        format!("{before} {}", after.split_once(' ').map_or("", |(_, rest)| rest))
    };
    tree.iter().map(|(path, place)| (path.clone(), one(place))).collect()
}

fn names(layer: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(layer);
    let entries = archive.entries().expect("an archive");
    entries.map(|entry| String::from_utf8_lossy(&entry.expect("an entry").path_bytes()).into_owned()).collect()
}

fn plain(bench: &Bench, image: &Image, index: usize) -> Vec<u8> {
    let image = image.edit().recompress(Compression::None).commit("plain:1").expect("recompressed");
    let digest = image.layers()[index].digest();
    fs::read(bench.store.path().join("blobs/sha256").join(digest.hex())).expect("the blob")
}

#[test]
fn the_design_s_program_runs_as_written() {
    let bench = Bench::new();
    let files = bench.tree("files", &[("index.html", "hi"), ("deep/er/file", "x"), ("bin/tool", "#!/bin/sh")]);
    fs::set_permissions(files.join("bin/tool"), fs::Permissions::from_mode(0o755)).expect("chmod");
    let store = &bench.store;
    let base = Changeset::new().bytes("/srv/old", "old", 0o600).bytes("/gone", "x", 0o644);
    Edit::scratch(store).add_layer(base).cmd(["sh"]).commit("app:1").expect("committed");
    let image = store
        .get("app:1")
        .expect("named")
        .edit()
        .entrypoint(["/app"])
        .env("A", "b")
        .add_dir(&files, "/srv")
        .squash(..)
        .commit("app:2")
        .expect("committed");
    assert_eq!(image.layers().len(), 1);
    assert_eq!((image.config().entrypoint(), image.config().cmd()), (&["/app".to_owned()][..], &["sh".to_owned()][..]));
    assert_eq!(image.config().env(), ["A=b"]);
    let all = bench.unpacked(&image);
    let paths: Vec<&str> = all.keys().map(|path| path.to_str().expect("text")).collect();
    assert_eq!(
        paths,
        [
            "gone",
            "srv",
            "srv/bin",
            "srv/bin/tool",
            "srv/deep",
            "srv/deep/er",
            "srv/deep/er/file",
            "srv/index.html",
            "srv/old"
        ]
    );
    assert_eq!(fs::metadata(&all[Path::new("srv/bin/tool")]).expect("stat").mode() & 0o7777, 0o755);
    assert_eq!(store.get("app:1").expect("still there").layers().len(), 1);
    let history: Vec<(Option<&str>, bool)> =
        image.config().history().iter().map(|entry| (entry.created_by.as_deref(), entry.empty_layer)).collect();
    assert_eq!(
        history,
        [
            (Some("CMD [\"sh\"]"), true),
            (Some("ENTRYPOINT [\"/app\"]"), true),
            (Some("ENV A=b"), true),
            (Some("2 layers squashed"), false)
        ]
    );
}

#[test]
fn the_same_input_makes_the_same_image() {
    let mut digests = Vec::new();
    for round in 0..2 {
        let bench = Bench::new();
        // Made in another order, at another place and time, with other holes.
        let mut files = vec![("b-c", "1"), ("b/x", "2"), ("b/y", "3"), ("a", "4"), ("Z", "5")];
        if round == 1 {
            files.reverse();
        }
        let tree = bench.tree("files", &files);
        fs::hard_link(tree.join("b/x"), tree.join("link")).expect("link");
        let sparse = fs::File::create(tree.join("sparse")).expect("file");
        if round == 0 {
            sparse.set_len(3 << 20).expect("truncate");
        } else {
            sparse.write_all_at(&vec![0; 3 << 20], 0).expect("write");
        }
        sparse.write_all_at(b"data", 2 << 20).expect("write");
        let image = Edit::scratch(&bench.store)
            .platform(keelbox_image_spec::Platform::new("linux", "amd64"))
            .epoch(EPOCH)
            .add_dir(&tree, "/data")
            .label("a", "b")
            .commit("x:1")
            .expect("committed");
        let layer = plain(&bench, &image, 0);
        assert_eq!(
            names(&layer),
            [
                "data/",
                "data/Z",
                "data/a",
                "data/b/",
                "data/b/x",
                "data/b/y",
                "data/b-c",
                "data/link",
                "GNUSparseFile.0/sparse"
            ]
        );
        assert!(layer.len() < 1 << 20, "the holes are not written: {}", layer.len());
        let place = &bench.unpacked(&image)[Path::new("data/sparse")];
        let content = fs::read(place).expect("read");
        assert_eq!((content.len(), &content[2 << 20..(2 << 20) + 4]), (3 << 20, &b"data"[..]));
        assert_eq!(fs::metadata(place).expect("stat").mtime(), EPOCH);
        assert_eq!(image.config().created(), Some("2023-11-14T22:13:20Z"));
        digests.push((image.manifest_digest().clone(), image.layers()[0].diff_id().clone()));
    }
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn squashing_changes_nothing_that_is_seen() {
    let layers = [
        Tar::new()
            .directory("usr")
            .directory("usr/lib")
            .file("usr/lib/a", "1")
            .symlink("lib", "usr/lib")
            .file("keep", "k"),
        Tar::new().file("lib/b", "2").file("usr/lib/.wh.a", "").directory("d").file("d/old", "o").file("f", "file"),
        Tar::new()
            .file(".wh.d", "")
            .directory("d")
            .file("d/new", "n")
            .file(".wh.f", "")
            .directory("f")
            .file("f/x", "x"),
        Tar::new().file("f/.wh..wh..opq", "").file("f/y", "y").file("e/.wh.none", "").hard_link("hard", "keep"),
    ];
    let layout = Layout::tars(&layers);
    let bench = Bench::new();
    let image = bench.store.add(&layout.open(), "base:1").expect("added");
    let before = bench.files(&image);
    for first in 0..4 {
        for end in first..=4 {
            let squashed = image.edit().squash(first..end).commit("base:2").expect("squashed");
            assert_eq!(squashed.layers().len(), 4 - (end - first).saturating_sub(1));
            let after = bench.files(&squashed);
            assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>(), "{first}..{end}");
            assert_eq!(after, before, "{first}..{end}");
        }
    }
    let top = image.edit().squash_top(2).commit("base:3").expect("squashed");
    assert_eq!(
        top.layers()[..2].iter().map(|l| l.digest()).collect::<Vec<_>>(),
        image.layers()[..2].iter().map(|l| l.digest()).collect::<Vec<_>>()
    );
    let error = image.edit().squash(3..9).commit("base:4").unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ErrorKind::Format, "there are no layers from 3 to 9: the image has 4")
    );
    assert!(bench.store.get("base:4").is_err());
}

#[test]
fn parents_have_what_they_have_below_and_links_are_followed() {
    let base = Tar::new()
        .directory("usr")
        .directory("usr/lib")
        .symlink("lib", "usr/lib")
        .entry(common::Header::new(b'5', "tmp").mode(0o1777).mtime(5), b"")
        .entry(common::Header::new(b'5', "priv").mode(0o700).owner(5, 6).mtime(7), b"");
    let layout = Layout::tars(&[base]);
    let bench = Bench::new();
    let image = bench.store.add(&layout.open(), "base:1").expect("added");
    let tree = bench.tree("files", &[("lib/new.so", "x"), ("tmp/file", "y"), ("priv/s", "z")]);
    let image = image.edit().add_dir(&tree, "/").commit("base:2").expect("committed");
    let layer = plain(&bench, &image, 1);
    assert_eq!(names(&layer), ["priv/", "priv/s", "tmp/", "tmp/file", "usr/", "usr/lib/", "usr/lib/new.so"]);
    let mut archive = tar::Archive::new(&layer[..]);
    let headers: Vec<_> =
        archive.entries().expect("archive").map(|entry| entry.expect("entry").header().clone()).collect();
    let of = |index: usize| {
        let header: &tar::Header = &headers[index];
        (
            header.mode().expect("mode"),
            header.uid().expect("uid"),
            header.gid().expect("gid"),
            header.mtime().expect("mtime"),
        )
    };
    assert_eq!((of(0), of(2)), ((0o700, 5, 6, 7), (0o1777, 0, 0, 5)));
    assert_eq!((of(1).1, of(1).2), (0, 0));
}

#[test]
fn names_and_numbers_that_a_header_cannot_hold() {
    let bench = Bench::new();
    let long = format!("{}/{}", "d".repeat(120), "n".repeat(200));
    let tree = bench.tree("files", &[(&long, "long"), ("umlaut-\u{fc}", "u")]);
    let odd = tree.join(std::ffi::OsStr::from_bytes(b"odd\xff\n"));
    fs::write(&odd, "odd").expect("write");
    symlink("t".repeat(300), tree.join("link")).expect("link");
    fs::write(tree.join("old"), "").expect("write");
    let time = std::time::UNIX_EPOCH - std::time::Duration::from_secs(5);
    fs::File::options().write(true).open(tree.join("old")).and_then(|file| file.set_modified(time)).expect("time");
    let image = Edit::scratch(&bench.store)
        .add_layer(Changeset::new().directory(&tree, "/").owner(3_000_000, 4_000_000_000))
        .commit("x:1")
        .expect("committed");
    let layer = plain(&bench, &image, 0);
    let mut archive = tar::Archive::new(&layer[..]);
    let found: BTreeMap<Vec<u8>, i64> = archive
        .entries()
        .expect("archive")
        .map(|entry| {
            let mut entry = entry.expect("entry");
            let path = entry.path_bytes().into_owned();
            let extensions = entry.pax_extensions().expect("pax").expect("owners do not fit");
            let records: Vec<(String, String)> = extensions
                .map(|record| record.expect("record"))
                .map(|record| {
                    (record.key().expect("key").into(), String::from_utf8_lossy(record.value_bytes()).into_owned())
                })
                .collect();
            assert!(
                records.contains(&("uid".into(), "3000000".into()))
                    && records.contains(&("gid".into(), "4000000000".into()))
            );
            (path, i64::from(records.iter().any(|(key, value)| key == "mtime" && value == "-5")))
        })
        .collect();
    assert_eq!(found[&b"old"[..]], 1);
    assert!(found.contains_key(&b"odd\xff\n"[..]) && found.contains_key(long.as_bytes()));
    let all = bench.unpacked(&image);
    assert_eq!(fs::read(&all[Path::new(&long)]).expect("read"), b"long");
    assert_eq!(fs::read_link(&all[Path::new("link")]).expect("link").as_os_str().len(), 300);
    if common::is_root() {
        let stat = fs::metadata(&all[Path::new("old")]).expect("stat");
        assert_eq!((stat.uid(), stat.gid(), stat.mtime()), (3_000_000, 4_000_000_000, -5));
    }
}

#[test]
fn the_upper_directory_of_an_overlay_becomes_a_layer() {
    let base = Tar::new().directory("d").file("d/old", "o").file("gone", "g").directory("o").file("o/hidden", "h");
    let layout = Layout::tars(&[base]);
    let bench = Bench::new();
    let image = bench.store.add(&layout.open(), "base:1").expect("added");
    let upper = bench.tree("upper", &[("d/new", "n"), ("o/seen", "s")]);
    let node = |name: &str| {
        nix::sys::stat::mknod(&upper.join(name), nix::sys::stat::SFlag::S_IFCHR, nix::sys::stat::Mode::empty(), 0)
    };
    if let Err(errno) = node("gone") {
        return skip(&format!("no whiteouts here: {errno}"));
    }
    let mark = |name: &str, key: &std::ffi::CStr, value: &[u8]| {
        let file = fs::File::open(upper.join(name)).expect("open");
        keelbox_launch::sys::xattr::fsetxattr(std::os::fd::AsFd::as_fd(&file), key, value).is_ok()
    };
    let opaque = if common::is_root() { c"trusted.overlay.opaque" } else { c"user.overlay.opaque" };
    if !mark("o", opaque, b"y") {
        return skip("no attributes on this file system");
    }
    let origin = if common::is_root() { c"trusted.overlay.origin" } else { c"user.overlay.origin" };
    assert!(mark("d", origin, b"\0\x01binary") && mark("d/new", c"user.kept", b"a=b\n"));
    let image = image.edit().epoch(EPOCH).add_layer(Changeset::from_upper(&upper)).commit("base:2").expect("committed");
    assert_eq!(names(&plain(&bench, &image, 1)), ["d/", "d/new", ".wh.gone", "o/", "o/.wh..wh..opq", "o/seen"]);
    let all = bench.unpacked(&image);
    let paths: Vec<&str> = all.keys().map(|path| path.to_str().expect("text")).collect();
    assert_eq!(paths, ["d", "d/new", "d/old", "o", "o/seen"]);
    assert_eq!(xattr(&all[Path::new("d/new")], c"user.kept").as_deref(), Some(&b"a=b\n"[..]));
    let redirect = if common::is_root() { c"trusted.overlay.redirect" } else { c"user.overlay.redirect" };
    assert!(mark("d", redirect, b"/elsewhere"));
    let error = image.edit().add_layer(Changeset::from_upper(&upper)).commit("base:3").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().ends_with("upper/d only refers to a lower directory (redirect)"), "{error}");
}

#[test]
fn the_difference_of_two_trees_makes_one_of_the_other() {
    let bench = Bench::new();
    let files = [
        ("same", "s"),
        ("content", "1"),
        ("mode", "m"),
        ("gone/deep", "g"),
        ("kind", "k"),
        ("dir/x", "x"),
        ("l1", "l"),
    ];
    let (old, new) = (bench.tree("old", &files), bench.tree("new", &files));
    for tree in [&old, &new] {
        for path in picture(tree).keys() {
            let file = fs::File::open(tree.join(path)).expect("open");
            file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000)).expect("time");
        }
    }
    fs::hard_link(new.join("l1"), new.join("l2")).expect("link");
    let keep = |name: &str| {
        let file = fs::File::open(new.join(name)).expect("open");
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000)).expect("time");
    };
    // The same length and time: only the content tells.
    fs::write(new.join("content"), "2").expect("write");
    keep("content");
    fs::set_permissions(new.join("mode"), fs::Permissions::from_mode(0o4755)).expect("chmod");
    fs::remove_dir_all(new.join("gone")).expect("remove");
    fs::remove_file(new.join("kind")).expect("remove");
    fs::create_dir(new.join("kind")).expect("mkdir");
    fs::write(new.join("dir/y"), "y").expect("write");
    let first = Edit::scratch(&bench.store).add_layer(Changeset::new().directory(&old, "/").keep_owners());
    let base = first.commit("x:1").expect("committed");
    let image = base.edit().add_layer(Changeset::between(&old, &new)).commit("x:2").expect("committed");
    assert_eq!(names(&plain(&bench, &image, 1)), ["content", "dir/", "dir/y", ".wh.gone", "kind/", "l1", "l2", "mode"]);
    let seen: BTreeMap<PathBuf, PathBuf> = merged(std::slice::from_ref(&new));
    let (ours, theirs) = (bench.files(&image), pictures(&seen));
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    if common::is_root() {
        let content = |all: &BTreeMap<PathBuf, String>, path: &str| all[Path::new(path)].clone();
        for path in ["same", "content", "mode", "dir/x", "dir/y", "l2"] {
            // Times are whole seconds in the image.
            let cut = |text: String| {
                text.split(' ').filter(|part| !part.contains('.')).map(str::to_owned).collect::<Vec<_>>()
            };
            assert_eq!(cut(content(&ours, path)), cut(content(&theirs, path)), "{path}");
        }
    }
    let nothing = image.edit().add_layer(Changeset::between(&new, &new)).commit("x:3").expect("committed");
    assert_eq!(nothing.layers().len(), 2, "no difference is no layer");
}

#[test]
fn another_base_under_what_was_added() {
    let bench = Bench::new();
    let base = |name: &str, content: &str, path: &str| {
        Edit::scratch(&bench.store)
            .add_layer(Changeset::new().bytes("/etc/os", content, 0o644))
            .env("PATH", path)
            .cmd(["sh"])
            .commit(name)
            .expect("committed")
    };
    let (old, new) = (base("base:1", "old", "/bin"), base("base:2", "new", "/usr/bin"));
    let new =
        new.edit().add_layer(Changeset::new().bytes("/etc/more", "m", 0o644)).commit("base:2").expect("committed");
    let app =
        old.edit().cmd(["app"]).add_layer(Changeset::new().bytes("/app", "a", 0o755)).commit("app:1").expect("app");
    let moved = app.edit().rebase(&old, &new).commit("app:2").expect("rebased");
    assert_eq!(moved.layers().len(), 3);
    assert_eq!(moved.layers()[2].digest(), app.layers()[1].digest());
    assert_eq!(
        (moved.config().env(), moved.config().cmd()),
        (&["PATH=/usr/bin".to_owned()][..], &["app".to_owned()][..])
    );
    let history: Vec<&str> = moved.config().history().iter().filter_map(|entry| entry.created_by.as_deref()).collect();
    assert_eq!(
        history,
        [
            "a layer of files",
            "ENV PATH=/usr/bin",
            "CMD [\"sh\"]",
            "a layer of files",
            "ENV PATH=/bin",
            "CMD [\"sh\"]",
            "CMD [\"app\"]",
            "a layer of files"
        ]
    );
    let manifest: serde_json::Value = serde_json::from_slice(moved.raw_manifest()).expect("JSON");
    assert_eq!(manifest["annotations"]["org.opencontainers.image.base.digest"], new.manifest_digest().to_string());
    assert_eq!(manifest["annotations"]["org.opencontainers.image.base.name"], "docker.io/library/base:2");
    let all = bench.unpacked(&moved);
    assert_eq!(fs::read(&all[Path::new("etc/os")]).expect("read"), b"new");
    let error = new.edit().rebase(&old, &new).commit("app:3").unwrap_err();
    assert!(error.to_string().starts_with("the image is not based on"), "{error}");
}

#[test]
fn recompressing_keeps_what_is_in_the_layers() {
    let bench = Bench::new();
    let big: Vec<u8> = (0..3_000_000u32).flat_map(|number| (number / 7).to_le_bytes()).collect();
    let image = Edit::scratch(&bench.store).add_layer(Changeset::new().bytes("/big", big.clone(), 0o644)).commit("x:1");
    let image = image.expect("committed");
    let ids: Vec<Digest> = image.layers().iter().map(|layer| layer.diff_id().clone()).collect();
    assert_eq!(image.layers()[0].media_type(), GZIP);
    // Several members of gzip; a reader of one stream gets all of them.
    let blob = fs::read(bench.store.path().join("blobs/sha256").join(image.layers()[0].digest().hex())).expect("read");
    let mut plain = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(&blob[..]), &mut plain).expect("gzip");
    assert_eq!(Digest::of(&plain), ids[0]);
    for (compression, media_type) in
        [(Compression::Zstd, common::ZSTD), (Compression::None, common::PLAIN), (Compression::Gzip, GZIP)]
    {
        let other = image.edit().recompress(compression).commit("x:2").expect("recompressed");
        assert_eq!(other.layers()[0].media_type(), media_type);
        assert_eq!(other.config().diff_ids(), ids);
        assert_eq!(fs::read(&bench.unpacked(&other)[Path::new("big")]).expect("read"), big);
        let again = other.edit().recompress(compression).commit("x:3").expect("nothing to do");
        assert_eq!(again.layers()[0].digest(), other.layers()[0].digest());
        let back = other.edit().recompress(Compression::Gzip).commit("x:4").expect("recompressed");
        assert_eq!(back.layers()[0].digest(), image.layers()[0].digest(), "always the same bytes");
    }
}

#[test]
fn recompressing_refuses_a_layer_that_is_not_what_it_should_be() {
    let bench = Bench::new();
    // Large enough that much of it is compressed before its digest is known.
    let tar = Tar::new().file("big", &"some content ".repeat(400_000));
    let uncompressed = Blob { diff_id: Digest::of(b"another"), ..common::plain(&tar) };
    let unknown = Blob { media_type: "application/x-secret", ..common::plain(&tar) };
    for (layer, kind) in [(uncompressed, ErrorKind::DigestMismatch), (unknown, ErrorKind::Unsupported)] {
        let layout = Layout::of(&[layer]);
        let edit = layout.open().edit().store(&bench.store).recompress(Compression::Gzip);
        let error = edit.commit("x:1").unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        for directory in ["ingest", "blobs/sha256"] {
            assert_eq!(fs::read_dir(bench.store.path().join(directory)).expect("list").count(), 0, "{directory}");
        }
    }
}

#[test]
fn archives_and_single_files_are_layers_too() {
    let bench = Bench::new();
    let tar = Tar::new().directory("a").file("a/f", "1").hard_link("a/g", "a/f").file(".wh.old", "");
    fs::write(bench.path("plain.tar"), tar.bytes()).expect("write");
    fs::write(bench.path("packed.tgz"), common::gzip(&tar.bytes())).expect("write");
    let base =
        Edit::scratch(&bench.store).add_layer(Changeset::new().bytes("/old", "o", 0o644).bytes("/keep", "k", 0o600));
    let base = base.commit("x:1").expect("committed");
    let plain =
        base.edit().epoch(0).add_layer(Changeset::from_archive(bench.path("plain.tar"))).commit("x:2").expect("tar");
    let packed =
        base.edit().epoch(0).add_layer(Changeset::from_archive(bench.path("packed.tgz"))).commit("x:3").expect("tgz");
    assert_eq!(plain.layers()[1].diff_id(), packed.layers()[1].diff_id());
    let paths = |image: &Image| bench.unpacked(image).keys().map(|path| path.display().to_string()).collect::<Vec<_>>();
    assert_eq!(paths(&plain), ["a", "a/f", "a/g", "keep"]);
    let below = Changeset::new().archive(bench.path("plain.tar"), "/opt");
    assert_eq!(paths(&base.edit().add_layer(below).commit("x:4").expect("below"))[..3], ["keep", "old", "opt"]);
    let tree = bench.tree("tree", &[("a", "1"), ("b/c", "2"), ("b/d", "3")]);
    symlink("/etc/passwd", tree.join("link")).expect("link");
    let files = Changeset::new().file(tree.join("link"), "/etc/link").file_below(&tree, "b/c", "/etc/c").mode(0o640);
    let image = base.edit().add_layer(files).commit("x:5").expect("files");
    let all = bench.unpacked(&image);
    assert_eq!(fs::read_link(&all[Path::new("etc/link")]).expect("still a link"), Path::new("/etc/passwd"));
    assert_eq!(fs::metadata(&all[Path::new("etc/c")]).expect("stat").mode() & 0o777, 0o640);
    let picked = Changeset::new().pick(&tree, "/p", |path| match path.to_str() {
        Some("b") => Pick::Look,
        Some("b/d") => Pick::Take,
        _ => Pick::Leave,
    });
    assert_eq!(paths(&base.edit().add_layer(picked).commit("x:6").expect("picked"))[2..], ["p", "p/b", "p/b/d"]);
}

#[test]
fn several_sources_of_one_image_are_as_one_after_another() {
    let bench = Bench::new();
    let bytes = |target: &str, text: &str| Changeset::new().bytes(target, text, 0o644);
    let one = Edit::scratch(&bench.store).add_layer(bytes("/d/a", "1").bytes("/d/b", "2", 0o600));
    let one =
        one.add_layer(Changeset::new().remove("/d/b").bytes("/c", "3", 0o755)).commit("one:1").expect("committed");
    let other = Edit::scratch(&bench.store).add_layer(bytes("/d/a", "other")).commit("other:1").expect("committed");
    let base = Edit::scratch(&bench.store).add_layer(bytes("/e/f", "4"));
    let sources = [(&one, "/d/a", "/e"), (&other, "/d/a", "/x"), (&one, "/c", "/y"), (&one, "/d", "/z")];
    let all = sources.iter().fold(Changeset::new(), |all, (image, from, to)| all.image(image, from, to));
    let all = base.clone().add_layer(all).epoch(EPOCH).commit("all:1").expect("committed");
    let each =
        |edit: Edit, (image, from, to): &(&Image, &str, &str)| edit.add_layer(Changeset::new().image(image, from, to));
    let single = sources.iter().fold(base, each).epoch(EPOCH).commit("single:1").expect("committed");
    assert_eq!(bench.files(&all), bench.files(&single));
    let unpacked = bench.unpacked(&all);
    for (path, text) in [("e/a", "1"), ("e/f", "4"), ("x", "other"), ("y", "3"), ("z/a", "1")] {
        assert_eq!(fs::read_to_string(&unpacked[Path::new(path)]).expect(path), text);
    }
    assert!(!unpacked.contains_key(Path::new("z/b")));
    let missing = Changeset::new().image(&one, "/c", "/y").image(&one, "/d/b", "/z");
    let error = Edit::scratch(&bench.store).add_layer(missing).commit("x:1").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

#[test]
fn what_means_nothing_is_refused_and_nothing_is_named() {
    let bench = Bench::new();
    let store = &bench.store;
    let tree = bench.tree("tree", &[(".wh.file", "x")]);
    let link = bench.path("link");
    symlink(&tree, &link).expect("link");
    fs::write(bench.path("no.tar"), "this is no archive, and so long that it might be one".repeat(20)).expect("write");
    let bytes = |target: &str| Changeset::new().bytes(target, "x", 0o644);
    let cases: Vec<(Edit, ErrorKind, &str)> = vec![
        (Edit::scratch(store).env("A=B", "c"), ErrorKind::Format, "the variable \"A=B\" means nothing"),
        (Edit::scratch(store).env("", "c"), ErrorKind::Format, "the variable"),
        (Edit::scratch(store).expose("70000"), ErrorKind::Format, "the port \"70000\""),
        (Edit::scratch(store).stop_signal("SIGNOTHING"), ErrorKind::Format, "SIGNOTHING"),
        (Edit::scratch(store).working_dir("relative"), ErrorKind::Format, "the path \"relative\""),
        (Edit::scratch(store).volume("data"), ErrorKind::Format, "the path \"data\""),
        (Edit::scratch(store).user("a:b:c"), ErrorKind::Format, "a:b:c"),
        (Edit::scratch(store).cmd(["a\0b"]), ErrorKind::Format, "the argument"),
        (Edit::scratch(store).label("", "x"), ErrorKind::Format, "the label"),
        (Edit::scratch(store).annotate("", "x"), ErrorKind::Format, "an annotation without a name"),
        (Edit::scratch(store).add_dir(bench.path("nothing"), "/"), ErrorKind::NotFound, "cannot open"),
        (
            Edit::scratch(store).add_dir(&tree, "/"),
            ErrorKind::Unsupported,
            "entry .wh.file: a file whose name begins with .wh.",
        ),
        (Edit::scratch(store).add_layer(bytes("/")), ErrorKind::Format, "/ is no path of a file"),
        (Edit::scratch(store).add_layer(Changeset::new().file(&tree, "/x")), ErrorKind::Format, "is a directory"),
        (
            Edit::scratch(store).add_layer(Changeset::new().file_below(bench.path("."), "link/.wh.file", "/x")),
            ErrorKind::Os(20),
            "cannot read",
        ),
        (
            Edit::scratch(store).add_layer(Changeset::from_archive(bench.path("no.tar"))),
            ErrorKind::Format,
            "no.tar: tar:",
        ),
        (Edit::scratch(store).add_layer(Changeset::from_archive("/dev/null")), ErrorKind::Format, "not a regular file"),
    ];
    for (edit, kind, text) in cases {
        let error = edit.commit("x:1").expect_err(text);
        assert!(error.to_string().contains(text), "{text}: {error}");
        assert_eq!(error.kind(), kind, "{error}");
        assert!(store.names().expect("names").is_empty());
        assert_eq!(fs::read_dir(store.path().join("ingest")).expect("list").count(), 0, "{text}: something is left");
    }
    let layout = Layout::tars(&[Tar::new().file("a", "b")]);
    assert_eq!(layout.open().edit().commit("x:1").unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(layout.open().edit().store(store).commit("x:1").expect("named").layers().len(), 1);
    assert_eq!(Edit::scratch(store).commit("UPPER").unwrap_err().kind(), ErrorKind::Format);
}

#[test]
fn everything_again_as_an_ordinary_user() {
    common::again_as_an_ordinary_user();
}
