//! The commands image and up, as a user types them. Oldest kernel: 5.10.
#![cfg(feature = "images")]

mod common;
#[path = "../../../image-spec/tests/common/distribution.rs"]
mod distribution;

use std::fs;
use std::process::{Command, Stdio};

use common::Bench;
use keelbox_testkit::{self as testkit, LeakCheck, alone, as_user, require};
use serde_json::Value;

/// What [`Distribution`](distribution::Distribution) says where its program is missing, which the test has looked for.
fn skip(reason: &str) {
    unreachable!("{reason}");
}

/// A bench with a store, in which `app:1` is the busybox user land.
struct Images {
    bench: Bench,
    store: String,
}

impl Images {
    fn new(id: &str) -> testkit::Result<Self> {
        let bench = Bench::new(id)?;
        let store = bench.path("store").to_str().ok_or("a path that is text")?.to_owned();
        let images = Self { bench, store };
        let root = format!("{}:/", images.bench.root().display());
        images.image(&[
            "edit",
            "scratch",
            "app:1",
            "--add",
            &root,
            "--cmd",
            "echo hello",
            "--env",
            "PATH=/bin",
            "--epoch",
            "1000",
        ])?;
        Ok(images)
    }

    /// `keelbox image …`, which is to succeed.
    fn image(&self, words: &[&str]) -> testkit::Result<String> {
        let all: Vec<&str> = ["image", words[0], "--store", &self.store].iter().chain(&words[1..]).copied().collect();
        self.bench.done(&all)
    }

    fn up(&self, words: &[&str]) -> testkit::Result<common::Ran> {
        let all: Vec<&str> = ["up", "--store", &self.store].iter().chain(words).copied().collect();
        self.bench.keelbox(&all)
    }

    fn up_prints(&self, words: &[&str]) -> testkit::Result<String> {
        let ran = self.up(words)?;
        assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{words:?}");
        Ok(ran.stdout)
    }
}

#[test]
fn a_program_of_an_image_runs_and_leaves_nothing() -> testkit::Result {
    alone!();
    require!(Root, Overlay, Program("busybox"));
    let images = Images::new("cli-up")?;
    images.up_prints(&["app:1"])?;
    let leaks = LeakCheck::begin();
    assert_eq!(images.up_prints(&["app:1"])?, "hello\n");
    assert_eq!(
        images.up_prints(&["app:1", "echo", "-n", "--help"])?,
        "--help",
        "what is behind the image is the program's"
    );
    assert_eq!(images.up_prints(&["--entrypoint", "echo", "app:1", "a", "b"])?, "a b\n");
    assert_eq!(images.up(&["app:1", "sh", "-c", "exit 7"])?.status, Some(7));
    assert_eq!(images.up(&["app:1", "sh", "-c", "kill -9 $$"])?.status, Some(0), "the first process of a namespace");
    images.up(&["app:1", "/absent"])?.ended_with(127, "/absent");
    assert_eq!(images.up(&["--timeout", "0.2", "app:1", "sleep", "60"])?.status, Some(137));
    leaks.check();
    assert_eq!(images.bench.done(&["list", "-q"])?, "");
    Ok(())
}

