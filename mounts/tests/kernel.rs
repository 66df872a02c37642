//! What the kernel makes of plans: each test in a process of its own, each plan in a thread with a mount namespace of its own,
//! and nothing of it on the host.

use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use keelbox_launch::{Errno, Failure, OwnedStep, Slot, perform, prepare};
use keelbox_mounts::{
    Attribute, Defaults, Entry, ErrorKind, Hierarchy, InnerPath, Mount, MountPlan, Propagation, Reach, RootPlan,
    RootSource, SlotAllocator, Upper,
};
use keelbox_testkit::{LeakCheck, Result, alone, require};

const EROFS: Option<i32> = Some(30);

/// Runs `work` in a thread of its own, whose mount namespace it may change; the host's must be the same afterwards.
fn privately<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let before = fs::read_to_string("/proc/self/mountinfo").expect("proc is mounted");
    let done = thread::scope(|scope| scope.spawn(work).join());
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").expect("proc is mounted"), before, "a mount leaked");
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn errno<T>(answer: std::io::Result<T>) -> Option<i32> {
    answer.err().and_then(|error| error.raw_os_error())
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    fn make(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.path().join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }
}

#[test]
fn an_overlay_keeps_changes_in_its_upper_layer() -> Result {
    require!(Root, MountNamespace, Overlay);
    alone!();
    let place = Place::new()?;
    let (top, base) = (place.make("to:p,a")?, place.make("base")?);
    // Overlays want their changes on a file system that keeps extended attributes, which the temporary directory's may not.
    let (room, target) = (place.make("room")?, place.make("target")?);
    fs::write(top.join("both"), "top")?;
    fs::write(base.join("both"), "base")?;
    fs::write(base.join("one"), "base")?;
    let leaks = LeakCheck::begin();
    privately(|| -> Result<(), String> {
        let told = |error: &dyn std::error::Error| format!("{error}: {:?}", error.source());
        MountPlan::new().tmpfs(&room, 1 << 20).apply().map_err(|error| told(&error))?;
        for name in ["up\\per", "work"] {
            fs::create_dir(room.join(name)).map_err(|error| told(&error))?;
        }
        let plan = MountPlan::new().overlay(&[&top, &base], room.join("up\\per"), room.join("work"), &target);
        plan.tmpfs(target.join("made/tmp"), 4096).apply().map_err(|error| told(&error))?;
        assert_eq!(fs::read_to_string(target.join("both")).ok().as_deref(), Some("top"));
        fs::write(target.join("one"), "changed").map_err(|error| told(&error))?;
        assert_eq!(fs::read_to_string(room.join("up\\per/one")).ok().as_deref(), Some("changed"));
        assert!(target.join("made/tmp").is_dir(), "a target in the plan's own overlay is made");
        Ok(())
    })?;
    assert_eq!(fs::read_to_string(base.join("one"))?, "base");
    assert_eq!(fs::read_dir(&target)?.count(), 0);
    leaks.check();
    Ok(())
}

#[test]
fn an_overlay_in_memory_has_a_limit_and_read_only_ones_none_to_write() -> Result {
    require!(Root, MountNamespace, Overlay);
    alone!();
    let place = Place::new()?;
    let (one, two) = (place.make("one")?, place.make("two")?);
    let [memory, single, double] = ["memory", "single", "double"].map(|name| place.make(name));
    let (memory, single, double) = (memory?, single?, double?);
    fs::write(one.join("file"), "one")?;
    fs::write(two.join("file2"), "two")?;
    privately(|| {
        let plan = MountPlan::new()
            .overlay_tmpfs(&[&one, &two], 1 << 20, &memory)
            .overlay_read_only(&[&one], &single)
            .overlay_read_only(&[&one, &two], &double);
        plan.apply().unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)));
        fs::write(memory.join("file"), "changed").expect("it can be written");
        assert_eq!(errno(fs::write(memory.join("big"), vec![0; 2 << 20])), Some(28));
        for target in [&single, &double] {
            assert_eq!(fs::read_to_string(target.join("file")).expect("it is there"), "one");
            assert_eq!(errno(fs::write(target.join("file"), "x")), EROFS);
        }
        assert!(double.join("file2").exists() && !single.join("file2").exists());
    });
    assert_eq!(fs::read_to_string(one.join("file"))?, "one");
    Ok(())
}

