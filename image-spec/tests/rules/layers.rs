//! Layers: IS-60 to IS-72.

use super::*;
use common::{Blob, Canary, GZIP, Header, ZSTD, gzip, is_opaque, is_root, is_whiteout, picture, unpack_one, xattr};
use keelbox_image_spec::{Changeset, Compression, Edit, Limits};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// The names in a layer of this image.
fn names(store: &Store, image: &Image, index: usize) -> Vec<String> {
    let image = image.edit().recompress(Compression::None).commit("plain:1").expect("recompressed");
    let layer = stored(store, image.layers()[index].digest());
    let mut archive = tar::Archive::new(&layer[..]);
    let entries = archive.entries().expect("an archive");
    entries.map(|entry| String::from_utf8_lossy(&entry.expect("an entry").path_bytes()).into_owned()).collect()
}

fn write(top: &Path, files: &[(&str, &str)]) {
    for (path, content) in files {
        let path = top.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
        fs::write(path, content).expect("write");
    }
}

#[test]
fn is_60_no_path_is_twice_in_a_layer() {
    let (directory, store) = store();
    let tree = directory.path().join("tree");
    write(&tree, &[("d/a", "1"), ("d/b", "2")]);
    let layer = Changeset::new()
        .directory(&tree, "/")
        .bytes("/d/a", "3", 0o600)
        .directory(tree.join("d"), "/d")
        .bytes("d//./b", "4", 0o600)
        .make_directory("/d");
    let image = Edit::scratch(&store).add_layer(layer).commit("x:1").expect("made");
    assert_eq!(names(&store, &image, 0), ["d/", "d/a", "d/b"]);
    let view = image.unpack(&store).expect("unpacked").view().expect("a view");
    assert_eq!(view.read("d/b").expect("read"), b"4", "the last one counts");
}

#[test]
fn is_61_attributes_are_kept() {
    let mut header = Header::new(b'0', "f").mode(0o6751).owner(12, 34).mtime(1_234_567_890);
    // Names of users that there are, and are not meant.
    header.bytes(265, 32, b"bin").bytes(297, 32, b"daemon");
    let tar = Tar::new()
        .pax(&[("SCHILY.xattr.user.note", b"a=b\n\0c")])
        .entry(header, b"content")
        .entry(Header::new(b'2', "link").link("../nowhere").owner(5, 6).mtime(77), b"")
        .hard_link("hard", "f")
        .entry(Header::new(b'5', "d").mode(0o1711).mtime(99), b"");
    let (_layout, top) = unpack_one(tar).expect("unpacked");
    let stat = |name: &str| fs::symlink_metadata(top.join(name)).expect(name);
    let (file, link) = (stat("f"), stat("link"));
    assert_eq!((file.mode() & 0o7777, file.mtime(), file.nlink()), (0o6751, 1_234_567_890, 2));
    assert_eq!((file.ino(), link.mtime()), (stat("hard").ino(), 77));
    assert_eq!(fs::read_link(top.join("link")).expect("a link"), Path::new("../nowhere"));
    assert_eq!((stat("d").mode() & 0o7777, stat("d").mtime()), (0o1711, 99));
    if is_root() {
        assert_eq!((file.uid(), file.gid(), link.uid(), link.gid()), (12, 34, 5, 6));
    }
    match xattr(&top.join("f"), c"user.note") {
        Some(value) => assert_eq!(value, b"a=b\n\0c"),
        None => common::skip("no attributes on this file system"),
    }
}

