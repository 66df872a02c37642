//! Plans as text: what each profile asks of the kernel, compared with files in the repository. Nothing is run here.
//!
//! What differs between machines is given another name: the root's path, the caller's ids, bounding set and limits.

mod common;

use keelbox::{Container, Kind, MIB, Network, Profile, Stdio, Terminal};
use keelbox_testkit::{self as testkit, LeakCheck, alone, as_user, golden, require};

/// The plan of `container` as it is on every machine.
fn text(container: Container, root: &std::path::Path) -> testkit::Result<String> {
    let plan = container.build()?.plan()?;
    let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let text = plan.to_string().replace(&root.display().to_string(), "/ROOT");
    let text =
        if user.is_root() { text } else { text.replace(&user.to_string(), "USER").replace(&group.to_string(), "USER") };
    let lines = text.lines().map(|line| match line {
        // Filters differ between processors; their verdicts have tests of their own, and so have the capabilities.
        line if line.contains("seccomp filter of ") => line.split(" of ").next().unwrap_or(line),
        line if line.contains("from the bounding set") => line.split("drop").next().unwrap_or(line),
        line if line.contains("set the capabilities to ") && (line.contains("sys_admin") || line.ends_with(" all")) => {
            line.split(" to ").next().unwrap_or(line)
        }
        // No more than the caller may have.
        line if line.contains("RLIMIT_NOFILE to 1024 (hard") => line.split(" (").next().unwrap_or(line),
        line => line,
    });
    Ok(numbered_anew(lines))
}

/// Leaves out the step of what is cloned by a thread, which there is only on cgroup v1.
fn numbered_anew<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let (mut text, mut number) = (String::new(), 0);
    for line in lines.filter(|line| !line.ends_with(". wait for the cloning thread to end")) {
        match line.split_once(". ").filter(|(before, _)| before.trim().parse::<u32>().is_ok()) {
            Some((_, step)) => {
                number += 1;
                text += &format!("{number:3}. {step}\n");
            }
            None => text = text + line + "\n",
        }
    }
    text
}

fn rootfs() -> testkit::Result<tempfile::TempDir> {
    Ok(testkit::probe_root()?)
}

#[test]
fn plans_of_root() -> testkit::Result {
    require!(Root);
    let root = rootfs()?;
    let run = || Container::from_rootfs(root.path()).args(["sh", "-c", "true"]);
    for (name, container) in [
        ("ordinary", run()),
        ("hostile", run().profile(Profile::Hostile)),
        ("trusted", run().profile(Profile::Trusted)),
        (
            "everything",
            run()
                .user("1000:2000")
                .hostname("box")
                .env("LANG", "C")
                .current_dir("/tmp")
                .umask(0o77)
                .bind("/etc/hosts", "/etc/hosts")
                .bind_read_only("/usr", "/usr")
                .tmpfs("/scratch", 64 * MIB)
                .file("/etc/motd", "hello\n")
                .device("/dev/fuse")
                .mask("/proc/uptime")
                .read_only_root()
                .network(Network::Host)
                .unshare(Kind::User)
                .capability("net_raw")
                .rlimit(keelbox::Resource::Core, 0, 0)
                .oom_score_adj(100)
                .terminal(Terminal::size(24, 80)),
        ),
        ("shared", run().share(Kind::Ipc).share(Kind::Uts).sysctl("net.ipv4.ip_forward", "1").stdin(Stdio::null())),
    ] {
        golden!(format!("{name}.plan"), text(container, root.path())?);
    }
    Ok(())
}

#[test]
fn the_plan_of_an_ordinary_user() -> testkit::Result {
    require!(OrdinaryUser, UserNamespace);
    as_user!();
    let root = rootfs()?;
    let container = Container::from_rootfs(root.path()).args(["sh", "-c", "true"]).hostname("box");
    golden!("rootless.plan", text(container, root.path())?);
    Ok(())
}

/// Planning asks nothing of the kernel: it leaves no trace, works where running would not, and says the same each time.
#[test]
fn a_plan_needs_no_privilege_and_makes_nothing() -> testkit::Result {
    require!(OrdinaryUser);
    as_user!();
    let root = rootfs()?;
    let container = Container::from_rootfs(root.path()).args(["/no/such/program"]).bind("/nowhere", "/mnt");
    let leaks = LeakCheck::begin();
    let built = container.build()?;
    let plan = built.plan()?;
    assert_eq!(plan, built.plan()?);
    assert!(plan.to_string().contains("/nowhere"), "{plan}");
    assert!(plan.steps().len() > 20);
    leaks.check();
    Ok(())
}

#[test]
fn the_plan_is_what_an_error_counts_in() -> testkit::Result {
    require!(Root);
    alone!();
    let root = rootfs()?;
    let built = Container::from_rootfs(root.path()).args(["/probe"]).current_dir("/missing").build()?;
    let plan = built.plan()?;
    let report = built.spawn().expect_err("no such directory").report();
    let number: usize =
        report.split("step ").nth(1).and_then(|rest| rest.split(' ').next()).ok_or("a step")?.parse()?;
    let line = plan
        .to_string()
        .lines()
        .find(|line| line.trim_start().starts_with(&format!("{number}. ")))
        .ok_or("its line")?
        .to_owned();
    let step = line.split_once(". ").ok_or("a number")?.1;
    assert!(
        report.starts_with(&format!("cannot {step} (step {number} of {})", plan.steps().len())),
        "{report}\n{line}"
    );
    Ok(())
}

/// Each step has a reason, and reasons are sentences.
#[test]
fn every_step_is_explained() -> testkit::Result {
    let plan = Container::from_rootfs("/").args(["true"]).profile(Profile::Hostile).build()?.plan()?;
    let text = plan.explain();
    for pair in text.lines().skip_while(|line| !line.trim_start().starts_with("1. ")).collect::<Vec<_>>().chunks(2) {
        let [step, reason] = pair else { panic!("a step without a reason: {pair:?}") };
        assert!(step.contains(". "), "{step}");
        assert!(reason.trim().ends_with('.') && reason.trim().len() > 20, "{step}: {reason}");
    }
    Ok(())
}
