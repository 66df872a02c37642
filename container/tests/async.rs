//! Waiting on tokio: several at once, cut off, with a time limit, and together with other events.

use std::time::{Duration, Instant};

use keelbox::{Container, ErrorKind, Process, Reason, Signal};
use keelbox_testkit::{self as testkit, require};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

fn sleeper(root: &TempDir, milliseconds: u32) -> Container {
    Container::from_rootfs(root.path()).args(["/probe".to_owned(), "sleep".to_owned(), milliseconds.to_string()])
}

#[tokio::test]
async fn the_end_is_waited_for_beside_other_things() -> testkit::Result {
    require!(Root);
    let root = testkit::probe_root()?;
    let mut p = sleeper(&root, 200).spawn()?;
    let mut ticks = 0;
    let end = loop {
        tokio::select! {
            end = p.wait_async() => break end?,
            () = sleep(Duration::from_millis(20)) => ticks += 1,
        }
    };
    assert!(end.success(), "{end:?}");
    assert!(ticks >= 3, "the thread was not blocked: {ticks}");
    assert_eq!(p.wait_async().await?, end, "it stays known");
    Ok(())
}

#[tokio::test]
async fn shutdown_comes_first() -> testkit::Result {
    require!(Root);
    let root = testkit::probe_root()?;
    let mut p = sleeper(&root, 600_000).spawn()?;
    let shutdown = || sleep(Duration::from_millis(50));
    tokio::select! { end = p.wait_async() => panic!("{:?}", end?), () = shutdown() => p.kill()? }
    assert_eq!(p.wait_async().await?.reason(), Reason::Signaled(Signal::KILL));
    Ok(())
}

#[tokio::test]
async fn it_can_be_cut_off_at_any_time() -> testkit::Result {
    require!(Root);
    let root = testkit::probe_root()?;
    let descriptors = || std::fs::read_dir("/proc/self/fd").map(Iterator::count);
    let mut p = sleeper(&root, 300).time_limit(Duration::from_secs(60)).spawn()?;
    let mut cut = 0;
    let mut most = 0;
    let end = loop {
        match timeout(Duration::from_millis(3), p.wait_async()).await {
            Ok(end) => break end?,
            Err(_) => cut += 1,
        }
        most = most.max(descriptors()?);
    };
    assert!(end.success(), "{end:?}");
    assert!(cut > 10, "{cut}");
    // Other tests of this program open some too, but not one for each time it was cut off.
    assert!(descriptors()? < most + 50, "{most}");
    assert!(most < 150 + cut, "{most} descriptors after {cut}");
    Ok(())
}

#[tokio::test]
async fn the_time_limit_holds() -> testkit::Result {
    require!(Root);
    let root = testkit::probe_root()?;
    let mut p = sleeper(&root, 600_000).time_limit(Duration::from_millis(150)).spawn()?;
    let begun = Instant::now();
    let end = p.wait_async().await?;
    assert_eq!(end.reason(), Reason::TimeLimit);
    assert!(begun.elapsed() < Duration::from_secs(20));
    // One that is over before anybody waits.
    let mut p = sleeper(&root, 600_000).time_limit(Duration::from_millis(1)).spawn()?;
    sleep(Duration::from_millis(20)).await;
    assert_eq!(p.wait_async().await?.reason(), Reason::TimeLimit);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_wait_side_by_side_in_tasks() -> testkit::Result {
    require!(Root);
    let root = testkit::probe_root()?;
    let begun = Instant::now();
    let processes: Vec<Process> =
        (0..20).map(|_| sleeper(&root, 1000).spawn()).collect::<Result<_, keelbox::Error>>()?;
    let started = begun.elapsed();
    let tasks: Vec<_> = processes.into_iter().map(|mut p| tokio::spawn(async move { p.wait_async().await })).collect();
    for task in tasks {
        assert!(task.await??.success());
    }
    assert!(begun.elapsed() < started + Duration::from_secs(10), "one after the other they would take 20 s");
    Ok(())
}

#[tokio::test]
async fn somebody_else_may_have_reaped_it() -> testkit::Result {
    require!(Root);
    testkit::alone!();
    let root = testkit::probe_root()?;
    let mut p = sleeper(&root, 50).spawn()?;
    sleep(Duration::from_millis(300)).await;
    nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(p.id().try_into()?), None)?;
    match p.wait_async().await {
        Ok(end) => assert!(end.success(), "the kernel remembers: {end:?}"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::State),
    }
    Ok(())
}
