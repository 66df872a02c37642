//! Mounts: their order, places, sources and options; what is masked and what is read-only.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

use keelbox_testkit::{self as testkit, LeakCheck, alone, require};
use serde_json::{Value, json};

use crate::common::Bench;
use crate::mountinfo::Table;

const SHOW: &str = "cat /proc/self/mountinfo";

/// Adds a mount after that of `/proc`.
fn add(config: &mut Value, mount: Value) {
    if let Some(mounts) = config["mounts"].as_array_mut() {
        mounts.push(mount);
    }
}

fn tmpfs(destination: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options })
}

fn bind(source: &Path, destination: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": "none", "source": source, "options": options })
}

#[test]
fn rs_013_mounts_are_made_in_their_order() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-013")?;
    let source = bench.path("source");
    fs::create_dir_all(source.join("in"))?;
    let mut config = bench.config("cat /proc/self/mountinfo; df -k /data/in");
    add(&mut config, tmpfs("/data/in", &["size=8k"]));
    add(&mut config, bind(&source, "/data", &["bind"]));
    add(&mut config, tmpfs("/data/in", &["size=16k"]));
    let text = bench.printed(&config)?;
    let table = Table::of(&text);
    let mut points: Vec<&str> = table.points().into_iter().filter(|point| point.starts_with("/data")).collect();
    points.sort_unstable();
    assert_eq!(points, ["/data", "/data/in", "/data/in"], "{text}");
    let seen = text.lines().last().and_then(|line| line.split_whitespace().nth(1));
    assert_eq!(seen, Some("16"), "the last one is seen: {text}");
    Ok(())
}

#[test]
fn rs_014_a_relative_destination_starts_at_the_root() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-014")?;
    let mut config = bench.config(SHOW);
    config["process"]["cwd"] = "/bin".into();
    add(&mut config, tmpfs("some/where", &[]));
    let ran = bench.run(&config)?;
    assert_eq!(Table::of(&ran.stdout).at("/some/where").kind, "tmpfs");
    Ok(())
}

#[test]
fn rs_015_a_relative_source_of_a_bind_starts_at_the_bundle() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-015")?;
    let mut config = bench.config("cat /data/file /one; touch /data/new");
    bench.bundle("bundle", &config)?;
    fs::create_dir_all(bench.path("bundle/sub"))?;
    fs::write(bench.path("bundle/sub/file"), "of the bundle\n")?;
    // What is a bind is said by the options alone.
    add(&mut config, json!({ "destination": "/data", "type": "ext4", "source": "sub", "options": ["rbind"] }));
    add(&mut config, json!({ "destination": "/one", "source": "sub/file", "options": ["bind", "ro"] }));
    assert_eq!(bench.printed(&config)?, "of the bundle\nof the bundle\n");
    assert!(bench.path("bundle/sub/new").exists());
    Ok(())
}

/// Options of a new tmpfs: what the mount or its file system must show, or with `!` must not.
const TMPFS: &[(&[&str], &str)] = &[
    (&["defaults"], "rw relatime"),
    (&["ro"], "ro"),
    (&["ro", "rw"], "rw"),
    (&["nosuid"], "nosuid"),
    (&["nosuid", "suid"], "!nosuid"),
    (&["nodev"], "nodev"),
    (&["nodev", "dev"], "!nodev"),
    (&["noexec"], "noexec"),
    (&["noexec", "exec"], "!noexec"),
    (&["nosymfollow"], "nosymfollow"),
    (&["nosymfollow", "symfollow"], "!nosymfollow"),
    (&["noatime"], "noatime"),
    (&["noatime", "atime"], "!noatime relatime"),
    (&["nodiratime"], "nodiratime"),
    (&["nodiratime", "diratime"], "!nodiratime"),
    (&["relatime"], "relatime"),
    (&["strictatime"], "!relatime !noatime"),
    (&["strictatime", "nostrictatime"], "relatime"),
    (&["relatime", "norelatime"], "!noatime"),
    (&["sync"], "+sync"),
    (&["sync", "async"], "!+sync"),
    (&["dirsync"], "+dirsync"),
    (&["lazytime"], "+lazytime"),
    (&["lazytime", "nolazytime"], "!+lazytime"),
    (&["silent"], "rw"),
    (&["silent", "loud"], "rw"),
    (&["iversion"], "rw"),
    (&["iversion", "noiversion"], "rw"),
    (&["rro"], "ro"),
    (&["rnosuid", "rnodev", "rnoexec"], "nosuid nodev noexec"),
    (&["private"], "!shared: !unbindable"),
    (&["rprivate"], "!shared: !unbindable"),
    (&["shared"], "shared:"),
    (&["rshared"], "shared:"),
    (&["slave"], "!shared: !unbindable"),
    (&["rslave"], "!shared: !unbindable"),
    (&["unbindable"], "unbindable"),
    (&["runbindable"], "unbindable"),
    (&["size=64k", "nr_inodes=7", "mode=0701", "uid=5"], "+size=64k +nr_inodes=7 +mode=701 +uid=5"),
];