#[test]
fn the_options_are_those_of_docker_run() -> testkit::Result {
    require!(Root, Overlay, Program("busybox"), Program("bash"));
    let images = Images::new("cli-up-options")?;
    let share = images.bench.path("share");
    fs::create_dir(&share)?;
    fs::write(share.join("file"), "shared")?;
    fs::write(images.bench.path("variables"), "# none\nONE=1\n\nTWO=2 3\n")?;
    let (variables, shared) = (images.bench.path("variables"), format!("{}:/mnt", share.display()));
    let script = "echo $A-$ONE-$TWO; pwd; id -u; hostname; cat /mnt/file; ulimit -n; grep CapEff /proc/self/status; df -m /scratch | tail -1 | awk '{print $2}'";
    let words = [
        ["-e", "A=b"],
        ["--env-file", variables.to_str().ok_or("text")?],
        ["-w", "/tmp"],
        ["-u", "12:34"],
        ["--hostname", "box"],
        ["-v", &shared],
        ["--ulimit", "nofile=100:200"],
        ["--tmpfs", "/scratch:size=8m"],
        ["--cap-drop", "all"],
    ];
    let mut line: Vec<&str> = words.iter().flatten().copied().collect();
    line.extend(["app:1", "sh", "-c", script]);
    let expected = "b-1-2 3\n/tmp\n12\nbox\nshared100\nCapEff:\t0000000000000000\n8\n";
    assert_eq!(images.up_prints(&line)?, expected);

    let read_only = format!("{shared}:ro");
    let ran = images.up(&["-v", &read_only, "--read-only", "app:1", "sh", "-c", "touch /mnt/x; touch /x"])?;
    assert_eq!((ran.status, ran.stderr.matches("Read-only file system").count()), (Some(1), 2), "{}", ran.stderr);
    images.up_prints(&["-v", "data:/data", "app:1", "sh", "-c", "echo kept > /data/file"])?;
    assert_eq!(images.up_prints(&["-v", "data:/data", "app:1", "cat", "/data/file"])?, "kept\n");

    // A pipe gives what it has only once.
    let script = "exec $KEELBOX up --store $STORE --env-file <(echo PIPED=yes) app:1 sh -c 'echo $PIPED'";
    let mut piped = Command::new("bash");
    piped.args(["-c", script]).env("KEELBOX", env!("CARGO_BIN_EXE_keelbox")).env("STORE", &images.store);
    assert_eq!(String::from_utf8_lossy(&piped.stdin(Stdio::null()).output()?.stdout), "yes\n");

    for (words, why) in [
        (["--volume", "/a"], "SOURCE:TARGET"),
        (["--memory", "lots"], "bytes such as 64m"),
        (["--memory-swap", "64m"], "without --memory"),
        (["--network", "mine"], "--network is none, host, container:ID"),
        (["--security-opt", "label=x"], "no such option"),
        (["--cap-add", "nothing"], "no capability"),
        (["--pull", "sometimes"], "--pull is"),
    ] {
        images.up(&[words[0], words[1], "app:1"])?.failed_with(why);
    }
    images.up(&["--privileged", "app:1"])?.failed_with("cannot honour --privileged");
    Ok(())
}

#[test]
fn limits_hold() -> testkit::Result {
    require!(Root, Overlay, Program("busybox"), Cgroup("memory"), Cgroup("pids"));
    let images = Images::new("cli-up-limits")?;
    let script = "for n in 1 2 3 4 5 6 7 8 9; do sleep 1 & done; wait";
    let ran = images.up(&["--pids-limit", "5", "app:1", "sh", "-c", script])?;
    assert!(ran.stderr.contains("Resource temporarily unavailable"), "{}", ran.stderr);
    let ran = images.up(&[
        "--memory",
        "16m",
        "--memory-swap",
        "16m",
        "app:1",
        "sh",
        "-c",
        "x=$(head -c 64m /dev/zero | tr '\\0' x)",
    ])?;
    assert_ne!(ran.status, Some(0));
    Ok(())
}

#[test]
fn a_detached_container_is_one_like_others() -> testkit::Result {
    alone!();
    require!(Root, Overlay, Program("busybox"));
    let images = Images::new("cli-up-detached")?;
    images.up_prints(&["app:1", "true"])?;
    let leaks = LeakCheck::begin();
    assert_eq!(images.up_prints(&["-d", "--name", "web", "app:1", "sleep", "60"])?, "web\n");
    assert_eq!(images.bench.done(&["list", "-q"])?, "web\n");
    assert_eq!(images.bench.done(&["exec", "web", "echo", "inside"])?, "inside\n");
    let link = images.up_prints(&["--network", "container:web", "app:1", "readlink", "/proc/self/ns/net"])?;
    assert_eq!(images.bench.done(&["exec", "web", "readlink", "/proc/self/ns/net"])?, link);
    images.bench.done(&["delete", "--force", "web"])?;
    assert_eq!(images.up_prints(&["--name", "web", "app:1"])?, "hello\n");
    assert_eq!(images.bench.done(&["list", "-q"])?, "");
    leaks.check();
    Ok(())
}

