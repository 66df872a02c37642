//! Plans as golden files: what a container's file system is made of, without a kernel.

use std::path::Path;

use keelbox_launch::{OwnedStep, Slot};
use keelbox_mounts::{
    Attribute, Defaults, Device, DeviceKind, ErrorKind, Hierarchy, InnerPath, Mount, MountPlan, Pivot, PlannedRoot,
    Propagation, Reach, RootPlan, RootSource, SlotAllocator, Sysfs, Upper,
};
use keelbox_testkit::{Result, golden};

fn inner(path: &str) -> InnerPath {
    InnerPath::new(path).expect("it is an inner path")
}

fn numbered<'a>(steps: impl IntoIterator<Item = &'a OwnedStep>) -> String {
    steps.into_iter().enumerate().map(|(index, step)| format!("{:>2} {step}\n", index + 1)).collect()
}

fn told(plan: &RootPlan) -> Result<String> {
    let planned = plan.plan(&mut SlotAllocator::default())?;
    check_order(&planned);
    Ok(numbered(planned.all()))
}

/// What holds for every plan: the host is looked at before the change of root and never after, and no slot is filled twice.
fn check_order(planned: &PlannedRoot) {
    let steps: Vec<&OwnedStep> = planned.all().collect();
    let change = |step: &&OwnedStep| matches!(step, OwnedStep::PivotRoot { .. } | OwnedStep::MoveRoot { .. });
    let pivot = steps.iter().position(change).expect("every plan changes the root");
    let mut filled = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        match step {
            OwnedStep::Tree { source, out, directory, .. } => {
                assert!(index < pivot || (*directory != Slot::NONE && source.is_empty()), "{step} comes too late");
                filled.push(*out);
            }
            OwnedStep::FileSystem { out, .. } => filled.push(*out),
            OwnedStep::AttachOutside { .. } | OwnedStep::Propagation { .. } => assert!(index < pivot, "{step}"),
            OwnedStep::Mount { .. }
            | OwnedStep::Attach { .. }
            | OwnedStep::Mask { .. }
            | OwnedStep::ReadOnly { .. } => {
                assert!(index > pivot, "{step} comes too early");
            }
            _ => {}
        }
    }
    let count = filled.len();
    filled.sort();
    filled.dedup();
    assert_eq!(filled.len(), count, "a slot is filled twice");
}

fn container() -> Result<RootPlan> {
    Ok(RootPlan::new(RootSource::layers(&["/layers/top", "/layers/base"], Some(64 << 20)))
        .defaults(Defaults::Container)
        .mount(Mount::bind("/srv/data", "/data")?)
        .mount(Mount::bind("/srv/conf", "/etc/app.conf")?.read_only().missing(keelbox_mounts::Entry::File))
        .file(inner("/etc/hosts"), *b"127.0.0.1 localhost\n", 0o644))
}

#[test]
fn container_of_layers() -> Result {
    golden!("container.plan", told(&container()?)?);
    Ok(())
}

#[test]
fn hostile_code() -> Result {
    let source = RootSource::Overlay { lowers: vec!["/layers/base".into()], upper: Upper::ReadOnly };
    golden!("hostile.plan", told(&RootPlan::new(source).defaults(Defaults::Hostile).read_only())?);
    Ok(())
}

#[test]
fn directory_without_privilege() -> Result {
    let plan = RootPlan::new(RootSource::directory("/srv/debian"))
        .defaults(Defaults::Container)
        .user_namespace()
        .host_network()
        .terminal_group(None)
        .file(inner("/etc/hosts"), *b"", 0o644)
        .file(inner("/etc/resolv.conf"), *b"nameserver 127.0.0.53\n", 0o644);
    golden!("rootless.plan", told(&plan)?);
    Ok(())
}