#[test]
fn read_only_reaches_as_far_as_it_is_said_to() -> Result {
    require!(Root, MountNamespace);
    alone!();
    let place = Place::new()?;
    let source = place.make("source")?;
    let below = place.make("source/below")?;
    let [tree, mount, alone] = ["tree", "mount", "alone"].map(|name| place.make(name));
    let (tree, mount, alone) = (tree?, mount?, alone?);
    privately(|| {
        let first = MountPlan::new().tmpfs_with(&below, 1 << 20, 0o755, Some(10));
        first.attributes(&below, [Attribute::NoExec], Reach::Mount).apply().expect("a tmpfs can be mounted");
        fs::write(below.join("file"), "x").expect("it can be written");
        let plan = MountPlan::new()
            .bind_recursive_read_only(&source, &tree)
            .bind_recursive(&source, &mount)
            .attributes(&mount, [Attribute::ReadOnly], Reach::Mount)
            .bind_read_only(&source, &alone);
        plan.apply().unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)));
        assert_eq!(errno(fs::write(tree.join("new"), "x")), EROFS);
        assert_eq!(errno(fs::write(tree.join("below/file"), "x")), EROFS, "the whole tree is read-only");
        assert_eq!(errno(fs::write(mount.join("new"), "x")), EROFS);
        assert_eq!(errno(fs::write(mount.join("below/file"), "x")), None, "only that mount is read-only");
        assert_eq!(fs::read_dir(alone.join("below")).expect("it is there").count(), 0, "the mount below is not bound");
        let options = |path: &Path| mount_options(path).expect("it is mounted");
        for copy in [tree.join("below"), mount.join("below")] {
            let options = options(&copy);
            for word in ["nosuid", "nodev", "noexec"] {
                assert!(options.contains(&word.to_owned()), "{word} of the source is kept: {options:?}");
            }
        }
    });
    Ok(())
}

/// The options of the topmost mount at `path`, as this thread sees it.
fn mount_options(path: &Path) -> Option<Vec<String>> {
    let table = fs::read_to_string("/proc/thread-self/mountinfo").ok()?;
    let line = table.lines().rfind(|line| line.split(' ').nth(4).map(Path::new) == Some(path))?;
    Some(line.split(' ').nth(5)?.split(',').map(str::to_owned).collect())
}

#[test]
fn attributes_of_the_source_survive_every_kind_of_bind() -> Result {
    require!(Root, MountNamespace);
    alone!();
    let place = Place::new()?;
    let (source, target) = (place.make("source")?, place.make("target")?);
    let words = [
        ("nosuid", Attribute::NoSuid),
        ("nodev", Attribute::NoDev),
        ("noexec", Attribute::NoExec),
        ("ro", Attribute::ReadOnly),
    ];
    for set in 0..16u32 {
        for options in ["bind", "rbind", "bind ro", "rbind ro", "rbind rro", "rbind rw suid dev exec"] {
            let options: Vec<&str> = options.split(' ').collect();
            let mount = Mount::oci(&target, Some("bind"), Some(&source), &options)?;
            privately(|| {
                let chosen = words.iter().enumerate().filter(|(bit, _)| set >> bit & 1 == 1).map(|(_, word)| *word);
                let attributes: Vec<Attribute> = chosen.clone().map(|(_, attribute)| attribute).collect();
                let view = MountPlan::new().bind(&source, &source).attributes(&source, attributes, Reach::Mount);
                view.apply().expect("a directory can be bound");
                let plan = RootPlan::new(RootSource::directory("/")).mount(mount);
                let steps = binds_only(&plan);
                perform(&steps).unwrap_or_else(|failure| panic!("{failure}"));
                let found = mount_options(&target).expect("it is mounted");
                for (word, _) in chosen {
                    assert!(found.iter().any(|option| option == word), "{options:?} lost {word}: {found:?}");
                }
                let asked = options.iter().any(|word| ["ro", "rro"].contains(word));
                assert_eq!(found[0] == "ro", asked || set & 8 != 0, "{options:?}: {found:?}");
            });
        }
    }
    Ok(())
}

/// The steps of the plan's binds, to be performed where the root is not changed.
fn binds_only(plan: &RootPlan) -> Vec<OwnedStep> {
    let planned = plan.plan(&mut SlotAllocator::default()).expect("it can be planned");
    let wanted = |step: &&OwnedStep| match step {
        OwnedStep::Tree { source, .. } => source.as_c_str() != c"/",
        OwnedStep::Attach { .. } => true,
        OwnedStep::Attributes { target, .. } => target.as_c_str() != c"/",
        _ => false,
    };
    nix::unistd::chdir("/").expect("there is a root");
    planned.all().filter(wanted).cloned().collect()
}

