//! The program: what it is, who it is, and what it may do, as it finds out itself.

use std::fs;
use std::io::Write;
use std::process::Command;

use keelbox_testkit::{self as testkit, require};
use serde_json::{Value, json};

use crate::common::{Bench, is_keelbox};

/// A container whose program tells about itself, with one more member of `process`.
fn telling(bench: &Bench, script: &str, name: &str, value: Value) -> Value {
    let mut config = bench.config(script);
    config["process"][name] = value;
    config
}

/// Policy, real-time priority and nice value of the shell, from `/proc/PID/stat` (proc_pid_stat(5)).
const SCHEDULE: &str = "set -- $(cat /proc/$$/stat | cut -d')' -f2); echo policy ${39} priority ${38} nice ${17}";

/// Whether this machine lets its root do that: a program of its own is tried.
fn can(words: &[&str]) -> bool {
    let tried = Command::new(words[0]).args(&words[1..]).status().is_ok_and(|status| status.success());
    if !tried {
        let _said = writeln!(std::io::stderr(), "SKIP a part: this machine cannot {words:?}");
    }
    tried
}

/// Refused, in these words if they are ours to choose, and nothing of the container is left.
fn refused(bench: &Bench, config: &Value, words: &str) -> testkit::Result {
    let ran = bench.run(config)?;
    match is_keelbox() {
        true => ran.failed_with(words),
        false => assert_ne!(ran.status, Some(0), "{config}"),
    }
    Ok(())
}

#[test]
fn rs_022_start_needs_a_program() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-022")?;
    let mut config = bench.config("true");
    config.as_object_mut().ok_or("an object")?.remove("process");
    let ran = bench.run(&config)?;
    assert_ne!(ran.status, Some(0), "{ran:?}");
    Ok(())
}

#[test]
fn rs_023_a_size_without_a_terminal_is_ignored() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-023")?;
    let mut config = telling(&bench, "tty", "consoleSize", json!({ "height": 10, "width": 20 }));
    config["process"]["terminal"] = false.into();
    let ran = bench.run(&config)?;
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(1), "not a tty\n"), "{ran:?}");
    Ok(())
}

#[test]
fn rs_024_the_working_directory() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-024")?;
    fs::create_dir(bench.root().join("work"))?;
    assert_eq!(bench.printed(&telling(&bench, "pwd", "cwd", json!("/work")))?, "/work\n");
    refused(&bench, &telling(&bench, "pwd", "cwd", json!("work")), "/process/cwd")?;
    assert_eq!(bench.printed(&telling(&bench, "pwd", "cwd", json!("/not/there")))?, "/not/there\n");
    refused(&bench, &telling(&bench, "pwd", "cwd", json!("/bin/sh/there")), "/bin/sh/there")?;
    Ok(())
}

#[test]
fn rs_025_the_program_is_found_as_execvp_finds_it() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-025")?;
    let place = bench.root().join("own");
    fs::create_dir(&place)?;
    std::os::unix::fs::symlink("/bin/busybox", place.join("env"))?;
    let with = |args: Value, env: Value| {
        let mut config = bench.config("");
        config["process"]["args"] = args;
        config["process"]["env"] = env;
        config
    };
    // The container's own PATH counts, and the environment is what is given, nothing more and in this order.
    let only = ["PATH=/nowhere:/own", "B=2", "A=1"];
    let printed = bench.printed(&with(json!(["env"]), json!(only)))?;
    let shown: Vec<&str> = printed.lines().filter(|line| !line.starts_with("HOME=")).collect();
    assert_eq!(shown, only);
    assert_eq!(bench.printed(&with(json!(["/bin/echo", "a b", ""]), json!([])))?, "a b \n");
    let ran = bench.run(&with(json!(["ls"]), json!(["PATH=/own"])))?;
    if is_keelbox() {
        ran.ended_with(127, "executable file not found in $PATH");
    } else {
        assert_ne!(ran.status, Some(0));
    }
    refused(&bench, &with(json!([]), json!([])), "/process/args")
}

