//! Hostile and odd layers: the tar classes of the threat model, and the cases on which container tools differ.

mod common;

use common::{
    Blob, Canary, GZIP, Header, Layout, PLAIN, Tar, gzip, is_opaque, is_root, is_whiteout, plain, unpack_one, xattr,
};
use keelbox_image_spec::{Digest, ErrorKind, Limits, NoteKind};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

#[test]
fn names_never_lead_out() {
    let canary = Canary::new();
    let up = format!("{}{}/file", "../".repeat(20), canary.path().display());
    let absolute = format!("{}/file", canary.path().display());
    for name in [
        &up[..],
        &absolute,
        "../x",
        "/x",
        "a/../../x",
        "./../x",
        "..//x",
        "a/./../../x",
        "a/b/../../../x",
        "x/../../../x",
        "//x",
        "/../x",
        "....//x",
        "..\\x",
        "a\\..\\..\\x",
        "./x",
        "x/./",
        "../../../../../../../../../../../../x",
        "a/..b/x",
        "...",
        "a//b",
    ] {
        let (_layout, fs_root) =
            unpack_one(Tar::new().pax(&[("path", name.as_bytes())]).file("x", "evil")).expect(name);
        let relative = name.trim_start_matches("../").trim_start_matches('/');
        if !relative.contains("..") && !relative.ends_with('/') {
            assert_eq!(fs::read(fs_root.join(relative)).expect(name), b"evil", "{name}");
        }
    }
    canary.check();
}

#[test]
fn links_inside_the_layer_are_followed_inside_the_layer() {
    let canary = Canary::new();
    let outside = canary.path().display().to_string();
    for target in [
        &outside[..],
        &format!("../../../../../../..{outside}"),
        &format!("/proc/self/root{outside}"),
        &format!("/proc/1/root{outside}"),
    ] {
        for kind in [b'0', b'5', b'2', b'6'] {
            let tar = Tar::new().symlink("l", target).entry(Header::new(kind, "l/sub").link("x"), b"");
            let (_layout, fs_root) = unpack_one(tar.file("l/file", "evil")).expect(target);
            let inside = fs_root.join(target.trim_start_matches("../").trim_start_matches('/'));
            assert_eq!(fs::read(inside.join("file")).expect("in the layer"), b"evil");
            assert!(fs::symlink_metadata(fs_root.join("l")).expect("still there").is_symlink());
        }
        let (_layout, fs_root) = unpack_one(
            Tar::new().symlink("l", target).file("l/.wh.file", "").directory("l/sub").file("l/sub/.wh..wh..opq", ""),
        )
        .expect(target);
        // No layer below has the directory, so all there is to hide is everything.
        let inside = fs_root.join(target.trim_start_matches("../").trim_start_matches('/'));
        assert!(is_opaque(&inside) && is_opaque(&inside.join("sub")) && !inside.join("file").exists());
    }
    canary.check();
}

#[test]
fn chains_of_links_end() {
    for (count, fine) in [(1, true), (39, true), (40, true), (41, false)] {
        let mut tar = Tar::new().directory("end");
        for link in 0..count {
            let target = if link + 1 == count { "end".to_owned() } else { format!("l{}", link + 1) };
            tar = tar.symlink(format!("l{link}"), target);
        }
        let result = unpack_one(tar.file("l0/x", "y"));
        assert_eq!(result.is_ok(), fine, "{count}");
        if let Ok((_layout, fs_root)) = result {
            assert!(fs_root.join("end/x").exists());
        }
    }
    for target in ["l", "./l", "/l", "l/l"] {
        let error = unpack_one(Tar::new().symlink("l", target).file("l/x", "")).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Format, "{error}");
        assert!(error.to_string().contains("entry 2 (l/x)"), "{error}");
    }
}

