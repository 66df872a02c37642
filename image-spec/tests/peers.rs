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
