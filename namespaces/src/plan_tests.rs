//! Golden plans: one line each for what is cloned with, what is joined and what is done.

use super::*;
use crate::caller::Caller;
use crate::source::{Source, Target};
use crate::time_offsets::{Offset, TimeOffsets};

fn root() -> Selection {
    Selection::new(&Caller::new(0, 0).capabilities(u64::MAX))
}

fn ann() -> Selection {
    Selection::new(&Caller::new(1000, 1000))
}

fn new(selection: Selection, kinds: &[Kind]) -> Selection {
    kinds.iter().fold(selection, |selection, kind| selection.namespace(*kind, Source::New))
}

fn join(selection: Selection, pid: u32, kinds: &[Kind]) -> Selection {
    let source = || Source::Join(Target::Process(pid));
    kinds.iter().fold(selection, |selection, kind| selection.namespace(*kind, source()))
}

fn path(selection: Selection, kind: Kind) -> Selection {
    selection.namespace(kind, Source::Join(Target::Path(format!("/run/{kind}").into())))
}

fn maps() -> IdMaps {
    IdMaps::for_user(&Caller::new(1000, 1000), "1000:100000:65536", "1000:100000:65536").unwrap()
}

fn own(selection: Selection) -> Selection {
    selection.id_maps(IdMaps::own(&Caller::new(1000, 1000)).unwrap(), MapMethod::Own)
}

/// The plan in words.
fn show(selection: Selection) -> String {
    let plan = selection.plan(Slot(4)).unwrap();
    let kinds = |flags: u32| {
        let set = NamespaceSet::from_flags(flags);
        assert_eq!(set.flags(), flags, "nothing but kinds");
        set.to_string()
    };
    let mut lines = vec![format!("clone {}", kinds(plan.clone_flags().try_into().unwrap()))];
    lines.extend(plan.steps().iter().map(|step| match step {
        Step::Join { namespace, kinds: flags } => {
            let join = &plan.joins()[usize::from(namespace.0) - 4];
            assert_eq!(join.kinds.flags(), *flags);
            format!("join {} of {}", kinds(*flags), join.target)
        }
        Step::Unshare { kinds: flags } => format!("unshare {}", kinds(*flags)),
        Step::Fork { flags, cgroup } => {
            assert_eq!((*cgroup, plan.forks()), (Slot::NONE, true));
            format!("fork {}", kinds((*flags).try_into().unwrap()))
        }
        Step::Map { file, text } => format!("map {file:?} {:?}", text.to_str().unwrap()),
        Step::Wait { what, listener } => {
            assert_eq!((*listener, plan.maps_to_write().is_some()), (Slot::NONE, true));
            format!("wait {what:?}")
        }
        Step::TimeOffsets { text } => format!("clocks {:?}", text.to_str().unwrap()),
        Step::Hostname { name } => format!("hostname {name:?}"),
        Step::Domainname { name } => format!("domainname {name:?}"),
        Step::Ids { user, group } => format!("ids {user} {group}"),
        Step::Conceal {} => "conceal".into(),
        Step::Loopback {} => "loopback".into(),
        other => panic!("unexpected {other:?}"),
    }));
    lines.join("\n").replace("clone \n", "clone\n").replace("fork \n", "fork\n").trim_end().to_owned()
}

const SIX: &[Kind] = &[Kind::Mount, Kind::Pid, Kind::Net, Kind::Ipc, Kind::Uts, Kind::Cgroup];

#[test]
fn nothing_selected_nothing_done() {
    assert_eq!(show(root()), "clone\nconceal");
}

#[test]
fn an_oci_container_of_root_is_one_clone() {
    let selection = new(root(), SIX).hostname("box").domainname("example");
    assert_eq!(
        show(selection),
        "clone mnt, pid, net, ipc, uts, cgroup\nconceal\nhostname \"box\"\ndomainname \"example\"\nloopback"
    );
    assert_eq!(show(new(root(), &[Kind::Net]).loopback(Loopback::Down)), "clone net\nconceal");
}

#[test]
fn an_ordinary_user_maps_itself() {
    let selection = own(new(ann(), &[Kind::User, Kind::Mount, Kind::Pid]));
    assert_eq!(
        show(selection),
        "clone user, mnt, pid\nmap Groups \"deny\"\nmap Users \"0 1000 1\\n\"\nmap GroupIds \"0 1000 1\\n\"\nconceal"
    );
}