#[test]
fn hard_links_reach_only_files_of_the_image() {
    let canary = Canary::new();
    let file = canary.path().join("file").display().to_string();
    for target in [
        &file[..],
        &format!("../../../../..{file}"),
        "../../victim",
        "/etc/passwd",
        "../../../../../../etc/hostname",
        "Cargo.toml",
    ] {
        let tar = Tar::new().pax(&[("linkpath", target.as_bytes())]).hard_link("x", "t");
        let error = unpack_one(tar).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{target}: {error}");
    }
    // Through a symbolic link to the outside, and then written over.
    let tar = Tar::new().symlink("l", &file).hard_link("x", "l").file("x", "evil");
    let (_layout, fs_root) = unpack_one(tar).expect("a link to a link");
    assert_eq!(fs::read(fs_root.join("x")).expect("replaced"), b"evil");
    assert!(fs::symlink_metadata(fs_root.join("l")).expect("link").is_symlink());
    let tar = Tar::new().symlink("d", canary.bytes()).hard_link("x", "d/file");
    assert_eq!(unpack_one(tar).map(drop).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(
        unpack_one(Tar::new().directory("d").hard_link("x", "d")).map(drop).unwrap_err().kind(),
        ErrorKind::Format
    );
    assert_eq!(unpack_one(Tar::new().hard_link("x", "")).map(drop).unwrap_err().kind(), ErrorKind::Format);
    canary.check();
}

#[test]
fn hard_links_before_their_targets_and_to_each_other() {
    let tar = Tar::new()
        .hard_link("a", "b")
        .hard_link("b", "c")
        .hard_link("d", "s")
        .file("c", "x")
        .symlink("s", "c")
        .hard_link("e", "c");
    let (_layout, fs_root) = unpack_one(tar).expect("deferred");
    let inode = |name: &str| fs::symlink_metadata(fs_root.join(name)).expect(name).ino();
    assert!(["a", "b", "e"].iter().all(|name| inode(name) == inode("c")));
    assert_eq!(inode("d"), inode("s"), "a hard link to a symbolic link links the link");
    let circle = Tar::new().hard_link("a", "b").hard_link("b", "a");
    assert_eq!(unpack_one(circle).map(drop).unwrap_err().kind(), ErrorKind::Format);
    let replaced = Tar::new().hard_link("a", "nowhere").file("a", "x");
    assert!(unpack_one(replaced).is_ok(), "a link that is replaced need not work");
    let itself = Tar::new().file("a", "x").hard_link("a", "a").hard_link("a", "./a");
    assert_eq!(fs::read(unpack_one(itself).expect("nothing to do").1.join("a")).expect("kept"), b"x");
}

#[test]
fn the_root_can_only_be_described() {
    for name in [".", "/", "./", "/.", "//", "", "a/.."] {
        for kind in [b'0', b'1', b'2', b'3', b'6'] {
            let header = Header::new(kind, name).link("/etc").device(1, 3);
            let tar = if name.is_empty() {
                Tar::new().entry(header, b"")
            } else {
                Tar::new().pax(&[("path", name.as_bytes())]).entry(header, b"")
            };
            let error = unpack_one(tar).map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Format, "{name} {kind}: {error}");
        }
    }
    let header = Header::new(b'5', "./").mode(0o750).owner(7, 8).mtime(5);
    let layout = Layout::tars(&[Tar::new().entry(header, b""), Tar::new().file("x", "")]);
    let unpacked = layout.unpack().expect("valid");
    let root = unpacked.root();
    assert_eq!((root.mode, root.uid, root.gid), (0o750, 7, 8));
    let metadata = fs::metadata(unpacked.layers()[0].path()).expect("stat");
    assert_eq!((metadata.mode() & 0o7777, metadata.mtime()), (0o750, 5));
}

#[test]
fn whiteouts_that_name_nothing_are_refused() {
    for name in [".wh.", "a/.wh.", ".wh..", "a/.wh..", ".wh...", "a/.wh..."] {
        for kind in [b'0', b'5', b'2', b'1'] {
            let error = unpack_one(Tar::new().entry(Header::new(kind, name).link("x"), b"")).map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Format, "{name}: {error}");
        }
    }
    let (_layout, fs_root) = unpack_one(
        Tar::new().file(".wh..wh.plnk/1.2", "").file(".wh..wh.aufs", "").directory(".wh..wh.orph").file("a", ""),
    )
    .expect("AUFS");
    assert_eq!(fs::read_dir(fs_root).expect("list").count(), 1);
    assert!(unpack_one(Tar::new().directory(".wh.d").file(".wh.d/x", "")).is_err());
    assert!(unpack_one(Tar::new().file(".wh..wh..opq/x", "")).is_err());
}

#[test]
fn whiteouts_of_every_type_are_marks_for_overlayfs() {
    for kind in [b'0', b'1', b'2', b'5', b'6', b'3'] {
        let tar = Tar::new().directory("d").entry(Header::new(kind, "d/.wh.x").link("y").device(1, 3), b"");
        let (_layout, fs_root) = unpack_one(tar).expect("the name decides");
        assert!(is_whiteout(&fs_root.join("d/x")));
        assert!(!fs_root.join("d/.wh.x").exists());
    }
}

#[test]
fn whiteouts_concern_lower_layers_only() {
    let has = |tar: Tar, path: &str| {
        let (layout, fs_root) = unpack_one(tar).expect("valid");
        let there = fs::symlink_metadata(fs_root.join(path)).is_ok() && !is_whiteout(&fs_root.join(path));
        drop(layout);
        there
    };
    assert!(has(Tar::new().file("f", "x").file(".wh.f", ""), "f"));
    assert!(has(Tar::new().file(".wh.f", "").file("f", "x"), "f"));
    assert!(has(Tar::new().file("d/new", "x").file("d/.wh..wh..opq", ""), "d/new"));
    assert!(has(Tar::new().file("d/.wh..wh..opq", "").file("d/new", "x"), "d/new"));
    for tar in [
        Tar::new().file(".wh.d", "").directory("d").file("d/new", ""),
        Tar::new().directory("d").file(".wh.d", "").file("d/new", ""),
        Tar::new().directory("d").file("d/new", "").file("d/.wh..wh..opq", ""),
        Tar::new().file("d/.wh..wh..opq", "").directory("d"),
        Tar::new().file("d/.wh..wh..opq", ""),
        Tar::new().file("d", "").directory("d"),
    ] {
        let (_layout, fs_root) = unpack_one(tar).expect("valid");
        assert!(is_opaque(&fs_root.join("d")));
    }
    let (_layout, fs_root) =
        unpack_one(Tar::new().directory("d").file("d/.wh.x", "").file("d/.wh..wh..opq", "").file("d/s/.wh.y", ""))
            .expect("valid");
    assert!(is_opaque(&fs_root.join("d")));
    assert!(!is_whiteout(&fs_root.join("d/x")) && !is_whiteout(&fs_root.join("d/s/y")), "overlayfs would list them");
    let (_layout, fs_root) = unpack_one(Tar::new().directory("d").file("d/f", "")).expect("valid");
    assert!(!is_opaque(&fs_root.join("d")));
}

