//! Images made by other tools, and the same image unpacked by one of them.

mod common;

use common::{merged, skip};
use keelbox_image_spec::{ErrorKind, Image, Store};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs a tool; `None`, with a reason printed, if there is no such tool.
fn run(directory: &Path, line: &[&str]) -> Option<()> {
    match Command::new(line[0]).args(&line[1..]).current_dir(directory).output() {
        Ok(output) => {
            assert!(output.status.success(), "{line:?}: {}", String::from_utf8_lossy(&output.stderr));
            Some(())
        }
        Err(error) => {
            skip(&format!("no {}: {error}", line[0]));
            None
        }
    }
}

/// A layout `l:app` of four layers, with deletions, an opaque directory and a hard link, made by umoci.
fn umoci_image(directory: &Path) -> Option<()> {
    let source = directory.join("source");
    let path = |name: &str| source.join(name);
    for name in ["etc", "usr/lib/deep/er", "srv/data", "var"] {
        fs::create_dir_all(path(name)).expect("mkdir");
    }
    fs::write(path("etc/passwd"), "app:x:7:8::/srv:/bin/sh\n").expect("write");
    fs::write(path("usr/lib/libc.so"), vec![7; 300_000]).expect("write");
    fs::hard_link(path("usr/lib/libc.so"), path("usr/lib/libc.so.6")).expect("link");
    fs::write(path("srv/data/old"), "old").expect("write");
    symlink("usr/lib", path("lib")).expect("link");
    fs::set_permissions(path("var"), std::os::unix::fs::PermissionsExt::from_mode(0o1777)).expect("chmod");
    fs::create_dir_all(directory.join("new")).expect("mkdir");
    fs::write(directory.join("new/fresh"), "fresh").expect("write");
    run(directory, &["umoci", "init", "--layout", "l"])?;
    run(directory, &["umoci", "new", "--image", "l:app"])?;
    run(directory, &["umoci", "insert", "--rootless", "--image", "l:app", "source", "/"])?;
    run(directory, &["umoci", "insert", "--rootless", "--image", "l:app", "--whiteout", "/usr/lib/deep"])?;
    run(directory, &["umoci", "insert", "--rootless", "--image", "l:app", "--opaque", "new", "/srv/data"])?;
    run(directory, &["umoci", "insert", "--rootless", "--image", "l:app", "new/fresh", "/var/lib/x/fresh"])?;
    let config = ["umoci", "config", "--image", "l:app", "--config.entrypoint", "/bin/app", "--config.cmd", "serve"];
    run(
        directory,
        &[&config[..], &["--config.user", "app", "--config.env", "A=b", "--config.workingdir", "srv"]].concat(),
    )
}

/// Type, mode, owner, size and content of each path; times too, but for directories.
fn pictures(tree: impl Iterator<Item = (PathBuf, PathBuf)>) -> BTreeMap<PathBuf, String> {
    let picture = |place: PathBuf| {
        let metadata = fs::symlink_metadata(&place).expect("stat");
        let target = fs::read_link(&place).ok();
        let content = metadata.is_file().then(|| fs::read(&place).expect("read"));
        let time = if metadata.is_dir() { 0 } else { metadata.mtime() };
        let digest = content.map(|content| keelbox_image_spec::Digest::of(&content));
        format!("{:o} {}:{} {time} {target:?} {digest:?}", metadata.mode(), metadata.uid(), metadata.gid())
    };
    tree.map(|(path, place)| (path, picture(place))).collect()
}

#[test]
fn an_image_of_umoci_unpacks_as_umoci_unpacks_it() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let at = directory.path();
    let Some(()) = umoci_image(at) else { return };
    let image = Image::open(&format!("oci:{}:app", at.join("l").display())).expect("valid");
    let process = image.process().expect("valid");
    assert_eq!((process.args, process.cwd.as_str()), (vec!["/bin/app".into(), "serve".into()], "/srv"));
    let unpacked = image.unpack(&Store::open(at.join("store")).expect("store")).expect("unpacked");
    assert_eq!(unpacked.layers().len(), 4);
    let user = unpacked.resolve_user(&process.user.expect("a user")).expect("known");
    assert_eq!((user.uid, user.gid), (7, 8));
    let rootless: &[&str] = if common::is_root() { &[] } else { &["--rootless"] };
    run(at, &[&["umoci", "raw", "unpack", "--image", "l:app"], rootless, &["flat"]].concat()).expect("umoci is there");
    let layers: Vec<PathBuf> = unpacked.layers().iter().map(|layer| layer.path().to_owned()).collect();
    let (ours, theirs) = (pictures(merged(&layers).into_iter()), pictures(merged(&[at.join("flat")]).into_iter()));
    assert!(ours.contains_key(Path::new("srv/data/fresh")) && !ours.contains_key(Path::new("usr/lib/deep")));
    assert_eq!(ours, theirs);
}

