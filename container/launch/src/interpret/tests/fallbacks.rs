//! What the machine does on kernels that lack a call.

use super::script::tree;
use super::{CONTROL, Made, Recorder, perform, usual};
use crate::interpret::Stop;
use crate::owned::OwnedStep;
use crate::step::{Create, Slot, Step};
use crate::sys::{Call, Errno};
use crate::{list, text};

const MS_BIND_REMOUNT: usize = 0x1000 | 0x20;

fn without<'p>(
    names: &'p [&'p str],
    errno: Errno,
) -> impl FnMut(usize, &Made, &Call<'_>) -> Option<Result<usize, Errno>> + 'p {
    move |_, made, _| names.contains(&made.name.as_str()).then_some(Err(errno))
}

fn mounts(kernel: &Recorder<'_>) -> Vec<(String, usize)> {
    let made = kernel.made.iter().filter(|made| made.name == "mount");
    made.map(|made| (made.texts.join(" "), made.arguments[3])).collect()
}

#[test]
fn attributes_of_a_tree_wait_for_its_place() {
    let attach = Step::Attach { tree: Slot(3), target: text("/data"), create: Create::Nothing };
    let (outcome, kernel) = perform(&[tree("/srv", 1, 3), attach], CONTROL, without(&["mount_setattr"], Errno::ENOSYS));
    assert_eq!(outcome, Ok(()));
    let expected = [("/proc/self/fd/1001".to_owned(), MS_BIND_REMOUNT | 1), ("/proc/self/fd/1001".to_owned(), 1 << 18)];
    assert_eq!(mounts(&kernel), expected);
}

/// Two containers with the same root may make the same place to mount on; a link that leads nowhere is none.
#[test]
fn a_place_that_another_one_has_made_meanwhile_is_as_good() {
    for (second, expected) in
        [(None, Ok(())), (Some(Err(Errno::ENOENT)), Err(Stop::Failed { step: 1, errno: Errno::EEXIST }))]
    {
        let attach = Step::Attach { tree: Slot(3), target: text("/etc/hosts"), create: Create::File };
        let mut looked = 0;
        let (outcome, _) = perform(&[tree("/srv", 0, 3), attach], CONTROL, |_, made, _| match made.name.as_str() {
            "openat2" if made.texts == ["/etc/hosts"] => {
                looked += 1;
                if looked == 1 { Some(Err(Errno::ENOENT)) } else { second }
            }
            "openat" if made.texts == ["hosts"] => Some(Err(Errno::EEXIST)),
            _ => None,
        });
        assert_eq!((outcome, looked), (expected, 2));
    }
}

#[test]
fn the_new_root_is_as_read_only_as_it_was_asked_for() {
    let steps = [tree("/srv", 1, 0), Step::PivotRoot { tree: Slot(0), detached: 1 }];
    let (outcome, kernel) = perform(&steps, CONTROL, without(&["mount_setattr"], Errno::ENOSYS));
    assert_eq!(outcome, Ok(()));
    assert!(mounts(&kernel).contains(&("/proc/self/fd/1001".to_owned(), MS_BIND_REMOUNT | 1)), "{:?}", mounts(&kernel));
    let steps = [tree("/srv", 1, 0), Step::MoveRoot { tree: Slot(0) }];
    let (_, kernel) = perform(&steps, CONTROL, without(&["mount_setattr"], Errno::ENOSYS));
    assert!(mounts(&kernel).contains(&("/proc/self/fd/1001".to_owned(), MS_BIND_REMOUNT | 1)), "{:?}", mounts(&kernel));
}

#[test]
fn what_a_remount_cannot_do_is_refused() {
    let mut whole = tree("/srv", 1, 0);
    if let Step::Tree { recursive, attributes_recursive, .. } = &mut whole {
        (*recursive, *attributes_recursive) = (0x8000, 0x8000);
    }
    let mut mapped = tree("/srv", 0, 0);
    if let Step::Tree { idmap, .. } = &mut mapped {
        *idmap = Slot(5);
    }
    let recursive = Step::Attributes { target: text("/data"), set: 1, clear: 0, propagation: 0, recursive: 0x8000 };
    let namespace = Step::Open { path: text("/proc/self/ns/user"), out: Slot(5) };
    for step in [whole, mapped, recursive] {
        let (outcome, _) = perform(&[namespace.clone(), step], CONTROL, without(&["mount_setattr"], Errno::ENOSYS));
        assert_eq!(outcome, Err(Stop::Failed { step: 1, errno: Errno::ENOSYS }));
    }
}

#[test]
fn a_remount_keeps_the_attributes_that_are_there() {
    const NOSUID_NODEV_NOATIME: u64 = 2 | 4 | 0x400;
    let flags = |step: OwnedStep| {
        let (outcome, kernel) = perform(&[step], CONTROL, |_, made, call| match made.name.as_str() {
            "mount_setattr" => Some(Err(Errno::ENOSYS)),
            "fstatfs" => {
                call.fill(1, 80, &(NOSUID_NODEV_NOATIME | 0x20).to_ne_bytes());
                Some(Ok(0))
            }
            _ => None,
        });
        assert_eq!(outcome, Ok(()));
        mounts(&kernel)[0].1
    };
    let attributes = |set, clear| Step::Attributes { target: text("/data"), set, clear, propagation: 0, recursive: 0 };
    assert_eq!(flags(attributes(1, 0)), MS_BIND_REMOUNT | 1 | 2 | 4 | 0x400);
    assert_eq!(flags(attributes(8, 4)), MS_BIND_REMOUNT | 8 | 2 | 0x400);
    assert_eq!(flags(Step::ReadOnly { target: text("/data") }), MS_BIND_REMOUNT | 1 | 2 | 4 | 0x400);
}

#[test]
fn an_overlay_is_made_by_mount_where_fsconfig_cannot() {
    let options = list(["lowerdir+=/a", "lowerdir+=/b", "upperdir=/u", "workdir=/w", "userxattr"]);
    let overlay = |directory| Step::FileSystem {
        kind: text("overlay"),
        options: options.clone(),
        set: 1,
        directory,
        out: Slot(0),
    };
    let no_layers = |_: usize, made: &Made, _: &Call<'_>| {
        made.texts.first().is_some_and(|key| key == "lowerdir+").then_some(Err(Errno::EINVAL))
    };
    let (outcome, kernel) = perform(&[overlay(Slot::NONE)], CONTROL, no_layers);
    assert_eq!(outcome, Ok(()));
    let data = "overlay merged overlay lowerdir=/a:/b,upperdir=/u,workdir=/w,userxattr";
    assert_eq!(mounts(&kernel), [(data.to_owned(), 1)]);
    let unmounted: Vec<_> =
        kernel.made.iter().filter(|made| made.name == "umount2").map(|made| &made.texts[0]).collect();
    assert_eq!(unmounted, ["merged", "."], "nothing of the detour stays");
    let open = Step::Open { path: text("/memory"), out: Slot(4) };
    let (outcome, kernel) = perform(&[open, overlay(Slot(4))], CONTROL, no_layers);
    assert_eq!(outcome, Ok(()));
    assert!(!kernel.names().contains(&"move_mount"), "the named directory is the place");
}

