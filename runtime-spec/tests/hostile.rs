//! Documents made to hurt: they are refused, or handled exactly, without delay.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]
use std::time::{Duration, Instant};

use keelbox_runtime_spec::{Config, ErrorKind, Severity, check_json};
use serde_json::{Value, json};

/// A release build needs well below a second for each; a debug build on a busy machine gets more.
const PATIENCE: Duration = Duration::from_secs(30);

fn base() -> Value {
    serde_json::from_str(&Config::new().to_json()).unwrap()
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    assert!(start.elapsed() < PATIENCE, "{what} took {:?}", start.elapsed());
    result
}

#[test]
fn many_of_everything_is_handled_exactly() {
    let many = |item: Value, n: usize| Value::Array(vec![item; n]);
    let cases = [
        ("/mounts", many(json!({"destination": "/a", "type": "tmpfs", "options": ["ro"]}), 10_000)),
        ("/linux/devices", many(json!({"type": "p", "path": "/a"}), 10_000)),
        ("/linux/uidMappings", many(json!({"containerID": 0, "hostID": 0, "size": 1}), 5_000)),
        ("/process/rlimits", many(json!({"type": "RLIMIT_CPU", "soft": 1, "hard": 1}), 10_000)),
        ("/process/user", json!({"uid": 0, "gid": 0, "additionalGids": vec![1; 100_000]})),
        ("/hooks", json!({"poststop": many(json!({"path": "/x"}), 10_000)})),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": many(json!({"names": ["a"], "action": "SCMP_ACT_KILL", "args": many(json!({"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}), 6)}), 4_000)}),
        ),
        ("/annotations", json!({"a": "x".repeat(10 << 20)})),
    ];
    for (pointer, value) in cases {
        let mut document = base();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        document.pointer_mut(parent).unwrap()[name] = value.clone();
        let text = document.to_string();
        timed(pointer, || {
            let mut config = Config::from_json(text.as_bytes()).unwrap();
            assert!(config.check().len() <= 1_000);
            config
                .edit(|spec| {
                    spec.set_hostname(Some("h".into()));
                })
                .unwrap();
            let written: Value = serde_json::from_str(&config.to_json()).unwrap();
            assert_eq!(written.pointer(pointer), Some(&value));
        });
    }
}

#[test]
fn a2_16_long_strings_and_nul_everywhere() {
    let long = "x".repeat(8 << 20);
    let mut document = base();
    document["process"]["args"] = json!([long]);
    document["linux"]["cgroupsPath"] = json!(long);
    timed("long strings", || {
        let config = Config::from_json(document.to_string().as_bytes());
        assert_eq!(config.unwrap_err().kind(), ErrorKind::TooLarge);
        document["process"]["args"] = json!([]);
        let config = Config::from_json(document.to_string().as_bytes()).unwrap();
        let problem = config.check().into_iter().find(|p| p.rule() == "RS-061").unwrap();
        assert!(problem.to_string().len() < 200, "the message does not repeat the value");
    });
    // A NUL in any string the specification knows is refused there, or is in an annotation.
    let mut strings = 0;
    let document = base();
    each_string(&document, String::new(), &mut |pointer| {
        let mut broken = document.clone();
        *broken.pointer_mut(pointer).unwrap() = json!("/a\0b");
        let error = Config::from_json(broken.to_string().as_bytes());
        let place = error.as_ref().err().and_then(|e| e.pointer());
        assert_eq!(place, Some(pointer));
        strings += 1;
    });
    assert!(strings > 60, "{strings}");
}

fn each_string(value: &Value, place: String, visit: &mut impl FnMut(&str)) {
    match value {
        Value::String(_) => visit(&place),
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                each_string(item, format!("{place}/{i}"), visit);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                each_string(member, format!("{place}/{name}"), visit);
            }
        }
        _ => {}
    }
}

