//! The life cycle: create, start, kill, delete, state, in order and out of order, and what is left when one of them fails.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use keelbox_testkit::{self as testkit, LeakCheck, alone, require};
use serde_json::{Value, json};

use crate::common::{Bench, Ran, is_keelbox, wait_for};

/// Fails, and changes nothing that `state` tells.
fn refused(bench: &Bench, words: &[&str]) -> testkit::Result {
    let before = bench.keelbox(&["state", &bench.id])?.stdout;
    let ran = bench.keelbox(words)?;
    assert_ne!(ran.status, Some(0), "{words:?}: {ran:?}");
    assert_ne!(ran.stderr, "", "{words:?} says nothing");
    let mut after = bench.keelbox(&["state", &bench.id])?.stdout;
    if before.is_empty() {
        after.clear();
    }
    assert_eq!(after, before, "{words:?}");
    Ok(())
}

fn add_mount(config: &mut Value, mount: Value) {
    config["mounts"].as_array_mut().expect("a list").push(mount);
}

/// What the schema of the specification says about a state.
fn matches_schema(state: &Value) -> testkit::Result {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../runtime-spec/tests/spec/schema/state-schema.json");
    let schema: Value = serde_json::from_slice(&fs::read(file)?)?;
    for name in schema["required"].as_array().ok_or("required")? {
        assert!(state.get(name.as_str().ok_or("text")?).is_some(), "no {name}: {state}");
    }
    for (name, value) in state.as_object().ok_or("an object")? {
        let rule = &schema["properties"][name];
        match rule["type"].as_str() {
            Some("string") => assert!(value.is_string(), "{name}: {value}"),
            Some("integer") => assert!(value.as_u64().is_some() && rule["minimum"] == 0, "{name}: {value}"),
            // Defined in another file of the schema: a version, and a map of texts.
            _ => assert!(
                value.is_string() || value.as_object().is_some_and(|map| map.values().all(Value::is_string)),
                "{name}: {value}"
            ),
        }
        let words = rule["enum"].as_array();
        // The schema leaves out that there may be further ones.
        assert!(words.is_none_or(|words| words.contains(value) || value == "paused"), "{name}: {value}");
    }
    Ok(())
}

#[test]
fn rs_120_121_122_the_state_is_what_the_specification_says() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-120")?;
    let mut config = bench.config("exec sleep 600");
    config["annotations"] = json!({ "org.example.empty": "", "org.example.key": "välue" });
    let bundle = bench.bundle("bundle", &config)?;
    bench.done(&["create", "-b", &bundle, "rs-120"])?;
    let check = |status: &str| -> testkit::Result<Value> {
        let state = bench.state()?;
        matches_schema(&state)?;
        assert_eq!(
            (&state["id"], &state["status"], &state["bundle"]),
            (&json!("rs-120"), &json!(status), &json!(bundle))
        );
        assert_eq!(state["annotations"], config["annotations"]);
        let version = state["ociVersion"].as_str().ok_or("a version")?;
        assert_eq!(version.split('.').count(), 3, "{version}");
        Ok(state)
    };
    let pid = check("created")?["pid"].as_u64().ok_or("a pid")?;
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    bench.done(&["start", "rs-120"])?;
    assert_eq!(check("running")?["pid"], pid);
    let program = || Ok(fs::read_to_string(format!("/proc/{pid}/comm"))?.trim() == "sleep");
    wait_for(program)?;
    bench.done(&["kill", "rs-120", "KILL"])?;
    bench.until("stopped")?;
    assert!(matches!(check("stopped")?["pid"].as_u64(), None | Some(0)));
    Ok(())
}

#[test]
fn rs_123_the_creator_can_do_everything_with_it() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-123")?;
    let bundle = bench.bundle("bundle", &bench.config("exec sleep 600"))?;
    let steps: [&[&str]; 6] = [
        &["create", "-b", &bundle, "rs-123"],
        &["state", "rs-123"],
        &["start", "rs-123"],
        &["kill", "rs-123", "KILL"],
        &["state", "rs-123"],
        &["delete", "--force", "rs-123"],
    ];
    for words in steps {
        bench.done(words)?;
    }
    Ok(())
}