#[test]
fn masks_are_made_anew_where_they_cannot_be_copied() {
    let steps = [
        tree("/dev/null", 0, 1),
        Step::FileSystem { kind: text("tmpfs"), options: vec![], set: 15, directory: Slot::NONE, out: Slot(2) },
        tree("/srv", 0, 0),
        Step::PivotRoot { tree: Slot(0), detached: 1 },
        Step::Mask { target: text("/proc/kcore"), file: Slot(1), directory: Slot(2) },
        Step::Mask { target: text("/proc/acpi"), file: Slot(1), directory: Slot(2) },
        Step::LeaveOldRoot {},
        Step::Mask { target: text("/proc/keys"), file: Slot(1), directory: Slot(2) },
    ];
    let no_copies = |_: usize, made: &Made, _: &Call<'_>| match made.name.as_str() {
        "open_tree" if made.texts == [""] => Some(Err(Errno::EINVAL)),
        _ => None,
    };
    let (outcome, kernel) = perform(&steps[..7], CONTROL, no_copies);
    assert_eq!(outcome, Ok(()));
    let trees = |kernel: &Recorder<'_>| -> Vec<String> {
        kernel.made.iter().filter(|made| made.name == "open_tree").map(|made| made.texts[0].clone()).collect()
    };
    // Each mask covers the first of its kind itself.
    assert_eq!(trees(&kernel), ["/dev/null", "/srv"]);
    // The next one needs a copy, which cannot be had: another one is made, of the host's file as long as that is there.
    let mut again = steps[..6].to_vec();
    again.extend(steps[4..6].to_vec());
    let (outcome, kernel) = perform(&again, CONTROL, no_copies);
    assert_eq!(outcome, Ok(()));
    assert_eq!(trees(&kernel), ["/dev/null", "/srv", "", "dev/null", ""]);
    assert_eq!(kernel.names().iter().filter(|name| **name == "fsmount").count(), 2, "a directory of its own");
    // Without the host's root there is no /dev/null to trust.
    let (outcome, kernel) = perform(&steps, CONTROL, no_copies);
    assert_eq!(outcome, Err(Stop::Failed { step: 7, errno: Errno::EINVAL }), "{:?}", kernel.names());
}

