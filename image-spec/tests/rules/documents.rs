//! JSON, descriptors, digests and annotations: IS-01 to IS-16.

use super::*;
use common::{GZIP, PLAIN, gzip};
use keelbox_image_spec::{Changeset, Copier, Edit, ImageConfig, Limits, OpenOptions, Platform, Platforms};
use sha2::{Digest as _, Sha512};

#[test]
fn is_01_documents_are_i_json() {
    let layout = Layout::empty();
    let good = descriptor(MANIFEST, &command(&layout, "x"), "");
    assert_eq!(opened(&layout, std::slice::from_ref(&good)), Ok(()));
    let twice = good.replace("\"size\"", "\"size\":1,\"size\"");
    let nested = good.replace("\"size\"", r#""annotations":{"a":"1","a":"1"},"size""#);
    let fraction = good.replace("\"size\":", "\"size\":0.5,\"x\":");
    for wrong in [twice, nested, fraction] {
        assert_eq!(opened(&layout, std::slice::from_ref(&wrong)), Err(ErrorKind::Format), "{wrong}");
    }
    let index = fs::read(layout.path().join("index.json")).expect("an index");
    layout.write("index.json", &[&index[..index.len() - 1], b",\"x\":\"\xff\"}"].concat());
    assert_eq!(outcome(Image::open(&layout.source())), Err(ErrorKind::Format), "not UTF-8");
    let twice = SMALL.replace("{\"os\"", "{\"os\":\"linux\",\"os\"");
    assert_eq!(outcome(ImageConfig::parse(twice.as_bytes())), Err(ErrorKind::Format));
}

#[test]
fn is_02_copies_are_the_same_bytes() {
    let layout = Layout::empty();
    let tar = plain(&Tar::new().file("a", "x"));
    let plainly = String::from_utf8(layout.add_image(&[tar], "{}")).expect("text");
    // Space, an order and a number that nobody would write.
    let manifest = plainly.replace("{\"schemaVersion\":2", "{ \"z\" : 1e0,\n\t\"schemaVersion\":2 , \"a\":\"\\u0041\"");
    assert_eq!(with_manifest(&layout, &manifest), Ok(()));
    let (directory, store) = store();
    let copier = Copier::new().store(&store);
    let archive = format!("oci-archive:{}:x", directory.path().join("x.tar").display());
    let places =
        [layout.source(), "store:x".into(), archive, format!("oci:{}:x", directory.path().join("l").display())];
    for pair in places.windows(2) {
        let digest = copier.copy(&pair[0], &pair[1]).expect("copied");
        assert_eq!(digest, Digest::of(manifest.as_bytes()));
    }
    let last = Image::open(&places[3]).expect("an image");
    assert_eq!(last.raw_manifest(), manifest.as_bytes());
    assert_eq!(last.config().raw(), layout.open().config().raw());
}

#[test]
fn is_03_unknown_properties_are_no_error_and_what_is_written_is_canonical() {
    let layout = Layout::empty();
    let unknown = r#","x-unknown":{"a":[1,null]}"#;
    let config = SMALL.replacen('{', "{\"x-unknown\":[],", 1);
    layout.add_blob(config.as_bytes());
    let config = descriptor(CONFIG, config.as_bytes(), unknown);
    let manifest = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]{unknown}}}"#);
    layout.add_blob(manifest.as_bytes());
    let entry = descriptor(MANIFEST, manifest.as_bytes(), unknown);
    layout.write("index.json", format!(r#"{{"schemaVersion":2,"manifests":[{entry}]{unknown}}}"#).as_bytes());
    layout.write("oci-layout", br#"{"imageLayoutVersion":"1.0.0","x-unknown":1}"#);
    assert_eq!(layout.open().raw_manifest(), manifest.as_bytes());
    let (_directory, store) = store();
    let image = Edit::scratch(&store).label("b", "2").label("a", "1").annotate("z", "y").commit("x:1").expect("made");
    for document in [image.raw_manifest(), image.config().raw()] {
        assert_eq!(std::str::from_utf8(document).expect("text"), canonical(&json(document)));
    }
}

/// Names in order, and no space between anything.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let sorted: std::collections::BTreeMap<_, _> = fields.iter().collect();
            let fields =
                sorted.iter().map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), canonical(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

#[test]
fn is_04_a_descriptor_has_type_digest_and_size() {
    let layout = Layout::empty();
    let manifest = command(&layout, "x");
    let digest = Digest::of(&manifest);
    let size = manifest.len();
    let fields =
        [format!("\"mediaType\":\"{MANIFEST}\""), format!("\"digest\":\"{digest}\""), format!("\"size\":{size}")];
    let of = |fields: &[String]| format!("{{{}}}", fields.join(","));
    assert_eq!(opened(&layout, &[of(&fields)]), Ok(()));
    for missing in 0..3 {
        let mut fewer = fields.to_vec();
        fewer.remove(missing);
        assert_eq!(opened(&layout, &[of(&fewer)]), Err(ErrorKind::Format), "without {}", fields[missing]);
    }
    for wrong in ["-1", "9223372036854775808", "1.5", "\"7\""] {
        let fields = [fields[0].clone(), fields[1].clone(), format!("\"size\":{wrong}")];
        assert_eq!(opened(&layout, &[of(&fields)]), Err(ErrorKind::Format), "a size of {wrong}");
    }
}

#[test]
fn is_06_embedded_data_is_the_content() {
    let layout = Layout::empty();
    // SMALL in base64, and the same with another processor.
    let data =
        "eyJvcyI6ImxpbnV4IiwiYXJjaGl0ZWN0dXJlIjoiYW1kNjQiLCJyb290ZnMiOnsidHlwZSI6ImxheWVycyIsImRpZmZfaWRzIjpbXX19";
    let with = |data: &str| {
        let config = descriptor(CONFIG, SMALL.as_bytes(), &format!(",\"data\":\"{data}\""));
        with_manifest(&layout, &format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]}}"#))
    };
    assert_eq!(with(data), Ok(()), "there is no blob of it");
    assert_eq!(with(&data.replace("YW1kNjQi", "YW1kNjUi")), Err(ErrorKind::DigestMismatch));
    assert_eq!(with(&data[..data.len() - 4]), Err(ErrorKind::SizeMismatch));
    assert_eq!(with(&data.replace('N', "-")), Err(ErrorKind::Format));
    assert_eq!(with(&data[..data.len() - 1]), Err(ErrorKind::Format));
    let (_directory, store) = store();
    let image = Edit::scratch(&store).cmd(["x"]).commit("x:1").expect("made");
    assert!(json(image.raw_manifest())["config"].get("data").is_none(), "never filled in here");
}