#[test]
fn rs_124_create_needs_an_id_of_its_own_and_a_bundle() -> testkit::Result {
    alone!();
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-124")?;
    let bundle = bench.bundle("bundle", &bench.config("exec sleep 600"))?;
    let leaks = LeakCheck::builder().cgroups("rs-124").begin();
    for words in [["create"].as_slice(), &["create", "-b", &bundle], &["create", "-b", "/nowhere/bundle", "rs-124"]] {
        refused(&bench, words)?;
    }
    for id in ["", "../rs-124", "a/b", ".", "a b", "ä"] {
        refused(&bench, &["create", "-b", &bundle, id])?;
    }
    bench.done(&["create", "-b", &bundle, "rs-124"])?;
    refused(&bench, &["create", "-b", &bundle, "rs-124"])?;
    bench.done(&["delete", "--force", "rs-124"])?;
    leaks.check();
    Ok(())
}

#[test]
fn rs_124_of_two_who_create_one_id_one_succeeds() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-124-race")?;
    let bundle = bench.bundle("bundle", &bench.config("exec sleep 600"))?;
    for _ in 0..8 {
        let start = || {
            let mut command = bench.command(&["create", "-b", &bundle, "rs-124-race"]);
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()
        };
        let mut racers = [start()?, start()?, start()?];
        let mut won = 0;
        for racer in &mut racers {
            won += u32::from(racer.wait()?.success());
        }
        assert_eq!(won, 1);
        // And of two who start it.
        let start = || {
            let mut command = bench.command(&["start", "rs-124-race"]);
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()
        };
        let mut racers = [start()?, start()?];
        let mut won = 0;
        for racer in &mut racers {
            won += u32::from(racer.wait()?.success());
        }
        assert_eq!(won, 1);
        assert_eq!(bench.state()?["status"], "running");
        bench.done(&["delete", "--force", "rs-124-race"])?;
    }
    Ok(())
}

#[test]
fn rs_125_create_applies_everything_but_the_program() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-125")?;
    let mut config = bench.config("touch /ran; hostname > /name; exec sleep 600");
    add_mount(
        &mut config,
        json!({ "destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": ["size=64k"] }),
    );
    let bundle = bench.bundle("bundle", &config)?;
    bench.done(&["create", "-b", &bundle, "rs-125"])?;
    let pid = bench.state()?["pid"].clone();
    for kind in ["mnt", "pid", "ipc", "uts"] {
        let (own, other) =
            (fs::read_link(format!("/proc/self/ns/{kind}"))?, fs::read_link(format!("/proc/{pid}/ns/{kind}"))?);
        assert_ne!(own, other);
    }
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
    assert!(mounts.contains(" /mnt ") && mounts.contains("size=64k"), "{mounts}");
    std::thread::sleep(Duration::from_millis(100));
    assert!(!bench.root().join("ran").exists(), "the program has not run");
    bench.done(&["start", "rs-125"])?;
    wait_for(|| Ok(fs::read_to_string(bench.root().join("name")).is_ok_and(|name| name == "inner\n")))
}

#[test]
fn rs_126_later_edits_of_the_bundle_have_no_effect() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-126")?;
    let log = bench.path("log");
    let note = |word: &str| {
        let args = ["sh", "-c", &format!("echo {word} >> {}", log.display())].map(str::to_owned);
        json!([{ "path": "/bin/sh", "args": args, "env": ["PATH=/usr/bin:/bin"] }])
    };
    let mut config = bench.config("echo first > /word; exec sleep 600");
    config["annotations"] = json!({ "org.example.word": "first" });
    config["hooks"] = json!({ "poststart": note("first"), "poststop": note("first") });
    let bundle = bench.bundle("bundle", &config)?;
    bench.done(&["create", "-b", &bundle, "rs-126"])?;
    let mut other = bench.config("echo second > /word; exec sleep 600");
    other["annotations"] = json!({ "org.example.word": "second" });
    other["hooks"] = json!({ "poststart": note("second"), "poststop": note("second") });
    bench.bundle("bundle", &other)?;
    bench.done(&["start", "rs-126"])?;
    wait_for(|| Ok(bench.root().join("word").exists()))?;
    fs::remove_dir_all(&bundle)?;
    assert_eq!(bench.state()?["annotations"], json!({ "org.example.word": "first" }));
    bench.done(&["kill", "rs-126", "KILL"])?;
    bench.until("stopped")?;
    bench.done(&["delete", "rs-126"])?;
    assert_eq!(fs::read_to_string(bench.root().join("word"))?, "first\n");
    assert_eq!(fs::read_to_string(log)?, "first\nfirst\n");
    Ok(())
}