/// Its mode is the host's, so it is read-only as soon as it has a place; a copy of it is so too.
#[test]
fn a_mask_is_as_read_only_as_it_was_asked_for() {
    let mask = |name: &str| Step::Mask { target: text(name), file: Slot(1), directory: Slot(2) };
    let steps = [tree("/dev/null", 1, 1), mask("/proc/kcore")];
    let (outcome, kernel) = perform(&steps, CONTROL, without(&["mount_setattr"], Errno::ENOSYS));
    assert_eq!(outcome, Ok(()));
    assert_eq!(mounts(&kernel)[0], ("/proc/self/fd/1001".to_owned(), MS_BIND_REMOUNT | 1));
    let again = [&steps[..], &[mask("/proc/keys")]].concat();
    let (outcome, kernel) = perform(&again, CONTROL, |_, made, _| {
        (made.name == "open_tree" && made.texts == [""]).then_some(Err(Errno::EINVAL))
    });
    assert_eq!(outcome, Ok(()));
    let attributes = kernel.made.iter().filter(|made| made.name == "mount_setattr").count();
    assert_eq!(attributes, 2, "one that cannot be copied is taken anew, and made so again");
}

/// In a procfs, the first mask of a kind is bound to the names after it, and no bind fails; what is not there costs one call.
#[test]
fn names_of_a_procfs_are_masked_with_few_calls() {
    let mask = |name: &str| Step::Mask { target: text(name), file: Slot(1), directory: Slot(2) };
    let directory =
        Step::FileSystem { kind: text("tmpfs"), options: vec![], set: 15, directory: Slot::NONE, out: Slot(2) };
    let before = [tree("/dev/null", 0, 1), directory, Step::Enter { path: text("/proc") }];
    let steps = [&before[..], &["acpi", "kcore", "keys", "scsi", "missing", "timer_list"].map(mask)].concat();
    let absent = |_: usize, made: &Made, _: &Call<'_>| {
        (made.name == "openat" && made.texts == ["missing"]).then_some(Err(Errno::ENOENT))
    };
    let (outcome, kernel) = perform(&steps, CONTROL, absent);
    assert_eq!(outcome, Ok(()));
    let bound = ["kcore keys", "acpi scsi", "kcore timer_list"];
    assert_eq!(mounts(&kernel), bound.map(|texts| (texts.to_owned(), 0x1000)));
    assert_eq!(
        kernel.names().iter().filter(|name| **name == "move_mount").count(),
        2,
        "each mask has one place itself"
    );
    // Elsewhere a name may be that of a link: nothing is found by its path twice.
    let (outcome, kernel) = perform(&steps, CONTROL, |_, made, call| match made.name.as_str() {
        "fstatfs" => {
            call.fill(1, 0, &0x0102_1994u64.to_ne_bytes());
            Some(Ok(0))
        }
        _ => None,
    });
    assert_eq!((outcome, mounts(&kernel)), (Ok(()), vec![]));
}