#[test]
fn ranges_are_written_by_the_parent() {
    let selection = new(root(), &[Kind::User, Kind::Mount]).id_maps(maps(), MapMethod::Parent);
    assert_eq!(show(selection), "clone user, mnt\nwait Maps\nconceal\nids 0 0");
    let no_root: IdMaps = IdMaps::new("5 100000 10".parse().unwrap(), "0 100000 10".parse().unwrap());
    let selection = new(root(), &[Kind::User]).id_maps(no_root, MapMethod::Parent);
    assert_eq!(show(selection), "clone user\nwait Maps\nconceal");
}

#[test]
fn a_new_time_namespace_takes_a_clone_more() {
    let offsets = TimeOffsets::new().boottime(Offset::new(7, 0).unwrap());
    let selection = new(root(), SIX).namespace(Kind::Time, Source::New).time_offsets(offsets).hostname("box");
    assert_eq!(
        show(selection.clone()),
        "clone mnt, net, ipc, uts\nunshare time\nclocks \"boottime 7 0\\n\"\nconceal\nfork pid, cgroup\n\
         hostname \"box\"\nloopback"
    );
    assert_eq!(
        show(selection.time_switch(TimeSwitch::Exec)),
        "clone mnt, pid, net, ipc, uts, cgroup\nunshare time\nclocks \"boottime 7 0\\n\"\nconceal\n\
         hostname \"box\"\nloopback"
    );
}

#[test]
fn exec_joins_everything_at_once() {
    let kinds = &[Kind::Mount, Kind::Pid, Kind::Net, Kind::Ipc, Kind::Uts, Kind::Cgroup, Kind::User, Kind::Time];
    let wanted = "clone\nconceal\njoin user, mnt, pid, net, ipc, uts, cgroup, time of process 7\nfork";
    assert_eq!(show(join(root(), 7, kinds)), wanted);
    assert_eq!(show(join(ann(), 7, kinds)), wanted);
    assert_eq!(show(join(root(), 7, &[Kind::Net])), "clone\njoin net of process 7\nconceal");
}

#[test]
fn privilege_is_given_away_last_and_taken_first() {
    let paths = |selection| [Kind::Mount, Kind::User, Kind::Net, Kind::Uts].into_iter().fold(selection, path);
    assert_eq!(
        show(paths(root())),
        "clone\nconceal\njoin net of /run/net\njoin uts of /run/uts\njoin mnt of /run/mnt\njoin user of /run/user"
    );
    assert_eq!(
        show(paths(ann())),
        "clone\nconceal\njoin user of /run/user\njoin net of /run/net\njoin uts of /run/uts\njoin mnt of /run/mnt"
    );
}

#[test]
fn what_is_new_belongs_to_the_joined_user_namespace() {
    let selection = new(path(root(), Kind::User), &[Kind::Mount, Kind::Pid, Kind::Net]);
    assert_eq!(show(selection), "clone\nconceal\njoin user of /run/user\nunshare mnt, net\nfork pid\nloopback");
}

#[test]
fn what_exists_is_joined_before_a_new_user_namespace_takes_the_right_away() {
    let selection = new(path(root(), Kind::Net), &[Kind::User, Kind::Mount, Kind::Pid, Kind::Cgroup]);
    assert_eq!(
        show(selection.id_maps(maps(), MapMethod::Parent)),
        "clone\njoin net of /run/net\nunshare user, mnt\nwait Maps\nconceal\nids 0 0\nfork pid, cgroup"
    );
    // Without a user namespace, joined and new ones do not touch each other.
    let selection = new(path(root(), Kind::Net), &[Kind::Mount, Kind::Pid]);
    assert_eq!(show(selection), "clone mnt, pid\njoin net of /run/net\nconceal");
}

#[test]
fn a_pod_shares_the_pid_namespace() {
    let selection = new(join(root(), 7, &[Kind::Pid, Kind::Net, Kind::Ipc, Kind::Uts]), &[Kind::Mount, Kind::Cgroup]);
    assert_eq!(show(selection), "clone mnt\njoin pid, net, ipc, uts of process 7\nconceal\nfork cgroup");
}

#[test]
fn names_of_a_joined_uts_namespace_are_set_before_the_right_to_is_lost() {
    let selection = new(path(root(), Kind::Uts), &[Kind::User]).hostname("box");
    assert_eq!(
        show(selection.id_maps(maps(), MapMethod::Parent)),
        "clone\njoin uts of /run/uts\nhostname \"box\"\nunshare user\nwait Maps\nconceal\nids 0 0"
    );
    let selection = path(path(root(), Kind::Uts), Kind::User).domainname("box");
    assert_eq!(show(selection), "clone\nconceal\njoin uts of /run/uts\njoin user of /run/user\ndomainname \"box\"");
}