#[test]
fn a_later_entry_replaces_an_earlier_one() {
    let canary = Canary::new();
    // RUSTSEC-2026-0067: a link, then a directory of that name, whose mode must not reach through the link.
    let tar = Tar::new()
        .symlink("d", canary.bytes())
        .entry(Header::new(b'5', "d").mode(0o700).owner(9, 9), b"")
        .file("d/x", "");
    let (layout, fs_root) = unpack_one(tar).expect("replaced");
    assert!(fs::symlink_metadata(fs_root.join("d")).expect("stat").is_dir());
    canary.check();
    let notes = layout.unpack().expect("again").layers()[0].notes().expect("notes");
    assert!(notes.iter().any(|note| note.kind == NoteKind::Repeated && note.path == Path::new("d")));
    for (tar, what) in [
        (Tar::new().file("x", "old").file("x", "new"), "file"),
        (Tar::new().directory("x").file("x/a/b/c", "").file("x", "new"), "directory with content"),
        (Tar::new().symlink("x", "/etc/passwd").file("x", "new"), "link"),
        (Tar::new().entry(Header::new(b'6', "x"), b"").file("x", "new"), "fifo"),
        (Tar::new().file("y", "old").hard_link("x", "y").file("x", "new"), "hard link"),
    ] {
        let (_layout, fs_root) = unpack_one(tar).expect(what);
        assert_eq!(fs::read(fs_root.join("x")).expect(what), b"new", "{what}");
        if let Ok(other) = fs::read(fs_root.join("y")) {
            assert_eq!(other, b"old", "the other name keeps the old content");
        }
    }
    let tar = Tar::new()
        .entry(Header::new(b'6', "x"), b"")
        .file("x", "f")
        .directory("x")
        .file("x/y", "z")
        .file("x/y/deeper", "w");
    assert_eq!(fs::read(unpack_one(tar).expect("types change").1.join("x/y/deeper")).expect("there"), b"w");
}

#[test]
fn metadata_is_what_the_archive_says() {
    let header = Header::new(b'0', "f").mode(0o6754).owner(3, 4);
    let fraction =
        Tar::new().pax(&[("mtime", b"-5.25"), ("uid", b"3000000"), ("gid", b"4294967294")]).entry(header, b"x");
    let tar = fraction
        .pax(&[("mtime", b"14000000000")])
        .entry(Header::new(b'5', "ro").mode(0o555), b"")
        .file("ro/in", "x")
        .entry(Header::new(b'0', "none").mode(0), b"x")
        .entry(Header::new(b'2', "l").link("f").owner(7, 8).mtime(77), b"");
    let (_layout, fs_root) = unpack_one(tar).expect("valid");
    let stat = |name: &str| fs::symlink_metadata(fs_root.join(name)).expect(name);
    let file = stat("f");
    assert_eq!((file.mode() & 0o7777, file.mtime(), file.mtime_nsec()), (0o6754, -6, 750_000_000));
    assert_eq!((stat("ro").mtime(), stat("none").mode() & 0o777, stat("l").mtime()), (14_000_000_000, 0, 77));
    assert_eq!(stat("ro/in").mtime(), 1_000_000_000);
    if is_root() {
        assert_eq!((file.uid(), file.gid()), (3_000_000, 4_294_967_294));
        assert_eq!((stat("ro").mode() & 0o7777, stat("l").uid(), stat("l").gid()), (0o555, 7, 8));
    }
    for (key, value) in
        [("uid", "4294967295"), ("gid", "4294967295"), ("uid", "-1"), ("mtime", "1e9"), ("uid", "18446744073709551616")]
    {
        let tar = Tar::new().pax(&[(key, value.as_bytes())]).file("f", "");
        assert_eq!(unpack_one(tar).map(drop).unwrap_err().kind(), ErrorKind::Format, "{key}={value}");
    }
}

#[test]
fn attributes_that_others_act_on_are_not_written() {
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let tar = Tar::new()
        .pax(&[
            ("SCHILY.xattr.trusted.overlay.redirect", b"/../.."),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("SCHILY.xattr.security.selinux", b"system_u:object_r:bin_t:s0\0"),
            ("SCHILY.xattr.user.containers.override_stat", b"0:0:4755"),
            ("SCHILY.xattr.user.mime", b"a\nb\0"),
            ("SCHILY.xattr.security.capability", capability),
        ])
        .entry(Header::new(b'0', "f").mode(0o4711).owner(5, 6), b"x");
    let (layout, fs_root) = unpack_one(tar).expect("valid");
    let file = fs_root.join("f");
    for name in
        [c"trusted.overlay.redirect", c"user.overlay.opaque", c"security.selinux", c"user.containers.override_stat"]
    {
        assert_eq!(xattr(&file, name), None, "{name:?}");
    }
    assert_eq!(fs::metadata(&file).expect("stat").permissions().mode() & 0o7777, 0o4711);
    let notes = layout.unpack().expect("again").layers()[0].notes().expect("notes");
    let dropped = notes.iter().filter(|note| matches!(note.kind, NoteKind::Xattr(_))).count();
    let user = xattr(&file, c"user.mime");
    let caps = xattr(&file, c"security.capability");
    assert_eq!(dropped, 4 + usize::from(user.is_none()) + usize::from(caps.is_none()), "{notes:?}");
    assert!(user.is_none_or(|value| value == b"a\nb\0"));
    if is_root() {
        assert_eq!(caps.as_deref(), Some(&capability[..]), "set after the owner, kept by the mode");
    }
}