#[test]
fn names_of_a_procfs_are_made_read_only_by_a_remount_where_it_must_be() {
    let steps = [Step::Enter { path: text("/proc") }, Step::ReadOnly { target: text("bus") }];
    let (outcome, kernel) = perform(&steps, CONTROL, usual);
    assert_eq!((outcome, mounts(&kernel)), (Ok(()), vec![("bus bus".to_owned(), 0x5000)]));
    assert_eq!(kernel.made.last().map(|made| made.name.as_str()), Some("mount_setattr"));
    let (outcome, kernel) = perform(&steps, CONTROL, without(&["mount_setattr"], Errno::ENOSYS));
    assert_eq!(outcome, Ok(()));
    assert_eq!(mounts(&kernel), [("bus bus".to_owned(), 0x5000), ("bus".to_owned(), MS_BIND_REMOUNT | 1)]);
    let (outcome, _) = perform(&steps, CONTROL, without(&["mount_setattr"], Errno::EINVAL));
    assert_eq!(outcome, Err(Stop::Failed { step: 1, errno: Errno::EINVAL }));
}

/// What is known already is not asked for again.
#[test]
fn nothing_is_set_twice() {
    let mask = |mask| Step::Umask { mask };
    let (_, kernel) = perform(&[mask(0), mask(0), mask(0o22), mask(0o22), mask(0)], CONTROL, usual);
    assert_eq!(kernel.names(), ["umask", "umask", "umask"]);
    let sets = |inheritable, ambient| Step::Capabilities { effective: 1, permitted: 3, inheritable, ambient };
    let calls = |step: OwnedStep| perform(&[step], CONTROL, usual).1.made.len();
    assert_eq!([calls(sets(0, 0)), calls(sets(4, 0)), calls(sets(1, 0)), calls(sets(1, 1))], [1, 1, 2, 2]);
    let root = [tree("/srv", 0, 0), Step::PivotRoot { tree: Slot(0), detached: 1 }, Step::LeaveOldRoot {}];
    let at = |path: &str| Step::WorkingDirectory { path: text(path), create: 0 };
    let changes = |steps: &[OwnedStep]| {
        let (_, kernel) = perform(&[&root[..], steps].concat(), CONTROL, usual);
        kernel.names().iter().filter(|name| **name == "fchdir").count()
    };
    assert_eq!([changes(&[]), changes(&[at("/")]), changes(&[at("/srv"), at("/")])], [4, 4, 6]);
}

#[test]
fn clone_takes_the_place_of_clone3_but_for_cgroups() {
    for errno in [Errno::ENOSYS, Errno::EPERM] {
        let fork = |cgroup| [Step::Open { path: text("/c"), out: Slot(0) }, Step::Fork { flags: 0x2000_0000, cgroup }];
        let (outcome, kernel) = perform(&fork(Slot::NONE), CONTROL, without(&["clone3"], errno));
        assert_eq!(outcome, Ok(()));
        // CLONE_PARENT, CLONE_PIDFD, CLONE_NEWPID.
        assert_eq!(kernel.made.last().map(|made| made.arguments[0]), Some(0x2000_9000));
        let (outcome, _) = perform(&fork(Slot(0)), CONTROL, without(&["clone3"], errno));
        assert_eq!(outcome, Err(Stop::Failed { step: 1, errno }));
    }
}