#[test]
fn rs_022_rs_128_start_wants_a_created_container_with_a_program() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-128")?;
    refused(&bench, &["start"])?;
    refused(&bench, &["start", "rs-128"])?;
    let bundle = bench.bundle("bundle", &bench.config("touch /ran; exec sleep 600"))?;
    bench.done(&["create", "-b", &bundle, "rs-128"])?;
    bench.done(&["start", "rs-128"])?;
    wait_for(|| Ok(bench.root().join("ran").exists()))?;
    refused(&bench, &["start", "rs-128"])?;
    bench.done(&["kill", "rs-128", "KILL"])?;
    bench.until("stopped")?;
    refused(&bench, &["start", "rs-128"])?;
    bench.done(&["delete", "rs-128"])?;

    let mut config = bench.config("true");
    config.as_object_mut().ok_or("an object")?.remove("process");
    let bundle = bench.bundle("bundle", &config)?;
    let created = bench.keelbox(&["create", "-b", &bundle, "rs-128"])?;
    if created.status == Some(0) {
        refused(&bench, &["start", "rs-128"])?;
        assert_eq!(bench.state()?["status"], "created");
    }
    assert!(created.status == Some(0) || !is_keelbox(), "{created:?}");
    Ok(())
}

#[test]
fn rs_131_kill_signals_what_is_there_and_nothing_else() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-131")?;
    refused(&bench, &["kill"])?;
    refused(&bench, &["kill", "rs-131", "KILL"])?;
    let script = "trap 'echo got usr1 >> /log' USR1; trap 'echo got term >> /log; exit 0' TERM; touch /up; while :; do sleep 0.02; done";
    let bundle = bench.bundle("bundle", &bench.config(script))?;
    bench.done(&["create", "-b", &bundle, "rs-131"])?;
    bench.done(&["start", "rs-131"])?;
    wait_for(|| Ok(bench.root().join("up").exists()))?;
    let log = || fs::read_to_string(bench.root().join("log")).unwrap_or_default();
    refused(&bench, &["kill", "rs-131", "NOSUCH"])?;
    bench.done(&["kill", "rs-131", "USR1"])?;
    wait_for(|| Ok(log() == "got usr1\n"))?;
    assert_eq!(bench.state()?["status"], "running");
    bench.done(&["kill", "rs-131", "15"])?;
    bench.until("stopped")?;
    assert_eq!(log(), "got usr1\ngot term\n");
    refused(&bench, &["kill", "rs-131", "KILL"])?;
    bench.done(&["delete", "rs-131"])?;
    // One that waits for its start can be ended as well.
    bench.done(&["create", "-b", &bundle, "rs-131"])?;
    bench.done(&["kill", "rs-131", "KILL"])?;
    bench.until("stopped")?;
    bench.done(&["delete", "rs-131"])?;
    Ok(())
}