#[test]
fn rs_026_limits_are_exactly_so() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-026")?;
    let rows: [(&str, &str, u64, u64); 16] = [
        ("RLIMIT_CPU", "Max cpu time", 1000, 2000),
        ("RLIMIT_FSIZE", "Max file size", 1 << 30, 1 << 31),
        ("RLIMIT_DATA", "Max data size", 1 << 30, 1 << 31),
        ("RLIMIT_STACK", "Max stack size", 1 << 20, 1 << 21),
        ("RLIMIT_CORE", "Max core file size", 0, 0),
        ("RLIMIT_RSS", "Max resident set", 1 << 30, 1 << 31),
        ("RLIMIT_NPROC", "Max processes", 100, 200),
        ("RLIMIT_NOFILE", "Max open files", 9, 300),
        ("RLIMIT_MEMLOCK", "Max locked memory", 4096, 8192),
        ("RLIMIT_AS", "Max address space", 1 << 30, 1 << 31),
        ("RLIMIT_LOCKS", "Max file locks", 10, 20),
        ("RLIMIT_SIGPENDING", "Max pending signals", 10, 20),
        ("RLIMIT_MSGQUEUE", "Max msgqueue size", 1000, 2000),
        ("RLIMIT_NICE", "Max nice priority", 0, 0),
        ("RLIMIT_RTPRIO", "Max realtime priority", 0, 0),
        ("RLIMIT_RTTIME", "Max realtime timeout", 100_000, 200_000),
    ];
    let entry = |(kind, _, soft, hard): &(&str, &str, u64, u64)| json!({ "type": kind, "soft": soft, "hard": hard });
    let limits: Vec<Value> = rows.iter().map(entry).collect();
    let printed = bench.printed(&telling(&bench, "cat /proc/self/limits", "rlimits", json!(limits)))?;
    for (kind, line, soft, hard) in rows {
        let found = printed.lines().find_map(|other| other.strip_prefix(line)).ok_or(line)?;
        let numbers: Vec<&str> = found.split_whitespace().take(2).collect();
        assert_eq!(numbers, [soft.to_string(), hard.to_string()], "{kind}");
    }
    // Few descriptors hinder nobody on the way.
    let few = json!([{ "type": "RLIMIT_NOFILE", "soft": 4, "hard": 4 }]);
    assert_eq!(bench.printed(&telling(&bench, "ulimit -n; ulimit -Hn", "rlimits", few))?, "4\n4\n");
    let twice =
        json!([{ "type": "RLIMIT_CORE", "soft": 1, "hard": 1 }, { "type": "RLIMIT_CORE", "soft": 2, "hard": 2 }]);
    refused(&bench, &telling(&bench, "true", "rlimits", twice), "RLIMIT_CORE")?;
    let unknown = json!([{ "type": "RLIMIT_FUN", "soft": 1, "hard": 1 }]);
    refused(&bench, &telling(&bench, "true", "rlimits", unknown), "RLIMIT_FUN")?;
    let own = fs::read_to_string("/proc/self/status")?;
    let effective = own.lines().find_map(|line| line.strip_prefix("CapEff:")).ok_or("capabilities")?;
    const SYS_RESOURCE: u64 = 1 << 24;
    if is_keelbox() && u64::from_str_radix(effective.trim(), 16)? & SYS_RESOURCE == 0 {
        let more = json!([{ "type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1 << 30 }]);
        refused(&bench, &telling(&bench, "true", "rlimits", more), "raising it needs CAP_SYS_RESOURCE")?;
    }
    Ok(())
}

#[test]
fn rs_027_five_sets_of_capabilities() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-027")?;
    let sets = json!({
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID"], "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "effective": ["CAP_CHOWN", "CAP_KILL"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"],
    });
    let script = "grep ^Cap /proc/self/status | tr -d '\\t0' | cut -c4-";
    let mut config = telling(&bench, script, "capabilities", sets.clone());
    // Nobody but root gets the permitted ones of the bounding set by executing.
    config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    assert_eq!(bench.printed(&config)?, "Inh:2\nPrm:2\nEff:2\nBnd:a1\nAmb:2\n");
    config["process"]["user"] = json!({ "uid": 0, "gid": 0 });
    assert_eq!(bench.printed(&config)?, "Inh:2\nPrm:a1\nEff:a1\nBnd:a1\nAmb:2\n");
    // What is unknown, or not the caller's to give, is left out with a warning.
    for set in ["bounding", "permitted", "effective"] {
        config["process"]["capabilities"][set] = json!(["CAP_CHOWN", "CAP_SYS_RESOURCE", "CAP_FLY"]);
    }
    let ran = bench.run(&config)?;
    if is_keelbox() {
        assert_eq!(ran.status, Some(0), "{ran:?}");
        let line = ran.stdout.lines().find_map(|line| line.strip_prefix("Bnd:")).ok_or("a line")?;
        assert!(line.ends_with('1'), "{ran:?}");
    }
    Ok(())
}

#[test]
fn rs_028_no_new_privileges() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-028")?;
    for (asked, found) in [(true, "NoNewPrivs:\t1\n"), (false, "NoNewPrivs:\t0\n")] {
        let config = telling(&bench, "grep NoNewPrivs /proc/self/status", "noNewPrivileges", json!(asked));
        assert_eq!(bench.printed(&config)?, found);
    }
    Ok(())
}

#[test]
fn rs_029_the_score_of_the_out_of_memory_killer() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-029")?;
    let script = "cat /proc/self/oom_score_adj";
    assert_eq!(bench.printed(&telling(&bench, script, "oomScoreAdj", json!(777)))?, "777\n");
    let own = fs::read_to_string("/proc/self/oom_score_adj")?;
    assert_eq!(bench.printed(&bench.config(script))?, own, "it is not changed");
    Ok(())
}