#[test]
fn memory_has_limits() -> Result {
    require!(Root, MountNamespace);
    alone!();
    let place = Place::new()?;
    let target = place.make("target")?;
    privately(|| {
        MountPlan::new().tmpfs_with(&target, 64 << 10, 0o700, Some(3)).apply().expect("a tmpfs can be mounted");
        assert_eq!(fs::metadata(&target).expect("it is there").mode() & 0o7777, 0o700);
        assert_eq!(errno(fs::write(target.join("big"), vec![0; 128 << 10])), Some(28), "the size is limited");
        fs::remove_file(target.join("big")).expect("it can be removed");
        let made = (0..5).filter(|number| fs::write(target.join(number.to_string()), "").is_ok()).count();
        assert_eq!(made, 2, "the number of files is limited");
        let mode = mount_options(&target).expect("it is mounted");
        assert!(mode.contains(&"nosuid".into()) && mode.contains(&"nodev".into()));
    });
    Ok(())
}

#[test]
fn masks_hide_and_what_is_not_there_is_passed_over() -> Result {
    require!(Root, MountNamespace);
    alone!();
    let place = Place::new()?;
    let directory = place.make("secrets")?;
    let file = directory.with_file_name("secret");
    let visible = place.make("visible")?;
    fs::write(directory.join("key"), "key")?;
    fs::write(&file, "secret")?;
    fs::write(visible.join("setting"), "1")?;
    privately(|| {
        let plan = MountPlan::new()
            .mask(&file)
            .mask(&directory)
            .mask(place.0.path().join("nothing"))
            .mask(file.join("below-a-file"))
            .read_only(&visible)
            .read_only("/nothing/there");
        plan.apply().unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)));
        assert_eq!(fs::read(&file).expect("it can be read"), b"");
        assert!(fs::metadata(&file).expect("it is there").file_type().is_char_device());
        assert_eq!(fs::read_dir(&directory).expect("it can be read").count(), 0);
        assert_eq!(errno(fs::write(directory.join("new"), "x")), EROFS);
        assert_eq!(errno(fs::write(visible.join("setting"), "2")), EROFS);
        assert_eq!(fs::read(visible.join("setting")).expect("it can be read"), b"1");
    });
    assert_eq!(fs::read(&file)?, b"secret");
    // What is there but cannot be looked at must not stay open: a loop of links is an error, not an absence.
    std::os::unix::fs::symlink("loop", place.0.path().join("loop"))?;
    let error =
        privately(|| MountPlan::new().mask(place.0.path().join("loop")).apply().expect_err("it cannot be masked"));
    assert_eq!(error.kind(), ErrorKind::Link);
    assert!(
        error.to_string().starts_with("cannot mask ") && error.to_string().ends_with("/loop (step 3 of 3)"),
        "{error}"
    );
    Ok(())
}

#[test]
fn the_thread_gets_a_view_and_keeps_its_surroundings() -> Result {
    require!(Root, MountNamespace);
    alone!();
    let place = Place::new()?;
    let data = place.make("data")?;
    let target = place.make("target")?;
    fs::write(data.join("file"), "x")?;
    let leaks = LeakCheck::begin();
    let elsewhere = thread::scope(|scope| {
        let (told, heard) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let (data, target) = (&data, &target);
        scope.spawn(move || {
            // A working directory of this thread's own, to bind from by a relative path.
            perform(&[OwnedStep::Unshare { kinds: 0x200 }]).expect("a thread may have its own directory");
            std::env::set_current_dir(data.parent().expect("it has a parent")).expect("it is there");
            MountPlan::new()
                .bind("data", target)
                .directory(target.join("made"), 0o777)
                .apply()
                .expect("it can be bound");
            assert_eq!(std::env::current_dir().expect("it is there"), data.parent().expect("it has a parent"));
            let umask = nix::sys::stat::umask(nix::sys::stat::Mode::empty());
            assert_eq!(umask.bits(), 0o022);
            assert!(target.join("file").exists());
            assert_eq!(fs::metadata(target.join("made")).expect("it was made").permissions().mode() & 0o777, 0o777);
            let child = Command::new("/bin/cat").arg(target.join("file")).output().expect("cat runs");
            assert_eq!(child.stdout, b"x", "what it starts has the same view");
            told.send(()).expect("somebody listens");
            let _ended = ended.recv();
        });
        heard.recv().expect("the thread has the view");
        let seen = target.join("file").exists();
        drop(end);
        seen
    });
    assert!(!elsewhere, "other threads keep theirs");
    leaks.check();
    Ok(())
}

