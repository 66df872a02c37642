//! Copies between places, and what other tools make of them.

mod common;

use common::{Blob, CONFIG, GZIP, INDEX, Layout, MANIFEST, Tar, ZSTD, descriptor, gzip, plain};
use keelbox_image_spec::{Copier, Digest, ErrorKind, Form, Image, OpenOptions, Platform, Platforms, Store};
use std::fs;
use std::path::Path;
use std::process::Command;

fn tar(text: &str) -> Tar {
    Tar::new().directory("d").file("d/file", text).symlink("link", "d/file")
}

fn packed(text: &str) -> Blob {
    Blob { content: gzip(&tar(text).bytes()), media_type: GZIP, ..plain(&tar(text)) }
}

/// A layout with one image `1` of three layers, one of them twice.
fn layout() -> Layout {
    let layout = Layout::empty();
    let manifest = layout.add_image(&[packed("one"), plain(&tar("two")), packed("one")], r#"{"Cmd":["x"]}"#);
    layout.index(&[descriptor(MANIFEST, &manifest, r#","annotations":{"org.opencontainers.image.ref.name":"1"}"#)]);
    layout
}

/// A layout whose name `all` is an index of two platforms and something unknown.
fn several() -> (Layout, String) {
    let layout = Layout::empty();
    let mut entries = Vec::new();
    for architecture in ["amd64", "arm64"] {
        let platform = format!(r#""os":"linux","architecture":"{architecture}""#);
        let manifest = layout.add_image_for(&[packed("base"), packed(architecture)], "{}", &platform);
        entries.push(descriptor(MANIFEST, &manifest, &format!(r#","platform":{{{platform}}}"#)));
    }
    layout.add_blob(b"unknown");
    entries.push(descriptor("application/x.unknown", b"unknown", ""));
    let index = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{}]}}"#, entries.join(","));
    layout.add_blob(index.as_bytes());
    layout.index(&[descriptor(
        INDEX,
        index.as_bytes(),
        r#","annotations":{"org.opencontainers.image.ref.name":"all"}"#,
    )]);
    (layout, index)
}

fn at(directory: &Path, place: &str) -> String {
    let (transport, rest) = place.split_once(':').expect("a transport");
    format!("{transport}:{}", directory.join(rest).display())
}

#[test]
fn an_image_goes_round_through_every_place() {
    let layout = layout();
    let dir = tempfile::tempdir().expect("directory");
    let store = Store::open(dir.path().join("store")).expect("store");
    let copier = Copier::new().store(&store).platforms(Platforms::One(Platform::new("linux", "amd64")));
    let original = layout.open();
    let places = [
        format!("{}:1", layout.source()),
        at(dir.path(), "oci:a/b:x"),
        at(dir.path(), "oci-archive:o.tar:x"),
        "store:app:1".into(),
        at(dir.path(), "oci:a/b:y"),
        at(dir.path(), "docker-archive:d.tar:app:1"),
        "store:app:2".into(),
        at(dir.path(), "oci:c:z"),
        at(dir.path(), "oci-archive:p.tar"),
    ];
    for pair in places.windows(2) {
        let digest = copier.copy(&pair[0], &pair[1]).unwrap_or_else(|error| panic!("{pair:?}: {error}"));
        let image = match pair[1].strip_prefix("store:") {
            Some(name) => store.get(name),
            None => Image::open(&pair[1]),
        };
        let image = image.unwrap_or_else(|error| panic!("{pair:?}: {error}"));
        assert_eq!(image.config().raw(), original.config().raw(), "{pair:?}");
        if !pair[1].starts_with("docker-archive:") {
            assert_eq!(image.manifest_digest(), &digest, "{pair:?}");
        }
        let unpacked = image.unpack(&layout.store()).unwrap_or_else(|error| panic!("{pair:?}: {error}"));
        assert_eq!(unpacked.layers().len(), 2);
    }
    // Until a docker archive came in the way, no digest changed; then the compression was lost.
    assert_eq!(store.get("app:1").expect("there").manifest_digest(), original.manifest_digest());
    assert_ne!(store.get("app:2").expect("there").manifest_digest(), original.manifest_digest());
    assert!(store.verify().expect("verified").problems.is_empty());
}

#[test]
fn the_same_image_makes_the_same_archive() {
    let layout = layout();
    let dir = tempfile::tempdir().expect("directory");
    let source = format!("{}:1", layout.source());
    for kind in ["oci-archive", "docker-archive"] {
        let copy = |name: &str| {
            let place = at(dir.path(), &format!("{kind}:{name}"));
            Copier::new().copy(&source, &format!("{place}:app:1")).expect(kind);
            fs::read(dir.path().join(name)).expect("read")
        };
        let (one, two) = (copy("1.tar"), copy("2.tar"));
        assert_eq!(Digest::of(&one), Digest::of(&two));
        assert_eq!(Digest::of(&copy("1.tar")), Digest::of(&one), "in the place of the old one");
        fs::remove_file(dir.path().join("1.tar")).expect("remove");
    }
    assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 1, "nothing temporary is left");
}

#[test]
fn all_platforms_go_together() {
    let (layout, index) = several();
    let dir = tempfile::tempdir().expect("directory");
    let store = Store::open(dir.path().join("store")).expect("store");
    let copier = Copier::new().store(&store).platforms(Platforms::All);
    let places = [
        format!("{}:all", layout.source()),
        "store:app".into(),
        at(dir.path(), "oci-archive:x.tar:all"),
        at(dir.path(), "oci:l:all"),
    ];
    for pair in places.windows(2) {
        assert_eq!(copier.copy(&pair[0], &pair[1]).expect("copied"), Digest::of(index.as_bytes()), "{pair:?}");
    }
    assert!(dir.path().join("l/blobs/sha256").join(Digest::of(b"unknown").hex()).exists());
    for architecture in ["amd64", "arm64"] {
        let options = OpenOptions::new().platform(Platform::new("linux", architecture));
        for image in [options.open(&places[3]).expect("open"), options.stored(&store, "app").expect("open")] {
            assert_eq!(image.config().architecture(), architecture);
        }
        let one = Copier::new().store(&store).platforms(Platforms::One(Platform::new("linux", architecture)));
        let single = one.copy("store:app", &at(dir.path(), "oci:single:x")).expect("copied");
        assert_eq!(Image::open(&at(dir.path(), "oci:single:x")).expect("open").manifest_digest(), &single);
        let text = fs::read_to_string(dir.path().join("single/index.json")).expect("read");
        assert!(text.contains(architecture) && text.matches("sha256:").count() == 1, "{text}");
    }
    assert!(store.verify().expect("verified").problems.is_empty());
    assert_eq!(keelbox_image_spec::Collector::new(&store).collect().expect("collected").blobs, 0);
    let error = copier.copy("store:app", &at(dir.path(), "docker-archive:d.tar:app")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

#[test]
fn dockers_form_and_ocis_are_the_same_image() {
    let (layout, index) = several();
    let text = fs::read_to_string(layout.path().join("index.json")).expect("read");
    let dir = tempfile::tempdir().expect("directory");
    let store = Store::open(dir.path().join("store")).expect("store");
    let copier = Copier::new().store(&store).platforms(Platforms::One(Platform::new("linux", "arm64")));
    let source = format!("{}:all", layout.source());
    let docker = copier.clone().form(Form::Docker).copy(&source, "store:d").expect("converted");
    let image = OpenOptions::new().stored(&store, "d").expect("open");
    assert_eq!(image.media_type(), "application/vnd.docker.distribution.manifest.v2+json");
    assert!(
        image.layers().iter().all(|layer| layer.media_type() == "application/vnd.docker.image.rootfs.diff.tar.gzip")
    );
    // A layout has it in OCI's words again, and that is where it began, but for the order of its fields.
    let oci = copier.copy("store:d", &at(dir.path(), "oci:back:x")).expect("converted");
    let back = Image::open(&at(dir.path(), "oci:back:x")).expect("open");
    assert_eq!(back.media_type(), MANIFEST);
    assert_ne!(oci, docker);
    assert_eq!(back.config().raw(), image.config().raw());
    assert_eq!(copier.clone().form(Form::Keep).copy("store:d", &at(dir.path(), "oci:keep:x")).expect("kept"), docker);
    // An index that lists something docker has no name for cannot be docker's.
    let error = copier.clone().platforms(Platforms::All).form(Form::Docker).copy(&source, "store:e").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(index.contains("x.unknown") && text.contains("all"));
}

#[test]
fn what_docker_has_no_name_for_is_refused() {
    let layout = Layout::of(&[Blob { media_type: ZSTD, ..plain(&tar("x")) }]);
    let dir = tempfile::tempdir().expect("directory");
    let store = Store::open(dir.path().join("store")).expect("store");
    let copier = Copier::new().store(&store).form(Form::Docker);
    let error = copier.copy(&layout.source(), "store:app").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("zstd"), "{error}");
    assert!(store.names().expect("list").is_empty());
}

#[test]
fn an_artifact_is_copied_and_not_opened() {
    let layout = Layout::empty();
    layout.add_blob(b"{}");
    layout.add_blob(b"a chart");
    let config = descriptor("application/vnd.oci.empty.v1+json", b"{}", r#","data":"e30=""#);
    let layer = descriptor("application/x.chart", b"a chart", "");
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","artifactType":"application/x.chart","config":{config},"layers":[{layer}]}}"#
    );
    layout.add_blob(manifest.as_bytes());
    layout.index(&[descriptor(MANIFEST, manifest.as_bytes(), "")]);
    let dir = tempfile::tempdir().expect("directory");
    let store = Store::open(dir.path().join("store")).expect("store");
    let copier = Copier::new().store(&store);
    let digest = Digest::of(manifest.as_bytes());
    assert_eq!(copier.copy(&layout.source(), "store:chart:1").expect("copied"), digest);
    assert_eq!(copier.copy("store:chart:1", &at(dir.path(), "oci-archive:c.tar:1")).expect("copied"), digest);
    assert_eq!(store.get("chart:1").unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(store.images().expect("list")[0].platform, None);
    assert!(store.verify().expect("verified").problems.is_empty());
    assert!(copier.copy("store:chart:1", &at(dir.path(), "docker-archive:c.tar:c:1")).is_err());
}

#[test]
fn many_writers_of_one_layout_lose_nothing() {
    let layout = layout();
    let dir = tempfile::tempdir().expect("directory");
    let place = at(dir.path(), "oci:shared");
    std::thread::scope(|scope| {
        for writer in 0..6 {
            let (source, place) = (format!("{}:1", layout.source()), place.clone());
            scope.spawn(move || {
                for index in 0..5 {
                    Copier::new().copy(&source, &format!("{place}:{writer}-{index}")).expect("copied");
                }
            });
        }
    });
    for writer in 0..6 {
        for index in 0..5 {
            Image::open(&format!("{place}:{writer}-{index}")).expect("named");
        }
    }
    let left = fs::read_dir(dir.path().join("shared")).expect("list").count();
    assert_eq!(left, 3, "blobs, index.json, oci-layout");
}

#[test]
fn a_bad_source_changes_nothing() {
    let layout = layout();
    let dir = tempfile::tempdir().expect("directory");
    let source = format!("{}:1", layout.source());
    let image = layout.open();
    let layer = layout.blob_path_of(image.layers()[1].digest());
    let whole = fs::read(&layer).expect("read");
    let store = Store::open(dir.path().join("store")).expect("store");
    let copier = Copier::new().store(&store);
    for (content, kind) in [
        (whole[1..].to_vec(), ErrorKind::SizeMismatch),
        ([&whole[..], b"x"].concat(), ErrorKind::SizeMismatch),
        (vec![0; whole.len()], ErrorKind::DigestMismatch),
    ] {
        fs::write(&layer, content).expect("write");
        for place in ["oci:l:x", "oci-archive:o.tar:x", "docker-archive:d.tar:x", "store:x"] {
            let place = if place == "store:x" { place.to_owned() } else { at(dir.path(), place) };
            let error = copier.copy(&source, &place).unwrap_err();
            assert_eq!(error.kind(), kind, "{place}: {error}");
            assert!(error.to_string().contains(&image.layers()[1].digest().to_string()), "{place}: {error}");
        }
    }
    fs::remove_file(&layer).expect("remove");
    assert_eq!(copier.copy(&source, "store:x").unwrap_err().kind(), ErrorKind::NotFound);
    assert!(store.names().expect("list").is_empty() && !dir.path().join("l/index.json").exists());
    assert!(!dir.path().join("o.tar").exists() && !dir.path().join("d.tar").exists());
    let mine = dir.path().join("mine");
    fs::create_dir(&mine).and_then(|()| fs::write(mine.join("precious"), "")).expect("write");
    let error = copier.copy(&source, &at(dir.path(), "oci:mine:x")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert_eq!(fs::read_dir(&mine).expect("list").count(), 1);
    for place in ["", "store:", "docker://", "dir:/x", "oci:", "x.tar"] {
        assert!(copier.copy(&source, place).is_err(), "{place}");
    }
    let plain = dir.path().join("plain").display().to_string();
    assert_eq!(copier.copy(&source, &plain).unwrap_err().kind(), ErrorKind::Unsupported);
    assert!(!Path::new(&plain).exists() && !Path::new("x.tar").exists());
}

/// Runs a tool; `None`, with a reason printed, if there is no such tool.
fn run(line: &[&str]) -> Option<String> {
    match Command::new(line[0]).args(&line[1..]).output() {
        Ok(output) => {
            assert!(output.status.success(), "{line:?}: {}", String::from_utf8_lossy(&output.stderr));
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Err(error) => {
            common::skip(&format!("no {}: {error}", line[0]));
            None
        }
    }
}

#[test]
fn skopeo_and_umoci_read_what_is_written() {
    let layout = layout();
    let dir = tempfile::tempdir().expect("directory");
    let source = format!("{}:1", layout.source());
    let copier = Copier::new();
    for place in ["oci:l:x", "oci-archive:o.tar:x", "docker-archive:d.tar:app:1"] {
        let place = at(dir.path(), place);
        copier.copy(&source, &place).expect("copied");
        let Some(text) = run(&["skopeo", "inspect", "--config", "--raw", &place]) else { return };
        assert!(text.contains(r#""Cmd":["x"]"#), "{place}: {text}");
        let copy = at(dir.path(), &format!("oci:{}:y", place.split(':').next().expect("a transport")));
        run(&["skopeo", "copy", "--insecure-policy", &place, &copy]).expect("skopeo is there");
        assert_eq!(Image::open(&copy).expect("open").config().cmd(), ["x"]);
    }
    let rootless: &[&str] = if common::is_root() { &[] } else { &["--rootless"] };
    let (image, flat) = (format!("{}:x", dir.path().join("l").display()), dir.path().join("flat"));
    let flat = flat.to_str().expect("text");
    if run(&[&["umoci", "raw", "unpack", "--image", &image], rootless, &[flat]].concat()).is_some() {
        assert_eq!(fs::read_to_string(dir.path().join("flat/d/file")).expect("unpacked"), "one");
    }
}

#[test]
fn podman_loads_what_is_written_and_saves_what_is_read() {
    // Once is enough: what podman makes of it does not depend on who wrote it, and an ordinary user's needs subordinate ids.
    if !common::is_root() {
        return;
    }
    let layout = layout();
    let dir = tempfile::tempdir().expect("directory");
    let source = format!("{}:1", layout.source());
    let path = |name: &str| dir.path().join(name).display().to_string();
    let global =
        ["podman", "--storage-driver=vfs", "--root", &path("root"), "--runroot", &path("run")].map(str::to_owned);
    let podman = |line: &[&str]| run(&[&global.iter().map(String::as_str).collect::<Vec<_>>()[..], line].concat());
    for (place, file) in
        [("docker-archive:d.tar:localhost/app:1", "d.tar"), ("oci-archive:o.tar:localhost/app:2", "o.tar")]
    {
        Copier::new().copy(&source, &at(dir.path(), place)).expect("copied");
        let Some(text) = podman(&["load", "-q", "-i", &path(file)]) else { return };
        assert!(text.contains("localhost/app:"), "{text}");
    }
    let id = podman(&["image", "inspect", "--format", "{{.Id}}", "localhost/app:1"]).expect("podman is there");
    assert_eq!(id.trim(), layout.open().config().id().hex(), "the image id is the digest of the configuration");
    for format in ["docker-archive", "oci-archive"] {
        podman(&["save", "-q", "--format", format, "-o", &path(format), "localhost/app:1"]).expect("podman is there");
        let image = Image::open(&format!("{format}:{}", path(format))).expect(format);
        assert_eq!(image.config().cmd(), ["x"]);
        image.unpack(&layout.store()).expect(format);
    }
    assert_eq!(CONFIG, "application/vnd.oci.image.config.v1+json");
}

#[test]
fn everything_again_as_an_ordinary_user() {
    common::again_as_an_ordinary_user();
}
