//! `Root`, by `openat2(2)` and by hand: paths that try to get out, files that are not what they seem, and races.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use keelbox_launch::{OwnedStep, perform};
use keelbox_mounts::{Error, ErrorKind, OpenOptions, Root};
use keelbox_testkit::Result;
use nix::fcntl::{OFlag, OpenHow, RenameFlags, openat2, renameat2};
use nix::sys::stat::Mode;

/// Runs `test` with `openat2(2)`, and again in a thread in which that call is missing.
fn both_ways<T: Send + std::fmt::Debug + PartialEq>(test: impl Fn() -> T + Sync) -> T {
    let with = test();
    let without = thread::scope(|scope| {
        let missing = scope.spawn(|| {
            lose_openat2();
            test()
        });
        missing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    assert_eq!(with, without, "openat2(2) and the walk by hand differ");
    with
}

/// Makes `openat2(2)` answer `ENOSYS` in this thread, by a seccomp filter.
fn lose_openat2() {
    const OPENAT2: u32 = 437;
    // The number of the call is loaded; if it is openat2, ENOSYS is returned, else all is allowed.
    let filter: [(u16, u8, u8, u32); 4] =
        [(0x20, 0, 0, 0), (0x15, 0, 1, OPENAT2), (0x06, 0, 0, 0x0005_0026), (0x06, 0, 0, 0x7fff_0000)];
    let bytes = filter
        .iter()
        .flat_map(|(code, yes, no, value)| [&code.to_ne_bytes()[..], &[*yes, *no], &value.to_ne_bytes()[..]].concat());
    let steps = [OwnedStep::NoNewPrivileges {}, OwnedStep::Seccomp { flags: 0, filter: bytes.collect() }];
    perform(&steps).expect("a thread may give up system calls");
    let how = OpenHow::new().flags(OFlag::O_PATH);
    let answer = openat2(nix::fcntl::AT_FDCWD, "/", how);
    assert_eq!(answer.err(), Some(nix::errno::Errno::ENOSYS));
}

/// A root with a canary next to it, which nothing inside must reach.
struct Place {
    directory: tempfile::TempDir,
}

const CANARY: &[u8] = b"canary";

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("there is room for a directory");
        let place = Self { directory };
        fs::create_dir_all(place.root().join("etc")).expect("a directory can be made");
        fs::create_dir(place.outside()).expect("a directory can be made");
        fs::write(place.outside().join("secret"), CANARY).expect("a file can be written");
        fs::write(place.root().join("etc/name"), b"inside").expect("a file can be written");
        place
    }

    fn root(&self) -> std::path::PathBuf {
        self.directory.path().join("root")
    }

    fn outside(&self) -> std::path::PathBuf {
        self.directory.path().join("outside")
    }

    fn inside(&self) -> Root {
        Root::at(self.root()).expect("it is a directory")
    }

    fn link(&self, target: impl AsRef<Path>, path: &str) {
        symlink(target, self.root().join(path)).expect("a link can be made");
    }

    /// Panics if anything outside was made or changed.
    fn check(&self) {
        let names: Vec<_> =
            fs::read_dir(self.outside()).expect("it is there").flatten().map(|e| e.file_name()).collect();
        assert_eq!(names, ["secret"]);
        assert_eq!(fs::read(self.outside().join("secret")).expect("it is there"), CANARY);
        let mut around: Vec<_> =
            fs::read_dir(self.directory.path()).expect("it is there").flatten().map(|e| e.file_name()).collect();
        around.sort();
        assert_eq!(around, ["outside", "root"]);
    }
}

fn kind<T>(answer: Result<T, Error>) -> Option<ErrorKind> {
    answer.err().map(|error| error.kind())
}

/// A root full of links.
fn maze() -> Place {
    let place = Place::new();
    let outside = place.outside();
    place.link(outside.join("secret"), "absolute");
    place.link("../outside/secret", "relative");
    place.link("../../../../../../../../etc/name", "up");
    place.link("/etc/name", "good");
    place.link("etc/../etc/./name", "dots");
    place.link("loop", "loop");
    place.link("nowhere", "dangling");
    place.link("/", "slash");
    place.link(&outside, "directory");
    place.link("etc/", "etc-slash");
    place.link("etc/name", "chain1");
    for number in 2..=41 {
        place.link(format!("chain{}", number - 1), &format!("chain{number}"));
    }
    place
}

