//! resctrl without a processor that has it: what is done is remembered, and what the kernel would answer is made up.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::*;

/// Directories with the files that resctrl puts into them, and all that was done, in order.
#[derive(Default)]
struct Fake {
    directories: RefCell<Vec<PathBuf>>,
    texts: RefCell<BTreeMap<PathBuf, String>>,
    done: RefCell<Vec<String>>,
    /// What fails, with which number.
    fails: Option<(&'static str, i32)>,
}

impl Fake {
    fn new(directories: &[&str]) -> Self {
        let fake = Self::default();
        fake.directories.borrow_mut().push("/r".into());
        fake.directories.borrow_mut().extend(directories.iter().map(PathBuf::from));
        fake
    }

    fn text(self, file: &str, text: &str) -> Self {
        self.texts.borrow_mut().insert(file.into(), text.to_owned());
        self
    }

    fn failing(mut self, what: &'static str, errno: i32) -> Self {
        self.fails = Some((what, errno));
        self
    }

    fn done(&self, what: String) -> io::Result<()> {
        let fails = self.fails.filter(|(begin, _)| what.starts_with(begin));
        self.done.borrow_mut().push(what);
        fails.map_or(Ok(()), |(_, errno)| Err(io::Error::from_raw_os_error(errno)))
    }

    fn create(&self, request: &Request) -> Result<Class> {
        create(self, Path::new("/r"), request, "box")
    }

    fn log(&self) -> Vec<String> {
        self.done.borrow().clone()
    }
}

impl Files for Fake {
    fn exists(&self, directory: &Path) -> bool {
        self.directories.borrow().iter().any(|there| there == directory)
    }

    fn make(&self, directory: &Path) -> io::Result<()> {
        if self.exists(directory) {
            return Err(io::Error::from_raw_os_error(nix::libc::EEXIST));
        }
        self.done(format!("mkdir {}", directory.display()))?;
        self.directories.borrow_mut().push(directory.to_owned());
        Ok(())
    }