/// The same of a bind of a directory.
const BIND: &[(&[&str], &str)] = &[
    (&["bind"], "rw !ro"),
    (&["rbind"], "rw"),
    (&["bind", "ro"], "ro"),
    (&["rbind", "ro", "nosuid", "nodev", "noexec"], "ro nosuid nodev noexec"),
    (&["bind", "noatime", "nodiratime"], "noatime nodiratime"),
    (&["bind", "ro", "rw"], "rw"),
    (&["bind", "shared"], "shared:"),
    (&["bind", "unbindable"], "unbindable"),
    (&["rbind", "rprivate"], "!shared:"),
];

fn check(table: &Table<'_>, point: &str, wanted: &str, options: &[&str]) {
    let entry = table.at(point);
    for word in wanted.split(' ') {
        let (bare, there) = word.strip_prefix('!').map_or((word, true), |bare| (bare, false));
        let found = match bare.strip_prefix('+') {
            Some(word) => entry.superblock(word),
            None => entry.has(bare) || entry.field(bare),
        };
        assert_eq!(found, there, "{options:?} must give {word}: {entry:?}");
    }
}

#[test]
fn rs_016_every_option_of_mount_is_heeded() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-016")?;
    let source = bench.path("source");
    fs::create_dir_all(&source)?;
    let mut config = bench.config(SHOW);
    for (index, (options, _)) in TMPFS.iter().enumerate() {
        add(&mut config, tmpfs(&format!("/t{index}"), options));
    }
    for (index, (options, _)) in BIND.iter().enumerate() {
        add(&mut config, bind(&source, &format!("/b{index}"), options));
    }
    // A remount changes what is there.
    add(&mut config, tmpfs("/again", &["size=8k"]));
    add(&mut config, tmpfs("/again", &["remount", "size=16k", "noexec"]));
    add(&mut config, bind(&source, "/bound", &["bind"]));
    add(&mut config, bind(&source, "/bound", &["bind", "remount", "ro"]));
    let text = bench.run(&config)?.stdout;
    let table = Table::of(&text);
    for (index, (options, wanted)) in TMPFS.iter().enumerate() {
        check(&table, &format!("/t{index}"), wanted, options);
    }
    for (index, (options, wanted)) in BIND.iter().enumerate() {
        check(&table, &format!("/b{index}"), wanted, options);
    }
    check(&table, "/again", "noexec +size=16k", &["remount"]);
    check(&table, "/bound", "ro", &["bind", "remount"]);
    Ok(())
}