#[test]
fn is_62_types_of_files() {
    let tar = Tar::new()
        .file("file", "x")
        .directory("directory")
        .symlink("symlink", "file")
        .entry(Header::new(b'6', "fifo"), b"")
        .hard_link("hard", "file");
    let (_layout, top) = unpack_one(tar).expect("unpacked");
    let kind = |name: &str| fs::symlink_metadata(top.join(name)).expect(name).file_type();
    assert!(kind("file").is_file() && kind("directory").is_dir() && kind("symlink").is_symlink());
    assert!(kind("fifo").is_fifo() && kind("hard").is_file());
    if is_root() {
        let block = Header::new(b'4', "block").device(8, 1);
        let (_layout, top) =
            unpack_one(Tar::new().entry(Header::new(b'3', "char").device(1, 3), b"").entry(block, b"")).expect("made");
        let stat = |name: &str| fs::symlink_metadata(top.join(name)).expect(name);
        assert!(stat("char").file_type().is_char_device() && stat("char").rdev() == 0x103);
        assert!(stat("block").file_type().is_block_device() && stat("block").rdev() == 0x801);
    }
    let sparse = [("GNU.sparse.major", &b"0"[..]), ("GNU.sparse.minor", b"1")];
    let map = [("GNU.sparse.map", &b"4096,2"[..]), ("GNU.sparse.size", b"8192")];
    let tar = Tar::new().pax(&[sparse, map].concat()).file("holes", "ab");
    let (_layout, top) = unpack_one(tar).expect("unpacked");
    let content = fs::read(top.join("holes")).expect("read");
    assert_eq!((content.len(), &content[4095..4099]), (8192, &b"\0ab\0"[..]));
    // No archive has a type for sockets: one in a directory is refused, by name.
    let (directory, store) = store();
    let _socket = std::os::unix::net::UnixListener::bind(directory.path().join("socket")).expect("a socket");
    let layer = Changeset::new().file(directory.path().join("socket"), "/run/socket");
    let error = Edit::scratch(&store).add_layer(layer).commit("x:1").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("socket"), "{error}");
}

#[test]
fn is_63_a_layer_over_another() {
    let lower = Tar::new()
        .entry(Header::new(b'5', "d").mode(0o755), b"")
        .file("d/keep", "lower")
        .directory("tree")
        .file("tree/deep", "")
        .file("plain", "lower")
        .symlink("link", "plain");
    let upper = Tar::new()
        .entry(Header::new(b'5', "d").mode(0o700).mtime(5), b"")
        .file("tree", "now a file")
        .directory("plain")
        .file("plain/in", "")
        .file("link", "now a file");
    let layout = Layout::tars(&[lower, upper]);
    let unpacked = layout.unpack().expect("unpacked");
    let view = unpacked.view().expect("a view");
    let directory = fs::metadata(unpacked.layers()[1].path().join("d")).expect("stat");
    assert_eq!((directory.mode() & 0o7777, directory.mtime()), (0o700, 5), "its attributes are replaced");
    assert_eq!(view.read("d/keep").expect("its content stays"), b"lower");
    assert_eq!(view.read("tree").expect("a file"), b"now a file");
    assert!(view.exists("plain/in").expect("looked") && !view.exists("tree/deep").expect("looked"));
    assert_eq!(view.read("link").expect("a file"), b"now a file");
    // Within one layer too, and without following the link.
    let canary = Canary::new();
    let again = Tar::new().symlink("x", canary.bytes()).directory("x").file("x/file", "inside");
    let (_layout, top) = unpack_one(again).expect("unpacked");
    assert_eq!(fs::read(top.join("x/file")).expect("read"), b"inside");
    canary.check();
}

#[test]
fn is_64_a_whiteout_removes_from_below() {
    let lower = Tar::new().file("f", "x").directory("d").file("d/in", "").file("stays", "");
    let upper = Tar::new().file(".wh.f", "").file(".wh.d", "").file(".wh.nothing", "");
    assert_eq!(seen(&[lower.clone(), upper.clone()], ["f", "d", "d/in", "stays"]), [false, false, false, true]);
    assert_eq!(seen(&[lower.clone(), upper.clone(), Tar::new().file("f", "new")], ["f", "d"]), [true, false]);
    let layout = Layout::tars(&[lower, upper]);
    let unpacked = layout.unpack().expect("unpacked");
    let names: Vec<_> = picture(unpacked.layers()[1].path()).into_keys().collect();
    assert!(names.iter().all(|name| !name.display().to_string().contains(".wh.")), "{names:?}");
    assert!(is_whiteout(&unpacked.layers()[1].path().join("f")));
}

