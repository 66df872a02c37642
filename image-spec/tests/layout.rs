//! Opening: names, platforms, nested indexes, archives, and documents that lie.

mod common;

use common::{Blob, CONFIG, Header, INDEX, Layout, MANIFEST, Tar, descriptor, gzip, plain};
use keelbox_image_spec::{Digest, ErrorKind, Image, Limits, OpenOptions, Platform};
use std::fs;

const REF_NAME: &str = "org.opencontainers.image.ref.name";

fn named(manifest: &[u8], name: &str) -> String {
    descriptor(MANIFEST, manifest, &format!(r#","annotations":{{"{REF_NAME}":"{name}"}}"#))
}

fn for_platform(media_type: &str, content: &[u8], os: &str, architecture: &str, variant: &str) -> String {
    let variant = if variant.is_empty() { String::new() } else { format!(r#","variant":"{variant}""#) };
    descriptor(media_type, content, &format!(r#","platform":{{"os":"{os}","architecture":"{architecture}"{variant}}}"#))
}

fn image(layout: &Layout, command: &str) -> Vec<u8> {
    layout.add_image(&[], &format!(r#"{{"Cmd":["{command}"]}}"#))
}

fn command(image: &Image) -> &str {
    &image.config().cmd()[0]
}

#[test]
fn names_choose_and_errors_list_them() {
    let layout = Layout::empty();
    let (one, two) = (image(&layout, "one"), image(&layout, "two"));
    let containerd =
        descriptor(MANIFEST, &two, r#","annotations":{"io.containerd.image.name":"docker.io/library/two:2"}"#);
    layout.index(&[named(&one, "1"), containerd]);
    let open = |name: &str| Image::open(&format!("{}{name}", layout.source()));
    assert_eq!(command(&open(":1").expect("by name")), "one");
    assert_eq!(open(":1").expect("by name").name(), Some("1"));
    assert_eq!(command(&open(":docker.io/library/two:2").expect("by containerd's name")), "two");
    assert_eq!(command(&open(&format!(":@{}", Digest::of(&two))).expect("by digest")), "two");
    assert_eq!(command(&Image::open(&format!("{}:1", layout.path().display())).expect("a plain path")), "one");
    let ambiguous = open("").unwrap_err();
    assert_eq!(ambiguous.kind(), ErrorKind::Ambiguous);
    assert!(ambiguous.to_string().contains("there is 1, docker.io/library/two:2"), "{ambiguous}");
    let missing = open(":3").unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(missing.to_string().contains("there is 1, docker.io/library/two:2"), "{missing}");
    layout.index(&[named(&one, "1")]);
    assert_eq!(command(&open("").expect("the only one")), "one");
    layout.index(&[]);
    assert_eq!(open("").unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn raw_documents_are_kept() {
    let layout = Layout::empty();
    let manifest = image(&layout, "x");
    layout.index(&[descriptor(MANIFEST, &manifest, "")]);
    let image = layout.open();
    assert_eq!(image.raw_manifest(), manifest);
    assert_eq!(*image.manifest_digest(), Digest::of(&manifest));
    assert_eq!(image.to_oci_spec().expect("fits").layers().len(), 0);
}

#[test]
fn platforms_choose_within_nested_indexes() {
    let layout = Layout::empty();
    let (amd, arm7, arm64, other) =
        (image(&layout, "amd"), image(&layout, "arm7"), image(&layout, "arm64"), image(&layout, "s390x"));
    let attestation = descriptor(
        MANIFEST,
        &other,
        r#","annotations":{"vnd.docker.reference.type":"attestation-manifest"},"platform":{"os":"linux","architecture":"amd64"}"#,
    );
    let inner = [
        attestation,
        descriptor("application/x.unknown", b"x", ""),
        for_platform(MANIFEST, &arm7, "linux", "arm", "v7"),
        for_platform(MANIFEST, &arm64, "linux", "arm64", "v8"),
        for_platform(MANIFEST, &amd, "linux", "amd64", ""),
        for_platform(MANIFEST, &other, "linux", "amd64", ""),
        for_platform(MANIFEST, &other, "linux", "s390x", ""),
    ];
    let inner = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, inner.join(","));
    layout.add_blob(inner.as_bytes());
    let outer = format!(
        r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{}]}}"#,
        descriptor(INDEX, inner.as_bytes(), "")
    );
    layout.add_blob(outer.as_bytes());
    layout.index(&[descriptor(INDEX, outer.as_bytes(), "")]);
    let open =
        |platform: &str| OpenOptions::new().platform(Platform::parse(platform).expect(platform)).open(&layout.source());
    for (platform, found) in [
        ("linux/amd64", "amd"),
        ("linux/amd64/v3", "amd"),
        ("linux/arm64", "arm64"),
        ("linux/arm64/v8.2", "arm64"),
        ("linux/arm/v7", "arm7"),
        ("linux/s390x", "s390x"),
    ] {
        assert_eq!(command(&open(platform).expect(platform)), found);
    }
    for platform in ["linux/riscv64", "linux/arm/v6", "windows/amd64"] {
        let error = open(platform).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("linux/arm, linux/arm64, linux/amd64"), "{error}");
    }
}

#[test]
fn indexes_nest_to_a_bounded_depth() {
    let layout = Layout::empty();
    let manifest = image(&layout, "x");
    let mut inner = descriptor(MANIFEST, &manifest, "");
    for depth in 0..8 {
        layout.index(&[inner.clone()]);
        let result = Image::open(&layout.source()).map_err(|error| error.kind());
        // One index in `index.json` is depth 1.
        let fine = depth <= Limits::default().index_depth;
        assert_eq!(result.err(), (!fine).then_some(ErrorKind::Limit), "depth {depth}");
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{inner}],"annotations":{{"depth":"{depth}"}}}}"#);
        layout.add_blob(index.as_bytes());
        inner = descriptor(INDEX, index.as_bytes(), "");
    }
}

#[test]
fn docker_media_types_mean_the_same() {
    let layout = Layout::empty();
    let tar = Tar::new().file("a", "x");
    let blob = Blob {
        content: gzip(&tar.bytes()),
        media_type: "application/vnd.docker.image.rootfs.diff.tar.gzip",
        diff_id: Digest::of(&tar.bytes()),
    };
    let manifest = String::from_utf8(layout.add_image(&[blob], "{}")).expect("text");
    let manifest = manifest.replace(CONFIG, "application/vnd.docker.container.image.v1+json");
    layout.add_blob(manifest.as_bytes());
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    let list = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.list.v2+json","manifests":[{}]}}"#,
        for_platform(docker, manifest.as_bytes(), "linux", std::env::consts::ARCH, "")
    );
    layout.add_blob(list.as_bytes());
    layout.index(&[descriptor("application/vnd.docker.distribution.manifest.list.v2+json", list.as_bytes(), "")]);
    let image = layout.open();
    assert_eq!(image.media_type(), docker);
    assert!(layout.unpack().expect("valid").layers()[0].path().join("a").exists());
}

#[test]
fn content_is_checked_by_size_and_then_by_digest() {
    let layout = Layout::empty();
    let manifest = image(&layout, "x");
    let path = layout.blob_path(&manifest);
    let kind = |index: String| {
        layout.index(&[index]);
        Image::open(&layout.source()).map(drop).map_err(|error| error.kind())
    };
    let good = descriptor(MANIFEST, &manifest, "");
    assert_eq!(kind(good.clone()), Ok(()));
    assert_eq!(kind(good.replace(&format!("\"size\":{}", manifest.len()), "\"size\":7")), Err(ErrorKind::SizeMismatch));
    assert_eq!(kind(good.replace(&format!("\"size\":{}", manifest.len()), "\"size\":5000000")), Err(ErrorKind::Limit));
    let embedded = |data: &str| descriptor(MANIFEST, &manifest, &format!(r#","data":"{data}""#));
    assert_eq!(kind(embedded("e30=")), Err(ErrorKind::SizeMismatch));
    assert_eq!(kind(embedded("???")), Err(ErrorKind::Format));
    let mut wrong = manifest.clone();
    wrong[5] ^= 1;
    fs::write(&path, &wrong).expect("write");
    assert_eq!(kind(good.clone()), Err(ErrorKind::DigestMismatch));
    fs::write(&path, &manifest[1..]).expect("write");
    assert_eq!(kind(good.clone()), Err(ErrorKind::SizeMismatch));
    fs::remove_file(&path).expect("remove");
    assert_eq!(kind(good.clone()), Err(ErrorKind::NotFound));
    assert_eq!(kind(good.replace("sha256:", "sha999:")), Err(ErrorKind::Unsupported));
    assert_eq!(kind(good.replace(Digest::of(&manifest).hex(), "../../../../etc/passwd")), Err(ErrorKind::Format));
}

#[test]
fn embedded_content_stands_for_the_blob() {
    let layout = Layout::empty();
    let config = r#"{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}"#;
    // The configuration above in base64; there is no blob of it.
    let data =
        "eyJvcyI6ImxpbnV4IiwiYXJjaGl0ZWN0dXJlIjoiYW1kNjQiLCJyb290ZnMiOnsidHlwZSI6ImxheWVycyIsImRpZmZfaWRzIjpbXX19";
    let config = descriptor(CONFIG, config.as_bytes(), &format!(r#","data":"{data}""#));
    let manifest = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]}}"#);
    layout.add_blob(manifest.as_bytes());
    layout.index(&[descriptor(MANIFEST, manifest.as_bytes(), "")]);
    assert_eq!(layout.open().config().architecture(), "amd64");
}

#[test]
fn documents_that_do_not_fit_together_are_refused() {
    let layout = Layout::empty();
    let layer = || plain(&Tar::new().file("a", ""));
    let manifest = String::from_utf8(layout.add_image(&[layer()], "{}")).expect("text");
    let kind = |manifest: &str, media_type: &str| {
        layout.add_blob(manifest.as_bytes());
        layout.index(&[descriptor(media_type, manifest.as_bytes(), "")]);
        Image::open(&layout.source()).map(drop).map_err(|error| error.kind())
    };
    assert_eq!(kind(&manifest, MANIFEST), Ok(()));
    assert_eq!(kind(&manifest, INDEX), Err(ErrorKind::Format), "a manifest that is served as an index");
    assert_eq!(
        kind(&manifest.replace("{\"schemaVersion\":2", "{\"schemaVersion\":2,\"manifests\":[]"), MANIFEST),
        Err(ErrorKind::Format)
    );
    assert_eq!(
        kind(&manifest.replace("\"layers\":[", "\"layers\":[],\"x\":["), MANIFEST),
        Err(ErrorKind::Format),
        "fewer layers than diff_ids"
    );
    assert_eq!(
        kind(&manifest.replace(CONFIG, "application/vnd.oci.empty.v1+json"), MANIFEST),
        Err(ErrorKind::Unsupported)
    );
    assert_eq!(kind(&manifest, "text/plain"), Err(ErrorKind::NotFound), "not a candidate at all");
    let error = OpenOptions::new().limits(Limits::default().layers(0)).open(&layout.source());
    assert_eq!(error.map(drop).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(kind(&manifest, MANIFEST), Ok(()));
    let error = OpenOptions::new().limits(Limits::default().layers(0)).open(&layout.source());
    assert_eq!(error.map(drop).unwrap_err().kind(), ErrorKind::Limit);
    // A layer of an unknown kind may be there, but cannot be unpacked.
    assert_eq!(kind(&manifest.replace(common::PLAIN, "application/vnd.example.layer"), MANIFEST), Ok(()));
    assert_eq!(layout.unpack().map(drop).unwrap_err().kind(), ErrorKind::Unsupported);
    for (name, content) in [
        ("oci-layout", &b"{}"[..]),
        ("oci-layout", br#"{"imageLayoutVersion":"2.0.0"}"#),
        ("index.json", b"[]"),
        ("index.json", b"{\"a\":1,\"a\":2}"),
    ] {
        let before = fs::read(layout.path().join(name)).expect(name);
        layout.write(name, content);
        assert!(Image::open(&layout.source()).is_err());
        layout.write(name, &before);
    }
    let huge = format!("{{\"schemaVersion\":2,\"manifests\":[],\"x\":\"{}\"}}", "x".repeat(5 << 20));
    layout.write("index.json", huge.as_bytes());
    assert_eq!(Image::open(&layout.source()).map(drop).unwrap_err().kind(), ErrorKind::Limit);
}

/// The files of a layout as an archive.
fn archive(layout: &Layout, prefix: &str) -> Tar {
    let mut tar = Tar::new();
    for path in common::picture(&layout.path()).keys() {
        if let Ok(content) = fs::read(layout.path().join(path)) {
            let name = format!("{prefix}{}", path.display());
            tar = tar.entry(Header::new(b'0', name), &content);
        }
    }
    tar
}

#[test]
fn a_layout_in_an_archive_is_read_in_place() {
    let tar = Tar::new().file("a", "x");
    let layout = Layout::tars(&[tar]);
    for prefix in ["", "./"] {
        let file = layout.directory.path().join("layout.tar");
        fs::write(&file, archive(&layout, prefix).bytes()).expect("write");
        for source in [format!("oci-archive:{}", file.display()), file.display().to_string()] {
            let image = Image::open(&source).expect("valid");
            let unpacked = image.unpack(&layout.store()).expect("valid");
            assert!(unpacked.layers()[0].path().join("a").exists());
        }
    }
    let file = layout.directory.path().join("bad.tar");
    let open = |content: &[u8]| {
        fs::write(&file, content).expect("write");
        Image::open(&format!("oci-archive:{}", file.display())).map(drop).map_err(|error| error.kind())
    };
    let twice = archive(&layout, "").file("./index.json", "{}");
    assert_eq!(open(&twice.bytes()), Err(ErrorKind::Format), "which of two counts is not for us to say");
    assert_eq!(open(&gzip(&archive(&layout, "").bytes())), Err(ErrorKind::Unsupported));
    assert_eq!(open(&archive(&layout, "").0[..2000]), Err(ErrorKind::Format));
    assert_eq!(open(b""), Err(ErrorKind::NotFound));
    assert_eq!(open(&[b'x'; 512]), Err(ErrorKind::Format));
    assert_eq!(
        open(&Tar::new().symlink("index.json", "oci-layout").symlink("oci-layout", "index.json").bytes()),
        Err(ErrorKind::Format)
    );
}

#[test]
fn docker_archives_of_old_and_new_forms() {
    let (base, top) = (Tar::new().file("a", "base"), Tar::new().file("b", "top"));
    let ids = format!("\"{0}\",\"{1}\",\"{0}\"", Digest::of(&base.bytes()), Digest::of(&top.bytes()));
    let config = format!(
        r#"{{"os":"linux","architecture":"amd64","config":{{"Cmd":["run"]}},"rootfs":{{"type":"layers","diff_ids":[{ids}]}}}}"#
    );
    let config_name = format!("{}.json", Digest::of(config.as_bytes()).hex());
    let manifest = |tags: &str| {
        format!(
            r#"{{"Config":"{config_name}","RepoTags":{tags},"Layers":["1/layer.tar","2/layer.tar","3/layer.tar"]}}"#
        )
    };
    let directory = tempfile::tempdir().expect("temporary directory");
    let file = directory.path().join("x.tar");
    let open = |manifests: &str, top: &[u8], name: &str| {
        let tar = Tar::new()
            .entry(Header::new(b'0', "1/layer.tar"), &base.bytes())
            .entry(Header::new(b'0', "2/layer.tar"), top)
            .symlink("3/layer.tar", "../1/layer.tar")
            .file(&config_name, &config)
            .file("manifest.json", manifests);
        fs::write(&file, tar.bytes()).expect("write");
        Image::open(&format!("docker-archive:{}{name}", file.display()))
    };
    let one = format!("[{}]", manifest(r#"["app:1","docker.io/library/other:latest"]"#));
    for (name, content) in [
        ("", top.bytes()),
        (":app:1", gzip(&top.bytes())),
        (":docker.io/library/app:1", top.bytes()),
        (":other", top.bytes()),
    ] {
        let image = open(&one, &content, name).expect(name);
        assert_eq!(image.name(), Some("app:1"));
        assert_eq!(*image.layers()[1].digest(), Digest::of(&content));
        assert_eq!(*image.manifest_digest(), Digest::of(image.raw_manifest()));
        assert!(image.to_oci_spec().is_ok());
        let store = keelbox_image_spec::Store::open(directory.path().join("store")).expect("store");
        let view = image.unpack(&store).expect("valid").view().expect("view");
        assert_eq!((view.read("a").expect("base"), view.read("b").expect("top")), (b"base".to_vec(), b"top".to_vec()));
    }
    let error = open(&one, &top.bytes(), ":none").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("app:1"), "{error}");
    let two = format!("[{},{}]", manifest(r#"["app:1"]"#), manifest("null"));
    assert_eq!(open(&two, &top.bytes(), "").unwrap_err().kind(), ErrorKind::Ambiguous);
    assert!(open(&two, &top.bytes(), ":app:1").is_ok());
    assert_eq!(open("[]", &top.bytes(), "").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(open("{}", &top.bytes(), "").unwrap_err().kind(), ErrorKind::Format);
    let short = one.replace(",\"3/layer.tar\"", "");
    assert_eq!(open(&short, &top.bytes(), "").unwrap_err().kind(), ErrorKind::Format);
    assert_eq!(
        open(&one.replace("2/layer.tar", "4/layer.tar"), &top.bytes(), "").unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert_eq!(
        open(&one.replace("2/layer.tar", "../../etc/passwd"), &top.bytes(), "").unwrap_err().kind(),
        ErrorKind::NotFound
    );
    let wrong = open(&one, &Tar::new().file("evil", "").bytes(), "").expect("opened");
    let store = keelbox_image_spec::Store::open(directory.path().join("another")).expect("store");
    assert_eq!(wrong.unpack(&store).map(drop).unwrap_err().kind(), ErrorKind::DigestMismatch);
}