#[test]
fn devices_are_made_or_recorded() {
    let tar = Tar::new()
        .entry(Header::new(b'3', "null").device(1, 3).mode(0o666), b"")
        .entry(Header::new(b'4', "disk").device(8, 1).mode(0o660).owner(0, 6), b"")
        .entry(Header::new(b'6', "pipe").mode(0o600), b"");
    let (layout, fs_root) = unpack_one(tar).expect("valid");
    assert!(fs_root.join("pipe").exists());
    if is_root() {
        let null = fs::metadata(fs_root.join("null")).expect("made");
        assert_eq!((null.rdev(), null.mode()), (0x103, 0o20666));
        assert_eq!(fs::metadata(fs_root.join("disk")).expect("made").rdev(), 0x801);
    } else {
        assert!(!fs_root.join("null").exists(), "never an ordinary file in its place");
        let notes = layout.unpack().expect("again").layers()[0].notes().expect("notes");
        assert!(
            notes.iter().any(|n| matches!(n.kind, NoteKind::Device { kind: 'b', major: 8, minor: 1, gid: 6, .. })),
            "{notes:?}"
        );
    }
    let error = unpack_one(Tar::new().entry(Header::new(b'3', "x").device(0, 0), b"")).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let store = fs::metadata(layout.store().path()).expect("stat");
    assert_eq!(store.mode() & 0o777, 0o700, "nobody else can reach set-uid programs and devices");
}

#[test]
fn odd_names_are_kept_byte_for_byte() {
    let long = "n".repeat(255);
    let names: [&[u8]; 6] = [b"a\nb", b"\xff\xfe", long.as_bytes(), b" ", b"-rf", "\u{202e}x".as_bytes()];
    let tar = names.iter().fold(Tar::new(), |tar, name| tar.pax(&[("path", name)]).file("x", "y"));
    let (_layout, fs_root) = unpack_one(tar).expect("valid");
    for name in names {
        assert!(fs_root.join(std::ffi::OsStr::from_bytes(name)).exists());
    }
    let too_long = "n".repeat(256);
    assert!(unpack_one(Tar::new().long_name(too_long.as_bytes()).file("x", "")).is_err());
    let gnu = [b"long/".repeat(60), b"end".to_vec()].concat();
    let (_layout, fs_root) =
        unpack_one(Tar::new().long_name(&gnu).long_link(&gnu).entry(Header::new(b'2', "x"), b"")).expect("valid");
    assert_eq!(
        fs::read_link(fs_root.join(std::ffi::OsStr::from_bytes(&gnu))).expect("link").as_os_str().as_bytes(),
        gnu
    );
}

#[test]
fn paths_longer_than_the_kernel_takes_work() {
    let deep = "d/".repeat(3000);
    let limits = Limits::default().path_bytes(1 << 20).path_depth(20_000);
    let layout = Layout::tars(&[Tar::new().pax(&[("path", format!("{deep}end").as_bytes())]).file("x", "y")]);
    let unpacked = layout.unpack_within(limits).expect("made by descriptor");
    let key = unpacked.layers()[0].key().to_owned();
    layout.store().remove_layer(&key).expect("removed by descriptor");
    assert!(layout.store().layers().expect("list").is_empty());
    assert_eq!(layout.unpack_within(Limits::default().path_depth(2999)).unwrap_err().kind(), ErrorKind::Limit);
}

#[test]
fn sparse_files_keep_size_and_holes() {
    let block = vec![b'x'; 4096];
    let check = |tar: Tar, name: &str| {
        let (_layout, fs_root) = unpack_one(tar).expect(name);
        let content = fs::read(fs_root.join("s")).expect(name);
        assert_eq!(content.len(), 10 << 20, "{name}");
        assert!(
            content[1 << 20..(1 << 20) + 4096] == block[..] && content[..1 << 20].iter().all(|byte| *byte == 0),
            "{name}"
        );
        let blocks = fs::metadata(fs_root.join("s")).expect(name).blocks();
        assert!(blocks < 1024, "{name} takes {blocks} blocks");
    };
    let version1 = [
        ("GNU.sparse.major", &b"1"[..]),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"s"),
        ("GNU.sparse.realsize", b"10485760"),
    ];
    let mut map = b"1\n1048576\n4096\n".to_vec();
    map.resize(512, 0);
    check(Tar::new().pax(&version1).entry(Header::new(b'0', "GNUSparseFile.1/s"), &[&map[..], &block].concat()), "1.0");
    let version01 = [
        ("GNU.sparse.map", &b"1048576,4096"[..]),
        ("GNU.sparse.size", b"10485760"),
        ("GNU.sparse.numblocks", b"1"),
        ("GNU.sparse.name", b"s"),
    ];
    check(Tar::new().pax(&version01).entry(Header::new(b'0', "x"), &block), "0.1");
    let version00 = [
        ("GNU.sparse.size", &b"10485760"[..]),
        ("GNU.sparse.numblocks", b"1"),
        ("GNU.sparse.offset", b"1048576"),
        ("GNU.sparse.numbytes", b"4096"),
    ];
    check(Tar::new().pax(&version00).entry(Header::new(b'0', "s"), &block), "0.0");
    let mut old = Header::new(b'S', "s").gnu();
    old.octal(386, 12, 1 << 20).octal(398, 12, 4096).octal(410, 12, 10 << 20).octal(422, 12, 0).octal(
        483,
        12,
        10 << 20,
    );
    check(Tar::new().entry(old, &block), "old GNU");
}