#[test]
fn the_same_image_in_every_form_that_skopeo_writes() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let at = directory.path();
    let Some(()) = umoci_image(at) else { return };
    let store = Store::open(at.join("store")).expect("store");
    let keys = |source: &str| {
        let image = Image::open(source).expect(source);
        assert_eq!(image.config().user(), "app");
        let unpacked = image.unpack(&store).expect(source);
        unpacked.layers().iter().map(|layer| layer.key().to_owned()).collect::<Vec<_>>()
    };
    let place = at.display();
    let original = keys(&format!("oci:{place}/l:app"));
    let copies = [
        ("oci-archive:a.tar:app", vec![format!("oci-archive:{place}/a.tar:app"), format!("{place}/a.tar")]),
        ("docker-archive:d.tar:app:1", vec![format!("docker-archive:{place}/d.tar:app:1"), format!("{place}/d.tar")]),
        ("oci:z:app", vec![format!("oci:{place}/z:app"), format!("{place}/z")]),
    ];
    for (destination, sources) in copies {
        let compression: &[&str] =
            if destination.starts_with("oci:z") { &["--dest-compress-format", "zstd"] } else { &[] };
        let copy = [&["skopeo", "copy", "--insecure-policy"], compression, &["oci:l:app", destination]].concat();
        let Some(()) = run(at, &copy) else { return };
        for source in sources {
            assert_eq!(keys(&source), original, "{source}");
        }
    }
    let error = Image::open(&format!("docker-archive:{place}/d.tar:app:2")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("app:1"), "{error}");
}

/// An image of a static busybox with what a layer can hold: links, a sparse file, a long name, a deletion.
fn edited_image(store: &Store, directory: &Path, compression: keelbox_image_spec::Compression) -> Option<Image> {
    use keelbox_image_spec::{Changeset, Edit};
    let busybox = Path::new("/bin/busybox");
    if !busybox.exists() {
        skip("no /bin/busybox");
        return None;
    }
    let tree = directory.join("tree");
    fs::create_dir_all(tree.join("data")).expect("mkdir");
    let sparse = fs::File::create(tree.join("data/sparse")).expect("file");
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", 3 << 20).expect("write");
    fs::write(tree.join("data").join("n".repeat(180)), "long").expect("write");
    fs::hard_link(tree.join("data/sparse"), tree.join("data/zz-again")).expect("link");
    let base = Changeset::new()
        .file(busybox, "/bin/busybox")
        .bytes("/gone", "x", 0o644)
        .bytes("/etc/passwd", "root:x:0:0::/:/bin/sh\n", 0o644)
        .make_directory("/tmp");
    fs::create_dir_all(tree.join("bin")).expect("mkdir");
    symlink("busybox", tree.join("bin/sh")).expect("link");
    let image = Edit::scratch(store)
        .compression(compression)
        .epoch(1_700_000_000)
        .add_layer(base)
        .add_layer(Changeset::new().directory(&tree, "/").remove("/gone"))
        .env("WORD", "it runs")
        .label("made.by", "a test")
        .expose("80")
        .entrypoint(["/bin/busybox", "sh", "-c"])
        .cmd(["echo $WORD; cd /data; busybox stat -c %s sparse zz-again; busybox tail -c 3 sparse; echo; busybox ls / | busybox grep -c gone"])
        .commit("edited:1");
    Some(image.expect("committed"))
}

#[test]
fn what_is_edited_is_read_by_skopeo_and_unpacked_by_umoci() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let at = directory.path();
    for (compression, name) in
        [(keelbox_image_spec::Compression::Gzip, "gzip"), (keelbox_image_spec::Compression::None, "none")]
    {
        let place = at.join(name);
        fs::create_dir(&place).expect("mkdir");
        let store = Store::open(place.join("store")).expect("store");
        let Some(image) = edited_image(&store, &place, compression) else { return };
        // A store is a layout of its own.
        let source = "oci:store:docker.io/library/edited:1";
        let Some(()) = run(&place, &["skopeo", "copy", "--insecure-policy", source, "oci:copy:edited"]) else { return };
        let copy = Image::open(&format!("oci:{}:edited", place.join("copy").display())).expect("valid");
        // What is not compressed, skopeo compresses.
        if compression == keelbox_image_spec::Compression::Gzip {
            assert_eq!(copy.manifest_digest(), image.manifest_digest(), "taken as it is");
        }
        assert_eq!(copy.config().diff_ids(), image.config().diff_ids());
        let rootless: &[&str] = if common::is_root() { &[] } else { &["--rootless"] };
        let unpack = [&["umoci", "raw", "unpack", "--image", "copy:edited"], rootless, &["flat"]].concat();
        let Some(()) = run(&place, &unpack) else { return };
        let unpacked = image.unpack(&store).expect("unpacked");
        let layers: Vec<PathBuf> = unpacked.layers().iter().map(|layer| layer.path().to_owned()).collect();
        let ours = pictures(merged(&layers).into_iter());
        assert_eq!(ours, pictures(merged(&[place.join("flat")]).into_iter()));
        assert!(ours.contains_key(Path::new("data/sparse")) && !ours.contains_key(Path::new("gone")));
    }
}