#[test]
fn a_dev_of_its_own_works() -> Result {
    require!(Root, MountNamespace);
    alone!();
    privately(|| {
        let plan = MountPlan::new().default_dev().devpts("/dev/pts", Some(5)).shm(1 << 20).mqueue("/dev/mqueue");
        let plan = plan.proc("/proc", &["subset=pid"]).sysfs("/sys").file("/dev/note", *b"text", 0o640);
        plan.apply().unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)));
        let names = ["null", "zero", "full", "random", "urandom", "tty"];
        for (name, numbers) in names.into_iter().zip([(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0)]) {
            let device = fs::metadata(Path::new("/dev").join(name)).expect("it is there");
            assert!(device.file_type().is_char_device() && device.mode() & 0o777 == 0o666, "{name}");
            assert_eq!(device.rdev(), nix::sys::stat::makedev(numbers.0, numbers.1), "{name}");
        }
        fs::write("/dev/null", "x").expect("the null device takes it");
        assert!(fs::OpenOptions::new().read(true).write(true).open("/dev/ptmx").is_ok(), "a terminal can be made");
        assert_eq!(fs::metadata("/dev/pts/0").map(|terminal| terminal.gid()).ok().unwrap_or(5), 5);
        assert_eq!(fs::read("/dev/note").expect("it was made"), b"text");
        fs::write("/dev/shm/x", "x").expect("shared memory can be written");
        assert_eq!(errno(fs::write("/sys/kernel/uevent_helper", "")), EROFS);
        assert!(!Path::new("/proc/meminfo").exists() && Path::new("/proc/self").exists());
    });
    Ok(())
}

#[test]
fn ids_of_a_bind_are_mapped() -> Result {
    require!(Root, MountNamespace, UserNamespace, Program("unshare"));
    alone!();
    let place = Place::new()?;
    let [room, target] = ["room", "target"].map(|name| place.make(name));
    let (room, target) = (room?, target?);
    let mut child = sleeper_started(Command::new("unshare").args(["--user", "sh", "-c", "echo in; exec cat"]))?;
    fs::write(format!("/proc/{}/uid_map", child.id()), "0 1000 10\n")?;
    fs::write(format!("/proc/{}/gid_map", child.id()), "0 2000 10\n")?;
    let namespace = fs::File::open(format!("/proc/{}/ns/user", child.id()))?;
    let mapped = |in_memory: bool| {
        let namespace = namespace.try_clone().expect("a descriptor");
        privately(|| {
            if in_memory {
                MountPlan::new().tmpfs(&room, 1 << 20).apply().expect("a tmpfs can be mounted");
            }
            fs::write(room.join("file"), "x").expect("it can be written");
            let plan =
                MountPlan::new().mask("/nothing").bind_idmapped(&room, &target, namespace.into()).mask("/nothing2");
            plan.apply().map(|()| {
                let file = fs::metadata(target.join("file")).expect("it is there");
                (file.uid(), file.gid())
            })
        })
    };
    let owners = match mapped(true) {
        // Before Linux 6.3 the ids of a tmpfs cannot be mapped; those of the temporary directory's file system perhaps.
        Err(error) if error.kind() == ErrorKind::Os(22) => mapped(false),
        owners => owners,
    };
    drop(child.stdin.take());
    child.wait()?;
    assert_eq!(owners?, (1000, 2000));
    Ok(())
}

fn sleeper_started(command: &mut Command) -> Result<std::process::Child> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut byte = [0];
    std::io::Read::read_exact(child.stdout.as_mut().ok_or("it has an output")?, &mut byte)?;
    Ok(child)
}

#[test]
fn errors_name_step_and_object() -> Result {
    require!(Root, MountNamespace);
    alone!();
    let error = privately(|| MountPlan::new().tmpfs("/nothing/there", 1).apply().expect_err("there is no target"));
    assert_eq!(error.to_string(), "cannot attach descriptor 0 on /nothing/there (step 2 of 2)");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(std::error::Error::source(&error).is_some());
    let error = privately(|| MountPlan::new().bind("/nowhere", "/tmp").apply().expect_err("there is no source"));
    assert_eq!(error.to_string(), "cannot copy the mount at /nowhere (private) (step 1 of 2)");
    assert!(!Path::new("/nothing").exists(), "nothing is made on the host");
    Ok(())
}