/// The mounts that an OCI engine writes, with cgroup v1 and a volume that shares mounts with the host.
fn oci() -> Result<RootPlan> {
    let entries: [(&str, &str, &str, &str); 9] = [
        ("/proc", "proc", "proc", "nosuid noexec nodev"),
        ("/dev", "tmpfs", "tmpfs", "nosuid strictatime mode=755 size=65536k ro"),
        ("/dev/pts", "devpts", "devpts", "nosuid noexec newinstance ptmxmode=0666 mode=0620 gid=5"),
        ("/dev/shm", "tmpfs", "shm", "nosuid noexec nodev mode=1777 size=64000k"),
        ("/dev/mqueue", "mqueue", "mqueue", "nosuid noexec nodev"),
        ("/sys", "sysfs", "sysfs", "nosuid noexec nodev ro"),
        ("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid noexec nodev relatime ro"),
        ("/volume", "bind", "/srv/volume", "rbind rw rshared"),
        ("/config", "bind", "/srv/config", "rbind ro rprivate nosuid"),
    ];
    let mut plan = RootPlan::new(RootSource::directory("/run/bundle/rootfs"))
        .propagation(Propagation::Slave, Reach::Tree)
        .cgroups([Hierarchy::legacy("cpu,cpuacct"), Hierarchy::legacy("memory"), Hierarchy::hybrid()])
        .device(Device::new("/dev/fuse", DeviceKind::Character, 10, 229)?.mode(0o660).owner(0, 44))
        .masked(inner("/proc/kcore"))
        .masked(inner("/proc/kcore"))
        .read_only_path(inner("/proc/sys"))
        .read_only();
    for (target, kind, source, options) in entries {
        let options: Vec<&str> = options.split(' ').collect();
        plan = plan.mount(Mount::oci(target, Some(kind), Some(Path::new(source)), &options)?);
    }
    Ok(plan)
}

#[test]
fn oci_configuration() -> Result {
    golden!("oci.plan", told(&oci()?)?);
    Ok(())
}

#[test]
fn template_and_rest() -> Result {
    let plan = container()?;
    let template = plan.template(&mut SlotAllocator::default())?;
    golden!("template.plan", numbered(&template.steps));
    let mut slots = SlotAllocator::new(Slot(3));
    let held = template.held.renumbered(&mut slots)?;
    assert_eq!(held.used().collect::<Vec<_>>(), [Slot(3), Slot(4), Slot(5)]);
    let rest = plan.rest(&held, &mut slots)?;
    check_order(&rest);
    golden!("rest.plan", numbered(rest.all()));
    Ok(())
}

#[test]
fn what_cannot_be_written_to_is_in_the_template() -> Result {
    let held =
        |source| RootPlan::new(source).template(&mut SlotAllocator::default()).map(|template| template.held.root);
    assert_eq!(held(RootSource::directory("/srv"))?, Slot::NONE);
    assert_eq!(held(RootSource::layers(&["/a", "/b"], None))?, Slot::NONE);
    assert_eq!(held(RootSource::Overlay { lowers: vec!["/a".into()], upper: Upper::ReadOnly })?, Slot::NONE);
    let lowers = vec!["/a".into(), "/b".into()];
    assert_ne!(held(RootSource::Overlay { lowers, upper: Upper::ReadOnly })?, Slot::NONE);
    let rootless = RootPlan::new(RootSource::directory("/srv")).user_namespace();
    let error = rootless.template(&mut SlotAllocator::default()).expect_err("nodes cannot be made");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().starts_with("cannot plan the root file system /srv: "));
    Ok(())
}

#[test]
fn the_callers_mounts_take_the_place_of_the_usual_ones() -> Result {
    let plan = RootPlan::new(RootSource::directory("/srv"))
        .defaults(Defaults::Container)
        .sysfs(Sysfs::Bind)
        .mount(Mount::bind("/dev", "/dev")?)
        .pivot(Pivot::Move)
        .propagation(Propagation::Shared, Reach::Mount);
    let text = told(&plan)?;
    assert!(!text.contains("make device") && !text.contains("mount tmpfs on /dev ("), "{text}");
    assert!(
        text.contains("copy the mount tree at /sys (ro, nosuid, nodev, noexec, rprivate)")
            || text.contains("at /sys (ro")
    );
    assert!(text.contains("onto the root") && !text.contains("leave the old root"), "{text}");
    assert!(text.trim_end().ends_with("make / shared"), "{text}");
    let position = |words: &str| text.find(words).unwrap_or_else(|| panic!("no {words} in {text}"));
    assert!(position("on /dev\n") < position("mount devpts on /dev/pts"), "{text}");
    Ok(())
}

