//! Further programs with settings of their own: from an OCI process, with descriptors, groups, capabilities, and a life of their own.

mod common;

use std::fs;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use keelbox::crates::cgroups::Hierarchy;
use keelbox::crates::runtime_spec::{oci_spec, process_from_json};
use keelbox::{
    Container, ErrorKind, IoPriority, Process, Profile, Resource, Runtime, Scheduler, Status, Stdio, Terminal,
};
use keelbox_testkit::{self as testkit, LeakCheck, alone, require};

fn sleeping(root: &Path) -> Container {
    Container::from_rootfs(root).args(["/probe", "sleep", "600000"]).env("FROM", "container")
}

fn process(json: &str) -> testkit::Result<oci_spec::runtime::Process> {
    Ok(process_from_json(json.as_bytes())?)
}

#[test]
fn a_whole_process_is_taken_as_it_is() -> testkit::Result {
    require!(Root, Program("busybox"));
    let root = common::root()?;
    let container = sleeping(root.path()).spawn()?;
    let script = "id; pwd; echo $FROM-$OWN; umask; ulimit -Hn; ulimit -n; cat /proc/self/oom_score_adj; \
                  grep -E '^(CapEff|CapAmb|NoNewPrivs)' /proc/self/status";
    let asked = process(&format!(
        r#"{{"args":["sh","-c",{script:?}],"cwd":"/etc","env":["PATH=/bin","OWN=yes"],
            "user":{{"uid":1000,"gid":2000,"additionalGids":[7,8],"umask":63}},
            "capabilities":{{"bounding":["CAP_KILL"],"effective":["CAP_KILL"],"permitted":["CAP_KILL"],
                             "inheritable":["CAP_KILL"],"ambient":["CAP_KILL"]}},
            "rlimits":[{{"type":"RLIMIT_NOFILE","soft":20,"hard":30}}],"oomScoreAdj":900,"noNewPrivileges":false}}"#
    ))?;
    let out = container.exec_process(asked).output()?;
    let expected = "uid=1000(user) gid=2000(users) groups=7,8,2000(users)\n/etc\n-yes\n0077\n30\n20\n900\n";
    let privileges = "CapEff:\t0000000000000020\nCapAmb:\t0000000000000020\nNoNewPrivs:\t0\n";
    let text = out.text();
    let (first, rest) = text.split_once('\n').unwrap_or_default();
    assert!(first.starts_with("uid=1000") && first.contains("gid=2000"), "{out:?}");
    assert!(["7", "8"].iter().all(|group| first.contains(group)), "{first}");
    let (_, expected) = expected.split_once('\n').unwrap_or_default();
    assert_eq!(rest, format!("{expected}{privileges}"), "{:?}", String::from_utf8_lossy(&out.stderr));
    Ok(())
}

