//! The store: reuse, concurrency, crashes, removal, and users looked up without a mount.

mod common;

use common::{Layout, Tar, plain};
use keelbox_image_spec::{Durability, ErrorKind, Image, Store, UnpackOptions, User};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

fn files(count: usize) -> Tar {
    (0..count).fold(Tar::new().directory("d"), |tar, index| tar.file(format!("d/f{index}"), "content"))
}

fn count(path: &Path) -> usize {
    fs::read_dir(path).expect("list").count()
}

#[test]
fn the_second_time_nothing_is_read() {
    let layout = Layout::tars(&[files(10), Tar::new().file("d/x", ""), files(3)]);
    let image = layout.open();
    let first = image.unpack(&layout.store()).expect("unpacked");
    let inode = |unpacked: &keelbox_image_spec::Unpacked, index: usize| {
        fs::metadata(unpacked.layers()[index].path()).expect("stat").ino()
    };
    fs::remove_dir_all(layout.path().join("blobs")).expect("remove");
    let second = image.unpack(&layout.store()).expect("without the blobs");
    for index in 0..3 {
        assert_eq!(inode(&first, index), inode(&second, index));
        assert!(second.layers()[index].path().is_absolute());
    }
    assert_eq!(layout.store().layers().expect("list").len(), 3);
}

#[test]
fn a_layer_is_shared_between_images() {
    let layout = Layout::empty();
    let store = layout.store();
    let shared = files(5);
    let mut paths = Vec::new();
    for base in ["one", "two"] {
        let manifest = layout.add_image(&[plain(&Tar::new().file(base, "")), plain(&shared)], "{}");
        layout.index(&[common::descriptor(common::MANIFEST, &manifest, "")]);
        paths.push(layout.open().unpack(&store).expect("unpacked").layers()[1].path().to_owned());
    }
    assert_eq!(paths[0], paths[1]);
    assert_eq!(store.layers().expect("list").len(), 3);
}