#[test]
fn links_stay_inside() {
    const FOUND: Option<ErrorKind> = None;
    const NONE: Option<ErrorKind> = Some(ErrorKind::NotFound);
    const LINK: Option<ErrorKind> = Some(ErrorKind::Link);
    let table = [
        ("/absolute", NONE),
        ("/relative", NONE),
        ("/up", FOUND),
        ("/good", FOUND),
        ("/dots", FOUND),
        ("/loop", LINK),
        ("/dangling", NONE),
        ("/directory/secret", NONE),
        ("/etc/name/x", NONE),
        ("/slash/slash/etc/name", FOUND),
        ("/chain40", FOUND),
        ("/chain41", LINK),
        ("/etc-slash/name", FOUND),
        ("/good/", FOUND),
        ("/nothing", NONE),
        ("/etc", Some(ErrorKind::WrongType)),
    ];
    let place = maze();
    let root = place.inside();
    both_ways(|| {
        for (path, expected) in table {
            match root.read(path, 100) {
                Ok(content) => assert_eq!((expected, content.as_slice()), (FOUND, &b"inside"[..]), "{path}"),
                Err(error) => assert_eq!(Some(error.kind()), expected, "{path}"),
            }
        }
    });
    place.check();
}

#[test]
fn magic_links_are_refused() -> Result {
    let file = fs::File::open("/etc/passwd")?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&file);
    let (proc, host) = (Root::at("/proc")?, Root::at("/")?);
    both_ways(|| {
        for path in
            [format!("/self/fd/{number}"), "/self/exe".into(), "/self/root/etc/passwd".into(), "/self/cwd/x".into()]
        {
            assert_eq!(kind(proc.open(&path)), Some(ErrorKind::Link), "{path}");
            assert_eq!(kind(host.open(format!("/proc{path}"))), Some(ErrorKind::Link), "/proc{path}");
        }
        assert_eq!(kind(proc.metadata("/self/ns/mnt")), Some(ErrorKind::Link));
        // The link itself may be looked at, and the ordinary ones followed.
        assert!(proc.symlink_metadata("/self/exe").is_ok_and(|metadata| metadata.is_symlink()));
        assert!(proc.read_to_string("/self/comm", 100).is_ok());
    });
    Ok(())
}

#[test]
fn what_is_written_replaces_what_was_there() -> Result {
    both_ways(|| {
        let place = Place::new();
        let root = place.inside();
        let outside = place.outside();
        place.link(outside.join("secret"), "etc/hosts");
        place.link("../../outside/new", "etc/resolv.conf");
        fs::hard_link(outside.join("secret"), place.root().join("etc/hard")).expect("a link can be made");
        nix::unistd::mkfifo(&place.root().join("etc/pipe"), Mode::S_IRWXU).expect("a pipe can be made");
        fs::create_dir(place.root().join("etc/directory")).expect("a directory can be made");
        for name in ["hosts", "resolv.conf", "hard", "pipe", "fresh", "name"] {
            let path = format!("/etc/{name}");
            root.write_file(&path, b"new", 0o640).unwrap_or_else(|error| panic!("{error}"));
            let metadata = root.symlink_metadata(&path).expect("it was made");
            assert!(metadata.is_file() && metadata.mode() & 0o7777 == 0o640 && metadata.nlink() == 1, "{path}");
            assert_eq!(root.read(&path, 10).expect("it was made"), b"new");
        }
        assert_eq!(kind(root.write_file("/etc/directory", b"", 0o600)), Some(ErrorKind::WrongType));
        assert_eq!(kind(root.write_file("/missing/file", b"", 0o600)), Some(ErrorKind::NotFound));
        root.symlink("/etc/name", "/etc/hosts").expect("a link can be made");
        assert_eq!(root.read_link("/etc/hosts").expect("it is a link"), "/etc/name");
        assert_eq!(kind(root.symlink("", "/etc/empty")), Some(ErrorKind::InvalidValue));
        root.remove("/etc/hosts").expect("a link can be removed");
        assert!(root.exists("/etc/name").expect("it is there"), "only the link was removed");
        root.remove("/etc/directory").expect("it is empty");
        assert_eq!(kind(root.remove("/etc")), Some(ErrorKind::Os(39)));
        assert_eq!(kind(root.remove("/")), Some(ErrorKind::WrongType));
        place.check();
    });
    Ok(())
}