/// Saying nothing gives nothing that the container has not.
#[test]
fn what_a_process_leaves_open_is_as_in_the_container() -> testkit::Result {
    require!(Root, Program("busybox"));
    let root = common::root()?;
    let own = sleeping(root.path()).rlimit(Resource::Descriptors, 33, 44).umask(0o027).oom_score_adj(600);
    let container = own.scheduler(Scheduler::batch(3)).io_priority(IoPriority::BestEffort(6)).spawn()?;
    let script = "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status; ulimit -n; ulimit -Hn; umask; cat /proc/self/oom_score_adj";
    let asked = process(&format!(r#"{{"args":["/bin/sh","-c",{script:?}],"cwd":"/","user":{{"uid":0,"gid":0}}}}"#))?;
    let further = container.exec_process(asked).output()?.text().into_owned();
    let plain = container.exec(["sh", "-c", script]).output()?.text().into_owned();
    assert_eq!(further, plain);
    assert!(further.contains("NoNewPrivs:\t1\nSeccomp:\t2\n33\n44\n0027\n600\n"), "{further}");
    // sched_getscheduler(2) and getpriority(2), which answers 20 less the nice value; ioprio_get(2) of the process.
    if cfg!(target_arch = "x86_64") {
        let answer = |call: [&str; 3]| container.exec(["/probe", "syscall"].into_iter().chain(call)).output();
        assert_eq!(answer(["145", "0", "0"])?.text(), "3\n");
        assert_eq!(answer(["140", "0", "0"])?.text(), "17\n");
        assert_eq!(answer(["252", "1", "0"])?.text(), format!("{}\n", 2 << 13 | 6));
    }
    Ok(())
}

#[test]
fn a_process_that_means_nothing_is_refused() -> testkit::Result {
    for (json, pointer) in [
        (r#"{"cwd":"srv","args":["ls"]}"#, "/process/cwd"),
        (r#"{"cwd":"/","args":[]}"#, "/process/args"),
        (r#"{"cwd":"/","args":["ls"],"oomScoreAdj":2000}"#, "/process/oomScoreAdj"),
        (r#"{"cwd":"/","args":["ls"],"scheduler":{"policy":"SCHED_FIFO"}}"#, "/process/scheduler/priority"),
        (r#"{"cwd":"/","args":["ls"],"rlimits":[{"type":"RLIMIT_X","soft":1,"hard":1}]}"#, "/process/rlimits"),
        ("[]", "/process"),
    ] {
        let error = process_from_json(json.as_bytes()).expect_err(json);
        let text = format!("{error:?} {error}");
        assert!(text.contains(pointer), "{text}");
    }
    require!(Root, Program("busybox"));
    let root = common::root()?;
    let container = sleeping(root.path()).spawn()?;
    let wrong: [(keelbox::Exec<'_>, &str); 5] = [
        (container.exec(["true"]).exec_cpu_affinity("0-x", ""), "0-x"),
        (container.exec(["true"]).exec_cpu_affinity("", "99999"), "99999"),
        (container.exec(["true"]).scheduler(Scheduler::fifo(0)), "priority 0"),
        (container.exec(["true"]).capability("fly"), "fly"),
        (container.exec(["true"]).rlimit(Resource::Core, 2, 1), "hard limit 1"),
    ];
    for (exec, word) in wrong {
        let error = exec.status().expect_err(word);
        assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains(word), "{error:?}");
    }
    Ok(())
}

#[test]
fn a_process_with_a_terminal_has_one_of_its_size() -> testkit::Result {
    require!(Root, Program("busybox"));
    let root = common::root()?;
    let container = sleeping(root.path()).spawn()?;
    let asked = |terminal| {
        process(&format!(
            r#"{{"args":["/probe","tty"],"cwd":"/","user":{{"uid":0,"gid":0}},"terminal":{terminal},"consoleSize":{{"height":33,"width":77}}}}"#
        ))
    };
    let mut with = container.exec_process(asked(true)?).spawn()?;
    let mut said = String::new();
    with.terminal().ok_or("a terminal")?.read_to_string(&mut said)?;
    assert!(with.wait()?.success());
    assert_eq!(said.trim(), "33 77");
    // Without a terminal the size means nothing.
    assert!(container.exec_process(asked(false)?).spawn()?.terminal().is_none());
    let mut set = container.exec(["/probe", "tty"]).terminal(Terminal::size(5, 6)).spawn()?;
    said.clear();
    set.terminal().ok_or("a terminal")?.read_to_string(&mut said)?;
    assert!(set.wait()?.success());
    assert_eq!(said.trim(), "5 6");
    Ok(())
}

#[test]
fn it_gets_the_descriptors_that_it_is_given_and_no_others() -> testkit::Result {
    require!(Root, Program("busybox"));
    alone!();
    let root = common::root()?;
    let container = sleeping(root.path()).spawn()?;
    let leaks = LeakCheck::begin();
    fs::write(root.path().join("note"), "three")?;
    let note = fs::File::open(root.path().join("note"))?;
    let (mut reader, writer) = std::io::pipe()?;
    // As a runtime passes on what it was itself started with.
    let number = u32::try_from(note.as_raw_fd())?;
    let exec = container.exec(["sh", "-c", "cat <&3; echo four >&4; ls /proc/self/fd"]);
    let out = exec.descriptor(Stdio::number(number)?).descriptor(writer).output()?;
    // ls itself has the directory open.
    assert_eq!(out.text(), "three0\n1\n2\n3\n4\n5\n", "{out:?}");
    let mut said = String::new();
    reader.read_to_string(&mut said)?;
    assert_eq!(said, "four\n");
    assert_eq!(Stdio::number(1 << 20).expect_err("nobody has so many").kind(), ErrorKind::Invalid);
    drop((note, reader));
    leaks.check();
    Ok(())
}

#[test]
fn it_has_the_capabilities_that_it_is_given_whoever_it_is() -> testkit::Result {
    require!(Root, Program("busybox"));
    let root = common::root()?;
    let container = sleeping(root.path()).profile(Profile::Hostile).spawn()?;
    let caps = |exec: keelbox::Exec<'_>| -> testkit::Result<[String; 3]> {
        let out = exec.output()?;
        let text = out.text();
        Ok(["CapEff:", "CapBnd:", "CapAmb:"].map(|key| common::value(&text, key).trim_start_matches('0').to_owned()))
    };
    let words = ["/probe", "cat", "/proc/self/status"];
    assert_eq!(caps(container.exec(words))?, ["", "", ""]);
    assert_eq!(caps(container.exec(words).capability("CAP_CHOWN"))?, ["1", "1", ""]);
    assert_eq!(caps(container.exec(words).user("1000").capability("kill"))?, ["20", "20", "20"]);
    let trusted = sleeping(root.path()).profile(Profile::Trusted).spawn()?;
    assert_eq!(trusted.exec(["/probe", "status", "NoNewPrivs"]).output()?.text(), "0\n");
    assert_eq!(trusted.exec(["/probe", "status", "NoNewPrivs"]).no_new_privileges().output()?.text(), "1\n");
    let groups = |exec: keelbox::Exec<'_>| exec.output().map(|out| out.text().lines().last().map(str::to_owned));
    assert_eq!(groups(trusted.exec(["/probe", "id"]).additional_gids([3, 4]))?.as_deref(), Some("groups 3 4"));
    assert_eq!(groups(trusted.exec(["/probe", "id"]).user("0").additional_gids([5]))?.as_deref(), Some("groups 0 5"));
    Ok(())
}

/// The directories of the container's groups of version 1, or the one of version 2.
fn group_of(process: &Process) -> testkit::Result<Vec<std::path::PathBuf>> {
    let hierarchy = Hierarchy::detect()?;
    let told = fs::read_to_string(format!("/proc/{}/cgroup", process.id()))?;
    let mounts = hierarchy.unified().into_iter().chain(hierarchy.legacy());
    let found = mounts.filter_map(|mount| {
        told.lines().find_map(|line| {
            let (_, path) = line.rsplit_once(':')?;
            let directory = mount.mount_point().join(path.strip_prefix('/')?);
            (path.contains("keelbox") && directory.is_dir()).then_some(directory)
        })
    });
    Ok(found.collect())
}

#[test]
fn it_runs_in_a_group_below_the_container_s() -> testkit::Result {
    require!(Root, Program("busybox"), Cgroup("pids"));
    let root = common::root()?;
    let container = sleeping(root.path()).pids(50).control_group().spawn()?;
    let directories = group_of(&container)?;
    assert!(!directories.is_empty(), "it has a control group");
    for directory in &directories {
        fs::create_dir(directory.join("worker"))?;
    }
    let mut worker = container.exec(["/probe", "sleep", "600000"]).cgroup("/worker").spawn()?;
    let where_it_is = fs::read_to_string(format!("/proc/{}/cgroup", worker.id()))?;
    assert!(where_it_is.lines().any(|line| line.ends_with("/worker")), "{where_it_is}");
    for directory in &directories {
        let inside = fs::read_to_string(directory.join("worker/cgroup.procs"))?;
        assert_eq!(inside.trim(), worker.id().to_string(), "{}", directory.display());
    }
    let refused = |path: &str| container.exec(["true"]).cgroup(path).status().expect_err(path);
    assert_eq!(refused("/nowhere").kind(), ErrorKind::NotFound);
    assert_eq!(refused("../other").kind(), ErrorKind::Invalid);
    assert_eq!(refused("a/../../other").kind(), ErrorKind::Invalid);
    worker.kill()?;
    worker.wait()?;
    drop(container);
    for directory in &directories {
        assert!(!directory.exists(), "{} is left", directory.display());
    }
    Ok(())
}

/// The parent of a process that has not ended.
fn parent_if_alive(pid: &str) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let ended = common::value(&status, "State:").starts_with(['Z', 'X']);
    common::value(&status, "PPid:").parse().ok().filter(|_| !ended)
}

#[test]
fn a_detached_one_outlives_its_handle() -> testkit::Result {
    require!(Root, Program("busybox"));
    alone!();
    let root = common::root()?;
    let mut container = sleeping(root.path()).spawn()?;
    let further = container.exec(["/probe", "sleep", "600000"]).detached().spawn()?;
    let pid = further.id();
    drop(further);
    assert_eq!(parent_if_alive(&pid.to_string()), Some(std::process::id()), "it goes on");
    container.kill()?;
    container.wait()?;
    assert_eq!(parent_if_alive(&pid.to_string()), None, "it ends with its container");
    Ok(())
}

/// The program that started it ends, and it goes on. The starter is this test once more, in a process of its own.
#[test]
fn a_detached_one_outlives_its_starter() -> testkit::Result {
    if let Some(states) = std::env::var_os("KEELBOX_STARTER_IN") {
        let states = Path::new(&states);
        let handle = Runtime::at(states).open("outlived")?;
        let further = handle.exec(["/probe", "sleep", "600000"]).stdout(Stdio::null()).stderr(Stdio::null());
        let started = further.detached().spawn()?;
        fs::write(states.join("told"), started.id().to_string())?;
        return Ok(());
    }
    require!(Root, Program("busybox"));
    let (root, states) = (common::root()?, tempfile::tempdir()?);
    let handle = Runtime::at(states.path()).create(&sleeping(root.path()).build()?, "outlived")?;
    handle.start()?;
    let mut starter = Command::new(std::env::current_exe()?);
    starter.args(["--exact", "a_detached_one_outlives_its_starter"]).env("KEELBOX_STARTER_IN", states.path());
    common::run(&mut starter)?;
    let pid = fs::read_to_string(states.path().join("told"))?;
    let parent = parent_if_alive(&pid);
    assert!(parent.is_some_and(|parent| parent != std::process::id()), "{parent:?}");
    handle.delete_force()?;
    Ok(())
}

#[test]
fn a_paused_container_takes_one_if_told_so() -> testkit::Result {
    require!(Root, Program("busybox"), Cgroup("freezer"));
    let (root, states) = (common::root()?, tempfile::tempdir()?);
    let handle = Runtime::at(states.path()).create(&sleeping(root.path()).build()?, "paused")?;
    handle.start()?;
    handle.pause()?;
    assert_eq!(handle.exec(["true"]).status().expect_err("it is paused").kind(), ErrorKind::State);
    std::thread::scope(|scope| -> testkit::Result {
        let waiting = scope.spawn(|| handle.exec(["/probe", "exit", "7"]).ignore_paused().status());
        std::thread::sleep(Duration::from_millis(200));
        let before = waiting.is_finished();
        assert_eq!(handle.status(), Status::Paused);
        handle.resume()?;
        let status = waiting.join().map_err(|_| "no panic")??;
        assert_eq!((before, status.code()), (false, Some(7)));
        Ok(())
    })?;
    handle.delete_force()?;
    Ok(())
}

/// The number of the session keyring: keyctl(2), `KEYCTL_GET_KEYRING_ID` of `KEY_SPEC_SESSION_KEYRING`.
#[test]
fn every_program_has_a_session_keyring_of_its_own() -> testkit::Result {
    require!(Root, Exists("/proc/keys"));
    let root = common::root()?;
    let call = if cfg!(target_arch = "aarch64") { "219" } else { "250" };
    let asks = ["/probe", "syscall", call, "0", "-3", "0"];
    let number = |text: &str| text.trim().parse::<i64>();
    let trusted = |words: &[&str]| sleeping(root.path()).profile(Profile::Trusted).args(words.iter().copied());
    let host = common::run(Command::new(root.path().join("probe")).args(asks.iter().skip(1)))?;
    let container = trusted(&["/probe", "sleep", "600000"]).spawn()?;
    let mut numbers = vec![number(&host)?, number(&trusted(&asks).output()?.text())?];
    numbers.push(number(&container.exec(asks).output()?.text())?);
    numbers.push(number(&trusted(&asks).user("1000").output()?.text())?);
    assert!(numbers.iter().all(|number| *number > 0), "{numbers:?}");
    let different: std::collections::BTreeSet<i64> = numbers.iter().copied().collect();
    assert_eq!(different.len(), numbers.len(), "{numbers:?}");
    let shared = trusted(&["/probe", "sleep", "600000"]).no_new_keyring().spawn()?;
    assert_eq!(number(&shared.exec(asks).output()?.text())?, numbers[0]);
    assert_eq!(number(&trusted(&asks).no_new_keyring().output()?.text())?, numbers[0]);
    Ok(())
}