#[test]
fn cgroups_are_shown_only_if_somebody_knows_them() -> Result {
    let plan = |cgroups: &[Hierarchy]| {
        let mount = Mount::oci("/sys/fs/cgroup", Some("cgroup2"), None, &["ro"])?;
        let plan = RootPlan::new(RootSource::directory("/srv")).mount(mount).cgroups(cgroups.to_vec());
        plan.plan(&mut SlotAllocator::default())
    };
    assert_eq!(plan(&[]).expect_err("nobody knows").kind(), ErrorKind::Unsupported);
    assert!(plan(&[Hierarchy::unified()]).is_ok());
    let usual = RootPlan::new(RootSource::directory("/srv")).defaults(Defaults::Container);
    assert!(!told(&usual)?.contains("/sys/fs/cgroup"));
    assert!(told(&usual.cgroups([Hierarchy::unified()]))?.contains("mount cgroup2 on /sys/fs/cgroup (ro"));
    Ok(())
}

/// Only in a procfs that is new has nobody made a link, and only of the lists' names is that known.
#[test]
fn names_are_hidden_by_their_names_only_in_a_new_procfs() -> Result {
    let usual = || RootPlan::new(RootSource::directory("/srv")).defaults(Defaults::Container);
    let text = told(&usual())?;
    assert!(text.contains("enter /proc\n") && text.contains("mask kcore\n"), "{text}");
    let with = |mount: Mount| told(&usual().mount(mount));
    let proc = |options: &[&str]| Mount::oci("/proc", Some("proc"), Some("proc".as_ref()), options);
    assert!(with(proc(&["nosuid"])?)?.contains("mask kcore\n"), "the caller's own is new too");
    for other in [Mount::bind("/x", "/proc")?, Mount::tmpfs("/proc", 4096)?, proc(&["remount", "ro"])?] {
        let text = with(other)?;
        assert!(!text.contains("enter /proc\n") && text.contains("mask /proc/kcore\n"), "{text}");
    }
    let path = |path: &str| InnerPath::new(Path::new(path));
    let text = told(&usual().masked(path("/proc/net")?).masked(path("/proc/self")?).read_only_path(path("/proc")?))?;
    assert!(text.contains("mask /proc/net\n") && text.contains("mask /proc/self\n"), "{text}");
    // What covers all of /proc covers what is hidden there already.
    let place = |line: &str| text.find(line).ok_or(format!("no {line} in {text}"));
    assert!(place("mask timer_stats\n")? < place("make /proc read-only\n")?, "{text}");
    assert!(place("make sys read-only\n")? < place("mask acpi\n")?, "{text}");
    Ok(())
}

/// A single name means one in the directory that was entered last, so nothing may come between.
#[test]
fn mounts_in_a_new_dev_are_made_by_name_up_to_the_first_other_one() -> Result {
    let plan = RootPlan::new(RootSource::directory("/srv")).mount(Mount::file_system("tmpfs", "/dev", &["nosuid"])?);
    let plan = plan.mount(Mount::file_system("devpts", "/dev/pts", &["nosuid"])?).mount(Mount::tmpfs("/x", 4096)?);
    let text = told(&plan.mount(Mount::tmpfs("/dev/shm", 4096)?))?;
    assert!(text.contains("mount devpts on pts "), "{text}");
    assert!(text.contains("mount tmpfs on /x ") && text.contains("mount tmpfs on /dev/shm "), "{text}");
    let plan = RootPlan::new(RootSource::directory("/srv")).mount(Mount::file_system("devtmpfs", "/dev", &["nosuid"])?);
    let text = told(&plan.mount(Mount::tmpfs("/dev/shm", 4096)?))?;
    assert!(text.contains("mount tmpfs on /dev/shm "), "others have made names there: {text}");
    Ok(())
}