    fn read(&self, file: &Path) -> io::Result<String> {
        self.texts.borrow().get(file).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn append(&self, file: &Path, text: &str) -> io::Result<()> {
        self.done(format!("{} < {}", file.display(), text.escape_debug()))
    }

    fn remove(&self, directory: &Path) -> io::Result<()> {
        self.directories.borrow_mut().retain(|there| there != directory);
        self.done(format!("rmdir {}", directory.display()))
    }
}

fn paths(list: &[&str]) -> Vec<PathBuf> {
    list.iter().map(PathBuf::from).collect()
}

#[test]
fn lines_are_written_in_their_order() {
    let fake = Fake::new(&[]);
    let request = Request::new().schema("L3:0=1").schema("MB:0=20").bandwidth("MB:0=10").l3("L3:0=f");
    let class = fake.create(&request).unwrap();
    add(&fake, &class, 7).unwrap();
    assert_eq!(
        fake.log(),
        [
            "mkdir /r/box",
            "/r/box/schemata < L3:0=f\\n",
            "/r/box/schemata < MB:0=10\\n",
            "/r/box/schemata < L3:0=1\\n",
            "/r/box/schemata < MB:0=20\\n",
            "/r/box/tasks < 7\\n",
        ]
    );
    assert_eq!(class.directories(), paths(&["/r/box"]));
}

#[test]
fn without_a_schema_none_is_written() {
    let fake = Fake::new(&[]);
    fake.create(&Request::new()).unwrap();
    assert_eq!(fake.log(), ["mkdir /r/box"]);
}

#[test]
fn a_named_class_without_a_schema_must_be_there() {
    let fake = Fake::new(&["/r/gold"]);
    let class = fake.create(&Request::new().class("gold")).unwrap();
    add(&fake, &class, 7).unwrap();
    assert_eq!(fake.log(), ["/r/gold/tasks < 7\\n"]);
    assert!(class.directories().is_empty(), "it is not ours to remove");
    let error = fake.create(&Request::new().class("silver")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("silver"), "{error}");
}

#[test]
fn a_named_class_with_a_schema_is_made_and_stays() {
    let fake = Fake::new(&[]);
    let class = fake.create(&Request::new().class("gold").l3("L3:0=f")).unwrap();
    assert_eq!(fake.log(), ["mkdir /r/gold", "/r/gold/schemata < L3:0=f\\n"]);
    assert!(class.directories().is_empty());
    assert_eq!(class.made, paths(&["/r/gold"]), "until the container has come to be");
}

#[test]
fn a_named_class_that_is_there_must_have_the_schema() {
    let text = "    L3:0=00f;1=0ff\n    MB:0=100\n";
    let fake = || Fake::new(&["/r/gold"]).text("/r/gold/schemata", text).text("/r/schemata", text);
    for name in ["gold", "/"] {
        let same = fake();
        same.create(&Request::new().class(name).l3("L3:0=f;1=ff").bandwidth("MB:0=100")).unwrap();
        assert!(same.log().is_empty(), "nothing is written");
        for other in [Request::new().l3("L3:0=1"), Request::new().bandwidth("MB:0=10"), Request::new().schema("L2:0=1")]
        {
            let error = fake().create(&other.class(name)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotApplied, "{error}");
        }
    }
}

#[test]
fn the_default_class_is_the_root() {
    let fake = Fake::new(&["/r/mon_groups"]);
    let class = fake.create(&Request::new().class("/").monitoring()).unwrap();
    add(&fake, &class, 7).unwrap();
    let log = ["mkdir /r/mon_groups/box", "/r/tasks < 7\\n", "/r/mon_groups/box/tasks < 7\\n"];
    assert_eq!(fake.log(), log);
    assert_eq!(class.directories(), paths(&["/r/mon_groups/box"]));
}

#[test]
fn monitoring_groups_go_before_their_class() {
    let fake = Fake::new(&[]);
    let class = fake.create(&Request::new().monitoring()).unwrap();
    assert_eq!(class.directories(), paths(&["/r/box/mon_groups/box", "/r/box"]));
}

#[test]
fn what_fails_is_told_with_the_reason_and_leaves_nothing() {
    let status = "/r/info/last_cmd_status";
    let full = Fake::new(&[]).text(status, "ok\n").failing("mkdir /r/box", nix::libc::ENOSPC);
    let error = full.create(&Request::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Os(nix::libc::ENOSPC));
    assert_eq!(error.to_string(), "cannot make /r/box");
    let bad = Fake::new(&[]).text(status, "Mask out of range\n").failing("/r/box/schemata", nix::libc::EINVAL);
    let error = bad.create(&Request::new().l3("L3:0=fffff")).unwrap_err();
    assert_eq!(error.to_string(), "cannot write L3:0=fffff to /r/box/schemata (Mask out of range)");
    assert_eq!(bad.log().last().map(String::as_str), Some("rmdir /r/box"));
    let blind = Fake::new(&[]).failing("mkdir /r/gold/mon_groups", nix::libc::EOPNOTSUPP);
    let error = blind.create(&Request::new().class("gold").l3("L3:0=f").monitoring()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(blind.log().last().map(String::as_str), Some("rmdir /r/gold"), "nobody uses it yet");
    let taken = Fake::new(&["/r/box"]);
    assert_eq!(taken.create(&Request::new()).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert!(taken.log().is_empty(), "it was not ours");
}

#[test]
fn nonsense_is_refused_before_anything_is_touched() {
    let bad = [
        Request::new().class(".."),
        Request::new().class("a/b"),
        Request::new().class("info"),
        Request::new().class(""),
        Request::new().l3("L3:0=1\nMB:0=1"),
        Request::new().schema(" "),
        Request::new().bandwidth("L3:0=1"),
    ];
    for request in bad {
        let fake = Fake::new(&[]);
        let error = fake.create(&request).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::InvalidPath | ErrorKind::InvalidLimit), "{error}");
        assert!(fake.log().is_empty(), "{request:?}");
    }
    let nowhere = Resctrl::at("/nowhere").create(&Request::new(), "box").unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::Unsupported);
}

#[test]
fn a_mount_is_found_by_its_type() {
    let text =
        b"30 24 0:26 / /sys/fs/cgroup rw - cgroup2 c rw\n31 24 0:27 / /sys/fs/res\\040ctrl rw - resctrl resctrl rw\n";
    assert_eq!(mount_points(text, "resctrl"), paths(&["/sys/fs/res ctrl"]));
    assert!(mount_points(b"", "resctrl").is_empty());
}