#[test]
fn a3_02_and_a3_08_sysctl_and_cgroup_paths() {
    let deep = "a/".repeat(300);
    for (member, bad) in [
        ("cgroupsPath", json!("/../../x")),
        ("cgroupsPath", json!("a/../../b")),
        ("cgroupsPath", json!("..")),
        ("cgroupsPath", json!("a\0b")),
        ("cgroupsPath", json!("a\nb")),
        ("cgroupsPath", json!("a/".repeat(3_000))),
        ("cgroupsPath", json!("a".repeat(256))),
        ("sysctl", json!({"": "1"})),
        ("sysctl", json!({"a\0b": "1"})),
        ("sysctl", json!({"kernel.shm_rmid_forced+kernel.core_pattern": "1"})),
        ("sysctl", json!({"net.ipv4.ip_forward.": "1"})),
        ("sysctl", json!({"kernel.hostname": "x"})),
    ] {
        let mut document = base();
        document["linux"][member] = bad.clone();
        let problems = check_json(document.to_string().as_bytes()).unwrap();
        let here = format!("/linux/{member}");
        let refused = problems.iter().any(|p| p.pointer().starts_with(&here) && p.severity() == Severity::Error);
        assert!(refused, "{member}: {bad}");
    }
    let mut document = base();
    document["linux"]["cgroupsPath"] = json!(deep);
    let problems = check_json(document.to_string().as_bytes()).unwrap();
    assert!(problems.iter().all(|p| p.rule() != "RS-061"), "300 levels are deep, but allowed");
}

#[test]
fn cut_and_flipped_documents_never_panic() {
    let text = Config::rootless(1, 1).to_json().into_bytes();
    for end in (0..text.len()).step_by(7) {
        assert!(Config::from_json(&text[..end]).is_err());
    }
    let mut seed = 1u64;
    for _ in 0..2_000 {
        let mut broken = text.clone();
        for _ in 0..3 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (seed >> 33) as usize % broken.len();
            broken[at] = b"\"{}[]:,0-9eEnull\\u\xff\0 "[(seed >> 20) as usize % 20];
        }
        if let Ok(config) = Config::from_json(&broken) {
            config.check();
            let again = Config::from_json(config.to_json().as_bytes()).unwrap();
            assert_eq!(again, config);
        }
    }
}

/// Any type in any place: every member of a full document is replaced by every kind of value.
#[test]
fn every_member_with_every_type_never_panics() {
    let text =
        std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/spec/schema/test/config/good/spec-example.json"));
    let document: Value = serde_json::from_slice(&text.unwrap()).unwrap();
    let kinds = [
        json!(null),
        json!(true),
        json!(-1),
        json!(u64::MAX),
        json!(0.5),
        json!(""),
        json!("x"),
        json!([]),
        json!([null, 1, "a", {}]),
        json!({}),
        json!({"": null, "type": 7, "path": []}),
    ];
    let mut places = Vec::new();
    each_place(&document, String::new(), &mut places);
    assert!(places.len() > 150, "{}", places.len());
    for place in places {
        for kind in &kinds {
            let mut broken = document.clone();
            *broken.pointer_mut(&place).unwrap() = kind.clone();
            let text = broken.to_string();
            let problems = check_json(text.as_bytes()).unwrap();
            match Config::from_json(text.as_bytes()) {
                // What reads can be written and read again.
                Ok(config) => {
                    let again = Config::from_json(config.to_json().as_bytes()).unwrap();
                    assert_eq!(again, config, "{place} {kind}");
                    assert!(Config::try_from(config.into_spec()).is_ok(), "{place} {kind}");
                }
                // What does not read is an error of the check too, and `oci-spec` was never asked.
                Err(error) => {
                    assert!(!error.problems().is_empty(), "{place} {kind}: {error}");
                    assert!(problems.iter().any(|p| p.severity() == Severity::Error), "{place} {kind}");
                }
            }
        }
    }
}

// Of a list only the first two elements: the rest is of the same kind.
fn each_place(value: &Value, place: String, out: &mut Vec<String>) {
    out.push(place.clone());
    match value {
        Value::Array(items) => {
            items.iter().enumerate().take(2).for_each(|(i, v)| each_place(v, format!("{place}/{i}"), out))
        }
        Value::Object(members) => members.iter().for_each(|(n, v)| each_place(v, format!("{place}/{n}"), out)),
        _ => {}
    }
}