#[test]
fn a_dev_that_could_be_shared_is_read_only_and_what_is_mounted_in_it_is_not() -> Result {
    let usual = || RootPlan::new(RootSource::directory("/srv")).defaults(Defaults::Container).read_only_dev();
    let text = told(&usual())?;
    assert!(text.contains("write file console (mode 0620, 0 bytes)\n") && text.contains("make /dev ro\n"), "{text}");
    let text = told(&usual().mount(Mount::bind("/x", "/dev")?))?;
    assert!(!text.contains("console") && !text.contains("make /dev ro\n"), "the host's stays as it is: {text}");
    Ok(())
}

#[test]
fn more_binds_than_descriptors_are_an_error() -> Result {
    let mut plan = RootPlan::new(RootSource::directory("/srv"));
    for index in 0..Slot::COUNT {
        plan = plan.mount(Mount::bind("/x", format!("/{index}"))?);
    }
    assert_eq!(plan.plan(&mut SlotAllocator::default()).expect_err("too many").kind(), ErrorKind::TooMany);
    Ok(())
}

#[test]
fn a_private_view_as_text() -> Result {
    let plan = MountPlan::new()
        .overlay(&["/lower/a", "/lower/b"], "upper", "work", "/mnt")
        .tmpfs("/mnt/tmp", 4096)
        .overlay_tmpfs(&["/lower/a"], 1 << 20, "/srv")
        .overlay_read_only(&["/lower/a"], "/opt")
        .overlay_read_only(&["/lower/a", "/lower/b"], "/usr")
        .bind("data", "/data")
        .bind_recursive_read_only("/home", "/home")
        .attributes("/mnt", [Attribute::NoSuid, Attribute::NoAtime], Reach::Tree)
        .default_dev()
        .proc("/proc", &["subset=pid"])
        .sysfs("/sys")
        .devpts("/dev/pts", Some(5))
        .shm(1 << 20)
        .mqueue("/dev/mqueue")
        .cgroup("/sys/fs/cgroup")
        .mask("/proc/kcore")
        .mask("/sys/firmware")
        .read_only("/mnt/etc")
        .file("/mnt/etc/hostname", *b"box\n", 0o644)
        .propagation("/mnt", Propagation::Shared, Reach::Mount);
    golden!("view.plan", plan.to_string());
    golden!("view.explained", plan.explain());
    Ok(())
}

#[test]
fn mistakes_are_told_with_the_plan() {
    let table: [(MountPlan, ErrorKind, &str); 6] = [
        (
            MountPlan::new().tmpfs("tmp", 1),
            ErrorKind::InvalidPath,
            "cannot use tmp as a path inside: it is not absolute",
        ),
        (
            MountPlan::new().bind("/a", "/b/../c"),
            ErrorKind::InvalidPath,
            "cannot use /b/../c as a path inside: it has a `..`",
        ),
        (
            MountPlan::new().bind("/a", "/x").tmpfs("/x/", 1).tmpfs("y", 1),
            ErrorKind::Duplicate,
            "cannot plan a second mount on /x",
        ),
        (
            MountPlan::new().overlay_read_only(&[] as &[&str], "/x"),
            ErrorKind::InvalidValue,
            "cannot plan an overlay without layers",
        ),
        (MountPlan::new().bind("", "/x"), ErrorKind::InvalidPath, "cannot use  as a path of the host"),
        (
            MountPlan::new().proc("/proc", &["a\0"]),
            ErrorKind::InvalidValue,
            "cannot plan proc on /proc: an option has a NUL",
        ),
    ];
    for (plan, kind, text) in table {
        let error = plan.steps().expect_err(text);
        assert_eq!((error.kind(), error.to_string().as_str()), (kind, text));
        assert_eq!(plan.apply().expect_err(text).kind(), kind);
        assert_eq!(plan.to_string(), format!(" ! {text}\n"));
    }
}