#[test]
fn a_change_makes_the_layer_that_umoci_s_repack_makes() {
    use keelbox_image_spec::Changeset;
    let directory = tempfile::tempdir().expect("temporary directory");
    let at = directory.path();
    let Some(()) = umoci_image(at) else { return };
    if !common::is_root() {
        return skip("only root's bundle has the owners of the image");
    }
    run(at, &["umoci", "unpack", "--image", "l:app", "bundle"]).expect("umoci is there");
    let (tree, old) = (at.join("bundle/rootfs"), at.join("old"));
    run(at, &["cp", "-a", tree.to_str().expect("text"), old.to_str().expect("text")]).expect("cp is there");
    fs::remove_dir_all(tree.join("srv/data")).expect("remove");
    fs::write(tree.join("etc/new"), "new").expect("write");
    fs::set_permissions(tree.join("etc/passwd"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("chmod");
    fs::create_dir(tree.join("usr/dir")).expect("mkdir");
    symlink("../lib", tree.join("usr/dir/link")).expect("link");
    for name in ["etc/new", "etc/passwd"] {
        // Whole seconds, or umoci rounds what is cut off here.
        let file = fs::File::options().write(true).open(tree.join(name)).expect("open");
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000)).expect("time");
    }
    run(at, &["touch", "-h", "-d", "@1000000000", "bundle/rootfs/usr/dir/link"]).expect("touch is there");
    run(at, &["umoci", "repack", "--image", "l:repacked", "bundle"]).expect("umoci is there");
    let store = Store::open(at.join("store")).expect("store");
    let layout = at.join("l");
    let theirs = Image::open(&format!("oci:{}:repacked", layout.display())).expect("valid");
    let base = Image::open(&format!("oci:{}:app", layout.display())).expect("valid");
    let ours =
        base.edit().store(&store).add_layer(Changeset::between(&old, &tree)).commit("ours:1").expect("committed");
    let see = |image: &Image| {
        let unpacked = image.unpack(&store).expect("unpacked");
        let layers: Vec<PathBuf> = unpacked.layers().iter().map(|layer| layer.path().to_owned()).collect();
        pictures(merged(&layers).into_iter())
    };
    let (ours_seen, theirs_seen) = (see(&ours), see(&theirs));
    assert!(ours_seen.contains_key(Path::new("etc/new")) && !ours_seen.contains_key(Path::new("srv/data")));
    assert_eq!(ours_seen, theirs_seen);
}

/// What the program of `edited_image` prints.
const SAID: &str = "it runs\n3145731\n3145731\nend\n0\n";

#[test]
fn what_is_edited_runs_under_podman_and_loads_into_docker() {
    if !common::is_root() {
        return skip("podman and docker are tried as root");
    }
    let directory = tempfile::tempdir().expect("temporary directory");
    let at = directory.path();
    let store = Store::open(at.join("store")).expect("store");
    let Some(_) = edited_image(&store, at, keelbox_image_spec::Compression::Gzip) else { return };
    let podman = |line: &[&str]| {
        let global = [
            "--runtime",
            "runc",
            "--root",
            "podman",
            "--runroot",
            "podman-run",
            "--storage-driver",
            "vfs",
            "--cgroup-manager",
            "cgroupfs",
        ];
        Command::new("podman").args(global).args(line).current_dir(at).output()
    };
    let pulled = match podman(&["pull", "-q", "oci:store:docker.io/library/edited:1"]) {
        Ok(pulled) => pulled,
        Err(error) => return skip(&format!("no podman: {error}")),
    };
    assert!(pulled.status.success(), "{}", String::from_utf8_lossy(&pulled.stderr));
    let id = String::from_utf8_lossy(&pulled.stdout).trim().to_owned();
    let ran = podman(&[
        "run",
        "--rm",
        "--network",
        "none",
        "--ulimit",
        "nofile=1024:1024",
        "--ulimit",
        "nproc=1024:1024",
        &id,
    ])
    .expect("podman is there");
    assert_eq!(String::from_utf8_lossy(&ran.stdout), SAID, "{}", String::from_utf8_lossy(&ran.stderr));
    let saved = [
        "skopeo",
        "copy",
        "--insecure-policy",
        "oci:store:docker.io/library/edited:1",
        "docker-archive:edited.tar:edited:1",
    ];
    let Some(()) = run(at, &saved) else { return };
    let loaded = match Command::new("docker").args(["load", "-q", "-i", "edited.tar"]).current_dir(at).output() {
        Ok(loaded) => loaded,
        Err(error) => return common::aside(&format!("no docker: {error}")),
    };
    let errors = String::from_utf8_lossy(&loaded.stderr);
    if errors.contains("Cannot connect to the Docker daemon") {
        return common::aside("no docker daemon runs here");
    }
    assert!(loaded.status.success(), "{errors}");
    let removed = Command::new("docker").args(["rmi", "-f", "edited:1"]).output().expect("docker is there");
    assert!(removed.status.success());
}