#[test]
fn rs_030_scheduling() -> testkit::Result {
    require!(Root, Program("busybox"), Program("chrt"));
    let bench = Bench::new("rs-030")?;
    let with = |script: &str, scheduler: Value| {
        let mut config = telling(&bench, script, "scheduler", scheduler);
        // Kernels with CONFIG_RT_GROUP_SCHED give a new group of version 1 no real time by itself.
        if std::path::Path::new("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists() {
            config["linux"]["resources"]["cpu"] = json!({ "realtimePeriod": 1_000_000, "realtimeRuntime": 10_000 });
        }
        config
    };
    let shown = |scheduler: Value| bench.printed(&with(SCHEDULE, scheduler));
    assert_eq!(shown(json!({ "policy": "SCHED_OTHER", "nice": 7 }))?, "policy 0 priority 0 nice 7\n");
    assert_eq!(shown(json!({ "policy": "SCHED_OTHER" }))?, "policy 0 priority 0 nice 0\n");
    assert_eq!(shown(json!({ "policy": "SCHED_BATCH", "nice": 3 }))?, "policy 3 priority 0 nice 3\n");
    assert!(shown(json!({ "policy": "SCHED_IDLE" }))?.starts_with("policy 5 priority 0"));
    // Kernels with CONFIG_RT_GROUP_SCHED give no real time at all to a group of version 2 that has the cpu controller.
    let unified = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    if !unified && can(&["chrt", "-f", "5", "true"]) {
        assert_eq!(shown(json!({ "policy": "SCHED_FIFO", "priority": 5 }))?, "policy 1 priority 5 nice 0\n");
        assert_eq!(shown(json!({ "policy": "SCHED_RR", "priority": 1 }))?, "policy 2 priority 1 nice 0\n");
        // What the shell starts is scheduled as usual.
        let flags = json!({ "policy": "SCHED_FIFO", "priority": 5, "flags": ["SCHED_FLAG_RESET_ON_FORK"] });
        let child = SCHEDULE.replace("/proc/$$/stat", "/proc/self/stat");
        assert_eq!(bench.printed(&with(&child, flags))?, "policy 0 priority 0 nice 0\n");
    }
    if can(&[
        "chrt",
        "-d",
        "--sched-runtime",
        "1000000",
        "--sched-deadline",
        "10000000",
        "--sched-period",
        "10000000",
        "0",
        "true",
    ]) {
        let times = json!({ "policy": "SCHED_DEADLINE", "runtime": 1_000_000, "deadline": 10_000_000, "period": 20_000_000,
            "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN"] });
        // Without a fork of its own: it could make none otherwise.
        let printed = shown(times)?;
        assert!(printed.starts_with("policy 6 "), "{printed}");
    }
    for (wrong, words) in [
        (json!({ "nice": 1 }), "/process/scheduler/policy"),
        (json!({ "policy": "SCHED_OTHER", "priority": 1 }), "/process/scheduler/priority"),
        (json!({ "policy": "SCHED_FIFO", "priority": 0 }), "/process/scheduler/priority"),
        (json!({ "policy": "SCHED_ISO" }), "SCHED_ISO"),
        (json!({ "policy": "SCHED_DEADLINE", "runtime": 5_000, "deadline": 4_000 }), "/process/scheduler"),
    ] {
        if is_keelbox() {
            refused(&bench, &telling(&bench, "true", "scheduler", wrong), words)?;
        }
    }
    Ok(())
}