/// A directory with what a root file system must have.
fn root_file_system(place: &Place) -> Result<PathBuf> {
    for name in ["proc", "dev", "sys", "tmp", "run", "etc", "data", "old"] {
        place.make(&format!("root/{name}"))?;
    }
    let root = place.make("root")?;
    fs::write(root.join("etc/hosts"), "the host's own")?;
    Ok(root)
}

/// Performs a plan in a mount namespace of this thread.
fn enter(steps: &[OwnedStep]) -> Result<(), Failure> {
    perform(&[OwnedStep::Unshare { kinds: 0x2_0000 }])?;
    perform(steps)
}

fn enter_or_panic(steps: &[OwnedStep]) {
    if let Err(failure) = enter(steps) {
        panic!("cannot {}: {}", steps[failure.step as usize], failure.errno);
    }
}

/// What holds in every container with the usual surroundings.
fn check_inside() {
    assert!(!Path::new("/proc/kcore").exists() || fs::read("/proc/kcore").is_ok_and(|content| content.is_empty()));
    let hostname = Path::new("/proc/sys/kernel/hostname");
    assert!(!hostname.exists() || errno(fs::write(hostname, "x")) == EROFS);
    fs::write("/dev/null", "x").expect("the null device takes it");
    assert_eq!(fs::metadata("/dev/zero").expect("it is there").mode() & 0o777, 0o666);
    assert_eq!(fs::read_link("/dev/fd").expect("it is a link"), Path::new("/proc/self/fd"));
    assert!(fs::OpenOptions::new().read(true).write(true).open("/dev/ptmx").is_ok());
    fs::write("/dev/shm/x", "x").expect("shared memory can be written");
    let table = fs::read_to_string("/proc/thread-self/mountinfo").expect("proc is mounted");
    assert!(table.lines().all(|line| !line.contains(" shared:")), "{table}");
    let paths = table.lines().filter_map(|line| line.split(' ').nth(4));
    assert_eq!(paths.filter(|path| *path == "/").count(), 1, "only the new root is there: {table}");
}

#[test]
fn a_container_of_a_directory() -> Result {
    require!(Root, MountNamespace);
    alone!();
    let place = Place::new()?;
    let root = root_file_system(&place)?;
    let data = place.make("data")?;
    fs::write(data.join("file"), "data")?;
    let plan = RootPlan::new(RootSource::directory(&root))
        .defaults(Defaults::Container)
        .mount(Mount::bind(&data, "/data")?)
        .mount(Mount::bind(data.join("file"), "/etc/made.conf")?.read_only().missing(Entry::File))
        .file(InnerPath::new("/etc/hosts")?, *b"injected", 0o644)
        .read_only();
    let planned = plan.plan(&mut SlotAllocator::default())?;
    let steps: Vec<OwnedStep> = planned.all().cloned().collect();
    let leaks = LeakCheck::begin();
    privately(|| {
        enter_or_panic(&steps);
        check_inside();
        assert_eq!(fs::read("/etc/hosts").expect("it is there"), b"injected");
        assert_eq!(fs::read("/etc/made.conf").expect("it is there"), b"data");
        assert_eq!(errno(fs::write("/etc/made.conf", "x")), EROFS);
        assert_eq!(errno(fs::write("/new", "x")), EROFS, "the root is read-only");
        assert_eq!(errno(fs::write("/sys/kernel/uevent_helper", "")), EROFS);
        fs::write("/data/new", "x").expect("a bind keeps what it allows");
        assert!(!Path::new("/usr").exists(), "nothing of the host is there");
    });
    assert_eq!(fs::read_to_string(root.join("etc/hosts"))?, "the host's own", "the host's directory is not written to");
    assert_eq!(fs::read_to_string(data.join("new"))?, "x");
    leaks.check();
    Ok(())
}