#[test]
fn is_65_a_whiteout_of_nothing_is_an_error() {
    for name in [".wh.", "d/.wh."] {
        assert_eq!(outcome(unpack_one(Tar::new().file(name, ""))), Err(ErrorKind::Format), "{name}");
    }
    // A whiteout that is made names what it hides, in the directory where that was.
    let (_directory, store) = store();
    let base = Changeset::new().bytes("/d/gone", "", 0o644).bytes("/d/kept", "", 0o644);
    let base = Edit::scratch(&store).add_layer(base).commit("x:1").expect("made");
    let image = base.edit().add_layer(Changeset::new().remove("/d/gone")).commit("x:2").expect("made");
    assert!(names(&store, &image, 1).contains(&"d/.wh.gone".to_owned()));
}

#[test]
fn is_66_an_opaque_directory_hides_what_lies_below_wherever_its_mark_stands() {
    let lower = Tar::new().directory("d").file("d/old", "").directory("d/sub").file("d/sub/old", "");
    let mark = |tar: Tar| tar.file("d/.wh..wh..opq", "");
    for upper in [
        mark(Tar::new()).directory("d").file("d/new", ""),
        mark(Tar::new().directory("d")).file("d/new", ""),
        mark(Tar::new().directory("d").file("d/new", "")),
    ] {
        let layers = [lower.clone(), upper];
        assert_eq!(seen(&layers, ["d", "d/new", "d/old", "d/sub/old"]), [true, true, false, false]);
        let layout = Layout::tars(&layers);
        let unpacked = layout.unpack().expect("unpacked");
        assert!(is_opaque(&unpacked.layers()[1].path().join("d")));
        assert!(!unpacked.layers()[1].path().join("d/.wh..wh..opq").exists());
    }
    // One for each name means the same.
    let explicit = Tar::new().directory("d").file("d/.wh.old", "").file("d/.wh.sub", "").file("d/new", "");
    assert_eq!(seen(&[lower, explicit], ["d/new", "d/old", "d/sub/old"]), [true, false, false]);
}

#[test]
fn is_67_files_of_the_same_layer_are_not_hidden() {
    let lower = Tar::new().file("f", "lower").directory("d").file("d/old", "");
    for upper in [Tar::new().file("f", "upper").file(".wh.f", ""), Tar::new().file(".wh.f", "").file("f", "upper")] {
        let layout = Layout::tars(&[lower.clone(), upper]);
        let view = layout.unpack().expect("unpacked").view().expect("a view");
        assert_eq!(view.read("f").expect("read"), b"upper");
    }
    for upper in [
        Tar::new().file(".wh.d", "").directory("d").file("d/new", ""),
        Tar::new().directory("d").file("d/new", "").file(".wh.d", ""),
    ] {
        assert_eq!(seen(&[lower.clone(), upper], ["d/new", "d/old"]), [true, false]);
    }
}

#[test]
fn is_68_whiteouts_that_are_made_are_explicit() {
    let (directory, store) = store();
    let [old, new] = ["old", "new"].map(|name| directory.path().join(name));
    write(&old, &[("d/a", "1"), ("d/b", "2"), ("gone/deep", "3")]);
    write(&new, &[("d/c", "4")]);
    let base = Edit::scratch(&store).add_layer(Changeset::new().directory(&old, "/")).commit("x:1").expect("made");
    let image = base.edit().add_layer(Changeset::between(&old, &new)).commit("x:2").expect("made");
    let names = names(&store, &image, 1);
    for name in ["d/.wh.a", "d/.wh.b", ".wh.gone"] {
        assert!(names.iter().any(|other| other == name), "{names:?}");
    }
    assert!(!names.iter().any(|name| name.ends_with(".wh..wh..opq")), "{names:?}");
}

