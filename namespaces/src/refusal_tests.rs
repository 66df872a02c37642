//! Which facts lead to which cause.

use super::*;

const EPERM: i32 = 1;
const ENOMEM: i32 = 12;
const EACCES: i32 = 13;
const EINVAL: i32 = 22;
const ENOSPC: i32 = 28;
const EUSERS: i32 = 87;

fn facts(change: impl FnOnce(&mut Facts)) -> Facts {
    let mut facts = Facts { threads: Some(3), mapped: Some(true), chrooted: Some(false), ..Facts::default() };
    change(&mut facts);
    facts
}

fn limits(facts: &mut Facts, limits: &[(Kind, u64)]) {
    facts.limits = limits.iter().copied().collect();
}

const USER: Attempt = Attempt::Create(NamespaceSet::NONE.and(Kind::User));
const NET: Attempt = Attempt::Create(NamespaceSet::NONE.and(Kind::Net));

#[test]
fn none_left() {
    let both = Attempt::Create(NamespaceSet::from_iter([Kind::User, Kind::Net]));
    let none = facts(|f| limits(f, &[(Kind::User, 0)]));
    let few = facts(|f| limits(f, &[(Kind::User, 900), (Kind::Net, 5)]));
    let text = "a user may have 5 network namespaces, nested 32 deep at most; end some, or as root: sysctl \
                user.max_net_namespaces=10";
    check(&[
        (USER, ENOSPC, none, Cause::Limit(Kind::User), "user.max_user_namespaces="),
        (both, ENOSPC, few, Cause::Limit(Kind::Net), text),
        (USER, EUSERS, facts(|_| ()), Cause::Limit(Kind::User), "32 deep"),
    ]);
}

#[test]
fn user_namespaces_not_permitted() {
    let debian = facts(|f| f.unprivileged_clone = Some(false));
    let ubuntu = || facts(|f| f.apparmor_restricts = Some(true));
    // Root is bound by none of the switches for ordinary users.
    let root = facts(|f| {
        (f.privileged, f.nested) = (true, true);
        (f.unprivileged_clone, f.apparmor_restricts) = (Some(false), Some(true));
    });
    let unknown = "the caller has no CAP_SYS_ADMIN, and no setting";
    check(&[
        (USER, EPERM, debian, Cause::UnprivilegedClone, "kernel.unprivileged_userns_clone=1"),
        (USER, EPERM, ubuntu(), Cause::AppArmor, "userns=0"),
        (USER, EACCES, ubuntu(), Cause::AppArmor, "userns=0"),
        (USER, EPERM, facts(|f| f.chrooted = Some(true)), Cause::Chroot, "chroot"),
        (USER, EPERM, facts(|f| f.mapped = Some(false)), Cause::Unmapped, "id maps"),
        (USER, EPERM, facts(|f| f.filtered = true), Cause::Filter, "seccomp=unconfined"),
        (USER, EPERM, facts(|_| ()), Cause::Unknown, unknown),
        (USER, EPERM, root, Cause::Unknown, "in a user namespace itself"),
    ]);
}

#[test]
fn creating_otherwise() {
    let pid = Attempt::Create(Kind::Pid.into());
    let time = Attempt::Create(Kind::Time.into());
    let alone = facts(|f| f.threads = Some(1));
    let root = facts(|f| f.privileged = true);
    check(&[
        (NET, EPERM, facts(|_| ()), Cause::Privilege, "CAP_SYS_ADMIN"),
        (NET, EPERM, root, Cause::Unknown, "has CAP_SYS_ADMIN"),
        (USER, EINVAL, facts(|_| ()), Cause::Threads, "has 3 threads"),
        (USER, EINVAL, alone, Cause::Kernel, "user since 3.8"),
        (time, EINVAL, facts(|_| ()), Cause::Kernel, "time since 5.6"),
        (pid, ENOMEM, facts(|_| ()), Cause::DeadPidNamespace, "first process"),
        (NET, ENOMEM, facts(|_| ()), Cause::Unknown, "Cannot allocate memory"),
    ]);
}

#[test]
fn joining() {
    let user = Attempt::Join(Kind::User.into());
    let net = Attempt::Join(Kind::Net.into());
    let time = Attempt::Join(Kind::Time.into());
    let admin = || facts(|f| f.privileged = true);
    check(&[
        (user, EPERM, facts(|_| ()), Cause::Privilege, "its maker"),
        (net, EPERM, facts(|_| ()), Cause::Privilege, "in the one that owns them"),
        (net, EPERM, admin(), Cause::Privilege, "belong to a user namespace"),
        (net, EPERM, facts(|f| (f.privileged, f.filtered) = (true, true)), Cause::Filter, "filter"),
        (time, EUSERS, admin(), Cause::Threads, "single-threaded"),
        (user, EINVAL, admin(), Cause::Threads, "single-threaded"),
        (net, EINVAL, admin(), Cause::Kernel, "net since 2.6"),
        (Attempt::Join(Kind::Pid.into()), ENOMEM, admin(), Cause::DeadPidNamespace, "ended"),
    ]);
}

#[test]
fn mapping() {
    let found = |works| move |f: &mut Facts| f.helpers = Some(works);
    check(&[
        (Attempt::Map, EPERM, facts(|_| ()), Cause::Privilege, "use newuidmap"),
        (Attempt::Map, EPERM, facts(|f| f.apparmor_restricts = Some(true)), Cause::AppArmor, "profile"),
        (Attempt::Map, EPERM, facts(|f| f.privileged = true), Cause::Privilege, "CAP_SETFCAP"),
        (Attempt::MapByHelper, EPERM, facts(|_| ()), Cause::HelperMissing, "uidmap"),
        (Attempt::MapByHelper, EPERM, facts(found(false)), Cause::HelperPowerless, "chmod u+s"),
        (Attempt::MapByHelper, EPERM, facts(found(true)), Cause::Unknown, "not permitted"),
        (
            Attempt::MapByHelper,
            EPERM,
            facts(|f| (f.helpers, f.lent) = (Some(true), Some(false))),
            Cause::Ranges,
            "usermod --add-subuids",
        ),
        (
            Attempt::MapByHelper,
            EPERM,
            facts(|f| (f.helpers, f.no_new_privileges) = (Some(true), true)),
            Cause::HelperPowerless,
            "no_new_privs",
        ),
    ]);
}

fn check(table: &[(Attempt, i32, Facts, Cause, &str)]) {
    for (attempt, errno, facts, cause, part) in table {
        let refusal = Refusal::of(*attempt, *errno, facts);
        assert_eq!((refusal.cause(), refusal.errno()), (*cause, *errno), "{attempt:?}: {refusal}");
        let text = refusal.to_string();
        assert!(text.contains(part), "{attempt:?}: {text}");
        assert!(!text.ends_with('.') && !text.contains('\n'), "{text}");
    }
}