#[test]
fn a_container_of_layers_in_memory() -> Result {
    require!(Root, MountNamespace, Overlay);
    alone!();
    let place = Place::new()?;
    let root = root_file_system(&place)?;
    fs::remove_dir(root.join("proc"))?;
    let source = RootSource::layers(&[&place.make("empty")?, &root], Some(1 << 20));
    let plan =
        RootPlan::new(source).defaults(Defaults::Hostile).file(InnerPath::new("/etc/hosts")?, *b"injected", 0o600);
    let steps: Vec<OwnedStep> = plan.plan(&mut SlotAllocator::default())?.all().cloned().collect();
    privately(|| {
        enter_or_panic(&steps);
        check_inside();
        assert_eq!(fs::read("/etc/hosts").expect("it is there"), b"injected");
        assert_eq!(fs::metadata("/etc/hosts").expect("it is there").mode() & 0o777, 0o600);
        assert_eq!(errno(fs::write("/big", vec![0; 2 << 20])), Some(28), "changes are limited");
        assert!(!Path::new("/proc/meminfo").exists() && !Path::new("/sys/kernel").exists());
        assert_eq!(fs::metadata("/").expect("it is there").mode() & 0o7777, 0o755);
    });
    assert!(!root.join("proc").exists() && !root.join("big").exists(), "layers are not written to");
    Ok(())
}

#[test]
fn mounts_travel_where_they_are_shared() -> Result {
    require!(Root, MountNamespace);
    alone!();
    let place = Place::new()?;
    let root = root_file_system(&place)?;
    let shared = place.make("shared")?;
    let plan = RootPlan::new(RootSource::directory(&root))
        .mount(Mount::bind(&shared, "/data")?.propagation(Propagation::Shared, Reach::Tree));
    let pivot = plan.clone().plan(&mut SlotAllocator::default())?;
    let steps: Vec<OwnedStep> = pivot.all().cloned().collect();
    privately(|| {
        // A "host" of its own, whose mount is shared with the container.
        let host = MountPlan::new().tmpfs(&shared, 1 << 20).propagation(&shared, Propagation::Shared, Reach::Mount);
        host.apply().expect("a tmpfs can be mounted");
        fs::create_dir(shared.join("later")).expect("a directory can be made");
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                enter_or_panic(&steps);
                perform(&[OwnedStep::Mount {
                    kind: c"tmpfs".into(),
                    source: c"tmpfs".into(),
                    target: c"later".into(),
                    flags: 0,
                    data: c"".into(),
                    create: keelbox_launch::Create::Nothing,
                }])
                .expect_err("there is no such directory here");
                nix::mount::mount(
                    Some("tmpfs"),
                    "/data/later",
                    Some("tmpfs"),
                    nix::mount::MsFlags::empty(),
                    None::<&str>,
                )
                .expect("root may mount");
            });
            inside.join().expect("it is a container");
        });
        let table = fs::read_to_string("/proc/thread-self/mountinfo").expect("proc is mounted");
        assert!(table.contains("/shared/later "), "a shared mount shows what is mounted in the container: {table}");
    });
    Ok(())
}

#[test]
fn what_is_shared_is_made_once_and_cannot_be_changed() -> Result {
    require!(Root, MountNamespace, Overlay);
    alone!();
    let place = Place::new()?;
    let root = root_file_system(&place)?;
    let sources = [
        RootSource::directory(&root),
        RootSource::Overlay { lowers: vec![root.clone()], upper: Upper::ReadOnly },
        RootSource::Overlay { lowers: vec![place.make("empty")?, root.clone()], upper: Upper::ReadOnly },
        RootSource::layers(&[&root], None),
    ];
    for source in sources {
        let writable = !matches!(source, RootSource::Overlay { upper: Upper::ReadOnly, .. });
        let is_bind = matches!(source, RootSource::Directory(_));
        let plan = RootPlan::new(source).defaults(Defaults::Container);
        let template = plan.template(&mut SlotAllocator::default())?;
        let keep: Vec<_> = template.held.used().collect();
        let kept = match prepare(&template.steps, &[], &keep) {
            // By this callers know that each container has to be made as a whole.
            Err(failure) if !copies_what_has_no_place() => {
                assert_eq!(failure.errno, Errno::EINVAL);
                continue;
            }
            answer => answer?,
        };
        let mut slots = SlotAllocator::default();
        let held = template.held.renumbered(&mut slots)?;
        let steps: Vec<OwnedStep> = plan.rest(&held, &mut slots)?.all().cloned().collect();
        // Twice, for what one container did must not be seen by the next.
        for _container in 0..2 {
            privately(|| {
                perform(&[OwnedStep::Unshare { kinds: 0x2_0000 }]).expect("root may have a mount namespace");
                let descriptors: Vec<_> = kept.iter().map(AsFd::as_fd).collect();
                if let Err(failure) = prepare(&steps, &descriptors, &[]) {
                    panic!("cannot {}: {}", steps[failure.step as usize], failure.errno);
                }
                check_inside();
                assert!(!Path::new("/dev/shm/mark").exists() && (is_bind || !Path::new("/tmp/mark").exists()));
                fs::write("/dev/shm/mark", "x").expect("shared memory can be written");
                check_shared(writable);
            });
        }
        let _gone = fs::remove_file(root.join("tmp/mark"));
    }
    Ok(())
}

