//! The resolver by `openat2(2)` and by walking: the same answers to the same paths, and none from outside.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::interpret::resolve::open_inside;
use crate::sys::process::owned;
use crate::sys::{self, Call, Errno, Kernel, Linux};

/// What was opened: device, inode, type.
type Found = Result<(u64, u64, u32), Errno>;

/// Linux without `openat2(2)`.
struct Old(Errno);

impl Kernel for Old {
    fn perform(&mut self, call: Call<'_>) -> Result<usize, Errno> {
        if sys::names::name(call.number()) == "openat2" { Err(self.0) } else { Linux.perform(call) }
    }
}

fn found(opened: Result<OwnedFd, Errno>) -> Found {
    let metadata = File::from(opened?).metadata().expect("an open file has metadata");
    Ok((metadata.dev(), metadata.ino(), metadata.mode() & libc::S_IFMT))
}

/// Opens `path` in three ways, which must agree.
fn open(root: BorrowedFd<'_>, path: &CStr, flags: i32) -> Found {
    let by_kernel = found(sys::open_inside(root, path, flags, 0o600));
    let by_walking = found(sys::open_inside_by_walking(root, path, flags, 0o600));
    assert_eq!(by_walking, by_kernel, "{path:?} with {flags:o}");
    for errno in [Errno::ENOSYS, Errno::EPERM, Errno::EAGAIN] {
        let opened = open_inside(&mut Old(errno), root.as_raw_fd(), path, flags, 0o600);
        assert_eq!(found(opened.and_then(|number| owned(number as usize))), by_kernel, "{path:?} with {flags:o}");
    }
    by_kernel
}

fn directory(path: &Path) -> File {
    fs::create_dir_all(path).expect("a directory");
    File::open(path).expect("a directory")
}

fn c(text: impl AsRef<[u8]>) -> CString {
    CString::new(text.as_ref()).expect("no NUL")
}

/// `root/` with files, directories and links; `secret` beside it.
fn world() -> (tempfile::TempDir, File) {
    let world = tempfile::tempdir().expect("a directory");
    let root = world.path().join("root");
    let handle = directory(&root);
    fs::create_dir_all(root.join("a/b/c")).expect("directories");
    fs::write(root.join("file"), "inside").expect("a file");
    fs::write(root.join("a/b/file"), "deep").expect("a file");
    fs::write(world.path().join("secret"), "outside").expect("a file");
    let name = "n".repeat(255);
    fs::write(root.join(&name), "long").expect("a file");
    let links = [
        ("relative", "a/b"),
        ("absolute", "/a/b"),
        ("slash", "a/b/"),
        ("up", ".."),
        ("far", "../../../../file"),
        ("secret", "../secret"),
        ("top", "/"),
        ("dangling", "nothing/here"),
        ("new", "a/new"),
        ("self", "self"),
        ("ping", "pong"),
        ("pong", "ping"),
        ("tofile", "file"),
        ("a/parent", ".."),
        ("a/b/over", "../../../../../a/b/c"),
        ("dot", "."),
    ];
    for (link, target) in links {
        symlink(target, root.join(link)).expect("a link");
    }
    symlink(world.path().join("secret"), root.join("host")).expect("a link");
    // chain-1 is one link away from the file, chain-41 is 41 away.
    symlink("file", root.join("chain-1")).expect("a link");
    for number in 2..=41 {
        symlink(format!("chain-{}", number - 1), root.join(format!("chain-{number}"))).expect("a link");
    }
    (world, handle)
}

const FLAGS: [i32; 7] = [
    libc::O_PATH,
    libc::O_PATH | libc::O_NOFOLLOW,
    libc::O_PATH | libc::O_DIRECTORY,
    libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW,
    libc::O_RDONLY,
    libc::O_RDONLY | libc::O_NOFOLLOW,
    libc::O_RDONLY | libc::O_DIRECTORY,
];

/// Paths into `world`.
const PATHS: &str = "\
    / // . .. /. /.. ../.. a /a a/ a//b /a/./b a/../a/b a/b/c/../../.. file /file file/ file// file/. file/.. \
    file/x ./file ../file ../../../file nothing nothing/ nothing/x a/nothing relative relative/ relative/file \
    relative/.. absolute absolute/ absolute/file absolute/../b/file slash slash/file up up/ up/file \
    up/up/up/a/b far far/ secret host top top/ top/a top/top/top/file dangling dangling/ new self self/ self/x \
    ping pong/x tofile tofile/ tofile/x a/parent a/parent/file a/parent/a/parent/a/b a/b/over a/b/over/.. dot \
    dot/ dot/dot/dot/a relative/../../file a/b/../../../../root/file";

