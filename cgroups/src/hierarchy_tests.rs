//! Tables of real and of odd hosts for `hierarchy`.

use super::*;

fn own(mount: Option<&Mount>) -> Option<&str> {
    mount.and_then(Mount::own).and_then(Path::to_str)
}

const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 master:2 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
38 31 0:35 / /sys/fs/cgroup/blkio rw,relatime - cgroup cgroup rw,blkio
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";

#[test]
fn hybrid_with_comounted_and_named_hierarchies() {
    let cgroup = "9:name=systemd:/init\n4:memory:/a/b\n3:blkio:/\n2:cpu,cpuacct:/c\n0::/u\n";
    let found = Hierarchy::detect_from(HYBRID, cgroup);
    assert_eq!(found.layout(), Layout::Hybrid);
    assert_eq!(own(found.unified()), Some("/sys/fs/cgroup/unified/u"));
    assert_eq!(own(found.find(Controller::Memory)), Some("/sys/fs/cgroup/memory/a/b"));
    assert_eq!(own(found.find(Controller::Io)), Some("/sys/fs/cgroup/blkio"));
    let cpu = found.find(Controller::Cpu).unwrap();
    assert_eq!(cpu, found.find(Controller::Cpuacct).unwrap());
    assert_eq!(cpu.controllers(), [Controller::Cpu, Controller::Cpuacct]);
    assert_eq!(found.find(Controller::Hugetlb).unwrap().version(), Version::V2);
    let named: Vec<_> = found.legacy().iter().filter_map(Mount::name).collect();
    assert_eq!(named, ["systemd"]);
    let text = found.to_string();
    assert!(text.contains("v1 cpu,cpuacct at /sys/fs/cgroup/cpu,cpuacct, own group /sys/fs/cgroup/cpu,cpuacct/c\n"));
}

#[test]
fn layouts() {
    let v2 = "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
    let v1 = "35 31 0:32 / /cg/memory rw - cgroup none rw,memory\n";
    let named = "40 31 0:37 / /cg/systemd rw - cgroup cgroup rw,name=systemd\n";
    let cases = [
        (v2, "0::/\n", Layout::V2),
        (v1, "4:memory:/\n", Layout::V1),
        (named, "1:name=systemd:/\n", Layout::None),
        ("", "0::/\n", Layout::None),
        ("", "", Layout::None),
        // The controller is in a hierarchy, but nothing shows it.
        (v2, "4:memory:/\n0::/\n", Layout::V2),
    ];
    for (mountinfo, cgroup, layout) in cases {
        assert_eq!(Hierarchy::detect_from(mountinfo, cgroup).layout(), layout, "{mountinfo} {cgroup}");
    }
}

#[test]
fn mount_roots_other_than_the_top() {
    let mount = |root: &str| format!("30 24 0:26 {root} /cg rw - cgroup2 cgroup rw\n");
    let cases = [
        ("/", "/a", Some("/cg/a")),
        ("/", "/", Some("/cg")),
        ("/docker/1", "/docker/1", Some("/cg")),
        ("/docker/1", "/docker/1/x/y", Some("/cg/x/y")),
        ("/docker/1", "/docker/12", None),
        ("/docker/1", "/elsewhere", None),
        // Mounted from outside of our cgroup namespace, or we sit outside of it.
        ("/..", "/", None),
        ("/", "/../other", None),
        ("/", "/gone (deleted)", None),
    ];
    for (root, path, expected) in cases {
        let found = Hierarchy::detect_from(mount(root), format!("0::{path}\n"));
        assert_eq!(own(found.unified()), expected, "{root} {path}");
        assert_eq!(found.layout(), Layout::V2);
    }
}

#[test]
fn escapes_are_decoded() {
    let line = "30 24 0:26 /a\\040b /mnt/with\\040space\\134and\\011tab\\0 rw - cgroup2 c rw\n";
    let found = Hierarchy::detect_from(line, "0::/a b/c\n");
    assert_eq!(own(found.unified()), Some("/mnt/with space\\and\ttab\\0/c"));
    // Not UTF-8, not three digits, and a number above a byte are kept as they are.
    assert_eq!(unescape(b"\\777\\9\xff\\"), b"\\777\\9\xff\\");
}

#[test]
fn of_several_mounts_the_one_that_shows_us_wins() {
    let text = "\
30 24 0:26 /pods/a /first rw - cgroup2 c rw
31 24 0:26 / /second rw - cgroup2 c rw
32 24 0:26 / /third rw - cgroup2 c rw
";
    assert_eq!(own(Hierarchy::detect_from(text, "0::/mine\n").unified()), Some("/second/mine"));
    let hidden = parse(text.as_bytes(), b"0::/mine\n", |_, path| path != Path::new("/second"));
    assert_eq!(own(hidden.unified()), Some("/third/mine"));
}

#[test]
fn a_later_mount_hides_an_earlier_one() {
    let text = "\
30 24 0:26 / /cg rw - cgroup2 c rw
31 24 0:27 / /cg rw - cgroup c rw,memory
";
    let found = Hierarchy::detect_from(text, "4:memory:/m\n0::/u\n");
    assert_eq!(found.layout(), Layout::V1);
    assert_eq!(own(found.find(Controller::Memory)), Some("/cg/m"));
}

#[test]
fn nonsense_is_passed_over() {
    let texts: [&[u8]; 5] =
        [b"- - - - - - -\n", b"1 2 3", b"\xff\xfe\n", b"1 2 3 / /x rw - cgroup2\n", b"\\ \\ \\ \\ \\ \\ - cgroup c"];
    for text in texts {
        assert_eq!(Hierarchy::detect_from(text, b"0:\n:::\n4:memory\n\xff:\n0::/x\n").layout(), Layout::None);
    }
}

#[test]
fn this_machine_agrees_with_itself() {
    let found = Hierarchy::detect().unwrap();
    for mount in found.unified().into_iter().chain(found.legacy()) {
        assert!(mount.mount_point().is_dir(), "{mount:?}");
        if let Some(own) = mount.own() {
            assert!(own.join("cgroup.procs").exists(), "{mount:?}");
        }
    }
}
