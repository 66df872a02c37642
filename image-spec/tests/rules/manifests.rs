//! Media types, indexes, manifests and artifacts: IS-20 to IS-38.

use super::*;
use common::{Blob, GZIP, INDEX, PLAIN, ZSTD, gzip};
use keelbox_image_spec::{Copier, OpenOptions, Platform, Platforms};

const LAYERS: &str = "application/vnd.oci.image.layer";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

fn tar() -> Tar {
    Tar::new().file("a", "x")
}

fn layer(content: Vec<u8>, media_type: &'static str) -> Blob {
    Blob { content, media_type, diff_id: Digest::of(&tar().bytes()) }
}

fn for_platform(manifest: &[u8], platform: &str) -> String {
    descriptor(MANIFEST, manifest, &format!(",\"platform\":{{{platform}}}"))
}

fn open(layout: &Layout, platform: &Platform) -> Result<Image> {
    OpenOptions::new().platform(platform.clone()).open(&layout.source())
}

/// Copies the layout into a store and to another layout, which must not change it.
fn goes_round(layout: &Layout, manifest: &str) {
    let (directory, store) = store();
    let copier = Copier::new().store(&store).platforms(Platforms::All);
    let place = directory.path().join("copy");
    let digest = Digest::of(manifest.as_bytes());
    assert_eq!(copier.copy(&layout.source(), "store:x").expect("into a store"), digest);
    assert_eq!(copier.copy("store:x", &format!("oci:{}:x", place.display())).expect("out of it"), digest);
    assert_eq!(fs::read(place.join("blobs/sha256").join(digest.hex())).expect("a blob"), manifest.as_bytes());
}

/// An artifact with this configuration and these layers, in a layout of its own.
fn artifact(kind: Option<&str>, config: (&str, &[u8]), layers: &[(&str, &[u8])]) -> (Layout, String) {
    let layout = Layout::empty();
    layout.add_blob(config.1);
    layers.iter().for_each(|(_, content)| layout.add_blob(content));
    let described: Vec<String> = layers.iter().map(|(name, content)| descriptor(name, content, "")).collect();
    let kind = kind.map(|kind| format!("\"artifactType\":\"{kind}\",")).unwrap_or_default();
    let config = descriptor(config.0, config.1, "");
    let layers = described.join(",");
    let manifest =
        format!(r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}",{kind}"config":{config},"layers":[{layers}]}}"#);
    layout.add_blob(manifest.as_bytes());
    layout.index(&[descriptor(MANIFEST, manifest.as_bytes(), "")]);
    (layout, manifest)
}

#[test]
fn is_20_every_media_type_of_the_specification_is_known() {
    let bytes = tar().bytes();
    for (media_type, content) in [
        (PLAIN, bytes.clone()),
        (GZIP, gzip(&bytes)),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar", bytes.clone()),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", gzip(&bytes)),
    ] {
        let layout = Layout::of(&[layer(content, media_type)]);
        assert_eq!(outcome(layout.unpack()), Ok(()), "{media_type}");
        assert_eq!(layout.open().layers()[0].media_type(), media_type);
    }
    let layout = Layout::empty();
    let manifest = small(&layout, &format!(",\"mediaType\":\"{MANIFEST}\""));
    layout.add_blob(manifest.as_bytes());
    let entry = descriptor(MANIFEST, manifest.as_bytes(), "");
    let index = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{entry}]}}"#);
    layout.add_blob(index.as_bytes());
    assert_eq!(opened(&layout, &[descriptor(INDEX, index.as_bytes(), "")]), Ok(()));
}