#[test]
fn is_08_the_grammar_of_digests() {
    let parse = |text: &str| outcome(text.parse::<Digest>());
    let hex = "0123456789abcdef".repeat(4);
    assert_eq!(parse(&format!("sha256:{hex}")), Ok(()));
    for text in ["md5:0", "a+b.c_d-e9:Az0=_-", "multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8"] {
        assert_eq!(parse(text), Err(ErrorKind::Unsupported), "{text}");
    }
    for text in
        ["", ":", "a", "a:", ":b", "A:b", "a++b:c", "+a:b", "a+:b", "a:b:c", "a:b c", "a:../b", "a/b:c", "a:\u{e9}"]
    {
        assert_eq!(parse(text), Err(ErrorKind::Format), "{text}");
    }
}

#[test]
fn is_09_algorithms_that_nobody_knows_are_no_error_where_they_are_only_mentioned() {
    let layout = Layout::empty();
    let good =
        descriptor(MANIFEST, &command(&layout, "x"), r#","annotations":{"org.opencontainers.image.ref.name":"a"}"#);
    let other = format!(
        r#"{{"mediaType":"{MANIFEST}","size":1,"digest":"other+x:AZ","annotations":{{"org.opencontainers.image.ref.name":"b"}}}}"#
    );
    layout.index(&[other.clone(), good]);
    let open = |name: &str| outcome(Image::open(&format!("{}:{name}", layout.source())));
    assert_eq!((open("a"), open("b")), (Ok(()), Err(ErrorKind::Unsupported)));
    layout.index(&[other.replace("other+x:", "other++x:")]);
    assert_eq!(open("b"), Err(ErrorKind::Format));
}

#[test]
fn is_11_sha512_is_verified_and_blake3_has_its_form() {
    let layout = Layout::empty();
    let tar = Tar::new().file("a", "x").bytes();
    let hex: String = Sha512::digest(&tar).iter().map(|byte| format!("{byte:02x}")).collect();
    let diff_id = Digest::of(&tar);
    let config = SMALL.replace("[]", &format!("[\"{diff_id}\"]"));
    layout.add_blob(config.as_bytes());
    let layer = format!(r#"{{"mediaType":"{PLAIN}","size":{},"digest":"sha512:{hex}"}}"#, tar.len());
    let config = descriptor(CONFIG, config.as_bytes(), "");
    layout.write(&format!("blobs/sha512/{hex}"), &tar);
    let manifest = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer}]}}"#);
    assert_eq!(with_manifest(&layout, &manifest), Ok(()));
    assert_eq!(outcome(layout.unpack()), Ok(()));
    let mut damaged = tar.clone();
    damaged[512] ^= 1;
    layout.write(&format!("blobs/sha512/{hex}"), &damaged);
    // The store has the layer already; another one has not.
    let (_directory, fresh) = store();
    assert_eq!(outcome(layout.open().unpack(&fresh)), Err(ErrorKind::DigestMismatch));
    let parse = |text: &str| outcome(text.parse::<Digest>());
    assert_eq!(parse(&format!("sha512:{}", hex.to_uppercase())), Err(ErrorKind::Format));
    assert_eq!(parse(&format!("sha512:{}", &hex[1..])), Err(ErrorKind::Format));
    assert_eq!(
        parse(&format!("blake3:{}", &hex[..64])),
        Err(ErrorKind::Unsupported),
        "right, but nobody here can verify it"
    );
    assert_eq!(parse(&format!("blake3:{}", &hex[..63])), Err(ErrorKind::Format));
    assert_eq!(parse(&format!("blake3:{}", hex[..64].to_uppercase())), Err(ErrorKind::Format));
}