#[test]
fn pipes_and_devices_are_not_opened() -> Result {
    let place = Place::new();
    nix::unistd::mkfifo(&place.root().join("pipe"), Mode::S_IRWXU)?;
    let _socket = std::os::unix::net::UnixListener::bind(place.root().join("socket"))?;
    let (root, dev) = (place.inside(), Root::at("/dev")?);
    both_ways(|| {
        for path in ["/pipe", "/socket"] {
            assert_eq!(kind(root.read(path, 1)), Some(ErrorKind::WrongType), "{path}");
            assert_eq!(kind(root.open_with(path, OpenOptions::new().write())), Some(ErrorKind::WrongType), "{path}");
        }
        let error = dev.open("/null").expect_err("it is a device");
        assert_eq!(error.to_string(), "cannot open /null inside: it is a device (1:3)");
        assert!(dev.open_with("/null", OpenOptions::new().any_type()).is_ok());
        // Wanted, it is opened without waiting for the other end.
        assert!(root.open_with("/pipe", OpenOptions::new().any_type()).is_ok());
        assert!(root.open_with("/pipe", OpenOptions::new().path_only()).is_ok());
    });
    Ok(())
}

#[test]
fn directories_are_made_inside_only() -> Result {
    both_ways(|| {
        let place = Place::new();
        let outside = place.outside();
        place.link("/../../outside", "a");
        place.link(&outside, "b");
        place.link("/etc", "c");
        place.link("loop", "loop");
        fs::create_dir_all(place.root().join("outside")).expect("a directory can be made");
        let root = place.inside();
        root.create_dir_all("/a/x/y").expect("/outside is inside too");
        assert!(place.root().join("outside/x/y").is_dir());
        assert_eq!(kind(root.create_dir_all("/b/x")), Some(ErrorKind::NotFound), "a dangling link is not made good");
        root.create_dir_all("/c/deep/er").expect("it leads inside");
        assert!(place.root().join("etc/deep/er").is_dir());
        assert_eq!(kind(root.create_dir_all("/loop/x")), Some(ErrorKind::Link));
        assert_eq!(kind(root.create_dir_all("/etc/name/x")), Some(ErrorKind::NotFound));
        root.create_dir_all("/").expect("it is there");
        root.create_dir_all("/c/deep").expect("it is there");
        place.check();
    });
    Ok(())
}

#[test]
fn absent_is_only_what_is_not_there() -> Result {
    let place = Place::new();
    place.link("loop", "loop");
    place.link("nowhere", "dangling");
    let root = place.inside();
    both_ways(|| {
        assert_eq!(root.exists("/etc/name").ok(), Some(true));
        for path in ["/nothing", "/etc/name/below", "/dangling", "/dangling/x"] {
            assert_eq!(root.exists(path).ok(), Some(false), "{path}");
        }
        assert_eq!(kind(root.exists("/loop")), Some(ErrorKind::Link));
        assert_eq!(kind(root.exists(format!("/{}", "n".repeat(256)))), Some(ErrorKind::InvalidPath));
        assert_eq!(kind(root.exists("relative")), Some(ErrorKind::InvalidPath));
    });
    Ok(())
}

#[test]
fn what_may_not_be_looked_at_is_not_absent() -> Result {
    keelbox_testkit::require!(OrdinaryUser);
    keelbox_testkit::as_user!();
    let place = Place::new();
    fs::set_permissions(place.root().join("etc"), fs::Permissions::from_mode(0o000))?;
    let root = place.inside();
    let answer = both_ways(|| kind(root.exists("/etc/name")));
    fs::set_permissions(place.root().join("etc"), fs::Permissions::from_mode(0o700))?;
    assert_eq!(answer, Some(ErrorKind::Os(13)));
    Ok(())
}