#[test]
fn rs_031_the_priority_of_disk_requests() -> testkit::Result {
    require!(Root, Program("busybox"), Program("ionice"));
    let bench = Bench::new("rs-031")?;
    // What the shell starts is in its process group, and has the shell's.
    let shown = |class: &str, priority: i32| {
        let asked = json!({ "class": class, "priority": priority });
        bench.printed(&telling(&bench, "ionice -p $$; sh -c 'ionice -p $$'", "ioPriority", asked))
    };
    assert_eq!(shown("IOPRIO_CLASS_BE", 6)?, "best-effort: prio 6\nbest-effort: prio 6\n");
    assert!(shown("IOPRIO_CLASS_IDLE", 0)?.starts_with("idle"));
    if can(&["ionice", "-c1", "-n3", "true"]) {
        assert_eq!(shown("IOPRIO_CLASS_RT", 3)?, "realtime: prio 3\nrealtime: prio 3\n");
    }
    let wrong = json!({ "class": "IOPRIO_CLASS_BE", "priority": 8 });
    refused(&bench, &telling(&bench, "true", "ioPriority", wrong), "/process/ioPriority/priority")
}

#[test]
fn rs_032_the_processors_of_further_programs() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-032")?;
    let affinity = json!({ "initial": "0", "final": "0" });
    let config =
        telling(&bench, "grep Cpus_allowed_list /proc/self/status >/first; sleep 600000", "execCPUAffinity", affinity);
    let bundle = bench.bundle("bundle", &config)?;
    bench.done(&["create", "--bundle", &bundle, &bench.id])?;
    bench.done(&["start", &bench.id])?;
    let further = bench.done(&["exec", &bench.id, "sh", "-c", "grep Cpus_allowed_list /proc/self/status"])?;
    assert_eq!(further, "Cpus_allowed_list:\t0\n");
    // It is not for the first program.
    crate::common::wait_for(|| Ok(fs::read_to_string(bench.root().join("first"))?.ends_with('\n')))?;
    let own = fs::read_to_string("/proc/self/status")?;
    let allowed = own.lines().find(|line| line.starts_with("Cpus_allowed_list")).ok_or("a line")?;
    assert_eq!(fs::read_to_string(bench.root().join("first"))?.trim_end(), allowed);
    bench.done(&["delete", "--force", &bench.id])?;
    refused(
        &bench,
        &telling(&bench, "true", "execCPUAffinity", json!({ "final": "1-0" })),
        "/process/execCPUAffinity/final",
    )
}

