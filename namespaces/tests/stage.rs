//! Plans performed by the real stage, and what the kernel shows of the outcome.

mod support;

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};

use keelbox_launch::{Errno, Event, Failure, Launch, OwnedStep, Slot, Step, list, sys};
use keelbox_namespaces::{
    Caller, Helpers, IdMaps, Kind, MapMethod, NamespaceSet, Namespaces, Offset, Plan, Selection, Source, Target,
    TimeOffsets, TimeSwitch, ns_pids, subordinate_texts, write,
};
use keelbox_testkit::Result;
use support::Sleeper;

const SIX: [Kind; 6] = [Kind::Mount, Kind::Pid, Kind::Net, Kind::Ipc, Kind::Uts, Kind::Cgroup];

/// A program that sleeps where a plan has put it. Killed and reaped when dropped.
struct Program {
    pidfd: OwnedFd,
    pid: u32,
}

impl Program {
    fn start(plan: &Plan) -> Result<Self> {
        Self::start_with(plan, plan.steps().to_vec())
    }

    fn start_with(plan: &Plan, mut steps: Vec<OwnedStep>) -> Result<Self> {
        let (paths, arguments) = (list(["/bin/sleep", "/usr/bin/sleep"]), list(["sleep", "1000"]));
        steps.push(Step::Exec { paths, arguments, environment: Vec::new() });
        let descriptors = plan.open()?;
        let launch = Launch::new(&steps).namespaces(plan.clone_flags());
        let started = launch.descriptors(descriptors.iter().map(AsFd::as_fd)).start()?;
        let mut control = started.control;
        let mut program = Self { pidfd: started.pidfd, pid: started.pid };
        loop {
            match control.event(Some(std::time::Duration::from_secs(20)))? {
                Event::Waiting(_) => {
                    let (maps, method) = plan.maps_to_write().expect("it waits for maps only if there are some");
                    write(program.pid, maps, method)?;
                    control.proceed(&[], &[], 3)?;
                }
                Event::Forked { pidfd, pid } => {
                    // The stage is in the host's pid namespace, so the number is the host's. It ends by itself.
                    let stage = std::mem::replace(&mut program, Self { pidfd, pid });
                    drop(stage);
                }
                Event::Running => return Ok(program),
                Event::Failed(failure) => return Err(failure.into()),
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    fn namespaces(&self) -> Result<Namespaces> {
        Ok(Namespaces::of(self.pid)?)
    }

    fn file(&self, name: &str) -> Result<String> {
        let text = fs::read_to_string(format!("/proc/{}/{name}", self.pid))?;
        Ok(text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect::<Vec<_>>()
            .join("\n"))
    }

    fn status(&self, field: &str) -> Result<String> {
        let status = self.file("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(": "));
        Ok(line.ok_or("no such field")?.to_owned())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself; reaping it tells.
        let _ = sys::send_signal(self.pidfd.as_fd(), 9);
        sys::wait(&self.pidfd).expect("it is a child");
    }
}

fn new(selection: Selection, kinds: impl IntoIterator<Item = Kind>) -> Selection {
    kinds.into_iter().fold(selection, |selection, kind| selection.namespace(kind, Source::New))
}

fn week() -> TimeOffsets {
    TimeOffsets::new().boottime(Offset::new(604_800, 0).expect("a number of seconds"))
}

fn differing(program: &Program) -> Result<NamespaceSet> {
    Ok(program.namespaces()?.differing_from(&Namespaces::own()?))
}

#[test]
fn root_gets_all_but_a_user_namespace() -> Result {
    keelbox_testkit::require!(Root, NetNamespace, Exists("/proc/self/ns/time"));
    let before = keelbox_testkit::host_name()?;
    for switch in [TimeSwitch::Fork, TimeSwitch::Exec] {
        let selection = new(Selection::new(&Caller::current()?), SIX.into_iter().chain([Kind::Time]));
        let selection = selection.time_offsets(week()).hostname("inner").domainname("example").time_switch(switch);
        let program = Program::start(&selection.plan(Slot(0))?)?;
        let wanted = NamespaceSet::from_iter(SIX);
        if switch == TimeSwitch::Fork {
            assert_eq!(differing(&program)?, wanted.and(Kind::Time));
        } else {
            // Depends on the kernel, which is why it is not the default.
            assert_eq!(differing(&program)?.without(Kind::Time), wanted);
        }
        assert_eq!(ns_pids(program.pid)?, [program.pid, 1]);
        assert_eq!(program.file("timens_offsets")?, "monotonic 0 0\nboottime 604800 0");
        let names = program.namespaces()?.only([Kind::Uts]).run(|| {
            ["hostname", "domainname"].map(|name| fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap())
        })?;
        assert_eq!(names, ["inner\n", "example\n"]);
        let connected = program.namespaces()?.only([Kind::Net]).run(|| {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            TcpStream::connect(listener.local_addr()?)
        })?;
        connected?;
    }
    assert_eq!(keelbox_testkit::host_name()?, before);
    Ok(())
}

#[test]
fn an_ordinary_user_needs_nothing() -> Result {
    keelbox_testkit::require!(OrdinaryUser, UserNamespace, Exists("/proc/self/ns/time"));
    keelbox_testkit::as_user!();
    let caller = Caller::current()?;
    let maps = IdMaps::own(&caller)?;
    let method = MapMethod::choose(&maps, &caller, None)?;
    let selection = new(Selection::new(&caller), Kind::ALL).id_maps(maps, method).time_offsets(week()).hostname("mine");
    let plan = selection.plan(Slot(0))?;
    let program = Program::start(&plan)?;
    assert_eq!(differing(&program)?, NamespaceSet::from_iter(Kind::ALL));
    assert_eq!(program.file("uid_map")?, format!("0 {} 1", caller.user_id()));
    assert_eq!(program.file("gid_map")?, format!("0 {} 1", caller.group_id()));
    assert_eq!(program.file("setgroups")?, "deny");
    assert_eq!(program.file("timens_offsets")?, "monotonic 0 0\nboottime 604800 0");
    let inside = program.namespaces()?;
    let user = inside.get(Kind::User).expect("it has one");
    for kind in SIX.into_iter().chain([Kind::Time]) {
        assert_eq!(inside.get(kind).expect("it has one").owner()?, *user, "{kind}");
    }
    Ok(())
}

#[test]
fn a_stage_that_closes_itself_first_cannot_map_itself() -> Result {
    keelbox_testkit::require!(OrdinaryUser, UserNamespace);
    keelbox_testkit::as_user!();
    let caller = Caller::current()?;
    let selection = new(Selection::new(&caller), [Kind::User]).id_maps(IdMaps::own(&caller)?, MapMethod::Own);
    let plan = selection.plan(Slot(0))?;
    let mut steps = plan.steps().to_vec();
    let conceal = steps.iter().position(|step| *step == Step::Conceal {}).expect("it closes itself");
    steps.swap(0, conceal);
    let error = Program::start_with(&plan, steps).err().expect("its files in /proc belong to root");
    let failure = error.downcast_ref::<Failure>().expect("a step failed");
    assert_eq!((failure.step, failure.errno), (1, Errno::EACCES));
    Ok(())
}

#[test]
fn roots_ranges_are_written_by_the_parent() -> Result {
    keelbox_testkit::require!(Root, UserNamespace);
    let caller = Caller::current()?;
    let text = format!("{}:100000:65536", caller.user_id());
    let maps = IdMaps::subordinate(&caller, &text, &text)?;
    let method = MapMethod::choose(&maps, &caller, None)?;
    assert_eq!(method, MapMethod::Parent);
    let selection = new(Selection::new(&caller), SIX.into_iter().chain([Kind::User])).id_maps(maps, method);
    let program = Program::start(&selection.plan(Slot(0))?)?;
    assert_eq!(program.file("uid_map")?, "0 100000 65536");
    assert_eq!(program.file("setgroups")?, "allow");
    assert_eq!(program.status("Uid")?, "100000 100000 100000 100000");
    assert_eq!(program.status("Gid")?, "100000 100000 100000 100000");
    assert_eq!(differing(&program)?, NamespaceSet::from_iter(SIX).and(Kind::User));
    Ok(())
}

#[test]
fn what_root_joins_may_belong_to_others_than_what_it_makes() -> Result {
    keelbox_testkit::require!(Root, UserNamespace, NetNamespace, Program("unshare"));
    let caller = Caller::current()?;
    let sleeper = Sleeper::unshare(&["--net", "--uts"]);
    let other = Namespaces::of(sleeper.pid())?;
    let path = |kind: Kind| Source::Join(Target::Path(format!("/proc/{}/ns/{kind}", sleeper.pid()).into()));
    // A new user namespace beside a network that belongs to the host's.
    let maps = IdMaps::own(&caller)?;
    let selection = new(Selection::new(&caller), [Kind::User, Kind::Mount, Kind::Pid])
        .namespace(Kind::Net, path(Kind::Net))
        .namespace(Kind::Uts, path(Kind::Uts))
        .id_maps(maps, MapMethod::Parent)
        .hostname("joined");
    let program = Program::start(&selection.plan(Slot(0))?)?;
    let name = || fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(Namespaces::of(sleeper.pid())?.only([Kind::Uts]).run(name)?, "joined\n");
    let inside = program.namespaces()?;
    let shared = inside.shared_with(&other);
    for (kind, is_shared) in [(Kind::Net, true), (Kind::Uts, true), (Kind::User, false), (Kind::Mount, false)] {
        assert_eq!(shared.contains(kind), is_shared, "{kind}");
    }
    let user = inside.get(Kind::User).expect("it has one");
    assert_eq!(inside.get(Kind::Mount).expect("it has one").owner()?, *user);
    assert_ne!(inside.get(Kind::Net).expect("it has one").owner()?, *user);
    assert_eq!(ns_pids(program.pid)?, [program.pid, 1]);
    Ok(())
}

#[test]
fn what_is_new_belongs_to_a_joined_user_namespace() -> Result {
    keelbox_testkit::require!(Root, UserNamespace, Program("unshare"));
    let sleeper = Sleeper::unshare(&["--user", "--map-root-user"]);
    let host = Sleeper::unshare(&["--uts"]);
    let joined = |pid: u32, kind: Kind| Source::Join(Target::Path(format!("/proc/{pid}/ns/{kind}").into()));
    // Privilege is given away last: the uts namespace belongs to the host's user namespace.
    let selection = new(Selection::new(&Caller::current()?), [Kind::Net, Kind::Pid])
        .namespace(Kind::User, joined(sleeper.pid(), Kind::User))
        .namespace(Kind::Uts, joined(host.pid(), Kind::Uts));
    let program = Program::start(&selection.plan(Slot(0))?)?;
    let (inside, theirs) = (program.namespaces()?, Namespaces::of(sleeper.pid())?);
    assert_eq!(inside.get(Kind::User), theirs.get(Kind::User));
    assert_eq!(inside.get(Kind::Uts), Namespaces::of(host.pid())?.get(Kind::Uts));
    assert_eq!(Some(&inside.get(Kind::Net).expect("it has one").owner()?), theirs.get(Kind::User));
    assert_eq!(ns_pids(program.pid)?, [program.pid, 1]);
    Ok(())
}

fn joins_all_of(options: &[&str]) -> Result {
    let sleeper = Sleeper::unshare(options);
    let theirs = Namespaces::of(sleeper.pid())?;
    let plan = theirs.selection()?.plan(Slot(0))?;
    assert!(plan.forks() && plan.joins().len() == 1, "{plan:?}");
    let program = Program::start(&plan)?;
    assert_eq!(program.namespaces()?.shared_with(&theirs), theirs.kinds());
    let pids = ns_pids(program.pid)?;
    assert_eq!(pids.first(), Some(&program.pid));
    assert!(pids.len() == 2 && pids[1] > 1, "{pids:?}");
    Ok(())
}

#[test]
fn root_joins_all_namespaces_of_a_process() -> Result {
    keelbox_testkit::require!(Root, NetNamespace, UserNamespace, Program("unshare"), Exists("/proc/self/ns/time"));
    let all = ["--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup", "--time", "--fork", "--kill-child"];
    joins_all_of(&all)?;
    joins_all_of(&[&all[..], &["--user", "--map-root-user"]].concat())
}

#[test]
fn an_ordinary_user_joins_all_namespaces_of_its_process() -> Result {
    keelbox_testkit::require!(OrdinaryUser, UserNamespace, Program("unshare"), Exists("/proc/self/ns/time"));
    keelbox_testkit::as_user!();
    joins_all_of(&[
        "--user",
        "--map-root-user",
        "--mount",
        "--pid",
        "--net",
        "--ipc",
        "--uts",
        "--cgroup",
        "--time",
        "--fork",
        "--kill-child",
    ])
}

#[test]
fn lent_ids_are_mapped_by_the_helper_programs() -> Result {
    keelbox_testkit::require!(OrdinaryUser, UserNamespace, Exists("/usr/bin/newuidmap"), Exists("/usr/bin/newgidmap"));
    keelbox_testkit::as_user!();
    let caller = Caller::current()?;
    let (users, groups) = subordinate_texts()?;
    let Ok(maps) = IdMaps::for_user(&caller, &users, &groups) else {
        eprintln!("SKIP lent_ids_are_mapped_by_the_helper_programs: /etc/subuid lends nothing to {caller}");
        return Ok(());
    };
    let method = MapMethod::choose(&maps, &caller, Helpers::find())?;
    assert!(matches!(method, MapMethod::Helper(_)), "{method:?}");
    let text = maps.users().text();
    let plan = new(Selection::new(&caller), [Kind::User, Kind::Mount]).id_maps(maps, method).plan(Slot(0))?;
    let program = Program::start(&plan)?;
    assert_eq!(program.file("uid_map")?, text.trim_end());
    Ok(())
}