#[test]
fn archives_that_can_be_read_in_two_ways_are_refused() {
    let file = |tar: Tar| tar.entry(Header::new(b'0', "f"), b"data");
    let pax = |records: &[(&str, &[u8])]| Tar::new().pax(records);
    let smuggled = Tar::new().file("hidden", "evil").0;
    let global = |records: &[(&str, &[u8])]| {
        let content: Vec<u8> = records.iter().flat_map(|(key, value)| common::tar::record(key, value)).collect();
        Tar::new().entry(Header::new(b'g', "g"), &content)
    };
    let raw_pax = |content: &[u8]| Tar::new().entry(Header::new(b'x', "x"), content);
    let cases = [
        ("two x headers", file(pax(&[("uid", b"1")]).pax(&[("gid", b"1")]))),
        ("a repeated record", file(pax(&[("size", b"4"), ("size", b"0")]))),
        ("global size", file(global(&[("size", b"0")]))),
        ("global path", file(global(&[("path", b"x")]))),
        ("negative size", file(pax(&[("size", b"-1")]))),
        ("size with exponent", file(pax(&[("size", b"1e3")]))),
        ("huge size", file(pax(&[("size", b"9223372036854775808")]))),
        ("x at the end", pax(&[("uid", b"1")])),
        ("L at the end", Tar::new().long_name(b"x")),
        ("path and L differ", file(pax(&[("path", b"a")]).long_name(b"b"))),
        ("two L", file(Tar::new().long_name(b"a").long_name(b"a"))),
        ("NUL in path", file(pax(&[("path", b"a\0b")]))),
        ("NUL in L", file(Tar::new().long_name(b"a\0b"))),
        ("missing newline", file(raw_pax(b"9 uid=12 "))),
        ("length lies", file(raw_pax(b"20 uid=1\n"))),
        ("no equals", file(raw_pax(b"6 uid\n"))),
        ("a directory with data", Tar::new().entry(Header::new(b'5', "d"), b"data")),
        ("a link with data", Tar::new().entry(Header::new(b'2', "l").link("x"), b"data")),
        ("an unknown type", Tar::new().entry(Header::new(b'V', "v"), b"")),
        ("a hole in the numbers", {
            let mut h = Header::new(b'0', "f");
            h.bytes(124, 12, b"0000 000004");
            Tar::new().raw(h, b"data")
        }),
        ("sparse map too long", file(pax(&[("GNU.sparse.map", b"0,5"), ("GNU.sparse.size", b"5")]))),
        ("sparse map out of order", file(pax(&[("GNU.sparse.map", b"3,2,0,2"), ("GNU.sparse.size", b"9")]))),
        ("sparse map odd", file(pax(&[("GNU.sparse.map", b"0"), ("GNU.sparse.size", b"9")]))),
        ("sparse without size", file(pax(&[("GNU.sparse.map", b"0,4")]))),
    ];
    for (name, tar) in cases {
        let error = unpack_one(tar).map(drop).expect_err(name);
        assert!(matches!(error.kind(), ErrorKind::Format | ErrorKind::Unsupported), "{name}: {error}");
    }
    // The size of the record counts (CVE-2025-62518): the inner archive is data, whatever the header says.
    let tar = Tar::new()
        .pax(&[("size", smuggled.len().to_string().as_bytes())])
        .raw(Header::new(b'0', "outer").size(0), &smuggled)
        .file("after", "");
    let (_layout, fs_root) = unpack_one(tar).expect("one reading");
    assert_eq!(fs::read(fs_root.join("outer")).expect("file"), smuggled);
    assert!(fs_root.join("after").exists() && !fs_root.join("hidden").exists());
    // A record stays with its file across a long name in between (CVE-2026-33055).
    let tar = Tar::new()
        .pax(&[("size", b"4")])
        .long_name(b"outer")
        .raw(Header::new(b'0', "x").size(0), b"data")
        .file("after", "");
    let (_layout, fs_root) = unpack_one(tar).expect("one reading");
    assert_eq!(fs::read(fs_root.join("outer")).expect("file"), b"data");
    assert!(unpack_one(file(global(&[("comment", b"a commit")]))).is_ok());
}

/// A layer of these very bytes.
fn raw(content: Vec<u8>) -> Layout {
    Layout::of(&[Blob { diff_id: Digest::of(&content), content, media_type: PLAIN }])
}

