//! The specification's own example documents and schemas: what is good is read, checked and written again without loss;
//! what is bad is refused; what this crate writes follows the schemas.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]
mod support;

use keelbox_runtime_spec::{
    Bundle, Config, Features, ImageConfig, LinuxFeatures, ProcessState, Severity, State, Status, Support, check_json,
    names,
};
use serde_json::Value;
use support::{Schemas, examples};

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn good_configurations_are_good() {
    let schemas = Schemas::load();
    for (name, text) in examples("config", "good") {
        let config = Config::from_json(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        let errors: Vec<_> = config.check().into_iter().filter(|p| p.severity() == Severity::Error).collect();
        assert!(errors.is_empty(), "{name}: {errors:?}");
        assert!(config.warnings().is_empty(), "{name}");
        let written = config.to_json();
        assert_eq!(parse(&written), parse(std::str::from_utf8(&text).unwrap()), "{name}");
        assert_eq!(Config::from_json(written.as_bytes()).unwrap(), config);
        assert_eq!(schemas.complaints("config-schema.json", &written), [""; 0], "{name}");
    }
}

#[test]
fn bad_configurations_are_refused() {
    for (name, text) in examples("config", "bad") {
        let refused = match check_json(&text) {
            Err(_) => true,
            Ok(problems) => problems.iter().any(|p| p.severity() == Severity::Error),
        };
        assert!(refused, "{name}");
    }
}

#[test]
fn good_and_bad_states_and_features() {
    let schemas = Schemas::load();
    for (name, text) in examples("state", "good") {
        let state = State::from_json(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        let written = state.to_json().unwrap();
        assert_eq!(parse(&written), parse(std::str::from_utf8(&text).unwrap()), "{name}");
        assert_eq!(schemas.complaints("state-schema.json", &written), [""; 0]);
    }
    for (name, text) in examples("features", "good") {
        let features = Features::from_json(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(features.check().iter().all(|p| p.severity() == Severity::Warning), "{name}");
        let written = features.to_json().unwrap();
        assert_eq!(parse(&written), parse(std::str::from_utf8(&text).unwrap()), "{name}");
        assert_eq!(schemas.complaints("features-schema.json", &written), [""; 0]);
    }
    for (name, text) in examples("state", "bad") {
        assert!(State::from_json(&text).is_err(), "{name}");
    }
    for (name, text) in examples("features", "bad") {
        assert!(Features::from_json(&text).is_err(), "{name}");
    }
}

#[test]
fn rs_122_and_rs_154_what_is_written_follows_the_schemas() {
    let schemas = Schemas::load();
    for config in [Config::new(), Config::rootless(1000, 1000), Config::from_image(&ImageConfig::default()).unwrap()] {
        assert_eq!(schemas.complaints("config-schema.json", &config.to_json()), [""; 0]);
    }
    for status in [Status::Creating, Status::Created, Status::Running, Status::Stopped] {
        let mut state = State::new("a".parse().unwrap(), status, "/b");
        state.pid = Some(1);
        state.annotations.insert("k".into(), "v".into());
        assert_eq!(schemas.complaints("state-schema.json", &state.to_json().unwrap()), [""; 0]);
        let message = parse(&ProcessState::new(1, state).to_json().unwrap());
        assert_eq!(message["fds"], serde_json::json!(["seccompFd"]));
        assert_eq!(schemas.complaints("state-schema.json", &message["state"].to_string()), [""; 0]);
    }
    let (yes, no) = (Support::Present, Support::Absent);
    let linux = LinuxFeatures::recognised()
        .cgroup_v1(yes)
        .cgroup_v2(yes)
        .cgroup_systemd(no, no)
        .cgroup_rdma(yes)
        .seccomp(yes)
        .seccomp_supported_flags(["SECCOMP_FILTER_FLAG_LOG"])
        .apparmor(no)
        .selinux(no)
        .intel_rdt(yes, yes, no)
        .idmap_mounts(yes)
        .net_devices(yes);
    let features = Features::recognised().linux(linux).annotation("a", "b").unsafe_annotations(["org.example."]);
    assert_eq!(schemas.complaints("features-schema.json", &features.to_json().unwrap()), [""; 0]);
    // The checker itself must be able to complain.
    let paused = State::new("a".parse().unwrap(), Status::Paused, "/b");
    assert_eq!(schemas.complaints("state-schema.json", &paused.to_json().unwrap()).len(), 1);
}

/// The name of an enumeration in `defs-linux.json`, and where its words may stand.
const PLACES: &[(&str, &str)] = &[
    ("SeccompArch", r#"{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","architectures":["?"]}}}"#),
    ("SeccompAction", r#"{"linux":{"seccomp":{"defaultAction":"?"}}}"#),
    ("SeccompFlag", r#"{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","flags":["?"]}}}"#),
    (
        "SeccompOperators",
        r#"{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["x"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":18446744073709551615,"op":"?"}]}]}}}"#,
    ),
    ("NamespaceType", r#"{"linux":{"namespaces":[{"type":"?"}]}}"#),
    ("PersonalityDomain", r#"{"linux":{"personality":{"domain":"?"}}}"#),
    ("RootfsPropagation", r#"{"linux":{"rootfsPropagation":"?"}}"#),
    ("MemoryPolicyMode", r#"{"linux":{"memoryPolicy":{"mode":"?"}}}"#),
    ("MemoryPolicyFlag", r#"{"linux":{"memoryPolicy":{"mode":"MPOL_BIND","flags":["?"]}}}"#),
    ("SchedulerPolicy", r#"{"process":{"cwd":"/","user":{"uid":0,"gid":0},"scheduler":{"policy":"?"}}}"#),
    (
        "SchedulerFlag",
        r#"{"process":{"cwd":"/","user":{"uid":0,"gid":0},"scheduler":{"policy":"SCHED_OTHER","flags":["?"]}}}"#,
    ),
];

/// Every word of the schemas, put in its place, is read, seen by `oci-spec`, and written as it was.
#[test]
fn every_word_of_the_schemas_survives() {
    let schemas = Schemas::load();
    let definitions = &schemas.file("defs-linux.json")["definitions"];
    let words = |name: &str| -> Vec<String> {
        let list = definitions[name]["enum"].as_array().unwrap();
        list.iter().map(|w| w.as_str().unwrap().to_owned()).collect()
    };
    for (kind, place) in PLACES {
        for word in words(kind) {
            let text = place.replace('?', &word);
            let config = Config::from_json(text.as_bytes()).unwrap_or_else(|e| panic!("{e}"));
            assert!(config.warnings().is_empty(), "{text}");
            // Through `oci-spec` and back, so that the view has held the word too.
            let again = Config::try_from(config.spec().clone()).unwrap();
            let mut expected = parse(&text);
            expected["ociVersion"] = "".into();
            assert_eq!(parse(&again.to_json()), expected, "{word}");
        }
    }
    let class = |word: &str| {
        format!(
            r#"{{"process":{{"cwd":"/","user":{{"uid":0,"gid":0}},"ioPriority":{{"class":"{word}","priority":3}}}}}}"#
        )
    };
    for word in keelbox_runtime_spec::names::IO_PRIORITY_CLASSES {
        let config = Config::from_json(class(word).as_bytes()).unwrap();
        let again = Config::try_from(config.into_spec()).unwrap();
        assert_eq!(again.property("/process/ioPriority/class"), Some(format!("{word:?}")));
    }
}

#[test]
fn writing_is_deterministic() {
    let (_, text) =
        examples("config", "good").into_iter().find(|(name, _)| name.ends_with("spec-example.json")).unwrap();
    let config = Config::from_json(&text).unwrap();
    // Through `oci-spec`, whose maps and sets have no order of their own.
    let texts: Vec<String> = (0..20)
        .map(|_| {
            let spec = Config::from_json(&text).unwrap().into_spec();
            Config::try_from(spec).unwrap().to_json()
        })
        .collect();
    assert!(texts.iter().all(|t| *t == texts[0]));
    let directory = tempfile::tempdir().unwrap();
    Bundle::write(directory.path(), &config).unwrap();
    let first = std::fs::read(directory.path().join("config.json")).unwrap();
    Bundle::open(directory.path()).unwrap().save().unwrap();
    assert_eq!(std::fs::read(directory.path().join("config.json")).unwrap(), first);
    // The order is that of the specification.
    let at = |word: &str| config.to_json().find(word).unwrap();
    assert!(at("ociVersion") < at("\"root\"") && at("\"root\"") < at("\"process\""));
}

#[test]
fn the_words_are_those_of_the_schemas() {
    let schemas = Schemas::load();
    let lists = [
        ("SeccompArch", names::SECCOMP_ARCHITECTURES),
        ("SeccompAction", names::SECCOMP_ACTIONS),
        ("SeccompFlag", names::SECCOMP_FLAGS),
        ("SeccompOperators", names::SECCOMP_OPERATORS),
        ("NamespaceType", names::NAMESPACES),
        ("MemoryPolicyMode", names::MEMORY_POLICY_MODES),
        ("MemoryPolicyFlag", names::MEMORY_POLICY_FLAGS),
        ("SchedulerPolicy", names::SCHEDULER_POLICIES),
        ("SchedulerFlag", names::SCHEDULER_FLAGS),
    ];
    for (name, list) in lists {
        let words = schemas.file("defs-linux.json")["definitions"][name]["enum"].as_array();
        let mut words: Vec<&str> = words.unwrap().iter().filter_map(Value::as_str).collect();
        words.sort();
        assert_eq!(words, list, "{name}");
    }
    // runc's own document is among the examples: all it knows is known here, but for two options of file systems.
    let (_, text) = examples("features", "good").into_iter().find(|(name, _)| name.ends_with("runc.json")).unwrap();
    let runc = Features::from_json(&text).unwrap();
    let unknown: Vec<_> =
        runc.mount_options.unwrap().into_iter().filter(|o| !names::MOUNT_OPTIONS.contains(&o.as_str())).collect();
    assert_eq!(unknown, ["acl", "noacl"]);
    assert_eq!(runc.hooks.unwrap(), names::HOOKS);
    let capabilities = runc.linux.unwrap().capabilities.unwrap();
    assert_eq!(capabilities, names::CAPABILITIES);
    assert!(names::MOUNT_OPTIONS.is_sorted());
}