/// Whether the kernel copies mounts that are attached nowhere (Linux 6.15).
fn copies_what_has_no_place() -> bool {
    let mount = |directory, out| OwnedStep::Tree {
        directory,
        source: c"".into(),
        recursive: 0,
        set: 0,
        clear: 0,
        propagation: 0,
        attributes_recursive: 0,
        idmap: Slot::NONE,
        out,
    };
    let options = Vec::new();
    let memory = OwnedStep::FileSystem { kind: c"tmpfs".into(), options, set: 0, directory: Slot::NONE, out: Slot(0) };
    prepare(&[memory, mount(Slot(0), Slot(1))], &[], &[]).is_ok()
}

/// What holds in a container made from a template.
fn check_shared(writable: bool) {
    assert_eq!(errno(fs::write("/dev/new", "x")), EROFS, "what is shared cannot be written to");
    assert!(Path::new("/dev/console").exists());
    assert_eq!(errno(fs::write("/tmp/mark", "x")).is_none(), writable);
    assert_eq!(errno(fs::remove_file("/dev/null")), EROFS);
}

/// CVE-2025-31133: what the image, or a volume, has in the place of `/dev/null` must not become what hides files.
#[test]
fn masks_do_not_come_from_the_container() -> Result {
    require!(Root, MountNamespace);
    alone!();
    let place = Place::new()?;
    let root = root_file_system(&place)?;
    fs::write(root.join("etc/secret"), "secret")?;
    let null = place.make("dev")?.join("null");
    let put: [(&str, &dyn Fn() -> std::io::Result<()>); 4] = [
        ("nothing", &|| Ok(())),
        ("a link", &|| std::os::unix::fs::symlink("/etc/hosts", &null)),
        ("a file", &|| fs::write(&null, "not null")),
        ("a pipe", &|| Ok(nix::unistd::mkfifo(&null, nix::sys::stat::Mode::S_IRWXU)?)),
    ];
    for (what, put) in put {
        let _gone = fs::remove_file(&null);
        put()?;
        let plan = RootPlan::new(RootSource::directory(&root))
            .mount(Mount::bind(place.make("dev")?, "/dev")?)
            .mount(Mount::file_system("proc", "/proc", &[])?)
            .masked(InnerPath::new("/etc/secret")?)
            .masked(InnerPath::new("/proc/sys")?);
        let steps: Vec<OwnedStep> = plan.plan(&mut SlotAllocator::default())?.all().cloned().collect();
        privately(|| {
            enter_or_panic(&steps);
            assert_eq!(fs::read("/etc/secret").expect("it is there"), b"", "{what}");
            let mask = fs::metadata("/etc/secret").expect("it is there");
            assert_eq!(mask.rdev(), nix::sys::stat::makedev(1, 3), "{what}");
            assert_eq!(fs::read_dir("/proc/sys").expect("it is there").count(), 0, "{what}");
        });
    }
    Ok(())
}

/// CVE-2026-41579 and CVE-2024-45310: a `/dev`, or a way to a mount point, that leads out of the image.
#[test]
fn nothing_is_made_outside_whatever_the_image_says() -> Result {
    require!(Root, MountNamespace);
    alone!();
    for link in ["the canary", "../outside", "/proc/self/root/outside", "loop"] {
        for name in ["root/dev", "root/volume"] {
            let place = Place::new()?;
            let (root, outside) = (root_file_system(&place)?, place.make("outside")?);
            let path = place.0.path().join(name);
            let _gone = fs::remove_dir(&path);
            std::os::unix::fs::symlink(if link == "the canary" { &outside } else { Path::new(link) }, &path)?;
            let plan = RootPlan::new(RootSource::directory(&root))
                .mount(Mount::bind(&root, "/volume/below/this")?)
                .mount(Mount::tmpfs("/volume", 4096)?);
            let steps: Vec<OwnedStep> = plan.plan(&mut SlotAllocator::default())?.all().cloned().collect();
            // Refused, or done inside: which of them depends on the link.
            let _either = privately(|| enter(&steps));
            assert_eq!(fs::read_dir(&outside)?.count(), 0, "{name} to {link}");
            assert_eq!(fs::read_dir(place.0.path())?.count(), 2, "only root and outside are there");
        }
    }
    Ok(())
}