/// Recursive options on a tree whose mount below is a tmpfs with these options: what the one and the other must show.
const TREE: &[(&[&str], &[&str], &str, &str)] = &[
    (&[], &["rbind"], "rw", "rw"),
    (&[], &["rbind", "ro"], "ro", "rw !ro"),
    (&[], &["rbind", "rro"], "ro", "ro"),
    (&["ro"], &["rbind", "rrw"], "rw", "rw"),
    (&[], &["rbind", "rnosuid"], "nosuid", "nosuid"),
    (&["nosuid"], &["rbind", "rsuid"], "!nosuid", "!nosuid"),
    (&[], &["rbind", "rnodev"], "nodev", "nodev"),
    (&["nodev"], &["rbind", "rdev"], "!nodev", "!nodev"),
    (&[], &["rbind", "rnoexec"], "noexec", "noexec"),
    (&["noexec"], &["rbind", "rexec"], "!noexec", "!noexec"),
    (&[], &["rbind", "rnoatime"], "noatime", "noatime"),
    (&["noatime"], &["rbind", "ratime"], "!noatime", "!noatime"),
    (&["noatime"], &["rbind", "rrelatime"], "relatime", "relatime"),
    (&[], &["rbind", "rnorelatime"], "!relatime", "!relatime"),
    (&[], &["rbind", "rstrictatime"], "!relatime", "!relatime"),
    (&["strictatime"], &["rbind", "rnostrictatime"], "relatime", "relatime"),
    (&[], &["rbind", "rnodiratime"], "nodiratime", "nodiratime"),
    (&["nodiratime"], &["rbind", "rdiratime"], "!nodiratime", "!nodiratime"),
    (&[], &["rbind", "rnosymfollow"], "nosymfollow", "nosymfollow"),
    (&["nosymfollow"], &["rbind", "rsymfollow"], "!nosymfollow", "!nosymfollow"),
    (&[], &["rbind", "rshared"], "shared:", "shared:"),
    (&[], &["rbind", "runbindable"], "unbindable", "unbindable"),
    (&[], &["rbind", "unbindable"], "unbindable", "!unbindable"),
];

#[test]
fn rs_017_recursive_options_reach_the_mounts_below() -> testkit::Result {
    require!(Root, MountNamespace, Program("busybox"), Program("unshare"));
    let bench = Bench::new("rs-017")?;
    let mut config = bench.config(SHOW);
    let mut script = String::new();
    for (index, (below, options, ..)) in TREE.iter().enumerate() {
        let source = bench.path(&format!("tree{index}"));
        fs::create_dir_all(source.join("below"))?;
        let below = ["rw"].iter().chain(*below).copied().collect::<Vec<_>>().join(",");
        script += &format!("mount -t tmpfs -o {below} tmpfs {}/below || exit 9\n", source.display());
        add(&mut config, bind(&source, &format!("/t{index}"), options));
    }
    let bundle = bench.bundle("bundle", &config)?;
    let command = bench.command(&[]);
    script += "exec \"$@\"";
    let mut wrapped = Command::new("unshare");
    wrapped.args(["-m", "--propagation", "private", "sh", "-c", &script, "sh"]).arg(command.get_program());
    wrapped.arg("--root").arg(bench.path("states")).args(["run", "--bundle", &bundle, &bench.id]);
    let output = wrapped.output()?;
    let text = String::from_utf8(output.stdout)?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let table = Table::of(&text);
    for (index, (_, options, top, below)) in TREE.iter().enumerate() {
        check(&table, &format!("/t{index}"), top, options);
        check(&table, &format!("/t{index}/below"), below, options);
    }
    Ok(())
}

#[test]
fn rs_018_a_file_system_in_memory_begins_with_what_was_there() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-018")?;
    let place = bench.root().join("place");
    fs::create_dir_all(place.join("sub"))?;
    fs::write(place.join("sub/file"), "content\n")?;
    symlink("sub/file", place.join("link"))?;
    chown(place.join("sub/file"), Some(7), Some(8))?;
    fs::set_permissions(place.join("sub/file"), Permissions::from_mode(0o4750))?;
    fs::set_permissions(&place, Permissions::from_mode(0o1770))?;
    let look = "cat /place/link; stat -c '%n %u:%g %a' /place /place/sub/file";
    let mut config = bench.config(&format!("{look}; echo changed > /place/sub/file"));
    add(&mut config, tmpfs("/place", &["tmpcopyup"]));
    assert_eq!(bench.printed(&config)?, "content\n/place 0:0 1770\n/place/sub/file 7:8 4750\n");
    assert_eq!(fs::read_to_string(place.join("sub/file"))?, "content\n", "what is below is left as it is");

    let mut config =
        bench.config(&format!("{look}; touch /place/new 2>&1; ls -A /fresh; grep ' /place ' /proc/mounts"));
    add(&mut config, tmpfs("/place", &["ro", "tmpcopyup", "mode=0711", "size=64k"]));
    add(&mut config, tmpfs("/fresh", &["tmpcopyup"]));
    let said = bench.printed(&config)?;
    assert!(said.starts_with("content\n/place 0:0 711\n") && said.contains("Read-only file system"), "{said}");
    assert!(said.contains("tmpfs ro,"), "{said}");
    Ok(())
}