#[test]
fn is_69_members_and_frames_are_read_one_after_another() {
    let tar = Tar::new().file("a", &"text ".repeat(1000)).bytes();
    let (first, second) = tar.split_at(777);
    let unpacked = |content: Vec<u8>, media_type| {
        let layout = Layout::of(&[Blob { diff_id: Digest::of(&tar), content, media_type }]);
        outcome(layout.unpack())
    };
    assert_eq!(unpacked([gzip(first), gzip(second)].concat(), GZIP), Ok(()));
    assert_eq!(unpacked(gzip(first), GZIP), Err(ErrorKind::Format), "a part of it");
    if cfg!(feature = "zstd") {
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        let frame = |bytes: &[u8]| ruzstd::encoding::compress_to_vec(bytes, level);
        let skippable = [&0x184D_2A53_u32.to_le_bytes()[..], &4_u32.to_le_bytes(), b"skip"].concat();
        assert_eq!(unpacked([frame(first), frame(second)].concat(), ZSTD), Ok(()));
        let between = [skippable.clone(), frame(first), skippable.clone(), frame(second), skippable].concat();
        assert_eq!(unpacked(between, ZSTD), Ok(()));
    }
}

#[test]
fn is_71_a_snapshot_is_told_by_whole_files_and_whiteouts() {
    let (directory, store) = store();
    let [old, new] = ["old", "new"].map(|name| directory.path().join(name));
    write(&old, &[("same", "s"), ("changed", "before"), ("gone", "g"), ("d/in", "i")]);
    write(&new, &[("same", "s"), ("changed", "before and after"), ("added", "a"), ("d/in", "i")]);
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000);
    for tree in [&old, &new] {
        for path in picture(tree).keys() {
            fs::File::open(tree.join(path)).and_then(|file| file.set_modified(time)).expect("time");
        }
    }
    let before = [picture(&old), picture(&new)];
    let base = Edit::scratch(&store).add_layer(Changeset::new().directory(&old, "/")).commit("x:1").expect("made");
    let image = base.edit().add_layer(Changeset::between(&old, &new)).commit("x:2").expect("made");
    let mut names = names(&store, &image, 1);
    names.sort();
    assert_eq!(names, [".wh.gone", "added", "changed"]);
    let view = image.unpack(&store).expect("unpacked").view().expect("a view");
    assert_eq!(view.read("changed").expect("read"), b"before and after");
    assert!(!view.exists("gone").expect("looked") && view.exists("d/in").expect("looked"));
    assert_eq!([picture(&old), picture(&new)], before, "neither tree is changed");
    let lower = base.unpack(&store).expect("unpacked").view().expect("a view");
    assert_eq!(lower.read("gone").expect("the origin has it"), b"g");
}

#[test]
fn is_72_nothing_leads_out_of_a_layer() {
    let canary = Canary::new();
    let target = canary.path().display().to_string();
    for tar in [
        Tar::new().file(format!("../../../../../../../..{target}/file"), "evil"),
        Tar::new().file(format!("{target}/file"), "evil"),
        Tar::new().symlink("x", &target).file("x/file", "evil"),
        Tar::new().symlink("x", "../../../../../../..").file(format!("x{target}/file"), "evil"),
        Tar::new().symlink("x", &target).hard_link("y", "x/file").file("y", "evil"),
        Tar::new().hard_link("y", format!("{target}/file")).file("y", "evil"),
        Tar::new().symlink("x", &target).file("x/.wh.file", "").file("x/.wh..wh..opq", ""),
    ] {
        // Refused or kept inside; the canary tells.
        let _ = unpack_one(tar);
        canary.check();
    }
    let hundred = (0..100).fold(Tar::new(), |tar, index| tar.file(format!("f{index}"), ""));
    let layout = Layout::tars(&[hundred]);
    assert_eq!(outcome(layout.unpack_within(Limits::default().entries(99))), Err(ErrorKind::Limit));
    assert_eq!(outcome(layout.unpack_within(Limits::default().layer_bytes(10_000))), Err(ErrorKind::Limit));
    assert_eq!(outcome(layout.unpack_within(Limits::default().entries(100))), Ok(()));
}