#[test]
fn ends_of_archives() {
    let whole = Tar::new().file("a", "x").file("b", "y");
    for end in [0, 512, 1024, 10240] {
        let layout = raw([&whole.0[..], &vec![0; end]].concat());
        assert!(layout.unpack().expect("an end").layers()[0].path().join("b").exists(), "{end} zeros");
    }
    assert!(raw(Vec::new()).unpack().expect("an empty layer").layers()[0].path().exists());
    let smuggled = [&whole.bytes()[..], &Tar::new().file("c", "").bytes()].concat();
    let one_zero_block = [&whole.0[..], &[0; 512], &Tar::new().file("c", "").bytes()].concat();
    for (name, content) in [
        ("data after the end", smuggled),
        ("data after half an end", one_zero_block),
        ("half a block", whole.0[..1400].to_vec()),
    ] {
        let error = raw(content).unpack().map(drop).expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Format, "{name}: {error}");
    }
    // Each file is a header of 512 bytes and one byte of data with its padding, which the last file may lack.
    for cut in (1..whole.0.len()).step_by(50).chain([512, 513, 1023, 1024, 1025, 1536, 1537]) {
        let fine = (513..=1024).contains(&cut) || cut > 1536;
        assert_eq!(raw(whole.0[..cut].to_vec()).unpack().is_ok(), fine, "cut at {cut}");
    }
}

#[test]
fn compressed_layers_must_be_whole() {
    let tar = Tar::new().file("a", &"hello ".repeat(1000));
    let blob = |content: Vec<u8>, media_type| Blob { diff_id: Digest::of(&tar.bytes()), content, media_type };
    let (first, second) = (gzip(&tar.bytes()[..700]), gzip(&tar.bytes()[700..]));
    let members = [&gzip(b"")[..], &first, &gzip(b""), &second].concat();
    for (content, media_type) in
        [(gzip(&tar.bytes()), GZIP), (members, GZIP), (gzip(&tar.bytes()), PLAIN), (tar.bytes(), GZIP)]
    {
        let layout = Layout::of(&[blob(content, media_type)]);
        let unpacked = layout.unpack().expect("whole");
        assert_eq!(fs::metadata(unpacked.layers()[0].path().join("a")).expect("file").len(), 6000);
    }
    let layout = Layout::of(&[blob(tar.bytes(), GZIP)]);
    let notes = layout.unpack().expect("whole").layers()[0].notes().expect("notes");
    assert!(matches!(&notes[0].kind, NoteKind::MediaType(found) if found == "an uncompressed archive"));
    let whole = gzip(&tar.bytes());
    for cut in 1..whole.len() {
        let layout = Layout::of(&[blob(whole[..cut].to_vec(), GZIP)]);
        let error = layout.unpack().map(drop).expect_err("cut");
        assert!(matches!(error.kind(), ErrorKind::Format), "cut at {cut}: {error}");
        assert!(layout.store().layers().expect("list").is_empty());
    }
    for junk in [&b"junk"[..], &[0; 16], &[0x1f, 0x8b]] {
        let layout = Layout::of(&[blob([&whole[..], junk].concat(), GZIP)]);
        assert_eq!(layout.unpack().map(drop).expect_err("junk").kind(), ErrorKind::Format);
    }
}

#[cfg(feature = "zstd")]
#[test]
fn zstd_layers_whatever_the_media_type() {
    let tar = Tar::new().file("a", &"hello ".repeat(1000));
    let content = ruzstd::encoding::compress_to_vec(&tar.bytes()[..], ruzstd::encoding::CompressionLevel::Fastest);
    for media_type in [common::ZSTD, GZIP, PLAIN] {
        let layout = Layout::of(&[Blob { diff_id: Digest::of(&tar.bytes()), content: content.clone(), media_type }]);
        assert!(layout.unpack().expect("decoded").layers()[0].path().join("a").exists());
    }
}

#[test]
fn bombs_end_at_the_limits() {
    // A header that promises 70 MiB, and as much in zeros, a mebibyte for each kilobyte of input.
    let header = Tar::new().raw(Header::new(b'0', "zeros").size(70 << 20), b"");
    let mebibyte = gzip(&vec![0; 1 << 20]);
    let content = [gzip(&header.0), mebibyte.repeat(70)].concat();
    let layout = Layout::of(&[Blob { diff_id: Digest::of(b"never reached"), content, media_type: GZIP }]);
    let kind = |limits: Limits| layout.unpack_within(limits).map(drop).map_err(|error| error.kind());
    assert_eq!(kind(Limits::default().ratio(100)), Err(ErrorKind::Limit));
    assert_eq!(kind(Limits::default().layer_bytes(1 << 20)), Err(ErrorKind::Limit));
    assert!(layout.store().layers().expect("list").is_empty(), "nothing is left");
    assert_eq!(fs::read_dir(layout.store().path().join("trash")).expect("list").count(), 0);

    let many = (0..100).fold(Tar::new(), |tar, index| tar.file(format!("f{index}"), ""));
    let limited =
        |tar: Tar, limits: Limits| Layout::tars(&[tar]).unpack_within(limits).map(drop).map_err(|error| error.kind());
    assert_eq!(limited(many.clone(), Limits::default().entries(99)), Err(ErrorKind::Limit));
    assert_eq!(limited(many, Limits::default().entries(100)), Ok(()));
    let sparse = [("GNU.sparse.map", &b"0,1"[..]), ("GNU.sparse.size", b"1099511627776")];
    assert_eq!(limited(Tar::new().pax(&sparse).file("s", "x"), Limits::default()), Err(ErrorKind::Limit));
    let attribute = vec![b'x'; 1001];
    let xattr = Tar::new().pax(&[("SCHILY.xattr.user.x", &attribute)]).file("f", "");
    assert_eq!(limited(xattr, Limits::default().xattr_bytes(1000)), Err(ErrorKind::Limit));
    let regions: String = (0..20).map(|index| format!("{},0,", index * 2)).collect();
    let map = [("GNU.sparse.map", regions.trim_end_matches(',').as_bytes()), ("GNU.sparse.size", b"100")];
    assert_eq!(
        limited(Tar::new().pax(&map).file("s", ""), Limits::default().sparse_regions(19)),
        Err(ErrorKind::Limit)
    );
    // A size that promises more than it brings costs nothing.
    for kind in [b'x', b'L', b'K', b'g'] {
        let header = Header::new(kind, "x").size(1 << 30);
        assert_eq!(limited(Tar::new().raw(header, b""), Limits::default()), Err(ErrorKind::Limit));
    }
    let path = "a".repeat(1000);
    assert_eq!(
        limited(Tar::new().pax(&[("path", path.as_bytes())]).file("x", ""), Limits::default().path_bytes(999)),
        Err(ErrorKind::Limit)
    );
}