#[test]
fn is_22_dockers_types_mean_the_same() {
    let docker = |name: &str| format!("application/vnd.docker.{name}");
    let (list, single) = (docker("distribution.manifest.list.v2+json"), docker("distribution.manifest.v2+json"));
    let layout = Layout::empty();
    let bytes = gzip(&tar().bytes());
    let manifest = layout.add_image(&[layer(bytes, "application/vnd.docker.image.rootfs.diff.tar.gzip")], "{}");
    let manifest = String::from_utf8(manifest).expect("text").replace(CONFIG, &docker("container.image.v1+json"));
    let manifest = manifest.replacen('{', &format!("{{\"mediaType\":\"{single}\","), 1);
    layout.add_blob(manifest.as_bytes());
    let entry = descriptor(&single, manifest.as_bytes(), "");
    let index = format!(r#"{{"schemaVersion":2,"mediaType":"{list}","manifests":[{entry}]}}"#);
    layout.add_blob(index.as_bytes());
    assert_eq!(opened(&layout, &[descriptor(&list, index.as_bytes(), "")]), Ok(()));
    assert_eq!(layout.open().media_type(), single);
    assert!(layout.unpack().expect("unpacked").layers()[0].path().join("a").exists());
}

#[test]
fn is_23_what_an_index_has_to_have() {
    let layout = Layout::empty();
    let entry = descriptor(MANIFEST, &command(&layout, "x"), "");
    let with = |text: &str| {
        layout.write("index.json", text.as_bytes());
        outcome(Image::open(&layout.source()))
    };
    assert_eq!(with(&format!(r#"{{"schemaVersion":2,"manifests":[{entry}]}}"#)), Ok(()));
    assert_eq!(with(&format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{entry}]}}"#)), Ok(()));
    assert_eq!(with(r#"{"schemaVersion":2,"manifests":[]}"#), Err(ErrorKind::NotFound), "an index of nothing");
    for wrong in [
        format!(r#"{{"manifests":[{entry}]}}"#),
        format!(r#"{{"schemaVersion":1,"manifests":[{entry}]}}"#),
        format!(r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","manifests":[{entry}]}}"#),
        r#"{"schemaVersion":2}"#.to_owned(),
        r#"{"schemaVersion":2,"manifests":null}"#.to_owned(),
        format!(r#"{{"schemaVersion":2,"manifests":{entry}}}"#),
    ] {
        assert_eq!(with(&wrong), Err(ErrorKind::Format), "{wrong}");
    }
}

#[test]
fn is_25_a_platform_has_system_and_processor() {
    let layout = Layout::empty();
    let manifest = command(&layout, "x");
    let amd64 = Platform::new("linux", "amd64");
    let with = |platform: &str| {
        layout.index(&[for_platform(&manifest, platform)]);
        outcome(open(&layout, &amd64))
    };
    let both = r#""os":"linux","architecture":"amd64""#;
    let all = format!(r#"{both},"os.version":"6.1","os.features":[],"variant":"v1","features":["sse4"]"#);
    assert_eq!((with(both), with(&all)), (Ok(()), Ok(())));
    for wrong in [r#""os":"linux""#, r#""architecture":"amd64""#, ""] {
        assert_eq!(with(wrong), Err(ErrorKind::Format), "{wrong}");
    }
    // Features of a system that this one does not have lose against none.
    let other = command(&layout, "other");
    layout
        .index(&[for_platform(&manifest, &format!(r#"{both},"os.features":["win32k"]"#)), for_platform(&other, both)]);
    assert_eq!(runs(&open(&layout, &amd64).expect("one of two")), "other");
}

#[test]
fn is_26_variants_of_processors() {
    let rank = |host: &str, image: &str| {
        let parse = |text: &str| Platform::parse(text).expect("a platform");
        parse(host).rank(&parse(image))
    };
    for (host, image) in [
        ("linux/arm/v7", "linux/arm/v6"),
        ("linux/arm/v8", "linux/arm/v7"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm64", "linux/arm64/v8"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/v9", "linux/arm64/v8"),
        ("linux/amd64/v3", "linux/amd64/v2"),
        ("linux/amd64", "linux/amd64/v1"),
        ("linux/ppc64le/power9", "linux/ppc64le/power9"),
        ("linux/riscv64", "linux/riscv64"),
    ] {
        assert!(rank(host, image).is_some(), "{host} runs {image}");
    }
    for (host, image) in [
        ("linux/arm/v6", "linux/arm/v7"),
        ("linux/arm64", "linux/arm64/v9"),
        ("linux/amd64", "linux/amd64/v2"),
        ("linux/riscv64", "linux/riscv64/rva23u64"),
        ("linux/ppc64le", "linux/ppc64"),
    ] {
        assert_eq!(rank(host, image), None, "{host} does not run {image}");
    }
    assert!(rank("linux/arm/v8", "linux/arm/v7") < rank("linux/arm/v8", "linux/arm/v6"), "the nearest is the best");
}

#[test]
fn is_27_the_first_of_several_that_match() {
    let layout = Layout::empty();
    let arm = Platform::new("linux", "arm64");
    let [one, two, three] = ["one", "two", "three"].map(|text| command(&layout, text));
    let (own, other) = (r#""os":"linux","architecture":"arm64""#, r#""os":"linux","architecture":"s390x""#);
    for (order, first) in [([&one, &two], "one"), ([&two, &one], "two")] {
        layout.index(&[for_platform(&three, other), for_platform(order[0], own), for_platform(order[1], own)]);
        assert_eq!(runs(&open(&layout, &arm).expect("several")), first);
    }
}

#[test]
fn is_28_the_other_fields_of_an_index_are_kept() {
    let layout = Layout::empty();
    let manifest = command(&layout, "x");
    let entry = for_platform(&manifest, r#""os":"linux","architecture":"amd64""#);
    let subject = descriptor(MANIFEST, b"somewhere else", "");
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{INDEX}","artifactType":"application/x.set","manifests":[{entry}],"subject":{subject},"annotations":{{"a":"b"}}}}"#
    );
    layout.add_blob(index.as_bytes());
    assert_eq!(opened(&layout, &[descriptor(INDEX, index.as_bytes(), "")]), Ok(()));
    goes_round(&layout, &index);
}

#[test]
fn is_31_an_unknown_configuration_is_not_parsed() {
    let (layout, manifest) = artifact(None, ("application/x.other+json", b"\xff no JSON"), &[("x/y", b"content")]);
    assert_eq!(outcome(Image::open(&layout.source())), Err(ErrorKind::Unsupported));
    goes_round(&layout, &manifest);
    // The same bytes as an image's are read, and are wrong.
    let (layout, _) = artifact(None, (CONFIG, b"\xff no JSON"), &[]);
    assert_eq!(outcome(Image::open(&layout.source())), Err(ErrorKind::Format));
}

#[test]
fn is_32_layers_lie_on_one_another_in_their_order() {
    let numbered = |number: &str| Tar::new().file("all", number).file(number, "");
    let order = ["1", "2", "3"];
    let layout = Layout::tars(&order.map(numbered));
    let view = layout.unpack().expect("unpacked").view().expect("a view");
    assert_eq!(view.read("all").expect("read"), b"3", "the last is on top");
    assert!(order.iter().all(|name| view.exists(name).expect("looked")));
    let layout = Layout::tars(&["3", "2", "1"].map(numbered));
    assert_eq!(layout.unpack().expect("unpacked").view().expect("a view").read("all").expect("read"), b"1");
    assert!(!Layout::of(&[]).unpack().expect("no layers").view().expect("a view").exists("all").expect("looked"));
}

#[test]
fn is_33_layers_that_can_be_unpacked_and_others() {
    let bytes = tar().bytes();
    for media_type in ["v1.tar", "v1.tar+gzip", "nondistributable.v1.tar", "nondistributable.v1.tar+gzip"] {
        let content = if media_type.ends_with("gzip") { gzip(&bytes) } else { bytes.clone() };
        let layout = Layout::of(&[layer(content.clone(), PLAIN)]);
        let manifest = String::from_utf8(layout.open().raw_manifest().to_vec()).expect("text");
        let manifest = manifest.replace(PLAIN, &format!("{LAYERS}.{media_type}"));
        assert_eq!(with_manifest(&layout, &manifest), Ok(()));
        assert_eq!(outcome(layout.unpack()), Ok(()), "{media_type}");
    }
    if cfg!(feature = "zstd") {
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        let content = ruzstd::encoding::compress_to_vec(&bytes[..], level);
        assert_eq!(outcome(Layout::of(&[layer(content, ZSTD)]).unpack()), Ok(()));
    }
    let layout = Layout::of(&[layer(bytes, "application/x.layer")]);
    let manifest = String::from_utf8(layout.open().raw_manifest().to_vec()).expect("text");
    goes_round(&layout, &manifest);
    assert_eq!(outcome(layout.unpack()), Err(ErrorKind::Unsupported));
}

#[test]
fn is_34_types_of_artifacts_are_nobodys_error() {
    for (kind, config) in [
        (Some("application/x.unheard-of"), EMPTY),
        (Some("application/x.unheard-of"), "application/x.config+json"),
        // As artifacts were before 1.1: the type of the configuration tells.
        (None, "application/vnd.cncf.helm.config.v1+json"),
    ] {
        let (layout, manifest) = artifact(kind, (config, b"{}"), &[("application/x.content", b"content")]);
        goes_round(&layout, &manifest);
        let error = Image::open(&layout.source()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains(config), "it tells what it is: {error}");
    }
}

#[test]
fn is_35_a_configuration_of_an_artifact_is_not_an_images() {
    for config in [EMPTY, "application/x.config.v1+json", "text/plain"] {
        // Even if it looks like one.
        let (layout, manifest) = artifact(Some("application/x.y"), (config, SMALL.as_bytes()), &[]);
        assert_eq!(outcome(Image::open(&layout.source())), Err(ErrorKind::Unsupported), "{config}");
        goes_round(&layout, &manifest);
    }
    let (layout, _) = artifact(Some("application/x.y"), (CONFIG, SMALL.as_bytes()), &[]);
    assert_eq!(outcome(Image::open(&layout.source())), Ok(()));
}

#[test]
fn is_36_the_empty_descriptor() {
    let empty = descriptor(EMPTY, b"{}", r#","data":"e30=""#);
    assert!(empty.contains("sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\""), "{empty}");
    assert!(empty.contains("\"size\":2"), "{empty}");
    let layout = Layout::empty();
    layout.add_blob(b"{}");
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","artifactType":"application/x.y","config":{empty},"layers":[{empty}]}}"#
    );
    layout.add_blob(manifest.as_bytes());
    layout.index(&[descriptor(MANIFEST, manifest.as_bytes(), "")]);
    goes_round(&layout, &manifest);
}

#[test]
fn is_38_the_three_shapes_of_artifacts() {
    let content: &[(&str, &[u8])] = &[("application/x.content", b"content")];
    for (config, layers) in [
        ((EMPTY, &b"{}"[..]), &[(EMPTY, &b"{}"[..])][..]),
        ((EMPTY, b"{}"), content),
        (("application/x.config+json", br#"{"a":1}"#), content),
    ] {
        let (layout, manifest) = artifact(Some("application/x.y"), config, layers);
        goes_round(&layout, &manifest);
    }
}