#[test]
fn rs_018_what_is_too_large_to_be_copied_is_an_error() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-018-large")?;
    fs::create_dir_all(bench.root().join("place"))?;
    fs::write(bench.root().join("place/file"), vec![b'x'; 300_000])?;
    let mut config = bench.config("echo ran");
    add(&mut config, tmpfs("/place", &["tmpcopyup", "size=64k"]));
    let ran = bench.run(&config)?;
    assert_eq!((ran.status == Some(0), ran.stdout.as_str()), (false, ""), "{ran:?}");
    assert!(ran.stderr.to_lowercase().contains("no space left on device"), "{ran:?}");
    Ok(())
}

#[test]
fn rs_019_unknown_options_go_to_the_file_system() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-019")?;
    let mut config = bench.config(SHOW);
    add(&mut config, tmpfs("/place", &["size=12k", "nosuid", "nr_inodes=33"]));
    let text = bench.printed(&config)?;
    check(&Table::of(&text), "/place", "nosuid +size=12k +nr_inodes=33", &[]);
    add(&mut config, tmpfs("/other", &["frobnicate=1"]));
    let ran = bench.run(&config)?;
    assert_ne!(ran.status, Some(0));
    assert!(ran.stderr.contains("/other") && ran.stderr.to_lowercase().contains("invalid argument"), "{ran:?}");
    Ok(())
}

fn mappings(host: u32) -> Value {
    json!([{ "containerID": 0, "hostID": host, "size": 1000 }])
}

#[test]
fn rs_020_ids_are_mapped_by_the_mounts_own_maps() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-020")?;
    let source = bench.path("source");
    fs::create_dir_all(&source)?;
    fs::write(source.join("file"), "x")?;
    chown(source.join("file"), Some(3), Some(4))?;
    let stat = "stat -c '%n %u:%g' /data/file /plain/file; touch /data/new 2>/dev/null || echo no; ls -A /data";
    for option in ["idmap", "ridmap"] {
        let mut config = bench.config(stat);
        let mut mount = bind(&source, "/data", &["rbind", option, "ro"]);
        mount["uidMappings"] = mappings(20_000);
        mount["gidMappings"] = mappings(30_000);
        add(&mut config, mount);
        add(&mut config, bind(&source, "/plain", &["bind"]));
        assert_eq!(bench.printed(&config)?, "/data/file 20003:30004\n/plain/file 3:4\nno\nfile\n", "{option}");
    }
    // What the program makes there belongs on disk to whom the map says; who is not in it cannot make anything.
    let mut config = bench.config("id -u; touch /data/mine");
    config["process"]["user"] = json!({ "uid": 20_005, "gid": 30_006 });
    let mut mount = bind(&source, "/data", &["bind", "idmap"]);
    mount["uidMappings"] = mappings(20_000);
    mount["gidMappings"] = mappings(30_000);
    add(&mut config, mount);
    fs::set_permissions(&source, Permissions::from_mode(0o777))?;
    assert_eq!(bench.printed(&config)?, "20005\n");
    let made = fs::metadata(source.join("mine"))?;
    assert_eq!((made.uid(), made.gid()), (5, 6));
    Ok(())
}

#[test]
fn rs_020_without_maps_those_of_the_user_namespace_count() -> testkit::Result {
    require!(Root, UserNamespace, Program("busybox"));
    let bench = Bench::new("rs-020-user")?;
    fs::set_permissions(bench.path(""), Permissions::from_mode(0o755))?;
    fs::set_permissions(bench.root(), Permissions::from_mode(0o755))?;
    let source = bench.path("source");
    fs::create_dir_all(&source)?;
    fs::write(source.join("file"), "x")?;
    chown(source.join("file"), Some(3), Some(4))?;
    fs::create_dir_all(bench.root().join("data"))?;
    fs::create_dir_all(bench.root().join("plain"))?;
    let mut config = bench.config("stat -c '%n %u:%g' /data/file /plain/file; touch /data/new && echo made");
    for directory in ["dev", "proc", "sys"] {
        let _made = fs::create_dir(bench.root().join(directory));
    }
    chown(bench.root(), Some(100_000), Some(100_000))?;
    chown(bench.root().join("dev"), Some(100_000), Some(100_000))?;
    if let Some(namespaces) = config["linux"]["namespaces"].as_array_mut() {
        namespaces.push(json!({ "type": "user" }));
    }
    let maps = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    config["linux"]["uidMappings"] = maps.clone();
    config["linux"]["gidMappings"] = maps;
    add(&mut config, tmpfs("/dev", &["mode=755"]));
    add(&mut config, bind(&source, "/data", &["bind", "idmap"]));
    add(&mut config, bind(&source, "/plain", &["bind"]));
    assert_eq!(bench.printed(&config)?, "/data/file 3:4\n/plain/file 65534:65534\nmade\n");
    assert_eq!(fs::metadata(source.join("new"))?.uid(), 0, "root inside is root on disk there");
    Ok(())
}