#[test]
fn many_threads_unpack_the_same_image() {
    let layers: Vec<Tar> = (1..6).map(|index| files(index * 7)).collect();
    let layout = Layout::tars(&layers);
    let paths: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|index| {
                let layout = &layout;
                scope.spawn(move || {
                    // Each with its own idea of the store and of how many layers at a time.
                    let (image, store) = (layout.open(), layout.store());
                    let options = UnpackOptions::new().durability(Durability::None).parallel(1 + index % 3);
                    let unpacked = options.unpack(&image, &store).expect("unpacked");
                    unpacked.layers().iter().map(|layer| layer.path().to_owned()).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert!(paths.iter().all(|path| *path == paths[0]));
    for (path, layer) in paths[0].iter().zip(1..) {
        assert_eq!(count(&path.join("d")), layer * 7);
    }
    assert_eq!(count(&layout.store().path().join("layers")), 5, "no temporary directory is left");
    assert_eq!(count(&layout.store().path().join("trash")), 0);
}

/// Not a test of its own: what `processes_unpack_at_once_and_die` starts and kills.
#[test]
fn child_that_unpacks_over_and_over() {
    let Some(source) = std::env::var_os("KEELBOX_TEST_SOURCE") else { return };
    let store = std::env::var_os("KEELBOX_TEST_STORE").expect("a store");
    let image = Image::open(&source.to_string_lossy()).expect("an image");
    loop {
        let store = Store::open(Path::new(&store)).expect("a store");
        let unpacked = match UnpackOptions::new().durability(Durability::None).unpack(&image, &store) {
            Ok(unpacked) => unpacked,
            // The other child removed a layer that was found here: nothing protects layers from `remove_layer`.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => panic!("{error}"),
        };
        for layer in unpacked.layers() {
            match store.remove_layer(layer.key()) {
                Ok(()) => {}
                // The other child was faster.
                Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error}"),
            }
        }
    }
}

#[test]
fn processes_unpack_at_once_and_die() {
    let layout = Layout::tars(&[files(300), files(301), Tar::new().file("d/x", "")]);
    let store = layout.store();
    for _ in 0..5 {
        let start = || {
            Command::new(std::env::current_exe().expect("this test"))
                .args(["--exact", "child_that_unpacks_over_and_over", "--nocapture"])
                .env("KEELBOX_TEST_SOURCE", layout.source())
                .env("KEELBOX_TEST_STORE", store.path())
                .spawn()
                .expect("a child")
        };
        let mut children = [start(), start()];
        std::thread::sleep(std::time::Duration::from_millis(150));
        for child in &mut children {
            assert!(child.try_wait().expect("wait").is_none(), "a child failed by itself");
            child.kill().expect("kill");
            child.wait().expect("wait");
        }
        let unpacked = layout.unpack().expect("whatever they left");
        assert_eq!(count(&unpacked.layers()[0].path().join("d")), 300);
        assert_eq!(count(&unpacked.layers()[1].path().join("d")), 301);
        store.sweep().expect("swept");
        assert_eq!(count(&store.path().join("layers")), 3, "only garbage was left, and it is gone");
        assert_eq!(count(&store.path().join("trash")), 0);
    }
}

#[test]
fn a_layer_without_its_mark_does_not_count() {
    let layout = Layout::tars(&[files(3)]);
    let unpacked = layout.unpack().expect("unpacked");
    let directory = unpacked.layers()[0].path().parent().expect("a parent").to_owned();
    let damage: [&dyn Fn(); 3] = [
        &|| fs::remove_file(directory.join("done")).expect("remove"),
        &|| fs::write(directory.join("done"), "{\"version\":1,\"diff").expect("write"),
        &|| fs::write(directory.join("layer.idx"), "cut").expect("write"),
    ];
    for damage in damage {
        fs::write(directory.join("fs/d/evil"), "from a crash").expect("write");
        damage();
        assert!(layout.store().layers().expect("list").is_empty());
        let again = layout.unpack().expect("unpacked anew");
        assert!(!again.layers()[0].path().join("d/evil").exists() && again.layers()[0].path().join("d/f2").exists());
    }
}

#[test]
fn garbage_is_swept_but_not_what_is_in_use() {
    let layout = Layout::tars(&[files(1)]);
    let store = layout.store();
    let layers = store.path().join("layers");
    fs::create_dir_all(layers.join(".tmp-dead/fs/deep/tree")).expect("mkdir");
    fs::create_dir_all(layers.join(".tmp-alive/fs")).expect("mkdir");
    fs::create_dir_all(store.path().join("trash/old/tree")).expect("mkdir");
    let alive = fs::File::open(layers.join(".tmp-alive")).expect("open");
    let lock = nix::fcntl::Flock::lock(alive, nix::fcntl::FlockArg::LockExclusiveNonblock)
        .map_err(|(_, errno)| errno)
        .expect("lock");
    layout.unpack().expect("unpacked");
    assert!(!layers.join(".tmp-dead").exists() && layers.join(".tmp-alive").exists());
    assert_eq!(count(&store.path().join("trash")), 0);
    drop(lock);
    store.sweep().expect("swept");
    assert!(!layers.join(".tmp-alive").exists());
}

#[test]
fn layers_are_removed_by_key_only() {
    let layout = Layout::tars(&[files(3)]);
    let unpacked = layout.unpack().expect("unpacked");
    let store = layout.store();
    for key in ["", "..", "../layers", "/etc", "a/b", "diffid-", ".tmp-x", "diffid-\0"] {
        assert_eq!(store.remove_layer(key).unwrap_err().kind(), ErrorKind::NotFound, "{key:?}");
    }
    store.remove_layer(unpacked.layers()[0].key()).expect("removed");
    assert!(!unpacked.layers()[0].path().exists());
    assert_eq!(store.remove_layer(unpacked.layers()[0].key()).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(layout.unpack().expect("again").layers()[0].path().join("d/f0").exists());
}

#[test]
fn stores_of_other_versions_and_users_are_refused() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("store");
    drop(Store::open(&path).expect("made"));
    for meta in ["{\"version\":2}", "{\"version\":1,\"features\":{\"incompat\":[\"x\"]}}"] {
        fs::write(path.join("meta.json"), meta).expect("write");
        assert_eq!(Store::open(&path).map(drop).unwrap_err().kind(), ErrorKind::Unsupported);
    }
    fs::write(path.join("meta.json"), "{\"version\":1,\"features\":{\"compat\":[\"x\"]}}").expect("write");
    assert!(Store::open(&path).is_ok());
    assert_eq!(fs::metadata(&path).expect("stat").mode() & 0o777, 0o700);
    if common::is_root() {
        std::os::unix::fs::chown(&path, Some(65534), None).expect("chown");
        assert_eq!(Store::open(&path).map(drop).unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(Store::default_path("/home/x"), Path::new("/var/lib/keelbox"));
    } else {
        assert_eq!(Store::default_path("/home/x"), Path::new("/home/x/.local/share/keelbox"));
    }
    let used = directory.path().join("used");
    fs::create_dir(&used).expect("mkdir");
    fs::write(used.join("precious"), "").expect("write");
    fs::set_permissions(&used, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
    assert_eq!(Store::open(&used).map(drop).unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!((fs::metadata(&used).expect("stat").mode() & 0o777, count(&used)), (0o755, 1), "left as it was");
    let moved = directory.path().join("moved");
    std::os::unix::fs::symlink("/tmp", directory.path().join("layers")).expect("link");
    fs::create_dir(&moved).expect("mkdir");
    std::os::unix::fs::symlink("/tmp", moved.join("layers")).expect("link");
    assert!(Store::open(&moved).is_err(), "a link in the place of a directory");
}

#[test]
fn users_are_looked_up_through_the_layers() {
    let base = Tar::new()
        .directory("etc")
        .file("etc/passwd", "root:x:0:0::/root:/bin/sh\nold:x:9:9::/:/x\n")
        .file("etc/group", "g:x:50:new\n");
    let top = Tar::new()
        .file("etc/.wh.passwd", "")
        .file("usr/passwd", "new:x:10:11::/home/new:/bin/sh\n")
        .symlink("etc/passwd", "../../usr/passwd");
    let layout = Layout::tars(&[base, top]);
    let unpacked = layout.unpack().expect("unpacked");
    let resolve = |text: &str| unpacked.resolve_user(&text.parse::<User>().expect(text));
    let new = resolve("new").expect("in the upper layer");
    assert_eq!((new.uid, new.gid, new.additional_gids, new.home.as_deref()), (10, 11, vec![50], Some("/home/new")));
    assert_eq!(resolve("old").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(resolve("10").expect("number").gid, 11);
    let empty = Layout::of(&[]).unpack().expect("no layers");
    assert_eq!(empty.resolve_user(&"5".parse().expect("number")).expect("needs no file").uid, 5);
    assert_eq!(empty.resolve_user(&"root".parse().expect("name")).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn the_view_never_leaves_the_layers() {
    let canary = common::Canary::new();
    let base = Tar::new()
        .symlink("abs", canary.bytes())
        .symlink("up", format!("../../../../../../..{}", canary.path().display()))
        .symlink("passwd", "/etc/passwd")
        .symlink("loop", "loop")
        .entry(common::Header::new(b'6', "fifo"), b"")
        .directory("d")
        .file("d/f", "base")
        .directory("d/sub")
        .file("d/sub/g", "g");
    let top = Tar::new().directory("d").file("d/.wh.sub", "").file("d/h", "top").symlink("d/link", "../d/f");
    let layout = Layout::tars(&[base, top]);
    let view = layout.unpack().expect("unpacked").view().expect("view");
    for (path, kind) in [
        ("abs/file", ErrorKind::NotFound),
        ("up/file", ErrorKind::NotFound),
        ("passwd", ErrorKind::NotFound),
        ("loop", ErrorKind::Format),
        ("fifo", ErrorKind::Format),
        ("d", ErrorKind::Format),
        ("d/sub/g", ErrorKind::NotFound),
        ("d/f/x", ErrorKind::NotFound),
        ("../../../../etc/passwd", ErrorKind::NotFound),
        ("", ErrorKind::Format),
        ("d/sub", ErrorKind::NotFound),
    ] {
        assert_eq!(view.read(path).map(drop).unwrap_err().kind(), kind, "{path}");
    }
    for (path, content) in
        [("d/f", "base"), ("d/h", "top"), ("d/link", "base"), ("/d/../d/./f", "base"), ("../d/f", "base")]
    {
        assert_eq!(view.read(path).expect(path), content.as_bytes());
    }
}

#[test]
fn everything_again_as_an_ordinary_user() {
    common::again_as_an_ordinary_user();
}
