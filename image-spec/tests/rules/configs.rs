//! Configurations of images, and what identifies them: IS-75 to IS-82.

use super::*;
use common::{Blob, GZIP, gzip};
use keelbox_image_spec::{Edit, ImageConfig};

fn parse(text: &str) -> Outcome {
    outcome(ImageConfig::parse(text.as_bytes()))
}

#[test]
fn is_75_what_has_to_be_there_and_null_is_absent() {
    assert_eq!(parse(SMALL), Ok(()));
    for field in ["os", "architecture", "rootfs"] {
        assert_eq!(parse(&SMALL.replace(&format!("\"{field}\""), "\"x\"")), Err(ErrorKind::Format), "without {field}");
    }
    assert_eq!(parse(&SMALL.replace("\"linux\"", "null")), Err(ErrorKind::Format));
    let all = ["created", "author", "variant", "os.version", "os.features", "history", "config"];
    let nulls: String = all.iter().map(|name| format!(",\"{name}\":null")).collect();
    let config = ImageConfig::parse(SMALL.replace("]}}", &format!("]}}{nulls}}}")).as_bytes()).expect("all absent");
    assert_eq!((config.created(), config.author(), config.history().len()), (None, None, 0));
    let all = [
        "User",
        "ExposedPorts",
        "Env",
        "Entrypoint",
        "Cmd",
        "Volumes",
        "WorkingDir",
        "Labels",
        "StopSignal",
        "Healthcheck",
        "Memory",
        "MemorySwap",
        "CpuShares",
        "ArgsEscaped",
    ];
    let nulls: Vec<String> = all.iter().map(|name| format!("\"{name}\":null")).collect();
    let text = SMALL.replace("]}}", &format!("]}},\"config\":{{{}}}}}", nulls.join(",")));
    let config = ImageConfig::parse(text.as_bytes()).expect("all absent");
    assert!(config.user().is_empty() && config.env().is_empty() && config.labels().is_empty());
    assert_eq!((config.stop_signal(), config.healthcheck()), (None, None));
}

#[test]
fn is_76_the_root_consists_of_layers() {
    assert_eq!(parse(&SMALL.replace("\"layers\"", "\"blobs\"")), Err(ErrorKind::Format));
    assert_eq!(parse(&SMALL.replace("\"type\"", "\"x\"")), Err(ErrorKind::Format));
    assert_eq!(parse(&SMALL.replace("diff_ids", "x")), Err(ErrorKind::Format));
    let ids = ["1", "2"].map(|text| Digest::of(text.as_bytes()));
    let text = SMALL.replace("[]", &format!("[\"{}\",\"{}\"]", ids[0], ids[1]));
    assert_eq!(ImageConfig::parse(text.as_bytes()).expect("two").diff_ids(), ids, "first to last");
    assert_eq!(parse(&text.replace("sha256:", "sha256:x")), Err(ErrorKind::Format));
}

#[test]
fn is_77_a_layer_is_known_by_its_uncompressed_digest() {
    let tar = Tar::new().file("a", "x").bytes();
    let with = |diff_id: Digest| {
        let layout = Layout::of(&[Blob { content: gzip(&tar), media_type: GZIP, diff_id }]);
        outcome(layout.unpack())
    };
    assert_eq!(with(Digest::of(&tar)), Ok(()));
    assert_eq!(with(Digest::of(&gzip(&tar))), Err(ErrorKind::DigestMismatch), "that of the blob is another");
    assert_eq!(with(Digest::of(b"")), Err(ErrorKind::DigestMismatch));
    let layout = Layout::tars(&[Tar::new().file("a", "")]);
    let manifest = String::from_utf8(layout.open().raw_manifest().to_vec()).expect("text");
    let fewer = manifest.replace("\"layers\":[", "\"layers\":[],\"x\":[");
    assert_eq!(with_manifest(&layout, &fewer), Err(ErrorKind::Format), "one diff_id and no layer");
}

#[test]
fn is_78_a_stack_is_known_by_its_chain() {
    // What depends on the layers below is kept in the store by the digest of the chain.
    let [base, top] = [Tar::new().directory("d").file("d/a", ""), Tar::new().file("d/b", "")];
    let layout = Layout::tars(&[base.clone(), top.clone(), top.clone().file("c", "")]);
    let unpacked = layout.unpack().expect("unpacked");
    let [one, two, three] = [base, top.clone(), top.file("c", "")].map(|tar| Digest::of(&tar.bytes()));
    let second = Digest::of(format!("{one} {two}").as_bytes());
    let third = Digest::of(format!("{second} {three}").as_bytes());
    let keys: Vec<&str> = unpacked.layers().iter().map(|layer| layer.key()).collect();
    assert!(keys[0].contains(one.hex()), "{keys:?}: the lowest chain is the layer itself");
    assert!(keys[1].contains(second.hex()) && keys[1].starts_with("chain-"), "{keys:?}");
    assert!(keys[2].contains(third.hex()) && keys[2].starts_with("chain-"), "{keys:?}");
}