#[test]
fn images_are_listed_told_changed_and_removed() -> testkit::Result {
    require!(Root, Program("busybox"));
    let images = Images::new("cli-image")?;
    fs::write(images.bench.path("note"), "a note")?;
    let note = format!("{}:/note", images.bench.path("note").display());
    let edit = [
        "edit",
        "app:1",
        "app:2",
        "--add",
        &note,
        "--label",
        "a=b",
        "--cmd",
        "[\"cat\", \"/note\"]",
        "--squash",
        "all",
        "--epoch",
        "1000",
    ];
    let first = images.image(&edit)?;
    assert_eq!(images.image(&edit)?, first, "the same input makes the same image");
    assert_eq!(images.image(&["ls", "-q"])?, "app:1\napp:2\n");
    let listed: Value = serde_json::from_str(&images.image(&["ls", "--json"])?)?;
    assert_eq!(listed[1]["name"], "app:2");
    assert!(first.contains(listed[1]["digest"].as_str().ok_or("a digest")?));
    let told: Value = serde_json::from_str(&images.image(&["inspect", "app:2"])?)?;
    assert_eq!(told["config"]["config"]["Labels"]["a"], "b");
    assert_eq!(told["layers"].as_array().map(Vec::len), Some(1));
    let history: Value = serde_json::from_str(&images.image(&["history", "app:2", "--json"])?)?;
    assert!(history.as_array().is_some_and(|steps| !steps.is_empty()), "{history}");
    images.image(&["tag", "app:2", "other:1"])?;
    assert_eq!(images.image(&["rm", "app:1", "app:2"])?, "app:1\napp:2\n");
    assert_eq!(images.image(&["ls", "-q"])?, "other:1\n");
    images
        .bench
        .keelbox(&["image", "rm", "--store", &images.store, "other:1", "app:9"])?
        .failed_with("there is no image app:9");
    assert_eq!(images.image(&["ls", "-q"])?, "other:1\n", "all or none");
    images.bench.keelbox(&["image", "frobnicate"])?.failed_with("there is no command \"image frobnicate\"");
    assert!(images.bench.done(&["image", "pull", "--help"])?.starts_with("Usage: keelbox image pull [OPTION…] NAME\n"));
    let directories = images.image(&["unpack", "other:1"])?;
    assert_eq!(fs::read_to_string(format!("{}/note", directories.trim()))?, "a note");
    Ok(())
}

#[test]
fn images_go_into_archives_and_layouts_and_back() -> testkit::Result {
    require!(Root, Program("busybox"));
    let images = Images::new("cli-image-copy")?;
    let digest = images.image(&["inspect", "app:1"])?;
    let digest: Value = serde_json::from_str(&digest)?;
    let digest = digest["digest"].as_str().ok_or("a digest")?.to_owned();
    let path = |name: &str| images.bench.path(name).display().to_string();
    images.image(&["save", "app:1", &path("oci.tar")])?;
    images.image(&["save", "app:1", &path("docker.tar"), "--docker"])?;
    assert_eq!(images.image(&["copy", "app:1", &format!("oci:{}:1", path("layout"))])?, format!("{digest}\n"));
    images.image(&["rm", "app:1"])?;
    assert!(images.image(&["load", &path("oci.tar")])?.ends_with(&format!("app:1 {digest}\n")));
    images.image(&["load", &path("docker.tar"), "docker:1"])?;
    images.image(&["copy", &format!("oci:{}:1", path("layout")), "layout:1"])?;
    assert_eq!(images.image(&["ls", "-q"])?, "app:1\ndocker:1\nlayout:1\n");
    let docker: Value = serde_json::from_str(&images.image(&["inspect", "docker:1"])?)?;
    let layout: Value = serde_json::from_str(&images.image(&["inspect", "layout:1"])?)?;
    assert_eq!((&docker["config"], &layout["digest"]), (&layout["config"], &Value::from(digest)));
    images.bench.keelbox(&["image", "save", "--store", &images.store, "app:1", "a:b"])?.failed_with("has a colon");
    Ok(())
}

#[test]
fn an_image_is_built_as_a_file_says() -> testkit::Result {
    require!(Root, Overlay, Program("busybox"));
    let images = Images::new("cli-image-build")?;
    let context = images.bench.path("context");
    fs::create_dir(&context)?;
    fs::write(context.join("note"), "a note")?;
    let text = "FROM app:1\nARG WHO=nobody\nCOPY note /srv/note\nRUN echo made by $WHO > /srv/made\nCMD [\"cat\", \"/srv/note\", \"/srv/made\"]\n";
    fs::write(context.join("Dockerfile"), text)?;
    let directory = context.to_str().ok_or("text")?;
    let line = ["build", "-t", "built:1", "--build-arg", "WHO=me", "--epoch", "1000", directory];
    let first = images.image(&line)?;
    assert!(first.contains(": RUN echo made by $WHO > /srv/made\n"), "{first}");
    assert_eq!(images.up_prints(&["built:1"])?, "a notemade by me\n");
    let again = images.image(&line)?;
    assert!(again.contains("(as before)"), "{again}");
    assert_eq!(again.lines().last(), first.lines().last(), "the same image");
    fs::write(context.join("Dockerfile"), "FROM app:1\nRUN exit 3\n")?;
    let line = ["image", "build", "--store", &images.store, "-q", directory];
    let failed = images.bench.keelbox(&line)?;
    assert_eq!(failed.status, Some(1), "{failed:?}");
    assert!(failed.stderr.contains("exit 3"), "{failed:?}");
    Ok(())
}