/// CVE-2024-21626: descriptors of the host are no place to mount on.
#[test]
fn a_magic_link_is_no_mount_point() -> Result {
    require!(Root, MountNamespace);
    alone!();
    let place = Place::new()?;
    let root = root_file_system(&place)?;
    let leaked = fs::File::open("/")?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&leaked);
    for target in [format!("/proc/self/fd/{number}"), format!("/proc/self/fd/{number}/tmp"), "/proc/self/root".into()] {
        let plan = RootPlan::new(RootSource::directory(&root))
            .mount(Mount::file_system("proc", "/proc", &[])?)
            .mount(Mount::tmpfs(&target, 4096)?);
        let steps: Vec<OwnedStep> = plan.plan(&mut SlotAllocator::default())?.all().cloned().collect();
        let failure = privately(|| enter(&steps).expect_err("it is a magic link"));
        let step = &steps[failure.step as usize];
        assert!(step.to_string().starts_with("mount tmpfs on /proc/self/"), "{step}");
        assert_eq!(failure.errno, keelbox_launch::Errno::ELOOP, "{target}");
    }
    Ok(())
}

#[test]
fn cgroup_hierarchies_are_shown_read_only() -> Result {
    require!(Root, MountNamespace, CgroupV1("pids"), CgroupV1("memory"), Unified);
    alone!();
    let place = Place::new()?;
    let root = root_file_system(&place)?;
    let own = Path::new("/sys/fs/cgroup/memory");
    let plan = RootPlan::new(RootSource::directory(&root)).defaults(Defaults::Container).cgroups([
        Hierarchy::legacy("pids"),
        Hierarchy::legacy("memory").own(own),
        Hierarchy::hybrid(),
    ]);
    let steps: Vec<OwnedStep> = plan.plan(&mut SlotAllocator::default())?.all().cloned().collect();
    privately(|| {
        enter_or_panic(&steps);
        for name in ["pids", "memory", "unified"] {
            let directory = Path::new("/sys/fs/cgroup").join(name);
            assert!(directory.join("cgroup.procs").exists(), "{name} is mounted");
            assert_eq!(errno(fs::create_dir(directory.join("keelbox-test"))), EROFS, "{name}");
        }
        assert_eq!(errno(fs::create_dir("/sys/fs/cgroup/keelbox-test")), EROFS);
    });
    // The host's own hierarchy is as writable as before.
    assert!(mount_options(Path::new("/sys/fs/cgroup/pids")).is_none_or(|options| options.contains(&"rw".to_owned())));
    Ok(())
}

/// A container in a user namespace of an ordinary user's making, which this test is run again in.
#[test]
fn a_container_without_privilege() -> Result {
    require!(UserNamespace, Program("unshare"));
    const INSIDE: &str = "KEELBOX_MOUNTS_INSIDE";
    if let Some(directory) = std::env::var_os(INSIDE) {
        let directory = Path::new(&directory);
        let layers = RootSource::layers(&[directory.join("root")], Some(1 << 20));
        let bare = RootSource::directory(directory.join("root"));
        for (source, host_network) in [(bare.clone(), false), (bare, true), (layers, true)] {
            let plan = RootPlan::new(source).defaults(Defaults::Container).user_namespace().terminal_group(None).file(
                InnerPath::new("/etc/hosts")?,
                *b"injected",
                0o644,
            );
            let plan = if host_network { plan.host_network() } else { plan };
            let steps: Vec<OwnedStep> = plan.plan(&mut SlotAllocator::default())?.all().cloned().collect();
            privately(|| {
                enter_or_panic(&steps);
                check_inside();
                assert_eq!(fs::read("/etc/hosts").expect("it is there"), b"injected");
                assert!(Path::new("/sys/kernel").exists());
                assert_eq!(errno(fs::write("/sys/kernel/uevent_helper", "")), EROFS);
            });
        }
        std::io::stdout().write_all(b"\nchecked inside\n")?;
        return Ok(());
    }
    let place = Place::new()?;
    let root = root_file_system(&place)?;
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "--net", "--pid", "--ipc", "--fork"])
        .arg(std::env::current_exe()?)
        .args(["--exact", "a_container_without_privilege", "--nocapture", "--test-threads=1"])
        .env(INSIDE, place.0.path())
        .output()?;
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("checked inside"), "{text}");
    assert_eq!(fs::read_to_string(root.join("etc/hosts"))?, "the host's own");
    Ok(())
}