#[test]
fn rs_033_labels_that_nobody_would_enforce_are_refused() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-033")?;
    let there = fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'));
    let profile = telling(&bench, "cat /proc/self/attr/current", "apparmorProfile", json!("unconfined"));
    if there {
        assert!(bench.printed(&profile)?.starts_with("unconfined"));
        let unknown = telling(&bench, "true", "apparmorProfile", json!("keelbox-knows-no-such-profile"));
        refused(&bench, &unknown, "knows no such profile")?;
    } else {
        refused(&bench, &profile, "AppArmor is not enabled on this machine")?;
    }
    if !std::path::Path::new("/sys/fs/selinux/enforce").exists() && is_keelbox() {
        let label = telling(&bench, "true", "selinuxLabel", json!("u:r:t:s0"));
        refused(&bench, &label, "SELinux is not enabled on this machine")?;
    }
    Ok(())
}

#[test]
fn rs_034_user_groups_and_mask() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-034")?;
    let user = json!({ "uid": 1234, "gid": 2345, "additionalGids": [7, 8], "umask": 63 });
    let script = "grep -E '^(Uid|Gid|Groups)' /proc/self/status; umask";
    let printed = bench.printed(&telling(&bench, script, "user", user))?;
    let expected = "Uid:\t1234\t1234\t1234\t1234\nGid:\t2345\t2345\t2345\t2345\nGroups:\t7 8\n0077\n";
    assert_eq!(printed.replace(" \n", "\n"), expected);
    if is_keelbox() {
        // Others set one of their own.
        let bundle = bench.bundle("bundle", &bench.config("umask"))?;
        let mut masked = Command::new("sh");
        let line = "umask 0031; exec \"$0\" --root \"$1\" run --bundle \"$2\" \"$3\"";
        masked.args(["-c", line, env!("CARGO_BIN_EXE_keelbox")]).arg(bench.path("states")).args([&bundle, &bench.id]);
        assert_eq!(String::from_utf8(masked.output()?.stdout)?, "0031\n", "it is the caller's");
    }
    Ok(())
}

#[test]
fn rs_035_names_of_the_host() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-035")?;
    let script = "hostname; cat /proc/sys/kernel/domainname";
    let mut config = bench.config(script);
    config["hostname"] = json!("box");
    config["domainname"] = json!("example");
    assert_eq!(bench.printed(&config)?, "box\nexample\n");
    config["linux"]["namespaces"] = json!([{ "type": "mount" }, { "type": "pid" }]);
    let before = fs::read_to_string("/proc/sys/kernel/hostname")?;
    refused(&bench, &config, "/hostname")?;
    assert_eq!(fs::read_to_string("/proc/sys/kernel/hostname")?, before);
    Ok(())
}

#[test]
fn rs_080_the_memory_policy() -> testkit::Result {
    require!(Root, Program("busybox"), Exists("/proc/self/numa_maps"));
    let bench = Bench::new("rs-080")?;
    let with = |script: &str, policy: Value| {
        let mut config = bench.config(script);
        config["linux"]["memoryPolicy"] = policy;
        config
    };
    let script = "head -n 1 /proc/self/numa_maps | cut -d' ' -f2";
    let shown = |mode: &str, nodes: &str, flags: &[&str]| {
        bench.printed(&with(script, json!({ "mode": mode, "nodes": nodes, "flags": flags })))
    };
    assert_eq!(shown("MPOL_BIND", "0", &[])?, "bind:0\n");
    assert_eq!(shown("MPOL_BIND", "0", &["MPOL_F_STATIC_NODES"])?, "bind=static:0\n");
    assert_eq!(shown("MPOL_BIND", "0", &["MPOL_F_RELATIVE_NODES"])?, "bind=relative:0\n");
    assert_eq!(shown("MPOL_INTERLEAVE", "0", &[])?, "interleave:0\n");
    assert_eq!(shown("MPOL_PREFERRED", "0", &[])?, "prefer:0\n");
    assert_eq!(shown("MPOL_LOCAL", "", &[])?, "local\n");
    assert_eq!(shown("MPOL_DEFAULT", "", &[])?, "default\n");
    for (mode, nodes, flags) in [
        ("MPOL_BIND", "", json!([])),
        ("MPOL_DEFAULT", "0", json!([])),
        ("MPOL_LOCAL", "0", json!([])),
        ("MPOL_BIND", "0-", json!([])),
        ("MPOL_BIND", "0", json!(["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"])),
        ("MPOL_NONE", "0", json!([])),
    ] {
        let config = with("true", json!({ "mode": mode, "nodes": nodes, "flags": flags }));
        refused(&bench, &config, "/linux/memoryPolicy")?;
    }
    // A node that is not there.
    refused(
        &bench,
        &with("true", json!({ "mode": "MPOL_BIND", "nodes": "900" })),
        "cannot set the memory policy to bind on nodes 900",
    )
}

