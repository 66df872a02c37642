//! Every rule of the validator: what breaks it, where it is reported, and what does not break it.
//!
//! Each case is a JSON merge patch (RFC 7396) to a configuration without problems, and the one problem it makes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]
use std::collections::BTreeSet;

use keelbox_runtime_spec::{Config, Severity, check_json};
use serde_json::Value;

fn base() -> Value {
    let mut config = Config::new();
    config.insert("/process/args", r#"["sh"]"#).unwrap();
    serde_json::from_str(&config.to_json()).unwrap()
}

fn patch(target: &mut Value, change: &Value) {
    let Value::Object(change) = change else {
        *target = change.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    for (name, value) in change {
        match value {
            Value::Null => drop(target.as_object_mut().unwrap().remove(name)),
            value => patch(&mut target[name], value),
        }
    }
}

fn problems(change: &str) -> Vec<(String, &'static str, Severity)> {
    let mut config = base();
    patch(&mut config, &serde_json::from_str(change).unwrap_or_else(|e| panic!("{change}: {e}")));
    let problems = check_json(config.to_string().as_bytes()).unwrap();
    problems.iter().map(|p| (p.pointer().to_owned(), p.rule(), p.severity())).collect()
}

/// Rule, patch, pointer.
type Case<'a> = (&'a str, &'a str, &'a str);

fn expect(severity: Severity, cases: &[Case<'_>]) {
    for (rule, change, pointer) in cases {
        assert_eq!(problems(change), [((*pointer).to_owned(), *rule, severity)], "{change}");
    }
}

fn expect_none(changes: &[&str]) {
    for change in changes {
        assert_eq!(problems(change), [], "{change}");
    }
}

const COMMON: &[Case<'static>] = &[
    ("RS-010", r#"{"ociVersion":null}"#, "/ociVersion"),
    ("RS-010", r#"{"ociVersion":"1.3"}"#, "/ociVersion"),
    ("RS-010", r#"{"ociVersion":"2.0.0"}"#, "/ociVersion"),
    ("RS-011", r#"{"root":null}"#, "/root"),
    ("RS-011", r#"{"root":{"path":null}}"#, "/root/path"),
    ("RS-011", r#"{"root":{"path":""}}"#, "/root/path"),
    ("RS-011", r#"{"root":{"readonly":1}}"#, "/root/readonly"),
    ("RS-036", r#"{"hooks":{"poststop":[{"path":"bin/x"}]}}"#, "/hooks/poststop/0/path"),
    ("RS-036", r#"{"hooks":{"poststart":[{"path":"/x","timeout":0}]}}"#, "/hooks/poststart/0/timeout"),
    ("RS-036", r#"{"hooks":{"createRuntime":[{"path":"/x","timeout":-1}]}}"#, "/hooks/createRuntime/0/timeout"),
    ("RS-043", r#"{"annotations":{"":"x"}}"#, "/annotations/"),
    ("RS-043", r#"{"annotations":{"a":1}}"#, "/annotations/a"),
];

const PROCESS: &[Case<'static>] = &[
    (
        "RS-023",
        r#"{"process":{"terminal":true,"consoleSize":{"height":65536,"width":80}}}"#,
        "/process/consoleSize/height",
    ),
    ("RS-023", r#"{"process":{"terminal":true,"consoleSize":{"height":24}}}"#, "/process/consoleSize/width"),
    ("RS-024", r#"{"process":{"cwd":"srv"}}"#, "/process/cwd"),
    ("RS-024", r#"{"process":{"cwd":""}}"#, "/process/cwd"),
    ("RS-025", r#"{"process":{"args":[]}}"#, "/process/args"),
    ("RS-025", r#"{"process":{"args":null}}"#, "/process/args"),
    ("RS-025", r#"{"process":{"args":[""]}}"#, "/process/args/0"),
    (
        "RS-026",
        r#"{"process":{"rlimits":[{"type":"RLIMIT_CPU","soft":1,"hard":2},{"type":"RLIMIT_CPU","soft":1,"hard":2}]}}"#,
        "/process/rlimits/1/type",
    ),
    ("RS-026", r#"{"process":{"rlimits":[{"type":"RLIMIT_CPU","soft":3,"hard":2}]}}"#, "/process/rlimits/0/soft"),
    ("RS-026", r#"{"process":{"rlimits":[{"type":"RLIMIT_X","soft":1,"hard":2}]}}"#, "/process/rlimits/0/type"),
    ("RS-026", r#"{"process":{"rlimits":[{"type":"RLIMIT_CPU","hard":2}]}}"#, "/process/rlimits/0/soft"),
    ("RS-028", r#"{"process":{"noNewPrivileges":"yes"}}"#, "/process/noNewPrivileges"),
    ("RS-029", r#"{"process":{"oomScoreAdj":1001}}"#, "/process/oomScoreAdj"),
    ("RS-030", r#"{"process":{"scheduler":{}}}"#, "/process/scheduler/policy"),
    ("RS-030", r#"{"process":{"scheduler":{"policy":"SCHED_ISO"}}}"#, "/process/scheduler/policy"),
    ("RS-030", r#"{"process":{"scheduler":{"policy":"SCHED_OTHER","nice":20}}}"#, "/process/scheduler/nice"),
    ("RS-030", r#"{"process":{"scheduler":{"policy":"SCHED_OTHER","priority":1}}}"#, "/process/scheduler/priority"),
    ("RS-030", r#"{"process":{"scheduler":{"policy":"SCHED_FIFO"}}}"#, "/process/scheduler/priority"),
    ("RS-030", r#"{"process":{"scheduler":{"policy":"SCHED_RR","priority":100}}}"#, "/process/scheduler/priority"),
    (
        "RS-030",
        r#"{"process":{"scheduler":{"policy":"SCHED_DEADLINE","runtime":5000,"deadline":4000,"period":9000}}}"#,
        "/process/scheduler",
    ),
    ("RS-030", r#"{"process":{"scheduler":{"policy":"SCHED_BATCH","period":9000}}}"#, "/process/scheduler"),
    (
        "RS-030",
        r#"{"process":{"scheduler":{"policy":"SCHED_BATCH","flags":["SCHED_FLAG_X"]}}}"#,
        "/process/scheduler/flags/0",
    ),
    ("RS-031", r#"{"process":{"ioPriority":{"priority":1}}}"#, "/process/ioPriority/class"),
    (
        "RS-031",
        r#"{"process":{"ioPriority":{"class":"IOPRIO_CLASS_BE","priority":8}}}"#,
        "/process/ioPriority/priority",
    ),
    ("RS-032", r#"{"process":{"execCPUAffinity":{"initial":"0-1,x"}}}"#, "/process/execCPUAffinity/initial"),
    ("RS-033", r#"{"process":{"apparmorProfile":"a\u0000"}}"#, "/process/apparmorProfile"),
    ("RS-034", r#"{"process":{"user":{"uid":4294967295}}}"#, "/process/user/uid"),
    ("RS-034", r#"{"process":{"user":{"umask":512}}}"#, "/process/user/umask"),
    ("RS-034", r#"{"process":{"user":{"additionalGids":[1,4294967295]}}}"#, "/process/user/additionalGids/1"),
    ("RS-035", r#"{"hostname":"x","linux":{"namespaces":[{"type":"mount"}]}}"#, "/hostname"),
    ("RS-035", r#"{"domainname":"x","linux":{"namespaces":[{"type":"mount"}]}}"#, "/domainname"),
    ("RS-035", r#"{"hostname":"12345678901234567890123456789012345678901234567890123456789012345"}"#, "/hostname"),
    ("RS-035", r#"{"domainname":"x","linux":{"sysctl":{"kernel.domainname":"y"}}}"#, "/domainname"),
];

const MOUNTS: &[Case<'static>] = &[
    ("RS-014", r#"{"mounts":[{"destination":"","type":"proc"}]}"#, "/mounts/0/destination"),
    ("RS-014", r#"{"mounts":[{"type":"proc"}]}"#, "/mounts/0/destination"),
    ("RS-015", r#"{"mounts":[{"destination":"/a","type":"none","options":["rbind"]}]}"#, "/mounts/0/source"),
    ("RS-015", r#"{"mounts":[{"destination":"/a","source":"x"}]}"#, "/mounts/0/type"),
    ("RS-015", r#"{"mounts":[{"destination":"/a","source":"x","type":"bind"}]}"#, "/mounts/0/type"),
    ("RS-016", r#"{"mounts":[{"destination":"/a","type":"tmpfs","options":"ro"}]}"#, "/mounts/0/options"),
    ("RS-020", r#"{"mounts":[{"destination":"/a","source":"/b","options":["bind","idmap"]}]}"#, "/mounts/0/options"),
    (
        "RS-021",
        r#"{"mounts":[{"destination":"/a","source":"/b","options":["bind","idmap"],"uidMappings":[{"containerID":0,"hostID":1,"size":1}]}]}"#,
        "/mounts/0/gidMappings",
    ),
    (
        "RS-054",
        r#"{"mounts":[{"destination":"/a","source":"/b","options":["bind","idmap"],"uidMappings":[{"containerID":0,"hostID":1,"size":0}],"gidMappings":[{"containerID":0,"hostID":1,"size":1}]}]}"#,
        "/mounts/0/uidMappings/0/size",
    ),
];

const NAMESPACES: &[Case<'static>] = &[
    ("RS-051", r#"{"linux":{"namespaces":[{"type":"mount"},{"type":"x"}]}}"#, "/linux/namespaces/1/type"),
    ("RS-051", r#"{"linux":{"namespaces":[{"type":"mount"},{}]}}"#, "/linux/namespaces/1/type"),
    (
        "RS-052",
        r#"{"linux":{"namespaces":[{"type":"mount"},{"type":"pid","path":"proc/1/ns/pid"}]}}"#,
        "/linux/namespaces/1/path",
    ),
    (
        "RS-053",
        r#"{"linux":{"namespaces":[{"type":"mount"},{"type":"pid"},{"type":"pid","path":"/p"}]}}"#,
        "/linux/namespaces/2/type",
    ),
    ("RS-055", r#"{"linux":{"timeOffsets":{"monotonic":{"secs":1}}}}"#, "/linux/timeOffsets"),
    (
        "RS-055",
        r#"{"linux":{"namespaces":[{"type":"mount"},{"type":"time","path":"/t"}],"timeOffsets":{"boottime":{}}}}"#,
        "/linux/timeOffsets",
    ),
    (
        "RS-055",
        r#"{"linux":{"namespaces":[{"type":"mount"},{"type":"time"}],"timeOffsets":{"boottime":{"nanosecs":1000000000}}}}"#,
        "/linux/timeOffsets/boottime/nanosecs",
    ),
    (
        "RS-055",
        r#"{"linux":{"namespaces":[{"type":"mount"},{"type":"time"}],"timeOffsets":{"realtime":{}}}}"#,
        "/linux/timeOffsets/realtime",
    ),
    ("RS-058", r#"{"linux":{"netDevices":{"a/b":{"name":"c"}}}}"#, "/linux/netDevices/a~1b"),
    ("RS-059", r#"{"linux":{"netDevices":{"eth0":{"name":"name-that-is-long"}}}}"#, "/linux/netDevices/eth0/name"),
    ("RS-059", r#"{"linux":{"netDevices":{"eth0":{"name":"a%d%d"}}}}"#, "/linux/netDevices/eth0/name"),
    ("RS-059", r#"{"linux":{"netDevices":{"eth0":{"name":"a%s"}}}}"#, "/linux/netDevices/eth0/name"),
    ("RS-059", r#"{"linux":{"netDevices":{"eth0":{"name":"eth1"},"eth1":{}}}}"#, "/linux/netDevices/eth1/name"),
];

const DEVICES: &[Case<'static>] = &[
    ("RS-056", r#"{"linux":{"devices":[{"type":"x","path":"/dev/a","major":1,"minor":2}]}}"#, "/linux/devices/0/type"),
    ("RS-056", r#"{"linux":{"devices":[{"type":"c","path":"dev/a","major":1,"minor":2}]}}"#, "/linux/devices/0/path"),
    (
        "RS-056",
        r#"{"linux":{"devices":[{"type":"c","path":"/dev/../a","major":1,"minor":2}]}}"#,
        "/linux/devices/0/path",
    ),
    ("RS-056", r#"{"linux":{"devices":[{"type":"c","path":"/dev/a","minor":2}]}}"#, "/linux/devices/0/major"),
    ("RS-056", r#"{"linux":{"devices":[{"type":"b","path":"/dev/a","major":1}]}}"#, "/linux/devices/0/minor"),
    (
        "RS-056",
        r#"{"linux":{"devices":[{"type":"u","path":"/dev/a","major":-1,"minor":2}]}}"#,
        "/linux/devices/0/major",
    ),
    (
        "RS-056",
        r#"{"linux":{"devices":[{"type":"c","path":"/dev/a","major":1,"minor":1048576}]}}"#,
        "/linux/devices/0/minor",
    ),
    ("RS-056", r#"{"linux":{"devices":[{"type":"p","path":"/dev/a","fileMode":512}]}}"#, "/linux/devices/0/fileMode"),
    (
        "RS-056",
        r#"{"linux":{"devices":[{"type":"p","path":"/dev/a"},{"type":"c","path":"/dev/a","major":1,"minor":2}]}}"#,
        "/linux/devices/1/path",
    ),
    (
        "RS-056",
        r#"{"linux":{"devices":[{"type":"c","path":"/dev/a","major":4096,"minor":2}]}}"#,
        "/linux/devices/0/major",
    ),
    ("RS-066", r#"{"linux":{"resources":{"cpu":{"period":999}}}}"#, "/linux/resources/cpu/period"),
    (
        "RS-030",
        r#"{"process":{"scheduler":{"policy":"SCHED_DEADLINE","runtime":1023,"deadline":4000}}}"#,
        "/process/scheduler",
    ),
    (
        "RS-030",
        r#"{"process":{"scheduler":{"policy":"SCHED_DEADLINE","runtime":5000,"deadline":6000,"period":5500}}}"#,
        "/process/scheduler",
    ),
    ("RS-030", r#"{"process":{"scheduler":{"policy":"SCHED_OTHER","nice":-21}}}"#, "/process/scheduler/nice"),
    ("RS-029", r#"{"process":{"oomScoreAdj":-1001}}"#, "/process/oomScoreAdj"),
    (
        "RS-031",
        r#"{"process":{"ioPriority":{"class":"IOPRIO_CLASS_BE","priority":-1}}}"#,
        "/process/ioPriority/priority",
    ),
    (
        "RS-092",
        r#"{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_TRACE","defaultErrnoRet":65536}}}"#,
        "/linux/seccomp/defaultErrnoRet",
    ),
    (
        "RS-057",
        r#"{"linux":{"devices":[{"type":"c","path":"/dev/null","major":1,"minor":5}]}}"#,
        "/linux/devices/0/path",
    ),
    ("RS-064", r#"{"linux":{"resources":{"devices":[{"access":"r"}]}}}"#, "/linux/resources/devices/0/allow"),
    ("RS-064", r#"{"linux":{"resources":{"devices":[{"allow":true,"type":"p"}]}}}"#, "/linux/resources/devices/0/type"),
    (
        "RS-064",
        r#"{"linux":{"resources":{"devices":[{"allow":true,"access":"rx"}]}}}"#,
        "/linux/resources/devices/0/access",
    ),
    (
        "RS-064",
        r#"{"linux":{"resources":{"devices":[{"allow":true,"access":"rr"}]}}}"#,
        "/linux/resources/devices/0/access",
    ),
    (
        "RS-064",
        r#"{"linux":{"resources":{"devices":[{"allow":true,"type":"c","major":-2}]}}}"#,
        "/linux/resources/devices/0/major",
    ),
];

const RESOURCES: &[Case<'static>] = &[
    ("RS-065", r#"{"linux":{"resources":{"memory":{"limit":-2}}}}"#, "/linux/resources/memory/limit"),
    ("RS-065", r#"{"linux":{"resources":{"memory":{"limit":10,"swap":9}}}}"#, "/linux/resources/memory/swap"),
    ("RS-065", r#"{"linux":{"resources":{"memory":{"limit":-1,"swap":9}}}}"#, "/linux/resources/memory/swap"),
    ("RS-065", r#"{"linux":{"resources":{"memory":{"swappiness":101}}}}"#, "/linux/resources/memory/swappiness"),
    ("RS-066", r#"{"linux":{"resources":{"cpu":{"quota":10000,"burst":10001}}}}"#, "/linux/resources/cpu/burst"),
    ("RS-066", r#"{"linux":{"resources":{"cpu":{"quota":999}}}}"#, "/linux/resources/cpu/quota"),
    ("RS-066", r#"{"linux":{"resources":{"cpu":{"quota":-2}}}}"#, "/linux/resources/cpu/quota"),
    ("RS-066", r#"{"linux":{"resources":{"cpu":{"period":1000001}}}}"#, "/linux/resources/cpu/period"),
    (
        "RS-066",
        r#"{"linux":{"resources":{"cpu":{"realtimeRuntime":2,"realtimePeriod":1}}}}"#,
        "/linux/resources/cpu/realtimeRuntime",
    ),
    ("RS-066", r#"{"linux":{"resources":{"cpu":{"idle":2}}}}"#, "/linux/resources/cpu/idle"),
    ("RS-066", r#"{"linux":{"resources":{"cpu":{"cpus":"3-1"}}}}"#, "/linux/resources/cpu/cpus"),
    ("RS-066", r#"{"linux":{"resources":{"cpu":{"mems":"a"}}}}"#, "/linux/resources/cpu/mems"),
    ("RS-067", r#"{"linux":{"resources":{"blockIO":{"weight":9}}}}"#, "/linux/resources/blockIO/weight"),
    ("RS-067", r#"{"linux":{"resources":{"blockIO":{"leafWeight":1001}}}}"#, "/linux/resources/blockIO/leafWeight"),
    (
        "RS-067",
        r#"{"linux":{"resources":{"blockIO":{"weightDevice":[{"major":8,"minor":0}]}}}}"#,
        "/linux/resources/blockIO/weightDevice/0",
    ),
    (
        "RS-067",
        r#"{"linux":{"resources":{"blockIO":{"weightDevice":[{"major":8,"minor":0,"weight":5}]}}}}"#,
        "/linux/resources/blockIO/weightDevice/0/weight",
    ),
    (
        "RS-067",
        r#"{"linux":{"resources":{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0}]}}}}"#,
        "/linux/resources/blockIO/throttleReadBpsDevice/0/rate",
    ),
    (
        "RS-067",
        r#"{"linux":{"resources":{"blockIO":{"throttleWriteIOPSDevice":[{"major":8,"minor":-1,"rate":1}]}}}}"#,
        "/linux/resources/blockIO/throttleWriteIOPSDevice/0/minor",
    ),
    (
        "RS-068",
        r#"{"linux":{"resources":{"hugepageLimits":[{"pageSize":"64kB","limit":1}]}}}"#,
        "/linux/resources/hugepageLimits/0/pageSize",
    ),
    (
        "RS-068",
        r#"{"linux":{"resources":{"hugepageLimits":[{"pageSize":"2MB","limit":1},{"pageSize":"2MB","limit":2}]}}}"#,
        "/linux/resources/hugepageLimits/1/pageSize",
    ),
    (
        "RS-069",
        r#"{"linux":{"resources":{"network":{"priorities":[{"name":"a b","priority":1}]}}}}"#,
        "/linux/resources/network/priorities/0/name",
    ),
    (
        "RS-069",
        r#"{"linux":{"resources":{"network":{"priorities":[{"name":"a"}]}}}}"#,
        "/linux/resources/network/priorities/0/priority",
    ),
    ("RS-070", r#"{"linux":{"resources":{"pids":{}}}}"#, "/linux/resources/pids/limit"),
    ("RS-070", r#"{"linux":{"resources":{"pids":{"limit":-2}}}}"#, "/linux/resources/pids/limit"),
    ("RS-071", r#"{"linux":{"resources":{"rdma":{"mlx5":{}}}}}"#, "/linux/resources/rdma/mlx5"),
    ("RS-071", r#"{"linux":{"resources":{"rdma":{"a b":{"hcaHandles":1}}}}}"#, "/linux/resources/rdma/a b"),
    (
        "RS-072",
        r#"{"linux":{"resources":{"unified":{"../../cgroup.procs":"1"}}}}"#,
        "/linux/resources/unified/..~1..~1cgroup.procs",
    ),
    ("RS-072", r#"{"linux":{"resources":{"unified":{"":"1"}}}}"#, "/linux/resources/unified/"),
    ("RS-072", r#"{"linux":{"resources":{"unified":{"memory":"1"}}}}"#, "/linux/resources/unified/memory"),
    ("RS-072", r#"{"linux":{"resources":{"unified":{"..":"1"}}}}"#, "/linux/resources/unified/.."),
    ("RS-072", r#"{"linux":{"resources":{"unified":{"a/b.max":"1"}}}}"#, "/linux/resources/unified/a~1b.max"),
    ("RS-072", r#"{"linux":{"resources":{"unified":{"memory.max":1}}}}"#, "/linux/resources/unified/memory.max"),
];

const ENVIRONMENT: &[Case<'static>] = &[
    ("RS-061", r#"{"linux":{"cgroupsPath":"/../../x"}}"#, "/linux/cgroupsPath"),
    ("RS-061", r#"{"linux":{"cgroupsPath":"a/../../b"}}"#, "/linux/cgroupsPath"),
    ("RS-061", r#"{"linux":{"cgroupsPath":".."}}"#, "/linux/cgroupsPath"),
    ("RS-061", r#"{"linux":{"cgroupsPath":"a\u0000"}}"#, "/linux/cgroupsPath"),
    ("RS-061", r#"{"linux":{"cgroupsPath":"a\nb"}}"#, "/linux/cgroupsPath"),
    ("RS-076", r#"{"linux":{"intelRdt":{"enableMonitoring":1}}}"#, "/linux/intelRdt/enableMonitoring"),
    ("RS-077", r#"{"linux":{"intelRdt":{"memBwSchema":"L3:0=1"}}}"#, "/linux/intelRdt/memBwSchema"),
    ("RS-077", r#"{"linux":{"intelRdt":{"memBwSchema":"MB:0=1\nL3:0=1"}}}"#, "/linux/intelRdt/memBwSchema"),
    ("RS-077", r#"{"linux":{"intelRdt":{"schemata":["a","b\nc"]}}}"#, "/linux/intelRdt/schemata/1"),
    ("RS-078", r#"{"linux":{"intelRdt":{"closID":".."}}}"#, "/linux/intelRdt/closID"),
    ("RS-078", r#"{"linux":{"intelRdt":{"closID":"a/b"}}}"#, "/linux/intelRdt/closID"),
    ("RS-080", r#"{"linux":{"memoryPolicy":{"nodes":"0"}}}"#, "/linux/memoryPolicy/mode"),
    ("RS-080", r#"{"linux":{"memoryPolicy":{"mode":"MPOL_BIND"}}}"#, "/linux/memoryPolicy/nodes"),
    ("RS-080", r#"{"linux":{"memoryPolicy":{"mode":"MPOL_BIND","nodes":"1-x"}}}"#, "/linux/memoryPolicy/nodes"),
    ("RS-080", r#"{"linux":{"memoryPolicy":{"mode":"MPOL_LOCAL","nodes":"0"}}}"#, "/linux/memoryPolicy/nodes"),
    (
        "RS-080",
        r#"{"linux":{"memoryPolicy":{"mode":"MPOL_BIND","nodes":"0","flags":["MPOL_F_STATIC_NODES","MPOL_F_RELATIVE_NODES"]}}}"#,
        "/linux/memoryPolicy/flags",
    ),
    (
        "RS-080",
        r#"{"linux":{"memoryPolicy":{"mode":"MPOL_PREFERRED","flags":["MPOL_F_STATIC_NODES"]}}}"#,
        "/linux/memoryPolicy/flags",
    ),
    (
        "RS-080",
        r#"{"linux":{"memoryPolicy":{"mode":"MPOL_INTERLEAVE","nodes":"0","flags":["MPOL_F_NUMA_BALANCING"]}}}"#,
        "/linux/memoryPolicy/flags",
    ),
    ("RS-081", r#"{"linux":{"sysctl":{"kernel.core_pattern":"|/x"}}}"#, "/linux/sysctl/kernel.core_pattern"),
    (
        "RS-081",
        r#"{"linux":{"sysctl":{"net/../kernel/core_pattern":"x"}}}"#,
        "/linux/sysctl/net~1..~1kernel~1core_pattern",
    ),
    ("RS-081", r#"{"linux":{"sysctl":{"kernel.shm_rmid_forced":"1\n2"}}}"#, "/linux/sysctl/kernel.shm_rmid_forced"),
    ("RS-081", r#"{"linux":{"sysctl":{"user.max_pid_namespaces":"1"}}}"#, "/linux/sysctl/user.max_pid_namespaces"),
    (
        "RS-081",
        r#"{"linux":{"namespaces":[{"type":"mount"}],"sysctl":{"net.ipv4.ip_forward":"1"}}}"#,
        "/linux/sysctl/net.ipv4.ip_forward",
    ),
    (
        "RS-081",
        r#"{"linux":{"namespaces":[{"type":"mount"}],"sysctl":{"kernel.sem":"1"}}}"#,
        "/linux/sysctl/kernel.sem",
    ),
    (
        "RS-081",
        r#"{"linux":{"namespaces":[{"type":"mount"}],"sysctl":{"kernel.domainname":"x"}}}"#,
        "/linux/sysctl/kernel.domainname",
    ),
    ("RS-082", r#"{"linux":{"rootfsPropagation":"x"}}"#, "/linux/rootfsPropagation"),
    (
        "RS-082",
        r#"{"linux":{"namespaces":[],"rootfsPropagation":"slave","maskedPaths":[],"readonlyPaths":[]}}"#,
        "/linux/rootfsPropagation",
    ),
    ("RS-083", r#"{"linux":{"maskedPaths":["proc/kcore"]}}"#, "/linux/maskedPaths/0"),
    ("RS-083", r#"{"linux":{"namespaces":[],"maskedPaths":["/proc/kcore"],"readonlyPaths":[]}}"#, "/linux/maskedPaths"),
    ("RS-084", r#"{"linux":{"readonlyPaths":["/proc/sys","x"]}}"#, "/linux/readonlyPaths/1"),
    ("RS-085", r#"{"linux":{"mountLabel":"a\u0000"}}"#, "/linux/mountLabel"),
    ("RS-086", r#"{"linux":{"personality":{}}}"#, "/linux/personality/domain"),
    (
        "RS-086",
        r#"{"linux":{"personality":{"domain":"LINUX","flags":["ADDR_NO_RANDOMIZE"]}}}"#,
        "/linux/personality/flags",
    ),
];

const SECCOMP: &[Case<'static>] = &[
    ("RS-090", r#"{"linux":{"seccomp":{}}}"#, "/linux/seccomp/defaultAction"),
    ("RS-090", r#"{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_X"}}}"#, "/linux/seccomp/defaultAction"),
    (
        "RS-090",
        r#"{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_NOTIFY","listenerPath":"/s"}}}"#,
        "/linux/seccomp/defaultAction",
    ),
    (
        "RS-092",
        r#"{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","defaultErrnoRet":1}}}"#,
        "/linux/seccomp/defaultErrnoRet",
    ),
    (
        "RS-092",
        r#"{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":4096}}}"#,
        "/linux/seccomp/defaultErrnoRet",
    ),
    (
        "RS-092",
        r#"{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"action":"SCMP_ACT_KILL","errnoRet":0}]}}}"#,
        "/linux/seccomp/syscalls/0/errnoRet",
    ),
    (
        "RS-093",
        r#"{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X"]}}}"#,
        "/linux/seccomp/architectures/0",
    ),
    (
        "RS-094",
        r#"{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_X"]}}}"#,
        "/linux/seccomp/flags/0",
    ),
    (
        "RS-095",
        r#"{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":[],"action":"SCMP_ACT_KILL"}]}}}"#,
        "/linux/seccomp/syscalls/0/names",
    ),
    (
        "RS-095",
        r#"{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a b"],"action":"SCMP_ACT_KILL"}]}}}"#,
        "/linux/seccomp/syscalls/0/names/0",
    ),
    (
        "RS-095",
        r#"{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"]}]}}}"#,
        "/linux/seccomp/syscalls/0/action",
    ),
    (
        "RS-095",
        r#"{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"action":"SCMP_ACT_KILL","args":[{"index":6,"value":1,"op":"SCMP_CMP_EQ"}]}]}}}"#,
        "/linux/seccomp/syscalls/0/args/0/index",
    ),
    (
        "RS-095",
        r#"{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"action":"SCMP_ACT_KILL","args":[{"index":0,"value":1,"op":"SCMP_CMP_X"}]}]}}}"#,
        "/linux/seccomp/syscalls/0/args/0/op",
    ),
    (
        "RS-096",
        r#"{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"action":"SCMP_ACT_NOTIFY"}]}}}"#,
        "/linux/seccomp/listenerPath",
    ),
    (
        "RS-096",
        r#"{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"s","syscalls":[{"names":["a"],"action":"SCMP_ACT_NOTIFY"}]}}}"#,
        "/linux/seccomp/listenerPath",
    ),
    (
        "RS-096",
        r#"{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","listenerMetadata":"s"}}}"#,
        "/linux/seccomp/listenerMetadata",
    ),
];

const ERRORS: [&[Case<'static>]; 8] = [COMMON, PROCESS, MOUNTS, NAMESPACES, DEVICES, RESOURCES, ENVIRONMENT, SECCOMP];

const WARNINGS: &[Case<'static>] = &[
    ("RS-010", r#"{"ociVersion":"0.5.0-dev"}"#, "/ociVersion"),
    ("RS-010", r#"{"ociVersion":"1.4.0"}"#, "/ociVersion"),
    ("RS-014", r#"{"mounts":[{"destination":"a","type":"tmpfs"}]}"#, "/mounts/0/destination"),
    ("RS-014", r#"{"mounts":[{"destination":"/a/../b","type":"tmpfs"}]}"#, "/mounts/0/destination"),
    ("RS-016", r#"{"mounts":[{"destination":"/a","type":"tmpfs","options":["ro","rw"]}]}"#, "/mounts/0/options/0"),
    (
        "RS-016",
        r#"{"mounts":[{"destination":"/a","type":"tmpfs","options":["private","rslave"]}]}"#,
        "/mounts/0/options/1",
    ),
    ("RS-018", r#"{"mounts":[{"destination":"/a","type":"ext4","options":["mand"]}]}"#, "/mounts/0/options/0"),
    ("RS-019", r#"{"mounts":[{"destination":"/a","source":"/b","options":["bind","size=1"]}]}"#, "/mounts/0/options/1"),
    (
        "RS-021",
        r#"{"mounts":[{"destination":"/a","source":"/b","options":["bind"],"uidMappings":[{"containerID":0,"hostID":1,"size":1}],"gidMappings":[{"containerID":0,"hostID":1,"size":1}]}]}"#,
        "/mounts/0/options",
    ),
    ("RS-022", r#"{"process":null}"#, "/process"),
    ("RS-023", r#"{"process":{"consoleSize":{"height":1,"width":1}}}"#, "/process/consoleSize"),
    ("RS-025", r#"{"process":{"env":["A"]}}"#, "/process/env/0"),
    ("RS-025", r#"{"process":{"env":["A=1","A=2"]}}"#, "/process/env/1"),
    ("RS-027", r#"{"process":{"capabilities":{"bounding":["CAP_X"]}}}"#, "/process/capabilities/bounding/0"),
    ("RS-027", r#"{"process":{"capabilities":{"effective":["CAP_KILL"]}}}"#, "/process/capabilities/effective/0"),
    (
        "RS-027",
        r#"{"process":{"capabilities":{"bounding":["CAP_KILL"],"permitted":["CAP_KILL"],"ambient":["CAP_KILL"]}}}"#,
        "/process/capabilities/ambient/0",
    ),
    ("RS-027", r#"{"process":{"capabilities":{"permitted":["CAP_KILL"]}}}"#, "/process/capabilities/permitted/0"),
    ("RS-031", r#"{"process":{"ioPriority":{"class":"IOPRIO_CLASS_RT"}}}"#, "/process/ioPriority/priority"),
    ("RS-034", r#"{"process":{"user":null}}"#, "/process/user"),
    ("RS-034", r#"{"process":{"user":{"gid":null}}}"#, "/process/user/gid"),
    ("RS-036", r#"{"hooks":{"poststop":[{"path":"/x","env":["=a"]}]}}"#, "/hooks/poststop/0/env/0"),
    ("RS-036", r#"{"hooks":{"poststop":[{"path":"/x","args":[]}]}}"#, "/hooks/poststop/0/args"),
    ("RS-038", r#"{"hooks":{"prestart":[{"path":"/x"}]}}"#, "/hooks/prestart"),
    ("RS-043", r#"{"annotations":{"org.opencontainers.x":"y"}}"#, "/annotations/org.opencontainers.x"),
    ("RS-056", r#"{"linux":{"devices":[{"type":"p","path":"/a"},{"type":"p","path":"/a"}]}}"#, "/linux/devices/1/path"),
    ("RS-058", r#"{"linux":{"namespaces":[{"type":"mount"}],"netDevices":{"eth0":{}}}}"#, "/linux/netDevices"),
    ("RS-061", r#"{"linux":{"cgroupsPath":"a//b"}}"#, "/linux/cgroupsPath"),
    ("RS-061", r#"{"linux":{"cgroupsPath":""}}"#, "/linux/cgroupsPath"),
    ("RS-064", r#"{"linux":{"resources":{"devices":[{"allow":true,"major":1}]}}}"#, "/linux/resources/devices/0/major"),
    (
        "RS-064",
        r#"{"linux":{"resources":{"devices":[{"allow":true,"access":""}]}}}"#,
        "/linux/resources/devices/0/access",
    ),
    ("RS-065", r#"{"linux":{"resources":{"memory":{"swap":9}}}}"#, "/linux/resources/memory/swap"),
    (
        "RS-065",
        r#"{"linux":{"resources":{"memory":{"limit":8,"reservation":9}}}}"#,
        "/linux/resources/memory/reservation",
    ),
    ("RS-065", r#"{"linux":{"resources":{"memory":{"kernelTCP":9}}}}"#, "/linux/resources/memory/kernelTCP"),
    ("RS-066", r#"{"linux":{"resources":{"cpu":{"shares":1}}}}"#, "/linux/resources/cpu/shares"),
    ("RS-072", r#"{"linux":{"resources":{"unified":{"cgroup.procs":"1"}}}}"#, "/linux/resources/unified/cgroup.procs"),
    (
        "RS-075",
        r#"{"linux":{"resources":{"memory":{"limit":9},"unified":{"memory.max":"8"}}}}"#,
        "/linux/resources/unified/memory.max",
    ),
    (
        "RS-094",
        r#"{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}}}"#,
        "/linux/seccomp/flags/0",
    ),
    (
        "RS-095",
        r#"{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"action":"SCMP_ACT_KILL","args":[{"index":0,"value":1,"valueTwo":2,"op":"SCMP_CMP_EQ"}]}]}}}"#,
        "/linux/seccomp/syscalls/0/args/0/valueTwo",
    ),
    (
        "RS-095",
        r#"{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"action":"SCMP_ACT_KILL","args":[{"index":0,"value":1,"valueTwo":2,"op":"SCMP_CMP_MASKED_EQ"}]}]}}}"#,
        "/linux/seccomp/syscalls/0/args/0/valueTwo",
    ),
    (
        "RS-096",
        r#"{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/s"}}}"#,
        "/linux/seccomp/listenerPath",
    ),
    (
        "RS-096",
        r#"{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/s","syscalls":[{"names":["write"],"action":"SCMP_ACT_NOTIFY"}]}}}"#,
        "/linux/seccomp/syscalls/0/names/0",
    ),
];

const FINE: &[&str] = &[
    "{}",
    r#"{"linux":{"resources":{"cpu":{"period":1000,"quota":1000,"burst":1000,"shares":2,"realtimeRuntime":5,"realtimePeriod":5}}}}"#,
    r#"{"linux":{"resources":{"cpu":{"period":1000000,"quota":0,"burst":7,"shares":262144,"idle":0},"blockIO":{"weight":10,"leafWeight":1000,"throttleReadBpsDevice":[{"major":0,"minor":0,"rate":0}]}}}}"#,
    r#"{"linux":{"resources":{"memory":{"limit":10,"swap":10,"reservation":10,"kernel":-1,"kernelTCP":0,"swappiness":0}}}}"#,
    r#"{"linux":{"devices":[{"type":"c","path":"/dev/null","major":1,"minor":3},{"type":"c","path":"/dev/zero","major":1,"minor":5},{"type":"c","path":"/dev/full","major":1,"minor":7},{"type":"c","path":"/dev/random","major":1,"minor":8},{"type":"c","path":"/dev/urandom","major":1,"minor":9},{"type":"c","path":"/dev/tty","major":5,"minor":0},{"type":"b","path":"/x","major":4095,"minor":1048575,"fileMode":25087}]}}"#,
    r#"{"process":{"oomScoreAdj":1000,"user":{"umask":511,"uid":4294967294},"scheduler":{"policy":"SCHED_RR","priority":99,"nice":-20}}}"#,
    r#"{"process":{"scheduler":{"policy":"SCHED_OTHER","nice":19,"priority":0,"runtime":0},"ioPriority":{"class":"IOPRIO_CLASS_IDLE","priority":0},"terminal":true,"consoleSize":{"height":65535,"width":65535}}}"#,
    r#"{"process":{"scheduler":{"policy":"SCHED_DEADLINE","runtime":1024,"deadline":1024,"period":1024}}}"#,
    r#"{"hostname":"1234567890123456789012345678901234567890123456789012345678901234"}"#,
    r#"{"linux":{"namespaces":[{"type":"mount"},{"type":"time"}],"timeOffsets":{"boottime":{"secs":-5,"nanosecs":999999999},"monotonic":{}}}}"#,
    r#"{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":4095,"syscalls":[{"names":["a"],"action":"SCMP_ACT_ALLOW","args":[{"index":5,"value":1,"valueTwo":0,"op":"SCMP_CMP_EQ"}]}]}}}"#,
    r#"{"ociVersion":"1.0.0","future":[1,{"x":null}]}"#,
    r#"{"process":{"terminal":true,"consoleSize":{"height":24,"width":80},"oomScoreAdj":-1000,"rlimits":[{"type":"RLIMIT_CPU","soft":1,"hard":1},{"type":"RLIMIT_AS","soft":0,"hard":18446744073709551615}]}}"#,
    r#"{"process":{"capabilities":{"bounding":["CAP_KILL"],"effective":["CAP_KILL"],"permitted":["CAP_KILL"],"inheritable":["CAP_KILL"],"ambient":["CAP_KILL"]}}}"#,
    r#"{"process":{"scheduler":{"policy":"SCHED_DEADLINE","runtime":5000,"deadline":5000,"flags":["SCHED_FLAG_RECLAIM"]}}}"#,
    r#"{"process":{"scheduler":{"policy":"SCHED_FIFO","priority":1},"ioPriority":{"class":"IOPRIO_CLASS_RT","priority":7},"execCPUAffinity":{"initial":"0-1, 3","final":""}}}"#,
    r#"{"process":{"user":{"umask":18,"additionalGids":[5,6]}},"hostname":"x","domainname":"y"}"#,
    r#"{"hooks":{"createRuntime":[{"path":"/x","timeout":1,"args":["x"],"env":["a=b"]}]},"annotations":{"org.opencontainers.image.title":"t","x":""}}"#,
    r#"{"linux":{"cgroupsPath":"/a/b.slice:c"}}"#,
    r#"{"linux":{"cgroupsPath":"user.slice:keelbox:web-1"}}"#,
    r#"{"linux":{"netDevices":{"eth0":{"name":"eth%d"},"eth1":{"name":"eth%d"},"eth2":{},"eth3":{"name":"x"}}}}"#,
    r#"{"linux":{"devices":[{"type":"c","path":"/dev/null","major":1,"minor":3},{"type":"p","path":"/srv/fifo"},{"type":"b","path":"/x","major":8,"minor":0,"fileMode":432}]}}"#,
    r#"{"linux":{"resources":{"memory":{"limit":10,"swap":-1,"reservation":5,"swappiness":100},"cpu":{"quota":-1,"period":100000,"burst":0,"idle":1,"cpus":"0-3","mems":""},"pids":{"limit":0}}}}"#,
    r#"{"linux":{"resources":{"memory":{"limit":0,"swap":0},"cpu":{"quota":0,"period":0,"shares":0},"pids":{"limit":-1},"blockIO":{"weight":0,"weightDevice":[{"major":8,"minor":0,"leafWeight":10}]}}}}"#,
    r#"{"linux":{"resources":{"unified":{"memory.high":"1","io.max":"8:0 rbps=1\n8:16 rbps=2","hugetlb.2MB.rsvd.max":"0","future_thing.max":"x"},"rdma":{"mlx5_1":{"hcaObjects":1}}}}}"#,
    r#"{"linux":{"resources":{"devices":[{"allow":true,"type":"c","major":-1,"minor":4294967295,"access":"mwr"},{"allow":false}]}}}"#,
    r#"{"linux":{"intelRdt":{"closID":"/","l3CacheSchema":"L3:0=f","memBwSchema":"MB:0=20","schemata":["L2:0=f"],"enableMonitoring":true}}}"#,
    r#"{"linux":{"memoryPolicy":{"mode":"MPOL_BIND","nodes":"0-1","flags":["MPOL_F_NUMA_BALANCING","MPOL_F_STATIC_NODES"]}}}"#,
    r#"{"linux":{"memoryPolicy":{"mode":"MPOL_PREFERRED"},"personality":{"domain":"LINUX32","flags":[]},"rootfsPropagation":"rslave"}}"#,
    r#"{"linux":{"sysctl":{"net/ipv4/conf/a.b/rp_filter":"1","kernel.sem":"1\t2\t3\t4","kernel.domainname":"d","fs.mqueue.msg_max":"9"}}}"#,
    r#"{"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"flags":["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],"listenerPath":"/s","listenerMetadata":"m","syscalls":[{"names":["mkdirat"],"action":"SCMP_ACT_NOTIFY"},{"names":["a"],"action":"SCMP_ACT_TRACE","errnoRet":65535,"args":[{"index":5,"value":12,"valueTwo":8,"op":"SCMP_CMP_MASKED_EQ"}]}]}}}"#,
];

#[test]
fn errors() {
    ERRORS.iter().for_each(|cases| {
        // Lists of mounts replace the default ones, which is a warning of its own unless there is no mount namespace.
        for (rule, change, pointer) in *cases {
            let mut found = problems(change);
            found.retain(|(_, rule, _)| *rule != "RS-050");
            assert_eq!(found, [((*pointer).to_owned(), *rule, Severity::Error)], "{change}");
        }
    });
}

#[test]
fn warnings() {
    for (rule, change, pointer) in WARNINGS {
        let mut found = problems(change);
        found.retain(|(_, rule, _)| *rule != "RS-050");
        assert_eq!(found, [((*pointer).to_owned(), *rule, Severity::Warning)], "{change}");
    }
}

#[test]
fn what_is_fine() {
    expect_none(FINE);
}

#[test]
fn rs_050_default_file_systems() {
    let change = r#"{"mounts":[{"destination":"/proc/","type":"proc"}]}"#;
    expect(Severity::Warning, &[("RS-050", change, "/mounts")]);
    let mut config = base();
    patch(&mut config, &serde_json::from_str(change).unwrap());
    let problems = check_json(config.to_string().as_bytes()).unwrap();
    assert_eq!(problems[0].message(), "should have /sys, /dev/pts, /dev/shm");
}

/// uid mappings of a new user namespace, and the problems they make.
const MAPPINGS: &[(&str, &[(&str, &str)])] = &[
    (r#"[{"containerID":0,"hostID":1000,"size":10}]"#, &[]),
    (r#"[{"containerID":0,"hostID":0,"size":4294967295}]"#, &[]),
    ("null", &[("/process/user/uid", "RS-034"), ("/linux/uidMappings", "RS-054")]),
    ("[]", &[("/process/user/uid", "RS-034"), ("/linux/uidMappings", "RS-054")]),
    (r#"[{"containerID":1,"hostID":0,"size":5}]"#, &[("/process/user/uid", "RS-034")]),
    (
        r#"[{"containerID":0,"hostID":0,"size":5},{"containerID":4,"hostID":9,"size":1}]"#,
        &[("/linux/uidMappings/1/containerID", "RS-054")],
    ),
    (
        r#"[{"containerID":0,"hostID":4,"size":5},{"containerID":5,"hostID":0,"size":5}]"#,
        &[("/linux/uidMappings/0/hostID", "RS-054")],
    ),
    (r#"[{"containerID":0,"hostID":1,"size":4294967295}]"#, &[("/linux/uidMappings/0", "RS-054")]),
    (
        r#"[{"containerID":1,"hostID":0,"size":4294967295},{"containerID":0,"hostID":4294967295,"size":0}]"#,
        &[("/process/user/uid", "RS-034"), ("/linux/uidMappings/0", "RS-054"), ("/linux/uidMappings/1/size", "RS-054")],
    ),
];

#[test]
fn rs_034_and_rs_054_id_mappings() {
    let gids = r#"[{"containerID":0,"hostID":1000,"size":10}]"#;
    let places = |change: &str| -> Vec<(String, &str)> {
        let found = problems(change).into_iter();
        found
            .inspect(|(_, _, severity)| assert_eq!(*severity, Severity::Error))
            .map(|(place, rule, _)| (place, rule))
            .collect()
    };
    let new = |mappings: &str, user: &str| {
        format!(
            r#"{{"process":{{"user":{user}}},"linux":{{"namespaces":[{{"type":"user"}},{{"type":"mount"}}],"uidMappings":{mappings},"gidMappings":{gids}}}}}"#
        )
    };
    for (mappings, expected) in MAPPINGS {
        let expected: Vec<_> = expected.iter().map(|(place, rule)| ((*place).to_owned(), *rule)).collect();
        assert_eq!(places(&new(mappings, "{}")), expected, "{mappings}");
    }
    let user = r#"{"uid":9,"gid":10,"additionalGids":[3,11]}"#;
    let expected = ["/process/user/gid", "/process/user/additionalGids/1"].map(|p| (p.to_owned(), "RS-034"));
    assert_eq!(places(&new(gids, user)), expected);
    let none = format!(r#"{{"linux":{{"uidMappings":{gids},"gidMappings":{gids}}}}}"#);
    let expected = ["/linux/uidMappings", "/linux/gidMappings"].map(|p| (p.to_owned(), "RS-054"));
    assert_eq!(places(&none), expected);
}

#[test]
fn rs_054_mappings_beside_a_joined_namespace_and_too_many() {
    let user = |namespace: &str, mappings: &str| {
        format!(
            r#"{{"linux":{{"namespaces":[{namespace},{{"type":"mount"}}],"uidMappings":{mappings},"gidMappings":[{{"containerID":0,"hostID":1000,"size":10}}]}}}}"#
        )
    };
    let one = r#"[{"containerID":0,"hostID":1000,"size":10}]"#;
    let joined = problems(&user(r#"{"type":"user","path":"/u"}"#, one));
    let both = ["/linux/uidMappings", "/linux/gidMappings"];
    assert_eq!(joined, both.map(|place| (place.to_owned(), "RS-054", Severity::Warning)));
    let mappings = |count: u32| {
        let list: Vec<String> = (0..count).map(|i| format!(r#"{{"containerID":{i},"hostID":{i},"size":1}}"#)).collect();
        problems(&user(r#"{"type":"user"}"#, &format!("[{}]", list.join(","))))
    };
    assert_eq!(mappings(340), []);
    assert_eq!(mappings(341), [(both[0].to_owned(), "RS-054", Severity::Error)]);
}

#[test]
fn rs_020_idmap_with_a_user_namespace_needs_no_mappings_of_its_own() {
    let mut config = Config::rootless(1000, 1000);
    config.insert("/process/args", r#"["sh"]"#).unwrap();
    config.insert("/mounts/-", r#"{"destination":"/a","source":"/b","options":["rbind","ridmap"]}"#).unwrap();
    assert_eq!(config.check(), []);
}

#[test]
fn rs_034_and_rs_096_limits_of_the_kernel() {
    let groups = |count: usize| format!(r#"{{"process":{{"user":{{"additionalGids":{:?}}}}}}}"#, vec![1; count]);
    expect_none(&[&groups(65_536)]);
    expect(Severity::Error, &[("RS-034", &groups(65_537), "/process/user/additionalGids")]);
    let listener = |length: usize| {
        format!(
            r#"{{"linux":{{"seccomp":{{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/{}","syscalls":[{{"names":["a"],"action":"SCMP_ACT_NOTIFY"}}]}}}}}}"#,
            "s".repeat(length - 1)
        )
    };
    expect_none(&[&listener(107)]);
    expect(Severity::Error, &[("RS-096", &listener(108), "/linux/seccomp/listenerPath")]);
    let class = |length: usize| format!(r#"{{"linux":{{"intelRdt":{{"closID":"{}"}}}}}}"#, "c".repeat(length));
    expect_none(&[&class(255)]);
    expect(Severity::Error, &[("RS-078", &class(256), "/linux/intelRdt/closID")]);
    let path = |length: usize| format!(r#"{{"linux":{{"cgroupsPath":"{}"}}}}"#, "/a".repeat(length / 2));
    expect_none(&[&path(3_800)]);
    expect(Severity::Error, &[("RS-061", &path(3_802), "/linux/cgroupsPath")]);
    let rules = r#"{"linux":{"resources":{"devices":[{"allow":true,"type":"c","major":4294967296}]}}}"#;
    expect(Severity::Error, &[("RS-064", rules, "/linux/resources/devices/0/major")]);
    let variables = vec!["A"; 2_000];
    assert_eq!(problems(&format!(r#"{{"process":{{"env":{variables:?}}}}}"#)).len(), 1_000);
    let unified =
        |length: usize| format!(r#"{{"linux":{{"resources":{{"unified":{{"a.{}":"1"}}}}}}}}"#, "b".repeat(length - 2));
    expect_none(&[&unified(255)]);
    assert_eq!(problems(&unified(256)).len(), 1);
}

#[test]
fn rules_for_linux_are_for_linux() {
    let plain = br#"{"ociVersion":"1.3.0","root":{"path":"r"},"hostname":"h"}"#;
    assert!(check_json(plain).unwrap().iter().any(|p| p.rule() == "RS-035"));
    for platform in ["zos", "freebsd", "solaris"] {
        let text = format!(r#"{{"ociVersion":"1.3.0","root":{{"path":"r"}},"hostname":"h","{platform}":{{}}}}"#);
        assert_eq!(check_json(text.as_bytes()).unwrap(), []);
        let both = text.replace("{}}", r#"{},"linux":{}}"#);
        assert!(check_json(both.as_bytes()).unwrap().iter().any(|p| p.rule() == "RS-035"));
    }
}

#[test]
fn every_rule_has_a_case_and_a_section() {
    let mut tested: BTreeSet<&str> = ["RS-050"].into();
    tested.extend(ERRORS.iter().flat_map(|cases| cases.iter()).map(|(rule, ..)| *rule));
    tested.extend(WARNINGS.iter().map(|(rule, ..)| *rule));
    let all: BTreeSet<String> =
        include_str!("../src/rules.rs").split('"').filter(|word| word.starts_with("RS-")).map(str::to_owned).collect();
    // Rules of other documents have their tests beside those documents; RS-006 is the rule of whatever has no other.
    let elsewhere = ["RS-006", "RS-097", "RS-120", "RS-121", "RS-150", "RS-151", "RS-155"];
    let missing: Vec<_> =
        all.iter().filter(|rule| !tested.contains(rule.as_str()) && !elsewhere.contains(&rule.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let text = format!("{:#}", check_json(br#"{"ociVersion":"1.3.0","root":{"path":""}}"#).unwrap()[0]);
    assert_eq!(text, "error: /root/path: RS-011 must not be empty (config.md#root)");
}