#[test]
fn is_12_the_size_is_checked_first() {
    let layout = Layout::empty();
    let manifest = command(&layout, "x");
    let entry = descriptor(MANIFEST, &manifest, "");
    fs::write(layout.blob_path(&manifest), b"neither the size nor the digest").expect("write");
    assert_eq!(opened(&layout, std::slice::from_ref(&entry)), Err(ErrorKind::SizeMismatch));
    // What says that it is too large is not even looked for.
    fs::remove_file(layout.blob_path(&manifest)).expect("remove");
    let huge = entry.replace(&format!("\"size\":{}", manifest.len()), "\"size\":1000000000000");
    assert_eq!(opened(&layout, &[huge]), Err(ErrorKind::Limit));
    // A layer that would blow up is not decompressed if it has the wrong size.
    let bomb = gzip(&vec![0; 1 << 20]);
    let layer = common::Blob { diff_id: Digest::of(b""), content: bomb.clone(), media_type: GZIP };
    let layout = Layout::of(&[layer]);
    assert_eq!(outcome(layout.unpack_within(Limits::default().layer_bytes(1000))), Err(ErrorKind::Limit));
    fs::write(layout.blob_path(&bomb), [&bomb[..], b"x"].concat()).expect("write");
    assert_eq!(outcome(layout.unpack_within(Limits::default().layer_bytes(1000))), Err(ErrorKind::SizeMismatch));
}