#[test]
fn both_ways_agree_about_every_path_and_nothing_leads_outside() {
    let (world, root) = world();
    let long = "n".repeat(255);
    let mut paths: Vec<CString> = PATHS.split_whitespace().chain([""]).map(c).collect();
    paths.extend((38..=41).map(|number| c(format!("chain-{number}"))));
    paths.extend((38..=41).map(|number| c(format!("chain-{number}/"))));
    paths.push(c(&long));
    paths.push(c(format!("{long}n")));
    paths.push(c(format!("{long}n/..")));
    paths.push(c(format!("a/../{long}")));
    for length in [4094, 4095, 4096] {
        let path = "./".repeat(length / 2) + "file";
        paths.push(c(&path[path.len() - length..]));
        paths.push(c("/".repeat(length - 4) + "file"));
    }
    let secret = fs::metadata(world.path().join("secret")).expect("a file").ino();
    let above = fs::metadata(world.path()).expect("a directory").ino();
    let mut opened = 0;
    for path in &paths {
        for flags in FLAGS {
            if let Ok((_, inode, _)) = open(root.as_fd(), path, flags) {
                assert!(inode != secret && inode != above, "{path:?} leads outside");
                opened += 1;
            }
        }
    }
    assert!(opened > 200, "{opened}");
}

#[test]
fn some_answers_in_full() {
    let (world, root) = world();
    let inode = |path: &str| fs::metadata(world.path().join("root").join(path)).expect("it exists").ino();
    let open = |path: &str| open(root.as_fd(), &c(path), libc::O_PATH).map(|found| found.1);
    assert_eq!(open("/.."), Ok(inode("")));
    assert_eq!(open("up/up/../.."), Ok(inode("")));
    assert_eq!(open("far"), Ok(inode("file")));
    assert_eq!(open("absolute/file"), Ok(inode("a/b/file")));
    assert_eq!(open("a/b/over"), Ok(inode("a/b/c")));
    assert_eq!(open("chain-40"), Ok(inode("file")));
    assert_eq!(open("chain-41"), Err(Errno::ELOOP));
    assert_eq!(open("self"), Err(Errno::ELOOP));
    // `..` stays at the root, so this link points at itself.
    assert_eq!(open("secret"), Err(Errno::ELOOP));
    assert_eq!(open("host"), Err(Errno::ENOENT));
    assert_eq!(open("file/"), Err(Errno::ENOTDIR));
    assert_eq!(open(""), Err(Errno::ENOENT));
}

#[test]
fn files_are_made_where_links_inside_lead_and_nowhere_else() {
    // A fresh world for each way, so that both find the same.
    let cases = [
        "fresh",
        "a/fresh",
        "new",
        "dangling",
        "secret",
        "host",
        "nothing/fresh",
        "file",
        "tofile",
        "fresh/",
        "a",
        "up/fresh",
    ];
    for exclusive in [0, libc::O_EXCL, libc::O_NOFOLLOW] {
        for case in cases {
            let flags = libc::O_WRONLY | libc::O_CREAT | exclusive;
            let attempt = |walking: bool| {
                let (world, root) = world();
                let path = c(case);
                let opened = if walking {
                    sys::open_inside_by_walking(root.as_fd(), &path, flags, 0o640)
                } else {
                    sys::open_inside(root.as_fd(), &path, flags, 0o640)
                };
                let mut names = names(world.path());
                names.iter_mut().for_each(|name| *name = name.strip_prefix(world.path()).expect("below").to_owned());
                names.sort();
                (opened.map(|_| ()), names)
            };
            assert_eq!(attempt(true), attempt(false), "{case} with {exclusive:o}");
        }
    }
}

/// Every path below `directory` but the long ones, without following links.
fn names(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path());
    let below = |path: &PathBuf| if path.is_dir() && !path.is_symlink() { names(path) } else { Vec::new() };
    let mut names: Vec<_> = entries.flat_map(|path| [vec![path.clone()], below(&path)].concat()).collect();
    names.retain(|path| path.as_os_str().len() < 200 && !path.to_string_lossy().contains("chain"));
    names
}

#[test]
fn links_of_procfs_that_jump_are_refused_and_others_followed() {
    let root = File::open("/proc").expect("procfs");
    for path in ["self/exe", "self/cwd", "self/root", "self/root/etc", "self/fd/0", "self/ns/net", "thread-self/exe"] {
        assert_eq!(open(root.as_fd(), &c(path), libc::O_PATH), Err(Errno::ELOOP), "{path}");
        assert!(
            open(root.as_fd(), &c(path), libc::O_PATH | libc::O_NOFOLLOW).is_ok() || path.ends_with("etc"),
            "{path}"
        );
    }
    for path in ["self/status", "mounts", "net/dev"] {
        assert!(open(root.as_fd(), &c(path), libc::O_RDONLY).is_ok(), "{path}");
    }
}

