//! The probe's commands, run in the host and in a root file system of its own.

use keelbox_testkit as testkit;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use testkit::Result;

/// Runs the probe on the host and returns its standard output; fails when it does.
fn probe(args: &[&str]) -> Result<String> {
    let output = raw_probe(args)?;
    assert!(output.status.success(), "{args:?}: {output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

fn raw_probe(args: &[&str]) -> Result<Output> {
    let root = testkit::probe_root()?;
    Ok(Command::new(root.path().join("probe")).args(args).stdin(Stdio::null()).output()?)
}

#[test]
fn it_is_a_static_program() {
    let text = String::from_utf8_lossy(testkit::PROBE);
    assert!(testkit::PROBE.starts_with(b"\x7fELF"));
    assert!(!text.contains("ld-linux"));
    assert!(testkit::PROBE.len() < 64 << 10, "{} bytes", testkit::PROBE.len());
}

#[test]
fn it_ends_as_told() -> Result {
    for (args, code) in [(&["true"][..], 0), (&["exit", "7"], 7), (&["nonsense"], 2), (&["exit"], 2), (&[], 2)] {
        assert_eq!(raw_probe(args)?.status.code(), Some(code), "{args:?}");
    }
    assert_eq!(raw_probe(&["cat", "/no/such/file"])?.status.code(), Some(1));
    assert_eq!(raw_probe(&["cat", "/no/such/file"])?.stderr, b"probe: cat: errno 2\n");
    Ok(())
}

#[test]
fn it_tells_arguments_and_environment() -> Result {
    assert!(probe(&["args", "a b", ""])?.ends_with("/probe\nargs\na b\n\n"));
    let root = testkit::probe_root()?;
    let mut command = Command::new(root.path().join("probe"));
    let output = command.arg("env").env_clear().env("A", "1").env("B", "two words").output()?;
    assert_eq!(output.stdout, b"A=1\nB=two words\n");
    Ok(())
}

#[test]
fn it_tells_who_it_is() -> Result {
    let uid = nix::unistd::getuid();
    assert!(probe(&["id"])?.starts_with(&format!("uid {uid} {uid} {uid}\ngid ")));
    assert_eq!(probe(&["hostname"])?.trim(), testkit::host_name()?);
    assert_eq!(probe(&["ppid"])?.trim(), std::process::id().to_string());
    assert_eq!(probe(&["caps"])?.lines().count(), 5);
    assert_eq!(probe(&["status", "Threads"])?, "1\n");
    assert_eq!(raw_probe(&["status", "NoSuchKey"])?.status.code(), Some(1));
    Ok(())
}

#[test]
fn it_tells_signals_and_descriptors() -> Result {
    let script = "trap '' TERM; exec 9</dev/null; exec \"$0\" \"$@\"";
    let root = testkit::probe_root()?;
    let run =
        |command: &str| Command::new("sh").args(["-c", script]).arg(root.path().join("probe")).arg(command).output();
    let signals = String::from_utf8(run("signals")?.stdout)?;
    let ignored = signals.lines().find_map(|line| line.strip_prefix("ignored ")).ok_or("no line of ignored signals")?;
    // The C library's own spawning leaves its two internal signals, 32 and 33, ignored.
    assert_eq!(u64::from_str_radix(ignored, 16)? & !(3 << 31), 1 << 14, "{signals}");
    assert!(signals.starts_with("blocked 0000000000000000\n"), "{signals}");
    let fds = String::from_utf8(run("fds")?.stdout)?;
    assert!(fds.contains("9 /dev/null\n"), "{fds}");
    Ok(())
}

#[test]
fn it_works_on_files() -> Result {
    let directory = tempfile::tempdir()?;
    let at = |name: &str| directory.path().join(name).display().to_string();
    probe(&["write", &at("file"), "hello"])?;
    assert_eq!(probe(&["cat", &at("file")])?, "hello");
    probe(&["mkdir", &at("directory")])?;
    std::os::unix::fs::symlink("file", at("link"))?;
    assert_eq!(probe(&["readlink", &at("link")])?, "file\n");
    let listing = probe(&["ls", &directory.path().display().to_string()])?;
    let mut names: Vec<_> = listing.lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["directory", "file", "link"]);
    assert_eq!(probe(&["stat", "/dev/null"])?, "020666 0 0 1:3 0\n");
    assert!(probe(&["stat", &at("link")])?.starts_with("120777 "));
    Ok(())
}

#[test]
fn it_lists_a_large_directory_whole() -> Result {
    let directory = tempfile::tempdir()?;
    for number in 0..500 {
        std::fs::write(directory.path().join(format!("file-with-a-longer-name-{number}")), "")?;
    }
    assert_eq!(probe(&["ls", &directory.path().display().to_string()])?.lines().count(), 500);
    Ok(())
}

#[test]
fn it_passes_standard_input_on() -> Result {
    let root = testkit::probe_root()?;
    let mut command = Command::new(root.path().join("probe"));
    let mut cat = command.args(["cat", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let text: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut input = cat.stdin.take().ok_or("stdin is piped")?;
    let copy = text.clone();
    let writer = std::thread::spawn(move || input.write_all(&copy));
    assert!(cat.wait_with_output()?.stdout == text);
    writer.join().map_err(|_| "the writer panicked")??;
    assert_eq!(probe(&["flood", "1000"])?.len(), 1000);
    Ok(())
}

#[test]
fn it_uses_time_memory_and_processes() -> Result {
    let start = std::time::Instant::now();
    probe(&["sleep", "50"])?;
    probe(&["spin", "50"])?;
    assert!(start.elapsed().as_millis() >= 100);
    assert_eq!(probe(&["alloc", "3"])?, "allocated 3 MiB\n");
    assert_eq!(probe(&["forkbomb", "5"])?, "forked 5\n");
    Ok(())
}

#[test]
fn its_orphan_holds_the_pipe() -> Result {
    let start = std::time::Instant::now();
    probe(&["orphan", "200"])?; // `output` waits for the end of the pipe, not only of the process
    assert!(start.elapsed().as_millis() >= 190);
    Ok(())
}

#[test]
fn it_makes_any_system_call() -> Result {
    let getuid = if cfg!(target_arch = "x86_64") { "102" } else { "174" };
    assert_eq!(probe(&["syscall", getuid])?.trim(), nix::unistd::getuid().to_string());
    let openat = if cfg!(target_arch = "x86_64") { "257" } else { "56" };
    assert_eq!(probe(&["syscall", openat, "-100", "@/no/such/file", "0"])?, "-2\n");
    assert!(!probe(&["syscall", openat, "-100", "@/etc/passwd", "0"])?.starts_with('-'));
    Ok(())
}

#[test]
fn it_kills() -> Result {
    use std::os::unix::process::ExitStatusExt as _;
    assert_eq!(raw_probe(&["kill", "self", "15"])?.status.signal(), Some(15));
    Ok(())
}

#[test]
fn it_ignores_signals_when_stubborn() -> Result {
    use std::io::Read as _;
    let root = testkit::probe_root()?;
    let mut command = Command::new(root.path().join("probe"));
    let mut child = command.args(["stubborn", "300"]).stdout(Stdio::piped()).spawn()?;
    let mut ready = [0; 6];
    child.stdout.take().ok_or("stdout is piped")?.read_exact(&mut ready)?;
    probe(&["kill", &child.id().to_string(), "15"])?;
    assert_eq!(child.wait()?.code(), Some(0));
    Ok(())
}

#[test]
fn it_tells_the_size_of_a_terminal() -> Result {
    testkit::require!(Tty, Program("script"));
    let root = testkit::probe_root()?;
    let line = format!("stty rows 24 cols 80; {} tty", root.path().join("probe").display());
    let output = Command::new("script").args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).output()?;
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "24 80");
    assert_eq!(raw_probe(&["tty"])?.stderr, b"probe: tty: errno 25\n");
    Ok(())
}

#[test]
fn it_finds_its_way_out_of_the_host_and_not_out_of_a_root() -> Result {
    assert!(probe(&["escape", "/etc/hostname"])?.contains("path /etc/hostname\n"));
    testkit::require!(Root);
    let (root, canary) = (testkit::probe_root()?, testkit::HostCanary::new()?);
    let outside = canary.path().join("file").display().to_string();
    let inside = |descriptor: Stdio| {
        Command::new("chroot").arg(root.path()).args(["/probe", "escape", &outside]).stdin(descriptor).output()
    };
    assert_eq!(inside(Stdio::null())?.stdout, b"contained\n");
    let leaked = inside(Stdio::from(std::fs::File::open("/")?))?.stdout;
    let leaked = String::from_utf8_lossy(&leaked);
    assert!(leaked.contains(&format!("climb 0 {outside}\n")), "{leaked}");
    canary.assert_unchanged();
    Ok(())
}