#[test]
fn options_do_what_they_say() -> Result {
    both_ways(|| {
        let place = Place::new();
        place.link("etc/name", "link");
        place.link("made", "dangling");
        let root = place.inside();
        let open = |path: &str, options| root.open_with(path, options);
        assert_eq!(kind(open("/link", OpenOptions::new().no_follow())), Some(ErrorKind::Link));
        assert_eq!(
            kind(open("/dangling", OpenOptions::new().write().create_new(0o600))),
            Some(ErrorKind::AlreadyExists)
        );
        assert_eq!(
            kind(open("/etc/name", OpenOptions::new().write().create_new(0o600))),
            Some(ErrorKind::AlreadyExists)
        );
        assert_eq!(kind(open("/etc/name", OpenOptions::new().directory())), Some(ErrorKind::NotFound));
        assert_eq!(kind(open("/absent", OpenOptions::new().write())), Some(ErrorKind::NotFound));
        let append = |text: &[u8]| open("/etc/name", OpenOptions::new().append()).map(|mut file| file.write_all(text));
        append(b"+").expect("it can be opened").expect("it can be written");
        assert_eq!(root.read("/link", 7).expect("it is there"), b"inside+");
        assert_eq!(kind(root.read("/link", 6)), Some(ErrorKind::TooLarge));
        drop(open("/link", OpenOptions::new().read_write().truncate()).expect("it can be opened"));
        assert_eq!(root.read("/etc/name", 0).expect("it is empty"), b"");
        drop(open("/dangling", OpenOptions::new().write().create(0o600)).expect("it is made where the link leads"));
        assert!(place.root().join("made").is_file());
        let etc = root.subdirectory("/etc").expect("it is a directory");
        assert!(etc.exists("/name").expect("it can be looked at") && !etc.exists("/etc").expect("it can be looked at"));
        assert_eq!(kind(root.read_to_string("/link", 10)), None);
        root.write_file("/etc/bytes", &[0xff], 0o600).expect("it can be written");
        assert_eq!(kind(root.read_to_string("/etc/bytes", 10)), Some(ErrorKind::InvalidValue));
    });
    Ok(())
}

#[test]
fn what_is_no_directory_is_no_root() -> Result {
    let place = Place::new();
    assert_eq!(kind(Root::at(place.root().join("etc/name"))), Some(ErrorKind::NotFound));
    assert_eq!(kind(Root::of(fs::File::open(place.root().join("etc/name"))?.into())), Some(ErrorKind::WrongType));
    assert!(Root::of(fs::File::open(place.root())?.into())?.exists("/etc/name")?);
    let error = Root::at("/nowhere").expect_err("there is nothing");
    assert_eq!(error.to_string(), "cannot open root file system /nowhere");
    Ok(())
}

/// Swaps a directory inside for a link to the outside, as fast as it can, while files are read, written and made below it.
#[test]
fn nothing_gets_out_while_directories_are_swapped_for_links() -> Result {
    both_ways(|| {
        let place = Place::new();
        fs::create_dir(place.root().join("d")).expect("a directory can be made");
        fs::write(place.root().join("d/secret"), b"inside").expect("a file can be written");
        place.link("../outside", "evil");
        place.link(place.outside(), "evil2");
        let (root, stop, swaps) = (place.inside(), AtomicBool::new(false), AtomicBool::new(false));
        let directory = fs::File::open(place.root()).expect("it is a directory");
        let swap = |with: &str| renameat2(&directory, "d", &directory, with, RenameFlags::RENAME_EXCHANGE);
        let (mut inside, mut failed) = (0, 0);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    for with in ["evil", "evil", "evil2", "evil2"] {
                        swap(with).expect("names can be exchanged");
                    }
                    swaps.store(true, Ordering::Relaxed);
                }
            });
            for round in 0..1500 {
                match root.read("/d/secret", 100) {
                    Ok(content) => {
                        assert_eq!(content, b"inside");
                        inside += 1;
                    }
                    Err(_) => failed += 1,
                }
                let _may_fail = root.write_file(format!("/d/file{}", round % 10), b"x", 0o600);
                let _may_fail = root.create_dir_all(format!("/d/new{}/deep", round % 10));
                let _may_fail = root.open_with("/d/made", OpenOptions::new().write().create(0o600));
                let _may_fail = root.symlink("x", "/d/link");
                let _may_fail = root.remove("/d/link");
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert!(inside > 0 && failed > 0 && swaps.load(Ordering::Relaxed), "the race took place: {inside}, {failed}");
        place.check();
    });
    Ok(())
}