#[test]
fn rs_132_delete_takes_away_what_create_made_and_nothing_else() -> testkit::Result {
    alone!();
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-132")?;
    // A namespace and files that were there before.
    let holder = bench.config("exec sleep 600");
    let holder_bundle = bench.bundle("holder", &holder)?;
    bench.done(&["create", "-b", &holder_bundle, "rs-132-holder"])?;
    let pid = serde_json::from_str::<Value>(&bench.done(&["state", "rs-132-holder"])?)?["pid"].clone();
    let leaks = LeakCheck::builder().cgroups("rs-132").files(bench.path("bundle")).begin();
    let mut config = bench.config("touch /mnt/made; exec sleep 600");
    let volume = bench.path("volume");
    fs::create_dir(&volume)?;
    add_mount(&mut config, json!({ "destination": "/mnt", "source": volume, "options": ["bind"] }));
    let namespaces = config["linux"]["namespaces"].as_array_mut().ok_or("a list")?;
    for namespace in namespaces.iter_mut().filter(|namespace| namespace["type"] == "ipc" || namespace["type"] == "uts")
    {
        let kind = namespace["type"].as_str().ok_or("text")?.to_owned();
        namespace["path"] = json!(format!("/proc/{pid}/ns/{kind}"));
    }
    config.as_object_mut().ok_or("an object")?.remove("hostname");
    let bundle = bench.bundle("bundle", &config)?;
    refused(&bench, &["delete"])?;
    refused(&bench, &["delete", "rs-132"])?;
    for _ in 0..2 {
        bench.done(&["create", "-b", &bundle, "rs-132"])?;
        refused(&bench, &["delete", "rs-132"])?;
        bench.done(&["start", "rs-132"])?;
        wait_for(|| Ok(volume.join("made").exists()))?;
        refused(&bench, &["delete", "rs-132"])?;
        bench.done(&["kill", "rs-132", "KILL"])?;
        bench.until("stopped")?;
        bench.done(&["delete", "rs-132"])?;
        refused(&bench, &["delete", "rs-132"])?;
        assert!(volume.join("made").exists() && bench.path("bundle/config.json").exists());
        assert!(fs::read_link(format!("/proc/{pid}/ns/ipc")).is_ok(), "it was not ours to end");
        fs::remove_file(volume.join("made"))?;
    }
    fs::remove_dir_all(volume)?;
    fs::remove_dir_all(bundle)?;
    leaks.check();
    Ok(())
}

#[test]
fn rs_134_state_needs_the_id_of_a_container() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-134")?;
    for words in [["state"].as_slice(), &["state", "rs-134"], &["state", "../rs-134"]] {
        let ran = bench.keelbox(words)?;
        assert!(ran.status != Some(0) && ran.stdout.is_empty() && !ran.stderr.is_empty(), "{words:?}: {ran:?}");
    }
    Ok(())
}

#[test]
fn rs_135_what_fails_leaves_nothing() -> testkit::Result {
    alone!();
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-135")?;
    let leaks = LeakCheck::builder().cgroups("rs-135").begin();
    let wrong: [fn(&mut Value); 6] = [
        |config| add_mount(config, json!({ "destination": "/mnt", "source": "/absent/volume", "options": ["bind"] })),
        |config| add_mount(config, json!({ "destination": "/mnt", "type": "nosuchfs", "source": "none" })),
        |config| config["linux"]["namespaces"][1]["path"] = json!("/proc/self/ns/net"),
        |config| config["root"]["path"] = json!("/absent/root"),
        |config| config["process"]["cwd"] = json!("/bin/sh/there"),
        |config| config["linux"]["devices"] = json!([{ "path": "/bin", "type": "c", "major": 1, "minor": 3 }]),
    ];
    for change in wrong {
        let mut config = bench.config("exec sleep 600");
        change(&mut config);
        let bundle = bench.bundle("bundle", &config)?;
        let created = bench.keelbox(&["create", "-b", &bundle, "rs-135"])?;
        assert_ne!(created.status, Some(0), "{config}");
        assert_ne!(bench.keelbox(&["state", "rs-135"])?.status, Some(0), "{config}");
    }
    // What fails at the start leaves a container that has ended.
    let mut config = bench.config("true");
    config["process"]["args"] = json!(["/absent/program"]);
    let bundle = bench.bundle("bundle", &config)?;
    let created = bench.keelbox(&["create", "-b", &bundle, "rs-135"])?;
    if created.status == Some(0) {
        assert_ne!(bench.keelbox(&["start", "rs-135"])?.status, Some(0));
        bench.done(&["delete", "--force", "rs-135"])?;
    }
    leaks.check();
    Ok(())
}

#[test]
fn rs_136_warnings_change_nothing() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-136")?;
    // Each is a thing to warn of: what nobody knows, what is deprecated, what has no use.
    let mut config = bench.config("echo ran; exit 4");
    config["unknown"] = json!({ "a": [1, null] });
    config["hooks"] = json!({ "prestart": [{ "path": "/bin/true", "args": [] }] });
    config["annotations"] = json!({ "org.opencontainers.unknown": "x" });
    let ran: Ran = bench.run(&config)?;
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(4), "ran\n"), "{ran:?}");
    Ok(())
}