#[test]
fn rs_081_parameters_of_the_container_s_own_namespaces_alone() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-081")?;
    let script = "cat /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_forward /proc/sys/fs/mqueue/msg_max";
    let mut config = bench.config(script);
    let names: Vec<Value> =
        ["mount", "pid", "ipc", "uts", "network"].iter().map(|kind| json!({ "type": kind })).collect();
    config["linux"]["namespaces"] = json!(names);
    config["linux"]["sysctl"] =
        json!({ "kernel.msgmax": "9000", "net.ipv4.ip_forward": "1", "fs.mqueue.msg_max": "11" });
    assert_eq!(bench.printed(&config)?, "9000\n1\n11\n");
    for (name, words) in [
        ("kernel.core_pattern", "kernel.core_pattern"),
        ("vm.swappiness", "vm.swappiness"),
        ("net/../kernel/core_pattern", "sysctl"),
    ] {
        config["linux"]["sysctl"] = json!({ name: "1" });
        let before = fs::read_to_string("/proc/sys/kernel/core_pattern")?;
        refused(&bench, &config, words)?;
        assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern")?, before);
    }
    // Without a namespace of its own it would be the host's.
    let mut shared = bench.config("true");
    shared["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
    refused(&bench, &shared, "net.ipv4.ip_forward")
}

#[test]
fn rs_086_the_execution_domain() -> testkit::Result {
    require!(Root, Program("busybox"), Program("setarch"));
    let bench = Bench::new("rs-086")?;
    let with = |personality: Value| {
        let mut config = bench.config("uname -m");
        config["linux"]["personality"] = personality;
        config
    };
    let machine = std::env::consts::ARCH;
    assert_eq!(bench.printed(&with(json!({ "domain": "LINUX" })))?, format!("{machine}\n"));
    if machine == "x86_64" {
        // As another program has it: not every kernel for the processor knows the domain.
        let output = Command::new("setarch").args(["linux32", "uname", "-m"]).output()?;
        assert_eq!(bench.printed(&with(json!({ "domain": "LINUX32" })))?, String::from_utf8(output.stdout)?);
    }
    refused(&bench, &with(json!({ "domain": "BSD" })), "/linux/personality/domain")?;
    if is_keelbox() {
        let flagged = with(json!({ "domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"] }));
        refused(&bench, &flagged, "/linux/personality/flags")?;
    }
    Ok(())
}

#[test]
fn rs_088_no_descriptors_but_the_standard_three() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-088")?;
    // Two that the runtime was started with, by somebody who forgot to close them.
    let bundle = bench.bundle("bundle", &bench.config("ls /proc/self/fd; cat <&7"))?;
    let line = "exec 7</dev/null 9</; exec \"$0\" --root \"$1\" run --bundle \"$2\" \"$3\"";
    let mut command = Command::new("sh");
    command.args(["-c", line]).arg(bench.command(&[]).get_program()).arg(bench.path("states"));
    let output = command.args([&bundle, &bench.id]).output()?;
    let (text, errors) = (String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr).into_owned());
    // ls itself has the directory open.
    assert_eq!(text, "0\n1\n2\n3\n", "{errors}");
    assert!(errors.contains("bad fd number") || errors.contains("Bad file descriptor"), "{errors}");
    Ok(())
}