#[test]
fn a_store_is_kept_in_order() -> testkit::Result {
    require!(Root, Program("busybox"));
    let images = Images::new("cli-image-store")?;
    images.image(&["unpack", "app:1"])?;
    images.image(&["edit", "app:1", "app:2", "--label", "a=b", "--epoch", "1000"])?;
    assert_eq!(images.image(&["verify"])?, "5 blobs, 1 unpacked layers, 2 names\n");
    let usage: Value = serde_json::from_str(&images.image(&["du", "--json"])?)?;
    assert!(usage["images"][0]["shared"].as_u64() > Some(500_000), "{usage}");
    assert!(images.image(&["du"])?.starts_with("IMAGE"));
    images.image(&["rm", "app:1", "app:2"])?;
    let would: Value = serde_json::from_str(&images.image(&["gc", "--dry-run", "--json"])?)?;
    assert_eq!((would["blobs"].as_u64(), would["layers"].as_u64()), (Some(5), Some(1)), "{would}");
    assert_eq!(images.image(&["gc", "--grace", "1h", "--json"])?.matches('0').count(), 3);
    assert_eq!(images.image(&["gc", "--json"])?, format!("{would:#}\n"));
    assert!(images.image(&["gc"])?.starts_with("0 blobs, 0 unpacked layers"));

    images.image(&["edit", "scratch", "app:3", "--label", "a=b"])?;
    let blobs = images.bench.path("store/blobs/sha256");
    for blob in fs::read_dir(blobs)? {
        let blob = blob?.path();
        fs::remove_file(&blob)?;
        fs::write(&blob, "damage")?;
    }
    let verify = |words: &[&str]| {
        let line: Vec<&str> = ["image", "verify", "--store", &images.store].iter().chain(words).copied().collect();
        images.bench.keelbox(&line)
    };
    let found = verify(&[])?;
    assert!(found.status == Some(1) && found.stderr.contains("has digest"), "{found:?}");
    assert_eq!(verify(&["--repair"])?.status, Some(0));
    assert_eq!(verify(&[])?.status, Some(0));
    Ok(())
}

#[test]
fn up_pulls_what_is_not_there() -> testkit::Result {
    require!(Root, Overlay, Program("busybox"), Program("docker-registry"));
    let images = Images::new("cli-up-pull")?;
    let registry = distribution::Distribution::plain().ok_or("docker-registry(1) is gone")?;
    let name = format!("{}/team/app:1", registry.address);
    let pushed = images.image(&["push", "app:1", &name])?;
    let elsewhere = images.bench.path("elsewhere");
    let elsewhere = elsewhere.to_str().ok_or("text")?;
    let up = |more: &[&str]| -> testkit::Result<common::Ran> {
        let line: Vec<&str> = ["up", "--store", elsewhere].iter().chain(more).copied().collect();
        images.bench.keelbox(&line)
    };
    up(&["--pull", "never", &name])?.failed_with("there is no image");
    let ran = up(&[&name, "echo", "pulled"])?;
    assert_eq!((ran.status, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "pulled\n", ""));
    let pulled = images.bench.done(&["image", "pull", "--store", elsewhere, &name])?;
    assert_eq!(pulled, pushed, "the same image");
    drop(registry);
    assert_eq!(up(&[&name])?.stdout, "hello\n", "what is there needs no registry");
    assert_ne!(up(&["--pull", "always", &name])?.status, Some(0));
    Ok(())
}

/// In a network namespace of its own, which stands for a machine.
#[test]
fn a_port_is_published() -> testkit::Result {
    require!(Root, Overlay, LinkKind("bridge"), PacketFilter, Program("busybox"), Program("unshare"));
    let images = Images::new("cli-up-publish")?;
    let script = "ip link set lo up; echo 1 > /proc/sys/net/ipv4/ip_forward
        $KEELBOX --root $ROOT up --store $STORE -p 8080:80 app:1 sh -c 'mkdir /w; echo page > /w/page; exec httpd -f -p 80 -h /w' & server=$!
        for n in $(seq 100); do busybox wget -q -O - http://127.0.0.1:8080/page 2>/dev/null && break; sleep 0.1; done
        kill -9 $server; wait $server; exit 0";
    let program = env!("CARGO_BIN_EXE_keelbox");
    let mut command = Command::new("unshare");
    command
        .args(["--net", "sh", "-c", script])
        .env("KEELBOX", program)
        .env("STORE", &images.store)
        .env("ROOT", images.bench.path("states"))
        .stdin(Stdio::null());
    let output = command.output()?;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "page\n", "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
fn an_ordinary_user_needs_nothing() -> testkit::Result {
    as_user!();
    require!(UserNamespace, Program("busybox"));
    let images = Images::new("cli-up-user")?;
    assert_eq!(images.up_prints(&["app:1", "id", "-u"])?, "0\n");
    Ok(())
}