#[test]
fn is_13_descriptors_of_manifests_tell_the_platform() {
    let layout = Layout::empty();
    let manifest = layout.add_image_for(&[], "{}", r#""os":"linux","architecture":"arm","variant":"v6""#);
    layout.index(&[descriptor(MANIFEST, &manifest, "")]);
    let copy = layout.directory.path().join("copy");
    let platform = Platform::new("linux", "arm").variant("v6");
    let copier = Copier::new().platforms(Platforms::One(platform));
    copier.copy(&layout.source(), &format!("oci:{}:x", copy.display())).expect("copied");
    let index = json(&fs::read(copy.join("index.json")).expect("an index"));
    let expected = serde_json::json!({ "os": "linux", "architecture": "arm", "variant": "v6" });
    assert_eq!(index["manifests"][0]["platform"], expected);
}

#[test]
fn is_14_annotations_map_text_to_text() {
    let layout = Layout::empty();
    let manifest = command(&layout, "x");
    let with = |annotations: &str| {
        opened(&layout, &[descriptor(MANIFEST, &manifest, &format!(",\"annotations\":{annotations}"))])
    };
    for fine in ["{}", "null", r#"{"a":""}"#, r#"{"a":"b","":"c"}"#] {
        assert_eq!(with(fine), Ok(()), "{fine}");
    }
    for wrong in [r#"{"a":1}"#, r#"{"a":null}"#, r#"{"a":["b"]}"#, "[]", r#"{"a":"1","a":"2"}"#] {
        assert_eq!(with(wrong), Err(ErrorKind::Format), "{wrong}");
    }
    let (_directory, store) = store();
    let image = Edit::scratch(&store).cmd(["x"]).commit("x:1").expect("made");
    assert!(json(image.raw_manifest()).get("annotations").is_none(), "none are written as no map");
}

#[test]
fn is_15_keys_of_the_future_are_no_error() {
    let layout = Layout::empty();
    let annotations =
        r#","annotations":{"org.opencontainers.image.unheard":"of","org.opencontainers.":"x","com.example":""}"#;
    let manifest = small(&layout, annotations);
    layout.add_blob(manifest.as_bytes());
    assert_eq!(opened(&layout, &[descriptor(MANIFEST, manifest.as_bytes(), annotations)]), Ok(()));
    let (_directory, store) = store();
    let image = store.add(&layout.open(), "x:1").expect("added").edit().annotate("a", "b").commit("x:2").expect("made");
    assert_eq!(json(image.raw_manifest())["annotations"]["org.opencontainers.image.unheard"], "of");
}

#[test]
fn is_16_keys_that_have_a_meaning() {
    let (_directory, store) = store();
    let base = |name: &str, text: &str| {
        let layer = Changeset::new().bytes("/base", text, 0o644);
        Edit::scratch(&store).epoch(0).add_layer(layer).commit(name).expect("made")
    };
    let (old, new) = (base("base:1", "1"), base("base:2", "2"));
    let app = old.edit().add_layer(Changeset::new().bytes("/app", "a", 0o755)).commit("app:1").expect("made");
    let moved = app
        .edit()
        .rebase(&old, &new)
        .annotate("org.opencontainers.image.licenses", "MIT OR Apache-2.0")
        .commit("app:2")
        .expect("rebased");
    let annotations = json(moved.raw_manifest())["annotations"].clone();
    assert_eq!(annotations["org.opencontainers.image.base.digest"], new.manifest_digest().to_string());
    let name = annotations["org.opencontainers.image.base.name"].as_str().expect("a name");
    assert!(name.ends_with("base:2"), "{name}");
    assert_eq!(annotations["org.opencontainers.image.licenses"], "MIT OR Apache-2.0");
    assert_eq!(base("base:3", "3").config().created(), Some("1970-01-01T00:00:00Z"));
    let layout = Layout::empty();
    let named = |name: &str| format!(r#","annotations":{{"org.opencontainers.image.ref.name":"{name}"}}"#);
    layout.index(&[
        descriptor(MANIFEST, &command(&layout, "one"), &named("1")),
        descriptor(MANIFEST, &command(&layout, "two"), &named("a.b-c_d:e@f/2")),
    ]);
    let open = |name: &str| OpenOptions::new().open(&format!("{}:{name}", layout.source())).expect("named");
    assert_eq!((runs(&open("1")).as_str(), runs(&open("a.b-c_d:e@f/2")).as_str()), ("one", "two"));
}