/// Unpacks `upper` over a layer with something of every kind.
fn over_a_base(upper: Tar) -> (Layout, keelbox_image_spec::Result<keelbox_image_spec::Unpacked>) {
    let lower = Tar::new()
        .entry(Header::new(b'5', "priv").mode(0o700).owner(5, 6).mtime(42), b"")
        .directory("usr")
        .directory("usr/lib")
        .file("usr/lib/libc", "libc")
        .symlink("lib", "usr/lib")
        .file("target", "t")
        .directory("d")
        .file("d/old", "")
        .directory("s")
        .file("s/f", "");
    let layout = Layout::tars(&[lower, upper]);
    let unpacked = layout.unpack();
    (layout, unpacked)
}

#[test]
fn what_lower_layers_decide() {
    // The parent that the layer does not describe is as below, not open to everybody.
    let (_layout, unpacked) = over_a_base(Tar::new().file("priv/x", "secret"));
    let unpacked = unpacked.expect("valid");
    let top = unpacked.layers()[1].path().to_owned();
    let metadata = fs::metadata(top.join("priv")).expect("stat");
    assert_eq!((metadata.mode() & 0o7777, metadata.mtime()), (0o700, 42));
    if is_root() {
        assert_eq!((metadata.uid(), metadata.gid()), (5, 6));
    }
    assert!(unpacked.layers()[0].key().starts_with("diffid-") && unpacked.layers()[1].key().starts_with("chain-"));
    // A parent nobody has.
    let (_layout, unpacked) = over_a_base(Tar::new().file("n/e/w/x", ""));
    let path = unpacked.expect("valid").layers()[1].path().join("n/e/w");
    assert_eq!(
        (fs::metadata(&path).expect("stat").mode() & 0o7777, fs::metadata(&path).expect("stat").mtime()),
        (0o755, 0)
    );
    // A parent that is a link below.
    let (_layout, unpacked) = over_a_base(Tar::new().file("lib/foo", "foo").file("lib/.wh.libc", ""));
    let unpacked = unpacked.expect("valid");
    let top = unpacked.layers()[1].path();
    assert_eq!(fs::read(top.join("usr/lib/foo")).expect("moved"), b"foo");
    assert!(is_whiteout(&top.join("usr/lib/libc")) && fs::symlink_metadata(top.join("lib")).is_err());
    let view = unpacked.view().expect("view");
    assert_eq!(view.read("/lib/foo").expect("through the link"), b"foo");
    assert!(!view.exists("lib/libc").expect("lookup"));
    assert!(
        unpacked.layers()[1]
            .notes()
            .expect("notes")
            .iter()
            .any(|note| note.kind == NoteKind::Followed("usr/lib".into()))
    );
    // The same, described: the directory replaces the link.
    let (_layout, unpacked) = over_a_base(Tar::new().directory("lib").file("lib/foo", "foo"));
    let unpacked = unpacked.expect("valid");
    assert!(unpacked.layers()[1].path().join("lib/foo").exists() && unpacked.layers()[1].key().starts_with("diffid-"));
    assert!(!unpacked.view().expect("view").exists("lib/libc").expect("lookup"));
    // Deleted and made again: the old content does not come back.
    let (_layout, unpacked) = over_a_base(Tar::new().file(".wh.d", "").directory("d").file("d/new", ""));
    let view = unpacked.expect("valid").view().expect("view");
    assert!(view.exists("d/new").expect("lookup") && !view.exists("d/old").expect("lookup"));
}