/// The cgroup that it was to be born in had been killed once: the host reaps that child, and another one moves there.
#[test]
fn a_child_that_ended_before_it_ran_is_told_of_and_another_one_moves() {
    let steps = [Step::Open { path: text("/c"), out: Slot(0) }, Step::Fork { flags: 0, cgroup: Slot(0) }];
    let mut clones = [Ok(77), Ok(0)].into_iter();
    let (outcome, kernel) = perform(&steps, CONTROL, |_, made, _| match made.name.as_str() {
        "clone3" => clones.next(),
        "read" => Some(Ok(0)),
        _ => None,
    });
    assert_eq!(outcome, Ok(()));
    let names = kernel.names();
    let after = names.iter().position(|name| *name == "socketpair").expect("a line");
    let expected = ["clone3", "close", "read", "sendmsg", "clone3", "openat", "write", "close", "close"];
    assert_eq!(names[after + 1..], expected);
}

#[test]
fn a_child_that_lives_says_so_and_keeps_nothing() {
    let steps = [Step::Open { path: text("/c"), out: Slot(0) }, Step::Fork { flags: 0, cgroup: Slot(0) }];
    let (outcome, kernel) = perform(&steps, CONTROL, |_, made, _| (made.name == "clone3").then_some(Ok(0)));
    assert_eq!(outcome, Ok(()));
    assert_eq!(kernel.names()[2..], ["clone3", "write", "close", "close", "close"]);
}

#[test]
fn a_process_that_the_host_is_not_told_of_is_killed() {
    let (outcome, kernel) =
        perform(&[Step::Fork { flags: 0, cgroup: Slot::NONE }], CONTROL, |_, made, _| match made.name.as_str() {
            "clone3" => Some(Ok(77)),
            "sendmsg" => Some(Err(Errno::EPIPE)),
            _ => None,
        });
    assert_eq!(outcome, Err(Stop::HostGone));
    assert_eq!(kernel.names(), ["clone3", "sendmsg", "pidfd_send_signal"]);
    assert_eq!(kernel.made[2].arguments[1], 9);
}

#[test]
fn the_end_of_the_host_is_seen_when_the_signal_is_armed() {
    for (answer, expected) in
        [(Ok(0), Err(Stop::HostGone)), (Err(Errno::ECONNRESET), Err(Stop::HostGone)), (Ok(1), Ok(()))]
    {
        let (outcome, _) =
            perform(&[Step::Dies { signal: 9 }], CONTROL, |_, made, _| (made.name == "recvmsg").then_some(answer));
        assert_eq!(outcome, expected, "{answer:?}");
    }
    let (outcome, _) = perform(&[Step::Dies { signal: 9 }], CONTROL, usual);
    assert_eq!(outcome, Ok(()));
}

#[test]
fn a_working_directory_outside_is_none() {
    let step = Step::WorkingDirectory { path: text("/srv"), create: 0 };
    let (outcome, _) = perform(&[step], CONTROL, |_, made, call| {
        (made.name == "getcwd").then(|| {
            call.fill(0, 0, b"(unreachable)/srv\0");
            Ok(18)
        })
    });
    assert_eq!(outcome, Err(Stop::Failed { step: 0, errno: Errno::ENOENT }));
}

#[test]
fn a_root_that_something_else_was_stacked_on_is_not_left() {
    let steps = [tree("/srv", 0, 0), Step::PivotRoot { tree: Slot(0), detached: 1 }, Step::LeaveOldRoot {}];
    let (outcome, _) = perform(&steps, CONTROL, usual);
    assert_eq!(outcome, Ok(()));
    // The first call took away what was on top, and the second the host's root.
    let (outcome, kernel) = perform(&steps, CONTROL, |_, made, _| (made.name == "umount2").then_some(Ok(0)));
    assert_eq!(outcome, Err(Stop::Failed { step: 2, errno: Errno::ELOOP }));
    assert_eq!(kernel.names().last(), Some(&"umount2"));
}
