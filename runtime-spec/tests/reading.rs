//! What the reader forgives, what it refuses, and what it keeps: the faults of `oci-spec`, unknown members, null, NUL.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]
use keelbox_runtime_spec::{Config, ErrorKind, Severity};

fn read(text: &str) -> Config {
    Config::from_json(text.as_bytes()).unwrap_or_else(|e| panic!("{e}"))
}

fn refuse(text: &str) -> String {
    let error = Config::from_json(text.as_bytes()).expect_err(text);
    assert_eq!(error.kind(), ErrorKind::Value, "{error}");
    assert!(!error.problems().is_empty());
    error.pointer().unwrap().to_owned()
}

fn property(config: &Config, pointer: &str) -> String {
    config.property(pointer).unwrap_or_default()
}

#[test]
fn rs_005_unknown_members_are_ignored_and_kept() {
    let text = r#"{"ociVersion":"1.3.0","root":{"path":"r","x":[1,null]},"linux":{"namespaces":[{"type":"pid","y":1.5},{"type":"uts"}],"futureLimit":{"z":null}}}"#;
    let mut config = read(text);
    let unknown = ["/linux/futureLimit", "/linux/namespaces/0/y", "/root/x"];
    assert_eq!(config.unknown(), unknown);
    assert!(config.check().iter().all(|p| p.severity() == Severity::Warning));
    config
        .edit(|spec| {
            let linux = spec.linux_mut().as_mut().unwrap();
            linux.namespaces_mut().as_mut().unwrap().remove(1);
            linux.set_mount_label(Some("label".into()));
        })
        .unwrap();
    assert_eq!(config.unknown(), unknown);
    assert_eq!(property(&config, "/linux/namespaces"), r#"[{"type":"pid","y":1.5}]"#);
    assert_eq!(property(&config, "/linux/futureLimit"), r#"{"z":null}"#);
    assert_eq!(property(&config, "/root/x"), "[1,null]");
}

#[test]
fn null_is_absent() {
    let config = read(
        r#"{"ociVersion":"1.3.0","hostname":null,"root":{"path":"r","readonly":null},"annotations":{"a":null,"b":"c"},"mounts":null,"linux":{"resources":{"pids":null}}}"#,
    );
    assert!(config.spec().hostname().is_none() && config.spec().mounts().is_none());
    assert_eq!(property(&config, "/root"), r#"{"path":"r"}"#);
    assert_eq!(property(&config, "/annotations"), r#"{"b":"c"}"#);
    assert!(!config.to_json().contains("null"));
    // A null element of a list is not absent.
    assert_eq!(refuse(r#"{"process":{"cwd":"/","args":["a",null]}}"#), "/process/args/1");
}

#[test]
fn rs_027_newer_words_in_lists_become_warnings() {
    let text = r#"{"ociVersion":"1.3.0","root":{"path":"r"},"process":{"cwd":"/","args":["a"],"capabilities":{"bounding":["CAP_FUTURE","CAP_KILL","kill"]}},
        "linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_FUTURE","SECCOMP_FILTER_FLAG_LOG"],"architectures":["SCMP_ARCH_FUTURE"]}}}"#;
    let mut config = read(text);
    let places: Vec<&str> = config.warnings().iter().map(|p| p.pointer()).collect();
    let expected = [
        "/process/capabilities/bounding/0",
        "/process/capabilities/bounding/2",
        "/linux/seccomp/architectures/0",
        "/linux/seccomp/flags/0",
    ];
    assert_eq!(places, expected);
    let spec = config.spec();
    let process = spec.process().as_ref().unwrap();
    let sets = process.capabilities().as_ref().unwrap();
    assert_eq!(sets.bounding().as_ref().unwrap().len(), 1);
    let seccomp = spec.linux().as_ref().unwrap().seccomp().as_ref().unwrap();
    assert_eq!(seccomp.flags().as_ref().unwrap().len(), 1);
    // The document keeps them, also when something else is edited.
    config.edit(|spec| spec.set_hostname(Some("x".into())).version().len()).unwrap();
    assert!(config.to_json().contains("CAP_FUTURE"));
    assert_eq!(config.warnings().len(), 4);
    // The strict check warns about capabilities, as the specification wants, and refuses the others (RS-006).
    let severity = |rule: &str| {
        let problems = config.check();
        problems.iter().find(|p| p.rule() == rule).unwrap().severity()
    };
    assert_eq!(severity("RS-027"), Severity::Warning);
    assert_eq!(severity("RS-093"), Severity::Error);
    assert_eq!(severity("RS-094"), Severity::Error);
}

/// What cannot be understood, and its place.
const REFUSED: &[(&str, &str)] = &[
    (r#"[]"#, ""),
    (r#"{"root":{}}"#, "/root/path"),
    (r#"{"root":{"path":"a\u0000b"}}"#, "/root/path"),
    (r#"{"process":{}}"#, "/process/cwd"),
    (r#"{"process":{"cwd":"/","args":"sh"}}"#, "/process/args"),
    (r#"{"process":{"cwd":"/","user":{"uid":-1}}}"#, "/process/user/uid"),
    (r#"{"process":{"cwd":"/","user":{"uid":1.0}}}"#, "/process/user/uid"),
    (r#"{"process":{"cwd":"/","user":{"uid":4294967296}}}"#, "/process/user/uid"),
    (r#"{"process":{"cwd":"/","rlimits":[{"type":"RLIMIT_NEW","soft":1,"hard":1}]}}"#, "/process/rlimits/0/type"),
    (r#"{"process":{"cwd":"/","rlimits":[{"type":"RLIMIT_CPU","soft":1}]}}"#, "/process/rlimits/0/hard"),
    (r#"{"linux":{"namespaces":[{"type":"future"}]}}"#, "/linux/namespaces/0/type"),
    (r#"{"linux":{"uidMappings":[{"containerID":0,"size":1}]}}"#, "/linux/uidMappings/0/hostID"),
    (r#"{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_FUTURE"}}}"#, "/linux/seccomp/defaultAction"),
    (r#"{"linux":{"sysctl":{"net.a.b":1}}}"#, "/linux/sysctl/net.a.b"),
    (r#"{"linux":{"resources":{"unified":{"a\u0000":"1"}}}}"#, "/linux/resources/unified/a\0"),
    (r#"{"linux":{"resources":{"cpu":{"shares":-1}}}}"#, "/linux/resources/cpu/shares"),
    (r#"{"hooks":{"poststop":[{"args":[]}]}}"#, "/hooks/poststop/0/path"),
    (r#"{"freebsd":{"jail":{"vnet":"disable"}}}"#, "/freebsd/jail/vnet"),
];

#[test]
fn rs_006_what_cannot_be_understood_is_refused_with_its_place() {
    for (text, place) in REFUSED {
        assert_eq!(refuse(text), *place, "{text}");
    }
    // A NUL where it is nobody's problem is kept.
    let config = read(r#"{"annotations":{"a":"\u0000"},"x":"\u0000"}"#);
    assert_eq!(config.property("/annotations/a").unwrap(), r#""\u0000""#);
}

#[test]
fn rs_070_absent_pids_limit_is_not_zero() {
    let mut absent = read(r#"{"linux":{"resources":{"pids":{"x":1}}}}"#);
    assert_eq!(absent.pids_limit(), None);
    let pids = |c: &Config| {
        let linux = c.spec().linux().as_ref().unwrap();
        *linux.resources().as_ref().unwrap().pids()
    };
    assert!(pids(&absent).is_none());
    let zero = read(r#"{"linux":{"resources":{"pids":{"limit":0}}}}"#);
    assert_eq!((zero.pids_limit(), pids(&zero).unwrap().limit()), (Some(0), 0));
    // Editing something else does not invent a limit; setting 0 does.
    absent
        .edit(|spec| {
            spec.set_hostname(None);
        })
        .unwrap();
    assert_eq!(property(&absent, "/linux/resources/pids"), r#"{"x":1}"#);
    absent
        .edit(|spec| {
            let linux = spec.linux_mut().as_mut().unwrap();
            let resources = linux.resources_mut().as_mut().unwrap();
            resources.set_pids(Some(keelbox_runtime_spec::oci_spec::runtime::LinuxPids::default()));
        })
        .unwrap();
    assert_eq!(property(&absent, "/linux/resources/pids"), r#"{"limit":0,"x":1}"#);
}

#[test]
fn faults_of_oci_spec_stay_inside() {
    let text = r#"{"ociVersion":"1.3.0","root":{"path":"r"},
        "process":{"cwd":"/","args":["a"],"execCPUAffinity":{"initial":"0-1, 3","final":""},
            "scheduler":{"policy":"SCHED_OTHER","flags":["SCHED_FLAG_DL_OVERRUN","SCHED_FLAG_RESET_ON_FORK"]}},
        "linux":{"netDevices":{"eth0":{}},"resources":{"devices":[{"allow":false}],"hugepageLimits":[{"pageSize":"2MB","limit":18446744073709551615}]}},
        "windows":{"layerFolders":["a"],"hyperv":{"utilityVMPath":"p"},"resources":{"cpu":{"affinity":[{"mask":1,"group":0}]}}},
        "vm":{"kernel":{"path":"/k"},"hwConfig":{"vcpus":2,"irqs":[1]}},
        "freebsd":{"jail":{"host":"new"}}}"#;
    let mut config = read(text);
    let before: serde_json::Value = serde_json::from_str(text).unwrap();
    let after = |config: &Config| -> serde_json::Value { serde_json::from_str(&config.to_json()).unwrap() };
    assert_eq!(after(&config), before);
    assert_eq!(config.huge_page_limits(), [("2MB".to_owned(), u64::MAX)]);

    let spec = config.spec();
    let process = spec.process().as_ref().unwrap();
    assert_eq!(process.user().uid(), 0, "an absent user is root");
    let affinity = process.exec_cpu_affinity().as_ref().unwrap();
    assert_eq!(affinity.initial().as_deref(), Some("0-1,3"));
    assert_eq!(*affinity.cpu_affinity_final(), None);
    assert_eq!(process.scheduler().as_ref().unwrap().flags().as_ref().unwrap().len(), 2);
    let pages = spec.linux().as_ref().unwrap().resources().as_ref().unwrap().hugepage_limits();
    assert_eq!(pages.as_ref().unwrap()[0].limit(), i64::MAX);
    let hyperv = spec.windows().as_ref().unwrap().hyperv().as_ref().unwrap();
    assert_eq!(hyperv.utility_vm_path().as_deref(), Some("p"));

    // An edit elsewhere leaves all of it, and an edit there arrives in the specification's spelling.
    config
        .edit(|spec| {
            spec.set_hostname(Some("h".into()));
            let windows = spec.windows_mut().as_mut().unwrap();
            let mut hyperv = windows.hyperv().clone().unwrap();
            hyperv.set_utility_vm_path(Some("q".into()));
            windows.set_hyperv(Some(hyperv));
        })
        .unwrap();
    let mut expected = before;
    expected["hostname"] = "h".into();
    expected["windows"]["hyperv"]["utilityVMPath"] = "q".into();
    assert_eq!(after(&config), expected);
    // What oci-spec would write as null is not written.
    let spec = read(r#"{"linux":{"netDevices":{"eth0":{}},"resources":{"devices":[{"allow":true}]}}}"#).into_spec();
    assert!(!Config::try_from(spec).unwrap().to_json().contains("null"));
}

#[test]
fn edits_that_cannot_be_written_change_nothing() {
    use std::os::unix::ffi::OsStrExt;
    let mut config = Config::new();
    let before = config.clone();
    let bad = std::path::PathBuf::from(std::ffi::OsStr::from_bytes(b"/\xff"));
    let error = config.edit(|spec| spec.process_mut().as_mut().unwrap().set_cwd(bad).cwd().clone()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Value);
    let error = config
        .edit(|spec| {
            spec.set_hostname(Some("a\0b".into()));
        })
        .unwrap_err();
    assert_eq!(error.to_string(), "cannot change configuration: /hostname: RS-035 must not contain a NUL character");
    for (pointer, text, kind) in [
        ("/process/cwd", "7", ErrorKind::Value),
        ("/process/cwd/x", "7", ErrorKind::Pointer),
        ("process", "7", ErrorKind::Pointer),
        ("/mounts/99", "{}", ErrorKind::Pointer),
        ("/mounts/x", "{}", ErrorKind::Pointer),
        ("/x", "{", ErrorKind::Syntax),
        (&"/x".repeat(100_000), "1", ErrorKind::Pointer),
    ] {
        assert_eq!(config.insert(pointer, text).unwrap_err().kind(), kind, "{pointer:.20}");
    }
    assert_eq!(config.remove("/process/cwd").unwrap_err().kind(), ErrorKind::Value);
    assert!(!config.remove("/mounts/7").unwrap() && !config.remove("/mounts/x").unwrap());
    assert!(!config.remove("/nothing").unwrap() && !config.remove("").unwrap());
    assert_eq!(config, before);
}

#[test]
fn properties_are_inserted_and_removed() {
    let mut config = Config::new();
    config.insert("/annotations/a~1b", "\"c\"").unwrap();
    config.insert("/mounts/-", r#"{"destination":"/x","type":"tmpfs"}"#).unwrap();
    assert_eq!(config.spec().annotations().as_ref().unwrap()["a/b"], "c");
    assert_eq!(config.spec().mounts().as_ref().unwrap().len(), 8);
    assert!(config.remove("/mounts/7").unwrap() && config.remove("/annotations").unwrap());
    assert_eq!(config, Config::new());
}
