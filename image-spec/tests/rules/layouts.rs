//! Layouts of images: IS-50 to IS-57.

use super::*;
use common::{Header, INDEX};
use keelbox_image_spec::{Collector, Copier};
use std::path::Path;

fn named(name: &str) -> String {
    format!(r#","annotations":{{"org.opencontainers.image.ref.name":"{name}"}}"#)
}

fn one() -> (Layout, String) {
    let layout = Layout::empty();
    let entry = descriptor(MANIFEST, &layout.add_image(&[plain(&Tar::new().file("a", "x"))], "{}"), "");
    layout.index(std::slice::from_ref(&entry));
    (layout, entry)
}

fn count(path: &Path) -> usize {
    fs::read_dir(path).expect("list").count()
}

#[test]
fn is_50_what_a_layout_consists_of() {
    let (layout, _entry) = one();
    let index = fs::read(layout.path().join("index.json")).expect("an index");
    let with = |name: &str, content: &str| {
        layout.write(name, content.as_bytes());
        outcome(Image::open(&layout.source()))
    };
    assert_eq!(with("oci-layout", r#"{"imageLayoutVersion":"1.0.0","more":{}}"#), Ok(()));
    for wrong in ["{}", "[]", "\"1.0.0\"", "", r#"{"imageLayoutVersion":1}"#] {
        assert_eq!(with("oci-layout", wrong), Err(ErrorKind::Format), "{wrong}");
    }
    assert_eq!(with("oci-layout", r#"{"imageLayoutVersion":"2.0.0"}"#), Err(ErrorKind::Unsupported));
    assert_eq!(with("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#), Ok(()));
    for wrong in ["", "[]", "{}", SMALL] {
        assert_eq!(with("index.json", wrong), Err(ErrorKind::Format), "{wrong}");
    }
    layout.write("index.json", &index);
    for name in ["oci-layout", "index.json"] {
        let content = fs::read(layout.path().join(name)).expect("read");
        fs::remove_file(layout.path().join(name)).expect("remove");
        assert_eq!(outcome(Image::open(&layout.source())), Err(ErrorKind::NotFound), "without {name}");
        layout.write(name, &content);
    }
    // What is written has all three.
    let copy = layout.directory.path().join("copy");
    Copier::new().copy(&layout.source(), &format!("oci:{}:x", copy.display())).expect("copied");
    let version = json(&fs::read(copy.join("oci-layout")).expect("read"));
    assert_eq!(version, serde_json::json!({ "imageLayoutVersion": "1.0.0" }));
    let index = json(&fs::read(copy.join("index.json")).expect("read"));
    assert_eq!((index["schemaVersion"].as_u64(), index["mediaType"].as_str()), (Some(2), Some(INDEX)));
    assert_eq!(count(&copy.join("blobs/sha256")), 3);
}

#[test]
fn is_52_blobs_too_many_and_too_few() {
    let (layout, _entry) = one();
    layout.add_blob(b"nobody refers to this");
    let layer = layout.open().layers()[0].digest().clone();
    assert_eq!(outcome(layout.open().unpack(&layout.store())), Ok(()));
    fs::remove_file(layout.blob_path_of(&layer)).expect("remove");
    let image = layout.open();
    let (_directory, fresh) = store();
    let error = image.unpack(&fresh).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains(layer.hex()), "{error}");
    assert!(fresh.layers().expect("list").is_empty());
}

#[test]
fn is_53_other_files_are_nobodys_error() {
    let (layout, _entry) = one();
    for name in ["manifest.json", "repositories", "blobs/sha256/notes.txt", "blobs/readme", "deep/er/file"] {
        layout.write(name, b"not a document");
    }
    assert_eq!(outcome(layout.unpack()), Ok(()));
}

#[test]
fn is_54_unknown_types_in_the_index_are_passed_over() {
    let (layout, entry) = one();
    let unknown = [
        descriptor("application/x.unknown", b"x", ""),
        descriptor("text/plain", b"y", r#","platform":{"os":"linux","architecture":"amd64"}"#),
    ];
    assert_eq!(opened(&layout, &[unknown[0].clone(), entry, unknown[1].clone()]), Ok(()));
    assert_eq!(opened(&layout, &unknown), Err(ErrorKind::NotFound));
}

#[test]
fn is_55_names_are_those_of_the_index() {
    let layout = Layout::empty();
    let [one, two, three] = ["one", "two", "three"].map(|text| command(&layout, text));
    let platform = |os: &str| format!(r#","platform":{{"os":"{os}","architecture":"{}"}}"#, std::env::consts::ARCH);
    // Within an index of its own a name means nothing.
    let inner = descriptor(MANIFEST, &two, &named("inner"));
    let inner = format!(r#"{{"schemaVersion":2,"manifests":[{inner}]}}"#);
    layout.add_blob(inner.as_bytes());
    layout.index(&[
        descriptor(MANIFEST, &one, &named("1")),
        descriptor(INDEX, inner.as_bytes(), &named("2")),
        descriptor(MANIFEST, &one, &(named("3") + &platform("plan9"))),
        descriptor(MANIFEST, &three, &(named("3") + &platform("linux"))),
    ]);
    let open = |name: &str| Image::open(&format!("{}:{name}", layout.source()));
    for (name, text) in [("1", "one"), ("2", "two"), ("3", "three")] {
        assert_eq!(runs(&open(name).expect(name)), text);
    }
    assert_eq!(outcome(open("inner")), Err(ErrorKind::NotFound));
    assert_eq!(outcome(Image::open(&layout.source())), Err(ErrorKind::Ambiguous));
    // The manifest's own annotations name nothing either.
    let manifest = small(&layout, &named("4"));
    layout.add_blob(manifest.as_bytes());
    layout.index(&[descriptor(MANIFEST, manifest.as_bytes(), "")]);
    assert_eq!(outcome(open("4")), Err(ErrorKind::NotFound));
}

#[test]
fn is_56_layouts_are_read_from_archives_and_written_whole_or_not() {
    let (layout, _entry) = one();
    let mut tar = Tar::new();
    for path in common::picture(&layout.path()).keys() {
        if let Ok(content) = fs::read(layout.path().join(path)) {
            tar = tar.entry(Header::new(b'0', path.display().to_string()), &content);
        }
    }
    let file = layout.directory.path().join("layout.tar");
    fs::write(&file, tar.bytes()).expect("write");
    let image = Image::open(&format!("oci-archive:{}", file.display())).expect("an archive");
    assert_eq!(outcome(image.unpack(&layout.store())), Ok(()));
    // Several writers at once lose nothing, and leave nothing temporary.
    let place = layout.directory.path().join("shared");
    let copy = |name: &str| Copier::new().copy(&layout.source(), &format!("oci:{}:{name}", place.display()));
    std::thread::scope(|scope| {
        for name in ["a", "b", "c", "d"] {
            scope.spawn(move || copy(name).expect("copied"));
        }
    });
    for name in ["a", "b", "c", "d"] {
        Image::open(&format!("oci:{}:{name}", place.display())).expect("named");
    }
    assert_eq!((count(&place), count(&place.join("blobs/sha256"))), (3, 3));
    // A blob that breaks off gets no name, and the index stays.
    let layer = layout.open().layers()[0].digest().clone();
    let before = fs::read(place.join("index.json")).expect("an index");
    fs::remove_file(place.join("blobs/sha256").join(layer.hex())).expect("remove");
    let content = fs::read(layout.blob_path_of(&layer)).expect("read");
    fs::write(layout.blob_path_of(&layer), &content[..600]).expect("write");
    assert_eq!(outcome(copy("e")), Err(ErrorKind::SizeMismatch));
    assert_eq!(fs::read(place.join("index.json")).expect("an index"), before);
    assert_eq!((count(&place), count(&place.join("blobs/sha256"))), (3, 2));
}

#[test]
fn is_57_garbage_goes_when_asked_and_a_subject_keeps_nothing() {
    let layout = Layout::empty();
    let images = ["amd64", "arm64"].map(|name| {
        let platform = format!(r#""os":"linux","architecture":"{name}""#);
        let manifest = layout.add_image_for(&[plain(&Tar::new().file(name, ""))], "{}", &platform);
        descriptor(MANIFEST, &manifest, &format!(",\"platform\":{{{platform}}}"))
    });
    let index = |entries: &str| format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{entries}]}}"#);
    let inner = index(&images.join(","));
    layout.add_blob(inner.as_bytes());
    let outer = index(&descriptor(INDEX, inner.as_bytes(), ""));
    layout.add_blob(outer.as_bytes());
    layout.index(&[descriptor(INDEX, outer.as_bytes(), "")]);
    let store = layout.store();
    let copier = Copier::new().store(&store).platforms(keelbox_image_spec::Platforms::All);
    copier.copy(&layout.source(), "store:all").expect("copied");
    // Something whose subject lies here, under a name; and the subject has none.
    let other = Layout::empty();
    let subject = small(&other, "");
    let about = descriptor(MANIFEST, subject.as_bytes(), "");
    let referring = small(&other, &format!(r#","subject":{about},"annotations":{{"about":"it"}}"#));
    other.add_blob(subject.as_bytes());
    other.add_blob(referring.as_bytes());
    for (manifest, name) in [(&subject, "subject"), (&referring, "referring")] {
        other.index(&[descriptor(MANIFEST, manifest.as_bytes(), "")]);
        drop(store.add(&other.open(), name).expect("added"));
    }
    let blobs = || count(&store.path().join("blobs/sha256"));
    // Two indexes; manifest, configuration and layer of two images; two manifests with one configuration.
    assert_eq!(blobs(), 11);
    store.remove_name("subject").expect("removed");
    assert_eq!(blobs(), 11, "nothing goes unasked");
    let collect = || Collector::new(&store).collect().expect("collected").blobs;
    assert_eq!((collect(), blobs()), (1, 10), "the subject");
    store.remove_name("referring").expect("removed");
    assert_eq!((collect(), blobs()), (2, 8));
    assert!(store.verify().expect("verified").problems.is_empty());
    store.remove_name("all").expect("removed");
    assert_eq!((collect(), blobs()), (8, 0), "through both indexes");
}
