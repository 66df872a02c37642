//! Counts the system calls of one container: those of this program between two markers, and those of the stage until the
//! program is executed. The program's own do not count.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::lane::Result;
use crate::{container, limited, sleeping, success};

/// A path that does not exist: looking for it is the marker in the trace.
const MARKER: &str = "/keelbox-bench-marker";

fn mark() {
    let _missing = fs::metadata(MARKER);
}

/// What is traced: one of what is counted before the first marker, so that what is done once per process is done, one between.
pub fn between_markers(root: &Path, what: &str) -> Result<()> {
    let template = container(root).template()?;
    let host = if what == "exec" { Some(sleeping(root)?) } else { None };
    let run = || match (what, &host) {
        ("again", _) => success(template.run().status()?),
        ("limited", _) => success(limited(root).status()?),
        (_, Some(host)) => success(host.exec([crate::PROGRAM]).status()?),
        _ => success(container(root).status()?),
    };
    run()?;
    mark();
    run()?;
    mark();
    Ok(())
}

/// How many it is; nothing where strace is missing or may not trace.
pub fn count(root: &Path, what: &str) -> Result<Option<u32>> {
    let trace = tempfile::NamedTempFile::new()?;
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o"]).arg(trace.path()).arg(std::env::current_exe()?).args(["calls", what]).arg(root);
    match strace.stdin(Stdio::null()).status() {
        Ok(status) if status.success() => {}
        failed => {
            println!("SKIP calls/{what}: strace: {failed:?}");
            return Ok(None);
        }
    }
    let text = fs::read_to_string(trace.path())?;
    if let Some(kept) = std::env::var_os("KEELBOX_BENCH_TRACE") {
        fs::write(Path::new(&kept).with_extension(what), &text)?;
    }
    Ok(Some(count_in(&text)))
}

/// Lines are `PID CALL(…) = RESULT`; a call that another process interrupts has a second line, `PID <... CALL resumed>`.
fn count_in(trace: &str) -> u32 {
    let mut lines = trace.lines().skip_while(|line| !line.contains(MARKER)).skip(1);
    let mut executing: Vec<&str> = Vec::new();
    let mut count = 0;
    for line in lines.by_ref().take_while(|line| !line.contains(MARKER)) {
        let Some((pid, rest)) = line.split_once(' ').map(|(pid, rest)| (pid, rest.trim_start())) else { continue };
        let call = rest.starts_with(|first: char| first.is_ascii_lowercase());
        if call && !executing.contains(&pid) {
            count += 1;
        }
        if rest.starts_with(&format!("execve(\"{}\"", crate::PROGRAM)) {
            executing.push(pid);
        }
    }
    count
}