/// While somebody exchanges a directory and a link to the outside, only what is inside is ever opened.
#[test]
fn no_race_leads_outside() {
    let (world, root) = world();
    let inside = world.path().join("root");
    fs::create_dir(world.path().join("outside")).expect("a directory");
    fs::write(world.path().join("outside/file"), "outside").expect("a file");
    symlink("../../../../../../../../../../../../../../outside", inside.join("a/swap")).expect("a link");
    symlink(world.path().join("outside"), inside.join("a/other")).expect("a link");
    let forbidden = fs::metadata(world.path().join("outside/file")).expect("a file").ino();
    let allowed = fs::metadata(inside.join("a/b/file")).expect("a file").ino();
    let stop = AtomicBool::new(false);
    let (mut successes, mut attempts) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let exchange = |left: &str, right: &str| {
                let path = |name: &str| c(inside.join(name).as_os_str().as_bytes());
                let exchange = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
                nix::fcntl::renameat2(nix::fcntl::AT_FDCWD, &*path(left), nix::fcntl::AT_FDCWD, &*path(right), exchange)
            };
            while !stop.load(Ordering::Relaxed) {
                exchange("a/b", "a/swap").expect("an exchange");
                exchange("a/b", "a/other").expect("an exchange");
            }
        });
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(600) {
            for path in [c"a/b/file", c"a/b/c/../file", c"relative/file", c"a/swap/c/../file"] {
                for walking in [true, false] {
                    let flags = libc::O_RDONLY;
                    let opened = if walking {
                        sys::open_inside_by_walking(root.as_fd(), path, flags, 0)
                    } else {
                        sys::open_inside(root.as_fd(), path, flags, 0)
                    };
                    attempts += 1;
                    match found(opened) {
                        Ok((_, inode, _)) => {
                            assert_ne!(inode, forbidden);
                            assert_eq!(inode, allowed);
                            successes += 1;
                        }
                        Err(errno) => assert!(
                            [Errno::ENOENT, Errno::ENOTDIR, Errno::ELOOP].contains(&errno),
                            "{path:?}: {errno:?}"
                        ),
                    }
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(successes > 10 && successes < attempts, "{successes} of {attempts}: no race took place");
}

#[test]
fn walking_leaves_no_descriptor_open() {
    let (_world, root) = world();
    let mut kernel = Counting(0);
    for path in
        [c"a/b/c/../../..", c"relative/file", c"chain-40", c"chain-41", c"a/b/nothing/x", c"file/x", c"/..", c"self"]
    {
        kernel.0 = 0;
        let opened = super::super::resolve::walk(&mut kernel, root.as_raw_fd(), path, libc::O_PATH, 0);
        let expected = opened.map_or(0, |number| {
            drop(owned(number as usize));
            1
        });
        assert_eq!(kernel.0, expected, "{path:?}");
    }
    let deep = c("a/../".repeat(300) + "a/b");
    assert!(sys::open_inside_by_walking(root.as_fd(), &deep, libc::O_PATH, 0).is_ok());
}

/// Linux, with a count of the descriptors opened and not closed.
struct Counting(i64);

impl Kernel for Counting {
    fn perform(&mut self, call: Call<'_>) -> Result<usize, Errno> {
        let answer = Linux.perform(call);
        match (sys::names::name(call.number()).as_str(), answer) {
            ("openat", Ok(_)) => self.0 += 1,
            ("close", Ok(_)) => self.0 -= 1,
            _ => {}
        }
        answer
    }
}

/// Deeper than the walk remembers: it says so instead of losing its way.
#[test]
fn a_path_too_deep_to_walk_is_refused() {
    let world = tempfile::tempdir().expect("a directory");
    let deep = "d/".repeat(130);
    fs::create_dir_all(world.path().join(&deep)).expect("directories");
    let root = File::open(world.path()).expect("a directory");
    assert_eq!(
        found(sys::open_inside_by_walking(root.as_fd(), &c(&deep), libc::O_PATH, 0)).err(),
        Some(Errno::ENAMETOOLONG)
    );
    let less = "d/".repeat(128);
    assert!(sys::open_inside_by_walking(root.as_fd(), &c(&less), libc::O_PATH, 0).is_ok());
}
