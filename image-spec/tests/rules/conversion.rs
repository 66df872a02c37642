//! From the configuration of an image to the process it describes: IS-85 to IS-95.
//!
//! Files of the runtime specification made from an image are the matter of `keelbox-runtime-spec`, whose `image.rs` has tests too.

use super::*;
use keelbox_image_spec::{DEFAULT_PATH, Edit, ImageConfig, ProcessSettings, User};

const KEY: &str = "org.opencontainers.image";

/// A configuration with this `config`, and more fields.
fn config(run: &str, extra: &str) -> ImageConfig {
    let text = SMALL.replace("]}}", &format!("]}},\"config\":{run}{extra}}}"));
    ImageConfig::parse(text.as_bytes()).expect("a configuration")
}

fn process(run: &str) -> ProcessSettings {
    ProcessSettings::from_config(&config(run, "")).expect("a process")
}

#[test]
fn is_85_the_configuration_alone_decides() {
    let nothing = process("{}");
    assert_eq!((nothing.args.len(), nothing.cwd.as_str(), nothing.user, nothing.stop_signal), (0, "/", None, None));
    let layout = Layout::empty();
    let manifest = layout.add_image(&[], r#"{"Cmd":["run"],"WorkingDir":"/srv","User":"7:8","StopSignal":"SIGQUIT"}"#);
    layout.index(&[descriptor(MANIFEST, &manifest, "")]);
    let process = layout.open().process().expect("a process");
    assert_eq!((process.args, process.cwd, process.stop_signal), (vec!["run".to_owned()], "/srv".to_owned(), Some(3)));
    assert_eq!(process.user, Some(User::from_ids(7, 8).expect("a user")));
}

#[test]
fn is_86_directory_environment_and_arguments_are_verbatim() {
    let args = |run: &str| process(run).args.join(" ");
    assert_eq!(args(r#"{"Entrypoint":["a","b"],"Cmd":["c","d"]}"#), "a b c d");
    assert_eq!((args(r#"{"Cmd":["c"]}"#), args(r#"{"Entrypoint":["a"],"Cmd":null}"#)), ("c".into(), "a".into()));
    assert_eq!(process(r#"{"WorkingDir":"/a b/$HOME"}"#).cwd, "/a b/$HOME");
    let env = process(r#"{"Env":["PATH=/x:$PATH","B=","A= 1 \"2\" ","C=a=b"]}"#).env;
    assert_eq!(env, ["PATH=/x:$PATH", "B=", "A= 1 \"2\" ", "C=a=b"], "in the image's order");
}

#[test]
fn is_87_a_default_never_shadows_a_variable_of_the_image() {
    assert_eq!(process(r#"{"Env":["A=1"]}"#).env, [DEFAULT_PATH, "A=1"]);
    for own in ["PATH=", "PATH=/own"] {
        assert_eq!(process(&format!(r#"{{"Env":["A=1","{own}"]}}"#)).env, ["A=1", own]);
    }
}

#[test]
fn is_88_fields_and_labels_become_annotations() {
    let extra =
        r#","author":"me","created":"2026-01-02T03:04:05Z","variant":"v3","os.version":"6.1","os.features":["a","b"]"#;
    let annotations = config(r#"{"StopSignal":"SIGQUIT","Labels":{"own":"value","empty":""}}"#, extra).annotations();
    for (name, value) in [
        ("os", "linux"),
        ("architecture", "amd64"),
        ("variant", "v3"),
        ("os.version", "6.1"),
        ("os.features", "a,b"),
        ("author", "me"),
        ("created", "2026-01-02T03:04:05Z"),
        ("stopSignal", "SIGQUIT"),
    ] {
        assert_eq!(annotations.get(&format!("{KEY}.{name}")).map(String::as_str), Some(value), "{name}");
    }
    assert_eq!((annotations["own"].as_str(), annotations["empty"].as_str(), annotations.len()), ("value", "", 10));
}

#[test]
fn is_89_a_label_wins_over_a_field() {
    let labels = format!(r#"{{"Labels":{{"{KEY}.os":"  mine ","{KEY}.author":""}}}}"#);
    let annotations = config(&labels, r#","author":"me""#).annotations();
    assert_eq!(annotations[&format!("{KEY}.os")], "  mine ", "unchanged");
    assert_eq!(annotations[&format!("{KEY}.author")], "");
    assert_eq!(annotations[&format!("{KEY}.architecture")], "amd64");
}

#[test]
fn is_90_annotations_of_manifest_and_index_are_not_taken() {
    let layout = Layout::empty();
    let extra = format!(r#","annotations":{{"from":"elsewhere","{KEY}.os":"plan9"}}"#);
    let manifest = small(&layout, &extra);
    layout.add_blob(manifest.as_bytes());
    layout.index(&[descriptor(MANIFEST, manifest.as_bytes(), &extra)]);
    let annotations = layout.open().config().annotations();
    assert_eq!((annotations.get("from"), annotations[&format!("{KEY}.os")].as_str()), (None, "linux"));
}

/// Resolves a user in an image with these files.
fn resolved(user: &str) -> std::result::Result<(u32, u32, Vec<u32>), ErrorKind> {
    let files = Tar::new()
        .directory("etc")
        .file("etc/passwd", "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n")
        .file("etc/group", "root:x:0:\nweb:x:34:\nlogs:x:44:web,other\nmail:x:45:web\n");
    let layout = Layout::empty();
    let manifest = layout.add_image(&[plain(&files)], &format!(r#"{{"User":"{user}"}}"#));
    layout.index(&[descriptor(MANIFEST, &manifest, "")]);
    let user = layout.open().process().expect("a process").user.expect("a user");
    let found = layout.unpack().expect("unpacked").resolve_user(&user).map_err(|error| error.kind())?;
    Ok((found.uid, found.gid, found.additional_gids))
}

#[test]
fn is_91_numbers_are_verbatim_and_names_are_the_images() {
    assert_eq!(resolved("7:8"), Ok((7, 8, vec![])));
    assert_eq!(resolved("4000000000:4000000001"), Ok((4_000_000_000, 4_000_000_001, vec![])));
    assert_eq!(resolved("web:logs"), Ok((33, 44, vec![])));
    assert_eq!(resolved("7:logs"), Ok((7, 44, vec![])));
    for unknown in ["nobody-here", "web:no-group", "7:no-group"] {
        assert_eq!(resolved(unknown), Err(ErrorKind::NotFound), "{unknown}");
    }
    let wrong = config(r#"{"User":"4294967295"}"#, "");
    assert_eq!(outcome(ProcessSettings::from_config(&wrong)), Err(ErrorKind::Format), "never cut to another user");
}

#[test]
fn is_92_more_groups_only_for_a_name_without_a_group() {
    assert_eq!(resolved("web"), Ok((33, 34, vec![44, 45])));
    for (user, found) in [("33", (33, 34)), ("web:web", (33, 34)), ("web:34", (33, 34)), ("33:34", (33, 34))] {
        assert_eq!(resolved(user), Ok((found.0, found.1, vec![])), "{user}");
    }
    assert_eq!((process("{}").user, process(r#"{"User":""}"#).user), (None, None), "0:0 then");
}

#[test]
fn is_93_ports_become_an_annotation() {
    let key = format!("{KEY}.exposedPorts");
    let ports = r#""ExposedPorts":{"80/tcp":{},"53/udp":{},"8080":{}}"#;
    assert_eq!(config(&format!("{{{ports}}}"), "").annotations()[&key], "53/udp,80/tcp,8080");
    let label = format!(r#"{{{ports},"Labels":{{"{key}":"mine"}}}}"#);
    assert_eq!(config(&label, "").annotations()[&key], "mine");
    assert_eq!(config("{}", "").annotations().get(&key), None);
}

#[test]
fn is_95_a_working_directory_is_absolute() {
    for (text, cwd) in [("", "/"), ("srv", "/srv"), ("./a/../b", "/b"), ("/", "/"), ("/x/", "/x"), ("../..", "/")] {
        assert_eq!(process(&format!(r#"{{"WorkingDir":"{text}"}}"#)).cwd, cwd, "{text:?}");
    }
    let (_directory, store) = store();
    let relative = Edit::scratch(&store).working_dir("srv").commit("x:1");
    assert_eq!(outcome(relative), Err(ErrorKind::Format), "none is written that needs it");
}