#[test]
fn rs_020_mapped_ids_without_any_maps_are_an_error() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-020-none")?;
    for option in ["idmap", "ridmap"] {
        let mut config = bench.config("echo ran");
        add(&mut config, bind(bench.root(), "/data", &["bind", option]));
        let ran = bench.run(&config)?;
        assert_eq!((ran.status == Some(0), ran.stdout.as_str()), (false, ""), "{ran:?}");
    }
    Ok(())
}

#[test]
fn rs_021_the_two_maps_belong_together() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-021")?;
    for name in ["uidMappings", "gidMappings"] {
        let mut config = bench.config("echo ran");
        let mut mount = bind(bench.root(), "/data", &["bind", "idmap"]);
        mount[name] = mappings(20_000);
        add(&mut config, mount);
        let ran = bench.run(&config)?;
        assert_eq!((ran.status == Some(0), ran.stdout.as_str()), (false, ""), "{name}: {ran:?}");
    }
    // Maps without the word are maps.
    let mut config = bench.config("stat -c %u /data/bin");
    let mut mount = bind(bench.root(), "/data", &["bind"]);
    mount["uidMappings"] = mappings(20_000);
    mount["gidMappings"] = mappings(20_000);
    add(&mut config, mount);
    assert_eq!(bench.run(&config)?.stdout, "20000\n");
    Ok(())
}

#[test]
fn rs_083_masked_paths_show_nothing() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-083")?;
    let script = "cat /proc/keys /secret/file; ls -A /secret /proc/irq; touch /secret/new 2>&1; wc -c < /file; echo x > /file; \
                  wc -c < /file";
    let mut config = bench.config(script);
    fs::create_dir_all(bench.root().join("secret"))?;
    fs::write(bench.root().join("secret/file"), "secret")?;
    fs::write(bench.root().join("file"), "secret")?;
    config["linux"]["maskedPaths"] = json!(["/proc/keys", "/proc/irq", "/secret", "/file", "/nowhere", "/file/below"]);
    let ran = bench.run(&config)?;
    assert!(!ran.stdout.contains("secret\n") && ran.stdout.contains("Read-only file system"), "{ran:?}");
    assert!(ran.stdout.ends_with("\n0\n0\n"), "{ran:?}");
    assert_eq!(fs::read_to_string(bench.root().join("file"))?, "secret");
    Ok(())
}

#[test]
fn rs_084_read_only_paths_cannot_be_written() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-084")?;
    fs::create_dir_all(bench.root().join("some"))?;
    fs::write(bench.root().join("one"), "as it was")?;
    let mut config = bench.config(
        "touch /some/new 2>&1; (echo x > /one); (echo box > /proc/sys/kernel/domainname); touch /free && cat /one",
    );
    config["linux"]["readonlyPaths"] = json!(["/some", "/one", "/proc/sys", "/nowhere"]);
    let ran = bench.run(&config)?;
    assert!(ran.stdout.contains("/some/new: Read-only file system") && ran.stdout.ends_with("as it was"), "{ran:?}");
    assert_eq!(ran.stderr.matches("Read-only file system").count(), 2, "{ran:?}");
    Ok(())
}

#[test]
fn rs_085_a_label_is_an_error_where_there_are_none() -> testkit::Result {
    require!(Root, Program("busybox"));
    let bench = Bench::new("rs-085")?;
    let labels = fs::read_to_string("/proc/filesystems")?.contains("selinuxfs");
    let mut config = bench.config("echo ran");
    config["linux"]["mountLabel"] = "system_u:object_r:container_file_t:s0:c1,c2".into();
    let ran = bench.run(&config)?;
    if labels {
        return Ok(());
    }
    assert_eq!((ran.status == Some(0), ran.stdout.as_str()), (false, ""), "{ran:?}");
    assert!(ran.stderr.contains("SELinux") || ran.stderr.contains("mountLabel"), "{ran:?}");
    Ok(())
}