#[test]
fn hard_links_to_lower_layers() {
    // A hard link to what only lies below.
    let (_layout, unpacked) =
        over_a_base(Tar::new().hard_link("name", "target").hard_link("other", "name").hard_link("deep/er", "lib/libc"));
    let unpacked = unpacked.expect("valid");
    let inode = |name: &str| fs::metadata(unpacked.layers()[1].path().join(name)).expect(name).ino();
    assert!(inode("name") == inode("target") && inode("other") == inode("name"));
    assert_eq!(inode("deep/er"), inode("usr/lib/libc"));
    let (_layout, unpacked) = over_a_base(Tar::new().hard_link("name", "target").file(".wh.target", ""));
    let view = unpacked.expect("a renamed file").view().expect("view");
    assert!(view.read("name").expect("copied up") == b"t" && !view.exists("target").expect("lookup"));
    assert_eq!(
        over_a_base(Tar::new().file(".wh.target", "").hard_link("name", "target")).1.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert_eq!(over_a_base(Tar::new().hard_link("name", "nothing")).1.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(over_a_base(Tar::new().hard_link("name", "d")).1.unwrap_err().kind(), ErrorKind::Format);
}

#[test]
fn links_below_stay_inside_and_end() {
    let canary = Canary::new();
    let lower = Tar::new()
        .symlink("out", canary.bytes())
        .symlink("loop", "loop")
        .symlink("a", "b")
        .symlink("b", "a")
        .symlink("up", "../../..")
        .file("file", "");
    let unpack = |upper: Tar| {
        let layout = Layout::tars(&[lower.clone(), upper]);
        let unpacked = layout.unpack();
        (layout, unpacked)
    };
    let (_layout, unpacked) = unpack(Tar::new().file("out/file", "evil").file("out/sub/victim", "evil"));
    let unpacked = unpacked.expect("inside");
    let inside = unpacked.layers()[1].path().join(canary.path().strip_prefix("/").expect("absolute"));
    assert_eq!(fs::read(inside.join("file")).expect("inside"), b"evil");
    assert_eq!(unpacked.view().expect("view").read("out/sub/victim").expect("inside"), b"evil");
    canary.check();
    for name in ["loop/x", "a/x"] {
        assert_eq!(unpack(Tar::new().file(name, "")).1.map(drop).expect_err(name).kind(), ErrorKind::Format);
    }
    let (_layout, unpacked) = unpack(Tar::new().file("up/x", "root").file("file/x", "replaced"));
    let view = unpacked.expect("clamped").view().expect("view");
    assert_eq!(
        (view.read("x").expect("root"), view.read("file/x").expect("a directory now")),
        (b"root".to_vec(), b"replaced".to_vec())
    );
}

#[test]
fn an_opaque_root_hides_every_layer_below() {
    let layout = Layout::tars(&[
        Tar::new().file("old", ""),
        Tar::new().file(".wh..wh..opq", "").file("new", ""),
        Tar::new().file("top", ""),
    ]);
    let unpacked = layout.unpack().expect("valid");
    assert_eq!(unpacked.layers().len(), 2);
    let view = unpacked.view().expect("view");
    assert!(
        !view.exists("old").expect("lookup")
            && view.exists("new").expect("lookup")
            && view.exists("top").expect("lookup")
    );
}

#[test]
fn a_layer_twice_is_stacked_once() {
    let twice = Tar::new().file("x", "1").directory("d");
    let layout = Layout::tars(&[twice.clone(), Tar::new().file("x", "2"), twice]);
    let unpacked = layout.unpack().expect("valid");
    assert_eq!(unpacked.layers().len(), 2);
    assert_eq!(unpacked.view().expect("view").read("x").expect("top"), b"1");
    // One that depends on what lies below is made for each place.
    let dependent = Tar::new().file("d/x", "");
    let base = |mode: u64| Tar::new().entry(Header::new(b'5', "d").mode(mode), b"");
    let layout = Layout::tars(&[base(0o700), dependent.clone(), base(0o711), dependent]);
    let unpacked = layout.unpack().expect("valid");
    let mode = |index: usize| fs::metadata(unpacked.layers()[index].path().join("d")).expect("stat").mode() & 0o777;
    assert_eq!((unpacked.layers().len(), mode(1), mode(3)), (4, 0o700, 0o711));
    assert_eq!(layout.unpack().expect("again").layers()[3].key(), unpacked.layers()[3].key());
    assert!(Layout::of(&[]).unpack().expect("no layers").layers().is_empty());
}

#[test]
fn digests_and_sizes_are_checked_before_anything_counts() {
    let tar = Tar::new().file("a", "x");
    let layout = Layout::tars(std::slice::from_ref(&tar));
    let path = layout.blob_path(&tar.bytes());
    let mut wrong = tar.bytes();
    wrong[600] ^= 1;
    let expect = |content: &[u8], kind: ErrorKind| {
        fs::write(&path, content).expect("write");
        let error = layout.unpack().map(drop).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(Digest::of(&tar.bytes()).hex()), "{error}");
        assert!(layout.store().layers().expect("list").is_empty());
        assert!(fs::read_dir(layout.store().path().join("layers")).expect("list").next().is_none(), "nothing is left");
    };
    expect(&wrong, ErrorKind::DigestMismatch);
    expect(&tar.bytes()[..1024], ErrorKind::SizeMismatch);
    expect(&[&tar.bytes()[..], b"x"].concat(), ErrorKind::SizeMismatch);
    expect(b"", ErrorKind::SizeMismatch);
    fs::remove_file(&path).expect("remove");
    assert_eq!(layout.unpack().map(drop).unwrap_err().kind(), ErrorKind::NotFound);
    let lying = Layout::of(&[Blob { diff_id: Digest::of(b"another"), ..plain(&tar) }]);
    assert_eq!(lying.unpack().map(drop).unwrap_err().kind(), ErrorKind::DigestMismatch);
    let gzipped =
        Layout::of(&[Blob { diff_id: Digest::of(b"another"), content: gzip(&tar.bytes()), media_type: GZIP }]);
    assert_eq!(gzipped.unpack().map(drop).unwrap_err().kind(), ErrorKind::DigestMismatch);
}

#[test]
fn everything_again_as_an_ordinary_user() {
    common::again_as_an_ordinary_user();
}