#[test]
fn is_79_the_image_id_is_the_digest_of_the_configuration() {
    let layout = Layout::empty();
    let manifest = command(&layout, "x");
    layout.index(&[descriptor(MANIFEST, &manifest, "")]);
    let image = layout.open();
    let id = image.config().id();
    assert_eq!(id, Digest::of(image.config().raw()));
    assert_eq!(json(&manifest)["config"]["digest"], id.to_string());
    assert_ne!(ImageConfig::parse(SMALL.as_bytes()).expect("another").id(), id);
}

#[test]
fn is_80_what_the_image_says_about_its_program() {
    let run = r#"{"User":"1:2","ExposedPorts":{"80/tcp":{},"53/udp":{}},"Env":["A=b"],"Entrypoint":["e"],"Cmd":["c"],
        "Volumes":{"/v":{},"/data":{}},"WorkingDir":"/w","Labels":{"l":"","m":"n"},"StopSignal":"SIGINT","ArgsEscaped":true,
        "Memory":1,"MemorySwap":2,"CpuShares":3,"Healthcheck":{"Test":["NONE"]}}"#;
    let text = |run: &str| SMALL.replace("]}}", &format!("]}},\"config\":{run}}}"));
    let config = ImageConfig::parse(text(run).as_bytes()).expect("all of it");
    assert_eq!((config.user(), config.working_dir(), config.stop_signal()), ("1:2", "/w", Some("SIGINT")));
    assert_eq!(
        (config.env(), config.entrypoint(), config.cmd()),
        (&["A=b".into()][..], &["e".into()][..], &["c".into()][..])
    );
    assert_eq!(
        (config.exposed_ports().join(" "), config.volumes().join(" ")),
        ("53/udp 80/tcp".into(), "/data /v".into())
    );
    assert_eq!((config.labels()["l"].as_str(), config.labels()["m"].as_str()), ("", "n"));
    assert_eq!(config.healthcheck(), Some(r#"{"Test":["NONE"]}"#));
    for wrong in [
        r#"{"Env":{}}"#,
        r#"{"Env":[1]}"#,
        r#"{"Cmd":"sh"}"#,
        r#"{"Labels":{"a":1}}"#,
        r#"{"Labels":[]}"#,
        r#"{"Volumes":["/v"]}"#,
        r#"{"ExposedPorts":"80"}"#,
        r#"{"User":0}"#,
        r#"{"Labels":{"a":"","a":""}}"#,
        "[]",
    ] {
        assert_eq!(parse(&text(wrong)), Err(ErrorKind::Format), "{wrong}");
    }
    // Reserved fields outlive a change of the image.
    let layout = Layout::empty();
    let manifest = layout.add_image(&[], &run.replace('\n', ""));
    layout.index(&[descriptor(MANIFEST, &manifest, "")]);
    let (_directory, store) = store();
    let image = store.add(&layout.open(), "x:1").expect("added").edit().env("B", "c").commit("x:2").expect("changed");
    let changed = json(image.config().raw())["config"].clone();
    for (name, value) in [("Memory", 1), ("MemorySwap", 2), ("CpuShares", 3)] {
        assert_eq!(changed[name], value, "{name}");
    }
    assert_eq!(changed["ArgsEscaped"], true);
    assert_eq!(image.config().env(), ["A=b", "B=c"]);
}

#[test]
fn is_81_more_fields_are_no_error() {
    let text = SMALL.replacen('{', r#"{"x":{"y":[]},"docker_version":"1","container_config":{"Cmd":7},"#, 1);
    let text = text
        .replace("\"type\"", "\"x\":1,\"type\"")
        .replace("]}}", r#"]},"config":{"OnBuild":[1],"X":{}},"history":[{"x":1}]}"#);
    let config = ImageConfig::parse(text.as_bytes()).expect("nobody's error");
    assert_eq!((config.raw(), config.history().len()), (text.as_bytes(), 1));
}

#[test]
fn is_82_history_and_times() {
    let entry = r#"{"created":"2026-01-02T03:04:05.678901234+01:00","author":"a","created_by":"b","comment":"c","empty_layer":true}"#;
    let text = SMALL.replacen(
        '{',
        &format!(r#"{{"created":"2026-01-02T03:04:05Z","author":"me","history":[{{}},{entry}],"#),
        1,
    );
    let config = ImageConfig::parse(text.as_bytes()).expect("a history");
    assert_eq!((config.created(), config.author()), (Some("2026-01-02T03:04:05Z"), Some("me")));
    let [first, second] = config.history() else { panic!("two entries: {:?}", config.history()) };
    assert!(!first.empty_layer && second.empty_layer && first.created.is_none());
    assert_eq!(second.created.as_deref(), Some("2026-01-02T03:04:05.678901234+01:00"));
    let texts = [&second.author, &second.created_by, &second.comment].map(|text| text.as_deref().unwrap_or_default());
    assert_eq!(texts, ["a", "b", "c"]);
    assert_eq!(parse(&text.replace(":true}", ":\"yes\"}")), Err(ErrorKind::Format));
    // What is written here is RFC 3339, section 5.6.
    let (_directory, store) = store();
    let image = Edit::scratch(&store).epoch(951_782_399).cmd(["x"]).author("a").commit("x:1").expect("made");
    assert_eq!(image.config().created(), Some("2000-02-28T23:59:59Z"));
    let steps = image.config().history();
    assert!(
        steps.len() == 2
            && steps.iter().all(|step| step.empty_layer && step.created.as_deref() == image.config().created())
    );
}