#[test]
fn rs_016_a_cgroup_mount_shows_every_hierarchy_from_the_containers_own_group_on() -> testkit::Result {
    require!(Root, Program("busybox"), Exists("/sys/fs/cgroup"));
    let bench = Bench::new("rs-016-cgroup")?;
    let mut config = bench.config("cat /proc/self/mountinfo; cat /proc/self/cgroup; touch /sys/fs/cgroup/new 2>&1");
    add(&mut config, json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"] }));
    let mount = json!({
        "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
        "options": ["nosuid", "noexec", "nodev", "relatime", "ro"],
    });
    add(&mut config, mount);
    if let Some(namespaces) = config["linux"]["namespaces"].as_array_mut() {
        namespaces.push(json!({ "type": "cgroup" }));
    }
    let ran = bench.run(&config)?;
    let table = Table::of(&ran.stdout);
    let shown: Vec<&str> = table.points().into_iter().filter(|point| point.starts_with("/sys/fs/cgroup")).collect();
    assert!(table.at("/sys/fs/cgroup").has("ro") && table.at("/sys/fs/cgroup").has("nosuid"), "{ran:?}");
    assert!(shown.iter().all(|point| table.at(point).has("ro")), "{ran:?}");
    assert!(ran.stdout.contains("Read-only file system"), "{ran:?}");
    // On a machine of version 1, or of both, each hierarchy has a directory of its own.
    let legacy = fs::read_to_string("/proc/self/mountinfo")?.lines().filter(|line| line.contains(" - cgroup ")).count();
    assert!(if legacy == 0 { shown.len() == 1 } else { shown.len() > legacy }, "{legacy}: {shown:?}");
    Ok(())
}

#[test]
fn mounts_that_cannot_be_made_are_told_in_one_line_and_leave_nothing() -> testkit::Result {
    alone!();
    require!(Root, Program("busybox"));
    let bench = Bench::new("mounts-bad")?;
    let outside = bench.path("outside");
    fs::create_dir_all(&outside)?;
    fs::write(bench.root().join("plain"), "")?;
    // Wherever such a link leads, it leads there inside.
    symlink(format!("../../../../..{}", outside.display()), bench.root().join("escape"))?;
    symlink("/nowhere", bench.root().join("dangling"))?;
    symlink("loop", bench.root().join("loop"))?;
    let absent = bench.path("absent");
    let leaks = LeakCheck::builder().cgroups("keelbox-mounts-bad").begin();
    let table = [
        (bind(&absent, "/data", &["bind"]), "absent", "no such file or directory"),
        (tmpfs("/plain", &[]), "/plain", "not a directory"),
        (tmpfs("/dangling/below", &[]), "/dangling/below", "not a directory"),
        (tmpfs("/loop", &[]), "/loop", "oo many levels of symbolic links"),
        (tmpfs("/plain/below", &[]), "/plain/below", "not a directory"),
        (tmpfs("/t", &["size=x"]), "/t", "nvalid argument"),
        (json!({ "destination": "/t", "type": "nofs", "source": "x" }), "nofs", "o such device"),
        (bind(bench.root(), "/plain", &["bind"]), "/plain", "a directory only on a directory"),
        (bind(bench.root(), "/data", &["bind", "size=1"]), "/data", "options of a file system"),
    ];
    for (mount, place, why) in table {
        let mut config = bench.config("echo ran");
        add(&mut config, mount.clone());
        let ran = bench.run(&config)?;
        ran.failed_with(why);
        assert!(ran.stderr.contains(place), "{mount}: {ran:?}");
        assert_eq!(bench.done(&["list", "-q"])?, "");
    }
    let mut config = bench.config("echo ran");
    add(&mut config, tmpfs("/escape/in", &[]));
    bench.run(&config)?;
    assert_eq!(fs::read_dir(&outside)?.count(), 0, "something was made outside");
    leaks.check();
    Ok(())
}
